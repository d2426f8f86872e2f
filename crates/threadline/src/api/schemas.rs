//! Schemas of the larger answers for `/openapi.json`: rebuilt traces, lists of them, the graph of services, counters, and the
//! contract. The page's types are generated from them.

use serde_json::{Value, json};

use super::openapi::{int, list, object, reference, text};

fn flag(doc: &str) -> Value {
    json!({"type": "boolean", "description": doc})
}

fn attributes() -> Value {
    json!({"type": "object", "description": "Typed JSON."})
}

/// A moment.
pub(super) fn moment() -> Value {
    object(
        &["rfc3339", "unix_nano"],
        json!({
            "rfc3339": text("RFC 3339 with nanoseconds, UTC."),
            "unix_nano": text("The same, decimal."),
        }),
    )
}

/// A node of a trace's tree.
pub(super) fn trace_span() -> Value {
    object(
        &[
            "span_id",
            "depth",
            "presence",
            "service",
            "name",
            "kind",
            "start",
            "raw_start",
            "duration_ns",
            "self_ns",
            "critical_ns",
            "status",
        ],
        json!({
            "span_id": text("16 hex digits."),
            "parent_span_id": text("The parent's, as sent."),
            "parent": int("The parent's position in `spans`."),
            "depth": int("Distance from its root."),
            "presence": {
                "enum": ["received", "missing", "from_logs"],
                "description": "`missing`: only named as a parent; `from_logs`: only named by logs.",
            },
            "service": text("service.name."),
            "instance": text("service.instance.id, else the pod or the host."),
            "name": text("Operation."),
            "kind": {"enum": ["unspecified", "internal", "server", "client", "producer", "consumer"]},
            "start": reference("Moment"),
            "raw_start": reference("Moment"),
            "duration_ns": int("Duration, ns."),
            "self_ns": int("Time without an awaited child, ns."),
            "critical_ns": int("Time of the critical path in the span itself, ns."),
            "status": {"enum": ["unset", "ok", "error"]},
            "status_message": text("What the sender said about the status."),
            "error": {
                "enum": ["status", "exception", "attribute", "log"],
                "description": "Why it counts as failed.",
            },
            "detached": flag("Its parent did not wait for it."),
            "notes": list(text("What else to know.")),
            "attributes": attributes(),
            "resource": attributes(),
            "scope": {"type": "object"},
            "events": list(object(&["time", "name"], json!({
                "time": reference("Moment"),
                "name": text("Name."),
                "attributes": attributes(),
            }))),
            "links": list(object(&["trace_id", "span_id"], json!({
                "trace_id": text("32 hex digits."),
                "span_id": text("16 hex digits."),
                "attributes": attributes(),
            }))),
            "logs": list(int("Positions in `logs`.")),
        }),
    )
}

/// A log of a trace.
pub(super) fn trace_log() -> Value {
    object(
        &["time", "raw_time", "service", "severity_number", "body", "placed_by"],
        json!({
            "time": reference("Moment"),
            "raw_time": reference("Moment"),
            "time_unknown": flag("The time was not sent or absurd: it stands at its span's start."),
            "service": text("service.name."),
            "instance": text("service.instance.id, else the pod or the host."),
            "severity_number": {"type": "integer"},
            "severity_text": text("As sent."),
            "event_name": text("Event name."),
            "body": text("Text, or typed JSON where `body_json`."),
            "body_json": flag("The body is typed JSON."),
            "span_id": text("16 hex digits, as sent."),
            "span": int("Position in `spans`."),
            "placed_by": {"enum": ["span_id", "time", "trace"]},
            "attributes": attributes(),
        }),
    )
}

