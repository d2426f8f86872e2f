//! Schemas of incidents and silences.

use serde_json::{Map, Value, json};

use super::super::openapi::{int, list, object, reference, text};

fn members() -> Map<String, Value> {
    let members = json!({
        "id": int("Number, from 1."),
        "title": text("One line that says what it is."),
        "state": {"enum": ["open", "acknowledged", "snoozed", "resolved", "merged"]},
        "severity": {"type": "string", "description": "Of its worst alert: critical, high, medium, low, informational; empty when none says."},
        "assignee": text("Who has it; empty: nobody."),
        "services": list(text("Service.")),
        "team": text("Team of its services (docs/alerts.md); may be empty."),
        "rules": list(text("Title of a rule.")),
        "route": text("Name of its route."),
        "group": labels("Labels that make its alerts one incident."),
        "opened": text("When it was opened, RFC 3339."),
        "since": text("Since when it is in its state."),
        "first_seen": text("Event time of its first finding."),
        "last_seen": text("Event time of its last finding."),
        "snoozed_until": text("End of the snooze."),
        "merged_into": int("The incident that has its alerts now."),
        "alerts": int("Alerts that are told apart by their labels."),
        "active": int("Those of them that are not over."),
        "findings": int("Findings."),
    });
    members.as_object().cloned().unwrap_or_default()
}

const NEEDED: &[&str] =
    &["id", "title", "state", "severity", "assignee", "opened", "since", "first_seen", "last_seen", "findings"];

fn labels(doc: &str) -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}, "description": doc})
}

/// An incident in one line.
pub(crate) fn incident() -> Value {
    object(NEEDED, members().into())
}

/// Many.
pub(crate) fn incidents() -> Value {
    object(
        &["incidents", "total", "problems"],
        json!({
            "incidents": list(reference("Incident")),
            "total": int("Incidents that fit, on all pages."),
            "next": {"type": ["integer", "null"], "description": "`before` of the next page; null on the last."},
            "problems": list(text("What is wrong with keeping incidents, or with the alerts file.")),
        }),
    )
}

/// A search.
pub(crate) fn query() -> Value {
    object(
        &["table", "query"],
        json!({"table": {"enum": ["logs", "spans"]}, "query": text("The search (docs/search.md).")}),
    )
}

