//! When an item of a pipeline applies: to a rule, to a field and its values, to a name (pySigma, "Conditions").

use threadline_model::yaml::{Fault, Node, Result};

use super::State;
use crate::sigma::condition::Condition;
use crate::sigma::pattern::Piece;
use crate::sigma::rule::{Detection, Item, LogSource, Rule, Value};
use crate::text::number_text;

/// All conditions of an item.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    rule: Group<OfRule>,
    item: Group<OfItem>,
    name: Group<OfName>,
}

/// Conditions of one kind and how they are joined.
#[derive(Clone, Debug)]
struct Group<T> {
    conditions: Vec<(String, T)>,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    All,
    Any,
    Expression(Condition),
    Negated(Box<How>),
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Group { conditions: Vec::new(), how: How::All }
    }
}

impl How {
    fn join(&self, results: &[(&str, bool)]) -> bool {
        match self {
            How::All => results.iter().all(|(_, holds)| *holds),
            How::Any => results.iter().any(|(_, holds)| *holds),
            How::Expression(condition) => {
                condition.holds(&|name| results.iter().any(|(known, holds)| *known == name && *holds))
            }
            How::Negated(how) => !how.join(results),
        }
    }
}

impl<T> Group<T> {
    fn read(node: &Node, keys: [&str; 4], one: fn(&Node) -> Result<T>) -> Result<Group<T>> {
        let [list, op, not, expression] = keys;
        let mut conditions = Vec::new();
        if let Some(given) = node.get(list) {
            if given.is_map() {
                for (name, node) in given.members() {
                    conditions.push((name.clone(), one(node)?));
                }
            } else {
                for node in given.one_or_many() {
                    conditions.push((String::new(), one(node)?));
                }
            }
        }
        let mut how = match node.get(op).map(|node| node.need_text(op)).transpose()? {
            None | Some("and") => How::All,
            Some("or") => How::Any,
            Some(other) => return Err(Fault::new(node.line, format!("`{op}` is `{other}`: and, or"))),
        };
        if let Some(node) = node.get(expression) {
            let condition = Condition::parse(node.need_text(expression)?, node.line)?;
            if let Some(name) =
                condition.names().into_iter().find(|name| !conditions.iter().any(|(n, _)| n == name))
            {
                return Err(Fault::new(
                    node.line,
                    format!("`{expression}` names `{name}`, which is not in `{list}`"),
                ));
            }
            let names = conditions.iter().map(|(name, _)| name.as_str());
            how = How::Expression(condition.written_out(names, node.line)?);
        }
        if node.get(not).map_or(Ok(false), |node| node.need_bool(not))? {
            how = How::Negated(Box::new(how));
        }
        Ok(Group { conditions, how })
    }

    fn holds(&self, one: impl Fn(&T) -> bool) -> bool {
        if self.conditions.is_empty() {
            return true;
        }
        let results: Vec<(&str, bool)> =
            self.conditions.iter().map(|(name, condition)| (name.as_str(), one(condition))).collect();
        self.how.join(&results)
    }
}

#[derive(Clone, Debug)]
enum OfRule {
    LogSource(LogSource),
    ContainsField(String),
    ContainsItem(String, String),
    Applied(String),
    IsRule(bool),
    Attribute(String, String),
    Tag(String),
    State(String, String),
}

#[derive(Clone, Debug)]
enum OfItem {
    MatchString(regex::Regex, bool),
    MatchValue(String),
    Wildcard,
    Null,
    Applied(String),
    State(String, String),
}

#[derive(Clone, Debug)]
enum OfName {
    Include(Names),
    Exclude(Names),
    Applied(String),
    State(String, String),
}

#[derive(Clone, Debug)]
enum Names {
    Plain(Vec<String>),
    Patterns(Vec<regex::Regex>),
}

