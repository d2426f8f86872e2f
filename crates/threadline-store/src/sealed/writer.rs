//! Writes one sealed file front to back: rows in file order in, what the table log says of the file out.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use threadline_model::schema::Table;
use xxhash_rust::xxh3::xxh3_64;

use crate::StoreError;
use crate::quarantine;
use crate::sealed::elide::{Ids, elide};
use crate::sealed::fuse;
use crate::sealed::index::{FULL_COLUMNS, IndexBuilder, VALUE_COLUMNS, trace_hashes};
use crate::sealed::objects::{ObjectWriter, Objects};
use crate::sealed::row_root::RowHasher;
use crate::sealed::rows::is_dictionary;

/// Rows of a row group.
const GROUP_ROWS: usize = 128 << 10;
/// Rows of a page: the unit of decoding.
pub(crate) const PAGE_ROWS: usize = 1024;
/// Bytes of rows handed to Parquet at once, about: keeps pages of huge rows in bounds.
const SLICE_BYTES: usize = 4 << 20;
/// More services than this are not listed in the table log.
const SERVICES_MAX: usize = 64;

/// Columns whose values are too long or too different for minima and maxima to say anything.
const WITHOUT_STATISTICS: [&str; 11] = [
    "attrs",
    "body",
    "db.query.text",
    "events",
    "exception.message",
    "exception.stacktrace",
    "links",
    "parent_span_id",
    "span_id",
    "trace_id",
    "url.full",
];

/// Columns of numbers that lie near their neighbours, or are small.
const DELTA_PACKED: [&str; 8] =
    ["arrival_ts", "duration_ns", "ns", "observed_ns", "observed_ts", "sent_time_unix_nano", "seq", "ts"];

/// Footer key: version of the layout of what only this program reads.
pub(crate) const KEY_VERSION: &str = "threadline.version";
/// Footer key: `true` when ids are elided from bodies.
pub(crate) const KEY_ELIDED: &str = "threadline.elide_ids";
/// Footer key: where the head of the indexes lies, as [`HeadPlace`]'s text form.
pub(crate) const KEY_HEAD: &str = "threadline.head";
/// Directory entry: the filter of trace ids.
pub(crate) const BLOCK_TRACES: &str = "trace_filter";
/// Directory entry: columns of the file.
pub(crate) const BLOCK_COLUMNS: &str = "columns";

/// Where the head of a file's indexes lies: the blocks that every look-up needs, then the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadPlace {
    /// Offset in the file.
    pub(crate) at: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// Offset of the directory in the head; it is the head's last part.
    pub(crate) directory: u64,
}

impl HeadPlace {
    /// Offset, length, offset of the directory: decimal, one space between.
    pub(crate) fn to_text(self) -> String {
        format!("{} {} {}", self.at, self.len, self.directory)
    }

    /// From the text form.
    pub(crate) fn parse(text: &str) -> Option<HeadPlace> {
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>().ok());
        let place = HeadPlace { at: numbers.next()??, len: numbers.next()??, directory: numbers.next()?? };
        (numbers.next().is_none() && place.directory <= place.len && place.len <= HEAD_BYTES_MAX)
            .then_some(place)
    }
}

/// Bytes of a head at most.
const HEAD_BYTES_MAX: u64 = 256 << 20;

/// What became of a file's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// SHA-256 of the file.
    pub(crate) sha256: [u8; 32],
    /// Rows.
    pub(crate) rows: u64,
    /// Merkle root of the rows.
    pub(crate) rows_root: [u8; 32],
    /// Lowest and highest event time, µs.
    pub(crate) ts: RangeInclusive<i64>,
    /// Lowest and highest sequence number.
    pub(crate) seq: RangeInclusive<i64>,
    /// Services of the rows, when they are few; `None` = any.
    pub(crate) services: Option<Vec<String>>,
    /// Whether ids are elided.
    pub(crate) elided: bool,
    /// Whether it is to be written again.
    pub(crate) draft: bool,
    /// Whether the rows are in quarantine: all are, or none.
    pub(crate) quarantined: bool,
    /// Where the head of the indexes lies.
    pub(crate) head: HeadPlace,
}

/// A sealed file being written. Dropped unfinished, it is removed.
pub(crate) struct FileWriter {
    parquet: ArrowWriter<ObjectWriter>,
    effort: Effort,
    elide: bool,
    rows: RowHasher,
    /// Rows handed to Parquet.
    written: usize,
    /// Rows in quarantine.
    quarantined: usize,
    ts: (i64, i64),
    seq: (i64, i64),
    services: Option<BTreeSet<String>>,
    traces: Vec<u64>,
    index: IndexBuilder,
    columns: Vec<String>,
}

