//! Writes views into columns. Rows of one batch share the table, the layout and the arrival time; resources and
//! scopes are rendered once each. A column in which nothing was written is left out of the batch.

use std::hash::Hasher as _;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::{FxHashMap, FxHasher};

use crate::record::{Attribute, LogView, ResourceView, ScopeView, SpanView};
use crate::schema::{KeyType, Layout, Origin, Table, fixed, verdict};
use crate::sender::{MISNAMED_MAX, SENDER_KEY, Sender, Standing};
use crate::value::{ObjectWriter, Value, same, write_str};

/// Caps on one record. A record beyond them is refused alone.
#[derive(Clone, Copy, Debug)]
pub struct RecordLimits {
    /// Bytes of all texts of a record.
    pub record_bytes_max: usize,
    /// Attributes of a record.
    pub attributes_max: usize,
}

impl Default for RecordLimits {
    fn default() -> Self {
        Self { record_bytes_max: 4 << 20, attributes_max: 4096 }
    }
}

/// Times before this are absurd: 2000-01-01T00:00:00Z, µs.
const TIME_MIN_US: i64 = 946_684_800_000_000;
/// Times further than this after arrival are absurd: a day, µs.
const TIME_AHEAD_MAX_US: i64 = 86_400_000_000;

/// Event time in effect, with what was sent kept where it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    ts_us: i64,
    ns: i16,
    sent: Option<i64>,
    verdict: i64,
}

fn place(sent_nano: u64, fallback_nano: u64, arrival_us: i64) -> Placed {
    let sane = |nano: u64| {
        let us = i64::try_from(nano / 1000).unwrap_or(i64::MAX);
        (us >= TIME_MIN_US && us <= arrival_us.saturating_add(TIME_AHEAD_MAX_US))
            .then_some((us, (nano % 1000) as i16))
    };
    let (time, sent, verdict) = if sent_nano == 0 {
        (sane(fallback_nano), None, verdict::TIME_MISSING)
    } else {
        match sane(sent_nano) {
            Some(time) => (Some(time), None, 0),
            None => (None, Some(sent_nano as i64), verdict::TIME_ABSURD),
        }
    };
    let (ts_us, ns) = time.unwrap_or((arrival_us, 0));
    Placed { ts_us, ns, sent, verdict }
}

/// Builds one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    layout: Arc<Layout>,
    arrival_us: i64,
    limits: RecordLimits,
    rows: usize,
    bytes: usize,
    sender: Option<Sender>,
    misnamed: Vec<String>,
    keys: Keys,
    resources: Resources,
    resource: Dict,
    service: Dict,
    instance: Dict,
    scope: Dict,
    scope_key: i32,
    ts: Vec<i64>,
    ns: Sparse<i16>,
    sent: Sparse<i64>,
    verdict: Sparse<i64>,
    trace_id: Ids,
    span_id: Ids,
    flags: Sparse<i64>,
    attrs: Text,
    dropped_attributes: Sparse<i64>,
    promoted: Vec<Column>,
    observed_ts: Sparse<i64>,
    observed_ns: Sparse<i16>,
    severity_number: Sparse<i32>,
    severity_text: Dict,
    event_name: Dict,
    body: Text,
    body_json: Sparse<bool>,
    parent_span_id: Ids,
    name: Dict,
    kind: Sparse<i32>,
    duration_ns: Sparse<i64>,
    status_code: Sparse<i32>,
    status_message: Dict,
    trace_state: Dict,
    events: Text,
    links: Text,
    dropped_events: Sparse<i64>,
    dropped_links: Sparse<i64>,
}

impl BatchBuilder {
    /// An empty builder. `arrival_us` is the time of receipt in µs since the Unix epoch.
    pub fn new(layout: Arc<Layout>, arrival_us: i64, limits: RecordLimits) -> Self {
        let promoted = layout.promoted.iter().map(|p| Column::new(p.key_type)).collect();
        Self {
            layout,
            arrival_us,
            limits,
            rows: 0,
            bytes: 0,
            sender: None,
            misnamed: Vec::new(),
            keys: Keys::default(),
            resources: Resources::default(),
            resource: Dict::default(),
            service: Dict::default(),
            instance: Dict::default(),
            scope: Dict::default(),
            scope_key: NO_KEY,
            ts: Vec::new(),
            ns: Sparse::default(),
            sent: Sparse::default(),
            verdict: Sparse::default(),
            trace_id: Ids::new(16),
            span_id: Ids::new(8),
            flags: Sparse::default(),
            attrs: Text::default(),
            dropped_attributes: Sparse::default(),
            promoted,
            observed_ts: Sparse::default(),
            observed_ns: Sparse::default(),
            severity_number: Sparse::default(),
            severity_text: Dict::default(),
            event_name: Dict::default(),
            body: Text::default(),
            body_json: Sparse::default(),
            parent_span_id: Ids::new(8),
            name: Dict::default(),
            kind: Sparse::default(),
            duration_ns: Sparse::default(),
            status_code: Sparse::default(),
            status_message: Dict::default(),
            trace_state: Dict::default(),
            events: Text::default(),
            links: Text::default(),
            dropped_events: Sparse::default(),
            dropped_links: Sparse::default(),
        }
    }

