//! Correlations (specification, "Sigma Correlation Rules"): conditions over hits of rules within a time span.

use threadline_model::yaml::{Fault, Node, Result};

use super::condition::Condition;
use super::rule::Comparison;
use crate::text;

/// Rules that a correlation may refer to, at most.
const RULES_MAX: usize = 64;
/// Fields to group by, at most.
const GROUP_BY_MAX: usize = 16;

/// What a correlation computes of its window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// How many records.
    EventCount,
    /// How many distinct values.
    ValueCount,
    /// Sum of a field.
    ValueSum,
    /// Mean of a field.
    ValueAvg,
    /// Percentile of a field, 0–100, between neighbours linearly.
    ValuePercentile(f64),
    /// How many of the rules have hits.
    Temporal,
    /// Likewise, and their hits follow one another in the order of the rules.
    TemporalOrdered,
}

impl Kind {
    /// As rules write it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::EventCount => "event_count",
            Kind::ValueCount => "value_count",
            Kind::ValueSum => "value_sum",
            Kind::ValueAvg => "value_avg",
            Kind::ValuePercentile(_) => "value_percentile",
            Kind::Temporal => "temporal",
            Kind::TemporalOrdered => "temporal_ordered",
        }
    }

    /// Whether it computes from a field's numbers.
    pub fn is_numeric(self) -> bool {
        matches!(self, Kind::ValueSum | Kind::ValueAvg | Kind::ValuePercentile(_))
    }

    /// Whether it looks at which rules have hits.
    pub fn is_temporal(self) -> bool {
        matches!(self, Kind::Temporal | Kind::TemporalOrdered)
    }
}

/// When a window is found.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// All comparisons hold of what was computed.
    Compares(Vec<(Comparison, f64)>),
    /// The condition holds, where a rule's name is true when it has a hit in the window.
    Holds(Condition),
}

/// A field that has another name in the hits of each rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Name in `group-by` and in the condition's `field`.
    pub name: String,
    /// Rule -> field.
    pub fields: Vec<(String, String)>,
}

/// A correlation.
#[derive(Clone, Debug, PartialEq)]
pub struct Correlation {
    /// What is computed.
    pub kind: Kind,
    /// Ids or names of rules.
    pub rules: Vec<String>,
    /// Fields by which hits are kept apart.
    pub group_by: Vec<String>,
    /// Length of the window in µs.
    pub timespan_us: i64,
    /// Names for fields.
    pub aliases: Vec<Alias>,
    /// When it is a finding.
    pub when: When,
    /// Fields of the condition.
    pub fields: Vec<String>,
    /// The rules it refers to make findings of their own, too.
    pub generate: bool,
    /// Line in the file.
    pub line: usize,
}

const KEYS: [&str; 8] =
    ["type", "rules", "group-by", "timespan", "aliases", "condition", "generate", "timeframe"];

/// Reads the `correlation` of a document. `generate` may stand beside it, too.
pub(crate) fn read(node: &Node, document: &Node) -> Result<Correlation> {
    let line = node.line;
    node.only("correlation", &KEYS)?;
    let need =
        |key: &str| node.get(key).ok_or_else(|| Fault::new(line, format!("a correlation needs `{key}`")));
    let kind_node = need("type")?;
    let kind_name = kind_node.need_text("type")?;
    let condition = node.get("condition");
    let kind = kind(kind_name, kind_node.line, condition)?;
    let mut rules = node.get("rules").map_or(Ok(Vec::new()), |rules| rules.need_texts("rules"))?;
    let group_by = node.get("group-by").map_or(Ok(Vec::new()), |fields| fields.need_texts("group-by"))?;
    let span = need("timespan")?;
    let timespan_us = text::duration(span.need_text("timespan")?, span.line, "timespan")?;
    let (mut when, fields) = match condition {
        Some(condition) => when(kind, condition)?,
        None if kind.is_temporal() => {
            (When::Compares(vec![(Comparison::GreaterOrEqual, rules.len() as f64)]), Vec::new())
        }
        None => {
            return Err(Fault::new(line, "a correlation needs `condition`, such as `condition: { gte: 10 }`"));
        }
    };
    if let When::Holds(condition) = &mut when {
        if rules.is_empty() {
            rules = condition.names().into_iter().map(str::to_owned).collect();
        }
        if let Some(name) = condition.names().into_iter().find(|name| !rules.iter().any(|rule| rule == name)) {
            return Err(Fault::new(line, format!("the condition names `{name}`, which is not among `rules`")));
        }
        *condition = condition.written_out(rules.iter().map(String::as_str), line)?;
    }
    if rules.is_empty() || rules.len() > RULES_MAX || group_by.len() > GROUP_BY_MAX {
        let what = format!(
            "a correlation needs 1 to {RULES_MAX} `rules` and at most {GROUP_BY_MAX} `group-by` fields"
        );
        return Err(Fault::new(line, what));
    }
    let generate = [node.get("generate"), document.get("generate")];
    let generate =
        generate.into_iter().flatten().map(|node| node.need_bool("generate")).next().unwrap_or(Ok(false))?;
    let aliases = node.get("aliases").map_or(Ok(Vec::new()), aliases)?;
    Ok(Correlation { kind, rules, group_by, timespan_us, aliases, when, fields, generate, line })
}

