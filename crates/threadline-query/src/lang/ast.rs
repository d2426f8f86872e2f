//! The tree and its canonical text.

use std::fmt;

use super::is_term_char;
use super::rule::Standing;
use super::value::{Flag, Level, Network, Number, Op, classify, format_duration, format_time};

/// A parsed search. Made by [`parse`](super::parse) or by [`Expr::and`], [`Expr::or`], [`Expr::negate`], which keep
/// the tree in normal form: no `And` in an `And`, no `Or` in an `Or`, at least two children, no double negation.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Expr {
    /// Everything.
    #[default]
    All,
    /// All of these.
    And(Vec<Expr>),
    /// At least one of these.
    Or(Vec<Expr>),
    /// Not this. Also true where the field is missing.
    Not(Box<Expr>),
    /// A test of a field. False where the field is missing.
    Is(Field, Test),
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Text of the record: the body of a log, name and status message of a span.
    Body,
    /// Service name.
    Service,
    /// Service instance id.
    Instance,
    /// Severity number.
    Severity,
    /// Severity as the source names it.
    SeverityText,
    /// Event name.
    Event,
    /// Trace id.
    Trace,
    /// Span id.
    Span,
    /// Parent's span id.
    Parent,
    /// Span name.
    Name,
    /// Span kind.
    Kind,
    /// Span status.
    Status,
    /// Span status message.
    StatusMessage,
    /// Span duration.
    Duration,
    /// Name of the instrumentation scope.
    ScopeName,
    /// Version of the instrumentation scope.
    ScopeVersion,
    /// Event time in effect.
    Time,
    /// Sequence number.
    Seq,
    /// What the host noted about the record (`is:…`).
    Mark,
    /// How the record stands to the contract (`contract:…`).
    Contract,
    /// A rule of the contract that the record breaks (`rule:…`).
    Rule,
    /// An attribute of the record, its resource or its scope.
    Attribute(String),
}

/// Names of the built-in fields; the first name of a field is the canonical one.
const NAMES: [(&str, Field); 32] = [
    ("body", Field::Body),
    ("service", Field::Service),
    ("service.name", Field::Service),
    ("instance", Field::Instance),
    ("service.instance.id", Field::Instance),
    ("severity", Field::Severity),
    ("severity_number", Field::Severity),
    ("severity_text", Field::SeverityText),
    ("event", Field::Event),
    ("event_name", Field::Event),
    ("event.name", Field::Event),
    ("trace", Field::Trace),
    ("trace_id", Field::Trace),
    ("span", Field::Span),
    ("span_id", Field::Span),
    ("parent", Field::Parent),
    ("parent_span_id", Field::Parent),
    ("name", Field::Name),
    ("kind", Field::Kind),
    ("status", Field::Status),
    ("status_code", Field::Status),
    ("status_message", Field::StatusMessage),
    ("duration", Field::Duration),
    ("scope", Field::ScopeName),
    ("scope.name", Field::ScopeName),
    ("scope.version", Field::ScopeVersion),
    ("time", Field::Time),
    ("ts", Field::Time),
    ("seq", Field::Seq),
    ("is", Field::Mark),
    ("contract", Field::Contract),
    ("rule", Field::Rule),
];

impl Field {
    /// The field of a name as typed, without `@`.
    pub fn parse(name: &str) -> Field {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map_or_else(|| Field::Attribute(name.to_owned()), |(_, field)| field.clone())
    }

    /// The field of a name as typed, with or without `@` for an attribute.
    pub fn parse_reference(name: &str) -> Field {
        match name.strip_prefix('@') {
            Some(key) => Field::Attribute(key.trim_matches('"').to_owned()),
            None => Field::parse(name),
        }
    }

    /// The canonical name; an attribute's key.
    pub fn name(&self) -> &str {
        match self {
            Field::Attribute(key) => key,
            known => NAMES.iter().find(|(_, field)| field == known).map_or("", |(name, _)| name),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Field::Attribute(key) = self else { return f.write_str(self.name()) };
        if !is_field_name(key) {
            return write!(f, "@{}", Quoted(key));
        }
        if NAMES.iter().any(|(name, _)| name == key) {
            f.write_str("@")?;
        }
        f.write_str(key)
    }
}

/// Whether a field can be named so without quotes.
pub(super) fn is_field_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'))
        && !name.ends_with(['-', '.', '/'])
}

/// What a field is held against.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// The field is there.
    Exists,
    /// Of text, without case: occurs, beginning and ending at a term boundary.
    Phrase(String),
    /// The whole value is this text.
    Equals(String),
    /// The field is there and its whole value is not this text.
    Differs(String),
    /// `*` stands for any run of characters; of a whole value, with case; of body text, `*` stands for term
    /// characters, begins and ends at a term boundary, without case.
    Wildcard(String),
    /// Occurs, with case.
    Contains(String),
    /// The regular expression is found.
    Regex(String),
    /// Compares as numbers.
    Number(Op, Number),
    /// The value is an IP address in this network.
    Network(Network),
    /// Compares the severity.
    Severity(Op, Level),
    /// The id in lower-case hex digits, or its beginning.
    Id {
        /// Hex digits.
        hex: String,
        /// Only the beginning is given.
        prefix: bool,
    },
    /// Span kind or status is this number, or is not.
    Code(Op, i32),
    /// Compares a duration in nanoseconds.
    Duration(Op, i64),
    /// Compares a time in nanoseconds since the Unix epoch.
    Time(Op, i64),
    /// The record is marked so.
    Mark(Flag),
    /// The record stands so to the contract.
    Standing(Standing),
    /// The record breaks a rule of this id, or one of these in [`RULES`](super::RULES).
    Rule(&'static str),
}

