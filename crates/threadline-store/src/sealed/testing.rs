//! What tests of sealed files share: a disk in memory, a clock and a source of bytes that repeat, rows to seal.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::clock::{Clock, Rng};
use threadline_model::disk::{DirEntry, Disk, DiskFile, OpenMode};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::Layout;
use threadline_model::value::Value;

use crate::Env;

type Content = Arc<Mutex<Vec<u8>>>;

/// Files in memory.
#[derive(Default)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Content>>,
    /// Files opened to read.
    pub(crate) opens: AtomicU64,
    /// Whether no filter pack can be made.
    pub(crate) refuses_packs: AtomicBool,
}

struct MemoryFile(Content);

impl MemoryDisk {
    /// All files and their bytes.
    pub(crate) fn dump(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.files.lock().unwrap();
        files.iter().map(|(path, content)| (path.clone(), content.lock().unwrap().clone())).collect()
    }

    /// Replaces a file.
    pub(crate) fn overwrite(&self, path: &Path, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(path.to_owned(), Arc::new(Mutex::new(bytes)));
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock().unwrap();
        if mode == OpenMode::Read {
            self.opens.fetch_add(1, Ordering::Relaxed);
        } else if self.refuses_packs.load(Ordering::Relaxed) && path.extension().is_some_and(|e| e == "pack") {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = match (files.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
            (Some(content), _) => Arc::clone(content),
            (None, OpenMode::CreateNew) => Arc::clone(files.entry(path.to_owned()).or_default()),
        };
        Ok(Arc::new(MemoryFile(content)))
    }

    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let files = self.files.lock().unwrap();
        let mut entries: BTreeMap<String, DirEntry> = BTreeMap::new();
        for (file, content) in files.iter() {
            let Ok(below) = file.strip_prefix(path) else { continue };
            let mut parts = below.components();
            let Some(name) = parts.next().and_then(|part| part.as_os_str().to_str()) else { continue };
            let is_dir = parts.next().is_some();
            let len = if is_dir { 0 } else { content.lock().unwrap().len() as u64 };
            entries.insert(name.to_owned(), DirEntry { name: name.to_owned(), len, is_dir });
        }
        if entries.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(entries.into_values().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        if files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::clone(files.get(from).ok_or(io::ErrorKind::NotFound)?);
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().unwrap().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let content = self.0.lock().unwrap();
        let from = content.get(offset as usize..).unwrap_or_default();
        let n = from.len().min(out.len());
        out[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.0.lock().unwrap();
        let end = offset as usize + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(data);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }
}

/// A clock that tests set.
pub(crate) struct SetClock(pub(crate) AtomicI64);

impl Clock for SetClock {
    fn now_us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.now_us() as u64)
    }
}

/// Bytes that count up.
#[derive(Default)]
pub(crate) struct CountingRng(AtomicU8);

impl Rng for CountingRng {
    fn fill(&self, out: &mut [u8]) {
        out.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
    }
}

/// 2023-01-29T08:00:00Z, µs.
pub(crate) const NOON: i64 = 1_674_979_200_000_000;

/// A disk, and an environment on it whose clock stands at [`NOON`].
pub(crate) fn environment() -> (Arc<MemoryDisk>, Arc<SetClock>, Env) {
    let disk = Arc::new(MemoryDisk::default());
    let clock = Arc::new(SetClock(AtomicI64::new(NOON)));
    let env = Env {
        disk: Arc::clone(&disk) as Arc<dyn Disk>,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        rng: Arc::new(CountingRng::default()),
    };
    (disk, clock, env)
}

/// One log record of a test.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    pub(crate) ts_nano: i64,
    pub(crate) service: Option<String>,
    pub(crate) severity: i32,
    pub(crate) event: String,
    pub(crate) trace: Option<[u8; 16]>,
    pub(crate) span: Option<[u8; 8]>,
    pub(crate) body: Body,
    pub(crate) status: Option<i64>,
    pub(crate) extra: Vec<(String, String)>,
}

/// A body of a test.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) enum Body {
    #[default]
    None,
    Text(String),
    Json(String),
}

/// Rows as a batch of `logs` with `seq`.
pub(crate) fn batch(layout: &Arc<Layout>, rows: &[Row]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Arc::clone(layout), 1 << 60, RecordLimits::default());
    for row in rows {
        let attributes: Vec<_> =
            row.service.iter().map(|name| ("service.name", Value::Str(name.as_str()))).collect();
        builder.set_resource(&ResourceView { attributes: &attributes, ..ResourceView::default() });
        let status = row.status.iter().map(|status| ("http.response.status_code", Value::Int(*status)));
        let extra = row.extra.iter().map(|(key, value)| (key.as_str(), Value::Str(value.as_str())));
        let attributes: Vec<_> = status.chain(extra).collect();
        let log = LogView {
            time_unix_nano: row.ts_nano as u64,
            severity_number: row.severity,
            event_name: &row.event,
            trace_id: row.trace.and_then(|id| TraceId::from_bytes(&id)),
            span_id: row.span.and_then(|id| SpanId::from_bytes(&id)),
            body: match &row.body {
                Body::None => Value::Empty,
                Body::Text(text) => Value::Str(text),
                Body::Json(text) => Value::Json(text),
            },
            attributes: &attributes,
            ..LogView::default()
        };
        builder.push_log(&log, 0).unwrap();
    }
    let batch = builder.finish().unwrap().unwrap();
    let mut fields: Vec<_> = batch.schema_ref().fields().iter().cloned().collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    fields.push(Arc::new(Field::new("seq", DataType::Int64, true)));
    columns.push(Arc::new(rows.iter().map(|row| row.seq).collect::<Int64Array>()));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}