/// How much work goes into making a file small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// It will soon be merged with others: LZ4 takes half the time of zstd, to write and to read again.
    Draft,
    /// It stays: zstd.
    Lasting,
}

/// How a trace id enters the filter.
pub(crate) fn trace_hash(id: &[u8]) -> u64 {
    xxh3_64(id)
}

impl FileWriter {
    /// Starts a file whose batches all have this schema.
    pub(crate) fn create(
        objects: &Objects,
        key: &str,
        table: Table,
        schema: &SchemaRef,
        elide: bool,
        effort: Effort,
    ) -> Result<FileWriter, StoreError> {
        let context = || format!("writing sealed file {key}");
        let object = objects.create(key).map_err(|error| StoreError::io(context(), error))?;
        let elide = elide && schema.index_of("body").is_ok();
        let parquet =
            ArrowWriter::try_new(object, Arc::clone(schema), Some(properties(schema, elide, effort)))?;
        Ok(FileWriter {
            parquet,
            effort,
            elide,
            rows: RowHasher::default(),
            written: 0,
            quarantined: 0,
            ts: (i64::MAX, i64::MIN),
            seq: (i64::MAX, i64::MIN),
            services: Some(BTreeSet::new()),
            traces: Vec::new(),
            index: IndexBuilder::new(table),
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
        })
    }

    /// Adds rows, in file order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        self.rows.update(batch)?;
        let hashes = trace_hashes(batch, trace_hash);
        self.note(batch, &hashes)?;
        let bodies = elided(batch)?;
        self.index.add(batch, bodies.as_ref(), &hashes)?;
        let batch = match (self.elide, bodies) {
            (true, Some(bodies)) => with_bodies(batch, bodies)?,
            _ => batch.clone(),
        };
        let row_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
        let step = (SLICE_BYTES / row_bytes.max(1)).clamp(1, batch.num_rows().max(1));
        let mut at = 0;
        while at < batch.num_rows() {
            // Slices end at page boundaries, or Parquet's check after each slice would let a page grow past its limit.
            let to_boundary = PAGE_ROWS - self.written % PAGE_ROWS;
            let whole = if to_boundary < PAGE_ROWS { to_boundary } else { usize::MAX };
            let rows = step.min(batch.num_rows() - at).min(whole);
            self.parquet.write(&batch.slice(at, rows)).map_err(write_error)?;
            self.written += rows;
            at += rows;
        }
        Ok(())
    }

    fn note(&mut self, batch: &RecordBatch, hashes: &[Option<u64>]) -> Result<(), StoreError> {
        let widen = |range: &mut (i64, i64), values: &[i64]| {
            for &value in values {
                *range = (range.0.min(value), range.1.max(value));
            }
        };
        let missing =
            |name: &str| StoreError::Invalid { detail: format!("rows without {name} cannot be sealed") };
        let ts = batch.column_by_name("ts").and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
        widen(&mut self.ts, ts.ok_or_else(|| missing("ts"))?.values());
        let seq = batch.column_by_name("seq").and_then(|a| a.as_primitive_opt::<Int64Type>());
        widen(&mut self.seq, seq.ok_or_else(|| missing("seq"))?.values());
        for hash in hashes.iter().flatten() {
            if self.traces.last() != Some(hash) {
                self.traces.push(*hash);
            }
        }
        self.quarantined += quarantine::count(batch);
        self.note_services(batch);
        Ok(())
    }

    fn note_services(&mut self, batch: &RecordBatch) {
        let Some(known) = &mut self.services else { return };
        let Some(array) = batch.column_by_name("service") else { return };
        let dict = array.as_dictionary_opt::<Int32Type>();
        let Some((keys, values)) =
            dict.and_then(|dict| Some((dict.keys(), dict.values().as_string_opt::<i32>()?)))
        else {
            self.services = None;
            return;
        };
        let mut last = None;
        for key in keys.iter() {
            if key == last {
                continue;
            }
            last = key;
            let at = key.and_then(|key| usize::try_from(key).ok());
            if let Some(at) = at.filter(|&at| at < values.len() && values.is_valid(at))
                && !known.contains(values.value(at))
            {
                known.insert(values.value(at).to_owned());
            }
        }
        if known.len() > SERVICES_MAX {
            self.services = None;
        }
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.rows()
    }

    /// Writes blocks and footer, syncs file and name.
    pub(crate) fn finish(mut self) -> Result<Facts, StoreError> {
        self.parquet.flush().map_err(write_error)?;
        self.traces.sort_unstable();
        self.traces.dedup();
        let mut directory = serde_json::Map::new();
        let parquet = &mut self.parquet;
        let mut write = |bytes: &[u8]| {
            let at = parquet.bytes_written() as u64;
            parquet.write_all(bytes).map_err(|error| StoreError::io("writing a sealed file", error))?;
            Ok(at)
        };
        let index = self.index.finish(&mut write)?;
        for (name, (at, len)) in index.counts {
            directory.insert(name.to_owned(), serde_json::json!([at, len]));
        }
        let mut place = HeadPlace { at: write(&[])?, ..HeadPlace::default() };
        let traces = trace_block(&self.traces).map(|block| (BLOCK_TRACES, block));
        for (name, block) in traces.into_iter().chain(index.sparse) {
            directory.insert(name.to_owned(), serde_json::json!([write(&block)?, block.len()]));
        }
        directory.insert(BLOCK_COLUMNS.to_owned(), serde_json::json!(self.columns));
        directory.insert(VALUE_COLUMNS.to_owned(), serde_json::json!(index.value_columns));
        directory.insert(FULL_COLUMNS.to_owned(), serde_json::json!(index.full_columns));
        let bytes = serde_json::Value::Object(directory).to_string();
        let at = write(bytes.as_bytes())?;
        place.directory = at - place.at;
        place.len = place.directory + bytes.len() as u64;
        self.parquet.append_key_value_metadata(KeyValue::new(KEY_HEAD.to_owned(), place.to_text()));
        let object = self.parquet.into_inner().map_err(write_error)?;
        let (bytes, sha256) =
            object.finish().map_err(|error| StoreError::io("syncing a sealed file", error))?;
        Ok(Facts {
            bytes,
            sha256,
            rows: self.rows.rows(),
            rows_root: self.rows.root(),
            ts: self.ts.0..=self.ts.1,
            seq: self.seq.0..=self.seq.1,
            services: self.services.map(|services| services.into_iter().collect()),
            elided: self.elide,
            draft: self.effort == Effort::Draft,
            quarantined: self.quarantined > 0 && self.quarantined == self.written,
            head: place,
        })
    }
}

