//! Every modifier by cases; and that the index finds what evaluating everything finds.

use super::*;
use crate::rules::{Options, RuleSet, SourceFile};
use crate::sigma::extension::{TestRecord, TestValue};
use crate::testing::batch;

fn text(value: &str) -> TestValue {
    TestValue::Text(value.to_owned())
}

fn record(fields: &[(&str, TestValue)]) -> TestRecord {
    TestRecord {
        at_us: 0,
        span: false,
        fields: fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    }
}

const BASE_US: i64 = 1_709_204_400_000_000; // 2024-02-29T11:00:00Z, a Thursday of week 9

/// A rule of one selection, over records of one field `f`.
fn rule(selection: &str, condition: &str) -> String {
    format!("title: t\nlogsource: {{ category: c }}\ndetection:\n  condition: {condition}\n  s: {selection}\n")
}

fn rules(texts: &[String]) -> RuleSet {
    let names: Vec<String> = (0..texts.len()).map(|n| format!("{n}.yml")).collect();
    let files: Vec<SourceFile<'_>> =
        names.iter().zip(texts).map(|(name, text)| SourceFile { name, text }).collect();
    let options = Options { any_log_source: true, ..Options::default() };
    let (rules, problems) = RuleSet::compile(&files, &options);
    assert!(problems.is_empty(), "{problems:?}");
    rules
}

fn matches(rules: &RuleSet, records: &[&TestRecord]) -> Vec<Vec<RuleIndex>> {
    let batch = batch(Table::Logs, records, BASE_US, 1).unwrap();
    let mut out = Vec::new();
    rules.matcher.scan(&batch, Table::Logs, &mut Scratch::default(), |row, hits| {
        let plain = rules.matcher.match_plainly(&batch, Table::Logs, row.row);
        assert_eq!(hits, plain, "the index and the plain way differ");
        for (rule, _) in rules.rules.iter().enumerate() {
            let explained = rules.matcher.explain(&batch, Table::Logs, row.row, rule as u32);
            assert_eq!(explained.is_some_and(|why| why.holds), hits.contains(&(rule as u32)));
        }
        out.push(hits.to_vec());
    });
    out
}

fn check(selection: &str, condition: &str, record: &TestRecord, want: bool) {
    let rules = rules(&[rule(selection, condition)]);
    assert_eq!(!matches(&rules, &[record])[0].is_empty(), want, "{selection} / {condition} on {record:?}");
}

