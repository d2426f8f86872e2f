//! Tests that stand in rules, and records for tests: fields as rules name them, as batches.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView, SpanView};
use threadline_model::schema::{Layout, Table};
use threadline_model::value::{ObjectWriter, Value};

use crate::engine::{Engine, Limits};
use crate::finding::Finding;
use crate::matcher::Scratch;
use crate::rules::{Body, RuleSet};
use crate::sigma::extension::{Expect, Test, TestRecord, TestValue};

/// What is in a field of a test's record, with texts and nested JSON owned.
enum Owned {
    Json(String),
    Plain(TestValue),
}

impl Owned {
    fn new(value: &TestValue) -> Owned {
        match value {
            TestValue::List(_) | TestValue::Map(_) => {
                let mut out = String::new();
                write(value, &mut out);
                Owned::Json(out)
            }
            value => Owned::Plain(value.clone()),
        }
    }

    fn view(&self) -> Value<'_> {
        match self {
            Owned::Json(json) => Value::Json(json),
            Owned::Plain(TestValue::Text(text)) => Value::Str(text),
            Owned::Plain(TestValue::Bool(value)) => Value::Bool(*value),
            Owned::Plain(TestValue::Int(value)) => Value::Int(*value),
            Owned::Plain(TestValue::Double(value)) => Value::Double(*value),
            Owned::Plain(_) => Value::Empty,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Owned::Plain(TestValue::Int(value)) => Some(*value),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Owned::Plain(TestValue::Text(text)) => Some(text),
            _ => None,
        }
    }
}

fn write(value: &TestValue, out: &mut String) {
    match value {
        TestValue::Null => Value::Empty.write_json(out),
        TestValue::Text(text) => Value::Str(text).write_json(out),
        TestValue::Bool(value) => Value::Bool(*value).write_json(out),
        TestValue::Int(value) => Value::Int(*value).write_json(out),
        TestValue::Double(value) => Value::Double(*value).write_json(out),
        TestValue::List(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(value, out);
            }
            out.push(']');
        }
        TestValue::Map(members) => {
            let mut object = ObjectWriter::new(out);
            for (key, value) in members {
                write(value, object.key(key));
            }
            object.end();
        }
    }
}

/// Fields that are a resource's.
fn is_resource(key: &str) -> bool {
    key.starts_with("service.")
        || key.starts_with("deployment.")
        || key.starts_with("host.")
        || key.starts_with("k8s.")
}

/// A batch of one table, with sequence numbers from `seq` on. `base_us` is the event time of offset 0; a record arrives at
/// its event time, or with the one before it where that is later.
///
/// # Errors
/// A record beyond the model's limits, or a field that has no such value.
pub fn batch(table: Table, records: &[&TestRecord], base_us: i64, seq: i64) -> Result<RecordBatch, String> {
    let last = records.iter().map(|record| record.at_us).max().unwrap_or(0);
    let layout = Arc::new(Layout::base(table));
    let mut builder = BatchBuilder::new(layout, base_us.saturating_add(last), RecordLimits::default());
    for (number, record) in records.iter().enumerate() {
        push(&mut builder, table, record, base_us, seq + number as i64)?;
    }
    let batch = builder.finish().map_err(|error| error.to_string())?.ok_or("no records")?;
    let seqs: Int64Array = (seq..seq + batch.num_rows() as i64).collect();
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new("seq", DataType::Int64, true)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(seqs));
    let batch =
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|error| error.to_string())?;
    arriving(&batch, arrivals(records, base_us, i64::MIN))
}

/// When each arrives: at its event time, or with the one before it where that is later.
fn arrivals(records: &[&TestRecord], base_us: i64, mut latest_us: i64) -> Vec<i64> {
    let arrive = |record: &&TestRecord| {
        latest_us = latest_us.max(base_us.saturating_add(record.at_us));
        latest_us
    };
    records.iter().map(arrive).collect()
}

