//! The graph of services, from two passes over the spans of a range: first which service each span belongs to, then
//! requests and calls. Memory is bounded: a span costs [`PARENT_BYTES`] in the first pass, services and calls have
//! caps, durations are counted in buckets. Every bound that is hit is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, FixedSizeBinaryArray};
use rustc_hash::FxHashMap;
use threadline_model::columns::{Batch, StrColumn};
use threadline_model::trace::{KIND_CONSUMER, KIND_SERVER, OUTCOME_COLUMNS, Outcomes};
use threadline_store::{Prune, Snapshot};

use super::histogram::Histogram;
use super::{
    Requests, SEVERITY_ERROR, ServiceEdge, ServiceGraph, ServiceNode, for_each_batch, in_range, prune_range,
};
use crate::search::TimeRange;
use crate::{Guard, QueryError};

/// Memory of a span in the parent lookup, bytes, about.
const PARENT_BYTES: usize = 32;
/// Parents are looked for this long before the range: 10 minutes, µs.
const PARENT_REACH_US: i64 = 600_000_000;
/// Services told at most; further ones are summed up as [`OTHERS`].
const SERVICES_MAX: usize = 2_000;
/// Calls told at most.
const EDGES_MAX: usize = 20_000;
/// Stands for services beyond the cap.
const OTHERS: &str = "(others)";

/// Computes the graph of services.
pub fn services(snapshot: &Snapshot, range: TimeRange, guard: &Guard) -> Result<ServiceGraph, QueryError> {
    let mut names = Names::default();
    let parents = Parents::read(snapshot, range, guard, &mut names)?;
    let mut count = Count::default();
    count.spans(snapshot, range, guard, &parents, &mut names)?;
    count.logs(snapshot, range, guard, &mut names)?;
    Ok(count.finish(range, &parents, names))
}

/// Services as small numbers.
#[derive(Default)]
struct Names {
    list: Vec<Arc<str>>,
    known: FxHashMap<Arc<str>, u32>,
    capped: bool,
}

impl Names {
    fn index(&mut self, name: &str) -> u32 {
        if let Some(&index) = self.known.get(name) {
            return index;
        }
        let full = self.list.len() >= SERVICES_MAX;
        self.capped |= full;
        if full && name != OTHERS {
            return self.index(OTHERS);
        }
        let (name, index) = (Arc::<str>::from(name), self.list.len() as u32);
        self.list.push(Arc::clone(&name));
        self.known.insert(name, index);
        index
    }

    /// The service of each row; names are looked up once per distinct value.
    fn of_rows(&mut self, batch: Batch<'_>) -> Vec<u32> {
        let column = batch.str("service");
        let rows = 0..batch.rows();
        match column {
            StrColumn::Dictionary(keys, values) => {
                let unknown = self.index("");
                let indexes: Vec<u32> = (0..values.len())
                    .map(|at| if values.is_valid(at) { self.index(values.value(at)) } else { unknown })
                    .collect();
                let of_key = |key: i32| usize::try_from(key).ok().and_then(|key| indexes.get(key)).copied();
                rows.map(|row| {
                    let key = keys.is_valid(row).then(|| keys.value(row));
                    key.and_then(of_key).unwrap_or(unknown)
                })
                .collect()
            }
            other => rows.map(|row| self.index(other.get(row).unwrap_or_default())).collect(),
        }
    }

    fn name(&self, index: u32) -> String {
        self.list.get(index as usize).map(ToString::to_string).unwrap_or_default()
    }
}

/// Which service a span belongs to.
struct Parents {
    services: FxHashMap<u64, u32>,
    capped: bool,
}

