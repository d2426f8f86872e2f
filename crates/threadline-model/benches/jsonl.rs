//! JSON lines into finished batches, next to what serde_json takes for the same lines in the same run: for a tree of
//! values, and for a look at the syntax alone.
//!
//! `cargo bench -p threadline-model --bench jsonl`

#![allow(clippy::unwrap_used, reason = "a measurement of something that fails is none")]

use std::fmt::Write as _;
use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use serde::de::IgnoredAny;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::inspect::Unchecked;
use threadline_model::jsonl::{LineParser, Mapping, decode};
use threadline_model::schema::{Layout, Table};

const LINES: usize = 2000;
const LINE_BYTES: usize = 557;

fn main() {
    divan::main();
}

/// Log lines of 46 services in turn, all of the same length.
fn logs() -> String {
    let mut out = String::new();
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 16
    };
    for line in 0..LINES {
        let start = out.len();
        let service = next() % 46;
        let _ = write!(
            out,
            r#"{{"_time":"2026-01-05T00:00:{:02}.{:09}Z","service":"ts-travel{service}-service","pod":"ts-travel{service}-service-5f6d8-{:03}","node":"n{}","severity":"{}","trace_id":"{:016x}{:016x}","span_id":"{:016x}","body":""#,
            line / 40,
            next() % 1_000_000_000,
            next() % 3,
            service % 5,
            ["INFO", "INFO", "INFO", "WARN", "ERROR"][line % 5],
            next() | 1,
            next() << 16 | 1,
            next() << 12 | 1,
        );
        while out.len() < start + LINE_BYTES - 2 {
            let _ = write!(
                out,
                "[order {}] queried /api/v1/travel for customer {}; ",
                next() % 10_000,
                next() % 997
            );
        }
        out.truncate(start + LINE_BYTES - 2);
        out.push_str("\"}\n");
    }
    out
}

/// Lines as loggers write them: a dozen fields, numbers, an object, escapes in the message.
fn structured() -> String {
    let mut out = String::new();
    for line in 0..LINES {
        let _ = writeln!(
            out,
            r#"{{"timestamp": "2026-01-05 00:00:{:02},{:03}", "level": "info", "logger": "shop.cart", "service": "cart", "host": "h{}", "message": "line one\n\tof \"{line}\"", "http.route": "/cart/{{id}}", "http.response.status_code": 200, "url.path": "/cart/{}", "took_ms": {}.5, "user": {{"id": {line}, "tier": "gold"}}, "retry": false}}"#,
            line / 40,
            line % 1000,
            line % 7,
            line % 50,
            line % 300,
        );
    }
    out
}

fn into_columns(bencher: Bencher<'_, '_>, lines: &str) {
    let mapping = Arc::new(Mapping::default());
    let layouts = [Table::Logs, Table::Spans].map(|table| Arc::new(Layout::base(table)));
    bencher.counter(ItemsCount::new(LINES)).counter(BytesCount::of_str(lines)).bench_local(|| {
        let [mut logs, mut spans] = layouts.each_ref().map(|layout| {
            BatchBuilder::new(Arc::clone(layout), 1_767_571_300_000_000, RecordLimits::default())
        });
        let mut parser = LineParser::new(Arc::clone(&mapping));
        let decoded =
            decode(black_box(lines.as_bytes()), &mut parser, 4 << 20, &mut logs, &mut spans, &mut Unchecked);
        assert_eq!(decoded.logs, LINES);
        logs.finish().unwrap()
    });
}

fn serde_values(bencher: Bencher<'_, '_>, lines: &str) {
    bencher.counter(ItemsCount::new(LINES)).counter(BytesCount::of_str(lines)).bench_local(|| {
        for line in black_box(lines).lines() {
            black_box(serde_json::from_str::<serde_json::Value>(line).unwrap());
        }
    });
}

fn serde_syntax(bencher: Bencher<'_, '_>, lines: &str) {
    bencher.counter(ItemsCount::new(LINES)).counter(BytesCount::of_str(lines)).bench_local(|| {
        for line in black_box(lines).lines() {
            black_box(serde_json::from_str::<IgnoredAny>(line).unwrap());
        }
    });
}

#[divan::bench]
fn logs_into_columns(bencher: Bencher<'_, '_>) {
    into_columns(bencher, &logs());
}

#[divan::bench]
fn logs_serde_json_values(bencher: Bencher<'_, '_>) {
    serde_values(bencher, &logs());
}

#[divan::bench]
fn logs_serde_json_syntax_only(bencher: Bencher<'_, '_>) {
    serde_syntax(bencher, &logs());
}

#[divan::bench]
fn structured_into_columns(bencher: Bencher<'_, '_>) {
    into_columns(bencher, &structured());
}

#[divan::bench]
fn structured_serde_json_values(bencher: Bencher<'_, '_>) {
    serde_values(bencher, &structured());
}
