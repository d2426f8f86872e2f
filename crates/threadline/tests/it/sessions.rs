//! Sessions of browsers, tails that end with the token, proxies in between, and what the hub notes of those who come in.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use threadline::door::roles::Role;
use threadline::door::tokens::TokenFile;
use threadline::settings::Settings;
use threadline::{Components, Hub};
use threadline_query::lang::Network;

use crate::client::{ask, connect, request, run, source};
use crate::door::{own, token, wait_for};
use crate::hub::{Reply, deliver_with, logs, settings};

/// What a hub answers to a request from an address, which may show a token.
fn from(
    hub: &Hub,
    last: u8,
    method: &str,
    path: &str,
    token: Option<&str>,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    run(async {
        let stream = connect(source(last), hub.addresses().api).await;
        ask(stream, false, request(method, path, token, headers, body.to_owned())).await.unwrap()
    })
}

/// Opens a session; the reply, and what the browser sends from then on.
fn log_in(hub: &Hub, last: u8, token: &str, headers: &[(&str, &str)]) -> (Reply, String) {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let body = json!({ "token": token }).to_string();
    let reply = from(hub, last, "POST", "/api/v1/session", None, &all, &body);
    let cookie = reply.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
    (reply, cookie)
}

const JSON: (&str, &str) = ("content-type", "application/json");
const CSRF: (&str, &str) = ("x-threadline-csrf", "1");
const ERASE: &str = r#"{"table":"logs","query":"body:nothing","reason":"test","who":"test"}"#;

#[test]
fn a_cookie_is_worth_what_its_token_is() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Role::ALL.map(|role| token(folder.path(), role.name(), &[role], None));
    let hub = threadline::start(settings(folder.path()), Components::system()).unwrap();
    for (role, token) in Role::ALL.into_iter().zip(&tokens) {
        let (reply, cookie) = log_in(&hub, 2, token, &[]);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let set = reply.header("set-cookie");
        for part in ["threadline_session=", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=86400"] {
            assert!(set.contains(part), "no {part} in {set}");
        }
        assert!(!set.contains("Secure") && !set.contains(token.as_str()), "{set}");
        assert_eq!(reply.json()["roles"], json!([role.name()]));
        let by = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
            let mut all = vec![("cookie", cookie.as_str())];
            all.extend(headers);
            from(&hub, 2, method, path, None, &all, body).status
        };
        // The same as by token, at each endpoint of some kind.
        let may = |needs: &[Role]| needs.contains(&role) || role == Role::Admin;
        for (path, needs) in [
            ("/api/v1/search", &[Role::Read][..]),
            ("/api/v1/stats", &[Role::Read, Role::Operate]),
            ("/metrics", &[Role::Operate]),
            ("/api/v1/session", &Role::ALL),
        ] {
            let want = if may(needs) { 200 } else { 403 };
            assert_eq!(by("GET", path, &[], ""), want, "{path} as {}", role.name());
        }
        // What changes something needs the header, whatever the role.
        assert_eq!(by("POST", "/api/v1/erase", &[JSON], ERASE), 403);
        assert_eq!(by("POST", "/api/v1/erase", &[JSON, ("x-threadline-csrf", "0")], ERASE), 403);
        let want = if role == Role::Admin { 200 } else { 403 };
        assert_eq!(by("POST", "/api/v1/erase", &[JSON, CSRF], ERASE), want);
        let sql = r#"{"query":"SELECT 1"}"#;
        assert_eq!(by("POST", "/api/v1/sql", &[JSON], sql), 403);
        let want = if may(&[Role::Read]) { 200 } else { 403 };
        assert_eq!(by("POST", "/api/v1/sql", &[JSON, CSRF], sql), want);
        // Records come in by token or certificate, not by what a browser sends of itself.
        let reply = run(async {
            let stream = connect(source(2), hub.addresses().otlp_http).await;
            let headers = [JSON, ("cookie", cookie.as_str()), CSRF];
            ask(stream, false, request("POST", "/v1/logs", None, &headers, "{}")).await.unwrap()
        });
        assert_eq!(reply.status, 401);
        assert_eq!(by("DELETE", "/api/v1/session", &[], ""), 403);
        assert_eq!(by("GET", "/api/v1/session", &[], ""), 200);
        assert_eq!(by("DELETE", "/api/v1/session", &[CSRF], ""), 200);
        assert_eq!(by("GET", "/api/v1/session", &[], ""), 401);
    }
    let admin = tokens[3].as_str();
    for (query, want) in [
        ("threadline.audit.action:session.opened", 4),
        ("threadline.audit.action:session.closed", 4),
        (
            "event:security.authz.denied threadline.authz.action:change_without_csrf_header url.path:/api/v1/erase",
            2,
        ),
        ("event:security.authn.rejected threadline.authn.method:session threadline.reason:expired", 4),
        ("event:security.authn.succeeded threadline.authn.method:session", 4),
    ] {
        assert!(wait_for(&hub, admin, query, want) >= want, "{query}: {:?}", own(&hub, Some(admin), query));
    }
    assert_eq!(own(&hub, Some(admin), "contract:violated"), Vec::<Value>::new());
    // Neither token nor cookie is in a record.
    let all = serde_json::to_string(&own(&hub, Some(admin), "*")).unwrap();
    assert!(tokens.iter().all(|token| !all.contains(token.split_at(16).1)), "a token is in a record");
    hub.shutdown().unwrap();
}

