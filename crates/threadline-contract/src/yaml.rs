//! YAML as a tree that knows its lines, within bounds. It does not know what a registry is.

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::registry::Problem;

/// Bytes of a file at most.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Nodes of a file at most.
const NODES_MAX: usize = 400_000;
/// How deep nodes may lie in one another.
const DEPTH_MAX: usize = 32;

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// Line in the file, from 1.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A text; `plain` when it stood there without quotes and may mean a number or a truth value.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping: keys with their nodes, in order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The members of a mapping; none for anything else.
    pub(crate) fn members(&self) -> &[(String, Node)] {
        match &self.kind {
            Kind::Map(members) => members,
            _ => &[],
        }
    }

    /// The elements of a sequence; none for anything else.
    pub(crate) fn elements(&self) -> &[Node] {
        match &self.kind {
            Kind::List(elements) => elements,
            _ => &[],
        }
    }

    /// A member of a mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.members().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether there is nothing: an empty value, `null` or `~`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }
}

/// A container that is not closed yet.
struct Open {
    line: usize,
    /// `None` for a sequence; for a mapping the key that waits for its value.
    key: Option<Option<(String, usize)>>,
    list: Vec<Node>,
    map: Vec<(String, Node)>,
}

/// Reads the one document of a file.
pub(crate) fn read(file: &str, text: &str) -> Result<Node, Problem> {
    let problem = |line: usize, what: String| Problem::new(file, line, what);
    if text.len() > FILE_BYTES_MAX {
        return Err(problem(0, format!("has more than {FILE_BYTES_MAX} bytes: split it")));
    }
    let mut stack: Vec<Open> = Vec::new();
    let mut root = None;
    let mut nodes = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            problem(error.marker().line(), format!("not YAML: {}: correct the text here", error.info()))
        })?;
        let line = span.start.line();
        nodes += 1;
        if nodes > NODES_MAX {
            return Err(problem(line, format!("has more than {NODES_MAX} nodes: split it")));
        }
        let done = match event {
            Event::Scalar(text, style, _, _) => Node {
                line,
                kind: Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain },
            },
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if stack.len() >= DEPTH_MAX {
                    return Err(problem(line, format!("is nested more than {DEPTH_MAX} deep: flatten it")));
                }
                let key = matches!(event, Event::MappingStart(..)).then_some(None);
                stack.push(Open { line, key, list: Vec::new(), map: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open { line, key: Some(_), map, .. }) => Node { line, kind: Kind::Map(map) },
                Some(Open { line, list, .. }) => Node { line, kind: Kind::List(list) },
                None => continue,
            },
            Event::Alias(_) => {
                return Err(problem(line, "has an alias (`*name`): write the value out".to_owned()));
            }
            Event::DocumentStart(_) if root.is_some() => {
                return Err(problem(line, "has a second document: put it into a file of its own".to_owned()));
            }
            _ => continue,
        };
        attach(&mut stack, &mut root, done).map_err(|(line, what)| problem(line, what))?;
    }
    root.ok_or_else(|| problem(0, "is empty: remove it, or write attributes or events into it".to_owned()))
}

fn attach(stack: &mut [Open], root: &mut Option<Node>, node: Node) -> Result<(), (usize, String)> {
    let Some(open) = stack.last_mut() else {
        *root = Some(node);
        return Ok(());
    };
    let Some(key) = &mut open.key else {
        open.list.push(node);
        return Ok(());
    };
    match key.take() {
        Some((name, line)) => {
            if open.map.iter().any(|(known, _)| *known == name) {
                return Err((line, format!("`{name}` stands here twice: keep one")));
            }
            open.map.push((name, node));
        }
        None => {
            let line = node.line;
            let Kind::Scalar { text, .. } = node.kind else {
                return Err((line, "a key must be a text".to_owned()));
            };
            *key = Some((text, line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_lines_and_faults_are_said() {
        let tree = read("f", "a: 1\nb:\n  - x\n  - { c: 'true' }\n").unwrap();
        assert_eq!(tree.get("a").and_then(Node::text), Some("1"));
        let list = tree.get("b").unwrap();
        assert_eq!(list.elements()[1].get("c").map(|c| c.line), Some(4));
        for (text, want) in [
            ("a: [1", "not YAML"),
            ("a: 1\na: 2\n", "twice"),
            ("a: &x 1\nb: *x\n", "alias"),
            ("a: 1\n---\nb: 1\n", "second document"),
            ("", "empty"),
            ("? [a]\n: 1\n", "key must be"),
        ] {
            let error = read("f", text).unwrap_err().to_string();
            assert!(error.contains(want), "{text:?}: {error}");
        }
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(read("f", &deep).unwrap_err().to_string().contains("nested"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c:\\[\\]{}&*\\-\n #'\"|>!%]{0,60}") {
            let _ = read("f", &text);
        }
    }
}
