//! CPU of each stage of ingest, ns per row: one thread's own CPU time, the median of several rounds, so that a busy
//! machine disturbs little. `TL_STAGE=name` runs the stages whose name has it, `TL_ROUNDS` sets the rounds.
//!
//! `cargo bench -p threadline-store --features stages --bench stages`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod rows;

use std::hint::black_box;

use arrow_array::RecordBatch;
use rustix::time::{ClockId, clock_gettime};
use threadline_model::schema::Table;
use threadline_store::{Append, BatchId, Env, Options, Prune, Scan, Store, stages};

/// Rows of a seal.
const ROWS: u64 = 250_000;
/// Rows of a batch.
const BATCH: u64 = 2000;

fn cpu_ns(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

struct Bench {
    only: Option<String>,
    rounds: usize,
}

impl Bench {
    fn on(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }

    fn run<I, O>(&self, name: &str, rows: u64, input: impl FnMut() -> I, work: impl FnMut(I) -> O) {
        self.run_on(ClockId::ThreadCPUTime, name, rows, input, work);
    }

    fn run_on<I, O>(
        &self,
        clock: ClockId,
        name: &str,
        rows: u64,
        mut input: impl FnMut() -> I,
        mut work: impl FnMut(I) -> O,
    ) {
        if !self.on(name) {
            return;
        }
        let mut took: Vec<f64> = (0..self.rounds)
            .map(|_| {
                let given = input();
                let start = cpu_ns(clock);
                let result = black_box(work(black_box(given)));
                let took = cpu_ns(clock) - start;
                // Closing a store is not part of it.
                drop(result);
                took / rows as f64
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!("{name:24} {:8.1} ns/row   (lowest {:.1})", took[took.len() / 2], took[0]);
    }
}

fn main() {
    let rounds = std::env::var("TL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let bench = Bench { only: std::env::var("TL_STAGE").ok(), rounds };
    let raw: Vec<RecordBatch> =
        (0..ROWS / BATCH).map(|part| rows::batch(&stages::layout(), part * BATCH, BATCH)).collect();
    way_in(&bench, &raw);
    let batches: Vec<RecordBatch> = (0i64..)
        .zip(&raw)
        .map(|(part, batch)| stages::with_seq(batch, part * BATCH as i64 + 1).expect("seq"))
        .collect();
    let chunks = stages::insert(&batches);
    seal(&bench, &chunks);
    merge(&bench);
    whole(&bench, &raw);
}

fn way_in(bench: &Bench, raw: &[RecordBatch]) {
    let bytes: usize = raw.iter().map(stages::batch_bytes).sum();
    let payload: usize = raw.iter().map(|batch| stages::encode(batch).expect("encoded")).sum();
    println!(
        "bytes a row: {} in memory, {} in the write-ahead log",
        bytes as u64 / ROWS,
        payload as u64 / ROWS
    );
    bench.run(
        "encode",
        ROWS,
        || (),
        |()| raw.iter().map(|batch| stages::encode(batch).expect("encoded")).sum::<usize>(),
    );
    bench.run("batch_bytes", ROWS, || (), |()| raw.iter().map(stages::batch_bytes).sum::<usize>());
    bench.run(
        "with_seq",
        ROWS,
        || (),
        |()| raw.iter().map(|batch| stages::with_seq(batch, 5).expect("seq")).collect::<Vec<_>>(),
    );
    let numbered: Vec<_> = raw.iter().map(|batch| stages::with_seq(batch, 5).expect("seq")).collect();
    bench.run("insert", ROWS, || (), |()| stages::insert(&numbered));
    let small: Vec<RecordBatch> =
        numbered.iter().take(4).flat_map(|batch| (0..20).map(|n| batch.slice(n * 100, 100))).collect();
    bench.run("insert by 100", 8000, || (), |()| stages::insert(&small));
}

fn seal(bench: &Bench, chunks: &[RecordBatch]) {
    let schema = stages::schema(chunks).expect("schema");
    bench.run("key counts", ROWS, || (), |()| stages::key_counts(chunks));
    bench.run("pool", ROWS, || (), |()| stages::pool(chunks, &schema).expect("pool"));
    bench.run("pool + sort", ROWS, || (), |()| stages::sort(chunks, &schema).expect("sorted"));
    let sorted = stages::sort(chunks, &schema).expect("sorted");
    bench.run("gather", ROWS, || (), |()| stages::gather(&sorted, drop).expect("gathered"));
    let mut gathered = Vec::new();
    stages::gather(&sorted, |batch| gathered.push(batch)).expect("gathered");
    bench.run("row root", ROWS, || (), |()| stages::row_root(&gathered).expect("root"));
    bench.run(
        "elide",
        ROWS,
        || (),
        |()| gathered.iter().map(|batch| stages::elide_bodies(batch).expect("elided")).sum::<usize>(),
    );
    println!("rows root {:02x?}", stages::row_root(&gathered).expect("root"));
}

fn numbered(part: u64) -> RecordBatch {
    let first = part * BATCH;
    stages::with_seq(&rows::batch(&stages::layout(), first, BATCH), first as i64 + 1).expect("seq")
}

/// Merges four runs of rows that are in order, as compaction does, without Parquet.
fn merge(bench: &Bench) {
    if !bench.on("merge") {
        return;
    }
    let parts = ROWS / BATCH / 4;
    let runs: Vec<Vec<RecordBatch>> = (0..4)
        .map(|run| {
            let batches: Vec<_> = (run * parts..(run + 1) * parts).map(numbered).collect();
            let schema = stages::schema(&batches).expect("schema");
            let mut gathered = Vec::new();
            let sorted = stages::sort(&batches, &schema).expect("sorted");
            stages::gather(&sorted, |batch| gathered.push(batch)).expect("gathered");
            gathered
        })
        .collect();
    let schema = stages::schema(&runs[0]).expect("schema");
    let scans = || runs.iter().map(|run| stages::scan_of(run.clone())).collect::<Vec<Scan>>();
    bench.run("merge", parts * 4 * BATCH, scans, |scans| stages::merge(scans, &schema).expect("merged"));
}

fn open(options: Options) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path(), options, Env::local()).expect("a store");
    (folder, store)
}

fn append(store: &Store, raw: &[RecordBatch], id: u64) {
    let (sender, receiver) = std::sync::mpsc::channel();
    for (n, batch) in raw.iter().enumerate() {
        let sender = sender.clone();
        let id = BatchId((u128::from(id) << 64) | n as u128);
        store.append(
            Append { table: Table::Logs, id, batch: batch.clone() },
            Box::new(move |outcome| sender.send(outcome.expect("room")).unwrap_or_default()),
        );
    }
    drop(sender);
    assert_eq!(receiver.iter().count(), raw.len());
}

/// Whole paths, on the disk of the temporary folder. All threads count.
fn whole(bench: &Bench, raw: &[RecordBatch]) {
    let manual = Options {
        disk_free_bytes_min: 0,
        seal_rows: usize::MAX,
        seal_bytes: usize::MAX,
        memory_bytes_max: 4 << 30,
        seal_after: std::time::Duration::from_secs(3600),
        maintenance_cpu_share: 1.0,
        ..Options::default()
    };
    let process = ClockId::ProcessCPUTime;
    bench.run_on(
        process,
        "whole append",
        ROWS,
        || open(manual.clone()),
        |(folder, store)| {
            append(&store, raw, 1);
            (folder, store)
        },
    );
    let filled = || {
        let (folder, store) = open(manual.clone());
        append(&store, raw, 1);
        (folder, store)
    };
    bench.run_on(process, "whole seal", ROWS, filled, |(folder, store)| {
        store.seal().expect("sealed");
        (folder, store)
    });
    let quarter = raw.len() / 4;
    let four = || {
        let (folder, store) = open(Options { threads: false, ..manual.clone() });
        for part in raw.chunks_exact(quarter) {
            for (n, batch) in part.iter().enumerate() {
                let id = BatchId(u128::from(rows::mix(n as u64 + part.as_ptr() as u64)));
                store.append(Append { table: Table::Logs, id, batch: batch.clone() }, Box::new(|_| ()));
            }
            store.step();
            store.seal().expect("sealed");
        }
        (folder, store)
    };
    bench.run_on(process, "whole merge of 4", 4 * quarter as u64 * BATCH, four, |(folder, store)| {
        assert!(store.maintain().expect("merged"));
        (folder, store)
    });
    let scan = || {
        let (folder, store) = four();
        assert!(store.maintain().expect("merged"));
        (folder, store)
    };
    bench.run_on(process, "scan", 4 * quarter as u64 * BATCH, scan, |(_folder, store)| {
        let files = store.snapshot().logs.files;
        files
            .iter()
            .flat_map(|file| file.scan(None, &Prune::default()).expect("a scan"))
            .map(|batch| batch.expect("a batch").num_rows())
            .sum::<usize>()
    });
}
