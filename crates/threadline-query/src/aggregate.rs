//! Histograms, fields and their values. What is counted by is held in memory, up to the guard's bound.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use rustc_hash::FxHashMap;
use threadline_model::columns::{Batch, StrColumn};
use threadline_model::schema::{Table, fixed};
use threadline_model::value;
use threadline_store::{Facets, SealedFile, Snapshot};

use crate::cores::{Budget, cores, on_cores};
use crate::counts::{MINUTE_US, Slice, each_minute, narrowed};
use crate::field::FieldReader;
use crate::lang::{Expr, Field, Severity, code_name};
use crate::matcher::{Mask, Matcher, attribute_column, prune};
use crate::search::TimeRange;
use crate::source::{Source, each_batch, sources};
use crate::{Guard, QueryError};

/// What to count over time.
#[derive(Clone, Debug)]
pub struct HistogramRequest {
    /// The table.
    pub table: Table,
    /// The condition.
    pub expr: Expr,
    /// Event times; open ends are taken from the data.
    pub range: TimeRange,
    /// Width of a bucket in µs; `None` picks a round one that gives about 60 buckets.
    pub interval_us: Option<i64>,
    /// Field to count by; the counts are in one series when `None`.
    pub by: Option<String>,
    /// Series at most; the rest is summed up as `other`.
    pub series_max: usize,
}

/// Counts over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Width of a bucket, µs. Buckets start at multiples of it.
    pub interval_us: i64,
    /// Start of the first bucket, µs.
    pub start_us: i64,
    /// Number of buckets.
    pub buckets: usize,
    /// Series by descending total: value of `by` (`None`: rows without a value, or no `by`), counts per bucket.
    pub series: Vec<Series>,
    /// Rows counted.
    pub total: u64,
}

/// Counts of one value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Value of the field.
    pub value: Option<String>,
    /// Sum of further values beyond `series_max`.
    pub other: bool,
    /// Counts per bucket.
    pub counts: Vec<u64>,
}

/// Buckets at most.
const BUCKETS_MAX: i64 = 50_000;
/// Buckets that a width is picked for, about.
const BUCKETS_WANTED: i64 = 60;
/// Bytes that a map's entry takes beside its text, about.
const ENTRY_BYTES: usize = 64;

/// Round widths of a bucket, ms.
const INTERVALS_MS: [i64; 31] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1000,
    2000,
    5000,
    10_000,
    15_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    604_800_000,
    2_592_000_000,
    31_536_000_000,
];

/// Counts rows over time.
///
/// # Errors
/// Too many buckets, a bound that is hit, or a store that fails.
pub fn histogram(
    snapshot: &Snapshot,
    request: &HistogramRequest,
    guard: &Guard,
) -> Result<Histogram, QueryError> {
    let matcher = Matcher::new(&request.expr, request.table)?;
    let sources = sources(snapshot.table(request.table));
    let prune = prune(&request.expr, request.table, request.range);
    let (from, to) = bounds(&sources, prune.ts.clone());
    let interval_us = interval(request.interval_us, from, to)?;
    let start_us = from.div_euclid(interval_us) * interval_us;
    let buckets = if from >= to { 0 } else { ((to - 1 - start_us) / interval_us + 1) as usize };
    let reader = match &request.by {
        Some(by) => FieldReader::new(&Field::parse_reference(by), request.table),
        None => FieldReader::nothing(),
    };
    let mut columns = reader.columns();
    columns.push("ts".to_owned());
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let slice = Slice::of(&request.expr, request.table).filter(|_| interval_us % MINUTE_US == 0);
    let rolled = slice.as_ref().and_then(|slice| Some((slice, Rolled::of(request)?)));
    // Rows beyond the buckets do not count.
    let add =
        |tally: &mut Tally<Vec<u64>>, value: Option<&str>, ts_us: i64, rows: u64| -> Result<(), QueryError> {
            let bucket = usize::try_from((ts_us - start_us) / interval_us).ok();
            if let Some(count) =
                tally.of(value)?.zip(bucket).and_then(|(counts, bucket)| counts.get_mut(bucket))
            {
                *count += rows;
            }
            Ok(())
        };
    let tally = on_cores(
        &sources,
        cores(),
        guard,
        |budget| Tally::new(budget, buckets),
        |tally, source| {
            let mut ranges = vec![request.range];
            if let (Source::File(file), Some((slice, rolled))) = (source, &rolled)
                && !source.excluded_by(&prune)
            {
                ranges = each_minute(file, slice, request.range, |service, entry| {
                    add(tally, rolled.value(service, entry.class).as_deref(), entry.minute_us, entry.rows)
                })?;
            }
            for part in ranges {
                let prune = narrowed(&prune, request.range, part);
                each_batch(source, &matcher, &columns, &prune, part, guard, |batch, _, found| {
                    let ts = Batch::new(batch).int("ts");
                    reader
                        .each(batch, found, |row, value| add(tally, value, ts.get(row).unwrap_or(start_us), 1))
                })?;
            }
            Ok(ControlFlow::Continue(()))
        },
        Tally::absorb,
    )?;
    let mut series: Vec<Series> =
        tally.into_values().map(|(value, counts)| Series { value, other: false, counts }).collect();
    let total = series.iter().flat_map(|series| &series.counts).sum();
    series.sort_by_cached_key(|series| {
        (std::cmp::Reverse(series.counts.iter().sum::<u64>()), series.value.clone())
    });
    Ok(Histogram {
        interval_us,
        start_us,
        buckets,
        series: with_other(series, request.series_max, buckets),
        total,
    })
}

