//! Brings batches of one table to one schema, puts their rows in file order, and merges files that are in order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int16Array, Int32Array, Int64Array,
    PrimitiveArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use rustc_hash::FxHashMap;
use threadline_model::schema::Layout;

use crate::StoreError;
use crate::snapshot::Scan;

/// Microseconds of an hour.
pub(crate) const HOUR_US: i64 = 3_600_000_000;

/// Start of the hour of a time, µs.
pub(crate) fn hour_of(ts: i64) -> i64 {
    ts.div_euclid(HOUR_US).saturating_mul(HOUR_US)
}

/// The layout's columns that at least one of the batches has, in the layout's order.
///
/// # Errors
/// When a batch has a column that the layout lacks, or of another type.
pub(crate) fn union_schema<'a>(
    layout: &Layout,
    schemas: impl Iterator<Item = &'a Schema>,
) -> Result<SchemaRef, StoreError> {
    let full = layout.schema();
    let mut used = vec![false; full.fields().len()];
    for schema in schemas {
        for field in schema.fields() {
            let index =
                full.index_of(field.name()).ok().filter(|&at| full.field(at).data_type() == field.data_type());
            match index.and_then(|index| used.get_mut(index)) {
                Some(used) => *used = true,
                None => {
                    let detail = format!(
                        "column {} of type {} is not in the layout of {}: build batches with the store's layout",
                        field.name(),
                        field.data_type(),
                        layout.table.name()
                    );
                    return Err(StoreError::Invalid { detail });
                }
            }
        }
    }
    let fields: Vec<_> = full
        .fields()
        .iter()
        .zip(&used)
        .filter(|(_, used)| **used)
        .map(|(field, _)| Arc::clone(field))
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Neighbouring rows of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    batch: u32,
    start: u32,
    rows: u32,
}

impl Run {
    /// Adds a run behind others; one that goes on where the last one ends makes that one longer.
    fn push(runs: &mut Vec<Run>, run: Run) {
        match runs.last_mut() {
            Some(last) if last.batch == run.batch && last.start + last.rows == run.start => {
                last.rows += run.rows
            }
            _ => runs.push(run),
        }
    }

    /// How many rows.
    pub(crate) fn rows(self) -> u64 {
        u64::from(self.rows)
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.rows as usize
    }
}

/// Batches brought to one schema. The dictionaries of a column become one, so that rows move as numbers.
pub(crate) struct Pool {
    schema: SchemaRef,
    columns: Vec<Box<dyn Gather>>,
}

