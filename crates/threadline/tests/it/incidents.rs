//! Incidents in the hub: what is found becomes one incident per group, people work with it by API and command line, and
//! nothing of it is lost or doubled by a kill.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use threadline::door::roles::Role;
use threadline::settings::Settings;
use threadline::{Components, Hub};
use threadline_contract::rules::{Action, Rule};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, BatchId};

use crate::hub::{START_NS, attribute, deliver, settings, spans};
use crate::process::{Process, skip, threadline as command};

/// How long something that should happen soon may take, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(120);

fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come to be");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(data: &Path) -> Hub {
    threadline::start(Settings { incidents: true, ..settings(data) }, Components::system()).unwrap()
}

/// Keeps a finding as detection does: no sender may write under the hub's own name.
fn find(hub: &Hub, id: u32, pairs: &[(&str, &str)]) {
    let store = hub.store();
    let now_us = i64::try_from(START_NS / 1000).unwrap() + i64::from(id) * 1_000_000;
    let mut builder = BatchBuilder::new(store.layout(Table::Logs), now_us, RecordLimits::default());
    let resource = [("service.name", Value::Str("threadline"))];
    builder.set_resource(&ResourceView { attributes: &resource, ..ResourceView::default() });
    let mut attributes = vec![
        ("threadline.finding.id".to_owned(), format!("{id:032x}")),
        ("security_rule.uuid".to_owned(), "r-1".to_owned()),
        ("security_rule.name".to_owned(), "Many failed logins".to_owned()),
    ];
    let has_level = pairs.iter().any(|(key, _)| *key == "level");
    let level = [("level", "high")];
    for (key, value) in pairs.iter().chain(level.iter().filter(|_| !has_level)) {
        attributes.push((format!("threadline.finding.{key}"), (*value).to_owned()));
    }
    let attributes: Vec<(&str, Value<'_>)> =
        attributes.iter().map(|(key, value)| (key.as_str(), Value::Str(value))).collect();
    let log = LogView {
        time_unix_nano: u64::try_from(now_us).unwrap() * 1000,
        event_name: "security.finding",
        body: Value::Str("Many failed logins: 50 within a minute"),
        attributes: &attributes,
        ..LogView::default()
    };
    builder.push_log(&log, 0).unwrap();
    let batch = builder.finish().unwrap().unwrap();
    store.append_wait(Append { table: Table::Logs, id: BatchId(u128::from(id) + 1), batch }).unwrap();
}

fn get(hub: &Hub, path: &str) -> Json {
    crate::hub::get_ok(hub, path).json()
}

fn post(hub: &Hub, path: &str, body: &Json) -> (u16, Json) {
    let headers = [("content-type", "application/json")];
    let address = hub.addresses().api;
    let reply = crate::hub::send("POST", address, path, &headers, body.to_string().as_bytes());
    (reply.status, reply.json())
}

fn list(hub: &Hub, query: &str) -> Vec<Json> {
    get(hub, &format!("/api/v1/incidents{query}"))["incidents"].as_array().unwrap().clone()
}

/// The one incident, once it has so many findings.
fn incident(hub: &Hub, findings: u64) -> Json {
    wait("the incident", || {
        let all = list(hub, "?state=all");
        assert!(all.len() <= 1, "{all:?}");
        all.into_iter().find(|one| one["findings"] == findings)
    })
}

/// How many rows a query of an incident finds.
fn found_by(hub: &Hub, query: &Json) -> usize {
    let search: String = query["query"].as_str().unwrap().bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = format!("/api/v1/search?table={}&limit=1000&q={search}", query["table"].as_str().unwrap());
    crate::hub::get_ok(hub, &path).lines().len()
}

#[test]
fn fifty_findings_of_one_source_are_one_incident_with_its_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let trace = "07".repeat(16);
    deliver(&hub, "/v1/traces", &spans("shop", 7, &["GET /login", "SELECT users"]));
    for id in 0..50 {
        let pairs = [
            ("entity.client.address", "192.0.2.7"),
            ("entity.service.name", "shop"),
            ("trace_ids", trace.as_str()),
            ("span_seqs", "1,2"),
        ];
        find(&hub, id, &pairs);
    }
    let one = incident(&hub, 50);
    assert_eq!((&one["state"], &one["severity"], &one["id"]), (&json!("open"), &json!("high"), &json!(1)));
    assert_eq!(one["title"], "Many failed logins at shop");
    assert_eq!(one["services"], json!(["shop"]));
    assert_eq!(one["first_seen"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(one["last_seen"], "2026-01-01T00:00:49.000000Z");

    let all = get(&hub, "/api/v1/incidents/1");
    let kinds =
        |kind: &str| all["timeline"].as_array().unwrap().iter().filter(|item| item["kind"] == kind).count();
    assert_eq!((kinds("finding"), kinds("transition")), (50, 1));
    let blast = &all["blast_radius"];
    assert_eq!(
        (&blast["traces"], &blast["spans"], &blast["cut"]),
        (&json!(1), &json!(2), &json!(false)),
        "{blast}"
    );
    assert_eq!(blast["services"][0]["name"], "shop");
    let operations: BTreeSet<&str> = blast["services"][0]["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|operation| operation["name"].as_str().unwrap())
        .collect();
    assert_eq!(operations, ["GET /login", "SELECT users"].into());
    // Each search finds what it says: it is run as it stands.
    let entities = all["entities"].as_array().unwrap();
    let of = |field: &str| entities.iter().find(|entity| entity["field"] == field).unwrap();
    assert_eq!(
        (&of("client.address")["value"], &of("client.address")["findings"]),
        (&json!("192.0.2.7"), &json!(50))
    );
    let item = all["timeline"].as_array().unwrap().iter().find(|item| item["kind"] == "finding").unwrap();
    let mut found = Vec::new();
    for query in item["queries"].as_array().unwrap().iter().chain([&of("service.name")["query"]]) {
        found.push(found_by(&hub, query));
    }
    assert_eq!(found, [1, 2, 2, 2], "{item}");

    let markdown = crate::hub::get_ok(&hub, "/api/v1/incidents/1/report");
    assert!(markdown.header("content-type").starts_with("text/markdown"));
    for part in [
        "# Incident 1: Many failed logins at shop",
        "| shop | 0 | GET /login | 1 |",
        "192.0.2.7",
        "`trace:0707",
    ] {
        assert!(markdown.text().contains(part), "{part}: {}", markdown.text());
    }
    let ocsf = get(&hub, "/api/v1/incidents/1/report?format=ocsf");
    assert_eq!(
        (&ocsf["class_uid"], &ocsf["activity_id"], &ocsf["severity_id"]),
        (&json!(2004), &json!(1), &json!(4))
    );
    assert_eq!(ocsf["evidences"].as_array().unwrap().len(), 50);
    let as_json = get(&hub, "/api/v1/incidents/1/report?format=json");
    assert_eq!(as_json["entities"], all["entities"]);
    hub.shutdown().unwrap();
}

#[test]
fn evidence_in_quarantine_is_shown_and_its_search_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = Settings { incidents: true, ..settings(folder.path()) };
    own.contract_actions.set(Rule::EventUnknown, Action::Quarantine);
    let hub = threadline::start(own, Components::system()).unwrap();
    let mut request = crate::hub::logs("login", &["aside"]);
    let record = &mut request.resource_logs[0].scope_logs[0].log_records[0];
    (record.event_name, record.body) = ("no.such".to_owned(), None);
    deliver(&hub, "/v1/logs", &request);
    let seq = hub.store().stats().last_seq;
    find(&hub, 1, &[("entity.service.name", "login"), ("log_seqs", &seq.to_string())]);
    incident(&hub, 1);
    let all = get(&hub, "/api/v1/incidents/1");
    let timeline = all["timeline"].as_array().unwrap();
    let item = |kind: &str| timeline.iter().find(|item| item["kind"] == kind).unwrap();
    // It has no body: it is told by its event.
    assert_eq!(item("record")["text"], "login: no.such", "{all}");
    for query in [&item("record")["queries"][0], &item("finding")["queries"][1]] {
        assert_eq!(found_by(&hub, query), 1, "{query}");
    }
    hub.shutdown().unwrap();
}

#[test]
fn who_is_involved_and_what_was_touched_is_read_from_the_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    // A gate calls the login, which calls the users; the attacker's address is known to the gate alone.
    let mut last = 0;
    for (at, (service, kind, peer)) in
        [("gate", 2, "192.0.2.7"), ("login", 2, "10.0.0.1"), ("users", 3, "10.0.0.2")].into_iter().enumerate()
    {
        let mut request = crate::hub::spans(service, 7, &["call"]);
        let of = &mut request.resource_spans[0];
        of.resource
            .as_mut()
            .unwrap()
            .attributes
            .push(attribute("service.instance.id", &format!("{service}-1")));
        let span = &mut of.scope_spans[0].spans[0];
        (span.span_id, span.kind) = (vec![at as u8 + 1; 8], kind);
        span.parent_span_id = if at == 0 { vec![] } else { vec![at as u8; 8] };
        span.attributes.push(attribute("network.peer.address", peer));
        deliver(&hub, "/v1/traces", &request);
        last = hub.store().stats().last_seq;
    }
    // One of its logs is of the login's span; another has no trace.
    let mut request = crate::hub::logs("login", &["no such user", "locked"]);
    let records = &mut request.resource_logs[0].scope_logs[0].log_records;
    (records[0].trace_id, records[0].span_id) = (vec![7; 16], vec![2; 8]);
    records[0].attributes.push(attribute("user.id", "ann"));
    records[1].attributes.push(attribute("enduser.id", "bob"));
    deliver(&hub, "/v1/logs", &request);
    // Of files, and of memory.
    hub.store().seal().unwrap();
    deliver(&hub, "/v1/logs", &crate::hub::logs("shop", &["beside"]));
    let (span, logs) = (last.to_string(), format!("{},{}", last + 1, last + 2));
    let service = ("entity.service.name", "login");
    find(&hub, 1, &[service, ("log_seqs", &logs)]);
    find(&hub, 2, &[service, ("span_seqs", &span)]);
    incident(&hub, 2);
    let all = get(&hub, "/api/v1/incidents/1");
    let mut entities: Vec<String> = all["entities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap().to_owned();
            format!("{}={} {} {}", text("field"), text("value"), one["findings"], one["query"]["table"])
        })
        .collect();
    entities.sort();
    let trace = format!("trace_id={} 2 \"spans\"", "07".repeat(16));
    // The peer of what calls is no source.
    let want = [
        "enduser.id=bob 1 \"logs\"",
        "service.instance.id=users-1 1 \"spans\"",
        "service.name=login 2 \"logs\"",
        "service.name=users 1 \"spans\"",
        &trace,
        "user.id=ann 1 \"logs\"",
    ];
    assert_eq!(entities, want, "{all}");
    assert_eq!(all["entities_cut"], false);
    // What the findings rest on stands in the timeline, by its time.
    let timeline = all["timeline"].as_array().unwrap();
    let of_kind = |kind: &str| -> Vec<(String, String)> {
        let text = |one: &Json| one.as_str().unwrap().to_owned();
        let all = timeline.iter().filter(|item| item["kind"] == kind);
        all.map(|item| (text(&item["text"]), text(&item["queries"][0]["query"]))).collect()
    };
    let pair = |text: &str, query: String| (text.to_owned(), query);
    assert_eq!(
        of_kind("record"),
        [
            pair("login: no such user", format!("seq={}", last + 1)),
            pair("login: locked", format!("seq={}", last + 2)),
        ]
    );
    assert_eq!(of_kind("span"), [pair("users: call", format!("seq={last}"))]);
    let trace = format!("trace:{}", "07".repeat(16));
    assert_eq!(of_kind("trace"), [pair("trace of gate call: 3 spans of 3 services, 0 failed", trace)]);
    assert_eq!(all["timeline_left_out"], 0);
    // Below the login is what it called; the gate called it.
    let blast = &all["blast_radius"];
    let services: Vec<(&str, &Json)> = blast["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), &one["hops"]))
        .collect();
    assert_eq!(services, [("login", &json!(0)), ("users", &json!(0)), ("gate", &Json::Null)], "{blast}");
    assert_eq!(
        blast["calls"],
        json!([
            {"caller": "gate", "callee": "login", "calls": 1, "errors": 0},
            {"caller": "login", "callee": "users", "calls": 1, "errors": 0},
        ])
    );
    // One that names the attacker: the gate is where it was seen, and all is below.
    let gate = ("entity.service.name", "gate");
    find(&hub, 3, &[gate, ("entity.network.peer.address", "192.0.2.7"), ("log_seqs", &logs)]);
    let other = wait("the other", || list(&hub, "").iter().find(|one| one["id"] == 2).cloned());
    assert_eq!(other["findings"], 1);
    let blast = &get(&hub, "/api/v1/incidents/2")["blast_radius"];
    let hops: Vec<u64> =
        blast["services"].as_array().unwrap().iter().map(|one| one["hops"].as_u64().unwrap()).collect();
    assert_eq!(hops, [0, 0, 1], "{blast}");
    hub.shutdown().unwrap();
}

#[test]
fn a_finding_that_names_no_service_has_that_of_its_evidence() {
    for (bodies, want) in [(&["cart"; 2][..], json!(["cart"])), (&["cart", "shop"], json!([]))] {
        let folder = tempfile::tempdir().unwrap();
        let hub = start(folder.path());
        for service in bodies {
            deliver(&hub, "/v1/logs", &crate::hub::logs(service, &["no"]));
        }
        let last = hub.store().stats().last_seq;
        let seqs: Vec<String> = (0..bodies.len() as i64).map(|back| (last - back).to_string()).collect();
        hub.store().seal().unwrap();
        find(&hub, 1, &[("log_seqs", &seqs.join(",")), ("entity.client.address", "192.0.2.1")]);
        assert_eq!(incident(&hub, 1)["services"], want);
        hub.shutdown().unwrap();
    }
}

#[test]
fn people_work_with_incidents_and_silences() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    find(&hub, 1, &[("entity.service.name", "cart"), ("level", "medium")]);
    incident(&hub, 1);
    let act = |act: &str, body: Json| post(&hub, &format!("/api/v1/incidents/1/{act}"), &body);
    for (name, body, status, state) in [
        ("reopen", json!({}), 409, ""),
        ("acknowledge", json!({}), 200, "acknowledged"),
        ("acknowledge", json!({}), 409, ""),
        ("assign", json!({"to": "bob"}), 200, "acknowledged"),
        ("assign", json!({"whom": "bob"}), 400, ""),
        ("note", json!({"text": "looking"}), 200, "acknowledged"),
        ("note", json!({"text": " "}), 400, ""),
        ("snooze", json!({"for": "2h"}), 200, "snoozed"),
        ("snooze", json!({"for": "2h", "until": "now"}), 400, ""),
        ("snooze", json!({"until": "-1h"}), 400, ""),
        ("merge", json!({"into": 1}), 400, ""),
        ("merge", json!({"into": 77}), 404, ""),
        ("resolve", json!({}), 200, "resolved"),
        ("resolve", json!({}), 409, ""),
        ("reopen", json!({}), 200, "open"),
    ] {
        let (got, answer) = act(name, body.clone());
        assert_eq!(got, status, "{name} {body}: {answer}");
        match status {
            200 => assert_eq!(answer["state"], state, "{name} {body}"),
            _ => assert!(answer["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer}"),
        }
    }
    assert_eq!(post(&hub, "/api/v1/incidents/9/resolve", &json!({})).0, 404);
    assert_eq!(post(&hub, "/api/v1/incidents/x/resolve", &json!({})).0, 404);
    let shown = get(&hub, "/api/v1/incidents/1");
    assert_eq!((&shown["assignee"], &shown["notes"][0]["text"]), (&json!("bob"), &json!("looking")));

    // Another incident, and one is made a part of the other: its findings are in the other's timeline.
    find(&hub, 2, &[("entity.service.name", "shop")]);
    wait("the second", || (list(&hub, "").len() == 2).then_some(()));
    for (query, want) in [
        ("?severity=high", vec![2]),
        ("?severity=medium", vec![2, 1]),
        ("?service=cart", vec![1]),
        ("?state=resolved", vec![]),
        ("?limit=1", vec![2]),
        ("?before=2", vec![1]),
    ] {
        let ids: Vec<u64> = list(&hub, query).iter().map(|one| one["id"].as_u64().unwrap()).collect();
        assert_eq!(ids, want, "{query}");
    }
    assert_eq!(get(&hub, "/api/v1/incidents?limit=1")["next"], 2);
    // Who asks for a finding's incident gets the one that has it, also when it was merged since.
    let seq = &shown["timeline"].as_array().unwrap().iter().find(|item| item["kind"] == "finding").unwrap()["finding"]
        ["seq"];
    let holders = |query: &str| -> Vec<u64> {
        let all = list(&hub, &format!("?finding={seq}{query}"));
        all.iter().map(|one| one["id"].as_u64().unwrap()).collect()
    };
    assert_eq!((holders(""), holders("&state=resolved"), holders("9")), (vec![1], vec![], vec![]));
    let (status, merged) = act("merge", json!({"into": 2}));
    assert_eq!((status, &merged["merged_into"]), (200, &json!(2)), "{merged}");
    assert_eq!(holders(""), [2]);
    let shown = get(&hub, "/api/v1/incidents/2");
    let findings =
        shown["timeline"].as_array().unwrap().iter().filter(|item| item["kind"] == "finding").count();
    assert_eq!((findings, &shown["findings"], &shown["alerts"]), (2, &json!(2), &json!(2)));

    let matchers = json!(["service=\"shop\""]);
    let (status, preview) = post(&hub, "/api/v1/silences/preview", &json!({"matchers": matchers}));
    assert_eq!((status, &preview["incidents"]), (200, &json!([{"id": 2, "alerts_muted": 1, "alerts": 2}])));
    for (body, want) in [
        (json!({"matchers": [], "for": "1h", "comment": "x"}), "matchers"),
        (json!({"matchers": ["a"], "for": "1h", "comment": "x"}), "needs one of"),
        (json!({"matchers": matchers, "for": "1h", "comment": ""}), "comment"),
        (json!({"matchers": matchers, "comment": "x"}), "one of `until`"),
    ] {
        let (status, answer) = post(&hub, "/api/v1/silences", &body);
        assert!(status == 400 && answer.to_string().contains(want), "{body}: {answer}");
    }
    let (status, silence) =
        post(&hub, "/api/v1/silences", &json!({"matchers": matchers, "for": "1h", "comment": "a release"}));
    assert_eq!((status, &silence["id"], &silence["active"]), (200, &json!(1), &json!(true)), "{silence}");
    assert_eq!(get(&hub, "/api/v1/silences")["silences"][0]["comment"], "a release");
    let end = || crate::hub::send("DELETE", hub.addresses().api, "/api/v1/silences/1", &[], b"").status;
    assert_eq!((end(), end()), (200, 404));
    hub.shutdown().unwrap();
}

#[test]
fn a_report_is_a_detection_finding_by_the_models_of_others() {
    let Ok(python) = std::env::var("THREADLINE_TEST_OCSF_PYTHON") else {
        let why = "THREADLINE_TEST_OCSF_PYTHON names no Python; `cargo xtask test` installs it";
        return skip("the models of OCSF", why);
    };
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    find(&hub, 1, &[("entity.client.address", "192.0.2.7"), ("entity.user.id", "ann")]);
    incident(&hub, 1);
    let report = || get(&hub, "/api/v1/incidents/1/report?format=ocsf");
    let mut reports = vec![report()];
    for act in ["acknowledge", "resolve"] {
        assert_eq!(post(&hub, &format!("/api/v1/incidents/1/{act}"), &json!({})).0, 200);
        reports.push(report());
    }
    // What is none is found to be none.
    let mut wrong = report();
    wrong["severity_id"] = json!("high");
    wrong["finding_info"].as_object_mut().unwrap().remove("title");
    reports.push(wrong);
    hub.shutdown().unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocsf/validate.py");
    let mut validate = Command::new(&python);
    let validate = validate.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut validate = validate.spawn().unwrap();
    let mut input = validate.stdin.take().unwrap();
    reports.iter().for_each(|report| writeln!(input, "{report}").unwrap());
    drop(input);
    let output = validate.wait_with_output().unwrap();
    let said: Vec<Json> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let read = |activity: &str, status: &str| {
        json!({
            "class": 2004, "type": activity, "activity": activity, "status": status, "severity": "High",
            "title": "Many failed logins", "observables": ["IP_Address", "User_Name"],
        })
    };
    let want = [read("Create", "New"), read("Update", "InProgress"), read("Close", "Resolved")];
    assert_eq!(said.get(..3), Some(&want[..]), "{said:?}");
    let of: Vec<&str> = said[3]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one.as_str()?.split(':').next())
        .collect();
    assert_eq!(of, ["severity_id", "finding_info.title"], "{said:?}");
}

