//! `/metrics`: the hub's own metrics in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use http::Response;
use threadline_store::Pressure;

use super::{Api, text};
use crate::door::meters::{HANDSHAKE_FAILURES, REJECTIONS};
use crate::meters::{Counter, IntakeMeters, Latencies, QueryKind, RequestEnd, SIGNALS, Transport, signal_name};

/// Clock ticks per second in `/proc`, fixed by Linux' user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// All metrics.
pub(crate) fn metrics(api: &Arc<Api>) -> Response<Body> {
    let mut page = Page(String::new());
    intake(api, &mut page);
    queries(api, &mut page);
    detection(api, &mut page);
    incidents(api, &mut page);
    notify(api, &mut page);
    door(api, &mut page);
    store(api, &mut page);
    process(api, &mut page);
    text("text/plain; version=0.0.4", page.0)
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP threadline_{name} {help}\n# TYPE threadline_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "threadline_{name} {value}"),
            labels => writeln!(self.0, "threadline_{name}{{{labels}}} {value}"),
        };
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }

    fn histogram(&mut self, name: &str, labels: &str, latencies: &Latencies) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bucket = format!("{name}_bucket");
        for (bound_us, count) in latencies.cumulative() {
            self.line(&bucket, &format!("{labels}{comma}le=\"{}\"", bound_us as f64 / 1e6), count);
        }
        self.line(&bucket, &format!("{labels}{comma}le=\"+Inf\""), latencies.count());
        self.line(&format!("{name}_sum"), labels, latencies.sum_us() as f64 / 1e6);
        self.line(&format!("{name}_count"), labels, latencies.count());
    }
}

fn each_intake(api: &Api) -> impl Iterator<Item = (String, &IntakeMeters)> {
    SIGNALS.into_iter().flat_map(move |signal| {
        Transport::ALL.into_iter().map(move |transport| {
            let labels = format!("signal=\"{}\",transport=\"{}\"", signal_name(signal), transport.name());
            (labels, api.meters.intake(signal, transport))
        })
    })
}

fn intake(api: &Api, page: &mut Page) {
    page.head("ingest_requests_total", "counter", "Requests with records by how they ended.");
    for (labels, meters) in each_intake(api) {
        for (end, count) in RequestEnd::ALL.into_iter().zip(&meters.requests) {
            page.line("ingest_requests_total", &format!("{labels},end=\"{}\"", end.name()), count.get());
        }
    }
    type Count = fn(&IntakeMeters) -> u64;
    let counts: [(&str, &str, Count); 4] = [
        ("ingest_records_total", "Records kept.", |m| m.records.get()),
        ("ingest_records_refused_total", "Records refused alone.", |m| m.refused.get()),
        ("ingest_received_bytes_total", "Bytes of requests as received.", |m| m.bytes_received.get()),
        ("ingest_decoded_bytes_total", "Bytes of requests after decompression.", |m| m.bytes_decoded.get()),
    ];
    for (name, help, count) in counts {
        page.head(name, "counter", help);
        for (labels, meters) in each_intake(api) {
            page.line(name, &labels, count(meters));
        }
    }
    let (used, max) = api.intake.in_flight_bytes();
    page.one("ingest_in_flight_bytes", "gauge", "Bytes that requests in progress hold.", used);
    page.one("ingest_in_flight_bytes_max", "gauge", "Bound of the same.", max);
    let help = "Time from a request's last byte until its records are synced.";
    page.head("append_latency_seconds", "histogram", help);
    page.histogram("append_latency_seconds", "", &api.meters.append_latency);
}

fn queries(api: &Api, page: &mut Page) {
    let labels = |kind: QueryKind| format!("kind=\"{}\"", kind.name());
    page.head("query_latency_seconds", "histogram", "Time until a query's answer was complete.");
    for kind in QueryKind::ALL {
        page.histogram("query_latency_seconds", &labels(kind), &api.meters.query(kind).latency);
    }
    page.head("query_errors_total", "counter", "Queries that ended with an error.");
    for kind in QueryKind::ALL {
        page.line("query_errors_total", &labels(kind), api.meters.query(kind).errors.get());
    }
    let refused = api.meters.queries_refused.get();
    page.one("queries_refused_total", "counter", "Queries refused because too many waited.", refused);
    page.one("tails_total", "counter", "Tails opened.", api.meters.tails.get());
    let open = super::TAILS_MAX.saturating_sub(api.tails.available_permits());
    page.one("tails_open", "gauge", "Tails open now.", open);
}

