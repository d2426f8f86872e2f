//! Windows, memories, bounds; and that crashes and the order of arrival change nothing.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::checkpoint::RestoreError;
use crate::rules::{Options, SourceFile};
use crate::sigma::extension::{TestRecord, TestValue};
use crate::testing::{BASE_US, run_records, run_tests};

const S: i64 = 1_000_000;

fn rules(text: &str) -> Arc<RuleSet> {
    let options = Options { any_log_source: true, ..Options::default() };
    let (rules, problems) = RuleSet::compile(&[SourceFile { name: "rules.yml", text }], &options);
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(rules)
}

fn record(at_s: f64, fields: &[(&str, &str)]) -> TestRecord {
    let value = |text: &str| text.parse().map_or(TestValue::Text(text.to_owned()), TestValue::Int);
    TestRecord {
        at_us: (at_s * S as f64) as i64,
        span: false,
        fields: fields.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect(),
    }
}

/// Base rules `a`, `b`, `c`: records whose `e` is that letter.
const BASE: &str = "
title: a
id: a
name: a
logsource: { category: c }
detection: { s: { e: a }, condition: s }
---
title: b
id: b
logsource: { category: c }
detection: { s: { e: b }, condition: s }
---
title: c
id: c
logsource: { category: c }
detection: { s: { e: c }, condition: s }
";

fn correlation(body: &str, every: bool) -> String {
    format!("{BASE}\n---\ntitle: t\nid: t\nthreadline: {{ every: {every} }}\ncorrelation: {{ {body} }}\n")
}

/// Seconds of the findings of `t` over records written as `second:event[:group[:value]]`.
fn run(text: &str, records: &str) -> Vec<f64> {
    let records: Vec<TestRecord> = records
        .split_whitespace()
        .map(|word| {
            let parts: Vec<&str> = word.split(':').collect();
            let mut fields = vec![("e", parts[1])];
            fields.extend(parts.get(2).map(|group| ("g", *group)));
            fields.extend(parts.get(3).map(|value| ("v", *value)));
            record(parts[0].parse().unwrap(), &fields)
        })
        .collect();
    let mut engine = Engine::new(rules(text), Limits::default());
    let findings = run_records(&mut engine, &records, 1).unwrap();
    let own = findings.iter().filter(|finding| finding.rule_id.as_ref() == "t");
    own.map(|finding| (finding.time_us - BASE_US) as f64 / S as f64).collect()
}

#[test]
fn correlations_find_windows() {
    for (body, records, want) in [
        // Both ends of a window are in it.
        (
            "type: event_count, rules: a, group-by: g, timespan: 10s, condition: { gte: 3 }",
            "0:a:x 5:a:x 10:a:x 21:a:x",
            vec![10.0],
        ),
        (
            "type: event_count, rules: a, group-by: g, timespan: 10s, condition: { gte: 3 }",
            "0:a:x 5:a:y 10:a:x 11:a:y",
            vec![],
        ),
        (
            "type: event_count, rules: a, group-by: g, timespan: 10s, condition: { gte: 3 }",
            "0:a:x 1:a:x 2:a:x 3:a:x 4:a:x",
            vec![2.0, 3.0, 4.0],
        ),
        ("type: event_count, rules: a, timespan: 10s, condition: { gt: 2 }", "0:a 1:a 2:a", vec![2.0]),
        ("type: event_count, rules: [a, b], timespan: 10s, condition: { gte: 2 }", "0:a 1:b", vec![1.0]),
        // A range holds from its lower to its upper bound, and is judged when all has come.
        (
            "type: event_count, rules: a, timespan: 10s, condition: { gte: 2, lt: 3 }",
            "0:a 1:a 2:a 300:c",
            vec![1.0],
        ),
        ("type: event_count, rules: a, timespan: 10s, condition: { lt: 2 }", "0:a 1:a 300:b", vec![0.0]),
        ("type: event_count, rules: a, timespan: 10s, condition: { eq: 2 }", "0:a 1:a 2:a 300:b", vec![1.0]),
        // A record without the group's field is left out.
        (
            "type: event_count, rules: a, group-by: g, timespan: 10s, condition: { gte: 2 }",
            "0:a 1:a 2:a:x",
            vec![],
        ),
        (
            "type: value_count, rules: a, group-by: g, timespan: 10s, condition: { field: v, gte: 2 }",
            "0:a:x:p 1:a:x:P 2:a:x:q",
            vec![2.0],
        ),
        (
            "type: value_count, rules: a, timespan: 10s, condition: { field: [g, v], gte: 3 }",
            "0:a:x:p 1:a:x:q 2:a:y:p",
            vec![2.0],
        ),
        (
            "type: value_sum, rules: a, timespan: 10s, condition: { field: v, gt: 10 }",
            "0:a:x:5 1:a:x:5 2:a:x:1 30:a:x:9",
            vec![2.0],
        ),
        (
            "type: value_avg, rules: a, timespan: 10s, condition: { field: v, gte: 5 }",
            "0:a:x:2 1:a:x:8 2:a:x:2",
            vec![1.0],
        ),
        (
            "type: value_median, rules: a, timespan: 10s, condition: { field: v, gte: 5 }",
            "0:a:x:1 1:a:x:9 2:a:x:9",
            vec![1.0, 2.0],
        ),
        (
            "type: value_percentile, rules: a, timespan: 10s, condition: { field: v, percentile: 90, gt: 8 }",
            "0:a:x:1 1:a:x:9 2:a:x:9",
            vec![1.0, 2.0],
        ),
        ("type: temporal, rules: [a, b], group-by: g, timespan: 10s", "0:b:x 3:a:x 20:a:x 40:b:x", vec![3.0]),
        ("type: temporal, rules: [a, b, c], timespan: 10s, condition: { gte: 2 }", "0:b 3:a", vec![3.0]),
        ("type: temporal_ordered, rules: [a, b], timespan: 10s", "0:b 3:a 5:b", vec![5.0]),
        ("type: temporal_ordered, rules: [a, b], timespan: 10s", "0:b 3:a", vec![]),
        (
            "type: temporal_ordered, rules: [a, b, c], timespan: 10s, condition: { gte: 2 }",
            "0:c 1:a 2:c",
            vec![2.0],
        ),
        ("type: temporal, rules: [a, b], timespan: 10s, condition: a or b", "0:b", vec![0.0]),
        ("type: temporal, rules: [a, b], timespan: 10s, condition: a and b", "0:b 1:a", vec![1.0]),
        ("type: temporal, rules: [a, b], timespan: 10s, condition: 1 of them", "0:b", vec![0.0]),
        ("type: temporal, rules: [a, b, c], timespan: 10s, condition: all of them", "0:b 1:a 2:c", vec![2.0]),
        (
            "type: temporal, rules: [a, b, c], timespan: 10s, condition: c and not 1 of a*",
            "0:c 20:c 21:a 300:b",
            vec![10.0],
        ),
        // With `not` the window lies after the hit that is asked for.
        (
            "type: temporal, rules: [a, b], timespan: 10s, condition: a and not b",
            "0:a 5:b 20:a 300:c 301:c",
            vec![30.0],
        ),
        ("type: temporal, rules: [a, b], timespan: 10s, condition: a and not b", "0:a 5:b 20:a 25:c", vec![]),
        (
            "type: temporal_ordered, rules: [a, b, c], timespan: 10s, condition: a and b and not c",
            "0:a 1:b 300:a 301:c 302:b 900:a",
            vec![10.0],
        ),
    ] {
        let found = run(&correlation(body, true), records);
        assert_eq!(found, want, "{body}: {records}");
    }
}

