//! Real senders: the OpenTelemetry SDKs of Python, Node and Rust, and curl, against the real binary. What they say
//! they sent must come back exactly: times, ids, every type of attribute, events, links, status.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord as _, LoggerProvider as _, Severity};
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider as _,
};
use opentelemetry::{Array, Context, InstrumentationScope, Key, KeyValue, StringValue};
use opentelemetry_otlp::{Compression, LogExporter, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::{Value, json};

use crate::process::{Process, skip};

/// A time with nanoseconds that no microsecond holds.
const TIME_UNIX_NANO: u64 = 1_790_000_000_123_456_789;

#[test]
fn the_python_sdk() {
    let Ok(python) = std::env::var("THREADLINE_TEST_PYTHON") else {
        return skip(
            "the Python SDK",
            "THREADLINE_TEST_PYTHON names no Python; `cargo xtask test` installs it",
        );
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders/python/send.py");
    for (protocol, compression) in [("grpc", "none"), ("grpc", "gzip"), ("http", "none"), ("http", "gzip")] {
        foreign_sdk(Command::new(&python).arg(&script), "python", protocol, compression);
    }
}

#[test]
fn the_node_sdk() {
    let Ok(folder) = std::env::var("THREADLINE_TEST_NODE") else {
        return skip("the Node SDK", "THREADLINE_TEST_NODE names no folder; `cargo xtask test` installs it");
    };
    let script = PathBuf::from(folder).join("send.mjs");
    for (protocol, compression) in
        [("grpc", "gzip"), ("http", "none"), ("http", "gzip"), ("json", "none"), ("json", "gzip")]
    {
        foreign_sdk(Command::new("node").arg(&script), "node", protocol, compression);
    }
}

/// Runs a sender, which prints what it sent, and compares.
fn foreign_sdk(sender: &mut Command, language: &str, protocol: &str, compression: &str) {
    with_hub(|hub| {
        let endpoint = format!("http://{}", if protocol == "grpc" { hub.grpc } else { hub.http });
        let service = format!("{language}-{protocol}-{compression}");
        sender.args([protocol, &endpoint, &service, compression]).stdin(Stdio::null());
        let output = sender.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{service}: {said}");
        let text = String::from_utf8(output.stdout).unwrap();
        let sent: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(sent.len(), 7, "{service}: {said}");
        compare(hub, &service, sent);
    });
}

#[test]
fn the_rust_sdk() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (protocol, gzip) in [("grpc", false), ("grpc", true), ("http", false)] {
        with_hub(|hub| {
            let service = format!("rust-{protocol}-{gzip}");
            let _inside = runtime.enter();
            let (logs, spans) = if protocol == "grpc" {
                let endpoint = format!("http://{}", hub.grpc);
                let logs = LogExporter::builder().with_tonic().with_endpoint(&endpoint);
                let spans = SpanExporter::builder().with_tonic().with_endpoint(&endpoint);
                if gzip {
                    let (logs, spans) =
                        (logs.with_compression(Compression::Gzip), spans.with_compression(Compression::Gzip));
                    (logs.build().unwrap(), spans.build().unwrap())
                } else {
                    (logs.build().unwrap(), spans.build().unwrap())
                }
            } else {
                let endpoint = |path: &str| format!("http://{}{path}", hub.http);
                let logs = LogExporter::builder().with_http().with_endpoint(endpoint("/v1/logs"));
                let spans = SpanExporter::builder().with_http().with_endpoint(endpoint("/v1/traces"));
                (logs.build().unwrap(), spans.build().unwrap())
            };
            let sent = rust_records(&service, logs, spans);
            compare(hub, &service, sent);
        });
    }
}

/// Sends with the Rust SDK; returns what it sent.
fn rust_records(service: &str, logs: LogExporter, spans: SpanExporter) -> Vec<Value> {
    let resource = Resource::builder_empty()
        .with_attributes([KeyValue::new("service.name", service.to_owned()), KeyValue::new("answer", 42)])
        .build();
    let tracers =
        SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(spans).build();
    let loggers = SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(logs).build();
    let tracer = tracers.tracer_with_scope(InstrumentationScope::builder("sender").with_version("0.1").build());
    let mut sent = vec![rust_log(&loggers.logger("sender"))];

    let at = |plus: u64| SystemTime::UNIX_EPOCH + Duration::from_nanos(TIME_UNIX_NANO + plus);
    let far = SpanContext::new(
        TraceId::from_bytes([0xab; 16]),
        SpanId::from_bytes([0xcd; 8]),
        TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    let mut root = tracer
        .span_builder("POST /orders")
        .with_kind(SpanKind::Server)
        .with_start_time(at(0))
        .with_attributes([
            KeyValue::new("text", "crème 日本 \"quoted\" \\ \n end"),
            KeyValue::new("yes", true),
            KeyValue::new("int_max", i64::MAX),
            KeyValue::new("whole_double", 3.0),
            KeyValue::new(
                "strings",
                opentelemetry::Value::Array(Array::String(vec![StringValue::from("a"), StringValue::from("")])),
            ),
            KeyValue::new("ints", opentelemetry::Value::Array(Array::I64(vec![1, -2]))),
            KeyValue::new("http.response.status_code", 503),
        ])
        .with_links(vec![Link::new(far, vec![KeyValue::new("attempt", 2)], 0)])
        .start(&tracer);
    root.add_event_with_timestamp("retrying", at(500), vec![KeyValue::new("wait_s", 0.25)]);
    root.set_status(Status::error("card refused"));
    let context = root.span_context().clone();
    root.end_with_timestamp(at(1_000_001));
    sent.push(json!({
        "table": "spans",
        "trace_id": context.trace_id().to_string(),
        "span_id": context.span_id().to_string(),
        "parent_span_id": null,
        "name": "POST /orders",
        "kind": 2,
        "time": TIME_UNIX_NANO.to_string(),
        "duration_ns": 1_000_001,
        "status_code": 2,
        "status_message": "card refused",
        "attributes": {
            "text": "crème 日本 \"quoted\" \\ \n end",
            "yes": true,
            "int_max": i64::MAX,
            "whole_double": 3.0,
            "strings": ["a", ""],
            "ints": [1, -2],
            "http.response.status_code": 503,
        },
        "events": [{
            "name": "retrying",
            "time": (TIME_UNIX_NANO + 500).to_string(),
            "attributes": {"wait_s": 0.25},
        }],
        "links": [{
            "trace_id": "ab".repeat(16),
            "span_id": "cd".repeat(8),
            "attributes": {"attempt": 2},
        }],
    }));
    let mut child = tracer.build_with_context(
        tracer.span_builder("charge").with_kind(SpanKind::Client).with_start_time(at(10)),
        &Context::new().with_remote_span_context(context.clone()),
    );
    let child_id = child.span_context().span_id().to_string();
    child.end_with_timestamp(at(10));
    sent.push(json!({
        "table": "spans",
        "trace_id": context.trace_id().to_string(),
        "span_id": child_id,
        "parent_span_id": context.span_id().to_string(),
        "name": "charge",
        "kind": 3,
        "time": (TIME_UNIX_NANO + 10).to_string(),
        "duration_ns": 0,
        "status_code": 0,
        "status_message": null,
        "attributes": {},
        "events": [],
        "links": [],
    }));
    tracers.shutdown().unwrap();
    loggers.shutdown().unwrap();
    sent
}

fn rust_log(logger: &impl opentelemetry::logs::Logger) -> Value {
    let mut record = logger.create_log_record();
    record.set_timestamp(SystemTime::UNIX_EPOCH + Duration::from_nanos(TIME_UNIX_NANO));
    record.set_severity_number(Severity::Warn2);
    record.set_severity_text("warning");
    record.set_event_name("payment.refused");
    record.set_body(AnyValue::from("card refused"));
    record.set_trace_context(
        TraceId::from_bytes([7; 16]),
        SpanId::from_bytes([9; 8]),
        Some(TraceFlags::SAMPLED),
    );
    let inner =
        AnyValue::ListAny(Box::new(vec![AnyValue::Int(1), AnyValue::from("two"), AnyValue::Double(3.0)]));
    let map = std::collections::HashMap::from([(Key::from("deep"), inner)]);
    record.add_attribute("map", AnyValue::Map(Box::new(map)));
    record.add_attribute("bytes", AnyValue::Bytes(Box::new(vec![0, 255, 16])));
    record.add_attribute("yes", true);
    record.add_attribute("int_min", i64::MIN);
    record.add_attribute("double", 2.5);
    record.add_attribute("http.request.method", "POST");
    logger.emit(record);
    json!({
        "table": "logs",
        "time": TIME_UNIX_NANO.to_string(),
        "trace_id": "07".repeat(16),
        "span_id": "09".repeat(8),
        "severity_number": 14,
        "severity_text": "warning",
        "event_name": "payment.refused",
        "body": "card refused",
        "attributes": {
            "map": {"deep": [1, "two", 3.0]},
            "bytes": {"$bytes": "AP8Q"},
            "yes": true,
            "int_min": i64::MIN,
            "double": 2.5,
            "http.request.method": "POST",
        },
    })
}

#[test]
fn curl_sends_json() {
    let time = TIME_UNIX_NANO.to_string();
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "curl"}}]});
    let log = json!({
        "timeUnixNano": time, "severityNumber": 9, "severityText": "Information", "eventName": "order.taken",
        "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174",
        "body": {"stringValue": "by hand"},
        "attributes": [
            {"key": "int", "value": {"intValue": "9223372036854775807"}},
            {"key": "small", "value": {"intValue": -5}},
            {"key": "map", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 1}}]}}},
            {"key": "bytes", "value": {"bytesValue": "AP8Q"}},
            {"key": "nothing", "value": {}},
        ],
    });
    let span = json!({
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "EEE19B7EC3C1B174", "name": "by hand", "kind": 2,
        "startTimeUnixNano": time, "endTimeUnixNano": TIME_UNIX_NANO + 7, "status": {"code": 1},
        "attributes": [{"key": "yes", "value": {"boolValue": true}}],
    });
    let logs = json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [log]}]}]});
    let spans = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]});
    let expected = vec![
        json!({
            "table": "logs", "time": time,
            "trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174",
            "severity_number": 9, "severity_text": "Information", "event_name": "order.taken", "body": "by hand",
            "attributes": {
                "int": i64::MAX, "small": -5, "map": {"a": 1.0}, "bytes": {"$bytes": "AP8Q"}, "nothing": null,
            },
        }),
        json!({
            "table": "spans", "time": time, "duration_ns": 7,
            "trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174", "parent_span_id": null,
            "name": "by hand", "kind": 2, "status_code": 1, "status_message": null,
            "attributes": {"yes": true}, "events": [], "links": [],
        }),
    ];
    with_hub(|hub| {
        curl(hub, "/v1/logs", &logs);
        curl(hub, "/v1/traces", &spans);
        compare(hub, "curl", expected);
    });
}

