//! Writes records, syncs them, opens new segments and reuses old ones.
//!
//! Offsets of the active segment: `[HEADER_BYTES, synced)` can be trusted, `[synced, written)` is with the system,
//! then comes what `buffer` holds.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use threadline_model::disk::{Disk, DiskFile, OpenMode};
use threadline_model::schema::Table;

use super::format::{HEADER_BYTES, Header, RecordHead, padded};
use super::{Closed, IDS, Log, PerTable, SPARE, segment_path, slot};
use crate::codec::Encoded;
use crate::{BatchId, StoreError};

/// Spares that are kept: as many segments as a seal sets free at full speed, so that none is made anew.
const SPARES_MAX: usize = 4;
/// Bytes handed to the system at a time while a group is still growing.
const BUFFER_BYTES_MAX: usize = 8 << 20;
/// A payload of so many bytes goes to the system as it is, without a copy among others.
const DIRECT_BYTES: usize = 64 << 10;
/// Bytes of zeros written at a time.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// What a writer needs.
#[derive(Clone)]
pub(crate) struct WriterOptions {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) node: [u8; 16],
    pub(crate) segment_bytes: u64,
}

/// One part of a batch on its way into the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) table: Table,
    pub(crate) id: BatchId,
    pub(crate) time_us: i64,
    pub(crate) part: u16,
    pub(crate) parts: u16,
    pub(crate) encoded: &'a Encoded,
}

struct Active {
    file: Arc<dyn DiskFile>,
    number: u64,
    written: u64,
    synced: u64,
    synced_seq: Last,
    written_seq: Last,
}

/// Last sequence numbers of a segment.
#[derive(Clone, Copy, Default)]
struct Last {
    /// Of all records.
    any: PerTable<i64>,
    /// Of batches that are whole.
    whole: PerTable<i64>,
}

/// Where the next segment's header says that the log went on.
#[derive(Clone, Copy)]
struct Base {
    previous: u64,
    previous_end: u64,
    last_seq: PerTable<i64>,
}

/// The writing end of the log. One at a time.
pub(crate) struct Writer {
    options: WriterOptions,
    spares: Arc<Spares>,
    epoch: u64,
    next_number: u64,
    next_seq: i64,
    base: Base,
    active: Option<Active>,
    buffer: Vec<u8>,
    closed: Vec<Closed>,
    /// Syncs so far.
    pub(crate) syncs: u64,
    /// Bytes written so far.
    pub(crate) bytes: u64,
}

impl Writer {
    /// Goes on after `log`. Writes nothing yet.
    pub(crate) fn new(options: WriterOptions, log: &Log, spares: Arc<Spares>) -> Self {
        let (previous, previous_end) = log.last.unwrap_or((0, 0));
        Self {
            options,
            spares,
            epoch: log.epoch + 1,
            next_number: log.segments.last().map_or(0, |closed| closed.number) + 1,
            next_seq: log.next_seq,
            base: Base { previous, previous_end, last_seq: log.last_seq },
            active: None,
            buffer: Vec::new(),
            closed: log.segments.clone(),
            syncs: 0,
            bytes: 0,
        }
    }

    /// Sequence number of the next row.
    pub(crate) fn next_seq(&self) -> i64 {
        self.next_seq
    }

    /// Bytes of payload that fit into an empty segment.
    pub(crate) fn payload_bytes_max(segment_bytes: u64) -> usize {
        usize::try_from(segment_bytes.saturating_sub(HEADER_BYTES))
            .unwrap_or(usize::MAX)
            .saturating_sub(super::RECORD_HEAD_BYTES + 8)
    }