#[test]
fn a_group_is_found_once_in_a_time_span() {
    let text =
        correlation("type: event_count, rules: a, group-by: g, timespan: 10s, condition: { gte: 2 }", false);
    assert_eq!(run(&text, "0:a:x 1:a:x 2:a:x 3:a:x 12:a:x 13:a:y 14:a:y"), [1.0, 12.0, 14.0]);
}

#[test]
fn late_records_count_while_they_may() {
    let text = correlation("type: event_count, rules: a, timespan: 10s, condition: { gte: 3 }", true);
    assert_eq!(run(&text, "0:a 10:a 5:a"), [10.0]);
    assert_eq!(run(&text, "0:a 10:a 40:c 5:a"), [10.0]);
    // Beyond the lateness of a minute.
    assert_eq!(run(&text, "0:a 10:a 90:a 5:a"), Vec::<f64>::new());
}

#[test]
fn correlations_look_at_correlations_under_other_names() {
    let text = format!(
        "{BASE}
---
title: inner
id: inner
correlation: {{ type: event_count, rules: a, group-by: g, timespan: 10s, condition: {{ gte: 2 }} }}
---
title: t
id: t
correlation:
  type: temporal_ordered
  rules: [inner, b]
  group-by: who
  timespan: 1m
  aliases: {{ who: {{ inner: g, b: v }} }}
"
    );
    assert_eq!(run(&text, "0:a:x 1:a:x 5:b:zz:x"), [5.0]);
    assert_eq!(run(&text, "0:a:x 1:a:x 5:b:zz:y"), Vec::<f64>::new());
    let records: Vec<TestRecord> =
        [(0.0, "a"), (1.0, "a")].map(|(at, e)| record(at, &[("e", e), ("g", "x")])).into();
    let mut engine = Engine::new(rules(&text), Limits::default());
    // What is looked at makes no findings of its own.
    assert_eq!(run_records(&mut engine, &records, 1).unwrap(), []);
    let text = text.replace("title: t\nid: t\ncorrelation:", "title: t\nid: t\ncorrelation:\n  generate: true");
    let mut engine = Engine::new(rules(&text), Limits::default());
    let found = run_records(&mut engine, &records, 1).unwrap();
    assert_eq!(found.iter().map(|finding| finding.title.as_ref()).collect::<Vec<_>>(), ["inner"]);
}

