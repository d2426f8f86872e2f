//! A dictionary of a sealed file: sorted terms, each with the granules that have it and how many of their rows do
//! (docs/formats.md, "Dictionaries").
//!
//! Vocabulary:
//! - *granule*: [`GRANULE_ROWS`] consecutive rows of a file, the unit that an index points to;
//! - *posting*: a granule and the number of its rows that have the term;
//! - *sub-block*: some consecutive terms with their postings, compressed together: what one look-up reads;
//! - *sparse index*: the first term of every sub-block.
//!
//! It does not know what terms mean: words of bodies, values of columns and hashes of trace ids are kept alike.

use std::ops::Range;

use super::super::pages::Decompressors;
use super::granules::Granules;
use super::varint;
use crate::{StoreError, TERM_BYTES_MAX};

/// Rows of a granule.
pub(crate) const GRANULE_ROWS: usize = 1024;
/// Stands before, between and after the terms of a sub-block, and in none of them.
pub(crate) const SEPARATOR: u8 = b'\n';
/// Bytes of a sub-block before compression, about.
const SUB_BYTES: usize = 32 << 10;
/// Bytes of a sub-block before compression that a reader takes, at most.
const SUB_BYTES_MAX: usize = 8 << 20;
/// Bytes that terms and postings of one dictionary may take while it is built: beyond it, later granules are not
/// indexed, and a search reads them.
const BUILD_BYTES_MAX: usize = 64 << 20;
const VERSION: u64 = 1;
const ZSTD_LEVEL: i32 = 1;

/// The part of a hash that a slot holds.
const TAG: u64 = 0xFFFF_FFFF_0000_0000;

/// A posting while the dictionary is built.
#[derive(Clone, Copy)]
struct Posting {
    term: u32,
    granule: u32,
    rows: u16,
}

/// Bytes behind a text from which terms are taken, so that a term can be read in words of eight.
pub(crate) const PAD: usize = 16;

/// What is known of a term.
#[derive(Clone, Copy)]
struct Entry {
    /// Its first sixteen bytes: most terms are told apart by these alone.
    head: [u64; 2],
    /// Where it lies in the arena.
    at: u32,
    len: u16,
    /// Rows of the granule that had it.
    rows: u16,
    /// The last row that had it, plus one.
    row: u32,
    /// It occurs in different cases.
    mixed: bool,
}

/// Collects the terms of rows, granule by granule.
pub(crate) struct DictionaryBuilder {
    /// Open addressing: high half of the hash and number of the term plus one; 0 = free.
    slots: Vec<u64>,
    /// Case does not tell terms apart; each is kept as it was first seen.
    folded: bool,
    /// The terms, one after the other, then [`PAD`] bytes.
    arena: Vec<u8>,
    entries: Vec<Entry>,
    touched: Vec<u32>,
    postings: Vec<Posting>,
    granule: u32,
    /// Granules before this one are complete; set once the builder is full.
    full_at: Option<u32>,
    /// A term with its padding.
    scratch: Vec<u8>,
    wanted: Vec<Wanted>,
    /// Those of them that were not guessed.
    missed: Vec<usize>,
    /// The terms of the last text of each shape.
    guesses: [Vec<u32>; SHAPES],
}

/// A text as it is and in lower case, both with [`PAD`] bytes behind.
#[derive(Clone, Copy)]
pub(crate) struct Texts<'a> {
    pub(crate) lower: &'a [u8],
    pub(crate) text: &'a [u8],
}

/// A term that is looked up together with the others of its text.
#[derive(Clone, Copy)]
struct Wanted {
    /// Where it lies in the text.
    at: u32,
    len: u16,
    /// Its number, [`NONE`] while it is not known.
    id: u32,
    hash: u64,
    /// What the slot has that its hash says.
    slot: u64,
}

/// No term's number.
const NONE: u32 = u32::MAX;
/// Texts are told apart by their number of terms, up to a multiple of this.
const SHAPES: usize = 16;

