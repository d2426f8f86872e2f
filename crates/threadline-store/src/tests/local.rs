//! The store on the machine's own disk, with its threads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::{Env, Snapshot};

fn threaded() -> Options {
    Options { threads: true, disk_free_bytes_min: 0, ..small() }
}

fn open(root: &Path) -> Store {
    Store::open(root, threaded(), Env::local()).unwrap()
}

fn records_of(snapshot: &Snapshot) -> Vec<u64> {
    let files = snapshot.logs.files.iter().flat_map(|file| file.scan(None, &Prune::default()).unwrap());
    let batches: Vec<RecordBatch> = files.map(Result::unwrap).chain(snapshot.logs.memory.clone()).collect();
    batches.iter().flat_map(records).collect()
}

#[test]
fn every_snapshot_has_all_that_was_acknowledged_and_nothing_twice() {
    const THREADS: u64 = 4;
    const APPENDS: u64 = 60;
    const ROWS: u64 = 5;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let acknowledged: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    let check = |store: &Store| {
        let before: Vec<u64> = acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        let found = records_of(&store.snapshot());
        let unique: BTreeSet<u64> = found.iter().copied().collect();
        assert_eq!(found.len(), unique.len(), "a row is there twice");
        for (thread, count) in before.into_iter().enumerate() {
            let first = thread as u64 * 1_000_000;
            assert!((first..first + count * ROWS).all(|record| unique.contains(&record)), "a row is missing");
        }
        unique
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, acknowledged) = (store.clone(), &acknowledged);
                scope.spawn(move || {
                    for index in 0..APPENDS {
                        let first = thread * 1_000_000 + index * ROWS;
                        let ack = store.append_wait(append(first, first, ROWS as usize)).unwrap();
                        assert!(!ack.duplicate);
                        acknowledged[thread as usize].fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let sealer = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                store.seal().unwrap();
            }
        });
        let reader = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                check(&store);
            }
        });
        let follower = scope.spawn(|| {
            let mut tail = store.tail(1);
            let mut seen = Vec::new();
            while seen.len() < (THREADS * APPENDS * ROWS) as usize {
                let batches = tail.next(100).unwrap();
                if batches.is_empty() {
                    tail.wait(Duration::from_secs(1));
                }
                seen.extend(batches.iter().flat_map(|batch| seqs(&batch.batch)));
            }
            assert_eq!(seen, (1..=seen.len() as i64).collect::<Vec<_>>());
        });
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        let followed = follower.join();
        done.store(true, Ordering::SeqCst);
        for result in written.into_iter().chain([followed, sealer.join(), reader.join()]) {
            result.unwrap();
        }
    });
    assert_eq!(check(&store).len() as u64, THREADS * APPENDS * ROWS);
    drop(store);
    let store = open(dir.path());
    assert_eq!(check(&store).len() as u64, THREADS * APPENDS * ROWS);
    assert_eq!(store.stats().logs.memory_rows, 0, "the last clone sealed");
}

#[test]
fn one_process_writes_and_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append_wait(append(1, 0, 2)).unwrap();
    let second = Store::open(dir.path(), threaded(), Env::local()).err();
    assert!(matches!(second, Some(StoreError::Locked { .. })), "{second:?}");
    let read = || records_of(&Store::open_read_only(dir.path(), Env::local()).unwrap().snapshot());
    assert_eq!(read(), [0, 1]);
    store.seal().unwrap();
    assert_eq!(read(), [0, 1]);
    store.close().unwrap();
    assert_eq!(read(), [0, 1]);
    drop(open(dir.path()));
}

#[test]
fn readers_meet_a_busy_writer_and_find_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for id in 0..60 {
                store.append_wait(append_large(id)).unwrap();
                if id % 10 == 9 {
                    store.seal().unwrap();
                }
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let mut found = records_of(&Store::open_read_only(dir.path(), Env::local()).unwrap().snapshot());
            found.sort_unstable();
            assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
            assert!(found.len() >= last, "rows went away");
            last = found.len();
        }
        writer.join().unwrap();
    });
}

#[test]
fn the_last_clone_may_go_inside_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (sender, receiver) = std::sync::mpsc::channel();
    let clone = store.clone();
    store.append(
        append(1, 0, 1),
        Box::new(move |outcome| {
            drop(clone);
            drop(sender.send(outcome));
        }),
    );
    drop(store);
    assert!(receiver.recv().unwrap().is_ok());
}
