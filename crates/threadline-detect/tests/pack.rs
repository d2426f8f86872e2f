//! The pack in `rules/`: every file is YAML, every document has what a rule needs, no id or name is there twice.
//! Whether rules find what their tests say is the engine's to run.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use saphyr_parser::{Event, Parser};

/// A tree of YAML, as far as the checks need it.
#[derive(Debug)]
enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(members) => members.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Node::Text(text)) => text,
            _ => "",
        }
    }

    fn list(&self, key: &str) -> &[Node] {
        match self.get(key) {
            Some(Node::List(nodes)) => nodes,
            _ => &[],
        }
    }
}

fn read(text: &str) -> Result<Vec<Node>, String> {
    let mut documents = Vec::new();
    // Open lists and mappings; a mapping's odd elements are its keys.
    let mut open: Vec<(bool, Vec<Node>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let node = match event {
            Event::SequenceStart(..) => {
                open.push((false, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((true, Vec::new()));
                continue;
            }
            Event::Scalar(text, ..) => Node::Text(text.into_owned()),
            Event::SequenceEnd | Event::MappingEnd => {
                let (is_map, nodes) = open.pop().ok_or("an end without a start")?;
                if is_map {
                    Node::Map(members(nodes).map_err(|what| format!("line {}: {what}", span.start.line()))?)
                } else {
                    Node::List(nodes)
                }
            }
            Event::Alias(..) => return Err("an alias".to_owned()),
            _ => continue,
        };
        match open.last_mut() {
            Some((_, nodes)) => nodes.push(node),
            None => documents.push(node),
        }
    }
    Ok(documents)
}

fn members(nodes: Vec<Node>) -> Result<Vec<(String, Node)>, String> {
    let mut members: Vec<(String, Node)> = Vec::new();
    let mut nodes = nodes.into_iter();
    while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
        let Node::Text(key) = key else { return Err("a key is no text".to_owned()) };
        if members.iter().any(|(known, _)| *known == key) {
            return Err(format!("`{key}` is there twice"));
        }
        members.push((key, value));
    }
    Ok(members)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            found.push(path);
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12]
        && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
}

/// What is wrong with a document.
fn faults(rule: &Node, last: bool) -> Vec<&'static str> {
    let levels = ["informational", "low", "medium", "high", "critical"];
    let tags = || {
        rule.list("tags").iter().map(|tag| match tag {
            Node::Text(text) => text.as_str(),
            _ => "",
        })
    };
    let block = rule.get("threadline");
    let tests = block.map_or(&[][..], |block| block.list("tests"));
    let expects =
        |want: &str| tests.iter().any(|test| test.text("match") == want || test.text("findings") == want);
    let quiet = expects("false") || expects("0");
    let loud = tests.len() > tests.iter().filter(|test| ["false", "0"].contains(&test.text("match"))).count()
        && (expects("true") || expects("1"));
    [
        ("no title", rule.text("title").is_empty()),
        ("no UUID", !is_uuid(rule.text("id"))),
        ("no description", rule.text("description").trim().is_empty()),
        ("no level", !levels.contains(&rule.text("level"))),
        ("no reference", rule.list("references").is_empty()),
        ("no false positives", rule.list("falsepositives").is_empty()),
        ("no ATT&CK technique", !tags().any(|tag| tag.starts_with("attack.t"))),
        ("no ASVS item", !tags().any(|tag| tag.starts_with("asvs.v16."))),
        (
            "neither detection nor correlation",
            rule.get("detection").is_some() == rule.get("correlation").is_some(),
        ),
        ("no log source", rule.get("detection").is_some() && rule.get("logsource").is_none()),
        ("no condition", rule.get("detection").is_some_and(|detection| detection.get("condition").is_none())),
        ("no test that finds, or none that does not", last && !(quiet && loud)),
    ]
    .into_iter()
    .filter_map(|(what, wrong)| wrong.then_some(what))
    .collect()
}

#[test]
fn rules_have_all_that_they_need() {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules"), &mut paths);
    paths.sort();
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in &paths {
        let documents = match read(&std::fs::read_to_string(path).unwrap()) {
            Ok(documents) => documents,
            Err(error) => {
                wrong.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        assert_eq!(
            documents.last().map(|rule| rule.text("name")),
            Some(&*stem),
            "the last of a file is its finding"
        );
        for (index, rule) in documents.iter().enumerate() {
            let last = index + 1 == documents.len();
            wrong.extend(
                faults(rule, last)
                    .into_iter()
                    .map(|what| format!("{}: {}: {what}", path.display(), rule.text("title"))),
            );
            for key in ["id", "name"] {
                if let Some(other) = seen.insert(rule.text(key).to_owned(), path.clone()) {
                    wrong.push(format!(
                        "{}: {key} {} is in {} as well",
                        path.display(),
                        rule.text(key),
                        other.display()
                    ));
                }
            }
        }
        // What a correlation counts is in its file.
        for correlation in documents.iter().filter_map(|rule| rule.get("correlation")) {
            for name in correlation.list("rules") {
                let Node::Text(name) = name else { continue };
                if !documents.iter().any(|rule| rule.text("name") == name) {
                    wrong.push(format!("{}: there is no rule {name}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(paths.len() >= 40, "{} rules", paths.len());
}