#[test]
fn suppress_is_by_what_findings_have() {
    let by = |by: &str| {
        let body = "type: event_count, rules: a, group-by: g, timespan: 10s, condition: { gte: 1 }";
        correlation(body, false).replace("{ every: false }", &format!("{{ suppress: {{ {by} for: 1h }} }}"))
    };
    for same in ["", "by: g,"] {
        assert_eq!(run(&by(same), "0:a:x 20:a:y 40:a:x 60:a:y"), [0.0, 20.0], "{same}");
    }
    for text in
        [by("by: v,"), block("{ absence: { group-by: g, timespan: 1d }, suppress: { by: v, for: 9d } }")]
    {
        let options = Options { any_log_source: true, ..Options::default() };
        let (_, problems) = RuleSet::compile(&[SourceFile { name: "rules.yml", text: &text }], &options);
        assert!(problems.len() == 1 && problems[0].what.contains("suppress"), "{problems:?}");
    }
}

#[test]
fn values_with_separators_forge_nothing() {
    let text = correlation(
        "type: event_count, rules: a, group-by: [g, v], timespan: 1h, condition: { gte: 2 }",
        false,
    );
    let mut engine = Engine::new(rules(&text), Limits::default());
    let of = |g: &str, v: &str| record(0.0, &[("e", "a"), ("g", g), ("v", v)]);
    // Not one group, and no more values than fields.
    let found = run_records(&mut engine, &[of("x\u{1f}y", "z"), of("x", "y\u{1f}z")], 1).unwrap();
    assert_eq!(found, []);
    let found = run_records(&mut engine, &[of("x\u{1f}y", "z")], 3).unwrap();
    let values: Vec<&str> = found[0].entities.iter().map(|entity| entity.value.as_str()).collect();
    assert_eq!(values, ["x\u{fffd}y", "z"]);
    // Nor is a group taken for the quiet after another's finding.
    let text = block(
        "{ ratio: { of: bad, group-by: [g, v], timespan: 60s, min: 1, gte: 0.5 }, suppress: { by: v, for: 1s } }",
    );
    let mut engine = Engine::new(rules(&text), Limits::default());
    let of = |at: f64, g: &str| record(at, &[("e", "b"), ("g", g), ("v", "y")]);
    assert_eq!(run_records(&mut engine, &[of(0.0, "x"), of(2.0, "quiet")], 1).unwrap().len(), 2);
}

fn block(threadline: &str) -> String {
    format!(
        "title: t\nid: t\nlogsource: {{ category: c }}\ndetection:\n  s: {{ e: [a, b] }}\n  bad: {{ e: b }}\n  condition: s\nthreadline: {threadline}\n"
    )
}

#[test]
fn what_sigma_has_no_words_for() {
    let day = 86_400;
    let at = |days: i64, rest: &str| format!("{}:{rest}", days * day);
    for (threadline, records, want) in [
        (
            "{ new_value: { fields: v, group-by: g, learn: 1d, expire: 5d } }",
            vec![
                at(0, "a:x:p"),
                at(0, "a:x:q"),
                at(2, "a:x:p"),
                at(2, "a:x:r"),
                at(2, "a:x:r"),
                at(2, "a:y:p"),
            ],
            vec![2.0],
        ),
        // Forgotten, and so new again.
        (
            "{ new_value: { fields: v, group-by: g, learn: 1d, expire: 5d } }",
            vec![at(0, "a:x:p"), at(4, "a:x:q"), at(8, "a:x:q"), at(9, "a:x:p")],
            vec![4.0, 9.0],
        ),
        (
            "{ absence: { group-by: g, timespan: 2d, forget: 9d } }",
            vec![at(0, "a:x"), at(1, "a:y"), at(3, "a:y"), at(4, "a:y")],
            vec![2.0],
        ),
        (
            "{ absence: { group-by: g, timespan: 2d, forget: 9d } }",
            vec![at(0, "a:x"), at(3, "a:y"), at(4, "a:x"), at(5, "a:y"), at(7, "a:y")],
            vec![2.0, 6.0],
        ),
        (
            "{ absence: { group-by: g, sequence: v, timespan: 1d } }",
            vec![at(0, "a:x:1"), at(0, "a:x:2"), at(0, "a:x:5"), at(0, "a:x:3"), at(2, "a:y:1")],
            vec![1.0],
        ),
        (
            "{ absence: { group-by: g, sequence: v, timespan: 1d } }",
            vec![
                at(0, "a:x:1"),
                at(0, "a:x:3"),
                at(0, "a:x:2"),
                at(2, "a:x:1"),
                at(2, "a:x:2"),
                at(4, "a:y:1"),
            ],
            vec![],
        ),
        (
            "{ ratio: { of: bad, group-by: g, timespan: 1d, min: 4, gte: 0.5 } }",
            vec![at(0, "a:x"), at(0, "a:x"), at(0, "b:x"), at(0, "b:x"), at(0, "b:x"), at(2, "b:x")],
            vec![0.0],
        ),
        (
            "{ suppress: { by: g, for: 1d } }",
            vec![at(0, "a:x"), at(0, "a:x"), at(0, "a:y"), at(2, "a:x")],
            vec![0.0, 0.0, 2.0],
        ),
        // Without fields it is quiet for the same entities, or the same group.
        (
            "{ entities: [g], suppress: { for: 1d } }",
            vec![at(0, "a:x"), at(0, "a:x"), at(0, "a:y"), at(2, "a:x")],
            vec![0.0, 0.0, 2.0],
        ),
        (
            "{ new_value: { fields: v, group-by: g, learn: 1d }, suppress: { for: 1d } }",
            vec![at(0, "a:x:p"), at(0, "a:y:p"), at(2, "a:x:q"), at(2, "a:x:r"), at(2, "a:y:r")],
            vec![2.0, 2.0],
        ),
        (
            "{ absence: { group-by: [g, v], timespan: 1d }, suppress: { by: g, for: 9d } }",
            vec![at(0, "a:x:p"), at(0, "a:x:q"), at(0, "a:y:p"), at(2, "c")],
            vec![1.0, 1.0],
        ),
        (
            "{ exceptions: [ { match: { g: x }, expires: 2026-01-07 } ] }",
            vec![at(0, "a:x"), at(0, "a:y"), at(3, "a:x")],
            vec![0.0, 3.0],
        ),
    ] {
        let found: Vec<f64> =
            run(&block(threadline), &records.join(" ")).into_iter().map(|second| second / day as f64).collect();
        let found: Vec<f64> = found.into_iter().map(|days| (days * 10.0).round() / 10.0).collect();
        assert_eq!(found, want, "{threadline}: {records:?}");
    }
}

