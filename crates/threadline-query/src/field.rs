//! The value of a field, row by row, as people write it in a search.

use std::fmt::Write as _;

use arrow_array::{Array, RecordBatch};
use threadline_model::columns::Batch;
use threadline_model::id::push_hex;
use threadline_model::schema::{Table, verdict};
use threadline_model::value;

use crate::QueryError;
use crate::lang::{Field, Flag, RULES, Severity, Standing, code_name, format_duration, format_time};
use crate::matcher::{Mask, attribute_column};

/// Reads one field of a table.
#[derive(Debug)]
pub struct FieldReader {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Nothing,
    Text(&'static str),
    Id(&'static str),
    Severity,
    /// Span kind or status, with what null stands for.
    Code(Field, &'static str, Option<i32>),
    Duration,
    Time,
    Int(&'static str),
    Scope(&'static str),
    Mark,
    Standing,
    Rule,
    Attribute(String),
}

impl FieldReader {
    /// Reads no field: every row is without a value.
    pub fn nothing() -> FieldReader {
        FieldReader { kind: Kind::Nothing }
    }

    /// Reads a field. A field that the table lacks is without a value in every row.
    pub fn new(field: &Field, table: Table) -> FieldReader {
        let logs = table == Table::Logs;
        let kind = match field {
            Field::Body => Kind::Text(if logs { "body" } else { "name" }),
            Field::Service => Kind::Text("service"),
            Field::Instance => Kind::Text("instance"),
            Field::SeverityText if logs => Kind::Text("severity_text"),
            Field::Event if logs => Kind::Text("event_name"),
            Field::Name if !logs => Kind::Text("name"),
            Field::StatusMessage if !logs => Kind::Text("status_message"),
            Field::SeverityText | Field::Event | Field::Name | Field::StatusMessage => {
                Kind::Attribute(field.name().to_owned())
            }
            Field::Severity => Kind::Severity,
            Field::Trace => Kind::Id("trace_id"),
            Field::Span => Kind::Id("span_id"),
            Field::Parent => Kind::Id("parent_span_id"),
            Field::Kind => Kind::Code(field.clone(), "kind", None),
            Field::Status if logs => Kind::Nothing,
            Field::Status => Kind::Code(field.clone(), "status_code", Some(0)),
            Field::Duration => Kind::Duration,
            Field::ScopeName => Kind::Scope("name"),
            Field::ScopeVersion => Kind::Scope("version"),
            Field::Time => Kind::Time,
            Field::Seq => Kind::Int("seq"),
            Field::Mark => Kind::Mark,
            Field::Contract => Kind::Standing,
            Field::Rule => Kind::Rule,
            Field::Attribute(key) => Kind::Attribute(key.clone()),
        };
        FieldReader { kind }
    }

    /// Columns that are read.
    pub fn columns(&self) -> Vec<String> {
        let names: &[&str] = match &self.kind {
            Kind::Nothing => &[],
            Kind::Text(column) | Kind::Id(column) | Kind::Int(column) => &[column],
            Kind::Severity => &["severity_number"],
            Kind::Code(_, column, _) => &[column],
            Kind::Duration => &["duration_ns"],
            Kind::Time => &["ts", "ns"],
            Kind::Scope(_) => &["scope"],
            Kind::Mark | Kind::Standing | Kind::Rule => &["verdict"],
            Kind::Attribute(key) => {
                return attribute_column(key)
                    .into_iter()
                    .chain(["attrs", "resource", "scope"])
                    .map(str::to_owned)
                    .collect();
            }
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Calls `each(row, value)` for every row of `rows`.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn each(
        &self,
        batch: &RecordBatch,
        rows: &Mask,
        mut each: impl FnMut(usize, Option<&str>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let columns = Batch::new(batch);
        let mut text = String::new();
        match &self.kind {
            Kind::Nothing => rows.iter().try_for_each(|row| each(row, None)),
            Kind::Text(column) => {
                let column = columns.str(column);
                rows.iter().try_for_each(|row| each(row, column.get(row)))
            }
            Kind::Attribute(key) if attribute_column(key).is_none() => {
                rows.iter().try_for_each(|row| each(row, in_json(columns, key, row).as_deref()))
            }
            Kind::Attribute(key) => {
                rows.iter().try_for_each(|row| each(row, columns.attribute(key, row).as_deref()))
            }
            Kind::Scope(member) => {
                let scope = columns.str("scope");
                rows.iter().try_for_each(|row| {
                    let value = scope.get(row).and_then(|json| value::member(json, member));
                    each(row, value.map(value::Raw::display).as_deref())
                })
            }
            kind => rows.iter().try_for_each(|row| {
                text.clear();
                let found = write_value(kind, columns, row, &mut text);
                each(row, found.map(|()| text.as_str()))
            }),
        }
    }
}

fn in_json<'a>(columns: Batch<'a>, key: &str, row: usize) -> Option<std::borrow::Cow<'a, str>> {
    let attributes = |column: &str| Some(value::member(columns.str(column).get(row)?, "attributes")?.json());
    [columns.str("attrs").get(row), attributes("resource"), attributes("scope")]
        .into_iter()
        .find_map(|json| value::member(json?, key))
        .map(value::Raw::display)
}

/// Appends the value of a row; `None` when it has none.
fn write_value(kind: &Kind, columns: Batch<'_>, row: usize, out: &mut String) -> Option<()> {
    let int = |column: &str| columns.int(column).get(row);
    match kind {
        Kind::Id(column) => {
            let ids = columns.ids(column)?;
            if row >= ids.len() || ids.is_null(row) {
                return None;
            }
            push_hex(ids.value(row), out);
        }
        Kind::Severity => {
            let number = i32::try_from(int("severity_number")?).ok()?;
            match Severity::of(number) {
                Some(name) => write!(out, "{name}").ok()?,
                None => write!(out, "{number}").ok()?,
            }
        }
        Kind::Code(field, column, null_as) => {
            let code = match int(column) {
                Some(code) => i32::try_from(code).ok()?,
                None => (*null_as)?,
            };
            match code_name(field, code) {
                Some(name) => out.push_str(name),
                None => write!(out, "{code}").ok()?,
            }
        }
        Kind::Duration => out.push_str(&format_duration(int("duration_ns")?)),
        Kind::Time => {
            out.push_str(&format_time(columns.int("ts").get(row).map(|_| columns.time_unix_nano(row))?))
        }
        Kind::Int(column) => write!(out, "{}", int(column)?).ok()?,
        Kind::Mark => {
            let bits = int("verdict")?;
            let flag = if bits & verdict::TIME_ABSURD != 0 {
                Flag::TimeAbsurd
            } else if bits & verdict::TIME_MISSING != 0 {
                Flag::TimeMissing
            } else if bits & verdict::SENDER_MISMATCH != 0 {
                Flag::SenderMismatch
            } else if bits & verdict::QUARANTINED != 0 {
                Flag::Quarantined
            } else {
                return None;
            };
            write!(out, "{flag}").ok()?;
        }
        Kind::Standing => {
            let bits = int("verdict").unwrap_or(0);
            let standing = if bits & verdict::RULES != 0 {
                Standing::Violated
            } else if bits & verdict::CHECKED != 0 {
                Standing::Ok
            } else {
                Standing::Unchecked
            };
            write!(out, "{standing}").ok()?;
        }
        Kind::Rule => {
            // A record may break several: the first in the order of bits stands for it.
            let bits = int("verdict")?;
            let (id, _) = RULES.iter().find(|(_, bit)| bits & bit != 0)?;
            out.push_str(id);
        }
        Kind::Nothing | Kind::Text(_) | Kind::Scope(_) | Kind::Attribute(_) => return None,
    }
    Some(())
}
