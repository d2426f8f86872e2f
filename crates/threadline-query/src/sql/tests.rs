//! SQL over memory and files, and what it refuses.

use arrow_array::cast::AsArray;
use futures::TryStreamExt;
use proptest::prelude::*;
use threadline_model::schema::Table;
use threadline_store::{Scope, Snapshot};

use super::sql;
use crate::search::{Matcher, TimeRange};
use crate::testing::{Log, T0_US, logs_batch, memory, sealed, seqs, spans_batch};
use crate::tests::{any_expr, any_log};
use crate::{Guard, QueryError};

fn rows() -> Vec<Log> {
    let log = |body: &str, service, severity, trace| Log {
        body: body.to_owned(),
        service,
        severity,
        trace,
        at_ns: u64::from(trace) * 1_000_000_000,
        attributes: vec![("shop.basket", threadline_model::value::Value::Int(i64::from(trace)))],
        ..Log::default()
    };
    vec![log("token expired", "cart", 17, 1), log("all well", "shop", 9, 2), log("token fine", "shop", 9, 3)]
}

async fn table(snapshot: &Snapshot, text: &str, range: TimeRange, guard: Guard) -> Result<String, QueryError> {
    let answer = sql(snapshot.clone(), text, range, guard).await?;
    let mut lines = Vec::new();
    for batch in answer.batches.try_collect::<Vec<_>>().await? {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                let text = arrow_cast::cast(column, &arrow_schema::DataType::Utf8).unwrap();
                let text = text.as_string::<i32>();
                if arrow_array::Array::is_null(text, row) { "-".to_owned() } else { text.value(row).to_owned() }
            });
            lines.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(lines.join("|"))
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_have_their_answers() {
    let batches = [logs_batch(&rows()[..2]), logs_batch(&rows()[2..])];
    let in_memory = memory(&batches, &[spans_batch()]);
    let folder = tempfile::tempdir().unwrap();
    let (_store, in_files) = sealed(folder.path(), &batches, 1);
    for (text, want) in [
        ("SELECT count(*) FROM logs", "3"),
        ("SELECT seq FROM logs WHERE matches('token') ORDER BY seq", "1|3"),
        ("SELECT seq FROM logs l WHERE matches('token -service:cart')", "3"),
        ("SELECT service, count(*) n FROM logs GROUP BY service ORDER BY n", "cart 1|shop 2"),
        (
            "SELECT attr('shop.basket') b, count(*) FROM logs GROUP BY attr('shop.basket') ORDER BY b",
            "1 1|2 1|3 1",
        ),
        ("SELECT attr('nosuch') FROM logs LIMIT 1", "-"),
        (
            "SELECT hex(trace_id) FROM logs WHERE trace_id = trace('01010101010101010101010101010101')",
            "01010101010101010101010101010101",
        ),
        ("SELECT seq FROM logs WHERE service IN ('cart', 'x') OR seq = 2 ORDER BY seq", "1|2"),
        ("SELECT seq FROM logs WHERE ts > '2023-11-14T22:13:22Z' AND severity_number < 17", "3"),
        (
            "SELECT count(*) FROM (SELECT * FROM logs WHERE matches('token')) WHERE severity_number BETWEEN 9 AND 12",
            "1",
        ),
        ("SELECT event_name FROM logs LIMIT 1", "-"),
    ] {
        for snapshot in [&in_memory, &in_files] {
            let found = table(snapshot, text, TimeRange::default(), Guard::default()).await.unwrap();
            assert_eq!(found, want, "{text}");
        }
    }
    let spans = "SELECT name FROM spans WHERE matches('duration>150ms') AND kind <> 3";
    assert_eq!(table(&in_memory, spans, TimeRange::default(), Guard::default()).await.unwrap(), "charge card");
    let range = TimeRange { from_us: Some(T0_US + 2_000_000), to_us: Some(T0_US + 3_000_000) };
    let bounded = table(&in_files, "SELECT seq FROM logs", range, Guard::default()).await.unwrap();
    assert_eq!(bounded, "2");
    let explained = table(&in_files, "EXPLAIN SELECT seq FROM logs", range, Guard::default()).await.unwrap();
    assert!(explained.contains("StreamingTableExec"), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_reading_is_allowed() {
    let snapshot = memory(&[logs_batch(&rows())], &[]);
    for text in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO logs SELECT * FROM logs",
        "COPY logs TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "DROP TABLE logs",
        "SELECT 1; SELECT 2",
        "SELEC 1",
        "SELECT nosuch FROM logs",
        "SELECT * FROM '/etc/passwd'",
        "SELECT matches('a OR') FROM logs",
        "SELECT matches('/(/') FROM logs",
        "SELECT matches('a')",
        "SELECT matches(body) FROM logs",
        "SELECT matches('a') FROM (SELECT attrs FROM logs)",
        "SELECT 1 FROM logs, spans WHERE matches('a')",
        "SELECT trace('xy') FROM logs",
    ] {
        let found = table(&snapshot, text, TimeRange::default(), Guard::default()).await;
        assert!(matches!(&found, Err(QueryError::Invalid(_))), "{text}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_end_a_query() {
    let snapshot = memory(&[logs_batch(&rows())], &[]);
    let range = TimeRange::default();
    let tight = Guard { memory_bytes_max: 1, ..Guard::default() };
    let found = table(&snapshot, "SELECT body FROM logs ORDER BY body", range, tight).await;
    assert!(matches!(found, Err(QueryError::TooExpensive(_))), "{found:?}");
    let late = Guard { deadline: Some(std::time::Instant::now()), ..Guard::default() };
    let found = table(&snapshot, "SELECT body FROM logs", range, late).await;
    assert!(matches!(found, Err(QueryError::Timeout)), "{found:?}");
    let cancelled = Guard::default();
    cancelled.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    let found = table(&snapshot, "SELECT body FROM logs", range, cancelled).await;
    assert!(matches!(found, Err(QueryError::Cancelled)), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// One tree, three ways: the matcher row by row, the filter of a plan over memory, and over files with pruning.
    #[test]
    fn a_search_means_the_same_in_sql(
        logs in prop::collection::vec(any_log(), 1..24),
        exprs in prop::collection::vec(any_expr(), 8),
    ) {
        let batches = [logs_batch(&logs)];
        let in_memory = memory(&batches, &[]);
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = sealed(folder.path(), &batches, 1);
        store.seal().unwrap();
        let in_files = store.snapshot_of(Scope::All);
        prop_assert!(in_files.logs.memory.is_empty() && !in_files.logs.files.is_empty());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        for expr in &exprs {
            let batch = &in_memory.logs.memory[0];
            let found = Matcher::new(expr, Table::Logs).unwrap().matches(batch).unwrap();
            let rows = seqs(batch).into_iter().enumerate().filter(|(row, _)| found.value(*row));
            let want = rows.map(|(_, seq)| seq.to_string()).collect::<Vec<_>>().join("|");
            let quoted = expr.to_string().replace('\'', "''");
            let statement = format!("SELECT seq FROM logs WHERE matches('{quoted}') ORDER BY seq");
            for snapshot in [&in_memory, &in_files] {
                let answer = table(snapshot, &statement, TimeRange::default(), Guard::default());
                let found = runtime.block_on(answer).unwrap();
                prop_assert_eq!(&found, &want, "{}", expr);
            }
        }
    }
}