impl Pool {
    /// Batches with columns of `schema`, any of them missing.
    pub(crate) fn new(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Pool, StoreError> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| {
                let arrays: Vec<Option<&ArrayRef>> =
                    batches.iter().map(|batch| batch.column_by_name(field.name())).collect();
                gather_of(field, &arrays)
            })
            .collect::<Result<_, _>>()?;
        Ok(Pool { schema: Arc::clone(schema), columns })
    }

    /// The rows of all runs, in that order, in batches of `rows_max` rows.
    pub(crate) fn gather(
        &self,
        runs: &[Run],
        rows_max: usize,
        emit: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let rows_max = u32::try_from(rows_max).unwrap_or(u32::MAX).max(1);
        let (mut some, mut rows) = (Vec::new(), 0);
        for &run in runs {
            let mut rest = run;
            while rest.rows > 0 {
                let head = Run { rows: rest.rows.min(rows_max - rows), ..rest };
                some.push(head);
                rows += head.rows;
                rest = Run { start: rest.start + head.rows, rows: rest.rows - head.rows, ..rest };
                if rows == rows_max {
                    emit(self.batch(&some, rows as usize)?)?;
                    some.clear();
                    rows = 0;
                }
            }
        }
        if rows > 0 { emit(self.batch(&some, rows as usize)?) } else { Ok(()) }
    }

    fn batch(&self, runs: &[Run], rows: usize) -> Result<RecordBatch, StoreError> {
        let columns =
            self.columns.iter().map(|column| column.gather(runs, rows)).collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// A column of many batches.
trait Gather {
    /// The values of some runs, `rows` in all.
    fn gather(&self, runs: &[Run], rows: usize) -> Result<ArrayRef, ArrowError>;
}

/// A column's array in each batch; a missing one is all null.
struct Parts<A> {
    arrays: Vec<Option<A>>,
    nulls: bool,
}

impl<A: Array> Parts<A> {
    fn array(&self, run: Run) -> Option<&A> {
        self.arrays.get(run.batch as usize)?.as_ref()
    }

    fn nulls(&self, runs: &[Run], rows: usize) -> Option<NullBuffer> {
        if !self.nulls {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(rows);
        for &run in runs {
            match self.array(run).map(Array::nulls) {
                None => valid.append_n(run.rows as usize, false),
                Some(None) => valid.append_n(run.rows as usize, true),
                Some(Some(nulls)) => append_bits(&mut valid, nulls.inner(), run),
            }
        }
        Some(NullBuffer::new(valid.finish())).filter(|nulls| nulls.null_count() > 0)
    }
}

fn append_bits(to: &mut BooleanBufferBuilder, from: &BooleanBuffer, run: Run) {
    if run.rows == 1 {
        to.append(from.value(run.start as usize));
    } else {
        let range = run.range();
        to.append_packed_range(from.offset() + range.start..from.offset() + range.end, from.values());
    }
}

/// Numbers of one width.
struct Numbers<T: ArrowPrimitiveType> {
    parts: Parts<PrimitiveArray<T>>,
    data_type: DataType,
}

impl<T: ArrowPrimitiveType> Gather for Numbers<T> {
    fn gather(&self, runs: &[Run], rows: usize) -> Result<ArrayRef, ArrowError> {
        let mut out: Vec<T::Native> = Vec::with_capacity(rows);
        for &run in runs {
            match self.parts.array(run) {
                Some(array) => out.extend_from_slice(array.values().get(run.range()).unwrap_or_default()),
                None => out.resize(out.len() + run.rows as usize, T::Native::default()),
            }
        }
        let array = PrimitiveArray::<T>::try_new(out.into(), self.parts.nulls(runs, rows))?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }
}

impl Gather for Parts<BooleanArray> {
    fn gather(&self, runs: &[Run], rows: usize) -> Result<ArrayRef, ArrowError> {
        let mut out = BooleanBufferBuilder::new(rows);
        for &run in runs {
            match self.array(run) {
                Some(array) => append_bits(&mut out, array.values(), run),
                None => out.append_n(run.rows as usize, false),
            }
        }
        Ok(Arc::new(BooleanArray::new(out.finish(), self.nulls(runs, rows))))
    }
}

/// Ids of one width.
struct Ids {
    parts: Parts<FixedSizeBinaryArray>,
    width: i32,
}

impl Gather for Ids {
    fn gather(&self, runs: &[Run], rows: usize) -> Result<ArrayRef, ArrowError> {
        let width = self.width.max(0) as usize;
        let mut out = Vec::with_capacity(rows * width);
        for &run in runs {
            let Range { start, end } = run.range();
            match self.parts.array(run) {
                Some(array) => {
                    out.extend_from_slice(
                        array.value_data().get(start * width..end * width).unwrap_or_default(),
                    );
                }
                None => out.resize(out.len() + (end - start) * width, 0),
            }
        }
        let nulls = self.parts.nulls(runs, rows);
        Ok(Arc::new(FixedSizeBinaryArray::try_new(self.width, Buffer::from_vec(out), nulls)?))
    }
}

impl Gather for Parts<StringArray> {
    fn gather(&self, runs: &[Run], rows: usize) -> Result<ArrayRef, ArrowError> {
        let length = |run: &Run| {
            let Range { start, end } = run.range();
            let offsets = self.array(*run)?.value_offsets();
            Some((offsets.get(end)? - offsets.get(start)?) as usize)
        };
        let bytes: usize = runs.iter().filter_map(length).sum();
        if i32::try_from(bytes).is_err() {
            return Err(ArrowError::OffsetOverflowError(bytes));
        }
        // The builder takes `str`s, so nothing is checked for UTF-8 again.
        let mut out = StringBuilder::with_capacity(rows, bytes);
        for &run in runs {
            match self.array(run) {
                Some(array) if array.null_count() == 0 => {
                    run.range().for_each(|row| out.append_value(array.value(row)));
                }
                Some(array) => {
                    run.range().for_each(|row| out.append_option(array.is_valid(row).then(|| array.value(row))))
                }
                None => out.append_nulls(run.rows as usize),
            }
        }
        Ok(Arc::new(out.finish()))
    }
}

/// Marks a value of a batch's dictionary that is null.
const NULL: i32 = -1;

/// A dictionary column.
struct Words {
    /// Keys of each batch, and what each of its values is in `values`.
    parts: Vec<Option<(Int32Array, Vec<i32>)>>,
    values: Arc<StringArray>,
    nulls: bool,
}

impl Words {
    fn new(arrays: &[Option<&ArrayRef>]) -> Result<Words, StoreError> {
        let mut known: FxHashMap<&str, i32> = FxHashMap::default();
        let mut texts: Vec<&str> = Vec::new();
        let mut parts = Vec::with_capacity(arrays.len());
        let mut nulls = false;
        for array in arrays {
            let Some(array) = array else {
                parts.push(None);
                nulls = true;
                continue;
            };
            let (keys, values) =
                words(array.as_ref()).ok_or_else(|| StoreError::corrupt("a dictionary column is none"))?;
            nulls |= keys.null_count() > 0 || values.null_count() > 0;
            let map = (0..values.len())
                .map(|at| {
                    if values.is_null(at) {
                        return NULL;
                    }
                    let text = values.value(at);
                    *known.entry(text).or_insert_with(|| {
                        texts.push(text);
                        texts.len() as i32 - 1
                    })
                })
                .collect();
            parts.push(Some((keys.clone(), map)));
        }
        Ok(Words { parts, values: Arc::new(StringArray::from_iter_values(texts)), nulls })
    }

    /// Appends a run's keys among `values`, [`NULL`] where there is none.
    fn keys(&self, run: Run, out: &mut Vec<i32>) {
        let Some((keys, map)) = self.parts.get(run.batch as usize).and_then(Option::as_ref) else {
            out.resize(out.len() + run.rows as usize, NULL);
            return;
        };
        let value = |key: i32| map.get(key as usize).copied().unwrap_or(NULL);
        match keys.nulls() {
            None => {
                out.extend(keys.values().get(run.range()).unwrap_or_default().iter().map(|&key| value(key)))
            }
            Some(nulls) => out
                .extend(run.range().map(|row| if nulls.is_valid(row) { value(keys.value(row)) } else { NULL })),
        }
    }
}

impl Gather for Words {
    fn gather(&self, runs: &[Run], rows: usize) -> Result<ArrayRef, ArrowError> {
        let mut keys = Vec::with_capacity(rows);
        runs.iter().for_each(|&run| self.keys(run, &mut keys));
        let mut nulls = None;
        if self.nulls {
            let valid =
                BooleanBuffer::collect_bool(keys.len(), |row| keys.get(row).is_some_and(|&key| key != NULL));
            nulls = Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0);
            keys.iter_mut().for_each(|key| *key = (*key).max(0));
        }
        let keys = Int32Array::try_new(keys.into(), nulls)?;
        let values = Arc::clone(&self.values) as ArrayRef;
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values)?))
    }
}

