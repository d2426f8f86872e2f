//! Random requests, encoded by the generated protobuf types, which also say what must come out.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message as _;
use threadline_model::builder::BatchBuilder;
use threadline_model::id::{SpanId, TraceId};
use threadline_model::inspect::{Inspector, Refused};
use threadline_model::otlp::{Decoded, Format, Malformed, count_data_points, decode_logs, decode_traces};
use threadline_model::record::{LogView, ResourceView, ScopeView, SpanView};
use threadline_model::schema::Table;
use threadline_model::value::{ObjectWriter, Value, write_str};

use arrow_array::RecordBatch;

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        4 => text().prop_map(Any::StringValue),
        1 => any::<bool>().prop_map(Any::BoolValue),
        2 => any::<i64>().prop_map(Any::IntValue),
        1 => prop_oneof![prop::num::f64::NORMAL, Just(0.0), Just(-0.0), Just(1.0)].prop_map(Any::DoubleValue),
        1 => prop::collection::vec(any::<u8>(), 0..8).prop_map(Any::BytesValue),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        let inner = inner.prop_map(|value| AnyValue { value: Some(value) });
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|values| Any::ArrayValue(ArrayValue { values })),
            prop::collection::vec((text(), inner), 0..3).prop_map(|members| {
                let values = members
                    .into_iter()
                    .map(|(key, value)| KeyValue { key, value: Some(value), key_strindex: 0 })
                    .collect();
                Any::KvlistValue(KeyValueList { values })
            }),
        ]
    });
    prop_oneof![9 => value.prop_map(|value| AnyValue { value: Some(value) }), 1 => Just(AnyValue::default())]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,5}",
        any::<String>(),
        "[a-z ]{130}",
        prop::sample::select(vec!["$map", "service.name", "http.route", "\"\\\n\u{1}"]).prop_map(String::from),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![
        text(),
        prop::sample::select(vec!["service.name", "http.response.status_code", "url.path", "k8s.pod.name"])
            .prop_map(String::from),
    ];
    let value = prop::option::weighted(0.9, any_value());
    prop::collection::vec((key, value), 0..4).prop_map(|pairs| {
        pairs.into_iter().map(|(key, value)| KeyValue { key, value, key_strindex: 0 }).collect()
    })
}

fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), len),
        1 => Just(Vec::new()),
        1 => Just(vec![0; len]),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), any::<u64>(), 1_690_000_000_000_000_000u64..1_700_000_000_000_000_000]
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let resource = (attributes(), 0u32..3).prop_map(|(attributes, dropped_attributes_count)| Resource {
        attributes,
        dropped_attributes_count,
        entity_refs: Vec::new(),
    });
    prop::option::of(resource)
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let scope = (text(), text(), attributes(), 0u32..3);
    prop::option::of(scope.prop_map(|(name, version, attributes, dropped_attributes_count)| {
        InstrumentationScope { name, version, attributes, dropped_attributes_count }
    }))
}

fn log() -> impl Strategy<Value = LogRecord> {
    let front = (time(), time(), any::<i32>(), text(), prop::option::of(any_value()), attributes());
    let back = (any::<u32>(), any::<u32>(), id(16), id(8), text());
    (front, back).prop_map(|(front, back)| LogRecord {
        time_unix_nano: front.0,
        observed_time_unix_nano: front.1,
        severity_number: front.2,
        severity_text: front.3,
        body: front.4,
        attributes: front.5,
        dropped_attributes_count: back.0,
        flags: back.1,
        trace_id: back.2,
        span_id: back.3,
        event_name: back.4,
    })
}

fn logs() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope_logs = (scope(), prop::collection::vec(log(), 0..4), text())
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    let resource_logs = (resource(), prop::collection::vec(scope_logs, 0..3), text())
        .prop_map(|(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url });
    prop::collection::vec(resource_logs, 0..3)
        .prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), 0u32..3).prop_map(|(time_unix_nano, name, attributes, dropped)| {
        Event { time_unix_nano, name, attributes, dropped_attributes_count: dropped }
    })
}

fn link() -> impl Strategy<Value = Link> {
    let ids = |len| prop_oneof![prop::collection::vec(any::<u8>(), len), Just(Vec::new())];
    (ids(16), ids(8), text(), attributes(), 0u32..3, any::<u32>()).prop_map(|parts| Link {
        trace_id: parts.0,
        span_id: parts.1,
        trace_state: parts.2,
        attributes: parts.3,
        dropped_attributes_count: parts.4,
        flags: parts.5,
    })
}

