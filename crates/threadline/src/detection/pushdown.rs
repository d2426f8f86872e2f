//! What rules ask of records, as columns to read and questions to the indexes of files.
//!
//! A plan never leaves out a record that its rule matches; where nothing is certain it says [`IndexPlan::All`].

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::DataType;
use threadline_detect::matcher::{
    COMMON_COLUMNS, Checks, Demand, Need, OfResource, columns_of, in_column_alone,
};
use threadline_detect::rules::RuleSet;
use threadline_model::schema::{Table, fixed};
use threadline_query::lang::{Expr, Field, Test};
use threadline_query::matcher::prune;
use threadline_query::search::TimeRange;
use threadline_query::source::Source;
use threadline_query::{Guard, QueryError};
use threadline_store::{IndexPlan, Prune, SealedFile, ValueTest};

/// With more rules than these in a file, which of its granules have what they need is not asked: some have.
const GRANULE_RULES_MAX: usize = 512;

/// What the rules of a set ask of one table.
#[derive(Debug)]
pub(super) struct Pushdown<'a> {
    table: Table,
    rules: Vec<(&'a Demand, IndexPlan)>,
    kept: BTreeSet<String>,
}

/// What is read of a source.
#[derive(Debug)]
pub(super) struct Reading {
    /// The columns; `None` = all.
    pub(super) columns: Option<BTreeSet<String>>,
    /// Which rows may matter.
    pub(super) index: IndexPlan,
}

