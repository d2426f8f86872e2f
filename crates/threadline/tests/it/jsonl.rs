//! JSON lines against a hub, as a sender with curl sends them.

use std::io::Write as _;

use threadline::{Components, Hub};

use crate::hub::{Reply, get_ok, send, settings, start};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

/// A log record, a span and the log record below it, in one request.
const MIXED: &str = concat!(
    r#"{"_time":"2026-01-05T00:00:01.123456789Z","service":"ts-travel","pod":"ts-travel-1","node":"n1","severity":"WARN","trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d","body":"seat \"7\" taken","url.path":"/seat","took_ms":12.5}"#,
    "\r\n\n",
    r#"{"trace_id":"e8a3352051e85c13136b27945b8cab5b","span_id":"dea06c5b784cbd1d","service":"ts-travel","name":"GET /seat","start_time":"2026-01-05T00:00:01Z","end_time":"2026-01-05T00:00:02Z"}"#,
    "\n",
    r#"{"ts":1767571201,"app":"ts-seat","msg":"no newline behind it"}"#,
);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn post(hub: &Hub, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    send("POST", hub.addresses().otlp_http, "/v1/jsonl", headers, body)
}

fn rows(hub: &Hub, table: &str) -> Vec<serde_json::Value> {
    get_ok(hub, &format!("/api/v1/search?limit=100000&table={table}")).lines()
}

