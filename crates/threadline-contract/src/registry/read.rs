//! Reads the files of one layer: definition v2, and v1 by way of [`super::v1`]. References stay names here.

use threadline_model::yaml::{self, Fault, Kind, Node};

use super::{
    Attribute, Base, Class, Condition, File, Level, Mapping, Problem, Problems, Severity, SeverityRange,
};
use super::{Test, v1};

/// Where something stands.
#[derive(Clone, Debug, Default)]
pub(super) struct At {
    pub(super) file: String,
    pub(super) line: usize,
}

/// An attribute where it is asked for.
#[derive(Clone, Debug)]
pub(super) enum Ref {
    /// An attribute, and what is said of it here.
    Attribute(RefAttribute),
    /// All attributes of a group.
    Group(String, usize),
}

#[derive(Clone, Debug)]
pub(super) struct RefAttribute {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) level: Option<Level>,
    pub(super) required_when: Option<Condition>,
    pub(super) values: Vec<String>,
    pub(super) class: Option<Class>,
    pub(super) redact: Option<bool>,
    pub(super) owner: String,
}

/// What a group's attributes are meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppliesTo {
    Resource,
    Attributes,
}

/// A group of attributes.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) at: At,
    pub(super) extends: Option<String>,
    pub(super) applies_to: Option<AppliesTo>,
    pub(super) refs: Vec<Ref>,
}

/// An event, or what is added to one.
#[derive(Clone, Debug, Default)]
pub(super) struct RawEvent {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) extends: Option<String>,
    pub(super) brief: String,
    pub(super) stability: String,
    pub(super) deprecated: Option<String>,
    pub(super) refs: Vec<Ref>,
    pub(super) severity: Option<Severity>,
    pub(super) request_scoped: bool,
    pub(super) never_sampled: bool,
    pub(super) owner: String,
    pub(super) any_of: Vec<Vec<String>>,
    pub(super) mapping: Mapping,
}

/// What a layer's files say.
#[derive(Debug, Default)]
pub(super) struct Raw {
    pub(super) name: String,
    pub(super) schema_url: String,
    pub(super) attributes: Vec<(Attribute, At)>,
    pub(super) groups: Vec<Group>,
    pub(super) events: Vec<RawEvent>,
    pub(super) refinements: Vec<RawEvent>,
}

/// Members of the top level of a v2 file that say nothing about log records.
const PASSED_OVER: &[&str] = &[
    "version",
    "file_format",
    "imports",
    "entities",
    "entity_refinements",
    "metrics",
    "metric_refinements",
    "spans",
    "span_refinements",
];
const ATTRIBUTE: &[&str] = &[
    "key",
    "type",
    "brief",
    "note",
    "stability",
    "deprecated",
    "annotations",
    "examples",
    "display_name",
    "tag",
];
const REF: &[&str] = &[
    "ref",
    "ref_group",
    "requirement_level",
    "sampling_relevant",
    "brief",
    "note",
    "examples",
    "annotations",
    "stability",
    "deprecated",
    "tag",
];
const EVENT: &[&str] = &[
    "name",
    "id",
    "ref",
    "brief",
    "note",
    "stability",
    "deprecated",
    "attributes",
    "entity_associations",
    "annotations",
];
const GROUP: &[&str] =
    &["id", "visibility", "brief", "note", "stability", "deprecated", "attributes", "annotations"];
const OURS_ATTRIBUTE: &[&str] = &["closed", "class", "redact", "owner"];
const OURS_REF: &[&str] = &["required_when", "values", "class", "redact", "owner"];
const OURS_EVENT: &[&str] = &["severity", "request_scoped", "sampling", "owner", "any_of", "mapping"];

/// Reads one file at a time and gathers what is wrong.
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) problems: &'a mut Problems,
    pub(super) raw: &'a mut Raw,
}

/// Reads a layer.
pub(super) fn layer(files: &[File], problems: &mut Problems) -> Raw {
    let mut raw = Raw::default();
    for file in files {
        match document(&file.text) {
            Ok(root) => Reader { file: &file.path, problems, raw: &mut raw }.file(&root),
            Err(fault) => problems.add(Problem::new(&file.path, fault.line, fault.what)),
        }
    }
    raw
}

/// The one document of a file.
fn document(text: &str) -> yaml::Result<Node> {
    let mut documents = yaml::read(text)?.into_iter();
    match (documents.next(), documents.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(Fault::new(0, "is empty: remove it, or write attributes or events into it")),
        (_, Some(second)) => {
            Err(Fault::new(second.line, "has a second document: put it into a file of its own"))
        }
    }
}