const SILENT: &str = "{ absence: { group-by: g, timespan: 600s, forget: 1d } }";

/// Records with their times of arrival, s: an engine looks at them in batches that end at the cuts.
fn step_arriving(engine: &mut Engine, records: &[(TestRecord, i64)], cuts: &BTreeSet<usize>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().filter(|cut| *cut < records.len()).chain([records.len()]) {
        let part = records.get(from..to).unwrap_or_default();
        if !part.is_empty() {
            let own: Vec<&TestRecord> = part.iter().map(|(record, _)| record).collect();
            let batch = crate::testing::batch(Table::Logs, &own, BASE_US, 1 + from as i64).unwrap();
            let arrivals = part.iter().map(|(_, arrival_s)| BASE_US + arrival_s * S).collect();
            findings.extend(engine.step(&crate::testing::arriving(&batch, arrivals).unwrap(), Table::Logs));
        }
        from = to;
    }
    findings
}

#[test]
fn silence_is_measured_by_arrival_however_batches_are_cut() {
    let of = |at: f64, g: &str| record(at, &[("e", "a"), ("g", g)]);
    let records = [(of(0.0, "x"), 0), (of(10.0, "y"), 700), (of(650.0, "x"), 700)];
    for cuts in [vec![], vec![1], vec![2], vec![1, 2]] {
        let mut engine = Engine::new(rules(&block(SILENT)), Limits::default());
        let found = step_arriving(&mut engine, &records, &cuts.iter().copied().collect());
        let times: Vec<i64> = found.iter().map(|finding| (finding.time_us - BASE_US) / S).collect();
        assert_eq!(times, [600], "{cuts:?}");
    }
}

/// Stored logs that are imported say nothing of who is there now; what a sender kept while the hub was away does.
#[test]
fn nobody_falls_silent_by_history() {
    let of = |at: f64, g: &str| record(at, &[("e", "a"), ("g", g)]);
    for (sent, arrived, want) in [(0, 3_600, 1), (0, 3_601, 0), (0, 40_000_000, 0)] {
        let mut engine = Engine::new(rules(&block(SILENT)), Limits::default());
        assert_eq!(step_arriving(&mut engine, &[(of(sent as f64, "x"), arrived)], &BTreeSet::new()), []);
        assert_eq!(engine.advance(BASE_US + (arrived + 700) * S).len(), want, "{sent} {arrived}");
    }
    // Of one who is there, old records are a sign of life.
    let mut engine = Engine::new(rules(&block(SILENT)), Limits::default());
    let records = [(of(10_000.0, "x"), 10_000), (of(1_000.0, "x"), 10_500)];
    assert_eq!(step_arriving(&mut engine, &records, &BTreeSet::new()), []);
    assert_eq!(engine.advance(BASE_US + 11_000 * S), []);
    assert_eq!(engine.advance(BASE_US + 11_101 * S).len(), 1);
}

