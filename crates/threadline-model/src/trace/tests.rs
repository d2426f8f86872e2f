//! Cases as text: a trace is written one record per line, and so is what is expected of its view.
//!
//! - `ID PARENT SERVICE[/INSTANCE] START..END [kind=K] [status=S] [lost] [event=T] [drop=N]`: a span, times in ms;
//!   `-` for no parent; `..` alone for the time: no time was sent; `lost`: it is referenced only;
//! - `log SERVICE[/INSTANCE] TIME [ID] [error] TEXT`: a log; `?` for an unknown time.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const MS: i64 = 1_000_000;
/// Times of cases are after this, ns.
const BASE: i64 = 1_700_000_000_000_000_000;

fn trace_id() -> TraceId {
    TraceId::from_bytes(&[7; 16]).unwrap()
}

fn span_id(name: &str) -> SpanId {
    let mut bytes = [0u8; 8];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    SpanId::from_bytes(&bytes).unwrap()
}

fn name_of(id: SpanId) -> String {
    id.0.iter().take_while(|&&b| b != 0).map(|&b| char::from(b)).collect()
}

fn process(text: &str) -> (Arc<str>, Arc<str>) {
    let (service, instance) = text.split_once('/').unwrap_or((text, ""));
    (Arc::from(service), Arc::from(instance))
}

fn ns(text: &str) -> i64 {
    BASE + (text.parse::<f64>().unwrap() * MS as f64) as i64
}

fn parse_span(line: &str) -> SpanRecord {
    let mut words = line.split_whitespace();
    let id = span_id(words.next().unwrap());
    let mut span = SpanRecord::new(id);
    span.parent_span_id = words.next().filter(|&p| p != "-").map(span_id);
    (span.service, span.instance) = process(words.next().unwrap());
    span.name = Arc::from(name_of(id));
    let (start, end) = words.next().unwrap().split_once("..").unwrap();
    span.time_known = !start.is_empty();
    if span.time_known {
        span.start_ns = ns(start);
        span.duration_ns = if end.is_empty() { -span.start_ns } else { ns(end) - span.start_ns };
    }
    for word in words {
        match word.split_once('=').unwrap() {
            ("kind", kind) => span.kind = kind.parse().unwrap(),
            ("status", status) => span.status_code = status.parse().unwrap(),
            ("drop", count) => span.dropped = count.parse().unwrap(),
            ("event", time) => span.events.push(Event {
                time_ns: ns(time),
                name: "exception".into(),
                attributes: vec![Attribute { key: "exception.message".into(), json: "\"boom\"".into() }],
            }),
            ("http", status) => {
                span.attributes.push(Attribute { key: "http.response.status_code".into(), json: status.into() })
            }
            other => panic!("{other:?}"),
        }
    }
    span
}

fn parse_log(line: &str) -> LogRecord {
    let mut words = line.split_whitespace().skip(1);
    let (service, instance) = process(words.next().unwrap());
    let time = words.next().unwrap();
    let mut log = LogRecord { service, instance, time_known: time != "?", ..LogRecord::default() };
    log.time_ns = if log.time_known { ns(time) } else { BASE + 86_400_000 * MS };
    log.span_id = words.next().filter(|&id| id != "-").map(span_id);
    log.body = words.collect::<Vec<_>>().join(" ");
    log.severity_number = if log.body.contains("error") { 17 } else { 9 };
    log
}

fn parse(text: &str) -> (Vec<SpanRecord>, Vec<LogRecord>) {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_log = |line: &&str| line.starts_with("log ");
    (lines().filter(|l| !is_log(l)).map(parse_span).collect(), lines().filter(is_log).map(parse_log).collect())
}

fn view(text: &str) -> TraceView {
    let (spans, logs) = parse(text);
    assemble_records(trace_id(), spans, logs, Limits::default())
}

fn ms(ns: i64) -> String {
    format!("{}", ns as f64 / MS as f64)
}