/// Eight bytes; zeros beyond the end.
#[inline]
fn load(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// The first `len` bytes of a word, at most eight.
#[inline]
fn masked(word: u64, len: usize) -> u64 {
    if len >= 8 { word } else { word & !(u64::MAX << (8 * len)) }
}

/// For each length the bits of it in two words: lengths follow no pattern that a branch could be guessed by.
static HEADS: [[u64; 2]; 17] = {
    let mut heads = [[0; 2]; 17];
    let mut len = 1;
    while len <= 16 {
        let bits = u128::MAX >> (8 * (16 - len));
        heads[len] = [bits as u64, (bits >> 64) as u64];
        len += 1;
    }
    heads
};

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A quick hash of `len` bytes with [`PAD`] bytes behind them; terms that collide are told apart by their bytes.
#[inline]
fn hash(bytes: &[u8], at: usize, len: usize) -> u64 {
    const K: [u64; 3] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93, 0xA076_1D64_78BD_642F];
    let mut state = K[2] ^ len as u64;
    let (mut at, mut left) = (at, len);
    while left > 16 {
        state = fold(load(bytes, at) ^ state, load(bytes, at + 8) ^ K[1]);
        at += 16;
        left -= 16;
    }
    let [first, second] = head(bytes, at, left);
    fold(first ^ state ^ K[0], second ^ K[1])
}

/// The first sixteen of `len` bytes.
#[inline]
fn head(bytes: &[u8], at: usize, len: usize) -> [u64; 2] {
    let [first, second] = HEADS[len.min(16)];
    [load(bytes, at) & first, load(bytes, at + 8) & second]
}

/// Whether `len` bytes are the same; both have [`PAD`] bytes behind them.
fn same(a: &[u8], a_at: usize, b: &[u8], b_at: usize, len: usize) -> bool {
    let mut done = 0;
    while done < len {
        let left = len - done;
        if masked(load(a, a_at + done) ^ load(b, b_at + done), left) != 0 {
            return false;
        }
        done += 8;
    }
    true
}

impl DictionaryBuilder {
    /// An empty one. Where it is `folded`, case does not tell terms apart.
    pub(crate) fn new(folded: bool) -> Self {
        Self {
            folded,
            slots: Vec::new(),
            arena: vec![0; PAD],
            entries: Vec::new(),
            touched: Vec::new(),
            postings: Vec::new(),
            granule: 0,
            full_at: None,
            scratch: Vec::new(),
            wanted: Vec::new(),
            missed: Vec::new(),
            guesses: Default::default(),
        }
    }

    /// A term of the text that [`DictionaryBuilder::note`] is called with next: where it is.
    #[inline]
    pub(crate) fn want(&mut self, term: Range<usize>) {
        let len = term.len().min(TERM_BYTES_MAX) as u16;
        self.wanted.push(Wanted { at: term.start as u32, len, id: NONE, hash: 0, slot: 0 });
    }

    /// Notes that a row of the current granule has the wanted terms. `row` grows within a file.
    ///
    /// Most lines are made like one before, so a term is guessed first: what a text of as many terms had at this place. The
    /// others are looked up step by step together, rather than one by one: the table and its entries are larger than the
    /// processor's caches, and so memory is waited for once for many.
    pub(crate) fn note(&mut self, row: u32, texts: Texts<'_>) {
        if self.wanted.is_empty() {
            return;
        }
        self.reserve(self.wanted.len());
        let mut wanted = std::mem::take(&mut self.wanted);
        let shape = wanted.len() % SHAPES;
        let mut guesses = self.guesses.get_mut(shape).map(std::mem::take).unwrap_or_default();
        guesses.resize(wanted.len().max(guesses.len()), NONE);
        let mut missed = std::mem::take(&mut self.missed);
        for (at, (term, guess)) in (0..).zip(wanted.iter_mut().zip(&guesses)) {
            if self.is(*guess, texts.text, term.at as usize, usize::from(term.len)) {
                term.id = *guess;
            } else {
                missed.push(at);
            }
        }
        self.look_up(&mut wanted, &missed, texts);
        for &at in &missed {
            if let (Some(guess), Some(term)) = (guesses.get_mut(at), wanted.get(at)) {
                *guess = term.id;
            }
        }
        for term in wanted.drain(..) {
            let Some(entry) = self.entries.get_mut(term.id as usize) else { continue };
            if entry.row != row + 1 {
                entry.row = row + 1;
                if entry.rows == 0 {
                    self.touched.push(term.id);
                }
                entry.rows += 1;
            }
        }
        missed.clear();
        (self.wanted, self.missed) = (wanted, missed);
        if let Some(place) = self.guesses.get_mut(shape) {
            *place = guesses;
        }
    }

