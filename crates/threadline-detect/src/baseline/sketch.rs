//! A quantile sketch with a bound on its relative error (DDSketch, Masson, Rim and Lee, VLDB 2019): a value falls into
//! the bin whose bounds are powers of γ = (1 + α) / (1 − α), and a bin's middle is within α of all that fell into it.

use std::collections::BTreeMap;

use crate::checkpoint::{Reader, RestoreError, Writer};

/// Relative error of a quantile.
pub const RELATIVE_ERROR: f64 = 0.01;
/// Bins at most. 2,048 bins of 2 % span 17 orders of magnitude; past that the lowest are put together.
const BINS_MAX: usize = 2048;
/// What is smaller counts as nothing.
const VALUE_MIN: f64 = 1e-9;

/// Counts of values, from 0 up, in bins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DdSketch {
    bins: BTreeMap<i32, u64>,
    /// Values below [`VALUE_MIN`].
    zeros: u64,
    count: u64,
}

fn gamma() -> f64 {
    (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)
}

impl DdSketch {
    /// A sketch of nothing.
    pub fn new() -> DdSketch {
        DdSketch::default()
    }

    /// Counts a value; negative ones and what is no number are not counted, and `false` says so.
    pub fn add(&mut self, value: f64) -> bool {
        self.add_times(value, 1)
    }

    /// Counts a value several times.
    pub fn add_times(&mut self, value: f64, times: u64) -> bool {
        if !value.is_finite() || value < 0.0 {
            return false;
        }
        self.count = self.count.saturating_add(times);
        if value < VALUE_MIN {
            self.zeros = self.zeros.saturating_add(times);
        } else {
            let bin = (value.ln() / gamma().ln()).ceil() as i32;
            let held = self.bins.entry(bin).or_default();
            *held = held.saturating_add(times);
            self.bound();
        }
        true
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value at a quantile from 0 to 1, within [`RELATIVE_ERROR`]; `None` of nothing.
    ///
    /// Of n values in order it is the one at place ⌊q · (n − 1)⌋.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let last = self.count.checked_sub(1)?;
        let rank = (q.clamp(0.0, 1.0) * last as f64).floor() as u64;
        let mut seen = self.zeros;
        if rank < seen {
            return Some(0.0);
        }
        for (bin, count) in &self.bins {
            seen += count;
            if rank < seen {
                return Some(2.0 * gamma().powi(*bin) / (gamma() + 1.0));
            }
        }
        None
    }

    /// How many values were counted that are greater, give or take those within [`RELATIVE_ERROR`] of it.
    pub fn count_above(&self, value: f64) -> u64 {
        if value < VALUE_MIN {
            return self.count - self.zeros;
        }
        let bin = (value.ln() / gamma().ln()).ceil() as i32;
        self.bins.range(bin.saturating_add(1)..).map(|(_, count)| count).sum()
    }

    /// Adds what another sketch counted: as if all values had come here.
    pub fn merge(&mut self, other: &DdSketch) {
        for (bin, count) in &other.bins {
            let held = self.bins.entry(*bin).or_default();
            *held = held.saturating_add(*count);
        }
        self.zeros = self.zeros.saturating_add(other.zeros);
        self.count = self.count.saturating_add(other.count);
        self.bound();
    }

    /// Puts the lowest bins together: high quantiles are what is asked for.
    fn bound(&mut self) {
        while self.bins.len() > BINS_MAX {
            let Some((_, lowest)) = self.bins.pop_first() else { return };
            if let Some(mut next) = self.bins.first_entry() {
                *next.get_mut() = next.get().saturating_add(lowest);
            }
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.u64(self.zeros);
        out.list(self.bins.iter(), |out, (bin, count)| {
            out.i64(i64::from(*bin));
            out.u64(*count);
        });
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<DdSketch, RestoreError> {
        let zeros = from.u64()?;
        let bins = from.list(|from| Ok((from.i64()?, from.u64()?)))?;
        let mut sketch = DdSketch { zeros, count: zeros, bins: BTreeMap::new() };
        for (bin, count) in bins {
            let bin = i32::try_from(bin).map_err(|_| RestoreError::Damaged("a bin is beyond reason"))?;
            sketch.count = sketch.count.saturating_add(count);
            sketch.bins.insert(bin, count);
        }
        Ok(sketch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> DdSketch {
        let mut sketch = DdSketch::new();
        values.iter().for_each(|value| assert!(sketch.add(*value)));
        sketch
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_bound(values in prop::collection::vec(1e-6f64..1e6, 1..400), q in 0.0f64..=1.0) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[(q * (sorted.len() - 1) as f64).floor() as usize];
            let found = sketch(&values).quantile(q).unwrap();
            prop_assert!((found - exact).abs() <= exact * RELATIVE_ERROR * 1.000_001, "{found} for {exact}");
        }

        #[test]
        fn counts_above_are_exact_but_for_the_bound(values in prop::collection::vec(1e-6f64..1e3, 1..200), value in 1e-6f64..1e3) {
            let above = |limit: f64| values.iter().filter(|other| **other > limit).count() as u64;
            let found = sketch(&values).count_above(value);
            prop_assert!(above(value * 1.021) <= found && found <= above(value * 0.979));
        }

        #[test]
        fn merging_is_adding(a in prop::collection::vec(0.0f64..1e9, 0..200), b in prop::collection::vec(0.0f64..1e9, 0..200)) {
            let (mut left, mut right) = (sketch(&a), sketch(&b));
            left.merge(&sketch(&b));
            right.merge(&sketch(&a));
            prop_assert_eq!(&left, &right);
            prop_assert_eq!(&left, &sketch(&[a, b].concat()));
        }

        #[test]
        fn bytes_bring_it_back(values in prop::collection::vec(0.0f64..1e9, 0..200)) {
            let before = sketch(&values);
            let mut out = Writer::new(*b"TEST", 1);
            before.write(&mut out);
            let bytes = out.finish();
            let mut reader = Reader::new(*b"TEST", 1, &bytes).unwrap();
            prop_assert_eq!(DdSketch::read(&mut reader).unwrap(), before);
            prop_assert!(reader.end().is_ok());
        }
    }

    #[test]
    fn what_is_no_duration_is_not_counted() {
        let mut sketch = DdSketch::new();
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(!sketch.add(value), "{value}");
        }
        assert_eq!((sketch.count(), sketch.quantile(0.5)), (0, None));
    }

    #[test]
    fn the_lowest_bins_go_together_first() {
        let mut sketch = DdSketch::new();
        for exponent in -400i32..700 {
            // Apart by more than a bin: more bins than are kept.
            for step in 0..4 {
                sketch.add(1.05f64.powi(exponent) * (1.0 + 0.011 * f64::from(step)));
            }
        }
        assert!(sketch.bins.len() <= BINS_MAX);
        let exact = 1.05f64.powi(688);
        let found = sketch.quantile(0.99).unwrap();
        assert!((found / exact - 1.0).abs() < 0.06, "{found} for {exact}");
    }
}
