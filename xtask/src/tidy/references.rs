//! Generated references exist, and a test of the crate that generates them compares them: the drift itself is that
//! test's to find.

use super::{Finding, Source};

/// Generated files that are committed.
const GENERATED: &[&str] = &["docs/cli.md", "docs/contract-events.md", "docs/openapi.json", "docs/settings.md"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    GENERATED.iter().filter_map(|path| missing(path, sources)).collect()
}

fn missing(path: &str, sources: &[Source]) -> Option<Finding> {
    if !sources.iter().any(|source| source.path == path) {
        return Some(Finding::new(path, 0, "is not there: generate and commit it"));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let compares = |source: &&Source| {
        let tests = source.path.contains("/tests/") || source.text.contains("#[cfg(test)]");
        source.path.starts_with("crates/")
            && source.path.ends_with(".rs")
            && tests
            && source.text.contains(name)
    };
    let compared = sources.iter().any(|source| compares(&source));
    (!compared).then(|| Finding::new(path, 0, "is generated, but no test of the crates compares it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_files_need_a_test() {
        let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let page = source("docs/cli.md", "");
        let test = source("crates/a/tests/it/cli.rs", "\"docs/cli.md\"");
        assert!(missing("docs/cli.md", &[]).is_some());
        assert!(missing("docs/cli.md", &[page]).is_some());
        assert!(missing("docs/cli.md", &[source("docs/cli.md", ""), test]).is_none());
    }
}
