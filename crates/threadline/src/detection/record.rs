//! Findings as log records: event `security.finding` of `service:threadline`, under an id that keeps each once.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use rustc_hash::FxHashSet;
use threadline_detect::baseline::{Anomaly, Phase, Severity};
use threadline_detect::finding::{AttributeValue, EVENT_NAME, Finding, ID_KEY, SERVICE};
use threadline_detect::sigma::rule::Level;
use threadline_model::columns::Batch;
use threadline_model::record::Attribute;
use threadline_model::schema::Table;
use threadline_model::value::{Value, member};
use threadline_store::{BatchId, Store, StoreError, TailBatch};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::own;

/// Records looked through at once.
const ROWS: usize = 8192;
/// Keeps ids of anomalies apart from ids of findings.
const ANOMALY_SEED: u64 = 0x616e_6f6d_616c_7931;
/// And ids of what is told of detection itself.
const LAG_SEED: u64 = 0x6c61_6773_6c61_6773;

/// A record to be kept.
#[derive(Debug)]
pub(super) struct Record {
    /// The same whenever the same was found.
    pub(super) id: BatchId,
    severity: i32,
    time_us: i64,
    body: String,
    attributes: Vec<(String, AttributeValue)>,
}

impl Record {
    pub(super) fn of_finding(finding: &Finding) -> Record {
        Record {
            id: BatchId(u128::from_be_bytes(finding.id.0)),
            severity: finding.level.severity_number(),
            time_us: finding.time_us,
            body: if finding.explanation.is_empty() {
                finding.title.to_string()
            } else {
                format!("{}: {}", finding.title, finding.explanation)
            },
            attributes: finding.attributes(),
        }
    }

    pub(super) fn of_anomaly(anomaly: &Anomaly) -> Record {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let level = match (anomaly.phase, anomaly.severity) {
            (Phase::Over, _) => Level::Informational,
            (_, Severity::Low) => Level::Low,
            (_, Severity::Medium) => Level::Medium,
            (_, Severity::High) => Level::High,
        };
        let id = xxh3_128_with_seed(&anomaly.id.to_le_bytes(), ANOMALY_SEED);
        let signal = anomaly.series.signal.name();
        let mut attributes = vec![
            (ID_KEY.to_owned(), text(&format!("{id:032x}"))),
            ("security_rule.uuid".to_owned(), text(&format!("baseline.{signal}"))),
            ("security_rule.name".to_owned(), text(&format!("Unusual {}", signal.replace('_', " ")))),
            ("threadline.finding.level".to_owned(), text(level.name())),
            (
                "threadline.finding.phase".to_owned(),
                text(if anomaly.phase == Phase::Over { "over" } else { "began" }),
            ),
            ("threadline.finding.since".to_owned(), text(&crate::rows::time_text(anomaly.since_us))),
            ("threadline.finding.observed".to_owned(), text(&format!("{:.4}", anomaly.observed))),
            ("threadline.finding.usual_min".to_owned(), text(&format!("{:.4}", anomaly.usual.0))),
            ("threadline.finding.usual_max".to_owned(), text(&format!("{:.4}", anomaly.usual.1))),
        ];
        let of = &anomaly.series;
        let entities = [
            ("service.name", &*of.service),
            ("operation", &*of.operation),
            ("caller", &*of.caller),
            ("client.address", &*of.source),
            ("entity", anomaly.entity.as_deref().unwrap_or_default()),
        ];
        for (field, value) in entities.into_iter().filter(|(_, value)| !value.is_empty()) {
            attributes.push((format!("threadline.finding.entity.{field}"), text(value)));
        }
        Record {
            id: BatchId(id),
            severity: level.severity_number(),
            time_us: anomaly.window_us,
            body: anomaly.explanation.clone(),
            attributes,
        }
    }

