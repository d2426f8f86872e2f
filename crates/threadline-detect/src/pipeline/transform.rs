//! What an item of a pipeline does to a rule (pySigma, "Transformations").

use rustc_hash::FxHashMap;
use threadline_model::yaml::{Fault, Node, Result};

use super::when::{any_item, regex, shown};
use super::{PipelineItem, State, apply_items, items};
use crate::sigma::pattern::{Pattern, Piece};
use crate::sigma::rule::{Detection, Item, LogSource, Rule, Value};
use crate::sigma::selection;

/// A transformation.
#[derive(Clone, Debug)]
pub(super) enum Transformation {
    MapFields(Vec<(String, Vec<String>)>),
    MapPrefixes(Vec<(String, Vec<String>)>),
    FieldCase(Vec<(String, String)>, String),
    Affix {
        front: String,
        back: String,
    },
    Drop,
    Hashes {
        algorithms: Vec<String>,
        prefix: String,
        drop_name: bool,
    },
    WildcardPlaceholders(Filter),
    ValuePlaceholders(Filter, FxHashMap<String, Vec<String>>),
    AddCondition {
        detection: Detection,
        negated: bool,
        template: bool,
    },
    ChangeLogSource(LogSource),
    ReplaceString(regex::Regex, String),
    MapString(Vec<(String, Vec<String>)>),
    SetState(String, String),
    SetValue(Value),
    ConvertType(bool),
    ValueCase(String),
    RuleFailure(String),
    ItemFailure(String),
    StrictMapping,
    Nest(Vec<PipelineItem>),
    /// About query texts only.
    Nothing,
}

/// Which placeholders.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    include: Option<Vec<String>>,
    exclude: Vec<String>,
}

impl Filter {
    fn read(node: &Node) -> Result<Filter> {
        let include = node.get("include").map(|node| node.need_texts("include")).transpose()?;
        let exclude = node.get("exclude").map_or(Ok(Vec::new()), |node| node.need_texts("exclude"))?;
        Ok(Filter { include, exclude })
    }

    fn takes(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|names| names.iter().any(|own| own == name))
            && !self.exclude.iter().any(|own| own == name)
    }
}

fn mapping(node: &Node) -> Result<Vec<(String, Vec<String>)>> {
    let mapping = node.get("mapping").ok_or_else(|| Fault::new(node.line, "needs `mapping`"))?;
    mapping.members().iter().map(|(from, to)| Ok((from.clone(), to.need_texts("mapping")?))).collect()
}

fn text(node: &Node, key: &str, default: Option<&str>) -> Result<String> {
    match (node.get(key), default) {
        (Some(node), _) => node.need_text(key).map(str::to_owned),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault::new(node.line, format!("needs `{key}`"))),
    }
}