fn curl(hub: &Process, path: &str, body: &Value) {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--header",
        "content-type: application/json",
    ]);
    command.args(["--data-binary", &body.to_string(), &format!("http://{}{path}", hub.http)]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{path}: {said}{}", String::from_utf8_lossy(&output.stderr));
    // Full success leaves partial_success unset.
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({}), "{path}");
}

/// Runs a test against a hub of its own, which must end well.
fn with_hub(test: impl FnOnce(&Process)) {
    let folder = tempfile::tempdir().unwrap();
    let hub = Process::start(&folder.path().join("data"), &[]);
    test(&hub);
    hub.stop();
}

/// What the hub has of a service is what was sent, no more and no less.
fn compare(hub: &Process, service: &str, sent: Vec<Value>) {
    let mut sent: Vec<Value> = sent.into_iter().map(without_absent).collect();
    let query = format!("service:{service}");
    let mut kept: Vec<Value> = ["logs", "spans"]
        .into_iter()
        .flat_map(|table| hub.search(table, &query).into_iter().map(move |row| as_sent(table, &row)))
        .collect();
    let order = |row: &Value| (row["table"].to_string(), row["time"].to_string(), row["span_id"].to_string());
    sent.sort_by_key(order);
    kept.sort_by_key(order);
    for (sent, kept) in sent.iter().zip(&kept) {
        assert_eq!(kept, sent, "{service}");
    }
    assert_eq!(kept.len(), sent.len(), "{service}");
}

