//! What the end-to-end time is made of: main root, detached children, self times, critical path.
//!
//! The critical path is walked from the main root's end backwards: of the children that the parent waited for, the
//! last to finish was waited for last; before it started, the parent worked itself or waited for the child that had
//! finished last by then; and so on, and the same within each such child. Children that overlap a later one already
//! on the path ran beside it and are passed over, as are detached ones.

use super::{KIND_CONSUMER, KIND_PRODUCER, Node, Presence, Segment, TraceView, tolerance_ns};

/// The node whose duration is the end-to-end time: the earliest root that names no parent, else the earliest root. A
/// missing parent with one child only is most often a caller that sends nothing here: then it is that child.
pub(super) fn main_root(nodes: &[Node], roots: &[usize]) -> Option<usize> {
    let is_origin = |&&root: &&usize| {
        nodes.get(root).is_some_and(|n| {
            n.presence == Presence::Received && n.span.time_known && n.span.parent_span_id.is_none()
        })
    };
    let received_below = |&&root: &&usize| {
        nodes.get(root).is_some_and(|n| n.presence == Presence::Received || !n.children.is_empty())
    };
    // Roots are sorted by start.
    let root = roots
        .iter()
        .find(is_origin)
        .or_else(|| roots.iter().find(received_below))
        .or_else(|| roots.first())
        .copied()?;
    let node = nodes.get(root)?;
    match (node.presence, node.children.as_slice()) {
        (Presence::Missing, [only]) => Some(*only),
        _ => Some(root),
    }
}

/// Marks detached nodes and measures self times and the critical path.
pub(super) fn measure(view: &mut TraceView) {
    let detached: Vec<bool> = view
        .nodes
        .iter()
        .map(|child| {
            let parent = child.parent.and_then(|parent| view.nodes.get(parent));
            parent.is_some_and(|parent| is_detached(parent, child))
        })
        .collect();
    for (node, detached) in view.nodes.iter_mut().zip(detached) {
        node.detached = detached;
    }
    let self_ns: Vec<i64> = view.nodes.iter().map(|node| self_time(&view.nodes, node)).collect();
    for (node, self_ns) in view.nodes.iter_mut().zip(self_ns) {
        node.self_ns = self_ns;
    }
    if let Some(root) = view.main_root {
        view.critical_path = critical_path(&view.nodes, root);
    }
    for segment in &view.critical_path {
        if let Some(node) = view.nodes.get_mut(segment.node) {
            let spent = segment.end_ns.saturating_sub(segment.start_ns);
            node.critical_ns = node.critical_ns.saturating_add(spent);
        }
    }
}

/// A parent does not wait for what begins after its own end, nor for what outlives it. A span of another process may
/// outlive its caller though it was waited for, when the caller gave up: it is detached only if it took a message.
fn is_detached(parent: &Node, child: &Node) -> bool {
    if parent.presence != Presence::Received {
        return false;
    }
    let late_ns = child.end_ns().saturating_sub(parent.end_ns());
    let message = child.span.kind == KIND_CONSUMER || parent.span.kind == KIND_PRODUCER;
    let begins_after = child.start_ns >= parent.end_ns() && late_ns > 0;
    let outlives = late_ns > tolerance_ns(parent.duration_ns) && parent.process == child.process;
    begins_after || outlives || (message && late_ns > 0)
}

fn awaited<'a>(nodes: &'a [Node], node: &'a Node) -> impl Iterator<Item = (usize, &'a Node)> {
    node.children
        .iter()
        .filter_map(|&index| Some((index, nodes.get(index)?)))
        .filter(|(_, child)| !child.detached)
}

/// Duration less the time in which awaited children ran.
fn self_time(nodes: &[Node], node: &Node) -> i64 {
    let mut covered_to = node.start_ns;
    let mut covered = 0i64;
    for (_, child) in awaited(nodes, node) {
        let from = child.start_ns.max(covered_to);
        let to = child.end_ns().min(node.end_ns());
        if to > from {
            covered = covered.saturating_add(to.saturating_sub(from));
            covered_to = to;
        }
    }
    node.end_ns().saturating_sub(node.start_ns).saturating_sub(covered)
}

fn critical_path(nodes: &[Node], root: usize) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut windows: Vec<(usize, i64, i64)> = Vec::new();
    if let Some(node) = nodes.get(root) {
        windows.push((root, node.start_ns, node.end_ns()));
    }
    while let Some((index, from, to)) = windows.pop() {
        let Some(node) = nodes.get(index) else { continue };
        let mut own = |start_ns: i64, end_ns: i64| {
            if end_ns > start_ns {
                segments.push(Segment { node: index, start_ns, end_ns });
            }
        };
        let mut children: Vec<(usize, &Node)> = awaited(nodes, node).collect();
        children.sort_by_key(|(index, child)| (std::cmp::Reverse(child.end_ns()), *index));
        let mut cursor = to;
        for (child_index, child) in children {
            let overlap = child.end_ns().saturating_sub(cursor);
            if cursor < to && overlap > tolerance_ns(child.duration_ns) {
                continue;
            }
            let (start, end) = (child.start_ns.max(from), child.end_ns().min(cursor));
            if end > start {
                own(end, cursor);
                windows.push((child_index, start, end));
                cursor = start;
            }
        }
        own(from, cursor);
    }
    segments.sort_by_key(|segment| segment.start_ns);
    segments
}