/// One value of `f` per case: which match and which do not.
#[test]
fn every_modifier_decides() {
    let cases: &[(&str, &[TestValue], &[TestValue])] = &[
        ("{ f: Abc }", &[text("abc"), text("ABC")], &[text("abcd"), text("")]),
        ("{ f: 'a*c' }", &[text("ac"), text("aXc")], &[text("acx")]),
        ("{ f|cased: Abc }", &[text("Abc")], &[text("abc")]),
        ("{ f|contains|cased: Bc }", &[text("aBcd")], &[text("abcd")]),
        ("{ f|contains: bc }", &[text("aBCd")], &[text("b c")]),
        ("{ f|startswith: ab }", &[text("ABc")], &[text("cab")]),
        ("{ f|endswith: 'bc' }", &[text("aBC"), text("bcbc")], &[text("bca")]),
        ("{ f|endswith: '\\cmd.exe' }", &[text("C:\\CMD.exe")], &[text("cmd.exe")]),
        ("{ f|contains|all: [a, b] }", &[text("bxa")], &[text("a")]),
        ("{ f|contains: [a, b] }", &[text("a"), text("b")], &[text("c")]),
        ("{ f|neq: a }", &[text("b"), TestValue::Null], &[text("A")]),
        ("{ f: 42 }", &[TestValue::Int(42), text("42"), TestValue::Double(42.0)], &[TestValue::Int(43)]),
        ("{ f: '42' }", &[TestValue::Int(42)], &[TestValue::Int(4)]),
        ("{ f: true }", &[TestValue::Bool(true), text("True")], &[TestValue::Bool(false)]),
        ("{ f: null }", &[TestValue::Null], &[text(""), text("a")]),
        ("{ f: '' }", &[text("")], &[TestValue::Null, text("a")]),
        ("{ f: '*' }", &[text("x"), text("")], &[TestValue::Null]),
        ("{ f|exists: true }", &[text("")], &[TestValue::Null]),
        ("{ f|exists: false }", &[TestValue::Null], &[text("a")]),
        ("{ f|gt: 5 }", &[TestValue::Int(6), text("5.5")], &[TestValue::Int(5), text("x"), TestValue::Null]),
        ("{ f|gte: 5 }", &[TestValue::Int(5)], &[TestValue::Double(4.9)]),
        ("{ f|lt: 5 }", &[TestValue::Int(-1)], &[TestValue::Int(5)]),
        ("{ f|lte: 5 }", &[TestValue::Int(5)], &[TestValue::Int(6)]),
        ("{ f|re: '^a.c$' }", &[text("abc")], &[text("ABC"), text("xabc")]),
        ("{ f|re: 'bc' }", &[text("abcd")], &[text("aBc")]),
        ("{ f|re|i: 'BC.' }", &[text("abcd")], &[text("abc")]),
        ("{ f|re|m: '^b$' }", &[text("a\nb\nc")], &[text("abc")]),
        ("{ f|re|s: 'a.b' }", &[text("a\nb")], &[text("ab")]),
        ("{ f|re|startswith: 'b' }", &[text("bc")], &[text("ab")]),
        (
            "{ f|cidr: 10.0.0.0/8 }",
            &[text("10.1.2.3"), text("::ffff:10.9.9.9")],
            &[text("11.0.0.1"), text("x")],
        ),
        ("{ f|cidr: 'fe80::/10' }", &[text("fe80::1")], &[text("10.0.0.1")]),
        ("{ f|windash|contains: ' -x' }", &[text("a /x"), text("a \u{2013}x")], &[text("a x")]),
        ("{ f|base64: ab }", &[text("YWI=")], &[text("YWJ")]),
        ("{ f|base64offset|contains: foobar }", &[text("xZm9vYmFyx"), text("Zvb2Jhc")], &[text("foobar")]),
        ("{ f|wide|base64offset|contains: ab }", &[text("YQBiA")], &[text("ab")]),
        ("{ f|fieldref: g }", &[text("GEE")], &[text("x"), TestValue::Null]),
        ("{ f|fieldref|startswith: g }", &[text("geex")], &[text("xgee")]),
        ("{ f|fieldref|endswith: g }", &[text("xgee")], &[text("geex")]),
        ("{ f|fieldref|contains: g }", &[text("xgeex")], &[text("ge")]),
        ("{ f|fieldref|neq: g }", &[text("x"), TestValue::Null], &[text("gee")]),
        (
            "{ f|hour: 11 }",
            &[text("2024-02-29T11:59:00Z"), TestValue::Int(BASE_US)],
            &[text("2024-02-29T12:00:00Z"), text("x")],
        ),
        ("{ f|hour|gte: 11 }", &[text("2024-02-29T12:00:00Z")], &[text("2024-02-29T10:00:00Z")]),
        ("{ f|minute: 59 }", &[text("2024-02-29T11:59:00Z")], &[text("2024-02-29T11:58:00Z")]),
        ("{ f|day: 29 }", &[text("2024-02-29")], &[text("2024-02-28")]),
        ("{ f|week: 9 }", &[text("2024-02-29")], &[text("2024-03-09")]),
        ("{ f|month: 2 }", &[text("2024-02-29")], &[text("2024-03-01")]),
        ("{ f|year: 2024 }", &[text("2024-02-29")], &[text("2023-02-28")]),
        ("{ f: ÄÖ }", &[text("äö")], &[text("ao")]),
        ("{ f|contains: '%' }", &[text("100%")], &[text("100")]),
        ("[ { f: a }, { f: b } ]", &[text("a"), text("b")], &[text("c")]),
        ("{ f: a, g: gee }", &[text("a")], &[text("b")]),
        ("{ f: a, g: other }", &[], &[text("a")]),
        ("[ abc, def ]", &[text("xABCx"), text("def")], &[text("ab")]),
        ("abc", &[text("xABCx")], &[text("ab")]),
        ("{ '|all': [abc, gee] }", &[text("abc")], &[text("ab")]),
        ("{ '|re': 'a[bx]c' }", &[text("axc")], &[text("ac")]),
        ("[ 'a*c' ]", &[text("xabcx")], &[text("ca")]),
    ];
    for (selection, yes, no) in cases {
        for (values, want) in [(yes, true), (no, false)] {
            for value in *values {
                let record = record(&[("f", value.clone()), ("g", text("Gee")), ("name", text("n"))]);
                check(selection, "s", &record, want);
                check(selection, "not s", &record, !want);
            }
        }
    }
}

