//! Views drawn and sent.

use std::sync::Arc;

use threadline_model::id::{SpanId, TraceId};
use threadline_model::trace::{self, Attribute, Limits, LogRecord, SpanRecord, TraceView};

use super::terminal::duration;
use super::*;

const MS: i64 = 1_000_000;
const BASE: i64 = 1_674_981_729_000_000_000;

fn span(id: u64, parent: u64, service: &str, name: &str, start_ms: i64, duration_ms: i64) -> SpanRecord {
    let mut span = SpanRecord::new(SpanId(id.to_be_bytes()));
    span.parent_span_id = SpanId::from_bytes(&parent.to_be_bytes());
    (span.service, span.name) = (Arc::from(service), Arc::from(name));
    (span.start_ns, span.duration_ns) = (BASE + start_ms * MS, duration_ms * MS);
    span
}

fn log(id: u64, service: &str, time_ms: i64, severity_number: i32, body: &str) -> LogRecord {
    LogRecord {
        span_id: SpanId::from_bytes(&id.to_be_bytes()),
        service: Arc::from(service),
        time_ns: BASE + time_ms * MS,
        severity_number,
        body: body.to_owned(),
        ..LogRecord::default()
    }
}

fn assemble(spans: Vec<SpanRecord>, logs: Vec<LogRecord>) -> TraceView {
    trace::assemble_records(TraceId([0xab; 16]), spans, logs, Limits::default())
}

/// A request with a failed call, a task left behind, a lost parent, a clock ahead, and hostile text.
fn shop() -> TraceView {
    let mut pay = span(3, 2, "pay", "charge", 1040, 40);
    let mut buy = span(2, 1, "shop", "buy", 10, 80);
    (buy.kind, pay.kind, pay.status_code) = (3, 2, 2);
    pay.status_message = "card \u{1b}[31mdeclined".to_owned();
    pay.attributes.push(Attribute { key: "order".to_owned(), json: "9007199254740993".to_owned() });
    assemble(
        vec![
            span(1, 0, "gateway", "GET /buy", 0, 100),
            buy,
            pay,
            span(4, 2, "shop", "mail later", 60, 500),
            span(6, 5, "stock", "reserve", 20, 5),
        ],
        vec![
            log(2, "shop", 12, 9, "order 7\nsecond line"),
            log(3, "pay", 1070, 17, "no funds"),
            log(0, "cron", 5, 9, "tick"),
        ],
    )
}

fn draw(view: &TraceView, options: RenderOptions) -> String {
    render_trace(&trace_wire(view), &options)
}

