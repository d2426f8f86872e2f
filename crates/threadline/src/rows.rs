//! Rows of a batch as JSON, one line each: the wire form of records (docs/api.md, "Rows"). Lines are appended to a
//! text as they are made; column handles are looked up once per batch.
//!
//! Values of attributes are typed JSON (docs/formats.md). What a record lacks is left out.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow_schema::DataType;
use threadline_model::columns::{Batch, IntColumn, StrColumn};
use threadline_model::schema::{Layout, Origin, Table, fixed, verdict};
use threadline_model::value::{self, Value, write_str};
use threadline_query::lang::RULES;
use threadline_query::search::cursor_of;

/// Writes rows of one batch.
pub struct RowWriter<'a> {
    table: Table,
    batch: Batch<'a>,
    cursor: bool,
    ts: IntColumn<'a>,
    ns: IntColumn<'a>,
    seq: IntColumn<'a>,
    sent: IntColumn<'a>,
    arrival: IntColumn<'a>,
    service: StrColumn<'a>,
    instance: StrColumn<'a>,
    flags: IntColumn<'a>,
    verdict: IntColumn<'a>,
    attrs: StrColumn<'a>,
    dropped_attributes: IntColumn<'a>,
    resource: StrColumn<'a>,
    scope: StrColumn<'a>,
    /// Columns of promoted record attributes, with the key as a JSON string.
    promoted: Vec<(String, Promoted<'a>)>,
    own: Own<'a>,
}

/// Columns that only one table has.
enum Own<'a> {
    Logs {
        observed_ts: IntColumn<'a>,
        observed_ns: IntColumn<'a>,
        severity_number: IntColumn<'a>,
        severity_text: StrColumn<'a>,
        event_name: StrColumn<'a>,
        body: StrColumn<'a>,
        body_json: Option<&'a BooleanArray>,
    },
    Spans {
        name: StrColumn<'a>,
        kind: IntColumn<'a>,
        duration_ns: IntColumn<'a>,
        status_code: IntColumn<'a>,
        status_message: StrColumn<'a>,
        trace_state: StrColumn<'a>,
        events: StrColumn<'a>,
        links: StrColumn<'a>,
        dropped_events: IntColumn<'a>,
        dropped_links: IntColumn<'a>,
    },
}