impl Expr {
    /// All of these, in normal form.
    pub fn and(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::All => {}
                Expr::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Expr::All,
            1 => flat.pop().unwrap_or_default(),
            _ => Expr::And(flat),
        }
    }

    /// At least one of these, in normal form. Nothing fulfils an empty list.
    pub fn or(parts: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Expr::All => return Expr::All,
                Expr::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Expr::Not(Box::new(Expr::All)),
            1 => flat.pop().unwrap_or_default(),
            _ => Expr::Or(flat),
        }
    }

    /// Not this, in normal form.
    pub fn negate(self) -> Expr {
        match self {
            Expr::Not(inner) => *inner,
            other => Expr::Not(Box::new(other)),
        }
    }

    /// Whether it says anything of quarantine, wherever and however: only then records in quarantine are looked at.
    pub fn names_quarantine(&self) -> bool {
        match self {
            Expr::All => false,
            Expr::And(parts) | Expr::Or(parts) => parts.iter().any(Expr::names_quarantine),
            Expr::Not(inner) => inner.names_quarantine(),
            Expr::Is(_, test) => {
                matches!(test, Test::Mark(Flag::Quarantined) | Test::Standing(Standing::Quarantined))
            }
        }
    }

    /// The service is this one.
    pub fn service(name: &str) -> Expr {
        Expr::Is(Field::Service, Test::Equals(name.to_owned()))
    }

    /// The trace id is this one; `hex` has 32 hex digits.
    pub fn trace(hex: &str) -> Expr {
        Expr::Is(Field::Trace, Test::Id { hex: hex.to_ascii_lowercase(), prefix: false })
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::All => f.write_str("*"),
            Expr::And(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let space = if index == 0 { "" } else { " " };
                    match part {
                        Expr::Or(_) => write!(f, "{space}({part})")?,
                        part => write!(f, "{space}{part}")?,
                    }
                }
                Ok(())
            }
            Expr::Or(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if index == 0 { "" } else { " OR " })?;
                }
                Ok(())
            }
            Expr::Not(inner) => match &**inner {
                Expr::And(_) | Expr::Or(_) => write!(f, "-({inner})"),
                inner => write!(f, "-{inner}"),
            },
            Expr::Is(field, test) => write_condition(f, field, test),
        }
    }
}

fn write_condition(f: &mut fmt::Formatter<'_>, field: &Field, test: &Test) -> fmt::Result {
    let body = *field == Field::Body;
    match test {
        Test::Exists => write!(f, "{field}:*"),
        Test::Phrase(text) if is_plain_word(text) => f.write_str(text),
        Test::Phrase(text) => write!(f, "{}", Quoted(text)),
        Test::Equals(text) if is_plain_value(text) => write!(f, "{field}:{text}"),
        Test::Equals(text) => write!(f, "{field}:{}", Quoted(text)),
        Test::Differs(text) => write!(f, "{field}!={}", Quoted(text)),
        Test::Wildcard(text) if body && text.chars().all(|c| is_term_char(c) || c == '*') => f.write_str(text),
        Test::Wildcard(text) => write!(f, "{field}:{text}"),
        Test::Contains(text) if body => write!(f, "~{}", Quoted(text)),
        Test::Contains(text) => write!(f, "{field}:~{}", Quoted(text)),
        Test::Regex(pattern) if body => write!(f, "{}", Slashed(pattern)),
        Test::Regex(pattern) => write!(f, "{field}:{}", Slashed(pattern)),
        Test::Number(op, number) => write!(f, "{field}{op}{number}"),
        Test::Network(network) => write!(f, "{field}:{network}"),
        Test::Severity(Op::Eq, level) => write!(f, "{field}:{level}"),
        Test::Severity(op, level) => write!(f, "{field}{op}{level}"),
        Test::Id { hex, prefix } => write!(f, "{field}:{hex}{}", if *prefix { "*" } else { "" }),
        Test::Code(op, code) => {
            write!(f, "{field}{}", if *op == Op::Eq { ":" } else { "!=" })?;
            match super::value::code_name(field, *code) {
                Some(name) => f.write_str(name),
                None => write!(f, "{code}"),
            }
        }
        Test::Duration(op, ns) => write!(f, "{field}{op}{}", format_duration(*ns)),
        Test::Time(op, ns) => write!(f, "{field}{op}{}", format_time(*ns)),
        Test::Mark(flag) => write!(f, "{field}:{flag}"),
        Test::Standing(standing) => write!(f, "{field}:{standing}"),
        Test::Rule(id) => write!(f, "{field}:{id}"),
    }
}

fn is_keyword(text: &str) -> bool {
    matches!(text, "AND" | "OR" | "NOT")
}

fn is_plain_word(text: &str) -> bool {
    text.starts_with(is_term_char)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && !is_keyword(text)
}

fn is_plain_value(text: &str) -> bool {
    text.starts_with(is_term_char)
        && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ':' | '/' | '@' | '+'))
        && !is_keyword(text)
        && matches!(classify(text), Ok(Test::Equals(_)))
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

struct Slashed<'a>(&'a str);

impl fmt::Display for Slashed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/")?;
        let mut escaped = false;
        for c in self.0.chars() {
            if c == '/' && !escaped {
                f.write_str("\\")?;
            }
            escaped = c == '\\' && !escaped;
            write!(f, "{c}")?;
        }
        f.write_str("/")
    }
}
