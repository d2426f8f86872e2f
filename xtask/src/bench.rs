//! `cargo xtask bench`: brings the binary and a Python with the peers, and runs `bench/run.py`, which does the rest.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hub::Profile;
use crate::{Result, hub, packages, run, tools};

/// What xtask itself understands; every other option is `run.py`'s.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    binary: Option<&'a str>,
    profile: Option<&'a str>,
    work: Option<&'a str>,
    out: Option<&'a str>,
    rest: Vec<&'a str>,
}

/// Runs the command.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let python = packages::bench()?;
    let script = crate::root().join("bench/run.py");
    // Asking for help builds nothing.
    let help = options.rest.iter().any(|option| matches!(*option, "--help" | "-h"));
    let binary = if help { PathBuf::new() } else { options.binary()? };
    let commit = if options.binary.is_none() { commit() } else { String::new() };
    let work = options.work.map_or_else(|| tools::target().join("bench"), PathBuf::from);
    let mut command = Command::new(python);
    command.arg(script).arg("--binary").arg(binary).arg("--work").arg(&work).arg("--commit").arg(commit);
    if let Some(day) = tools::train_ticket() {
        command.arg("--trainticket").arg(day);
    }
    run::show(command.arg("--out").arg(options.page(&work)).args(&options.rest))
}

/// What is built here, for the page; empty outside a clone.
fn commit() -> String {
    let mut git = Command::new("git");
    git.current_dir(crate::root()).args(["describe", "--always", "--dirty"]);
    run::output(&mut git).map(|text| text.trim().to_owned()).unwrap_or_default()
}

impl<'a> Options<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self> {
        let mut options = Options::default();
        let mut left = arguments.iter();
        while let Some(argument) = left.next() {
            let place = match *argument {
                "--binary" => &mut options.binary,
                "--profile" => &mut options.profile,
                "--work" => &mut options.work,
                "--out" => &mut options.out,
                other => {
                    options.rest.push(other);
                    continue;
                }
            };
            *place = Some(left.next().ok_or_else(|| format!("{argument} needs a value"))?);
        }
        Ok(options)
    }

    /// The binary to measure: the given one, or one built as people run it.
    fn binary(&self) -> Result<PathBuf> {
        if let Some(binary) = self.binary {
            let path = PathBuf::from(binary);
            return if path.is_file() { Ok(path) } else { Err(format!("{binary}: there is no such file")) };
        }
        match self.profile.unwrap_or("dist") {
            "dist" => hub::build(Profile::Dist),
            "release" => hub::build(Profile::Release),
            other => Err(format!("--profile {other}: dist or release")),
        }
    }

    /// Where the page goes: a quick run does not replace the committed one.
    fn page(&self, work: &Path) -> PathBuf {
        let quick = self.rest.contains(&"--quick");
        let usual =
            if quick { work.join("benchmarks-quick.md") } else { crate::root().join("docs/benchmarks.md") };
        self.out.map_or(usual, PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let options = Options::parse(&["--quick", "--binary", "x", "--sets", "shop", "--work", "w"]).unwrap();
        let expected = Options {
            binary: Some("x"),
            work: Some("w"),
            rest: vec!["--quick", "--sets", "shop"],
            ..Options::default()
        };
        assert_eq!(options, expected);
        assert!(Options::parse(&["--binary"]).is_err());
    }
}
