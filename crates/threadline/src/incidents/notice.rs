//! What a receiver is told of an incident, as it is when that is decided.

use std::collections::BTreeSet;

use redb::WriteTransaction;
use threadline_detect::incident::{Desk, Incident, Message};

use super::book::{Counts, Fault};
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
    message: &Message,
) -> Result<(), Fault> {
    // A message is of an incident that the desk has.
    let Some(incident) = desk.incident(message.incident) else { return Ok(()) };
    outbox::put(write, &notice(telling, incident, message))?;
    Ok(())
}

fn notice(telling: &Telling, incident: &Incident, message: &Message) -> Notice {
    let findings = incident.alerts.values().map(|member| member.count).sum::<u64>() + incident.more;
    let summary = Summary::of(incident, &Counts { findings, ..Counts::default() });
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
