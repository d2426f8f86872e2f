//! The store as its users see it, on a disk in memory that fails when told to.

mod local;
pub(crate) mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use proptest::prelude::*;
use threadline_model::schema::Table;

use self::support::{
    TestClock, TestDisk, append, append_at, append_to, logs_with, records, seqs, small, texts,
};
use crate::{Ack, Append, AppendError, BatchId, Options, Pressure, Prune, Scope, Store, StoreError};

type Outcome = Result<Ack, AppendError>;

/// A store on a disk in memory.
struct Rig {
    disk: TestDisk,
    clock: Arc<TestClock>,
    options: Options,
    store: Option<Store>,
}

const ROOT: &str = "/data";

impl Rig {
    fn new() -> Self {
        Self::with(small())
    }

    fn with(options: Options) -> Self {
        let mut rig = Self { disk: TestDisk::default(), clock: Arc::default(), options, store: None };
        rig.open().unwrap();
        rig
    }

    fn open(&mut self) -> Result<(), StoreError> {
        self.store = None;
        self.store = Some(Store::open(Path::new(ROOT), self.options.clone(), self.disk.env(&self.clock))?);
        Ok(())
    }

    /// The machine stops and starts again.
    fn crash(&mut self, keep_unsynced: bool) {
        self.store = None;
        self.disk = self.disk.after_crash(keep_unsynced);
        self.open().unwrap();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Appends all, then steps once; the outcomes in order.
    fn send(&self, appends: impl IntoIterator<Item = Append>) -> Vec<Outcome> {
        let outcomes: Arc<Mutex<Vec<(usize, Outcome)>>> = Arc::default();
        for (index, append) in appends.into_iter().enumerate() {
            let outcomes = Arc::clone(&outcomes);
            let on_ack = move |outcome| outcomes.lock().unwrap().push((index, outcome));
            self.store().append(append, Box::new(on_ack));
        }
        self.store().step();
        let mut outcomes = outcomes.lock().unwrap().clone();
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Record and sequence numbers of all logs.
    fn logs(&self) -> Vec<(u64, i64)> {
        self.logs_of(Scope::Regular)
    }

    fn logs_of(&self, scope: Scope) -> Vec<(u64, i64)> {
        let logs = self.store().snapshot_of(scope).logs;
        let files = logs.files.iter().flat_map(|file| file.scan(None, &Prune::default()).unwrap());
        let batches: Vec<RecordBatch> = files.map(Result::unwrap).chain(logs.memory).collect();
        let mut rows: Vec<(u64, i64)> =
            batches.iter().flat_map(|batch| records(batch).into_iter().zip(seqs(batch))).collect();
        rows.sort_by_key(|(_, seq)| *seq);
        rows
    }

    fn records(&self) -> Vec<u64> {
        self.logs().into_iter().map(|(record, _)| record).collect()
    }

    fn records_of(&self, scope: Scope) -> Vec<u64> {
        self.logs_of(scope).into_iter().map(|(record, _)| record).collect()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let dir = Path::new(ROOT).join("wal");
        let names = self.disk.names(&dir);
        names.iter().filter(|name| name.ends_with(".wal")).map(|name| dir.join(name)).collect()
    }

    fn fail_syncs(&self, after: usize) {
        self.disk.state().syncs_left = Some(after);
    }

    fn heal_disk(&self) {
        let mut state = self.disk.state();
        (state.syncs_left, state.writes_left, state.links_left) = (None, None, None);
    }
}

fn ack(first_seq: i64, rows: u64) -> Outcome {
    Ok(Ack { first_seq, rows, duplicate: false })
}

fn duplicate(rows: u64) -> Outcome {
    Ok(Ack { first_seq: 0, rows, duplicate: true })
}

fn unavailable(outcome: &Outcome) -> bool {
    matches!(outcome, Err(AppendError::Unavailable { .. }))
}

#[test]
fn what_is_acknowledged_is_visible_and_survives() {
    let mut rig = Rig::new();
    assert_eq!(rig.store().snapshot().last_seq, 0);
    let outcomes = rig.send([append(1, 0, 3), append_to(Table::Spans, 2, 100, 2), append(3, 3, 1)]);
    assert_eq!(outcomes, [ack(1, 3), ack(4, 2), ack(6, 1)]);
    let want = [(0, 1), (1, 2), (2, 3), (3, 6)];
    for _ in 0..3 {
        assert_eq!(rig.logs(), want);
        let snapshot = rig.store().snapshot();
        assert_eq!(snapshot.spans.memory.iter().flat_map(seqs).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(snapshot.last_seq, 6);
        rig.crash(false);
    }
    assert_eq!(rig.send([append(4, 4, 1)]), [ack(7, 1)]);
}

#[test]
fn nothing_is_answered_before_the_sync() {
    let rig = Rig::new();
    let answered = Arc::new(Mutex::new(false));
    let flag = Arc::clone(&answered);
    rig.store().append(append(1, 0, 1), Box::new(move |_| *flag.lock().unwrap() = true));
    assert!(!*answered.lock().unwrap());
    assert!(rig.records().is_empty());
    rig.store().step();
    assert!(*answered.lock().unwrap());
}

#[test]
fn a_torn_last_record_is_lost_alone_at_every_byte() {
    let mut rig = Rig::new();
    rig.send([append(1, 0, 2)]);
    let path = rig.segments().pop().unwrap();
    let before = rig.disk.bytes(&path);
    rig.send([append(2, 2, 2)]);
    let after = rig.disk.bytes(&path);
    let changed = |i: &usize| before[*i] != after[*i];
    let start = (0..after.len()).find(changed).unwrap();
    let end = (0..after.len()).rev().find(changed).unwrap() + 1;
    let disk = rig.disk.clone();
    rig.store = None;
    for torn in start..end {
        rig.disk = disk.after_crash(true);
        rig.disk.edit(&path, |bytes| bytes[torn..].copy_from_slice(&before[torn..]));
        rig.open().unwrap();
        assert_eq!(rig.records(), [0, 1], "torn at {torn}");
        // Sent again, it is kept, and a further crash finds all of it.
        assert_eq!(rig.send([append(2, 2, 2)]), [ack(3, 2)], "torn at {torn}");
        rig.crash(false);
        assert_eq!(rig.records(), [0, 1, 2, 3], "torn at {torn}");
    }
}

#[test]
fn a_changed_byte_in_what_was_acknowledged_is_corruption() {
    let mut rig = Rig::new();
    for id in 0..4 {
        rig.send([append(id, id * 2, 2)]);
    }
    let path = rig.segments().pop().unwrap();
    rig.store = None;
    let good = rig.disk.after_crash(true);
    // In the header, and in the first record: later records tell that it was synced.
    for at in [0, 9, 20, 50, 4096, 4100, 4120, 4200] {
        rig.disk = good.after_crash(true);
        rig.disk.edit(&path, |bytes| bytes[at] ^= 1);
        let error = rig.open().err();
        assert!(matches!(error, Some(StoreError::Corrupt { .. })), "byte {at}: {error:?}");
    }
}

#[test]
fn a_missing_segment_is_corruption() {
    let mut rig = Rig::new();
    for id in 0..6 {
        rig.send([append_large(id)]);
    }
    let segments = rig.segments();
    assert!(segments.len() > 2, "{segments:?}");
    rig.store = None;
    for path in &segments[..segments.len() - 1] {
        let whole = rig.disk.after_crash(true);
        rig.disk.env(&rig.clock).disk.remove(path).unwrap();
        let error = rig.open().err();
        assert!(matches!(error, Some(StoreError::Corrupt { .. })), "{}: {error:?}", path.display());
        rig.disk = whole;
    }
    rig.open().unwrap();
}

/// A batch of which a segment holds one or two.
fn append_large(id: u64) -> Append {
    Append {
        table: Table::Logs,
        id: BatchId(u128::from(id)),
        batch: logs_with(id * 10, 10, &|record| noise(record, 3000)),
    }
}

/// Text that LZ4 cannot make smaller.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b' ' + (state % 95) as u8)
        })
        .collect()
}

