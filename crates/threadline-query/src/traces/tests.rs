//! On batches in memory, against what the records plainly say.

use std::sync::Arc;

use proptest::prelude::*;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::SpanId;
use threadline_model::record::{LogView, ResourceView, SpanView};
use threadline_model::schema::{Layout, Table};
use threadline_model::value::Value;
use threadline_store::{Append, BatchId, Env, Options, Store};

use super::*;
use crate::lang::{self, Expr};
use crate::testing::{T0_US, memory};

const MS: u64 = 1_000_000;
const BASE: u64 = 1_700_000_000_000_000_000;
const ARRIVAL_US: i64 = 1_700_000_100_000_000;

fn trace_id(n: u8) -> TraceId {
    TraceId::from_bytes(&[n; 16]).unwrap()
}

/// (trace, span, parent or 0, service, name, start ms, duration ms, status)
type SpanRow = (u8, u64, u64, &'static str, &'static str, u64, u64, i32);
/// (trace, service, time ms, severity)
type LogRow = (u8, &'static str, u64, i32);

fn resource(builder: &mut BatchBuilder, service: &str) {
    let attributes = [("service.name", Value::Str(service))];
    builder.set_resource(&ResourceView { attributes: &attributes, ..ResourceView::default() });
}

fn table(table: Table, batches: Vec<RecordBatch>) -> TableSnapshot {
    TableSnapshot { layout: Arc::new(Layout::base(table)), memory: batches, files: Vec::new() }
}

fn builder(table: Table) -> BatchBuilder {
    BatchBuilder::new(Arc::new(Layout::base(table)), ARRIVAL_US, RecordLimits::default())
}

fn snapshot(spans: &[&[SpanRow]], logs: &[LogRow]) -> Snapshot {
    let spans = spans
        .iter()
        .map(|rows| {
            let mut batch = builder(Table::Spans);
            for &(trace, span, parent, service, name, start, duration, status) in *rows {
                resource(&mut batch, service);
                let mut view = SpanView::new(trace_id(trace), SpanId(span.to_be_bytes()));
                view.parent_span_id = SpanId::from_bytes(&parent.to_be_bytes());
                view.name = name;
                view.start_time_unix_nano = BASE + start * MS;
                view.end_time_unix_nano = BASE + (start + duration) * MS;
                view.status_code = status;
                batch.push_span(&view, 0).unwrap();
            }
            batch.finish().unwrap().unwrap()
        })
        .collect();
    let mut batch = builder(Table::Logs);
    for &(trace, service, time, severity_number) in logs {
        resource(&mut batch, service);
        let log = LogView {
            time_unix_nano: BASE + time * MS,
            severity_number,
            trace_id: Some(trace_id(trace)),
            ..LogView::default()
        };
        batch.push_log(&log, 0).unwrap();
    }
    let logs = batch.finish().unwrap().into_iter().collect();
    Snapshot { logs: table(Table::Logs, logs), spans: table(Table::Spans, spans), last_seq: 0 }
}

fn shop() -> Snapshot {
    snapshot(
        &[
            &[
                (1, 10, 0, "gw", "GET /", 0, 100, 0),
                (1, 11, 10, "shop", "list", 10, 50, 0),
                (2, 20, 0, "gw", "POST /", 1000, 300, 0),
            ],
            &[
                (1, 12, 11, "shop", "query", 20, 10, 0),
                (2, 21, 20, "shop", "buy", 1010, 200, 2),
                (2, 22, 21, "pay", "charge", 1020, 100, 2),
                (3, 31, 99, "shop", "buy", 5000, 40, 0),
            ],
        ],
        &[(1, "gw", 5, 9), (1, "shop", 30, 17), (3, "shop", 5001, 9), (9, "cron", 7000, 17)],
    )
}

fn search() -> TraceSearch {
    TraceSearch {
        service: None,
        operation: None,
        duration_min_ns: None,
        duration_max_ns: None,
        status: None,
        expr: Expr::All,
        range: TimeRange::default(),
        limit: 10,
    }
}

#[test]
fn a_trace_is_read_from_both_tables() {
    let records = trace(&shop(), trace_id(2), &Guard::default()).unwrap();
    let rows = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!((rows(&records.spans), rows(&records.logs)), (3, 0));
    let view = records.view(trace_id(2), Limits::default());
    assert_eq!(view.nodes.len(), 3);
    assert_eq!(view.duration_ns(), 300 * MS as i64);
    let none = trace(&shop(), trace_id(7), &Guard::default()).unwrap();
    assert!(none.spans.is_empty() && none.logs.is_empty());
    let tight = Guard { memory_bytes_max: 0, ..Guard::default() };
    let records = trace(&shop(), trace_id(2), &tight).unwrap();
    assert_eq!(
        (records.spans_left_out, records.view(trace_id(2), Limits::default()).gaps.spans_left_out),
        (3, 3)
    );
}

#[test]
fn traces_are_found_newest_first() {
    let us = |ms: u64| Some(((BASE + ms * MS) / 1000) as i64);
    let ns = |ms: u64| Some((ms * MS) as i64);
    for (what, search, want) in [
        ("all", search(), vec![3, 2, 1]),
        ("limit", TraceSearch { limit: 2, ..search() }, vec![3, 2]),
        ("none", TraceSearch { limit: 0, ..search() }, vec![]),
        ("service", TraceSearch { service: Some("gw".into()), ..search() }, vec![2, 1]),
        ("operation", TraceSearch { operation: Some("buy".into()), ..search() }, vec![3, 2]),
        (
            "both in one span",
            TraceSearch { service: Some("gw".into()), operation: Some("buy".into()), ..search() },
            vec![],
        ),
        ("long", TraceSearch { duration_min_ns: ns(100), ..search() }, vec![2, 1]),
        ("short", TraceSearch { duration_max_ns: ns(100), ..search() }, vec![3, 1]),
        ("failed by status or log", TraceSearch { status: Some(TraceStatus::Error), ..search() }, vec![2, 1]),
        ("well", TraceSearch { status: Some(TraceStatus::Ok), ..search() }, vec![3]),
        ("well, limit", TraceSearch { status: Some(TraceStatus::Error), limit: 1, ..search() }, vec![2]),
        ("range", TraceSearch { range: TimeRange { from_us: us(1000), to_us: us(5000) }, ..search() }, vec![2]),
        ("expression", TraceSearch { expr: lang::parse("name:charge").unwrap(), ..search() }, vec![2]),
    ] {
        let found = search_traces(&shop(), &search, &Guard::default()).unwrap();
        let ids: Vec<u8> = found.iter().map(|summary| summary.trace_id.0[0]).collect();
        assert_eq!(ids, want, "{what}");
    }
    let wrong = TraceSearch { duration_min_ns: ns(2), duration_max_ns: ns(1), ..search() };
    assert!(matches!(search_traces(&shop(), &wrong, &Guard::default()), Err(QueryError::Invalid(_))));
    let tight = Guard { memory_bytes_max: 100, ..Guard::default() };
    assert!(matches!(search_traces(&shop(), &search(), &tight), Err(QueryError::TooExpensive(_))));
}

#[test]
fn summaries_are_of_whole_traces() {
    let search = TraceSearch { operation: Some("charge".into()), ..search() };
    let found = search_traces(&shop(), &search, &Guard::default()).unwrap();
    let want = TraceSummary {
        trace_id: trace_id(2),
        root_service: "gw".into(),
        root_operation: "POST /".into(),
        root_found: true,
        start_ns: (BASE + 1000 * MS) as i64,
        duration_ns: 300 * MS as i64,
        spans: 3,
        services: vec!["gw".into(), "pay".into(), "shop".into()],
        error_spans: 2,
        logs: 0,
        error_logs: 0,
    };
    assert_eq!(found, [want]);
}

#[test]
fn services_are_judged_by_their_parents_service() {
    let graph = services(&shop(), TimeRange::default(), &Guard::default()).unwrap();
    let nodes: Vec<_> = graph
        .services
        .iter()
        .map(|n| (n.service.as_str(), n.requests.count, n.requests.errors, n.spans, n.logs, n.error_logs))
        .collect();
    assert_eq!(
        nodes,
        [("cron", 0, 0, 0, 1, 1), ("gw", 2, 0, 2, 1, 0), ("pay", 1, 1, 1, 0, 0), ("shop", 3, 1, 4, 2, 1)]
    );
    let edges: Vec<_> = graph
        .edges
        .iter()
        .map(|e| (e.caller.as_str(), e.callee.as_str(), e.requests.count, e.requests.errors))
        .collect();
    assert_eq!(edges, [("gw", "shop", 2, 1), ("shop", "pay", 1, 1)]);
    let gw = graph.services.iter().find(|node| node.service == "gw").unwrap().requests.latency.unwrap();
    assert_eq!(gw.max_ns, 300 * MS as i64);
    assert!((gw.p50_ns - 100 * MS as i64).abs() <= MS as i64, "{gw:?}");
    assert_eq!(graph.notes.len(), 1, "the parent of span 31 is not here: {:?}", graph.notes);

    // Parents are known from before the range.
    let from = Some(((BASE + 1015 * MS) / 1000) as i64);
    let late = services(&shop(), TimeRange { from_us: from, to_us: None }, &Guard::default()).unwrap();
    let edges: Vec<_> = late.edges.iter().map(|e| (e.caller.as_str(), e.callee.as_str())).collect();
    assert_eq!(edges, [("shop", "pay")]);

    let tight = Guard { memory_bytes_max: 128, ..Guard::default() };
    let capped = services(&shop(), TimeRange::default(), &tight).unwrap();
    assert!(capped.notes.iter().any(|note| note.contains("narrow the range")), "{:?}", capped.notes);
}

/// A span for RED: service (0 = none), start in s, duration in ms, status, HTTP status (0 = none).
type Figures = (u8, u16, u32, i32, i64);

fn figures_batch(spans: &[Figures]) -> RecordBatch {
    let mut builder = builder(Table::Spans);
    for &(service, start_s, duration_ms, status, http) in spans {
        match service {
            0 => builder.set_resource(&ResourceView::default()),
            _ => resource(&mut builder, &format!("service-{service}")),
        }
        let mut span = SpanView::new(TraceId([7; 16]), SpanId([1; 8]));
        span.start_time_unix_nano = T0_US as u64 * 1000 + u64::from(start_s) * 1_000_000_000;
        span.end_time_unix_nano = span.start_time_unix_nano + u64::from(duration_ms) * 1_000_000;
        span.status_code = status;
        let attributes = [("http.response.status_code", Value::Int(http))];
        span.attributes = if http == 0 { &[] } else { &attributes };
        builder.push_span(&span, 0).unwrap();
    }
    builder.finish().unwrap().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn red_of_files_is_that_of_memory(
        batches in prop::collection::vec(prop::collection::vec(
            (0_u8..4, 0_u16..8000, 0_u32..5000, 0_i32..3, prop::sample::select(vec![0_i64, 200, 404, 500, 503])), 1..200), 1..4),
        interval_s in prop::sample::select(vec![30_i64, 60, 300]),
        from_s in prop::option::of(0_i64..4000),
    ) {
        let batches: Vec<_> = batches.iter().map(|spans| figures_batch(spans)).collect();
        let folder = tempfile::tempdir().unwrap();
        let options = Options { disk_free_bytes_min: 0, ..Options::default() };
        let store = Store::open(folder.path(), options, Env::local()).unwrap();
        for (index, batch) in batches.iter().enumerate() {
            let append = Append { table: Table::Spans, id: BatchId(index as u128 + 1), batch: batch.clone() };
            store.append_wait(append).unwrap();
            store.seal().unwrap();
        }
        let files = store.snapshot();
        prop_assert!(files.spans.memory.is_empty());
        let range = TimeRange { from_us: from_s.map(|s| T0_US + s * 1_000_000), to_us: None };
        let request = RedRequest { expr: Expr::All, range, interval_us: Some(interval_s * 1_000_000) };
        let figures = |snapshot| red(snapshot, &request, &Guard::default()).unwrap();
        let (got, want) = (figures(&files), figures(&memory(&[], &batches)));
        prop_assert_eq!(got.services, want.services);
    }
}