/// What matters of a view, one fact per line.
fn dump(view: &TraceView) -> String {
    let mut out = String::new();
    for index in view.preorder() {
        let node = &view.nodes[index];
        let start = ms(node.start_ns - BASE);
        let indent = ".".repeat(node.depth);
        let _ = write!(
            out,
            "{indent}{} {} {start}+{}",
            name_of(node.span.span_id),
            node.span.service,
            ms(node.duration_ns)
        );
        let _ = write!(out, " self {} path {}", ms(node.self_ns), ms(node.critical_ns));
        for (flag, on) in [
            ("main", view.main_root == Some(index)),
            ("detached", node.detached),
            ("missing", node.presence == Presence::Missing),
            ("from-logs", node.presence == Presence::FromLogs),
        ] {
            if on {
                let _ = write!(out, " {flag}");
            }
        }
        if let Some(error) = node.error {
            let _ = write!(out, " {error:?}");
        }
        for note in &node.notes {
            let _ = write!(out, " {note:?}");
        }
        out.push('\n');
        for &log in &node.logs {
            let log = &view.logs[log];
            let _ = writeln!(out, "  * {} {:?} {}", ms(log.time_ns - BASE), log.placement, log.record.body);
        }
    }
    for log in view.logs.iter().filter(|log| log.node.is_none()) {
        let _ = writeln!(out, "beside {} {} {}", ms(log.time_ns - BASE), log.record.service, log.record.body);
    }
    for skew in &view.skews {
        let service = |index: usize| view.processes[index].service.clone();
        let bound = |b: Option<i64>| b.map_or("open".into(), ms);
        let fits =
            skew.fits_ns.map_or("nothing fits".into(), |(lo, hi)| format!("{}..{}", bound(lo), bound(hi)));
        let _ = writeln!(
            out,
            "skew {}->{} {} ({fits}) calls {} early {} late {}",
            service(skew.parent),
            service(skew.child),
            ms(skew.offset_ns),
            skew.calls,
            skew.early,
            skew.late
        );
    }
    for cause in &view.causes {
        let node = cause.node.map_or("-".into(), |index| name_of(view.nodes[index].span.span_id));
        let _ = writeln!(out, "cause {node} {} {}", ms(cause.time_ns - BASE), cause.message);
    }
    let gaps = &view.gaps;
    for (name, services) in
        [("no spans", &gaps.services_without_spans), ("no logs", &gaps.services_without_logs)]
    {
        if !services.is_empty() {
            let _ = writeln!(out, "{name} {}", services.join(" "));
        }
    }
    for (name, count) in [
        ("copies", gaps.copies),
        ("duplicates", gaps.duplicate_ids),
        ("cycles", gaps.cycles),
        ("untimed", gaps.logs_without_time),
        ("spans left out", gaps.spans_left_out),
        ("logs left out", gaps.logs_left_out),
    ] {
        if count > 0 {
            let _ = writeln!(out, "{name} {count}");
        }
    }
    out
}

#[track_caller]
fn check(input: &str, want: &str) {
    let view = view(input);
    let want: String =
        want.lines().map(str::trim_start).filter(|l| !l.is_empty()).fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        });
    let got = dump(&view);
    let got: String = got.lines().map(str::trim_start).fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "{line}");
        all
    });
    assert_eq!(got, want, "\n--- got\n{got}\n--- want\n{want}");
    invariants(&view);
}

