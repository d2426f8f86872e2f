//! Batches as bytes of the write-ahead log, and batches put together or cut. Knows columns, not files or sequences.
//!
//! A payload is one LZ4 block of an Arrow IPC stream with one record batch (docs/formats.md, "Record").

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array,
};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_ipc::MetadataVersion;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use lz4_flex::block::{self, CompressTable};
use rustc_hash::FxHashMap;
use threadline_model::schema::{Table, fixed};

use crate::core::lock;

/// Name of the column that the store fills in.
pub(crate) const SEQ: &str = "seq";

/// Bytes of a payload before compression, at most.
pub(crate) const UNCOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// A batch as bytes.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// LZ4 block.
    pub(crate) payload: Vec<u8>,
    /// Bytes before compression.
    pub(crate) uncompressed_bytes: u32,
    /// Checksum of `payload`.
    pub(crate) crc: u32,
    /// Rows.
    pub(crate) rows: u32,
}

/// How a payload's LZ4 block is made. Any reader of LZ4 reads both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// The stream as one run of literals: a copy. Five times the bytes for a tenth of the time.
    Store,
    /// Compressed.
    Compress,
}

/// Encodes batches. What it needs for that is kept from one batch to the next.
#[derive(Default)]
pub(crate) struct Encoder {
    stream: Vec<u8>,
    compressed: Vec<u8>,
    table: CompressTable,
    /// Memory of payloads that are written.
    payloads: Vec<Vec<u8>>,
}

/// Bytes of an LZ4 block's length that say "and more".
const LZ4_MORE: usize = 255;
/// Length in the token of an LZ4 sequence from which on more bytes follow.
const LZ4_TOKEN: usize = 15;

impl Encoder {
    /// Encodes a batch.
    ///
    /// # Errors
    /// When Arrow cannot write the columns, or they are beyond [`UNCOMPRESSED_BYTES_MAX`].
    pub(crate) fn encode(&mut self, batch: &RecordBatch, effort: Effort) -> Result<Encoded, ArrowError> {
        let batch = without_null_columns(batch)?;
        let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
        let mut encoder = StreamEncoder::try_new_with_options(&batch.schema(), options)?;
        let mut stream = encoder.encode(&batch)?;
        stream.extend(encoder.finish()?);
        let bytes: usize = stream.iter().map(Buffer::len).sum();
        let too_large = || ArrowError::IpcError(format!("{bytes} bytes are too many for one part"));
        if bytes > UNCOMPRESSED_BYTES_MAX {
            return Err(too_large());
        }
        let mut payload = self.payloads.pop().unwrap_or_default();
        payload.clear();
        match effort {
            Effort::Store => store(&stream, bytes, &mut payload),
            Effort::Compress => self.compress(&stream, bytes, &mut payload)?,
        }
        Ok(Encoded {
            crc: crc32c::crc32c(&payload),
            payload,
            uncompressed_bytes: u32::try_from(bytes).map_err(|_| too_large())?,
            rows: u32::try_from(batch.num_rows()).map_err(|_| too_large())?,
        })
    }

    fn compress(&mut self, stream: &[Buffer], bytes: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        self.stream.clear();
        self.stream.reserve(bytes);
        stream.iter().for_each(|buffer| self.stream.extend_from_slice(buffer));
        let room = block::get_maximum_output_size(bytes);
        if self.compressed.len() < room {
            self.compressed.resize(room, 0);
        }
        let used = block::compress_into_with_table(&self.stream, &mut self.compressed, &mut self.table)
            .map_err(|error| ArrowError::IpcError(error.to_string()))?;
        out.extend_from_slice(self.compressed.get(..used).unwrap_or_default());
        Ok(())
    }

    /// Bytes it holds.
    fn bytes(&self) -> usize {
        self.stream.capacity() + self.compressed.capacity()
    }
}

/// An LZ4 block with nothing but literals.
fn store(stream: &[Buffer], bytes: usize, out: &mut Vec<u8>) {
    out.reserve(bytes + bytes / LZ4_MORE + 2);
    match bytes.checked_sub(LZ4_TOKEN) {
        None => out.push((bytes << 4) as u8),
        Some(more) => {
            out.push((LZ4_TOKEN << 4) as u8);
            out.resize(out.len() + more / LZ4_MORE, LZ4_MORE as u8);
            out.push((more % LZ4_MORE) as u8);
        }
    }
    stream.iter().for_each(|buffer| out.extend_from_slice(buffer));
}

/// Encoders and payloads that are not in use: a few, and none that a huge batch has blown up.
#[derive(Default)]
pub(crate) struct Encoders {
    encoders: Mutex<Vec<Encoder>>,
    payloads: Mutex<Vec<Vec<u8>>>,
}