#[test]
fn who_has_no_session_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let reader = token(folder.path(), "reader", &[Role::Read], None);
    let hub = threadline::start(settings(folder.path()), Components::system()).unwrap();
    assert_eq!(from(&hub, 3, "GET", "/api/v1/session", None, &[], "").status, 401);
    assert_eq!(from(&hub, 3, "GET", "/", None, &[], "").status, 200, "the page itself is for everybody");
    // Who shows a token as programs do is told who they are, too.
    let reply = from(&hub, 3, "GET", "/api/v1/session", Some(&reader), &[], "");
    let want = json!({
        "enforced": true, "id": format!("token:{}", &reader[3..15]), "name": "reader", "roles": ["read"],
        "session": false, "expires": null,
    });
    assert_eq!(reply.json(), want);
    // A cookie that is none is cleared.
    for cookie in ["threadline_session=short".to_owned(), format!("threadline_session={}", "A".repeat(43))] {
        let reply = from(&hub, 3, "GET", "/api/v1/search", None, &[("cookie", &cookie)], "");
        assert_eq!(reply.status, 401);
        assert!(reply.header("set-cookie").contains("Max-Age=0"), "{}", reply.header("set-cookie"));
    }
    for (name, content_type, body, want) in [
        ("a form", "application/x-www-form-urlencoded", "token=x".to_owned(), 415),
        ("a form that says it is text", "text/plain", json!({ "token": reader }).to_string(), 415),
        ("no JSON", "application/json", reader.clone(), 400),
        ("more than the token", "application/json", json!({ "token": reader, "x": 1 }).to_string(), 400),
        ("no token", "application/json", "{}".to_owned(), 400),
    ] {
        let reply = from(&hub, 4, "POST", "/api/v1/session", None, &[("content-type", content_type)], &body);
        assert_eq!(reply.status, want, "{name}: {}", reply.text());
        assert!(!reply.text().contains(reader.split_at(16).1), "{name}: {}", reply.text());
    }
    // Guessing is bounded by the same limiter, and leaves the same records; a good token passes all the same.
    let wrong = format!("{}{}", &reader[..16], "A".repeat(43));
    for n in 0..12 {
        let (reply, cookie) = log_in(&hub, 5, &wrong, &[]);
        assert_eq!((reply.status, cookie.as_str()), (if n < 10 { 401 } else { 429 }, ""), "{n}");
    }
    let (reply, _) = log_in(&hub, 5, &reader, &[]);
    assert_eq!(reply.status, 200);
    let query = "event:security.authn.rejected client.address:127.0.1.5 threadline.reason:";
    assert_eq!(wait_for(&hub, &reader, &format!("{query}bad_credentials"), 10), 10);
    assert_eq!(wait_for(&hub, &reader, &format!("{query}locked"), 2), 2);
    hub.shutdown().unwrap();
}

