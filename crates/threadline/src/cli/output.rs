//! Rows as text: lines for people, aligned tables, JSON, CSV. Machine formats pass values on uncut; on a terminal they are tamed.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::args::{Format, Screen};
use super::failure::Failure;

/// Rows that a CSV answer may have: its columns are known only when all rows are.
const CSV_ROWS_MAX: usize = 1_000_000;
/// Rows of an aligned table that share their widths.
const TABLE_ROWS: usize = 10_000;

/// A JSON object with its members in their order.
pub(super) struct Row(pub(super) Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Row(members))
            }
        }
        json.deserialize_map(Members)
    }
}

impl Row {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Result<Row, Failure> {
        serde_json::from_str(line)
            .map_err(|error| Failure::Failed(format!("a row is no JSON object ({error}): {line}")))
    }

    /// JSON of a member.
    pub(super) fn json(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.get())
    }

    /// A member as people write it: strings without quotes, the rest as JSON; empty without one.
    pub(super) fn text(&self, name: &str) -> String {
        self.json(name).map_or_else(String::new, bare)
    }
}

/// A JSON value as people write it.
fn bare(json: &str) -> String {
    match json {
        "null" => String::new(),
        _ => serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()),
    }
}

/// Text that is safe to show in one line: control characters are shown as what they are.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push(' '),
            '\r' => {}
            c if is_wild(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Whether a terminal would obey a character instead of showing it: the C0 and C1 controls, and what reorders or breaks lines of text
/// (Unicode TR 9).
fn is_wild(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A line of JSON or CSV as a terminal may have it: wild characters as JSON writes them, so that JSON stays what it is.
fn tamed(line: &str) -> Cow<'_, str> {
    let wild = |c: char| is_wild(c) && !matches!(c, '\n' | '\t');
    if !line.contains(wild) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if wild(c) {
            // All of them are in the first plane.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Text of a machine format: as it is for machines, tamed for a terminal.
fn safe(screen: Screen, text: &str) -> Cow<'_, str> {
    if screen.width.is_some() { tamed(text) } else { Cow::Borrowed(text) }
}

/// [`safe`] for standard output.
pub(super) fn for_stdout(text: &str) -> Cow<'_, str> {
    safe(Screen::detect(), text)
}

/// Cuts text to a width, with `…` where something is missing.
pub(super) fn cut(text: &str, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| text.width() > *width) else { return text.to_owned() };
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Colours by their SGR parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Dim,
    Bold,
    Red,
    BrightRed,
    Yellow,
    Green,
    Cyan,
    Plain,
}

impl Paint {
    /// Wraps text, when the screen has colours.
    pub(super) fn on(self, screen: Screen, text: &str) -> String {
        let code = match self {
            Paint::Plain => return text.to_owned(),
            Paint::Dim => "2",
            Paint::Bold => "1",
            Paint::Red => "31",
            Paint::BrightRed => "1;31",
            Paint::Yellow => "33",
            Paint::Green => "32",
            Paint::Cyan => "36",
        };
        if screen.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Of a severity.
    pub(super) fn severity(number: i64) -> Paint {
        match number {
            1..=8 => Paint::Dim,
            9..=12 => Paint::Green,
            13..=16 => Paint::Yellow,
            17..=20 => Paint::Red,
            21.. => Paint::BrightRed,
            _ => Paint::Plain,
        }
    }
}

/// An aligned table. Columns of numbers are aligned to the right.
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(super) fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Writes it. On a screen with a bound the last column is cut.
    pub(super) fn write(&self, out: &mut dyn Write, screen: Screen) -> io::Result<()> {
        let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row.get(at).map_or(0, |cell| cell.width()));
            cells.chain(self.head.get(at).map(|name| name.width())).max().unwrap_or(0)
        };
        let right = |at: usize| {
            let mut cells =
                self.rows.iter().map(|row| cell(row, at)).filter(|cell| !cell.is_empty()).peekable();
            cells.peek().is_some() && cells.all(|cell| cell.parse::<f64>().is_ok())
        };
        let columns: Vec<(usize, bool)> = (0..self.head.len()).map(|at| (width(at), right(at))).collect();
        let line = |row: &[String]| {
            let mut out = String::new();
            for (at, (width, right)) in columns.iter().enumerate() {
                let cell = cell(row, at);
                let pad = " ".repeat(width.saturating_sub(cell.width()));
                let last = at + 1 == columns.len();
                match (right, last) {
                    (true, _) => out.push_str(&format!("{pad}{cell}")),
                    (false, true) => out.push_str(&cell),
                    (false, false) => out.push_str(&format!("{cell}{pad}")),
                }
                if !last {
                    out.push_str("  ");
                }
            }
            cut(out.trim_end(), screen.width)
        };
        writeln!(out, "{}", Paint::Bold.on(screen, &line(&self.head)))?;
        for row in &self.rows {
            writeln!(out, "{}", line(row))?;
        }
        Ok(())
    }
}

