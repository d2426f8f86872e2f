//! Runs a sample service with the files that the contract renders and the language's real SDK, sends it requests that end
//! differently, and shows what arrives of it at a host that keeps what it is sent.
//!
//! Vocabulary:
//! - *sample*: a small service in the language, among this crate's files, with its packages pinned;
//! - *sink*: the host that it exports to, OTLP over HTTP on loopback, in this process;
//! - *row*: one thing that was to be shown, and whether it was.
//!
//! It starts programs of the machine (python3, node, go, java, mvn, nginx) and has them fetch packages from their registries, into a
//! folder of its own. It knows no hub and no store.

mod http;
mod nginx;
mod run;
mod sample;
mod show;
mod sink;

use std::path::PathBuf;

use threadline_contract::Contract;

pub use sample::Sample;
pub use show::{Report, Row};

/// What is verified, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The sample.
    pub sample: Sample,
    /// Folder to work in, which stays; none for a temporary one.
    pub keep: Option<PathBuf>,
    /// Packages that are there already, and are not fetched: for Python the interpreter of an environment that has them, for Node the
    /// folder that has `node_modules`, for nginx the program.
    pub installed: Option<PathBuf>,
}

/// Installs, runs, asks, and looks at what came. `say` is told what is being done, a line at a time.
///
/// # Errors
/// Why nothing could be shown: a program is not there, packages could not be had, the sample did not start. What was shown to be
/// missing is no error but in the report.
pub fn verify(options: &Options, contract: Contract, say: &mut dyn FnMut(&str)) -> Result<Report, String> {
    run::verify(options, contract, say)
}
