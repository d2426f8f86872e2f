//! Reads sealed files: footers on demand and cached, row groups and pages left out by their statistics, ids restored.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection,
};
use parquet::arrow::parquet_to_arrow_field_levels;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::{
    ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics;
use rustc_hash::FxHashSet;
use threadline_model::disk::DiskFile;

use crate::sealed::cache::{Cache, Kept, Part};
use crate::sealed::elide::{Ids, has_marker, restore};
use crate::sealed::fuse::{self, Fuse};
use crate::sealed::index::dictionary::{GRANULE_ROWS, Sparse, Sub};
use crate::sealed::index::durations::Durations;
use crate::sealed::index::plan::{self, Dictionaries, Reading};
use crate::sealed::index::rollup::{Facets, Rollup};
use crate::sealed::index::{BLOCK_DURATIONS, BLOCK_FACETS, BLOCK_ROLLUP, FULL_COLUMNS, VALUE_COLUMNS, Which};
use crate::sealed::objects::Objects;
use crate::sealed::packs::{Content, FILTER_BYTES_MAX, Known, Place, term_hash};
use crate::sealed::pages::Groups;
use crate::sealed::writer::{BLOCK_COLUMNS, BLOCK_TRACES, HeadPlace, KEY_ELIDED, trace_hash};
use crate::snapshot::{FileMeta, Scan};
use crate::{IndexPlan, Prune, StoreError, TermList, ValueTest};

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
    head: HeadPlace,
    /// Its number in the cache.
    number: u64,
    cache: Arc<Cache>,
    /// Its place in a filter pack.
    place: RwLock<Option<Place>>,
    doomed: AtomicBool,
}

