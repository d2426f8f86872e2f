//! Rows of a batch as owned records.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_schema::DataType;
use rustc_hash::FxHashMap;

use super::{Attribute, Event, Limits, Link, LogRecord, SpanRecord};
use crate::columns::{Batch, IntColumn, StrColumn};
use crate::id::TraceId;
use crate::schema::{Layout, Origin, Table, fixed, verdict};
use crate::value::{self, Value};

/// Records taken so far, and how many were left out for a cap.
#[derive(Debug, Default)]
pub struct Intake<T> {
    /// Taken.
    pub records: Vec<T>,
    /// Left out.
    pub left_out: usize,
    bytes: usize,
    texts: FxHashMap<Box<str>, Arc<str>>,
}

impl<T> Intake<T> {
    /// Nothing taken yet.
    pub fn new() -> Self {
        Self { records: Vec::new(), left_out: 0, bytes: 0, texts: FxHashMap::default() }
    }

    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.texts.get(text) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = Arc::from(text);
        self.bytes += text.len();
        self.texts.insert(text.into(), Arc::clone(&shared));
        shared
    }

    fn has_room(&mut self, records_max: usize, bytes_max: usize) -> bool {
        let room = self.records.len() < records_max && self.bytes < bytes_max;
        self.left_out += usize::from(!room);
        room
    }
}

/// Takes the rows of `spans` that belong to the trace.
pub fn read_spans(batch: &RecordBatch, trace_id: TraceId, limits: Limits, intake: &mut Intake<SpanRecord>) {
    let batch = Batch::new(batch);
    let common = Common::new(batch, Table::Spans);
    let (parent, name) = (batch.ids("parent_span_id"), batch.str("name"));
    let (events, links) = (batch.str("events"), batch.str("links"));
    let dropped = ["dropped_attributes_count", "dropped_events_count", "dropped_links_count"];
    let dropped = dropped.map(|column| batch.int(column));
    for row in 0..batch.rows() {
        let (true, Some(span_id)) = (batch.trace_id(row) == Some(trace_id), batch.span_id(row)) else {
            continue;
        };
        if !intake.has_room(limits.spans_max, limits.bytes_max) {
            continue;
        }
        let (service, instance) = common.process(row);
        let events = events.get(row).unwrap_or_default();
        let links = links.get(row).unwrap_or_default();
        let status_message = batch.str("status_message").get(row).unwrap_or_default().to_owned();
        let attributes = common.attributes(row);
        intake.bytes += attribute_bytes(&attributes) + events.len() + links.len() + status_message.len() + 64;
        let record = SpanRecord {
            span_id,
            parent_span_id: parent.and_then(|_| batch.parent_span_id(row)),
            service: intake.share(service),
            instance: intake.share(instance),
            name: intake.share(name.get(row).unwrap_or_default()),
            kind: int32(common.kind.get(row)),
            start_ns: batch.time_unix_nano(row),
            time_known: common.time_known(row),
            duration_ns: common.duration.get(row).unwrap_or(0),
            status_code: int32(common.status.get(row)),
            status_message,
            attributes,
            resource: intake.share(common.resource.get(row).unwrap_or_default()),
            scope: intake.share(common.scope.get(row).unwrap_or_default()),
            events: parse_events(events),
            links: parse_links(links),
            dropped: dropped.iter().fold(0, |sum, column| {
                u32::try_from(column.get(row).unwrap_or(0)).unwrap_or(u32::MAX).saturating_add(sum)
            }),
        };
        intake.records.push(record);
    }
}

/// Takes the rows of `logs` that belong to the trace.
pub fn read_logs(batch: &RecordBatch, trace_id: TraceId, limits: Limits, intake: &mut Intake<LogRecord>) {
    let batch = Batch::new(batch);
    let common = Common::new(batch, Table::Logs);
    let (severity, severity_text) = (batch.int("severity_number"), batch.str("severity_text"));
    let (event_name, body) = (batch.str("event_name"), batch.str("body"));
    let sent = batch.int("sent_time_unix_nano");
    let body_json = batch.record_batch().column_by_name("body_json").and_then(|array| array.as_boolean_opt());
    for row in 0..batch.rows() {
        if batch.trace_id(row) != Some(trace_id) || !intake.has_room(limits.logs_max, limits.bytes_max) {
            continue;
        }
        let (service, instance) = common.process(row);
        let attributes = common.attributes(row);
        let body = body.get(row).unwrap_or_default().to_owned();
        intake.bytes += attribute_bytes(&attributes) + body.len() + 64;
        let record = LogRecord {
            time_ns: batch.time_unix_nano(row),
            time_known: common.time_known(row),
            sent_time_ns: sent.get(row),
            service: intake.share(service),
            instance: intake.share(instance),
            severity_number: int32(severity.get(row)),
            severity_text: intake.share(severity_text.get(row).unwrap_or_default()),
            event_name: intake.share(event_name.get(row).unwrap_or_default()),
            body,
            body_json: body_json.is_some_and(|a| arrow_array::Array::is_valid(a, row) && a.value(row)),
            attributes,
            span_id: batch.span_id(row),
        };
        intake.records.push(record);
    }
}

fn int32(number: Option<i64>) -> i32 {
    number.and_then(|number| i32::try_from(number).ok()).unwrap_or(0)
}

