//! What a rule demands of a record, as one expression over tests of fields.

use std::borrow::Cow;
use std::net::IpAddr;
use threadline_model::yaml::{Fault, Result};

use crate::sigma::condition::{Condition, fits};
use crate::sigma::pattern::{Pattern, Shape};
use crate::sigma::rule::{Comparison, Detection, Item, Network, TimePart, Value};
use crate::text;

/// Bytes that a regular expression may take once compiled.
const REGEX_BYTES_MAX: usize = 10 << 20;

/// An expression over tests.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// All hold.
    And(Vec<Expr>),
    /// One holds.
    Or(Vec<Expr>),
    /// It does not hold.
    Not(Box<Expr>),
    /// A test of a field.
    Test(Test),
}

/// One field compared with one value. A field with several values passes when one of them does.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Field; `None` = any value of the record.
    pub field: Option<String>,
    /// The comparison.
    pub check: Check,
}

/// A comparison, in the form in which it is made. Texts without case are folded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Equal.
    Equals(String, Case),
    /// At the start.
    Starts(String, Case),
    /// At the end.
    Ends(String, Case),
    /// Somewhere.
    Contains(String, Case),
    /// Several wildcards.
    Wild(Pattern, Case),
    /// There, with whatever value.
    Present,
    /// Regular expression, flags in it.
    Regex(String),
    /// Address in a network.
    Cidr(Network),
    /// Number by size; the bits of the number.
    Compare(Comparison, u64),
    /// The value of another field.
    FieldRef {
        /// The other field.
        field: String,
        /// Begins with it.
        starts: bool,
        /// Ends with it; with `starts`: contains it.
        ends: bool,
    },
    /// Part of a time.
    TimePart(TimePart, Comparison, i64),
}

/// Whether case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Case {
    /// No: the text is folded, so is the value.
    Folded,
    /// Yes.
    Exact,
}

/// Conditions over selections, with all names put in. One of the conditions must hold. What a pipeline has dropped is
/// left out of the condition.
pub(crate) fn resolve(
    conditions: &[Condition],
    detections: &[(String, Detection)],
    line: usize,
) -> Result<Expr> {
    let parts = conditions.iter().map(|condition| of_condition(condition, detections, line));
    let parts: Vec<Expr> = parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    if parts.is_empty() {
        return Err(Fault::new(line, "pipelines leave nothing of the rule"));
    }
    Ok(join(parts, Expr::Or))
}

fn of_condition(
    condition: &Condition,
    detections: &[(String, Detection)],
    line: usize,
) -> Result<Option<Expr>> {
    let each = |parts: &[Condition], many: fn(Vec<Expr>) -> Expr| -> Result<Option<Expr>> {
        let parts =
            parts.iter().map(|part| of_condition(part, detections, line)).collect::<Result<Vec<_>>>()?;
        let parts: Vec<Expr> = parts.into_iter().flatten().collect();
        Ok((!parts.is_empty()).then(|| join(parts, many)))
    };
    let of =
        |detection: &Detection| if detection.is_empty() { Ok(None) } else { of_detection(detection).map(Some) };
    match condition {
        Condition::And(parts) => each(parts, Expr::And),
        Condition::Or(parts) => each(parts, Expr::Or),
        Condition::Not(part) => Ok(of_condition(part, detections, line)?.map(|part| Expr::Not(Box::new(part)))),
        Condition::Name(name) => {
            let found = detections.iter().find(|(known, _)| known == name);
            let (_, detection) = found.ok_or_else(|| {
                let known: Vec<&str> = detections.iter().map(|(name, _)| name.as_str()).collect();
                Fault::new(line, format!("the condition names `{name}`; there are {}", known.join(", ")))
            })?;
            of(detection)
        }
        Condition::Of { all, pattern } => {
            let fitting: Vec<&Detection> = detections
                .iter()
                .filter(|(name, _)| fits(pattern, name))
                .map(|(_, detection)| detection)
                .collect();
            if fitting.is_empty() {
                return Err(Fault::new(line, format!("no selection fits `of {pattern}` in the condition")));
            }
            let parts = fitting.into_iter().map(of).collect::<Result<Vec<_>>>()?;
            let parts: Vec<Expr> = parts.into_iter().flatten().collect();
            Ok((!parts.is_empty()).then(|| join(parts, if *all { Expr::And } else { Expr::Or })))
        }
    }
}