#[test]
fn a_batch_that_failed_and_was_sent_again_is_there_once() {
    for keep_unsynced in [false, true] {
        for again_in_vain in 0..3 {
            let mut rig = Rig::new();
            rig.send([append(1, 0, 2)]);
            // The bytes of the failed batch may all be on the disk.
            rig.fail_syncs(0);
            for _ in 0..=again_in_vain {
                assert!(rig.send([append(2, 2, 2)]).iter().all(unavailable));
                rig.clock.advance(Duration::from_secs(2));
            }
            rig.heal_disk();
            rig.clock.advance(Duration::from_secs(2));
            rig.store().step();
            let outcome = rig.send([append(2, 2, 2)]);
            let Ok(Ack { first_seq, duplicate: false, .. }) = outcome[0] else { panic!("{outcome:?}") };
            assert!(first_seq > 4, "sequence numbers are not given twice");
            let want = [(0, 1), (1, 2), (2, first_seq), (3, first_seq + 1)];
            for _ in 0..2 {
                assert_eq!(rig.logs(), want);
                rig.crash(keep_unsynced);
            }
            assert_eq!(rig.logs(), want);
            assert_eq!(rig.send([append(2, 2, 2)]), [duplicate(2)]);
        }
    }
}

#[test]
fn a_batch_on_disk_that_was_never_answered_counts_once() {
    let mut rig = Rig::new();
    rig.send([append(1, 0, 1)]);
    rig.fail_syncs(0);
    assert!(unavailable(&rig.send([append(2, 1, 1)])[0]));
    // The machine stops before a new segment tells that the batch was given up, and the disk has it after all.
    rig.crash(true);
    assert_eq!(rig.records(), [0, 1]);
    assert_eq!(rig.send([append(2, 1, 1)]), [duplicate(1)]);
    rig.crash(false);
    assert_eq!(rig.records(), [0, 1], "what was shown is durable");
}

