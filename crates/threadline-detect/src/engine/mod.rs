//! Detection over a stream of batches: hits become findings, correlations, memories of what entities did.
//!
//! **Time.** Windows are of event time. The *watermark* is the latest event time seen, less the allowed lateness; a record
//! whose event time is before what a group still remembers is counted as late and left out of correlations. Conditions
//! that more hits can only help are judged at each hit; the others when the watermark has passed. An event time after the
//! record's arrival counts as the arrival: a clock that is ahead moves nothing further than the hub's own.
//!
//! **Silence** is measured by the time of arrival: that of each record, and what [`Engine::advance`] says while none comes.
//! While the hub was away nobody could be heard; [`Engine::resume`] says so, and silence counts from then on.
//!
//! **The same again.** What comes out depends on the records and their order alone, not on how they are cut into batches.
//! Records up to the engine's position are not looked at again. A finding's id is a hash of what was found. So after a
//! crash, restoring a checkpoint and reading on from its position gives the findings that would have come, and those
//! that came already have the ids they had.
//!
//! **Bounds.** Groups are bounded in number and bytes ([`Limits`]); what was evicted, late or left out is counted
//! ([`Stats`]).

mod beyond;
mod checkpoint;
mod state;
mod window;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use threadline_model::columns::{Batch, IntColumn, StrColumn};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::schema::Table;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::finding::{EVENT_NAME, EVIDENCE_MAX, Entity, Evidence, Finding, FindingId, SERVICE};
use crate::matcher::{Row, RuleIndex, Scratch};
use crate::rules::{Body, Compiled, Correlated, NamedField, Role, RuleId, RuleSet, Source};
use crate::sigma::correlation::{Kind as CorrelationKind, When};
use crate::text::{fold, show_duration, show_time};
pub use checkpoint::Restored;
use state::{Group, Groups, Kind, SEPARATOR, Slot, join};
use window::{Added, Entry, Judgement, NO_VALUE, Timing};

/// How far risk reaches back, µs.
const RISK_US: i64 = 86_400_000_000;
/// Tenant of groups that belong to no rule.
const NO_RULE: RuleId = RuleId::MAX;
/// Resumptions that are remembered at most: records that arrived before one may still be read.
const RESUMED_MAX: usize = 16;
/// How deep correlations may look at correlations.
const CHAIN_MAX: usize = 16;

/// Bounds and settings of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Groups at most.
    pub groups_max: usize,
    /// Bytes of groups at most.
    pub bytes_max: usize,
    /// How much later than the latest a record's event time may be and still count, µs.
    pub lateness_us: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { groups_max: 1_000_000, bytes_max: 512 << 20, lateness_us: 60_000_000 }
    }
}

/// What an engine has counted since it was made or restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records looked at.
    pub records: u64,
    /// Hits of rules.
    pub hits: u64,
    /// Findings made.
    pub findings: u64,
    /// Findings folded by suppression, or into one of the same group and time span.
    pub folded: u64,
    /// Hits that came too late for their correlation.
    pub late: u64,
    /// Hits without a field to group by.
    pub ungrouped: u64,
    /// Groups evicted because a bound was hit.
    pub evicted: u64,
    /// Hits dropped from windows that were full, and numbers' gaps where there were too many.
    pub dropped: u64,
}

/// Detection with its memory.
#[derive(Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    limits: Limits,
    scratch: Scratch,
    memory: Memory,
    stats: Stats,
}

/// What a checkpoint holds.
#[derive(Debug, Default)]
struct Memory {
    groups: Groups,
    /// Groups with an anchor to judge when the watermark has passed. Rebuilt from groups, not stored.
    due: BinaryHeap<Reverse<(i64, u128, Slot)>>,
    /// Groups with silences and missing numbers to look at. Likewise.
    overdue: BinaryHeap<Reverse<(i64, u128, Slot)>>,
    /// Latest event time.
    latest_us: i64,
    /// Up to when all has been read, by arrival.
    now_us: i64,
    /// When the hub could hear again after it was away, ascending.
    resumed: Vec<i64>,
    /// Last sequence number, logs and spans.
    position: [i64; 2],
}

impl Memory {
    /// Sees to it that a group is looked at then, or before. What stood on the heap for later is passed over.
    fn wake(&mut self, slot: Slot, due_us: i64) {
        let Some(group) = self.groups.earlier(slot, due_us) else { return };
        let entry = Reverse((due_us, group.key, slot));
        let heap = if matches!(group.kind, Kind::Window { .. }) { &mut self.due } else { &mut self.overdue };
        heap.push(entry);
        // Of groups that are gone, or were put off, at most as many as there are groups.
        if heap.len() > 2 * self.groups.len() + 1024 {
            heap.retain(|Reverse((due_us, _, slot))| self.groups.is_due(*slot, *due_us));
        }
    }
}

/// A record that no rule matches: it only says what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    /// Sequence number.
    pub seq: i64,
    /// Where it is.
    pub table: Table,
    /// Event time, or that of arrival where it is earlier, µs.
    pub time_us: i64,
    /// When it arrived, µs.
    pub arrival_us: i64,
    /// Whether it is a finding, whose time does not count.
    pub is_finding: bool,
}

