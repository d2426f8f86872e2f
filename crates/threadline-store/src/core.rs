//! What the parts of an open store share, and what moves rows from memory to files.
//!
//! Locks, in the order in which they are taken: `maintaining`, `sealing`, `writer`, `window`, then those inside memory
//! table, queue and spares, which nothing else is taken under.

use std::any::Any;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::{BooleanArray, RecordBatch};
use threadline_model::schema::Table;

use crate::codec::Encoders;
use crate::committer::Queue;
use crate::dedup::Window;
use crate::memory::{Extent, Memory, State};
use crate::quarantine::Scope;
use crate::sealed::Sealed;
use crate::sealed::catalogue::Catalogue;
use crate::sealed::reader::SealedFile;
use crate::wal::{self, PerTable, Replay, Spares, Writer, WriterOptions};
use crate::{Env, Erasure, Options, Snapshot, StoreError, TableSnapshot, VerifyReport};

/// Free bytes of the disk are asked for at most so often.
const DISK_FREE_EVERY: Duration = Duration::from_secs(1);
/// Pause after a seal that failed.
const SEAL_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Pauses between rounds of maintenance: when there was nothing to do, and after a failure.
const MAINTAIN_EVERY: Duration = Duration::from_secs(10);
const MAINTAIN_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Locks, also after a panic elsewhere: what the locks guard is replaced as a whole or counted.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appends: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) seals: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) wal_segments: AtomicU64,
}

impl Counters {
    /// Takes over what the writer counts.
    pub(crate) fn sync_with(&self, writer: &Writer) {
        self.syncs.store(writer.syncs, Ordering::Relaxed);
        self.wal_bytes.store(writer.bytes, Ordering::Relaxed);
        self.wal_segments.store(writer.segments() as u64, Ordering::Relaxed);
    }
}

/// What went wrong and what is due, on the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Why no segment can be opened.
    pub(crate) failed: Option<String>,
    pub(crate) reopen_at: Duration,
    pub(crate) relaxed_sync_at: Duration,
    pub(crate) seal_error: Option<String>,
    pub(crate) seal_at: Duration,
    pub(crate) maintenance_error: Option<String>,
    pub(crate) maintain_at: Duration,
    disk_free: Option<(Duration, u64)>,
}

/// Tells waiting tails of new rows.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    last_seq: Mutex<i64>,
    changed: Condvar,
}

impl Progress {
    pub(crate) fn notify(&self, last_seq: i64) {
        *lock(&self.last_seq) = last_seq;
        self.changed.notify_all();
    }

    /// Waits for a row with at least this number.
    pub(crate) fn wait(&self, seq: i64, timeout: Duration) {
        let last_seq = lock(&self.last_seq);
        let _ = self.changed.wait_timeout_while(last_seq, timeout, |last| *last < seq);
    }
}

/// An open store.
pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) env: Env,
    pub(crate) read_only: bool,
    pub(crate) wal: WriterOptions,
    pub(crate) sealed: Sealed,
    pub(crate) memory: Memory,
    pub(crate) queue: Queue,
    pub(crate) encoders: Encoders,
    /// `None` when the folder is open for reading only.
    pub(crate) writer: Mutex<Option<Writer>>,
    pub(crate) window: Mutex<Window>,
    pub(crate) spares: Arc<Spares>,
    /// Held while rows move from memory to files and segments are reused.
    pub(crate) sealing: Mutex<()>,
    /// Held while sealed files are merged, deleted, rewritten or checked.
    pub(crate) maintaining: Mutex<()>,
    pub(crate) status: Mutex<Status>,
    pub(crate) progress: Progress,
    pub(crate) counters: Counters,
    pub(crate) stop: AtomicBool,
    /// Keeps other processes out.
    pub(crate) guard: Mutex<Option<Box<dyn Any + Send + Sync>>>,
}