fn span() -> impl Strategy<Value = Span> {
    let front = (id(16), id(8), text(), id(8), any::<u32>(), text(), any::<i32>(), time(), time());
    let back = (
        attributes(),
        0u32..3,
        prop::collection::vec(event(), 0..3),
        0u32..3,
        prop::collection::vec(link(), 0..3),
        0u32..3,
        prop::option::of((text(), any::<i32>()).prop_map(|(message, code)| Status { message, code })),
    );
    (front, back).prop_map(|(front, back)| Span {
        trace_id: front.0,
        span_id: front.1,
        trace_state: front.2,
        parent_span_id: front.3,
        flags: front.4,
        name: front.5,
        kind: front.6,
        start_time_unix_nano: front.7,
        end_time_unix_nano: front.8,
        attributes: back.0,
        dropped_attributes_count: back.1,
        events: back.2,
        dropped_events_count: back.3,
        links: back.4,
        dropped_links_count: back.5,
        status: back.6,
    })
}

fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope_spans = (scope(), prop::collection::vec(span(), 0..3), text())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let resource_spans = (resource(), prop::collection::vec(scope_spans, 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    prop::collection::vec(resource_spans, 0..3)
        .prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// A value's text in typed JSON, from the generated types.
fn typed_json(value: &AnyValue, out: &mut String) {
    match &value.value {
        None | Some(Any::StringValueStrindex(_)) => out.push_str("null"),
        Some(Any::StringValue(text)) => write_str(out, text),
        Some(Any::BoolValue(bool)) => out.push_str(&bool.to_string()),
        Some(Any::IntValue(int)) => out.push_str(&int.to_string()),
        Some(Any::DoubleValue(double)) => Value::Double(*double).write_json(out),
        Some(Any::BytesValue(bytes)) => Value::Bytes(bytes).write_json(out),
        Some(Any::ArrayValue(array)) => {
            out.push('[');
            for (index, value) in array.values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                typed_json(value, out);
            }
            out.push(']');
        }
        Some(Any::KvlistValue(map)) => typed_map(&map.values, out),
    }
}

fn typed_map(members: &[KeyValue], out: &mut String) {
    let mut object = ObjectWriter::new(out);
    for member in members {
        typed_json(&member.value.clone().unwrap_or_default(), object.key(&member.key));
    }
    object.end();
}

/// The texts that views of a record's values borrow.
struct Rendered<'a>(Vec<(&'a KeyValue, String)>);

impl<'a> Rendered<'a> {
    fn new(attributes: &'a [KeyValue]) -> Self {
        let json = |attribute: &KeyValue| {
            let mut out = String::new();
            typed_json(&attribute.value.clone().unwrap_or_default(), &mut out);
            out
        };
        Self(attributes.iter().map(|attribute| (attribute, json(attribute))).collect())
    }

    fn view(&self) -> Vec<(&str, Value<'_>)> {
        self.0
            .iter()
            .map(|(attribute, json)| (attribute.key.as_str(), view(attribute.value.as_ref(), json)))
            .collect()
    }
}

fn view<'a>(value: Option<&'a AnyValue>, json: &'a str) -> Value<'a> {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(Any::StringValueStrindex(_)) => Value::Empty,
        Some(Any::StringValue(text)) => Value::Str(text),
        Some(Any::BoolValue(bool)) => Value::Bool(*bool),
        Some(Any::IntValue(int)) => Value::Int(*int),
        Some(Any::DoubleValue(double)) => Value::Double(*double),
        Some(Any::BytesValue(bytes)) => Value::Bytes(bytes),
        Some(Any::ArrayValue(_) | Any::KvlistValue(_)) => Value::Json(json),
    }
}

fn id_len_fits(id: &[u8], len: usize) -> bool {
    id.is_empty() || id.len() == len
}

/// What decoding must give: the batch and how many records are refused.
type Outcome = (Option<RecordBatch>, usize);

/// Builds the batch from the generated types through views.
struct Expected {
    builder: threadline_model::builder::BatchBuilder,
    refused: usize,
}

impl Expected {
    fn new(table: Table) -> Self {
        Self { builder: super::builder(table), refused: 0 }
    }

    fn resource(&mut self, resource: Option<&Resource>, schema_url: &str) {
        let resource = resource.cloned().unwrap_or_default();
        let attributes = Rendered::new(&resource.attributes);
        self.builder.set_resource(&ResourceView {
            attributes: &attributes.view(),
            dropped_attributes_count: resource.dropped_attributes_count,
            schema_url,
        });
    }

