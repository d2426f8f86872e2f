//! What happens at the door, put into the words of the contract.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::USER_AGENT;
use threadline_model::id::{SpanId, TraceId};

use super::caller::{Caller, Peer};
use super::certificate::Certificate;
use super::journal::{Field, MergeKey, Note};
use super::limiter::source;
use super::names::{ISSUER, SERVER_SIDE, actor, event, key, outcome, reason};

/// Characters of a method that is noted.
const METHOD_CHARS_MAX: usize = 32;
/// Characters of a path that is noted, and of what a client calls itself.
const PATH_CHARS_MAX: usize = 256;
/// Characters of TLS's own words.
const DETAIL_CHARS_MAX: usize = 256;
/// Characters of a query that is noted.
pub(crate) const QUERY_CHARS_MAX: usize = 2048;

/// OTLP's numbers of severities.
const INFO: i32 = 9;
const INFO2: i32 = 10;
const WARN: i32 = 13;

/// A request, as far as notes tell of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The endpoint's path, with `{name}` for a parameter, once it is known.
    pub(crate) route: Option<&'static str>,
    user_agent: Option<String>,
    /// The trace that the request says it belongs to (W3C `traceparent`).
    pub(crate) trace: Option<(TraceId, SpanId)>,
}

impl Asked {
    /// What a request asks for. Its query is left out: it may hold anything.
    pub(crate) fn of(method: &http::Method, uri: &http::Uri, headers: &http::HeaderMap) -> Asked {
        let parent = headers.get("traceparent").and_then(|value| value.to_str().ok());
        Asked {
            method: cut(method.as_str(), METHOD_CHARS_MAX),
            path: cut(uri.path(), PATH_CHARS_MAX),
            route: None,
            user_agent: headers
                .get(USER_AGENT)
                .map(|agent| cut(&String::from_utf8_lossy(agent.as_bytes()), PATH_CHARS_MAX)),
            trace: parent.and_then(trace_of),
        }
    }
}

