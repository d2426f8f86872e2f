//! Filter packs change what is read, never what is found.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;
use threadline_model::id::TraceId;
use threadline_model::schema::Table;

use super::testing::{Body, MemoryDisk, NOON, Row, batch, environment};
use super::tests::{is_service, open, row, scan};
use super::*;
use crate::{Finder, IndexPlan, Prune, TermList};

/// No compaction; packs of few files.
fn options() -> Options {
    Options { compact_rows: 0, pack_files_min: 4, threads: false, ..Options::default() }
}

fn term(term: &str) -> Prune {
    Prune { index: IndexPlan::Term(TermList::Plain, term.to_owned()), ..Prune::default() }
}

fn trace_of(n: u16) -> [u8; 16] {
    let mut id = [9; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    id
}

fn trace(n: u16) -> Prune {
    Prune { trace_ids: Some(vec![TraceId(trace_of(n))]), ..Prune::default() }
}

/// Seals `count` files with one row each: number, term and trace `n`, service `even` or `odd`.
fn seal_files(sealed: &Sealed, from: u16, count: u16) {
    let layout = Arc::clone(sealed.catalogue().layout(Table::Logs));
    let rows: Vec<Row> = (from..from + count)
        .map(|n| Row {
            seq: i64::from(n) + 1,
            ts_nano: (NOON + i64::from(n) * rows::HOUR_US) * 1000,
            service: Some(if n % 2 == 0 { "even" } else { "odd" }.to_owned()),
            trace: Some(trace_of(n)),
            body: Body::Text(format!("common needle{n:05}")),
            ..Row::default()
        })
        .collect();
    sealed.seal(Table::Logs, &[batch(&layout, &rows)], i64::from(from + count)).unwrap();
}

fn packs(disk: &MemoryDisk) -> Vec<PathBuf> {
    disk.dump().into_keys().filter(|path| path.extension().is_some_and(|e| e == "pack")).collect()
}

/// Sequence numbers found, and files opened for it.
fn find(sealed: &Sealed, disk: &MemoryDisk, prune: &Prune) -> (Vec<i64>, u64) {
    let before = disk.opens.load(Relaxed);
    let found = scan(sealed, prune).iter().map(|row| row.seq).collect();
    (found, disk.opens.load(Relaxed) - before)
}

#[test]
fn what_no_file_has_opens_no_file() {
    let (disk, _, env) = environment();
    let sealed = open(&env, &options());
    seal_files(&sealed, 0, 100);
    assert!(find(&sealed, &disk, &term("nowhere")).1 >= 100);
    assert!(sealed.maintain().unwrap());
    assert!(!sealed.maintain().unwrap());
    assert_eq!(packs(&disk).len(), 1);
    drop(sealed);
    for prune in [term("nowhere"), trace(500)] {
        let sealed = open(&env, &options());
        let (found, opens) = find(&sealed, &disk, &prune);
        assert!(found.is_empty() && opens <= 4, "{opens}");
    }
    for prune in [term("needle00042"), trace(42)] {
        let sealed = open(&env, &options());
        let (found, opens) = find(&sealed, &disk, &prune);
        assert!(found == [43] && opens <= 12, "{found:?} {opens}");
    }
    let sealed = open(&env, &options());
    let both = |a: &str, b: &str| {
        vec![IndexPlan::Term(TermList::Plain, a.to_owned()), IndexPlan::Term(TermList::Plain, b.to_owned())]
    };
    for (index, want, opens_max) in [
        (IndexPlan::And(both("common", "nowhere")), 0, 4),
        (IndexPlan::Or(both("nowhere", "neither")), 0, 4),
        (IndexPlan::Or(both("nowhere", "needle00007")), 1, 12),
        (IndexPlan::Trace(TraceId(trace_of(7))), 1, 12),
        (IndexPlan::Term(TermList::Plain, "common".to_owned()), 100, 1000),
    ] {
        let (found, opens) = find(&sealed, &disk, &Prune { index, ..Prune::default() });
        assert!(found.len() == want && opens <= opens_max, "{found:?} {opens}");
    }
}

#[test]
fn a_pack_does_not_tell_of_very_many_terms() {
    let (disk, _, env) = environment();
    let sealed = open(&env, &options());
    seal_files(&sealed, 0, 4);
    let layout = Arc::clone(sealed.catalogue().layout(Table::Logs));
    let rows: Vec<Row> = (5..70_005)
        .map(|seq| Row {
            seq,
            ts_nano: NOON * 1000 + seq,
            body: Body::Text(format!("w{seq}")),
            ..Row::default()
        })
        .collect();
    sealed.seal(Table::Logs, &[batch(&layout, &rows)], 70_004).unwrap();
    assert!(sealed.maintain().unwrap());
    drop(sealed);
    assert!(disk.dump()[&packs(&disk)[0]].len() < 2000);
    let sealed = open(&env, &options());
    assert!(find(&sealed, &disk, &term("w70004")).0.contains(&70_004));
    assert_eq!(find(&sealed, &disk, &trace(3)).0, [4]);
    drop(sealed);
    let sealed = open(&env, &options());
    // No row has a trace in the large file: that is told.
    assert!(find(&sealed, &disk, &trace(500)).1 <= 2);
    assert!((2..=4).contains(&find(&sealed, &disk, &term("w7nowhere")).1));
}

#[test]
fn packs_come_out_the_same() {
    let bytes = || {
        let (disk, _, env) = environment();
        let sealed = open(&env, &options());
        seal_files(&sealed, 0, 10);
        assert!(sealed.maintain().unwrap());
        disk.dump()
    };
    assert!(bytes() == bytes());
}

#[test]
fn a_damaged_pack_costs_time_only() {
    let (disk, _, env) = environment();
    let sealed = open(&env, &options());
    seal_files(&sealed, 0, 12);
    assert!(sealed.maintain().unwrap());
    drop(sealed);
    let path = packs(&disk).pop().unwrap();
    let good = disk.dump().remove(&path).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..good.len())
        .step_by(7)
        .map(|at| {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            bad
        })
        .collect();
    damaged.extend([0, 3, 15, 16, 200, good.len() - 1].map(|len| good[..len].to_vec()));
    damaged.push([good.as_slice(), &[0]].concat());
    for (case, bytes) in damaged.into_iter().enumerate() {
        disk.overwrite(&path, bytes);
        let sealed = open(&env, &options());
        for n in 0..12 {
            assert_eq!(find(&sealed, &disk, &term(&format!("needle{n:05}"))).0, [i64::from(n) + 1]);
            assert_eq!(find(&sealed, &disk, &trace(n)).0, [i64::from(n) + 1]);
        }
        // It is made again.
        assert!(sealed.maintain().unwrap());
        assert!(!sealed.maintain().unwrap());
        drop(sealed);
        let new = packs(&disk);
        assert_eq!(new.len(), 1);
        let sealed = open(&env, &options());
        let opens = find(&sealed, &disk, &term("nowhere")).1;
        // One filter in 256 cannot tell; then the file's own index does.
        assert!(opens <= 3, "case {case}: {opens}");
        drop(sealed);
        env.disk.remove(&new[0]).unwrap();
    }
}

