//! The two tables, `logs` and `spans`, as Arrow schemas, and the attribute keys that own a column.
//!
//! A batch may leave out any column in which every row is null; a reader takes a missing column as all null.
//! An attribute lies in the column of its key when the key is promoted and the value has the column's type,
//! otherwise in `attrs`. A key that was promoted later is in `attrs` of older rows: readers look at both.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Log records.
    Logs,
    /// Spans.
    Spans,
}

impl Table {
    /// Both tables.
    pub const ALL: [Table; 2] = [Table::Logs, Table::Spans];

    /// Name, as in SQL and in paths.
    pub fn name(self) -> &'static str {
        match self {
            Table::Logs => "logs",
            Table::Spans => "spans",
        }
    }

    /// The table of this name.
    pub fn parse(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// Type of a promoted column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// UTF-8 text, dictionary in memory.
    Str,
    /// 64-bit integer.
    Int,
    /// 64-bit float.
    Double,
    /// Boolean.
    Bool,
}

impl KeyType {
    /// The Arrow type of the column.
    pub fn data_type(self) -> DataType {
        match self {
            KeyType::Str => dictionary(),
            KeyType::Int => DataType::Int64,
            KeyType::Double => DataType::Float64,
            KeyType::Bool => DataType::Boolean,
        }
    }
}

/// Where a promoted key's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The resource; the whole resource also stays in the `resource` column.
    Resource,
    /// The record; the value is then not in `attrs`.
    Record,
}

/// An attribute key that owns a column. The column's name is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromotedKey {
    /// Attribute key and column name.
    pub key: Arc<str>,
    /// Column type; values of another type stay in `attrs`.
    pub key_type: KeyType,
    /// Resource or record.
    pub origin: Origin,
}

/// Which keys own a column in a table. Grows by schema evolution, never shrinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The table.
    pub table: Table,
    /// Promoted keys in column order: the base keys, then at most [`Layout::MAX_EVOLVED`] further ones.
    pub promoted: Vec<PromotedKey>,
}

/// Resource keys with a column in both tables. `service.name` and `service.instance.id` are the `service` and
/// `instance` columns.
const RESOURCE_KEYS: [(&str, KeyType); 7] = [
    ("service.namespace", KeyType::Str),
    ("service.version", KeyType::Str),
    ("deployment.environment.name", KeyType::Str),
    ("host.name", KeyType::Str),
    ("k8s.namespace.name", KeyType::Str),
    ("k8s.node.name", KeyType::Str),
    ("k8s.pod.name", KeyType::Str),
];

/// Record keys with a column in both tables (OpenTelemetry semantic conventions 1.44).
const RECORD_KEYS: [(&str, KeyType); 34] = [
    ("client.address", KeyType::Str),
    ("code.function.name", KeyType::Str),
    ("db.collection.name", KeyType::Str),
    ("db.namespace", KeyType::Str),
    ("db.operation.name", KeyType::Str),
    ("db.query.text", KeyType::Str),
    ("db.system.name", KeyType::Str),
    ("enduser.id", KeyType::Str),
    ("error.type", KeyType::Str),
    ("exception.message", KeyType::Str),
    ("exception.stacktrace", KeyType::Str),
    ("exception.type", KeyType::Str),
    ("http.request.method", KeyType::Str),
    ("http.response.status_code", KeyType::Int),
    ("http.route", KeyType::Str),
    ("messaging.destination.name", KeyType::Str),
    ("messaging.operation.name", KeyType::Str),
    ("messaging.system", KeyType::Str),
    ("network.peer.address", KeyType::Str),
    ("network.peer.port", KeyType::Int),
    ("rpc.method", KeyType::Str),
    ("rpc.service", KeyType::Str),
    ("rpc.system", KeyType::Str),
    ("server.address", KeyType::Str),
    ("server.port", KeyType::Int),
    ("session.id", KeyType::Str),
    ("thread.name", KeyType::Str),
    ("tls.protocol.version", KeyType::Str),
    ("url.full", KeyType::Str),
    ("url.path", KeyType::Str),
    ("url.query", KeyType::Str),
    ("url.scheme", KeyType::Str),
    ("user.id", KeyType::Str),
    ("user_agent.original", KeyType::Str),
];

impl Layout {
    /// How many keys beyond the base ones may own a column.
    pub const MAX_EVOLVED: usize = 64;

    /// The layout of a new table: semantic-convention keys only.
    pub fn base(table: Table) -> Layout {
        let key = |origin| {
            move |&(key, key_type): &(&str, KeyType)| PromotedKey { key: Arc::from(key), key_type, origin }
        };
        let promoted = RESOURCE_KEYS
            .iter()
            .map(key(Origin::Resource))
            .chain(RECORD_KEYS.iter().map(key(Origin::Record)))
            .collect();
        Layout { table, promoted }
    }

