//! OTLP/HTTP against a hub: every reply of the specification.

use std::io::Write as _;

use prost::Message as _;
use threadline::{Components, Hub};

use crate::hub::{Reply, deliver, get_ok, logs, send, settings, spans, start};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const GZIP: (&str, &str) = ("content-encoding", "gzip");
const ZSTD: (&str, &str) = ("content-encoding", "zstd");
const OWN: (&str, &str) = ("origin", "https://app.example");
const FOREIGN: (&str, &str) = ("origin", "https://evil.example");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Zeros that were never held in memory at once.
fn gzip_of_zeros(bytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let piece = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        encoder.write_all(&piece).unwrap();
    }
    encoder.finish().unwrap()
}

fn post(hub: &Hub, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    send("POST", hub.addresses().otlp_http, path, headers, body)
}

fn rows(hub: &Hub) -> usize {
    get_ok(hub, "/api/v1/search?limit=100000").lines().len()
}

#[test]
fn every_request_gets_the_reply_of_the_specification() {
    let folder = tempfile::tempdir().unwrap();
    let small = threadline::settings::Settings {
        request_bytes_max: 64 << 10,
        record_bytes_max: 1000,
        cors_origins: vec!["https://app.example".to_owned()],
        ..settings(folder.path())
    };
    let hub = threadline::start(small, Components::system()).unwrap();
    let good = logs("shop", &["one", "two"]).encode_to_vec();
    let large = logs("shop", &["x".repeat(2000).as_str(), "fits"]).encode_to_vec();
    let all_large = logs("shop", &["x".repeat(2000).as_str()]).encode_to_vec();
    let json = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"hi"}}]}]}]}"#;
    let metrics = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{},{}]}}]}]}]}"#;
    let zeros = vec![0; (64 << 10) + 1];
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], Vec<u8>, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("protobuf", "POST", "/v1/logs", &[PROTOBUF], good.clone(), 200, ""),
        ("nothing", "POST", "/v1/logs", &[PROTOBUF], Vec::new(), 200, ""),
        ("nothing, traces", "POST", "/v1/traces", &[PROTOBUF], Vec::new(), 200, ""),
        ("json", "POST", "/v1/logs", &[JSON], json.to_vec(), 200, "{}"),
        ("empty json", "POST", "/v1/logs", &[JSON], b"{}".to_vec(), 200, "{}"),
        ("gzip", "POST", "/v1/logs", &[PROTOBUF, GZIP], gzip(&good), 200, ""),
        ("zstd", "POST", "/v1/logs", &[PROTOBUF, ZSTD], zstd::encode_all(&good[..], 1).unwrap(), 200, ""),
        ("identity", "POST", "/v1/logs", &[PROTOBUF, ("content-encoding", "identity")], good.clone(), 200, ""),
        ("one record too large", "POST", "/v1/logs", &[PROTOBUF], large, 200, "1 of 2 records refused"),
        ("all records too large", "POST", "/v1/logs", &[PROTOBUF], all_large, 200, "1 of 1 records refused"),
        ("metrics", "POST", "/v1/metrics", &[JSON], metrics.to_vec(), 200, r#""rejectedDataPoints":"2""#),
        ("metrics, why", "POST", "/v1/metrics", &[JSON], metrics.to_vec(), 200, "not metrics"),
        ("no metrics", "POST", "/v1/metrics", &[PROTOBUF], Vec::new(), 200, ""),
        (
            "cut protobuf",
            "POST",
            "/v1/logs",
            &[PROTOBUF],
            good[..good.len() - 3].to_vec(),
            400,
            "resource_logs",
        ),
        ("cut json", "POST", "/v1/logs", &[JSON], json[..30].to_vec(), 400, r#""code":3"#),
        (
            "wrong json",
            "POST",
            "/v1/logs",
            &[JSON],
            br#"{"resourceLogs":[{"scopeLogs":7}]}"#.to_vec(),
            400,
            "scopeLogs",
        ),
        ("no gzip", "POST", "/v1/logs", &[PROTOBUF, GZIP], good.clone(), 400, "not Gzip"),
        (
            "short batch id",
            "POST",
            "/v1/logs",
            &[JSON, ("threadline-batch-id", "7")],
            json.to_vec(),
            400,
            "threadline-batch-id",
        ),
        ("too large", "POST", "/v1/logs", &[JSON], zeros.clone(), 413, "65536 bytes"),
        ("too large after gzip", "POST", "/v1/logs", &[JSON, GZIP], gzip(&zeros), 413, r#""code":8"#),
        ("many zeros", "POST", "/v1/logs", &[JSON, GZIP], gzip_of_zeros(24 << 20), 413, "65536 bytes"),
        ("no type", "POST", "/v1/logs", &[], good.clone(), 415, "application/x-protobuf"),
        (
            "other type",
            "POST",
            "/v1/logs",
            &[("content-type", "text/plain")],
            good.clone(),
            415,
            "application/json",
        ),
        (
            "other encoding",
            "POST",
            "/v1/logs",
            &[JSON, ("content-encoding", "br")],
            json.to_vec(),
            415,
            "gzip, zstd",
        ),
        (
            "two encodings",
            "POST",
            "/v1/logs",
            &[JSON, ("content-encoding", "gzip, zstd")],
            json.to_vec(),
            415,
            "gzip, zstd",
        ),
        ("wrong method", "GET", "/v1/logs", &[], Vec::new(), 405, "POST"),
        ("wrong path", "POST", "/v1/profiles", &[JSON], json.to_vec(), 404, "/v1/logs"),
        ("foreign page", "POST", "/v1/logs", &[JSON, FOREIGN], json.to_vec(), 403, "cors_origins"),
        ("foreign preflight", "OPTIONS", "/v1/logs", &[FOREIGN], Vec::new(), 403, ""),
        ("own page", "POST", "/v1/logs", &[JSON, OWN], json.to_vec(), 200, "{}"),
        ("own preflight", "OPTIONS", "/v1/logs", &[OWN], Vec::new(), 204, ""),
    ];
    for (name, method, path, headers, body, status, words) in cases {
        let reply = send(method, hub.addresses().otlp_http, path, headers, &body);
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert!(reply.text().contains(words), "{name}: {}", reply.text());
        assert!(status != 200 || !words.is_empty() || reply.body.is_empty(), "{name}: {}", reply.text());
        let sent_protobuf = headers.contains(&PROTOBUF);
        let want = if sent_protobuf { "application/x-protobuf" } else { "application/json" };
        assert!(status == 204 || reply.header("content-type") == want, "{name}: {reply:?}");
        let allowed = reply.header("access-control-allow-origin");
        assert_eq!(allowed, if headers.contains(&OWN) { OWN.1 } else { "" }, "{name}");
    }
    let reply = send(
        "OPTIONS",
        hub.addresses().otlp_http,
        "/v1/logs",
        &[OWN, ("access-control-request-headers", "x-a")],
        b"",
    );
    assert_eq!(reply.header("access-control-allow-headers"), "x-a");
    hub.shutdown().unwrap();
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let reply = post(&hub, "/v1/logs", &[JSON, ("content-encoding", "gzip")], &gzip_of_zeros(1 << 30));
    assert_eq!(reply.status, 413, "{}", reply.text());
    let metrics = get_ok(&hub, "/metrics").text();
    assert!(metrics.contains("threadline_ingest_in_flight_bytes 0\n"), "{metrics}");
}

#[test]
fn a_batch_sent_again_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let body = logs("shop", &["one", "two"]).encode_to_vec();
    let other = logs("shop", &["three"]).encode_to_vec();
    let id = ("threadline-batch-id", "6f1d4a6e-8f2b-4f0e-9d5c-1b2a3c4d5e6f");
    for (name, headers, body, want) in [
        ("first", &[PROTOBUF][..], &body, 2),
        ("again", &[PROTOBUF], &body, 2),
        ("again, compressed", &[PROTOBUF, ("content-encoding", "gzip")], &gzip(&body), 2),
        ("own id", &[PROTOBUF, id], &body, 4),
        ("own id again, with other content", &[PROTOBUF, id], &other, 4),
        ("other content", &[PROTOBUF], &other, 5),
    ] {
        let reply = post(&hub, "/v1/logs", headers, body);
        assert_eq!((reply.status, rows(&hub)), (200, want), "{name}: {}", reply.text());
    }
    // The same bytes as traces would be another batch: an empty request is one in both, and is no batch at all.
    deliver(&hub, "/v1/traces", &spans("shop", 7, &["GET /", "SELECT"]));
    assert_eq!(get_ok(&hub, "/api/v1/search?table=spans").lines().len(), 2);
    let stats = get_ok(&hub, "/api/v1/stats").json();
    assert_eq!((&stats["duplicates"], &stats["rows"]), (&3.into(), &7.into()), "{stats}");
}

