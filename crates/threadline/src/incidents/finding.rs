//! Findings as the store holds them, read in the order in which they came: what an incident keeps of each, and the alert
//! that the desk is given.

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};
use threadline_detect::finding::{EVENT_NAME, ID_KEY, SERVICE};
use threadline_detect::incident::{Alert, Labels};
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_model::value::members;
use threadline_store::{Prune, Store, StoreError};

use super::policy::Teams;

/// Event of an alert that another system posted (docs/notify.md).
pub(crate) const ALERT_EVENT: &str = "threadline.alert";
/// Its labels, and when it ends, RFC 3339.
pub(crate) const ALERT_LABEL: &str = "threadline.alert.label.";
pub(crate) const ALERT_ENDS: &str = "threadline.alert.ends_at";

const ENTITY: &str = "threadline.finding.entity.";
/// Entities of a finding at most, labels of an alert, and bytes of a text that is kept of one.
const ENTITIES_MAX: usize = 32;
const LABELS_MAX: usize = 56;
const TEXT_BYTES_MAX: usize = 1024;
/// Traces, and records, of a finding at most.
const EVIDENCE_MAX: usize = 50;

/// What an incident keeps of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Sequence number of its record.
    pub(crate) seq: i64,
    /// Event time, µs.
    pub(crate) time_us: i64,
    /// Id, 32 hex digits.
    pub(crate) id: String,
    pub(crate) rule: String,
    pub(crate) rule_id: String,
    pub(crate) level: String,
    pub(crate) explanation: String,
    /// Field and value.
    pub(crate) entities: Vec<(String, String)>,
    pub(crate) trace_ids: Vec<String>,
    pub(crate) log_seqs: Vec<i64>,
    pub(crate) span_seqs: Vec<i64>,
    /// What was unusual is so no longer.
    pub(crate) over: bool,
    /// Labels that another system gave it; empty for what detection found.
    pub(crate) labels: Vec<(String, String)>,
}

/// Findings of the store with sequence numbers from one on, in their order, and the number to go on from. What comes
/// late to the store has a later number: nothing is passed over.
///
/// # Errors
/// A sealed file cannot be read.
pub(super) fn read(store: &Store, from_seq: i64) -> Result<(Vec<Finding>, i64), StoreError> {
    let mut found = Vec::new();
    let next_seq = each_own_record(store, from_seq, |batch, row| found.extend(Finding::read(batch, row)))?;
    found.sort_by_key(|finding: &Finding| finding.seq);
    Ok((found, next_seq.max(from_seq)))
}

