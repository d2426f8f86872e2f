//! Accepts connections and speaks HTTP/1.1 and HTTP/2 on one port, with TLS (ALPN) or without (prior knowledge), within
//! bounds: connections and handshakes at once, size of headers, time to send them. Bodies are bounded by whoever reads
//! them. A request carries who is at the other end ([`Peer`]) among its extensions.
//!
//! It does not know what a request says.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_rustls::server::TlsStream;

use crate::door::caller::Peer;
use crate::door::certificate::Certificate;
use crate::door::handshakes::Handshakes;
use crate::door::journal::Journal;
use crate::door::names::reason::tls as reason;
use crate::door::notes;
use crate::door::roles::Port;
use crate::door::tls::{Failed, Tls};
use crate::meters::Meters;

/// Connections at once per listener; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 4096;
/// A new connection must show within this time which protocol it speaks.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// A handshake, with the wait for its turn, must be over within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// First byte of a TLS connection: a record with a handshake message (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// What is still read of who does not speak TLS, so that they get to see the reply, and for how long.
const PLAINTEXT_DRAIN_BYTES_MAX: u64 = 64 << 10;
const PLAINTEXT_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// What is still read of a request that is answered unread, and for how long.
const DISCARD_BYTES_MAX: usize = 1 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
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

/// What a listener does before requests.
pub(crate) struct Front {
    port: Port,
    tls: Option<Arc<Tls>>,
    handshakes: Handshakes,
    connections: AtomicU64,
    journal: Journal,
    meters: Arc<Meters>,
}

impl Front {
    /// The front of a port.
    pub(crate) fn new(port: Port, tls: Option<Arc<Tls>>, journal: Journal, meters: Arc<Meters>) -> Front {
        Front { port, tls, handshakes: Handshakes::new(), connections: AtomicU64::new(0), journal, meters }
    }
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
    front: Front,
    listener: TcpListener,
    handler: H,
) -> std::io::Result<Server> {
    let name = front.port.name();
    let front = Arc::new(front);
    let _entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (stop, stop_asked) = oneshot::channel();
    let (done, stopped) = mpsc::channel();
    runtime.spawn(async move {
        let connections = GracefulShutdown::new();
        tokio::select! {
            () = accept(listener, &connections, handler, front) => {}
            _ = stop_asked => {}
        }
        connections.shutdown().await;
        let _ = done.send(());
    });
    Ok(Server { name, stop, stopped })
}

