//! What records say to baselines: requests, failures, rejections and durations of services, and whom sources ask for.

use std::ops::Range;

use arrow_array::RecordBatch;
use threadline_detect::baseline::{Baselines, Sample, SeriesKey, Signal};
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_model::trace::{KIND_SERVER, Outcomes};

/// The event that every request leaves.
const REQUEST_FINISHED: &str = "request.finished";

/// By how much arrivals differ before windows are closed between them, µs.
const STEP_US: i64 = 10_000_000;

/// Hands the records of a batch to baselines. Before and after those that arrived together, `advance` is told when that was:
/// one batch may hold days.
pub(super) fn batch(
    baselines: &mut Baselines,
    batch: &RecordBatch,
    table: Table,
    mut advance: impl FnMut(&mut Baselines, i64),
) {
    let columns = Batch::new(batch);
    let arrival = columns.int("arrival_ts");
    let arrival_us = |row: usize| arrival.get(row).unwrap_or(i64::MIN);
    let mut from = 0;
    while from < batch.num_rows() {
        let first_us = arrival_us(from);
        let near = |row: &usize| arrival_us(*row).saturating_sub(first_us) < STEP_US;
        let to = (from..batch.num_rows()).find(|row| !near(row)).unwrap_or(batch.num_rows());
        advance(baselines, first_us);
        let together = Together { columns, rows: from..to };
        match table {
            Table::Logs => logs(baselines, &together),
            Table::Spans => spans(baselines, &together),
        }
        advance(baselines, arrival_us(to - 1));
        from = to;
    }
}

/// Records that arrived together.
struct Together<'a> {
    columns: Batch<'a>,
    rows: Range<usize>,
}

impl Together<'_> {
    /// Event time of each, or that of arrival where it is earlier: a clock that is ahead opens no windows to come.
    fn times(&self) -> impl Fn(usize) -> Option<i64> {
        let (ts, arrival) = (self.columns.int("ts"), self.columns.int("arrival_ts"));
        move |row| ts.get(row).map(|ts_us| ts_us.min(arrival.get(row).unwrap_or(ts_us)))
    }
}

fn logs(baselines: &mut Baselines, together: &Together<'_>) {
    let (columns, time) = (together.columns, together.times());
    let (events, services) = (columns.str("event_name"), columns.str("service"));
    let (source, user, path) = (columns.str("client.address"), columns.str("user.id"), columns.str("url.path"));
    let status = columns.int("http.response.status_code");
    for row in together.rows.clone().filter(|&row| events.get(row) == Some(REQUEST_FINISHED)) {
        let (Some(service), Some(ts_us)) = (services.get(row), time(row)) else { continue };
        let mut see = |key: SeriesKey, sample: Sample<'_>| {
            baselines.observe(&key, ts_us, sample);
        };
        let part = |is: bool| Sample::Share { part: u64::from(is), whole: 1 };
        let status = status.get(row).unwrap_or(0);
        see(SeriesKey::of(Signal::Requests, service), Sample::Count(1));
        see(SeriesKey::of(Signal::Errors, service), part(status >= 500));
        see(SeriesKey::of(Signal::Rejections, service), part(matches!(status, 401 | 403 | 429)));
        if let (Some(entity), Some(thing)) = (source.get(row), path.get(row)) {
            see(SeriesKey::of(Signal::PathsPerSource, ""), Sample::Touched { entity, thing });
        }
        if let (Some(address), Some(user)) = (source.get(row), user.get(row)) {
            let touched = Sample::Touched { entity: address, thing: user };
            see(SeriesKey::of(Signal::UsersPerSource, ""), touched);
            let touched = Sample::Touched { entity: user, thing: address };
            see(SeriesKey::of(Signal::SourcesPerUser, ""), touched);
        }
    }
}

fn spans(baselines: &mut Baselines, together: &Together<'_>) {
    let (columns, time) = (together.columns, together.times());
    let (names, services) = (columns.str("name"), columns.str("service"));
    let (kinds, outcomes) = (columns.int("kind"), Outcomes::new(columns));
    for row in together.rows.clone().filter(|&row| kinds.get(row) == Some(i64::from(KIND_SERVER))) {
        let (Some(service), Some(ts_us)) = (services.get(row), time(row)) else { continue };
        let key = |signal| SeriesKey::of(signal, service).operation(names.get(row).unwrap_or_default());
        baselines.observe(&key(Signal::Requests), ts_us, Sample::Count(1));
        let failed = Sample::Share { part: u64::from(outcomes.failed(row)), whole: 1 };
        baselines.observe(&key(Signal::Errors), ts_us, failed);
        let seconds = outcomes.duration_ns(row) as f64 / 1e9;
        baselines.observe(&key(Signal::Latency), ts_us, Sample::Seconds(seconds));
    }
}