    /// The numbers of those terms that were not guessed.
    fn look_up(&mut self, wanted: &mut [Wanted], missed: &[usize], texts: Texts<'_>) {
        let mask = self.slots.len() - 1;
        for &at in missed {
            let Some(term) = wanted.get_mut(at) else { continue };
            term.hash = hash(texts.lower, term.at as usize, usize::from(term.len));
            term.slot = self.slots.get(term.hash as usize & mask).copied().unwrap_or(0);
        }
        for &at in missed {
            let Some(term) = wanted.get_mut(at) else { continue };
            let id = (term.slot as u32).wrapping_sub(1);
            if term.slot & TAG == term.hash & TAG
                && self.is(id, texts.text, term.at as usize, usize::from(term.len))
            {
                term.id = id;
            }
        }
        for &at in missed {
            let Some(term) = wanted.get_mut(at) else { continue };
            if term.id == NONE {
                let id = self.id(term.hash, texts.text, term.at as usize, usize::from(term.len));
                term.id = id.unwrap_or(NONE);
            }
        }
    }

    /// Whether a term, case included, has this number.
    #[inline]
    fn is(&self, id: u32, text: &[u8], at: usize, len: usize) -> bool {
        self.entries.get(id as usize).is_some_and(|entry| {
            (usize::from(entry.len) == len) & (entry.head == head(text, at, len))
                && (len <= 16 || same(&self.arena, entry.at as usize + 16, text, at + 16, len - 16))
        })
    }

    /// Notes that some row of the current granule has a term; rows are not counted.
    #[inline]
    pub(crate) fn add_uncounted(&mut self, term: &[u8]) {
        let Some((id, _)) = self.intern(term) else { return };
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        if entry.rows == 0 {
            entry.rows = 1;
            self.touched.push(id);
        }
    }

    /// The number of a term of any length, and whether it is new; `None` when the builder is full.
    pub(crate) fn intern(&mut self, term: &[u8]) -> Option<(u32, bool)> {
        let before = self.entries.len();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.extend_from_slice(term);
        scratch.extend_from_slice(&[0; PAD]);
        self.reserve(1);
        let id = self.id(hash(&scratch, 0, term.len()), &scratch, 0, term.len());
        self.scratch = scratch;
        id.map(|id| (id, self.entries.len() > before))
    }

    /// Notes that `rows` rows of the current granule, from `row` on, have an interned term; none was noted before.
    pub(crate) fn add_run(&mut self, id: u32, row: u32, rows: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        entry.row = row + rows;
        if entry.rows == 0 {
            self.touched.push(id);
        }
        entry.rows += rows as u16;
    }