#[test]
fn fields_are_found_where_records_have_them() {
    let map = |key: &str, value: TestValue| TestValue::Map(vec![(key.to_owned(), value)]);
    let record = record(&[
        ("service.name", text("cart")),
        ("event_name", text("request.finished")),
        ("severity_number", TestValue::Int(17)),
        ("body", text("Hello world")),
        ("http.response.status_code", TestValue::Int(404)),
        ("url.path", text("/a")),
        ("url.query", text("x=1")),
        ("k8s.pod.labels", map("app", text("web"))),
        ("a", map("b", map("c.d", TestValue::Int(7)))),
        ("list", TestValue::List(vec![text("one"), text("two"), map("k", text("v"))])),
        ("double", TestValue::Double(1.5)),
        ("quoted", text("say \"x\"\n")),
    ]);
    for (selection, want) in [
        ("{ service.name: CART }", true),
        ("{ event_name: request.finished, severity_number|gte: 17 }", true),
        ("{ body|contains: world }", true),
        ("{ http.response.status_code: 404 }", true),
        ("{ url.original: '/a?x=1' }", true),
        ("{ k8s.pod.labels.app: web }", true),
        ("{ a.b.c.d: 7 }", true),
        ("{ a.b: null }", true),
        ("{ list: two }", true),
        ("{ list.k: v }", true),
        ("{ list|contains|all: [one, two] }", true),
        ("{ double: 1.5 }", true),
        ("{ double|lt: 1.6 }", true),
        ("{ quoted|contains: '\"x\"' }", true),
        ("{ timestamp|hour: 11 }", true),
        ("[ two ]", true),
        ("[ web ]", false),
        ("[ cart ]", false),
        ("{ nothing: x }", false),
    ] {
        check(selection, "s", &record, want);
    }
    let mapped = self::record(&[("body", TestValue::Map(vec![("eventName".to_owned(), text("x"))]))]);
    check("{ eventName: x }", "s", &mapped, true);
}

#[test]
fn conditions_are_over_selections() {
    let text_of = |condition: &str| {
        format!(
            "title: t\nlogsource: {{ category: c }}\ndetection:\n  condition: {condition}\n  sel_a: {{ f: a }}\n  \
             sel_b: {{ g: b }}\n  _hidden: {{ f: zzz }}\n  filter: {{ h: c }}\n"
        )
    };
    for (condition, a, b, c, want) in [
        ("1 of sel_*", true, false, false, true),
        ("all of sel_*", true, false, false, false),
        ("all of sel_*", true, true, false, true),
        ("all of them", true, true, true, true),
        ("1 of them", false, false, false, false),
        ("sel_a and not filter", true, false, true, false),
        ("sel_a and not filter", true, false, false, true),
        ("not (sel_a or sel_b)", false, false, true, true),
        ("[sel_a, sel_b]", false, true, false, true),
        ("not 1 of sel_*", false, false, false, true),
    ] {
        let rules = rules(&[text_of(condition)]);
        let value = |on: bool, value: &str| if on { text(value) } else { text("no") };
        let record = record(&[("f", value(a, "a")), ("g", value(b, "b")), ("h", value(c, "c"))]);
        assert_eq!(!matches(&rules, &[&record])[0].is_empty(), want, "{condition} {a} {b} {c}");
    }
}

#[test]
fn spans_are_matched_and_tables_told_apart() {
    let of = |service: &str, selection: &str| {
        format!(
            "title: t\nlogsource: {{ product: threadline, service: {service} }}\ndetection: {{ s: {selection}, condition: s }}\n"
        )
    };
    let texts =
        [of("spans", "{ name: GET, kind: 2, span.kind: server }"), of("logs", "{ f: a }"), of("x", "{ f: a }")];
    let rules = rules(&texts);
    let mut span = record(&[("name", text("get")), ("kind", TestValue::Int(2)), ("f", text("a"))]);
    span.span = true;
    let batch = batch(Table::Spans, &[&span], BASE_US, 1).unwrap();
    let mut hits = Vec::new();
    rules.matcher.scan(&batch, Table::Spans, &mut Scratch::default(), |_, found| hits.extend_from_slice(found));
    assert_eq!(hits, [0, 2]);
    assert_eq!(matches(&rules, &[&record(&[("f", text("a"))])]), [[1, 2]]);
}