    /// Says who sends the records that follow. Before the first resource.
    pub fn set_sender(&mut self, sender: Sender) {
        self.sender = Some(sender);
    }

    /// Services that the sender may not write as, of which there were records; the first
    /// [`MISNAMED_MAX`] of them.
    pub fn misnamed(&self) -> &[String] {
        &self.misnamed
    }

    /// The table.
    pub fn table(&self) -> Table {
        self.layout.table
    }

    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of text so far, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the resource of the records that follow. It counts towards each record's size only once per batch.
    #[inline]
    pub fn set_resource(&mut self, resource: &ResourceView<'_>) {
        if !self.resources.recall(resource) {
            self.new_resource(resource);
        }
    }

    /// Sets a resource that was not set before, or is not remembered.
    #[inline(never)]
    fn new_resource(&mut self, resource: &ResourceView<'_>) {
        let sender = self.sender.clone();
        let mut attributes = Vec::new();
        let mut resource = *resource;
        if let Some(sender) = &sender {
            // Nobody names another sender, or none.
            attributes.extend(resource.attributes.iter().copied().filter(|(key, _)| *key != SENDER_KEY));
            attributes.extend(sender.name.as_deref().map(|name| (SENDER_KEY, Value::Str(name))));
            resource.attributes = &attributes;
        }
        let find = |key: &str| {
            resource.attributes.iter().find_map(|(k, v)| match v {
                Value::Str(text) if *k == key => Some(*text),
                _ => None,
            })
        };
        let key = |dict: &mut Dict, text: Option<&str>| text.map_or(NO_KEY, |text| dict.intern(text));
        let columns_start = self.resources.columns.len() as u32;
        let mut set = SetResource {
            service: key(&mut self.service, find("service.name")),
            instance: key(&mut self.instance, find("service.instance.id")),
            resource: NO_KEY,
            columns: columns_start..columns_start,
            standing: self.standing(find("service.name").unwrap_or_default()),
        };
        for (index, promoted) in self.layout.promoted.iter().enumerate() {
            if promoted.origin == Origin::Resource
                && let (Some(text), Some(Column::Str(dict))) =
                    (find(&promoted.key), self.promoted.get_mut(index))
            {
                self.resources.columns.push((index, dict.intern(text)));
                set.columns.end += 1;
            }
        }
        if !resource.attributes.is_empty()
            || resource.dropped_attributes_count > 0
            || !resource.schema_url.is_empty()
        {
            let mut json = String::new();
            let mut object = ObjectWriter::new(&mut json);
            write_attributes(object.key("attributes"), resource.attributes);
            write_tail(&mut object, resource.dropped_attributes_count, resource.schema_url);
            object.end();
            self.bytes += json.len();
            set.resource = self.resource.intern(&json);
        }
        self.resources.remember(set);
    }

    /// Whether the sender may write as this service.
    fn standing(&mut self, service: &str) -> Standing {
        let standing = self.sender.as_ref().map_or(Standing::Allowed, |sender| (sender.judge)(service));
        if standing != Standing::Allowed
            && self.misnamed.len() < MISNAMED_MAX
            && !self.misnamed.iter().any(|known| known == service)
        {
            self.misnamed.push(service.to_owned());
        }
        standing
    }

    /// Sets the instrumentation scope of the records that follow.
    pub fn set_scope(&mut self, scope: &ScopeView<'_>) {
        self.scope_key = NO_KEY;
        let empty = scope.name.is_empty()
            && scope.version.is_empty()
            && scope.attributes.is_empty()
            && scope.dropped_attributes_count == 0
            && scope.schema_url.is_empty();
        if !empty {
            let mut json = String::new();
            let mut object = ObjectWriter::new(&mut json);
            object.member("name", &Value::Str(scope.name));
            if !scope.version.is_empty() {
                object.member("version", &Value::Str(scope.version));
            }
            if !scope.attributes.is_empty() {
                write_attributes(object.key("attributes"), scope.attributes);
            }
            write_tail(&mut object, scope.dropped_attributes_count, scope.schema_url);
            object.end();
            self.bytes += json.len();
            self.scope_key = self.scope.intern(&json);
        }
    }

