//! Reads sealed files: footers on demand and cached, row groups and pages left out by their statistics, ids restored.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter,
    RowSelection,
};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use rustc_hash::{FxBuildHasher, FxHashSet};
use threadline_model::disk::DiskFile;
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use crate::StoreError;
use crate::sealed::elide::{Ids, has_marker, restore};
use crate::sealed::objects::Objects;
use crate::sealed::writer::{BLOCK_TRACES, KEY_DIRECTORY, KEY_ELIDED, trace_hash};
use crate::snapshot::{FileMeta, Prune, Scan};

/// Rows of a batch at most.
const BATCH_ROWS_MAX: usize = 8192;
/// Bytes of a batch, about; rows beyond the average may pass it.
const BATCH_BYTES: i64 = 64 << 20;
/// Bytes of a read through [`ChunkReader::get_read`].
const READ_BYTES: u64 = 64 << 10;

/// A sealed Parquet file. Never changes. Removed from disk, once the table log has dropped it, with its last holder.
pub struct SealedFile {
    meta: FileMeta,
    services: Option<Vec<String>>,
    objects: Objects,
    key: String,
    cache: Arc<FooterCache>,
    doomed: AtomicBool,
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedFile").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        self.cache.forget(&self.key);
        if self.doomed.load(Ordering::Acquire) {
            // Best effort: what stays is an orphan, removed at the next open.
            let _ = self.objects.delete(&self.key);
        }
    }
}

impl SealedFile {
    pub(crate) fn new(
        meta: FileMeta,
        services: Option<Vec<String>>,
        objects: Objects,
        key: String,
        cache: Arc<FooterCache>,
    ) -> Self {
        Self { meta, services, objects, key, cache, doomed: AtomicBool::new(false) }
    }

    /// What the table log says of the file.
    pub fn meta(&self) -> &FileMeta {
        &self.meta
    }

    /// The table log no longer names the file: remove it with its last holder.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// Whether no row can fulfil `prune`, as far as the catalogue in memory tells. With trace ids, the file's filter
    /// is read once and cached.
    pub fn excluded_by(&self, prune: &Prune) -> bool {
        let apart =
            |a: &RangeInclusive<i64>, b: &RangeInclusive<i64>| a.end() < b.start() || b.end() < a.start();
        prune.ts.as_ref().is_some_and(|ts| ts.is_empty() || apart(ts, &self.meta.ts))
            || prune.seq.as_ref().is_some_and(|seq| seq.is_empty() || apart(seq, &self.meta.seq))
            || prune.severity.as_ref().is_some_and(RangeInclusive::is_empty)
            || prune.services.as_ref().is_some_and(|wanted| {
                wanted.is_empty()
                    || self.services.as_ref().is_some_and(|has| !wanted.iter().any(|name| has.contains(name)))
            })
            || prune.trace_ids.as_ref().is_some_and(|ids| {
                ids.is_empty()
                    || self.footer().is_ok_and(|footer| !ids.iter().any(|id| footer.may_have_trace(&id.0)))
            })
    }

    fn footer(&self) -> Result<Arc<Footer>, StoreError> {
        if let Some(footer) = self.cache.get(&self.key) {
            return Ok(footer);
        }
        let reader = self.reader()?;
        let footer = Footer::read(&reader).map_err(|error| reader.trouble.explain(&self.key, error))?;
        let footer = Arc::new(footer);
        self.cache.put(&self.key, &footer);
        Ok(footer)
    }

    fn reader(&self) -> Result<FileReader, StoreError> {
        let context = || format!("opening sealed file {}", self.key);
        let file = self.objects.open(&self.key).map_err(|error| StoreError::io(context(), error))?;
        let len = file.len().map_err(|error| StoreError::io(context(), error))?;
        Ok(FileReader { file, len, trouble: Trouble::default() })
    }