/// Keys and values of a dictionary of texts.
fn words(array: &dyn Array) -> Option<(&Int32Array, &StringArray)> {
    let dict = array.as_dictionary_opt::<Int32Type>()?;
    Some((dict.keys(), dict.values().as_string_opt::<i32>()?))
}

fn gather_of(field: &Field, arrays: &[Option<&ArrayRef>]) -> Result<Box<dyn Gather>, StoreError> {
    Ok(match field.data_type() {
        DataType::Int16 => numbers::<Int16Type>(field, arrays)?,
        DataType::Int32 => numbers::<Int32Type>(field, arrays)?,
        DataType::Int64 => numbers::<Int64Type>(field, arrays)?,
        DataType::Timestamp(..) => numbers::<TimestampMicrosecondType>(field, arrays)?,
        DataType::Float64 => numbers::<Float64Type>(field, arrays)?,
        DataType::Boolean => Box::new(parts::<BooleanArray>(field, arrays)?),
        DataType::Utf8 => Box::new(parts::<StringArray>(field, arrays)?),
        DataType::FixedSizeBinary(width) => Box::new(Ids { parts: parts(field, arrays)?, width: *width }),
        DataType::Dictionary(..) => Box::new(Words::new(arrays)?),
        _ => return Err(unexpected(field)),
    })
}

