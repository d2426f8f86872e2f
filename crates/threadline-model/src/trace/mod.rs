//! Puts one request back together from its spans and logs: tree, clocks, logs at their place, critical path,
//! errors and gaps. What each part means to its reader is in `docs/traces.md`.
//!
//! Vocabulary:
//! - *process*: a (service, instance) pair; spans and logs of one process share a clock;
//! - *placeholder*: a node for a span id that is referenced but was not received;
//! - *raw time*: as sent; *adjusted time*: raw time plus the offset estimated for the process's clock;
//! - *detached*: a child that its parent did not wait for; it is in the tree, not on the critical path;
//! - *main root*: the node whose duration is the end-to-end time.
//!
//! Pure: it does not know where records come from, how many traces there are, or how a view is shown. No input
//! makes it panic or recurse: trees are walked with explicit stacks, sums saturate.

mod build;
mod findings;
mod logs;
mod outcome;
mod path;
mod records;
mod skew;
mod tree;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::id::{SpanId, TraceId};

pub use build::{assemble, assemble_records};
pub use outcome::{DURATION_BUCKETS, OUTCOME_COLUMNS, Outcomes, duration_bucket, duration_middle};
pub use records::{Intake, read_logs, read_spans};

/// OTLP `SpanKind` server.
pub const KIND_SERVER: i32 = 2;
/// OTLP `SpanKind` client.
pub const KIND_CLIENT: i32 = 3;
/// OTLP `SpanKind` producer.
pub const KIND_PRODUCER: i32 = 4;
/// OTLP `SpanKind` consumer.
pub const KIND_CONSUMER: i32 = 5;
/// OTLP `StatusCode` error.
pub const STATUS_ERROR: i32 = 2;
/// Lowest severity number of OTLP's ERROR range.
pub const SEVERITY_ERROR: i32 = 17;

/// How much of a trace is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Spans at most.
    pub spans_max: usize,
    /// Logs at most.
    pub logs_max: usize,
    /// Bytes of texts at most, spans and logs each.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { spans_max: 100_000, logs_max: 100_000, bytes_max: 128 << 20 }
    }
}

/// An attribute; the value is typed JSON ([`crate::value`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attribute {
    /// Key.
    pub key: String,
    /// Value as typed JSON.
    pub json: String,
}

/// A span's event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Event {
    /// Raw time, ns since the Unix epoch.
    pub time_ns: i64,
    /// Name.
    pub name: String,
    /// Attributes.
    pub attributes: Vec<Attribute>,
}

/// A span's link to another span.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Link {
    /// Trace id in hex.
    pub trace_id: String,
    /// Span id in hex.
    pub span_id: String,
    /// Attributes.
    pub attributes: Vec<Attribute>,
}

/// A span as received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpanRecord {
    /// Span id.
    pub span_id: SpanId,
    /// Parent's span id.
    pub parent_span_id: Option<SpanId>,
    /// Service; empty when unknown.
    pub service: Arc<str>,
    /// Service instance, or the pod or host that stands for it; empty when unknown.
    pub instance: Arc<str>,
    /// Operation.
    pub name: Arc<str>,
    /// OTLP `SpanKind`.
    pub kind: i32,
    /// Start, ns since the Unix epoch.
    pub start_ns: i64,
    /// Whether `start_ns` is what the sender sent. Otherwise the hub's arrival time stands in.
    pub time_known: bool,
    /// End minus start, ns, as sent; negative when the end was not sent.
    pub duration_ns: i64,
    /// OTLP `StatusCode`.
    pub status_code: i32,
    /// Status message.
    pub status_message: String,
    /// Attributes of the span itself.
    pub attributes: Vec<Attribute>,
    /// Typed JSON of the resource; empty when none was sent.
    pub resource: Arc<str>,
    /// Typed JSON of the scope; empty when none was sent.
    pub scope: Arc<str>,
    /// Events in order of time.
    pub events: Vec<Event>,
    /// Links.
    pub links: Vec<Link>,
    /// How many attributes, events and links the sender dropped, together.
    pub dropped: u32,
}

impl SpanRecord {
    /// A span with nothing but its id.
    pub fn new(span_id: SpanId) -> SpanRecord {
        SpanRecord {
            span_id,
            parent_span_id: None,
            service: Arc::from(""),
            instance: Arc::from(""),
            name: Arc::from(""),
            kind: 0,
            start_ns: 0,
            time_known: true,
            duration_ns: 0,
            status_code: 0,
            status_message: String::new(),
            attributes: Vec::new(),
            resource: Arc::from(""),
            scope: Arc::from(""),
            events: Vec::new(),
            links: Vec::new(),
            dropped: 0,
        }
    }

    /// The text of an attribute of the span itself as people write it.
    pub fn attribute(&self, key: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.attributes.iter().find(|a| a.key == key).map(|a| crate::value::display(&a.json))
    }
}

