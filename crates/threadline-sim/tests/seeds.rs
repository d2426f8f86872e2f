//! Seeds of the simulation: 200, or as many as `THREADLINE_SIM_SEEDS` says (the nightly mode runs 10,000).

use std::sync::atomic::{AtomicU64, Ordering};

use threadline_sim::Outcome;

#[test]
fn every_seed_holds() {
    let count: u64 =
        std::env::var("THREADLINE_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failures = Vec::new();
    let mut total = Outcome::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = (Outcome::default(), Vec::new());
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= count {
                            return mine;
                        }
                        match threadline_sim::run(seed) {
                            Ok(outcome) => add(&mut mine.0, outcome),
                            Err(what) => mine.1.push(what),
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            let (outcome, failed) = worker.join().expect("a seed panicked");
            add(&mut total, outcome);
            failures.extend(failed);
        }
    });
    assert!(failures.is_empty(), "{} of {count} seeds failed:\n{}", failures.len(), failures.join("\n"));
    println!("{count} seeds: {total:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(total.crashes > count && total.acked > 5 * count && total.failed > count / 10, "{total:?}");
    assert!(total.files > count / 2 && total.erased > 0 && total.tailed > 10 * count, "{total:?}");
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    for seed in [3, 17, 71] {
        assert_eq!(threadline_sim::run(seed), threadline_sim::run(seed));
    }
}

fn add(total: &mut Outcome, one: Outcome) {
    total.crashes += one.crashes;
    total.acked += one.acked;
    total.failed += one.failed;
    total.records += one.records;
    total.tailed += one.tailed;
    total.erased += one.erased;
    total.files += one.files;
}
