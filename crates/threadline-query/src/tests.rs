//! Conditions, searches, counts and aggregates, over memory and sealed files.

use proptest::prelude::*;
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::Scope;

use crate::aggregate::{HistogramRequest, field_values, fields, histogram};
use crate::counts::{count, distinct};
use crate::lang::{Expr, Field, Number, Op, Test, parse};
use crate::search::{Cursor, Matcher, Order, SearchRequest, TimeRange, cursor_of, search};
use crate::source::scope_of;
use crate::testing::{CUT_TERM, Log, T0_US, logs_batch, memory, sealed, seqs, spans_batch, with_seq};
use crate::{Guard, QueryError};

fn log(body: &str, attributes: &[(&'static str, Value<'static>)]) -> Log {
    Log { body: body.to_owned(), attributes: attributes.to_vec(), ..Log::default() }
}

fn rows() -> Vec<Log> {
    vec![
        Log { service: "checkout", severity: 17, trace: 1, ..log("Token expired for user-7", &[]) },
        Log {
            service: "cart",
            severity: 9,
            at_ns: 1_000_000_123,
            ..log(
                "connection refused by 10.1.2.3:80",
                &[("http.response.status_code", Value::Int(503)), ("url.path", Value::Str("/health"))],
            )
        },
        Log {
            event: "security.authn.rejected",
            ..log("tokenexpired", &[("x", Value::Int(5)), ("y", Value::Double(1.5))])
        },
        log(
            "",
            &[("client.address", Value::Str("10.9.8.7")), ("x", Value::Str("5")), ("b", Value::Bool(true))],
        ),
        log(
            "Größe überschritten\nsecond line",
            &[("client.address", Value::Str("2001:db8::1")), ("zone", Value::Str("us"))],
        ),
        log(
            "token\texpired",
            &[
                ("url.path", Value::Str("/api/v1/cart")),
                ("q\"k", Value::Str("a\"b")),
                ("body", Value::Str("odd")),
            ],
        ),
    ]
}