impl Transformation {
    pub(super) fn read(node: &Node, vars: &FxHashMap<String, Vec<String>>) -> Result<Transformation> {
        let kind = text(node, "type", None)?;
        Ok(match kind.as_str() {
            "field_name_mapping" => Transformation::MapFields(mapping(node)?),
            "field_name_prefix_mapping" => Transformation::MapPrefixes(mapping(node)?),
            "field_name_transform" => {
                let known = node.get("mapping").map_or(&[][..], Node::members);
                let known =
                    known.iter().map(|(from, to)| Ok((from.clone(), to.need_text("mapping")?.to_owned())));
                Transformation::FieldCase(
                    known.collect::<Result<_>>()?,
                    text(node, "transform_func", Some("lower"))?,
                )
            }
            "field_name_suffix" => {
                Transformation::Affix { front: String::new(), back: text(node, "suffix", None)? }
            }
            "field_name_prefix" => {
                Transformation::Affix { front: text(node, "prefix", None)?, back: String::new() }
            }
            "drop_detection_item" => Transformation::Drop,
            "hashes_fields" => Transformation::Hashes {
                algorithms: node
                    .get("valid_hash_algos")
                    .map_or(Ok(Vec::new()), |n| n.need_texts("valid_hash_algos"))?,
                prefix: text(node, "field_prefix", Some(""))?,
                drop_name: node
                    .get("drop_algo_prefix")
                    .map_or(Ok(false), |n| n.need_bool("drop_algo_prefix"))?,
            },
            "wildcard_placeholders" => Transformation::WildcardPlaceholders(Filter::read(node)?),
            "value_placeholders" => Transformation::ValuePlaceholders(Filter::read(node)?, vars.clone()),
            "add_condition" => {
                let conditions =
                    node.get("conditions").ok_or_else(|| Fault::new(node.line, "needs `conditions`"))?;
                Transformation::AddCondition {
                    detection: selection(conditions, "conditions")?,
                    negated: node.get("negated").map_or(Ok(false), |node| node.need_bool("negated"))?,
                    template: node.get("template").map_or(Ok(false), |node| node.need_bool("template"))?,
                }
            }
            "change_logsource" => {
                let part = |key: &str| node.get(key).map(|n| n.need_text(key).map(str::to_owned)).transpose();
                Transformation::ChangeLogSource(LogSource {
                    category: part("category")?,
                    product: part("product")?,
                    service: part("service")?,
                })
            }
            "replace_string" => {
                // pySigma writes groups as \1, the regex crate as ${1}.
                let groups = regex(r"\\(\d)", node)?;
                let replacement = text(node, "replacement", None)?.replace('$', "$$");
                let replacement = groups.replace_all(&replacement, "$${$1}").into_owned();
                Transformation::ReplaceString(regex(&text(node, "regex", None)?, node)?, replacement)
            }
            "map_string" => Transformation::MapString(mapping(node)?),
            "set_state" => Transformation::SetState(text(node, "key", None)?, text(node, "val", None)?),
            "set_value" => {
                let value = node.get("value").ok_or_else(|| Fault::new(node.line, "needs `value`"))?;
                let item = crate::sigma::apply_modifiers("f", value)?;
                Transformation::SetValue(item.values.into_iter().next().unwrap_or(Value::Null))
            }
            "convert_type" => Transformation::ConvertType(text(node, "target_type", None)? == "num"),
            "case" => Transformation::ValueCase(text(node, "method", Some("lower"))?),
            "rule_failure" => Transformation::RuleFailure(text(node, "message", None)?),
            "detection_item_failure" => Transformation::ItemFailure(text(node, "message", None)?),
            "strict_field_mapping_failure" => Transformation::StrictMapping,
            "nest" => Transformation::Nest(items(node.get("items"), vars)?),
            "regex" | "add_field" | "remove_field" | "set_field" | "set_custom_attribute" => {
                Transformation::Nothing
            }
            "file_placeholders"
            | "http_placeholders"
            | "command_placeholders"
            | "query_expression_placeholders"
            | "extract_fields" => {
                let what =
                    format!("`{kind}` is not taken: write values into `vars` and use value_placeholders");
                return Err(Fault::new(node.line, what));
            }
            other => return Err(Fault::new(node.line, format!("`{other}` is no transformation of pySigma 2"))),
        })
    }

    /// Applies it; whether it changed something.
    pub(super) fn apply(&self, own: &PipelineItem, rule: &mut Rule, state: &mut State) -> Result<bool> {
        match self {
            Transformation::AddCondition { detection, negated, template } => {
                let mut detection = detection.clone();
                if *template {
                    fill(&mut detection, &rule.log_source);
                }
                if *negated {
                    negate(&mut detection);
                }
                rule.added.push(detection);
                return Ok(true);
            }
            Transformation::ChangeLogSource(source) => rule.log_source = source.clone(),
            Transformation::SetState(key, value) => {
                state.values.insert(key.clone(), value.clone());
            }
            Transformation::RuleFailure(message) => return Err(Fault::new(rule.meta.line, message.clone())),
            Transformation::Nest(items) => apply_items(items, rule, state)?,
            Transformation::StrictMapping => {
                let unmapped = |item: &Item| item.field.is_some() && item.applied.is_empty();
                if any_item(rule, &unmapped) {
                    return Err(Fault::new(rule.meta.line, "has a field that the pipeline maps nowhere"));
                }
            }
            Transformation::Nothing => {}
            _ => {
                let mut changed = false;
                for (_, detection) in &mut rule.detections {
                    changed |= self.walk(own, detection, state)?;
                }
                return Ok(changed);
            }
        }
        Ok(true)
    }