#[test]
fn a_write_that_fails_halfway_harms_only_its_group() {
    let mut rig = Rig::new();
    rig.send([append(1, 0, 2)]);
    rig.disk.state().writes_left = Some(0);
    let outcomes = rig.send([append(2, 2, 2), append(3, 4, 2)]);
    assert!(outcomes.iter().all(unavailable), "{outcomes:?}");
    rig.heal_disk();
    assert!(matches!(rig.send([append(3, 4, 2)])[..], [Ok(Ack { duplicate: false, .. })]));
    for keep_unsynced in [true, false] {
        assert_eq!(rig.records(), [0, 1, 4, 5]);
        rig.crash(keep_unsynced);
    }
}

#[test]
fn without_a_new_segment_the_store_is_failed_until_it_gets_one() {
    let rig = Rig::new();
    rig.send([append(1, 0, 1)]);
    rig.fail_syncs(0);
    assert!(unavailable(&rig.send([append(2, 1, 1)])[0]));
    assert_eq!(rig.store().health().pressure, Pressure::None, "the next commit may still get a segment");
    assert!(unavailable(&rig.send([append(2, 1, 1)])[0]));
    assert!(matches!(rig.store().health().pressure, Pressure::Failed(_)));
    assert_eq!(rig.records(), [0], "queries go on");
    rig.heal_disk();
    assert!(unavailable(&rig.send([append(2, 1, 1)])[0]), "it is too early");
    rig.clock.advance(Duration::from_secs(2));
    rig.store().step();
    assert_eq!(rig.store().health().pressure, Pressure::None);
    assert!(rig.send([append(2, 1, 1)])[0].is_ok());
    assert_eq!(rig.records(), [0, 1]);
}

