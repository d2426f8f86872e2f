//! An engine's memory as bytes, and back.
//!
//! Layout, little-endian: `TLDT`, version (u16), length of the payload (u64), xxh3-64 of the payload (u64), payload.
//! Payload: latest event time, time of arrival, position of logs and of spans (i64 each), number of groups (u64), then
//! each group: seed of its rule (u64), key (u128), label (u32 length, UTF-8), kind (u8) and its fields. Lists are a u32
//! count and their elements. Groups stand in the order of their keys: the same memory gives the same bytes.
//!
//! What is due is not in it; it follows from the groups. A group whose rule is gone or has changed is forgotten.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::state::{Kind, Missing};
use super::window::Entry;
use super::{Engine, Limits, NO_RULE};
use crate::rules::{RuleId, RuleSet};

const MAGIC: &[u8; 4] = b"TLDT";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 22;
/// Bytes of a checkpoint at most.
const BYTES_MAX: u64 = 4 << 30;

/// Why bytes are no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// They do not begin as one.
    NotACheckpoint,
    /// Of a version that this build does not read: start without it, or use the build that wrote it.
    Version(u16),
    /// Cut off or changed: start without it.
    Damaged(&'static str),
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::NotACheckpoint => f.write_str("these bytes are no checkpoint of detection"),
            CheckpointError::Version(version) => write!(
                f,
                "a checkpoint of version {version}, this build reads {VERSION}: start without it, or use the build that wrote it"
            ),
            CheckpointError::Damaged(what) => write!(f, "a damaged checkpoint ({what}): start without it"),
        }
    }
}

impl std::error::Error for CheckpointError {}

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
        let mut out = Writer(vec![0; HEAD_BYTES]);
        let memory = &self.memory;
        [memory.latest_us, memory.now_us, memory.position[0], memory.position[1]]
            .into_iter()
            .for_each(|n| out.i64(n));
        let mut groups: Vec<_> = memory.groups.iter().map(|(_, group)| group).collect();
        groups.sort_unstable_by_key(|group| group.key);
        out.u64(groups.len() as u64);
        for group in groups {
            out.u64(group.seed);
            out.0.extend(group.key.to_le_bytes());
            out.bytes(group.label.as_bytes());
            out.kind(&group.kind);
        }
        let mut bytes = out.0;
        let (head, payload) = bytes.split_at_mut(HEAD_BYTES);
        let mut fields = MAGIC.to_vec();
        fields.extend(VERSION.to_le_bytes());
        fields.extend((payload.len() as u64).to_le_bytes());
        fields.extend(xxh3_64(payload).to_le_bytes());
        head.copy_from_slice(&fields);
        bytes
    }

    /// An engine as it was.
    ///
    /// # Errors
    /// The bytes are no checkpoint, of another version, or damaged.
    pub fn restore(
        rules: Arc<RuleSet>,
        limits: Limits,
        bytes: &[u8],
    ) -> Result<(Engine, Restored), CheckpointError> {
        let (head, payload) = bytes.split_at_checked(HEAD_BYTES).ok_or(CheckpointError::NotACheckpoint)?;
        let mut reader = Reader(head);
        if reader.take(4)? != MAGIC {
            return Err(CheckpointError::NotACheckpoint);
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(CheckpointError::Version(version));
        }
        if reader.u64()? != payload.len() as u64 || payload.len() as u64 > BYTES_MAX {
            return Err(CheckpointError::Damaged("wrong length"));
        }
        if reader.u64()? != xxh3_64(payload) {
            return Err(CheckpointError::Damaged("wrong checksum"));
        }
        let seeds: FxHashMap<u64, RuleId> =
            rules.rules.iter().enumerate().map(|(number, rule)| (rule.seed, number as RuleId)).collect();
        let mut engine = Engine::new(rules, limits);
        let mut restored = Restored::default();
        let mut reader = Reader(payload);
        engine.memory.latest_us = reader.i64()?;
        engine.memory.now_us = reader.i64()?;
        engine.memory.position = [reader.i64()?, reader.i64()?];
        for _ in 0..reader.u64()? {
            let seed = reader.u64()?;
            let key = reader.u128()?;
            let label = std::str::from_utf8(reader.bytes()?)
                .map_err(|_| CheckpointError::Damaged("a label is no text"))?;
            let kind = reader.kind()?;
            let rule =
                if matches!(kind, Kind::Risk { .. }) { Some(NO_RULE) } else { seeds.get(&seed).copied() };
            match rule {
                Some(rule) => {
                    engine.put(key, seed, rule, label, kind);
                    restored.groups += 1;
                }
                None => restored.forgotten += 1,
            }
        }
        if !reader.0.is_empty() {
            return Err(CheckpointError::Damaged("more bytes than groups"));
        }
        Ok((engine, restored))
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend(bytes);
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::Window { entries, fired_us, folded } => {
                self.u8(1);
                self.i64(*fired_us);
                self.u32(*folded);
                self.u32(entries.len() as u32);
                for entry in entries {
                    self.i64(entry.time_us);
                    self.i64(entry.seq);
                    self.u64(entry.value);
                    self.u8(entry.slot);
                    self.u8(u8::from(entry.judged));
                }
            }
            Kind::Entity { first_us, last_us } => {
                self.u8(2);
                self.i64(*first_us);
                self.i64(*last_us);
            }
            Kind::Value { last_us } => {
                self.u8(3);
                self.i64(*last_us);
            }
            Kind::Alive { last_us, seq, silent } => {
                self.u8(4);
                self.i64(*last_us);
                self.i64(*seq);
                self.u8(u8::from(*silent));
            }
            Kind::Sequence { highest, last_us, missing } => {
                self.u8(5);
                self.i64(*highest);
                self.i64(*last_us);
                self.u32(missing.len() as u32);
                for gap in missing {
                    [gap.from, gap.to, gap.due_us].into_iter().for_each(|n| self.i64(n));
                }
            }
            Kind::Ratio { buckets, fired_us, folded } => {
                self.u8(6);
                self.i64(*fired_us);
                self.u32(*folded);
                self.u32(buckets.len() as u32);
                for (bucket, total, parts) in buckets {
                    self.i64(*bucket);
                    self.u32(*total);
                    self.u32(*parts);
                }
            }
            Kind::Quiet { until_us, folded } => {
                self.u8(7);
                self.i64(*until_us);
                self.u32(*folded);
            }
            Kind::Risk { hours } => {
                self.u8(8);
                self.u32(hours.len() as u32);
                for (hour, risk) in hours {
                    self.i64(*hour);
                    self.u32(*risk);
                }
            }
        }
    }
}

