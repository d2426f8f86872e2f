//! Rows go in, rows come out: whatever is sealed, pruned, merged, deleted.

use std::ops::RangeInclusive;

use arrow_array::RecordBatch;
use parquet::basic::Compression;
use proptest::prelude::*;
use threadline_model::clock::Clock;
use threadline_model::columns::Batch;
use threadline_model::id::TraceId;
use threadline_model::schema::Table;

use super::testing::{Body, NOON, Row, batch, environment};
use super::*;
use crate::Prune;
use crate::{IndexPlan, RetentionRule, TermList, ValueTest, VerifyReport};

const NODE: [u8; 16] = [7; 16];

pub(crate) fn open(env: &Env, options: &Options) -> Sealed {
    Sealed::open(Path::new("data"), options, env.clone(), NODE, false).unwrap()
}

/// Reads rows back from a batch.
fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let columns = Batch::new(batch);
    let json = batch.column_by_name("body_json").map(|array| array.as_boolean().clone());
    (0..batch.num_rows())
        .map(|row| {
            let body = columns.str("body").get(row).map(str::to_owned);
            let is_json = json.as_ref().is_some_and(|json| {
                use arrow_array::Array as _;
                json.is_valid(row) && json.value(row)
            });
            Row {
                seq: columns.int("seq").get(row).unwrap(),
                ts_nano: columns.time_unix_nano(row),
                service: columns.str("service").get(row).map(str::to_owned),
                severity: columns.int("severity_number").get(row).unwrap_or(0) as i32,
                event: columns.str("event_name").get(row).unwrap_or_default().to_owned(),
                trace: columns.trace_id(row).map(|id| id.0),
                span: columns.span_id(row).map(|id| id.0),
                body: match body {
                    None => Body::None,
                    Some(text) if is_json => Body::Json(text),
                    Some(text) => Body::Text(text),
                },
                status: columns.int("http.response.status_code").get(row),
                extra: columns
                    .str("attrs")
                    .get(row)
                    .map(|attrs| {
                        threadline_model::value::members(attrs)
                            .map(|(key, value)| (key.into_owned(), value.display().into_owned()))
                            .collect()
                    })
                    .unwrap_or_default(),
            }
        })
        .collect()
}

/// All rows that a scan with `prune` yields, by sequence number; each file's rows come in file order.
pub(crate) fn scan(sealed: &Sealed, prune: &Prune) -> Vec<Row> {
    let mut rows = Vec::new();
    for file in &sealed.catalogue().logs.files {
        let mut of_file: Vec<Row> = Vec::new();
        for batch in file.scan(None, prune).unwrap() {
            let batch = batch.unwrap();
            assert!(batch.num_rows() <= 8192);
            of_file.extend(rows_of(&batch));
        }
        let order = |row: &Row| (row.service.clone(), row.ts_nano, row.seq);
        assert!(of_file.windows(2).all(|pair| order(&pair[0]) < order(&pair[1])));
        rows.extend(of_file);
    }
    rows.sort_by_key(|row| row.seq);
    rows
}

fn fits(row: &Row, prune: &Prune) -> bool {
    let within = |range: &Option<RangeInclusive<i64>>, value: i64| {
        range.as_ref().is_none_or(|range| range.contains(&value))
    };
    within(&prune.ts, row.ts_nano.div_euclid(1000))
        && within(&prune.seq, row.seq)
        && prune.severity.as_ref().is_none_or(|range| range.contains(&row.severity))
        && prune
            .services
            .as_ref()
            .is_none_or(|names| row.service.as_ref().is_some_and(|name| names.contains(name)))
        && prune.trace_ids.as_ref().is_none_or(|ids| row.trace.is_some_and(|id| ids.contains(&TraceId(id))))
}

const TRACE: [u8; 16] = [0xab; 16];
const SPAN: [u8; 8] = [0xcd; 8];