#[test]
fn a_session_ends_with_its_token_and_with_time() {
    let folder = tempfile::tempdir().unwrap();
    let reader = token(folder.path(), "reader", &[Role::Read], None);
    let soon = Components::system().env.clock.now_us() + 4_000_000;
    let short = token(folder.path(), "short", &[Role::Read], Some(soon));
    let timed = Settings { session_idle: Duration::from_secs(3), ..settings(folder.path()) };
    let hub = threadline::start(timed, Components::system()).unwrap();
    let status = |cookie: &str| from(&hub, 2, "GET", "/api/v1/search", None, &[("cookie", cookie)], "").status;
    let (_, by_reader) = log_in(&hub, 2, &reader, &[]);
    let (_, by_short) = log_in(&hub, 2, &short, &[]);
    let (_, idle) = log_in(&hub, 2, &reader, &[]);
    let began = Instant::now();
    assert_eq!((status(&by_reader), status(&by_short), status(&idle)), (200, 200, 200));
    while began.elapsed() < Duration::from_secs(5) {
        assert_eq!(status(&by_reader), 200, "it is used");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!((status(&by_short), status(&idle)), (401, 401));
    TokenFile::of(folder.path()).change(|tokens| tokens.revoke("reader", soon)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while status(&by_reader) == 200 {
        assert!(Instant::now() < deadline, "a revoked token's session goes on");
        std::thread::sleep(Duration::from_millis(100));
    }
    hub.shutdown().unwrap();
}

/// Reads a tail to its end, which must come; what was read.
fn rest_of_tail(
    hub: &Hub,
    token: Option<&str>,
    headers: &[(&str, &str)],
    meanwhile: impl FnOnce() + Send,
) -> String {
    run(async {
        let stream = connect(source(7), hub.addresses().api).await;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = request("GET", "/api/v1/tail?from_seq=0", token, headers, "");
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        // On a thread of its own, for it may run a client.
        std::thread::scope(|scope| scope.spawn(meanwhile).join().unwrap());
        let read = crate::client::read(response);
        let reply =
            tokio::time::timeout(Duration::from_secs(30), read).await.expect("the tail goes on").unwrap();
        reply.text()
    })
}

#[test]
fn a_tail_ends_with_what_it_was_opened_by() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    // A tail that nobody was asked for ends when the door closes.
    let hub = threadline::start(settings(data), Components::system()).unwrap();
    let made = std::sync::Mutex::new(String::new());
    let text = rest_of_tail(&hub, None, &[], || {
        *made.lock().unwrap() = token(data, "first", &[Role::Admin], None);
    });
    assert!(text.contains("event: ended\n") && text.contains("\"status\":401"), "{text}");
    let admin = made.into_inner().unwrap();
    let reader = token(data, "reader", &[Role::Read], None);
    let deadline = Instant::now() + Duration::from_secs(30);
    while from(&hub, 2, "GET", "/api/v1/search", Some(&reader), &[], "").status != 200 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, cookie) = log_in(&hub, 2, &reader, &[]);
    let (api, by_cookie) = (hub.addresses().api, [("cookie", cookie.as_str())]);
    let text = rest_of_tail(&hub, None, &by_cookie, || {
        let closed = crate::hub::send("DELETE", api, "/api/v1/session", &[by_cookie[0], CSRF], b"");
        assert_eq!(closed.json(), json!({ "closed": true }));
    });
    assert!(text.contains("event: ended\n"), "{text}");
    deliver_with(&hub, "/v1/logs", &logs("shop", &["seen before"]), &admin);
    let text = rest_of_tail(&hub, Some(&reader), &[], || {
        TokenFile::of(data).change(|tokens| tokens.revoke("reader", 1)).unwrap();
    });
    assert!(text.contains("seen before") && text.contains("event: ended\n"), "{text}");
    hub.shutdown().unwrap();
}

