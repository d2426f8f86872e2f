//! The state machine: alerts and commands in, transitions and messages out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::event::{Event, Message, Reason, Transition, What};
use super::matcher::{self, Matcher};
use super::policy::{Policy, PolicyError, Route, Silence};
use super::state::{ALERTS_MAX, Incident, Member, NOTES_MAX, Note, State};
use super::{Labels, fingerprint};
use crate::checkpoint::{Reader, RestoreError, Writer};

const MAGIC: [u8; 4] = *b"TLIN";
/// What of a desk is no incident, and one incident, where they are kept in parts.
const MAGIC_HEAD: [u8; 4] = *b"TLIH";
const MAGIC_INCIDENT: [u8; 4] = *b"TLII";
const VERSION: u16 = 1;
/// Labels of an alert at most, and bytes of one.
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 1024;
/// Bytes of a note, a comment, a name at most.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Silences at most.
const SILENCES_MAX: usize = 10_000;
/// Who acts where no person does.
const SELF: &str = "threadline";

/// A finding, or a series that is unusual, with labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// `severity`, `rule`, `service`, `team`, entities…
    pub labels: Labels,
    /// When it happened, µs.
    pub at_us: i64,
    /// It is over.
    pub over: bool,
    /// Its end will be announced, by an alert that is over: until then it is there, however quiet it is.
    pub announces_end: bool,
}

/// What people do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// "I have it."
    Acknowledge {
        /// Which.
        incident: u64,
    },
    /// Give it to somebody; empty: to nobody.
    Assign {
        /// Which.
        incident: u64,
        /// Whom.
        to: Box<str>,
    },
    /// Write a note.
    Note {
        /// Which.
        incident: u64,
        /// Text.
        text: Box<str>,
    },
    /// Not now.
    Snooze {
        /// Which.
        incident: u64,
        /// Until when, µs.
        until_us: i64,
    },
    /// It is over.
    Resolve {
        /// Which.
        incident: u64,
    },
    /// It is not.
    Reopen {
        /// Which.
        incident: u64,
    },
    /// It is the same as another.
    Merge {
        /// Which.
        incident: u64,
        /// The other.
        into: u64,
    },
    /// Do not tell of these for a time.
    Silence {
        /// Which; at least one.
        matchers: Vec<Matcher>,
        /// From, µs.
        from_us: i64,
        /// Until, µs.
        until_us: i64,
        /// Why.
        comment: Box<str>,
    },
    /// Tell of them again.
    Unsilence {
        /// Number of the silence.
        silence: u64,
    },
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such incident, or silence.
    Unknown(u64),
    /// The incident is in a state in which that cannot be done.
    State {
        /// The incident.
        incident: u64,
        /// Its state.
        state: State,
        /// What cannot be done.
        command: &'static str,
    },
    /// The command itself is wrong.
    Invalid(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown(id) => write!(f, "there is no {id}"),
            Refusal::State { incident, state, command } => {
                write!(f, "incident {incident} is {}: it cannot be {command}", state.name())
            }
            Refusal::Invalid(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a silence would mute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Incidents with alerts that it mutes: number, alerts muted, alerts in all. Closed ones that are still kept, too: what
    /// it would have muted.
    pub incidents: Vec<(u64, usize, usize)>,
    /// Live incidents that would be muted as a whole.
    pub whole: usize,
}

/// What was counted since the start; a checkpoint keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Alerts that came.
    pub alerts: u64,
    /// Alerts with too many, or too long labels.
    pub refused: u64,
    /// Alerts that found no place.
    pub overflowed: u64,
    /// Messages.
    pub messages: u64,
}

/// What is other than it was when it was asked last, for those who keep a desk in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Incidents whose bytes ([`Desk::incident_bytes`]) differ.
    pub incidents: BTreeSet<u64>,
    /// Incidents that are forgotten.
    pub removed: BTreeSet<u64>,
    /// Where alerts went: position among those of the last step, and incident. One alert may have several places, or none.
    pub placed: Vec<(usize, u64)>,
    /// Whether [`Desk::head`] differs.
    pub head: bool,
}

impl Changes {
    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        !self.head && self.incidents.is_empty() && self.removed.is_empty()
    }
}

/// All incidents.
#[derive(Clone, Debug)]
pub struct Desk {
    policy: Policy,
    incidents: BTreeMap<u64, Incident>,
    /// The newest incident of a key.
    by_key: BTreeMap<u64, u64>,
    silences: BTreeMap<u64, Silence>,
    /// Incidents that are live: counted, not looked for, as a storm opens many.
    live: usize,
    next_incident: u64,
    next_silence: u64,
    next_number: u64,
    counters: Counters,
    changes: Changes,
    /// Since when it is looked at, µs: no time before that was quiet. Of this run, and so no part of a checkpoint.
    resumed_us: i64,
}

