//! Wire types of traces and their conversion.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use threadline_model::trace::{
    self, Attribute, Cause, ErrorKind, Log, Node, NodeNote, Placement, Presence, TraceView,
};
use threadline_query::traces::{Requests, ServiceGraph, TraceSummary};

/// A moment: RFC 3339 with nanoseconds, and Unix nanoseconds as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeWire {
    /// For people.
    pub rfc3339: String,
    /// For machines.
    pub unix_nano: String,
}

impl TimeWire {
    /// From nanoseconds since the Unix epoch.
    pub fn from_ns(ns: i64) -> TimeWire {
        TimeWire { rfc3339: rfc3339(ns), unix_nano: ns.to_string() }
    }

    /// Nanoseconds since the Unix epoch; 0 when the text is no number.
    pub fn ns(&self) -> i64 {
        self.unix_nano.parse().unwrap_or(0)
    }
}

/// RFC 3339 with nanoseconds, UTC.
fn rfc3339(ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(time) => format!("{time:.9}"),
        Err(_) => String::new(),
    }
}

/// Attributes as one typed-JSON object, in the sender's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttributesWire(pub Box<RawValue>);

impl AttributesWire {
    fn of(attributes: &[Attribute]) -> Option<AttributesWire> {
        if attributes.is_empty() {
            return None;
        }
        let mut json = String::new();
        let mut object = threadline_model::value::ObjectWriter::new(&mut json);
        for attribute in attributes {
            object.key(&attribute.key).push_str(&attribute.json);
        }
        object.end();
        RawValue::from_string(json).ok().map(AttributesWire)
    }

    fn from_text(json: &str) -> Option<AttributesWire> {
        (!json.is_empty()).then(|| RawValue::from_string(json.to_owned()).ok().map(AttributesWire)).flatten()
    }
}

impl PartialEq for AttributesWire {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// A span's event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventWire {
    /// Adjusted time.
    pub time: TimeWire,
    /// Name.
    pub name: String,
    /// Attributes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<AttributesWire>,
}

/// A span's link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkWire {
    /// Trace id.
    pub trace_id: String,
    /// Span id.
    pub span_id: String,
    /// Attributes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<AttributesWire>,
}

/// A node of the tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpanWire {
    /// Span id.
    pub span_id: String,
    /// Parent's span id as sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_span_id: Option<String>,
    /// Parent's position in `spans`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<usize>,
    /// Distance from its root.
    pub depth: usize,
    /// `received`, `missing` (only referenced as a parent) or `from_logs` (only named by logs).
    pub presence: String,
    /// Service.
    pub service: String,
    /// Instance.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub instance: String,
    /// Operation.
    pub name: String,
    /// `unspecified`, `internal`, `server`, `client`, `producer`, `consumer`.
    pub kind: String,
    /// Adjusted start.
    pub start: TimeWire,
    /// Start as sent.
    pub raw_start: TimeWire,
    /// Duration, ns.
    pub duration_ns: i64,
    /// Time without an awaited child, ns.
    pub self_ns: i64,
    /// Time of the critical path in this span itself, ns.
    pub critical_ns: i64,
    /// `unset`, `ok`, `error`.
    pub status: String,
    /// Status message.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub status_message: String,
    /// Why it counts as failed: `status`, `exception`, `attribute` or `log`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Its parent did not wait for it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub detached: bool,
    /// What else to know.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
    /// Attributes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<AttributesWire>,
    /// Resource.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<AttributesWire>,
    /// Scope.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scope: Option<AttributesWire>,
    /// Events.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub events: Vec<EventWire>,
    /// Links.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub links: Vec<LinkWire>,
    /// Positions in `logs`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub logs: Vec<usize>,
}

/// A log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogWire {
    /// Adjusted time.
    pub time: TimeWire,
    /// Time as stored.
    pub raw_time: TimeWire,
    /// The time was not sent or absurd: it stands at its span's start.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub time_unknown: bool,
    /// Service.
    pub service: String,
    /// Instance.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub instance: String,
    /// Severity number.
    pub severity_number: i32,
    /// Severity as the source names it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub severity_text: String,
    /// Event name.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub event_name: String,
    /// Body; typed JSON where `body_json`.
    pub body: String,
    /// The body is typed JSON.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub body_json: bool,
    /// Span id as sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub span_id: Option<String>,
    /// Position in `spans`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub span: Option<usize>,
    /// `span_id`, `time` (innermost span of its service at its time) or `trace` (beside the tree).
    pub placed_by: String,
    /// Attributes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<AttributesWire>,
}

