//! Ids that stand in a row's own columns are left out of its body in a sealed file and put back on reading
//! (docs/formats.md, "Id elision").

use std::fmt::Write as _;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray};
use arrow_schema::ArrowError;
use memchr::{memchr_iter, memchr2, memchr3};
use threadline_model::id::{SpanId, TraceId};

/// Stands for the row's trace id.
pub(crate) const TRACE: u8 = 1;
/// Stands for the row's span id.
pub(crate) const SPAN: u8 = 2;
/// First byte of a body that is kept as it is because it has one of these three bytes.
pub(crate) const AS_IS: u8 = 3;

/// The columns that decide what a body's markers stand for.
pub(crate) struct Ids<'a> {
    trace: Option<&'a FixedSizeBinaryArray>,
    span: Option<&'a FixedSizeBinaryArray>,
    json: Option<&'a BooleanArray>,
}

impl<'a> Ids<'a> {
    /// From a batch with the columns `trace_id`, `span_id` and `body_json`, as far as it has them.
    pub(crate) fn new(batch: &'a RecordBatch) -> Self {
        Self {
            trace: batch.column_by_name("trace_id").and_then(|array| array.as_fixed_size_binary_opt()),
            span: batch.column_by_name("span_id").and_then(|array| array.as_fixed_size_binary_opt()),
            json: batch.column_by_name("body_json").and_then(|array| array.as_boolean_opt()),
        }
    }

    pub(crate) fn is_json(&self, row: usize) -> bool {
        self.json.is_some_and(|json| json.is_valid(row) && json.value(row))
    }

    pub(crate) fn trace(&self, row: usize) -> Option<[u8; 32]> {
        id(self.trace, row).and_then(TraceId::from_bytes).map(|id| id.hex())
    }

    pub(crate) fn span(&self, row: usize) -> Option<[u8; 16]> {
        id(self.span, row).and_then(SpanId::from_bytes).map(|id| id.hex())
    }
}

fn id(ids: Option<&FixedSizeBinaryArray>, row: usize) -> Option<&[u8]> {
    ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row))
}

/// The bodies as a sealed file holds them.
///
/// # Errors
/// When the bodies together pass 2 GiB.
pub(crate) fn elide(bodies: &StringArray, ids: &Ids<'_>) -> Result<StringArray, ArrowError> {
    // A body grows by one byte at most.
    let mut out = Bodies::new(bodies, bodies.len());
    let marked = has_marker(bodies);
    for row in 0..bodies.len() {
        if bodies.is_null(row) {
            out.end_null();
            continue;
        }
        let body = bodies.value(row);
        if ids.is_json(row) {
            out.push(body)?;
        } else if marked && memchr3(TRACE, SPAN, AS_IS, body.as_bytes()).is_some() {
            out.push("\u{3}")?;
            out.push(body)?;
        } else {
            // The span id is looked for in what the trace id leaves; it cannot reach across the marker.
            let (before, after) = match ids.trace(row).and_then(|hex| cut(body, &hex)) {
                Some((before, after)) => (before, Some(after)),
                None => (body, None),
            };
            let span = ids.span(row);
            let first = span.and_then(|hex| cut(before, &hex));
            out.push_cut(before, first)?;
            if let Some(after) = after {
                out.push("\u{1}")?;
                let second = if first.is_none() { span.and_then(|hex| cut(after, &hex)) } else { None };
                out.push_cut(after, second)?;
            }
        }
        out.end();
    }
    Ok(out.0.finish())
}

/// What stands before and after the first occurrence of an id.
fn cut<'a>(text: &'a str, hex: &[u8]) -> Option<(&'a str, &'a str)> {
    let at = find(text.as_bytes(), hex)?;
    Some((text.get(..at)?, text.get(at + hex.len()..)?))
}

/// Places looked at in one step.
const STEP: usize = 64;
/// Bytes of an id that are compared in a step: three digits rarely stand anywhere else.
const PROBE: usize = 3;
/// Bytes that a step reads.
const WINDOW: usize = STEP + PROBE - 1;

