//! The figures of docs/baselines.md, made anew from labelled data: prints the tables, and holds the detector to a floor.
//!
//! `cargo test -p threadline-detect --test figures -- --nocapture`. Without the data the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod nab;
mod trainticket;

use std::path::{Path, PathBuf};

/// A folder of the data for tests, which lies beside the repository.
fn data(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found =
        own.ancestors().map(|folder| folder.join("shared/data").join(name)).find(|folder| folder.exists());
    if found.is_none() {
        eprintln!("skipped: shared/data/{name} is not beside the repository");
    }
    found
}
