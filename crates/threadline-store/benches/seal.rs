//! Sealing rows like those of a microservice benchmark: sort, row root, id elision, Parquet, sync, commit. Without
//! elision it is the same but for the bodies, so the difference is what elision costs or saves; reading back is the
//! scan of all columns, and of one trace.
//!
//! `cargo bench -p threadline-store --bench seal`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, BatchId, Env, Options, Prune, Store};

const ROWS: u64 = 50_000;
const TIME: u64 = 1_674_979_200_000_000_000;

fn main() {
    divan::main();
}

/// A store on the local disk with [`ROWS`] rows in memory.
fn filled(elide_ids: bool) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { elide_ids, disk_free_bytes_min: 0, seal_rows: usize::MAX, ..Options::default() };
    let store = Store::open(folder.path(), options, Env::local()).expect("a store");
    for part in 0..ROWS / 1000 {
        let limits = RecordLimits::default();
        let arrival = (TIME / 1000) as i64 + 3_600_000_000;
        let mut builder = BatchBuilder::new(store.layout(Table::Logs), arrival, limits);
        for n in part * 1000..(part + 1) * 1000 {
            push(&mut builder, n);
        }
        let batch = builder.finish().expect("columns").expect("rows");
        store.append_wait(Append { table: Table::Logs, id: BatchId(part.into()), batch }).expect("room");
    }
    (folder, store)
}

fn trace(n: u64) -> TraceId {
    TraceId((u128::from(n / 40 + 1) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

fn push(builder: &mut BatchBuilder, n: u64) {
    let service = format!("ts-{}-service", n % 27);
    let pod = format!("ts-{}-service-5c95b49cff-tdsdz", n % 27);
    builder.set_resource(&ResourceView {
        attributes: &[("service.name", Value::Str(&service)), ("k8s.pod.name", Value::Str(&pod))],
        ..ResourceView::default()
    });
    let span = SpanId((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let trace = trace(n);
    let body = format!(
        "17:31:37.{:03} INFO  s.s.SeatServiceImpl#{} TraceID: {trace} SpanID: {span} [getLeftTicketOfInterval][Get Order \
         tickets result][result is <200,Response(status=0, msg=Order is Null., data={n}),[x-content-type-options:\"nosniff\"]>]",
        n % 1000,
        n % 300
    );
    let log = LogView {
        time_unix_nano: TIME + n * 1_000_003,
        severity_number: 9,
        severity_text: "INFO",
        trace_id: Some(trace),
        span_id: Some(span),
        body: Value::Str(&body),
        ..LogView::default()
    };
    builder.push_log(&log, 0).expect("within limits");
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
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| rows(&store, &Prune::default()));
}

#[divan::bench(sample_count = 20)]
fn scan_trace(bencher: Bencher<'_, '_>) {
    let (_folder, store) = filled(true);
    store.seal().expect("sealed");
    let prune = Prune { trace_ids: Some(vec![trace(20_000)]), ..Prune::default() };
    bencher.bench_local(|| rows(&store, black_box(&prune)));
}

fn rows(store: &Store, prune: &Prune) -> usize {
    let files = store.snapshot().logs.files;
    let scans = files.iter().map(|file| file.scan(None, prune).expect("a scan"));
    scans.flatten().map(|batch| batch.expect("a batch").num_rows()).sum()
}
