//! What every service of the fleet has: its place in the fleet folder, a server that only the fleet reaches, a client that shows the
//! service's certificate.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, Uri};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;
use threadline_sdk::Telemetry;
use threadline_sdk::http::{ClientLayer, ClientService};
use threadline_sdk::tls::{Acceptor, Connector, Files, Listener, Peer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tower::{Layer as _, Service, ServiceExt as _};

use crate::Result;

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What `fleet run` tells a service by variables.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    name: String,
    folder: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str) -> Result<Place> {
        let folder = std::env::var("FLEET_FOLDER").map_err(|_| "FLEET_FOLDER is not set: use `fleet run`")?;
        Ok(Place { name: name.to_owned(), folder: folder.into() })
    }

    /// PEM files of this service.
    pub(crate) fn files(&self) -> Files {
        identity(&self.folder, &self.name)
    }

    /// The key of the fleet's tokens.
    pub(crate) fn secret(&self) -> Result<Vec<u8>> {
        let path = self.folder.join("tokens.key");
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The base URL of a service.
    pub(crate) fn url(service: &str) -> Result<String> {
        let name = format!("FLEET_{}_PORT", service.to_uppercase());
        let port = std::env::var(&name).map_err(|_| format!("{name} is not set: use `fleet run`"))?;
        Ok(format!("https://localhost:{port}"))
    }

    /// Serves until the service is told to stop. The edge alone takes callers without certificate.
    pub(crate) async fn serve(&self, app: Router, telemetry: &Telemetry) -> Result<()> {
        let url = Place::url(&self.name)?;
        let port: u16 =
            url.rsplit(':').next().and_then(|port| port.parse().ok()).ok_or("the port is no number")?;
        let mut files = self.files();
        if self.name == "edge" {
            files.ca = PathBuf::new();
        }
        let config = files.server().map_err(|error| error.to_string())?;
        let acceptor = Acceptor::new(Arc::new(config)).timeout(Duration::from_secs(5));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|error| format!("port {port}: {error}"))?;
        let listener = Listener::new(listener, acceptor).map_err(|error| error.to_string())?;
        let service = app.into_make_service_with_connect_info::<Peer>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(telemetry.stopped());
        serving.await.map_err(|error| error.to_string())
    }
}

/// PEM files of an identity of the fleet.
pub(crate) fn identity(folder: &std::path::Path, name: &str) -> Files {
    let pki = folder.join("pki");
    Files {
        cert: pki.join(format!("{name}.pem")),
        key: pki.join(format!("{name}.key")),
        ca: pki.join("ca.pem"),
        crl: PathBuf::new(),
    }
}

/// A client for JSON over mTLS, which hands the trace on.
#[derive(Clone)]
pub(crate) struct Mesh {
    client: ClientService<Client<Dial, Body>>,
}

impl Mesh {
    pub(crate) fn new(files: &Files) -> Result<Mesh> {
        Mesh::from_address(files, Ipv4Addr::LOCALHOST)
    }

    /// One whose connections come from this address of the loopback net.
    pub(crate) fn from_address(files: &Files, address: Ipv4Addr) -> Result<Mesh> {
        let config = files.client().map_err(|error| error.to_string())?;
        let dial = Dial { connector: Connector::new(Arc::new(config)), address };
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(20)).build(dial);
        Ok(Mesh { client: ClientLayer.layer(client) })
    }

    /// Sends a request, and reads its answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Vec<u8>>> {
        let response = self.client.clone().oneshot(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes().to_vec();
        Ok(Response::from_parts(parts, body))
    }

    /// Asks another service on behalf of a caller.
    pub(crate) async fn ask(&self, method: Method, url: &str, token: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body.to_string()));
        let request = request.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
        let answer = self.send(request).await.map_err(|error| {
            tracing::error!("{url} did not answer: {error}");
            (StatusCode::BAD_GATEWAY, "a service that is needed does not answer".to_owned())
        })?;
        if !answer.status().is_success() {
            return Err((answer.status(), String::from_utf8_lossy(answer.body()).into_owned()));
        }
        Ok(Json(serde_json::from_slice(answer.body()).unwrap_or(Value::Null)))
    }
}

/// What handlers answer.
pub(crate) type Answer = std::result::Result<Json<Value>, (StatusCode, String)>;

/// Makes connections: TCP to this machine, and TLS over it.
#[derive(Clone)]
struct Dial {
    connector: Connector,
    address: Ipv4Addr,
}

impl Service<Uri> for Dial {
    type Response = Stream;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connector, from) = (self.connector.clone(), self.address);
        Box::pin(async move {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, uri.port_u16().unwrap_or(443)));
            let stream = connect(from, address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
            Ok(Stream(TokioIo::new(connector.connect(name, stream, address).await?)))
        })
    }
}

/// A connection from one of this machine's addresses.
pub(crate) async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// A connection, as hyper's client wants it.
struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
