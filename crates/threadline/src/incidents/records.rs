//! Records of the store by their sequence numbers, as findings name them.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use threadline_model::columns::Batch;
use threadline_store::{Prune, StoreError, TableSnapshot};

/// Visits the records of a table that have one of some numbers, in no order: those in memory, then those in the newest
/// files whose numbers they can have. Whether files beyond `files_max` were left out.
///
/// # Errors
/// A sealed file cannot be read.
pub(super) fn each(
    table: &TableSnapshot,
    wanted: &BTreeSet<i64>,
    columns: Option<&[&str]>,
    files_max: usize,
    mut visit: impl FnMut(&Batch<'_>, usize, i64),
) -> Result<bool, StoreError> {
    let mut open = wanted.clone();
    for record_batch in &table.memory {
        rows(record_batch, &mut open, &mut visit);
    }
    // With the first and the last of the numbers that are looked for in it.
    let mut files: Vec<_> = table
        .files
        .iter()
        .filter_map(|file| {
            let mut within = open.range(file.meta().seq.clone());
            let first = within.next()?;
            Some((*within.next_back().unwrap_or(first), *first, file))
        })
        .collect();
    files.sort_by_key(|(last, first, _)| std::cmp::Reverse((*last, *first)));
    let cut = files.len() > files_max;
    for (last, first, file) in files.into_iter().take(files_max) {
        if open.range(first..=last).next().is_none() {
            continue;
        }
        let prune = Prune { seq: Some(first..=last), ..Prune::default() };
        for record_batch in file.scan(columns, &prune)? {
            rows(&record_batch?, &mut open, &mut visit);
        }
    }
    Ok(cut && !open.is_empty())
}

fn rows(record_batch: &RecordBatch, open: &mut BTreeSet<i64>, visit: &mut impl FnMut(&Batch<'_>, usize, i64)) {
    let batch = Batch::new(record_batch);
    let seqs = batch.int("seq");
    for row in 0..batch.rows() {
        if let Some(seq) = seqs.get(row).filter(|seq| open.remove(seq)) {
            visit(&batch, row, seq);
        }
    }
}