impl Passing {
    /// The records of a batch, by row. It has their columns `seq`, `ts`, `arrival_ts`, and, where findings may be among
    /// them, `event_name` and `service`.
    pub fn of(batch: &RecordBatch, table: Table) -> impl Iterator<Item = Passing> {
        let columns = Columns::new(Batch::new(batch), table);
        (0..batch.num_rows()).map(move |row| {
            let ts_us = columns.ts.get(row).unwrap_or(0);
            let arrival_us = columns.arrival.get(row).unwrap_or(ts_us);
            Passing {
                seq: columns.seq.get(row).unwrap_or(0),
                table,
                time_us: ts_us.min(arrival_us),
                arrival_us,
                is_finding: columns.is_finding(row),
            }
        })
    }
}

/// A record or anchor on its way through rules.
#[derive(Clone, Debug)]
struct Event {
    table: Table,
    seq: i64,
    /// Event time, or that of arrival where it is earlier.
    time_us: i64,
    /// When it arrived.
    arrival_us: i64,
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
}

impl Event {
    fn evidence(&self) -> Evidence {
        let Event { table, seq, time_us, trace_id, span_id, .. } = *self;
        Evidence { table, seq, time_us, trace_id, span_id }
    }

    fn key(&self) -> i64 {
        self.seq.wrapping_mul(2) | i64::from(self.table == Table::Spans)
    }
}

/// What a finding says beside its rule.
struct Found {
    /// What tells it from others of its rule.
    identity: Vec<u8>,
    time_us: i64,
    since_us: i64,
    entities: Vec<Entity>,
    observed: Option<f64>,
    evidence: Vec<Evidence>,
    evidence_count: u64,
    folded: u64,
    explanation: String,
}

impl Engine {
    /// An engine that remembers nothing.
    pub fn new(rules: Arc<RuleSet>, limits: Limits) -> Engine {
        let memory =
            Memory { latest_us: i64::MIN, now_us: i64::MIN, position: [i64::MIN; 2], ..Memory::default() };
        Engine { rules, limits, scratch: Scratch::default(), memory, stats: Stats::default() }
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Groups remembered, and their bytes.
    pub fn state_size(&self) -> (usize, usize) {
        (self.memory.groups.len(), self.memory.groups.bytes())
    }

    /// The last sequence number looked at in a table; `None` before the first. Reading resumes after it.
    pub fn position(&self, table: Table) -> Option<i64> {
        let position = if table == Table::Logs { self.memory.position[0] } else { self.memory.position[1] };
        (position != i64::MIN).then_some(position)
    }

    /// Up to when all that arrived has been read, µs; `i64::MIN` before the first record.
    pub fn now_us(&self) -> i64 {
        self.memory.now_us
    }

    /// Looks at the records of a batch, in order.
    pub fn step(&mut self, batch: &RecordBatch, table: Table) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rules = Arc::clone(&self.rules);
        let view = Batch::new(batch);
        let columns = Columns::new(view, table);
        let mut scratch = std::mem::take(&mut self.scratch);
        rules.matcher.scan(batch, table, &mut scratch, |row, hits| {
            self.record(&rules, &columns, row, hits, &mut findings);
        });
        self.scratch = scratch;
        self.stats.findings += findings.len() as u64;
        findings
    }

