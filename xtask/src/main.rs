//! `cargo xtask`: build, demo, test and tidy commands of the workspace.
//!
//! Knows the workspace from outside only: it runs cargo, the `threadline` binary, Python and Node as processes and
//! links none of the crates, so that it builds in seconds.

mod bench;
mod compare;
mod demo;
mod hub;
mod packages;
mod run;
mod shop;
mod sigma;
mod suite;
mod tidy;
mod tools;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

/// What a task ends with: an error is a sentence for people.
type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [--for 60s] [--dev]      build, start a hub and a small fleet over mTLS, drive load and attacks through it, count what
                                is held (--for: end by itself; --dev: the quickly built binary)
  test [--nightly] [FILTER…]    everything: format, tidy, lints, all tests, senders, comparison, demo
                                (FILTER: names of steps, else of tests; --nightly: 10,000 simulation seeds)
  tidy [--bless]                crate edges, file heads, sizes, links (--bless: tighten the ratchet)
  bench [--quick] [OPTION…]     measure Threadline and its peers, write docs/benchmarks.md (bench --help: all options)
  compare                       the hub's answers against plain Python, over the TrainTicket day
  web                           build the page (web/dist), which the next build of the hub puts into the binary
  sigma                         the rule engine against pySigma with its SQLite backend
  shop DIR                      write the generated demo data, logs.ndjson and spans.ndjson, into DIR
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.split_first() {
        Some((&"demo", options)) => demo::run(options),
        Some((&"test", options)) => suite::run(options),
        Some((&"tidy", options)) => tidy::run(options),
        Some((&"bench", options)) => bench::run(options),
        Some((&"compare", [])) => compare::run(),
        Some((&"web", [])) => web::build(),
        Some((&"sigma", [])) => sigma::run(),
        Some((&"shop", [folder])) => shop::write(&PathBuf::from(folder)).map(|_| ()),
        Some((&("help" | "--help" | "-h"), _)) => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The repository's root.
fn root() -> PathBuf {
    // Cargo says at run time which clone it runs in. The path that was compiled in may be of another clone: with one
    // target folder for several, cargo takes a binary that is newer than the sources for its own.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let manifest = PathBuf::from(manifest);
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}
