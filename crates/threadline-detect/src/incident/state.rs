//! One incident: its alerts, its state, its clock.

use std::collections::{BTreeMap, BTreeSet};

use super::Labels;
use super::desk::Alert;
use crate::checkpoint::{Reader, RestoreError, Writer};

/// Alerts of an incident that are told apart at most; further ones are counted.
pub(super) const ALERTS_MAX: usize = 10_000;
/// Notes of an incident at most.
pub(super) const NOTES_MAX: usize = 1_000;

/// Where an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Nobody has it.
    Open,
    /// Somebody has it.
    Acknowledged,
    /// Somebody will look at it later.
    Snoozed,
    /// It is over.
    Resolved,
    /// Its alerts are another's.
    Merged,
}

impl State {
    /// All, in order.
    pub const ALL: [State; 5] =
        [State::Open, State::Acknowledged, State::Snoozed, State::Resolved, State::Merged];

    /// Name in records.
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Acknowledged => "acknowledged",
            State::Snoozed => "snoozed",
            State::Resolved => "resolved",
            State::Merged => "merged",
        }
    }

    /// Whether somebody still has to do with it.
    pub fn is_live(self) -> bool {
        !matches!(self, State::Resolved | State::Merged)
    }

    fn read(from: &mut Reader<'_>) -> Result<State, RestoreError> {
        let state = State::ALL.get(usize::from(from.u8()?));
        state.copied().ok_or(RestoreError::Damaged("a state is not known"))
    }
}

/// An alert of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Labels.
    pub labels: Labels,
    /// First and last time, µs.
    pub first_us: i64,
    /// Last time, µs.
    pub last_us: i64,
    /// How often it came.
    pub count: u64,
    /// It is over.
    pub over: bool,
    /// Its end is announced.
    pub announces_end: bool,
    /// It is over only because the incident was resolved.
    pub(super) closed: bool,
}

impl Member {
    pub(super) fn of(alert: &Alert) -> Member {
        Member {
            labels: alert.labels.clone(),
            first_us: alert.at_us,
            last_us: alert.at_us,
            count: 1,
            over: false,
            announces_end: alert.announces_end,
            closed: false,
        }
    }
}

/// A note.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// When, µs.
    pub at_us: i64,
    /// Who.
    pub author: Box<str>,
    /// Text.
    pub text: Box<str>,
}

/// An incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Number, from 1.
    pub id: u64,
    /// Hash of route and group: what makes alerts one incident.
    pub key: u64,
    /// Name of its route.
    pub route: Box<str>,
    /// Labels of its group.
    pub group: Labels,
    /// Where it is.
    pub state: State,
    /// Since when, µs.
    pub since_us: i64,
    /// When it was opened first, µs.
    pub opened_us: i64,
    /// Who has it; empty: nobody.
    pub assignee: Box<str>,
    /// Alerts by fingerprint.
    pub alerts: BTreeMap<u64, Member>,
    /// Alerts that were one too many to be told apart.
    pub more: u64,
    /// Notes.
    pub notes: Vec<Note>,
    /// End of the snooze, µs.
    pub snoozed_until_us: i64,
    /// Whose alerts it has now.
    pub merged_into: u64,
    /// Time spent in each state before `since_us`, µs.
    pub(super) spent_us: [i64; 5],
    /// Next message, µs.
    pub(super) due_us: Option<i64>,
    /// Since the last message alerts have joined.
    pub(super) news: bool,
    pub(super) first_told_us: Option<i64>,
    pub(super) last_told_us: Option<i64>,
    /// Steps of escalation taken.
    pub(super) steps: u32,
    /// Messages per receiver.
    pub(super) told: BTreeMap<Box<str>, u32>,
    /// Receivers for whom it is open.
    pub(super) open_for: BTreeSet<Box<str>>,
    pub(super) last_alert_us: i64,
}

impl Incident {
    pub(super) fn new(id: u64, key: u64, route: &str, group: Labels, now_us: i64) -> Incident {
        Incident {
            id,
            key,
            route: route.into(),
            group,
            state: State::Open,
            since_us: now_us,
            opened_us: now_us,
            assignee: Box::from(""),
            alerts: BTreeMap::new(),
            more: 0,
            notes: Vec::new(),
            snoozed_until_us: 0,
            merged_into: 0,
            spent_us: [0; 5],
            due_us: None,
            news: false,
            first_told_us: None,
            last_told_us: None,
            steps: 0,
            told: BTreeMap::new(),
            open_for: BTreeSet::new(),
            last_alert_us: now_us,
        }
    }

    /// Time spent in a state until now, µs.
    pub fn spent_us(&self, state: State, now_us: i64) -> i64 {
        let before = self.spent_us.get(state as usize).copied().unwrap_or(0);
        let current = if state == self.state { now_us.saturating_sub(self.since_us).max(0) } else { 0 };
        before.saturating_add(current)
    }

