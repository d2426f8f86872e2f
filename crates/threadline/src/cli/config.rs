//! `threadline config`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::args::{Screen, SettingArgs};
use super::failure::Failure;
use super::output::Table;
use crate::settings::{self, TABLE};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Config {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    settings: SettingArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the reference of all settings as Markdown.
    Reference,
    /// Print the reference of all commands as Markdown.
    Commands,
}

impl Config {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut out = std::io::stdout().lock();
        match self.what {
            Some(What::Reference) => write!(out, "{}", settings::reference())?,
            Some(What::Commands) => write!(out, "{}", super::reference())?,
            None => {
                let effective = self.settings.load()?;
                let mut table = Table::new(&["setting", "value", "from"]);
                for (setting, origin) in TABLE.iter().zip(&effective.origins) {
                    let value = setting.value(&effective.settings);
                    table.row([setting.name.to_owned(), value, origin.to_string()]);
                }
                table.write(&mut out, Screen { width: None, ..Screen::detect() })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
