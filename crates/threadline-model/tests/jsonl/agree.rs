//! The parser against the oracle, on generated lines and on a day of a real system (`../shared/data/trainticket`).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use proptest::prelude::*;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::inspect::Unchecked;
use threadline_model::jsonl::{LineParser, Mapping, Parsed, Record, decode, time};
use threadline_model::schema::{Layout, Table};

use crate::{oracle, show};

const ARRIVAL_US: i64 = 1_700_000_000_000_000;

fn builders() -> [BatchBuilder; 2] {
    [Table::Logs, Table::Spans]
        .map(|table| BatchBuilder::new(Arc::new(Layout::base(table)), ARRIVAL_US, RecordLimits::default()))
}

fn finish(builders: [BatchBuilder; 2]) -> Vec<Option<RecordBatch>> {
    builders.into_iter().map(|builder| builder.finish().unwrap()).collect()
}

fn push(builders: &mut [BatchBuilder; 2], parsed: &Parsed<'_>) {
    let [logs, spans] = builders;
    match &parsed.record {
        Record::Log(log) => {
            logs.set_resource(&parsed.resource);
            logs.set_scope(&parsed.scope);
            logs.push_log(log, 0).unwrap();
        }
        Record::Span(span) => {
            spans.set_resource(&parsed.resource);
            spans.set_scope(&parsed.scope);
            spans.push_span(span, 0).unwrap();
        }
    }
}

/// Whether a line has a whole number that serde_json, which the oracle reads with, takes as a neighbour of the nearest
/// double; the parser takes the nearest.
fn is_inexact(line: &str) -> bool {
    let mut runs = line.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() > 19);
    runs.any(|run| !matches!(run, "18446744073709551615" | "36893488147419103232"))
}

/// Both ways give the same record for each line, and the same columns for all.
fn check(map: &str, lines: &[String]) {
    let lines: Vec<String> = lines.iter().filter(|line| !is_inexact(line)).cloned().collect();
    let mapping = Arc::new(Mapping::with(map).unwrap());
    let (mut fast, mut slow) =
        (LineParser::new(Arc::clone(&mapping)), oracle::LineParser::new(Mapping::with(map).unwrap()));
    let mut want = builders();
    for line in &lines {
        let slow = slow.parse(line.as_bytes(), |parsed| {
            push(&mut want, parsed);
            show(parsed)
        });
        let fast = fast.parse(line.as_bytes(), show);
        match (&fast, &slow) {
            (Ok(fast), Ok(slow)) => assert_eq!(fast, slow, "{line}"),
            (Err(fast), Err(slow)) => assert_eq!(fast.kind(), slow.kind(), "{line}"),
            _ => panic!("{line}: {fast:?} {slow:?}"),
        }
    }
    let mut got = builders();
    let [logs, spans] = &mut got;
    decode(lines.join("\n").as_bytes(), &mut LineParser::new(mapping), 4 << 20, logs, spans, &mut Unchecked);
    assert_eq!(finish(got), finish(want));
}

const NAMES: &[&str] = &[
    "ts",
    "time",
    "time_unix_nano",
    "_time",
    "start_time",
    "end_time",
    "duration_ms",
    "observed_time",
    "severity",
    "level",
    "severity_number",
    "body",
    "message",
    "msg",
    "event",
    "event_name",
    "trace_id",
    "traceId",
    "span_id",
    "spanId",
    "parent_span_id",
    "service",
    "service.name",
    "instance",
    "pod",
    "logger",
    "name",
    "kind",
    "status",
    "status_message",
    "flags",
    "node",
    "host",
    "namespace",
    "thread",
    "attributes",
    "resource",
    "a",
    "b",
    "$x",
    "http.route",
    "http.response.status_code",
    "k\\u00e9y",
    "é",
    "",
];

