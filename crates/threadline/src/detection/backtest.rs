//! Rules over what is stored: the findings that streaming the same records in their order would have given.
//!
//! Sources are read in the order of the sequence numbers that they begin with, several at a time. Of each, the columns
//! that its rules look at, of the rows that may have what rules need ([`Pushdown`]); rules that cannot match in a source
//! count for neither. Records that some rule matches, and of all others the times, wait until no source that is left can
//! have an earlier one; then they go, in the order of their sequence numbers, through an engine of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use arrow_array::{BooleanArray, RecordBatch, UInt32Array};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use serde_json::{Value, json};
use threadline_detect::engine::{Engine, Limits, Passing};
use threadline_detect::finding::Finding;
use threadline_detect::matcher::{RuleIndex, Scratch};
use threadline_detect::rules::RuleSet;
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_query::search::TimeRange;
use threadline_query::source::{Source, sources};
use threadline_query::{Guard, QueryError};
use threadline_store::{IndexPlan, Snapshot, StoreError};

use super::pushdown::{Pushdown, Reading, pruned, times};
use crate::rows::time_text;

/// Threads that read at most.
const THREADS_MAX: usize = 8;

/// A source to read: its lowest sequence number, what rules ask of its table, the table.
type Left<'a> = (i64, &'a Pushdown<'a>, Table, Source);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Backtest {
    /// Records in range.
    pub(crate) records: u64,
    /// Those that rules were asked about: the others cannot match.
    pub(crate) records_read: u64,
    /// Records that some rule matches.
    pub(crate) hits: u64,
    /// Lowest and highest event time, µs.
    pub(crate) first_us: Option<i64>,
    pub(crate) last_us: Option<i64>,
    /// In the order in which they would have come.
    pub(crate) findings: Vec<Finding>,
    /// Titles of the rules of which no index knows anything: they are asked about every record.
    pub(crate) full_scan_rules: Vec<String>,
}

