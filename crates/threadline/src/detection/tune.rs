//! Noisy rules: whom and what their findings are about, and an exception that would have kept most of them away.
//!
//! What a finding is about are its entities and what all its evidence shares. The exception that is suggested is tried: the
//! back-test runs again with it, and says what it leaves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use threadline_detect::finding::Finding;
use threadline_detect::rules::RuleSet;
use threadline_detect::sigma::extension::{Exception, read_exception};
use threadline_detect::sigma::pattern::Pattern;
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_query::search::TimeRange;
use threadline_query::source::{Source, sources};
use threadline_query::{Guard, QueryError};
use threadline_store::{Prune, Snapshot};

use super::{Backtest, Loaded, backtest};
use crate::rows::{RowWriter, time_text};

/// Rules that are looked at, those with most findings first.
const RULES_MAX: usize = 20;
/// Findings of a rule whose evidence is looked at, spread over all of them.
const FINDINGS_MAX: usize = 1000;
/// Records of evidence of one finding that are looked at.
const EVIDENCE_MAX: usize = 10;
/// Values that are told of each field.
const VALUES_MAX: usize = 3;
/// A value with more bytes excepts nobody.
const VALUE_BYTES_MAX: usize = 200;
const DAY_US: i64 = 86_400_000_000;
/// How long a suggested exception lasts, days.
const EXPIRY_DAYS: i64 = 90;

/// Which value of a field.
type About = (String, String);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The range of the back-test.
    pub(crate) range: TimeRange,
    /// Findings from which on a rule is noisy.
    pub(crate) noisy: usize,
    /// Now, µs.
    pub(crate) now_us: i64,
}

/// What is said of each rule that is noisy. `again` compiles the same rules with exceptions: each with
/// the id of its rule.
///
/// # Errors
/// A bound of the guard, or a store that fails.
pub(crate) fn tune(
    snapshot: &Snapshot,
    loaded: &Loaded,
    found: &Backtest,
    question: Question,
    guard: &Guard,
    again: impl FnOnce(Vec<(String, Exception)>) -> Loaded,
) -> Result<Vec<Value>, QueryError> {
    let Question { range, noisy, now_us } = question;
    let mut by_rule: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &found.findings {
        by_rule.entry(&finding.rule_id).or_default().push(finding);
    }
    let mut noisiest: Vec<(&str, Vec<&Finding>)> =
        by_rule.into_iter().filter(|(_, findings)| findings.len() >= noisy.max(2)).collect();
    noisiest.sort_by_key(|(_, findings)| std::cmp::Reverse(findings.len()));
    noisiest.truncate(RULES_MAX);
    let mut rules: Vec<Noisy<'_>> = noisiest.into_iter().map(|(rule, all)| Noisy::new(rule, all)).collect();
    let wanted: HashSet<(Table, i64)> = rules.iter().flat_map(Noisy::evidence).collect();
    let records = records(snapshot, &wanted, guard)?;
    let mut exceptions = Vec::new();
    for rule in &mut rules {
        rule.count(&records);
        if let Some(suggested) = rule.suggest(&loaded.rules, now_us) {
            let targets = suggested.targets.iter().map(|(id, _)| (id.clone(), suggested.exception.clone()));
            exceptions.extend(targets);
            rule.suggested = Some(suggested);
        }
    }
    let mut left: HashMap<String, usize> = HashMap::new();
    if !exceptions.is_empty() {
        let second = again(exceptions);
        // A rule that an exception has broken would find nothing, which says nothing of the exception.
        if second.problems.len() > loaded.problems.len() {
            rules.iter_mut().for_each(|rule| rule.suggested = None);
        }
        for finding in backtest(snapshot, &second.rules, range, guard)?.findings {
            *left.entry(finding.rule_id.to_string()).or_default() += 1;
        }
    }
    let days = days(found, range);
    Ok(rules.iter().map(|rule| rule.json(days, left.get(rule.id).copied().unwrap_or(0))).collect())
}

/// Days of the range, at least one.
fn days(found: &Backtest, range: TimeRange) -> f64 {
    let first = range.from_us.or(found.first_us).unwrap_or(0);
    let last = range.to_us.or(found.last_us).unwrap_or(first);
    (last.saturating_sub(first) as f64 / DAY_US as f64).max(1.0)
}

/// A rule with many findings.
struct Noisy<'a> {
    id: &'a str,
    all: Vec<&'a Finding>,
    /// Those that are looked at.
    sample: Vec<&'a Finding>,
    /// Findings of the sample by entity, and by what their evidence shares.
    entities: HashMap<About, usize>,
    shared: HashMap<About, usize>,
    suggested: Option<Suggested>,
}

