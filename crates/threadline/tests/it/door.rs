//! Tokens and roles at every endpoint, failures that are bounded, and what the door records of all this.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use threadline::door::roles::{Role, Roles};
use threadline::door::tokens::{NewToken, TokenFile};
use threadline::settings::Settings;
use threadline::{Components, Hub};

use crate::client::{ask, connect, request, run, source, verdict};
use crate::hub::{Reply, deliver_with, get_ok, logs, settings, spans};

/// 2026-01-01T00:00:00Z, µs: when the tokens of these tests were made.
const MADE_US: i64 = 1_767_225_600_000_000;

/// Makes a token in a data folder.
pub(crate) fn token(data: &Path, name: &str, roles: &[Role], expires_us: Option<i64>) -> String {
    let roles: Roles = roles.iter().copied().collect();
    let new = NewToken { name: name.to_owned(), roles, services: Vec::new(), expires_us };
    let rng = Components::system().env.rng;
    TokenFile::of(data).change(|tokens| tokens.create(new, MADE_US, &*rng)).unwrap().0
}

/// A row of the table in docs/security.md: port, method, path, and who may: nobody in particular, then each role.
fn documented() -> Vec<(String, String, String, [bool; 5])> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md")).unwrap();
    let table = text.split("<!-- roles -->\n").nth(1).unwrap().split("<!-- /roles -->").next().unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (method, path) = cells[2].trim_matches('`').split_once(' ').unwrap();
        let may = [3, 4, 5, 6, 7].map(|at| cells[at] == "yes");
        (cells[1].to_owned(), method.to_owned(), path.to_owned(), may)
    };
    table.lines().skip(2).map(row).collect()
}

async fn try_endpoint(hub: &Hub, from: u8, port: &str, method: &str, path: &str, token: Option<&str>) -> Reply {
    let addresses = hub.addresses();
    let (to, http2): (SocketAddr, bool) = match port {
        "OTLP/gRPC" => (addresses.otlp_grpc, true),
        "OTLP/HTTP" => (addresses.otlp_http, false),
        _ => (addresses.api, false),
    };
    let path = path.replace("{name}", "service").replace("{trace_id}", "4bf92f3577b34da6a3ce929d0e0e4736");
    let path = path.replace("{file}", "index-1.js").replace("{id}", "1");
    let stream = connect(source(from), to).await;
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let json = [("content-type", "application/json")];
    let request = match port {
        "OTLP/gRPC" => request(method, &format!("http://localhost{path}"), token, &grpc, vec![0u8; 5]),
        _ => request(method, &path, token, &json, "{}"),
    };
    // The head of an endless answer is enough.
    if path == "/api/v1/tail" {
        return head(stream, request).await;
    }
    ask(stream, http2, request).await.unwrap()
}

async fn head(
    stream: tokio::net::TcpStream,
    request: http::Request<http_body_util::Full<bytes::Bytes>>,
) -> Reply {
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    Reply { status: response.status().as_u16(), headers: response.headers().clone(), body: Vec::new() }
}

