//! `cargo xtask demo`: builds the hub and the fleet (`demo/`), and lets the fleet run over it.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::hub::{self, Profile};
use crate::{Result, packages, run, tools, web};

/// The binary of the demo, unless `--dev` asks for the quickly built one.
const PROFILE: Profile = Profile::Release;

/// How the tests run it.
const TEST: &[&str] = &["--for", "30s", "--dev"];
/// And how before: the edge that stands where nginx cannot be had.
const TEST_RUST_EDGE: &[&str] = &["--for", "20s", "--dev", "--rust-edge"];
/// A file that a test's run has in its folder when all was well, and no other run.
const WHOLE: &str = "whole";
/// How old a run may be to be looked at again.
const KEPT: Duration = Duration::from_secs(30 * 60);

/// Runs the command. The fleet takes this process's place, so that Ctrl-C is for it alone, and the prompt comes when it is done.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let error = fleet(options)?.exec();
    Err(format!("the fleet could not be started: {error}"))
}

/// Runs it as a step of the tests, with its edge in Rust; nothing is kept.
pub(crate) fn test_rust_edge() -> Result<()> {
    run::show(&mut fleet(TEST_RUST_EDGE)?)
}

/// Runs it as a step of the tests. The folder that it wrote is kept until the next time.
pub(crate) fn test() -> Result<PathBuf> {
    let folder = kept();
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(wrong(error)),
        _ => {}
    }
    run::show(fleet(TEST)?.arg("--folder").arg(&folder))?;
    std::fs::write(folder.join(WHOLE), "").map_err(wrong)?;
    Ok(folder)
}

/// The folder of a run as a test: of the last one, if it has just been and was under this hub, else of one that is made now.
pub(crate) fn tested(hub: &Path) -> Result<PathBuf> {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|found| found.modified()).ok();
    let ended = modified(&kept().join(WHOLE));
    let is_young = ended.and_then(|ended| ended.elapsed().ok()).is_some_and(|age| age < KEPT);
    if is_young && ended >= modified(hub) { Ok(kept()) } else { test() }
}

fn kept() -> PathBuf {
    tools::target().join("fleet-run")
}

/// Builds everything; the command that runs the fleet.
fn fleet(options: &[&str]) -> Result<Command> {
    let (mut profile, mut rust_edge) = (PROFILE, false);
    let mut passed_on = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match *word {
            "--dev" => profile = Profile::Dev,
            "--for" => {
                let time = *words.next().ok_or("--for wants a time, as in --for 60s")?;
                passed_on.extend(["--for", time]);
            }
            "--quiet" => passed_on.push("--quiet"),
            "--rust-edge" => rust_edge = true,
            other => {
                return Err(format!(
                    "{other}: unknown; usage: cargo xtask demo [--for 60s] [--quiet] [--rust-edge] [--dev]"
                ));
            }
        }
    }
    tools::check(tools::BUILD)?;
    let node = tools::check(tools::DEMO_NODE);
    if let Err(error) = node.clone().and_then(|()| web::build()) {
        eprintln!("The page is not built; the rest goes on.\n{}", error.trim());
    }
    println!("Building the hub and the fleet. The first time takes a while: DataFusion is large.");
    let hub = hub::build(profile)?;
    let mut fleet = Command::new(build(profile)?);
    fleet.args(["run", "--hub"]).arg(hub).args(passed_on);
    // Without Python or Node the fleet has a service less, and says so.
    match tools::check(tools::DEMO_PYTHON).and_then(|()| packages::fleet_python()) {
        Ok(python) => drop(fleet.arg("--python").arg(python)),
        Err(error) => eprintln!("{error}\nThe fleet goes without its Python service."),
    }
    match node.and_then(|()| packages::fleet_node()) {
        Ok(folder) => drop(fleet.arg("--node").arg(folder)),
        Err(error) => eprintln!("{error}\nThe fleet goes without its Node service."),
    }
    match packages::nginx() {
        _ if rust_edge => {}
        Ok(path) => drop(fleet.arg("--nginx").arg(path)),
        Err(error) => eprintln!("{error}\nThe fleet's edge is its Rust edge."),
    }
    Ok(fleet)
}

/// Builds the fleet's binary and returns where it lies.
fn build(profile: Profile) -> Result<PathBuf> {
    let mut cargo = tools::cargo();
    let folder = match profile {
        // As the tests build it: any other choice of packages has other features, and much would be built again.
        Profile::Dev => {
            cargo.args(["test", "--quiet", "--workspace", "--test", "fleet", "--no-run"]);
            "debug"
        }
        Profile::Release | Profile::Dist => {
            cargo.args(["build", "--quiet", "--package", "threadline-demo", "--bin", "fleet", "--release"]);
            "release"
        }
    };
    run::show(&mut cargo)?;
    Ok(tools::target().join(folder).join("fleet"))
}