    /// Reads the file: the named columns (all when `None`; names the file lacks are left out), batches of at most
    /// 8,192 rows in file order (service, then time), types as in [`threadline_model::schema`], elided ids restored.
    pub fn scan(self: &Arc<Self>, columns: Option<&[&str]>, prune: &Prune) -> Result<Scan, StoreError> {
        if self.excluded_by(prune) {
            return Ok(Box::new(std::iter::empty()));
        }
        let footer = self.footer()?;
        let parquet = footer.arrow.metadata();
        let groups: Vec<(usize, Vec<Range<usize>>)> = (0..parquet.num_row_groups())
            .filter_map(|group| {
                let ranges = Group::new(parquet, group)?.ranges(prune);
                (!ranges.is_empty()).then_some((group, ranges))
            })
            .collect();
        if groups.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        let projection = Projection::new(&footer, columns);
        let reader = self.reader()?;
        let trouble = reader.trouble.clone();
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(reader, footer.arrow.clone())
            .with_batch_size(batch_rows(parquet))
            .with_projection(projection.mask.clone());
        if let Some(selection) = selection(parquet, &groups) {
            builder = builder.with_row_selection(selection);
        }
        builder = builder.with_row_groups(groups.into_iter().map(|(group, _)| group).collect());
        if let Some(ids) = &prune.trace_ids {
            let ids: FxHashSet<[u8; 16]> = ids.iter().map(|id| id.0).collect();
            let mask = ProjectionMask::columns(footer.arrow.parquet_schema(), ["trace_id"]);
            let keep = move |batch: RecordBatch| Ok(keep_traces(&batch, &ids));
            builder =
                builder.with_row_filter(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, keep))]));
        }
        let file = Arc::clone(self);
        let batches = builder.build().map_err(|error| trouble.explain(&self.key, error.into()))?;
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch.map_err(|error| trouble.explain(&file.key, error.into()))?;
            projection.finish(&batch)
        })))
    }

    /// The file's columns, as they are in memory.
    pub(crate) fn schema(&self) -> Result<SchemaRef, StoreError> {
        Ok(Arc::clone(self.footer()?.arrow.schema()))
    }

    /// SHA-256 and length of the file as it is on disk.
    pub(crate) fn digest(&self) -> Result<([u8; 32], u64), StoreError> {
        use sha2::Digest as _;
        let context = |error| StoreError::io(format!("reading sealed file {}", self.key), error);
        let reader = self.reader()?;
        let mut hash = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let n = reader.file.read_at(at, &mut buffer).map_err(context)?;
            if n == 0 {
                return Ok((hash.finalize().into(), at));
            }
            hash.update(buffer.get(..n).unwrap_or_default());
            at += n as u64;
        }
    }
}

fn keep_traces(batch: &RecordBatch, ids: &FxHashSet<[u8; 16]>) -> BooleanArray {
    let column = batch.columns().first().and_then(|array| array.as_fixed_size_binary_opt());
    (0..batch.num_rows())
        .map(|row| {
            let id = column.filter(|column| column.is_valid(row)).map(|column| column.value(row));
            Some(id.and_then(|id| <[u8; 16]>::try_from(id).ok()).is_some_and(|id| ids.contains(&id)))
        })
        .collect()
}

/// Rows of a batch such that it holds about [`BATCH_BYTES`] where rows are of average size.
fn batch_rows(parquet: &ParquetMetaData) -> usize {
    let row_bytes = parquet
        .row_groups()
        .iter()
        .map(|group| group.total_byte_size() / group.num_rows().max(1))
        .max()
        .unwrap_or(0)
        .max(1);
    usize::try_from(BATCH_BYTES / row_bytes).unwrap_or(1).clamp(1, BATCH_ROWS_MAX)
}

/// The rows to read over the chosen row groups; `None` = all of them.
fn selection(parquet: &ParquetMetaData, groups: &[(usize, Vec<Range<usize>>)]) -> Option<RowSelection> {
    let mut base = 0;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (group, kept) in groups {
        for range in kept {
            match ranges.last_mut().filter(|last| last.end == base + range.start) {
                Some(last) => last.end = base + range.end,
                None => ranges.push(base + range.start..base + range.end),
            }
        }
        base += usize::try_from(parquet.row_group(*group).num_rows()).unwrap_or(0);
    }
    if let [only] = ranges.as_slice()
        && *only == (0..base)
    {
        return None;
    }
    Some(RowSelection::from_consecutive_ranges(ranges.into_iter(), base))
}