#[test]
fn a_trace_reads_well() {
    let text = draw(&shop(), RenderOptions { width: 100, ..RenderOptions::default() });
    for wanted in [
        "trace abababababababababababababababab  gateway · GET /buy",
        "2023-01-29 08:42:09.000 UTC  100 ms  5 spans, 3 logs, 5 services  ✗ 1 failed span, 1 error log",
        "likely cause pay · charge",
        "             card  [31mdeclined",
        "✗     pay charge",
        "~     shop mail later",
        "? (no service) span not received",
        "· +12.0 ms INFO order 7 second line",
        "Logs beside the tree",
        "cron     INFO tick",
        "pay runs about 995 ms ahead of shop (offset -1.03 s to -990 ms); of 1 call",
        "parent spans not received (lost, or their sender sends nothing here): 0000000000000005",
        "services that logged but sent no span: cron",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_escapes() {
    for width in [60, 80, 100, 140, 240] {
        let text = draw(&shop(), RenderOptions { width, ..RenderOptions::default() });
        for line in text.lines() {
            assert!(line.chars().count() <= width.max(80), "{width}: {line:?}");
        }
        assert!(!text.contains('\u{1b}'), "no control characters without colours");
    }
    let coloured = draw(&shop(), RenderOptions { colour: true, ..RenderOptions::default() });
    assert!(coloured.contains("\u{1b}[1;31m"));
    assert!(!coloured.contains("\u{1b}[31mdeclined"), "senders cannot colour the terminal");
    let plain = draw(&shop(), RenderOptions::default());
    let mut stripped = coloured;
    for code in ["1", "2", "1;31", "33", "36", "1;35", "0"] {
        stripped = stripped.replace(&format!("\u{1b}[{code}m"), "");
    }
    let trim = |text: &str| text.lines().map(str::trim_end).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(trim(&stripped), trim(&plain), "colours change nothing else");
}

#[test]
fn logs_alone_and_nothing() {
    let view = assemble(Vec::new(), vec![log(1, "gateway", 0, 9, "in"), log(2, "shop", 5, 9, "order")]);
    let text = draw(&view, RenderOptions::default());
    assert!(text.contains("rebuilt from its logs alone"), "{text}");
    assert!(text.contains("? gateway known from logs only"), "{text}");
    let text = draw(&assemble(Vec::new(), Vec::new()), RenderOptions::default());
    assert_eq!(text, "trace abababababababababababababababab: no span and no log found\n");
}

#[test]
fn json_survives_the_way_to_the_client() {
    let wire = trace_wire(&shop());
    let text = serde_json::to_string(&wire).unwrap();
    let back: TraceWire = serde_json::from_str(&text).unwrap();
    assert_eq!(back, wire);
    assert_eq!(render_trace(&back, &RenderOptions::default()), render_trace(&wire, &RenderOptions::default()));
    let json = trace_json(&shop());
    assert_eq!(json["spans"][0]["start"]["rfc3339"], "2023-01-29T08:42:09.000000000Z");
    assert_eq!(json["spans"][0]["start"]["unix_nano"], BASE.to_string());
    let pay = json["spans"].as_array().unwrap().iter().find(|span| span["service"] == "pay").unwrap();
    assert_eq!(pay["attributes"]["order"], 9_007_199_254_740_993_i64, "64-bit ints stay exact");
    let spans = json["spans"].as_array().unwrap();
    for (at, span) in spans.iter().enumerate() {
        let parent = span["parent"].as_u64().map(|parent| parent as usize);
        assert!(parent.is_none_or(|parent| parent < at), "parents come before children");
    }
    let path: i64 = wire.critical_path.iter().map(|segment| segment.duration_ns).sum();
    assert_eq!(path, wire.duration_ns);
}

#[test]
fn durations_in_three_digits() {
    for (ns, want) in [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (45_678, "45.7 µs"),
        (999_499, "999 µs"),
        (1_000_000, "1.00 ms"),
        (123_456_789, "123 ms"),
        (1_500_000_000, "1.50 s"),
        (119_000_000_000, "119 s"),
        (600_000_000_000, "10.0 min"),
        (36_000_000_000_000, "10.0 h"),
        (-2_000_000, "-2.00 ms"),
        (i64::MIN, "-2562048 h"),
    ] {
        assert_eq!(duration(ns), want);
    }
}

#[test]
fn lists_and_services_as_tables() {
    let mut traces = TracesWire::default();
    assert_eq!(render_traces(&traces, &RenderOptions::default()), "no trace found\n");
    traces.traces.push(SummaryWire {
        trace_id: "ab".repeat(16),
        start: TimeWire::from_ns(BASE),
        duration_ns: 5 * MS,
        root_service: "gateway".to_owned(),
        root_operation: "GET /".to_owned(),
        root_found: false,
        spans: 3,
        error_logs: 2,
        ..SummaryWire::default()
    });
    let text = render_traces(&traces, &RenderOptions::default());
    assert!(text.contains("5.00 ms  ? gateway · GET /"), "{text}");
    assert!(text.contains("✗ 2"), "{text}");

    let latency = Some(LatencyWire { p50_ns: MS, p95_ns: 2 * MS, p99_ns: 3 * MS, max_ns: 4 * MS });
    let requests = RequestsWire { count: 10, errors: 1, latency };
    let services = ServicesWire {
        services: vec![ServiceNodeWire {
            service: "shop".to_owned(),
            requests,
            rate: 0.5,
            ..ServiceNodeWire::default()
        }],
        edges: vec![EdgeWire { caller: "gateway".to_owned(), callee: "shop".to_owned(), requests }],
        notes: vec!["a bound was hit".to_owned()],
        ..ServicesWire::default()
    };
    let text = render_services(&services, &RenderOptions::default());
    for wanted in ["gateway → shop", "0.50/s", "1.00 ms   2.00 ms   3.00 ms", "! a bound was hit"] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
}