/// Search, rows of [`rows`] that fulfil it.
const CASES: &[(&str, &[usize])] = &[
    ("", &[0, 1, 2, 3, 4, 5]),
    ("-*", &[]),
    ("token", &[0, 5]),
    ("TOKEN", &[0, 5]),
    ("\"token expired\"", &[0]),
    ("\"oken expired\"", &[]),
    ("tok*", &[0, 2, 5]),
    ("*expired", &[0, 2, 5]),
    ("t*d", &[2]),
    ("user-7", &[0]),
    ("user-", &[0]),
    ("user-*", &[0]),
    ("ser-7", &[]),
    ("10.1.2.3", &[1]),
    ("größe", &[4]),
    ("GRÖSSE", &[]),
    ("GRÖßE", &[4]),
    ("größ", &[]),
    ("gr*", &[4]),
    ("~Token", &[0]),
    ("~oken", &[0, 2, 5]),
    ("~\"d f\"", &[0]),
    ("/^[Tt]oken.expired/", &[0, 5]),
    ("/(?i)TOKEN/", &[0, 2, 5]),
    ("/line$/", &[4]),
    ("/^$/", &[]),
    ("-token", &[1, 2, 3, 4]),
    ("body:*", &[0, 1, 2, 4, 5]),
    ("-body:*", &[3]),
    ("service:checkout", &[0]),
    ("service:c*", &[0, 1]),
    ("service:Checkout", &[]),
    ("-service:checkout", &[1, 2, 3, 4, 5]),
    ("service!=checkout", &[1]),
    ("service:~art", &[1]),
    ("service:/^c.r/", &[1]),
    ("service:(cart OR checkout)", &[0, 1]),
    ("severity>=warn", &[0]),
    ("severity:info", &[1]),
    ("severity<error", &[1, 2, 3, 4, 5]),
    ("severity:unset", &[2, 3, 4, 5]),
    ("severity:*", &[0, 1]),
    ("severity!=error", &[1, 2, 3, 4, 5]),
    ("http.response.status_code:5*", &[1]),
    ("http.response.status_code>=500", &[1]),
    ("http.response.status_code:503", &[1]),
    ("http.response.status_code!=503", &[]),
    ("-url.path:/health url.path:*", &[5]),
    ("url.path:/api/*", &[5]),
    ("url.path:*/v1/*", &[5]),
    ("x:5", &[2, 3]),
    ("x>4", &[2, 3]),
    ("x=5.0", &[2, 3]),
    ("x!=5", &[]),
    ("y:1.5 y>1 y<=1.50", &[2]),
    ("b:true", &[3]),
    ("client.address:10.0.0.0/8", &[3]),
    ("client.address:10.9.8.7", &[3]),
    ("client.address:2001:db8:0::1", &[4]),
    ("client.address:2001:db8::/32", &[4]),
    ("client.address:0.0.0.0/0", &[3]),
    ("zone:eu", &[0, 1, 2, 3, 5]),
    ("zone:us", &[4]),
    ("event:security.*", &[2]),
    ("event:security.authn.rejected -severity>=warn", &[2]),
    ("trace:01010101010101010101010101010101", &[0]),
    ("trace:010* -trace:02*", &[0]),
    ("trace:*", &[0]),
    ("scope:lib scope.version:1.*", &[0, 1, 2, 3, 4, 5]),
    ("@\"q\\\"k\":\"a\\\"b\"", &[5]),
    ("@body:odd", &[5]),
    ("time>2023-11-14T22:13:21.000000122Z", &[1]),
    ("time>2023-11-14T22:13:21.000000123Z", &[]),
    ("time<2023-11-14T22:13:21Z", &[0, 2, 3, 4, 5]),
    ("seq>=5", &[4, 5]),
    ("is:time_absurd", &[]),
    ("duration>1s", &[]),
    ("nosuch:x OR -nosuch:*", &[0, 1, 2, 3, 4, 5]),
    ("token OR service:cart", &[0, 1, 5]),
    ("(token OR service:cart) -\"token expired\"", &[1, 5]),
];

fn matching(text: &str, table: Table, batch: &arrow_array::RecordBatch) -> Vec<usize> {
    let matcher = Matcher::new(&parse(text).unwrap_or_else(|e| panic!("{text}: {e}")), table).unwrap();
    let found = matcher.matches(batch).unwrap();
    (0..batch.num_rows()).filter(|row| found.value(*row)).collect()
}

#[test]
fn conditions_find_their_rows() {
    let batch = with_seq(&logs_batch(&rows()), 1);
    for (text, want) in CASES {
        assert_eq!(matching(text, Table::Logs, &batch), *want, "{text}");
        // A slice has offsets of its own.
        let slice: Vec<usize> =
            matching(text, Table::Logs, &batch.slice(1, 4)).iter().map(|row| row + 1).collect();
        let inside: Vec<usize> = want.iter().copied().filter(|row| (1..5).contains(row)).collect();
        assert_eq!(slice, inside, "{text}, slice");
    }
}

#[test]
fn conditions_on_spans_find_their_rows() {
    let batch = spans_batch();
    for (text, want) in [
        ("cart", &[0][..]),
        ("card", &[1]),
        ("refused", &[1]),
        ("name:\"GET /cart\"", &[0]),
        ("kind:server", &[1]),
        ("kind:(internal OR client)", &[0, 2]),
        ("status:error", &[1]),
        ("status:unset", &[0, 2]),
        ("duration>100ms", &[1, 2]),
        ("duration>=100ms duration<0.3s", &[0, 1]),
        ("-parent:*", &[0]),
        ("parent:0101010101010101", &[1]),
        ("span:02*", &[1]),
        ("event:exception", &[1]),
        ("severity>=warn", &[]),
    ] {
        assert_eq!(matching(text, Table::Spans, &batch), want, "{text}");
    }
}