#[test]
fn each_role_at_each_endpoint_is_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let tokens = Role::ALL.map(|role| token(data, role.name(), &[role], None));
    let expired = token(data, "expired", &Role::ALL, Some(MADE_US + 1));
    let revoked = token(data, "revoked", &Role::ALL, None);
    TokenFile::of(data).change(|tokens| tokens.revoke("revoked", MADE_US + 1)).unwrap();
    let swapped = format!("{}{}", &tokens[3][..16], &tokens[0][16..]);
    let unknown = format!("tl_000000000000{}", &tokens[3][15..]);
    let bad: [(&str, Option<&str>); 6] = [
        ("none", None),
        ("no token at all", Some("admin")),
        ("another's secret", Some(&swapped)),
        ("an unknown id", Some(&unknown)),
        ("expired", Some(&expired)),
        ("revoked", Some(&revoked)),
    ];
    let hub = threadline::start(settings(data), Components::system()).unwrap();
    let rows = documented();
    assert!(rows.len() >= 37, "{} rows", rows.len());
    let closed = rows.iter().filter(|(.., may)| !may[0]).count() as i64;
    assert!(closed >= 26, "{closed} rows that are not for everybody");
    let mut tried = 0;
    run(async {
        for (at, (port, method, path, [nobody, roles @ ..])) in rows.iter().enumerate() {
            // A source of its own for each row, or the bound on failures would answer.
            let from = 10 + at as u8;
            for (name, shown) in bad {
                let reply = try_endpoint(&hub, from, port, method, path, shown).await;
                let want = if *nobody { "in" } else { "unknown" };
                assert_eq!(verdict(&reply.headers, reply.status), want, "{name} at {method} {path}");
                if want == "unknown" && port != "OTLP/gRPC" {
                    assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"threadline\"");
                }
                tried += 1;
            }
            for ((role, token), may) in Role::ALL.iter().zip(&tokens).zip(roles) {
                let reply = try_endpoint(&hub, from, port, method, path, Some(token)).await;
                let want = if *may { "in" } else { "forbidden" };
                assert_eq!(verdict(&reply.headers, reply.status), want, "{} at {method} {path}", role.name());
                tried += 1;
            }
        }
    });
    assert_eq!(tried, rows.len() * 10);
    // Each of these left its trace.
    let admin = tokens[3].as_str();
    let refused: i64 = bad.len() as i64 * closed;
    let denied: i64 = rows.iter().map(|(.., may)| may[1..].iter().filter(|may| !**may).count() as i64).sum();
    assert_eq!(wait_for(&hub, admin, "event:security.authn.rejected", refused), refused);
    assert_eq!(
        wait_for(&hub, admin, "event:security.authz.denied threadline.reason:missing_scope", denied),
        denied
    );
    for (reason, each) in [
        ("missing", closed),
        ("malformed", closed),
        ("bad_credentials", closed),
        ("unknown_key", closed),
        ("expired", closed),
        ("revoked", closed),
    ] {
        let query = format!("event:security.authn.rejected threadline.reason:{reason}");
        assert_eq!(wait_for(&hub, admin, &query, each), each, "{reason}");
    }
    // The hub keeps the contract it asks others to keep.
    let checked = own(&hub, Some(admin), "contract:ok");
    assert!(checked.len() as i64 >= refused, "{} records were checked", checked.len());
    assert_eq!(own(&hub, Some(admin), "contract:violated"), Vec::<Value>::new());
    hub.shutdown().unwrap();
}

/// Rows of the hub's own log.
pub(crate) fn own(hub: &Hub, token: Option<&str>, query: &str) -> Vec<Value> {
    let mut path = String::from("/api/v1/search?limit=10000&q=service:threadline+");
    for byte in query.bytes() {
        path.push_str(&if byte.is_ascii_alphanumeric() {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        });
    }
    let reply = run(async {
        let stream = connect(source(1), hub.addresses().api).await;
        ask(stream, false, request("GET", &path, token, &[], "")).await.unwrap()
    });
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.lines()
}

