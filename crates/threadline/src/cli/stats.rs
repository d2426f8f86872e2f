//! `threadline stats`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::args::{Format, OutputArgs, Screen, SourceArgs};
use super::failure::Failure;
use super::output::{Table, for_stdout};
use super::source::{Source, decode};

#[derive(Debug, Args)]
pub(super) struct Stats {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Stats {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::open(&self.source)?;
        let document = source.document("/api/v1/stats", &[])?;
        let mut out = std::io::stdout().lock();
        match self.output.output {
            Format::Json | Format::Ndjson => writeln!(out, "{}", for_stdout(document.trim_end()))?,
            Format::Table | Format::Csv => {
                let csv = self.output.output == Format::Csv;
                let mut rows = Vec::new();
                flatten("", &decode::<Value>(&document)?, &mut rows);
                let mut table = Table::new(&["counter", "value"]);
                if csv {
                    writeln!(out, "counter,value")?;
                }
                for (name, value) in rows {
                    if csv {
                        let line = format!("{},{}", super::output::csv(&name), super::output::csv(&value));
                        writeln!(out, "{}", for_stdout(&line))?;
                    } else {
                        table.row([name, value]);
                    }
                }
                if !csv {
                    table.write(&mut out, Screen::detect())?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Members of nested objects as `outer.inner`.
fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, rows);
            }
        }
        Value::String(text) => rows.push((prefix.to_owned(), text.clone())),
        other => rows.push((prefix.to_owned(), other.to_string())),
    }
}
