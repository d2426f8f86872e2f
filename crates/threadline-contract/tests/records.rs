//! Records as data: what each breaks, that secrets are gone from what is built, and that a verdict is the record's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use threadline_contract::registry::{Registry, base_layers, load};
use threadline_contract::rules::{Action, Rule};
use threadline_contract::score::Board;
use threadline_contract::{Contract, Guard, Policy};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::columns::Batch;
use threadline_model::otlp::{Decoded, Format, decode_logs};
use threadline_model::schema::{Layout, Table, verdict};

static REGISTRY: LazyLock<Registry> =
    LazyLock::new(|| load(&base_layers()).unwrap_or_else(|problems| panic!("{problems}")));
static DEFAULT: LazyLock<Arc<Contract>> = LazyLock::new(|| contract(Policy::default()));

fn contract(policy: Policy) -> Arc<Contract> {
    Arc::new(Contract::new(REGISTRY.clone(), policy))
}

/// A value as OTLP/JSON has it.
fn any_value(value: &Json) -> Json {
    match value {
        Json::Null => json!({}),
        Json::Bool(bool) => json!({ "boolValue": bool }),
        Json::Number(number) if number.is_i64() => json!({ "intValue": number.to_string() }),
        Json::Number(number) => json!({ "doubleValue": number }),
        Json::String(text) => json!({ "stringValue": text }),
        Json::Array(values) => {
            json!({ "arrayValue": { "values": values.iter().map(any_value).collect::<Vec<_>>() } })
        }
        Json::Object(_) => json!({ "kvlistValue": { "values": pairs(value) } }),
    }
}

fn pairs(map: &Json) -> Vec<Json> {
    let map = map.as_object().cloned().unwrap_or_default();
    map.iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) })).collect()
}

/// A request of records as the corpus has them, each with a resource of its own.
fn request(records: &[Json]) -> Vec<u8> {
    let good =
        json!({ "service.name": "shop", "service.version": "1.0", "deployment.environment.name": "test" });
    let resource_logs: Vec<Json> = records
        .iter()
        .map(|record| {
            let mut log = json!({
                "timeUnixNano": "1764000000000000000",
                "severityNumber": record.get("severity").cloned().unwrap_or(json!(0)),
                "eventName": record.get("event").cloned().unwrap_or(json!("")),
                "attributes": pairs(record.get("attributes").unwrap_or(&Json::Null)),
                "body": any_value(record.get("body").unwrap_or(&Json::Null)),
            });
            if record.get("trace") != Some(&Json::Bool(false)) {
                log["traceId"] = json!("4bf92f3577b34da6a3ce929d0e0e4736");
            }
            let resource = pairs(record.get("resource").unwrap_or(&good));
            json!({ "resource": { "attributes": resource }, "scopeLogs": [{ "logRecords": [log] }] })
        })
        .collect();
    serde_json::to_vec(&json!({ "resourceLogs": resource_logs })).unwrap()
}

/// The rules that each record breaks, what was decoded, and all that was built as text.
fn run(contract: &Arc<Contract>, records: &[Json]) -> (Vec<u64>, Decoded, String, Board) {
    let board = Arc::new(Board::new());
    let layout = Arc::new(Layout::base(Table::Logs));
    let mut builder = BatchBuilder::new(layout, 1_764_000_000_000_000, RecordLimits::default());
    let mut guard = Guard::new(Arc::clone(contract), Arc::clone(&board));
    let decoded = decode_logs(Format::Json, &request(records), &mut builder, &mut guard).unwrap();
    drop(guard);
    let Some(batch) = builder.finish().unwrap() else {
        return (Vec::new(), decoded, String::new(), Board::new());
    };
    let verdicts = Batch::new(&batch).int("verdict");
    let bits = (0..batch.num_rows()).map(|row| verdicts.get(row).unwrap_or(0) as u64).collect();
    let board = Arc::into_inner(board).unwrap();
    (bits, decoded, format!("{batch:?}"), board)
}

struct Case {
    name: &'static str,
    rules: u64,
    record: Json,
}

