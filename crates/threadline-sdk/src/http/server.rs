//! The server layer.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use opentelemetry::trace::TraceContextExt as _;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::body::ServerBody;
use super::exchange::{End, Exchange};
use super::{PeerAddress, Route, User};
use crate::propagation::{self, TraceParent};

/// Bytes of a path, and of a user agent, that are recorded.
const TEXT_BYTES_MAX: usize = 2048;
const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Continues or begins a trace for each request, and leaves its records: `request.finished` always, `security.endpoint.unknown`
/// where there is no such endpoint. On a panic it answers 500.
///
/// With axum it belongs on the router (`Router::layer`), where routes are known; other layers go inside of it.
#[derive(Clone, Debug)]
pub struct ServerLayer {
    config: Arc<Config>,
}

#[derive(Clone, Debug)]
struct Config {
    edge: bool,
    response_headers: bool,
    timeout: Option<Duration>,
    hosts: Vec<String>,
    proxies: Vec<IpAddr>,
}

impl Default for ServerLayer {
    fn default() -> Self {
        ServerLayer::new()
    }
}

impl ServerLayer {
    /// For a service that only services of the company reach: it continues the caller's trace.
    pub fn new() -> ServerLayer {
        let config = Config {
            edge: false,
            response_headers: true,
            timeout: None,
            hosts: Vec::new(),
            proxies: Vec::new(),
        };
        ServerLayer { config: Arc::new(config) }
    }

    /// For a server that strangers reach: each request begins a trace. What they sent as `traceparent` is linked, and kept as
    /// `threadline.outside.traceparent`; their baggage is dropped.
    pub fn edge() -> ServerLayer {
        ServerLayer::new().with(|config| config.edge = true)
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> ServerLayer {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// Whether answers have `traceresponse` and `Server-Timing` with the trace's id. They have unless told otherwise.
    #[must_use]
    pub fn response_headers(self, send: bool) -> ServerLayer {
        self.with(|config| config.response_headers = send)
    }

    /// Answers 504 when the head of the answer takes longer. Needs tokio's timer.
    #[must_use]
    pub fn timeout(self, time: Duration) -> ServerLayer {
        self.with(|config| config.timeout = Some(time))
    }

    /// Hosts that this server is; requests for others are answered with 421 and recorded as `unknown_host`. All are taken where
    /// none is named.
    #[must_use]
    pub fn hosts<T: Into<String>>(self, hosts: impl IntoIterator<Item = T>) -> ServerLayer {
        self.with(|config| {
            config.hosts = hosts.into_iter().map(|host| host.into().to_ascii_lowercase()).collect();
        })
    }

    /// Addresses of proxies before this server: what they say in `X-Forwarded-For` is believed, from the right up to the first
    /// address that is none of theirs.
    #[must_use]
    pub fn trusted_proxies(self, proxies: impl IntoIterator<Item = IpAddr>) -> ServerLayer {
        self.with(|config| config.proxies = proxies.into_iter().collect())
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService { inner, config: Arc::clone(&self.config) }
    }
}

/// A service under a [`ServerLayer`].
#[derive(Clone, Debug)]
pub struct ServerService<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S, A, B> Service<Request<A>> for ServerService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: std::fmt::Display,
    B: http_body::Body + Default,
{
    type Response = Response<ServerBody<B>>;
    type Error = S::Error;
    type Future = ServerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let exchange = begin(&request, &self.config);
        let method = request.method().clone();
        if self.config.edge {
            // What is within takes it from the span; what strangers sent must not be handed on by mistake.
            for name in [propagation::TRACEPARENT, propagation::TRACESTATE, propagation::BAGGAGE] {
                request.headers_mut().remove(name);
            }
        }
        let inner = match exchange.unknown_host {
            true => None,
            false => {
                let span = exchange.span.clone();
                let called = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| self.inner.call(request))));
                Some(called)
            }
        };
        let (inner, panicked) = match inner {
            Some(Ok(future)) => (Some(future), false),
            Some(Err(_)) => (None, true),
            None => (None, false),
        };
        let sleep = self.config.timeout.map(|time| Box::pin(tokio::time::sleep(time)));
        ServerFuture {
            inner,
            panicked,
            exchange: Some(exchange),
            method,
            sleep,
            response_headers: self.config.response_headers,
        }
    }
}