#[test]
fn bad_regular_expressions_are_refused() {
    for (text, part) in [("/a(b/", "not valid"), ("/(a{1000}){1000}/", "too large"), ("x:/[/", "not valid")] {
        let error = Matcher::new(&parse(text).unwrap(), Table::Logs).unwrap_err();
        assert!(matches!(&error, QueryError::Invalid(detail) if detail.contains(part)), "{text}: {error}");
    }
}

const SERVICES: [&str; 3] = ["", "cart", "shop"];

pub(crate) fn any_log() -> impl Strategy<Value = Log> {
    let word = prop::sample::select(vec![
        "token",
        "Token",
        "expired",
        "ex",
        "größe",
        "to\u{212a}en",
        "\u{17f}ehr",
        "10.0.0.1",
        "10.0.0.12",
        "1.10.0.0.1",
        "v10.0.0.1",
        "10.0.0.1.nip.io",
        "c1234567-9abc-4def-8123-0123456789ab",
        "c1234567-9abc",
        "id=",
        "2026",
        // What the rows' own ids are in hex.
        "01010101010101010101010101010101",
        "0202020202020202",
        CUT_TERM.as_str(),
        "a_b",
        "-",
        ".",
    ]);
    let attribute =
        (prop::sample::select(vec!["x", "y", "url.path", "http.response.status_code"]), 0..4i64, 0..3)
            .prop_map(|(key, number, kind)| {
                let value = match kind {
                    0 => Value::Int(number),
                    1 => Value::Double(number as f64 + 0.5),
                    _ => Value::Str(["0", "1", "token x", "2.5"][number as usize]),
                };
                (key, value)
            });
    let words = prop::collection::vec((word, prop::sample::select(vec![" ", "", "-", "\n"])), 0..5);
    // Unchecked, checked, a rule, two rules and masked, in quarantine, a time that is not believed.
    let verdicts = vec![0, 1 << 2, 1 << 2 | 1 << 9, 0b1100 | 1 << 9 | 1 << 21, 0b10100 | 1 << 16, 1, 1 << 5];
    let verdict = prop::sample::select(verdicts);
    let attributes = prop::collection::vec(attribute, 0..3);
    (words, attributes, 0..3usize, 0..25i32, 0..3u64, 0..3u8, verdict).prop_map(
        |(words, mut attributes, service, severity, at, trace, verdict)| {
            attributes.dedup_by_key(|(key, _)| *key);
            Log {
                at_ns: at * 700 + at * 3_600_000_000_000,
                service: SERVICES[service],
                severity,
                event: ["", "a.b", "a.c"][usize::from(trace)],
                body: words.into_iter().flat_map(|(word, space)| [word, space]).collect(),
                trace,
                attributes,
                verdict,
            }
        },
    )
}