    fn walk(&self, own: &PipelineItem, detection: &mut Detection, state: &State) -> Result<bool> {
        let item = match detection {
            Detection::All(parts) | Detection::Any(parts) => {
                let mut changed = false;
                for part in parts.iter_mut() {
                    changed |= self.walk(own, part, state)?;
                }
                let gone = |part: &Detection| matches!(part, Detection::All(parts) if parts.is_empty());
                parts.retain(|part| !gone(part));
                return Ok(changed);
            }
            Detection::Item(item) => item,
        };
        if !own.when.of_item(item, state) {
            return Ok(false);
        }
        if let Transformation::ItemFailure(message) = self {
            return Err(Fault::new(item.line, message.clone()));
        }
        let Some(mut new) = self.item(item)? else { return Ok(false) };
        if !own.id.is_empty() {
            mark(&mut new, &own.id);
        } else if matches!(self, Transformation::MapFields(_) | Transformation::MapPrefixes(_)) {
            mark(&mut new, "field_name_mapping");
        }
        *detection = new;
        Ok(true)
    }

    /// What becomes of an item; `None` when nothing does.
    fn item(&self, item: &Item) -> Result<Option<Detection>> {
        let renamed = |names: Vec<String>| {
            let with = |name: String| Detection::Item(Item { field: Some(name), ..item.clone() });
            let mut parts: Vec<Detection> = names.into_iter().map(with).collect();
            if parts.len() == 1 { parts.pop() } else { Some(Detection::Any(parts)) }
        };
        let field = item.field.as_deref();
        Ok(match self {
            Transformation::MapFields(mapping) => {
                let to =
                    mapping.iter().find(|(from, _)| Some(from.as_str()) == field).map(|(_, to)| to.clone());
                let mapped = to.and_then(renamed);
                // References name fields, too.
                match (mapped, refer(item, mapping)) {
                    (Some(detection), _) => Some(detection),
                    (None, Some(item)) => Some(Detection::Item(item)),
                    (None, None) => None,
                }
            }
            Transformation::MapPrefixes(mapping) => mapping.iter().find_map(|(from, to)| {
                let rest = field?.strip_prefix(from.as_str())?;
                renamed(to.iter().map(|to| format!("{to}{rest}")).collect())
            }),
            Transformation::FieldCase(known, function) => field.and_then(|field| {
                let given = known.iter().find(|(from, _)| from == field).map(|(_, to)| to.clone());
                renamed(vec![given.unwrap_or_else(|| change_case(function, field))])
            }),
            Transformation::Affix { front, back } => {
                field.and_then(|field| renamed(vec![format!("{front}{field}{back}")]))
            }
            Transformation::Drop => Some(Detection::All(Vec::new())),
            Transformation::Hashes { algorithms, prefix, drop_name } => {
                hashes(item, algorithms, prefix, *drop_name)
            }
            Transformation::WildcardPlaceholders(filter) => values(item, &mut |value| {
                placeholders(value, &|name| filter.takes(name).then(|| vec![Piece::Any]))
            }),
            Transformation::ValuePlaceholders(filter, vars) => values(item, &mut |value| {
                placeholders(value, &|name| {
                    let given = vars.get(name).filter(|_| filter.takes(name))?;
                    Some(given.iter().map(|text| Piece::Text(text.clone())).collect())
                })
            }),
            Transformation::ReplaceString(pattern, replacement) => values(item, &mut |value| match value {
                Value::Text { pattern: text, cased } => {
                    let replace = |piece: &Piece| match piece {
                        Piece::Text(text) => {
                            Piece::Text(pattern.replace_all(text, replacement.as_str()).into_owned())
                        }
                        piece => piece.clone(),
                    };
                    let pieces = text.0.iter().map(replace).collect();
                    Some(vec![Value::Text { pattern: Pattern(pieces), cased: *cased }])
                }
                _ => None,
            }),
            Transformation::MapString(mapping) => values(item, &mut |value| match value {
                Value::Text { pattern, cased } => {
                    let text = pattern.to_string();
                    let (_, to) = mapping.iter().find(|(from, _)| *from == text)?;
                    let new = |text: &String| Value::Text { pattern: Pattern::parse(text), cased: *cased };
                    Some(to.iter().map(new).collect())
                }
                _ => None,
            }),
            Transformation::SetValue(value) => {
                Some(Detection::Item(Item { values: vec![value.clone()], ..item.clone() }))
            }
            Transformation::ConvertType(to_number) => values(item, &mut |value| match value {
                Value::Text { pattern, .. } if *to_number => {
                    pattern.plain()?.parse().ok().map(|number| vec![Value::Number(number)])
                }
                Value::Number(_) if !to_number => {
                    Some(vec![Value::Text { pattern: Pattern::literal(shown(value)), cased: false }])
                }
                _ => None,
            }),
            Transformation::ValueCase(method) => values(item, &mut |value| match value {
                Value::Text { pattern, cased } => {
                    let change = |piece: &Piece| match piece {
                        Piece::Text(text) => Piece::Text(change_case(method, text)),
                        piece => piece.clone(),
                    };
                    let pattern = Pattern(pattern.0.iter().map(change).collect());
                    Some(vec![Value::Text { pattern, cased: *cased }])
                }
                _ => None,
            }),
            _ => None,
        })
    }
}

