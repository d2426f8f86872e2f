//! `/api/v1/contract/score`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use threadline_contract::rules::{Action, Rule};
use threadline_contract::score::{RuleCount, Sender, Tally};

use super::Api;

/// How well each service keeps the contract.
pub(crate) fn score(api: &Arc<Api>) -> Response<Body> {
    let Some(contract) = api.gatekeeper.contract() else {
        return super::json(StatusCode::OK, &json!({"checked": false, "version": "", "senders": []}));
    };
    let enabled = |rule: Rule| contract.policy().action(rule) != Action::Off;
    let senders: Vec<Value> =
        api.gatekeeper.board().all().iter().map(|(sender, tally)| one(sender, tally, &enabled)).collect();
    let answer = json!({"checked": true, "version": contract.registry().version(), "senders": senders});
    super::json(StatusCode::OK, &answer)
}

fn one(sender: &Sender, tally: &Tally, enabled: &dyn Fn(Rule) -> bool) -> Value {
    json!({
        "service": sender.service,
        "version": sender.version,
        "records": tally.records,
        "violated": tally.violated,
        "quarantined": tally.quarantined,
        "score": (tally.score(enabled) * 10.0).round() / 10.0,
        "rules": tally.rules.iter().map(|(rule, count)| broken(*rule, count)).collect::<Vec<_>>(),
    })
}

fn broken(rule: Rule, count: &RuleCount) -> Value {
    let mut value = json!({"rule": rule.id(), "records": count.records});
    if let (Some(finding), Some(value)) = (&count.example, value.as_object_mut()) {
        let example = json!({
            "at": finding.at,
            "found": finding.found,
            "expected": finding.expected,
            "fix": finding.fix,
        });
        value.insert("example".to_owned(), example);
    }
    value
}
