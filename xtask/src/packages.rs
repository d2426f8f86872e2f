//! Python and Node packages that tests send with and the benchmark measures, pinned, in folders of their own under cargo's target folder.
//!
//! A folder's name carries a hash of what it was made from, so a changed pin makes a new one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, run, tools};

/// Marks a folder as fully installed.
const COMPLETE: &str = ".complete";

/// How often an installation is tried: packages come over a network.
const ATTEMPTS: u32 = 3;

/// A Python with the packages of `tests/senders/python/requirements.txt`: the interpreter's path.
pub(crate) fn python() -> Result<PathBuf> {
    virtual_environment("python", &senders("python/requirements.txt"))
}

/// A Python with the peers of the benchmark, `bench/requirements.txt`: the interpreter's path.
pub(crate) fn bench() -> Result<PathBuf> {
    virtual_environment("bench", &crate::root().join("bench/requirements.txt"))
}

/// A Python with the packages of the fleet's Python service: the interpreter's path.
pub(crate) fn fleet_python() -> Result<PathBuf> {
    virtual_environment("fleet-python", &crate::root().join("demo/python/requirements.txt"))
}

fn virtual_environment(name: &str, pins: &Path) -> Result<PathBuf> {
    let version = run::output(Command::new("python3").arg("--version"))?;
    let folder = folder(name, &[version.as_bytes(), &read(pins)?]);
    let interpreter = folder.join("bin/python");
    installed(&folder, &|| {
        run::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
            .map_err(|error| format!("{error}\nPython's venv is needed: apt-get install python3-venv"))?;
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]);
        run::show(pip.args(["--prefer-binary", "-r"]).arg(pins))
    })?;
    Ok(interpreter)
}

/// A folder with `tests/senders/node`'s script beside the packages of its lock file.
pub(crate) fn node() -> Result<PathBuf> {
    let folder = node_packages("node", &senders("node"))?;
    copy(&senders("node/send.mjs"), &folder.join("send.mjs"))?;
    Ok(folder)
}

/// A folder with the packages of the fleet's Node service.
pub(crate) fn fleet_node() -> Result<PathBuf> {
    node_packages("fleet-node", &crate::root().join("demo/node"))
}

/// Packages of the lock file in a folder.
fn node_packages(name: &str, from: &Path) -> Result<PathBuf> {
    let lock = read(&from.join("package-lock.json"))?;
    let folder = folder(name, &[&lock]);
    installed(&folder, &|| {
        let here = |file: &str| copy(&from.join(file), &folder.join(file));
        ["package.json", "package-lock.json", ".npmrc"].into_iter().try_for_each(here)?;
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]);
        run::show(&mut npm)
    })?;
    Ok(folder)
}

/// Makes a folder complete if it is not.
fn installed(folder: &Path, install: &dyn Fn() -> Result<()>) -> Result<()> {
    let complete = folder.join(COMPLETE);
    if complete.exists() {
        return Ok(());
    }
    println!("installing packages into {}", folder.display());
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        // What is left of an attempt that was broken off.
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        result = install();
        if result.is_ok() {
            return std::fs::write(&complete, "").map_err(|error| format!("{}: {error}", complete.display()));
        }
    }
    result
}

fn folder(name: &str, made_from: &[&[u8]]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    made_from.hash(&mut hasher);
    tools::target().join("packages").join(format!("{name}-{:016x}", hasher.finish()))
}

fn senders(path: &str) -> PathBuf {
    crate::root().join("crates/threadline/tests/senders").join(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(|_| ()).map_err(|error| format!("{}: {error}", from.display()))
}
