//! One run: clients that send, repeat and give up, a store that is stopped at any moment, a tail that follows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::{BooleanArray, RecordBatch};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::clock::Clock;
use threadline_model::columns::Batch;
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView, SpanView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, AppendError, BatchId, Env, Options, Prune, Snapshot, Store, StoreError, Tail};

use crate::{Faults, Random, SimDisk};

/// What a run did, for a look at whether it did enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Crashes.
    pub crashes: u64,
    /// Batches acknowledged.
    pub acked: u64,
    /// Batches refused or lost at least once.
    pub failed: u64,
    /// Records found at the end.
    pub records: u64,
    /// Records the tail saw.
    pub tailed: u64,
    /// Records erased.
    pub erased: u64,
    /// Sealed files at the end.
    pub files: u64,
}

/// 2023-11-14T22:13:20Z in µs.
const START_US: i64 = 1_700_000_000_000_000;

struct SimClock(Arc<AtomicI64>);

impl Clock for SimClock {
    fn now_us(&self) -> i64 {
        START_US + self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// What the clients know of a batch.
#[derive(Clone, Debug)]
struct Sent {
    append: Append,
    records: std::ops::Range<u64>,
    acked: bool,
    sent_us: i64,
}

/// What the clients know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Erased {
    No,
    Maybe,
    Yes,
}

type Acks = Arc<Mutex<Vec<(usize, Result<bool, AppendError>)>>>;

struct World {
    random: Random,
    disk: SimDisk,
    clock: Arc<SimClock>,
    options: Options,
    root: PathBuf,
    batches: Vec<Sent>,
    erased: BTreeMap<u64, Erased>,
    next_record: u64,
    tail_seen: BTreeSet<u64>,
    tail_position: i64,
    tail_seq: i64,
    acks: Acks,
    outcome: Outcome,
}

/// Runs one seed.
///
/// # Errors
/// Which invariant does not hold, or what failed that must not.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let random = Random::new(seed);
    let disk = SimDisk::new(random.clone(), 64 << 20);
    let options = Options {
        wal_segment_bytes: 64 << 10,
        commit_bytes: 16 << 10,
        memory_bytes_max: 4 << 20,
        pack_files_min: 4,
        seal_bytes: 1 << 20,
        seal_rows: 40 + random.below(200) as usize,
        seal_after: Duration::from_secs(5),
        disk_free_bytes_min: 256 << 10,
        compact_rows: 400,
        elide_ids: random.chance(800),
        threads: false,
        ..Options::default()
    };
    let mut world = World {
        random,
        disk,
        clock: Arc::new(SimClock(Arc::default())),
        options,
        root: PathBuf::from("/data"),
        batches: Vec::new(),
        erased: BTreeMap::new(),
        next_record: 0,
        tail_seen: BTreeSet::new(),
        tail_position: 1,
        tail_seq: 0,
        acks: Arc::default(),
        outcome: Outcome::default(),
    };
    if world.random.chance(500) {
        world.disk.set_slow(Arc::clone(&world.clock.0), 3_000_000);
    }
    let lives = 2 + world.random.below(4);
    for life in 0..lives {
        world.life(life + 1 == lives).map_err(|what| format!("seed {seed}, life {life}: {what}"))?;
    }
    Ok(world.outcome)
}

impl World {
    fn env(&self) -> Env {
        Env {
            disk: Arc::new(self.disk.clone()),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            rng: Arc::new(self.random.clone()),
        }
    }

    /// Opens the store, with crashes in between; checks everything; works until the power goes.
    fn life(&mut self, last: bool) -> Result<(), String> {
        let store = self.open()?;
        self.disk.set_faults(Faults::default());
        self.check(&store)?;
        if !last {
            self.disk.set_fuse(Some(20 + self.random.below(1500)));
        }
        self.set_faults();
        let mut tail = store.tail(self.tail_position);
        for _ in 0..60 + self.random.below(120) {
            self.act(&store, &mut tail)?;
            self.take_acks();
            if self.disk.is_dark() {
                break;
            }
        }
        self.disk.set_faults(Faults::default());
        self.disk.set_capacity(64 << 20);
        if last {
            self.end(&store, &mut tail)?;
        }
        drop(tail);
        drop(store);
        self.take_acks();
        self.disk.crash();
        self.outcome.crashes += 1;
        Ok(())
    }

    fn open(&mut self) -> Result<Store, String> {
        for _ in 0..self.random.below(3) {
            self.disk.set_fuse(Some(self.random.below(120)));
            let opened = Store::open(&self.root, self.options.clone(), self.env());
            drop(opened);
            self.disk.crash();
            self.outcome.crashes += 1;
        }
        Store::open(&self.root, self.options.clone(), self.env()).map_err(|e| format!("open: {e}"))
    }

