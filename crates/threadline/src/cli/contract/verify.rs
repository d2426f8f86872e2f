//! `threadline contract verify`: a sample service with the rendered files and the real SDK, and what arrives of it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use threadline_contract::render::Lang;
use threadline_verify::{Options, Sample, verify};

use super::{Failure, Folder, Screen, Table, lang, printable};

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Language of the sample, or nginx: python, node, go, java, nginx.
    #[arg(long, value_name = "LANG", value_parser = lang)]
    lang: Lang,
    /// Folder to work in, new or empty, which stays: rendered files, sample, packages, what it said. A temporary one unless it is
    /// given, which stays only when something is missing.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Packages that are there already, so that none are fetched: a Python that has them, the folder with `node_modules`, or
    /// the program nginx.
    #[arg(long, value_name = "PATH")]
    packages: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
}

impl Verify {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let sample = Sample::of(self.lang).map_err(Failure::Usage)?;
        let contract = self.folder.load()?;
        let options = Options { sample, keep: self.keep, installed: self.packages };
        let mut say = |line: &str| eprintln!("{}", printable(line));
        let report = verify(&options, contract, &mut say).map_err(Failure::Failed)?;
        let mut table = Table::new(&["", "what", "shown by"]);
        for row in &report.rows {
            let mark = if row.shown { "ok" } else { "missing" };
            table.row([mark.to_owned(), printable(&row.what), printable(&row.detail)]);
        }
        let mut out = std::io::stdout().lock();
        table.write(&mut out, Screen::detect())?;
        // A terminal's table is cut to its width.
        for row in report.rows.iter().filter(|row| !row.shown) {
            writeln!(out, "\nmissing: {}: {}", printable(&row.what), printable(&row.detail))?;
        }
        let missing = report.rows.iter().filter(|row| !row.shown).count();
        writeln!(out, "\n{} of {} shown for {sample}", report.rows.len() - missing, report.rows.len())?;
        if let Some(folder) = &report.folder {
            eprintln!("What was run is in {}", folder.display());
        }
        Ok(ExitCode::from(u8::from(missing > 0)))
    }
}