/// A failing disk reaches us through Parquet's error: give it back its kind.
fn write_error(error: parquet::errors::ParquetError) -> StoreError {
    match error {
        parquet::errors::ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => StoreError::io("writing a sealed file", *error),
            Err(source) => StoreError::io("writing a sealed file", io::Error::other(source)),
        },
        other => StoreError::io("writing a sealed file", io::Error::other(other)),
    }
}

/// descriptor (20 bytes), fingerprints, crc32c of both. `None` without trace ids or when no filter can be built.
fn trace_block(traces: &[u64]) -> Option<Vec<u8>> {
    let mut block = fuse::build(traces)?;
    let crc = crc32c::crc32c(&block);
    block.extend_from_slice(&crc.to_le_bytes());
    Some(block)
}

/// The bodies with ids elided; `None` without bodies.
fn elided(batch: &RecordBatch) -> Result<Option<StringArray>, StoreError> {
    let bodies = batch.column_by_name("body").and_then(|array| array.as_string_opt::<i32>());
    Ok(bodies.map(|bodies| elide(bodies, &Ids::new(batch))).transpose()?)
}

fn with_bodies(batch: &RecordBatch, bodies: StringArray) -> Result<RecordBatch, StoreError> {
    let index = batch.schema_ref().index_of("body")?;
    let mut columns = batch.columns().to_vec();
    if let Some(column) = columns.get_mut(index) {
        *column = Arc::new(bodies);
    }
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

fn properties(schema: &SchemaRef, elide: bool, effort: Effort) -> WriterProperties {
    let compression = match effort {
        Effort::Draft => Compression::LZ4_RAW,
        Effort::Lasting => Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()),
    };
    let mut builder = WriterProperties::builder()
        .set_created_by("threadline".to_owned())
        // Its pages may hold ids by dictionary; the encodings stay those that every reader knows.
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_encoding(Encoding::PLAIN)
        .set_compression(compression)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(vec![
            KeyValue::new(KEY_VERSION.to_owned(), "1".to_owned()),
            KeyValue::new(KEY_ELIDED.to_owned(), elide.to_string()),
        ]));
    for field in schema.fields() {
        let path = ColumnPath::new(vec![field.name().clone()]);
        if is_dictionary(field.data_type()) || field.name() == "trace_id" {
            builder = builder.set_column_dictionary_enabled(path.clone(), true);
        }
        if WITHOUT_STATISTICS.contains(&field.name().as_str()) {
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        if is_dictionary(field.data_type()) && field.name() != "service" {
            // The index of values says in which granules a value is.
            builder = builder.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        if DELTA_PACKED.contains(&field.name().as_str()) {
            builder = builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    builder.build()
}
