//! The fleet's command line.

use std::process::Command;

#[test]
fn what_it_does_not_know_it_says() {
    let out = Command::new(env!("CARGO_BIN_EXE_fleet")).arg("no-such-command").output();
    let out = out.unwrap_or_else(|error| panic!("{error}"));
    assert!(!out.status.success());
    assert!(!out.stderr.is_empty(), "it says why");
}
