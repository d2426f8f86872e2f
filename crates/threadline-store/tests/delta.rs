//! Other engines read our tables: the packages `deltalake` and `duckdb` from PyPI see the rows that the store sees,
//! after seals, compaction and erasure. Skipped where Python or the packages cannot be had, but not where `CI` is set.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use arrow_array::{BooleanArray, RecordBatch};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::columns::Batch;
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, BatchId, Env, Options, Prune, Store};

const NOON_US: i64 = 1_674_979_200_000_000;
const PACKAGES: [&str; 3] = ["deltalake==1.6.6", "duckdb==2.0.0", "pyarrow==26.0.1"];

/// An interpreter with the packages, made once below the target folder; `None` with a message when it cannot be.
fn interpreter() -> Option<String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("delta-oracle");
    let python = folder.join("bin/python").to_string_lossy().into_owned();
    let run = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
    };
    let ready = || run(&python, &["-c", "import deltalake, duckdb, pyarrow"]);
    let made = || {
        run("python3", &["-m", "venv", &folder.to_string_lossy()])
            && run(&python, &[&["-m", "pip", "install", "--quiet"][..], &PACKAGES[..]].concat())
            && ready()
    };
    (ready() || made()).then_some(python)
}

fn rows(store: &Store, first: u64, count: u64) -> RecordBatch {
    let limits = RecordLimits::default();
    let mut builder = BatchBuilder::new(store.layout(Table::Logs), NOON_US + 7_200_000_000, limits);
    for n in first..first + count {
        let service = ["cart", "shop"][n as usize % 2];
        builder.set_resource(&ResourceView {
            attributes: &[("service.name", Value::Str(service))],
            ..ResourceView::default()
        });
        let (trace, span) = ([n as u8 | 1; 16], [n as u8 | 2; 8]);
        let (trace, span) = (TraceId::from_bytes(&trace), SpanId::from_bytes(&span));
        let body = match n % 4 {
            0 => format!("trace {} span {}", trace.unwrap(), span.unwrap()),
            1 => format!("control \u{1} {n}"),
            _ => format!("plain {n}"),
        };
        let attributes = [("often", Value::Int(n as i64)), ("http.response.status_code", Value::Int(200))];
        builder
            .push_log(
                &LogView {
                    time_unix_nano: (NOON_US as u64 + n * 2_000_000) * 1000,
                    severity_number: 9,
                    trace_id: trace,
                    span_id: span,
                    body: Value::Str(&body),
                    attributes: &attributes,
                    ..LogView::default()
                },
                0,
            )
            .unwrap();
    }
    builder.finish().unwrap().unwrap()
}

/// Rows, sum of `seq` and bytes of bodies as the store itself reads them.
fn truth(store: &Store) -> (u64, i64, u64) {
    let (mut rows, mut sum, mut bodies) = (0, 0, 0);
    for file in &store.snapshot().logs.files {
        for batch in file.scan(None, &Prune::default()).unwrap() {
            let batch = batch.unwrap();
            let columns = Batch::new(&batch);
            for row in 0..batch.num_rows() {
                rows += 1;
                sum += columns.int("seq").get(row).unwrap();
                bodies += columns.str("body").get(row).map_or(0, |body| body.chars().count() as u64);
            }
        }
    }
    (rows, sum, bodies)
}

#[test]
fn other_engines_read_the_same_rows() {
    let Some(python) = interpreter() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs python3 with venv and PyPI for {PACKAGES:?}");
        eprintln!("skipped: python3 with venv, or PyPI for {PACKAGES:?}, is not at hand");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        maintenance_cpu_share: 1.0,
        compact_quiet: Duration::ZERO,
        disk_free_bytes_min: 0,
        ..Options::default()
    };
    let store = Store::open(folder.path(), options, Env::local()).unwrap();
    let check = |what: &str| {
        let table = folder.path().join("tables/default/logs");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/delta.py");
        let output = Command::new(&python).arg(script).arg(&table).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (rows, sum, bodies) = truth(&store);
        assert_eq!(seen["files"], store.snapshot().logs.files.len(), "{what}: {seen}");
        for name in ["rows", "records", "scanned"] {
            assert_eq!(seen[name], rows, "{what}: {name}: {seen}");
        }
        assert_eq!((&seen["sum"], &seen["bodies"]), (&sum.into(), &bodies.into()), "{what}: {seen}");
        if !seen["delta_scan"].is_null() {
            assert_eq!(seen["delta_scan"], serde_json::json!([rows, sum]), "{what}: {seen}");
        }
        for (name, want) in [("ts", "timestamp"), ("ns", "short"), ("trace_id", "binary"), ("hour", "string")] {
            assert_eq!(seen["schema"][name], want, "{what}: {seen}");
        }
        seen
    };
    for part in 0..6 {
        let batch = rows(&store, part * 400, 400);
        store.append_wait(Append { table: Table::Logs, id: BatchId(part.into()), batch }).unwrap();
        store.seal().unwrap();
    }
    let seen = check("seals");
    assert_eq!(seen["hours"], serde_json::json!(["2023-01-29T08", "2023-01-29T09"]));
    assert_eq!(seen["schema"]["often"], "long", "{seen}");
    while store.maintain().unwrap() {}
    let seen = check("compaction");
    assert_eq!(seen["files"], 2, "{seen}");
    let cart = |batch: &RecordBatch| {
        let service = Batch::new(batch).str("service");
        Ok((0..batch.num_rows()).map(|row| Some(service.get(row) == Some("cart"))).collect::<BooleanArray>())
    };
    let erasure = store.erase(Table::Logs, &cart, "a person asked").unwrap();
    assert_eq!(erasure.rows, 1200);
    check("erasure");
    assert_eq!(store.verify().unwrap().findings, Vec::<String>::new());
    store.close().unwrap();
}
