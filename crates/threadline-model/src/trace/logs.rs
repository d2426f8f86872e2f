//! Logs at their place.

use std::collections::BinaryHeap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Log, Node, Placement, Presence, Process};

/// Sets adjusted times, and finds a place for logs that name no span: the innermost span of their process (of their
/// service, when no span of their process is there) that was running at their time.
pub(super) fn place(logs: &mut [Log], nodes: &[Node], processes: &[Process]) {
    let spans = Spans::new(nodes);
    for log in logs.iter_mut() {
        let named = log.node.and_then(|index| nodes.get(index));
        // A log that names a span of its service without its own instance was written by that span's process.
        let process = match named {
            Some(node) if node.span.service == log.record.service && log.record.instance.is_empty() => {
                node.process
            }
            _ => log.process,
        };
        let offset = processes.get(process).map_or(0, |process| process.offset_ns);
        log.time_ns = match named {
            Some(node) if !log.record.time_known => node.start_ns,
            _ => log.record.time_ns.saturating_add(offset),
        };
    }
    let mut groups: FxHashMap<Group, Vec<usize>> = FxHashMap::default();
    for (at, log) in logs.iter().enumerate() {
        if log.node.is_none() && log.record.time_known {
            groups.entry(spans.group(log)).or_default().push(at);
        }
    }
    for (group, mut members) in groups {
        let Some(running) = spans.of(&group) else { continue };
        members.sort_by_key(|&at| logs.get(at).map(|log| log.time_ns));
        sweep(&members, running, logs, nodes);
    }
}

/// Whose spans a log may belong to.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Group {
    Process(usize),
    Service(Arc<str>),
}

/// Received spans by process and by service, by start.
struct Spans {
    groups: FxHashMap<Group, Vec<usize>>,
}

impl Spans {
    fn new(nodes: &[Node]) -> Self {
        let mut groups: FxHashMap<Group, Vec<usize>> = FxHashMap::default();
        for (index, node) in nodes.iter().enumerate() {
            if node.presence == Presence::Received && !node.span.service.is_empty() {
                groups.entry(Group::Process(node.process)).or_default().push(index);
                groups.entry(Group::Service(Arc::clone(&node.span.service))).or_default().push(index);
            }
        }
        for members in groups.values_mut() {
            members.sort_by_key(|&index| nodes.get(index).map(|node| (node.start_ns, node.depth)));
        }
        Self { groups }
    }

    fn group(&self, log: &Log) -> Group {
        let process = Group::Process(log.process);
        if self.groups.contains_key(&process) {
            process
        } else {
            Group::Service(Arc::clone(&log.record.service))
        }
    }

    fn of(&self, group: &Group) -> Option<&[usize]> {
        self.groups.get(group).map(Vec::as_slice)
    }
}

/// Walks logs and spans in order of time. The running span that started last is the innermost.
fn sweep(members: &[usize], spans: &[usize], logs: &mut [Log], nodes: &[Node]) {
    let mut next = spans.iter().copied().peekable();
    let mut running: BinaryHeap<(i64, usize, usize)> = BinaryHeap::new();
    for &at in members {
        let Some(log) = logs.get_mut(at) else { continue };
        while let Some(index) =
            next.next_if(|&index| nodes.get(index).is_some_and(|n| n.start_ns <= log.time_ns))
        {
            if let Some(node) = nodes.get(index) {
                running.push((node.start_ns, node.depth, index));
            }
        }
        // A span that ended before this log ended before all that follow.
        while running
            .peek()
            .and_then(|&(_, _, index)| nodes.get(index))
            .is_some_and(|node| node.end_ns() < log.time_ns)
        {
            running.pop();
        }
        if let Some(&(_, _, index)) = running.peek() {
            log.node = Some(index);
            log.placement = Placement::Time;
        }
    }
}

/// Sorts logs by time and names them at their nodes. Logs without any time stand first.
pub(super) fn attach(logs: &mut [Log], nodes: &mut [Node]) {
    let start = nodes.iter().map(|node| node.start_ns).min();
    for log in logs.iter_mut().filter(|log| !log.record.time_known) {
        let node = log.node.and_then(|index| nodes.get(index)).map(|node| node.start_ns);
        log.time_ns = node.or(start).unwrap_or(log.time_ns);
    }
    logs.sort_by_key(|log| log.time_ns);
    for (at, log) in logs.iter().enumerate() {
        if let Some(node) = log.node.and_then(|index| nodes.get_mut(index)) {
            node.logs.push(at);
        }
    }
}
