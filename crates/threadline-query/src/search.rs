//! Rows that fulfil an expression, newest first, with early stop and cursor paging.
//!
//! Vocabulary:
//! - *key*: position of a row in the answer's order, and where the row lies;
//! - *pass*: one walk over the sources that collects the best keys beyond a position. It reads only the columns that
//!   the condition needs, takes the sources by their best time, and stops when no remaining one can improve the answer;
//! - *piece*: some consecutive keys of a pass that are read in full, as one batch of the answer.
//!
//! An answer of any size is made in bounded memory: a pass holds a bounded number of keys, a piece a bounded number
//! of bytes. Rows that arrive meanwhile are not in the snapshot; those that arrive between pages are in the next page
//! exactly when they lie beyond the cursor.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow_schema::{Field, Schema};
use rustc_hash::FxHashMap;
use threadline_model::columns::{Batch, IntColumn};
use threadline_model::schema::{Layout, Table};
use threadline_store::{Prune, Snapshot};

use crate::cores::{cores, on_cores};
use crate::lang::Expr;
pub use crate::matcher::Matcher;
use crate::matcher::prune;
use crate::source::{Source, each_batch, sources};
use crate::{Guard, QueryError};

/// Half-open range of event times in µs; an open end is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Inclusive.
    pub from_us: Option<i64>,
    /// Exclusive.
    pub to_us: Option<i64>,
}

impl TimeRange {
    /// Whether a time in µs lies in the range.
    pub fn contains(&self, ts_us: i64) -> bool {
        self.from_us.is_none_or(|from| from <= ts_us) && self.to_us.is_none_or(|to| ts_us < to)
    }
}

/// Position after a row in (time, sequence) order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Event time, µs.
    pub ts_us: i64,
    /// Nanoseconds below the µs.
    pub ns: i16,
    /// Sequence number.
    pub seq: i64,
}

impl Cursor {
    /// Text form for URLs.
    pub fn encode(&self) -> String {
        format!("{}.{}.{}", self.ts_us, self.ns, self.seq)
    }

    /// From the text form.
    pub fn decode(text: &str) -> Option<Cursor> {
        let mut parts = text.split('.');
        let cursor = Cursor {
            ts_us: parts.next()?.parse().ok()?,
            ns: parts.next()?.parse().ok()?,
            seq: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    }
}

/// Order of rows by (event time, ns, sequence number).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
}

/// What to find.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The table.
    pub table: Table,
    /// The condition.
    pub expr: Expr,
    /// Event times.
    pub range: TimeRange,
    /// Rows at most.
    pub limit: usize,
    /// Continue after this row of an earlier answer.
    pub after: Option<Cursor>,
    /// Order.
    pub order: Order,
    /// Columns wanted; all when `None`. `ts`, `ns`, `seq` always come.
    pub columns: Option<Vec<String>>,
}

/// Batches of an answer, in order. Dropping it ends the query.
pub type Rows = Box<dyn Iterator<Item = Result<RecordBatch, QueryError>> + Send>;

/// Keys that a pass holds at most, whatever the memory bound.
const PASS_KEYS_MAX: usize = 1 << 20;
/// Rows of the first piece: small, so that the answer begins soon.
const PIECE_ROWS_FIRST: usize = 256;
/// Rows of a piece at most.
const PIECE_ROWS_MAX: usize = 8192;
/// Bytes that a piece aims at.
const PIECE_BYTES: usize = 8 << 20;

/// Finds rows.
///
/// # Errors
/// A request that makes no sense. What goes wrong while reading comes out of the iterator, as its last item.
pub fn search(snapshot: &Snapshot, request: &SearchRequest, guard: &Guard) -> Result<Rows, QueryError> {
    if request.limit == 0 {
        return Err(QueryError::Invalid("the limit must be at least 1".to_owned()));
    }
    let range = request.range;
    if let (Some(from), Some(to)) = (range.from_us, range.to_us)
        && from > to
    {
        return Err(QueryError::Invalid("the time range ends before it begins".to_owned()));
    }
    let table = snapshot.table(request.table);
    Ok(Box::new(Search {
        matcher: Matcher::new(&request.expr, request.table)?,
        prune: prune(&request.expr, request.table, range),
        layout: Arc::clone(&table.layout),
        sources: sources(table),
        columns: request.columns.clone(),
        order: request.order,
        remaining: request.limit,
        after: request.after,
        range,
        guard: guard.clone(),
        keys: VecDeque::new(),
        exhausted: false,
        piece_rows: PIECE_ROWS_FIRST,
    }))
}

