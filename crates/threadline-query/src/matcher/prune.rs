//! Index lookup: the conjunction that every row of an answer fulfils, for leaving out files, row groups and pages.

use std::ops::RangeInclusive;

use threadline_model::id::TraceId;
use threadline_model::schema::Table;
use threadline_store::Prune;

use crate::lang::{Expr, Field, Number, Op, Test, is_term_char};
use crate::search::TimeRange;

/// Longest term that is looked up, bytes: the index cuts longer ones.
const TERM_BYTES_MAX: usize = 64;

/// What every row must fulfil that fulfils the expression and lies in the range.
pub fn prune(expr: &Expr, table: Table, range: TimeRange) -> Prune {
    let mut prune = of(expr, table);
    prune.ts = intersect(prune.ts, range_us(range));
    prune
}

/// What every row of a range must fulfil.
pub fn prune_nothing_but(range: TimeRange) -> Prune {
    Prune { ts: range_us(range), ..Prune::default() }
}

fn range_us(range: TimeRange) -> Option<RangeInclusive<i64>> {
    (range.from_us.is_some() || range.to_us.is_some())
        .then(|| range.from_us.unwrap_or(i64::MIN)..=range.to_us.map_or(i64::MAX, |to| to.saturating_sub(1)))
}

fn of(expr: &Expr, table: Table) -> Prune {
    match expr {
        Expr::All | Expr::Not(_) => Prune::default(),
        Expr::And(parts) => parts.iter().map(|part| of(part, table)).reduce(both).unwrap_or_default(),
        Expr::Or(parts) => parts.iter().map(|part| of(part, table)).reduce(either).unwrap_or_default(),
        Expr::Is(field, test) => condition(field, test, table),
    }
}

fn condition(field: &Field, test: &Test, table: Table) -> Prune {
    let mut prune = Prune::default();
    let logs = table == Table::Logs;
    match (field, test) {
        (Field::Body, Test::Phrase(text)) if logs => prune.body_terms = whole_terms(text, |_| false),
        (Field::Body, Test::Wildcard(text)) if logs => {
            prune.body_terms = text
                .split('*')
                .enumerate()
                .flat_map(|(index, piece)| {
                    let last = index == text.matches('*').count();
                    whole_terms(piece, move |end| if end { !last } else { index > 0 })
                })
                .collect();
        }
        (Field::Body, Test::Contains(text)) if logs => prune.body_terms = whole_terms(text, |_| true),
        (Field::Service, Test::Equals(name)) => prune.services = Some(vec![name.clone()]),
        (Field::Trace, Test::Id { hex, prefix: false }) => {
            prune.trace_ids = Some(TraceId::from_hex(hex).into_iter().collect());
        }
        (Field::Severity, Test::Severity(op, level)) if logs => {
            let (low, high) = level.range();
            prune.severity = match op {
                Op::Eq => Some(low..=high),
                Op::Ne => None,
                Op::Lt => Some(i32::MIN..=low.saturating_sub(1)),
                Op::Le => Some(i32::MIN..=high),
                Op::Gt => Some(high.saturating_add(1)..=i32::MAX),
                Op::Ge => Some(low..=i32::MAX),
            };
        }
        (Field::Time, Test::Time(op, ns)) => prune.ts = ordered(*op, ns.div_euclid(1000)),
        (Field::Seq, Test::Number(op, Number::Int(seq))) => prune.seq = ordered(*op, *seq),
        _ => {}
    }
    prune
}

fn ordered(op: Op, value: i64) -> Option<RangeInclusive<i64>> {
    match op {
        Op::Eq => Some(value..=value),
        Op::Ne => None,
        Op::Lt | Op::Le => Some(i64::MIN..=value),
        Op::Gt | Op::Ge => Some(value..=i64::MAX),
    }
}

/// The terms of a text, in lower case, that stand in it from boundary to boundary. `open(false)` and `open(true)` say
/// whether the text's beginning and end may lie inside a longer term.
/// Left out: terms beyond ASCII (folding case differs there), cut ones, and ids, which the index knows by column.
fn whole_terms(text: &str, open: impl Fn(bool) -> bool) -> Vec<String> {
    let mut terms = Vec::new();
    let mut at = 0;
    for term in text.split(|c: char| !is_term_char(c)) {
        let end = at + term.len();
        let inside = (at == 0 && open(false)) || (end == text.len() && open(true));
        let id = matches!(term.len(), 16 | 32) && term.bytes().all(|b| b.is_ascii_hexdigit());
        if !term.is_empty() && !inside && !id && term.is_ascii() && term.len() <= TERM_BYTES_MAX {
            terms.push(term.to_ascii_lowercase());
        }
        at = end + text.get(end..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    }
    terms
}

fn intersect<T: Ord + Copy>(
    a: Option<RangeInclusive<T>>,
    b: Option<RangeInclusive<T>>,
) -> Option<RangeInclusive<T>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(*a.start().max(b.start())..=*a.end().min(b.end())),
        (a, b) => a.or(b),
    }
}

fn hull<T: Ord + Copy>(
    a: Option<RangeInclusive<T>>,
    b: Option<RangeInclusive<T>>,
) -> Option<RangeInclusive<T>> {
    let (a, b) = (a?, b?);
    Some(*a.start().min(b.start())..=*a.end().max(b.end()))
}

fn common<T: PartialEq>(a: Option<Vec<T>>, b: Option<Vec<T>>) -> Option<Vec<T>> {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.retain(|item| b.contains(item));
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

fn joined<T: PartialEq>(a: Option<Vec<T>>, b: Option<Vec<T>>) -> Option<Vec<T>> {
    let mut a = a?;
    for item in b? {
        if !a.contains(&item) {
            a.push(item);
        }
    }
    Some(a)
}

fn both(a: Prune, b: Prune) -> Prune {
    let mut body_terms = a.body_terms;
    for term in b.body_terms {
        if !body_terms.contains(&term) {
            body_terms.push(term);
        }
    }
    Prune {
        ts: intersect(a.ts, b.ts),
        seq: intersect(a.seq, b.seq),
        trace_ids: common(a.trace_ids, b.trace_ids),
        services: common(a.services, b.services),
        severity: intersect(a.severity, b.severity),
        body_terms,
    }
}

fn either(a: Prune, b: Prune) -> Prune {
    Prune {
        ts: hull(a.ts, b.ts),
        seq: hull(a.seq, b.seq),
        trace_ids: joined(a.trace_ids, b.trace_ids),
        services: joined(a.services, b.services),
        severity: hull(a.severity, b.severity),
        body_terms: a.body_terms.into_iter().filter(|term| b.body_terms.contains(term)).collect(),
    }
}
