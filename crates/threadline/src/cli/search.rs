//! `threadline search` and `threadline tail`.

use std::io::BufRead as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::{Format, OutputArgs, RangeArgs, Screen, SourceArgs};
use super::failure::Failure;
use super::histogram;
use super::output::{Paint, Row, RowWriter, cut, printable};
use super::source::{Pairs, Source, trailing_problem};

#[derive(Debug, Args)]
pub(super) struct Search {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    range: RangeArgs,
    /// Rows at most.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Oldest first instead of newest first.
    #[arg(long)]
    oldest: bool,
    /// Go on with rows as they arrive.
    #[arg(short, long, conflicts_with_all = ["since", "from", "to", "oldest", "histogram"])]
    follow: bool,
    /// Show counts over time instead of rows.
    #[arg(long)]
    histogram: bool,
    /// With `--histogram`: count by the values of this field.
    #[arg(long, value_name = "FIELD", requires = "histogram")]
    by: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    #[command(flatten)]
    what: What,
}

/// What to look for, and how to show it.
#[derive(Debug, Args)]
struct What {
    /// The search, such as `service:checkout severity>=warn "token expired"`; everything without one. One that
    /// begins with `-` goes after `--`.
    #[arg(value_name = "SEARCH")]
    search: Vec<String>,
    /// Log records or spans.
    #[arg(long, value_enum, default_value_t)]
    table: TableName,
    /// Show trace ids in full.
    #[arg(long)]
    full_ids: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One of the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum TableName {
    /// Log records.
    #[default]
    Logs,
    /// Spans.
    Spans,
}

impl TableName {
    fn name(self) -> &'static str {
        match self {
            TableName::Logs => "logs",
            TableName::Spans => "spans",
        }
    }

    /// Members of a row (docs/api.md), for CSV.
    fn columns(self) -> &'static [&'static str] {
        match self {
            TableName::Logs => &[
                "time",
                "severity",
                "severity_number",
                "service",
                "instance",
                "event",
                "body",
                "trace_id",
                "span_id",
                "flags",
                "attributes",
                "resource",
                "scope",
                "observed_time",
                "arrival_time",
                "sent_time_unix_nano",
                "verdict",
                "seq",
            ],
            TableName::Spans => &[
                "time",
                "end_time",
                "duration_ns",
                "service",
                "instance",
                "name",
                "kind",
                "status",
                "status_message",
                "trace_id",
                "span_id",
                "parent_span_id",
                "trace_state",
                "flags",
                "attributes",
                "events",
                "links",
                "resource",
                "scope",
                "arrival_time",
                "sent_time_unix_nano",
                "verdict",
                "seq",
            ],
        }
    }
}

impl Search {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        if self.follow {
            return self.what.follow();
        }
        let source = Source::open(&self.what.source)?;
        let mut pairs = self.what.pairs();
        pairs.extend(self.range.pairs());
        if self.histogram {
            pairs.extend(self.by.map(|by| ("by", by)));
            return histogram::show(&source, &pairs, self.what.output);
        }
        pairs.push(("limit", self.limit.to_string()));
        if self.oldest {
            pairs.push(("order", "oldest".to_owned()));
        }
        let found = self.what.rows(&source, &pairs)?;
        Ok(found_code(found, self.what.output))
    }
}

/// 0, or 1 when nothing was found and that counts.
pub(super) fn found_code(found: u64, output: OutputArgs) -> ExitCode {
    ExitCode::from(u8::from(found == 0 && output.fail_empty))
}

impl Tail {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        self.what.follow()
    }
}

