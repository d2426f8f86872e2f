//! A correlation's window over the hits of one group. Pure: entries in, what holds out.
//!
//! A window ends at an *anchor*, the time of a hit, and reaches one time span back, both ends included. A condition with
//! `not` over rules looks ahead instead: the anchor is a hit of a rule that the condition asks for, and the window is the
//! time span after it, judged once that has passed.

use rustc_hash::FxHashSet;
use threadline_model::id::TraceId;

use crate::rules::Correlated;
use crate::sigma::condition::Condition;
use crate::sigma::correlation::{Kind, When};
use crate::sigma::rule::Comparison;

/// What became of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It has its place; so many older ones gave way.
    New { dropped: u64 },
    /// It was there already.
    Known,
    /// The window is full of later ones.
    Full,
}

/// Entries of a window at most where all are needed.
const ENTRIES_MAX: usize = 20_000;

/// A hit, or an anchor of a correlation that is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Event time, µs.
    pub(crate) time_us: i64,
    /// Sequence number × 2, + 1 for spans.
    pub(crate) seq: i64,
    /// Its trace.
    pub(crate) trace_id: Option<TraceId>,
    /// Hash of a value, or the bits of a number; [`NO_VALUE`].
    pub(crate) value: u64,
    /// Which of the rules.
    pub(crate) slot: u8,
    /// As an anchor it was found, or judged for good.
    pub(crate) judged: bool,
}

/// No number: not a bit pattern that a number has here.
pub(crate) const NO_VALUE: u64 = u64::MAX;

/// How a correlation is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timing {
    /// At once: more hits can only help.
    AtOnce,
    /// When the anchor is older than the allowed lateness.
    Settled,
    /// When the window after the anchor is over.
    Ahead,
}

/// What was computed of a window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) observed: f64,
    pub(crate) count: u64,
    pub(crate) from_us: i64,
    pub(crate) to_us: i64,
}

