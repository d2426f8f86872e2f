//! The hub's answers against an independent computation: `compare.py` over the same NDJSON.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hub::{Addresses, Hub, Profile};
use crate::{Result, hub, packages, run, shop, tools};

/// Runs the comparison over the TrainTicket day, or over the generated shop where that is absent.
pub(crate) fn run() -> Result<()> {
    let python = packages::python()?;
    let binary = hub::build(Profile::Dev)?;
    let folder = Scratch::new("compare")?;
    let (logs, spans) = data(&folder.0)?;
    let hub = Hub::start(&binary, &folder.0.join("data"), Addresses::free()?, &folder.0.join("hub.log"))?;
    let url = hub.addresses.url();
    run::show(Command::new(&binary).args(["import", "--hub", &url]).args([&logs, &spans]))?;
    let script = crate::root().join("xtask/compare.py");
    run::show(Command::new(python).arg(script).arg(&url).args([&logs, &spans]))
}

/// Logs and spans to load: a real day where it lies beside the repository, else the generated shop.
pub(crate) fn data(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    if let Some(day) = tools::train_ticket() {
        return Ok((day.join("logs.ndjson.zst"), day.join("spans.ndjson.zst")));
    }
    println!("../shared/data/trainticket is not there: taking a generated small shop instead");
    shop::write(&folder.join("shop"))
}

/// A folder that is gone when dropped.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// An empty folder under cargo's target folder.
    pub(crate) fn new(name: &str) -> Result<Scratch> {
        let folder = tools::target().join("xtask").join(format!("{name}-{}", std::process::id()));
        // What an earlier process of this id left.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left over, it is only in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