pin_project! {
    /// The answer of a [`ServerService`].
    #[derive(Debug)]
    pub struct ServerFuture<F> {
        // `None` when there is nothing to ask.
        #[pin]
        inner: Option<F>,
        panicked: bool,
        exchange: Option<Exchange>,
        method: Method,
        sleep: Option<Pin<Box<Sleep>>>,
        response_headers: bool,
    }
}

/// What a poll of the service gave.
enum Polled<T, E> {
    Answer(Response<T>),
    Error(E),
    Panic,
    Timeout,
    UnknownHost,
}

impl<F, B, E> Future for ServerFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: std::fmt::Display,
    B: http_body::Body + Default,
{
    type Output = Result<Response<ServerBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(exchange) = this.exchange.as_mut() else { return Poll::Pending };
        let span = exchange.span.clone();
        let polled = match this.inner.as_mut().as_pin_mut() {
            None if *this.panicked => Polled::Panic,
            None => Polled::UnknownHost,
            Some(inner) => {
                let caught = catch_unwind(AssertUnwindSafe(|| span.in_scope(|| inner.poll(cx))));
                match caught {
                    Err(panic) => {
                        // What a payload does when it is dropped is not our business: it may panic.
                        std::mem::forget::<Box<dyn Any + Send>>(panic);
                        Polled::Panic
                    }
                    Ok(Poll::Ready(Ok(answer))) => Polled::Answer(answer),
                    Ok(Poll::Ready(Err(error))) => Polled::Error(error),
                    Ok(Poll::Pending) => match this.sleep.as_mut().map(|sleep| sleep.as_mut().poll(cx)) {
                        Some(Poll::Ready(())) => Polled::Timeout,
                        _ => return Poll::Pending,
                    },
                }
            }
        };
        let Some(mut exchange) = this.exchange.take() else { return Poll::Pending };
        let span = exchange.span.clone();
        let finished = |mut exchange: Exchange, status: StatusCode, error_type: &'static str| {
            exchange.finish(End::Failed { status: status.as_u16(), error_type });
            let mut answer = Response::new(ServerBody::silent(B::default()));
            *answer.status_mut() = status;
            answer
        };
        let mut answer = match polled {
            Polled::Error(error) => {
                let late = error.to_string().contains("timed out");
                let (status, error_type) = if late { (504, "timeout") } else { (500, "service") };
                exchange.finish(End::Failed { status, error_type });
                return Poll::Ready(Err(error));
            }
            Polled::Panic => finished(exchange, StatusCode::INTERNAL_SERVER_ERROR, "panic"),
            Polled::Timeout => {
                // What was asked ends here, not when the answer is dropped.
                this.inner.set(None);
                finished(exchange, StatusCode::GATEWAY_TIMEOUT, "timeout")
            }
            Polled::UnknownHost => {
                exchange.status = Some(StatusCode::MISDIRECTED_REQUEST);
                exchange.finish(End::Answered);
                let mut answer = Response::new(ServerBody::silent(B::default()));
                *answer.status_mut() = StatusCode::MISDIRECTED_REQUEST;
                answer
            }
            Polled::Answer(answer) => {
                let (parts, body) = answer.into_parts();
                exchange.status = Some(parts.status);
                exchange.answered(&parts.headers);
                if let Some(Route(route)) = parts.extensions.get() {
                    exchange.route = Some(route.clone());
                }
                if let Some(User(user)) = parts.extensions.get() {
                    exchange.user = Some(user.clone());
                }
                let body = ServerBody::new(body, exchange, this.method, parts.status, &parts.headers);
                Response::from_parts(parts, body)
            }
        };
        if *this.response_headers {
            tell(&span, answer.headers_mut());
        }
        Poll::Ready(Ok(answer))
    }
}

/// Tells the caller which trace it was (Trace Context, level 3 draft).
fn tell(span: &Span, headers: &mut HeaderMap) {
    let Some(text) = propagation::traceparent(&span.context()) else { return };
    if let Ok(value) = HeaderValue::try_from(format!("trace;desc={text}")) {
        headers.append(SERVER_TIMING, value);
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TRACERESPONSE, value);
    }
}