    /// Looks at records whose rules are known, `hits` by row, and at those that no rule matches and that came before them:
    /// what [`Engine::step`] does, of all the records in order.
    pub fn replay<'h>(
        &mut self,
        batch: &RecordBatch,
        table: Table,
        hits: impl Iterator<Item = &'h [RuleIndex]>,
        others: &mut std::iter::Peekable<impl Iterator<Item = Passing>>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rules = Arc::clone(&self.rules);
        let columns = Columns::new(Batch::new(batch), table);
        let mut scratch = std::mem::take(&mut self.scratch);
        rules.matcher.read(batch, table, &mut scratch, hits, |row, hits| {
            let seq = columns.seq.get(row.row).unwrap_or(i64::MAX);
            while let Some(other) = others.next_if(|other| other.seq < seq) {
                self.passing(&rules, &other, &mut findings);
            }
            self.record(&rules, &columns, row, hits, &mut findings);
        });
        self.scratch = scratch;
        self.stats.findings += findings.len() as u64;
        findings
    }

    /// Likewise of records that no rule matches.
    pub fn pass(&mut self, others: impl Iterator<Item = Passing>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rules = Arc::clone(&self.rules);
        others.for_each(|other| self.passing(&rules, &other, &mut findings));
        self.stats.findings += findings.len() as u64;
        findings
    }

    /// Likewise of records that were passed by out of their order, while nothing was remembered: the latest event time of
    /// any, and the latest arrival, µs.
    pub fn catch_up(&mut self, latest_us: i64, now_us: i64) -> Vec<Finding> {
        self.memory.latest_us = self.memory.latest_us.max(latest_us);
        self.advance(now_us)
    }

    fn passing(&mut self, rules: &RuleSet, other: &Passing, out: &mut Vec<Finding>) {
        let position = &mut self.memory.position[usize::from(other.table == Table::Spans)];
        if other.seq <= *position {
            return;
        }
        *position = other.seq;
        self.memory.now_us = self.memory.now_us.max(other.arrival_us);
        if !other.is_finding {
            self.stats.records += 1;
            self.memory.latest_us = self.memory.latest_us.max(other.time_us);
        }
        self.settle(rules, out);
    }

    /// Likewise without records: all that had arrived by `now_us`, µs of the wall clock, has been read.
    pub fn advance(&mut self, now_us: i64) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rules = Arc::clone(&self.rules);
        self.memory.now_us = self.memory.now_us.max(now_us);
        self.settle(&rules, &mut findings);
        self.stats.findings += findings.len() as u64;
        findings
    }

    /// Says that nothing could arrive for a while before `now_us`, µs of the wall clock: the hub was away, or asleep.
    /// Records that arrived before may still be read after this.
    pub fn resume(&mut self, now_us: i64) {
        let resumed = &mut self.memory.resumed;
        let at = resumed.partition_point(|known| *known < now_us);
        resumed.insert(at, now_us);
        // Those before the one in force do not matter any more.
        let past = resumed.partition_point(|known| *known <= self.memory.now_us);
        let surplus = resumed.len().saturating_sub(RESUMED_MAX);
        resumed.drain(..past.saturating_sub(1).max(surplus));
    }

    /// Takes other rules. What is remembered for rules that stay as they are, stays.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet>) -> Restored {
        let seeds: rustc_hash::FxHashMap<u64, RuleId> =
            rules.rules.iter().enumerate().map(|(number, rule)| (rule.seed, number as RuleId)).collect();
        let mut restored = Restored::default();
        let old = std::mem::take(&mut self.memory.groups);
        self.memory.due.clear();
        self.memory.overdue.clear();
        self.rules = rules;
        for (_, group) in old.iter() {
            match seeds.get(&group.seed).copied().or((group.rule == NO_RULE).then_some(NO_RULE)) {
                Some(rule) => {
                    self.put(group.key, group.seed, rule, &group.label, group.kind.clone());
                    restored.groups += 1;
                }
                None => restored.forgotten += 1,
            }
        }
        self.scratch = Scratch::default();
        restored
    }

    /// The riskiest entities with their risk of the last day, at most `max`.
    pub fn risks(&self, max: usize) -> Vec<(Entity, u32)> {
        let risk = |group: &'_ Group| match &group.kind {
            Kind::Risk { hours } => risk_total(hours, self.memory.latest_us),
            _ => 0,
        };
        let mut all: Vec<(Reverse<u32>, &str)> =
            self.memory.groups.risks().map(|group| (Reverse(risk(group)), &*group.label)).collect();
        if all.len() > max {
            all.select_nth_unstable(max);
            all.truncate(max);
        }
        all.sort_unstable();
        let entity = |(Reverse(total), label): (Reverse<u32>, &str)| {
            let (field, value) = label.split_once(SEPARATOR)?;
            Some((Entity { field: field.into(), value: value.to_owned() }, total))
        };
        all.into_iter().filter_map(entity).collect()
    }

    fn record(
        &mut self,
        rules: &RuleSet,
        columns: &Columns<'_>,
        row: &Row<'_>,
        hits: &[RuleIndex],
        out: &mut Vec<Finding>,
    ) {
        let event = columns.event(row.row, &self.memory.position);
        let position = &mut self.memory.position[usize::from(event.table == Table::Spans)];
        if event.seq <= *position {
            return;
        }
        *position = event.seq;
        self.memory.now_us = self.memory.now_us.max(event.arrival_us);
        let is_finding = columns.is_finding(row.row);
        if !is_finding {
            self.stats.records += 1;
            self.memory.latest_us = self.memory.latest_us.max(event.time_us);
        }
        // What was to be judged before this record is, before the record changes what is remembered.
        self.settle(rules, out);
        // What was found is not looked at again.
        if is_finding {
            return;
        }
        for hit in hits {
            let Some((rule, Role::Hit)) = rules.roles.get(*hit as usize).copied() else { continue };
            let part = hits.iter().any(|other| rules.roles.get(*other as usize) == Some(&(rule, Role::Part)));
            self.stats.hits += 1;
            self.hit(rules, rule, &event, row, part, out);
        }
        // And what came of the record is before the next moves the watermark, in this batch or another.
        if !hits.is_empty() {
            self.settle(rules, out);
        }
    }

    /// A record that a rule matches.
    fn hit(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        event: &Event,
        row: &Row<'_>,
        part: bool,
        out: &mut Vec<Finding>,
    ) {
        let Some(compiled) = rules.rules.get(rule as usize) else { return };
        let follow = |engine: &mut Engine, out: &mut Vec<Finding>| {
            for (follower, slot) in rules.followers.get(rule as usize).map_or(&[][..], Vec::as_slice) {
                engine.follow(rules, *follower, *slot, event, &Fields::Row(row), 0, out);
            }
        };
        follow(self, out);
        match &compiled.extension.finder {
            Some(finder) => self.beyond(rules, rule, finder, event, row, part, out),
            None if compiled.generates => {
                let entities = entities_of(rules, rule, row);
                let group = join(entities.iter().flat_map(|entity| [&*entity.field, entity.value.as_str()]));
                let quiet = quiet_of(compiled, &group, |field| text_of(row, field));
                let found = Found {
                    identity: event.key().to_le_bytes().to_vec(),
                    time_us: event.time_us,
                    since_us: event.time_us,
                    entities,
                    observed: None,
                    evidence: vec![event.evidence()],
                    evidence_count: 1,
                    folded: 0,
                    explanation: String::new(),
                };
                self.find(rules, rule, found, quiet, out);
            }
            None => {}
        }
    }

    /// A correlation looks at a hit.
    #[allow(clippy::too_many_arguments)]
    fn follow(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        slot: u8,
        event: &Event,
        fields: &Fields<'_>,
        depth: usize,
        out: &mut Vec<Finding>,
    ) {
        let Some(compiled) = rules.rules.get(rule as usize) else { return };
        let Body::Correlation(correlation) = &compiled.body else { return };
        let of = |lists: &[Vec<Source>]| lists.get(usize::from(slot)).cloned().unwrap_or_default();
        let Some(label) = fields.label(&of(&correlation.group_fields)) else {
            self.stats.ungrouped += 1;
            return;
        };
        let keep_from_us = self.keep_from(correlation);
        if event.time_us < keep_from_us {
            self.stats.late += 1;
            return;
        }
        let value = fields.value(correlation, &of(&correlation.value_fields));
        if correlation.kind.is_numeric() && value == NO_VALUE {
            return;
        }
        let (time_us, seq, trace_id) = (event.time_us, event.key(), event.trace_id);
        let entry = Entry { time_us, seq, trace_id, value, slot, judged: false };
        let key = group_key(compiled.seed, &label);
        let at = self.memory.groups.find(key).unwrap_or_else(|| {
            let kind = Kind::Window { entries: Vec::with_capacity(1), fired_us: i64::MIN, folded: 0 };
            self.put(key, compiled.seed, rule, &label, kind)
        });
        let added = self.memory.groups.change(at, |group| match &mut group.kind {
            Kind::Window { entries, .. } => correlation.add(entries, entry, keep_from_us),
            _ => Added::Known,
        });
        match added {
            None | Some(Added::Known) => return,
            Some(Added::Full) => {
                self.stats.dropped += 1;
                return;
            }
            Some(Added::New { dropped }) => self.stats.dropped += dropped,
        }
        match correlation.due_us(&entry) {
            None if correlation.timing() == Timing::AtOnce => {
                self.judge_near(rules, rule, at, event, depth, out);
            }
            None => {}
            Some(due_us) => self.memory.wake(at, due_us),
        }
    }

    /// From when on a correlation's groups remember.
    fn keep_from(&self, correlation: &Correlated) -> i64 {
        let reach = correlation.timespan_us.saturating_add(self.limits.lateness_us);
        let reach = if correlation.timing() == Timing::Ahead {
            reach.saturating_add(correlation.timespan_us)
        } else {
            reach
        };
        self.memory.latest_us.saturating_sub(reach)
    }

    /// Judges the anchors whose windows a new hit is in: its own, and later ones where it came late.
    fn judge_near(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        at: Slot,
        event: &Event,
        depth: usize,
        out: &mut Vec<Finding>,
    ) {
        let Some(compiled) = rules.rules.get(rule as usize) else { return };
        let Body::Correlation(correlation) = &compiled.body else { return };
        let until_us = event.time_us.saturating_add(correlation.timespan_us);
        let anchors: Vec<Entry> = match self.memory.groups.get(at).map(|group| &group.kind) {
            Some(Kind::Window { entries, .. }) => {
                let start = entries.partition_point(|entry| entry.time_us < event.time_us);
                let end = entries.partition_point(|entry| entry.time_us <= until_us);
                entries.get(start..end).unwrap_or_default().to_vec()
            }
            _ => return,
        };
        let mut last_us = None;
        for anchor in anchors.into_iter().filter(|anchor| !anchor.judged) {
            if last_us.replace(anchor.time_us) != Some(anchor.time_us) {
                self.judge(rules, rule, at, anchor.time_us, anchor.seq, depth, out);
            }
        }
    }

    /// Judges an anchor.
    #[allow(clippy::too_many_arguments)]
    fn judge(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        at: Slot,
        time_us: i64,
        seq: i64,
        depth: usize,
        out: &mut Vec<Finding>,
    ) {
        let Some(compiled) = rules.rules.get(rule as usize) else { return };
        let Body::Correlation(correlation) = &compiled.body else { return };
        let Some(group) = self.memory.groups.get(at) else { return };
        let Kind::Window { entries, .. } = &group.kind else { return };
        let settled = correlation.timing() != Timing::AtOnce;
        let anchor = entries.partition_point(|entry| entry.time_us < time_us);
        let of_moment = entries.iter().skip(anchor).take_while(|entry| entry.time_us == time_us);
        if settled && of_moment.clone().any(|entry| entry.judged) {
            return;
        }
        let judgement = correlation.judge(entries, time_us);
        if judgement.is_none() && !settled {
            return;
        }
        let label = group.label.to_string();
        let evidence = judgement.as_ref().map_or(Vec::new(), |judgement| evidence(entries, judgement));
        // One finding per group and time span; every one where the rule says so.
        let (every, span_us) = (compiled.extension.every, correlation.timespan_us);
        let fold_or_not = self.memory.groups.change(at, |group| {
            let Kind::Window { entries, fired_us, folded } = &mut group.kind else { return None };
            // Hits of one moment are one anchor.
            let same = |entry: &&mut Entry| entry.time_us == time_us;
            entries.iter_mut().filter(same).for_each(|entry| entry.judged = true);
            judgement.as_ref()?;
            let near = *fired_us != i64::MIN && time_us.saturating_sub(*fired_us).abs() < span_us;
            if near && !every {
                *folded += 1;
                return Some(None);
            }
            *fired_us = time_us;
            Some(Some(std::mem::take(folded)))
        });
        let (Some(judgement), Some(Some(alone))) = (judgement, fold_or_not) else { return };
        let event = Event {
            table: if seq & 1 == 1 { Table::Spans } else { Table::Logs },
            seq: seq >> 1,
            // A window that lies ahead is decided when it is over.
            time_us: if correlation.timing() == Timing::Ahead {
                time_us.saturating_add(span_us)
            } else {
                time_us
            },
            arrival_us: self.memory.now_us,
            trace_id: None,
            span_id: None,
        };
        if depth < CHAIN_MAX {
            for (follower, slot) in rules.followers.get(rule as usize).map_or(&[][..], Vec::as_slice) {
                self.follow(rules, *follower, *slot, &event, &Fields::Group(&label), depth + 1, out);
            }
        }
        let Some(folded) = alone else {
            self.stats.folded += 1;
            return;
        };
        if !compiled.generates {
            return;
        }
        let entities: Vec<Entity> = correlation
            .group_names
            .iter()
            .zip(label.split(SEPARATOR))
            .map(|(field, value)| Entity { field: Arc::clone(field), value: value.to_owned() })
            .collect();
        let mut identity = fold(&label).into_owned().into_bytes();
        identity.extend(time_us.to_le_bytes());
        identity.extend(seq.to_le_bytes());
        let found = Found {
            identity,
            time_us: event.time_us,
            since_us: judgement.from_us,
            explanation: explain(rules, correlation, &judgement, &entities),
            entities,
            observed: Some(judgement.observed),
            evidence_count: judgement.count,
            evidence,
            folded: u64::from(folded),
        };
        let quiet = quiet_of(compiled, &label, |field| value_of(&found.entities, field));
        self.find(rules, rule, found, quiet, out);
    }

    /// Judges what is due: anchors by the watermark; silences and missing numbers by the time of arrival. Then forgets.
    fn settle(&mut self, rules: &RuleSet, out: &mut Vec<Finding>) {
        let watermark_us = self.memory.latest_us.saturating_sub(self.limits.lateness_us);
        while let Some(Reverse((due_us, _, at))) = self.memory.due.peek().copied() {
            if due_us >= watermark_us {
                break;
            }
            self.memory.due.pop();
            if self.memory.groups.take_due(at, due_us) {
                self.judge_due(rules, at, due_us, out);
                self.schedule(rules, at);
            }
        }
        while let Some(Reverse((due_us, _, at))) = self.memory.overdue.peek().copied() {
            if due_us >= self.memory.now_us {
                break;
            }
            self.memory.overdue.pop();
            if self.memory.groups.take_due(at, due_us) {
                self.overdue(rules, at, due_us, out);
                self.schedule(rules, at);
            }
        }
        let limits = self.limits;
        let expires = |group: &Group| expires_us(rules, &limits, group);
        // By the watermark: whatever was due before it has been judged.
        self.memory.groups.expire(watermark_us, &expires);
        self.stats.evicted += self.memory.groups.shrink(limits.groups_max, limits.bytes_max, &expires);
    }

    /// Judges the anchor of a group that was due then.
    fn judge_due(&mut self, rules: &RuleSet, at: Slot, due_us: i64, out: &mut Vec<Finding>) {
        let Some(group) = self.memory.groups.get(at) else { return };
        let rule = group.rule;
        let (Kind::Window { entries, .. }, Some(Body::Correlation(correlation))) =
            (&group.kind, rules.rules.get(rule as usize).map(|rule| &rule.body))
        else {
            return;
        };
        let due = |entry: &&Entry| !entry.judged && correlation.due_us(entry) == Some(due_us);
        let Some(Entry { time_us, seq, .. }) = entries.iter().find(due).copied() else { return };
        self.judge(rules, rule, at, time_us, seq, 0, out);
        // For good, also what came late for a moment that had been judged.
        self.memory.groups.change(at, |group| {
            let Kind::Window { entries, .. } = &mut group.kind else { return };
            let same = |entry: &&mut Entry| entry.time_us == time_us;
            entries.iter_mut().filter(same).for_each(|entry| entry.judged = true);
        });
    }

    /// Since when the hub has been hearing without a break; `i64::MIN` where it was never away.
    fn hearing_since(&self) -> i64 {
        let past = self.memory.resumed.iter().rev().find(|at| **at <= self.memory.now_us);
        past.copied().unwrap_or(i64::MIN)
    }

    /// Adds a group, and what is due of it.
    fn put(&mut self, key: u128, seed: u64, rule: RuleId, label: &str, kind: Kind) -> Slot {
        let rules = Arc::clone(&self.rules);
        let probe = |kind: &Kind| expires_of(&rules, &self.limits, rule, kind);
        let expires_us = probe(&kind);
        let slot = self.memory.groups.insert(key, seed, rule, label, kind, expires_us);
        self.schedule(&rules, slot);
        slot
    }

    /// Puts a group onto the heap for when it is next due.
    fn schedule(&mut self, rules: &RuleSet, slot: Slot) {
        let Some(group) = self.memory.groups.get(slot) else { return };
        let due_us = match (&group.kind, rules.rules.get(group.rule as usize).map(|rule| &rule.body)) {
            (Kind::Window { entries, .. }, Some(Body::Correlation(correlation))) => {
                entries.iter().filter(|entry| !entry.judged).find_map(|entry| correlation.due_us(entry))
            }
            _ => beyond::due_us(rules, group, self.hearing_since()),
        };
        if let Some(due_us) = due_us {
            self.memory.wake(slot, due_us);
        }
    }

    /// Makes a finding, unless its entity is to be left in peace.
    fn find(
        &mut self,
        rules: &RuleSet,
        rule: RuleId,
        found: Found,
        quiet: Option<(String, i64)>,
        out: &mut Vec<Finding>,
    ) {
        let Some(compiled) = rules.rules.get(rule as usize) else { return };
        let mut folded = found.folded;
        if let Some((by, for_us)) = quiet {
            match self.quiet(rule, compiled.seed, &by, for_us, found.time_us) {
                Some(earlier) => folded += u64::from(earlier),
                None => {
                    self.stats.folded += 1;
                    return;
                }
            }
        }
        let id =
            FindingId::new(&[compiled.id.as_bytes(), &compiled.meta.version.to_le_bytes(), &found.identity]);
        let risk = compiled.extension.risk.unwrap_or_else(|| compiled.meta.level.risk());
        let risk_total =
            found.entities.iter().map(|entity| self.risk(entity, risk, found.time_us)).max().unwrap_or(risk);
        let mut explanation = found.explanation;
        if explanation.is_empty() {
            explanation = format!("{}: one record matches{}", compiled.title, about(&found.entities));
        }
        out.push(Finding {
            id,
            rule_id: Arc::clone(&compiled.id),
            rule_version: Arc::clone(&compiled.version),
            title: Arc::clone(&compiled.title),
            level: compiled.meta.level,
            tags: Arc::clone(&compiled.tags),
            time_us: found.time_us,
            since_us: found.since_us,
            entities: found.entities,
            risk,
            risk_total,
            observed: found.observed,
            evidence: found.evidence,
            evidence_count: found.evidence_count,
            suppressed_before: folded,
            explanation,
        });
    }

    /// Whether a finding may be made now; how many were folded before it. `None` when it is folded, too.
    fn quiet(&mut self, rule: RuleId, seed: u64, by: &str, for_us: i64, time_us: i64) -> Option<u32> {
        // Under a seed of its own: no group of the rule is taken for it.
        let key = group_key(!seed, by);
        let until_us = time_us.saturating_add(for_us);
        let Some(slot) = self.memory.groups.find(key) else {
            self.put(key, seed, rule, by, Kind::Quiet { until_us, folded: 0 });
            return Some(0);
        };
        self.memory.groups.change(slot, |group| match &mut group.kind {
            Kind::Quiet { until_us: until, folded } if time_us < *until => {
                *folded += 1;
                None
            }
            Kind::Quiet { until_us: until, folded } => {
                *until = until_us;
                Some(std::mem::take(folded))
            }
            _ => Some(0),
        })?
    }

    /// Adds to an entity's risk; its total.
    fn risk(&mut self, entity: &Entity, risk: u32, time_us: i64) -> u32 {
        const HOUR_US: i64 = 3_600_000_000;
        let label = join([&*entity.field, entity.value.as_str()]);
        let key = group_key(0, &label);
        let hour = time_us.div_euclid(HOUR_US);
        let slot =
            self.memory.groups.find(key).unwrap_or_else(|| {
                self.put(key, 0, NO_RULE, &label, Kind::Risk { hours: Vec::with_capacity(1) })
            });
        let total = self.memory.groups.change(slot, |group| {
            let Kind::Risk { hours } = &mut group.kind else { return 0 };
            match hours.iter_mut().find(|(known, _)| *known == hour) {
                Some((_, sum)) => *sum = sum.saturating_add(risk),
                None => hours.push((hour, risk)),
            }
            let latest = hours.iter().map(|(hour, _)| *hour).max().unwrap_or(hour);
            hours.retain(|(hour, _)| *hour > latest - RISK_US / HOUR_US);
            risk_total(hours, time_us)
        });
        total.unwrap_or(risk)
    }
}