fn body() -> impl Strategy<Value = Body> {
    let part = prop_oneof![
        Just("ab".repeat(16)),
        Just("AB".repeat(16)),
        Just("cd".repeat(8)),
        Just("\u{1}".to_owned()),
        Just("\u{2}".to_owned()),
        Just("\u{3}".to_owned()),
        "[ -~é]{0,8}",
    ];
    let text = proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat());
    prop_oneof![
        1 => Just(Body::None),
        6 => text.prop_map(Body::Text),
        1 => Just(Body::Json("[\"cdcdcdcdcdcdcdcd\"]".to_owned())),
    ]
}

pub(crate) fn row() -> impl Strategy<Value = Row> {
    (
        0i64..3 * 3_600_000_000_000,
        proptest::option::of(prop_oneof![Just("cart"), Just("shop"), Just(""), Just("ü")]),
        prop_oneof![Just(0), 1i32..25],
        proptest::option::of(prop_oneof![
            Just(TRACE),
            any::<[u8; 16]>().prop_map(|mut id| {
                id[0] |= 1;
                id
            })
        ]),
        proptest::option::of(Just(SPAN)),
        body(),
        proptest::option::of(any::<i64>()),
        proptest::collection::vec(("[a-z]{1,3}", "[a-z]{0,3}"), 0..2),
    )
        .prop_map(|(offset, service, severity, trace, span, body, status, extra)| Row {
            seq: 0,
            ts_nano: NOON * 1000 + offset,
            service: service.map(str::to_owned),
            severity,
            event: if severity == 3 { "security.authn".to_owned() } else { String::new() },
            trace,
            span,
            body,
            status,
            extra,
        })
}

fn rows(max: usize) -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(row(), 1..max).prop_map(|mut rows| {
        for (seq, row) in rows.iter_mut().enumerate() {
            row.seq = seq as i64 + 1;
        }
        rows
    })
}

