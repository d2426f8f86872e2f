//! The values of a record's fields, out of a batch's columns, its `attrs` and its resource.
//!
//! Field names are OpenTelemetry's. Those that are not attributes: `body`, `event_name`, `severity_number`,
//! `severity_text` of log records; `name`, `kind` (number), `span.kind` (word), `duration_ns`, `status_code`,
//! `status_message`, `parent_span_id`, `events`, `links` of spans; `timestamp`, `trace_id`, `span_id` of both;
//! `service.name` and `service.instance.id` are columns. `a.b` is the attribute `a.b`, and `b` inside a map `a`. What a
//! body that is a map has counts as attributes. `event_name`, `severity_number` and the `kind` of spans are never attributes.
//! `url.original` is made of `url.path` and `url.query` where it is not sent.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, BooleanArray, FixedSizeBinaryArray, Float64Array, RecordBatch};
use arrow_schema::DataType;
use rustc_hash::FxHashMap;
use threadline_model::columns::{Batch, IntColumn, StrColumn};
use threadline_model::id::hex;
use threadline_model::schema::Table;
use threadline_model::value::{self, Raw};

use crate::text;

/// A field's number in a [`Names`]. [`KEYWORD`] stands for any value.
pub(crate) type FieldId = u32;

/// The pseudo-field of keywords.
pub(crate) const KEYWORD: FieldId = 0;

/// How deep maps in attributes are looked into.
const DEPTH_MAX: usize = 16;
/// Values of one record that are looked at, at most.
const VALUES_MAX: usize = 4096;

/// Fields that rules name.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    ids: FxHashMap<Box<str>, Known>,
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    field: Option<FieldId>,
    /// A longer name begins with this one and a dot.
    is_prefix: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self { ids: FxHashMap::default(), names: vec![String::new()] }
    }
}

impl Names {
    /// The number of a field, new or not.
    pub(crate) fn intern(&mut self, name: &str) -> FieldId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = self.names.len() as FieldId;
        self.names.push(name.to_owned());
        self.ids.entry(name.into()).or_default().field = Some(id);
        for (dot, _) in name.match_indices('.') {
            self.ids.entry(name.get(..dot).unwrap_or_default().into()).or_default().is_prefix = true;
        }
        id
    }

    pub(crate) fn find(&self, name: &str) -> Option<FieldId> {
        self.ids.get(name)?.field
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn hash(&self, hasher: &mut impl std::hash::Hasher) {
        std::hash::Hash::hash(&self.names, hasher);
    }
}

/// A value of a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Val<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Id(&'a [u8]),
}

impl Val<'_> {
    /// As rules compare it.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Val::Text(text) => Cow::Borrowed(text),
            Val::Int(int) => Cow::Owned(int.to_string()),
            Val::Double(double) => Cow::Owned(text::number_text(*double)),
            Val::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Val::Id(bytes) => Cow::Owned(hex(bytes)),
        }
    }

    /// As a number, if it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Val::Int(int) => Some(*int as f64),
            Val::Double(double) => Some(*double).filter(|double| double.is_finite()),
            Val::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Val::Bool(_) | Val::Id(_) => None,
        }
    }
}

/// Where a column's values come from.
#[derive(Clone, Debug)]
pub(crate) enum Source<'a> {
    Str(StrColumn<'a>),
    Int(IntColumn<'a>),
    /// Span kinds as words.
    Kind(IntColumn<'a>),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Ids(&'a FixedSizeBinaryArray),
    /// Bodies, which may be typed JSON.
    Body(StrColumn<'a>, Option<&'a BooleanArray>),
}

/// A column that rules look at.
#[derive(Clone, Debug)]
pub(crate) struct Column<'a> {
    /// The field it is; [`KEYWORD`] when only keywords look at it.
    pub(crate) field: FieldId,
    /// Whether keywords look at it.
    pub(crate) keywords: bool,
    pub(crate) source: Source<'a>,
}

