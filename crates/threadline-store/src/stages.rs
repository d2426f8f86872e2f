//! The stages of ingest one by one, for the bench `stages` only. Not part of the crate's interface.
#![allow(missing_docs, reason = "only a bench looks at it")]

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use threadline_model::schema::{Layout, Table};

use crate::memory::Memory;
use crate::sealed::CHUNK_ROWS;
use crate::sealed::elide::{Ids, elide};
use crate::sealed::index::{IndexBuilder, trace_hashes};
use crate::sealed::keys::KeyCounts;
use crate::sealed::row_root::RowHasher;
use crate::sealed::rows::{self, Pool, Run, by_hour, union_schema};
use crate::sealed::writer::trace_hash;
use crate::{Scan, StoreError, codec};

fn bad(error: impl std::fmt::Display) -> StoreError {
    StoreError::Invalid { detail: error.to_string() }
}

thread_local!(static ENCODERS: codec::Encoders = codec::Encoders::default());

/// Bytes of a batch as a payload of the write-ahead log.
pub fn encode(batch: &RecordBatch, compress: bool) -> Result<usize, StoreError> {
    let effort = if compress { codec::Effort::Compress } else { codec::Effort::Store };
    ENCODERS.with(|encoders| {
        let encoded = encoders.with(|encoder| encoder.encode(batch, effort)).map_err(bad)?;
        let bytes = encoded.payload.len();
        encoders.give_back([encoded.payload]);
        Ok(bytes)
    })
}

pub fn batch_bytes(batch: &RecordBatch) -> usize {
    codec::batch_bytes(batch)
}

pub fn with_seq(batch: &RecordBatch, seq: i64) -> Result<RecordBatch, StoreError> {
    codec::with_seq(Table::Logs, batch, seq).map_err(bad)
}

/// The chunks of a memory table after one insertion per batch.
pub fn insert(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let memory = Memory::default();
    for batch in batches {
        memory.insert([(Table::Logs, batch.clone())], Duration::ZERO);
    }
    memory.state().rows(Table::Logs).after(0, crate::Scope::All)
}

pub fn schema(batches: &[RecordBatch]) -> Result<SchemaRef, StoreError> {
    union_schema(&Layout::base(Table::Logs), batches.iter().map(|batch| batch.schema_ref().as_ref()))
}

/// One pool of batches and its rows in file order.
pub struct Sorted {
    pool: Pool,
    hours: Vec<Vec<Run>>,
}

pub fn pool(batches: &[RecordBatch], schema: &SchemaRef) -> Result<usize, StoreError> {
    Pool::new(batches, schema).map(|pool| std::mem::size_of_val(&pool))
}

pub fn sort(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Sorted, StoreError> {
    let pool = Pool::new(batches, schema)?;
    let hours = by_hour(batches)?.into_values().collect();
    Ok(Sorted { pool, hours })
}

pub fn gather(sorted: &Sorted, mut emit: impl FnMut(RecordBatch)) -> Result<(), StoreError> {
    sorted.hours.iter().try_for_each(|rows| {
        sorted.pool.gather(rows, CHUNK_ROWS, &mut |batch| {
            emit(batch);
            Ok(())
        })
    })
}

pub fn row_root(batches: &[RecordBatch]) -> Result<[u8; 32], StoreError> {
    let mut hasher = RowHasher::default();
    batches.iter().try_for_each(|batch| hasher.update(batch))?;
    Ok(hasher.root())
}

pub fn elide_bodies(batch: &RecordBatch) -> Result<usize, StoreError> {
    let bodies = batch.column_by_name("body").and_then(|array| array.as_string_opt::<i32>());
    let bodies = bodies.ok_or_else(|| bad("no bodies"))?;
    elide(bodies, &Ids::new(batch)).map(|bodies| bodies.value_data().len()).map_err(bad)
}

/// Rows with what the indexes need of them beside.
pub struct Indexable {
    batch: RecordBatch,
    bodies: Option<StringArray>,
    traces: Vec<Option<u64>>,
}

/// Columns that the terms of bodies need.
const FOR_BODIES: [&str; 4] = ["ts", "trace_id", "span_id", "body_json"];

/// Rows for the indexes: of everything, or of bodies alone.
pub fn indexable(batch: &RecordBatch, all: bool) -> Result<Indexable, StoreError> {
    let bodies = batch.column_by_name("body").and_then(|array| array.as_string_opt::<i32>());
    let bodies = bodies.map(|bodies| elide(bodies, &Ids::new(batch))).transpose().map_err(bad)?;
    if all {
        return Ok(Indexable { batch: batch.clone(), bodies, traces: trace_hashes(batch, trace_hash) });
    }
    let kept: Vec<usize> =
        FOR_BODIES.iter().filter_map(|name| batch.schema_ref().index_of(name).ok()).collect();
    Ok(Indexable { batch: batch.project(&kept).map_err(bad)?, bodies, traces: Vec::new() })
}

/// The indexes of one file, before they are finished.
pub struct Index(IndexBuilder);

pub fn index(rows: &[Indexable]) -> Result<Index, StoreError> {
    let mut builder = IndexBuilder::new(Table::Logs);
    for Indexable { batch, bodies, traces } in rows {
        builder.add(batch, bodies.as_ref(), traces)?;
    }
    Ok(Index(builder))
}

/// Bytes of the indexes.
pub fn finish_index(Index(builder): Index) -> Result<usize, StoreError> {
    let mut bytes = 0;
    let head = builder.finish(|block| {
        let at = bytes as u64;
        bytes += block.len();
        Ok(at)
    })?;
    Ok(bytes + head.sparse.iter().map(|(_, block)| block.len()).sum::<usize>())
}

pub fn key_counts(batches: &[RecordBatch]) -> bool {
    KeyCounts::count(batches).to_tag().is_some()
}

pub fn merge(scans: Vec<Scan>, schema: &SchemaRef) -> Result<usize, StoreError> {
    let mut rows = 0;
    rows::merge(scans, schema, CHUNK_ROWS, |batch| {
        rows += batch.num_rows();
        Ok(())
    })?;
    Ok(rows)
}

pub fn scan_of(batches: Vec<RecordBatch>) -> Scan {
    Box::new(batches.into_iter().map(Ok))
}

pub fn layout() -> Arc<Layout> {
    Arc::new(Layout::base(Table::Logs))
}