#[test]
fn lines_become_records_of_both_tables() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let reply = post(&hub, &[NDJSON], MIXED.as_bytes());
    assert_eq!((reply.status, reply.text().trim()), (200, r#"{"accepted":3,"rejected":0,"errors":[]}"#));
    assert_eq!(reply.header("content-type"), "application/json");
    let (logs, spans) = (rows(&hub, "logs"), rows(&hub, "spans"));
    assert_eq!((logs.len(), spans.len()), (2, 1), "{logs:?} {spans:?}");
    let found = get_ok(&hub, "/api/v1/search?q=service:ts-travel+severity:warn+url.path:/seat").text();
    for part in [
        r#""seat \"7\" taken""#,
        "2026-01-05T00:00:01.123456789Z",
        "e8a3352051e85c13136b27945b8cab5b",
        "dea06c5b784cbd1d",
        "ts-travel-1",
        "12.5",
    ] {
        assert!(found.contains(part), "{part} in {found}");
    }
    assert_eq!(found.lines().count(), 1, "{found}");
    let metrics = get_ok(&hub, "/metrics").text();
    for line in [
        "threadline_ingest_records_total{signal=\"logs\",transport=\"jsonl\"} 2\n",
        "threadline_ingest_records_total{signal=\"traces\",transport=\"jsonl\"} 1\n",
        "threadline_ingest_in_flight_bytes 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    hub.shutdown().unwrap();
}

#[test]
fn every_request_gets_its_reply() {
    let folder = tempfile::tempdir().unwrap();
    let small = threadline::settings::Settings {
        request_bytes_max: 64 << 10,
        record_bytes_max: 1000,
        cors_origins: vec!["https://app.example".to_owned()],
        ..settings(folder.path())
    };
    let hub = threadline::start(small, Components::system()).unwrap();
    let good = br#"{"msg":"hello"}"#.to_vec();
    let long = format!("{{\"msg\":\"{}\"}}\n{{\"msg\":\"fits\"}}", "x".repeat(1000));
    let bad =
        b"{\"msg\":\"a\"}\nno json\n{\"msg\":\"b\"}\n{}\n[1]\n{\"msg\":\"\xff\"}\n{\"msg\":\"c\"".to_vec();
    let all = |accepted, rejected| format!("{{\"accepted\":{accepted},\"rejected\":{rejected},\"errors\":[");
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Vec<u8>, u16, String);
    let cases: Vec<Case<'_>> = vec![
        ("one", "POST", &[NDJSON], good.clone(), 200, all(1, 0)),
        ("nothing", "POST", &[NDJSON], Vec::new(), 200, all(0, 0)),
        ("blank lines", "POST", &[NDJSON], b"\n \r\n\n".to_vec(), 200, all(0, 0)),
        (
            "jsonl",
            "POST",
            &[("content-type", "application/jsonl; charset=utf-8")],
            good.clone(),
            200,
            all(1, 0),
        ),
        ("json-lines", "POST", &[("content-type", "application/json-lines")], good.clone(), 200, all(1, 0)),
        ("text", "POST", &[("content-type", "Text/Plain")], good.clone(), 200, all(1, 0)),
        ("gzip", "POST", &[NDJSON, GZIP], gzip(&good), 200, all(1, 0)),
        (
            "zstd",
            "POST",
            &[NDJSON, ("content-encoding", "zstd")],
            zstd::encode_all(&good[..], 1).unwrap(),
            200,
            all(1, 0),
        ),
        ("a bad line is refused alone", "POST", &[NDJSON], bad.clone(), 200, all(2, 5)),
        ("and told", "POST", &[NDJSON], bad, 200, r#"{"line":4,"reason":"an empty object: "#.to_owned()),
        ("no good line", "POST", &[NDJSON], b"one\ntwo".to_vec(), 200, all(0, 2)),
        ("a line too long", "POST", &[NDJSON], long.into_bytes(), 200, all(1, 1)),
        (
            "otlp",
            "POST",
            &[NDJSON],
            br#"{"resourceLogs":[]}"#.to_vec(),
            200,
            "an OTLP/JSON request, not a record: send it to /v1/logs".to_owned(),
        ),
        ("too large", "POST", &[NDJSON], vec![b' '; (64 << 10) + 1], 413, "65536 bytes".to_owned()),
        (
            "too large after gzip",
            "POST",
            &[NDJSON, GZIP],
            gzip(&vec![b' '; 1 << 20]),
            413,
            "request_bytes_max".to_owned(),
        ),
        ("no gzip", "POST", &[NDJSON, GZIP], good.clone(), 400, "not Gzip".to_owned()),
        ("no type", "POST", &[], good.clone(), 415, "application/x-ndjson".to_owned()),
        (
            "json",
            "POST",
            &[("content-type", "application/json")],
            good.clone(),
            415,
            "application/x-ndjson".to_owned(),
        ),
        ("br", "POST", &[NDJSON, ("content-encoding", "br")], good.clone(), 415, "gzip, zstd".to_owned()),
        ("short id", "POST", &[NDJSON, ("threadline-batch-id", "7")], good.clone(), 400, "batch-id".to_owned()),
        ("wrong method", "GET", &[], Vec::new(), 405, "POST".to_owned()),
        (
            "foreign page",
            "POST",
            &[NDJSON, ("origin", "https://evil.example")],
            good.clone(),
            403,
            "cors_origins".to_owned(),
        ),
        ("own page", "POST", &[NDJSON, ("origin", "https://app.example")], good, 200, all(1, 0)),
    ];
    for (name, method, headers, body, status, words) in cases {
        let reply = send(method, hub.addresses().otlp_http, "/v1/jsonl", headers, &body);
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert!(reply.text().contains(&words), "{name}: {}", reply.text());
        assert_eq!(reply.header("content-type"), "application/json", "{name}");
        reply.json();
    }
    hub.shutdown().unwrap();
}

#[test]
fn lines_sent_again_are_kept_once_in_both_tables() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let id = ("threadline-batch-id", "6f1d4a6e-8f2b-4f0e-9d5c-1b2a3c4d5e6f");
    let other = br#"{"msg":"other"}"#;
    for (name, headers, body, want) in [
        ("first", &[NDJSON][..], MIXED.as_bytes(), (2, 1)),
        ("again", &[NDJSON], MIXED.as_bytes(), (2, 1)),
        ("again, compressed", &[NDJSON, GZIP], &gzip(MIXED.as_bytes()), (2, 1)),
        ("own id", &[NDJSON, id], MIXED.as_bytes(), (4, 2)),
        ("own id again, with other content", &[NDJSON, id], other, (4, 2)),
        ("other content", &[NDJSON], other, (5, 2)),
    ] {
        let reply = post(&hub, headers, body);
        let got = (rows(&hub, "logs").len(), rows(&hub, "spans").len());
        assert_eq!((reply.status, got), (200, want), "{name}: {}", reply.text());
    }
    hub.shutdown().unwrap();
    // What was acknowledged is there after a restart.
    let hub = start(folder.path());
    assert_eq!((rows(&hub, "logs").len(), rows(&hub, "spans").len()), (5, 2));
}

#[test]
fn under_pressure_senders_of_lines_are_asked_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    // More free disk than any disk has.
    let full = threadline::settings::Settings { disk_free_bytes_min: u64::MAX, ..settings(folder.path()) };
    let hub = threadline::start(full, Components::system()).unwrap();
    let reply = post(&hub, &[NDJSON], MIXED.as_bytes());
    assert!(matches!(reply.status, 429 | 503), "{}", reply.text());
    assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(!reply.json()["message"].as_str().unwrap().is_empty());
}

/// A large request is decoded on another thread and in one piece.
#[test]
fn many_lines_come_through() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let lines: Vec<String> = (0..5000)
        .map(|n| format!(r#"{{"ts":{},"service":"s{}","msg":"line {n}"}}"#, 1_767_571_201 + n, n % 7))
        .collect();
    let reply = post(&hub, &[NDJSON], lines.join("\n").as_bytes());
    assert_eq!(reply.json()["accepted"], 5000, "{}", reply.text());
    assert_eq!(rows(&hub, "logs").len(), 5000);
}
