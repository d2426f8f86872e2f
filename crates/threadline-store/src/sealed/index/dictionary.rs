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

use super::granules::Granules;
use super::varint;
use crate::StoreError;

/// Rows of a granule.
pub(crate) const GRANULE_ROWS: usize = 1024;
/// Bytes of a term; what is longer is cut.
pub(crate) const TERM_BYTES_MAX: usize = 64;
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

/// A posting while the dictionary is built.
#[derive(Clone, Copy)]
struct Posting {
    term: u32,
    granule: u32,
    rows: u16,
}

/// What is known of a term while its granule is read.
#[derive(Clone, Copy, Default)]
struct Mark {
    /// The last row that had it, plus one.
    row: u32,
    /// Rows of the granule that had it.
    rows: u16,
}

/// Collects the terms of rows, granule by granule.
#[derive(Default)]
pub(crate) struct DictionaryBuilder {
    /// Open addressing: high half of the hash and number of the term plus one; 0 = free.
    slots: Vec<u64>,
    arena: Vec<u8>,
    spans: Vec<(u32, u32)>,
    marks: Vec<Mark>,
    touched: Vec<u32>,
    postings: Vec<Posting>,
    granule: u32,
    /// Granules before this one are complete; set once the builder is full.
    full_at: Option<u32>,
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    match bytes.first_chunk::<8>() {
        Some(first) => word = *first,
        None => {
            for (to, from) in word.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
    }
    u64::from_le_bytes(word)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A quick hash; terms that collide are told apart by their bytes.
#[inline]
pub(crate) fn hash(term: &[u8]) -> u64 {
    const K: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93];
    let len = term.len();
    let mut state = K[0] ^ (len as u64).wrapping_mul(K[1]);
    if len >= 8 {
        let mut rest = term;
        while rest.len() > 16 {
            let (head, tail) = rest.split_at(16);
            state = fold(word(head) ^ state, word(head.get(8..).unwrap_or_default()) ^ K[1]);
            rest = tail;
        }
        let first = word(rest);
        let last = term.last_chunk::<8>().map_or(0, |last| u64::from_le_bytes(*last));
        return fold(first ^ state, last ^ K[1]);
    }
    fold(word(term) ^ state, K[1])
}

impl DictionaryBuilder {
    /// Notes that a row of the current granule has a term. `row` grows within a file.
    #[inline]
    pub(crate) fn add(&mut self, row: u32, term: &[u8]) {
        let term = term.get(..TERM_BYTES_MAX).unwrap_or(term);
        let Some(id) = self.id(term) else { return };
        let Some(mark) = self.marks.get_mut(id as usize) else { return };
        if mark.row == row + 1 {
            return;
        }
        mark.row = row + 1;
        if mark.rows == 0 {
            self.touched.push(id);
        }
        mark.rows += 1;
    }

    /// The number of a term of any length, and whether it is new; `None` when the builder is full.
    pub(crate) fn intern(&mut self, term: &[u8]) -> Option<(u32, bool)> {
        let before = self.spans.len();
        self.id(term).map(|id| (id, self.spans.len() > before))
    }

    /// Notes that `rows` rows of the current granule, from `row` on, have an interned term; none was noted before.
    pub(crate) fn add_run(&mut self, id: u32, row: u32, rows: u32) {
        let Some(mark) = self.marks.get_mut(id as usize) else { return };
        mark.row = row + rows;
        if mark.rows == 0 {
            self.touched.push(id);
        }
        mark.rows += rows as u16;
    }

    #[inline]
    fn id(&mut self, term: &[u8]) -> Option<u32> {
        if (self.spans.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let hash = hash(term);
        let mask = self.slots.len() - 1;
        let tag = hash & 0xFFFF_FFFF_0000_0000;
        let mut at = hash as usize & mask;
        loop {
            let slot = *self.slots.get(at)?;
            if slot == 0 {
                break;
            }
            if slot & 0xFFFF_FFFF_0000_0000 == tag {
                let id = slot as u32 - 1;
                if self.term(id) == term {
                    return Some(id);
                }
            }
            at = (at + 1) & mask;
        }
        if self.full_at.is_some() {
            return None;
        }
        let id = self.spans.len() as u32;
        self.spans.push((self.arena.len() as u32, term.len() as u32));
        self.arena.extend_from_slice(term);
        self.marks.push(Mark::default());
        *self.slots.get_mut(at)? = tag | u64::from(id + 1);
        Some(id)
    }

    fn term(&self, id: u32) -> &[u8] {
        let Some(&(at, len)) = self.spans.get(id as usize) else { return &[] };
        self.arena.get(at as usize..at as usize + len as usize).unwrap_or_default()
    }

    #[cold]
    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(1024);
        let mut slots = vec![0; len];
        for id in 0..self.spans.len() as u32 {
            let hash = hash(self.term(id));
            let mut at = hash as usize & (len - 1);
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & (len - 1);
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = hash & 0xFFFF_FFFF_0000_0000 | u64::from(id + 1);
            }
        }
        self.slots = slots;
    }

