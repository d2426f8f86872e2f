//! `threadline services`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::args::{Format, OutputArgs, RangeArgs, ScopeArgs, Screen, SourceArgs};
use super::failure::Failure;
use super::output::{RowWriter, for_stdout};
use super::search::found_code;
use super::source::{Source, decode};
use super::trace::options;
use crate::trace_view::{ServicesWire, render_services};

#[derive(Debug, Args)]
pub(super) struct Services {
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Services {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::open(&self.source)?;
        let mut pairs = self.range.pairs();
        pairs.extend(self.scope.pairs());
        let document = source.document("/api/v1/services", &pairs)?;
        let services: ServicesWire = decode(&document)?;
        let mut out = std::io::stdout().lock();
        match self.output.output {
            Format::Json => writeln!(out, "{}", for_stdout(document.trim_end()))?,
            Format::Table => out.write_all(render_services(&services, &options(true, false)).as_bytes())?,
            format => {
                // Only the services are rows; who calls whom is in -o json.
                let mut writer = RowWriter::new(Box::new(out), format, Screen::detect(), None, &[]);
                for service in &services.services {
                    let line =
                        serde_json::to_string(service).map_err(|error| Failure::Failed(error.to_string()))?;
                    writer.row(&line)?;
                }
                writer.end()?;
            }
        }
        Ok(found_code(services.services.len() as u64, self.output))
    }
}