impl Core {
    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
    }

    /// Whether the threads are to end.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Bytes of what waits, memory table and rows being sealed.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.state().bytes() + self.queue.bytes()
    }

    /// Free bytes of the disk, not older than a second. A disk that does not tell counts as having room: a write will.
    pub(crate) fn disk_free(&self) -> u64 {
        let now = self.env.clock.monotonic();
        if let Some((at, free)) = self.status().disk_free
            && now < at + DISK_FREE_EVERY
        {
            return free;
        }
        let free = self.env.disk.free_bytes(&self.wal.dir).unwrap_or(u64::MAX);
        self.status().disk_free = Some((now, free));
        free
    }

    /// Free bytes are asked for anew.
    pub(crate) fn forget_disk_free(&self) {
        self.status().disk_free = None;
    }

    /// Memory and files at one moment.
    pub(crate) fn view(&self) -> (Arc<State>, Arc<Catalogue>) {
        self.memory.state_with(|| self.sealed.catalogue())
    }

    /// Memory and files at one moment, as queries see them.
    pub(crate) fn snapshot(&self, scope: Scope) -> Snapshot {
        let (state, catalogue) = self.view();
        let wanted = |file: &&Arc<SealedFile>| scope == Scope::All || !file.meta().quarantined;
        let table = |table: Table| TableSnapshot {
            layout: Arc::clone(catalogue.layout(table)),
            memory: state.rows(table).after(catalogue.sealed_seq(table), scope),
            files: catalogue.files(table).iter().filter(wanted).cloned().collect(),
        };
        Snapshot { logs: table(Table::Logs), spans: table(Table::Spans), last_seq: state.last_seq }
    }

    /// Seals what is in memory.
    pub(crate) fn seal(&self, extent: Extent) -> Result<(), StoreError> {
        self.check_writable()?;
        let _sealing = lock(&self.sealing);
        let result = self.seal_locked(extent, false);
        let now = self.env.clock.monotonic();
        let mut status = self.status();
        status.seal_error = result.as_ref().err().map(ToString::to_string);
        if result.is_err() {
            status.seal_at = now + SEAL_AGAIN_AFTER;
        }
        result
    }

    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        if self.read_only {
            return Err(StoreError::Invalid { detail: "the data folder is open for reading only".into() });
        }
        Ok(())
    }

    fn sealed_seq(&self, table: Table) -> i64 {
        self.sealed.catalogue().sealed_seq(table)
    }

    /// `sealing` is held.
    fn seal_locked(&self, extent: Extent, wipe: bool) -> Result<(), StoreError> {
        let last_seq = self.memory.state().last_seq;
        loop {
            let (through, state) = self.memory.freeze(extent);
            for table in Table::ALL {
                let batches = state.rows(table).frozen_after(self.sealed_seq(table), through);
                // Also without rows: the table's sealed sequence number moves on.
                self.sealed.seal(table, &batches, through)?;
                self.memory.drop_through(table, self.sealed_seq(table));
            }
            self.memory.thaw();
            add(&self.counters.seals, u64::from(state.row_count() > 0));
            // What was frozen may be left from a seal that failed. The rows of an hour that begins may stay.
            if through >= last_seq || extent == Extent::WholeHours {
                break;
            }
        }
        let sealed = Table::ALL.map(|table| self.sealed_seq(table));
        self.reuse_segments(sealed, wipe)
    }

    /// Reuses segments whose rows are all in files. `sealing` is held.
    fn reuse_segments(&self, sealed: PerTable<i64>, wipe: bool) -> Result<(), StoreError> {
        let closed = lock(&self.writer).as_mut().map(|writer| writer.take_sealed(sealed)).unwrap_or_default();
        if closed.is_empty() {
            return Ok(());
        }
        let ids = lock(&self.window).bytes();
        let reused = wal::replace_file(&*self.env.disk, &wal::ids_path(&self.wal.dir), &ids).and_then(|()| {
            self.spares.reuse(&self.wal, &closed, wipe).map_err(|error| {
                StoreError::io(format!("reusing segments in {}", self.wal.dir.display()), error)
            })
        });
        if let Some(writer) = lock(&self.writer).as_mut() {
            if reused.is_err() {
                writer.put_back(&closed);
            }
            self.counters.sync_with(writer);
        }
        reused
    }

    /// What is to be sealed: all when it has waited for long enough, whole hours when the memory table has reached a bound.
    pub(crate) fn seal_due(&self) -> Option<Extent> {
        let state = self.memory.state();
        let now = self.env.clock.monotonic();
        let waited = now.saturating_sub(state.since()?) >= self.options.seal_after;
        let bytes_max = self.options.seal_bytes.min(self.options.memory_bytes_max / 2);
        let full = state.bytes() >= bytes_max || state.row_count() >= self.options.seal_rows;
        let extent = if waited { Extent::All } else { Extent::WholeHours };
        ((waited || full) && now >= self.status().seal_at).then_some(extent)
    }

    /// One round of compaction and retention.
    pub(crate) fn maintain(&self) -> Result<bool, StoreError> {
        self.check_writable()?;
        let _maintaining = lock(&self.maintaining);
        let result = self.sealed.maintain();
        let pause = match &result {
            Ok(true) => Duration::ZERO,
            Ok(false) => MAINTAIN_EVERY,
            Err(_) => MAINTAIN_AGAIN_AFTER,
        };
        let mut status = self.status();
        status.maintenance_error = result.as_ref().err().map(ToString::to_string);
        status.maintain_at = self.env.clock.monotonic() + pause;
        result
    }

    /// Whether a round of maintenance is due.
    pub(crate) fn maintain_due(&self) -> bool {
        self.env.clock.monotonic() >= self.status().maintain_at
    }

    /// Deletes rows everywhere (see [`crate::Store::erase`]).
    pub(crate) fn erase(
        &self,
        table: Table,
        predicate: &dyn Fn(&RecordBatch) -> Result<BooleanArray, StoreError>,
        record: &str,
    ) -> Result<Erasure, StoreError> {
        self.check_writable()?;
        let _maintaining = lock(&self.maintaining);
        let _sealing = lock(&self.sealing);
        while self.commit().is_some() {}
        let io = |error| StoreError::io(format!("opening a segment in {}", self.wal.dir.display()), error);
        if let Some(writer) = lock(&self.writer).as_mut() {
            // All rows up to here lie in closed segments, which are overwritten once they are sealed.
            let synced = writer.sync();
            writer.leave();
            synced.and_then(|()| writer.open_segment()).map_err(io)?;
        }
        self.seal_locked(Extent::All, true)?;
        let erasure = self.sealed.erase(table, predicate, record)?;
        self.spares
            .wipe(&self.wal)
            .map_err(|error| StoreError::io(format!("overwriting {}", self.wal.dir.display()), error))?;
        Ok(erasure)
    }

    /// Re-reads everything and compares.
    pub(crate) fn verify(&self) -> Result<VerifyReport, StoreError> {
        let _maintaining = lock(&self.maintaining);
        let _sealing = lock(&self.sealing);
        let mut report = VerifyReport::default();
        let until = lock(&self.writer).as_ref().and_then(Writer::end);
        // The end is known, or nobody may reuse what is read.
        let live = self.read_only;
        let replay = Replay {
            disk: &*self.env.disk,
            dir: &self.wal.dir,
            node: self.wal.node,
            sealed: [0; 2],
            live,
            until,
        };
        match wal::replay(&replay, &mut |_| Ok(())) {
            Ok(log) => report.wal_records = log.records,
            Err(StoreError::Corrupt { detail }) => report.findings.push(detail),
            Err(StoreError::Io { source, .. }) if live && source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.sealed.verify(&mut report)?;
        Ok(report)
    }
}