impl fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedFile").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            self.cache.forget(self.number);
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
        head: HeadPlace,
        cache: Arc<Cache>,
    ) -> Self {
        let number = cache.file();
        let (place, doomed) = (RwLock::default(), AtomicBool::new(false));
        Self { meta, services, objects, key, head, number, cache, place, doomed }
    }

    /// What the table log says of the file.
    pub fn meta(&self) -> &FileMeta {
        &self.meta
    }

    /// The table log no longer names the file: remove it with its last holder.
    pub(crate) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// Its place in a filter pack.
    pub(crate) fn place(&self) -> Option<Place> {
        self.place.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it has this place in a filter pack.
    pub(crate) fn set_place(&self, place: Option<Place>) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Whether no row can fulfil `prune`, as far as the catalogue in memory and the file's filter pack tell. With trace
    /// ids, the file's own filter is asked, too. Packs and filters are read once and cached.
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
            || prune.index == IndexPlan::Nothing
            || self.place().is_some_and(|place| place.denies(&self.meta, prune, &self.cache))
            || prune.trace_ids.as_ref().is_some_and(|ids| {
                ids.is_empty()
                    || self.index().is_ok_and(|index| !ids.iter().any(|id| index.may_have_trace(&id.0)))
            })
    }

    pub(super) fn footer(&self) -> Result<Arc<Footer>, StoreError> {
        if let Some(Kept::Footer(footer)) = self.cache.get(self.number, Part::Footer) {
            return Ok(footer);
        }
        let reader = self.reader()?;
        let footer = Footer::read(&reader).map_err(|error| reader.trouble.explain(&self.key, error))?;
        let footer = Arc::new(footer);
        self.cache.put(self.number, Part::Footer, Kept::Footer(Arc::clone(&footer)));
        Ok(footer)
    }

    fn index(&self) -> Result<Arc<FileIndex>, StoreError> {
        if let Some(Kept::Index(index)) = self.cache.get(self.number, Part::Index) {
            return Ok(index);
        }
        let index = self.read_index()?;
        self.cache.put(self.number, Part::Index, Kept::Index(Arc::clone(&index)));
        Ok(index)
    }

    fn read_index(&self) -> Result<Arc<FileIndex>, StoreError> {
        let bytes = self.read_range(self.head.at, self.head.len)?;
        FileIndex::read(&bytes, self.head).map(Arc::new).map_err(|error| self.explain(error))
    }

    /// What a filter pack is to say of the file. Nothing that is read for it is kept.
    pub(crate) fn pack_content(&self) -> Result<Content, StoreError> {
        let index = match self.cache.get(self.number, Part::Index) {
            Some(Kept::Index(index)) => index,
            _ => self.read_index()?,
        };
        let traces = match (index.sparse(Which::Traces), &index.traces) {
            (None, _) => Known::Empty,
            (Some(_), Some(filter)) => Known::Filter(filter.clone()),
            (Some(_), None) => Known::Unknown,
        };
        let terms = FileDictionaries { file: self, index }.terms_filter()?;
        Ok(Content { traces, terms })
    }

    fn explain(&self, error: StoreError) -> StoreError {
        Trouble::default().explain(&self.key, error)
    }

    fn read_range(&self, at: u64, len: u64) -> Result<Vec<u8>, StoreError> {
        let reader = self.reader()?;
        reader.range(at, len).map_err(|error| reader.trouble.explain(&self.key, error))
    }

    /// Rows by service, minute and class.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn rollup(&self) -> Result<Arc<Rollup>, StoreError> {
        if let Some(Kept::Rollup(rollup)) = self.cache.get(self.number, Part::Rollup) {
            return Ok(rollup);
        }
        let rollup = Rollup::read(&self.block(BLOCK_ROLLUP)?).map_err(|error| self.explain(error))?;
        let rollup = Arc::new(rollup);
        self.cache.put(self.number, Part::Rollup, Kept::Rollup(Arc::clone(&rollup)));
        Ok(rollup)
    }

    /// Rows by value and class, of columns with few values.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn facets(&self) -> Result<Arc<Facets>, StoreError> {
        if let Some(Kept::Facets(facets)) = self.cache.get(self.number, Part::Facets) {
            return Ok(facets);
        }
        let facets = Facets::read(&self.block(BLOCK_FACETS)?).map_err(|error| self.explain(error))?;
        let facets = Arc::new(facets);
        self.cache.put(self.number, Part::Facets, Kept::Facets(Arc::clone(&facets)));
        Ok(facets)
    }

    /// Durations and failures of spans by service and minute; `None` when the file does not say (it holds logs, or was
    /// written before they were kept).
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn durations(&self) -> Result<Option<Arc<Durations>>, StoreError> {
        if let Some(Kept::Durations(durations)) = self.cache.get(self.number, Part::Durations) {
            return Ok(Some(durations));
        }
        if !self.index()?.blocks.iter().any(|(block, _)| block == BLOCK_DURATIONS) {
            return Ok(None);
        }
        let durations = Durations::read(&self.block(BLOCK_DURATIONS)?).map_err(|error| self.explain(error))?;
        let durations = Arc::new(durations);
        self.cache.put(self.number, Part::Durations, Kept::Durations(Arc::clone(&durations)));
        Ok(Some(durations))
    }

    /// Calls `each` for every different trace id of the file, some more than once; `false`, and no call, when that
    /// would take reading all rows.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn each_trace(&self, each: &mut dyn FnMut(&[u8; 16])) -> Result<bool, StoreError> {
        let footer = self.footer()?;
        let parquet = footer.arrow.metadata();
        let Some(column) = Group::new(parquet, 0).map(|group| group.column("trace_id")) else {
            return Ok(true);
        };
        let Some(column) = column else { return Ok(true) };
        let chunks: Vec<&ColumnChunkMetaData> =
            parquet.row_groups().iter().filter_map(|group| group.columns().get(column)).collect();
        if !chunks.iter().all(|chunk| all_dictionary(chunk)) {
            return Ok(false);
        }
        let reader = Arc::new(self.reader()?);
        let trouble = reader.trouble.clone();
        for (chunk, group) in chunks.into_iter().zip(parquet.row_groups()) {
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            let page = SerializedPageReader::new(Arc::clone(&reader), chunk, rows, None)
                .and_then(|mut pages| pages.get_next_page())
                .map_err(|error| trouble.explain(&self.key, error.into()))?;
            if let Some(Page::DictionaryPage { buf, .. }) = page {
                buf.as_ref().as_chunks::<16>().0.iter().for_each(&mut *each);
            }
        }
        Ok(true)
    }

    /// Whether some row has a value in this column.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn has_column(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.index()?.has_column(name))
    }

    fn block(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let index = self.index()?;
        let missing = || self.explain(StoreError::corrupt(format!("the block {name} is missing")));
        let (at, len) = index
            .blocks
            .iter()
            .find(|(block, _)| block == name)
            .map(|(_, place)| *place)
            .ok_or_else(missing)?;
        self.read_range(at, len)
    }

    /// Rows whose bodies have this plain term (lower case, ASCII), exactly; `None` when the index does not tell.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn term_rows(&self, term: &str) -> Result<Option<u64>, StoreError> {
        plan::term_rows(&self.dictionaries()?, term.as_bytes())
    }

    /// Rows whose bodies have this text (ASCII term characters, no run of hex digits alone), with case: their number
    /// outside of the given rows, for which the index does not tell.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn containing_rows(&self, text: &str) -> Result<(u64, Vec<Range<usize>>), StoreError> {
        let dictionaries = self.dictionaries()?;
        let (rows, unsure) = plan::containing_rows(&dictionaries, text.as_bytes())?;
        Ok((rows, unsure.row_ranges(dictionaries.rows())))
    }

    /// Whether some row may have a value in a dictionary or integer column that fulfils the test.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn may_have_value(&self, column: &str, test: &ValueTest) -> Result<bool, StoreError> {
        self.may_have(&IndexPlan::Value { column: column.to_owned(), test: test.clone() })
    }

    /// Whether the plan may mean some row.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn may_have(&self, plan: &IndexPlan) -> Result<bool, StoreError> {
        Ok(plan::granules(&self.dictionaries()?, plan)?.is_none_or(|granules| !granules.is_empty()))
    }

    /// Rows that have a term which the plan means, where every such row matches and no other does: their number outside
    /// of the given rows, for which the index does not tell. The plan consists of terms and of `Or`; `None` otherwise.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn rows_with_terms(&self, plan: &IndexPlan) -> Result<Option<(u64, Vec<Range<usize>>)>, StoreError> {
        let dictionaries = self.dictionaries()?;
        let counted = plan::rows_with_terms(&dictionaries, plan)?;
        Ok(counted.map(|(rows, unsure)| (rows, unsure.row_ranges(dictionaries.rows()))))
    }

    fn dictionaries(&self) -> Result<FileDictionaries<'_>, StoreError> {
        Ok(FileDictionaries { file: self, index: self.index()? })
    }

    /// Rows that the indexes let through: ascending ranges that do not touch; `None` = all.
    fn indexed(&self, prune: &Prune) -> Result<Option<Vec<Range<usize>>>, StoreError> {
        if prune.trace_ids.is_none() && prune.index == IndexPlan::All {
            return Ok(None);
        }
        let dictionaries = self.dictionaries()?;
        let mut found = plan::granules(&dictionaries, &prune.index)?;
        if let Some(ids) = &prune.trace_ids {
            let ids: Vec<[u8; 16]> =
                ids.iter().map(|id| id.0).filter(|id| dictionaries.index.may_have_trace(id)).collect();
            let of_traces = plan::traces(&dictionaries, &ids)?;
            match &mut found {
                Some(found) => found.intersect(&of_traces),
                None => found = Some(of_traces),
            }
        }
        Ok(found.map(|granules| granules.row_ranges(dictionaries.rows())))
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
        let Some(ids) = prune.trace_ids.as_deref() else {
            let Some((footer, groups)) = self.select(prune)? else { return Ok(Box::new(std::iter::empty())) };
            return self.read(&footer, columns, groups);
        };
        // First which rows, then these alone.
        let ids: FxHashSet<[u8; 16]> = ids.iter().map(|id| id.0).collect();
        let mut found: Vec<usize> = Vec::new();
        for placed in self.scan_places(Some(&["trace_id"]), prune)? {
            let (batch, places) = placed?;
            found.extend(rows_of_traces(&batch, &ids).filter_map(|row| places.get(row)));
        }
        self.rows(columns, &found)
    }

    /// As [`SealedFile::scan`], with the places of the rows in the file, for [`SealedFile::rows`].
    pub fn scan_places(
        self: &Arc<Self>,
        columns: Option<&[&str]>,
        prune: &Prune,
    ) -> Result<PlacedScan, StoreError> {
        let Some((footer, groups)) = self.select(prune)? else { return Ok(Box::new(std::iter::empty())) };
        let starts = group_starts(footer.arrow.metadata());
        let mut places = Places::default();
        for (group, ranges) in &groups {
            let start = starts.get(*group).copied().unwrap_or(0);
            places.ranges.extend(ranges.iter().map(|range| start + range.start..start + range.end));
        }
        let batches = self.read(&footer, columns, groups)?;
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch?;
            let of_batch = places.take(batch.num_rows());
            Ok((batch, of_batch))
        })))
    }

    /// Reads the rows at these places, ascending.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn rows(self: &Arc<Self>, columns: Option<&[&str]>, places: &[usize]) -> Result<Scan, StoreError> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for &place in places {
            match ranges.last_mut().filter(|last| last.end == place) {
                Some(last) => last.end = place + 1,
                None => ranges.push(place..place + 1),
            }
        }
        self.scan_ranges(columns, &ranges)
    }

    /// Reads these rows: ascending ranges that do not touch.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn scan_ranges(
        self: &Arc<Self>,
        columns: Option<&[&str]>,
        ranges: &[Range<usize>],
    ) -> Result<Scan, StoreError> {
        if ranges.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        let footer = self.footer()?;
        let parquet = footer.arrow.metadata();
        let starts = group_starts(parquet);
        let groups: Vec<GroupRows> = (0..parquet.num_row_groups())
            .filter_map(|index| {
                let rows = Group::new(parquet, index)?.rows;
                let kept = within(ranges, starts.get(index).copied()?, rows);
                (!kept.is_empty()).then_some((index, kept))
            })
            .collect();
        if groups.is_empty() {
            return Ok(Box::new(std::iter::empty()));
        }
        self.read(&footer, columns, groups)
    }

    /// Row groups with the rows of them that may fulfil `prune`; `None` when there are none.
    fn select(&self, prune: &Prune) -> Result<Option<(Arc<Footer>, Vec<GroupRows>)>, StoreError> {
        if self.excluded_by(prune) {
            return Ok(None);
        }
        let indexed = self.indexed(prune)?;
        if indexed.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let footer = self.footer()?;
        let parquet = footer.arrow.metadata();
        let starts = group_starts(parquet);
        let groups: Vec<GroupRows> = (0..parquet.num_row_groups())
            .filter_map(|index| {
                let group = Group::new(parquet, index)?;
                let kept = match &indexed {
                    None => std::iter::once(0..group.rows).collect(),
                    Some(indexed) => within(indexed, starts.get(index).copied().unwrap_or(0), group.rows),
                };
                let ranges = group.ranges(prune, kept);
                (!ranges.is_empty()).then_some((index, ranges))
            })
            .collect();
        Ok((!groups.is_empty()).then_some((footer, groups)))
    }

    fn read(
        self: &Arc<Self>,
        footer: &Footer,
        columns: Option<&[&str]>,
        groups: Vec<GroupRows>,
    ) -> Result<Scan, StoreError> {
        let parquet = footer.arrow.metadata();
        let projection = Projection::new(footer, columns);
        let reader = self.reader()?;
        let trouble = reader.trouble.clone();
        let selection = selection(parquet, &groups);
        let explain = |error: parquet::errors::ParquetError| trouble.explain(&self.key, error.into());
        let levels = parquet_to_arrow_field_levels(
            footer.arrow.parquet_schema(),
            projection.mask.clone(),
            Some(footer.arrow.schema().fields()),
        )
        .map_err(explain)?;
        let row_groups = Groups {
            reader: Arc::new(reader),
            parquet: Arc::clone(parquet),
            groups: groups.into_iter().map(|(group, _)| group).collect(),
            decompressors: Arc::clone(self.cache.decompressors()),
        };
        let batches = ParquetRecordBatchReader::try_new_with_row_groups(
            &levels,
            &row_groups,
            batch_rows(parquet),
            selection,
        )
        .map_err(explain)?;
        let file = Arc::clone(self);
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

/// A row group and the rows of it that are read: ascending ranges that do not touch.
type GroupRows = (usize, Vec<Range<usize>>);

/// Batches of a sealed file, with the places of their rows in the file.
pub type PlacedScan = Box<dyn Iterator<Item = Result<(RecordBatch, Places), StoreError>> + Send>;

/// Places of the rows of a batch in their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Ascending ranges of rows.
    ranges: VecDeque<Range<usize>>,
}

