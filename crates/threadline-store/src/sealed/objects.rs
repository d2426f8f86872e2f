//! The one way to sealed files, table log and Merkle log: whole objects by key, put, put if absent, ranged read,
//! list, delete. An object store fits the same shape, so an adapter can take the disk's place later.
//!
//! Keys are `/`-separated paths below the root. It does not know what the objects hold.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use threadline_model::disk::{DirEntry, Disk, DiskFile, OpenMode};

/// Bytes gathered before a write to the disk.
const WRITE_BYTES: usize = 256 << 10;

/// Objects below a root folder.
#[derive(Clone)]
pub(crate) struct Objects {
    disk: Arc<dyn Disk>,
    root: Arc<Path>,
}

impl Objects {
    /// Objects below `root`.
    pub(crate) fn new(disk: Arc<dyn Disk>, root: &Path) -> Self {
        Self { disk, root: Arc::from(root) }
    }

    /// Where an object lies.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn folder(&self, key: &str) -> PathBuf {
        let path = self.path(key);
        path.parent().map_or_else(|| self.root.to_path_buf(), Path::to_path_buf)
    }

    /// Opens an object for ranged reads.
    pub(crate) fn open(&self, key: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.path(key), OpenMode::Read)
    }

    /// A whole object of at most `bytes_max` bytes.
    pub(crate) fn get(&self, key: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(key)?;
        let len = file.len()?;
        if len > bytes_max {
            let text = format!("{key} has {len} bytes, at most {bytes_max} make sense");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// A whole object; `None` when there is none.
    pub(crate) fn find(&self, key: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        match self.get(key, bytes_max) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Starts an object. It counts only after [`ObjectWriter::finish`]; what an earlier attempt left is replaced.
    pub(crate) fn create(&self, key: &str) -> io::Result<ObjectWriter> {
        let path = self.path(key);
        let folder = self.folder(key);
        self.disk.create_dir_all(&folder)?;
        let file = match self.disk.open(&path, OpenMode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(&path)?;
                self.disk.open(&path, OpenMode::CreateNew)?
            }
            other => other?,
        };
        Ok(ObjectWriter {
            disk: Arc::clone(&self.disk),
            file,
            path,
            folder,
            buffer: Vec::with_capacity(WRITE_BYTES),
            offset: 0,
            hash: Sha256::new(),
            finished: false,
        })
    }

    /// Writes an object, synced, name included.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.create(key)?;
        writer.write_all(bytes)?;
        writer.finish().map(drop)
    }

    /// Writes an object unless there is one. Whether it was written.
    pub(crate) fn put_if_absent(&self, key: &str, bytes: &[u8]) -> io::Result<bool> {
        let temporary = temporary(key);
        self.put(&temporary, bytes)?;
        let linked = self.disk.link(&self.path(&temporary), &self.path(key));
        let removed = self.disk.remove(&self.path(&temporary));
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // It may be there by an attempt whose sync of the folder failed.
                return self.disk.sync_dir(&self.folder(key)).map(|()| false);
            }
            other => other?,
        }
        self.disk.sync_dir(&self.folder(key))?;
        removed.map(|()| true)
    }

    /// Replaces an object atomically.
    pub(crate) fn replace(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = temporary(key);
        self.put(&temporary, bytes)?;
        self.disk.rename(&self.path(&temporary), &self.path(key))?;
        self.disk.sync_dir(&self.folder(key))
    }

    /// Makes a folder and its parents.
    pub(crate) fn make_folder(&self, key: &str) -> io::Result<()> {
        self.disk.create_dir_all(&self.path(key))
    }

    /// Makes durable whatever names the folder shows now: a crashed process may have left names that no one synced.
    pub(crate) fn settle(&self, folder: &str) -> io::Result<()> {
        self.disk.sync_dir(&self.path(folder))
    }

    /// Entries of a folder, sorted; none when it is missing.
    pub(crate) fn list(&self, folder: &str) -> io::Result<Vec<DirEntry>> {
        match self.disk.list(&self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    /// Removes an object; a missing one is fine. Not durable at once: a file that comes back is an orphan.
    pub(crate) fn delete(&self, key: &str) -> io::Result<()> {
        match self.disk.remove(&self.path(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Name of the unfinished form of an object; readers of the table log skip names that start with a dot.
fn temporary(key: &str) -> String {
    match key.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/.{name}.tmp"),
        None => format!(".{key}.tmp"),
    }
}

/// Whether a name is what a crash left of an unfinished put.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// An object being written front to back. Dropped unfinished, it is removed.
pub(crate) struct ObjectWriter {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    folder: PathBuf,
    buffer: Vec<u8>,
    offset: u64,
    hash: Sha256,
    finished: bool,
}

impl ObjectWriter {
    fn spill(&mut self) -> io::Result<()> {
        self.file.write_at(self.offset, &self.buffer)?;
        self.hash.update(&self.buffer);
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Syncs content and name. Length and SHA-256 of the object.
    pub(crate) fn finish(mut self) -> io::Result<(u64, [u8; 32])> {
        self.spill()?;
        self.file.sync()?;
        self.disk.sync_dir(&self.folder)?;
        self.finished = true;
        Ok((self.offset, std::mem::take(&mut self.hash).finalize().into()))
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > WRITE_BYTES {
            self.spill()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: what stays is an orphan, removed at the next open.
            let _ = self.disk.remove(&self.path);
        }
    }
}
