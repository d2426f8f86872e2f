//! Notices from the outside: alerts come in by Alertmanager's API, incidents are made, receivers are told; with a strict
//! receiver, and with real ones: Prometheus Alertmanager and amtool, a mail server, the reference library of
//! Standard Webhooks.

#[path = "../strict/mod.rs"]
mod strict;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::pki::{self, Authority};
use crate::process::{Process, free, skip, threadline as command};
use strict::{Fail, Strict};

const PATIENCE: Duration = Duration::from_secs(120);

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A hub whose root route tells these receivers at once.
fn hub(folder: &Path, receivers: &[(&str, &str)]) -> Process {
    let names: Vec<&str> = receivers.iter().map(|(name, _)| *name).collect();
    let mut file = format!(
        "route:\n  group_by: [alertname]\n  group_wait: 0s\n  group_interval: 1s\n  receivers: [{}]\nreceivers:\n",
        names.join(", ")
    );
    for (name, target) in receivers {
        file.push_str(&format!("  - name: {name}\n    {target}\n"));
    }
    let path = pki::put(folder, "alerts.yaml", &file);
    let path = path.display().to_string();
    let settings = [("THREADLINE_INCIDENTS", "true"), ("THREADLINE_ALERTS_FILE", path.as_str())];
    Process::start(&folder.join("data"), &settings)
}

fn secret(folder: &Path, name: &str, text: &str) -> String {
    pki::put(folder, name, text).display().to_string()
}

fn url(hub: &Process, path: &str) -> String {
    format!("http://{}{path}", hub.api)
}

/// Posts an alert as Prometheus does.
fn alert(hub: &Process, name: &str, ends: Option<i64>) {
    let mut alert = json!({
        "labels": {"alertname": name, "severity": "critical", "service": "cart"},
        "annotations": {"summary": "The cart is down."},
        "startsAt": "2026-01-01T00:00:00Z",
    });
    if let Some(seconds) = ends {
        let now = jiff::Timestamp::now().as_second();
        alert["endsAt"] = json!(jiff::Timestamp::from_second(now + seconds).unwrap().to_string());
    }
    let sent = ureq::post(url(hub, "/api/v2/alerts"))
        .header("content-type", "application/json")
        .send(json!([alert]).to_string());
    sent.unwrap();
}

