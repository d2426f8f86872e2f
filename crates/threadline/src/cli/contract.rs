//! `threadline contract`: what the contract says, whether sample records keep it, what changed, and who keeps it.

mod verify;

use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use threadline_contract::diff::diff;
use threadline_contract::page::{describe_attribute, describe_event, required};
use threadline_contract::render::{Lang, Service, render};
use threadline_contract::score::Board;
use threadline_contract::{Contract, Finding, Guard};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::inspect::{Inspector, Refused};
use threadline_model::jsonl::{self, LineParser, Mapping};
use threadline_model::otlp::{self, Format as OtlpFormat};
use threadline_model::record::{LogView, ResourceView, ScopeView, SpanView};
use threadline_model::schema::{Layout, Table as Rows};

use super::args::{Format, OutputArgs, Screen, SettingArgs, SourceArgs};
use super::failure::Failure;
use super::output::{Table, for_stdout, printable};
use super::source::{Source, decode};
use crate::contract::registry;
use crate::import::otlp_lines::{Parts, request};

/// Bytes of a line at most.
const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct ContractCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check sample records: lines of OTLP/JSON or plain JSON. Exit code 1 when one breaks the contract.
    Check(Check),
    /// Tell breaking from compatible changes between two contract folders. Exit code 1 when one is breaking.
    Diff(Diff),
    /// List the events.
    List(Folder),
    /// Show an event or an attribute.
    Show(Show),
    /// Show how well each service keeps the contract, since the hub's start.
    Score(Score),
    /// Write a service's settings in its language.
    Render(Render),
    /// Run a sample service with the rendered files and the language's real SDK, and show what arrives. Its packages, pinned, are
    /// fetched into a temporary folder. Exit code 1 when something is missing.
    Verify(verify::Verify),
}

#[derive(Debug, Args)]
struct Render {
    /// The service's name.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Its language, or the program beside it: rust, python, node, java, go, dotnet, nginx, envoy, collector, fluentbit, vector.
    #[arg(long, value_name = "LANG", value_parser = lang)]
    lang: Lang,
    /// Folder to write into; files that are there already and differ are not replaced.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Replace files that differ.
    #[arg(long)]
    force: bool,
    /// Version of the service.
    #[arg(long = "service-version", value_name = "VERSION", default_value = "0.0.0")]
    version: String,
    /// Namespace of the service.
    #[arg(long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Where it is deployed.
    #[arg(long, value_name = "NAME", default_value = "development")]
    environment: String,
    /// Base URL of the hub's OTLP/HTTP port.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318")]
    endpoint: String,
    /// PEM file of the hub's authority, as the service finds it.
    #[arg(long = "ca-file", value_name = "FILE", default_value = "")]
    ca: String,
    /// PEM file of the service's certificate, as the service finds it.
    #[arg(long = "cert-file", value_name = "FILE", default_value = "")]
    cert: String,
    /// PEM file of its key, as the service finds it.
    #[arg(long = "key-file", value_name = "FILE", default_value = "")]
    key: String,
    #[command(flatten)]
    folder: Folder,
}

fn lang(name: &str) -> Result<Lang, String> {
    let names: Vec<&str> = Lang::ALL.iter().map(|lang| lang.name()).collect();
    Lang::parse(name).ok_or_else(|| format!("it may be {}", names.join(", ")))
}

impl Render {
    fn run(self) -> Result<ExitCode, Failure> {
        let contract = self.folder.load()?;
        let service = Service {
            name: self.service,
            version: self.version,
            namespace: self.namespace,
            environment: self.environment,
            endpoint: self.endpoint,
            ca: self.ca,
            cert: self.cert,
            key: self.key,
        };
        let files = render(contract.registry(), &service, self.lang).map_err(Failure::Usage)?;
        let wrong =
            |path: &Path, error: std::io::Error| Failure::Failed(format!("{}: {error}", path.display()));
        let mut out = std::io::stdout().lock();
        let files: Vec<(PathBuf, String)> =
            files.into_iter().map(|(path, text)| (self.out.join(path), text)).collect();
        // All are looked at before the first is written: a refusal leaves the folder as it was.
        for (path, text) in files.iter().filter(|_| !self.force) {
            match std::fs::read(path) {
                Ok(there) if there != text.as_bytes() => {
                    let text = format!("{}: is there and differs; --force replaces it", path.display());
                    return Err(Failure::Failed(text));
                }
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(path, error)),
                Ok(_) | Err(_) => {}
            }
        }
        for (path, text) in files {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|error| wrong(parent, error))?;
            }
            std::fs::write(&path, text).map_err(|error| wrong(&path, error))?;
            writeln!(out, "{}", path.display())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
