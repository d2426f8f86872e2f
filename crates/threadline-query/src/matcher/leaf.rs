//! One condition on the columns it looks at.

use std::cmp::Ordering;
use std::fmt::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, Int32Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use memchr::memmem::Finder;
use threadline_model::columns::{Batch, StrColumn};
use threadline_model::schema::{Table, fixed, verdict};
use threadline_model::value;

use super::mask::Mask;
use super::text::{TextTest, search_rows};
use crate::QueryError;
use crate::lang::{Field, Flag, Number, Op, RULES, Standing, Test};

/// A compiled condition.
#[derive(Debug)]
pub(super) enum Leaf {
    /// A text column out of these fulfils the test.
    Text(&'static [&'static str], TextTest),
    /// An attribute fulfils the test.
    Attribute(Attribute, TextTest),
    /// A member of the scope fulfils the test.
    Scope(&'static str, TextTest),
    /// Some event of the span has a name that fulfils the test.
    SpanEvent(TextTest),
    /// A number, `null_as` when null, lies in the range, or outside of it.
    Range { column: &'static str, null_as: Option<i64>, low: i64, high: i64, outside: bool },
    /// A number compares so.
    Number(&'static str, Op, Number),
    /// The event time compares so, ns.
    Time(Op, i64),
    /// An id begins with these bytes, then with these high four bits; or is any.
    Id { column: &'static str, bytes: Vec<u8>, nibble: Option<u8> },
    /// Any of these bits is set.
    Bits(&'static str, i64),
    /// Of these bits exactly those are set.
    BitsAre(&'static str, i64, i64),
}

/// Where an attribute may lie.
#[derive(Debug)]
pub(super) struct Attribute {
    key: String,
    /// `"key":` as it stands in typed JSON.
    in_json: Finder<'static>,
    has_column: bool,
}

/// The column that an attribute of this key would own; `None` when a column that is no attribute has its name.
pub fn attribute_column(key: &str) -> Option<&str> {
    Table::ALL.iter().all(|table| fixed(*table).iter().all(|field| field.name() != key)).then_some(key)
}

impl Attribute {
    pub(super) fn new(key: &str) -> Attribute {
        let mut json = String::new();
        value::write_str(&mut json, key);
        json.push(':');
        Attribute {
            key: key.to_owned(),
            in_json: Finder::new(&json).into_owned(),
            has_column: attribute_column(key).is_some(),
        }
    }
}

/// Compiles a condition; `None` when no row of the table can fulfil it.
pub(super) fn compile(field: &Field, test: &Test, table: Table) -> Result<Option<Leaf>, QueryError> {
    let logs = table == Table::Logs;
    let text = || TextTest::new(test, *field == Field::Body);
    let column = |columns| Ok(text()?.map(|test| Leaf::Text(columns, test)));
    let attribute = |key: &str| Ok(text()?.map(|test| Leaf::Attribute(Attribute::new(key), test)));
    match field {
        Field::Body if logs => column(&["body"]),
        Field::Body => column(&["name", "status_message"]),
        Field::Service => column(&["service"]),
        Field::Instance => column(&["instance"]),
        Field::SeverityText if logs => column(&["severity_text"]),
        Field::Event if logs => column(&["event_name"]),
        Field::Event => Ok(text()?.map(Leaf::SpanEvent)),
        Field::Name if !logs => column(&["name"]),
        Field::StatusMessage if !logs => column(&["status_message"]),
        Field::SeverityText | Field::Name | Field::StatusMessage => attribute(field.name()),
        Field::ScopeName => Ok(text()?.map(|test| Leaf::Scope("name", test))),
        Field::ScopeVersion => Ok(text()?.map(|test| Leaf::Scope("version", test))),
        Field::Attribute(key) => attribute(key),
        Field::Trace => Ok(id("trace_id", test)),
        Field::Span => Ok(id("span_id", test)),
        Field::Parent if !logs => Ok(id("parent_span_id", test)),
        Field::Severity if logs => Ok(severity(test)),
        Field::Kind if !logs => Ok(code("kind", test)),
        Field::Status if !logs => Ok(code("status_code", test)),
        Field::Duration if !logs => Ok(duration(test)),
        Field::Parent | Field::Severity | Field::Kind | Field::Status | Field::Duration => Ok(None),
        Field::Seq => Ok(match test {
            Test::Exists => Some(any("seq")),
            Test::Number(op, number) => Some(Leaf::Number("seq", *op, *number)),
            _ => None,
        }),
        Field::Time => Ok(match test {
            Test::Exists => Some(any("ts")),
            Test::Time(op, ns) => Some(Leaf::Time(*op, *ns)),
            _ => None,
        }),
        Field::Mark | Field::Contract | Field::Rule => Ok(verdict_bits(field, test).map(|bits| match bits {
            Bits::Any(bits) => Leaf::Bits("verdict", bits),
            Bits::Are(mask, bits) => Leaf::BitsAre("verdict", mask, bits),
        })),
    }
}

/// What is asked of the bits of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    /// Some of these are set.
    Any(i64),
    /// Of the first, the second are set and no other; a record without verdict has none.
    Are(i64, i64),
}

/// What a test of a verdict asks of its bits.
pub(super) fn verdict_bits(field: &Field, test: &Test) -> Option<Bits> {
    Some(match test {
        Test::Exists if *field == Field::Rule => Bits::Any(verdict::RULES),
        Test::Mark(Flag::TimeAbsurd) => Bits::Any(verdict::TIME_ABSURD),
        Test::Mark(Flag::TimeMissing) => Bits::Any(verdict::TIME_MISSING),
        Test::Mark(Flag::SenderMismatch) => Bits::Any(verdict::SENDER_MISMATCH),
        Test::Mark(Flag::Quarantined) => Bits::Any(verdict::QUARANTINED),
        Test::Standing(Standing::Violated) => Bits::Any(verdict::RULES),
        Test::Standing(Standing::Quarantined) => Bits::Any(verdict::QUARANTINED),
        Test::Standing(Standing::Redacted) => Bits::Any(verdict::REDACTED),
        Test::Standing(Standing::Ok) => Bits::Are(verdict::RULES | verdict::CHECKED, verdict::CHECKED),
        Test::Standing(Standing::Unchecked) => Bits::Are(verdict::CHECKED, 0),
        Test::Rule(id) => Bits::Any(RULES.iter().find(|(known, _)| known == id)?.1),
        _ => return None,
    })
}

fn any(column: &'static str) -> Leaf {
    Leaf::Range { column, null_as: None, low: i64::MIN, high: i64::MAX, outside: false }
}

/// The numbers that compare so with the range `low..=high`.
fn range(column: &'static str, null_as: Option<i64>, op: Op, low: i64, high: i64) -> Leaf {
    let (low, high, outside) = match op {
        Op::Eq => (low, high, false),
        Op::Ne => (low, high, true),
        Op::Lt => (low, i64::MAX, true),
        Op::Le => (i64::MIN, high, false),
        Op::Gt => (i64::MIN, high, true),
        Op::Ge => (low, i64::MAX, false),
    };
    Leaf::Range { column, null_as, low, high, outside }
}

fn severity(test: &Test) -> Option<Leaf> {
    match test {
        Test::Exists => Some(range("severity_number", Some(0), Op::Ne, 0, 0)),
        Test::Severity(op, level) => {
            let (low, high) = level.range();
            Some(range("severity_number", Some(0), *op, i64::from(low), i64::from(high)))
        }
        _ => None,
    }
}

fn code(column: &'static str, test: &Test) -> Option<Leaf> {
    match test {
        Test::Exists => Some(range(column, Some(0), Op::Ne, 0, 0)),
        Test::Code(op, code) => Some(range(column, Some(0), *op, i64::from(*code), i64::from(*code))),
        _ => None,
    }
}

fn duration(test: &Test) -> Option<Leaf> {
    match test {
        Test::Exists => Some(any("duration_ns")),
        Test::Duration(op, ns) => Some(range("duration_ns", None, *op, *ns, *ns)),
        _ => None,
    }
}

fn id(column: &'static str, test: &Test) -> Option<Leaf> {
    let hex = match test {
        Test::Exists => "",
        Test::Id { hex, .. } => hex,
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(16);
    let mut nibble = None;
    for pair in hex.as_bytes().chunks(2) {
        let text = std::str::from_utf8(pair).ok()?;
        let number = u8::from_str_radix(text, 16).ok()?;
        if pair.len() == 2 {
            bytes.push(number);
        } else {
            nibble = Some(number);
        }
    }
    Some(Leaf::Id { column, bytes, nibble })
}

impl Leaf {
    /// Relative cost per row.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Leaf::Range { .. }
            | Leaf::Bits(..)
            | Leaf::BitsAre(..)
            | Leaf::Id { .. }
            | Leaf::Time(..)
            | Leaf::Number(..) => 1,
            Leaf::Text(["body"], test) => 10 + 5 * test.cost(),
            Leaf::Text(..) | Leaf::Scope(..) => 2,
            Leaf::Attribute(_, test) => 15 + test.cost(),
            Leaf::SpanEvent(test) => 30 + test.cost(),
        }
    }

    pub(super) fn add_columns(&self, out: &mut Vec<String>) {
        let mut add = |column: &str| out.push(column.to_owned());
        match self {
            Leaf::Text(columns, _) => columns.iter().copied().for_each(add),
            Leaf::Attribute(attribute, _) => {
                if attribute.has_column {
                    add(&attribute.key);
                }
                ["attrs", "resource", "scope"].into_iter().for_each(add);
            }
            Leaf::Scope(..) => add("scope"),
            Leaf::SpanEvent(_) => add("events"),
            Leaf::Time(..) => ["ts", "ns"].into_iter().for_each(add),
            Leaf::Range { column, .. }
            | Leaf::Number(column, ..)
            | Leaf::Id { column, .. }
            | Leaf::Bits(column, _)
            | Leaf::BitsAre(column, ..) => add(column),
        }
    }

    /// The rows of `alive` that fulfil the condition.
    pub(super) fn select(&self, batch: &RecordBatch, alive: &Mask) -> Mask {
        let columns = Batch::new(batch);
        let int = |column: &str, keep: &dyn Fn(Option<i64>) -> bool| {
            let column = columns.int(column);
            let mut found = alive.clone();
            found.retain(|row| keep(column.get(row)));
            found
        };
        match self {
            Leaf::Text(names, test) => select_text(columns, names, test, alive),
            Leaf::Attribute(attribute, test) => select_attribute(columns, attribute, test, alive),
            Leaf::Scope(member, test) => {
                let is = |json: &str| Some(value::member(json, member).is_some_and(|raw| test.is_json(raw)));
                select_distinct(columns.str("scope"), alive, is).0
            }
            Leaf::SpanEvent(test) => {
                let is = |json: &str| {
                    let has_name = |event: value::Raw<'_>| {
                        value::member(event.json(), "name").is_some_and(|name| test.is_json(name))
                    };
                    Some(value::elements(json).any(has_name))
                };
                select_distinct(columns.str("events"), alive, is).0
            }
            Leaf::Range { column, null_as, low, high, outside } => int(column, &|value| {
                value.or(*null_as).is_some_and(|value| (*low <= value && value <= *high) != *outside)
            }),
            Leaf::Number(column, op, number) => {
                int(column, &|value| value.is_some_and(|v| op.holds(Number::Int(v).compare(*number))))
            }
            Leaf::Bits(column, bits) => int(column, &|value| value.is_some_and(|value| value & bits != 0)),
            Leaf::BitsAre(column, of, are) => int(column, &|value| value.unwrap_or(0) & of == *are),
            Leaf::Time(op, ns) => {
                let (ts, below) = (columns.int("ts"), columns.int("ns"));
                let (want_us, want_ns) = (ns.div_euclid(1000), ns.rem_euclid(1000));
                let mut found = alive.clone();
                found.retain(|row| {
                    ts.get(row).is_some_and(|us| {
                        let order = us.cmp(&want_us);
                        let order = if order == Ordering::Equal {
                            below.get(row).unwrap_or(0).cmp(&want_ns)
                        } else {
                            order
                        };
                        op.holds(order)
                    })
                });
                found
            }
            Leaf::Id { column, bytes, nibble } => {
                let Some(ids) = columns.ids(column) else { return Mask::none(alive.rows()) };
                let mut found = alive.clone();
                found.retain(|row| {
                    ids.is_valid(row)
                        && ids.value(row).strip_prefix(bytes.as_slice()).is_some_and(|rest| {
                            nibble.is_none_or(|high| rest.first().is_some_and(|byte| byte >> 4 == high))
                        })
                });
                found
            }
        }
    }
}

fn select_text(columns: Batch<'_>, names: &[&str], test: &TextTest, alive: &Mask) -> Mask {
    let mut found = Mask::none(alive.rows());
    let mut rest = alive.clone();
    for name in names {
        let more = match columns.str(name) {
            StrColumn::Plain(array) => test.select(array, &rest),
            column => select_distinct(column, &rest, |text| Some(test.is(text))).0,
        };
        rest.subtract(&more);
        found.union(&more);
    }
    found
}

/// Judges each distinct text once. `judge` says whether it fulfils the test, or `None` that it decides nothing.
/// The rows that fulfil it, and those that are decided.
fn select_distinct(
    column: StrColumn<'_>,
    alive: &Mask,
    mut judge: impl FnMut(&str) -> Option<bool>,
) -> (Mask, Mask) {
    let (mut found, mut decided) = (Mask::none(alive.rows()), Mask::none(alive.rows()));
    let mut note = |row: usize, verdict: Option<bool>| {
        if let Some(is) = verdict {
            decided.set(row);
            if is {
                found.set(row);
            }
        }
    };
    match column {
        StrColumn::Absent => {}
        StrColumn::Plain(array) => {
            alive.iter().filter(|row| array.is_valid(*row)).for_each(|row| note(row, judge(array.value(row))));
        }
        StrColumn::Dictionary(keys, values) => {
            let mut known: Vec<Option<Option<bool>>> = vec![None; values.len()];
            for row in alive.iter() {
                let Some((key, text)) = distinct(keys, values, row) else { continue };
                let Some(slot) = known.get_mut(key) else { continue };
                let verdict = *slot.get_or_insert_with(|| judge(text));
                note(row, verdict);
            }
        }
    }
    (found, decided)
}

fn distinct<'a>(keys: &Int32Array, values: &'a StringArray, row: usize) -> Option<(usize, &'a str)> {
    let key = (row < keys.len() && keys.is_valid(row)).then(|| keys.value(row))?;
    let key = usize::try_from(key).ok().filter(|key| *key < values.len() && values.is_valid(*key))?;
    Some((key, values.value(key)))
}

/// An attribute lies in its own column, else in `attrs`, else in the resource, else in the scope; the first place
/// that has it decides.
fn select_attribute(columns: Batch<'_>, attribute: &Attribute, test: &TextTest, alive: &Mask) -> Mask {
    let mut rest = alive.clone();
    let mut found = Mask::none(alive.rows());
    let mut take = |rest: &mut Mask, (more, decided): (Mask, Mask)| {
        rest.subtract(&decided);
        found.union(&more);
    };
    if attribute.has_column {
        let decided = select_column(columns, &attribute.key, test, &rest);
        take(&mut rest, decided);
    }
    let judge = |json: &str| value::member(json, &attribute.key).map(|raw| test.is_json(raw));
    if let (false, StrColumn::Plain(array)) = (rest.is_empty(), columns.str("attrs")) {
        let width = attribute.in_json.needle().len();
        let find = |bytes: &[u8], at: usize| {
            let start = at + attribute.in_json.find(bytes.get(at..)?)?;
            Some((start, start + width))
        };
        let candidates = search_rows(array, &rest, find, |_, _, _, _, _| true);
        let decided = select_distinct(StrColumn::Plain(array), &candidates, judge);
        take(&mut rest, decided);
    }
    for name in ["resource", "scope"] {
        if !rest.is_empty() {
            let in_attributes = |json: &str| judge(value::member(json, "attributes")?.json());
            let decided = select_distinct(columns.str(name), &rest, in_attributes);
            take(&mut rest, decided);
        }
    }
    found
}

/// Tests the column that a key owns.
fn select_column(columns: Batch<'_>, key: &str, test: &TextTest, alive: &Mask) -> (Mask, Mask) {
    let (mut found, mut decided) = (Mask::none(alive.rows()), Mask::none(alive.rows()));
    let Some(array) = columns.record_batch().column_by_name(key) else { return (found, decided) };
    let mut text = String::new();
    match array.data_type() {
        DataType::Int64 => {
            let Some(array) = array.as_primitive_opt::<Int64Type>() else { return (found, decided) };
            for row in alive.iter().filter(|row| array.is_valid(*row)) {
                decided.set(row);
                let int = array.value(row);
                text.clear();
                let _ = write!(text, "{int}");
                if test.is_number(Number::Int(int), &text) {
                    found.set(row);
                }
            }
        }
        DataType::Float64 => {
            let Some(array) = array.as_primitive_opt::<Float64Type>() else { return (found, decided) };
            for row in alive.iter().filter(|row| array.is_valid(*row)) {
                decided.set(row);
                let double = array.value(row);
                text.clear();
                value::Value::Double(double).write_json(&mut text);
                let is = if double.is_finite() {
                    test.is_number(Number::Double(double), &text)
                } else {
                    test.is(&text)
                };
                if is {
                    found.set(row);
                }
            }
        }
        DataType::Boolean => {
            let Some(array) = array.as_boolean_opt() else { return (found, decided) };
            let is = [test.is("false"), test.is("true")];
            for row in alive.iter().filter(|row| array.is_valid(*row)) {
                decided.set(row);
                if is[usize::from(array.value(row))] {
                    found.set(row);
                }
            }
        }
        _ => return select_distinct(columns.str(key), alive, |text| Some(test.is(text))),
    }
    (found, decided)
}
