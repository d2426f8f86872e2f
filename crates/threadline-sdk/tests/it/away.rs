//! The host goes away and comes back; the process ends meanwhile; what is lost is told.

use std::time::{Duration, Instant};

use threadline_sdk::{Telemetry, audit};

use crate::sink::{Log, Sink};

fn numbers(logs: &[Log]) -> Vec<u64> {
    logs.iter().filter_map(|log| log.get("n").parse().ok()).collect()
}

fn log(from: u64, to: u64) {
    for n in from..to {
        tracing::info!(n, "work");
    }
}

fn record_audit(n: u64) {
    audit!(
        outcome: Success,
        audit_action: "user.role.changed",
        actor_type: User,
        user_id: "u-1",
        resource_type: "user",
        resource_id: n,
    );
}

#[test]
fn records_wait_on_disk_and_come_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for refusal in [Some(503), Some(401), None] {
        let mut sink = Sink::start();
        let mut settings = sink.settings(folder.path());
        settings.queue.delay_ms = 5;
        let (dispatch, telemetry) = Telemetry::scoped(&settings).unwrap();
        let _current = tracing::dispatcher::set_default(&dispatch);
        log(0, 100);
        assert!(telemetry.flush(Duration::from_secs(20)));
        match refusal {
            Some(status) => sink.answer(status),
            None => sink.leave(),
        }
        log(100, 150);
        assert!(!telemetry.flush(Duration::from_secs(20)), "the host is away");
        log(150, 1000);
        telemetry.flush(Duration::from_millis(100));
        match refusal {
            Some(_) => sink.answer(200),
            None => sink.listen(),
        }
        log(1000, 1100);
        sink.wait("all records", |sink| numbers(&sink.logs()).len() >= 1100);
        let logs = sink.logs();
        assert_eq!(numbers(&logs), (0..1100).collect::<Vec<_>>(), "in order, each once");
        let places: Vec<u64> = logs.iter().filter(|log| log.body == "work").map(Log::sequence).collect();
        assert_eq!(places, (1..=1100).collect::<Vec<_>>(), "without gaps");
    }
}

#[test]
fn what_a_process_leaves_is_sent_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::start();
    sink.leave();
    let settings = sink.settings(folder.path());
    {
        let (dispatch, telemetry) = Telemetry::scoped(&settings).unwrap();
        let _current = tracing::dispatcher::set_default(&dispatch);
        log(0, 20);
        record_audit(7);
        drop(telemetry);
    }
    {
        // One that never sees the host, beside one that lives on with the first folder.
        let (dispatch, second) = Telemetry::scoped(&settings).unwrap();
        let (beside, third) = Telemetry::scoped(&settings).unwrap();
        tracing::dispatcher::with_default(&beside, || log(20, 30));
        drop(third);
        tracing::dispatcher::with_default(&dispatch, || log(30, 40));
        drop(second);
    }
    sink.listen();
    let (_dispatch, _telemetry) = Telemetry::scoped(&settings).unwrap();
    sink.wait("what was left", |sink| numbers(&sink.logs()).len() >= 40);
    let mut found = numbers(&sink.logs());
    found.sort_unstable();
    assert_eq!(found, (0..40).collect::<Vec<_>>());
    assert_eq!(sink.events("security.audit").len(), 1);
}

#[test]
fn audit_is_on_disk_before_the_call_returns() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Sink::start();
    sink.leave();
    let mut settings = sink.settings(folder.path());
    // Nothing else fits anywhere.
    settings.spool.bytes_max = 1000;
    settings.queue.records_max = 10;
    let (dispatch, telemetry) = Telemetry::scoped(&settings).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    log(0, 2000);
    for n in 0..50 {
        record_audit(n);
    }
    let segments = std::fs::read_dir(folder.path().join("slot-0/audit")).unwrap();
    let bytes: u64 = segments.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes > 50 * 100, "{bytes} bytes on disk");
    sink.listen();
    sink.wait("audit", |sink| sink.events("security.audit").len() == 50);
    let order: Vec<String> =
        sink.events("security.audit").iter().map(|log| log.get("threadline.resource.id").to_owned()).collect();
    assert_eq!(order, (0..50).map(|n: u32| n.to_string()).collect::<Vec<_>>());
    drop(telemetry);
    // What did not fit is told, and adds up.
    let told: u64 = sink
        .events("telemetry.dropped")
        .iter()
        .map(|log| log.get("threadline.dropped.count").parse::<u64>().unwrap())
        .sum();
    assert_eq!(told + numbers(&sink.logs()).len() as u64, 2000);
    assert!(told > 0);
}

#[test]
fn audit_that_the_host_refuses_is_put_aside_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    sink.answer(400);
    let (dispatch, telemetry) = Telemetry::scoped(&sink.settings(folder.path())).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    for n in 0..3 {
        record_audit(n);
    }
    assert!(telemetry.flush(Duration::from_secs(20)), "nothing waits");
    let aside = std::fs::read_dir(folder.path().join("slot-0/audit-refused")).unwrap();
    let kept: Vec<u8> = aside.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    let count = kept.windows(17).filter(|text| text == b"user.role.changed").count();
    assert_eq!(count, 3);
    sink.answer(200);
    drop(telemetry);
    let told: u64 = sink
        .events("telemetry.dropped")
        .iter()
        .map(|log| log.get("threadline.dropped.count").parse::<u64>().unwrap())
        .sum();
    assert_eq!(told, 3);
}

