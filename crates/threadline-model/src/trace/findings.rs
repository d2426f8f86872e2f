//! Errors, likely causes, services' parts and gaps.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    Cause, ErrorKind, Log, Node, NodeNote, Presence, SEVERITY_ERROR, STATUS_ERROR, ServicePart, SpanRecord,
    TraceView,
};
use crate::value;

/// Causes told at most.
const CAUSES_MAX: usize = 100;
/// Characters of a cause's message at most.
const MESSAGE_CHARS_MAX: usize = 500;

/// Fills in errors, causes, services, range and gaps.
pub(super) fn find(view: &mut TraceView) {
    let zero: Vec<bool> = view.nodes.iter().map(|node| is_zero_with_children(view, node)).collect();
    for (node, zero) in view.nodes.iter_mut().zip(zero) {
        if zero {
            node.notes.push(NodeNote::ZeroWithChildren);
        }
        node.error = error_of(node, &view.logs);
    }
    view.range_ns = range(view);
    view.causes = causes(view);
    view.services = services(view);
    gaps(view);
}

fn is_zero_with_children(view: &TraceView, node: &Node) -> bool {
    let took_time = |&child: &usize| view.nodes.get(child).is_some_and(|child| child.duration_ns > 0);
    node.presence == Presence::Received
        && node.duration_ns == 0
        && !node.notes.contains(&NodeNote::NoEnd)
        && node.children.iter().any(took_time)
}

/// Whether a log tells of a failure.
pub(super) fn is_error_log(log: &Log) -> bool {
    log.record.severity_number >= SEVERITY_ERROR
}

fn error_of(node: &Node, logs: &[Log]) -> Option<ErrorKind> {
    let span = &node.span;
    if span.status_code == STATUS_ERROR {
        return Some(ErrorKind::Status);
    }
    if http_status(span).is_some_and(|status| status >= 500.0) || span.attribute("error.type").is_some() {
        return Some(ErrorKind::Attribute);
    }
    if span.events.iter().any(|event| event.name == "exception") {
        return Some(ErrorKind::Exception);
    }
    first_error_log(node, logs).map(|_| ErrorKind::Log)
}

fn http_status(span: &SpanRecord) -> Option<f64> {
    ["http.response.status_code", "http.status_code"]
        .into_iter()
        .find_map(|key| span.attribute(key))
        .and_then(|text| text.parse().ok())
}

fn first_error_log(node: &Node, logs: &[Log]) -> Option<usize> {
    node.logs.iter().copied().find(|&at| logs.get(at).is_some_and(is_error_log))
}

fn range(view: &TraceView) -> Option<(i64, i64)> {
    let spans = view
        .nodes
        .iter()
        .filter(|node| node.presence == Presence::Received && node.span.time_known)
        .map(|node| (node.start_ns, node.end_ns()));
    let logs = view.logs.iter().filter(|log| log.record.time_known).map(|log| (log.time_ns, log.time_ns));
    let cover = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
    // Without any sane time the arrival times stand in.
    let any = view.nodes.iter().map(|node| (node.start_ns, node.end_ns()));
    let any = any.chain(view.logs.iter().map(|log| (log.time_ns, log.time_ns)));
    spans.chain(logs).reduce(cover).or_else(|| any.reduce(cover))
}

/// Failures without a failure below them, likely ones first, then by time. A *hard* failure is one by status or
/// attribute, which callers see; exceptions and error logs may have been handled. Most likely are hard failures and
/// what lies below a hard failure that no other hard one explains; then the rest below hard ones; then the rest.
fn causes(view: &TraceView) -> Vec<Cause> {
    let order = view.preorder();
    let is_hard = |node: &Node| matches!(node.error, Some(ErrorKind::Status | ErrorKind::Attribute));
    let fails_below = any_below(view, &order, &|node| node.error.is_some());
    let hard_below = any_below(view, &order, &is_hard);
    let mut nearest_hard: Vec<Option<usize>> = vec![None; view.nodes.len()];
    let mut causes = Vec::new();
    for &index in &order {
        let Some(node) = view.nodes.get(index) else { continue };
        let above = node.parent.and_then(|parent| nearest_hard.get(parent).copied().flatten());
        let nearest = if is_hard(node) { Some(index) } else { above };
        if let Some(slot) = nearest_hard.get_mut(index) {
            *slot = nearest;
        }
        if node.error.is_some() && !at(&fails_below, index) {
            let rank = nearest.map_or(2, |hard| u8::from(at(&hard_below, hard)));
            causes.push((rank, cause(view, index, node)));
        }
    }
    for (at, log) in view.logs.iter().enumerate().filter(|(_, log)| log.node.is_none() && is_error_log(log)) {
        let message = first_line(&log.record.body);
        causes.push((2, Cause { node: None, log: Some(at), time_ns: log.time_ns, message }));
    }
    causes.sort_by_key(|(rank, cause)| (*rank, cause.time_ns));
    causes.into_iter().map(|(_, cause)| cause).take(CAUSES_MAX).collect()
}

fn at(flags: &[bool], index: usize) -> bool {
    flags.get(index).copied().unwrap_or(false)
}

