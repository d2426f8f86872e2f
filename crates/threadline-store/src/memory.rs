//! The memory table: committed rows that are not sealed yet, as an immutable state that is replaced as a whole.
//!
//! A *chunk* is a batch in the state. Small neighbours are merged as they come, so that many tiny appends do not make
//! queries slow: a row is copied once per level, and there are [`FANOUT`] times more rows in a chunk of the next level.
//! *Frozen* chunks are being sealed: they stay as they are until they are in files. A seal that failed is done again
//! with the same rows, because its commit may stand after all.
//!
//! Files are per hour. Rows of an hour that has just begun are rather left for the next seal than put into a small file
//! that is merged with the next one's: who sends what happened long ago, or catches up, sends many hours one after the
//! other.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use threadline_model::schema::Table;

use crate::codec;
use crate::quarantine::{self, Scope};
use crate::sealed::rows::HOUR_US;
use crate::wal::{PerTable, slot};

/// So many neighbours become one.
const FANOUT: usize = 8;
/// A chunk with so many rows, or bytes, is not merged any more: a query passes over it quickly enough, so the batches of
/// a busy sender are never copied.
const CHUNK_ROWS: usize = 1 << 10;
const CHUNK_BYTES: usize = 1 << 20;
/// An hour has just begun when at most one in so many of its rows came before the last row of another hour.
const STRAY_SHARE: usize = 16;

/// Which rows a seal takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All.
    All,
    /// All but those of an hour that has just begun.
    WholeHours,
}

/// Rows of one table that stay together.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) batch: RecordBatch,
    pub(crate) first_seq: i64,
    pub(crate) last_seq: i64,
    bytes: usize,
    /// When its oldest row came, on the monotonic clock.
    since: Duration,
    /// Some of its rows are in quarantine.
    has_quarantined: bool,
    /// The others, once somebody wanted them.
    regular: OnceLock<RecordBatch>,
}

impl Chunk {
    fn new(batch: RecordBatch, first_seq: i64, last_seq: i64, since: Duration, has_quarantined: bool) -> Chunk {
        // Room for the others' copy, too, which a reader may want any time.
        let copies = 1 + usize::from(has_quarantined);
        let bytes = codec::batch_bytes(&batch).saturating_mul(copies);
        Chunk { batch, first_seq, last_seq, bytes, since, has_quarantined, regular: OnceLock::new() }
    }

    fn rows(&self, scope: Scope) -> &RecordBatch {
        if scope == Scope::All || !self.has_quarantined {
            return &self.batch;
        }
        // A batch that cannot be filtered is rather not shown.
        self.regular
            .get_or_init(|| quarantine::only(&self.batch, false).unwrap_or_else(|_| self.batch.slice(0, 0)))
    }

    fn level(&self) -> u32 {
        if self.batch.num_rows() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES {
            u32::MAX
        } else {
            self.batch.num_rows().max(1).ilog(FANOUT)
        }
    }

    /// The rows with a sequence number above `seq`.
    pub(crate) fn rows_after(&self, seq: i64, scope: Scope) -> Option<RecordBatch> {
        if seq >= self.last_seq {
            return None;
        }
        let batch = self.rows(scope);
        let skip = match seq < self.first_seq {
            true => 0,
            false => codec::seq_column(batch)?.values().partition_point(|&value| value <= seq),
        };
        (skip < batch.num_rows()).then(|| batch.slice(skip, batch.num_rows() - skip))
    }

    /// What is left of it without the rows up to `seq`.
    fn rest(&self, seq: i64) -> Option<Chunk> {
        let batch = self.rows_after(seq, Scope::All)?;
        let first_seq = *codec::seq_column(&batch)?.values().first()?;
        let has_quarantined = self.has_quarantined && quarantine::count(&batch) > 0;
        Some(Chunk::new(batch, first_seq, self.last_seq, self.since, has_quarantined))
    }
}