impl Names {
    fn read(node: &Node) -> Result<Names> {
        let list = need(node, "fields")?;
        let texts = list.need_texts("fields")?;
        match node.get("mode").or(node.get("type_")).and_then(Node::text).unwrap_or("plain") {
            "plain" => Ok(Names::Plain(texts)),
            "re" => texts
                .iter()
                .map(|text| regex(&format!("^(?:{text})"), list))
                .collect::<Result<_>>()
                .map(Names::Patterns),
            other => Err(Fault::new(node.line, format!("`mode` is `{other}`: plain, re"))),
        }
    }

    fn has(&self, field: &str) -> bool {
        match self {
            Names::Plain(names) => names.iter().any(|name| name == field),
            Names::Patterns(patterns) => patterns.iter().any(|pattern| pattern.is_match(field)),
        }
    }
}

fn need<'a>(node: &'a Node, key: &str) -> Result<&'a Node> {
    node.get(key).ok_or_else(|| Fault::new(node.line, format!("needs `{key}`")))
}

fn text(node: &Node, key: &str) -> Result<String> {
    need(node, key)?.need_text(key).map(str::to_owned)
}

pub(super) fn regex(source: &str, node: &Node) -> Result<regex::Regex> {
    crate::matcher::expr::compile_regex(source).map_err(|what| Fault::new(node.line, what))
}

fn of_rule(node: &Node) -> Result<OfRule> {
    Ok(match text(node, "type")?.as_str() {
        "logsource" => {
            let part = |key: &str| node.get(key).map(|node| node.need_text(key).map(str::to_owned)).transpose();
            OfRule::LogSource(LogSource {
                category: part("category")?,
                product: part("product")?,
                service: part("service")?,
            })
        }
        "contains_field" => OfRule::ContainsField(text(node, "field")?),
        "contains_detection_item" => OfRule::ContainsItem(text(node, "field")?, text(node, "value")?),
        "processing_item_applied" => OfRule::Applied(text(node, "processing_item_id")?),
        "is_sigma_rule" => OfRule::IsRule(true),
        "is_sigma_correlation_rule" => OfRule::IsRule(false),
        "rule_attribute" => OfRule::Attribute(text(node, "attribute")?, text(node, "value")?),
        "tag" => OfRule::Tag(text(node, "tag")?),
        "processing_state" => OfRule::State(text(node, "key")?, text(node, "val")?),
        other => {
            let what = format!(
                "`{other}` is no condition of rules: logsource, contains_field, contains_detection_item, \
                 processing_item_applied, processing_state, is_sigma_rule, is_sigma_correlation_rule, rule_attribute, tag"
            );
            return Err(Fault::new(node.line, what));
        }
    })
}

fn of_item(node: &Node) -> Result<OfItem> {
    Ok(match text(node, "type")?.as_str() {
        "match_string" => {
            let any = node.get("cond").and_then(Node::text).unwrap_or("any") == "any";
            OfItem::MatchString(regex(&format!("^(?:{})", text(node, "pattern")?), node)?, any)
        }
        "match_value" => OfItem::MatchValue(text(node, "value")?),
        "contains_wildcard" => OfItem::Wildcard,
        "is_null" => OfItem::Null,
        "processing_item_applied" => OfItem::Applied(text(node, "processing_item_id")?),
        "processing_state" => OfItem::State(text(node, "key")?, text(node, "val")?),
        other => {
            let what = format!(
                "`{other}` is no condition of detection items: match_string, match_value, contains_wildcard, is_null, \
                 processing_item_applied, processing_state"
            );
            return Err(Fault::new(node.line, what));
        }
    })
}

fn of_name(node: &Node) -> Result<OfName> {
    Ok(match text(node, "type")?.as_str() {
        "include_fields" => OfName::Include(Names::read(node)?),
        "exclude_fields" => OfName::Exclude(Names::read(node)?),
        "processing_item_applied" => OfName::Applied(text(node, "processing_item_id")?),
        "processing_state" => OfName::State(text(node, "key")?, text(node, "val")?),
        other => {
            let what = format!(
                "`{other}` is no condition of field names: include_fields, exclude_fields, processing_item_applied, \
                 processing_state"
            );
            return Err(Fault::new(node.line, what));
        }
    })
}