fn begin<A>(request: &Request<A>, config: &Config) -> Exchange {
    let headers = request.headers();
    let grpc = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let path = cut(request.uri().path());
    let route = route(request).or_else(|| grpc.then(|| path.clone()));
    let method = method_name(request.method());
    let peer = peer(request);
    let client = client(peer, headers, &config.proxies);
    let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).map(cut);
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(HOST).and_then(|value| value.to_str().ok()));
    let unknown_host = !config.hosts.is_empty() && !host.is_some_and(|host| is_known(host, &config.hosts));
    let context = propagation::extract(headers);
    let caller = context.span().span_context().clone();
    let outside = (config.edge && caller.is_valid()).then(|| TraceParent::of(&caller)).flatten();
    let name = match &route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    };
    let span = tracing::info_span!(
        target: "threadline",
        parent: None,
        "request",
        "otel.name" = name,
        "otel.kind" = "server",
        "http.request.method" = method,
        "url.path" = path,
        "url.scheme" = scheme(request),
        "http.route" = route.as_deref(),
        "server.address" = host.map(without_port),
        "client.address" = client,
        "network.peer.address" = peer.map(|peer| peer.ip().to_string()),
        "network.protocol.version" = version(request.version()),
        "user_agent.original" = user_agent,
        "threadline.outside.traceparent" = outside.map(|outside| outside.to_string()),
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        "otel.status_code" = Empty,
    );
    if config.edge {
        if caller.is_valid() {
            span.add_link(caller);
        }
    } else {
        // Refused only where nothing records.
        let _ = span.set_parent(context);
    }
    Exchange {
        start: Instant::now(),
        span,
        method,
        path,
        route,
        client,
        user_agent,
        user: None,
        grpc,
        unknown_host,
        status: None,
        grpc_status: None,
        done: false,
    }
}

fn route<A>(request: &Request<A>) -> Option<String> {
    #[cfg(feature = "axum")]
    if let Some(path) = request.extensions().get::<axum::extract::MatchedPath>() {
        return Some(path.as_str().to_owned());
    }
    request.extensions().get::<Route>().map(|Route(route)| route.clone())
}

fn peer<A>(request: &Request<A>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    #[cfg(feature = "axum")]
    {
        use axum::extract::ConnectInfo;
        if let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<SocketAddr>>() {
            return Some(*peer);
        }
        #[cfg(feature = "tls")]
        if let Some(ConnectInfo(peer)) = extensions.get::<ConnectInfo<crate::tls::Peer>>() {
            return Some(peer.address());
        }
    }
    extensions.get::<PeerAddress>().map(|PeerAddress(peer)| *peer)
}

/// Who asked: the other end, or whom trusted proxies name.
fn client(peer: Option<SocketAddr>, headers: &HeaderMap, proxies: &[IpAddr]) -> String {
    let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) else { return "unknown".to_owned() };
    if !proxies.contains(&peer) {
        return peer.to_string();
    }
    let fields = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = fields.flat_map(|field| field.split(',')).map(str::trim).collect();
    let mut client = peer;
    for text in named.iter().rev().take(64) {
        let Ok(address) = text.parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !proxies.contains(&client) {
            break;
        }
    }
    client.to_string()
}

fn is_known(host: &str, hosts: &[String]) -> bool {
    let name = without_port(host);
    hosts.iter().any(|known| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    }
}

/// Methods by OpenTelemetry's list; a caller's own are all alike.
pub(super) fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        "QUERY" => "QUERY",
        _ => "_OTHER",
    }
}

fn scheme<A>(request: &Request<A>) -> &'static str {
    #[cfg(all(feature = "axum", feature = "tls"))]
    if request.extensions().get::<axum::extract::ConnectInfo<crate::tls::Peer>>().is_some() {
        return "https";
    }
    if request.uri().scheme_str() == Some("https") { "https" } else { "http" }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// A text of a caller, as far as it is recorded.
fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = text.get(..end).unwrap_or_default();
    if end < text.len() { format!("{cut}…") } else { cut.to_owned() }
}
