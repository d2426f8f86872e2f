//! The blast radius of an incident: which services and operations the offender's traces touched, and by which calls.
//!
//! The *offender's traces* are those that findings name, and those that their evidence is part of; all of a trace counts,
//! whenever its spans began. In a trace, the *offender's spans* are those that are evidence, those whose logs are, and
//! those that carry a source address or a principal that the findings name; where there is none, the spans without a
//! parent: there the request came in. Whatever these have started, over however many spans from parent to child, lies
//! *below* the offender; a call from a service to another is one of these steps between two services. What else is in the
//! traces was touched, too: the callers of the offender's spans, and what they called beside.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde::Serialize;
use threadline_model::columns::Batch;
use threadline_model::id::{SpanId, TraceId};
use threadline_model::trace::Outcomes;
use threadline_query::{Guard, QueryError, traces};
use threadline_store::Snapshot;

use super::entity::{ACTORS, Evidence};
use super::finding::Finding;
use crate::rows::time_text;

/// Traces, and spans of them, that the blast radius is made of.
const TRACES_MAX: usize = 100;
const SPANS_MAX: u64 = 10_000;

/// Spans of an operation, or of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Reached {
    pub(crate) name: String,
    pub(crate) spans: u64,
    /// Those that failed: status error, or HTTP status 500 and above.
    pub(crate) errors: u64,
}

/// A service that the offender's traces touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ReachedService {
    #[serde(flatten)]
    pub(crate) reached: Reached,
    /// Calls between services from the offender's spans down to it, at least; `None`: it is in the traces, and not below.
    pub(crate) hops: Option<u32>,
    /// Start of its first span and end of its last.
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    pub(crate) operations: Vec<Reached>,
}

/// Calls of a service by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Call {
    pub(crate) caller: String,
    pub(crate) callee: String,
    pub(crate) calls: u64,
    pub(crate) errors: u64,
}

/// What the offender's traces touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Blast {
    /// The offender's traces, and those of them that were looked at.
    pub(crate) traces: u64,
    pub(crate) traces_read: u64,
    pub(crate) spans: u64,
    /// A bound was hit: there may be more.
    pub(crate) cut: bool,
    /// Below the offender first, by hops, then by spans.
    pub(crate) services: Vec<ReachedService>,
    pub(crate) calls: Vec<Call>,
    /// The traces that were looked at.
    #[serde(skip)]
    pub(crate) seen: Vec<TraceSeen>,
}

/// A trace in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceSeen {
    pub(crate) id: TraceId,
    /// Start of its first span, µs.
    pub(crate) start_us: i64,
    pub(crate) text: String,
}

/// A span of a trace.
struct Span<'a> {
    id: Option<SpanId>,
    parent: Option<SpanId>,
    service: &'a str,
    name: &'a str,
    failed: bool,
    start_us: i64,
    end_us: i64,
    is_offender: bool,
}

#[derive(Default)]
struct Service {
    operations: BTreeMap<String, (u64, u64)>,
    hops: Option<u32>,
    seen_us: Option<(i64, i64)>,
}

#[derive(Default)]
struct Radius {
    services: BTreeMap<String, Service>,
    calls: BTreeMap<(String, String), (u64, u64)>,
}

