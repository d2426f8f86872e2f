//! Cases of the line parser, the times and requests of lines.

use std::sync::Arc;

use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::inspect::Unchecked;
use threadline_model::jsonl::mapping::Unit;
use threadline_model::jsonl::{LineParser, Mapping, decode, is_otlp, time};
use threadline_model::schema::{Layout, Table};

use crate::show;

#[track_caller]
fn check(map: &str, line: &str, want: &str) {
    let mut parser = LineParser::new(Arc::new(Mapping::with(map).unwrap()));
    // Twice: the buffers of one line must not show in the next.
    for _ in 0..2 {
        let got = parser.parse(line.as_bytes(), show).unwrap_or_else(|error| format!("{error}"));
        assert_eq!(got, want, "{line}");
    }
}

#[test]
fn lines_become_records() {
    for (map, line, want) in [
        // The TrainTicket shapes; the time is from before 1970, as delivered.
        (
            "",
            r#"{"time_unix_nano":"-6795364578871345152","service":"ts-travel2","pod":"p-6","node":"33.33.33.167","severity":"ERROR","trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d","body":"a \"b\""}"#,
            "resource.k8s.node.name=(\"33.33.33.167\") resource.service.name=(\"ts-travel2\") \
             resource.service.instance.id=(\"p-6\") resource.k8s.pod.name=(\"p-6\") LOG=log time=-6795364578871345152 \
             severity=ERROR/17 body=(\"a \\\"b\\\"\") trace=e8a3352051e85c13136b27945b8cab5b span=dea06c5b784cbd1d",
        ),
        (
            "",
            r#"{"trace_id":"6f3cbf058c2765548a39ad724905d6a1","span_id":"37d8fe439ba5bef1","parent_span_id":"","service":"gw","pod":"gw-1","name":"/*","start_time_unix_nano":"1674981729479000000","end_time_unix_nano":"1674981729601611605"}"#,
            "resource.service.name=(\"gw\") resource.service.instance.id=(\"gw-1\") resource.k8s.pod.name=(\"gw-1\") \
             SPAN=/* start=1674981729479000000 end=1674981729601611605 trace=6f3cbf058c2765548a39ad724905d6a1 \
             span=37d8fe439ba5bef1",
        ),
        // Loggers as they are.
        (
            "",
            r#"{"level":30,"time":1674981729479,"pid":7,"hostname":"h","msg":"hi","ok":true,"x":null}"#,
            "resource.host.name=(\"h\") LOG=log time=1674981729479000000 severity=/9 body=(\"hi\") pid=Int(7) ok=Bool(true)",
        ),
        (
            "",
            r#"{"@timestamp":"2023-01-29T08:42:09.479Z","log.level":"warn","message":"m","logger":"a.B","thread":"main"}"#,
            "scope=a.B LOG=log time=1674981729479000000 severity=warn/13 body=(\"m\") thread.name=(\"main\")",
        ),
        // The stronger alias wins; the other stays.
        ("", r#"{"msg":"short","message":"long"}"#, "LOG=log body=(\"long\") msg=(\"short\")"),
        ("", r#"{"event":"login","msg":"m"}"#, "LOG=log body=(\"m\") event=(\"login\")"),
        ("", r#"{"event":"login"}"#, "LOG=log body=(\"login\")"),
        // What a slot cannot use is kept.
        (
            "",
            r#"{"time":"soon","trace_id":"xyz","level":77,"msg":"m"}"#,
            "LOG=log body=(\"m\") time=(\"soon\") level=Int(77) trace_id=(\"xyz\") TIME=unread",
        ),
        (
            "",
            r#"{"msg":"m","name":"n","duration_ms":2}"#,
            "LOG=log body=(\"m\") duration_ms=Int(2) name=(\"n\")",
        ),
        // Nested values are typed JSON; attribute objects are opened.
        (
            "",
            r#"{"msg":"m","a":{"b":[1,2.0,"x\n",null,{"$k":true}]},"attributes":{"k":1,"n":{"m":2}},"resource":{"r":"s"}}"#,
            "resource.r=(\"s\") LOG=log body=(\"m\") \
             a=Json(\"{\\\"b\\\":[1,2.0,\\\"x\\\\n\\\",null,{\\\"$map\\\":{\\\"$k\\\":true}}]}\") k=Int(1) \
             n=Json(\"{\\\"m\\\":2}\")",
        ),
        ("", r#"{"msg":{"a":1}}"#, "LOG=log body=Json(\"{\\\"a\\\":1}\")"),
        ("", "{\"m\\u00e9\":\"\\u0041\"}", "LOG=log mé=(\"A\")"),
        ("", r#"{"big":18446744073709551615}"#, "LOG=log big=Double(1.8446744073709552e19)"),
        // Spans of other writers.
        (
            "",
            r#"{"traceId":"E8A3352051E85C13136B27945B8CAB5B","spanId":"dea06c5b784cbd1d","parentSpanId":"aea06c5b784cbd1d","operation":"GET","start_time":"2023-01-29T08:42:09Z","duration_ms":1.5,"kind":"SPAN_KIND_SERVER","status":"error","status_message":"no"}"#,
            "SPAN=GET start=1674981729000000000 end=1674981729001500000 kind=2 status=2 message=no \
             trace=e8a3352051e85c13136b27945b8cab5b span=dea06c5b784cbd1d parent=aea06c5b784cbd1d",
        ),
        // A span by its end and duration, as proxies write it.
        (
            "",
            r#"{"end_time":1674981729.123,"duration_s":0.023,"name":"GET /orders/{id}","trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d"}"#,
            "SPAN=GET /orders/{id} start=1674981729100000000 end=1674981729123000000 \
             trace=e8a3352051e85c13136b27945b8cab5b span=dea06c5b784cbd1d",
        ),
        // --map
        (
            "time_ms=when,body=what,service=who,resource.team=owner,url.path=path,ignore=tmp,trace=rid",
            r#"{"when":5,"what":"w","who":"s","owner":"o","path":"/p","tmp":1,"rid":"e8a3352051e85c13136b27945b8cab5b","message":"m"}"#,
            "resource.team=(\"o\") resource.service.name=(\"s\") LOG=log time=5000000 body=(\"w\") \
             trace=e8a3352051e85c13136b27945b8cab5b url.path=(\"/p\") message=(\"m\")",
        ),
        // Not taken.
        ("", "[1]", "no JSON object"),
        ("", "{}", "an empty object"),
        ("", "plain text", "not JSON: a value expected at column 1"),
        ("", "{\"a\":1", "not JSON: a comma or } expected at column 7"),
        ("", "{\"a\":1,}", "not JSON: a key in quotes expected at column 8"),
        ("", "{\"a\" 1}", "not JSON: a colon expected at column 6"),
        ("", "{\"a\":}", "not JSON: a value expected at column 6"),
        ("", "{\"a\":[1,]}", "not JSON: a value expected at column 9"),
        ("", "{\"a\":[1 2]}", "not JSON: a comma or ] expected at column 9"),
        ("", "{\"a\":1} x", "not JSON: something follows the value at column 9"),
        ("", "{\"a\":\"x", "not JSON: the line ends in a string at column 8"),
        ("", "{\"a\":\"\t\"}", "not JSON: a control character in a string must be escaped at column 7"),
        ("", "{\"a\":\"\\x\"}", "not JSON: an unknown escape in a string at column 7"),
        (
            "",
            "{\"a\":\"\\ud800\"}",
            "not JSON: \\u needs four hex digits, and half of a surrogate pair its other half at column 7",
        ),
        ("", "{\"a\":tru}", "not JSON: an unknown word at column 6"),
        ("", "{\"a\":01}", "not JSON: a number is not well-formed at column 6"),
        ("", "{\"a\":-a}", "not JSON: a number is not well-formed at column 6"),
        ("", "{\"a\":1e400}", "not JSON: a number is out of range at column 6"),
        ("", "", "not JSON: a value expected at column 1"),
    ] {
        check(map, line, want);
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    check("", &deep, "too many fields or nested too deeply");
    let wide = format!("{{{}}}", (0..5000).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(","));
    check("", &wide, "too many fields or nested too deeply");
}

#[test]
fn wrong_maps_say_which_part() {
    for (map, want) in [
        ("time", "`time` is not `NAME=FIELD`, such as `time=ts`"),
        ("time=ts,=x", "`=x` is not `NAME=FIELD`, such as `time=ts`"),
        ("body=", "`body=` is not `NAME=FIELD`, such as `time=ts`"),
    ] {
        assert_eq!(Mapping::with(map).unwrap_err(), want);
    }
}

#[test]
fn times_are_read_as_logs_write_them() {
    const T: i64 = 1_674_981_729_000_000_000;
    for (text, want) in [
        ("1674981729", Some(T)),
        ("1674981729000", Some(T)),
        ("1674981729000000", Some(T)),
        ("1674981729000000000", Some(T)),
        ("-6795364578871345152", Some(-6_795_364_578_871_345_152)),
        ("1674981729.479", Some(T + 479_000_000)),
        ("2023-01-29T08:42:09Z", Some(T)),
        ("2023-01-29T08:42:09.123456789Z", Some(T + 123_456_789)),
        ("2023-01-29T08:42:09.1234567891Z", Some(T + 123_456_789)),
        ("2023-01-29 08:42:09,479", Some(T + 479_000_000)),
        ("2023-01-29 08:42:09.5 +01:00", Some(T - 3_600_000_000_000 + 500_000_000)),
        ("2023-01-29T08:42:09-0530", Some(T + 19_800_000_000_000)),
        ("2023-01-29T08:42:09+01", Some(T - 3_600_000_000_000)),
        ("2023/01/29 08:42:09 UTC", Some(T)),
        ("2023-01-29T08:42Z", Some(T - 9_000_000_000)),
        ("2023-01-29", Some(T - 9_000_000_000 - 42 * 60_000_000_000 - 8 * 3_600_000_000_000)),
        ("2016-12-31T23:59:60Z", Some(1_483_228_799_000_000_000)),
        ("29/Jan/2023:08:42:09 +0000", Some(T)),
        ("Sun, 29 Jan 2023 08:42:09 +0000", Some(T)),
        ("2023-02-30T00:00:00Z", None),
        ("2023-01-29T25:00:00Z", None),
        ("2023-01-29T08:42:09+1:00:00", None),
        ("9999999-01-29", None),
        ("2023-01-29T08:42:75Z", None),
        ("20230129T084209Z", Some(T)),
        ("20230129T084209.5+01", Some(T - 3_600_000_000_000 + 500_000_000)),
        ("2023-01-29T09:42:09+01:00[Europe/Vienna]", Some(T)),
        ("29 Jan 2023 08:42 GMT", Some(T - 9_000_000_000)),
        ("soon", None),
        ("", None),
        ("é023-01-29", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(time::from_text(text, Unit::ByMagnitude), want, "{text}");
    }
    assert_eq!(time::from_int(5, Unit::Milli), Some(5_000_000));
    assert_eq!(time::from_int(i64::MAX, Unit::Second), None);
    assert_eq!(time::from_double(f64::NAN, Unit::Second), None);
    assert_eq!(time::from_double(1.0e300, Unit::Nano), None);
}

#[test]
fn one_bad_line_is_refused_alone() {
    let mut parser = LineParser::new(Arc::new(Mapping::default()));
    let mut run = |request: &[u8]| {
        let limits = RecordLimits { record_bytes_max: 200, attributes_max: 3 };
        let builder = |table| BatchBuilder::new(Arc::new(Layout::base(table)), 1_700_000_000_000_000, limits);
        let (mut logs, mut spans) = (builder(Table::Logs), builder(Table::Spans));
        let decoded = decode(request, &mut parser, 200, &mut logs, &mut spans, &mut Unchecked);
        assert_eq!((decoded.logs, decoded.spans), (logs.rows(), spans.rows()));
        let faults: Vec<String> =
            decoded.faults.iter().map(|fault| format!("{}: {}", fault.line, fault.reason)).collect();
        (decoded.logs, decoded.spans, decoded.refused, faults.join("\n"))
    };
    let long = format!("{{\"msg\":\"{}\"}}", "x".repeat(190));
    let longer = format!("{{\"msg\":\"{}\"}}", "x".repeat(191));
    let span = r#"{"trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d","start_time":1,"end_time":2}"#;
    for (request, want) in [
        ("".to_owned(), (0, 0, 0, "")),
        ("\n \r\n\n".to_owned(), (0, 0, 0, "")),
        ("{\"msg\":\"a\"}\r\n\n  {\"msg\":\"b\"}  ".to_owned(), (2, 0, 0, "")),
        (format!("{span}\n{{\"msg\":\"b\"}}\n{span}\n"), (1, 2, 0, "")),
        (
            "{\"msg\":\"a\"}\n\nno\n{}\n{\"msg\":\"b\"}\n[]\n7".to_owned(),
            (
                2,
                0,
                4,
                "3: not JSON: an unknown word at column 1: send one whole JSON object per line\n\
                 4: an empty object: give the record at least one field\n\
                 6: no JSON object: send one JSON object per line",
            ),
        ),
        (
            format!("{long}\n{longer}"),
            (1, 0, 1, "2: the line has 201 bytes, at most 200 are taken: shorten it"),
        ),
        (
            "{\"a\":1,\"b\":2,\"c\":3,\"d\":4}".to_owned(),
            (0, 0, 1, "1: attributes: 4 attributes, at most 3 are taken: send fewer"),
        ),
        (
            "{\"resourceLogs\":[]}".to_owned(),
            (
                0,
                0,
                1,
                "1: an OTLP/JSON request, not a record: send it to /v1/logs or /v1/traces, or bring its file with \
                 `threadline import`",
            ),
        ),
    ] {
        let (logs, spans, refused, faults) = run(request.as_bytes());
        assert_eq!((logs, spans, refused, faults.as_str()), want, "{request}");
    }
    let (logs, _, refused, faults) = run(b"{\"msg\":\"\xff\"}\n{\"msg\":\"\xc3\xa9\"}");
    assert_eq!((logs, refused), (1, 1));
    assert!(faults.starts_with("1: not JSON: bytes that are not UTF-8 at column 9"), "{faults}");
}

#[test]
fn lines_of_otlp_are_told_from_records() {
    for (line, want) in [
        (r#"{"resourceLogs":[]}"#, true),
        (r#" { "resource_spans" : [] }"#, true),
        (r#"{"resourceMetrics":[]}"#, true),
        (r#"{"resource":{},"scopeLogs":[]}"#, true),
        (r#"{"schemaUrl":"","scopeSpans":[]}"#, true),
        (r#"{"resource":{"a":1},"body":"scopeLogs"}"#, false),
        (r#"{"score":1}"#, false),
        (r#"{"body":"x"}"#, false),
        ("", false),
    ] {
        assert_eq!(is_otlp(line.as_bytes()), want, "{line}");
    }
}