#[test]
fn who_came_in_is_noted_once_and_when_a_token_was_used_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let reader = token(data, "reader", &[Role::Admin], None);
    token(data, "unused", &[Role::Read], None);
    let lifecycle = Settings { record_lifecycle: true, ..settings(data) };
    let hub = threadline::start(lifecycle, Components::system()).unwrap();
    let before = Components::system().env.clock.now_us();
    for _ in 0..20 {
        assert_eq!(from(&hub, 2, "GET", "/api/v1/stats", Some(&reader), &[], "").status, 200);
    }
    from(&hub, 3, "GET", "/api/v1/stats", Some(&reader), &[], "");
    deliver_with(&hub, "/v1/logs", &logs("shop", &["x"]), &reader);
    let query = "event:security.authn.succeeded threadline.authn.method:bearer client.address:";
    for (address, want) in [("127.0.1.2", 1), ("127.0.1.3", 1), ("127.0.0.1", 1)] {
        assert_eq!(wait_for(&hub, &reader, &format!("{query}{address}"), want), want, "{address}");
    }
    let row = own(&hub, Some(&reader), &format!("{query}127.0.1.2")).remove(0);
    let attributes = &row["attributes"];
    assert_eq!(attributes["user.id"], format!("token:{}", &reader[3..15]));
    assert_eq!(attributes["threadline.outcome"], "success");
    assert_eq!(row["severity_number"], 9);
    assert_eq!(row["verdict"], Value::Null, "the hub keeps its own contract");
    assert_eq!(wait_for(&hub, &reader, "event:service.started process.pid:*", 1), 1);
    hub.shutdown().unwrap();
    let uses = TokenFile::of(data).read_uses().unwrap();
    assert_eq!(uses.len(), 1);
    assert!(uses[&reader[3..15]] >= before);
    let said = crate::process::threadline(&["token", "list", "--data", data.to_str().unwrap(), "-o", "ndjson"]);
    let lines = String::from_utf8(said.stdout).unwrap();
    for line in lines.lines() {
        let listed: Value = serde_json::from_str(line).unwrap();
        assert_eq!(listed["used"].is_string(), listed["name"] == "reader", "{lines}");
    }
    // What the hub wrote last is there when it is up again.
    let hub = threadline::start(settings(data), Components::system()).unwrap();
    let query = "event:service.stopping threadline.reason:request";
    assert_eq!(wait_for(&hub, &reader, query, 1), 1);
    hub.shutdown().unwrap();
}

#[test]
fn clients_behind_a_trusted_proxy_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let reader = token(folder.path(), "reader", &[Role::Admin], None);
    let proxies = vec![Network::new(source(50), 32).unwrap()];
    let hub = threadline::start(
        Settings { trusted_proxies: proxies, audit_queries: true, ..settings(folder.path()) },
        Components::system(),
    )
    .unwrap();
    let search = |last: u8, client: &str, token: Option<&str>| {
        from(&hub, last, "GET", "/api/v1/search?q=x", token, &[("x-forwarded-for", client)], "").status
    };
    assert_eq!(search(50, "203.0.113.7", Some(&reader)), 200);
    assert_eq!(search(51, "203.0.113.8", Some(&reader)), 200);
    // One client's failures are not another's; who shows no token has guessed nothing.
    let guess = format!("tl_{:012x}_{}", 7, "A".repeat(43));
    for n in 0..12 {
        assert_eq!(search(50, "203.0.113.9", Some(&guess)), if n < 10 { 401 } else { 429 });
    }
    for _ in 0..12 {
        assert_eq!(search(50, "203.0.113.10", None), 401);
    }
    assert_eq!(search(50, "203.0.113.9", None), 429, "a bound is waited out");
    for (query, want) in [
        ("event:security.audit client.address:203.0.113.7 network.peer.address:127.0.1.50", 1),
        ("event:security.audit client.address:127.0.1.51 network.peer.address:127.0.1.51", 1),
        ("event:security.authn.succeeded client.address:203.0.113.7", 1),
        ("event:security.authn.rejected client.address:203.0.113.9", 13),
        ("event:security.authn.rejected client.address:203.0.113.10", 12),
    ] {
        assert_eq!(wait_for(&hub, &reader, query, want), want, "{query}");
    }
    assert_eq!(
        own(&hub, Some(&reader), "client.address:203.0.113.8").len(),
        0,
        "who is no proxy is not believed"
    );
    // The browser speaks TLS to the proxy: the cookie is for TLS only.
    let headers = [("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")];
    assert!(log_in(&hub, 50, &reader, &headers).0.header("set-cookie").ends_with("; Secure"));
    assert!(!log_in(&hub, 51, &reader, &headers).0.header("set-cookie").contains("Secure"));
    hub.shutdown().unwrap();
}

