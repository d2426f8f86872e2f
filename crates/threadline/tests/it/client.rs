//! A client that comes from any loopback address, with TLS or without, and shows a token or a certificate.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use crate::hub::Reply;

/// An own loopback address, as if of another machine.
pub(crate) fn source(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, last))
}

/// Runs to its end on a thread of its own.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// A connection from an address.
pub(crate) async fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// A connection with TLS, or why there is none. The handshake is over when the first answer could come.
pub(crate) async fn secure(
    config: Arc<ClientConfig>,
    from: IpAddr,
    to: SocketAddr,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = connect(from, to).await;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, stream).await
}

/// What one request is answered with over HTTP/1.1 (or HTTP/2, for gRPC).
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    http2: bool,
    request: Request<Full<Bytes>>,
) -> Result<Reply, hyper::Error> {
    if http2 {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await?;
        tokio::spawn(connection);
        return read(sender.send_request(request).await?).await;
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    read(sender.send_request(request).await?).await
}

/// The whole answer; trailers count as headers.
pub(crate) async fn read(response: http::Response<Incoming>) -> Result<Reply, hyper::Error> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?;
    let mut headers = parts.headers;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    Ok(Reply { status: parts.status.as_u16(), headers, body: body.to_bytes().to_vec() })
}

/// A request with a token, if there is one.
pub(crate) fn request(
    method: &str,
    uri: &str,
    token: Option<&str>,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    if !uri.starts_with("http") {
        request = request.header("host", "localhost");
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// Whether a gRPC call or an HTTP request was let in, and the code that says so.
pub(crate) fn verdict(headers: &HeaderMap, status: u16) -> &'static str {
    let grpc = headers.get("grpc-status").and_then(|value| value.to_str().ok());
    match (grpc, status) {
        (Some("16"), _) | (None, 401) => "unknown",
        (Some("7"), _) | (None, 403) => "forbidden",
        (Some("8"), _) | (None, 429) => "locked",
        _ => "in",
    }
}
