//! Traces of a real system (`../shared/data/trainticket`), assembled, against facts computed here by plain loops.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use serde::Deserialize;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView, SpanView};
use threadline_model::schema::{Layout, Table};
use threadline_model::trace::{Limits, Presence, TraceView, assemble};
use threadline_model::value::Value;

#[derive(Clone, Deserialize)]
struct Span {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    service: String,
    pod: String,
    name: String,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
}

impl Span {
    fn times(&self) -> (i64, i64) {
        (self.start_time_unix_nano.parse().unwrap(), self.end_time_unix_nano.parse().unwrap())
    }
}

#[derive(Deserialize)]
struct Log {
    time_unix_nano: String,
    service: String,
    pod: String,
    severity: String,
    trace_id: String,
    span_id: String,
    body: String,
}

impl Log {
    fn time(&self) -> i64 {
        self.time_unix_nano.parse().unwrap()
    }

    fn is_sane(&self) -> bool {
        (1_600_000_000_000_000_000..1_700_000_000_000_000_000).contains(&self.time())
    }
}

type Traces = BTreeMap<String, (Vec<Span>, Vec<Log>)>;

/// Loaded once for all tests.
static TRACES: LazyLock<Option<Traces>> = LazyLock::new(load);

/// Some hundred traces, among them all with absurd log times. `None`, with a message, where the data are absent.
fn load() -> Option<Traces> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/trainticket");
    if !folder.exists() {
        eprintln!("skipped: ../shared/data/trainticket is not beside the repository");
        return None;
    }
    let lines = |name: &str| {
        let file = std::fs::File::open(folder.join(name)).unwrap();
        BufReader::new(zstd::Decoder::new(file).unwrap()).lines().map(Result::unwrap)
    };
    let mut traces: Traces = BTreeMap::new();
    let mut logs: Vec<Log> = Vec::new();
    for line in lines("logs.ndjson.zst") {
        let log: Log = serde_json::from_str(&line).unwrap();
        if !log.is_sane() || log.trace_id.starts_with("0") {
            traces.entry(log.trace_id.clone()).or_default();
        }
        logs.push(log);
    }
    for log in logs {
        if let Some(trace) = traces.get_mut(&log.trace_id) {
            trace.1.push(log);
        }
    }
    for line in lines("spans.ndjson.zst") {
        let span: Span = serde_json::from_str(&line).unwrap();
        if let Some(trace) = traces.get_mut(&span.trace_id) {
            trace.0.push(span);
        }
    }
    assert!(traces.len() > 200, "{} traces", traces.len());
    Some(traces)
}

fn build(table: Table, fill: impl FnOnce(&mut BatchBuilder)) -> Vec<RecordBatch> {
    let layout = Arc::new(Layout::base(table));
    let mut builder = BatchBuilder::new(layout, 1_690_000_000_000_000, RecordLimits::default());
    fill(&mut builder);
    builder.finish().unwrap().into_iter().collect()
}

fn set_resource(builder: &mut BatchBuilder, service: &str, pod: &str) {
    let attributes = [("service.name", Value::Str(service)), ("k8s.pod.name", Value::Str(pod))];
    builder.set_resource(&ResourceView { attributes: &attributes, ..ResourceView::default() });
}

fn view(id: &str, spans: &[Span], logs: &[Log]) -> TraceView {
    let trace_id = TraceId::from_hex(id).unwrap();
    let span_batches = build(Table::Spans, |builder| {
        for span in spans {
            set_resource(builder, &span.service, &span.pod);
            let (start, end) = span.times();
            let mut view = SpanView::new(trace_id, SpanId::from_hex(&span.span_id).unwrap());
            view.parent_span_id = SpanId::from_hex(&span.parent_span_id);
            view.name = &span.name;
            (view.start_time_unix_nano, view.end_time_unix_nano) = (start as u64, end as u64);
            builder.push_span(&view, 0).unwrap();
        }
    });
    let log_batches = build(Table::Logs, |builder| {
        for log in logs {
            set_resource(builder, &log.service, &log.pod);
            let view = LogView {
                time_unix_nano: log.time() as u64,
                severity_number: if log.severity == "ERROR" { 17 } else { 9 },
                severity_text: &log.severity,
                body: Value::Str(&log.body),
                trace_id: Some(trace_id),
                span_id: SpanId::from_hex(&log.span_id),
                ..LogView::default()
            };
            builder.push_log(&view, 0).unwrap();
        }
    });
    assemble(trace_id, &span_batches, &log_batches, Limits::default())
}

