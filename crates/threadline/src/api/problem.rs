//! Errors as problem details (RFC 9457).

use axum::body::Body;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};
use threadline_query::QueryError;
use threadline_query::lang::ParseError;

use crate::door::Refused;

/// What went wrong, for a reply.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// Last part of the type's URI.
    kind: &'static str,
    title: &'static str,
    detail: String,
    more: Map<String, Value>,
    allow: Option<String>,
    retry_after_s: Option<u64>,
    /// Says how to authenticate (RFC 6750).
    challenge: Option<&'static str>,
}

/// Prefix of the types' URIs.
const TYPE_PREFIX: &str = "urn:threadline:problem:";

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            more: Map::new(),
            allow: None,
            retry_after_s: None,
            challenge: None,
        }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    fn retry(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A parameter, or a member of the body, makes no sense.
    pub(crate) fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let detail = format!("{name}: {}", detail.into());
        Self::new(StatusCode::BAD_REQUEST, "bad-parameter", "A parameter is wrong", detail).with("field", name)
    }

    /// The search of a parameter does not parse.
    pub(crate) fn search(name: &str, error: &ParseError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-search", "The search does not parse", error.to_string())
            .with("field", name)
            .with("at", error.at)
            .with("len", error.len)
    }

    /// The body makes no sense.
    pub(crate) fn body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-body", "The request's body is wrong", detail)
    }

    /// The body has more bytes than are taken.
    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        let detail = format!("at most {bytes_max} bytes are taken");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The request's body is too large", detail)
    }

    /// The body is of a type that is not taken.
    pub(crate) fn content_type(detail: impl Into<String>) -> Self {
        let title = "The content type is not taken";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", title, detail)
    }

    /// The request is not for this host.
    pub(crate) fn host(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "host-not-allowed", "The Host header names another host", detail)
    }

    /// The caller is not let in.
    pub(crate) fn refused(refused: &Refused) -> Self {
        let (kind, title) = match refused {
            Refused::Unauthenticated(_) => ("unauthenticated", "It is not known who you are"),
            Refused::Forbidden(_) => ("forbidden", "You may not do this"),
            Refused::Locked { .. } => ("too-many-failures", "Too many failed attempts"),
        };
        let problem = Self::new(refused.http_status(), kind, title, refused.detail());
        let retry_after_s = refused.retry_after().map(crate::ingest::reply::seconds);
        let challenge = matches!(refused, Refused::Unauthenticated(_)).then_some("Bearer realm=\"threadline\"");
        Self { retry_after_s, challenge, ..problem }
    }

    /// Who was let in would not be let in any more.
    pub(crate) fn ended() -> Self {
        let detail = "the token or the session that this was opened by is good no longer";
        Self::new(StatusCode::UNAUTHORIZED, "ended", "You are let in no longer", detail)
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Nothing is there.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// The path has other methods.
    pub(crate) fn method(allow: String) -> Self {
        let detail = format!("this path takes {allow}");
        let title = "The method is not allowed";
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", title, detail);
        Self { allow: Some(allow), ..problem }
    }

    /// Too many are at it.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many queries", detail).retry(1)
    }

    /// What is to be recorded cannot be.
    pub(crate) fn unrecorded() -> Self {
        let detail = "so many audit records wait to be kept that there is no place for this query's: ask again later; \
                      /healthz says whether the hub takes records";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unrecorded", "The query could not be recorded", detail)
            .retry(1)
    }

    /// It is in a state in which that cannot be done.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "That cannot be done now", detail)
    }

    /// The hub does not keep incidents, or not at the moment.
    pub(crate) fn no_incidents(detail: impl Into<String>) -> Self {
        let title = "Incidents are not there";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no-incidents", title, detail).retry(5)
    }

    /// The hub is stopping.
    pub(crate) fn stopping() -> Self {
        let detail = "the hub is stopping: ask again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "The hub is stopping", detail).retry(5)
    }

    /// A bug here.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The hub failed", detail)
    }

    /// Members of the JSON object.
    pub(crate) fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("type".to_owned(), format!("{TYPE_PREFIX}{}", self.kind).into());
        object.insert("title".to_owned(), self.title.into());
        object.insert("status".to_owned(), self.status.as_u16().into());
        object.insert("detail".to_owned(), self.detail.clone().into());
        object.extend(self.more.clone());
        Value::Object(object)
    }

    /// As a reply.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.json().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allow) = self.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let detail = error.to_string();
        match error {
            QueryError::Invalid(_) => {
                Problem::new(StatusCode::BAD_REQUEST, "bad-query", "The query makes no sense", detail)
            }
            QueryError::Timeout => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "query-timeout", "The query took too long", detail)
            }
            QueryError::Cancelled => Problem::stopping(),
            QueryError::TooExpensive(_) => {
                let title = "The query needs more memory than it may have";
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "query-too-expensive", title, detail)
            }
            QueryError::Store(error) => {
                tracing::error!(%error, "a query failed in the store");
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "store", "The store failed", detail)
            }
            QueryError::Internal(_) => {
                tracing::error!(%detail, "a query failed");
                Problem::internal(detail)
            }
        }
    }
}
