//! What a receiver's thread does next: a state machine without clock, disk or network.
//!
//! Vocabulary:
//! - *item*: a notice that waits, by its number in the outbox, which is its place;
//! - *lane*: the items of one incident. Within a lane the order is kept whatever happens: only its first item is ever sent;
//! - *pause*: nothing is sent to the target for a while, because it is down or asked for it.
//!
//! A failure that may be of one item's own (500) holds up its lane; one that is the target's (no connection, 429, 503), or
//! the third of others in a row, is a pause for all. A pause doubles from a second to a quarter of an hour.

use std::collections::{BTreeMap, HashMap, HashSet};

use threadline_detect::incident::Reason;

/// First and longest time between attempts, µs.
const BACKOFF_MIN_US: i64 = 1_000_000;
const BACKOFF_MAX_US: i64 = 15 * 60 * 1_000_000;
/// Failures of different lanes in a row that are the target's.
const ROW_MAX: u32 = 3;

/// What does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Of several updates of an incident that wait, only the last is sent.
    pub(crate) merges: bool,
    /// Time between messages, µs; as many as `burst` may come at once.
    pub(crate) gap_us: i64,
    pub(crate) burst: u32,
    /// A notice that was tried in vain for so long is dead, µs.
    pub(crate) dead_after_us: i64,
    /// So often may the target deny us a notice (401, 403, 404).
    pub(crate) denials_max: u32,
}

#[derive(Clone, Debug)]
struct Item {
    lane: u64,
    reason: Reason,
    put_us: i64,
    attempts: u32,
    denials: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Backoff {
    failures: u32,
    /// When the last one was, µs.
    failed_us: i64,
    until_us: i64,
}

/// Why a notice is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It was tried for too long.
    TooOld,
    /// The target is gone.
    Gone,
    /// The target refused it.
    Refused,
    /// The target has denied us too often.
    Denied,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing waits.
    Idle,
    /// Nothing to do before, µs.
    Wait { until_us: i64 },
    /// Send `number`; the earlier ones are told by it.
    Send { number: u64, merged: Vec<u64> },
    /// Give it up.
    Bury { number: u64, attempts: u32, why: Why },
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may go later; `whole` when it is the target that failed, not this notice. The target may ask for time, µs.
    Later { whole: bool, after_us: Option<i64> },
    /// Credentials or address are wrong.
    Denied,
    /// Never.
    Refused,
    /// The target is gone.
    Gone,
}

/// The queue of a receiver.
#[derive(Debug)]
pub(crate) struct Queue {
    rules: Rules,
    items: BTreeMap<u64, Item>,
    lanes: HashMap<u64, Backoff>,
    pause: Backoff,
    /// Failures in a row, whosever.
    row: u32,
    /// When the next message would be due if they came evenly, µs.
    even_us: i64,
    gone: bool,
    /// Given up, not buried yet.
    doomed: Vec<(u64, Why)>,
}

impl Queue {
    pub(crate) fn new(rules: Rules, gone: bool) -> Queue {
        Queue {
            rules,
            items: BTreeMap::new(),
            lanes: HashMap::new(),
            pause: Backoff::default(),
            row: 0,
            even_us: i64::MIN,
            gone,
            doomed: Vec::new(),
        }
    }

