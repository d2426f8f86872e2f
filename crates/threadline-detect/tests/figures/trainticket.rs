//! A day of the TrainTicket shop with 28 injected faults (the data set of Nezha, FSE 2023): which are found, how soon,
//! and what is alerted without a fault.
//!
//! What was captured are 28 pieces of three to four minutes, with nothing between them; a fault starts about a minute
//! into each, and 45 requests a minute go through 28 services. Two runs:
//! - *cold*: the detector knows nothing at the first record and learns from what it judges, faults included;
//! - *warm*: it has a history, as a hub has that is started anew: for each half of the pieces (even, odd), the time
//!   without a fault of the other half, put a week before. What is judged is never part of what was learnt.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;
use threadline_detect::baseline::{Anomaly, Baselines, Phase, Sample, SeriesKey, Settings, Signal};

/// A fault is found when something is alerted within so many seconds of its start.
const FOUND_WITHIN_S: i64 = 150;
/// Faults that must be found.
const COLD_FLOOR: usize = 3;
const WARM_FLOOR: usize = 1;

struct Fault {
    at_us: i64,
    service: String,
    kind: String,
}

enum Event {
    /// A request, or an operation, that ended.
    Span {
        service: String,
        name: String,
        seconds: f64,
        failed: bool,
    },
    Log {
        service: String,
        logger: String,
        error: bool,
    },
}

