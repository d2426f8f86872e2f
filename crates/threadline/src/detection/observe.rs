//! What records say to baselines: requests, failures, rejections and durations of services, and whom sources ask for.

use arrow_array::RecordBatch;
use threadline_detect::baseline::{Baselines, Sample, SeriesKey, Signal};
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_model::trace::{KIND_SERVER, Outcomes};

/// The event that every request leaves.
const REQUEST_FINISHED: &str = "request.finished";

/// Hands the records of a batch to baselines.
pub(super) fn batch(baselines: &mut Baselines, batch: &RecordBatch, table: Table) {
    match table {
        Table::Logs => logs(baselines, batch),
        Table::Spans => spans(baselines, batch),
    }
}

fn logs(baselines: &mut Baselines, batch: &RecordBatch) {
    let columns = Batch::new(batch);
    let (events, services, ts) = (columns.str("event_name"), columns.str("service"), columns.int("ts"));
    let (source, user, path) = (columns.str("client.address"), columns.str("user.id"), columns.str("url.path"));
    let status = columns.int("http.response.status_code");
    for row in (0..batch.num_rows()).filter(|&row| events.get(row) == Some(REQUEST_FINISHED)) {
        let (Some(service), Some(ts_us)) = (services.get(row), ts.get(row)) else { continue };
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

fn spans(baselines: &mut Baselines, batch: &RecordBatch) {
    let columns = Batch::new(batch);
    let (names, services, ts) = (columns.str("name"), columns.str("service"), columns.int("ts"));
    let (kinds, outcomes) = (columns.int("kind"), Outcomes::new(columns));
    for row in (0..batch.num_rows()).filter(|&row| kinds.get(row) == Some(i64::from(KIND_SERVER))) {
        let (Some(service), Some(ts_us)) = (services.get(row), ts.get(row)) else { continue };
        let key = |signal| SeriesKey::of(signal, service).operation(names.get(row).unwrap_or_default());
        baselines.observe(&key(Signal::Requests), ts_us, Sample::Count(1));
        let failed = Sample::Share { part: u64::from(outcomes.failed(row)), whole: 1 };
        baselines.observe(&key(Signal::Errors), ts_us, failed);
        let seconds = outcomes.duration_ns(row) as f64 / 1e9;
        baselines.observe(&key(Signal::Latency), ts_us, Sample::Seconds(seconds));
    }
}
