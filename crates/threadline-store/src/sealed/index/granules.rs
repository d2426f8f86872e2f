//! A set of granules of one file.

use std::ops::Range;

use super::dictionary::GRANULE_ROWS;

/// A set of granules: one bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granules {
    words: Vec<u64>,
    len: usize,
}

impl Granules {
    /// None of `len` granules.
    pub(crate) fn none(len: usize) -> Granules {
        Granules { words: vec![0; len.div_ceil(64)], len }
    }

    /// The granules from `first` on.
    pub(crate) fn from(first: usize, len: usize) -> Granules {
        let mut granules = Granules::none(len);
        (first..len).for_each(|granule| granules.set(granule));
        granules
    }

    /// Adds a granule; one that the file lacks is ignored.
    pub(crate) fn set(&mut self, granule: usize) {
        if granule < self.len
            && let Some(word) = self.words.get_mut(granule / 64)
        {
            *word |= 1 << (granule % 64);
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Keeps what is in both.
    pub(crate) fn intersect(&mut self, other: &Granules) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    /// Adds what is in the other.
    pub(crate) fn unite(&mut self, other: &Granules) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Whether a granule is in the set.
    pub(crate) fn get(&self, granule: usize) -> bool {
        self.words.get(granule / 64).is_some_and(|word| word >> (granule % 64) & 1 == 1)
    }

    /// Rows of a file of `rows` rows, as ascending ranges that do not touch.
    pub(crate) fn row_ranges(&self, rows: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for granule in (0..self.len).filter(|granule| self.get(*granule)) {
            let (start, end) = (granule * GRANULE_ROWS, ((granule + 1) * GRANULE_ROWS).min(rows));
            match ranges.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None if start < end => ranges.push(start..end),
                None => {}
            }
        }
        ranges
    }
}