/// Without what was not sent: the hub leaves it out.
fn without_absent(mut row: Value) -> Value {
    if let Value::Object(fields) = &mut row {
        fields.retain(|_, value| !value.is_null() && *value != json!([]) && *value != json!({}));
        if fields.get("severity_text").is_none() {
            // A log without a text is shown with the name of its number.
            let number = fields.get("severity_number").and_then(Value::as_u64).unwrap_or(0);
            let name =
                ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"].get((number.max(1) as usize - 1) / 4);
            if number > 0 {
                fields.insert("severity_text".to_owned(), json!(name));
            }
        }
    }
    row
}

/// A row of the API in the form that senders print.
fn as_sent(table: &str, row: &Value) -> Value {
    let mut sent = json!({
        "table": table,
        "time": row["time_unix_nano"],
        "trace_id": row["trace_id"],
        "span_id": row["span_id"],
        "attributes": row["attributes"],
    });
    if table == "logs" {
        sent["severity_number"] = row["severity_number"].clone();
        sent["severity_text"] = row["severity"].clone();
        sent["event_name"] = row["event"].clone();
        sent["body"] = row["body"].clone();
    } else {
        // What is left out is the first name.
        let code = |names: &[&str], name: &Value| {
            let name = name.as_str().or(names.first().copied());
            names.iter().position(|known| Some(*known) == name)
        };
        let kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"];
        let inner = |key: &str, keep: &[&str]| -> Vec<Value> {
            row[key].as_array().into_iter().flatten().map(|item| picked(item, keep)).collect()
        };
        sent["parent_span_id"] = row["parent_span_id"].clone();
        sent["name"] = row["name"].clone();
        sent["kind"] = json!(code(&kinds, &row["kind"]));
        sent["duration_ns"] = row["duration_ns"].clone();
        sent["status_code"] = json!(code(&["unset", "ok", "error"], &row["status"]));
        sent["status_message"] = row["status_message"].clone();
        sent["events"] = json!(inner("events", &["name", "time_unix_nano", "attributes"]));
        sent["links"] = json!(inner("links", &["trace_id", "span_id", "attributes"]));
    }
    without_absent(sent)
}

/// Some fields of an event or a link; its time as senders print it.
fn picked(item: &Value, keep: &[&str]) -> Value {
    let mut fields = serde_json::Map::new();
    for key in keep {
        match (*key, &item[*key]) {
            ("time_unix_nano", time) => fields.insert("time".to_owned(), json!(time.to_string())),
            ("attributes", Value::Null) => fields.insert("attributes".to_owned(), json!({})),
            (_, value) => fields.insert((*key).to_owned(), value.clone()),
        };
    }
    Value::Object(fields)
}