fn risk_total(hours: &[(i64, u32)], now_us: i64) -> u32 {
    let from = now_us.saturating_sub(RISK_US).div_euclid(3_600_000_000);
    hours.iter().filter(|(hour, _)| *hour > from).fold(0, |sum, (_, risk)| sum.saturating_add(*risk))
}

fn expires_us(rules: &RuleSet, limits: &Limits, group: &Group) -> i64 {
    expires_of(rules, limits, group.rule, &group.kind)
}

/// When nothing can come of a group any more.
fn expires_of(rules: &RuleSet, limits: &Limits, rule: RuleId, kind: &Kind) -> i64 {
    let compiled = rules.rules.get(rule as usize);
    let after = |time_us: i64, us: i64| time_us.saturating_add(us).saturating_add(limits.lateness_us);
    match kind {
        Kind::Window { entries, .. } => {
            let span_us = match compiled.map(|rule| &rule.body) {
                Some(Body::Correlation(correlation)) => correlation.timespan_us.saturating_mul(2),
                _ => 0,
            };
            after(entries.last().map_or(i64::MIN, |entry| entry.time_us), span_us)
        }
        Kind::Risk { hours } => hours
            .iter()
            .map(|(hour, _)| *hour)
            .max()
            .map_or(i64::MIN, |hour| after(hour * 3_600_000_000, RISK_US)),
        Kind::Quiet { until_us, .. } => after(*until_us, 0),
        kind => beyond::expires_us(compiled.and_then(|rule| rule.extension.finder.as_ref()), kind, limits),
    }
}