/// A column of a promoted attribute.
enum Promoted<'a> {
    Str(StrColumn<'a>),
    Int(&'a Int64Array),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
}

impl<'a> Promoted<'a> {
    fn of(batch: &Batch<'a>, name: &str) -> Option<Promoted<'a>> {
        let array = batch.record_batch().column_by_name(name)?;
        match array.data_type() {
            DataType::Int64 => array.as_primitive_opt::<Int64Type>().map(Promoted::Int),
            DataType::Float64 => array.as_primitive_opt::<Float64Type>().map(Promoted::Double),
            DataType::Boolean => array.as_boolean_opt().map(Promoted::Bool),
            _ => Some(Promoted::Str(batch.str(name))),
        }
    }

    fn get(&self, row: usize) -> Option<Value<'a>> {
        fn at<A: Array>(array: &A, row: usize) -> Option<&A> {
            (row < array.len() && array.is_valid(row)).then_some(array)
        }
        match self {
            Promoted::Str(column) => column.get(row).map(Value::Str),
            Promoted::Int(array) => at(*array, row).map(|array| Value::Int(array.value(row))),
            Promoted::Double(array) => at(*array, row).map(|array| Value::Double(array.value(row))),
            Promoted::Bool(array) => at(*array, row).map(|array| Value::Bool(array.value(row))),
        }
    }
}

/// Appends every row of a batch as a line.
pub fn write_rows(table: Table, batch: &RecordBatch, out: &mut String) {
    let writer = RowWriter::new(table, batch);
    for row in 0..batch.num_rows() {
        writer.row(row, out);
        out.push('\n');
    }
}

impl<'a> RowWriter<'a> {
    /// A writer for the rows of a batch.
    pub fn new(table: Table, record_batch: &'a RecordBatch) -> Self {
        let batch = Batch::new(record_batch);
        let own = match table {
            Table::Logs => Own::Logs {
                observed_ts: batch.int("observed_ts"),
                observed_ns: batch.int("observed_ns"),
                severity_number: batch.int("severity_number"),
                severity_text: batch.str("severity_text"),
                event_name: batch.str("event_name"),
                body: batch.str("body"),
                body_json: record_batch.column_by_name("body_json").and_then(|array| array.as_boolean_opt()),
            },
            Table::Spans => Own::Spans {
                name: batch.str("name"),
                kind: batch.int("kind"),
                duration_ns: batch.int("duration_ns"),
                status_code: batch.int("status_code"),
                status_message: batch.str("status_message"),
                trace_state: batch.str("trace_state"),
                events: batch.str("events"),
                links: batch.str("links"),
                dropped_events: batch.int("dropped_events_count"),
                dropped_links: batch.int("dropped_links_count"),
            },
        };
        Self {
            table,
            batch,
            cursor: false,
            ts: batch.int("ts"),
            ns: batch.int("ns"),
            seq: batch.int("seq"),
            sent: batch.int("sent_time_unix_nano"),
            arrival: batch.int("arrival_ts"),
            service: batch.str("service"),
            instance: batch.str("instance"),
            flags: batch.int("flags"),
            verdict: batch.int("verdict"),
            attrs: batch.str("attrs"),
            dropped_attributes: batch.int("dropped_attributes_count"),
            resource: batch.str("resource"),
            scope: batch.str("scope"),
            promoted: promoted(table, &batch),
            own,
        }
    }

    /// Gives each row its paging cursor.
    pub fn with_cursor(mut self, cursor: bool) -> Self {
        self.cursor = cursor;
        self
    }

    /// The table.
    pub fn table(&self) -> Table {
        self.table
    }

    /// Appends a row as a JSON object, without a line end.
    pub fn row(&self, row: usize, out: &mut String) {
        let mut object = Object::new(out);
        let (us, ns) = (self.ts.get(row).unwrap_or(0), self.ns.get(row).unwrap_or(0));
        push_time(object.key("time"), us, Some(ns));
        push_quoted_int(object.key("time_unix_nano"), nanoseconds(us, ns));
        object.int("seq", self.seq.get(row));
        match &self.own {
            Own::Logs { .. } => self.log_head(row, &mut object),
            Own::Spans { .. } => self.span_head(row, us, ns, &mut object),
        }
        object.int("flags", self.flags.get(row));
        self.attributes(row, &mut object);
        self.resource(row, &mut object);
        object.json("scope", self.scope.get(row));
        if let Own::Spans { events, links, dropped_events, dropped_links, .. } = &self.own {
            object.json("events", events.get(row));
            object.int("dropped_events_count", dropped_events.get(row));
            object.json("links", links.get(row));
            object.int("dropped_links_count", dropped_links.get(row));
        }
        if let Own::Logs { observed_ts, observed_ns, .. } = &self.own
            && let Some(us) = observed_ts.get(row)
        {
            push_time(object.key("observed_time"), us, Some(observed_ns.get(row).unwrap_or(0)));
        }
        if let Some(us) = self.arrival.get(row) {
            push_time(object.key("arrival_time"), us, None);
        }
        if let Some(nano) = self.sent.get(row) {
            push_quoted_int(object.key("sent_time_unix_nano"), i128::from(nano));
        }
        if let Some(bits) = self.verdict.get(row).map(|bits| bits & !verdict::CHECKED).filter(|bits| *bits != 0)
        {
            push_verdict(object.key("verdict"), bits);
        }
        object.int("dropped_attributes_count", self.dropped_attributes.get(row));
        if self.cursor {
            object.text("cursor", Some(&cursor_of(self.batch.record_batch(), row).encode()));
        }
        object.end();
    }

    fn log_head(&self, row: usize, object: &mut Object<'_>) {
        let Own::Logs { severity_number, severity_text, event_name, body, body_json, .. } = &self.own else {
            return;
        };
        let number = severity_number.get(row);
        object.text("severity", severity_text.get(row).or_else(|| severity_name(number.unwrap_or(0))));
        object.int("severity_number", number);
        object.text("service", self.service.get(row));
        object.text("instance", self.instance.get(row));
        object.text("event", event_name.get(row));
        let is_json = body_json.is_some_and(|bits| row < bits.len() && bits.is_valid(row) && bits.value(row));
        if is_json {
            object.json("body", body.get(row));
        } else {
            object.text("body", body.get(row));
        }
        self.ids(row, object);
    }

    fn span_head(&self, row: usize, us: i64, ns: i64, object: &mut Object<'_>) {
        let Own::Spans { name, kind, duration_ns, status_code, status_message, trace_state, .. } = &self.own
        else {
            return;
        };
        object.text("service", self.service.get(row));
        object.text("instance", self.instance.get(row));
        object.text("name", name.get(row));
        if let Some(kind) = kind.get(row) {
            object.text("kind", Some(&span_kind_name(kind)));
        }
        self.ids(row, object);
        if let Some(id) = self.batch.parent_span_id(row) {
            object.hex("parent_span_id", &id.hex());
        }
        if let Some(duration) = duration_ns.get(row) {
            object.int("duration_ns", Some(duration));
            let end = nanoseconds(us, ns) + i128::from(duration);
            if let Ok(end_us) = i64::try_from(end.div_euclid(1000)) {
                push_time(object.key("end_time"), end_us, Some(end.rem_euclid(1000) as i64));
            }
        }
        if let Some(code) = status_code.get(row) {
            object.text("status", Some(&status_name(code)));
        }
        object.text("status_message", status_message.get(row));
        object.text("trace_state", trace_state.get(row));
    }

    fn ids(&self, row: usize, object: &mut Object<'_>) {
        if let Some(id) = self.batch.trace_id(row) {
            object.hex("trace_id", &id.hex());
        }
        if let Some(id) = self.batch.span_id(row) {
            object.hex("span_id", &id.hex());
        }
    }

    fn attributes(&self, row: usize, object: &mut Object<'_>) {
        let rest = self.attrs.get(row).map(|json| members_of(json).trim()).filter(|rest| !rest.is_empty());
        let mut first = true;
        for (key, column) in &self.promoted {
            let Some(value) = column.get(row) else { continue };
            let out = if first { object.key("attributes") } else { &mut *object.out };
            out.push(if first { '{' } else { ',' });
            out.push_str(key);
            out.push(':');
            value.write_json(out);
            first = false;
        }
        if let Some(rest) = rest {
            let out = if first { object.key("attributes") } else { &mut *object.out };
            out.push(if first { '{' } else { ',' });
            out.push_str(rest);
            first = false;
        }
        if !first {
            object.out.push('}');
        }
    }

    fn resource(&self, row: usize, object: &mut Object<'_>) {
        let Some(json) = self.resource.get(row) else { return };
        for (key, raw) in value::members(json) {
            match key.as_ref() {
                "attributes" => object.json("resource", Some(raw.json())),
                "dropped_attributes_count" => {
                    object.json("resource_dropped_attributes_count", Some(raw.json()));
                }
                "schema_url" => object.json("resource_schema_url", Some(raw.json())),
                _ => {}
            }
        }
    }
}

/// Columns that hold attributes of records, each with its key as a JSON string. What a promoted resource attribute
/// says is in `resource` as well, so its column is left out.
fn promoted<'a>(table: Table, batch: &Batch<'a>) -> Vec<(String, Promoted<'a>)> {
    let base = Layout::base(table);
    let of_resource =
        |name: &str| base.promoted.iter().any(|p| p.origin == Origin::Resource && p.key.as_ref() == name);
    let is_fixed = |name: &str| fixed(table).iter().any(|field| field.name() == name);
    let schema = batch.record_batch().schema_ref();
    let names = schema.fields().iter().map(|field| field.name());
    names
        .filter(|name| !is_fixed(name) && !of_resource(name))
        .filter_map(|name| {
            let mut key = String::new();
            write_str(&mut key, name);
            Some((key, Promoted::of(batch, name)?))
        })
        .collect()
}