/// Cursor of a row of an answer.
pub fn cursor_of(batch: &RecordBatch, row: usize) -> Cursor {
    Positions::new(Batch::new(batch)).get(row)
}

/// The columns that order rows.
struct Positions<'a> {
    ts: IntColumn<'a>,
    ns: IntColumn<'a>,
    seq: IntColumn<'a>,
}

impl<'a> Positions<'a> {
    fn new(batch: Batch<'a>) -> Self {
        Self { ts: batch.int("ts"), ns: batch.int("ns"), seq: batch.int("seq") }
    }

    fn get(&self, row: usize) -> Cursor {
        Cursor {
            ts_us: self.ts.get(row).unwrap_or(0),
            ns: self.ns.get(row).and_then(|ns| i16::try_from(ns).ok()).unwrap_or(0),
            seq: self.seq.get(row).unwrap_or(0),
        }
    }
}

/// Position of a row in the answer, and where the row lies.
#[derive(Clone, Copy, Debug)]
struct Key {
    at: Cursor,
    source: u32,
    /// Row of the source.
    row: u32,
}

impl Order {
    /// Less = earlier in the answer.
    fn compare(self, a: &Cursor, b: &Cursor) -> Ordering {
        match self {
            Order::Newest => b.cmp(a),
            Order::Oldest => a.cmp(b),
        }
    }
}

/// The best keys so far, at most `max` after [`Best::trim`].
struct Best {
    order: Order,
    max: usize,
    keys: Vec<Key>,
    /// The last key that still counts, once there are `max`.
    worst: Option<Cursor>,
}

/// The last key that still counts, as far as any core knows.
type Worst = Mutex<Option<Cursor>>;

impl Best {
    fn new(order: Order, max: usize) -> Best {
        Best { order, max, keys: Vec::new(), worst: None }
    }

    /// Trims, and tells the others and is told what still counts.
    fn agree(&mut self, shared: &Worst) {
        self.trim();
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let order = self.order;
        let worst = self.worst.into_iter().chain(*shared).min_by(|a, b| order.compare(a, b));
        (self.worst, *shared) = (worst, worst);
    }

    fn push(&mut self, key: Key) {
        if self.worst.is_none_or(|worst| self.order.compare(&key.at, &worst).is_lt()) {
            self.keys.push(key);
            if self.keys.len() >= self.max * 2 {
                self.trim();
            }
        }
    }

    fn trim(&mut self) {
        if self.keys.len() >= self.max && self.max > 0 {
            let order = self.order;
            let (_, last, _) =
                self.keys.select_nth_unstable_by(self.max - 1, |a, b| order.compare(&a.at, &b.at));
            let last = last.at;
            self.worst =
                Some(self.worst.into_iter().chain([last]).min_by(|a, b| order.compare(a, b)).unwrap_or(last));
            self.keys.truncate(self.max);
        }
    }
}

struct Search {
    matcher: Matcher,
    prune: Prune,
    layout: Arc<Layout>,
    sources: Vec<Source>,
    columns: Option<Vec<String>>,
    order: Order,
    remaining: usize,
    after: Option<Cursor>,
    range: TimeRange,
    guard: Guard,
    keys: VecDeque<Key>,
    /// The last pass found fewer keys than it could hold.
    exhausted: bool,
    piece_rows: usize,
}

impl Iterator for Search {
    type Item = Result<RecordBatch, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let result = self.piece();
        if !matches!(result, Ok(Some(_))) {
            self.remaining = 0;
            self.keys.clear();
        }
        result.transpose()
    }
}

impl Search {
    fn piece(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        self.guard.check()?;
        if self.keys.is_empty() && self.remaining > 0 && !self.exhausted {
            self.pass()?;
        }
        let rows = self.keys.len().min(self.piece_rows);
        let keys: Vec<Key> = self.keys.drain(..rows).collect();
        let Some(last) = keys.last() else { return Ok(None) };
        self.after = Some(last.at);
        let batch = self.read(&keys)?;
        self.remaining -= keys.len();
        let bytes = batch.get_array_memory_size().max(1);
        self.piece_rows =
            (rows.saturating_mul(PIECE_BYTES) / bytes).clamp(64, (rows * 4).clamp(64, PIECE_ROWS_MAX));
        Ok(Some(batch))
    }

