//! `/api/v2/…`: Alertmanager's API, as far as those need it who send alerts and look at them.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use threadline_detect::incident::Matcher;

use super::params::Params;
use super::problem::Problem;
use super::{Api, Document, json as reply, text};
use crate::notify::{PostError, Posted, PostedAlerts};
use crate::rows::time_text;

fn posted(api: &Api) -> Result<PostedAlerts, Problem> {
    let handle = api.notify.as_ref();
    let off = "alerts are not taken here: incidents are switched off";
    handle.map(|handle| handle.posted().clone()).ok_or_else(|| Problem::no_incidents(off))
}

/// `POST /api/v2/alerts`.
pub(crate) async fn post(api: &Arc<Api>, body: Document) -> Result<Response<Body>, Problem> {
    if body.content_type != "application/json" {
        return Err(Problem::content_type("send an array of alerts as application/json"));
    }
    let (alerts, store, now_us) = (posted(api)?, api.store.clone(), api.clock.now_us());
    let ran = tokio::task::spawn_blocking(move || alerts.post(&store, &body.bytes, now_us)).await;
    match ran.map_err(|error| Problem::internal(format!("it ended abnormally: {error}")))? {
        Ok(()) => Ok(Response::new(Body::empty())),
        // A bare text, as clients of an Alertmanager expect it.
        Err(PostError::Wrong(what)) => Ok(reply(StatusCode::BAD_REQUEST, &what)),
        Err(PostError::Busy(what)) => Err(Problem::busy(what)),
    }
}

/// `GET /api/v2/alerts`.
pub(crate) async fn list(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let mut matchers = Vec::new();
    for filter in params.all("filter") {
        let inner = filter.trim().trim_start_matches('{').trim_end_matches('}');
        matchers.push(Matcher::parse(inner).map_err(|error| Problem::parameter("filter", error.to_string()))?);
    }
    // All are active: what mutes is a matter of incidents.
    let wanted = !matches!(params.text("active"), Some("false" | "0"));
    let (alerts, now_us) = (posted(api)?, api.clock.now_us());
    let ran = tokio::task::spawn_blocking(move || {
        let fits = |posted: &&Posted| wanted && matchers.iter().all(|matcher| matcher.matches(&posted.labels));
        reply(StatusCode::OK, &alerts.active(now_us).iter().filter(fits).map(gettable).collect::<Vec<_>>())
    });
    ran.await.map_err(|error| Problem::internal(format!("it ended abnormally: {error}")))
}

fn gettable(posted: &Posted) -> Value {
    json!({
        "labels": posted.labels,
        "annotations": posted.annotations,
        "startsAt": time_text(posted.starts_us),
        "endsAt": time_text(posted.ends_us),
        "updatedAt": time_text(posted.updated_us),
        "fingerprint": format!("{:016x}", posted.fingerprint),
        "generatorURL": posted.generator_url,
        "receivers": [{"name": "threadline"}],
        "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []},
    })
}

/// `GET /api/v2/status`.
pub(crate) fn status(api: &Arc<Api>) -> Result<Response<Body>, Problem> {
    posted(api)?;
    let started = api.clock.now_us() - i64::try_from(api.clock.monotonic().as_micros()).unwrap_or(0);
    let none = "";
    let status = json!({
        "cluster": {"status": "disabled", "peers": []},
        "versionInfo": {
            "version": env!("CARGO_PKG_VERSION"),
            "revision": none,
            "branch": none,
            "buildUser": none,
            "buildDate": none,
            "goVersion": none,
        },
        "config": {"original": "# Threadline: see its alerts file"},
        "uptime": time_text(started.max(0)),
    });
    Ok(text("application/json", status.to_string()))
}