    /// The number of a term, for which there must be room; `None` when the builder is full.
    #[inline]
    fn id(&mut self, hash: u64, text: &[u8], start: usize, len: usize) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let tag = hash & TAG;
        let mut at = hash as usize & mask;
        let head = head(text, start, len);
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                return self.insert(text.get(start..start + len)?, tag, at);
            }
            if slot & TAG == tag {
                let id = slot as u32 - 1;
                let entry = self.entries.get_mut(id as usize)?;
                if usize::from(entry.len) == len {
                    let at = entry.at as usize;
                    if entry.head == head
                        && (len <= 16 || same(&self.arena, at + 16, text, start + 16, len - 16))
                    {
                        return Some(id);
                    }
                    let known = self.arena.get(at..at + len)?;
                    if self.folded && known.eq_ignore_ascii_case(text.get(start..start + len)?) {
                        entry.mixed = true;
                        return Some(id);
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, term: &[u8], tag: u64, slot: usize) -> Option<u32> {
        if self.full_at.is_some() {
            return None;
        }
        let id = self.entries.len() as u32;
        let at = self.arena.len() - PAD;
        self.arena.truncate(at);
        self.arena.extend_from_slice(term);
        self.arena.extend_from_slice(&[0; PAD]);
        let head = head(&self.arena, at, term.len());
        self.entries.push(Entry { head, at: at as u32, len: term.len() as u16, rows: 0, row: 0, mixed: false });
        *self.slots.get_mut(slot)? = tag | u64::from(id + 1);
        Some(id)
    }

    fn term(&self, id: u32) -> &[u8] {
        let Some(entry) = self.entries.get(id as usize) else { return &[] };
        self.arena.get(entry.at as usize..entry.at as usize + usize::from(entry.len)).unwrap_or_default()
    }

    /// Makes room for so many new terms.
    #[inline]
    fn reserve(&mut self, terms: usize) {
        while (self.entries.len() + terms) * 2 > self.slots.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(1024);
        let mut slots = vec![0; len];
        let mut lower = self.arena.clone();
        if self.folded {
            lower.make_ascii_lowercase();
        }
        for (id, entry) in self.entries.iter().enumerate() {
            let hash = hash(&lower, entry.at as usize, usize::from(entry.len));
            let mut at = hash as usize & (len - 1);
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & (len - 1);
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = hash & TAG | (id as u64 + 1);
            }
        }
        self.slots = slots;
    }

    /// The granule is over.
    pub(crate) fn end_granule(&mut self) {
        for id in self.touched.drain(..) {
            if let Some(entry) = self.entries.get_mut(id as usize) {
                if self.full_at.is_none() {
                    self.postings.push(Posting { term: id, granule: self.granule, rows: entry.rows });
                }
                entry.rows = 0;
            }
        }
        self.granule += 1;
        if self.full_at.is_none() && self.bytes() > BUILD_BYTES_MAX {
            self.full_at = Some(self.granule);
        }
    }

    fn bytes(&self) -> usize {
        self.arena.len()
            + self.entries.len() * (size_of::<Entry>() + 2 * size_of::<u64>())
            + self.postings.len() * size_of::<Posting>()
    }

    /// Whether nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sub-blocks by `write(bytes)`, which says where they went; then the sparse index.
    pub(crate) fn finish(
        mut self,
        mut write: impl FnMut(&[u8]) -> Result<u64, StoreError>,
    ) -> Result<Vec<u8>, StoreError> {
        let covered = self.full_at.unwrap_or(self.granule);
        let order = self.order();
        let (starts, postings) = self.sorted_postings();
        self.slots = Vec::new();
        let mut subs = Subs::new(covered, self.folded)?;
        for id in order {
            let range = starts.get(id as usize).copied().unwrap_or(0)
                ..starts.get(id as usize + 1).copied().unwrap_or(0);
            let mixed = self.entries.get(id as usize).is_some_and(|entry| entry.mixed);
            subs.push(self.term(id), mixed, postings.get(range).unwrap_or_default(), &mut write)?;
        }
        subs.finish(&mut write)
    }

    /// Numbers of the terms in byte order.
    fn order(&self) -> Vec<u32> {
        let mut lower = std::borrow::Cow::Borrowed(&self.arena);
        if self.folded {
            lower.to_mut().make_ascii_lowercase();
        }
        let term = |id: u32| {
            let entry = self.entries.get(id as usize)?;
            lower.get(entry.at as usize..entry.at as usize + usize::from(entry.len))
        };
        let prefix = |id: u32| {
            let entry = self.entries.get(id as usize)?;
            Some(masked(load(&lower, entry.at as usize), usize::from(entry.len)).swap_bytes())
        };
        let mut keyed: Vec<(Option<u64>, u32)> =
            (0..self.entries.len() as u32).map(|id| (prefix(id), id)).collect();
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| term(a.1).cmp(&term(b.1))));
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// Postings by term, each term's in granule order; where the postings of a term begin.
    fn sorted_postings(&mut self) -> (Vec<usize>, Vec<(u32, u16)>) {
        let mut starts = vec![0; self.entries.len() + 1];
        for posting in &self.postings {
            if let Some(count) = starts.get_mut(posting.term as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut sorted = vec![(0, 0); self.postings.len()];
        for posting in std::mem::take(&mut self.postings) {
            if let Some(at) = next.get_mut(posting.term as usize) {
                if let Some(slot) = sorted.get_mut(*at) {
                    *slot = (posting.granule, posting.rows);
                }
                *at += 1;
            }
        }
        (starts, sorted)
    }
}

/// Sub-blocks being written.
struct Subs {
    compressor: zstd::bulk::Compressor<'static>,
    covered: u32,
    folded: bool,
    sparse: Vec<u8>,
    count: u64,
    // The sub-block under construction.
    first: Vec<u8>,
    terms: Vec<u8>,
    lengths: Vec<u8>,
    postings: Vec<u8>,
    len: u64,
}

impl Subs {
    fn new(covered: u32, folded: bool) -> Result<Subs, StoreError> {
        let failed = |error| StoreError::io("compressing an index", error);
        Ok(Subs {
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(failed)?,
            covered,
            folded,
            sparse: Vec::new(),
            count: 0,
            first: Vec::new(),
            terms: vec![SEPARATOR],
            lengths: Vec::new(),
            postings: Vec::new(),
            len: 0,
        })
    }

    fn push(
        &mut self,
        term: &[u8],
        mixed: bool,
        postings: &[(u32, u16)],
        write: &mut impl FnMut(&[u8]) -> Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        if self.len == 0 {
            self.first = if self.folded { term.to_ascii_lowercase() } else { term.to_vec() };
        }
        self.terms.extend_from_slice(term);
        self.terms.push(SEPARATOR);
        let before = self.postings.len();
        let mut last = 0;
        for &(granule, rows) in postings {
            varint::write(&mut self.postings, u64::from(granule - last));
            varint::write(&mut self.postings, u64::from(rows.saturating_sub(1)));
            last = granule;
        }
        varint::write(&mut self.lengths, (self.postings.len() - before) as u64 * 2 + u64::from(mixed));
        self.len += 1;
        if self.terms.len() + self.postings.len() >= SUB_BYTES {
            self.flush(write)?;
        }
        Ok(())
    }

    fn flush(&mut self, write: &mut impl FnMut(&[u8]) -> Result<u64, StoreError>) -> Result<(), StoreError> {
        if self.len == 0 {
            return Ok(());
        }
        let mut raw = Vec::with_capacity(self.terms.len() + self.lengths.len() + self.postings.len() + 16);
        varint::write(&mut raw, self.len);
        varint::write(&mut raw, self.terms.len() as u64);
        raw.extend_from_slice(&self.terms);
        raw.extend_from_slice(&self.lengths);
        raw.extend_from_slice(&self.postings);
        let mut stored =
            self.compressor.compress(&raw).map_err(|error| StoreError::io("compressing an index", error))?;
        stored.extend_from_slice(&crc32c::crc32c(&stored).to_le_bytes());
        let at = write(&stored)?;
        varint::write(&mut self.sparse, self.first.len() as u64);
        self.sparse.extend_from_slice(&self.first);
        varint::write(&mut self.sparse, at);
        varint::write(&mut self.sparse, stored.len() as u64);
        varint::write(&mut self.sparse, raw.len() as u64);
        self.count += 1;
        self.terms.clear();
        self.terms.push(SEPARATOR);
        self.lengths.clear();
        self.postings.clear();
        self.len = 0;
        Ok(())
    }

    fn finish(
        mut self,
        write: &mut impl FnMut(&[u8]) -> Result<u64, StoreError>,
    ) -> Result<Vec<u8>, StoreError> {
        self.flush(write)?;
        let mut block = Vec::with_capacity(self.sparse.len() + 16);
        varint::write(&mut block, VERSION);
        varint::write(&mut block, u64::from(self.folded));
        varint::write(&mut block, u64::from(self.covered));
        varint::write(&mut block, self.count);
        block.extend_from_slice(&self.sparse);
        block.extend_from_slice(&crc32c::crc32c(&block).to_le_bytes());
        Ok(block)
    }
}

fn bad() -> StoreError {
    StoreError::corrupt("an index of a sealed file is damaged")
}

/// The content of a block that ends with its checksum.
pub(crate) fn checked(block: &[u8]) -> Result<&[u8], StoreError> {
    let (content, crc) = block.split_last_chunk::<4>().ok_or_else(bad)?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return Err(bad());
    }
    Ok(content)
}