fn corpus() -> Vec<Case> {
    let lines =
        include_str!("corpus/records.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, '|').map(str::trim);
            let name = parts.next().unwrap();
            let rules = parts.next().unwrap().split_whitespace();
            let rules =
                rules.fold(0, |bits, id| bits | Rule::parse(id).unwrap_or_else(|| panic!("{id}")).bit());
            let record =
                serde_json::from_str(parts.next().unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
            Case { name, rules, record }
        })
        .collect()
}

fn ids(bits: u64) -> Vec<&'static str> {
    Rule::of(bits).map(Rule::id).collect()
}

#[test]
fn every_record_gets_its_verdict() {
    let contract = contract(Policy::default());
    let cases = corpus();
    let mut broken = 0;
    for case in &cases {
        let (bits, ..) = run(&contract, std::slice::from_ref(&case.record));
        assert_eq!(ids(bits[0]), ids(case.rules), "{}", case.name);
        assert_ne!(bits[0] as i64 & verdict::CHECKED, 0);
        broken |= case.rules;
    }
    let records: Vec<Json> = cases.iter().map(|case| case.record.clone()).collect();
    let (bits, ..) = run(&contract, &records);
    for (case, bits) in cases.iter().zip(bits) {
        assert_eq!(ids(bits), ids(case.rules), "{} among others", case.name);
    }
    let untested = Rule::BITS & !broken;
    assert_eq!(
        ids(untested),
        ["attribute.unknown", "limit.attributes", "limit.value"],
        "have tests of their own"
    );
}