fn mark(detection: &mut Detection, id: &str) {
    match detection {
        Detection::All(parts) | Detection::Any(parts) => parts.iter_mut().for_each(|part| mark(part, id)),
        Detection::Item(item) => item.applied.push(id.to_owned()),
    }
}

/// `$category`, `$product` and `$service` in values.
fn fill(detection: &mut Detection, source: &LogSource) {
    match detection {
        Detection::All(parts) | Detection::Any(parts) => parts.iter_mut().for_each(|part| fill(part, source)),
        Detection::Item(item) => {
            for value in &mut item.values {
                let Value::Text { pattern: Pattern(pieces), .. } = value else { continue };
                for piece in pieces {
                    let Piece::Text(text) = piece else { continue };
                    for (name, value) in [
                        ("category", &source.category),
                        ("product", &source.product),
                        ("service", &source.service),
                    ] {
                        *text = text.replace(&format!("${name}"), value.as_deref().unwrap_or_default());
                    }
                }
            }
        }
    }
}

/// The opposite: of all, one is not so.
fn negate(detection: &mut Detection) {
    match detection {
        Detection::Item(item) => item.negated = !item.negated,
        Detection::All(parts) | Detection::Any(parts) => {
            parts.iter_mut().for_each(negate);
            let parts = std::mem::take(parts);
            *detection = match detection {
                Detection::All(_) => Detection::Any(parts),
                _ => Detection::All(parts),
            };
        }
    }
}

fn refer(item: &Item, mapping: &[(String, Vec<String>)]) -> Option<Item> {
    let mut changed = false;
    let mut item = item.clone();
    for value in &mut item.values {
        if let Value::FieldRef { field, .. } = value
            && let Some([to]) = mapping.iter().find(|(from, _)| from == field).map(|(_, to)| to.as_slice())
        {
            *field = to.clone();
            changed = true;
        }
    }
    changed.then_some(item)
}