/// A service's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServicePartWire {
    /// Service.
    pub service: String,
    /// Spans received.
    pub spans: usize,
    /// Logs.
    pub logs: usize,
    /// Failed spans.
    pub error_spans: usize,
    /// Logs of severity ERROR and above.
    pub error_logs: usize,
    /// Sum of self times, ns.
    pub self_ns: i64,
    /// Share of the critical path, ns.
    pub critical_ns: i64,
    /// First seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first: Option<TimeWire>,
    /// Last seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<TimeWire>,
}

/// A piece of the critical path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SegmentWire {
    /// Position in `spans`.
    pub span: usize,
    /// Span id.
    pub span_id: String,
    /// Adjusted start.
    pub start: TimeWire,
    /// Duration, ns.
    pub duration_ns: i64,
}

/// Two clocks that differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SkewWire {
    /// Reference.
    pub parent_service: String,
    /// Its instance.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub parent_instance: String,
    /// Whose clock differs.
    pub child_service: String,
    /// Its instance.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub child_instance: String,
    /// What was added to the child's raw times relative to the parent's, ns; 0 when not adjusted.
    pub offset_ns: i64,
    /// Least offset that fits all calls, ns; absent when none fits or there is no bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset_min_ns: Option<i64>,
    /// Greatest offset that fits all calls, ns; absent when none fits or there is no bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset_max_ns: Option<i64>,
    /// Calls compared.
    pub calls: usize,
    /// Calls whose child started before its parent.
    pub early: usize,
    /// Calls whose child ended after its parent.
    pub late: usize,
}

/// A failure without a failure below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CauseWire {
    /// Position in `spans`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub span: Option<usize>,
    /// Position in `logs`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub log: Option<usize>,
    /// Service.
    pub service: String,
    /// Operation.
    pub operation: String,
    /// Adjusted time.
    pub time: TimeWire,
    /// What failed, in the sender's words.
    pub message: String,
}

/// What is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GapsWire {
    /// Span ids that were referenced as parents, not received.
    pub missing_parents: Vec<String>,
    /// Span ids that stand in logs, not received.
    pub missing_logged: Vec<String>,
    /// Services that logged but sent no span.
    pub services_without_spans: Vec<String>,
    /// Services that sent spans but no log.
    pub services_without_logs: Vec<String>,
    /// Positions in `spans` of spans that look truncated.
    pub truncated: Vec<usize>,
    /// Identical copies dropped.
    pub copies: usize,
    /// Different spans with the id of another one.
    pub duplicate_ids: usize,
    /// Circles of parents cut.
    pub cycles: usize,
    /// Logs without a sane time.
    pub logs_without_time: usize,
    /// Spans beyond the cap.
    pub spans_left_out: usize,
    /// Logs beyond the cap.
    pub logs_left_out: usize,
}

/// A trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceWire {
    /// Trace id.
    pub trace_id: String,
    /// There are no spans: rebuilt from logs alone.
    pub from_logs_only: bool,
    /// Earliest adjusted time; absent when the trace is empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<TimeWire>,
    /// Latest adjusted time; absent when the trace is empty.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<TimeWire>,
    /// End-to-end time, ns: the main root's duration.
    pub duration_ns: i64,
    /// Position in `spans` of the node whose duration is the end-to-end time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub main_root: Option<usize>,
    /// Spans received.
    pub span_count: usize,
    /// Failed spans.
    pub error_span_count: usize,
    /// Failures without a failure below them; the first is the likely cause.
    pub causes: Vec<CauseWire>,
    /// Services by critical-path time.
    pub services: Vec<ServicePartWire>,
    /// Nodes, parents before children, siblings by start.
    pub spans: Vec<SpanWire>,
    /// Logs by time.
    pub logs: Vec<LogWire>,
    /// The critical path by time; sums to `duration_ns`.
    pub critical_path: Vec<SegmentWire>,
    /// Clocks that differ.
    pub skews: Vec<SkewWire>,
    /// What is not there.
    pub gaps: GapsWire,
}