#[test]
fn limits_and_rules_that_are_off() {
    let mut policy = Policy::default();
    let long = json!({ "attributes": { "a": "x".repeat(policy.value_bytes_max + 1) } });
    let body = json!({ "body": "x".repeat(policy.body_bytes_max + 1) });
    let many: serde_json::Map<String, Json> =
        (0..=policy.attributes_max).map(|at| (format!("k{at}"), json!(at))).collect();
    let many = json!({ "attributes": many });
    let (bits, ..) = run(&contract(policy.clone()), &[long, body, many.clone()]);
    assert_eq!(
        bits.iter().map(|bits| ids(*bits)).collect::<Vec<_>>(),
        [["limit.value"], ["limit.value"], ["limit.attributes"]]
    );
    policy.set(Rule::LimitAttributes, Action::Off);
    policy.set(Rule::AttributeUnknown, Action::Tag);
    policy.set(Rule::SecretJwt, Action::Off);
    let token = json!({ "body": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl" });
    let (bits, _, text, _) = run(&contract(policy), &[many, token]);
    assert_eq!(bits.iter().map(|bits| ids(*bits)).collect::<Vec<_>>(), [vec!["attribute.unknown"], vec![]]);
    assert!(!text.contains("eyJ"), "a secret is masked whether or not its rule is looked at");
}

#[test]
fn what_is_refused_and_what_never_is() {
    let mut policy = Policy::default();
    policy.set(Rule::AttributeMissing, Action::Reject);
    policy.set(Rule::EventUnknown, Action::Quarantine);
    let records = [
        json!({ "event": "telemetry.dropped", "severity": 13 }),
        json!({ "event": "security.audit", "severity": 9 }),
        json!({ "event": "no.such", "severity": 9 }),
        json!({ "body": "fine" }),
    ];
    let (bits, decoded, ..) = run(&contract(policy), &records);
    assert_eq!((decoded.accepted, decoded.refused), (3, 1));
    assert!(decoded.refusals[0].to_string().contains("attribute.missing"), "{}", decoded.refusals[0]);
    let set_aside =
        |bits: &[u64]| bits.iter().map(|bits| *bits as i64 & verdict::QUARANTINED != 0).collect::<Vec<bool>>();
    assert_eq!(set_aside(&bits), [false, true, false]);
    // What is never refused is never out of sight, either; the rest is counted.
    let mut policy = Policy::default();
    policy.set(Rule::AttributeMissing, Action::Quarantine);
    let (bits, decoded, _, board) = run(&contract(policy), &records);
    assert_eq!((decoded.refused, set_aside(&bits)), (0, vec![true, false, false, false]));
    let all = board.all();
    assert_eq!(all.iter().map(|(_, tally)| (tally.records, tally.quarantined)).collect::<Vec<_>>(), [(4, 1)]);
}

#[test]
fn masking_needs_no_checking() {
    let secret = json!({ "event": "no.such", "attributes": { "password": "hunter2" }, "body": "Bearer canary0bearer0token0" });
    let mut policy = Policy::default();
    policy.check = false;
    let (bits, _, text, board) = run(&contract(policy), &[secret, json!({ "body": "fine" })]);
    assert!(!text.contains("hunter2") && !text.contains("canary0bearer0token0"), "{text}");
    assert_eq!(bits, [verdict::REDACTED as u64, 0]);
    assert!(board.all().is_empty());
}

#[test]
fn checking_needs_no_masking() {
    let mut policy = Policy::default();
    policy.mask = false;
    let secret = json!({ "attributes": { "password": "hunter2" }, "body": "Bearer canary0bearer0token0" });
    let (bits, _, text, _) = run(&contract(policy), &[secret]);
    assert!(text.contains("hunter2") && text.contains("canary0bearer0token0"), "{text}");
    assert_eq!(ids(bits[0]), ["secret.attribute", "secret.bearer"]);
    assert_eq!(bits[0] as i64 & verdict::REDACTED, 0);
}

#[test]
fn classes_are_masked_where_one_wants_it() {
    let record = json!({ "attributes": { "user.email": "ann@example.com", "password": "hunter2" } });
    let (bits, _, text, _) = run(&contract(Policy::default()), std::slice::from_ref(&record));
    assert!(text.contains("ann@example.com") && !text.contains("hunter2"));
    assert_ne!(bits[0] as i64 & verdict::REDACTED, 0);
    let mut policy = Policy::default();
    policy.mask_pii = true;
    let (bits, _, text, _) = run(&contract(policy), &[record]);
    assert!(!text.contains("ann@example.com"));
    assert_eq!(ids(bits[0]), ["secret.attribute"], "a person's data breaks no rule");
}

#[test]
fn the_board_counts_and_keeps_one_example() {
    let bad = json!({ "event": "no.such", "severity": 9, "body": "x" });
    let good = json!({ "body": "fine" });
    let (.., board) = run(&contract(Policy::default()), &[bad.clone(), good, bad]);
    let all = board.all();
    let [(sender, tally)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((sender.service.as_str(), sender.version.as_str()), ("shop", "1.0"));
    assert_eq!((tally.records, tally.violated), (3, 2));
    let count = &tally.rules[&Rule::EventUnknown];
    assert_eq!(count.records, 2);
    assert_eq!(count.example.as_ref().unwrap().found, "\"no.such\"");
    let score = tally.score(|rule| rule.default_action() != Action::Off);
    assert!(score < 100.0 && score > 90.0, "{score}");
}

/// Any JSON as an attribute's value or a body.
fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-1e9f64..1e9).prop_map(Json::from),
        ".{0,20}".prop_map(Json::from),
        "(eyJ|[.]|:|//|@|Bearer |password=|[0-9]{4}|;){0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("(a|password|.{0,6})", inner, 0..4)
                .prop_map(|map| Json::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

fn record() -> impl Strategy<Value = Json> {
    let events = ["", "request.finished", "security.audit", "telemetry.dropped", "exception", "x"];
    let keys = "(threadline.outcome|threadline.reason|http.response.status_code|url.path|password|user.email|http.method|[a-z.]{0,8})";
    (
        prop::sample::select(events.to_vec()),
        -3i32..30,
        any::<bool>(),
        prop::collection::btree_map(keys, value(), 0..12),
        value(),
    )
        .prop_map(|(event, severity, trace, attributes, body)| {
            let attributes: serde_json::Map<_, _> = attributes.into_iter().collect();
            json!({ "event": event, "severity": severity, "trace": trace, "attributes": attributes, "body": body })
        })
}

proptest! {
    #[test]
    fn a_verdict_is_the_records_own(records in prop::collection::vec(record(), 1..8)) {
        let contract = &*DEFAULT;
        let (together, decoded, ..) = run(contract, &records);
        prop_assert_eq!(decoded.refused, 0);
        let alone: Vec<u64> = records.iter().flat_map(|record| run(contract, std::slice::from_ref(record)).0).collect();
        prop_assert_eq!(together, alone);
    }
}
