//! Transformations by cases, and the built-in log sources.

use super::*;
use crate::matcher::Scratch;
use crate::rules::{Options, RuleSet, SourceFile};
use crate::sigma::extension::{TestRecord, TestValue};
use crate::testing::{BASE_US, batch};
use threadline_model::schema::Table;

/// Whether a rule of this log source and detection matches a record, under a pipeline.
fn matches(
    pipelines: Vec<Pipeline>,
    any: bool,
    source: &str,
    detection: &str,
    record: &[(&str, &str)],
) -> Result<bool> {
    let text = format!("title: t\nlogsource: {source}\ndetection: {detection}\n");
    let options = Options { pipelines, any_log_source: any, ..Options::default() };
    let (rules, problems) = RuleSet::compile(&[SourceFile { name: "r", text: &text }], &options);
    if let Some(problem) = problems.into_iter().next() {
        return Err(Fault::new(problem.line, problem.what));
    }
    let fields =
        record.iter().map(|(key, value)| ((*key).to_owned(), TestValue::Text((*value).to_owned()))).collect();
    let record = TestRecord { at_us: 0, span: false, fields };
    let batch = batch(Table::Logs, &[&record], BASE_US, 1).unwrap();
    let mut found = false;
    rules.matcher().scan(&batch, Table::Logs, &mut Scratch::default(), |_, hits| found = !hits.is_empty());
    Ok(found)
}

#[test]
fn transformations_change_rules() {
    let s = "{ s: { f: v }, condition: s }";
    for (items, detection, record, want) in [
        ("- { type: field_name_mapping, mapping: { f: g } }", s, ("g", "v"), true),
        ("- { type: field_name_mapping, mapping: { f: [g, h] } }", s, ("h", "v"), true),
        ("- { type: field_name_mapping, mapping: { f: g } }", s, ("f", "v"), false),
        (
            "- { type: field_name_prefix_mapping, mapping: { win.: host. } }",
            "{ s: { win.x: v }, condition: s }",
            ("host.x", "v"),
            true,
        ),
        ("- { type: field_name_prefix, prefix: p. }", s, ("p.f", "v"), true),
        ("- { type: field_name_suffix, suffix: .s }", s, ("f.s", "v"), true),
        (
            "- { type: field_name_transform, transform_func: lower }",
            "{ s: { F: v }, condition: s }",
            ("f", "v"),
            true,
        ),
        (
            "- { type: drop_detection_item, field_name_conditions: [{ type: include_fields, fields: [g] }] }",
            "{ s: { f: v, g: w }, condition: s }",
            ("f", "v"),
            true,
        ),
        (
            "- { type: drop_detection_item, field_name_conditions: [{ type: include_fields, fields: [g] }] }",
            "{ s: { f: v }, x: { g: w }, condition: s and not x }",
            ("f", "v"),
            true,
        ),
        ("- { type: add_condition, conditions: { g: x } }", s, ("f", "v"), false),
        ("- { type: add_condition, conditions: { g: x }, negated: true }", s, ("f", "v"), true),
        (
            "- { type: add_condition, conditions: { f: 'v$category' }, template: true }",
            "{ s: { f|startswith: v }, condition: s }",
            ("f", "vc"),
            true,
        ),
        ("- { type: replace_string, regex: '^v', replacement: w }", s, ("f", "w"), true),
        ("- { type: replace_string, regex: '(v)', replacement: 'x\\1' }", s, ("f", "xv"), true),
        ("- { type: map_string, mapping: { v: [w, x] } }", s, ("f", "x"), true),
        ("- { type: set_value, value: w }", s, ("f", "w"), true),
        ("- { type: case, method: upper }", "{ s: { f|cased: v }, condition: s }", ("f", "V"), true),
        (
            "- { type: value_placeholders }",
            "{ s: { f|expand: 'a%names%' }, condition: s }",
            ("f", "abob"),
            true,
        ),
        (
            "- { type: wildcard_placeholders }",
            "{ s: { f|expand: 'a%any%c' }, condition: s }",
            ("f", "abc"),
            true,
        ),
        (
            "- { type: hashes_fields, valid_hash_algos: [MD5], field_prefix: File }",
            "{ s: { Hashes|contains: 'MD5=00112233445566778899aabbccddeeff' }, condition: s }",
            ("FileMD5", "00112233445566778899aabbccddeeff"),
            true,
        ),
        ("- { type: nest, items: [{ type: field_name_mapping, mapping: { f: g } }] }", s, ("g", "v"), true),
        (
            "- { id: one, type: set_state, key: k, val: x }\n  - { type: field_name_mapping, mapping: { f: g }, rule_conditions: [{ type: processing_state, key: k, val: x }] }",
            s,
            ("g", "v"),
            true,
        ),
        (
            "- { id: one, type: field_name_mapping, mapping: { zz: g } }\n  - { type: field_name_mapping, mapping: { f: g }, rule_conditions: [{ type: processing_item_applied, processing_item_id: one }] }",
            s,
            ("g", "v"),
            false,
        ),
        (
            "- { type: field_name_mapping, mapping: { f: g }, rule_conditions: [{ type: logsource, category: other }] }",
            s,
            ("f", "v"),
            true,
        ),
        (
            "- { type: field_name_mapping, mapping: { f: g }, rule_conditions: [{ type: logsource, category: other }], rule_cond_not: true }",
            s,
            ("g", "v"),
            true,
        ),
        (
            "- { type: field_name_mapping, mapping: { f: g }, rule_conditions: { a: { type: logsource, category: c }, b: { type: contains_field, field: zz } }, rule_cond_expr: a and not b }",
            s,
            ("g", "v"),
            true,
        ),
        (
            "- { type: set_value, value: w, detection_item_conditions: [{ type: match_string, pattern: v }] }",
            s,
            ("f", "w"),
            true,
        ),
        (
            "- { type: set_value, value: w, detection_item_conditions: [{ type: is_null }] }",
            s,
            ("f", "v"),
            true,
        ),
    ] {
        let text =
            format!("name: p\npriority: 10\nvars: {{ names: [alice, bob] }}\ntransformations:\n  {items}\n");
        let pipeline = Pipeline::read("p.yml", &text).unwrap();
        assert_eq!(matches(vec![pipeline], true, "{ category: c }", detection, &[record]), Ok(want), "{items}");
    }
}

