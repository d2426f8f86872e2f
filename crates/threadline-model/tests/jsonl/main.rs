//! JSON lines at the crate's boundary: cases, and agreement with a second implementation.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod agree;
mod cases;
mod oracle;

use threadline_model::jsonl::{Parsed, Record};

/// A record as people read it.
fn show(parsed: &Parsed<'_>) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: String| {
        if !matches!(value.as_str(), "" | "0" | "/0" | "None" | "Empty") {
            out.push_str(&format!("{name}={value} "));
        }
    };
    for (key, value) in parsed.resource.attributes {
        put(&format!("resource.{key}"), format!("{value:?}"));
    }
    put("scope", parsed.scope.name.to_owned());
    let attributes = match &parsed.record {
        Record::Log(log) => {
            put("LOG", "log".to_owned());
            put("time", (log.time_unix_nano as i64).to_string());
            put("observed", log.observed_time_unix_nano.to_string());
            put("severity", format!("{}/{}", log.severity_text, log.severity_number));
            put("event", log.event_name.to_owned());
            put("body", format!("{:?}", log.body));
            put("trace", log.trace_id.map_or_else(String::new, |id| id.to_string()));
            put("span", log.span_id.map_or_else(String::new, |id| id.to_string()));
            put("flags", log.flags.to_string());
            log.attributes
        }
        Record::Span(span) => {
            put("SPAN", span.name.to_owned());
            put("start", span.start_time_unix_nano.to_string());
            put("end", span.end_time_unix_nano.to_string());
            put("kind", span.kind.to_string());
            put("status", span.status_code.to_string());
            put("message", span.status_message.to_owned());
            put("trace", span.trace_id.to_string());
            put("span", span.span_id.to_string());
            put("parent", span.parent_span_id.map_or_else(String::new, |id| id.to_string()));
            span.attributes
        }
    };
    for (key, value) in attributes {
        put(key, format!("{value:?}"));
    }
    if parsed.time_unread {
        put("TIME", "unread".to_owned());
    }
    out.trim_end().replace("Str(\"", "(\"")
}
