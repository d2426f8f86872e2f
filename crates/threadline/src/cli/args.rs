//! Groups of arguments that commands share.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use super::access::HubArgs;
use super::failure::Failure;
use crate::settings::kind::Switch;
use crate::settings::{Effective, FILE_BYTES_MAX, FILE_NAME, Sources, TABLE};

/// Where records are read.
#[derive(Clone, Debug, Args)]
pub(super) struct SourceArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Read this data folder instead, without a hub and without writing.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

/// Which records are asked for, where a search cannot say it.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct ScopeArgs {
    /// With records in quarantine, which are left out otherwise.
    #[arg(long)]
    pub(super) quarantined: bool,
}

impl ScopeArgs {
    /// As parameters of a request.
    pub(super) fn pairs(self) -> Option<(&'static str, String)> {
        self.quarantined.then(|| ("quarantined", "1".to_owned()))
    }
}

/// A range of event times.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct RangeArgs {
    /// From this long ago, such as `15m`, `1h`, `7d`.
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    pub(super) since: Option<String>,
    /// From this time on: RFC 3339, a date, Unix time, `-1h`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) from: Option<String>,
    /// Up to this time, without it.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) to: Option<String>,
}

impl RangeArgs {
    /// As parameters of a request.
    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        [("since", &self.since), ("from", &self.from), ("to", &self.to)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people; also when piped, then without colours and without a bound on the width.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line, as they come.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(super) struct OutputArgs {
    /// Format of the answer. Machine formats are never cut.
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
    /// Show times in UTC instead of local time.
    #[arg(long)]
    pub(super) utc: bool,
    /// Exit with 1 when nothing was found.
    #[arg(long)]
    pub(super) fail_empty: bool,
}

/// What standard output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Screen {
    /// Columns; `None` = no bound.
    pub(super) width: Option<usize>,
    /// With colours.
    pub(super) colour: bool,
}

impl Screen {
    /// Of this process. `NO_COLOR` and `TERM=dumb` turn colours off, `CLICOLOR_FORCE` turns them on.
    pub(super) fn detect() -> Screen {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let terminal = std::io::stdout().is_terminal();
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let colour = !set("NO_COLOR") && (set("CLICOLOR_FORCE") || terminal && !dumb);
        let width = terminal.then(|| {
            terminal_size::terminal_size().map_or(120, |(terminal_size::Width(width), _)| usize::from(width))
        });
        Screen { width, colour }
    }
}

/// Settings as flags: one per row of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingArgs {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |name: &'static str| Some((name, matches.get_one::<String>(name)?.clone()));
        Ok(Self {
            file: matches.get_one::<PathBuf>("config_file").cloned(),
            flags: TABLE.iter().filter_map(|setting| value(setting.name)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config_file")
            .long("config")
            .value_name("FILE")
            .env("THREADLINE_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Settings file [default: threadline.toml when there is one]");
        let defaults = crate::settings::Settings::default();
        TABLE.iter().fold(command.arg(file), |command, setting| {
            let default = match setting.value(&defaults) {
                text if text.is_empty() => String::new(),
                text => format!(" [default: {text}]"),
            };
            let argument = Arg::new(setting.name)
                .long(setting.flag())
                .value_name(setting.kind.to_uppercase())
                .allow_hyphen_values(true)
                .help_heading("Settings (docs/settings.md)")
                .help(format!("{}{default}", setting.doc.trim().trim_end_matches('.')));
            // A switch that is named is on.
            command.arg(if setting.kind == Switch::NAME {
                argument.num_args(0..=1).default_missing_value("true").allow_hyphen_values(false)
            } else {
                argument
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl SettingArgs {
    /// The settings in effect: these flags over the environment over the file over the defaults.
    pub(super) fn load(&self) -> Result<Effective, Failure> {
        let file = match &self.file {
            Some(path) => Some(read(path)?),
            None => {
                let path = PathBuf::from(FILE_NAME);
                if path.exists() { Some(read(&path)?) } else { None }
            }
        };
        let variable = |name: &str| std::env::var(name).ok();
        Effective::load(Sources { file, variable: &variable, flags: self.flags.clone() })
            .map_err(|error| Failure::Usage(error.to_string()))
    }
}

fn read(path: &std::path::Path) -> Result<(PathBuf, String), Failure> {
    let wrong = |reason: String| Failure::Usage(format!("{}: {reason}", path.display()));
    let meta = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("a settings file has at most {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Ok((path.to_path_buf(), text))
}