fn store(api: &Api, page: &mut Page) {
    let (stats, health) = (api.store.stats(), api.store.health());
    let tables = [("table=\"logs\"", &stats.logs), ("table=\"spans\"", &stats.spans)];
    type Gauge = fn(&threadline_store::TableStats) -> u64;
    let gauges: [(&str, &str, Gauge); 5] = [
        ("store_memory_rows", "Rows not sealed yet.", |t| t.memory_rows),
        ("store_sealed_rows", "Rows in sealed files.", |t| t.sealed_rows),
        ("store_files", "Sealed files.", |t| t.files),
        ("store_draft_files", "Sealed files that are to be written again, smaller.", |t| t.draft_files),
        ("store_sealed_bytes", "Bytes of sealed files.", |t| t.sealed_bytes),
    ];
    for (name, help, gauge) in gauges {
        page.head(name, "gauge", help);
        for (labels, table) in tables {
            page.line(name, labels, gauge(table));
        }
    }
    for (name, help, value) in [
        ("store_appends_total", "Batches acknowledged.", stats.appends),
        ("store_rows_total", "Rows acknowledged.", stats.rows),
        ("store_duplicates_total", "Batches that had been kept before.", stats.duplicates),
        ("store_syncs_total", "Syncs of the write-ahead log.", stats.syncs),
        ("store_wal_bytes_total", "Bytes written to the write-ahead log.", stats.wal_bytes),
        ("store_seals_total", "Seals.", stats.seals),
        ("store_compactions_total", "Compactions.", stats.compactions),
        ("store_deleted_rows_total", "Rows deleted by retention and erasure.", stats.deleted_rows),
    ] {
        page.one(name, "counter", help, value);
    }
    page.one("store_last_seq", "gauge", "Highest sequence number.", stats.last_seq);
    page.one("store_wal_disk_bytes", "gauge", "Bytes of the write-ahead log on disk.", stats.wal_disk_bytes);
    page.one("store_merkle_leaves", "gauge", "Leaves of the Merkle log.", stats.merkle_leaves);
    page.one("store_memory_bytes", "gauge", "Bytes of unsealed rows and waiting appends.", health.memory_bytes);
    page.one("store_cache_bytes", "gauge", "Bytes of parts of sealed files kept in memory.", stats.cache_bytes);
    page.one("store_disk_free_bytes", "gauge", "Free bytes on the data folder's disk.", health.disk_free_bytes);
    let age = health.unsealed_age.as_secs_f64();
    page.one("store_unsealed_age_seconds", "gauge", "Age of the oldest unsealed row.", age);
    let accepting = u8::from(health.pressure == Pressure::None);
    page.one("store_accepting", "gauge", "1 when appends are taken.", accepting);
    let failing = u8::from(health.maintenance_error.is_some());
    page.one("store_maintenance_failing", "gauge", "1 when sealing, compaction or retention fails.", failing);
}

fn detection(api: &Api, page: &mut Page) {
    let status = api.detection.status();
    let lag = (api.store.stats().last_seq - status.next_seq + 1).max(0);
    let lag = if status.running { lag } else { 0 };
    page.one("detection_lag_records", "gauge", "Records and spans that detection has not looked at yet.", lag);
    page.one("detection_rules", "gauge", "Rules in use.", status.rules.len());
    page.one(
        "detection_rule_problems",
        "gauge",
        "Rules left out because something is wrong.",
        status.problems.len(),
    );
    page.one("detection_groups", "gauge", "Groups of correlations that are remembered.", status.groups);
    page.one("detection_group_bytes", "gauge", "Their bytes.", status.group_bytes);
    page.one("detection_series", "gauge", "Series of which it is known what is usual.", status.series);
    for (name, help, value) in [
        ("detection_records_total", "Records and spans looked at.", status.stats.records),
        ("detection_hits_total", "Rules that matched one.", status.stats.hits),
        ("detection_findings_total", "Findings that were kept.", status.kept),
        ("detection_findings_lost_total", "Findings that the store did not take.", status.lost),
        ("detection_late_total", "Hits that came too late for their correlation.", status.stats.late),
        ("detection_evicted_total", "Groups forgotten because a bound was hit.", status.stats.evicted),
    ] {
        page.one(name, "counter", help, value);
    }
}

