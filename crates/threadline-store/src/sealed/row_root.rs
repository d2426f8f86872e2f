//! The Merkle root of a file's rows (docs/formats.md, "Row root"): one leaf per row over a canonical encoding that does
//! not depend on the order of columns, on dictionaries or on what Parquet made of the values.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::DataType;
use sha2::{Digest, Sha256};

use crate::StoreError;
use crate::merkle::{Hash, LEAF, TreeHasher};
use crate::sha::Messages;

/// Bytes of a column's name hash.
const NAME_BYTES: usize = 8;
/// Bytes of rows hashed at once, about: they stay in the processor's cache.
const FLUSH_BYTES: usize = 256 << 10;

/// Hashes rows batch by batch, in file order.
#[derive(Default)]
pub(crate) struct RowHasher {
    tree: TreeHasher,
    rows: Messages,
    hashes: Vec<Hash>,
}

impl RowHasher {
    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// When a column has a type that no table uses.
    pub(crate) fn update(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        let schema = batch.schema_ref();
        let mut order: Vec<usize> = (0..schema.fields().len()).collect();
        order.sort_unstable_by_key(|&index| schema.field(index).name());
        let columns = order
            .into_iter()
            .map(|index| Column::new(schema.field(index).name(), batch.column(index)))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.rows.push(|out| {
                out.push(LEAF);
                columns.iter().for_each(|column| column.write(row, out));
            });
            if self.rows.bytes() >= FLUSH_BYTES {
                self.flush();
            }
        }
        self.flush();
        Ok(())
    }

    fn flush(&mut self) {
        self.rows.hash(&mut self.hashes);
        self.rows.clear();
        self.tree.push_all(&mut self.hashes);
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.tree.size()
    }

    /// The root.
    pub(crate) fn root(&self) -> Hash {
        self.tree.root()
    }
}

struct Column<'a> {
    prefix: [u8; NAME_BYTES + 1],
    values: Values<'a>,
}

enum Values<'a> {
    Int16(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Timestamp(&'a TimestampMicrosecondArray),
    Double(&'a Float64Array),
    Bool(&'a BooleanArray),
    Text(&'a StringArray),
    Dictionary(&'a Int32Array, &'a StringArray),
    Bytes(&'a FixedSizeBinaryArray),
}

impl<'a> Column<'a> {
    fn new(name: &str, array: &'a ArrayRef) -> Result<Self, StoreError> {
        let values = match array.data_type() {
            DataType::Int16 => array.as_primitive_opt::<Int16Type>().map(Values::Int16),
            DataType::Int32 => array.as_primitive_opt::<Int32Type>().map(Values::Int32),
            DataType::Int64 => array.as_primitive_opt::<Int64Type>().map(Values::Int64),
            DataType::Timestamp(..) => {
                array.as_primitive_opt::<TimestampMicrosecondType>().map(Values::Timestamp)
            }
            DataType::Float64 => array.as_primitive_opt::<Float64Type>().map(Values::Double),
            DataType::Boolean => array.as_boolean_opt().map(Values::Bool),
            DataType::Utf8 => array.as_string_opt::<i32>().map(Values::Text),
            DataType::Dictionary(..) => array
                .as_dictionary_opt::<Int32Type>()
                .and_then(|dict| Some(Values::Dictionary(dict.keys(), dict.values().as_string_opt::<i32>()?))),
            DataType::FixedSizeBinary(_) => array.as_fixed_size_binary_opt().map(Values::Bytes),
            _ => None,
        };
        let values = values.ok_or_else(|| StoreError::Invalid {
            detail: format!("column {name} has type {}, which no table uses", array.data_type()),
        })?;
        let mut prefix = [0; NAME_BYTES + 1];
        let hash = Sha256::digest(name.as_bytes());
        for (to, from) in prefix.iter_mut().zip(hash.iter().take(NAME_BYTES)) {
            *to = *from;
        }
        prefix[NAME_BYTES] = match values {
            Values::Int16(_) | Values::Int32(_) | Values::Int64(_) | Values::Timestamp(_) => b'i',
            Values::Double(_) => b'd',
            Values::Bool(_) => b'b',
            Values::Text(_) | Values::Dictionary(..) => b's',
            Values::Bytes(_) => b'x',
        };
        Ok(Self { prefix, values })
    }

    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        macro_rules! fixed {
            ($array:expr, $bytes:expr) => {
                if $array.is_valid(row) {
                    self.write_fixed($bytes, out);
                }
            };
        }
        match self.values {
            Values::Int16(array) => fixed!(array, i64::from(array.value(row)).to_le_bytes()),
            Values::Int32(array) => fixed!(array, i64::from(array.value(row)).to_le_bytes()),
            Values::Int64(array) => fixed!(array, array.value(row).to_le_bytes()),
            Values::Timestamp(array) => fixed!(array, array.value(row).to_le_bytes()),
            Values::Double(array) => fixed!(array, array.value(row).to_bits().to_le_bytes()),
            Values::Bool(array) => fixed!(array, [u8::from(array.value(row))]),
            Values::Text(array) => {
                if array.is_valid(row) {
                    self.write_bytes(array.value(row).as_bytes(), out);
                }
            }
            Values::Dictionary(keys, values) => {
                let key = keys.is_valid(row).then(|| keys.value(row) as usize);
                if let Some(key) = key.filter(|&key| key < values.len() && values.is_valid(key)) {
                    self.write_bytes(values.value(key).as_bytes(), out);
                }
            }
            Values::Bytes(array) => {
                if array.is_valid(row) {
                    self.write_bytes(array.value(row), out);
                }
            }
        }
    }

    // Prefix and value, or length, go as one piece of a length that the compiler knows.
    #[inline]
    fn write_fixed<const N: usize>(&self, bytes: [u8; N], out: &mut Vec<u8>) {
        let mut field = [0; NAME_BYTES + 1 + 8];
        let (name, rest) = field.split_at_mut(NAME_BYTES + 1);
        name.copy_from_slice(&self.prefix);
        rest.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        out.extend_from_slice(field.get(..NAME_BYTES + 1 + N).unwrap_or_default());
    }

    #[inline]
    fn write_bytes(&self, bytes: &[u8], out: &mut Vec<u8>) {
        self.write_fixed((bytes.len() as u32).to_le_bytes(), out);
        out.extend_from_slice(bytes);
    }
}
