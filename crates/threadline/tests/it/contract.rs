//! The contract at the hub: secrets that come in by every inlet are nowhere on disk, forged lines stay one record, what is too
//! large is refused alone, verdicts are found, and services are scored.

use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use serde_json::{Value, json};
use threadline::settings::Settings;
use threadline::{Components, Hub};
use threadline_contract::rules::{Action, Rule};

use crate::hub::{attribute, deliver, get_ok, logs, send, settings, spans, start};
use crate::process::threadline;

/// What must not be kept: what is sent, and the part of it that must be gone.
const CANARIES: [(&str, &str); 7] = [
    (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlY2FuYXJ5",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ",
    ),
    ("Authorization: Bearer canary0bearer0token0", "canary0bearer0token0"),
    ("4111111111111111", "4111111111111111"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEcanaryprivatekey\n-----END PRIVATE KEY-----", "MIIEcanaryprivatekey"),
    ("postgres://app:canary-password@db/x", "canary-password"),
    ("card 5555 5555 5555 4444", "5555 5555 5555 4444"),
    ("Server=db;User Id=app;Password=canary-word-2;Encrypt=yes", "canary-word-2"),
];

/// One of them as a number, as it lies in a column of numbers.
const CARD: i64 = 4_111_111_111_111_111;

/// Something that must be kept, so that one sees that the search finds what is there.
const MARKER: &str = "marker-that-is-kept";

/// All canaries in the body, attributes and resource of a log record.
fn log_request(inlet: &str) -> ExportLogsServiceRequest {
    let all = CANARIES.map(|(sent, _)| sent).join(" then ");
    let mut request = logs(inlet, &[&format!("{MARKER} {inlet} {all}")]);
    let resource_logs = &mut request.resource_logs[0];
    for (at, (sent, _)) in CANARIES.iter().enumerate() {
        resource_logs.resource.as_mut().unwrap().attributes.push(attribute(&format!("r{at}"), sent));
        let scope = &mut resource_logs.scope_logs[0];
        scope.log_records[0].attributes.push(attribute(&format!("a{at}"), sent));
        scope.scope.get_or_insert_default().attributes.push(attribute(&format!("s{at}"), sent));
        scope.log_records[0].attributes.push(attribute(&format!("key {}", CANARIES[0].0), "x"));
    }
    request
}

/// A log record as a line, with canaries in nested values and as a number.
fn line(inlet: &str) -> String {
    let canaries: Vec<&str> = CANARIES.iter().map(|(sent, _)| *sent).collect();
    json!({
        "ts": "2026-01-05T00:00:01Z", "service": inlet, "severity": "info",
        "msg": format!("{MARKER} {inlet} {}", canaries.join(" ")),
        "nested": { "list": canaries, "password": "canary-password", "n": 4111111111111111_u64 },
        "n": 4111111111111111_u64,
    })
    .to_string()
}

/// A span with canaries wherever it has text.
fn span_request(inlet: &str) -> ExportTraceServiceRequest {
    let name = format!("{MARKER} {}", CANARIES[4].0);
    let mut request = spans(inlet, 1, &[&name]);
    let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
    span.status.get_or_insert_default().message = CANARIES[0].0.to_owned();
    span.trace_state = format!("k={}", CANARIES[0].0);
    for (sent, _) in CANARIES {
        span.attributes.push(attribute("a", sent));
        let event = opentelemetry_proto::tonic::trace::v1::span::Event {
            name: sent.to_owned(),
            attributes: vec![attribute("e", sent)],
            ..Default::default()
        };
        span.events.push(event);
        let link = opentelemetry_proto::tonic::trace::v1::span::Link {
            trace_id: vec![3; 16],
            span_id: vec![3; 8],
            attributes: vec![attribute("l", sent)],
            ..Default::default()
        };
        span.links.push(link);
    }
    request
}

fn send_by_every_inlet(hub: &Hub) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = format!("http://{}", hub.addresses().otlp_grpc);
        let channel = tonic::transport::Channel::from_shared(address).unwrap().connect().await.unwrap();
        LogsServiceClient::new(channel.clone()).export(log_request("grpc")).await.unwrap();
        TraceServiceClient::new(channel).export(span_request("grpc")).await.unwrap();
    });
    deliver(hub, "/v1/logs", &log_request("http"));
    let body = serde_json::to_vec(&log_request("json")).unwrap();
    let otlp = hub.addresses().otlp_http;
    let reply = send("POST", otlp, "/v1/logs", &[("content-type", "application/json")], &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply =
        send("POST", otlp, "/v1/jsonl", &[("content-type", "application/x-ndjson")], line("jsonl").as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let packed = zstd::bulk::compress(&log_request("zstd").encode_to_vec(), 3).unwrap();
    let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "zstd")];
    let reply = send("POST", otlp, "/v1/logs", &headers, &packed);
    assert_eq!(reply.status, 200, "{}", reply.text());
    deliver(hub, "/v1/traces", &span_request("http"));
    let body = serde_json::to_vec(&span_request("json")).unwrap();
    let reply = send("POST", otlp, "/v1/traces", &[("content-type", "application/json")], &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    // What people ask for, and what strangers send, is in the hub's own records.
    for (sent, _) in CANARIES {
        let mut asked = String::new();
        sent.bytes().for_each(|byte| asked.push_str(&format!("%{byte:02X}")));
        let agent: String = sent.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let agent = [("user-agent", agent.as_str())];
        let api = hub.addresses().api;
        send("GET", api, &format!("/api/v1/search?q=%22{asked}%22"), &agent, b"");
        send("GET", api, &format!("/api/v1/sql?q=SELECT+'{asked}'"), &agent, b"");
        // Paths are noted as they come: what must be encoded there is no secret of these forms any more.
        if sent.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:@/".contains(&byte)) {
            send("GET", api, &format!("/nowhere/{sent}"), &agent, b"");
            send("POST", otlp, &format!("/nowhere/{sent}"), &agent, b"x");
        }
    }
}

