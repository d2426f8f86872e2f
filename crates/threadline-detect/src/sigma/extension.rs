//! The `threadline:` block of a rule (docs/sigma.md): what Sigma has no words for.

use threadline_model::yaml::{Fault, Kind, Node, Result, Scalar};

use super::condition::Condition;
use super::read::selection;
use super::rule::{Comparison, Detection};
use crate::text;

/// Records of one inline test at most, after `repeat`.
const TEST_RECORDS_MAX: usize = 100_000;
/// Inline tests of a rule at most.
const TESTS_MAX: usize = 1000;

/// Our block.
#[derive(Clone, Debug, Default)]
pub struct Extension {
    /// What is found of the records that match; `None`: each of them.
    pub finder: Option<Finder>,
    /// Records that do not count.
    pub exceptions: Vec<Exception>,
    /// Fields whose values a finding names as entities.
    pub entities: Option<Vec<String>>,
    /// Quiet after a finding.
    pub suppress: Option<Suppress>,
    /// Risk added to entities.
    pub risk: Option<u32>,
    /// Correlations: a finding for every anchor, not one per group and time span.
    pub every: bool,
    /// Inline tests.
    pub tests: Vec<Test>,
}

/// What is found of matching records.
#[derive(Clone, Debug)]
pub enum Finder {
    /// A value that an entity did not have before.
    NewValue {
        /// Fields of the value.
        fields: Vec<String>,
        /// Fields of the entity.
        group_by: Vec<String>,
        /// From an entity's first record on, nothing is found for so long, µs.
        learn_us: i64,
        /// A value not seen for so long is forgotten, µs.
        expire_us: i64,
    },
    /// An entity from which nothing comes any more, or numbers that are missing.
    Absence {
        /// Fields of the entity.
        group_by: Vec<String>,
        /// Silence, or lateness of a number, µs.
        timespan_us: i64,
        /// After so long a silence the entity is forgotten, µs.
        forget_us: i64,
        /// Attribute with a number that grows by one.
        sequence: Option<String>,
    },
    /// A share of records.
    Ratio {
        /// What is counted, over the rule's selections.
        of: Condition,
        /// Fields of the entity.
        group_by: Vec<String>,
        /// Window, µs.
        timespan_us: i64,
        /// Records of the window at least.
        min: u32,
        /// When it is found.
        comparisons: Vec<(Comparison, f64)>,
    },
}

impl Finder {
    /// Fields of the entity.
    pub fn group_by(&self) -> &[String] {
        match self {
            Finder::NewValue { group_by, .. }
            | Finder::Absence { group_by, .. }
            | Finder::Ratio { group_by, .. } => group_by,
        }
    }
}

/// Records that do not count.
#[derive(Clone, Debug)]
pub struct Exception {
    /// Which.
    pub detection: Detection,
    /// Until when, µs; `None` = for good.
    pub expires_us: Option<i64>,
    /// Why.
    pub reason: String,
}

/// Quiet after a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppress {
    /// Fields of the entity; empty: the finding's own group.
    pub by: Vec<String>,
    /// How long, µs of event time.
    pub for_us: i64,
}

/// A test that stands in the rule.
#[derive(Clone, Debug)]
pub struct Test {
    /// Name.
    pub name: String,
    /// Line.
    pub line: usize,
    /// What must come out.
    pub expect: Expect,
    /// Records, in the order of arrival.
    pub records: Vec<TestRecord>,
}

/// What a test expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Each record is a hit, or none is.
    Match(bool),
    /// So many findings in all.
    Findings(u64),
}

/// A record of a test.
#[derive(Clone, Debug)]
pub struct TestRecord {
    /// Event time after the test's first, µs.
    pub at_us: i64,
    /// A span, not a log record.
    pub span: bool,
    /// Fields as rules name them.
    pub fields: Vec<(String, TestValue)>,
}

/// A value in a test.
#[derive(Clone, Debug, PartialEq)]
pub enum TestValue {
    /// Null.
    Null,
    /// Text.
    Text(String),
    /// Truth value.
    Bool(bool),
    /// Integer.
    Int(i64),
    /// Number.
    Double(f64),
    /// List.
    List(Vec<TestValue>),
    /// Mapping.
    Map(Vec<(String, TestValue)>),
}

const KEYS: [&str; 9] =
    ["new_value", "absence", "ratio", "exceptions", "entities", "suppress", "risk", "every", "tests"];