    fn scope(&mut self, scope: Option<&InstrumentationScope>, schema_url: &str) {
        let scope = scope.cloned().unwrap_or_default();
        let attributes = Rendered::new(&scope.attributes);
        self.builder.set_scope(&ScopeView {
            name: &scope.name,
            version: &scope.version,
            attributes: &attributes.view(),
            dropped_attributes_count: scope.dropped_attributes_count,
            schema_url,
        });
    }

    fn log(&mut self, log: &LogRecord) {
        if !id_len_fits(&log.trace_id, 16) || !id_len_fits(&log.span_id, 8) {
            self.refused += 1;
            return;
        }
        let attributes = Rendered::new(&log.attributes);
        let mut body = String::new();
        typed_json(&log.body.clone().unwrap_or_default(), &mut body);
        let view = LogView {
            time_unix_nano: log.time_unix_nano,
            observed_time_unix_nano: log.observed_time_unix_nano,
            severity_number: log.severity_number,
            severity_text: &log.severity_text,
            event_name: &log.event_name,
            body: view(log.body.as_ref(), &body),
            attributes: &attributes.view(),
            dropped_attributes_count: log.dropped_attributes_count,
            flags: log.flags,
            trace_id: TraceId::from_bytes(&log.trace_id),
            span_id: SpanId::from_bytes(&log.span_id),
        };
        self.builder.push_log(&view, 1 << 20).unwrap();
    }

    fn span(&mut self, span: &Span) {
        let (Some(trace_id), Some(span_id), true) = (
            TraceId::from_bytes(&span.trace_id),
            SpanId::from_bytes(&span.span_id),
            id_len_fits(&span.parent_span_id, 8),
        ) else {
            self.refused += 1;
            return;
        };
        let attributes = Rendered::new(&span.attributes);
        let (events, links) = (events_json(&span.events), links_json(&span.links));
        let status = span.status.clone().unwrap_or_default();
        let view = SpanView {
            parent_span_id: SpanId::from_bytes(&span.parent_span_id),
            trace_state: &span.trace_state,
            flags: span.flags,
            name: &span.name,
            kind: span.kind,
            start_time_unix_nano: span.start_time_unix_nano,
            end_time_unix_nano: span.end_time_unix_nano,
            attributes: &attributes.view(),
            dropped_attributes_count: span.dropped_attributes_count,
            events_json: &events,
            dropped_events_count: span.dropped_events_count,
            links_json: &links,
            dropped_links_count: span.dropped_links_count,
            status_code: status.code,
            status_message: &status.message,
            ..SpanView::new(trace_id, span_id)
        };
        self.builder.push_span(&view, 1 << 20).unwrap();
    }

    fn logs(request: &ExportLogsServiceRequest) -> Outcome {
        let mut expected = Expected::new(Table::Logs);
        for resource in &request.resource_logs {
            expected.resource(resource.resource.as_ref(), &resource.schema_url);
            for scope in &resource.scope_logs {
                expected.scope(scope.scope.as_ref(), &scope.schema_url);
                scope.log_records.iter().for_each(|log| expected.log(log));
            }
        }
        (expected.builder.finish().unwrap(), expected.refused)
    }

    fn traces(request: &ExportTraceServiceRequest) -> Outcome {
        let mut expected = Expected::new(Table::Spans);
        for resource in &request.resource_spans {
            expected.resource(resource.resource.as_ref(), &resource.schema_url);
            for scope in &resource.scope_spans {
                expected.scope(scope.scope.as_ref(), &scope.schema_url);
                scope.spans.iter().for_each(|span| expected.span(span));
            }
        }
        (expected.builder.finish().unwrap(), expected.refused)
    }
}

