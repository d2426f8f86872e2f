//! Microsoft Teams, Workflows: a message with one Adaptive Card, at most 28 kB.

use serde_json::{Value, json};

use super::Telling;
use crate::notify::http::Call;
use crate::notify::text::{cut, one_line};

/// Bytes of a message; Teams takes 28 kB with what the workflow adds.
const MESSAGE_BYTES_MAX: usize = 24 << 10;

pub(super) fn call(url: &str, told: &Telling<'_>) -> Call {
    let mut text_chars = 8000;
    loop {
        let call = Call::json(url, &message(told, text_chars));
        if call.body.len() <= MESSAGE_BYTES_MAX || text_chars == 0 {
            return call;
        }
        text_chars /= 2;
    }
}

fn message(told: &Telling<'_>, text_chars: usize) -> Value {
    let notice = told.notice;
    let color = match notice.severity.as_str() {
        _ if told.resolves() => "Good",
        "critical" | "high" => "Attention",
        "medium" => "Warning",
        _ => "Default",
    };
    let title = one_line(&told.title);
    let mut body = vec![json!({
        "type": "TextBlock", "text": escaped(&cut(&title, 500)), "weight": "Bolder", "size": "Medium",
        "color": color, "wrap": true,
    })];
    if !told.text.trim().is_empty() && text_chars > 0 {
        // A line break of Markdown needs two.
        let text = escaped(&cut(&told.text, text_chars)).replace('\n', "\n\n");
        body.push(json!({"type": "TextBlock", "text": text, "wrap": true}));
    }
    let facts: Vec<Value> = [
        ("Severity", notice.severity.clone()),
        ("State", notice.state.clone()),
        ("Services", notice.services.join(", ")),
        ("Route", notice.route.clone()),
        ("Key", format!("{}, message {}", told.key(), notice.number)),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| json!({"title": name, "value": escaped(&cut(&one_line(&value), 500))}))
    .collect();
    body.push(json!({"type": "FactSet", "facts": facts}));
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    });
    if !notice.url.is_empty() {
        card["actions"] = json!([{"type": "Action.OpenUrl", "title": "Open incident", "url": notice.url}]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

/// Text in which nothing is Markdown: what attackers wrote must not become a link.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '#' | '!' | '<' | '>' | '~' | '|') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