#[test]
fn packs_are_replaced_when_files_go() {
    let (disk, _, env) = environment();
    let mut options = options();
    let sealed = open(&env, &options);
    seal_files(&sealed, 0, 40);
    assert!(sealed.maintain().unwrap());
    let first = packs(&disk);
    seal_files(&sealed, 40, 2);
    assert!(!sealed.maintain().unwrap(), "two files wait");
    let bytes: u64 = sealed.catalogue().logs.files.iter().map(|file| file.meta().bytes).sum();
    drop(sealed);
    // Six files stay, four of them in a pack that named forty.
    options.sealed_bytes_max = Some(bytes * 13 / 84);
    let sealed = open(&env, &options);
    while sealed.maintain().unwrap() {}
    let left = sealed.catalogue().logs.files.len();
    assert!((4..=8).contains(&left), "{left}");
    let second = packs(&disk);
    assert!(second.len() == 1 && second != first, "{second:?}");
    assert_eq!(find(&sealed, &disk, &term("needle00041")).0, [42]);
    assert!(find(&sealed, &disk, &term("nowhere")).1 <= 3);
    // An erasure leaves no pack that tells of the rows.
    sealed.erase(Table::Logs, &is_service("even"), "asked").unwrap();
    assert_eq!(packs(&disk), Vec::<PathBuf>::new());
    assert_eq!(find(&sealed, &disk, &term("needle00041")).0, [42]);
    drop(sealed);
    options.sealed_bytes_max = Some(1);
    let sealed = open(&env, &options);
    while sealed.maintain().unwrap() {}
    assert_eq!(packs(&disk), Vec::<PathBuf>::new());
}

