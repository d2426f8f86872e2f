//! Answers an [`IndexPlan`] from the dictionaries of one file.

use std::sync::Arc;

use super::dictionary::{GRANULE_ROWS, Sparse, Sub};
use super::granules::Granules;
use super::{Which, trace_term, value_term};
use crate::sealed::writer::trace_hash;
use crate::{Finder, IndexPlan, StoreError, TERM_BYTES_MAX, TermList, ValueTest};

/// The dictionaries of a file.
pub(crate) trait Dictionaries {
    /// Rows of the file.
    fn rows(&self) -> usize;
    /// The sparse index of a dictionary; `None` when the file has no such terms.
    fn sparse(&self, which: Which) -> Option<&Sparse>;
    /// A sub-block.
    fn sub(&self, which: Which, sub: usize, reading: Reading) -> Result<Arc<Sub>, StoreError>;
    /// Whether the file has a column.
    fn has_column(&self, name: &str) -> bool;
    /// Whether the values of a column are indexed.
    fn has_values(&self, column: &str) -> bool;
    /// Whether every row has a value in a column.
    fn is_full(&self, column: &str) -> bool;
}

/// What a sub-block is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Some of its terms.
    LookUp,
    /// All terms of the dictionary are looked through.
    Scan,
    /// It is read once and not kept.
    Once,
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
        IndexPlan::Term(..) | IndexPlan::Terms(..) | IndexPlan::Beginning { .. } => {
            marked(file, |marked| each_term(file, plan, marked).map(|_| ())).map(Some)
        }
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

