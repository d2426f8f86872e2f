//! PagerDuty Events API v2: `POST /v2/enqueue`, at most 512 kB, 202 when it is taken.

use serde_json::{Map, Value, json};
use threadline_detect::incident::Reason;

use super::{Telling, time};
use crate::notify::http::Call;
use crate::notify::text::{cut, cut_bytes, one_line};

/// Where events go, unless the settings name another place (the European region has one).
pub(crate) const URL: &str = "https://events.pagerduty.com/v2/enqueue";

const SUMMARY_CHARS_MAX: usize = 1024;
const FIELD_CHARS_MAX: usize = 255;
/// Bytes of the text among the details; an event has 512 kB at most.
const TEXT_BYTES_MAX: usize = 32 << 10;

pub(super) fn call(url: &str, routing_key: &str, told: &Telling<'_>) -> Call {
    let action = match told.notice.reason {
        Reason::Trigger | Reason::Update | Reason::Repeat | Reason::Escalation => "trigger",
        Reason::Acknowledge => "acknowledge",
        Reason::Resolve => "resolve",
    };
    let mut event = Map::new();
    event.insert("routing_key".to_owned(), json!(routing_key));
    event.insert("event_action".to_owned(), json!(action));
    event.insert("dedup_key".to_owned(), json!(cut(&told.key(), FIELD_CHARS_MAX)));
    // Acknowledging and resolving take the key alone.
    if action == "trigger" {
        event.insert("payload".to_owned(), payload(told));
        event.insert("client".to_owned(), json!("Threadline"));
        if !told.notice.url.is_empty() {
            event.insert("client_url".to_owned(), json!(told.notice.url));
            event.insert("links".to_owned(), json!([{"href": told.notice.url, "text": "Incident"}]));
        }
    }
    Call::json(url, &Value::Object(event))
}

fn payload(told: &Telling<'_>) -> Value {
    let severity = match told.notice.severity.as_str() {
        "critical" => "critical",
        "high" => "error",
        "medium" => "warning",
        _ => "info",
    };
    let mut details = told.details();
    details.insert("text".to_owned(), json!(cut_bytes(&told.text, TEXT_BYTES_MAX)));
    let mut payload = json!({
        "summary": cut(&one_line(&told.title), SUMMARY_CHARS_MAX),
        "source": cut(&one_line(told.service()), FIELD_CHARS_MAX),
        "severity": severity,
        "timestamp": time(told.notice.last_us),
        "group": cut(&told.notice.route, FIELD_CHARS_MAX),
        "custom_details": details,
    });
    for (name, value) in [("component", told.notice.services.first()), ("class", told.notice.rules.first())] {
        if let Some(value) = value {
            payload[name] = json!(cut(value, FIELD_CHARS_MAX));
        }
    }
    payload
}
