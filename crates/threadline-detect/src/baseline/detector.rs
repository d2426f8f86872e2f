//! How unusual a value is for its series: four views of it, each calibrated by its own past.
//!
//! 1. the value against the long run;
//! 2. the value against the last hour or so (the median of the last twelve): jumps;
//! 3. the value against its hour of the week, or of the day where weeks are not known yet;
//! 4. the mean of the last twelve against the long run: what is small and stays.
//!
//! The greatest surprise of the four counts. One body of code for every kind of series; what a kind adds (how much a
//! count may vary by chance) is in [`super::chance`].

use super::calendar::{HOURS_OF_DAY, HOURS_OF_WEEK};
use super::calibration::Calibration;
use crate::checkpoint::{Reader, RestoreError, Writer};

/// Values of the local view.
const LOCAL: usize = 12;
/// Values that the long run is a mean of, about.
const LONG: f64 = 2_000.0;
/// Weight of the newest error in the scale of errors.
const ERROR_WEIGHT: f64 = 0.003;
/// Weight of the newest value in an hour's mean.
const HOUR_WEIGHT: f64 = 0.02;
/// Values of an hour before it is believed.
const HOUR_MIN: f64 = 24.0;
/// Share of the long run's spread below which nothing deviates.
const FLOOR: f64 = 0.3;

/// Mean and variance that forget.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
    /// Values so far.
    pub(super) count: f64,
}

impl Moments {
    pub(super) fn add(&mut self, value: f64, weight: f64) {
        self.count += 1.0;
        let weight = (1.0 / self.count).max(weight);
        let difference = value - self.mean;
        self.mean += weight * difference;
        self.variance = (1.0 - weight) * (self.variance + weight * difference * difference);
    }

    pub(super) fn spread(&self) -> f64 {
        self.variance.max(0.0).sqrt()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        [self.mean, self.variance, self.count].into_iter().for_each(|value| out.f64(value));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Moments, RestoreError> {
        Ok(Moments { mean: from.f64()?, variance: from.f64()?, count: from.f64()? })
    }
}

/// What "usual" was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The same hour of the week.
    HourOfWeek,
    /// The same hour of the day.
    HourOfDay,
    /// The last days.
    LongRun,
}

/// What is thought of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judgement {
    /// −log₁₀ of its probability.
    pub(super) surprise: f64,
    /// What was expected, and how far values lie from it.
    pub(super) expected: f64,
    pub(super) spread: f64,
    pub(super) basis: Basis,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Detector {
    long: Moments,
    long_of_means: Moments,
    jumps: Moments,
    misses: Moments,
    day: Vec<Moments>,
    /// Made when a week is over: half of what a series takes.
    week: Vec<Moments>,
    local: Vec<f64>,
    views: [Calibration; 4],
}

impl Detector {
    pub(super) fn new() -> Detector {
        Detector {
            long: Moments::default(),
            long_of_means: Moments::default(),
            jumps: Moments::default(),
            misses: Moments::default(),
            day: vec![Moments::default(); HOURS_OF_DAY],
            week: Vec::new(),
            local: Vec::with_capacity(LOCAL),
            views: std::array::from_fn(|_| Calibration::new()),
        }
    }

    /// How many values were learnt.
    pub(super) fn learnt(&self) -> f64 {
        self.long.count
    }

    /// Judges a value by what came before, then learns it.
    pub(super) fn judge(&mut self, hour_of_week: usize, value: f64) -> Judgement {
        let (usual, basis) = self.usual(hour_of_week);
        let floor = FLOOR * self.long.spread();
        let deviation =
            |from: f64, spread: f64| (value - from).abs() / (spread + floor).max(1e-9 * value.abs()).max(1e-12);
        let known = self.long.count >= 2.0;
        let local = median(&self.local).unwrap_or(value);
        let from_long = if known { deviation(self.long.mean, self.long.spread()) } else { 0.0 };
        let from_local = deviation(local, self.jumps.spread());
        let expected = if known { usual.mean } else { value };
        let from_usual = deviation(expected, self.misses.spread());
        self.jumps.add(value - local, ERROR_WEIGHT);
        self.misses.add(value - expected, ERROR_WEIGHT);
        if self.local.len() >= LOCAL {
            self.local.remove(0);
        }
        self.local.push(value);
        let mean = self.local.iter().sum::<f64>() / self.local.len() as f64;
        let of_means = if self.long_of_means.count >= 2.0 {
            (mean - self.long_of_means.mean).abs()
                / (self.long_of_means.spread() + floor).max(1e-9 * mean.abs()).max(1e-12)
        } else {
            0.0
        };
        self.long_of_means.add(mean, 1.0 / LONG);
        let deviations = [from_long, from_local, from_usual, of_means];
        let surprises = self.views.iter_mut().zip(deviations).map(|(view, deviation)| view.judge(deviation));
        let surprise = surprises.fold(0.0, f64::max);
        self.learn(hour_of_week, value);
        Judgement { surprise, expected, spread: usual.spread(), basis }
    }

    fn usual(&self, hour_of_week: usize) -> (Moments, Basis) {
        let believed = |hours: &[Moments], hour: usize| {
            hours.get(hour).filter(|moments| moments.count >= HOUR_MIN).copied()
        };
        if let Some(moments) = believed(&self.week, hour_of_week) {
            return (moments, Basis::HourOfWeek);
        }
        match believed(&self.day, hour_of_week % HOURS_OF_DAY) {
            Some(moments) => (moments, Basis::HourOfDay),
            None => (self.long, Basis::LongRun),
        }
    }

    fn learn(&mut self, hour_of_week: usize, value: f64) {
        self.long.add(value, 1.0 / LONG);
        if self.week.is_empty() {
            self.week = vec![Moments::default(); HOURS_OF_WEEK];
        }
        for (hours, hour) in [(&mut self.week, hour_of_week), (&mut self.day, hour_of_week % HOURS_OF_DAY)] {
            if let Some(moments) = hours.get_mut(hour) {
                moments.add(value, HOUR_WEIGHT);
            }
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        [self.long, self.long_of_means, self.jumps, self.misses].iter().for_each(|moments| moments.write(out));
        out.list(self.day.iter(), |out, moments| moments.write(out));
        out.list(self.week.iter(), |out, moments| moments.write(out));
        out.list(self.local.iter(), |out, value| out.f64(*value));
        self.views.iter().for_each(|view| view.write(out));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Detector, RestoreError> {
        let [long, long_of_means, jumps, misses] =
            [Moments::read(from)?, Moments::read(from)?, Moments::read(from)?, Moments::read(from)?];
        let day = from.list(Moments::read)?;
        let week = from.list(Moments::read)?;
        let local = from.list(Reader::f64)?;
        if day.len() != HOURS_OF_DAY || ![0, HOURS_OF_WEEK].contains(&week.len()) || local.len() > LOCAL {
            return Err(RestoreError::Damaged("a profile has another size"));
        }
        let views = [
            Calibration::read(from)?,
            Calibration::read(from)?,
            Calibration::read(from)?,
            Calibration::read(from)?,
        ];
        Ok(Detector { long, long_of_means, jumps, misses, day, week, local, views })
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
