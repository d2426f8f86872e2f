//! Where rows lie: batches in memory and sealed files, read alike.

use std::sync::Arc;

use arrow_array::RecordBatch;
use threadline_model::columns::{Batch, IntColumn};
use threadline_store::{Places, Prune, Scope, SealedFile, TableSnapshot};

use crate::lang::Expr;
use crate::matcher::{Mask, Matcher};
use crate::search::TimeRange;
use crate::{Guard, QueryError};

/// Rows of a memory batch that are looked at between two looks at the guard.
const MEMORY_SLICE_ROWS: usize = 32 << 10;

/// A memory batch or a sealed file.
#[derive(Clone, Debug)]
pub enum Source {
    /// Rows not sealed yet.
    Memory {
        /// The rows.
        batch: RecordBatch,
        /// Lowest and highest event time, µs.
        ts: (i64, i64),
    },
    /// A sealed file.
    File(Arc<SealedFile>),
}

/// The records that a search is about: those in quarantine only when it names them.
pub fn scope_of(expr: &Expr) -> Scope {
    if expr.names_quarantine() { Scope::All } else { Scope::Regular }
}

/// Batches of a source.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, QueryError>> + Send>;

/// All sources of a table, in no order.
pub fn sources(table: &TableSnapshot) -> Vec<Source> {
    let memory = table.memory.iter().filter(|batch| batch.num_rows() > 0).map(|batch| {
        let column = Batch::new(batch).int("ts");
        let ts = match column {
            IntColumn::Timestamp(array) => array
                .values()
                .iter()
                .fold((i64::MAX, i64::MIN), |(low, high), ts| (low.min(*ts), high.max(*ts))),
            _ => (0, 0),
        };
        Source::Memory { batch: batch.clone(), ts }
    });
    memory.chain(table.files.iter().map(|file| Source::File(Arc::clone(file)))).collect()
}

impl Source {
    /// Lowest and highest event time, µs.
    pub fn ts(&self) -> (i64, i64) {
        match self {
            Source::Memory { ts, .. } => *ts,
            Source::File(file) => (*file.meta().ts.start(), *file.meta().ts.end()),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        match self {
            Source::Memory { batch, .. } => batch.num_rows() as u64,
            Source::File(file) => file.meta().rows,
        }
    }

    /// Whether every row lies in the range.
    pub fn is_within(&self, range: TimeRange) -> bool {
        let (first, last) = self.ts();
        range.from_us.is_none_or(|from| from <= first) && range.to_us.is_none_or(|to| last < to)
    }

    /// Whether no row can fulfil `prune`.
    pub fn excluded_by(&self, prune: &Prune) -> bool {
        match self {
            Source::Memory { ts, .. } => {
                prune.ts.as_ref().is_some_and(|range| ts.1 < *range.start() || ts.0 > *range.end())
            }
            Source::File(file) => file.excluded_by(prune),
        }
    }

    /// Reads the named columns (all when `None`) of the rows that may fulfil `prune`, and of others.
    ///
    /// # Errors
    /// The store failed.
    pub fn scan(&self, columns: Option<&[&str]>, prune: &Prune) -> Result<Batches, QueryError> {
        match self {
            Source::Memory { batch, .. } => {
                let batch = match columns {
                    None => batch.clone(),
                    Some(columns) => {
                        let schema = batch.schema();
                        let wanted: Vec<usize> =
                            columns.iter().filter_map(|name| schema.index_of(name).ok()).collect();
                        batch.project(&wanted)?
                    }
                };
                let rows = batch.num_rows();
                Ok(Box::new(
                    (0..rows)
                        .step_by(MEMORY_SLICE_ROWS)
                        .map(move |start| Ok(batch.slice(start, MEMORY_SLICE_ROWS.min(rows - start)))),
                ))
            }
            Source::File(file) => Ok(Box::new(file.scan(columns, prune)?.map(|batch| Ok(batch?)))),
        }
    }
}

/// Where rows of a batch lie in their source.
pub enum Where<'a> {
    /// From this row of a memory batch on.
    From(usize),
    /// At these rows of a file.
    At(&'a Places),
}

impl Where<'_> {
    /// The row of the source that a row of the batch is.
    pub fn row(&self, row: usize) -> usize {
        match self {
            Where::From(first) => first + row,
            Where::At(places) => places.get(row).unwrap_or(usize::MAX),
        }
    }
}

/// Walks over a source: calls `each(batch, where its rows lie, matching rows)` for every batch with rows that lie in
/// the range and fulfil the condition. The batch has the columns the condition needs, `ts` and `columns`.
pub fn each_batch(
    source: &Source,
    matcher: &Matcher,
    columns: &[&str],
    prune: &Prune,
    range: TimeRange,
    guard: &Guard,
    mut each: impl FnMut(&RecordBatch, &Where<'_>, &Mask) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    if source.excluded_by(prune) {
        return Ok(());
    }
    let mut names: Vec<&str> = matcher.columns().iter().map(String::as_str).collect();
    names.extend(columns);
    let within = source.is_within(range);
    if !within || names.is_empty() {
        names.push("ts");
    }
    names.sort_unstable();
    names.dedup();
    let mut one = |batch: &RecordBatch, place: &Where<'_>| {
        guard.check()?;
        let mut alive = Mask::all(batch.num_rows());
        if !within {
            let ts = Batch::new(batch).int("ts");
            alive.retain(|row| ts.get(row).is_some_and(|ts| range.contains(ts)));
        }
        let found = if alive.is_empty() { alive } else { matcher.select(batch, &alive) };
        if found.is_empty() { Ok(()) } else { each(batch, place, &found) }
    };
    match source {
        Source::File(file) => {
            for placed in file.scan_places(Some(&names), prune)? {
                let (batch, places) = placed?;
                one(&batch, &Where::At(&places))?;
            }
        }
        Source::Memory { .. } => {
            let mut first_row = 0;
            for batch in source.scan(Some(&names), prune)? {
                let batch = batch?;
                one(&batch, &Where::From(first_row))?;
                first_row += batch.num_rows();
            }
        }
    }
    Ok(())
}