impl Places {
    /// The first rows, which are taken out.
    fn take(&mut self, mut rows: usize) -> Places {
        let mut taken = Places::default();
        while rows > 0
            && let Some(range) = self.ranges.front_mut()
        {
            let end = range.end.min(range.start + rows);
            taken.ranges.push_back(range.start..end);
            rows -= end - range.start;
            range.start = end;
            if range.start >= range.end {
                self.ranges.pop_front();
            }
        }
        taken
    }

    /// Place of a row of the batch.
    pub fn get(&self, mut row: usize) -> Option<usize> {
        for range in &self.ranges {
            if row < range.len() {
                return Some(range.start + row);
            }
            row -= range.len();
        }
        None
    }
}

/// Whether all values of a column chunk lie in its dictionary.
fn all_dictionary(chunk: &ColumnChunkMetaData) -> bool {
    chunk.dictionary_page_offset().is_some()
        && chunk.page_encoding_stats_mask().is_some_and(|mask| {
            mask.is_only(Encoding::RLE_DICTIONARY) || mask.is_only(Encoding::PLAIN_DICTIONARY)
        })
}

/// Rows before each row group.
fn group_starts(parquet: &ParquetMetaData) -> Vec<usize> {
    let mut start = 0;
    parquet
        .row_groups()
        .iter()
        .map(|group| {
            let at = start;
            start += usize::try_from(group.num_rows()).unwrap_or(0);
            at
        })
        .collect()
}

