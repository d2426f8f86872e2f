//! Filter packs: the filters of many small sealed files in one object, so that a search for something rare need not
//! open every file (docs/formats.md, "Filter packs").
//!
//! Vocabulary:
//! - *pack*: one object with filters of trace ids and plain terms, of up to [`FILES_MAX`] files of a table;
//! - *entry*: what a pack says of one file;
//! - *place*: where the entry of a file lies;
//! - *loose* file: one in no pack, or in a pack most of whose files are gone.
//!
//! A pack is made from files and from nothing else. What is missing or damaged costs time only: the files are opened, and
//! maintenance packs them again. A pack never decides that a row matches: it says that a file has none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustc_hash::FxBuildHasher;
use threadline_model::schema::Table;
use xxhash_rust::xxh3::xxh3_64;

use super::cache::{Cache, Kept, Part};
use super::fuse::Fuse;
use super::index::dictionary::checked;
use super::objects::Objects;
use super::reader::SealedFile;
use super::writer::trace_hash;
use super::{Pace, Sealed};
use crate::snapshot::FileMeta;
use crate::table_log::table_folder;
use crate::{IndexPlan, Prune, StoreError, TERM_BYTES_MAX, TermList};

const MAGIC: [u8; 8] = *b"TLPACK\0\x01";
/// Magic, bytes of the pack, number of files.
const HEADER_BYTES: usize = 16;
/// What ties an entry to a file: the first bytes of the file's SHA-256.
const KEY_BYTES: usize = 16;
/// Key, offset, length.
const ROW_BYTES: usize = KEY_BYTES + 8;
/// Key, two states, bytes of the trace filter.
const ENTRY_HEAD_BYTES: usize = KEY_BYTES + 6;
const CRC_BYTES: usize = 4;
/// Files of a pack, at most.
const FILES_MAX: usize = 512;
/// Bytes of a pack, at most: it is read whole.
const PACK_BYTES_MAX: usize = 8 << 20;
/// A cache that cannot keep packs of so many bytes gets none.
const PACK_BYTES_MIN: usize = 256 << 10;
/// Bytes of a filter, at most. To read a larger one takes as long as to open the file.
pub(crate) const FILTER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a directory with its header and checksum, at most.
const DIRECTORY_BYTES_MAX: usize = HEADER_BYTES + FILES_MAX * ROW_BYTES + CRC_BYTES;

type Key = [u8; KEY_BYTES];

fn key_of(meta: &FileMeta) -> Key {
    meta.sha256.first_chunk().copied().unwrap_or_default()
}

fn bad() -> StoreError {
    StoreError::corrupt("a filter pack is damaged")
}

/// What is known of a set of hashes of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Known<F> {
    /// Nothing.
    #[default]
    Unknown,
    /// It is empty.
    Empty,
    /// It has no hash that the filter lacks.
    Filter(F),
}

impl Known<Vec<u8>> {
    /// As it goes into a pack: large filters do not.
    fn state(&self) -> (u8, &[u8]) {
        match self {
            Known::Filter(bytes) if bytes.len() <= FILTER_BYTES_MAX => (2, bytes),
            Known::Unknown | Known::Filter(_) => (0, &[]),
            Known::Empty => (1, &[]),
        }
    }
}

impl<'a> Known<Fuse<'a>> {
    fn read(state: u8, bytes: &'a [u8]) -> Self {
        match state {
            1 => Known::Empty,
            2 => Fuse::read(bytes).map_or(Known::Unknown, Known::Filter),
            _ => Known::Unknown,
        }
    }

    fn lacks(&self, hash: u64) -> bool {
        match self {
            Known::Unknown => false,
            Known::Empty => true,
            Known::Filter(filter) => !filter.contains(hash),
        }
    }
}

/// What a pack is to say of a file.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Hashes of trace ids.
    pub(crate) traces: Known<Vec<u8>>,
    /// Hashes of plain terms.
    pub(crate) terms: Known<Vec<u8>>,
}

impl Content {
    fn entry(&self, key: &Key) -> Vec<u8> {
        let ((traces_state, traces), (terms_state, terms)) = (self.traces.state(), self.terms.state());
        let mut entry = Vec::with_capacity(ENTRY_HEAD_BYTES + traces.len() + terms.len() + CRC_BYTES);
        entry.extend_from_slice(key);
        entry.extend_from_slice(&[traces_state, terms_state]);
        entry.extend_from_slice(&(traces.len() as u32).to_le_bytes());
        entry.extend_from_slice(traces);
        entry.extend_from_slice(terms);
        let crc = crc32c::crc32c(&entry);
        entry.extend_from_slice(&crc.to_le_bytes());
        entry
    }
}

/// How a plain term stands in a filter.
pub(crate) fn term_hash(term: &[u8]) -> u64 {
    xxh3_64(term)
}

