//! What Sigma has no words for: values that are new, entities that fall silent, numbers that are missing, ratios.

use std::sync::Arc;

use super::state::{Group, Kind, Missing, SEPARATOR, Slot, join};
use super::{Engine, Event, Found, Limits, about, entities_of, group_key, quiet_of, text_of, value_of};
use crate::finding::{Entity, Finding};
use crate::matcher::Row;
use crate::rules::{Body, NamedField, RuleId, RuleSet};
use crate::sigma::extension::Finder;
use crate::text::{fold, number_text, show_duration, show_time};

/// Gaps of a sequence that are remembered at most.
const GAPS_MAX: usize = 64;
/// A record that is older than this when it arrives, and than the silence that is looked for, is history: it tells of nobody
/// that is there now.
const HISTORY_US: i64 = 3_600_000_000;
/// Parts of a ratio's window.
const RATIO_PARTS: i64 = 10;
/// A number so far below the highest is a sequence that begins anew.
const RESTART_BELOW: i64 = 100_000;

/// When nothing can come of a group of ours any more.
pub(super) fn expires_us(finder: Option<&Finder>, kind: &Kind, limits: &Limits) -> i64 {
    let after = |time_us: i64, us: i64| time_us.saturating_add(us).saturating_add(limits.lateness_us);
    match (finder, kind) {
        (Some(Finder::NewValue { learn_us, expire_us, .. }), Kind::Entity { last_us, .. }) => {
            after(*last_us, (*learn_us).max(*expire_us))
        }
        (Some(Finder::NewValue { expire_us, .. }), Kind::Value { last_us }) => after(*last_us, *expire_us),
        (
            Some(Finder::Absence { forget_us, timespan_us, .. }),
            Kind::Alive { last_us, .. } | Kind::Sequence { last_us, .. },
        ) => after(*last_us, (*forget_us).max(timespan_us.saturating_mul(2))),
        (Some(Finder::Ratio { timespan_us, .. }), Kind::Ratio { buckets, .. }) => {
            let last = buckets.iter().map(|(part, ..)| *part).max().unwrap_or(0);
            after(last.saturating_mul(part_us(*timespan_us)), timespan_us.saturating_mul(2))
        }
        _ => i64::MIN,
    }
}

fn part_us(timespan_us: i64) -> i64 {
    (timespan_us / RATIO_PARTS).max(1)
}

/// When a group is to be looked at, though no record comes, in a hub that has been hearing since then.
pub(super) fn due_us(rules: &RuleSet, group: &Group, hearing_since_us: i64) -> Option<i64> {
    let Some(Finder::Absence { timespan_us, .. }) = &rules.rules.get(group.rule as usize)?.extension.finder
    else {
        return None;
    };
    match &group.kind {
        Kind::Alive { last_us, silent: false, .. } => {
            Some((*last_us).max(hearing_since_us).saturating_add(*timespan_us))
        }
        Kind::Sequence { missing, .. } => {
            let grace_us = hearing_since_us.saturating_add(*timespan_us);
            missing.iter().map(|gap| gap.due_us.max(grace_us)).min()
        }
        _ => None,
    }
}

/// The values of fields, `None` when one is missing.
fn label(fields: &[NamedField], row: &Row<'_>) -> Option<String> {
    let values: Option<Vec<String>> = fields.iter().map(|field| text_of(row, field)).collect();
    Some(join(values?))
}

