//! What a receiver is told of an incident, as it is when that is decided.

use std::collections::BTreeSet;

use redb::WriteTransaction;
use threadline_detect::incident::{Desk, Incident, Message};

use super::book::{self, Counts, Fault, Merged};
use super::{Summary, Telling};
use crate::notify::{Kind, Notice, outbox};

/// Labels that are no entities.
const NO_ENTITIES: [&str; 6] = ["alertname", "rule", "rule_id", "service", "severity", "team"];

/// Puts a message into the outbox, in the transaction of the transition that causes it.
///
/// # Errors
/// The outbox cannot be written.
pub(super) fn put(
    write: &WriteTransaction,
    telling: &Telling,
    desk: &Desk,
    merged: &Merged,
    message: &Message,
) -> Result<(), Fault> {
    // A message is of an incident that the desk has.
    let Some(incident) = desk.incident(message.incident) else { return Ok(()) };
    let counts = book::counts_in(write, merged, incident.id)?;
    outbox::put(write, &notice(telling, incident, &counts, message))?;
    Ok(())
}

fn notice(telling: &Telling, incident: &Incident, counts: &Counts, message: &Message) -> Notice {
    let summary = Summary::of(incident, counts);
    let findings = summary.findings;
    let mut entities = BTreeSet::new();
    for (name, value) in incident.alerts.values().flat_map(|member| &member.labels) {
        if !NO_ENTITIES.contains(&&**name) {
            entities.insert((name.to_string(), value.to_string()));
        }
    }
    let nobody = if summary.assignee.is_empty() { "nobody has it" } else { &summary.assignee };
    let text = format!(
        "{} findings in {} alerts, {} of them active, from {} to {}; {}, {nobody}.",
        findings, summary.alerts, summary.active, summary.first_seen, summary.last_seen, summary.state
    );
    let notice = Notice {
        kind: Kind::Incident,
        hub: telling.hub.clone(),
        incident: incident.id,
        receiver: message.receiver.to_string(),
        reason: message.reason,
        number: message.number,
        at_us: message.at_us,
        title: summary.title,
        severity: summary.severity,
        state: summary.state.to_owned(),
        route: summary.route,
        group: summary.group,
        rules: summary.rules,
        services: summary.services,
        entities: entities.into_iter().collect(),
        first_us: summary.at.first_us,
        last_us: summary.at.last_us,
        alerts: summary.alerts,
        active: summary.active,
        findings,
        assignee: summary.assignee,
        url: telling.page(incident.id),
        summary: text,
    };
    notice.capped()
}
