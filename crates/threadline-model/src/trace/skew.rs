//! How far the clocks of processes differ, as their calls show.
//!
//! A call that its caller waits for starts after the caller's span starts and ends before it ends. Each call from
//! process A to process B so bounds the offset of B's clock: `lo = start(A) - start(B)`, `hi = end(A) - end(B)`. The
//! calls between two processes together leave an interval. When 0 lies in it, the clocks agree as far as anyone can
//! tell and nothing is changed. Otherwise the offset is taken from the interval: half way, as the way there and the
//! way back are taken to be alike (Jaeger's clock-skew adjuster does so for one call), but at most [`INWARD_MAX_NS`]
//! from the nearest bound, because a caller may do other work beside the call.
//!
//! A clock belongs to a process, so each process gets one offset, in order of the tree.

use rustc_hash::FxHashMap;

use super::{
    KIND_CLIENT, KIND_CONSUMER, KIND_PRODUCER, KIND_SERVER, Node, Presence, Process, Skew, tolerance_ns,
};

/// How far beyond the nearest fitting offset the estimate may lie: 5 ms.
const INWARD_MAX_NS: i64 = 5_000_000;

/// Bounds of an offset; open ends are `None`.
#[derive(Clone, Copy, Default)]
struct Bounds {
    lo: Option<i64>,
    hi: Option<i64>,
}

impl Bounds {
    fn at_least(&mut self, lo: i64) {
        self.lo = Some(self.lo.map_or(lo, |old| old.max(lo)));
    }

    fn at_most(&mut self, hi: i64) {
        self.hi = Some(self.hi.map_or(hi, |old| old.min(hi)));
    }

    fn and(mut self, other: Bounds) -> Bounds {
        other.lo.into_iter().for_each(|lo| self.at_least(lo));
        other.hi.into_iter().for_each(|hi| self.at_most(hi));
        self
    }

    fn is_empty(self) -> bool {
        matches!((self.lo, self.hi), (Some(lo), Some(hi)) if lo > hi)
    }

    /// The estimate: 0 when it fits.
    fn pick(self) -> i64 {
        let inward = match (self.lo, self.hi) {
            (Some(lo), Some(hi)) => (hi.saturating_sub(lo) / 2).min(INWARD_MAX_NS),
            _ => 0,
        };
        match (self.lo, self.hi) {
            (Some(lo), _) if lo > 0 => lo.saturating_add(inward),
            (_, Some(hi)) if hi < 0 => hi.saturating_sub(inward),
            _ => 0,
        }
    }
}

/// What the calls between two processes say.
struct Evidence {
    parent: usize,
    child: usize,
    /// From starts: nothing starts before its cause.
    starts: Bounds,
    /// From ends: weaker, for a caller may not have waited.
    ends: Bounds,
    calls: usize,
    early: usize,
    late: usize,
}

impl Evidence {
    fn add(&mut self, parent: &Node, child: &Node, forward: bool) {
        let lo = parent.start_ns.saturating_sub(child.start_ns);
        let hi = parent.end_ns().saturating_sub(child.end_ns());
        self.calls += 1;
        self.early += usize::from(lo > 0);
        // A child that took longer than its parent did not fit into it on any clock.
        let fits = child.duration_ns <= parent.duration_ns;
        let hi = if (-tolerance_ns(parent.duration_ns)..0).contains(&hi) { 0 } else { hi };
        self.late += usize::from(fits && hi < 0);
        if forward {
            self.starts.at_least(lo);
            if fits {
                self.ends.at_most(hi.max(lo));
            }
        } else {
            self.starts.at_most(lo.saturating_neg());
            if fits {
                self.ends.at_least(hi.max(lo).saturating_neg());
            }
        }
    }

