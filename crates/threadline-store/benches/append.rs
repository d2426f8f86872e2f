//! Appends and their commits: how many rows a second become durable, by batch size and number of senders.
//!
//! Runs on the disk of the temporary folder; set `TMPDIR` to the disk in question.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::Array as _;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use threadline_model::schema::{Layout, Table};
use threadline_store::{Append, AppendError, BatchId, Env, Options, Store};

fn main() {
    divan::main();
}

/// Appends of one sample.
const APPENDS: u64 = 64;

#[divan::bench(args = [(1, 1), (1, 100), (1, 5000), (8, 1), (8, 100), (8, 2000)], sample_count = 5, sample_size = 1)]
fn append_and_commit(bencher: Bencher<'_, '_>, (senders, size): (u64, u64)) {
    let dir = tempfile::tempdir().expect("a folder");
    let options = Options { disk_free_bytes_min: 0, memory_bytes_max: 2 << 30, ..Options::default() };
    let store = Store::open(dir.path(), options, Env::local()).expect("a store");
    let batch = rows::batch(&Arc::new(Layout::base(Table::Logs)), 0, size);
    let bytes = batch
        .columns()
        .iter()
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
        .sum::<usize>();
    let id = AtomicU64::new(0);
    bencher
        .counter(ItemsCount::new(APPENDS * senders * size))
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
