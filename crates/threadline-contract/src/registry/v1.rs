//! Reads v1 files (`groups:`), as far as OpenTelemetry's own model needs it: definitions of attributes in any group, and
//! groups of the types `event` and `attribute_group`. Spans, metrics, entities and bodies of events are passed over.

use threadline_model::yaml::{Kind, Node};

use super::read::{Group, RawEvent, Reader, Ref};

/// Reads a v1 file.
pub(super) fn file(reader: &mut Reader<'_>, root: &Node) {
    for group in root.get("groups").map(Node::elements).unwrap_or_default() {
        read(reader, group);
    }
}

fn read(reader: &mut Reader<'_>, node: &Node) {
    let Some(id) = reader.required(node, "id").map(str::to_owned) else { return };
    let text = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
    let prefix = text("prefix").filter(|prefix| !prefix.is_empty());
    let mut refs = Vec::new();
    for attribute in node.get("attributes").map(Node::elements).unwrap_or_default() {
        if let Some(key) = attribute.get("id").and_then(Node::text) {
            let key = match &prefix {
                Some(prefix) => format!("{prefix}.{key}"),
                None => key.to_owned(),
            };
            reader.define(attribute, key.clone());
            refs.extend(reader.reference(&as_ref(attribute, &key)));
        } else {
            refs.extend(reader.reference(&as_ref(attribute, "")));
        }
    }
    match text("type").as_deref() {
        Some("event") => event(reader, node, &id, refs),
        Some("attribute_group") | None => {
            let at = reader.at(node.line);
            reader.raw.groups.push(Group { id, at, extends: text("extends"), applies_to: None, refs });
        }
        Some(_) => {}
    }
}

fn event(reader: &mut Reader<'_>, node: &Node, id: &str, refs: Vec<Ref>) {
    let name = node.get("name").and_then(Node::text).unwrap_or(id.strip_prefix("event.").unwrap_or(id));
    let extends = node.get("extends").and_then(Node::text).map(str::to_owned);
    let head = reader.event_head(node, name.to_owned());
    reader.raw.events.push(RawEvent { extends, refs, ..head });
}

/// A definition or a reference as a v2 reference: only what one may say of an attribute where it is asked for.
fn as_ref(node: &Node, key: &str) -> Node {
    let mut members: Vec<(String, Node)> = node
        .members()
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "ref" | "requirement_level"))
        .cloned()
        .collect();
    if !key.is_empty() {
        let kind = Kind::Scalar { text: key.to_owned(), plain: true };
        members.push(("ref".to_owned(), Node { line: node.line, kind }));
    }
    Node { line: node.line, kind: Kind::Map(members) }
}