fn change_case(function: &str, text: &str) -> String {
    match function {
        "upper" => text.to_uppercase(),
        "snake" | "snake_case" => {
            let mut out = String::new();
            for char in text.chars() {
                if char.is_uppercase() && !out.is_empty() && !out.ends_with('_') {
                    out.push('_');
                }
                out.extend(char.to_lowercase());
            }
            out
        }
        _ => text.to_lowercase(),
    }
}

/// `Hashes: MD5=…` as one field per algorithm.
fn hashes(item: &Item, algorithms: &[String], prefix: &str, drop_name: bool) -> Option<Detection> {
    if !matches!(item.field.as_deref(), Some("Hash" | "Hashes")) {
        return None;
    }
    let mut parts = Vec::new();
    for value in &item.values {
        let text = shown(value);
        let text = text.trim_matches('*');
        let (algorithm, hash) = match text.split_once(['=', '|']) {
            Some((algorithm, hash)) => (algorithm.to_uppercase(), hash),
            None => {
                let by_length = [(32, "MD5"), (40, "SHA1"), (64, "SHA256"), (128, "SHA512")];
                let (_, name) = by_length.into_iter().find(|(length, _)| *length == text.len())?;
                (name.to_owned(), text)
            }
        };
        if !algorithms.is_empty() && !algorithms.contains(&algorithm) {
            continue;
        }
        let field = if drop_name { prefix.to_owned() } else { format!("{prefix}{algorithm}") };
        let value = Value::Text { pattern: Pattern::literal(hash), cased: false };
        parts.push(Detection::Item(Item {
            field: Some(field),
            values: vec![value],
            all: false,
            ..item.clone()
        }));
    }
    if parts.is_empty() {
        return None;
    }
    Some(if item.all { Detection::All(parts) } else { Detection::Any(parts) })
}

/// An item with other values; `None` when none is changed.
fn values(item: &Item, change: &mut dyn FnMut(&Value) -> Option<Vec<Value>>) -> Option<Detection> {
    let mut changed = false;
    let mut out = Vec::with_capacity(item.values.len());
    for value in &item.values {
        match value {
            Value::OneOf(inner) => {
                let mut new = Vec::new();
                for value in inner {
                    let own = change(value);
                    changed |= own.is_some();
                    new.extend(own.unwrap_or_else(|| vec![value.clone()]));
                }
                out.push(Value::OneOf(new));
            }
            value => match change(value) {
                Some(mut new) if new.len() == 1 => {
                    changed = true;
                    out.append(&mut new);
                }
                Some(new) => {
                    changed = true;
                    out.push(Value::OneOf(new));
                }
                None => out.push(value.clone()),
            },
        }
    }
    changed.then(|| Detection::Item(Item { values: out, ..item.clone() }))
}

/// A text for each way to fill its placeholders.
fn placeholders(value: &Value, fill: &dyn Fn(&str) -> Option<Vec<Piece>>) -> Option<Vec<Value>> {
    let Value::Text { pattern, cased } = value else { return None };
    let name = pattern.placeholder()?;
    let pieces = fill(name)?;
    let mut out = Vec::new();
    for piece in pieces {
        let mut new = Pattern::default();
        let mut left = Some(piece);
        for own in &pattern.0 {
            match own {
                Piece::Placeholder(own) if own == name => {
                    if let Some(piece) = left.take() {
                        match piece {
                            Piece::Text(text) => Pattern::parse(&text).0.into_iter().for_each(|p| new.push(p)),
                            piece => new.push(piece),
                        }
                    }
                }
                own => new.push(own.clone()),
            }
        }
        let new = Value::Text { pattern: new, cased: *cased };
        match placeholders(&new, fill) {
            Some(more) => out.extend(more),
            None => out.push(new),
        }
    }
    Some(out)
}

impl Detection {
    /// Whether a pipeline has dropped all of it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Detection::All(parts) | Detection::Any(parts) if parts.iter().all(Detection::is_empty))
    }
}