/// Values of groups are told apart without case, as selections compare them.
pub(crate) fn group_key(seed: u64, label: &str) -> u128 {
    xxh3_128_with_seed(fold(label).as_bytes(), seed)
}

/// Where fields of a hit come from.
enum Fields<'r> {
    Row(&'r Row<'r>),
    /// The group of a correlation.
    Group(&'r str),
}

impl Fields<'_> {
    fn get(&self, source: &Source) -> Option<String> {
        match (self, source) {
            (Fields::Row(row), Source::Record(field)) => row.get(*field).map(|value| value.text().into_owned()),
            (Fields::Group(label), Source::Group(at)) => label.split(SEPARATOR).nth(*at).map(str::to_owned),
            _ => None,
        }
    }

    /// The values of a group; `None` when one is missing.
    fn label(&self, sources: &[Source]) -> Option<String> {
        let values: Option<Vec<String>> = sources.iter().map(|source| self.get(source)).collect();
        Some(join(values?))
    }

    /// What a correlation computes with.
    fn value(&self, correlation: &Correlated, sources: &[Source]) -> u64 {
        if correlation.kind.is_numeric() {
            let number = match (self, sources.first()) {
                (Fields::Row(row), Some(Source::Record(field))) => {
                    row.get(*field).and_then(|value| value.number())
                }
                (fields, Some(source)) => fields.get(source).and_then(|text| text.parse().ok()),
                _ => None,
            };
            return number.filter(|number: &f64| number.is_finite()).map_or(NO_VALUE, f64::to_bits);
        }
        if correlation.kind == CorrelationKind::ValueCount {
            // Values are told apart without case, as selections compare them.
            return self.label(sources).map_or(NO_VALUE, |label| xxh3_64(fold(&label).as_bytes()) >> 1);
        }
        NO_VALUE
    }
}

