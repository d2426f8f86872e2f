//! The API against a hub.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use threadline::Hub;

use crate::hub::{deliver, get, get_ok, logs, send, spans, start};

fn bodies(hub: &Hub, path: &str) -> Vec<String> {
    get_ok(hub, path).lines().iter().map(|row| row["body"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn what_was_acknowledged_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &["a token", "an error", "a door"]));
    deliver(&hub, "/v1/logs", &logs("till", &["till error"]));
    for (path, want) in [
        ("/api/v1/search", &["a door", "an error", "a token", "till error"][..]),
        ("/api/v1/search?order=oldest&q=service:shop", &["a token", "an error", "a door"]),
        ("/api/v1/search?q=error", &["an error", "till error"]),
        ("/api/v1/search?q=error+-service:till", &["an error"]),
        ("/api/v1/search?q=severity%3E%3Dwarn+service:till", &["till error"]),
        ("/api/v1/search?q=nowhere", &[]),
        ("/api/v1/search?limit=1", &["a door"]),
        ("/api/v1/search?from=2026-01-01T00:00:01Z&to=1767225602", &["an error"]),
        ("/api/v1/search?since=1s", &[]),
        ("/api/v1/search?table=spans", &[]),
    ] {
        let mut got = bodies(&hub, path);
        if path == "/api/v1/search" || path == "/api/v1/search?q=error" {
            // The two of the same moment come in the order of their sequence numbers, which is not tested here.
            got.sort();
            let mut want = want.to_vec();
            want.sort_unstable();
            assert_eq!(got, want, "{path}");
        } else {
            assert_eq!(got, want, "{path}");
        }
    }
    hub.store().seal().unwrap();
    assert_eq!(bodies(&hub, "/api/v1/search?q=token"), ["a token"]);
}

#[test]
fn pages_follow_cursors_without_gap_or_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let texts: Vec<String> = (0..25).map(|n| format!("line {n}")).collect();
    deliver(&hub, "/v1/logs", &logs("shop", &texts.iter().map(String::as_str).collect::<Vec<_>>()));
    for order in ["newest", "oldest"] {
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/search?limit=10&cursors=1&order={order}&cursor={cursor}");
            let rows = get_ok(&hub, &path).lines();
            seen.extend(rows.iter().map(|row| row["body"].as_str().unwrap().to_owned()));
            if rows.len() < 10 {
                break;
            }
            cursor = rows.last().unwrap()["cursor"].as_str().unwrap().to_owned();
        }
        let mut want = texts.clone();
        if order == "newest" {
            want.reverse();
        }
        assert_eq!(seen, want, "{order}");
    }
}

