//! The example that the W3C's test suite drives, over real connections: headers as they stand on the wire, calls in turn.
//!
//! The suite itself is in no package registry; `docs/services.md` says how it is run. Its cases of grammar are in
//! `src/propagation/tests.rs`; here is what needs HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use threadline_sdk::Telemetry;
use tracing::instrument::WithSubscriber as _;

use crate::sink::Sink;

#[path = "../../examples/w3c_harness_server.rs"]
#[allow(dead_code, unreachable_pub)]
mod server;

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-01";

/// Posts to the service with these header lines, and gives back the headers of its calls.
fn call(
    service: SocketAddr,
    back: SocketAddr,
    seen: &Mutex<Vec<HeaderMap>>,
    lines: &[String],
    calls: usize,
) -> Vec<HeaderMap> {
    seen.lock().unwrap().clear();
    let calls: Vec<String> =
        (0..calls).map(|n| format!("{{\"url\":\"http://{back}/{n}\",\"arguments\":[]}}")).collect();
    let body = format!("[{}]", calls.join(","));
    let mut stream = TcpStream::connect(service).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = format!(
        "POST /test HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    lines.iter().for_each(|line| text += &format!("{line}\r\n"));
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    seen.lock().unwrap().clone()
}

fn one(headers: &HeaderMap, name: &str) -> String {
    let all: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    assert!(all.len() <= 1, "{all:?}");
    all.concat()
}

#[test]
fn calls_carry_the_context_on() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let (dispatch, _telemetry) = Telemetry::scoped(&sink.settings(folder.path())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let back = Router::new()
        .route("/{n}", post(move |headers: HeaderMap| async move { keep.lock().unwrap().push(headers) }));
    let bind = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let (ours, theirs) = (bind(), bind());
    let (service, callback) = (ours.local_addr().unwrap(), theirs.local_addr().unwrap());
    runtime.spawn(async move { axum::serve(theirs, back).await });
    let app = server::app();
    // Connections are tasks of their own: the subscriber has to be theirs, too.
    let serve = async move {
        loop {
            let (stream, _) = ours.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(app.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection =
                async move { hyper::server::conn::http1::Builder::new().serve_connection(io, service).await };
            tokio::spawn(connection.with_current_subscriber());
        }
    };
    runtime.spawn(serve.with_subscriber(dispatch));
    let cases: &[(&[&str], Option<&str>)] = &[
        (&["TraceParent: {P}"], Some("")),
        (&["TRACEPARENT:{P}"], Some("")),
        (&["traceparent: \t {P} \t"], Some("")),
        (&["trace-parent: {P}"], None),
        (&["traceparent: {P}", "traceparent: {P}"], None),
        (&["traceparent: {P}."], None),
        (
            &["TraceState: foo=1", "traceparent: {P}", "tracestate: ", "TRACESTATE: \t bar=2 \t"],
            Some("foo=1,bar=2"),
        ),
        (&["traceparent: {P}", "tracestate: foo=1", "tracestate: foo=2"], Some("foo=1")),
        (&["traceparent: {P}", "tracestate: foo@@bar=1"], Some("foo@@bar=1")),
        (&["tracestate: foo=1"], None),
    ];
    for (lines, expected) in cases {
        let lines: Vec<String> = lines.iter().map(|line| line.replace("{P}", PARENT)).collect();
        let calls = call(service, callback, &seen, &lines, 1);
        let parent = one(&calls[0], "traceparent");
        assert_eq!(parent.len(), 55, "{lines:?}: {parent}");
        assert!(!parent.contains("1234567890123456-01"), "{lines:?}: {parent}");
        assert_eq!(parent[3..35] == *TRACE, expected.is_some(), "{lines:?}: {parent}");
        assert_eq!(one(&calls[0], "tracestate"), expected.unwrap_or(""), "{lines:?}");
    }
    for flags in ["00", "01", "02", "03"] {
        let line = format!("traceparent: 00-{TRACE}-1234567890123456-{flags}");
        let calls = call(service, callback, &seen, &[line], 1);
        let parent = one(&calls[0], "traceparent");
        assert_eq!((&parent[3..35], &parent[53..]), (TRACE, flags), "sampled and random are handed on");
    }
    for (lines, same) in [
        (vec![format!("traceparent: {PARENT}")], true),
        (vec![], true),
        (vec![format!("traceparent: 00-{}-1234567890123456-01", "0".repeat(32))], true),
    ] {
        let calls = call(service, callback, &seen, &lines, 3);
        let parents: Vec<String> = calls.iter().map(|headers| one(headers, "traceparent")).collect();
        assert_eq!(parents.iter().all(|parent| parent[..35] == parents[0][..35]), same, "{parents:?}");
        let spans: std::collections::BTreeSet<&str> = parents.iter().map(|parent| &parent[36..52]).collect();
        assert_eq!(spans.len(), 3, "each call has a parent id of its own: {parents:?}");
    }
}
