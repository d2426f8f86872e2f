//! An immutable view of memory and files, and how a query reads it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::RecordBatch;
use threadline_model::schema::{Layout, Table};

use crate::StoreError;
pub use crate::sealed::index::durations::{DurationRun, Durations};
pub use crate::sealed::index::rollup::{Facet, Facets, Rollup, RollupEntry};
pub use crate::sealed::reader::{PlacedScan, Places, SealedFile};

/// Memory and files of both tables at one moment. Files stay readable as long as a snapshot holds them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// `logs`.
    pub logs: TableSnapshot,
    /// `spans`.
    pub spans: TableSnapshot,
    /// The highest sequence number in the snapshot; 0 when the store is empty.
    pub last_seq: i64,
}

impl Snapshot {
    /// The view of a table.
    pub fn table(&self, table: Table) -> &TableSnapshot {
        match table {
            Table::Logs => &self.logs,
            Table::Spans => &self.spans,
        }
    }
}

/// Memory and files of one table.
#[derive(Clone, Debug)]
pub struct TableSnapshot {
    /// Which keys own columns.
    pub layout: Arc<Layout>,
    /// Rows not sealed yet, in sequence order, `seq` filled in. Columns that are all null may be missing.
    pub memory: Vec<RecordBatch>,
    /// Sealed files, in no order.
    pub files: Vec<Arc<SealedFile>>,
}

/// What the table log says of a sealed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// The table.
    pub table: Table,
    /// Path below the table's folder, `/`-separated.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Lowest and highest event time, µs.
    pub ts: RangeInclusive<i64>,
    /// Lowest and highest sequence number.
    pub seq: RangeInclusive<i64>,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Merkle root of the rows (docs/formats.md).
    pub rows_root: [u8; 32],
    /// Hour partition, µs since the epoch of its start.
    pub hour: i64,
    /// When the newest of its rows were sealed, ms since the epoch; merging them later does not change it.
    pub sealed_ms: i64,
    /// Whether it was written in haste and is to be written again, smaller.
    pub draft: bool,
    /// Its rows are in quarantine, all of them; of other files none is.
    pub quarantined: bool,
}

/// Batches of a sealed file.
pub type Scan = Box<dyn Iterator<Item = Result<RecordBatch, StoreError>> + Send>;
