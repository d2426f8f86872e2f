//! Who and what an incident is about: what its findings name, and what the records and spans that they rest on have.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use threadline_model::columns::Batch;
use threadline_model::id::{SpanId, TraceId};
use threadline_model::schema::{Table, verdict};
use threadline_model::trace::{KIND_CONSUMER, KIND_SERVER};
use threadline_query::lang::{Expr, Field, Test};
use threadline_query::{Guard, QueryError};
use threadline_store::Snapshot;

use super::evidence::Query;
use super::finding::Finding;
use super::records;
use crate::rows::time_text;

/// Entities in a report, and those of them of one field.
const ENTITIES_MAX: usize = 200;
const OF_FIELD_MAX: usize = 50;
/// Records, and spans, that are read for it, and files that are looked into for each.
const RECORDS_MAX: usize = 2_000;
const FILES_MAX: usize = 64;
/// Longest value, bytes.
const VALUE_BYTES_MAX: usize = 1024;

const SERVICE: &str = "service.name";
const INSTANCE: &str = "service.instance.id";
const TRACE: &str = "trace_id";
/// Whose peer is the source only where it is the server that says so.
const PEER: &str = "network.peer.address";
/// Attributes of source addresses and of principals (OpenTelemetry).
pub(super) const ACTORS: [&str; 6] =
    ["client.address", "source.address", PEER, "user.id", "user.name", "enduser.id"];

/// Somebody or something that an incident is about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EntityView {
    pub(crate) field: String,
    pub(crate) value: String,
    /// Findings that name it, or rest on a record that has it.
    pub(crate) findings: u64,
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    pub(crate) query: Query,
}

/// A record that is evidence.
pub(super) struct Record {
    pub(super) ts_us: i64,
    /// Service, and body of a log (or else its event) or name of a span.
    pub(super) text: String,
    pub(super) quarantined: bool,
    trace: Option<TraceId>,
    span: Option<SpanId>,
    entities: Vec<(&'static str, String)>,
}

/// The records and spans that findings rest on, read back from the store.
#[derive(Default)]
pub(super) struct Evidence {
    logs: BTreeMap<i64, Record>,
    spans: BTreeMap<i64, Record>,
    /// A bound was hit: there is more.
    pub(super) cut: bool,
}

impl Evidence {
    /// Reads them, those of the newest findings first.
    ///
    /// # Errors
    /// The store cannot be read, or a bound of the guard.
    pub(super) fn read(
        findings: &[&Finding],
        snapshot: &Snapshot,
        guard: &Guard,
    ) -> Result<Evidence, QueryError> {
        let mut evidence = Evidence::default();
        for table in Table::ALL {
            guard.check()?;
            let seqs = |finding: &'_ Finding| match table {
                Table::Logs => finding.log_seqs.clone(),
                Table::Spans => finding.span_seqs.clone(),
            };
            let mut wanted = BTreeSet::new();
            for seq in findings.iter().rev().flat_map(|finding| seqs(finding)) {
                if wanted.len() >= RECORDS_MAX {
                    evidence.cut |= !wanted.contains(&seq);
                } else {
                    wanted.insert(seq);
                }
            }
            let known = match table {
                Table::Logs => &mut evidence.logs,
                Table::Spans => &mut evidence.spans,
            };
            let cut = records::each(snapshot.table(table), &wanted, None, FILES_MAX, |batch, row, seq| {
                known.insert(seq, Record::of(table, batch, row));
            })?;
            evidence.cut |= cut;
        }
        guard.check()?;
        Ok(evidence)
    }

    /// Whether a finding rests on a record in quarantine, which a search finds when it names that.
    pub(super) fn is_quarantined(&self, finding: &Finding) -> bool {
        self.of(finding).any(|(_, record)| record.quarantined)
    }

    fn of<'a>(&'a self, finding: &'a Finding) -> impl Iterator<Item = (Table, &'a Record)> {
        let logs = finding.log_seqs.iter().filter_map(|seq| Some((Table::Logs, self.logs.get(seq)?)));
        let spans = finding.span_seqs.iter().filter_map(|seq| Some((Table::Spans, self.spans.get(seq)?)));
        logs.chain(spans)
    }

    /// Records and spans with their numbers, those of the newest findings, and how many are left out.
    pub(super) fn shown(&self, findings: &[&Finding], max: usize) -> (Vec<(Table, i64, &Record)>, u64) {
        let mut known = BTreeSet::new();
        let mut shown = Vec::new();
        for finding in findings.iter().rev() {
            let logs = finding.log_seqs.iter().filter_map(|seq| Some((Table::Logs, *seq, self.logs.get(seq)?)));
            let spans =
                finding.span_seqs.iter().filter_map(|seq| Some((Table::Spans, *seq, self.spans.get(seq)?)));
            shown.extend(logs.chain(spans).filter(|(_, seq, _)| known.len() < max && known.insert(*seq)));
        }
        let all = self.logs.len() + self.spans.len();
        let left_out = all.saturating_sub(shown.len()) as u64;
        (shown, left_out)
    }

    /// Traces that findings name or their evidence is part of, the newest first, each once.
    pub(super) fn traces(&self, findings: &[&Finding]) -> Vec<TraceId> {
        let mut known = BTreeSet::new();
        let mut traces = Vec::new();
        for finding in findings.iter().rev() {
            let named = finding.trace_ids.iter().filter_map(|id| TraceId::from_hex(id));
            let of_records = self.of(finding).filter_map(|(_, record)| record.trace);
            traces.extend(named.chain(of_records).filter(|id| known.insert(id.0)));
        }
        traces
    }

    /// Whether a span is evidence, or a log record of it is.
    pub(super) fn spans(&self) -> BTreeSet<(TraceId, SpanId)> {
        let records = self.logs.values().chain(self.spans.values());
        records.filter_map(|record| record.trace.zip(record.span)).collect()
    }
}

