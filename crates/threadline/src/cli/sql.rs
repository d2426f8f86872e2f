//! `threadline sql`.

use std::io::{BufRead as _, Read as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::args::{OutputArgs, RangeArgs, ScopeArgs, Screen, SourceArgs};
use super::failure::Failure;
use super::output::RowWriter;
use super::search::found_code;
use super::source::{Source, trailing_problem};

/// Bytes of a statement.
const STATEMENT_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct Sql {
    /// The statement; `-` reads it from standard input.
    statement: String,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Sql {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::open(&self.source)?;
        let mut statement = self.statement;
        if statement == "-" {
            statement.clear();
            std::io::stdin().lock().take(STATEMENT_BYTES_MAX).read_to_string(&mut statement)?;
        }
        let mut request = Map::new();
        request.insert("query".to_owned(), statement.into());
        request
            .extend(self.range.pairs().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
        if self.scope.quarantined {
            request.insert("quarantined".to_owned(), true.into());
        }
        let answer = source.post("/api/v1/sql", &Value::Object(request))?;
        let out = Box::new(std::io::BufWriter::new(std::io::stdout().lock()));
        let mut writer = RowWriter::new(out, self.output.output, Screen::detect(), None, &[]);
        for line in answer.lines() {
            let line = line?;
            if let Some(failure) = trailing_problem(&line) {
                writer.end()?;
                return Err(failure);
            }
            writer.row(&line)?;
        }
        Ok(found_code(writer.end()?, self.output))
    }
}