/// For each node whether any node below it has the property.
fn any_below(view: &TraceView, preorder: &[usize], has: &dyn Fn(&Node) -> bool) -> Vec<bool> {
    let mut below = vec![false; view.nodes.len()];
    for &index in preorder.iter().rev() {
        let Some(node) = view.nodes.get(index) else { continue };
        let here = has(node) || at(&below, index);
        if let Some(parent) = node.parent.and_then(|parent| below.get_mut(parent)) {
            *parent |= here;
        }
    }
    below
}

fn cause(view: &TraceView, index: usize, node: &Node) -> Cause {
    let log = first_error_log(node, &view.logs);
    let record = log.and_then(|at| view.logs.get(at));
    let exception = node.span.events.iter().find(|event| event.name == "exception");
    let message = exception
        .map(|event| exception_text(&event.attributes))
        .or_else(|| Some(node.span.status_message.clone()))
        .filter(|text| !text.is_empty())
        .or_else(|| record.map(|log| log.record.body.clone()))
        .or_else(|| attribute_text(&node.span))
        .unwrap_or_default();
    let offset_ns = view.processes.get(node.process).map_or(0, |process| process.offset_ns);
    let time_ns = match (node.error, exception, record) {
        (_, Some(event), _) => event.time_ns.saturating_add(offset_ns),
        (_, _, Some(log)) => log.time_ns,
        _ => node.end_ns(),
    };
    Cause { node: Some(index), log, time_ns, message: first_line(&message) }
}

fn attribute_text(span: &SpanRecord) -> Option<String> {
    let key = ["error.type", "http.response.status_code", "http.status_code"]
        .into_iter()
        .find(|key| span.attribute(key).is_some())?;
    Some(format!("{key} = {}", span.attribute(key).unwrap_or_default()))
}

fn exception_text(attributes: &[super::Attribute]) -> String {
    let text = |key: &str| attributes.iter().find(|a| a.key == key).map(|a| value::display(&a.json));
    match (text("exception.type"), text("exception.message")) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (one, other) => one.or(other).map(Cow::into_owned).unwrap_or_default(),
    }
}

fn first_line(text: &str) -> String {
    text.trim_start().lines().next().unwrap_or_default().chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Services by their share of the critical path, then by first appearance.
fn services(view: &TraceView) -> Vec<ServicePart> {
    let mut parts: FxHashMap<Arc<str>, ServicePart> = FxHashMap::default();
    let mut part = |service: &Arc<str>, seen: Option<(i64, i64)>, add: &dyn Fn(&mut ServicePart)| {
        let part = parts.entry(Arc::clone(service)).or_insert_with(|| ServicePart {
            service: Arc::clone(service),
            spans: 0,
            logs: 0,
            error_spans: 0,
            error_logs: 0,
            self_ns: 0,
            critical_ns: 0,
            seen_ns: None,
        });
        part.seen_ns = match (part.seen_ns, seen) {
            (Some(old), Some(new)) => Some((old.0.min(new.0), old.1.max(new.1))),
            (old, new) => old.or(new),
        };
        add(part);
    };
    for node in view.nodes.iter().filter(|node| node.presence == Presence::Received) {
        let seen = node.span.time_known.then(|| (node.start_ns, node.end_ns()));
        part(&node.span.service, seen, &|part| {
            part.spans += 1;
            part.error_spans += usize::from(node.error.is_some());
            part.self_ns = part.self_ns.saturating_add(node.self_ns);
            part.critical_ns = part.critical_ns.saturating_add(node.critical_ns);
        });
    }
    for log in &view.logs {
        let seen = log.record.time_known.then_some((log.time_ns, log.time_ns));
        part(&log.record.service, seen, &|part| {
            part.logs += 1;
            part.error_logs += usize::from(is_error_log(log));
        });
    }
    let mut parts: Vec<ServicePart> = parts.into_values().collect();
    parts.sort_by(|a, b| {
        let key = |part: &ServicePart| {
            (Reverse(part.critical_ns), part.seen_ns.map_or(i64::MAX, |seen| seen.0), Arc::clone(&part.service))
        };
        key(a).cmp(&key(b))
    });
    parts
}

fn gaps(view: &mut TraceView) {
    let names = |wanted: &dyn Fn(&ServicePart) -> bool| -> Vec<Arc<str>> {
        view.services.iter().filter(|part| wanted(part)).map(|part| Arc::clone(&part.service)).collect()
    };
    let any_logs = !view.logs.is_empty();
    view.gaps.services_without_spans = names(&|part| part.spans == 0 && !part.service.is_empty());
    // Without any log it goes without saying.
    view.gaps.services_without_logs = if any_logs { names(&|part| part.logs == 0) } else { Vec::new() };
    view.gaps.truncated =
        view.preorder().into_iter().filter(|&index| view.nodes.get(index).is_some_and(is_truncated)).collect();
}

fn is_truncated(node: &Node) -> bool {
    node.notes.iter().any(|note| {
        matches!(
            note,
            NodeNote::NoEnd | NodeNote::TimeUnknown | NodeNote::Dropped(_) | NodeNote::ZeroWithChildren
        )
    })
}
