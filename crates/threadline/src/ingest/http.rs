//! OTLP/HTTP: `POST /v1/{logs,traces,metrics}`, protobuf and JSON; replies in the request's format; CORS by setting.
//! Beside it `POST /v1/jsonl`, which takes JSON lines.

use std::sync::Arc;

use axum::body::Body;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use threadline_model::otlp::{Format, Signal, Status, encode_response, encode_status};
use threadline_model::sender::Sender;
use threadline_model::value::write_str;

use super::compression::Encoding;
use super::reply::{code, seconds};
use super::{Content, Delivery, Intake, Receipt, Refusal, body, client_batch_id};
use crate::door::names::reason::endpoint as reason;
use crate::door::notes::Asked;
use crate::door::roles::{self, Port};
use crate::door::{Door, Refused};
use crate::meters::Transport;
use crate::serve::{Handler, discard};

/// Seconds that a browser may remember a preflight.
const PREFLIGHT_MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Content types of JSON lines.
const LINES_TYPES: [&str; 6] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/json-lines",
    "application/x-jsonlines",
    "text/plain",
];

/// A reply, and the first services of which there were records that their sender may not write.
type Answer = (Response<Body>, Vec<String>);

/// OTLP/HTTP and JSON lines.
#[derive(Clone)]
pub(crate) struct Endpoint {
    intake: Arc<Intake>,
    door: Arc<Door>,
    origins: Arc<[String]>,
}

/// OTLP/HTTP into an intake. Browsers may send from `origins` (`*` = any).
pub(crate) fn handler(intake: Arc<Intake>, door: Arc<Door>, origins: Vec<String>) -> Endpoint {
    Endpoint { intake, door, origins: origins.into() }
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let origin = request.headers().get(ORIGIN).cloned();
        let allowed = origin.as_ref().is_none_or(|origin| self.allows(origin));
        let mut response = if allowed {
            self.route(request).await
        } else {
            let message = "browsers may send records from the origins of the setting cors_origins only";
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
        let peer = self.door.peer_of(request.extensions(), request.headers());
        let mut asked = Asked::of(request.method(), request.uri(), request.headers());
        let signal = match request.uri().path() {
            "/v1/logs" => Some(Signal::Logs),
            "/v1/traces" => Some(Signal::Traces),
            "/v1/metrics" => Some(Signal::Metrics),
            "/v1/jsonl" => None,
            path => {
                self.door.unknown(reason::NO_ROUTE, &peer, &asked, StatusCode::NOT_FOUND.as_u16());
                let message = format!(
                    "nothing is at {path}: this port takes OTLP/HTTP at /v1/logs, /v1/traces and /v1/metrics, and \
                     JSON lines at /v1/jsonl"
                );
                discard(request.into_body()).await;
                return failure(format, StatusCode::NOT_FOUND, code::NOT_FOUND, &message);
            }
        };
        match (request.method(), signal) {
            (&Method::POST, signal) => {
                let endpoint = roles::find(Port::Http, "POST", request.uri().path());
                asked.route = Some(endpoint.path);
                let caller = match self.door.admit(endpoint, Port::Http, peer, request.headers(), &asked) {
                    Ok(caller) => caller,
                    Err(refused) => {
                        discard(request.into_body()).await;
                        return not_let_in(format, &refused);
                    }
                };
                let sender = self.door.sender(&caller);
                let (response, misnamed) = match signal {
                    Some(signal) => self.export(signal, request, sender).await,
                    None => self.lines(request, sender).await,
                };
                self.door.misnamed(&caller, &asked, &misnamed);
                response
            }
            (&Method::OPTIONS, _) => preflight(request.headers()),
            _ => {
                let message = "records are sent by POST";
                let status = StatusCode::METHOD_NOT_ALLOWED;
                self.door.unknown(reason::METHOD_NOT_ALLOWED, &peer, &asked, status.as_u16());
                let mut response = failure(format, status, code::UNIMPLEMENTED, message);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
                response
            }
        }
    }

    async fn export(&self, signal: Signal, request: Request<Incoming>, sender: Sender) -> Answer {
        let Some(format) = format_of(request.headers()) else {
            let message = "the content type must be application/x-protobuf or application/json";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return (failure(None, status, code::INVALID_ARGUMENT, message), Vec::new());
        };
        let Some(encoding) = encoding_of(request.headers()) else {
            return (unknown_encoding(format), Vec::new());
        };
        let content = Content::Otlp(signal, format);
        let outcome = self.deliver(content, Transport::Http, encoding, request, sender).await;
        self.intake.count(signal, Transport::Http, &outcome);
        match outcome {
            Ok(receipt) => (success(format, signal, &receipt), receipt.misnamed),
            Err(refusal) => (refused(format, &refusal), Vec::new()),
        }
    }

    async fn lines(&self, request: Request<Incoming>, sender: Sender) -> Answer {
        let content_type = essence_of(request.headers()).unwrap_or_default();
        if !LINES_TYPES.iter().any(|known| known.eq_ignore_ascii_case(content_type)) {
            let message = format!("the content type must be one of {}", LINES_TYPES.join(", "));
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return (failure(None, status, code::INVALID_ARGUMENT, &message), Vec::new());
        }
        let Some(encoding) = encoding_of(request.headers()) else {
            return (unknown_encoding(Format::Json), Vec::new());
        };
        let outcome = self.deliver(Content::Lines, Transport::Jsonl, encoding, request, sender).await;
        self.intake.count(Signal::Logs, Transport::Jsonl, &outcome);
        match outcome {
            Ok(receipt) => {
                let reply = lines_reply(&receipt).into_bytes();
                (respond(StatusCode::OK, Format::Json, reply), receipt.misnamed)
            }
            Err(refusal) => (refused(Format::Json, &refusal), Vec::new()),
        }
    }

    async fn deliver(
        &self,
        content: Content,
        transport: Transport,
        encoding: Encoding,
        request: Request<Incoming>,
        sender: Sender,
    ) -> Result<Receipt, Refusal> {
        let batch_id = client_batch_id(request.headers())?;
        let bytes_max = encoding.received_bytes_max(self.intake.request_bytes_max());
        let (body, lease) = body::read(&self.intake, request.into_body(), bytes_max).await?;
        self.intake.take(Delivery { content, transport, encoding, body, lease, batch_id, sender }).await
    }
}

