//! Index lookup: what every row of an answer fulfils, for leaving out files, row groups, pages and granules.

use std::ops::RangeInclusive;
use std::sync::Arc;

use threadline_model::id::TraceId;
use threadline_model::schema::Table;
use threadline_model::value;
use threadline_store::{IndexPlan, Prune, ValueTest};

use super::leaf::{Bits, attribute_column, verdict_bits};
use super::segments;
use super::text::TextTest;
use crate::lang::{Expr, Field, Number, Op, Test};
use crate::search::TimeRange;

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
    let mut prune = Prune { index: index(field, test, table), ..Prune::default() };
    let logs = table == Table::Logs;
    match (field, test) {
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

/// What the indexes of a file are asked for a condition.
fn index(field: &Field, test: &Test, table: Table) -> IndexPlan {
    let logs = table == Table::Logs;
    let column = |name: &str| value_of(name, test, *field == Field::Body);
    match field {
        Field::Body if logs => body(test),
        Field::Body => IndexPlan::or(vec![column("name"), column("status_message")]),
        Field::Service => column("service"),
        Field::Instance => column("instance"),
        Field::SeverityText if logs => column("severity_text"),
        Field::Event if logs => column("event_name"),
        Field::Name if !logs => column("name"),
        Field::StatusMessage if !logs => column("status_message"),
        Field::SeverityText | Field::Name | Field::StatusMessage => attribute(field.name(), test),
        Field::Attribute(key) => attribute(key, test),
        Field::ScopeName => in_json("scope", &["name"], test),
        Field::ScopeVersion => in_json("scope", &["version"], test),
        Field::Mark | Field::Contract | Field::Rule => verdict(field, test),
        _ => IndexPlan::All,
    }
}

fn verdict(field: &Field, test: &Test) -> IndexPlan {
    let fulfils: Arc<dyn Fn(&str) -> bool + Send + Sync> = match verdict_bits(field, test) {
        Some(Bits::Any(mask)) => Arc::new(move |value| value.parse().is_ok_and(|bits: i64| bits & mask != 0)),
        Some(Bits::Are(mask, want)) if want != 0 => {
            Arc::new(move |value| value.parse().is_ok_and(|bits: i64| bits & mask == want))
        }
        _ => return IndexPlan::All,
    };
    let test = ValueTest::Fulfils(format!("{test:?}"), fulfils);
    IndexPlan::Value { column: "verdict".to_owned(), test }
}

fn body(test: &Test) -> IndexPlan {
    match test {
        Test::Phrase(text) => segments::of_text(text, true, true, !text.is_ascii()),
        Test::Equals(text) => segments::of_text(text, true, true, false),
        Test::Contains(text) => segments::of_text(text, false, false, false),
        Test::Wildcard(pattern) => {
            let pieces: Vec<&str> = pattern.split('*').collect();
            let last = pieces.len().saturating_sub(1);
            let piece = |(index, piece): (usize, &&str)| {
                segments::of_text(piece, index == 0, index == last, !pattern.is_ascii())
            };
            IndexPlan::and(pieces.iter().enumerate().map(piece).collect())
        }
        Test::Regex(pattern) => segments::of_regex(pattern),
        Test::Network(network) if network.is_ipv4() => segments::of_network(*network),
        _ => IndexPlan::All,
    }
}

/// A test of a text, for values of an index. A body is searched in; other texts are taken whole.
fn text_test(test: &Test, body: bool) -> Option<Arc<TextTest>> {
    TextTest::new(test, body).ok().flatten().map(Arc::new)
}

/// Whether a value fulfils a test as text, or as the number it is.
fn fulfils(test: &TextTest, value: &str) -> bool {
    test.is(value) || Number::parse(value).is_some_and(|number| test.is_number(number, value))
}

fn value_of(column: &str, test: &Test, body: bool) -> IndexPlan {
    let test = match (test, text_test(test, body)) {
        (Test::Equals(text), _) if Number::parse(text).is_none() => ValueTest::Equals(text.clone()),
        (_, Some(compiled)) => {
            ValueTest::Fulfils(format!("{test:?}"), Arc::new(move |value| fulfils(&compiled, value)))
        }
        (_, None) => return IndexPlan::All,
    };
    IndexPlan::Value { column: column.to_owned(), test }
}

/// A member of a column of typed JSON.
fn in_json(column: &str, path: &'static [&'static str], test: &Test) -> IndexPlan {
    let Some(compiled) = text_test(test, false) else { return IndexPlan::All };
    let find = move |json: &str| {
        let mut raw = None;
        let mut json = json;
        for step in path {
            raw = value::member(json, step);
            json = raw.map_or("", |raw| raw.json());
        }
        raw.is_some_and(|raw| compiled.is_json(raw))
    };
    let test = ValueTest::Fulfils(format!("{path:?} {test:?}"), Arc::new(find));
    IndexPlan::Value { column: column.to_owned(), test }
}

/// An attribute lies in its own column, in `attrs`, in the resource or in the scope.
fn attribute(key: &str, test: &Test) -> IndexPlan {
    let Some(compiled) = text_test(test, false) else { return IndexPlan::All };
    let mut places = vec![IndexPlan::HasColumn("attrs".to_owned())];
    for column in ["resource", "scope"] {
        let shown = format!("@{key} {test:?}");
        let (key, compiled) = (key.to_owned(), Arc::clone(&compiled));
        let find = move |json: &str| {
            let attributes = value::member(json, "attributes");
            attributes
                .and_then(|attributes| value::member(attributes.json(), &key))
                .is_some_and(|raw| compiled.is_json(raw))
        };
        let test = ValueTest::Fulfils(shown, Arc::new(find));
        places.push(IndexPlan::Value { column: column.to_owned(), test });
    }
    let elsewhere = IndexPlan::or(places);
    match attribute_column(key).map(|column| value_of(column, test, false)) {
        None => elsewhere,
        Some(IndexPlan::Value { column, test }) => {
            IndexPlan::Attribute { column, test, elsewhere: Box::new(elsewhere) }
        }
        Some(_) => IndexPlan::All,
    }
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
    Prune {
        ts: intersect(a.ts, b.ts),
        seq: intersect(a.seq, b.seq),
        trace_ids: common(a.trace_ids, b.trace_ids),
        services: common(a.services, b.services),
        severity: intersect(a.severity, b.severity),
        index: IndexPlan::and(vec![a.index, b.index]),
    }
}

fn either(a: Prune, b: Prune) -> Prune {
    Prune {
        ts: hull(a.ts, b.ts),
        seq: hull(a.seq, b.seq),
        trace_ids: joined(a.trace_ids, b.trace_ids),
        services: joined(a.services, b.services),
        severity: hull(a.severity, b.severity),
        index: IndexPlan::or(vec![a.index, b.index]),
    }
}