/// The sparse index of a dictionary.
#[derive(Debug)]
pub(crate) struct Sparse {
    /// Granules before this one are indexed.
    pub(crate) covered: u32,
    folded: bool,
    subs: Vec<SubMeta>,
    firsts: Vec<u8>,
}

/// Where a sub-block lies.
#[derive(Debug)]
struct SubMeta {
    first: Range<usize>,
    at: u64,
    stored: usize,
    raw: usize,
}

impl Sparse {
    /// Reads a sparse index.
    pub(crate) fn read(block: &[u8]) -> Result<Sparse, StoreError> {
        let mut rest = checked(block)?;
        let mut number = || varint::read(&mut rest).ok_or_else(bad);
        if number()? != VERSION {
            return Err(bad());
        }
        let folded = number()? != 0;
        let covered = u32::try_from(number()?).map_err(|_| bad())?;
        let count = usize::try_from(number()?).map_err(|_| bad())?;
        let mut sparse = Sparse { covered, folded, subs: Vec::new(), firsts: Vec::new() };
        for _ in 0..count {
            let len = varint::read(&mut rest).and_then(|len| usize::try_from(len).ok()).ok_or_else(bad)?;
            let (first, tail) = rest.split_at_checked(len).ok_or_else(bad)?;
            rest = tail;
            let mut number = || varint::read(&mut rest).ok_or_else(bad);
            let (at, stored, raw) = (number()?, number()?, number()?);
            let start = sparse.firsts.len();
            sparse.firsts.extend_from_slice(first);
            let raw = usize::try_from(raw).ok().filter(|raw| *raw <= SUB_BYTES_MAX).ok_or_else(bad)?;
            let stored = usize::try_from(stored).ok().filter(|n| *n <= 2 * SUB_BYTES_MAX).ok_or_else(bad)?;
            sparse.subs.push(SubMeta { first: start..start + first.len(), at, stored, raw });
        }
        Ok(sparse)
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.firsts.len() + self.subs.len() * size_of::<SubMeta>()
    }

