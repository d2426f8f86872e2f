//! From surprises to alerts: what is unusual must persist, and a series that keeps crying is heard less.
//!
//! - *Persistence*: k of the last n windows are at least `watch`, or one is at least `sure`.
//! - *Rest*: after an alert a series is not heard for some windows.
//! - *Habituation*: each alert of a series raises what the next must reach; that wears off within days.
//! - *Budget*: so many alerts of a series within seven days, and no more.

use super::settings::Settings;
use crate::checkpoint::{Reader, RestoreError, Writer};

const DAY_US: f64 = 86_400e6;
const WEEK_US: i64 = 7 * 86_400_000_000;

/// What the gate says of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Passage {
    Quiet,
    /// An alert; it has been unusual since then, µs.
    Alert {
        since_us: i64,
    },
    /// What was alerted is over.
    Over {
        since_us: i64,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gate {
    /// The last surprises, oldest first.
    recent: Vec<f32>,
    habituation: f64,
    touched_us: i64,
    rest: u32,
    /// Alerts of the last seven days.
    alerts_us: Vec<i64>,
    /// Start of what is going on.
    since_us: Option<i64>,
    /// What is going on was alerted.
    alerted: bool,
    calm: u32,
}

impl Gate {
    pub(super) fn pass(&mut self, settings: &Settings, window_us: i64, surprise: f64, muted: bool) -> Passage {
        let days = (window_us.saturating_sub(self.touched_us)).max(0) as f64 / DAY_US;
        self.habituation *= (-days / settings.habituation_days).exp();
        self.touched_us = window_us;
        let windows = settings.persistence_windows as usize;
        self.recent.push(surprise as f32);
        if self.recent.len() > windows {
            self.recent.remove(0);
        }
        let unusual = surprise >= settings.watch_surprise;
        if unusual {
            self.since_us.get_or_insert(window_us);
            self.calm = 0;
        } else {
            self.calm = self.calm.saturating_add(1);
            if self.calm as usize >= windows
                && let Some(since_us) = self.since_us.take()
                && std::mem::take(&mut self.alerted)
            {
                return Passage::Over { since_us };
            }
        }
        let watch = settings.watch_surprise + self.habituation;
        let persistent = self.recent.iter().filter(|surprise| f64::from(**surprise) >= watch).count();
        let loud = persistent >= settings.persistence_of as usize
            || surprise >= settings.sure_surprise + self.habituation;
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        self.alerts_us.retain(|alert| window_us.saturating_sub(*alert) < WEEK_US);
        let spent = self.alerts_us.len() >= settings.budget_per_week as usize;
        if !loud || rests || spent || muted {
            return Passage::Quiet;
        }
        let Some(since_us) = self.since_us else { return Passage::Quiet };
        self.habituation += settings.habituation;
        self.rest = settings.rest_windows;
        self.alerts_us.push(window_us);
        self.alerted = true;
        Passage::Alert { since_us }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.list(self.recent.iter(), |out, surprise| out.f32(*surprise));
        out.f64(self.habituation);
        out.i64(self.touched_us);
        out.u32(self.rest);
        out.list(self.alerts_us.iter(), |out, alert| out.i64(*alert));
        out.option(self.since_us, Writer::i64);
        out.flag(self.alerted);
        out.u32(self.calm);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Gate, RestoreError> {
        Ok(Gate {
            recent: from.list(Reader::f32)?,
            habituation: from.f64()?,
            touched_us: from.i64()?,
            rest: from.u32()?,
            alerts_us: from.list(Reader::i64)?,
            since_us: from.option(Reader::i64)?,
            alerted: from.flag()?,
            calm: from.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: i64 = 60_000_000;

    fn run(surprises: &[f64]) -> String {
        let settings = Settings::default();
        let mut gate = Gate::default();
        let passages = surprises.iter().enumerate().map(|(index, surprise)| {
            match gate.pass(&settings, index as i64 * MINUTE_US, *surprise, false) {
                Passage::Quiet => ".".to_owned(),
                Passage::Alert { since_us } => format!("A{}", since_us / MINUTE_US),
                Passage::Over { since_us } => format!("O{}", since_us / MINUTE_US),
            }
        });
        passages.collect::<Vec<_>>().join("")
    }

    #[test]
    fn persistence() {
        for (surprises, want) in [
            (&[0.0, 2.5, 0.0, 0.0, 2.5, 0.0][..], "......"),
            (&[0.0, 2.5, 2.5, 0.0], "..A1."),
            (&[0.0, 2.5, 0.0, 2.5, 0.0], "...A1."),
            (&[0.0, 9.0, 0.0, 0.0, 0.0, 0.0], ".A1..O1."),
            // It rests after an alert, even where things are bad.
            (&[9.0, 9.0, 9.0, 0.0, 0.0, 0.0, 9.0], "A0....O0."),
        ] {
            assert_eq!(run(surprises), want, "{surprises:?}");
        }
    }

    #[test]
    fn a_week_has_its_budget() {
        let settings = Settings::default();
        let mut gate = Gate::default();
        let week = (0..7 * 24 * 60).map(|minute| gate.pass(&settings, minute * MINUTE_US, 99.0, false));
        let alerts = week.filter(|passage| matches!(passage, Passage::Alert { .. })).count();
        assert_eq!(alerts, settings.budget_per_week as usize);
    }

    #[test]
    fn who_cries_often_is_heard_less() {
        let settings = Settings::default();
        let mut gate = Gate::default();
        let mut heard = Vec::new();
        for hour in 0..1_000i64 {
            // Every hour something just above the threshold.
            for minute in 0..60 {
                let surprise = if minute == 0 { 4.5 } else { 0.0 };
                let at_us = (hour * 60 + minute) * MINUTE_US;
                if let Passage::Alert { .. } = gate.pass(&settings, at_us, surprise, false) {
                    heard.push(hour);
                }
            }
        }
        let first_day = heard.iter().filter(|hour| **hour < 24).count();
        assert!(heard.starts_with(&[0, 1]) && first_day < 5 && heard.len() < 60, "{heard:?}");
    }
}
