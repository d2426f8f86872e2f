//! What an incident is, with its evidence: one struct, from which the API's JSON, the Markdown report and the OCSF finding
//! are made.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use threadline_detect::incident::{Desk, Incident, State};
use threadline_model::columns::Batch;
use threadline_model::id::TraceId;
use threadline_query::lang::{Expr, Field, Number, Op, Test};
use threadline_query::{Guard, QueryError, traces};
use threadline_store::Store;

use super::book::{Book, Counts, Entry, Fault};
use super::finding::Finding;
use super::ranked;
use crate::rows::time_text;

/// Alerts of an incident that are listed.
const ALERTS_MAX: usize = 1_000;
/// Traces, and spans of them, that the blast radius is made of.
const TRACES_MAX: usize = 100;
const SPANS_MAX: u64 = 10_000;
/// Names in a title, entities in a report.
const TITLE_RULES_MAX: usize = 2;
const ENTITIES_MAX: usize = 200;
/// What status a span has that failed (OTLP).
const STATUS_ERROR: i64 = 2;

/// An incident in one line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) id: u64,
    pub(crate) title: String,
    pub(crate) state: &'static str,
    pub(crate) severity: String,
    /// Empty: nobody.
    pub(crate) assignee: String,
    pub(crate) services: Vec<String>,
    pub(crate) team: String,
    pub(crate) rules: Vec<String>,
    pub(crate) route: String,
    /// Labels that its alerts share, and that make it one incident.
    pub(crate) group: BTreeMap<String, String>,
    pub(crate) opened: String,
    /// Since when it is in its state.
    pub(crate) since: String,
    /// Event times of the first and the last finding.
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snoozed_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) merged_into: Option<u64>,
    /// Alerts that are told apart, and those of them that are not over.
    pub(crate) alerts: u64,
    pub(crate) active: u64,
    pub(crate) findings: u64,
    /// The same times as numbers.
    #[serde(skip)]
    pub(crate) at: Times,
}

/// Times of an incident, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) opened_us: i64,
    pub(crate) since_us: i64,
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
}

/// A search that finds records: table and text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Query {
    pub(crate) table: &'static str,
    pub(crate) query: String,
}

/// An alert of an incident.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct AlertView {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    pub(crate) count: u64,
    pub(crate) over: bool,
}

/// A note.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NoteView {
    pub(crate) time: String,
    pub(crate) author: String,
    pub(crate) text: String,
}

/// How long it was in a state.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spent {
    pub(crate) state: &'static str,
    pub(crate) seconds: i64,
}

/// Something of the timeline.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Item {
    pub(crate) time: String,
    #[serde(skip)]
    pub(crate) time_us: i64,
    /// `finding` or `transition`.
    pub(crate) kind: &'static str,
    pub(crate) text: String,
    /// Who, of a transition.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) actor: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finding: Option<FindingView>,
    /// Searches that find the records it rests on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) queries: Vec<Query>,
}

/// A finding of the timeline.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FindingView {
    pub(crate) id: String,
    pub(crate) seq: i64,
    pub(crate) rule: String,
    pub(crate) rule_id: String,
    pub(crate) level: String,
    pub(crate) over: bool,
    pub(crate) entities: BTreeMap<String, String>,
    pub(crate) trace_ids: Vec<String>,
}

/// Somebody or something that findings are about.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EntityView {
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) findings: u64,
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    pub(crate) query: Query,
}

/// Spans of an operation, or of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reached {
    pub(crate) name: String,
    pub(crate) spans: u64,
    pub(crate) errors: u64,
}

/// A service that the traces of the findings touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ReachedService {
    #[serde(flatten)]
    pub(crate) reached: Reached,
    pub(crate) operations: Vec<Reached>,
}

/// What the traces of the findings touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Blast {
    /// Traces that findings name, and those of them that were looked at.
    pub(crate) traces: u64,
    pub(crate) traces_read: u64,
    pub(crate) spans: u64,
    /// A bound was hit: there may be more.
    pub(crate) cut: bool,
    pub(crate) services: Vec<ReachedService>,
}