impl Conditions {
    pub(crate) fn read(node: &Node) -> Result<Conditions> {
        let rule = ["rule_conditions", "rule_cond_op", "rule_cond_not", "rule_cond_expr"];
        let item = [
            "detection_item_conditions",
            "detection_item_cond_op",
            "detection_item_cond_not",
            "detection_item_cond_expr",
        ];
        let name =
            ["field_name_conditions", "field_name_cond_op", "field_name_cond_not", "field_name_cond_expr"];
        Ok(Conditions {
            rule: Group::read(node, rule, of_rule)?,
            item: Group::read(node, item, of_item)?,
            name: Group::read(node, name, of_name)?,
        })
    }

    pub(crate) fn of_rule(&self, rule: &Rule, state: &State) -> bool {
        self.rule.holds(|condition| match condition {
            OfRule::LogSource(source) => rule.log_source.is_in(source),
            OfRule::ContainsField(field) => any_item(rule, &|item| item.field.as_deref() == Some(field)),
            OfRule::ContainsItem(field, value) => any_item(rule, &|item| {
                item.field.as_deref() == Some(field)
                    && item.values.iter().any(|own| shown(own).eq_ignore_ascii_case(value))
            }),
            OfRule::Applied(id) => state.applied.contains(id),
            OfRule::IsRule(is) => *is,
            OfRule::Attribute(name, value) => match name.as_str() {
                "id" => rule.meta.id == *value,
                "title" => rule.meta.title == *value,
                "status" => rule.meta.status == *value,
                "level" => rule.meta.level.name() == value,
                "author" => rule.meta.author == *value,
                _ => false,
            },
            OfRule::Tag(tag) => rule.meta.tags.contains(tag),
            OfRule::State(key, value) => state.values.get(key) == Some(value),
        })
    }

    pub(crate) fn of_item(&self, item: &Item, state: &State) -> bool {
        let by_value = self.item.holds(|condition| match condition {
            OfItem::MatchString(pattern, any) => {
                let mut texts = item.values.iter().filter(|value| matches!(value, Value::Text { .. }));
                if *any {
                    texts.any(|v| pattern.is_match(&shown(v)))
                } else {
                    texts.all(|v| pattern.is_match(&shown(v)))
                }
            }
            OfItem::MatchValue(value) => item.values.iter().any(|own| shown(own) == *value),
            OfItem::Wildcard => item.values.iter().any(|value| match value {
                Value::Text { pattern, .. } => pattern.0.iter().any(|p| matches!(p, Piece::Any | Piece::One)),
                _ => false,
            }),
            OfItem::Null => item.values.contains(&Value::Null),
            OfItem::Applied(id) => item.applied.contains(id),
            OfItem::State(key, value) => state.values.get(key) == Some(value),
        });
        by_value && self.of_name(item.field.as_deref(), &item.applied, state)
    }

    fn of_name(&self, field: Option<&str>, applied: &[String], state: &State) -> bool {
        self.name.holds(|condition| match condition {
            OfName::Include(names) => field.is_some_and(|field| names.has(field)),
            OfName::Exclude(names) => !field.is_some_and(|field| names.has(field)),
            OfName::Applied(id) => applied.contains(id),
            OfName::State(key, value) => state.values.get(key) == Some(value),
        })
    }
}

pub(super) fn any_item(rule: &Rule, test: &dyn Fn(&Item) -> bool) -> bool {
    fn inside(detection: &Detection, test: &dyn Fn(&Item) -> bool) -> bool {
        match detection {
            Detection::All(parts) | Detection::Any(parts) => parts.iter().any(|part| inside(part, test)),
            Detection::Item(item) => test(item),
        }
    }
    rule.detections.iter().any(|(_, detection)| inside(detection, test))
}

/// A value as a pipeline compares it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Text { pattern, .. } => pattern.to_string(),
        Value::Number(number) => number_text(*number),
        Value::Bool(value) => value.to_string(),
        Value::Regex(regex) => regex.source.clone(),
        Value::Null => "null".to_owned(),
        _ => String::new(),
    }
}
