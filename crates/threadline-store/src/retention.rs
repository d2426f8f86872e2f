//! Retention: rows past their time are deleted, by stream and age; then the oldest hours, while files are too large.
//!
//! A file is looked at when its last row passes the age of a rule, so deletion may lag by the length of the hour
//! partition. Every deletion is a tombstone in the Merkle log: which file, which rule, how many rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::{BooleanArray, RecordBatch};
use threadline_model::columns::Batch;
use threadline_model::schema::Table;

use crate::Prune;
use crate::sealed::catalogue::{add_of, remove_of};
use crate::sealed::leaves::{TAG_DELETED, TAG_OUTPUT, TAG_RULE};
use crate::sealed::reader::SealedFile;
use crate::sealed::{Maintenance, Sealed, Written};
use crate::table_log::{Action, Operation};
use crate::{RetentionRule, StoreError};

/// Files dropped by one commit at most.
const DROPS_MAX: usize = 500;

/// A file whose rows go, all or some.
pub(crate) struct Loss {
    pub(crate) file: Arc<SealedFile>,
    pub(crate) rows: u64,
    pub(crate) rule: Option<String>,
    pub(crate) rest: Option<Written>,
}

impl Sealed {
    /// Deletes rows that a rule of the table has outlived. The caller holds `maintenance`.
    pub(crate) fn retain_by_age(
        &self,
        table: Table,
        maintenance: &mut Maintenance,
    ) -> Result<bool, StoreError> {
        let rules: Vec<&RetentionRule> =
            self.options.retention.iter().filter(|rule| rule.table.is_none_or(|of| of == table)).collect();
        if rules.is_empty() {
            return Ok(false);
        }
        let now = self.env.clock.now_us();
        let cutoffs: Vec<i64> = rules.iter().map(|rule| cutoff(rule, now)).collect();
        let catalogue = self.catalogue();
        let files = &catalogue.table(table).files;
        maintenance.examined.retain(|(of, path), _| {
            *of != table || files.binary_search_by(|file| file.meta().path.as_str().cmp(path)).is_ok()
        });
        let mut losses = Vec::new();
        for file in files {
            let passed = cutoffs.iter().filter(|cutoff| file.meta().ts.end() < cutoff).count();
            let key = (table, file.meta().path.clone());
            if passed <= maintenance.examined.get(&key).copied().unwrap_or(0) {
                continue;
            }
            match self.examine(file, &rules, &cutoffs) {
                Ok(Some(loss)) => losses.push(loss),
                Ok(None) => drop(maintenance.examined.insert(key, passed)),
                Err(error) => {
                    let rests: Vec<Written> = losses.into_iter().filter_map(|loss| loss.rest).collect();
                    self.discard_unnamed(&self.side(table), &rests);
                    return Err(error);
                }
            }
            if losses.len() >= DROPS_MAX {
                break;
            }
        }
        let done = !losses.is_empty();
        self.commit_losses(table, Operation::Retention, losses, &[])?;
        Ok(done)
    }

    fn examine(
        &self,
        file: &Arc<SealedFile>,
        rules: &[&RetentionRule],
        cutoffs: &[i64],
    ) -> Result<Option<Loss>, StoreError> {
        let loss = |rows, rule: &RetentionRule, rest| Loss {
            file: Arc::clone(file),
            rows,
            rule: Some(describe(rule)),
            rest,
        };
        if let Some(rule) = whole_file_rule(file, rules, cutoffs) {
            return Ok(Some(loss(file.meta().rows, rule, None)));
        }
        let expired = |batch: &RecordBatch| expired(batch, rules, cutoffs);
        let (mut rows, mut by_rule) = (0, None);
        for batch in file.scan(Some(&["ts", "service", "event_name"]), &Prune::default())? {
            for rule in expired(&batch?).into_iter().flatten() {
                rows += 1;
                by_rule.get_or_insert(rule);
            }
        }
        let Some(rule) = by_rule.and_then(|rule| rules.get(rule)) else { return Ok(None) };
        let keep =
            |batch: &RecordBatch| Ok(expired(batch).into_iter().map(|rule| Some(rule.is_none())).collect());
        let rest = if rows < file.meta().rows {
            self.rewrite(file.meta().table, &[Arc::clone(file)], Some(&keep))?
        } else {
            None
        };
        Ok(Some(loss(rows, rule, rest)))
    }