fn kind(name: &str, line: usize, condition: Option<&Node>) -> Result<Kind> {
    Ok(match name {
        "event_count" => Kind::EventCount,
        "value_count" => Kind::ValueCount,
        "value_sum" => Kind::ValueSum,
        "value_avg" => Kind::ValueAvg,
        "value_median" => Kind::ValuePercentile(50.0),
        "value_percentile" => {
            let Some(node) = condition.and_then(|condition| condition.get("percentile")) else {
                return Err(Fault::new(
                    line,
                    "`value_percentile` needs `percentile` in its condition, 0 to 100",
                ));
            };
            let percentile = node.need_number("percentile")?;
            if !(0.0..=100.0).contains(&percentile) {
                return Err(Fault::new(node.line, "`percentile` must be from 0 to 100"));
            }
            Kind::ValuePercentile(percentile)
        }
        "temporal" | "temporal_extended" => Kind::Temporal,
        "temporal_ordered" | "temporal_ordered_extended" => Kind::TemporalOrdered,
        _ => {
            let what = format!(
                "`{name}` is no type of correlation: event_count, value_count, value_sum, value_avg, value_percentile, \
                 value_median, temporal, temporal_ordered"
            );
            return Err(Fault::new(line, what));
        }
    })
}

fn when(kind: Kind, node: &Node) -> Result<(When, Vec<String>)> {
    if let Some(text) = node.text() {
        if !kind.is_temporal() {
            return Err(Fault::new(node.line, "only temporal correlations take a condition over rules"));
        }
        let condition = Condition::parse(text, node.line)?;
        return Ok((When::Holds(condition), Vec::new()));
    }
    let mut comparisons = Vec::new();
    let mut fields = Vec::new();
    for (key, value) in node.members() {
        match Comparison::parse(key) {
            Some(comparison) => comparisons.push((comparison, value.need_number(key)?)),
            None if key == "field" => fields = value.need_texts("field")?,
            None if key == "percentile" && matches!(kind, Kind::ValuePercentile(_)) => {}
            None => {
                let what = format!(
                    "`{key}` is nothing in a correlation's condition: lt, lte, gt, gte, eq, neq, field"
                );
                return Err(Fault::new(value.line, what));
            }
        }
    }
    if comparisons.is_empty() {
        return Err(Fault::new(node.line, "a correlation's condition needs one of lt, lte, gt, gte, eq, neq"));
    }
    let needed = match kind {
        Kind::ValueCount => fields.is_empty(),
        kind if kind.is_numeric() => fields.len() != 1,
        _ => false,
    };
    if needed {
        return Err(Fault::new(node.line, format!("`{}` needs `field` in its condition", kind.name())));
    }
    Ok((When::Compares(comparisons), fields))
}

fn aliases(node: &Node) -> Result<Vec<Alias>> {
    let alias = |(name, node): &(String, Node)| {
        let field = |(rule, field): &(String, Node)| Ok((rule.clone(), field.need_text("aliases")?.to_owned()));
        Ok(Alias { name: name.clone(), fields: node.members().iter().map(field).collect::<Result<_>>()? })
    };
    node.members().iter().map(alias).collect()
}