impl Blast {
    /// Reads the traces, the newest first: what an offender did last is what one acts on.
    ///
    /// # Errors
    /// The store cannot be read, or a bound of the guard.
    pub(super) fn of(
        findings: &[&Finding],
        evidence: &Evidence,
        snapshot: &Snapshot,
        guard: &Guard,
    ) -> Result<Blast, QueryError> {
        let ids = evidence.traces(findings);
        let cut = evidence.cut || ids.len() > TRACES_MAX;
        let mut blast = Blast { traces: ids.len() as u64, cut, ..Blast::default() };
        let own_spans = evidence.spans();
        let named = findings.iter().flat_map(|finding| &finding.entities);
        let actors: BTreeSet<(&str, &str)> = named
            .filter(|(field, _)| ACTORS.contains(&field.as_str()))
            .map(|(field, value)| (field.as_str(), value.as_str()))
            .collect();
        let mut radius = Radius::default();
        for id in ids.into_iter().take(TRACES_MAX) {
            if blast.spans >= SPANS_MAX {
                blast.cut = true;
                break;
            }
            let records = traces::trace(snapshot, id, guard)?;
            blast.traces_read += 1;
            blast.cut |= records.spans_left_out > 0;
            let mut spans = Vec::new();
            for record_batch in &records.spans {
                let room = usize::try_from(SPANS_MAX - blast.spans).unwrap_or(0);
                let batch = Batch::new(record_batch);
                blast.cut |= batch.rows() > room;
                let before = spans.len();
                read(batch, id, &own_spans, &actors, room, &mut spans);
                blast.spans += (spans.len() - before) as u64;
            }
            radius.add(&spans);
            blast.seen.extend(in_one_line(id, &spans));
        }
        radius.finish(&mut blast);
        Ok(blast)
    }
}

fn read<'a>(
    batch: Batch<'a>,
    trace: TraceId,
    own_spans: &BTreeSet<(TraceId, SpanId)>,
    actors: &BTreeSet<(&str, &str)>,
    max: usize,
    spans: &mut Vec<Span<'a>>,
) {
    let (names, services, times) = (batch.str("name"), batch.str("service"), batch.int("ts"));
    let outcomes = Outcomes::new(batch);
    let fields: BTreeSet<&str> = actors.iter().map(|(field, _)| *field).collect();
    for row in 0..batch.rows().min(max) {
        let id = batch.span_id(row);
        let has_actor = || {
            let value = |field: &&str| batch.attribute(field, row);
            fields.iter().any(|field| value(field).is_some_and(|value| actors.contains(&(*field, &*value))))
        };
        let start_us = times.get(row).unwrap_or(0);
        spans.push(Span {
            id,
            parent: batch.parent_span_id(row),
            service: services.get(row).unwrap_or("(none)"),
            name: names.get(row).unwrap_or_default(),
            failed: outcomes.failed(row),
            start_us,
            end_us: start_us.saturating_add(outcomes.duration_ns(row) / 1000),
            is_offender: id.is_some_and(|id| own_spans.contains(&(trace, id))) || has_actor(),
        });
    }
}

/// What a trace is; none where it has no spans.
fn in_one_line(id: TraceId, spans: &[Span<'_>]) -> Option<TraceSeen> {
    let first = spans.iter().min_by_key(|span| (span.parent.is_some(), span.start_us))?;
    let start_us = spans.iter().map(|span| span.start_us).min()?;
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service).collect();
    let failed = spans.iter().filter(|span| span.failed).count();
    let text = format!(
        "trace of {} {}: {} spans of {} services, {failed} failed",
        first.service,
        first.name,
        spans.len(),
        services.len()
    );
    Some(TraceSeen { id, start_us, text })
}

/// Of each span, how many calls between services lie between it and the offender's spans above it, at least.
fn hops(spans: &[Span<'_>], parents: &[Option<usize>]) -> Vec<Option<u32>> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    for (at, parent) in parents.iter().enumerate() {
        if let Some(children) = parent.and_then(|parent| children.get_mut(parent)) {
            children.push(at);
        }
    }
    let of_offender = || spans.iter().enumerate().filter(|(_, span)| span.is_offender).map(|(at, _)| at);
    let mut starts: VecDeque<usize> = of_offender().collect();
    if starts.is_empty() {
        starts.extend(parents.iter().enumerate().filter(|(_, parent)| parent.is_none()).map(|(at, _)| at));
    }
    let mut hops: Vec<Option<u32>> = vec![None; spans.len()];
    for at in &starts {
        if let Some(hops) = hops.get_mut(*at) {
            *hops = Some(0);
        }
    }
    // A step within a service costs nothing, and goes first.
    while let Some(at) = starts.pop_front() {
        let (Some(span), Some(Some(own))) = (spans.get(at), hops.get(at).copied()) else { continue };
        for child in children.get(at).into_iter().flatten() {
            let Some(other) = spans.get(*child) else { continue };
            let is_call = other.service != span.service;
            let new = own + u32::from(is_call);
            let Some(known) = hops.get_mut(*child).filter(|known| known.is_none_or(|known| new < known)) else {
                continue;
            };
            *known = Some(new);
            match is_call {
                true => starts.push_back(*child),
                false => starts.push_front(*child),
            }
        }
    }
    hops
}