    /// Adds a log record. `verdict` holds the contract's bits; the host's own are added here.
    ///
    /// # Errors
    /// Which field is beyond which cap, as `(field, reason)`; the batch is then unchanged.
    pub fn push_log(&mut self, log: &LogView<'_>, verdict: i64) -> Result<(), (&'static str, String)> {
        let body_bytes = match log.body {
            Value::Str(text) | Value::Json(text) => text.len(),
            Value::Bytes(bytes) => bytes.len() * 4 / 3,
            _ => 8,
        };
        self.admit(log.attributes, body_bytes + log.severity_text.len() + log.event_name.len(), "body")?;
        let row = self.rows;
        let placed = place(log.time_unix_nano, log.observed_time_unix_nano, self.arrival_us);
        self.push_common(row, placed, verdict, log.attributes, log.dropped_attributes_count, log.flags);
        if let Some(id) = log.trace_id {
            self.trace_id.set(row, &id.0);
        }
        if let Some(id) = log.span_id {
            self.span_id.set(row, &id.0);
        }
        if log.observed_time_unix_nano != 0 {
            self.observed_ts.set(row, (log.observed_time_unix_nano / 1000) as i64);
            self.observed_ns.set_unless_zero(row, (log.observed_time_unix_nano % 1000) as i16);
        }
        self.severity_number.set_unless_zero(row, log.severity_number);
        self.severity_text.set_text(row, log.severity_text);
        self.event_name.set_text(row, log.event_name);
        match log.body {
            Value::Empty => {}
            Value::Str(text) => self.body.set(row, |out| out.push_str(text)),
            other => {
                self.body.set(row, |out| other.write_json(out));
                self.body_json.set(row, true);
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Adds a span. `verdict` holds the contract's bits; the host's own are added here.
    ///
    /// # Errors
    /// Which field is beyond which cap, as `(field, reason)`; the batch is then unchanged.
    pub fn push_span(&mut self, span: &SpanView<'_>, verdict: i64) -> Result<(), (&'static str, String)> {
        let texts = span.name.len()
            + span.trace_state.len()
            + span.status_message.len()
            + span.events_json.len()
            + span.links_json.len();
        self.admit(span.attributes, texts, "events")?;
        let row = self.rows;
        let placed = place(span.start_time_unix_nano, span.end_time_unix_nano, self.arrival_us);
        self.push_common(row, placed, verdict, span.attributes, span.dropped_attributes_count, span.flags);
        self.trace_id.set(row, &span.trace_id.0);
        self.span_id.set(row, &span.span_id.0);
        if let Some(id) = span.parent_span_id {
            self.parent_span_id.set(row, &id.0);
        }
        self.name.set_text(row, span.name);
        self.kind.set_unless_zero(row, span.kind);
        self.duration_ns.set(row, span.end_time_unix_nano.wrapping_sub(span.start_time_unix_nano) as i64);
        self.status_code.set_unless_zero(row, span.status_code);
        self.status_message.set_text(row, span.status_message);
        self.trace_state.set_text(row, span.trace_state);
        if !span.events_json.is_empty() {
            self.events.set(row, |out| out.push_str(span.events_json));
        }
        if !span.links_json.is_empty() {
            self.links.set(row, |out| out.push_str(span.links_json));
        }
        self.dropped_events.set_unless_zero(row, i64::from(span.dropped_events_count));
        self.dropped_links.set_unless_zero(row, i64::from(span.dropped_links_count));
        self.rows += 1;
        Ok(())
    }

    fn admit(
        &mut self,
        attributes: &[Attribute<'_>],
        texts: usize,
        texts_field: &'static str,
    ) -> Result<(), (&'static str, String)> {
        if let Standing::Refused(reason) = &self.resources.current.standing {
            return Err(("resource.service.name", reason.clone()));
        }
        if attributes.len() > self.limits.attributes_max {
            let reason = format!(
                "{} attributes, at most {} are taken: send fewer",
                attributes.len(),
                self.limits.attributes_max
            );
            return Err(("attributes", reason));
        }
        let in_attributes: usize = attributes
            .iter()
            .map(|(key, value)| {
                key.len()
                    + match value {
                        Value::Str(text) | Value::Json(text) => text.len(),
                        Value::Bytes(bytes) => bytes.len() * 4 / 3,
                        _ => 8,
                    }
            })
            .sum();
        let bytes = texts + in_attributes;
        if bytes > self.limits.record_bytes_max {
            let field = if in_attributes > texts { "attributes" } else { texts_field };
            let reason = format!(
                "the record has {bytes} bytes, at most {} are taken: shorten it",
                self.limits.record_bytes_max
            );
            return Err((field, reason));
        }
        self.bytes += bytes + 64;
        Ok(())
    }

    fn push_common(
        &mut self,
        row: usize,
        placed: Placed,
        verdict: i64,
        attributes: &[Attribute<'_>],
        dropped_attributes_count: u32,
        flags: u32,
    ) {
        self.ts.push(placed.ts_us);
        self.ns.set_unless_zero(row, placed.ns);
        if let Some(sent) = placed.sent {
            self.sent.set(row, sent);
        }
        let misnamed = match self.resources.current.standing {
            Standing::Allowed => 0,
            _ => verdict::SENDER_MISMATCH,
        };
        self.verdict.set_unless_zero(row, verdict | placed.verdict | misnamed);
        self.flags.set_unless_zero(row, i64::from(flags));
        self.dropped_attributes.set_unless_zero(row, i64::from(dropped_attributes_count));
        self.scope.set_key(row, self.scope_key);
        let set = &self.resources.current;
        self.resource.set_key(row, set.resource);
        self.service.set_key(row, set.service);
        self.instance.set_key(row, set.instance);
        let columns = set.columns.start as usize..set.columns.end as usize;
        for &(index, key) in self.resources.columns.get(columns).unwrap_or_default() {
            if let Some(Column::Str(dict)) = self.promoted.get_mut(index) {
                dict.set_key(row, key);
            }
        }
        let mut rest = 0;
        for (position, (key, value)) in attributes.iter().enumerate() {
            let known = self.keys.find(position, key, &self.layout);
            let column = known.column.and_then(|column| self.promoted.get_mut(column));
            if column.is_some_and(|column| column.set(row, value)) {
                continue;
            }
            if rest == 0 {
                self.attrs.begin(row);
            }
            let out = &mut self.attrs.bytes;
            out.push(if rest == 0 { '{' } else { ',' });
            match known.json {
                Some(json) => out.push_str(json),
                None => {
                    write_str(out, key);
                    out.push(':');
                }
            }
            value.write_json(out);
            rest += 1;
        }
        if rest > 0 {
            self.attrs.bytes.push('}');
            self.attrs.end();
        }
    }

    /// The batch; `None` when no record was added.
    ///
    /// # Errors
    /// Only when Arrow refuses the columns, which is a bug here.
    pub fn finish(self) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = self.rows;
        if rows == 0 {
            return Ok(None);
        }
        let mut columns = Columns { rows, fields: Vec::new(), arrays: Vec::new() };
        let timestamps = |values: Vec<i64>| TimestampMicrosecondArray::from(values).with_timezone("UTC");
        let mut made: FxHashMap<&'static str, Option<ArrayRef>> = FxHashMap::default();
        made.insert("ts", Some(Arc::new(timestamps(self.ts))));
        made.insert("arrival_ts", Some(Arc::new(timestamps(vec![self.arrival_us; rows]))));
        made.insert("ns", self.ns.int16(rows));
        made.insert("sent_time_unix_nano", self.sent.int64(rows));
        made.insert("trace_id", self.trace_id.finish(rows)?);
        made.insert("span_id", self.span_id.finish(rows)?);
        made.insert("flags", self.flags.int64(rows));
        made.insert("service", self.service.finish(rows)?);
        made.insert("instance", self.instance.finish(rows)?);
        made.insert("resource", self.resource.finish(rows)?);
        made.insert("scope", self.scope.finish(rows)?);
        made.insert("verdict", self.verdict.int64(rows));
        made.insert("attrs", self.attrs.finish(rows)?);
        made.insert("dropped_attributes_count", self.dropped_attributes.int64(rows));
        match self.layout.table {
            Table::Logs => {
                made.insert("observed_ts", self.observed_ts.timestamp(rows));
                made.insert("observed_ns", self.observed_ns.int16(rows));
                made.insert("severity_number", self.severity_number.int32(rows));
                made.insert("severity_text", self.severity_text.finish(rows)?);
                made.insert("event_name", self.event_name.finish(rows)?);
                made.insert("body", self.body.finish(rows)?);
                made.insert("body_json", self.body_json.boolean(rows));
            }
            Table::Spans => {
                made.insert("parent_span_id", self.parent_span_id.finish(rows)?);
                made.insert("name", self.name.finish(rows)?);
                made.insert("kind", self.kind.int32(rows));
                made.insert("duration_ns", self.duration_ns.int64(rows));
                made.insert("status_code", self.status_code.int32(rows));
                made.insert("status_message", self.status_message.finish(rows)?);
                made.insert("trace_state", self.trace_state.finish(rows)?);
                made.insert("events", self.events.finish(rows)?);
                made.insert("links", self.links.finish(rows)?);
                made.insert("dropped_events_count", self.dropped_events.int64(rows));
                made.insert("dropped_links_count", self.dropped_links.int64(rows));
            }
        }
        for field in fixed(self.layout.table) {
            if let Some(Some(array)) = made.remove(field.name().as_str()) {
                columns.add(field, array);
            }
        }
        for (key, column) in self.layout.promoted.iter().zip(self.promoted) {
            if let Some(array) = column.finish(rows)? {
                let field = Arc::new(Field::new(key.key.as_ref(), key.key_type.data_type(), true));
                columns.add(&field, array);
            }
        }
        columns.batch().map(Some)
    }
}

fn write_attributes(out: &mut String, attributes: &[Attribute<'_>]) {
    let mut object = ObjectWriter::new(out);
    for (key, value) in attributes {
        object.member(key, value);
    }
    object.end();
}

fn write_tail(object: &mut ObjectWriter<'_>, dropped_attributes_count: u32, schema_url: &str) {
    if dropped_attributes_count > 0 {
        object.member("dropped_attributes_count", &Value::Int(i64::from(dropped_attributes_count)));
    }
    if !schema_url.is_empty() {
        object.member("schema_url", &Value::Str(schema_url));
    }
}

struct Columns {
    rows: usize,
    fields: Vec<Arc<Field>>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn add(&mut self, field: &Arc<Field>, array: ArrayRef) {
        debug_assert_eq!(array.len(), self.rows, "{}", field.name());
        self.fields.push(Arc::clone(field));
        self.arrays.push(array);
    }

    fn batch(self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)
    }
}

/// How many resources of a batch are remembered.
const RESOURCES_MAX: usize = 4096;
/// Prints beyond this length are not.
const RESOURCE_PRINT_BYTES_MAX: usize = 1024;

/// Resources that were set in this batch. Lines of many sources come mixed, each with its resource; a resource that was
/// set before is recalled by its *print*, an encoding that no other resource has.
#[derive(Debug, Default)]
struct Resources {
    current: SetResource,
    /// The print of the current one.
    print: Vec<u8>,
    print_hash: u64,
    /// (Promoted column, dictionary key) of all.
    columns: Vec<(usize, i32)>,
    known: Vec<KnownResource>,
    index: HashTable<u32>,
    /// The prints of the known ones.
    prints: Vec<u8>,
}

/// Dictionary keys of a resource.
#[derive(Clone, Debug)]
struct SetResource {
    service: i32,
    instance: i32,
    resource: i32,
    columns: Range<u32>,
    standing: Standing,
}

impl Default for SetResource {
    fn default() -> Self {
        Self { service: NO_KEY, instance: NO_KEY, resource: NO_KEY, columns: 0..0, standing: Standing::Allowed }
    }
}

#[derive(Debug)]
struct KnownResource {
    hash: u64,
    print: Range<u32>,
    set: SetResource,
}

impl Resources {
    /// Makes a resource the current one, if it was set before.
    fn recall(&mut self, resource: &ResourceView<'_>) -> bool {
        print_of(resource, &mut self.print);
        let mut hasher = FxHasher::default();
        hasher.write(&self.print);
        self.print_hash = hasher.finish();
        let (known, prints, print) = (&self.known, &self.prints, self.print.as_slice());
        let same = |at: &u32| {
            known.get(*at as usize).is_some_and(|known| {
                prints.get(known.print.start as usize..known.print.end as usize) == Some(print)
            })
        };
        let found = self.index.find(self.print_hash, same).and_then(|at| known.get(*at as usize));
        if let Some(found) = found {
            self.current = found.set.clone();
        }
        found.is_some()
    }

    /// Makes the resource whose print was looked for in vain the current one.
    fn remember(&mut self, set: SetResource) {
        self.current = set.clone();
        if self.known.len() < RESOURCES_MAX && self.print.len() <= RESOURCE_PRINT_BYTES_MAX {
            let start = self.prints.len() as u32;
            self.prints.extend_from_slice(&self.print);
            let (hash, print) = (self.print_hash, start..self.prints.len() as u32);
            let known = &mut self.known;
            let hash_of = |at: &u32| known.get(*at as usize).map_or(0, |known| known.hash);
            self.index.insert_unique(hash, known.len() as u32, hash_of);
            known.push(KnownResource { hash, print, set });
        }
    }
}

/// Writes the print. Texts end with a byte that UTF-8 does not have.
#[inline]
fn print_of(resource: &ResourceView<'_>, out: &mut Vec<u8>) {
    const END: u8 = 0xff;
    out.clear();
    for (key, value) in resource.attributes {
        out.extend_from_slice(key.as_bytes());
        out.push(END);
        match value {
            Value::Str(text) => out.extend_from_slice(text.as_bytes()),
            other => print_other(other, out),
        }
        out.push(END);
    }
    if resource.dropped_attributes_count > 0 || !resource.schema_url.is_empty() {
        out.push(END);
        out.extend_from_slice(&resource.dropped_attributes_count.to_le_bytes());
        out.extend_from_slice(resource.schema_url.as_bytes());
    }
}

/// A value that is no text: a byte that UTF-8 does not have, and its typed JSON, which tells the types apart.
#[inline(never)]
fn print_other(value: &Value<'_>, out: &mut Vec<u8>) {
    let mut json = String::new();
    value.write_json(&mut json);
    out.push(0xfe);
    out.extend_from_slice(json.as_bytes());
}

/// How many attribute keys of a batch are remembered.
const KEYS_MAX: usize = 1024;

/// Attribute keys seen in this batch. Records of one source have the same keys in the same order, so the key that
/// stood at a position last time is tried first.
#[derive(Debug, Default)]
struct Keys {
    known: Vec<Key>,
    index: HashTable<u32>,
    /// By position: the key there last time.
    recent: Vec<u32>,
}

#[derive(Debug)]
struct Key {
    /// The key as a JSON string with a colon; the key itself when that needs no escapes.
    json: String,
    /// The key, where `json` has it escaped.
    escaped: Option<String>,
    column: Option<usize>,
}

/// What is known of a key.
#[derive(Clone, Copy)]
struct Known<'k> {
    /// Its column, of a record's attribute.
    column: Option<usize>,
    /// The key as a JSON string with a colon.
    json: Option<&'k str>,
}

impl Key {
    fn new(key: &str, layout: &Layout) -> Key {
        let mut json = String::with_capacity(key.len() + 3);
        write_str(&mut json, key);
        json.push(':');
        let escaped = (json.len() != key.len() + 3).then(|| key.to_owned());
        Key { json, escaped, column: promoted_column(layout, key) }
    }

    #[inline]
    fn text(&self) -> &str {
        match &self.escaped {
            Some(key) => key,
            None => self.json.get(1..self.json.len() - 2).unwrap_or_default(),
        }
    }
}

fn promoted_column(layout: &Layout, key: &str) -> Option<usize> {
    layout.promoted.iter().position(|p| p.origin == Origin::Record && *p.key == *key)
}

impl Keys {
    #[inline]
    fn find(&mut self, position: usize, key: &str, layout: &Layout) -> Known<'_> {
        let recent = self.recent.get(position).copied().unwrap_or(u32::MAX) as usize;
        let at = match self.known.get(recent) {
            Some(known) if same(known.text().as_bytes(), key.as_bytes()) => recent,
            _ => match self.find_slow(position, key, layout) {
                Some(at) => at,
                None => return Known { column: promoted_column(layout, key), json: None },
            },
        };
        match self.known.get(at) {
            Some(known) => Known { column: known.column, json: Some(&known.json) },
            None => Known { column: None, json: None },
        }
    }

    /// Where the key is in `known`; `None` when there are too many.
    fn find_slow(&mut self, position: usize, key: &str, layout: &Layout) -> Option<usize> {
        let known = &mut self.known;
        let text = |at: &u32| known.get(*at as usize).map(Key::text).unwrap_or_default();
        let at = match self.index.entry(hash(key), |at| text(at) == key, |at| hash(text(at))) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) if known.len() >= KEYS_MAX => return None,
            Entry::Vacant(entry) => {
                let at = known.len() as u32;
                entry.insert(at);
                known.push(Key::new(key, layout));
                at
            }
        };
        if self.recent.len() <= position {
            self.recent.resize(position + 1, u32::MAX);
        }
        if let Some(recent) = self.recent.get_mut(position) {
            *recent = at;
        }
        Some(at as usize)
    }
}

