//! From a deviation to a probability, by the series' own past.
//!
//! Distributions of real series have heavier tails than any formula for them, so a deviation is compared with those the
//! series had before: a histogram that forgets, and above its 98th percentile a Pareto tail fitted to what lies there
//! (Hill's estimator). A series that jumps every hour does not surprise by jumping.

use crate::checkpoint::{Reader, RestoreError, Writer};

/// Bins, each a tenth wider than the one before, from [`LOWEST`] up.
const BINS: usize = 128;
const LOWEST: f64 = 0.01;
const GROWTH: f64 = 1.1;
/// The share of deviations that the tail is fitted to.
const TAIL: f64 = 0.02;
/// How much of the past is forgotten with every deviation.
const FORGET: f64 = 0.000_5;
/// Deviations before any is judged.
pub(super) const LEARN: u32 = 50;
/// Hill's estimate at least: a past without spread would make any step a wonder.
const HILL_MIN: f64 = 0.08;
/// Weight of a new deviation at which the weights are scaled back.
const WEIGHT_MAX: f64 = 1e6;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Calibration {
    bins: Vec<f32>,
    total: f64,
    /// Weight of the next deviation: growing weights are cheaper than shrinking all that are held.
    weight: f64,
    seen: u32,
}

impl Calibration {
    pub(super) fn new() -> Calibration {
        Calibration { bins: vec![0.0; BINS], total: 0.0, weight: 1.0, seen: 0 }
    }

    /// How surprising a deviation is, −log₁₀ of its probability; 0 below the tail. Then learns it.
    pub(super) fn judge(&mut self, deviation: f64) -> f64 {
        let surprise = if self.seen < LEARN { 0.0 } else { self.surprise(deviation) };
        self.learn(deviation);
        surprise
    }

    pub(super) fn surprise(&self, deviation: f64) -> f64 {
        let wanted = (TAIL * self.total).max((3.0 * self.weight).min(self.total));
        let mut held = 0.0;
        let mut from = 0;
        for (index, bin) in self.bins.iter().enumerate().rev() {
            held += f64::from(*bin);
            from = index;
            if held >= wanted {
                break;
            }
        }
        let threshold = middle(from);
        if deviation <= threshold || held <= 0.0 {
            return 0.0;
        }
        let tail = self.bins.iter().enumerate().skip(from);
        let excess: f64 = tail.map(|(index, bin)| f64::from(*bin) * (middle(index) / threshold).ln()).sum();
        let hill = (excess / held).max(HILL_MIN);
        let share = (held / self.total).min(1.0);
        -share.log10() + (deviation / threshold).ln() / hill / std::f64::consts::LN_10
    }

    fn learn(&mut self, deviation: f64) {
        if let Some(bin) = self.bins.get_mut(bin(deviation)) {
            *bin += self.weight as f32;
        }
        self.total += self.weight;
        self.weight *= 1.0 + FORGET;
        self.seen = self.seen.saturating_add(1);
        if self.weight > WEIGHT_MAX {
            self.bins.iter_mut().for_each(|bin| *bin = (f64::from(*bin) / self.weight) as f32);
            self.total /= self.weight;
            self.weight = 1.0;
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        self.bins.iter().for_each(|bin| out.f32(*bin));
        out.f64(self.total);
        out.f64(self.weight);
        out.u32(self.seen);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Calibration, RestoreError> {
        let mut bins = Vec::with_capacity(BINS);
        for _ in 0..BINS {
            bins.push(from.f32()?);
        }
        Ok(Calibration { bins, total: from.f64()?, weight: from.f64()?, seen: from.u32()? })
    }
}

fn bin(deviation: f64) -> usize {
    let place = (deviation.max(LOWEST) / LOWEST).ln() / GROWTH.ln();
    (place.floor() as usize).min(BINS - 1)
}

fn middle(bin: usize) -> f64 {
    LOWEST * GROWTH.powf(bin as f64 + 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are as good as random, from 0 to 1.
    fn uniform(index: u32) -> f64 {
        let hash = xxhash_rust::xxh3::xxh3_64(&index.to_le_bytes());
        (hash >> 11) as f64 / (1u64 << 53) as f64
    }

    #[test]
    fn surprise_is_as_rare_as_it_says() {
        // Pareto tails of several weights, and one that ends.
        let shapes: [(&str, fn(f64) -> f64); 3] =
            [("heavy", |u| u.powf(-0.5)), ("light", |u| u.powf(-0.1)), ("bounded", |u| 1.0 + 9.0 * u)];
        for (name, shape) in shapes {
            let mut calibration = Calibration::new();
            let surprises: Vec<f64> =
                (0..40_000).map(|index| calibration.judge(shape(uniform(index)))).collect();
            for level in [2.0, 3.0] {
                let share = surprises.iter().filter(|surprise| **surprise >= level).count() as f64 / 40_000.0;
                let told = 10f64.powf(-level);
                assert!(share < 3.0 * told, "{name}: {share} at {level}");
                assert!(name == "bounded" || share > told / 3.0, "{name}: {share} at {level}");
            }
        }
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut calibration = Calibration::new();
        for index in 0..2_000 {
            calibration.judge(10.0 + uniform(index));
        }
        for index in 0..20_000 {
            calibration.judge(1.0 + uniform(index));
        }
        assert!(calibration.judge(10.0) > 4.0);
    }
}