fn any_condition() -> impl Strategy<Value = Expr> {
    let key = prop::sample::select(vec!["x", "y", "url.path", "http.response.status_code", "zone"]);
    let text = prop::sample::select(vec![
        "token",
        "expired",
        "ex",
        "GRÖßE",
        "10.0.0.1",
        "token expired",
        "0",
        "1",
        "eu",
        "2.5",
        "a_b",
        "n ex",
        "-",
        "toke",
        "größe token",
        "größe sehr",
        "9abc",
        "c1234567",
        "c1234567-9abc",
        "10.0",
        "0.0.1.nip",
        "01010101010101010101010101010101",
        "0101",
        "0202020202020202",
        "x01",
        "10",
        "2026",
        "c1234567-9abc-4def-8123-0123456789ab",
        CUT_TERM.as_str(),
        "zexpiredt",
    ]);
    let body = |test: Test| Expr::Is(Field::Body, test);
    let op = prop::sample::select(vec![Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Gt, Op::Ge]);
    prop_oneof![
        text.clone().prop_map(move |t| body(Test::Phrase(t.to_owned()))),
        text.clone().prop_map(move |t| body(Test::Contains(t.to_owned()))),
        prop::sample::select(vec!["tok*", "*ed", "e*d", "a*-*b", "10.*"])
            .prop_map(move |t| body(Test::Wildcard(t.into()))),
        prop::sample::select(vec![
            "tok[a-z]+",
            "^$",
            "ex.?$",
            "[=:] ?c[0-9a-f]{7}-9[0-9a-f]{3}",
            "c[0-9a-f]{7}-9[0-9a-f]{3}-4",
            "(?i)TOKEN|10\\.0",
            "(id|ex)=?[0-9]+",
            "\\b10\\.0\\.0\\.\\d+",
            "[0-9]+\\.nip",
            "(to|ex)(ken|pired)[ -]",
            "a_?b|gr\\w+e",
            "(01){16}",
            "0(10)+1?",
            "[^a-z]ex",
        ])
        .prop_map(move |t| body(Test::Regex(t.into()))),
        prop::sample::select(vec![
            "10.0.0.0/24",
            "10.0.0.8/29",
            "1.10.0.0/16",
            "10.0.0.0/9",
            "10.0.0.12/31",
            "10.0.0.1/32",
            "0.0.0.0/0",
        ])
        .prop_map(move |t| {
            let Ok(Expr::Is(_, test)) = parse(t) else { panic!("{t}") };
            body(test)
        }),
        (key.clone(), text.clone())
            .prop_map(|(k, t)| Expr::Is(Field::Attribute(k.into()), Test::Equals(t.into()))),
        (key.clone(), text).prop_map(|(k, t)| Expr::Is(Field::Attribute(k.into()), Test::Differs(t.into()))),
        (key.clone(), op.clone(), 0..4i64)
            .prop_map(|(k, op, n)| Expr::Is(Field::Attribute(k.into()), Test::Number(op, Number::Int(n)))),
        key.prop_map(|k| Expr::Is(Field::Attribute(k.into()), Test::Exists)),
        prop::sample::select(SERVICES.to_vec()).prop_map(Expr::service),
        (op, 0..25i32)
            .prop_map(|(op, n)| Expr::Is(Field::Severity, Test::Severity(op, crate::lang::Level::Number(n)))),
        (1..3u8).prop_map(|t| Expr::trace(&format!("{t:02x}").repeat(16))),
        prop::sample::select(VERDICTS.to_vec()).prop_map(|(text, _)| parse(text).unwrap()),
    ]
}

/// Conditions on the verdict, with what each says of its bits.
type OfVerdict = (&'static str, fn(i64) -> bool);
const VERDICTS: [OfVerdict; 9] = [
    ("contract:violated", |bits| bits >> 8 != 0),
    ("contract:ok", |bits| bits & 1 << 2 != 0 && bits >> 8 == 0),
    ("contract:unchecked", |bits| bits & 1 << 2 == 0),
    ("contract:quarantined", |bits| bits & 1 << 4 != 0),
    ("contract:redacted", |bits| bits & 1 << 3 != 0),
    ("rule:secret.*", |bits| bits >> 20 & 0b11_1111 != 0),
    ("rule:*", |bits| bits >> 8 != 0),
    ("is:sender_mismatch", |bits| bits & 1 << 5 != 0),
    ("is:quarantined", |bits| bits & 1 << 4 != 0),
];

pub(crate) fn any_expr() -> impl Strategy<Value = Expr> {
    any_condition().prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::and),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::or),
            inner.prop_map(Expr::negate),
        ]
    })
}