#[test]
fn nobody_is_silent_while_the_hub_is_away() {
    let of = |at: i64, g: &str| (record(at as f64, &[("e", "a"), ("g", g)]), at);
    let rules = rules(&block(SILENT));
    let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
    let cuts = BTreeSet::new();
    assert_eq!(step_arriving(&mut engine, &[of(0, "z"), of(100, "x"), of(110, "y")], &cuts), []);
    let (mut engine, _) = Engine::restore(Arc::clone(&rules), Limits::default(), &engine.checkpoint()).unwrap();
    engine.resume(BASE_US + 5000 * S);
    // What arrived before is read again, and judged by what was heard then.
    let before = [of(0, "z"), of(100, "x"), of(110, "y"), of(640, "y")];
    let found = step_arriving(&mut engine, &before, &cuts);
    assert_eq!(found.iter().map(|finding| finding.entities[0].value.as_str()).collect::<Vec<_>>(), ["z"]);
    let (mut engine, _) = Engine::restore(rules, Limits::default(), &engine.checkpoint()).unwrap();
    assert_eq!(engine.advance(BASE_US + 5001 * S), []);
    assert_eq!(
        step_arriving(
            &mut engine,
            &[of(0, "z"), of(100, "x"), of(110, "y"), of(640, "y"), of(5100, "x")],
            &cuts
        ),
        []
    );
    assert_eq!(engine.advance(BASE_US + 5600 * S), []);
    // From then on as always: y never came back.
    let found = engine.advance(BASE_US + 5601 * S);
    let found: Vec<_> =
        found.iter().map(|f| (f.entities[0].value.as_str(), (f.time_us - BASE_US) / S)).collect();
    assert_eq!(found, [("y", 5600)]);
}

#[test]
fn a_clock_that_is_ahead_blinds_nobody() {
    let day = 86_400.0;
    for (threadline, records, want) in [
        // Counts of a ratio, quiet after a finding, a window, risk: none is moved a day ahead.
        (
            "{ ratio: { of: bad, timespan: 60s, min: 3, gte: 0.5 } }",
            vec![(day, "b", 0), (1.0, "b", 1), (2.0, "b", 2), (3.0, "b", 3)],
            vec![2],
        ),
        ("{ suppress: { by: g, for: 60s } }", vec![(day, "a", 0), (100.0, "a", 100)], vec![0, 100]),
        (
            "{ new_value: { fields: v, learn: 60s, expire: 1h } }",
            vec![(day, "a", 0), (100.0, "b", 100)],
            vec![100],
        ),
    ] {
        let records: Vec<(TestRecord, i64)> = records
            .into_iter()
            .map(|(at, e, arrival_s)| (record(at, &[("e", e), ("g", "x"), ("v", e)]), arrival_s))
            .collect();
        let mut engine = Engine::new(rules(&block(threadline)), Limits::default());
        let found = step_arriving(&mut engine, &records, &BTreeSet::new());
        let times: Vec<i64> = found.iter().map(|finding| (finding.time_us - BASE_US) / S).collect();
        assert_eq!(times, want, "{threadline}");
    }
    let text = "title: t\nid: t\nlogsource: { category: c }\ndetection: { s: { e: a }, condition: s }\nthreadline: { entities: [g], risk: 30 }\n";
    let mut engine = Engine::new(rules(text), Limits::default());
    let of = |at: f64, arrival_s: i64| (record(at, &[("e", "a"), ("g", "x")]), arrival_s);
    let found = step_arriving(&mut engine, &[of(day, 0), of(1.0, 1)], &BTreeSet::new());
    assert_eq!(found.iter().map(|finding| finding.risk_total).collect::<Vec<_>>(), [30, 60]);
}

#[test]
fn risk_adds_up_and_findings_say_why() {
    let text = "title: t\nid: t\nlevel: high\nlogsource: { category: c }\ndetection: { s: { e: a }, condition: s }\nthreadline: { entities: [client.address], risk: 30 }\n";
    let mut engine = Engine::new(rules(text), Limits::default());
    let records = [0.0, 1.0, 2.0].map(|at| record(at, &[("e", "a"), ("client.address", "10.0.0.1")]));
    let found = run_records(&mut engine, &records, 1).unwrap();
    assert_eq!(found.iter().map(|finding| finding.risk_total).collect::<Vec<_>>(), [30, 60, 90]);
    assert_eq!(found[0].explanation, "t: one record matches for client.address=10.0.0.1");
    assert_eq!(found[0].evidence[0].seq, 1);
    let (entity, risk) = engine.risks(1).remove(0);
    assert_eq!((entity.field.as_ref(), entity.value.as_str(), risk), ("client.address", "10.0.0.1", 90));
    let text =
        correlation("type: event_count, rules: a, group-by: g, timespan: 5m, condition: { gte: 2 }", false);
    let mut engine = Engine::new(rules(&text), Limits::default());
    let records = [0.0, 1.0].map(|at| record(at, &[("e", "a"), ("g", "bob")]));
    let found = run_records(&mut engine, &records, 7).unwrap();
    assert_eq!(
        found[0].explanation,
        "2 records of “a” within 5 min for g=bob, from 2026-01-05T00:00:00Z to 2026-01-05T00:00:01Z; found when ≥ 2"
    );
    assert_eq!(found[0].evidence.iter().map(|evidence| evidence.seq).collect::<Vec<_>>(), [7, 8]);
    let attributes = found[0].attributes();
    let of = |key: &str| attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
    assert_eq!(of("threadline.finding.log_seqs"), Some(crate::finding::AttributeValue::Text("7,8".to_owned())));
    assert_eq!(of("threadline.finding.entity.g"), Some(crate::finding::AttributeValue::Text("bob".to_owned())));
}

