//! Notices: who is told of an incident, and that it arrives.
//!
//! Vocabulary:
//! - *notice*: what one receiver is told at one time ([`Notice`]); it lies in the *outbox* ([`outbox`]) from the commit of the
//!   transition that causes it until the target has taken it, or it is *dead*;
//! - *receiver*: a name with one *target*, which is a kind of service (PagerDuty, Slack, e-mail, …) and where it is;
//! - *key*: what tells a target that two requests are about the same. It is made of the hub's id, the incident and the
//!   receiver, and never changes between attempts.
//!
//! It does not know how findings become incidents, or who decides that somebody is to be told.

mod notice;
pub(crate) mod outbox;
mod text;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

pub(crate) use notice::{Kind, Notice};

/// Wakes who waits for notices. Clones are the same bell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell(Arc<(Mutex<u64>, Condvar)>);

impl Bell {
    /// Rings: call it when notices have been committed. Without it they are seen a second later.
    pub(crate) fn ring(&self) {
        let mut rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *rung = rung.wrapping_add(1);
        self.0.1.notify_all();
    }

    /// Waits until it has rung since `seen`, or so long; how often it has rung.
    pub(crate) fn wait(&self, seen: u64, most: Duration) -> u64 {
        let rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(rung, most, |rung| *rung == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Address of an incident's page below the hub's own.
pub(crate) fn page_of(public_url: &str, incident: u64) -> String {
    match public_url.trim_end_matches('/') {
        "" => String::new(),
        base => format!("{base}/incidents/{incident}"),
    }
}