/// The meaning of an expression, row by row and as plainly as it can be said.
fn oracle(expr: &Expr, batch: Batch<'_>, row: usize) -> bool {
    let term = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
    let (field, test) = match expr {
        Expr::All => return true,
        Expr::And(parts) => return parts.iter().all(|part| oracle(part, batch, row)),
        Expr::Or(parts) => return parts.iter().any(|part| oracle(part, batch, row)),
        Expr::Not(inner) => return !oracle(inner, batch, row),
        Expr::Is(field, test) => (field, test),
    };
    if let Test::Severity(op, level) = test {
        let number = batch.int("severity_number").get(row).unwrap_or(0);
        return op.holds(number.cmp(&i64::from(level.range().0)));
    }
    if let Some((_, holds)) = VERDICTS.iter().find(|(text, _)| parse(text).unwrap() == *expr) {
        return holds(batch.int("verdict").get(row).unwrap_or(0));
    }
    let text = match field {
        Field::Body => batch.str("body").get(row).map(str::to_owned),
        Field::Service => batch.str("service").get(row).map(str::to_owned),
        Field::Trace => batch.trace_id(row).map(|id| id.to_string()),
        Field::Attribute(key) => batch.attribute(key, row).map(|value| value.to_string()),
        other => panic!("{other}"),
    };
    let Some(text) = text else { return false };
    match test {
        Test::Exists => true,
        Test::Id { hex, .. } => *hex == text,
        Test::Equals(want) => text == *want,
        Test::Differs(other) => text != *other,
        Test::Contains(part) => text.contains(part.as_str()),
        Test::Regex(pattern) => regex::Regex::new(pattern).unwrap().is_match(&text),
        Test::Network(network) => text.split(|c: char| !(term(c) || c == '.')).any(|run| {
            let groups: Vec<&str> = run.trim_matches('.').split('.').collect();
            groups.windows(4).any(|groups| network.contains_text(&groups.join(".")))
        }),
        Test::Number(op, number) => Number::parse(&text).is_some_and(|n| op.holds(n.compare(*number))),
        Test::Phrase(phrase) => {
            // What is ASCII differs in the case of ASCII letters only; else every letter's cases are one.
            let fold = |text: &str| match phrase.is_ascii() {
                true => text.to_ascii_lowercase(),
                false => text.to_lowercase().replace('\u{17f}', "s"),
            };
            let (text, phrase) = (fold(&text), fold(phrase));
            text.char_indices().any(|(at, _)| {
                text[at..].strip_prefix(&phrase).is_some_and(|after| {
                    !(phrase.starts_with(term) && text[..at].ends_with(term))
                        && !(phrase.ends_with(term) && after.starts_with(term))
                })
            })
        }
        Test::Wildcard(pattern) => {
            // All patterns here are ASCII, and differ in the case of ASCII letters only.
            let text = text.replace(['\u{212a}', '\u{17f}'], "é");
            let class = "[0-9A-Za-z_\u{80}-\u{10FFFF}]";
            let inner: Vec<String> = pattern.split('*').map(regex::escape).collect();
            let not = "[^0-9A-Za-z_\u{80}-\u{10FFFF}]";
            let pattern = format!("(?i)(^|{not})({})({not}|$)", inner.join(&format!("{class}*")));
            regex::Regex::new(&pattern).unwrap().is_match(&text)
        }
        other => panic!("{other:?}"),
    }
}

fn request(expr: &Expr, limit: usize, order: Order) -> SearchRequest {
    SearchRequest {
        table: Table::Logs,
        expr: expr.clone(),
        range: TimeRange::default(),
        limit,
        after: None,
        order,
        columns: None,
    }
}

