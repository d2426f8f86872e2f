//! SIGKILL under load, again and again: what was acknowledged is there exactly once, whatever came between.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::process::{Process, threadline};

/// How often the hub is killed.
const KILLS: u32 = 50;
/// Clients that send logs; one more sends spans.
const LOG_CLIENTS: u64 = 4;
/// Records of a batch.
const BATCH: u64 = 25;

/// What a client sends.
#[derive(Clone, Copy)]
enum Kind {
    Logs,
    Spans,
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Kind::Logs => "logs",
            Kind::Spans => "spans",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Kind::Logs => "/v1/logs",
            Kind::Spans => "/v1/traces",
        }
    }
}

/// A sender of numbered records.
struct Client {
    kind: Kind,
    service: String,
    /// Records that were acknowledged: 0 to this.
    acknowledged: AtomicU64,
    /// How often a batch was sent again because no reply came.
    resent: AtomicU64,
}

#[test]
fn fifty_kills_under_load_lose_nothing_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // Small, so that segments roll over, files are sealed and compacted while the hub is being killed.
    let settings = [
        ("THREADLINE_WAL_SEGMENT_BYTES", "1MiB"),
        ("THREADLINE_SEAL_AFTER", "1s"),
        ("THREADLINE_REQUEST_BYTES_MAX", "512KiB"),
        ("THREADLINE_RECORD_BYTES_MAX", "64KiB"),
        ("THREADLINE_MEMORY_BYTES_MAX", "64MiB"),
        ("THREADLINE_DISK_FREE_BYTES_MIN", "1MiB"),
    ];
    let mut hub = Process::start(&data, &settings);
    let mut clients: Vec<Client> = (0..LOG_CLIENTS).map(|at| Client::new(Kind::Logs, at)).collect();
    clients.push(Client::new(Kind::Spans, LOG_CLIENTS));
    let (address, done) = (hub.http, AtomicBool::new(false));
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| client.send_until(&done, address));
        }
        for round in 0..KILLS {
            // Most kills hit a hub at work, every fifth one that is still recovering from the kill before.
            if round % 5 != 4 {
                hub.wait_healthy();
                wait_for_progress(&clients);
            }
            // Now and then long enough for seals and compactions to begin, and to be killed at some point of theirs.
            let patience_ms = if round % 7 == 3 { 1000 } else { 0 };
            std::thread::sleep(Duration::from_millis(patience_ms + u64::from(round * 37 % 211)));
            hub.kill();
            hub.restart();
        }
        hub.wait_healthy();
        wait_for_progress(&clients);
        done.store(true, Ordering::Relaxed);
    });
    for client in &clients {
        client.check(&hub);
    }
    let resent: u64 = clients.iter().map(|client| client.resent.load(Ordering::Relaxed)).sum();
    let sent: u64 = clients.iter().map(|client| client.acknowledged.load(Ordering::Relaxed)).sum();
    assert!(
        resent >= u64::from(KILLS) / 2,
        "only {resent} batches were sent again: the kills did not hit the load"
    );
    println!("{KILLS} kills, {sent} records acknowledged, {resent} batches sent again");
    hub.stop();
    let verified = threadline(&["verify", "--data", &data.display().to_string(), "--output", "json"]);
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "verify: {said}{}", String::from_utf8_lossy(&verified.stderr));
    println!("{said}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    assert!(count("files") > 0 && count("rows") > 0, "nothing was sealed, so nothing was verified: {said}");
}

