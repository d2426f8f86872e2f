//! A service as nobody should write one: no version, no environment, names of its own, secrets in texts. Its contract score is to be
//! low for the right reasons.

use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::Result;
use crate::mesh::{Mesh, identity};
use crate::services;

/// Its name.
pub(crate) const NAME: &str = "careless";

/// Rules that it breaks.
pub(crate) const BREAKS: &[&str] =
    &["resource.missing", "event.unknown", "attribute.missing", "attribute.deprecated", "secret.attribute"];

/// Sends its records; returns how many.
pub(crate) async fn send(folder: &Path, otlp: &str) -> Result<u64> {
    let mesh = Mesh::new(&identity(folder, NAME))?;
    let now = services::now().as_nanos().to_string();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let record = |n: usize| match n % 3 {
        0 => {
            json!({"timeUnixNano": now, "severityNumber": 9, "body": {"stringValue": format!("done {n}")}, "eventName": "DoneEvent"})
        }
        1 => {
            json!({"timeUnixNano": now, "severityNumber": 9, "body": {"stringValue": format!("request {n}")}, "eventName": "request.finished",
            "attributes": [text("http.status_code", "500")]})
        }
        _ => {
            json!({"timeUnixNano": now, "severityNumber": 17, "body": {"stringValue": format!("login {n} with password")},
            "attributes": [text("password", "hunter2")]})
        }
    };
    let records: Vec<_> = (0..30).map(record).collect();
    let request = json!({"resourceLogs": [{
        "resource": {"attributes": [text("service.name", NAME)]},
        "scopeLogs": [{"logRecords": records}],
    }]});
    let request = Request::post(format!("{otlp}/v1/logs"))
        .header("content-type", "application/json")
        .body(Body::from(request.to_string()));
    let answer = mesh.send(request.map_err(|error| error.to_string())?).await?;
    let said = String::from_utf8_lossy(answer.body()).into_owned();
    if answer.status().is_success() {
        Ok(30)
    } else {
        Err(format!("the hub refused the careless service: {said}"))
    }
}
