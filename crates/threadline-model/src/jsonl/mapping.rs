//! Which field of a line becomes which part of a record.
//!
//! Vocabulary:
//! - *field*: a top-level key of a JSON line;
//! - *role*: the part of a record that a field becomes ([`Role`]);
//! - *alias*: a field name that has a role without being told so;
//! - *rank*: of several fields with one role the one of lowest rank takes it; the others become attributes.
//!
//! It does not know JSON or how values are read. docs/import.md has the table for people.

use rustc_hash::FxHashMap;

/// Unit of a number that is a time or a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds, ms, µs or ns by magnitude.
    ByMagnitude,
    /// Nanoseconds.
    Nano,
    /// Microseconds.
    Micro,
    /// Milliseconds.
    Milli,
    /// Seconds.
    Second,
}

/// A part of a record that one field can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Event time of a log, start of a span.
    Time,
    /// Observed time of a log.
    Observed,
    /// End of a span.
    End,
    /// Duration of a span.
    Duration,
    /// Severity, text or number.
    Severity,
    /// OpenTelemetry severity number.
    SeverityNumber,
    /// Body of a log.
    Body,
    /// Event name of a log.
    Event,
    /// Trace id.
    Trace,
    /// Span id.
    Span,
    /// Parent's span id.
    Parent,
    /// Service name.
    Service,
    /// Service instance.
    Instance,
    /// Kubernetes pod; also the instance when nothing else gives one.
    Pod,
    /// Name of the instrumentation scope (the logger).
    Scope,
    /// Operation name of a span.
    Name,
    /// Kind of a span, name or number.
    Kind,
    /// Status of a span, name or number.
    Status,
    /// Status message of a span.
    StatusMessage,
    /// W3C trace flags.
    Flags,
}

impl Slot {
    /// Number of slots.
    pub const COUNT: usize = Slot::Flags as usize + 1;
}

/// An attribute key that a mapping gives: [`Mapping::key`] has its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u32);

/// What a field becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A part of the record. Numbers are read in the unit.
    Slot(Slot, Unit),
    /// An attribute of the record under this key.
    Attribute(Key),
    /// An attribute of the resource under this key.
    Resource(Key),
    /// An object whose members are attributes of the record.
    Attributes,
    /// An object whose members are attributes of the resource.
    ResourceAttributes,
    /// Left out.
    Ignore,
}

/// Role of a field, and how strongly the field claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The role.
    pub role: Role,
    /// Lowest wins.
    pub rank: u8,
}

/// Which field becomes what. Fields that are not in it become attributes under their own name.
#[derive(Clone, Debug)]
pub struct Mapping {
    claims: FxHashMap<Box<str>, Claim>,
    keys: Vec<Box<str>>,
}

use Slot::*;
use Unit::*;

