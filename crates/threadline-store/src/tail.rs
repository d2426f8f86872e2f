//! All records from a sequence number on, out of memory and files.
//!
//! The tail takes a *window* of sequence numbers at a time out of one snapshot, so it does not matter whether a row is
//! in memory, in a file, or in a merged file: each snapshot has it exactly once, and the windows do not overlap.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_ord::sort::sort_to_indices;
use arrow_select::take::take_record_batch;
use threadline_model::schema::Table;

use crate::core::Core;
use crate::{Prune, Scope, SealedFile, Snapshot, StoreError, TableSnapshot, codec};

/// Sequence numbers of a window that reaches into files: a file is sorted otherwise, so each window scans it anew.
const WINDOW_SEQS: i64 = 64 << 10;

/// Some consecutive records of one table, in sequence order.
#[derive(Clone, Debug)]
pub struct TailBatch {
    /// The table.
    pub table: Table,
    /// Rows with `seq`, ascending.
    pub batch: RecordBatch,
}

/// All records from a sequence number on.
pub struct Tail {
    core: Arc<Core>,
    scope: Scope,
    /// First sequence number that is neither given nor in `ready`.
    next_seq: i64,
    /// Rows of the last window that are not given yet.
    ready: VecDeque<TailBatch>,
}

impl Tail {
    pub(crate) fn new(core: Arc<Core>, from_seq: i64, scope: Scope) -> Self {
        Self { core, scope, next_seq: from_seq.max(1), ready: VecDeque::new() }
    }

    /// The next rows, in sequence order over both tables; at most about `rows_max`. Empty when there is nothing new
    /// yet. Sequence numbers whose rows were deleted, or that were never acknowledged, are passed over.
    ///
    /// # Errors
    /// When a sealed file cannot be read; the position stays, so the call can be repeated.
    pub fn next(&mut self, rows_max: usize) -> Result<Vec<TailBatch>, StoreError> {
        if self.ready.is_empty() {
            self.fill()?;
        }
        let mut out = Vec::new();
        let mut rows = rows_max.max(1);
        while let Some(front) = self.ready.front_mut().filter(|_| rows > 0) {
            let all = front.batch.num_rows();
            if all > rows {
                out.push(TailBatch { table: front.table, batch: front.batch.slice(0, rows) });
                front.batch = front.batch.slice(rows, all - rows);
                break;
            }
            rows -= all;
            out.extend(self.ready.pop_front());
        }
        Ok(out)
    }

    /// The sequence number the next row will have at least: where to resume.
    pub fn position(&self) -> i64 {
        let first = |batch: &TailBatch| codec::seq_column(&batch.batch)?.values().first().copied();
        self.ready.front().and_then(first).unwrap_or(self.next_seq)
    }

    /// Waits until there may be something new, at most `timeout`. Needs [`crate::Options::threads`].
    pub fn wait(&self, timeout: Duration) {
        if self.ready.is_empty() {
            self.core.progress.wait(self.next_seq, timeout);
        }
    }

    /// Reads windows until one has rows or nothing is left.
    fn fill(&mut self) -> Result<(), StoreError> {
        let snapshot = self.core.snapshot(self.scope);
        while self.ready.is_empty() && self.next_seq <= snapshot.last_seq {
            let Some(first) = first_seq_from(&snapshot, self.next_seq) else {
                self.next_seq = snapshot.last_seq + 1;
                break;
            };
            let last = first.saturating_add(WINDOW_SEQS - 1).min(snapshot.last_seq);
            self.ready = read_window(&snapshot, first..=last)?.into();
            self.next_seq = last + 1;
        }
        Ok(())
    }
}

/// The lowest sequence number from `seq` on that a row may have.
fn first_seq_from(snapshot: &Snapshot, seq: i64) -> Option<i64> {
    let firsts = Table::ALL.into_iter().flat_map(|table| {
        let table = snapshot.table(table);
        let files = table.files.iter().map(|file| file.meta().seq.clone());
        files.chain(table.memory.iter().filter_map(seq_range))
    });
    firsts.filter(|range| *range.end() >= seq).map(|range| (*range.start()).max(seq)).min()
}

