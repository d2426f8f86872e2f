//! `/api/v1/contract` and `/api/v1/contract/score`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use threadline_contract::registry::{Event, Registry, Use};
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

/// The contract in effect, for people to read.
pub(crate) fn contract(api: &Arc<Api>) -> Response<Body> {
    let Some(contract) = api.gatekeeper.contract() else {
        return super::json(StatusCode::OK, &json!({"version": "", "resource": [], "events": [], "rules": []}));
    };
    let registry = contract.registry();
    let rule = |rule: &Rule| {
        let action = contract.policy().action(*rule).name();
        json!({"id": rule.id(), "what": rule.what(), "weight": rule.weight(), "action": action})
    };
    let answer = json!({
        "version": registry.version(),
        "resource": uses(registry, &registry.resource),
        "events": registry.events.values().map(|event| event_wire(registry, event)).collect::<Vec<_>>(),
        "rules": Rule::ALL.iter().map(rule).collect::<Vec<_>>(),
    });
    super::json(StatusCode::OK, &answer)
}

fn event_wire(registry: &Registry, event: &Event) -> Value {
    let mut value = json!({
        "name": event.name,
        "brief": event.brief,
        "stability": event.stability,
        "request_scoped": event.request_scoped,
        "never_sampled": event.never_sampled,
        "any_of": event.any_of,
        "owner": event.owner,
        "mapping": {"ecs": event.mapping.ecs, "ocsf": event.mapping.ocsf, "owasp": event.mapping.owasp},
        "attributes": uses(registry, &event.uses),
    });
    if let Some(object) = value.as_object_mut() {
        if let Some(severity) = &event.severity {
            let range = json!({"min": severity.range.min, "max": severity.range.max});
            object.insert("severity".to_owned(), range);
        }
        if let Some(why) = &event.deprecated {
            object.insert("deprecated".to_owned(), why.as_str().into());
        }
    }
    value
}

fn uses(registry: &Registry, uses: &[Use]) -> Vec<Value> {
    let one = |used: &Use| {
        let attribute = registry.attribute(&used.key);
        let values = match attribute {
            Some(found) if used.values.is_empty() && found.closed => &found.members,
            _ => &used.values,
        };
        json!({
            "key": used.key,
            "type": attribute.map_or("any", |found| found.base.name()),
            "level": used.level.to_string(),
            "brief": attribute.map_or("", |found| found.brief.as_str()),
            "values": values,
        })
    };
    uses.iter().map(one).collect()
}
