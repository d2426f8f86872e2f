//! OTLP/gRPC: unary calls framed by hand over HTTP/2 (gRPC over HTTP/2: a 5-byte prefix, then the message; the status
//! in trailers). By hand because a message goes to the decoder as the bytes that came, is decompressed off the
//! reactor within the limit, and is accounted for while it comes in, which a generated server does not do.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use threadline_model::otlp::{Format, Signal, Status, encode_response, encode_status};
use threadline_model::sender::Sender;

use super::compression::Encoding;
use super::reply::code;
use super::{Content, Delivery, Intake, Receipt, Refusal, body, client_batch_id};
use crate::door::Door;
use crate::door::names::reason::endpoint as reason;
use crate::door::notes::Asked;
use crate::door::roles::{self, Port};
use crate::meters::Transport;
use crate::serve::{Handler, discard};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Texts in trailers are cut at this length: clients bound the size of headers, some at 8 KiB.
const MESSAGE_BYTES_MAX: usize = 1024;

/// OTLP/gRPC.
#[derive(Clone)]
pub(crate) struct Endpoint {
    intake: Arc<Intake>,
    door: Arc<Door>,
}

/// OTLP/gRPC into an intake.
pub(crate) fn handler(intake: Arc<Intake>, door: Arc<Door>) -> Endpoint {
    Endpoint { intake, door }
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Some(response) = not_grpc(&request) {
            return response;
        }
        let peer = self.door.peer_of(request.extensions(), request.headers());
        let mut asked = Asked::of(request.method(), request.uri(), request.headers());
        let path = request.uri().path();
        let signal = match path {
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Signal::Logs,
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Signal::Traces,
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Signal::Metrics,
            path => {
                self.door.unknown(reason::NO_ROUTE, &peer, &asked, StatusCode::NOT_FOUND.as_u16());
                let message = format!("there is no method {path} here, only OTLP's Export");
                return failed(&Status { code: code::UNIMPLEMENTED, message: &message, ..Status::default() });
            }
        };
        let endpoint = roles::find(Port::Grpc, "POST", path);
        asked.route = Some(endpoint.path);
        let caller = match self.door.admit(endpoint, Port::Grpc, peer, request.headers(), &asked) {
            Ok(caller) => caller,
            Err(refused) => {
                discard(request.into_body()).await;
                return failed(&refused.status());
            }
        };
        let encoding = request
            .headers()
            .get(GRPC_ENCODING)
            .map_or(Some(Encoding::Identity), |value| Encoding::parse(value.to_str().ok()?));
        let Some(encoding) = encoding else {
            let message = format!("grpc-encoding must be one of {}", Encoding::ACCEPTED);
            let mut response =
                failed(&Status { code: code::UNIMPLEMENTED, message: &message, ..Status::default() });
            let accepted = HeaderValue::from_static(Encoding::ACCEPTED);
            response.headers_mut().insert(GRPC_ACCEPT_ENCODING, accepted);
            return response;
        };
        let outcome = self.deliver(signal, encoding, request, self.door.sender(&caller)).await;
        self.intake.count(signal, Transport::Grpc, &outcome);
        match outcome {
            Ok(receipt) => {
                self.door.misnamed(&caller, &asked, &receipt.misnamed);
                succeeded(&encode_response(Format::Protobuf, signal, receipt.rejected, &receipt.message))
            }
            Err(refusal) => failed(&refusal.status(&refusal.to_string())),
        }
    }
}

impl Endpoint {
    async fn deliver(
        &self,
        signal: Signal,
        encoding: Encoding,
        request: Request<Incoming>,
        sender: Sender,
    ) -> Result<Receipt, Refusal> {
        let batch_id = client_batch_id(request.headers())?;
        let bytes_max = encoding.received_bytes_max(self.intake.request_bytes_max()) + PREFIX_BYTES;
        let (framed, lease) = body::read(&self.intake, request.into_body(), bytes_max).await?;
        let (compressed, body) = message(framed).map_err(Refusal::malformed)?;
        let encoding = match (compressed, encoding) {
            (false, _) => Encoding::Identity,
            (true, Encoding::Identity) => {
                let reason = "the message is marked as compressed, but grpc-encoding names no compression";
                return Err(Refusal::malformed(reason.to_owned()));
            }
            (true, encoding) => encoding,
        };
        let delivery = Delivery {
            content: Content::Otlp(signal, Format::Protobuf),
            transport: Transport::Grpc,
            encoding,
            body,
            lease,
            batch_id,
            sender,
        };
        self.intake.take(delivery).await
    }
}

