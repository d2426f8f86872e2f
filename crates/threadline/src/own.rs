//! The hub's own records: log records of `service:threadline`.

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use threadline_detect::finding::SERVICE;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::Store;

use crate::contract::Gatekeeper;

/// A record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// Name of the event.
    pub(crate) event: &'static str,
    /// When it happened, µs.
    pub(crate) time_us: i64,
    /// OTLP's number.
    pub(crate) severity: i32,
    /// For people.
    pub(crate) body: &'a str,
    pub(crate) attributes: &'a [Attribute<'a>],
}

/// Makes batches of the hub's own records.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    /// Where they will be kept.
    pub(crate) store: &'a Store,
    /// Who checks and masks them.
    pub(crate) gatekeeper: &'a Gatekeeper,
    /// Where the hub runs; empty: not said.
    pub(crate) environment: &'a str,
}

impl Writer<'_> {
    /// A batch with records of an instrumentation scope, checked and masked as all are; none is refused. `None` when nothing is left
    /// of them.
    ///
    /// # Errors
    /// The batch cannot be built.
    pub(crate) fn batch(
        self,
        scope: &str,
        now_us: i64,
        records: &[Record<'_>],
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let mut inspector = self.gatekeeper.inspector();
        let mut builder = BatchBuilder::new(self.store.layout(Table::Logs), now_us, RecordLimits::default());
        let resource = [
            ("service.name", SERVICE),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("deployment.environment.name", self.environment),
        ];
        let said = resource.into_iter().filter(|(_, value)| !value.is_empty());
        let resource: Vec<Attribute<'_>> = said.map(|(key, value)| (key, Value::Str(value))).collect();
        inspector.resource(&ResourceView { attributes: &resource, ..ResourceView::default() }, &mut builder);
        inspector.scope(&ScopeView { name: scope, ..ScopeView::default() }, &mut builder);
        let nanos = |us: i64| u64::try_from(us).unwrap_or(0).saturating_mul(1000);
        for record in records {
            let log = LogView {
                time_unix_nano: nanos(record.time_us),
                observed_time_unix_nano: nanos(now_us),
                severity_number: record.severity,
                severity_text: crate::rows::severity_name(i64::from(record.severity)).unwrap_or_default(),
                event_name: record.event,
                body: Value::Str(record.body),
                attributes: record.attributes,
                ..LogView::default()
            };
            if inspector.log(&log, &mut builder).is_err()
                && let Err((field, reason)) = builder.push_log(&log, 0)
            {
                tracing::error!(
                    field,
                    reason,
                    event = record.event,
                    "one of the hub's own records is not kept"
                );
            }
        }
        builder.finish()
    }
}
