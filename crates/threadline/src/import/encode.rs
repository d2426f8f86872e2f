//! Records as an OTLP 1.11 protobuf request (`ExportLogsServiceRequest`, `ExportTraceServiceRequest`): what the
//! importer sends. Records are grouped by resource and scope; within a group they keep their order.

use std::collections::HashMap;

use base64::Engine as _;
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView, SpanView};
use threadline_model::value::{self, Value};

/// Wire type of a length-delimited field.
const BYTES: u32 = 2;

/// A request under construction.
#[derive(Debug, Default)]
pub(super) struct RequestBuilder {
    groups: Vec<Group>,
    known: HashMap<Vec<u8>, usize>,
    last: usize,
    head: Vec<u8>,
    records: usize,
}

#[derive(Debug)]
struct Group {
    /// The `resource` field, then the `scope` field.
    head: Vec<u8>,
    resource_bytes: usize,
    records: Vec<u8>,
}

impl RequestBuilder {
    /// Records so far.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Adds a log record.
    pub(super) fn log(&mut self, resource: &ResourceView<'_>, scope: &ScopeView<'_>, log: &LogView<'_>) {
        let out = self.group(resource, scope);
        message(out, 2, |out| {
            fixed64(out, 1, log.time_unix_nano);
            varint_field(out, 2, log.severity_number as i64 as u64);
            bytes_field(out, 3, log.severity_text.as_bytes());
            if log.body != Value::Empty {
                message(out, 5, |out| any_value(out, &log.body));
            }
            attributes(out, 6, log.attributes);
            varint_field(out, 7, u64::from(log.dropped_attributes_count));
            fixed32(out, 8, log.flags);
            bytes_field(out, 9, log.trace_id.as_ref().map_or(&[][..], |id| &id.0));
            bytes_field(out, 10, log.span_id.as_ref().map_or(&[][..], |id| &id.0));
            fixed64(out, 11, log.observed_time_unix_nano);
            bytes_field(out, 12, log.event_name.as_bytes());
        });
    }

    /// Adds a span. Events and links are not written: JSON lines have none.
    pub(super) fn span(&mut self, resource: &ResourceView<'_>, scope: &ScopeView<'_>, span: &SpanView<'_>) {
        let out = self.group(resource, scope);
        message(out, 2, |out| {
            bytes_field(out, 1, &span.trace_id.0);
            bytes_field(out, 2, &span.span_id.0);
            bytes_field(out, 3, span.trace_state.as_bytes());
            bytes_field(out, 4, span.parent_span_id.as_ref().map_or(&[][..], |id| &id.0));
            bytes_field(out, 5, span.name.as_bytes());
            varint_field(out, 6, span.kind as i64 as u64);
            fixed64(out, 7, span.start_time_unix_nano);
            fixed64(out, 8, span.end_time_unix_nano);
            attributes(out, 9, span.attributes);
            varint_field(out, 10, u64::from(span.dropped_attributes_count));
            if span.status_code != 0 || !span.status_message.is_empty() {
                message(out, 15, |out| {
                    bytes_field(out, 2, span.status_message.as_bytes());
                    varint_field(out, 3, span.status_code as i64 as u64);
                });
            }
            fixed32(out, 16, span.flags);
        });
    }

    /// The request; the builder is then empty.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.known.clear();
        self.records = 0;
        let mut out = Vec::new();
        for group in self.groups.drain(..) {
            let (resource, scope) = group.head.split_at(group.resource_bytes);
            message(&mut out, 1, |out| {
                out.extend_from_slice(resource);
                message(out, 2, |out| {
                    out.extend_from_slice(scope);
                    out.extend_from_slice(&group.records);
                });
            });
        }
        out
    }

    fn group(&mut self, resource: &ResourceView<'_>, scope: &ScopeView<'_>) -> &mut Vec<u8> {
        self.records += 1;
        self.head.clear();
        message(&mut self.head, 1, |out| attributes(out, 1, resource.attributes));
        let resource_bytes = self.head.len();
        if !scope.name.is_empty() {
            message(&mut self.head, 1, |out| bytes_field(out, 1, scope.name.as_bytes()));
        }
        if self.groups.get(self.last).is_none_or(|group| group.head != self.head) {
            self.last = match self.known.get(&self.head) {
                Some(&at) => at,
                None => {
                    self.known.insert(self.head.clone(), self.groups.len());
                    self.groups.push(Group { head: self.head.clone(), resource_bytes, records: Vec::new() });
                    self.groups.len() - 1
                }
            };
        }
        // `last` is a position of `groups` by now; the fallback only keeps the compiler content.
        match self.groups.get_mut(self.last) {
            Some(group) => &mut group.records,
            None => &mut self.head,
        }
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

fn varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        tag(out, field, 0);
        varint(out, value);
    }
}

fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        tag(out, field, 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        tag(out, field, 5);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_bytes(out, field, bytes);
    }
}

fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    tag(out, field, BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes a message whose length is known only afterwards: one byte is left for it, longer lengths move the content.
fn message(out: &mut Vec<u8>, field: u32, content: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, BYTES);
    let at = out.len();
    out.push(0);
    content(out);
    let len = out.len() - at - 1;
    let mut digits = Vec::new();
    match out.get_mut(at) {
        Some(byte) if len < 0x80 => *byte = len as u8,
        _ => {
            varint(&mut digits, len as u64);
            out.splice(at..=at, digits);
        }
    }
}

fn attributes(out: &mut Vec<u8>, field: u32, attributes: &[Attribute<'_>]) {
    for (key, value) in attributes {
        key_value(out, field, key, |out| any_value(out, value));
    }
}

fn key_value(out: &mut Vec<u8>, field: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    message(out, field, |out| {
        bytes_field(out, 1, key.as_bytes());
        message(out, 2, value);
    });
}

fn any_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match *value {
        Value::Empty => {}
        Value::Str(text) => put_bytes(out, 1, text.as_bytes()),
        Value::Bool(bool) => {
            tag(out, 2, 0);
            out.push(u8::from(bool));
        }
        Value::Int(int) => {
            tag(out, 3, 0);
            varint(out, int as u64);
        }
        Value::Double(double) => {
            tag(out, 4, 1);
            out.extend_from_slice(&double.to_le_bytes());
        }
        Value::Bytes(bytes) => put_bytes(out, 7, bytes),
        Value::Json(json) => typed_json(out, json),
    }
}

/// A value of typed JSON (docs/formats.md). Depth is bounded by who wrote it.
fn typed_json(out: &mut Vec<u8>, json: &str) {
    match json.bytes().next() {
        Some(b'{') => object(out, json),
        Some(b'[') => message(out, 5, |out| {
            for element in value::elements(json) {
                message(out, 1, |out| typed_json(out, element.json()));
            }
        }),
        Some(b'"') => {
            let list = format!("[{json}]");
            let text = value::elements(&list).next().and_then(value::Raw::str).map(|text| text.into_owned());
            any_value(out, &Value::Str(&text.unwrap_or_default()));
        }
        Some(b't') => any_value(out, &Value::Bool(true)),
        Some(b'f') => any_value(out, &Value::Bool(false)),
        Some(b'-' | b'0'..=b'9') => match (json.parse::<i64>(), json.parse::<f64>()) {
            (Ok(int), _) => any_value(out, &Value::Int(int)),
            (_, Ok(double)) => any_value(out, &Value::Double(double)),
            _ => {}
        },
        _ => {}
    }
}

fn object(out: &mut Vec<u8>, json: &str) {
    let wrapped = |key: &str| value::member(json, key).filter(|_| value::members(json).count() == 1);
    if let Some(map) = wrapped("$map") {
        return map_value(out, map.json());
    }
    if let Some(text) = wrapped("$bytes").and_then(value::Raw::str)
        && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text.as_bytes())
    {
        return any_value(out, &Value::Bytes(&bytes));
    }
    if let Some(name) = wrapped("$double").and_then(value::Raw::str) {
        let double = match name.as_ref() {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => f64::NAN,
        };
        return any_value(out, &Value::Double(double));
    }
    map_value(out, json);
}

