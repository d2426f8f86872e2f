//! The tree: who is whose parent, placeholders for ids without a span, circles cut, times adjusted, order.

use std::cmp::Reverse;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::build::{Processes, node};
use super::{Gaps, KIND_CLIENT, KIND_SERVER, Log, Node, NodeNote, Placement, Presence, Process, SpanRecord};
use crate::id::SpanId;

/// Links nodes to their parents and logs to the nodes they name, adding placeholders for ids without a span.
pub(super) fn link(nodes: &mut Vec<Node>, logs: &mut [Log], processes: &mut Processes, gaps: &mut Gaps) {
    let mut index = Index::new(nodes, gaps);
    for child in 0..nodes.len() {
        let Some(span) = nodes.get(child).map(|node| &node.span) else { continue };
        let parent = match index.shared_with(child, nodes) {
            Some(client) => Some(client),
            None => match span.parent_span_id {
                None => None,
                Some(id) if id == span.span_id => {
                    note(nodes, child, NodeNote::SelfParent);
                    None
                }
                Some(id) => {
                    let service = Arc::clone(&span.service);
                    Some(index.find(id, &service).unwrap_or_else(|| {
                        let placeholder = add_placeholder(nodes, id, Presence::Missing, None, processes);
                        gaps.missing_parents.push(placeholder);
                        index.add(id, placeholder, nodes);
                        placeholder
                    }))
                }
            },
        };
        if let Some(child) = nodes.get_mut(child) {
            child.parent = parent;
        }
    }
    for log in logs.iter_mut() {
        let Some(id) = log.record.span_id else { continue };
        let found = index.find(id, &log.record.service).unwrap_or_else(|| {
            let placeholder = add_placeholder(nodes, id, Presence::FromLogs, Some(log), processes);
            gaps.missing_logged.push(placeholder);
            index.add(id, placeholder, nodes);
            placeholder
        });
        name_placeholder(nodes, found, log, processes);
        log.node = Some(found);
        log.placement = Placement::SpanId;
    }
    cut_cycles(nodes, gaps);
    for child in 0..nodes.len() {
        if let Some(parent) = nodes.get(child).and_then(|node| node.parent)
            && let Some(parent) = nodes.get_mut(parent)
        {
            parent.children.push(child);
        }
    }
}

fn note(nodes: &mut [Node], index: usize, note: NodeNote) {
    if let Some(node) = nodes.get_mut(index) {
        node.notes.push(note);
    }
}

fn add_placeholder(
    nodes: &mut Vec<Node>,
    id: SpanId,
    presence: Presence,
    log: Option<&Log>,
    processes: &mut Processes,
) -> usize {
    let mut span = SpanRecord::new(id);
    if let Some(log) = log {
        span.service = Arc::clone(&log.record.service);
        span.instance = Arc::clone(&log.record.instance);
    }
    nodes.push(node(span, presence, processes));
    nodes.len() - 1
}

/// A missing span that logs name: they tell its service.
fn name_placeholder(nodes: &mut [Node], index: usize, log: &Log, processes: &mut Processes) {
    if let Some(node) = nodes.get_mut(index)
        && node.presence == Presence::Missing
        && node.span.service.is_empty()
    {
        node.span.service = Arc::clone(&log.record.service);
        node.span.instance = Arc::clone(&log.record.instance);
        node.process = processes.index(&node.span.service, &node.span.instance);
    }
}

/// Nodes by span id.
struct Index {
    first: FxHashMap<SpanId, usize>,
    /// Only for ids that several spans have.
    by_service: FxHashMap<(SpanId, Arc<str>), usize>,
    client: FxHashMap<SpanId, usize>,
}

impl Index {
    fn new(nodes: &mut [Node], gaps: &mut Gaps) -> Self {
        let mut index = Self {
            first: FxHashMap::default(),
            by_service: FxHashMap::default(),
            client: FxHashMap::default(),
        };
        let mut duplicates = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let id = node.span.span_id;
            if let Some(&first) = index.first.get(&id) {
                duplicates.push(at);
                for at in [first, at] {
                    let Some(node) = nodes.get(at) else { continue };
                    index.by_service.entry((id, Arc::clone(&node.span.service))).or_insert(at);
                    if node.span.kind == KIND_CLIENT {
                        index.client.entry(id).or_insert(at);
                    }
                }
            } else {
                index.first.insert(id, at);
            }
        }
        for at in duplicates {
            // One id for both ends of a call is Zipkin's way, not a fault.
            if index.shared_with(at, nodes).is_none() {
                gaps.duplicate_ids += 1;
                note(nodes, at, NodeNote::DuplicateId);
            }
        }
        index
    }

    /// The client span of a server span that has the same id.
    fn shared_with(&self, at: usize, nodes: &[Node]) -> Option<usize> {
        let node = nodes.get(at)?;
        let client = *self.client.get(&node.span.span_id)?;
        let other = nodes.get(client)?;
        (client != at && node.span.kind == KIND_SERVER && other.span.service != node.span.service)
            .then_some(client)
    }

    /// The node of an id; of several the one of the service.
    fn find(&self, id: SpanId, service: &Arc<str>) -> Option<usize> {
        self.by_service.get(&(id, Arc::clone(service))).or_else(|| self.first.get(&id)).copied()
    }

    fn add(&mut self, id: SpanId, at: usize, _nodes: &[Node]) {
        self.first.entry(id).or_insert(at);
    }
}

