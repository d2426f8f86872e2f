//! Rate, errors and duration of spans over time, by service.
//!
//! A file's rows lie by service, then time: the spans of a service and bucket come in a row, so that a group is looked
//! up once a run. Where all spans of a file are meant, its roll-up says how long these runs are and how many of their
//! spans have failed, and only durations are read. Durations of small groups are kept as they are, those of large ones
//! in log-linear buckets.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use rustc_hash::FxHashMap;
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_store::{Prune, RollupEntry, Scan, SealedFile, Snapshot, StoreError, ValueTest};

use super::histogram::Histogram;
use super::{OUTCOME_COLUMNS, Outcomes, STATUS_ERROR, SUSPECT};
use crate::aggregate::{bounds, interval};
use crate::counts::MINUTE_US;
use crate::lang::Expr;
use crate::matcher::{Matcher, prune};
use crate::search::TimeRange;
use crate::source::{Source, each_batch, sources};
use crate::{Guard, QueryError};

/// Durations kept as they are, per group.
const EXACT_MAX: usize = 1024;
/// Bytes a group takes, about.
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
    count: u64,
    errors: u64,
    exact: Vec<i64>,
    rest: Option<Box<Histogram>>,
}

impl Group {
    #[inline]
    fn add(&mut self, duration_ns: i64, failed: bool) {
        self.errors += u64::from(failed);
        self.add_duration(duration_ns);
    }

    #[inline]
    fn add_duration(&mut self, duration_ns: i64) {
        self.count += 1;
        match &mut self.rest {
            Some(rest) => rest.record(duration_ns),
            None => {
                self.exact.push(duration_ns);
                if self.exact.len() > EXACT_MAX {
                    let mut rest = Box::new(Histogram::default());
                    self.exact.drain(..).for_each(|duration| rest.record(duration));
                    self.exact = Vec::new();
                    self.rest = Some(rest);
                }
            }
        }
    }

    fn point(&mut self, bucket: usize) -> RedPoint {
        let [p50_ns, p95_ns, p99_ns] = match &self.rest {
            Some(rest) => SHARES.map(|share| rest.quantile(share)),
            None => quantiles(&mut self.exact),
        };
        RedPoint { bucket, count: self.count, errors: self.errors, p50_ns, p95_ns, p99_ns }
    }
}

/// The shares of durations that are told.
const SHARES: [f64; 3] = [0.5, 0.95, 0.99];

/// The durations that [`SHARES`] of them do not exceed; their order changes.
fn quantiles(durations: &mut [i64]) -> [i64; 3] {
    // Whatever comes before a quantile that was found is no larger: the next one lies behind it.
    let (count, mut from) = (durations.len(), 0);
    SHARES.map(|share| {
        let rank = ((share * count as f64).ceil() as usize).max(1) - 1;
        let rest = durations.get_mut(from..).unwrap_or_default();
        let found = rank.checked_sub(from).filter(|at| *at < rest.len());
        from = rank.max(from);
        found.map_or(0, |at| *rest.select_nth_unstable(at).1)
    })
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
    let mut groups = Groups::default();
    let mut columns = vec!["service", "ts"];
    columns.extend(OUTCOME_COLUMNS);
    let mut exact = 0;
    let bounded = |exact: usize, groups: &Groups| {
        let bytes = exact.min(groups.len() * EXACT_MAX * size_of::<i64>()) + groups.len() * GROUP_BYTES;
        if bytes > guard.memory_bytes_max {
            return Err(QueryError::TooExpensive(
                "there are too many services and buckets: narrow the time range, or choose a longer interval"
                    .to_owned(),
            ));
        }
        Ok(())
    };
    let whole = matcher.is_all() && interval_us % MINUTE_US == 0;
    for source in &sources {
        let buckets = Buckets { start_us, interval_us };
        if let (true, Source::File(file)) = (whole && source.is_within(request.range), source)
            && whole_file(file, buckets, &mut names, &mut groups, guard)?
        {
            exact += source.rows() as usize * size_of::<i64>();
            bounded(exact, &groups)?;
            continue;
        }
        each_batch(source, &matcher, &columns, &prune, request.range, guard, |batch, _, found| {
            let outcomes = Outcomes::new(Batch::new(batch));
            let ts = batch.column_by_name("ts").and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
            let service = batch.column_by_name("service").and_then(|a| a.as_dictionary_opt::<Int32Type>());
            let texts = service.and_then(|dict| dict.values().as_string_opt::<i32>());
            let plain = Plain::new(batch);
            let (mut end_us, mut last_key, mut key) = (i64::MIN, None, (0, 0));
            let mut begin_us = i64::MAX;
            let mut group = Group::default();
            for row in found.iter() {
                let ts_us = ts.map_or(0, |ts| ts.value(row));
                let own = service.and_then(|dict| dict.key(row));
                if ts_us < begin_us || ts_us >= end_us || last_key != Some(own) {
                    put(&mut groups, key, std::mem::take(&mut group));
                    if last_key != Some(own) {
                        last_key = Some(own);
                        let name = own
                            .zip(texts)
                            .filter(|(at, texts)| texts.is_valid(*at))
                            .map(|(at, texts)| texts.value(at));
                        key.0 = number(&mut names, name);
                    }
                    key.1 = (ts_us - start_us).div_euclid(interval_us);
                    begin_us = start_us + key.1 * interval_us;
                    end_us = begin_us + interval_us;
                }
                match &plain {
                    Some(plain) => {
                        group.add(plain.durations.get(row).copied().unwrap_or(0).max(0), plain.failed(row))
                    }
                    None => group.add(outcomes.duration_ns(row), outcomes.failed(row)),
                }
            }
            put(&mut groups, key, group);
            exact += found.count() * size_of::<i64>();
            bounded(exact, &groups)
        })?;
    }
    Ok(Red { interval_us, start_us, buckets, services: finish(names, groups) })
}

