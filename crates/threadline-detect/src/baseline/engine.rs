//! All series: takes samples by event time, closes windows as the watermark passes them.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use super::anomaly::{self, Anomaly, Told};
use super::fanout::{Age, Fanout};
use super::key::{SeriesKey, Signal};
use super::series::{Sample, Series, Verdict};
use super::settings::{Settings, SettingsError};
use crate::checkpoint::{Reader, RestoreError, Writer};

const MAGIC: [u8; 4] = *b"TLBL";
const VERSION: u16 = 1;
/// How many windows a sample may lie ahead of the oldest that can be open: those further ahead are refused.
const AHEAD_MAX: i64 = 256;
const DAY_US: i64 = 86_400_000_000;

/// What became of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Kept,
    /// Its window is closed.
    Late,
    /// It is too far ahead of the windows that are closed, is no sample of its series, or its texts are too long.
    Refused,
}

/// What was counted since the start; a checkpoint keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples that count.
    pub kept: u64,
    /// Samples that came after their window was closed.
    pub late: u64,
    /// Samples that were refused.
    pub refused: u64,
    /// Series that gave way to others.
    pub series_evicted: u64,
    /// Series that were not heard of for long.
    pub series_expired: u64,
    /// Entities that gave way to others.
    pub entities_evicted: u64,
    /// Windows that were judged.
    pub windows: u64,
    /// Alerts.
    pub anomalies: u64,
}

type Map<V> = HashMap<SeriesKey, V, FxBuildHasher>;

fn held(fanouts: &Map<Fanout>) -> usize {
    fanouts.values().map(Fanout::entities).sum()
}

/// The baselines of all series.
#[derive(Clone, Debug)]
pub struct Baselines {
    settings: Settings,
    series: Map<Series>,
    fanouts: Map<Fanout>,
    /// Starts of windows with anything in them, µs. A window in which nothing at all came is not judged: what is
    /// missing then is the sender of everything, or we.
    open: BTreeSet<i64>,
    /// Starts below this are closed, µs.
    closed_us: i64,
    /// Entities that fan-outs hold. Follows from them, not stored.
    entities: usize,
    counters: Counters,
}