/// The members of a JSON object, without its brackets.
fn members_of(object: &str) -> &str {
    object.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default()
}

fn nanoseconds(us: i64, ns: i64) -> i128 {
    i128::from(us) * 1000 + i128::from(ns)
}

fn push_quoted_int(out: &mut String, int: i128) {
    out.push('"');
    out.push_str(itoa::Buffer::new().format(int));
    out.push('"');
}

/// The short name of a severity number (OTLP 1.11 `SeverityNumber`); `None` for numbers without a name.
pub fn severity_name(number: i64) -> Option<&'static str> {
    const NAMES: [&str; 24] = [
        "TRACE", "TRACE2", "TRACE3", "TRACE4", "DEBUG", "DEBUG2", "DEBUG3", "DEBUG4", "INFO", "INFO2", "INFO3",
        "INFO4", "WARN", "WARN2", "WARN3", "WARN4", "ERROR", "ERROR2", "ERROR3", "ERROR4", "FATAL", "FATAL2",
        "FATAL3", "FATAL4",
    ];
    NAMES.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

/// Name of an OTLP `SpanKind`; the number where it has none.
pub fn span_kind_name(kind: i64) -> Cow<'static, str> {
    match kind {
        0 => Cow::Borrowed("unspecified"),
        1 => Cow::Borrowed("internal"),
        2 => Cow::Borrowed("server"),
        3 => Cow::Borrowed("client"),
        4 => Cow::Borrowed("producer"),
        5 => Cow::Borrowed("consumer"),
        other => Cow::Owned(other.to_string()),
    }
}

