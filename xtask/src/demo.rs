//! `cargo xtask demo`: builds the hub and the fleet (`demo/`), and lets the fleet run over it.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::hub::{self, Profile};
use crate::{Result, packages, run, tools, web};

/// The binary of the demo, unless `--dev` asks for the quickly built one.
const PROFILE: Profile = Profile::Release;

/// Runs the command. The fleet takes this process's place, so that Ctrl-C is for it alone, and the prompt comes when it is done.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let error = fleet(options)?.exec();
    Err(format!("the fleet could not be started: {error}"))
}

/// Runs it as a step of the tests.
pub(crate) fn test(options: &[&str]) -> Result<()> {
    run::show(&mut fleet(options)?)
}

/// Builds everything; the command that runs the fleet.
fn fleet(options: &[&str]) -> Result<Command> {
    let mut profile = PROFILE;
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
            other => {
                return Err(format!("{other}: unknown; usage: cargo xtask demo [--for 60s] [--quiet] [--dev]"));
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
