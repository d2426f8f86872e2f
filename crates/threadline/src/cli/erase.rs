//! `threadline erase`.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use threadline_model::schema;
use threadline_query::lang;
use threadline_query::search::Matcher;
use threadline_store::{Env, Store, StoreError};

use super::access::HubArgs;
use super::args::SettingArgs;
use super::failure::Failure;
use super::source::{Source, decode};

#[derive(Debug, Args)]
pub(super) struct Erase {
    /// The search whose rows are deleted for good.
    search: String,
    /// From which table.
    #[arg(long, value_enum)]
    table: TableName,
    /// Why. Kept in the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who asks for it. Kept in the audit trail.
    #[arg(long, value_name = "TEXT")]
    who: String,
    /// Do it. Without this nothing is deleted.
    #[arg(long, required = true)]
    yes: bool,
    #[command(flatten)]
    hub: HubArgs,
    /// Delete in this data folder instead; no hub may run on it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TableName {
    /// Log records.
    Logs,
    /// Spans.
    Spans,
}

impl Erase {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let table = match self.table {
            TableName::Logs => schema::Table::Logs,
            TableName::Spans => schema::Table::Spans,
        };
        // Checked here too: an empty search would delete everything, and nobody means that by a slip.
        let expr = lang::parse(&self.search).map_err(|error| Failure::Query {
            detail: error.to_string(),
            place: Some((self.search.clone(), error.at, error.len)),
        })?;
        if expr == lang::Expr::All {
            return Err(Failure::Usage(
                "an empty search would delete the whole table: name what to delete".to_owned(),
            ));
        }
        let (rows, files) = match &self.data {
            Some(data) => self.in_folder(data, table, &expr)?,
            None => self.at_hub(table)?,
        };
        writeln!(std::io::stdout().lock(), "{rows} rows deleted, {files} files rewritten or removed")?;
        Ok(ExitCode::SUCCESS)
    }

    fn at_hub(&self, table: schema::Table) -> Result<(u64, u64), Failure> {
        let request =
            json!({"table": table.name(), "query": self.search, "reason": self.reason, "who": self.who});
        let mut document = String::new();
        Source::hub(&self.hub)?.post("/api/v1/erase", &request)?.read_to_string(&mut document)?;
        let answer: Value = decode(&document)?;
        let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
        Ok((number("rows"), number("files")))
    }

    fn in_folder(
        &self,
        data: &std::path::Path,
        table: schema::Table,
        expr: &lang::Expr,
    ) -> Result<(u64, u64), Failure> {
        let settings = SettingArgs::default().load()?.settings;
        let matcher = Matcher::new(expr, table).map_err(|error| Failure::Usage(error.to_string()))?;
        let store = Store::open(data, crate::hub::store_options(&settings), Env::local())?;
        let record = json!({"who": self.who, "reason": self.reason, "query": self.search}).to_string();
        let matches = |batch: &arrow_array::RecordBatch| {
            matcher.matches(batch).map_err(|error| StoreError::Invalid { detail: error.to_string() })
        };
        let erasure = store.erase(table, &matches, &record)?;
        store.close()?;
        Ok((erasure.rows, erasure.files))
    }
}