    /// How many keys were promoted beyond the base ones.
    pub fn evolved(&self) -> usize {
        self.promoted.len().saturating_sub(RESOURCE_KEYS.len() + RECORD_KEYS.len())
    }

    /// The full schema of the table: fixed columns, then promoted ones.
    pub fn schema(&self) -> SchemaRef {
        let mut fields: Vec<Arc<Field>> = fixed(self.table).to_vec();
        fields.extend(
            self.promoted.iter().map(|p| Arc::new(Field::new(p.key.as_ref(), p.key_type.data_type(), true))),
        );
        Arc::new(Schema::new(fields))
    }
}

/// Columns that are not attributes, in order.
pub fn fixed(table: Table) -> &'static [Arc<Field>] {
    static LOGS: LazyLock<Vec<Arc<Field>>> = LazyLock::new(|| fixed_fields(Table::Logs));
    static SPANS: LazyLock<Vec<Arc<Field>>> = LazyLock::new(|| fixed_fields(Table::Spans));
    match table {
        Table::Logs => &LOGS,
        Table::Spans => &SPANS,
    }
}

/// Low-cardinality text: a dictionary with 32-bit keys.
pub fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Time in microseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn fixed_fields(table: Table) -> Vec<Arc<Field>> {
    use DataType::{Boolean, FixedSizeBinary, Int16, Int32, Int64, Utf8};
    let common_front = [
        // Event time, in effect: as sent, or the arrival time where the sent one is absurd or missing.
        ("ts", timestamp(), false),
        // Nanoseconds below the microsecond, 0–999; null = 0.
        ("ns", Int16, true),
        // The sent time in nanoseconds (the bits of OTLP's fixed64) where `ts` is not it.
        ("sent_time_unix_nano", Int64, true),
        // When the hub received the record.
        ("arrival_ts", timestamp(), false),
        // Sequence number; given by the store, absent in a batch on its way in.
        ("seq", Int64, true),
        ("trace_id", FixedSizeBinary(16), true),
        ("span_id", FixedSizeBinary(8), true),
        ("flags", Int64, true),
        ("service", dictionary(), true),
        ("instance", dictionary(), true),
        // Typed JSON of the whole resource: {"attributes":{…},"dropped_attributes_count":n,"schema_url":"…"}.
        ("resource", dictionary(), true),
        // Typed JSON of the scope: {"name":…,"version":…,"attributes":{…},…}; null for an empty scope.
        ("scope", dictionary(), true),
        // Bits of `verdict`.
        ("verdict", Int64, true),
        // Typed JSON of the attributes without a column of their own; null when there are none.
        ("attrs", Utf8, true),
        ("dropped_attributes_count", Int64, true),
    ];
    let own = match table {
        Table::Logs => vec![
            ("observed_ts", timestamp(), true),
            ("observed_ns", Int16, true),
            ("severity_number", Int32, true),
            ("severity_text", dictionary(), true),
            ("event_name", dictionary(), true),
            // Text; or, where `body_json` is true, typed JSON of a body of another type.
            ("body", Utf8, true),
            ("body_json", Boolean, true),
        ],
        Table::Spans => vec![
            ("parent_span_id", FixedSizeBinary(8), true),
            ("name", dictionary(), true),
            ("kind", Int32, true),
            // End minus start in nanoseconds, as sent; may be negative.
            ("duration_ns", Int64, true),
            ("status_code", Int32, true),
            ("status_message", dictionary(), true),
            ("trace_state", dictionary(), true),
            ("events", Utf8, true),
            ("links", Utf8, true),
            ("dropped_events_count", Int64, true),
            ("dropped_links_count", Int64, true),
        ],
    };
    common_front
        .into_iter()
        .chain(own)
        .map(|(name, data_type, nullable)| Arc::new(Field::new(name, data_type, nullable)))
        .collect()
}

/// Bits of the `verdict` column. The low byte is the host's; the contract's rules follow.
pub mod verdict {
    /// The sent time was before 2000 or more than a day after arrival; `sent_time_unix_nano` has it.
    pub const TIME_ABSURD: i64 = 1;
    /// No time was sent; the observed time or the arrival time stands in.
    pub const TIME_MISSING: i64 = 1 << 1;
    /// The record was checked against the contract; without it the contract's bits say nothing.
    pub const CHECKED: i64 = 1 << 2;
    /// Something in the record was masked before it was stored.
    pub const REDACTED: i64 = 1 << 3;
    /// A rule that the record breaks puts it into quarantine.
    pub const QUARANTINED: i64 = 1 << 4;
    /// The contract's rules begin here: a bit for each.
    pub const RULES_FROM: u32 = 8;
    /// The bits of all rules.
    pub const RULES: i64 = i64::MAX << RULES_FROM & i64::MAX;
    /// The sender may not write as the record's service.
    pub const SENDER_MISMATCH: i64 = 1 << 5;
}