#[test]
fn findings_are_not_looked_at_again_and_nobody_else_escapes_by_their_name() {
    let text = "title: t\nid: t\nlogsource: { category: c }\ndetection: { s: [evil], condition: s }\n";
    for (name, service, want) in
        [("security.finding", "threadline", 0), ("security.finding", "shop", 1), ("other", "threadline", 1)]
    {
        let mut engine = Engine::new(rules(text), Limits::default());
        let fields = [("event_name", name), ("service.name", service), ("body", "evil")];
        let found = run_records(&mut engine, &[record(0.0, &fields)], 1).unwrap();
        assert_eq!(found.len(), want, "{name} of {service}");
    }
}

#[test]
fn evidence_of_correlations_has_its_traces() {
    let text =
        correlation("type: event_count, rules: a, group-by: g, timespan: 1h, condition: { gte: 2 }", false);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let records =
        [record(0.0, &[("e", "a"), ("g", "z"), ("trace_id", trace)]), record(1.0, &[("e", "a"), ("g", "z")])];
    let mut engine = Engine::new(rules(&text), Limits::default());
    let mut found = run_records(&mut engine, &records[..1], 1).unwrap();
    // What is remembered keeps them.
    let bytes = engine.checkpoint();
    let (mut engine, _) = Engine::restore(rules(&text), Limits::default(), &bytes).unwrap();
    found.extend(run_records(&mut engine, &records[1..], 2).unwrap());
    let traces: Vec<Option<String>> =
        found[0].evidence.iter().map(|evidence| evidence.trace_id.map(|id| id.to_string())).collect();
    assert_eq!(traces, [Some(trace.to_owned()), None]);
}

#[test]
fn tests_in_rules_are_run() {
    let text = block(
        "{ suppress: { by: g, for: 1m }, tests: [
            { name: good, match: true, record: { e: a } },
            { name: other, match: false, records: [{ e: c }, { f: a }] },
            { name: wrong, match: false, record: { e: b } },
            { name: count, findings: 3, records: [{ e: a, g: 'x{i}', repeat: 3, every: 1s }, { at: 3s, e: a, g: x0 }] } ] }",
    );
    let outcomes = run_tests(&rules(&text));
    let failures: Vec<bool> = outcomes.iter().map(|outcome| outcome.failure.is_some()).collect();
    assert_eq!(failures, [false, false, true, false], "{outcomes:?}");
    let why = outcomes[2].failure.clone().unwrap();
    assert!(why.contains("record 1 matches") && why.contains("e is `b`: it is `b`"), "{why}");
}

#[test]
fn state_is_bounded_and_evictions_counted() {
    let text =
        correlation("type: event_count, rules: a, group-by: g, timespan: 1h, condition: { gte: 3 }", false);
    let limits = Limits { groups_max: 100, ..Limits::default() };
    let mut engine = Engine::new(rules(&text), limits);
    let records: Vec<TestRecord> =
        (0..500).map(|n| record(f64::from(n), &[("e", "a"), ("g", &format!("user-{n}"))])).collect();
    run_records(&mut engine, &records, 1).unwrap();
    assert_eq!((engine.state_size().0, engine.stats().evicted), (100, 400));
    // And forgotten when the window and the lateness are over.
    run_records(&mut engine, &[record(10_000.0, &[("e", "a"), ("g", "z")])], 1000).unwrap();
    assert_eq!(engine.state_size().0, 1);
}

/// Entries of the one window, gaps of the one sequence.
fn held(engine: &Engine) -> usize {
    let of = |group: &Group| match &group.kind {
        Kind::Window { entries, .. } => entries.len(),
        Kind::Sequence { missing, .. } => missing.len(),
        _ => 0,
    };
    engine.memory.groups.iter().map(|(_, group)| of(group)).sum()
}

#[test]
fn windows_are_bounded_in_whatever_order_hits_come() {
    let limits = Limits { lateness_us: 7200 * S, ..Limits::default() };
    let text =
        correlation("type: event_count, rules: a, group-by: g, timespan: 1h, condition: { gte: 30 }", false);
    for falling in [false, true] {
        let mut engine = Engine::new(rules(&text), limits);
        let at = |n: u32| f64::from(if falling { 1000 - n } else { n });
        let records: Vec<TestRecord> = (0..1000).map(|n| record(at(n), &[("e", "a"), ("g", "x")])).collect();
        let found = run_records(&mut engine, &records, 1).unwrap();
        assert_eq!(found.len(), 1, "falling: {falling}");
        let (held, dropped) = (held(&engine) as u64, engine.stats().dropped);
        assert!((60..=64).contains(&held) && held + dropped == 1000, "{held} {dropped}, falling: {falling}");
    }
}