/// Waits until each client has an acknowledgement that it had not before.
fn wait_for_progress(clients: &[Client]) {
    let count = |client: &Client| client.acknowledged.load(Ordering::Relaxed);
    let before: Vec<u64> = clients.iter().map(count).collect();
    while clients.iter().zip(&before).any(|(client, before)| count(client) == *before) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Client {
    fn new(kind: Kind, number: u64) -> Client {
        let service = format!("kill-{number}");
        Client { kind, service, acknowledged: AtomicU64::new(0), resent: AtomicU64::new(0) }
    }

    /// Sends batch after batch; each again, with the same bytes, until it is acknowledged.
    fn send_until(&self, done: &AtomicBool, address: SocketAddr) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(20)))
            .http_status_as_error(false)
            .build()
            .into();
        let url = format!("http://{address}{}", self.kind.path());
        while !done.load(Ordering::Relaxed) {
            let first = self.acknowledged.load(Ordering::Relaxed);
            let bytes = self.batch(first);
            loop {
                let reply = agent.post(&url).content_type("application/x-protobuf").send(&bytes);
                match reply.map(|reply| reply.status().as_u16()) {
                    Ok(200) => break,
                    Ok(429 | 502 | 503 | 504) | Err(_) => {
                        self.resent.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Ok(status) => panic!("{}: status {status} is no answer to a good request", self.service),
                }
            }
            self.acknowledged.store(first + BATCH, Ordering::Relaxed);
        }
    }

    fn batch(&self, first: u64) -> Vec<u8> {
        let numbers = first..first + BATCH;
        let now = now_unix_nano();
        let resource =
            Some(Resource { attributes: vec![text("service.name", &self.service)], ..Default::default() });
        match self.kind {
            Kind::Logs => {
                let log_records = numbers.map(|number| log(number, now)).collect();
                let scope_logs = vec![ScopeLogs { log_records, ..Default::default() }];
                let resource_logs = vec![ResourceLogs { resource, scope_logs, ..Default::default() }];
                ExportLogsServiceRequest { resource_logs }.encode_to_vec()
            }
            Kind::Spans => {
                let spans = numbers.map(|number| span(number, now)).collect();
                let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
                let resource_spans = vec![ResourceSpans { resource, scope_spans, ..Default::default() }];
                ExportTraceServiceRequest { resource_spans }.encode_to_vec()
            }
        }
    }

    /// Every acknowledged number is there once, and nothing else is: the last batch of each client was acknowledged.
    fn check(&self, hub: &Process) {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        for row in hub.search(self.kind.table(), &format!("service:{}", self.service)) {
            *seen.entry(number_of(&row)).or_default() += 1;
        }
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let lost: Vec<u64> = (0..acknowledged).filter(|number| !seen.contains_key(number)).collect();
        let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        let unknown: Vec<_> = seen.keys().filter(|number| **number >= acknowledged).collect();
        assert!(
            lost.is_empty() && doubled.is_empty() && unknown.is_empty(),
            "{}, {acknowledged} acknowledged: lost {lost:?}, doubled {doubled:?}, unknown {unknown:?}",
            self.service
        );
    }
}

fn number_of(row: &serde_json::Value) -> u64 {
    row["attributes"]["number"].as_u64().unwrap_or_else(|| panic!("no number in {row}"))
}

/// Event times are now: absurd ones would be put elsewhere.
#[expect(clippy::disallowed_methods, reason = "a sender has the real clock, and the hub is a real process")]
fn now_unix_nano() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn log(number: u64, now: u64) -> LogRecord {
    // Long enough that segments roll over.
    let body = format!("record {number} {}", "x".repeat(200));
    LogRecord {
        time_unix_nano: now,
        severity_number: 9,
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(body)) }),
        attributes: vec![int("number", number)],
        ..Default::default()
    }
}

fn span(number: u64, now: u64) -> Span {
    Span {
        trace_id: (u128::from(number / 10) + 1).to_be_bytes().to_vec(),
        span_id: (number + 1).to_be_bytes().to_vec(),
        name: format!("step {}", number % 7),
        start_time_unix_nano: now,
        end_time_unix_nano: now + 1000 * number,
        attributes: vec![int("number", number)],
        ..Default::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, any_value::Value::StringValue(value.to_owned()))
}

fn int(key: &str, value: u64) -> KeyValue {
    pair(key, any_value::Value::IntValue(value as i64))
}

fn pair(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}