fn files(folder: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn find(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

/// The bytes of a file, and all that is compressed in it: records of the write-ahead log and Zstandard frames.
fn unpacked(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![bytes.to_vec()];
    let int = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().unwrap()) as usize);
    for at in memchr::memmem::find_iter(bytes, b"TLWR") {
        if let (Some(len), Some(plain)) = (int(at + 8), int(at + 16))
            && let Some(payload) = bytes.get(at + 88..at + 88 + len)
            && plain <= 256 << 20
            && let Ok(payload) = lz4_flex::block::decompress(payload, plain)
        {
            all.push(payload);
        }
    }
    for at in memchr::memmem::find_iter(bytes, &[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut frame = Vec::new();
        if let Ok(decoder) = zstd::stream::read::Decoder::with_buffer(&bytes[at..]) {
            // What comes out before an error counts, too.
            let _ = std::io::copy(&mut decoder.single_frame(), &mut frame);
        }
        all.push(frame);
    }
    all
}

/// Looks for canaries in all files. How often the marker was found in the log and in sealed files.
fn search_folder(folder: &Path) -> (usize, usize) {
    let mut paths = Vec::new();
    files(folder, &mut paths);
    let (mut wal, mut sealed) = (0, 0);
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        for part in unpacked(&bytes) {
            for (_, core) in CANARIES {
                assert!(!find(&part, core), "{core} in {}", path.display());
                let escaped = core.replace('\n', "\\n");
                assert!(!find(&part, &escaped), "{escaped} in {}", path.display());
            }
            let number = memchr::memmem::find(&part, &CARD.to_le_bytes());
            assert!(number.is_none(), "a card number as a number in {}", path.display());
            if find(&part, MARKER) {
                let counted = if path.extension().is_some_and(|e| e == "wal") { &mut wal } else { &mut sealed };
                *counted += 1;
            }
        }
    }
    (wal, sealed)
}