#[test]
fn under_pressure_senders_are_asked_to_wait_and_queries_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &["kept"]));
    hub.shutdown().unwrap();
    // More free disk than any disk has.
    let full = threadline::settings::Settings { disk_free_bytes_min: u64::MAX, ..settings(folder.path()) };
    let hub = threadline::start(full, Components::system()).unwrap();
    let body = logs("shop", &["not kept"]).encode_to_vec();
    let reply = post(&hub, "/v1/logs", &[PROTOBUF], &body);
    assert!(matches!(reply.status, 429 | 503), "{}", reply.text());
    assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(rows(&hub), 1);
    let health = send("GET", hub.addresses().api, "/healthz", &[], b"");
    assert_eq!((health.status, &health.json()["ingest"]), (503, &"refusing".into()), "{}", health.text());
    assert!(!health.json()["reason"].as_str().unwrap().is_empty());
}

#[test]
fn a_restart_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    for n in 1..4 {
        let hub = start(folder.path());
        deliver(&hub, "/v1/logs", &logs("shop", &[format!("run {n}").as_str()]));
        assert_eq!(rows(&hub), n);
        hub.shutdown().unwrap();
    }
}

#[test]
fn requests_in_progress_share_a_bound() {
    let folder = tempfile::tempdir().unwrap();
    let small = threadline::settings::Settings { request_bytes_max: 64 << 10, ..settings(folder.path()) };
    let hub = threadline::start(small, Components::system()).unwrap();
    let held = || {
        let metrics = get_ok(&hub, "/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("threadline_ingest_in_flight_bytes "));
        line.unwrap().parse::<usize>().unwrap()
    };
    // Senders that stop short of the end of their bodies.
    let mut waiting = Vec::new();
    for n in 1..=4 {
        let mut stream = std::net::TcpStream::connect(hub.addresses().otlp_http).unwrap();
        write!(
            stream,
            "POST /v1/logs HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: 65000\r\n\r\n"
        )
        .unwrap();
        stream.write_all(&[b' '; 60_000]).unwrap();
        while held() < n * 60_000 {
            std::thread::yield_now();
        }
        waiting.push(stream);
    }
    let body = logs("shop", &vec!["x"; 1000]).encode_to_vec();
    assert!(body.len() > 4 * (64 << 10) - 4 * 60_000 && body.len() < 64 << 10, "{}", body.len());
    let reply = post(&hub, "/v1/logs", &[PROTOBUF], &body);
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "1");
    drop(waiting);
    while held() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(post(&hub, "/v1/logs", &[PROTOBUF], &body).status, 200);
}