/// Calls back for each line: the day as values at once would take a gigabyte.
fn lines(path: &Path, mut each: impl FnMut(&Value)) {
    let file = zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap();
    for line in BufReader::new(file).lines() {
        each(&serde_json::from_str(&line.unwrap()).unwrap());
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn nanos(value: &Value, key: &str) -> i64 {
    value[key].as_str().unwrap().parse().unwrap()
}

fn faults(folder: &Path) -> Vec<Fault> {
    let list = std::fs::read_to_string(folder.join("faults.json")).unwrap();
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let fault = |value: &Value| Fault {
        at_us: value["time_unix_s"].as_i64().unwrap() * 1_000_000,
        service: text(value, "service"),
        kind: text(value, "type"),
    };
    list.iter().map(fault).collect()
}

/// All spans (at their end) and log records in the order of event time. Records with absurd times are left out, as the
/// hub files them by arrival.
fn events(folder: &Path) -> Vec<(i64, Event)> {
    let spans = folder.join("spans.ndjson.zst");
    // The shop answers 500 through Spring's error controller: no span has a status.
    let mut failing: HashSet<String> = HashSet::new();
    lines(&spans, |span| {
        if span["name"] == "BasicErrorController.error" {
            failing.insert(text(span, "trace_id") + &text(span, "parent_span_id"));
        }
    });
    let mut events = Vec::new();
    lines(&spans, |span| {
        let (start, end) = (nanos(span, "start_time_unix_nano"), nanos(span, "end_time_unix_nano"));
        let failed = failing.contains(&(text(span, "trace_id") + &text(span, "span_id")));
        let seconds = (end - start) as f64 / 1e9;
        let event = Event::Span { service: text(span, "service"), name: text(span, "name"), seconds, failed };
        events.push((end / 1_000, event));
    });
    lines(&folder.join("logs.ndjson.zst"), |log| {
        // `17:20:29.299 ERROR logger#175 TraceID: …`, or `… logger TraceID: …`.
        let body = text(log, "body");
        let logger =
            body.split_ascii_whitespace().nth(2).unwrap_or_default().split('#').next().unwrap_or_default();
        let (service, error) = (text(log, "service"), log["severity"] == "ERROR");
        let event = Event::Log { service, logger: logger.to_owned(), error };
        events.push((nanos(log, "time_unix_nano") / 1_000, event));
    });
    let day_us = 86_400_000_000;
    let first_us =
        events.iter().map(|(ts_us, _)| *ts_us).filter(|ts_us| *ts_us > 1_670_000_000_000_000).min().unwrap();
    events.retain(|(ts_us, _)| (first_us..first_us + day_us).contains(ts_us));
    events.sort_by_key(|(ts_us, _)| *ts_us);
    events
}

fn observe(baselines: &mut Baselines, ts_us: i64, event: &Event) {
    match event {
        Event::Span { service, name, seconds, failed } => {
            let latency = SeriesKey::of(Signal::Latency, service).operation(name);
            baselines.observe(&latency, ts_us, Sample::Seconds(*seconds));
            // Spans of requests that a service answers are named by their route.
            if name.starts_with('/') {
                baselines.observe(&SeriesKey::of(Signal::Requests, service), ts_us, Sample::Count(1));
                let errors = SeriesKey::of(Signal::Errors, service).operation(name);
                let sample = Sample::Share { part: u64::from(*failed), whole: 1 };
                baselines.observe(&errors, ts_us, sample);
                baselines.observe(&SeriesKey::of(Signal::Latency, service), ts_us, Sample::Seconds(*seconds));
            }
        }
        Event::Log { service, logger, error } => {
            let errors = SeriesKey::of(Signal::Errors, service).operation(logger);
            baselines.observe(&errors, ts_us, Sample::Share { part: u64::from(*error), whole: 1 });
        }
    }
}

/// Replays events; alerts with the time at which they come out.
fn replay(settings: &Settings, history: &[(i64, &Event)], events: &[(i64, &Event)]) -> Vec<(i64, Anomaly)> {
    let mut baselines = Baselines::new(settings.clone()).unwrap();
    for (ts_us, event) in history {
        baselines.learn(*ts_us);
        observe(&mut baselines, *ts_us, event);
    }
    let mut alerts = Vec::new();
    let mut now_us = events[0].0;
    baselines.learn(now_us);
    for (ts_us, event) in events {
        // Time passes in the gaps, too, but nothing comes out of them.
        now_us = now_us.max(ts_us - 60_000_000);
        while now_us <= *ts_us {
            let found = baselines.advance(now_us).into_iter();
            alerts.extend(found.filter(|found| found.phase == Phase::Began).map(|found| (now_us, found)));
            now_us += 1_000_000;
        }
        observe(&mut baselines, *ts_us, event);
    }
    alerts
}

/// Whether a fault is going on.
fn within(fault: &Fault, at_us: i64) -> bool {
    (fault.at_us..fault.at_us + FOUND_WITHIN_S * 1_000_000).contains(&at_us)
}

/// Prints the table of a run; how many faults were found.
fn table(name: &str, faults: &[Fault], events: &[(i64, Event)], alerts: &[(i64, Anomaly)]) -> usize {
    println!(
        "{name}\n\n| fault | service | found after | on the service itself | first alert |\n|-|-|-:|-:|-|"
    );
    let mut found = 0;
    let mut kinds: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for fault in faults {
        let own: Vec<_> = alerts.iter().filter(|(at_us, _)| within(fault, *at_us)).collect();
        let itself = own.iter().find(|(_, alert)| *alert.series.service == *fault.service);
        let seconds = |at_us: i64| format!("{} s", (at_us - fault.at_us) / 1_000_000);
        let (after, what) = own.first().map_or((String::from("—"), String::new()), |(at_us, alert)| {
            (seconds(*at_us), format!("{} ({:.1})", alert.explanation, alert.surprise))
        });
        let itself = itself.map_or(String::from("—"), |(at_us, _)| seconds(*at_us));
        println!("| {} | {} | {after} | {itself} | {what} |", fault.kind, fault.service);
        found += usize::from(!own.is_empty());
        let kind = kinds.entry(&fault.kind).or_default();
        kind.0 += u32::from(!own.is_empty());
        kind.1 += 1;
    }
    // Captured time, in steps of ten seconds, with and without a fault.
    let steps: HashSet<i64> = events.iter().map(|(ts_us, _)| ts_us / 10_000_000).collect();
    let faulty =
        steps.iter().filter(|step| faults.iter().any(|fault| within(fault, **step * 10_000_000))).count();
    let (faulty, quiet) = (faulty as f64 / 360.0, (steps.len() - faulty) as f64 / 360.0);
    let falsely = alerts.iter().filter(|(at_us, _)| !faults.iter().any(|fault| within(fault, *at_us))).count();
    println!("\nfound {found} of {}: {kinds:?}", faults.len());
    println!(
        "{faulty:.2} h under a fault with {} alerts, {quiet:.2} h without with {falsely}: {:.1} an hour\n",
        alerts.len() - falsely,
        falsely as f64 / quiet
    );
    found
}

#[test]
fn injected_faults_are_found() {
    let Some(folder) = crate::data("trainticket") else { return };
    let faults = faults(&folder);
    let events = events(&folder);
    let settings = Settings { window_s: 10, lateness_s: 2, ..Settings::default() };
    let all: Vec<(i64, &Event)> = events.iter().map(|(ts_us, event)| (*ts_us, event)).collect();
    let cold = table("cold", &faults, &events, &replay(&settings, &[], &all));
    // A piece is what lies between two gaps of a minute, by turns in either half.
    let mut pieces = Vec::with_capacity(all.len());
    let (mut piece, mut before_us) = (0usize, all[0].0);
    for (ts_us, _) in &all {
        piece += usize::from(ts_us - before_us > 60_000_000);
        before_us = *ts_us;
        pieces.push(piece);
    }
    let week_us = 7 * 86_400_000_000;
    let mut alerts = Vec::new();
    for half in [0, 1] {
        let of = |parity: usize| all.iter().zip(&pieces).filter(move |(_, piece)| *piece % 2 == parity);
        let quiet = of(1 - half).filter(|((ts_us, _), _)| !faults.iter().any(|fault| within(fault, *ts_us)));
        let history: Vec<(i64, &Event)> = quiet.map(|((ts_us, event), _)| (ts_us - week_us, *event)).collect();
        let judged: Vec<(i64, &Event)> = of(half).map(|(event, _)| *event).collect();
        alerts.extend(replay(&settings, &history, &judged));
    }
    alerts.sort_by_key(|(at_us, _)| *at_us);
    let warm = table("warm", &faults, &events, &alerts);
    assert!(
        cold >= COLD_FLOOR && warm >= WARM_FLOOR,
        "{cold} cold, {warm} warm of the injected faults are found"
    );
}
