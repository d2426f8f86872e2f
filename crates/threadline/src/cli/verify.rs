//! `threadline verify`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use threadline_store::{Env, Store, VerifyReport};

use super::args::{Format, OutputArgs};
use super::failure::Failure;
use crate::import::summary::grouped;

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The data folder. It is only read; a hub may run on it.
    #[arg(long, value_name = "DIR", env = "THREADLINE_DATA_DIR", default_value = "./threadline-data")]
    data: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

impl Verify {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let store = Store::open_read_only(&self.data, Env::local())?;
        let report = store.verify()?;
        let text = match self.output.output {
            Format::Json | Format::Ndjson => format!("{}\n", json(&report)),
            Format::Table | Format::Csv => text(&report),
        };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::from(u8::from(!report.findings.is_empty())))
    }
}

fn text(report: &VerifyReport) -> String {
    let mut out = format!(
        "{} files with {} rows, {} records of the write-ahead log, {} leaves of the Merkle log ({} tombstones)\n",
        grouped(report.files),
        grouped(report.rows),
        grouped(report.wal_records),
        grouped(report.merkle_leaves),
        grouped(report.tombstones),
    );
    if !report.merkle_root.is_empty() {
        out.push_str(&format!("signed root {}\n", report.merkle_root));
    }
    if report.findings.is_empty() {
        out.push_str("intact\n");
    }
    for finding in &report.findings {
        out.push_str(&format!("NOT INTACT: {finding}\n"));
    }
    out
}

fn json(report: &VerifyReport) -> serde_json::Value {
    serde_json::json!({
        "files": report.files,
        "rows": report.rows,
        "wal_records": report.wal_records,
        "merkle_leaves": report.merkle_leaves,
        "tombstones": report.tombstones,
        "merkle_root": report.merkle_root,
        "findings": report.findings,
    })
}
