//! The store as its users see it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{BooleanArray, RecordBatch};
use threadline_model::schema::{Layout, Table};

use crate::core::{Core, lock};
use crate::memory::Extent;
use crate::threads::Threads;
use crate::{AppendError, Env, Options, Scope, Snapshot, StoreError, Tail, committer, open};

/// Identifies a batch for deduplication: a client's header or the xxh3-128 of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchId(pub u128);

/// One batch on its way in.
#[derive(Clone, Debug)]
pub struct Append {
    /// The table.
    pub table: Table,
    /// Identity for deduplication.
    pub id: BatchId,
    /// Rows, as made by [`threadline_model::builder::BatchBuilder`]: without `seq`.
    pub batch: RecordBatch,
}

/// What an acknowledgement promises: the rows are on disk, synced, and in the next snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Sequence number of the first row. 0 for a duplicate.
    pub first_seq: i64,
    /// Number of rows.
    pub rows: u64,
    /// The batch was kept before, within the window; nothing was added.
    pub duplicate: bool,
}

/// How near the store is to a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// All is well.
    None,
    /// Appends get `Busy`; queries go on. For people: why.
    Refusing(String),
    /// The write-ahead log failed; appends get `Unavailable`. For people: why.
    Failed(String),
}

/// What `/healthz` says of the store.
#[derive(Clone, Debug)]
pub struct Health {
    /// Pressure on appends.
    pub pressure: Pressure,
    /// The last error of sealing, compaction or retention, until it succeeds again.
    pub maintenance_error: Option<String>,
    /// Free bytes on the data folder's disk.
    pub disk_free_bytes: u64,
    /// Bytes of appends waiting, memory table and rows being sealed.
    pub memory_bytes: usize,
    /// Age of the oldest unsealed row.
    pub unsealed_age: Duration,
}

/// Counters of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Rows in memory.
    pub memory_rows: u64,
    /// Rows in sealed files.
    pub sealed_rows: u64,
    /// Sealed files.
    pub files: u64,
    /// Those of them that are to be written again, smaller.
    pub draft_files: u64,
    /// Bytes of sealed files.
    pub sealed_bytes: u64,
    /// Earliest and latest event time, µs; `None` when empty.
    pub ts: Option<(i64, i64)>,
    /// Keys promoted by schema evolution.
    pub evolved_columns: u64,
}

/// Counters of the store since it was opened, unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// `logs`.
    pub logs: TableStats,
    /// `spans`.
    pub spans: TableStats,
    /// Highest sequence number ever given.
    pub last_seq: i64,
    /// Batches acknowledged.
    pub appends: u64,
    /// Rows acknowledged.
    pub rows: u64,
    /// Batches found to be duplicates.
    pub duplicates: u64,
    /// Syncs of the write-ahead log.
    pub syncs: u64,
    /// Bytes written to the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes of the write-ahead log on disk.
    pub wal_disk_bytes: u64,
    /// Seals.
    pub seals: u64,
    /// Compactions.
    pub compactions: u64,
    /// Rows deleted by retention and erasure.
    pub deleted_rows: u64,
    /// Leaves of the Merkle log.
    pub merkle_leaves: u64,
    /// Bytes of parts of sealed files kept in memory, now.
    pub cache_bytes: usize,
}

/// Result of an erasure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Rows erased.
    pub rows: u64,
    /// Files rewritten or removed.
    pub files: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Sealed files whose bytes, row count and row root were checked.
    pub files: u64,
    /// Rows of those files.
    pub rows: u64,
    /// Records of the write-ahead log that were checked.
    pub wal_records: u64,
    /// Leaves of the Merkle log, all re-hashed up to the signed root.
    pub merkle_leaves: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// The signed checkpoint's root, base64.
    pub merkle_root: String,
    /// Everything that is not as it should be. Empty = intact.
    pub findings: Vec<String>,
}

/// Called once with the outcome of an append, on the committer's thread: must not block.
pub type OnAck = Box<dyn FnOnce(Result<Ack, AppendError>) + Send>;

/// The store. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Store {
    open: Arc<Open>,
}

/// Closes when the last clone goes.
struct Open {
    core: Arc<Core>,
    threads: Threads,
}