#[test]
fn secrets_that_people_type_reach_no_disk() {
    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlY2FuYXJ5";
    let folder = tempfile::tempdir().unwrap();
    let wanted = Settings { incidents: true, environment: "test".to_owned(), ..settings(folder.path()) };
    let hub = threadline::start(wanted, Components::system()).unwrap();
    find(&hub, 1, &[("entity.service.name", "cart")]);
    incident(&hub, 1);
    let act = |path: &str, body: Json| {
        let (status, answer) = post(&hub, path, &body);
        assert_eq!(status, 200, "{path}: {answer}");
        assert!(!answer.to_string().contains(JWT), "{answer}");
    };
    act("/api/v1/incidents/1/note", json!({"text": format!("they used {JWT} again")}));
    act("/api/v1/incidents/1/assign", json!({"to": format!("bob {JWT}")}));
    let silence = json!({"matchers": ["service=cart"], "for": "1h", "comment": format!("until {JWT} is gone")});
    act("/api/v1/silences", silence);
    let secret = json!({"matchers": [format!("service={JWT}")], "for": "1h", "comment": "x"});
    assert_eq!(post(&hub, "/api/v1/silences", &secret).0, 400);
    let search = "/api/v1/search?q=event:threadline.incident.transition&limit=100";
    let records = wait("the records", || {
        Some(crate::hub::get_ok(&hub, search).text()).filter(|text| text.contains("is gone"))
    });
    // By the contract, as all records are: what is said is declared, and of its type.
    let silenced: Json = records
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap())
        .find(|one| one["attributes"]["threadline.incident.action"] == "silenced")
        .unwrap();
    assert_eq!(silenced["attributes"]["threadline.incident.silence"], 1, "{silenced}");
    assert_eq!(silenced["attributes"]["threadline.incident.matchers"], "service=\"cart\"");
    let violated = "/api/v1/search?q=event:threadline.incident.transition%20contract:violated";
    assert_eq!(crate::hub::get_ok(&hub, violated).text(), "");
    let shown = get(&hub, "/api/v1/incidents/1").to_string();
    assert!(shown.contains("they used") && shown.contains("bob"), "{shown}");
    for (what, text) in [("records", records), ("incident", shown)] {
        assert!(!text.contains(JWT), "{what}: {text}");
    }
    hub.shutdown().unwrap();
    let book = std::fs::read(folder.path().join("incidents/book.redb")).unwrap();
    let has = |text: &str| book.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("they used") && !has(JWT));
}

