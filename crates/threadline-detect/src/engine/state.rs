//! What is remembered between records: groups, bounded in number and bytes, forgotten when nothing can come of them.
//!
//! A *group* is the state of one rule for one value of its `group-by` fields. When a bound is hit, the group that would
//! be forgotten soonest is, and counted as evicted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashTable;
use rustc_hash::FxHashSet;

use super::window::Entry;

/// Between values of a group's fields.
pub(crate) const SEPARATOR: char = '\u{1f}';

/// Values as one text that can be split again: a value with the separator in it forges neither entity nor group.
pub(crate) fn join<V: AsRef<str>>(values: impl IntoIterator<Item = V>) -> String {
    let mut out = String::new();
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            out.push(SEPARATOR);
        }
        let value = value.as_ref();
        let chars = value.chars().map(|c| if c == SEPARATOR { char::REPLACEMENT_CHARACTER } else { c });
        if value.contains(SEPARATOR) { out.extend(chars) } else { out.push_str(value) }
    }
    out
}

/// Bytes that a group takes beside its label and entries: itself, its places in the index and the heap.
const GROUP_BYTES: usize = std::mem::size_of::<Group>() + 16 + 12 + 16;

/// The state of a rule for one value of its fields.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) key: u128,
    /// Seed of the rule.
    pub(crate) seed: u64,
    pub(crate) rule: u32,
    /// Tells a slot's tenants apart.
    generation: u32,
    /// Values of the fields.
    pub(crate) label: Box<str>,
    pub(crate) kind: Kind,
    /// When it is next looked at though no record comes; `i64::MAX`: not. It follows from the kind, and is not stored.
    due_us: i64,
    bytes: usize,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Hits within a correlation's window.
    Window { entries: Vec<Entry>, fired_us: i64, folded: u32 },
    /// An entity that learns its values.
    Entity { first_us: i64, last_us: i64 },
    /// A value that an entity had.
    Value { last_us: i64 },
    /// An entity that may fall silent: when its last record came, and which that was.
    Alive { last_us: i64, seq: i64, silent: bool },
    /// Numbers of a sequence.
    Sequence { highest: i64, last_us: i64, missing: Vec<Missing> },
    /// Counts by tenth of the window.
    Ratio { buckets: Vec<(i64, u32, u32)>, fired_us: i64, folded: u32 },
    /// Quiet after a finding.
    Quiet { until_us: i64, folded: u32 },
    /// Risk of an entity by hour.
    Risk { hours: Vec<(i64, u32)> },
}

/// Numbers that did not come, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// When they should have come, µs.
    pub(crate) due_us: i64,
}

impl Kind {
    fn bytes(&self) -> usize {
        match self {
            Kind::Window { entries, .. } => entries.capacity() * std::mem::size_of::<Entry>(),
            Kind::Ratio { buckets, .. } => buckets.capacity() * 16,
            Kind::Risk { hours } => hours.capacity() * 16,
            Kind::Sequence { missing, .. } => missing.capacity() * 24,
            _ => 0,
        }
    }
}

/// Where a group lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    at: u32,
    generation: u32,
}