/// The first place of `hex` in `text`. A general search would take longer to prepare itself for each row's id than this
/// takes to find it: the compiler makes vector instructions of the steps.
fn find(text: &[u8], hex: &[u8]) -> Option<usize> {
    let starts = |at: usize| text.get(at..).is_some_and(|rest| rest.starts_with(hex));
    let &[a, b, c] = hex.first_chunk::<PROBE>()?;
    let last = text.len().checked_sub(hex.len())?;
    let mut at = 0;
    while at <= last {
        // The last step reaches back over the one before.
        let from = if at + WINDOW <= text.len() { at } else { text.len().saturating_sub(WINDOW) };
        if let Some(window) = text.get(from..).and_then(|rest| rest.first_chunk::<WINDOW>()) {
            let mut hit = 0;
            for place in 0..STEP {
                hit |= u8::from(window[place] == a)
                    & u8::from(window[place + 1] == b)
                    & u8::from(window[place + 2] == c);
            }
            if hit == 0 {
                at = from + STEP;
                continue;
            }
        }
        let end = (from + STEP).min(last + 1);
        let places = text.get(at..end).unwrap_or_default();
        if let Some(place) = memchr_iter(a, places).find(|&place| starts(at + place)) {
            return Some(at + place);
        }
        at = end.max(at + 1);
    }
    None
}

/// The bodies as they were before [`elide`].
///
/// # Errors
/// When the bodies together pass 2 GiB.
pub(crate) fn restore(bodies: &StringArray, ids: &Ids<'_>) -> Result<StringArray, ArrowError> {
    let mut out = Bodies::new(bodies, bodies.len() * (32 + 16 - 2));
    for row in 0..bodies.len() {
        if bodies.is_null(row) {
            out.end_null();
            continue;
        }
        let body = bodies.value(row);
        if ids.is_json(row) {
            out.push(body)?;
        } else if let Some(body) = body.strip_prefix('\u{3}') {
            out.push(body)?;
        } else {
            let mut rest = body;
            while let Some(at) = memchr2(TRACE, SPAN, rest.as_bytes()) {
                out.push(rest.get(..at).unwrap_or_default())?;
                if rest.as_bytes().get(at) == Some(&TRACE) {
                    out.push_hex(ids.trace(row).as_ref())?;
                } else {
                    out.push_hex(ids.span(row).as_ref())?;
                }
                rest = rest.get(at + 1..).unwrap_or_default();
            }
            out.push(rest)?;
        }
        out.end();
    }
    Ok(out.0.finish())
}

/// Bodies under construction. They are put together of `str`s, so that nobody looks for bad UTF-8 again.
struct Bodies(StringBuilder);

impl Bodies {
    /// Room for bodies like these and `more` bytes.
    fn new(like: &StringArray, more: usize) -> Self {
        let offsets = like.value_offsets();
        let bytes = offsets.last().zip(offsets.first()).map_or(0, |(last, first)| (last - first) as usize);
        Self(StringBuilder::with_capacity(like.len(), bytes + more))
    }

    fn push(&mut self, text: &str) -> Result<(), ArrowError> {
        let bytes = self.0.values_slice().len() + text.len();
        if i32::try_from(bytes).is_err() {
            return Err(ArrowError::OffsetOverflowError(bytes));
        }
        let _ = self.0.write_str(text);
        Ok(())
    }

    fn push_cut(&mut self, whole: &str, cut: Option<(&str, &str)>) -> Result<(), ArrowError> {
        let Some((before, after)) = cut else { return self.push(whole) };
        self.push(before)?;
        self.push("\u{2}")?;
        self.push(after)
    }

    fn push_hex<const N: usize>(&mut self, hex: Option<&[u8; N]>) -> Result<(), ArrowError> {
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        self.push(hex.unwrap_or_default())
    }

    fn end(&mut self) {
        self.0.append_value("");
    }

    fn end_null(&mut self) {
        self.0.append_null();
    }
}

/// Whether any body has a marker; when none has, the array is good as it is.
pub(crate) fn has_marker(bodies: &StringArray) -> bool {
    let bytes = bodies.value_data();
    memchr3(TRACE, SPAN, AS_IS, bytes).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_found_where_it_first_stands(
            // Few different digits, so that parts of the id stand in many places.
            hex in "[ab]{16}|[ab]{32}|[0-9a-f]{16}",
            parts in proptest::collection::vec("[ab]{0,40}|[a-z ä]{0,80}|ID", 0..12),
        ) {
            let text: String = parts.iter().map(|part| if part == "ID" { hex.as_str() } else { part }).collect();
            let want = memchr::memmem::find(text.as_bytes(), hex.as_bytes());
            prop_assert_eq!(find(text.as_bytes(), hex.as_bytes()), want, "{} in {}", hex, text);
        }
    }
}