/// A selection.
pub(crate) fn of_detection(detection: &Detection) -> Result<Expr> {
    let each = |parts: &[Detection]| parts.iter().map(of_detection).collect::<Result<Vec<_>>>();
    Ok(match detection {
        Detection::All(parts) => join(each(parts)?, Expr::And),
        Detection::Any(parts) => join(each(parts)?, Expr::Or),
        Detection::Item(item) => of_item(item)?,
    })
}

fn of_item(item: &Item) -> Result<Expr> {
    let parts = item.values.iter().map(|value| of_value(item, value)).collect::<Result<Vec<_>>>()?;
    let joined = join(parts, if item.all { Expr::And } else { Expr::Or });
    Ok(if item.negated { Expr::Not(Box::new(joined)) } else { joined })
}

fn of_value(item: &Item, value: &Value) -> Result<Expr> {
    let test = |check| Ok(Expr::Test(Test { field: item.field.clone(), check }));
    let not = |check| Ok(Expr::Not(Box::new(Expr::Test(Test { field: item.field.clone(), check }))));
    match value {
        Value::Text { pattern, cased } => {
            if let Some(name) = pattern.placeholder() {
                let what = format!(
                    "placeholder `%{name}%` is not resolved: give a pipeline that does, or the rule is refused"
                );
                return Err(Fault::new(item.line, what));
            }
            test(of_pattern(item.field.is_none(), pattern, *cased))
        }
        Value::Number(number) if item.field.is_none() => {
            test(Check::Contains(text::number_text(*number), Case::Folded))
        }
        Value::Number(number) => test(Check::Equals(text::number_text(*number), Case::Folded)),
        Value::Bool(value) => test(Check::Equals(value.to_string(), Case::Folded)),
        Value::Null | Value::Exists(false) => not(Check::Present),
        Value::Exists(true) => test(Check::Present),
        Value::Regex(regex) => {
            let flags = [(regex.ignore_case, 'i'), (regex.multi_line, 'm'), (regex.dot_all, 's')];
            let flags: String = flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag).collect();
            let source =
                if flags.is_empty() { regex.source.clone() } else { format!("(?{flags}){}", regex.source) };
            compile_regex(&source).map_err(|what| Fault::new(item.line, what))?;
            test(Check::Regex(source))
        }
        Value::Cidr(network) => test(Check::Cidr(*network)),
        Value::Compare(comparison, number) => test(Check::Compare(*comparison, number.to_bits())),
        Value::FieldRef { field, starts, ends } => {
            test(Check::FieldRef { field: field.clone(), starts: *starts, ends: *ends })
        }
        Value::TimePart(part, comparison, number) => test(Check::TimePart(*part, *comparison, *number)),
        Value::OneOf(values) => {
            let parts = values.iter().map(|value| of_value(item, value)).collect::<Result<Vec<_>>>()?;
            Ok(join(parts, Expr::Or))
        }
    }
}

fn of_pattern(keyword: bool, pattern: &Pattern, cased: bool) -> Check {
    let (mut pattern, case) =
        if cased { (pattern.clone(), Case::Exact) } else { (pattern.folded(), Case::Folded) };
    if keyword {
        pattern.open_front();
        pattern.open_back();
    }
    match pattern.shape() {
        Shape::Equals(text) => Check::Equals(text.to_owned(), case),
        Shape::Starts(text) => Check::Starts(text.to_owned(), case),
        Shape::Ends(text) => Check::Ends(text.to_owned(), case),
        Shape::Contains(text) => Check::Contains(text.to_owned(), case),
        Shape::Anything => Check::Present,
        Shape::Wild(_) => Check::Wild(pattern, case),
    }
}