/// An incident with its evidence.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) summary: Summary,
    pub(crate) notes: Vec<NoteView>,
    pub(crate) clock: Vec<Spent>,
    pub(crate) alert_list: Vec<AlertView>,
    /// By time.
    pub(crate) timeline: Vec<Item>,
    /// Findings, and transitions, that were one too many to be kept in the timeline.
    pub(crate) timeline_left_out: u64,
    pub(crate) entities: Vec<EntityView>,
    pub(crate) blast_radius: Blast,
    /// When this was written.
    pub(crate) generated: String,
}

impl Summary {
    pub(crate) fn of(incident: &Incident, counts: &Counts) -> Summary {
        let distinct = |label: &str| {
            let mut values = BTreeMap::new();
            for member in incident.alerts.values() {
                if let Some(value) = member.labels.get(label) {
                    *values.entry(value.to_string()).or_default() += member.count.max(1);
                }
            }
            ranked(values).into_iter().map(|(value, _)| value).collect::<Vec<String>>()
        };
        let (rules, services) = (distinct("rule"), distinct("service"));
        let opened_us = incident.opened_us;
        let first = incident.alerts.values().map(|member| member.first_us).min();
        let last = incident.alerts.values().map(|member| member.last_us).max();
        let at = Times {
            opened_us,
            since_us: incident.since_us,
            first_us: counts.first_us.or(first).unwrap_or(opened_us),
            last_us: counts.last_us.or(last).unwrap_or(opened_us),
        };
        Summary {
            id: incident.id,
            title: title(&rules, &services),
            state: incident.state.name(),
            severity: incident.severity().to_owned(),
            assignee: incident.assignee.to_string(),
            team: distinct("team").join(", "),
            rules,
            services,
            route: incident.route.to_string(),
            group: incident.group.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            opened: time_text(opened_us),
            since: time_text(incident.since_us),
            first_seen: time_text(at.first_us),
            last_seen: time_text(at.last_us),
            snoozed_until: (incident.state == State::Snoozed).then(|| time_text(incident.snoozed_until_us)),
            merged_into: (incident.state == State::Merged).then_some(incident.merged_into),
            alerts: incident.alerts.len() as u64,
            active: incident.active().count() as u64,
            findings: counts.findings,
            at,
        }
    }
}

fn title(rules: &[String], services: &[String]) -> String {
    let some = |names: &[String]| {
        let mut text = names.iter().take(TITLE_RULES_MAX).cloned().collect::<Vec<_>>().join(", ");
        if names.len() > TITLE_RULES_MAX {
            text.push_str(&format!(" and {} more", names.len() - TITLE_RULES_MAX));
        }
        text
    };
    match (rules, services) {
        ([], _) => "Alerts of another system".to_owned(),
        (rules, []) => some(rules),
        (rules, services) => format!("{} at {}", some(rules), some(services)),
    }
}

/// What of an incident is taken while the desk is locked.
pub(crate) struct Taken {
    incident: Incident,
    /// Those that were merged into it, over however many steps.
    merged: Vec<u64>,
}

impl Taken {
    pub(crate) fn of(desk: &Desk, id: u64) -> Option<Taken> {
        let incident = desk.incident(id)?.clone();
        let mut all = BTreeSet::from([id]);
        loop {
            let before = all.len();
            let merged =
                desk.incidents().filter(|one| one.state == State::Merged && all.contains(&one.merged_into));
            let merged: Vec<u64> = merged.map(|one| one.id).collect();
            all.extend(merged);
            if all.len() == before {
                break;
            }
        }
        all.remove(&id);
        Some(Taken { incident, merged: all.into_iter().collect() })
    }
}