/// What a histogram counts by, where roll-ups know it.
enum Rolled {
    Nothing,
    Service,
    Severity,
    Status,
}

impl Rolled {
    fn of(request: &HistogramRequest) -> Option<Rolled> {
        match (request.by.as_deref().map(Field::parse_reference), request.table) {
            (None, _) => Some(Rolled::Nothing),
            (Some(Field::Service), _) => Some(Rolled::Service),
            (Some(Field::Severity), Table::Logs) => Some(Rolled::Severity),
            (Some(Field::Status), Table::Spans) => Some(Rolled::Status),
            _ => None,
        }
    }

    /// As the field's reader says it. A log without severity has none in the roll-up either, or 0.
    fn value<'a>(&self, service: Option<&'a str>, class: i32) -> Option<Cow<'a, str>> {
        match self {
            Rolled::Nothing => None,
            Rolled::Service => service.map(Cow::Borrowed),
            Rolled::Severity => class_text(&Field::Severity, class).map(Cow::Owned),
            Rolled::Status => class_text(&Field::Status, class).map(Cow::Owned),
        }
    }
}

/// A class as the field's reader says it; a log of class 0 has no severity.
fn class_text(field: &Field, class: i32) -> Option<String> {
    match field {
        Field::Severity if class == 0 => None,
        Field::Severity => Some(Severity::of(class).map_or_else(|| class.to_string(), |name| name.to_string())),
        field => Some(code_name(field, class).map_or_else(|| class.to_string(), str::to_owned)),
    }
}

/// Times from the first to beyond the last that rows in the range can have.
pub(crate) fn bounds(sources: &[Source], ts: Option<std::ops::RangeInclusive<i64>>) -> (i64, i64) {
    let (low, high) = ts.map_or((i64::MIN, i64::MAX), |ts| (*ts.start(), *ts.end()));
    let data = sources.iter().map(Source::ts).filter(|(first, last)| *last >= low && *first <= high);
    let (first, last) = data.fold((i64::MAX, i64::MIN), |(a, b), (first, last)| (a.min(first), b.max(last)));
    let from = if low == i64::MIN { first } else { low };
    let to = if high == i64::MAX { last } else { high };
    if from > to { (0, 0) } else { (from, to.saturating_add(1)) }
}

pub(crate) fn interval(wanted_us: Option<i64>, from: i64, to: i64) -> Result<i64, QueryError> {
    let span = to.saturating_sub(from);
    let interval = match wanted_us {
        Some(interval) if interval <= 0 => {
            return Err(QueryError::Invalid("the interval must be longer than zero".to_owned()));
        }
        Some(interval) => interval,
        None => {
            let least = span / BUCKETS_WANTED;
            INTERVALS_MS.iter().map(|ms| ms * 1000).find(|us| *us >= least).unwrap_or_else(|| least.max(1))
        }
    };
    if span / interval > BUCKETS_MAX {
        return Err(QueryError::Invalid(format!(
            "this interval gives more than {BUCKETS_MAX} buckets: choose a longer one, or a shorter time range"
        )));
    }
    Ok(interval)
}

/// Sums up the series beyond the first `series_max`.
fn with_other(mut series: Vec<Series>, series_max: usize, buckets: usize) -> Vec<Series> {
    if series.len() > series_max {
        let mut other = Series { value: None, other: true, counts: vec![0; buckets] };
        for rest in series.drain(series_max..) {
            for (sum, count) in other.counts.iter_mut().zip(rest.counts) {
                *sum += count;
            }
        }
        series.push(other);
    }
    series
}