/// Visits log records of the hub itself, and of who posted alerts through it, in no order; the next sequence number.
pub(super) fn each_own_record(
    store: &Store,
    from_seq: i64,
    mut each: impl FnMut(&Batch<'_>, usize),
) -> Result<i64, StoreError> {
    let snapshot = store.snapshot();
    let mut visit = |record_batch: &RecordBatch| {
        let batch = Batch::new(record_batch);
        let (seqs, services) = (batch.int("seq"), batch.str("service"));
        for row in 0..batch.rows() {
            let seq = seqs.get(row).unwrap_or(0);
            if (from_seq..=snapshot.last_seq).contains(&seq) && services.get(row) == Some(SERVICE) {
                each(&batch, row);
            }
        }
    };
    let logs = snapshot.table(Table::Logs);
    // A batch's rows have consecutive numbers: one look says whether it is all old.
    let is_new = |batch: &&RecordBatch| {
        let seq = Batch::new(batch).int("seq").get(batch.num_rows().saturating_sub(1));
        seq.is_none_or(|last| last >= from_seq)
    };
    logs.memory.iter().filter(is_new).for_each(&mut visit);
    let prune = Prune {
        seq: Some(from_seq..=snapshot.last_seq),
        services: Some(vec![SERVICE.to_owned()]),
        ..Prune::default()
    };
    for file in logs.files.iter().filter(|file| *file.meta().seq.end() >= from_seq && !file.excluded_by(&prune))
    {
        for batch in file.scan(None, &prune)? {
            visit(&batch?);
        }
    }
    Ok(snapshot.last_seq + 1)
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn seqs(list: &str) -> Vec<i64> {
    list.split(',').filter_map(|seq| seq.parse().ok()).take(EVIDENCE_MAX).collect()
}

/// The attributes of a row whose keys begin so, without what they begin with.
fn beginning(batch: &Batch<'_>, row: usize, prefix: &str, max: usize) -> Vec<(String, String)> {
    let schema = batch.record_batch().schema();
    let columns = schema.fields().iter().map(|field| field.name().clone());
    let attrs = batch.str("attrs").get(row).unwrap_or_default();
    let members = members(attrs).map(|(key, _)| key.into_owned());
    let mut keys: Vec<String> = columns.chain(members).filter(|key| key.starts_with(prefix)).collect();
    keys.sort_unstable();
    keys.dedup();
    let pair = |key: String| {
        let value = batch.attribute(&key, row)?;
        Some((cut(key.strip_prefix(prefix)?), cut(&value)))
    };
    keys.into_iter().filter_map(pair).take(max).collect()
}

impl Finding {
    fn read(batch: &Batch<'_>, row: usize) -> Option<Finding> {
        let event = batch.str("event_name").get(row)?;
        let text = |key: &str| batch.attribute(key, row).map(|value| cut(&value)).unwrap_or_default();
        let body = batch.str("body").get(row).unwrap_or_default();
        let mut finding = Finding {
            seq: batch.int("seq").get(row)?,
            time_us: batch.int("ts").get(row).unwrap_or(0),
            explanation: cut(body),
            ..Finding::default()
        };
        match event {
            EVENT_NAME => {
                let list = |key: &str| batch.attribute(key, row).unwrap_or_default();
                let traces = list("threadline.finding.trace_ids");
                let traces = traces.split(',').filter(|id| !id.is_empty());
                Some(Finding {
                    id: text(ID_KEY),
                    rule: text("security_rule.name"),
                    rule_id: text("security_rule.uuid"),
                    level: text("threadline.finding.level"),
                    entities: beginning(batch, row, ENTITY, ENTITIES_MAX),
                    trace_ids: traces.map(str::to_owned).take(EVIDENCE_MAX).collect(),
                    log_seqs: seqs(&list("threadline.finding.log_seqs")),
                    span_seqs: seqs(&list("threadline.finding.span_seqs")),
                    over: text("threadline.finding.phase") == "over",
                    ..finding
                })
            }
            ALERT_EVENT => {
                finding.labels = beginning(batch, row, ALERT_LABEL, LABELS_MAX);
                let label = |name: &str| {
                    let found = finding.labels.iter().find(|(known, _)| known == name);
                    found.map(|(_, value)| value.clone()).unwrap_or_default()
                };
                (finding.rule, finding.level) = (label("alertname"), label("severity"));
                let ends = text(ALERT_ENDS);
                let arrival_us = batch.int("arrival_ts").get(row).unwrap_or(finding.time_us);
                let ends_us = crate::when::parse_time(&ends, arrival_us).ok();
                finding.over = ends_us.is_some_and(|ends| ends <= arrival_us);
                Some(finding)
            }
            _ => None,
        }
    }

    /// Service that it is about, where it says so.
    pub(crate) fn service(&self) -> Option<&str> {
        let named = |pairs: &'_ [(String, String)], name: &str| {
            pairs.iter().position(|(known, value)| known == name && !value.is_empty())
        };
        let entity = named(&self.entities, "service.name").and_then(|at| self.entities.get(at));
        let label = || named(&self.labels, "service").and_then(|at| self.labels.get(at));
        entity.or_else(label).map(|(_, value)| value.as_str())
    }

    /// The alert of it: `rule`, `rule_id`, `severity`, `service`, `team`, and its entities; labels of another system as
    /// they are.
    pub(super) fn alert(&self, teams: &Teams) -> Alert {
        let mut labels = Labels::new();
        let mut put = |name: &str, value: &str| {
            if !value.is_empty() {
                labels.entry(name.into()).or_insert_with(|| value.into());
            }
        };
        self.labels.iter().for_each(|(name, value)| put(name, value));
        put("rule", &self.rule);
        put("rule_id", &self.rule_id);
        put("severity", &self.level);
        if let Some(service) = self.service() {
            put("service", service);
            put("team", teams.of(service).unwrap_or_default());
        }
        let entities = self.entities.iter().filter(|(field, _)| field != "service.name");
        entities.for_each(|(field, value)| put(field, value));
        Alert { labels, at_us: self.time_us, over: self.over }
    }
}
