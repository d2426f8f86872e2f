//! Puts the built page, `web/dist`, and the rules of `rules/` into the binary. Without the page built the binary has none:
//! building needs no Node.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let dist = manifest.join("../../web/dist");
    // The folder is always there, with nothing but a .gitignore before the page is built.
    println!("cargo::rerun-if-changed={}", dist.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut table = String::from("&[\n");
    for (name, path) in files(&dist)? {
        let Some(content_type) = content_type(&name) else { continue };
        let compressed = |extension: &str| {
            let path = dist.join(format!("{name}.{extension}"));
            if path.is_file() { format!("Some({})", bytes(&path)) } else { "None".to_owned() }
        };
        let (brotli, gzip) = (compressed("br"), compressed("gz"));
        let plain = bytes(&path);
        let _ = writeln!(
            table,
            "File {{ name: {name:?}, content_type: {content_type:?}, plain: {plain}, brotli: {brotli}, gzip: {gzip} }},"
        );
    }
    table.push(']');
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("web.rs"), table)?;
    fs::write(out.join("pack.rs"), pack(&manifest.join("../../rules"))?)
}

/// `index.html` and what is in `assets`, by name.
fn files(dist: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let index = dist.join("index.html");
    if !index.is_file() {
        return Ok(found);
    }
    found.push(("index.html".to_owned(), index));
    for entry in fs::read_dir(dist.join("assets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            found.push((format!("assets/{name}"), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

fn bytes(path: &Path) -> String {
    format!("include_bytes!({:?})", path.display().to_string())
}

fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next()? {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "woff2" => "font/woff2",
        _ => return None,
    })
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
