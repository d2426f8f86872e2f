//! What was read of sealed files and may be wanted again, bounded by bytes: footers, heads, sub-blocks, counts,
//! filter packs.
//!
//! Entries that were used since the hand came by last get a second chance; the others go (the "clock" algorithm). What a
//! scan of a whole dictionary reads seldom displaces others: one such scan may be larger than the cache.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxBuildHasher;

use super::index::Which;
use super::index::dictionary::Sub;
use super::index::durations::Durations;
use super::index::rollup::{Facets, Rollup};
use super::pages::Decompressors;
use super::reader::{FileIndex, Footer};

/// What a kept part takes beyond its own bytes, about.
const OVERHEAD_BYTES: usize = 128;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Footer and page index.
    Footer,
    /// Head of the indexes.
    Index,
    /// Sub-block of a dictionary.
    Sub(Which, u32),
    /// Roll-up.
    Rollup,
    /// Facets.
    Facets,
    /// Durations of spans.
    Durations,
    /// A whole filter pack; it has a number of its own.
    Pack,
}

/// What is kept of a part.
#[derive(Clone)]
pub(crate) enum Kept {
    Footer(Arc<Footer>),
    Index(Arc<FileIndex>),
    Sub(Arc<Sub>),
    Rollup(Arc<Rollup>),
    Facets(Arc<Facets>),
    Durations(Arc<Durations>),
    Pack(Arc<Vec<u8>>),
}

impl Kept {
    fn bytes(&self) -> usize {
        let own = match self {
            Kept::Footer(footer) => footer.bytes(),
            Kept::Index(index) => index.bytes(),
            Kept::Sub(sub) => sub.bytes(),
            Kept::Rollup(rollup) => rollup.bytes(),
            Kept::Facets(facets) => facets.bytes(),
            Kept::Durations(durations) => durations.bytes(),
            Kept::Pack(bytes) => bytes.len(),
        };
        own + OVERHEAD_BYTES
    }
}

/// One in so many parts that a scan reads is kept when the cache is full.
const SCANNED_KEPT: u64 = 16;

type Key = (u64, Part);

struct Slot {
    kept: Kept,
    bytes: usize,
    used: bool,
}

#[derive(Default)]
struct Inner {
    slots: HashMap<Key, Slot, FxBuildHasher>,
    /// In the order in which the hand comes by; keys that are gone are passed over.
    hand: VecDeque<Key>,
    bytes: usize,
    /// Parts that scans read while the cache was full.
    scanned: u64,
}

/// Parts of files, bounded by bytes.
pub(crate) struct Cache {
    bytes_max: usize,
    files: AtomicU64,
    decompressors: Arc<Decompressors>,
    inner: Mutex<Inner>,
}

impl Cache {
    /// An empty cache of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, files: AtomicU64::new(0), decompressors: Arc::default(), inner: Mutex::default() }
    }

    /// A number for a file that no other file has.
    pub(crate) fn file(&self) -> u64 {
        self.files.fetch_add(1, Ordering::Relaxed)
    }

    /// Decompression contexts for the pages of files.
    pub(crate) fn decompressors(&self) -> &Arc<Decompressors> {
        &self.decompressors
    }

    /// A part, if it is there.
    pub(crate) fn get(&self, file: u64, part: Part) -> Option<Kept> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = inner.slots.get_mut(&(file, part))?;
        slot.used = true;
        Some(slot.kept.clone())
    }

    /// Bytes of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// What has more bytes is not kept.
    pub(crate) fn kept_bytes_max(&self) -> usize {
        (self.bytes_max / 8).saturating_sub(OVERHEAD_BYTES)
    }

    /// Keeps a part. What is larger than an eighth of the cache is not kept.
    pub(crate) fn put(&self, file: u64, part: Part, kept: Kept) {
        self.insert(file, part, kept, false);
    }

    /// Keeps a part that a scan has read, if there is room, else few of them.
    pub(crate) fn put_scanned(&self, file: u64, part: Part, kept: Kept) {
        self.insert(file, part, kept, true);
    }

    fn insert(&self, file: u64, part: Part, kept: Kept, scanned: bool) {
        let bytes = kept.bytes();
        if bytes > self.bytes_max / 8 {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if scanned && inner.bytes + bytes > self.bytes_max {
            inner.scanned += 1;
            if !inner.scanned.is_multiple_of(SCANNED_KEPT) {
                return;
            }
        }
        inner.bytes += bytes;
        match inner.slots.insert((file, part), Slot { kept, bytes, used: false }) {
            Some(old) => inner.bytes -= old.bytes,
            None => inner.hand.push_back((file, part)),
        }
        while inner.bytes > self.bytes_max {
            let Some(key) = inner.hand.pop_front() else { break };
            match inner.slots.get_mut(&key) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    inner.hand.push_back(key);
                }
                Some(_) => {
                    if let Some(slot) = inner.slots.remove(&key) {
                        inner.bytes -= slot.bytes;
                    }
                }
                None => {}
            }
        }
    }

    /// Drops what is kept of a file.
    pub(crate) fn forget(&self, file: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut freed = 0;
        inner.slots.retain(|(of, _), slot| {
            let keep = *of != file;
            freed += if keep { 0 } else { slot.bytes };
            keep
        });
        inner.bytes -= freed;
        inner.hand.retain(|(of, _)| *of != file);
    }
}
