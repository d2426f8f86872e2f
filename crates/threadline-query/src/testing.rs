//! Rows for tests, in memory and in sealed files.

use std::sync::{Arc, LazyLock};

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::columns::Batch;
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView, ScopeView, SpanView};
use threadline_model::schema::{Layout, Table};
use threadline_model::value::Value;
use threadline_store::{Append, BatchId, Env, Options, Scope, Snapshot, Store, TERM_BYTES_MAX, TableSnapshot};

pub(crate) const ARRIVAL_US: i64 = 1_700_000_100_000_000;
pub(crate) const T0_US: i64 = 1_700_000_000_000_000;

/// A term that the index cuts, in the midst of `expired`.
pub(crate) static CUT_TERM: LazyLock<String> =
    LazyLock::new(|| format!("{}expiredtoken", "z".repeat(TERM_BYTES_MAX - 3)));

/// A log as tests write it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) at_ns: u64,
    pub(crate) service: &'static str,
    pub(crate) severity: i32,
    pub(crate) event: &'static str,
    pub(crate) body: String,
    pub(crate) trace: u8,
    pub(crate) attributes: Vec<(&'static str, Value<'static>)>,
    pub(crate) verdict: i64,
}

pub(crate) fn logs_batch(rows: &[Log]) -> RecordBatch {
    let mut builder =
        BatchBuilder::new(Arc::new(Layout::base(Table::Logs)), ARRIVAL_US, RecordLimits::default());
    for row in rows {
        let attributes = [("service.name", Value::Str(row.service)), ("zone", Value::Str("eu"))];
        let of_service = if row.service.is_empty() { &attributes[1..] } else { &attributes };
        builder.set_resource(&ResourceView { attributes: of_service, ..ResourceView::default() });
        builder.set_scope(&ScopeView { name: "lib", version: "1.2", ..ScopeView::default() });
        let log = LogView {
            time_unix_nano: T0_US as u64 * 1000 + row.at_ns,
            severity_number: row.severity,
            event_name: row.event,
            body: if row.body.is_empty() { Value::Empty } else { Value::Str(&row.body) },
            trace_id: TraceId::from_bytes(&[row.trace; 16]),
            span_id: SpanId::from_bytes(&[row.trace; 8]),
            attributes: &row.attributes,
            ..LogView::default()
        };
        builder.push_log(&log, row.verdict).unwrap();
    }
    builder.finish().unwrap().unwrap()
}

pub(crate) fn spans_batch() -> RecordBatch {
    let mut builder =
        BatchBuilder::new(Arc::new(Layout::base(Table::Spans)), ARRIVAL_US, RecordLimits::default());
    for (index, name) in ["GET /cart", "charge card", "db query"].into_iter().enumerate() {
        let id = index as u8 + 1;
        let mut span = SpanView::new(TraceId([7; 16]), SpanId([id; 8]));
        span.parent_span_id = (index > 0).then_some(SpanId([id - 1; 8]));
        span.name = name;
        span.kind = index as i32 + 1;
        span.start_time_unix_nano = T0_US as u64 * 1000;
        span.end_time_unix_nano = span.start_time_unix_nano + 100_000_000 * (index as u64 + 1);
        span.status_code = if index == 1 { 2 } else { 0 };
        span.status_message = if index == 1 { "card refused" } else { "" };
        span.events_json = if index == 1 { "[{\"time_unix_nano\":1,\"name\":\"exception\"}]" } else { "" };
        builder.push_span(&span, 0).unwrap();
    }
    builder.finish().unwrap().unwrap()
}

pub(crate) fn with_seq(batch: &RecordBatch, first: i64) -> RecordBatch {
    let mut fields = batch.schema().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    fields.push(Arc::new(Field::new("seq", DataType::Int64, true)));
    columns.push(Arc::new(Int64Array::from_iter_values(first..first + batch.num_rows() as i64)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// A snapshot of memory batches; sequence numbers run through.
pub(crate) fn memory(logs: &[RecordBatch], spans: &[RecordBatch]) -> Snapshot {
    let mut seq = 1;
    let mut table = |table: Table, batches: &[RecordBatch]| TableSnapshot {
        layout: Arc::new(Layout::base(table)),
        memory: batches
            .iter()
            .map(|batch| {
                seq += batch.num_rows() as i64;
                with_seq(batch, seq - batch.num_rows() as i64)
            })
            .collect(),
        files: Vec::new(),
    };
    let (logs, spans) = (table(Table::Logs, logs), table(Table::Spans, spans));
    Snapshot { logs, spans, last_seq: seq - 1 }
}

/// The same rows in a store, each batch sealed into a file of its own, but for the last `unsealed`.
pub(crate) fn sealed(folder: &std::path::Path, logs: &[RecordBatch], unsealed: usize) -> (Store, Snapshot) {
    let options = Options { disk_free_bytes_min: 0, ..Options::default() };
    let store = Store::open(folder, options, Env::local()).unwrap();
    for (index, batch) in logs.iter().enumerate() {
        let append = Append { table: Table::Logs, id: BatchId(index as u128 + 1), batch: batch.clone() };
        store.append_wait(append).unwrap();
        if index + unsealed < logs.len() {
            store.seal().unwrap();
        }
    }
    let snapshot = store.snapshot_of(Scope::All);
    (store, snapshot)
}

pub(crate) fn seqs(batch: &RecordBatch) -> Vec<i64> {
    let seq = Batch::new(batch).int("seq");
    (0..batch.num_rows()).map(|row| seq.get(row).unwrap()).collect()
}