/// Whether an entry can answer the question with "no row".
fn can_deny(plan: &IndexPlan) -> bool {
    match plan {
        IndexPlan::Term(TermList::Plain, _) | IndexPlan::Trace(_) => true,
        IndexPlan::And(parts) => parts.iter().any(can_deny),
        IndexPlan::Or(parts) => parts.iter().all(can_deny),
        _ => false,
    }
}

/// What a pack says of a file.
struct Filters<'a> {
    traces: Known<Fuse<'a>>,
    terms: Known<Fuse<'a>>,
}

impl<'a> Filters<'a> {
    /// From an entry whose checksum was found right; `None` when it is of another file.
    fn read(entry: &'a [u8], key: &Key) -> Option<Filters<'a>> {
        let (own, rest) = entry.split_first_chunk::<KEY_BYTES>()?;
        let (&[traces_state, terms_state], rest) = rest.split_first_chunk::<2>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (rest, _) = rest.split_last_chunk::<CRC_BYTES>()?;
        let (traces, terms) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        (own == key).then(|| Filters {
            traces: Known::read(traces_state, traces),
            terms: Known::read(terms_state, terms),
        })
    }

    fn deny(&self, prune: &Prune) -> bool {
        let traces = prune.trace_ids.as_ref();
        traces.is_some_and(|ids| ids.iter().all(|id| self.traces.lacks(trace_hash(&id.0))))
            || self.deny_plan(&prune.index)
    }

    /// Whether no row can be meant; `false` also when nothing is known.
    fn deny_plan(&self, plan: &IndexPlan) -> bool {
        match plan {
            IndexPlan::Nothing => true,
            IndexPlan::Term(TermList::Plain, term) => {
                term.len() < TERM_BYTES_MAX && self.terms.lacks(term_hash(term.as_bytes()))
            }
            IndexPlan::Trace(id) => self.traces.lacks(trace_hash(&id.0)),
            IndexPlan::And(parts) => parts.iter().any(|part| self.deny_plan(part)),
            IndexPlan::Or(parts) => parts.iter().all(|part| self.deny_plan(part)),
            _ => false,
        }
    }
}

/// A pack of a table.
pub(crate) struct Pack {
    objects: Objects,
    key: String,
    len: usize,
    /// Files that it names, gone ones too.
    files: usize,
    /// Its number in the cache.
    number: u64,
    /// It could not be read: it is not asked again, and its files are loose.
    unusable: AtomicBool,
}

/// Where the entry of a file lies.
#[derive(Clone)]
pub(crate) struct Place {
    pack: Arc<Pack>,
    at: usize,
    len: usize,
}

impl Place {
    /// Whether the pack says that no row of the file can fulfil `prune`.
    pub(crate) fn denies(&self, meta: &FileMeta, prune: &Prune, cache: &Cache) -> bool {
        if prune.trace_ids.is_none() && !can_deny(&prune.index) {
            return false;
        }
        let Some(bytes) = self.pack.bytes(cache) else { return false };
        let entry = bytes.get(self.at..self.at.saturating_add(self.len)).unwrap_or_default();
        Filters::read(entry, &key_of(meta)).is_some_and(|filters| filters.deny(prune))
    }
}

impl Pack {
    fn usable(&self) -> bool {
        !self.unusable.load(Ordering::Relaxed)
    }