impl Record {
    fn of(table: Table, batch: &Batch<'_>, row: usize) -> Record {
        let mut entities = Vec::new();
        for (field, column) in [(SERVICE, "service"), (INSTANCE, "instance")] {
            entities.extend(batch.str(column).get(row).map(|value| (field, cut(value))));
        }
        let serves = || {
            let kind = batch.int("kind").get(row).unwrap_or(0);
            table == Table::Logs || kind == i64::from(KIND_SERVER) || kind == i64::from(KIND_CONSUMER)
        };
        let actors = ACTORS.into_iter().filter(|field| *field != PEER || serves());
        entities.extend(actors.filter_map(|field| Some((field, cut(&batch.attribute(field, row)?)))));
        entities.retain(|(_, value)| !value.is_empty());
        let columns: &[&str] = if table == Table::Logs { &["body", "event_name"] } else { &["name"] };
        let said = columns.iter().find_map(|column| batch.str(column).get(row).filter(|text| !text.is_empty()));
        let service = batch.str("service").get(row).unwrap_or("(none)");
        Record {
            ts_us: batch.int("ts").get(row).unwrap_or(0),
            text: cut(&format!("{service}: {}", said.unwrap_or_default())),
            quarantined: batch.int("verdict").get(row).is_some_and(|bits| bits & verdict::QUARANTINED != 0),
            trace: batch.trace_id(row),
            span: batch.span_id(row),
            entities,
        }
    }
}

/// Where and when an entity was seen.
struct Seen {
    findings: u64,
    first_us: i64,
    last_us: i64,
    in_logs: bool,
    in_spans: bool,
}

/// Entities, those of most findings first; whether a bound was hit.
pub(super) fn entities(findings: &[&Finding], evidence: &Evidence) -> (Vec<EntityView>, bool) {
    let mut all: BTreeMap<(String, String), Seen> = BTreeMap::new();
    for finding in findings {
        let mut own = BTreeSet::new();
        let mut see = |field: &str, value: &str, at_us: i64, table: Option<Table>| {
            let key = (field.to_owned(), value.to_owned());
            let first = own.insert(key.clone());
            let new = Seen { findings: 0, first_us: at_us, last_us: at_us, in_logs: false, in_spans: false };
            let seen = all.entry(key).or_insert(new);
            seen.findings += u64::from(first);
            (seen.first_us, seen.last_us) = (seen.first_us.min(at_us), seen.last_us.max(at_us));
            seen.in_logs |= table == Some(Table::Logs);
            seen.in_spans |= table == Some(Table::Spans);
        };
        let at_us = finding.time_us;
        for (field, value) in &finding.entities {
            see(field, value, at_us, None);
        }
        if let Some(service) = finding.service() {
            see(SERVICE, service, at_us, None);
        }
        for id in finding.trace_ids.iter().filter_map(|id| TraceId::from_hex(id)) {
            see(TRACE, &id.to_string(), at_us, None);
        }
        for (table, record) in evidence.of(finding) {
            for (field, value) in &record.entities {
                see(field, value, record.ts_us, Some(table));
            }
            if let Some(id) = record.trace {
                see(TRACE, &id.to_string(), record.ts_us, Some(table));
            }
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.findings));
    let (count, mut of_field) = (all.len(), BTreeMap::<String, usize>::new());
    all.retain(|((field, _), _)| {
        let known = of_field.entry(field.clone()).or_default();
        *known += 1;
        *known <= OF_FIELD_MAX
    });
    all.truncate(ENTITIES_MAX);
    let cut = all.len() < count;
    let view = |((field, value), seen): ((String, String), Seen)| EntityView {
        query: query(&field, &value, seen.in_spans && !seen.in_logs),
        field,
        value,
        findings: seen.findings,
        first_seen: time_text(seen.first_us),
        last_seen: time_text(seen.last_us),
    };
    (all.into_iter().map(view).collect(), cut)
}

/// The search for what an entity did.
fn query(field: &str, value: &str, only_in_spans: bool) -> Query {
    let is = |field: Field| Expr::Is(field, Test::Equals(value.to_owned()));
    let usual = if only_in_spans { "spans" } else { "logs" };
    let (table, expr) = match field {
        SERVICE | "caller" => (usual, Expr::service(value)),
        TRACE => ("spans", Expr::trace(value)),
        "operation" => ("spans", is(Field::Name)),
        // What a baseline counts has no field of its own.
        "entity" => ("logs", Expr::Is(Field::Body, Test::Phrase(value.to_owned()))),
        field => (usual, is(Field::parse(field))),
    };
    Query { table, query: expr.to_string() }
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or_default().to_owned()
}
