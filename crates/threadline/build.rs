//! Puts the rules of `rules/` into the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("pack.rs"), pack(&manifest.join("../../rules"))?)
}

/// Name and text of every rule file, by name.
fn pack(folder: &Path) -> io::Result<String> {
    let mut found = Vec::new();
    rules(folder, "", &mut found)?;
    found.sort();
    let mut table = String::from("&[\n");
    for (name, path) in found {
        let _ = writeln!(table, "({name:?}, include_str!({:?})),", path.display().to_string());
    }
    table.push(']');
    Ok(table)
}

fn rules(folder: &Path, prefix: &str, found: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            rules(&path, &format!("{prefix}{name}/"), found)?;
        } else if name.ends_with(".yml") {
            found.push((format!("{prefix}{name}"), path.clone()));
        }
    }
    Ok(())
}