#[test]
fn canaries_are_nowhere_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let audited = Settings { audit_queries: true, ..settings(folder.path()) };
    let hub = threadline::start(audited, Components::system()).unwrap();
    send_by_every_inlet(&hub);
    let answers =
        [get_ok(&hub, "/api/v1/search?limit=100").text(), get_ok(&hub, "/api/v1/search?table=spans").text()];
    for (_, core) in CANARIES {
        assert!(answers.iter().all(|answer| !answer.contains(core)), "{core}");
    }
    for inlet in ["grpc", "http", "json", "jsonl", "zstd"] {
        let found =
            get_ok(&hub, &format!("/api/v1/search?q=service:{inlet}+contract:redacted+rule:secret.*")).lines();
        assert_eq!(found.len(), 1, "{inlet}");
    }
    let (wal, _) = search_folder(folder.path());
    assert!(wal >= 4, "the search finds what is there: {wal}");
    hub.shutdown().unwrap();
    let (_, sealed) = search_folder(folder.path());
    assert!(sealed >= 1, "the search finds what is there: {sealed}");
}

#[test]
fn canaries_are_nowhere_after_an_import() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("lines"));
    let otlp = serde_json::to_string(&log_request("otlp")).unwrap();
    std::fs::write(&file, format!("{}\n{otlp}\n", line("lines"))).unwrap();
    let output = threadline(&["import", file.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (wal, sealed) = search_folder(&data);
    assert!(wal + sealed >= 1);
}

#[test]
fn canaries_are_nowhere_on_disk_where_nothing_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let unchecked = Settings { contract: false, audit_queries: true, ..settings(folder.path()) };
    let hub = threadline::start(unchecked, Components::system()).unwrap();
    send_by_every_inlet(&hub);
    assert_eq!(
        get_ok(&hub, "/api/v1/search?q=contract:unchecked+contract:redacted+service:jsonl").lines().len(),
        1
    );
    let (wal, _) = search_folder(folder.path());
    assert!(wal >= 4, "the search finds what is there: {wal}");
    hub.shutdown().unwrap();
    let (_, sealed) = search_folder(folder.path());
    assert!(sealed >= 1, "the search finds what is there: {sealed}");
}

#[test]
fn what_one_asks_for_in_so_many_words_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let bare = Settings { redact: false, ..settings(folder.path()) };
    let hub = threadline::start(bare, Components::system()).unwrap();
    deliver(&hub, "/v1/logs", &log_request("http"));
    let rows = get_ok(&hub, "/api/v1/search?q=rule:secret.*+-contract:redacted").lines();
    assert_eq!(rows.len(), 1);
    assert!(CANARIES.iter().all(|(_, core)| rows[0]["body"].as_str().is_some_and(|body| body.contains(core))));
}

/// Texts that are more than they seem, somewhere in a line.
const HOSTILE: [(&str, &str); 8] = [
    ("CR LF", "a\r\n2026-01-01T00:00:00Z INFO forged"),
    ("clear the screen", "a\u{1b}[2J\u{1b}[H forged"),
    ("set the title", "a\u{1b}]0;forged\u{7} b"),
    ("another way", "a\u{202e}desrever\u{2066} b"),
    ("NUL", "a\0b"),
    ("C1", "a\u{9b}31m\u{85}b"),
    ("separators", "a\u{2028}b\u{2029}c"),
    ("as JSON", "a\"},{\"body\":\"forged"),
];