/// The parts of ascending ranges that lie in `start..start + len`, counted from `start`.
fn within(ranges: &[Range<usize>], start: usize, len: usize) -> Vec<Range<usize>> {
    let end = start + len;
    let first = ranges.partition_point(|range| range.end <= start);
    ranges
        .iter()
        .skip(first)
        .take_while(|range| range.start < end)
        .map(|range| range.start.max(start) - start..range.end.min(end) - start)
        .collect()
}

/// Rows of a batch whose trace id is one of these.
fn rows_of_traces<'a>(
    batch: &'a RecordBatch,
    ids: &'a FxHashSet<[u8; 16]>,
) -> impl Iterator<Item = usize> + use<'a> {
    let column = batch.column_by_name("trace_id").and_then(|array| array.as_fixed_size_binary_opt());
    (0..batch.num_rows()).filter(move |&row| {
        let id = column.filter(|column| column.is_valid(row)).map(|column| column.value(row));
        id.and_then(|id| <[u8; 16]>::try_from(id).ok()).is_some_and(|id| ids.contains(&id))
    })
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

    /// Of these rows, those that may fulfil `prune`: ascending ranges that do not touch.
    fn ranges(&self, prune: &Prune, mut kept: Vec<Range<usize>>) -> Vec<Range<usize>> {
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

/// Footer and page index of a file.
pub(crate) struct Footer {
    pub(super) arrow: ArrowReaderMetadata,
    elided: bool,
    bytes: usize,
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
        let bytes = parquet.memory_size();
        let arrow = ArrowReaderMetadata::try_new(Arc::new(parquet), ArrowReaderOptions::new())?;
        Ok(Footer { arrow, elided, bytes })
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Head of a file's indexes: what every look-up needs.
pub(crate) struct FileIndex {
    /// The filter of trace ids.
    traces: Option<Vec<u8>>,
    sparse: [Option<Sparse>; Which::ALL.len()],
    /// Name, offset and length of the other blocks.
    blocks: Vec<(String, (u64, u64))>,
    columns: Vec<String>,
    value_columns: Vec<String>,
    full_columns: Vec<String>,
}

impl FileIndex {
    fn read(head: &[u8], place: HeadPlace) -> Result<FileIndex, StoreError> {
        let bad = || StoreError::corrupt("the directory of a sealed file's blocks is damaged");
        let directory = usize::try_from(place.directory).ok().and_then(|at| head.get(at..)).ok_or_else(bad)?;
        let directory: serde_json::Value = serde_json::from_slice(directory).map_err(|_| bad())?;
        let names = |key: &str| -> Result<Vec<String>, StoreError> {
            let list = directory.get(key).and_then(serde_json::Value::as_array).ok_or_else(bad)?;
            list.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(bad)).collect()
        };
        let (columns, value_columns) = (names(BLOCK_COLUMNS)?, names(VALUE_COLUMNS)?);
        let full_columns = names(FULL_COLUMNS)?;
        let mut index = FileIndex {
            traces: None,
            sparse: [const { None }; Which::ALL.len()],
            blocks: Vec::new(),
            columns,
            value_columns,
            full_columns,
        };
        for (name, entry) in directory.as_object().ok_or_else(bad)? {
            let number = |at: usize| entry.get(at).and_then(serde_json::Value::as_u64);
            let (Some(at), Some(len)) = (number(0), number(1)) else { continue };
            let in_head = at.checked_sub(place.at).and_then(|from| {
                let from = usize::try_from(from).ok()?;
                head.get(from..from.checked_add(usize::try_from(len).ok()?)?)
            });
            let which = Which::ALL.iter().position(|which| which.block() == name);
            match which.and_then(|which| index.sparse.get_mut(which)) {
                Some(slot) => *slot = Some(Sparse::read(in_head.ok_or_else(bad)?)?),
                None if name == BLOCK_TRACES => index.traces = Some(read_traces(in_head.ok_or_else(bad)?)?),
                None => index.blocks.push((name.clone(), (at, len))),
            }
        }
        Ok(index)
    }

    fn may_have_trace(&self, id: &[u8; 16]) -> bool {
        self.sparse(Which::Traces).is_some()
            && self.traces.as_deref().and_then(Fuse::read).is_none_or(|filter| filter.contains(trace_hash(id)))
    }

    fn sparse(&self, which: Which) -> Option<&Sparse> {
        let at = Which::ALL.iter().position(|known| *known == which)?;
        self.sparse.get(at)?.as_ref()
    }

    fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column == name)
    }

    /// Bytes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let names = |names: &[String]| names.iter().map(|name| name.len() + 24).sum::<usize>();
        self.traces.as_ref().map_or(0, Vec::len)
            + self.sparse.iter().flatten().map(Sparse::bytes).sum::<usize>()
            + names(&self.columns)
            + names(&self.value_columns)
            + names(&self.full_columns)
            + self.blocks.len() * 64
    }
}

