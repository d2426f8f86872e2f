//! The API and the page for people, on one port: routing, the check of hosts, and one file per subject.
//!
//! It does not know how queries are planned or where rows lie.

mod alerts;
mod audit;
mod contract;
mod detection;
mod erase;
mod gate;
mod health;
mod incidents;
mod metrics;
mod notify;
pub(crate) mod openapi;
pub(crate) mod operations;
mod page;
mod params;
mod problem;
mod query;
mod schemas;
mod session;
mod sql;
mod stats;
mod tail;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use threadline_model::clock::Clock;
use threadline_store::Store;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::audit::{Audit, Rows};
use self::gate::Gate;
use self::incidents::Act;
use self::operations::{Found, Id, Operation};
use self::params::Params;
use self::problem::Problem;
use crate::contract::Gatekeeper;
use crate::detection::Board;
use crate::door::caller::Caller;
use crate::door::names::reason::endpoint as reason;
use crate::door::notes::{Asked, QUERY_CHARS_MAX};
use crate::door::roles::{self, Port};
use crate::door::tls::Tls;
use crate::door::{Door, sessions};
use crate::hub::Addresses;
use crate::ingest::Intake;
use crate::meters::Meters;
use crate::serve::{Handler, discard};
use crate::settings::Settings;

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A request's body must be there within this time.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);
/// Begins the last line of rows when their query failed midway.
const NDJSON_ERROR: &str = "{\"error\":{";
/// Tails at once; each has a thread.
const TAILS_MAX: usize = 64;

/// What handlers use.
pub(crate) struct Api {
    addresses: Addresses,
    store: Store,
    clock: Arc<dyn Clock>,
    meters: Arc<Meters>,
    gate: Gate,
    tails: Arc<Semaphore>,
    stopping: Arc<AtomicBool>,
    intake: Arc<Intake>,
    door: Arc<Door>,
    tls: Option<Arc<Tls>>,
    audit_queries: bool,
    /// How long what is to be recorded waits for a place for its record.
    audit_wait: std::time::Duration,
    gatekeeper: Gatekeeper,
    detection: Board,
    incidents: crate::incidents::Board,
    /// `None`: nobody is told of anything.
    notify: Option<crate::notify::Handle>,
}

/// What the API takes from the hub.
pub(crate) struct Parts {
    pub(crate) addresses: Addresses,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) meters: Arc<Meters>,
    /// Set when the hub stops: tails end, and no query begins.
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) door: Arc<Door>,
    /// TLS of the ports, for its figures.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) detection: Board,
    pub(crate) incidents: crate::incidents::Board,
    pub(crate) notify: Option<crate::notify::Handle>,
    /// The runtime whose threads queries and tails run on.
    pub(crate) runtime: Handle,
}

/// The API.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Api>);

/// The API over a store.
pub(crate) fn handler(settings: &Settings, parts: Parts) -> Endpoint {
    let Parts {
        addresses,
        store,
        clock,
        meters,
        stopping,
        intake,
        door,
        tls,
        gatekeeper,
        detection,
        incidents,
        notify,
        runtime,
    } = parts;
    let gate = Gate::new(settings, runtime, Arc::clone(&meters), Arc::clone(&stopping));
    let tails = Arc::new(Semaphore::new(TAILS_MAX));
    let audit_queries = settings.audit_queries;
    let api = Api {
        addresses,
        store,
        clock,
        meters,
        gate,
        tails,
        stopping,
        intake,
        door,
        tls,
        audit_queries,
        audit_wait: settings.audit_wait,
        gatekeeper,
        detection,
        incidents,
        notify,
    };
    Endpoint(Arc::new(api))
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let by_cookie = sessions::cookie(request.headers()).is_some();
        let mut response = match self.0.route(request).await {
            Ok(response) => response,
            Err(problem) => {
                tracing::debug!(path, problem = %problem.json(), "refused");
                problem.response()
            }
        };
        if by_cookie && response.status() == StatusCode::UNAUTHORIZED {
            session::forget_cookie(&mut response);
        }
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
}

/// A request that has been let in.
struct Entered {
    operation: &'static Operation,
    /// The path's parameter.
    parameter: String,
    caller: Caller,
    asked: Asked,
}

/// What a handler may want to know of a request.
struct Call<'a> {
    params: &'a Params,
    parameter: &'a str,
    headers: &'a HeaderMap,
    caller: &'a Caller,
    asked: &'a Asked,
}

impl Api {
    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Problem> {
        let (head, body) = request.into_parts();
        match self.enter(&head) {
            Ok(entered) => self.serve(&head, body, entered).await,
            Err(problem) => {
                discard(body).await;
                Err(problem)
            }
        }
    }

