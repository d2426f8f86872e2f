//! CPU of each stage of ingest, ns per row, and of looking into the indexes of a sealed file, ns per look-up: one thread's
//! own CPU time, the median of several rounds, so that a busy machine disturbs little. `TL_STAGE=ingest` instead runs everything at full speed and says what memory that takes; any
//! other `TL_STAGE=name` runs the stages whose name has it, `TL_ROUNDS` sets the rounds.
//!
//! `cargo bench -p threadline-store --features stages --bench stages`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod rows;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use rustix::time::{ClockId, clock_gettime};
use threadline_model::schema::Table;
use threadline_store::{Append, BatchId, Env, Options, Prune, Scan, SealedFile, Store, stages};

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

    /// `work` does something `times` times.
    fn run_each<O>(&self, name: &str, unit: &str, times: u64, mut work: impl FnMut() -> O) {
        self.measure(ClockId::ThreadCPUTime, name, unit, times, || (), |()| work());
    }

    fn run_on<I, O>(
        &self,
        clock: ClockId,
        name: &str,
        rows: u64,
        input: impl FnMut() -> I,
        work: impl FnMut(I) -> O,
    ) {
        self.measure(clock, name, "row", rows, input, work);
    }

    fn measure<I, O>(
        &self,
        clock: ClockId,
        name: &str,
        unit: &str,
        times: u64,
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
                took / times as f64
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!("{name:26} {:8.1} ns/{unit:8} (lowest {:.1})", took[took.len() / 2], took[0]);
    }
}

fn main() {
    let rounds = std::env::var("TL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
    let bench = Bench { only: std::env::var("TL_STAGE").ok(), rounds };
    if bench.only.as_deref() == Some("ingest") {
        return ingest();
    }
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
    look_up(&bench, &raw);
    whole(&bench, &raw);
}

fn way_in(bench: &Bench, raw: &[RecordBatch]) {
    let bytes: usize = raw.iter().map(stages::batch_bytes).sum();
    let encode =
        |compress| raw.iter().map(|batch| stages::encode(batch, compress).expect("encoded")).sum::<usize>();
    let (stored, compressed) = (encode(false) as u64 / ROWS, encode(true) as u64 / ROWS);
    println!("bytes a row: {} in memory, {stored} or {compressed} in the write-ahead log", bytes as u64 / ROWS);
    bench.run("encode, stored", ROWS, || (), |()| encode(false));
    bench.run("encode, compressed", ROWS, || (), |()| encode(true));
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
    let indexable = |all| -> Vec<_> {
        gathered.iter().map(|batch| stages::indexable(batch, all).expect("elided")).collect()
    };
    let (bodies, all) = (indexable(false), indexable(true));
    bench.run("index, terms of bodies", ROWS, || (), |()| stages::index(&bodies).expect("an index"));
    bench.run("index, everything", ROWS, || (), |()| stages::index(&all).expect("an index"));
    let indexed = || stages::index(&all).expect("an index");
    bench.run("index, finish", ROWS, indexed, |index| stages::finish_index(index).expect("blocks"));
    let bytes = stages::finish_index(indexed()).expect("blocks");
    println!("index bytes a row: {:.1}", bytes as f64 / ROWS as f64);
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

/// Looks into the indexes of a sealed file, and decodes its pages.
fn look_up(bench: &Bench, raw: &[RecordBatch]) {
    if !["look-up, kept", "look-up, absent", "look-up, from disk", "pages", "page of one row"]
        .into_iter()
        .any(|name| bench.on(name))
    {
        return;
    }
    let sealed = |cache_bytes_max| {
        let (folder, store) = open(Options { cache_bytes_max, ..manual() });
        append(&store, raw, 1);
        store.seal().expect("sealed");
        let file = Arc::clone(store.snapshot().logs.files.first().expect("a file"));
        (folder, store, file)
    };
    let (_folder, _store, file) = sealed(Options::default().cache_bytes_max);
    // Some number of the rows is in each: they lie all over the dictionary.
    let there: Vec<String> = (0..1000).map(|n| format!("contacts_{}", n % 700)).collect();
    let absent: Vec<String> = (0..1000).map(|n| format!("{:x}zzz", rows::mix(n))).collect();
    let each = |file: &SealedFile, terms: &[String]| -> u64 {
        terms.iter().map(|term| file.term_rows(term).expect("read").expect("indexed")).sum()
    };
    assert!(each(&file, &there) > 0 && each(&file, &absent) == 0);
    bench.run_each("look-up, kept", "look-up", 1000, || each(&file, &there));
    bench.run_each("look-up, absent", "look-up", 1000, || each(&file, &absent));
    let all = file.meta().rows;
    let pages = |column: &str| -> usize {
        let batches = file.scan(Some(&[column]), &Prune::default()).expect("a scan");
        batches.map(|batch| batch.expect("a batch").num_rows()).sum()
    };
    for column in ["ts", "service", "trace_id", "body"] {
        bench.run_each(&format!("pages, {column}"), "row", all, || pages(column));
    }
    let places: Vec<usize> = (0..all as usize).step_by(10 * 1024).collect();
    bench.run_each("page of one row, body", "page", places.len() as u64, || {
        let batches = file.rows(Some(&["body"]), &places).expect("a scan");
        batches.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>()
    });
    // Nothing is kept: head and sub-block are read and decoded for each.
    let (_folder, _store, file) = sealed(0);
    bench.run_each("look-up, from disk", "look-up", 100, || each(&file, &there[..100]));
    bench.run_each("look-up, absent, from disk", "look-up", 100, || each(&file, &absent[..100]));
}

/// Nothing happens unless it is asked for.
fn manual() -> Options {
    Options {
        disk_free_bytes_min: 0,
        seal_rows: usize::MAX,
        seal_bytes: usize::MAX,
        memory_bytes_max: 4 << 30,
        seal_after: Duration::from_secs(3600),
        maintenance_cpu_share: 1.0,
        ..Options::default()
    }
}

fn open(options: Options) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path(), options, Env::local()).expect("a store");
    (folder, store)
}

