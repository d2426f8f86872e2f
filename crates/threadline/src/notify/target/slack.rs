//! Slack, incoming webhook with blocks. It knows no keys: what it took without our knowing comes twice, and the number of the
//! message in it says so.

use serde_json::{Value, json};

use super::Telling;
use crate::notify::http::Call;
use crate::notify::text::{cut, one_line};

const HEADER_CHARS_MAX: usize = 150;
const TEXT_CHARS_MAX: usize = 3000;
const FIELD_CHARS_MAX: usize = 2000;
const URL_CHARS_MAX: usize = 3000;

pub(super) fn call(url: &str, told: &Telling<'_>) -> Call {
    let notice = told.notice;
    let title = one_line(&told.title);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(non_empty(&title), HEADER_CHARS_MAX), "emoji": false},
    })];
    if !told.text.trim().is_empty() {
        blocks.push(json!({
            "type": "section",
            "text": {"type": "mrkdwn", "text": escaped(&told.text, TEXT_CHARS_MAX), "verbatim": true},
        }));
    }
    let field = |name: &str, value: &str| -> Option<Value> {
        let text = format!("*{name}*\n{}", escaped(&one_line(value), FIELD_CHARS_MAX - 40));
        (!value.is_empty()).then(|| json!({"type": "mrkdwn", "text": text, "verbatim": true}))
    };
    let fields: Vec<Value> = [
        field("Severity", &notice.severity),
        field("State", &notice.state),
        field("Services", &notice.services.join(", ")),
        field("Route", &notice.route),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !fields.is_empty() {
        blocks.push(json!({"type": "section", "fields": fields}));
    }
    if !notice.url.is_empty() && notice.url.chars().count() <= URL_CHARS_MAX {
        blocks.push(json!({
            "type": "actions",
            "elements": [{
                "type": "button",
                "text": {"type": "plain_text", "text": "Open incident"},
                "url": notice.url,
            }],
        }));
    }
    let from = format!("{}, message {}", told.key(), notice.number);
    blocks.push(json!({
        "type": "context",
        "elements": [{"type": "plain_text", "text": cut(&from, TEXT_CHARS_MAX)}],
    }));
    Call::json(url, &json!({"text": escaped(&title, TEXT_CHARS_MAX), "blocks": blocks}))
}

fn non_empty(text: &str) -> &str {
    if text.trim().is_empty() { "Incident" } else { text }
}

/// Text in which nothing is a mention, a link or a channel, within a limit that counts what escaping adds.
fn escaped(text: &str, chars_max: usize) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut keep = chars_max;
    loop {
        let out = escape(&cut(text, keep));
        let over = out.chars().count().saturating_sub(chars_max);
        if over == 0 {
            return out;
        }
        // Each character becomes five at most.
        keep = keep.saturating_sub(over.div_ceil(5).max(1));
    }
}