fn attribute_bytes(attributes: &[Attribute]) -> usize {
    attributes.iter().map(|a| a.key.len() + a.json.len() + 48).sum()
}

/// Columns of both tables, looked up once per batch.
struct Common<'a> {
    batch: Batch<'a>,
    service: StrColumn<'a>,
    /// What tells instances apart, best first.
    instance: [StrColumn<'a>; 3],
    resource: StrColumn<'a>,
    scope: StrColumn<'a>,
    attrs: StrColumn<'a>,
    verdict: IntColumn<'a>,
    kind: IntColumn<'a>,
    duration: IntColumn<'a>,
    status: IntColumn<'a>,
    /// Promoted columns that hold the record's own attributes; whether the key was promoted later, so that it may
    /// stem from the resource.
    promoted: Vec<(&'a str, bool)>,
}

impl<'a> Common<'a> {
    fn new(batch: Batch<'a>, table: Table) -> Self {
        let base = Layout::base(table);
        let schema = batch.record_batch().schema_ref();
        let promoted = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .filter(|name| !fixed(table).iter().any(|field| field.name() == name))
            .filter_map(|name| match base.promoted.iter().find(|key| &*key.key == name) {
                Some(key) => (key.origin == Origin::Record).then_some((name, false)),
                None => Some((name, true)),
            })
            .collect();
        Self {
            batch,
            service: batch.str("service"),
            instance: ["instance", "k8s.pod.name", "host.name"].map(|column| batch.str(column)),
            resource: batch.str("resource"),
            scope: batch.str("scope"),
            attrs: batch.str("attrs"),
            verdict: batch.int("verdict"),
            kind: batch.int("kind"),
            duration: batch.int("duration_ns"),
            status: batch.int("status_code"),
            promoted,
        }
    }

    fn process(&self, row: usize) -> (&'a str, &'a str) {
        let instance = self.instance.iter().find_map(|column| column.get(row));
        (self.service.get(row).unwrap_or_default(), instance.unwrap_or_default())
    }

    fn time_known(&self, row: usize) -> bool {
        self.verdict.get(row).unwrap_or(0) & (verdict::TIME_ABSURD | verdict::TIME_MISSING) == 0
    }

    fn attributes(&self, row: usize) -> Vec<Attribute> {
        let mut out = Vec::new();
        for &(key, evolved) in &self.promoted {
            if let Some(json) = self.column_json(key, row)
                && !(evolved && self.in_resource(key, row))
            {
                out.push(Attribute { key: key.to_owned(), json });
            }
        }
        let rest = value::members(self.attrs.get(row).unwrap_or_default());
        out.extend(rest.map(|(key, raw)| Attribute { key: key.into_owned(), json: raw.json().to_owned() }));
        out
    }

    fn in_resource(&self, key: &str, row: usize) -> bool {
        self.resource
            .get(row)
            .and_then(|json| value::member(json, "attributes"))
            .is_some_and(|attributes| value::member(attributes.json(), key).is_some())
    }

    fn column_json(&self, key: &str, row: usize) -> Option<String> {
        let array = self.batch.record_batch().column_by_name(key)?;
        let valid = row < array.len() && array.is_valid(row);
        let mut out = String::new();
        match array.data_type() {
            DataType::Int64 => Value::Int(self.batch.int(key).get(row)?).write_json(&mut out),
            DataType::Float64 => {
                let array = array.as_primitive_opt::<Float64Type>().filter(|_| valid)?;
                Value::Double(array.value(row)).write_json(&mut out);
            }
            DataType::Boolean => {
                let array = array.as_boolean_opt().filter(|_| valid)?;
                Value::Bool(array.value(row)).write_json(&mut out);
            }
            _ => Value::Str(self.batch.str(key).get(row)?).write_json(&mut out),
        }
        Some(out)
    }
}

/// Members of a typed-JSON object that may be wrapped for its `$` keys.
fn attribute_list(json: &str) -> Vec<Attribute> {
    let inner = value::member(json, "$map").map_or(json, value::Raw::json);
    value::members(inner)
        .map(|(key, raw)| Attribute { key: key.into_owned(), json: raw.json().to_owned() })
        .collect()
}

fn text_member(object: &str, key: &str) -> String {
    value::member(object, key).and_then(value::Raw::str).map(Cow::into_owned).unwrap_or_default()
}

fn attributes_member(object: &str) -> Vec<Attribute> {
    value::member(object, "attributes").map(|raw| attribute_list(raw.json())).unwrap_or_default()
}

fn parse_events(json: &str) -> Vec<Event> {
    let mut events: Vec<Event> = value::elements(json)
        .map(value::Raw::json)
        .map(|event| Event {
            // Ints are the bits of OTLP's fixed64: beyond i64 they are no sane times.
            time_ns: value::member(event, "time_unix_nano")
                .and_then(|raw| raw.json().parse().ok())
                .unwrap_or(0),
            name: text_member(event, "name"),
            attributes: attributes_member(event),
        })
        .collect();
    events.sort_by_key(|event| event.time_ns);
    events
}

fn parse_links(json: &str) -> Vec<Link> {
    value::elements(json)
        .map(value::Raw::json)
        .map(|link| Link {
            trace_id: text_member(link, "trace_id"),
            span_id: text_member(link, "span_id"),
            attributes: attributes_member(link),
        })
        .collect()
}
