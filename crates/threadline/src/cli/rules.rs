//! `threadline rules`: what watches records, whether rules are sound, why a record matches, what they would have found.

use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use threadline_detect::sigma::extension::{TestRecord, TestValue};
use threadline_detect::testing::{self, BASE_US};
use threadline_model::schema::Table as Rows;

use super::args::{Format, OutputArgs, RangeArgs, Screen, SourceArgs};
use super::failure::Failure;
use super::output::{Table, for_stdout, list, printable, rows, text, write_csv};
use super::source::{Source, decode};
use crate::detection::{Loaded, compile, pack, read_files};

/// Bytes of a line with a record at most.
const LINE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct RulesCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the rules of a hub, and what came of each since its start.
    List(List),
    /// Check rules: what is broken, and what should be better. Exit code 1 when one is broken.
    Check(Files),
    /// Run the tests that stand in rules. Exit code 1 when one fails.
    Test(Files),
    /// Explain why records match a rule or do not, condition by condition.
    Explain(Explain),
    /// Run rules over what is stored: the findings that would have come.
    Backtest(Backtest),
    /// Show noisy rules over what is stored: what their findings share, and an exception that would have kept most away.
    Tune(Tune),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Files {
    /// Files or folders of rules; the rules that come with the hub when there is none.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Explain {
    /// Id, name or title of the rule.
    #[arg(value_name = "RULE")]
    rule: String,
    /// Records, a JSON object per line, with fields as rules name them; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Files or folders of rules; the rules that come with the hub when there is none.
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// The records are spans.
    #[arg(long)]
    span: bool,
}

#[derive(Debug, Args)]
struct Backtest {
    /// Files or folders of rules; the rules that come with the hub when there is none.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct Tune {
    /// Findings from which on a rule is noisy.
    #[arg(long, value_name = "N", default_value_t = 10)]
    noisy: u32,
    #[command(flatten)]
    over: Backtest,
}

impl RulesCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.what {
            What::List(list) => list.run(),
            What::Check(files) => files.check(),
            What::Test(files) => files.test(),
            What::Explain(explain) => explain.run(),
            What::Backtest(backtest) => backtest.run(),
            What::Tune(tune) => tune.run(),
        }
    }
}

type Text = (String, std::borrow::Cow<'static, str>);

fn texts(paths: &[PathBuf]) -> Result<Vec<Text>, Failure> {
    let mut texts = Vec::new();
    for path in paths {
        texts.extend(read_files(path).map_err(Failure::Usage)?);
    }
    Ok(texts)
}

fn rules(paths: &[PathBuf]) -> Result<Loaded, Failure> {
    if paths.is_empty() { Ok(compile(&pack())) } else { Ok(compile(&texts(paths)?)) }
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

const LIST_HEAD: [&str; 5] = ["level", "rule", "findings", "last", "id"];
/// Fields of a noisy rule that are told of, for people.
const TOLD_FIELDS_MAX: usize = 8;
const BACKTEST_HEAD: [&str; 4] = ["time", "level", "rule", "explanation"];

/// Says which rules an answer is without, beside the answer.
fn left_out(answer: &Value) {
    for problem in list(answer, "problems") {
        eprintln!("left out: {}", printable(problem.as_str().unwrap_or_default()));
    }
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let source = Source::open(&self.source)?;
        let document = source.document("/api/v1/rules", &[])?;
        let answer: Value = decode(&document)?;
        let rules = list(&answer, "rules");
        left_out(&answer);
        let mut out = std::io::stdout().lock();
        let mut table = Table::new(&LIST_HEAD);
        let cells = |rule| ["level", "title", "findings", "last", "id"].map(|name| text(rule, name));
        match self.output.output {
            Format::Json => writeln!(out, "{}", for_stdout(document.trim_end()))?,
            Format::Table => {
                rules.iter().map(cells).for_each(|row| table.row(row));
                table.write(&mut out, Screen::detect())?;
            }
            format => {
                drop(out);
                rows(&rules, format)?;
            }
        }
        Ok(code(!(self.output.fail_empty && rules.is_empty())))
    }
}

impl Files {
    fn check(self) -> Result<ExitCode, Failure> {
        let Loaded { rules, problems } = rules(&self.paths)?;
        let mut out = std::io::stdout().lock();
        for problem in &problems {
            writeln!(out, "error: {}", printable(problem))?;
        }
        for problem in rules.lint() {
            writeln!(out, "note: {}", printable(&problem.to_string()))?;
        }
        writeln!(out, "{} rules are sound, {} problems", rules.len(), problems.len())?;
        Ok(code(problems.is_empty()))
    }

    fn test(self) -> Result<ExitCode, Failure> {
        let Loaded { rules, problems } = rules(&self.paths)?;
        let mut out = std::io::stdout().lock();
        for problem in &problems {
            writeln!(out, "error: {}", printable(problem))?;
        }
        let outcomes = testing::run_tests(&rules);
        let mut failed = 0;
        for outcome in &outcomes {
            let Some(failure) = &outcome.failure else { continue };
            failed += 1;
            writeln!(out, "failed: {}:{} {} / {}", outcome.file, outcome.line, outcome.rule, outcome.test)?;
            for line in failure.lines() {
                writeln!(out, "    {}", printable(line))?;
            }
        }
        writeln!(
            out,
            "{} rules, {} tests passed, {failed} failed, {} problems",
            rules.len(),
            outcomes.len() - failed,
            problems.len()
        )?;
        Ok(code(failed == 0 && problems.is_empty()))
    }
}

impl Explain {
    fn run(self) -> Result<ExitCode, Failure> {
        let Loaded { rules, problems } = rules(&self.rules)?;
        let unknown = || {
            let more = problems.first().map(|problem| format!("; {problem}")).unwrap_or_default();
            Failure::Usage(format!("there is no rule `{}`{more}", self.rule))
        };
        let (meta, hit) = rules.find(&self.rule).ok_or_else(unknown)?;
        let Some(hit) = hit else {
            return Err(Failure::Usage(format!(
                "`{}` is a correlation: it looks at hits of other rules; explain those",
                meta.title
            )));
        };
        let table = if self.span { Rows::Spans } else { Rows::Logs };
        let mut out = std::io::stdout().lock();
        let mut any = false;
        for (number, record) in Records::open(&self.file, self.span)?.enumerate() {
            let failed = |reason: String| Failure::Usage(format!("record {}: {reason}", number + 1));
            let batch = testing::batch(table, &[&record?], BASE_US, 1).map_err(failed)?;
            let Some(why) = rules.matcher().explain(&batch, table, 0, hit) else {
                let other = if self.span { "logs: leave `--span` away" } else { "spans: add `--span`" };
                return Err(Failure::Usage(format!("`{}` is a rule about {other}", meta.title)));
            };
            any |= why.holds;
            writeln!(out, "record {}: {}", number + 1, if why.holds { "matches" } else { "does not match" })?;
            for line in why.to_string().lines() {
                writeln!(out, "  {}", printable(line))?;
            }
        }
        Ok(code(any))
    }
}

/// The records of a file, a JSON object per line.
struct Records<'a> {
    path: &'a Path,
    span: bool,
    input: BufReader<Box<dyn std::io::Read>>,
    line: usize,
}

