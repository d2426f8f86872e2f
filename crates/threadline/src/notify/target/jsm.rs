//! Jira Service Management, integration events: alerts are created, noted, acknowledged and closed by alias. 202 when taken.

use serde_json::{Map, Value, json};
use threadline_detect::incident::Reason;

use super::Telling;
use crate::notify::http::Call;
use crate::notify::text::{cut, one_line};

/// Where events go.
pub(crate) const URL: &str = "https://api.atlassian.com/jsm/ops/integration/v2/alerts";

const MESSAGE_CHARS_MAX: usize = 130;
const ALIAS_CHARS_MAX: usize = 512;
const DESCRIPTION_CHARS_MAX: usize = 15_000;
const NOTE_CHARS_MAX: usize = 25_000;
const ENTITY_CHARS_MAX: usize = 512;
const SOURCE_CHARS_MAX: usize = 100;
const TAGS_MAX: usize = 20;
const TAG_CHARS_MAX: usize = 50;
/// Of all names and values of the details together.
const DETAILS_CHARS_MAX: usize = 8000;

pub(super) fn call(url: &str, api_key: &str, told: &Telling<'_>) -> Call {
    let url = url.trim_end_matches('/');
    // Nothing in it needs to be escaped: hex, digits and the receiver's name.
    let alias = cut(&told.key(), ALIAS_CHARS_MAX);
    let source = cut(&one_line(&told.notice.hub), SOURCE_CHARS_MAX);
    let note = |action: &str| {
        let text = format!("{}\n{}", told.title, told.text);
        let body = json!({"source": source, "user": "Threadline", "note": cut(&text, NOTE_CHARS_MAX)});
        Call::json(format!("{url}/{alias}/{action}?identifierType=alias"), &body)
    };
    let call = match told.notice.reason {
        Reason::Trigger | Reason::Repeat | Reason::Escalation => {
            Call::json(url, &create(told, &alias, &source))
        }
        Reason::Update => note("notes"),
        Reason::Acknowledge => note("acknowledge"),
        Reason::Resolve => note("close"),
    };
    call.header("authorization", format!("GenieKey {api_key}"))
}

fn create(told: &Telling<'_>, alias: &str, source: &str) -> Value {
    let priority = match told.notice.severity.as_str() {
        "critical" => "P1",
        "high" => "P2",
        "medium" => "P3",
        "low" => "P4",
        _ => "P5",
    };
    let mut left = DETAILS_CHARS_MAX;
    let mut details = Map::new();
    for (name, value) in told.details() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let used = name.chars().count() + text.chars().count();
        if name != "summary" && used <= left {
            left -= used;
            details.insert(name, json!(text));
        }
    }
    let tags: Vec<String> = std::iter::once("threadline")
        .chain(told.notice.services.iter().map(String::as_str))
        .take(TAGS_MAX)
        .map(|tag| cut(&one_line(tag), TAG_CHARS_MAX))
        .collect();
    let title = one_line(&told.title);
    json!({
        "message": cut(if title.trim().is_empty() { "Incident" } else { &title }, MESSAGE_CHARS_MAX),
        "alias": alias,
        "description": cut(&told.text, DESCRIPTION_CHARS_MAX),
        "tags": tags,
        "details": details,
        "entity": cut(&one_line(told.service()), ENTITY_CHARS_MAX),
        "source": source,
        "priority": priority,
    })
}