/// Which columns are read, and which of them the caller gets.
struct Projection {
    mask: ProjectionMask,
    wanted: Vec<String>,
    restore: bool,
}

impl Projection {
    fn new(footer: &Footer, columns: Option<&[&str]>) -> Self {
        let names: Vec<&str> =
            footer.arrow.schema().fields().iter().map(|field| field.name().as_str()).collect();
        let wanted: Vec<String> = names
            .iter()
            .filter(|name| columns.is_none_or(|columns| columns.contains(name)))
            .map(|name| (*name).to_owned())
            .collect();
        let restore = footer.elided && wanted.iter().any(|name| name == "body");
        let read = names.iter().copied().enumerate().filter(|(_, name)| {
            wanted.iter().any(|wanted| wanted == name)
                || (restore && matches!(*name, "trace_id" | "span_id" | "body_json"))
        });
        // Columns are flat, so that the n-th column is the n-th root.
        let mask = ProjectionMask::roots(footer.arrow.parquet_schema(), read.map(|(index, _)| index));
        Self { mask, wanted, restore }
    }

    fn finish(&self, batch: &RecordBatch) -> Result<RecordBatch, StoreError> {
        let mut fields = Vec::with_capacity(self.wanted.len());
        let mut arrays = Vec::with_capacity(self.wanted.len());
        for name in &self.wanted {
            let Some((index, field)) = batch.schema_ref().fields().find(name) else { continue };
            let mut array = Arc::clone(batch.column(index));
            if self.restore
                && name == "body"
                && let Some(bodies) = array.as_string_opt::<i32>().filter(|bodies| has_marker(bodies))
            {
                array = Arc::new(restore(bodies, &Ids::new(batch))?);
            }
            fields.push(Field::new(name, field.data_type().clone(), field.is_nullable()));
            arrays.push(array);
        }
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
    }
}

/// Statistics of one row group.
struct Group<'a> {
    parquet: &'a ParquetMetaData,
    index: usize,
    meta: &'a RowGroupMetaData,
    rows: usize,
}

/// What the statistics of some rows say of one column.
enum Bounds<'a> {
    /// Nothing.
    Unknown,
    /// Every value is null.
    AllNull,
    /// Lowest, highest, and whether there may be nulls.
    Int(i64, i64, bool),
    /// Bounds in byte order, and whether there may be nulls.
    Bytes(&'a [u8], &'a [u8]),
}

impl<'a> Group<'a> {
    fn new(parquet: &'a ParquetMetaData, index: usize) -> Option<Self> {
        let meta = parquet.row_groups().get(index)?;
        Some(Self { parquet, index, meta, rows: usize::try_from(meta.num_rows()).ok()? })
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.meta.columns().iter().position(|column| column.column_path().string() == name)
    }

    /// Rows that may fulfil `prune`: ascending ranges that do not touch.
    fn ranges(&self, prune: &Prune) -> Vec<Range<usize>> {
        let mut kept: Vec<_> = std::iter::once(0..self.rows).collect();
        if let Some(ts) = &prune.ts {
            kept = self.narrow(kept, "ts", &|bounds| int_may_fit(bounds, ts, None));
        }
        if let Some(seq) = &prune.seq {
            kept = self.narrow(kept, "seq", &|bounds| int_may_fit(bounds, seq, None));
        }
        if let Some(severity) = &prune.severity {
            let range = i64::from(*severity.start())..=i64::from(*severity.end());
            kept = self.narrow(kept, "severity_number", &|bounds| int_may_fit(bounds, &range, Some(0)));
        }
        if let Some(services) = &prune.services {
            kept = self.narrow(kept, "service", &|bounds| match bounds {
                Bounds::AllNull => false,
                Bounds::Bytes(low, high) => {
                    services.iter().any(|name| name.as_bytes() >= *low && name.as_bytes() <= *high)
                }
                _ => true,
            });
        }
        if prune.trace_ids.is_some() && self.column("trace_id").is_none() {
            kept.clear();
        }
        kept
    }