/// Groups by service and bucket.
type Groups = FxHashMap<(u32, i64), Group>;

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

/// Sums up all spans of a file by its roll-up and its durations; `false` when they do not tell. Buckets are whole minutes.
fn whole_file(
    file: &Arc<SealedFile>,
    buckets: Buckets,
    names: &mut FxHashMap<Option<String>, u32>,
    groups: &mut Groups,
    guard: &Guard,
) -> Result<bool, QueryError> {
    let rollup = file.rollup()?;
    let told: u64 = rollup.entries.iter().map(|entry| entry.rows).sum();
    if told != file.meta().rows || !file.has_column("duration_ns")? {
        return Ok(false);
    }
    let numbers: Vec<u32> = rollup.services.iter().map(|name| number(names, Some(name))).collect();
    let none = rollup.entries.first().is_some_and(|entry| entry.service.is_none());
    let none = if none { number(names, None) } else { 0 };
    let key = |entry: &RollupEntry| {
        let number = entry.service.map_or(none, |at| numbers.get(at as usize).copied().unwrap_or(none));
        (number, buckets.of(entry.minute_us))
    };
    let mut rest = Rest::new(file, guard)?;
    for run in rollup.entries.chunk_by(|a, b| key(a) == key(b)) {
        let Some(first) = run.first() else { continue };
        let rows = run.iter().map(|entry| entry.rows).sum();
        let failed = run.iter().filter(|entry| i64::from(entry.class) == STATUS_ERROR);
        let mut group = Group { errors: failed.map(|entry| entry.rows).sum(), ..Group::default() };
        group.exact.reserve(usize::try_from(rows).unwrap_or(0).min(EXACT_MAX + 1));
        rest.take(rows, &mut group)?;
        put(groups, key(first), group);
    }
    Ok(true)
}

/// What a roll-up does not tell of the spans of a file, in its order: durations, and failures by HTTP status alone.
struct Rest<'a> {
    batches: Scan,
    guard: &'a Guard,
    batch: Option<(RecordBatch, usize)>,
}

impl<'a> Rest<'a> {
    fn new(file: &Arc<SealedFile>, guard: &'a Guard) -> Result<Self, QueryError> {
        const HTTP: &str = "http.response.status_code";
        let server_error = |status: &str| status.parse().is_ok_and(|status: i64| status >= 500);
        let test = ValueTest::Fulfils("500 and above".to_owned(), Arc::new(server_error));
        let suspect = |verdict: &str| verdict.parse().is_ok_and(|bits: i64| bits & SUSPECT != 0);
        let suspect = ValueTest::Fulfils("suspect time".to_owned(), Arc::new(suspect));
        let mut columns = vec!["duration_ns"];
        if file.may_have_value("verdict", &suspect)? {
            columns.push("verdict");
        }
        if file.may_have_value(HTTP, &test)? {
            columns.extend(["status_code", HTTP]);
        }
        let batches = file.scan(Some(&columns), &Prune::default())?;
        Ok(Rest { batches, guard, batch: None })
    }