impl What {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        vec![("q", self.search.join(" ")), ("table", self.table.name().to_owned())]
    }

    fn style(&self) -> Style {
        let zone = if self.output.utc { TimeZone::UTC } else { TimeZone::system() };
        Style { zone, table: self.table, full_ids: self.full_ids }
    }

    fn rows(&self, source: &Source, pairs: Pairs<'_>) -> Result<u64, Failure> {
        let style = self.style();
        let show = |row: &Row, screen: Screen| style.line(row, screen);
        let out = Box::new(std::io::BufWriter::new(std::io::stdout().lock()));
        let mut writer =
            RowWriter::new(out, self.output.output, Screen::detect(), Some(&show), self.table.columns());
        for line in source.get("/api/v1/search", pairs)?.lines() {
            let line = line?;
            if let Some(failure) = trailing_problem(&line) {
                writer.end()?;
                return Err(failure);
            }
            writer.row(&line)?;
        }
        writer.end()
    }

    /// Rows as they arrive, until interrupted or the hub stops.
    fn follow(&self) -> Result<ExitCode, Failure> {
        let source = Source::open(&self.source)?;
        if !source.is_live() {
            let detail = "a folder that is only read does not grow: follow a hub with --hub".to_owned();
            return Err(Failure::Usage(detail));
        }
        if self.output.output == Format::Json {
            return Err(Failure::Usage("rows without end are no JSON document: use -o ndjson".to_owned()));
        }
        let style = self.style();
        let show = |row: &Row, screen: Screen| style.line(row, screen);
        let out = Box::new(std::io::stdout().lock());
        let mut writer =
            RowWriter::new(out, self.output.output, Screen::detect(), Some(&show), self.table.columns());
        let mut events = Events::default();
        for line in source.get("/api/v1/tail", &self.pairs())?.lines() {
            match events.line(&line?) {
                Some(Event::Row(row)) => {
                    writer.row(&row)?;
                    writer.flush()?;
                }
                Some(Event::Slow) => {
                    let detail = "the hub let go: rows came faster than they were read; narrow the search";
                    return Err(Failure::Failed(detail.to_owned()));
                }
                Some(Event::Problem(detail)) => return Err(Failure::Failed(detail)),
                None => {}
            }
        }
        Err(Failure::Failed("the hub ended the connection".to_owned()))
    }
}

/// Server-sent events (HTML standard, section 9.2), as far as the hub sends them.
#[derive(Debug, Default)]
struct Events {
    name: String,
    data: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Row(String),
    Slow,
    Problem(String),
}

impl Events {
    fn line(&mut self, line: &str) -> Option<Event> {
        if let Some(name) = line.strip_prefix("event:") {
            name.trim().clone_into(&mut self.name);
        } else if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
        } else if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return match name.as_str() {
                "slow" => Some(Event::Slow),
                "error" => Some(Event::Problem(problem_detail(&data))),
                "row" | "" if !data.is_empty() => Some(Event::Row(data)),
                _ => None,
            };
        }
        None
    }
}

fn problem_detail(data: &str) -> String {
    let problem: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    problem.get("detail").and_then(serde_json::Value::as_str).unwrap_or(data).to_owned()
}

/// How rows look for people.
struct Style {
    zone: TimeZone,
    table: TableName,
    full_ids: bool,
}

impl Style {
    fn line(&self, row: &Row, screen: Screen) -> String {
        match self.table {
            TableName::Logs => self.log(row, screen),
            TableName::Spans => self.span(row, screen),
        }
    }

    fn time(&self, row: &Row) -> String {
        let text = row.text("time");
        match text.parse::<Timestamp>() {
            Ok(time) => time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
            Err(_) => text,
        }
    }

    fn trace(&self, row: &Row) -> String {
        let id = row.text("trace_id");
        let shown = if self.full_ids { id.as_str() } else { id.get(..8).unwrap_or(&id) };
        shown.to_owned()
    }

    fn log(&self, row: &Row, screen: Screen) -> String {
        let number = row.text("severity_number").parse().unwrap_or(0);
        let severity = printable(&row.text("severity"));
        let event = row.text("event");
        let body = if event.is_empty() { row.text("body") } else { format!("[{event}] {}", row.text("body")) };
        join(
            screen,
            &[
                (Paint::Dim, self.time(row), 23),
                (Paint::severity(number), cut(&severity, Some(5)), 5),
                (Paint::Cyan, row.text("service"), 16),
                (Paint::Dim, self.trace(row), if self.full_ids { 32 } else { 8 }),
                (Paint::Plain, body, 0),
            ],
        )
    }

    fn span(&self, row: &Row, screen: Screen) -> String {
        let status = row.text("status");
        let paint = if status == "error" { Paint::Red } else { Paint::Plain };
        let name = format!("{} {}", row.text("name"), row.text("status_message"));
        join(
            screen,
            &[
                (Paint::Dim, self.time(row), 23),
                (Paint::Yellow, duration(row.text("duration_ns").parse().unwrap_or(0)), 9),
                (Paint::Cyan, row.text("service"), 16),
                (Paint::Dim, self.trace(row), if self.full_ids { 32 } else { 8 }),
                (paint, if status == "unset" { String::new() } else { status }, 5),
                (paint, name.trim_end().to_owned(), 0),
            ],
        )
    }
}