/// Rows of one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    /// In sequence order.
    pub(crate) chunks: Vec<Arc<Chunk>>,
    frozen: usize,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Rows {
    fn push(&mut self, table: Table, batch: RecordBatch, now: Duration) {
        let seq = codec::seq_column(&batch).map(|column| column.values());
        let Some((&first_seq, &last_seq)) = seq.and_then(|seq| seq.first().zip(seq.last())) else { return };
        let has_quarantined = quarantine::count(&batch) > 0;
        let chunk = Chunk::new(batch, first_seq, last_seq, now, has_quarantined);
        self.rows += chunk.batch.num_rows();
        self.bytes += chunk.bytes;
        self.chunks.push(Arc::new(chunk));
        while self.merge_last(table) {}
    }

    /// Merges the last chunks when there are enough that are no larger than the last one.
    fn merge_last(&mut self, table: Table) -> bool {
        let Some(level) = self.chunks.last().map(|last| last.level()).filter(|&level| level < u32::MAX) else {
            return false;
        };
        let free = self.chunks.get(self.frozen..).unwrap_or_default();
        let run = free.iter().rev().take_while(|chunk| chunk.level() <= level).count();
        let parts = free.get(free.len() - run..).unwrap_or_default();
        let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
        if run < FANOUT {
            return false;
        }
        let batches: Vec<RecordBatch> = parts.iter().map(|chunk| chunk.batch.clone()).collect();
        // Columns that do not go together stay apart: slower to read, not wrong.
        let Ok(batch) = codec::merge(table, &batches) else { return false };
        let has_quarantined = parts.iter().any(|chunk| chunk.has_quarantined);
        let merged = Chunk::new(batch, first.first_seq, last.last_seq, first.since, has_quarantined);
        let before: usize = parts.iter().map(|chunk| chunk.bytes).sum();
        self.bytes = (self.bytes + merged.bytes).saturating_sub(before);
        self.chunks.truncate(self.chunks.len() - run);
        self.chunks.push(Arc::new(merged));
        true
    }

    fn drop_through(&mut self, seq: i64) {
        let gone = self.chunks.partition_point(|chunk| chunk.last_seq <= seq);
        for chunk in self.chunks.drain(..gone) {
            self.rows -= chunk.batch.num_rows();
            self.bytes = self.bytes.saturating_sub(chunk.bytes);
        }
        self.frozen = self.frozen.saturating_sub(gone);
        if let Some(first) = self.chunks.first_mut()
            && first.first_seq <= seq
            && let Some(rest) = first.rest(seq)
        {
            self.rows = self.rows + rest.batch.num_rows() - first.batch.num_rows();
            self.bytes = (self.bytes + rest.bytes).saturating_sub(first.bytes);
            *first = Arc::new(rest);
        }
    }

    /// The rows above `seq`, in sequence order.
    pub(crate) fn after(&self, seq: i64, scope: Scope) -> Vec<RecordBatch> {
        let from = self.chunks.partition_point(|chunk| chunk.last_seq <= seq);
        self.chunks.iter().skip(from).filter_map(|chunk| chunk.rows_after(seq, scope)).collect()
    }

    /// The frozen rows above `seq`, in sequence order; `through` is the last that is frozen.
    pub(crate) fn frozen_after(&self, seq: i64, through: i64) -> Vec<RecordBatch> {
        let frozen = self.chunks.get(..self.frozen).unwrap_or_default();
        let rows = frozen.iter().filter_map(|chunk| chunk.rows_after(seq, Scope::All));
        rows.map(|batch| {
            let kept = codec::seq_column(&batch)
                .map_or(batch.num_rows(), |seq| seq.values().partition_point(|&seq| seq <= through));
            batch.slice(0, kept)
        })
        .filter(|batch| batch.num_rows() > 0)
        .collect()
    }

    /// The last sequence number before the hour of the last row, when that hour has just begun and at least half of the
    /// rows are before it.
    fn before_new_hour(&self) -> Option<i64> {
        let times = |chunk: &Chunk| {
            let ts = chunk.batch.column_by_name("ts")?;
            Some(ts.as_primitive_opt::<TimestampMicrosecondType>()?.values().clone())
        };
        let hour_of = |ts: i64| ts.div_euclid(HOUR_US);
        let hour = hour_of(*times(self.chunks.last()?)?.last()?);
        let (mut before, mut strays, mut begun) = (None, 0, 0);
        for chunk in &self.chunks {
            let seqs = codec::seq_column(&chunk.batch)?.values();
            for (&ts, &seq) in times(chunk)?.iter().zip(seqs) {
                if hour_of(ts) == hour {
                    begun += 1;
                } else {
                    strays += std::mem::take(&mut begun);
                    before = Some(seq);
                }
            }
        }
        before.filter(|_| begun <= self.rows / 2 && strays * STRAY_SHARE <= begun)
    }

    /// When the oldest row came.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.chunks.first().map(|chunk| chunk.since)
    }
}

