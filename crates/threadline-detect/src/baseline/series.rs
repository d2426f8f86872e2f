//! One series: what its open windows hold, and what is thought of a window when it closes.

use std::collections::BTreeMap;

use super::anomaly::Phase;
use super::calendar;
use super::calibration::LEARN;
use super::chance::{self, CountChance, ShareChance, Weighed};
use super::detector::{Basis, Detector};
use super::gate::{Gate, Passage};
use super::key::Signal;
use super::settings::Settings;
use super::sketch::DdSketch;
use crate::checkpoint::{Reader, RestoreError, Writer};

/// Windows of a series that are open at a time, at most.
const OPEN_MAX: usize = 256;
/// Windows over which too few requests are put together.
const CARRY_MAX: u32 = 10;
/// Windows of a series before anything is said of it.
const YOUNG_MIN: f64 = 10.0;

/// What a window holds.
#[derive(Clone, Debug, PartialEq)]
enum Held {
    Count(u64),
    Share { part: u64, whole: u64 },
    Durations(DdSketch),
    Value { sum: f64, count: u64 },
}

impl Held {
    fn new(signal: Signal) -> Held {
        match signal {
            Signal::Errors | Signal::Rejections => Held::Share { part: 0, whole: 0 },
            Signal::Latency => Held::Durations(DdSketch::new()),
            Signal::Value => Held::Value { sum: 0.0, count: 0 },
            _ => Held::Count(0),
        }
    }

    fn merge(&mut self, other: &Held) {
        match (self, other) {
            (Held::Count(own), Held::Count(their)) => *own = own.saturating_add(*their),
            (Held::Share { part, whole }, Held::Share { part: more, whole: of }) => {
                *part = part.saturating_add(*more);
                *whole = whole.saturating_add(*of);
            }
            (Held::Durations(own), Held::Durations(their)) => own.merge(their),
            (Held::Value { sum, count }, Held::Value { sum: more, count: of }) => {
                *sum += more;
                *count = count.saturating_add(*of);
            }
            _ => {}
        }
    }

    /// Whether it is enough to be judged.
    fn enough(&self, settings: &Settings) -> bool {
        match self {
            Held::Count(_) => true,
            Held::Share { whole, .. } => *whole >= settings.whole_min,
            Held::Durations(sketch) => sketch.count() >= settings.durations_min,
            Held::Value { count, .. } => *count > 0,
        }
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Held::Count(count) => {
                out.u8(0);
                out.u64(*count);
            }
            Held::Share { part, whole } => {
                out.u8(1);
                out.u64(*part);
                out.u64(*whole);
            }
            Held::Durations(sketch) => {
                out.u8(2);
                sketch.write(out);
            }
            Held::Value { sum, count } => {
                out.u8(3);
                out.f64(*sum);
                out.u64(*count);
            }
        }
    }

    fn read(from: &mut Reader<'_>, signal: Signal) -> Result<Held, RestoreError> {
        let held = match from.u8()? {
            0 => Held::Count(from.u64()?),
            1 => Held::Share { part: from.u64()?, whole: from.u64()? },
            2 => Held::Durations(DdSketch::read(from)?),
            3 => Held::Value { sum: from.f64()?, count: from.u64()? },
            _ => return Err(RestoreError::Damaged("a window holds what is not known")),
        };
        if std::mem::discriminant(&held) != std::mem::discriminant(&Held::new(signal)) {
            return Err(RestoreError::Damaged("a window holds what its series does not"));
        }
        Ok(held)
    }
}

/// A sample of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample<'a> {
    /// So many requests.
    Count(u64),
    /// So many of so many requests.
    Share {
        /// Failed or rejected.
        part: u64,
        /// All.
        whole: u64,
    },
    /// A duration, seconds.
    Seconds(f64),
    /// A value; those of a window are averaged.
    Value(f64),
    /// A thing that an entity touched, for fan-out.
    Touched {
        /// Source address, or user.
        entity: &'a str,
        /// Path, user, or source address.
        thing: &'a str,
    },
}

/// What came of a window.
pub(super) struct Verdict {
    pub(super) phase: Phase,
    pub(super) since_us: i64,
    pub(super) observed: f64,
    pub(super) whole: f64,
    pub(super) usual: (f64, f64),
    pub(super) basis: Basis,
    pub(super) surprise: f64,
    pub(super) young: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Chance {
    Count(CountChance),
    Share(ShareChance),
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    open: BTreeMap<i64, Held>,
    carried: Option<(Held, u32)>,
    detector: Detector,
    chance: Chance,
    gate: Gate,
    /// Start of its first and of its last window with anything in it, µs.
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    /// What the last judged window was found to be, for the end of an alert.
    surprise: f64,
}

impl Series {
    pub(super) fn new(signal: Signal, window_us: i64) -> Series {
        let chance = match signal {
            Signal::Requests => Chance::Count(CountChance::new()),
            Signal::Errors | Signal::Rejections | Signal::Latency => Chance::Share(ShareChance::new()),
            _ => Chance::None,
        };
        Series {
            open: BTreeMap::new(),
            carried: None,
            detector: Detector::new(),
            chance,
            gate: Gate::default(),
            first_us: window_us,
            last_us: window_us,
            surprise: 0.0,
        }
    }

