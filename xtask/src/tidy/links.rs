//! Relative links in Markdown files lead somewhere, anchors included. Links out of the repository are not followed.

use std::collections::BTreeMap;

use super::{Finding, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let files: BTreeMap<&str, &str> =
        sources.iter().map(|source| (source.path.as_str(), source.text.as_str())).collect();
    let pages = sources.iter().filter(|source| source.path.ends_with(".md"));
    pages
        .flat_map(|page| {
            let files = &files;
            targets(&page.text).into_iter().filter_map(move |(line, target)| {
                let message = broken(&page.path, &target, files)?;
                Some(Finding::new(&page.path, line, message))
            })
        })
        .collect()
}

/// What is wrong with a link, if anything.
fn broken(page: &str, target: &str, files: &BTreeMap<&str, &str>) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { page.to_owned() } else { resolve(page, path)? };
    let folder = format!("{}/", file.trim_end_matches('/'));
    let Some(text) = files.get(file.as_str()) else {
        let is_folder = file.is_empty() || files.keys().any(|path| path.starts_with(&folder));
        return (!is_folder).then(|| format!("link to {target}: there is no {file}"));
    };
    let anchor = anchor.filter(|_| file.ends_with(".md"))?;
    (!anchors(text).iter().any(|known| known == anchor))
        .then(|| format!("link to {target}: {file} has no heading #{anchor}"))
}

/// A path relative to a page, from the root; `None` if it leaves the repository.
fn resolve(page: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Link targets of a page with their lines: `[text](target)`, `![text](target)` and `[text]: target`.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let rest = line.get(at + 2..).unwrap_or("");
            let target = rest.split([')', ' ']).next().unwrap_or("");
            found.push((number, target.trim_matches(['<', '>']).to_owned()));
        }
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some((_, target)) = definition {
            found.push((number, target.split(' ').next().unwrap_or("").to_owned()));
        }
    }
    found.retain(|(_, target)| !target.is_empty());
    found
}

/// Anchors of a page: its headings as GitHub names them, and explicit `id="…"`.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose_with_code(text) {
        if let Some(id) = line.split_once("id=\"").and_then(|(_, rest)| rest.split('"').next()) {
            anchors.push(id.to_owned());
        }
        let level = line.len() - line.trim_start_matches('#').len();
        let Some(title) =
            line.get(level..).filter(|_| (1..=6).contains(&level)).and_then(|t| t.strip_prefix(' '))
        else {
            continue;
        };
        let slug = slug(title.trim());
        let repeats = anchors.iter().filter(|known| **known == slug).count();
        anchors.push(if repeats == 0 { slug } else { format!("{slug}-{repeats}") });
    }
    anchors
}

fn slug(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The lines of a page with their numbers, without fenced blocks.
fn prose_with_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

/// Likewise, without `code` in the lines.
fn prose(text: &str) -> impl Iterator<Item = (usize, String)> {
    prose_with_code(text).map(|(number, line)| {
        let pieces: Vec<&str> = line.split('`').step_by(2).collect();
        (number, pieces.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed() {
        let page = "# The *first* title\n## Same\n## Same\n## `serve`, and more\n";
        let files = BTreeMap::from([("docs/a.md", page), ("docs/b.md", ""), ("src/x.rs", "")]);
        let cases = [
            ("b.md", true),
            ("./b.md", true),
            ("../src/x.rs", true),
            ("../src", true),
            ("../src/y.rs", false),
            ("c.md", false),
            ("#the-first-title", true),
            ("a.md#same", true),
            ("a.md#same-1", true),
            ("a.md#same-2", false),
            ("#serve-and-more", true),
            ("#nowhere", false),
            ("https://example.org/nowhere", true),
        ];
        for (target, good) in cases {
            assert_eq!(broken("docs/a.md", target, &files).is_none(), good, "{target}");
        }
    }

    #[test]
    fn targets_are_found_outside_code() {
        let page = "[a](b.md) and ![c](d.png \"title\")\n`[e](f.md)`\n```\n[g](h.md)\n```\n[i]: j.md\n";
        let found: Vec<String> = targets(page).into_iter().map(|(_, target)| target).collect();
        assert_eq!(found, ["b.md", "d.png", "j.md"]);
    }
}
