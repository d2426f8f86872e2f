//! Ids that stand in a row's own columns are left out of its body in a sealed file and put back on reading
//! (docs/formats.md, "Id elision").

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, FixedSizeBinaryArray, RecordBatch, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use memchr::{memchr3, memmem};
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
    let mut scratch = Vec::new();
    map(bodies, |row, body, out| {
        if ids.is_json(row) {
            out.extend_from_slice(body);
        } else if memchr3(TRACE, SPAN, AS_IS, body).is_some() {
            out.push(AS_IS);
            out.extend_from_slice(body);
        } else {
            scratch.clear();
            match ids.trace(row).and_then(|hex| memmem::find(body, &hex)) {
                Some(at) => cut(body, at, 32, TRACE, &mut scratch),
                None => scratch.extend_from_slice(body),
            }
            match ids.span(row).and_then(|hex| memmem::find(&scratch, &hex)) {
                Some(at) => cut(&scratch, at, 16, SPAN, out),
                None => out.extend_from_slice(&scratch),
            }
        }
    })
}

fn cut(body: &[u8], at: usize, len: usize, marker: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(body.get(..at).unwrap_or_default());
    out.push(marker);
    out.extend_from_slice(body.get(at + len..).unwrap_or_default());
}

/// The bodies as they were before [`elide`].
///
/// # Errors
/// When the bodies together pass 2 GiB.
pub(crate) fn restore(bodies: &StringArray, ids: &Ids<'_>) -> Result<StringArray, ArrowError> {
    map(bodies, |row, body, out| {
        if ids.is_json(row) {
            out.extend_from_slice(body);
        } else if let Some(body) = body.strip_prefix(&[AS_IS]) {
            out.extend_from_slice(body);
        } else {
            let mut rest = body;
            while let Some(at) = memchr::memchr2(TRACE, SPAN, rest) {
                let (before, from) = rest.split_at(at);
                out.extend_from_slice(before);
                match from.first() {
                    Some(&TRACE) => out.extend_from_slice(ids.trace(row).as_ref().map_or(&[][..], |hex| hex)),
                    _ => out.extend_from_slice(ids.span(row).as_ref().map_or(&[][..], |hex| hex)),
                }
                rest = from.get(1..).unwrap_or_default();
            }
            out.extend_from_slice(rest);
        }
    })
}

/// Whether any body has a marker; when none has, the array is good as it is.
pub(crate) fn has_marker(bodies: &StringArray) -> bool {
    let bytes = bodies.value_data();
    memchr3(TRACE, SPAN, AS_IS, bytes).is_some()
}

fn map(
    bodies: &StringArray,
    mut each: impl FnMut(usize, &[u8], &mut Vec<u8>),
) -> Result<StringArray, ArrowError> {
    let mut bytes = Vec::with_capacity(bodies.value_data().len());
    let mut offsets = Vec::with_capacity(bodies.len() + 1);
    offsets.push(0i32);
    for row in 0..bodies.len() {
        if bodies.is_valid(row) {
            each(row, bodies.value(row).as_bytes(), &mut bytes);
        }
        offsets.push(i32::try_from(bytes.len()).map_err(|_| ArrowError::OffsetOverflowError(bytes.len()))?);
    }
    let nulls: Option<NullBuffer> = bodies.nulls().cloned();
    StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes), nulls)
}