#[test]
fn duplicates_are_kept_once() {
    let mut rig = Rig::new();
    // In one group, both are answered after the sync.
    assert_eq!(rig.send([append(1, 0, 2), append(1, 0, 2)]), [ack(1, 2), duplicate(2)]);
    assert_eq!(rig.send([append(1, 0, 2)]), [duplicate(2)]);
    assert!(rig.send([append_to(Table::Spans, 1, 0, 2)])[0].as_ref().is_ok_and(|ack| !ack.duplicate));
    rig.crash(false);
    assert_eq!(rig.send([append(1, 0, 2)]), [duplicate(2)]);
    assert_eq!(rig.records(), [0, 1]);
    rig.clock.advance(rig.options.dedup_window + Duration::from_secs(1));
    assert!(rig.send([append(1, 0, 2)])[0].as_ref().is_ok_and(|ack| !ack.duplicate), "the window is over");
    assert_eq!(rig.store().stats().duplicates, 1);
}

#[test]
fn a_duplicate_of_what_fails_fails_too() {
    let rig = Rig::new();
    rig.send([append(1, 0, 1)]);
    rig.fail_syncs(0);
    let outcomes = rig.send([append(2, 1, 1), append(2, 1, 1)]);
    assert!(outcomes.len() == 2 && outcomes.iter().all(unavailable), "{outcomes:?}");
}

#[test]
fn large_batches_are_split_and_come_back_whole() {
    let mut rig = Rig::new();
    let batch = logs_with(0, 100, &|record| noise(record, 2000));
    let large = Append { table: Table::Logs, id: BatchId(1), batch };
    assert_eq!(rig.send([large.clone(), append(2, 100, 1)]), [ack(1, 100), ack(101, 1)]);
    assert!(rig.segments().len() > 3, "over several segments");
    let want: Vec<(u64, i64)> = (0..=100).map(|record| (record, record as i64 + 1)).collect();
    assert_eq!(rig.logs(), want);
    rig.crash(false);
    assert_eq!(rig.logs(), want);
    rig.crash(false);
    assert_eq!(texts(&rig.store().snapshot().logs.memory[0])[1], format!("record 1{}", noise(1, 2000)));
    assert_eq!(rig.send([large]), [duplicate(100)]);
    assert!(rig.store().verify().unwrap().findings.is_empty());
}

#[test]
fn a_batch_without_its_last_parts_does_not_count() {
    for failing_sync in 0..12 {
        let mut rig = Rig::new();
        rig.send([append(1, 0, 1)]);
        let batch = logs_with(1, 100, &|record| noise(record, 2000));
        rig.fail_syncs(failing_sync);
        let outcome = rig.send([Append { table: Table::Logs, id: BatchId(2), batch: batch.clone() }]);
        rig.heal_disk();
        if outcome[0].is_ok() {
            assert_eq!(rig.records().len(), 101);
            continue;
        }
        assert_eq!(rig.records(), [0]);
        rig.clock.advance(Duration::from_secs(2));
        rig.store().step();
        assert!(rig.send([append(3, 500, 1)])[0].is_ok());
        for keep_unsynced in [true, false] {
            rig.crash(keep_unsynced);
            assert_eq!(rig.records(), [0, 500], "sync {failing_sync}");
        }
        assert!(rig.send([Append { table: Table::Logs, id: BatchId(2), batch }])[0].is_ok());
        rig.crash(false);
        assert_eq!(rig.records().len(), 102);
    }
}

#[test]
fn a_record_that_no_segment_holds_is_too_large() {
    let rig = Rig::new();
    let batch = logs_with(0, 2, &|record| noise(record, 70_000));
    let outcome = rig.send([Append { table: Table::Logs, id: BatchId(1), batch }]);
    assert!(matches!(outcome[0], Err(AppendError::TooLarge { .. })), "{outcome:?}");
    assert!(rig.send([append(2, 0, 1)])[0].is_ok());
}

