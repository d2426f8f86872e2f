//! Brings batches of one table to one schema, puts their rows in file order, and merges files that are in order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::{DataType, Schema, SchemaRef};
use arrow_select::interleave::interleave;
use rustc_hash::FxHashMap;
use threadline_model::schema::{Layout, dictionary};

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

/// Batches brought to one schema. The dictionaries of a column become one, so that rows move as numbers.
pub(crate) struct Pool {
    schema: SchemaRef,
    columns: Vec<PoolColumn>,
}

enum PoolColumn {
    Plain(Vec<ArrayRef>),
    Dictionary { keys: Vec<ArrayRef>, values: Arc<StringArray> },
}

impl Pool {
    /// Batches with columns of `schema`, any of them missing.
    pub(crate) fn new(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Pool, StoreError> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| {
                let arrays: Vec<ArrayRef> = batches
                    .iter()
                    .map(|batch| match batch.column_by_name(field.name()) {
                        Some(array) => Arc::clone(array),
                        None => new_null_array(field.data_type(), batch.num_rows()),
                    })
                    .collect();
                if *field.data_type() == dictionary() { unify(&arrays) } else { Ok(PoolColumn::Plain(arrays)) }
            })
            .collect::<Result<_, _>>()?;
        Ok(Pool { schema: Arc::clone(schema), columns })
    }

    /// The rows at (batch, row), in that order.
    pub(crate) fn gather(&self, indices: &[(usize, usize)]) -> Result<RecordBatch, StoreError> {
        let columns = self
            .columns
            .iter()
            .map(|column| match column {
                PoolColumn::Plain(arrays) => pick(arrays, indices),
                PoolColumn::Dictionary { keys, values } => {
                    let keys = pick(keys, indices)?;
                    let keys = keys.as_primitive::<Int32Type>().clone();
                    let values = Arc::clone(values) as ArrayRef;
                    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values)?) as ArrayRef)
                }
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn dictionary(&self, name: &str) -> Option<(&[ArrayRef], &Arc<StringArray>)> {
        let index = self.schema.index_of(name).ok()?;
        match self.columns.get(index)? {
            PoolColumn::Dictionary { keys, values } => Some((keys, values)),
            PoolColumn::Plain(_) => None,
        }
    }
}

fn pick(arrays: &[ArrayRef], indices: &[(usize, usize)]) -> Result<ArrayRef, StoreError> {
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&arrays, indices)?)
}

fn unify(arrays: &[ArrayRef]) -> Result<PoolColumn, StoreError> {
    let mut known: FxHashMap<&str, i32> = FxHashMap::default();
    let mut texts: Vec<&str> = Vec::new();
    let mut all_keys = Vec::with_capacity(arrays.len());
    for array in arrays {
        let dict = array.as_dictionary_opt::<Int32Type>();
        let parts = dict.and_then(|dict| Some((dict.keys(), dict.values().as_string_opt::<i32>()?)));
        let (keys, values) = parts.ok_or_else(|| StoreError::corrupt("a dictionary column is none"))?;
        let map: Vec<Option<i32>> = (0..values.len())
            .map(|at| {
                values.is_valid(at).then(|| {
                    let text = values.value(at);
                    *known.entry(text).or_insert_with(|| {
                        texts.push(text);
                        texts.len() as i32 - 1
                    })
                })
            })
            .collect();
        let keys: Int32Array =
            keys.iter().map(|key| map.get(usize::try_from(key?).ok()?).copied().flatten()).collect();
        all_keys.push(Arc::new(keys) as ArrayRef);
    }
    Ok(PoolColumn::Dictionary { keys: all_keys, values: Arc::new(StringArray::from_iter_values(texts)) })
}

/// A row's place in file order, and where the row is. `seq` is unique, so the order is total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: u32,
    ts: i64,
    ns: i16,
    seq: i64,
    batch: u32,
    row: u32,
}

/// Rows of a pool by hour, each hour in file order: (service, time, seq).
pub(crate) fn by_hour(
    pool: &Pool,
    batches: &[RecordBatch],
) -> Result<BTreeMap<i64, Vec<(usize, usize)>>, StoreError> {
    let ranks = pool.dictionary("service").map(|(keys, values)| (keys, ranks(values)));
    let mut hours: BTreeMap<i64, Vec<Key>> = BTreeMap::new();
    for (index, batch) in batches.iter().enumerate() {
        let order = Order::new(batch)?;
        let services = ranks
            .as_ref()
            .and_then(|(keys, ranks)| Some((keys.get(index)?.as_primitive_opt::<Int32Type>()?, ranks)));
        for row in 0..batch.num_rows() {
            let service = services.map_or(0, |(keys, ranks)| {
                let key = if keys.is_valid(row) { keys.value(row) as usize } else { usize::MAX };
                ranks.get(key).copied().unwrap_or(0)
            });
            let ts = order.ts.value(row);
            hours.entry(hour_of(ts)).or_default().push(Key {
                service,
                ts,
                ns: order.ns(row),
                seq: order.seq.value(row),
                batch: index as u32,
                row: row as u32,
            });
        }
    }
    Ok(hours
        .into_iter()
        .map(|(hour, mut keys)| {
            keys.sort_unstable();
            (hour, keys.into_iter().map(|key| (key.batch as usize, key.row as usize)).collect())
        })
        .collect())
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
        input.row += 1;
        while input.row < input.batch.num_rows() && next.is_none_or(|next| input.compare(next).is_lt()) {
            input.row += 1;
        }
        chunk.take(&mut input, start);
        if input.row < input.batch.num_rows() {
            inputs.push(input);
        } else {
            inputs.extend(Input::start(input.scan)?);
        }
        if chunk.indices.len() >= MERGE_ROWS || chunk.bytes >= MERGE_BYTES {
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
    indices: Vec<(usize, usize)>,
    bytes: usize,
}

impl Chunk {
    fn take(&mut self, input: &mut Input, start: usize) {
        let slot = *input.slot.get_or_insert_with(|| {
            self.bytes += input.batch.get_array_memory_size();
            self.batches.push(input.batch.clone());
            self.batches.len() - 1
        });
        self.indices.extend((start..input.row).map(|row| (slot, row)));
    }

    fn emit(
        &mut self,
        schema: &SchemaRef,
        rows_max: usize,
        emit: &mut impl FnMut(RecordBatch) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let chunk = std::mem::take(self);
        if chunk.indices.is_empty() {
            return Ok(());
        }
        let pool = Pool::new(&chunk.batches, schema)?;
        chunk.indices.chunks(rows_max).try_for_each(|indices| emit(pool.gather(indices)?))
    }
}

/// Whether a column of this type is a dictionary in memory.
pub(crate) fn is_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(..))
}