/// A regular expression within bounds.
pub(crate) fn compile_regex(source: &str) -> std::result::Result<regex::Regex, String> {
    let mut builder = regex::RegexBuilder::new(source);
    builder.size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("regular expression `{source}`: takes more than {REGEX_BYTES_MAX} bytes: repeat less, or use (?-u)")
        }
        error => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim().trim_end_matches('.').to_owned();
            format!("regular expression `{source}`: {reason}; look-around and back-references are not taken")
        }
    })
}

fn join(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        Some(part) => {
            parts.push(part);
            many(parts)
        }
        None => many(parts),
    }
}

impl Expr {
    /// Both.
    pub(crate) fn and(self, other: Expr) -> Expr {
        join(vec![other, self], Expr::And)
    }
}

impl Check {
    /// Whether one value passes. `text` is the value, `folded` the same without case. References to fields are the
    /// matcher's.
    pub(crate) fn passes(&self, text: &str, folded: &str, regex: Option<&regex::Regex>) -> bool {
        let of = |case: &Case| if *case == Case::Folded { folded } else { text };
        match self {
            Check::Equals(want, case) => of(case) == want,
            Check::Starts(want, case) => of(case).starts_with(want.as_str()),
            Check::Ends(want, case) => of(case).ends_with(want.as_str()),
            Check::Contains(want, case) => memchr::memmem::find(of(case).as_bytes(), want.as_bytes()).is_some(),
            Check::Wild(pattern, case) => pattern.matches(of(case)),
            Check::Present => true,
            Check::Regex(_) => regex.is_some_and(|regex| regex.is_match(text)),
            Check::Cidr(network) => {
                text.trim().parse::<IpAddr>().is_ok_and(|address| network.contains(address))
            }
            Check::Compare(comparison, bits) => {
                let number: Option<f64> = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
                number.is_some_and(|number| comparison.holds(number, f64::from_bits(*bits)))
            }
            Check::TimePart(part, comparison, want) => {
                text::time(text).is_some_and(|us| comparison.holds(part.of(us) as f64, *want as f64))
            }
            Check::FieldRef { .. } => false,
        }
    }

    /// Likewise, where the other field's value is known.
    pub(crate) fn refers(&self, text: &str, other: &str) -> bool {
        let Check::FieldRef { starts, ends, .. } = self else { return false };
        let (text, other) = (text::fold(text), text::fold(other));
        match (starts, ends) {
            (false, false) => text == other,
            (true, false) => text.starts_with(other.as_ref()),
            (false, true) => text.ends_with(other.as_ref()),
            (true, true) => text.contains(other.as_ref()),
        }
    }

    /// For people.
    pub fn describe(&self) -> Cow<'static, str> {
        let case = |case: &Case| if *case == Case::Exact { ", with case" } else { "" };
        match self {
            Check::Equals(text, c) => format!("is `{text}`{}", case(c)).into(),
            Check::Starts(text, c) => format!("starts with `{text}`{}", case(c)).into(),
            Check::Ends(text, c) => format!("ends with `{text}`{}", case(c)).into(),
            Check::Contains(text, c) => format!("contains `{text}`{}", case(c)).into(),
            Check::Wild(pattern, c) => format!("matches `{pattern}`{}", case(c)).into(),
            Check::Present => "is there".into(),
            Check::Regex(source) => format!("matches /{source}/").into(),
            Check::Cidr(network) => format!("is in {network}").into(),
            Check::Compare(comparison, bits) => {
                format!("{} {}", comparison.sign(), text::number_text(f64::from_bits(*bits))).into()
            }
            Check::FieldRef { field, starts, ends } => match (starts, ends) {
                (false, false) => format!("is the same as `{field}`").into(),
                (true, false) => format!("starts with `{field}`'s value").into(),
                (false, true) => format!("ends with `{field}`'s value").into(),
                (true, true) => format!("contains `{field}`'s value").into(),
            },
            Check::TimePart(part, comparison, number) => {
                format!("has {part:?} {} {number}", comparison.sign()).to_lowercase().into()
            }
        }
    }
}