#[test]
fn requests_that_make_no_sense_get_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let json = [("content-type", "application/json")];
    let none: &[(&str, &str)] = &[];
    let large = vec![b'x'; (1 << 20) + 1];
    for (method, path, headers, body, status, member, want) in [
        ("GET", "/nowhere", none, &b""[..], 404, "type", "urn:threadline:problem:not-found"),
        ("POST", "/api/v1/search", none, b"", 405, "type", "urn:threadline:problem:method-not-allowed"),
        ("GET", "/api/v1/search?qq=x", none, b"", 400, "field", "qq"),
        ("GET", "/api/v1/search?limit=0", none, b"", 400, "field", "limit"),
        ("GET", "/api/v1/search?limit=1000001", none, b"", 400, "field", "limit"),
        ("GET", "/api/v1/search?limit=1&limit=2", none, b"", 400, "field", "limit"),
        ("GET", "/api/v1/search?table=metrics", none, b"", 400, "field", "table"),
        ("GET", "/api/v1/search?from=yesterday", none, b"", 400, "field", "from"),
        ("GET", "/api/v1/search?from=now&to=-1h", none, b"", 400, "field", "to"),
        ("GET", "/api/v1/search?from=-1h&since=1h", none, b"", 400, "field", "since"),
        ("GET", "/api/v1/search?order=random", none, b"", 400, "field", "order"),
        ("GET", "/api/v1/search?cursor=x!", none, b"", 400, "field", "cursor"),
        ("GET", "/api/v1/search?cursors=maybe", none, b"", 400, "field", "cursors"),
        ("GET", "/api/v1/search?q=a+(b", none, b"", 400, "type", "urn:threadline:problem:bad-search"),
        ("GET", "/api/v1/tail?from_seq=-1", none, b"", 400, "field", "from_seq"),
        ("GET", "/api/v1/tail", &[("last-event-id", "x")], b"", 400, "field", "Last-Event-ID"),
        ("GET", "/api/v1/histogram?interval=1", none, b"", 400, "field", "interval"),
        ("GET", "/api/v1/histogram?interval=1ns", none, b"", 400, "field", "interval"),
        ("GET", "/api/v1/fields/%zz/values", none, b"", 400, "field", "name"),
        ("GET", "/api/v1/traces/12", none, b"", 400, "field", "trace_id"),
        ("GET", "/api/v1/sql", none, b"", 400, "field", "q"),
        ("POST", "/api/v1/sql", &json, b"{}", 400, "type", "urn:threadline:problem:bad-body"),
        (
            "POST",
            "/api/v1/sql",
            &[("content-type", "image/png")],
            b"x",
            415,
            "type",
            "urn:threadline:problem:content-type",
        ),
        ("POST", "/api/v1/sql", &json, &large, 413, "type", "urn:threadline:problem:body-too-large"),
        ("POST", "/api/v1/erase", none, b"x", 415, "type", "urn:threadline:problem:content-type"),
        (
            "POST",
            "/api/v1/erase",
            &json,
            br#"{"table":"logs","query":"x","reason":"","who":"me"}"#,
            400,
            "field",
            "reason",
        ),
        (
            "POST",
            "/api/v1/erase",
            &json,
            br#"{"table":"logs","query":"","reason":"r","who":"me"}"#,
            400,
            "field",
            "query",
        ),
        (
            "POST",
            "/api/v1/erase",
            &json,
            br#"{"table":"x","query":"a","reason":"r","who":"me"}"#,
            400,
            "field",
            "table",
        ),
        (
            "GET",
            "/healthz",
            &[("host", "evil.example")],
            b"",
            403,
            "type",
            "urn:threadline:problem:host-not-allowed",
        ),
    ] {
        let reply = send(method, hub.addresses().api, path, headers, body);
        let name = format!("{method} {path}: {}", reply.text());
        assert_eq!(reply.status, status, "{name}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{name}");
        let problem = reply.json();
        assert_eq!(problem[member], want, "{name}");
        assert_eq!(problem["status"], status, "{name}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{name}");
    }
    assert_eq!(send("PUT", hub.addresses().api, "/api/v1/sql", &[], b"x").header("allow"), "GET, POST");
    let problem = get(&hub, "/api/v1/search?q=a+(b").json();
    assert!(problem["at"].as_u64().is_some() && problem["len"].as_u64().is_some(), "{problem}");
}

#[test]
fn a_tail_gives_each_row_once_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &["zero"]));
    let mut first = Sse::open(&hub, "/api/v1/tail?from_seq=0&q=service:shop", None);
    assert_eq!(first.row().1, "zero");
    deliver(&hub, "/v1/logs", &logs("till", &["other"]));
    deliver(&hub, "/v1/traces", &spans("shop", 1, &["GET /"]));
    deliver(&hub, "/v1/logs", &logs("shop", &["one", "two"]));
    let (id, body) = first.row();
    assert_eq!(body, "one");
    drop(first);
    deliver(&hub, "/v1/logs", &logs("shop", &["three"]));
    let mut second = Sse::open(&hub, "/api/v1/tail?q=service:shop", Some(&id));
    assert_eq!((second.row().1.as_str(), second.row().1.as_str()), ("two", "three"));
    // Without a place to begin, only what comes next.
    let mut fresh = Sse::open(&hub, "/api/v1/tail", None);
    fresh.line_starting(": tail");
    deliver(&hub, "/v1/logs", &logs("shop", &["four"]));
    assert_eq!(fresh.row().1, "four");
    // A hub that stops says so and does not wait for its tails.
    hub.shutdown().unwrap();
    fresh.line_starting("event: stopping");
}

/// A client of server-sent events.
struct Sse(BufReader<TcpStream>);

