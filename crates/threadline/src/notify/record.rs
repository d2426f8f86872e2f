//! How notices ended, as records of the hub: event `threadline.notification` of `service:threadline`.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use threadline_detect::finding::SERVICE;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{BatchId, Store};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::outbox::Outcome;

/// Name of the event.
pub(crate) const EVENT_NAME: &str = "threadline.notification";
/// Keeps ids of these records apart from others.
const SEED: u64 = 0x6e6f_7469_6669_6564;

/// The id of the batch of an outcome: the same whenever it is kept again.
pub(super) fn id(hub_id: &str, number: u64) -> BatchId {
    BatchId(xxh3_128_with_seed(format!("{hub_id}/{number}").as_bytes(), SEED))
}

/// A batch with one log record.
pub(super) fn batch_of(
    store: &Store,
    scope: &str,
    now_us: i64,
    log: &LogView<'_>,
) -> Result<Option<RecordBatch>, ArrowError> {
    let mut builder = BatchBuilder::new(store.layout(Table::Logs), now_us, RecordLimits::default());
    let resource =
        [("service.name", Value::Str(SERVICE)), ("service.version", Value::Str(env!("CARGO_PKG_VERSION")))];
    builder.set_resource(&ResourceView { attributes: &resource, ..ResourceView::default() });
    builder.set_scope(&ScopeView { name: scope, ..ScopeView::default() });
    if let Err((field, reason)) = builder.push_log(log, 0) {
        tracing::error!(field, reason, "one of the hub's own records is not kept");
    }
    builder.finish()
}

/// The batch of an outcome.
pub(super) fn batch(store: &Store, outcome: &Outcome, now_us: i64) -> Result<Option<RecordBatch>, ArrowError> {
    let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let attributes: Vec<Attribute<'_>> = vec![
        ("threadline.notification.receiver", Value::Str(&outcome.receiver)),
        ("threadline.notification.target", Value::Str(&outcome.target)),
        ("threadline.notification.outcome", Value::Str(&outcome.outcome)),
        ("threadline.notification.kind", Value::Str(&outcome.kind)),
        ("threadline.notification.reason", Value::Str(&outcome.reason)),
        ("threadline.notification.number", Value::Int(i64::from(outcome.number))),
        ("threadline.notification.key", Value::Str(&outcome.key)),
        ("threadline.notification.attempts", Value::Int(i64::from(outcome.attempts))),
        ("threadline.notification.duration_us", Value::Int(outcome.took_us)),
        ("threadline.notification.response", Value::Str(&outcome.said)),
        ("threadline.incident.id", int(outcome.incident)),
    ];
    let (severity, verb) = match outcome.outcome.as_str() {
        "delivered" => (9, "told"),
        "merged" => (9, "told, by a later notice,"),
        "dead" => (17, "could not be told"),
        _ => (13, "could not be reached: a test"),
    };
    let body = match outcome.kind.as_str() {
        "incident" => format!(
            "{} {verb} of incident {} ({}): {}",
            outcome.receiver, outcome.incident, outcome.reason, outcome.said
        ),
        kind => format!("{} {verb} ({kind}): {}", outcome.receiver, outcome.said),
    };
    let nanos = |us: i64| u64::try_from(us).unwrap_or(0).saturating_mul(1000);
    let log = LogView {
        time_unix_nano: nanos(outcome.at_us),
        observed_time_unix_nano: nanos(now_us),
        severity_number: severity,
        severity_text: crate::rows::severity_name(i64::from(severity)).unwrap_or_default(),
        event_name: EVENT_NAME,
        body: Value::Str(&body),
        attributes: &attributes,
        ..LogView::default()
    };
    batch_of(store, "threadline.notify", now_us, &log)
}