    /// Moves what is known of the next rows into a group.
    fn take(&mut self, mut rows: u64, group: &mut Group) -> Result<(), QueryError> {
        while rows > 0 {
            let Some((batch, at)) = self.batch.take() else {
                self.guard.check()?;
                let batch = self.batches.next().transpose()?;
                let short = || StoreError::corrupt("a sealed file has fewer rows than its roll-up says");
                self.batch = Some((batch.ok_or_else(short)?, 0));
                continue;
            };
            let taken = (batch.num_rows() - at).min(usize::try_from(rows).unwrap_or(usize::MAX));
            match Plain::new(&batch) {
                Some(plain) => {
                    let durations = plain.durations.get(at..at + taken).unwrap_or_default();
                    durations.iter().for_each(|duration| group.add_duration((*duration).max(0)));
                    group.errors += plain.failed_by_http(at..at + taken);
                }
                None => {
                    let outcomes = Outcomes::new(Batch::new(&batch));
                    for row in at..at + taken {
                        group.add_duration(outcomes.duration_ns(row));
                        group.errors += u64::from(outcomes.failed_by_http(row));
                    }
                }
            }
            rows -= taken as u64;
            if at + taken < batch.num_rows() {
                self.batch = Some((batch, at + taken));
            }
        }
        Ok(())
    }
}

fn number(names: &mut FxHashMap<Option<String>, u32>, name: Option<&str>) -> u32 {
    let next = names.len() as u32;
    *names.entry(name.map(str::to_owned)).or_insert(next)
}

fn put(groups: &mut Groups, key: (u32, i64), group: Group) {
    if group.count == 0 {
        return;
    }
    match groups.entry(key) {
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert(group);
        }
        std::collections::hash_map::Entry::Occupied(mut entry) => {
            let known = entry.get_mut();
            let errors = known.errors + group.errors;
            match group.rest {
                Some(rest) => match &mut known.rest {
                    Some(own) => own.merge(&rest),
                    None => {
                        let mut rest = rest;
                        known.exact.drain(..).for_each(|duration| rest.record(duration));
                        known.rest = Some(rest);
                    }
                },
                None => group.exact.iter().for_each(|duration| known.add(*duration, false)),
            }
            known.count = match &known.rest {
                Some(rest) => rest.count(),
                None => known.exact.len() as u64,
            };
            known.errors = errors;
        }
    }
}

fn finish(names: FxHashMap<Option<String>, u32>, groups: Groups) -> Vec<RedService> {
    let mut services: Vec<RedService> = vec![RedService::default(); names.len()];
    for (name, number) in names {
        if let Some(service) = services.get_mut(number as usize) {
            service.service = name;
        }
    }
    for ((number, bucket), mut group) in groups {
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

/// Columns of a batch in which durations are never null and no time is suspect: read without looking at each null.
struct Plain<'a> {
    durations: &'a [i64],
    status: Option<&'a arrow_array::Int32Array>,
    http: Option<&'a arrow_array::Int64Array>,
}

impl<'a> Plain<'a> {
    fn new(batch: &'a arrow_array::RecordBatch) -> Option<Self> {
        let column = |name: &str| batch.column_by_name(name);
        let verdict = column("verdict").and_then(|verdict| verdict.as_primitive_opt::<Int64Type>());
        if verdict.is_some_and(|verdict| verdict.iter().flatten().any(|bits| bits & SUSPECT != 0)) {
            return None;
        }
        let durations =
            column("duration_ns")?.as_primitive_opt::<Int64Type>().filter(|d| d.null_count() == 0)?;
        Some(Plain {
            durations: durations.values(),
            status: column("status_code").and_then(|a| a.as_primitive_opt()),
            http: column("http.response.status_code").and_then(|a| a.as_primitive_opt()),
        })
    }

    /// How many of these rows failed by their HTTP status alone.
    fn failed_by_http(&self, rows: Range<usize>) -> u64 {
        let Some(http) = self.http else { return 0 };
        let statuses = http.values().get(rows.clone()).unwrap_or_default();
        let failed = rows.zip(statuses).filter(|(row, status)| {
            **status >= 500
                && http.is_valid(*row)
                && !self.status.is_some_and(|s| s.is_valid(*row) && i64::from(s.value(*row)) == STATUS_ERROR)
        });
        failed.count() as u64
    }

    fn failed(&self, row: usize) -> bool {
        self.status.is_some_and(|s| s.is_valid(row) && i64::from(s.value(row)) == STATUS_ERROR)
            || self.http.is_some_and(|h| h.is_valid(row) && h.value(row) >= 500)
    }
}
