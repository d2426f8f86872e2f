//! `/openapi.json`: OpenAPI 3.1 of every operation, made from their declarations. The golden copy is
//! `docs/openapi.json`.

use serde_json::{Map, Value, json};

use crate::door::roles::{self, Port};

use super::operations::{Kind, OPERATIONS, Operation, Parameter};
use super::{incidents, schemas};

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for declared in OPERATIONS {
        let path = paths.entry(declared.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(declared.method.as_str().to_ascii_lowercase(), operation(declared));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Threadline",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "One host for logs and traces. Errors are problem details (RFC 9457). Parameters that an \
                            operation does not name are refused.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:7311"}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `threadline token create`. A hub that has none asks for none \
                                    (docs/security.md).",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "threadline_session",
                    "description": "A session that `POST /api/v1/session` opened. Methods other than GET need the \
                                    header `X-Threadline-CSRF: 1`.",
                },
            },
        },
    })
}

fn operation(operation: &Operation) -> Value {
    let mut responses = Map::new();
    for reply in operation.replies {
        let schema = reference(reply.schema);
        let content = json!({reply.content_type: {"schema": schema}});
        let response = json!({"description": reply.doc, "content": content});
        responses.insert(reply.status.to_string(), response);
    }
    let needs = roles::find(Port::Api, operation.method.as_str(), operation.path).needs;
    let everywhere: &[u16] = if needs.is_empty() { &[400, 403, 405] } else { &[400, 401, 403, 405, 429] };
    for status in operation.problems.iter().chain(everywhere) {
        responses.entry(status.to_string()).or_insert_with(|| problem(*status));
    }
    let has_path = operation.parameters.iter().any(|parameter| parameter.in_path);
    if has_path {
        responses.entry("404").or_insert_with(|| problem(404));
    }
    let mut value = json!({
        "operationId": operation.name,
        "description": operation.doc,
        "parameters": operation.parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses,
        // A token, or a session of one, with any of these roles, or with `admin`.
        "security": match needs {
            [] => json!([]),
            _ => {
                let roles: Vec<&str> = needs.iter().map(|role| role.name()).collect();
                json!([{"token": roles}, {"session": roles}])
            }
        },
    });
    if let (false, Some(object)) = (operation.bodies.is_empty(), value.as_object_mut()) {
        let content: Map<String, Value> = operation
            .bodies
            .iter()
            .map(|(content_type, schema)| ((*content_type).to_owned(), json!({"schema": reference(schema)})))
            .collect();
        object.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    value
}

pub(super) fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn problem(status: u16) -> Value {
    let doc = match status {
        400 => "A parameter, the search or the body is wrong.",
        401 => "No token was shown, or none that is good.",
        403 => "The token lacks the role, or the Host header names another host.",
        404 => "Nothing is there.",
        409 => "It is in a state in which that cannot be done.",
        405 => "The path has other methods; `Allow` names them.",
        413 => "The body is too large.",
        415 => "The body's content type is not taken.",
        422 => "The query needs more memory than it may have.",
        429 => "Too many failed attempts from this address; `Retry-After` says when to come again.",
        503 => "Too many queries, or the hub is stopping; `Retry-After` says when to ask again.",
        504 => "The query took too long.",
        _ => "The hub failed.",
    };
    json!({"description": doc, "content": {"application/problem+json": {"schema": reference("Problem")}}})
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Time => json!({
            "type": "string",
            "description": "RFC 3339, Unix seconds (or ms, µs, ns), `now`, `-1h`, `now-30m`.",
            "examples": ["2026-01-02T03:04:05Z", "1767323045", "-1h"],
        }),
        Kind::Duration => json!({"type": "string", "examples": ["250ms", "90s", "1h30m", "7d"]}),
        Kind::Flag => json!({"type": "string", "enum": ["0", "1", "false", "true"]}),
        Kind::Sequence => json!({"type": "integer", "format": "int64", "minimum": 0}),
        Kind::Choice(words) => json!({"type": "string", "enum": words}),
        Kind::Integer { min, max, default } => {
            json!({"type": "integer", "minimum": min, "maximum": max, "default": default})
        }
    };
    json!({
        "name": parameter.name,
        "in": if parameter.in_path { "path" } else { "query" },
        "required": parameter.required,
        "description": parameter.doc,
        "schema": schema,
    })
}

pub(super) fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