    /// Number of sub-blocks.
    pub(crate) fn len(&self) -> usize {
        self.subs.len()
    }

    fn first(&self, sub: &SubMeta) -> &[u8] {
        self.firsts.get(sub.first.clone()).unwrap_or_default()
    }

    /// The sub-block that a term would be in.
    pub(crate) fn find(&self, term: &[u8]) -> Option<usize> {
        self.subs.partition_point(|sub| self.first(sub) <= term).checked_sub(1)
    }

    /// The sub-blocks that may hold terms with this beginning.
    pub(crate) fn with_prefix(&self, prefix: &[u8]) -> Range<usize> {
        let from = self.find(prefix).unwrap_or(0);
        let to = self.subs.partition_point(|sub| {
            let first = self.first(sub);
            first < prefix || first.starts_with(prefix)
        });
        from..to.max(from)
    }

    /// Where a sub-block lies: offset and length in the file.
    pub(crate) fn place(&self, sub: usize) -> Option<(u64, usize)> {
        self.subs.get(sub).map(|sub| (sub.at, sub.stored))
    }

    /// A sub-block from its bytes in the file.
    pub(crate) fn decode(
        &self,
        sub: usize,
        stored: &[u8],
        decompressors: &Decompressors,
    ) -> Result<Sub, StoreError> {
        let raw = self.subs.get(sub).map(|sub| sub.raw).ok_or_else(bad)?;
        let raw = decompressors.unpacked(checked(stored)?, raw).ok_or_else(bad)?;
        Sub::read(&raw, self.folded)
    }
}

/// Terms of a sub-block with their postings.
#[derive(Debug)]
pub(crate) struct Sub {
    /// The terms, with a separator before, between and after them; in lower case where case does not tell them apart.
    joined: Vec<u8>,
    /// The same as first seen; empty when that is no different.
    original: Vec<u8>,
    /// Terms that occur in different cases.
    mixed: Vec<u32>,
    /// Where each term begins in `joined`; one more for the end.
    starts: Vec<u32>,
    postings: Vec<u8>,
    /// Where each term's postings end.
    ends: Vec<u32>,
    /// Terms of exactly [`TERM_BYTES_MAX`] bytes: they may have been cut.
    cut: Vec<u32>,
}