#[test]
fn hostile_texts_stay_one_record_each_by_every_inlet() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let bodies: Vec<String> =
        HOSTILE.iter().map(|(name, text)| format!("{name}: {text}")).chain(["the last".to_owned()]).collect();
    let request = |inlet: &str| {
        let texts: Vec<&str> = bodies.iter().map(String::as_str).collect();
        let mut request = logs(inlet, &texts);
        let records = &mut request.resource_logs[0].scope_logs[0].log_records;
        for (record, (name, text)) in records.iter_mut().zip(HOSTILE) {
            record.attributes.extend([attribute(&format!("key {text}"), text), attribute("name", name)]);
            record.severity_text = text.to_owned();
            record.event_name = format!("event {text}");
        }
        request
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let address = format!("http://{}", hub.addresses().otlp_grpc);
        let mut client = LogsServiceClient::connect(address).await.unwrap();
        client.export(request("grpc")).await.unwrap();
    });
    deliver(&hub, "/v1/logs", &request("http"));
    let otlp = hub.addresses().otlp_http;
    let json = [("content-type", "application/json")];
    let reply = send("POST", otlp, "/v1/logs", &json, &serde_json::to_vec(&request("json")).unwrap());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let lines: Vec<String> = bodies
        .iter()
        .map(|body| {
            json!({ "service": "jsonl", "msg": body, "k": body, "ts": "2026-01-01T00:00:01Z" }).to_string()
        })
        .collect();
    let ndjson = [("content-type", "application/x-ndjson")];
    let reply = send("POST", otlp, "/v1/jsonl", &ndjson, lines.join("\n").as_bytes());
    assert_eq!(reply.json()["accepted"], bodies.len(), "{}", reply.text());
    for sealed in [false, true] {
        if sealed {
            hub.store().seal().unwrap();
        }
        for inlet in ["grpc", "http", "json", "jsonl"] {
            let rows = get_ok(&hub, &format!("/api/v1/search?q=service:{inlet}&order=oldest")).lines();
            let mut kept: Vec<&str> = rows.iter().map(|row| row["body"].as_str().unwrap()).collect();
            let mut want: Vec<&str> = bodies.iter().map(String::as_str).collect();
            kept.sort_unstable();
            want.sort_unstable();
            assert_eq!(kept, want, "{inlet}: as they came, one record each");
        }
    }
    let address = format!("http://{}", hub.addresses().api);
    let shown = threadline(&["search", "-n", "100", "--hub", &address]).stdout;
    let shown = String::from_utf8(shown).unwrap();
    let odd = |c: &char| {
        c.is_control() && *c != '\n'
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    assert_eq!(shown.chars().find(odd), None, "{shown:?}");
    assert_eq!(shown.lines().count(), 4 * bodies.len(), "{shown}");
    assert!(shown.lines().all(|line| !line.starts_with("2026-01-01T00:00:00Z INFO forged")), "{shown}");
}

/// Every way to ask, with a search or a parameter that asks for quarantine.
const WAYS: [(&str, &str); 14] = [
    ("/api/v1/search?limit=100", "&q=is:quarantined"),
    ("/api/v1/search?table=spans", "&q=is:quarantined"),
    ("/api/v1/search?q=service:aside", "+contract:quarantined"),
    ("/api/v1/fields/service/values?table=logs", "&q=is:quarantined"),
    ("/api/v1/fields/service/values?table=spans", "&q=is:quarantined"),
    ("/api/v1/fields?table=logs", "&q=is:quarantined"),
    ("/api/v1/histogram?by=service", "&q=is:quarantined"),
    ("/api/v1/red?interval=1m", "&q=is:quarantined"),
    ("/api/v1/sql?q=SELECT+*+FROM+logs", "&quarantined=1"),
    ("/api/v1/sql?q=SELECT+service,+count(*)+FROM+spans+GROUP+BY+1", "&quarantined=1"),
    ("/api/v1/traces?limit=10", "&quarantined=1"),
    ("/api/v1/traces?limit=10", "&q=is:quarantined"),
    ("/api/v1/traces/07070707070707070707070707070707?", "quarantined=1"),
    ("/api/v1/services?", "quarantined=1"),
];