/// A log record as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Event time, ns since the Unix epoch.
    pub time_ns: i64,
    /// Whether `time_ns` is what the sender sent. Otherwise the hub's arrival time stands in.
    pub time_known: bool,
    /// The time that was sent where it was absurd, ns.
    pub sent_time_ns: Option<i64>,
    /// Service; empty when unknown.
    pub service: Arc<str>,
    /// Service instance, or the pod or host that stands for it; empty when unknown.
    pub instance: Arc<str>,
    /// Severity number; 0 when unspecified.
    pub severity_number: i32,
    /// Severity as the source names it.
    pub severity_text: Arc<str>,
    /// Event name.
    pub event_name: Arc<str>,
    /// Body: text, or typed JSON of another type.
    pub body: String,
    /// Whether the body is typed JSON.
    pub body_json: bool,
    /// Attributes of the record itself.
    pub attributes: Vec<Attribute>,
    /// Span id.
    pub span_id: Option<SpanId>,
}

impl Default for LogRecord {
    fn default() -> Self {
        Self {
            time_ns: 0,
            time_known: true,
            sent_time_ns: None,
            service: Arc::from(""),
            instance: Arc::from(""),
            severity_number: 0,
            severity_text: Arc::from(""),
            event_name: Arc::from(""),
            body: String::new(),
            body_json: false,
            attributes: Vec::new(),
            span_id: None,
        }
    }
}

/// Where a node of the tree comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The span was received.
    Received,
    /// Placeholder: the id is some span's parent, the span was not received.
    Missing,
    /// Placeholder: the id stands in logs only.
    FromLogs,
}

/// Something to know about one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeNote {
    /// Its parent's id is its own; taken as a root.
    SelfParent,
    /// Its ancestors form a circle, which was cut here; taken as a root.
    CycleCut,
    /// Another span with other content has the same id.
    DuplicateId,
    /// No end was sent, or an end before the start: the duration is taken as 0.
    NoEnd,
    /// No sane start was sent: placed at its parent's start.
    TimeUnknown,
    /// The sender dropped this many attributes, events or links.
    Dropped(u32),
    /// Duration 0 though it has children that took time.
    ZeroWithChildren,
}

/// Why a node counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Its status is error.
    Status,
    /// It has an `exception` event.
    Exception,
    /// Its HTTP status is 500 or above, or it has `error.type`.
    Attribute,
    /// A log of severity ERROR or above was written under it.
    Log,
}

/// One node of the tree: a span or a placeholder.
#[derive(Clone, Debug)]
pub struct Node {
    /// The span; for a placeholder only id, service, instance and times (the cover of children and logs) are set.
    pub span: SpanRecord,
    /// Received or placeholder.
    pub presence: Presence,
    /// Index of the process in [`TraceView::processes`].
    pub process: usize,
    /// Parent's index.
    pub parent: Option<usize>,
    /// Children's indexes by adjusted start.
    pub children: Vec<usize>,
    /// Distance from its root.
    pub depth: usize,
    /// Adjusted start, ns since the Unix epoch.
    pub start_ns: i64,
    /// Duration, ns, at least 0.
    pub duration_ns: i64,
    /// Time in which no awaited child ran, ns.
    pub self_ns: i64,
    /// Time of the critical path spent in this node itself, ns.
    pub critical_ns: i64,
    /// Its parent did not wait for it.
    pub detached: bool,
    /// Why it counts as failed.
    pub error: Option<ErrorKind>,
    /// Indexes of its logs by adjusted time.
    pub logs: Vec<usize>,
    /// What else to know.
    pub notes: Vec<NodeNote>,
}

impl Node {
    /// Adjusted end, ns since the Unix epoch.
    pub fn end_ns(&self) -> i64 {
        self.start_ns.saturating_add(self.duration_ns)
    }
}

/// How a log found its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Its span id names the node.
    SpanId,
    /// The innermost span of its service that was running at its time.
    Time,
    /// Nowhere in the tree: it stands beside it.
    Trace,
}

/// A log at its place.
#[derive(Clone, Debug)]
pub struct Log {
    /// The record.
    pub record: LogRecord,
    /// Index of the process.
    pub process: usize,
    /// Adjusted time, ns since the Unix epoch; the node's start when the time is unknown.
    pub time_ns: i64,
    /// Index of the node; `None` beside the tree.
    pub node: Option<usize>,
    /// How it was placed.
    pub placement: Placement,
}

/// A (service, instance) pair that took part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Service; empty when unknown.
    pub service: Arc<str>,
    /// Instance; empty when unknown.
    pub instance: Arc<str>,
    /// What is added to its raw times, ns.
    pub offset_ns: i64,
}