impl Radius {
    /// Takes the spans of a trace.
    fn add(&mut self, spans: &[Span<'_>]) {
        let mut known: HashMap<SpanId, usize> = HashMap::new();
        for (at, span) in spans.iter().enumerate() {
            if let Some(id) = span.id {
                known.entry(id).or_insert(at);
            }
        }
        let parents: Vec<Option<usize>> = spans
            .iter()
            .enumerate()
            .map(|(at, span)| known.get(&span.parent?).copied().filter(|parent| *parent != at))
            .collect();
        for ((span, hops), parent) in spans.iter().zip(hops(spans, &parents)).zip(&parents) {
            let service = self.services.entry(span.service.to_owned()).or_default();
            let operation = service.operations.entry(span.name.to_owned()).or_default();
            *operation = (operation.0 + 1, operation.1 + u64::from(span.failed));
            service.hops = service.hops.into_iter().chain(hops).min();
            let (first, last) = service.seen_us.unwrap_or((span.start_us, span.end_us));
            service.seen_us = Some((first.min(span.start_us), last.max(span.end_us)));
            let caller = parent.and_then(|parent| spans.get(parent)).map(|parent| parent.service);
            if let Some(caller) = caller.filter(|caller| *caller != span.service) {
                let call = self.calls.entry((caller.to_owned(), span.service.to_owned())).or_default();
                *call = (call.0 + 1, call.1 + u64::from(span.failed));
            }
        }
    }

    fn finish(self, blast: &mut Blast) {
        let service = |(name, Service { operations, hops, seen_us }): (String, Service)| {
            let mut operations: Vec<Reached> =
                operations.into_iter().map(|(name, (spans, errors))| Reached { name, spans, errors }).collect();
            operations.sort_by_key(|one| std::cmp::Reverse(one.spans));
            let (spans, errors) =
                operations.iter().fold((0, 0), |sum, one| (sum.0 + one.spans, sum.1 + one.errors));
            let (first_us, last_us) = seen_us.unwrap_or_default();
            ReachedService {
                reached: Reached { name, spans, errors },
                hops,
                first_seen: time_text(first_us),
                last_seen: time_text(last_us),
                operations,
            }
        };
        blast.services = self.services.into_iter().map(service).collect();
        blast.services.sort_by_key(|service| {
            (service.hops.is_none(), service.hops, std::cmp::Reverse(service.reached.spans))
        });
        let calls = self.calls.into_iter();
        blast.calls =
            calls.map(|((caller, callee), (calls, errors))| Call { caller, callee, calls, errors }).collect();
        blast.calls.sort_by_key(|call| std::cmp::Reverse(call.calls));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans of a trace from lines `id parent service operation`, of which `*` before the id says that the offender's it
    /// is, and `!` after the operation that it failed. Each begins a second after the one before, and takes two.
    fn blast(traces: &[&str]) -> Blast {
        let mut radius = Radius::default();
        for text in traces {
            let spans: Vec<Span<'_>> = text
                .split(';')
                .enumerate()
                .map(|(at, line)| {
                    let mut words = line.split_whitespace();
                    let mut word = || words.next().unwrap();
                    let (id, parent, service, name) = (word(), word(), word(), word());
                    let span = |id: &str| Some(SpanId([id.trim_start_matches('*').parse().ok()?; 8]));
                    let start_us = at as i64 * 1_000_000;
                    Span {
                        id: span(id),
                        parent: span(parent),
                        service,
                        name: name.trim_end_matches('!'),
                        failed: name.ends_with('!'),
                        start_us,
                        end_us: start_us + 2_000_000,
                        is_offender: id.starts_with('*'),
                    }
                })
                .collect();
            radius.add(&spans);
        }
        let mut blast = Blast::default();
        radius.finish(&mut blast);
        blast
    }

    fn services(blast: &Blast) -> Vec<(&str, Option<u32>, u64, u64)> {
        let all = blast.services.iter();
        all.map(|one| (one.reached.name.as_str(), one.hops, one.reached.spans, one.reached.errors)).collect()
    }

    fn calls(blast: &Blast) -> Vec<String> {
        let mut calls: Vec<String> = blast
            .calls
            .iter()
            .map(|call| format!("{} → {}: {}, {} failed", call.caller, call.callee, call.calls, call.errors))
            .collect();
        calls.sort();
        calls
    }

    /// The front calls the login, which asks users and then, over two steps, the audit; and the shop beside.
    const TRACE: &str = "1 - front GET; 2 1 front call; *3 2 login check; 4 3 login query; 5 4 users select!; \
                         6 3 mail send; 7 6 audit write; 8 2 shop list!";

    #[test]
    fn below_the_offender_is_what_its_spans_have_started_and_nothing_else() {
        let of = blast(&[TRACE]);
        assert_eq!(
            services(&of),
            [
                ("login", Some(0), 2, 0),
                ("mail", Some(1), 1, 0),
                ("users", Some(1), 1, 1),
                ("audit", Some(2), 1, 0),
                ("front", None, 2, 0),
                ("shop", None, 1, 1),
            ]
        );
        assert_eq!(
            calls(&of),
            [
                "front → login: 1, 0 failed",
                "front → shop: 1, 1 failed",
                "login → mail: 1, 0 failed",
                "login → users: 1, 1 failed",
                "mail → audit: 1, 0 failed",
            ]
        );
        let login = &of.services[0];
        assert_eq!(
            login.operations.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
            ["check", "query"]
        );
        assert_eq!(
            (login.first_seen.as_str(), login.last_seen.as_str()),
            ("1970-01-01T00:00:02.000000Z", "1970-01-01T00:00:05.000000Z")
        );
    }

    #[test]
    fn without_a_span_of_the_offender_all_of_a_trace_is_below_where_it_came_in() {
        let of = blast(&[&TRACE.replace('*', ""), "1 - batch run; 2 1 users select; 3 9 orphan late"]);
        let hops: BTreeMap<&str, Option<u32>> =
            services(&of).into_iter().map(|(name, hops, ..)| (name, hops)).collect();
        let want = [("batch", 0), ("front", 0), ("orphan", 0), ("login", 1), ("shop", 1), ("users", 1)];
        for (name, want) in want.into_iter().chain([("mail", 2), ("audit", 3)]) {
            assert_eq!(hops[name], Some(want), "{name}");
        }
    }

    #[test]
    fn the_least_way_counts_and_a_circle_ends() {
        // From a to d over b and c, and at once.
        let of = blast(&["*1 - a x; 2 1 b x; 3 2 c x; 4 3 d x; 5 1 d x"]);
        assert_eq!(services(&of).iter().find(|one| one.0 == "d").unwrap().1, Some(1));
        // A span that is its own parent, and two that are each other's.
        let of = blast(&["1 1 a x; 2 3 b x; 3 2 b x", "2 3 b x; *3 2 c x"]);
        assert_eq!(services(&of), [("a", Some(0), 1, 0), ("c", Some(0), 1, 0), ("b", Some(1), 3, 0)]);
    }
}
