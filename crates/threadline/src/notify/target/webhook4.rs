//! The webhook of Alertmanager, version 4: what hears an Alertmanager hears us. A group is an incident, with one alert.

use serde_json::{Value, json};

use super::alertmanager::{annotations, labels};
use super::{Telling, time};
use crate::notify::http::Call;

/// How Go writes "no time".
const NO_TIME: &str = "0001-01-01T00:00:00Z";

pub(super) fn call(url: &str, told: &Telling<'_>) -> Call {
    let notice = told.notice;
    let status = if told.resolves() { "resolved" } else { "firing" };
    let labels = labels(notice);
    let annotations = annotations(told);
    let hash = xxhash_rust::xxh3::xxh3_64(told.key().as_bytes());
    let group: Value = json!(notice.group);
    let external = notice.url.split("/incidents/").next().unwrap_or_default();
    let body = json!({
        "version": "4",
        "groupKey": told.key(),
        "truncatedAlerts": 0,
        "status": status,
        "receiver": notice.receiver,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": external,
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": time(notice.first_us),
            "endsAt": if told.resolves() { time(notice.at_us.max(notice.first_us)) } else { NO_TIME.to_owned() },
            "generatorURL": notice.url,
            "fingerprint": format!("{hash:016x}"),
        }],
    });
    Call::json(url, &body)
}
