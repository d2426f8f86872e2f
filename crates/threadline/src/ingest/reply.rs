//! How the outcome of a delivery is said over HTTP and over gRPC (OTLP 1.11, "Failures" and "Throttling").

use std::time::Duration;

use threadline_model::otlp::Status;

use super::Refusal;
use crate::door::Refused;

/// gRPC status codes that the intake replies with.
pub(crate) mod code {
    pub(crate) const INVALID_ARGUMENT: i32 = 3;
    pub(crate) const DEADLINE_EXCEEDED: i32 = 4;
    pub(crate) const NOT_FOUND: i32 = 5;
    pub(crate) const PERMISSION_DENIED: i32 = 7;
    pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(crate) const UNIMPLEMENTED: i32 = 12;
    pub(crate) const UNAVAILABLE: i32 = 14;
    pub(crate) const UNAUTHENTICATED: i32 = 16;
}

impl Refused {
    /// The status in full.
    pub(crate) fn status(&self) -> Status<'_> {
        let code = match self {
            Refused::Unauthenticated(_) => code::UNAUTHENTICATED,
            Refused::Forbidden(_) => code::PERMISSION_DENIED,
            Refused::Locked { .. } => code::RESOURCE_EXHAUSTED,
        };
        Status { code, message: self.detail(), retry_delay: self.retry_after(), violation: None }
    }
}

impl Refusal {
    /// The HTTP status.
    pub(crate) fn http_status(&self) -> http::StatusCode {
        match self {
            Refusal::Malformed { .. } => http::StatusCode::BAD_REQUEST,
            Refusal::TooLarge(_) => http::StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Slow(_) => http::StatusCode::REQUEST_TIMEOUT,
            Refusal::Busy { .. } => http::StatusCode::TOO_MANY_REQUESTS,
            Refusal::Unavailable { .. } => http::StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// When to send again; `None` when that is of no use.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Busy { retry_after, .. } | Refusal::Unavailable { retry_after, .. } => Some(*retry_after),
            Refusal::Malformed { .. } | Refusal::TooLarge(_) | Refusal::Slow(_) => None,
        }
    }

    /// The status in full. `message` is the refusal's text.
    pub(crate) fn status<'a>(&'a self, message: &'a str) -> Status<'a> {
        let code = match self {
            Refusal::Malformed { .. } => code::INVALID_ARGUMENT,
            // Without a retry delay OTLP senders do not send it again.
            Refusal::TooLarge(_) => code::RESOURCE_EXHAUSTED,
            Refusal::Slow(_) => code::DEADLINE_EXCEEDED,
            Refusal::Busy { .. } | Refusal::Unavailable { .. } => code::UNAVAILABLE,
        };
        let violation = match self {
            Refusal::Malformed { field, reason } if !field.is_empty() => {
                Some((field.as_str(), reason.as_str()))
            }
            _ => None,
        };
        Status { code, message, retry_delay: self.retry_after(), violation }
    }
}

/// A pause in whole seconds, at least one, for `Retry-After`.
pub(crate) fn seconds(pause: Duration) -> u64 {
    (pause.as_secs() + u64::from(pause.subsec_nanos() > 0)).max(1)
}
