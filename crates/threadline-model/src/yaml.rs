//! YAML as trees that know their lines, within bounds. It does not know what the files are: rules, contracts, pipelines.
//!
//! A subset that reads the same everywhere: keys are texts and stand once in a mapping, aliases are refused.

use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Bytes of a file at most.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Nodes of a file at most.
const NODES_MAX: usize = 400_000;
/// How deep nodes may lie in one another.
const DEPTH_MAX: usize = 32;

/// A fault at a line of a file that the caller knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line from 1; 0 = the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl Fault {
    /// A fault.
    pub fn new(line: usize, what: impl Into<String>) -> Fault {
        Fault { line, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl std::error::Error for Fault {}

/// What is read, or the first fault.
pub type Result<T> = std::result::Result<T, Fault>;

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line in the file, from 1.
    pub line: usize,
    /// What stands there.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A text; `plain` when it stood there without quotes and may mean a number or a truth value.
    Scalar {
        /// The text as it is meant: quotes and escapes are resolved.
        text: String,
        /// Whether it stood there without quotes.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping: keys with their nodes, in order.
    Map(Vec<(String, Node)>),
}

/// A scalar with its YAML 1.2 type.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// Nothing: an empty value, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, decimal or hexadecimal (`0x`).
    Int(i64),
    /// A number with a decimal point.
    Float(f64),
    /// All else, and whatever is quoted.
    Text(&'a str),
}

impl Node {
    /// The members of a mapping; none for anything else.
    pub fn members(&self) -> &[(String, Node)] {
        match &self.kind {
            Kind::Map(members) => members,
            _ => &[],
        }
    }

    /// The elements of a sequence; none for anything else.
    pub fn elements(&self) -> &[Node] {
        match &self.kind {
            Kind::List(elements) => elements,
            _ => &[],
        }
    }

    /// The elements of a sequence; anything else is its own only element, nothing is none.
    pub fn one_or_many(&self) -> &[Node] {
        match &self.kind {
            Kind::List(elements) => elements,
            _ if self.is_null() => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// Whether it is a mapping.
    pub fn is_map(&self) -> bool {
        matches!(self.kind, Kind::Map(_))
    }

    /// A member of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.members().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar, or a fault that names what it is for.
    pub fn need_text(&self, what: &str) -> Result<&str> {
        self.text().ok_or_else(|| Fault::new(self.line, format!("`{what}` must be a text")))
    }

    /// The texts of a list, or of one scalar.
    pub fn need_texts(&self, what: &str) -> Result<Vec<String>> {
        self.one_or_many().iter().map(|node| node.need_text(what).map(str::to_owned)).collect()
    }

    /// A truth value, or a fault that names what it is for.
    pub fn need_bool(&self, what: &str) -> Result<bool> {
        match self.scalar() {
            Some(Scalar::Bool(value)) => Ok(value),
            _ => Err(Fault::new(self.line, format!("`{what}` must be true or false"))),
        }
    }

    /// A finite number, or a fault that names what it is for.
    pub fn need_number(&self, what: &str) -> Result<f64> {
        match self.scalar() {
            Some(Scalar::Int(value)) => Ok(value as f64),
            Some(Scalar::Float(value)) if value.is_finite() => Ok(value),
            _ => Err(Fault::new(self.line, format!("`{what}` must be a number"))),
        }
    }

    /// Faults when a mapping has other keys than these.
    pub fn only(&self, what: &str, keys: &[&str]) -> Result<()> {
        if !self.is_map() {
            return Err(Fault::new(self.line, format!("`{what}` must be a mapping of {}", keys.join(", "))));
        }
        match self.members().iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            Some((key, node)) => {
                Err(Fault::new(node.line, format!("`{what}` has no key `{key}`: it takes {}", keys.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// Whether there is nothing: an empty value, `null` or `~`.
    pub fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// The scalar by its type; `None` for lists and mappings.
    pub fn scalar(&self) -> Option<Scalar<'_>> {
        let Kind::Scalar { text, plain } = &self.kind else { return None };
        if !plain {
            return Some(Scalar::Text(text));
        }
        Some(match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
            "true" | "True" | "TRUE" => Scalar::Bool(true),
            "false" | "False" | "FALSE" => Scalar::Bool(false),
            text => number(text).unwrap_or(Scalar::Text(text)),
        })
    }
}

fn number(text: &str) -> Option<Scalar<'_>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_digit()) && !digits.is_empty() {
        return text.parse().ok().map(Scalar::Int);
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(Scalar::Int);
    }
    let float = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.contains('.');
    float.then(|| text.parse().ok().map(Scalar::Float)).flatten()
}

/// A container that is not closed yet.
struct Open {
    line: usize,
    /// `None` for a sequence; for a mapping the key that waits for its value.
    key: Option<Option<(String, usize)>>,
    list: Vec<Node>,
    map: Vec<(String, Node)>,
}

/// Reads the documents of a file; empty ones are left out.
///
/// # Errors
///
/// The first fault: it is not YAML, it is greater than the bounds (4 MiB, 400,000 nodes, 32 deep), has an alias, a key
/// twice, or a key that is no text.
pub fn read(text: &str) -> Result<Vec<Node>> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Fault::new(0, format!("has more than {FILE_BYTES_MAX} bytes: split it")));
    }
    let mut stack: Vec<Open> = Vec::new();
    let mut roots = Vec::new();
    let mut nodes = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            Fault::new(error.marker().line(), format!("not YAML: {}: correct the text here", error.info()))
        })?;
        let line = span.start.line();
        nodes += 1;
        if nodes > NODES_MAX {
            return Err(Fault::new(line, format!("has more than {NODES_MAX} nodes: split it")));
        }
        let done = match event {
            Event::Scalar(text, style, _, _) => Node {
                line,
                kind: Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain },
            },
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if stack.len() >= DEPTH_MAX {
                    return Err(Fault::new(line, format!("is nested more than {DEPTH_MAX} deep: flatten it")));
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
                return Err(Fault::new(line, "has an alias (`*name`): write the value out"));
            }
            _ => continue,
        };
        attach(&mut stack, &mut roots, done)?;
    }
    Ok(roots)
}