pub(super) fn text(doc: &str) -> Value {
    json!({"type": "string", "description": doc})
}

pub(super) fn int(doc: &str) -> Value {
    json!({"type": "integer", "format": "int64", "description": doc})
}

pub(super) fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn schemas() -> Value {
    let count = int("A count.");
    let mut all = json!({
        "Any": {"type": "object"},
        "Text": {"type": "string"},
        "Events": {"type": "string", "description": "Server-sent events."},
        "Row": row(),
        "SqlRow": {"type": "object", "description": "Columns of the statement; nulls are left out; bytes as hex."},
        "SqlRequest": object(&["query"], json!({
            "query": text("The statement."),
            "from": text("Earliest event time, as the parameter of other operations."),
            "to": text("Latest event time, exclusive."),
            "since": text("The same as from=now-…."),
            "quarantined": {"type": "boolean", "default": false, "description": "With records in quarantine."},
        })),
        "Count": object(&["count"], json!({"count": count})),
        "Red": object(&["start", "start_us", "interval_us", "buckets", "services"], json!({
            "start": text("Start of the first bucket, RFC 3339."),
            "start_us": int("The same in µs since the Unix epoch."),
            "interval_us": int("Width of a bucket, µs."),
            "buckets": count,
            "services": list(object(&["service", "bucket", "count", "errors", "p50_ns", "p95_ns", "p99_ns"], json!({
                "service": {"type": ["string", "null"], "description": "The service; null for spans without one."},
                "bucket": list(int("Number of a bucket that has spans, ascending; the other lists go along with it.")),
                "count": list(int("Spans.")),
                "errors": list(int("Spans that failed.")),
                "p50_ns": list(int("Median duration, ns; at most 1 % off, as the others.")),
                "p95_ns": list(int("95th percentile, ns.")),
                "p99_ns": list(int("99th percentile, ns.")),
            }))),
        })),
        "Histogram": object(&["start", "start_us", "interval_us", "buckets", "total", "series"], json!({
            "start": text("Start of the first bucket, RFC 3339."),
            "start_us": int("The same in µs since the Unix epoch."),
            "interval_us": int("Width of a bucket, µs."),
            "buckets": count,
            "total": int("Rows counted."),
            "series": list(object(&["value", "counts"], json!({
                "value": {"type": ["string", "null"], "description": "Value of `by`; null for rows without one."},
                "other": {"type": "boolean", "description": "The sum of further values."},
                "counts": list(count.clone()),
            }))),
        })),
        "Fields": object(&["fields"], json!({
            "fields": list(object(&["name", "type", "rows"], json!({
                "name": text("As one searches by it."),
                "type": {"enum": ["string", "int", "double", "bool", "time", "id", "mixed"]},
                "rows": int("Rows that have it."),
            }))),
        })),
        "FieldValues": object(&["name", "values"], json!({
            "name": text("The field."),
            "values": list(object(&["value", "rows"], json!({"value": text("A value."), "rows": count}))),
        })),
        "Moment": schemas::moment(),
        "Traces": schemas::traces(),
        "Trace": schemas::trace(),
        "TraceSpan": schemas::trace_span(),
        "TraceLog": schemas::trace_log(),
        "Requests": schemas::requests(),
        "Services": schemas::services(),
        "Contract": schemas::contract(),
        "ContractUse": schemas::contract_use(),
        "SeverityRange": schemas::severity_range(),
        "ContractScore": schemas::contract_score(),
        "Stats": schemas::stats(),
        "TableStats": schemas::table_stats(),
        "EraseRequest": object(&["table", "query", "reason", "who"], json!({
            "table": {"enum": ["logs", "spans"]},
            "query": text("The search whose rows are deleted; must not be empty."),
            "reason": text("Why; recorded."),
            "who": text("Who asked for it; recorded."),
        })),
        "Erasure": object(&["rows", "files"], json!({
            "rows": int("Rows deleted."),
            "files": int("Files rewritten or removed."),
        })),
        "Health": object(&["status", "ingest"], json!({
            "status": {"enum": ["ok", "unwell"]},
            "ingest": {"enum": ["accepting", "refusing", "failed", "stopping"]},
            "reason": {"type": ["string", "null"], "description": "Why records are not taken."},
            "maintenance_error": {"type": ["string", "null"], "description": "Last error of sealing, compaction or retention."},
            "disk_free_bytes": count,
            "memory_bytes": int("Unsealed rows and waiting appends."),
            "unsealed_age_s": {"type": "number"},
            "requests_in_flight_bytes": count,
            "requests_in_flight_bytes_max": count,
            "version": text("Version of the hub."),
        })),
        "Problem": object(&["type", "title", "status", "detail"], json!({
            "type": text("A URN, `urn:threadline:problem:…`."),
            "title": text("The kind of problem."),
            "status": {"type": "integer"},
            "detail": text("What is wrong and what to do."),
            "field": text("The parameter or member of the body that is wrong."),
            "at": int("Where the search is wrong: byte offset of the first wrong character."),
            "len": int("How many bytes are wrong."),
        })),
    });
    let more = [
        ("SessionRequest", schemas::session_request()),
        ("Session", schemas::session()),
        ("SessionClosed", schemas::session_closed()),
        ("Rules", schemas::rules()),
        ("BacktestRequest", schemas::backtest_request()),
        ("Backtest", schemas::backtest()),
        ("Detection", schemas::detection()),
        ("Incidents", incidents::schemas::incidents()),
        ("Incident", incidents::schemas::incident()),
        ("IncidentReport", incidents::schemas::report()),
        ("IncidentQuery", incidents::schemas::query()),
        ("IncidentAssign", incidents::schemas::assign()),
        ("IncidentNote", incidents::schemas::note()),
        ("IncidentSnooze", incidents::schemas::snooze()),
        ("IncidentMerge", incidents::schemas::merge()),
        ("Silence", incidents::schemas::silence()),
        ("Silences", incidents::schemas::silences()),
        ("SilenceRequest", incidents::schemas::silence_request()),
        ("SilencePreviewRequest", incidents::schemas::preview_request()),
        ("SilencePreview", incidents::schemas::preview()),
        ("SilenceEnded", incidents::schemas::ended()),
    ];
    if let Some(all) = all.as_object_mut() {
        all.extend(more.map(|(name, schema)| (name.to_owned(), schema)));
    }
    all
}