/// The same policy, and the same state; what has changed since when is no part of it.
impl PartialEq for Desk {
    fn eq(&self, other: &Desk) -> bool {
        self.policy == other.policy && self.checkpoint() == other.checkpoint()
    }
}

/// Live incidents with active alerts that a step ends, by fingerprint.
type Ending = BTreeMap<u64, BTreeSet<u64>>;

/// Which alerts mute others, per inhibition: values of the equal labels.
struct Muting {
    sources: Vec<(BTreeSet<Vec<Box<str>>>, BTreeSet<Vec<Box<str>>>)>,
}

impl Desk {
    /// A desk with nothing on it.
    ///
    /// # Errors
    /// A policy that makes no sense.
    pub fn new(policy: Policy) -> Result<Desk, PolicyError> {
        policy.check()?;
        Ok(Desk {
            policy,
            incidents: BTreeMap::new(),
            by_key: BTreeMap::new(),
            silences: BTreeMap::new(),
            live: 0,
            next_incident: 1,
            next_silence: 1,
            next_number: 1,
            counters: Counters::default(),
            changes: Changes { head: true, ..Changes::default() },
            resumed_us: i64::MIN,
        })
    }

    /// Says that nobody has looked until now, as after a restart: that nothing came in the meantime is not known.
    pub fn resume(&mut self, now_us: i64) {
        self.resumed_us = now_us;
    }