    fn narrow(
        &self,
        kept: Vec<Range<usize>>,
        name: &str,
        may_fit: &dyn Fn(&Bounds<'_>) -> bool,
    ) -> Vec<Range<usize>> {
        if kept.is_empty() {
            return kept;
        }
        let Some(column) = self.column(name) else {
            return if may_fit(&Bounds::AllNull) { kept } else { Vec::new() };
        };
        if !may_fit(&self.group_bounds(column)) {
            return Vec::new();
        }
        match self.pages(column, may_fit) {
            Some(pages) => intersect(&kept, &pages),
            None => kept,
        }
    }

    fn group_bounds(&self, column: usize) -> Bounds<'a> {
        let Some(statistics) = self.meta.columns().get(column).and_then(|column| column.statistics()) else {
            return Bounds::Unknown;
        };
        if statistics.null_count_opt() == Some(self.rows as u64) {
            return Bounds::AllNull;
        }
        let nulls = statistics.null_count_opt() != Some(0);
        match statistics {
            Statistics::Int32(s) => match (s.min_opt(), s.max_opt()) {
                (Some(&low), Some(&high)) => Bounds::Int(i64::from(low), i64::from(high), nulls),
                _ => Bounds::Unknown,
            },
            Statistics::Int64(s) => match (s.min_opt(), s.max_opt()) {
                (Some(&low), Some(&high)) => Bounds::Int(low, high, nulls),
                _ => Bounds::Unknown,
            },
            Statistics::ByteArray(s) => match (s.min_bytes_opt(), s.max_bytes_opt()) {
                (Some(low), Some(high)) => Bounds::Bytes(low, high),
                _ => Bounds::Unknown,
            },
            _ => Bounds::Unknown,
        }
    }

    /// Row ranges of the pages that may fit; `None` without a page index.
    fn pages(&self, column: usize, may_fit: &dyn Fn(&Bounds<'_>) -> bool) -> Option<Vec<Range<usize>>> {
        let index = self.parquet.column_index()?.get(self.index)?.get(column)?;
        let pages = self.parquet.offset_index()?.get(self.index)?.get(column)?.page_locations();
        let start = |page: usize| {
            pages.get(page).map_or(self.rows, |page| usize::try_from(page.first_row_index).unwrap_or(self.rows))
        };
        let mut kept: Vec<Range<usize>> = Vec::new();
        for page in 0..pages.len() {
            if !may_fit(&page_bounds(index, page)) {
                continue;
            }
            let range = start(page)..start(page + 1);
            match kept.last_mut().filter(|last| last.end == range.start) {
                Some(last) => last.end = range.end,
                None => kept.push(range),
            }
        }
        Some(kept)
    }
}

fn page_bounds(index: &ColumnIndexMetaData, page: usize) -> Bounds<'_> {
    if page as u64 >= index.num_pages() {
        return Bounds::Unknown;
    }
    if index.is_null_page(page) {
        return Bounds::AllNull;
    }
    let nulls = index.null_count(page) != Some(0);
    match index {
        ColumnIndexMetaData::INT32(index) => match (index.min_value(page), index.max_value(page)) {
            (Some(&low), Some(&high)) => Bounds::Int(i64::from(low), i64::from(high), nulls),
            _ => Bounds::Unknown,
        },
        ColumnIndexMetaData::INT64(index) => match (index.min_value(page), index.max_value(page)) {
            (Some(&low), Some(&high)) => Bounds::Int(low, high, nulls),
            _ => Bounds::Unknown,
        },
        ColumnIndexMetaData::BYTE_ARRAY(index) => match (index.min_value(page), index.max_value(page)) {
            (Some(low), Some(high)) => Bounds::Bytes(low, high),
            _ => Bounds::Unknown,
        },
        _ => Bounds::Unknown,
    }
}

