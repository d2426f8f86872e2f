//! Incidents: from findings to something that people work with, as a state machine.
//!
//! Vocabulary:
//! - *alert*: a finding with labels ([`Alert`]); the same labels are the same alert, its *fingerprint* is their hash;
//! - *route*: where in the tree an alert belongs ([`Route`]): how it is grouped, who is told, when it escalates;
//! - *incident*: the alerts of one group of one route ([`Incident`]);
//! - *muted*: an alert that is silenced, inhibited or in a maintenance window: it is kept, nobody is told;
//! - *event*: what comes out ([`Event`]): a *transition*, which is the audit record, or a *message* to a receiver.
//!
//! It does not know clocks, receivers' wire formats or where events are stored: [`Desk::step`] and [`Desk::command`] take
//! the time and return events, in the order in which they must be committed. Whoever commits them with the checkpoint
//! loses none and doubles none.

mod desk;
mod event;
mod matcher;
mod policy;
mod state;

pub use desk::{Alert, Changes, Command, Counters, Desk, Preview, Refusal};
pub use event::{Event, Message, Reason, Transition, What};
pub use matcher::{Matcher, MatcherError};
pub use policy::{Inhibition, Maintenance, Policy, PolicyError, Route, Silence, Step};
pub use state::{Incident, Member, Note, State};

/// Labels of an alert, an incident, or a group.
pub type Labels = std::collections::BTreeMap<Box<str>, Box<str>>;

/// The hash of labels.
pub fn fingerprint(labels: &Labels) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for (name, value) in labels {
        for text in [name, value] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    hash.digest()
}
