//! Rate, errors and duration of spans over time, by service.
//!
//! Where all spans of a file are meant, its blocks of durations tell them by service and minute, rounded to buckets and
//! in order, so that no span is read. Elsewhere spans are read; a file's rows lie by service, then time: the spans of a
//! service and bucket come in a row, so that a group is looked up once a run.

use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use rustc_hash::FxHashMap;
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_model::trace::{OUTCOME_COLUMNS, Outcomes, duration_bucket};
use threadline_store::{SealedFile, Snapshot};

use super::histogram::Histogram;
use crate::aggregate::{bounds, interval};
use crate::counts::MINUTE_US;
use crate::lang::Expr;
use crate::matcher::{Matcher, prune};
use crate::search::TimeRange;
use crate::source::{Source, each_batch, sources};
use crate::{Guard, QueryError};

/// Bytes a group takes beside its durations, about.
const GROUP_BYTES: usize = 128;

/// What to sum up.
#[derive(Clone, Debug, Default)]
pub struct RedRequest {
    /// Condition on the spans.
    pub expr: Expr,
    /// Start of the spans.
    pub range: TimeRange,
    /// Width of a bucket in µs; `None` picks a round one that gives about 60 buckets.
    pub interval_us: Option<i64>,
}

/// Rate, errors and duration over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Red {
    /// Width of a bucket, µs. Buckets start at multiples of it.
    pub interval_us: i64,
    /// Start of the first bucket, µs.
    pub start_us: i64,
    /// Number of buckets.
    pub buckets: usize,
    /// By name.
    pub services: Vec<RedService>,
}

/// Figures of one service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RedService {
    /// Its name; `None` for spans without one.
    pub service: Option<String>,
    /// By bucket; those without spans are left out.
    pub points: Vec<RedPoint>,
}

/// Figures of one service and bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedPoint {
    /// Number of the bucket.
    pub bucket: usize,
    /// Spans.
    pub count: u64,
    /// Spans that failed: status error, or HTTP status 500 and above.
    pub errors: u64,
    /// Median duration, ns; at most 1 % off, as the others.
    pub p50_ns: i64,
    /// 95th percentile, ns.
    pub p95_ns: i64,
    /// 99th percentile, ns.
    pub p99_ns: i64,
}

#[derive(Default)]
struct Group {
    errors: u64,
    durations: Histogram,
}

impl Group {
    fn point(&mut self, bucket: usize) -> RedPoint {
        let [p50_ns, p95_ns, p99_ns] = self.durations.quantiles([0.5, 0.95, 0.99]);
        RedPoint { bucket, count: self.durations.count(), errors: self.errors, p50_ns, p95_ns, p99_ns }
    }
}

/// Spans of one group that come in a row.
#[derive(Default)]
struct Run {
    errors: u64,
    durations: Vec<u16>,
}

/// Sums up spans.
///
/// # Errors
/// Too many buckets, a bound that is hit, a condition that does not compile, or a store that fails.
pub fn red(snapshot: &Snapshot, request: &RedRequest, guard: &Guard) -> Result<Red, QueryError> {
    let matcher = Matcher::new(&request.expr, Table::Spans)?;
    let sources = sources(snapshot.table(Table::Spans));
    let prune = prune(&request.expr, Table::Spans, request.range);
    let (from, to) = bounds(&sources, prune.ts.clone());
    let interval_us = interval(request.interval_us, from, to)?;
    let start_us = from.div_euclid(interval_us) * interval_us;
    let buckets = if from >= to { 0 } else { ((to - 1 - start_us) / interval_us + 1) as usize };
    let mut names: FxHashMap<Option<String>, u32> = FxHashMap::default();
    let mut groups = Groups { memory_bytes_max: guard.memory_bytes_max, ..Groups::default() };
    let mut columns = vec!["service", "ts"];
    columns.extend(OUTCOME_COLUMNS);
    let whole = matcher.is_all() && interval_us % MINUTE_US == 0;
    for source in &sources {
        let buckets = Buckets { start_us, interval_us };
        if let (true, Source::File(file)) = (whole && source.is_within(request.range), source) {
            guard.check()?;
            if whole_file(file, buckets, &mut names, &mut groups)? {
                continue;
            }
        }
        each_batch(source, &matcher, &columns, &prune, request.range, guard, |batch, _, found| {
            let outcomes = Outcomes::new(Batch::new(batch));
            let ts = batch.column_by_name("ts").and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
            let service = batch.column_by_name("service").and_then(|a| a.as_dictionary_opt::<Int32Type>());
            let texts = service.and_then(|dict| dict.values().as_string_opt::<i32>());
            let (mut end_us, mut last_key, mut key) = (i64::MIN, None, (0, 0));
            let mut begin_us = i64::MAX;
            let mut run = Run::default();
            for row in found.iter() {
                let ts_us = ts.map_or(0, |ts| ts.value(row));
                let own = service.and_then(|dict| dict.key(row));
                if ts_us < begin_us || ts_us >= end_us || last_key != Some(own) {
                    groups.end_run(key, &mut run)?;
                    if last_key != Some(own) {
                        last_key = Some(own);
                        let name = own
                            .zip(texts)
                            .filter(|(at, texts)| texts.is_valid(*at))
                            .map(|(at, texts)| texts.value(at));
                        key.0 = number(&mut names, name);
                    }
                    key.1 = buckets.of(ts_us);
                    begin_us = start_us + key.1 * interval_us;
                    end_us = begin_us + interval_us;
                }
                run.errors += u64::from(outcomes.failed(row));
                run.durations.push(duration_bucket(outcomes.duration_ns(row)));
            }
            groups.end_run(key, &mut run)
        })?;
    }
    Ok(Red { interval_us, start_us, buckets, services: finish(names, groups) })
}