fn prune() -> impl Strategy<Value = Prune> {
    let hours = 3 * 3_600_000_000i64;
    (
        proptest::option::of((0..hours, 0..hours / 4)),
        proptest::option::of((0i64..3000, 0i64..200)),
        proptest::option::of(proptest::collection::vec(
            prop_oneof![Just("cart".to_owned()), Just("none".to_owned()), Just(String::new())],
            0..3,
        )),
        proptest::option::of((-1i32..26, 0i32..6)),
        proptest::option::weighted(0.2, Just(vec![TraceId(TRACE)])),
    )
        .prop_map(|(ts, seq, services, severity, trace_ids)| Prune {
            ts: ts.map(|(from, len)| NOON + from..=NOON + from + len),
            seq: seq.map(|(from, len)| from..=from + len),
            trace_ids,
            services,
            severity: severity.map(|(from, len)| from..=from + len),
            index: IndexPlan::All,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_sealed_is_read_back(rows in rows(200), split in 0usize..200, elide_ids: bool) {
        let (_, _, env) = environment();
        let options = Options { elide_ids, ..Options::default() };
        let sealed = open(&env, &options);
        let layout = Arc::clone(&sealed.catalogue().logs.layout);
        let (one, two) = rows.split_at(split.min(rows.len()));
        let batches: Vec<_> =
            [one, two].into_iter().filter(|rows| !rows.is_empty()).map(|rows| batch(&layout, rows)).collect();
        sealed.seal(Table::Logs, &batches, rows.len() as i64).unwrap();
        prop_assert_eq!(&scan(&sealed, &Prune::default()), &rows);
        // Again, and after a restart: nothing is added.
        sealed.seal(Table::Logs, &batches, rows.len() as i64).unwrap();
        drop(sealed);
        let sealed = open(&env, &options);
        sealed.seal(Table::Logs, &batches, rows.len() as i64).unwrap();
        prop_assert_eq!(sealed.catalogue().logs.sealed_seq, rows.len() as i64);
        prop_assert_eq!(scan(&sealed, &Prune::default()), rows);
    }

    #[test]
    fn pruning_loses_no_row(rows in rows(2500), prunes in proptest::collection::vec(prune(), 8)) {
        let (_, _, env) = environment();
        let sealed = open(&env, &Options::default());
        let layout = Arc::clone(&sealed.catalogue().logs.layout);
        sealed.seal(Table::Logs, &[batch(&layout, &rows)], rows.len() as i64).unwrap();
        for prune in prunes {
            let want: Vec<_> = rows.iter().filter(|row| fits(row, &prune)).collect();
            let got = scan(&sealed, &prune);
            let got: Vec<_> = got.iter().filter(|row| fits(row, &prune)).collect();
            prop_assert_eq!(got, want, "{:?}", prune);
        }
    }
}

/// What a store of small files does in a test of maintenance.
#[derive(Clone, Debug)]
enum Step {
    Seal(Vec<Row>),
    Maintain,
    Erase(String),
    Wait(i64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(row(), 1..30).prop_map(Step::Seal),
        4 => Just(Step::Maintain),
        1 => prop_oneof![Just("cart".to_owned()), Just("shop".to_owned())].prop_map(Step::Erase),
        2 => (0i64..4).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ]
}

fn maintained_options() -> Options {
    let rule = |service: Option<&str>, event: Option<&str>, hours: u64| RetentionRule {
        table: Some(Table::Logs),
        service: service.map(str::to_owned),
        event: event.map(str::to_owned),
        age_max: Duration::from_secs(hours * 3600),
    };
    Options {
        compact_rows: 200,
        pack_files_min: 2,
        threads: false,
        retention: vec![
            rule(None, Some("security.*"), 9),
            rule(Some("cart"), None, 5),
            rule(Some("shop"), None, 7),
        ],
        ..Options::default()
    }
}

/// Hours a row is kept under [`maintained_options`].
fn kept_hours(row: &Row) -> Option<i64> {
    match row.service.as_deref() {
        _ if row.event.starts_with("security.") => Some(9),
        Some("cart") => Some(5),
        Some("shop") => Some(7),
        _ => None,
    }
}

pub(crate) fn is_service(name: &str) -> impl Fn(&RecordBatch) -> Result<BooleanArray, StoreError> {
    move |batch: &RecordBatch| {
        let service = Batch::new(batch).str("service");
        Ok((0..batch.num_rows()).map(|row| service.get(row).map(|service| service == name)).collect())
    }
}

fn assert_intact(sealed: &Sealed) -> VerifyReport {
    let mut report = VerifyReport::default();
    sealed.verify(&mut report).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    report
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn maintenance_keeps_what_it_must(steps in proptest::collection::vec(step(), 1..25)) {
        let (disk, clock, env) = environment();
        let options = maintained_options();
        let mut sealed = open(&env, &options);
        let mut model: Vec<Row> = Vec::new();
        let mut seq = 0;
        for step in steps {
            let held = sealed.catalogue();
            let before = held.logs.files.iter().map(|file| file.meta().rows).sum::<u64>();
            match step {
                Step::Seal(mut rows) => {
                    for row in &mut rows {
                        seq += 1;
                        row.seq = seq;
                    }
                    let layout = Arc::clone(&sealed.catalogue().logs.layout);
                    sealed.seal(Table::Logs, &[batch(&layout, &rows)], seq).unwrap();
                    model.extend(rows);
                }
                Step::Maintain => {
                    while sealed.maintain().unwrap() {}
                    // Whole hours that are past a row's time are gone; a younger row stays.
                    let now = clock.now_us();
                    let of_files = scan(&sealed, &Prune::default());
                    let gone = |row: &Row, lag: i64| kept_hours(row).is_some_and(|hours| {
                        row.ts_nano / 1000 + (hours + lag) * rows::HOUR_US < now
                    });
                    prop_assert!(of_files.iter().all(|row| !gone(row, 1)));
                    model.retain(|row| !gone(row, 0) || of_files.iter().any(|kept| kept.seq == row.seq));
                }
                Step::Erase(service) => {
                    let had = model.len();
                    model.retain(|row| row.service.as_ref() != Some(&service));
                    let erasure = sealed.erase(Table::Logs, &is_service(&service), "asked").unwrap();
                    prop_assert_eq!(erasure.rows as usize, had - model.len());
                }
                Step::Wait(hours) => {
                    clock.0.fetch_add(hours * rows::HOUR_US, std::sync::atomic::Ordering::Relaxed);
                }
                Step::Reopen => {
                    drop(sealed);
                    sealed = open(&env, &options);
                }
            }
            prop_assert_eq!(&scan(&sealed, &Prune::default()), &model);
            assert_intact(&sealed);
            // What was held before the step is still read.
            let mut after = 0;
            for file in &held.logs.files {
                after += file.scan(Some(&["seq"]), &Prune::default()).unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>();
            }
            prop_assert_eq!(after as u64, before);
            drop(held);
            let on_disk = disk.dump().into_keys().filter(|path| path.extension().is_some_and(|e| e == "parquet"));
            let files = sealed.catalogue().logs.files.len();
            prop_assert_eq!(on_disk.filter(|path| !path.to_string_lossy().contains("_delta_log")).count(), files);
        }
    }
}

#[test]
fn a_changed_byte_is_found() {
    let (disk, _, env) = environment();
    let options = Options { compact_rows: 1000, threads: false, ..Options::default() };
    let sealed = open(&env, &options);
    let layout = Arc::clone(&sealed.catalogue().logs.layout);
    for seq in 1..=5 {
        let row = Row {
            seq,
            ts_nano: NOON * 1000 + seq,
            service: Some(if seq == 5 { "cart" } else { "shop" }.to_owned()),
            body: Body::Text(format!("body {seq}")),
            ..Row::default()
        };
        sealed.seal(Table::Logs, &[batch(&layout, &[row])], seq).unwrap();
    }
    assert!(sealed.maintain().unwrap());
    sealed.erase(Table::Logs, &is_service("cart"), "asked by the person").unwrap();
    let report = assert_intact(&sealed);
    assert_eq!((report.files, report.rows, report.merkle_leaves), (1, 4, 9));
    drop(sealed);
    for (path, bytes) in disk.dump() {
        if path.ends_with("merkle.key") || path.ends_with("merkle.pub") {
            continue;
        }
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 60) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x20;
            disk.overwrite(&path, bad);
            let mut report = VerifyReport::default();
            match Sealed::open(Path::new("data"), &options, env.clone(), NODE, true) {
                Ok(sealed) => sealed.verify(&mut report).unwrap(),
                Err(error) => report.findings.push(error.to_string()),
            }
            assert!(!report.findings.is_empty(), "{} at {at}: {}", path.display(), bytes[at] as char);
        }
        disk.overwrite(&path, bytes);
    }
}