/// Facts that hold whether spans were lost or not.
fn check(id: &str, view: &TraceView, spans: &[Span], logs: &[Log]) {
    let by_id: HashMap<&str, &Span> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    assert_eq!(view.preorder().len(), view.nodes.len(), "{id}");
    let received: Vec<_> = view.nodes.iter().filter(|node| node.presence == Presence::Received).collect();
    assert_eq!(received.len(), spans.len(), "{id}");
    for node in received {
        let span = by_id[node.span.span_id.to_string().as_str()];
        let (start, end) = span.times();
        assert_eq!((node.span.start_ns, node.duration_ns), (start, end - start), "{id}");
        assert_eq!(
            (&*node.span.service, &*node.span.name, &*node.span.instance),
            (&*span.service, &*span.name, &*span.pod)
        );
        let parent = node.parent.map(|parent| view.nodes[parent].span.span_id.to_string()).unwrap_or_default();
        assert_eq!(parent, span.parent_span_id, "{id}");
        let of_span = logs.iter().filter(|log| log.span_id == span.span_id).count();
        assert_eq!(node.logs.len(), of_span, "{id}");
    }
    let missing: BTreeSet<&str> = spans
        .iter()
        .map(|span| span.parent_span_id.as_str())
        .filter(|parent| !parent.is_empty() && !by_id.contains_key(parent))
        .collect();
    let told: BTreeSet<String> =
        view.gaps.missing_parents.iter().map(|&index| view.nodes[index].span.span_id.to_string()).collect();
    assert_eq!(told, missing.into_iter().map(str::to_owned).collect(), "{id}");
    assert_eq!(view.logs.len(), logs.len());
    assert!(view.logs.iter().all(|log| log.node.is_some()), "every log names a span or a placeholder");
    assert_eq!(view.gaps.logs_without_time, logs.iter().filter(|log| !log.is_sane()).count(), "{id}");
    let with_spans: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let logged: BTreeSet<&str> = logs.iter().map(|log| log.service.as_str()).collect();
    let told: BTreeSet<&str> = view.gaps.services_without_spans.iter().map(|service| &**service).collect();
    assert_eq!(told, logged.difference(&with_spans).copied().collect(), "{id}");
    let path: i64 = view.critical_path.iter().map(|segment| segment.end_ns - segment.start_ns).sum();
    assert_eq!(path, view.duration_ns(), "{id}");
    let failed = logs.iter().any(|log| log.severity == "ERROR");
    assert_eq!(!view.causes.is_empty(), failed, "{id}: only error logs tell of failures here");
}

#[test]
fn real_traces_are_put_back_together() {
    let Some(traces) = &*TRACES else { return };
    let (mut absurd, mut failed, mut detached) = (0, 0, 0);
    for (id, (spans, logs)) in traces {
        let view = view(id, spans, logs);
        check(id, &view, spans, logs);
        let roots: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
        assert_eq!((view.roots.len(), roots.len()), (1, 1), "{id}");
        let (start, end) = roots[0].times();
        assert_eq!(view.duration_ns(), end - start, "{id}");
        // An absurd time does not stretch the trace: all takes place within minutes of its root.
        let (from, to) = view.range_ns.unwrap();
        assert!(from > start - 60_000_000_000 && to < end + 600_000_000_000, "{id}: {from}..{to}");
        absurd += view.gaps.logs_without_time;
        failed += usize::from(!view.causes.is_empty());
        detached += view
            .nodes
            .iter()
            .filter(|node| node.detached && &*node.span.name == "food_delivery process")
            .count();
    }
    assert!(
        absurd > 0 && failed > 0 && detached > 0,
        "{absurd} {failed} {detached}: the cases are among the traces"
    );
}

#[test]
fn a_service_that_sends_no_spans_leaves_told_gaps() {
    let Some(traces) = &*TRACES else { return };
    for (id, (spans, logs)) in traces {
        let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
        let Some(lost) = services.into_iter().nth(id.len() % 3) else { continue };
        let kept: Vec<Span> = spans.iter().filter(|span| span.service != lost).cloned().collect();
        check(id, &view(id, &kept, logs), &kept, logs);
    }
}

#[test]
fn logs_alone_tell_the_path() {
    let Some(traces) = &*TRACES else { return };
    for (id, (_, logs)) in traces {
        let view = view(id, &[], logs);
        assert!(view.from_logs_only);
        let spans: BTreeSet<&str> = logs.iter().map(|log| log.span_id.as_str()).collect();
        assert_eq!(view.nodes.len(), spans.len(), "{id}");
        let mut first: BTreeMap<&str, i64> = BTreeMap::new();
        for log in logs.iter().filter(|log| log.is_sane()) {
            let seen = first.entry(&log.service).or_insert(i64::MAX);
            *seen = log.time().min(*seen);
        }
        for part in view.services.iter().filter(|part| part.seen_ns.is_some()) {
            assert_eq!(part.seen_ns.unwrap().0, first[&*part.service], "{id}");
        }
    }
}