/// What holds for every view.
fn invariants(view: &TraceView) {
    let order = view.preorder();
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..view.nodes.len()).collect::<Vec<_>>(), "every node exactly once");
    for (index, node) in view.nodes.iter().enumerate() {
        assert_eq!(node.parent.is_none(), view.roots.contains(&index));
        for &child in &node.children {
            assert_eq!(view.nodes[child].parent, Some(index));
            assert_eq!(view.nodes[child].depth, node.depth + 1);
        }
        assert!(node.duration_ns >= 0 && node.self_ns >= 0 && node.self_ns <= node.duration_ns);
        assert!(node.critical_ns >= 0 && node.critical_ns <= node.duration_ns);
        let starts: Vec<i64> = node.children.iter().map(|&child| view.nodes[child].start_ns).collect();
        assert!(starts.is_sorted());
    }
    let mut placed: Vec<usize> = view.nodes.iter().flat_map(|node| node.logs.iter().copied()).collect();
    placed.extend((0..view.logs.len()).filter(|&at| view.logs[at].node.is_none()));
    placed.sort_unstable();
    assert_eq!(placed, (0..view.logs.len()).collect::<Vec<_>>(), "every log exactly once");
    if let Some(root) = view.main_root {
        let mut at = view.nodes[root].start_ns;
        for segment in &view.critical_path {
            assert_eq!(segment.start_ns, at, "the path has no hole");
            assert!(segment.end_ns > segment.start_ns);
            assert!(!view.nodes[segment.node].detached || segment.node == root);
            at = segment.end_ns;
        }
        assert_eq!(at, view.nodes[root].end_ns(), "the path sums to the end-to-end time");
    }
    let per_service: usize = view.services.iter().map(|part| part.logs).sum();
    assert_eq!(per_service, view.logs.len());
}

#[test]
fn trees_and_critical_paths() {
    // Two calls one after the other; time between them is the parent's own.
    check(
        "a - gw 0..100
         b a auth 10..40
         c a shop 50..90
         d c shop 60..70",
        "a gw 0+100 self 30 path 30 main
         .b auth 10+30 self 30 path 30
         .c shop 50+40 self 30 path 30
         ..d shop 60+10 self 10 path 10",
    );
    // Side by side: the path follows the last to finish; the other one is beside it.
    check(
        "a - gw 0..100
         b a auth 10..50
         c a shop 10..90",
        "a gw 0+100 self 20 path 20 main
         .c shop 10+80 self 80 path 80
         .b auth 10+40 self 40 path 0",
    );
    // Overlap: b was not what c waited for.
    check(
        "a - gw 0..100
         b a auth 0..60
         c a shop 50..100",
        "a gw 0+100 self 0 path 50 main
         .b auth 0+60 self 60 path 0
         .c shop 50+50 self 50 path 50",
    );
    // Equal starts, zero durations, and a child of the whole duration.
    check(
        "a - gw 0..10
         b a gw 0..10
         c b gw 5..5",
        "a gw 0+10 self 0 path 0 main
         .b gw 0+10 self 10 path 10
         ..c gw 5+0 self 0 path 0",
    );
}

#[test]
fn async_children_are_detached() {
    // A task in the process that outlives the request; a message taken later; a queue without span kinds.
    check(
        "a - shop 0..100
         b a shop 50..300
         p a shop 60..62 kind=4
         q p mail 61..500 kind=5
         s a shop 90..95
         t s ship 97..130",
        "a shop 0+100 self 93 path 93 main
         .b shop 50+250 self 250 path 0 detached
         .p shop 60+2 self 2 path 2
         ..q mail 61+439 self 439 path 0 detached
         .s shop 90+5 self 5 path 5
         ..t ship 97+33 self 33 path 0 detached",
    );
    // The caller gave up: it waited for the callee to its own end.
    check(
        "a - shop 0..100
         b a slow 10..900",
        "a shop 0+100 self 10 path 10 main
         .b slow 10+890 self 890 path 90",
    );
    // A server that ends its span a moment after the answer arrived: neither skew nor detached.
    check(
        "a - shop 0..100
         b a slow 10..100.5",
        "a shop 0+100 self 10 path 10 main
         .b slow 10+90.5 self 90.5 path 90",
    );
}

