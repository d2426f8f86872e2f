//! A condition on one attribute, small enough to be checked for every record.

use std::fmt;

use threadline_model::value::Value;

/// An attribute and what it must be for the condition to hold. A missing attribute fulfils none.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Key.
    pub attribute: String,
    /// What it must be.
    pub test: Test,
}

/// What an attribute must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// There.
    Exists,
    /// One of these, as texts.
    Is(Vec<String>),
    /// A number from … to …, both included.
    Within(i64, i64),
}

impl Test {
    /// Whether a value passes.
    pub fn holds(&self, value: &Value<'_>) -> bool {
        match self {
            Test::Exists => !matches!(value, Value::Empty),
            Test::Within(from, to) => matches!(value, Value::Int(int) if (from..=to).contains(&int)),
            Test::Is(texts) => match value {
                Value::Str(text) => texts.iter().any(|known| known == text),
                Value::Int(int) => texts.iter().any(|known| known.parse() == Ok(*int)),
                Value::Bool(bool) => texts.iter().any(|known| known.parse() == Ok(*bool)),
                _ => false,
            },
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.test {
            Test::Exists => write!(f, "{} is there", self.attribute),
            Test::Is(texts) => write!(f, "{} is {}", self.attribute, texts.join(" or ")),
            Test::Within(from, to) => write!(f, "{} is {from} to {to}", self.attribute),
        }
    }
}
