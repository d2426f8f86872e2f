//! The operations of the API, each declared once: routing, the check of parameters and `/openapi.json` come from here.

use http::Method;

/// What an operation does; handlers are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    Page,
    Search,
    Tail,
    Count,
    Histogram,
    Red,
    Fields,
    FieldValues,
    Distinct,
    SqlGet,
    SqlPost,
    Traces,
    Trace,
    Services,
    Check,
    Contract,
    ContractScore,
    Rules,
    Backtest,
    Detection,
    Incidents,
    Incident,
    IncidentReport,
    IncidentAcknowledge,
    IncidentAssign,
    IncidentNote,
    IncidentSnooze,
    IncidentResolve,
    IncidentReopen,
    IncidentMerge,
    Silences,
    SilenceMake,
    SilencePreview,
    SilenceEnd,
    NotifyReceivers,
    NotifyDead,
    NotifyTest,
    NotifyReplay,
    AlertsPost,
    Alerts,
    AlertsStatus,
    SessionOpen,
    SessionShow,
    SessionClose,
    Stats,
    Erase,
    Health,
    Metrics,
    OpenApi,
    Asset,
    Icon,
}

/// Type and bounds of a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    /// May be given several times.
    Texts,
    Time,
    Duration,
    Flag,
    Sequence,
    Choice(&'static [&'static str]),
    Integer {
        min: usize,
        max: usize,
        default: usize,
    },
}

/// A parameter of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) in_path: bool,
    pub(crate) required: bool,
    pub(crate) doc: &'static str,
}

/// A successful reply, or one that is no problem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// Name of a schema of `openapi.rs`; of each line for NDJSON.
    pub(crate) schema: &'static str,
    pub(crate) doc: &'static str,
}

/// One method of one path.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) id: Id,
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// With `{name}` for a parameter.
    pub(crate) path: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) parameters: &'static [Parameter],
    /// (Content type, schema) of the request's body.
    pub(crate) bodies: &'static [(&'static str, &'static str)],
    pub(crate) replies: &'static [Reply],
    /// Statuses of problems beside 403, 404 and 405, which every path has.
    pub(crate) problems: &'static [u16],
}

const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";

const fn parameter(name: &'static str, kind: Kind, doc: &'static str) -> Parameter {
    Parameter { name, kind, in_path: false, required: false, doc }
}

const fn required(parameter: Parameter) -> Parameter {
    Parameter { required: true, ..parameter }
}

const fn ok(content_type: &'static str, schema: &'static str, doc: &'static str) -> Reply {
    Reply { status: 200, content_type, schema, doc }
}

const Q: Parameter = parameter(
    "q",
    Kind::Text,
    "The search, in the search language; everything when absent, but what is in quarantine.",
);
const TABLE: Parameter =
    parameter("table", Kind::Choice(&["logs", "spans"]), "Which table; `logs` when absent.");
const FROM: Parameter = parameter("from", Kind::Time, "Earliest event time, inclusive.");
const TO: Parameter = parameter("to", Kind::Time, "Latest event time, exclusive.");
const SINCE: Parameter = parameter("since", Kind::Duration, "The same as `from=now-…`.");

/// For operations that take no search in which one could ask for them.
const QUARANTINED: Parameter =
    parameter("quarantined", Kind::Flag, "1: with records in quarantine, which are left out otherwise.");

const fn limit(max: usize, default: usize, doc: &'static str) -> Parameter {
    parameter("limit", Kind::Integer { min: 1, max, default }, doc)
}

const fn in_path(name: &'static str, doc: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Text, in_path: true, required: true, doc }
}

const RECEIVER: Parameter = in_path("name", "Name of the receiver.");
const INCIDENT: Parameter = in_path("id", "Number of the incident.");
const INCIDENT_PATH: &[Parameter] = &[INCIDENT];
const INCIDENT_FILTERS: &[Parameter] = &[
    parameter(
        "state",
        Kind::Choice(&["live", "open", "acknowledged", "snoozed", "resolved", "merged", "all"]),
        "Only those in this state; `live` when absent: open, acknowledged, snoozed.",
    ),
    parameter(
        "severity",
        Kind::Choice(&["critical", "high", "medium", "low", "informational"]),
        "Only those that are at least this severe.",
    ),
    parameter("service", Kind::Text, "Only those with an alert of this service."),
    parameter(
        "finding",
        Kind::Sequence,
        "Only those that have the finding with this sequence number; `state` is `all` then when absent. Of merged ones, that which has their alerts now.",
    ),
    parameter("before", Kind::Sequence, "Only those with a lower number: `next` of the answer before."),
    limit(1_000, 100, "Incidents at most."),
];

