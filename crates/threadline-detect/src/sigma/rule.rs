//! What a rule is once it is read: fields and values, not yet mapped by pipelines.

use std::fmt;
use std::net::IpAddr;

use threadline_model::schema::Table;

use super::condition::Condition;
use super::correlation::Correlation;
use super::extension::Extension;
use super::pattern::Pattern;

/// How bad what a rule finds is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Worth knowing.
    Informational,
    /// Of note in numbers.
    Low,
    /// The default of a rule that says nothing.
    #[default]
    Medium,
    /// Look soon.
    High,
    /// Look now.
    Critical,
}

impl Level {
    /// All, in order.
    pub const ALL: [Level; 5] = [Level::Informational, Level::Low, Level::Medium, Level::High, Level::Critical];

    /// As rules write it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Informational => "informational",
            Level::Low => "low",
            Level::Medium => "medium",
            Level::High => "high",
            Level::Critical => "critical",
        }
    }

    /// OpenTelemetry's severity number of a record of a finding: INFO, INFO2, WARN, ERROR, FATAL.
    pub fn severity_number(self) -> i32 {
        match self {
            Level::Informational => 9,
            Level::Low => 10,
            Level::Medium => 13,
            Level::High => 17,
            Level::Critical => 21,
        }
    }

    /// Risk that a finding adds to its entities where the rule says nothing.
    pub fn risk(self) -> u32 {
        match self {
            Level::Informational => 5,
            Level::Low => 21,
            Level::Medium => 47,
            Level::High => 73,
            Level::Critical => 99,
        }
    }
}

/// Where a rule's records come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogSource {
    /// Kind of log, such as `webserver`.
    pub category: Option<String>,
    /// Product, such as `aws`.
    pub product: Option<String>,
    /// Part of the product, such as `cloudtrail`.
    pub service: Option<String>,
}

impl LogSource {
    /// Whether what `other` asks for is what this says: what `other` leaves out is not asked.
    pub fn is_in(&self, other: &LogSource) -> bool {
        let fits = |own: &Option<String>, asked: &Option<String>| asked.is_none() || own == asked;
        fits(&self.category, &other.category)
            && fits(&self.product, &other.product)
            && fits(&self.service, &other.service)
    }
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("product", &self.product), ("category", &self.category), ("service", &self.service)];
        let parts = parts.iter().filter_map(|(key, value)| Some(format!("{key}: {}", value.as_ref()?)));
        write!(f, "{{ {} }}", parts.collect::<Vec<_>>().join(", "))
    }
}

/// What all documents have.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// File, as the caller named it.
    pub file: String,
    /// First line in it.
    pub line: usize,
    /// Unique id; empty when the rule has none.
    pub id: String,
    /// Name that correlations and filters may use.
    pub name: Option<String>,
    /// Title.
    pub title: String,
    /// Description; may be empty.
    pub description: String,
    /// Status, such as `stable`; may be empty.
    pub status: String,
    /// Level.
    pub level: Level,
    /// Author; may be empty.
    pub author: String,
    /// Tags, such as `attack.t1110`.
    pub tags: Vec<String>,
    /// References.
    pub references: Vec<String>,
    /// When it may be nothing.
    pub false_positives: Vec<String>,
    /// Hash of the document's content: another text is another version.
    pub version: u64,
}

/// A document of a file.
#[derive(Clone, Debug)]
pub enum Document {
    /// A rule over single records.
    Rule(Rule),
    /// A rule over hits of rules.
    Correlation(CorrelationRule),
    /// What further rules must fulfil.
    Filter(Filter),
}

/// A rule over single records.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name, level and so on.
    pub meta: Meta,
    /// Where its records come from.
    pub log_source: LogSource,
    /// Selections by name, in order.
    pub detections: Vec<(String, Detection)>,
    /// Conditions over them; the rule matches when one is true.
    pub conditions: Vec<Condition>,
    /// What pipelines demand beside them.
    pub added: Vec<Detection>,
    /// Tables that the rule is about.
    pub tables: Tables,
    /// Our block.
    pub extension: Extension,
}

/// Which tables a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Log records.
    pub logs: bool,
    /// Spans.
    pub spans: bool,
}

impl Tables {
    /// Both.
    pub const BOTH: Tables = Tables { logs: true, spans: true };

    /// Whether records of a table are among them.
    pub fn has(self, table: Table) -> bool {
        match table {
            Table::Logs => self.logs,
            Table::Spans => self.spans,
        }
    }
}

/// A correlation with what all documents have.
#[derive(Clone, Debug)]
pub struct CorrelationRule {
    /// Name, level and so on.
    pub meta: Meta,
    /// What it counts.
    pub correlation: Correlation,
    /// Our block.
    pub extension: Extension,
}