#[test]
fn what_is_due_is_one_entry_a_group() {
    let limits = Limits { lateness_us: 7200 * S, groups_max: 100, ..Limits::default() };
    for text in [
        correlation("type: event_count, rules: a, group-by: g, timespan: 1h, condition: { lt: 3 }", false),
        block("{ absence: { group-by: g, timespan: 1d, sequence: v } }"),
        block("{ absence: { group-by: g, timespan: 1d } }"),
    ] {
        let mut engine = Engine::new(rules(&text), limits);
        let of =
            |n: i64, g: &str| record(n as f64 / 10.0, &[("e", "a"), ("g", g), ("v", &(n * 2).to_string())]);
        let records: Vec<TestRecord> = (0..5_000).map(|n| of(n, "x")).collect();
        run_records(&mut engine, &records, 1).unwrap();
        assert!(engine.memory.due.len() + engine.memory.overdue.len() <= 1, "{text}");
        // Nor do groups that are gone leave more than so many.
        let records: Vec<TestRecord> = (5_000..15_000).map(|n| of(n, &format!("g{}", n / 2))).collect();
        run_records(&mut engine, &records, 5_001).unwrap();
        assert!(engine.memory.due.len() + engine.memory.overdue.len() < 2_000, "{text}");
    }
}

#[test]
fn gaps_are_bounded_also_where_one_becomes_two() {
    let text = block("{ absence: { group-by: g, timespan: 1d, sequence: v } }");
    let mut engine = Engine::new(rules(&text), Limits::default());
    let of = |v: i64| record(0.0, &[("e", "a"), ("g", "x"), ("v", &v.to_string())]);
    let records: Vec<TestRecord> = [of(1), of(1001)].into_iter().chain((1..500).map(|n| of(n * 2))).collect();
    run_records(&mut engine, &records, 1).unwrap();
    let dropped = engine.stats().dropped;
    assert_eq!(held(&engine), 64);
    assert!(dropped > 300, "{dropped}");
}

#[test]
fn damaged_checkpoints_are_refused() {
    let text =
        correlation("type: event_count, rules: a, group-by: g, timespan: 1h, condition: { gte: 3 }", false);
    let rules = rules(&text);
    let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
    run_records(&mut engine, &[record(0.0, &[("e", "a"), ("g", "z")])], 1).unwrap();
    let bytes = engine.checkpoint();
    let restore = |bytes: &[u8]| {
        Engine::restore(Arc::clone(&rules), Limits::default(), bytes).map(|(_, restored)| restored)
    };
    assert_eq!(restore(&bytes), Ok(Restored { groups: 1, forgotten: 0 }));
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x55;
        assert!(restore(&bad).is_err(), "byte {at}");
        assert!(restore(&bytes[..at]).is_err(), "cut at {at}");
    }
    let mut newer = bytes[..bytes.len() - 4].to_vec();
    newer[4] = 3;
    newer.extend(crc32c::crc32c(&newer).to_le_bytes());
    assert_eq!(restore(&newer), Err(RestoreError::Version { found: 3, known: 2 }));
    let other = self::rules(&text.replace("gte: 3", "gte: 4"));
    let (_, restored) = Engine::restore(other, Limits::default(), &bytes).unwrap();
    assert_eq!(restored, Restored { groups: 0, forgotten: 1 });
}

/// Rules of every kind, and records that set them off.
const ALL: &str = "
---
title: count
id: count
correlation: { type: event_count, rules: a, group-by: g, timespan: 20s, condition: { gte: 3 }, generate: true }
---
title: few
id: few
correlation: { type: event_count, rules: [a, b], group-by: g, timespan: 10s, condition: { eq: 2 } }
---
title: values
id: values
correlation: { type: value_count, rules: b, group-by: g, timespan: 30s, condition: { field: v, gte: 3 } }
---
title: ordered
id: ordered
correlation: { type: temporal_ordered, rules: [a, b, c], group-by: g, timespan: 15s }
---
title: not
id: not
correlation: { type: temporal, rules: [a, c], group-by: g, timespan: 10s, condition: a and not c }
---
title: chain
id: chain
correlation: { type: temporal, rules: [count, values], group-by: g, timespan: 1m }
---
title: new
id: new
logsource: { category: c }
detection: { s: { e|exists: true }, condition: s }
threadline: { new_value: { fields: v, group-by: g, learn: 20s, expire: 40s } }
---
title: silent
id: silent
logsource: { category: c }
detection: { s: { e|exists: true }, condition: s }
threadline: { absence: { group-by: g, timespan: 15s, forget: 1m } }
---
title: gaps
id: gaps
logsource: { category: c }
detection: { s: { e|exists: true }, condition: s }
threadline: { absence: { group-by: g, sequence: v, timespan: 5s } }
---
title: share
id: share
logsource: { category: c }
detection: { s: { e|exists: true }, bad: { e: c }, condition: s }
threadline: { ratio: { of: bad, group-by: g, timespan: 20s, min: 3, gte: 0.5 }, suppress: { by: g, for: 30s } }
";

fn records() -> impl Strategy<Value = Vec<TestRecord>> {
    let one = (0..8u32, "[abc]", "[xy]", 0..6u32, 0..20u32);
    proptest::collection::vec(one, 1..60).prop_map(|steps| {
        let mut at = 100u32;
        steps
            .into_iter()
            .map(|(step, e, g, v, back)| {
                at += step;
                let back = if back > 16 { (back - 16) * 3 } else { 0 };
                record(f64::from(at - back), &[("e", &e), ("g", &g), ("v", &v.to_string())])
            })
            .collect()
    })
}

