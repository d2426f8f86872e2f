//! The thread of incidents without its thread: killed between any two of its steps, and opened again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use proptest::prelude::*;
use redb::backends::InMemoryBackend;
use redb::{ReadableDatabase as _, ReadableTable as _, StorageBackend};
use threadline_detect::incident::{Command, Matcher, Policy, Route};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, BatchId, Env, Options, Store};

use super::book::{Book, Entry};
use super::keeper::{Answer, Ask, Denied, Keeper, lock};
use super::{Alerts, Telling, finding, transition};
use crate::contract::Gatekeeper;

fn alerts() -> Alerts {
    let root = Route { wait_us: 0, reopen_us: 0, ..Route::new("root", &["ops"]) };
    Alerts { policy: Policy::new(root), ..Alerts::default() }
}

fn store(data: &Path) -> Store {
    let options = Options { disk_free_bytes_min: 0, ..Options::default() };
    Store::open(data, options, Env::local()).unwrap()
}

/// A keeper that nobody runs: its steps are taken one by one.
fn keeper(data: &Path, store: &Store) -> Keeper {
    let (_, asks) = sync_channel(1);
    keeper_of(store, Book::open(data, store.stats().last_seq + 1).unwrap(), asks)
}

fn keeper_of(store: &Store, book: Book, asks: Receiver<Ask>) -> Keeper {
    let stopping = Arc::new(AtomicBool::new(false));
    let (env, gatekeeper, telling) = (Env::local(), Gatekeeper::default(), Telling::default());
    Keeper::open(store.clone(), env, gatekeeper, book, alerts(), telling, asks, stopping).unwrap()
}

/// Keeps a finding as detection does.
fn find(store: &Store, id: u128, rule: &str) {
    find_with(store, id, rule, &[("level", "high")]);
}

fn find_with(store: &Store, id: u128, rule: &str, more: &[(&str, &str)]) {
    let env = Env::local();
    let now_us = env.clock.now_us();
    let mut builder = BatchBuilder::new(store.layout(Table::Logs), now_us, RecordLimits::default());
    let resource = [("service.name", Value::Str("threadline"))];
    builder.set_resource(&ResourceView { attributes: &resource, ..ResourceView::default() });
    let hex = format!("{id:032x}");
    let more: Vec<(String, &str)> =
        more.iter().map(|(key, value)| (format!("threadline.finding.{key}"), *value)).collect();
    let mut attributes = vec![
        ("threadline.finding.id", Value::Str(&hex)),
        ("security_rule.name", Value::Str(rule)),
        ("threadline.finding.entity.client.address", Value::Str("192.0.2.1")),
        ("threadline.finding.entity.service.name", Value::Str("shop")),
        ("threadline.finding.trace_ids", Value::Str("07070707070707070707070707070707,x")),
    ];
    attributes.extend(more.iter().map(|(key, value)| (key.as_str(), Value::Str(value))));
    let log = LogView {
        time_unix_nano: u64::try_from(now_us).unwrap() * 1000,
        event_name: "security.finding",
        body: Value::Str("found"),
        attributes: &attributes,
        ..LogView::default()
    };
    builder.push_log(&log, 0).unwrap();
    let batch = builder.finish().unwrap().unwrap();
    store.append_wait(Append { table: Table::Logs, id: BatchId(id), batch }).unwrap();
}

fn ask(keeper: &mut Keeper, command: Command) -> Answer {
    let (answer, answered) = sync_channel(1);
    keeper.asked(Ask { actor: "ann".to_owned(), command, answer });
    answered.try_recv().unwrap()
}

/// Notices in the outbox, as they are kept.
fn outbox(book: &Book) -> Vec<serde_json::Value> {
    const WAITING: redb::TableDefinition<'_, (&str, u64), &[u8]> = redb::TableDefinition::new("notify_waiting");
    let read = book.database().begin_read().unwrap();
    let Ok(table) = read.open_table(WAITING) else { return Vec::new() };
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    table.iter().unwrap().map(|entry| json(entry.unwrap().1.value())["notice"].clone()).collect()
}

/// Notices in the outbox: incident and number of the message, each with how often.
fn notices(book: &Book) -> BTreeMap<(u64, u64), usize> {
    let mut notices = BTreeMap::new();
    for notice in outbox(book) {
        let of = |name: &str| notice[name].as_u64().unwrap();
        *notices.entry((of("incident"), of("number"))).or_default() += 1;
    }
    notices
}

