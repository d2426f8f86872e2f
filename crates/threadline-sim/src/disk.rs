//! A disk in memory that keeps only what was synced, and of the rest whatever the seed says.
//!
//! A write that was not synced is, after a crash, there or not sector by sector. A name that was not synced is there
//! or not, in the order of the changes within its folder. A failed sync leaves the pending writes in doubt and
//! forgets them, as Linux does: a later successful sync does not bring them back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use threadline_model::disk::{DirEntry, Disk, DiskFile, OpenMode};

use crate::Random;

const SECTOR: usize = 512;

/// Chances, in a thousand operations, that one fails without a crash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Reads that fail.
    pub read: u64,
    /// Writes that fail after a part was written.
    pub write: u64,
    /// Syncs that fail.
    pub sync: u64,
    /// Changes of names that fail.
    pub name: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What readers see.
    now: Vec<u8>,
    /// What a crash cannot take.
    durable: Vec<u8>,
    /// Not synced yet, in order.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Debug)]
enum NameOp {
    Set(PathBuf, u64),
    Remove(PathBuf),
    Rename { from: PathBuf, to: PathBuf, inode: u64 },
}

impl NameOp {
    fn folders(&self) -> Vec<PathBuf> {
        match self {
            NameOp::Set(path, _) | NameOp::Remove(path) => vec![folder(path)],
            NameOp::Rename { from, to, .. } => vec![folder(from), folder(to)],
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameOp::Set(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameOp::Remove(path) => {
                names.remove(path);
            }
            NameOp::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    name_ops: Vec<NameOp>,
    folders: BTreeSet<PathBuf>,
    capacity: u64,
    faults: Faults,
    /// Operations left before the power goes; `None` = it stays.
    fuse: Option<u64>,
    dark: bool,
    /// Files opened in an earlier life answer nothing any more.
    life: u64,
    /// Time in µs that a slow sync moves forward, and by how much at most.
    slow: Option<(Arc<AtomicI64>, u64)>,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    random: Random,
}

fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn dark() -> io::Error {
    io::Error::other("power is off")
}

impl State {
    /// Counts an operation; after the fuse burnt down everything fails.
    fn tick(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.fuse {
            if *left == 0 {
                self.dark = true;
            }
            *left = left.saturating_sub(1);
        }
        if self.dark { Err(dark()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        live.iter().filter_map(|id| self.inodes.get(id)).map(|inode| inode.now.len() as u64).sum()
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn name_op(&mut self, op: NameOp) {
        op.apply(&mut self.names);
        self.name_ops.push(op);
    }
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Pending::Write { offset, data } => write(bytes, *offset, data),
            Pending::SetLen(len) => bytes.resize(*len, 0),
        }
    }

    /// Applies the parts that the disk happened to write.
    fn apply_some(&self, bytes: &mut Vec<u8>, random: &Random) {
        match self {
            Pending::Write { offset, data } => {
                let keep = random.below(3);
                let mut at = 0;
                while at < data.len() {
                    let end = (at + SECTOR - (offset + at) % SECTOR).min(data.len());
                    let kept = match keep {
                        0 => false,
                        1 => true,
                        _ => random.chance(500),
                    };
                    if kept {
                        write(bytes, offset + at, data.get(at..end).unwrap_or_default());
                    }
                    at = end;
                }
            }
            Pending::SetLen(len) if random.chance(500) => bytes.resize(*len, 0),
            Pending::SetLen(_) => {}
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(part) = bytes.get_mut(offset..end) {
        part.copy_from_slice(data);
    }
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    pub fn new(random: Random, capacity: u64) -> Self {
        let state = State { capacity, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), random }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the chances of faults.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Sets the size of the disk in bytes.
    pub fn set_capacity(&self, capacity: u64) {
        self.lock().capacity = capacity;
    }

    /// The power goes after this many further operations; `None` = it stays.
    pub fn set_fuse(&self, operations: Option<u64>) {
        self.lock().fuse = operations;
    }

    /// From now on every sync takes up to `us_max` of the clock `us`.
    pub fn set_slow(&self, us: Arc<AtomicI64>, us_max: u64) {
        self.lock().slow = Some((us, us_max));
    }

    /// Whether the power is off.
    pub fn is_dark(&self) -> bool {
        self.lock().dark
    }

    /// Power is lost and comes back: what was not synced is there in parts or not at all.
    pub fn crash(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        for inode in state.inodes.values_mut() {
            let mut bytes = std::mem::take(&mut inode.durable);
            for pending in inode.pending.drain(..) {
                pending.apply_some(&mut bytes, &self.random);
            }
            inode.now.clone_from(&bytes);
            inode.durable = bytes;
        }
        // Within a folder the changes are kept in order up to some point.
        let mut stopped: BTreeSet<PathBuf> = BTreeSet::new();
        for op in std::mem::take(&mut state.name_ops) {
            let folders = op.folders();
            if folders.iter().any(|f| stopped.contains(f)) || self.random.chance(300) {
                stopped.extend(folders);
            } else {
                op.apply(&mut state.durable_names);
            }
        }
        state.names.clone_from(&state.durable_names);
        let live: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|id, _| live.contains(id));
        state.dark = false;
        state.fuse = None;
        state.life += 1;
    }

    /// Flips one bit of a file, where tests want to see that it is found.
    pub fn flip(&self, path: &Path, offset: usize) -> bool {
        let mut state = self.lock();
        let Ok(id) = state.find(path) else { return false };
        let Some(inode) = state.inodes.get_mut(&id) else { return false };
        let mut done = false;
        for bytes in [&mut inode.now, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1;
                done = true;
            }
        }
        done
    }

    /// All files with their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let state = self.lock();
        let len = |id| state.inodes.get(id).map_or(0, |inode| inode.now.len());
        state.names.iter().map(|(path, id)| (path.clone(), len(id))).collect()
    }

    fn name_fault(&self, state: &State) -> io::Result<()> {
        if self.random.chance(state.faults.name) { Err(io::Error::other("name not changed")) } else { Ok(()) }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        state.tick()?;
        let inode = match (mode, state.names.get(path).copied()) {
            (OpenMode::CreateNew, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => {
                self.name_fault(&state)?;
                if !state.folders.contains(&folder(path)) {
                    return Err(ErrorKind::NotFound.into());
                }
                state.next_inode += 1;
                let id = state.next_inode;
                state.inodes.insert(id, Inode::default());
                state.name_op(NameOp::Set(path.to_path_buf(), id));
                id
            }
            (_, Some(id)) => id,
            (_, None) => return Err(ErrorKind::NotFound.into()),
        };
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, writable, life: state.life }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.tick()?;
        for ancestor in path.ancestors() {
            state.folders.insert(ancestor.to_path_buf());
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.lock();
        state.tick()?;
        if !state.folders.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut entries: Vec<DirEntry> = state
            .names
            .iter()
            .filter(|(p, _)| p.parent() == Some(path))
            .map(|(p, id)| DirEntry {
                name: name(p),
                len: state.inodes.get(id).map_or(0, |inode| inode.now.len() as u64),
                is_dir: false,
            })
            .chain(state.folders.iter().filter(|p| p.parent() == Some(path)).map(|p| DirEntry {
                name: name(p),
                len: 0,
                is_dir: true,
            }))
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.tick()?;
        self.name_fault(&state)?;
        let inode = state.find(from)?;
        state.name_op(NameOp::Rename { from: from.to_path_buf(), to: to.to_path_buf(), inode });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.tick()?;
        self.name_fault(&state)?;
        let inode = state.find(from)?;
        if state.names.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.name_op(NameOp::Set(to.to_path_buf(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.tick()?;
        self.name_fault(&state)?;
        state.find(path)?;
        state.name_op(NameOp::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.tick()?;
        if self.random.chance(state.faults.sync) {
            return Err(io::Error::other("folder not synced"));
        }
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut state.name_ops)
            .into_iter()
            .partition(|op| op.folders().iter().any(|f| f == path));
        for op in &now {
            op.apply(&mut state.durable_names);
        }
        state.name_ops = later;
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let mut state = self.lock();
        state.tick()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    writable: bool,
    life: u64,
}

impl SimFile {
    fn with<T>(&self, f: impl FnOnce(&mut State, &mut Inode, &Random) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(dark());
        }
        state.tick()?;
        let mut inode = state.inodes.remove(&self.inode).ok_or(ErrorKind::NotFound)?;
        let result = f(&mut state, &mut inode, &self.disk.random);
        state.inodes.insert(self.inode, inode);
        result
    }

    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.with(|state, inode, random| {
            if random.chance(state.faults.read) {
                return Err(io::Error::other("read failed"));
            }
            let from = inode.now.get(offset as usize..).unwrap_or_default();
            let n = from.len().min(out.len());
            for (to, from) in out.iter_mut().zip(from) {
                *to = *from;
            }
            Ok(n)
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable()?;
        self.with(|state, inode, random| {
            let offset = offset as usize;
            let grown = (offset + data.len()).saturating_sub(inode.now.len()) as u64;
            // `used` does not count this inode now: it was taken out.
            let full = grown > 0 && state.used() + inode.now.len() as u64 + grown > state.capacity;
            let failed = random.chance(state.faults.write);
            let part = if full || failed { random.below(data.len() as u64 + 1) as usize } else { data.len() };
            let data = data.get(..part).unwrap_or_default();
            if !data.is_empty() && !full {
                write(&mut inode.now, offset, data);
                inode.pending.push(Pending::Write { offset, data: data.to_vec() });
            }
            if full {
                Err(ErrorKind::StorageFull.into())
            } else if failed {
                Err(io::Error::other("write failed"))
            } else {
                Ok(())
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, inode, random| {
            let mut durable = std::mem::take(&mut inode.durable);
            if let Some((us, max)) = &state.slow {
                us.fetch_add(random.below(*max) as i64, Ordering::Relaxed);
            }
            let failed = random.chance(state.faults.sync);
            for pending in inode.pending.drain(..) {
                if failed {
                    pending.apply_some(&mut durable, random);
                } else {
                    pending.apply(&mut durable);
                }
            }
            inode.durable = durable;
            if failed { Err(io::Error::other("sync failed")) } else { Ok(()) }
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, inode, _| Ok(inode.now.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.with(|state, inode, _| {
            let grown = len.saturating_sub(inode.now.len() as u64);
            if grown > 0 && state.used() + inode.now.len() as u64 + grown > state.capacity {
                return Err(ErrorKind::StorageFull.into());
            }
            inode.now.resize(len as usize, 0);
            inode.pending.push(Pending::SetLen(len as usize));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &SimDisk, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        disk.open(Path::new(path), mode)
    }

    fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
        let file = file(disk, path, OpenMode::Read).ok()?;
        let mut out = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut out).unwrap();
        Some(out)
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may_not() {
        let mut lost = 0;
        for seed in 0..64 {
            let disk = SimDisk::new(Random::new(seed), 1 << 20);
            disk.create_dir_all(Path::new("/d")).unwrap();
            let f = file(&disk, "/d/a", OpenMode::CreateNew).unwrap();
            f.write_at(0, &[1; 2000]).unwrap();
            f.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            f.write_at(0, &[2; 2000]).unwrap();
            file(&disk, "/d/b", OpenMode::CreateNew).unwrap();
            disk.crash();
            let a = content(&disk, "/d/a").unwrap();
            assert_eq!(a.len(), 2000);
            assert!(a.chunks(SECTOR).all(|s| s.iter().all(|b| *b == s[0])), "torn within a sector");
            lost += usize::from(content(&disk, "/d/b").is_none());
            assert!(f.sync().is_err(), "a file of an earlier life");
        }
        assert!((5..60).contains(&lost), "{lost} of 64 unsynced names lost");
    }

    #[test]
    fn the_fuse_and_the_capacity_hold() {
        let disk = SimDisk::new(Random::new(1), 1000);
        disk.create_dir_all(Path::new("/")).unwrap();
        let f = file(&disk, "/a", OpenMode::CreateNew).unwrap();
        assert_eq!(f.write_at(0, &[0; 1001]).unwrap_err().kind(), ErrorKind::StorageFull);
        f.set_len(1000).unwrap();
        f.write_at(500, &[0; 500]).unwrap();
        assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 0);
        disk.set_fuse(Some(1));
        f.sync().unwrap();
        assert!(f.sync().is_err() && disk.is_dark());
    }
}