/// The content type; parameters such as `charset=utf-8` do not matter.
fn essence_of(headers: &HeaderMap) -> Option<&str> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(content_type.split(';').next().unwrap_or_default().trim())
}

/// The OTLP format that the content type names.
fn format_of(headers: &HeaderMap) -> Option<Format> {
    let essence = essence_of(headers)?;
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

fn unknown_encoding(format: Format) -> Response<Body> {
    let message = format!("the content encoding must be one of {}", Encoding::ACCEPTED);
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let mut response = failure(Some(format), status, code::INVALID_ARGUMENT, &message);
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(Encoding::ACCEPTED));
    response
}

/// What is said of lines: `{"accepted":2,"rejected":1,"errors":[{"line":2,"reason":"…"}]}`.
fn lines_reply(receipt: &Receipt) -> String {
    let mut out = format!("{{\"accepted\":{},\"rejected\":{},\"errors\":[", receipt.accepted, receipt.rejected);
    for (at, fault) in receipt.faults.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        out.push_str(&format!("{comma}{{\"line\":{},\"reason\":", fault.line));
        write_str(&mut out, &fault.reason);
        out.push('}');
    }
    out.push_str("]}\n");
    out
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

fn not_let_in(format: Option<Format>, refused: &Refused) -> Response<Body> {
    let format = format.unwrap_or(Format::Json);
    let mut response = respond(refused.http_status(), format, encode_status(format, &refused.status()));
    if let Some(pause) = refused.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(pause)));
    }
    if matches!(refused, Refused::Unauthenticated(_)) {
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"threadline\""));
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