/// Compression of the columns of all files.
fn compressions(sealed: &Sealed) -> Vec<bool> {
    let drafts = sealed.catalogue().logs.files.iter().map(|file| file.meta().draft).collect::<Vec<_>>();
    let zstd = |file: &SealedFile| {
        let footer = file.footer().unwrap();
        let columns = footer.arrow.metadata().row_groups().iter().flat_map(|group| group.columns());
        columns.map(|column| matches!(column.compression(), Compression::ZSTD(_))).collect::<Vec<_>>()
    };
    for (file, draft) in sealed.catalogue().logs.files.iter().zip(&drafts) {
        assert!(zstd(file).iter().all(|zstd| zstd != draft));
    }
    drafts
}

#[test]
fn a_draft_is_written_again() {
    let (_, clock, env) = environment();
    let options = Options { compact_rows: 128, threads: false, ..Options::default() };
    let sealed = open(&env, &options);
    let mut seq = 0;
    let mut all = Vec::new();
    let mut seal = |sealed: &Sealed, hours: i64, count: i64| {
        let row = |at| {
            let body = Body::Text(format!("a body of some length, the one with number {at}"));
            Row { seq: at, ts_nano: (NOON + hours * rows::HOUR_US + at) * 1000, body, ..Row::default() }
        };
        let new: Vec<Row> = (seq + 1..=seq + count).map(row).collect();
        seq += count;
        let layout = Arc::clone(&sealed.catalogue().logs.layout);
        sealed.seal(Table::Logs, &[batch(&layout, &new)], seq).unwrap();
        all.extend(new);
        all.clone()
    };
    let wait = |seconds: i64| clock.0.fetch_add(seconds * 1_000_000, std::sync::atomic::Ordering::Relaxed);
    // Rows of an hour that is over, and very few rows, are written once.
    seal(&sealed, -5, 20);
    seal(&sealed, 0, 1);
    assert_eq!(compressions(&sealed), [false, false]);
    let rows = seal(&sealed, 0, 20);
    assert_eq!(compressions(&sealed).iter().filter(|draft| **draft).count(), 1);
    assert_eq!(scan(&sealed, &Prune::default()), rows);
    assert!(!sealed.maintain().unwrap(), "the hour may still bring more");
    // Late rows keep an hour from being over.
    wait(3600 + 590);
    seal(&sealed, 0, 1);
    wait(20);
    assert!(!sealed.maintain().unwrap());
    wait(20);
    while sealed.maintain().unwrap() {}
    assert_eq!(compressions(&sealed), [false, false]);
    // One that stays alone is written again too.
    seal(&sealed, 1, 20);
    assert_eq!(compressions(&sealed).iter().filter(|draft| **draft).count(), 1);
    wait(3600 + 600);
    while sealed.maintain().unwrap() {}
    assert_eq!(compressions(&sealed), [false, false, false]);
    let rows = seal(&sealed, -9, 1);
    assert_eq!(scan(&sealed, &Prune::default()), rows);
    assert_intact(&sealed);
}