/// A rebuilt request.
pub(super) fn trace() -> Value {
    object(
        &[
            "trace_id",
            "from_logs_only",
            "duration_ns",
            "span_count",
            "error_span_count",
            "causes",
            "services",
            "spans",
            "logs",
            "critical_path",
            "skews",
            "gaps",
        ],
        json!({
            "trace_id": text("32 hex digits."),
            "from_logs_only": flag("There are no spans: rebuilt from logs alone."),
            "start": reference("Moment"),
            "end": reference("Moment"),
            "duration_ns": int("End-to-end time, ns: the main root's duration."),
            "main_root": int("Position in `spans` of the node whose duration is the end-to-end time."),
            "span_count": int("Spans received."),
            "error_span_count": int("Failed spans."),
            "causes": list(object(&["service", "operation", "time", "message"], json!({
                "span": int("Position in `spans`."),
                "log": int("Position in `logs`."),
                "service": text("Service."),
                "operation": text("Operation."),
                "time": reference("Moment"),
                "message": text("What failed, in the sender's words."),
            }))),
            "services": list(object(&["service", "spans", "logs", "error_spans", "error_logs", "self_ns", "critical_ns"], json!({
                "service": text("Service."),
                "spans": int("Spans received."),
                "logs": int("Logs."),
                "error_spans": int("Failed spans."),
                "error_logs": int("Logs of severity ERROR and above."),
                "self_ns": int("Sum of self times, ns."),
                "critical_ns": int("Share of the critical path, ns."),
                "first": reference("Moment"),
                "last": reference("Moment"),
            }))),
            "spans": list(reference("TraceSpan")),
            "logs": list(reference("TraceLog")),
            "critical_path": list(object(&["span", "span_id", "start", "duration_ns"], json!({
                "span": int("Position in `spans`."),
                "span_id": text("16 hex digits."),
                "start": reference("Moment"),
                "duration_ns": int("Duration, ns."),
            }))),
            "skews": list(object(&["parent_service", "child_service", "offset_ns", "calls", "early", "late"], json!({
                "parent_service": text("Reference."),
                "parent_instance": text("Its instance."),
                "child_service": text("Whose clock differs."),
                "child_instance": text("Its instance."),
                "offset_ns": int("What was added to the child's times, ns; 0 when not adjusted."),
                "offset_min_ns": int("Least offset that fits all calls, ns."),
                "offset_max_ns": int("Greatest offset that fits all calls, ns."),
                "calls": int("Calls compared."),
                "early": int("Calls whose child started before its parent."),
                "late": int("Calls whose child ended after its parent."),
            }))),
            "gaps": object(
                &[
                    "missing_parents",
                    "missing_logged",
                    "services_without_spans",
                    "services_without_logs",
                    "truncated",
                    "copies",
                    "duplicate_ids",
                    "cycles",
                    "logs_without_time",
                    "spans_left_out",
                    "logs_left_out",
                ],
                json!({
                    "missing_parents": list(text("Span id named as a parent, not received.")),
                    "missing_logged": list(text("Span id named by logs, not received.")),
                    "services_without_spans": list(text("Service that logged but sent no span.")),
                    "services_without_logs": list(text("Service that sent spans but no log.")),
                    "truncated": list(int("Position in `spans` of a span that looks truncated.")),
                    "copies": int("Identical copies dropped."),
                    "duplicate_ids": int("Different spans with the id of another one."),
                    "cycles": int("Circles of parents cut."),
                    "logs_without_time": int("Logs without a sane time."),
                    "spans_left_out": int("Spans beyond the cap."),
                    "logs_left_out": int("Logs beyond the cap."),
                }),
            ),
        }),
    )
}

/// Traces, a line of facts each.
pub(super) fn traces() -> Value {
    object(
        &["traces"],
        json!({
            "traces": list(object(
                &[
                    "trace_id",
                    "start",
                    "duration_ns",
                    "root_service",
                    "root_operation",
                    "root_found",
                    "spans",
                    "services",
                    "error_spans",
                    "logs",
                    "error_logs",
                ],
                json!({
                    "trace_id": text("32 hex digits."),
                    "start": reference("Moment"),
                    "duration_ns": int("The root's, ns; from first start to last end when it is missing."),
                    "root_service": text("Service of the root, or of the earliest span."),
                    "root_operation": text("Operation of the root, or of the earliest span."),
                    "root_found": flag("Whether the root was found."),
                    "spans": int("Spans."),
                    "services": list(text("A service.")),
                    "error_spans": int("Failed spans."),
                    "logs": int("Logs."),
                    "error_logs": int("Logs of severity ERROR and above."),
                }),
            )),
        }),
    )
}