#[test]
fn faults_of_pipelines_are_said() {
    for (items, want) in [
        ("- { type: nothing }", "no transformation of pySigma"),
        ("- { type: file_placeholders }", "value_placeholders"),
        ("- { type: field_name_mapping }", "needs `mapping`"),
        ("- { type: set_state, key: a, val: b, rule_conditions: [{ type: x }] }", "no condition of rules"),
    ] {
        let text = format!("name: p\ntransformations:\n  {items}\n");
        let problem = Pipeline::read("p.yml", &text).unwrap_err().to_string();
        assert!(problem.contains(want) && problem.starts_with("p.yml:3"), "{items}: {problem}");
    }
    let pipeline = Pipeline::read("p", "transformations: [{ type: rule_failure, message: not here }]").unwrap();
    let fault =
        matches(vec![pipeline], true, "{ category: c }", "{ s: { f: v }, condition: s }", &[]).unwrap_err();
    assert_eq!(fault.what, "not here");
}

#[test]
fn log_sources_are_mapped_to_our_names() {
    for (source, detection, record, want) in [
        (
            "{ category: webserver }",
            "{ s: { cs-uri-query|contains: 'id=1' }, condition: s }",
            &[("http.request.method", "GET"), ("url.query", "id=1")][..],
            true,
        ),
        (
            "{ category: webserver }",
            "{ s: { cs-uri-query|contains: 'id=1' }, condition: s }",
            &[("url.query", "id=1")],
            false,
        ),
        (
            "{ category: webserver }",
            "{ s: { c-uri|contains: '/x?id=1' }, condition: s }",
            &[("http.request.method", "GET"), ("url.path", "/x"), ("url.query", "id=1")],
            true,
        ),
        (
            "{ category: proxy }",
            "{ s: { c-useragent|startswith: curl }, condition: s }",
            &[("http.request.method", "GET"), ("user_agent.original", "curl/8")],
            true,
        ),
        (
            "{ product: aws, service: cloudtrail }",
            "{ s: { eventName: StopLogging }, condition: s }",
            &[("eventName", "StopLogging"), ("eventSource", "x")],
            true,
        ),
        (
            "{ product: okta, service: okta }",
            "{ s: { eventtype: a.b }, condition: s }",
            &[("eventType", "a.b")],
            true,
        ),
        (
            "{ product: kubernetes, service: audit }",
            "{ s: { verb: get }, condition: s }",
            &[("verb", "get"), ("apiVersion", "audit.k8s.io/v1")],
            true,
        ),
        (
            "{ product: kubernetes, service: audit }",
            "{ s: { verb: get }, condition: s }",
            &[("verb", "get")],
            false,
        ),
        ("{ product: threadline }", "{ s: { f: v }, condition: s }", &[("f", "v")], true),
        (
            "{ product: windows, category: process_creation }",
            "{ s: { f: v }, condition: s }",
            &[("f", "v")],
            false,
        ),
        (
            "{ product: windows, category: process_creation }",
            "{ s: { f: v }, condition: s }",
            &[("f", "v"), ("sigma.product", "windows"), ("sigma.category", "process_creation")],
            true,
        ),
    ] {
        let found = matches(builtin().unwrap(), false, source, detection, record);
        assert_eq!(found, Ok(want), "{source} {detection} {record:?}");
    }
}