#[test]
fn the_oldest_hours_go_when_files_are_too_large() {
    let (_, _, env) = environment();
    let mut options = Options { threads: false, ..Options::default() };
    let sealed = open(&env, &options);
    let layout = Arc::clone(&sealed.catalogue().logs.layout);
    let rows: Vec<Row> = (1..=6)
        .map(|seq| Row { seq, ts_nano: (NOON + (6 - seq) * rows::HOUR_US) * 1000, ..Row::default() })
        .collect();
    sealed.seal(Table::Logs, &[batch(&layout, &rows)], 6).unwrap();
    let bytes: u64 = sealed.catalogue().logs.files.iter().map(|file| file.meta().bytes).sum();
    drop(sealed);
    options.sealed_bytes_max = Some(bytes / 2);
    let sealed = open(&env, &options);
    assert!(sealed.maintain().unwrap());
    assert!(!sealed.maintain().unwrap());
    assert_eq!(scan(&sealed, &Prune::default()).iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(assert_intact(&sealed).tombstones, 3);
    assert_eq!(sealed.counters().deleted_rows, 3);
}

#[test]
fn keys_seen_often_get_a_column() {
    let (_, _, env) = environment();
    let options = Options::default();
    let sealed = open(&env, &options);
    let layout = Arc::clone(&sealed.catalogue().logs.layout);
    let rows: Vec<Row> = (1..=1500)
        .map(|seq| Row {
            seq,
            ts_nano: NOON * 1000 + seq,
            extra: vec![("shop.cart".to_owned(), "a".to_owned()), (format!("rare{seq}"), String::new())],
            ..Row::default()
        })
        .collect();
    sealed.seal(Table::Logs, &[batch(&layout, &rows)], 1500).unwrap();
    let evolved = Arc::clone(&sealed.catalogue().logs.layout);
    assert_eq!(evolved.promoted.last().map(|key| &*key.key), Some("shop.cart"));
    assert_eq!(evolved.evolved(), 1);
    let row = Row { seq: 1501, ..rows[0].clone() };
    sealed.seal(Table::Logs, &[batch(&evolved, &[row])], 1501).unwrap();
    drop(sealed);
    let sealed = open(&env, &options);
    assert_eq!(sealed.catalogue().logs.layout, evolved);
    assert_eq!(scan(&sealed, &Prune::default()).len(), 1501);
    assert_intact(&sealed);
}

#[test]
fn a_checkpoint_stands_for_the_commits_before_it() {
    let (disk, _, env) = environment();
    let options = Options { threads: false, ..Options::default() };
    let sealed = open(&env, &options);
    let layout = Arc::clone(&sealed.catalogue().logs.layout);
    for seq in 1..=101 {
        let row = Row { seq, ts_nano: (NOON + seq * rows::HOUR_US) * 1000, ..Row::default() };
        sealed.seal(Table::Logs, &[batch(&layout, &[row])], seq).unwrap();
        if seq == 100 {
            sealed.maintain().unwrap();
        }
    }
    drop(sealed);
    let last = Path::new("data/tables/default/logs/_delta_log/_last_checkpoint");
    assert!(disk.dump().contains_key(last));
    let sealed = open(&env, &options);
    assert_eq!(scan(&sealed, &Prune::default()).len(), 101);
    assert_eq!(sealed.catalogue().logs.sealed_seq, 101);
    assert_intact(&sealed);
    drop(sealed);
    // A damaged one costs time, not data, and is told.
    disk.overwrite(last, b"{\"version\":7,\"size\":1}".to_vec());
    let sealed = open(&env, &options);
    assert_eq!(scan(&sealed, &Prune::default()).len(), 101);
    let mut report = VerifyReport::default();
    sealed.verify(&mut report).unwrap();
    assert_eq!(report.findings.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What an index lets through has every row that it was asked for, and its counts are exact.
    #[test]
    fn indexes_find_every_row(rows in proptest::collection::vec(row(), 1..60), repeat in prop_oneof![Just(1usize), Just(40)]) {
        let (_, _, env) = environment();
        let sealed = open(&env, &Options::default());
        // Many rows, so that there are several granules.
        let rows: Vec<Row> = (0..repeat)
            .flat_map(|_| rows.iter().cloned())
            .enumerate()
            .map(|(at, row)| Row { seq: at as i64 + 1, ..row })
            .collect();
        let layout = Arc::clone(sealed.catalogue().layout(Table::Logs));
        sealed.seal(Table::Logs, &[batch(&layout, &rows)], rows.len() as i64).unwrap();
        let texts: Vec<&str> =
            rows.iter().filter_map(|row| if let Body::Text(text) = &row.body { Some(text.as_str()) } else { None }).collect();
        let runs = |text: &str| -> Vec<String> {
            let lower = text.to_ascii_lowercase();
            lower
                .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()))
                .filter(|run| !run.is_empty() && run.len() < 64)
                .map(str::to_owned)
                .collect()
        };
        for term in texts.iter().flat_map(|text| runs(text)).take(20) {
            // Own ids, alone or two next to each other, are no terms.
            let own = matches!(term.len(), 16 | 32 | 48) && term.bytes().all(|byte| byte.is_ascii_hexdigit());
            let with = |row: &Row| matches!(&row.body, Body::Text(text) if runs(text).contains(&term));
            if own {
                continue;
            }
            let prune = Prune { index: IndexPlan::Term(TermList::Plain, term.clone()), ..Prune::default() };
            let found = scan(&sealed, &prune);
            for row in rows.iter().filter(|row| with(row)) {
                prop_assert!(found.iter().any(|found| found.seq == row.seq), "{term:?} of {row:?}");
            }
            let counted: u64 =
                sealed.catalogue().logs.files.iter().map(|file| file.term_rows(&term).unwrap().unwrap()).sum();
            prop_assert_eq!(counted, rows.iter().filter(|row| with(row)).count() as u64, "{}", term);
        }
        for service in ["cart", "shop", "ü", "nosuch"] {
            let test = ValueTest::Equals(service.to_owned());
            let index = IndexPlan::Value { column: "service".to_owned(), test };
            let found = scan(&sealed, &Prune { index, ..Prune::default() });
            for row in rows.iter().filter(|row| row.service.as_deref() == Some(service)) {
                prop_assert!(found.iter().any(|found| found.seq == row.seq));
            }
        }
        let mut want: BTreeMap<(Option<String>, i64, i32), u64> = BTreeMap::new();
        for row in &rows {
            let minute = row.ts_nano.div_euclid(60_000_000_000) * 60_000_000;
            *want.entry((row.service.clone(), minute, row.severity)).or_default() += 1;
        }
        let mut got: BTreeMap<(Option<String>, i64, i32), u64> = BTreeMap::new();
        for file in &sealed.catalogue().logs.files {
            let rollup = file.rollup().unwrap();
            for entry in &rollup.entries {
                let service = entry.service.map(|at| rollup.services[at as usize].clone());
                *got.entry((service, entry.minute_us, entry.class)).or_default() += entry.rows;
            }
        }
        prop_assert_eq!(got, want);
        let mut traces: Vec<[u8; 16]> = Vec::new();
        let mut whole = true;
        for file in &sealed.catalogue().logs.files {
            whole &= file.each_trace(&mut |id| traces.push(*id)).unwrap();
        }
        prop_assert!(whole, "every trace id lies in a dictionary");
        traces.sort_unstable();
        traces.dedup();
        let mut want: Vec<[u8; 16]> = rows.iter().filter_map(|row| row.trace).collect();
        want.sort_unstable();
        want.dedup();
        prop_assert_eq!(traces, want);
    }
}

