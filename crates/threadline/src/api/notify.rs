//! `/api/v1/notify/…`: receivers, their queues, tests and replays.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::openapi::{int, list as list_of, object, reference, text as text_of};
use super::params::Params;
use super::problem::Problem;
use super::{Api, Document, decoded, json as reply};
use crate::notify::Handle;
use crate::rows::time_text;

/// What delivery says to the API, or why it is not there.
fn handle(api: &Api) -> Result<Handle, Problem> {
    let off = "nobody is told of anything here: incidents are switched off, or this is no running hub";
    api.notify.clone().ok_or_else(|| Problem::no_incidents(off))
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, crate::notify::outbox::OutboxError> + Send + 'static,
) -> Result<T, Problem> {
    let ran = tokio::task::spawn_blocking(run).await;
    let ran = ran.map_err(|error| Problem::internal(format!("it ended abnormally: {error}")))?;
    ran.map_err(|error| Problem::internal(error.to_string()))
}

fn time(us: i64) -> Value {
    if us > 0 { time_text(us).into() } else { Value::Null }
}

/// `GET /api/v1/notify/receivers`.
pub(crate) async fn receivers(api: &Arc<Api>) -> Result<Response<Body>, Problem> {
    let handle = handle(api)?;
    let now_us = api.clock.now_us();
    let problems = handle.problems();
    let listed = blocking(move || handle.list()).await?;
    let receivers: Vec<Value> = listed
        .iter()
        .map(|of| {
            json!({
                "name": of.name,
                "target": of.target,
                "waiting": of.figures.waiting,
                "dead": of.figures.dead,
                "oldest": of.figures.oldest_us.map(time_text),
                "sent": of.account.sent,
                "merged": of.account.merged,
                "failed": of.account.failed,
                "gone": of.gone,
                "paused_until": if of.paused_until_us > now_us { time(of.paused_until_us) } else { Value::Null },
                "last_success": time(of.account.last_success_us),
                "last_failure": time(of.account.last_failure_us),
                "last_failure_reason": of.account.last_failure,
            })
        })
        .collect();
    Ok(reply(StatusCode::OK, &json!({"receivers": receivers, "problems": problems})))
}

/// A receiver's name that is known.
async fn known(handle: &Handle, parameter: &str) -> Result<String, Problem> {
    let name = decoded("name", parameter)?;
    let (asked, of) = (handle.clone(), name.clone());
    if blocking(move || asked.knows(&of)).await? {
        return Ok(name);
    }
    Err(Problem::not_found(format!("there is no receiver `{name}`: `threadline notify list` lists them")))
}

/// `GET /api/v1/notify/receivers/{name}/dead`.
pub(crate) async fn dead(api: &Arc<Api>, params: &Params, parameter: &str) -> Result<Response<Body>, Problem> {
    let handle = handle(api)?;
    let name = known(&handle, parameter).await?;
    let limit = params.integer("limit")?;
    let dead = blocking(move || handle.dead(&name, limit)).await?;
    let dead: Vec<Value> = dead
        .iter()
        .map(|(number, dead)| {
            json!({
                "number": number,
                "incident": dead.notice.incident,
                "reason": dead.notice.reason.name(),
                "title": dead.notice.title,
                "decided": time_text(dead.notice.at_us),
                "died": time_text(dead.dead_us),
                "why": dead.why,
                "attempts": dead.attempts,
                "superseded": dead.superseded,
            })
        })
        .collect();
    Ok(reply(StatusCode::OK, &json!({"dead": dead})))
}

/// `POST /api/v1/notify/receivers/{name}/test`.
pub(crate) async fn test(api: &Arc<Api>, parameter: &str) -> Result<Response<Body>, Problem> {
    let handle = handle(api)?;
    let name = known(&handle, parameter).await?;
    match blocking(move || handle.test(&name)).await? {
        Some((taken, said)) => Ok(reply(StatusCode::OK, &json!({"taken": taken, "said": said}))),
        None => Err(Problem::conflict("the alerts file does not have this receiver any more")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    numbers: Option<Vec<u64>>,
}

/// `POST /api/v1/notify/receivers/{name}/replay`.
pub(crate) async fn replay(
    api: &Arc<Api>,
    parameter: &str,
    body: &Document,
) -> Result<Response<Body>, Problem> {
    if body.content_type != "application/json" {
        return Err(Problem::content_type("send {} or {\"numbers\":[…]} as application/json"));
    }
    let asked: Replay =
        serde_json::from_slice(&body.bytes).map_err(|error| Problem::body(error.to_string()))?;
    let handle = handle(api)?;
    let name = known(&handle, parameter).await?;
    let count = blocking(move || handle.replay(&name, asked.numbers.as_deref())).await?;
    Ok(reply(StatusCode::OK, &json!({"replayed": count})))
}

fn maybe_text(doc: &str) -> Value {
    json!({"type": ["string", "null"], "description": doc})
}

fn flag(doc: &str) -> Value {
    json!({"type": "boolean", "description": doc})
}

/// Schemas of the answers, by name.
pub(super) fn schemas() -> [(&'static str, Value); 8] {
    let receiver = object(
        &["name", "target", "waiting", "dead", "sent", "failed"],
        json!({
            "name": text_of("Name."),
            "target": maybe_text("Kind of its target; null: the alerts file does not have it any more."),
            "waiting": int("Notices that wait."),
            "dead": int("Notices that are dead."),
            "oldest": maybe_text("When the oldest that waits was put there."),
            "sent": int("Notices that the target took."),
            "merged": int("Notices that were told by a later one."),
            "failed": int("Attempts that failed."),
            "gone": flag("The target has said that it is gone."),
            "paused_until": maybe_text("Nothing is sent until then."),
            "last_success": maybe_text("When the target took one last."),
            "last_failure": maybe_text("When an attempt failed last."),
            "last_failure_reason": text_of("Of what."),
        }),
    );
    let dead = object(
        &["number", "incident", "reason", "title", "decided", "died", "why", "attempts", "superseded"],
        json!({
            "number": int("Number in the outbox."),
            "incident": int("Number of the incident."),
            "reason": text_of("Why it was to be told."),
            "title": text_of("Title."),
            "decided": text_of("When that was decided."),
            "died": text_of("When it was given up."),
            "why": text_of("Of what."),
            "attempts": int("How often it was tried."),
            "superseded": flag("The target knows that the incident is over: it is not replayed."),
        }),
    );
    let posted = object(
        &["labels"],
        json!({
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            "startsAt": text_of("RFC 3339."),
            "endsAt": text_of("RFC 3339; it is over then."),
            "generatorURL": text_of("Where it comes from."),
        }),
    );
    [
        (
            "NotifyReceivers",
            object(
                &["receivers", "problems"],
                json!({"receivers": list_of(receiver), "problems": list_of(text_of("What is wrong with a receiver."))}),
            ),
        ),
        ("NotifyDead", object(&["dead"], json!({"dead": list_of(dead)}))),
        (
            "NotifyTest",
            object(
                &["taken", "said"],
                json!({"taken": flag("The target took it."), "said": text_of("What it said.")}),
            ),
        ),
        ("NotifyReplay", object(&[], json!({"numbers": list_of(int("Only those; all when absent."))}))),
        ("NotifyReplayed", object(&["replayed"], json!({"replayed": int("How many wait again.")}))),
        ("PostableAlert", posted),
        ("PostableAlerts", list_of(reference("PostableAlert"))),
        (
            "Alerts",
            json!({"type": "array", "items": {"type": "object"}, "description": "Alertmanager's GettableAlerts."}),
        ),
    ]
}