/// The dictionaries of an open file.
struct FileDictionaries<'a> {
    file: &'a SealedFile,
    index: Arc<FileIndex>,
}

impl FileDictionaries<'_> {
    /// The filter of all plain terms; unknown when it would be large.
    fn terms_filter(&self) -> Result<Known<Vec<u8>>, StoreError> {
        let Some(sparse) = self.sparse(Which::Terms(TermList::Plain)) else { return Ok(Known::Empty) };
        if (sparse.covered as usize) < self.rows().div_ceil(GRANULE_ROWS) {
            return Ok(Known::Unknown);
        }
        let mut hashes: Vec<u64> = Vec::new();
        for at in 0..sparse.len() {
            let sub = self.sub(Which::Terms(TermList::Plain), at, Reading::Once)?;
            hashes.extend((0..sub.len()).map(|index| term_hash(sub.term(index))));
            if hashes.len() > FILTER_BYTES_MAX {
                return Ok(Known::Unknown);
            }
        }
        hashes.sort_unstable();
        hashes.dedup();
        Ok(match fuse::build(&hashes) {
            Some(filter) => Known::Filter(filter),
            None if hashes.is_empty() => Known::Empty,
            None => Known::Unknown,
        })
    }
}

impl Dictionaries for FileDictionaries<'_> {
    fn rows(&self) -> usize {
        usize::try_from(self.file.meta.rows).unwrap_or(usize::MAX)
    }

    fn sparse(&self, which: Which) -> Option<&Sparse> {
        self.index.sparse(which)
    }

    fn sub(&self, which: Which, sub: usize, reading: Reading) -> Result<Arc<Sub>, StoreError> {
        let part = Part::Sub(which, u32::try_from(sub).unwrap_or(u32::MAX));
        if let Some(Kept::Sub(sub)) = self.file.cache.get(self.file.number, part) {
            return Ok(sub);
        }
        let bad = || StoreError::corrupt("an index of a sealed file is damaged");
        let sparse = self.index.sparse(which).ok_or_else(bad)?;
        let (at, len) = sparse.place(sub).ok_or_else(bad)?;
        let bytes = self.file.read_range(at, len as u64)?;
        let decoded = sparse.decode(sub, &bytes, self.file.cache.decompressors());
        let sub = Arc::new(decoded.map_err(|error| self.file.explain(error))?);
        let kept = Kept::Sub(Arc::clone(&sub));
        match reading {
            Reading::LookUp => self.file.cache.put(self.file.number, part, kept),
            Reading::Scan => self.file.cache.put_scanned(self.file.number, part, kept),
            Reading::Once => {}
        }
        Ok(sub)
    }

    fn has_column(&self, name: &str) -> bool {
        self.index.has_column(name)
    }

    fn has_values(&self, column: &str) -> bool {
        self.index.value_columns.iter().any(|known| known == column)
    }

    fn is_full(&self, column: &str) -> bool {
        self.index.full_columns.iter().any(|known| known == column)
    }
}

/// The filter of trace ids from its block.
fn read_traces(block: &[u8]) -> Result<Vec<u8>, StoreError> {
    let bad = || StoreError::corrupt("the trace filter of a sealed file is damaged");
    let (content, crc) = block.split_last_chunk::<4>().ok_or_else(bad)?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return Err(bad());
    }
    Fuse::read(content).ok_or_else(bad)?;
    Ok(content.to_vec())
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
