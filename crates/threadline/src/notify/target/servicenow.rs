//! ServiceNow, Event Management: `POST /api/global/em/jsonv2` with records of `em_event`.

use serde_json::{Value, json};

use super::{Telling, time};
use crate::notify::http::Call;
use crate::notify::text::{cut, one_line};

const FIELD_CHARS_MAX: usize = 100;
const KEY_CHARS_MAX: usize = 1024;
const DESCRIPTION_CHARS_MAX: usize = 4000;
/// Of `additional_info`, which is JSON in a text.
const INFO_CHARS_MAX: usize = 4000;

pub(super) fn call(url: &str, told: &Telling<'_>) -> Call {
    let notice = told.notice;
    // 1 critical, 2 major, 3 minor, 4 warning, 5 info; 0 clears.
    let severity = match notice.severity.as_str() {
        _ if told.resolves() => "0",
        "critical" => "1",
        "high" => "2",
        "medium" => "3",
        "low" => "4",
        _ => "5",
    };
    let short = |text: &str| cut(&one_line(text), FIELD_CHARS_MAX);
    let kind = notice.rules.first().map_or("incident", |rule| rule);
    let description = format!("{}\n{}", one_line(&told.title), told.text);
    let record = json!({
        "source": "Threadline",
        "event_class": short(&notice.hub),
        "node": short(told.service()),
        "type": short(kind),
        "resource": short(&notice.route),
        "severity": severity,
        "message_key": cut(&told.key(), KEY_CHARS_MAX),
        "description": cut(&description, DESCRIPTION_CHARS_MAX),
        "time_of_event": date(notice.last_us),
        "resolution_state": if told.resolves() { "Closing" } else { "New" },
        "additional_info": info(told),
    });
    Call::json(format!("{}/api/global/em/jsonv2", url.trim_end_matches('/')), &json!({"records": [record]}))
}

/// What is known, as JSON; what is longest is left out where it would be too long.
fn info(told: &Telling<'_>) -> String {
    let mut details = told.details();
    loop {
        let text = Value::Object(details.clone()).to_string();
        if text.chars().count() <= INFO_CHARS_MAX {
            return text;
        }
        let length = |value: &Value| value.to_string().len();
        let longest = details.iter().max_by_key(|(_, value)| length(value)).map(|(name, _)| name.clone());
        let Some(longest) = longest else { return text };
        details.remove(&longest);
    }
}

/// `yyyy-MM-dd HH:mm:ss`, UTC.
fn date(us: i64) -> String {
    let text = time(us);
    text.get(..19).unwrap_or_default().replace('T', " ")
}