impl Reader<'_> {
    pub(super) fn problem(&mut self, line: usize, what: impl Into<String>) {
        self.problems.add(Problem::new(self.file, line, what));
    }

    pub(super) fn at(&self, line: usize) -> At {
        At { file: self.file.to_owned(), line }
    }

    fn file(&mut self, root: &Node) {
        if self.file.ends_with("manifest.yaml") || self.file.ends_with("manifest.yml") {
            return self.manifest(root);
        }
        if root.get("groups").is_some() {
            return v1::file(self, root);
        }
        let format = root.get("file_format").or(root.get("version")).and_then(Node::text);
        if !matches!(format, Some("definition/2" | "2")) {
            return self.problem(
                root.line,
                "is no registry file: begin it with `file_format: definition/2` (or `groups:` for v1)",
            );
        }
        for (name, node) in root.members() {
            match name.as_str() {
                "attributes" => node.elements().iter().for_each(|node| self.attribute(node)),
                "attribute_groups" => node.elements().iter().for_each(|node| self.group(node)),
                "events" => node.elements().iter().for_each(|node| self.event(node, "name")),
                "event_refinements" => node.elements().iter().for_each(|node| self.event(node, "ref")),
                name if PASSED_OVER.contains(&name) => {}
                name => self.problem(
                    node.line,
                    format!("`{name}` is not known here: attributes, attribute_groups, events and event_refinements are read"),
                ),
            }
        }
    }

    fn manifest(&mut self, root: &Node) {
        let text = |key: &str| root.get(key).and_then(Node::text).unwrap_or_default().to_owned();
        self.raw.name = text("name");
        self.raw.schema_url = text("schema_url");
        if self.raw.schema_url.is_empty() {
            // Before `schema_url` a manifest had these two.
            let (base, version) = (text("schema_base_url"), text("semconv_version"));
            if !version.is_empty() {
                self.raw.schema_url = format!("{}/{version}", base.trim_end_matches('/'));
            }
        }
        if self.raw.name.is_empty() && self.raw.schema_url.is_empty() {
            self.problem(root.line, "a manifest needs a `schema_url` that ends in the registry's version");
        }
    }

    /// The text of a member that must be there.
    pub(super) fn required<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n str> {
        let text = node.get(key).and_then(Node::text).filter(|text| !text.is_empty());
        if text.is_none() {
            self.problem(node.line, format!("`{key}` is missing: write it"));
        }
        text
    }

    fn known(&mut self, node: &Node, known: &[&str]) {
        for (name, value) in node.members() {
            if !known.contains(&name.as_str()) {
                self.problem(value.line, format!("`{name}` is not known here: one of {}", known.join(", ")));
            }
        }
    }

    fn ours<'n>(&mut self, node: &'n Node, known: &[&str]) -> Option<&'n Node> {
        let ours = node.get("annotations")?.get("threadline")?;
        self.known(ours, known);
        Some(ours)
    }

    fn attribute(&mut self, node: &Node) {
        self.known(node, ATTRIBUTE);
        let Some(key) = self.required(node, "key").map(str::to_owned) else { return };
        self.define(node, key);
    }

    /// Takes the definition of an attribute, in v2 or v1.
    pub(super) fn define(&mut self, node: &Node, key: String) {
        let text = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default().trim().to_owned();
        let Some((base, template, members)) = self.type_of(node) else { return };
        let mut attribute = Attribute {
            key,
            base,
            template,
            members,
            closed: false,
            stability: text("stability"),
            brief: text("brief").split_whitespace().collect::<Vec<_>>().join(" "),
            deprecated: deprecated(node),
            class: Class::None,
            redact: false,
            owner: String::new(),
        };
        if let Some(ours) = self.ours(node, OURS_ATTRIBUTE) {
            attribute.closed = self.truth(ours, "closed").unwrap_or(false);
            attribute.class = self.class(ours).unwrap_or_default();
            attribute.redact = self.truth(ours, "redact").unwrap_or(false);
            attribute.owner = ours.get("owner").and_then(Node::text).unwrap_or_default().to_owned();
        }
        let at = self.at(node.line);
        self.raw.attributes.push((attribute, at));
    }

    fn type_of(&mut self, node: &Node) -> Option<(Base, bool, Vec<String>)> {
        let Some(kind) = node.get("type") else {
            self.problem(node.line, "`type` is missing: write string, int, double, boolean, …");
            return None;
        };
        if let Some(members) = kind.get("members").or(node.get("members")) {
            let values: Vec<&Node> =
                members.elements().iter().filter_map(|member| member.get("value")).collect();
            let ints = values.iter().all(|value| {
                matches!(&value.kind, Kind::Scalar { text, plain: true } if text.parse::<i64>().is_ok())
            });
            if values.is_empty() || values.len() != members.elements().len() {
                self.problem(members.line, "each member of `members` needs a `value`");
                return None;
            }
            let base = if ints { Base::Int } else { Base::Str };
            return Some((base, false, values.iter().filter_map(|v| v.text()).map(str::to_owned).collect()));
        }
        let name = kind.text().unwrap_or_default();
        let inner = name.strip_prefix("template[").and_then(|name| name.strip_suffix(']'));
        let base = Base::parse(inner.unwrap_or(name));
        if base.is_none() {
            let known: Vec<&str> = Base::NAMES.iter().map(|(name, _)| *name).collect();
            self.problem(
                kind.line,
                format!("`{name}` is no type: one of {}, template[…] of these, or `members`", known.join(", ")),
            );
        }
        base.map(|base| (base, inner.is_some(), Vec::new()))
    }

    fn truth(&mut self, node: &Node, key: &str) -> Option<bool> {
        let value = node.get(key)?;
        match value.text() {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => {
                self.problem(value.line, format!("`{key}` is true or false"));
                None
            }
        }
    }

    fn class(&mut self, node: &Node) -> Option<Class> {
        let value = node.get("class")?;
        match value.text() {
            Some("pii") => Some(Class::Pii),
            Some("secret") => Some(Class::Secret),
            Some("none") => Some(Class::None),
            _ => {
                self.problem(value.line, "`class` is none, pii or secret");
                None
            }
        }
    }

    /// The attributes that something asks for.
    pub(super) fn refs(&mut self, node: &Node) -> Vec<Ref> {
        let nodes = node.get("attributes").map(Node::elements).unwrap_or_default();
        nodes.iter().filter_map(|node| self.reference(node)).collect()
    }

    pub(super) fn reference(&mut self, node: &Node) -> Option<Ref> {
        self.known(node, REF);
        if let Some(group) = node.get("ref_group").and_then(Node::text) {
            return Some(Ref::Group(group.to_owned(), node.line));
        }
        let key = self.required(node, "ref")?.to_owned();
        let mut found = RefAttribute {
            key,
            line: node.line,
            level: self.level(node),
            required_when: None,
            values: Vec::new(),
            class: None,
            redact: None,
            owner: String::new(),
        };
        if let Some(ours) = self.ours(node, OURS_REF) {
            found.required_when = ours.get("required_when").and_then(|node| self.condition(node, &[]));
            found.values = ours.get("values").map(|node| self.texts(node)).unwrap_or_default();
            found.class = self.class(ours);
            found.redact = self.truth(ours, "redact");
            found.owner = ours.get("owner").and_then(Node::text).unwrap_or_default().to_owned();
        }
        Some(Ref::Attribute(found))
    }

    fn level(&mut self, node: &Node) -> Option<Level> {
        let level = node.get("requirement_level")?;
        let simple = match level.text() {
            Some("required") => Some(Level::Required),
            Some("recommended") => Some(Level::Recommended),
            Some("opt_in") => Some(Level::OptIn),
            _ => None,
        };
        let with_text = level.members().first().and_then(|(name, text)| {
            let text = text.text()?.split_whitespace().collect::<Vec<_>>().join(" ");
            match name.as_str() {
                "conditionally_required" => Some(Level::Conditional(text)),
                "recommended" => Some(Level::Recommended),
                "opt_in" => Some(Level::OptIn),
                _ => None,
            }
        });
        let found = simple.or(with_text);
        if found.is_none() {
            self.problem(
                level.line,
                "`requirement_level` is required, recommended, opt_in, or `conditionally_required: when`",
            );
        }
        found
    }

    /// The texts of a sequence of scalars.
    fn texts(&mut self, node: &Node) -> Vec<String> {
        let texts: Vec<String> = node.elements().iter().filter_map(Node::text).map(str::to_owned).collect();
        if texts.is_empty() || texts.len() != node.elements().len() {
            self.problem(node.line, "a list of values is expected: [a, b]");
        }
        texts
    }

    fn condition(&mut self, node: &Node, more: &[&str]) -> Option<Condition> {
        let known: Vec<&str> =
            ["attribute", "is", "from", "to", "exists"].iter().chain(more).copied().collect();
        self.known(node, &known);
        let attribute = self.required(node, "attribute")?.to_owned();
        let number = |key: &str| node.get(key).and_then(Node::text).and_then(|text| text.parse::<i64>().ok());
        let test = match (node.get("is"), number("from"), number("to")) {
            (Some(list), None, None) => Test::Is(self.texts(list)),
            (None, Some(from), Some(to)) if from <= to => Test::Within(from, to),
            (None, None, None) if node.get("exists").and_then(Node::text) == Some("true") => Test::Exists,
            _ => {
                self.problem(
                    node.line,
                    "a condition is `attribute` with `is: [a, b]`, `from: 1, to: 2` or `exists: true`",
                );
                return None;
            }
        };
        Some(Condition { attribute, test })
    }

    fn group(&mut self, node: &Node) {
        self.known(node, GROUP);
        let Some(id) = self.required(node, "id").map(str::to_owned) else { return };
        let mut applies_to = None;
        if let Some(value) = self.ours(node, &["applies_to"]).and_then(|ours| ours.get("applies_to")) {
            match value.text() {
                Some("resource") => applies_to = Some(AppliesTo::Resource),
                Some("attributes") => applies_to = Some(AppliesTo::Attributes),
                _ => self.problem(value.line, "`applies_to` is resource or attributes"),
            }
        }
        let (refs, at) = (self.refs(node), self.at(node.line));
        self.raw.groups.push(Group { id, at, extends: None, applies_to, refs });
    }

    fn event(&mut self, node: &Node, name: &str) {
        self.known(node, EVENT);
        let Some(event_name) = self.required(node, name).map(str::to_owned) else { return };
        let event = self.event_body(node, event_name);
        if name == "ref" {
            self.raw.refinements.push(event);
        } else {
            self.raw.events.push(event);
        }
    }

    /// Everything of an event but its references.
    pub(super) fn event_head(&mut self, node: &Node, name: String) -> RawEvent {
        let text = |key: &str| node.get(key).and_then(Node::text).unwrap_or_default().trim().to_owned();
        let mut event = RawEvent {
            name,
            at: self.at(node.line),
            brief: text("brief").split_whitespace().collect::<Vec<_>>().join(" "),
            stability: text("stability"),
            deprecated: deprecated(node),
            ..RawEvent::default()
        };
        if let Some(ours) = self.ours(node, OURS_EVENT) {
            event.severity = ours.get("severity").and_then(|node| self.severity(node));
            event.request_scoped = self.truth(ours, "request_scoped").unwrap_or(false);
            match ours.get("sampling").map(|node| (node.line, node.text())) {
                None | Some((_, Some("default"))) => {}
                Some((_, Some("never"))) => event.never_sampled = true,
                Some((line, _)) => self.problem(line, "`sampling` is default or never"),
            }
            event.owner = ours.get("owner").and_then(Node::text).unwrap_or_default().to_owned();
            let lists = ours.get("any_of").map(Node::elements).unwrap_or_default();
            event.any_of = lists.iter().map(|list| self.texts(list)).collect();
            if let Some(mapping) = ours.get("mapping") {
                self.known(mapping, &["ecs", "ocsf", "owasp"]);
                let text = |key: &str| mapping.get(key).and_then(Node::text).unwrap_or_default().to_owned();
                event.mapping = Mapping { ecs: text("ecs"), ocsf: text("ocsf"), owasp: text("owasp") };
            }
        }
        event
    }

    fn event_body(&mut self, node: &Node, name: String) -> RawEvent {
        let refs = self.refs(node);
        RawEvent { refs, ..self.event_head(node, name) }
    }

    fn severity(&mut self, node: &Node) -> Option<Severity> {
        self.known(node, &["min", "max", "when"]);
        let range = self.range(node)?;
        let when = node.get("when").map(Node::elements).unwrap_or_default();
        let when = when
            .iter()
            .filter_map(|node| Some((self.condition(node, &["min", "max"])?, self.range(node)?)))
            .collect();
        Some(Severity { range, when })
    }

    fn range(&mut self, node: &Node) -> Option<SeverityRange> {
        let number = |key: &str| node.get(key).and_then(Node::text).and_then(|text| text.parse::<i32>().ok());
        match (number("min"), number("max")) {
            (Some(min), Some(max)) if 1 <= min && min <= max && max <= 24 => Some(SeverityRange { min, max }),
            _ => {
                self.problem(node.line, "a severity has `min` and `max` from 1 to 24");
                None
            }
        }
    }
}

/// Why something is deprecated, in one line.
fn deprecated(node: &Node) -> Option<String> {
    let found = node.get("deprecated").filter(|node| !node.is_null())?;
    if let Some(text) = found.text() {
        return Some(text.trim().to_owned());
    }
    let text = |key: &str| found.get(key).and_then(Node::text);
    Some(match (text("renamed_to"), text("note")) {
        (Some(new), _) => format!("use {new}"),
        (None, Some(note)) => note.split_whitespace().collect::<Vec<_>>().join(" "),
        (None, None) => text("reason").unwrap_or("obsolete").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_document() {
        assert!(document("a: 1\n").is_ok_and(|root| root.get("a").is_some()));
        for (text, line, want) in
            [("a: 1\n---\nb: 1\n", 3, "second document"), ("", 0, "empty"), ("# nothing\n---\n", 0, "empty")]
        {
            let fault = document(text).unwrap_err();
            assert!(fault.line == line && fault.what.contains(want), "{text:?}: {fault}");
        }
    }
}