/// Requests and how they went.
pub(super) fn requests() -> Value {
    object(
        &["count", "errors"],
        json!({
            "count": int("Requests."),
            "errors": int("Requests that failed."),
            "latency": object(&["p50_ns", "p95_ns", "p99_ns", "max_ns"], json!({
                "p50_ns": int("Median, ns."),
                "p95_ns": int("95th percentile, ns."),
                "p99_ns": int("99th percentile, ns."),
                "max_ns": int("Longest, ns."),
            })),
        }),
    )
}

/// The graph of services.
pub(super) fn services() -> Value {
    object(
        &["services", "edges", "notes"],
        json!({
            "from": reference("Moment"),
            "to": reference("Moment"),
            "services": list(object(&["service", "requests", "rate", "spans", "logs", "error_logs"], json!({
                "service": text("Name."),
                "requests": reference("Requests"),
                "rate": {"type": "number", "description": "Requests per second."},
                "spans": int("Spans."),
                "logs": int("Logs."),
                "error_logs": int("Logs of severity ERROR and above."),
            }))),
            "edges": list(object(&["caller", "callee", "requests"], json!({
                "caller": text("Calling service."),
                "callee": text("Called service."),
                "requests": reference("Requests"),
            }))),
            "notes": list(text("A bound that was hit.")),
        }),
    )
}

/// What a table holds.
pub(super) fn table_stats() -> Value {
    object(
        &["rows", "memory_rows", "sealed_rows", "files", "draft_files", "sealed_bytes"],
        json!({
            "rows": int("Rows."),
            "memory_rows": int("Rows in memory, not sealed yet."),
            "sealed_rows": int("Rows in files."),
            "files": int("Files."),
            "draft_files": int("Files that are to be written again, smaller."),
            "sealed_bytes": int("Bytes of the files."),
            "from": {"type": ["string", "null"], "description": "Earliest event time, RFC 3339."},
            "to": {"type": ["string", "null"], "description": "Latest event time, RFC 3339."},
            "evolved_columns": int("Attributes that have got a column of their own."),
        }),
    )
}

/// Counters of the store.
pub(super) fn stats() -> Value {
    object(
        &["tables", "last_seq", "uptime_s", "addresses", "version", "limits"],
        json!({
            "tables": object(&["logs", "spans"], json!({
                "logs": reference("TableStats"),
                "spans": reference("TableStats"),
            })),
            "last_seq": int("Last sequence number given."),
            "appends": int("Appends since the start."),
            "rows": int("Rows appended since the start."),
            "duplicates": int("Batches that were there already."),
            "syncs": int("Syncs of the write-ahead log."),
            "wal_bytes": int("Bytes written to the write-ahead log."),
            "wal_disk_bytes": int("Bytes that it takes on disk."),
            "seals": int("Seals."),
            "compactions": int("Compactions."),
            "deleted_rows": int("Rows deleted."),
            "merkle_leaves": int("Leaves of the Merkle log."),
            "uptime_s": {"type": "number", "description": "Seconds since the start."},
            "addresses": object(&["otlp_grpc", "otlp_http", "api"], json!({
                "otlp_grpc": text("OTLP over gRPC."),
                "otlp_http": text("OTLP over HTTP."),
                "api": text("The API and the page."),
            })),
            "version": text("Version of the hub."),
            "limits": object(&["retention", "disk_free_bytes_min"], json!({
                "retention": list(object(&["age_max_s"], json!({
                    "table": {"type": ["string", "null"], "description": "Of this table; of both without it."},
                    "service": {"type": ["string", "null"], "description": "Of this service; of all without it."},
                    "event": {"type": ["string", "null"], "description": "Of this event, or class such as `security.*`; of all without it."},
                    "age_max_s": int("Age, s, by event time, at which records are deleted."),
                }))),
                "sealed_bytes_max": {"type": ["integer", "null"], "description": "Bytes of sealed files beyond which the oldest hours are deleted; no bound without it."},
                "disk_free_bytes_min": int("Free bytes of the disk below which no more records are taken."),
            })),
        }),
    )
}

