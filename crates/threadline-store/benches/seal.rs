//! Sealing rows like those of a microservice benchmark: sort, row root, id elision, Parquet, sync, commit. Without
//! elision it is the same but for the bodies, so the difference is what elision costs or saves; reading back is the
//! scan of all columns, and of one trace.
//!
//! `cargo bench -p threadline-store --bench seal`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod rows;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use threadline_model::schema::Table;
use threadline_store::{Append, BatchId, Env, Options, Prune, Store};

const ROWS: u64 = 50_000;
const BATCH: u64 = 2000;

fn main() {
    divan::main();
}

/// A store on the local disk with [`ROWS`] rows in memory.
fn filled(elide_ids: bool) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { elide_ids, disk_free_bytes_min: 0, seal_rows: usize::MAX, ..Options::default() };
    let store = Store::open(folder.path(), options, Env::local()).expect("a store");
    for part in 0..ROWS / BATCH {
        let batch = rows::batch(&store.layout(Table::Logs), part * BATCH, BATCH);
        store.append_wait(Append { table: Table::Logs, id: BatchId(part.into()), batch }).expect("room");
    }
    (folder, store)
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn seal(bencher: Bencher<'_, '_>, elide_ids: bool) {
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| filled(elide_ids))
        .bench_refs(|(_, store)| store.seal().expect("sealed"));
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn scan_all(bencher: Bencher<'_, '_>, elide_ids: bool) {
    let (_folder, store) = filled(elide_ids);
    store.seal().expect("sealed");
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| count(&store, &Prune::default()));
}

#[divan::bench(sample_count = 20)]
fn scan_trace(bencher: Bencher<'_, '_>) {
    let (_folder, store) = filled(true);
    store.seal().expect("sealed");
    let prune = Prune { trace_ids: Some(vec![rows::trace(20_000)]), ..Prune::default() };
    bencher.bench_local(|| count(&store, black_box(&prune)));
}

fn count(store: &Store, prune: &Prune) -> usize {
    let files = store.snapshot().logs.files;
    let scans = files.iter().map(|file| file.scan(None, prune).expect("a scan"));
    scans.flatten().map(|batch| batch.expect("a batch").num_rows()).sum()
}