    /// What is asked for, and by whom, if they may.
    fn enter(&self, head: &http::request::Parts) -> Result<Entered, Problem> {
        let peer = self.door.peer_of(&head.extensions, &head.headers);
        let mut asked = Asked::of(&head.method, &head.uri, &head.headers);
        let unknown = |reason, problem: Problem| {
            self.door.unknown(reason, &peer, &asked, problem.status().as_u16());
            problem
        };
        check_host(self.addresses.api, &head.headers, &head.uri)
            .map_err(|problem| unknown(reason::UNKNOWN_HOST, problem))?;
        let (operation, parameter) = match operations::find(&head.method, head.uri.path()) {
            Found::Operation(operation, parameter) => (operation, parameter),
            Found::Methods(methods) => {
                return Err(unknown(reason::METHOD_NOT_ALLOWED, Problem::method(methods)));
            }
            Found::Nothing => {
                let detail = format!("nothing is at {}; /openapi.json says what is where", head.uri.path());
                return Err(unknown(reason::NO_ROUTE, Problem::not_found(detail)));
            }
        };
        let endpoint = roles::find(Port::Api, operation.method.as_str(), operation.path);
        asked.route = Some(operation.path);
        let admitted = self.door.admit(endpoint, Port::Api, Arc::clone(&peer), &head.headers, &asked);
        let caller = admitted.map_err(|refused| Problem::refused(&refused))?;
        Ok(Entered { operation, parameter, caller, asked })
    }

    /// Answers who has been let in.
    async fn serve(
        self: &Arc<Self>,
        head: &http::request::Parts,
        body: Incoming,
        entered: Entered,
    ) -> Result<Response<Body>, Problem> {
        let Entered { operation, parameter, caller, asked } = entered;
        // The query string of a page is its state, which it reads by itself in the browser.
        if operation.id == Id::Page {
            return Ok(page::page(self, &head.headers));
        }
        let params = Params::of(operation, &head.uri, self.clock.now_us())?;
        let body = match operation.bodies {
            [] => Document::default(),
            _ => document(&head.headers, body).await?,
        };
        let query = if operation.bodies.is_empty() { params.shown() } else { body.shown() };
        let audit = Audit::begin(self, operation.id, &caller, &asked, &query).await?;
        let request = Call {
            params: &params,
            parameter: &parameter,
            headers: &head.headers,
            caller: &caller,
            asked: &asked,
        };
        let answer = self.run(operation, request, body).await;
        match audit {
            Some(audit) => audit.answered(answer),
            None => answer,
        }
    }

    async fn run(
        self: &Arc<Self>,
        operation: &Operation,
        call: Call<'_>,
        body: Document,
    ) -> Result<Response<Body>, Problem> {
        let Call { params, parameter, headers, caller, asked } = call;
        match operation.id {
            Id::Page => Ok(page::page(self, headers)),
            Id::Asset => page::asset(parameter, headers),
            Id::Icon => Ok(page::icon(headers)),
            Id::Check => params.search().map(|_| text("application/json", "{}".to_owned())),
            Id::Contract => Ok(contract::contract(self)),
            Id::Search => query::search(self, params).await,
            Id::Tail => tail::tail(self, params, headers, caller),
            Id::Histogram => query::histogram(self, params).await,
            Id::Fields => query::fields(self, params).await,
            Id::Count => query::count(self, params).await,
            Id::Red => query::red(self, params).await,
            Id::Distinct => query::distinct(self, params, parameter).await,
            Id::FieldValues => query::field_values(self, params, parameter).await,
            Id::SqlGet => sql::get(self, params).await,
            Id::SqlPost => sql::post(self, body).await,
            Id::Traces => query::traces(self, params).await,
            Id::Trace => query::trace(self, params, parameter).await,
            Id::Services => query::services(self, params).await,
            Id::ContractScore => Ok(contract::score(self)),
            Id::Rules => Ok(detection::rules(self)),
            Id::Backtest => detection::backtest(self, body).await,
            Id::Detection => Ok(detection::status(self)),
            Id::Incidents => incidents::list(self, params).await,
            Id::Incident => incidents::show(self, parameter).await,
            Id::IncidentReport => incidents::report(self, params, parameter).await,
            Id::IncidentAcknowledge => incidents::act(self, Act::Acknowledge, parameter, caller).await,
            Id::IncidentResolve => incidents::act(self, Act::Resolve, parameter, caller).await,
            Id::IncidentReopen => incidents::act(self, Act::Reopen, parameter, caller).await,
            Id::IncidentAssign => incidents::assign(self, parameter, &body, caller).await,
            Id::IncidentNote => incidents::note(self, parameter, &body, caller).await,
            Id::IncidentSnooze => incidents::snooze(self, parameter, &body, caller).await,
            Id::IncidentMerge => incidents::merge(self, parameter, &body, caller).await,
            Id::Silences => incidents::silences(self).await,
            Id::SilenceMake => incidents::silence(self, &body, caller).await,
            Id::SilencePreview => incidents::preview(self, &body).await,
            Id::SilenceEnd => incidents::unsilence(self, parameter, caller).await,
            Id::NotifyReceivers => notify::receivers(self).await,
            Id::NotifyDead => notify::dead(self, params, parameter).await,
            Id::NotifyTest => notify::test(self, parameter).await,
            Id::NotifyReplay => notify::replay(self, parameter, &body).await,
            Id::AlertsPost => alerts::post(self, body).await,
            Id::Alerts => alerts::list(self, params).await,
            Id::AlertsStatus => alerts::status(self),
            Id::SessionOpen => session::open(self, &body, caller, asked),
            Id::SessionShow => Ok(session::show(self, caller)),
            Id::SessionClose => Ok(session::close(self, caller, asked)),
            Id::Stats => Ok(stats::stats(self)),
            Id::Erase => erase::erase(self, body, caller).await,
            Id::Health => Ok(health::health(self, caller)),
            Id::Metrics => Ok(metrics::metrics(self)),
            Id::OpenApi => Ok(text("application/json", openapi::document().to_string())),
        }
    }
}

