//! Why a record matches a rule, or does not: condition by condition. Also the plain way to match, which evaluates every
//! test of every rule, as a check on the index.

use std::fmt;

use arrow_array::RecordBatch;
use threadline_model::schema::Table;

use super::expr::{Check, Expr, Test};
use super::record::{KEYWORD, Names, Val};
use super::{Matcher, Row, RuleIndex, Scratch};
use crate::text;

/// Why.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Whether it holds.
    pub holds: bool,
    /// What was looked at.
    pub verdict: Verdict,
}

/// A part of an explanation.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// All must hold.
    All(Vec<Explanation>),
    /// One must hold.
    Any(Vec<Explanation>),
    /// The part must not hold.
    Not(Box<Explanation>),
    /// A test.
    Test {
        /// Field, or `any value`.
        field: String,
        /// The comparison, for people.
        check: String,
        /// What the record has there; empty when nothing.
        values: Vec<String>,
    },
}

/// Bytes of a value that are shown.
const SHOWN_BYTES: usize = 200;
/// Values of a field that are shown.
const SHOWN_VALUES: usize = 5;

impl Matcher {
    /// Explains one rule over one record; `None` when the rule is not about records of this table, or there is none.
    pub fn explain(
        &self,
        batch: &RecordBatch,
        table: Table,
        row: usize,
        rule: RuleIndex,
    ) -> Option<Explanation> {
        let program = self.programs.get(rule as usize).filter(|program| program.tables.has(table))?;
        let row = self.row(batch, table, row);
        Some(explain(&self.names, &program.expr, &row))
    }

    /// The rules that match a record, by evaluating every test of every rule.
    pub fn match_plainly(&self, batch: &RecordBatch, table: Table, row: usize) -> Vec<RuleIndex> {
        let row = self.row(batch, table, row);
        let about = |rule: &RuleIndex| {
            self.programs
                .get(*rule as usize)
                .is_some_and(|program| program.tables.has(table) && holds(&self.names, &program.expr, &row))
        };
        (0..self.programs.len() as RuleIndex).filter(about).collect()
    }

    fn row<'a>(&self, batch: &'a RecordBatch, table: Table, number: usize) -> Row<'a> {
        let mut scratch = Scratch::default();
        scratch.fit(self);
        scratch.next_record();
        let mut row = Row { row: number, values: Vec::new() };
        self.reader(batch, table, true).read(&mut row, &mut scratch);
        row
    }
}

fn values<'r>(names: &Names, test: &Test, row: &'r Row<'_>) -> Vec<&'r Val<'r>> {
    let field = test.field.as_deref().map_or(Some(KEYWORD), |name| names.find(name));
    field.map_or(Vec::new(), |field| row.all(field).collect())
}

fn passes(names: &Names, test: &Test, row: &Row<'_>) -> bool {
    let regex = match &test.check {
        Check::Regex(source) => super::expr::compile_regex(source).ok(),
        _ => None,
    };
    values(names, test, row).into_iter().any(|value| {
        let text = value.text();
        match &test.check {
            Check::FieldRef { field, .. } => names
                .find(field)
                .is_some_and(|other| row.all(other).any(|value| test.check.refers(&text, &value.text()))),
            check => check.passes(&text, &text::fold(&text), regex.as_ref()),
        }
    })
}

fn holds(names: &Names, expr: &Expr, row: &Row<'_>) -> bool {
    match expr {
        Expr::And(parts) => parts.iter().all(|part| holds(names, part, row)),
        Expr::Or(parts) => parts.iter().any(|part| holds(names, part, row)),
        Expr::Not(part) => !holds(names, part, row),
        Expr::Test(test) => passes(names, test, row),
    }
}

fn explain(names: &Names, expr: &Expr, row: &Row<'_>) -> Explanation {
    let each = |parts: &[Expr]| parts.iter().map(|part| explain(names, part, row)).collect::<Vec<_>>();
    match expr {
        Expr::And(parts) => {
            let parts = each(parts);
            Explanation { holds: parts.iter().all(|part| part.holds), verdict: Verdict::All(parts) }
        }
        Expr::Or(parts) => {
            let parts = each(parts);
            Explanation { holds: parts.iter().any(|part| part.holds), verdict: Verdict::Any(parts) }
        }
        Expr::Not(part) => {
            let part = explain(names, part, row);
            Explanation { holds: !part.holds, verdict: Verdict::Not(Box::new(part)) }
        }
        Expr::Test(test) => {
            let shown = |value: &&Val<'_>| {
                let text = value.text();
                let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= SHOWN_BYTES);
                match end.and_then(|end| text.get(..end)) {
                    Some(short) => format!("{short}…"),
                    None => text.into_owned(),
                }
            };
            let limit = if test.field.is_none() { 0 } else { SHOWN_VALUES };
            let values = values(names, test, row).iter().take(limit).map(shown).collect();
            let field = test.field.clone().unwrap_or_else(|| "any value".to_owned());
            let check = test.check.describe().into_owned();
            Explanation { holds: passes(names, test, row), verdict: Verdict::Test { field, check, values } }
        }
    }
}

impl Explanation {
    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let mark = if self.holds { "yes" } else { "no " };
        let indent = "  ".repeat(depth);
        match &self.verdict {
            Verdict::All(parts) | Verdict::Any(parts) => {
                let word = if matches!(self.verdict, Verdict::All(_)) { "all of" } else { "one of" };
                writeln!(f, "{mark} {indent}{word}")?;
                parts.iter().try_for_each(|part| part.write(f, depth + 1))
            }
            Verdict::Not(part) => {
                writeln!(f, "{mark} {indent}not")?;
                part.write(f, depth + 1)
            }
            Verdict::Test { field, check, values } => {
                let has = match values.as_slice() {
                    [] if field == "any value" => String::new(),
                    [] => ": it is not there".to_owned(),
                    values => format!(": it is `{}`", values.join("`, `")),
                };
                writeln!(f, "{mark} {indent}{field} {check}{has}")
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