#[test]
fn clock_skew_is_estimated_per_process() {
    // Half way when the slack is small.
    check(
        "a - gw 0..100 kind=3
         b a shop 1004..1100 kind=2
         c b shop 1010..1020
         log shop 1015 c hello",
        "a gw 0+100 self 4 path 4 main
         .b shop 2+96 self 86 path 86
         ..c shop 8+10 self 10 path 10
           * 13 SpanId hello
         skew gw->shop -1002 (-1004..-1000) calls 1 early 0 late 1
         no logs gw",
    );
    // Never further than 5 ms inwards; several calls narrow the interval.
    check(
        "a - gw 0..100
         b a shop -5..10
         c a shop 40..46",
        "a gw 0+100 self 79 path 79 main
         .b shop 5+15 self 15 path 15
         .c shop 50+6 self 6 path 6
         skew gw->shop 10 (5..54) calls 2 early 1 late 0",
    );
    // A service has one clock, also where the request comes back to it.
    check(
        "a - gw 0..100
         b a shop -3..87
         c b gw 10..20",
        "a gw 0+100 self 10 path 10 main
         .b shop 5+90 self 80 path 80
         ..c gw 10+10 self 10 path 10
         skew gw->shop 8 (3..13) calls 2 early 1 late 0",
    );
    // Contradictory ends: starts decide alone.
    check(
        "a - gw 0..100
         b a shop 5..40
         x - gw 200..300
         y x shop 190..280
         z x shop 215..305",
        "a gw 0+100 self 65 path 65 main
         .b shop 15+35 self 35 path 35
         x gw 200+100 self 0 path 0
         .y shop 200+90 self 90 path 0
         .z shop 225+90 self 90 path 0
         skew gw->shop 10 (nothing fits) calls 3 early 1 late 1",
    );
    // Instances of a service have clocks of their own.
    check(
        "a - gw 0..100
         b a shop/1 -50..-40
         c a shop/2 50..60",
        "a gw 0+100 self 80 path 80 main
         .b shop 5+10 self 10 path 10
         .c shop 50+10 self 10 path 10
         skew gw->shop 55 (50..140) calls 1 early 1 late 0",
    );
}

#[test]
fn logs_find_their_place() {
    check(
        "a - gw 0..100
         b a shop 10..60
         c b shop 20..40
         log shop 30 b named
         log shop 30 - innermost
         log shop 50 - outer
         log shop 70 - after
         log gw ? a untimed
         log mail 50 - stranger
         log gw 99 zz lost",
        "a gw 0+100 self 50 path 50 main
           * 0 SpanId untimed
         .b shop 10+50 self 30 path 30
           * 30 SpanId named
           * 50 Time outer
         ..c shop 20+20 self 20 path 20
           * 30 Time innermost
         zz gw 99+0 self 0 path 0 from-logs
           * 99 SpanId lost
         beside 50 mail stranger
         beside 70 shop after
         no spans mail
         untimed 1",
    );
}

