//! `/api/v1/incidents`, `/api/v1/silences`.

pub(super) mod schemas;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use threadline_detect::incident::{Command, Matcher, Refusal, Silence, State, Transition, What};

use super::params::Params;
use super::problem::Problem;
use super::{Api, Document, counted, json as reply, text};
use crate::door::caller::Caller;
use crate::incidents::{Denied, Failure, Merged, Report, SEVERITIES, Summary, Taken, markdown, ocsf};
use crate::meters::QueryKind;
use crate::rows::time_text;
use crate::when;

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        match failure {
            Failure::NotRunning(why) => Problem::no_incidents(why),
            Failure::Busy(why) => Problem::busy(why),
            Failure::Denied(Denied::Refused(refusal)) => match &refusal {
                Refusal::Unknown(_) => Problem::not_found(refusal.to_string()),
                Refusal::State { .. } => Problem::conflict(refusal.to_string()),
                Refusal::Invalid(_) => Problem::body(refusal.to_string()),
            },
            Failure::Denied(Denied::NotKept(why)) => {
                Problem::no_incidents(format!("it could not be kept, and was not done: {why}"))
            }
        }
    }
}

/// Who acts, as transitions name them.
fn actor(caller: &Caller) -> String {
    caller.token.as_ref().map_or_else(|| caller.id(), |token| token.name.clone())
}

/// Matchers of a silence at most, and their bytes in all.
const MATCHERS_MAX: usize = 64;
const MATCHER_BYTES_MAX: usize = 16 << 10;

fn number(parameter: &str) -> Result<u64, Problem> {
    let number = parameter.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Problem::not_found(format!("`{parameter}` is no number of an incident or silence")))
}

fn read<T: DeserializeOwned>(body: &Document, what: &str) -> Result<T, Problem> {
    if body.content_type != "application/json" {
        return Err(Problem::content_type(format!("send {what} as application/json")));
    }
    serde_json::from_slice(&body.bytes).map_err(|error| Problem::body(format!("{error}: send {what}")))
}

/// Runs what blocks where it holds up nobody.
async fn blocking<T: Send + 'static, E: Into<Problem> + Send + 'static>(
    run: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Problem> {
    let ran = tokio::task::spawn_blocking(run).await;
    ran.map_err(|error| Problem::internal(format!("it ended abnormally: {error}")))?.map_err(Into::into)
}

/// How incidents go, for `/api/v1/detection`.
pub(crate) fn status(api: &Api) -> Value {
    let status = api.incidents.status();
    let live: Map<String, Value> = SEVERITIES
        .iter()
        .zip(status.live)
        .map(|(severity, count)| ((*severity).to_owned(), count.into()))
        .collect();
    let lag = (api.store.stats().last_seq - status.next_seq + 1).max(0);
    json!({
        "running": status.running,
        "problem": status.problem,
        "alerts_file_problem": status.alerts_problem,
        "live": live,
        "lag_records": if status.running { lag } else { 0 },
        "silences": status.silences,
    })
}

/// `GET /api/v1/incidents`.
pub(crate) async fn list(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let finding = params.sequence("finding")?;
    let state = params.choice("state")?.unwrap_or(if finding.is_some() { "all" } else { "live" });
    let rank =
        |severity: &str| SEVERITIES.iter().position(|known| *known == severity).unwrap_or(SEVERITIES.len());
    let worst = params.choice("severity")?.map(rank);
    let service = params.text("service").map(str::to_owned);
    let before = params.sequence("before")?.and_then(|number| u64::try_from(number).ok());
    let limit = params.integer("limit")?;
    let board = api.incidents.clone();
    let answer = blocking(move || {
        board.read(|desk, book| {
            let fits = |state_of: State| match state {
                "all" => true,
                "live" => state_of.is_live(),
                name => state_of.name() == name,
            };
            let holders = finding.map(|seq| book.holders(seq)).transpose();
            let holders = holders.map_err(|error| Failure::NotRunning(error.to_string()))?;
            let holders: Option<BTreeSet<u64>> =
                holders.map(|ids| ids.into_iter().filter_map(|id| Some(desk.holder(id)?.id)).collect());
            let matching: Vec<_> = desk
                .incidents()
                .filter(|incident| holders.as_ref().is_none_or(|holders| holders.contains(&incident.id)))
                .filter(|incident| fits(incident.state))
                .filter(|incident| worst.is_none_or(|worst| rank(incident.severity()) <= worst))
                .filter(|incident| {
                    let of = |service: &str| {
                        let mut labels =
                            incident.alerts.values().filter_map(|alert| alert.labels.get("service"));
                        labels.any(|label| &**label == service)
                    };
                    service.as_deref().is_none_or(of)
                })
                .collect();
            let from =
                matching.iter().rev().filter(|incident| before.is_none_or(|before| incident.id < before));
            let mut page: Vec<_> = from.take(limit + 1).collect();
            let more = page.len() > limit;
            page.truncate(limit);
            let counts = book.counts(&Merged::of(desk), page.iter().map(|incident| incident.id));
            let counts = counts.map_err(|error| Failure::NotRunning(error.to_string()))?;
            let count = |id: u64| counts.get(&id).copied().unwrap_or_default();
            let incidents: Vec<Summary> =
                page.iter().map(|incident| Summary::of(incident, &count(incident.id))).collect();
            let next = incidents.last().filter(|_| more).map(|last| last.id);
            Ok::<_, Failure>((
                json!({"incidents": incidents, "total": matching.len(), "next": next}),
                incidents.len(),
            ))
        })?
    });
    let (mut answer, rows) = answer.await?;
    let status = api.incidents.status();
    let problems: Vec<String> = status.problem.into_iter().chain(status.alerts_problem).collect();
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("problems".to_owned(), problems.into());
    }
    Ok(counted(reply(StatusCode::OK, &answer), rows))
}

