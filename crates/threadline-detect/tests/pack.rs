#![allow(clippy::unwrap_used)]
//! The rules that come with Threadline are taken, and find what their own tests say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use threadline_detect::pipeline::builtin;
use threadline_detect::rules::{Options, RuleSet, SourceFile};
use threadline_detect::testing::run_tests;

#[test]
fn the_pack_finds_what_its_tests_say() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let mut files = Vec::new();
    read(&folder, &mut files);
    let sources: Vec<SourceFile<'_>> = files.iter().map(|(name, text)| SourceFile { name, text }).collect();
    let options = Options { pipelines: builtin().unwrap(), any_log_source: false, ..Options::default() };
    let (rules, problems) = RuleSet::compile(&sources, &options);
    assert!(problems.is_empty(), "{problems:#?}");
    let outcomes = run_tests(&Arc::new(rules));
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| {
            let failure = outcome.failure.as_ref()?;
            Some(format!("{}:{} {}: {}: {failure}", outcome.file, outcome.line, outcome.rule, outcome.test))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} tests failed\n{}", failed.len(), outcomes.len(), failed.join("\n"));
    assert!(outcomes.len() > 40, "only {} tests", outcomes.len());
    // What the documents promise of it.
    let count = |of: &str| files.iter().map(|(_, text)| text.matches(of).count()).sum::<usize>();
    let findings = count("title: ") - count("not a finding of its own");
    for (name, text) in [
        ("README.md", format!("{findings} rules for fleets of services")),
        ("rules/README.md", format!("{findings} findings for fleets of services")),
    ] {
        let path = folder.join("..").join(name);
        assert!(std::fs::read_to_string(&path).unwrap().contains(&text), "{name} does not say: {text}");
    }
}

fn read(folder: &Path, out: &mut Vec<(String, String)>) {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "yml") {
            out.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}
