//! Back-tests find what streaming finds, whatever was left out of the reading.

use proptest::prelude::*;
use threadline_detect::sigma::extension::{TestRecord, TestValue};
use threadline_detect::testing::batch as batch_of;
use threadline_store::{Append, BatchId, Env, Options, Scope, Store};

use super::super::compile;
use super::*;

const BASE_US: i64 = 1_780_000_000_000_000;

/// The findings of an engine that sees each record by itself, with all its columns.
fn streamed(snapshot: &Snapshot, rules: &Arc<RuleSet>, range: TimeRange) -> Vec<Finding> {
    let mut rows = Vec::new();
    for table in Table::ALL {
        for source in sources(snapshot.table(table)) {
            for batch in source.scan(None, &pruned(TimeRange::default(), IndexPlan::All)).unwrap() {
                let batch = batch.unwrap();
                let (seq, ts) = (Batch::new(&batch).int("seq"), Batch::new(&batch).int("ts"));
                for row in (0..batch.num_rows()).filter(|row| range.contains(ts.get(*row).unwrap())) {
                    rows.push((seq.get(row).unwrap(), table, batch.slice(row, 1)));
                }
            }
        }
    }
    rows.sort_by_key(|(seq, ..)| *seq);
    let mut engine = Engine::new(Arc::clone(rules), Limits::default());
    rows.iter().flat_map(|(_, table, row)| engine.step(row, *table)).collect()
}

fn backtest_of(snapshot: &Snapshot, rules: &str, range: TimeRange) -> (Backtest, Vec<Finding>) {
    let loaded = compile(&[("rules".to_owned(), rules.to_owned().into())]);
    assert!(loaded.problems.is_empty(), "{:?}\n{rules}", loaded.problems);
    let found = backtest(snapshot, &loaded.rules, range, &Guard::default()).unwrap();
    let want = streamed(snapshot, &loaded.rules, range);
    (found, want)
}

/// A store with batches of records; each is sealed into a file, but for the last.
fn store_of(folder: &std::path::Path, batches: &[Vec<TestRecord>]) -> Store {
    let options = Options { disk_free_bytes_min: 0, ..Options::default() };
    let store = Store::open(folder, options, Env::local()).unwrap();
    let mut id = 0;
    for (number, records) in batches.iter().enumerate() {
        for (span, table) in [(false, Table::Logs), (true, Table::Spans)] {
            let of_table: Vec<&TestRecord> = records.iter().filter(|record| record.span == span).collect();
            if of_table.is_empty() {
                continue;
            }
            let batch = batch_of(table, &of_table, BASE_US, 0).unwrap();
            // The store gives sequence numbers.
            let own: Vec<usize> =
                (0..batch.num_columns()).filter(|at| batch.schema().field(*at).name() != "seq").collect();
            id += 1;
            let append = Append { table, id: BatchId(id), batch: batch.project(&own).unwrap() };
            store.append_wait(append).unwrap();
        }
        if number + 1 < batches.len() {
            store.seal().unwrap();
        }
    }
    store
}

fn fields() -> impl Strategy<Value = Vec<(String, TestValue)>> {
    let text = |values: &'static [&'static str]| {
        prop::sample::select(values).prop_map(|value| TestValue::Text(value.to_owned()))
    };
    let one = |name: &'static str, value: BoxedStrategy<TestValue>| {
        prop::option::weighted(0.6, value).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let all = vec![
        one("event_name", text(&["request.finished", "security.authn.rejected", "Other"]).boxed()),
        one("name", text(&["GET /a", "charge"]).boxed()),
        one("kind", prop::sample::select(&[1i64, 2, 3][..]).prop_map(TestValue::Int).boxed()),
        one("severity_number", prop::sample::select(&[9i64, 13, 17][..]).prop_map(TestValue::Int).boxed()),
        one(
            "body",
            prop_oneof![
                9 => text(&[
                    "the card of Alice was refused",
                    "İstanbul 10.0.0.1 ok",
                    "Kelvin ſ line\nlevel=info",
                    "id=0af7651916cd43dd8448eb211c80319c"
                ]),
                1 => Just(TestValue::Map(vec![("shop.user".to_owned(), TestValue::Text("Bob".to_owned()))])),
            ]
            .boxed(),
        ),
        one("url.path", text(&["/a/b", "/etc/passwd", "/A/../b"]).boxed()),
        one("url.query", text(&["x=1", "?q=<script", "id='--"]).boxed()),
        one("client.address", text(&["10.0.0.1", "192.0.2.7", "fe80::1"]).boxed()),
        one(
            "http.response.status_code",
            prop::sample::select(&[200i64, 404, 500][..]).prop_map(TestValue::Int).boxed(),
        ),
        one("service.name", text(&["cart", "Auth"]).boxed()),
        one("service.version", text(&["1.0", "2.0"]).boxed()),
    ];
    // Attributes without a column of their own come in few stores, or no index would ever rule out anything.
    let odd = prop::option::weighted(0.05, text(&["Bob", "alice"]))
        .prop_map(|value| value.map(|value| ("shop.user".to_owned(), value)));
    (all, odd).prop_map(|(fields, odd)| fields.into_iter().chain([odd]).flatten().collect())
}