/// Columns that every record is asked for.
struct Columns<'a> {
    view: Batch<'a>,
    table: Table,
    seq: IntColumn<'a>,
    ts: IntColumn<'a>,
    arrival: IntColumn<'a>,
    event_name: StrColumn<'a>,
    service: StrColumn<'a>,
}

impl<'a> Columns<'a> {
    fn new(view: Batch<'a>, table: Table) -> Self {
        Columns {
            view,
            table,
            seq: view.int("seq"),
            ts: view.int("ts"),
            arrival: view.int("arrival_ts"),
            event_name: view.str("event_name"),
            service: view.str("service"),
        }
    }

    /// The record. Without sequence numbers records are numbered as they come.
    fn event(&self, row: usize, position: &[i64; 2]) -> Event {
        let last = if self.table == Table::Logs { position[0] } else { position[1] };
        let seq = self.seq.get(row).unwrap_or_else(|| last.saturating_add(1).max(0));
        let ts_us = self.ts.get(row).unwrap_or(0);
        let arrival_us = self.arrival.get(row).unwrap_or(ts_us);
        Event {
            table: self.table,
            seq,
            time_us: ts_us.min(arrival_us),
            arrival_us,
            trace_id: self.view.trace_id(row),
            span_id: self.view.span_id(row),
        }
    }