/// Appends that wait for their answer at a time: more would wait for the disk.
const IN_FLIGHT: usize = 4;

fn append(store: &Store, raw: &[RecordBatch], id: u64) {
    let (sender, receiver) = std::sync::mpsc::channel();
    for (n, batch) in raw.iter().enumerate() {
        if n >= IN_FLIGHT {
            receiver.recv().expect("an answer");
        }
        let sender = sender.clone();
        let id = BatchId((u128::from(id) << 64) | n as u128);
        store.append(
            Append { table: Table::Logs, id, batch: batch.clone() },
            Box::new(move |outcome| sender.send(outcome.expect("room")).unwrap_or_default()),
        );
    }
    drop(sender);
    assert_eq!(receiver.iter().count(), raw.len().min(IN_FLIGHT));
}

/// Whole paths, on the disk of the temporary folder. All threads count.
fn whole(bench: &Bench, raw: &[RecordBatch]) {
    let manual = manual();
    let process = ClockId::ProcessCPUTime;
    // Segments are there and get used again, as in a store that has run for a while.
    let warm = || {
        let (folder, store) = open(manual.clone());
        append(&store, raw, 1);
        append(&store, raw, 2);
        store.seal().expect("sealed");
        append(&store, &raw[..1], 3);
        std::thread::sleep(Duration::from_millis(300));
        (folder, store)
    };
    bench.run_on(process, "whole append", ROWS, warm, |(folder, store)| {
        append(&store, raw, 4);
        (folder, store)
    });
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

/// The number in this variable.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Everything at full speed with the default options: senders make batches of their own and append them.
fn ingest() {
    let default = Options::default();
    let options = Options {
        disk_free_bytes_min: 0,
        seal_rows: setting("TL_SEAL_ROWS", default.seal_rows as u64) as usize,
        seal_bytes: setting("TL_SEAL_BYTES", default.seal_bytes as u64) as usize,
        memory_bytes_max: setting("TL_MEMORY", default.memory_bytes_max as u64) as usize,
        ..default
    };
    let total = setting("TL_ROWS", 4_000_000);
    let (_folder, store) = open(options);
    let next = AtomicU64::new(0);
    let busy = AtomicU64::new(0);
    let start = Instant::now();
    let made: f64 = std::thread::scope(|scope| {
        let senders: Vec<_> =
            (0..setting("TL_SENDERS", 4)).map(|_| scope.spawn(|| send(&store, &next, &busy, total))).collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).sum()
    });
    let took = start.elapsed().as_secs_f64();
    let cpu = cpu_ns(ClockId::ProcessCPUTime) - made;
    let peak = status("VmHWM");
    println!(
        "{:.0} rows/s, {:.0} ns CPU a row without making them, Busy {} times",
        total as f64 / took,
        cpu / total as f64,
        busy.into_inner()
    );
    println!("memory: peak {peak} MiB, now {} MiB, {:?}", status("VmRSS"), store.stats().compactions);
    store.seal().expect("sealed");
    println!("memory after a seal: {} MiB", status("VmRSS"));
}

/// Appends batches until there are enough; CPU spent on making them.
fn send(store: &Store, next: &AtomicU64, busy: &AtomicU64, total: u64) -> f64 {
    let mut made = 0.0;
    loop {
        let from = next.fetch_add(BATCH, Ordering::Relaxed);
        if from >= total {
            return made;
        }
        // The batch is given away, as a server does; one that is not taken is made again.
        loop {
            let start = cpu_ns(ClockId::ThreadCPUTime);
            let batch = rows::batch(&stages::layout(), from, BATCH);
            made += cpu_ns(ClockId::ThreadCPUTime) - start;
            if store.append_wait(Append { table: Table::Logs, id: BatchId(from.into()), batch }).is_ok() {
                break;
            }
            busy.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A line of this process's status, in MiB.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}
