//! What detection finds.
//!
//! The hub keeps a finding as a log record: event name [`EVENT_NAME`], severity by level, the attributes of
//! [`Finding::attributes`], the explanation as body. Its id is a hash of what was found, not of when it was looked at:
//! reading the same records again makes the same findings with the same ids, and a store that keeps a batch of an id
//! once keeps a finding once.

use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::sigma::rule::Level;
use threadline_model::id::{SpanId, TraceId, hex};
use threadline_model::schema::Table;

/// Event name of a finding's record.
pub const EVENT_NAME: &str = "security.finding";

/// Service that a hub's own records are of; others cannot take its name where senders are known.
pub const SERVICE: &str = "threadline";

/// Attribute with the id of a finding.
pub const ID_KEY: &str = "threadline.finding.id";

/// Evidence that a finding lists at most; [`Finding::evidence_count`] has the number in all.
pub const EVIDENCE_MAX: usize = 50;

/// The id of a finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FindingId(pub [u8; 16]);

impl FindingId {
    /// From what was found: parts are told apart by their lengths.
    pub(crate) fn new(parts: &[&[u8]]) -> FindingId {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(*part);
        }
        FindingId(xxh3_128(&bytes).to_be_bytes())
    }
}

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record that a finding rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Its table.
    pub table: Table,
    /// Its sequence number.
    pub seq: i64,
    /// Its event time, µs since the Unix epoch.
    pub time_us: i64,
    /// Its trace.
    pub trace_id: Option<TraceId>,
    /// Its span.
    pub span_id: Option<SpanId>,
}

/// What a finding is about, such as (`client.address`, `10.0.0.1`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity {
    /// Field.
    pub field: Arc<str>,
    /// Value.
    pub value: String,
}

/// Something found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The same whenever the same is found.
    pub id: FindingId,
    /// Id of the rule; its title where it has none.
    pub rule_id: Arc<str>,
    /// Hash of the rule's content, 16 hex digits.
    pub rule_version: Arc<str>,
    /// Title of the rule.
    pub title: Arc<str>,
    /// How bad.
    pub level: Level,
    /// Tags of the rule.
    pub tags: Arc<[String]>,
    /// Event time, µs: of the record that decided it; of an absence, when it became one.
    pub time_us: i64,
    /// From when on what decided it was looked at, µs; the same as `time_us` for single records.
    pub since_us: i64,
    /// What it is about.
    pub entities: Vec<Entity>,
    /// Risk that it adds to each of them.
    pub risk: u32,
    /// Risk of the riskiest of them, this finding included, in the engine's window of a day.
    pub risk_total: u32,
    /// What was counted or computed; `None` for single records.
    pub observed: Option<f64>,
    /// The records it rests on, the last ones.
    pub evidence: Vec<Evidence>,
    /// How many there are.
    pub evidence_count: u64,
    /// Further ones that suppression folded into the last finding of the same kind, before this.
    pub suppressed_before: u64,
    /// In words, with numbers.
    pub explanation: String,
}

impl Finding {
    /// Attributes of the record, besides event name, body and severity. Lists are joined by commas.
    pub fn attributes(&self) -> Vec<(String, AttributeValue)> {
        use AttributeValue::{Int, Text};
        let mut out = vec![
            (ID_KEY.to_owned(), Text(self.id.to_string())),
            ("security_rule.uuid".to_owned(), Text(self.rule_id.to_string())),
            ("security_rule.version".to_owned(), Text(self.rule_version.to_string())),
            ("security_rule.name".to_owned(), Text(self.title.to_string())),
            ("threadline.finding.level".to_owned(), Text(self.level.name().to_owned())),
            ("threadline.finding.tags".to_owned(), Text(self.tags.join(","))),
            ("threadline.finding.since".to_owned(), Text(crate::text::show_time(self.since_us))),
            ("threadline.finding.evidence_count".to_owned(), Int(self.evidence_count as i64)),
            ("threadline.finding.risk".to_owned(), Int(i64::from(self.risk))),
            ("threadline.finding.risk_total".to_owned(), Int(i64::from(self.risk_total))),
        ];
        let list = |table: Table| {
            let of_table = self.evidence.iter().filter(|evidence| evidence.table == table);
            of_table.map(|evidence| evidence.seq.to_string()).collect::<Vec<_>>().join(",")
        };
        for (table, key) in
            [(Table::Logs, "threadline.finding.log_seqs"), (Table::Spans, "threadline.finding.span_seqs")]
        {
            let seqs = list(table);
            if !seqs.is_empty() {
                out.push((key.to_owned(), Text(seqs)));
            }
        }
        let mut traces: Vec<String> =
            self.evidence.iter().filter_map(|evidence| evidence.trace_id).map(|id| id.to_string()).collect();
        traces.sort_unstable();
        traces.dedup();
        if !traces.is_empty() {
            out.push(("threadline.finding.trace_ids".to_owned(), Text(traces.join(","))));
        }
        if self.suppressed_before > 0 {
            out.push(("threadline.finding.suppressed".to_owned(), Int(self.suppressed_before as i64)));
        }
        for entity in &self.entities {
            out.push((format!("threadline.finding.entity.{}", entity.field), Text(entity.value.clone())));
        }
        out
    }
}

/// The value of an attribute of a finding's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Text.
    Text(String),
    /// Integer.
    Int(i64),
}