/// What is counted of a value: its rows, or its rows by bucket.
trait Amount: Send {
    fn empty(buckets: usize) -> Self;

    fn add(&mut self, other: Self);
}

impl Amount for u64 {
    fn empty(_: usize) -> u64 {
        0
    }

    fn add(&mut self, other: u64) {
        *self += other;
    }
}

impl Amount for Vec<u64> {
    fn empty(buckets: usize) -> Vec<u64> {
        vec![0; buckets]
    }

    fn add(&mut self, other: Vec<u64>) {
        self.iter_mut().zip(other).for_each(|(sum, count)| *sum += count);
    }
}

/// Counts of values.
struct Tally<C> {
    /// Numbers of the values, as they came.
    known: FxHashMap<String, usize>,
    /// Number of the rows without a value.
    missing: Option<usize>,
    counts: Vec<C>,
    buckets: usize,
    bytes: usize,
    budget: Arc<Budget>,
}

impl<C: Amount> Tally<C> {
    fn new(budget: &Arc<Budget>, buckets: usize) -> Self {
        let budget = Arc::clone(budget);
        Tally { known: FxHashMap::default(), missing: None, counts: Vec::new(), buckets, bytes: 0, budget }
    }

    /// The count of a value; `None` never.
    #[inline]
    fn of(&mut self, value: Option<&str>) -> Result<Option<&mut C>, QueryError> {
        let known = match value {
            Some(value) => self.known.get(value).copied(),
            None => self.missing,
        };
        let number = match known {
            Some(number) => number,
            None => self.insert(value)?,
        };
        Ok(self.counts.get_mut(number))
    }

    fn insert(&mut self, value: Option<&str>) -> Result<usize, QueryError> {
        let bytes = ENTRY_BYTES + self.buckets * size_of::<u64>() + value.map_or(0, str::len);
        self.bytes += bytes;
        if !self.budget.take(bytes) {
            return Err(QueryError::TooExpensive(format!(
                "the field has more distinct values than fit into {} MB: narrow the time range or the conditions",
                self.budget.max() >> 20
            )));
        }
        let number = self.counts.len();
        self.counts.push(C::empty(self.buckets));
        match value {
            Some(value) => {
                self.known.insert(value.to_owned(), number);
            }
            None => self.missing = Some(number),
        }
        Ok(number)
    }

    /// Adds another part of the same count.
    fn absorb(&mut self, part: Self) -> Result<(), QueryError> {
        self.budget.give(part.bytes);
        for (value, count) in part.into_values() {
            if let Some(sum) = self.of(value.as_deref())? {
                sum.add(count);
            }
        }
        Ok(())
    }

    /// The values with their counts.
    fn into_values(self) -> impl Iterator<Item = (Option<String>, C)> {
        let mut values = vec![None; self.counts.len()];
        for (value, number) in self.known {
            if let Some(slot) = values.get_mut(number) {
                *slot = Some(value);
            }
        }
        values.into_iter().zip(self.counts)
    }
}

/// A field that rows have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// Name as one searches by it.
    pub name: String,
    /// `string`, `int`, `double`, `bool`, `time`, `id`, or `mixed`.
    pub field_type: &'static str,
    /// Rows that have it.
    pub rows: u64,
}

/// Columns that are fields of their own, by their search name and type.
const COLUMN_FIELDS: [(&str, &str, &str); 17] = [
    ("ts", "time", "time"),
    ("service", "service", "string"),
    ("instance", "instance", "string"),
    ("trace_id", "trace", "id"),
    ("span_id", "span", "id"),
    ("parent_span_id", "parent", "id"),
    ("severity_number", "severity", "int"),
    ("severity_text", "severity_text", "string"),
    ("event_name", "event", "string"),
    ("body", "body", "string"),
    ("scope", "scope", "string"),
    ("name", "name", "string"),
    ("kind", "kind", "int"),
    ("status_code", "status", "int"),
    ("status_message", "status_message", "string"),
    ("duration_ns", "duration", "int"),
    ("seq", "seq", "int"),
];