/// Aliases by role; within a role the earlier ones win.
const ALIASES: &[(Slot, &[(&str, Unit)])] = &[
    (
        Time,
        &[
            ("time_unix_nano", Nano),
            ("timeUnixNano", Nano),
            ("start_time_unix_nano", Nano),
            ("startTimeUnixNano", Nano),
            ("start_time", ByMagnitude),
            ("@timestamp", ByMagnitude),
            ("timestamp", ByMagnitude),
            ("time", ByMagnitude),
            ("ts", ByMagnitude),
            ("datetime", ByMagnitude),
            ("event_time", ByMagnitude),
            ("eventTime", ByMagnitude),
            ("asctime", ByMagnitude),
            ("date", ByMagnitude),
            ("_time", ByMagnitude),
            ("t", ByMagnitude),
            ("__REALTIME_TIMESTAMP", Micro),
        ],
    ),
    (
        Observed,
        &[
            ("observed_time_unix_nano", Nano),
            ("observedTimeUnixNano", Nano),
            ("observed_time", ByMagnitude),
            ("observed_timestamp", ByMagnitude),
        ],
    ),
    (End, &[("end_time_unix_nano", Nano), ("endTimeUnixNano", Nano), ("end_time", ByMagnitude)]),
    (
        Duration,
        &[("duration_ns", Nano), ("duration_us", Micro), ("duration_ms", Milli), ("duration_s", Second)],
    ),
    (
        Severity,
        &[
            ("severity_text", ByMagnitude),
            ("severityText", ByMagnitude),
            ("severity", ByMagnitude),
            ("log.level", ByMagnitude),
            ("level", ByMagnitude),
            ("levelname", ByMagnitude),
            ("loglevel", ByMagnitude),
            ("log_level", ByMagnitude),
            ("lvl", ByMagnitude),
        ],
    ),
    (SeverityNumber, &[("severity_number", ByMagnitude), ("severityNumber", ByMagnitude)]),
    (
        Body,
        &[
            ("body", ByMagnitude),
            ("message", ByMagnitude),
            ("msg", ByMagnitude),
            ("MESSAGE", ByMagnitude),
            ("log", ByMagnitude),
            ("text", ByMagnitude),
            ("event", ByMagnitude),
        ],
    ),
    (Event, &[("event_name", ByMagnitude), ("eventName", ByMagnitude), ("event.name", ByMagnitude)]),
    (
        Trace,
        &[
            ("trace_id", ByMagnitude),
            ("traceId", ByMagnitude),
            ("traceid", ByMagnitude),
            ("trace.id", ByMagnitude),
            ("otelTraceID", ByMagnitude),
        ],
    ),
    (
        Span,
        &[
            ("span_id", ByMagnitude),
            ("spanId", ByMagnitude),
            ("spanid", ByMagnitude),
            ("span.id", ByMagnitude),
            ("otelSpanID", ByMagnitude),
        ],
    ),
    (
        Parent,
        &[
            ("parent_span_id", ByMagnitude),
            ("parentSpanId", ByMagnitude),
            ("parent_id", ByMagnitude),
            ("parentId", ByMagnitude),
        ],
    ),
    (
        Service,
        &[
            ("service.name", ByMagnitude),
            ("service_name", ByMagnitude),
            ("serviceName", ByMagnitude),
            ("service", ByMagnitude),
            ("otelServiceName", ByMagnitude),
            ("application", ByMagnitude),
            ("app", ByMagnitude),
        ],
    ),
    (
        Instance,
        &[("service.instance.id", ByMagnitude), ("instance", ByMagnitude), ("instance_id", ByMagnitude)],
    ),
    (Pod, &[("k8s.pod.name", ByMagnitude), ("pod", ByMagnitude), ("pod_name", ByMagnitude)]),
    (
        Scope,
        &[
            ("logger", ByMagnitude),
            ("logger_name", ByMagnitude),
            ("loggerName", ByMagnitude),
            ("scope_name", ByMagnitude),
        ],
    ),
    (Name, &[("name", ByMagnitude), ("span_name", ByMagnitude), ("operation", ByMagnitude)]),
    (Kind, &[("kind", ByMagnitude), ("span_kind", ByMagnitude), ("spanKind", ByMagnitude)]),
    (Status, &[("status_code", ByMagnitude), ("statusCode", ByMagnitude), ("status", ByMagnitude)]),
    (StatusMessage, &[("status_message", ByMagnitude), ("statusMessage", ByMagnitude)]),
    (Flags, &[("flags", ByMagnitude), ("trace_flags", ByMagnitude), ("traceFlags", ByMagnitude)]),
];

/// Fields that are attributes of the resource: field, key.
const RESOURCE: &[(&str, &str)] = &[
    ("node", "k8s.node.name"),
    ("node_name", "k8s.node.name"),
    ("k8s.node.name", "k8s.node.name"),
    ("namespace", "k8s.namespace.name"),
    ("k8s.namespace.name", "k8s.namespace.name"),
    ("k8s.container.name", "k8s.container.name"),
    ("container", "k8s.container.name"),
    ("container_name", "k8s.container.name"),
    ("host", "host.name"),
    ("hostname", "host.name"),
    ("host.name", "host.name"),
    ("env", "deployment.environment.name"),
    ("environment", "deployment.environment.name"),
    ("deployment.environment.name", "deployment.environment.name"),
    ("service.namespace", "service.namespace"),
    ("service.version", "service.version"),
];

/// Fields that are attributes under another key: field, key (semantic conventions).
const RENAMED: &[(&str, &str)] = &[
    ("thread", "thread.name"),
    ("thread_name", "thread.name"),
    ("threadName", "thread.name"),
    ("stack_trace", "exception.stacktrace"),
    ("stacktrace", "exception.stacktrace"),
];