/// Marks a null in a dictionary column.
const NO_KEY: i32 = -1;

/// A dictionary column under construction. Rows never set are null.
#[derive(Debug, Default)]
struct Dict {
    keys: Vec<i32>,
    /// The distinct values one after the other, and where each ends.
    text: String,
    ends: Vec<i32>,
    known: HashTable<i32>,
    last: i32,
}

fn hash(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// The value behind a dictionary key.
#[inline]
fn dict_value<'a>(text: &'a str, ends: &[i32], key: i32) -> Option<&'a str> {
    let key = key as usize;
    let end = *ends.get(key)? as usize;
    let start = key.checked_sub(1).and_then(|before| ends.get(before)).map_or(0, |start| *start as usize);
    text.get(start..end)
}

impl Dict {
    #[inline]
    fn intern(&mut self, text: &str) -> i32 {
        let last = dict_value(&self.text, &self.ends, self.last);
        if !last.is_some_and(|last| same(last.as_bytes(), text.as_bytes())) {
            self.last = self.intern_slow(text);
        }
        self.last
    }

    fn intern_slow(&mut self, text: &str) -> i32 {
        let (values, ends) = (&mut self.text, &mut self.ends);
        let hash_of = |key: &i32| hash(dict_value(values, ends, *key).unwrap_or_default());
        let same_text = |key: &i32| {
            dict_value(values, ends, *key).is_some_and(|known| same(known.as_bytes(), text.as_bytes()))
        };
        match self.known.entry(hash(text), same_text, hash_of) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let key = ends.len() as i32;
                entry.insert(key);
                values.push_str(text);
                // A sum beyond 31 bits is refused in `finish`.
                ends.push(values.len() as i32);
                key
            }
        }
    }

    #[inline]
    fn set_key(&mut self, row: usize, key: i32) {
        if key != NO_KEY {
            if self.keys.len() < row {
                self.keys.resize(row, NO_KEY);
            }
            self.keys.push(key);
        }
    }

    #[inline]
    fn set_text(&mut self, row: usize, text: &str) {
        if !text.is_empty() {
            let key = self.intern(text);
            self.set_key(row, key);
        }
    }

    fn finish(mut self, rows: usize) -> Result<Option<ArrayRef>, ArrowError> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        self.keys.resize(rows, NO_KEY);
        let nulls = if self.keys.contains(&NO_KEY) {
            let valid: NullBuffer = self.keys.iter().map(|&key| key != NO_KEY).collect();
            for key in &mut self.keys {
                *key = (*key).max(0);
            }
            Some(valid)
        } else {
            None
        };
        let keys = Int32Array::try_new(self.keys.into(), nulls)?;
        let values = string_array(self.text, &self.ends, None)?;
        Ok(Some(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values))?)))
    }
}

