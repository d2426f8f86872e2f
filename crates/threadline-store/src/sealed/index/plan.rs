//! Answers an [`IndexPlan`] from the dictionaries of one file.

use std::sync::Arc;

use super::dictionary::{GRANULE_ROWS, Sparse, Sub, TERM_BYTES_MAX};
use super::granules::Granules;
use super::{Which, trace_term, value_term};
use crate::sealed::writer::trace_hash;
use crate::{Finder, IndexPlan, StoreError, ValueTest};

/// The dictionaries of a file.
pub(crate) trait Dictionaries {
    /// Rows of the file.
    fn rows(&self) -> usize;
    /// The sparse index of a dictionary; `None` when the file has no such terms.
    fn sparse(&self, which: Which) -> Option<&Sparse>;
    /// A sub-block.
    fn sub(&self, which: Which, sub: usize) -> Result<Arc<Sub>, StoreError>;
    /// Whether the file has a column.
    fn has_column(&self, name: &str) -> bool;
    /// Whether the values of a column are indexed.
    fn has_values(&self, column: &str) -> bool;
    /// Whether every row has a value in a column.
    fn is_full(&self, column: &str) -> bool;
}

fn granules_of(file: &impl Dictionaries) -> usize {
    file.rows().div_ceil(GRANULE_ROWS)
}

/// The granules that may have rows in question; `None` = all.
pub(crate) fn granules(file: &impl Dictionaries, plan: &IndexPlan) -> Result<Option<Granules>, StoreError> {
    match plan {
        IndexPlan::All => Ok(None),
        IndexPlan::Nothing => Ok(Some(Granules::none(granules_of(file)))),
        IndexPlan::And(parts) => {
            let mut all: Option<Granules> = None;
            let mut parts: Vec<&IndexPlan> = parts.iter().collect();
            parts.sort_by_key(|part| cost(part));
            for part in parts {
                match (granules(file, part)?, &mut all) {
                    (Some(found), Some(all)) => all.intersect(&found),
                    (Some(found), None) => all = Some(found),
                    (None, _) => {}
                }
                if all.as_ref().is_some_and(Granules::is_empty) {
                    break;
                }
            }
            Ok(all)
        }
        IndexPlan::Or(parts) => {
            let mut any = Granules::none(granules_of(file));
            for part in parts {
                match granules(file, part)? {
                    Some(found) => any.unite(&found),
                    None => return Ok(None),
                }
            }
            Ok(Some(any))
        }
        IndexPlan::Term(term) => exact(file, Which::Terms, term.as_bytes()).map(Some),
        IndexPlan::Terms(finder) => found(file, Which::Terms, finder).map(Some),
        IndexPlan::Compounds(finder) => found(file, Which::Compounds, finder).map(Some),
        IndexPlan::Value { column, test } => values(file, column, test),
        IndexPlan::Attribute { column, test, elsewhere } => {
            let in_column = values(file, column, test)?;
            if file.is_full(column) {
                return Ok(in_column);
            }
            let Some(mut any) = in_column else { return Ok(None) };
            let Some(found) = granules(file, elsewhere)? else { return Ok(None) };
            any.unite(&found);
            Ok(Some(any))
        }
        IndexPlan::HasColumn(name) if file.has_column(name) => Ok(None),
        IndexPlan::HasColumn(_) => Ok(Some(Granules::none(granules_of(file)))),
        IndexPlan::Trace(id) => traces(file, std::slice::from_ref(&id.0)).map(Some),
    }
}

/// What is likely quick and narrow comes first.
fn cost(plan: &IndexPlan) -> u32 {
    match plan {
        IndexPlan::All | IndexPlan::Nothing | IndexPlan::HasColumn(_) => 0,
        IndexPlan::Trace(_) => 1,
        IndexPlan::Term(_) => 2,
        IndexPlan::Value { test: ValueTest::Equals(_), .. } => 3,
        IndexPlan::Value { .. } | IndexPlan::Attribute { .. } => 4,
        IndexPlan::Compounds(_) => 5,
        IndexPlan::Terms(_) => 6,
        IndexPlan::And(parts) | IndexPlan::Or(parts) => 1 + parts.iter().map(cost).max().unwrap_or(0),
    }
}

/// No granule but those that the dictionary does not cover.
fn uncovered(file: &impl Dictionaries, sparse: &Sparse) -> Granules {
    let len = granules_of(file);
    match sparse.covered as usize {
        covered if covered >= len => Granules::none(len),
        covered => Granules::from(covered, len),
    }
}

fn exact(file: &impl Dictionaries, which: Which, term: &[u8]) -> Result<Granules, StoreError> {
    let Some(sparse) = file.sparse(which) else { return Ok(Granules::none(granules_of(file))) };
    let mut marked = uncovered(file, sparse);
    if let Some(at) = sparse.find(term) {
        let sub = file.sub(which, at)?;
        if let Some(index) = sub.find(term) {
            sub.mark(index, &mut marked);
        }
    }
    Ok(marked)
}