#[test]
fn what_is_in_quarantine_is_shown_to_nobody_who_does_not_ask() {
    let folder = tempfile::tempdir().unwrap();
    let mut own: Settings = settings(folder.path());
    own.contract_actions.set(Rule::EventUnknown, Action::Quarantine);
    own.contract_actions.set(Rule::AttributeType, Action::Quarantine);
    let hub = threadline::start(own, Components::system()).unwrap();
    let mut aside = logs("aside", &["wrong 1", "wrong 2"]);
    for record in &mut aside.resource_logs[0].scope_logs[0].log_records {
        record.event_name = "no.such".to_owned();
        record.trace_id = vec![7; 16];
        record.attributes.push(attribute("only.aside", "aside"));
    }
    let mut wrong = spans("aside", 7, &["GET /aside", "aside child"]);
    for span in &mut wrong.resource_spans[0].scope_spans[0].spans {
        span.attributes.push(attribute("http.response.status_code", "aside"));
    }
    deliver(&hub, "/v1/logs", &aside);
    deliver(&hub, "/v1/traces", &wrong);
    deliver(&hub, "/v1/logs", &logs("shop", &["right 1", "right 2", "right 3"]));
    let mut right = spans("shop", 7, &["GET /", "child"]);
    for span in &mut right.resource_spans[0].scope_spans[0].spans {
        span.span_id = span.span_id.iter().map(|byte| byte + 0x50).collect();
    }
    deliver(&hub, "/v1/traces", &right);
    for sealed in [false, true] {
        if sealed {
            hub.store().seal().unwrap();
        }
        for (path, asking) in WAYS {
            let answer = get_ok(&hub, path).text();
            assert!(!answer.contains("aside"), "{path}, sealed: {sealed}: {answer}");
            let answer = get_ok(&hub, &format!("{path}{asking}")).text();
            assert!(answer.contains("aside"), "{path}{asking}, sealed: {sealed}: {answer}");
        }
        let count = |query: &str| get_ok(&hub, &format!("/api/v1/count?{query}")).json()["count"].as_i64();
        let distinct = |query: &str| {
            get_ok(&hub, &format!("/api/v1/fields/service/distinct?table=spans&{query}")).json()["count"]
                .as_i64()
        };
        assert_eq!(
            (count("q=service:shop"), count("q=service:aside"), count("q=no.such")),
            (Some(3), Some(0), Some(0))
        );
        assert_eq!(
            (count("q=is:quarantined"), count("table=spans"), distinct("")),
            (Some(2), Some(2), Some(1))
        );
        assert_eq!(count("q=service:aside+-is:quarantined"), Some(0));
        assert_eq!(distinct("q=is:quarantined+OR+service:shop"), Some(2));
        let body = [("content-type", "application/json")];
        // Rules see all: nobody gets out of their sight by sending what the contract sets aside.
        let rule =
            "title: t\nlogsource: {product: threadline}\ndetection: {a: {event_name: no.such}, condition: a}";
        let asked = json!({ "rules": rule, "from": "2000-01-01T00:00:00Z" }).to_string();
        let reply = send("POST", hub.addresses().api, "/api/v1/rules/backtest", &body, asked.as_bytes());
        assert_eq!(reply.json()["hits"], 2, "{}", reply.text());
        for (quarantined, want) in [(false, 5), (true, 9)] {
            let sql = "SELECT (SELECT count(*) FROM logs WHERE service <> 'threadline') + (SELECT count(*) FROM spans) AS n";
            let asked = json!({ "query": sql, "quarantined": quarantined }).to_string();
            let reply = send("POST", hub.addresses().api, "/api/v1/sql", &body, asked.as_bytes());
            assert_eq!(reply.lines()[0]["n"], want, "{}", reply.text());
        }
    }
    // A tail of everything goes on to what comes last, and has passed by what is in quarantine.
    let seen = tail_until(&hub, "", "right 3");
    assert!(seen.contains("right 1") && !seen.contains("aside"), "{seen}");
    assert!(tail_until(&hub, "&q=is:quarantined", "wrong 2").contains("wrong 1"));
    let score = get_ok(&hub, "/api/v1/contract/score").json();
    let of = |name: &str| {
        let senders = score["senders"].as_array().unwrap();
        let sender = senders.iter().find(|sender| sender["service"] == name).unwrap();
        (sender["records"].as_i64().unwrap(), sender["quarantined"].as_i64().unwrap())
    };
    assert_eq!((of("aside"), of("shop")), ((4, 4), (5, 0)));
    // What people have erased is gone, wherever it lay.
    let erase = json!({ "table": "logs", "query": "service:aside", "reason": "r", "who": "w" }).to_string();
    let json = [("content-type", "application/json")];
    let reply = send("POST", hub.addresses().api, "/api/v1/erase", &json, erase.as_bytes());
    assert_eq!(reply.json()["rows"], 2, "{}", reply.text());
}

