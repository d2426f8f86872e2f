//! Counters of the door, for `/metrics`. Lock-free; nothing here fails.

use super::names::reason;
use crate::meters::Counter;

/// Counters of the journal and of what it is told.
#[derive(Debug, Default)]
pub(crate) struct DoorMeters {
    /// Requests that came with a good token or certificate, or needed none.
    pub(crate) admitted: Counter,
    /// Requests that were not let in, by [`REJECTIONS`].
    rejected: [Counter; REJECTIONS.len()],
    /// Requests whose sender may not do that.
    pub(crate) denied: Counter,
    /// Services, request by request, that their sender may not write as.
    pub(crate) misnamed: Counter,
    /// Handshakes that succeeded.
    pub(crate) handshakes: Counter,
    /// Handshakes that failed, by [`HANDSHAKE_FAILURES`].
    handshakes_failed: [Counter; HANDSHAKE_FAILURES.len()],
    /// Own records that are kept.
    pub(crate) notes_written: Counter,
    /// Notes that found the queue full.
    pub(crate) notes_unqueued: Counter,
    /// Other notes that were dropped.
    pub(crate) notes_dropped: Counter,
}

/// Reasons of [`DoorMeters::rejected`].
pub(crate) const REJECTIONS: [&str; 7] = [
    reason::authn::MISSING,
    reason::authn::MALFORMED,
    reason::authn::EXPIRED,
    reason::authn::UNKNOWN_KEY,
    reason::authn::REVOKED,
    reason::authn::BAD_CREDENTIALS,
    reason::authn::LOCKED,
];

/// Reasons of failed handshakes.
pub(crate) const HANDSHAKE_FAILURES: [&str; 10] = [
    reason::tls::CLIENT_CERT_MISSING,
    reason::tls::EXPIRED,
    reason::tls::UNTRUSTED,
    reason::tls::REVOKED,
    reason::tls::NAME_MISMATCH,
    reason::tls::PROTOCOL_VERSION,
    reason::tls::CIPHER,
    reason::tls::PLAINTEXT,
    reason::tls::TIMEOUT,
    reason::tls::ALERT,
];

impl DoorMeters {
    /// Requests that were not let in for this reason.
    pub(crate) fn rejected(&self, reason: &str) -> Option<&Counter> {
        REJECTIONS.iter().zip(&self.rejected).find(|(name, _)| **name == reason).map(|(_, counter)| counter)
    }

    /// Handshakes that failed for this reason.
    pub(crate) fn handshakes_failed(&self, reason: &str) -> Option<&Counter> {
        let named = HANDSHAKE_FAILURES.iter().zip(&self.handshakes_failed).find(|(name, _)| **name == reason);
        named.map(|(_, counter)| counter)
    }
}