/// `null` is what a null counts as; without it a null fits nothing.
fn int_may_fit(bounds: &Bounds<'_>, range: &RangeInclusive<i64>, null: Option<i64>) -> bool {
    let null_fits = null.is_some_and(|null| range.contains(&null));
    match *bounds {
        Bounds::AllNull => null_fits,
        Bounds::Int(low, high, nulls) => {
            (low <= *range.end() && high >= *range.start()) || (nulls && null_fits)
        }
        _ => true,
    }
}

/// Both lists ascend and their ranges do not touch.
fn intersect(a: &[Range<usize>], b: &[Range<usize>]) -> Vec<Range<usize>> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut both = Vec::new();
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let (start, end) = (x.start.max(y.start), x.end.min(y.end));
        if start < end {
            both.push(start..end);
        }
        if x.end <= y.end {
            a.next();
        } else {
            b.next();
        }
    }
    both
}

/// Footer, page index and trace filter of a file.
pub(crate) struct Footer {
    arrow: ArrowReaderMetadata,
    elided: bool,
    traces: Option<Traces>,
    bytes: usize,
}

/// Descriptor and fingerprints of the filter of trace ids.
struct Traces {
    descriptor: [u8; BinaryFuse8::DESCRIPTOR_LEN],
    fingerprints: Vec<u8>,
}

impl Footer {
    fn read(reader: &FileReader) -> Result<Footer, StoreError> {
        let parquet = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(reader)?;
        let value = |key: &str| {
            let pairs = parquet.file_metadata().key_value_metadata()?;
            pairs.iter().find(|pair| pair.key == key)?.value.clone()
        };
        let elided = value(KEY_ELIDED).as_deref() == Some("true");
        let traces = match value(KEY_DIRECTORY) {
            Some(place) => Traces::read(reader, &place)?,
            None => None,
        };
        let bytes = parquet.memory_size() + traces.as_ref().map_or(0, |traces| traces.fingerprints.len());
        let arrow = ArrowReaderMetadata::try_new(Arc::new(parquet), ArrowReaderOptions::new())?;
        Ok(Footer { arrow, elided, traces, bytes })
    }

    fn may_have_trace(&self, id: &[u8; 16]) -> bool {
        self.traces.as_ref().is_none_or(|traces| {
            BinaryFuse8Ref::from_dma(&traces.descriptor, &traces.fingerprints).contains(&trace_hash(id))
        })
    }
}

impl Traces {
    fn read(reader: &FileReader, place: &str) -> Result<Option<Traces>, StoreError> {
        let bad = || StoreError::corrupt("the directory of a sealed file's blocks is damaged");
        let (at, len) = place.split_once(' ').ok_or_else(bad)?;
        let directory = reader.range(at.parse().map_err(|_| bad())?, len.parse().map_err(|_| bad())?)?;
        let directory: serde_json::Value = serde_json::from_slice(&directory).map_err(|_| bad())?;
        let Some(place) = directory.get(BLOCK_TRACES) else { return Ok(None) };
        let number = |index: usize| place.get(index).and_then(serde_json::Value::as_u64).ok_or_else(bad);
        let block = reader.range(number(0)?, number(1)?)?;
        let (content, crc) = block.split_last_chunk::<4>().ok_or_else(bad)?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
            return Err(StoreError::corrupt("the trace filter of a sealed file is damaged"));
        }
        let (descriptor, fingerprints) =
            content.split_first_chunk::<{ BinaryFuse8::DESCRIPTOR_LEN }>().ok_or_else(bad)?;
        Traces::checked(*descriptor, fingerprints.to_vec()).ok_or_else(bad).map(Some)
    }

    /// The filter indexes its fingerprints by what the descriptor says: both must fit.
    fn checked(descriptor: [u8; BinaryFuse8::DESCRIPTOR_LEN], fingerprints: Vec<u8>) -> Option<Traces> {
        let number = |at: usize| {
            let bytes = descriptor.get(at..at + 4)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(bytes)))
        };
        let (segment, mask, count) = (number(8)?, number(12)?, number(16)?);
        let fits = segment.is_power_of_two()
            && mask == segment - 1
            && count % segment == 0
            && count + 2 * segment <= fingerprints.len() as u64;
        fits.then_some(Traces { descriptor, fingerprints })
    }
}

