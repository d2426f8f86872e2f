//! A registry: attributes and events as data, read from layers of YAML files. Which files there are is the caller's
//! business; nothing is fetched. Format and rules: docs/contract.md.
//!
//! Vocabulary:
//! - *layer*: the files of one registry folder. A layer builds on those before it: it adds, and refines what they
//!   have, but does not define it again, and makes it stricter, never weaker;
//! - *use*: an attribute as an event or the resource asks for it;
//! - *problem*: what is wrong with a file, where, and what to do.

mod base;
mod condition;
mod read;
mod resolve;
mod v1;

use std::collections::BTreeMap;
use std::fmt;

pub use base::base_layers;
pub use condition::{Condition, Test};
pub use resolve::load;

/// Attributes of a registry at most.
pub const ATTRIBUTES_MAX: usize = 16_384;
/// Events of a registry at most.
pub const EVENTS_MAX: usize = 4_096;
/// Attributes that an event may use at most.
pub const USES_MAX: usize = 64;
/// Problems that are told; the rest are counted.
pub const PROBLEMS_MAX: usize = 50;

/// One file of a layer.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name, for problems.
    pub path: String,
    /// Its text.
    pub text: std::borrow::Cow<'static, str>,
}

/// The files of one registry folder.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// In any order.
    pub files: Vec<File>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub what: String,
}

impl Problem {
    pub(crate) fn new(file: &str, line: usize, what: impl Into<String>) -> Problem {
        Problem { file: file.to_owned(), line, what: what.into() }
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

/// All that is wrong with a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first [`PROBLEMS_MAX`].
    pub list: Vec<Problem>,
    /// How many there are.
    pub count: usize,
}

impl Problems {
    pub(crate) fn add(&mut self, problem: Problem) {
        self.count += 1;
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem);
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.list.iter().enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { "\n" })?;
        }
        match self.count - self.list.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Problems {}

/// The type of an attribute's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Text.
    Str,
    /// 64-bit integer.
    Int,
    /// 64-bit float; an integer is taken, too.
    Double,
    /// Truth value.
    Bool,
    /// Anything.
    Any,
    /// An array of texts.
    StrArray,
    /// An array of integers.
    IntArray,
    /// An array of floats.
    DoubleArray,
    /// An array of truth values.
    BoolArray,
}

impl Base {
    const NAMES: [(&'static str, Base); 9] = [
        ("string", Base::Str),
        ("int", Base::Int),
        ("double", Base::Double),
        ("boolean", Base::Bool),
        ("any", Base::Any),
        ("string[]", Base::StrArray),
        ("int[]", Base::IntArray),
        ("double[]", Base::DoubleArray),
        ("boolean[]", Base::BoolArray),
    ];

    /// The name, as in registry files.
    pub fn name(self) -> &'static str {
        Base::NAMES.iter().find(|(_, base)| *base == self).map_or("any", |(name, _)| name)
    }

    pub(crate) fn parse(name: &str) -> Option<Base> {
        Base::NAMES.iter().find(|(known, _)| *known == name).map(|(_, base)| *base)
    }
}

/// What an attribute says about a person or gives away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing.
    #[default]
    None,
    /// Something about a person.
    Pii,
    /// Something that opens doors: always masked.
    Secret,
}

impl Class {
    /// The name, as in registry files.
    pub fn name(self) -> &'static str {
        match self {
            Class::None => "none",
            Class::Pii => "pii",
            Class::Secret => "secret",
        }
    }
}

/// An attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its key; for a template the part before the dot.
    pub key: String,
    /// Type of its value; for a template that of each member.
    pub base: Base,
    /// Whether `key.<anything>` are the attributes.
    pub template: bool,
    /// Known values, as texts; empty when any will do.
    pub members: Vec<String>,
    /// Whether other values than the known ones break the contract.
    pub closed: bool,
    /// `stable`, `development`, …
    pub stability: String,
    /// One line.
    pub brief: String,
    /// Why it is not to be used, and what to use.
    pub deprecated: Option<String>,
    /// What it gives away.
    pub class: Class,
    /// Whether its value is masked before it is stored.
    pub redact: bool,
    /// Who answers for it.
    pub owner: String,
}

/// How strongly an attribute is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// Always.
    Required,
    /// Under a condition, in words.
    Conditional(String),
    /// Should be there.
    Recommended,
    /// May be there.
    OptIn,
}

impl Level {
    /// A number that grows with strength.
    pub(crate) fn strength(&self) -> u8 {
        match self {
            Level::OptIn => 0,
            Level::Recommended => 1,
            Level::Conditional(_) => 2,
            Level::Required => 3,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Required => f.write_str("required"),
            Level::Conditional(when) => write!(f, "required if {when}"),
            Level::Recommended => f.write_str("recommended"),
            Level::OptIn => f.write_str("opt-in"),
        }
    }
}

/// An attribute as an event or the resource asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// Key.
    pub key: String,
    /// How strongly.
    pub level: Level,
    /// The condition under which it is required, so that it can be checked.
    pub required_when: Option<Condition>,
    /// The closed list of values; empty when any will do.
    pub values: Vec<String>,
}

/// A range of severity numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeverityRange {
    /// Lowest.
    pub min: i32,
    /// Highest.
    pub max: i32,
}

/// Which severity an event must have.
#[derive(Clone, Debug, PartialEq)]
pub struct Severity {
    /// When no condition holds.
    pub range: SeverityRange,
    /// The first condition that holds decides.
    pub when: Vec<(Condition, SeverityRange)>,
}

/// What other vocabularies call an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Elastic Common Schema.
    pub ecs: String,
    /// Open Cybersecurity Schema Framework.
    pub ocsf: String,
    /// OWASP's logging vocabulary.
    pub owasp: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name, as in `LogRecord.event_name`.
    pub name: String,
    /// One line.
    pub brief: String,
    /// `stable`, `development`, …
    pub stability: String,
    /// Why it is not to be used, and what to use.
    pub deprecated: Option<String>,
    /// Its attributes.
    pub uses: Vec<Use>,
    /// Its severity.
    pub severity: Option<Severity>,
    /// Whether it happens within a request, so that it has a trace id.
    pub request_scoped: bool,
    /// Never sampled and never refused: security and audit.
    pub never_sampled: bool,
    /// Who answers for it.
    pub owner: String,
    /// Of each list at least one must be there.
    pub any_of: Vec<Vec<String>>,
    /// What others call it.
    pub mapping: Mapping,
}

/// Attributes, events and what is asked of every resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registry {
    /// Name of the last layer.
    pub name: String,
    /// Schema URL of the last layer: its version.
    pub schema_url: String,
    /// By key.
    pub attributes: BTreeMap<String, Attribute>,
    /// By name.
    pub events: BTreeMap<String, Event>,
    /// What every sender's resource must have.
    pub resource: Vec<Use>,
}

impl Registry {
    /// The version: the last part of the schema URL.
    pub fn version(&self) -> &str {
        self.schema_url.rsplit('/').next().unwrap_or_default()
    }

    /// The attribute of this key, or the template that it is a member of.
    pub fn attribute(&self, key: &str) -> Option<&Attribute> {
        let exact = self.attributes.get(key).filter(|attribute| !attribute.template);
        exact.or_else(|| {
            key.match_indices('.')
                .rev()
                .find_map(|(at, _)| self.attributes.get(key.get(..at)?).filter(|attribute| attribute.template))
        })
    }
}
