//! `threadline trace`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::args::{Format, OutputArgs, ScopeArgs, Screen, SourceArgs};
use super::failure::Failure;
use super::output::for_stdout;
use super::source::{Source, decode, encode};
use crate::trace_view::{RenderOptions, TraceWire, render_trace};

#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Trace id, 32 hex digits.
    #[arg(value_name = "TRACE_ID")]
    id: String,
    /// Without the logs.
    #[arg(long)]
    no_logs: bool,
    /// With ids, instances and attributes of every span.
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Trace {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let id = self.id.trim();
        if threadline_model::id::TraceId::from_hex(id).is_none() {
            let detail = format!("`{id}` is no trace id: it has 32 hex digits, not all 0");
            return Err(Failure::Usage(detail));
        }
        let source = Source::open(&self.source)?;
        let mut path = "/api/v1/traces/".to_owned();
        encode(&mut path, id);
        let document = source.document(&path, &Vec::from_iter(self.scope.pairs()))?;
        let text = match self.output.output {
            Format::Json | Format::Ndjson => format!("{}\n", for_stdout(document.trim_end())),
            Format::Csv => return Err(Failure::Usage("a trace is no table: use -o json".to_owned())),
            Format::Table => {
                let trace: TraceWire = decode(&document)?;
                render_trace(&trace, &options(!self.no_logs, self.verbose))
            }
        };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// How traces are drawn on this screen.
pub(super) fn options(logs: bool, verbose: bool) -> RenderOptions {
    let screen = Screen::detect();
    let usual = RenderOptions::default();
    RenderOptions { width: screen.width.unwrap_or(usual.width), colour: screen.colour, logs, verbose }
}