/// How a row looks in one line for people.
pub(super) type Line<'a> = &'a dyn Fn(&Row, Screen) -> String;

/// Writes rows in a format.
pub(super) struct RowWriter<'a> {
    out: Box<dyn Write + 'a>,
    format: Format,
    screen: Screen,
    /// How rows look for people; an aligned table without it.
    line: Option<Line<'a>>,
    /// Columns of CSV; those that the rows have when empty.
    columns: &'a [&'a str],
    kept: Vec<Row>,
    rows: u64,
}

impl<'a> RowWriter<'a> {
    /// A writer.
    pub(super) fn new(
        out: Box<dyn Write + 'a>,
        format: Format,
        screen: Screen,
        line: Option<Line<'a>>,
        columns: &'a [&'a str],
    ) -> Self {
        Self { out, format, screen, line, columns, kept: Vec::new(), rows: 0 }
    }

    /// Writes a row, or keeps it until more is known.
    pub(super) fn row(&mut self, line: &str) -> Result<(), Failure> {
        self.rows += 1;
        match (self.format, self.line) {
            (Format::Ndjson, _) => writeln!(self.out, "{}", safe(self.screen, line))?,
            (Format::Json, _) => {
                write!(self.out, "{}{}", if self.rows == 1 { "[\n" } else { ",\n" }, safe(self.screen, line))?;
            }
            (Format::Table, Some(show)) => writeln!(self.out, "{}", show(&Row::parse(line)?, self.screen))?,
            (Format::Table, None) => {
                self.kept.push(Row::parse(line)?);
                if self.kept.len() >= TABLE_ROWS {
                    self.table()?;
                }
            }
            (Format::Csv, _) if self.columns.is_empty() => {
                if self.kept.len() >= CSV_ROWS_MAX {
                    let detail = format!("CSV takes at most {CSV_ROWS_MAX} rows: use -o ndjson");
                    return Err(Failure::Failed(detail));
                }
                self.kept.push(Row::parse(line)?);
            }
            (Format::Csv, _) => {
                if self.rows == 1 {
                    writeln!(self.out, "{}", self.columns.join(","))?;
                }
                let row = Row::parse(line)?;
                let cells: Vec<String> = self.columns.iter().map(|name| csv(&row.text(name))).collect();
                writeln!(self.out, "{}", safe(self.screen, &cells.join(",")))?;
            }
        }
        Ok(())
    }

    /// Shows what was written so far, for those who watch.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// Writes what was kept. How many rows there were.
    pub(super) fn end(mut self) -> Result<u64, Failure> {
        match self.format {
            Format::Table if !self.kept.is_empty() => self.table()?,
            Format::Json => writeln!(self.out, "{}", if self.rows == 0 { "[]" } else { "\n]" })?,
            Format::Csv if self.columns.is_empty() => self.csv()?,
            Format::Csv if self.rows == 0 => writeln!(self.out, "{}", self.columns.join(","))?,
            _ => {}
        }
        self.out.flush()?;
        Ok(self.rows)
    }

    /// Names of all members, in the order in which they are first seen.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in self.kept.iter().flat_map(|row| &row.0) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    fn table(&mut self) -> Result<(), Failure> {
        let names = self.names();
        let mut table = Table::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for row in self.kept.drain(..) {
            table.row(names.iter().map(|name| row.text(name)));
        }
        Ok(table.write(&mut self.out, self.screen)?)
    }

    fn csv(&mut self) -> Result<(), Failure> {
        let names = self.names();
        let head: Vec<String> = names.iter().map(|name| csv(name)).collect();
        writeln!(self.out, "{}", head.join(","))?;
        for row in self.kept.drain(..) {
            let cells: Vec<String> = names.iter().map(|name| csv(&row.text(name))).collect();
            writeln!(self.out, "{}", safe(self.screen, &cells.join(",")))?;
        }
        Ok(())
    }
}

/// A list that stands in an answer, in the formats for machines.
pub(super) fn rows(values: &[Value], format: Format) -> Result<(), Failure> {
    let out = io::stdout().lock();
    let mut writer = RowWriter::new(Box::new(out), format, Screen::detect(), None, &[]);
    for value in values {
        writer.row(&value.to_string())?;
    }
    writer.end()?;
    Ok(())
}

