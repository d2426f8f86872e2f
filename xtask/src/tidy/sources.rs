//! Rules about Rust files: each opens by saying what it is for, stays of a readable size, and has no way to panic
//! outside tests that input could reach.

use std::collections::BTreeMap;

use super::{Finding, Source};
use crate::Result;

/// Where what is left of old sins is written down: lines of `rule path count`.
const RATCHET: &str = "xtask/ratchet.txt";

/// Lines of a file, at most.
const LINES_MAX: usize = 1200;

/// Lines of `main.rs` of the hub, at most: it is thin, the library is what tests and simulation start.
const MAIN_LINES_MAX: usize = 50;

/// A rule that a file may be behind with.
struct Rule {
    /// As in the ratchet.
    name: &'static str,
    /// How much of it a file breaks.
    count: fn(&Source) -> usize,
    /// What is counted, and what to do about it.
    advice: &'static str,
}

const RULES: &[Rule] = &[
    Rule { name: "lines", count: lines_over, advice: "lines: is it one room? Split it by topic" },
    Rule {
        name: "unwrap",
        count: unwraps,
        advice: "unwrap/expect outside tests: return an error, or prove it cannot happen another way",
    },
];

/// How much of which rule is left: (rule, path) -> count.
type Ratchet = BTreeMap<(String, String), usize>;

pub(super) fn check(sources: &[Source]) -> Result<Vec<Finding>> {
    let ratchet = read_ratchet()?;
    let mut findings: Vec<Finding> = rust(sources).filter_map(head).collect();
    findings.extend(rust(sources).filter_map(thin_main));
    let counted = count(sources);
    for (key @ (rule, path), found) in &counted {
        let allowed = ratchet.get(key).copied().unwrap_or(0);
        let advice = RULES.iter().find(|known| known.name == rule).map_or("", |known| known.advice);
        if *found > allowed {
            findings.push(Finding::new(path, 0, format!("{found} {advice} ({allowed} allowed by {RATCHET})")));
        }
    }
    for (key @ (rule, path), allowed) in &ratchet {
        let found = counted.get(key).copied().unwrap_or(0);
        if found < *allowed {
            let message =
                format!("{rule} went down from {allowed} to {found} in {path}: cargo xtask tidy --bless");
            findings.push(Finding::new(RATCHET, 0, message));
        }
    }
    Ok(findings)
}

/// Writes the ratchet anew, lower only: what went up stays as it was and is reported.
pub(super) fn bless(sources: &[Source]) -> Result<()> {
    let counted = count(sources);
    let mut text = String::from(
        "# What is left of rules that `cargo xtask tidy` watches: rule, file, count. Counts may only go down.\n",
    );
    for ((rule, path), allowed) in read_ratchet()? {
        let left = counted.get(&(rule.clone(), path.clone())).copied().unwrap_or(0).min(allowed);
        if left > 0 {
            text.push_str(&format!("{rule} {path} {left}\n"));
        }
    }
    std::fs::write(crate::root().join(RATCHET), text).map_err(|error| format!("{RATCHET}: {error}"))
}

fn read_ratchet() -> Result<Ratchet> {
    let text =
        std::fs::read_to_string(crate::root().join(RATCHET)).map_err(|error| format!("{RATCHET}: {error}"))?;
    parse_ratchet(&text)
}

fn parse_ratchet(text: &str) -> Result<Ratchet> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let entry =
                (words.next(), words.next(), words.next().and_then(|word| word.parse().ok()), words.next());
            match entry {
                (Some(rule), Some(path), Some(count), None) => Ok(((rule.to_owned(), path.to_owned()), count)),
                _ => Err(format!("{RATCHET}: not `rule path count`: {line}")),
            }
        })
        .collect()
}

fn count(sources: &[Source]) -> Ratchet {
    let mut counted = Ratchet::new();
    let test_files = test_files(sources);
    for rule in RULES {
        for source in rust(sources) {
            let exempt = rule.name == "unwrap" && test_files.contains(&source.path);
            let found = if exempt { 0 } else { (rule.count)(source) };
            if found > 0 {
                counted.insert((rule.name.to_owned(), source.path.clone()), found);
            }
        }
    }
    counted
}

fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs"))
}

/// A file opens with `//!`; crate attributes such as `#![no_main]` may come before.
fn head(source: &Source) -> Option<Finding> {
    let first = source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    let opens = first.is_some_and(|line| line.starts_with("//! "));
    (!opens).then(|| Finding::new(&source.path, 1, "opens without a `//!` head that says what it is for"))
}