fn record() -> impl Strategy<Value = TestRecord> {
    let at = prop_oneof![0i64..120_000_000, 0i64..4_000_000_000];
    (at, prop::bool::weighted(0.3), fields()).prop_map(|(at_us, span, mut fields)| {
        // What the other table has a column for would be an attribute without one here.
        let others: &[&str] = if span { &["event_name", "severity_number"] } else { &["name", "kind"] };
        fields.retain(|(name, _)| !others.contains(&name.as_str()));
        TestRecord { at_us, span, fields }
    })
}

const TESTS: [&str; 35] = [
    "event_name: request.finished",
    "event_name: [other, security.authn.rejected]",
    "event_name|startswith: security.",
    "event_name|cased: Other",
    "severity_number|gte: 13",
    "severity_number: 17",
    "body|contains: alice",
    "body|contains: İ",
    "body|contains: 'İstanbul'",
    "body|contains: ist",
    "body|contains: kel",
    "body|contains|all: [card, refused]",
    "body|cased|contains: Alice",
    "body|startswith: the c",
    "body|endswith: refused",
    "body: '*card*al?ce*'",
    "body|re: '[\\r\\n]level='",
    "body|contains: 4bf92f3577b34da6a3ce929d0e0e4736",
    "body|contains: 0af7651916cd43dd8448eb211c80319c",
    "body|exists: true",
    "url.original|contains: [passwd, '../']",
    "url.original|contains: 'b?x'",
    "url.original|endswith: script",
    "url.original: /a/b",
    "url.original|re: 'b\\?'",
    "url.query|contains: \"'\"",
    "client.address|cidr: 10.0.0.0/8",
    "http.response.status_code|gte: 400",
    "http.response.status_code: 500",
    "service.name: auth",
    "service.version|startswith: '2'",
    "shop.user: bob",
    "kind: 2",
    "span.kind: client",
    "name|contains: get",
];

fn rule() -> impl Strategy<Value = String> {
    let test = || prop::sample::select(&TESTS[..]);
    let condition = prop::sample::select(
        &["a", "a and b", "a or b", "a and not b", "not a", "not (not a or b)", "1 of them", "not (a and b)"][..],
    );
    let more = prop::sample::select(
        &[
            "",
            "threadline: { absence: { group-by: [service.name], timespan: 30s, forget: 7d } }\n",
            "threadline: { new_value: { fields: [client.address], group-by: [service.name], learn: 1s, expire: 1d } }\n",
            "threadline: { suppress: { by: [service.name], for: 1m } }\n",
        ][..],
    );
    let service = prop::sample::select(&["", ", service: logs", ", service: spans"][..]);
    (test(), test(), condition, more, service).prop_map(|(a, b, condition, more, service)| {
        format!(
            "title: RULE\nname: RULE\nlogsource: {{ product: threadline{service} }}\ndetection:\n  a:\n    {a}\n  b:\n    {b}\n  condition: {condition}\n{more}"
        )
    })
}