fn numbers<T: ArrowPrimitiveType>(
    field: &Field,
    arrays: &[Option<&ArrayRef>],
) -> Result<Box<dyn Gather>, StoreError> {
    Ok(Box::new(Numbers::<T> { parts: parts(field, arrays)?, data_type: field.data_type().clone() }))
}

fn parts<A: Array + Clone + 'static>(
    field: &Field,
    arrays: &[Option<&ArrayRef>],
) -> Result<Parts<A>, StoreError> {
    let nulls = arrays.iter().any(|array| array.is_none_or(|array| array.null_count() > 0));
    let arrays = arrays
        .iter()
        .map(|array| {
            array
                .map(|array| array.as_any().downcast_ref::<A>().cloned().ok_or_else(|| unexpected(field)))
                .transpose()
        })
        .collect::<Result<_, _>>()?;
    Ok(Parts { arrays, nulls })
}

fn unexpected(field: &Field) -> StoreError {
    let detail = format!("column {} has type {}, which no table uses", field.name(), field.data_type());
    StoreError::Invalid { detail }
}

/// A row's place in file order among the rows of an hour, but for the sequence number: the service's rank, then µs since
/// the start of the hour with `ns` below; and where the row is.
#[derive(Clone, Copy, Debug)]
struct Key {
    time: u64,
    rank: u32,
    batch: u32,
    row: u32,
}

/// Rows of batches by hour, each hour in file order: (service, time, seq).
pub(crate) fn by_hour(batches: &[RecordBatch]) -> Result<BTreeMap<i64, Vec<Run>>, StoreError> {
    let services: Vec<Option<&ArrayRef>> =
        batches.iter().map(|batch| batch.column_by_name("service")).collect();
    let services = Words::new(&services)?;
    let ranks = ranks(&services.values);
    let orders = batches.iter().map(Order::new).collect::<Result<Vec<_>, _>>()?;
    let mut hours: BTreeMap<i64, Vec<Key>> = BTreeMap::new();
    let mut keys = Vec::new();
    for (batch, order) in (0u32..).zip(&orders) {
        let ts = order.ts.values();
        keys.clear();
        services.keys(Run { batch, start: 0, rows: ts.len() as u32 }, &mut keys);
        // Neighbours mostly lie in the same hour.
        let mut row = 0;
        while let Some(&first) = ts.get(row) {
            let hour = hour_of(first);
            let out = hours.entry(hour).or_default();
            for (&ts, &key) in ts.iter().zip(&keys).skip(row) {
                let since = ts.wrapping_sub(hour);
                if !(0..HOUR_US).contains(&since) {
                    break;
                }
                let ns = (order.ns(row) as u16) ^ (1 << 15);
                let rank = ranks.get(key as usize).copied().unwrap_or(0);
                out.push(Key { time: (since as u64) << 16 | u64::from(ns), rank, batch, row: row as u32 });
                row += 1;
            }
        }
    }
    let in_order = orders
        .iter()
        .flat_map(|order| order.seq.values().iter())
        .try_fold(i64::MIN, |last, &seq| (last < seq).then_some(seq))
        .is_some();
    let seq = |key: &Key| orders.get(key.batch as usize).map(|order| order.seq.value(key.row as usize));
    Ok(hours
        .into_iter()
        .map(|(hour, keys)| {
            let mut keys = by_rank(keys, ranks.len());
            // Rows that come in the order of their sequence numbers need no look at them: sorting is stable.
            keys.chunk_by_mut(|a, b| a.rank == b.rank).for_each(|keys| {
                if in_order {
                    keys.sort_by_key(|key| key.time);
                } else {
                    keys.sort_by_key(|key| (key.time, seq(key)));
                }
            });
            let mut runs = Vec::new();
            for key in keys {
                Run::push(&mut runs, Run { batch: key.batch, start: key.row, rows: 1 });
            }
            (hour, runs)
        })
        .collect())
}