impl Correlated {
    pub(crate) fn timing(&self) -> Timing {
        match &self.when {
            When::Holds(condition) if condition.negates() => Timing::Ahead,
            When::Holds(_) => Timing::AtOnce,
            When::Compares(comparisons) => {
                let up = |(comparison, _): &(Comparison, f64)| {
                    matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual)
                };
                if comparisons.iter().all(up) { Timing::AtOnce } else { Timing::Settled }
            }
        }
    }

    /// Entries that a group keeps at most.
    fn entries_max(&self) -> usize {
        match (&self.when, self.kind, self.timing()) {
            (When::Compares(comparisons), Kind::EventCount, Timing::AtOnce) => {
                let most = comparisons.iter().map(|(_, number)| *number).fold(0.0, f64::max);
                (2.0 * most).clamp(64.0, 2e6) as usize
            }
            _ => ENTRIES_MAX,
        }
    }

    /// Whether an entry can be an anchor.
    fn anchors(&self, entry: &Entry) -> bool {
        match (&self.when, self.timing()) {
            (When::Holds(condition), Timing::Ahead) => {
                let wanted = wanted(condition);
                let name = self.names.get(usize::from(entry.slot));
                wanted.is_empty() || name.is_some_and(|name| wanted.contains(&name.as_str()))
            }
            _ => true,
        }
    }

    /// When an entry that can be an anchor is judged: once event times have passed that. `None` where it cannot, or is
    /// judged at once.
    pub(crate) fn due_us(&self, entry: &Entry) -> Option<i64> {
        match self.timing() {
            Timing::AtOnce => None,
            Timing::Settled => Some(entry.time_us),
            Timing::Ahead => self.anchors(entry).then(|| entry.time_us.saturating_add(self.timespan_us)),
        }
    }

    /// Adds an entry in its place. A full window gives up its oldest sixteenth at once, so that each costs little.
    pub(crate) fn add(&self, entries: &mut Vec<Entry>, entry: Entry, keep_from_us: i64) -> Added {
        let old = entries.partition_point(|known| known.time_us < keep_from_us);
        if old > 0 {
            entries.drain(..old);
        }
        let key = |entry: &Entry| (entry.time_us, entry.seq, entry.slot);
        let at = entries.partition_point(|known| key(known) < key(&entry));
        // A record counts once, however many of the rules it matches; which of them matters to temporal kinds alone.
        let same = |known: &&Entry| {
            known.time_us == entry.time_us
                && known.seq == entry.seq
                && match self.kind {
                    Kind::Temporal | Kind::TemporalOrdered => known.slot == entry.slot,
                    Kind::EventCount => true,
                    _ => known.value == entry.value,
                }
        };
        let near = entries.get(at.saturating_sub(64)..(at + 64).min(entries.len())).unwrap_or_default();
        if near.iter().any(|known| same(&known)) {
            return Added::Known;
        }
        let max = self.entries_max();
        let surplus = if entries.len() >= max { max / 16 } else { 0 };
        if at < surplus {
            return Added::Full;
        }
        entries.drain(..surplus);
        entries.insert(at - surplus, entry);
        Added::New { dropped: surplus as u64 }
    }

    /// Judges the window of an anchor.
    pub(crate) fn judge(&self, entries: &[Entry], anchor_us: i64) -> Option<Judgement> {
        let (from_us, to_us) = match self.timing() {
            Timing::Ahead => (anchor_us, anchor_us + self.timespan_us),
            _ => (anchor_us - self.timespan_us, anchor_us),
        };
        let start = entries.partition_point(|entry| entry.time_us < from_us);
        let end = entries.partition_point(|entry| entry.time_us <= to_us);
        let window = entries.get(start..end)?;
        let observed = self.compute(window)?;
        let holds = match &self.when {
            When::Compares(comparisons) => {
                comparisons.iter().all(|(comparison, number)| comparison.holds(observed, *number))
            }
            When::Holds(_) => true,
        };
        let (first, last) = (window.first()?, window.last()?);
        holds.then_some(Judgement {
            observed,
            count: window.len() as u64,
            from_us: first.time_us,
            to_us: last.time_us,
        })
    }

    fn compute(&self, window: &[Entry]) -> Option<f64> {
        match self.kind {
            Kind::EventCount => Some(window.len() as f64),
            Kind::ValueCount => {
                let values: FxHashSet<u64> =
                    window.iter().map(|entry| entry.value).filter(|value| *value != NO_VALUE).collect();
                Some(values.len() as f64)
            }
            Kind::ValueSum | Kind::ValueAvg => {
                let (sum, count) =
                    numbers(window).fold((0.0, 0u32), |(sum, count), number| (sum + number, count + 1));
                if count == 0 {
                    return None;
                }
                Some(if self.kind == Kind::ValueSum { sum } else { sum / f64::from(count) })
            }
            Kind::ValuePercentile(percentile) => {
                let mut numbers: Vec<f64> = numbers(window).collect();
                numbers.sort_by(f64::total_cmp);
                let position = (numbers.len().checked_sub(1)?) as f64 * percentile / 100.0;
                let low = *numbers.get(position.floor() as usize)?;
                let high = numbers.get(position.floor() as usize + 1).copied().unwrap_or(low);
                Some(low + (high - low) * position.fract())
            }
            Kind::Temporal => self.temporal(window),
            Kind::TemporalOrdered => self.ordered(window),
        }
    }

    /// How many of the rules have hits; `None` when the condition over them does not hold.
    fn temporal(&self, window: &[Entry]) -> Option<f64> {
        let mask = window.iter().fold(0u64, |mask, entry| mask | 1 << (entry.slot & 63));
        if let When::Holds(condition) = &self.when {
            let has = |name: &str| self.slot(name).is_some_and(|slot| mask & (1 << slot) != 0);
            if !condition.holds(&has) {
                return None;
            }
        }
        Some(f64::from(mask.count_ones()))
    }

    /// Length of the longest run of rules in their order whose hits follow one another; under a condition, how many of
    /// the rules of one of its alternatives do, all of which must.
    fn ordered(&self, window: &[Entry]) -> Option<f64> {
        if let When::Holds(condition) = &self.when {
            let met = |positive: &Vec<&str>, negative: &Vec<&str>| {
                let absent = |name: &&str| {
                    self.slot(name).is_none_or(|slot| window.iter().all(|entry| u32::from(entry.slot) != slot))
                };
                let slots: Option<Vec<u32>> = positive.iter().map(|name| self.slot(name)).collect();
                let slots = slots.map(|mut slots| {
                    slots.sort_unstable();
                    slots.dedup();
                    slots
                });
                slots.is_some_and(|slots| follows(window, &slots)) && negative.iter().all(absent)
            };
            return alternatives(condition, false)
                .iter()
                .find(|(positive, negative)| met(positive, negative))
                .map(|(positive, _)| positive.len() as f64);
        }
        // The longest chain over slots in order, by the earliest time at which it can end.
        let mut best: Vec<Option<i64>> = vec![Some(i64::MIN)];
        for slot in 0..self.rules.len() {
            for length in (0..best.len()).rev() {
                let Some(Some(after)) = best.get(length).copied() else { continue };
                let next = window.iter().find(|entry| usize::from(entry.slot) == slot && entry.time_us > after);
                if let Some(next) = next {
                    if best.len() == length + 1 {
                        best.push(None);
                    }
                    if let Some(end) = best.get_mut(length + 1)
                        && end.is_none_or(|end| next.time_us < end)
                    {
                        *end = Some(next.time_us);
                    }
                }
            }
        }
        Some((best.len() - 1) as f64)
    }

    fn slot(&self, name: &str) -> Option<u32> {
        self.names.iter().position(|known| known == name).map(|slot| slot as u32)
    }
}

