//! A hub inside the test's process, on free ports and a folder of its own, and what tests ask it.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::Value;
use threadline::settings::Settings;
use threadline::{Components, Hub};

/// 2026-01-01T00:00:00Z, ns.
pub(crate) const START_NS: u64 = 1_767_225_600_000_000_000;

/// Settings for a hub on free ports that can live beside others in a small folder.
pub(crate) fn settings(data: &Path) -> Settings {
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    Settings {
        data_dir: data.to_owned(),
        otlp_grpc_address: free,
        otlp_http_address: free,
        api_address: free,
        wal_segment_bytes: 4 << 20,
        disk_free_bytes_min: 1 << 20,
        // Or each look at the records would add one, and each start.
        audit_queries: false,
        // What it finds would be among the records.
        detection: false,
        incidents: false,
        record_lifecycle: false,
        ..Settings::default()
    }
}

/// Starts a hub on a folder.
pub(crate) fn start(data: &Path) -> Hub {
    threadline::start(settings(data), Components::system()).unwrap()
}

/// A reply, in full.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Each line as JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// Sends a request over HTTP/1.1.
pub(crate) fn send(
    method: &str,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .build()
        .into();
    let mut request = http::Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = if body.is_empty() && matches!(method, "GET" | "HEAD") {
        agent.run(request.body(()).unwrap())
    } else {
        agent.run(request.body(body.to_vec()).unwrap())
    };
    let (parts, mut body) = response.unwrap_or_else(|error| panic!("{method} {path}: {error}")).into_parts();
    let mut bytes = Vec::new();
    body.as_reader().read_to_end(&mut bytes).unwrap();
    Reply { status: parts.status.as_u16(), headers: parts.headers, body: bytes }
}

/// GET from the API.
pub(crate) fn get(hub: &Hub, path: &str) -> Reply {
    send("GET", hub.addresses().api, path, &[], b"")
}

/// GET from the API, which must answer 200.
pub(crate) fn get_ok(hub: &Hub, path: &str) -> Reply {
    let reply = get(hub, path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply
}

pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(service: &str) -> Option<Resource> {
    Some(Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() })
}

/// A request with one log record per body, a second apart.
pub(crate) fn logs(service: &str, bodies: &[&str]) -> ExportLogsServiceRequest {
    let record = |(at, body): (usize, &&str)| LogRecord {
        time_unix_nano: START_NS + at as u64 * 1_000_000_000,
        severity_number: if body.contains("error") { 17 } else { 9 },
        body: Some(AnyValue { value: Some(any_value::Value::StringValue((*body).to_owned())) }),
        attributes: vec![attribute("url.path", "/cart")],
        ..LogRecord::default()
    };
    let log_records = bodies.iter().enumerate().map(record).collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(service),
            scope_logs,
            ..ResourceLogs::default()
        }],
    }
}

/// A request with a root span and its children, in one trace.
pub(crate) fn spans(service: &str, trace: u8, names: &[&str]) -> ExportTraceServiceRequest {
    let span = |(at, name): (usize, &&str)| Span {
        trace_id: vec![trace; 16],
        span_id: vec![at as u8 + 1; 8],
        parent_span_id: if at == 0 { Vec::new() } else { vec![1; 8] },
        name: (*name).to_owned(),
        kind: 2,
        start_time_unix_nano: START_NS + at as u64 * 1_000_000,
        end_time_unix_nano: START_NS + 50_000_000 - at as u64 * 1_000_000,
        status: Some(Status { code: 1, message: String::new() }),
        ..Span::default()
    };
    let spans = names.iter().enumerate().map(span).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(service),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

/// Sends protobuf to OTLP/HTTP, which must take all of it.
pub(crate) fn deliver(hub: &Hub, path: &str, message: &impl prost::Message) {
    let headers = [("content-type", "application/x-protobuf")];
    let reply = send("POST", hub.addresses().otlp_http, path, &headers, &message.encode_to_vec());
    assert_eq!((reply.status, reply.body.len()), (200, 0), "{}", reply.text());
}

/// Sends protobuf to OTLP/HTTP with a token, if one is given; all of it is answered with success.
pub(crate) fn deliver_with(hub: &Hub, path: &str, message: &impl prost::Message, token: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    let mut headers = vec![("content-type", "application/x-protobuf")];
    if !token.is_empty() {
        headers.push(("authorization", &authorization));
    }
    let reply = send("POST", hub.addresses().otlp_http, path, &headers, &message.encode_to_vec());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}