/// Cells padded to their width and painted; the whole line is cut to the screen.
fn join(screen: Screen, cells: &[(Paint, String, usize)]) -> String {
    use unicode_width::UnicodeWidthStr as _;
    let mut out = String::new();
    let mut left = screen.width;
    for (at, (paint, text, width)) in cells.iter().enumerate() {
        let text = cut(&printable(text), left);
        let used = text.width().max(*width) + usize::from(at + 1 < cells.len());
        let pad = used - text.width();
        out.push_str(&paint.on(screen, &text));
        if at + 1 < cells.len() {
            out.push_str(&" ".repeat(pad));
        }
        left = left.map(|left| left.saturating_sub(used));
        if left == Some(0) {
            break;
        }
    }
    out.trim_end().to_owned()
}

/// A duration in three digits or so: `999 ns`, `12.3 ms`, `4.56 s`.
pub(super) fn duration(ns: i64) -> String {
    let value = ns.unsigned_abs() as f64;
    let sign = if ns < 0 { "-" } else { "" };
    let (scaled, unit) = match value {
        v if v < 1e3 => (v, "ns"),
        v if v < 1e6 => (v / 1e3, "µs"),
        v if v < 1e9 => (v / 1e6, "ms"),
        v => (v / 1e9, "s"),
    };
    let digits = match scaled {
        _ if unit == "ns" => 0,
        s if s < 10.0 => 2,
        s if s < 100.0 => 1,
        _ => 0,
    };
    format!("{sign}{scaled:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_lines_for_people() {
        let log = r#"{"time":"2023-01-29T08:42:09.479123456Z","severity":"ERROR","severity_number":17,"service":"shop","event":"e.v","body":"a\nb\u001b","trace_id":"e8a3352051e85c13136b27945b8cab5b"}"#;
        let span = r#"{"time":"2023-01-29T08:42:09.479Z","duration_ns":12345678,"service":"shop","name":"GET /","status":"error","status_message":"no","trace_id":"e8a3352051e85c13136b27945b8cab5b"}"#;
        let plain = |width| Screen { width, colour: false };
        for (table, full_ids, screen, line, want) in [
            (
                TableName::Logs,
                false,
                plain(None),
                log,
                "2023-01-29 08:42:09.479 ERROR shop             e8a33520 [e.v] a⏎b\\u{1b}",
            ),
            (
                TableName::Logs,
                true,
                plain(Some(90)),
                log,
                "2023-01-29 08:42:09.479 ERROR shop             e8a3352051e85c13136b27945b8cab5b [e.v] a⏎b…",
            ),
            (TableName::Logs, false, plain(None), "{}", ""),
            (
                TableName::Logs,
                false,
                Screen { width: None, colour: true },
                r#"{"time":"x","severity":"WARN","severity_number":13,"service":"s","body":"b"}"#,
                "\x1b[2mx\x1b[0m                       \x1b[33mWARN\x1b[0m  \x1b[36ms\x1b[0m                \
                 \x1b[2m\x1b[0m         b",
            ),
            (
                TableName::Spans,
                false,
                plain(None),
                span,
                "2023-01-29 08:42:09.479 12.3 ms   shop             e8a33520 error GET / no",
            ),
        ] {
            let style = Style { zone: TimeZone::UTC, table, full_ids };
            assert_eq!(style.line(&Row::parse(line).unwrap(), screen), want, "{line}");
        }
    }

    #[test]
    fn events_are_read() {
        let mut events = Events::default();
        let text = "id: 7\nevent: row\ndata: {\"a\":1}\n\n: still here\nid: 9\n\nevent: slow\n\nevent: error\ndata: \
                    {\"detail\":\"no\"}\n\ndata:{}\n\n";
        let got: Vec<Event> = text.lines().filter_map(|line| events.line(line)).collect();
        let row = |text: &str| Event::Row(text.to_owned());
        assert_eq!(got, [row("{\"a\":1}"), Event::Slow, Event::Problem("no".to_owned()), row("{}")]);
    }

    #[test]
    fn durations_are_short() {
        for (ns, want) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_500, "1.50 µs"),
            (12_345_678, "12.3 ms"),
            (-4_560_000_000, "-4.56 s"),
            (123_456_000_000, "123 s"),
        ] {
            assert_eq!(duration(ns), want);
        }
    }
}
