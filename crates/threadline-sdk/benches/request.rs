//! What the request layer costs, per request, on the thread that serves it: a service without any, under `tower-http`'s TraceLayer
//! with a subscriber that formats to nowhere and no exporter, and under ours with everything sent to a host on this machine.
//!
//! `cargo bench -p threadline-sdk`. The exporter's threads share the machine's cores with what is measured.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::routing::get;
use divan::Bencher;
use threadline_sdk::Telemetry;
use threadline_sdk::http::ServerLayer;
use threadline_sdk::settings::{Settings, Stdout};
use tower::ServiceExt as _;
use tower_http::trace::TraceLayer;
use tracing::Dispatch;
use tracing_subscriber::layer::SubscriberExt as _;

fn main() {
    divan::main();
}

/// A host that takes everything and keeps nothing.
static HOST: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = Vec::new();
                let mut piece = [0; 65536];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    buffer.extend_from_slice(&piece[..count]);
                    let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                    let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
                    let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                    let whole = head + 4 + length.and_then(|length| length.parse().ok()).unwrap_or(0);
                    if buffer.len() >= whole {
                        buffer.drain(..whole);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                    }
                }
            });
        }
    });
    address
});

fn app() -> Router {
    Router::new().route("/orders/{id}", get(|| async { "an order" }))
}

fn serve(bencher: Bencher<'_, '_>, app: Router, dispatch: &Dispatch) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _current = tracing::dispatcher::set_default(dispatch);
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    bencher.bench_local(|| {
        let request = Request::get("/orders/7")
            .header("host", "shop.example")
            .header("user-agent", "bench/1")
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
            .extension(ConnectInfo(peer))
            .body(Body::empty())
            .unwrap();
        runtime.block_on(async {
            let response = app.clone().oneshot(request).await.unwrap();
            http_body_util::BodyExt::collect(response.into_body()).await.unwrap()
        })
    });
}

#[divan::bench]
fn a_without_layer(bencher: Bencher<'_, '_>) {
    serve(bencher, app(), &Dispatch::none());
}

#[divan::bench]
fn b_tower_http_trace_layer_no_exporter(bencher: Bencher<'_, '_>) {
    let level = tracing::Level::INFO;
    let layer = TraceLayer::new_for_http()
        .make_span_with(tower_http::trace::DefaultMakeSpan::new().level(level))
        .on_response(tower_http::trace::DefaultOnResponse::new().level(level));
    let printed = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    let filter = tracing_subscriber::EnvFilter::new("info");
    serve(
        bencher,
        app().layer(layer),
        &Dispatch::new(tracing_subscriber::registry().with(filter).with(printed)),
    );
}

#[divan::bench]
fn c_threadline_server_layer_exporting(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::new("bench", "1");
    settings.exporter.endpoint = format!("http://{}", *HOST);
    settings.spool.dir = folder.path().to_owned();
    settings.logs.stdout = Stdout::None;
    let (dispatch, _telemetry) = Telemetry::scoped(&settings).unwrap();
    serve(bencher, app().layer(ServerLayer::new()), &dispatch);
}