    /// All bytes, checked; `None` when they cannot be had.
    fn bytes(&self, cache: &Cache) -> Option<Arc<Vec<u8>>> {
        if let Some(Kept::Pack(bytes)) = cache.get(self.number, Part::Pack) {
            return Some(bytes);
        }
        // What is not kept would be read again for every file.
        if !self.usable() || self.len > cache.kept_bytes_max() {
            return None;
        }
        match self.read() {
            Ok(bytes) => {
                let bytes = Arc::new(bytes);
                cache.put(self.number, Part::Pack, Kept::Pack(Arc::clone(&bytes)));
                Some(bytes)
            }
            Err(_) => {
                self.unusable.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    fn read(&self) -> Result<Vec<u8>, StoreError> {
        let context = |error| StoreError::io(format!("reading filter pack {}", self.key), error);
        let bytes = self.objects.get(&self.key, PACK_BYTES_MAX as u64).map_err(context)?;
        for row in read_directory(&bytes, bytes.len())? {
            checked(bytes.get(row.at..row.at + row.len).ok_or_else(bad)?)?;
        }
        Ok(bytes)
    }
}

/// A row of a directory: key, and place of the entry.
struct DirectoryRow {
    key: Key,
    at: usize,
    len: usize,
}

/// Reads the directory at the beginning of a pack of `pack_bytes` bytes. Entries lie within the pack.
fn read_directory(head: &[u8], pack_bytes: usize) -> Result<Vec<DirectoryRow>, StoreError> {
    fn number(bytes: &[u8], at: usize) -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }
    let count = number(head, 12).filter(|count| *count <= FILES_MAX).ok_or_else(bad)?;
    let end = HEADER_BYTES + count * ROW_BYTES + CRC_BYTES;
    let directory = checked(head.get(..end).ok_or_else(bad)?)?;
    if !directory.starts_with(&MAGIC) || number(directory, 8) != Some(pack_bytes) {
        return Err(bad());
    }
    let rows = directory.get(HEADER_BYTES..).unwrap_or_default().as_chunks::<ROW_BYTES>().0;
    rows.iter()
        .map(|row| {
            let key = *row.first_chunk().ok_or_else(bad)?;
            let at = number(row, KEY_BYTES).filter(|at| *at >= end).ok_or_else(bad)?;
            let len = number(row, KEY_BYTES + 4).filter(|len| *len >= ENTRY_HEAD_BYTES + CRC_BYTES);
            let len = len.ok_or_else(bad)?;
            let within = at.checked_add(len).is_some_and(|end| end <= pack_bytes);
            within.then_some(DirectoryRow { key, at, len }).ok_or_else(bad)
        })
        .collect()
}

/// The bytes of a pack, and where the entries lie in them.
fn encode(entries: &[(Key, Vec<u8>)]) -> (Vec<u8>, Vec<(usize, usize)>) {
    let directory = HEADER_BYTES + entries.len() * ROW_BYTES + CRC_BYTES;
    let total = directory + entries.iter().map(|(_, entry)| entry.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(total as u32).to_le_bytes());
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    let mut at = directory;
    let mut places = Vec::with_capacity(entries.len());
    for (key, entry) in entries {
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&(at as u32).to_le_bytes());
        bytes.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        places.push((at, entry.len()));
        at += entry.len();
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    entries.iter().for_each(|(_, entry)| bytes.extend_from_slice(entry));
    (bytes, places)
}

/// The packs of a table.
#[derive(Default)]
pub(crate) struct Packs {
    packs: Vec<Arc<Pack>>,
    /// Objects that are no packs: removed by the next round.
    strays: Vec<String>,
    next: u64,
}

fn folder_of(table: Table) -> String {
    format!("{}/_filters", table_folder(table))
}

/// Number of a pack by its name.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".pack")?;
    (digits.len() == 10).then(|| digits.parse().ok()).flatten()
}

impl Packs {
    /// Finds the packs of a table and tells the files their places. Only directories are read; what cannot be read is
    /// left to maintenance.
    pub(crate) fn open(objects: &Objects, table: Table, files: &[Arc<SealedFile>], cache: &Cache) -> Packs {
        let folder = folder_of(table);
        let mut found = Packs::default();
        let mut places: HashMap<Key, Place, FxBuildHasher> = HashMap::default();
        for entry in objects.list(&folder).unwrap_or_default() {
            let Some(number) = number_of(&entry.name).filter(|_| !entry.is_dir) else { continue };
            found.next = found.next.max(number.saturating_add(1));
            let key = format!("{folder}/{}", entry.name);
            let Ok((len, rows)) = open_directory(objects, &key) else {
                found.strays.push(key);
                continue;
            };
            let (files, number) = (rows.len(), cache.file());
            let pack =
                Pack { objects: objects.clone(), key, len, files, number, unusable: AtomicBool::new(false) };
            let pack = Arc::new(pack);
            for row in rows {
                places.insert(row.key, Place { pack: Arc::clone(&pack), at: row.at, len: row.len });
            }
            found.packs.push(pack);
        }
        if !places.is_empty() {
            for file in files {
                file.set_place(places.remove(&key_of(file.meta())));
            }
        }
        found
    }

