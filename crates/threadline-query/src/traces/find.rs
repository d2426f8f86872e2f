//! Finding traces, newest first, with early stop.
//!
//! A trace starts no later than any of its spans. So the time of a fitting span bounds the start of its trace from
//! above: candidates are summed up in order of that bound, over whole traces, and the search ends as soon as the
//! traces found are all newer than the next candidate's bound and than whatever is not read yet.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use rustc_hash::{FxHashMap, FxHashSet};
use threadline_model::columns::Batch;
use threadline_model::id::TraceId;
use threadline_model::schema::Table;
use threadline_model::trace::{OUTCOME_COLUMNS, Outcomes};
use threadline_store::{Prune, SealedFile, Snapshot};

use super::{SEVERITY_ERROR, TraceSearch, TraceStatus, TraceSummary, for_each_batch, in_range};
use crate::matcher::{Matcher, prune};
use crate::{Guard, QueryError};

/// Traces summed up at once at least.
const CHUNK_MIN: usize = 64;
/// Memory a candidate takes, about, bytes.
const CANDIDATE_BYTES: usize = 96;

/// Finds traces, newest first.
///
/// # Errors
/// `Invalid` when no trace can fit; `TooExpensive` when more traces are candidates than memory holds.
pub fn search_traces(
    snapshot: &Snapshot,
    search: &TraceSearch,
    guard: &Guard,
) -> Result<Vec<TraceSummary>, QueryError> {
    if let (Some(min), Some(max)) = (search.duration_min_ns, search.duration_max_ns)
        && min > max
    {
        return Err(QueryError::Invalid("the least duration is above the greatest: swap them".to_owned()));
    }
    let mut candidates = Candidates::new(snapshot, search)?;
    let mut found: Vec<TraceSummary> = Vec::new();
    let chunk = search.limit.clamp(CHUNK_MIN, 10_000);
    while let Some(bound_us) = candidates.newest_bound(guard)? {
        // Found traces are sorted: the last one within the limit is the one to beat.
        let to_beat = search.limit.checked_sub(1).and_then(|last| found.get(last));
        if search.limit == 0 || to_beat.is_some_and(|last| last.start_ns.div_euclid(1000) > bound_us) {
            break;
        }
        let ids = candidates.take(chunk);
        found.extend(summaries(snapshot, &ids, guard)?.into_iter().filter(|summary| fits(search, summary)));
        found.sort_by_key(|summary| (Reverse(summary.start_ns), summary.trace_id));
        found.truncate(search.limit);
    }
    Ok(found)
}

fn fits(search: &TraceSearch, summary: &TraceSummary) -> bool {
    let failed = summary.error_spans + summary.error_logs > 0;
    search.duration_min_ns.is_none_or(|min| summary.duration_ns >= min)
        && search.duration_max_ns.is_none_or(|max| summary.duration_ns <= max)
        && search.status.is_none_or(|status| (status == TraceStatus::Error) == failed)
}