impl Store {
    /// Opens the data folder, creating it if missing, and recovers what was acknowledged.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process writes there; [`StoreError::Corrupt`] when something that was
    /// acknowledged is not as it was written; [`StoreError::Io`] when the disk fails.
    pub fn open(root: &Path, options: Options, env: Env) -> Result<Store, StoreError> {
        let threads = options.threads;
        let core = Arc::new(open::open(root, options, env)?);
        let threads = if threads { Threads::start(&core)? } else { Threads::default() };
        Ok(Store { open: Arc::new(Open { core, threads }) })
    }

    /// Opens the data folder without lock and without writing anything; appends get `Unavailable`. What is there
    /// is what was there at the time of the call.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Invalid`] when there is no data.
    pub fn open_read_only(root: &Path, env: Env) -> Result<Store, StoreError> {
        let core = Arc::new(open::open_read_only(root, env)?);
        Ok(Store { open: Arc::new(Open { core, threads: Threads::default() }) })
    }

    fn core(&self) -> &Core {
        &self.open.core
    }

    /// Queues a batch. `on_ack` is called after the sync, or at once when the batch cannot be taken or is known.
    pub fn append(&self, append: Append, on_ack: OnAck) {
        self.core().append(append, on_ack);
    }

    /// Appends and waits. Needs [`Options::threads`].
    ///
    /// # Errors
    /// Why the batch was not taken.
    pub fn append_wait(&self, append: Append) -> Result<Ack, AppendError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.append(append, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.recv().unwrap_or_else(|_| Err(committer::closed()))
    }

    /// The columns that new batches of a table are built with.
    pub fn layout(&self, table: Table) -> Arc<Layout> {
        Arc::clone(self.core().sealed.catalogue().layout(table))
    }

    /// The bounds and periods that it was opened with.
    pub fn options(&self) -> &Options {
        &self.core().options
    }

