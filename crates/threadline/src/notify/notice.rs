//! What a receiver is told. Everything in it has a bound, so that one notice is at most some 64 kB.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use threadline_detect::incident::Reason;

use super::text::cut;

/// Characters of names: hub, receiver, route, state, severity, keys of labels.
const NAME_CHARS_MAX: usize = 128;
/// Characters of a title, of values of labels and of entities.
const TITLE_CHARS_MAX: usize = 256;
/// Characters of the summary.
const SUMMARY_CHARS_MAX: usize = 2048;
/// Characters of the link.
const URL_CHARS_MAX: usize = 1024;
/// Labels, rules, services and entities at most; further ones are left out (the page of the incident has them).
const LABELS_MAX: usize = 32;
const LIST_MAX: usize = 32;

/// What the notice is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// An incident.
    #[default]
    Incident,
    /// Somebody tries the receiver out.
    Test,
    /// Shows at intervals that the path is alive.
    Watchdog,
}

impl Kind {
    /// Name in records.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Incident => "incident",
            Kind::Test => "test",
            Kind::Watchdog => "watchdog",
        }
    }
}

/// What a receiver is told of an incident, as it was when that was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// Incident, test or watchdog.
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Name of the hub, for people.
    pub(crate) hub: String,
    /// Number of the incident.
    pub(crate) incident: u64,
    /// Name of the receiver.
    pub(crate) receiver: String,
    /// Why it is told.
    #[serde(serialize_with = "write_reason", deserialize_with = "read_reason")]
    pub(crate) reason: Reason,
    /// Which message of this incident to this receiver it is, from 1.
    pub(crate) number: u32,
    /// When it was decided, µs.
    pub(crate) at_us: i64,
    /// One line that says what it is.
    pub(crate) title: String,
    /// critical, high, medium, low or informational; empty: not known.
    pub(crate) severity: String,
    /// open, acknowledged, snoozed, resolved or merged.
    pub(crate) state: String,
    /// Name of the route.
    pub(crate) route: String,
    /// Labels of the group.
    pub(crate) group: BTreeMap<String, String>,
    /// Titles of the rules that found it.
    pub(crate) rules: Vec<String>,
    /// Services that it is about.
    pub(crate) services: Vec<String>,
    /// Entities, as (attribute, value): `("client.address", "203.0.113.7")`.
    pub(crate) entities: Vec<(String, String)>,
    /// Time of the first finding, µs.
    pub(crate) first_us: i64,
    /// Time of the last finding, µs.
    pub(crate) last_us: i64,
    /// Alerts, and those of them that are not over.
    pub(crate) alerts: u64,
    pub(crate) active: u64,
    /// Findings.
    pub(crate) findings: u64,
    /// Who has it; empty: nobody.
    #[serde(default)]
    pub(crate) assignee: String,
    /// Address of the incident's page; empty where the hub does not know its own (setting `public_url`).
    pub(crate) url: String,
    /// Some sentences.
    pub(crate) summary: String,
}

impl Notice {
    /// The same within the bounds.
    pub(crate) fn capped(mut self) -> Notice {
        for (text, max) in [
            (&mut self.hub, NAME_CHARS_MAX),
            (&mut self.receiver, NAME_CHARS_MAX),
            (&mut self.severity, NAME_CHARS_MAX),
            (&mut self.state, NAME_CHARS_MAX),
            (&mut self.route, NAME_CHARS_MAX),
            (&mut self.assignee, NAME_CHARS_MAX),
            (&mut self.title, TITLE_CHARS_MAX),
            (&mut self.summary, SUMMARY_CHARS_MAX),
        ] {
            shorten(text, max);
        }
        // A link that is cut leads nowhere.
        if self.url.chars().count() > URL_CHARS_MAX {
            self.url.clear();
        }
        let labels = std::mem::take(&mut self.group).into_iter().take(LABELS_MAX);
        self.group = labels
            .map(|(mut name, mut value)| {
                shorten(&mut name, NAME_CHARS_MAX);
                shorten(&mut value, TITLE_CHARS_MAX);
                (name, value)
            })
            .collect();
        for list in [&mut self.rules, &mut self.services] {
            list.truncate(LIST_MAX);
            list.iter_mut().for_each(|text| shorten(text, TITLE_CHARS_MAX));
        }
        self.entities.truncate(LIST_MAX);
        for (name, value) in &mut self.entities {
            shorten(name, NAME_CHARS_MAX);
            shorten(value, TITLE_CHARS_MAX);
        }
        self
    }
}

fn shorten(text: &mut String, chars_max: usize) {
    if text.chars().nth(chars_max).is_some() {
        *text = cut(text, chars_max);
    }
}

/// All reasons.
pub(crate) const REASONS: [Reason; 6] =
    [Reason::Trigger, Reason::Update, Reason::Repeat, Reason::Escalation, Reason::Acknowledge, Reason::Resolve];

fn write_reason<S: Serializer>(reason: &Reason, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(reason.name())
}

fn read_reason<'de, D: Deserializer<'de>>(from: D) -> Result<Reason, D::Error> {
    let name = String::deserialize(from)?;
    let reason = REASONS.into_iter().find(|reason| reason.name() == name);
    reason.ok_or_else(|| serde::de::Error::custom(format!("there is no reason `{name}`")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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

    #[test]
    fn whatever_is_in_it_a_notice_is_small_and_comes_back_as_it_was() {
        let long = "ä".repeat(100_000);
        let mut huge = notice("r", 1, Reason::Trigger, 1);
        for text in [&mut huge.hub, &mut huge.title, &mut huge.summary, &mut huge.url, &mut huge.state] {
            text.clone_from(&long);
        }
        huge.rules = vec![long.clone(); 1000];
        huge.entities = vec![(long.clone(), long.clone()); 1000];
        huge.group = (0..1000).map(|n| (format!("{n}{long}"), long.clone())).collect();
        let capped = huge.capped();
        let bytes = serde_json::to_vec(&capped).unwrap();
        assert!(bytes.len() < 96 << 10, "{}", bytes.len());
        assert_eq!(serde_json::from_slice::<Notice>(&bytes).unwrap(), capped);
        assert_eq!(capped.clone().capped(), capped);
        for reason in REASONS {
            let small = notice("r", 7, reason, 2);
            assert_eq!(small.clone().capped(), small);
            assert_eq!(serde_json::from_slice::<Notice>(&serde_json::to_vec(&small).unwrap()).unwrap(), small);
        }
    }
}
