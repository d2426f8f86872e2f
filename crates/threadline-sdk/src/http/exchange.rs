//! One exchange: what is known of it, and the records that it leaves.

use std::time::Instant;

use http::{HeaderMap, StatusCode};
use tracing::{Level, Span};

use crate::events::{
    EndpointUnknown, EndpointUnknownOptional, EndpointUnknownReason, Outcome, RequestFinished,
    RequestFinishedOptional,
};

/// Status of a request whose caller went away before it was answered, as proxies have it.
const CLIENT_CLOSED: u16 = 499;

/// How an exchange ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// With an answer, which was sent as a whole.
    Answered,
    /// Nothing was answered, or not all of it.
    Failed { status: u16, error_type: &'static str },
    /// The caller went away.
    Gone,
}

/// An exchange. Dropped without an end, its caller went away.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) start: Instant,
    pub(super) span: Span,
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) route: Option<String>,
    pub(super) client: String,
    pub(super) user_agent: Option<String>,
    pub(super) user: Option<String>,
    pub(super) grpc: bool,
    /// The host that was asked for is none of this server's.
    pub(super) unknown_host: bool,
    /// Of the answer's head.
    pub(super) status: Option<StatusCode>,
    pub(super) grpc_status: Option<u16>,
    pub(super) done: bool,
}

impl Exchange {
    /// Takes what the headers or trailers of an answer say.
    pub(super) fn answered(&mut self, headers: &HeaderMap) {
        if self.grpc
            && let Some(status) = headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok())
        {
            self.grpc_status = Some(status);
        }
    }

    /// Leaves the records.
    pub(super) fn finish(&mut self, end: End) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        let span = self.span.clone();
        span.in_scope(|| self.record(&end));
    }

    fn record(&self, end: &End) {
        let answered = self.status.map(|status| status.as_u16());
        let status = match end {
            End::Answered => answered.unwrap_or(200),
            End::Failed { status, .. } => answered.unwrap_or(*status),
            End::Gone => answered.unwrap_or(CLIENT_CLOSED),
        };
        let error_type = match end {
            End::Answered => self.fault(status),
            End::Failed { error_type, .. } => Some((*error_type).to_owned()),
            End::Gone => Some("client_disconnected".to_owned()),
        };
        let outcome = match end {
            End::Gone => Outcome::Unknown,
            End::Failed { .. } => Outcome::Failure,
            End::Answered if is_denied(status, self.grpc_status) => Outcome::Denied,
            End::Answered if error_type.is_some() => Outcome::Failure,
            End::Answered => Outcome::Success,
        };
        // A `u16` would become a text on its way.
        self.span.record("http.response.status_code", i64::from(status));
        if let Some(error_type) = &error_type {
            self.span.record("error.type", error_type.as_str());
        }
        // A caller's own mistake is no error of this span.
        let own =
            status >= 500 || matches!(end, End::Failed { .. }) || self.grpc_status.is_some_and(is_own_fault);
        if own {
            self.span.record("otel.status_code", "ERROR");
        }
        let duration_s = self.start.elapsed().as_secs_f64();
        let level = match status {
            500.. => Level::ERROR,
            401 | 403 | 404 | 429 => Level::WARN,
            _ => Level::INFO,
        };
        let shown = self.route.as_deref().unwrap_or(&self.path);
        let message = format!("{} {shown} {status} in {:.1} ms", self.method, duration_s * 1e3);
        RequestFinished {
            outcome,
            http_request_method: self.method.into(),
            url_path: (&*self.path).into(),
            http_response_status_code: i64::from(status),
            duration_s,
            client_address: (&*self.client).into(),
            optional: RequestFinishedOptional {
                http_route: self.route.as_deref().map(Into::into),
                error_type: error_type.map(Into::into),
                user_id: self.user.as_deref().map(Into::into),
                user_agent_original: self.user_agent.as_deref().map(Into::into),
            },
        }
        .emit_at(level, &message);
        if matches!(end, End::Answered) {
            self.unknown_endpoint(status);
        }
    }

    fn unknown_endpoint(&self, status: u16) {
        let reason = match status {
            _ if self.unknown_host => EndpointUnknownReason::UnknownHost,
            404 if self.route.is_none() => EndpointUnknownReason::NoRoute,
            405 => EndpointUnknownReason::MethodNotAllowed,
            _ if self.grpc_status == Some(12) => EndpointUnknownReason::NoRoute,
            _ => return,
        };
        EndpointUnknown {
            outcome: Outcome::Failure,
            reason,
            http_request_method: self.method.into(),
            url_path: (&*self.path).into(),
            http_response_status_code: i64::from(status),
            client_address: (&*self.client).into(),
            optional: EndpointUnknownOptional {
                user_agent_original: self.user_agent.as_deref().map(Into::into),
            },
        }
        .emit(&format!("{} {}: {}", self.method, self.path, reason.as_str()));
    }

    /// `error.type` of an answer: its status where that says failure.
    fn fault(&self, status: u16) -> Option<String> {
        match self.grpc_status {
            Some(code) if code > 0 => Some(grpc_name(code).to_owned()),
            _ => (status >= 400).then(|| status.to_string()),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish(End::Gone);
    }
}

fn is_denied(status: u16, grpc: Option<u16>) -> bool {
    matches!(status, 401 | 403 | 429) || matches!(grpc, Some(7 | 8 | 16))
}

/// Codes of gRPC that are the server's fault, by OpenTelemetry's conventions.
fn is_own_fault(code: u16) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}

fn grpc_name(code: u16) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(usize::from(code)).copied().unwrap_or("UNKNOWN")
}
