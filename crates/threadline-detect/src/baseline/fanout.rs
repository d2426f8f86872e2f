//! How many distinct things an entity touches: paths of a source, users of a source, sources of a user.
//!
//! An attacker is seldom known before, so its fan-out is compared with that of all others, and with its own where it
//! has one: a health check that asks for 200 paths every minute is usual. Windows are put together into buckets of
//! `fanout_windows`; what counts is the union of the current and the last bucket, so that something slow adds up.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use xxhash_rust::xxh3::xxh3_64;

use super::anomaly::Phase;
use super::calibration::{Calibration, LEARN};
use super::detector::Basis;
use super::gate::{Gate, Passage};
use super::hyperloglog::HyperLogLog;
use super::series::Verdict;
use super::settings::Settings;
use super::tail::{Count, SURPRISE_MAX};
use crate::checkpoint::{Reader, RestoreError, Writer};

/// Buckets of an entity before its own past is believed.
const OWN_MIN: u32 = 3;
/// Weight of the newest bucket in an entity's usual fan-out.
const OWN_WEIGHT: f64 = 0.1;
/// Variance over mean of an entity's own fan-out.
const OWN_DISPERSION: f64 = 4.0;
/// An entity that was quiet for so many buckets is forgotten.
const IDLE_MAX: i64 = 144;

type Map<V> = HashMap<Box<str>, V, FxBuildHasher>;

/// When an entity was last seen: the bucket, and within it in an order of no meaning that is the same in every run.
pub(super) type Age = (i64, u64);

