//! Assembly, step by step.

use std::sync::Arc;

use arrow_array::RecordBatch;
use rustc_hash::{FxHashMap, FxHashSet};

use super::outcome::DURATION_SANE_MAX_NS;
use super::records::{Intake, read_logs, read_spans};
use super::{
    Gaps, Limits, Log, LogRecord, Node, NodeNote, Placement, Presence, Process, SpanRecord, TraceView,
    findings, logs, path, skew, tree,
};
use crate::id::TraceId;

/// Assembles a trace from batches of both tables; rows of other traces are passed over.
pub fn assemble(trace_id: TraceId, spans: &[RecordBatch], logs: &[RecordBatch], limits: Limits) -> TraceView {
    let mut span_intake = Intake::new();
    for batch in spans {
        read_spans(batch, trace_id, limits, &mut span_intake);
    }
    let mut log_intake = Intake::new();
    for batch in logs {
        read_logs(batch, trace_id, limits, &mut log_intake);
    }
    let mut view = assemble_records(trace_id, span_intake.records, log_intake.records, limits);
    view.gaps.spans_left_out += span_intake.left_out;
    view.gaps.logs_left_out += log_intake.left_out;
    view
}

/// Assembles a trace from its records. Spans and logs beyond the counts in `limits` are left out.
pub fn assemble_records(
    trace_id: TraceId,
    mut spans: Vec<SpanRecord>,
    mut logs: Vec<LogRecord>,
    limits: Limits,
) -> TraceView {
    let mut gaps = Gaps {
        spans_left_out: spans.len().saturating_sub(limits.spans_max),
        logs_left_out: logs.len().saturating_sub(limits.logs_max),
        logs_without_time: logs.iter().filter(|log| !log.time_known).count(),
        ..Gaps::default()
    };
    spans.truncate(limits.spans_max);
    logs.truncate(limits.logs_max);
    gaps.copies = drop_copies(&mut spans);

    let from_logs_only = spans.is_empty() && !logs.is_empty();
    let mut processes = Processes::default();
    let mut nodes: Vec<Node> =
        spans.into_iter().map(|span| node(span, Presence::Received, &mut processes)).collect();
    let mut logs: Vec<Log> = logs.into_iter().map(|record| unplaced(record, &mut processes)).collect();
    tree::link(&mut nodes, &mut logs, &mut processes, &mut gaps);
    let mut processes = processes.list;
    let mut roots = tree::roots(&nodes);
    tree::sort(&mut nodes, &mut roots);
    let skews = skew::estimate(&nodes, &tree::preorder(&nodes, &roots), &mut processes);
    tree::adjust_times(&mut nodes, &roots, &processes);
    logs::place(&mut logs, &nodes, &processes);
    tree::cover_placeholders(&mut nodes, &logs);
    tree::sort(&mut nodes, &mut roots);
    logs::attach(&mut logs, &mut nodes);

    let mut view = TraceView {
        trace_id,
        from_logs_only,
        range_ns: None,
        main_root: path::main_root(&nodes, &roots),
        nodes,
        roots,
        logs,
        processes,
        services: Vec::new(),
        critical_path: Vec::new(),
        skews,
        causes: Vec::new(),
        gaps,
    };
    path::measure(&mut view);
    findings::find(&mut view);
    view
}

/// Drops spans that equal an earlier one. How many.
fn drop_copies(spans: &mut Vec<SpanRecord>) -> usize {
    let mut seen = FxHashSet::default();
    let first: Vec<bool> = spans.iter().map(|span| seen.insert(span)).collect();
    let before = spans.len();
    let mut first = first.into_iter();
    spans.retain(|_| first.next().unwrap_or(true));
    before - spans.len()
}

/// Processes seen so far.
#[derive(Default)]
pub(super) struct Processes {
    list: Vec<Process>,
    known: FxHashMap<(Arc<str>, Arc<str>), usize>,
}

impl Processes {
    pub(super) fn index(&mut self, service: &Arc<str>, instance: &Arc<str>) -> usize {
        let key = (Arc::clone(service), Arc::clone(instance));
        *self.known.entry(key).or_insert_with(|| {
            self.list.push(Process {
                service: Arc::clone(service),
                instance: Arc::clone(instance),
                offset_ns: 0,
            });
            self.list.len() - 1
        })
    }
}

/// A node that is not linked yet. Its start is the raw one.
pub(super) fn node(span: SpanRecord, presence: Presence, processes: &mut Processes) -> Node {
    let mut notes = Vec::new();
    let mut duration_ns = span.duration_ns;
    if duration_ns < 0 || (!span.time_known && duration_ns > DURATION_SANE_MAX_NS) {
        duration_ns = 0;
        notes.push(NodeNote::NoEnd);
    }
    if !span.time_known {
        notes.push(NodeNote::TimeUnknown);
    }
    if span.dropped > 0 {
        notes.push(NodeNote::Dropped(span.dropped));
    }
    Node {
        process: processes.index(&span.service, &span.instance),
        presence,
        parent: None,
        children: Vec::new(),
        depth: 0,
        start_ns: span.start_ns,
        duration_ns,
        self_ns: 0,
        critical_ns: 0,
        detached: false,
        error: None,
        logs: Vec::new(),
        notes,
        span,
    }
}

fn unplaced(record: LogRecord, processes: &mut Processes) -> Log {
    Log {
        process: processes.index(&record.service, &record.instance),
        time_ns: record.time_ns,
        node: None,
        placement: Placement::Trace,
        record,
    }
}