impl Engine {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn beyond(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        finder: &Finder,
        event: &Event,
        row: &Row<'_>,
        part: bool,
        out: &mut Vec<Finding>,
    ) {
        let Some(compiled) = rules.rules.get(rule as usize) else { return };
        let Body::Single { group_by, fields, .. } = &compiled.body else { return };
        let Some(entity) = label(group_by, row) else {
            self.stats.ungrouped += 1;
            return;
        };
        let found = match finder {
            Finder::NewValue { learn_us, expire_us, .. } => {
                let Some(value) = label(fields, row) else {
                    self.stats.ungrouped += 1;
                    return;
                };
                if !self.is_new(rule, compiled.seed, &entity, &value, event.time_us, *learn_us, *expire_us) {
                    return;
                }
                let mut identity = fold(&entity).into_owned().into_bytes();
                identity.extend(fold(&value).as_bytes());
                identity.extend(event.key().to_le_bytes());
                let names: Vec<&str> = fields.iter().map(|field| field.name.as_ref()).collect();
                let value = value.replace(SEPARATOR, ", ");
                let entities = entities_of(rules, rule, row);
                let explanation = format!(
                    "{}: {} is `{value}`, seen for the first time{} in {}",
                    compiled.title,
                    names.join(", "),
                    about(&named(group_by, row)),
                    show_duration(*expire_us),
                );
                Found { explanation, ..single(identity, event, entities) }
            }
            Finder::Ratio { timespan_us, min, comparisons, .. } => {
                let Some((observed, total, folded)) = self.ratio(
                    rule,
                    compiled.seed,
                    &entity,
                    event.time_us,
                    part,
                    *timespan_us,
                    |ratio, total| {
                        total >= *min
                            && comparisons.iter().all(|(comparison, limit)| comparison.holds(ratio, *limit))
                    },
                ) else {
                    return;
                };
                let mut identity = fold(&entity).into_owned().into_bytes();
                identity.extend(event.key().to_le_bytes());
                let limits: Vec<String> = comparisons
                    .iter()
                    .map(|(c, limit)| format!("{} {}", c.sign(), number_text(limit * 100.0)))
                    .collect();
                let entities = entities_of(rules, rule, row);
                let explanation = format!(
                    "{}: {} % of {total} records within {}{}; found when {} %",
                    compiled.title,
                    number_text((observed * 1000.0).round() / 10.0),
                    show_duration(*timespan_us),
                    about(&named(group_by, row)),
                    limits.join(" and "),
                );
                Found {
                    explanation,
                    observed: Some(observed),
                    since_us: event.time_us - timespan_us,
                    evidence_count: u64::from(total),
                    folded: u64::from(folded),
                    ..single(identity, event, entities)
                }
            }
            Finder::Absence { sequence: None, timespan_us, .. } => {
                self.alive(rules, rule, compiled.seed, &entity, event, *timespan_us);
                return;
            }
            Finder::Absence { timespan_us, .. } => {
                let number =
                    fields.first().and_then(|field| row.get(field.id)).and_then(|value| value.number());
                match number.filter(|number| number.abs() < 9e15) {
                    Some(number) => {
                        self.number(rules, rule, compiled.seed, &entity, event, number as i64, *timespan_us);
                    }
                    None => self.stats.ungrouped += 1,
                }
                return;
            }
        };
        let quiet = quiet_of(compiled, &entity, |field| text_of(row, field));
        self.find(rules, rule, found, quiet, out);
    }

    #[allow(clippy::too_many_arguments)]
    fn is_new(
        &mut self,
        rule: RuleId,
        seed: u64,
        entity: &str,
        value: &str,
        time_us: i64,
        learn_us: i64,
        expire_us: i64,
    ) -> bool {
        let entity_key = group_key(seed, &format!("entity{SEPARATOR}{entity}"));
        let first_us = match self.memory.groups.find(entity_key) {
            Some(slot) => self.memory.groups.change(slot, |group| match &mut group.kind {
                Kind::Entity { first_us, last_us } => {
                    // Nothing for so long: it learns anew, whether it was forgotten or not.
                    if time_us.saturating_sub(*last_us) > learn_us.max(expire_us) {
                        *first_us = time_us;
                    }
                    *first_us = (*first_us).min(time_us);
                    *last_us = (*last_us).max(time_us);
                    *first_us
                }
                _ => time_us,
            }),
            None => {
                self.put(entity_key, seed, rule, entity, Kind::Entity { first_us: time_us, last_us: time_us });
                Some(time_us)
            }
        };
        let value_key = group_key(seed, &format!("value{SEPARATOR}{entity}{SEPARATOR}{value}"));
        let known = match self.memory.groups.find(value_key) {
            Some(slot) => self.memory.groups.change(slot, |group| match &mut group.kind {
                Kind::Value { last_us } => {
                    let known = time_us.saturating_sub(*last_us) <= expire_us;
                    *last_us = (*last_us).max(time_us);
                    known
                }
                _ => true,
            }),
            None => {
                self.put(value_key, seed, rule, "", Kind::Value { last_us: time_us });
                Some(false)
            }
        };
        known == Some(false) && first_us.is_some_and(|first_us| time_us >= first_us.saturating_add(learn_us))
    }