/// An exception to paste.
struct Suggested {
    about: About,
    exception: Exception,
    yaml: String,
    /// Rules it goes into: id and title.
    targets: Vec<(String, String)>,
}

impl<'a> Noisy<'a> {
    fn new(id: &'a str, all: Vec<&'a Finding>) -> Noisy<'a> {
        let step = all.len().div_ceil(FINDINGS_MAX).max(1);
        let sample = all.iter().step_by(step).copied().collect();
        Noisy { id, all, sample, entities: HashMap::new(), shared: HashMap::new(), suggested: None }
    }

    fn evidence(&self) -> impl Iterator<Item = (Table, i64)> {
        self.sample.iter().flat_map(|finding| evidence(finding))
    }

    fn count(&mut self, records: &HashMap<(Table, i64), HashSet<About>>) {
        for finding in &self.sample {
            for entity in &finding.entities {
                *self.entities.entry((entity.field.to_string(), entity.value.clone())).or_default() += 1;
            }
            let shared = evidence(finding)
                .filter_map(|place| records.get(&place).cloned())
                .reduce(|a, b| a.intersection(&b).cloned().collect());
            for about in shared.unwrap_or_default() {
                *self.shared.entry(about).or_default() += 1;
            }
        }
    }

    /// The exception that most findings, and not all, fall under.
    fn suggest(&self, rules: &RuleSet, now_us: i64) -> Option<Suggested> {
        let targets = rules.about_records(self.id);
        let mut candidates: Vec<(&About, usize)> = self
            .shared
            .iter()
            .map(|(about, count)| (about, *count))
            .filter(|(_, count)| *count > 1 && *count < self.sample.len())
            .collect();
        // Of those that do the same, entities come first: they say whom.
        candidates.sort_by_key(|(about, count)| {
            (std::cmp::Reverse(*count), !self.entities.contains_key(*about), (*about).clone())
        });
        candidates.into_iter().find_map(|(about, _)| {
            let yaml = yaml(about, now_us + EXPIRY_DAYS * DAY_US)?;
            let exception = read_exception(&yaml).ok()?;
            Some(Suggested { about: about.clone(), exception, yaml, targets: targets.clone() })
        })
    }

    fn json(&self, days: f64, left: usize) -> Value {
        let total = self.all.len();
        let suggested = self.suggested.as_ref().map(|suggested| {
            let mut block = "threadline:\n  exceptions:\n".to_owned();
            for (at, line) in suggested.yaml.lines().enumerate() {
                let _ = writeln!(block, "    {}{line}", if at == 0 { "- " } else { "  " });
            }
            let targets: Vec<Value> =
                suggested.targets.iter().map(|(id, title)| json!({"id": id, "title": title})).collect();
            json!({
                "field": suggested.about.0,
                "value": suggested.about.1,
                "yaml": block,
                "rules": targets,
                "removes": total.saturating_sub(left),
                "leaves": left,
            })
        });
        let title = self.all.first().map_or("", |finding| &*finding.title);
        json!({
            "id": self.id,
            "title": title,
            "findings": total,
            "per_day": (total as f64 / days * 10.0).round() / 10.0,
            "sample": self.sample.len(),
            "entities": tops(&self.entities, self.sample.len()),
            "shared": tops(&self.shared, self.sample.len()),
            "exception": suggested,
        })
    }
}

fn evidence(finding: &Finding) -> impl Iterator<Item = (Table, i64)> {
    finding.evidence.iter().take(EVIDENCE_MAX).map(|evidence| (evidence.table, evidence.seq))
}

/// The most frequent values of each field, and their share; fields with a frequent one first. What only one finding has
/// is left out.
fn tops(counts: &HashMap<About, usize>, sample: usize) -> Vec<Value> {
    let mut fields: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
    for ((field, value), count) in counts.iter().filter(|(_, count)| **count > 1) {
        fields.entry(field).or_default().push((*count, value));
    }
    let mut fields: Vec<(&str, Vec<(usize, &str)>)> = fields.into_iter().collect();
    for (_, values) in &mut fields {
        values.sort_unstable_by_key(|(count, value)| (std::cmp::Reverse(*count), *value));
        values.truncate(VALUES_MAX);
    }
    fields.sort_by_key(|(field, values)| (std::cmp::Reverse(values.first().map(|(count, _)| *count)), *field));
    let value = |(count, value): &(usize, &str)| {
        let share = (*count as f64 / sample.max(1) as f64 * 1000.0).round() / 1000.0;
        json!({"value": value, "share": share})
    };
    fields
        .iter()
        .map(|(field, values)| json!({"field": field, "values": values.iter().map(value).collect::<Vec<_>>()}))
        .collect()
}