#[test]
fn memory_has_a_bound() {
    let mut rig = Rig::with(Options { memory_bytes_max: 200_000, ..small() });
    assert_eq!(rig.send([append(1, 0, 10)]), [ack(1, 10)]);
    let outcomes = rig.send((2..200).map(|id| append(id, id * 10, 10)));
    let refused: Vec<&AppendError> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    let busy = |e: &&AppendError| matches!(e, AppendError::Busy { retry_after, .. } if !retry_after.is_zero());
    assert!(refused.iter().all(busy), "{refused:?}");
    let taken = outcomes.len() - refused.len();
    assert!(taken > 5 && refused.len() > 5, "{taken} taken, {} refused", refused.len());
    // The step sealed what was taken, so there is room again.
    assert!(rig.send([append(500, 5000, 10)])[0].is_ok());
    let large =
        |id| Append { table: Table::Logs, id: BatchId(id), batch: logs_with(0, 9, &|r| noise(r, 20_000)) };
    assert_eq!(rig.send([large(1)]), [duplicate(9)], "a known batch costs nothing");
    assert!(matches!(rig.send([large(9999)])[0], Err(AppendError::TooLarge { .. })));
    rig.crash(false);
    assert_eq!(rig.records().len(), (taken + 2) * 10);
}

#[test]
fn while_sealing_fails_appends_go_on_up_to_the_bound_and_the_health_says_why() {
    let rig = Rig::with(Options { memory_bytes_max: 200_000, ..small() });
    rig.send([append(1, 0, 10)]);
    rig.disk.state().links_left = Some(0);
    let mut next = 2;
    while rig.send([append(next, next * 10, 10)])[0].is_ok() {
        next += 1;
        assert!(next < 1000, "it is never refused");
    }
    let health = rig.store().health();
    assert!(health.maintenance_error.is_some(), "{health:?}");
    assert!(health.memory_bytes <= 200_000, "{health:?}");
    assert_eq!(rig.records().len() as u64, (next - 1) * 10, "queries go on");
    rig.heal_disk();
    rig.clock.advance(Duration::from_secs(5));
    rig.store().step();
    assert_eq!(rig.store().health().maintenance_error, None);
    assert!(rig.send([append(next, next * 10, 10)])[0].is_ok());
    assert_eq!(rig.records().len() as u64, next * 10);
}

#[test]
fn a_nearly_full_disk_refuses_and_says_so() {
    let rig = Rig::new();
    assert!(rig.send([append(1, 0, 1)])[0].is_ok());
    rig.disk.state().free_bytes = 1000;
    rig.clock.advance(Duration::from_secs(2));
    let outcome = rig.send([append(2, 1, 1)]);
    assert!(matches!(outcome[0], Err(AppendError::Busy { .. })), "{outcome:?}");
    let health = rig.store().health();
    assert!(
        matches!(&health.pressure, Pressure::Refusing(why) if why.contains("1000 bytes free")),
        "{health:?}"
    );
    assert_eq!(rig.records(), [0]);
    rig.disk.state().free_bytes = 1 << 40;
    rig.clock.advance(Duration::from_secs(2));
    assert!(rig.send([append(2, 1, 1)])[0].is_ok());
}

#[test]
fn batches_that_are_not_of_the_table_are_refused() {
    let rig = Rig::new();
    let mut bad = append(1, 0, 2);
    let keep: Vec<usize> =
        (0..bad.batch.num_columns()).filter(|&i| bad.batch.schema().field(i).name() != "ts").collect();
    bad.batch = bad.batch.project(&keep).unwrap();
    assert!(rig.send([bad])[0].is_err());
    let mut bad = append(1, 0, 2);
    bad.batch = crate::codec::with_seq(Table::Logs, &bad.batch, 5).unwrap();
    assert!(rig.send([bad])[0].is_err());
    let mut empty = append(1, 0, 2);
    empty.batch = empty.batch.slice(0, 0);
    assert_eq!(rig.send([empty]), [ack(0, 0)]);
}

#[test]
fn a_closed_store_refuses_and_opens_again() {
    let mut rig = Rig::new();
    rig.send([append(1, 0, 1)]);
    rig.store().close().unwrap();
    assert!(unavailable(&rig.send([append(2, 1, 1)])[0]));
    rig.open().unwrap();
    assert_eq!(rig.records(), [0]);
}