/// Cuts every circle of parents at its earliest node, which becomes a root.
fn cut_cycles(nodes: &mut [Node], gaps: &mut Gaps) {
    // 0: not seen; otherwise the walk that saw the node first.
    let mut seen = vec![0usize; nodes.len()];
    for start in 0..nodes.len() {
        let walk = start + 1;
        let mut at = Some(start);
        while let Some(here) = at {
            match seen.get(here).copied() {
                Some(0) => {}
                Some(earlier) if earlier == walk => {
                    let cut = earliest_in_cycle(nodes, here);
                    if let Some(node) = nodes.get_mut(cut) {
                        node.parent = None;
                        node.notes.push(NodeNote::CycleCut);
                    }
                    gaps.cycles += 1;
                    break;
                }
                _ => break,
            }
            if let Some(slot) = seen.get_mut(here) {
                *slot = walk;
            }
            at = nodes.get(here).and_then(|node| node.parent);
        }
    }
}

fn earliest_in_cycle(nodes: &[Node], entry: usize) -> usize {
    let mut best = entry;
    let mut at = nodes.get(entry).and_then(|node| node.parent);
    while let Some(here) = at.filter(|&here| here != entry) {
        let start = |index: usize| nodes.get(index).map(|node| (node.start_ns, index));
        if start(here) < start(best) {
            best = here;
        }
        at = nodes.get(here).and_then(|node| node.parent);
    }
    best
}

/// Nodes without parent.
pub(super) fn roots(nodes: &[Node]) -> Vec<usize> {
    nodes.iter().enumerate().filter(|(_, node)| node.parent.is_none()).map(|(index, _)| index).collect()
}

/// Parents before children.
pub(super) fn preorder(nodes: &[Node], roots: &[usize]) -> Vec<usize> {
    let mut order = Vec::with_capacity(nodes.len());
    let mut stack: Vec<usize> = roots.iter().rev().copied().collect();
    while let Some(index) = stack.pop() {
        order.push(index);
        if let Some(node) = nodes.get(index) {
            stack.extend(node.children.iter().rev());
        }
    }
    order
}

/// Sets starts to adjusted ones. A span without a sane start begins with its parent, or with the trace.
pub(super) fn adjust_times(nodes: &mut [Node], roots: &[usize], processes: &[Process]) {
    let known = |node: &Node| node.presence == Presence::Received && node.span.time_known;
    for node in nodes.iter_mut() {
        let offset = processes.get(node.process).map_or(0, |process| process.offset_ns);
        node.start_ns = node.span.start_ns.saturating_add(offset);
    }
    let earliest = nodes.iter().filter(|node| known(node)).map(|node| node.start_ns).min();
    for index in preorder(nodes, roots) {
        let parent = nodes.get(index).and_then(|node| node.parent).and_then(|parent| nodes.get(parent));
        let start = parent.filter(|p| p.presence == Presence::Received).map(|p| p.start_ns).or(earliest);
        if let (Some(node), Some(start)) = (nodes.get_mut(index), start)
            && !known(node)
        {
            node.start_ns = start;
        }
    }
}

/// Gives placeholders the time from the first to the last of their children and logs.
pub(super) fn cover_placeholders(nodes: &mut [Node], logs: &[Log]) {
    let mut covers: FxHashMap<usize, (i64, i64)> = FxHashMap::default();
    let mut cover = |index: usize, from: i64, to: i64| {
        let cover = covers.entry(index).or_insert((from, to));
        *cover = (cover.0.min(from), cover.1.max(to));
    };
    let placeholder = |index: usize| nodes.get(index).is_some_and(|node| node.presence != Presence::Received);
    for node in nodes.iter() {
        if let Some(parent) = node.parent.filter(|&parent| placeholder(parent)) {
            cover(parent, node.start_ns, node.end_ns());
        }
    }
    for log in logs.iter().filter(|log| log.record.time_known) {
        if let Some(index) = log.node.filter(|&index| placeholder(index)) {
            cover(index, log.time_ns, log.time_ns);
        }
    }
    for (index, (from, to)) in covers {
        if let Some(node) = nodes.get_mut(index) {
            node.start_ns = from;
            node.duration_ns = to.saturating_sub(from);
            node.span.start_ns = from;
            node.span.duration_ns = node.duration_ns;
        }
    }
}

/// Sorts children and roots by start, longer ones first, and sets depths.
pub(super) fn sort(nodes: &mut [Node], roots: &mut [usize]) {
    let keys: Vec<_> = nodes.iter().map(|node| (node.start_ns, Reverse(node.duration_ns))).collect();
    let key = |index: &usize| (keys.get(*index).copied(), *index);
    roots.sort_by_key(key);
    for node in nodes.iter_mut() {
        node.children.sort_by_key(key);
    }
    for index in preorder(nodes, roots) {
        let parent = nodes.get(index).and_then(|node| node.parent).and_then(|parent| nodes.get(parent));
        let depth = parent.map_or(0, |parent| parent.depth + 1);
        if let Some(node) = nodes.get_mut(index) {
            node.depth = depth;
        }
    }
}