/// Trace and span of a `traceparent` header.
fn trace_of(parent: &str) -> Option<(TraceId, SpanId)> {
    let mut parts = parent.trim().split('-').skip(1);
    Some((TraceId::from_hex(parts.next()?)?, SpanId::from_hex(parts.next()?)?))
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

fn text(key: &'static str, value: impl Into<String>) -> (&'static str, Field) {
    (key, Field::Text(value.into()))
}

fn int(key: &'static str, value: impl Into<i64>) -> (&'static str, Field) {
    (key, Field::Int(value.into()))
}

fn peer_fields(peer: &Peer) -> Vec<(&'static str, Field)> {
    let mut fields = address_fields(peer.address, peer.server_port);
    fields.push(text(key::CLIENT_ADDRESS, peer.client().to_string()));
    if let Some(version) = peer.tls_version {
        fields.push(text(key::TLS_VERSION, version));
    }
    fields
}

fn address_fields(address: SocketAddr, server_port: u16) -> Vec<(&'static str, Field)> {
    vec![
        text(key::PEER_ADDRESS, address.ip().to_canonical().to_string()),
        int(key::PEER_PORT, address.port()),
        int(key::SERVER_PORT, server_port),
    ]
}

fn asked_fields(asked: &Asked, status: Option<u16>) -> Vec<(&'static str, Field)> {
    let mut fields = vec![text(key::METHOD, &asked.method), text(key::PATH, &asked.path)];
    fields.extend(status.map(|status| int(key::STATUS, status)));
    fields.extend(asked.route.map(|route| text(key::ROUTE, route)));
    fields.extend(asked.user_agent.as_ref().map(|agent| text(key::USER_AGENT, agent)));
    fields
}

fn certificate_fields(certificate: &Certificate) -> [(&'static str, Field); 4] {
    [
        text(key::TLS_CLIENT_SUBJECT, &certificate.subject),
        text(key::TLS_CLIENT_ISSUER, &certificate.issuer),
        text(key::TLS_CLIENT_HASH, &certificate.sha256),
        text(key::TLS_CLIENT_NOT_AFTER, &certificate.not_after),
    ]
}

fn merge(event: &'static str, reason: &'static str, peer: &Peer, subject: String) -> Option<MergeKey> {
    Some(MergeKey { event, reason, source: source(peer.client()), port: peer.server_port, subject })
}

/// A handshake that failed.
pub(crate) fn handshake_failed(
    reason: &'static str,
    detail: &str,
    peer: &Peer,
    presented: Option<&Certificate>,
) -> Note {
    let Peer { address, server_port, .. } = *peer;
    let mut fields = address_fields(address, server_port);
    fields.extend([
        text(key::REASON, reason),
        text(key::OUTCOME, outcome::FAILURE),
        text(key::TLS_SIDE, SERVER_SIDE),
        text(key::CONNECTION_ID, peer.connection_id()),
        (key::TLS_ESTABLISHED, Field::Bool(false)),
    ]);
    fields.extend(presented.into_iter().flat_map(certificate_fields));
    Note {
        event: event::HANDSHAKE_FAILED,
        severity: WARN,
        body: format!(
            "TLS handshake with {} on port {server_port} failed: {reason} ({})",
            peer.client(),
            cut(detail, DETAIL_CHARS_MAX)
        ),
        fields,
        merge: merge(event::HANDSHAKE_FAILED, reason, peer, String::new()),
        trace: None,
        at_us: 0,
    }
}

/// What was shown to say who somebody is.
#[derive(Clone, Debug)]
pub(crate) struct Shown<'a> {
    /// How.
    pub(crate) method: &'static str,
    /// Of a token whose secret was right.
    pub(crate) token_id: Option<&'a str>,
    /// A keyed hash of it.
    pub(crate) hash: Option<String>,
}

/// Who has said who they are, at an address and port: so often since the last note of the same.
pub(crate) fn authenticated(caller: &Caller, asked: &Asked, count: u64) -> Note {
    let mut fields = peer_fields(&caller.peer);
    fields.extend(asked_fields(asked, None));
    fields.extend(caller_fields(caller));
    fields.extend([
        text(key::OUTCOME, outcome::SUCCESS),
        int(key::COUNT, i64::try_from(count).unwrap_or(i64::MAX)),
    ]);
    fields.extend(caller.method().map(|method| text(key::AUTHN_METHOD, method)));
    if caller.token.is_some() {
        fields.push(text(key::TOKEN_ISSUER, ISSUER));
    }
    Note {
        event: event::AUTHN_SUCCEEDED,
        severity: INFO,
        body: format!("{} came in from {}", caller.who(), caller.peer.client()),
        fields,
        merge: None,
        trace: asked.trace,
        at_us: 0,
    }
}

/// A session of a browser begins or ends.
pub(crate) fn session(action: &str, caller: &Caller, asked: &Asked) -> Note {
    let mut fields = peer_fields(&caller.peer);
    fields.extend(asked_fields(asked, Some(200)));
    fields.extend(caller_fields(caller));
    fields.extend([
        text(key::ACTION, action),
        text(key::RESOURCE_TYPE, "session"),
        text(key::OUTCOME, outcome::SUCCESS),
    ]);
    Note {
        event: event::AUDIT,
        severity: INFO2,
        body: format!("{action} by {} from {}", caller.who(), caller.peer.client()),
        fields,
        merge: None,
        trace: asked.trace,
        at_us: 0,
    }
}

/// The hub is ready: how long that took, and the contract that it checks by.
pub(crate) fn started(took: Duration, contract_version: &str) -> Note {
    let mut fields =
        vec![int(key::PROCESS_ID, std::process::id()), (key::DURATION_S, Field::Double(took.as_secs_f64()))];
    if !contract_version.is_empty() {
        fields.push(text(key::CONTRACT_VERSION, contract_version));
    }
    Note {
        event: event::STARTED,
        severity: INFO,
        body: format!("threadline {} is ready", env!("CARGO_PKG_VERSION")),
        fields,
        merge: None,
        trace: None,
        at_us: 0,
    }
}

/// The hub begins to stop, after so long.
pub(crate) fn stopping(ran: Duration) -> Note {
    Note {
        event: event::STOPPING,
        severity: INFO,
        body: format!("threadline {} stops", env!("CARGO_PKG_VERSION")),
        fields: vec![
            text(key::REASON, reason::stopping::REQUEST),
            (key::DURATION_S, Field::Double(ran.as_secs_f64())),
        ],
        merge: None,
        trace: None,
        at_us: 0,
    }
}

/// Who could not say who they are.
pub(crate) fn rejected(
    reason: &'static str,
    peer: &Peer,
    asked: &Asked,
    status: u16,
    shown: Shown<'_>,
) -> Note {
    let Shown { method, token_id, hash } = shown;
    let mut fields = peer_fields(peer);
    fields.extend(asked_fields(asked, Some(status)));
    fields.extend([
        text(key::REASON, reason),
        text(key::OUTCOME, outcome::FAILURE),
        text(key::AUTHN_METHOD, method),
    ]);
    fields.extend(hash.map(|hash| text(key::TOKEN_HASH, hash)));
    if let Some(id) = token_id {
        fields.extend([text(key::TOKEN_ISSUER, ISSUER), text(key::USER_ID, format!("token:{id}"))]);
    }
    Note {
        event: event::AUTHN_REJECTED,
        severity: WARN,
        body: format!("{} {} from {} not let in: {reason}", asked.method, asked.path, peer.client()),
        fields,
        merge: merge(event::AUTHN_REJECTED, reason, peer, token_id.unwrap_or_default().to_owned()),
        trace: asked.trace,
        at_us: 0,
    }
}

/// Who is known, and may not do that. It may have been done nevertheless, and marked: that is the outcome.
pub(crate) fn denied(
    reason: &'static str,
    caller: &Caller,
    asked: &Asked,
    status: u16,
    action: &str,
    resource: (&str, &str),
    outcome: &'static str,
) -> Note {
    let mut fields = peer_fields(&caller.peer);
    fields.extend(asked_fields(asked, Some(status)));
    fields.extend(caller_fields(caller));
    fields.extend([
        text(key::REASON, reason),
        text(key::OUTCOME, outcome),
        text(key::AUTHZ_ACTION, action),
        text(key::RESOURCE_TYPE, resource.0),
        text(key::RESOURCE_ID, cut(resource.1, PATH_CHARS_MAX)),
    ]);
    Note {
        event: event::AUTHZ_DENIED,
        severity: WARN,
        body: format!(
            "{} from {} may not {} {} {}",
            caller.who(),
            caller.peer.client(),
            action.replace('_', " "),
            resource.0,
            cut(resource.1, PATH_CHARS_MAX)
        ),
        fields,
        merge: merge(event::AUTHZ_DENIED, reason, &caller.peer, format!("{} {}", caller.id(), resource.1)),
        trace: asked.trace,
        at_us: 0,
    }
}

/// A request for what there is not.
pub(crate) fn endpoint_unknown(reason: &'static str, peer: &Peer, asked: &Asked, status: u16) -> Note {
    let mut fields = peer_fields(peer);
    fields.extend(asked_fields(asked, Some(status)));
    fields.extend([text(key::REASON, reason), text(key::OUTCOME, outcome::FAILURE)]);
    Note {
        event: event::ENDPOINT_UNKNOWN,
        severity: WARN,
        body: format!("{} {} from {}: {reason}", asked.method, asked.path, peer.client()),
        fields,
        merge: merge(event::ENDPOINT_UNKNOWN, reason, peer, String::new()),
        trace: asked.trace,
        at_us: 0,
    }
}

fn caller_fields(caller: &Caller) -> Vec<(&'static str, Field)> {
    let mut fields = vec![text(key::ACTOR_TYPE, caller.actor())];
    if caller.actor() != actor::ANONYMOUS {
        fields.push(text(key::USER_ID, caller.id()));
    }
    fields.extend(caller.token.as_ref().map(|token| text(key::USER_NAME, &token.name)));
    fields.extend(caller.peer.certificate.iter().flat_map(|certificate| certificate_fields(certificate)));
    fields
}

/// How a query ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) status: u16,
    pub(crate) outcome: &'static str,
    pub(crate) rows: u64,
    pub(crate) took: Duration,
}