/// All groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    slots: Vec<Option<Group>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// When each group may be forgotten, at the earliest. One entry a group.
    expiry: BinaryHeap<Reverse<(i64, Slot)>>,
    /// Those of kind `Risk`, by place.
    risks: FxHashSet<u32>,
    bytes: usize,
    generations: u32,
}

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.slots.capacity() * 8
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Group> {
        self.slots.get(slot.at as usize)?.as_ref().filter(|group| group.generation == slot.generation)
    }

    pub(crate) fn find(&self, key: u128) -> Option<Slot> {
        let at = *self.index.find(key as u64, |at| {
            self.slots.get(*at as usize).and_then(Option::as_ref).is_some_and(|group| group.key == key)
        })?;
        let generation = self.slots.get(at as usize)?.as_ref()?.generation;
        Some(Slot { at, generation })
    }

    /// Adds a group that is not there.
    pub(crate) fn insert(
        &mut self,
        key: u128,
        seed: u64,
        rule: u32,
        label: &str,
        kind: Kind,
        expires_us: i64,
    ) -> Slot {
        self.generations = self.generations.wrapping_add(1);
        let generation = self.generations;
        let bytes = GROUP_BYTES + label.len() + kind.bytes();
        self.bytes += bytes;
        let is_risk = matches!(kind, Kind::Risk { .. });
        let group = Group { key, seed, rule, generation, label: label.into(), kind, due_us: i64::MAX, bytes };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(slot) = self.slots.get_mut(at as usize) {
                    *slot = Some(group);
                }
                at
            }
            None => {
                self.slots.push(Some(group));
                self.slots.len() as u32 - 1
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(key as u64, at, |at| {
            slots.get(*at as usize).and_then(Option::as_ref).map_or(0, |group| group.key as u64)
        });
        if is_risk {
            self.risks.insert(at);
        }
        let slot = Slot { at, generation };
        self.expiry.push(Reverse((expires_us, slot)));
        slot
    }

    /// Has a group looked at then; the group, where that is earlier than it would have been.
    pub(crate) fn earlier(&mut self, slot: Slot, due_us: i64) -> Option<&Group> {
        let group = self.slots.get_mut(slot.at as usize)?.as_mut()?;
        if group.generation != slot.generation || due_us >= group.due_us {
            return None;
        }
        group.due_us = due_us;
        Some(group)
    }

    /// Whether a group is to be looked at then.
    pub(crate) fn is_due(&self, slot: Slot, due_us: i64) -> bool {
        self.get(slot).is_some_and(|group| group.due_us == due_us)
    }

    /// Likewise; from then on it is not to be looked at any more.
    pub(crate) fn take_due(&mut self, slot: Slot, due_us: i64) -> bool {
        let is_due = self.is_due(slot, due_us);
        if is_due && let Some(Some(group)) = self.slots.get_mut(slot.at as usize) {
            group.due_us = i64::MAX;
        }
        is_due
    }

    /// Groups of kind `Risk`, in no order.
    pub(crate) fn risks(&self) -> impl Iterator<Item = &Group> {
        self.risks.iter().filter_map(|at| self.slots.get(*at as usize)?.as_ref())
    }

    /// Changes a group.
    pub(crate) fn change<T>(&mut self, slot: Slot, change: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let group = self.slots.get_mut(slot.at as usize)?.as_mut()?;
        if group.generation != slot.generation {
            return None;
        }
        let out = change(group);
        let bytes = GROUP_BYTES + group.label.len() + group.kind.bytes();
        self.bytes = self.bytes + bytes - group.bytes;
        group.bytes = bytes;
        Some(out)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Group> {
        self.get(slot)?;
        let group = self.slots.get_mut(slot.at as usize)?.take()?;
        if let Ok(entry) = self.index.find_entry(group.key as u64, |at| *at == slot.at) {
            entry.remove();
        }
        self.risks.remove(&slot.at);
        self.free.push(slot.at);
        self.bytes -= group.bytes;
        Some(group)
    }

    /// Forgets groups whose time has come by `now_us`; `expires` says when a group's really has.
    pub(crate) fn expire(&mut self, now_us: i64, expires: &dyn Fn(&Group) -> i64) {
        while let Some(Reverse((at_us, slot))) = self.expiry.peek().copied() {
            if at_us >= now_us {
                return;
            }
            self.expiry.pop();
            let Some(group) = self.get(slot) else { continue };
            let really_us = expires(group);
            if really_us < now_us {
                self.remove(slot);
            } else {
                self.expiry.push(Reverse((really_us, slot)));
            }
        }
    }

    /// Makes room: forgets groups that would be forgotten soonest. How many.
    pub(crate) fn shrink(
        &mut self,
        groups_max: usize,
        bytes_max: usize,
        expires: &dyn Fn(&Group) -> i64,
    ) -> u64 {
        let mut evicted = 0;
        while self.len() > groups_max || self.bytes() > bytes_max {
            let Some(Reverse((at_us, slot))) = self.expiry.pop() else { break };
            let Some(group) = self.get(slot) else { continue };
            let really_us = expires(group);
            if really_us > at_us && self.expiry.peek().is_some_and(|Reverse((next, _))| really_us > *next) {
                self.expiry.push(Reverse((really_us, slot)));
                continue;
            }
            self.remove(slot);
            evicted += 1;
        }
        evicted
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Group)> {
        self.slots.iter().enumerate().filter_map(|(at, group)| {
            let group = group.as_ref()?;
            Some((Slot { at: at as u32, generation: group.generation }, group))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expires(group: &Group) -> i64 {
        match group.kind {
            Kind::Value { last_us } => last_us + 10,
            _ => i64::MAX,
        }
    }

    #[test]
    fn groups_expire_and_make_room() {
        let mut groups = Groups::default();
        for n in 0..100i64 {
            groups.insert(n as u128, 1, 0, "x", Kind::Value { last_us: n }, n + 10);
        }
        let kept = groups.find(0).unwrap();
        groups.change(kept, |group| group.kind = Kind::Value { last_us: 1000 });
        groups.expire(60, &expires);
        assert_eq!(groups.len(), 51);
        assert!(groups.find(0).is_some() && groups.find(49).is_none() && groups.find(50).is_some());
        assert_eq!(groups.shrink(10, usize::MAX, &expires), 41);
        assert!(groups.find(0).is_some() && groups.find(99).is_some());
        let bytes = groups.bytes();
        assert_eq!(groups.shrink(10, bytes - 1, &expires), 1);
        while groups.shrink(0, usize::MAX, &expires) > 0 {}
        assert_eq!((groups.len(), groups.bytes), (0, 0));
    }

    proptest::proptest! {
        /// Against a plain map.
        #[test]
        fn groups_are_a_map(actions in proptest::collection::vec((0..20u128, 0..3u8, 0..50i64), 0..200)) {
            let mut groups = Groups::default();
            let mut model = std::collections::BTreeMap::new();
            for (key, action, at) in actions {
                match action {
                    0 => match groups.find(key) {
                        Some(slot) => {
                            // Times of a group only grow.
                            let last_us = at.max(model.get(&key).copied().unwrap_or(0));
                            groups.change(slot, |group| group.kind = Kind::Value { last_us });
                            model.insert(key, last_us);
                        }
                        None => {
                            groups.insert(key, 1, 0, "l", Kind::Value { last_us: at }, at + 10);
                            model.insert(key, at);
                        }
                    },
                    1 => {
                        let removed = groups.find(key).and_then(|slot| groups.remove(slot));
                        assert_eq!(removed.is_some(), model.remove(&key).is_some());
                    }
                    _ => {
                        groups.expire(at, &expires);
                        model.retain(|_, last| *last + 10 >= at);
                    }
                }
                assert_eq!(groups.len(), model.len());
                assert!(model.keys().all(|key| groups.find(*key).is_some()));
            }
        }
    }
}