impl Sub {
    fn read(raw: &[u8], folded: bool) -> Result<Sub, StoreError> {
        let mut rest = raw;
        let count = varint::read(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
        let len = varint::read(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
        let (joined, tail) = rest.split_at_checked(len).ok_or_else(bad)?;
        let mut starts = Vec::with_capacity(count.min(len) + 1);
        starts.extend(memchr::memchr_iter(SEPARATOR, joined).map(|at| at as u32 + 1));
        if starts.len() != count + 1 || joined.first() != Some(&SEPARATOR) || joined.last() != Some(&SEPARATOR)
        {
            return Err(bad());
        }
        rest = tail;
        let mut ends = Vec::with_capacity(count);
        let mut end = 0_u64;
        let mut mixed = Vec::new();
        for index in 0..count {
            let len = varint::read(&mut rest).ok_or_else(bad)?;
            if len % 2 == 1 {
                mixed.push(index as u32);
            }
            end = end.checked_add(len / 2).ok_or_else(bad)?;
            ends.push(u32::try_from(end).map_err(|_| bad())?);
        }
        if end != rest.len() as u64 {
            return Err(bad());
        }
        let cut = starts
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| matches!(pair, [from, to] if (to - from) as usize == TERM_BYTES_MAX + 1))
            .map(|(index, _)| index as u32)
            .collect();
        let lower = if folded { joined.to_ascii_lowercase() } else { joined.to_vec() };
        let original = if lower == joined { Vec::new() } else { joined.to_vec() };
        Ok(Sub { joined: lower, original, mixed, starts, postings: rest.to_vec(), ends, cut })
    }

    /// Terms that may have been cut.
    pub(crate) fn cut(&self) -> &[u32] {
        &self.cut
    }

    /// Whether a term may have been cut.
    pub(crate) fn is_cut(&self, index: usize) -> bool {
        self.term(index).len() >= TERM_BYTES_MAX
    }

    /// Index of the first term at or after this one.
    pub(crate) fn first_from(&self, term: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.term(middle) < term { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.joined.len()
            + self.original.len()
            + self.postings.len()
            + 4 * (self.starts.len() + self.ends.len())
    }

    /// The terms, with a separator before, between and after them.
    pub(crate) fn joined(&self) -> &[u8] {
        &self.joined
    }

    /// Number of terms.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A term.
    pub(crate) fn term(&self, index: usize) -> &[u8] {
        let start = self.starts.get(index).map_or(0, |at| *at as usize);
        let end = self.starts.get(index + 1).map_or(0, |at| *at as usize);
        self.joined.get(start..end.saturating_sub(1)).unwrap_or_default()
    }

    /// A term as it occurs; `None` when it occurs in different cases, or was cut.
    pub(crate) fn original(&self, index: usize) -> Option<&[u8]> {
        let term = self.term(index);
        if self.is_cut(index) || self.mixed.binary_search(&(index as u32)).is_ok() {
            return None;
        }
        let start = self.starts.get(index).map_or(0, |at| *at as usize);
        if self.original.is_empty() { Some(term) } else { self.original.get(start..start + term.len()) }
    }

    /// Index of a term.
    pub(crate) fn find(&self, term: &[u8]) -> Option<usize> {
        Some(self.first_from(term)).filter(|&index| index < self.len() && self.term(index) == term)
    }

    /// The term whose bytes, or whose separator before it, are at this place of [`Sub::joined`].
    pub(crate) fn at(&self, offset: usize) -> usize {
        let after = self.starts.partition_point(|start| *start as usize <= offset);
        // A match may begin with the separator before its term.
        let within = after.saturating_sub(1);
        let is_separator = self.joined.get(offset) == Some(&SEPARATOR);
        if is_separator { after.min(self.len().saturating_sub(1)) } else { within }
    }

    /// Calls `each(granule, rows)` for the postings of a term, ascending.
    pub(crate) fn postings(&self, index: usize, mut each: impl FnMut(u32, u32)) {
        let start =
            index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let end = self.ends.get(index).map_or(start, |end| *end as usize);
        let mut rest = self.postings.get(start..end).unwrap_or_default();
        let mut granule = 0_u32;
        while let (Some(step), Some(rows)) = (varint::read(&mut rest), varint::read(&mut rest)) {
            granule = granule.saturating_add(u32::try_from(step).unwrap_or(u32::MAX));
            each(granule, u32::try_from(rows).unwrap_or(u32::MAX).saturating_add(1));
        }
    }

    /// Rows that have a term.
    pub(crate) fn rows(&self, index: usize) -> u64 {
        let mut sum = 0;
        self.postings(index, |_, rows| sum += u64::from(rows));
        sum
    }

    /// Adds the granules of a term.
    pub(crate) fn mark(&self, index: usize, granules: &mut Granules) {
        self.postings(index, |granule, _| granules.set(granule as usize));
    }
}