pub(crate) fn read(node: &Node) -> Result<Extension> {
    if let Some(baseline) = node.get("baseline") {
        return Err(Fault::new(
            baseline.line,
            "no rule sets up baselines: they are built in and kept of every service (docs/baselines.md); remove \
             `baseline`, or count with a correlation or a `ratio`",
        ));
    }
    node.only("threadline", &KEYS)?;
    let finders = ["new_value", "absence", "ratio"].iter().filter(|key| node.get(key).is_some()).count();
    if finders > 1 {
        return Err(Fault::new(
            node.line,
            "`threadline` takes one of new_value, absence, ratio: split the rule",
        ));
    }
    let finder = if let Some(node) = node.get("new_value") {
        Some(new_value(node)?)
    } else if let Some(node) = node.get("absence") {
        Some(absence(node)?)
    } else if let Some(node) = node.get("ratio") {
        Some(ratio(node)?)
    } else {
        None
    };
    let each = |key: &str| node.get(key).map_or(&[][..], Node::elements);
    let tests = each("tests").iter().map(test).collect::<Result<Vec<_>>>()?;
    if tests.len() > TESTS_MAX {
        return Err(Fault::new(node.line, format!("a rule has more than {TESTS_MAX} tests")));
    }
    Ok(Extension {
        finder,
        exceptions: each("exceptions").iter().map(exception).collect::<Result<_>>()?,
        entities: node.get("entities").map(|node| node.need_texts("entities")).transpose()?,
        suppress: node.get("suppress").map(suppress).transpose()?,
        risk: node.get("risk").map(risk).transpose()?,
        every: node.get("every").map_or(Ok(false), |node| node.need_bool("every"))?,
        tests,
    })
}

fn risk(node: &Node) -> Result<u32> {
    let number = node.need_number("risk")?;
    if number.fract() == 0.0 && (0.0..=1000.0).contains(&number) {
        Ok(number as u32)
    } else {
        Err(Fault::new(node.line, "`risk` must be a whole number from 0 to 1000"))
    }
}

fn duration(node: &Node, key: &str, default: Option<&str>) -> Result<i64> {
    match (node.get(key), default) {
        (Some(node), _) => text::duration(node.need_text(key)?, node.line, key),
        (None, Some(default)) => text::duration(default, node.line, key),
        (None, None) => Err(Fault::new(node.line, format!("needs `{key}`, such as `{key}: 5m`"))),
    }
}

fn fields(node: &Node, key: &str) -> Result<Vec<String>> {
    node.get(key).map_or(Ok(Vec::new()), |fields| fields.need_texts(key))
}

fn new_value(node: &Node) -> Result<Finder> {
    node.only("new_value", &["fields", "group-by", "learn", "expire"])?;
    let values = fields(node, "fields")?;
    if values.is_empty() {
        return Err(Fault::new(node.line, "`new_value` needs `fields`: those whose value is to be new"));
    }
    Ok(Finder::NewValue {
        fields: values,
        group_by: fields(node, "group-by")?,
        learn_us: duration(node, "learn", Some("7d"))?,
        expire_us: duration(node, "expire", Some("30d"))?,
    })
}

fn absence(node: &Node) -> Result<Finder> {
    node.only("absence", &["group-by", "timespan", "forget", "sequence"])?;
    let timespan_us = duration(node, "timespan", None)?;
    let forget_us = duration(node, "forget", Some("1d"))?.max(timespan_us);
    let sequence =
        node.get("sequence").map(|node| node.need_text("sequence").map(str::to_owned)).transpose()?;
    Ok(Finder::Absence { group_by: fields(node, "group-by")?, timespan_us, forget_us, sequence })
}

fn ratio(node: &Node) -> Result<Finder> {
    node.only("ratio", &["of", "group-by", "timespan", "min", "gt", "gte", "lt", "lte"])?;
    let of = node
        .get("of")
        .ok_or_else(|| Fault::new(node.line, "`ratio` needs `of`: a condition over selections"))?;
    let of = Condition::parse(of.need_text("of")?, of.line)?;
    let mut comparisons = Vec::new();
    for (key, value) in node.members() {
        if let Some(comparison) = Comparison::parse(key) {
            comparisons.push((comparison, value.need_number(key)?));
        }
    }
    if comparisons.is_empty() {
        return Err(Fault::new(node.line, "`ratio` needs one of gt, gte, lt, lte, from 0 to 1"));
    }
    let min = node.get("min").map_or(Ok(20.0), |node| node.need_number("min"))?.clamp(1.0, 1e9) as u32;
    let timespan_us = duration(node, "timespan", None)?;
    Ok(Finder::Ratio { of, group_by: fields(node, "group-by")?, timespan_us, min, comparisons })
}

