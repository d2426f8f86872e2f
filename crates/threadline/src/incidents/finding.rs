//! Findings as the store holds them, read in the order in which they came: what an incident keeps of each, and the alert
//! that the desk is given.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};
use threadline_detect::finding::{EVENT_NAME, ID_KEY, SERVICE};
use threadline_detect::incident::{Alert, Labels};
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_model::value::members;
use threadline_store::{Prune, Scope, Store, StoreError};

use super::policy::Teams;
use super::records;

/// Event of an alert that another system posted (docs/notify.md).
pub(crate) const ALERT_EVENT: &str = "threadline.alert";
/// Its labels, and when it ends, RFC 3339.
pub(crate) const ALERT_LABEL: &str = "threadline.alert.label.";
pub(crate) const ALERT_ENDS: &str = "threadline.alert.ends_at";

/// Rule of "detection lags", whose end a restart forgets: quiet ends it.
const LAG_RULE: &str = "threadline.detection.lag";
const ENTITY: &str = "threadline.finding.entity.";
/// Entities of a finding at most, labels of an alert, and bytes of a text that is kept of one.
const ENTITIES_MAX: usize = 32;
const LABELS_MAX: usize = 56;
const TEXT_BYTES_MAX: usize = 1024;
/// Records of a finding whose service is asked for, at most.
const SERVICES_OF_MAX: usize = 8;
/// Files that are looked into for these, at most, for each finding.
const FILES_OF_MAX: usize = 8;
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
    /// Its end is, or will be, a finding too.
    #[serde(default)]
    pub(crate) announces_end: bool,
    /// Labels that another system gave it; empty for what detection found.
    pub(crate) labels: Vec<(String, String)>,
    /// The service of the records that it rests on, where its entities name none and these have one in common.
    #[serde(default)]
    pub(crate) evidence_service: String,
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
    find_services(store, &mut found)?;
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

/// Asks the records that findings rest on for their service, where the findings themselves name none. What that costs has
/// a bound, whatever a finding names: the newest of its records, in the few files whose numbers they can have.
fn find_services(store: &Store, findings: &mut [Finding]) -> Result<(), StoreError> {
    let nameless = |finding: &Finding| finding.labels.is_empty() && finding.service().is_none();
    let newest = |seqs: &[i64]| {
        let mut seqs = seqs.to_vec();
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        seqs.truncate(SERVICES_OF_MAX);
        seqs
    };
    type Seqs = [Vec<i64>; 2];
    let wanted: Vec<(usize, Seqs)> = findings
        .iter()
        .enumerate()
        .filter(|(_, finding)| nameless(finding))
        .map(|(at, finding)| (at, [newest(&finding.log_seqs), newest(&finding.span_seqs)]))
        .filter(|(_, seqs)| seqs.iter().any(|seqs| !seqs.is_empty()))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let snapshot = store.snapshot_of(Scope::All);
    let mut services: [BTreeMap<i64, String>; 2] = Default::default();
    for (index, (table, known)) in [Table::Logs, Table::Spans].into_iter().zip(&mut services).enumerate() {
        let all: BTreeSet<i64> =
            wanted.iter().filter_map(|(_, seqs)| seqs.get(index)).flatten().copied().collect();
        let (columns, files_max) = (["seq", "service"], FILES_OF_MAX * wanted.len());
        records::each(snapshot.table(table), &all, Some(&columns), files_max, |batch, row, seq| {
            known.insert(seq, cut(batch.str("service").get(row).unwrap_or_default()));
        })?;
    }
    for (at, seqs) in wanted {
        let mut found = seqs.iter().zip(&services).flat_map(|(seqs, known)| {
            seqs.iter().filter_map(|seq| known.get(seq)).filter(|service| !service.is_empty())
        });
        if let Some(first) = found.next()
            && found.all(|service| service == first)
            && let Some(finding) = findings.get_mut(at)
        {
            finding.evidence_service = first.clone();
        }
    }
    Ok(())
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
                let phase = text("threadline.finding.phase");
                let rule_id = text("security_rule.uuid");
                let traces = traces.split(',').filter(|id| !id.is_empty());
                Some(Finding {
                    id: text(ID_KEY),
                    rule: text("security_rule.name"),
                    level: text("threadline.finding.level"),
                    entities: beginning(batch, row, ENTITY, ENTITIES_MAX),
                    trace_ids: traces.map(str::to_owned).take(EVIDENCE_MAX).collect(),
                    log_seqs: seqs(&list("threadline.finding.log_seqs")),
                    span_seqs: seqs(&list("threadline.finding.span_seqs")),
                    over: phase == "over",
                    announces_end: !phase.is_empty() && rule_id != LAG_RULE,
                    rule_id,
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
                finding.announces_end = true;
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
        let evidence = || Some(self.evidence_service.as_str()).filter(|service| !service.is_empty());
        entity.or_else(label).map(|(_, value)| value.as_str()).or_else(evidence)
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
        Alert { labels, at_us: self.time_us, over: self.over, announces_end: self.announces_end }
    }
}