/// Texts one after the other, and where each ends, as an array.
fn string_array(text: String, ends: &[i32], nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
    if i32::try_from(text.len()).is_err() {
        return Err(ArrowError::OffsetOverflowError(text.len()));
    }
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend_from_slice(ends);
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, Buffer::from_vec(text.into_bytes()), nulls)
}

/// A plain column under construction. Rows never set are null.
#[derive(Debug, Default)]
struct Sparse<T> {
    values: Vec<T>,
    valid: Vec<bool>,
}

impl<T: Copy + Default + PartialEq> Sparse<T> {
    #[inline]
    fn set(&mut self, row: usize, value: T) {
        if self.values.len() < row {
            self.values.resize(row, T::default());
            self.valid.resize(row, false);
        }
        self.values.push(value);
        self.valid.push(true);
    }

    #[inline]
    fn set_unless_zero(&mut self, row: usize, value: T) {
        if value != T::default() {
            self.set(row, value);
        }
    }

    fn parts(mut self, rows: usize) -> Option<(Vec<T>, Option<NullBuffer>)> {
        if self.values.is_empty() {
            return None;
        }
        self.values.resize(rows, T::default());
        self.valid.resize(rows, false);
        let valid = NullBuffer::from(self.valid);
        Some((self.values, (valid.null_count() > 0).then_some(valid)))
    }
}

