//! Unusual traffic: what is usual for a series at this hour, and how far from it a window lies (docs/baselines.md).
//!
//! Vocabulary:
//! - *series*: what is measured, of what ([`SeriesKey`]): requests of a service, errors of a route, latency of an
//!   operation, distinct paths per source;
//! - *sample*: what a record adds to a series ([`Sample`]);
//! - *window*: a minute by default, by event time; it closes when the watermark has passed it;
//! - *surprise*: −log₁₀ of a probability: 3 is one in a thousand;
//! - *anomaly*: a window whose surprise persists and is within the series' budget ([`Anomaly`]).
//!
//! It does not know records, services' names or who is told: [`Baselines::observe`] takes numbers,
//! [`Baselines::advance`] says what is unusual.

mod anomaly;
mod calendar;
mod calibration;
mod chance;
mod detector;
mod engine;
mod fanout;
mod gate;
mod hyperloglog;
mod key;
mod series;
mod settings;
mod sketch;
mod tail;

pub use anomaly::{Anomaly, Phase, Severity};
pub use detector::Basis;
pub use engine::{Baselines, Counters, Taken};
pub use hyperloglog::{HyperLogLog, STANDARD_ERROR};
pub use key::{SeriesKey, Signal};
pub use series::Sample;
pub use settings::{Settings, SettingsError};
pub use sketch::{DdSketch, RELATIVE_ERROR};
pub use tail::{Count, SURPRISE_MAX, Share, ln_gamma};