    /// Whether a record with such a payload fits into the active segment.
    pub(crate) fn fits(&self, payload_bytes: usize) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let end = active.written + (self.buffer.len() + padded(payload_bytes)) as u64;
            end <= self.options.segment_bytes
        })
    }

    /// Puts a part behind what waits; the sequence number of its first row. [`Writer::fits`] was asked before.
    pub(crate) fn push(&mut self, part: &Part<'_>) -> io::Result<i64> {
        let active = self.active.as_ref().ok_or_else(|| io::Error::other("no segment is open"))?;
        let first_seq = self.next_seq;
        let head = RecordHead {
            payload_bytes: part.encoded.payload.len() as u32,
            payload_crc: part.encoded.crc,
            uncompressed_bytes: part.encoded.uncompressed_bytes,
            rows: part.encoded.rows,
            segment: active.number,
            epoch: self.epoch,
            first_seq,
            id: part.id,
            time_us: part.time_us,
            synced_to: active.synced,
            part: part.part,
            parts: part.parts,
            table: part.table,
        };
        let start = self.buffer.len();
        head.write(&mut self.buffer);
        let payload = &part.encoded.payload;
        let padding = padded(payload.len()) - (self.buffer.len() - start) - payload.len();
        if payload.len() >= DIRECT_BYTES {
            self.write()?;
            self.write_bytes(payload)?;
        } else {
            self.buffer.extend_from_slice(payload);
        }
        self.buffer.resize(self.buffer.len() + padding, 0);
        self.next_seq = head.next_seq();
        let active = self.active.as_mut().ok_or_else(|| io::Error::other("no segment is open"))?;
        let last = &mut active.written_seq;
        let whole = (part.part + 1 == part.parts).then_some(&mut last.whole);
        for numbers in [Some(&mut last.any), whole].into_iter().flatten() {
            if let Some(number) = numbers.get_mut(slot(part.table)) {
                *number = self.next_seq - 1;
            }
        }
        if self.buffer.len() >= BUFFER_BYTES_MAX { self.write().map(|()| first_seq) } else { Ok(first_seq) }
    }

    /// Hands what waits to the system.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.active.is_some() && !self.buffer.is_empty() {
            let mut buffer = std::mem::take(&mut self.buffer);
            let written = self.write_bytes(&buffer);
            // After a failure it is still there, until the segment is left.
            if written.is_ok() {
                buffer.clear();
                buffer.shrink_to(BUFFER_BYTES_MAX);
            }
            self.buffer = buffer;
            written?;
        }
        Ok(())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        active.file.write_at(active.written, bytes)?;
        active.written += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes everything that was pushed durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.synced < active.written {
            active.file.sync()?;
            self.syncs += 1;
            active.synced = active.written;
            active.synced_seq = active.written_seq;
        }
        Ok(())
    }

    /// Leaves the active segment where it was last synced: what came after is given up, its numbers too.
    pub(crate) fn leave(&mut self) {
        self.buffer.clear();
        let Some(active) = self.active.take() else { return };
        let mut last_seq = self.base.last_seq;
        for (all, own) in last_seq.iter_mut().zip(active.synced_seq.whole) {
            *all = own.max(*all);
        }
        self.base = Base { previous: active.number, previous_end: active.synced, last_seq };
        self.closed.push(Closed { number: active.number, last_seq: active.synced_seq.any });
    }

    /// The last segment that counts, and the end of what is durable in it.
    pub(crate) fn end(&self) -> Option<(u64, u64)> {
        let active = self.active.as_ref().map(|active| (active.number, active.synced));
        active.or((self.base.previous > 0).then_some((self.base.previous, self.base.previous_end)))
    }

    /// Whether a segment is open.
    pub(crate) fn is_open(&self) -> bool {
        self.active.is_some()
    }

    /// Opens the next segment.
    pub(crate) fn open_segment(&mut self) -> io::Result<()> {
        // A number is used for one attempt only: a name that was made in vain may come back after a crash.
        let number = self.next_number;
        self.next_number += 1;
        let spare = self.spares.take(&self.options)?;
        let header = Header {
            node: self.options.node,
            epoch: self.epoch,
            number,
            first_seq: self.next_seq,
            previous: self.base.previous,
            previous_end: self.base.previous_end,
            last_seq: self.base.last_seq,
        };
        let disk = &*self.options.disk;
        let written = disk.open(&spare, OpenMode::ReadWrite).and_then(|file| {
            file.write_at(0, &header.bytes())?;
            file.sync()?;
            Ok(file)
        });
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                let _ = disk.remove(&spare);
                return Err(error);
            }
        };
        let named = disk
            .rename(&spare, &segment_path(&self.options.dir, number))
            .and_then(|()| disk.sync_dir(&self.options.dir));
        if let Err(error) = named {
            self.closed.push(Closed { number, last_seq: [0; 2] });
            return Err(error);
        }
        self.syncs += 1;
        self.active = Some(Active {
            file,
            number,
            written: HEADER_BYTES,
            synced: HEADER_BYTES,
            synced_seq: Last::default(),
            written_seq: Last::default(),
        });
        Ok(())
    }

    /// Closed segments all of whose rows are sealed.
    pub(crate) fn take_sealed(&mut self, sealed: PerTable<i64>) -> Vec<Closed> {
        let previous = self.base.previous;
        let is_open = self.is_open();
        // The last segment that counts stays until the next one's header tells its end.
        let done = |closed: &mut Closed| {
            (is_open || closed.number != previous)
                && closed.last_seq.iter().zip(sealed).all(|(last, sealed)| *last <= sealed)
        };
        self.closed.extract_if(.., done).collect()
    }

    /// Puts segments back that could not be reused.
    pub(crate) fn put_back(&mut self, closed: &[Closed]) {
        self.closed.extend_from_slice(closed);
    }

    /// Segments that are in use.
    pub(crate) fn segments(&self) -> usize {
        self.closed.len() + usize::from(self.active.is_some())
    }
}