#[test]
fn maintenance_takes_more_when_drafts_pile_up() {
    for (set, drafts, want) in [
        (0.5, 0, 0.5),
        (0.5, 32, 0.5),
        (0.5, 48, 0.75),
        (0.5, 64, 1.0),
        (0.5, 6400, 1.0),
        (0.25, 64, 0.5),
        (0.0, 10, 0.01),
        (0.0, 320, 0.1),
        (1.0, 0, 1.0),
        (7.0, 0, 1.0),
    ] {
        let share = cpu_share(set, drafts);
        assert!((share - want).abs() < 1e-9, "{set} {drafts}: {share}, not {want}");
    }
    let (_, _, env) = environment();
    let options = Options { compact_rows: 128, threads: false, ..Options::default() };
    let sealed = open(&env, &options);
    let layout = Arc::clone(&sealed.catalogue().logs.layout);
    let set = options.maintenance_cpu_share;
    for seal in 0..48 {
        let row = |at| Row { seq: at, ts_nano: (NOON + at) * 1000, ..Row::default() };
        let rows: Vec<Row> = (seal * 3 + 1..=seal * 3 + 3).map(row).collect();
        sealed.seal(Table::Logs, &[batch(&layout, &rows)], seal * 3 + 3).unwrap();
        let want = set * (f64::from(seal as i32 + 1) / 32.0).max(1.0);
        assert!((sealed.cpu_share() - want).abs() < 1e-9, "{seal}: {}, not {want}", sealed.cpu_share());
    }
    while sealed.maintain().unwrap() {}
    assert!((sealed.cpu_share() - set).abs() < 1e-9, "{}", sealed.cpu_share());
}

#[test]
fn maintenance_rests_once_for_what_it_used() {
    for (cpu_ms, took_ms, share, want_ms) in [
        (100, 100, 0.25, 300),
        // It has rested on its way: not once more.
        (100, 400, 0.25, 0),
        (100, 250, 0.25, 150),
        // It waited for the disk, or for others that used the core.
        (100, 5_000, 0.25, 0),
        (100, 100, 0.5, 100),
        (100, 100, 1.0, 0),
    ] {
        let owed = owed(Duration::from_millis(cpu_ms), Duration::from_millis(took_ms), share);
        assert_eq!(owed, Duration::from_millis(want_ms), "{cpu_ms} {took_ms} {share}");
    }
}