fn array_json<T>(items: &[T], write: impl Fn(&T, &mut ObjectWriter<'_>)) -> String {
    let mut out = String::new();
    for item in items {
        out.push(if out.is_empty() { '[' } else { ',' });
        let mut object = ObjectWriter::new(&mut out);
        write(item, &mut object);
        object.end();
    }
    if !out.is_empty() {
        out.push(']');
    }
    out
}

fn tail_json(object: &mut ObjectWriter<'_>, attributes: &[KeyValue], dropped: u32) {
    if !attributes.is_empty() {
        typed_map(attributes, object.key("attributes"));
    }
    if dropped > 0 {
        object.member("dropped_attributes_count", &Value::Int(dropped.into()));
    }
}

fn events_json(events: &[Event]) -> String {
    array_json(events, |event, object| {
        object.key("time_unix_nano").push_str(&event.time_unix_nano.to_string());
        object.member("name", &Value::Str(&event.name));
        tail_json(object, &event.attributes, event.dropped_attributes_count);
    })
}

fn links_json(links: &[Link]) -> String {
    let trace = |id: &[u8]| TraceId::from_bytes(id).map(|id| id.to_string()).unwrap_or_default();
    let span = |id: &[u8]| SpanId::from_bytes(id).map(|id| id.to_string()).unwrap_or_default();
    array_json(links, |link, object| {
        object.member("trace_id", &Value::Str(&trace(&link.trace_id)));
        object.member("span_id", &Value::Str(&span(&link.span_id)));
        if !link.trace_state.is_empty() {
            object.member("trace_state", &Value::Str(&link.trace_state));
        }
        tail_json(object, &link.attributes, link.dropped_attributes_count);
        if link.flags > 0 {
            object.member("flags", &Value::Int(link.flags.into()));
        }
    })
}

/// Gives every record a bit.
struct Marked;

impl Inspector for Marked {
    fn resource(&mut self, resource: &ResourceView<'_>, builder: &mut BatchBuilder) {
        builder.set_resource(resource);
    }

    fn scope(&mut self, scope: &ScopeView<'_>, builder: &mut BatchBuilder) {
        builder.set_scope(scope);
    }

    fn log(&mut self, log: &LogView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        builder.push_log(log, 1 << 20)
    }

    fn span(&mut self, span: &SpanView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        builder.push_span(span, 1 << 20)
    }
}

fn decoded_logs(format: Format, request: &[u8]) -> Result<(Option<RecordBatch>, Decoded), Malformed> {
    let mut builder = super::builder(Table::Logs);
    let decoded = decode_logs(format, request, &mut builder, &mut Marked)?;
    assert_eq!(decoded.accepted, builder.rows());
    Ok((builder.finish().unwrap(), decoded))
}

fn decoded_traces(format: Format, request: &[u8]) -> Result<(Option<RecordBatch>, Decoded), Malformed> {
    let mut builder = super::builder(Table::Spans);
    let decoded = decode_traces(format, request, &mut builder, &mut Marked)?;
    assert_eq!(decoded.accepted, builder.rows());
    Ok((builder.finish().unwrap(), decoded))
}

fn outcome(decoded: Result<(Option<RecordBatch>, Decoded), Malformed>) -> Outcome {
    let (batch, decoded) = decoded.unwrap();
    (batch, decoded.refused)
}

/// Puts the fields of a message in another order, keeping the order of fields with the same number.
fn reorder(message: &[u8], by: &[u32]) -> Vec<u8> {
    let mut rest = message;
    let mut fields: Vec<(u32, &[u8])> = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let (number, wire_type) = prost::encoding::decode_key(&mut rest).unwrap();
        let context = prost::encoding::DecodeContext::default();
        prost::encoding::skip_field(wire_type, number, &mut rest, context).unwrap();
        fields.push((number, &start[..start.len() - rest.len()]));
    }
    fields.sort_by_key(|(number, _)| by.iter().position(|n| n == number).unwrap_or(0));
    fields.into_iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect()
}