    /// Collects the next keys after `self.after`.
    fn pass(&mut self) -> Result<(), QueryError> {
        let max = (self.guard.memory_bytes_max / (4 * size_of::<Key>())).clamp(1024, PASS_KEYS_MAX);
        let newest = self.order == Order::Newest;
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_key(|index| {
            let time =
                self.sources.get(*index).map_or(0, |source| if newest { source.ts().1 } else { source.ts().0 });
            if newest { time.wrapping_neg() } else { time }
        });
        let max_here = max.min(self.remaining);
        let shared = Worst::default();
        let new = |_: &_| (Best::new(self.order, max_here), self.prune.clone());
        let add = |(best, tight): &mut (Best, Prune), index: &usize| {
            let Some(source) = self.sources.get(*index) else { return Ok(ControlFlow::Continue(())) };
            best.agree(&shared);
            if best.worst.is_some_and(|worst| {
                if newest { source.ts().1 < worst.ts_us } else { source.ts().0 > worst.ts_us }
            }) {
                // Nor do those that follow have better ones.
                return Ok(ControlFlow::Break(()));
            }
            let range = self.bounded(best.worst);
            tight.ts = crate::matcher::prune_nothing_but(range).ts.or_else(|| self.prune.ts.clone());
            self.gather(*index, tight, range, best)?;
            Ok(ControlFlow::Continue(()))
        };
        // Each core holds up to twice as many, until it trims.
        let core_bytes = max_here * 2 * size_of::<Key>();
        let cores = if core_bytes * cores() <= self.guard.memory_bytes_max { cores() } else { 1 };
        let (mut best, _) = on_cores(&order, cores, &self.guard, new, add, |(best, _), (part, _)| {
            best.keys.extend(part.keys);
            Ok(())
        })?;
        best.trim();
        let order = self.order;
        best.keys.sort_unstable_by(|a, b| order.compare(&a.at, &b.at));
        self.exhausted = best.keys.len() < max;
        self.keys = best.keys.into();
        Ok(())
    }

    /// The times that rows beyond `self.after` and not beyond `worst` can have.
    fn bounded(&self, worst: Option<Cursor>) -> TimeRange {
        let (mut from, mut to) = (self.prune_from(), self.prune_to());
        let (first, last) = match self.order {
            Order::Newest => (worst, self.after),
            Order::Oldest => (self.after, worst),
        };
        if let Some(first) = first {
            from = Some(from.map_or(first.ts_us, |from| from.max(first.ts_us)));
        }
        if let Some(last) = last {
            let end = last.ts_us.saturating_add(1);
            to = Some(to.map_or(end, |to| to.min(end)));
        }
        TimeRange { from_us: from, to_us: to }
    }

    fn prune_from(&self) -> Option<i64> {
        self.prune.ts.as_ref().map(|ts| *ts.start()).filter(|from| *from != i64::MIN).or(self.range.from_us)
    }

    fn prune_to(&self) -> Option<i64> {
        self.prune
            .ts
            .as_ref()
            .filter(|ts| *ts.end() != i64::MAX)
            .map(|ts| ts.end().saturating_add(1))
            .or(self.range.to_us)
    }

    fn gather(&self, index: usize, prune: &Prune, range: TimeRange, best: &mut Best) -> Result<(), QueryError> {
        let Some(source) = self.sources.get(index) else { return Ok(()) };
        let (order, after) = (self.order, self.after);
        let columns = ["ts", "ns", "seq"];
        each_batch(source, &self.matcher, &columns, prune, range, &self.guard, |batch, place, found| {
            let positions = Positions::new(Batch::new(batch));
            for row in found.iter() {
                let at = positions.get(row);
                if after.is_none_or(|after| order.compare(&after, &at).is_lt()) {
                    best.push(Key { at, source: index as u32, row: place.row(row) as u32 });
                }
            }
            Ok(())
        })
    }

    /// Reads the rows of these keys, in their order.
    fn read(&self, keys: &[Key]) -> Result<RecordBatch, QueryError> {
        let mut of_source: FxHashMap<u32, Vec<usize>> = FxHashMap::default();
        for (position, key) in keys.iter().enumerate() {
            of_source.entry(key.source).or_default().push(position);
        }
        let mut parts = Parts { batches: Vec::new(), places: vec![None; keys.len()] };
        for (index, positions) in of_source {
            match self.sources.get(index as usize) {
                Some(Source::Memory { batch, .. }) => {
                    let rows =
                        positions.iter().filter_map(|p| Some((*p, keys.get(*p)?.row))).collect::<Vec<_>>();
                    parts.add(&self.project(batch)?, &rows)?;
                }
                Some(source) => self.read_file(source, keys, &positions, &mut parts)?,
                None => {}
            }
        }
        parts.finish(&self.layout)
    }