#[test]
fn a_query_that_cannot_be_recorded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    // The disk counts as full: no record is kept, that of a query neither.
    let full = Settings {
        audit_queries: true,
        audit_wait: Duration::ZERO,
        disk_free_bytes_min: u64::MAX,
        ..settings(folder.path())
    };
    let hub = threadline::start(full, Components::system()).unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let count = format!("http://{}/api/v1/count?q=x", hub.addresses().api);
    let mut answered = 0;
    let refused = loop {
        let mut reply = agent.get(&count).call().unwrap();
        let text = reply.body_mut().read_to_string().unwrap();
        if reply.status() != 200 {
            break (reply.status().as_u16(), text);
        }
        answered += 1;
        assert!(answered < 10_000, "queries go on that nobody records");
    };
    assert!(refused.0 == 503 && refused.1.contains("urn:threadline:problem:unrecorded"), "{refused:?}");
    assert!(answered >= 1000, "{answered}");
    // What shows no records goes on.
    assert_eq!(from(&hub, 1, "GET", "/api/v1/stats", None, &[], "").status, 200);
    assert_eq!(from(&hub, 1, "POST", "/api/v1/erase", None, &[JSON], ERASE).status, 503);
    hub.shutdown().unwrap();
}

/// A contract of a company that knows one event of its own.
fn write_contract(folder: &Path, event: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let text =
        format!("file_format: definition/2\nevents:\n  - {{ name: {event}, stability: stable, brief: b }}\n");
    std::fs::write(folder.join("own.yaml"), text).unwrap();
}

#[test]
fn a_hub_reads_its_files_again_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (data, contract) = (folder.path().join("data"), folder.path().join("contract"));
    write_contract(&contract, "shop.first");
    let hub = crate::process::Process::start(&data, &[("THREADLINE_CONTRACT_DIR", contract.to_str().unwrap())]);
    let unknown = |event: &str| {
        let mut sent = logs("shop", &[event]);
        sent.resource_logs[0].scope_logs[0].log_records[0].event_name = event.to_owned();
        let headers = [("content-type", "application/x-protobuf")];
        let body = prost::Message::encode_to_vec(&sent);
        let reply = crate::hub::send("POST", hub.http, "/v1/logs", &headers, &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        hub.search("logs", &format!("event:{event} rule:event.unknown")).len()
    };
    assert_eq!((unknown("shop.first"), unknown("shop.second")), (0, 1));
    let reload = || {
        let before = hub.search("logs", "threadline.audit.action:contract.reloaded").len();
        hub.signal("HUP");
        before
    };
    write_contract(&contract, "shop.third");
    let before = reload();
    let deadline = Instant::now() + Duration::from_secs(60);
    while hub.search("logs", "threadline.audit.action:contract.reloaded").len() == before {
        assert!(Instant::now() < deadline, "the hub did not reload");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((unknown("shop.third"), unknown("shop.fourth")), (0, 1));
    // What cannot be read changes nothing, and the hub goes on.
    std::fs::write(contract.join("own.yaml"), "events: [").unwrap();
    reload();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((unknown("shop.third"), unknown("shop.fifth")), (0, 1));
    hub.stop();
}