    /// The granule is over.
    pub(crate) fn end_granule(&mut self) {
        for id in self.touched.drain(..) {
            if let Some(mark) = self.marks.get_mut(id as usize) {
                if self.full_at.is_none() {
                    self.postings.push(Posting { term: id, granule: self.granule, rows: mark.rows });
                }
                mark.rows = 0;
            }
        }
        self.granule += 1;
        if self.full_at.is_none() && self.bytes() > BUILD_BYTES_MAX {
            self.full_at = Some(self.granule);
        }
    }

    fn bytes(&self) -> usize {
        self.arena.len()
            + self.spans.len() * (size_of::<(u32, u32)>() + size_of::<Mark>() + 2 * size_of::<u64>())
            + self.postings.len() * size_of::<Posting>()
    }

    /// Whether nothing was noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
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
        let mut subs = Subs::new(covered)?;
        for id in order {
            let range = starts.get(id as usize).copied().unwrap_or(0)..starts.get(id as usize + 1).copied().unwrap_or(0);
            subs.push(self.term(id), postings.get(range).unwrap_or_default(), &mut write)?;
        }
        subs.finish(&mut write)
    }

    /// Numbers of the terms in byte order.
    fn order(&self) -> Vec<u32> {
        let mut keyed: Vec<(u64, u32)> =
            (0..self.spans.len() as u32).map(|id| (word(self.term(id)).swap_bytes(), id)).collect();
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.term(a.1).cmp(self.term(b.1))));
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    /// Postings by term, each term's in granule order; where the postings of a term begin.
    fn sorted_postings(&mut self) -> (Vec<usize>, Vec<(u32, u16)>) {
        let mut starts = vec![0; self.spans.len() + 1];
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
    fn new(covered: u32) -> Result<Subs, StoreError> {
        let failed = |error| StoreError::io("compressing an index", error);
        Ok(Subs {
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(failed)?,
            covered,
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
        postings: &[(u32, u16)],
        write: &mut impl FnMut(&[u8]) -> Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        if self.len == 0 {
            self.first = term.to_vec();
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
        varint::write(&mut self.lengths, (self.postings.len() - before) as u64);
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
        let covered = u32::try_from(number()?).map_err(|_| bad())?;
        let count = usize::try_from(number()?).map_err(|_| bad())?;
        let mut sparse = Sparse { covered, subs: Vec::new(), firsts: Vec::new() };
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
    pub(crate) fn decode(&self, sub: usize, stored: &[u8]) -> Result<Sub, StoreError> {
        let raw = self.subs.get(sub).map(|sub| sub.raw).ok_or_else(bad)?;
        let raw = zstd::bulk::decompress(checked(stored)?, raw).map_err(|_| bad())?;
        Sub::read(&raw)
    }
}

/// Terms of a sub-block with their postings.
#[derive(Debug)]
pub(crate) struct Sub {
    /// The terms, with a separator before, between and after them.
    joined: Vec<u8>,
    /// Where each term begins in `joined`; one more for the end.
    starts: Vec<u32>,
    postings: Vec<u8>,
    /// Where each term's postings end.
    ends: Vec<u32>,
    /// Terms of exactly [`TERM_BYTES_MAX`] bytes: they may have been cut.
    cut: Vec<u32>,
}

impl Sub {
    fn read(raw: &[u8]) -> Result<Sub, StoreError> {
        let mut rest = raw;
        let count = varint::read(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
        let len = varint::read(&mut rest).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
        let (joined, tail) = rest.split_at_checked(len).ok_or_else(bad)?;
        let mut starts = Vec::with_capacity(count.min(len) + 1);
        starts.extend(memchr::memchr_iter(SEPARATOR, joined).map(|at| at as u32 + 1));
        if starts.len() != count + 1 || joined.first() != Some(&SEPARATOR) || joined.last() != Some(&SEPARATOR) {
            return Err(bad());
        }
        rest = tail;
        let mut ends = Vec::with_capacity(count);
        let mut end = 0_u64;
        for _ in 0..count {
            end = varint::read(&mut rest).and_then(|len| end.checked_add(len)).ok_or_else(bad)?;
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
        Ok(Sub { joined: joined.to_vec(), starts, postings: rest.to_vec(), ends, cut })
    }

    /// Terms that may have been cut.
    pub(crate) fn cut(&self) -> &[u32] {
        &self.cut
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
        self.joined.len() + self.postings.len() + 4 * (self.starts.len() + self.ends.len())
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
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
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
