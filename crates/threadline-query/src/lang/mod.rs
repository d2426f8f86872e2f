//! The search language: one line, as people type it elsewhere. Text to tree and back; docs/search.md is its manual.
//!
//! Vocabulary:
//! - *condition*: one field and one test of it; a bare word, phrase or pattern is a condition on the body;
//! - *term*: a maximal run of ASCII letters, digits, `_` and non-ASCII characters;
//! - *canonical text*: what a tree prints as; it parses to the same tree.
//!
//! It needs nothing but the standard library, and knows neither columns nor how a condition is evaluated.

use std::fmt;

mod ast;
mod parser;
mod rule;
#[cfg(test)]
mod tests;
mod value;

pub use ast::{Expr, Field, Test};
pub use rule::{RULES, Standing};
pub use value::{
    Flag, Level, Network, Number, Op, Severity, code_name, format_duration, format_time, parse_time,
};

/// Bytes of a search at most.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Brackets and negations inside one another at most.
pub const DEPTH_MAX: usize = 64;
/// Conditions, operators and brackets of a search at most.
pub const NODES_MAX: usize = 1000;
/// Bytes of a regular expression at most.
pub const REGEX_BYTES_MAX: usize = 1024;

/// Where and why a search does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong and what to do.
    pub message: String,
    /// Byte offset of the first character that is wrong.
    pub at: usize,
    /// Bytes that are wrong, at least 1 unless at the end.
    pub len: usize,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at + 1, self.message)
    }
}

impl std::error::Error for ParseError {}

/// Parses a search. The empty text is [`Expr::All`].
///
/// # Errors
/// What is wrong and where; also when a cap ([`TEXT_BYTES_MAX`], [`DEPTH_MAX`], [`NODES_MAX`],
/// [`REGEX_BYTES_MAX`]) is exceeded. Regular expressions are checked when the tree is compiled.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parser::parse(text)
}

/// Whether a character belongs to a term.
pub fn is_term_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}