async fn evidence(api: &Arc<Api>, parameter: &str) -> Result<Report, Problem> {
    let id = number(parameter)?;
    let (board, store, now_us) = (api.incidents.clone(), api.store.clone(), api.clock.now_us());
    let (taken, book) = blocking(move || board.read(|desk, book| (Taken::of(desk, id), book.clone()))).await?;
    let taken = taken.ok_or_else(|| Problem::from(Failure::Denied(Denied::Refused(Refusal::Unknown(id)))))?;
    let build = move |guard: &threadline_query::Guard| Report::build(taken, &book, &store, now_us, guard);
    api.gate.run(QueryKind::Incidents, build).await
}

/// `GET /api/v1/incidents/{id}`.
pub(crate) async fn show(api: &Arc<Api>, parameter: &str) -> Result<Response<Body>, Problem> {
    let report = evidence(api, parameter).await?;
    Ok(counted(reply(StatusCode::OK, &report), report.timeline.len()))
}

/// `GET /api/v1/incidents/{id}/report`.
pub(crate) async fn report(
    api: &Arc<Api>,
    params: &Params,
    parameter: &str,
) -> Result<Response<Body>, Problem> {
    let format = params.choice("format")?;
    let report = evidence(api, parameter).await?;
    let response = match format {
        Some("json") => reply(StatusCode::OK, &report),
        Some("ocsf") => reply(StatusCode::OK, &ocsf(&report)),
        _ => text("text/markdown; charset=utf-8", markdown(&report)),
    };
    Ok(counted(response, report.timeline.len()))
}

/// What needs no more than an incident.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Acknowledge,
    Resolve,
    Reopen,
}

/// Does a command; the incident as it is then.
async fn done(
    api: &Arc<Api>,
    caller: &Caller,
    incident: u64,
    command: Command,
) -> Result<Response<Body>, Problem> {
    let (board, actor) = (api.incidents.clone(), actor(caller));
    let summary = blocking(move || {
        board.command(&actor, command)?;
        board.read(|desk, book| {
            let unknown = || Failure::Denied(Denied::Refused(Refusal::Unknown(incident)));
            let of = desk.incident(incident).ok_or_else(unknown)?;
            let counts = book.counts(&Merged::of(desk), [incident]);
            let counts = counts.map_err(|error| Failure::NotRunning(error.to_string()))?;
            Ok::<_, Failure>(Summary::of(of, &counts.get(&incident).copied().unwrap_or_default()))
        })?
    });
    Ok(reply(StatusCode::OK, &summary.await?))
}

