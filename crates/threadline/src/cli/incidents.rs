//! `threadline incidents`: what people work with, and what they do about it.

use std::io::{Read as _, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::access::HubArgs;
use super::args::{Format, OutputArgs, Screen};
use super::failure::Failure;
use super::output::{Paint, Table, list, printable, rows, text};
use super::source::{Source, decode};

#[derive(Debug, Args)]
pub(super) struct IncidentsCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List incidents, the newest first.
    List(List),
    /// Show an incident: what it is, its timeline, who is involved, what was touched.
    Show(One),
    /// Say that you have it.
    Ack(One),
    /// Give it to somebody; without a name to nobody.
    Assign(Assign),
    /// Write a note.
    Note(Note),
    /// Hear nothing of it for a time.
    Snooze(Snooze),
    /// Say that it is over.
    Resolve(One),
    /// Say that it is not over.
    Reopen(One),
    /// Make it a part of another.
    Merge(Merge),
    /// Mute alerts for a time; with --preview only show what would be muted.
    Silence(Silence),
    /// End a silence before its time.
    Unsilence(One),
    /// List silences.
    Silences(Silences),
    /// Write the report: Markdown, JSON, or an OCSF Detection Finding.
    Report(Report),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum State {
    /// Open, acknowledged or snoozed.
    #[default]
    Live,
    /// Nobody has it.
    Open,
    /// Somebody has it.
    Acknowledged,
    /// Later.
    Snoozed,
    /// Over.
    Resolved,
    /// Part of another.
    Merged,
    /// All.
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Severity {
    /// Critical.
    Critical,
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
    /// Informational.
    Informational,
}

/// The name of a value as the API has it.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[derive(Debug, Args)]
struct List {
    /// Only those in this state.
    #[arg(long, value_enum, default_value_t)]
    state: State,
    /// Only those that are at least this severe.
    #[arg(long, value_enum)]
    severity: Option<Severity>,
    /// Only those with an alert of this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only those with a lower number.
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Incidents at most.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct One {
    /// Its number.
    #[arg(value_name = "NUMBER")]
    id: u64,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Assign {
    #[command(flatten)]
    one: One,
    /// Whom; nobody when empty.
    #[arg(value_name = "WHOM", default_value = "")]
    to: String,
}

#[derive(Debug, Args)]
struct Note {
    #[command(flatten)]
    one: One,
    /// What.
    #[arg(value_name = "TEXT")]
    text: String,
}

#[derive(Debug, Args)]
struct Snooze {
    #[command(flatten)]
    one: One,
    /// How long, such as `2h`.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    length: String,
}

#[derive(Debug, Args)]
struct Merge {
    #[command(flatten)]
    one: One,
    /// Number of the incident that has its alerts from now on.
    #[arg(long, value_name = "NUMBER")]
    into: u64,
}

#[derive(Debug, Args)]
struct Silence {
    /// Conditions on labels, all of which must be fulfilled: `service="cart"`, `severity=~"low|medium"`.
    #[arg(value_name = "MATCHER", required = true)]
    matchers: Vec<String>,
    /// Why.
    #[arg(long, value_name = "TEXT", required_unless_present = "preview")]
    comment: Option<String>,
    /// How long, such as `2h`.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    length: String,
    /// From when on; now without it.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only show what it would mute.
    #[arg(long)]
    preview: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Silences {
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ReportFormat {
    /// For tickets and post-mortems.
    #[default]
    Markdown,
    /// As `show -o json`.
    Json,
    /// OCSF Detection Finding.
    Ocsf,
}

#[derive(Debug, Args)]
struct Report {
    /// Number of the incident.
    #[arg(value_name = "NUMBER")]
    id: u64,
    /// As what.
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
    #[command(flatten)]
    hub: HubArgs,
}

impl IncidentsCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.what {
            What::List(list) => list.run(),
            What::Show(one) => one.show(),
            What::Ack(one) => one.act("acknowledge", &json!({})),
            What::Assign(Assign { one, to }) => one.act("assign", &json!({"to": to})),
            What::Note(Note { one, text }) => one.act("note", &json!({"text": text})),
            What::Snooze(Snooze { one, length }) => one.act("snooze", &json!({"for": length})),
            What::Resolve(one) => one.act("resolve", &json!({})),
            What::Reopen(one) => one.act("reopen", &json!({})),
            What::Merge(Merge { one, into }) => one.act("merge", &json!({"into": into})),
            What::Silence(silence) => silence.run(),
            What::Unsilence(one) => one.unsilence(),
            What::Silences(silences) => silences.run(),
            What::Report(report) => report.run(),
        }
    }
}

fn paint(severity: &str) -> Paint {
    match severity {
        "critical" => Paint::BrightRed,
        "high" => Paint::Red,
        "medium" => Paint::Yellow,
        _ => Paint::Plain,
    }
}

fn found(any: bool, output: OutputArgs) -> ExitCode {
    if any || !output.fail_empty { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::hub(&self.hub)?;
        let mut pairs = vec![("state", name(self.state)), ("limit", self.limit.to_string())];
        pairs.extend(self.severity.map(|severity| ("severity", name(severity))));
        pairs.extend(self.service.map(|service| ("service", service)));
        pairs.extend(self.before.map(|before| ("before", before.to_string())));
        let document = source.document("/api/v1/incidents", &pairs)?;
        let answer: Value = decode(&document)?;
        let incidents = list(&answer, "incidents");
        match self.output.output {
            Format::Json => writeln!(std::io::stdout().lock(), "{}", document.trim_end())?,
            Format::Table => {
                let screen = Screen::detect();
                let mut out = std::io::stdout().lock();
                let head = ["no", "severity", "state", "title", "assignee", "findings", "opened", "last seen"];
                let mut table = Table::new(&head);
                for one in &incidents {
                    let names =
                        ["id", "severity", "state", "title", "assignee", "findings", "opened", "last_seen"];
                    table.row(names.map(|name| text(one, name)));
                }
                table.write(&mut out, screen)?;
                for problem in list(&answer, "problems") {
                    writeln!(out, "problem: {}", printable(problem.as_str().unwrap_or_default()))?;
                }
                let (shown, total) = (incidents.len(), text(&answer, "total"));
                match answer.get("next").and_then(Value::as_u64) {
                    Some(next) => writeln!(out, "\n{shown} of {total} incidents; more: --before {next}")?,
                    None => writeln!(out, "\n{total} incidents")?,
                }
            }
            format => rows(&incidents, format)?,
        }
        Ok(found(!incidents.is_empty(), self.output))
    }
}

impl One {
    fn path(&self) -> String {
        format!("/api/v1/incidents/{}", self.id)
    }

    fn show(self) -> Result<ExitCode, Failure> {
        let document = Source::hub(&self.hub)?.document(&self.path(), &[])?;
        let mut out = std::io::stdout().lock();
        if self.output.output != Format::Table {
            writeln!(out, "{}", document.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        let incident: Value = decode(&document)?;
        let screen = Screen::detect();
        show(&incident, screen, &mut out)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Does something, and says what has become of it.
    fn act(self, act: &str, body: &Value) -> Result<ExitCode, Failure> {
        let source = Source::hub(&self.hub)?;
        let mut document = String::new();
        source.post(&format!("{}/{act}", self.path()), body)?.read_to_string(&mut document)?;
        let mut out = std::io::stdout().lock();
        if self.output.output != Format::Table {
            writeln!(out, "{}", document.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        let incident: Value = decode(&document)?;
        let assignee = match text(&incident, "assignee") {
            name if name.is_empty() => "nobody has it".to_owned(),
            name => format!("{name} has it"),
        };
        writeln!(out, "incident {}: {}, {assignee}", self.id, text(&incident, "state"))?;
        Ok(ExitCode::SUCCESS)
    }

    fn unsilence(self) -> Result<ExitCode, Failure> {
        let source = Source::hub(&self.hub)?;
        let mut document = String::new();
        source.delete(&format!("/api/v1/silences/{}", self.id))?.read_to_string(&mut document)?;
        let mut out = std::io::stdout().lock();
        match self.output.output {
            Format::Table => writeln!(out, "silence {} has ended", self.id)?,
            _ => writeln!(out, "{}", document.trim_end())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(incident: &Value, screen: Screen, out: &mut dyn Write) -> Result<(), Failure> {
    let get = |name: &str| text(incident, name);
    let severity = get("severity");
    let head = format!("Incident {}  {}", get("id"), get("title"));
    writeln!(out, "{}", Paint::Bold.on(screen, &head))?;
    let nobody = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    let alerts = format!("{} in {} alerts, {} active", get("findings"), get("alerts"), get("active"));
    for (name, value) in [
        ("state", format!("{} since {}", get("state"), get("since"))),
        ("severity", paint(&severity).on(screen, &nobody(severity.clone()))),
        ("assignee", nobody(get("assignee"))),
        ("services", nobody(get("services"))),
        ("team", nobody(get("team"))),
        ("rules", nobody(get("rules"))),
        ("seen", format!("{} – {}", get("first_seen"), get("last_seen"))),
        ("findings", alerts),
        ("route", get("route")),
    ] {
        writeln!(out, "  {name:<10} {value}")?;
    }
    let title = |text: &str| Paint::Bold.on(screen, text);
    let blast = incident.get("blast_radius").cloned().unwrap_or_default();
    let services = list(&blast, "services");
    writeln!(
        out,
        "\n{}  {} of {} traces, {} spans",
        title("Blast radius"),
        text(&blast, "traces_read"),
        text(&blast, "traces"),
        text(&blast, "spans")
    )?;
    if !services.is_empty() {
        let mut table = Table::new(&["service", "hops", "operation", "spans", "errors"]);
        for service in &services {
            for operation in list(service, "operations") {
                let cells = ["name", "spans", "errors"].map(|name| text(&operation, name));
                table.row(["name", "hops"].map(|name| text(service, name)).into_iter().chain(cells));
            }
        }
        table.write(out, screen)?;
    }
    let entities = list(incident, "entities");
    if !entities.is_empty() {
        writeln!(out, "\n{}", title("Entities"))?;
        let mut table = Table::new(&["what", "value", "findings", "search"]);
        for entity in &entities {
            let query = entity.get("query").map(|query| text(query, "query")).unwrap_or_default();
            let cells = ["field", "value", "findings"].map(|name| text(entity, name));
            table.row(cells.into_iter().chain([query]));
        }
        table.write(out, screen)?;
    }
    writeln!(out, "\n{}", title("Timeline"))?;
    for item in list(incident, "timeline") {
        let level = item.get("finding").map(|finding| text(finding, "level")).unwrap_or_default();
        let mark = if level.is_empty() { Paint::Dim.on(screen, "·") } else { paint(&level).on(screen, "●") };
        writeln!(out, "  {} {mark} {}", text(&item, "time"), text(&item, "text"))?;
        for query in list(&item, "queries") {
            let line = format!("{}: {}", text(&query, "table"), text(&query, "query"));
            writeln!(out, "      {}", Paint::Dim.on(screen, &line))?;
        }
    }
    match incident.get("timeline_left_out").and_then(Value::as_u64) {
        None | Some(0) => {}
        Some(more) => writeln!(out, "  {more} further entries are left out")?,
    }
    let notes = list(incident, "notes");
    if !notes.is_empty() {
        writeln!(out, "\n{}", title("Notes"))?;
        for note in notes {
            writeln!(out, "  {} {}: {}", text(&note, "time"), text(&note, "author"), text(&note, "text"))?;
        }
    }
    Ok(())
}

impl Silence {
    fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::hub(&self.hub)?;
        let mut document = String::new();
        let (path, body) = if self.preview {
            ("/api/v1/silences/preview", json!({"matchers": self.matchers}))
        } else {
            let comment = self.comment.unwrap_or_default();
            let mut body = json!({"matchers": self.matchers, "for": self.length, "comment": comment});
            if let (Some(from), Some(body)) = (self.from, body.as_object_mut()) {
                body.insert("from".to_owned(), from.into());
            }
            ("/api/v1/silences", body)
        };
        source.post(path, &body)?.read_to_string(&mut document)?;
        let mut out = std::io::stdout().lock();
        if self.output.output != Format::Table {
            writeln!(out, "{}", document.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        let answer: Value = decode(&document)?;
        if self.preview {
            let mut table = Table::new(&["incident", "alerts muted", "of"]);
            for one in list(&answer, "incidents") {
                table.row(["id", "alerts_muted", "alerts"].map(|name| text(&one, name)));
            }
            table.write(&mut out, Screen::detect())?;
            writeln!(out, "\n{} live incidents would be muted as a whole", text(&answer, "muted_whole"))?;
        } else {
            writeln!(out, "silence {} until {}", text(&answer, "id"), text(&answer, "until"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Silences {
    fn run(self) -> Result<ExitCode, Failure> {
        let document = Source::hub(&self.hub)?.document("/api/v1/silences", &[])?;
        let answer: Value = decode(&document)?;
        let silences = list(&answer, "silences");
        match self.output.output {
            Format::Json => writeln!(std::io::stdout().lock(), "{}", document.trim_end())?,
            Format::Table => {
                let mut table = Table::new(&["no", "matchers", "from", "until", "author", "comment"]);
                for one in &silences {
                    let names = ["id", "matchers", "from", "until", "author", "comment"];
                    table.row(names.map(|name| text(one, name)));
                }
                table.write(&mut std::io::stdout().lock(), Screen::detect())?;
            }
            format => rows(&silences, format)?,
        }
        Ok(found(!silences.is_empty(), self.output))
    }
}

impl Report {
    fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::hub(&self.hub)?;
        let path = format!("/api/v1/incidents/{}/report", self.id);
        let document = source.document(&path, &[("format", name(self.format))])?;
        writeln!(std::io::stdout().lock(), "{}", document.trim_end())?;
        Ok(ExitCode::SUCCESS)
    }
}