    /// Drops the oldest hours while files of both tables have more than `sealed_bytes_max` bytes.
    pub(crate) fn retain_by_size(&self) -> Result<bool, StoreError> {
        let Some(bytes_max) = self.options.sealed_bytes_max else { return Ok(false) };
        let catalogue = self.catalogue();
        let mut files: Vec<&Arc<SealedFile>> =
            Table::ALL.iter().flat_map(|table| &catalogue.table(*table).files).collect();
        files.sort_by_key(|file| (file.meta().hour, *file.meta().seq.start()));
        let mut bytes: u64 = files.iter().map(|file| file.meta().bytes).sum();
        let mut losses: [Vec<Loss>; 2] = Default::default();
        let mut count = 0;
        for file in files {
            if bytes <= bytes_max || count >= DROPS_MAX {
                break;
            }
            bytes -= file.meta().bytes;
            count += 1;
            let [logs, spans] = &mut losses;
            let losses = if file.meta().table == Table::Logs { logs } else { spans };
            let rule = Some(format!("sealed files above {bytes_max} bytes"));
            losses.push(Loss { file: Arc::clone(file), rows: file.meta().rows, rule, rest: None });
        }
        for (table, losses) in Table::ALL.into_iter().zip(losses) {
            self.commit_losses(table, Operation::Retention, losses, &[])?;
        }
        Ok(count > 0)
    }

    /// Commits the loss of rows, with its record. Nothing to do without losses.
    pub(crate) fn commit_losses(
        &self,
        table: Table,
        operation: Operation,
        losses: Vec<Loss>,
        parameters: &[(&str, String)],
    ) -> Result<(), StoreError> {
        if losses.is_empty() {
            return Ok(());
        }
        let now = self.env.clock.now_us();
        let rows: u64 = losses.iter().map(|loss| loss.rows).sum();
        let mut all = vec![("deleted_rows", rows.to_string())];
        all.extend(parameters.iter().cloned());
        let mut actions = vec![Action::commit_info(operation, now, &all)];
        {
            let side = self.side(table);
            for loss in &losses {
                let Some(add) = side.log.state().files.get(&loss.file.meta().path) else { continue };
                let mut remove = remove_of(add, true, now);
                let tags = remove.tags.get_or_insert_default();
                let keys = tags.get(crate::sealed::catalogue::TAG_KEYS).cloned();
                tags.insert(TAG_DELETED.to_owned(), loss.rows.to_string());
                tags.extend(loss.rule.iter().map(|rule| (TAG_RULE.to_owned(), rule.clone())));
                tags.extend(loss.rest.iter().map(|rest| (TAG_OUTPUT.to_owned(), rest.path.clone())));
                actions.push(Action::remove(remove));
                if let Some(rest) = &loss.rest {
                    actions.push(Action::add(add_of(&rest.path, rest.hour, &rest.facts, keys, now)));
                }
            }
        }
        let (files, written): (Vec<_>, Vec<_>) = losses.into_iter().map(|loss| (loss.file, loss.rest)).unzip();
        let written: Vec<Written> = written.into_iter().flatten().collect();
        if self.commit_change(table, &files, &written, &actions)? {
            self.deleted_rows.fetch_add(rows, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn cutoff(rule: &RetentionRule, now: i64) -> i64 {
    now.saturating_sub(i64::try_from(rule.age_max.as_micros()).unwrap_or(i64::MAX))
}

fn describe(rule: &RetentionRule) -> String {
    let mut text = String::from("older than ");
    text.push_str(&format!("{} s", rule.age_max.as_secs()));
    if let Some(table) = rule.table {
        text.push_str(&format!(", table {}", table.name()));
    }
    if let Some(service) = &rule.service {
        text.push_str(&format!(", service {service}"));
    }
    if let Some(event) = &rule.event {
        text.push_str(&format!(", event {event}"));
    }
    text
}

/// The rule that decides every row of the file, when it takes no reading to know, and all rows are past it.
fn whole_file_rule<'a>(
    file: &SealedFile,
    rules: &[&'a RetentionRule],
    cutoffs: &[i64],
) -> Option<&'a RetentionRule> {
    let (rule, cutoff) = rules.iter().zip(cutoffs).next()?;
    // Rows without a service are in no list, so only a rule for all rows is sure.
    let sure = rule.service.is_none() && rule.event.is_none();
    (sure && file.meta().ts.end() < cutoff).then_some(*rule)
}

/// For each row, the rule that it has outlived: the first that fits decides.
fn expired(batch: &RecordBatch, rules: &[&RetentionRule], cutoffs: &[i64]) -> Vec<Option<usize>> {
    let batch = Batch::new(batch);
    let (ts, service, event) = (batch.int("ts"), batch.str("service"), batch.str("event_name"));
    (0..batch.rows())
        .map(|row| {
            let rule = rules.iter().position(|rule| {
                rule.service.as_ref().is_none_or(|name| service.get(row) == Some(name))
                    && rule.event.as_ref().is_none_or(|class| event_fits(class, event.get(row)))
            })?;
            (ts.get(row)? < *cutoffs.get(rule)?).then_some(rule)
        })
        .collect()
}

fn event_fits(class: &str, event: Option<&str>) -> bool {
    let Some(event) = event else { return false };
    class.strip_suffix('*').map_or(event == class, |prefix| event.starts_with(prefix))
}

/// Rows for which `predicate` is true; null is not.
pub(crate) fn count_true(array: &BooleanArray) -> u64 {
    array.true_count() as u64
}
