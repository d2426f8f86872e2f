//! Appends and their commits: how many rows a second become durable, by batch size and number of senders.
//!
//! Runs on the disk of the temporary folder; set `TMPDIR` to the disk in question.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::{Layout, Table};
use threadline_model::value::Value;
use threadline_store::{Append, AppendError, BatchId, Env, Options, Store};

fn main() {
    divan::main();
}

/// Appends of one sample.
const APPENDS: u64 = 64;

/// Logs as a shop writes them, about 300 bytes of body each; with their bytes of text.
fn batch(rows: u64) -> (arrow_array::RecordBatch, usize) {
    const ARRIVAL_US: i64 = 1_700_000_000_000_000;
    let mut builder =
        BatchBuilder::new(Arc::new(Layout::base(Table::Logs)), ARRIVAL_US, RecordLimits::default());
    builder.set_resource(&ResourceView {
        attributes: &[("service.name", Value::Str("checkout")), ("host.name", Value::Str("node-7"))],
        ..ResourceView::default()
    });
    for row in 0..rows {
        let order = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let body = format!(
            "POST /api/v1/orders/{order:016x}/payment user={} amount={} currency=EUR took {} ms; retries={} \
             gateway=stripe region=eu-central-1 trace sampled, cart has {} items, coupon SUMMER{} applied by rule \
             engine version 4.12.{} after {} evaluations",
            order % 99_991,
            order % 10_007,
            order % 997,
            order % 4,
            order % 31,
            order % 89,
            order % 13,
            order % 503
        );
        let log = LogView {
            time_unix_nano: ARRIVAL_US as u64 * 1000 + row,
            severity_number: 9,
            severity_text: "INFO",
            body: Value::Str(&body),
            attributes: &[("http.route", Value::Str("/api/v1/orders")), ("user", Value::Int(order as i64))],
            ..LogView::default()
        };
        builder.push_log(&log, 0).expect("a small record");
    }
    let bytes = builder.bytes();
    (builder.finish().expect("columns").expect("rows"), bytes)
}

#[divan::bench(args = [(1, 1), (1, 100), (1, 5000), (8, 1), (8, 100), (8, 1000)], sample_count = 5, sample_size = 1)]
fn append_and_commit(bencher: Bencher<'_, '_>, (senders, rows): (u64, u64)) {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options { disk_free_bytes_min: 0, memory_bytes_max: 2 << 30, ..Options::default() };
    let store = Store::open(dir.path(), options, Env::local()).expect("a store");
    let (batch, bytes) = batch(rows);
    let id = AtomicU64::new(0);
    bencher
        .counter(ItemsCount::new(APPENDS * senders * rows))
        .counter(BytesCount::new(APPENDS * senders * bytes as u64))
        .bench(|| {
            std::thread::scope(|scope| {
                for _ in 0..senders {
                    scope.spawn(|| {
                        for _ in 0..APPENDS {
                            let id = BatchId(u128::from(id.fetch_add(1, Ordering::Relaxed)));
                            let append = Append { table: Table::Logs, id, batch: batch.clone() };
                            // Sealing may be slower than this: then a sender waits, as it is told.
                            while let Err(error) = store.append_wait(append.clone()) {
                                let AppendError::Busy { .. } = error else { panic!("{error}") };
                                std::thread::sleep(Duration::from_millis(10));
                            }
                        }
                    });
                }
            });
        });
}