fn get(hub: &Process, path: &str) -> Value {
    let text = ureq::get(url(hub, path)).call().unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

fn run(hub: &Process, words: &[&str]) -> (bool, String) {
    let at = format!("http://{}", hub.api);
    let output = command(&[words, &["--hub", &at]].concat());
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

fn of_incident(taken: &[strict::Request], incident: u64) -> Vec<String> {
    let about = taken.iter().map(strict::Request::json).filter(|body| body["data"]["incident"] == incident);
    let mut kinds: Vec<String> = about.map(|body| body["type"].as_str().unwrap().to_owned()).collect();
    kinds.dedup();
    kinds
}

#[test]
fn a_posted_alert_is_an_incident_that_receivers_are_told_of_until_it_ends() {
    let (folder, strict) = (tempfile::tempdir().unwrap(), Strict::start());
    let base = format!("http://{}", strict.address);
    let hmac = secret(folder.path(), "hmac", strict::SECRET);
    let slack = secret(folder.path(), "slack", &format!("{base}/slack"));
    let both = "allow_plain: true, allow_private: true";
    let mut hub = hub(
        folder.path(),
        &[
            ("hook", &format!("webhook: {{ url: '{base}/webhook', secret_file: {hmac}, {both} }}")),
            ("chat", &format!("slack: {{ url_file: {slack}, {both} }}")),
            (
                "guarded",
                &format!("webhook: {{ url: '{base}/webhook', secret_file: {hmac}, allow_plain: true }}"),
            ),
            ("broken", "slack: { url_file: /nowhere }"),
        ],
    );
    alert(&hub, "Down", None);
    wait("it is told", || (strict.taken().len() == 2).then_some(()));
    let listed = get(&hub, "/api/v2/alerts?filter=alertname%3D%22Down%22&active=true");
    assert_eq!(listed[0]["labels"]["service"], "cart", "{listed}");
    assert_eq!(listed[0]["labels"]["threadline_source"], "alertmanager", "{listed}");
    assert_eq!(get(&hub, "/api/v2/alerts?filter=alertname%3D%22Up%22"), json!([]));
    assert_eq!(get(&hub, "/api/v2/status")["cluster"]["status"], "disabled");
    let incident = get(&hub, "/api/v1/incidents")["incidents"][0]["id"].as_u64().unwrap();

    // Acknowledged while the target is down and the hub is killed: it arrives all the same, and in order.
    strict.fail(&[Fail::Status(503), Fail::Reset, Fail::Status(503), Fail::Reset]);
    let (ok, text) = run(&hub, &["incidents", "ack", &incident.to_string()]);
    assert!(ok, "{text}");
    hub.kill();
    hub.restart();
    hub.wait_healthy();
    wait("the acknowledgement", || {
        of_incident(&strict.taken(), incident).last().filter(|kind| *kind == "incident.acknowledge").cloned()
    });
    alert(&hub, "Down", Some(-1));
    wait("the resolve", || {
        of_incident(&strict.taken(), incident).last().filter(|kind| *kind == "incident.resolve").cloned()
    });
    let hooks: Vec<strict::Request> =
        strict.taken().into_iter().filter(|request| request.path == "/webhook").collect();
    let kinds = of_incident(&hooks, incident);
    assert_eq!(kinds, ["incident.trigger", "incident.acknowledge", "incident.resolve"]);
    assert_eq!(strict.faults(), Vec::<String>::new());

    let outcome = |receiver: &str| {
        let query = format!("event:threadline.notification threadline.notification.receiver:{receiver}");
        hub.search("logs", &query).len()
    };
    wait("records", || (outcome("hook") == 3 && outcome("chat") == 3).then_some(()));
    let (ok, text) = run(&hub, &["notify", "list"]);
    assert!(ok && text.contains("hook") && text.contains("loopback") && text.contains("/nowhere"), "{text}");
    let (ok, text) = run(&hub, &["notify", "test", "hook"]);
    assert!(ok && text.contains("hook: taken: HTTP 204"), "{text}");
    let (ok, text) = run(&hub, &["notify", "test", "guarded"]);
    assert!(!ok && text.contains("not taken") && text.contains("allow_private"), "{text}");
    let (ok, text) = run(&hub, &["notify", "test", "nobody"]);
    assert!(!ok && text.contains("there is no receiver"), "{text}");
    let (ok, text) = run(&hub, &["notify", "dead", "hook", "-o", "json"]);
    assert!(ok && text.contains("\"dead\":[]"), "{text}");
    let (ok, text) = run(&hub, &["notify", "replay", "hook"]);
    assert!(ok && text.contains("0 notices"), "{text}");
    let metrics = ureq::get(url(&hub, "/metrics")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(metrics.contains("threadline_notify_sent_total{receiver=\"hook\"} 3"), "{metrics}");
    let wrong = ureq::post(url(&hub, "/api/v2/alerts")).header("content-type", "application/json").send("[{}]");
    assert!(matches!(wrong, Err(ureq::Error::StatusCode(400))));
    let finding =
        r#"[{"labels":{"rule":"a","rule_id":"1","severity":"high"},"endsAt":"2026-01-01T00:00:00Z"}]"#;
    let wrong =
        ureq::post(url(&hub, "/api/v2/alerts")).header("content-type", "application/json").send(finding);
    assert!(matches!(wrong, Err(ureq::Error::StatusCode(400))));
    hub.stop();
}

/// Targets that fail at random and a hub that is killed again and again: nothing is lost, the order of each incident is kept,
/// and what comes twice has the same key. `THREADLINE_TEST_INCIDENTS` and `THREADLINE_TEST_KILLS` make it larger.
#[test]
fn killed_hubs_lose_no_notice() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (incidents, kills) = (setting("THREADLINE_TEST_INCIDENTS", 30), setting("THREADLINE_TEST_KILLS", 4));
    let (folder, strict) = (tempfile::tempdir().unwrap(), Strict::start());
    strict.fail_by_chance(100, 7);
    let base = format!("http://{}", strict.address);
    let (hmac, key) = (
        secret(folder.path(), "hmac", strict::SECRET),
        secret(folder.path(), "key", &"0123456789abcdef".repeat(2)),
    );
    let more = "allow_plain: true, allow_private: true }\n    per_minute: 10000";
    let mut hub = hub(
        folder.path(),
        &[
            ("hook", &format!("webhook: {{ url: '{base}/webhook', secret_file: {hmac}, {more}")),
            ("page", &format!("pagerduty: {{ url: '{base}/v2/enqueue', routing_key_file: {key}, {more}")),
        ],
    );
    // What is posted while the hub is down is posted again, as Prometheus would.
    let post = |hub: &Process, path: &str, body: &str| {
        wait("the hub takes it", || {
            let sent = ureq::post(url(hub, path)).header("content-type", "application/json").send(body);
            sent.ok().map(drop)
        });
    };
    let alerts = |of: std::ops::Range<u64>, ends: &str| {
        let all: Vec<Value> = of
            .map(|n| {
                let mut alert = json!({"labels": {"alertname": format!("A{n}"), "severity": "high"},
                    "startsAt": "2026-01-01T00:00:00Z"});
                if !ends.is_empty() {
                    alert["endsAt"] = json!(ends);
                }
                alert
            })
            .collect();
        Value::Array(all).to_string()
    };
    let count = |hub: &Process| {
        let path = "/api/v1/incidents?state=all&limit=1000";
        let found = ureq::get(url(hub, path)).call().ok()?.body_mut().read_to_string().ok()?;
        serde_json::from_str::<Value>(&found).ok()?["incidents"].as_array().cloned()
    };
    let per_round = incidents.div_ceil(kills.max(1));
    for round in 0..kills {
        let of = round * per_round..((round + 1) * per_round).min(incidents);
        post(&hub, "/api/v2/alerts", &alerts(of.clone(), ""));
        let opened = wait("the incidents", || count(&hub).filter(|all| all.len() as u64 >= of.end));
        for incident in opened.iter().filter(|incident| incident["state"] == "open") {
            post(&hub, &format!("/api/v1/incidents/{}/acknowledge", incident["id"]), "");
        }
        let end = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 1).unwrap().to_string();
        post(&hub, "/api/v2/alerts", &alerts(of, &end));
        hub.kill();
        hub.restart();
        hub.wait_healthy();
    }
    wait("all are resolved", || {
        count(&hub)
            .filter(|all| all.iter().filter(|one| one["state"] == "resolved").count() as u64 == incidents)
    });
    let mut waited = Duration::ZERO;
    loop {
        let receivers = get(&hub, "/api/v1/notify/receivers")["receivers"].as_array().unwrap().clone();
        let waiting: u64 = receivers.iter().map(|receiver| receiver["waiting"].as_u64().unwrap()).sum();
        let dead: u64 = receivers.iter().map(|receiver| receiver["dead"].as_u64().unwrap()).sum();
        assert_eq!(dead, 0, "{receivers:?}");
        if waiting == 0 {
            break;
        }
        assert!(waited < Duration::from_secs(3600), "{receivers:?}");
        waited += Duration::from_millis(100);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(strict.faults(), Vec::<String>::new());
    let taken = strict.taken();
    let mut kinds: std::collections::BTreeMap<u64, Vec<String>> = std::collections::BTreeMap::new();
    let mut pages: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    let mut bodies: std::collections::BTreeMap<String, Vec<u8>> = std::collections::BTreeMap::new();
    for request in &taken {
        let body = request.json();
        if request.path == "/webhook" {
            let kind = body["type"].as_str().unwrap().to_owned();
            kinds.entry(body["data"]["incident"].as_u64().unwrap()).or_default().push(kind);
            let id = request.header("webhook-id").to_owned();
            assert_eq!(
                bodies.entry(id).or_insert_with(|| request.body.clone()),
                &request.body,
                "one key, one body"
            );
        } else {
            let action = body["event_action"].as_str().unwrap().to_owned();
            pages.entry(body["dedup_key"].as_str().unwrap().to_owned()).or_default().push(action);
        }
    }
    assert_eq!((kinds.len() as u64, pages.len() as u64), (incidents, incidents));
    for kinds in kinds.values_mut() {
        kinds.retain(|kind| kind != "incident.update");
        kinds.dedup();
        assert_eq!(*kinds, ["incident.trigger", "incident.acknowledge", "incident.resolve"]);
    }
    for actions in pages.values_mut() {
        actions.dedup();
        assert_eq!(*actions, ["trigger", "acknowledge", "resolve"]);
    }
    let twice = taken.len() as u64 - incidents * 6;
    eprintln!(
        "{incidents} incidents, {kills} kills: {} requests came, {} taken, {twice} of them again",
        strict.all().len(),
        taken.len()
    );
    hub.stop();
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_alertmanager_hears_us_and_amtool_is_heard() {
    let Ok(programs) = std::env::var("THREADLINE_TEST_ALERTMANAGER") else {
        let why = "THREADLINE_TEST_ALERTMANAGER names no folder with prometheus-alertmanager and amtool; `cargo xtask test` gets them";
        return skip("the real Alertmanager", why);
    };
    let programs = PathBuf::from(programs);
    let folder = tempfile::tempdir().unwrap();
    let config = pki::put(folder.path(), "am.yml", "route:\n  receiver: none\nreceivers:\n  - name: none\n");
    let [address] = free();
    let mut manager = Command::new(programs.join("prometheus-alertmanager"));
    manager
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", folder.path().join("am").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--cluster.listen-address=")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _manager = Running(manager.spawn().unwrap());
    let list = || -> Option<Vec<Value>> {
        let mut reply = ureq::get(format!("http://{address}/api/v2/alerts")).call().ok()?;
        serde_json::from_str(&reply.body_mut().read_to_string().ok()?).ok()
    };
    wait("the Alertmanager", list);
    let hub = hub(
        folder.path(),
        &[(
            "am",
            &format!("alertmanager: {{ url: 'http://{address}', allow_plain: true, allow_private: true }}"),
        )],
    );
    let at = format!("--alertmanager.url=http://{}", hub.api);
    let amtool = |words: &[&str]| {
        let output = Command::new(programs.join("amtool")).arg(&at).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    amtool(&[
        "alert",
        "add",
        "alertname=CartDown",
        "service=cart",
        "severity=critical",
        "--annotation=summary=Down",
    ]);
    let text = amtool(&["alert", "query", "alertname=CartDown", "-o", "json"]);
    assert!(text.contains("CartDown") && text.contains("cart"), "{text}");
    let heard = wait("our alert", || list().filter(|alerts| !alerts.is_empty()));
    assert_eq!(heard.len(), 1, "{heard:?}");
    let labels = &heard[0]["labels"];
    assert_eq!(
        (&labels["alertname"], &labels["severity"], &labels["incident"]),
        (&json!("CartDown"), &json!("critical"), &json!("1")),
        "{labels}"
    );
    assert!(heard[0]["annotations"]["summary"].as_str().unwrap().contains("CartDown"), "{heard:?}");
    // It is over here, and there.
    let end = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - 1).unwrap().to_string();
    let start = "--start=2026-01-01T00:00:00Z";
    amtool(&[
        "alert",
        "add",
        "alertname=CartDown",
        "service=cart",
        "severity=critical",
        start,
        &format!("--end={end}"),
    ]);
    wait("it is over", || list().filter(Vec::is_empty));
    hub.stop();
}

fn notify_python(test: &str) -> Option<String> {
    let python = std::env::var("THREADLINE_TEST_NOTIFY_PYTHON").ok();
    if python.is_none() {
        let why = "THREADLINE_TEST_NOTIFY_PYTHON names no Python; `cargo xtask test` installs it";
        skip(test, why);
    }
    python
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notify").join(name)
}

#[test]
fn a_real_mail_server_takes_our_mail_with_starttls_only() {
    let Some(python) = notify_python("the mail server") else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("mail authority");
    let ca = secret(folder.path(), "ca.pem", &authority.pem);
    let (cert, key) = pki::write(folder.path(), "mail", &authority.hub());
    let [port] = free().map(|address| address.port());
    let mut server = Command::new(&python);
    server.arg(script("smtp.py")).arg(port.to_string()).arg(&cert).arg(&key);
    let mut server = Running(server.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "ready");
    let (right, wrong) = (secret(folder.path(), "right", "p4ssw0rd"), secret(folder.path(), "wrong", "guess"));
    let common = format!("host: localhost, port: {port}, from: 'Hub <hub@example.com>', user: hub");
    let trusted = format!("{common}, ca_file: {ca}");
    let hub = hub(
        folder.path(),
        &[
            (
                "mail",
                &format!(
                    "email: {{ {trusted}, password_file: {right}, to: [ann@example.com, bob@example.com] }}"
                ),
            ),
            ("stranger", &format!("email: {{ {trusted}, password_file: {wrong}, to: ann@example.com }}")),
            ("untrusted", &format!("email: {{ {common}, password_file: {right}, to: ann@example.com }}")),
            ("nobody", &format!("email: {{ {trusted}, password_file: {right}, to: nobody@example.com }}")),
            (
                "plain",
                &format!(
                    "email: {{ host: localhost, port: {port}, from: hub@example.com, to: ann@example.com, tls: none, allow_plain: true }}"
                ),
            ),
        ],
    );
    wait("receivers", || run(&hub, &["notify", "list"]).1.contains("plain").then_some(()));
    for (receiver, want) in [
        ("stranger", "535"),
        ("untrusted", "invalid peer certificate"),
        ("nobody", "no such mailbox"),
        ("plain", "530"),
    ] {
        let (ok, text) = run(&hub, &["notify", "test", receiver]);
        assert!(!ok && text.contains(want), "{receiver}: {text}");
    }
    alert(&hub, "Größe", None);
    let mail: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!(true)));
    assert_eq!(mail["to"], json!(["ann@example.com", "bob@example.com"]));
    let message = mail["message"].as_str().unwrap();
    for part in [
        "Auto-Submitted: auto-generated",
        "Message-ID: <threadline-",
        "X-Threadline-Key: threadline-",
        "Subject: ",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let id = message.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap().trim().to_owned();
    alert(&hub, "Größe", Some(-1));
    let mail: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert!(mail["message"].as_str().unwrap().contains(&format!("In-Reply-To: {id}")), "{mail}");
    hub.stop();
}

#[test]
fn the_reference_library_verifies_our_signatures() {
    let Some(python) = notify_python("the reference library of Standard Webhooks") else { return };
    let (folder, strict) = (tempfile::tempdir().unwrap(), Strict::start());
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let secrets = secret(folder.path(), "hmac", &format!("{other}\n{}\n", strict::SECRET));
    let target = format!(
        "webhook: {{ url: 'http://{}/webhook', secret_file: {secrets}, allow_plain: true, allow_private: true }}",
        strict.address
    );
    let hub = hub(folder.path(), &[("hook", &target)]);
    alert(&hub, "Down", None);
    wait("the notice", || (strict.taken().len() == 1).then_some(()));
    let request = strict.taken().remove(0);
    let headers: serde_json::Map<String, Value> =
        request.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let body = String::from_utf8(request.body.clone()).unwrap();
    let mut verify = Command::new(&python);
    let verify = verify.arg(script("verify.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut verify = verify.spawn().unwrap();
    let mut input = verify.stdin.take().unwrap();
    let foreign = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (secret, body) in [
        (strict::SECRET, body.clone()),
        (other, body.clone()),
        (foreign, body.clone()),
        (other, format!("{body} ")),
    ] {
        writeln!(input, "{}", json!({"secret": secret, "headers": headers, "body": body})).unwrap();
    }
    drop(input);
    let output = verify.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let verified: Vec<bool> = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["verified"].as_bool().unwrap())
        .collect();
    assert_eq!(verified, [true, true, false, false], "{said}");
    hub.stop();
}
