//! What a reader may leave out: conditions that files, row groups, pages and granules are judged by.
//!
//! A [`Prune`] is a conjunction. Whatever it excludes cannot match; whatever it lets through is checked row by row by
//! the caller. It does not know the search language: the query crate compiles it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use threadline_model::id::TraceId;

/// What a row must fulfil to be of interest: a conjunction. A scan leaves out files, row groups and pages in which no
/// row can fulfil it; rows that do not fulfil it may still come, so the caller checks each row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prune {
    /// Event time in µs lies in this range.
    pub ts: Option<RangeInclusive<i64>>,
    /// Sequence number lies in this range.
    pub seq: Option<RangeInclusive<i64>>,
    /// The trace id is one of these.
    pub trace_ids: Option<Vec<TraceId>>,
    /// The service is one of these.
    pub services: Option<Vec<String>>,
    /// Severity number lies in this range (null = 0).
    pub severity: Option<RangeInclusive<i32>>,
    /// What the indexes of a file are asked.
    pub index: IndexPlan,
}

/// A question to a file's indexes. The answer is a set of granules (docs/formats.md) that has all rows in question.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum IndexPlan {
    /// Any row may be meant.
    #[default]
    All,
    /// No row can be meant.
    Nothing,
    /// Rows that all of these mean.
    And(Vec<IndexPlan>),
    /// Rows that any of these means.
    Or(Vec<IndexPlan>),
    /// The body has this term (lower case, shorter than [`TERM_BYTES_MAX`]).
    Term(TermList, String),
    /// The body has a term that is found so.
    Terms(TermList, Finder),
    /// The body has a term that begins with one of these and fulfils the test.
    Beginning {
        /// Where the term is sought.
        list: TermList,
        /// In lower case.
        prefixes: Vec<String>,
        /// The test of the whole term.
        test: ValueTest,
    },
    /// The column has a value that fulfils the test.
    Value {
        /// A dictionary or integer column.
        column: String,
        /// The test.
        test: ValueTest,
    },
    /// Where every row of the file has a value in the column: rows whose value fulfils the test. Else those, and what
    /// `elsewhere` means.
    Attribute {
        /// A dictionary or integer column.
        column: String,
        /// The test.
        test: ValueTest,
        /// Where the value lies in rows without one in the column.
        elsewhere: Box<IndexPlan>,
    },
    /// Any row may be meant, if the file has this column.
    HasColumn(String),
    /// The row's own trace id is this one.
    Trace(TraceId),
}

impl IndexPlan {
    /// Rows that all of these mean.
    pub fn and(parts: Vec<IndexPlan>) -> IndexPlan {
        let mut kept: Vec<IndexPlan> = Vec::new();
        for part in parts {
            match part {
                IndexPlan::All => {}
                IndexPlan::Nothing => return IndexPlan::Nothing,
                IndexPlan::And(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => IndexPlan::All,
            1 => kept.pop().unwrap_or_default(),
            _ => IndexPlan::And(kept),
        }
    }

    /// Rows that any of these means.
    pub fn or(parts: Vec<IndexPlan>) -> IndexPlan {
        let mut kept: Vec<IndexPlan> = Vec::new();
        for part in parts {
            match part {
                IndexPlan::All => return IndexPlan::All,
                IndexPlan::Nothing => {}
                IndexPlan::Or(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => IndexPlan::Nothing,
            1 => kept.pop().unwrap_or_default(),
            _ => IndexPlan::Or(kept),
        }
    }
}

/// Bytes of a term that is kept whole; what is longer is cut to these.
pub const TERM_BYTES_MAX: usize = 256;

/// A list of the terms of bodies (docs/formats.md, "Terms").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TermList {
    /// Runs of term characters.
    Plain,
    /// IPv4 addresses.
    Addresses,
    /// UUIDs.
    Uuids,
    /// Dotted runs with four or more numbers in a row that are no address.
    Dotted,
    /// The numbers of addresses and dotted runs.
    Numbers,
}

/// What a finder does with terms: see [`Finder::new`].
type Find = dyn Fn(&[u8], &mut dyn FnMut(usize)) + Send + Sync;

/// Finds terms in a list of them.
#[derive(Clone)]
pub struct Finder {
    shown: String,
    find: Arc<Find>,
}

impl Finder {
    /// A finder; `shown` describes it, and two finders with the same description are the same.
    ///
    /// `find(terms, each)` gets terms in lower case with a line feed before, between and after them, and calls `each`
    /// with the place of some byte of every term that it finds, or of the line feed before that term.
    pub fn new(
        shown: impl Into<String>,
        find: impl Fn(&[u8], &mut dyn FnMut(usize)) + Send + Sync + 'static,
    ) -> Finder {
        Finder { shown: shown.into(), find: Arc::new(find) }
    }

    /// Finds terms.
    pub(crate) fn find(&self, terms: &[u8], each: &mut dyn FnMut(usize)) {
        (self.find)(terms, each);
    }
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl PartialEq for Finder {
    fn eq(&self, other: &Finder) -> bool {
        self.shown == other.shown
    }
}

/// A test of a value of a column.
#[derive(Clone)]
pub enum ValueTest {
    /// It is this text.
    Equals(String),
    /// It fulfils this, described by the text.
    Fulfils(String, Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl ValueTest {
    /// Whether a text fulfils it.
    pub(crate) fn holds(&self, value: &str) -> bool {
        match self {
            ValueTest::Equals(text) => text == value,
            ValueTest::Fulfils(_, test) => test(value),
        }
    }
}

impl fmt::Debug for ValueTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueTest::Equals(text) => write!(f, "={text}"),
            ValueTest::Fulfils(shown, _) => f.write_str(shown),
        }
    }
}

impl PartialEq for ValueTest {
    fn eq(&self, other: &ValueTest) -> bool {
        match (self, other) {
            (ValueTest::Equals(a), ValueTest::Equals(b)) => a == b,
            (ValueTest::Fulfils(a, _), ValueTest::Fulfils(b, _)) => a == b,
            _ => false,
        }
    }
}