/// Encoders that are kept.
const ENCODERS_MAX: usize = 2;
/// Bytes of an encoder that is kept.
const ENCODER_BYTES_MAX: usize = 8 << 20;
/// Payloads that are kept.
const PAYLOADS_MAX: usize = 4;
/// Bytes of a payload that is kept. Small ones are not worth it.
const PAYLOAD_BYTES: RangeInclusive<usize> = (64 << 10)..=(2 << 20);

impl Encoders {
    /// Does some work with an encoder.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Encoder) -> T) -> T {
        let mut encoder = lock(&self.encoders).pop().unwrap_or_default();
        encoder.payloads.extend(lock(&self.payloads).pop());
        let result = work(&mut encoder);
        self.give_back(encoder.payloads.drain(..));
        let mut kept = lock(&self.encoders);
        if kept.len() < ENCODERS_MAX && encoder.bytes() <= ENCODER_BYTES_MAX {
            kept.push(encoder);
        }
        result
    }

    /// Takes the memory of payloads that are written.
    pub(crate) fn give_back(&self, payloads: impl IntoIterator<Item = Vec<u8>>) {
        for payload in payloads {
            let mut kept = lock(&self.payloads);
            if kept.len() < PAYLOADS_MAX && PAYLOAD_BYTES.contains(&payload.capacity()) {
                kept.push(payload);
            }
        }
    }
}

/// Decodes a batch. The columns share one buffer.
///
/// # Errors
/// What is wrong with the bytes.
pub(crate) fn decode(payload: &[u8], uncompressed_bytes: u32) -> Result<RecordBatch, ArrowError> {
    let bad = |what: String| ArrowError::IpcError(what);
    let len = uncompressed_bytes as usize;
    if len > UNCOMPRESSED_BYTES_MAX {
        return Err(bad(format!("{len} bytes before compression, at most {UNCOMPRESSED_BYTES_MAX} are taken")));
    }
    let mut bytes = vec![0; len];
    let got = block::decompress_into(payload, &mut bytes).map_err(|e| bad(e.to_string()))?;
    if got != len {
        return Err(bad(format!("{got} bytes after decompression, {len} were promised")));
    }
    let mut buffer = Buffer::from_vec(bytes);
    let mut decoder = StreamDecoder::new();
    let batch = decoder.decode(&mut buffer)?.ok_or_else(|| bad("no batch in the stream".into()))?;
    if !buffer.is_empty() && decoder.decode(&mut buffer)?.is_some() {
        return Err(bad("more than one batch in the stream".into()));
    }
    Ok(batch)
}

fn without_null_columns(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let used: Vec<usize> = batch
        .columns()
        .iter()
        .enumerate()
        .filter(|(_, column)| column.null_count() < rows.max(1))
        .map(|(index, _)| index)
        .collect();
    if used.len() == batch.num_columns() { Ok(batch.clone()) } else { batch.project(&used) }
}

/// Bytes of the rows of a batch, about: what a copy of them would take.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| {
            column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}

/// The batch without room to grow, which a builder leaves: up to half of what it takes. Columns that somebody else holds
/// stay as they are.
pub(crate) fn fitted(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (schema, mut columns, _) = batch.into_parts();
    columns.iter_mut().for_each(|column| column.shrink_to_fit());
    RecordBatch::try_new(schema, columns)
}