const TEXTS: &[&str] = &[
    "",
    "INFO",
    "warn",
    "x",
    "é",
    "日本",
    "a\\nb",
    "\\\"q\\\"",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\/",
    "01",
    "server",
    "SPAN_KIND_CLIENT",
    "ERROR",
    "e8a3352051e85c13136b27945b8cab5b",
    "E8A3352051E85C13136B27945B8CAB5B",
    "dea06c5b784cbd1d",
    "00000000000000000000000000000000",
    "2026-01-05T00:00:01.123456789Z",
    "2026-01-05 00:00:01,5",
    "1767571201",
    "1767571201123456789",
    "1767571201.25",
    "soon",
    "-5",
    "a longer text that does not fit into any small vector at all, and then goes on",
    "a longer text with an escape \\t in its middle, and then more of it to the end",
];

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => prop::sample::select(TEXTS).prop_map(|text| format!("\"{text}\"")),
        2 => any::<i64>().prop_map(|int| int.to_string()),
        2 => (0i64..300).prop_map(|int| int.to_string()),
        1 => (1_767_571_201i64..1_767_579_201, 0..1000i64).prop_map(|(s, ms)| format!("{s}.{ms:03}")),
        1 => prop::sample::select(vec![
            "null", "true", "false", "0", "-0", "-1", "0.5", "-2.25", "1e3", "1E-2", "18446744073709551615",
            "9223372036854775807", "-9223372036854775808", "9223372036854775808", "36893488147419103232",
        ]).prop_map(String::from),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let space = || prop::sample::select(vec!["", "", " ", "\t"]);
    let nested = scalar().prop_recursive(3, 10, 3, move |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..3), space())
                .prop_map(|(v, s)| format!("[{s}{}{s}]", v.join(&format!("{s},{s}")))),
            (prop::collection::vec((prop::sample::select(NAMES), inner), 0..3), space()).prop_map(|(v, s)| {
                let members: Vec<String> =
                    v.iter().map(|(name, value)| format!("\"{name}\"{s}:{s}{value}")).collect();
                format!("{{{s}{}{s}}}", members.join(&format!("{s},{s}")))
            }),
        ]
    });
    prop_oneof![4 => scalar(), 1 => nested]
}

fn line() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", "", " ", "\t"]);
    let field = (prop::sample::select(NAMES), value());
    let object = (prop::collection::vec(field, 0..10), space).prop_map(|(fields, s)| {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{s}{value}")).collect();
        format!("{s}{{{s}{}{s}}}{s}", fields.join(&format!(",{s}")))
    });
    let object = object.boxed();
    let span = scalar().prop_map(|value| {
        format!(
            "{{\"trace_id\":\"e8a3352051e85c13136b27945b8cab5b\",\"span_id\":\"dea06c5b784cbd1d\",\"name\":{value},\
             \"start_time\":\"2026-01-05T00:00:01.5Z\",\"duration_ms\":{value},\"kind\":{value},\"x\":{value}}}"
        )
    });
    prop_oneof![
        8 => object.clone(),
        2 => span,
        // One character of it is another one.
        2 => (object, any::<prop::sample::Index>(), prop::sample::select(vec!['"', '\\', '{', '}', '[', ',', ':', '0', 'x', '\u{1}']))
            .prop_map(|(text, at, c)| {
                let mut chars: Vec<char> = text.chars().collect();
                let at = at.index(chars.len());
                chars[at] = c;
                chars.into_iter().collect()
            }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn generated_lines_give_the_same_columns(lines in prop::collection::vec(line(), 0..6)) {
        check("", &lines);
    }

    #[test]
    fn maps_are_followed(lines in prop::collection::vec(line(), 0..4)) {
        check("time_ms=a,body=b,service=name,resource.team=msg,url.path=level,ignore=ts,trace=host", &lines);
    }

    /// Every time that exists reads back, however it is written.
    #[test]
    fn times_read_back(second in -9_000_000_000i64..9_000_000_000, nano in 0i32..1_000_000_000, offset in -82_800i32..82_800) {
        let offset = offset / 60 * 60;
        let time = jiff::Timestamp::new(second, nano).unwrap();
        let zoned = time.to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::Offset::from_seconds(offset).unwrap()));
        let want = Some(time.as_nanosecond() as i64);
        let read = |text: &str| time::from_text(text, threadline_model::jsonl::mapping::Unit::ByMagnitude);
        prop_assert_eq!(read(&time.to_string()), want);
        prop_assert_eq!(read(&zoned.strftime("%Y-%m-%d %H:%M:%S,%N%z").to_string()), want);
        prop_assert_eq!(read(&zoned.strftime("%Y%m%dT%H%M%S.%N%:z").to_string()), want);
        let whole = want.map(|_| second * 1_000_000_000);
        let zoned = zoned.timestamp().to_zoned(zoned.time_zone().clone()) ;
        let zoned = zoned.with().subsec_nanosecond(0).build().unwrap();
        let whole = if second < 0 && nano > 0 { Some(zoned.timestamp().as_nanosecond() as i64) } else { whole };
        prop_assert_eq!(read(&zoned.strftime("%d/%b/%Y:%H:%M:%S %z").to_string()), whole);
        prop_assert_eq!(read(&jiff::fmt::rfc2822::to_string(&zoned).unwrap()), whole);
    }
}

#[test]
fn a_day_of_a_real_system_gives_the_same_columns() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/trainticket");
    if !folder.exists() {
        eprintln!("skipped: ../shared/data/trainticket is not beside the repository");
        return;
    }
    for name in ["logs.ndjson.zst", "spans.ndjson.zst"] {
        let file = std::fs::File::open(folder.join(name)).unwrap();
        let lines: Vec<String> =
            BufReader::new(zstd::Decoder::new(file).unwrap()).lines().map(Result::unwrap).collect();
        assert!(lines.len() > 1000);
        for lines in lines.chunks(10_000) {
            check("", lines);
        }
    }
}
