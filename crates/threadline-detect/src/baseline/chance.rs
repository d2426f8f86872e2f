//! What chance alone does to a count: without it, one failed request at night would be an anomaly.
//!
//! A series' own past says how unusual a value is ([`super::detector`]); here the laws of counting say how likely it is
//! around what is expected. The lesser surprise of the two counts: unusual for this series, and not explained by chance.

use super::settings::Settings;
use super::sketch::DdSketch;
use super::tail::{Count, SURPRISE_MAX, Share};
use crate::checkpoint::{Reader, RestoreError, Writer};

/// Weight of the newest window in the dispersion.
const WEIGHT: f64 = 0.003;
/// Weight of the newest window in the long-run share.
const SHARE_WEIGHT: f64 = 0.000_5;
/// One window raises the dispersion by no more than so many times its value.
const OUTLIER: f64 = 25.0;
/// A 95th percentile that is higher by less is not worth a word.
const SLOWER_MIN: f64 = 1.25;
/// Surprise at the borders of the range that is told as usual: one window in a hundred lies outside, on either side.
const USUAL: f64 = 2.0;

/// A window's value and what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weighed {
    pub(super) surprise: f64,
    /// Lowest and highest usual value.
    pub(super) usual: (f64, f64),
}

/// How counts of a series vary: variance over mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CountChance {
    dispersion: f64,
    windows: f64,
}

impl CountChance {
    pub(super) fn new() -> CountChance {
        CountChance { dispersion: 1.0, windows: 0.0 }
    }

    pub(super) fn weigh(&mut self, settings: &Settings, expected: f64, value: f64) -> Weighed {
        // Nothing seen in n windows does not mean that there is nothing: half a request in all of them.
        let mean = expected.max(0.5 / (self.windows + 1.0));
        let count = Count { mean, dispersion: self.dispersion.max(1.0) };
        let above = value > mean;
        let surprise = if above { count.surprise_above(value) } else { count.surprise_below(value) };
        let worth = if above { value } else { mean } >= settings.whole_min as f64;
        let squared = ((value - mean).powi(2) / mean).min(OUTLIER * self.dispersion.max(1.0));
        self.windows += 1.0;
        let weight = (1.0 / self.windows).max(WEIGHT);
        self.dispersion += weight * (squared - self.dispersion);
        Weighed { surprise: if worth { surprise } else { 0.0 }, usual: count.usual(USUAL) }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.f64(self.dispersion);
        out.f64(self.windows);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<CountChance, RestoreError> {
        Ok(CountChance { dispersion: from.f64()?, windows: from.f64()? })
    }
}

/// How shares of a series vary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShareChance {
    part: f64,
    whole: f64,
    /// Variance over what independent requests would have.
    dispersion: f64,
    windows: f64,
}

impl ShareChance {
    pub(super) fn new() -> ShareChance {
        ShareChance { part: 0.0, whole: 0.0, dispersion: 1.0, windows: 0.0 }
    }

    pub(super) fn weigh(&mut self, settings: &Settings, expected: f64, part: f64, whole: f64) -> Weighed {
        let long_run = (self.part + 0.5) / (self.whole + 1.0);
        let mean = long_run.max(expected).clamp(1e-9, 1.0 - 1e-9);
        let excess = (self.dispersion - 1.0).max(0.0);
        let share = Share { mean, correlation: (excess / (whole - 1.0).max(1.0)).min(0.9) };
        let surprise = share.surprise_above(part, whole);
        let squared = (part - mean * whole).powi(2) / (mean * (1.0 - mean) * whole).max(1e-9);
        let squared = squared.min(OUTLIER * self.dispersion.max(1.0));
        self.windows += 1.0;
        let weight = (1.0 / self.windows).max(WEIGHT);
        self.dispersion += weight * (squared - self.dispersion);
        self.part += part - SHARE_WEIGHT * self.part;
        self.whole += whole - SHARE_WEIGHT * self.whole;
        let spread = (mean * (1.0 - mean) * (1.0 + excess) / whole.max(1.0)).sqrt();
        let worth = part >= settings.part_min as f64;
        let usual = ((mean - 2.5 * spread).max(0.0), (mean + 2.5 * spread).min(1.0));
        Weighed { surprise: if worth { surprise } else { 0.0 }, usual }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        [self.part, self.whole, self.dispersion, self.windows].into_iter().for_each(|value| out.f64(value));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<ShareChance, RestoreError> {
        Ok(ShareChance { part: from.f64()?, whole: from.f64()?, dispersion: from.f64()?, windows: from.f64()? })
    }
}

/// How many durations are clearly slower than the usual 95th percentile: there should be one in twenty, or as many as
/// there have been. So a percentile of few durations is not taken for more than it is.
pub(super) fn weigh_durations(
    chance: &mut ShareChance,
    settings: &Settings,
    (expected_ln, spread_ln): (f64, f64),
    sketch: &DdSketch,
) -> Weighed {
    let slower = sketch.count_above(expected_ln.exp() * SLOWER_MIN);
    let Weighed { surprise, .. } = chance.weigh(settings, 0.05, slower as f64, sketch.count() as f64);
    let usual = ((expected_ln - 2.5 * spread_ln).exp(), (expected_ln + 2.5 * spread_ln).exp());
    Weighed { surprise, usual }
}

/// A value of which nothing is known but its past.
pub(super) fn weigh_value(expected: f64, spread: f64) -> Weighed {
    Weighed { surprise: SURPRISE_MAX, usual: (expected - 2.5 * spread, expected + 2.5 * spread) }
}