/// Names on the left of `--map`, beside `resource.KEY`, `ignore` and attribute keys.
pub const TARGETS: &[(&str, Slot, Unit)] = &[
    ("time", Time, ByMagnitude),
    ("time_s", Time, Second),
    ("time_ms", Time, Milli),
    ("time_us", Time, Micro),
    ("time_ns", Time, Nano),
    ("start", Time, ByMagnitude),
    ("observed", Observed, ByMagnitude),
    ("end", End, ByMagnitude),
    ("duration_s", Duration, Second),
    ("duration_ms", Duration, Milli),
    ("duration_us", Duration, Micro),
    ("duration_ns", Duration, Nano),
    ("severity", Severity, ByMagnitude),
    ("severity_number", SeverityNumber, ByMagnitude),
    ("body", Body, ByMagnitude),
    ("event", Event, ByMagnitude),
    ("trace", Trace, ByMagnitude),
    ("span", Span, ByMagnitude),
    ("parent", Parent, ByMagnitude),
    ("service", Service, ByMagnitude),
    ("instance", Instance, ByMagnitude),
    ("pod", Pod, ByMagnitude),
    ("logger", Scope, ByMagnitude),
    ("name", Name, ByMagnitude),
    ("kind", Kind, ByMagnitude),
    ("status", Status, ByMagnitude),
    ("status_message", StatusMessage, ByMagnitude),
    ("flags", Flags, ByMagnitude),
];

impl Default for Mapping {
    fn default() -> Self {
        let mut mapping = Self { claims: FxHashMap::default(), keys: Vec::new() };
        for (slot, aliases) in ALIASES {
            for (at, (field, unit)) in aliases.iter().enumerate() {
                // Rank 0 is for fields that `--map` names.
                mapping.claim_as(field, Role::Slot(*slot, *unit), u8::try_from(at + 1).unwrap_or(u8::MAX));
            }
        }
        for (field, key) in RESOURCE {
            let key = mapping.intern(key);
            mapping.claim_as(field, Role::Resource(key), 1);
        }
        for (field, key) in RENAMED {
            let key = mapping.intern(key);
            mapping.claim_as(field, Role::Attribute(key), 1);
        }
        mapping.claim_as("attributes", Role::Attributes, 1);
        mapping.claim_as("resource", Role::ResourceAttributes, 1);
        mapping.claim_as("resource_attributes", Role::ResourceAttributes, 1);
        mapping
    }
}

impl Mapping {
    /// The built-in aliases with `--map` on top: `time=ts,body=message,resource.team=owner,url.path=path,ignore=tmp`.
    /// On the left a name of [`TARGETS`], `resource.KEY`, `ignore`, or else an attribute key; on the right the field.
    ///
    /// # Errors
    /// Which part is not written so.
    pub fn with(map: &str) -> Result<Mapping, String> {
        let mut mapping = Mapping::default();
        for part in map.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (target, field) = part
                .split_once('=')
                .map(|(target, field)| (target.trim(), field.trim()))
                .filter(|(target, field)| !target.is_empty() && !field.is_empty())
                .ok_or_else(|| format!("`{part}` is not `NAME=FIELD`, such as `time=ts`"))?;
            let role = mapping.target(target);
            if let Role::Slot(slot, _) = &role {
                mapping.release(*slot);
            }
            mapping.claim_as(field, role, 0);
        }
        Ok(mapping)
    }

    /// What a field becomes; `None` for an attribute under its own name.
    #[inline]
    pub fn claim(&self, field: &str) -> Option<Claim> {
        self.claims.get(field).copied()
    }

    /// The text of an attribute key.
    #[inline]
    pub fn key(&self, key: Key) -> &str {
        self.keys.get(key.0 as usize).map(Box::as_ref).unwrap_or_default()
    }

    fn claim_as(&mut self, field: &str, role: Role, rank: u8) {
        self.claims.insert(field.into(), Claim { role, rank });
    }

    fn intern(&mut self, text: &str) -> Key {
        let at = self.keys.iter().position(|known| **known == *text).unwrap_or_else(|| {
            self.keys.push(text.into());
            self.keys.len() - 1
        });
        // The aliases and the words of a command line: far below 32 bits.
        Key(at as u32)
    }

    fn target(&mut self, target: &str) -> Role {
        if let Some((_, slot, unit)) = TARGETS.iter().find(|(name, ..)| *name == target) {
            return Role::Slot(*slot, *unit);
        }
        match target.strip_prefix("resource.") {
            Some(key) => Role::Resource(self.intern(key)),
            None if target == "ignore" => Role::Ignore,
            None => Role::Attribute(self.intern(target)),
        }
    }

    /// A field that was named for a slot is the only one for it: aliases of the slot become attributes again.
    fn release(&mut self, slot: Slot) {
        self.claims
            .retain(|_, claim| claim.rank == 0 || !matches!(&claim.role, Role::Slot(s, _) if *s == slot));
    }
}