/// All rows at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    tables: PerTable<Rows>,
    /// Last sequence number that was committed.
    pub(crate) last_seq: i64,
    /// Rows up to here are frozen.
    pub(crate) frozen_seq: Option<i64>,
}

impl State {
    /// Rows of a table.
    pub(crate) fn rows(&self, table: Table) -> &Rows {
        let [logs, spans] = &self.tables;
        match table {
            Table::Logs => logs,
            Table::Spans => spans,
        }
    }

    /// Up to which sequence number a seal takes rows. Both tables end at the same: that of the larger one's hours.
    fn through(&self, extent: Extent) -> i64 {
        let larger = self.tables.iter().max_by_key(|rows| rows.rows);
        let before = larger.filter(|_| extent == Extent::WholeHours).and_then(Rows::before_new_hour);
        before.unwrap_or(self.last_seq)
    }

    /// Bytes of both tables.
    pub(crate) fn bytes(&self) -> usize {
        self.tables.iter().map(|rows| rows.bytes).sum()
    }

    /// Rows of both tables.
    pub(crate) fn row_count(&self) -> usize {
        self.tables.iter().map(|rows| rows.rows).sum()
    }

    /// When the oldest row came.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.tables.iter().filter_map(Rows::since).min()
    }
}

/// The memory table.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Held while the next state is made.
    next: Mutex<()>,
    state: RwLock<Arc<State>>,
}