fn incidents(api: &Api, page: &mut Page) {
    let status = api.incidents.status();
    page.one("incidents_running", "gauge", "1 when incidents are kept.", u8::from(status.running));
    page.head("incidents_live", "gauge", "Incidents that are neither resolved nor merged, by severity.");
    for (severity, live) in crate::incidents::SEVERITIES.into_iter().zip(status.live) {
        page.line("incidents_live", &format!("severity=\"{severity}\""), live);
    }
    let lag = (api.store.stats().last_seq - status.next_seq + 1).max(0);
    let lag = if status.running { lag } else { 0 };
    page.one("incidents_lag_records", "gauge", "Records in which findings have not been looked for yet.", lag);
    page.one("incidents_silences", "gauge", "Silences that have not ended.", status.silences);
    let failing = u8::from(status.problem.is_some());
    page.one("incidents_failing", "gauge", "1 when incidents cannot be kept.", failing);
    let broken = u8::from(status.alerts_problem.is_some());
    page.one("incidents_alerts_file_broken", "gauge", "1 when the alerts file cannot be read.", broken);
    page.one(
        "incidents_unrecorded",
        "gauge",
        "Transitions whose audit records the store has not taken yet.",
        status.unrecorded,
    );
    for (name, help, value) in [
        ("incidents_opened_total", "Incidents opened since the start.", status.opened),
        ("incidents_transitions_total", "Transitions of incidents since the start.", status.transitions),
    ] {
        page.one(name, "counter", help, value);
    }
}

fn notify(api: &Api, page: &mut Page) {
    let Some(handle) = &api.notify else { return };
    let states = handle.states();
    let broken = handle.problems().len();
    page.one("notify_receivers_broken", "gauge", "Receivers that cannot be used as they stand.", broken);
    type Value = fn(&crate::notify::State) -> f64;
    let values: [(&str, &str, &str, Value); 7] = [
        ("notify_waiting", "gauge", "Notices that wait.", |of| of.waiting as f64),
        ("notify_sent_total", "counter", "Notices that the target took.", |of| of.account.sent as f64),
        ("notify_merged_total", "counter", "Notices told by a later one.", |of| of.account.merged as f64),
        ("notify_failed_total", "counter", "Attempts that failed.", |of| of.account.failed as f64),
        ("notify_dead_total", "counter", "Notices that were given up.", |of| of.account.dead as f64),
        ("notify_gone", "gauge", "1 when the target has said that it is gone.", |of| {
            f64::from(u8::from(of.gone))
        }),
        ("notify_last_success_timestamp_seconds", "gauge", "When the target took one last.", |of| {
            of.account.last_success_us as f64 / 1e6
        }),
    ];
    for (name, kind, help, value) in values {
        page.head(name, kind, help);
        for (receiver, state) in &states {
            page.line(name, &format!("receiver=\"{receiver}\""), value(state));
        }
    }
}

fn door(api: &Api, page: &mut Page) {
    let door = &api.meters.door;
    for (name, help, value) in [
        ("requests_admitted_total", "Requests that were let in.", door.admitted.get()),
        ("requests_denied_total", "Requests whose caller lacks the role.", door.denied.get()),
        (
            "requests_misnamed_total",
            "Services that a sender may not write as, request by request.",
            door.misnamed.get(),
        ),
        ("tls_handshakes_total", "TLS handshakes that succeeded.", door.handshakes.get()),
        ("own_records_written_total", "The hub's own records that are kept.", door.notes_written.get()),
        (
            "own_records_dropped_total",
            "The hub's own records that were dropped.",
            door.notes_dropped.get() + door.notes_unqueued.get(),
        ),
    ] {
        page.one(name, "counter", help, value);
    }
    page.head("requests_rejected_total", "counter", "Requests without good authentication, by reason.");
    for reason in REJECTIONS {
        let count = door.rejected(reason).map_or(0, Counter::get);
        page.line("requests_rejected_total", &format!("reason=\"{reason}\""), count);
    }
    page.head("tls_handshakes_failed_total", "counter", "TLS handshakes that failed, by reason.");
    for reason in HANDSHAKE_FAILURES {
        let count = door.handshakes_failed(reason).map_or(0, Counter::get);
        page.line("tls_handshakes_failed_total", &format!("reason=\"{reason}\""), count);
    }
    // Absent without TLS.
    if let Some(end) = api.tls.as_ref().and_then(|tls| tls.not_after_s()) {
        page.one(
            "tls_certificate_not_after_seconds",
            "gauge",
            "When the hub's certificate ends, Unix time.",
            end,
        );
    }
}

fn process(api: &Api, page: &mut Page) {
    page.one("uptime_seconds", "gauge", "Time since the start.", api.meters.uptime().as_secs_f64());
    // Absent where there is no /proc.
    if let Some(bytes) = resident_bytes() {
        page.one("process_resident_memory_bytes", "gauge", "Resident memory.", bytes);
    }
    if let Some(seconds) = cpu_seconds() {
        page.one("process_cpu_seconds_total", "counter", "User and system time.", seconds);
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields are counted after the command's name, which may contain anything but ends with the last bracket.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}