impl Sparse<i64> {
    fn int64(self, rows: usize) -> Option<ArrayRef> {
        let (values, nulls) = self.parts(rows)?;
        Some(Arc::new(Int64Array::new(values.into(), nulls)))
    }

    fn timestamp(self, rows: usize) -> Option<ArrayRef> {
        let (values, nulls) = self.parts(rows)?;
        Some(Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC")))
    }
}

impl Sparse<i32> {
    fn int32(self, rows: usize) -> Option<ArrayRef> {
        let (values, nulls) = self.parts(rows)?;
        Some(Arc::new(Int32Array::new(values.into(), nulls)))
    }
}

impl Sparse<i16> {
    fn int16(self, rows: usize) -> Option<ArrayRef> {
        let (values, nulls) = self.parts(rows)?;
        Some(Arc::new(Int16Array::new(values.into(), nulls)))
    }
}

impl Sparse<bool> {
    fn boolean(self, rows: usize) -> Option<ArrayRef> {
        let (values, nulls) = self.parts(rows)?;
        Some(Arc::new(BooleanArray::new(values.into(), nulls)))
    }
}

/// A text column under construction. Rows never set are null.
#[derive(Debug, Default)]
struct Text {
    bytes: String,
    ends: Vec<i32>,
    valid: Vec<bool>,
}

impl Text {
    #[inline]
    fn begin(&mut self, row: usize) {
        if self.ends.len() < row {
            let end = self.ends.last().copied().unwrap_or(0);
            self.ends.resize(row, end);
            self.valid.resize(row, false);
        }
    }

