//! Answers from the counts that sealed files keep: roll-ups, facets, postings. What they cannot answer is scanned.
//!
//! Vocabulary:
//! - *slice*: a condition on service and class (severity of a log, status code of a span) only, which roll-ups know;
//! - *edge*: rows of a file in minutes that the range cuts through: counted row by row.

use std::borrow::Cow;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use rustc_hash::FxHashSet;
use threadline_model::schema::Table;
use threadline_store::{IndexPlan, Prune, RollupEntry, SealedFile, Snapshot, TERM_BYTES_MAX};

use crate::aggregate::field_values;
use crate::cores::{cores, on_cores};
use crate::lang::{Expr, Field, Network, Op, Test, is_term_char};
use crate::matcher::{Mask, Matcher, of_network, prune, prune_nothing_but};
use crate::search::TimeRange;
use crate::source::{Source, each_batch, sources};
use crate::{Guard, QueryError};

/// Microseconds of a minute, the step of roll-ups.
pub(crate) const MINUTE_US: i64 = 60_000_000;
/// Bytes a distinct id takes in memory, about.
const ID_BYTES: usize = 48;

/// A condition on service and class only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The service is this one.
    service: Option<String>,
    /// The class lies in this range.
    class: Option<RangeInclusive<i32>>,
}

impl Slice {
    /// The slice that an expression is, if it is one.
    pub(crate) fn of(expr: &Expr, table: Table) -> Option<Slice> {
        match expr {
            Expr::All => Some(Slice::default()),
            Expr::Is(Field::Service, Test::Equals(name)) => {
                Some(Slice { service: Some(name.clone()), class: None })
            }
            Expr::Is(Field::Severity, Test::Severity(op, level)) if table == Table::Logs => {
                let (low, high) = level.range();
                class_range(*op, low, high).map(|class| Slice { service: None, class: Some(class) })
            }
            Expr::Is(Field::Status, Test::Code(op, code)) if table == Table::Spans => {
                class_range(*op, *code, *code).map(|class| Slice { service: None, class: Some(class) })
            }
            Expr::And(parts) => {
                let mut all = Slice::default();
                for part in parts {
                    let part = Slice::of(part, table)?;
                    if (part.service.is_some() && all.service.is_some())
                        || (part.class.is_some() && all.class.is_some())
                    {
                        return None;
                    }
                    all.service = all.service.or(part.service);
                    all.class = all.class.or(part.class);
                }
                Some(all)
            }
            _ => None,
        }
    }

    /// Whether it says nothing of the service.
    pub(crate) fn any_service(&self) -> bool {
        self.service.is_none()
    }

    /// Whether rows of a class are in it.
    pub(crate) fn has_class(&self, class: i32) -> bool {
        self.class.as_ref().is_none_or(|range| range.contains(&class))
    }

    fn has(&self, services: &[String], entry: &RollupEntry) -> bool {
        self.has_class(entry.class)
            && self.service.as_ref().is_none_or(|name| {
                entry.service.and_then(|at| services.get(at as usize)).is_some_and(|own| own == name)
            })
    }
}

fn class_range(op: Op, low: i32, high: i32) -> Option<RangeInclusive<i32>> {
    match op {
        Op::Eq => Some(low..=high),
        Op::Ne => None,
        Op::Lt => Some(i32::MIN..=low.checked_sub(1)?),
        Op::Le => Some(i32::MIN..=high),
        Op::Gt => Some(high.checked_add(1)?..=i32::MAX),
        Op::Ge => Some(low..=i32::MAX),
    }
}