/// An attribute as an event or the resource asks for it.
pub(super) fn contract_use() -> Value {
    object(
        &["key", "type", "level", "brief", "values"],
        json!({
            "key": text("Key."),
            "type": text("Type of its value."),
            "level": text("`required`, `required if …`, `recommended`, `opt-in`."),
            "brief": text("What it is."),
            "values": list(text("A value of the closed list.")),
        }),
    )
}

/// A range of severity numbers.
pub(super) fn severity_range() -> Value {
    object(&["min", "max"], json!({"min": {"type": "integer"}, "max": {"type": "integer"}}))
}

/// The contract in effect.
pub(super) fn contract() -> Value {
    object(
        &["version", "resource", "events", "rules"],
        json!({
            "version": text("Version; empty when records are not checked."),
            "resource": list(reference("ContractUse")),
            "events": list(object(
                &["name", "brief", "stability", "request_scoped", "never_sampled", "any_of", "owner", "mapping", "attributes"],
                json!({
                    "name": text("As in `LogRecord.event_name`."),
                    "brief": text("What happened."),
                    "stability": text("`stable`, `development`, …"),
                    "deprecated": text("Why it is not to be used, and what to use."),
                    "severity": reference("SeverityRange"),
                    "request_scoped": flag("It is part of a request: it has a trace id."),
                    "never_sampled": flag("Never sampled, never refused."),
                    "any_of": list(list(text("Of each list at least one must be there."))),
                    "owner": text("Who answers for it."),
                    "mapping": object(&["ecs", "ocsf", "owasp"], json!({
                        "ecs": text("Elastic Common Schema."),
                        "ocsf": text("Open Cybersecurity Schema Framework."),
                        "owasp": text("OWASP's logging vocabulary."),
                    })),
                    "attributes": list(reference("ContractUse")),
                }),
            )),
            "rules": list(object(&["id", "what", "weight", "action"], json!({
                "id": text("As one searches by it."),
                "what": text("What it says."),
                "weight": {"type": "integer", "description": "How much it counts in a score."},
                "action": {"enum": ["off", "tag", "quarantine", "reject"]},
            }))),
        }),
    )
}

/// How well each service keeps the contract.
pub(super) fn contract_score() -> Value {
    object(
        &["checked", "version", "senders"],
        json!({
            "checked": {"type": "boolean", "description": "Whether this hub checks records."},
            "version": text("Version of the contract; empty when records are not checked."),
            "senders": list(object(&["service", "version", "records", "violated", "quarantined", "score", "rules"], json!({
                "service": text("`service.name`; empty when it was not sent."),
                "version": text("`service.version`; empty when it was not sent."),
                "records": int("Records that were checked since the hub's start."),
                "violated": int("Records that break some rule."),
                "quarantined": int("Records that went into quarantine."),
                "score": {"type": "number", "minimum": 0, "maximum": 100, "description": "docs/contract.md, \"Score\"."},
                "rules": list(object(&["rule", "records"], json!({
                    "rule": text("Id of the rule."),
                    "records": int("Records that break it."),
                    "example": object(&["at", "found", "expected", "fix"], json!({
                        "at": text("Field or attribute."),
                        "found": text("What was there, without secrets; empty when that is nothing."),
                        "expected": text("What was expected."),
                        "fix": text("How to fix it."),
                    })),
                }))),
            }))),
        }),
    )
}

/// The rules of a hub.
pub(super) fn rules() -> Value {
    object(
        &["rules", "problems"],
        json!({
            "rules": list(object(&["id", "title", "level", "file", "findings"], json!({
                "id": text("Its id; its title where it has none."),
                "title": text("Title."),
                "description": text("What it finds."),
                "level": {"enum": ["informational", "low", "medium", "high", "critical"]},
                "tags": list(text("Tag.")),
                "references": list(text("Reference.")),
                "false_positives": list(text("When it may be nothing.")),
                "file": text("Where it stands."),
                "line": int("Likewise, from 1."),
                "tests": int("Tests that stand in it."),
                "findings": int("Findings since the hub's start."),
                "last": {"type": ["string", "null"], "description": "Event time of the last of them."},
            }))),
            "problems": list(text("What is wrong with a rule; it is left out.")),
        }),
    )
}

