//! The page: building `web/dist` with Node, its checks, and its tests in a real browser.
//!
//! What was built is kept until a source changes: a new file in `web/dist` makes cargo build the hub again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::hub::Profile;
use crate::{Result, compare, demo, hub, packages, run, tools};

/// Where the hash of the sources stands that `web/dist` was built from.
const BUILT_FROM: &str = ".built-from";

/// The browser tests end within this time.
const BROWSER_LIMIT: Duration = Duration::from_secs(20 * 60);

fn folder() -> PathBuf {
    crate::root().join("web")
}

/// Builds the page unless it is there already.
pub(crate) fn build() -> Result<()> {
    let dist = folder().join("dist");
    let hash = sources()?;
    if std::fs::read_to_string(dist.join(BUILT_FROM)).is_ok_and(|built| built == hash) {
        return Ok(());
    }
    packages::web(&folder())?;
    println!("building the page");
    run::show(npm(&["run", "--silent", "build"]).arg("--").args(["--logLevel", "warn"]))?;
    std::fs::write(dist.join(BUILT_FROM), hash).map_err(|error| format!("{}: {error}", dist.display()))
}

/// Types, templates and units of the page, then the build; how many checks that were.
pub(crate) fn check() -> Result<u64> {
    packages::web(&folder())?;
    run::show(&mut npm(&["run", "--silent", "check"]))?;
    run::show(&mut npm(&["run", "--silent", "unit"]))?;
    build()?;
    Ok(3)
}

/// Runs the browser tests over a day of data and a run of the fleet; each line they write goes to `each`.
pub(crate) fn browse(each: &mut dyn FnMut(&str)) -> Result<()> {
    let chromium = packages::chromium()?;
    build()?;
    let binary = hub::build(Profile::Dev)?;
    let fleet = demo::tested(&binary)?;
    let scratch = compare::Scratch::new("browser")?;
    let (logs, spans) = compare::data(&scratch.0)?;
    let day = std::env::join_paths([logs, spans]).map_err(|error| format!("the day's files: {error}"))?;
    let mut node = Command::new("node");
    node.current_dir(folder())
        .arg("tests/browser/run.mjs")
        .env("THREADLINE_BINARY", &binary)
        .env("THREADLINE_FLEET", fleet)
        .env("THREADLINE_DAY", day)
        .env("THREADLINE_CHROMIUM", chromium)
        .env("THREADLINE_SCREENS", tools::target().join("web-screens"));
    run::watch(&mut node, BROWSER_LIMIT, each)
}

fn npm(arguments: &[&str]) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(folder()).args(arguments);
    npm
}

/// A hash of everything that the build depends on.
fn sources() -> Result<String> {
    let mut files = vec![crate::root().join("docs/openapi.json")];
    for name in ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"] {
        files.push(folder().join(name));
    }
    collect(&folder().join("src"), &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for path in files {
        // Made by the build.
        if path.ends_with("api/schema.d.ts") {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        (path.strip_prefix(crate::root()).unwrap_or(&path), bytes).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
