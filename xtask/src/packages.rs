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

/// A Python with the other implementation of Sigma, `xtask/sigma/requirements.txt`: the interpreter's path.
pub(crate) fn sigma() -> Result<PathBuf> {
    virtual_environment("sigma", &crate::root().join("xtask/sigma/requirements.txt"))
}

/// A Python with the packages of the fleet's Python service: the interpreter's path.
pub(crate) fn fleet_python() -> Result<PathBuf> {
    virtual_environment("fleet-python", &crate::root().join("demo/python/requirements.txt"))
}

/// A Python with a mail server and the reference library of Standard Webhooks, `tests/notify/requirements.txt`: the
/// interpreter's path.
pub(crate) fn notify_python() -> Result<PathBuf> {
    let pins = crate::root().join("crates/threadline/tests/notify/requirements.txt");
    virtual_environment("notify-python", &pins)
}

/// A Python with models of OCSF's classes, `tests/ocsf/requirements.txt`: the interpreter's path.
pub(crate) fn ocsf_python() -> Result<PathBuf> {
    let pins = crate::root().join("crates/threadline/tests/ocsf/requirements.txt");
    virtual_environment("ocsf-python", &pins)
}

/// Debian's Prometheus Alertmanager and amtool: the folder of the two, those of the system or else unpacked from Debian's package.
/// It is not installed: the package would start a server.
pub(crate) fn alertmanager() -> Result<PathBuf> {
    const PACKAGE: &str = "prometheus-alertmanager";
    if let Some(path) = which(PACKAGE).filter(|_| which("amtool").is_some()) {
        return Ok(path.parent().map(Path::to_owned).unwrap_or_default());
    }
    let remedy = format!("the tests with a real Alertmanager need it: install {PACKAGE} and amtool");
    Ok(unpacked("alertmanager", PACKAGE, &remedy)?.join("usr/bin"))
}

/// Debian's nginx: the program, the system's or else unpacked from Debian's package, which would start a server.
pub(crate) fn nginx() -> Result<PathBuf> {
    let system = Path::new("/usr/sbin/nginx");
    let remedy = "nginx with its rendered configuration needs it: install nginx";
    let path = match which("nginx").or_else(|| system.is_file().then(|| system.to_owned())) {
        Some(path) => path,
        None => unpacked("nginx", "nginx", remedy)?.join("usr/sbin/nginx"),
    };
    // Unpacked, it has only the libraries that are there.
    run::output(Command::new(&path).arg("-v")).map_err(|error| format!("{error}\n{remedy}"))?;
    Ok(path)
}

/// A folder with the files of one of Debian's packages, without those that it depends on.
fn unpacked(name: &str, package: &str, remedy: &str) -> Result<PathBuf> {
    if which("apt-get").is_none() || which("dpkg-deb").is_none() {
        return Err(remedy.to_owned());
    }
    let folder = folder(name, &[]);
    installed(&folder, &|| {
        let download =
            || run::show(Command::new("apt-get").current_dir(&folder).args(["download", "-qq", package]));
        if download().is_err() {
            // Its lists are empty, or old; only root may fetch them.
            run::show(Command::new("apt-get").args(["update", "-qq"]))?;
            download()?;
        }
        let of_folder = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut paths = of_folder.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let file = paths.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        let file =
            file.ok_or_else(|| format!("apt-get download {package} left nothing in {}", folder.display()))?;
        run::show(Command::new("dpkg-deb").arg("-x").arg(file).arg(&folder))
    })?;
    Ok(folder)
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

/// The packages of the page's lock file, in its own folder, where its tools look for them.
pub(crate) fn web(folder: &Path) -> Result<()> {
    let mut hasher = DefaultHasher::new();
    read(&folder.join("package-lock.json"))?.hash(&mut hasher);
    let hash = format!("{:016x}", hasher.finish());
    let complete = folder.join("node_modules").join(COMPLETE);
    if std::fs::read_to_string(&complete).is_ok_and(|found| found == hash) {
        return Ok(());
    }
    println!("installing packages into {}", folder.join("node_modules").display());
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        result = run::show(&mut npm);
        if result.is_ok() {
            return std::fs::write(&complete, hash).map_err(|error| format!("{}: {error}", complete.display()));
        }
    }
    result
}

/// Debian's Chromium: where it is. Who runs as root on Debian gets it installed.
pub(crate) fn chromium() -> Result<PathBuf> {
    let found = || ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| which(name));
    if let Some(path) = found() {
        return Ok(path);
    }
    let remedy = "the browser tests need Chromium: apt-get install chromium";
    let root = run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !root || which("apt-get").is_none() {
        return Err(remedy.to_owned());
    }
    println!("installing Chromium");
    run::show(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    run::show(apt.args(["install", "-y", "-qq", "--no-install-recommends", "chromium"]))?;
    found().ok_or_else(|| remedy.to_owned())
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
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