async fn accept<H: Handler>(
    listener: tokio::net::TcpListener,
    connections: &GracefulShutdown,
    handler: H,
    front: Arc<Front>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Dropped with this future: connections that have not said anything yet end at once.
    let (_accepting, closing) = watch::channel(());
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, address)) => {
                let (handler, watcher, closing) = (handler.clone(), connections.watcher(), closing.clone());
                let front = Arc::clone(&front);
                tokio::spawn(async move {
                    connection(stream, address, &front, watcher, closing, handler).await;
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
    address: SocketAddr,
    front: &Front,
    watcher: Watcher,
    mut closing: watch::Receiver<()>,
    handler: H,
) {
    let _ = stream.set_nodelay(true);
    let server_port = stream.local_addr().map_or(0, |address| address.port());
    let peer = Peer::plain(address, server_port, front.connections.fetch_add(1, Ordering::Relaxed));
    let Some(tls) = &front.tls else {
        let protocol = tokio::select! {
            protocol = tokio::time::timeout(PREFACE_TIMEOUT, speaks_http2(&stream)) => protocol,
            _ = closing.changed() => return,
        };
        // Nothing, or not enough, was said in time.
        let Ok(Ok(http2)) = protocol else { return };
        return speak(stream, http2, peer, watcher, handler).await;
    };
    let shaken = tokio::select! {
        shaken = shake_hands(tls, front, stream, peer) => shaken,
        _ = closing.changed() => return,
    };
    if let Some((stream, http2, peer)) = shaken {
        speak(stream, http2, peer, watcher, handler).await;
    }
}

/// Answers the requests of a connection.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static, H: Handler>(
    stream: S,
    http2: bool,
    peer: Peer,
    watcher: Watcher,
    handler: H,
) {
    let peer = Arc::new(peer);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let handler = handler.clone();
        request.extensions_mut().insert(Arc::clone(&peer));
        async move { Ok::<_, Infallible>(handler.answer(request).await) }
    });
    let io = TokioIo::new(stream);
    let ended = if http2 {
        watcher.watch(http2_settings().serve_connection(io, service)).await
    } else {
        watcher.watch(http1_settings().serve_connection(io, service)).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The connection after its handshake, whether it speaks HTTP/2, and who it is. A failure is noted.
async fn shake_hands(
    tls: &Tls,
    front: &Front,
    stream: TcpStream,
    peer: Peer,
) -> Option<(TlsStream<TcpStream>, bool, Peer)> {
    let failed = |reason: &'static str, detail: &str, presented: Option<&Certificate>| {
        if let Some(counter) = front.meters.door.handshakes_failed(reason) {
            counter.add(1);
        }
        front.journal.note(notes::handshake_failed(reason, detail, &peer, presented));
    };
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(tls, front, stream, peer.address)).await;
    match shaken {
        Ok(Hands::Shaken(shaken)) => {
            front.meters.door.handshakes.add(1);
            let crate::door::tls::Shaken { stream, version, http2, certificate } = *shaken;
            let certificate = certificate.map(Arc::new);
            Some((stream, http2, Peer { tls_version: Some(version), certificate, ..peer }))
        }
        Ok(Hands::Gone) => None,
        Ok(Hands::Plaintext(stream, first)) => {
            failed(reason::PLAINTEXT, "the first byte is not one of TLS", None);
            // Not within the time of the handshake, nor longer than a moment.
            let _ = tokio::time::timeout(PLAINTEXT_DRAIN_TIMEOUT, tell_plaintext(stream, first)).await;
            None
        }
        Ok(Hands::Failed(Failed { reason, detail, presented })) => {
            failed(reason, &detail, presented.as_ref());
            None
        }
        Ok(Hands::TooMany) => {
            failed(reason::TIMEOUT, "too many handshakes of this address are in progress", None);
            None
        }
        Err(_) => {
            failed(reason::TIMEOUT, &format!("not over within {HANDSHAKE_TIMEOUT:?}"), None);
            None
        }
    }
}

/// What becomes of a connection that should begin with a handshake.
enum Hands {
    Shaken(Box<crate::door::tls::Shaken<TcpStream>>),
    Failed(Failed),
    /// It does not speak TLS; with its first byte.
    Plaintext(TcpStream, u8),
    /// So many of its handshakes are in progress that this one does not begin.
    TooMany,
    /// It said nothing at all, as who only looks whether a port is open.
    Gone,
}

async fn handshake(tls: &Tls, front: &Front, stream: TcpStream, address: SocketAddr) -> Hands {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => return Hands::Gone,
        Ok(_) => {}
    }
    let [first] = first;
    if first != TLS_HANDSHAKE {
        return Hands::Plaintext(stream, first);
    }
    let Some(_turn) = front.handshakes.turn(address.ip()).await else { return Hands::TooMany };
    match tls.accept(front.port, stream).await {
        Ok(shaken) => Hands::Shaken(Box::new(shaken)),
        Err(failed) => Hands::Failed(failed),
    }
}

/// Tells who speaks HTTP what is wrong.
async fn tell_plaintext(mut stream: TcpStream, first: u8) {
    if !first.is_ascii_uppercase() {
        return;
    }
    let text = "this port speaks TLS: use https:// (for OTLP/gRPC: a TLS channel)\n";
    let reply = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: \
         close\r\n\r\n{text}",
        text.len()
    );
    if stream.write_all(reply.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream.take(PLAINTEXT_DRAIN_BYTES_MAX), &mut tokio::io::sink()).await;
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

/// Reads the rest of a request that is answered without it, within bounds: some clients do not see an answer that comes
/// while they still send.
pub(crate) async fn discard(mut body: Incoming) {
    let read = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, read).await;
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
