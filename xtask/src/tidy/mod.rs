//! `cargo xtask tidy`: the rules of the house that no compiler checks. Also an ordinary test of this crate.
//!
//! A rule that old code breaks is a *ratchet*: `xtask/ratchet.txt` says how much of it is left in which file, and
//! that may only go down. Rules about what the code does belong into tests of the crates, not here.

mod edges;
mod links;
mod references;
mod sources;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Path from the root.
    path: String,
    /// Line, from 1; 0 = the file as a whole.
    line: usize,
    /// What is wrong and what to do.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// A text file of the repository.
struct Source {
    path: String,
    text: String,
}

/// Runs the command.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let bless = match options {
        [] => false,
        ["--bless"] => true,
        _ => return Err("usage: cargo xtask tidy [--bless]".to_owned()),
    };
    if bless {
        sources::bless(&sources()?)?;
    }
    let findings = check()?;
    if findings.is_empty() {
        println!("tidy");
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    Err(format!("{}\n{} to tidy up", lines.join("\n"), lines.len()))
}

fn check() -> Result<Vec<Finding>> {
    let sources = sources()?;
    let mut findings = edges::check()?;
    findings.extend(sources::check(&sources)?);
    findings.extend(links::check(&sources));
    findings.extend(references::check(&sources));
    Ok(findings)
}

/// The repository's text files: what git tracks or would track.
fn sources() -> Result<Vec<Source>> {
    let root = crate::root();
    let mut git = Command::new("git");
    git.current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = crate::run::output(&mut git)?;
    let mut sources = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let file: PathBuf = root.join(path);
        // A tracked file may have been deleted, or be no text: neither has rules here.
        if let Ok(text) = std::fs::read_to_string(file) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_is_tidy() {
        let findings: Vec<String> = super::check().unwrap().iter().map(super::Finding::to_string).collect();
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    }
}