    /// What has changed since this was called last.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Another policy; incidents of routes that it lacks go to the root.
    ///
    /// # Errors
    /// A policy that makes no sense; then the old one stays.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), PolicyError> {
        policy.check()?;
        self.policy = policy;
        Ok(())
    }

    /// An incident that is about to change.
    fn change(&mut self, id: u64) -> Option<&mut Incident> {
        let incident = self.incidents.get_mut(&id)?;
        self.changes.incidents.insert(id);
        Some(incident)
    }

    /// Makes an incident the one that alerts of a key go to.
    fn point(&mut self, key: u64, id: u64) {
        let before = self.by_key.insert(key, id);
        self.changes.incidents.extend(before);
        self.changes.incidents.insert(id);
    }

    /// Incidents, by number.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// An incident.
    pub fn incident(&self, id: u64) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// The incident that has the alerts of one: itself, or that at the end of its merges.
    pub fn holder(&self, id: u64) -> Option<&Incident> {
        self.end_of_chain(self.incidents.get(&id)?)
    }

    /// Silences, by number.
    pub fn silences(&self) -> impl Iterator<Item = &Silence> {
        self.silences.values()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes alerts, then does what is due: messages, escalation, ends of snoozes, resolving by itself. Time does not go
    /// back; call it every second or so.
    pub fn step(&mut self, alerts: &[Alert], now_us: i64) -> Vec<Event> {
        let mut events = Vec::new();
        self.changes.placed.clear();
        let mut ending = self.ending(alerts);
        for (position, alert) in alerts.iter().enumerate() {
            self.take(position, alert, &mut ending, now_us, &mut events);
        }
        self.look(now_us, &mut events);
        events
    }

    /// Where alerts that are over are active: they are looked for once, as an incident may have got an alert by a merge or
    /// under another policy.
    fn ending(&self, alerts: &[Alert]) -> Ending {
        let over = alerts.iter().filter(|alert| alert.over);
        let mut ending: Ending = over.map(|alert| (fingerprint(&alert.labels), BTreeSet::new())).collect();
        if ending.is_empty() {
            return ending;
        }
        for incident in self.incidents.values().filter(|incident| incident.state.is_live()) {
            for (mark, _) in incident.alerts.iter().filter(|(_, member)| !member.over) {
                if let Some(incidents) = ending.get_mut(mark) {
                    incidents.insert(incident.id);
                }
            }
        }
        ending
    }

    fn take(
        &mut self,
        position: usize,
        alert: &Alert,
        ending: &mut Ending,
        now_us: i64,
        events: &mut Vec<Event>,
    ) {
        self.counters.alerts += 1;
        self.changes.head = true;
        let long = |text: &str| text.len() > LABEL_BYTES_MAX;
        if alert.labels.len() > LABELS_MAX || alert.labels.iter().any(|(name, value)| long(name) || long(value))
        {
            self.counters.refused += 1;
            return;
        }
        let mark = fingerprint(&alert.labels);
        if alert.over {
            for id in ending.get_mut(&mark).map(std::mem::take).unwrap_or_default() {
                let what = self.change(id).and_then(|incident| member(incident, mark, alert));
                if let Some(what) = what {
                    self.changes.placed.push((position, id));
                    self.audit(events, now_us, id, SELF, what);
                }
            }
            return;
        }
        let mut routes = Vec::new();
        self.policy.root.find(&alert.labels, &mut routes);
        let places: Vec<Place> = routes.into_iter().map(|route| Place::of(route, &alert.labels)).collect();
        for place in places {
            let incident = self.join(alert, mark, &place, now_us, events);
            self.changes.placed.extend(incident.map(|incident| (position, incident)));
            if let (Some(incident), Some(incidents)) = (incident, ending.get_mut(&mark)) {
                incidents.insert(incident);
            }
        }
    }

    /// Puts an alert where it belongs; the incident, if there is one.
    fn join(
        &mut self,
        alert: &Alert,
        mark: u64,
        place: &Place,
        now_us: i64,
        events: &mut Vec<Event>,
    ) -> Option<u64> {
        let found = self.current(place.key);
        let known = found.filter(|incident| incident.state.is_live()).map(|incident| incident.id);
        let closed = found.filter(|incident| {
            let soon = now_us.saturating_sub(incident.since_us) <= place.reopen_us;
            // Not where its own group has a newer one.
            incident.state == State::Resolved && soon && self.by_key.get(&incident.key) == Some(&incident.id)
        });
        let closed = closed.map(|incident| incident.id);
        let id = match (known, closed) {
            (Some(id), _) => id,
            (None, Some(id)) => {
                self.set_state(id, State::Open, "it came back", SELF, now_us, events);
                self.restart(id, now_us.saturating_add(place.wait_us));
                if let Some(incident) = self.change(id) {
                    incident.alerts.values_mut().for_each(|alert| alert.closed = false);
                }
                id
            }
            (None, None) => {
                if self.live >= self.policy.open_max {
                    self.counters.overflowed += 1;
                    if self.counters.overflowed.is_power_of_two() {
                        let alerts = self.counters.overflowed;
                        self.audit(events, now_us, 0, SELF, What::Overflowed { alerts });
                    }
                    return None;
                }
                self.open(place, now_us, events)
            }
        };
        let incident = self.change(id)?;
        let what = member(incident, mark, alert);
        incident.last_alert_us = incident.last_alert_us.max(now_us);
        let joined = matches!(what, Some(What::Joined { .. }));
        if joined && incident.first_told_us.is_some() {
            incident.news = true;
            let earliest = incident.last_told_us.map_or(now_us, |told| told.saturating_add(place.interval_us));
            let due = earliest.max(now_us);
            incident.due_us = Some(incident.due_us.map_or(due, |own| own.min(due)));
        }
        if let Some(what) = what {
            self.audit(events, now_us, id, SELF, what);
        }
        Some(id)
    }

    /// The incident that alerts of a key go to: the newest, or what it was merged into.
    fn current(&self, key: u64) -> Option<&Incident> {
        self.end_of_chain(self.incidents.get(self.by_key.get(&key)?)?)
    }

    /// The incident that has the alerts of one that may be merged.
    fn end_of_chain<'a>(&'a self, mut incident: &'a Incident) -> Option<&'a Incident> {
        // Incidents are merged into live ones only, so that there is no circle; a bound all the same.
        for _ in 0..self.incidents.len() {
            if incident.state != State::Merged {
                break;
            }
            incident = self.incidents.get(&incident.merged_into)?;
        }
        Some(incident)
    }

    fn open(&mut self, place: &Place, now_us: i64, events: &mut Vec<Event>) -> u64 {
        let id = self.next_incident;
        self.next_incident += 1;
        let mut incident = Incident::new(id, place.key, &place.route, place.group.clone(), now_us);
        incident.due_us = Some(now_us.saturating_add(place.wait_us));
        self.incidents.insert(id, incident);
        self.live += 1;
        self.point(place.key, id);
        self.audit(events, now_us, id, SELF, What::Opened);
        id
    }

    /// Begins anew with telling people.
    fn restart(&mut self, id: u64, due_us: i64) {
        if let Some(incident) = self.change(id) {
            incident.due_us = Some(due_us);
            incident.first_told_us = None;
            incident.steps = 0;
            incident.news = false;
        }
    }

    fn look(&mut self, now_us: i64, events: &mut Vec<Event>) {
        let ended = self.silences.values().filter(|silence| silence.until_us <= now_us);
        let ended: Vec<u64> = ended.map(|silence| silence.id).collect();
        for silence in ended {
            self.silences.remove(&silence);
            self.audit(events, now_us, 0, SELF, What::SilenceEnded { silence });
        }
        let live = self.incidents.values().filter(|incident| incident.state.is_live());
        let ids: Vec<u64> = live.map(|incident| incident.id).collect();
        for id in &ids {
            self.wake(*id, now_us, events);
            self.end(*id, None, now_us, events);
        }
        // After all that ended has ended: what is over mutes nothing.
        let muting = self.muting();
        for id in ids {
            self.tell_if_due(id, &muting, now_us, events);
            self.end(id, Some(&muting), now_us, events);
        }
        self.forget(now_us);
    }

    /// Forgets what was closed long ago. A merged incident is kept as long as that which has its alerts: it says where
    /// further ones go, and its timeline is a part of the other's.
    fn forget(&mut self, now_us: i64) {
        let keep_us = self.policy.keep_us;
        let resolved = self.incidents.values().filter(|incident| {
            incident.state == State::Resolved && now_us.saturating_sub(incident.since_us) > keep_us
        });
        let mut gone: BTreeSet<u64> = resolved.map(|incident| incident.id).collect();
        let merged = self.incidents.values().filter(|incident| incident.state == State::Merged);
        let merged =
            merged.filter(|incident| self.end_of_chain(incident).is_none_or(|end| gone.contains(&end.id)));
        let merged: Vec<u64> = merged.map(|incident| incident.id).collect();
        gone.extend(merged);
        for id in gone {
            let Some(Incident { key, .. }) = self.incidents.remove(&id) else { continue };
            self.changes.incidents.remove(&id);
            self.changes.removed.insert(id);
            if self.by_key.get(&key) == Some(&id) {
                self.by_key.remove(&key);
            }
        }
    }

    fn wake(&mut self, id: u64, now_us: i64, events: &mut Vec<Event>) {
        let Some(incident) = self.incidents.get(&id) else { return };
        if incident.state == State::Snoozed && incident.snoozed_until_us <= now_us {
            self.set_state(id, State::Open, "the snooze is over", SELF, now_us, events);
            self.restart(id, now_us);
        }
    }

    /// Resolves what is over by itself: what somebody was told of, or nobody is to be told of; with `muting` also what is
    /// muted as a whole. All else is told first.
    fn end(&mut self, id: u64, muting: Option<&Muting>, now_us: i64, events: &mut Vec<Event>) {
        let Some(incident) = self.incidents.get(&id).filter(|incident| incident.state.is_live()) else {
            return;
        };
        let route = self.route(&incident.route);
        let quiet_since_us = incident.last_alert_us.max(self.resumed_us);
        let quiet = route.auto_resolve_us > 0
            && now_us.saturating_sub(quiet_since_us) >= route.auto_resolve_us
            && !incident.active().any(|alert| alert.announces_end);
        let over = incident.active().next().is_none() && incident.more == 0;
        let why = match (over, quiet) {
            (true, _) => "all of its alerts are over",
            (false, true) => "nothing new came",
            (false, false) => return,
        };
        let free = match muting {
            Some(muting) => !incident.is_told() && self.is_muted_whole(incident, muting, now_us),
            None => incident.is_told() || route.receivers.is_empty(),
        };
        if free {
            self.resolve(id, why, SELF, now_us, events);
        }
    }

    fn resolve(&mut self, id: u64, why: &str, actor: &str, now_us: i64, events: &mut Vec<Event>) {
        if let Some(incident) = self.change(id) {
            for alert in incident.alerts.values_mut().filter(|alert| !alert.over) {
                (alert.over, alert.closed) = (true, true);
            }
            incident.more = 0;
        }
        self.set_state(id, State::Resolved, why, actor, now_us, events);
        self.tell_those_who_know(id, Reason::Resolve, now_us, events);
        if let Some(incident) = self.change(id) {
            incident.open_for.clear();
            incident.due_us = None;
        }
    }

    fn tell_if_due(&mut self, id: u64, muting: &Muting, now_us: i64, events: &mut Vec<Event>) {
        let Some(incident) = self.incidents.get(&id) else { return };
        if !matches!(incident.state, State::Open | State::Acknowledged) {
            return;
        }
        let due = incident.due_us.is_some_and(|due| due <= now_us);
        let steps = incident.steps as usize;
        let route = self.route(&incident.route);
        let step = route.escalation.get(steps).filter(|step| {
            let since = incident.first_told_us.map(|told| now_us.saturating_sub(told));
            incident.state == State::Open && since.is_some_and(|since| since >= step.after_us)
        });
        if !due && step.is_none() || self.is_muted_whole(incident, muting, now_us) {
            return;
        }
        let (receivers, repeat_us) = (route.receivers.clone(), route.repeat_us);
        let escalated = step.map(|step| step.receivers.clone());
        let acknowledged = incident.state == State::Acknowledged;
        let reason = match (incident.first_told_us, incident.news, incident.state) {
            (None, _, _) => Some(Reason::Trigger),
            (_, true, _) => Some(Reason::Update),
            (_, false, State::Open) => Some(Reason::Repeat),
            _ => None,
        };
        if due {
            if let Some(reason) = reason {
                receivers.iter().for_each(|receiver| self.tell(id, receiver, reason, now_us, events));
                if reason == Reason::Trigger && acknowledged {
                    self.tell_those_who_know(id, Reason::Acknowledge, now_us, events);
                }
            }
            if let Some(incident) = self.change(id) {
                incident.first_told_us.get_or_insert(now_us);
                incident.last_told_us = Some(now_us);
                incident.news = false;
                incident.due_us = (incident.state == State::Open).then(|| now_us.saturating_add(repeat_us));
            }
        }
        if let Some(receivers) = escalated {
            let step = steps as u32 + 1;
            if let Some(incident) = self.change(id) {
                incident.steps = step;
            }
            self.audit(events, now_us, id, SELF, What::Escalated { step });
            receivers.iter().for_each(|receiver| self.tell(id, receiver, Reason::Escalation, now_us, events));
        }
    }

    fn tell(&mut self, id: u64, receiver: &str, reason: Reason, now_us: i64, events: &mut Vec<Event>) {
        let Some(incident) = self.change(id) else { return };
        // Whoever does not know of it is told that it is there, whatever the reason.
        let knows = !incident.open_for.insert(receiver.into());
        let reason = match reason {
            Reason::Update | Reason::Repeat if !knows => Reason::Trigger,
            reason => reason,
        };
        let number = incident.told.entry(receiver.into()).or_default();
        *number += 1;
        let number = *number;
        self.changes.head = true;
        self.counters.messages += 1;
        events.push(Event::Message(Message {
            at_us: now_us,
            incident: id,
            receiver: receiver.into(),
            reason,
            number,
        }));
    }

    fn tell_those_who_know(&mut self, id: u64, reason: Reason, now_us: i64, events: &mut Vec<Event>) {
        let receivers = self.incidents.get(&id).map(|incident| incident.open_for.clone()).unwrap_or_default();
        receivers.iter().for_each(|receiver| self.tell(id, receiver, reason, now_us, events));
    }

    fn route(&self, name: &str) -> &Route {
        // A route that a new policy does not have any more: the root takes its incidents.
        self.policy.root.named(name).unwrap_or(&self.policy.root)
    }

    fn muting(&self) -> Muting {
        let rules = self.policy.inhibitions.iter();
        let live = || self.incidents.values().filter(|incident| incident.state.is_live());
        let sources = rules.map(|rule| {
            let (mut any, mut pure) = (BTreeSet::new(), BTreeSet::new());
            for labels in live().flat_map(Incident::active).map(|alert| &alert.labels) {
                if matcher::all(&rule.source, labels) {
                    let values = equals(&rule.equal, labels);
                    if !matcher::all(&rule.target, labels) {
                        pure.insert(values.clone());
                    }
                    any.insert(values);
                }
            }
            (any, pure)
        });
        Muting { sources: sources.collect() }
    }

    fn is_muted(&self, labels: &Labels, muting: &Muting, now_us: i64) -> bool {
        let silenced = self.silences.values().any(|silence| silence.mutes(labels, now_us));
        let planned = self.policy.maintenance.iter().any(|window| window.mutes(labels, now_us));
        let inhibited = self.policy.inhibitions.iter().zip(&muting.sources).any(|(rule, (any, pure))| {
            // An alert of both sides is muted by those of the source side alone.
            let sources = if matcher::all(&rule.source, labels) { pure } else { any };
            matcher::all(&rule.target, labels) && sources.contains(&equals(&rule.equal, labels))
        });
        silenced || planned || inhibited
    }

    /// Whether all alerts of an incident are muted: those that are active, or all where none is.
    fn is_muted_whole(&self, incident: &Incident, muting: &Muting, now_us: i64) -> bool {
        let is_over = incident.active().next().is_none();
        let mut alerts = incident.alerts.values().filter(|alert| is_over || !alert.over);
        alerts.all(|alert| self.is_muted(&alert.labels, muting, now_us))
    }

    /// What a silence with these matchers would mute, of what is open and of what is kept.
    pub fn preview(&self, matchers: &[Matcher]) -> Preview {
        let mut preview = Preview::default();
        for incident in self.incidents.values() {
            let all = incident.alerts.len();
            let muted = incident.alerts.values().filter(|alert| matcher::all(matchers, &alert.labels)).count();
            if muted > 0 {
                preview.incidents.push((incident.id, muted, all));
                preview.whole += usize::from(muted == all && incident.state.is_live());
            }
        }
        preview
    }

    /// Does what somebody wants done.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub fn command(&mut self, actor: &str, command: Command, now_us: i64) -> Result<Vec<Event>, Refusal> {
        if actor.is_empty() || actor.len() > LABEL_BYTES_MAX {
            return Err(Refusal::Invalid("a command needs an actor, of at most 1024 bytes"));
        }
        let mut events = Vec::new();
        match command {
            Command::Acknowledge { incident } => {
                self.need(incident, "acknowledged", |state| matches!(state, State::Open | State::Snoozed))?;
                self.set_state(incident, State::Acknowledged, "", actor, now_us, &mut events);
                self.tell_those_who_know(incident, Reason::Acknowledge, now_us, &mut events);
                let mut unassigned = false;
                if let Some(incident) = self.change(incident) {
                    // What has not been told at all, or is news, is still told.
                    let told = incident.first_told_us.is_some() && !incident.news;
                    incident.due_us = incident.due_us.filter(|_| !told);
                    unassigned = incident.assignee.is_empty();
                    if unassigned {
                        incident.assignee = actor.into();
                    }
                }
                if unassigned {
                    self.audit(&mut events, now_us, incident, actor, What::Assigned { to: actor.into() });
                }
            }
            Command::Assign { incident, to } => {
                self.need(incident, "assigned", State::is_live)?;
                if to.len() > LABEL_BYTES_MAX {
                    return Err(Refusal::Invalid("an assignee has at most 1024 bytes"));
                }
                if let Some(incident) = self.change(incident) {
                    incident.assignee = to.clone();
                }
                self.audit(&mut events, now_us, incident, actor, What::Assigned { to });
            }
            Command::Note { incident, text } => self.note(incident, actor, text, now_us, &mut events)?,
            Command::Snooze { incident, until_us } => {
                self.need(incident, "snoozed", State::is_live)?;
                if until_us <= now_us {
                    return Err(Refusal::Invalid("a snooze must end in the future"));
                }
                if let Some(incident) = self.change(incident) {
                    incident.snoozed_until_us = until_us;
                }
                self.set_state(incident, State::Snoozed, "", actor, now_us, &mut events);
            }
            Command::Resolve { incident } => {
                self.need(incident, "resolved", State::is_live)?;
                self.resolve(incident, "", actor, now_us, &mut events);
            }
            Command::Reopen { incident } => {
                self.need(incident, "reopened", |state| state == State::Resolved)?;
                let key = self.incidents.get(&incident).map_or(0, |incident| incident.key);
                if self.current(key).is_some_and(|current| current.id != incident && current.state.is_live()) {
                    return Err(Refusal::Invalid(
                        "another incident of the same group is open: merge, or look there",
                    ));
                }
                self.set_state(incident, State::Open, "", actor, now_us, &mut events);
                self.restart(incident, now_us);
                self.point(key, incident);
                if let Some(incident) = self.change(incident) {
                    incident.last_alert_us = now_us;
                    incident.reopen();
                }
            }
            Command::Merge { incident, into } => self.merge(incident, into, actor, now_us, &mut events)?,
            Command::Silence { matchers, from_us, until_us, comment } => {
                let silence = Silence {
                    id: self.next_silence,
                    matchers,
                    from_us,
                    until_us,
                    author: actor.into(),
                    comment,
                };
                self.silence(silence, now_us, &mut events)?;
            }
            Command::Unsilence { silence } => {
                self.silences.remove(&silence).ok_or(Refusal::Unknown(silence))?;
                self.changes.head = true;
                self.audit(&mut events, now_us, 0, actor, What::Unsilenced { silence });
            }
        }
        Ok(events)
    }

    fn need(&self, id: u64, command: &'static str, fits: impl Fn(State) -> bool) -> Result<&Incident, Refusal> {
        let incident = self.incidents.get(&id).ok_or(Refusal::Unknown(id))?;
        let state = incident.state;
        if fits(state) { Ok(incident) } else { Err(Refusal::State { incident: id, state, command }) }
    }

    fn note(
        &mut self,
        id: u64,
        actor: &str,
        text: Box<str>,
        now_us: i64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let incident = self.change(id).ok_or(Refusal::Unknown(id))?;
        if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(Refusal::Invalid("a note has from 1 to 16384 bytes"));
        }
        if incident.notes.len() >= NOTES_MAX {
            return Err(Refusal::Invalid("an incident has at most 1000 notes"));
        }
        incident.notes.push(Note { at_us: now_us, author: actor.into(), text: text.clone() });
        self.audit(events, now_us, id, actor, What::Noted { text });
        Ok(())
    }

    fn merge(
        &mut self,
        id: u64,
        into: u64,
        actor: &str,
        now_us: i64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        self.need(id, "merged", State::is_live)?;
        self.need(into, "merged into", State::is_live)?;
        if id == into {
            return Err(Refusal::Invalid("an incident cannot be merged into itself"));
        }
        self.set_state(id, State::Merged, "", actor, now_us, events);
        self.audit(events, now_us, id, actor, What::Merged { into });
        self.tell_those_who_know(id, Reason::Resolve, now_us, events);
        let Some(from) = self.change(id) else { return Ok(()) };
        from.open_for.clear();
        from.due_us = None;
        from.merged_into = into;
        let (alerts, more, last_us) =
            (std::mem::take(&mut from.alerts), std::mem::take(&mut from.more), from.last_alert_us);
        let Some(target) = self.change(into) else { return Ok(()) };
        target.more += more;
        target.last_alert_us = target.last_alert_us.max(last_us);
        for (mark, alert) in alerts {
            if target.alerts.len() >= ALERTS_MAX && !target.alerts.contains_key(&mark) {
                target.more += alert.count;
                continue;
            }
            let own = target.alerts.entry(mark).or_insert_with(|| Member { count: 0, ..alert.clone() });
            own.count += alert.count;
            own.first_us = own.first_us.min(alert.first_us);
            own.last_us = own.last_us.max(alert.last_us);
            own.over &= alert.over;
            own.announces_end |= alert.announces_end;
        }
        Ok(())
    }

    fn silence(&mut self, silence: Silence, now_us: i64, events: &mut Vec<Event>) -> Result<(), Refusal> {
        if silence.matchers.is_empty() || silence.matchers.len() > LABELS_MAX {
            return Err(Refusal::Invalid("a silence needs from 1 to 64 matchers"));
        }
        if silence.matchers.iter().all(|matcher| matcher.matches(&Labels::new())) {
            return Err(Refusal::Invalid(
                "the matchers match what has no labels: the silence would mute everything",
            ));
        }
        if silence.until_us <= now_us.max(silence.from_us) {
            return Err(Refusal::Invalid("a silence must end in the future, and after it begins"));
        }
        if silence.comment.trim().is_empty() || silence.comment.len() > TEXT_BYTES_MAX {
            return Err(Refusal::Invalid("a silence needs a comment: why"));
        }
        if self.silences.len() >= SILENCES_MAX {
            return Err(Refusal::Invalid("there are 10000 silences: end some"));
        }
        self.next_silence += 1;
        let what = What::Silenced {
            silence: silence.id,
            matchers: silence.matchers.iter().map(|matcher| matcher.to_string().into()).collect(),
            from_us: silence.from_us,
            until_us: silence.until_us,
            comment: silence.comment.clone(),
        };
        let author = silence.author.clone();
        self.silences.insert(silence.id, silence);
        self.audit(events, now_us, 0, &author, what);
        Ok(())
    }

    fn set_state(&mut self, id: u64, to: State, why: &str, actor: &str, now_us: i64, events: &mut Vec<Event>) {
        let Some(incident) = self.change(id) else { return };
        let from = incident.state;
        incident.set_state(to, now_us);
        let until_us = (to == State::Snoozed).then_some(incident.snoozed_until_us);
        self.live = self.live.saturating_sub(usize::from(from.is_live())) + usize::from(to.is_live());
        self.audit(events, now_us, id, actor, What::Moved { from, to, why: why.into(), until_us });
    }

    fn audit(&mut self, events: &mut Vec<Event>, at_us: i64, incident: u64, actor: &str, what: What) {
        let number = self.next_number;
        self.next_number += 1;
        self.changes.head = true;
        events.push(Event::Transition(Transition { number, at_us, incident, actor: actor.into(), what }));
    }

    /// All that is known, as bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC, VERSION);
        self.write_head(&mut out);
        out.list(self.incidents.values(), |out, incident| self.write_incident(out, incident));
        out.finish()
    }

    /// Goes on from a checkpoint, under a policy that may be another.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(policy: Policy, bytes: &[u8]) -> Result<Desk, RestoreError> {
        let mut from = Reader::new(MAGIC, VERSION, bytes)?;
        let mut desk = Desk::read_head(policy, &mut from)?;
        for (incident, current) in from.list(read_incident)? {
            desk.put(incident, current);
        }
        from.end()?;
        Ok(desk)
    }

    /// All that is known but for the incidents, as bytes: with those of [`Desk::incident_bytes`] it is the checkpoint in
    /// parts.
    pub fn head(&self) -> Vec<u8> {
        let mut out = Writer::new(MAGIC_HEAD, VERSION);
        self.write_head(&mut out);
        out.finish()
    }

    /// An incident as bytes.
    pub fn incident_bytes(&self, id: u64) -> Option<Vec<u8>> {
        let incident = self.incidents.get(&id)?;
        let mut out = Writer::new(MAGIC_INCIDENT, VERSION);
        self.write_incident(&mut out, incident);
        Some(out.finish())
    }

    /// Goes on from a head and incidents, in any order, under a policy that may be another.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore_parts<B: AsRef<[u8]>>(
        policy: Policy,
        head: &[u8],
        incidents: impl IntoIterator<Item = B>,
    ) -> Result<Desk, RestoreError> {
        let mut from = Reader::new(MAGIC_HEAD, VERSION, head)?;
        let mut desk = Desk::read_head(policy, &mut from)?;
        from.end()?;
        for bytes in incidents {
            let mut from = Reader::new(MAGIC_INCIDENT, VERSION, bytes.as_ref())?;
            let (incident, current) = read_incident(&mut from)?;
            from.end()?;
            desk.put(incident, current);
        }
        Ok(desk)
    }

    fn write_head(&self, out: &mut Writer) {
        let Counters { alerts, refused, overflowed, messages } = self.counters;
        let numbers =
            [self.next_incident, self.next_silence, self.next_number, alerts, refused, overflowed, messages];
        numbers.iter().for_each(|number| out.u64(*number));
        out.list(self.silences.values(), |out, silence| {
            out.u64(silence.id);
            out.list(silence.matchers.iter(), |out, matcher| out.text(&matcher.to_string()));
            out.i64(silence.from_us);
            out.i64(silence.until_us);
            out.text(&silence.author);
            out.text(&silence.comment);
        });
    }

    fn read_head(policy: Policy, from: &mut Reader<'_>) -> Result<Desk, RestoreError> {
        let mut desk = Desk::new(policy).map_err(|_| RestoreError::Settings("policy, which makes no sense"))?;
        desk.changes = Changes::default();
        (desk.next_incident, desk.next_silence, desk.next_number) = (from.u64()?, from.u64()?, from.u64()?);
        desk.counters = Counters {
            alerts: from.u64()?,
            refused: from.u64()?,
            overflowed: from.u64()?,
            messages: from.u64()?,
        };
        let silences = from.list(|from| {
            let id = from.u64()?;
            let matchers = from.list(|from| {
                Matcher::parse(&from.text()?).map_err(|_| RestoreError::Damaged("a matcher is none"))
            })?;
            let (from_us, until_us) = (from.i64()?, from.i64()?);
            Ok(Silence { id, matchers, from_us, until_us, author: from.text()?, comment: from.text()? })
        })?;
        desk.silences = silences.into_iter().map(|silence| (silence.id, silence)).collect();
        Ok(desk)
    }

    fn write_incident(&self, out: &mut Writer, incident: &Incident) {
        out.flag(self.by_key.get(&incident.key) == Some(&incident.id));
        incident.write(out);
    }

    fn put(&mut self, incident: Incident, current: bool) {
        self.live += usize::from(incident.state.is_live());
        if current {
            self.by_key.insert(incident.key, incident.id);
        }
        self.incidents.insert(incident.id, incident);
    }
}

