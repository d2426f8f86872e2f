//! `threadline-sim [FIRST [COUNT]]`: runs seeds and stops at the first that breaks an invariant.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap_or(0));
    let first = arguments.next().unwrap_or(0);
    let count = arguments.next().unwrap_or(1);
    for seed in first..first.saturating_add(count) {
        match threadline_sim::run(seed) {
            Ok(outcome) if count == 1 => println!("seed {seed}: {outcome:?}"),
            Ok(_) if (seed - first) % 100 == 99 => println!("{} seeds held", seed - first + 1),
            Ok(_) => {}
            Err(what) => {
                eprintln!("{what}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
