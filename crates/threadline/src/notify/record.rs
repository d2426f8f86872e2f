//! How notices ended, as records of the hub: event `threadline.notification` of `service:threadline`.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use threadline_model::record::Attribute;
use threadline_model::value::Value;
use threadline_store::BatchId;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::outbox::Outcome;
use crate::own;

/// Name of the event.
pub(crate) const EVENT_NAME: &str = "threadline.notification";
/// Keeps ids of these records apart from others.
const SEED: u64 = 0x6e6f_7469_6669_6564;

/// The id of the batch of an outcome: the same whenever it is kept again.
pub(super) fn id(hub_id: &str, number: u64) -> BatchId {
    BatchId(xxh3_128_with_seed(format!("{hub_id}/{number}").as_bytes(), SEED))
}

/// The batch of an outcome.
pub(super) fn batch(
    writer: own::Writer<'_>,
    outcome: &Outcome,
    now_us: i64,
) -> Result<Option<RecordBatch>, ArrowError> {
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
    let record = own::Record {
        event: EVENT_NAME,
        time_us: outcome.at_us,
        severity,
        body: &body,
        attributes: &attributes,
    };
    writer.batch("threadline.notify", now_us, &[record])
}