    /// Removes objects that are no packs, and packs that no file is in. What cannot be removed is left to the next
    /// round.
    fn tidy(&mut self, files: &[Arc<SealedFile>], objects: &Objects, cache: &Cache) -> Result<(), StoreError> {
        let used: BTreeSet<u64> = files
            .iter()
            .filter_map(|file| file.place())
            .filter(|place| place.pack.usable())
            .map(|place| place.pack.number)
            .collect();
        for pack in self.packs.extract_if(.., |pack| !used.contains(&pack.number)) {
            cache.forget(pack.number);
            self.strays.push(pack.key.clone());
        }
        while let Some(key) = self.strays.last() {
            objects.delete(key).map_err(|error| StoreError::io(format!("removing {key}"), error))?;
            self.strays.pop();
        }
        Ok(())
    }
}

fn open_directory(objects: &Objects, key: &str) -> Result<(usize, Vec<DirectoryRow>), StoreError> {
    let context = |error| StoreError::io(format!("reading filter pack {key}"), error);
    let file = objects.open(key).map_err(context)?;
    let len = file.len().map_err(context)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= PACK_BYTES_MAX).ok_or_else(bad)?;
    let mut head = vec![0; len.min(DIRECTORY_BYTES_MAX)];
    file.read_exact_at(0, &mut head).map_err(context)?;
    Ok((len, read_directory(&head, len)?))
}

impl Sealed {
    /// Packs loose files of a table when there are enough of them, and removes packs that are of no use any more.
    /// Whether a pack was written. The caller holds `maintenance`.
    pub(crate) fn pack(&self, table: Table, packs: &mut Packs) -> Result<bool, StoreError> {
        let files = self.catalogue().table(table).files.clone();
        let mut live: BTreeMap<u64, usize> = BTreeMap::new();
        for place in files.iter().filter_map(|file| file.place()) {
            *live.entry(place.pack.number).or_default() += 1;
        }
        let worn = |place: &Place| {
            let live = live.get(&place.pack.number).copied().unwrap_or(0);
            !place.pack.usable() || live * 2 < place.pack.files
        };
        let loose: Vec<&Arc<SealedFile>> =
            files.iter().filter(|file| file.place().is_none_or(|place| worn(&place))).collect();
        let bytes_max = PACK_BYTES_MAX.min(self.cache.kept_bytes_max());
        let due = loose.len() >= self.options.pack_files_min.max(1) && bytes_max >= PACK_BYTES_MIN;
        if due {
            self.write_pack(table, packs, &loose, bytes_max)?;
        }
        packs.tidy(&files, &self.objects, &self.cache)?;
        Ok(due)
    }

    fn write_pack(
        &self,
        table: Table,
        packs: &mut Packs,
        loose: &[&Arc<SealedFile>],
        bytes_max: usize,
    ) -> Result<(), StoreError> {
        let mut pace = Pace::new(self);
        let mut entries: Vec<(Key, Vec<u8>)> = Vec::new();
        let mut total = DIRECTORY_BYTES_MAX;
        for file in loose.iter().take(FILES_MAX) {
            let content = match file.pack_content() {
                // Whoever reads the file will say so; here it keeps no other file from its pack.
                Err(StoreError::Corrupt { .. }) => Content::default(),
                content => content?,
            };
            let key = key_of(file.meta());
            let entry = content.entry(&key);
            total += entry.len();
            if total > bytes_max {
                break;
            }
            entries.push((key, entry));
            pace.rest();
        }
        let (bytes, places) = encode(&entries);
        let key = format!("{}/{:010}.pack", folder_of(table), packs.next);
        self.objects
            .put(&key, &bytes)
            .map_err(|error| StoreError::io(format!("writing filter pack {key}"), error))?;
        packs.next += 1;
        let pack = Arc::new(Pack {
            objects: self.objects.clone(),
            key,
            len: bytes.len(),
            files: entries.len(),
            number: self.cache.file(),
            unusable: AtomicBool::new(false),
        });
        for (file, (at, len)) in loose.iter().zip(places) {
            file.set_place(Some(Place { pack: Arc::clone(&pack), at, len }));
        }
        packs.packs.push(pack);
        Ok(())
    }

    /// Removes the packs that have one of these files, for what they tell of rows that are erased. The other files in
    /// them are loose again.
    pub(crate) fn unpack(&self, table: Table, erased: &[Arc<SealedFile>], packs: &mut Packs) {
        for place in erased.iter().filter_map(|file| file.place()) {
            place.pack.unusable.store(true, Ordering::Relaxed);
        }
        let files = self.catalogue().table(table).files.clone();
        // Best effort: what stays is removed by the next round of maintenance.
        let _ = packs.tidy(&files, &self.objects, &self.cache);
    }
}

/// Reads bytes that may be anything, as a directory and as entries.
#[cfg(test)]
pub(crate) fn try_bytes(bytes: &[u8], count: u32) {
    let total = bytes.len() + HEADER_BYTES + CRC_BYTES;
    let mut head = [MAGIC.as_slice(), &(total as u32).to_le_bytes(), &count.to_le_bytes(), bytes].concat();
    let end = (HEADER_BYTES + count as usize * ROW_BYTES).min(head.len());
    let crc = crc32c::crc32c(&head[..end]).to_le_bytes();
    head.splice(end..end, crc);
    if let Ok(rows) = read_directory(&head, total) {
        assert!(rows.iter().all(|row| head.get(row.at..row.at + row.len).is_some()));
    }
    let prune = Prune { index: IndexPlan::Term(TermList::Plain, "a".to_owned()), ..Prune::default() };
    if let Some(key) = bytes.first_chunk() {
        for state in 0..4 {
            let mut entry = bytes.to_vec();
            entry.get_mut(KEY_BYTES..KEY_BYTES + 2).into_iter().for_each(|states| states.fill(state));
            let _ = Filters::read(&entry, key).is_some_and(|filters| filters.deny(&prune));
        }
    }
}
