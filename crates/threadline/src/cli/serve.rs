//! `threadline serve`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;
use threadline_store::Env;
use tokio::signal::unix::{SignalKind, signal};

use super::args::SettingArgs;
use super::failure::Failure;
use crate::Components;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Log as JSON.
    #[arg(long, env = "THREADLINE_LOG_JSON", action = clap::ArgAction::SetTrue, value_parser = clap::builder::BoolishValueParser::new())]
    log_json: bool,
    /// What to log, such as `info` or `warn,threadline=debug`.
    #[arg(long, value_name = "FILTER", env = "THREADLINE_LOG", default_value = "info")]
    log: String,
    #[command(flatten)]
    settings: SettingArgs,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        log(&self.log, self.log_json)?;
        let settings = self.settings.load()?.settings;
        let data = settings.data_dir.clone();
        let signals = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Before the hub starts, so that a signal during recovery is not lost.
        let mut stop = signals.block_on(async { Signals::listen() })?;
        let hub = crate::start(settings, Components { env: Env::local() })
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let addresses = hub.addresses();
        eprintln!("threadline {} is up, data in {}", env!("CARGO_PKG_VERSION"), data.display());
        let scheme = if hub.has_tls() { "https" } else { "http" };
        eprintln!("  OTLP/gRPC  {scheme}://{}", addresses.otlp_grpc);
        eprintln!("  OTLP/HTTP  {scheme}://{}", addresses.otlp_http);
        eprintln!("  API        {scheme}://{}", addresses.api);
        while signals.block_on(stop.wait()) == Signal::Reload {
            match hub.reload() {
                Ok(()) => tracing::info!("tokens, certificates and contract read again"),
                Err(problems) => tracing::error!("some stays as it was:\n{problems}"),
            }
        }
        eprintln!("stopping");
        hub.shutdown()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What one is asked for by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Stop,
    Reload,
}

struct Signals {
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.terminate.recv() => Signal::Stop,
        }
    }
}

fn log(filter: &str, json: bool) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::Usage(format!("--log {filter}: {error}")))?;
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    let outcome = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
    outcome.map_err(|error| Failure::Failed(error.to_string()))
}