#[test]
fn a_store_that_is_dropped_in_step_mode_writes_nothing_and_answers() {
    let mut rig = Rig::new();
    let outcome: Arc<Mutex<Option<Outcome>>> = Arc::default();
    let slot = Arc::clone(&outcome);
    rig.store().append(append(1, 0, 1), Box::new(move |o| *slot.lock().unwrap() = Some(o)));
    rig.disk.state().writes_left = Some(0);
    rig.store = None;
    assert!(outcome.lock().unwrap().as_ref().is_some_and(unavailable));
    rig.heal_disk();
    rig.open().unwrap();
    assert!(rig.records().is_empty());
}

#[test]
fn reading_only_sees_what_is_there_and_writes_nothing() {
    let rig = Rig::new();
    rig.send([append(1, 0, 3)]);
    rig.disk.state().writes_left = Some(0);
    let reader = Store::open_read_only(Path::new(ROOT), rig.disk.env(&rig.clock)).unwrap();
    let rows: Vec<u64> = reader.snapshot().logs.memory.iter().flat_map(records).collect();
    assert_eq!(rows, [0, 1, 2]);
    let mut tail = reader.tail(2);
    assert_eq!(tail.next(10).unwrap().iter().flat_map(|b| seqs(&b.batch)).collect::<Vec<_>>(), [2, 3]);
    let answered: Arc<Mutex<Option<Outcome>>> = Arc::default();
    let slot = Arc::clone(&answered);
    reader.append(append(2, 3, 1), Box::new(move |o| *slot.lock().unwrap() = Some(o)));
    assert!(answered.lock().unwrap().as_ref().is_some_and(unavailable));
    assert!(reader.seal().is_err());
    let nothing = Store::open_read_only(Path::new("/nothing"), rig.disk.env(&rig.clock));
    assert!(matches!(nothing.err(), Some(StoreError::Invalid { .. })));
}

#[test]
fn the_tail_gives_both_tables_in_order_from_where_it_is_told() {
    let rig = Rig::new();
    rig.send([append(1, 0, 3), append_to(Table::Spans, 2, 3, 2), append(3, 5, 2), append(4, 7, 1)]);
    for from in 0..=9 {
        for rows_max in 1..=9 {
            let mut tail = rig.store().tail(from);
            let mut seen = Vec::new();
            loop {
                let batches = tail.next(rows_max).unwrap();
                let some: Vec<i64> = batches.iter().flat_map(|batch| seqs(&batch.batch)).collect();
                assert!(some.len() <= rows_max);
                if some.is_empty() {
                    break;
                }
                seen.extend(some);
                assert_eq!(tail.position(), seen.last().unwrap() + 1);
            }
            assert_eq!(seen, (from.max(1)..=8).collect::<Vec<_>>());
        }
    }
    let mut tail = rig.store().tail(9);
    assert!(tail.next(10).unwrap().is_empty());
    rig.send([append_to(Table::Spans, 5, 8, 1)]);
    let batches = tail.next(10).unwrap();
    assert_eq!((batches.len(), batches[0].table), (1, Table::Spans));
    assert_eq!(tail.position(), 10);
}

/// Logs of which every third is in quarantine.
fn append_some_quarantined(id: u64, first: u64, rows: usize) -> Append {
    let mut append = append(id, first, rows);
    let verdict = Int64Array::from_iter((0..rows as i64).map(|row| (row % 3 == 0).then_some(1 << 4)));
    let mut fields = append.batch.schema().fields().to_vec();
    let mut columns = append.batch.columns().to_vec();
    fields.push(Arc::new(Field::new("verdict", DataType::Int64, true)));
    columns.push(Arc::new(verdict));
    append.batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    append
}

