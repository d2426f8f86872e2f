//! `threadline traces`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::args::{Format, OutputArgs, RangeArgs, ScopeArgs, Screen, SourceArgs};
use super::failure::Failure;
use super::output::{RowWriter, for_stdout};
use super::search::found_code;
use super::source::{Source, decode};
use super::trace::options;
use crate::trace_view::{TracesWire, render_traces};

#[derive(Debug, Args)]
pub(super) struct Traces {
    /// A search that a span of the trace fulfils. One that begins with `-` goes after `--`.
    #[arg(value_name = "SEARCH")]
    search: Vec<String>,
    /// Service of the span.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Name of the span.
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Least duration of the trace.
    #[arg(long, value_name = "DURATION")]
    min_duration: Option<String>,
    /// Greatest duration of the trace.
    #[arg(long, value_name = "DURATION")]
    max_duration: Option<String>,
    /// Status of the trace.
    #[arg(long, value_enum)]
    status: Option<Status>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Traces at most.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Whether a trace has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Status {
    /// No span and no log says that it has.
    Ok,
    /// A span failed, or a log has severity ERROR or above.
    Error,
}

impl Traces {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::open(&self.source)?;
        let status = self.status.map(|status| match status {
            Status::Ok => "ok".to_owned(),
            Status::Error => "error".to_owned(),
        });
        let search = (!self.search.is_empty()).then(|| self.search.join(" "));
        let given = [
            ("q", search),
            ("service", self.service),
            ("operation", self.operation),
            ("duration_min", self.min_duration),
            ("duration_max", self.max_duration),
            ("status", status),
        ];
        let mut pairs = vec![("limit", self.limit.to_string())];
        pairs.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        pairs.extend(self.range.pairs());
        pairs.extend(self.scope.pairs());
        let document = source.document("/api/v1/traces", &pairs)?;
        let traces: TracesWire = decode(&document)?;
        let mut out = std::io::stdout().lock();
        match self.output.output {
            Format::Json => writeln!(out, "{}", for_stdout(document.trim_end()))?,
            Format::Table => out.write_all(render_traces(&traces, &options(true, false)).as_bytes())?,
            format => {
                let mut writer = RowWriter::new(Box::new(out), format, Screen::detect(), None, &[]);
                for trace in &traces.traces {
                    let line =
                        serde_json::to_string(trace).map_err(|error| Failure::Failed(error.to_string()))?;
                    writer.row(&line)?;
                }
                writer.end()?;
            }
        }
        Ok(found_code(traces.traces.len() as u64, self.output))
    }
}
