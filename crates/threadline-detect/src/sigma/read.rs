//! From YAML to documents: rules, correlations, filters.

use threadline_model::yaml::{Fault, Kind, Node, Result};
use xxhash_rust::xxh3::Xxh3;

use super::condition::Condition;
use super::rule::{CorrelationRule, Detection, Document, Filter, Level, LogSource, Meta, Rule, Tables};
use super::{apply_modifiers, correlation, extension};

/// Selections of a rule at most.
const SELECTIONS_MAX: usize = 500;

/// Reads one document of a file.
pub(crate) fn document(node: &Node, file: &str) -> Result<Document> {
    if !node.is_map() {
        return Err(Fault::new(
            node.line,
            "is no rule: a mapping with `title`, `logsource` and `detection` is one",
        ));
    }
    let meta = meta(node, file)?;
    let extension = node.get("threadline").map_or(Ok(extension::Extension::default()), extension::read)?;
    if let Some(correlation) = node.get("correlation") {
        let correlation = correlation::read(correlation, node)?;
        if extension.finder.is_some() {
            return Err(Fault::new(
                node.line,
                "new_value, absence and ratio stand in a rule, not in a correlation",
            ));
        }
        return Ok(Document::Correlation(CorrelationRule { meta, correlation, extension }));
    }
    let source = node.get("logsource").ok_or_else(|| Fault::new(node.line, "a rule needs `logsource`"))?;
    let log_source = log_source(source)?;
    if let Some(filter) = node.get("filter") {
        return read_filter(filter, meta, log_source).map(Document::Filter);
    }
    let detection = node.get("detection").ok_or_else(|| Fault::new(node.line, "a rule needs `detection`"))?;
    let detections = selections(detection, &["condition", "timeframe"])?;
    let condition = detection.get("condition");
    let condition = condition.ok_or_else(|| Fault::new(detection.line, "`detection` needs `condition`"))?;
    let conditions =
        condition.one_or_many().iter().map(|node| Condition::parse(node.need_text("condition")?, node.line));
    let conditions = conditions.collect::<Result<Vec<_>>>()?;
    if conditions.is_empty() {
        return Err(Fault::new(condition.line, "`condition` is empty"));
    }
    if detection.get("timeframe").is_some() {
        return Err(Fault::new(detection.line, "`timeframe` is no part of Sigma 2: write a correlation"));
    }
    Ok(Document::Rule(Rule {
        meta,
        log_source,
        detections,
        conditions,
        added: Vec::new(),
        tables: Tables::BOTH,
        extension,
    }))
}

fn meta(node: &Node, file: &str) -> Result<Meta> {
    let text = |key: &str| match node.get(key) {
        Some(value) if !value.is_null() => value.need_text(key).map(str::to_owned),
        _ => Ok(String::new()),
    };
    let texts = |key: &str| node.get(key).map_or(Ok(Vec::new()), |value| value.need_texts(key));
    let title = text("title")?;
    if title.is_empty() {
        return Err(Fault::new(node.line, "a rule needs `title`"));
    }
    let level = match node.get("level") {
        Some(value) => {
            let name = value.need_text("level")?;
            let known = Level::ALL.into_iter().find(|level| level.name() == name);
            known.ok_or_else(|| {
                Fault::new(
                    value.line,
                    format!("`level` is `{name}`: informational, low, medium, high, critical"),
                )
            })?
        }
        None => Level::default(),
    };
    let mut hasher = Xxh3::new();
    hash(node, &mut hasher);
    Ok(Meta {
        file: file.to_owned(),
        line: node.line,
        id: text("id")?,
        name: Some(text("name")?).filter(|name| !name.is_empty()),
        title,
        description: text("description")?.trim().to_owned(),
        status: text("status")?,
        level,
        author: text("author")?,
        tags: texts("tags")?,
        references: texts("references")?,
        false_positives: remarks(node.get("falsepositives")),
        version: hasher.digest(),
    })
}

/// Texts for people. `- Backups: they run at night` is a mapping to YAML; it is meant as a text.
fn remarks(node: Option<&Node>) -> Vec<String> {
    let mut out = Vec::new();
    for element in node.map_or(&[][..], Node::elements) {
        out.extend(element.text().map(str::to_owned));
        let members = element.members().iter();
        out.extend(members.map(|(key, value)| format!("{key}: {}", value.text().unwrap_or_default())));
    }
    out
}