struct Reader<'a>(&'a [u8]);

type Read<T> = Result<T, CheckpointError>;

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CheckpointError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| CheckpointError::Damaged("it ends early"))
    }

    fn u8(&mut self) -> Read<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Read<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Read<u128> {
        self.array().map(u128::from_le_bytes)
    }

    fn i64(&mut self) -> Read<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// A list whose elements take at least `size` bytes: a count that cannot be is refused before memory is taken.
    fn list<T>(&mut self, size: usize, one: impl Fn(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = self.u32()? as usize;
        if count.saturating_mul(size) > self.0.len() {
            return Err(CheckpointError::Damaged("a list is longer than the rest"));
        }
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            out.push(one(self)?);
        }
        Ok(out)
    }

    fn kind(&mut self) -> Read<Kind> {
        Ok(match self.u8()? {
            1 => {
                let (fired_us, folded) = (self.i64()?, self.u32()?);
                let entry = |reader: &mut Self| {
                    Ok(Entry {
                        time_us: reader.i64()?,
                        seq: reader.i64()?,
                        value: reader.u64()?,
                        slot: reader.u8()?,
                        judged: reader.u8()? != 0,
                    })
                };
                Kind::Window { fired_us, folded, entries: self.list(26, entry)? }
            }
            2 => Kind::Entity { first_us: self.i64()?, last_us: self.i64()? },
            3 => Kind::Value { last_us: self.i64()? },
            4 => Kind::Alive { last_us: self.i64()?, seq: self.i64()?, silent: self.u8()? != 0 },
            5 => {
                let (highest, last_us) = (self.i64()?, self.i64()?);
                let gap = |reader: &mut Self| {
                    Ok(Missing { from: reader.i64()?, to: reader.i64()?, due_us: reader.i64()? })
                };
                Kind::Sequence { highest, last_us, missing: self.list(24, gap)? }
            }
            6 => {
                let (fired_us, folded) = (self.i64()?, self.u32()?);
                let bucket = |reader: &mut Self| Ok((reader.i64()?, reader.u32()?, reader.u32()?));
                Kind::Ratio { fired_us, folded, buckets: self.list(16, bucket)? }
            }
            7 => Kind::Quiet { until_us: self.i64()?, folded: self.u32()? },
            8 => Kind::Risk { hours: self.list(12, |reader| Ok((reader.i64()?, reader.u32()?)))? },
            _ => return Err(CheckpointError::Damaged("a kind of group that is not known")),
        })
    }
}
