//! The `threadline` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    threadline::cli::run(std::env::args_os())
}