    /// Takes a sample; `false` where it is none of this series.
    pub(super) fn take(&mut self, signal: Signal, window_us: i64, sample: Sample<'_>) -> bool {
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&window_us) {
            return false;
        }
        let held = match (signal, sample) {
            (Signal::Requests, Sample::Count(count)) => Held::Count(count),
            (Signal::Errors | Signal::Rejections, Sample::Share { part, whole }) if part <= whole => {
                Held::Share { part, whole }
            }
            (Signal::Latency, Sample::Seconds(seconds)) => {
                let held = self.open.entry(window_us).or_insert_with(|| Held::new(signal));
                self.last_us = self.last_us.max(window_us);
                return match held {
                    Held::Durations(sketch) => sketch.add(seconds),
                    _ => false,
                };
            }
            (Signal::Value, Sample::Value(value)) if value.is_finite() => Held::Value { sum: value, count: 1 },
            _ => return false,
        };
        self.open.entry(window_us).or_insert_with(|| Held::new(signal)).merge(&held);
        self.last_us = self.last_us.max(window_us);
        true
    }

    /// Closes a window: judges what it holds, or that it holds nothing.
    pub(super) fn close(
        &mut self,
        settings: &Settings,
        signal: Signal,
        window_us: i64,
        muted: bool,
    ) -> Option<Verdict> {
        let held = self.open.remove(&window_us);
        let held = match (held, signal) {
            (Some(held), _) => held,
            // No requests are a number of requests; no durations are no duration.
            (None, Signal::Requests) if window_us > self.first_us => Held::Count(0),
            _ => return None,
        };
        let held = self.carry(settings, held)?;
        self.judge(settings, window_us, &held, muted)
    }

    fn carry(&mut self, settings: &Settings, mut held: Held) -> Option<Held> {
        let windows = match self.carried.take() {
            Some((before, windows)) => {
                held.merge(&before);
                windows + 1
            }
            None => 1,
        };
        if held.enough(settings) {
            return Some(held);
        }
        if windows < CARRY_MAX {
            self.carried = Some((held, windows));
        }
        None
    }

    fn judge(&mut self, settings: &Settings, window_us: i64, held: &Held, muted: bool) -> Option<Verdict> {
        let (value, part, whole) = match held {
            Held::Count(count) => (*count as f64, 0.0, 0.0),
            Held::Share { part, whole } => (*part as f64 / *whole as f64, *part as f64, *whole as f64),
            // Durations spread over orders of magnitude: their logarithm is what deviates.
            Held::Durations(sketch) => (sketch.quantile(0.95)?.max(1e-9).ln(), 0.0, 0.0),
            Held::Value { sum, count } => (sum / *count as f64, 0.0, 0.0),
        };
        let hour = calendar::hour_of_week(window_us, settings.offset_min);
        let judgement = self.detector.judge(hour, value);
        let upward_only = !matches!(held, Held::Count(_) | Held::Value { .. });
        let Weighed { surprise: by_chance, usual } = match (&mut self.chance, held) {
            (Chance::Count(chance), _) => chance.weigh(settings, judgement.expected, value),
            (Chance::Share(chance), Held::Durations(sketch)) => {
                let expected = (judgement.expected, judgement.spread);
                chance::weigh_durations(chance, settings, expected, sketch)
            }
            (Chance::Share(chance), _) => chance.weigh(settings, judgement.expected, part, whole),
            (Chance::None, _) => chance::weigh_value(judgement.expected, judgement.spread),
        };
        let better = upward_only && value < judgement.expected;
        // Of a series that is too young to know itself only chance can be asked, and is believed half: for shares, which
        // have no hours of the day.
        let learnt = self.detector.learnt();
        let by_itself = match learnt {
            _ if learnt > f64::from(LEARN) || !upward_only => judgement.surprise,
            _ if learnt > YOUNG_MIN => 0.5 * by_chance,
            _ => 0.0,
        };
        let surprise = if better { 0.0 } else { by_itself.min(by_chance) };
        let (phase, since_us) = match self.gate.pass(settings, window_us, surprise, muted) {
            Passage::Quiet => {
                self.surprise = surprise;
                return None;
            }
            Passage::Alert { since_us } => (Phase::Began, since_us),
            Passage::Over { since_us } => (Phase::Over, since_us),
        };
        let surprise = surprise.max(self.surprise);
        let observed = if matches!(held, Held::Durations(_)) { value.exp() } else { value };
        let young = window_us.saturating_sub(self.first_us) < 86_400_000_000;
        Some(Verdict { phase, since_us, observed, whole, usual, basis: judgement.basis, surprise, young })
    }

    /// Windows that were learnt.
    pub(super) fn learnt(&self) -> f64 {
        self.detector.learnt()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.list(self.open.iter(), |out, (window_us, held)| {
            out.i64(*window_us);
            held.write(out);
        });
        out.option(self.carried.as_ref(), |out, (held, windows)| {
            held.write(out);
            out.u32(*windows);
        });
        self.detector.write(out);
        match &self.chance {
            Chance::Count(chance) => chance.write(out),
            Chance::Share(chance) => chance.write(out),
            Chance::None => {}
        }
        self.gate.write(out);
        out.i64(self.first_us);
        out.i64(self.last_us);
        out.f64(self.surprise);
    }

    pub(super) fn read(from: &mut Reader<'_>, signal: Signal) -> Result<Series, RestoreError> {
        let open = from.list(|from| Ok((from.i64()?, Held::read(from, signal)?)))?.into_iter().collect();
        let carried = from.option(|from| Ok((Held::read(from, signal)?, from.u32()?)))?;
        let detector = Detector::read(from)?;
        let chance = match signal {
            Signal::Requests => Chance::Count(CountChance::read(from)?),
            Signal::Errors | Signal::Rejections | Signal::Latency => Chance::Share(ShareChance::read(from)?),
            _ => Chance::None,
        };
        let gate = Gate::read(from)?;
        Ok(Series {
            open,
            carried,
            detector,
            chance,
            gate,
            first_us: from.i64()?,
            last_us: from.i64()?,
            surprise: from.f64()?,
        })
    }
}