fn row() -> Value {
    let mut row = object(
        &["time", "time_unix_nano"],
        json!({
            "time": text("Event time, RFC 3339 with nanoseconds, UTC."),
            "time_unix_nano": text("The same, decimal."),
            "seq": int("Sequence number."),
            "severity": text("As sent, or the short name of the number."),
            "severity_number": {"type": "integer"},
            "service": text("service.name."),
            "instance": text("service.instance.id."),
            "event": text("Event name."),
            "body": {"description": "Text, or typed JSON of a body of another type."},
            "trace_id": text("32 hex digits."),
            "span_id": text("16 hex digits."),
            "parent_span_id": text("Spans only."),
            "name": text("Spans only: operation."),
            "kind": text("Spans only."),
            "duration_ns": int("Spans only."),
            "end_time": text("Spans only."),
            "status": text("Spans only: ok, error; absent when unset."),
            "status_message": text("Spans only."),
            "trace_state": text("Spans only."),
            "events": {"type": "array", "description": "Spans only."},
            "links": {"type": "array", "description": "Spans only."},
            "flags": {"type": "integer"},
            "attributes": {"type": "object", "description": "Typed JSON."},
            "resource": {"type": "object", "description": "Attributes of the resource, typed JSON."},
            "scope": {"type": "object"},
            "observed_time": text("RFC 3339."),
            "arrival_time": text("RFC 3339."),
            "sent_time_unix_nano": text("The time as sent, signed decimal, where it was absurd."),
            "verdict": {"type": "array", "items": {"type": "string"}},
            "dropped_attributes_count": {"type": "integer"},
            "cursor": text("Position for paging, when asked for."),
        }),
    );
    if let Some(row) = row.as_object_mut() {
        row.insert("description".to_owned(), "A record; what it lacks is left out.".into());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a wanted change: `UPDATE_GOLDEN=1 cargo test -p threadline openapi`.
    #[test]
    fn the_golden_file_says_the_same() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let got = format!("{:#}\n", document());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &got).unwrap();
        }
        let want = std::fs::read_to_string(path).unwrap();
        assert!(got == want, "docs/openapi.json is not what the code says; see this test");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let mut references = 0;
        for part in text.split("#/components/schemas/").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
            assert!(document["components"]["schemas"][&name].is_object(), "{name}");
            references += 1;
        }
        assert!(references > OPERATIONS.len());
    }
}
