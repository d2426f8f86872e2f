//! Findings as log records: event `security.finding` of `service:threadline`, under an id that keeps each once.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use threadline_detect::baseline::{Anomaly, Phase, Severity};
use threadline_detect::finding::{AttributeValue, EVENT_NAME, Finding};
use threadline_detect::sigma::rule::Level;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{BatchId, Store};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::door::journal::SERVICE;

/// Keeps ids of anomalies apart from ids of findings.
const ANOMALY_SEED: u64 = 0x616e_6f6d_616c_7931;

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
            ("threadline.finding.id".to_owned(), text(&format!("{id:032x}"))),
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

    /// The batch that holds it.
    pub(super) fn batch(&self, store: &Store, now_us: i64) -> Result<Option<RecordBatch>, ArrowError> {
        let mut builder = BatchBuilder::new(store.layout(Table::Logs), now_us, RecordLimits::default());
        let resource =
            [("service.name", Value::Str(SERVICE)), ("service.version", Value::Str(env!("CARGO_PKG_VERSION")))];
        builder.set_resource(&ResourceView { attributes: &resource, ..ResourceView::default() });
        builder.set_scope(&ScopeView { name: "threadline.detection", ..ScopeView::default() });
        let attributes: Vec<Attribute<'_>> =
            self.attributes.iter().map(|(key, value)| (key.as_str(), view(value))).collect();
        let nanos = |us: i64| u64::try_from(us).unwrap_or(0).saturating_mul(1000);
        let log = LogView {
            time_unix_nano: nanos(self.time_us),
            observed_time_unix_nano: nanos(now_us),
            severity_number: self.severity,
            severity_text: crate::rows::severity_name(i64::from(self.severity)).unwrap_or_default(),
            event_name: EVENT_NAME,
            body: Value::Str(&self.body),
            attributes: &attributes,
            ..LogView::default()
        };
        if let Err((field, reason)) = builder.push_log(&log, 0) {
            tracing::error!(field, reason, "a finding is not kept");
        }
        builder.finish()
    }
}

fn view(value: &AttributeValue) -> Value<'_> {
    match value {
        AttributeValue::Text(text) => Value::Str(text),
        AttributeValue::Int(int) => Value::Int(*int),
    }
}
