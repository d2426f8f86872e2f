//! Tests of one text, and of a whole column of texts at the speed of a substring search.

use std::borrow::Cow;

use arrow_array::{Array, StringArray};
use memchr::memmem::Finder;
use regex::bytes::{Regex, RegexBuilder};

use super::mask::Mask;
use crate::QueryError;
use crate::lang::{Network, Number, Op, Test, is_term_char};

/// Bytes a compiled regular expression may take.
const REGEX_COMPILED_BYTES_MAX: usize = 2 << 20;

/// A compiled test of a text.
#[derive(Debug)]
pub(super) enum TextTest {
    Exists,
    Equals(String, Option<Number>),
    Differs(String, Option<Number>),
    /// Whole value; the pieces between the stars.
    Glob(Vec<String>),
    Contains(Finder<'static>),
    /// The regular expression is found.
    Regex(Regex),
    /// The expression is found with a term boundary at either end of the match.
    Phrase(Phrase),
    Number(Op, Number),
    Network(Network),
    /// Some address in the text lies in the network.
    Mentions(Network),
}

/// Text that is found without case, with a term boundary at either end.
#[derive(Debug)]
pub(super) struct Phrase {
    regex: Regex,
    starts_in_term: bool,
    ends_in_term: bool,
}

fn is_term_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn regex(pattern: &str, shown: &str) -> Result<Regex, QueryError> {
    RegexBuilder::new(pattern).size_limit(REGEX_COMPILED_BYTES_MAX).build().map_err(|error| {
        let detail = match error {
            regex::Error::CompiledTooBig(_) => {
                "it is too large when compiled: use fewer repetitions".to_owned()
            }
            error => error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        };
        QueryError::Invalid(format!("the regular expression /{shown}/ is not valid: {detail}"))
    })
}

impl Phrase {
    fn new(text: &str) -> Result<Phrase, QueryError> {
        // Without Unicode the search is faster, and the same for ASCII.
        let flags = if text.is_ascii() { "(?i-u)" } else { "(?i)" };
        Ok(Phrase {
            regex: regex(&format!("{flags}{}", regex::escape(text)), text)?,
            starts_in_term: text.starts_with(is_term_char),
            ends_in_term: text.ends_with(is_term_char),
        })
    }

    /// Whether a match stands at term boundaries of the text `from..to`.
    fn is_bounded(&self, bytes: &[u8], start: usize, end: usize, from: usize, to: usize) -> bool {
        let in_term = |at: usize| bytes.get(at).is_some_and(|byte| is_term_byte(*byte));
        !(self.starts_in_term && start > from && in_term(start - 1))
            && !(self.ends_in_term && end < to && in_term(end))
    }

    fn is_in(&self, text: &[u8]) -> bool {
        let mut at = 0;
        while let Some(found) = self.regex.find_at(text, at) {
            if self.is_bounded(text, found.start(), found.end(), 0, text.len()) {
                return true;
            }
            at = found.start() + 1;
        }
        false
    }
}

/// A body pattern such as `conn*` as a regular expression with its boundaries.
fn body_wildcard(pattern: &str) -> Result<Regex, QueryError> {
    const TERM: &str = "(?-u:[0-9A-Za-z_\\x80-\\xFF])";
    let outside = |end: &str| format!("(?:{end}|(?-u:[^0-9A-Za-z_\\x80-\\xFF]))");
    let pieces: Vec<String> = pattern.split('*').map(regex::escape).collect();
    let bound = |piece: Option<char>| piece.is_none_or(is_term_char);
    let open = if bound(pattern.chars().next().filter(|c| *c != '*')) { outside("\\A") } else { String::new() };
    let close =
        if bound(pattern.chars().last().filter(|c| *c != '*')) { outside("\\z") } else { String::new() };
    // As for phrases: what is ASCII differs from it in the case of ASCII letters only.
    let flags = if pattern.is_ascii() { "(?i-u)" } else { "(?i)" };
    regex(&format!("{flags}{open}{}{close}", pieces.join(&format!("{TERM}*"))), pattern)
}

impl TextTest {
    /// Compiles a test; `None` for a test that is not one of text.
    pub(super) fn new(test: &Test, body: bool) -> Result<Option<TextTest>, QueryError> {
        Ok(Some(match test {
            Test::Exists => TextTest::Exists,
            Test::Equals(text) => TextTest::Equals(text.clone(), Number::parse(text)),
            Test::Differs(text) => TextTest::Differs(text.clone(), Number::parse(text)),
            Test::Wildcard(pattern) if body => TextTest::Regex(body_wildcard(pattern)?),
            Test::Wildcard(pattern) => TextTest::Glob(pattern.split('*').map(str::to_owned).collect()),
            Test::Contains(text) => TextTest::Contains(Finder::new(text).into_owned()),
            Test::Regex(pattern) => TextTest::Regex(regex(pattern, pattern)?),
            Test::Phrase(text) => TextTest::Phrase(Phrase::new(text)?),
            Test::Number(op, number) => TextTest::Number(*op, *number),
            Test::Network(network) if body => TextTest::Mentions(*network),
            Test::Network(network) => TextTest::Network(*network),
            _ => return Ok(None),
        }))
    }