/// Columns of records that are no attributes: field name -> column name.
const FIXED: [(&str, &str); 20] = [
    ("service.name", "service"),
    ("service.instance.id", "instance"),
    ("timestamp", "ts"),
    ("trace_id", "trace_id"),
    ("span_id", "span_id"),
    ("body", "body"),
    ("event_name", "event_name"),
    ("severity_number", "severity_number"),
    ("severity_text", "severity_text"),
    ("name", "name"),
    ("kind", "kind"),
    ("span.kind", "kind"),
    ("duration_ns", "duration_ns"),
    ("status_code", "status_code"),
    ("status_message", "status_message"),
    ("parent_span_id", "parent_span_id"),
    ("trace_state", "trace_state"),
    ("events", "events"),
    ("links", "links"),
    ("flags", "flags"),
];

/// Fixed columns that keywords look at.
const KEYWORD_COLUMNS: [&str; 4] = ["body", "event_name", "name", "status_message"];

pub(crate) const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];

/// Fields that are what their column says: an attribute of the name, which any sender can send, does not count.
pub(crate) const RESERVED: [(Table, &str); 4] = [
    (Table::Logs, "event_name"),
    (Table::Logs, "severity_number"),
    (Table::Logs, "body"),
    (Table::Spans, "kind"),
];

/// Columns of a table that a field is, and that are no attributes.
pub(crate) fn fixed_columns(table: Table, field: &str) -> impl Iterator<Item = &'static str> {
    let of_field = FIXED.iter().filter(move |(name, column)| *name == field && is_fixed(table, column));
    of_field.map(|(_, column)| *column)
}

/// Whether attributes of this name may have a column.
pub(crate) fn is_attribute(table: Table, field: &str) -> bool {
    !is_fixed(table, field)
}

/// Columns of a batch that are not attributes and not read as such.
fn is_fixed(table: Table, name: &str) -> bool {
    threadline_model::schema::fixed(table).iter().any(|field| field.name() == name)
}

/// The columns of a batch that matter.
pub(crate) fn columns<'a>(
    names: &Names,
    batch: &'a RecordBatch,
    table: Table,
    keywords: bool,
) -> Vec<Column<'a>> {
    let view = Batch::new(batch);
    let mut out = Vec::new();
    for (field, column) in FIXED {
        let searched = keywords && KEYWORD_COLUMNS.contains(&column);
        let id = names.find(field);
        if id.is_none() && !searched {
            continue;
        }
        let Some(array) = batch.column_by_name(column).filter(|_| is_fixed(table, column)) else { continue };
        let source = match column {
            "body" => Source::Body(
                view.str("body"),
                batch.column_by_name("body_json").and_then(|a| a.as_boolean_opt()),
            ),
            "kind" if field == "span.kind" => Source::Kind(view.int("kind")),
            _ => match source(view, column, array) {
                Some(source) => source,
                None => continue,
            },
        };
        out.push(Column { field: id.unwrap_or(KEYWORD), keywords: searched, source });
    }
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let name = field.name().as_str();
        if is_fixed(table, name) {
            continue;
        }
        let id = names.find(name);
        if (id.is_some() || keywords)
            && let Some(source) = source(view, name, array)
        {
            out.push(Column { field: id.unwrap_or(KEYWORD), keywords, source });
        }
    }
    out
}

fn source<'a>(view: Batch<'a>, name: &str, array: &'a dyn Array) -> Option<Source<'a>> {
    Some(match array.data_type() {
        DataType::Utf8 | DataType::Dictionary(..) => Source::Str(view.str(name)),
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) => {
            Source::Int(view.int(name))
        }
        DataType::Float64 => Source::Double(array.as_primitive_opt::<Float64Type>()?),
        DataType::Boolean => Source::Bool(array.as_boolean_opt()?),
        DataType::FixedSizeBinary(_) => Source::Ids(array.as_fixed_size_binary_opt()?),
        _ => return None,
    })
}