/// The batch with other times of arrival, µs.
pub(crate) fn arriving(batch: &RecordBatch, arrivals: Vec<i64>) -> Result<RecordBatch, String> {
    let schema = batch.schema();
    let (at, field) = schema.column_with_name("arrival_ts").ok_or("no column arrival_ts")?;
    let DataType::Timestamp(_, zone) = field.data_type() else {
        return Err("arrival_ts is no time".to_owned());
    };
    let mut columns = batch.columns().to_vec();
    if let Some(column) = columns.get_mut(at) {
        *column = Arc::new(TimestampMicrosecondArray::from(arrivals).with_timezone_opt(zone.clone()));
    }
    RecordBatch::try_new(schema, columns).map_err(|error| error.to_string())
}

fn push(
    builder: &mut BatchBuilder,
    table: Table,
    record: &TestRecord,
    base_us: i64,
    seq: i64,
) -> Result<(), String> {
    let fields: Vec<(&str, Owned)> =
        record.fields.iter().map(|(key, value)| (key.as_str(), Owned::new(value))).collect();
    let of = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    let resource: Vec<(&str, Value<'_>)> =
        fields.iter().filter(|(key, _)| is_resource(key)).map(|(key, value)| (*key, value.view())).collect();
    builder.set_resource(&ResourceView { attributes: &resource, ..ResourceView::default() });
    let own = match table {
        Table::Logs => &["body", "event_name", "severity_number", "severity_text", "trace_id", "span_id"][..],
        Table::Spans => &[
            "name",
            "kind",
            "duration_ns",
            "status_code",
            "status_message",
            "trace_id",
            "span_id",
            "parent_span_id",
        ],
    };
    let attributes: Vec<(&str, Value<'_>)> = fields
        .iter()
        .filter(|(key, _)| !is_resource(key) && !own.contains(key))
        .map(|(key, value)| (*key, value.view()))
        .collect();
    let time = u64::try_from(base_us.saturating_add(record.at_us)).unwrap_or(0).saturating_mul(1000);
    let text = |name: &str| of(name).and_then(Owned::text);
    let int = |name: &str| of(name).and_then(Owned::int);
    let trace_id =
        text("trace_id").map(|hex| TraceId::from_hex(hex).ok_or(format!("trace_id `{hex}` is no id")));
    let span_id = text("span_id").map(|hex| SpanId::from_hex(hex).ok_or(format!("span_id `{hex}` is no id")));
    let (trace_id, span_id) = (trace_id.transpose()?, span_id.transpose()?);
    let done = match table {
        Table::Logs => {
            let log = LogView {
                time_unix_nano: time,
                severity_number: int("severity_number").unwrap_or(0) as i32,
                severity_text: text("severity_text").unwrap_or_default(),
                event_name: text("event_name").unwrap_or_default(),
                body: of("body").map_or(Value::Empty, Owned::view),
                attributes: &attributes,
                trace_id,
                span_id,
                ..LogView::default()
            };
            builder.push_log(&log.named_by_attribute(), 0)
        }
        Table::Spans => {
            let number = (seq as u128 + 1).to_be_bytes();
            let made = SpanId::from_bytes(number.get(8..).unwrap_or_default());
            let trace = trace_id.or_else(|| TraceId::from_bytes(&number));
            let (Some(trace_id), Some(span_id)) = (trace, span_id.or(made)) else {
                return Err("a span needs ids".to_owned());
            };
            let mut span = SpanView::new(trace_id, span_id);
            span.parent_span_id = text("parent_span_id").and_then(SpanId::from_hex);
            span.name = text("name").unwrap_or_default();
            span.kind = int("kind").unwrap_or(0) as i32;
            span.start_time_unix_nano = time;
            span.end_time_unix_nano = time.saturating_add_signed(int("duration_ns").unwrap_or(0));
            span.status_code = int("status_code").unwrap_or(0) as i32;
            span.status_message = text("status_message").unwrap_or_default();
            span.attributes = &attributes;
            builder.push_span(&span, 0)
        }
    };
    done.map_err(|(field, reason)| format!("{field}: {reason}"))
}

/// Event time of offset 0 in tests: 2026-01-05T00:00:00Z, a Monday.
pub const BASE_US: i64 = 1_767_571_200_000_000;

/// How a test of a rule went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// File of the rule.
    pub file: String,
    /// Line of the test.
    pub line: usize,
    /// Title of the rule.
    pub rule: String,
    /// Name of the test.
    pub test: String,
    /// What went wrong; `None` when nothing did.
    pub failure: Option<String>,
}

/// Runs the tests that stand in the rules, each on an engine of its own with all rules.
pub fn run_tests(rules: &Arc<RuleSet>) -> Vec<Outcome> {
    let mut out = Vec::new();
    for (number, rule) in rules.rules.iter().enumerate() {
        for test in &rule.extension.tests {
            out.push(Outcome {
                file: rule.meta.file.clone(),
                line: test.line,
                rule: rule.meta.title.clone(),
                test: test.name.clone(),
                failure: run_test(rules, number, test).err(),
            });
        }
    }
    out
}

fn run_test(rules: &Arc<RuleSet>, number: usize, test: &Test) -> Result<(), String> {
    let rule = rules.rules.get(number).ok_or("no such rule")?;
    match test.expect {
        Expect::Match(want) => {
            let Body::Single { hit, .. } = rule.body else {
                return Err("`match` is for rules over records: write `findings: N`".to_owned());
            };
            for (at, record) in test.records.iter().enumerate() {
                let table = table_of(record);
                let batch = batch(table, &[record], BASE_US, 1)?;
                let mut found = false;
                rules
                    .matcher
                    .scan(&batch, table, &mut Scratch::default(), |_, hits| found = hits.contains(&hit));
                if found != want {
                    let why = rules.matcher.explain(&batch, table, 0, hit);
                    let why = why.map(|why| why.to_string()).unwrap_or_default();
                    let word = if want { "does not match" } else { "matches" };
                    return Err(format!("record {} {word}:\n{why}", at + 1));
                }
            }
            Ok(())
        }
        Expect::Findings(want) => {
            let mut engine = Engine::new(Arc::clone(rules), Limits::default());
            let findings = run_records(&mut engine, &test.records, 0)?;
            let own = findings.iter().filter(|finding| finding.rule_id == rule.id);
            let found: Vec<&str> = own.map(|finding| finding.explanation.as_str()).collect();
            if found.len() as u64 == want {
                return Ok(());
            }
            Err(format!("{} findings, {want} expected\n{}", found.len(), found.join("\n")))
        }
    }
}

fn table_of(record: &TestRecord) -> Table {
    if record.span { Table::Spans } else { Table::Logs }
}

/// Feeds records to an engine in their order, sequence numbers from `seq` on; a record arrives at the latest event time up to
/// it.
///
/// # Errors
/// A record that is none.
pub fn run_records(engine: &mut Engine, records: &[TestRecord], seq: i64) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for (at, run) in runs(records) {
        let Some(first) = run.first() else { continue };
        let table = table_of(first);
        let refs: Vec<&TestRecord> = run.iter().collect();
        let batch = batch(table, &refs, BASE_US, seq + at as i64)?;
        let arrivals = arrivals(&refs, BASE_US, engine.now_us());
        findings.extend(engine.step(&arriving(&batch, arrivals)?, table));
    }
    Ok(findings)
}

/// Records of one table that follow one another.
fn runs(records: &[TestRecord]) -> Vec<(usize, &[TestRecord])> {
    let mut at = 0;
    let mut out = Vec::new();
    for run in records.chunk_by(|a, b| a.span == b.span) {
        for part in run.chunks(1000) {
            out.push((at, part));
            at += part.len();
        }
    }
    out
}