#[test]
fn what_can_be_mended_is_waited_for() {
    for status in [401, 404, 405, 415, 431, 503] {
        let folder = tempfile::tempdir().unwrap();
        let sink = Sink::start();
        sink.answer(status);
        let (dispatch, telemetry) = Telemetry::scoped(&sink.settings(folder.path())).unwrap();
        let _current = tracing::dispatcher::set_default(&dispatch);
        log(0, 5);
        assert!(!telemetry.flush(Duration::from_secs(20)), "{status}");
        sink.answer(200);
        sink.wait("what was waiting", |sink| numbers(&sink.logs()) == [0, 1, 2, 3, 4]);
        drop(telemetry);
        assert!(sink.events("telemetry.dropped").is_empty(), "{status}");
    }
}

#[test]
fn refused_batches_are_dropped_and_told() {
    let folder = tempfile::tempdir().unwrap();
    for (status, reason) in [(400, "rejected"), (413, "too_large")] {
        let sink = Sink::start();
        sink.answer(status);
        let (dispatch, telemetry) = Telemetry::scoped(&sink.settings(folder.path())).unwrap();
        let _current = tracing::dispatcher::set_default(&dispatch);
        log(0, 30);
        assert!(telemetry.flush(Duration::from_secs(20)), "nothing waits");
        sink.answer(200);
        drop(telemetry);
        let told = sink.events("telemetry.dropped");
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].get("threadline.reason"), reason);
        assert_eq!(told[0].get("threadline.dropped.count"), "30");
        assert_eq!(told[0].severity, 13);
    }
}

#[test]
fn nothing_loops() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut settings = sink.settings(folder.path());
    settings.logs.filter = "trace".to_owned();
    settings.queue.delay_ms = 2;
    let (dispatch, telemetry) = Telemetry::scoped(&settings).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    log(0, 3);
    assert!(telemetry.flush(Duration::from_secs(20)));
    let (requests, records) = (sink.requests(), sink.logs().len());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((sink.requests(), sink.logs().len()), (requests, records), "sending makes no records");
    assert_eq!(records, 3);
}

#[test]
fn whoever_records_does_not_wait_for_a_host_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    // Takes connections, and never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let sink = Sink::start();
    let mut settings = sink.settings(folder.path());
    settings.exporter.endpoint = format!("http://{}", listener.local_addr().unwrap());
    settings.exporter.timeout_ms = 60_000;
    let (dispatch, telemetry) = Telemetry::scoped(&settings).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    let before = Instant::now();
    for round in 0..20 {
        log(round * 1000, (round + 1) * 1000);
        telemetry.flush(Duration::from_millis(10));
    }
    // Generous: what must not happen is to wait for the request, a minute.
    assert!(before.elapsed() < Duration::from_secs(30));
    drop(telemetry);
    settings.exporter.endpoint = format!("http://{}", sink.address);
    let (_dispatch, _telemetry) = Telemetry::scoped(&settings).unwrap();
    sink.wait("all that waited", |sink| numbers(&sink.logs()).len() >= 20_000);
    assert_eq!(numbers(&sink.logs()), (0..20_000).collect::<Vec<_>>());
}

#[test]
fn secrets_do_not_leave_and_long_texts_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let mut settings = sink.settings(folder.path());
    settings.exporter.token = "t0ken".to_owned();
    settings.exporter.headers.insert("x-team".to_owned(), "shop".to_owned());
    let (dispatch, telemetry) = Telemetry::scoped(&settings).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    let long = "ä".repeat(100_000);
    tracing::info!(password = "hunter2", "http.request.header.cookie" = "id=7", long, "hello");
    assert!(telemetry.flush(Duration::from_secs(20)));
    let log = sink.logs().remove(0);
    assert_eq!(log.get("password"), "[REDACTED]");
    assert_eq!(log.get("http.request.header.cookie"), "[REDACTED]");
    assert!(log.get("long").len() <= 32 << 10);
    assert!(log.get("long").ends_with("… [200000 bytes in all]"), "{}", log.get("long").len());
    let headers = sink.headers().remove(0);
    assert_eq!(headers["authorization"], "Bearer t0ken");
    assert_eq!(headers["x-team"], "shop");
}

#[test]
fn wrong_settings_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let good = sink.settings(folder.path());
    let refused = |change: &dyn Fn(&mut threadline_sdk::Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        Telemetry::scoped(&settings).unwrap_err().to_string()
    };
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for (error, want) in [
        (refused(&|settings| settings.exporter.ca = file.clone()), "no certificate in it"),
        (refused(&|settings| settings.exporter.ca = folder.path().join("none")), "No such file"),
        (refused(&|settings| settings.spool.dir = file.clone()), "set `dir` under [spool]"),
        (refused(&|settings| settings.logs.filter = "a=b=c".to_owned()), "log filter"),
        (refused(&|settings| settings.service.name = String::new()), "has no name"),
    ] {
        assert!(error.contains(want), "{error}");
    }
}