    fn end(&mut self) {
        self.ends.push(self.bytes.len() as i32);
        self.valid.push(true);
    }

    fn set(&mut self, row: usize, write: impl FnOnce(&mut String)) {
        self.begin(row);
        write(&mut self.bytes);
        self.end();
    }

    fn finish(mut self, rows: usize) -> Result<Option<ArrayRef>, ArrowError> {
        if self.ends.is_empty() {
            return Ok(None);
        }
        self.begin(rows);
        let valid = NullBuffer::from(self.valid);
        let nulls = (valid.null_count() > 0).then_some(valid);
        Ok(Some(Arc::new(string_array(self.bytes, &self.ends, nulls)?)))
    }
}

/// An id column under construction. Rows never set are null.
#[derive(Debug)]
struct Ids {
    width: usize,
    bytes: Vec<u8>,
    valid: Vec<bool>,
}

impl Ids {
    fn new(width: usize) -> Self {
        Self { width, bytes: Vec::new(), valid: Vec::new() }
    }

    #[inline]
    fn set(&mut self, row: usize, id: &[u8]) {
        if self.valid.len() < row {
            self.bytes.resize(row * self.width, 0);
            self.valid.resize(row, false);
        }
        self.bytes.extend_from_slice(id);
        self.valid.push(true);
    }

    fn finish(mut self, rows: usize) -> Result<Option<ArrayRef>, ArrowError> {
        if self.valid.is_empty() {
            return Ok(None);
        }
        self.bytes.resize(rows * self.width, 0);
        self.valid.resize(rows, false);
        let valid = NullBuffer::from(self.valid);
        let nulls = (valid.null_count() > 0).then_some(valid);
        let array = FixedSizeBinaryArray::try_new(self.width as i32, Buffer::from_vec(self.bytes), nulls)?;
        Ok(Some(Arc::new(array)))
    }
}

/// A promoted column under construction.
#[derive(Debug)]
enum Column {
    Str(Dict),
    Int(Sparse<i64>),
    Double(Sparse<f64>),
    Bool(Sparse<bool>),
}

impl Column {
    fn new(key_type: KeyType) -> Self {
        match key_type {
            KeyType::Str => Column::Str(Dict::default()),
            KeyType::Int => Column::Int(Sparse::default()),
            KeyType::Double => Column::Double(Sparse::default()),
            KeyType::Bool => Column::Bool(Sparse::default()),
        }
    }

    /// Takes the value if its type fits and the row has none yet.
    fn set(&mut self, row: usize, value: &Value<'_>) -> bool {
        match (self, value) {
            (Column::Str(column), Value::Str(text)) if column.keys.len() <= row => {
                let key = column.intern(text);
                column.set_key(row, key);
            }
            (Column::Int(column), Value::Int(int)) if column.values.len() <= row => column.set(row, *int),
            (Column::Double(column), Value::Double(double)) if column.values.len() <= row => {
                column.set(row, *double);
            }
            (Column::Bool(column), Value::Bool(bool)) if column.values.len() <= row => column.set(row, *bool),
            _ => return false,
        }
        true
    }