    /// Counts a record; the ratio, the records and the findings folded where one is to be made.
    #[allow(clippy::too_many_arguments)]
    fn ratio(
        &mut self,
        rule: RuleId,
        seed: u64,
        entity: &str,
        time_us: i64,
        part: bool,
        timespan_us: i64,
        holds: impl Fn(f64, u32) -> bool,
    ) -> Option<(f64, u32, u32)> {
        let key = group_key(seed, entity);
        let lateness_us = self.limits.lateness_us;
        let slot = self.memory.groups.find(key).unwrap_or_else(|| {
            let kind = Kind::Ratio { buckets: Vec::with_capacity(2), fired_us: i64::MIN, folded: 0 };
            self.put(key, seed, rule, entity, kind)
        });
        let bucket = time_us.div_euclid(part_us(timespan_us));
        let found = self.memory.groups.change(slot, |group| {
            let Kind::Ratio { buckets, fired_us, folded } = &mut group.kind else { return None };
            let latest = buckets.iter().map(|(known, ..)| *known).max().unwrap_or(bucket).max(bucket);
            let keep = RATIO_PARTS + lateness_us / part_us(timespan_us) + 1;
            buckets.retain(|(known, ..)| *known > latest - keep);
            match buckets.iter_mut().find(|(known, ..)| *known == bucket) {
                Some((_, total, parts)) => {
                    *total = total.saturating_add(1);
                    *parts = parts.saturating_add(u32::from(part));
                }
                None if bucket > latest - keep => buckets.push((bucket, 1, u32::from(part))),
                None => return None,
            }
            let inside = buckets.iter().filter(|(known, ..)| *known <= bucket && *known > bucket - RATIO_PARTS);
            let (total, parts) = inside.fold((0u32, 0u32), |(total, parts), (_, t, p)| {
                (total.saturating_add(*t), parts.saturating_add(*p))
            });
            let ratio = f64::from(parts) / f64::from(total.max(1));
            if !holds(ratio, total) {
                return None;
            }
            if *fired_us != i64::MIN && time_us.saturating_sub(*fired_us).abs() < timespan_us {
                *folded += 1;
                return Some(None);
            }
            *fired_us = time_us;
            Some(Some((ratio, total, std::mem::take(folded))))
        });
        match found?? {
            Some(found) => Some(found),
            None => {
                self.stats.folded += 1;
                None
            }
        }
    }