/// The rows `offset..offset + rows`, dictionaries cut down to what those rows use.
pub(crate) fn cut(batch: &RecordBatch, offset: usize, rows: usize) -> Result<RecordBatch, ArrowError> {
    let slice = batch.slice(offset, rows);
    let columns = slice
        .columns()
        .iter()
        .map(|column| match text_dictionary(column.as_ref()) {
            Some(dictionary) => merge_dictionaries(&[Some(dictionary)], &[rows]),
            None => Ok(Arc::clone(column)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(slice.schema(), columns)
}

/// The batch with sequence numbers `first_seq..` as its `seq` column, in the table's order of columns.
pub(crate) fn with_seq(table: Table, batch: &RecordBatch, first_seq: i64) -> Result<RecordBatch, ArrowError> {
    let field = seq_field(table)?;
    let rows = i64::try_from(batch.num_rows()).unwrap_or(i64::MAX);
    let seq: ArrayRef = Arc::new(Int64Array::from_iter_values(first_seq..first_seq.saturating_add(rows)));
    let before = fixed(table).iter().take_while(|f| f.name() != SEQ).map(|f| f.name().as_str());
    let before: Vec<&str> = before.collect();
    let schema = batch.schema();
    let at = schema.fields().iter().take_while(|f| before.contains(&f.name().as_str())).count();
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    fields.insert(at, field);
    columns.insert(at, seq);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn seq_field(table: Table) -> Result<FieldRef, ArrowError> {
    let field = fixed(table).iter().find(|field| field.name() == SEQ);
    field.cloned().ok_or_else(|| ArrowError::SchemaError("the table has no seq column".into()))
}

/// The `seq` column.
pub(crate) fn seq_column(batch: &RecordBatch) -> Option<&Int64Array> {
    batch.column_by_name(SEQ)?.as_primitive_opt()
}

/// Puts batches of one table together. Columns are united by name; a missing one is all null.
///
/// # Errors
/// When a column has different types, or the texts together are beyond what a column holds.
pub(crate) fn merge(table: Table, batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    if let [one] = batches {
        return Ok(one.clone());
    }
    let rows: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
    let fields = united_fields(table, batches)?;
    let columns = fields
        .iter()
        .map(|field| {
            let parts: Vec<Option<&ArrayRef>> =
                batches.iter().map(|batch| batch.column_by_name(field.name())).collect();
            merge_column(field, &parts, &rows)
        })
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Fixed columns in the table's order, then the others in the order in which they first occur.
fn united_fields(table: Table, batches: &[RecordBatch]) -> Result<Vec<FieldRef>, ArrowError> {
    let fixed = fixed(table);
    let mut known: FxHashMap<String, FieldRef> = FxHashMap::default();
    let mut others: Vec<FieldRef> = Vec::new();
    for batch in batches {
        for field in batch.schema().fields() {
            match known.get(field.name()) {
                Some(other) if other.data_type() != field.data_type() => {
                    return Err(ArrowError::SchemaError(format!(
                        "column {} is {} here and {} there",
                        field.name(),
                        other.data_type(),
                        field.data_type()
                    )));
                }
                Some(_) => {}
                None => {
                    known.insert(field.name().clone(), Arc::clone(field));
                    if !fixed.iter().any(|f| f.name() == field.name()) {
                        others.push(Arc::clone(field));
                    }
                }
            }
        }
    }
    let fixed = fixed.iter().filter_map(|f| known.get(f.name()).cloned());
    Ok(fixed.chain(others).collect())
}

fn merge_column(field: &Field, parts: &[Option<&ArrayRef>], rows: &[usize]) -> Result<ArrayRef, ArrowError> {
    if is_text_dictionary(field.data_type()) {
        let parts: Vec<_> = parts.iter().map(|part| part.and_then(|a| text_dictionary(a.as_ref()))).collect();
        return merge_dictionaries(&parts, rows);
    }
    let arrays: Vec<ArrayRef> = parts
        .iter()
        .zip(rows)
        .map(|(part, &rows)| part.map_or_else(|| new_null_array(field.data_type(), rows), Arc::clone))
        .collect();
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    arrow_select::concat::concat(&arrays)
}

fn is_text_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(k, v) if **k == DataType::Int32 && **v == DataType::Utf8)
}

fn text_dictionary(array: &dyn Array) -> Option<&DictionaryArray<Int32Type>> {
    is_text_dictionary(array.data_type()).then(|| array.as_dictionary_opt::<Int32Type>()).flatten()
}

/// One dictionary with each used value once; `rows` nulls where a part is missing.
fn merge_dictionaries(
    parts: &[Option<&DictionaryArray<Int32Type>>],
    rows: &[usize],
) -> Result<ArrayRef, ArrowError> {
    let total: usize = rows.iter().sum();
    let mut keys: Vec<i32> = Vec::with_capacity(total);
    let mut valid: Vec<bool> = Vec::with_capacity(total);
    let mut values: Vec<&str> = Vec::new();
    let mut known: FxHashMap<&str, i32> = FxHashMap::default();
    for (part, &rows) in parts.iter().zip(rows) {
        let Some(part) = part else {
            keys.resize(keys.len() + rows, 0);
            valid.resize(valid.len() + rows, false);
            continue;
        };
        let texts: &StringArray = part
            .values()
            .as_string_opt()
            .ok_or_else(|| ArrowError::SchemaError("a dictionary of text has other values".into()))?;
        // Value of the part → value of the whole; −1 = not met yet.
        let mut map: Vec<i32> = vec![-1; texts.len()];
        for row in 0..rows {
            let old = part.key(row).filter(|&key| texts.is_valid(key));
            let Some((old, slot)) = old.and_then(|old| Some((old, map.get_mut(old)?))) else {
                keys.push(0);
                valid.push(false);
                continue;
            };
            if *slot < 0 {
                let text = texts.value(old);
                *slot = *known.entry(text).or_insert_with(|| {
                    values.push(text);
                    values.len() as i32 - 1
                });
            }
            keys.push(*slot);
            valid.push(true);
        }
    }
    if values.iter().map(|text| text.len()).sum::<usize>() > i32::MAX as usize {
        return Err(ArrowError::OffsetOverflowError(i32::MAX as usize));
    }
    let nulls = NullBuffer::from(valid);
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let keys = Int32Array::try_new(keys.into(), nulls)?;
    let values = StringArray::from_iter_values(values);
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::new(values))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::{logs, texts};

    #[test]
    fn a_batch_survives_encoding() {
        for rows in [1, 2, 100] {
            let batch = logs(7, rows);
            let mut encoder = Encoder::default();
            for effort in [Effort::Compress, Effort::Store, Effort::Store, Effort::Compress] {
                let encoded = encoder.encode(&batch, effort).unwrap();
                assert_eq!(encoded.rows as usize, rows);
                assert_eq!(decode(&encoded.payload, encoded.uncompressed_bytes).unwrap(), batch);
                encoder.payloads.push(encoded.payload);
            }
        }
    }

    #[test]
    fn broken_payloads_are_errors() {
        let encoded = Encoder::default().encode(&logs(1, 3), Effort::Compress).unwrap();
        assert!(decode(&encoded.payload, encoded.uncompressed_bytes - 1).is_err());
        assert!(decode(&encoded.payload, encoded.uncompressed_bytes + 1).is_err());
        assert!(decode(&encoded.payload, u32::MAX).is_err());
        for cut in 0..encoded.payload.len() {
            assert!(decode(&encoded.payload[..cut], encoded.uncompressed_bytes).is_err(), "cut at {cut}");
        }
        let nothing = block::compress(&[]);
        assert!(decode(&nothing, 0).is_err());
    }

    #[test]
    fn a_stored_block_is_one_of_lz4() {
        for bytes in [0, 1, 14, 15, 16, 269, 270, 271, 70_000] {
            let text: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
            let (first, second) = text.split_at(bytes / 3);
            let mut block = Vec::new();
            store(&[Buffer::from(first), Buffer::from(second)], bytes, &mut block);
            assert_eq!(block::decompress(&block, bytes).unwrap(), text);
        }
    }

    #[test]
    fn columns_that_are_all_null_do_not_travel() {
        let batch = logs(0, 4);
        let mut fields: Vec<FieldRef> = batch.schema().fields().iter().cloned().collect();
        let mut columns = batch.columns().to_vec();
        fields.push(Arc::new(Field::new("flags", DataType::Int64, true)));
        columns.push(new_null_array(&DataType::Int64, 4));
        let wide = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let encoded = Encoder::default().encode(&wide, Effort::Compress).unwrap();
        assert_eq!(decode(&encoded.payload, encoded.uncompressed_bytes).unwrap(), batch);
    }

    #[test]
    fn merging_unites_columns_and_dictionaries() {
        let a = with_seq(Table::Logs, &logs(0, 3), 1).unwrap();
        let b = with_seq(Table::Logs, &logs(3, 5), 4).unwrap();
        let without: Vec<usize> =
            (0..b.num_columns()).filter(|&i| b.schema().field(i).name() != "url.path").collect();
        let c = b.project(&without).unwrap();
        let merged = merge(Table::Logs, &[a.clone(), c]).unwrap();
        assert_eq!(texts(&merged), (0..8).map(|i| format!("record {i}")).collect::<Vec<_>>());
        assert_eq!(seq_column(&merged).unwrap().values(), &[1, 2, 3, 4, 5, 6, 7, 8]);
        let path = merged.column_by_name("url.path").unwrap();
        assert_eq!((path.null_count(), path.len()), (5, 8));
        let service = merged.column_by_name("service").unwrap();
        let service = service.as_dictionary::<Int32Type>();
        assert_eq!(service.values().len(), 1, "one service, one value");
    }

    #[test]
    fn a_cut_keeps_only_the_values_it_uses() {
        let merged = merge(Table::Logs, &[logs(0, 3), logs(100, 3)]).unwrap();
        let part = cut(&merged, 3, 2).unwrap();
        assert_eq!(texts(&part), ["record 100", "record 101"]);
        let key = part.column_by_name("severity_text").unwrap();
        assert_eq!(key.as_dictionary::<Int32Type>().values().len(), 2);
    }

    #[test]
    fn columns_of_two_types_are_refused() {
        let a = logs(0, 1);
        let schema = Arc::new(Schema::new(vec![Field::new("body", DataType::Int64, true)]));
        let b = RecordBatch::try_new(schema, vec![new_null_array(&DataType::Int64, 1)]).unwrap();
        assert!(merge(Table::Logs, &[a, b]).is_err());
    }
}