#[test]
fn what_a_preview_may_cost_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let many = vec!["a=b"; 65];
    for (matchers, want) in [
        (json!(many), "from 1 to 64"),
        (json!([]), "from 1 to 64"),
        (json!(vec![format!("a={}", "b".repeat(4000)); 5]), "bytes in all"),
        (json!(["a=~\\w{500}"]), "size limit"),
    ] {
        let (status, answer) = post(&hub, "/api/v1/silences/preview", &json!({"matchers": matchers}));
        assert!(status == 400 && answer.to_string().contains(want), "{answer}");
    }
    hub.shutdown().unwrap();
}

#[test]
fn what_is_unusual_no_longer_ends_its_incident() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    let entity = ("entity.service.name", "cart");
    find(&hub, 1, &[entity, ("phase", "began"), ("level", "medium")]);
    incident(&hub, 1);
    // By then it is informational; of others it says nothing.
    find(&hub, 2, &[("entity.service.name", "shop"), ("phase", "over"), ("level", "informational")]);
    find(&hub, 3, &[entity, ("phase", "over"), ("level", "informational")]);
    let resolved = wait("the end", || list(&hub, "?state=resolved").pop());
    assert_eq!((&resolved["severity"], &resolved["active"]), (&json!("medium"), &json!(0)), "{resolved}");
    assert_eq!(list(&hub, "?state=all").len(), 1);
    hub.shutdown().unwrap();
}

