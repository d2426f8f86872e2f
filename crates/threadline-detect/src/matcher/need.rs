//! What a record has wherever a rule matches it: for stores that leave out records, and columns, by it.

use std::fmt;
use std::sync::Arc;

use threadline_model::schema::Table;

use super::expr::{Case, Check, Expr, Test, compile_regex};
use super::record::{self, Names};
use super::{Matcher, RuleIndex};
use crate::sigma::rule::Tables;
use crate::text::fold;

/// What a record fulfils wherever a rule matches it. It may fulfil it where the rule does not match.
#[derive(Clone, Debug)]
pub enum Need {
    /// Nothing follows from the rule.
    Anything,
    /// All of these.
    All(Vec<Need>),
    /// One of these.
    Any(Vec<Need>),
    /// A value of this field passes one of the checks.
    Field(String, Checks),
}

/// Checks of one value. Clones share them.
#[derive(Clone)]
pub struct Checks(Arc<[(Check, Option<regex::Regex>)]>);

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Checks {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Check> {
        self.0.iter().map(|(check, _)| check)
    }

    /// Whether a value, as text, passes one of them.
    pub fn passes(&self, text: &str) -> bool {
        let folded = fold(text);
        self.0.iter().any(|(check, regex)| check.passes(text, &folded, regex.as_ref()))
    }

    /// A regular expression for each of them that finds something in every text which passes it; `None` where one says
    /// nothing of a text.
    pub fn patterns(&self) -> Option<Vec<String>> {
        self.iter().map(pattern).collect()
    }

    /// Whether what passes them, being two parts joined by a character, has a part that passes them.
    pub fn are_within_parts(&self, joint: char) -> bool {
        self.iter().all(|check| match check {
            Check::Equals(text, _)
            | Check::Starts(text, _)
            | Check::Ends(text, _)
            | Check::Contains(text, _) => !text.contains(joint),
            Check::Present => true,
            _ => false,
        })
    }

    fn of(tests: Vec<&Test>) -> Option<Checks> {
        let each = |test: &Test| {
            Some(match &test.check {
                Check::Regex(source) => (test.check.clone(), Some(compile_regex(source).ok()?)),
                // The other field, and what a time is, are not to be seen from one value.
                Check::FieldRef { .. } | Check::TimePart(..) => (Check::Present, None),
                check => (check.clone(), None),
            })
        };
        tests.into_iter().map(each).collect::<Option<_>>().map(Checks)
    }
}

fn pattern(check: &Check) -> Option<String> {
    let literal = |text: &str, case: &Case| match case {
        Case::Exact => Some(regex::escape(text)),
        // Lower case is more than the folding of a regular expression in one letter: `İ` becomes `i` and a dot above. A
        // text with that dot is in texts without it.
        Case::Folded if text.contains('\u{307}') => None,
        Case::Folded => Some(format!("(?i){}", regex::escape(text).replace('i', "[iİ]"))),
    };
    match check {
        Check::Equals(text, case)
        | Check::Starts(text, case)
        | Check::Ends(text, case)
        | Check::Contains(text, case) => literal(text, case),
        Check::Wild(pattern, case) => {
            let longest = match pattern.shape() {
                crate::sigma::pattern::Shape::Wild(text) => text,
                _ => return None,
            };
            literal(longest, case)
        }
        Check::Regex(source) => Some(source.clone()),
        _ => None,
    }
}

impl Need {
    pub(super) fn of(expr: &Expr) -> Need {
        positive(expr, false)
    }
}

fn positive(expr: &Expr, negated: bool) -> Need {
    match (expr, negated) {
        (Expr::Not(part), _) => positive(part, !negated),
        (Expr::And(parts), false) | (Expr::Or(parts), true) => {
            let parts = parts.iter().map(|part| positive(part, negated));
            let mut parts: Vec<Need> = parts.filter(|part| !matches!(part, Need::Anything)).collect();
            match parts.len() {
                0 => Need::Anything,
                1 => parts.pop().unwrap_or(Need::Anything),
                _ => Need::All(parts),
            }
        }
        (Expr::And(parts), true) => any(parts.iter().map(|part| positive(part, negated)).collect()),
        (Expr::Or(parts), false) => {
            // Tests of one field are one test of several values.
            let (mut fields, mut rest): (Vec<(&String, Vec<&Test>)>, Vec<Need>) = Default::default();
            for part in parts {
                match part {
                    Expr::Test(test) => match &test.field {
                        None => return Need::Anything,
                        Some(field) => match fields.iter_mut().find(|(known, _)| *known == field) {
                            Some((_, tests)) => tests.push(test),
                            None => fields.push((field, vec![test])),
                        },
                    },
                    part => rest.push(positive(part, false)),
                }
            }
            rest.extend(fields.into_iter().map(|(field, tests)| of_field(field, tests)));
            any(rest)
        }
        (Expr::Test(_), true) => Need::Anything,
        (Expr::Test(test), false) => {
            test.field.as_ref().map_or(Need::Anything, |field| of_field(field, vec![test]))
        }
    }
}