/// A hub that listens on the loopback interface answers only to names of it: a page that a browser has loaded from
/// elsewhere cannot reach it by pointing its own name here (DNS rebinding).
fn check_host(address: SocketAddr, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    if !address.ip().is_loopback() {
        return Ok(());
    }
    let host = match headers.get(HOST) {
        Some(host) => host.to_str().ok(),
        // HTTP/2 has `:authority`, HTTP/1.0 neither.
        None => Some(uri.authority().map_or("", |authority| authority.as_str())),
    };
    let is_local = host.is_some_and(|host| {
        let name = name_of(host);
        host.is_empty()
            || name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    if is_local {
        return Ok(());
    }
    Err(Problem::host("this hub listens on the loopback interface and answers to localhost and 127.0.0.1 only"))
}

/// The name or address in `name:port`, `[address]:port`.
fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// A reply of text.
fn text(content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A reply of JSON.
fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string(value) {
        Ok(body) => {
            let mut response = text("application/json", body);
            *response.status_mut() = status;
            response
        }
        Err(error) => Problem::internal(format!("the answer is no JSON: {error}")).response(),
    }
}

/// The answer with how many rows it has, for its record.
fn counted(mut response: Response<Body>, rows: usize) -> Response<Body> {
    response.extensions_mut().insert(Rows(rows as u64));
    response
}

/// The body of a request, and the essence of its content type.
#[derive(Debug, Default)]
struct Document {
    content_type: String,
    bytes: Vec<u8>,
}

impl Document {
    /// As text, for records.
    fn shown(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.bytes.get(..4 * QUERY_CHARS_MAX).unwrap_or(&self.bytes))
    }
}

async fn document(headers: &HeaderMap, body: Incoming) -> Result<Document, Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    let content_type = essence.trim().to_ascii_lowercase();
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    let read = tokio::time::timeout(BODY_TIMEOUT, read).await;
    let collected = read.map_err(|_| Problem::body("it was not there in time"))?.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Problem::body_too_large(BODY_BYTES_MAX)
        } else {
            Problem::body(error.to_string())
        }
    })?;
    Ok(Document { content_type, bytes: collected.to_bytes().to_vec() })
}

/// A path's parameter, percent-decoded.
fn decoded(name: &str, parameter: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(parameter.len());
    let mut rest = parameter.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = after.split_at_checked(2);
        let byte = digits.and_then(|(digits, after)| {
            rest = after;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        });
        bytes.push(byte.ok_or_else(|| Problem::parameter(name, "two hex digits must follow a %"))?);
    }
    String::from_utf8(bytes).map_err(|_| Problem::parameter(name, "is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_reach_a_local_hub() {
        let local: SocketAddr = "127.0.0.1:7311".parse().unwrap();
        let open: SocketAddr = "0.0.0.0:7311".parse().unwrap();
        for (address, host, want) in [
            (local, "localhost:7311", true),
            (local, "LOCALHOST", true),
            (local, "127.0.0.1:7311", true),
            (local, "127.1.2.3", true),
            (local, "[::1]:7311", true),
            (local, "evil.example:7311", false),
            (local, "localhost.evil.example", false),
            (local, "10.0.0.1:7311", false),
            (open, "evil.example", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            assert_eq!(check_host(address, &headers, &Uri::from_static("/")).is_ok(), want, "{host}");
        }
    }

    #[test]
    fn path_parameters_are_decoded() {
        for (text, want) in [
            ("http.route", Some("http.route")),
            ("a%2Fb%20%C3%A9", Some("a/b \u{e9}")),
            ("a%2", None),
            ("%", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded("name", text).ok().as_deref(), want, "{text}");
        }
    }
}
