//! A notice for tests.

use threadline_detect::incident::Reason;

use super::{Kind, Notice};

/// A notice for tests.
pub(crate) fn notice(receiver: &str, incident: u64, reason: Reason, number: u32) -> Notice {
    Notice {
        kind: Kind::Incident,
        hub: "hub-1".to_owned(),
        incident,
        receiver: receiver.to_owned(),
        reason,
        number,
        at_us: 1_790_000_000_000_000 + i64::from(number) * 1_000_000,
        title: "Credential stuffing against checkout".to_owned(),
        severity: "high".to_owned(),
        state: if reason == Reason::Resolve { "resolved" } else { "open" }.to_owned(),
        route: "security".to_owned(),
        group: [("rule", "stuffing"), ("service", "checkout")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        rules: vec!["Many failed logins of one source".to_owned()],
        services: vec!["checkout".to_owned()],
        entities: vec![("client.address".to_owned(), "203.0.113.7".to_owned())],
        first_us: 1_790_000_000_000_000,
        last_us: 1_790_000_060_000_000,
        alerts: 3,
        active: if reason == Reason::Resolve { 0 } else { 2 },
        findings: 50,
        assignee: String::new(),
        url: format!("https://hub.example/incidents/{incident}"),
        summary: "50 findings of one source within a minute.".to_owned(),
    }
}
