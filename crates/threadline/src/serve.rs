//! Accepts connections and speaks HTTP/1.1 and HTTP/2 without TLS (prior knowledge) on one port, within bounds:
//! connections at once, size of headers, time to send them. Bodies are bounded by whoever reads them.
//!
//! It does not know what a request says.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};

/// Connections at once per listener; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 4096;
/// A new connection must show within this time which protocol it speaks.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request's headers, and for a connection without a request (HTTP/1.1).
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Headers of a request (HTTP/1.1).
const HEADERS_MAX: usize = 100;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// HTTP/2 flow-control window of a request: one round trip for most batches.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// HTTP/2 flow-control window of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// A silent HTTP/2 connection is asked after this long …
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// … and closed when it has not answered after this long.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// First bytes of an HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Answers requests.
pub(crate) trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// A listener that is being served.
pub(crate) struct Server {
    name: &'static str,
    stop: oneshot::Sender<()>,
    stopped: mpsc::Receiver<()>,
}

impl Server {
    /// What it serves, for logs.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Stops accepting and waits for requests in progress, at most `grace`. Whether all ended in time.
    pub(crate) fn stop(self, grace: Duration) -> bool {
        let _ = self.stop.send(());
        self.stopped.recv_timeout(grace).is_ok()
    }
}

/// Serves a listener until it is stopped.
pub(crate) fn spawn<H: Handler>(
    runtime: &Handle,
    name: &'static str,
    listener: TcpListener,
    handler: H,
) -> std::io::Result<Server> {
    let _entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (stop, stop_asked) = oneshot::channel();
    let (done, stopped) = mpsc::channel();
    runtime.spawn(async move {
        let connections = GracefulShutdown::new();
        tokio::select! {
            () = accept(listener, &connections, handler) => {}
            _ = stop_asked => {}
        }
        connections.shutdown().await;
        let _ = done.send(());
    });
    Ok(Server { name, stop, stopped })
}

async fn accept<H: Handler>(listener: tokio::net::TcpListener, connections: &GracefulShutdown, handler: H) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this future: connections that have not said anything yet end at once.
    let (_accepting, closing) = watch::channel(());
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (handler, watcher, closing) = (handler.clone(), connections.watcher(), closing.clone());
                tokio::spawn(async move {
                    connection(stream, watcher, closing, handler).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: connections that end free some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection<H: Handler>(
    stream: TcpStream,
    watcher: Watcher,
    mut closing: watch::Receiver<()>,
    handler: H,
) {
    let _ = stream.set_nodelay(true);
    let protocol = tokio::select! {
        protocol = tokio::time::timeout(PREFACE_TIMEOUT, speaks_http2(&stream)) => protocol,
        _ = closing.changed() => return,
    };
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.answer(request).await) }
    });
    let ended = match protocol {
        Ok(Ok(true)) => {
            let connection = http2_settings().serve_connection(TokioIo::new(stream), service);
            watcher.watch(connection).await
        }
        Ok(Ok(false)) => {
            let connection = http1_settings().serve_connection(TokioIo::new(stream), service);
            watcher.watch(connection).await
        }
        // Nothing, or not enough, was said in time.
        Ok(Err(_)) | Err(_) => return,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0u8; PREFACE.len()];
    loop {
        let n = stream.peek(&mut first).await?;
        let (seen, want) = (first.get(..n).unwrap_or_default(), PREFACE.get(..n).unwrap_or_default());
        if n == 0 || seen != want {
            return Ok(false);
        }
        if n == PREFACE.len() {
            return Ok(true);
        }
        // What is there stays there, so that the socket is always readable: look again a little later.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn http1_settings() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADER_BYTES_MAX)
        .half_close(false);
    builder
}

fn http2_settings() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