/// A service's part in the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePart {
    /// Service; empty when unknown.
    pub service: Arc<str>,
    /// Spans received.
    pub spans: usize,
    /// Logs.
    pub logs: usize,
    /// Failed spans.
    pub error_spans: usize,
    /// Logs of severity ERROR or above.
    pub error_logs: usize,
    /// Sum of its spans' self times, ns.
    pub self_ns: i64,
    /// Its share of the critical path, ns.
    pub critical_ns: i64,
    /// First and last adjusted time of its spans and logs, ns since the Unix epoch; `None` when all are unknown.
    pub seen_ns: Option<(i64, i64)>,
}

/// A piece of the critical path: in this time the request waited for this node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of the node.
    pub node: usize,
    /// Adjusted start, ns since the Unix epoch.
    pub start_ns: i64,
    /// Adjusted end, ns since the Unix epoch.
    pub end_ns: i64,
}

/// What two processes' clocks differ by, as their calls show. Only pairs that contradict a common clock are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Index of the process whose clock is the reference.
    pub parent: usize,
    /// Index of the process whose clock differs.
    pub child: usize,
    /// What is added to the child's raw times to compare them with the parent's, ns; 0 when not adjusted.
    pub offset_ns: i64,
    /// Least and greatest offset that fits all calls, ns; open ends are `None`. `None`: no offset fits all calls.
    pub fits_ns: Option<(Option<i64>, Option<i64>)>,
    /// Calls between the two that were compared.
    pub calls: usize,
    /// Calls whose child started before its parent.
    pub early: usize,
    /// Calls whose child ended after its parent.
    pub late: usize,
}

/// A failure that is no consequence of another one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Index of the node; `None` for a log beside the tree.
    pub node: Option<usize>,
    /// Index of the log that says it, if a log does.
    pub log: Option<usize>,
    /// Adjusted time, ns since the Unix epoch.
    pub time_ns: i64,
    /// What failed, in the sender's words: exception, status message or log body; may be empty.
    pub message: String,
}

/// What is not there, or not whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Nodes whose spans were referenced as parents but not received.
    pub missing_parents: Vec<usize>,
    /// Nodes whose span ids stand in logs but whose spans were not received.
    pub missing_logged: Vec<usize>,
    /// Services that logged under the trace id but sent no span.
    pub services_without_spans: Vec<Arc<str>>,
    /// Services that sent spans but no log.
    pub services_without_logs: Vec<Arc<str>>,
    /// Nodes whose spans look truncated; [`Node::notes`] says how.
    pub truncated: Vec<usize>,
    /// Identical copies of spans that were received more than once and dropped.
    pub copies: usize,
    /// Different spans that share an id with another one.
    pub duplicate_ids: usize,
    /// Circles of parents that were cut.
    pub cycles: usize,
    /// Logs whose time was missing or absurd.
    pub logs_without_time: usize,
    /// Spans beyond [`Limits`] that were left out.
    pub spans_left_out: usize,
    /// Logs beyond [`Limits`] that were left out.
    pub logs_left_out: usize,
}

/// One request, put back together.
#[derive(Clone, Debug)]
pub struct TraceView {
    /// Trace id.
    pub trace_id: TraceId,
    /// There are no spans: nodes stand for the span ids seen in logs, in order of time.
    pub from_logs_only: bool,
    /// Earliest and latest adjusted time of anything, ns since the Unix epoch; `None` when there is nothing.
    pub range_ns: Option<(i64, i64)>,
    /// Spans and placeholders.
    pub nodes: Vec<Node>,
    /// Roots by adjusted start.
    pub roots: Vec<usize>,
    /// The node whose duration is the end-to-end time.
    pub main_root: Option<usize>,
    /// Logs by adjusted time.
    pub logs: Vec<Log>,
    /// Processes.
    pub processes: Vec<Process>,
    /// Services by critical-path time, then by first appearance.
    pub services: Vec<ServicePart>,
    /// The critical path in order of time. Sums to the main root's duration.
    pub critical_path: Vec<Segment>,
    /// Clocks that differ.
    pub skews: Vec<Skew>,
    /// Failures without a failure below them, first first: the first is the likely cause.
    pub causes: Vec<Cause>,
    /// Gaps.
    pub gaps: Gaps,
}

impl TraceView {
    /// The end-to-end time, ns: the main root's duration.
    pub fn duration_ns(&self) -> i64 {
        self.main_root.and_then(|root| self.nodes.get(root)).map_or(0, |node| node.duration_ns)
    }

    /// Whether neither a span nor a log was found.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.logs.is_empty()
    }

    /// Indexes of all nodes, each parent before its children, siblings by start: the order to show them in.
    pub fn preorder(&self) -> Vec<usize> {
        tree::preorder(&self.nodes, &self.roots)
    }
}

/// By how much a child may outlive its parent without being detached or being a sign of a skewed clock: a server
/// ends its span a moment after its answer has reached the caller.
pub(crate) fn tolerance_ns(parent_duration_ns: i64) -> i64 {
    (parent_duration_ns / 100).max(1_000_000)
}
