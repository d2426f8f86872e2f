//! Decoded records as views that borrow the request's bytes. Decoders make them, the contract judges them,
//! the [builder](crate::builder) writes them into columns. Field meanings are OTLP 1.11's (`logs.proto`,
//! `trace.proto`, `resource.proto`, `common.proto`).

use std::fmt;

use crate::id::{SpanId, TraceId};
use crate::value::Value;

/// One attribute: key and value.
pub type Attribute<'a> = (&'a str, Value<'a>);

/// OTLP `Resource` with the schema URL of its `Resource{Logs,Spans}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceView<'a> {
    /// Attributes.
    pub attributes: &'a [Attribute<'a>],
    /// How many attributes the sender dropped.
    pub dropped_attributes_count: u32,
    /// Schema URL; empty when none was sent.
    pub schema_url: &'a str,
}

/// OTLP `InstrumentationScope` with the schema URL of its `Scope{Logs,Spans}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScopeView<'a> {
    /// Name; may be empty.
    pub name: &'a str,
    /// Version; may be empty.
    pub version: &'a str,
    /// Attributes.
    pub attributes: &'a [Attribute<'a>],
    /// How many attributes the sender dropped.
    pub dropped_attributes_count: u32,
    /// Schema URL; empty when none was sent.
    pub schema_url: &'a str,
}

/// OTLP `LogRecord`.
#[derive(Clone, Copy, Debug)]
pub struct LogView<'a> {
    /// Event time in nanoseconds since the Unix epoch; 0 = unknown.
    pub time_unix_nano: u64,
    /// When the event was observed, nanoseconds; 0 = unknown.
    pub observed_time_unix_nano: u64,
    /// Severity 1–24; 0 = unspecified; other values are kept as sent.
    pub severity_number: i32,
    /// Severity as the source names it.
    pub severity_text: &'a str,
    /// Event name; empty for a plain log.
    pub event_name: &'a str,
    /// Body.
    pub body: Value<'a>,
    /// Attributes.
    pub attributes: &'a [Attribute<'a>],
    /// How many attributes the sender dropped.
    pub dropped_attributes_count: u32,
    /// W3C trace flags in the low 8 bits.
    pub flags: u32,
    /// Trace id.
    pub trace_id: Option<TraceId>,
    /// Span id.
    pub span_id: Option<SpanId>,
}

/// Attributes that name the event where the record's own field does not, the newer first: SDKs without an interface for
/// event names send one of these.
const EVENT_NAME_KEYS: [&str; 2] = ["otel.event.name", "event.name"];

impl LogView<'_> {
    /// The same record, its event named by an attribute where it has no name. The attribute stays.
    #[must_use]
    pub fn named_by_attribute(self) -> Self {
        if !self.event_name.is_empty() {
            return self;
        }
        let named = |key: &str| {
            self.attributes.iter().find_map(|(known, value)| match value {
                Value::Str(name) if *known == key => Some(*name),
                _ => None,
            })
        };
        let name = EVENT_NAME_KEYS.iter().find_map(|key| named(key));
        Self { event_name: name.unwrap_or_default(), ..self }
    }
}

impl Default for LogView<'_> {
    fn default() -> Self {
        Self {
            time_unix_nano: 0,
            observed_time_unix_nano: 0,
            severity_number: 0,
            severity_text: "",
            event_name: "",
            body: Value::Empty,
            attributes: &[],
            dropped_attributes_count: 0,
            flags: 0,
            trace_id: None,
            span_id: None,
        }
    }
}

/// OTLP `Span`.
#[derive(Clone, Copy, Debug)]
pub struct SpanView<'a> {
    /// Trace id; a span without one is refused.
    pub trace_id: TraceId,
    /// Span id; a span without one is refused.
    pub span_id: SpanId,
    /// Parent's span id; `None` for a root.
    pub parent_span_id: Option<SpanId>,
    /// W3C `tracestate`.
    pub trace_state: &'a str,
    /// W3C trace flags in the low 8 bits, `has_remote_parent` bits above.
    pub flags: u32,
    /// Operation name.
    pub name: &'a str,
    /// OTLP `SpanKind` (1 internal, 2 server, 3 client, 4 producer, 5 consumer); other values are kept as sent.
    pub kind: i32,
    /// Start, nanoseconds since the Unix epoch.
    pub start_time_unix_nano: u64,
    /// End, nanoseconds since the Unix epoch.
    pub end_time_unix_nano: u64,
    /// Attributes.
    pub attributes: &'a [Attribute<'a>],
    /// How many attributes the sender dropped.
    pub dropped_attributes_count: u32,
    /// Events, as a typed-JSON array of `{"time_unix_nano","name","attributes","dropped_attributes_count"}`;
    /// empty text when there are none. Times are ints; the last two members only when not empty or 0.
    pub events_json: &'a str,
    /// How many events the sender dropped.
    pub dropped_events_count: u32,
    /// Links, as a typed-JSON array of
    /// `{"trace_id","span_id","trace_state","attributes","dropped_attributes_count","flags"}`; empty text when none.
    /// Ids are hex, `""` where missing; the other members only when not empty or 0.
    pub links_json: &'a str,
    /// How many links the sender dropped.
    pub dropped_links_count: u32,
    /// OTLP `StatusCode` (0 unset, 1 ok, 2 error); other values are kept as sent.
    pub status_code: i32,
    /// Status message.
    pub status_message: &'a str,
}

impl<'a> SpanView<'a> {
    /// A span with nothing but its ids.
    pub fn new(trace_id: TraceId, span_id: SpanId) -> SpanView<'a> {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            trace_state: "",
            flags: 0,
            name: "",
            kind: 0,
            start_time_unix_nano: 0,
            end_time_unix_nano: 0,
            attributes: &[],
            dropped_attributes_count: 0,
            events_json: "",
            dropped_events_count: 0,
            links_json: "",
            dropped_links_count: 0,
            status_code: 0,
            status_message: "",
        }
    }
}

/// Why one record of a good request was not taken. The rest of the request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Position of the record in the request, counted over all resources and scopes.
    pub record: usize,
    /// The field, as a path such as `resource_logs[0].scope_logs[0].log_records[3].trace_id`.
    pub field: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_names_an_event_without_a_name() {
        let (new, old) = (("otel.event.name", Value::Str("new")), ("event.name", Value::Str("old")));
        for (own, attributes, want) in [
            ("", &[old, new][..], "new"),
            ("", &[old], "old"),
            ("", &[("event.name", Value::Int(1))], ""),
            ("own", &[old, new], "own"),
            ("", &[], ""),
        ] {
            let log = LogView { event_name: own, attributes, ..LogView::default() };
            assert_eq!(log.named_by_attribute().event_name, want, "{own} {attributes:?}");
        }
    }
}