/// Runs rules over a snapshot.
///
/// # Errors
/// A bound of the guard, or a store that fails.
pub(crate) fn backtest(
    snapshot: &Snapshot,
    rules: &Arc<RuleSet>,
    range: TimeRange,
    guard: &Guard,
) -> Result<Backtest, QueryError> {
    let demands = rules.matcher().demands();
    let plans = Table::ALL.map(|table| (table, Pushdown::new(rules, &demands, table)));
    let mut titles: Vec<String> = plans
        .iter()
        .flat_map(|(_, plan)| plan.full_scans())
        .filter_map(|demand| rules.rule_of_hit(demand.rule))
        .map(|meta| meta.title.clone())
        .collect();
    titles.sort_unstable();
    titles.dedup();
    let only_time = pruned(range, IndexPlan::All);
    let mut left: Vec<Left<'_>> = Vec::new();
    for (table, plan) in &plans {
        let of_table = sources(snapshot.table(*table)).into_iter();
        let within = of_table.filter(|source| !source.excluded_by(&only_time));
        left.extend(within.map(|source| (first_seq(&source), plan, *table, source)));
    }
    left.sort_by_key(|(seq, ..)| *seq);
    let reader = Reader {
        rules,
        range,
        guard,
        held: AtomicUsize::new(0),
        ahead: AtomicUsize::new(0),
        has_hits: AtomicBool::new(false),
    };
    let mut replay = Replay {
        reader: &reader,
        engine: Engine::new(Arc::clone(rules), Limits::default()),
        sets: HitSets::default(),
        runs: Vec::new(),
        order: Vec::new(),
        others: Vec::new(),
        untimed: Vec::new(),
        last_us: i64::MIN,
        found_bytes: 0,
        out: Backtest { full_scan_rules: titles, ..Backtest::default() },
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(left.len());
    thread::scope(|scope| {
        // Each thread reads every so many-th source, and is at most two ahead.
        let readers: Vec<_> = (0..threads)
            .map(|first| {
                let (out, results) = sync_channel(1);
                let (reader, left) = (&reader, &left);
                let started =
                    thread::Builder::new().name("backtest".to_owned()).spawn_scoped(scope, move || {
                        reader.read_all(left.iter().skip(first).step_by(threads), &out)
                    });
                started.map(|_| results).map_err(|error| {
                    QueryError::Store(StoreError::io("starting a thread of the back-test", error))
                })
            })
            .collect::<Result<_, _>>()?;
        for (at, ((_, _, table, source), results)) in left.iter().zip(readers.iter().cycle()).enumerate() {
            // A thread that ended without a word has panicked: the scope says so.
            let Ok(looked) = results.recv() else { break };
            replay.take(*table, source, looked?)?;
            replay.flush(left.get(at + 1).map_or(i64::MAX, |(seq, ..)| *seq))?;
        }
        Ok::<(), QueryError>(())
    })?;
    if let Some(to) = range.to_us.filter(|to| *to > replay.last_us) {
        let findings = replay.engine.advance(to);
        replay.found(findings)?;
    }
    Ok(replay.out)
}

/// The lowest sequence number.
fn first_seq(source: &Source) -> i64 {
    match source {
        Source::Memory { batch, .. } => {
            let seq = Batch::new(batch).int("seq");
            (0..batch.num_rows()).filter_map(|row| seq.get(row)).min().unwrap_or(i64::MAX)
        }
        Source::File(file) => *file.meta().seq.start(),
    }
}

/// Sets of rules that match a record, each kept once.
#[derive(Debug, Default)]
struct HitSets {
    sets: Vec<Arc<[RuleIndex]>>,
    numbers: HashMap<Arc<[RuleIndex]>, u32>,
}

impl HitSets {
    fn number(&mut self, hits: &[RuleIndex]) -> u32 {
        if let Some(number) = self.numbers.get(hits) {
            return *number;
        }
        let (number, set) = (self.sets.len() as u32, Arc::from(hits));
        self.sets.push(Arc::clone(&set));
        self.numbers.insert(set, number);
        number
    }

    fn get(&self, number: u32) -> &[RuleIndex] {
        self.sets.get(number as usize).map_or(&[], |set| set)
    }
}

/// Records of one source that rules match, in the order of their sequence numbers.
#[derive(Debug)]
struct Run {
    table: Table,
    batch: RecordBatch,
    /// For each row the set of rules.
    sets: Vec<u32>,
    /// How many of them wait.
    waiting: usize,
    bytes: usize,
}

/// What a source has.
#[derive(Debug, Default)]
struct Looked {
    /// Records that rules were asked about.
    records_read: u64,
    /// Those that some rule matches.
    matching: Vec<RecordBatch>,
    /// For each of them the number of its set of rules, among these.
    sets: Vec<u32>,
    numbered: HitSets,
    /// The times of all records in range; `None` while they do not matter.
    times: Option<Times>,
    /// Bytes of what matches.
    bytes: usize,
}

/// The times of a source's records in range.
#[derive(Debug, Default)]
struct Times {
    records: u64,
    first_us: Option<i64>,
    last_us: Option<i64>,
    /// Those that move a clock, in the order of their sequence numbers.
    passing: Vec<Passing>,
}

impl Times {
    fn add(&mut self, batch: &RecordBatch, table: Table, range: TimeRange) {
        let ts = Batch::new(batch).int("ts");
        let within = |row: usize| range.contains(ts.get(row).unwrap_or(0));
        for (_, other) in Passing::of(batch, table).enumerate().filter(|(row, _)| within(*row)) {
            self.records += 1;
            self.first_us = Some(self.first_us.map_or(other.time_us, |first| first.min(other.time_us)));
            self.last_us = self.last_us.max(Some(other.time_us));
            self.passing.push(other);
        }
    }

    /// Only those matter that move the clock: the others lie behind an earlier record of the same source.
    fn forget_followers(&mut self) {
        self.passing.sort_unstable_by_key(|other| other.seq);
        let (mut time_us, mut arrival_us) = (i64::MIN, i64::MIN);
        self.passing.retain(|other| {
            let moves = other.arrival_us > arrival_us || (!other.is_finding && other.time_us > time_us);
            arrival_us = arrival_us.max(other.arrival_us);
            if !other.is_finding {
                time_us = time_us.max(other.time_us);
            }
            moves
        });
    }
}

/// What the threads that read share.
struct Reader<'a> {
    rules: &'a Arc<RuleSet>,
    range: TimeRange,
    guard: &'a Guard,
    /// Bytes of what waits to be replayed.
    held: AtomicUsize,
    /// Bytes of what was read and is not taken yet.
    ahead: AtomicUsize,
    /// Whether any source had a record that some rule matches: until then no time matters.
    has_hits: AtomicBool,
}