/// A trace in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryWire {
    /// Trace id.
    pub trace_id: String,
    /// Start of the earliest span.
    pub start: TimeWire,
    /// Duration of the root, ns; from first start to last end when the root is missing.
    pub duration_ns: i64,
    /// Service of the root, or of the earliest span.
    pub root_service: String,
    /// Operation of the root, or of the earliest span.
    pub root_operation: String,
    /// Whether the root was found.
    pub root_found: bool,
    /// Spans.
    pub spans: u64,
    /// Services.
    pub services: Vec<String>,
    /// Failed spans.
    pub error_spans: u64,
    /// Logs.
    pub logs: u64,
    /// Logs of severity ERROR and above.
    pub error_logs: u64,
}

/// A list of traces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracesWire {
    /// Newest first.
    pub traces: Vec<SummaryWire>,
}

/// Latency quantiles, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyWire {
    /// Median.
    pub p50_ns: i64,
    /// 95th percentile.
    pub p95_ns: i64,
    /// 99th percentile.
    pub p99_ns: i64,
    /// Longest.
    pub max_ns: i64,
}

/// Requests and how they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestsWire {
    /// Requests.
    pub count: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Latency; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency: Option<LatencyWire>,
}

/// A service in a range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceNodeWire {
    /// Name.
    pub service: String,
    /// Requests.
    pub requests: RequestsWire,
    /// Requests per second.
    pub rate: f64,
    /// Spans.
    pub spans: u64,
    /// Logs.
    pub logs: u64,
    /// Logs of severity ERROR and above.
    pub error_logs: u64,
}

/// Calls between two services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EdgeWire {
    /// Calling service.
    pub caller: String,
    /// Called service.
    pub callee: String,
    /// Calls.
    pub requests: RequestsWire,
}

/// The graph of services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServicesWire {
    /// Start of the range the rates are over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<TimeWire>,
    /// End of the range the rates are over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<TimeWire>,
    /// Services by name.
    pub services: Vec<ServiceNodeWire>,
    /// Calls.
    pub edges: Vec<EdgeWire>,
    /// Which bounds were hit.
    pub notes: Vec<String>,
}

/// A view as JSON.
pub fn trace_json(view: &TraceView) -> serde_json::Value {
    serde_json::to_value(trace_wire(view)).unwrap_or_default()
}

/// Converts a view.
pub fn trace_wire(view: &TraceView) -> TraceWire {
    let order = view.preorder();
    let mut position = vec![0usize; view.nodes.len()];
    for (at, &index) in order.iter().enumerate() {
        if let Some(slot) = position.get_mut(index) {
            *slot = at;
        }
    }
    let at = |index: usize| position.get(index).copied().unwrap_or_default();
    let received = || view.nodes.iter().filter(|n| n.presence == Presence::Received);
    TraceWire {
        trace_id: view.trace_id.to_string(),
        from_logs_only: view.from_logs_only,
        start: view.range_ns.map(|(start, _)| TimeWire::from_ns(start)),
        end: view.range_ns.map(|(_, end)| TimeWire::from_ns(end)),
        duration_ns: view.duration_ns(),
        main_root: view.main_root.map(at),
        span_count: received().count(),
        error_span_count: received().filter(|n| n.error.is_some()).count(),
        causes: view.causes.iter().map(|cause| cause_wire(view, cause, &at)).collect(),
        services: view.services.iter().map(service_part_wire).collect(),
        spans: order.iter().filter_map(|&i| view.nodes.get(i)).map(|n| span_wire(view, n, &at)).collect(),
        logs: view.logs.iter().map(|log| log_wire(log, &at)).collect(),
        critical_path: view.critical_path.iter().map(|s| segment_wire(view, s, &at)).collect(),
        skews: view.skews.iter().map(|skew| skew_wire(view, skew)).collect(),
        gaps: gaps_wire(view, &at),
    }
}