fn mutate(
    mut bytes: Vec<u8>,
    changes: &[(prop::sample::Index, u8)],
    cut: Option<prop::sample::Index>,
) -> Vec<u8> {
    for (at, byte) in changes {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
    bytes
}

fn mutation() -> impl Strategy<Value = (Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>)> {
    (prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4), any::<Option<prop::sample::Index>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn logs_in_protobuf_and_json(request in logs()) {
        let want = Expected::logs(&request);
        prop_assert_eq!(&outcome(decoded_logs(Format::Protobuf, &request.encode_to_vec())), &want);
        let json = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(&outcome(decoded_logs(Format::Json, &json)), &want);
        let json = serde_json::to_vec_pretty(&request).unwrap();
        prop_assert_eq!(&outcome(decoded_logs(Format::Json, &json)), &want);
    }

    #[test]
    fn traces_in_protobuf_and_json(request in traces()) {
        let want = Expected::traces(&request);
        prop_assert_eq!(&outcome(decoded_traces(Format::Protobuf, &request.encode_to_vec())), &want);
        let json = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(&outcome(decoded_traces(Format::Json, &json)), &want);
    }

    /// Two encodings one after the other are one message with the fields of both.
    #[test]
    fn pieces_merge(one in logs(), two in logs()) {
        let mut bytes = one.encode_to_vec();
        two.encode(&mut bytes).unwrap();
        let whole = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(&outcome(decoded_logs(Format::Protobuf, &bytes)), &Expected::logs(&whole));
    }

    /// A record put together from two others, field by field, reads as the generated types read it.
    #[test]
    fn pieces_of_a_record_merge(one in log(), two in log(), order in Just(vec![12u32, 6, 5, 3, 9]).prop_shuffle()) {
        let mut record = one.encode_to_vec();
        two.encode(&mut record).unwrap();
        let record = reorder(&record, &order);
        let mut scope = vec![0x12];
        prost::encoding::encode_varint(record.len() as u64, &mut scope);
        scope.extend_from_slice(&record);
        let mut resource = vec![0x12];
        prost::encoding::encode_varint(scope.len() as u64, &mut resource);
        resource.extend_from_slice(&scope);
        let mut bytes = vec![0x0a];
        prost::encoding::encode_varint(resource.len() as u64, &mut bytes);
        bytes.extend_from_slice(&resource);
        let whole = ExportLogsServiceRequest::decode(bytes.as_slice()).unwrap();
        let mut want = Expected::logs(&whole);
        // An id is judged where it stands, so one of a wrong length counts even when another follows.
        if [&one, &two].iter().any(|log| !id_len_fits(&log.trace_id, 16) || !id_len_fits(&log.span_id, 8)) {
            want = (None, 1);
        }
        prop_assert_eq!(&outcome(decoded_logs(Format::Protobuf, &bytes)), &want);
    }

    #[test]
    fn the_resource_may_stand_behind_its_records(request in logs()) {
        let want = Expected::logs(&request);
        let mut bytes = Vec::new();
        for resource in &request.resource_logs {
            let resource = reorder(&resource.encode_to_vec(), &[3, 2, 1]);
            bytes.push(0x0a);
            prost::encoding::encode_varint(resource.len() as u64, &mut bytes);
            bytes.extend_from_slice(&resource);
        }
        prop_assert_eq!(&outcome(decoded_logs(Format::Protobuf, &bytes)), &want);
    }

    /// Whatever the bytes, there is an answer; what the generated types read, we read or refuse by record.
    #[test]
    fn any_protobuf_gets_an_answer(logs in logs(), traces in traces(), (changes, cut) in mutation()) {
        let bytes = mutate(logs.encode_to_vec(), &changes, cut);
        let oracle = ExportLogsServiceRequest::decode(bytes.as_slice());
        match (decoded_logs(Format::Protobuf, &bytes), oracle) {
            (Ok(ours), Ok(oracle)) => prop_assert_eq!((ours.0, ours.1.refused), Expected::logs(&oracle)),
            (Err(ours), Ok(oracle)) => prop_assert!(false, "{} but {:?}", ours, oracle),
            (Ok((_, decoded)), Err(oracle)) => {
                // A text below which there is no record refuses none.
                prop_assert!(decoded.refused > 0 || oracle.to_string().contains("UTF-8"), "{}", oracle);
            }
            (Err(ours), Err(_)) => prop_assert!(ours.at <= bytes.len()),
        }
        let _ = decoded_traces(Format::Protobuf, &mutate(traces.encode_to_vec(), &changes, cut));
    }

    #[test]
    fn any_json_gets_an_answer(logs in logs(), traces in traces(), (changes, cut) in mutation()) {
        let json = mutate(serde_json::to_vec(&logs).unwrap(), &changes, cut);
        let is_json = serde_json::from_slice::<serde_json::Value>(&json).is_ok();
        let decoded = decoded_logs(Format::Json, &json);
        if let Ok((_, decoded)) = &decoded {
            prop_assert!(is_json || decoded.refused > 0 || std::str::from_utf8(&json).is_err());
        }
        let _ = decoded_traces(Format::Json, &mutate(serde_json::to_vec(&traces).unwrap(), &changes, cut));
    }

    #[test]
    fn data_points_are_counted(sizes in prop::collection::vec((any::<bool>(), 0usize..4), 0..6)) {
        let metrics = sizes.iter().map(|&(gauge, points)| {
            let data = if gauge {
                metric::Data::Gauge(Gauge { data_points: vec![NumberDataPoint::default(); points] })
            } else {
                let data_points = vec![HistogramDataPoint::default(); points];
                metric::Data::Histogram(Histogram { data_points, aggregation_temporality: 1 })
            };
            Metric { name: "m".into(), data: Some(data), ..Metric::default() }
        });
        let scope_metrics = vec![ScopeMetrics { metrics: metrics.collect(), ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        let request = ExportMetricsServiceRequest { resource_metrics };
        let want: usize = sizes.iter().map(|(_, points)| points).sum();
        prop_assert_eq!(count_data_points(Format::Protobuf, &request.encode_to_vec()), Ok(want as u64));
        let json = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(count_data_points(Format::Json, &json), Ok(want as u64));
    }
}