fn numbers(window: &[Entry]) -> impl Iterator<Item = f64> {
    window.iter().filter(|entry| entry.value != NO_VALUE).map(|entry| f64::from_bits(entry.value))
}

/// Whether hits of the slots follow one another in this order.
fn follows(window: &[Entry], slots: &[u32]) -> bool {
    let mut after = i64::MIN;
    slots.iter().all(|slot| {
        let next = window.iter().find(|entry| u32::from(entry.slot) == *slot && entry.time_us > after);
        next.is_some_and(|next| {
            after = next.time_us;
            true
        })
    })
}

/// Alternatives at most that a condition is taken apart into.
const ALTERNATIVES_MAX: usize = 256;

/// A condition as alternatives of names that must, and must not, have hits.
fn alternatives(condition: &Condition, negated: bool) -> Vec<(Vec<&str>, Vec<&str>)> {
    match (condition, negated) {
        (Condition::Name(name), false) => vec![(vec![name], Vec::new())],
        (Condition::Name(name), true) => vec![(Vec::new(), vec![name])],
        (Condition::Not(part), negated) => alternatives(part, !negated),
        (Condition::Or(parts), false) | (Condition::And(parts), true) => {
            parts.iter().flat_map(|part| alternatives(part, negated)).take(ALTERNATIVES_MAX).collect()
        }
        (Condition::And(parts), false) | (Condition::Or(parts), true) => {
            let mut out: Vec<(Vec<&str>, Vec<&str>)> = vec![(Vec::new(), Vec::new())];
            for part in parts {
                let more = alternatives(part, negated);
                let with = |(positive, negative): &(Vec<_>, Vec<_>)| {
                    let (positive, negative) = (positive.clone(), negative.clone());
                    more.iter()
                        .map(move |(p, n)| {
                            let join = |own: &[_], other: &[_]| own.iter().chain(other).copied().collect();
                            (join(&positive, p), join(&negative, n))
                        })
                        .collect::<Vec<_>>()
                };
                out = out.iter().flat_map(with).take(ALTERNATIVES_MAX).collect();
            }
            out
        }
        (Condition::Of { .. }, _) => Vec::new(),
    }
}

/// Names that a condition asks for, not against.
fn wanted(condition: &Condition) -> Vec<&str> {
    let mut names: Vec<&str> =
        alternatives(condition, false).into_iter().flat_map(|(positive, _)| positive).collect();
    names.sort_unstable();
    names.dedup();
    names
}