#[test]
fn gaps_are_told() {
    // Missing parent with siblings; its service is known from its logs. The main root stays the request's.
    check(
        "a - gw 0..100
         c m shop 20..40
         d m shop 50..60
         log cart 15 m taken
         log gw 1 a in",
        "a gw 0+100 self 100 path 100 main
           * 1 SpanId in
         m cart 15+45 self 15 path 0 missing
           * 15 SpanId taken
         .c shop 20+20 self 20 path 0
         .d shop 50+10 self 10 path 0
         no spans cart
         no logs shop",
    );
    // A caller that sends nothing here.
    check(
        "a browser gw 0..100",
        "browser  0+100 self 0 path 0 missing
         .a gw 0+100 self 100 path 100 main",
    );
    // No root at all: the placeholder spans what is there.
    check(
        "a lost gw 0..10
         b lost gw 20..50",
        "lost  0+50 self 10 path 10 main missing
         .a gw 0+10 self 10 path 10
         .b gw 20+30 self 30 path 30",
    );
    // Circles, self-parents, copies, shared ids.
    check(
        "a b gw 0..10
         b c gw 1..9
         c a gw 2..8
         d c gw 3..4
         e e gw 20..30
         e e gw 20..30",
        "a gw 0+10 self 4 path 4 main CycleCut
         .c gw 2+6 self 0 path 0
         ..b gw 1+8 self 8 path 6
         ..d gw 3+1 self 1 path 0
         e gw 20+10 self 10 path 0 SelfParent
         copies 1
         cycles 1",
    );
    check(
        "a - gw 0..100 kind=3
         a - shop 10..90 kind=2
         b a shop 20..30
         c a gw 40..50",
        "a gw 0+100 self 20 path 20 main
         .a shop 10+80 self 70 path 70
         ..b shop 20+10 self 10 path 10
         .c gw 40+10 self 10 path 0",
    );
    check(
        "a - gw 0..100
         b a gw 10..20
         b a gw 30..40
         c b gw 12..13",
        "a gw 0+100 self 80 path 80 main
         .b gw 10+10 self 9 path 9
         ..c gw 12+1 self 1 path 1
         .b gw 30+10 self 10 path 10 DuplicateId
         duplicates 1",
    );
    // Truncated: no end, no start, dropped parts, no time beside children that took some.
    check(
        "a - gw 0..100
         b a gw 10..
         c a gw ..
         d a gw 30..40 drop=3
         e a gw 50..50
         f e gw 50..60",
        "a gw 0+100 self 90 path 90 main
         .c gw 0+0 self 0 path 0 TimeUnknown
         .b gw 10+0 self 0 path 0 NoEnd
         .d gw 30+10 self 10 path 10 Dropped(3)
         .e gw 50+0 self 0 path 0 ZeroWithChildren
         ..f gw 50+10 self 10 path 0 detached",
    );
}

#[test]
fn errors_point_at_the_first_failing_leaf() {
    // The status travelled up; the log at the bottom says why. A handled failure elsewhere comes after it.
    check(
        "a - gw 0..100 status=2
         h a auth 1..9 event=5
         b a shop 10..90 status=2
         c b db 20..80
         log db 70 c error: disk is full",
        "a gw 0+100 self 12 path 12 main Status
         .h auth 1+8 self 8 path 8 Exception
         .b shop 10+80 self 20 path 20 Status
         ..c db 20+60 self 60 path 60 Log
           * 70 SpanId error: disk is full
         cause c 70 error: disk is full
         cause h 5 boom
         no logs shop gw auth",
    );
    check(
        "a - gw 0..100
         b a shop 10..90 http=503
         log cron 5 - error: late",
        "a gw 0+100 self 20 path 20 main
         .b shop 10+80 self 80 path 80 Attribute
         beside 5 cron error: late
         cause b 90 http.response.status_code = 503
         cause - 5 error: late
         no spans cron
         no logs shop gw",
    );
}

#[test]
fn without_spans_the_path_is_rebuilt_from_logs() {
    let text = "log shop 20 s one
         log gw 10 g in
         log shop 30 s error two
         log gw 40 g out
         log mail 35 - sent";
    check(
        text,
        "g gw 10+30 self 30 path 30 main from-logs
           * 10 SpanId in
           * 40 SpanId out
         s shop 20+10 self 10 path 0 from-logs Log
           * 20 SpanId one
           * 30 SpanId error two
         beside 35 mail sent
         cause s 30 error two
         no spans gw shop mail",
    );
    let view = view(text);
    assert!(view.from_logs_only);
    let order: Vec<(&str, i64)> =
        view.services.iter().map(|part| (&*part.service, (part.seen_ns.unwrap().0 - BASE) / MS)).collect();
    assert_eq!(order, [("gw", 10), ("shop", 20), ("mail", 35)]);
}

#[test]
fn nothing_and_too_much() {
    let none = view("");
    assert!(none.is_empty() && none.range_ns.is_none() && !none.from_logs_only);
    let (spans, logs) = parse(
        "a - gw 0..1
         b a gw 0..1
         c b gw 0..1
         log gw 0 a x
         log gw 0 a y",
    );
    let limits = Limits { spans_max: 2, logs_max: 1, ..Limits::default() };
    let view = assemble_records(trace_id(), spans, logs, limits);
    assert_eq!((view.nodes.len(), view.gaps.spans_left_out), (2, 1));
    assert_eq!((view.logs.len(), view.gaps.logs_left_out), (1, 1));
}