#[test]
fn the_alerts_file_is_read_again_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.yaml");
    std::fs::write(&file, "teams:\n  shop: [cart]\nroute:\n  group_by: [team]\n").unwrap();
    let data = folder.path().join("data");
    let wanted = Settings { incidents: true, alerts_file: Some(file.clone()), ..settings(&data) };
    let hub = threadline::start(wanted, Components::system()).unwrap();
    find(&hub, 1, &[("entity.service.name", "cart")]);
    let one = incident(&hub, 1);
    assert_eq!((&one["team"], &one["group"]), (&json!("shop"), &json!({"team": "shop"})));
    std::fs::write(&file, "route:\n  group_by: cart\n  group_wait: soon\n").unwrap();
    let problems = || get(&hub, "/api/v1/incidents")["problems"].clone();
    let said = wait("a problem", || Some(problems()).filter(|problems| problems[0].is_string()));
    assert!(said[0].as_str().unwrap().contains("alerts.yaml:2"), "{said}");
    assert!(get(&hub, "/api/v1/detection")["incidents"]["alerts_file_problem"].is_string());
    let broken = |value: u8| format!("threadline_incidents_alerts_file_broken {value}\n");
    assert!(crate::hub::get_ok(&hub, "/metrics").text().contains(&broken(1)));
    find(&hub, 2, &[("entity.service.name", "cart"), ("level", "low")]);
    incident(&hub, 2);
    std::fs::write(&file, "route:\n  group_by: [service]\n").unwrap();
    wait("no problem", || (problems() == json!([])).then_some(()));
    find(&hub, 3, &[("entity.service.name", "cart")]);
    wait("one by the new rule", || {
        list(&hub, "").iter().find(|one| one["group"] == json!({"service": "cart"})).cloned()
    });
    let metrics = crate::hub::get_ok(&hub, "/metrics").text();
    for line in [broken(0), "threadline_incidents_live{severity=\"high\"} 2\n".to_owned()] {
        assert!(metrics.contains(&line), "{line}");
    }
    hub.shutdown().unwrap();
}