/// What a tail of all rows gives until a text comes.
fn tail_until(hub: &Hub, query: &str, text: &str) -> String {
    use std::io::Read as _;
    let url = format!("http://{}/api/v1/tail?from_seq=0{query}", hub.addresses().api);
    let mut reader = ureq::get(url).call().unwrap().into_body().into_reader();
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !find(&seen, text) {
        let read = reader.read(&mut piece).unwrap();
        assert!(read > 0, "the tail ended without {text}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn forged_lines_stay_one_record_and_are_shown_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let forged = "login failed\r\n2026-01-01T00:00:00Z INFO all is well\u{1b}[2K\u{202e}\0\u{9b}31m";
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &[forged, "next"]));
    let rows = get_ok(&hub, "/api/v1/search?q=rule:text.control").lines();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["body"], forged, "kept as it came");
    assert_eq!(get_ok(&hub, "/api/v1/search").lines().len(), 2);
    let address = format!("http://{}", hub.addresses().api);
    let shown = String::from_utf8(threadline(&["search", "login", "--hub", &address]).stdout).unwrap();
    for c in ['\u{1b}', '\u{202e}', '\0', '\u{9b}', '\r'] {
        assert!(!shown.contains(c), "{c:?} in {shown:?}");
    }
    assert_eq!(shown.lines().filter(|line| line.contains("all is well")).count(), 1);
    assert!(shown.lines().all(|line| !line.starts_with("2026-01-01T00:00:00Z INFO")), "{shown}");
}

#[test]
fn what_is_too_large_is_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let mut request = logs("shop", &["before", &"x".repeat(10 << 20), "many", "after"]);
    let many = &mut request.resource_logs[0].scope_logs[0].log_records[2];
    many.attributes = (0..10_000).map(|at| attribute(&format!("k{at}"), "v")).collect();
    let headers = [("content-type", "application/x-protobuf")];
    let reply = send("POST", hub.addresses().otlp_http, "/v1/logs", &headers, &request.encode_to_vec());
    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("2 of 4 records refused"), "{}", reply.text());

    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    let lines = format!("{{\"msg\":\"one\"}}\n{{\"msg\":\"deep\",\"v\":{deep}}}\n{{\"msg\":\"two\"}}\n");
    let reply = send(
        "POST",
        hub.addresses().otlp_http,
        "/v1/jsonl",
        &[("content-type", "application/x-ndjson")],
        lines.as_bytes(),
    );
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["accepted"], 2, "{}", reply.text());
    let nested = format!(
        "{}{{\"stringValue\":\"x\"}}{}",
        "{\"arrayValue\":{\"values\":[".repeat(1000),
        "]}}".repeat(1000)
    );
    let body = format!(
        "{{\"resourceLogs\":[{{\"scopeLogs\":[{{\"logRecords\":[{{\"body\":{{\"stringValue\":\"three\"}}}},{{\"body\":{nested}}},{{\"body\":{{\"stringValue\":\"four\"}}}}]}}]}}]}}"
    );
    let reply = send(
        "POST",
        hub.addresses().otlp_http,
        "/v1/logs",
        &[("content-type", "application/json")],
        body.as_bytes(),
    );
    let kept: Vec<Value> =
        get_ok(&hub, "/api/v1/search?limit=100").lines().iter().map(|row| row["body"].clone()).collect();
    for body in ["before", "after", "one", "two", "three", "four"] {
        assert!(kept.contains(&json!(body)), "{body} in {kept:?}");
    }
    // The one record is refused, with a reason.
    assert_eq!(reply.status, 200, "{}", reply.text());
    let partial = &reply.json()["partialSuccess"];
    assert_eq!(partial["rejectedLogRecords"], "1", "{partial}");
    assert!(partial["errorMessage"].as_str().is_some_and(|said| said.contains("64 deep")), "{partial}");
}

#[test]
fn services_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &["one", "two"]));
    let answer = get_ok(&hub, "/api/v1/contract/score").json();
    let sender = &answer["senders"][0];
    assert_eq!(
        (&sender["service"], &sender["records"], &sender["violated"]),
        (&json!("shop"), &json!(2), &json!(2))
    );
    assert_eq!(sender["rules"][0]["rule"], "resource.missing");
    assert_eq!(sender["rules"][0]["example"]["at"], "service.version");
    assert!(sender["score"].as_f64().unwrap() < 100.0);
    assert_eq!(get_ok(&hub, "/api/v1/search?q=contract:violated+rule:resource.missing").lines().len(), 2);
    assert_eq!(get_ok(&hub, "/api/v1/search?q=contract:ok").lines().len(), 0);
    let output = threadline(&["contract", "score", "--hub", &format!("http://{}", hub.addresses().api)]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("shop") && shown.contains("resource.missing"), "{shown}");
}