/// Calls `each(service, entry)` for the roll-up's minutes that lie in the range as a whole. The parts of the range
/// that are left: to be counted row by row.
pub(crate) fn each_minute(
    file: &SealedFile,
    slice: &Slice,
    range: TimeRange,
    mut each: impl FnMut(Option<&str>, &RollupEntry) -> Result<(), QueryError>,
) -> Result<Vec<TimeRange>, QueryError> {
    let rollup = file.rollup()?;
    let (first, last) = (*file.meta().ts.start(), *file.meta().ts.end());
    let from = range.from_us.filter(|from| *from > first);
    let to = range.to_us.filter(|to| *to <= last);
    let up = |us: i64| us.div_euclid(MINUTE_US).saturating_add(i64::from(us.rem_euclid(MINUTE_US) > 0));
    let whole_from = from.map_or(i64::MIN, |us| up(us).saturating_mul(MINUTE_US));
    let whole_to = to.map_or(i64::MAX, |us| us.div_euclid(MINUTE_US).saturating_mul(MINUTE_US));
    if whole_from >= whole_to {
        return Ok(vec![range]);
    }
    for entry in &rollup.entries {
        if entry.minute_us >= whole_from && entry.minute_us < whole_to && slice.has(&rollup.services, entry) {
            let name = entry.service.and_then(|at| rollup.services.get(at as usize)).map(String::as_str);
            each(name, entry)?;
        }
    }
    let mut edges = Vec::new();
    if let Some(from) = from.filter(|from| *from < whole_from) {
        edges.push(TimeRange { from_us: Some(from), to_us: Some(whole_from) });
    }
    if let Some(to) = to.filter(|to| *to > whole_to) {
        edges.push(TimeRange { from_us: Some(whole_to), to_us: Some(to) });
    }
    Ok(edges)
}

/// The conjunction for a part of the range. Compiling it anew for every file would compile its regular expressions anew.
pub(crate) fn narrowed(prune: &Prune, range: TimeRange, part: TimeRange) -> Cow<'_, Prune> {
    if part == range {
        return Cow::Borrowed(prune);
    }
    Cow::Owned(Prune { ts: prune_nothing_but(part).ts, ..prune.clone() })
}

/// A condition on the body that postings count.
enum Counted {
    /// The body mentions an address in a network; the plan means just these terms.
    Network(IndexPlan),
    /// The body has this whole term, in lower case.
    Term(String),
    /// A term of the body has this text, with case.
    Within(String),
}

impl Counted {
    /// An IPv4 network, or one run of ASCII term characters that lies in no compound and is no part of an id.
    fn of(expr: &Expr, table: Table) -> Option<Counted> {
        let network = match expr {
            Expr::Is(Field::Body, Test::Network(network)) => Some(*network),
            Expr::Is(Field::Body, Test::Phrase(text)) => Network::of_ipv4(text),
            _ => None,
        };
        if let Some(network) = network.filter(|network| table == Table::Logs && network.is_ipv4()) {
            return Some(Counted::Network(of_network(network)));
        }
        let (text, whole) = match expr {
            Expr::Is(Field::Body, Test::Phrase(text)) => (text, true),
            Expr::Is(Field::Body, Test::Contains(text)) => (text, false),
            _ => return None,
        };
        let is_run = table == Table::Logs && text.is_ascii() && text.chars().all(is_term_char);
        let could_be_part = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_run || could_be_part || text.len() >= TERM_BYTES_MAX {
            return None;
        }
        Some(if whole { Counted::Term(text.to_ascii_lowercase()) } else { Counted::Within(text.clone()) })
    }

    /// Rows of a file, by its postings and, where these do not tell, row by row; `None` when all have to be read.
    fn rows(
        &self,
        file: &Arc<SealedFile>,
        matcher: &Matcher,
        guard: &Guard,
    ) -> Result<Option<u64>, QueryError> {
        let (mut rows, unsure) = match self {
            Counted::Term(term) => return Ok(file.term_rows(term)?),
            Counted::Within(text) => file.containing_rows(text)?,
            Counted::Network(plan) => match file.rows_with_terms(plan)? {
                Some(counted) => counted,
                None => return Ok(None),
            },
        };
        let columns: Vec<&str> = matcher.columns().iter().map(String::as_str).collect();
        for batch in file.scan_ranges(Some(&columns), &unsure)? {
            guard.check()?;
            let batch = batch?;
            rows += matcher.select(&batch, &Mask::all(batch.num_rows())).count() as u64;
        }
        Ok(Some(rows))
    }
}