impl Memory {
    /// The present state.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The present state, and what `read` says at the same moment: nothing is inserted or dropped meanwhile.
    pub(crate) fn state_with<T>(&self, read: impl FnOnce() -> T) -> (Arc<State>, T) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let other = read();
        (Arc::clone(&state), other)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let _next: MutexGuard<'_, ()> = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state());
        let result = change(&mut state);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        result
    }

    /// Adds committed batches, in sequence order; all become visible at once.
    pub(crate) fn insert(&self, batches: impl IntoIterator<Item = (Table, RecordBatch)>, now: Duration) {
        self.change(|state| {
            for (table, batch) in batches {
                let Some(rows) = state.tables.get_mut(slot(table)) else { continue };
                rows.push(table, batch, now);
                let last = rows.chunks.last().map_or(0, |chunk| chunk.last_seq);
                state.last_seq = state.last_seq.max(last);
            }
        });
    }

    /// Raises the last sequence number: rows up to there are in files.
    pub(crate) fn raise(&self, seq: i64) {
        self.change(|state| state.last_seq = state.last_seq.max(seq));
    }

    /// Freezes what is there, or what `extent` says of it, unless something is frozen still; up to which sequence number,
    /// and the state with it.
    pub(crate) fn freeze(&self, extent: Extent) -> (i64, Arc<State>) {
        self.change(|state| {
            let through = match state.frozen_seq {
                Some(through) => through,
                None => {
                    let through = state.through(extent);
                    for rows in &mut state.tables {
                        rows.frozen = rows.chunks.partition_point(|chunk| chunk.first_seq <= through);
                    }
                    state.frozen_seq = Some(through);
                    through
                }
            };
            (through, Arc::new(state.clone()))
        })
    }

    /// What was frozen is in files and dropped.
    pub(crate) fn thaw(&self) {
        self.change(|state| {
            state.frozen_seq = None;
            for rows in &mut state.tables {
                rows.frozen = 0;
            }
        });
    }

    /// Drops rows that are in files.
    pub(crate) fn drop_through(&self, table: Table, seq: i64) {
        self.change(|state| {
            if let Some(rows) = state.tables.get_mut(slot(table)) {
                rows.drop_through(seq);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::{logs, logs_at, seqs};

    fn batch(first: i64, rows: usize) -> (Table, RecordBatch) {
        (Table::Logs, codec::with_seq(Table::Logs, &logs(first as u64, rows), first).unwrap())
    }

    fn seqs_of(memory: &Memory, after: i64) -> Vec<i64> {
        memory.state().rows(Table::Logs).after(after, Scope::All).iter().flat_map(seqs).collect()
    }

    #[test]
    fn tiny_batches_become_few_chunks_in_order() {
        let memory = Memory::default();
        for seq in 1..=1000 {
            memory.insert([batch(seq, 1)], Duration::from_secs(seq as u64));
        }
        let state = memory.state();
        let rows = state.rows(Table::Logs);
        assert!(rows.chunks.len() <= 7 * 5, "{} chunks", rows.chunks.len());
        assert_eq!((rows.rows, state.last_seq, rows.since()), (1000, 1000, Some(Duration::from_secs(1))));
        assert_eq!(seqs_of(&memory, 0), (1..=1000).collect::<Vec<_>>());
        assert_eq!(seqs_of(&memory, 990), (991..=1000).collect::<Vec<_>>());
        let bytes: usize = rows.chunks.iter().map(|chunk| chunk.bytes).sum();
        assert_eq!(rows.bytes, bytes, "the account is the sum");
    }

    #[test]
    fn frozen_rows_are_dropped_and_later_ones_stay() {
        let memory = Memory::default();
        memory.insert((1..=20).map(|seq| batch(seq, 1)), Duration::ZERO);
        let frozen = |state: &State| {
            state.rows(Table::Logs).frozen_after(0, 60).iter().flat_map(seqs).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            let (through, state) = memory.freeze(Extent::All);
            assert_eq!((through, frozen(&state)), (20, (1..=20).collect()), "the same until it is thawed");
            let next = memory.state().last_seq + 1;
            memory.insert((next..next + 20).map(|seq| batch(seq, 1)), Duration::from_secs(1));
        }
        assert_eq!(seqs_of(&memory, 0), (1..=60).collect::<Vec<_>>());
        memory.drop_through(Table::Logs, 20);
        memory.thaw();
        assert_eq!(seqs_of(&memory, 0), (21..=60).collect::<Vec<_>>());
        let state = memory.state();
        let bytes: usize = state.rows(Table::Logs).chunks.iter().map(|chunk| chunk.bytes).sum();
        assert_eq!((state.row_count(), state.bytes()), (40, bytes));
        assert_eq!(state.since(), Some(Duration::from_secs(1)));
        let (through, state) = memory.freeze(Extent::All);
        assert_eq!((through, frozen(&state)), (60, (21..=60).collect()));
    }

    #[test]
    fn an_hour_that_has_just_begun_is_left() {
        let cases: [(&str, &[(u64, usize)], i64); 8] = [
            ("one hour", &[(5, 8)], 8),
            ("a new one", &[(5, 6), (6, 2)], 6),
            ("of several", &[(5, 4), (6, 8), (7, 3)], 12),
            ("an older one", &[(6, 6), (5, 2)], 6),
            ("one that has most of the rows", &[(5, 3), (6, 5)], 8),
            ("a stray row before", &[(5, 20), (6, 1), (5, 1), (6, 16)], 22),
            ("too many of them", &[(5, 20), (6, 2), (5, 1), (6, 16)], 39),
            ("both in turn", &[(5, 9), (6, 1), (5, 1), (6, 1)], 12),
        ];
        for (what, runs, want) in cases {
            let hours: Vec<u64> =
                runs.iter().flat_map(|(hour, rows)| std::iter::repeat_n(*hour, *rows)).collect();
            let count = hours.len() as i64;
            // In one chunk, in several, each row by itself.
            for step in [hours.len(), 5, 1] {
                let memory = Memory::default();
                let firsts = (0..hours.len()).step_by(step);
                memory.insert(
                    firsts.map(|first| {
                        let rows = step.min(hours.len() - first);
                        let batch = logs_at(first as u64, rows, &|_| String::new(), &|at| hours[at as usize]);
                        (Table::Logs, codec::with_seq(Table::Logs, &batch, first as i64 + 1).unwrap())
                    }),
                    Duration::ZERO,
                );
                let (through, state) = memory.freeze(Extent::WholeHours);
                let frozen = state.rows(Table::Logs).frozen_after(0, through);
                let frozen: Vec<i64> = frozen.iter().flat_map(seqs).collect();
                assert_eq!((through, frozen), (want, (1..=want).collect()), "{what}, {step} at a time");
                memory.drop_through(Table::Logs, through);
                memory.thaw();
                let state = memory.state();
                let rows = state.rows(Table::Logs);
                assert_eq!(seqs_of(&memory, 0), (want + 1..=count).collect::<Vec<_>>());
                assert_eq!(rows.rows as i64, count - want);
                assert_eq!(rows.bytes, rows.chunks.iter().map(|chunk| chunk.bytes).sum::<usize>());
                assert_eq!(memory.freeze(Extent::All).0, count);
            }
        }
    }
}
