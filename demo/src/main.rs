//! A small fleet on loopback: an edge (nginx, or one in Rust), three services on the SDK, one in Python and one in Node, everything between them by mTLS,
//! tokens checked where they arrive. `fleet run` starts it with a hub, drives load and attacks through it, and counts whether the
//! hub holds all of it. `cargo xtask demo` builds what it needs and calls it.
//!
//! Vocabulary:
//! - *fleet folder*: what one run has on disk: certificates, a `threadline.toml` per service, logs, the hub's data;
//! - *journey*: a request of the load generator and the services that it must have crossed.

mod attacks;
mod careless;
mod edge;
mod hub;
mod incidents;
mod jwt;
mod load;
mod mesh;
mod pki;
mod process;
mod receiver;
mod report;
mod run;
mod services;

use std::process::ExitCode;

/// What a part ends with: an error is a sentence for people.
type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "\
usage: fleet run --hub PATH [--for 60s] [--python PATH] [--node DIR] [--nginx PATH] [--folder DIR]
                  [--quiet]
       fleet serve edge|orders|catalogue|payment   (its settings come from `fleet run`)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.split_first() {
        Some((&"run", options)) => run::run(options),
        Some((&"serve", [name])) => services::serve(name),
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