/// What is asked of a back-test.
pub(super) fn backtest_request() -> Value {
    object(
        &["rules"],
        json!({
            "rules": text("Rules in Sigma's format, YAML."),
            "from": text("Event times from here on; as in searches."),
            "to": text("Event times before this."),
            "since": text("Instead of both: so long until now, such as `30d`."),
            "tune": int("Say of rules with at least so many findings what these share, and suggest an exception."),
        }),
    )
}

/// What a back-test found.
pub(super) fn backtest() -> Value {
    object(
        &["rules", "problems", "records", "hits", "findings"],
        json!({
            "rules": int("Rules that ran."),
            "problems": list(text("What is wrong with a rule; it is left out.")),
            "records": int("Records and spans of the time range."),
            "records_read": int("Those of them that the indexes of the store did not rule out, and that rules were asked about."),
            "full_scan_rules": list(text("Title of a rule that keeps the indexes from ruling out anything: nothing that they know follows from it.")),
            "hits": int("Records and spans that some rule matches."),
            "total": int("Findings in all; at most 10,000 are listed."),
            "findings": list(json!({"type": "object", "description": "A finding (docs/detection.md)."})),
            "noisy": list(json!({"type": "object", "description": "A rule with many findings, what these share, and the exception that is suggested (docs/detection.md); if asked for by `tune`."})),
        }),
    )
}

/// How detection goes.
pub(super) fn detection() -> Value {
    object(
        &["running", "rules", "lag_records", "findings"],
        json!({
            "running": {"type": "boolean", "description": "Whether records are watched."},
            "rules": int("Rules in use."),
            "problems": int("Rules left out because something is wrong with them."),
            "lag_records": int("Records and spans not looked at yet."),
            "records": int("Records and spans looked at."),
            "hits": int("Rules that matched one."),
            "findings": int("Findings that were kept."),
            "findings_lost": int("Findings that the store did not take."),
            "late": int("Hits that came too late for their correlation."),
            "evicted": int("Groups forgotten because a bound was hit."),
            "groups": int("Groups of correlations that are remembered."),
            "group_bytes": int("Their bytes."),
            "series": int("Series of which it is known what is usual."),
            "windows": int("Windows of them that were judged."),
            "anomalies": int("Unusual ones that were told."),
            "incidents": object(&["running", "live"], json!({
                "running": {"type": "boolean", "description": "Whether incidents are kept."},
                "problem": {"type": ["string", "null"], "description": "Why not, or why the last commit failed."},
                "alerts_file_problem": {"type": ["string", "null"], "description": "What is wrong with the alerts file; it is as it was before."},
                "live": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "Live incidents by severity."},
                "lag_records": int("Records in which findings have not been looked for yet."),
                "silences": int("Silences that have not ended."),
            })),
            "risks": list(object(&["field", "value", "risk"], json!({
                "field": text("What it is, such as `client.address`."),
                "value": text("Which."),
                "risk": int("Risk of the last day."),
            }))),
        }),
    )
}

/// What opens a session.
pub(super) fn session_request() -> Value {
    object(&["token"], json!({"token": text("The token.")}))
}

/// Who asks.
pub(super) fn session() -> Value {
    object(
        &["enforced", "id", "name", "roles", "session", "expires"],
        json!({
            "enforced": {"type": "boolean", "description": "The API asks who comes; without tokens everybody may everything."},
            "id": text("`token:` and the token's id; `anonymous` where nobody is asked."),
            "name": {"type": ["string", "null"], "description": "Name of the token."},
            "roles": {"type": "array", "items": {"enum": ["ingest", "read", "operate", "admin"]}},
            "session": {"type": "boolean", "description": "The request came by the cookie of a session."},
            "expires": {"type": ["string", "null"], "description": "When the token ends, RFC 3339."},
        }),
    )
}

/// What became of a session.
pub(super) fn session_closed() -> Value {
    object(
        &["closed"],
        json!({
            "closed": {"type": "boolean", "description": "There was a session."},
        }),
    )
}
