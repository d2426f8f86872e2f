//! Erasure on request: files with rows that fit are written again without them; who asked and why is kept in the table
//! log and in the Merkle log.

use std::sync::{Arc, PoisonError};

use arrow_array::{Array, BooleanArray, RecordBatch};
use threadline_model::schema::Table;

use crate::Prune;
use crate::retention::{Loss, count_true};
use crate::sealed::Sealed;
use crate::sealed::leaves::PARAMETER_RECORD;
use crate::table_log::Operation;
use crate::{Erasure, StoreError};

/// Bytes of a record at most: it must fit a leaf of the Merkle log.
const RECORD_BYTES_MAX: usize = 8 << 10;

impl Sealed {
    /// Deletes the rows of a table's files for which `predicate` is true (null is not). One commit for all files, or
    /// none when no row fits. A snapshot that is held still reads the old files; they are removed with its last holder.
    ///
    /// # Errors
    /// When `record` is too long, when the disk fails, or what `predicate` says; then nothing was deleted.
    pub(crate) fn erase(
        &self,
        table: Table,
        predicate: &dyn Fn(&RecordBatch) -> Result<BooleanArray, StoreError>,
        record: &str,
    ) -> Result<Erasure, StoreError> {
        self.writable()?;
        if record.len() > RECORD_BYTES_MAX {
            let detail = format!("the record has {} bytes, at most {RECORD_BYTES_MAX} are taken", record.len());
            return Err(StoreError::Invalid { detail });
        }
        let mut maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = |batch: &RecordBatch| {
            let fits = predicate(batch)?;
            if fits.len() != batch.num_rows() {
                let detail = "a predicate must say something of every row".to_owned();
                return Err(StoreError::Invalid { detail });
            }
            Ok((0..fits.len()).map(|row| Some(!(fits.is_valid(row) && fits.value(row)))).collect())
        };
        let mut losses = Vec::new();
        let result = self.find_losses(table, predicate, &keep, &mut losses);
        if let Err(error) = result {
            let rests: Vec<_> = losses.into_iter().filter_map(|loss: Loss| loss.rest).collect();
            self.discard_unnamed(&self.side(table), &rests);
            return Err(error);
        }
        let erasure = Erasure { rows: losses.iter().map(|loss| loss.rows).sum(), files: losses.len() as u64 };
        let erased: Vec<_> = losses.iter().map(|loss| Arc::clone(&loss.file)).collect();
        // Before the commit: what a crash leaves undone then costs time only.
        self.unpack(table, &erased, maintenance.packs.entry(table).or_default());
        self.commit_losses(table, Operation::Erase, losses, &[(PARAMETER_RECORD, record.to_owned())])?;
        Ok(erasure)
    }

    fn find_losses(
        &self,
        table: Table,
        predicate: &dyn Fn(&RecordBatch) -> Result<BooleanArray, StoreError>,
        keep: &dyn Fn(&RecordBatch) -> Result<BooleanArray, StoreError>,
        losses: &mut Vec<Loss>,
    ) -> Result<(), StoreError> {
        for file in &self.catalogue().table(table).files {
            let mut rows = 0;
            for batch in file.scan(None, &Prune::default())? {
                rows += count_true(&predicate(&batch?)?);
            }
            if rows == 0 {
                continue;
            }
            let rest = if rows < file.meta().rows {
                self.rewrite(table, &[Arc::clone(file)], Some(keep))?
            } else {
                None
            };
            losses.push(Loss { file: Arc::clone(file), rows, rule: None, rest });
        }
        Ok(())
    }
}