fn thin_main(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    (source.path == "crates/threadline/src/main.rs" && lines > MAIN_LINES_MAX)
        .then(|| Finding::new(&source.path, 0, format!("{lines} lines: main stays under {MAIN_LINES_MAX}")))
}

fn lines_over(source: &Source) -> usize {
    let lines = source.text.lines().count();
    if lines > LINES_MAX { lines } else { 0 }
}

fn unwraps(source: &Source) -> usize {
    let panics = |line: &str| {
        let expects = line.match_indices(".expect(").filter(|(at, needle)| {
            // A parser's own `expect(Token)` is none: only a message makes it Option's or Result's.
            let rest = line.get(at + needle.len()..).unwrap_or("");
            rest.is_empty() || rest.starts_with(['"', '&'])
        });
        line.matches(".unwrap()").count() + line.matches(".unwrap_err()").count() + expects.count()
    };
    production(source).map(panics).sum()
}

/// The lines of a file that are compiled outside tests, without comments: none of test files, and of others those
/// before the module of tests, which by habit comes last. Nor this tool's, whose panics end a build step.
fn production(source: &Source) -> impl Iterator<Item = &str> {
    let tests = source.path.split('/').any(|part| matches!(part, "tests" | "benches" | "fuzz" | "xtask"))
        || source.path.ends_with("tests.rs");
    let end =
        if tests { 0 } else { source.text.find("#[cfg(test)]\nmod tests {").unwrap_or(source.text.len()) };
    source.text.get(..end).unwrap_or("").lines().map(|line| line.split("//").next().unwrap_or(line))
}

/// Files that a `#[cfg(test)] mod name;` somewhere names: compiled for tests only.
fn test_files(sources: &[Source]) -> Vec<String> {
    let mut files = Vec::new();
    for source in rust(sources) {
        let stem = source.path.strip_suffix(".rs").unwrap_or(&source.path);
        let folder = ["/mod", "/lib", "/main"].iter().find_map(|end| stem.strip_suffix(end)).unwrap_or(stem);
        for piece in source.text.split("#[cfg(test)]\n").skip(1) {
            let declared = piece.lines().next().and_then(|line| line.split("mod ").nth(1)?.strip_suffix(';'));
            if let Some(name) = declared {
                files.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]);
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn panics_are_counted_outside_tests_and_comments() {
        let cases = [
            ("crates/a/src/b.rs", "//! x\na.unwrap(); b.unwrap();\n", 2),
            ("crates/a/src/b.rs", "//! x\na.expect(\"y\"); self.expect(Token::Colon)?;\n", 1),
            ("crates/a/src/b.rs", "//! x\na\n    .expect(\n        \"y\")\n", 1),
            ("crates/a/src/b.rs", "//! x\n// a.unwrap()\nfn f() {} // b.unwrap()\n", 0),
            ("crates/a/src/b.rs", "//! x\n#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }\n", 0),
            ("crates/a/tests/it/b.rs", "//! x\na.unwrap()\n", 0),
            ("crates/a/src/b/tests.rs", "//! x\na.unwrap()\n", 0),
            ("crates/a/src/b.rs", "//! x\na.unwrap_or(0); a.unwrap_or_default()\n", 0),
        ];
        for (path, text, expected) in cases {
            assert_eq!(unwraps(&source(path, text)), expected, "{path}: {text}");
        }
    }

    #[test]
    fn heads_are_required() {
        let cases = [
            ("//! What for.\n", true),
            ("#![no_main]\n//! What for.\n", true),
            ("#![no_main]\n\n//! What for.\n", true),
            ("use a;\n//! What for.\n", false),
            ("//!\n", false),
            ("", false),
        ];
        for (text, good) in cases {
            assert_eq!(head(&source("a.rs", text)).is_none(), good, "{text:?}");
        }
    }

    #[test]
    fn the_ratchet_reads_back() {
        let read = parse_ratchet("# x\nunwrap a/b.rs 3\nlines c.rs 1300\n").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[&("unwrap".to_owned(), "a/b.rs".to_owned())], 3);
        assert!(parse_ratchet("unwrap a/b.rs\n").is_err());
        assert!(parse_ratchet("unwrap a/b.rs many\n").is_err());
    }
}