/// Groups by service and bucket.
#[derive(Default)]
struct Groups {
    groups: FxHashMap<(u32, i64), Group>,
    bytes: usize,
    memory_bytes_max: usize,
}

impl Groups {
    /// Adds spans of a group; the buckets of their durations ascend.
    fn add(&mut self, key: (u32, i64), errors: u64, durations: &[u16]) -> Result<(), QueryError> {
        if durations.is_empty() {
            return Ok(());
        }
        let groups = self.groups.len();
        let group = self.groups.entry(key).or_default();
        let before = group.durations.bytes();
        group.errors += errors;
        group.durations.add(durations);
        let after = group.durations.bytes();
        self.bytes = self.bytes + after - before + (self.groups.len() - groups) * GROUP_BYTES;
        if self.bytes > self.memory_bytes_max {
            return Err(QueryError::TooExpensive(
                "there are too many services and buckets: narrow the time range, or choose a longer interval"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Adds a run and empties it.
    fn end_run(&mut self, key: (u32, i64), run: &mut Run) -> Result<(), QueryError> {
        run.durations.sort_unstable();
        self.add(key, std::mem::take(&mut run.errors), &run.durations)?;
        run.durations.clear();
        Ok(())
    }
}

/// How time is divided.
#[derive(Clone, Copy)]
struct Buckets {
    start_us: i64,
    interval_us: i64,
}

impl Buckets {
    fn of(self, ts_us: i64) -> i64 {
        (ts_us - self.start_us).div_euclid(self.interval_us)
    }
}

/// Sums up all spans of a file by its block of durations; `false` when it has none. Buckets are whole minutes.
fn whole_file(
    file: &Arc<SealedFile>,
    buckets: Buckets,
    names: &mut FxHashMap<Option<String>, u32>,
    groups: &mut Groups,
) -> Result<bool, QueryError> {
    let Some(durations) = file.durations()? else { return Ok(false) };
    let numbers: Vec<u32> = durations.services.iter().map(|name| number(names, Some(name))).collect();
    let mut none = None;
    for run in &durations.runs {
        let known = run.service.and_then(|at| numbers.get(at as usize).copied());
        let number = known.unwrap_or_else(|| *none.get_or_insert_with(|| number(names, None)));
        groups.add((number, buckets.of(run.minute_us)), run.failed, durations.of(run))?;
    }
    Ok(true)
}

fn number(names: &mut FxHashMap<Option<String>, u32>, name: Option<&str>) -> u32 {
    let next = names.len() as u32;
    *names.entry(name.map(str::to_owned)).or_insert(next)
}

fn finish(names: FxHashMap<Option<String>, u32>, groups: Groups) -> Vec<RedService> {
    let mut services: Vec<RedService> = vec![RedService::default(); names.len()];
    for (name, number) in names {
        if let Some(service) = services.get_mut(number as usize) {
            service.service = name;
        }
    }
    for ((number, bucket), mut group) in groups.groups {
        let point = group.point(usize::try_from(bucket).unwrap_or(0));
        if let Some(service) = services.get_mut(number as usize) {
            service.points.push(point);
        }
    }
    services.retain(|service| !service.points.is_empty());
    services.iter_mut().for_each(|service| service.points.sort_unstable_by_key(|point| point.bucket));
    services.sort_by(|a, b| a.service.cmp(&b.service));
    services
}