fn seq_range(batch: &RecordBatch) -> Option<RangeInclusive<i64>> {
    let seq = codec::seq_column(batch)?.values();
    Some(*seq.first()?..=*seq.last()?)
}

fn read_window(snapshot: &Snapshot, window: RangeInclusive<i64>) -> Result<Vec<TailBatch>, StoreError> {
    let logs = sorted_rows(Table::Logs, &snapshot.logs, &window)?;
    let spans = sorted_rows(Table::Spans, &snapshot.spans, &window)?;
    Ok(interleave(logs, spans))
}

/// The rows of a table in the window, in batches that follow each other.
fn sorted_rows(
    table: Table,
    view: &TableSnapshot,
    window: &RangeInclusive<i64>,
) -> Result<VecDeque<RecordBatch>, StoreError> {
    let mut found = Vec::new();
    let prune = Prune { seq: Some(window.clone()), ..Prune::default() };
    for file in view.files.iter().filter(|file| overlaps(file, window)) {
        for batch in file.scan(None, &prune)? {
            let batch = rows_within(&batch?, window)?;
            if batch.num_rows() > 0 {
                found.push(batch);
            }
        }
    }
    let mut out = VecDeque::new();
    if !found.is_empty() {
        let merged = codec::merge(table, &found)?;
        let seq = merged.column_by_name(codec::SEQ);
        let seq = seq.ok_or_else(|| StoreError::corrupt("a sealed file has no sequence numbers"))?;
        out.push_back(take_record_batch(&merged, &sort_to_indices(seq, None, None)?)?);
    }
    // Rows in memory come after all rows in files.
    for batch in &view.memory {
        let batch = slice_within(batch, window);
        if batch.num_rows() > 0 {
            out.push_back(batch);
        }
    }
    Ok(out)
}

fn overlaps(file: &SealedFile, window: &RangeInclusive<i64>) -> bool {
    let own = &file.meta().seq;
    own.start() <= window.end() && window.start() <= own.end()
}

/// The rows of a batch in any order that lie in the window.
fn rows_within(batch: &RecordBatch, window: &RangeInclusive<i64>) -> Result<RecordBatch, StoreError> {
    let seq = codec::seq_column(batch).ok_or_else(|| StoreError::corrupt("a batch has no sequence numbers"))?;
    let mask = seq.iter().map(|seq| Some(seq.is_some_and(|seq| window.contains(&seq)))).collect();
    Ok(arrow_select::filter::filter_record_batch(batch, &mask)?)
}

/// The rows of a batch in sequence order that lie in the window.
fn slice_within(batch: &RecordBatch, window: &RangeInclusive<i64>) -> RecordBatch {
    let Some(seq) = codec::seq_column(batch).map(|seq| seq.values()) else { return batch.slice(0, 0) };
    let from = seq.partition_point(|seq| seq < window.start());
    let to = seq.partition_point(|seq| seq <= window.end());
    batch.slice(from, to - from)
}

/// Runs of rows of either table, in sequence order.
fn interleave(mut logs: VecDeque<RecordBatch>, mut spans: VecDeque<RecordBatch>) -> Vec<TailBatch> {
    let first = |batches: &VecDeque<RecordBatch>| {
        batches.front().and_then(seq_range).map(|range| *range.start()).unwrap_or(i64::MAX)
    };
    let mut out = Vec::new();
    while !logs.is_empty() || !spans.is_empty() {
        let (table, own, other) = if first(&logs) <= first(&spans) {
            let other = first(&spans);
            (Table::Logs, &mut logs, other)
        } else {
            let other = first(&logs);
            (Table::Spans, &mut spans, other)
        };
        let Some(batch) = own.pop_front() else { break };
        let rows = codec::seq_column(&batch)
            .map_or(batch.num_rows(), |seq| seq.values().partition_point(|&seq| seq < other));
        // At least one row, so that this ends whatever the numbers are.
        let rows = rows.max(1).min(batch.num_rows());
        if rows < batch.num_rows() {
            own.push_front(batch.slice(rows, batch.num_rows() - rows));
        }
        out.push(TailBatch { table, batch: batch.slice(0, rows) });
    }
    out
}
