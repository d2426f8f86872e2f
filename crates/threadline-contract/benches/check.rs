//! What the check costs: a record of 15 attributes against a contract of more than 900 attributes and 40 events, and decoding
//! with and without it.
//!
//! `cargo bench -p threadline-contract --bench check`

#![allow(clippy::unwrap_used, reason = "a measurement of something that fails is none")]

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use threadline_contract::registry::{File, Layer, base_layers, load};
use threadline_contract::score::Board;
use threadline_contract::{Contract, Guard, Policy};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::inspect::{Inspector, Unchecked};
use threadline_model::otlp::{Format, decode_logs};
use threadline_model::record::{Attribute, LogView};
use threadline_model::schema::{Layout, Table};
use threadline_model::value::Value;

const RECORDS: usize = 1000;

fn main() {
    divan::main();
}

/// The base contract, with events added until there are 40.
fn contract() -> Arc<Contract> {
    let mut layers = base_layers();
    let mut text = String::from("file_format: definition/2\nevents:\n");
    for at in 0..40 - load(&layers).unwrap().events.len() {
        text.push_str(&format!(
            "  - {{ name: shop.event.{at}, stability: stable, brief: b, attributes: [{{ ref: user.id, requirement_level: required }}] }}\n"
        ));
    }
    layers.push(Layer { files: vec![File { path: "more.yaml".to_owned(), text: Cow::Owned(text) }] });
    let registry = load(&layers).unwrap();
    assert!(registry.attributes.len() >= 900 && registry.events.len() == 40);
    Arc::new(Contract::new(registry, Policy::default()))
}

fn attributes(paths: &[String], at: usize) -> Vec<Attribute<'_>> {
    let path = paths.get(at % paths.len()).unwrap();
    let failed = at.is_multiple_of(20);
    vec![
        ("threadline.outcome", Value::Str(if failed { "failure" } else { "success" })),
        ("http.request.method", Value::Str("GET")),
        ("http.route", Value::Str("/api/orders/{id}")),
        ("url.path", Value::Str(path)),
        ("url.scheme", Value::Str("https")),
        ("http.response.status_code", Value::Int(if failed { 500 } else { 200 })),
        ("threadline.duration_s", Value::Double(0.0123 + at as f64)),
        ("client.address", Value::Str("203.0.113.77")),
        ("network.peer.address", Value::Str("10.4.7.19")),
        ("network.protocol.version", Value::Str("1.1")),
        ("server.address", Value::Str("orders.example.com")),
        ("server.port", Value::Int(443)),
        ("user_agent.original", Value::Str("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0")),
        ("user.id", Value::Str("u-48151623")),
        ("error.type", Value::Str(if failed { "upstream_timeout" } else { "none" })),
    ]
}

fn log<'a>(attributes: &'a [Attribute<'a>], at: usize) -> LogView<'a> {
    LogView {
        time_unix_nano: 1_764_000_000_000_000_000 + at as u64,
        severity_number: if at.is_multiple_of(20) { 17 } else { 9 },
        severity_text: "INFO",
        event_name: "request.finished",
        body: Value::Str("GET /api/orders/{id} finished in 12.3 ms for customer 48151623 from eu-west"),
        attributes,
        trace_id: Some(TraceId([7; 16])),
        span_id: Some(SpanId([8; 8])),
        ..LogView::default()
    }
}

fn paths() -> Vec<String> {
    (0..257).map(|at| format!("/api/orders/{}", 100_000 + at * 7919)).collect()
}

fn any(value: any_value::Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn key_value(key: &str, value: &Value<'_>) -> KeyValue {
    let value = match *value {
        Value::Str(text) => any(any_value::Value::StringValue(text.to_owned())),
        Value::Int(int) => any(any_value::Value::IntValue(int)),
        Value::Double(double) => any(any_value::Value::DoubleValue(double)),
        _ => None,
    };
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn request() -> Vec<u8> {
    let paths = paths();
    let records = (0..RECORDS).map(|at| {
        let attributes = attributes(&paths, at);
        let log = log(&attributes, at);
        LogRecord {
            time_unix_nano: log.time_unix_nano,
            severity_number: log.severity_number,
            severity_text: log.severity_text.to_owned(),
            event_name: log.event_name.to_owned(),
            body: match log.body {
                Value::Str(text) => any(any_value::Value::StringValue(text.to_owned())),
                _ => None,
            },
            attributes: attributes.iter().map(|(key, value)| key_value(key, value)).collect(),
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            ..LogRecord::default()
        }
    });
    let resource =
        [("service.name", "orders"), ("service.version", "1.2.3"), ("deployment.environment.name", "prod")];
    let resource = Resource {
        attributes: resource.iter().map(|(key, value)| key_value(key, &Value::Str(value))).collect(),
        ..Resource::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: records.collect(), ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

#[divan::bench]
fn check(bencher: Bencher) {
    let contract = contract();
    let paths = paths();
    let all: Vec<Vec<Attribute<'_>>> = (0..RECORDS).map(|at| attributes(&paths, at)).collect();
    let mut guard = Guard::new(contract, Arc::new(Board::new()));
    for (at, attributes) in all.iter().enumerate() {
        assert_eq!(guard.judge(&log(attributes, at)), 0);
    }
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut bits = 0;
        for (at, attributes) in all.iter().enumerate() {
            bits |= guard.judge(black_box(&log(attributes, at)));
        }
        bits
    });
}

fn decode(bencher: Bencher, inspector: impl Fn() -> Box<dyn Inspector>) {
    let request = request();
    let layout = Arc::new(Layout::base(Table::Logs));
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut builder =
            BatchBuilder::new(Arc::clone(&layout), 1_764_000_000_000_000, RecordLimits::default());
        let decoded =
            decode_logs(Format::Protobuf, black_box(&request), &mut builder, &mut *inspector()).unwrap();
        assert_eq!(decoded.accepted, RECORDS);
        builder.finish().unwrap()
    });
}

#[divan::bench]
fn decode_unchecked(bencher: Bencher) {
    decode(bencher, || Box::new(Unchecked));
}

#[divan::bench]
fn decode_checked(bencher: Bencher) {
    let (contract, board) = (contract(), Arc::new(Board::new()));
    decode(bencher, || Box::new(Guard::new(Arc::clone(&contract), Arc::clone(&board))));
}