fn span_wire(view: &TraceView, node: &Node, at: &dyn Fn(usize) -> usize) -> SpanWire {
    let offset_ns = view.processes.get(node.process).map_or(0, |p| p.offset_ns);
    SpanWire {
        span_id: node.span.span_id.to_string(),
        parent_span_id: node.span.parent_span_id.map(|id| id.to_string()),
        parent: node.parent.map(at),
        depth: node.depth,
        presence: match node.presence {
            Presence::Received => "received",
            Presence::Missing => "missing",
            Presence::FromLogs => "from_logs",
        }
        .to_owned(),
        service: node.span.service.to_string(),
        instance: node.span.instance.to_string(),
        name: node.span.name.to_string(),
        kind: kind_name(node.span.kind).to_owned(),
        start: TimeWire::from_ns(node.start_ns),
        raw_start: TimeWire::from_ns(node.span.start_ns),
        duration_ns: node.duration_ns,
        self_ns: node.self_ns,
        critical_ns: node.critical_ns,
        status: match node.span.status_code {
            1 => "ok",
            trace::STATUS_ERROR => "error",
            _ => "unset",
        }
        .to_owned(),
        status_message: node.span.status_message.clone(),
        error: node.error.map(|kind| error_name(kind).to_owned()),
        detached: node.detached,
        notes: node.notes.iter().map(note_text).collect(),
        attributes: AttributesWire::of(&node.span.attributes),
        resource: AttributesWire::from_text(&node.span.resource),
        scope: AttributesWire::from_text(&node.span.scope),
        events: node
            .span
            .events
            .iter()
            .map(|event| EventWire {
                time: TimeWire::from_ns(event.time_ns.saturating_add(offset_ns)),
                name: event.name.clone(),
                attributes: AttributesWire::of(&event.attributes),
            })
            .collect(),
        links: node
            .span
            .links
            .iter()
            .map(|link| LinkWire {
                trace_id: link.trace_id.clone(),
                span_id: link.span_id.clone(),
                attributes: AttributesWire::of(&link.attributes),
            })
            .collect(),
        logs: node.logs.clone(),
    }
}

fn kind_name(kind: i32) -> &'static str {
    match kind {
        1 => "internal",
        trace::KIND_SERVER => "server",
        trace::KIND_CLIENT => "client",
        trace::KIND_PRODUCER => "producer",
        trace::KIND_CONSUMER => "consumer",
        _ => "unspecified",
    }
}

fn error_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Status => "status",
        ErrorKind::Exception => "exception",
        ErrorKind::Attribute => "attribute",
        ErrorKind::Log => "log",
    }
}

fn note_text(note: &NodeNote) -> String {
    match note {
        NodeNote::SelfParent => "names itself as its parent".to_owned(),
        NodeNote::CycleCut => "its ancestors form a circle, cut here".to_owned(),
        NodeNote::DuplicateId => "another span has the same id".to_owned(),
        NodeNote::NoEnd => "no end, or an end before its start".to_owned(),
        NodeNote::TimeUnknown => "no sane start: placed at its parent's start".to_owned(),
        NodeNote::Dropped(count) => format!("its sender dropped {count} attributes, events or links"),
        NodeNote::ZeroWithChildren => "took no time, but its children did".to_owned(),
    }
}

fn log_wire(log: &Log, at: &dyn Fn(usize) -> usize) -> LogWire {
    let record = &log.record;
    LogWire {
        time: TimeWire::from_ns(log.time_ns),
        raw_time: TimeWire::from_ns(record.sent_time_ns.unwrap_or(record.time_ns)),
        time_unknown: !record.time_known,
        service: record.service.to_string(),
        instance: record.instance.to_string(),
        severity_number: record.severity_number,
        severity_text: record.severity_text.to_string(),
        event_name: record.event_name.to_string(),
        body: record.body.clone(),
        body_json: record.body_json,
        span_id: record.span_id.map(|id| id.to_string()),
        span: log.node.map(at),
        placed_by: match log.placement {
            Placement::SpanId => "span_id",
            Placement::Time => "time",
            Placement::Trace => "trace",
        }
        .to_owned(),
        attributes: AttributesWire::of(&record.attributes),
    }
}

fn service_part_wire(part: &trace::ServicePart) -> ServicePartWire {
    ServicePartWire {
        service: part.service.to_string(),
        spans: part.spans,
        logs: part.logs,
        error_spans: part.error_spans,
        error_logs: part.error_logs,
        self_ns: part.self_ns,
        critical_ns: part.critical_ns,
        first: part.seen_ns.map(|(first, _)| TimeWire::from_ns(first)),
        last: part.seen_ns.map(|(_, last)| TimeWire::from_ns(last)),
    }
}

fn segment_wire(view: &TraceView, segment: &trace::Segment, at: &dyn Fn(usize) -> usize) -> SegmentWire {
    SegmentWire {
        span: at(segment.node),
        span_id: span_id(view, segment.node),
        start: TimeWire::from_ns(segment.start_ns),
        duration_ns: segment.end_ns.saturating_sub(segment.start_ns),
    }
}

fn span_id(view: &TraceView, node: usize) -> String {
    view.nodes.get(node).map(|n| n.span.span_id.to_string()).unwrap_or_default()
}

