//! Bounds and periods of a store, and what it takes from outside.

use std::sync::Arc;
use std::time::Duration;

use threadline_model::clock::{Clock, Rng};
use threadline_model::disk::Disk;
use threadline_model::schema::Table;

/// What a store takes from outside.
#[derive(Clone)]
pub struct Env {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
}

/// How long the records of a stream are kept. A stream is the records that all given conditions fit.
/// The first rule that fits a record decides; a record that no rule fits is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionRule {
    /// Table; both when `None`.
    pub table: Option<Table>,
    /// Service name; any when `None`.
    pub service: Option<String>,
    /// Event name, with `*` at the end for a class such as `security.*`; any when `None`.
    pub event: Option<String>,
    /// Age, by event time in effect, after which records are deleted.
    pub age_max: Duration,
}

/// Bounds and periods of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a write-ahead-log segment.
    pub wal_segment_bytes: u64,
    /// A group commit happens when this many bytes wait …
    pub commit_bytes: usize,
    /// … or the oldest append has waited this long.
    pub commit_delay: Duration,
    /// Reply before the sync. For like-for-like benchmarks only: acknowledged data may be lost.
    pub relaxed: bool,
    /// Bytes of appends waiting for the committer, memory table and rows being sealed, together; beyond it appends
    /// get [`AppendError::Busy`](crate::AppendError::Busy).
    pub memory_bytes_max: usize,
    /// The memory table is sealed at this many bytes of Arrow …
    pub seal_bytes: usize,
    /// … or this many rows …
    pub seal_rows: usize,
    /// … or when its oldest row is this old.
    pub seal_after: Duration,
    /// Below this many free bytes appends get `Busy`, and the health says so. Queries go on.
    pub disk_free_bytes_min: u64,
    /// How long a batch id is remembered.
    pub dedup_window: Duration,
    /// How many batch ids are remembered.
    pub dedup_ids_max: usize,
    /// Rows of a compacted file, about.
    pub compact_rows: usize,
    /// What is left of an hour that is over is merged once no file was added to it for so long: old records come in bulk
    /// too.
    pub compact_quiet: Duration,
    /// Sealed files of a table that wait to be named by one filter pack, at least.
    pub pack_files_min: usize,
    /// Share of one core that compaction and retention may use, 0–1; more, up to a whole core, while more than 32 files
    /// wait to be merged.
    pub maintenance_cpu_share: f64,
    /// Retention by stream and age.
    pub retention: Vec<RetentionRule>,
    /// Bytes of sealed files beyond which the oldest hours are deleted; `None` = no bound.
    pub sealed_bytes_max: Option<u64>,
    /// Bytes of footers and index blocks of sealed files kept in memory.
    pub cache_bytes_max: usize,
    /// Whether ids are elided from bodies in new sealed files.
    pub elide_ids: bool,
    /// Run the committer, sealer and maintenance on threads of their own. The simulation turns this off and calls
    /// [`Store::step`](crate::Store::step).
    pub threads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wal_segment_bytes: 64 << 20,
            commit_bytes: 1 << 20,
            commit_delay: Duration::from_millis(2),
            relaxed: false,
            memory_bytes_max: 96 << 20,
            seal_bytes: 48 << 20,
            seal_rows: 100_000,
            seal_after: Duration::from_secs(30),
            disk_free_bytes_min: 1 << 30,
            dedup_window: Duration::from_secs(600),
            dedup_ids_max: 1_000_000,
            compact_rows: 2_000_000,
            compact_quiet: Duration::from_secs(30),
            pack_files_min: 128,
            maintenance_cpu_share: 0.5,
            retention: Vec::new(),
            sealed_bytes_max: None,
            cache_bytes_max: 256 << 20,
            elide_ids: true,
            threads: true,
        }
    }
}