    /// Detection lags, by so many µs, or no longer does.
    pub(super) fn of_lag(lag_us: Option<i64>, now_us: i64, seq: i64) -> Record {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let (level, phase, body) = match lag_us {
            Some(lag_us) => {
                let seconds = lag_us / 1_000_000;
                let body = format!(
                    "Detection lags: what it looks at now arrived {seconds} s ago. Findings come as late, until it has caught up."
                );
                (Level::Medium, "began", body)
            }
            None => (Level::Informational, "over", "Detection has caught up.".to_owned()),
        };
        let id = xxh3_128_with_seed(format!("{phase} {seq}").as_bytes(), LAG_SEED);
        let attributes = vec![
            (ID_KEY.to_owned(), text(&format!("{id:032x}"))),
            ("security_rule.uuid".to_owned(), text("threadline.detection.lag")),
            ("security_rule.name".to_owned(), text("Detection lags")),
            ("threadline.finding.level".to_owned(), text(level.name())),
            ("threadline.finding.phase".to_owned(), text(phase)),
            ("threadline.finding.entity.service.name".to_owned(), text(SERVICE)),
        ];
        Record { id: BatchId(id), severity: level.severity_number(), time_us: now_us, body, attributes }
    }

    /// The batch that holds it, checked and masked as all records are.
    pub(super) fn batch(
        &self,
        writer: own::Writer<'_>,
        now_us: i64,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let attributes: Vec<Attribute<'_>> =
            self.attributes.iter().map(|(key, value)| (key.as_str(), view(value))).collect();
        let record = own::Record {
            event: EVENT_NAME,
            time_us: self.time_us,
            severity: self.severity,
            body: &self.body,
            attributes: &attributes,
        };
        writer.batch("threadline.detection", now_us, &[record])
    }
}

/// Ids of the findings that a store holds from a sequence number on.
///
/// # Errors
/// A sealed file cannot be read.
pub(super) fn kept_since(store: &Store, seq: i64) -> Result<FxHashSet<u128>, StoreError> {
    let mut known = FxHashSet::default();
    let mut tail = store.tail(seq);
    loop {
        let batches = tail.next(ROWS)?;
        if batches.is_empty() {
            return Ok(known);
        }
        for TailBatch { batch, .. } in batches.iter().filter(|batch| batch.table == Table::Logs) {
            let columns = Batch::new(batch);
            let (events, services) = (columns.str("event_name"), columns.str("service"));
            // A key that is seen often gets a column.
            let (ids, attrs) = (columns.str(ID_KEY), columns.str("attrs"));
            for row in (0..batch.num_rows())
                .filter(|&row| events.get(row) == Some(EVENT_NAME) && services.get(row) == Some(SERVICE))
            {
                let in_attrs = || member(attrs.get(row)?, ID_KEY).map(|id| id.display().into_owned());
                let id = ids.get(row).map(str::to_owned).or_else(in_attrs);
                known.extend(id.and_then(|id| u128::from_str_radix(&id, 16).ok()));
            }
        }
    }
}

fn view(value: &AttributeValue) -> Value<'_> {
    match value {
        AttributeValue::Text(text) => Value::Str(text),
        AttributeValue::Int(int) => Value::Int(*int),
    }
}

#[cfg(test)]
mod tests {
    use threadline_store::{Append, Env, Options};

    use super::*;
    use crate::contract::Gatekeeper;

    #[test]
    fn what_is_kept_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::local();
        let options = Options { disk_free_bytes_min: 0, ..Options::default() };
        let store = Store::open(folder.path(), options, env.clone()).unwrap();
        let gatekeeper = Gatekeeper::default();
        let writer = own::Writer { store: &store, gatekeeper: &gatekeeper, environment: "" };
        let mut seqs = Vec::new();
        for id in [7_u128, u128::MAX - 1] {
            let attributes = vec![(ID_KEY.to_owned(), AttributeValue::Text(format!("{id:032x}")))];
            let now_us = env.clock.now_us();
            let record =
                Record { id: BatchId(id), severity: 17, time_us: now_us, body: String::new(), attributes };
            let batch = record.batch(writer, now_us).unwrap().unwrap();
            store.append_wait(Append { table: Table::Logs, id: record.id, batch }).unwrap();
            seqs.push(store.stats().last_seq);
        }
        assert_eq!(kept_since(&store, 1).unwrap(), [7, u128::MAX - 1].into_iter().collect());
        store.seal().unwrap();
        assert_eq!(kept_since(&store, seqs[1]).unwrap(), [u128::MAX - 1].into_iter().collect());
        assert_eq!(kept_since(&store, seqs[1] + 1).unwrap(), FxHashSet::default());
    }
}
