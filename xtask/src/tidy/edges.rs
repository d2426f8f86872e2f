//! Which crate may name which: the edges of the design, and the crates that a heavy dependency must not leave.

use serde_json::Value;

use super::Finding;
use crate::{Result, run, tools};

/// Workspace crates and the workspace crates they may name. A crate that is not listed may not exist.
const EDGES: &[(&str, &[&str])] = &[
    ("threadline-model", &[]),
    ("threadline-contract", &["threadline-model"]),
    ("threadline-store", &["threadline-model"]),
    ("threadline-detect", &["threadline-model"]),
    ("threadline-query", &["threadline-model", "threadline-store"]),
    (
        "threadline",
        &[
            "threadline-contract",
            "threadline-detect",
            "threadline-model",
            "threadline-query",
            "threadline-store",
            "threadline-verify",
        ],
    ),
    ("threadline-verify", &["threadline-contract", "threadline-model"]),
    ("threadline-sdk", &[]),
    ("threadline-demo", &["threadline-contract", "threadline-sdk"]),
    ("threadline-sim", &["threadline-model", "threadline-store"]),
    ("xtask", &[]),
];

/// Dependencies and the only workspace crates that may name them, for any purpose. A name that ends in `*` stands for
/// all that begin so.
const CONFINED: &[(&str, &[&str])] = &[
    ("datafusion*", &["threadline-query"]),
    ("parquet*", &["threadline-store"]),
    ("axum*", &["threadline", "threadline-demo", "threadline-sdk"]),
    ("clap*", &["threadline"]),
    ("hyper*", &["threadline", "threadline-demo", "threadline-sdk"]),
    ("tonic*", &["threadline", "threadline-sdk"]),
    ("tower*", &["threadline", "threadline-demo", "threadline-sdk"]),
    ("ureq*", &["threadline", "threadline-demo", "threadline-sdk"]),
    ("tokio*", &["threadline", "threadline-demo", "threadline-query", "threadline-sdk"]),
    ("deltalake*", &["threadline-store"]),
    ("object_store*", &["threadline-store"]),
    ("redb*", &["threadline"]),
    ("lettre*", &["threadline"]),
];

/// What a pure crate may name: nothing that does I/O, starts threads or knows a runtime.
const PURE: &[(&str, &[&str])] = &[
    (
        "threadline-model",
        &[
            "arrow-array",
            "arrow-buffer",
            "arrow-schema",
            "base64",
            "hashbrown",
            "itoa",
            "memchr",
            "rustc-hash",
            "ryu",
            "saphyr-parser",
            "serde",
            "serde_json",
            "sonic-rs",
            "xxhash-rust",
        ],
    ),
    ("threadline-contract", &["hashbrown", "memchr", "rustc-hash", "threadline-model"]),
    (
        "threadline-detect",
        &[
            "aho-corasick",
            "arrow-array",
            "arrow-schema",
            "base64",
            "crc32c",
            "hashbrown",
            "memchr",
            "regex",
            "regex-syntax",
            "rustc-hash",
            "threadline-model",
            "xxhash-rust",
        ],
    ),
];

/// A dependency as a manifest names it.
struct Edge {
    from: String,
    to: String,
    /// Only for tests.
    dev: bool,
}

pub(super) fn check() -> Result<Vec<Finding>> {
    let mut cargo = tools::cargo();
    cargo.args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: Value =
        serde_json::from_str(&run::output(&mut cargo)?).map_err(|error| format!("cargo metadata: {error}"))?;
    let (members, edges) = read(&metadata).ok_or("cargo metadata: not the shape that tidy knows")?;
    let mut findings: Vec<Finding> = members
        .iter()
        .filter(|member| !EDGES.iter().any(|(name, _)| name == member))
        .map(|member| broken(member, "is no crate of the design; give it its edges in xtask/src/tidy/edges.rs"))
        .collect();
    findings.extend(edges.iter().filter_map(|edge| judge(edge, &members)));
    Ok(findings)
}

fn read(metadata: &Value) -> Option<(Vec<String>, Vec<Edge>)> {
    let mut members = Vec::new();
    let mut edges = Vec::new();
    for package in metadata.get("packages")?.as_array()? {
        let from = package.get("name")?.as_str()?;
        members.push(from.to_owned());
        for dependency in package.get("dependencies")?.as_array()? {
            let to = dependency.get("name")?.as_str()?.to_owned();
            let dev = dependency.get("kind")?.as_str() == Some("dev");
            edges.push(Edge { from: from.to_owned(), to, dev });
        }
    }
    Some((members, edges))
}

fn judge(edge: &Edge, members: &[String]) -> Option<Finding> {
    let Edge { from, to, dev } = edge;
    let listed = |table: &[(&str, &[&str])], name: &str| {
        table.iter().find(|(key, _)| *key == name).map(|(_, values)| values.iter().any(|value| value == to))
    };
    if members.contains(to) {
        let allowed = listed(EDGES, from) == Some(true);
        return (!allowed)
            .then(|| broken(from, &format!("may not depend on {to}: no such edge in the design")));
    }
    if !dev && listed(PURE, from) == Some(false) {
        return Some(broken(from, &format!("is pure and may not depend on {to}")));
    }
    let covers = |pattern: &str| pattern.strip_suffix('*').map_or(to == pattern, |start| to.starts_with(start));
    let (_, homes) = CONFINED.iter().find(|(pattern, _)| covers(pattern))?;
    let at_home = homes.iter().any(|home| home == from);
    (!at_home).then(|| broken(from, &format!("may not depend on {to}: only {} may", homes.join(" and "))))
}

fn broken(member: &str, message: &str) -> Finding {
    let path = match member {
        "xtask" => "xtask/Cargo.toml".to_owned(),
        "threadline-demo" => "demo/Cargo.toml".to_owned(),
        member => format!("crates/{member}/Cargo.toml"),
    };
    Finding::new(&path, 0, format!("{member} {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_judged() {
        let members: Vec<String> = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
        let cases = [
            ("threadline-store", "threadline-model", false, true),
            ("threadline-model", "threadline-store", false, false),
            ("threadline-model", "threadline-store", true, false),
            ("threadline-sim", "threadline-query", false, false),
            ("threadline-query", "datafusion", false, true),
            ("threadline-store", "datafusion-common", true, false),
            ("threadline", "datafusion", false, false),
            ("threadline-query", "axum", false, false),
            ("threadline", "hyper-util", false, true),
            ("threadline-model", "tempfile", false, false),
            ("threadline-model", "tempfile", true, true),
            ("threadline-store", "tempfile", false, true),
        ];
        for (from, to, dev, allowed) in cases {
            let edge = Edge { from: from.to_owned(), to: to.to_owned(), dev };
            assert_eq!(judge(&edge, &members).is_none(), allowed, "{from} -> {to}, dev {dev}");
        }
    }
}