impl Sse {
    fn open(hub: &Hub, path: &str, last_event_id: Option<&str>) -> Sse {
        let mut stream = TcpStream::connect(hub.addresses().api).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let resume = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n").unwrap();
        let mut sse = Sse(BufReader::new(stream));
        assert_eq!(sse.line(), "HTTP/1.1 200 OK");
        sse
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
        line.trim_end().to_owned()
    }

    fn line_starting(&mut self, start: &str) -> String {
        loop {
            let line = self.line();
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// The next row's id and body.
    fn row(&mut self) -> (String, String) {
        loop {
            let id = self.line_starting("id: ");
            if self.line() == "event: row" {
                let row: Value = serde_json::from_str(&self.line_starting("data: ")).unwrap();
                return (id, row["body"].as_str().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn counts_fields_values_and_sql_agree() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &["a", "an error", "c"]));
    deliver(&hub, "/v1/logs", &logs("till", &["d"]));
    let histogram = get_ok(&hub, "/api/v1/histogram?interval=1s&by=service").json();
    assert_eq!(histogram["total"], 4, "{histogram}");
    assert_eq!(histogram["interval_us"], 1_000_000);
    assert_eq!(histogram["series"][0]["value"], "shop");
    let sum: u64 = histogram["series"][0]["counts"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(sum, 3);
    let fields = get_ok(&hub, "/api/v1/fields?q=service:shop").json();
    let path = fields["fields"].as_array().unwrap().iter().find(|field| field["name"] == "url.path");
    assert_eq!(path.unwrap()["rows"], 3, "{fields}");
    let values = get_ok(&hub, "/api/v1/fields/service/values").json();
    assert_eq!(values["values"][0], serde_json::json!({"value": "shop", "rows": 3}), "{values}");
    let statement = "SELECT service, count(*) AS n FROM logs GROUP BY service ORDER BY n DESC";
    let want = [serde_json::json!({"service": "shop", "n": 3}), serde_json::json!({"service": "till", "n": 1})];
    let as_text = send(
        "POST",
        hub.addresses().api,
        "/api/v1/sql",
        &[("content-type", "text/plain")],
        statement.as_bytes(),
    );
    assert_eq!(as_text.lines(), want, "{}", as_text.text());
    let body = serde_json::json!({"query": statement, "from": "2026-01-01"}).to_string();
    let as_json = send(
        "POST",
        hub.addresses().api,
        "/api/v1/sql",
        &[("content-type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!(as_json.lines(), want, "{}", as_json.text());
    assert_eq!(get_ok(&hub, "/api/v1/sql?q=SELECT+count(*)+AS+n+FROM+logs").lines()[0]["n"], 4);
    for wrong in ["SELECT", "SELECT+nothing+FROM+logs", "DROP+TABLE+logs"] {
        let reply = get(&hub, &format!("/api/v1/sql?q={wrong}"));
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
    }
}

#[test]
fn a_trace_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/traces", &spans("shop", 9, &["GET /cart", "SELECT"]));
    let trace = get_ok(&hub, &format!("/api/v1/traces/{}", "09".repeat(16))).json();
    assert_eq!(trace["spans"].as_array().unwrap().len(), 2, "{trace}");
    assert_eq!(get(&hub, &format!("/api/v1/traces/{}", "08".repeat(16))).status, 404);
    let traces = get_ok(&hub, "/api/v1/traces?service=shop&duration_min=1ms").json();
    assert_eq!(traces["traces"].as_array().unwrap().len(), 1, "{traces}");
    let services = get_ok(&hub, "/api/v1/services").json();
    assert_eq!(services["services"][0]["service"], "shop", "{services}");
}

#[test]
fn erased_rows_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &["keep", "forget me", "keep too"]));
    let json = [("content-type", "application/json")];
    let body = br#"{"table":"logs","query":"forget","reason":"article 17","who":"privacy@shop"}"#;
    let reply = send("POST", hub.addresses().api, "/api/v1/erase", &json, body);
    assert_eq!((reply.status, &reply.json()["rows"]), (200, &1.into()), "{}", reply.text());
    assert_eq!(bodies(&hub, "/api/v1/search?order=oldest"), ["keep", "keep too"]);
}

#[test]
fn the_hub_describes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    deliver(&hub, "/v1/logs", &logs("shop", &["one", "two"]));
    get_ok(&hub, "/api/v1/search");
    let health = get_ok(&hub, "/healthz").json();
    assert_eq!((&health["status"], &health["ingest"]), (&"ok".into(), &"accepting".into()), "{health}");
    let stats = get_ok(&hub, "/api/v1/stats").json();
    assert_eq!(stats["tables"]["logs"]["rows"], 2, "{stats}");
    let metrics = get_ok(&hub, "/metrics").text();
    let mut types: Vec<&str> = metrics.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let all = types.len();
    types.sort_unstable();
    types.dedup();
    assert_eq!((types.len(), all > 0), (all, true), "a metric stands twice: {metrics}");
    for line in [
        "threadline_ingest_requests_total{signal=\"logs\",transport=\"http\",end=\"kept\"} 1",
        "threadline_ingest_records_total{signal=\"logs\",transport=\"http\"} 2",
        "threadline_append_latency_seconds_count 1",
        "threadline_query_latency_seconds_count{kind=\"search\"} 1",
        "threadline_store_accepting 1",
    ] {
        assert!(metrics.lines().any(|got| got == line), "{line}\n{metrics}");
    }
    let golden = include_str!("../../../../docs/openapi.json");
    let same = get_ok(&hub, "/openapi.json").json() == serde_json::from_str::<Value>(golden).unwrap();
    assert!(same, "docs/openapi.json is not what the hub says: UPDATE_GOLDEN=1 cargo test --workspace --lib");
}

#[test]
fn the_page_has_a_strict_policy_and_its_files_never_change() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let page = get_ok(&hub, "/");
    for path in [
        "/search?q=a&since=4h",
        "/traces",
        "/trace/abc?span=1",
        "/services",
        "/sql",
        "/incidents?state=open",
        "/incidents/7",
        "/contract",
        "/detection",
        "/hub",
    ] {
        let other = get_ok(&hub, path);
        assert_eq!(other.body, page.body, "{path}");
        let policy = other.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(
            policy.contains("require-trusted-types-for 'script'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(other.headers["cache-control"], "no-cache");
        assert_eq!(other.headers["x-content-type-options"], "nosniff");
    }
    let text = page.text();
    assert!(!text.contains("<style") && !text.contains("style=") && !text.contains("<script>"), "{text}");
    // Either the page was built into this binary, or it says how to do so.
    let assets: Vec<&str> = text.split('"').filter(|part| part.starts_with("/assets/")).collect();
    let assets_are_there = !assets.is_empty();
    assert_eq!(assets_are_there, !text.contains("cargo xtask web"), "{text}");
    for asset in assets {
        let plain = get_ok(&hub, asset);
        assert_eq!(plain.headers["cache-control"], "public, max-age=31536000, immutable", "{asset}");
        if !asset.ends_with(".js") {
            continue;
        }
        assert_eq!(plain.headers["content-type"], "text/javascript; charset=utf-8");
        let encoded = [("accept-encoding", "gzip, br")];
        let brotli = send("GET", hub.addresses().api, asset, &encoded, b"");
        assert_eq!(brotli.headers["content-encoding"], "br");
        assert!(brotli.body.len() < plain.body.len() / 2);
    }
    // Browsers ask for an icon whatever they show: that is no scan.
    let icon = get(&hub, "/favicon.ico");
    assert_eq!(icon.status, if assets_are_there { 200 } else { 204 });
    assert_eq!(get(&hub, "/assets/nothing-1.js").status, 404);
    assert_eq!(get(&hub, "/assets/..%2Findex.html").status, 404);
    assert_eq!(get(&hub, "/nowhere").status, 404);
}

#[test]
fn a_search_is_checked_without_searching() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    assert_eq!(get_ok(&hub, "/api/v1/check?q=service:a%20b").text(), "{}");
    let wrong = get(&hub, "/api/v1/check?q=duration%3E250");
    assert_eq!((wrong.status, &wrong.json()["at"]), (400, &9.into()), "{}", wrong.text());
    let contract = get_ok(&hub, "/api/v1/contract").json();
    let names: Vec<&str> =
        contract["events"].as_array().unwrap().iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"request.finished") && names.contains(&"security.audit"), "{names:?}");
    assert!(contract["rules"].as_array().unwrap().iter().any(|rule| rule["id"] == "attribute.missing"));
}
