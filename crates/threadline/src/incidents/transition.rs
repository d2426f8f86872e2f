//! Transitions as audit records: event `threadline.incident.transition` of `service:threadline`, under an id that is made
//! of the transition's number.

use std::borrow::Cow;
use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use serde::{Deserialize, Serialize};
use threadline_detect::incident::{Transition, What};
use threadline_model::record::Attribute;
use threadline_model::value::Value;
use threadline_store::{BatchId, Store, StoreError};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::finding::each_own_record;
use crate::own;
use crate::rows::time_text;

/// Event name of a transition's record.
pub(crate) const EVENT_NAME: &str = "threadline.incident.transition";
/// Attribute with its number.
pub(crate) const NUMBER_KEY: &str = "threadline.incident.transition.number";
/// Keeps ids of transitions apart from all others.
const SEED: u64 = 0x696e_6369_6465_6e74;
/// Details that are numbers in the contract.
const NUMBERS: [&str; 4] = ["alerts", "into", "silence", "step"];
/// OTLP's INFO.
const SEVERITY: i32 = 9;

/// A transition in words that records and timelines have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    /// When, µs.
    pub(crate) at_us: i64,
    /// The incident; 0: none.
    pub(crate) incident: u64,
    pub(crate) actor: String,
    /// `opened`, `joined`, `ended`, `moved`, …
    pub(crate) action: String,
    /// What belongs to the action: key after `threadline.incident.`, value.
    pub(crate) details: Vec<(String, String)>,
}

impl Kept {
    pub(super) fn of(transition: &Transition) -> Kept {
        let hex = |alert: &u64| format!("{alert:016x}");
        let (action, details): (&str, Vec<(&str, String)>) = match &transition.what {
            What::Opened => ("opened", vec![]),
            What::Joined { alert } => ("joined", vec![("alert", hex(alert))]),
            What::Ended { alert } => ("ended", vec![("alert", hex(alert))]),
            What::Moved { from, to, why, until_us } => {
                let states = vec![("from", from.name().to_owned()), ("to", to.name().to_owned())];
                let ends = until_us.map(|until_us| ("ends_at", time_text(until_us)));
                ("moved", states.into_iter().chain([("reason", why.to_string())]).chain(ends).collect())
            }
            What::Assigned { to } => ("assigned", vec![("assignee", to.to_string())]),
            What::Noted { text } => ("noted", vec![("note", text.to_string())]),
            What::Escalated { step } => ("escalated", vec![("step", step.to_string())]),
            What::Merged { into } => ("merged", vec![("into", into.to_string())]),
            What::Silenced { silence, matchers, from_us, until_us, comment } => (
                "silenced",
                vec![
                    ("silence", silence.to_string()),
                    ("matchers", matchers.join(", ")),
                    ("starts_at", time_text(*from_us)),
                    ("ends_at", time_text(*until_us)),
                    ("comment", comment.to_string()),
                ],
            ),
            What::Unsilenced { silence } => ("unsilenced", vec![("silence", silence.to_string())]),
            What::SilenceEnded { silence } => ("silence_ended", vec![("silence", silence.to_string())]),
            What::Overflowed { alerts } => ("overflowed", vec![("alerts", alerts.to_string())]),
        };
        let details = details.into_iter().filter(|(_, value)| !value.is_empty());
        Kept {
            number: transition.number,
            at_us: transition.at_us,
            incident: transition.incident,
            actor: transition.actor.to_string(),
            action: action.to_owned(),
            details: details.map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }

    /// Whether a timeline tells it: alerts that come and go are findings there.
    pub(super) fn is_told(&self) -> bool {
        self.incident != 0 && !matches!(self.action.as_str(), "joined" | "ended")
    }

    fn detail(&self, key: &str) -> &str {
        self.details.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value)
    }

    /// In words.
    pub(crate) fn text(&self) -> String {
        let Kept { actor, .. } = self;
        let of = match self.incident {
            0 => String::new(),
            incident => format!("incident {incident} "),
        };
        let because = match self.detail("reason") {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        match self.action.as_str() {
            "opened" => format!("{of}opened"),
            "joined" => format!("{of}has a further alert"),
            "ended" => format!("{of}has an alert that is over"),
            "moved" => {
                let until = match self.detail("ends_at") {
                    "" => String::new(),
                    ends => format!(" until {ends}"),
                };
                format!("{of}is {}{until} by {actor}{because}", self.detail("to"))
            }
            "assigned" if self.detail("assignee").is_empty() => format!("{of}is nobody's, by {actor}"),
            "assigned" => format!("{of}is {}'s, by {actor}", self.detail("assignee")),
            "noted" => format!("{of}has a note of {actor}: {}", self.detail("note")),
            "escalated" => format!("{of}escalated, step {}", self.detail("step")),
            "merged" => format!("{of}merged into {} by {actor}", self.detail("into")),
            "silenced" => format!(
                "silence {} of {} from {} until {} made by {actor}: {}",
                self.detail("silence"),
                self.detail("matchers"),
                self.detail("starts_at"),
                self.detail("ends_at"),
                self.detail("comment")
            ),
            "unsilenced" => format!("silence {} ended by {actor}", self.detail("silence")),
            "silence_ended" => format!("silence {} is over", self.detail("silence")),
            "overflowed" => {
                format!("{} alerts found no place: too many incidents are open", self.detail("alerts"))
            }
            other => format!("{of}{other}"),
        }
    }

    /// The same whenever the transition is kept.
    pub(super) fn id(&self) -> BatchId {
        BatchId(xxh3_128_with_seed(&self.number.to_le_bytes(), SEED))
    }

    /// The batch that holds its record, checked as all records are; none is refused, for there is one of every transition.
    pub(super) fn batch(
        &self,
        writer: own::Writer<'_>,
        now_us: i64,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let int = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let keys: Vec<String> =
            self.details.iter().map(|(key, _)| format!("threadline.incident.{key}")).collect();
        let mut attributes: Vec<Attribute<'_>> = vec![
            (NUMBER_KEY, int(self.number)),
            ("threadline.incident.action", Value::Str(&self.action)),
            ("threadline.incident.actor", Value::Str(&self.actor)),
        ];
        if self.incident != 0 {
            attributes.push(("threadline.incident.id", int(self.incident)));
        }
        let values: Vec<Cow<'_, str>> =
            self.details.iter().map(|(_, value)| writer.gatekeeper.mask(value)).collect();
        for ((key, (name, _)), value) in keys.iter().zip(&self.details).zip(&values) {
            let number = value.parse().ok().filter(|_| NUMBERS.contains(&name.as_str()));
            attributes.push((key, number.map_or(Value::Str(value), Value::Int)));
        }
        let body = self.text();
        let body = writer.gatekeeper.mask(&body);
        let record = own::Record {
            event: EVENT_NAME,
            time_us: self.at_us,
            severity: SEVERITY,
            body: &body,
            attributes: &attributes,
        };
        writer.batch("threadline.incidents", now_us, &[record])
    }
}

/// Numbers of the transitions that a store holds records of, from a sequence number on.
///
/// # Errors
/// A sealed file cannot be read.
pub(super) fn kept_since(store: &Store, seq: i64) -> Result<BTreeSet<u64>, StoreError> {
    let mut known = BTreeSet::new();
    each_own_record(store, seq, |batch, row| {
        if batch.str("event_name").get(row) == Some(EVENT_NAME) {
            let number = batch.attribute(NUMBER_KEY, row);
            known.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
    })?;
    Ok(known)
}
