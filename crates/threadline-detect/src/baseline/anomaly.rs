//! What comes out: an anomaly, with its numbers and in words.

use std::fmt;

use super::calendar;
use super::detector::Basis;
use super::key::{SeriesKey, Signal};
use super::settings::Settings;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a line on a page; also all there is while a series is younger than a day.
    Low,
    /// Beyond one in ten thousand.
    Medium,
    /// Beyond one in a million.
    High,
}

impl Severity {
    /// As rules name their level.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

/// Beginning or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is unusual.
    Began,
    /// What was told as unusual is over.
    Over,
}

/// A window that is unusual for its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The same whenever the same is found again: hash of series, entity, start, phase.
    pub id: u64,
    /// The series.
    pub series: SeriesKey,
    /// Whose fan-out it is.
    pub entity: Option<Box<str>>,
    /// Beginning or end.
    pub phase: Phase,
    /// Start of the window that was judged last, µs.
    pub window_us: i64,
    /// Start of the first unusual window, µs.
    pub since_us: i64,
    /// Observed: requests per window, share (0 to 1), seconds, distinct things, value.
    pub observed: f64,
    /// Lowest and highest usual, likewise.
    pub usual: (f64, f64),
    /// What "usual" was taken from.
    pub basis: Basis,
    /// −log₁₀ of the probability.
    pub surprise: f64,
    /// How bad.
    pub severity: Severity,
    /// All of it in a sentence.
    pub explanation: String,
}

/// What is told of a window.
pub(super) struct Told<'a> {
    pub(super) series: &'a SeriesKey,
    pub(super) entity: Option<&'a str>,
    pub(super) phase: Phase,
    pub(super) window_us: i64,
    pub(super) since_us: i64,
    pub(super) observed: f64,
    /// Requests of a share.
    pub(super) whole: f64,
    pub(super) usual: (f64, f64),
    pub(super) basis: Basis,
    pub(super) surprise: f64,
    /// A day is not known yet.
    pub(super) young: bool,
}

pub(super) fn tell(settings: &Settings, told: &Told<'_>) -> Anomaly {
    let severity = match told.surprise {
        _ if told.young => Severity::Low,
        surprise if surprise >= 6.0 => Severity::High,
        surprise if surprise >= 4.0 => Severity::Medium,
        _ => Severity::Low,
    };
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&told.since_us.to_le_bytes());
    hash.update(&[told.phase as u8]);
    let key = told.series;
    for text in [key.signal.name(), &key.service, &key.operation, &key.caller, &key.source] {
        hash.update(text.as_bytes());
        hash.update(&[0]);
    }
    hash.update(told.entity.unwrap_or("").as_bytes());
    Anomaly {
        id: hash.digest(),
        series: told.series.clone(),
        entity: told.entity.map(Box::from),
        phase: told.phase,
        window_us: told.window_us,
        since_us: told.since_us,
        observed: told.observed,
        usual: told.usual,
        basis: told.basis,
        surprise: told.surprise,
        severity,
        explanation: explain(settings, told),
    }
}

fn explain(settings: &Settings, told: &Told<'_>) -> String {
    let series = told.series;
    let per_minute = 60.0 / f64::from(settings.window_s);
    let (low, high) = told.usual;
    let seconds = !settings.window_s.is_multiple_of(60);
    let since = calendar::clock(told.since_us, settings.offset_min, seconds);
    let when = match told.basis {
        Basis::HourOfWeek => {
            format!(
                " for {}",
                calendar::hour_in_words(calendar::hour_of_week(told.window_us, settings.offset_min))
            )
        }
        Basis::HourOfDay => {
            let hour = calendar::hour_of_week(told.window_us, settings.offset_min) % calendar::HOURS_OF_DAY;
            format!(" at {hour:02}:00")
        }
        Basis::LongRun => String::new(),
    };
    let entity = told.entity.unwrap_or("");
    let minutes = Number(f64::from(settings.fanout_windows * settings.window_s) / 60.0);
    let sentence = match series.signal {
        Signal::Requests => {
            let range = range(low * per_minute, high * per_minute, Number);
            format!("observed {} a minute; {range} is usual{when}", Number(told.observed * per_minute))
        }
        Signal::Errors | Signal::Rejections => {
            let what = if series.signal == Signal::Errors { "failed" } else { "were rejected" };
            let part = Number((told.observed * told.whole).round());
            format!(
                "{part} of {} requests {what} ({}); up to {} is usual{when}",
                Number(told.whole),
                Percent(told.observed),
                Percent(high)
            )
        }
        Signal::Latency => {
            format!(
                "95 % of requests took up to {}; {} is usual{when}",
                Duration(told.observed),
                range(low, high, Duration)
            )
        }
        Signal::PathsPerSource => {
            format!(
                "{entity} asked for {} distinct paths within {minutes} minutes; up to {} is usual for a source",
                Number(told.observed.round()),
                Number(high)
            )
        }
        Signal::UsersPerSource => {
            format!(
                "{entity} tried {} distinct users within {minutes} minutes; up to {} is usual for a source",
                Number(told.observed.round()),
                Number(high)
            )
        }
        Signal::SourcesPerUser => {
            format!(
                "{entity} came from {} distinct sources within {minutes} minutes; up to {} is usual for a user",
                Number(told.observed.round()),
                Number(high)
            )
        }
        Signal::Value => {
            format!("observed {}; {} is usual{when}", Number(told.observed), range(low, high, Number))
        }
    };
    match told.phase {
        Phase::Began => format!("{series}: {sentence}; since {since}"),
        Phase::Over => format!("{series}: usual again ({sentence}); it had begun at {since}"),
    }
}

fn range<T: fmt::Display>(low: f64, high: f64, unit: fn(f64) -> T) -> String {
    let (low, high) = (unit(low).to_string(), unit(high).to_string());
    if low == high { low } else { format!("{low}–{high}") }
}

/// Three digits that count, no more.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        let size = value.abs();
        if value.fract() == 0.0 && size < 1e15 || size >= 100.0 {
            write!(f, "{value:.0}")
        } else if size >= 10.0 {
            write!(f, "{value:.1}")
        } else if size >= 0.01 {
            write!(f, "{value:.2}")
        } else {
            write!(f, "{value:.2e}")
        }
    }
}

struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        if percent >= 10.0 { write!(f, "{percent:.0} %") } else { write!(f, "{percent:.2} %") }
    }
}

struct Duration(f64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1.0 {
            write!(f, "{} s", Number(self.0))
        } else if self.0 >= 1e-3 {
            write!(f, "{} ms", Number(self.0 * 1e3))
        } else {
            write!(f, "{} µs", Number(self.0 * 1e6))
        }
    }
}