    /// Alerts that are not over.
    pub fn active(&self) -> impl Iterator<Item = &Member> {
        self.alerts.values().filter(|member| !member.over)
    }

    /// Whether somebody was told of it, or would have been, since it was opened last.
    pub(super) fn is_told(&self) -> bool {
        self.first_told_us.is_some() || !self.open_for.is_empty()
    }

    /// Its alerts are active again: those that had not ended by themselves, or all where all had.
    pub(super) fn reopen(&mut self) {
        let any = self.alerts.values().any(|alert| alert.closed);
        for alert in self.alerts.values_mut().filter(|alert| alert.closed || !any) {
            // An end that was announced is not announced again.
            alert.announces_end &= any;
            (alert.over, alert.closed) = (false, false);
        }
    }

    /// Severity of the worst alert, as its label says: critical, high, medium, low, informational.
    pub fn severity(&self) -> &str {
        let order = ["informational", "low", "medium", "high", "critical"];
        let rank = |name: &str| order.iter().position(|known| *known == name);
        let labels = self.alerts.values().filter_map(|member| member.labels.get("severity"));
        labels.max_by_key(|name| rank(name)).map_or("", |name| name)
    }

    pub(super) fn set_state(&mut self, to: State, now_us: i64) {
        let now_us = now_us.max(self.since_us);
        if let Some(spent) = self.spent_us.get_mut(self.state as usize) {
            *spent = spent.saturating_add(now_us - self.since_us);
        }
        self.state = to;
        self.since_us = now_us;
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u64(self.id);
        out.u64(self.key);
        out.text(&self.route);
        write_labels(out, &self.group);
        out.u8(self.state as u8);
        out.i64(self.since_us);
        out.i64(self.opened_us);
        out.text(&self.assignee);
        out.list(self.alerts.iter(), |out, (fingerprint, member)| {
            out.u64(*fingerprint);
            write_labels(out, &member.labels);
            out.i64(member.first_us);
            out.i64(member.last_us);
            out.u64(member.count);
            out.flag(member.over);
            out.flag(member.announces_end);
            out.flag(member.closed);
        });
        out.u64(self.more);
        out.list(self.notes.iter(), |out, note| {
            out.i64(note.at_us);
            out.text(&note.author);
            out.text(&note.text);
        });
        out.i64(self.snoozed_until_us);
        out.u64(self.merged_into);
        self.spent_us.iter().for_each(|spent| out.i64(*spent));
        out.option(self.due_us, Writer::i64);
        out.flag(self.news);
        out.option(self.first_told_us, Writer::i64);
        out.option(self.last_told_us, Writer::i64);
        out.u32(self.steps);
        out.list(self.told.iter(), |out, (receiver, count)| {
            out.text(receiver);
            out.u32(*count);
        });
        out.list(self.open_for.iter(), |out, receiver| out.text(receiver));
        out.i64(self.last_alert_us);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Incident, RestoreError> {
        let (id, key) = (from.u64()?, from.u64()?);
        let route = from.text()?;
        let group = read_labels(from)?;
        let mut incident = Incident::new(id, key, &route, group, 0);
        incident.state = State::read(from)?;
        incident.since_us = from.i64()?;
        incident.opened_us = from.i64()?;
        incident.assignee = from.text()?;
        let alerts = from.list(|from| {
            let fingerprint = from.u64()?;
            let labels = read_labels(from)?;
            let (first_us, last_us, count) = (from.i64()?, from.i64()?, from.u64()?);
            let (over, announces_end, closed) = (from.flag()?, from.flag()?, from.flag()?);
            Ok((fingerprint, Member { labels, first_us, last_us, count, over, announces_end, closed }))
        })?;
        incident.alerts = alerts.into_iter().collect();
        incident.more = from.u64()?;
        incident.notes =
            from.list(|from| Ok(Note { at_us: from.i64()?, author: from.text()?, text: from.text()? }))?;
        incident.snoozed_until_us = from.i64()?;
        incident.merged_into = from.u64()?;
        for spent in &mut incident.spent_us {
            *spent = from.i64()?;
        }
        incident.due_us = from.option(Reader::i64)?;
        incident.news = from.flag()?;
        incident.first_told_us = from.option(Reader::i64)?;
        incident.last_told_us = from.option(Reader::i64)?;
        incident.steps = from.u32()?;
        incident.told = from.list(|from| Ok((from.text()?, from.u32()?)))?.into_iter().collect();
        incident.open_for = from.list(Reader::text)?.into_iter().collect();
        incident.last_alert_us = from.i64()?;
        Ok(incident)
    }
}

fn write_labels(out: &mut Writer, labels: &Labels) {
    out.list(labels.iter(), |out, (name, value)| {
        out.text(name);
        out.text(value);
    });
}

fn read_labels(from: &mut Reader<'_>) -> Result<Labels, RestoreError> {
    Ok(from.list(|from| Ok((from.text()?, from.text()?)))?.into_iter().collect())
}
