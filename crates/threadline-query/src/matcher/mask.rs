//! A set of rows of one batch.

use arrow_array::BooleanArray;
use arrow_buffer::{BooleanBuffer, Buffer};

/// A set of rows of one batch: one bit per row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u64>,
    rows: usize,
}

impl Mask {
    /// No row.
    pub fn none(rows: usize) -> Mask {
        Mask { words: vec![0; rows.div_ceil(64)], rows }
    }

    /// Every row.
    pub fn all(rows: usize) -> Mask {
        let mut words = vec![u64::MAX; rows.div_ceil(64)];
        if let (Some(last), 1..) = (words.last_mut(), rows % 64) {
            *last = (1 << (rows % 64)) - 1;
        }
        Mask { words, rows }
    }

    /// Rows of the batch, in the set or not.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether a row is in the set.
    pub fn get(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Puts a row in. A row the batch does not have is ignored.
    pub fn set(&mut self, row: usize) {
        if row < self.rows
            && let Some(word) = self.words.get_mut(row / 64)
        {
            *word |= 1 << (row % 64);
        }
    }

    /// Leaves only the rows for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (index, word) in self.words.iter_mut().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                if !keep(index * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    /// Adds the rows of another set of the same batch.
    pub fn union(&mut self, other: &Mask) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Takes out the rows of another set of the same batch.
    pub fn subtract(&mut self, other: &Mask) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    /// The rows in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// As an Arrow array without nulls.
    pub fn to_array(&self) -> BooleanArray {
        let buffer = Buffer::from_slice_ref(self.words.as_slice());
        BooleanArray::new(BooleanBuffer::new(buffer, 0, self.rows), None)
    }
}