#[test]
fn what_is_in_quarantine_lies_apart_and_is_seen_when_asked_for() {
    let mut rig = Rig::new();
    let is_set_aside = |record: &u64| record.is_multiple_of(3);
    for round in 0..8 {
        assert!(rig.send([append_some_quarantined(round, round * 9, 9)])[0].is_ok());
        match round {
            6 => rig.crash(false),
            7 => {}
            _ => rig.store().seal().unwrap(),
        }
    }
    for compacted in [false, true] {
        if compacted {
            rig.clock.advance(Duration::from_secs(7200));
            while rig.store().maintain().unwrap() {}
        }
        let all: Vec<u64> = (0..72).collect();
        let (set_aside, regular): (Vec<u64>, Vec<u64>) = all.iter().partition(|record| is_set_aside(record));
        assert_eq!(rig.records(), regular);
        assert_eq!(rig.records_of(Scope::All), all);
        let files = rig.store().snapshot_of(Scope::All).logs.files;
        let in_files: Vec<u64> = set_aside.iter().copied().filter(|record| *record < 54).collect();
        let mut apart = Vec::new();
        for file in files.iter().filter(|file| file.meta().quarantined) {
            apart
                .extend(file.scan(None, &Prune::default()).unwrap().flat_map(|batch| records(&batch.unwrap())));
        }
        apart.sort_unstable();
        assert_eq!(apart, in_files);
        if compacted {
            assert_eq!(files.len(), 2, "what is in quarantine is merged, too, and with nothing else");
        }
        for (scope, want) in [(Scope::Regular, &regular), (Scope::All, &all)] {
            let mut tail = rig.store().tail_of(1, scope);
            let mut seen: Vec<u64> = Vec::new();
            loop {
                let batches = tail.next(5).unwrap();
                if batches.is_empty() {
                    break;
                }
                seen.extend(batches.iter().flat_map(|batch| records(&batch.batch)));
            }
            assert_eq!((&seen, tail.position()), (want, 73));
        }
    }
    // Erasure reaches them, whoever asks.
    let everything = |batch: &RecordBatch| Ok(std::iter::repeat_n(Some(true), batch.num_rows()).collect());
    assert_eq!(rig.store().erase(Table::Logs, &everything, "all").unwrap().rows, 72);
    assert_eq!(rig.records_of(Scope::All), [0_u64; 0]);
    assert!(rig.store().verify().unwrap().findings.is_empty());
}

#[test]
fn segments_are_reused_and_their_old_records_do_not_count() {
    let mut rig = Rig::new();
    let mut want = Vec::new();
    for round in 0..12 {
        for id in 0..5 {
            let id = round * 5 + id;
            assert!(rig.send([append_large(id)])[0].is_ok());
            want.extend(id * 10..id * 10 + 10);
        }
        rig.store().seal().unwrap();
        assert!(rig.segments().len() <= 1, "all but the last are sealed: {:?}", rig.segments());
        // What follows is written over old records of the same length.
        if round % 3 == 0 {
            rig.crash(round % 2 == 0);
        }
        assert_eq!(rig.records(), want);
    }
    let spares = rig.disk.names(&Path::new(ROOT).join("wal"));
    assert!(spares.iter().filter(|name| name.starts_with("spare-")).count() <= 4, "{spares:?}");
    // The ids of reused segments are still known.
    assert_eq!(rig.send([append_large(0), append_large(59)]), [duplicate(10), duplicate(10)]);
    assert!(rig.store().verify().unwrap().findings.is_empty());
}

#[test]
fn rows_stay_once_wherever_a_seal_is_interrupted() {
    for writes in 0..60 {
        let mut rig = Rig::new();
        for id in 0..8 {
            assert!(rig.send([append(id, id * 3, 3)])[0].is_ok());
        }
        rig.disk.state().writes_left = Some(writes);
        let sealed = rig.store().seal();
        rig.heal_disk();
        assert_eq!(rig.records(), (0..24).collect::<Vec<_>>(), "{writes} writes");
        if writes % 2 == 0 {
            assert!(rig.send([append(8, 24, 3)])[0].is_ok());
            rig.store().seal().unwrap();
            rig.crash(true);
            assert_eq!(rig.records(), (0..27).collect::<Vec<_>>(), "{writes} writes, sealed again");
        } else {
            rig.crash(true);
            assert_eq!(rig.records(), (0..24).collect::<Vec<_>>(), "{writes} writes, after a crash");
        }
        if sealed.is_ok() && writes > 2 {
            return;
        }
    }
    panic!("a seal takes more writes than were tried");
}