impl Report {
    /// Puts the evidence together.
    ///
    /// # Errors
    /// The book or the store cannot be read, or a bound of the guard.
    pub(crate) fn build(
        taken: Taken,
        book: &Book,
        store: &Store,
        now_us: i64,
        guard: &Guard,
    ) -> Result<Report, QueryError> {
        let Taken { incident, merged } = taken;
        let read = |id: u64| {
            book.timeline(id)
                .map_err(|error: Fault| QueryError::Internal(format!("the book of incidents: {error}")))
        };
        let (mut entries, mut counts) = read(incident.id)?;
        for id in merged {
            let (more, other) = read(id)?;
            entries.extend(more);
            counts.add(&other);
        }
        let findings: Vec<&Finding> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Finding(finding) => Some(finding),
                Entry::Transition(_) => None,
            })
            .collect();
        let entities = entities(&findings);
        let blast_radius = blast(&findings, store, guard)?;
        let kept = counts.findings_kept + counts.transitions_kept;
        let mut timeline: Vec<Item> = entries.iter().map(Item::of).collect();
        timeline.sort_by_key(|item| item.time_us);
        let alerts = incident.alerts.values().take(ALERTS_MAX);
        Ok(Report {
            summary: Summary::of(&incident, &counts),
            notes: incident
                .notes
                .iter()
                .map(|note| NoteView {
                    time: time_text(note.at_us),
                    author: note.author.to_string(),
                    text: note.text.to_string(),
                })
                .collect(),
            clock: State::ALL
                .into_iter()
                .map(|state| Spent {
                    state: state.name(),
                    seconds: incident.spent_us(state, now_us) / 1_000_000,
                })
                .filter(|spent| spent.seconds > 0)
                .collect(),
            alert_list: alerts
                .map(|member| AlertView {
                    labels: member.labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect(),
                    first_seen: time_text(member.first_us),
                    last_seen: time_text(member.last_us),
                    count: member.count,
                    over: member.over,
                })
                .collect(),
            timeline,
            timeline_left_out: (counts.findings + counts.transitions).saturating_sub(kept),
            entities,
            blast_radius,
            generated: time_text(now_us),
        })
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.findings += other.findings;
        self.findings_kept += other.findings_kept;
        self.transitions += other.transitions;
        self.transitions_kept += other.transitions_kept;
        self.first_us = self.first_us.into_iter().chain(other.first_us).min();
        self.last_us = self.last_us.max(other.last_us);
    }
}

impl Item {
    fn of(entry: &Entry) -> Item {
        match entry {
            Entry::Finding(finding) => Item {
                time: time_text(finding.time_us),
                time_us: finding.time_us,
                kind: "finding",
                text: if finding.explanation.is_empty() {
                    finding.rule.clone()
                } else {
                    finding.explanation.clone()
                },
                actor: String::new(),
                action: String::new(),
                queries: queries(finding),
                finding: Some(FindingView {
                    id: finding.id.clone(),
                    seq: finding.seq,
                    rule: finding.rule.clone(),
                    rule_id: finding.rule_id.clone(),
                    level: finding.level.clone(),
                    over: finding.over,
                    entities: finding.entities.iter().cloned().collect(),
                    trace_ids: finding.trace_ids.clone(),
                }),
            },
            Entry::Transition(kept) => Item {
                time: time_text(kept.at_us),
                time_us: kept.at_us,
                kind: "transition",
                text: kept.text(),
                actor: kept.actor.clone(),
                action: kept.action.clone(),
                finding: None,
                queries: Vec::new(),
            },
        }
    }
}

/// Searches that find what a finding rests on, and its own record.
fn queries(finding: &Finding) -> Vec<Query> {
    let of_seqs = |seqs: &[i64]| {
        let is = |seq: &i64| Expr::Is(Field::Seq, Test::Number(Op::Eq, Number::Int(*seq)));
        Expr::or(seqs.iter().map(is).collect()).to_string()
    };
    let mut queries = vec![Query { table: "logs", query: of_seqs(&[finding.seq]) }];
    for (table, seqs) in [("logs", &finding.log_seqs), ("spans", &finding.span_seqs)] {
        if !seqs.is_empty() {
            queries.push(Query { table, query: of_seqs(seqs) });
        }
    }
    if !finding.trace_ids.is_empty() {
        let traces = finding.trace_ids.iter().map(|id| Expr::trace(id)).collect();
        queries.push(Query { table: "spans", query: Expr::or(traces).to_string() });
    }
    queries
}