/// Which fields the rows have that fulfil a condition, by descending number of rows.
///
/// # Errors
/// A condition that does not compile, a bound that is hit, or a store that fails.
pub fn fields(
    snapshot: &Snapshot,
    table: Table,
    expr: &Expr,
    range: TimeRange,
    guard: &Guard,
) -> Result<Vec<FieldInfo>, QueryError> {
    let matcher = Matcher::new(expr, table)?;
    let prune = prune(expr, table, range);
    let snapshot = snapshot.table(table);
    let schema = snapshot.layout.schema();
    let is_field = |name: &str| {
        matches!(name, "attrs" | "resource")
            || COLUMN_FIELDS.iter().any(|(column, ..)| *column == name)
            || fixed(table).iter().all(|field| field.name() != name)
    };
    let columns: Vec<&str> =
        schema.fields().iter().map(|field| field.name().as_str()).filter(|name| is_field(name)).collect();
    let add = |fields: &mut Fields, source: &Source| {
        each_batch(source, &matcher, &columns, &prune, range, guard, |batch, _, found| {
            for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
                let name = field.name().as_str();
                if columns.contains(&name) && !matches!(name, "attrs" | "resource") {
                    let rows = match array.logical_nulls() {
                        None => found.count(),
                        Some(nulls) => found.iter().filter(|row| nulls.is_valid(*row)).count(),
                    };
                    fields.add_column(name, array.data_type(), rows as u64)?;
                }
            }
            fields.add_attrs(batch, found)?;
            fields.add_resources(batch, found)
        })?;
        Ok(ControlFlow::Continue(()))
    };
    let found = on_cores(&sources(snapshot), cores(), guard, Fields::new, add, Fields::absorb)?;
    let mut list: Vec<FieldInfo> = found
        .known
        .into_iter()
        .map(|(name, (field_type, rows))| FieldInfo { name, field_type, rows })
        .collect();
    list.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.name.cmp(&b.name)));
    Ok(list)
}

/// Fields with their type and number of rows.
struct Fields {
    known: FxHashMap<String, (&'static str, u64)>,
    bytes: usize,
    budget: Arc<Budget>,
}

impl Fields {
    fn new(budget: &Arc<Budget>) -> Fields {
        Fields { known: FxHashMap::default(), bytes: 0, budget: Arc::clone(budget) }
    }

    /// Adds another part of the same count.
    fn absorb(&mut self, part: Fields) -> Result<(), QueryError> {
        self.budget.give(part.bytes);
        part.known.into_iter().try_for_each(|(name, (field_type, rows))| self.add(&name, field_type, rows))
    }

    fn add(&mut self, name: &str, field_type: &'static str, rows: u64) -> Result<(), QueryError> {
        if rows == 0 {
            return Ok(());
        }
        if let Some((known_type, count)) = self.known.get_mut(name) {
            *count += rows;
            if *known_type != field_type {
                *known_type = "mixed";
            }
            return Ok(());
        }
        let bytes = name.len() + ENTRY_BYTES;
        self.bytes += bytes;
        if !self.budget.take(bytes) {
            return Err(QueryError::TooExpensive(
                "there are too many different fields: narrow the time range or the conditions".to_owned(),
            ));
        }
        self.known.insert(name.to_owned(), (field_type, rows));
        Ok(())
    }

    fn add_column(&mut self, column: &str, data_type: &DataType, rows: u64) -> Result<(), QueryError> {
        if let Some((_, name, field_type)) = COLUMN_FIELDS.iter().find(|(known, ..)| *known == column) {
            return self.add(name, field_type, rows);
        }
        let field_type = match data_type {
            DataType::Int64 => "int",
            DataType::Float64 => "double",
            DataType::Boolean => "bool",
            _ => "string",
        };
        self.add(&Field::Attribute(column.to_owned()).to_string(), field_type, rows)
    }

    fn add_attrs(&mut self, batch: &RecordBatch, found: &Mask) -> Result<(), QueryError> {
        let attrs = Batch::new(batch).str("attrs");
        // Names as one searches by them, made once per batch and key.
        let mut names: FxHashMap<String, String> = FxHashMap::default();
        for json in found.iter().filter_map(|row| attrs.get(row)) {
            for (key, raw) in value::members(json) {
                if !names.contains_key(key.as_ref()) {
                    names.insert(key.to_string(), Field::Attribute(key.to_string()).to_string());
                }
                if let Some(name) = names.get(key.as_ref()) {
                    self.add(name, json_type(raw.json()), 1)?;
                }
            }
        }
        Ok(())
    }