/// Prepared segments, shared with the thread that prepares them.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    state: Mutex<SpareState>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct SpareState {
    ready: Vec<PathBuf>,
    /// Their names are not durable yet.
    renamed: Vec<PathBuf>,
}

impl Spares {
    fn lock(&self) -> MutexGuard<'_, SpareState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the spares that are there and removes those of another length. Names are made durable first.
    pub(crate) fn adopt(&self, options: &WriterOptions) -> io::Result<()> {
        let disk = &*options.disk;
        disk.sync_dir(&options.dir)?;
        for entry in disk.list(&options.dir)? {
            let path = options.dir.join(&entry.name);
            let spare = entry.name.starts_with(SPARE);
            let ready = self.lock().ready.len();
            if spare && entry.len == options.segment_bytes && ready < SPARES_MAX {
                self.lock().ready.push(path);
            } else if spare || entry.name.ends_with(TEMPORARY) {
                disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Number of spares.
    pub(crate) fn len(&self) -> usize {
        let state = self.lock();
        state.ready.len() + state.renamed.len()
    }

    /// Makes a spare ahead of time when none is there.
    pub(crate) fn prepare(&self, options: &WriterOptions) -> io::Result<()> {
        if self.len() == 0 {
            let spare = self.create(options)?;
            self.lock().ready.push(spare);
        }
        Ok(())
    }

    fn take(&self, options: &WriterOptions) -> io::Result<PathBuf> {
        let ready = self.lock().ready.pop();
        ready.map_or_else(|| self.create(options), Ok)
    }

    fn create(&self, options: &WriterOptions) -> io::Result<PathBuf> {
        let disk = &*options.disk;
        let (path, file) = loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = options.dir.join(format!("{SPARE}new-{number:020}"));
            match disk.open(&path, OpenMode::CreateNew) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                other => break (path, other?),
            }
        };
        let filled = zero(&*file, options.segment_bytes);
        if let Err(error) = filled {
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Turns segments into spares, or removes them when there are enough. Their ids must be in the side file.
    /// With `wipe`, all of them become spares, for [`Spares::wipe`] to find.
    pub(crate) fn reuse(&self, options: &WriterOptions, segments: &[Closed], wipe: bool) -> io::Result<()> {
        let disk = &*options.disk;
        for closed in segments {
            let path = segment_path(&options.dir, closed.number);
            let fits =
                disk.open(&path, OpenMode::Read).and_then(|file| Ok(file.len()? == options.segment_bytes));
            let changed = match fits {
                Ok(fits) if wipe || (fits && self.len() < SPARES_MAX) => {
                    let spare = options.dir.join(format!("{SPARE}{:020}", closed.number));
                    disk.rename(&path, &spare).map(|()| self.lock().renamed.push(spare))
                }
                Ok(_) => disk.remove(&path),
                Err(error) => Err(error),
            };
            match changed {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // A spare whose old name could come back must not get a new header.
        disk.sync_dir(&options.dir)?;
        let mut state = self.lock();
        let renamed = std::mem::take(&mut state.renamed);
        state.ready.extend(renamed);
        Ok(())
    }

    /// Overwrites the spares with zeros and removes those that are too many.
    pub(crate) fn wipe(&self, options: &WriterOptions) -> io::Result<()> {
        let disk = &*options.disk;
        let ready = std::mem::take(&mut self.lock().ready);
        for path in ready {
            let file = disk.open(&path, OpenMode::ReadWrite)?;
            let len = file.len()?;
            zero(&*file, len)?;
            if len == options.segment_bytes && self.len() < SPARES_MAX {
                self.lock().ready.push(path);
            } else {
                disk.remove(&path)?;
            }
        }
        Ok(())
    }
}

fn zero(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(ZERO_CHUNK_BYTES))];
    let mut at = 0;
    while at < bytes {
        let chunk = zeros.get(..(bytes - at).min(zeros.len() as u64) as usize).unwrap_or(&zeros);
        file.write_at(at, chunk)?;
        at += chunk.len() as u64;
    }
    file.sync()
}

const TEMPORARY: &str = ".tmp";

/// Replaces a small file: beside, sync, rename, sync of the folder.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let temporary = PathBuf::from(temporary);
    let replace = || {
        match disk.remove(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        disk.rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))
    };
    replace().map_err(|source| StoreError::io(format!("writing {}", path.display()), source))
}

/// Reads a small file; `None` when it is missing.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let read = || -> io::Result<Vec<u8>> {
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io(format!("reading {}", path.display()), source)),
    }
}

/// Path of the side file of batch ids.
pub(crate) fn ids_path(dir: &Path) -> PathBuf {
    dir.join(IDS)
}