/// A chain and a fan of 100,000 spans: no recursion, no quadratic step.
#[test]
fn a_hundred_thousand_spans() {
    for chain in [true, false] {
        let spans: Vec<SpanRecord> = (1..=100_000u64)
            .map(|at| {
                let mut span = SpanRecord::new(SpanId(at.to_be_bytes()));
                let parent = if chain { at - 1 } else { u64::from(at > 1) };
                span.parent_span_id = SpanId::from_bytes(&parent.to_be_bytes());
                span.start_ns = BASE + at as i64;
                span.duration_ns = 400_000 - 2 * at as i64;
                span
            })
            .collect();
        let view = assemble_records(trace_id(), spans, Vec::new(), Limits::default());
        assert_eq!(view.preorder().len(), 100_000);
        assert_eq!(view.nodes.iter().map(|node| node.critical_ns).sum::<i64>(), view.duration_ns());
        assert_eq!(view.nodes.iter().map(|node| node.depth).max(), Some(if chain { 99_999 } else { 1 }));
    }
}

/// (id, parent, service, start, duration, kind) in small numbers, so that ids collide and circles form.
fn any_span() -> impl Strategy<Value = SpanRecord> {
    let time = prop_oneof![0..200i64, Just(-50), Just(1_000_000)];
    let duration = prop_oneof![0..150i64, Just(-7), Just(500)];
    (1..40u64, 0..40u64, 0..4usize, time, duration, 0..6i32, any::<bool>(), 0..3i32).prop_map(
        |(id, parent, service, start, duration, kind, known, status)| {
            let mut span = SpanRecord::new(SpanId(id.to_be_bytes()));
            span.parent_span_id = SpanId::from_bytes(&parent.to_be_bytes());
            span.service = Arc::from(["", "a", "b", "c"][service]);
            span.start_ns = BASE + start * MS;
            span.duration_ns = duration * MS;
            span.kind = kind;
            span.time_known = known || start < 100;
            span.status_code = status;
            span
        },
    )
}

fn any_log() -> impl Strategy<Value = LogRecord> {
    (0..45u64, 0..5usize, -10..300i64, any::<bool>(), 0..20i32).prop_map(
        |(id, service, time, known, severity)| LogRecord {
            span_id: SpanId::from_bytes(&id.to_be_bytes()),
            service: Arc::from(["", "a", "b", "c", "d"][service]),
            time_ns: BASE + time * MS,
            time_known: known,
            severity_number: severity,
            ..LogRecord::default()
        },
    )
}