/// Footers by file, bounded by bytes, the longest unused dropped first.
pub(crate) struct FooterCache {
    bytes_max: usize,
    inner: Mutex<CacheInner>,
}

#[derive(Default)]
struct CacheInner {
    entries: HashMap<String, (u64, Arc<Footer>), FxBuildHasher>,
    bytes: usize,
    clock: u64,
}

impl FooterCache {
    /// An empty cache of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    fn get(&self, key: &str) -> Option<Arc<Footer>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        let (used, footer) = inner.entries.get_mut(key)?;
        *used = now;
        Some(Arc::clone(footer))
    }

    fn put(&self, key: &str, footer: &Arc<Footer>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        inner.bytes += footer.bytes;
        if let Some((_, old)) = inner.entries.insert(key.to_owned(), (now, Arc::clone(footer))) {
            inner.bytes -= old.bytes;
        }
        while inner.bytes > self.bytes_max && inner.entries.len() > 1 {
            let oldest = inner.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            match oldest.and_then(|key| inner.entries.remove(&key)) {
                Some((_, old)) => inner.bytes -= old.bytes,
                None => break,
            }
        }
    }

    fn forget(&self, key: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = inner.entries.remove(key) {
            inner.bytes -= old.bytes;
        }
    }
}

/// An open file as Parquet reads it.
struct FileReader {
    file: Arc<dyn DiskFile>,
    len: u64,
    trouble: Trouble,
}

/// The disk's last error. Parquet and Arrow keep only its text, and a disk that fails is no damaged file.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<io::Error>>>);

impl Trouble {
    /// Remembers the disk's error and gives back one of the same kind.
    fn note(&self, error: io::Error) -> io::Error {
        let same = io::Error::new(error.kind(), error.to_string());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        same
    }

    /// What an error in reading the file means.
    fn explain(&self, key: &str, error: StoreError) -> StoreError {
        match (self.0.lock().unwrap_or_else(PoisonError::into_inner).take(), error) {
            (Some(disk), _) => StoreError::io(format!("reading sealed file {key}"), disk),
            (None, StoreError::Corrupt { detail }) => {
                StoreError::corrupt(format!("sealed file {key} cannot be read: {detail}"))
            }
            (None, other) => other,
        }
    }
}

impl FileReader {
    fn range(&self, at: u64, len: u64) -> Result<Vec<u8>, StoreError> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(StoreError::corrupt("a block of a sealed file lies beyond its end"));
        }
        let mut bytes = vec![0; len as usize];
        self.file
            .read_exact_at(at, &mut bytes)
            .map_err(|error| StoreError::io("reading a sealed file", error))?;
        Ok(bytes)
    }
}

impl Length for FileReader {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for FileReader {
    type T = io::BufReader<Cursor>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let cursor = Cursor { file: Arc::clone(&self.file), at: start, trouble: self.trouble.clone() };
        Ok(io::BufReader::with_capacity(READ_BYTES.min(self.len.max(1)) as usize, cursor))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(parquet::errors::ParquetError::EOF(format!(
                "{length} bytes at {start} lie beyond the end of the file"
            )));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(start, &mut bytes).map_err(|error| self.trouble.note(error))?;
        Ok(bytes.into())
    }
}

/// Reads on from a position.
struct Cursor {
    file: Arc<dyn DiskFile>,
    at: u64,
    trouble: Trouble,
}

impl Read for Cursor {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(self.at, out).map_err(|error| self.trouble.note(error))?;
        self.at += n as u64;
        Ok(n)
    }
}
