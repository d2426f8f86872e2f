//! What the tests of this crate share: small batches, a disk in memory, a clock that stands still.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow_array::RecordBatch;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::clock::{Clock, Rng};
use threadline_model::columns::Batch;
use threadline_model::disk::{DirEntry, Disk, DiskFile, OpenMode};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::{Layout, Table};
use threadline_model::value::Value;

use crate::sealed::rows::HOUR_US;
use crate::{Append, BatchId, Env, Options};

pub(crate) const START_US: i64 = 1_700_000_000_000_000;

/// Logs `record first`, `record first + 1`, …
pub(crate) fn logs(first: u64, rows: usize) -> RecordBatch {
    logs_with(first, rows, &|_| String::new())
}

/// The same with `more` of the record behind each body.
pub(crate) fn logs_with(first: u64, rows: usize, more: &dyn Fn(u64) -> String) -> RecordBatch {
    logs_at(first, rows, more, &|_| 0)
}

/// The same, each record so many hours after the start.
pub(crate) fn logs_at(
    first: u64,
    rows: usize,
    more: &dyn Fn(u64) -> String,
    hours: &dyn Fn(u64) -> u64,
) -> RecordBatch {
    let mut builder = BatchBuilder::new(Arc::new(Layout::base(Table::Logs)), START_US, RecordLimits::default());
    builder.set_resource(&ResourceView {
        attributes: &[("service.name", Value::Str("shop"))],
        ..ResourceView::default()
    });
    for record in first..first + rows as u64 {
        let body = format!("record {record}{}", more(record));
        builder
            .push_log(
                &LogView {
                    time_unix_nano: (START_US as u64 + hours(record) * HOUR_US as u64) * 1000,
                    severity_text: &format!("S{record}"),
                    body: Value::Str(&body),
                    attributes: &[("url.path", Value::Str("/x")), ("n", Value::Int(record as i64))],
                    ..LogView::default()
                },
                0,
            )
            .unwrap();
    }
    builder.finish().unwrap().unwrap()
}

/// An append of logs.
pub(crate) fn append(id: u64, first: u64, rows: usize) -> Append {
    Append { table: Table::Logs, id: BatchId(u128::from(id)), batch: logs(first, rows) }
}

/// An append of the same columns as spans.
pub(crate) fn append_to(table: Table, id: u64, first: u64, rows: usize) -> Append {
    append_at(table, id, first, rows, &|_| 0)
}

/// The same, each record so many hours after the start.
pub(crate) fn append_at(table: Table, id: u64, first: u64, rows: usize, hours: &dyn Fn(u64) -> u64) -> Append {
    let batch = logs_at(first, rows, &|_| String::new(), hours);
    let mut append = Append { table: Table::Logs, id: BatchId(u128::from(id)), batch };
    if table == Table::Spans {
        let keep: Vec<usize> = (0..append.batch.num_columns())
            .filter(|&i| !["body", "severity_text"].contains(&append.batch.schema().field(i).name().as_str()))
            .collect();
        append.batch = append.batch.project(&keep).unwrap();
        append.table = table;
    }
    append
}

pub(crate) fn texts(batch: &RecordBatch) -> Vec<String> {
    let body = Batch::new(batch).str("body");
    (0..batch.num_rows()).map(|row| body.get(row).unwrap().to_owned()).collect()
}

pub(crate) fn seqs(batch: &RecordBatch) -> Vec<i64> {
    crate::codec::seq_column(batch).unwrap().values().to_vec()
}

/// The number of each record.
pub(crate) fn records(batch: &RecordBatch) -> Vec<u64> {
    let batch = Batch::new(batch);
    (0..batch.rows()).map(|row| batch.attribute("n", row).unwrap().parse().unwrap()).collect()
}

/// Small bounds, step mode.
pub(crate) fn small() -> Options {
    Options {
        wal_segment_bytes: 64 << 10,
        commit_bytes: 16 << 10,
        memory_bytes_max: 16 << 20,
        seal_rows: 1 << 20,
        disk_free_bytes_min: 1 << 20,
        threads: false,
        ..Options::default()
    }
}

/// A clock that is moved by hand.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_us(&self) -> i64 {
        START_US + self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed) as u64)
    }
}

struct Ones;