impl<'a> Records<'a> {
    fn open(path: &'a Path, span: bool) -> Result<Records<'a>, Failure> {
        let input: Box<dyn std::io::Read> = match path.to_str() {
            Some("-") => Box::new(std::io::stdin().lock()),
            _ => Box::new(
                std::fs::File::open(path)
                    .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?,
            ),
        };
        Ok(Records { path, span, input: BufReader::new(input), line: 0 })
    }

    /// The next record; `None` at the end.
    fn read(&mut self) -> Result<Option<TestRecord>, String> {
        loop {
            let mut line = String::new();
            self.line += 1;
            let most = LINE_BYTES_MAX + 1;
            let bytes =
                self.input.by_ref().take(most).read_line(&mut line).map_err(|error| error.to_string())?;
            if bytes == 0 {
                return Ok(None);
            }
            if bytes as u64 == most {
                return Err(format!("it has more than {LINE_BYTES_MAX} bytes"));
            }
            if line.trim().is_empty() {
                continue;
            }
            let object: Map<String, Value> =
                serde_json::from_str(&line).map_err(|error| format!("it is no JSON object: {error}"))?;
            let fields = object.into_iter().map(|(key, value)| (key, value_of(value))).collect();
            return Ok(Some(TestRecord { at_us: 0, span: self.span, fields }));
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<TestRecord, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        let line = self.line;
        read.map_err(|reason| Failure::Usage(format!("{}, line {line}: {reason}", self.path.display())))
            .transpose()
    }
}

fn value_of(value: Value) -> TestValue {
    match value {
        Value::Null => TestValue::Null,
        Value::Bool(value) => TestValue::Bool(value),
        Value::Number(number) => match number.as_i64() {
            Some(int) => TestValue::Int(int),
            None => TestValue::Double(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => TestValue::Text(text),
        Value::Array(values) => TestValue::List(values.into_iter().map(value_of).collect()),
        Value::Object(members) => {
            TestValue::Map(members.into_iter().map(|(key, value)| (key, value_of(value))).collect())
        }
    }
}

const TUNE_HEAD: [&str; 8] = ["rule", "id", "findings", "per_day", "field", "value", "removes", "leaves"];

impl Tune {
    fn run(self) -> Result<ExitCode, Failure> {
        let document = self.over.answer(Some(self.noisy))?;
        let answer: Value = decode(&document)?;
        let noisy = list(&answer, "noisy");
        left_out(&answer);
        let mut out = std::io::stdout().lock();
        match self.over.output.output {
            Format::Json => {
                let kept =
                    ["rules", "records", "total", "noisy"].map(|name| (name.to_owned(), answer[name].clone()));
                writeln!(out, "{}", Value::Object(Map::from_iter(kept)))?;
            }
            Format::Ndjson => {
                drop(out);
                rows(&noisy, Format::Ndjson)?;
            }
            Format::Csv => {
                let cells = |rule: &Value| {
                    let [title, id, findings, per_day] =
                        ["title", "id", "findings", "per_day"].map(|name| text(rule, name));
                    let exception = rule.get("exception").unwrap_or(&Value::Null);
                    let [field, value, removes, leaves] =
                        ["field", "value", "removes", "leaves"].map(|name| text(exception, name));
                    [title, id, findings, per_day, field, value, removes, leaves]
                };
                write_csv(&mut out, &TUNE_HEAD, noisy.iter().map(cells))?;
            }
            Format::Table => {
                for rule in &noisy {
                    Self::tell(&mut out, rule)?;
                }
                let (rules, total) = (text(&answer, "rules"), text(&answer, "total"));
                writeln!(
                    out,
                    "{} of {rules} rules have {} findings or more; {total} findings in all",
                    noisy.len(),
                    self.noisy
                )?;
            }
        }
        Ok(code(!(self.over.output.fail_empty && noisy.is_empty())))
    }

    /// A rule, for people.
    fn tell(out: &mut impl Write, rule: &Value) -> std::io::Result<()> {
        let [title, id, findings, per_day] =
            ["title", "id", "findings", "per_day"].map(|name| text(rule, name));
        writeln!(out, "{title} ({id})\n  {findings} findings, {per_day} a day")?;
        for (member, said) in [("entities", "about"), ("shared", "shared by their evidence")] {
            let fields = list(rule, member);
            if !fields.is_empty() {
                writeln!(out, "  {said}:")?;
            }
            for field in fields.iter().take(TOLD_FIELDS_MAX) {
                let value = |value: &Value| {
                    let share = value.get("share").and_then(Value::as_f64).unwrap_or(0.0);
                    format!("{} {:.0}%", text(value, "value"), share * 100.0)
                };
                let values: Vec<String> = list(field, "values").iter().map(value).collect();
                writeln!(out, "    {}: {}", text(field, "field"), values.join(", "))?;
            }
        }
        let Some(exception) = rule.get("exception").filter(|exception| exception.is_object()) else {
            return writeln!(out, "  no value that some of its findings share would leave others\n");
        };
        let targets: Vec<String> = list(exception, "rules").iter().map(|rule| text(rule, "title")).collect();
        writeln!(
            out,
            "  with this in `{}`, {} would go and {} stay (tried):",
            targets.join("`, `"),
            text(exception, "removes"),
            text(exception, "leaves")
        )?;
        for line in exception.get("yaml").and_then(Value::as_str).unwrap_or_default().lines() {
            writeln!(out, "    {}", printable(line))?;
        }
        writeln!(out)
    }
}

impl Backtest {
    /// The hub's answer, as it came.
    fn answer(&self, tune: Option<u32>) -> Result<String, Failure> {
        let texts = if self.paths.is_empty() { pack() } else { texts(&self.paths)? };
        let joined: Vec<&str> = texts.iter().map(|(_, text)| text.as_ref()).collect();
        let mut body = json!({"rules": joined.join("\n---\n")});
        if let Some(members) = body.as_object_mut() {
            members.extend(self.range.pairs().into_iter().map(|(name, value)| (name.to_owned(), value.into())));
            members.extend(tune.map(|noisy| ("tune".to_owned(), noisy.into())));
        }
        let mut document = String::new();
        Source::open(&self.source)?.post("/api/v1/rules/backtest", &body)?.read_to_string(&mut document)?;
        Ok(document)
    }

    fn run(self) -> Result<ExitCode, Failure> {
        let document = self.answer(None)?;
        let answer: Value = decode(&document)?;
        let findings = list(&answer, "findings");
        left_out(&answer);
        let mut out = std::io::stdout().lock();
        let mut table = Table::new(&BACKTEST_HEAD);
        let cells = |finding| ["time", "level", "title", "explanation"].map(|name| text(finding, name));
        match self.output.output {
            Format::Json => writeln!(out, "{}", for_stdout(document.trim_end()))?,
            format @ (Format::Ndjson | Format::Csv) => {
                drop(out);
                rows(&findings, format)?;
            }
            Format::Table => {
                findings.iter().map(cells).for_each(|row| table.row(row));
                table.write(&mut out, Screen::detect())?;
                writeln!(
                    out,
                    "\n{} findings of {} rules; {} of {} records match some rule, {} were read",
                    text(&answer, "total"),
                    text(&answer, "rules"),
                    text(&answer, "hits"),
                    text(&answer, "records"),
                    text(&answer, "records_read")
                )?;
                let full: Vec<String> = list(&answer, "full_scan_rules")
                    .iter()
                    .map(|title| printable(title.as_str().unwrap_or_default()))
                    .collect();
                if !full.is_empty() {
                    writeln!(out, "every record is read because of: {}", full.join(", "))?;
                }
            }
        }
        Ok(code(!(self.output.fail_empty && findings.is_empty())))
    }
}