/// A query, whoever asked it and whatever came of it.
pub(crate) fn query(caller: &Caller, asked: &Asked, action: &str, query: &str, ended: Ended) -> Note {
    let Ended { status, outcome, rows, took } = ended;
    let mut fields = peer_fields(&caller.peer);
    fields.extend(asked_fields(asked, Some(status)));
    fields.extend(caller_fields(caller));
    fields.extend([
        text(key::ACTION, action),
        text(key::RESOURCE_TYPE, "records"),
        text(key::OUTCOME, outcome),
        int(key::ROWS, i64::try_from(rows).unwrap_or(i64::MAX)),
        (key::DURATION_S, Field::Double(took.as_secs_f64())),
    ]);
    if !query.is_empty() {
        fields.push(text(key::QUERY, cut(query, QUERY_CHARS_MAX)));
    }
    Note {
        event: event::AUDIT,
        severity: INFO2,
        body: format!("{action} by {} from {}: {outcome}, {rows} rows", caller.who(), caller.peer.client()),
        fields,
        merge: None,
        trace: asked.trace,
        at_us: 0,
    }
}

/// A change of who may come in, made on the hub's own machine.
pub(crate) fn changed(action: &str, resource: (&str, &str), what: &str) -> Note {
    Note {
        event: event::AUDIT,
        severity: INFO2,
        body: format!("{action}: {what}"),
        fields: vec![
            text(key::ACTION, action),
            text(key::ACTOR_TYPE, actor::SYSTEM),
            text(key::RESOURCE_TYPE, resource.0),
            text(key::RESOURCE_ID, resource.1),
            text(key::OUTCOME, outcome::SUCCESS),
        ],
        merge: None,
        trace: None,
        at_us: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_which_trace_it_belongs_to() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (parent, want) in [
            (format!("00-{trace}-00f067aa0ba902b7-01"), true),
            (format!("00-{trace}"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (String::new(), false),
        ] {
            let request = http::Request::get("/a?b").header("traceparent", &parent).body(()).unwrap();
            let asked = Asked::of(request.method(), request.uri(), request.headers());
            assert_eq!((asked.path.as_str(), asked.trace.is_some()), ("/a", want), "{parent}");
        }
    }
}