impl<'a> Pushdown<'a> {
    pub(super) fn new(rules: &RuleSet, demands: &'a [Demand], table: Table) -> Pushdown<'a> {
        let of_table = demands.iter().filter(|demand| demand.tables.has(table));
        let planned = of_table.map(|demand| (demand, plan(&demand.need, table))).collect();
        let mut kept: BTreeSet<String> = COMMON_COLUMNS.map(str::to_owned).into();
        for field in rules.matcher().kept_fields() {
            kept.extend(columns_of(table, field).into_iter().map(str::to_owned));
        }
        Pushdown { table, rules: planned, kept }
    }

    /// Rules of whose need no index knows anything.
    pub(super) fn full_scans(&self) -> impl Iterator<Item = &Demand> {
        self.rules.iter().filter(|(_, plan)| *plan == IndexPlan::All).map(|(demand, _)| *demand)
    }

    /// Columns that are asked for where a rule matches. A record's body is one where it may be a map.
    pub(super) fn is_kept(&self, column: &str, bodies: bool) -> bool {
        self.kept.contains(column) || (bodies && column == "body")
    }

    /// What is to be read of a source; `None` when no rule can match in it.
    ///
    /// # Errors
    /// A store that fails, or the guard's bounds.
    pub(super) fn reading(&self, source: &Source, guard: &Guard) -> Result<Option<Reading>, QueryError> {
        let file = match source {
            Source::File(file) => Some(file),
            Source::Memory { .. } => None,
        };
        let mut active: Vec<&(&Demand, IndexPlan)> = Vec::new();
        for rule in &self.rules {
            guard.check()?;
            if file.map_or(Ok(true), |file| file.may_have(&rule.1))? {
                active.push(rule);
            }
        }
        if active.is_empty() {
            return Ok(None);
        }
        let index = if active.len() > GRANULE_RULES_MAX {
            IndexPlan::All
        } else {
            IndexPlan::or(active.iter().map(|(_, plan)| plan.clone()).collect())
        };
        if active.iter().any(|(demand, _)| demand.keywords) {
            return Ok(Some(Reading { columns: None, index }));
        }
        let mut columns = self.kept.clone();
        for (demand, _) in active {
            for field in &demand.fields {
                columns.extend(columns_of(self.table, field).into_iter().map(str::to_owned));
            }
        }
        if self.has_map_bodies(file)? {
            columns.insert("body".to_owned());
        }
        Ok(Some(Reading { columns: Some(columns), index }))
    }

    /// Whether bodies may be maps, whose members count as attributes.
    pub(super) fn has_map_bodies(&self, file: Option<&Arc<SealedFile>>) -> Result<bool, QueryError> {
        Ok(self.table == Table::Logs && file.map_or(Ok(true), |file| file.has_column("body_json"))?)
    }
}

fn plan(need: &Need, table: Table) -> IndexPlan {
    match need {
        Need::Anything => IndexPlan::All,
        Need::All(parts) => IndexPlan::and(parts.iter().map(|part| plan(part, table)).collect()),
        Need::Any(parts) => IndexPlan::or(parts.iter().map(|part| plan(part, table)).collect()),
        Need::Field(field, checks) => of_field(field, checks, table),
    }
}

fn of_field(field: &str, checks: &Checks, table: Table) -> IndexPlan {
    let mut places = Vec::new();
    let in_parts = field == "url.original";
    if !in_column_alone(table, field) {
        // Wherever these are, they may have the field. They come first: asking is quick.
        places.push(IndexPlan::HasColumn("attrs".to_owned()));
        if table == Table::Logs {
            places.push(IndexPlan::HasColumn("body_json".to_owned()));
        }
        let parts = ["url.path", "url.query"].into_iter().filter(|_| in_parts);
        for field in std::iter::once(field).chain(parts) {
            // A part of it says less than the whole.
            let checks = (!in_parts || checks.are_within_parts('?')).then(|| checks.clone());
            let shown = format!("resource {field} {checks:?}");
            let of_resource = OfResource::new(field);
            places.push(value("resource", shown, move |resource| match &checks {
                Some(checks) => of_resource.passes(resource, checks),
                None => of_resource.is_in(resource),
            }));
        }
    }
    for column in columns_of(table, field) {
        match column {
            "body" if table == Table::Logs => {
                // The body of such a record is a text of JSON, whose members are not words of it.
                places.push(IndexPlan::HasColumn("body_json".to_owned()));
                places.push(body(checks));
            }
            "url.path" | "url.query" if in_parts => places.push(part_of_url(column, checks)),
            column if is_indexed(table, column) => places.push(of_column(column, checks)),
            _ => return IndexPlan::All,
        }
    }
    IndexPlan::or(places)
}

/// Whether the values of a column are indexed: those of attributes are where they have a column, of the others words.
fn is_indexed(table: Table, column: &str) -> bool {
    let fixed = fixed(table).iter().find(|field| field.name() == column);
    fixed.is_none_or(|field| matches!(field.data_type(), DataType::Dictionary(..)))
}

fn value(column: &str, shown: String, test: impl Fn(&str) -> bool + Send + Sync + 'static) -> IndexPlan {
    IndexPlan::Value { column: column.to_owned(), test: ValueTest::Fulfils(shown, Arc::new(test)) }
}

fn of_column(column: &str, checks: &Checks) -> IndexPlan {
    let shown = format!("{checks:?}");
    let checks = checks.clone();
    value(column, shown, move |value| checks.passes(value))
}

/// Of a path and a query that are a URL together, joined by `?`: a text without one is in either.
fn part_of_url(column: &str, checks: &Checks) -> IndexPlan {
    if checks.are_within_parts('?') {
        return of_column(column, checks);
    }
    value(column, "there".to_owned(), |_| true)
}

fn body(checks: &Checks) -> IndexPlan {
    let Some(patterns) = checks.patterns() else { return IndexPlan::All };
    let index = |pattern: String| {
        let expr = Expr::Is(Field::Body, Test::Regex(pattern));
        prune(&expr, Table::Logs, TimeRange::default()).index
    };
    IndexPlan::or(patterns.into_iter().map(index).collect())
}

/// What is read of a source, whatever the rules: what time it is with each record.
pub(super) fn times(source: &Source) -> Result<Vec<&'static str>, QueryError> {
    let mut columns = vec!["seq", "ts", "arrival_ts"];
    let findings = match source {
        Source::Memory { .. } => true,
        Source::File(file) if file.meta().table == Table::Logs => {
            let test = ValueTest::Equals(threadline_detect::finding::EVENT_NAME.to_owned());
            file.may_have_value("event_name", &test)?
        }
        Source::File(_) => false,
    };
    if findings {
        columns.extend(["event_name", "service"]);
    }
    Ok(columns)
}

/// Rows of a range that the plan may mean.
pub(super) fn pruned(range: TimeRange, index: IndexPlan) -> Prune {
    Prune { index, ..threadline_query::matcher::prune_nothing_but(range) }
}

#[cfg(test)]
mod tests {
    use threadline_query::matcher::attribute_column;

    use super::*;

    /// Attributes own the columns that their fields are sought in.
    #[test]
    fn columns_of_attributes_are_those_of_the_search_language() {
        for field in ["url.path", "a", "name", "body", "events", "service"] {
            for table in Table::ALL {
                let own = columns_of(table, field).contains(&field);
                assert!(own || attribute_column(field).is_none(), "{field}");
            }
        }
    }
}