    /// Resource attributes without a column, once per distinct resource.
    fn add_resources(&mut self, batch: &RecordBatch, found: &Mask) -> Result<(), QueryError> {
        let StrColumn::Dictionary(keys, values) = Batch::new(batch).str("resource") else { return Ok(()) };
        let mut rows = vec![0_u64; values.len()];
        for row in found.iter().filter(|row| keys.is_valid(*row)) {
            if let Some(count) = usize::try_from(keys.value(row)).ok().and_then(|key| rows.get_mut(key)) {
                *count += 1;
            }
        }
        for (index, count) in rows.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            let Some(attributes) = value::member(values.value(index), "attributes") else { continue };
            for (key, raw) in value::members(attributes.json()) {
                let own_column = matches!(key.as_ref(), "service.name" | "service.instance.id")
                    || batch.column_by_name(&key).is_some();
                if !own_column {
                    self.add(&Field::Attribute(key.to_string()).to_string(), json_type(raw.json()), count)?;
                }
            }
        }
        Ok(())
    }
}

fn json_type(json: &str) -> &'static str {
    match json.bytes().next() {
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'0'..=b'9' | b'-') if json.contains(['.', 'e', 'E']) => "double",
        Some(b'0'..=b'9' | b'-') => "int",
        _ => "mixed",
    }
}

/// A column whose values files count.
struct FacetColumn {
    name: String,
    /// Rows that are null here may have the value elsewhere.
    elsewhere: bool,
}

/// Counts of one file and column.
struct FacetValues {
    facets: Arc<Facets>,
    column: String,
}

fn facet_column(field: &Field) -> Option<FacetColumn> {
    let (name, elsewhere) = match field {
        Field::Service => ("service", false),
        Field::Instance => ("instance", false),
        Field::Attribute(key) => (attribute_column(key)?, true),
        _ => return None,
    };
    Some(FacetColumn { name: name.to_owned(), elsewhere })
}

impl FacetColumn {
    /// The counts of a file; `None` when they do not tell.
    fn of(&self, file: &SealedFile) -> Result<Option<FacetValues>, QueryError> {
        let facets = file.facets()?;
        let known = match facets.column(&self.name) {
            Some(facet) => !self.elsewhere || facet.iter().all(|(value, _)| value.is_some()),
            None => !self.elsewhere && !file.has_column(&self.name)?,
        };
        Ok(known.then(|| FacetValues { facets, column: self.name.clone() }))
    }
}

impl FacetValues {
    /// Values and rows of a slice.
    fn rows<'a>(&'a self, slice: &'a Slice) -> impl Iterator<Item = (&'a str, u64)> {
        self.facets.column(&self.column).into_iter().flatten().filter_map(|(value, classes)| {
            let rows: u64 =
                classes.iter().filter(|(class, _)| slice.has_class(*class)).map(|(_, rows)| rows).sum();
            (rows > 0).then_some((value.as_deref()?, rows))
        })
    }
}

/// Values of a field with their number of rows, most frequent first, at most `limit`.
///
/// # Errors
/// More distinct values than the guard's memory holds, a condition that does not compile, or a store that fails.
pub fn field_values(
    snapshot: &Snapshot,
    table: Table,
    field: &str,
    expr: &Expr,
    range: TimeRange,
    limit: usize,
    guard: &Guard,
) -> Result<Vec<(String, u64)>, QueryError> {
    let matcher = Matcher::new(expr, table)?;
    let prune = prune(expr, table, range);
    let reader = FieldReader::new(&Field::parse_reference(field), table);
    let columns = reader.columns();
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let facet = facet_column(&Field::parse_reference(field));
    let slice = Slice::of(expr, table).filter(Slice::any_service);
    let sources = sources(snapshot.table(table));
    let tally = on_cores(
        &sources,
        cores(),
        guard,
        |budget| Tally::<u64>::new(budget, 1),
        |tally, source| {
            let mut add = |value: Option<&str>, rows| {
                tally.of(value).map(|count| count.into_iter().for_each(|count| *count += rows))
            };
            if let (Source::File(file), Some(facet), Some(slice)) = (source, &facet, &slice)
                && source.is_within(range)
                && let Some(values) = facet.of(file)?
            {
                values.rows(slice).try_for_each(|(value, rows)| add(Some(value), rows))?;
                return Ok(ControlFlow::Continue(()));
            }
            each_batch(source, &matcher, &columns, &prune, range, guard, |batch, _, found| {
                reader.each(batch, found, |_, value| match value {
                    Some(_) => add(value, 1),
                    None => Ok(()),
                })
            })?;
            Ok(ControlFlow::Continue(()))
        },
        Tally::absorb,
    )?;
    let mut list: Vec<(String, u64)> =
        tally.into_values().filter_map(|(value, count)| Some((value?, count))).collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    list.truncate(limit);
    Ok(list)
}