#[test]
fn a_pack_that_cannot_be_written_loses_nothing() {
    let (disk, _, env) = environment();
    let sealed = open(&env, &options());
    seal_files(&sealed, 0, 10);
    disk.refuses_packs.store(true, Relaxed);
    assert!(matches!(sealed.maintain(), Err(StoreError::Io { .. })));
    assert_eq!(find(&sealed, &disk, &term("needle00003")).0, [4]);
    disk.refuses_packs.store(false, Relaxed);
    assert!(sealed.maintain().unwrap());
    assert_eq!(packs(&disk).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A scan yields the same rows with packs, and without.
    #[test]
    fn packs_change_no_answer(
        files in proptest::collection::vec(proptest::collection::vec(row(), 1..6), 4..12),
        extra in proptest::collection::vec("[a-c]{1,2}", 4),
        reopen: bool,
    ) {
        let (disk, _, env) = environment();
        let mut sealed = open(&env, &options());
        let layout = Arc::clone(sealed.catalogue().layout(Table::Logs));
        let mut seq = 0;
        let mut prunes: Vec<Prune> = extra.iter().map(|text| term(text)).collect();
        for mut rows in files {
            for row in &mut rows {
                seq += 1;
                row.seq = seq;
                if let Body::Text(text) = &row.body {
                    let lower = text.to_ascii_lowercase();
                    prunes.extend(lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|t| !t.is_empty()).map(term));
                }
                prunes.extend(row.trace.map(|id| Prune { trace_ids: Some(vec![TraceId(id)]), ..Prune::default() }));
            }
            sealed.seal(Table::Logs, &[batch(&layout, &rows)], seq).unwrap();
        }
        let nowhere = Prune { trace_ids: Some(vec![TraceId([0xee; 16]), TraceId([0xdd; 16])]), ..Prune::default() };
        prunes.push(nowhere);
        let pairs: Vec<Vec<IndexPlan>> =
            prunes.windows(2).map(|pair| pair.iter().map(|prune| prune.index.clone()).collect()).collect();
        let any = Finder::new("any", |_, each| each(0));
        for pair in pairs {
            let or = IndexPlan::Or(pair.clone());
            let with = IndexPlan::Or(vec![or.clone(), IndexPlan::Terms(TermList::Plain, any.clone())]);
            for index in [IndexPlan::And(pair), IndexPlan::And(vec![or.clone(), IndexPlan::Term(TermList::Plain, "ab".to_owned())]), or, with] {
                prunes.push(Prune { index, ..Prune::default() });
            }
        }
        let want: Vec<Vec<Row>> = prunes.iter().map(|prune| scan(&sealed, prune)).collect();
        while sealed.maintain().unwrap() {}
        prop_assert!(!packs(&disk).is_empty());
        if reopen {
            drop(sealed);
            sealed = open(&env, &options());
        }
        for (prune, want) in prunes.iter().zip(want) {
            prop_assert_eq!(scan(&sealed, prune), want, "{:?}", prune);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0u32..4) {
        packs::try_bytes(&bytes, count);
    }
}

/// `cargo test --release -p threadline-store --features stages --lib ten_thousand -- --nocapture`
#[cfg(feature = "stages")]
#[test]
fn ten_thousand_files() {
    let (disk, _, env) = environment();
    let sealed = open(&env, &Options { pack_files_min: usize::MAX, ..options() });
    let layout = Arc::clone(sealed.catalogue().layout(Table::Logs));
    let rows: Vec<Row> = (0..200_000)
        .map(|n: i64| Row {
            seq: n + 1,
            ts_nano: (NOON + (n / 20) * rows::HOUR_US) * 1000 + n % 20,
            service: Some("shop".to_owned()),
            trace: Some((n as u128 * 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_be_bytes())
                .filter(|id| id[0] != 0),
            body: Body::Text(format!(
                "order {n} of customer {} paid by card{} in {} ms",
                n % 977,
                n % 31,
                n * 7 % 4001
            )),
            ..Row::default()
        })
        .collect();
    sealed.seal(Table::Logs, &[batch(&layout, &rows)], 200_000).unwrap();
    drop(sealed);
    let needles = [term("qqneedle"), term("199999"), trace(1)];
    let measure = |name: &str, options: &Options| {
        let before = thread_cpu();
        let sealed = Sealed::open(Path::new("data"), options, env.clone(), [7; 16], true).unwrap();
        println!("{name}: open {:?}", thread_cpu() - before);
        drop(sealed);
        for prune in &needles {
            let sealed = Sealed::open(Path::new("data"), options, env.clone(), [7; 16], true).unwrap();
            for cold in [true, false] {
                let (before, opens) = (thread_cpu(), disk.opens.load(Relaxed));
                let files = sealed.catalogue().logs.files.clone();
                let rows: usize = files
                    .iter()
                    .flat_map(|file| file.scan(None, prune).unwrap().map(|batch| batch.unwrap().num_rows()))
                    .sum();
                let opens = disk.opens.load(Relaxed) - opens;
                println!(
                    "{name}: cold {cold}, {rows} rows, {opens} opens, {:?} for {:?}",
                    thread_cpu() - before,
                    prune.index
                );
            }
        }
    };
    let none = Options { pack_files_min: usize::MAX, ..options() };
    measure("without", &none);
    let with = Options { pack_files_min: 128, ..none.clone() };
    let sealed = open(&env, &with);
    let before = thread_cpu();
    let mut rounds = 0;
    while sealed.maintain().unwrap() {
        rounds += 1;
    }
    println!("{rounds} rounds of packing, {:?}", thread_cpu() - before);
    drop(sealed);
    let dump = disk.dump();
    let packs: Vec<usize> = packs(&disk).iter().map(|path| dump[path].len()).collect();
    println!("{} packs, {} bytes", packs.len(), packs.iter().sum::<usize>());
    measure("with", &with);
}