/// An incident, and whether alerts of its key go to it.
fn read_incident(from: &mut Reader<'_>) -> Result<(Incident, bool), RestoreError> {
    let current = from.flag()?;
    Ok((Incident::read(from)?, current))
}

/// Where an alert goes: taken out of the policy, so that the desk can change.
struct Place {
    route: Box<str>,
    key: u64,
    group: Labels,
    wait_us: i64,
    interval_us: i64,
    reopen_us: i64,
}

impl Place {
    fn of(route: &Route, labels: &Labels) -> Place {
        let own = route.group_by.iter().filter_map(|name| labels.get_key_value(name));
        let group: Labels = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut key = xxhash_rust::xxh3::Xxh3::new();
        key.update(route.name.as_bytes());
        key.update(&fingerprint(&group).to_le_bytes());
        Place {
            route: route.name.clone(),
            key: key.digest(),
            group,
            wait_us: route.wait_us,
            interval_us: route.interval_us,
            reopen_us: route.reopen_us,
        }
    }
}

fn equals(names: &[Box<str>], labels: &Labels) -> Vec<Box<str>> {
    names.iter().map(|name| labels.get(name).cloned().unwrap_or_default()).collect()
}

/// Puts an alert among an incident's; what changed by it.
fn member(incident: &mut Incident, mark: u64, alert: &Alert) -> Option<What> {
    let room = incident.alerts.len() < ALERTS_MAX;
    match incident.alerts.get_mut(&mark) {
        Some(known) => {
            let (was, at_us) = (known.over, alert.at_us);
            (known.over, known.closed) = (alert.over, false);
            known.announces_end |= alert.announces_end;
            known.first_us = known.first_us.min(at_us);
            known.last_us = known.last_us.max(at_us);
            known.count += u64::from(!alert.over);
            match (was, alert.over) {
                (false, true) => Some(What::Ended { alert: mark }),
                (true, false) => Some(What::Joined { alert: mark }),
                _ => None,
            }
        }
        None if alert.over => None,
        None if room => {
            incident.alerts.insert(mark, Member::of(alert));
            Some(What::Joined { alert: mark })
        }
        None => {
            incident.more += 1;
            None
        }
    }
}
