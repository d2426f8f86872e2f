//! JSON lines: one record per line, by a [`Mapping`] of field names; from bytes to views without an object per
//! field. Used by the hub's endpoint, which gets whole requests ([`decode`]), and by the importer, which gets lines
//! ([`LineParser`]). It does not know HTTP, files or compression.
//!
//! Vocabulary:
//! - *field*: a member of a line's object;
//! - *role*: the part of a record that a field becomes ([`mapping`]);
//! - *fault*: why one line is no record. The other lines are not concerned.
//!
//! A line is read once, field by field. Where a line has the same fields at the same places as the line before, which
//! is the rule, names are compared and not looked up.

mod assemble;
mod line;
pub mod mapping;
mod scan;
pub mod time;

use std::fmt;

use crate::builder::BatchBuilder;
use crate::inspect::Inspector;
use crate::record::{LogView, ResourceView, ScopeView, SpanView};

pub use line::LineParser;
pub use mapping::Mapping;

/// How many faults of a request are kept with their reasons; the rest are counted.
pub const FAULTS_KEPT_MAX: usize = 3;
/// Fields of a line beyond which it is not taken.
pub const FIELDS_MAX: usize = 4096;
/// How deep arrays and objects may lie in one another in a field's value.
pub const DEPTH_MAX: usize = scan::DEPTH_MAX;
/// Bytes of a line, whatever the caller allows: positions in it, and in its values as typed JSON, have 31 bits.
const LINE_BYTES_MAX: usize = 1 << 28;

/// A line as a record.
#[derive(Clone, Copy, Debug)]
pub struct Parsed<'a> {
    /// Resource.
    pub resource: ResourceView<'a>,
    /// Scope.
    pub scope: ScopeView<'a>,
    /// The record.
    pub record: Record<'a>,
    /// There was a time, but it could not be read: it was kept as an attribute.
    pub time_unread: bool,
}

/// A log record or a span.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A log record.
    Log(LogView<'a>),
    /// A span.
    Span(SpanView<'a>),
}

/// Why a line was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineError {
    /// Not JSON: what is wrong at which column.
    NotJson(String),
    /// JSON, but no object.
    NotObject,
    /// An object without members.
    Empty,
    /// Nested too deeply, or too many fields.
    TooComplex,
}

impl LineError {
    /// The kind, to count by.
    pub fn kind(&self) -> &'static str {
        match self {
            LineError::NotJson(_) => "not JSON",
            LineError::NotObject => "no JSON object",
            LineError::Empty => "an empty object",
            LineError::TooComplex => "too many fields or nested too deeply",
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::NotJson(detail) => write!(f, "not JSON: {detail}"),
            other => f.write_str(other.kind()),
        }
    }
}

impl std::error::Error for LineError {}

/// Why a line of a request is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub reason: String,
}

/// What became of a request's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Log records now in their builder.
    pub logs: usize,
    /// Spans now in theirs.
    pub spans: usize,
    /// Lines not taken.
    pub refused: usize,
    /// The first [`FAULTS_KEPT_MAX`] of them.
    pub faults: Vec<Fault>,
}

impl Decoded {
    #[cold]
    fn refuse(&mut self, line: usize, reason: impl FnOnce() -> String) {
        self.refused += 1;
        if self.faults.len() < FAULTS_KEPT_MAX {
            self.faults.push(Fault { line, reason: reason() });
        }
    }
}

/// Decodes a request of lines into the builders of both tables. Blank lines are passed over; a line that is no record
/// or has more than `line_bytes_max` bytes is refused alone. Every record goes through `inspector`.
pub fn decode(
    request: &[u8],
    parser: &mut LineParser,
    line_bytes_max: usize,
    logs: &mut BatchBuilder,
    spans: &mut BatchBuilder,
    inspector: &mut dyn Inspector,
) -> Decoded {
    let mut decoded = Decoded::default();
    let mut rest = request;
    let mut number = 0;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, next) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = next.get(1..).unwrap_or_default();
        number += 1;
        if line.first() != Some(&b'{') && is_blank(line) {
            continue;
        }
        if let Err(reason) = decode_line(line, parser, line_bytes_max, logs, spans, inspector, &mut decoded) {
            decoded.refuse(number, || reason);
        }
    }
    decoded
}

fn decode_line(
    line: &[u8],
    parser: &mut LineParser,
    line_bytes_max: usize,
    logs: &mut BatchBuilder,
    spans: &mut BatchBuilder,
    inspector: &mut dyn Inspector,
    decoded: &mut Decoded,
) -> Result<(), String> {
    if line.len() > line_bytes_max {
        return Err(format!(
            "the line has {} bytes, at most {line_bytes_max} are taken: shorten it",
            line.len()
        ));
    }
    if is_otlp(line) {
        return Err(
            "an OTLP/JSON request, not a record: send it to /v1/logs or /v1/traces, or bring its file with \
                    `threadline import`"
                .to_owned(),
        );
    }
    let pushed = parser.parse(line, |parsed| {
        let (builder, count) = match parsed.record {
            Record::Log(_) => (&mut *logs, &mut decoded.logs),
            Record::Span(_) => (&mut *spans, &mut decoded.spans),
        };
        inspector.resource(&parsed.resource, builder);
        inspector.scope(&parsed.scope, builder);
        match &parsed.record {
            Record::Log(log) => inspector.log(log, builder)?,
            Record::Span(span) => inspector.span(span, builder)?,
        }
        *count += 1;
        Ok(())
    });
    pushed
        .map_err(|error| advice(&error))?
        .map_err(|(field, reason): (&'static str, String)| format!("{field}: {reason}"))
}

/// A line error, and what to do about it.
#[cold]
fn advice(error: &LineError) -> String {
    let advice = match error {
        LineError::NotJson(_) => "send one whole JSON object per line",
        LineError::NotObject => "send one JSON object per line",
        LineError::Empty => "give the record at least one field",
        LineError::TooComplex => {
            return format!("{error}: send at most {FIELDS_MAX} fields and {DEPTH_MAX} levels");
        }
    };
    format!("{error}: {advice}")
}

/// Whether nothing but white space is in a line.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Whether a line is OTLP/JSON and no record of its own: an export request, or one `ResourceLogs` or `ResourceSpans`.
pub fn is_otlp(line: &[u8]) -> bool {
    let Some(first) = memchr::memchr(b'"', line).and_then(|at| line.get(at + 1..)) else { return false };
    if !first.starts_with(b"resource") && !first.starts_with(b"sc") {
        return false;
    }
    // A text may read like a key; a key has its colon.
    let key = |name: &str| {
        let quoted = format!("\"{name}\"");
        memchr::memmem::find_iter(line, quoted.as_bytes()).any(|at| {
            let after = line.get(at + quoted.len()..).unwrap_or_default();
            after.trim_ascii_start().first() == Some(&b':')
        })
    };
    let starts = |name: &str| first.starts_with(name.as_bytes());
    ["resourceLogs", "resourceSpans", "resourceMetrics", "resource_logs", "resource_spans", "resource_metrics"]
        .into_iter()
        .any(starts)
        || (starts("resource\"") || starts("scope") || starts("schema"))
            && ["scopeLogs", "scopeSpans", "scope_logs", "scope_spans"].into_iter().any(key)
}