    /// A notice that waits.
    pub(crate) fn push(&mut self, number: u64, lane: u64, reason: Reason, put_us: i64) {
        self.items.insert(number, Item { lane, reason, put_us, attempts: 0, denials: 0 });
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Until when nothing is sent at all, µs; in the past when nothing keeps it.
    pub(crate) fn paused_until_us(&self) -> i64 {
        self.pause.until_us
    }

    /// The target is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Somebody had the dead wait again: the target is there, they say. Nothing is known of what waits; push it again.
    pub(crate) fn forget(&mut self) {
        *self = Queue { even_us: self.even_us, ..Queue::new(self.rules, false) };
    }

    /// Attempts that a notice took.
    pub(crate) fn attempts(&self, number: u64) -> u32 {
        self.items.get(&number).map_or(0, |item| item.attempts)
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now_us: i64) -> Step {
        if let Some((number, why)) = self.doomed.pop() {
            return Step::Bury { number, attempts: self.attempts(number), why };
        }
        if self.gone
            && let Some((number, item)) = self.items.first_key_value()
        {
            return Step::Bury { number: *number, attempts: item.attempts, why: Why::Gone };
        }
        // Each is tried once at least, however long the hub was down; or the target took nothing, again and again, when it had
        // waited for long enough already.
        let before_us = |at_us: i64| at_us.saturating_sub(self.rules.dead_after_us);
        let in_vain = self.pause.failures >= ROW_MAX;
        let is_old = |item: &Item| {
            (item.attempts > 0 && item.put_us < before_us(now_us))
                || (in_vain && item.put_us < before_us(self.pause.failed_us))
        };
        if let Some((number, item)) = self.items.iter().find(|(_, item)| is_old(item)) {
            return Step::Bury { number: *number, attempts: item.attempts, why: Why::TooOld };
        }
        if self.items.is_empty() {
            return Step::Idle;
        }
        let burst_us = self.rules.gap_us.saturating_mul(i64::from(self.rules.burst.max(1)) - 1);
        let due_us = self.pause.until_us.max(self.even_us.saturating_sub(burst_us));
        if due_us > now_us {
            return Step::Wait { until_us: due_us };
        }
        let mut seen = HashSet::new();
        let mut until_us = i64::MAX;
        for (number, item) in &self.items {
            if !seen.insert(item.lane) {
                continue;
            }
            match self.lanes.get(&item.lane) {
                Some(lane) if lane.until_us > now_us => until_us = until_us.min(lane.until_us),
                _ => return self.send(*number, item),
            }
        }
        Step::Wait { until_us }
    }

    fn send(&self, number: u64, first: &Item) -> Step {
        let mergeable = |reason: Reason| matches!(reason, Reason::Update | Reason::Repeat);
        let mut run = vec![number];
        if self.rules.merges && mergeable(first.reason) {
            let later = self.items.range(number + 1..).filter(|(_, item)| item.lane == first.lane);
            run.extend(later.take_while(|(_, item)| mergeable(item.reason)).map(|(number, _)| *number));
        }
        let number = run.pop().unwrap_or(number);
        Step::Send { number, merged: run }
    }

    /// An attempt begins.
    pub(crate) fn begun(&mut self, number: u64, now_us: i64) {
        if let Some(item) = self.items.get_mut(&number) {
            item.attempts += 1;
        }
        self.even_us = self.even_us.max(now_us).saturating_add(self.rules.gap_us);
    }

    /// The target has it, and with it those that were told by it.
    pub(crate) fn sent(&mut self, number: u64, merged: &[u64]) {
        (self.row, self.pause) = (0, Backoff::default());
        for number in merged.iter().chain([&number]) {
            self.remove(*number);
        }
    }

    /// It is given up, and written down as such.
    pub(crate) fn buried(&mut self, number: u64) {
        self.remove(number);
    }

    fn remove(&mut self, number: u64) {
        if let Some(item) = self.items.remove(&number) {
            self.lanes.remove(&item.lane);
        }
    }

    /// An attempt failed. `random` spreads the attempts of many hubs.
    pub(crate) fn failed(&mut self, number: u64, failure: Failure, now_us: i64, random: u32) {
        let Some(item) = self.items.get_mut(&number) else { return };
        let lane = item.lane;
        match failure {
            Failure::Gone => self.gone = true,
            Failure::Refused => {
                // The target lives: it has said no to this one.
                (self.row, self.pause) = (0, Backoff::default());
                self.doomed.push((number, Why::Refused));
            }
            Failure::Denied => {
                item.denials += 1;
                if item.denials >= self.rules.denials_max {
                    self.doomed.push((number, Why::Denied));
                }
                self.pause.fail(None, now_us, random);
            }
            Failure::Later { whole, after_us } => {
                self.row += 1;
                if whole || self.row >= ROW_MAX {
                    self.pause.fail(after_us, now_us, random);
                } else {
                    self.lanes.entry(lane).or_default().fail(after_us, now_us, random);
                }
            }
        }
    }
}

impl Backoff {
    /// Half of the time is chance, so that hubs that failed together do not come back together.
    fn fail(&mut self, after_us: Option<i64>, now_us: i64, random: u32) {
        let doublings = self.failures.min(20);
        self.failures += 1;
        self.failed_us = now_us;
        let full_us = BACKOFF_MIN_US.saturating_mul(1 << doublings).min(BACKOFF_MAX_US);
        let half_us = full_us / 2;
        let chance_us = half_us.saturating_mul(i64::from(random)) / i64::from(u32::MAX);
        let wait_us = (half_us + chance_us).max(after_us.unwrap_or(0));
        self.until_us = now_us.saturating_add(wait_us);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::notice::REASONS;

    const SECOND: i64 = 1_000_000;
    const RULES: Rules =
        Rules { merges: true, gap_us: 0, burst: 1, dead_after_us: 1_000_000 * SECOND, denials_max: 3 };

    fn queue(rules: Rules, items: &[(u64, Reason)]) -> Queue {
        let mut queue = Queue::new(rules, false);
        for (number, (lane, reason)) in items.iter().enumerate() {
            queue.push(number as u64 + 1, *lane, *reason, 0);
        }
        queue
    }

    fn fail(queue: &mut Queue, number: u64, failure: Failure, now_us: i64) {
        queue.begun(number, now_us);
        queue.failed(number, failure, now_us, u32::MAX);
    }

    const LATER: Failure = Failure::Later { whole: false, after_us: None };
    const DOWN: Failure = Failure::Later { whole: true, after_us: None };

    #[test]
    fn one_poisoned_incident_does_not_hold_up_the_others() {
        let mut queue = queue(
            RULES,
            &[(1, Reason::Trigger), (1, Reason::Resolve), (2, Reason::Trigger), (2, Reason::Resolve)],
        );
        fail(&mut queue, 1, LATER, 0);
        assert_eq!(queue.next(1), Step::Send { number: 3, merged: vec![] });
        queue.begun(3, 1);
        queue.sent(3, &[]);
        assert_eq!(queue.next(2), Step::Send { number: 4, merged: vec![] });
        queue.sent(4, &[]);
        assert_eq!(queue.next(3), Step::Wait { until_us: SECOND }, "its resolve does not overtake it");
        assert_eq!(queue.next(SECOND), Step::Send { number: 1, merged: vec![] });
    }

    #[test]
    fn a_target_that_is_down_is_asked_seldomer_and_seldomer() {
        let mut queue = queue(RULES, &[(1, Reason::Trigger), (2, Reason::Trigger)]);
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..14 {
            fail(&mut queue, 1, DOWN, now);
            let Step::Wait { until_us } = queue.next(now) else { panic!("it waits") };
            waits.push((until_us - now) / SECOND);
            now = until_us;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
        queue.sent(1, &[]);
        assert_eq!(queue.next(now), Step::Send { number: 2, merged: vec![] }, "it is up: at once");
        let asked = Failure::Later { whole: true, after_us: Some(3600 * SECOND) };
        fail(&mut queue, 2, asked, now);
        assert_eq!(queue.next(now), Step::Wait { until_us: now + 3600 * SECOND }, "it is asked for time");
    }

    #[test]
    fn three_failures_in_a_row_are_the_targets() {
        let mut queue = queue(
            RULES,
            &[(1, Reason::Trigger), (2, Reason::Trigger), (3, Reason::Trigger), (4, Reason::Trigger)],
        );
        for number in 1..=3 {
            assert_eq!(queue.next(0), Step::Send { number, merged: vec![] });
            fail(&mut queue, number, LATER, 0);
        }
        assert_eq!(queue.next(0), Step::Wait { until_us: SECOND });
    }

    #[test]
    fn updates_that_wait_are_one_where_the_format_permits() {
        let items = [
            (1, Reason::Trigger),
            (1, Reason::Update),
            (2, Reason::Update),
            (1, Reason::Repeat),
            (1, Reason::Acknowledge),
            (1, Reason::Update),
        ];
        let mut merging = queue(RULES, &items);
        let mut single = queue(Rules { merges: false, ..RULES }, &items);
        let drain = |queue: &mut Queue| {
            let mut steps = Vec::new();
            while let Step::Send { number, merged } = queue.next(0) {
                queue.begun(number, 0);
                queue.sent(number, &merged);
                steps.push((number, merged));
            }
            steps
        };
        let want = [(1, vec![]), (4, vec![2]), (3, vec![]), (5, vec![]), (6, vec![])];
        assert_eq!(drain(&mut merging), want);
        assert_eq!(drain(&mut single).len(), items.len());
    }

    #[test]
    fn what_is_hopeless_is_given_up() {
        let rules = Rules { dead_after_us: 100 * SECOND, ..RULES };
        let mut queue = queue(rules, &[(1, Reason::Trigger), (2, Reason::Trigger), (3, Reason::Trigger)]);
        fail(&mut queue, 1, Failure::Refused, 0);
        assert_eq!(queue.next(0), Step::Bury { number: 1, attempts: 1, why: Why::Refused });
        queue.buried(1);
        let mut now = 0;
        for _ in 0..3 {
            fail(&mut queue, 2, Failure::Denied, now);
            now = queue.paused_until_us();
        }
        assert_eq!(queue.next(now), Step::Bury { number: 2, attempts: 3, why: Why::Denied });
        queue.buried(2);
        let late = 1000 * SECOND;
        assert_eq!(queue.next(late), Step::Send { number: 3, merged: vec![] }, "tried once at least");
        fail(&mut queue, 3, DOWN, late);
        assert_eq!(queue.next(late), Step::Bury { number: 3, attempts: 1, why: Why::TooOld });
        queue.buried(3);
        queue.push(9, 9, Reason::Trigger, late);
        fail(&mut queue, 9, Failure::Gone, late);
        assert_eq!(queue.next(late), Step::Bury { number: 9, attempts: 1, why: Why::Gone });
        assert!(queue.is_gone());
        queue.forget();
        assert!(!queue.is_gone());
        queue.push(4, 9, Reason::Trigger, late);
        queue.push(9, 9, Reason::Resolve, late);
        assert_eq!(queue.next(late), Step::Send { number: 4, merged: vec![] });
    }

    #[test]
    fn what_waits_behind_what_fails_grows_old_too() {
        let rules = Rules { dead_after_us: 100 * SECOND, ..RULES };
        let mut queue = queue(rules, &[(1, Reason::Trigger), (2, Reason::Trigger)]);
        queue.push(3, 3, Reason::Trigger, 10 * SECOND);
        queue.push(4, 4, Reason::Trigger, 150 * SECOND);
        let mut now = 0;
        for _ in 0..3 {
            fail(&mut queue, 1, DOWN, now);
            now = queue.paused_until_us();
        }
        let late = 200 * SECOND;
        assert_eq!(queue.next(late), Step::Bury { number: 1, attempts: 3, why: Why::TooOld });
        queue.buried(1);
        assert_eq!(
            queue.next(late),
            Step::Send { number: 2, merged: vec![] },
            "nobody has tried since it is old"
        );
        fail(&mut queue, 2, DOWN, late);
        for (number, attempts) in [(2, 1), (3, 0)] {
            assert_eq!(queue.next(late), Step::Bury { number, attempts, why: Why::TooOld });
            queue.buried(number);
        }
        assert_eq!(queue.next(late), Step::Wait { until_us: queue.paused_until_us() });
        assert_eq!(queue.next(queue.paused_until_us()), Step::Send { number: 4, merged: vec![] });
    }

    #[test]
    fn no_more_than_the_rate() {
        let rules = Rules { gap_us: SECOND, burst: 3, ..RULES };
        let mut queue = queue(rules, &[(1, Reason::Trigger); 10]);
        let (mut now, mut times) = (0, Vec::new());
        loop {
            match queue.next(now) {
                Step::Send { number, merged } => {
                    queue.begun(number, now);
                    queue.sent(number, &merged);
                    times.push(now / SECOND);
                }
                Step::Wait { until_us } => now = until_us,
                _ => break,
            }
        }
        assert_eq!(times, [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Push(u64, Reason),
        Step(u8, u32),
        Pass(i64),
        Revive,
    }

    fn act() -> impl Strategy<Value = Act> {
        let reason = proptest::sample::select(REASONS.to_vec());
        prop_oneof![
            3 => (1_u64..4, reason).prop_map(|(lane, reason)| Act::Push(lane, reason)),
            5 => (0_u8..8, any::<u32>()).prop_map(|(outcome, random)| Act::Step(outcome, random)),
            3 => (0_i64..2_000 * SECOND).prop_map(Act::Pass),
            1 => Just(Act::Revive),
        ]
    }

    proptest! {
        /// Whatever the target does: what was put is sent, merged into a later one, or given up, in the order of its
        /// incident; nothing is lost or done twice.
        #[test]
        fn nothing_is_lost_and_the_order_is_kept(
            acts in proptest::collection::vec(act(), 1..120),
            merges in any::<bool>(),
            gap_us in 0_i64..3 * SECOND,
        ) {
            let rules = Rules { merges, gap_us, burst: 2, dead_after_us: 5_000 * SECOND, denials_max: 3 };
            let mut queue = Queue::new(rules, false);
            let (mut now, mut next) = (0_i64, 1_u64);
            let mut lanes: HashMap<u64, (u64, Reason)> = HashMap::new();
            let mut done: HashMap<u64, Vec<u64>> = HashMap::new();
            let mut ends = HashSet::new();
            let mut starts: Vec<i64> = Vec::new();
            let drain = (0..2000).flat_map(|_| [Act::Pass(1_000 * SECOND), Act::Step(7, 1)]);
            for act in acts.into_iter().chain([Act::Revive]).chain(drain) {
                match act {
                    Act::Push(lane, reason) => {
                        lanes.insert(next, (lane, reason));
                        queue.push(next, lane, reason, now);
                        next += 1;
                    }
                    Act::Pass(us) => now += us,
                    Act::Revive => {
                        queue.forget();
                        for (number, (lane, reason)) in &lanes {
                            if !ends.contains(number) {
                                queue.push(*number, *lane, *reason, now);
                            }
                        }
                    }
                    Act::Step(outcome, random) => match queue.next(now) {
                        Step::Idle => prop_assert_eq!(queue.len(), 0),
                        Step::Wait { until_us } => prop_assert!(until_us > now && queue.len() > 0),
                        Step::Bury { number, .. } => {
                            prop_assert!(ends.insert(number));
                            queue.buried(number);
                        }
                        Step::Send { number, merged } => {
                            queue.begun(number, now);
                            starts.push(now);
                            let failure = match outcome {
                                0 => LATER,
                                1 => DOWN,
                                2 => Failure::Later { whole: true, after_us: Some(i64::from(random)) },
                                3 => Failure::Denied,
                                4 => Failure::Refused,
                                5 => Failure::Gone,
                                _ => {
                                    for number in merged.iter().chain([&number]) {
                                        prop_assert!(ends.insert(*number), "{number} twice");
                                    }
                                    for number in &merged {
                                        prop_assert!(merges);
                                        prop_assert!(matches!(lanes[number].1, Reason::Update | Reason::Repeat));
                                    }
                                    done.entry(lanes[&number].0).or_default().push(number);
                                    queue.sent(number, &merged);
                                    continue;
                                }
                            };
                            let before = queue.len();
                            queue.failed(number, failure, now, random);
                            prop_assert_eq!(queue.len(), before, "a failure takes nothing away");
                        }
                    },
                }
            }
            prop_assert_eq!(ends.len() as u64, next - 1, "all have an end");
            for numbers in done.values() {
                prop_assert!(numbers.is_sorted(), "{numbers:?}");
            }
            for window in starts.windows(3) {
                prop_assert!(window[2] - window[0] >= gap_us, "the rate");
            }
        }
    }
}