struct Folder {
    /// Folder of the company's contract instead of the one in the settings.
    #[arg(long, value_name = "DIR")]
    contract: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Check {
    /// Files of lines; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    folder: Folder,
    /// How findings are written.
    #[arg(long, value_enum, default_value_t)]
    format: Findings,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Findings {
    /// A line for each.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
    /// Workflow commands that GitHub shows beside the file.
    Github,
}

#[derive(Debug, Args)]
struct Diff {
    /// The folder as it was; `base` for the base contract alone.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The folder as it is; `base` for the base contract alone.
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

#[derive(Debug, Args)]
struct Show {
    /// Name of an event, or key of an attribute.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
struct Score {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ContractCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.what {
            What::Check(check) => check.run(),
            What::Diff(diff) => diff.run(),
            What::List(folder) => folder.list(),
            What::Show(show) => show.run(),
            What::Score(score) => score.run(),
            What::Render(render) => render.run(),
            What::Verify(verify) => verify.run(),
        }
    }
}

impl Folder {
    /// The contract of the folder or of the settings, with the settings' actions.
    fn load(&self) -> Result<Contract, Failure> {
        let settings = SettingArgs::default().load()?.settings;
        let folder = self.contract.as_deref().or(settings.contract_dir.as_deref());
        let registry = registry(folder).map_err(Failure::Usage)?;
        Ok(Contract::new(registry, settings.contract_actions))
    }

    fn list(&self) -> Result<ExitCode, Failure> {
        let contract = self.load()?;
        let registry = contract.registry();
        let mut table = Table::new(&["event", "required", "owner", "what"]);
        for event in registry.events.values() {
            let required = required(event).to_string();
            table.row([event.name.clone(), required, event.owner.clone(), event.brief.clone()]);
        }
        let mut out = std::io::stdout().lock();
        table.write(&mut out, Screen::detect())?;
        writeln!(
            out,
            "\n{} events and {} attributes, contract {}",
            registry.events.len(),
            registry.attributes.len(),
            registry.version()
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn run(self) -> Result<ExitCode, Failure> {
        let contract = self.folder.load()?;
        let registry = contract.registry();
        let event = registry.events.get(&self.name).map(|event| describe_event(registry, event));
        let attribute = || registry.attribute(&self.name).or_else(|| registry.attributes.get(&self.name));
        let Some(text) = event.or_else(|| attribute().map(describe_attribute)) else {
            let names = registry.events.keys().chain(registry.attributes.keys()).map(String::as_str);
            let hint = crate::settings::nearest(&self.name, names)
                .map(|known| format!(", did you mean `{known}`?"))
                .unwrap_or_default();
            return Err(Failure::Usage(format!("there is no event and no attribute `{}`{hint}", self.name)));
        };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Diff {
    fn run(self) -> Result<ExitCode, Failure> {
        let read = |path: &Path| {
            let folder = (path != Path::new("base")).then_some(path);
            registry(folder).map_err(Failure::Usage)
        };
        let changes = diff(&read(&self.old)?, &read(&self.new)?);
        let mut out = std::io::stdout().lock();
        for change in &changes {
            writeln!(out, "{change}")?;
        }
        let breaking = changes.iter().filter(|change| change.breaking).count();
        writeln!(out, "{breaking} breaking and {} compatible changes", changes.len() - breaking)?;
        Ok(ExitCode::from(u8::from(breaking > 0)))
    }
}

impl Check {
    fn run(self) -> Result<ExitCode, Failure> {
        let contract = Arc::new(self.folder.load()?);
        let mut lint = Lint::new(contract, self.format, Box::new(std::io::stdout().lock()));
        for path in &self.files {
            let failed = |error: std::io::Error| Failure::Failed(format!("{}: {error}", path.display()));
            let input: Box<dyn std::io::Read> = match path.to_str() {
                Some("-") => Box::new(std::io::stdin().lock()),
                _ => Box::new(std::fs::File::open(path).map_err(failed)?),
            };
            lint.file(&path.display().to_string(), BufReader::new(input))?;
        }
        lint.end()
    }
}

/// Checks lines and writes findings.
struct Lint {
    format: Findings,
    out: Box<dyn Write>,
    guard: Guard,
    parser: LineParser,
    layouts: [Arc<Layout>; 2],
    file: String,
    line: u64,
    records: u64,
    findings: u64,
    /// Findings of the line at hand, with the number of their record.
    found: Vec<(u64, Finding)>,
}

impl Lint {
    fn new(contract: Arc<Contract>, format: Findings, out: Box<dyn Write>) -> Lint {
        Lint {
            format,
            out,
            guard: Guard::watching(contract, Arc::new(Board::new())),
            parser: LineParser::new(Arc::new(Mapping::default())),
            layouts: Rows::ALL.map(|table| Arc::new(Layout::base(table))),
            file: String::new(),
            line: 0,
            records: 0,
            findings: 0,
            found: Vec::new(),
        }
    }

    fn file(&mut self, name: &str, mut input: impl BufRead) -> Result<(), Failure> {
        (self.file, self.line) = (name.to_owned(), 0);
        let failed = |error: std::io::Error| Failure::Failed(format!("{name}: {error}"));
        let mut line = Vec::new();
        loop {
            line.clear();
            let read =
                input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            self.line += 1;
            if read > LINE_BYTES_MAX {
                return Err(Failure::Failed(format!(
                    "{name}:{}: a line has at most {LINE_BYTES_MAX} bytes",
                    self.line
                )));
            }
            if !jsonl::is_blank(&line) {
                self.line(line.trim_ascii())?;
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let refused = if jsonl::is_otlp(line) { self.otlp(line) } else { self.plain(line) };
        for (record, finding) in std::mem::take(&mut self.found) {
            self.write(record, Some(finding.rule.id()), &finding.to_string(), Some(&finding))?;
        }
        refused.into_iter().try_for_each(|reason| self.write(self.records, None, &reason, None))
    }

    /// An export request, or one of its parts. Reasons why records were refused.
    fn otlp(&mut self, line: &[u8]) -> Vec<String> {
        let mut parts = Parts::default();
        if let Err(error) = parts.add(line, self.line) {
            return vec![error.to_string()];
        }
        let mut refused = Vec::new();
        for (table, parts) in [(Rows::Logs, &parts.logs), (Rows::Spans, &parts.spans)] {
            if parts.is_empty() {
                continue;
            }
            let body = request(table, parts);
            let mut builder = self.builder(table);
            let decoded = match table {
                Rows::Logs => otlp::decode_logs(OtlpFormat::Json, &body, &mut builder, self),
                Rows::Spans => otlp::decode_traces(OtlpFormat::Json, &body, &mut builder, self),
            };
            match decoded {
                Ok(decoded) => refused.extend(decoded.refusals.iter().map(ToString::to_string)),
                Err(malformed) => refused.push(malformed.to_string()),
            }
        }
        refused
    }

    /// A record as a plain JSON object.
    fn plain(&mut self, line: &[u8]) -> Vec<String> {
        let (mut logs, mut spans) = (self.builder(Rows::Logs), self.builder(Rows::Spans));
        let mut parser = std::mem::replace(&mut self.parser, LineParser::new(Arc::new(Mapping::default())));
        let decoded = jsonl::decode(line, &mut parser, LINE_BYTES_MAX, &mut logs, &mut spans, self);
        self.parser = parser;
        decoded.faults.into_iter().map(|fault| fault.reason).collect()
    }

    fn builder(&self, table: Rows) -> BatchBuilder {
        let layout = &self.layouts[usize::from(table == Rows::Spans)];
        // No time of arrival is needed: nothing is kept.
        BatchBuilder::new(Arc::clone(layout), i64::MAX / 2, RecordLimits::default())
    }

    fn note(&mut self) {
        self.records += 1;
        let record = self.records;
        self.found.extend(self.guard.findings().into_iter().map(|finding| (record, finding)));
    }

    fn write(
        &mut self,
        record: u64,
        rule: Option<&str>,
        text: &str,
        finding: Option<&Finding>,
    ) -> Result<(), Failure> {
        self.findings += 1;
        let (file, line) = (&self.file, self.line);
        match self.format {
            Findings::Text => writeln!(self.out, "{file}:{line}: record {record}: {}", printable(text))?,
            Findings::Github => {
                let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
                writeln!(self.out, "::error file={file},line={line}::record {record}: {text}")?;
            }
            Findings::Json => {
                let value = json!({
                    "file": file,
                    "line": line,
                    "record": record,
                    "rule": rule,
                    "at": finding.map(|finding| &finding.at),
                    "found": finding.map(|finding| &finding.found),
                    "expected": finding.map(|finding| &finding.expected),
                    "fix": finding.map(|finding| &finding.fix),
                    "text": text,
                });
                writeln!(self.out, "{value}")?;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<ExitCode, Failure> {
        self.out.flush()?;
        drop(self.out);
        eprintln!("{} records, {} findings", self.records, self.findings);
        Ok(ExitCode::from(u8::from(self.findings > 0)))
    }
}

impl Inspector for Lint {
    fn resource(&mut self, resource: &ResourceView<'_>, builder: &mut BatchBuilder) {
        self.guard.resource(resource, builder);
    }

    fn scope(&mut self, scope: &ScopeView<'_>, builder: &mut BatchBuilder) {
        self.guard.scope(scope, builder);
    }

    fn log(&mut self, log: &LogView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        // That the contract refuses a record is told by its findings.
        let _ = self.guard.log(log, builder);
        self.note();
        Ok(())
    }

    fn span(&mut self, span: &SpanView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        let _ = self.guard.span(span, builder);
        self.note();
        Ok(())
    }
}

impl Score {
    fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::open(&self.source)?;
        let document = source.document("/api/v1/contract/score", &[])?;
        let mut out = std::io::stdout().lock();
        if matches!(self.output.output, Format::Json | Format::Ndjson) {
            writeln!(out, "{}", for_stdout(document.trim_end()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let answer: Value = decode(&document)?;
        if answer.get("checked").and_then(Value::as_bool) != Some(true) {
            writeln!(out, "this hub does not check records: `contract` is off")?;
            return Ok(ExitCode::SUCCESS);
        }
        let text = |value: &Value, name: &str| match value.get(name) {
            Some(Value::String(text)) => printable(text),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let list =
            |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut table = Table::new(&[
            "service",
            "version",
            "score",
            "records",
            "violated",
            "quarantined",
            "rule",
            "broken",
            "example",
        ]);
        for sender in list(&answer, "senders") {
            let mut head = ["service", "version", "score", "records", "violated", "quarantined"]
                .map(|name| text(&sender, name));
            let rules = list(&sender, "rules");
            if rules.is_empty() {
                table.row(head.into_iter().chain([String::new(), String::new(), String::new()]));
                continue;
            }
            for rule in rules {
                let example = rule.get("example").cloned().unwrap_or_default();
                let example = format!("{}: expected {}", text(&example, "at"), text(&example, "expected"));
                table.row(std::mem::take(&mut head).into_iter().chain([
                    text(&rule, "rule"),
                    text(&rule, "records"),
                    example,
                ]));
            }
        }
        table.write(&mut out, Screen::detect())?;
        Ok(ExitCode::SUCCESS)
    }
}