fn age(bucket: i64, name: &str) -> Age {
    (bucket, xxh3_64(name.as_bytes()))
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Entity {
    current: HyperLogLog,
    previous: HyperLogLog,
    usual: f64,
    buckets: u32,
    /// Last bucket with anything in it.
    last: i64,
    gate: Gate,
    observed: f64,
    surprise: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fanout {
    open: BTreeMap<i64, Map<HyperLogLog>>,
    entities: Map<Entity>,
    population: Calibration,
    /// Buckets that the population was learnt from.
    learnt: u32,
    /// Highest usual fan-out: of 99 in 100 buckets.
    high: f64,
    bucket: i64,
    pub(super) last_us: i64,
}

impl Fanout {
    pub(super) fn new(window_us: i64) -> Fanout {
        Fanout {
            open: BTreeMap::new(),
            entities: Map::default(),
            population: Calibration::new(),
            learnt: 0,
            high: 0.0,
            bucket: i64::MIN,
            last_us: window_us,
        }
    }

    /// Entities that are held, in open windows or beyond.
    pub(super) fn entities(&self) -> usize {
        self.entities.len() + self.open.values().map(Map::len).sum::<usize>()
    }

    /// Takes a sample; whether its entity was not yet in that window.
    pub(super) fn take(&mut self, window_us: i64, entity: &str, thing: &str) -> bool {
        self.last_us = self.last_us.max(window_us);
        let window = self.open.entry(window_us).or_default();
        if let Some(set) = window.get_mut(entity) {
            set.insert(thing.as_bytes());
            return false;
        }
        let mut set = HyperLogLog::new();
        set.insert(thing.as_bytes());
        window.insert(entity.into(), set);
        true
    }

    pub(super) fn close(
        &mut self,
        settings: &Settings,
        window_us: i64,
        muted: bool,
    ) -> Vec<(Box<str>, Verdict)> {
        let bucket = window_us.div_euclid(settings.window_us() * i64::from(settings.fanout_windows));
        if bucket != self.bucket {
            self.rotate(bucket, settings.fanout_min as f64);
        }
        let window = self.open.remove(&window_us).unwrap_or_default();
        let mut touched: Vec<Box<str>> = Vec::with_capacity(window.len());
        for (name, set) in window {
            let entity = self.entities.entry(name.clone()).or_default();
            entity.current.merge(&set);
            entity.last = bucket;
            touched.push(name);
        }
        touched.sort_unstable();
        let mut names: Vec<Box<str>> = self.entities.keys().cloned().collect();
        names.sort_unstable();
        let mut verdicts = Vec::new();
        for name in names {
            let Some(entity) = self.entities.get_mut(&name) else { continue };
            let fresh = touched.binary_search(&name).is_ok();
            if !fresh && entity.surprise == 0.0 && entity.gate == Gate::default() {
                continue;
            }
            let surprise = if fresh {
                let mut union = entity.previous.clone();
                union.merge(&entity.current);
                entity.observed = union.estimate();
                let own = if entity.buckets >= OWN_MIN {
                    let count = Count { mean: entity.usual.max(0.5), dispersion: OWN_DISPERSION };
                    count.surprise_above(entity.observed)
                } else {
                    SURPRISE_MAX
                };
                let of_all = if self.learnt < LEARN { 0.0 } else { self.population.surprise(entity.observed) };
                if entity.observed < settings.fanout_min as f64 { 0.0 } else { own.min(of_all) }
            } else {
                0.0
            };
            let (phase, since_us) = match entity.gate.pass(settings, window_us, surprise, muted) {
                Passage::Quiet => {
                    entity.surprise = surprise;
                    continue;
                }
                Passage::Alert { since_us } => (Phase::Began, since_us),
                Passage::Over { since_us } => (Phase::Over, since_us),
            };
            let (observed, before) = (entity.observed, entity.surprise);
            entity.surprise = surprise;
            let verdict = Verdict {
                phase,
                since_us,
                observed,
                whole: 0.0,
                usual: (0.0, self.high.max(entity.usual).ceil()),
                basis: Basis::LongRun,
                surprise: surprise.max(before),
                young: false,
            };
            verdicts.push((name, verdict));
        }
        verdicts
    }

    /// A bucket is over: the population learns what each entity touched in it.
    fn rotate(&mut self, bucket: i64, fanout_min: f64) {
        let neighbour = self.bucket.checked_add(1) == Some(bucket);
        self.bucket = bucket;
        // In order, so that the same records give the same state.
        let mut names: Vec<Box<str>> = self.entities.keys().cloned().collect();
        names.sort_unstable();
        for name in names {
            let Some(entity) = self.entities.get_mut(&name) else { continue };
            let over = std::mem::take(&mut entity.current);
            if !over.is_empty() {
                let size = over.estimate();
                // A probe that is known for touching much would hide strangers that do.
                if entity.buckets < OWN_MIN || entity.usual < fanout_min {
                    self.population.judge(size);
                    self.learnt = self.learnt.saturating_add(1);
                    // Stays at the 99th percentile: up by 99 when above for every one down when below.
                    let step = 0.02 * self.high.max(1.0);
                    self.high += if size > self.high { step * 0.99 } else { -step * 0.01 };
                }
                entity.buckets = entity.buckets.saturating_add(1);
                let weight = (1.0 / f64::from(entity.buckets)).max(OWN_WEIGHT);
                entity.usual += weight * (size - entity.usual);
            }
            entity.previous = if neighbour { over } else { HyperLogLog::new() };
        }
        self.entities.retain(|_, entity| bucket.saturating_sub(entity.last) <= IDLE_MAX);
    }

    /// Of each entity when it was last seen.
    pub(super) fn ages(&self, bucket_us: i64, out: &mut Vec<Age>) {
        out.extend(self.entities.iter().map(|(name, entity)| age(entity.last, name)));
        for (window_us, window) in &self.open {
            let bucket = window_us.div_euclid(bucket_us);
            out.extend(window.keys().map(|name| age(bucket, name)));
        }
    }

    /// Forgets the entities that were last seen at `oldest` or before; how many.
    pub(super) fn shed(&mut self, bucket_us: i64, oldest: Age) -> usize {
        let before = self.entities();
        self.entities.retain(|name, entity| age(entity.last, name) > oldest);
        for (window_us, window) in &mut self.open {
            let bucket = window_us.div_euclid(bucket_us);
            window.retain(|name, _| age(bucket, name) > oldest);
        }
        before - self.entities()
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.list(self.open.iter(), |out, (window_us, window)| {
            out.i64(*window_us);
            let mut sorted: Vec<_> = window.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.list(sorted.into_iter(), |out, (name, set)| {
                out.text(name);
                set.write(out);
            });
        });
        let mut sorted: Vec<_> = self.entities.iter().collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        out.list(sorted.into_iter(), |out, (name, entity)| {
            out.text(name);
            entity.current.write(out);
            entity.previous.write(out);
            out.f64(entity.usual);
            out.u32(entity.buckets);
            out.i64(entity.last);
            entity.gate.write(out);
            out.f64(entity.observed);
            out.f64(entity.surprise);
        });
        self.population.write(out);
        out.u32(self.learnt);
        out.f64(self.high);
        out.i64(self.bucket);
        out.i64(self.last_us);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Fanout, RestoreError> {
        let open = from.list(|from| {
            let window_us = from.i64()?;
            let sets = from.list(|from| Ok((from.text()?, HyperLogLog::read(from)?)))?;
            Ok((window_us, sets.into_iter().collect()))
        })?;
        let entities = from.list(|from| {
            let name = from.text()?;
            let entity = Entity {
                current: HyperLogLog::read(from)?,
                previous: HyperLogLog::read(from)?,
                usual: from.f64()?,
                buckets: from.u32()?,
                last: from.i64()?,
                gate: Gate::read(from)?,
                observed: from.f64()?,
                surprise: from.f64()?,
            };
            Ok((name, entity))
        })?;
        Ok(Fanout {
            open: open.into_iter().collect(),
            entities: entities.into_iter().collect(),
            population: Calibration::read(from)?,
            learnt: from.u32()?,
            high: from.f64()?,
            bucket: from.i64()?,
            last_us: from.i64()?,
        })
    }
}