impl Rng for Ones {
    fn fill(&self, out: &mut [u8]) {
        out.fill(1);
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    folders: Vec<PathBuf>,
    /// Syncs of files that still succeed; `None` = all.
    pub(crate) syncs_left: Option<usize>,
    /// Writes that still succeed.
    pub(crate) writes_left: Option<usize>,
    /// Links that still succeed.
    pub(crate) links_left: Option<usize>,
    pub(crate) free_bytes: u64,
}

/// A disk in memory on which operations can be made to fail. Names are durable at once; content at a sync.
#[derive(Clone, Debug)]
pub(crate) struct TestDisk(Arc<Mutex<State>>);

impl Default for TestDisk {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { free_bytes: 1 << 40, ..State::default() })))
    }
}

fn spend(left: &mut Option<usize>, what: &str) -> io::Result<()> {
    match left {
        Some(0) => Err(io::Error::other(format!("{what} failed"))),
        Some(n) => {
            *n -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

impl TestDisk {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A copy of the disk as it is found after a crash that kept all that was written, or only what was synced.
    pub(crate) fn after_crash(&self, keep_unsynced: bool) -> TestDisk {
        let state = self.state();
        let files = state
            .files
            .iter()
            .map(|(path, inode)| {
                let inode = inode.lock().unwrap();
                let bytes = if keep_unsynced { &inode.now } else { &inode.synced };
                let inode = Inode { now: bytes.clone(), synced: bytes.clone() };
                (path.clone(), Arc::new(Mutex::new(inode)))
            })
            .collect();
        let folders = state.folders.clone();
        TestDisk(Arc::new(Mutex::new(State { files, folders, free_bytes: 1 << 40, ..State::default() })))
    }

    pub(crate) fn names(&self, dir: &Path) -> Vec<String> {
        self.list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    /// Changes the content of a file behind everybody's back.
    pub(crate) fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let inode = Arc::clone(&self.state().files[path]);
        let mut inode = inode.lock().unwrap();
        edit(&mut inode.now);
        inode.synced = inode.now.clone();
    }

    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        self.state().files[path].lock().unwrap().now.clone()
    }

    pub(crate) fn env(&self, clock: &Arc<TestClock>) -> Env {
        let clock = Arc::clone(clock);
        Env { disk: Arc::new(self.clone()), clock, rng: Arc::new(Ones) }
    }
}

struct TestFile {
    disk: TestDisk,
    inode: Arc<Mutex<Inode>>,
}

impl Disk for TestDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let known = state.files.get(path).cloned();
        let inode = match (mode, known) {
            (OpenMode::CreateNew, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => {
                let inode = Arc::default();
                state.files.insert(path.to_owned(), Arc::clone(&inode));
                inode
            }
            (_, known) => known.ok_or(ErrorKind::NotFound)?,
        };
        Ok(Arc::new(TestFile { disk: self.clone(), inode }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let ancestors = path.ancestors().map(Path::to_owned);
        self.state().folders.extend(ancestors);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state();
        if !state.folders.iter().any(|folder| folder == path) {
            return Err(ErrorKind::NotFound.into());
        }
        let entry = |(path, inode): (&PathBuf, &Arc<Mutex<Inode>>)| DirEntry {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            len: inode.lock().unwrap().now.len() as u64,
            is_dir: false,
        };
        Ok(state.files.iter().filter(|(p, _)| p.parent() == Some(path)).map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.files.remove(from).ok_or(ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        spend(&mut state.links_left, "link")?;
        if state.files.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let inode = state.files.get(from).cloned().ok_or(ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().files.remove(path).map(|_| ()).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.state().free_bytes)
    }
}

impl DiskFile for TestFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let inode = self.inode.lock().unwrap();
        let from = (offset as usize).min(inode.now.len());
        let n = out.len().min(inode.now.len() - from);
        out[..n].copy_from_slice(&inode.now[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let result = spend(&mut self.disk.state().writes_left, "write");
        let kept = if result.is_ok() { data } else { &data[..data.len() / 2] };
        let mut inode = self.inode.lock().unwrap();
        let end = offset as usize + kept.len();
        if inode.now.len() < end {
            inode.now.resize(end, 0);
        }
        inode.now[offset as usize..end].copy_from_slice(kept);
        result
    }

    fn sync(&self) -> io::Result<()> {
        spend(&mut self.disk.state().syncs_left, "sync")?;
        let mut inode = self.inode.lock().unwrap();
        inode.synced = inode.now.clone();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().unwrap().now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inode.lock().unwrap().now.resize(len as usize, 0);
        Ok(())
    }
}