impl Parents {
    fn read(
        snapshot: &Snapshot,
        range: TimeRange,
        guard: &Guard,
        names: &mut Names,
    ) -> Result<Parents, QueryError> {
        let reach = TimeRange {
            from_us: range.from_us.map(|from| from.saturating_sub(PARENT_REACH_US)),
            to_us: range.to_us,
        };
        let prune = Prune { ts: prune_range(reach), ..Prune::default() };
        let spans_max = guard.memory_bytes_max / 2 / PARENT_BYTES;
        let mut parents = Parents { services: FxHashMap::default(), capped: false };
        let columns = ["ts", "trace_id", "span_id", "service"];
        for_each_batch(&snapshot.spans, Some(&columns), &prune, guard, |batch| {
            let batch = Batch::new(batch);
            let (ts, services) = (batch.int("ts"), names.of_rows(batch));
            let (traces, spans) = (batch.ids("trace_id"), batch.ids("span_id"));
            for (row, service) in services.into_iter().enumerate() {
                let Some(key) = key(traces, spans, row) else { continue };
                if !in_range(reach, ts.get(row).unwrap_or(0)) {
                    continue;
                }
                if parents.services.len() >= spans_max {
                    parents.capped = true;
                    break;
                }
                parents.services.insert(key, service);
            }
            Ok(())
        })?;
        Ok(parents)
    }
}

/// One number for a trace id and a span id. Span ids are random: that two spans of a range share a number is as
/// unlikely as that they share an id.
fn key(traces: Option<&FixedSizeBinaryArray>, spans: Option<&FixedSizeBinaryArray>, row: usize) -> Option<u64> {
    let id = |ids: Option<&FixedSizeBinaryArray>| -> Option<u64> {
        let ids = ids.filter(|ids| row < ids.len() && ids.is_valid(row))?;
        Some(u64::from_be_bytes(*ids.value(row).last_chunk()?))
    };
    Some(id(spans)? ^ id(traces)?.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32))
}

#[derive(Default)]
struct Tally {
    count: u64,
    errors: u64,
    durations: Histogram,
}

impl Tally {
    fn add(&mut self, duration_ns: i64, failed: bool) {
        self.count += 1;
        self.errors += u64::from(failed);
        self.durations.record(duration_ns);
    }

    fn finish(mut self) -> Requests {
        Requests { count: self.count, errors: self.errors, latency: self.durations.latency() }
    }
}

#[derive(Default)]
struct NodeTally {
    requests: Tally,
    spans: u64,
    logs: u64,
    error_logs: u64,
}

#[derive(Default)]
struct Count {
    nodes: BTreeMap<u32, NodeTally>,
    edges: BTreeMap<(u32, u32), Tally>,
    seen_us: Option<(i64, i64)>,
    orphans: u64,
    edges_capped: bool,
}

impl Count {
    fn see(&mut self, ts_us: i64) {
        let (from, to) = self.seen_us.unwrap_or((ts_us, ts_us));
        self.seen_us = Some((from.min(ts_us), to.max(ts_us)));
    }

    fn spans(
        &mut self,
        snapshot: &Snapshot,
        range: TimeRange,
        guard: &Guard,
        parents: &Parents,
        names: &mut Names,
    ) -> Result<(), QueryError> {
        let prune = Prune { ts: prune_range(range), ..Prune::default() };
        let columns = ["ts", "trace_id", "parent_span_id", "service", "kind"];
        let columns: Vec<&str> = columns.into_iter().chain(OUTCOME_COLUMNS).collect();
        for_each_batch(&snapshot.spans, Some(&columns), &prune, guard, |batch| {
            let batch = Batch::new(batch);
            let (ts, kind, outcomes) = (batch.int("ts"), batch.int("kind"), Outcomes::new(batch));
            let (traces, parent_ids) = (batch.ids("trace_id"), batch.ids("parent_span_id"));
            for (row, service) in names.of_rows(batch).into_iter().enumerate() {
                let ts_us = ts.get(row).unwrap_or(0);
                if !in_range(range, ts_us) {
                    continue;
                }
                self.see(ts_us);
                let parent_key = batch.parent_span_id(row).and_then(|_| key(traces, parent_ids, row));
                let parent = parent_key.and_then(|key| parents.services.get(&key).copied());
                self.orphans += u64::from(parent_key.is_some() && parent.is_none());
                let kind = kind.get(row).unwrap_or(0);
                let serves = kind == i64::from(KIND_SERVER) || kind == i64::from(KIND_CONSUMER);
                let node = self.nodes.entry(service).or_default();
                node.spans += 1;
                if serves || parent != Some(service) {
                    node.requests.add(outcomes.duration_ns(row), outcomes.failed(row));
                }
                if let Some(caller) = parent.filter(|&parent| parent != service) {
                    self.call((caller, service), outcomes.duration_ns(row), outcomes.failed(row));
                }
            }
            Ok(())
        })
    }

