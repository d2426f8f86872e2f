//! What an incident is, with its evidence: one struct, from which the API's JSON, the Markdown report and the OCSF finding
//! are made.

use std::collections::BTreeMap;

use serde::Serialize;
use threadline_detect::incident::{Desk, Incident, State};
use threadline_model::schema::Table;
use threadline_query::lang::{Expr, Field, Number, Op, Test};
use threadline_query::{Guard, QueryError};
use threadline_store::{Scope, Store};

use super::blast::Blast;
use super::book::{Book, Counts, Entry, Fault, Merged};
use super::entity::{self, EntityView, Evidence};
use super::finding::Finding;
use super::ranked;
use crate::rows::time_text;

/// Alerts of an incident that are listed.
const ALERTS_MAX: usize = 1_000;
/// Records and spans that findings rest on, in a timeline.
const RECORDS_MAX: usize = 200;
/// Names in a title.
const TITLE_RULES_MAX: usize = 2;

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
    /// `finding`, `transition`, or what findings rest on: `record` (a log), `span`, `trace`.
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
    /// Findings, transitions and records that were one too many for the timeline.
    pub(crate) timeline_left_out: u64,
    pub(crate) entities: Vec<EntityView>,
    /// A bound was hit: there may be more entities.
    pub(crate) entities_cut: bool,
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
        Some(Taken { incident, merged: Merged::of(desk).parts(id) })
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
        let (entries, counts) = book
            .timeline(incident.id, &merged)
            .map_err(|error: Fault| QueryError::Internal(format!("the book of incidents: {error}")))?;
        let findings: Vec<&Finding> = entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Finding(finding) => Some(finding),
                Entry::Transition(_) => None,
            })
            .collect();
        let snapshot = store.snapshot_of(Scope::All);
        let evidence = Evidence::read(&findings, &snapshot, guard)?;
        let (entities, entities_cut) = entity::entities(&findings, &evidence);
        let entities_cut = entities_cut || evidence.cut;
        let blast_radius = Blast::of(&findings, &evidence, &snapshot, guard)?;
        let kept = counts.findings_kept + counts.transitions_kept;
        let (records, left_out) = evidence.shown(&findings, RECORDS_MAX);
        let mut timeline: Vec<Item> = entries.iter().map(|entry| Item::of(entry, &evidence)).collect();
        timeline.extend(records.into_iter().map(|(table, seq, record)| {
            let (kind, name) = match table {
                Table::Logs => ("record", "logs"),
                Table::Spans => ("span", "spans"),
            };
            let query = Query { table: name, query: of_seqs(&[seq], record.quarantined) };
            Item::evidence(kind, record.ts_us, record.text.clone(), query)
        }));
        timeline.extend(blast_radius.seen.iter().map(|seen| {
            let query = Query { table: "spans", query: Expr::trace(&seen.id.to_string()).to_string() };
            Item::evidence("trace", seen.start_us, seen.text.clone(), query)
        }));
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
            timeline_left_out: (counts.findings + counts.transitions).saturating_sub(kept) + left_out,
            entities,
            entities_cut,
            blast_radius,
            generated: time_text(now_us),
        })
    }
}

impl Item {
    /// Something that findings rest on.
    fn evidence(kind: &'static str, time_us: i64, text: String, query: Query) -> Item {
        Item {
            time: time_text(time_us),
            time_us,
            kind,
            text,
            actor: String::new(),
            action: String::new(),
            finding: None,
            queries: vec![query],
        }
    }

    fn of(entry: &Entry, evidence: &Evidence) -> Item {
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
                queries: queries(finding, evidence.is_quarantined(finding)),
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

/// The search for records by their numbers.
fn of_seqs(seqs: &[i64], quarantined: bool) -> String {
    let is = |seq: &i64| Expr::Is(Field::Seq, Test::Number(Op::Eq, Number::Int(*seq)));
    let found = Expr::or(seqs.iter().map(is).collect()).to_string();
    if quarantined { format!("({found}) (is:quarantined OR -is:quarantined)") } else { found }
}

/// Searches that find what a finding rests on, and its own record.
fn queries(finding: &Finding, quarantined: bool) -> Vec<Query> {
    let mut queries = vec![Query { table: "logs", query: of_seqs(&[finding.seq], false) }];
    for (table, seqs) in [("logs", &finding.log_seqs), ("spans", &finding.span_seqs)] {
        if !seqs.is_empty() {
            queries.push(Query { table, query: of_seqs(seqs, quarantined) });
        }
    }
    if !finding.trace_ids.is_empty() {
        let traces = finding.trace_ids.iter().map(|id| Expr::trace(id)).collect();
        queries.push(Query { table: "spans", query: Expr::or(traces).to_string() });
    }
    queries
}