fn rules() -> impl Strategy<Value = String> {
    (prop::collection::vec(rule(), 1..4), any::<bool>()).prop_map(|(rules, correlate)| {
        let mut texts: Vec<String> =
            rules.iter().enumerate().map(|(at, rule)| rule.replace("RULE", &format!("r{at}"))).collect();
        if correlate {
            texts.push(
                "title: many\ncorrelation:\n  type: event_count\n  rules: [r0]\n  group-by: [client.address]\n  timespan: 1m\n  condition: { gte: 2 }\n"
                    .to_owned(),
            );
        }
        texts.join("---\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn back_tests_find_what_streaming_finds(
        batches in prop::collection::vec(prop::collection::vec(record(), 1..12), 1..5),
        sets in prop::collection::vec(rules(), 12),
        from in prop::option::of(0i64..60_000_000),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = store_of(folder.path(), &batches);
        let snapshot = store.snapshot_of(Scope::All);
        let range = TimeRange { from_us: from.map(|from| BASE_US + from), to_us: None };
        for rules in &sets {
            let (found, want) = backtest_of(&snapshot, rules, range);
            prop_assert_eq!(&found.findings, &want, "{}", rules);
            prop_assert!(found.hits <= found.records_read && found.records_read <= found.records);
        }
        store.close().unwrap();
    }
}

fn plain(fields: &[(&str, &str)]) -> TestRecord {
    let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), TestValue::Text((*value).to_owned())));
    TestRecord { at_us: 0, span: false, fields: fields.collect() }
}

/// That something is left out, and what it takes not to.
#[test]
fn what_no_rule_needs_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let of =
        |event: &str, body: &str| plain(&[("event_name", event), ("body", body), ("service.name", "cart")]);
    let store = store_of(
        folder.path(),
        &[
            vec![
                of("request.finished", "fine"),
                of("request.finished", "fine"),
                of("request.finished", "in İstanbul"),
            ],
            vec![of("security.authn.rejected", "wrong password of bob"); 2],
            vec![plain(&[("shop.user", "bob"), ("event_name", "request.finished")]); 4],
            Vec::new(),
        ],
    );
    let snapshot = store.snapshot_of(Scope::All);
    for (test, read, hits, full) in [
        ("event_name: security.authn.rejected", 2, 2, false),
        ("event_name: none.such", 0, 0, false),
        ("body|contains: passWORD", 2, 2, false),
        ("url.original|contains: passwd", 4, 0, false),
        ("shop.user: bob", 4, 4, false),
        ("severity_number|gte: 17", 9, 0, true),
        ("body|contains: 'İstanbul'", 9, 1, true),
        ("body|contains: bob", 2, 2, false),
        ("service.name: cart", 9, 5, false),
        ("service.name|re: '^c'", 9, 5, false),
        ("client.address: null", 9, 9, true),
    ] {
        let rule = format!(
            "title: t\nlogsource: {{ product: threadline }}\ndetection: {{ a: {{ {test} }}, condition: a }}\n"
        );
        let (found, want) = backtest_of(&snapshot, &rule, TimeRange::default());
        assert_eq!(found.findings, want, "{test}");
        assert_eq!((found.records, found.records_read, found.hits), (9, read, hits), "{test}");
        assert_eq!(found.full_scan_rules.is_empty(), !full, "{test}");
    }
    store.close().unwrap();
}

/// The pack, and SigmaHQ's corpus where it is beside the repository, over the records of the pack's own tests.
#[test]
fn the_pack_and_the_corpus_find_what_streaming_finds() {
    let pack = super::super::pack();
    let loaded = compile(&pack);
    let records = loaded.rules.metas().map(|(_, extension)| {
        let tests = extension.tests.iter().flat_map(|test| test.records.iter().take(10));
        tests.cloned().collect::<Vec<TestRecord>>()
    });
    let batches: Vec<Vec<TestRecord>> = records.filter(|records| !records.is_empty()).collect();
    let folder = tempfile::tempdir().unwrap();
    let store = store_of(folder.path(), &batches);
    let snapshot = store.snapshot_of(Scope::All);
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = own.ancestors().map(|folder| folder.join("shared/data/sigma")).find(|folder| folder.exists());
    let mut sets = vec![loaded];
    sets.extend(pack.chunks(1).map(compile));
    match corpus {
        Some(folder) => {
            let rules = super::super::read_files(&folder).unwrap();
            sets.extend(rules.chunks(100).map(compile));
            sets.push(compile(&[rules, pack].concat()));
        }
        None => eprintln!("skipped the corpus: shared/data/sigma is not beside the repository"),
    }
    let (mut findings, mut records, mut read) = (0, 0, 0);
    for loaded in sets {
        let found = backtest(&snapshot, &loaded.rules, TimeRange::default(), &Guard::default()).unwrap();
        assert_eq!(found.findings, streamed(&snapshot, &loaded.rules, TimeRange::default()));
        findings += found.findings.len();
        (records, read) = (records + found.records, read + found.records_read);
    }
    assert!(findings > 100 && read < records / 2, "{findings} findings, {read} of {records} records read");
    store.close().unwrap();
}
