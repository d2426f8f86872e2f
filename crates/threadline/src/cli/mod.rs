//! The command line: one module per command. Help is generated from the declarations here (`docs/cli.md`).
//!
//! Exit codes: 0 done (also when nothing was found, unless `--fail-empty`), 1 failed or not intact, 2 the command or
//! the query is wrong, 3 nobody answers at the hub's address.

mod access;
mod args;
mod config;
mod contract;
mod erase;
mod failure;
mod histogram;
mod import;
mod incidents;
mod output;
mod reference;
mod rules;
mod search;
mod serve;
mod services;
mod source;
mod sql;
mod stats;
mod token;
mod trace;
mod traces;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use self::failure::Failure;
pub use self::reference::reference;

/// One host for the logs and traces of your microservices.
#[derive(Debug, Parser)]
#[command(name = "threadline", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed or not intact, 2 wrong command or query, 3 no hub answers."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub: take OTLP, keep it, answer queries.
    Serve(serve::Serve),
    /// Import files of JSON lines or OTLP/JSON lines.
    Import(import::Import),
    /// Find log records or spans.
    Search(search::Search),
    /// Show records as they arrive: `search --follow`.
    Tail(search::Tail),
    /// Run a SELECT over the tables `logs` and `spans`.
    Sql(sql::Sql),
    /// Rebuild a request from its trace id.
    Trace(trace::Trace),
    /// Find traces.
    Traces(traces::Traces),
    /// Show services and who calls whom.
    Services(services::Services),
    /// Show what the store holds and has done.
    Stats(stats::Stats),
    /// Check a data folder against its table log and its signed Merkle log.
    Verify(verify::Verify),
    /// Delete records for good, and record who asked for it and why.
    Erase(erase::Erase),
    /// Make, list and revoke the tokens that people and senders come in with.
    Token(token::Token),
    /// Show the contract, check records against it, tell who keeps it.
    Contract(contract::ContractCommand),
    /// Check, test and explain rules, run them over what is stored, tell what came of them.
    Rules(rules::RulesCommand),
    /// Work with incidents: list, show, acknowledge, assign, silence, resolve, report.
    Incidents(incidents::IncidentsCommand),
    /// Show the settings in effect, or their reference.
    Config(config::Config),
}

/// Runs a command line. Everything it says is on standard output or standard error by then.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.command.run(),
        Err(error) => {
            // Help and version go to standard output and are no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

impl Command {
    fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Serve(serve) => serve.run(),
            Command::Import(import) => import.run(),
            Command::Search(search) => search.run(),
            Command::Tail(tail) => tail.run(),
            Command::Sql(sql) => sql.run(),
            Command::Trace(trace) => trace.run(),
            Command::Traces(traces) => traces.run(),
            Command::Services(services) => services.run(),
            Command::Stats(stats) => stats.run(),
            Command::Verify(verify) => verify.run(),
            Command::Erase(erase) => erase.run(),
            Command::Token(token) => token.run(),
            Command::Contract(contract) => contract.run(),
            Command::Rules(rules) => rules.run(),
            Command::Incidents(incidents) => incidents.run(),
            Command::Config(config) => config.run(),
        }
    }
}
