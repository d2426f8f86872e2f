//! An engine's memory as bytes, and back, in the frame of [`crate::checkpoint`].
//!
//! Body: latest event time, time of arrival, position of logs and of spans (i64 each), list of resumptions (i64), number
//! of groups (u64), then each group: seed of its rule (u64), key (16 bytes), label (text), kind (u8) and its fields. Groups stand in the order
//! of their keys: the same memory gives the same bytes.
//!
//! What is due is not in it; it follows from the groups. A group whose rule is gone or has changed is forgotten.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use threadline_model::id::TraceId;

use super::state::{Kind, Missing};
use super::window::Entry;
use super::{Engine, Limits, NO_RULE};
use crate::checkpoint::{Reader, RestoreError, Writer};
use crate::rules::{RuleId, RuleSet};

const MAGIC: [u8; 4] = *b"TLDT";
const VERSION: u16 = 2;

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Groups taken over.
    pub groups: u64,
    /// Groups whose rule is gone or has changed.
    pub forgotten: u64,
}

impl Engine {
    /// The memory as bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC, VERSION);
        let memory = &self.memory;
        [memory.latest_us, memory.now_us, memory.position[0], memory.position[1]]
            .into_iter()
            .for_each(|n| out.i64(n));
        out.list(memory.resumed.iter(), |out, at_us| out.i64(*at_us));
        let mut groups: Vec<_> = memory.groups.iter().map(|(_, group)| group).collect();
        groups.sort_unstable_by_key(|group| group.key);
        out.u64(groups.len() as u64);
        for group in groups {
            out.u64(group.seed);
            out.raw(&group.key.to_le_bytes());
            out.text(&group.label);
            write_kind(&mut out, &group.kind);
        }
        out.finish()
    }

    /// An engine as it was.
    ///
    /// # Errors
    /// The bytes are no checkpoint, of another version, or damaged.
    pub fn restore(
        rules: Arc<RuleSet>,
        limits: Limits,
        bytes: &[u8],
    ) -> Result<(Engine, Restored), RestoreError> {
        let mut from = Reader::new(MAGIC, VERSION, bytes)?;
        let seeds: FxHashMap<u64, RuleId> =
            rules.rules.iter().enumerate().map(|(number, rule)| (rule.seed, number as RuleId)).collect();
        let mut engine = Engine::new(rules, limits);
        let mut restored = Restored::default();
        engine.memory.latest_us = from.i64()?;
        engine.memory.now_us = from.i64()?;
        engine.memory.position = [from.i64()?, from.i64()?];
        engine.memory.resumed = from.list(Reader::i64)?;
        for _ in 0..from.u64()? {
            let seed = from.u64()?;
            let key = u128::from_le_bytes(from.array()?);
            let label = from.text()?;
            let kind = read_kind(&mut from)?;
            let rule =
                if matches!(kind, Kind::Risk { .. }) { Some(NO_RULE) } else { seeds.get(&seed).copied() };
            match rule {
                Some(rule) => {
                    engine.put(key, seed, rule, &label, kind);
                    restored.groups += 1;
                }
                None => restored.forgotten += 1,
            }
        }
        from.end()?;
        Ok((engine, restored))
    }
}

fn write_kind(out: &mut Writer, kind: &Kind) {
    match kind {
        Kind::Window { entries, fired_us, folded } => {
            out.u8(1);
            out.i64(*fired_us);
            out.u32(*folded);
            out.list(entries.iter(), |out, entry| {
                out.i64(entry.time_us);
                out.i64(entry.seq);
                out.raw(&entry.trace_id.map_or([0; 16], |id| id.0));
                out.u64(entry.value);
                out.u8(entry.slot);
                out.flag(entry.judged);
            });
        }
        Kind::Entity { first_us, last_us } => {
            out.u8(2);
            out.i64(*first_us);
            out.i64(*last_us);
        }
        Kind::Value { last_us } => {
            out.u8(3);
            out.i64(*last_us);
        }
        Kind::Alive { last_us, seq, silent } => {
            out.u8(4);
            out.i64(*last_us);
            out.i64(*seq);
            out.flag(*silent);
        }
        Kind::Sequence { highest, last_us, missing } => {
            out.u8(5);
            out.i64(*highest);
            out.i64(*last_us);
            out.list(missing.iter(), |out, gap| {
                [gap.from, gap.to, gap.due_us].into_iter().for_each(|n| out.i64(n));
            });
        }
        Kind::Ratio { buckets, fired_us, folded } => {
            out.u8(6);
            out.i64(*fired_us);
            out.u32(*folded);
            out.list(buckets.iter(), |out, (bucket, total, parts)| {
                out.i64(*bucket);
                out.u32(*total);
                out.u32(*parts);
            });
        }
        Kind::Quiet { until_us, folded } => {
            out.u8(7);
            out.i64(*until_us);
            out.u32(*folded);
        }
        Kind::Risk { hours } => {
            out.u8(8);
            out.list(hours.iter(), |out, (hour, risk)| {
                out.i64(*hour);
                out.u32(*risk);
            });
        }
    }
}

fn read_kind(from: &mut Reader<'_>) -> Result<Kind, RestoreError> {
    Ok(match from.u8()? {
        1 => {
            let (fired_us, folded) = (from.i64()?, from.u32()?);
            let entries = from.list(|from| {
                Ok(Entry {
                    time_us: from.i64()?,
                    seq: from.i64()?,
                    trace_id: TraceId::from_bytes(&from.array::<16>()?),
                    value: from.u64()?,
                    slot: from.u8()?,
                    judged: from.flag()?,
                })
            })?;
            Kind::Window { fired_us, folded, entries }
        }
        2 => Kind::Entity { first_us: from.i64()?, last_us: from.i64()? },
        3 => Kind::Value { last_us: from.i64()? },
        4 => Kind::Alive { last_us: from.i64()?, seq: from.i64()?, silent: from.flag()? },
        5 => {
            let (highest, last_us) = (from.i64()?, from.i64()?);
            let missing =
                from.list(|from| Ok(Missing { from: from.i64()?, to: from.i64()?, due_us: from.i64()? }))?;
            Kind::Sequence { highest, last_us, missing }
        }
        6 => {
            let (fired_us, folded) = (from.i64()?, from.u32()?);
            Kind::Ratio {
                fired_us,
                folded,
                buckets: from.list(|from| Ok((from.i64()?, from.u32()?, from.u32()?)))?,
            }
        }
        7 => Kind::Quiet { until_us: from.i64()?, folded: from.u32()? },
        8 => Kind::Risk { hours: from.list(|from| Ok((from.i64()?, from.u32()?)))? },
        _ => return Err(RestoreError::Damaged("a kind of group is not known")),
    })
}