/// Name of an OTLP `StatusCode`; the number where it has none.
pub fn status_name(code: i64) -> Cow<'static, str> {
    match code {
        0 => Cow::Borrowed("unset"),
        1 => Cow::Borrowed("ok"),
        2 => Cow::Borrowed("error"),
        other => Cow::Owned(other.to_string()),
    }
}

/// Names of what the host noted, and ids of rules.
fn push_verdict(out: &mut String, bits: i64) {
    out.push('[');
    let mut first = true;
    for bit in (0..64).filter(|bit| bits >> bit & 1 == 1) {
        if !first {
            out.push(',');
        }
        first = false;
        out.push('"');
        match 1i64 << bit {
            verdict::TIME_ABSURD => out.push_str("time_absurd"),
            verdict::TIME_MISSING => out.push_str("time_missing"),
            verdict::SENDER_MISMATCH => out.push_str("sender_mismatch"),
            verdict::REDACTED => out.push_str("redacted"),
            verdict::QUARANTINED => out.push_str("quarantined"),
            bits => match RULES.iter().find(|(_, rule)| *rule == bits) {
                Some((id, _)) => out.push_str(id),
                None => {
                    out.push_str("bit_");
                    out.push_str(itoa::Buffer::new().format(bit));
                }
            },
        }
        out.push('"');
    }
    out.push(']');
}

/// RFC 3339 of a time, µs since the Unix epoch.
pub(crate) fn time_text(us: i64) -> String {
    let mut quoted = String::new();
    push_time(&mut quoted, us, None);
    quoted.trim_matches('"').to_owned()
}