#[test]
fn what_comes_hour_by_hour_is_written_once() {
    let mut rig = Rig::with(Options { seal_rows: 100, ..small() });
    for id in 0..100 {
        // 40 records an hour, in requests that do not end where hours do.
        assert!(rig.send([append_at(Table::Logs, id, id * 7, 7, &|record| record / 40)])[0].is_ok());
        if id == 60 {
            rig.crash(false);
        }
    }
    let hours_of = |rig: &Rig| -> Vec<(i64, u64)> {
        let files = rig.store().snapshot().logs.files;
        let mut hours: Vec<_> = files.iter().map(|file| (file.meta().hour, file.meta().rows)).collect();
        hours.sort_unstable();
        hours
    };
    let files = hours_of(&rig);
    assert!(files.len() >= 14 && files.iter().all(|(_, rows)| *rows == 40), "{files:?}");
    // One of them is in a file of its own once it has waited for long enough.
    rig.clock.advance(small().seal_after);
    rig.store().step();
    assert_eq!(hours_of(&rig).iter().map(|(_, rows)| *rows).collect::<Vec<_>>()[files.len()..], [40, 20]);
    assert_eq!(rig.records(), (0..700).collect::<Vec<_>>());
    assert!(rig.store().verify().unwrap().findings.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Append { spans: bool, rows: usize },
    Seal,
    Maintain,
    Crash,
    Next(usize),
    Resume,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<bool>(), 1..20usize).prop_map(|(spans, rows)| Step::Append { spans, rows }),
        2 => Just(Step::Seal),
        1 => Just(Step::Maintain),
        1 => Just(Step::Crash),
        4 => (1..30usize).prop_map(Step::Next),
        1 => Just(Step::Resume),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Against a list of what was acknowledged: wherever rows are, the tail gives them in order, each once.
    /// They are sealed by the way, whole hours at a time.
    #[test]
    fn the_tail_neither_skips_nor_repeats(steps in steps(), seal_rows in 10..80usize) {
        let mut rig = Rig::with(Options { seal_rows, ..small() });
        let mut model: Vec<(Table, u64)> = Vec::new();
        let mut tail = rig.store().tail(1);
        let mut given = 0;
        for step in steps.into_iter().chain((0..60).map(|_| Step::Next(30))) {
            match step {
                Step::Append { spans, rows } => {
                    let table = if spans { Table::Spans } else { Table::Logs };
                    let first = model.len() as u64;
                    let outcome = rig.send([append_at(table, first, first, rows, &|record| record / 25)]);
                    prop_assert_eq!(&outcome, &[ack(first as i64 + 1, rows as u64)]);
                    model.extend((first..first + rows as u64).map(|record| (table, record)));
                }
                Step::Seal => rig.store().seal().unwrap(),
                Step::Maintain => {
                    rig.store().maintain().unwrap();
                }
                Step::Crash => {
                    let position = tail.position();
                    rig.crash(false);
                    tail = rig.store().tail(position);
                }
                Step::Resume => tail = rig.store().tail(tail.position()),
                Step::Next(rows_max) => {
                    let mut got = 0;
                    for batch in tail.next(rows_max).unwrap() {
                        for (record, seq) in records(&batch.batch).into_iter().zip(seqs(&batch.batch)) {
                            prop_assert_eq!(Some(&(batch.table, record)), model.get(given));
                            prop_assert_eq!(seq, given as i64 + 1);
                            given += 1;
                            got += 1;
                        }
                    }
                    prop_assert!(got <= rows_max);
                    prop_assert!(got > 0 || given == model.len(), "it stopped at {given} of {}", model.len());
                    prop_assert_eq!(tail.position(), given as i64 + 1);
                }
            }
        }
        prop_assert_eq!(given, model.len());
        let logs: Vec<u64> =
            model.iter().filter(|(table, _)| *table == Table::Logs).map(|(_, record)| *record).collect();
        prop_assert_eq!(rig.records(), logs);
    }
}