/// Counts rows.
///
/// # Errors
/// A condition that does not compile, a bound that is hit, or a store that fails.
pub fn count(
    snapshot: &Snapshot,
    table: Table,
    expr: &Expr,
    range: TimeRange,
    guard: &Guard,
) -> Result<u64, QueryError> {
    let matcher = Matcher::new(expr, table)?;
    let pruned = prune(expr, table, range);
    let (slice, counted) = (Slice::of(expr, table), Counted::of(expr, table));
    let count = Count { matcher, pruned, range, slice, counted, guard };
    let sources = sources(snapshot.table(table));
    let add = |total: &mut u64, source: &Source| {
        *total += count.rows(source)?;
        Ok(ControlFlow::Continue(()))
    };
    on_cores(
        &sources,
        cores(),
        guard,
        |_| 0,
        add,
        |total, part| {
            *total += part;
            Ok(())
        },
    )
}

/// What is counted.
struct Count<'a> {
    matcher: Matcher,
    pruned: Prune,
    range: TimeRange,
    slice: Option<Slice>,
    counted: Option<Counted>,
    guard: &'a Guard,
}

impl Count<'_> {
    fn rows(&self, source: &Source) -> Result<u64, QueryError> {
        let Count { matcher, pruned, range, slice, counted, guard } = self;
        if source.excluded_by(pruned) {
            return Ok(0);
        }
        let within = source.is_within(*range);
        if within && matcher.is_all() {
            return Ok(source.rows());
        }
        let mut total = 0;
        let mut ranges = vec![*range];
        if let Source::File(file) = source {
            if let (true, Some(counted)) = (within, counted)
                && let Some(rows) = counted.rows(file, matcher, guard)?
            {
                return Ok(rows);
            }
            if let Some(slice) = slice {
                ranges = each_minute(file, slice, *range, |_, entry| {
                    total += entry.rows;
                    Ok(())
                })?;
            }
        }
        for part in ranges {
            let pruned = narrowed(pruned, *range, part);
            each_batch(source, matcher, &[], &pruned, part, guard, |_, _, found| {
                total += found.count() as u64;
                Ok(())
            })?;
        }
        Ok(total)
    }
}

/// Counts distinct values of a field.
///
/// # Errors
/// More values than the guard's memory holds, a condition that does not compile, or a store that fails.
pub fn distinct(
    snapshot: &Snapshot,
    table: Table,
    field: &str,
    expr: &Expr,
    range: TimeRange,
    guard: &Guard,
) -> Result<u64, QueryError> {
    match Field::parse_reference(field) {
        Field::Trace => distinct_traces(snapshot, table, expr, range, guard),
        _ => {
            let values = field_values(snapshot, table, field, expr, range, usize::MAX, guard)?;
            Ok(values.len() as u64)
        }
    }
}

fn distinct_traces(
    snapshot: &Snapshot,
    table: Table,
    expr: &Expr,
    range: TimeRange,
    guard: &Guard,
) -> Result<u64, QueryError> {
    let matcher = Matcher::new(expr, table)?;
    let pruned = prune(expr, table, range);
    let mut ids: FxHashSet<[u8; 16]> = FxHashSet::default();
    let full = |ids: &FxHashSet<[u8; 16]>| {
        if ids.len() > guard.memory_bytes_max / ID_BYTES {
            return Err(QueryError::TooExpensive(format!(
                "there are more than {} different trace ids: narrow the time range or the conditions",
                ids.len()
            )));
        }
        Ok(())
    };
    for source in sources(snapshot.table(table)) {
        guard.check()?;
        if source.excluded_by(&pruned) {
            continue;
        }
        if matcher.is_all()
            && source.is_within(range)
            && let Source::File(file) = &source
            && file.each_trace(&mut |id| {
                ids.insert(*id);
            })?
        {
            full(&ids)?;
            continue;
        }
        each_batch(&source, &matcher, &["trace_id"], &pruned, range, guard, |batch, _, found| {
            let batch = threadline_model::columns::Batch::new(batch);
            ids.extend(found.iter().filter_map(|row| batch.trace_id(row)).map(|id| id.0));
            full(&ids)
        })?;
    }
    Ok(ids.len() as u64)
}
