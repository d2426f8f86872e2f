//! The disk as a parameter. The store writes through this trait only, so that the simulation can lose
//! unsynced writes, tear them, fill the disk and fail reads, all from one seed.
//!
//! Promises an implementation keeps:
//! - [`DiskFile::sync`] returning `Ok` means the file's content and length survive a crash;
//! - a *name* (created, renamed, linked or removed) survives a crash only after [`Disk::sync_dir`] of its folder;
//! - writes that were not synced may be lost, kept or torn at any 512-byte boundary, in any order.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; reads only.
    Read,
    /// Must exist; reads and writes.
    ReadWrite,
    /// Must not exist ([`io::ErrorKind::AlreadyExists`] otherwise); reads and writes.
    CreateNew,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Name within the folder.
    pub name: String,
    /// Length in bytes (0 for a folder).
    pub len: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// A place for files.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a folder and its parents; existing ones are fine. The new names are synced.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Entries of a folder, sorted by name. A missing folder is [`io::ErrorKind::NotFound`].
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Replaces `to` with `from`, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file a second name; [`io::ErrorKind::AlreadyExists`] when `to` exists. This is put-if-absent.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that can still be written where `path` lies.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Keeps other processes out while the guard lives, by a file that is created when missing;
    /// [`io::ErrorKind::WouldBlock`] when another one is in. A disk with one user has nothing to do.
    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

/// An open file. Positioned reads and writes; no cursor.
pub trait DiskFile: Send + Sync {
    /// Reads at most `out.len()` bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `data` at `offset`, growing the file when needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reads exactly `out.len()` bytes at `offset`; [`io::ErrorKind::UnexpectedEof`] when the file is shorter.
    fn read_exact_at(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let n = self.read_at(offset, out)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += n as u64;
            out = out.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }
}