#[test]
fn findings_are_read_as_they_were_kept_from_memory_and_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    find(&store, 1, "a");
    store.seal().unwrap();
    find(&store, 2, "b");
    let (found, next) = finding::read(&store, 1).unwrap();
    let seen: Vec<(i64, &str, &str)> =
        found.iter().map(|one| (one.seq, one.rule.as_str(), one.level.as_str())).collect();
    assert_eq!(seen, [(1, "a", "high"), (2, "b", "high")]);
    assert_eq!(next, 3);
    assert_eq!(found[0].service(), Some("shop"));
    assert_eq!(found[0].trace_ids[0], "07".repeat(16));
    assert_eq!(finding::read(&store, 3).unwrap(), (vec![], 3));
    let alert = found[0].alert(&super::policy::Teams::default());
    let labels: Vec<String> = alert.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["client.address=192.0.2.1", "rule=a", "service=shop", "severity=high"]);
}

#[test]
fn a_book_of_another_layout_and_a_damaged_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("incidents/book.redb");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "not a database").unwrap();
    assert!(Book::open(folder.path(), 1).is_err());
    // It is left as it was, for whoever can make use of it.
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
}

#[test]
fn what_a_silence_mutes_is_kept_and_nobody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut keeper = keeper(folder.path(), &store);
    let shared = keeper.shared();
    let now_us = Env::local().clock.now_us();
    let command = Command::Silence {
        matchers: vec![Matcher::parse("rule=a").unwrap()],
        from_us: now_us,
        until_us: now_us + 3_600_000_000,
        comment: "a release".into(),
    };
    assert_eq!(ask(&mut keeper, command).unwrap().len(), 1);
    find(&store, 1, "a");
    find(&store, 2, "b");
    keeper.step();
    keeper.step();
    assert_eq!(lock(&shared).desk.incidents().count(), 2);
    assert_eq!(notices(&keeper.book()).into_keys().collect::<Vec<_>>(), [(2, 1)]);
    assert!(ask(&mut keeper, Command::Unsilence { silence: 1 }).is_ok());
    keeper.step();
    assert_eq!(notices(&keeper.book()).into_keys().collect::<Vec<_>>(), [(1, 1), (2, 1)]);
}

/// A disk that refuses to write when it is told to.
#[derive(Clone, Debug, Default)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn refuse(&self) -> std::io::Result<()> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(std::io::Error::other("no space left")),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.refuse()?;
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.refuse()?;
        self.bytes.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.refuse()?;
        self.bytes.write(offset, data)
    }
}

#[test]
fn what_the_disk_refused_has_not_happened_and_is_done_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (store, disk) = (store(folder.path()), Disk::default());
    let open = || keeper_of(&store, Book::on(disk.clone(), 1).unwrap(), sync_channel(1).1);
    let mut keeper = open();
    let (shared, status) = (keeper.shared(), keeper.status());
    find(&store, 1, "a");
    keeper.step();
    disk.full.store(true, Ordering::Relaxed);
    find(&store, 2, "b");
    keeper.step();
    disk.full.store(false, Ordering::Relaxed);
    // Said where people look, by whoever asks and by the figures; what was not kept is not shown.
    let said = lock(&status).clone();
    assert!(!said.running && said.problem.as_ref().is_some_and(|why| why.contains("restart")), "{said:?}");
    assert!(lock(&shared).off.is_some());
    assert!(matches!(ask(&mut keeper, Command::Acknowledge { incident: 1 }), Err(Denied::NotKept(_))));
    assert_eq!(keeper.turn(std::time::Duration::ZERO), None);
    drop((keeper, shared));
    let mut keeper = open();
    keeper.step();
    let shared = keeper.shared();
    let shared = lock(&shared);
    assert_eq!(shared.desk.incidents().count(), 2);
    assert!(shared.desk.incidents().all(|incident| incident.assignee.is_empty()));
    for id in [1, 2] {
        assert_eq!(keeper.book().timeline(id, &[]).unwrap().1.findings, 1);
    }
}

