//! `threadline import`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;
use threadline_model::builder::RecordLimits;
use threadline_model::jsonl::Mapping;
use threadline_store::{Env, Store};
use tokio::signal::unix::{SignalKind, signal};

use super::access::HubArgs;
use super::args::SettingArgs;
use super::failure::Failure;
use super::output::printable;
use super::source::{Source, decode};
use crate::contract::Gatekeeper;
use crate::import::sink::{DataSink, HubSink, SinkError};
use crate::import::{self, LineFormat, Options};

/// The port of OTLP over HTTP where none is told.
const DEFAULT_PORT: u16 = 4318;
/// How long a follower's request is tried again before it is tried anew, with what is told.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(2);
/// A request with records is answered within this time.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Files of JSON lines, plain, gzip or zstd; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Which field becomes what, such as `time=ts,body=text,service=app,resource.team=owner,ignore=tmp`.
    #[arg(long, value_name = "NAME=FIELD,…", default_value = "")]
    map: String,
    /// What the lines are.
    #[arg(long, value_enum, default_value_t)]
    format: LineKind,
    /// Lines per request at most.
    #[arg(long, value_name = "LINES", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Requests in flight.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    workers: u8,
    #[command(flatten)]
    hub: HubArgs,
    /// OTLP/HTTP address to send to, without asking the hub for it; any OTLP receiver will do.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    otlp: Option<String>,
    /// Write into this data folder instead; no hub may run on it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Follow the files as they grow, through rotations and while the hub is away, until Ctrl-C or SIGTERM.
    #[arg(long, conflicts_with = "data")]
    follow: bool,
    /// Where to keep what was sent of the files, so that the next `--follow` goes on there.
    #[arg(long, value_name = "FILE", requires = "follow")]
    state: Option<PathBuf>,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// What the lines of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LineKind {
    /// Told line by line.
    #[default]
    Auto,
    /// One record per line.
    Ndjson,
    /// OTLP/JSON, as the Collector's file exporter writes it.
    OtlpJson,
}

impl Import {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mapping = Mapping::with(&self.map).map_err(|error| Failure::Usage(format!("--map: {error}")))?;
        let settings = SettingArgs::default().load()?.settings;
        let options = Options {
            files: self.files,
            mapping: Arc::new(mapping),
            format: match self.format {
                LineKind::Auto => LineFormat::Auto,
                LineKind::Ndjson => LineFormat::Ndjson,
                LineKind::OtlpJson => LineFormat::OtlpJson,
            },
            batch_lines: self.batch as usize,
            line_bytes_max: settings.record_bytes_max,
            workers: usize::from(self.workers),
        };
        if self.follow && options.files.iter().any(|file| file.as_os_str() == "-") {
            return Err(Failure::Usage(
                "--follow: standard input ends by itself; leave --follow away".to_owned(),
            ));
        }
        let mut store = None;
        let (summary, took, outcome) = match &self.data {
            None => {
                let address = self.otlp.map_or_else(|| otlp_address(&self.hub), Ok)?;
                let access = self.hub.access(Some(REPLY_TIMEOUT))?;
                let sink = HubSink::new(&address, access.agent, access.authorization);
                if self.follow {
                    let tell = |text: &str| eprintln!("{}", printable(text));
                    import::follow::follow(
                        &options,
                        self.state.as_deref(),
                        &sink.patient(FOLLOW_PATIENCE),
                        until_asked()?,
                        &tell,
                    )
                } else {
                    import::run(&options, &sink)
                }
            }
            Some(data) => {
                let env = Env::local();
                let gatekeeper = Gatekeeper::new(&settings).map_err(Failure::Usage)?;
                let opened = Store::open(data, crate::hub::store_options(&settings), env.clone())?;
                let limits = RecordLimits { record_bytes_max: settings.record_bytes_max, ..Default::default() };
                store = Some(opened.clone());
                import::run(&options, &DataSink::new(opened, env, limits, gatekeeper))
            }
        };
        if let Some(store) = store {
            store.close()?;
        }
        let text = if self.json { format!("{}\n", summary.json(took)) } else { summary.text(took) };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        match outcome {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(SinkError::Unreachable(detail)) => Err(Failure::Unreachable(format!(
                "no hub at {detail}; start one with `threadline serve`, or name another with --hub"
            ))),
            Err(SinkError::Failed(detail) | SinkError::Refused(detail)) => Err(Failure::Failed(detail)),
        }
    }
}

/// Set by Ctrl-C and SIGTERM; a second one ends the process.
fn until_asked() -> Result<&'static AtomicBool, Failure> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _in_runtime = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if ASKED.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(&ASKED)
}

/// Asks a hub where it takes OTLP over HTTP. A token that may only send may not ask: then it is the usual port.
fn otlp_address(hub: &HubArgs) -> Result<String, Failure> {
    let base = hub.base();
    let usual = SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT));
    let document = match Source::hub(hub)?.document("/api/v1/stats", &[]) {
        Err(Failure::Denied(_)) => return Ok(reachable(&base, usual)),
        other => other?,
    };
    let stats: Value = decode(&document)?;
    let address = stats.pointer("/addresses/otlp_http").and_then(Value::as_str).and_then(|a| a.parse().ok());
    let address: SocketAddr = address.ok_or_else(|| {
        Failure::Failed(format!("{base} does not say where it takes OTLP: name the address with --otlp"))
    })?;
    Ok(reachable(&base, address))
}

/// A hub that listens on all addresses is reached by the host that its URL names; so is one with a certificate, which
/// is of a name.
fn reachable(hub: &str, address: SocketAddr) -> String {
    let (scheme, rest) = hub.split_once("://").unwrap_or(("http", hub));
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.parse::<http::uri::Authority>() {
        Ok(authority) if address.ip().is_unspecified() || scheme == "https" => {
            format!("{scheme}://{}:{}", authority.host(), address.port())
        }
        _ => format!("{scheme}://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_on_all_addresses_is_reached_by_its_name() {
        for (hub, address, want) in [
            ("http://logs.example:7311", "0.0.0.0:4318", "http://logs.example:4318"),
            ("logs.example:7311/", "[::]:4318", "http://logs.example:4318"),
            ("http://[::1]:7311", "[::]:4318", "http://[::1]:4318"),
            ("http://logs.example:7311", "10.0.0.7:4318", "http://10.0.0.7:4318"),
            ("https://logs.example", "10.0.0.7:4318", "https://logs.example:4318"),
        ] {
            assert_eq!(reachable(hub, address.parse().unwrap()), want);
        }
    }
}
