//! Cases of the line parser, the times and the encoder.

use super::encode::RequestBuilder;
use super::mapping::{Mapping, Unit};
use super::ndjson::{LineParser, Parsed, Record};
use super::time;

fn show(parsed: &Parsed<'_>) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: String| {
        if !matches!(value.as_str(), "" | "0" | "/0" | "None" | "Empty") {
            out.push_str(&format!("{name}={value} "));
        }
    };
    for (key, value) in parsed.resource.attributes {
        put(&format!("resource.{key}"), format!("{value:?}"));
    }
    put("scope", parsed.scope.name.to_owned());
    let attributes = match &parsed.record {
        Record::Log(log) => {
            put("LOG", "log".to_owned());
            put("time", (log.time_unix_nano as i64).to_string());
            put("observed", log.observed_time_unix_nano.to_string());
            put("severity", format!("{}/{}", log.severity_text, log.severity_number));
            put("event", log.event_name.to_owned());
            put("body", format!("{:?}", log.body));
            put("trace", log.trace_id.map_or_else(String::new, |id| id.to_string()));
            put("span", log.span_id.map_or_else(String::new, |id| id.to_string()));
            put("flags", log.flags.to_string());
            log.attributes
        }
        Record::Span(span) => {
            put("SPAN", span.name.to_owned());
            put("start", span.start_time_unix_nano.to_string());
            put("end", span.end_time_unix_nano.to_string());
            put("kind", span.kind.to_string());
            put("status", span.status_code.to_string());
            put("message", span.status_message.to_owned());
            put("trace", span.trace_id.to_string());
            put("span", span.span_id.to_string());
            put("parent", span.parent_span_id.map_or_else(String::new, |id| id.to_string()));
            span.attributes
        }
    };
    for (key, value) in attributes {
        put(key, format!("{value:?}"));
    }
    if parsed.time_unread {
        put("TIME", "unread".to_owned());
    }
    out.trim_end().replace("Str(\"", "(\"")
}

#[track_caller]
fn check(map: &str, line: &str, want: &str) {
    let mut parser = LineParser::new(Mapping::with(map).unwrap());
    // Twice: the buffers of one line must not show in the next.
    for _ in 0..2 {
        let got = parser.parse(line.as_bytes(), show).unwrap_or_else(|error| format!("{error}"));
        assert_eq!(got, want, "{line}");
    }
}

const TRACE: &str = "e8a3352051e85c13136b27945b8cab5b";

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
        ("", "plain text", "not JSON: expected value at column 1"),
        ("", "{\"a\":1", "not JSON: EOF while parsing an object at column 6"),
        ("", "{\"a\":1} x", "not JSON: trailing characters at column 9"),
        ("", "", "not JSON: EOF while parsing a value at column 0"),
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

/// What the encoder writes is what the usual OTLP types read.
#[test]
fn requests_are_otlp() {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message as _;
    let mut builder = RequestBuilder::default();
    let mut parser = LineParser::new(Mapping::default());
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
            resource.scope_logs[0].log_records.iter().map(|log| format!("{:?}", log.body)).collect::<Vec<_>>()
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