/// Sorted by rank, which is at most `rank_max`; keys of one rank stay as they are.
fn by_rank(mut keys: Vec<Key>, rank_max: usize) -> Vec<Key> {
    if rank_max > keys.len() {
        keys.sort_by_key(|key| key.rank);
        return keys;
    }
    let mut places = vec![0usize; rank_max + 2];
    for key in &keys {
        if let Some(count) = places.get_mut(key.rank as usize + 1) {
            *count += 1;
        }
    }
    let mut sum = 0;
    for place in &mut places {
        sum += *place;
        *place = sum;
    }
    let mut sorted = vec![Key { time: 0, rank: 0, batch: 0, row: 0 }; keys.len()];
    for key in keys {
        if let Some(place) = places.get_mut(key.rank as usize)
            && let Some(to) = sorted.get_mut(*place)
        {
            *to = key;
            *place += 1;
        }
    }
    sorted
}

/// Rank of each value in byte order, from 1; 0 is null.
fn ranks(values: &StringArray) -> Vec<u32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by_key(|&at| values.value(at));
    let mut ranks = vec![0; values.len()];
    for (rank, at) in order.into_iter().enumerate() {
        if let Some(to) = ranks.get_mut(at) {
            *to = rank as u32 + 1;
        }
    }
    ranks
}

/// The columns that decide file order.
struct Order {
    service: Option<(Int32Array, StringArray)>,
    ts: TimestampMicrosecondArray,
    ns: Option<Int16Array>,
    seq: Int64Array,
}

impl Order {
    fn new(batch: &RecordBatch) -> Result<Self, StoreError> {
        let missing =
            |name: &str| StoreError::Invalid { detail: format!("rows without {name} cannot be sealed") };
        let ts = batch.column_by_name("ts").and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
        let seq = batch.column_by_name("seq").and_then(|a| a.as_primitive_opt::<Int64Type>());
        let service = batch.column_by_name("service").and_then(|a| a.as_dictionary_opt::<Int32Type>());
        let ns = batch.column_by_name("ns").and_then(|a| a.as_primitive_opt::<Int16Type>());
        Ok(Self {
            service: service
                .and_then(|dict| Some((dict.keys().clone(), dict.values().as_string_opt::<i32>()?.clone()))),
            ts: ts.filter(|a| a.null_count() == 0).ok_or_else(|| missing("ts"))?.clone(),
            ns: ns.cloned(),
            seq: seq.filter(|a| a.null_count() == 0).ok_or_else(|| missing("seq"))?.clone(),
        })
    }

    fn ns(&self, row: usize) -> i16 {
        self.ns.as_ref().filter(|ns| ns.is_valid(row)).map_or(0, |ns| ns.value(row))
    }

    fn service(&self, row: usize) -> Option<&str> {
        let (keys, values) = self.service.as_ref()?;
        let key = keys.is_valid(row).then(|| keys.value(row) as usize)?;
        (key < values.len() && values.is_valid(key)).then(|| values.value(key))
    }

    fn compare(&self, row: usize, other: &Order, other_row: usize) -> Ordering {
        self.service(row)
            .cmp(&other.service(other_row))
            .then_with(|| self.ts.value(row).cmp(&other.ts.value(other_row)))
            .then_with(|| self.ns(row).cmp(&other.ns(other_row)))
            .then_with(|| self.seq.value(row).cmp(&other.seq.value(other_row)))
    }
}

/// Bytes of merged rows gathered at once, about.
const MERGE_BYTES: usize = 32 << 20;

/// Rows that wait before they are gathered: many, so that a batch is not brought to the schema again and again.
const MERGE_ROWS: usize = 32 << 10;

