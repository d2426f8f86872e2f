//! Delivery from the outbox to the strict receiver, with failures and crashes.

#[path = "../../tests/strict/mod.rs"]
pub(crate) mod strict;

use std::time::Instant;

use redb::ReadableDatabase as _;
use threadline_model::clock::Clock;
use threadline_query::lang;
use threadline_query::search::TimeRange;
use threadline_store::Options;

use super::guard::Allow;
use super::target::Target;
use super::target::tests::{receiver, targets};
use super::testing::notice;
use super::*;
use strict::{Fail, Strict};

/// A clock that runs faster.
struct Fast {
    from: Instant,
    from_us: i64,
    times: u32,
}

impl Clock for Fast {
    fn now_us(&self) -> i64 {
        self.from_us + i64::try_from(self.monotonic().as_micros()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.from.elapsed() * self.times
    }
}

/// A place where delivery can be started, crash, and be started again.
struct Place {
    folder: tempfile::TempDir,
    store: Store,
    env: Env,
    bell: Bell,
    strict: Strict,
    ticking: Arc<AtomicBool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ticking.store(false, Ordering::Relaxed);
        self.store.close().unwrap();
    }
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { disk_free_bytes_min: 0, ..Options::default() };
        let store = Store::open(&folder.path().join("data"), options, Env::local()).unwrap();
        let real = Env::local();
        let clock = Fast { from: Instant::now(), from_us: real.clock.now_us(), times: 100 };
        let env = Env { clock: Arc::new(clock), ..real };
        let bell = Bell::default();
        let ticking = Arc::new(AtomicBool::new(true));
        let (ringing, on) = (bell.clone(), Arc::clone(&ticking));
        std::thread::spawn(move || {
            while on.load(Ordering::Relaxed) {
                ringing.ring();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Place { folder, store, env, bell, strict: Strict::start(), ticking }
    }

    fn db(&self) -> Arc<Database> {
        Arc::new(Database::create(self.folder.path().join("book.redb")).unwrap())
    }

    fn start(&self, db: &Arc<Database>, receivers: &[Receiver]) -> Notifier {
        let (store, env) = (self.store.clone(), self.env.clone());
        let (db, bell, gatekeeper) = (Arc::clone(db), self.bell.clone(), Gatekeeper::default());
        let notifier = Notifier::start(db, store, env, bell, "hub-1", gatekeeper, None).unwrap();
        notifier.shared.configure(receivers.to_vec()).unwrap();
        notifier
    }

    fn targets(&self) -> Vec<Target> {
        targets(&format!("http://{}", self.strict.address), self.folder.path())
    }

    /// A receiver of a kind.
    fn receiver(&self, name: &str, kind: &str) -> Receiver {
        let target = self.targets().into_iter().find(|target| target.kind() == kind).unwrap();
        receiver(name, target)
    }

    fn put(&self, db: &Database, notices: &[Notice]) {
        let txn = db.begin_write().unwrap();
        for notice in notices {
            let told = Notice { at_us: self.env.clock.now_us(), ..notice.clone() };
            outbox::put(&txn, &told).unwrap();
        }
        txn.commit().unwrap();
    }

    fn count(&self, query: &str) -> u64 {
        let guard = threadline_query::Guard::default();
        let query = lang::parse(query).unwrap();
        let snapshot = self.store.snapshot();
        threadline_query::counts::count(&snapshot, Table::Logs, &query, TimeRange::default(), &guard).unwrap()
    }
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("in vain: {what}");
}

/// What a webhook of ours says it is about: incident and message.
fn said(request: &strict::Request) -> (u64, u64) {
    let data = &request.json()["data"];
    (data["incident"].as_u64().unwrap(), data["message"].as_u64().unwrap())
}

fn life(receiver: &str, incident: u64) -> [Notice; 3] {
    [(Reason::Trigger, 1), (Reason::Acknowledge, 2), (Reason::Resolve, 3)]
        .map(|(reason, number)| notice(receiver, incident, reason, number))
}

#[test]
fn every_kind_is_told_in_order_and_records_say_so() {
    let place = Place::new();
    let db = place.db();
    let receivers: Vec<Receiver> =
        place.targets().into_iter().map(|target| receiver(target.kind(), target)).collect();
    for receiver in &receivers {
        place.put(&db_ready(&db), &life(&receiver.name, 7));
    }
    let notifier = place.start(&db, &receivers);
    wait_for("24 requests", || place.strict.taken().len() >= 24);
    wait_for("24 records", || {
        place.count("event:threadline.notification threadline.notification.outcome:delivered") == 24
    });
    assert_eq!(place.strict.faults(), Vec::<String>::new());
    let taken = place.strict.taken();
    let of = |path: &str| taken.iter().filter(|r| r.path.starts_with(path)).collect::<Vec<_>>();
    let actions: Vec<String> =
        of("/v2/enqueue").iter().map(|r| r.json()["event_action"].as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
    let keys: Vec<String> = of("/v2/enqueue").iter().map(|r| r.json()["dedup_key"].to_string()).collect();
    assert!(keys[0] == keys[1] && keys[1] == keys[2]);
    let paths: Vec<&str> = of("/jsm").iter().map(|r| r.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(paths, ["alerts", "acknowledge?identifierType=alias", "close?identifierType=alias"]);
    let states: Vec<String> = of("/webhook4").iter().map(|r| r.json()["status"].to_string()).collect();
    assert_eq!(states, ["\"firing\"", "\"firing\"", "\"resolved\""]);
    let severities: Vec<String> =
        of("/api/global").iter().map(|r| r.json()["records"][0]["severity"].to_string()).collect();
    assert_eq!(severities, ["\"2\"", "\"2\"", "\"0\""]);
    for listed in notifier.handle().list().unwrap() {
        let what = (listed.account.sent, listed.account.failed, listed.figures.waiting, listed.figures.dead);
        assert_eq!(what, (3, 0, 0, 0), "{}", listed.name);
    }
    notifier.stop();
    // Nobody finds a secret in what is kept.
    for secret in ["p4ss", "k3y", "0123456789abcdef0123456789abcdef"] {
        assert_eq!(place.count(&format!("event:threadline.notification \"{secret}\"")), 0);
    }
}

/// Tables that notices can be put into before delivery is started.
fn db_ready(db: &Arc<Database>) -> Arc<Database> {
    outbox::prepare(db, [5; 16]).unwrap();
    Arc::clone(db)
}

#[test]
fn all_failures_are_survived_with_the_same_keys() {
    let place = Place::new();
    let db = place.db();
    let hook = Receiver { timeout: Duration::from_millis(500), ..place.receiver("hook", "webhook") };
    place.strict.fail(&[
        Fail::Status(500),
        Fail::RetryAfter(429, 60),
        Fail::RetryAfter(503, 1),
        Fail::Reset,
        Fail::Hang(Duration::from_secs(1)),
        Fail::TakeAndReset,
        Fail::Status(401),
        Fail::Status(408),
    ]);
    place.put(&db_ready(&db), &life("hook", 1));
    let begun = place.env.clock.now_us();
    let notifier = place.start(&db, &[hook]);
    wait_for("the resolve", || place.strict.taken().last().is_some_and(|request| said(request) == (1, 3)));
    assert!(place.env.clock.now_us() - begun >= 60_000_000, "a minute was asked for");
    let all = place.strict.all();
    let of_first: Vec<&strict::Request> =
        all.iter().map(|(request, _)| request).filter(|request| said(request).1 == 1).collect();
    assert_eq!(of_first.len(), 9, "eight failures, then success");
    let id = of_first[0].header("webhook-id");
    assert!(of_first.iter().all(|r| r.header("webhook-id") == id && r.body == of_first[0].body));
    let order: Vec<u64> = place.strict.taken().iter().map(|request| said(request).1).collect();
    assert_eq!(order, [1, 1, 2, 3], "taken without saying so: twice, with the same key");
    let account = || notifier.handle().list().unwrap().remove(0).account;
    wait_for("it is written down", || account().sent == 3);
    assert_eq!(account().failed, 8);
    notifier.stop();
}

#[test]
fn what_is_refused_dies_alone_and_comes_back_when_told_to() {
    let place = Place::new();
    let db = place.db();
    let hook = place.receiver("hook", "webhook");
    place.strict.fail(&[Fail::Status(400)]);
    place.put(&db_ready(&db), &[notice("hook", 1, Reason::Trigger, 1), notice("hook", 2, Reason::Trigger, 1)]);
    let notifier = place.start(&db, std::slice::from_ref(&hook));
    let handle = notifier.handle();
    wait_for("the second", || place.strict.taken().len() == 1);
    assert_eq!(said(&place.strict.taken()[0]), (2, 1));
    let dead = handle.dead("hook", 10).unwrap();
    assert!(dead.len() == 1 && dead[0].1.why.contains("HTTP 400"), "{dead:?}");
    wait_for("its record", || place.count("threadline.notification.outcome:dead severity:error") == 1);
    assert_eq!(handle.replay("hook", Some(&[99])).unwrap(), 0);
    assert_eq!(handle.replay("hook", Some(&[dead[0].0])).unwrap(), 1);
    wait_for("the first", || place.strict.taken().len() == 2);
    // Gone: all that waits and comes is dead, also after a start, until the receiver changes.
    place.strict.fail(&[Fail::Status(410)]);
    place.put(&db, &life("hook", 3));
    wait_for("three dead", || handle.dead("hook", 10).unwrap().len() == 3);
    notifier.stop();
    let notifier = place.start(&db, std::slice::from_ref(&hook));
    place.put(&db, &[notice("hook", 4, Reason::Trigger, 1)]);
    wait_for("four dead", || notifier.handle().dead("hook", 10).unwrap().len() == 4);
    let changed = Receiver { timeout: Duration::from_secs(7), ..hook };
    notifier.shared.configure(vec![changed]).unwrap();
    place.put(&db, &[notice("hook", 5, Reason::Trigger, 1)]);
    wait_for("the fifth", || place.strict.taken().iter().any(|request| said(request).0 == 5));
    assert_eq!(notifier.handle().replay("hook", None).unwrap(), 4);
    wait_for("all", || place.strict.taken().len() == 2 + 1 + 4);
    notifier.stop();
}

#[test]
fn nothing_goes_where_it_must_not() {
    let place = Place::new();
    let db = place.db();
    let hook = place.receiver("hook", "webhook");
    let guarded = Receiver { name: "guarded".to_owned(), allow: Allow::default(), ..hook.clone() };
    let port = place.strict.address.port();
    let mut by_name = guarded.clone();
    by_name.name = "by_name".to_owned();
    if let Target::Webhook { url, .. } = &mut by_name.target {
        *url = super::target::Address::Open(format!("http://localhost:{port}/webhook"));
    }
    let notifier = place.start(&db, &[hook, guarded, by_name]);
    let handle = notifier.handle();
    for name in ["guarded", "by_name"] {
        let (taken, said) = handle.test(name).unwrap().unwrap();
        assert!(!taken && said.contains("loopback") && said.contains("allow_private"), "{said}");
    }
    assert_eq!(place.strict.all().len(), 0, "no byte");
    place.strict.fail(&[Fail::Status(302)]);
    let (taken, said) = handle.test("hook").unwrap().unwrap();
    assert!(!taken && said.contains("redirects are not followed"), "{said}");
    let (taken, said) = handle.test("hook").unwrap().unwrap();
    assert!(taken && said.contains("HTTP 204"), "{said}");
    let told = place.strict.taken().remove(0).json();
    assert!(told["type"] == "test" && told["data"]["title"].as_str().unwrap().starts_with("[TEST]"), "{told}");
    assert!(handle.test("nobody").unwrap().is_none());
    wait_for("records", || place.count("event:threadline.notification threadline.notification.kind:test") == 4);
    notifier.stop();
}

#[test]
fn an_alertmanager_is_told_again_while_it_is_open_and_watchdogs_come() {
    let place = Place::new();
    let db = place.db();
    let manager = place.receiver("am", "alertmanager");
    let dog = Receiver { watchdog: Some(Duration::from_secs(60)), ..place.receiver("dog", "webhook") };
    place.put(&db_ready(&db), &[notice("am", 1, Reason::Trigger, 1), notice("am", 2, Reason::Trigger, 1)]);
    let notifier = place.start(&db, &[manager, dog]);
    let sent = |incident: &str| {
        let mut ends = Vec::new();
        for request in place.strict.taken().iter().filter(|request| request.path == "/api/v2/alerts") {
            for alert in request.json().as_array().unwrap() {
                if alert["labels"]["incident"] == incident {
                    ends.push(alert["endsAt"].as_str().unwrap().to_owned());
                }
            }
        }
        ends
    };
    wait_for("it is told again", || sent("1").len() >= 4 && sent("2").len() >= 4);
    assert!(sent("1").is_sorted(), "the end moves on");
    place.put(&db, &[notice("am", 1, Reason::Resolve, 2)]);
    let outcome = "threadline.notification.receiver:am threadline.notification.reason:resolve";
    wait_for("it is over", || place.count(outcome) == 1);
    let (over, open) = (sent("1").len(), sent("2").len());
    wait_for("the other goes on", || sent("2").len() >= open + 3);
    assert_eq!(sent("1").len(), over, "nothing after the resolve");
    let dogs = || place.strict.taken().iter().filter(|r| r.path == "/webhook").count();
    wait_for("watchdogs", || dogs() >= 3);
    assert!(dogs() < 200, "one a minute");
    assert_eq!(place.strict.faults(), Vec::<String>::new());
    notifier.stop();
}

#[test]
fn a_receiver_that_comes_back_gets_what_waited() {
    let place = Place::new();
    let db = place.db();
    let hook = place.receiver("hook", "webhook");
    let notifier = place.start(&db, &[]);
    place.put(&db, &life("hook", 1));
    std::thread::sleep(Duration::from_millis(100));
    let listed = notifier.handle().list().unwrap();
    assert!(listed[0].target.is_none() && listed[0].figures.waiting == 3, "{listed:?}");
    notifier.shared.configure(vec![hook]).unwrap();
    wait_for("all three", || place.strict.taken().len() == 3);
    notifier.stop();
}

#[test]
fn what_is_replayed_comes_before_what_was_put_later() {
    let place = Place::new();
    let db = place.db();
    let hook = place.receiver("hook", "webhook");
    place.strict.fail(&[Fail::Status(400), Fail::RetryAfter(503, 86_400)]);
    let [trigger, _, resolve] = life("hook", 1);
    place.put(&db_ready(&db), &[trigger]);
    let notifier = place.start(&db, &[hook]);
    let handle = notifier.handle();
    wait_for("the trigger is dead", || handle.dead("hook", 10).unwrap().len() == 1);
    place.put(&db, &[resolve]);
    wait_for("the resolve waits", || place.strict.all().len() == 2);
    assert_eq!(handle.replay("hook", None).unwrap(), 1);
    wait_for("both", || place.strict.taken().len() == 2);
    let order: Vec<u64> = place.strict.taken().iter().map(|request| said(request).1).collect();
    assert_eq!(order, [1, 3]);
    notifier.stop();
}

#[test]
fn a_receiver_that_is_taken_out_and_put_back_waits_for_its_attempt() {
    let place = Place::new();
    let db = place.db();
    let hook = place.receiver("hook", "webhook");
    place.strict.fail(&[Fail::Hang(Duration::from_secs(3))]);
    place.put(&db_ready(&db), &life("hook", 1));
    let notifier = place.start(&db, std::slice::from_ref(&hook));
    wait_for("an attempt", || place.strict.all().len() == 1);
    notifier.shared.configure(Vec::new()).unwrap();
    notifier.shared.configure(vec![hook]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(place.strict.all().len(), 1, "one attempt at a time");
    wait_for("all three", || place.strict.taken().len() == 3);
    let order: Vec<u64> = place.strict.taken().iter().map(|request| said(request).1).collect();
    assert_eq!(order, [1, 2, 3]);
    notifier.stop();
}

#[test]
fn a_target_that_says_what_it_was_sent_is_told_on_without_secrets() {
    let place = Place::new();
    let db = place.db();
    let secrets = ["s3cr3t-of-targets", "czNjcjN0LW9mLWFsbC13ZWJob29rcy15"];
    let file = |name: &str, text: &str| {
        let path = place.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        super::secret::Secret::File(path)
    };
    let base = format!("http://{}", place.strict.address);
    let word = file("word", secrets[0]);
    let address = |name: &str| file(name, &format!("{base}/{name}/{}?key={}", secrets[0], secrets[0]));
    let basic = super::target::Login::Basic("hub".to_owned(), word.clone());
    let targets = [
        Target::Slack { url: address("slack") },
        Target::Teams { url: address("teams") },
        Target::Jsm { url: format!("{base}/jsm"), api_key: word.clone() },
        Target::PagerDuty { url: format!("{base}/pagerduty"), routing_key: word.clone() },
        Target::ServiceNow { url: base.clone(), login: basic },
        Target::Webhook4 {
            url: super::target::Address::Secret(address("webhook4")),
            login: super::target::Login::Bearer(word),
        },
        Target::Webhook {
            url: super::target::Address::Secret(address("webhook")),
            secrets: file("keys", &format!("whsec_{}", secrets[1])),
        },
    ];
    let names: Vec<&str> = targets.iter().map(Target::kind).collect();
    let receivers: Vec<Receiver> =
        names.iter().zip(targets).map(|(name, target)| receiver(name, target)).collect();
    place.strict.fail(&vec![Fail::Status(400); names.len()]);
    let notices: Vec<Notice> = names.iter().map(|name| notice(name, 1, Reason::Trigger, 1)).collect();
    place.put(&db_ready(&db), &notices);
    let notifier = place.start(&db, &receivers);
    let handle = notifier.handle();
    let dead = |name: &&str| handle.dead(name, 10).unwrap().len() == 1;
    wait_for("all are dead", || names.iter().all(dead));
    let basic = super::target::basic("hub", secrets[0]);
    for name in &names {
        let dead = handle.dead(name, 10).unwrap();
        let listed = handle.list().unwrap().into_iter().find(|listed| listed.name == *name).unwrap();
        let shown = format!("{dead:?} {:?}", listed.account);
        assert!(shown.contains("said 400"), "{shown}");
        for secret in [secrets[0], secrets[1], &basic] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    wait_for("records", || place.count("event:threadline.notification") == names.len() as u64);
    assert_eq!(place.count(&format!("\"{}\"", secrets[0])), 0);
    notifier.stop();
}

#[test]
fn one_that_is_gone_gets_no_watchdogs_until_somebody_replays() {
    let place = Place::new();
    let db = place.db();
    let dog = Receiver { watchdog: Some(Duration::from_secs(10)), ..place.receiver("dog", "webhook") };
    place.strict.fail(&[Fail::Status(410)]);
    place.put(&db_ready(&db), &[notice("dog", 1, Reason::Trigger, 1)]);
    let notifier = place.start(&db, &[dog]);
    let handle = notifier.handle();
    wait_for("it is dead", || handle.dead("dog", 10).unwrap().len() == 1);
    let until = place.env.clock.now_us() + 60_000_000;
    wait_for("a minute passes", || place.env.clock.now_us() > until);
    let listed = handle.list().unwrap().remove(0);
    assert!(listed.gone && listed.figures.waiting == 0 && listed.figures.dead == 1, "{listed:?}");
    assert_eq!(place.strict.all().len(), 1);
    assert_eq!(handle.replay("dog", None).unwrap(), 1);
    let of = |kind: &str| place.strict.taken().iter().filter(|request| request.json()["type"] == kind).count();
    wait_for("it, and watchdogs", || of("incident.trigger") == 1 && of("watchdog") > 1);
    assert!(!handle.list().unwrap().remove(0).gone);
    notifier.stop();
}

/// Targets that fail at random, and delivery that is stopped in the middle again and again: every notice arrives, in the order of its incident,
/// and what comes twice has the same key and the same body.
#[test]
fn nothing_is_lost_whatever_fails() {
    const INCIDENTS: u64 = 120;
    let place = Place::new();
    place.strict.fail_by_chance(300, 42);
    let receivers = [
        place.receiver("hook", "webhook"),
        place.receiver("chat", "slack"),
        place.receiver("page", "pagerduty"),
    ];
    let mut db = place.db();
    outbox::prepare(&db, [5; 16]).unwrap();
    for round in 0..6 {
        let notifier = place.start(&db, &receivers);
        for incident in round * INCIDENTS / 6 + 1..=(round + 1) * INCIDENTS / 6 {
            for receiver in &receivers {
                place.put(&db, &life(&receiver.name, incident));
            }
        }
        std::thread::sleep(Duration::from_millis(200));
        // Stopped in the middle: attempts that it does not wait for end in a database that nobody reads any more. Real
        // kills are in the test of the whole hub.
        let old =
            std::mem::replace(&mut db, Arc::new(Database::create(place.folder.path().join("none")).unwrap()));
        notifier.stop();
        drop(old);
        std::fs::remove_file(place.folder.path().join("none")).unwrap();
        db = place.db();
    }
    let notifier = place.start(&db, &receivers);
    let waiting = || {
        let read = outbox::figures(&db).unwrap();
        read.values().map(|figures| figures.waiting).sum::<u64>()
    };
    wait_for("the outbox is empty", || waiting() == 0);
    wait_for("all records", || {
        place.count("threadline.notification.outcome:delivered") == INCIDENTS * 3 * receivers.len() as u64
    });
    assert_eq!(place.strict.faults(), Vec::<String>::new());
    let taken = place.strict.taken();
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for request in taken.iter().filter(|request| request.path == "/webhook") {
        let (incident, number) = said(request);
        seen.entry(incident).or_default().push(number);
        let id = request.header("webhook-id").to_owned();
        assert_eq!(bodies.entry(id).or_insert_with(|| request.body.clone()), &request.body);
    }
    assert_eq!(seen.len() as u64, INCIDENTS);
    for numbers in seen.values() {
        assert!(numbers.is_sorted(), "the order: {numbers:?}");
        let mut distinct = numbers.clone();
        distinct.dedup();
        assert_eq!(distinct, [1, 2, 3]);
    }
    assert_eq!(bodies.len() as u64, INCIDENTS * 3);
    let pages: Vec<_> = taken.iter().filter(|request| request.path == "/v2/enqueue").collect();
    let keys: std::collections::BTreeSet<String> =
        pages.iter().map(|request| request.json()["dedup_key"].to_string()).collect();
    assert_eq!(keys.len() as u64, INCIDENTS);
    let dead: u64 = outbox::figures(&db).unwrap().values().map(|figures| figures.dead).sum();
    assert_eq!(dead, 0);
    drop(db.begin_read().unwrap());
    notifier.stop();
}