/// Rows of cells as CSV, below their head.
pub(super) fn write_csv<const N: usize>(
    out: &mut impl Write,
    head: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> io::Result<()> {
    writeln!(out, "{}", head.join(","))?;
    for row in rows {
        writeln!(out, "{}", for_stdout(&row.map(|cell| csv(&cell)).join(",")))?;
    }
    Ok(())
}

/// A member as a cell of a table.
pub(super) fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        Some(Value::String(text)) => printable(text),
        Some(Value::Array(texts)) => {
            let texts: Vec<String> = texts.iter().filter_map(Value::as_str).map(printable).collect();
            texts.join(", ")
        }
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

/// A member that is a list; empty where there is none.
pub(super) fn list(value: &Value, name: &str) -> Vec<Value> {
    value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// A field of CSV (RFC 4180).
pub(super) fn csv(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Screen = Screen { width: None, colour: false };

    fn written(format: Format, columns: &[&str], lines: &[&str]) -> String {
        let mut out = Vec::new();
        let mut writer = RowWriter::new(Box::new(&mut out), format, PLAIN, None, columns);
        for line in lines {
            writer.row(line).unwrap();
        }
        assert_eq!(writer.end().unwrap(), lines.len() as u64);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_are_written_in_every_format() {
        let lines = [r#"{"service":"a","n":10,"z":1}"#, r#"{"service":"bc\n\"","n":7.5,"extra":{"k":[1]}}"#];
        for (format, columns, lines, want) in [
            (Format::Ndjson, &[][..], &lines[..], format!("{}\n{}\n", lines[0], lines[1])),
            (Format::Json, &[], &lines, format!("[\n{},\n{}\n]\n", lines[0], lines[1])),
            (Format::Json, &[], &[], "[]\n".to_owned()),
            (
                Format::Csv,
                &[],
                &lines,
                "service,n,z,extra\na,10,1,\n\"bc\n\"\"\",7.5,,\"{\"\"k\"\":[1]}\"\n".to_owned(),
            ),
            (Format::Csv, &["n", "gone"], &lines, "n,gone\n10,\n7.5,\n".to_owned()),
            (Format::Csv, &["n"], &[], "n\n".to_owned()),
            (
                Format::Table,
                &[],
                &lines,
                "service    n  z  extra\na         10  1\nbc⏎\"     7.5     {\"k\":[1]}\n".to_owned(),
            ),
            (Format::Table, &[], &[], String::new()),
        ] {
            assert_eq!(written(format, columns, lines), want, "{format:?}");
        }
    }

    #[test]
    fn machine_formats_are_tame_on_a_terminal_only() {
        let line = "{\"body\":\"a\u{9b}31m\u{202e}b\",\"n\":\"\\u001b[31m\"}";
        for (format, width, want) in [
            (Format::Ndjson, None, format!("{line}\n")),
            (Format::Ndjson, Some(80), "{\"body\":\"a\\u009b31m\\u202eb\",\"n\":\"\\u001b[31m\"}\n".to_owned()),
            (Format::Csv, None, "body,n\na\u{9b}31m\u{202e}b,\u{1b}[31m\n".to_owned()),
            (Format::Csv, Some(80), "body,n\na\\u009b31m\\u202eb,\\u001b[31m\n".to_owned()),
        ] {
            let mut out = Vec::new();
            let screen = Screen { width, colour: false };
            let mut writer = RowWriter::new(Box::new(&mut out), format, screen, None, &[]);
            writer.row(line).unwrap();
            writer.end().unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want, "{format:?} {width:?}");
        }
    }

    #[test]
    fn text_for_the_terminal_is_tame_and_fits() {
        for (text, want) in [
            ("a\x1b[31mb", "a\\u{1b}[31mb"),
            ("a\r\nb\tc", "a⏎b c"),
            ("\u{202e}x\u{9b}", "\\u{202e}x\\u{9b}"),
            ("a\u{2028}b\u{2029}", "a\\u{2028}b\\u{2029}"),
            ("日本", "日本"),
        ] {
            assert_eq!(printable(text), want);
        }
        for (text, width, want) in [
            ("abcdef", Some(4), "abc…"),
            ("abcd", Some(4), "abcd"),
            ("日本語", Some(5), "日本…"),
            ("日本語", Some(4), "日…"),
            ("abc", Some(0), ""),
            ("abc", None, "abc"),
        ] {
            assert_eq!(cut(text, width), want, "{text}");
        }
    }
}
