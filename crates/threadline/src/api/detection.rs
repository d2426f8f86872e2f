//! `/api/v1/rules`, `/api/v1/detection`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use threadline_store::Scope;

use super::params::range;
use super::problem::Problem;
use super::{Api, Document};
use crate::detection::{self, Backtest, RuleState};
use crate::meters::QueryKind;
use crate::rows::time_text;

/// The rules, and what came of each since the hub's start.
pub(crate) fn rules(api: &Arc<Api>) -> Response<Body> {
    let status = api.detection.status();
    let rules: Vec<Value> = status.rules.iter().map(rule).collect();
    super::json(StatusCode::OK, &json!({"rules": rules, "problems": status.problems}))
}

fn rule(rule: &RuleState) -> Value {
    json!({
        "id": rule.id,
        "title": rule.title,
        "description": rule.description,
        "level": rule.level,
        "tags": rule.tags,
        "references": rule.references,
        "false_positives": rule.false_positives,
        "file": rule.file,
        "line": rule.line,
        "tests": rule.tests,
        "findings": rule.findings,
        "last": rule.last_us.map(time_text),
    })
}

/// Findings of a back-test that are listed.
const LISTED_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BacktestRequest {
    rules: String,
    from: Option<String>,
    to: Option<String>,
    since: Option<String>,
    tune: Option<usize>,
}

/// `POST /api/v1/rules/backtest`.
pub(crate) async fn backtest(api: &Arc<Api>, body: Document) -> Result<Response<Body>, Problem> {
    let Document { content_type, bytes: body } = body;
    if content_type != "application/json" {
        return Err(Problem::content_type("send {\"rules\":…} as application/json"));
    }
    let asked: BacktestRequest =
        serde_json::from_slice(&body).map_err(|error| Problem::body(error.to_string()))?;
    let (from, to, since) = (asked.from.as_deref(), asked.to.as_deref(), asked.since.as_deref());
    let now_us = api.clock.now_us();
    let range = range(from, to, since, now_us)?;
    let store = api.store.clone();
    let run = api.gate.run(QueryKind::Backtest, move |guard| {
        let text: Arc<str> = asked.rules.into();
        let loaded = detection::compile(&[("rules".to_owned(), text.to_string().into())]);
        if loaded.rules.is_empty() {
            return Ok((loaded, Backtest::default(), None));
        }
        let snapshot = store.snapshot_of(Scope::All);
        let found = detection::backtest(&snapshot, &loaded.rules, range, guard)?;
        let noisy = asked.tune.map(|noisy| {
            let again = detection::compiler(text);
            let question = detection::Question { range, noisy, now_us };
            detection::tune(&snapshot, &loaded, &found, question, guard, again)
        });
        Ok((loaded, found, noisy.transpose()?))
    });
    let (loaded, found, noisy) = run.await?;
    if loaded.rules.is_empty() {
        let why = loaded.problems.first().map_or("there is no rule in it", String::as_str);
        return Err(Problem::parameter("rules", why));
    }
    let listed: Vec<Value> = found.findings.iter().take(LISTED_MAX).map(detection::json_of).collect();
    let mut answer = json!({
        "rules": loaded.rules.len(),
        "problems": loaded.problems,
        "records": found.records,
        "records_read": found.records_read,
        "full_scan_rules": found.full_scan_rules,
        "hits": found.hits,
        "total": found.findings.len(),
        "findings": listed,
    });
    if let (Some(noisy), Some(members)) = (noisy, answer.as_object_mut()) {
        members.insert("noisy".to_owned(), noisy.into());
    }
    Ok(super::json(StatusCode::OK, &answer))
}

/// How detection goes.
pub(crate) fn status(api: &Arc<Api>) -> Response<Body> {
    let status = api.detection.status();
    let last_seq = api.store.stats().last_seq;
    let risks: Vec<Value> = status
        .risks
        .iter()
        .map(|(field, value, risk)| json!({"field": field, "value": value, "risk": risk}))
        .collect();
    let answer = json!({
        "running": status.running,
        "rules": status.rules.len(),
        "problems": status.problems.len(),
        "lag_records": if status.running { (last_seq - status.next_seq + 1).max(0) } else { 0 },
        "records": status.stats.records,
        "hits": status.stats.hits,
        "findings": status.kept,
        "findings_lost": status.lost,
        "late": status.stats.late,
        "evicted": status.stats.evicted,
        "groups": status.groups,
        "group_bytes": status.group_bytes,
        "series": status.series,
        "windows": status.baselines.windows,
        "anomalies": status.baselines.anomalies,
        "risks": risks,
        "incidents": super::incidents::status(api),
    });
    super::json(StatusCode::OK, &answer)
}