fn all_pages(snapshot: &threadline_store::Snapshot, request: &SearchRequest) -> Vec<Cursor> {
    let mut request = request.clone();
    let mut found = Vec::new();
    loop {
        let mut page = 0;
        for batch in search(snapshot, &request, &Guard::default()).unwrap() {
            let batch = batch.unwrap();
            page += batch.num_rows();
            found.extend((0..batch.num_rows()).map(|row| cursor_of(&batch, row)));
        }
        assert!(page <= request.limit);
        if page < request.limit {
            return found;
        }
        request.after = found.last().map(|cursor| Cursor::decode(&cursor.encode()).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn columns_mean_the_same_as_rows(logs in prop::collection::vec(any_log(), 1..12), expr in any_expr()) {
        let batch = logs_batch(&logs);
        let found = Matcher::new(&expr, Table::Logs).unwrap().matches(&batch).unwrap();
        for row in 0..batch.num_rows() {
            prop_assert_eq!(found.value(row), oracle(&expr, Batch::new(&batch), row), "{} on row {}", expr, row);
        }
    }

    #[test]
    fn pages_hold_every_row_once_in_order(
        logs in prop::collection::vec(prop::collection::vec(any_log(), 1..8), 1..4),
        expr in any_expr(),
        limit in 1..5usize,
        newest in any::<bool>(),
    ) {
        let batches: Vec<_> = logs.iter().map(|logs| logs_batch(logs)).collect();
        let snapshot = memory(&batches, &[]);
        let matcher = Matcher::new(&expr, Table::Logs).unwrap();
        let mut want: Vec<Cursor> = Vec::new();
        for batch in &snapshot.logs.memory {
            let found = matcher.matches(batch).unwrap();
            want.extend((0..batch.num_rows()).filter(|row| found.value(*row)).map(|row| cursor_of(batch, row)));
        }
        want.sort();
        let order = if newest { want.reverse(); Order::Newest } else { Order::Oldest };
        prop_assert_eq!(all_pages(&snapshot, &request(&expr, limit, order)), want.clone());
        let range = TimeRange { from_us: Some(T0_US), to_us: Some(T0_US + 1) };
        let inside = want.iter().filter(|cursor| range.contains(cursor.ts_us)).count() as u64;
        prop_assert_eq!(count(&snapshot, Table::Logs, &expr, range, &Guard::default()).unwrap(), inside);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sealed_files_answer_as_memory_does(
        logs in prop::collection::vec(prop::collection::vec(any_log(), 1..24), 1..4),
        exprs in prop::collection::vec(any_expr(), 24),
    ) {
        let batches: Vec<_> = logs.iter().map(|logs| logs_batch(logs)).collect();
        let folder = tempfile::tempdir().unwrap();
        let (_store, files) = sealed(folder.path(), &batches, 1);
        prop_assert!(batches.len() == 1 || !files.logs.files.is_empty());
        let memory = memory(&batches, &[]);
        for expr in &exprs {
            let request = request(expr, 5, Order::Newest);
            prop_assert_eq!(all_pages(&files, &request), all_pages(&memory, &request), "{}", expr);
            let counted = |snapshot| count(snapshot, Table::Logs, expr, TimeRange::default(), &Guard::default()).unwrap();
            prop_assert_eq!(counted(&files), counted(&memory), "{}", expr);
        }
    }
}

/// What every way of asking says of a snapshot; without sequence numbers, which differ from store to store.
fn answers(snapshot: &threadline_store::Snapshot, expr: &Expr) -> Vec<String> {
    let (guard, all) = (Guard::default(), TimeRange::default());
    let cut = TimeRange { from_us: Some(T0_US), to_us: Some(T0_US + 3_600_000_001) };
    let mut out = Vec::new();
    for range in [all, cut] {
        out.push(format!("count {}", count(snapshot, Table::Logs, expr, range, &guard).unwrap()));
        let traces = distinct(snapshot, Table::Logs, "trace", expr, range, &guard).unwrap();
        out.push(format!("traces {traces}"));
        for field in ["service", "url.path", "severity", "x", "is", "contract"] {
            let values = field_values(snapshot, Table::Logs, field, expr, range, 100, &guard).unwrap();
            out.push(format!("{field} {values:?}"));
            for interval_us in [1_000_000, 60_000_000] {
                let request = HistogramRequest {
                    table: Table::Logs,
                    expr: expr.clone(),
                    range,
                    interval_us: Some(interval_us),
                    by: Some(field.to_owned()),
                    series_max: 100,
                };
                let counted = histogram(snapshot, &request, &guard).unwrap();
                out.push(format!("{field} {} {:?}", counted.total, counted.series));
            }
        }
        out.push(format!("{:?}", fields(snapshot, Table::Logs, expr, range, &guard).unwrap()));
    }
    for batch in search(snapshot, &request(expr, 1000, Order::Newest), &guard).unwrap() {
        let batch = batch.unwrap();
        let columns = Batch::new(&batch);
        out.extend(
            (0..batch.num_rows())
                .map(|row| format!("{:?} {:?}", columns.time_unix_nano(row), columns.str("body").get(row))),
        );
    }
    out.sort();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Who does not ask for quarantine gets, by every way of asking, what a store without such records says; who does
    /// gets all of them, wherever they lie.
    #[test]
    fn what_is_in_quarantine_is_not_there(
        logs in prop::collection::vec(prop::collection::vec(any_log(), 1..24), 1..5),
        exprs in prop::collection::vec(any_expr(), 3),
        unsealed in 0..3usize,
        compact in any::<bool>(),
    ) {
        let is_quarantined = |log: &&Log| log.verdict & threadline_model::schema::verdict::QUARANTINED != 0;
        let batches: Vec<_> = logs.iter().map(|logs| logs_batch(logs)).collect();
        let folder = tempfile::tempdir().unwrap();
        let (store, all) = sealed(folder.path(), &batches, unsealed);
        if compact {
            while store.maintain().unwrap() {}
        }
        let regular: Vec<_> = logs
            .iter()
            .map(|logs| logs.iter().filter(|log| !is_quarantined(log)).cloned().collect::<Vec<_>>())
            .filter(|logs| !logs.is_empty())
            .map(|logs| logs_batch(&logs))
            .collect();
        let want = memory(&regular, &[]);
        for expr in exprs.iter().chain([&Expr::All]) {
            if !expr.names_quarantine() {
                prop_assert_eq!(scope_of(expr), Scope::Regular);
                prop_assert_eq!(answers(&store.snapshot(), expr), answers(&want, expr), "{}", expr);
            }
            prop_assert_eq!(answers(&all, expr), answers(&memory(&batches, &[]), expr), "{}", expr);
        }
        let quarantined = logs.iter().flatten().filter(is_quarantined).count() as u64;
        let asked = parse("is:quarantined").unwrap();
        let snapshot = store.snapshot_of(scope_of(&asked));
        prop_assert_eq!(count(&snapshot, Table::Logs, &asked, TimeRange::default(), &Guard::default()).unwrap(), quarantined);
        let mut tailed = 0;
        let mut tail = store.tail(0);
        loop {
            let batches = tail.next(7).unwrap();
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                let verdict = Batch::new(&batch.batch).int("verdict");
                let bits = (0..batch.batch.num_rows()).map(|row| verdict.get(row).unwrap_or(0));
                prop_assert!(bits.into_iter().all(|bits| bits & 1 << 4 == 0));
                tailed += batch.batch.num_rows();
            }
        }
        prop_assert_eq!((tailed as u64, tail.position()), (logs.iter().flatten().count() as u64 - quarantined, all.last_seq + 1));
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let snapshot = memory(&[logs_batch(&rows())], &[]);
    let guard = Guard::default();
    assert!(matches!(
        search(&snapshot, &request(&Expr::All, 0, Order::Newest), &guard),
        Err(QueryError::Invalid(_))
    ));
    let mut backwards = request(&Expr::All, 1, Order::Newest);
    backwards.range = TimeRange { from_us: Some(2), to_us: Some(1) };
    assert!(matches!(search(&snapshot, &backwards, &guard), Err(QueryError::Invalid(_))));
    guard.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut rows = search(&snapshot, &request(&Expr::All, 1, Order::Newest), &guard).unwrap();
    assert!(matches!(rows.next(), Some(Err(QueryError::Cancelled))));
    assert!(rows.next().is_none());
    for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c"] {
        assert_eq!(Cursor::decode(bad), None, "{bad}");
    }
}

#[test]
fn only_the_wanted_columns_come() {
    let snapshot = memory(&[logs_batch(&rows())], &[]);
    let mut wanted = request(&parse("token").unwrap(), 10, Order::Newest);
    wanted.columns = Some(vec!["service".to_owned(), "nosuch".to_owned()]);
    let batch = search(&snapshot, &wanted, &Guard::default()).unwrap().next().unwrap().unwrap();
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["ts", "ns", "seq", "service"].map(str::to_owned));
    assert_eq!(seqs(&batch), [6, 1]);
}

#[test]
fn histograms_add_up() {
    let snapshot = memory(&[logs_batch(&rows())], &[]);
    let mut wanted = HistogramRequest {
        table: Table::Logs,
        expr: Expr::All,
        range: TimeRange::default(),
        interval_us: Some(500_000),
        by: Some("service".to_owned()),
        series_max: 2,
    };
    let found = histogram(&snapshot, &wanted, &Guard::default()).unwrap();
    assert_eq!((found.start_us, found.buckets, found.total), (T0_US, 3, 6));
    let series: Vec<_> = found.series.iter().map(|s| (s.value.as_deref(), s.other, s.counts.clone())).collect();
    assert_eq!(
        series,
        [(None, false, vec![4, 0, 0]), (Some("cart"), false, vec![0, 0, 1]), (None, true, vec![1, 0, 0])]
    );
    wanted.interval_us = Some(1);
    assert!(matches!(histogram(&snapshot, &wanted, &Guard::default()), Err(QueryError::Invalid(_))));
    wanted.interval_us = None;
    wanted.by = None;
    let found = histogram(&snapshot, &wanted, &Guard::default()).unwrap();
    assert_eq!((found.interval_us, found.total, found.series.len()), (20_000, 6, 1));
}

#[test]
fn fields_and_their_values_are_listed() {
    let snapshot = memory(&[logs_batch(&rows())], &[spans_batch()]);
    let guard = Guard::default();
    let list = fields(&snapshot, Table::Logs, &Expr::All, TimeRange::default(), &guard).unwrap();
    let info = |name: &str| list.iter().find(|f| f.name == name).map(|f| (f.field_type, f.rows));
    for (name, want) in [
        ("time", Some(("time", 6))),
        ("service", Some(("string", 2))),
        ("body", Some(("string", 5))),
        ("x", Some(("mixed", 2))),
        ("y", Some(("double", 1))),
        ("@body", Some(("string", 1))),
        ("http.response.status_code", Some(("int", 1))),
        ("attrs", None),
        ("service.name", None),
    ] {
        assert_eq!(info(name), want, "{name}");
    }
    for (table, field, want) in [
        (Table::Logs, "service", &[("cart", 1), ("checkout", 1)][..]),
        (Table::Logs, "severity", &[("error", 1), ("info", 1)]),
        (Table::Logs, "zone", &[("eu", 5), ("us", 1)]),
        (Table::Logs, "x", &[("5", 2)]),
        (Table::Logs, "@body", &[("odd", 1)]),
        (Table::Logs, "scope", &[("lib", 6)]),
        (Table::Logs, "nosuch", &[]),
        (Table::Spans, "status", &[("unset", 2), ("error", 1)]),
        (Table::Spans, "kind", &[("client", 1), ("internal", 1), ("server", 1)]),
        (Table::Spans, "duration", &[("100ms", 1), ("200ms", 1), ("300ms", 1)]),
    ] {
        let found =
            field_values(&snapshot, table, field, &Expr::All, TimeRange::default(), 10, &guard).unwrap();
        let found: Vec<_> = found.iter().map(|(value, rows)| (value.as_str(), *rows)).collect();
        assert_eq!(found, want, "{field}");
    }
    let tight = Guard { memory_bytes_max: 100, ..Guard::default() };
    let found = field_values(&snapshot, Table::Logs, "seq", &Expr::All, TimeRange::default(), 10, &tight);
    assert!(matches!(found, Err(QueryError::TooExpensive(_))));
}
