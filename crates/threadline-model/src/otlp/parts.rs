//! Span events and links as elements of the typed-JSON arrays in the `events` and `links` columns.

use std::fmt::Write as _;

use crate::id::{SpanId, TraceId};
use crate::value::{ObjectWriter, Value, write_str};

/// A span event. `attributes` is a typed-JSON object, or empty when there are none.
#[derive(Debug, Default)]
pub(super) struct Event<'a> {
    pub(super) time_unix_nano: u64,
    pub(super) name: &'a str,
    pub(super) attributes: &'a str,
    pub(super) dropped_attributes_count: u32,
}

/// A link. `attributes` is a typed-JSON object, or empty when there are none.
#[derive(Debug, Default)]
pub(super) struct Link<'a> {
    pub(super) trace_id: Option<TraceId>,
    pub(super) span_id: Option<SpanId>,
    pub(super) trace_state: &'a str,
    pub(super) attributes: &'a str,
    pub(super) dropped_attributes_count: u32,
    pub(super) flags: u32,
}

impl Event<'_> {
    /// Appends the event to an array that is still open.
    pub(super) fn write(&self, array: &mut String) {
        let mut object = open(array);
        object.key("time_unix_nano").push_str(itoa::Buffer::new().format(self.time_unix_nano));
        write_str(object.key("name"), self.name);
        write_tail(&mut object, self.attributes, self.dropped_attributes_count);
        object.end();
    }
}

impl Link<'_> {
    /// Appends the link to an array that is still open.
    pub(super) fn write(&self, array: &mut String) {
        let mut object = open(array);
        let _ = match self.trace_id {
            Some(id) => write!(object.key("trace_id"), "\"{id}\""),
            None => write!(object.key("trace_id"), "\"\""),
        };
        let _ = match self.span_id {
            Some(id) => write!(object.key("span_id"), "\"{id}\""),
            None => write!(object.key("span_id"), "\"\""),
        };
        if !self.trace_state.is_empty() {
            write_str(object.key("trace_state"), self.trace_state);
        }
        write_tail(&mut object, self.attributes, self.dropped_attributes_count);
        if self.flags > 0 {
            object.member("flags", &Value::Int(i64::from(self.flags)));
        }
        object.end();
    }
}

fn open(array: &mut String) -> ObjectWriter<'_> {
    array.push(if array.is_empty() { '[' } else { ',' });
    ObjectWriter::new(array)
}

fn write_tail(object: &mut ObjectWriter<'_>, attributes: &str, dropped_attributes_count: u32) {
    if !attributes.is_empty() {
        object.key("attributes").push_str(attributes);
    }
    if dropped_attributes_count > 0 {
        object.member("dropped_attributes_count", &Value::Int(i64::from(dropped_attributes_count)));
    }
}

/// Closes an array; one without elements stays empty text.
pub(super) fn close(array: &mut String) {
    if !array.is_empty() {
        array.push(']');
    }
}
