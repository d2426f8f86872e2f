//! Where records live: write-ahead log, memory table, sealed Parquet files, table log, Merkle log.
//!
//! Vocabulary:
//! - *append*: one batch of one table on its way in, with its batch id;
//! - *committer*: the one place that writes the write-ahead log and syncs it; a reply follows the sync;
//! - *memory table*: committed rows that are not sealed yet, visible to every snapshot;
//! - *seal*: rows of the memory table become sealed files and the table log names them;
//! - *snapshot*: an immutable view of memory and files at one moment;
//! - *tail*: all records from a sequence number on, in order, neither skipping nor repeating.
//!
//! Invariants: a reply follows the sync; a row is in exactly one of memory and files in every snapshot; a sequence
//! number is never given twice; a segment of the write-ahead log is reused only after its rows are in the table log.
//!
//! This crate does not know DataFusion, HTTP, the search language, rules or the contract. Clock, randomness and disk
//! are parameters. Persisted formats live here and nowhere else; `docs/formats.md` describes them.

mod codec;
mod committer;
mod compact;
mod core;
mod dedup;
mod erase;
mod error;
mod local_disk;
mod memory;
mod merkle;
mod open;
mod options;
mod prune;
mod quarantine;
mod retention;
mod sealed;
mod sha;
mod snapshot;
#[cfg(feature = "stages")]
#[doc(hidden)]
pub mod stages;
mod store;
mod table_log;
mod tail;
#[cfg(test)]
mod tests;
mod threads;
mod verify;
mod wal;

pub use error::{AppendError, StoreError};
pub use local_disk::{LocalDisk, SystemClock, SystemRng};
pub use options::{Env, Options, RetentionRule};
pub use prune::{Finder, IndexPlan, Prune, TERM_BYTES_MAX, TermList, ValueTest};
pub use quarantine::Scope;
pub use snapshot::{
    DurationRun, Durations, Facet, Facets, FileMeta, PlacedScan, Places, Rollup, RollupEntry, Scan, SealedFile,
    Snapshot, TableSnapshot,
};
pub use store::{
    Ack, Append, BatchId, Erasure, Health, OnAck, Pressure, Stats, Store, TableStats, VerifyReport,
};
pub use tail::{Tail, TailBatch};