    fn set_faults(&self) {
        let often = |per_mille: u64| if self.random.chance(300) { self.random.below(per_mille) } else { 0 };
        self.disk.set_faults(Faults { read: often(20), write: often(60), sync: often(60), name: often(60) });
    }

    fn act(&mut self, store: &Store, tail: &mut Tail) -> Result<(), String> {
        self.clock.0.fetch_add(1000 * self.random.below(1500) as i64, Ordering::Relaxed);
        match self.random.below(100) {
            0..=44 => self.send_new(store),
            45..=54 => self.send_again(store),
            55..=74 => store.step(),
            75..=79 => self.ignore(store.seal().err())?,
            80..=84 => self.ignore(store.maintain().err())?,
            85..=93 => self.follow(tail)?,
            94 => self.set_faults(),
            95 => self.erase(store)?,
            96 => {
                // The disk fills up, or somebody makes room.
                let used: usize = self.disk.files().iter().map(|(_, len)| len).sum();
                let room = if self.random.chance(500) { self.random.below(400 << 10) } else { 64 << 20 };
                self.disk.set_capacity(used as u64 + room);
            }
            97 => self.count(&store.snapshot()).map(|_| ())?,
            // A long pause: seals, compactions and the window of batch ids fall due.
            98 => {
                self.clock.0.fetch_add(1_000_000 * self.random.below(1200) as i64, Ordering::Relaxed);
            }
            _ => store.step(),
        }
        Ok(())
    }

    /// Errors are fine while the disk fails; corruption never is.
    fn ignore(&self, error: Option<StoreError>) -> Result<(), String> {
        match error {
            Some(error @ StoreError::Corrupt { .. }) => Err(format!("corrupt: {error}")),
            _ => Ok(()),
        }
    }

    fn send_new(&mut self, store: &Store) {
        let table = if self.random.chance(600) { Table::Logs } else { Table::Spans };
        let rows = 1 + self.random.below(if self.random.chance(50) { 300 } else { 12 });
        let records = self.next_record..self.next_record + rows;
        self.next_record += rows;
        let Some(batch) = build(store, table, records.clone(), self.clock.now_us()) else { return };
        let id = BatchId(u128::from(records.start) + 1);
        self.batches.push(Sent {
            append: Append { table, id, batch },
            records,
            acked: false,
            sent_us: self.clock.now_us(),
        });
        self.send(store, self.batches.len() - 1);
    }

    fn send_again(&mut self, store: &Store) {
        let window_us = 500_000_000;
        let now = self.clock.now_us();
        let recent: Vec<usize> = (0..self.batches.len())
            .rev()
            .take(12)
            .filter(|&i| self.batches.get(i).is_some_and(|b| now - b.sent_us < window_us))
            .collect();
        let pick = self.random.below(recent.len() as u64) as usize;
        if let Some(&index) = recent.get(pick) {
            self.send(store, index);
        }
    }