fn found(file: &impl Dictionaries, which: Which, finder: &Finder) -> Result<Granules, StoreError> {
    let Some(sparse) = file.sparse(which) else { return Ok(Granules::none(granules_of(file))) };
    let mut marked = uncovered(file, sparse);
    for at in 0..sparse.len() {
        let sub = file.sub(which, at)?;
        let mut last = None;
        finder.find(sub.joined(), &mut |place| {
            let index = sub.at(place);
            if last != Some(index) {
                last = Some(index);
                sub.mark(index, &mut marked);
            }
        });
        // A term that was cut may go on with anything.
        for &index in sub.cut() {
            sub.mark(index as usize, &mut marked);
        }
    }
    Ok(marked)
}

fn values(file: &impl Dictionaries, column: &str, test: &ValueTest) -> Result<Option<Granules>, StoreError> {
    if !file.has_column(column) {
        return Ok(Some(Granules::none(granules_of(file))));
    }
    if !file.has_values(column) {
        return Ok(None);
    }
    match test {
        ValueTest::Equals(value) => exact(file, Which::Values, &value_term(column, value)).map(Some),
        ValueTest::Fulfils(_, test) => {
            let Some(sparse) = file.sparse(Which::Values) else {
                return Ok(Some(Granules::none(granules_of(file))));
            };
            let mut marked = uncovered(file, sparse);
            each_value(file, column, |sub, index, value| {
                if test(value) {
                    sub.mark(index, &mut marked);
                }
            })?;
            Ok(Some(marked))
        }
    }
}

/// Calls `each` for every indexed value of a column.
pub(crate) fn each_value(
    file: &impl Dictionaries,
    column: &str,
    mut each: impl FnMut(&Sub, usize, &str),
) -> Result<(), StoreError> {
    let Some(sparse) = file.sparse(Which::Values) else { return Ok(()) };
    let prefix = value_term(column, "");
    for at in sparse.with_prefix(&prefix) {
        let sub = file.sub(Which::Values, at)?;
        let from = sub.first_from(&prefix);
        for index in from..sub.len() {
            let Some(value) = sub.term(index).strip_prefix(prefix.as_slice()) else { break };
            if let Ok(value) = std::str::from_utf8(value) {
                each(&sub, index, value);
            }
        }
    }
    Ok(())
}

/// The granules that may have rows of these traces.
pub(crate) fn traces(file: &impl Dictionaries, ids: &[[u8; 16]]) -> Result<Granules, StoreError> {
    let Some(sparse) = file.sparse(Which::Traces) else { return Ok(Granules::none(granules_of(file))) };
    let mut marked = uncovered(file, sparse);
    for id in ids {
        let term = trace_term(trace_hash(id));
        let Some(at) = sparse.find(&term) else { continue };
        let sub = file.sub(Which::Traces, at)?;
        if let Some(index) = sub.find(&term) {
            sub.mark(index, &mut marked);
        }
    }
    Ok(marked)
}

/// Rows whose bodies have a plain term, exactly; `None` when the index does not tell.
pub(crate) fn term_rows(file: &impl Dictionaries, term: &[u8]) -> Result<Option<u64>, StoreError> {
    if term.len() >= TERM_BYTES_MAX {
        return Ok(None);
    }
    let Some(sparse) = file.sparse(Which::Terms) else { return Ok(Some(0)) };
    if (sparse.covered as usize) < granules_of(file) {
        return Ok(None);
    }
    let Some(at) = sparse.find(term) else { return Ok(Some(0)) };
    let sub = file.sub(Which::Terms, at)?;
    Ok(Some(sub.find(term).map_or(0, |index| sub.rows(index))))
}

/// Rows whose bodies have a text of ASCII term characters within a plain term, with case: their number outside of the
/// given granules. In those the index does not tell: a term was cut or occurs in different cases, or two terms that have
/// the text share the granule.
pub(crate) fn containing_rows(file: &impl Dictionaries, text: &[u8]) -> Result<(u64, Granules), StoreError> {
    let len = granules_of(file);
    let Some(sparse) = file.sparse(Which::Terms) else { return Ok((0, Granules::none(len))) };
    let mut unsure = uncovered(file, sparse);
    let lower = text.to_ascii_lowercase();
    let needle = memchr::memmem::Finder::new(&lower);
    let mut counts: Vec<u64> = vec![0; len];
    for at in 0..sparse.len() {
        let sub = file.sub(Which::Terms, at)?;
        for &index in sub.cut() {
            sub.mark(index as usize, &mut unsure);
        }
        let mut last = None;
        for place in needle.find_iter(sub.joined()) {
            let index = sub.at(place);
            if last.replace(index) == Some(index) {
                continue;
            }
            match sub.original(index) {
                None => sub.mark(index, &mut unsure),
                Some(original) if memchr::memmem::find(original, text).is_none() => {}
                Some(_) => sub.postings(index, |granule, rows| match counts.get_mut(granule as usize) {
                    Some(count @ 0) => *count = u64::from(rows),
                    _ => unsure.set(granule as usize),
                }),
            }
        }
    }
    let sure = counts.iter().enumerate().filter(|(granule, _)| !unsure.get(*granule));
    Ok((sure.map(|(_, rows)| rows).sum(), unsure))
}