#[test]
fn who_acts_is_known_by_the_name_of_their_token() {
    let folder = tempfile::tempdir().unwrap();
    let ann = crate::door::token(folder.path(), "ann", &[Role::Read, Role::Operate], None);
    let reader = crate::door::token(folder.path(), "reader", &[Role::Read], None);
    let hub = start(folder.path());
    find(&hub, 1, &[]);
    let send = |token: &str, method: &str, at, path: &str, kind: &str, body: &[u8]| {
        let bearer = format!("Bearer {token}");
        crate::hub::send(method, at, path, &[("authorization", &bearer), ("content-type", kind)], body)
    };
    let api = hub.addresses().api;
    let json = "application/json";
    wait("the incident", || {
        let all = send(&reader, "GET", api, "/api/v1/incidents", json, b"").json();
        all["incidents"].as_array().unwrap().first().cloned()
    });
    let path = "/api/v1/incidents/1/acknowledge";
    assert_eq!(send(&reader, "POST", api, path, json, b"{}").status, 403);
    let answer = send(&ann, "POST", api, path, json, b"{}").json();
    assert_eq!(answer["assignee"], "ann");
    let query = "/api/v1/search?q=event:threadline.incident.transition%20threadline.incident.action:assigned";
    let record = wait("the audit record", || send(&reader, "GET", api, query, json, b"").lines().pop());
    assert_eq!(record["attributes"]["threadline.incident.actor"], "ann", "{record}");
    assert_eq!(record["attributes"]["threadline.incident.id"], 1);
    hub.shutdown().unwrap();
}

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

