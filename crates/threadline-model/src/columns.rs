//! Reads the columns of a batch by name, whatever columns it happens to have.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray};
use arrow_schema::DataType;

use crate::id::{SpanId, TraceId};
use crate::value;

/// A batch of either table.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a>(&'a RecordBatch);

/// A text column, plain or dictionary; all null when the batch lacks it.
#[derive(Clone, Copy, Debug)]
pub enum StrColumn<'a> {
    /// No such column.
    Absent,
    /// Plain text.
    Plain(&'a StringArray),
    /// Dictionary: the row's key, then the value.
    Dictionary(&'a Int32Array, &'a StringArray),
}

impl<'a> StrColumn<'a> {
    /// The text of a row.
    pub fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            StrColumn::Absent => None,
            StrColumn::Plain(array) => (row < array.len() && array.is_valid(row)).then(|| array.value(row)),
            StrColumn::Dictionary(keys, values) => {
                let key = (row < keys.len() && keys.is_valid(row)).then(|| keys.value(row))?;
                let key = usize::try_from(key).ok()?;
                (key < values.len() && values.is_valid(key)).then(|| values.value(key))
            }
        }
    }
}

/// An integer or time column; all null when the batch lacks it.
#[derive(Clone, Copy, Debug)]
pub enum IntColumn<'a> {
    /// No such column.
    Absent,
    /// 16 bits.
    Int16(&'a arrow_array::Int16Array),
    /// 32 bits.
    Int32(&'a Int32Array),
    /// 64 bits.
    Int64(&'a arrow_array::Int64Array),
    /// Microseconds.
    Timestamp(&'a arrow_array::TimestampMicrosecondArray),
}

impl IntColumn<'_> {
    /// The number of a row.
    pub fn get(&self, row: usize) -> Option<i64> {
        macro_rules! value {
            ($array:expr) => {
                (row < $array.len() && $array.is_valid(row)).then(|| i64::from($array.value(row)))
            };
        }
        match self {
            IntColumn::Absent => None,
            IntColumn::Int16(array) => value!(array),
            IntColumn::Int32(array) => value!(array),
            IntColumn::Int64(array) => value!(array),
            IntColumn::Timestamp(array) => value!(array),
        }
    }
}

impl<'a> Batch<'a> {
    /// Wraps a batch.
    pub fn new(batch: &'a RecordBatch) -> Self {
        Self(batch)
    }

    /// The batch itself.
    pub fn record_batch(&self) -> &'a RecordBatch {
        self.0
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.0.num_rows()
    }

    /// A text column.
    pub fn str(&self, name: &str) -> StrColumn<'a> {
        let Some(array) = self.0.column_by_name(name) else { return StrColumn::Absent };
        if let Some(array) = array.as_string_opt::<i32>() {
            return StrColumn::Plain(array);
        }
        array
            .as_dictionary_opt::<Int32Type>()
            .and_then(|dict| Some(StrColumn::Dictionary(dict.keys(), dict.values().as_string_opt::<i32>()?)))
            .unwrap_or(StrColumn::Absent)
    }

    /// An integer or time column.
    pub fn int(&self, name: &str) -> IntColumn<'a> {
        let Some(array) = self.0.column_by_name(name) else { return IntColumn::Absent };
        let column = match array.data_type() {
            DataType::Int16 => array.as_primitive_opt::<Int16Type>().map(IntColumn::Int16),
            DataType::Int32 => array.as_primitive_opt::<Int32Type>().map(IntColumn::Int32),
            DataType::Int64 => array.as_primitive_opt::<Int64Type>().map(IntColumn::Int64),
            DataType::Timestamp(..) => {
                array.as_primitive_opt::<TimestampMicrosecondType>().map(IntColumn::Timestamp)
            }
            _ => None,
        };
        column.unwrap_or(IntColumn::Absent)
    }

    /// A binary column of fixed width.
    pub fn ids(&self, name: &str) -> Option<&'a FixedSizeBinaryArray> {
        self.0.column_by_name(name)?.as_fixed_size_binary_opt()
    }

    fn id(&self, name: &str, row: usize) -> Option<&'a [u8]> {
        let ids = self.ids(name)?;
        (row < ids.len() && ids.is_valid(row)).then(|| ids.value(row))
    }

    /// Trace id of a row.
    pub fn trace_id(&self, row: usize) -> Option<TraceId> {
        TraceId::from_bytes(self.id("trace_id", row)?)
    }

    /// Span id of a row.
    pub fn span_id(&self, row: usize) -> Option<SpanId> {
        SpanId::from_bytes(self.id("span_id", row)?)
    }

    /// Parent's span id of a row of `spans`.
    pub fn parent_span_id(&self, row: usize) -> Option<SpanId> {
        SpanId::from_bytes(self.id("parent_span_id", row)?)
    }

    /// Event time of a row in nanoseconds since the Unix epoch.
    pub fn time_unix_nano(&self, row: usize) -> i64 {
        let us = self.int("ts").get(row).unwrap_or(0);
        us.saturating_mul(1000).saturating_add(self.int("ns").get(row).unwrap_or(0))
    }

    /// An attribute of a row as people write it (strings bare, the rest as typed JSON): its own column, then
    /// `attrs`, then the resource's and the scope's attributes.
    pub fn attribute(&self, key: &str, row: usize) -> Option<Cow<'a, str>> {
        if let Some(text) = self.attribute_column(key, row) {
            return Some(text);
        }
        let from = |json: &'a str| value::member(json, key).map(value::Raw::display);
        if let Some(found) = self.str("attrs").get(row).and_then(from) {
            return Some(found);
        }
        ["resource", "scope"].into_iter().find_map(|column| {
            let attributes = value::member(self.str(column).get(row)?, "attributes")?.json();
            from(attributes)
        })
    }

    fn attribute_column(&self, key: &str, row: usize) -> Option<Cow<'a, str>> {
        let array = self.0.column_by_name(key)?;
        match array.data_type() {
            DataType::Int64 => {
                self.int(key).get(row).map(|int| Cow::Owned(itoa::Buffer::new().format(int).to_owned()))
            }
            DataType::Float64 => {
                let array = array.as_primitive_opt::<arrow_array::types::Float64Type>()?;
                (row < array.len() && array.is_valid(row)).then(|| {
                    let mut out = String::new();
                    value::Value::Double(array.value(row)).write_json(&mut out);
                    Cow::Owned(out)
                })
            }
            DataType::Boolean => {
                let array = array.as_boolean_opt()?;
                (row < array.len() && array.is_valid(row))
                    .then(|| Cow::Borrowed(if array.value(row) { "true" } else { "false" }))
            }
            _ => self.str(key).get(row).map(Cow::Borrowed),
        }
    }
}