fn map_value(out: &mut Vec<u8>, json: &str) {
    message(out, 6, |out| {
        for (key, member) in value::members(json) {
            key_value(out, 1, &key, |out| typed_json(out, member.json()));
        }
    });
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::path::PathBuf;
    use std::sync::Arc;

    use arrow_array::RecordBatch;
    use threadline_model::builder::{BatchBuilder, RecordLimits};
    use threadline_model::inspect::Unchecked;
    use threadline_model::jsonl::{self, LineParser, Mapping, Record};
    use threadline_model::otlp::{self, Format};
    use threadline_model::schema::{Layout, Table};

    use super::RequestBuilder;

    const TRACE: &str = "e8a3352051e85c13136b27945b8cab5b";

    /// What the encoder writes is what the usual OTLP types read.
    #[test]
    fn requests_are_otlp() {
        use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
        use prost::Message as _;
        let mut builder = RequestBuilder::default();
        let mut parser = LineParser::new(Arc::new(Mapping::default()));
        let long = "x".repeat(300);
        for (service, body) in [("a", "1"), ("b", long.as_str()), ("a", "3")] {
            let line = format!(
                r#"{{"service":"{service}","body":"{body}","severity":"warn","ts":1674981729,"trace_id":"{TRACE}","n":-1,"d":0.5,"l":[1,"x",{{"$k":false}}]}}"#
            );
            parser
                .parse(line.as_bytes(), |parsed| match &parsed.record {
                    Record::Log(log) => builder.log(&parsed.resource, &parsed.scope, log),
                    Record::Span(_) => panic!("a span"),
                })
                .unwrap();
        }
        assert_eq!(builder.records(), 3);
        let request = ExportLogsServiceRequest::decode(builder.finish().as_slice()).unwrap();
        assert_eq!((builder.records(), builder.finish().len()), (0, 0));
        let bodies: Vec<Vec<String>> = request
            .resource_logs
            .iter()
            .map(|resource| {
                resource.scope_logs[0]
                    .log_records
                    .iter()
                    .map(|log| format!("{:?}", log.body))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(bodies.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert!(bodies[1][0].contains(&long));
        let log = &request.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!((log.time_unix_nano, log.severity_number), (1_674_981_729_000_000_000, 13));
        assert_eq!(log.trace_id, threadline_model::id::TraceId::from_hex(TRACE).unwrap().0);
        let shown: Vec<String> = log.attributes.iter().map(|a| format!("{}:{:?}", a.key, a.value)).collect();
        let shown = shown.join(" ");
        for part in [
            "n:",
            "IntValue(-1)",
            "d:",
            "DoubleValue(0.5)",
            "l:",
            "StringValue(\"x\")",
            "key: \"$k\"",
            "BoolValue(false)",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    fn builder(table: Table) -> BatchBuilder {
        BatchBuilder::new(Arc::new(Layout::base(table)), 1_700_000_000_000_000, RecordLimits::default())
    }

    /// The columns of a line that the importer sends as OTLP.
    fn imported(parser: &mut LineParser, line: &str) -> (Table, Option<RecordBatch>) {
        let mut request = RequestBuilder::default();
        let table = parser
            .parse(line.as_bytes(), |parsed| match &parsed.record {
                Record::Log(log) => {
                    request.log(&parsed.resource, &parsed.scope, log);
                    Table::Logs
                }
                Record::Span(span) => {
                    request.span(&parsed.resource, &parsed.scope, span);
                    Table::Spans
                }
            })
            .unwrap();
        let (mut columns, request) = (builder(table), request.finish());
        match table {
            Table::Logs => otlp::decode_logs(Format::Protobuf, &request, &mut columns, &mut Unchecked),
            Table::Spans => otlp::decode_traces(Format::Protobuf, &request, &mut columns, &mut Unchecked),
        }
        .unwrap();
        (table, columns.finish().unwrap())
    }

    fn check(parser: &mut LineParser, line: &str) {
        let (table, imported) = imported(parser, line);
        let (mut logs, mut spans) = (builder(Table::Logs), builder(Table::Spans));
        jsonl::decode(line.as_bytes(), parser, 4 << 20, &mut logs, &mut spans, &mut Unchecked);
        let sent = match table {
            Table::Logs => logs.finish().unwrap(),
            Table::Spans => spans.finish().unwrap(),
        };
        assert_eq!(sent, imported, "{line}");
    }

    #[test]
    fn a_line_is_the_same_record_imported_or_sent() {
        let mut parser = LineParser::new(Arc::new(Mapping::default()));
        for line in [
            r#"{"ts":1674981729,"service":"a","pod":"p","host":"h","level":"warn","msg":"m","logger":"l","n":-1,"d":0.5}"#,
            r#"{"msg":{"a":[1,2.5,"x\n",null,{"$k":true}]},"x":null,"y":"","l":[],"o":{},"attributes":{"k":1e30}}"#,
            r#"{"trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d","parent_span_id":"aea06c5b784cbd1d","name":"GET","start_time":"2026-01-05T00:00:00Z","duration_ms":1.5,"kind":"server","status":"error","flags":1}"#,
            r#"{"event_name":"e","observed_time":"2026-01-05T00:00:00.5Z","severity_number":3,"trace_flags":"01","resource":{"r":true}}"#,
        ] {
            check(&mut parser, line);
        }
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/trainticket");
        if !folder.exists() {
            eprintln!("skipped: ../shared/data/trainticket is not beside the repository");
            return;
        }
        for name in ["logs.ndjson.zst", "spans.ndjson.zst"] {
            let file = std::fs::File::open(folder.join(name)).unwrap();
            for line in BufReader::new(zstd::Decoder::new(file).unwrap()).lines().take(20_000) {
                check(&mut parser, &line.unwrap());
            }
        }
    }
}