    fn is_finding(&self, row: usize) -> bool {
        // Only the hub's own: a sender does not escape by a name.
        self.table == Table::Logs
            && self.event_name.get(row) == Some(EVENT_NAME)
            && self.service.get(row) == Some(SERVICE)
    }
}

fn entities_of(rules: &RuleSet, rule: RuleId, row: &Row<'_>) -> Vec<Entity> {
    let fields = rules.rules.get(rule as usize).map_or(&[][..], |rule| rule.entities.as_slice());
    let entity =
        |field: &NamedField| Some(Entity { field: Arc::clone(&field.name), value: text_of(row, field)? });
    fields.iter().filter_map(entity).collect()
}

/// The text of a record's field.
fn text_of(row: &Row<'_>, field: &NamedField) -> Option<String> {
    row.get(field.id).map(|value| value.text().into_owned())
}

fn value_of(entities: &[Entity], field: &NamedField) -> Option<String> {
    entities.iter().find(|entity| entity.field == field.name).map(|entity| entity.value.clone())
}

/// For whom a rule is quiet after a finding, and how long: for what has the same values in the fields of `suppress`, or for
/// the finding's own group.
fn quiet_of(
    compiled: &Compiled,
    group: &str,
    value: impl Fn(&NamedField) -> Option<String>,
) -> Option<(String, i64)> {
    let suppress = compiled.extension.suppress.as_ref()?;
    let by = match compiled.suppress_by.as_slice() {
        [] => group.to_owned(),
        fields => join(fields.iter().map(|field| value(field).unwrap_or_default())),
    };
    Some((by, suppress.for_us))
}