/// Appends a time as a quoted RFC 3339 text in UTC: nine digits of a second when `ns` (nanoseconds below the µs) is
/// given, six otherwise.
pub fn push_time(out: &mut String, us: i64, ns: Option<i64>) {
    const DAY_US: i64 = 86_400_000_000;
    let (year, month, day) = civil(us.div_euclid(DAY_US));
    let in_day = us.rem_euclid(DAY_US);
    let second = in_day / 1_000_000;
    out.push('"');
    if (0..=9999).contains(&year) {
        push_digits(out, year, 4);
    } else {
        out.push_str(itoa::Buffer::new().format(year));
    }
    for (mark, value) in
        [('-', month), ('-', day), ('T', second / 3600), (':', second / 60 % 60), (':', second % 60)]
    {
        out.push(mark);
        push_digits(out, value, 2);
    }
    out.push('.');
    push_digits(out, in_day % 1_000_000, 6);
    if let Some(ns) = ns {
        push_digits(out, ns.clamp(0, 999), 3);
    }
    out.push_str("Z\"");
}

fn push_digits(out: &mut String, value: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10i64.pow(place) % 10;
        out.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
    }
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar. Eras of 400 years begin on
/// 1 March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_era = days + 719_468;
    let era = from_era.div_euclid(146_097);
    let day_of_era = from_era.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A JSON object under construction, whose keys need no escape.
struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, first: true }
    }

    fn key(&mut self, key: &str) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
        self.out
    }

    fn int(&mut self, key: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.key(key).push_str(itoa::Buffer::new().format(value));
        }
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            write_str(self.key(key), value);
        }
    }

    fn json(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key).push_str(value);
        }
    }

    fn hex(&mut self, key: &str, digits: &[u8]) {
        self.text(key, std::str::from_utf8(digits).ok());
    }

    fn end(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use threadline_model::builder::{BatchBuilder, RecordLimits};
    use threadline_model::id::{SpanId, TraceId};
    use threadline_model::record::{LogView, ResourceView, ScopeView, SpanView};

    use super::*;

    const ARRIVAL_US: i64 = 1_700_000_000_000_000;
    const NANO: u64 = 1_699_999_999_123_456_789;

    fn builder(table: Table) -> BatchBuilder {
        let mut builder = BatchBuilder::new(Arc::new(Layout::base(table)), ARRIVAL_US, RecordLimits::default());
        builder.set_resource(&ResourceView {
            attributes: &[("service.name", Value::Str("shop")), ("host.name", Value::Str("a\"b"))],
            schema_url: "https://s/1",
            ..ResourceView::default()
        });
        builder.set_scope(&ScopeView { name: "lib", ..ScopeView::default() });
        builder
    }

    fn lines(table: Table, builder: BatchBuilder) -> String {
        let batch = builder.finish().unwrap().unwrap();
        let mut out = String::new();
        write_rows(table, &batch, &mut out);
        for line in out.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        out
    }

    #[test]
    fn logs_are_lines_of_json() {
        let mut builder = builder(Table::Logs);
        let ids = (TraceId::from_bytes(&[0xab; 16]), SpanId::from_bytes(&[0xcd; 8]));
        let full = LogView {
            time_unix_nano: NANO,
            observed_time_unix_nano: NANO + 1,
            severity_number: 17,
            event_name: "user.login",
            body: Value::Str("token \"expired\"\n"),
            attributes: &[
                ("http.response.status_code", Value::Int(500)),
                ("url.path", Value::Str("/a")),
                ("own", Value::Double(1.0)),
            ],
            dropped_attributes_count: 2,
            flags: 1,
            trace_id: ids.0,
            span_id: ids.1,
            ..LogView::default()
        };
        builder.push_log(&full, 0).unwrap();
        let json_body =
            LogView { body: Value::Json("{\"a\":[1]}"), severity_text: "Err", ..LogView::default() };
        builder.push_log(&json_body, verdict::CHECKED | 1 << 9 | 1 << 40).unwrap();
        let absurd = LogView { time_unix_nano: u64::MAX, body: Value::Str("x"), ..LogView::default() };
        builder.push_log(&absurd, 0).unwrap();
        let got = lines(Table::Logs, builder);
        let tail = r#""resource":{"service.name":"shop","host.name":"a\"b"},"resource_schema_url":"https://s/1","scope":{"name":"lib"}"#;
        let want = [
            format!(
                r#"{{"time":"2023-11-14T22:13:19.123456789Z","time_unix_nano":"1699999999123456789","severity":"ERROR","severity_number":17,"service":"shop","event":"user.login","body":"token \"expired\"\n","trace_id":"{}","span_id":"{}","flags":1,"attributes":{{"http.response.status_code":500,"url.path":"/a","own":1.0}},{tail},"observed_time":"2023-11-14T22:13:19.123456790Z","arrival_time":"2023-11-14T22:13:20.000000Z","dropped_attributes_count":2}}"#,
                "ab".repeat(16),
                "cd".repeat(8)
            ),
            format!(
                r#"{{"time":"2023-11-14T22:13:20.000000000Z","time_unix_nano":"1700000000000000000","severity":"Err","service":"shop","body":{{"a":[1]}},{tail},"arrival_time":"2023-11-14T22:13:20.000000Z","verdict":["time_missing","attribute.missing","bit_40"]}}"#
            ),
            format!(
                r#"{{"time":"2023-11-14T22:13:20.000000000Z","time_unix_nano":"1700000000000000000","service":"shop","body":"x",{tail},"arrival_time":"2023-11-14T22:13:20.000000Z","sent_time_unix_nano":"-1","verdict":["time_absurd"]}}"#
            ),
        ];
        assert_eq!(got.lines().collect::<Vec<_>>(), want);
    }

    #[test]
    fn spans_are_lines_of_json() {
        let mut builder = builder(Table::Spans);
        let (trace, span) = (TraceId([1; 16]), SpanId([2; 8]));
        let full = SpanView {
            parent_span_id: Some(SpanId([3; 8])),
            trace_state: "k=v",
            name: "GET /",
            kind: 2,
            start_time_unix_nano: NANO,
            end_time_unix_nano: NANO + 1_000_000_500,
            events_json: r#"[{"time_unix_nano":1,"name":"e"}]"#,
            links_json: "[]",
            status_code: 2,
            status_message: "no",
            ..SpanView::new(trace, span)
        };
        builder.push_span(&full, 0).unwrap();
        let want = format!(
            r#"{{"time":"2023-11-14T22:13:19.123456789Z","time_unix_nano":"1699999999123456789","service":"shop","name":"GET /","kind":"server","trace_id":"{}","span_id":"{}","parent_span_id":"{}","duration_ns":1000000500,"end_time":"2023-11-14T22:13:20.123457289Z","status":"error","status_message":"no","trace_state":"k=v","resource":{{"service.name":"shop","host.name":"a\"b"}},"resource_schema_url":"https://s/1","scope":{{"name":"lib"}},"events":[{{"time_unix_nano":1,"name":"e"}}],"links":[],"arrival_time":"2023-11-14T22:13:20.000000Z"}}"#,
            "01".repeat(16),
            "02".repeat(8),
            "03".repeat(8)
        );
        assert_eq!(lines(Table::Spans, builder).trim_end(), want);
    }

    #[test]
    fn times_agree_with_a_calendar() {
        for us in [
            0,
            -1,
            951_782_399_999_999,
            951_782_400_000_000,
            4_107_542_399_000_001,
            ARRIVAL_US,
            -62_135_596_800_000_000,
            253_402_207_199_999_999,
        ] {
            let mut got = String::new();
            push_time(&mut got, us, None);
            let want = jiff::Timestamp::from_microsecond(us).unwrap();
            assert_eq!(got, format!("\"{want:.6}\""), "{us}");
        }
    }
}