#[test]
fn a_hub_refuses_what_a_company_wants_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut own: Settings = settings(folder.path());
    own.contract_actions.set(Rule::ResourceMissing, Action::Reject);
    let hub = threadline::start(own, Components::system()).unwrap();
    let mut request = logs("shop", &["plain", "audit"]);
    request.resource_logs[0].scope_logs[0].log_records[1].event_name = "security.audit".to_owned();
    let headers = [("content-type", "application/x-protobuf")];
    let reply = send("POST", hub.addresses().otlp_http, "/v1/logs", &headers, &request.encode_to_vec());
    assert!(reply.text().contains("resource.missing"), "{}", reply.text());
    let rows = get_ok(&hub, "/api/v1/search").lines();
    assert_eq!(rows.iter().map(|row| row["body"].clone()).collect::<Vec<_>>(), [json!("audit")]);
}

#[test]
fn a_hub_without_the_contract_keeps_everything_unchecked() {
    let folder = tempfile::tempdir().unwrap();
    let hub = threadline::start(Settings { contract: false, ..settings(folder.path()) }, Components::system())
        .unwrap();
    deliver(&hub, "/v1/logs", &logs("shop", &["one"]));
    assert_eq!(get_ok(&hub, "/api/v1/search?q=contract:unchecked").lines().len(), 1);
    assert_eq!(get_ok(&hub, "/api/v1/contract/score").json()["checked"], false);
}

#[test]
fn records_are_checked_in_ci() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.jsonl");
    let good = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}},{"key":"service.version","value":{"stringValue":"1"}},{"key":"deployment.environment.name","value":{"stringValue":"p"}}]},"scopeLogs":[{"logRecords":[{"severityNumber":9,"eventName":"service.started"}]}]}]}"#;
    let bad = good
        .replace("\"severityNumber\":9", "\"severityNumber\":17")
        .replace("service.started", "telemetry.dropped");
    let path = file.to_str().unwrap();
    std::fs::write(&file, format!("{good}\n")).unwrap();
    let output = threadline(&["contract", "check", path]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
    std::fs::write(&file, format!("{good}\n{bad}\nno JSON\n")).unwrap();
    let output = threadline(&["contract", "check", path]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for want in [
        "records.jsonl:2: record 2: attribute.missing: threadline.dropped.count is missing; expected a value, for it is required; fix: add threadline.dropped.count",
        "record 2: severity.range: severity_number is 17; expected 13 to 16",
        "records.jsonl:3: record 2: not JSON",
    ] {
        assert!(said.contains(want), "{want}\n{said}");
    }
    let output = threadline(&["contract", "check", "--format", "json", path]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["line"], &first["rule"]), (&json!(2), &json!("attribute.missing")));
    let output = threadline(&["contract", "check", "--format", "github", path]);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with(&format!("::error file={path},line=2::record 2: "))
    );
}

#[test]
fn contracts_are_compared_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().to_str().unwrap();
    let text = "file_format: definition/2\nevent_refinements:\n  - { id: x, ref: service.started, attributes: [{ ref: process.pid, requirement_level: required }] }\n";
    std::fs::write(folder.path().join("own.yaml"), text).unwrap();
    let output = threadline(&["contract", "diff", "base", own]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("breaking: service.started: process.pid was recommended and is required"), "{said}");
    assert_eq!(threadline(&["contract", "diff", own, own]).status.code(), Some(0));
    let said =
        String::from_utf8(threadline(&["contract", "show", "service.started", "--contract", own]).stdout)
            .unwrap();
    assert!(said.contains("process.pid") && said.contains("required"), "{said}");
    let said = String::from_utf8(threadline(&["contract", "list"]).stdout).unwrap();
    assert!(said.contains("security.authn.rejected"), "{said}");
    std::fs::write(
        folder.path().join("own.yaml"),
        "file_format: definition/2\nevents: [{ name: exception, brief: b }]\n",
    )
    .unwrap();
    let output = threadline(&["contract", "list", "--contract", own]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("own.yaml:2: event `exception` is defined already"), "{said}");
}