impl<'a> Source<'a> {
    /// The value of a row.
    pub(crate) fn get(&self, row: usize) -> Option<Val<'a>> {
        match self {
            Source::Str(column) => column.get(row).map(|text| Val::Text(Cow::Borrowed(text))),
            Source::Int(column) => column.get(row).map(Val::Int),
            Source::Kind(column) => {
                let kind = usize::try_from(column.get(row)?).ok()?;
                KINDS.get(kind).map(|name| Val::Text(Cow::Borrowed(*name)))
            }
            Source::Double(array) => {
                (row < array.len() && array.is_valid(row)).then(|| Val::Double(array.value(row)))
            }
            Source::Bool(array) => {
                (row < array.len() && array.is_valid(row)).then(|| Val::Bool(array.value(row)))
            }
            Source::Ids(array) => (row < array.len() && array.is_valid(row)).then(|| Val::Id(array.value(row))),
            Source::Body(column, json) => {
                let text = column.get(row)?;
                let is_json =
                    json.is_some_and(|json| row < json.len() && json.is_valid(row) && json.value(row));
                Some(Val::Text(if is_json { value::display(text) } else { Cow::Borrowed(text) }))
            }
        }
    }
}

/// Hands every value of a typed-JSON object to `found`, with its field, or [`KEYWORD`] where only keywords ask for it.
pub(crate) fn attributes<'a>(
    names: &Names,
    object: &'a str,
    keywords: bool,
    found: &mut impl FnMut(FieldId, Val<'a>),
) {
    let mut walk = Walk { names, keywords, path: String::new(), left: VALUES_MAX };
    for (key, raw) in value::members(object) {
        let known = names.ids.get(key.as_ref()).copied().unwrap_or_default();
        if known.field.is_none() && !known.is_prefix && !keywords {
            continue;
        }
        let first = raw.json().as_bytes().first();
        if !matches!(first, Some(b'{' | b'[')) {
            if let Some(val) = scalar(raw) {
                found(known.field.unwrap_or(KEYWORD), val);
            }
            continue;
        }
        walk.path.clear();
        walk.path.push_str(&key);
        walk.value(raw, known, 0, found);
    }
}

struct Walk<'n> {
    names: &'n Names,
    keywords: bool,
    /// Name of what is being looked at.
    path: String,
    left: usize,
}

impl Walk<'_> {
    fn value<'a>(
        &mut self,
        raw: Raw<'a>,
        known: Known,
        depth: usize,
        found: &mut impl FnMut(FieldId, Val<'a>),
    ) {
        if depth > DEPTH_MAX || self.left == 0 {
            return;
        }
        self.left -= 1;
        let json = raw.json();
        match json.as_bytes().first() {
            Some(b'{') => {
                let special = value::members(json).next().filter(|(key, _)| key.starts_with('$'));
                match special {
                    Some((key, inner)) if key == "$map" => self.members(inner.json(), depth, found),
                    Some((_, inner)) => {
                        if known.field.is_some() || self.keywords {
                            found(known.field.unwrap_or(KEYWORD), Val::Text(inner.display()));
                        }
                    }
                    None => self.members(json, depth, found),
                }
            }
            Some(b'[') => {
                for element in value::elements(json) {
                    self.value(element, known, depth + 1, found);
                }
            }
            _ => {
                if (known.field.is_some() || self.keywords)
                    && let Some(val) = scalar(raw)
                {
                    found(known.field.unwrap_or(KEYWORD), val);
                }
            }
        }
    }

    fn members<'a>(&mut self, object: &'a str, depth: usize, found: &mut impl FnMut(FieldId, Val<'a>)) {
        let length = self.path.len();
        for (key, raw) in value::members(object) {
            self.path.truncate(length);
            self.path.push('.');
            self.path.push_str(&key);
            let known = self.names.ids.get(self.path.as_str()).copied().unwrap_or_default();
            if known.field.is_some() || known.is_prefix || self.keywords {
                self.value(raw, known, depth + 1, found);
            }
        }
        self.path.truncate(length);
    }
}

fn scalar(raw: Raw<'_>) -> Option<Val<'_>> {
    let json = raw.json();
    Some(match json.as_bytes().first()? {
        b'"' => Val::Text(raw.str()?),
        b't' => Val::Bool(true),
        b'f' => Val::Bool(false),
        b'n' => return None,
        _ => match json.parse::<i64>() {
            Ok(int) => Val::Int(int),
            Err(_) => Val::Double(raw.number()?),
        },
    })
}

/// The attributes of a resource.
pub(crate) fn resource_attributes(json: &str) -> Option<&str> {
    value::member(json, "attributes").map(Raw::json)
}