impl Baselines {
    /// Baselines that know nothing.
    ///
    /// # Errors
    /// A setting that makes no sense.
    pub fn new(settings: Settings) -> Result<Baselines, SettingsError> {
        settings.check()?;
        Ok(Baselines {
            settings,
            series: Map::default(),
            fanouts: Map::default(),
            open: BTreeSet::new(),
            closed_us: i64::MIN,
            entities: 0,
            counters: Counters::default(),
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Series that are held, fan-outs included.
    pub fn series(&self) -> usize {
        self.series.len() + self.fanouts.len()
    }

    /// Windows that a series has learnt; 0 where it is not known.
    pub fn windows_learnt(&self, key: &SeriesKey) -> u64 {
        self.series.get(key).map_or(0, |series| series.learnt() as u64)
    }

    /// Takes a sample of a series at an event time, µs.
    pub fn observe(&mut self, key: &SeriesKey, ts_us: i64, sample: Sample<'_>) -> Taken {
        let window_us = self.settings.window_us();
        let window_us = ts_us.div_euclid(window_us).saturating_mul(window_us);
        if window_us < self.closed_us {
            self.counters.late += 1;
            return Taken::Late;
        }
        if !self.is_near(window_us) || !self.take(key, window_us, sample) {
            self.counters.refused += 1;
            return Taken::Refused;
        }
        self.open.insert(window_us);
        self.counters.kept += 1;
        Taken::Kept
    }

    /// Whether a window may be open beside those that are: what is far ahead would stay open for long.
    fn is_near(&self, window_us: i64) -> bool {
        let reach_us = AHEAD_MAX * self.settings.window_us();
        if self.closed_us > i64::MIN {
            return window_us.saturating_sub(self.closed_us) < reach_us;
        }
        let first = self.open.first().map_or(window_us, |first| window_us.min(*first));
        let last = self.open.last().map_or(window_us, |last| window_us.max(*last));
        last.saturating_sub(first) < reach_us
    }

    fn take(&mut self, key: &SeriesKey, window_us: i64, sample: Sample<'_>) -> bool {
        let fan =
            matches!(key.signal, Signal::PathsPerSource | Signal::UsersPerSource | Signal::SourcesPerUser);
        match (fan, sample) {
            (true, Sample::Touched { entity, thing }) => {
                // The thing may be as long as it likes: of it a hash is kept.
                if entity.len() > SeriesKey::TEXT_MAX {
                    return false;
                }
                let is_new = if let Some(fanout) = self.fanouts.get_mut(key) {
                    fanout.take(window_us, entity, thing)
                } else {
                    if !key.fits() {
                        return false;
                    }
                    let mut fanout = Fanout::new(window_us);
                    fanout.take(window_us, entity, thing);
                    self.fanouts.insert(key.clone(), fanout);
                    self.bound_series();
                    true
                };
                if is_new {
                    self.entities += 1;
                    self.bound_entities();
                }
                true
            }
            (true, _) | (false, Sample::Touched { .. }) => false,
            (false, _) => {
                if let Some(series) = self.series.get_mut(key) {
                    return series.take(key.signal, window_us, sample);
                }
                let mut series = Series::new(key.signal, window_us);
                if !key.fits() || !series.take(key.signal, window_us, sample) {
                    return false;
                }
                self.series.insert(key.clone(), series);
                self.bound_series();
                true
            }
        }
    }

    /// Closes every window whose end lies `lateness_s` or more before `now_us`, in order, and says what is unusual.
    pub fn advance(&mut self, now_us: i64) -> Vec<Anomaly> {
        self.close_until(now_us, false)
    }

    /// Likewise, but alerts nothing: for history, from which to start warm.
    pub fn learn(&mut self, now_us: i64) {
        self.close_until(now_us, true);
    }

    fn close_until(&mut self, now_us: i64, muted: bool) -> Vec<Anomaly> {
        let length_us = self.settings.window_us();
        let watermark = now_us.saturating_sub(i64::from(self.settings.lateness_s) * 1_000_000);
        // Starts below this have ended by the watermark.
        let until = watermark.div_euclid(length_us).saturating_mul(length_us);
        let mut anomalies = Vec::new();
        while let Some(window_us) = self.open.first().copied().filter(|start| *start < until) {
            self.open.pop_first();
            self.close(window_us, muted, &mut anomalies);
        }
        self.closed_us = self.closed_us.max(until);
        anomalies
    }

    fn close(&mut self, window_us: i64, muted: bool, anomalies: &mut Vec<Anomaly>) {
        let settings = &self.settings;
        let from = anomalies.len();
        let mut say = |key: &SeriesKey, entity: Option<&str>, verdict: Verdict| {
            let Verdict { phase, since_us, observed, whole, usual, basis, surprise, young } = verdict;
            let told = Told {
                series: key,
                entity,
                phase,
                window_us,
                since_us,
                observed,
                whole,
                usual,
                basis,
                surprise,
                young,
            };
            anomalies.push(anomaly::tell(settings, &told));
        };
        for (key, series) in &mut self.series {
            if let Some(verdict) = series.close(settings, key.signal, window_us, muted) {
                say(key, None, verdict);
            }
        }
        for (key, fanout) in &mut self.fanouts {
            for (entity, verdict) in fanout.close(settings, window_us, muted) {
                say(key, Some(&entity), verdict);
            }
        }
        let found = anomalies.get_mut(from..).unwrap_or_default();
        found.sort_by(|a, b| (&a.series, &a.entity, a.phase).cmp(&(&b.series, &b.entity, b.phase)));
        self.counters.anomalies += found.len() as u64;
        self.counters.windows += 1;
        self.expire(window_us);
        self.entities = held(&self.fanouts);
        self.bound_entities();
    }

    fn expire(&mut self, window_us: i64) {
        let oldest = window_us.saturating_sub(i64::from(self.settings.expire_days) * DAY_US);
        let before = self.series();
        self.series.retain(|_, series| series.last_us >= oldest);
        self.fanouts.retain(|_, fanout| fanout.last_us >= oldest);
        self.counters.series_expired += (before - self.series()) as u64;
    }

    /// Makes room: a sixteenth at once, so that a flood of names costs little each.
    fn bound_series(&mut self) {
        let max = self.settings.series_max;
        if self.series() <= max {
            return;
        }
        let mut ages: Vec<(i64, SeriesKey)> = self
            .series
            .iter()
            .map(|(key, series)| (series.last_us, key.clone()))
            .chain(self.fanouts.iter().map(|(key, fanout)| (fanout.last_us, key.clone())))
            .collect();
        ages.sort_unstable();
        for (_, key) in ages.into_iter().take(self.series() - max + max / 16) {
            if self.series.remove(&key).is_none() {
                self.fanouts.remove(&key);
            }
            self.counters.series_evicted += 1;
        }
        self.entities = held(&self.fanouts);
    }

    /// Makes room among the entities likewise, of all fan-outs together: also while windows are open, because a flood of
    /// addresses does not wait for their end.
    fn bound_entities(&mut self) {
        let max = self.settings.entities_max;
        if self.entities <= max {
            return;
        }
        let bucket_us = self.settings.window_us() * i64::from(self.settings.fanout_windows);
        let mut ages: Vec<Age> = Vec::with_capacity(self.entities);
        self.fanouts.values().for_each(|fanout| fanout.ages(bucket_us, &mut ages));
        let surplus = (ages.len().saturating_sub(max) + max / 16).min(ages.len());
        let Some(last) = surplus.checked_sub(1) else { return };
        let (_, oldest, _) = ages.select_nth_unstable(last);
        let oldest = *oldest;
        let shed: usize = self.fanouts.values_mut().map(|fanout| fanout.shed(bucket_us, oldest)).sum();
        self.counters.entities_evicted += shed as u64;
        self.entities = self.entities.saturating_sub(shed);
    }

    /// All that is known, as bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC, VERSION);
        out.u32(self.settings.window_s);
        out.u32(self.settings.fanout_windows);
        out.i64(i64::from(self.settings.offset_min));
        out.i64(self.closed_us);
        out.list(self.open.iter(), |out, window_us| out.i64(*window_us));
        let Counters {
            kept,
            late,
            refused,
            series_evicted,
            series_expired,
            entities_evicted,
            windows,
            anomalies,
        } = self.counters;
        for count in [kept, late, refused, series_evicted, series_expired, entities_evicted, windows, anomalies]
        {
            out.u64(count);
        }
        let mut series: Vec<_> = self.series.iter().collect();
        series.sort_unstable_by_key(|(key, _)| *key);
        out.list(series.into_iter(), |out, (key, series)| {
            key.write(out);
            series.write(out);
        });
        let mut fanouts: Vec<_> = self.fanouts.iter().collect();
        fanouts.sort_unstable_by_key(|(key, _)| *key);
        out.list(fanouts.into_iter(), |out, (key, fanout)| {
            key.write(out);
            fanout.write(out);
        });
        out.finish()
    }

    /// Goes on from a checkpoint, as if nothing had happened.
    ///
    /// # Errors
    /// [`RestoreError`]: then start with [`Baselines::new`] and learn from history. Window, fan-out and offset must be
    /// those of the checkpoint, because profiles mean something else under others.
    pub fn restore(settings: Settings, bytes: &[u8]) -> Result<Baselines, RestoreError> {
        let mut from = Reader::new(MAGIC, VERSION, bytes)?;
        for (name, found, own) in [
            ("window_s", i64::from(from.u32()?), i64::from(settings.window_s)),
            ("fanout_windows", i64::from(from.u32()?), i64::from(settings.fanout_windows)),
            ("offset_min", from.i64()?, i64::from(settings.offset_min)),
        ] {
            if found != own {
                return Err(RestoreError::Settings(name));
            }
        }
        let closed_us = from.i64()?;
        let open = from.list(Reader::i64)?.into_iter().collect();
        let counters = Counters {
            kept: from.u64()?,
            late: from.u64()?,
            refused: from.u64()?,
            series_evicted: from.u64()?,
            series_expired: from.u64()?,
            entities_evicted: from.u64()?,
            windows: from.u64()?,
            anomalies: from.u64()?,
        };
        let series = from.list(|from| {
            let key = SeriesKey::read(from)?;
            let series = Series::read(from, key.signal)?;
            Ok((key, series))
        })?;
        let fanouts = from.list(|from| Ok((SeriesKey::read(from)?, Fanout::read(from)?)))?;
        from.end()?;
        let settings_hold = settings.check();
        settings_hold.map_err(|error| RestoreError::Settings(error.name))?;
        let fanouts: Map<Fanout> = fanouts.into_iter().collect();
        Ok(Baselines {
            settings,
            series: series.into_iter().collect(),
            entities: held(&fanouts),
            fanouts,
            open,
            closed_us,
            counters,
        })
    }
}