impl Reader<'_> {
    /// Reads sources until nobody takes what they have.
    fn read_all<'s>(
        &self,
        sources: impl Iterator<Item = &'s Left<'s>>,
        out: &SyncSender<Result<Looked, QueryError>>,
    ) {
        let mut scratch = Scratch::default();
        for (_, plan, table, source) in sources {
            let looked = self.read(plan, *table, source, &mut scratch);
            let failed = looked.is_err();
            if out.send(looked).is_err() || failed {
                return;
            }
        }
    }

    /// Takes the records of a source.
    fn read(
        &self,
        plan: &Pushdown<'_>,
        table: Table,
        source: &Source,
        scratch: &mut Scratch,
    ) -> Result<Looked, QueryError> {
        self.guard.check()?;
        let mut looked = Looked::default();
        if let Some(reading) = plan.reading(source, self.guard)? {
            self.look(plan, table, source, reading, scratch, &mut looked)?;
        }
        if !looked.sets.is_empty() {
            self.has_hits.store(true, Ordering::Relaxed);
        }
        let times_matter = self.has_hits.load(Ordering::Relaxed) || !source.is_within(self.range);
        match &mut looked.times {
            Some(times) => times.forget_followers(),
            None if times_matter => looked.times = Some(self.times(table, source)?),
            None => {}
        }
        Ok(looked)
    }

    /// The times of a source's records.
    fn times(&self, table: Table, source: &Source) -> Result<Times, QueryError> {
        let mut found = Times::default();
        for batch in source.scan(Some(&times(source)?), &pruned(self.range, IndexPlan::All))? {
            self.guard.check()?;
            found.add(&batch?, table, self.range);
        }
        found.forget_followers();
        Ok(found)
    }

    /// Asks the rules about the records of a source.
    fn look(
        &self,
        plan: &Pushdown<'_>,
        table: Table,
        source: &Source,
        reading: Reading,
        scratch: &mut Scratch,
        looked: &mut Looked,
    ) -> Result<(), QueryError> {
        let Reading { columns, index } = reading;
        if index == IndexPlan::All {
            looked.times = Some(Times::default());
        }
        let columns: Option<Vec<&str>> =
            columns.as_ref().map(|columns| columns.iter().map(String::as_str).collect());
        let bodies = match source {
            Source::File(file) => plan.has_map_bodies(Some(file))?,
            Source::Memory { .. } => plan.has_map_bodies(None)?,
        };
        for batch in source.scan(columns.as_deref(), &pruned(self.range, index))? {
            self.guard.check()?;
            let batch = batch?;
            if let Some(times) = &mut looked.times {
                times.add(&batch, table, self.range);
            }
            if let Some(batch) = self.matching(&batch, table, scratch, looked)? {
                let schema = batch.schema();
                let wanted: Vec<usize> = (0..schema.fields().len())
                    .filter(|at| {
                        schema.fields().get(*at).is_some_and(|field| plan.is_kept(field.name(), bodies))
                    })
                    .collect();
                let batch = batch.project(&wanted)?;
                let bytes = batch.get_array_memory_size();
                looked.bytes += bytes;
                let ahead = self.ahead.fetch_add(bytes, Ordering::Relaxed) + bytes;
                self.check_size(self.held.load(Ordering::Relaxed) + ahead)?;
                looked.matching.push(batch);
            }
        }
        Ok(())
    }

    /// The records of a batch in range that some rule matches.
    fn matching(
        &self,
        batch: &RecordBatch,
        table: Table,
        scratch: &mut Scratch,
        looked: &mut Looked,
    ) -> Result<Option<RecordBatch>, QueryError> {
        let ts = Batch::new(batch).int("ts");
        let mut keep = vec![false; batch.num_rows()];
        let (range, before) = (self.range, looked.sets.len());
        self.rules.matcher().scan(batch, table, scratch, |row, hits| {
            if !range.contains(ts.get(row.row).unwrap_or(0)) {
                return;
            }
            looked.records_read += 1;
            if !hits.is_empty()
                && let Some(slot) = keep.get_mut(row.row)
            {
                *slot = true;
                looked.sets.push(looked.numbered.number(hits));
            }
        });
        if looked.sets.len() == before {
            return Ok(None);
        }
        Ok(Some(filter_record_batch(batch, &BooleanArray::from(keep))?))
    }

    fn check_size(&self, bytes: usize) -> Result<(), QueryError> {
        if bytes > self.guard.memory_bytes_max {
            return Err(QueryError::TooExpensive(
                "too many records wait for others to be put in order: narrow the time range, or the rules"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// A back-test on its way.
struct Replay<'a> {
    reader: &'a Reader<'a>,
    engine: Engine,
    sets: HitSets,
    runs: Vec<Run>,
    /// Records of the runs that wait: sequence number, run, row.
    order: Vec<(i64, u32, u32)>,
    /// The times of all records that wait.
    others: Vec<Passing>,
    /// Sources from before the first hit, whose times have not been read.
    untimed: Vec<(Table, Source)>,
    last_us: i64,
    /// Bytes of what was found.
    found_bytes: usize,
    out: Backtest,
}

impl Replay<'_> {
    /// Takes what a source has.
    fn take(&mut self, table: Table, source: &Source, looked: Looked) -> Result<(), QueryError> {
        let Looked { records_read, matching, sets, numbered, times, bytes } = looked;
        self.out.records_read += records_read;
        let numbers: Vec<u32> = numbered.sets.iter().map(|set| self.sets.number(set)).collect();
        let sets = sets.iter().filter_map(|set| numbers.get(*set as usize).copied()).collect();
        self.wait(table, matching, sets)?;
        self.reader.ahead.fetch_sub(bytes, Ordering::Relaxed);
        let times = match times {
            Some(times) => times,
            // While nothing has been hit there is nothing that time could change.
            None if self.order.is_empty() && self.out.hits == 0 => {
                let (first_us, last_us) = source.ts();
                let out = &mut self.out;
                out.records += source.rows();
                out.first_us = Some(out.first_us.map_or(first_us, |known| known.min(first_us)));
                out.last_us = out.last_us.max(Some(last_us));
                self.untimed.push((table, source.clone()));
                return Ok(());
            }
            None => self.reader.times(table, source)?,
        };
        self.out.records += times.records;
        self.out.first_us = times.first_us.into_iter().chain(self.out.first_us).min();
        self.out.last_us = times.last_us.into_iter().chain(self.out.last_us).max();
        self.others.extend(times.passing);
        self.check_size()
    }

    /// Says, before the first hit, what time it was by records before it. None of those that wait, or come before `next`,
    /// is passed by.
    fn catch_up(&mut self, next: i64) -> Result<(), QueryError> {
        let Some((first, ..)) = self.order.iter().min().copied() else { return Ok(()) };
        let first = first.min(next);
        let (mut latest_us, mut now_us) = (i64::MIN, i64::MIN);
        for (table, source) in std::mem::take(&mut self.untimed) {
            for batch in source.scan(Some(&times(&source)?), &pruned(self.reader.range, IndexPlan::All))? {
                self.reader.guard.check()?;
                for other in Passing::of(&batch?, table) {
                    if other.seq >= first {
                        self.others.push(other);
                        continue;
                    }
                    now_us = now_us.max(other.arrival_us);
                    if !other.is_finding {
                        latest_us = latest_us.max(other.time_us);
                    }
                }
            }
        }
        self.last_us = self.last_us.max(now_us);
        let findings = self.engine.catch_up(latest_us, now_us);
        self.found(findings)
    }

    /// Puts records of a source in order, to wait.
    fn wait(&mut self, table: Table, kept: Vec<RecordBatch>, sets: Vec<u32>) -> Result<(), QueryError> {
        let Some(first) = kept.first() else { return self.check_size() };
        let all = concat_batches(first.schema_ref(), &kept)?;
        drop(kept);
        let seqs = Batch::new(&all).int("seq");
        let seq = |row: u32| seqs.get(row as usize).unwrap_or(0);
        let mut rows: Vec<u32> = (0..all.num_rows() as u32).collect();
        rows.sort_by_key(|row| seq(*row));
        let run = self.runs.len() as u32;
        self.order.extend(rows.iter().enumerate().map(|(at, row)| (seq(*row), run, at as u32)));
        let sets = rows.iter().filter_map(|row| sets.get(*row as usize).copied()).collect();
        let sorted =
            if rows.is_sorted() { all.clone() } else { take_record_batch(&all, &UInt32Array::from(rows))? };
        let (bytes, waiting) = (sorted.get_array_memory_size(), sorted.num_rows());
        self.runs.push(Run { table, batch: sorted, sets, waiting, bytes });
        self.check_size()
    }

    fn check_size(&self) -> Result<(), QueryError> {
        if self.found_bytes > self.reader.guard.memory_bytes_max / 2 {
            return Err(QueryError::TooExpensive(
                "the rules find too much: narrow the time range, or the rules".to_owned(),
            ));
        }
        let runs: usize = self.runs.iter().filter(|run| run.waiting > 0).map(|run| run.bytes).sum();
        let times =
            std::mem::size_of_val(self.others.as_slice()) + std::mem::size_of_val(self.order.as_slice());
        self.reader.held.store(runs + times, Ordering::Relaxed);
        self.reader.check_size(runs + times)
    }

    /// Takes what waits and comes before a sequence number through the engine.
    fn flush(&mut self, before: i64) -> Result<(), QueryError> {
        self.catch_up(before)?;
        self.order.sort_unstable();
        self.others.sort_unstable_by_key(|other| other.seq);
        let order = {
            let end = self.order.partition_point(|(seq, ..)| *seq < before);
            let rest = self.order.split_off(end);
            std::mem::replace(&mut self.order, rest)
        };
        let others = {
            let end = self.others.partition_point(|other| other.seq < before);
            let rest = self.others.split_off(end);
            std::mem::replace(&mut self.others, rest)
        };
        self.out.hits += order.len() as u64;
        let latest = others.iter().map(|other| other.arrival_us).max();
        self.last_us = self.last_us.max(latest.unwrap_or(i64::MIN));
        let mut others = others.into_iter().peekable();
        for rows in order.chunk_by(|a, b| a.1 == b.1 && a.2 + 1 == b.2) {
            self.reader.guard.check()?;
            let Some((_, at, row)) = rows.first() else { continue };
            let Some(run) = self.runs.get_mut(*at as usize) else { continue };
            let batch = run.batch.slice(*row as usize, rows.len());
            let sets = run.sets.get(*row as usize..).unwrap_or_default();
            let hits = sets.iter().map(|number| self.sets.get(*number));
            let findings = self.engine.replay(&batch, run.table, hits, &mut others);
            run.waiting -= rows.len();
            if run.waiting == 0 {
                run.batch = RecordBatch::new_empty(run.batch.schema());
                run.sets = Vec::new();
            }
            self.found(findings)?;
        }
        let findings = self.engine.pass(others);
        self.found(findings)
    }

    /// Takes what was found.
    fn found(&mut self, findings: Vec<Finding>) -> Result<(), QueryError> {
        let bytes = |finding: &Finding| {
            let entities = finding.entities.iter().map(|entity| size_of_val(entity) + entity.value.len());
            size_of::<Finding>()
                + finding.explanation.len()
                + size_of_val(finding.evidence.as_slice())
                + entities.sum::<usize>()
        };
        self.found_bytes += findings.iter().map(bytes).sum::<usize>();
        self.out.findings.extend(findings);
        self.check_size()
    }
}

/// A finding as JSON.
pub(crate) fn json_of(finding: &Finding) -> Value {
    let evidence: Vec<Value> = finding
        .evidence
        .iter()
        .map(|evidence| {
            json!({
                "table": evidence.table.name(),
                "seq": evidence.seq,
                "time": time_text(evidence.time_us),
                "trace_id": evidence.trace_id.map(|id| id.to_string()),
            })
        })
        .collect();
    let entities: Vec<Value> =
        finding.entities.iter().map(|entity| json!({"field": &*entity.field, "value": entity.value})).collect();
    json!({
        "id": finding.id.to_string(),
        "rule": &*finding.rule_id,
        "title": &*finding.title,
        "level": finding.level.name(),
        "time": time_text(finding.time_us),
        "since": time_text(finding.since_us),
        "entities": entities,
        "explanation": finding.explanation,
        "evidence": evidence,
        "evidence_count": finding.evidence_count,
    })
}

#[cfg(test)]
#[path = "backtest_tests.rs"]
mod tests;
