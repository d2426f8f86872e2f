//! `traceparent`: version, trace id, parent id, flags (Trace Context Level 2, section 3.2).

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceId};

/// Bytes of version 00, and the least that any version has.
const LEN: usize = 55;
/// The caller may have recorded the trace.
const SAMPLED: u8 = 0x01;
/// The trace id's last seven bytes are random.
const RANDOM: u8 = 0x02;

/// A valid `traceparent`.
///
/// ```
/// use threadline_sdk::propagation::TraceParent;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// assert_eq!(TraceParent::parse(header).map(|parent| parent.to_string()).as_deref(), Some(header));
/// assert!(TraceParent::parse("00-00000000000000000000000000000000-00f067aa0ba902b7-01").is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// Reads a header's value; `None` when the trace must be begun anew. Of versions after 00 the known front is read; flags that
    /// Level 2 does not know are dropped.
    pub fn parse(value: &str) -> Option<TraceParent> {
        let value = value.trim_matches([' ', '\t']).as_bytes();
        let (front, rest) = value.split_at_checked(LEN)?;
        let [version] = hex::<1>(front.get(..2)?)?;
        if version == 0xff || version == 0 && !rest.is_empty() || !matches!(rest.first(), None | Some(b'-')) {
            return None;
        }
        if [2, 35, 52].iter().any(|at| front.get(*at) != Some(&b'-')) {
            return None;
        }
        let trace_id = hex::<16>(front.get(3..35)?)?;
        let span_id = hex::<8>(front.get(36..52)?)?;
        let [flags] = hex::<1>(front.get(53..55)?)?;
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(TraceParent { trace_id, span_id, flags: flags & (SAMPLED | RANDOM) })
    }

    /// That of a span; `None` where it has none, as when nothing records.
    pub fn of(span: &SpanContext) -> Option<TraceParent> {
        span.is_valid().then(|| TraceParent {
            trace_id: span.trace_id().to_bytes(),
            span_id: span.span_id().to_bytes(),
            flags: span.trace_flags().to_u8() & (SAMPLED | RANDOM),
        })
    }

    /// The same, with the random flag or without it.
    pub(crate) fn with_random(self, random: bool) -> TraceParent {
        TraceParent { flags: self.flags & !RANDOM | if random { RANDOM } else { 0 }, ..self }
    }

    /// Whether it has the random flag.
    pub(crate) fn is_random(&self) -> bool {
        self.flags & RANDOM != 0
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        TraceId::from_bytes(self.trace_id)
    }

    /// The span of whoever sent it.
    pub fn span_id(&self) -> SpanId {
        SpanId::from_bytes(self.span_id)
    }

    /// Flags: 1 sampled, 2 random; no others.
    pub fn flags(&self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Bytes of lower-case hexadecimal digits.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}
