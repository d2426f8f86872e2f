//! Decoding of requests with 200 records of 10 attributes each, into a finished batch. The baseline in the same run
//! is what a receiver does with the usual generated types: prost's decode alone, without any columns.
//!
//! `cargo bench -p threadline-model --bench decode`

#![allow(clippy::unwrap_used, reason = "a measurement of something that fails is none")]

use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::inspect::Unchecked;
use threadline_model::otlp::{Format, decode_logs, decode_traces};
use threadline_model::schema::{Layout, Table};

const RECORDS: usize = 200;
const TIME: u64 = 1_700_000_000_000_000_000;

fn main() {
    divan::main();
}

fn value(value: Any) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn text(key: &str, text: String) -> KeyValue {
    KeyValue { key: key.into(), value: value(Any::StringValue(text)), key_strindex: 0 }
}

fn int(key: &str, int: i64) -> KeyValue {
    KeyValue { key: key.into(), value: value(Any::IntValue(int)), key_strindex: 0 }
}

fn attributes(index: usize) -> Vec<KeyValue> {
    vec![
        text("http.request.method", ["GET", "POST"][index % 2].into()),
        text("http.route", ["/cart", "/checkout/{id}", "/api/v1/products"][index % 3].into()),
        int("http.response.status_code", [200, 201, 404, 500][index % 4]),
        text("url.path", format!("/checkout/{}", index % 50)),
        text("client.address", format!("10.0.{}.{}", index % 7, index)),
        int("server.port", 8080),
        text("thread.name", format!("worker-{}", index % 8)),
        int("app.cart.items", index as i64),
        text("app.user.tier", ["gold", "silver", "none"][index % 3].into()),
        KeyValue {
            key: "app.retry".into(),
            value: value(Any::BoolValue(index.is_multiple_of(5))),
            key_strindex: 0,
        },
    ]
}

fn resource() -> Option<Resource> {
    let attributes = vec![
        text("service.name", "checkout".into()),
        text("service.version", "1.2.3".into()),
        text("service.instance.id", "checkout-7d9f-1".into()),
        text("k8s.pod.name", "checkout-7d9f".into()),
        text("telemetry.sdk.language", "rust".into()),
    ];
    Some(Resource { attributes, ..Resource::default() })
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "checkout".into(),
        version: "0.1".into(),
        ..InstrumentationScope::default()
    })
}

fn id(index: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (index * 31 + at * 7 + 1) as u8).collect()
}

fn logs() -> ExportLogsServiceRequest {
    let log = |index: usize| LogRecord {
        time_unix_nano: TIME + index as u64 * 1_234_567,
        observed_time_unix_nano: TIME + index as u64 * 1_234_567 + 5_000,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: value(Any::StringValue(format!(
            "order {index} of customer {} placed in {} ms",
            index * 7,
            index % 90
        ))),
        attributes: attributes(index),
        flags: 1,
        trace_id: id(index / 5, 16),
        span_id: id(index, 8),
        ..LogRecord::default()
    };
    let log_records = (0..RECORDS).map(log).collect();
    let scope_logs = vec![ScopeLogs { scope: scope(), log_records, schema_url: String::new() }];
    let resource_logs = vec![ResourceLogs { resource: resource(), scope_logs, schema_url: String::new() }];
    ExportLogsServiceRequest { resource_logs }
}

fn traces() -> ExportTraceServiceRequest {
    let span = |index: usize| Span {
        trace_id: id(index / 5, 16),
        span_id: id(index, 8),
        parent_span_id: id(index + 1, 8),
        name: ["GET /cart", "POST /checkout", "SELECT orders"][index % 3].into(),
        kind: 2,
        start_time_unix_nano: TIME + index as u64 * 1_234_567,
        end_time_unix_nano: TIME + index as u64 * 1_334_567,
        attributes: attributes(index),
        status: Some(Status { code: 1, message: String::new() }),
        flags: 0x101,
        ..Span::default()
    };
    let spans = (0..RECORDS).map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: scope(), spans, schema_url: String::new() }];
    let resource_spans = vec![ResourceSpans { resource: resource(), scope_spans, schema_url: String::new() }];
    ExportTraceServiceRequest { resource_spans }
}

fn builder(layout: &Arc<Layout>) -> BatchBuilder {
    BatchBuilder::new(Arc::clone(layout), (TIME / 1000) as i64, RecordLimits::default())
}

fn bench_logs(bencher: Bencher<'_, '_>, format: Format, request: &[u8]) {
    let layout = Arc::new(Layout::base(Table::Logs));
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut builder = builder(&layout);
        let decoded = decode_logs(format, black_box(request), &mut builder, &mut Unchecked).unwrap();
        assert_eq!(decoded.accepted, RECORDS);
        builder.finish().unwrap()
    });
}

fn bench_traces(bencher: Bencher<'_, '_>, format: Format, request: &[u8]) {
    let layout = Arc::new(Layout::base(Table::Spans));
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        let mut builder = builder(&layout);
        let decoded = decode_traces(format, black_box(request), &mut builder, &mut Unchecked).unwrap();
        assert_eq!(decoded.accepted, RECORDS);
        builder.finish().unwrap()
    });
}

#[divan::bench]
fn logs_protobuf(bencher: Bencher<'_, '_>) {
    bench_logs(bencher, Format::Protobuf, &logs().encode_to_vec());
}

#[divan::bench]
fn logs_json(bencher: Bencher<'_, '_>) {
    bench_logs(bencher, Format::Json, &serde_json::to_vec(&logs()).unwrap());
}

#[divan::bench]
fn logs_prost_decode_only(bencher: Bencher<'_, '_>) {
    let request = logs().encode_to_vec();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| ExportLogsServiceRequest::decode(black_box(request.as_slice())).unwrap());
}

#[divan::bench]
fn logs_serde_json_decode_only(bencher: Bencher<'_, '_>) {
    let request = serde_json::to_vec(&logs()).unwrap();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| serde_json::from_slice::<ExportLogsServiceRequest>(black_box(&request)).unwrap());
}

#[divan::bench]
fn traces_protobuf(bencher: Bencher<'_, '_>) {
    bench_traces(bencher, Format::Protobuf, &traces().encode_to_vec());
}

#[divan::bench]
fn traces_json(bencher: Bencher<'_, '_>) {
    bench_traces(bencher, Format::Json, &serde_json::to_vec(&traces()).unwrap());
}

#[divan::bench]
fn traces_prost_decode_only(bencher: Bencher<'_, '_>) {
    let request = traces().encode_to_vec();
    bencher
        .counter(ItemsCount::new(RECORDS))
        .bench_local(|| ExportTraceServiceRequest::decode(black_box(request.as_slice())).unwrap());
}

/// A finished batch alone: the share of a request's time that does not grow with its records.
#[divan::bench]
fn one_empty_log(bencher: Bencher<'_, '_>) {
    let layout = Arc::new(Layout::base(Table::Logs));
    bencher.bench_local(|| {
        let mut builder = builder(&layout);
        decode_logs(Format::Protobuf, &[0x0a, 4, 0x12, 2, 0x12, 0], &mut builder, &mut Unchecked).unwrap();
        builder.finish().unwrap()
    });
}
