//! Rules over what is stored: the findings that streaming the same records in their order would have given.
//!
//! First every record is asked which rules match it, in whatever order files hold records; those that match are put in
//! the order of their sequence numbers, and go through an engine of their own.

use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use serde_json::{Value, json};
use threadline_detect::engine::{Engine, Limits};
use threadline_detect::finding::Finding;
use threadline_detect::matcher::Scratch;
use threadline_detect::rules::RuleSet;
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_query::search::TimeRange;
use threadline_query::{Guard, QueryError};
use threadline_store::{Prune, Snapshot};

use crate::rows::time_text;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Backtest {
    /// Records that were looked at.
    pub(crate) records: u64,
    /// Records that some rule matches.
    pub(crate) hits: u64,
    /// In the order in which they would have come.
    pub(crate) findings: Vec<Finding>,
}

/// Runs rules over a snapshot.
///
/// # Errors
/// A bound of the guard, or a store that fails.
pub(crate) fn backtest(
    snapshot: &Snapshot,
    rules: &Arc<RuleSet>,
    range: TimeRange,
    guard: &Guard,
) -> Result<Backtest, QueryError> {
    let mut out = Backtest::default();
    let mut matched = Matched { rules, range, scratch: Scratch::default(), batches: Vec::new(), bytes: 0 };
    let bounded = range.from_us.is_some() || range.to_us.is_some();
    let (from, to) = (range.from_us.unwrap_or(i64::MIN), range.to_us.unwrap_or(i64::MAX));
    let prune = Prune { ts: bounded.then(|| from..=to.saturating_sub(1)), ..Prune::default() };
    for table in Table::ALL {
        let of_table = snapshot.table(table);
        for batch in &of_table.memory {
            guard.check()?;
            out.records += matched.add(batch, table, guard)?;
        }
        for file in of_table.files.iter().filter(|file| !file.excluded_by(&prune)) {
            for batch in file.scan(None, &prune)? {
                guard.check()?;
                out.records += matched.add(&batch?, table, guard)?;
            }
        }
    }
    let mut order: Vec<(i64, usize, usize)> = Vec::new();
    for (at, (_, batch)) in matched.batches.iter().enumerate() {
        let seq = Batch::new(batch).int("seq");
        order.extend((0..batch.num_rows()).map(|row| (seq.get(row).unwrap_or(0), at, row)));
    }
    order.sort_unstable();
    out.hits = order.len() as u64;
    let mut engine = Engine::new(Arc::clone(rules), Limits::default());
    let mut last_us = i64::MIN;
    for run in order.chunk_by(|a, b| a.1 == b.1 && a.2 + 1 == b.2) {
        guard.check()?;
        let Some((_, at, row)) = run.first() else { continue };
        let Some((table, batch)) = matched.batches.get(*at) else { continue };
        let rows = batch.slice(*row, run.len());
        let arrival = Batch::new(&rows).int("arrival_ts").get(run.len() - 1);
        last_us = last_us.max(arrival.unwrap_or(i64::MIN));
        out.findings.extend(engine.step(&rows, *table));
    }
    if let Some(to) = range.to_us.filter(|to| *to > last_us) {
        out.findings.extend(engine.advance(to));
    }
    Ok(out)
}

/// The records that some rule matches.
struct Matched<'a> {
    rules: &'a Arc<RuleSet>,
    range: TimeRange,
    scratch: Scratch,
    batches: Vec<(Table, RecordBatch)>,
    bytes: usize,
}

impl Matched<'_> {
    /// Takes those of a batch; how many records of it are in range.
    fn add(&mut self, batch: &RecordBatch, table: Table, guard: &Guard) -> Result<u64, QueryError> {
        let ts = Batch::new(batch).int("ts");
        let within = |row: usize| {
            let ts = ts.get(row).unwrap_or(0);
            self.range.from_us.is_none_or(|from| ts >= from) && self.range.to_us.is_none_or(|to| ts < to)
        };
        let mut keep = vec![false; batch.num_rows()];
        let mut any = false;
        self.rules.matcher().scan(batch, table, &mut self.scratch, |row, hits| {
            if !hits.is_empty()
                && within(row.row)
                && let Some(slot) = keep.get_mut(row.row)
            {
                (*slot, any) = (true, true);
            }
        });
        if any {
            let kept = filter_record_batch(batch, &BooleanArray::from(keep))?;
            self.bytes += kept.get_array_memory_size();
            if self.bytes > guard.memory_bytes_max {
                return Err(QueryError::TooExpensive(
                    "the rules match too many records: narrow the time range, or the rules".to_owned(),
                ));
            }
            self.batches.push((table, kept));
        }
        Ok((0..batch.num_rows()).filter(|row| within(*row)).count() as u64)
    }
}

/// A finding as JSON.
pub(crate) fn json_of(finding: &Finding) -> Value {
    let evidence: Vec<Value> = finding
        .evidence
        .iter()
        .map(|evidence| {
            json!({
                "table": evidence.table.name(),
                "seq": evidence.seq,
                "time": time_text(evidence.time_us),
                "trace_id": evidence.trace_id.map(|id| id.to_string()),
            })
        })
        .collect();
    let entities: Vec<Value> =
        finding.entities.iter().map(|entity| json!({"field": &*entity.field, "value": entity.value})).collect();
    json!({
        "id": finding.id.to_string(),
        "rule": &*finding.rule_id,
        "title": &*finding.title,
        "level": finding.level.name(),
        "time": time_text(finding.time_us),
        "since": time_text(finding.since_us),
        "entities": entities,
        "explanation": finding.explanation,
        "evidence": evidence,
        "evidence_count": finding.evidence_count,
    })
}