/// Content, not layout; tests of a rule do not make another version of it.
fn hash(node: &Node, hasher: &mut Xxh3) {
    match &node.kind {
        Kind::Scalar { text, plain } => {
            hasher.update(&[1, u8::from(*plain)]);
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Kind::List(elements) => {
            hasher.update(&[2]);
            elements.iter().for_each(|node| hash(node, hasher));
            hasher.update(&[0]);
        }
        Kind::Map(members) => {
            hasher.update(&[3]);
            for (key, node) in members.iter().filter(|(key, _)| key != "tests") {
                hasher.update(&(key.len() as u64).to_le_bytes());
                hasher.update(key.as_bytes());
                hash(node, hasher);
            }
            hasher.update(&[0]);
        }
    }
}

fn log_source(node: &Node) -> Result<LogSource> {
    let text = |key: &str| match node.get(key) {
        Some(value) if !value.is_null() => value.need_text(key).map(|text| Some(text.to_owned())),
        _ => Ok(None),
    };
    let source =
        LogSource { category: text("category")?, product: text("product")?, service: text("service")? };
    if source == LogSource::default() {
        return Err(Fault::new(node.line, "`logsource` needs one of category, product, service"));
    }
    Ok(source)
}

fn read_filter(node: &Node, meta: Meta, log_source: LogSource) -> Result<Filter> {
    let rules = node.get("rules").ok_or_else(|| {
        Fault::new(node.line, "a filter needs `rules`: ids or names, or `any` for all of the log source")
    })?;
    let names = rules.need_texts("rules")?;
    let any =
        names.is_empty() || (names.len() == 1 && names.iter().all(|name| name.eq_ignore_ascii_case("any")));
    let condition = node.get("condition").ok_or_else(|| Fault::new(node.line, "a filter needs `condition`"))?;
    let condition = match condition.one_or_many() {
        [one] => Condition::parse(one.need_text("condition")?, one.line)?,
        _ => return Err(Fault::new(condition.line, "a filter needs exactly one condition")),
    };
    let detections = selections(node, &["condition", "rules"])?;
    Ok(Filter { meta, log_source, rules: (!any).then_some(names), detections, condition })
}

fn selections(node: &Node, not: &[&str]) -> Result<Vec<(String, Detection)>> {
    let named = node.members().iter().filter(|(name, _)| !not.contains(&name.as_str()));
    let selections = named.map(|(name, node)| Ok((name.clone(), selection(node, name)?)));
    let selections = selections.collect::<Result<Vec<_>>>()?;
    if selections.is_empty() || selections.len() > SELECTIONS_MAX {
        return Err(Fault::new(node.line, format!("1 to {SELECTIONS_MAX} selections are needed")));
    }
    Ok(selections)
}

/// Reads a selection: a mapping is all of its fields, a list one of its elements, a plain value a keyword.
pub(crate) fn selection(node: &Node, name: &str) -> Result<Detection> {
    match &node.kind {
        Kind::Map(members) if members.is_empty() => {
            Err(Fault::new(node.line, format!("`{name}` is empty: write fields or keywords")))
        }
        Kind::Map(members) => {
            let items = members.iter().map(|(key, value)| apply_modifiers(key, value).map(Detection::Item));
            Ok(one_or(items.collect::<Result<Vec<_>>>()?, Detection::All))
        }
        Kind::List(elements) if elements.is_empty() => {
            Err(Fault::new(node.line, format!("`{name}` is empty: write fields or keywords")))
        }
        Kind::List(elements) => {
            if elements.iter().all(|element| element.scalar().is_some()) {
                return apply_modifiers("", node).map(Detection::Item);
            }
            let parts = elements.iter().map(|element| selection(element, name));
            Ok(one_or(parts.collect::<Result<Vec<_>>>()?, Detection::Any))
        }
        Kind::Scalar { .. } if node.is_null() => {
            Err(Fault::new(node.line, format!("`{name}` is empty: write fields or keywords")))
        }
        Kind::Scalar { .. } => apply_modifiers("", node).map(Detection::Item),
    }
}

fn one_or(mut parts: Vec<Detection>, many: fn(Vec<Detection>) -> Detection) -> Detection {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        Some(part) => {
            parts.push(part);
            many(parts)
        }
        None => many(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document> {
        let trees = threadline_model::yaml::read(text).unwrap();
        document(&trees[0], "f.yml")
    }

    #[test]
    fn faults_name_the_line_and_what_to_do() {
        let head = "title: t\nlogsource: { category: webserver }\n";
        for (text, line, want) in [
            ("a: 1".to_owned(), 1, "needs `title`"),
            ("title: t\ndetection: {}".to_owned(), 1, "needs `logsource`"),
            (format!("{head}detection:\n  a: {{ f: 1 }}\n"), 4, "needs `condition`"),
            (format!("{head}detection:\n  a: {{ f|x: 1 }}\n  condition: a\n"), 4, "no modifier"),
            (format!("{head}detection:\n  a: {{ f: 1 }}\n  condition: a |\n"), 5, "correlation"),
            (format!("{head}detection:\n  a: {{ f: 1 }}\n  condition: a\nlevel: bad\n"), 6, "informational"),
            (format!("{head}detection:\n  a: []\n  condition: a\n"), 4, "is empty"),
            (format!("{head}detection:\n  condition: a\n"), 4, "selections are needed"),
            ("title: t\ncorrelation: { type: x, timespan: 5m }".to_owned(), 2, "no type of correlation"),
            ("title: t\ncorrelation: { type: event_count, rules: a, timespan: 5 }".to_owned(), 2, "such as 5m"),
            (
                "title: t\ncorrelation: { type: value_count, rules: a, timespan: 5m, condition: { gte: 1 } }"
                    .to_owned(),
                2,
                "needs `field`",
            ),
        ] {
            let fault = read(&text).unwrap_err();
            assert!(fault.what.contains(want) && fault.line == line, "{text}: {fault:?}");
        }
    }

    #[test]
    fn versions_are_of_the_content() {
        let rule = |condition: &str, tail: &str| {
            let text = format!(
                "title: t\nlogsource: {{ category: a }}\ndetection: {{ a: {{ f: 1 }}, condition: {condition} }}\n{tail}"
            );
            match read(&text).unwrap() {
                Document::Rule(rule) => rule.meta.version,
                other => panic!("{other:?}"),
            }
        };
        let test = "threadline: { tests: [{ match: true, record: { f: 1 } }] }";
        assert_eq!(rule("a", ""), rule("a", "# a comment\n"));
        assert_ne!(rule("a", ""), rule("not a", ""));
        assert_eq!(rule("a", "threadline: {}"), rule("a", test));
    }
}