/// A filter (specification, "Sigma Filters"): its condition is added to rules of the log source.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Name and so on.
    pub meta: Meta,
    /// Rules of which log source.
    pub log_source: LogSource,
    /// Names or ids of the rules; `None` for all of the log source.
    pub rules: Option<Vec<String>>,
    /// Selections by name.
    pub detections: Vec<(String, Detection)>,
    /// What a hit must also fulfil.
    pub condition: Condition,
}

/// A selection.
#[derive(Clone, Debug, PartialEq)]
pub enum Detection {
    /// All of them.
    All(Vec<Detection>),
    /// One of them.
    Any(Vec<Detection>),
    /// A field and its values.
    Item(Item),
}

/// A field and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Field; `None` for keywords, which are looked for in the whole record.
    pub field: Option<String>,
    /// Values.
    pub values: Vec<Value>,
    /// All values must match, not one of them (modifier `all`).
    pub all: bool,
    /// The opposite (modifier `neq`).
    pub negated: bool,
    /// Ids of pipeline items that were applied to it.
    pub applied: Vec<String>,
    /// Line in the file.
    pub line: usize,
}

/// What a field is compared with, modifiers applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text with wildcards.
    Text {
        /// The text.
        pattern: Pattern,
        /// With case (modifier `cased`).
        cased: bool,
    },
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// The field is not there, or null.
    Null,
    /// A regular expression, looked for anywhere.
    Regex(Regex),
    /// An address in a network.
    Cidr(Network),
    /// A number compared by size.
    Compare(Comparison, f64),
    /// The field is there, or is not.
    Exists(bool),
    /// Another field's value.
    FieldRef {
        /// The other field.
        field: String,
        /// This one begins with it.
        starts: bool,
        /// This one ends with it; with `starts`, contains it.
        ends: bool,
    },
    /// A part of a time.
    TimePart(TimePart, Comparison, i64),
    /// One of several (modifiers `windash`, `base64offset`).
    OneOf(Vec<Value>),
}

/// A regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regex {
    /// Its text.
    pub source: String,
    /// Flag `i`.
    pub ignore_case: bool,
    /// Flag `m`.
    pub multi_line: bool,
    /// Flag `s`.
    pub dot_all: bool,
}

/// A network of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fe80::/10`, or one address.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Network { address, prefix })
    }

    /// Whether an address is in it. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix);
                (u64::from(own.to_bits()) >> shift) == (u64::from(other.to_bits()) >> shift)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                self.prefix == 0 || (own.to_bits() ^ other.to_bits()) >> (128 - u32::from(self.prefix)) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// How numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
}

impl Comparison {
    /// By the name that conditions and modifiers have.
    pub fn parse(name: &str) -> Option<Comparison> {
        Some(match name {
            "lt" => Comparison::Less,
            "lte" => Comparison::LessOrEqual,
            "gt" => Comparison::Greater,
            "gte" => Comparison::GreaterOrEqual,
            "eq" => Comparison::Equal,
            "neq" => Comparison::NotEqual,
            _ => return None,
        })
    }

    /// Whether it holds.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
        }
    }

    /// As people write it.
    pub fn sign(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::LessOrEqual => "≤",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => "≥",
            Comparison::Equal => "=",
            Comparison::NotEqual => "≠",
        }
    }
}

/// A part of a time, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimePart {
    /// 0–59.
    Minute,
    /// 0–23.
    Hour,
    /// Day of the month, 1–31.
    Day,
    /// ISO 8601 week, 1–53.
    Week,
    /// 1–12.
    Month,
    /// Year.
    Year,
}

impl TimePart {
    /// By the modifier's name.
    pub fn parse(name: &str) -> Option<TimePart> {
        Some(match name {
            "minute" => TimePart::Minute,
            "hour" => TimePart::Hour,
            "day" => TimePart::Day,
            "week" => TimePart::Week,
            "month" => TimePart::Month,
            "year" => TimePart::Year,
            _ => return None,
        })
    }

    /// The part of a time in µs.
    pub(crate) fn of(self, us: i64) -> i64 {
        let parts = crate::text::parts(us);
        match self {
            TimePart::Minute => parts.minute,
            TimePart::Hour => parts.hour,
            TimePart::Day => parts.day,
            TimePart::Week => parts.week,
            TimePart::Month => parts.month,
            TimePart::Year => parts.year,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_addresses() {
        for (network, address, want) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "255.0.0.1", true),
            ("192.168.0.1", "192.168.0.1", true),
            ("192.168.0.1", "192.168.0.2", false),
            ("fe80::/10", "fe80::1", true),
            ("fe80::/10", "ff80::1", false),
            ("::/0", "::1", true),
            ("::/0", "1.2.3.4", false),
        ] {
            let network = Network::parse(network).unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), want, "{network} {address}");
        }
        for bad in ["10.0.0.0/33", "x/8", "10.0.0.0/", "10.0.0/8"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