fn skew_wire(view: &TraceView, skew: &trace::Skew) -> SkewWire {
    let process = |index: usize| {
        view.processes.get(index).map(|p| (p.service.to_string(), p.instance.to_string())).unwrap_or_default()
    };
    let (parent_service, parent_instance) = process(skew.parent);
    let (child_service, child_instance) = process(skew.child);
    SkewWire {
        parent_service,
        parent_instance,
        child_service,
        child_instance,
        offset_ns: skew.offset_ns,
        offset_min_ns: skew.fits_ns.and_then(|(min, _)| min),
        offset_max_ns: skew.fits_ns.and_then(|(_, max)| max),
        calls: skew.calls,
        early: skew.early,
        late: skew.late,
    }
}

fn cause_wire(view: &TraceView, cause: &Cause, at: &dyn Fn(usize) -> usize) -> CauseWire {
    let node = cause.node.and_then(|index| view.nodes.get(index));
    let log = cause.log.and_then(|index| view.logs.get(index));
    let service = node
        .map(|n| &n.span.service)
        .filter(|service| !service.is_empty())
        .or_else(|| log.map(|l| &l.record.service))
        .map(ToString::to_string)
        .unwrap_or_default();
    CauseWire {
        span: cause.node.map(at),
        log: cause.log,
        service,
        operation: node.map(|n| n.span.name.to_string()).unwrap_or_default(),
        time: TimeWire::from_ns(cause.time_ns),
        message: cause.message.clone(),
    }
}

fn gaps_wire(view: &TraceView, at: &dyn Fn(usize) -> usize) -> GapsWire {
    let gaps = &view.gaps;
    let ids = |nodes: &[usize]| nodes.iter().map(|&index| span_id(view, index)).collect();
    let texts = |services: &[Arc<str>]| services.iter().map(ToString::to_string).collect();
    GapsWire {
        missing_parents: ids(&gaps.missing_parents),
        missing_logged: ids(&gaps.missing_logged),
        services_without_spans: texts(&gaps.services_without_spans),
        services_without_logs: texts(&gaps.services_without_logs),
        truncated: gaps.truncated.iter().map(|&index| at(index)).collect(),
        copies: gaps.copies,
        duplicate_ids: gaps.duplicate_ids,
        cycles: gaps.cycles,
        logs_without_time: gaps.logs_without_time,
        spans_left_out: gaps.spans_left_out,
        logs_left_out: gaps.logs_left_out,
    }
}

/// Converts a list of traces.
pub fn traces_wire(summaries: &[TraceSummary]) -> TracesWire {
    let traces = summaries
        .iter()
        .map(|summary| SummaryWire {
            trace_id: summary.trace_id.to_string(),
            start: TimeWire::from_ns(summary.start_ns),
            duration_ns: summary.duration_ns,
            root_service: summary.root_service.clone(),
            root_operation: summary.root_operation.clone(),
            root_found: summary.root_found,
            spans: summary.spans,
            services: summary.services.clone(),
            error_spans: summary.error_spans,
            logs: summary.logs,
            error_logs: summary.error_logs,
        })
        .collect();
    TracesWire { traces }
}

fn requests_wire(requests: &Requests) -> RequestsWire {
    RequestsWire {
        count: requests.count,
        errors: requests.errors,
        latency: requests.latency.map(|l| LatencyWire {
            p50_ns: l.p50_ns,
            p95_ns: l.p95_ns,
            p99_ns: l.p99_ns,
            max_ns: l.max_ns,
        }),
    }
}

/// Converts the graph of services.
pub fn services_wire(graph: &ServiceGraph) -> ServicesWire {
    let time = |us: i64| TimeWire::from_ns(us.saturating_mul(1000));
    ServicesWire {
        from: graph.range_us.map(|(from, _)| time(from)),
        to: graph.range_us.map(|(_, to)| time(to)),
        services: graph
            .services
            .iter()
            .map(|node| ServiceNodeWire {
                service: node.service.clone(),
                requests: requests_wire(&node.requests),
                rate: node.rate,
                spans: node.spans,
                logs: node.logs,
                error_logs: node.error_logs,
            })
            .collect(),
        edges: graph
            .edges
            .iter()
            .map(|edge| EdgeWire {
                caller: edge.caller.clone(),
                callee: edge.callee.clone(),
                requests: requests_wire(&edge.requests),
            })
            .collect(),
        notes: graph.notes.clone(),
    }
}
