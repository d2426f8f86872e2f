//! Findings: broken rules in words. Only for people; the host keeps bits.

use std::fmt;

use threadline_model::value::Value;

use crate::check::{About, Sink};
use crate::rules::Rule;
use crate::secrets;

/// Findings of a record at most.
const FINDINGS_MAX: usize = 64;
/// Characters of a text that is shown.
const SHOWN_MAX: usize = 80;

/// One broken rule of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The field or attribute.
    pub at: String,
    /// What is there, without secrets and on one line; empty when that is nothing.
    pub found: String,
    /// What was expected.
    pub expected: String,
    /// How to fix it.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.at)?;
        if !self.found.is_empty() {
            write!(f, " is {}", self.found)?;
        }
        write!(f, "; expected {}; fix: {}", self.expected, self.fix)
    }
}

/// A text that may be shown: one line, without secrets, not long.
pub fn safe(text: &str) -> String {
    let masked = secrets::redact(text, false, &|_| false);
    let text = masked.as_ref().map_or(text, |(text, _)| text.as_str());
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count >= SHOWN_MAX {
            out.push('…');
            break;
        }
        let direction =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || direction || matches!(c, '\u{2028}' | '\u{2029}') {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Keeps words.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) findings: Vec<Finding>,
    /// Bits of the rules that are wanted.
    pub(crate) wanted: u64,
}

impl Sink for Words {
    fn hit(&mut self, rule: Rule, about: &About<'_>) {
        if self.wanted & rule.bit() != 0 && self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding(rule, about));
        }
    }
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Str(text) => format!("\"{}\"", safe(text)),
        other => {
            let mut json = String::new();
            other.write_json(&mut json);
            safe(&json)
        }
    }
}

fn type_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Empty => "nothing",
        Value::Str(_) => "a string",
        Value::Bool(_) => "a boolean",
        Value::Int(_) => "an int",
        Value::Double(_) => "a double",
        Value::Bytes(_) => "bytes",
        Value::Json(json) if json.starts_with('[') => "an array",
        Value::Json(_) => "a map",
    }
}

fn finding(rule: Rule, about: &About<'_>) -> Finding {
    let (at, found, expected, fix) = match about {
        About::Event(name) if rule == Rule::TraceMissing => (
            "trace_id".to_owned(),
            "missing".to_owned(),
            format!("a trace id, because {} is part of a request", safe(name)),
            "log within the request's span, or pass its context to the logger".to_owned(),
        ),
        About::Event(name) => (
            "event_name".to_owned(),
            format!("\"{}\"", safe(name)),
            "the name of an event in the contract".to_owned(),
            "use one of `threadline contract list`, or define the event in your contract folder".to_owned(),
        ),
        About::Missing(key, level) => (
            (*key).to_owned(),
            "missing".to_owned(),
            format!("a value, for it is {level}"),
            match rule {
                Rule::ResourceMissing => {
                    format!("set {key} in OTEL_RESOURCE_ATTRIBUTES or in the SDK's resource")
                }
                _ => format!("add {key} to the record"),
            },
        ),
        About::NoneOf(event, slots) => {
            let keys: Vec<&str> = event
                .uses
                .iter()
                .enumerate()
                .filter(|(at, _)| slots >> at & 1 == 1)
                .map(|(_, used)| used.key.as_str())
                .collect();
            let keys = keys.join(" or ");
            (keys.clone(), "missing".to_owned(), "one of them".to_owned(), format!("add {keys}"))
        }
        About::Attribute(key, value, attr) => match (rule, attr) {
            (Rule::AttributeType, Some(attr)) => (
                safe(key),
                type_of(value).to_owned(),
                attr.base.name().to_owned(),
                format!("send {} as {}", safe(key), attr.base.name()),
            ),
            (Rule::AttributeDeprecated, _) => (
                safe(key),
                "deprecated".to_owned(),
                "an attribute that is not".to_owned(),
                format!("see `threadline contract show {}`", safe(key)),
            ),
            _ => (
                safe(key),
                "unknown".to_owned(),
                "an attribute of the contract".to_owned(),
                "define it in your contract folder, or correct its name".to_owned(),
            ),
        },
        About::Value(key, value, list) => {
            let list: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
            (safe(key), shown(value), format!("one of {}", list.join(", ")), "send one of these".to_owned())
        }
        About::Severity(number, range) => (
            "severity_number".to_owned(),
            number.to_string(),
            format!("{} to {}", range.min, range.max),
            "log it at that level".to_owned(),
        ),
        About::Limit(field, is, max) => {
            (safe(field), is.to_string(), format!("at most {max}"), "shorten it, or send less of it".to_owned())
        }
        About::Field(field) => (
            safe(field),
            String::new(),
            match rule {
                Rule::TextControl => "a text without control characters".to_owned(),
                _ => "no secret".to_owned(),
            },
            match rule {
                Rule::TextControl => "escape what comes from outside before it is logged".to_owned(),
                _ => "do not log it; log an identifier or a keyed hash in its place".to_owned(),
            },
        ),
    };
    Finding { rule, at, found, expected, fix }
}