/// Where the merge stands in one file.
struct Input {
    scan: Scan,
    batch: RecordBatch,
    order: Order,
    row: usize,
    /// Place of `batch` among the batches of the chunk under construction.
    slot: Option<usize>,
}

impl Input {
    /// The first non-empty batch of a file; `None` when there is none.
    fn start(mut scan: Scan) -> Result<Option<Input>, StoreError> {
        while let Some(batch) = scan.next().transpose()? {
            if batch.num_rows() > 0 {
                let order = Order::new(&batch)?;
                return Ok(Some(Input { scan, batch, order, row: 0, slot: None }));
            }
        }
        Ok(None)
    }

    fn compare(&self, other: &Input) -> Ordering {
        self.order.compare(self.row, &other.order, other.row)
    }

    /// The first row after the present one that does not precede the present one of `other`: in steps that grow, then
    /// by halving, because such runs are long where files follow each other in time, and short where they do not.
    fn end_before(&self, other: &Input) -> usize {
        let precedes = |row: usize| self.order.compare(row, &other.order, other.row).is_lt();
        let rows = self.batch.num_rows();
        let (mut low, mut step) = (self.row, 1);
        let mut high = rows;
        while low + step < rows {
            if precedes(low + step) {
                low += step;
                step *= 2;
            } else {
                high = low + step;
                break;
            }
        }
        // `low` precedes, `high` does not, or is the end.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if precedes(middle) { low = middle } else { high = middle }
        }
        high
    }
}

/// Rows of files that are each in order, as one sequence in order, in chunks of about `rows_max` rows and bounded bytes.
pub(crate) fn merge(
    scans: Vec<Scan>,
    schema: &SchemaRef,
    rows_max: usize,
    mut emit: impl FnMut(RecordBatch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut inputs = Vec::with_capacity(scans.len());
    for scan in scans {
        inputs.extend(Input::start(scan)?);
    }
    let mut chunk = Chunk::default();
    while !inputs.is_empty() {
        let mut first = 0;
        for at in 1..inputs.len() {
            if inputs[at].compare(&inputs[first]).is_lt() {
                first = at;
            }
        }
        // Everything of the first input that precedes the head of every other one goes at once.
        let mut input = inputs.swap_remove(first);
        let next = inputs.iter().min_by(|a, b| a.compare(b));
        let start = input.row;
        input.row = match next {
            Some(next) => input.end_before(next),
            None => input.batch.num_rows(),
        };
        chunk.take(&mut input, start);
        if input.row < input.batch.num_rows() {
            inputs.push(input);
        } else {
            inputs.extend(Input::start(input.scan)?);
        }
        if chunk.rows >= MERGE_ROWS || chunk.bytes >= MERGE_BYTES {
            chunk.emit(schema, rows_max, &mut emit)?;
            inputs.iter_mut().for_each(|input| input.slot = None);
        }
    }
    chunk.emit(schema, rows_max, &mut emit)
}

/// Rows waiting to be gathered, and the batches they lie in.
#[derive(Default)]
struct Chunk {
    batches: Vec<RecordBatch>,
    runs: Vec<Run>,
    rows: usize,
    bytes: usize,
}

impl Chunk {
    fn take(&mut self, input: &mut Input, start: usize) {
        let slot = *input.slot.get_or_insert_with(|| {
            self.bytes += input.batch.get_array_memory_size();
            self.batches.push(input.batch.clone());
            self.batches.len() - 1
        });
        let rows = input.row - start;
        self.rows += rows;
        Run::push(&mut self.runs, Run { batch: slot as u32, start: start as u32, rows: rows as u32 });
    }

    fn emit(
        &mut self,
        schema: &SchemaRef,
        rows_max: usize,
        emit: &mut impl FnMut(RecordBatch) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let chunk = std::mem::take(self);
        if chunk.runs.is_empty() {
            return Ok(());
        }
        let pool = Pool::new(&chunk.batches, schema)?;
        pool.gather(&chunk.runs, rows_max, emit)
    }
}

/// Whether a column of this type is a dictionary in memory.
pub(crate) fn is_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(..))
}
