//! Why a command failed, how that is said, and its exit code.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The command line or a setting is wrong.
    Usage(String),
    /// The query is wrong; for a search also where.
    Query {
        /// What is wrong.
        detail: String,
        /// The search, and the bytes of it that are wrong.
        place: Option<(String, usize, usize)>,
    },
    /// The hub does not let us do that.
    Denied(String),
    /// Nobody answers at the hub's address.
    Unreachable(String),
    /// It could not be done.
    Failed(String),
    /// Whoever read the output has gone.
    ReaderGone,
}

impl Failure {
    /// Says it on standard error. The exit code.
    pub fn report(&self) -> ExitCode {
        let text = self.text();
        if !text.is_empty() {
            eprint!("{text}");
        }
        self.code()
    }

    /// The exit code.
    pub fn code(&self) -> ExitCode {
        match self {
            Failure::ReaderGone => ExitCode::SUCCESS,
            Failure::Failed(_) | Failure::Denied(_) => ExitCode::from(1),
            Failure::Usage(_) | Failure::Query { .. } => ExitCode::from(2),
            Failure::Unreachable(_) => ExitCode::from(3),
        }
    }

    /// What is said, with its newlines.
    pub fn text(&self) -> String {
        match self {
            Failure::ReaderGone => String::new(),
            Failure::Usage(detail)
            | Failure::Failed(detail)
            | Failure::Denied(detail)
            | Failure::Unreachable(detail) => {
                format!("error: {detail}\n")
            }
            Failure::Query { detail, place: None } => format!("error: {detail}\n"),
            Failure::Query { detail, place: Some((search, at, len)) } => {
                let mut out = format!("error: {detail}\n");
                point(&mut out, search, *at, *len);
                out
            }
        }
    }
}

/// The search with carets under the part that is wrong. Only the line that the part is in.
fn point(out: &mut String, search: &str, at: usize, len: usize) {
    let at = floor(search, at);
    let end = floor(search, at.saturating_add(len).min(search.len())).max(at);
    let (before, rest) = search.split_at_checked(at).unwrap_or((search, ""));
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let shown_before = before.get(line_start..).unwrap_or_default();
    let line = rest.split('\n').next().unwrap_or_default();
    let wrong = search.get(at..end).unwrap_or_default().split('\n').next().unwrap_or_default();
    let width = |text: &str| unicode_width::UnicodeWidthStr::width(text);
    let _ = writeln!(out, "  {}", format!("{shown_before}{line}").replace(char::is_control, " "));
    let _ = writeln!(out, "  {}{}", " ".repeat(width(shown_before)), "^".repeat(width(wrong).max(1)));
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::Failed(error.to_string()),
        }
    }
}

impl From<threadline_store::StoreError> for Failure {
    fn from(error: threadline_store::StoreError) -> Self {
        Failure::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_the_wrong_character() {
        for (search, at, len, want) in [
            ("a:b )c", 4, 1, "error: e\n  a:b )c\n      ^\n"),
            ("日本 (x", 7, 2, "error: e\n  日本 (x\n       ^^\n"),
            ("(x", 2, 0, "error: e\n  (x\n    ^\n"),
            ("a\nb (", 4, 1, "error: e\n  b (\n    ^\n"),
            ("é", 1, 1, "error: e\n  é\n  ^\n"),
            ("", 99, 99, "error: e\n  \n  ^\n"),
        ] {
            let failure = Failure::Query { detail: "e".to_owned(), place: Some((search.to_owned(), at, len)) };
            assert_eq!(failure.text(), want, "{search}");
        }
    }
}