    fn settle(&self) -> Skew {
        let both = self.starts.and(self.ends);
        let usable = if both.is_empty() { self.starts } else { both };
        let offset_ns = if usable.is_empty() { 0 } else { usable.pick() };
        let fits_ns = (!both.is_empty()).then_some((both.lo, both.hi));
        Skew {
            parent: self.parent,
            child: self.child,
            offset_ns,
            fits_ns,
            calls: self.calls,
            early: self.early,
            late: self.late,
        }
    }
}

/// Whether the caller waits for this child, so that its times say something about the clocks.
fn is_call(parent: &Node, child: &Node) -> bool {
    let received = |node: &Node| node.presence == Presence::Received && node.span.time_known;
    let message = child.span.kind == KIND_CONSUMER || parent.span.kind == KIND_PRODUCER;
    let explicit = parent.span.kind == KIND_CLIENT && child.span.kind == KIND_SERVER;
    // Without kinds that say otherwise, a child that begins after its parent's end was queued.
    let queued = !explicit && child.start_ns >= parent.end_ns();
    received(parent) && received(child) && parent.process != child.process && !message && !queued
}

/// Estimates the offsets of all processes. Starts of nodes are still raw.
pub(super) fn estimate(nodes: &[Node], preorder: &[usize], processes: &mut [Process]) -> Vec<Skew> {
    let mut evidence: Vec<Evidence> = Vec::new();
    let mut pairs: FxHashMap<(usize, usize), usize> = FxHashMap::default();
    for (parent, child) in edges(nodes, preorder) {
        if !is_call(parent, child) {
            continue;
        }
        let (forward, backward) = ((parent.process, child.process), (child.process, parent.process));
        let at = *pairs.get(&forward).or_else(|| pairs.get(&backward)).unwrap_or(&evidence.len());
        if at == evidence.len() {
            pairs.insert(forward, at);
            evidence.push(Evidence {
                parent: parent.process,
                child: child.process,
                starts: Bounds::default(),
                ends: Bounds::default(),
                calls: 0,
                early: 0,
                late: 0,
            });
        }
        if let Some(found) = evidence.get_mut(at) {
            let is_forward = found.parent == parent.process;
            found.add(parent, child, is_forward);
        }
    }
    let skews: Vec<Skew> = evidence.iter().map(Evidence::settle).collect();
    assign(nodes, preorder, processes, |from, to| {
        let forward = pairs.get(&(from, to)).and_then(|&at| skews.get(at)).map(|skew| skew.offset_ns);
        let backward =
            || pairs.get(&(to, from)).and_then(|&at| skews.get(at)).map(|skew| skew.offset_ns.saturating_neg());
        forward.or_else(backward).unwrap_or(0)
    });
    skews.into_iter().filter(|skew| skew.early + skew.late > 0).collect()
}

fn edges<'a>(nodes: &'a [Node], preorder: &'a [usize]) -> impl Iterator<Item = (&'a Node, &'a Node)> {
    preorder.iter().filter_map(|&index| {
        let child = nodes.get(index)?;
        Some((nodes.get(child.parent?)?, child))
    })
}

/// Gives each process the offset that its first span in the tree implies.
fn assign(
    nodes: &[Node],
    preorder: &[usize],
    processes: &mut [Process],
    offset_between: impl Fn(usize, usize) -> i64,
) {
    let mut assigned = vec![false; processes.len()];
    for node in preorder.iter().filter_map(|&index| nodes.get(index)) {
        if node.presence != Presence::Received || assigned.get(node.process).copied().unwrap_or(true) {
            continue;
        }
        let parent = node.parent.and_then(|parent| nodes.get(parent));
        let offset = parent.filter(|parent| parent.presence == Presence::Received).map_or(0, |parent| {
            let base = processes.get(parent.process).map_or(0, |process| process.offset_ns);
            base.saturating_add(offset_between(parent.process, node.process))
        });
        if let (Some(process), Some(flag)) = (processes.get_mut(node.process), assigned.get_mut(node.process)) {
            process.offset_ns = offset;
            *flag = true;
        }
    }
}
