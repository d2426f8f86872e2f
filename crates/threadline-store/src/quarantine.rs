//! Records in quarantine: kept and durable like all others, and in no snapshot that does not ask for them.
//!
//! They are sealed into files of their own, so that whoever does not ask simply does not get these files: every count
//! that the others keep (rows, roll-ups, facets, postings) stays exact without knowing of any quarantine.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use threadline_model::columns::Batch;
use threadline_model::schema::verdict;

use crate::StoreError;

/// Which records a snapshot or a tail has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All but those in quarantine.
    #[default]
    Regular,
    /// All.
    All,
}

/// How many rows of a batch are in quarantine.
pub(crate) fn count(batch: &RecordBatch) -> usize {
    let verdict = Batch::new(batch).int("verdict");
    (0..batch.num_rows()).filter(|&row| is_quarantined(verdict.get(row))).count()
}

fn is_quarantined(bits: Option<i64>) -> bool {
    bits.is_some_and(|bits| bits & verdict::QUARANTINED != 0)
}

/// The rows of a batch that are in quarantine, or those that are not.
pub(crate) fn only(batch: &RecordBatch, quarantined: bool) -> Result<RecordBatch, StoreError> {
    let verdict = Batch::new(batch).int("verdict");
    let wanted: BooleanArray =
        (0..batch.num_rows()).map(|row| Some(is_quarantined(verdict.get(row)) == quarantined)).collect();
    Ok(filter_record_batch(batch, &wanted)?)
}

/// The batches without rows in quarantine, and those rows.
pub(crate) fn split(batches: &[RecordBatch]) -> Result<[Vec<RecordBatch>; 2], StoreError> {
    let (mut regular, mut quarantined) = (Vec::with_capacity(batches.len()), Vec::new());
    for batch in batches {
        match count(batch) {
            0 => regular.push(batch.clone()),
            rows if rows == batch.num_rows() => quarantined.push(batch.clone()),
            _ => {
                regular.push(only(batch, false)?);
                quarantined.push(only(batch, true)?);
            }
        }
    }
    Ok([regular, quarantined])
}