/// Visits the terms that a plan of terms means. Whether it is one.
fn each_term(file: &impl Dictionaries, plan: &IndexPlan, terms: &mut impl Terms) -> Result<bool, StoreError> {
    match plan {
        IndexPlan::Or(parts) => {
            for part in parts {
                if !each_term(file, part, terms)? {
                    return Ok(false);
                }
            }
        }
        IndexPlan::Term(list, term) => exact(file, Which::Terms(*list), term.as_bytes(), terms)?,
        IndexPlan::Terms(list, finder) => found(file, Which::Terms(*list), finder, terms)?,
        IndexPlan::Beginning { list, prefixes, test } => {
            beginning(file, Which::Terms(*list), prefixes, test, terms)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// What is likely quick and narrow comes first.
fn cost(plan: &IndexPlan) -> u32 {
    match plan {
        IndexPlan::All | IndexPlan::Nothing | IndexPlan::HasColumn(_) => 0,
        IndexPlan::Trace(_) => 1,
        IndexPlan::Term(..) => 2,
        IndexPlan::Value { test: ValueTest::Equals(_), .. } => 3,
        IndexPlan::Value { .. } | IndexPlan::Attribute { .. } => 4,
        IndexPlan::Beginning { .. } => 5,
        IndexPlan::Terms(..) => 6,
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

/// What is to become of the terms that a plan means.
trait Terms {
    /// Granules that the dictionary does not cover.
    fn uncovered(&mut self, granules: &Granules);
    /// A term that is meant, or that was cut and may be.
    fn term(&mut self, sub: &Sub, index: usize);
}

impl Terms for Granules {
    fn uncovered(&mut self, granules: &Granules) {
        self.unite(granules);
    }

    fn term(&mut self, sub: &Sub, index: usize) {
        sub.mark(index, self);
    }
}

fn marked(
    file: &impl Dictionaries,
    visit: impl FnOnce(&mut Granules) -> Result<(), StoreError>,
) -> Result<Granules, StoreError> {
    let mut marked = Granules::none(granules_of(file));
    visit(&mut marked)?;
    Ok(marked)
}

fn exact(
    file: &impl Dictionaries,
    which: Which,
    term: &[u8],
    terms: &mut impl Terms,
) -> Result<(), StoreError> {
    let Some(sparse) = file.sparse(which) else { return Ok(()) };
    terms.uncovered(&uncovered(file, sparse));
    if let Some(at) = sparse.find(term) {
        let sub = file.sub(which, at, Reading::LookUp)?;
        if let Some(index) = sub.find(term) {
            terms.term(&sub, index);
        }
    }
    Ok(())
}

fn found(
    file: &impl Dictionaries,
    which: Which,
    finder: &Finder,
    terms: &mut impl Terms,
) -> Result<(), StoreError> {
    let Some(sparse) = file.sparse(which) else { return Ok(()) };
    terms.uncovered(&uncovered(file, sparse));
    for at in 0..sparse.len() {
        let sub = file.sub(which, at, Reading::Scan)?;
        let mut last = None;
        finder.find(sub.joined(), &mut |place| {
            let index = sub.at(place);
            if last != Some(index) {
                last = Some(index);
                if !sub.is_cut(index) {
                    terms.term(&sub, index);
                }
            }
        });
        // A term that was cut may go on with anything.
        for &index in sub.cut() {
            terms.term(&sub, index as usize);
        }
    }
    Ok(())
}

fn values(file: &impl Dictionaries, column: &str, test: &ValueTest) -> Result<Option<Granules>, StoreError> {
    if !file.has_column(column) {
        return Ok(Some(Granules::none(granules_of(file))));
    }
    if !file.has_values(column) {
        return Ok(None);
    }
    match test {
        ValueTest::Equals(value) => {
            marked(file, |marked| exact(file, Which::Values, &value_term(column, value), marked)).map(Some)
        }
        ValueTest::Fulfils(..) => {
            let Some(sparse) = file.sparse(Which::Values) else {
                return Ok(Some(Granules::none(granules_of(file))));
            };
            let mut marked = uncovered(file, sparse);
            each_value(file, column, |sub, index, value| {
                if test.holds(value) {
                    sub.mark(index, &mut marked);
                }
            })?;
            Ok(Some(marked))
        }
    }
}

fn beginning(
    file: &impl Dictionaries,
    which: Which,
    prefixes: &[String],
    test: &ValueTest,
    terms: &mut impl Terms,
) -> Result<(), StoreError> {
    let Some(sparse) = file.sparse(which) else { return Ok(()) };
    terms.uncovered(&uncovered(file, sparse));
    for prefix in prefixes {
        each_with_prefix(file, which, prefix.as_bytes(), |sub, index, rest| {
            let whole = || std::str::from_utf8(rest).is_ok_and(|rest| test.holds(&format!("{prefix}{rest}")));
            if sub.is_cut(index) || whole() {
                terms.term(sub, index);
            }
        })?;
    }
    Ok(())
}

/// Calls `each(sub-block, term, what follows the prefix)` for every term with a prefix.
fn each_with_prefix(
    file: &impl Dictionaries,
    which: Which,
    prefix: &[u8],
    mut each: impl FnMut(&Sub, usize, &[u8]),
) -> Result<(), StoreError> {
    let Some(sparse) = file.sparse(which) else { return Ok(()) };
    for at in sparse.with_prefix(prefix) {
        let sub = file.sub(which, at, Reading::LookUp)?;
        for index in sub.first_from(prefix)..sub.len() {
            let Some(rest) = sub.term(index).strip_prefix(prefix) else { break };
            each(&sub, index, rest);
        }
    }
    Ok(())
}

/// Calls `each` for every indexed value of a column.
pub(crate) fn each_value(
    file: &impl Dictionaries,
    column: &str,
    mut each: impl FnMut(&Sub, usize, &str),
) -> Result<(), StoreError> {
    each_with_prefix(file, Which::Values, &value_term(column, ""), |sub, index, value| {
        if let Ok(value) = std::str::from_utf8(value) {
            each(sub, index, value);
        }
    })
}

/// The granules that may have rows of these traces.
pub(crate) fn traces(file: &impl Dictionaries, ids: &[[u8; 16]]) -> Result<Granules, StoreError> {
    let Some(sparse) = file.sparse(Which::Traces) else { return Ok(Granules::none(granules_of(file))) };
    let mut marked = uncovered(file, sparse);
    for id in ids {
        let term = trace_term(trace_hash(id));
        let Some(at) = sparse.find(&term) else { continue };
        let sub = file.sub(Which::Traces, at, Reading::LookUp)?;
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
    let Some(sparse) = file.sparse(Which::Terms(TermList::Plain)) else { return Ok(Some(0)) };
    if (sparse.covered as usize) < granules_of(file) {
        return Ok(None);
    }
    let Some(at) = sparse.find(term) else { return Ok(Some(0)) };
    let sub = file.sub(Which::Terms(TermList::Plain), at, Reading::LookUp)?;
    Ok(Some(sub.find(term).map_or(0, |index| sub.rows(index))))
}

/// Rows whose bodies have a text of ASCII term characters within a plain term, with case: their number outside of the
/// given granules. In those the index does not tell: a term was cut or occurs in different cases, or two terms that have
/// the text share the granule.
pub(crate) fn containing_rows(file: &impl Dictionaries, text: &[u8]) -> Result<(u64, Granules), StoreError> {
    let len = granules_of(file);
    let Some(sparse) = file.sparse(Which::Terms(TermList::Plain)) else { return Ok((0, Granules::none(len))) };
    let mut counted = Counted::new(len);
    counted.uncovered(&uncovered(file, sparse));
    let lower = text.to_ascii_lowercase();
    let needle = memchr::memmem::Finder::new(&lower);
    for at in 0..sparse.len() {
        let sub = file.sub(Which::Terms(TermList::Plain), at, Reading::Scan)?;
        for &index in sub.cut() {
            counted.term(&sub, index as usize);
        }
        let mut last = None;
        for place in needle.find_iter(sub.joined()) {
            let index = sub.at(place);
            if last.replace(index) == Some(index) {
                continue;
            }
            match sub.original(index) {
                None => sub.mark(index, &mut counted.unsure),
                Some(original) if memchr::memmem::find(original, text).is_none() => {}
                Some(_) => counted.term(&sub, index),
            }
        }
    }
    Ok(counted.finish())
}

/// Rows that have a term which the plan means: their number outside of the given granules; `None` when it is no plan of
/// terms.
pub(crate) fn rows_with_terms(
    file: &impl Dictionaries,
    plan: &IndexPlan,
) -> Result<Option<(u64, Granules)>, StoreError> {
    let mut counted = Counted::new(granules_of(file));
    Ok(each_term(file, plan, &mut counted)?.then(|| counted.finish()))
}

/// Rows by granule, where postings tell.
struct Counted {
    rows: Vec<u64>,
    /// A term was cut, or two terms that are meant share the granule, and perhaps a row.
    unsure: Granules,
}

impl Counted {
    fn new(len: usize) -> Counted {
        Counted { rows: vec![0; len], unsure: Granules::none(len) }
    }

    fn finish(self) -> (u64, Granules) {
        let sure = self.rows.iter().enumerate().filter(|(granule, _)| !self.unsure.get(*granule));
        (sure.map(|(_, rows)| rows).sum(), self.unsure)
    }
}

impl Terms for Counted {
    fn uncovered(&mut self, granules: &Granules) {
        self.unsure.unite(granules);
    }

    fn term(&mut self, sub: &Sub, index: usize) {
        if sub.is_cut(index) {
            return sub.mark(index, &mut self.unsure);
        }
        sub.postings(index, |granule, rows| match self.rows.get_mut(granule as usize) {
            Some(count @ 0) => *count = u64::from(rows),
            _ => self.unsure.set(granule as usize),
        });
    }
}