    fn alive(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        seed: u64,
        entity: &str,
        event: &Event,
        timespan_us: i64,
    ) {
        let key = group_key(seed, entity);
        // What was sent long ago and comes now was not sent by the dead.
        let (arrival_us, seq) = (event.arrival_us, event.key());
        let Some(slot) = self.memory.groups.find(key) else {
            if arrival_us.saturating_sub(event.time_us) > timespan_us.max(HISTORY_US) {
                return;
            }
            self.put(key, seed, rule, entity, Kind::Alive { last_us: arrival_us, seq, silent: false });
            return;
        };
        let woke = self.memory.groups.change(slot, |group| match &mut group.kind {
            Kind::Alive { last_us, seq: last_seq, silent } if arrival_us >= *last_us => {
                (*last_us, *last_seq) = (arrival_us, seq);
                std::mem::take(silent)
            }
            _ => false,
        });
        if woke == Some(true) {
            self.schedule(rules, slot);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn number(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        seed: u64,
        entity: &str,
        event: &Event,
        number: i64,
        timespan_us: i64,
    ) {
        let key = group_key(seed, entity);
        let time_us = event.time_us;
        let Some(slot) = self.memory.groups.find(key) else {
            let kind = Kind::Sequence { highest: number, last_us: time_us, missing: Vec::new() };
            self.put(key, seed, rule, entity, kind);
            return;
        };
        let dropped = self.memory.groups.change(slot, |group| {
            let Kind::Sequence { highest, last_us, missing } = &mut group.kind else { return 0 };
            *last_us = (*last_us).max(time_us);
            if number > *highest {
                let gap =
                    Missing { from: *highest + 1, to: number - 1, due_us: time_us.saturating_add(timespan_us) };
                *highest = number;
                if gap.from <= gap.to {
                    missing.push(gap);
                }
            } else if let Some(at) = missing.iter().position(|gap| (gap.from..=gap.to).contains(&number)) {
                let gap = missing.remove(at);
                for (from, to) in [(gap.from, number - 1), (number + 1, gap.to)] {
                    if from <= to {
                        missing.push(Missing { from, to, due_us: gap.due_us });
                    }
                }
                missing.sort_by_key(|gap| gap.from);
            } else if number <= 1 || number < *highest - RESTART_BELOW {
                // The sender began anew.
                *highest = number;
                missing.clear();
            }
            let surplus = missing.len().saturating_sub(GAPS_MAX);
            missing.drain(..surplus);
            surplus as u64
        });
        self.stats.dropped += dropped.unwrap_or(0);
        self.schedule(rules, slot);
    }

    /// Looks at a group that was due then.
    pub(super) fn overdue(&mut self, rules: &RuleSet, slot: Slot, due_us: i64, out: &mut Vec<Finding>) {
        let Some(group) = self.memory.groups.get(slot) else { return };
        let rule = group.rule;
        let Some(compiled) = rules.rules.get(rule as usize) else { return };
        let (Some(Finder::Absence { timespan_us, .. }), Body::Single { group_by, .. }) =
            (&compiled.extension.finder, &compiled.body)
        else {
            return;
        };
        let label = group.label.to_string();
        let entities: Vec<Entity> = group_by
            .iter()
            .zip(label.split(SEPARATOR))
            .map(|(field, value)| Entity { field: Arc::clone(&field.name), value: value.to_owned() })
            .collect();
        let mut all = Vec::new();
        let hearing_since_us = self.hearing_since();
        let grace_us = hearing_since_us.saturating_add(*timespan_us);
        let changed = self.memory.groups.change(slot, |group| match &mut group.kind {
            Kind::Alive { last_us, seq, silent }
                if !*silent && (*last_us).max(hearing_since_us).saturating_add(*timespan_us) <= due_us =>
            {
                *silent = true;
                let explanation = format!(
                    "{}: nothing came{} for {}; the last record came at {}",
                    compiled.title,
                    about(&entities),
                    show_duration(*timespan_us),
                    show_time(*last_us),
                );
                all.push((*last_us, *seq, last_us.saturating_add(*timespan_us), explanation, 0));
            }
            Kind::Sequence { missing, .. } => {
                let is_due = |gap: &Missing| gap.due_us.max(grace_us) <= due_us;
                for gap in missing.iter().filter(|gap| is_due(gap)) {
                    let count = gap.to - gap.from + 1;
                    let explanation = format!(
                        "{}: {count} numbers are missing{}: {} to {}",
                        compiled.title,
                        about(&entities),
                        gap.from,
                        gap.to
                    );
                    all.push((gap.from, gap.to, gap.due_us, explanation, count));
                }
                missing.retain(|gap| !is_due(gap));
            }
            _ => {}
        });
        if changed.is_none() {
            return;
        }
        for (first, second, own_due_us, explanation, count) in all {
            // Not of when it was noticed: a hub that was away in between notices later.
            let mut identity = fold(&label).into_owned().into_bytes();
            identity.extend(first.to_le_bytes());
            identity.extend(second.to_le_bytes());
            identity.extend(own_due_us.to_le_bytes());
            let found = Found {
                identity,
                time_us: own_due_us.max(grace_us),
                since_us: own_due_us.saturating_sub(*timespan_us),
                entities: entities.clone(),
                observed: (count > 0).then_some(count as f64),
                evidence: Vec::new(),
                evidence_count: 0,
                folded: 0,
                explanation,
            };
            let quiet = quiet_of(compiled, &label, |field| value_of(&found.entities, field));
            self.find(rules, rule, found, quiet, out);
        }
    }
}

fn named(fields: &[NamedField], row: &Row<'_>) -> Vec<Entity> {
    let entity =
        |field: &NamedField| Some(Entity { field: Arc::clone(&field.name), value: text_of(row, field)? });
    fields.iter().filter_map(entity).collect()
}

fn single(identity: Vec<u8>, event: &Event, entities: Vec<Entity>) -> Found {
    Found {
        identity,
        time_us: event.time_us,
        since_us: event.time_us,
        entities,
        observed: None,
        evidence: vec![event.evidence()],
        evidence_count: 1,
        folded: 0,
        explanation: String::new(),
    }
}