fn of_field(field: &str, tests: Vec<&Test>) -> Need {
    Checks::of(tests).map_or(Need::Anything, |checks| Need::Field(field.to_owned(), checks))
}

fn any(mut parts: Vec<Need>) -> Need {
    if parts.iter().any(|part| matches!(part, Need::Anything)) {
        return Need::Anything;
    }
    if parts.len() == 1 { parts.pop().unwrap_or(Need::Anything) } else { Need::Any(parts) }
}

/// What a rule asks of records.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The rule.
    pub rule: RuleIndex,
    /// Where it looks.
    pub tables: Tables,
    /// What records have that it matches.
    pub need: Need,
    /// Fields that it looks at to decide.
    pub fields: Vec<String>,
    /// It looks at every value.
    pub keywords: bool,
}

impl Matcher {
    /// What each rule asks of records.
    pub fn demands(&self) -> Vec<Demand> {
        let demand = |(rule, program): (usize, &super::Program)| {
            let (mut fields, mut keywords) = (Vec::new(), false);
            each_test(&program.expr, &mut |test| {
                match &test.field {
                    Some(field) => fields.push(field.clone()),
                    None => keywords = true,
                }
                if let Check::FieldRef { field, .. } = &test.check {
                    fields.push(field.clone());
                }
            });
            fields.sort_unstable();
            fields.dedup();
            let need = Need::of(&program.expr);
            Demand { rule: rule as RuleIndex, tables: program.tables, need, fields, keywords }
        };
        self.programs.iter().enumerate().map(demand).collect()
    }

    /// Fields whose values are asked for where a rule matches: groups, entities, values that are counted.
    pub fn kept_fields(&self) -> &[String] {
        &self.kept
    }
}

fn each_test<'e>(expr: &'e Expr, each: &mut impl FnMut(&'e Test)) {
    match expr {
        Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| each_test(part, each)),
        Expr::Not(part) => each_test(part, each),
        Expr::Test(test) => each(test),
    }
}

/// Columns that matching and what follows a match ask for of every record, whatever the rules. `body` counts as one of
/// them where some `body_json` is true.
pub const COMMON_COLUMNS: [&str; 10] = [
    "seq",
    "ts",
    "arrival_ts",
    "trace_id",
    "span_id",
    "service",
    "event_name",
    "attrs",
    "resource",
    "body_json",
];

/// Columns that may have values of a field. More of them may lie in `attrs`, `resource` and in bodies that are maps,
/// unless it [is of a column alone](in_column_alone).
pub fn columns_of(table: Table, field: &str) -> Vec<&str> {
    let mut columns: Vec<&str> = record::fixed_columns(table, field).collect();
    if record::is_attribute(table, field) {
        columns.push(field);
    }
    if field == "url.original" {
        columns.extend(["url.path", "url.query"]);
    }
    columns
}

/// Whether a field is what its column says, and no attribute.
pub fn in_column_alone(table: Table, field: &str) -> bool {
    record::RESERVED.contains(&(table, field))
}

/// Finds the values of one field in the column `resource`.
#[derive(Clone, Debug)]
pub struct OfResource(Arc<Names>);

impl OfResource {
    /// Of this field.
    pub fn new(field: &str) -> OfResource {
        let mut names = Names::default();
        names.intern(field);
        OfResource(Arc::new(names))
    }

    /// Whether a value of it passes one of the checks.
    pub fn passes(&self, resource: &str, checks: &Checks) -> bool {
        self.any(resource, |value| checks.passes(value))
    }

    /// Whether it has a value.
    pub fn is_in(&self, resource: &str) -> bool {
        self.any(resource, |_| true)
    }

    fn any(&self, resource: &str, test: impl Fn(&str) -> bool) -> bool {
        let attributes = record::resource_attributes(resource).unwrap_or_default();
        let mut found = false;
        record::attributes(&self.0, attributes, false, &mut |_, value| found |= test(&value.text()));
        found
    }
}