/// An incident with its evidence.
pub(crate) fn report() -> Value {
    let spans = || json!({"name": text("Name."), "spans": int("Spans."), "errors": int("Those that failed.")});
    let mut service = spans();
    if let Some(service) = service.as_object_mut() {
        service.insert("operations".to_owned(), list(object(&["name", "spans", "errors"], spans())));
        let hops = "Calls between services from the offender's spans down to it, at least; null: it is in the traces, and not below.";
        service.insert("hops".to_owned(), json!({"type": ["integer", "null"], "description": hops}));
        service.insert("first_seen".to_owned(), text("Start of its first span, RFC 3339."));
        service.insert("last_seen".to_owned(), text("End of its last span, RFC 3339."));
    }
    let more = json!({
        "notes": list(object(&["time", "author", "text"], json!({
            "time": text("RFC 3339."), "author": text("Who."), "text": text("What."),
        }))),
        "clock": list(object(&["state", "seconds"], json!({
            "state": text("State."), "seconds": int("How long it was in it."),
        }))),
        "alert_list": list(object(&["labels", "count"], json!({
            "labels": labels("Labels."),
            "first_seen": text("RFC 3339."),
            "last_seen": text("RFC 3339."),
            "count": int("How often it came."),
            "over": {"type": "boolean", "description": "It is over."},
        }))),
        "timeline": list(object(&["time", "kind", "text"], json!({
            "time": text("RFC 3339."),
            "kind": {
                "enum": ["finding", "transition", "record", "span", "trace"],
                "description": "A finding, a change, or what findings rest on: a log record, a span, a trace.",
            },
            "text": text("In words."),
            "actor": text("Who, of a transition."),
            "action": text("What, of a transition."),
            "finding": {"type": "object", "description": "Id, seq, rule, level, entities and trace ids of a finding."},
            "queries": list(reference("IncidentQuery")),
        }))),
        "timeline_left_out": int("Entries beyond the bound of a timeline."),
        "entities": list(object(&["field", "value", "findings", "query"], json!({
            "field": text("What it is, such as `client.address`."),
            "value": text("Which."),
            "findings": int("Findings of the timeline that name it, or rest on a record that has it."),
            "first_seen": text("RFC 3339."),
            "last_seen": text("RFC 3339."),
            "query": reference("IncidentQuery"),
        }))),
        "entities_cut": {"type": "boolean", "description": "A bound was hit: there may be more entities."},
        "blast_radius": object(&["traces", "traces_read", "spans", "cut", "services", "calls"], json!({
            "traces": int("Traces that findings name, or their evidence is part of."),
            "traces_read": int("Those of them that were looked at: at most 100."),
            "spans": int("Spans of these: at most 10,000."),
            "cut": {"type": "boolean", "description": "A bound was hit: there may be more."},
            "services": list(object(&["name", "spans", "errors", "operations"], service)),
            "calls": list(object(&["caller", "callee", "calls", "errors"], json!({
                "caller": text("Service."),
                "callee": text("Service that it called."),
                "calls": int("How often: spans with a parent of the caller."),
                "errors": int("Those that failed."),
            }))),
        })),
        "generated": text("When this was written, RFC 3339."),
    });
    let mut all = members();
    all.extend(more.as_object().cloned().unwrap_or_default());
    object(NEEDED, all.into())
}

/// Bodies of requests.
pub(crate) fn assign() -> Value {
    object(&["to"], json!({"to": text("Who has it from now on; empty: nobody.")}))
}

pub(crate) fn note() -> Value {
    object(&["text"], json!({"text": text("The note, at most 16 KiB.")}))
}

pub(crate) fn snooze() -> Value {
    object(&[], json!({"for": text("How long, such as `2h`."), "until": text("Or until when.")}))
}

pub(crate) fn merge() -> Value {
    object(&["into"], json!({"into": int("Number of the incident that has its alerts from now on.")}))
}

fn matchers() -> Value {
    list(text(
        "Condition on a label as Alertmanager writes it: `service=\"cart\"`, `severity=~\"low|medium\"`.",
    ))
}

pub(crate) fn silence_request() -> Value {
    object(
        &["matchers", "comment"],
        json!({
            "matchers": matchers(),
            "from": text("From when on; now when absent."),
            "for": text("How long, such as `2h`."),
            "until": text("Or until when."),
            "comment": text("Why."),
        }),
    )
}

pub(crate) fn preview_request() -> Value {
    object(&["matchers"], json!({"matchers": matchers()}))
}

/// A silence.
pub(crate) fn silence() -> Value {
    object(
        &["id"],
        json!({
            "id": int("Number."),
            "matchers": matchers(),
            "from": text("From when on, RFC 3339."),
            "until": text("Until when."),
            "author": text("Who made it."),
            "comment": text("Why."),
            "active": {"type": "boolean", "description": "It has begun."},
        }),
    )
}

pub(crate) fn silences() -> Value {
    object(&["silences"], json!({"silences": list(reference("Silence"))}))
}

pub(crate) fn preview() -> Value {
    object(
        &["incidents", "muted_whole"],
        json!({
            "incidents": list(object(&["id", "alerts_muted", "alerts"], json!({
                "id": int("Number of an incident that has alerts which would be muted."),
                "alerts_muted": int("How many."),
                "alerts": int("Of how many."),
            }))),
            "muted_whole": int("Live incidents all of whose alerts would be muted."),
        }),
    )
}

pub(crate) fn ended() -> Value {
    object(&["ended"], json!({"ended": int("Number of the silence.")}))
}
