//! `/healthz`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::json;
use threadline_store::Pressure;

use super::Api;
use crate::door::caller::Caller;

/// 200 when records are taken, 503 when not.
/// Who is not known hears no more than that.
pub(crate) fn health(api: &Arc<Api>, caller: &Caller) -> Response<Body> {
    let health = api.store.health();
    let stopping = api.stopping.load(Ordering::Relaxed);
    let (ingest, reason) = match &health.pressure {
        _ if stopping => ("stopping", Some("the hub is stopping")),
        Pressure::None => ("accepting", None),
        Pressure::Refusing(reason) => ("refusing", Some(reason.as_str())),
        Pressure::Failed(reason) => ("failed", Some(reason.as_str())),
    };
    let well = ingest == "accepting" && health.maintenance_error.is_none();
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if caller.roles.is_empty() {
        return super::json(status, &json!({"status": if well { "ok" } else { "unwell" }, "ingest": ingest}));
    }
    let (in_flight, in_flight_max) = api.intake.in_flight_bytes();
    let answer = json!({
        "status": if well { "ok" } else { "unwell" },
        "ingest": ingest,
        "reason": reason,
        "maintenance_error": health.maintenance_error,
        "disk_free_bytes": health.disk_free_bytes,
        "memory_bytes": health.memory_bytes,
        "unsealed_age_s": health.unsealed_age.as_secs_f64(),
        "requests_in_flight_bytes": in_flight,
        "requests_in_flight_bytes_max": in_flight_max,
        "version": env!("CARGO_PKG_VERSION"),
    });
    super::json(status, &answer)
}