fn evidence(entries: &[Entry], judgement: &Judgement) -> Vec<Evidence> {
    let inside = |entry: &&Entry| entry.time_us >= judgement.from_us && entry.time_us <= judgement.to_us;
    let mut out: Vec<Evidence> = Vec::new();
    for entry in entries.iter().rev().filter(inside) {
        let table = if entry.seq & 1 == 1 { Table::Spans } else { Table::Logs };
        let Entry { time_us, seq, trace_id, .. } = *entry;
        let one = Evidence { table, seq: seq >> 1, time_us, trace_id, span_id: None };
        if !out.contains(&one) {
            out.push(one);
        }
        if out.len() == EVIDENCE_MAX {
            break;
        }
    }
    out.reverse();
    out
}

/// ` for a=b, c=d`.
pub(crate) fn about(entities: &[Entity]) -> String {
    if entities.is_empty() {
        return String::new();
    }
    let parts: Vec<String> =
        entities.iter().map(|entity| format!("{}={}", entity.field, entity.value)).collect();
    format!(" for {}", parts.join(", "))
}

/// A correlation's finding in words.
fn explain(rules: &RuleSet, correlation: &Correlated, judgement: &Judgement, entities: &[Entity]) -> String {
    let titles: Vec<&str> = correlation
        .rules
        .iter()
        .filter_map(|rule| rules.rules.get(*rule as usize).map(|rule| rule.meta.title.as_str()))
        .collect();
    let hits = format!("“{}”", titles.join("”, “"));
    let observed = crate::text::number_text((judgement.observed * 1000.0).round() / 1000.0);
    let fields = correlation.value_names.join(", ");
    let what = match correlation.kind {
        CorrelationKind::EventCount => format!("{observed} records of {hits}"),
        CorrelationKind::ValueCount => format!("{observed} different values of {fields} in {hits}"),
        CorrelationKind::ValueSum => format!("sum of {fields} in {hits} is {observed}"),
        CorrelationKind::ValueAvg => format!("mean of {fields} in {hits} is {observed}"),
        CorrelationKind::ValuePercentile(p) => {
            format!("percentile {} of {fields} in {hits} is {observed}", crate::text::number_text(p))
        }
        CorrelationKind::Temporal => format!("{observed} of {} rules have hits: {hits}", titles.len()),
        CorrelationKind::TemporalOrdered => {
            format!("hits follow one another, of {observed} of {} rules: {hits}", titles.len())
        }
    };
    let limit = match &correlation.when {
        When::Compares(comparisons) => {
            let parts: Vec<String> = comparisons
                .iter()
                .map(|(comparison, number)| {
                    format!("{} {}", comparison.sign(), crate::text::number_text(*number))
                })
                .collect();
            format!("found when {}", parts.join(" and "))
        }
        When::Holds(condition) => format!("found when {condition}"),
    };
    format!(
        "{what} within {}{}, from {} to {}; {limit}",
        show_duration(correlation.timespan_us),
        about(entities),
        show_time(judgement.from_us),
        show_time(judgement.to_us),
    )
}

#[cfg(test)]
mod tests;