/// Numbers of the transitions that have records.
fn transitions(hub: &Process) -> Vec<u64> {
    let mut numbers: Vec<u64> = hub
        .search("logs", "event:threadline.incident.transition")
        .iter()
        .map(|row| row["attributes"]["threadline.incident.transition.number"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_rule_that_fires_opens_an_incident_that_survives_kills_and_is_worked_on_from_the_command_line() {
    let (data, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(rules.path().join("a.yml"), RULES).unwrap();
    let folder = rules.path().display().to_string();
    let settings = [
        ("THREADLINE_DETECTION", "true"),
        ("THREADLINE_INCIDENTS", "true"),
        ("THREADLINE_RULES_BUILTIN", "false"),
        ("THREADLINE_BASELINES", "false"),
        ("THREADLINE_RULES_DIR", folder.as_str()),
    ];
    let mut hub = Process::start(data.path(), &settings);
    crate::detection::reject(&hub, "192.0.2.9", 6);
    let base = format!("http://{}", hub.api);
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = ["incidents"].iter().chain(arguments).chain(&["--hub", &base]).copied().collect();
        let out = command(&all);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code(), format!("{}{}", text(&out.stdout), text(&out.stderr)))
    };
    let said = wait("the incident", || Some(run(&["list"])).filter(|(_, said)| said.contains("Many rejected")));
    assert!(said.0 == Some(0) && said.1.contains("high") && said.1.contains("1 incidents"), "{said:?}");
    for (arguments, code, want) in [
        (vec!["ack", "1"], 0, "incident 1: acknowledged, anonymous has it"),
        (vec!["ack", "1"], 1, "cannot be acknowledged"),
        (vec!["assign", "1", "bob"], 0, "bob has it"),
        (vec!["note", "1", "blocked at the edge"], 0, "incident 1"),
        (vec!["snooze", "1", "--for", "2h"], 0, "snoozed"),
        (vec!["silence", "rule=~\"Many.*\"", "--preview"], 0, "1 live incidents"),
        (vec!["silence", "client.address=192.0.2.9", "--comment", "a test"], 0, "silence 1 until"),
        (vec!["silences"], 0, "a test"),
        (vec!["silences", "-o", "json"], 0, "\"comment\":\"a test\""),
        (vec!["unsilence", "1"], 0, "has ended"),
        (vec!["unsilence", "1"], 1, "there is no 1"),
        (vec!["resolve", "1"], 0, "resolved"),
        (vec!["reopen", "1"], 0, "incident 1: open"),
        (vec!["show", "1"], 0, "blocked at the edge"),
        (vec!["show", "1"], 0, "192.0.2.9"),
        (vec!["show", "7"], 1, "there is no 7"),
        (vec!["report", "1"], 0, "# Incident 1: Many rejected"),
        (vec!["report", "1", "--format", "ocsf"], 0, "\"class_uid\":2004"),
        (vec!["list", "-o", "ndjson", "--severity", "high"], 0, "\"id\":1"),
        (vec!["list", "--state", "resolved", "--fail-empty"], 1, "0 incidents"),
    ] {
        let got = run(&arguments);
        assert!(got.0 == Some(code) && got.1.contains(want), "{arguments:?}: {got:?}");
    }
    let before: Json = serde_json::from_str(&run(&["show", "1", "-o", "json"]).1).unwrap();
    for _ in 0..3 {
        hub.kill();
        hub.restart();
        hub.wait_healthy();
        let mut after: Json = serde_json::from_str(&run(&["show", "1", "-o", "json"]).1).unwrap();
        for name in ["generated", "clock"] {
            after[name] = before[name].clone();
        }
        assert_eq!(after, before);
    }
    // Opened, joined, acknowledged, assigned twice, noted, snoozed, silenced, unsilenced, resolved, reopened: each once.
    let numbers = wait("all records", || Some(transitions(&hub)).filter(|numbers| numbers.len() >= 11));
    assert_eq!(numbers, (1..=11).collect::<Vec<u64>>());
    hub.stop();
}