#[test]
fn broken_rules_take_no_other_with_them() {
    let good = rule("{ f: a }", "s");
    let files = [
        ("bad.yml", "title: [\n"),
        ("placeholder.yml", &rule("{ 'f|expand': '%x%' }", "s")),
        ("look.yml", &rule("{ 'f|re': '(?=a)' }", "s")),
        ("name.yml", &rule("{ f: a }", "other")),
        ("good.yml", &good),
    ];
    let files = files.map(|(name, text)| SourceFile { name, text });
    let (rules, problems) = RuleSet::compile(&files, &Options::default());
    assert_eq!(rules.len(), 1);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 4, "{problems:?}");
    for want in [
        "bad.yml:",
        "placeholder.yml:5: placeholder `%x%`",
        "look-around",
        "name.yml:1: the condition names `other`",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(want)), "{want}: {problems:?}");
    }
}

#[test]
fn filters_narrow_rules() {
    let rules_text = "title: r\nid: r1\nname: noisy\nlogsource: { category: c, product: p }\ndetection: { s: { f|contains: a }, condition: s }\n";
    let filter = |source: &str, names: &str| {
        format!(
            "title: filter\nlogsource: {source}\nfilter:\n  rules: {names}\n  selection: {{ g: known }}\n  condition: not selection\n"
        )
    };
    for (source, names, want) in [
        ("{ category: c }", "any", false),
        ("{ category: c, product: p }", "[noisy]", false),
        ("{ category: c }", "[r1]", false),
        ("{ category: c }", "[other]", true),
        ("{ category: d }", "any", true),
        ("{ category: c, service: s }", "any", true),
    ] {
        let rules = rules(&[rules_text.to_owned(), filter(source, names)]);
        let found = matches(&rules, &[&record(&[("f", text("a")), ("g", text("known"))])]);
        assert_eq!(!found[0].is_empty(), want, "{source} {names}");
        let found = matches(&rules, &[&record(&[("f", text("a")), ("g", text("other"))])]);
        assert!(!found[0].is_empty(), "{source} {names}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn selection() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            Just("f"),
            Just("g"),
            Just("f|contains"),
            Just("g|startswith"),
            Just("f|endswith"),
            Just("f|cased"),
            Just("f|contains|all"),
            Just("f|re"),
            Just("g|re|i"),
            Just("f|neq"),
            Just("g|fieldref"),
            Just("f|windash"),
            Just("h|contains|cased"),
            Just("g|contains"),
        ];
        let value = "[abAB*?/ -]{1,4}";
        let item = (key, proptest::collection::vec(value, 1..4)).prop_map(|(key, values)| {
            let values: Vec<String> = values
                .iter()
                .map(|value| if key.contains("re") { regex::escape(value) } else { value.clone() })
                .map(|value| format!("'{value}'"))
                .collect();
            format!("'{key}': [{}]", values.join(", "))
        });
        let keyword = proptest::collection::vec("'[abAB*]{1,3}'", 1..3)
            .prop_map(|words| format!("[{}]", words.join(", ")));
        prop_oneof![
            4 => proptest::collection::vec(item, 1..3).prop_map(|mut items| {
                items.sort();
                items.dedup_by(|a, b| a.split(':').next() == b.split(':').next());
                format!("{{ {} }}", items.join(", "))
            }),
            1 => keyword,
        ]
    }

    fn condition() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            Just("s0"),
            Just("not s0"),
            Just("s0 and s1"),
            Just("s0 or s1"),
            Just("s0 and not s1"),
            Just("not (s0 or s1)"),
            Just("1 of s*"),
            Just("all of s*"),
            Just("not s0 or s1"),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// The index finds exactly what evaluating every test of every rule finds.
        #[test]
        fn the_index_finds_what_there_is(
            rules in proptest::collection::vec((selection(), selection(), condition()), 1..8),
            records in proptest::collection::vec(("[abAB/ -]{0,6}", "[abAB/ -]{0,4}", "[abAB]{0,3}", 0..6u8), 1..6),
        ) {
            let texts: Vec<String> = rules.iter().enumerate().map(|(n, (a, b, condition))| format!(
                "title: t{n}\nlogsource: {{ category: c }}\ndetection:\n  condition: {condition}\n  s0: {a}\n  s1: {b}\n"
            )).collect();
            let rules = super::rules(&texts);
            let records: Vec<TestRecord> = records.iter().map(|(f, g, h, missing)| {
                let mut fields = vec![("f", text(f)), ("g", text(g)), ("h", text(h))];
                if let Some(at) = Some(usize::from(*missing)).filter(|at| *at < 3) {
                    fields.remove(at);
                }
                record(&fields)
            }).collect();
            let records: Vec<&TestRecord> = records.iter().collect();
            super::matches(&rules, &records);
        }
    }
}