fn attach(stack: &mut [Open], roots: &mut Vec<Node>, node: Node) -> Result<()> {
    let Some(open) = stack.last_mut() else {
        if !node.is_null() {
            roots.push(node);
        }
        return Ok(());
    };
    let Some(key) = &mut open.key else {
        open.list.push(node);
        return Ok(());
    };
    match key.take() {
        Some((name, line)) => {
            if open.map.iter().any(|(known, _)| *known == name) {
                return Err(Fault::new(line, format!("`{name}` stands here twice: keep one")));
            }
            open.map.push((name, node));
        }
        None => {
            let line = node.line;
            let Kind::Scalar { text, .. } = node.kind else {
                return Err(Fault::new(line, "a key must be a text"));
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
        let trees = read("a: 1\nb:\n  - x\n  - { c: 'true' }\n---\nd: ~\n---\n").unwrap();
        assert_eq!(trees.len(), 2);
        let list = trees[0].get("b").unwrap();
        assert_eq!(list.elements()[1].get("c").map(|c| c.line), Some(4));
        assert_eq!(list.elements()[1].get("c").and_then(Node::scalar), Some(Scalar::Text("true")));
        assert_eq!((list.one_or_many().len(), trees[0].get("a").unwrap().one_or_many().len()), (2, 1));
        assert_eq!(trees[0].get("a").unwrap().elements(), []);
        for (text, want) in [
            ("a: [1", "not YAML"),
            ("a: 1\na: 2\n", "twice"),
            ("a: &x 1\nb: *x\n", "alias"),
            ("? [a]\n: 1\n", "key must be"),
        ] {
            let fault = read(text).unwrap_err().what;
            assert!(fault.contains(want), "{text:?}: {fault}");
        }
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(read(&deep).unwrap_err().what.contains("nested"));
    }

    #[test]
    fn plain_scalars_have_types() {
        for (text, want) in [
            ("12", Scalar::Int(12)),
            ("-3", Scalar::Int(-3)),
            ("0x10", Scalar::Int(16)),
            ("1.5", Scalar::Float(1.5)),
            ("1.2.3", Scalar::Text("1.2.3")),
            ("yes", Scalar::Text("yes")),
            ("true", Scalar::Bool(true)),
            ("~", Scalar::Null),
            ("10-12", Scalar::Text("10-12")),
        ] {
            let trees = read(&format!("a: {text}")).unwrap();
            assert_eq!(trees[0].get("a").unwrap().scalar(), Some(want), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c:\\[\\]{}&*\\-\n #'\"|>!%]{0,60}") {
            let _ = read(&text);
        }
    }
}
