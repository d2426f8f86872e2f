//! `cargo xtask demo`: a hub with a day of data in it, shown through the commands that people type.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::compare::{Scratch, data};
use crate::hub::{Addresses, Hub, Profile};
use crate::{Result, hub, run, tools, web};

/// The binary of the demo, unless `--dev` asks for the quickly built one.
const PROFILE: Profile = Profile::Release;

/// Runs the command.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let unknown = options.iter().find(|option| !matches!(**option, "--once" | "--dev"));
    if let Some(option) = unknown {
        return Err(format!("{option}: unknown; usage: cargo xtask demo [--once] [--dev]"));
    }
    let once = options.contains(&"--once");
    let profile = if options.contains(&"--dev") { Profile::Dev } else { PROFILE };
    if let Some(tool) = tools::missing(tools::BUILD).first() {
        return Err(format!("missing: {}\nto get it: {}", tool.purpose, tool.remedy));
    }
    if let Err(error) = web::build() {
        say(&format!("The page is not built ({}); the rest goes on.", error.trim()));
    }
    say("Building the hub. The first time takes a while: DataFusion is large.");
    let binary = hub::build(profile)?;
    let scratch = Scratch::new("demo")?;
    let addresses = if once { Addresses::free()? } else { Addresses::usual()? };
    let hub = Hub::start(&binary, &scratch.0.join("data"), addresses, &scratch.0.join("hub.log"))?;
    say(&format!("The hub runs (`threadline serve`), on {}.", scratch.0.display()));
    show(&binary, &hub, &scratch.0)?;
    print_addresses(&hub.addresses, &binary, once);
    if once {
        return Ok(());
    }
    say("It serves until Ctrl-C; then its data are deleted.");
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&asked)).map_err(|error| error.to_string())?;
    }
    hub.wait(&|| asked.load(Ordering::Relaxed))
}

/// The tour.
fn show(binary: &Path, hub: &Hub, scratch: &Path) -> Result<()> {
    let url = hub.addresses.url();
    let tour = Tour { binary, url: &url, usual: url == "http://127.0.0.1:7311" };
    let (logs, spans) = data(scratch)?;
    // The TrainTicket day lies in the past, and some of its records carry absurd times: those are kept by arrival.
    let day: &[&str] = match tools::train_ticket() {
        Some(_) => &["--from", "2023-01-29", "--to", "2023-01-30"],
        None => &[],
    };
    say("Files load with `import`; senders would use OTLP on the addresses below.");
    tour.step(&["import", &logs.display().to_string(), &spans.display().to_string()])?;
    say("Errors, newest first:");
    tour.step(&[&["search", "severity>=error", "--limit", "5"], day].concat())?;
    say("How many there were over time:");
    tour.step(&[&["search", "severity>=error", "--histogram"], day].concat())?;
    say("The slowest requests:");
    tour.step(&["traces", "--min-duration", "1s", "--limit", "5"])?;
    let found = tour.output(&["traces", "--min-duration", "1s", "--limit", "1", "-o", "ndjson"])?;
    let trace = trace_id(&found).ok_or_else(|| format!("no trace in {found}"))?;
    say("One of them, rebuilt from spans and logs of all services:");
    tour.step(&["trace", &trace])?;
    say("Who calls whom, how often, how well:");
    tour.step(&["services"])
}

fn trace_id(line: &str) -> Option<String> {
    let row: serde_json::Value = serde_json::from_str(line.lines().next()?).ok()?;
    row.get("trace_id")?.as_str().map(str::to_owned)
}

/// Runs commands of the binary, each shown as one would type it.
struct Tour<'a> {
    binary: &'a Path,
    url: &'a str,
    /// Whether the hub is where the commands look by themselves.
    usual: bool,
}

impl Tour<'_> {
    fn step(&self, arguments: &[&str]) -> Result<()> {
        let mut typed = Command::new("threadline");
        typed.args(arguments);
        if !self.usual {
            typed.args(["--hub", self.url]);
        }
        println!("\n{}", bold(&format!("$ {}", run::line(&typed))));
        run::show(&mut self.command(arguments))
    }

    fn output(&self, arguments: &[&str]) -> Result<String> {
        run::output(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary);
        command.args(arguments).args(["--hub", self.url]);
        command
    }
}

fn print_addresses(addresses: &Addresses, binary: &Path, once: bool) {
    let note = |usual: u16, address: SocketAddr| {
        let taken = !once && address.port() != usual;
        if taken { format!("  ({usual} is taken)") } else { String::new() }
    };
    say("Where it listens:");
    println!("  OTLP gRPC  http://{}{}", addresses.grpc, note(4317, addresses.grpc));
    println!("  OTLP HTTP  http://{}{}", addresses.http, note(4318, addresses.http));
    println!("  Page, API  http://{}{}", addresses.api, note(7311, addresses.api));
    println!("The binary is {}", binary.display());
}

fn say(text: &str) {
    println!("\n{text}");
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