/// Findings without what only says how much was folded.
fn ids(findings: &[Finding]) -> Vec<(FindingId, String)> {
    findings.iter().map(|finding| (finding.id, finding.explanation.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// However the records are cut into batches, and wherever the process dies between two of them: the same findings.
    #[test]
    fn a_crash_changes_nothing(records in records(), cuts in proptest::collection::vec(0..60usize, 0..6)) {
        let rules = rules(&format!("{BASE}{ALL}"));
        let mut whole = Engine::new(Arc::clone(&rules), Limits::default());
        let want = run_records(&mut whole, &records, 1).unwrap();
        let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
        let mut checkpoint = engine.checkpoint();
        let mut found = Vec::new();
        let cuts: BTreeSet<usize> = cuts.into_iter().filter(|cut| *cut < records.len()).chain([records.len()]).collect();
        let mut start = 0;
        for cut in cuts {
            found.extend(run_records(&mut engine, &records[start..cut], 1 + start as i64).unwrap());
            // The process dies: what came after the last checkpoint is read again.
            let (again, _) = Engine::restore(Arc::clone(&rules), Limits::default(), &checkpoint).unwrap();
            engine = again;
            let from = engine.position(Table::Logs).map_or(0, |seq| seq as usize);
            found.extend(run_records(&mut engine, &records[from..cut], 1 + from as i64).unwrap());
            // Records that come again are not looked at again.
            prop_assert_eq!(run_records(&mut engine, &records[..cut], 1).unwrap(), []);
            checkpoint = engine.checkpoint();
            start = cut;
        }
        let unique: BTreeSet<FindingId> = found.iter().map(|finding| finding.id).collect();
        let wanted: BTreeSet<FindingId> = want.iter().map(|finding| finding.id).collect();
        prop_assert_eq!(wanted.len(), want.len(), "ids are unique");
        prop_assert_eq!(unique, wanted);
        prop_assert_eq!(engine.checkpoint(), whole.checkpoint());
    }

    /// Likewise where records arrive after their event time, or their clocks are ahead.
    #[test]
    fn cuts_change_nothing(
        records in records(),
        delays in proptest::collection::vec(-40..60i64, 60),
        cuts in proptest::collection::btree_set(0..60usize, 0..8),
    ) {
        let rules = rules(&format!("{BASE}{ALL}"));
        let mut latest_s = i64::MIN;
        let records: Vec<(TestRecord, i64)> = records
            .into_iter()
            .zip(delays)
            .map(|(record, delay_s)| {
                latest_s = latest_s.max(record.at_us / S + delay_s);
                (record, latest_s)
            })
            .collect();
        let mut whole = Engine::new(Arc::clone(&rules), Limits::default());
        let want = step_arriving(&mut whole, &records, &BTreeSet::new());
        let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
        let found = step_arriving(&mut engine, &records, &cuts);
        prop_assert_eq!(found, want);
        prop_assert_eq!(engine.checkpoint(), whole.checkpoint());
    }

    /// A restored engine goes on as if nothing had been.
    #[test]
    fn restored_means_the_same(records in records(), cut in 0..60usize) {
        let rules = rules(&format!("{BASE}{ALL}"));
        let cut = cut.min(records.len());
        let mut engine = Engine::new(Arc::clone(&rules), Limits::default());
        run_records(&mut engine, &records[..cut], 1).unwrap();
        let bytes = engine.checkpoint();
        let (mut other, _) = Engine::restore(Arc::clone(&rules), Limits::default(), &bytes).unwrap();
        prop_assert_eq!(&other.checkpoint(), &bytes);
        let want = run_records(&mut engine, &records[cut..], 1 + cut as i64).unwrap();
        let found = run_records(&mut other, &records[cut..], 1 + cut as i64).unwrap();
        prop_assert_eq!(ids(&found), ids(&want));
    }

    /// Within the lateness the order of arrival does not matter to what windows are found.
    #[test]
    fn order_of_arrival_does_not_matter(records in records(), seed in any::<u64>()) {
        let every = |text: &str| text.replace("\ncorrelation:", "\nthreadline: { every: true }\ncorrelation:");
        let rules = rules(&every(&format!("{BASE}{}", &ALL[..ALL.find("---\ntitle: chain").unwrap()])));
        let limits = Limits { lateness_us: 3600 * S, ..Limits::default() };
        let found = |records: &[TestRecord]| {
            let mut engine = Engine::new(Arc::clone(&rules), limits);
            let mut findings = run_records(&mut engine, records, 1).unwrap();
            findings.extend(run_records(&mut engine, &[record(9000.0, &[("e", "z")])], 9000).unwrap());
            let own = findings.iter().filter(|finding| !["a", "b", "c"].contains(&finding.rule_id.as_ref()));
            own.map(|finding| (finding.rule_id.to_string(), finding.time_us, finding.entities.clone())).collect::<BTreeSet<_>>()
        };
        let mut shuffled = records.clone();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        prop_assert_eq!(found(&records), found(&shuffled));
    }
}