/// What is answered to requests that are no gRPC calls.
fn not_grpc(request: &Request<Incoming>) -> Option<Response<Body>> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_grpc = content_type.is_some_and(|text| {
        let rest = text.strip_prefix("application/grpc");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
    });
    if is_grpc && request.version() == Version::HTTP_2 && *request.method() == Method::POST {
        return None;
    }
    let text = "this port takes OTLP/gRPC; OTLP/HTTP has a port of its own (by default 4318)\n";
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(response)
}

/// The one message of a unary call, and whether it is compressed.
fn message(mut framed: Bytes) -> Result<(bool, Bytes), String> {
    let Some((&[flag, ref length @ ..], _)) = framed.split_first_chunk::<PREFIX_BYTES>() else {
        return Err("the call has no message, or its prefix is cut short".to_owned());
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let message = framed.split_off(PREFIX_BYTES);
    match flag {
        0 | 1 if message.len() == length => Ok((flag == 1, message)),
        0 | 1 => Err(format!(
            "the message is announced with {length} bytes and followed by {}: a call has exactly one message",
            message.len()
        )),
        _ => Err(format!("the compressed-flag is {flag}, must be 0 or 1")),
    }
}

fn succeeded(reply: &[u8]) -> Response<Body> {
    let mut framed = Vec::with_capacity(PREFIX_BYTES + reply.len());
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(reply.len()).unwrap_or(0).to_be_bytes());
    framed.extend_from_slice(reply);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(framed)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A reply without a message: its status is in the headers.
fn failed(status: &Status<'_>) -> Response<Body> {
    let message = cut(status.message);
    let violation = status.violation.map(|(field, description)| (cut(field), cut(description)));
    let status = Status { message, violation, ..*status };
    let details =
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(encode_status(Format::Protobuf, &status));
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from(status.code));
    let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    headers.insert(GRPC_MESSAGE, text(&percent_encoded(message)));
    headers.insert(GRPC_STATUS_DETAILS, text(&details));
    response
}

/// The text, or as much of it as trailers may hold.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or(text)
}

/// `grpc-message`: bytes outside of printable ASCII, and `%`, as `%` and two hex digits.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_exactly_one_message() {
        for (framed, want) in [
            (&b"\0\0\0\0\x02ab"[..], Ok((false, &b"ab"[..]))),
            (b"\x01\0\0\0\x02ab", Ok((true, b"ab"))),
            (b"\0\0\0\0\0", Ok((false, b""))),
            (b"", Err("no message")),
            (b"\0\0\0\0", Err("cut short")),
            (b"\0\0\0\0\x03ab", Err("announced with 3 bytes and followed by 2")),
            (b"\0\0\0\0\x01ab", Err("exactly one")),
            (b"\0\xff\xff\xff\xff", Err("4294967295")),
            (b"\x02\0\0\0\0", Err("must be 0 or 1")),
        ] {
            let got = message(Bytes::from_static(framed));
            match (&got, want) {
                (Ok((flag, body)), Ok((want_flag, want))) => {
                    assert_eq!((*flag, &body[..]), (want_flag, want));
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{got}"),
                _ => panic!("{framed:?}: {got:?}"),
            }
        }
    }

    #[test]
    fn messages_fit_into_a_header() {
        assert_eq!(percent_encoded("a %\n\u{e9}"), "a %25%0A%C3%A9");
        let long = "\u{e9}".repeat(MESSAGE_BYTES_MAX);
        assert_eq!(cut(&long).len(), MESSAGE_BYTES_MAX);
    }
}