    fn project(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let Some(columns) = &self.columns else { return Ok(batch.clone()) };
        let schema = batch.schema();
        let wanted: Vec<usize> = (0..schema.fields().len())
            .filter(|index| {
                let name = schema.field(*index).name();
                matches!(name.as_str(), "ts" | "ns" | "seq") || columns.contains(name)
            })
            .collect();
        Ok(batch.project(&wanted)?)
    }

    fn read_file(
        &self,
        source: &Source,
        keys: &[Key],
        positions: &[usize],
        parts: &mut Parts,
    ) -> Result<(), QueryError> {
        let Source::File(file) = source else { return Ok(()) };
        let mut wanted: Vec<(usize, usize)> =
            positions.iter().filter_map(|p| Some((keys.get(*p)?.row as usize, *p))).collect();
        wanted.sort_unstable();
        let places: Vec<usize> = wanted.iter().map(|(row, _)| *row).collect();
        let columns = self.columns.as_ref().map(|columns| {
            let mut all: Vec<&str> = columns.iter().map(String::as_str).collect();
            all.extend(["ts", "ns", "seq"]);
            all.sort_unstable();
            all.dedup();
            all
        });
        let mut wanted = wanted.into_iter();
        for batch in file.rows(columns.as_deref(), &places)? {
            self.guard.check()?;
            let batch = batch?;
            let rows: Vec<(usize, u32)> = wanted
                .by_ref()
                .take(batch.num_rows())
                .zip(0..)
                .map(|((_, position), row)| (position, row))
                .collect();
            parts.add(&batch, &rows)?;
        }
        match wanted.len() {
            0 => Ok(()),
            left => Err(QueryError::Internal(format!("{left} rows of a sealed file were not found again"))),
        }
    }
}

/// Rows picked out of batches, to be put in order.
struct Parts {
    batches: Vec<RecordBatch>,
    /// Batch and row for each position of the answer.
    places: Vec<Option<(usize, usize)>>,
}

impl Parts {
    /// Adds rows of a batch, each with its position in the answer.
    fn add(&mut self, batch: &RecordBatch, rows: &[(usize, u32)]) -> Result<(), QueryError> {
        if rows.is_empty() {
            return Ok(());
        }
        let indices = UInt32Array::from_iter_values(rows.iter().map(|(_, row)| *row));
        let taken = arrow_select::take::take_record_batch(batch, &indices)?;
        for (row, (position, _)) in rows.iter().enumerate() {
            if let Some(place) = self.places.get_mut(*position) {
                *place = Some((self.batches.len(), row));
            }
        }
        self.batches.push(taken);
        Ok(())
    }

    fn finish(self, layout: &Layout) -> Result<RecordBatch, QueryError> {
        let places: Vec<(usize, usize)> = self.places.into_iter().flatten().collect();
        let schema = layout.schema();
        let fields: Vec<Arc<Field>> = schema
            .fields()
            .iter()
            .filter(|field| self.batches.iter().any(|batch| batch.column_by_name(field.name()).is_some()))
            .cloned()
            .collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len());
        for field in &fields {
            let arrays: Vec<ArrayRef> = self
                .batches
                .iter()
                .map(|batch| match batch.column_by_name(field.name()) {
                    Some(array) => shrunk(array),
                    None => Ok(new_null_array(field.data_type(), batch.num_rows())),
                })
                .collect::<Result<_, _>>()?;
            let arrays: Vec<&dyn Array> = arrays.iter().map(|array| array.as_ref()).collect();
            columns.push(arrow_select::interleave::interleave(&arrays, &places)?);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

/// A dictionary without the values that no row uses, so that pieces do not carry the dictionaries of whole files.
fn shrunk(array: &ArrayRef) -> Result<ArrayRef, QueryError> {
    use arrow_array::cast::AsArray;
    let Some(dictionary) = array.as_any_dictionary_opt() else { return Ok(Arc::clone(array)) };
    if dictionary.values().len() <= array.len() {
        return Ok(Arc::clone(array));
    }
    Ok(arrow_select::dictionary::garbage_collect_any_dictionary(dictionary)?)
}