#[test]
fn however_much_people_want_what_is_found_is_read_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let book = Book::open(folder.path(), 1).unwrap();
    let (asks, asked) = sync_channel(4);
    let mut keeper = keeper_of(&store, book, asked);
    find(&store, 1, "a");
    let (answer, answered) = sync_channel(4);
    for _ in 0..2 {
        let command = Command::Acknowledge { incident: 7 };
        asks.send(Ask { actor: "ann".to_owned(), command, answer: answer.clone() }).unwrap();
    }
    assert!(keeper.turn(std::time::Duration::ZERO).is_some());
    assert!(answered.try_recv().unwrap().is_err());
    assert_eq!(lock(&keeper.shared()).desk.incidents().count(), 1);
}

#[test]
fn a_finding_that_ends_several_alerts_of_an_incident_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut keeper = keeper(folder.path(), &store);
    for (id, level, phase) in [(1, "high", "began"), (2, "low", "began"), (3, "informational", "over")] {
        find_with(&store, id, "a", &[("level", level), ("phase", phase)]);
        keeper.step();
    }
    let shared = keeper.shared();
    let shared = lock(&shared);
    let incident = shared.desk.incident(1).unwrap();
    assert_eq!((incident.alerts.len(), incident.active().count()), (2, 0));
    let (entries, counts) = keeper.book().timeline(1, &[]).unwrap();
    let findings = entries.iter().filter(|entry| matches!(entry, Entry::Finding(_))).count();
    assert_eq!((findings, counts.findings), (3, 3));
    // Whoever is told reads the same figure.
    let told = outbox(&keeper.book());
    assert_eq!(told.last().unwrap()["findings"], 3, "{told:?}");
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Find(u8),
    Step,
    Record,
    Acknowledge(u8),
    Resolve(u8),
    Kill,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0u8..3).prop_map(Act::Find),
        3 => Just(Act::Step),
        2 => Just(Act::Record),
        1 => (1u8..5).prop_map(Act::Acknowledge),
        1 => (1u8..5).prop_map(Act::Resolve),
        2 => Just(Act::Kill),
    ];
    prop::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_kill_between_any_two_steps_loses_and_doubles_nothing(acts in acts()) {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut keeper = keeper(folder.path(), &store);
        let mut found = 0;
        for act in acts.iter().chain(&[Act::Kill, Act::Step, Act::Record, Act::Step]) {
            match act {
                Act::Find(rule) => {
                    found += 1;
                    find(&store, found, &format!("rule {rule}"));
                }
                Act::Step => keeper.step(),
                Act::Record => keeper.record(),
                // Some are refused: no such incident, or in that state already.
                Act::Acknowledge(incident) => {
                    let _ = ask(&mut keeper, Command::Acknowledge { incident: (*incident).into() });
                }
                Act::Resolve(incident) => {
                    let _ = ask(&mut keeper, Command::Resolve { incident: (*incident).into() });
                }
                Act::Kill => {
                    // All that is in memory is gone, and so is the window in which the store would know a record again.
                    drop(keeper);
                    keeper = self::keeper(folder.path(), &store);
                }
            }
        }
        let book = keeper.book();
        let shared = keeper.shared();
        let desk = &lock(&shared).desk;
        // Each finding is in one timeline, once.
        let mut seen: Vec<i64> = Vec::new();
        for incident in desk.incidents() {
            for entry in book.timeline(incident.id, &[]).unwrap().0 {
                if let Entry::Finding(finding) = entry {
                    seen.push(finding.seq);
                }
            }
        }
        seen.sort_unstable();
        let want: Vec<i64> = finding::read(&store, 1).unwrap().0.iter().map(|finding| finding.seq).collect();
        prop_assert_eq!(want.len() as u128, found);
        prop_assert_eq!(seen, want);
        prop_assert_eq!(u128::from(desk.counters().alerts), found);
        // Each transition has one record, and none is pending.
        let mut numbers = Vec::new();
        finding::each_own_record(&store, 1, |batch, row| {
            let number = batch.attribute(transition::NUMBER_KEY, row);
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }).unwrap();
        numbers.sort_unstable();
        prop_assert_eq!(&numbers, &(1..=numbers.len() as u64).collect::<Vec<u64>>());
        prop_assert!(book.pending().unwrap().is_empty());
        // Each message is in the outbox, once.
        let notices = notices(&book);
        prop_assert_eq!(notices.len() as u64, desk.counters().messages);
        prop_assert!(notices.values().all(|count| *count == 1));
        // What is read again is what is in memory.
        prop_assert_eq!(&book.load(alerts().policy).unwrap().0, desk);
    }
}
