//! What is wrong with a file of rules or a pipeline, where, and what to do.

use std::fmt;

use threadline_model::yaml::Fault;

/// A fault in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// Line from 1; 0 = the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl Problem {
    /// A fault.
    pub fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Problem {
        Problem { file: file.into(), line, what: what.into() }
    }

    /// A fault, in that file.
    pub(crate) fn at(file: &str, fault: Fault) -> Problem {
        Problem::new(file, fault.line, fault.what)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for Problem {}