/// An exception as an element of `threadline.exceptions`; `None` where YAML or Sigma would read something else.
fn yaml((field, value): &About, expires_us: i64) -> Option<String> {
    let is_plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
    if !is_plain(field) || field.contains('|') || !is_plain(value) || value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let mut escaped = String::new();
    for char in value.chars() {
        if matches!(char, '*' | '?' | '\\') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    if Pattern::parse(&escaped).plain() != Some(value) {
        return None;
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let day = time_text(expires_us).get(..10)?.to_owned();
    Some(format!(
        "match: {{ {}: {} }}\nexpires: {day}\nreason: 'FILL IN: why this is expected, and who said so'\n",
        quoted(field),
        quoted(&escaped)
    ))
}

/// What records say: of each the fields that rules could except by.
fn records(
    snapshot: &Snapshot,
    wanted: &HashSet<(Table, i64)>,
    guard: &Guard,
) -> Result<HashMap<(Table, i64), HashSet<About>>, QueryError> {
    let mut out = HashMap::new();
    let (mut text, mut bytes) = (String::new(), 0);
    for table in Table::ALL {
        let mut seqs: Vec<i64> = wanted.iter().filter(|(of, _)| *of == table).map(|(_, seq)| *seq).collect();
        seqs.sort_unstable();
        for source in sources(snapshot.table(table)) {
            let within = |first: i64, last: i64| {
                let from = seqs.partition_point(|seq| *seq < first);
                seqs.get(from..).unwrap_or_default().iter().take_while(|seq| **seq <= last).count() + from
            };
            let range = match &source {
                Source::File(file) => {
                    let (first, last) = (*file.meta().seq.start(), *file.meta().seq.end());
                    let from = seqs.partition_point(|seq| *seq < first);
                    match seqs.get(from..within(first, last)).unwrap_or_default() {
                        [] => continue,
                        [one] => Some(*one..=*one),
                        [low, .., high] => Some(*low..=*high),
                    }
                }
                Source::Memory { .. } => None,
            };
            for batch in source.scan(None, &Prune { seq: range, ..Prune::default() })? {
                guard.check()?;
                let batch = batch?;
                let seq = Batch::new(&batch).int("seq");
                let rows = RowWriter::new(table, &batch);
                for row in 0..batch.num_rows() {
                    let Some(place) = seq.get(row).map(|seq| (table, seq)) else { continue };
                    if wanted.contains(&place) {
                        text.clear();
                        rows.row(row, &mut text);
                        let fields = fields(&text);
                        let own = |(field, value): &About| size_of::<About>() + field.len() + value.len();
                        bytes += fields.iter().map(own).sum::<usize>();
                        if bytes > guard.memory_bytes_max {
                            return Err(QueryError::TooExpensive(
                                "the evidence of noisy rules is too much: narrow the time range, or the rules"
                                    .to_owned(),
                            ));
                        }
                        out.insert(place, fields);
                    }
                }
            }
        }
    }
    Ok(out)
}

/// Fields of a record, as rules name them.
fn fields(record: &str) -> HashSet<About> {
    let record: Map<String, Value> = serde_json::from_str(record).unwrap_or_default();
    let mut out = HashSet::new();
    let mut add = |field: &str, value: &Value| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            _ => return,
        };
        // What nobody could except by need not be known.
        if value.len() <= VALUE_BYTES_MAX {
            out.insert((field.to_owned(), value));
        }
    };
    for (member, field) in [
        ("service", "service.name"),
        ("instance", "service.instance.id"),
        ("event", "event_name"),
        ("name", "name"),
    ] {
        if let Some(value) = record.get(member) {
            add(field, value);
        }
    }
    let resource = record.get("resource").and_then(|resource| resource.get("attributes"));
    for attributes in [record.get("attributes"), resource].into_iter().flatten() {
        for (field, value) in attributes.as_object().into_iter().flatten() {
            add(field, value);
        }
    }
    out
}

/// The rules of a back-test again, with exceptions.
pub(crate) fn compiler(text: Arc<str>) -> impl FnOnce(Vec<(String, Exception)>) -> Loaded {
    move |exceptions| super::compile_with(&[("rules".to_owned(), text.to_string().into())], exceptions)
}
