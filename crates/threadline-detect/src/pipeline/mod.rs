//! Processing pipelines in pySigma's format: they change names and values of rules before the rules are compiled.
//!
//! Taken: the transformations and conditions of [`transform`] and [`when`]. Refused, with the reason: what asks for
//! files, networks or commands, and what is about query languages.

mod builtin;
pub(crate) mod transform;
pub(crate) mod when;

use rustc_hash::FxHashMap;
use threadline_model::yaml::{self, Fault, Node, Result};

use crate::problem::Problem;
use crate::sigma::rule::{Detection, Item, Rule, Value};
use transform::Transformation;
use when::Conditions;

pub use builtin::builtin;

/// Items of a pipeline at most.
const ITEMS_MAX: usize = 2000;

/// A pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Name.
    pub name: String,
    /// Pipelines of a lower number come first.
    pub priority: i64,
    items: Vec<PipelineItem>,
}

/// A step of a pipeline.
#[derive(Clone, Debug)]
struct PipelineItem {
    id: String,
    when: Conditions,
    transformation: Transformation,
}

/// What a pipeline remembers while it goes over a rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// Ids of items that were applied.
    pub(crate) applied: Vec<String>,
    /// Set by `set_state`.
    pub(crate) values: FxHashMap<String, String>,
}

impl Pipeline {
    /// Reads a pipeline.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(file: &str, text: &str) -> std::result::Result<Pipeline, Problem> {
        read(text).map_err(|fault| Problem::at(file, fault))
    }
}

fn read(text: &str) -> Result<Pipeline> {
    let trees = yaml::read(text)?;
    let [tree] = trees.as_slice() else {
        return Err(Fault::new(0, "a pipeline's file has exactly one document"));
    };
    let known =
        ["name", "priority", "vars", "transformations", "allowed_backends", "postprocessing", "finalizers"];
    tree.only("pipeline", &known)?;
    for key in ["postprocessing", "finalizers"] {
        if let Some(node) = tree.get(key).filter(|node| !node.one_or_many().is_empty()) {
            return Err(Fault::new(
                node.line,
                format!("`{key}` is about query texts, of which there are none here"),
            ));
        }
    }
    let name = tree.get("name").map_or(Ok("unnamed"), |node| node.need_text("name"))?.to_owned();
    let priority = tree.get("priority").map_or(Ok(0.0), |node| node.need_number("priority"))? as i64;
    let mut vars = FxHashMap::default();
    for (name, node) in tree.get("vars").map_or(&[][..], Node::members) {
        vars.insert(name.clone(), node.need_texts("vars")?);
    }
    let items = items(tree.get("transformations"), &vars)?;
    Ok(Pipeline { name, priority, items })
}

fn items(node: Option<&Node>, vars: &FxHashMap<String, Vec<String>>) -> Result<Vec<PipelineItem>> {
    let nodes = node.map_or(&[][..], Node::elements);
    if nodes.len() > ITEMS_MAX {
        return Err(Fault::new(0, format!("a pipeline has more than {ITEMS_MAX} items")));
    }
    let item = |node: &Node| {
        let id = node.get("id").map_or(Ok(""), |node| node.need_text("id"))?.to_owned();
        Ok(PipelineItem {
            id,
            when: Conditions::read(node)?,
            transformation: Transformation::read(node, vars)?,
        })
    };
    nodes.iter().map(item).collect()
}

/// Applies pipelines to a rule, in order of priority. Whether one of them says it knows the rule's log source: it has
/// added a condition, changed the log source, or set the state `log_source`.
pub(crate) fn apply(pipelines: &[Pipeline], rule: &mut Rule) -> Result<bool> {
    let mut sorted: Vec<&Pipeline> = pipelines.iter().collect();
    sorted.sort_by_key(|pipeline| pipeline.priority);
    let mut state = State::default();
    let source = rule.log_source.clone();
    for pipeline in sorted {
        apply_items(&pipeline.items, rule, &mut state)?;
    }
    Ok(!rule.added.is_empty() || rule.log_source != source || state.values.contains_key("log_source"))
}

fn apply_items(items: &[PipelineItem], rule: &mut Rule, state: &mut State) -> Result<()> {
    for item in items {
        if item.when.of_rule(rule, state)
            && item.transformation.apply(item, rule, state)?
            && !item.id.is_empty()
        {
            state.applied.push(item.id.clone());
        }
    }
    Ok(())
}

/// What a field is called in hits of a rule once pipelines have changed it.
pub(crate) fn field_of(pipelines: &[Pipeline], rule: &Rule, field: &str) -> Result<String> {
    let probe = Item {
        field: Some(field.to_owned()),
        values: vec![Value::Exists(true)],
        all: false,
        negated: false,
        applied: Vec::new(),
        line: rule.meta.line,
    };
    // The rule's own selections stay, because conditions ask for them.
    let mut rule = rule.clone();
    const PROBE: &str = "_field";
    rule.detections.push((PROBE.to_owned(), Detection::Item(probe)));
    apply(pipelines, &mut rule)?;
    fn first(detection: &Detection) -> Option<String> {
        match detection {
            Detection::Item(item) => item.field.clone(),
            Detection::All(parts) | Detection::Any(parts) => parts.iter().find_map(first),
        }
    }
    let changed =
        rule.detections.iter().find(|(name, _)| name == PROBE).and_then(|(_, detection)| first(detection));
    Ok(changed.unwrap_or_else(|| field.to_owned()))
}

#[cfg(test)]
mod tests;
