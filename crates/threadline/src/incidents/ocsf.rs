//! An incident as an OCSF Detection Finding (class 2004, version 1.8.0) with the profile `incident`.

use serde_json::{Map, Value, json};

use super::entity::EntityView;
use super::evidence::{Item, Report};

/// Version of the schema.
const VERSION: &str = "1.8.0";
const CLASS: u32 = 2004;
/// Category "Findings".
const CATEGORY: u32 = 2;
/// Evidences of a finding at most.
const EVIDENCES_MAX: usize = 200;

/// The finding.
pub(crate) fn ocsf(report: &Report) -> Value {
    let of = &report.summary;
    let ms = |us: i64| us.div_euclid(1000);
    let (activity, activity_name) = match of.state {
        "open" if of.since == of.opened => (1, "Create"),
        "resolved" | "merged" => (3, "Close"),
        _ => (2, "Update"),
    };
    let (status, status_name) = match of.state {
        "acknowledged" => (2, "In Progress"),
        "snoozed" => (3, "Suppressed"),
        "resolved" => (4, "Resolved"),
        "merged" => (5, "Archived"),
        _ => (1, "New"),
    };
    let (severity, severity_name) = match of.severity.as_str() {
        "informational" => (1, "Informational"),
        "low" => (2, "Low"),
        "medium" => (3, "Medium"),
        "high" => (4, "High"),
        "critical" => (5, "Critical"),
        _ => (0, "Unknown"),
    };
    let rules: Vec<Value> = analytics(report);
    let mut info = json!({
        "uid": format!("threadline-incident-{}", of.id),
        "title": of.title,
        "desc": report.timeline.iter().rev().find(|item| item.kind == "finding").map_or("", |item| item.text.as_str()),
        "types": of.rules,
        "created_time": ms(of.at.opened_us),
        "modified_time": ms(of.at.since_us.max(of.at.last_us)),
        "first_seen_time": ms(of.at.first_us),
        "last_seen_time": ms(of.at.last_us),
        "data_sources": ["OpenTelemetry logs", "OpenTelemetry traces"],
        "related_events_count": of.findings,
    });
    if let (Some(info), Some((first, more))) = (info.as_object_mut(), rules.split_first()) {
        info.insert("analytic".to_owned(), first.clone());
        if !more.is_empty() {
            info.insert("related_analytics".to_owned(), more.into());
        }
    }
    let findings = report.timeline.iter().filter(|item| item.kind == "finding");
    let evidences: Vec<Value> = findings.take(EVIDENCES_MAX).map(evidence).collect();
    let mut event = json!({
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": format!("Detection Finding: {activity_name}"),
        // The creation of the finding, not of what it is about.
        "time": ms(of.at.opened_us),
        "start_time": ms(of.at.first_us),
        "end_time": ms(of.at.last_us),
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "message": format!("Incident {}: {}", of.id, of.title),
        "is_alert": activity != 3,
        "metadata": {
            "version": VERSION,
            "profiles": ["incident"],
            "uid": format!("threadline-incident-{}", of.id),
            "product": {
                "name": "Threadline",
                "vendor_name": "Threadline",
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
        "finding_info": info,
        "evidences": evidences,
        "observables": report.entities.iter().map(observable).collect::<Vec<Value>>(),
        "resources": report.blast_radius.services.iter().map(|service| json!({
            "name": service.reached.name,
            "type": "service",
            "data": {"spans": service.reached.spans, "errors": service.reached.errors, "hops": service.hops},
        })).collect::<Vec<Value>>(),
        "unmapped": {
            "group": of.group,
            "route": of.route,
            "team": of.team,
            "operations": report.blast_radius.services,
            "calls": report.blast_radius.calls,
            "notes": report.notes,
        },
    });
    if let Some(event) = event.as_object_mut()
        && !of.assignee.is_empty()
    {
        event.insert("assignee".to_owned(), json!({"name": of.assignee}));
    }
    event
}

/// The rules, each once, in the order in which they found something.
fn analytics(report: &Report) -> Vec<Value> {
    let mut known: Vec<(String, String)> = Vec::new();
    for finding in report.timeline.iter().filter_map(|item| item.finding.as_ref()) {
        // An alert of another system has a name and no id: each stands for the other.
        let or = |one: &'_ str, other: &'_ str| if one.is_empty() { other.to_owned() } else { one.to_owned() };
        let rule = (or(&finding.rule, &finding.rule_id), or(&finding.rule_id, &finding.rule));
        if !rule.0.is_empty() && !known.contains(&rule) {
            known.push(rule);
        }
    }
    let analytic = |(name, uid): (String, String)| {
        // Baselines are statistics, all else is rules (`analytic.type_id`).
        let (type_id, type_name) = if uid.starts_with("baseline.") { (3, "Statistical") } else { (1, "Rule") };
        json!({"name": name, "uid": uid, "type": type_name, "type_id": type_id})
    };
    known.into_iter().map(analytic).collect()
}

/// An entry of `evidences`; `data` is in each, for one of a list of attributes must be.
fn evidence(item: &Item) -> Value {
    let mut evidence = Map::new();
    let queries: Vec<Value> =
        item.queries.iter().map(|query| json!({"table": query.table, "query": query.query})).collect();
    evidence
        .insert("data".to_owned(), json!({"time": item.time, "explanation": item.text, "queries": queries}));
    if let Some(finding) = &item.finding {
        if !finding.id.is_empty() {
            evidence.insert("uid".to_owned(), finding.id.as_str().into());
        }
        if !finding.rule.is_empty() {
            evidence.insert("name".to_owned(), finding.rule.as_str().into());
        }
        let entity = |field: &str| finding.entities.get(field);
        if let Some(ip) =
            ["client.address", "source.address", "network.peer.address"].into_iter().find_map(entity)
            && ip.parse::<std::net::IpAddr>().is_ok()
        {
            evidence.insert("src_endpoint".to_owned(), json!({"ip": ip}));
        }
        if let Some(user) = ["user.id", "enduser.id", "user.name"].into_iter().find_map(entity) {
            evidence.insert("user".to_owned(), json!({"uid": user}));
        }
    }
    Value::Object(evidence)
}

/// An entry of `observables`.
fn observable(entity: &EntityView) -> Value {
    // IP Address, User Name, Other (`observable.type_id`).
    let (type_id, type_name) = match entity.field.as_str() {
        _ if entity.value.parse::<std::net::IpAddr>().is_ok() => (2, "IP Address"),
        "user.name" | "user.id" | "enduser.id" => (4, "User Name"),
        _ => (99, "Other"),
    };
    json!({"name": entity.field, "type_id": type_id, "type": type_name, "value": entity.value})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::blast::{Blast, Reached, ReachedService};
    use super::super::evidence::{FindingView, Query, Summary, Times};
    use super::*;

    /// What the schema asks for, written down from its published source (class `detection_finding`, objects `metadata`,
    /// `product`, `finding_info`, `analytic`, `evidences`, `observable`): path, whether it must be there, allowed values.
    const REQUIRED: &[(&str, &[i64])] = &[
        ("activity_id", &[0, 1, 2, 3, 99]),
        ("category_uid", &[2]),
        ("class_uid", &[2004]),
        ("type_uid", &[200_400, 200_401, 200_402, 200_403, 200_499]),
        ("severity_id", &[0, 1, 2, 3, 4, 5, 6, 99]),
        ("status_id", &[0, 1, 2, 3, 4, 5, 6, 99]),
        ("time", &[]),
        ("metadata.version", &[]),
        ("metadata.product.name", &[]),
        ("metadata.product.vendor_name", &[]),
        ("finding_info.uid", &[]),
        ("finding_info.title", &[]),
        ("finding_info.analytic.type_id", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99]),
    ];
    const EVIDENCE_ONE_OF: &[&str] = &["data", "src_endpoint", "user", "device", "actor"];

    fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
        path.split('.').try_fold(value, |value, key| value.get(key))
    }

    fn check(event: &Value) {
        for (path, allowed) in REQUIRED {
            let value = at(event, path).unwrap_or_else(|| panic!("{path} is missing: {event:#}"));
            match allowed {
                [] => assert!(value.is_i64() || value.as_str().is_some_and(|text| !text.is_empty()), "{path}"),
                allowed => assert!(allowed.contains(&value.as_i64().unwrap()), "{path}: {value}"),
            }
        }
        let number = |path: &str| at(event, path).and_then(Value::as_i64).unwrap();
        assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
        for evidence in event["evidences"].as_array().unwrap() {
            assert!(EVIDENCE_ONE_OF.iter().any(|key| evidence.get(key).is_some()), "{evidence}");
        }
        for observable in event["observables"].as_array().unwrap() {
            assert!(observable["name"].is_string() && observable["type_id"].is_i64(), "{observable}");
        }
        // Times are milliseconds: of this century.
        for path in ["time", "start_time", "finding_info.first_seen_time", "finding_info.last_seen_time"] {
            assert!((946_684_800_000..4_102_444_800_000).contains(&number(path)), "{path}");
        }
    }

    fn report(state: &'static str, severity: &str, findings: usize) -> Report {
        let us = 1_790_000_000_000_000;
        let finding = |index: usize| Item {
            time: crate::rows::time_text(us),
            time_us: us,
            kind: "finding",
            text: "50 failed logins".to_owned(),
            actor: String::new(),
            action: String::new(),
            finding: Some(FindingView {
                id: format!("{index:032x}"),
                seq: 7,
                rule: "Many failed logins".to_owned(),
                rule_id: if index == 0 { "baseline.errors" } else { "r-1" }.to_owned(),
                level: severity.to_owned(),
                over: false,
                entities: [("client.address", "192.0.2.1"), ("user.id", "ann")]
                    .map(|(field, value)| (field.to_owned(), value.to_owned()))
                    .into(),
                trace_ids: vec![],
            }),
            queries: vec![Query { table: "logs", query: "seq=7".to_owned() }],
        };
        let entity = |field: &str, value: &str| EntityView {
            field: field.to_owned(),
            value: value.to_owned(),
            findings: 1,
            first_seen: String::new(),
            last_seen: String::new(),
            query: Query { table: "logs", query: String::new() },
        };
        Report {
            summary: Summary {
                id: 3,
                title: "Many failed logins at shop".to_owned(),
                state,
                severity: severity.to_owned(),
                assignee: if state == "acknowledged" { "ann" } else { "" }.to_owned(),
                services: vec!["shop".to_owned()],
                team: String::new(),
                rules: vec!["Many failed logins".to_owned()],
                route: "root".to_owned(),
                group: BTreeMap::new(),
                opened: crate::rows::time_text(us),
                since: crate::rows::time_text(us),
                first_seen: String::new(),
                last_seen: String::new(),
                snoozed_until: None,
                merged_into: None,
                alerts: 1,
                active: 1,
                findings: findings as u64,
                at: Times { opened_us: us, since_us: us, first_us: us, last_us: us },
            },
            notes: vec![],
            clock: vec![],
            alert_list: vec![],
            timeline: (0..findings).map(finding).collect(),
            timeline_left_out: 0,
            entities: vec![
                entity("client.address", "192.0.2.1"),
                entity("user.id", "ann"),
                entity("operation", "GET /"),
            ],
            entities_cut: false,
            blast_radius: Blast {
                services: vec![ReachedService {
                    reached: Reached { name: "shop".to_owned(), spans: 2, errors: 1 },
                    ..ReachedService::default()
                }],
                ..Blast::default()
            },
            generated: String::new(),
        }
    }

    #[test]
    fn every_state_and_severity_is_a_valid_finding() {
        for (state, activity, status) in
            [("open", 1, 1), ("acknowledged", 2, 2), ("snoozed", 2, 3), ("resolved", 3, 4), ("merged", 3, 5)]
        {
            for severity in super::super::SEVERITIES {
                let event = ocsf(&report(state, severity, 2));
                check(&event);
                assert_eq!(
                    (&event["activity_id"], &event["status_id"]),
                    (&json!(activity), &json!(status)),
                    "{state}"
                );
                assert_eq!(event["evidences"][0]["src_endpoint"]["ip"], "192.0.2.1");
                assert_eq!(event["observables"][0]["type_id"], 2);
                assert_eq!(event["finding_info"]["related_analytics"].as_array().unwrap().len(), 1);
            }
        }
        // Bounded, whatever the incident has.
        let many = ocsf(&report("open", "high", 900));
        assert_eq!(many["evidences"].as_array().unwrap().len(), EVIDENCES_MAX);
    }
}