    fn call(&mut self, edge: (u32, u32), duration_ns: i64, failed: bool) {
        if self.edges.len() >= EDGES_MAX && !self.edges.contains_key(&edge) {
            self.edges_capped = true;
            return;
        }
        self.edges.entry(edge).or_default().add(duration_ns, failed);
    }

    fn logs(
        &mut self,
        snapshot: &Snapshot,
        range: TimeRange,
        guard: &Guard,
        names: &mut Names,
    ) -> Result<(), QueryError> {
        let prune = Prune { ts: prune_range(range), ..Prune::default() };
        let columns = ["ts", "service", "severity_number"];
        for_each_batch(&snapshot.logs, Some(&columns), &prune, guard, |batch| {
            let batch = Batch::new(batch);
            let (ts, severity) = (batch.int("ts"), batch.int("severity_number"));
            for (row, service) in names.of_rows(batch).into_iter().enumerate() {
                let ts_us = ts.get(row).unwrap_or(0);
                if !in_range(range, ts_us) {
                    continue;
                }
                self.see(ts_us);
                let node = self.nodes.entry(service).or_default();
                node.logs += 1;
                node.error_logs += u64::from(severity.get(row).unwrap_or(0) >= SEVERITY_ERROR);
            }
            Ok(())
        })
    }

    fn finish(self, range: TimeRange, parents: &Parents, names: Names) -> ServiceGraph {
        let range_us = self
            .seen_us
            .map(|(from, to)| (range.from_us.unwrap_or(from), range.to_us.unwrap_or(to.saturating_add(1))));
        let seconds = range_us.map_or(0.0, |(from, to)| to.saturating_sub(from) as f64 / 1e6);
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let notes = self.notes(parents, &names);
        let mut services: Vec<ServiceNode> = self
            .nodes
            .into_iter()
            .map(|(index, node)| ServiceNode {
                service: names.name(index),
                rate: rate(node.requests.count),
                requests: node.requests.finish(),
                spans: node.spans,
                logs: node.logs,
                error_logs: node.error_logs,
            })
            .collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        let mut edges: Vec<ServiceEdge> = self
            .edges
            .into_iter()
            .map(|((caller, callee), tally)| ServiceEdge {
                caller: names.name(caller),
                callee: names.name(callee),
                requests: tally.finish(),
            })
            .collect();
        edges.sort_by(|a, b| (&a.caller, &a.callee).cmp(&(&b.caller, &b.callee)));
        ServiceGraph { services, edges, range_us, notes }
    }

    fn notes(&self, parents: &Parents, names: &Names) -> Vec<String> {
        let mut notes = Vec::new();
        if parents.capped {
            notes.push(format!(
                "the range has more spans than memory holds: the callers of {} spans are unknown, so calls are \
                 missing and requests are too many; narrow the range",
                self.orphans
            ));
        } else if self.orphans > 0 {
            notes.push(format!(
                "{} spans name a parent that is not here; they count as requests without a caller",
                self.orphans
            ));
        }
        if names.capped {
            notes.push(format!("more than {SERVICES_MAX} services: the rest is summed up as {OTHERS}"));
        }
        if self.edges_capped {
            notes.push(format!("more than {EDGES_MAX} pairs of callers and callees: the rest is left out"));
        }
        notes
    }
}