    fn finish(self, rows: usize) -> Result<Option<ArrayRef>, ArrowError> {
        Ok(match self {
            Column::Str(column) => column.finish(rows)?,
            Column::Int(column) => column.int64(rows),
            Column::Double(column) => {
                column.parts(rows).map(|(values, nulls)| Arc::new(Float64Array::new(values.into(), nulls)) as _)
            }
            Column::Bool(column) => column.boolean(rows),
        })
    }
}

/// Whether a column of a batch has the type its table gives it.
pub fn column_type_fits(table: Table, name: &str, data_type: &DataType) -> bool {
    fixed(table).iter().find(|field| field.name() == name).is_none_or(|field| field.data_type() == data_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Batch;
    use crate::id::TraceId;

    const ARRIVAL: i64 = 1_700_000_000_000_000;

    #[test]
    fn time_is_kept_or_flagged() {
        for (name, sent, fallback, ts, ns, kept, bits) in [
            ("sane", 1_675_000_000_123_456_789, 0, 1_675_000_000_123_456, 789, None, 0),
            ("zero", 0, 1_675_000_000_000_000_001, 1_675_000_000_000_000, 1, None, verdict::TIME_MISSING),
            ("zero both", 0, 0, ARRIVAL, 0, None, verdict::TIME_MISSING),
            ("negative", (-5i64) as u64, 1_675_000_000_000_000_000, ARRIVAL, 0, Some(-5), verdict::TIME_ABSURD),
            ("1970", 1, 0, ARRIVAL, 0, Some(1), verdict::TIME_ABSURD),
            (
                "far",
                1_900_000_000_000_000_000,
                0,
                ARRIVAL,
                0,
                Some(1_900_000_000_000_000_000),
                verdict::TIME_ABSURD,
            ),
        ] {
            let want = Placed { ts_us: ts, ns, sent: kept, verdict: bits };
            assert_eq!(place(sent, fallback, ARRIVAL), want, "{name}");
        }
    }

    #[test]
    fn attributes_go_to_their_column_or_to_attrs() {
        let layout = Arc::new(Layout::base(Table::Logs));
        let mut builder = BatchBuilder::new(layout, ARRIVAL, RecordLimits::default());
        builder.set_resource(&ResourceView {
            attributes: &[("service.name", Value::Str("shop")), ("k8s.pod.name", Value::Str("shop-1"))],
            ..ResourceView::default()
        });
        let attributes = [
            ("http.response.status_code", Value::Int(404)),
            ("http.response.status_code", Value::Int(405)),
            ("url.path", Value::Bool(true)),
            ("x", Value::Json("[1]")),
        ];
        let log = LogView {
            body: Value::Str("hello"),
            attributes: &attributes,
            trace_id: TraceId::from_bytes(&[1; 16]),
            ..LogView::default()
        };
        builder.push_log(&LogView::default(), 0).unwrap();
        builder.push_log(&log, 0).unwrap();
        let batch = builder.finish().unwrap().unwrap();
        let batch = Batch::new(&batch);
        assert_eq!(batch.str("service").get(1), Some("shop"));
        assert_eq!(batch.str("k8s.pod.name").get(0), Some("shop-1"));
        assert_eq!(batch.int("http.response.status_code").get(1), Some(404));
        assert_eq!(batch.int("http.response.status_code").get(0), None);
        assert_eq!(batch.str("url.path").get(1), None);
        assert_eq!(batch.str("attrs").get(0), None);
        assert_eq!(
            batch.str("attrs").get(1),
            Some("{\"http.response.status_code\":405,\"url.path\":true,\"x\":[1]}")
        );
        assert_eq!(batch.str("body").get(0), None);
        assert_eq!(batch.trace_id(0), None);
        assert_eq!(batch.trace_id(1), TraceId::from_bytes(&[1; 16]));
        assert!(batch.record_batch().column_by_name("severity_text").is_none());
    }

    #[test]
    fn a_record_beyond_a_cap_is_refused_alone() {
        let layout = Arc::new(Layout::base(Table::Logs));
        let limits = RecordLimits { record_bytes_max: 100, attributes_max: 1 };
        let mut builder = BatchBuilder::new(layout, ARRIVAL, limits);
        let long = "x".repeat(101);
        let log = LogView { body: Value::Str(&long), ..LogView::default() };
        assert_eq!(builder.push_log(&log, 0).unwrap_err().0, "body");
        let two = [("a", Value::Empty), ("b", Value::Empty)];
        let log = LogView { attributes: &two, ..LogView::default() };
        assert_eq!(builder.push_log(&log, 0).unwrap_err().0, "attributes");
        builder.push_log(&LogView::default(), 0).unwrap();
        assert_eq!(builder.finish().unwrap().unwrap().num_rows(), 1);
    }

    #[test]
    fn a_sender_is_named_and_writes_as_itself_only() {
        let judge = |service: &str| match service {
            "shop" => Standing::Allowed,
            "cart" => Standing::Flagged,
            _ => Standing::Refused("not yours".to_owned()),
        };
        let mut builder =
            BatchBuilder::new(Arc::new(Layout::base(Table::Logs)), ARRIVAL, RecordLimits::default());
        builder.set_sender(Sender { name: Some("me".into()), judge: Arc::new(judge) });
        for (service, want) in
            [("shop", Ok(())), ("cart", Ok(())), ("pay", Err("resource.service.name")), ("shop", Ok(()))]
        {
            let attributes = [("service.name", Value::Str(service)), (SENDER_KEY, Value::Str("somebody else"))];
            builder.set_resource(&ResourceView { attributes: &attributes, ..ResourceView::default() });
            let pushed = builder
                .push_log(&LogView { time_unix_nano: 1_675_000_000_000_000_000, ..LogView::default() }, 0);
            assert_eq!(pushed.map_err(|(field, _)| field), want, "{service}");
        }
        assert_eq!(builder.misnamed(), ["cart", "pay"]);
        let batch = builder.finish().unwrap().unwrap();
        let columns = crate::columns::Batch::new(&batch);
        let verdicts: Vec<_> = (0..3).map(|row| columns.int("verdict").get(row).unwrap_or(0)).collect();
        assert_eq!(verdicts, [0, verdict::SENDER_MISMATCH, 0]);
        let resource = columns.str("resource").get(0).unwrap().to_owned();
        assert!(
            resource.contains(r#""threadline.sender":"me""#) && !resource.contains("somebody"),
            "{resource}"
        );
    }
}
