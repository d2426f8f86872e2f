//! The steps: render, install, start, ask, stop, look.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use threadline_contract::Contract;
use threadline_contract::registry::Registry;
use threadline_contract::render::{Service, render};

use crate::sample::{Sample, tail};
use crate::show::{self, REQUESTS};
use crate::sink::Sink;
use crate::{Options, Report, http, nginx};

/// How long a sample may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const OUTPUT: &str = "output.log";

pub(crate) fn verify(
    options: &Options,
    contract: Contract,
    say: &mut dyn FnMut(&str),
) -> Result<Report, String> {
    let sample = options.sample;
    let (folder, temporary) = folder(options.keep.as_deref())?;
    let contract = Arc::new(contract);
    let sink = Sink::start(Arc::clone(&contract))?;
    let service = Service {
        version: "1.0.0".to_owned(),
        environment: "verify".to_owned(),
        endpoint: format!("http://127.0.0.1:{}", sink.port),
        ..Service::new("sample")
    };
    let rendered = render(contract.registry(), &service, sample.lang())?;
    let own = sample.files().iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    for (path, text) in rendered.into_iter().chain(own) {
        write(&folder.join(path), &text)?;
    }
    let report = if sample == Sample::Nginx {
        nginx::verify(&folder, options.installed.as_deref(), contract.registry(), &sink, say)
    } else {
        service_report(options, &folder, contract.registry(), &sink, say)
    };
    let report = report.map_err(|error| format!("{error}\nwhat was run is in {}", folder.display()))?;
    if let Some(temporary) = temporary.filter(|_| report.is_whole()) {
        // What is left of it is in the way of nobody.
        let _ = temporary.close();
        return Ok(Report { folder: None, ..report });
    }
    Ok(report)
}

/// A service: packages, start, requests, end.
fn service_report(
    options: &Options,
    folder: &Path,
    registry: &Registry,
    sink: &Sink,
    say: &mut dyn FnMut(&str),
) -> Result<Report, String> {
    let sample = options.sample;
    match &options.installed {
        Some(path) => say(&format!("Using the packages of {}", path.display())),
        None => say(&format!("Fetching packages into {}: {}", folder.display(), sample.packages())),
    }
    sample.install(folder, options.installed.as_deref())?;
    let port = free_port()?;
    let process = start(options, folder, port)?;
    say(&format!("The sample listens on 127.0.0.1:{port}, the sink on 127.0.0.1:{}", sink.port));
    let mut statuses = Vec::new();
    for request in &REQUESTS {
        let answer = http::connect(port).and_then(|stream| {
            let headers = [("traceparent", request.traceparent()), ("user-agent", "verify/1".to_owned())];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            http::get(stream, request.path, &headers)
        });
        statuses.push(answer.map_err(|error| error.to_string()));
    }
    process.stop()?;
    Ok(show::report(sample, registry, &statuses, &sink.kept(), folder))
}

/// A folder to work in; a temporary one stays if something is missing.
fn folder(keep: Option<&Path>) -> Result<(PathBuf, Option<Temporary>), String> {
    if let Some(folder) = keep {
        let wrong = |reason: &dyn std::fmt::Display| format!("{}: {reason}", folder.display());
        std::fs::create_dir_all(folder).map_err(|error| wrong(&error))?;
        if std::fs::read_dir(folder).map_err(|error| wrong(&error))?.next().is_some() {
            return Err(wrong(&"it is not empty: a run has a folder of its own"));
        }
        return Ok((folder.canonicalize().map_err(|error| wrong(&error))?, None));
    }
    let made = tempfile::Builder::new().prefix("threadline-verify-").tempdir();
    let made = made.map_err(|error| format!("no temporary folder: {error}"))?;
    let path = made.path().canonicalize().map_err(|error| format!("{}: {error}", made.path().display()))?;
    Ok((path, Some(Temporary(Some(made)))))
}

/// A temporary folder that stays unless it is closed: what went wrong is to be looked at.
struct Temporary(Option<tempfile::TempDir>);

impl Temporary {
    fn close(mut self) -> std::io::Result<()> {
        self.0.take().map_or(Ok(()), tempfile::TempDir::close)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = self.0.take().map(tempfile::TempDir::keep);
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(wrong)?;
    std::fs::write(path, text).map_err(wrong)
}

pub(crate) fn free_port() -> Result<u16, String> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

/// A sample that runs; dropping it ends it.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

fn start(options: &Options, folder: &Path, port: u16) -> Result<Process, String> {
    let output = folder.join(OUTPUT);
    let wrong = |error: std::io::Error| format!("{}: {error}", output.display());
    let (first, second) =
        File::create(&output).and_then(|file| Ok((file.try_clone()?, file))).map_err(wrong)?;
    let mut command = options.sample.command(folder, options.installed.as_deref(), port);
    command.current_dir(folder).envs(variables(&folder.join("otel.env")));
    // What the machine's own environment says of telemetry is not what is verified.
    for name in std::env::vars_os().map(|(name, _)| name) {
        if name.to_str().is_some_and(|name| name.starts_with("OTEL_")) && !is_set(&command, &name) {
            command.env_remove(name);
        }
    }
    let spawned = command.stdin(Stdio::null()).stdout(first).stderr(second).process_group(0).spawn();
    let program = command.get_program().to_string_lossy().into_owned();
    let child = spawned.map_err(|error| format!("{program} could not be started: {error}"))?;
    Process::ready(child, output, port)
}

fn is_set(command: &std::process::Command, name: &std::ffi::OsStr) -> bool {
    command.get_envs().any(|(known, value)| known == name && value.is_some())
}

/// Variables of a file of `NAME=value` lines; a file that is not there has none.
fn variables(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Process {
    /// Waits until it listens.
    pub(crate) fn ready(child: Child, output: PathBuf, port: u16) -> Result<Process, String> {
        let mut process = Process { child, output };
        let deadline = Instant::now() + PATIENCE;
        while http::connect(port).is_err() {
            let ended = !matches!(process.child.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                return Err(format!("the sample did not start; it said:\n{}", process.said()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(process)
    }

    fn said(&self) -> String {
        tail(&std::fs::read_to_string(&self.output).unwrap_or_default())
    }

    /// Asks it to end, and waits: what it still has is sent.
    pub(crate) fn stop(mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("the sample ended by itself ({status}); it said:\n{}", self.said()));
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let seconds = PATIENCE.as_secs();
        Err(format!("the sample did not end within {seconds} s of SIGTERM; it said:\n{}", self.said()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
