//! The files that the contract renders, with the real SDKs of Python, Node and Rust: a service of the fleet, requests that end
//! differently, and a plain host that keeps what it is sent. Everything that the contract requires must be there.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Uri};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use threadline_contract::registry::{Level, base_layers, load};

use crate::mesh::{Mesh, identity};
use crate::process::Process;
use crate::run::{Fleet, Options, configure, free_ports, prepare, ready, spawn};
use crate::{jwt, services};

type Attributes = BTreeMap<String, String>;

#[derive(Clone, Debug)]
struct Log {
    event: String,
    severity: i32,
    trace: Vec<u8>,
    attributes: Attributes,
    resource: Attributes,
}

#[derive(Default)]
struct Sink {
    logs: Mutex<Vec<Log>>,
    /// Trace and parent of spans.
    spans: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
}

fn attributes(list: &[KeyValue]) -> Attributes {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(int)) => int.to_string(),
        Some(Value::DoubleValue(double)) => double.to_string(),
        Some(Value::BoolValue(bool)) => bool.to_string(),
        _ => String::new(),
    };
    list.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

async fn take(sink: Arc<Sink>, uri: Uri, headers: HeaderMap, body: Bytes) {
    let mut payload = body.to_vec();
    if headers.get("content-encoding").is_some_and(|value| value == "gzip") {
        payload.clear();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut payload).unwrap();
    }
    if uri.path() == "/v1/logs" {
        for resource in ExportLogsServiceRequest::decode(&*payload).unwrap().resource_logs {
            let whole = attributes(&resource.resource.unwrap_or_default().attributes);
            for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                sink.logs.lock().unwrap().push(Log {
                    event: record.event_name,
                    severity: record.severity_number,
                    trace: record.trace_id,
                    attributes: attributes(&record.attributes),
                    resource: whole.clone(),
                });
            }
        }
    } else {
        let request = ExportTraceServiceRequest::decode(&*payload).unwrap();
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        sink.spans.lock().unwrap().extend(spans.map(|span| (span.trace_id, span.parent_span_id)));
    }
}

/// Runs one service with its rendered files, sends it requests, and checks what the host was sent.
fn check(name: &'static str, path: &str, options: &Options) {
    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const CALLER_TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sink = Arc::new(Sink::default());
    runtime.block_on(async {
        let secret = prepare(folder).unwrap();
        let keep = Arc::clone(&sink);
        let host = Router::new()
            .fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| take(keep, uri, headers, body));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let otlp = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, host).await });
        let port = free_ports(1).unwrap()[0];
        configure(folder, name, &otlp).unwrap();
        let child = spawn(folder, name, &[(name, port)], options).unwrap();
        let mut fleet = Fleet { children: vec![Process::new(name, child)] };
        let mesh = Mesh::new(&identity(folder, "load")).unwrap();
        ready(&mut fleet, &mesh, name, port, folder).await.unwrap();
        let now_s = i64::try_from(services::now().as_secs()).unwrap();
        let token = jwt::issue(&secret, "u-1", "orders", now_s, 60);
        let method = if name == "notify" { "POST" } else { "GET" };
        for (method, path, token) in
            [(method, path, &*token), (method, path, "x.y.z"), ("GET", "/nope", &token)]
        {
            let request = Request::builder()
                .method(method)
                .uri(format!("https://localhost:{port}{path}"))
                .header("authorization", format!("Bearer {token}"))
                .header("traceparent", CALLER)
                .header("user-agent", "test/1")
                .body(Body::empty());
            mesh.send(request.unwrap()).await.unwrap();
        }
        assert!(fleet.stop().is_empty());
    });
    let registry = load(&base_layers()).unwrap();
    let logs = sink.logs.lock().unwrap().clone();
    let is_callers = |trace: &[u8]| u128::from_be_bytes(trace.try_into().unwrap_or_default()) == CALLER_TRACE;
    let finished: Vec<&Log> =
        logs.iter().filter(|log| log.event == "request.finished" && is_callers(&log.trace)).collect();
    // A record may leave after the reply, so the next one's may come before it.
    let mut statuses: Vec<(&str, _)> = finished
        .iter()
        .map(|log| (log.attributes["http.response.status_code"].as_str(), log.severity))
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [("200", 9), ("401", 13), ("404", 13)], "{logs:#?}");
    for event in [
        "request.finished",
        "security.authn.rejected",
        "security.endpoint.unknown",
        "service.started",
        "service.stopping",
    ] {
        let found: Vec<&Log> = logs.iter().filter(|log| log.event == event).collect();
        assert!(!found.is_empty(), "{event}: {logs:#?}");
        for log in found {
            for used in &registry.events[event].uses {
                let there = log.attributes.get(&used.key).is_some_and(|value| !value.is_empty());
                assert!(there || used.level != Level::Required, "{event} lacks {}: {log:?}", used.key);
            }
            for used in &registry.resource {
                let there = log.resource.get(&used.key).is_some_and(|value| !value.is_empty());
                assert!(there || used.level != Level::Required, "the resource lacks {}: {log:?}", used.key);
            }
            assert!(log.attributes.contains_key("threadline.sequence"), "{log:?}");
        }
    }
    let caller = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];
    let spans = sink.spans.lock().unwrap();
    let continued = spans.iter().filter(|(trace, parent)| is_callers(trace) && **parent == caller).count();
    assert_eq!(continued, 3, "each request's span continues the caller's");
}

/// Notes that a test cannot be made here.
fn skip(test: &str, variable: &str) {
    let why = format!("{variable} is not set; `cargo xtask test` sets it");
    assert!(std::env::var("CI").ok().as_deref() != Some("true"), "{test}: {why}");
    eprintln!("skipped: {test}: {why}");
    if let Ok(path) = std::env::var("THREADLINE_TEST_SKIPS") {
        use std::io::Write as _;
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}

#[test]
fn python() {
    const VARIABLE: &str = "THREADLINE_TEST_FLEET_PYTHON";
    let Some(python) = std::env::var_os(VARIABLE) else { return skip("rendered files of Python", VARIABLE) };
    check("recommend", "/similar/3", &Options { python: Some(python.into()), ..Options::default() });
}

#[test]
fn node() {
    const VARIABLE: &str = "THREADLINE_TEST_FLEET_NODE";
    let Some(node) = std::env::var_os(VARIABLE) else { return skip("rendered files of Node", VARIABLE) };
    check("notify", "/mails", &Options { node: Some(node.into()), ..Options::default() });
}