    fn send(&self, store: &Store, index: usize) {
        let Some(sent) = self.batches.get(index) else { return };
        let acks = Arc::clone(&self.acks);
        let on_ack = move |outcome: Result<threadline_store::Ack, AppendError>| {
            acks.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome.map(|ack| ack.duplicate)));
        };
        store.append(sent.append.clone(), Box::new(on_ack));
    }

    fn take_acks(&mut self) {
        let acks = std::mem::take(&mut *self.acks.lock().unwrap_or_else(PoisonError::into_inner));
        for (index, outcome) in acks {
            let Some(sent) = self.batches.get_mut(index) else { continue };
            match outcome {
                Ok(_) => {
                    self.outcome.acked += u64::from(!sent.acked);
                    sent.acked = true;
                }
                Err(_) => self.outcome.failed += 1,
            }
        }
    }

    fn erase(&mut self, store: &Store) -> Result<(), String> {
        let table = if self.random.chance(600) { Table::Logs } else { Table::Spans };
        let modulus = 5 + self.random.below(20);
        let matches = |record: u64| record.is_multiple_of(modulus);
        let predicate = |batch: &RecordBatch| {
            let batch = Batch::new(batch);
            let hit = |row| record_of(table, &batch, row).is_some_and(matches);
            Ok((0..batch.rows()).map(|row| Some(hit(row))).collect::<BooleanArray>())
        };
        let result = store.erase(table, &predicate, "simulated erasure");
        self.take_acks();
        let done = result.is_ok();
        self.ignore(result.err())?;
        for sent in self.batches.iter().filter(|sent| sent.append.table == table) {
            for record in sent.records.clone().filter(|&record| matches(record)) {
                let state = self.erased.entry(record).or_insert(Erased::No);
                if *state != Erased::Yes {
                    *state = if done && sent.acked { Erased::Yes } else { Erased::Maybe };
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, tail: &mut Tail) -> Result<(), String> {
        let max = 1 + self.random.below(200) as usize;
        let Ok(batches) = tail.next(max) else { return Ok(()) };
        for batch in batches {
            let rows = Batch::new(&batch.batch);
            for row in 0..rows.rows() {
                let seq = rows.int("seq").get(row).ok_or("a row of the tail has no sequence number")?;
                let record = check_row(batch.table, &rows, row)?;
                if seq <= self.tail_seq {
                    return Err(format!(
                        "the tail gave sequence {seq} (record {record}) after {}",
                        self.tail_seq
                    ));
                }
                self.tail_seq = seq;
                if !self.tail_seen.insert(record) {
                    return Err(format!("the tail gave record {record} twice"));
                }
            }
        }
        let position = tail.position();
        if position <= self.tail_seq && self.tail_seq > 0 {
            return Err(format!("the tail would resume at {position} after giving {}", self.tail_seq));
        }
        self.tail_position = position;
        Ok(())
    }

    /// Every record of a snapshot, each once.
    fn count(&self, snapshot: &Snapshot) -> Result<BTreeSet<u64>, String> {
        let mut found = BTreeSet::new();
        let mut seqs = BTreeSet::new();
        for table in Table::ALL {
            let mut take = |batch: &RecordBatch, place: &str| -> Result<(), String> {
                let rows = Batch::new(batch);
                for row in 0..rows.rows() {
                    let record = check_row(table, &rows, row)?;
                    if !found.insert(record) {
                        return Err(format!("record {record} is there twice, again in {place}"));
                    }
                    let seq = rows.int("seq").get(row).unwrap_or(0);
                    if seq < 1 || seq > snapshot.last_seq || !seqs.insert(seq) {
                        return Err(format!("record {record} in {place} has sequence {seq}"));
                    }
                }
                Ok(())
            };
            for batch in &snapshot.table(table).memory {
                take(batch, "memory")?;
            }
            for file in &snapshot.table(table).files {
                let scan = match file.scan(None, &Prune::default()) {
                    Ok(scan) => scan,
                    Err(StoreError::Io { .. }) => return Ok(BTreeSet::new()),
                    Err(error) => return Err(format!("scan of {}: {error}", file.meta().path)),
                };
                for batch in scan {
                    match batch {
                        Ok(batch) => take(&batch, &file.meta().path)?,
                        Err(StoreError::Io { .. }) => return Ok(BTreeSet::new()),
                        Err(error) => return Err(format!("scan of {}: {error}", file.meta().path)),
                    }
                }
            }
        }
        Ok(found)
    }

    /// The store holds what the clients know, and its logs verify.
    fn check(&mut self, store: &Store) -> Result<(), String> {
        let found = self.count(&store.snapshot())?;
        for sent in &self.batches {
            let erased = |record| self.erased.get(&record).copied().unwrap_or(Erased::No);
            let there = |record: u64| found.contains(&record);
            for record in sent.records.clone() {
                match erased(record) {
                    Erased::No if sent.acked && !there(record) => {
                        return Err(format!("record {record} was acknowledged and is gone"));
                    }
                    Erased::Yes if there(record) => {
                        return Err(format!("record {record} was erased and is back"));
                    }
                    _ => {}
                }
            }
            let kept: Vec<u64> = sent.records.clone().filter(|&r| erased(r) == Erased::No).collect();
            let some = kept.iter().filter(|&&r| there(r)).count();
            if some != 0 && some != kept.len() {
                return Err(format!("a batch is there in parts: {some} of {} records", kept.len()));
            }
        }
        if let Some(record) = self.tail_seen.iter().find(|r| !found.contains(r) && !self.erased.contains_key(r))
        {
            return Err(format!("the tail saw record {record}, which is gone"));
        }
        let report = store.verify().map_err(|e| format!("verify: {e}"))?;
        if !report.findings.is_empty() {
            return Err(format!("verify found: {}", report.findings.join("; ")));
        }
        self.outcome.records = found.len() as u64;
        self.outcome.files = report.files;
        Ok(())
    }

    /// Everything is committed, sealed and merged; the tail has seen it all.
    fn end(&mut self, store: &Store, tail: &mut Tail) -> Result<(), String> {
        self.clock.0.fetch_add(60_000_000, Ordering::Relaxed);
        store.step();
        self.take_acks();
        self.check(store)?;
        store.seal().map_err(|e| format!("seal: {e}"))?;
        for _ in 0..100 {
            if !store.maintain().map_err(|e| format!("maintain: {e}"))? {
                break;
            }
        }
        self.check(store)?;
        let last_seq = store.snapshot().last_seq;
        for _ in 0..10_000 {
            let before = self.tail_position;
            self.follow(tail)?;
            if self.tail_position > last_seq || (self.tail_position == before && before > last_seq) {
                break;
            }
        }
        let found = self.count(&store.snapshot())?;
        if let Some(record) = found.iter().find(|record| !self.tail_seen.contains(record)) {
            return Err(format!("the tail never gave record {record} (position {})", self.tail_position));
        }
        self.outcome.tailed = self.tail_seen.len() as u64;
        self.outcome.erased = self.erased.values().filter(|e| **e == Erased::Yes).count() as u64;
        Ok(())
    }
}

/// The ids, the body and the name of a record follow from its number.
fn trace_of(record: u64) -> [u8; 16] {
    (u128::from(record / 8) * 0x9e37_79b9_7f4a_7c15 + 1).to_be_bytes()
}

fn span_of(record: u64) -> [u8; 8] {
    (record + 1).to_be_bytes()
}

fn text_of(record: u64) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    match record % 5 {
        0 => format!("record {record} TraceID: {} done", hex(&trace_of(record))),
        1 => format!("record {record} {} {}", hex(&span_of(record)), hex(&trace_of(record))),
        2 => format!("record {record} \u{1}\u{2}\u{3} é"),
        _ => format!("record {record}"),
    }
}

fn build(store: &Store, table: Table, records: std::ops::Range<u64>, now_us: i64) -> Option<RecordBatch> {
    let mut builder = BatchBuilder::new(store.layout(table), now_us, RecordLimits::default());
    let service = format!("service-{}", records.start % 3);
    builder.set_resource(&ResourceView {
        attributes: &[("service.name", Value::Str(&service))],
        ..ResourceView::default()
    });
    for record in records {
        let text = text_of(record);
        let key = format!("key.{}", record % 4);
        let attributes = [(key.as_str(), Value::Int(record as i64)), ("url.path", Value::Str("/x"))];
        // Spread over some hours; now and then an absurd or a missing time.
        let time = match record % 50 {
            7 => 1,
            8 => 0,
            _ => (now_us as u64 * 1000).saturating_sub(record % 3 * 3_600_000_000_000) + record % 1000,
        };
        let trace_id = TraceId::from_bytes(&trace_of(record))?;
        let span_id = SpanId::from_bytes(&span_of(record))?;
        let pushed = match table {
            Table::Logs => builder.push_log(
                &LogView {
                    time_unix_nano: time,
                    severity_number: (record % 25) as i32,
                    body: Value::Str(&text),
                    attributes: &attributes,
                    trace_id: Some(trace_id),
                    span_id: Some(span_id),
                    ..LogView::default()
                },
                0,
            ),
            Table::Spans => {
                let mut span = SpanView::new(trace_id, span_id);
                span.name = &text;
                span.start_time_unix_nano = time;
                span.end_time_unix_nano = time + 1000;
                span.attributes = &attributes;
                builder.push_span(&span, 0)
            }
        };
        pushed.ok()?;
    }
    builder.finish().ok().flatten()
}

fn record_of(table: Table, rows: &Batch<'_>, row: usize) -> Option<u64> {
    let column = if table == Table::Logs { "body" } else { "name" };
    rows.str(column).get(row)?.strip_prefix("record ")?.split(' ').next()?.parse().ok()
}

/// The record's number, when everything else of the row follows from it.
fn check_row(table: Table, rows: &Batch<'_>, row: usize) -> Result<u64, String> {
    let column = if table == Table::Logs { "body" } else { "name" };
    let text = rows.str(column).get(row);
    let record =
        record_of(table, rows, row).ok_or_else(|| format!("a row of {} reads {text:?}", table.name()))?;
    let key = format!("key.{}", record % 4);
    let fits = text == Some(text_of(record).as_str())
        && rows.trace_id(row).map(|id| id.0) == Some(trace_of(record))
        && rows.span_id(row).map(|id| id.0) == Some(span_of(record))
        && rows.attribute(&key, row).as_deref() == Some(record.to_string().as_str())
        && rows.attribute("url.path", row).as_deref() == Some("/x")
        && rows.str("service").get(row).is_some_and(|s| s.starts_with("service-"));
    if fits { Ok(record) } else { Err(format!("record {record} came back changed: {text:?}")) }
}
