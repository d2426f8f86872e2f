//! Records as OTLP: requests of bounded size, with the resource, without secrets, texts cut at the contract's limits.

use opentelemetry::InstrumentationScope;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope as Scope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLogRecord;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;

use super::{Batch, Loss, Losses, Signal};
use crate::events::SECRET_KEYS;

/// Bytes of an attribute's value, and of a body: the contract's limits.
const VALUE_BYTES_MAX: usize = 32 << 10;
const BODY_BYTES_MAX: usize = 256 << 10;
/// Bytes of a request, about: it is cut after the record that goes beyond.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of one record at most, as the host takes them.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// What stands where a secret was.
const REDACTED: &str = "[REDACTED]";

/// Turns records into batches.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    resource: ProtoResource,
    schema_url: String,
    records_max: usize,
    losses: Losses,
}

impl Encoder {
    pub(crate) fn new(resource: &Resource, records_max: usize, losses: Losses) -> Encoder {
        let found = ResourceAttributesWithSchema::from(resource);
        let resource = ProtoResource { attributes: found.attributes.0, ..ProtoResource::default() };
        Encoder { resource, schema_url: found.schema_url.unwrap_or_default(), records_max, losses }
    }

    /// Log records, in their order.
    pub(crate) fn logs(&self, records: &[(SdkLogRecord, InstrumentationScope)], out: &mut Vec<Batch>) {
        let mut groups: Vec<(Scope, Vec<LogRecord>)> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for (record, scope) in records {
            let mut proto = LogRecord::from(record);
            tidy(&mut proto.attributes);
            if let Some(AnyValue { value: Some(Value::StringValue(text)) }) = &mut proto.body {
                cut(text, BODY_BYTES_MAX);
            }
            let size = proto.encoded_len();
            if size > RECORD_BYTES_MAX {
                self.losses.add(Loss::TooLarge, 1);
                continue;
            }
            let scope = Scope::from((scope, record.target().cloned()));
            match groups.iter_mut().find(|(known, _)| *known == scope) {
                Some((_, group)) => group.push(proto),
                None => groups.push((scope, vec![proto])),
            }
            count += 1;
            bytes += size;
            if count as usize >= self.records_max || bytes >= BATCH_BYTES {
                out.push(self.log_batch(std::mem::take(&mut groups), std::mem::take(&mut count)));
                bytes = 0;
            }
        }
        if count > 0 {
            out.push(self.log_batch(groups, count));
        }
    }

    fn log_batch(&self, groups: Vec<(Scope, Vec<LogRecord>)>, records: u32) -> Batch {
        let scopes = groups.into_iter().map(|(scope, log_records)| ScopeLogs {
            scope: Some(scope),
            log_records,
            schema_url: String::new(),
        });
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: scopes.collect(),
                schema_url: self.schema_url.clone(),
            }],
        };
        Batch { signal: Signal::Logs, records, payload: request.encode_to_vec() }
    }

    /// Spans, in their order.
    pub(crate) fn spans(&self, spans: Vec<SpanData>, out: &mut Vec<Batch>) {
        let mut groups: Vec<(Scope, Vec<Span>)> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for span in spans {
            let scope = Scope::from((&span.instrumentation_scope, None));
            let mut proto = Span::from(span);
            tidy(&mut proto.attributes);
            proto.events.iter_mut().for_each(|event| tidy(&mut event.attributes));
            let size = proto.encoded_len();
            if size > RECORD_BYTES_MAX {
                self.losses.add(Loss::TooLarge, 1);
                continue;
            }
            match groups.iter_mut().find(|(known, _)| *known == scope) {
                Some((_, group)) => group.push(proto),
                None => groups.push((scope, vec![proto])),
            }
            count += 1;
            bytes += size;
            if count as usize >= self.records_max || bytes >= BATCH_BYTES {
                out.push(self.span_batch(std::mem::take(&mut groups), std::mem::take(&mut count)));
                bytes = 0;
            }
        }
        if count > 0 {
            out.push(self.span_batch(groups, count));
        }
    }

    fn span_batch(&self, groups: Vec<(Scope, Vec<Span>)>, records: u32) -> Batch {
        let scopes = groups.into_iter().map(|(scope, spans)| ScopeSpans {
            scope: Some(scope),
            spans,
            schema_url: String::new(),
        });
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: scopes.collect(),
                schema_url: self.schema_url.clone(),
            }],
        };
        Batch { signal: Signal::Traces, records, payload: request.encode_to_vec() }
    }

    /// The record of what was lost for one reason. It has its place among the others of its instance.
    pub(crate) fn dropped(&self, loss: Loss, count: u64, sequence: u64, time_unix_nano: u64) -> Batch {
        let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.to_owned()));
        let int =
            |key: &str, value: u64| attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
        let body = format!("{count} records were lost before they reached the host: {}", loss.name());
        let record = LogRecord {
            time_unix_nano,
            observed_time_unix_nano: time_unix_nano,
            severity_number: 13,
            severity_text: "WARN".to_owned(),
            event_name: "telemetry.dropped".to_owned(),
            body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
            attributes: vec![
                int("threadline.dropped.count", count),
                text("threadline.reason", loss.name()),
                int(SEQUENCE, sequence),
            ],
            ..LogRecord::default()
        };
        let scope = Scope { name: "threadline".to_owned(), ..Scope::default() };
        self.log_batch(vec![(scope, vec![record])], 1)
    }
}

/// Place of a record among those of its instance.
pub(crate) const SEQUENCE: &str = "threadline.sequence";

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Masks secrets and cuts long texts.
fn tidy(attributes: &mut [KeyValue]) {
    for KeyValue { key, value, .. } in attributes {
        if SECRET_KEYS.binary_search(&key.as_str()).is_ok() {
            *value = Some(AnyValue { value: Some(Value::StringValue(REDACTED.to_owned())) });
        } else if let Some(AnyValue { value: Some(Value::StringValue(text)) }) = value {
            cut(text, VALUE_BYTES_MAX);
        }
    }
}

/// Cuts a text, and says so in it.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let mark = format!("… [{} bytes in all]", text.len());
        let mut end = bytes_max.saturating_sub(mark.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(&mark);
    }
}
