//! Our Sigma engine against another implementation of Sigma: `sigma/oracle.py` over the same rules and events.

use std::process::Command;

use crate::{Result, packages, run, tools};

/// Runs the comparison: over what it generates, and over rules and events of others where they lie beside the repository.
pub(crate) fn run() -> Result<()> {
    let python = packages::sigma()?;
    let mut cargo = tools::cargo();
    // All packages: a part of them would have other features, and much would be built again.
    run::show(cargo.args(["build", "--workspace", "--example", "hits"]))?;
    let mut oracle = Command::new(python);
    oracle.arg(crate::root().join("xtask/sigma/oracle.py")).arg(tools::target().join("debug/examples/hits"));
    match tools::shared_data() {
        Some(data) => drop(oracle.arg(data.join("sigma")).arg(data.join("panther/events.ndjson"))),
        None => println!("../shared/data/sigma is not there: comparing what is generated only"),
    }
    run::show(&mut oracle)
}