/// Reads one element of `exceptions`.
///
/// # Errors
/// What is wrong with it.
pub fn read_exception(text: &str) -> Result<Exception> {
    let nodes = threadline_model::yaml::read(text)?;
    exception(nodes.first().ok_or_else(|| Fault::new(1, "there is no exception"))?)
}

fn exception(node: &Node) -> Result<Exception> {
    node.only("exceptions", &["match", "expires", "reason"])?;
    let which =
        node.get("match").ok_or_else(|| Fault::new(node.line, "an exception needs `match`: a selection"))?;
    let expires = node.get("expires").map(|node| {
        let text = node.need_text("expires")?;
        let fault = || Fault::new(node.line, format!("`expires` is `{text}`: write a day such as 2026-12-31"));
        text::time(text).filter(|_| text.contains('-')).ok_or_else(fault)
    });
    let reason = node.get("reason").map_or(Ok(""), |node| node.need_text("reason"))?.to_owned();
    Ok(Exception { detection: selection(which, "match")?, expires_us: expires.transpose()?, reason })
}

fn suppress(node: &Node) -> Result<Suppress> {
    node.only("suppress", &["by", "for"])?;
    Ok(Suppress { by: fields(node, "by")?, for_us: duration(node, "for", None)? })
}

fn test(node: &Node) -> Result<Test> {
    node.only("tests", &["name", "match", "findings", "record", "records"])?;
    let name = node.get("name").map_or(Ok("unnamed"), |node| node.need_text("name"))?.to_owned();
    let expect = match (node.get("match"), node.get("findings")) {
        (Some(node), None) => Expect::Match(node.need_bool("match")?),
        (None, Some(node)) => Expect::Findings(node.need_number("findings")?.max(0.0) as u64),
        _ => {
            return Err(Fault::new(
                node.line,
                "a test needs one of `match: true`, `match: false`, `findings: N`",
            ));
        }
    };
    let mut records = Vec::new();
    let given = node.get("record").or_else(|| node.get("records"));
    let given = given.ok_or_else(|| Fault::new(node.line, "a test needs `record` or `records`"))?;
    for record in given.one_or_many() {
        test_records(record, &mut records)?;
    }
    if records.is_empty() {
        return Err(Fault::new(given.line, "a test needs a record"));
    }
    Ok(Test { name, line: node.line, expect, records })
}

fn test_records(node: &Node, out: &mut Vec<TestRecord>) -> Result<()> {
    if !node.is_map() {
        return Err(Fault::new(node.line, "a test's record must be a mapping of fields to values"));
    }
    let offset = |key: &str| match node.get(key) {
        Some(node) => match node.need_text(key)? {
            "0" | "0s" => Ok(0),
            text => text::duration(text, node.line, key),
        },
        None => Ok(0),
    };
    let (at_us, every_us) = (offset("at")?, offset("every")?);
    let repeat = node.get("repeat").map_or(Ok(1.0), |node| node.need_number("repeat"))?;
    if !(1.0..=TEST_RECORDS_MAX as f64).contains(&repeat) || out.len() + repeat as usize > TEST_RECORDS_MAX {
        return Err(Fault::new(node.line, format!("`repeat` must be from 1 to {TEST_RECORDS_MAX}")));
    }
    let span = match node.get("table") {
        Some(node) => match node.need_text("table")? {
            "spans" => true,
            "logs" => false,
            other => return Err(Fault::new(node.line, format!("`table` is `{other}`: logs or spans"))),
        },
        None => false,
    };
    for index in 0..repeat as usize {
        let own = |key: &str| matches!(key, "at" | "every" | "repeat" | "table");
        let fields = node.members().iter().filter(|(key, _)| !own(key));
        let fields = fields.map(|(key, node)| (key.clone(), test_value(node, index))).collect();
        out.push(TestRecord {
            at_us: at_us.saturating_add(every_us.saturating_mul(index as i64)),
            span,
            fields,
        });
    }
    Ok(())
}

fn test_value(node: &Node, index: usize) -> TestValue {
    match &node.kind {
        Kind::List(elements) => TestValue::List(elements.iter().map(|node| test_value(node, index)).collect()),
        Kind::Map(members) => {
            TestValue::Map(members.iter().map(|(key, node)| (key.clone(), test_value(node, index))).collect())
        }
        Kind::Scalar { .. } => match node.scalar() {
            Some(Scalar::Bool(value)) => TestValue::Bool(value),
            Some(Scalar::Int(value)) => TestValue::Int(value),
            Some(Scalar::Float(value)) => TestValue::Double(value),
            Some(Scalar::Text(text)) => TestValue::Text(text.replace("{i}", &index.to_string())),
            Some(Scalar::Null) | None => TestValue::Null,
        },
    }
}