/// Something to read candidates from.
enum Unit<'a> {
    Memory(&'a RecordBatch),
    File(&'a Arc<SealedFile>),
}

/// Traces with a fitting span, by the time of their earliest one known.
struct Candidates<'a> {
    search: &'a TraceSearch,
    matcher: Matcher,
    prune: Prune,
    /// Not read yet, by latest time, the latest last.
    units: Vec<(i64, Unit<'a>)>,
    waiting: BinaryHeap<(i64, TraceId)>,
    seen: FxHashSet<TraceId>,
}

impl<'a> Candidates<'a> {
    fn new(snapshot: &'a Snapshot, search: &'a TraceSearch) -> Result<Self, QueryError> {
        let matcher = Matcher::new(&search.expr, Table::Spans)?;
        let mut prune = prune(&search.expr, Table::Spans, search.range);
        if let Some(service) = &search.service {
            prune.services = Some(vec![service.clone()]);
        }
        let memory = snapshot.spans.memory.iter().map(|batch| (latest(batch), Unit::Memory(batch)));
        let files = snapshot.spans.files.iter().filter(|file| !file.excluded_by(&prune));
        let files = files.map(|file| (*file.meta().ts.end(), Unit::File(file)));
        let mut units: Vec<(i64, Unit<'a>)> = memory.chain(files).collect();
        units.sort_by_key(|(latest_us, _)| *latest_us);
        Ok(Self { search, matcher, prune, units, waiting: BinaryHeap::new(), seen: FxHashSet::default() })
    }

    /// Reads until nothing unread can be newer than the newest candidate; its bound, µs.
    fn newest_bound(&mut self, guard: &Guard) -> Result<Option<i64>, QueryError> {
        loop {
            let bound = self.waiting.peek().map(|(bound_us, _)| *bound_us);
            match self.units.last() {
                Some((latest_us, _)) if bound.is_none_or(|bound_us| *latest_us >= bound_us) => {}
                _ => return Ok(bound),
            }
            if let Some((_, unit)) = self.units.pop() {
                self.read(&unit, guard)?;
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<TraceId> {
        std::iter::from_fn(|| self.waiting.pop()).map(|(_, id)| id).take(count).collect()
    }

    fn read(&mut self, unit: &Unit<'_>, guard: &Guard) -> Result<(), QueryError> {
        let mut earliest: FxHashMap<TraceId, i64> = FxHashMap::default();
        match unit {
            Unit::Memory(batch) => self.read_batch(batch, &mut earliest, guard)?,
            Unit::File(file) => {
                let mut columns = vec!["ts", "trace_id", "service", "name"];
                columns.extend(self.matcher.columns().iter().map(String::as_str));
                columns.sort_unstable();
                columns.dedup();
                for batch in file.scan(Some(&columns), &self.prune)? {
                    self.read_batch(&batch?, &mut earliest, guard)?;
                }
            }
        }
        for (id, bound_us) in earliest {
            self.seen.insert(id);
            self.waiting.push((bound_us, id));
        }
        Ok(())
    }

    fn read_batch(
        &self,
        batch: &RecordBatch,
        earliest: &mut FxHashMap<TraceId, i64>,
        guard: &Guard,
    ) -> Result<(), QueryError> {
        guard.check()?;
        let matches = self.matcher.matches(batch)?;
        let batch = Batch::new(batch);
        let (ts, service, name) = (batch.int("ts"), batch.str("service"), batch.str("name"));
        let equals = |want: &Option<String>, got: Option<&str>| {
            want.as_ref().is_none_or(|want| want == got.unwrap_or_default())
        };
        for row in 0..batch.rows() {
            let ts_us = ts.get(row).unwrap_or(0);
            let fits = in_range(self.search.range, ts_us)
                && equals(&self.search.service, service.get(row))
                && equals(&self.search.operation, name.get(row))
                && matches.is_valid(row)
                && matches.value(row);
            if !fits {
                continue;
            }
            if let Some(id) = batch.trace_id(row).filter(|id| !self.seen.contains(id)) {
                let bound = earliest.entry(id).or_insert(ts_us);
                *bound = ts_us.min(*bound);
            }
        }
        let count = self.seen.len() + earliest.len();
        if count > guard.memory_bytes_max / CANDIDATE_BYTES {
            return Err(QueryError::TooExpensive(format!(
                "more than {count} traces have a fitting span: narrow the time range or the conditions"
            )));
        }
        Ok(())
    }
}

fn latest(batch: &RecordBatch) -> i64 {
    let ts = Batch::new(batch).int("ts");
    (0..batch.num_rows()).filter_map(|row| ts.get(row)).max().unwrap_or(i64::MIN)
}

/// What is known of a trace while its spans come in.
#[derive(Default)]
struct Sum {
    spans: u64,
    /// First start and last end, ns.
    cover: Option<(i64, i64)>,
    /// Of the earliest span without parent: start, duration, service, operation.
    root: Option<(i64, i64, String, String)>,
    /// Of the earliest span: start, service, operation.
    first: Option<(i64, String, String)>,
    services: BTreeSet<String>,
    error_spans: u64,
    logs: u64,
    error_logs: u64,
}

/// Services told per trace at most.
const SERVICES_MAX: usize = 1000;

impl Sum {
    fn add(&mut self, start_ns: i64, duration_ns: i64, service: &str, name: &str, is_root: bool, failed: bool) {
        let end_ns = start_ns.saturating_add(duration_ns);
        self.spans += 1;
        self.error_spans += u64::from(failed);
        self.cover = match self.cover {
            None => Some((start_ns, end_ns)),
            Some((from, to)) => Some((from.min(start_ns), to.max(end_ns))),
        };
        if !self.services.contains(service) && self.services.len() < SERVICES_MAX {
            self.services.insert(service.to_owned());
        }
        if self.first.as_ref().is_none_or(|first| start_ns < first.0) {
            self.first = Some((start_ns, service.to_owned(), name.to_owned()));
        }
        if is_root && self.root.as_ref().is_none_or(|root| start_ns < root.0) {
            self.root = Some((start_ns, duration_ns, service.to_owned(), name.to_owned()));
        }
    }

    fn finish(self, trace_id: TraceId) -> Option<TraceSummary> {
        let (from, to) = self.cover?;
        let root_found = self.root.is_some();
        let (duration_ns, root_service, root_operation) = match (self.root, self.first) {
            (Some((_, duration_ns, service, name)), _) => (duration_ns, service, name),
            (None, Some((_, service, name))) => (to.saturating_sub(from), service, name),
            (None, None) => return None,
        };
        Some(TraceSummary {
            trace_id,
            root_service,
            root_operation,
            root_found,
            start_ns: from,
            duration_ns,
            spans: self.spans,
            services: self.services.into_iter().collect(),
            error_spans: self.error_spans,
            logs: self.logs,
            error_logs: self.error_logs,
        })
    }
}

/// Sums up whole traces.
fn summaries(snapshot: &Snapshot, ids: &[TraceId], guard: &Guard) -> Result<Vec<TraceSummary>, QueryError> {
    let mut sums: FxHashMap<TraceId, Sum> = ids.iter().map(|&id| (id, Sum::default())).collect();
    let prune = Prune { trace_ids: Some(ids.to_vec()), ..Prune::default() };
    let columns = ["ts", "ns", "trace_id", "parent_span_id", "service", "name"];
    let columns: Vec<&str> = columns.into_iter().chain(OUTCOME_COLUMNS).collect();
    for_each_batch(&snapshot.spans, Some(&columns), &prune, guard, |batch| {
        let batch = Batch::new(batch);
        let (ts, ns, outcomes) = (batch.int("ts"), batch.int("ns"), Outcomes::new(batch));
        let (service, name) = (batch.str("service"), batch.str("name"));
        for row in 0..batch.rows() {
            let Some(sum) = batch.trace_id(row).and_then(|id| sums.get_mut(&id)) else { continue };
            let start_us = ts.get(row).unwrap_or(0);
            sum.add(
                start_us.saturating_mul(1000).saturating_add(ns.get(row).unwrap_or(0)),
                outcomes.duration_ns(row),
                service.get(row).unwrap_or_default(),
                name.get(row).unwrap_or_default(),
                batch.parent_span_id(row).is_none(),
                outcomes.failed(row),
            );
        }
        Ok(())
    })?;
    for_each_batch(&snapshot.logs, Some(&["trace_id", "severity_number"]), &prune, guard, |batch| {
        let batch = Batch::new(batch);
        let severity = batch.int("severity_number");
        for row in 0..batch.rows() {
            let Some(sum) = batch.trace_id(row).and_then(|id| sums.get_mut(&id)) else { continue };
            sum.logs += 1;
            sum.error_logs += u64::from(severity.get(row).unwrap_or(0) >= SEVERITY_ERROR);
        }
        Ok(())
    })?;
    Ok(sums.into_iter().filter_map(|(id, sum)| sum.finish(id)).collect())
}