const PAGE_REPLIES: &[Reply] = &[ok("text/html; charset=utf-8", "Text", "The page.")];
const PAGE_TRACE: &[Parameter] = &[in_path("trace_id", "32 hex digits.")];

/// An address of the page for people; what it shows stands in its query string, which only the page itself reads.
const fn page(name: &'static str, path: &'static str, parameters: &'static [Parameter]) -> Operation {
    Operation {
        id: Id::Page,
        name,
        method: Method::GET,
        path,
        doc: "The page for people, at one of its addresses.",
        parameters,
        bodies: &[],
        replies: PAGE_REPLIES,
        problems: &[],
    }
}

/// Bounds that every query has.
const QUERY_PROBLEMS: &[u16] = &[400, 422, 500, 503, 504];

/// All operations.
pub(crate) static OPERATIONS: &[Operation] = &[
    Operation {
        id: Id::Search,
        name: "search",
        method: Method::GET,
        path: "/api/v1/search",
        doc: "Rows that fulfil a search, one JSON object per line, streamed as they are found. When the query fails \
              after the first row, the last line is `{\"error\":{…problem…}}`.",
        parameters: &[
            Q,
            TABLE,
            FROM,
            TO,
            SINCE,
            limit(1_000_000, 100, "Rows at most."),
            parameter(
                "order",
                Kind::Choice(&["newest", "oldest"]),
                "Order by event time; `newest` when absent.",
            ),
            parameter(
                "cursors",
                Kind::Flag,
                "1: every row has a member `cursor`. The next page follows the last row's; there is none when fewer \
                 rows than `limit` came.",
            ),
            parameter("cursor", Kind::Text, "Continue after the row with this cursor."),
        ],
        bodies: &[],
        replies: &[ok(NDJSON, "Row", "The rows.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Tail,
        name: "tail",
        method: Method::GET,
        path: "/api/v1/tail",
        doc: "Rows as they are acknowledged, in order of sequence numbers, as server-sent events: `event: row`, `id:` \
              its sequence number, `data:` the row. Every 10 seconds without a row there is a comment, with an `id:` up \
              to which nothing more comes. A reconnecting client resumes after `Last-Event-ID` without a gap. A \
              client that reads too slowly gets `event: slow` and is disconnected; it may resume. `event: error` \
              carries a problem. Who would not be let in any more gets `event: ended`, with a problem.",
        parameters: &[
            Q,
            TABLE,
            parameter(
                "from_seq",
                Kind::Sequence,
                "Begin at this sequence number; with what comes next when absent. `Last-Event-ID` goes before it.",
            ),
        ],
        bodies: &[],
        replies: &[ok("text/event-stream", "Events", "The events, without end.")],
        problems: &[400, 503],
    },
    Operation {
        id: Id::Count,
        name: "count",
        method: Method::GET,
        path: "/api/v1/count",
        doc: "How many rows fulfil a search.",
        parameters: &[Q, TABLE, FROM, TO, SINCE],
        bodies: &[],
        replies: &[ok(JSON, "Count", "The count.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Histogram,
        name: "histogram",
        method: Method::GET,
        path: "/api/v1/histogram",
        doc: "Rows over time, in buckets, by the values of a field if asked.",
        parameters: &[
            Q,
            TABLE,
            FROM,
            TO,
            SINCE,
            parameter(
                "interval",
                Kind::Duration,
                "Width of a bucket; a round one for about 60 buckets when absent.",
            ),
            parameter("by", Kind::Text, "Field whose values get a series each."),
            parameter(
                "series",
                Kind::Integer { min: 1, max: 1000, default: 10 },
                "Series at most; the rest is summed up.",
            ),
        ],
        bodies: &[],
        replies: &[ok(JSON, "Histogram", "The counts.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Red,
        name: "red",
        method: Method::GET,
        path: "/api/v1/red",
        doc: "Rate, errors and duration of spans over time, by service: how many there were, how many failed (status \
              error, or HTTP status 500 and above), and quantiles of their duration.",
        parameters: &[
            Q,
            FROM,
            TO,
            SINCE,
            parameter(
                "interval",
                Kind::Duration,
                "Width of a bucket; a round one for about 60 buckets when absent.",
            ),
        ],
        bodies: &[],
        replies: &[ok(JSON, "Red", "The figures.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Fields,
        name: "fields",
        method: Method::GET,
        path: "/api/v1/fields",
        doc: "Fields that the rows of a search have, most frequent first.",
        parameters: &[Q, TABLE, FROM, TO, SINCE],
        bodies: &[],
        replies: &[ok(JSON, "Fields", "The fields.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::FieldValues,
        name: "field_values",
        method: Method::GET,
        path: "/api/v1/fields/{name}/values",
        doc: "Values of a field with their number of rows, most frequent first.",
        parameters: &[
            Parameter {
                name: "name",
                kind: Kind::Text,
                in_path: true,
                required: true,
                doc: "The field, as one searches by it.",
            },
            Q,
            TABLE,
            FROM,
            TO,
            SINCE,
            limit(10_000, 100, "Values at most."),
        ],
        bodies: &[],
        replies: &[ok(JSON, "FieldValues", "The values.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Distinct,
        name: "distinct",
        method: Method::GET,
        path: "/api/v1/fields/{name}/distinct",
        doc: "How many different values of a field the rows of a search have.",
        parameters: &[
            Parameter {
                name: "name",
                kind: Kind::Text,
                in_path: true,
                required: true,
                doc: "The field, as one searches by it.",
            },
            Q,
            TABLE,
            FROM,
            TO,
            SINCE,
        ],
        bodies: &[],
        replies: &[ok(JSON, "Count", "The number of values.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::SqlGet,
        name: "sql_get",
        method: Method::GET,
        path: "/api/v1/sql",
        doc: "Runs one SELECT over the tables `logs` and `spans`. Rows come as for `search`; nulls are left out.",
        parameters: &[required(parameter("q", Kind::Text, "The statement.")), FROM, TO, SINCE, QUARANTINED],
        bodies: &[],
        replies: &[ok(NDJSON, "SqlRow", "The rows.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::SqlPost,
        name: "sql_post",
        method: Method::POST,
        path: "/api/v1/sql",
        doc: "The same with the statement in the body, as text or as JSON.",
        parameters: &[],
        bodies: &[("text/plain", "Text"), (JSON, "SqlRequest")],
        replies: &[ok(NDJSON, "SqlRow", "The rows.")],
        problems: &[400, 413, 415, 422, 500, 503, 504],
    },
    Operation {
        id: Id::Traces,
        name: "traces",
        method: Method::GET,
        path: "/api/v1/traces",
        doc: "Traces with a span that fulfils all conditions, newest first.",
        parameters: &[
            parameter("q", Kind::Text, "A search that the span fulfils."),
            parameter("service", Kind::Text, "Service of the span."),
            parameter("operation", Kind::Text, "Name of the span."),
            parameter("duration_min", Kind::Duration, "Least duration of the trace."),
            parameter("duration_max", Kind::Duration, "Greatest duration of the trace."),
            parameter("status", Kind::Choice(&["ok", "error"]), "Status of the trace."),
            FROM,
            TO,
            SINCE,
            limit(1000, 20, "Traces at most."),
            QUARANTINED,
        ],
        bodies: &[],
        replies: &[ok(JSON, "Traces", "The traces, one line of facts each.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Trace,
        name: "trace",
        method: Method::GET,
        path: "/api/v1/traces/{trace_id}",
        doc: "A request rebuilt: spans as a tree over services, logs at their place, critical path, errors, gaps.",
        parameters: &[
            Parameter {
                name: "trace_id",
                kind: Kind::Text,
                in_path: true,
                required: true,
                doc: "32 hex digits.",
            },
            QUARANTINED,
        ],
        bodies: &[],
        replies: &[ok(JSON, "Trace", "The trace.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Services,
        name: "services",
        method: Method::GET,
        path: "/api/v1/services",
        doc: "Services and who calls whom, with counts, errors and latency quantiles.",
        parameters: &[FROM, TO, SINCE, QUARANTINED],
        bodies: &[],
        replies: &[ok(JSON, "Services", "The graph.")],
        problems: QUERY_PROBLEMS,
    },
    Operation {
        id: Id::Check,
        name: "check",
        method: Method::GET,
        path: "/api/v1/check",
        doc: "Whether a search can be read; nothing is searched. One that cannot is a problem that says where.",
        parameters: &[Q],
        bodies: &[],
        replies: &[ok(JSON, "Any", "It can: an empty object.")],
        problems: &[],
    },
    Operation {
        id: Id::Contract,
        name: "contract",
        method: Method::GET,
        path: "/api/v1/contract",
        doc: "The contract in effect: events with their attributes, what every resource must have, and the rules.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Contract", "The contract.")],
        problems: &[],
    },
    Operation {
        id: Id::ContractScore,
        name: "contractScore",
        method: Method::GET,
        path: "/api/v1/contract/score",
        doc: "How well each service and version keeps the contract, since the hub's start, with one example per rule.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "ContractScore", "The scores.")],
        problems: &[],
    },
    Operation {
        id: Id::Rules,
        name: "rules",
        method: Method::GET,
        path: "/api/v1/rules",
        doc: "The rules that records and spans are watched by, and what came of each since the hub's start.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Rules", "The rules.")],
        problems: &[],
    },
    Operation {
        id: Id::Backtest,
        name: "backtest",
        method: Method::POST,
        path: "/api/v1/rules/backtest",
        doc: "Runs rules over what is stored: the findings that would have come. Nothing is kept of them.",
        parameters: &[],
        bodies: &[(JSON, "BacktestRequest")],
        replies: &[ok(JSON, "Backtest", "What was found.")],
        problems: &[400, 413, 415, 422, 500, 503, 504],
    },
    Operation {
        id: Id::Detection,
        name: "detection",
        method: Method::GET,
        path: "/api/v1/detection",
        doc: "How detection goes: lag, what it counted, what it remembers, the riskiest entities.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Detection", "How it goes.")],
        problems: &[],
    },
    Operation {
        id: Id::Incidents,
        name: "incidents",
        method: Method::GET,
        path: "/api/v1/incidents",
        doc: "Incidents, the newest first.",
        parameters: INCIDENT_FILTERS,
        bodies: &[],
        replies: &[ok(JSON, "Incidents", "The incidents.")],
        problems: &[503],
    },
    Operation {
        id: Id::Incident,
        name: "incident",
        method: Method::GET,
        path: "/api/v1/incidents/{id}",
        doc: "An incident with its evidence: timeline, entities, blast radius, and the searches that find each of them.",
        parameters: INCIDENT_PATH,
        bodies: &[],
        replies: &[ok(JSON, "IncidentReport", "The incident.")],
        problems: &[500, 503, 504],
    },
    Operation {
        id: Id::IncidentReport,
        name: "incidentReport",
        method: Method::GET,
        path: "/api/v1/incidents/{id}/report",
        doc: "The same as a report: Markdown, JSON, or an OCSF Detection Finding (class 2004).",
        parameters: &[
            INCIDENT,
            parameter("format", Kind::Choice(&["markdown", "json", "ocsf"]), "Which; `markdown` when absent."),
        ],
        bodies: &[],
        replies: &[ok("*/*", "Any", "The report: `text/markdown`, or `application/json`.")],
        problems: &[500, 503, 504],
    },
    Operation {
        id: Id::IncidentAcknowledge,
        name: "incidentAcknowledge",
        method: Method::POST,
        path: "/api/v1/incidents/{id}/acknowledge",
        doc: "Says that the caller has it; it is theirs unless it is somebody's already.",
        parameters: INCIDENT_PATH,
        bodies: &[],
        replies: &[ok(JSON, "Incident", "The incident as it is now.")],
        problems: &[409, 503],
    },
    Operation {
        id: Id::IncidentResolve,
        name: "incidentResolve",
        method: Method::POST,
        path: "/api/v1/incidents/{id}/resolve",
        doc: "Says that it is over.",
        parameters: INCIDENT_PATH,
        bodies: &[],
        replies: &[ok(JSON, "Incident", "The incident as it is now.")],
        problems: &[409, 503],
    },
    Operation {
        id: Id::IncidentReopen,
        name: "incidentReopen",
        method: Method::POST,
        path: "/api/v1/incidents/{id}/reopen",
        doc: "Says that it is not over.",
        parameters: INCIDENT_PATH,
        bodies: &[],
        replies: &[ok(JSON, "Incident", "The incident as it is now.")],
        problems: &[409, 503],
    },
    Operation {
        id: Id::IncidentAssign,
        name: "incidentAssign",
        method: Method::POST,
        path: "/api/v1/incidents/{id}/assign",
        doc: "Gives it to somebody.",
        parameters: INCIDENT_PATH,
        bodies: &[(JSON, "IncidentAssign")],
        replies: &[ok(JSON, "Incident", "The incident as it is now.")],
        problems: &[409, 413, 415, 503],
    },
    Operation {
        id: Id::IncidentNote,
        name: "incidentNote",
        method: Method::POST,
        path: "/api/v1/incidents/{id}/note",
        doc: "Writes a note.",
        parameters: INCIDENT_PATH,
        bodies: &[(JSON, "IncidentNote")],
        replies: &[ok(JSON, "Incident", "The incident as it is now.")],
        problems: &[409, 413, 415, 503],
    },
    Operation {
        id: Id::IncidentSnooze,
        name: "incidentSnooze",
        method: Method::POST,
        path: "/api/v1/incidents/{id}/snooze",
        doc: "Says nothing of it for a time.",
        parameters: INCIDENT_PATH,
        bodies: &[(JSON, "IncidentSnooze")],
        replies: &[ok(JSON, "Incident", "The incident as it is now.")],
        problems: &[409, 413, 415, 503],
    },
    Operation {
        id: Id::IncidentMerge,
        name: "incidentMerge",
        method: Method::POST,
        path: "/api/v1/incidents/{id}/merge",
        doc: "Makes it a part of another.",
        parameters: INCIDENT_PATH,
        bodies: &[(JSON, "IncidentMerge")],
        replies: &[ok(JSON, "Incident", "The incident as it is now.")],
        problems: &[409, 413, 415, 503],
    },
    Operation {
        id: Id::Silences,
        name: "silences",
        method: Method::GET,
        path: "/api/v1/silences",
        doc: "Silences that have not ended.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Silences", "The silences.")],
        problems: &[503],
    },
    Operation {
        id: Id::SilenceMake,
        name: "silenceMake",
        method: Method::POST,
        path: "/api/v1/silences",
        doc: "Mutes alerts for a time: incidents are kept, nobody is told of them.",
        parameters: &[],
        bodies: &[(JSON, "SilenceRequest")],
        replies: &[ok(JSON, "Silence", "The silence.")],
        problems: &[409, 413, 415, 503],
    },
    Operation {
        id: Id::SilencePreview,
        name: "silencePreview",
        method: Method::POST,
        path: "/api/v1/silences/preview",
        doc: "What a silence would mute, of all incidents that are kept. Nothing changes.",
        parameters: &[],
        bodies: &[(JSON, "SilencePreviewRequest")],
        replies: &[ok(JSON, "SilencePreview", "What it would mute.")],
        problems: &[413, 415, 503],
    },
    Operation {
        id: Id::SilenceEnd,
        name: "silenceEnd",
        method: Method::DELETE,
        path: "/api/v1/silences/{id}",
        doc: "Ends a silence before its time.",
        parameters: &[in_path("id", "Number of the silence.")],
        bodies: &[],
        replies: &[ok(JSON, "SilenceEnded", "It has ended.")],
        problems: &[503],
    },
    Operation {
        id: Id::NotifyReceivers,
        name: "notifyReceivers",
        method: Method::GET,
        path: "/api/v1/notify/receivers",
        doc: "Receivers: what waits, what is dead, when they were reached last.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "NotifyReceivers", "The receivers.")],
        problems: &[500, 503],
    },
    Operation {
        id: Id::NotifyDead,
        name: "notifyDead",
        method: Method::GET,
        path: "/api/v1/notify/receivers/{name}/dead",
        doc: "Notices of a receiver that were given up, the oldest first.",
        parameters: &[RECEIVER, limit(10_000, 100, "Notices at most.")],
        bodies: &[],
        replies: &[ok(JSON, "NotifyDead", "The notices.")],
        problems: &[400, 500, 503],
    },
    Operation {
        id: Id::NotifyTest,
        name: "notifyTest",
        method: Method::POST,
        path: "/api/v1/notify/receivers/{name}/test",
        doc: "Sends a notice that says it is a test, past the queue, and answers what the target said.",
        parameters: &[RECEIVER],
        bodies: &[],
        replies: &[ok(JSON, "NotifyTest", "What it said.")],
        problems: &[400, 409, 500, 503],
    },
    Operation {
        id: Id::NotifyReplay,
        name: "notifyReplay",
        method: Method::POST,
        path: "/api/v1/notify/receivers/{name}/replay",
        doc: "Has the dead of a receiver wait again, in their order, without those that would open again what is over.",
        parameters: &[RECEIVER],
        bodies: &[(JSON, "NotifyReplay")],
        replies: &[ok(JSON, "NotifyReplayed", "How many.")],
        problems: &[400, 413, 415, 500, 503],
    },
    Operation {
        id: Id::AlertsPost,
        name: "alertsPost",
        method: Method::POST,
        path: "/api/v2/alerts",
        doc: "Takes alerts as Alertmanager does (API v2): each becomes a record, and incidents are made of them. When some are \
              wrong (400, a JSON text that says which) the others are taken.",
        parameters: &[],
        bodies: &[(JSON, "PostableAlerts")],
        replies: &[ok("text/plain", "Text", "Nothing.")],
        problems: &[400, 413, 415, 503],
    },
    Operation {
        id: Id::Alerts,
        name: "alerts",
        method: Method::GET,
        path: "/api/v2/alerts",
        doc: "Alerts that were posted and have not ended, as Alertmanager lists them (API v2).",
        parameters: &[
            parameter(
                "filter",
                Kind::Texts,
                "Only those whose labels fulfil this matcher; may be given several times.",
            ),
            parameter("active", Kind::Flag, "`false`: none, as all are active."),
            parameter("silenced", Kind::Flag, "Taken, and of no effect."),
            parameter("inhibited", Kind::Flag, "Taken, and of no effect."),
            parameter("unprocessed", Kind::Flag, "Taken, and of no effect."),
            parameter("receiver", Kind::Text, "Taken, and of no effect."),
        ],
        bodies: &[],
        replies: &[ok(JSON, "Alerts", "The alerts.")],
        problems: &[400, 503],
    },
    Operation {
        id: Id::AlertsStatus,
        name: "alertsStatus",
        method: Method::GET,
        path: "/api/v2/status",
        doc: "What an Alertmanager says of itself (API v2).",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Any", "The status.")],
        problems: &[503],
    },
    Operation {
        id: Id::SessionOpen,
        name: "sessionOpen",
        method: Method::POST,
        path: "/api/v1/session",
        doc: "Opens a session for who shows a token, for browsers: the reply sets the cookie `threadline_session`, which \
              scripts do not see, and which stands for the token until it is idle for `session_idle`, older than \
              `session_max`, closed, or its token ends. What changes something by the cookie needs the header \
              `X-Threadline-CSRF: 1`.",
        parameters: &[],
        bodies: &[(JSON, "SessionRequest")],
        replies: &[ok(JSON, "Session", "Who it is.")],
        problems: &[400, 401, 413, 415, 429],
    },
    Operation {
        id: Id::SessionShow,
        name: "sessionShow",
        method: Method::GET,
        path: "/api/v1/session",
        doc: "Who asks, by whatever way, and what they may do.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Session", "Who it is.")],
        problems: &[],
    },
    Operation {
        id: Id::SessionClose,
        name: "sessionClose",
        method: Method::DELETE,
        path: "/api/v1/session",
        doc: "Ends the session that the request came by, and has the browser forget its cookie.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "SessionClosed", "It has ended, or there was none.")],
        problems: &[],
    },
    Operation {
        id: Id::Stats,
        name: "stats",
        method: Method::GET,
        path: "/api/v1/stats",
        doc: "What the store holds and what it has done since it was opened.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Stats", "The counters.")],
        problems: &[],
    },
    Operation {
        id: Id::Erase,
        name: "erase",
        method: Method::POST,
        path: "/api/v1/erase",
        doc: "Deletes all rows that fulfil a search, for good, and records who asked for it and why.",
        parameters: &[],
        bodies: &[(JSON, "EraseRequest")],
        replies: &[ok(JSON, "Erasure", "What was deleted.")],
        problems: &[400, 413, 415, 500, 503],
    },
    Operation {
        id: Id::Health,
        name: "health",
        method: Method::GET,
        path: "/healthz",
        doc: "Whether the hub takes records.",
        parameters: &[],
        bodies: &[],
        replies: &[
            ok(JSON, "Health", "It does."),
            Reply {
                status: 503,
                content_type: JSON,
                schema: "Health",
                doc: "It does not at the moment, or the store cannot seal. Queries go on.",
            },
        ],
        problems: &[],
    },
    Operation {
        id: Id::Metrics,
        name: "metrics",
        method: Method::GET,
        path: "/metrics",
        doc: "The hub's own metrics, in Prometheus' text format 0.0.4.",
        parameters: &[],
        bodies: &[],
        replies: &[ok("text/plain; version=0.0.4", "Text", "The metrics.")],
        problems: &[],
    },
    Operation {
        id: Id::OpenApi,
        name: "openapi",
        method: Method::GET,
        path: "/openapi.json",
        doc: "This description.",
        parameters: &[],
        bodies: &[],
        replies: &[ok(JSON, "Any", "OpenAPI 3.1.")],
        problems: &[],
    },
    page("page", "/", &[]),
    page("page_search", "/search", &[]),
    page("page_traces", "/traces", &[]),
    page("page_trace", "/trace/{trace_id}", PAGE_TRACE),
    page("page_services", "/services", &[]),
    page("page_sql", "/sql", &[]),
    page("page_incidents", "/incidents", &[]),
    page("page_incident", "/incidents/{id}", INCIDENT_PATH),
    page("page_contract", "/contract", &[]),
    page("page_detection", "/detection", &[]),
    page("page_hub", "/hub", &[]),
    Operation {
        id: Id::Asset,
        name: "asset",
        method: Method::GET,
        path: "/assets/{file}",
        doc: "A file that the page needs. Its name carries a hash of its content.",
        parameters: &[in_path("file", "Its name.")],
        bodies: &[],
        replies: &[ok("*/*", "Text", "The file.")],
        problems: &[],
    },
    Operation {
        id: Id::Icon,
        name: "icon",
        method: Method::GET,
        path: "/favicon.ico",
        doc: "The page's icon, where browsers look for one.",
        parameters: &[],
        bodies: &[],
        replies: &[ok("*/*", "Text", "The icon; nothing (204) in a hub without the page.")],
        problems: &[],
    },
];

/// What is at a path.
pub(crate) enum Found {
    /// The operation, and the path's parameter, still percent-encoded (empty without one).
    Operation(&'static Operation, String),
    /// Only other methods: these.
    Methods(String),
    /// Nothing.
    Nothing,
}

/// Finds the operation of a request. HEAD is taken as GET.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut methods = Vec::new();
    for operation in OPERATIONS {
        let Some(parameter) = matches(operation.path, path) else { continue };
        if operation.method == *method {
            return Found::Operation(operation, parameter.to_owned());
        }
        methods.push(operation.method.as_str());
    }
    if methods.is_empty() { Found::Nothing } else { Found::Methods(methods.join(", ")) }
}

/// Whether a path fits a template; then its parameter.
fn matches<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, rest)) = template.split_once('{') else { return (template == path).then_some("") };
    let (_, after) = rest.split_once('}')?;
    let parameter = path.strip_prefix(before)?.strip_suffix(after)?;
    (!parameter.is_empty() && !parameter.contains('/')).then_some(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_operations() {
        for (method, path, want) in [
            (Method::GET, "/", "page "),
            (Method::GET, "/trace/abc", "page_trace abc"),
            (Method::GET, "/assets/index-1.js", "asset index-1.js"),
            (Method::GET, "/assets/", "nothing"),
            (Method::GET, "/api/v1/search", "search "),
            (Method::HEAD, "/healthz", "health "),
            (Method::GET, "/api/v1/traces", "traces "),
            (Method::GET, "/api/v1/traces/abc", "trace abc"),
            (Method::GET, "/api/v1/traces/", "nothing"),
            (Method::GET, "/api/v1/traces/a/b", "nothing"),
            (Method::GET, "/api/v1/fields/http.route/values", "field_values http.route"),
            (Method::GET, "/api/v1/fields//values", "nothing"),
            (Method::POST, "/api/v1/sql", "sql_post "),
            (Method::PUT, "/api/v1/sql", "methods GET, POST"),
            (Method::GET, "/api/v1/erase", "methods POST"),
            (Method::GET, "/api/v2/search", "nothing"),
        ] {
            let got = match find(&method, path) {
                Found::Operation(operation, parameter) => format!("{} {parameter}", operation.name),
                Found::Methods(methods) => format!("methods {methods}"),
                Found::Nothing => "nothing".to_owned(),
            };
            assert_eq!(got, want, "{method} {path}");
        }
    }
}