    /// Relative cost of a row of plain text.
    pub(super) fn cost(&self) -> u32 {
        match self {
            TextTest::Exists => 1,
            TextTest::Equals(..) | TextTest::Differs(..) | TextTest::Glob(_) => 2,
            TextTest::Contains(_) => 4,
            TextTest::Phrase(_) => 6,
            TextTest::Number(..) | TextTest::Network(_) => 8,
            TextTest::Mentions(_) => 12,
            TextTest::Regex(_) => 20,
        }
    }

    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            TextTest::Exists => true,
            TextTest::Equals(want, _) => text == want,
            TextTest::Differs(other, _) => text != other,
            TextTest::Glob(pieces) => glob(pieces, text),
            TextTest::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            TextTest::Regex(regex) => regex.is_match(text.as_bytes()),
            TextTest::Phrase(phrase) => phrase.is_in(text.as_bytes()),
            TextTest::Number(op, number) => Number::parse(text).is_some_and(|n| op.holds(n.compare(*number))),
            TextTest::Network(network) => network.contains_text(text),
            TextTest::Mentions(network) => network.is_mentioned_in(text),
        }
    }

    /// Tests a number that is stored as one; `text` is its text.
    pub(super) fn is_number(&self, number: Number, text: &str) -> bool {
        match self {
            TextTest::Equals(_, Some(want)) => number.compare(*want).is_eq(),
            TextTest::Differs(_, Some(other)) => number.compare(*other).is_ne(),
            TextTest::Number(op, other) => op.holds(number.compare(*other)),
            other => other.is(text),
        }
    }

    /// Tests a typed-JSON value.
    pub(super) fn is_json(&self, raw: threadline_model::value::Raw<'_>) -> bool {
        match raw.str() {
            Some(Cow::Borrowed(text)) => self.is(text),
            Some(Cow::Owned(text)) => self.is(&text),
            None => match Number::parse(raw.json()) {
                Some(number) => self.is_number(number, raw.json()),
                None => self.is(raw.json()),
            },
        }
    }

    /// The rows of `alive` whose text fulfils the test.
    pub(super) fn select(&self, array: &StringArray, alive: &Mask) -> Mask {
        // A search over the whole buffer pays off unless most rows are out already.
        if alive.count() * 8 >= array.len() {
            match self {
                TextTest::Contains(finder) => {
                    let needle = finder.needle().len();
                    let find = |bytes: &[u8], at: usize| {
                        let start = at + finder.find(bytes.get(at..)?)?;
                        Some((start, start + needle))
                    };
                    return search_rows(array, alive, find, |_, _, _, _, _| true);
                }
                TextTest::Phrase(phrase) => {
                    let find = |bytes: &[u8], at: usize| {
                        phrase.regex.find_at(bytes, at).map(|found| (found.start(), found.end()))
                    };
                    return search_rows(array, alive, find, |b, s, e, from, to| {
                        phrase.is_bounded(b, s, e, from, to)
                    });
                }
                _ => {}
            }
        }
        let mut found = alive.clone();
        found.retain(|row| array.is_valid(row) && self.is(array.value(row)));
        found
    }
}

/// Rows of `alive` in whose text something is found, by one search over the array's bytes.
/// `find(bytes, at)` gives the first match at or after `at`; `accept(bytes, start, end, row_start, row_end)` judges it.
pub(super) fn search_rows(
    array: &StringArray,
    alive: &Mask,
    find: impl Fn(&[u8], usize) -> Option<(usize, usize)>,
    accept: impl Fn(&[u8], usize, usize, usize, usize) -> bool,
) -> Mask {
    let mut found = Mask::none(array.len());
    let offsets = array.value_offsets();
    let offset = |index: usize| offsets.get(index).map_or(0, |at| *at as usize);
    let bytes = array.value_data().get(..offset(array.len())).unwrap_or_default();
    let (mut at, mut row) = (offset(0), 0);
    while at < bytes.len() {
        let Some((start, end)) = find(bytes, at) else { break };
        // The row that holds `start`: the last whose text begins at or before it.
        row += offsets.get(row + 1..).unwrap_or_default().partition_point(|next| *next as usize <= start);
        let (row_start, row_end) = (offset(row), offset(row + 1));
        if !alive.get(row) || array.is_null(row) {
            at = row_end.max(start + 1);
        } else if end <= row_end && accept(bytes, start, end, row_start, row_end) {
            found.set(row);
            at = row_end;
        } else {
            at = start + 1;
        }
    }
    found
}

fn glob(pieces: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = pieces else { return pieces.first().is_some_and(|only| only == text) };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()))
    else {
        return false;
    };
    for piece in middle {
        let Some(at) = rest.find(piece.as_str()) else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    true
}