/// A well-formed tree: every child within its parent, one service per clock.
fn any_tree() -> impl Strategy<Value = Vec<SpanRecord>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, 0.0..1.0f64, 0.0..1.0f64), 1..60).prop_map(
        |parts| {
            let mut spans: Vec<SpanRecord> = Vec::new();
            for (at, (parent, service, from, length)) in parts.into_iter().enumerate() {
                let mut span = SpanRecord::new(SpanId((at as u64 + 1).to_be_bytes()));
                span.service = Arc::from(["a", "b", "c", "d"][service]);
                span.start_ns = BASE;
                span.duration_ns = 1000 * MS;
                if at > 0 {
                    let parent = &spans[parent.index(at)];
                    span.parent_span_id = Some(parent.span_id);
                    span.start_ns = parent.start_ns + (parent.duration_ns as f64 * from) as i64;
                    let room = parent.start_ns + parent.duration_ns - span.start_ns;
                    span.duration_ns = (room as f64 * length) as i64;
                }
                spans.push(span);
            }
            spans
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_records_make_a_sound_view(
        spans in prop::collection::vec(any_span(), 0..60),
        logs in prop::collection::vec(any_log(), 0..40),
    ) {
        let (received, logged) = (spans.len(), logs.len());
        let view = assemble_records(trace_id(), spans, logs, Limits::default());
        invariants(&view);
        let kept = view.nodes.iter().filter(|node| node.presence == Presence::Received).count();
        prop_assert_eq!(kept + view.gaps.copies, received);
        prop_assert_eq!(view.logs.len(), logged);
    }

    #[test]
    fn loss_is_told_and_the_rest_stands(
        tree in any_tree(),
        lost in prop::collection::vec(any::<bool>(), 60),
        order in any::<u64>(),
    ) {
        let mut kept: Vec<SpanRecord> =
            tree.iter().zip(&lost).filter(|(_, lost)| !**lost).map(|(span, _)| span.clone()).collect();
        let ids: Vec<SpanId> = kept.iter().map(|span| span.span_id).collect();
        let mut missing: Vec<SpanId> =
            kept.iter().filter_map(|span| span.parent_span_id).filter(|id| !ids.contains(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        // Order of arrival does not matter.
        kept.sort_by_key(|span| u64::from_be_bytes(span.span_id.0).wrapping_mul(order | 1));
        let view = assemble_records(trace_id(), kept, Vec::new(), Limits::default());
        invariants(&view);
        let mut told: Vec<SpanId> =
            view.gaps.missing_parents.iter().map(|&index| view.nodes[index].span.span_id).collect();
        told.sort_unstable();
        prop_assert_eq!(told, missing);
        prop_assert!(view.skews.is_empty(), "well-formed children show no skew: {:?}", view.skews);
        prop_assert_eq!(view.gaps.cycles, 0);
    }

    #[test]
    fn a_skewed_clock_is_set_right(tree in any_tree(), skew_ms in -5000..5000i64) {
        let mut skewed = tree;
        for span in &mut skewed {
            let is_callee = matches!(&*span.service, "b" | "d") && span.parent_span_id.is_some();
            span.service = Arc::from(if is_callee { "b" } else { "a" });
            span.kind = if is_callee { KIND_SERVER } else { KIND_CLIENT };
            span.start_ns += if is_callee { skew_ms * MS } else { 0 };
        }
        let view = assemble_records(trace_id(), skewed, Vec::new(), Limits::default());
        invariants(&view);
        let calls: Vec<(&Node, &Node)> = view
            .nodes
            .iter()
            .filter_map(|child| Some((&view.nodes[child.parent?], child)))
            .filter(|(parent, child)| parent.process != child.process && child.span.kind == KIND_SERVER)
            .collect();
        if !calls.is_empty() && skew_ms.abs() > 1010 {
            prop_assert!(view.skews.iter().any(|skew| skew.offset_ns != 0), "the skew is seen");
        }
        for (parent, child) in calls {
            prop_assert!(child.start_ns >= parent.start_ns, "no call starts before its cause");
        }
        for node in &view.nodes {
            // Raw times are kept beside adjusted ones.
            let offset = view.processes[node.process].offset_ns;
            prop_assert_eq!(node.start_ns, node.span.start_ns + offset);
        }
    }

    #[test]
    fn extreme_times_do_no_harm(
        starts in prop::collection::vec(any::<i64>(), 1..20),
        durations in prop::collection::vec(any::<i64>(), 20),
    ) {
        let spans: Vec<SpanRecord> = starts.iter().zip(&durations).enumerate().map(|(at, (&start, &duration))| {
            let mut span = SpanRecord::new(SpanId((at as u64 + 1).to_be_bytes()));
            span.parent_span_id = SpanId::from_bytes(&(at as u64 / 2).to_be_bytes());
            span.service = Arc::from(["a", "b"][at % 2]);
            span.start_ns = start;
            span.duration_ns = duration;
            span
        }).collect();
        let count = spans.len();
        let view = assemble_records(trace_id(), spans, Vec::new(), Limits::default());
        prop_assert_eq!(view.preorder().len(), count);
    }
}
