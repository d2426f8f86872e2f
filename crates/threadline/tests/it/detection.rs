//! Detection in the hub: what is found is a record, once, whatever kills the hub; rules are read again; a broken one takes
//! no other with it.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use prost::Message as _;
use serde_json::{Value, json};

use crate::hub::{attribute, logs};
use crate::process::{Process, threadline};

/// How long something that should happen soon may take, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(120);

const RULES: &str = "
title: Credentials rejected
id: 0b8a6c3e-5d0f-4d3a-9d66-0f5b0f0c1a01
name: rejected
logsource: { product: threadline, service: logs }
detection:
  selection: { event_name: security.authn.rejected }
  condition: selection
level: informational
---
title: Many rejected from one address
id: 0b8a6c3e-5d0f-4d3a-9d66-0f5b0f0c1a02
correlation:
  type: event_count
  rules: [rejected]
  group-by: [client.address]
  timespan: 10m
  condition: { gte: 5 }
level: high
";

#[expect(clippy::disallowed_methods, reason = "a sender has the real clock, and the hub is a real process")]
fn now_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Sends rejected credentials from an address.
pub(crate) fn reject(hub: &Process, address: &str, count: usize) {
    let mut request = logs("shop", &vec!["no"; count]);
    let records = &mut request.resource_logs[0].scope_logs[0].log_records;
    for record in records {
        record.time_unix_nano = now_ns();
        record.event_name = "security.authn.rejected".to_owned();
        record.attributes = vec![attribute("client.address", address)];
    }
    let headers = [("content-type", "application/x-protobuf")];
    let reply = crate::hub::send("POST", hub.http, "/v1/logs", &headers, &request.encode_to_vec());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// The findings that are kept.
fn findings(hub: &Process) -> Vec<Value> {
    let path = "/api/v1/search?q=event:security.finding&limit=1000&since=1h";
    let reply = crate::hub::send("GET", hub.api, path, &[], b"");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.lines()
}

fn entity(finding: &Value) -> String {
    let text = finding.to_string();
    let found = text.split("threadline.finding.entity.client.address\":\"").nth(1);
    found.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come to be");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn start(data: &Path, rules: &Path) -> Process {
    let rules = rules.display().to_string();
    let settings = [
        ("THREADLINE_DETECTION", "true"),
        ("THREADLINE_RULES_BUILTIN", "false"),
        ("THREADLINE_BASELINES", "false"),
        ("THREADLINE_RULES_DIR", rules.as_str()),
    ];
    Process::start(data, &settings)
}

#[test]
fn each_attack_is_found_once_whatever_kills_the_hub() {
    let (data, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(rules.path().join("a.yml"), RULES).unwrap();
    let mut hub = start(data.path(), rules.path());
    let address = |round: usize| format!("192.0.2.{round}");
    for round in 0..8 {
        // What is remembered of the first half must survive the kill.
        reject(&hub, &address(round), 3);
        std::thread::sleep(Duration::from_millis(70 * round as u64));
        hub.kill();
        hub.restart();
        hub.wait_healthy();
        reject(&hub, &address(round), 3);
    }
    let all: Vec<String> = (0..8).map(address).collect();
    let found = |hub: &Process| {
        let mut found: Vec<String> = findings(hub).iter().map(entity).collect();
        found.sort();
        found
    };
    wait("a finding for each address", || all.iter().all(|address| found(&hub).contains(address)));
    hub.kill();
    hub.restart();
    hub.wait_healthy();
    // One more that is looked at after all before.
    reject(&hub, "198.51.100.1", 6);
    wait("a finding after the last kill", || found(&hub).contains(&"198.51.100.1".to_owned()));
    let mut want = all;
    want.push("198.51.100.1".to_owned());
    assert_eq!(found(&hub), want);
    let finding = &findings(&hub)[0];
    assert_eq!(finding["service"], "threadline");
    assert!(finding["severity_number"].as_i64().unwrap() >= 17, "{finding}");
    let text = finding.to_string();
    for part in ["threadline.finding.log_seqs", "security_rule.uuid", "Many rejected from one address"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn detection_that_lags_is_a_finding_and_so_is_its_end() {
    let (data, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(rules.path().join("a.yml"), RULES).unwrap();
    let run = |detection: &str| {
        let rules = rules.path().display().to_string();
        let settings = [
            ("THREADLINE_DETECTION", detection),
            ("THREADLINE_DETECTION_LAG_MAX", "1s"),
            ("THREADLINE_RULES_BUILTIN", "false"),
            ("THREADLINE_BASELINES", "false"),
            ("THREADLINE_RULES_DIR", rules.as_str()),
        ];
        Process::start(data.path(), &settings)
    };
    let hub = run("true");
    reject(&hub, "192.0.2.1", 1);
    hub.stop();
    // Nobody looks for a while.
    let hub = run("false");
    reject(&hub, "192.0.2.1", 1);
    hub.stop();
    std::thread::sleep(Duration::from_millis(1200));
    let hub = run("true");
    let phases = |hub: &Process| {
        let found = findings(hub);
        let of = |finding: &Value| finding.to_string().contains("\"Detection lags\"");
        let phase = |finding: &Value| finding.to_string().contains("threadline.finding.phase\":\"over");
        let mut phases: Vec<bool> = found.iter().filter(|finding| of(finding)).map(phase).collect();
        phases.sort_unstable();
        phases
    };
    wait("both findings", || phases(&hub) == [false, true]);
    hub.stop();
}

#[test]
fn rules_are_read_again_and_a_broken_one_takes_no_other_with_it() {
    let (data, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(rules.path().join("a.yml"), RULES).unwrap();
    let hub = start(data.path(), rules.path());
    let answer = |path: &str| crate::hub::send("GET", hub.api, path, &[], b"").json();
    wait("two rules", || answer("/api/v1/rules")["rules"].as_array().unwrap().len() == 2);
    std::fs::write(rules.path().join("b.yml"), "title: broken\ndetection: 7\n").unwrap();
    wait("a problem", || !answer("/api/v1/rules")["problems"].as_array().unwrap().is_empty());
    assert_eq!(answer("/api/v1/rules")["rules"].as_array().unwrap().len(), 2);
    reject(&hub, "203.0.113.9", 7);
    wait("a finding", || findings(&hub).iter().any(|finding| entity(finding) == "203.0.113.9"));
    let state = answer("/api/v1/rules");
    let rule = &state["rules"].as_array().unwrap()[1];
    assert_eq!((rule["findings"].as_u64(), rule["level"].as_str()), (Some(1), Some("high")), "{state}");
    wait("no lag", || answer("/api/v1/detection")["lag_records"] == 0);
    let status = answer("/api/v1/detection");
    assert_eq!((status["rules"].as_u64(), status["problems"].as_u64()), (Some(2), Some(1)), "{status}");
    // What would have been found is what was found.
    let headers = [("content-type", "application/json")];
    let backtest = |rules: &str| {
        let body = json!({"rules": rules, "since": "1h"}).to_string();
        crate::hub::send("POST", hub.api, "/api/v1/rules/backtest", &headers, body.as_bytes())
    };
    let found = backtest(RULES).json();
    assert_eq!(found["hits"], 7, "{found}");
    let ids: Vec<&str> =
        found["findings"].as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    assert!(findings(&hub)[0].to_string().contains(ids[0]));
    let refused = backtest("title: x\ndetection: 7\n");
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[test]
fn the_pack_is_sound_and_the_commands_say_so() {
    let run = |arguments: &[&str]| {
        let out = threadline(arguments);
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    for command in ["check", "test"] {
        let (code, said) = run(&["rules", command]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(", 0 problems") && !said.contains("error:"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let rules = write("r.yml", RULES);
    for (record, code, said) in [
        ("{\"event_name\":\"security.authn.rejected\"}\n", 0, "record 1: matches"),
        ("{\"event_name\":\"request.finished\"}\n", 1, "does not match"),
    ] {
        let found = run(&["rules", "explain", "rejected", &write("records", record), "--rules", &rules]);
        assert!(found.0 == Some(code) && found.1.contains(said), "{found:?}");
    }
    let broken = "title: x\nlogsource: {product: threadline}\ndetection: {a: {b|nosuch: 1}, condition: a}\n";
    let (code, said) = run(&["rules", "check", &write("r.yml", broken)]);
    assert!(code == Some(1) && said.contains("r.yml:3"), "{said}");
}

#[test]
fn noisy_rules_are_shown_with_an_exception_that_was_tried() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = start(data.path(), folder.path());
    let noisy = "'it''s * a \\ probe'";
    for (address, count) in [("it's * a \\ probe", 12), ("192.0.2.8", 3), ("192.0.2.9", 1)] {
        reject(&hub, address, count);
    }
    let file = folder.path().join("rules");
    std::fs::write(&file, RULES).unwrap();
    let url = format!("http://{}", hub.api);
    let tune = |rules: &str, format: &str| {
        let out = threadline(&["rules", "tune", rules, "--hub", &url, "--since", "1h", "-o", format]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let told: Value = serde_json::from_str(&tune(file.to_str().unwrap(), "json")).unwrap();
    // The rule by itself makes no findings: the correlation that looks at it has few.
    assert_eq!((told["total"].as_u64(), told["noisy"].as_array().unwrap().len()), (Some(1), 0), "{told}");
    let (single, _) = RULES.split_once("---").unwrap();
    std::fs::write(&file, single).unwrap();
    let told: Value = serde_json::from_str(&tune(file.to_str().unwrap(), "json")).unwrap();
    let rule = &told["noisy"][0];
    assert_eq!((rule["findings"].as_u64(), rule["per_day"].as_f64()), (Some(16), Some(16.0)), "{told}");
    let entity = rule["entities"].as_array().unwrap().iter().find(|entity| entity["field"] == "client.address");
    assert_eq!(entity.unwrap()["values"][0]["share"], 0.75, "{told}");
    assert_eq!(entity.unwrap()["values"].as_array().unwrap().len(), 2, "{told}");
    let exception = &rule["exception"];
    assert_eq!((exception["removes"].as_u64(), exception["leaves"].as_u64()), (Some(12), Some(4)), "{told}");
    assert_eq!(exception["field"], "client.address");
    let text = tune(file.to_str().unwrap(), "table");
    assert!(text.contains("12 would go and 4 stay") && text.contains("client.address: it's * a"), "{text}");
    // What is suggested can be pasted, and does what was said.
    let yaml = exception["yaml"].as_str().unwrap();
    assert!(yaml.contains("expires: 20") && yaml.contains("FILL IN") && !yaml.contains(noisy), "{yaml}");
    std::fs::write(&file, format!("{single}{yaml}")).unwrap();
    let told: Value = serde_json::from_str(&tune(file.to_str().unwrap(), "json")).unwrap();
    assert_eq!((told["total"].as_u64(), told["noisy"].as_array().unwrap().len()), (Some(4), 0), "{told}");
}
