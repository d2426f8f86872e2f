//! `threadline notify`: receivers, what waits for them, and whether they can be reached.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::access::HubArgs;
use super::args::{Format, OutputArgs, Screen};
use super::failure::Failure;
use super::output::{self, Table, for_stdout, list, printable, text};
use super::source::{Source, decode, encode};

#[derive(Debug, Args)]
pub(super) struct NotifyCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List receivers: what waits, what is dead, when they were reached last.
    List(List),
    /// Send a notice that says it is a test, and print what the target said.
    Test(Test),
    /// List the notices of a receiver that were given up.
    Dead(Dead),
    /// Have the dead of a receiver wait again, in their order.
    Replay(Replay),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Test {
    /// Name of the receiver.
    #[arg(value_name = "RECEIVER")]
    receiver: String,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Debug, Args)]
struct Dead {
    /// Name of the receiver.
    #[arg(value_name = "RECEIVER")]
    receiver: String,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Replay {
    /// Name of the receiver.
    #[arg(value_name = "RECEIVER")]
    receiver: String,
    /// Only those with these numbers, as `threadline notify dead` has them.
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
    #[command(flatten)]
    hub: HubArgs,
}

impl NotifyCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.what {
            What::List(list) => list.run(),
            What::Test(test) => test.run(),
            What::Dead(dead) => dead.run(),
            What::Replay(replay) => replay.run(),
        }
    }
}

fn path(receiver: &str, act: &str) -> String {
    let mut path = "/api/v1/notify/receivers/".to_owned();
    encode(&mut path, receiver);
    path.push('/');
    path.push_str(act);
    path
}

/// A list of an answer, in the format that was asked for.
fn show(document: &str, of: &str, head: &[&str], output: OutputArgs) -> Result<ExitCode, Failure> {
    let answer: Value = decode(document)?;
    let rows = list(&answer, of);
    match output.output {
        Format::Json => writeln!(std::io::stdout().lock(), "{}", for_stdout(document.trim_end()))?,
        Format::Table => {
            let mut out = std::io::stdout().lock();
            let mut table = Table::new(head);
            for row in &rows {
                table.row(head.iter().map(|name| text(row, &name.replace(' ', "_"))));
            }
            table.write(&mut out, Screen::detect())?;
            for problem in list(&answer, "problems") {
                writeln!(out, "problem: {}", printable(problem.as_str().unwrap_or_default()))?;
            }
        }
        format => output::rows(&rows, format)?,
    }
    Ok(if rows.is_empty() && output.fail_empty { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let document = Source::hub(&self.hub)?.document("/api/v1/notify/receivers", &[])?;
        let head =
            ["name", "target", "waiting", "dead", "sent", "failed", "last success", "last failure reason"];
        show(&document, "receivers", &head, self.output)
    }
}

impl Dead {
    fn run(self) -> Result<ExitCode, Failure> {
        let document = Source::hub(&self.hub)?.document(&path(&self.receiver, "dead"), &[])?;
        let head = ["number", "incident", "reason", "title", "died", "attempts", "why"];
        show(&document, "dead", &head, self.output)
    }
}

impl Test {
    fn run(self) -> Result<ExitCode, Failure> {
        let answer = answer(&self.hub, &path(&self.receiver, "test"), &json!({}))?;
        let taken = answer.get("taken").and_then(Value::as_bool).unwrap_or_default();
        let said = text(&answer, "said");
        let verdict = if taken { "taken" } else { "not taken" };
        writeln!(std::io::stdout().lock(), "{}: {verdict}: {said}", printable(&self.receiver))?;
        Ok(if taken { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

impl Replay {
    fn run(self) -> Result<ExitCode, Failure> {
        let body = if self.numbers.is_empty() { json!({}) } else { json!({"numbers": self.numbers}) };
        let answer = answer(&self.hub, &path(&self.receiver, "replay"), &body)?;
        writeln!(std::io::stdout().lock(), "{} notices wait again", text(&answer, "replayed"))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn answer(hub: &HubArgs, path: &str, body: &Value) -> Result<Value, Failure> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut Source::hub(hub)?.post(path, body)?, &mut text)?;
    decode(&text)
}