/// `POST /api/v1/incidents/{id}/acknowledge`, `…/resolve`, `…/reopen`.
pub(crate) async fn act(
    api: &Arc<Api>,
    act: Act,
    parameter: &str,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let incident = number(parameter)?;
    let command = match act {
        Act::Acknowledge => Command::Acknowledge { incident },
        Act::Resolve => Command::Resolve { incident },
        Act::Reopen => Command::Reopen { incident },
    };
    done(api, caller, incident, command).await
}

/// What somebody typed, without secrets: it is kept, told, and shown.
fn mask(api: &Api, text: &str) -> Box<str> {
    api.gatekeeper.mask(text).into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assign {
    to: String,
}

/// `POST /api/v1/incidents/{id}/assign`.
pub(crate) async fn assign(
    api: &Arc<Api>,
    parameter: &str,
    body: &Document,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let incident = number(parameter)?;
    let Assign { to } = read(body, "{\"to\"}")?;
    done(api, caller, incident, Command::Assign { incident, to: mask(api, to.trim()) }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    text: String,
}

/// `POST /api/v1/incidents/{id}/note`.
pub(crate) async fn note(
    api: &Arc<Api>,
    parameter: &str,
    body: &Document,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let incident = number(parameter)?;
    let Note { text } = read(body, "{\"text\"}")?;
    done(api, caller, incident, Command::Note { incident, text: mask(api, &text) }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Snooze {
    until: Option<String>,
    r#for: Option<String>,
}

/// The end of what is asked for until a time, or for so long, µs.
fn end(until: Option<&str>, length: Option<&str>, from_us: i64, now_us: i64) -> Result<i64, Problem> {
    match (until, length) {
        (Some(until), None) => {
            when::parse_time(until, now_us).map_err(|reason| Problem::parameter("until", reason))
        }
        (None, Some(length)) => {
            let length =
                when::parse_duration(length).map_err(|reason| Problem::parameter("for", reason))?.as_micros();
            let end = i64::try_from(length).ok().and_then(|length| from_us.checked_add(length));
            end.ok_or_else(|| Problem::parameter("for", "is longer than can be"))
        }
        _ => Err(Problem::parameter("until", "give one of `until` (a time) and `for` (a duration such as 2h)")),
    }
}

/// `POST /api/v1/incidents/{id}/snooze`.
pub(crate) async fn snooze(
    api: &Arc<Api>,
    parameter: &str,
    body: &Document,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let incident = number(parameter)?;
    let Snooze { until, r#for } = read(body, "{\"for\"} or {\"until\"}")?;
    let now_us = api.clock.now_us();
    let until_us = end(until.as_deref(), r#for.as_deref(), now_us, now_us)?;
    done(api, caller, incident, Command::Snooze { incident, until_us }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    into: u64,
}

/// `POST /api/v1/incidents/{id}/merge`.
pub(crate) async fn merge(
    api: &Arc<Api>,
    parameter: &str,
    body: &Document,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let incident = number(parameter)?;
    let Merge { into } = read(body, "{\"into\"}")?;
    done(api, caller, incident, Command::Merge { incident, into }).await
}

fn silence_json(silence: &Silence, now_us: i64) -> Value {
    let matchers: Vec<String> = silence.matchers.iter().map(ToString::to_string).collect();
    json!({
        "id": silence.id,
        "matchers": matchers,
        "from": time_text(silence.from_us),
        "until": time_text(silence.until_us),
        "author": &*silence.author,
        "comment": &*silence.comment,
        "active": (silence.from_us..silence.until_us).contains(&now_us),
    })
}

/// `GET /api/v1/silences`.
pub(crate) async fn silences(api: &Arc<Api>) -> Result<Response<Body>, Problem> {
    let (board, now_us) = (api.incidents.clone(), api.clock.now_us());
    let read = blocking(move || {
        board.read(|desk, _| desk.silences().map(|one| silence_json(one, now_us)).collect::<Vec<Value>>())
    });
    Ok(reply(StatusCode::OK, &json!({"silences": read.await?})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SilenceRequest {
    matchers: Vec<String>,
    from: Option<String>,
    until: Option<String>,
    r#for: Option<String>,
    comment: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewRequest {
    matchers: Vec<String>,
}

/// Matchers of a silence. What they may cost is bounded before any is compiled; a secret in one is refused, as it would be
/// kept as it is, and no label has it.
fn matchers(api: &Api, texts: &[String]) -> Result<Vec<Matcher>, Problem> {
    let fault = |what: String| Err(Problem::parameter("matchers", what));
    if texts.is_empty() || texts.len() > MATCHERS_MAX {
        return fault(format!("give from 1 to {MATCHERS_MAX}"));
    }
    if texts.iter().map(String::len).sum::<usize>() > MATCHER_BYTES_MAX {
        return fault(format!("have more than {MATCHER_BYTES_MAX} bytes in all"));
    }
    if texts.iter().any(|text| matches!(api.gatekeeper.mask(text), Cow::Owned(_))) {
        return fault("one holds a secret: labels have masks in the place of secrets".to_owned());
    }
    let read =
        |text: &String| Matcher::parse(text).map_err(|error| Problem::parameter("matchers", error.to_string()));
    texts.iter().map(read).collect()
}

/// `POST /api/v1/silences`.
pub(crate) async fn silence(
    api: &Arc<Api>,
    body: &Document,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let asked: SilenceRequest = read(body, "{\"matchers\",\"for\" or \"until\",\"comment\"}")?;
    let now_us = api.clock.now_us();
    let from = asked.from.as_deref().map(|from| when::parse_time(from, now_us));
    let from_us = from.transpose().map_err(|reason| Problem::parameter("from", reason))?.unwrap_or(now_us);
    let until_us = end(asked.until.as_deref(), asked.r#for.as_deref(), from_us, now_us)?;
    let (of, texts) = (Arc::clone(api), asked.matchers);
    let command = Command::Silence {
        matchers: blocking(move || matchers(&of, &texts)).await?,
        from_us,
        until_us,
        comment: mask(api, asked.comment.trim()),
    };
    let (board, actor) = (api.incidents.clone(), actor(caller));
    let made = blocking(move || {
        let transitions = board.command(&actor, command)?;
        let id = transitions.iter().find_map(|Transition { what, .. }| match what {
            What::Silenced { silence, .. } => Some(*silence),
            _ => None,
        });
        // One that is so short that it has ended already is there no more.
        board.read(|desk, _| {
            let found = desk.silences().find(|silence| Some(silence.id) == id);
            found.map_or_else(|| json!({"id": id}), |silence| silence_json(silence, now_us))
        })
    });
    Ok(reply(StatusCode::OK, &made.await?))
}

/// `POST /api/v1/silences/preview`.
pub(crate) async fn preview(api: &Arc<Api>, body: &Document) -> Result<Response<Body>, Problem> {
    let PreviewRequest { matchers: texts } = read(body, "{\"matchers\"}")?;
    let (board, of) = (api.incidents.clone(), Arc::clone(api));
    let matchers = blocking(move || matchers(&of, &texts)).await?;
    let preview = blocking(move || board.read(|desk, _| desk.preview(&matchers))).await?;
    let incidents: Vec<Value> = preview
        .incidents
        .iter()
        .map(|(id, muted, all)| json!({"id": id, "alerts_muted": muted, "alerts": all}))
        .collect();
    Ok(reply(StatusCode::OK, &json!({"incidents": incidents, "muted_whole": preview.whole})))
}

/// `DELETE /api/v1/silences/{id}`.
pub(crate) async fn unsilence(
    api: &Arc<Api>,
    parameter: &str,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let silence = number(parameter)?;
    let (board, actor) = (api.incidents.clone(), actor(caller));
    blocking(move || board.command(&actor, Command::Unsilence { silence })).await?;
    Ok(reply(StatusCode::OK, &json!({"ended": silence})))
}
