//! Traces: the records of one, finding many, and the graph of services that spans tell.
//!
//! It does not know how one trace is put together ([`threadline_model::trace`]) or shown.

mod find;
mod graph;
mod histogram;
mod red;

#[cfg(test)]
mod tests;

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use threadline_model::columns::Batch;
use threadline_model::id::TraceId;
use threadline_model::trace::{Limits, TraceView, assemble};
use threadline_store::{Prune, Snapshot, TableSnapshot};

use crate::lang::Expr;
use crate::search::TimeRange;
use crate::{Guard, QueryError};

pub use find::search_traces;
pub use graph::services;
pub use red::{Red, RedPoint, RedRequest, RedService, red};

/// Lowest severity number of OTLP's ERROR range.
const SEVERITY_ERROR: i64 = 17;

/// Everything that was stored under one trace id.
#[derive(Clone, Debug, Default)]
pub struct TraceRecords {
    /// Batches of `spans`; only rows of the trace.
    pub spans: Vec<RecordBatch>,
    /// Batches of `logs`; only rows of the trace.
    pub logs: Vec<RecordBatch>,
    /// Spans beyond the guard's memory that were left out.
    pub spans_left_out: usize,
    /// Logs beyond the guard's memory that were left out.
    pub logs_left_out: usize,
}

impl TraceRecords {
    /// The request, put back together.
    pub fn view(&self, id: TraceId, limits: Limits) -> TraceView {
        let mut view = assemble(id, &self.spans, &self.logs, limits);
        view.gaps.spans_left_out += self.spans_left_out;
        view.gaps.logs_left_out += self.logs_left_out;
        view
    }
}

/// Reads the spans and logs of a trace. At most half of the guard's memory is taken for each of the two; what is
/// beyond is counted, not taken.
pub fn trace(snapshot: &Snapshot, id: TraceId, guard: &Guard) -> Result<TraceRecords, QueryError> {
    let (spans, spans_left_out) = rows_of(&snapshot.spans, id, guard)?;
    let (logs, logs_left_out) = rows_of(&snapshot.logs, id, guard)?;
    Ok(TraceRecords { spans, logs, spans_left_out, logs_left_out })
}

fn rows_of(table: &TableSnapshot, id: TraceId, guard: &Guard) -> Result<(Vec<RecordBatch>, usize), QueryError> {
    let prune = Prune { trace_ids: Some(vec![id]), ..Prune::default() };
    let (mut taken, mut bytes, mut left_out) = (Vec::new(), 0, 0);
    for_each_batch(table, None, &prune, guard, |batch| {
        let Some(ids) = Batch::new(batch).ids("trace_id") else { return Ok(()) };
        let mask: BooleanArray =
            (0..ids.len()).map(|row| Some(ids.is_valid(row) && ids.value(row) == id.0)).collect();
        let rows = mask.true_count();
        if rows == 0 {
            return Ok(());
        }
        if bytes >= guard.memory_bytes_max / 2 {
            left_out += rows;
            return Ok(());
        }
        let rows = filter_record_batch(batch, &mask)?;
        bytes += rows.get_array_memory_size();
        taken.push(rows);
        Ok(())
    })?;
    Ok((taken, left_out))
}

/// Reads memory, then files. Columns not named may be there all the same; rows that `prune` excludes too.
fn for_each_batch(
    table: &TableSnapshot,
    columns: Option<&[&str]>,
    prune: &Prune,
    guard: &Guard,
    mut each: impl FnMut(&RecordBatch) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    for batch in &table.memory {
        guard.check()?;
        each(batch)?;
    }
    for file in table.files.iter().filter(|file| !file.excluded_by(prune)) {
        for batch in file.scan(columns, prune)? {
            guard.check()?;
            each(&batch?)?;
        }
    }
    Ok(())
}

fn prune_range(range: TimeRange) -> Option<std::ops::RangeInclusive<i64>> {
    let bounded = range.from_us.is_some() || range.to_us.is_some();
    let (from, to) = (range.from_us.unwrap_or(i64::MIN), range.to_us.unwrap_or(i64::MAX));
    bounded.then(|| from..=to.saturating_sub(1))
}

fn in_range(range: TimeRange, ts_us: i64) -> bool {
    range.from_us.is_none_or(|from| ts_us >= from) && range.to_us.is_none_or(|to| ts_us < to)
}

/// Whether a trace has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceStatus {
    /// Some span failed or some log has severity ERROR or above.
    Error,
    /// None did.
    Ok,
}

/// Which traces to find. Service, operation and expression must fit one span of the trace, which started in the
/// range; duration and status are the whole trace's.
#[derive(Clone, Debug)]
pub struct TraceSearch {
    /// Service of the span.
    pub service: Option<String>,
    /// Name of the span.
    pub operation: Option<String>,
    /// Least duration of the trace, ns.
    pub duration_min_ns: Option<i64>,
    /// Greatest duration of the trace, ns.
    pub duration_max_ns: Option<i64>,
    /// Status of the trace.
    pub status: Option<TraceStatus>,
    /// Condition on the span.
    pub expr: Expr,
    /// Start of the span.
    pub range: TimeRange,
    /// Traces at most.
    pub limit: usize,
}

/// A trace in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSummary {
    /// Trace id.
    pub trace_id: TraceId,
    /// Service of the root; of the earliest span when the root is missing.
    pub root_service: String,
    /// Operation of the root; of the earliest span when the root is missing.
    pub root_operation: String,
    /// Whether a span without parent was found.
    pub root_found: bool,
    /// Start of the earliest span, ns since the Unix epoch.
    pub start_ns: i64,
    /// Duration of the root, ns; from the first start to the last end when the root is missing.
    pub duration_ns: i64,
    /// Spans.
    pub spans: u64,
    /// Services, sorted.
    pub services: Vec<String>,
    /// Failed spans: status error or HTTP status 500 and above.
    pub error_spans: u64,
    /// Logs.
    pub logs: u64,
    /// Logs of severity ERROR and above.
    pub error_logs: u64,
}

/// Requests and how they went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Requests {
    /// Entry spans: those of kind server or consumer, and those whose parent is in another service or absent.
    pub count: u64,
    /// Entry spans that failed.
    pub errors: u64,
    /// Latency quantiles, ns; `None` without requests. At most 1 % off.
    pub latency: Option<Latency>,
}

/// Latency quantiles, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Median.
    pub p50_ns: i64,
    /// 95th percentile.
    pub p95_ns: i64,
    /// 99th percentile.
    pub p99_ns: i64,
    /// Longest.
    pub max_ns: i64,
}

/// One service in a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceNode {
    /// Name.
    pub service: String,
    /// Its requests.
    pub requests: Requests,
    /// Requests per second over the range.
    pub rate: f64,
    /// Spans.
    pub spans: u64,
    /// Logs.
    pub logs: u64,
    /// Logs of severity ERROR and above.
    pub error_logs: u64,
}

/// Calls from one service to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceEdge {
    /// Calling service.
    pub caller: String,
    /// Called service.
    pub callee: String,
    /// The callee's entry spans below spans of the caller.
    pub requests: Requests,
}

/// Callers and callees of a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceGraph {
    /// Services by name.
    pub services: Vec<ServiceNode>,
    /// Calls by caller and callee.
    pub edges: Vec<ServiceEdge>,
    /// The range the rates are over, µs; `None` without any record.
    pub range_us: Option<(i64, i64)>,
    /// For people: which bounds were hit, and what is missing for it.
    pub notes: Vec<String>,
}
