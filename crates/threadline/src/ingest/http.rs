//! OTLP/HTTP: `POST /v1/{logs,traces,metrics}`, protobuf and JSON; replies in the request's format; CORS by setting.

use std::sync::Arc;

use axum::body::Body;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN,
    RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use threadline_model::otlp::{Format, Signal, Status, encode_response, encode_status};

use super::compression::Encoding;
use super::reply::{code, seconds};
use super::{Delivery, Intake, Receipt, Refusal, body, client_batch_id};
use crate::meters::Transport;
use crate::serve::Handler;

/// Seconds that a browser may remember a preflight.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// OTLP/HTTP.
#[derive(Clone)]
pub(crate) struct Endpoint {
    intake: Arc<Intake>,
    origins: Arc<[String]>,
}

/// OTLP/HTTP into an intake. Browsers may send from `origins` (`*` = any).
pub(crate) fn handler(intake: Arc<Intake>, origins: Vec<String>) -> Endpoint {
    Endpoint { intake, origins: origins.into() }
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let origin = request.headers().get(ORIGIN).cloned();
        let allowed = origin.as_ref().is_none_or(|origin| self.allows(origin));
        let mut response = if allowed {
            self.route(request).await
        } else {
            let message = "browsers may send OTLP from the origins of the setting cors_origins only";
            failure(format_of(request.headers()), StatusCode::FORBIDDEN, code::PERMISSION_DENIED, message)
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            if allowed {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            }
        }
        response
    }
}

impl Endpoint {
    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Body> {
        let format = format_of(request.headers());
        let signal = match request.uri().path() {
            "/v1/logs" => Signal::Logs,
            "/v1/traces" => Signal::Traces,
            "/v1/metrics" => Signal::Metrics,
            path => {
                let message = format!(
                    "nothing is at {path}: this port takes OTLP/HTTP at /v1/logs, /v1/traces and /v1/metrics"
                );
                return failure(format, StatusCode::NOT_FOUND, code::NOT_FOUND, &message);
            }
        };
        match *request.method() {
            Method::POST => self.export(signal, request).await,
            Method::OPTIONS => preflight(request.headers()),
            _ => {
                let message = "OTLP/HTTP is sent by POST";
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let mut response = failure(format, status, code::UNIMPLEMENTED, message);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
                response
            }
        }
    }

    async fn export(&self, signal: Signal, request: Request<Incoming>) -> Response<Body> {
        let Some(format) = format_of(request.headers()) else {
            let message = "the content type must be application/x-protobuf or application/json";
            return failure(None, StatusCode::UNSUPPORTED_MEDIA_TYPE, code::INVALID_ARGUMENT, message);
        };
        let Some(encoding) = encoding_of(request.headers()) else {
            let message = format!("the content encoding must be one of {}", Encoding::ACCEPTED);
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            let mut response = failure(Some(format), status, code::INVALID_ARGUMENT, &message);
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(Encoding::ACCEPTED));
            return response;
        };
        let outcome = self.deliver(signal, format, encoding, request).await;
        self.intake.count(signal, Transport::Http, &outcome);
        match outcome {
            Ok(receipt) => success(format, signal, &receipt),
            Err(refusal) => refused(format, &refusal),
        }
    }

    async fn deliver(
        &self,
        signal: Signal,
        format: Format,
        encoding: Encoding,
        request: Request<Incoming>,
    ) -> Result<Receipt, Refusal> {
        let batch_id = client_batch_id(request.headers())?;
        let bytes_max = encoding.received_bytes_max(self.intake.request_bytes_max());
        let (body, lease) = body::read(&self.intake, request.into_body(), bytes_max).await?;
        let transport = Transport::Http;
        self.intake.take(Delivery { signal, transport, format, encoding, body, lease, batch_id }).await
    }
}

/// The format that the content type names; parameters such as `charset=utf-8` do not matter.
fn format_of(headers: &HeaderMap) -> Option<Format> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Format::Protobuf)
    } else if essence.eq_ignore_ascii_case("application/json") {
        Some(Format::Json)
    } else {
        None
    }
}

fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    let mut values = headers.get_all(CONTENT_ENCODING).into_iter();
    let first = values.next().map_or(Some(Encoding::Identity), |value| Encoding::parse(value.to_str().ok()?));
    first.filter(|_| values.next().is_none())
}

fn content_type(format: Format) -> HeaderValue {
    HeaderValue::from_static(match format {
        Format::Protobuf => "application/x-protobuf",
        Format::Json => "application/json",
    })
}

fn respond(status: StatusCode, format: Format, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type(format));
    response
}

fn success(format: Format, signal: Signal, receipt: &Receipt) -> Response<Body> {
    respond(StatusCode::OK, format, encode_response(format, signal, receipt.rejected, &receipt.message))
}

fn refused(format: Format, refusal: &Refusal) -> Response<Body> {
    let message = refusal.to_string();
    let body = encode_status(format, &refusal.status(&message));
    let mut response = respond(refusal.http_status(), format, body);
    if let Some(pause) = refusal.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(pause)));
    }
    response
}

/// A request that is not looked into further. JSON where its format is unknown.
fn failure(format: Option<Format>, status: StatusCode, code: i32, message: &str) -> Response<Body> {
    let format = format.unwrap_or(Format::Json);
    respond(status, format, encode_status(format, &Status { code, message, ..Status::default() }))
}

fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    if asked.contains_key(ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE);
        if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
    response
}