/// The search for what an entity did.
fn entity_query(field: &str, value: &str) -> Query {
    let is = |field: Field| Expr::Is(field, Test::Equals(value.to_owned()));
    let (table, expr) = match field {
        "service.name" | "caller" => ("logs", Expr::service(value)),
        "operation" => ("spans", is(Field::Name)),
        // What a baseline counts has no field of its own.
        "entity" => ("logs", Expr::Is(Field::Body, Test::Phrase(value.to_owned()))),
        field => ("logs", is(Field::parse(field))),
    };
    Query { table, query: expr.to_string() }
}

fn entities(findings: &[&Finding]) -> Vec<EntityView> {
    let mut seen: BTreeMap<(&str, &str), (u64, i64, i64)> = BTreeMap::new();
    for finding in findings {
        for (field, value) in &finding.entities {
            let at = finding.time_us;
            let entry = seen.entry((field, value)).or_insert((0, at, at));
            *entry = (entry.0 + 1, entry.1.min(at), entry.2.max(at));
        }
    }
    let mut all: Vec<EntityView> = seen
        .into_iter()
        .map(|((field, value), (findings, first_us, last_us))| EntityView {
            field: field.to_owned(),
            value: value.to_owned(),
            findings,
            first_seen: time_text(first_us),
            last_seen: time_text(last_us),
            query: entity_query(field, value),
        })
        .collect();
    all.sort_by_key(|entity| std::cmp::Reverse(entity.findings));
    all.truncate(ENTITIES_MAX);
    all
}

/// What the traces of findings touched, within bounds.
fn blast(findings: &[&Finding], store: &Store, guard: &Guard) -> Result<Blast, QueryError> {
    // The newest first: what an attacker did last is what one acts on.
    let mut known = BTreeSet::new();
    let mut ids: Vec<TraceId> = Vec::new();
    for id in findings.iter().rev().flat_map(|finding| &finding.trace_ids) {
        if known.insert(id.as_str()) {
            ids.extend(TraceId::from_hex(id));
        }
    }
    let mut blast = Blast { traces: ids.len() as u64, cut: ids.len() > TRACES_MAX, ..Blast::default() };
    let snapshot = store.snapshot();
    let mut services: BTreeMap<String, BTreeMap<String, (u64, u64)>> = BTreeMap::new();
    for id in ids.into_iter().take(TRACES_MAX) {
        if blast.spans >= SPANS_MAX {
            blast.cut = true;
            break;
        }
        let records = traces::trace(&snapshot, id, guard)?;
        blast.traces_read += 1;
        blast.cut |= records.spans_left_out > 0;
        for batch in &records.spans {
            let columns = Batch::new(batch);
            let (names, of, status) = (columns.str("name"), columns.str("service"), columns.int("status_code"));
            for row in 0..batch.num_rows() {
                if blast.spans >= SPANS_MAX {
                    blast.cut = true;
                    break;
                }
                blast.spans += 1;
                let service = services.entry(of.get(row).unwrap_or("(none)").to_owned()).or_default();
                let operation = service.entry(names.get(row).unwrap_or_default().to_owned()).or_default();
                operation.0 += 1;
                operation.1 += u64::from(status.get(row) == Some(STATUS_ERROR));
            }
        }
    }
    blast.services = services
        .into_iter()
        .map(|(name, operations)| {
            let mut operations: Vec<Reached> =
                operations.into_iter().map(|(name, (spans, errors))| Reached { name, spans, errors }).collect();
            operations.sort_by_key(|one| std::cmp::Reverse(one.spans));
            let (spans, errors) =
                operations.iter().fold((0, 0), |sum, one| (sum.0 + one.spans, sum.1 + one.errors));
            ReachedService { reached: Reached { name, spans, errors }, operations }
        })
        .collect();
    blast.services.sort_by_key(|service| std::cmp::Reverse(service.reached.spans));
    Ok(blast)
}
