//! Prometheus Alertmanager, API v2: `POST /api/v2/alerts`, an array of alerts.
//!
//! An alert is known by its labels, and is over when its `endsAt` has passed. While an incident is open it is sent again and
//! again with an end that lies ahead, as Prometheus does, so that it ends at the Alertmanager, too, when the hub is gone. When
//! labels change (a worse severity), the alert with the labels of before is ended in the same request.

use serde_json::{Map, Value, json};

use super::{Telling, time};
use crate::notify::Kind;
use crate::notify::Notice;
use crate::notify::http::Call;
use crate::notify::text::cut;

/// Alerts of a request at most, when what is open is said again.
pub(crate) const BATCH_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 1024;

/// An incident that the Alertmanager is told.
#[derive(Clone, Debug)]
pub(crate) struct Open<'a> {
    pub(crate) telling: Telling<'a>,
    /// How long after being told it is over unless it is told again, µs.
    pub(crate) hold_us: i64,
}

pub(super) fn call(url: &str, open: &[Open<'_>]) -> Call {
    let mut alerts = Vec::new();
    for Open { telling, hold_us } in open {
        let now = labels(telling.notice);
        if let Some(before) = telling.before.map(labels)
            && before != now
        {
            alerts.push(alert(telling, &before, telling.now_us));
        }
        let ends_us =
            if telling.resolves() { telling.notice.at_us } else { telling.now_us.saturating_add(*hold_us) };
        alerts.push(alert(telling, &now, ends_us));
    }
    Call::json(format!("{}/api/v2/alerts", url.trim_end_matches('/')), &Value::Array(alerts))
}

fn alert(told: &Telling<'_>, labels: &Map<String, Value>, ends_us: i64) -> Value {
    let starts_us = told.notice.first_us.min(ends_us);
    let mut alert = json!({
        "labels": labels,
        "annotations": annotations(told),
        "startsAt": time(starts_us),
        "endsAt": time(ends_us),
    });
    if !told.notice.url.is_empty() {
        alert["generatorURL"] = json!(told.notice.url);
    }
    alert
}

/// What says what it is without being part of what it is.
pub(super) fn annotations(told: &Telling<'_>) -> Map<String, Value> {
    let mut annotations = Map::new();
    let entities: Vec<String> =
        told.notice.entities.iter().map(|(field, value)| format!("{field}={value}")).collect();
    for (name, value) in [
        ("summary", told.title.clone()),
        ("description", told.text.clone()),
        ("state", told.notice.state.clone()),
        ("assignee", told.notice.assignee.clone()),
        ("services", told.notice.services.join(", ")),
        ("rules", told.notice.rules.join("; ")),
        ("entities", entities.join(", ")),
        ("key", told.key()),
    ] {
        if !value.is_empty() {
            annotations.insert(name.to_owned(), json!(value));
        }
    }
    annotations
}

/// The labels of an incident: none of them is empty, all have names that every Alertmanager takes.
pub(super) fn labels(notice: &Notice) -> Map<String, Value> {
    let mut labels = Map::new();
    for (name, value) in &notice.group {
        if !value.is_empty() {
            labels.insert(label_name(name), json!(cut(value, VALUE_CHARS_MAX)));
        }
    }
    let name = match notice.kind {
        Kind::Incident => notice.group.get("rule").or(notice.rules.first()).unwrap_or(&notice.title).as_str(),
        Kind::Test => "ThreadlineTest",
        Kind::Watchdog => "Watchdog",
    };
    for (key, value) in [
        ("alertname", if name.is_empty() { "ThreadlineIncident" } else { name }),
        ("severity", &notice.severity),
        ("hub", &notice.hub),
        ("route", &notice.route),
    ] {
        if !value.is_empty() {
            labels.insert(key.to_owned(), json!(cut(value, VALUE_CHARS_MAX)));
        }
    }
    labels.insert("incident".to_owned(), json!(notice.incident.to_string()));
    labels
}

fn label_name(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        out.insert(0, '_');
    }
    out
}