/// How many things the rows of a search of the hub's own log stand for, once they are as many as wanted, or for long.
pub(crate) fn wait_for(hub: &Hub, token: &str, query: &str, want: i64) -> i64 {
    let token = (!token.is_empty()).then_some(token);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let rows = own(hub, token, query);
        let count = rows.iter().map(|row| row["attributes"]["threadline.count"].as_i64().unwrap_or(1)).sum();
        if count >= want || Instant::now() > deadline {
            return count;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn guessing_is_bounded_and_silences_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let good = token(folder.path(), "good", &[Role::Read, Role::Operate], None);
    let hub = threadline::start(settings(folder.path()), Components::system()).unwrap();
    run(async {
        let guess = |n: u32, from: u8, grpc: bool| {
            let (hub, token) = (&hub, format!("tl_{n:012x}_{}", "A".repeat(43)));
            async move {
                let (port, path) = match grpc {
                    true => ("OTLP/gRPC", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
                    false => ("API", "/api/v1/search"),
                };
                let method = if grpc { "POST" } else { "GET" };
                try_endpoint(hub, from, port, method, path, Some(&token)).await
            }
        };
        for n in 0..50 {
            let reply = guess(n, 2, false).await;
            assert_eq!(reply.status, if n < 10 { 401 } else { 429 }, "guess {n}");
            let seconds: u64 = reply.header("retry-after").parse().unwrap_or(0);
            assert_eq!((1..=60).contains(&seconds), n >= 10, "guess {n}: {seconds}");
        }
        let reply = guess(99, 2, true).await;
        assert_eq!(verdict(&reply.headers, reply.status), "locked");
        // Another source is not concerned, nor is a good token from the same.
        assert_eq!(guess(99, 3, false).await.status, 401);
        let reply = try_endpoint(&hub, 2, "API", "GET", "/api/v1/search", Some(&good)).await;
        assert_eq!(reply.status, 200);
    });
    let query = "event:security.authn.rejected network.peer.address:127.0.1.2 threadline.reason:";
    assert_eq!(wait_for(&hub, &good, &format!("{query}unknown_key"), 10), 10);
    assert_eq!(wait_for(&hub, &good, &format!("{query}locked"), 41), 41);
    let rows = own(&hub, Some(&good), &format!("{query}locked server.port:{}", hub.addresses().api.port()));
    assert!(rows.len() <= 4, "40 of one kind are {} records", rows.len());
    let text = serde_json::to_string(&rows).unwrap();
    assert!(!text.contains(&"A".repeat(43)), "a token is in a record: {text}");
    let metrics = run(try_endpoint(&hub, 1, "API", "GET", "/metrics", Some(&good))).text();
    for line in [
        "threadline_requests_rejected_total{reason=\"unknown_key\"} 11",
        "threadline_requests_rejected_total{reason=\"locked\"} 41",
        "threadline_own_records_dropped_total 0",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    hub.shutdown().unwrap();
}

#[test]
fn tokens_that_are_made_or_revoked_meanwhile_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let hub = threadline::start(settings(folder.path()), Components::system()).unwrap();
    let search = |token: Option<&str>| run(try_endpoint(&hub, 1, "API", "GET", "/api/v1/search", token)).status;
    let becomes = |token: Option<&str>, want: u16| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while search(token) != want {
            assert!(Instant::now() < deadline, "not {want}");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    // No token: open. The first one closes the door.
    assert_eq!(search(None), 200);
    let first = token(folder.path(), "first", &[Role::Read], None);
    becomes(None, 401);
    assert_eq!(search(Some(&first)), 200);
    let second = token(folder.path(), "second", &[Role::Admin], None);
    becomes(Some(&second), 200);
    let revoked = TokenFile::of(folder.path()).change(|tokens| tokens.revoke("first", MADE_US + 5)).unwrap();
    becomes(Some(&first), 401);
    for (action, count) in [("token.created", 2), ("token.revoked", 1)] {
        let query = format!("event:security.audit threadline.audit.action:{action}");
        assert_eq!(wait_for(&hub, &second, &query, count), count, "{action}");
    }
    let query = format!("event:security.audit threadline.resource.id:{}", revoked.id);
    assert_eq!(wait_for(&hub, &second, &query, 2), 2);
    // A file that is broken or gone opens nothing.
    std::fs::write(TokenFile::of(folder.path()).path(), "{").unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!((search(None), search(Some(&second))), (401, 200));
    std::fs::remove_file(TokenFile::of(folder.path()).path()).unwrap();
    becomes(Some(&second), 401);
    hub.shutdown().unwrap();
}

#[test]
fn every_query_is_recorded_with_who_asked_and_how_many_rows() {
    let folder = tempfile::tempdir().unwrap();
    let read = token(folder.path(), "reader", &[Role::Admin], None);
    let audited = Settings { audit_queries: true, ..settings(folder.path()) };
    let hub = threadline::start(audited, Components::system()).unwrap();
    deliver_with(&hub, "/v1/logs", &logs("shop", &["one", "two", "three"]), &read);
    deliver_with(&hub, "/v1/traces", &spans("shop", 7, &["GET /", "child"]), &read);
    let json = [("content-type", "application/json")];
    let go = |method: &str, path: &str, body: &str| {
        run(async {
            let stream = connect(source(9), hub.addresses().api).await;
            ask(stream, false, request(method, path, Some(&read), &json, body.to_owned())).await.unwrap()
        })
    };
    let trace = "07".repeat(16);
    let erase = r#"{"table":"logs","query":"body:three","reason":"case 12","who":"privacy"}"#;
    let sql = r#"{"query":"SELECT body FROM logs WHERE service = 'shop' LIMIT 2"}"#;
    for (method, path, body, status, action, rows, outcome, part) in [
        ("GET", "/api/v1/search?q=service:shop", "", 200, "search", 3, "success", "q=service:shop"),
        ("GET", "/api/v1/search?q=service:nobody", "", 200, "search", 0, "success", "q=service:nobody"),
        ("GET", "/api/v1/search?q=a+(b", "", 400, "search", 0, "failure", "q=a (b"),
        ("GET", "/api/v1/count?q=service:shop", "", 200, "count", 1, "success", "q=service:shop"),
        (
            "GET",
            "/api/v1/histogram?q=service:shop&by=service",
            "",
            200,
            "histogram",
            1,
            "success",
            "by=service",
        ),
        ("GET", "/api/v1/fields/service/values?q=service:shop", "", 200, "field_values", 1, "success", ""),
        ("POST", "/api/v1/sql", sql, 200, "sql", 2, "success", "LIMIT 2"),
        ("GET", "/api/v1/sql?q=SELECT+no+FROM+logs", "", 400, "sql", 0, "failure", "SELECT no"),
        ("GET", &format!("/api/v1/traces/{trace}"), "", 200, "trace", 2, "success", ""),
        ("GET", "/api/v1/traces?service=shop", "", 200, "traces", 1, "success", "service=shop"),
        ("GET", "/api/v1/services", "", 200, "services", 2, "success", ""),
        ("POST", "/api/v1/erase", erase, 200, "erase", 1, "success", "case 12"),
    ] {
        let before = own(
            &hub,
            Some(&read),
            &format!("event:security.audit client.address:127.0.1.9 threadline.audit.action:{action}"),
        )
        .len() as i64;
        let reply = go(method, path, body);
        assert_eq!(reply.status, status, "{path}: {}", reply.text());
        let query = format!("event:security.audit client.address:127.0.1.9 threadline.audit.action:{action}");
        assert_eq!(wait_for(&hub, &read, &query, before + 1), before + 1, "{path}");
        let row = own(&hub, Some(&read), &query).remove(0);
        let attributes = &row["attributes"];
        let got = (
            attributes["threadline.outcome"].as_str().unwrap(),
            attributes["db.response.returned_rows"].as_i64().unwrap(),
            attributes["http.response.status_code"].as_i64().unwrap(),
        );
        assert_eq!(got, (outcome, rows, i64::from(status)), "{path}: {row}");
        let text = attributes["db.query.text"].as_str().unwrap_or_default();
        assert!(text.contains(part), "{path}: {text}");
        assert_eq!(attributes["user.id"], format!("token:{}", &read[3..15]), "{row}");
        assert_eq!(attributes["user.name"], "reader");
        let noted = attributes["http.route"].as_str().unwrap();
        assert!(noted.split('{').next().is_some_and(|start| path.starts_with(start)), "{path}: {row}");
        assert!(attributes["threadline.duration_s"].as_f64().unwrap() > 0.0, "{row}");
    }
    // A tail is recorded when it opens, and when its reader goes.
    run(async {
        let stream = connect(source(9), hub.addresses().api).await;
        head(stream, request("GET", "/api/v1/tail?from_seq=0", Some(&read), &[], "")).await
    });
    assert_eq!(wait_for(&hub, &read, "threadline.audit.action:tail.opened", 1), 1);
    assert_eq!(wait_for(&hub, &read, "threadline.audit.action:tail threadline.outcome:unknown", 1), 1);
    // So are the looks at the records themselves.
    assert!(wait_for(&hub, &read, "threadline.audit.action:search client.address:127.0.1.1", 12) >= 12);
    hub.shutdown().unwrap();
}

#[test]
fn without_tokens_a_local_hub_is_open_and_still_knows_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let audited = Settings { audit_queries: true, ..settings(folder.path()) };
    let hub = threadline::start(audited, Components::system()).unwrap();
    let reply = deliver_with(&hub, "/v1/logs", &logs("threadline", &["forged"]), "");
    assert!(String::from_utf8_lossy(&reply.body).contains("the hub's own name"), "{}", reply.text());
    get_ok(&hub, "/api/v1/search?q=forged");
    // Those who wait for the record here come from another address.
    let asked = "threadline.actor.type:anonymous client.address:127.0.0.1 db.query.text:*forged*";
    assert_eq!(wait_for(&hub, "", asked, 1), 1);
    assert_eq!(own(&hub, None, "body:forged").len(), 0);
    run(try_endpoint(&hub, 5, "API", "GET", "/nowhere", None));
    run(try_endpoint(&hub, 5, "OTLP/HTTP", "GET", "/v1/logs", None));
    let query = "event:security.endpoint.unknown client.address:127.0.1.5 threadline.reason:";
    assert_eq!(wait_for(&hub, "", &format!("{query}no_route url.path:/nowhere"), 1), 1);
    assert_eq!(wait_for(&hub, "", &format!("{query}method_not_allowed"), 1), 1);
    hub.shutdown().unwrap();
}
