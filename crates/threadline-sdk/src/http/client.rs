//! The client layer: hands the trace on, and has a span for each request. It leaves a log record only where there was no answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Method, StatusCode};
use opentelemetry::trace::TraceContextExt as _;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::server::method_name;
use crate::propagation;

/// A request that a client sends: of `http` (hyper, tonic) or of reqwest.
pub trait OutgoingRequest {
    /// Its method.
    fn method(&self) -> &Method;
    /// Its headers, to be added to.
    fn headers_mut(&mut self) -> &mut HeaderMap;
    /// Its URL without user, password and query: scheme, host, port, path.
    fn url(&self) -> (Option<&str>, Option<&str>, Option<u16>, &str);
}

impl<B> OutgoingRequest for http::Request<B> {
    fn method(&self) -> &Method {
        http::Request::method(self)
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        http::Request::headers_mut(self)
    }

    fn url(&self) -> (Option<&str>, Option<&str>, Option<u16>, &str) {
        let uri = self.uri();
        (uri.scheme_str(), uri.host(), uri.port_u16(), uri.path())
    }
}

#[cfg(feature = "reqwest")]
impl OutgoingRequest for reqwest::Request {
    fn method(&self) -> &Method {
        reqwest::Request::method(self)
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        reqwest::Request::headers_mut(self)
    }

    fn url(&self) -> (Option<&str>, Option<&str>, Option<u16>, &str) {
        let url = reqwest::Request::url(self);
        (Some(url.scheme()), url.host_str(), url.port_or_known_default(), url.path())
    }
}

/// What comes back.
pub trait IncomingResponse {
    /// Its status.
    fn status(&self) -> StatusCode;
}

impl<B> IncomingResponse for http::Response<B> {
    fn status(&self) -> StatusCode {
        http::Response::status(self)
    }
}

#[cfg(feature = "reqwest")]
impl IncomingResponse for reqwest::Response {
    fn status(&self) -> StatusCode {
        reqwest::Response::status(self)
    }
}

/// Hands the current trace on with each request, under a span of its own.
///
/// Fits `tower` services of `http` requests, as hyper's and tonic's clients are, and with the feature `reqwest` a `reqwest::Client`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientLayer;

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
        ClientService { inner }
    }
}

/// A client under a [`ClientLayer`].
#[derive(Clone, Debug)]
pub struct ClientService<S> {
    inner: S,
}

impl<S, R> Service<R> for ClientService<S>
where
    R: OutgoingRequest,
    S: Service<R>,
    S::Response: IncomingResponse,
    S::Error: std::fmt::Display,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ClientFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let span = begin(&request);
        let context = span.context();
        // Without a span nothing is known, and what the request has is left alone.
        if context.span().span_context().is_valid() {
            propagation::inject(&context, request.headers_mut());
        }
        let inner = span.in_scope(|| self.inner.call(request));
        ClientFuture { inner, span, ended: false }
    }
}

fn begin(request: &impl OutgoingRequest) -> Span {
    let method = method_name(request.method());
    let (scheme, host, port, path) = request.url();
    let full = scheme.zip(host).map(|(scheme, host)| match port {
        Some(port) => format!("{scheme}://{host}:{port}{path}"),
        None => format!("{scheme}://{host}{path}"),
    });
    tracing::info_span!(
        target: "threadline",
        "call",
        "otel.name" = method,
        "otel.kind" = "client",
        "http.request.method" = method,
        "url.full" = full,
        "server.address" = host,
        "server.port" = port.map(i64::from),
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        "otel.status_code" = Empty,
    )
}

pin_project! {
    /// The answer to a [`ClientService`].
    #[derive(Debug)]
    pub struct ClientFuture<F> {
        #[pin]
        inner: F,
        span: Span,
        ended: bool,
    }

    impl<F> PinnedDrop for ClientFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if !*this.ended {
                // Whoever asked has given up.
                this.span.record("error.type", "cancelled");
                this.span.record("otel.status_code", "ERROR");
            }
        }
    }
}

impl<F, T, E> Future for ClientFuture<F>
where
    F: Future<Output = Result<T, E>>,
    T: IncomingResponse,
    E: std::fmt::Display,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let span = this.span.clone();
        let answer = ready!(span.in_scope(|| this.inner.poll(cx)));
        *this.ended = true;
        match &answer {
            Ok(response) => {
                let status = response.status();
                span.record("http.response.status_code", i64::from(status.as_u16()));
                if status.is_client_error() || status.is_server_error() {
                    span.record("error.type", status.as_str());
                    span.record("otel.status_code", "ERROR");
                }
            }
            Err(error) => {
                let error = error.to_string();
                let kind = if error.contains("timed out") { "timeout" } else { "connection" };
                span.record("error.type", kind);
                span.record("otel.status_code", "ERROR");
                span.in_scope(|| {
                    tracing::event!(
                        name: "http.client.request.exception",
                        target: "threadline",
                        tracing::Level::WARN,
                        message = format!("a request got no answer: {error}"),
                        "exception.type" = kind,
                        "exception.message" = error,
                    );
                });
            }
        }
        Poll::Ready(answer)
    }
}