    /// A view of everything acknowledged so far but what is in quarantine.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_of(Scope::Regular)
    }

    /// A view of everything acknowledged so far, or of all but what is in quarantine.
    pub fn snapshot_of(&self, scope: Scope) -> Snapshot {
        self.core().snapshot(scope)
    }

    /// The records with a sequence number of at least `from_seq` that are not in quarantine. Does not keep the store
    /// open.
    pub fn tail(&self, from_seq: i64) -> Tail {
        self.tail_of(from_seq, Scope::Regular)
    }

    /// The same, of all records when they are asked for.
    pub fn tail_of(&self, from_seq: i64, scope: Scope) -> Tail {
        Tail::new(Arc::clone(&self.open.core), from_seq, scope)
    }

    /// Seals the memory table now.
    ///
    /// # Errors
    /// When the disk fails; the rows stay in memory and in the write-ahead log.
    pub fn seal(&self) -> Result<(), StoreError> {
        self.core().seal(Extent::All)
    }

    /// Runs one round of compaction and retention now. Whether there was anything to do.
    ///
    /// # Errors
    /// When the disk fails; what was there stays.
    pub fn maintain(&self) -> Result<bool, StoreError> {
        self.core().maintain()
    }

    /// Without [`Options::threads`]: commits what waits, seals when due, runs one round of maintenance when due.
    /// Errors of the latter two show in the health.
    pub fn step(&self) {
        let core = self.core();
        while core.commit().is_some() {}
        if let Some(extent) = core.seal_due() {
            let _ = core.seal(extent);
        }
        if core.maintain_due() {
            let _ = core.maintain();
        }
    }

    /// Deletes the rows of a table for which `predicate` is true, from memory, files and freed parts of the
    /// write-ahead log. `record` is a description for the audit trail: who, why, which query. Concerns what was
    /// acknowledged before the call.
    ///
    /// # Errors
    /// When the disk fails or `predicate` does; rows may be left, so the call must be repeated.
    pub fn erase(
        &self,
        table: Table,
        predicate: &dyn Fn(&RecordBatch) -> Result<BooleanArray, StoreError>,
        record: &str,
    ) -> Result<Erasure, StoreError> {
        self.core().erase(table, predicate, record)
    }

    /// Re-reads everything and compares it with what the table log and the Merkle log say.
    ///
    /// # Errors
    /// When the disk fails. What is not as it should be is in the report.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        self.core().verify()
    }

    /// Whether an append of about `bytes` would be taken now: if not, it would get
    /// [`AppendError::Busy`](crate::AppendError::Busy).
    pub fn has_room(&self, bytes: usize) -> bool {
        self.core().refusal(bytes).is_none()
    }

    /// How the store is.
    pub fn health(&self) -> Health {
        let core = self.core();
        let disk_free_bytes = core.disk_free();
        let refusal = core.refusal(0).map(|(reason, _)| reason);
        let now = core.env.clock.monotonic();
        let since = core.memory.state().since();
        let memory_bytes = core.memory_bytes();
        let status = core.status();
        let pressure = match (&status.failed, refusal) {
            (Some(reason), _) => Pressure::Failed(reason.clone()),
            (None, Some(reason)) if !core.read_only => Pressure::Refusing(reason),
            _ => Pressure::None,
        };
        Health {
            pressure,
            maintenance_error: status.seal_error.clone().or_else(|| status.maintenance_error.clone()),
            disk_free_bytes,
            memory_bytes,
            unsealed_age: since.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
        }
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let core = self.core();
        let (state, catalogue) = core.view();
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &core.counters;
        let table = |table: Table| {
            let files = catalogue.files(table);
            let rows = state.rows(table).after(catalogue.sealed_seq(table), Scope::All);
            let times = files.iter().map(|file| file.meta().ts.clone().into_inner());
            let times = times.chain(rows.iter().filter_map(time_range));
            TableStats {
                memory_rows: rows.iter().map(|batch| batch.num_rows() as u64).sum(),
                sealed_rows: files.iter().map(|file| file.meta().rows).sum(),
                files: files.len() as u64,
                draft_files: catalogue.drafts(table) as u64,
                sealed_bytes: files.iter().map(|file| file.meta().bytes).sum(),
                ts: times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
                evolved_columns: catalogue.layout(table).evolved() as u64,
            }
        };
        let sealed = core.sealed.counters();
        let segments = get(&counters.wal_segments) + core.spares.len() as u64;
        Stats {
            logs: table(Table::Logs),
            spans: table(Table::Spans),
            last_seq: state.last_seq,
            appends: get(&counters.appends),
            rows: get(&counters.rows),
            duplicates: get(&counters.duplicates),
            syncs: get(&counters.syncs),
            wal_bytes: get(&counters.wal_bytes),
            wal_disk_bytes: segments * core.wal.segment_bytes,
            seals: get(&counters.seals),
            compactions: sealed.compactions,
            deleted_rows: sealed.deleted_rows,
            merkle_leaves: sealed.merkle_leaves,
            cache_bytes: sealed.cache_bytes,
        }
    }

    /// Commits what waits, seals, and releases the folder. Later appends get `Unavailable`.
    ///
    /// # Errors
    /// When sealing fails: the rows are then in the write-ahead log, and the next opening recovers them.
    pub fn close(&self) -> Result<(), StoreError> {
        self.open.close()
    }
}

impl Open {
    fn close(&self) -> Result<(), StoreError> {
        let core = &self.core;
        core.queue.close();
        self.threads.stop(core);
        while core.commit().is_some() {}
        core.queue.refuse_all(&committer::closed());
        if core.read_only || lock(&core.guard).is_none() {
            return Ok(());
        }
        let sealed = core.seal(Extent::All);
        *lock(&core.writer) = None;
        *lock(&core.guard) = None;
        sealed
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.core.options.threads {
            // Whatever could not be sealed is in the write-ahead log.
            let _ = self.close();
        } else {
            // The simulation's way to pull the plug: nothing is written.
            self.core.queue.close();
            self.core.queue.refuse_all(&committer::closed());
            *lock(&self.core.guard) = None;
        }
    }
}

/// Earliest and latest event time.
fn time_range(batch: &RecordBatch) -> Option<(i64, i64)> {
    let ts = batch.column_by_name("ts")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let values = ts.values();
    Some((*values.iter().min()?, *values.iter().max()?))
}
