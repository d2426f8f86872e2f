//! What the desk says: transitions for the audit trail, messages for receivers.

use super::state::State;

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Something changed: the audit record.
    Transition(Transition),
    /// Somebody is to be told.
    Message(Message),
}

/// A change. Numbers are without gaps, over all incidents.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Number, from 1.
    pub number: u64,
    /// When, µs.
    pub at_us: i64,
    /// The incident; 0: none, as for silences.
    pub incident: u64,
    /// Who: a person, or `threadline`.
    pub actor: Box<str>,
    /// What.
    pub what: What,
}

/// What changed.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A new incident.
    Opened,
    /// A new alert joined it.
    Joined {
        /// Its fingerprint.
        alert: u64,
    },
    /// One of its alerts is over.
    Ended {
        /// Its fingerprint.
        alert: u64,
    },
    /// It is in another state.
    Moved {
        /// From.
        from: State,
        /// To.
        to: State,
        /// Why, in words.
        why: Box<str>,
        /// Of a snooze: its end, µs.
        until_us: Option<i64>,
    },
    /// Somebody has it now.
    Assigned {
        /// Who; empty: nobody.
        to: Box<str>,
    },
    /// A note.
    Noted {
        /// Text.
        text: Box<str>,
    },
    /// A step of escalation was taken.
    Escalated {
        /// Which, from 1.
        step: u32,
    },
    /// Its alerts went over to another.
    Merged {
        /// Which.
        into: u64,
    },
    /// A silence was made.
    Silenced {
        /// Its number.
        silence: u64,
        /// Which alerts, as matchers are written.
        matchers: Vec<Box<str>>,
        /// From, µs.
        from_us: i64,
        /// Until, µs; excluded.
        until_us: i64,
        /// Why.
        comment: Box<str>,
    },
    /// A silence was ended before its time.
    Unsilenced {
        /// Its number.
        silence: u64,
    },
    /// A silence ended in its time.
    SilenceEnded {
        /// Its number.
        silence: u64,
    },
    /// Alerts found no place, because too many incidents are open.
    Overflowed {
        /// How many so far.
        alerts: u64,
    },
}

/// Why somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is new, or open again.
    Trigger,
    /// Further alerts joined it.
    Update,
    /// It is still there.
    Repeat,
    /// Nobody acknowledged.
    Escalation,
    /// Somebody acknowledged.
    Acknowledge,
    /// It is over.
    Resolve,
}

impl Reason {
    /// Name in records.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Trigger => "trigger",
            Reason::Update => "update",
            Reason::Repeat => "repeat",
            Reason::Escalation => "escalation",
            Reason::Acknowledge => "acknowledge",
            Reason::Resolve => "resolve",
        }
    }
}

/// Somebody is to be told. The key of an incident and receiver is the same in all of them; numbers say the order.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// When it was decided, µs.
    pub at_us: i64,
    /// The incident.
    pub incident: u64,
    /// The receiver.
    pub receiver: Box<str>,
    /// Why.
    pub reason: Reason,
    /// Which message of this incident to this receiver it is, from 1: with the incident, its idempotency key.
    pub number: u32,
}
