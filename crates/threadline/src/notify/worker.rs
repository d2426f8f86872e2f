//! The thread of a receiver: takes notices from the outbox, sends them as the queue says, and writes down what came of it.
//!
//! A notice leaves the outbox in the commit that writes down that it was taken or is dead. A crash between the answer of the
//! target and that commit sends it again, with the same key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use threadline_detect::incident::Reason;

use super::http::Answer;
use super::outbox::{self, Account, Dead, Delivery, OpenChange, OutboxError, Outcome, Waiting};
use super::queue::{Failure, Queue, Step, Why};
use super::receiver::{Receiver, Sender};
use super::target::{BATCH_MAX, Telling};
use super::text::cut;
use super::{Kind, Notice, Shared};

/// The outbox is looked at this often at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause when the database fails.
const PAUSE: Duration = Duration::from_secs(5);
/// Notices that are taken from the outbox at once, and that are known at most.
const LOAD_MAX: usize = 1000;
const KNOWN_MAX: usize = 10_000;
/// Characters of what is written down of a failure.
const SAID_CHARS_MAX: usize = 500;
/// The lane of what is of no incident.
const NO_INCIDENT: u64 = u64::MAX;

/// What the thread has.
pub(super) struct Worker {
    shared: Arc<Shared>,
    receiver: Receiver,
    sender: Sender,
    queue: Queue,
    account: Account,
    /// The last number taken from the outbox, and replays that are known of.
    seen: u64,
    replays: u64,
    again_us: i64,
    stopping: Arc<AtomicBool>,
}

impl Worker {
    pub(super) fn open(
        shared: Arc<Shared>,
        receiver: Receiver,
        stopping: Arc<AtomicBool>,
    ) -> Result<Worker, OutboxError> {
        let account = outbox::account(&shared.db, &receiver.name)?;
        let standing = outbox::standing(&shared.db, &receiver.name)?;
        // Another definition is another target.
        let gone = standing.gone.is_some_and(|hash| hash == receiver.hash());
        let queue = Queue::new(receiver.rules(), gone);
        let sender = Sender::new(receiver.clone());
        let replays = standing.replays;
        Ok(Worker { shared, receiver, sender, queue, account, seen: 0, replays, again_us: 0, stopping })
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut rung = self.shared.bell.wait(0, Duration::ZERO);
        while !self.stopping.load(Ordering::Relaxed) {
            let wait = self.step().unwrap_or_else(|error| {
                tracing::error!(receiver = self.receiver.name, %error, "notices wait");
                PAUSE
            });
            if !wait.is_zero() {
                rung = self.shared.bell.wait(rung, wait);
            }
        }
    }

    fn now_us(&self) -> i64 {
        self.shared.env.clock.now_us()
    }

    /// Does the next thing; how long there is nothing to do then.
    fn step(&mut self) -> Result<Duration, OutboxError> {
        self.load()?;
        self.watch()?;
        self.say_again()?;
        let now_us = self.now_us();
        self.publish();
        match self.queue.next(now_us) {
            Step::Idle => Ok(LOOK_EVERY),
            Step::Wait { until_us } => {
                let wait = Duration::from_micros(u64::try_from(until_us - now_us).unwrap_or(0));
                Ok(wait.clamp(Duration::from_millis(1), LOOK_EVERY))
            }
            Step::Bury { number, attempts, why } => {
                self.bury(number, attempts, &why)?;
                Ok(Duration::ZERO)
            }
            Step::Send { number, merged } => {
                self.send(number, &merged)?;
                Ok(Duration::ZERO)
            }
        }
    }

    fn load(&mut self) -> Result<(), OutboxError> {
        let name = &self.receiver.name;
        // Somebody had the dead wait again, under their old numbers.
        let replays = outbox::standing(&self.shared.db, name)?.replays;
        if replays != self.replays {
            self.queue.forget();
            (self.replays, self.seen) = (replays, 0);
        }
        if self.queue.len() >= KNOWN_MAX {
            return Ok(());
        }
        for (number, Waiting { notice, put_us }) in
            outbox::waiting_after(&self.shared.db, name, self.seen, LOAD_MAX)?
        {
            let lane = if notice.kind == Kind::Incident { notice.incident } else { NO_INCIDENT };
            self.queue.push(number, lane, notice.reason, put_us);
            self.seen = number;
        }
        Ok(())
    }

    /// Puts a watchdog when one is due and none waits.
    fn watch(&mut self) -> Result<(), OutboxError> {
        let Some(every) = self.receiver.watchdog else { return Ok(()) };
        let now_us = self.now_us();
        let every_us = i64::try_from(every.as_micros()).unwrap_or(i64::MAX);
        if self.queue.is_gone()
            || self.queue.len() > 0
            || now_us.saturating_sub(self.account.watchdog_us) < every_us
        {
            return Ok(());
        }
        self.account.watchdog_us = now_us;
        self.account.watchdogs = self.account.watchdogs.wrapping_add(1);
        let every = humane(every);
        let notice = Notice {
            kind: Kind::Watchdog,
            number: self.account.watchdogs,
            title: "Watchdog: notices of this hub arrive".to_owned(),
            summary: format!(
                "This comes every {every}. When it does not, the hub or the way to you is broken."
            ),
            ..self.shared.blank(&self.receiver.name, now_us)
        };
        outbox::put_watchdog(&self.shared.db, &notice, &self.account)
    }

    /// Says again what is open, to targets that would forget it.
    fn say_again(&mut self) -> Result<(), OutboxError> {
        let Some(every_us) = self.receiver.target.again_us() else { return Ok(()) };
        let now_us = self.now_us();
        let waits = self.queue.is_gone() || self.queue.paused_until_us() > now_us;
        if waits || now_us.saturating_sub(self.again_us) < every_us {
            return Ok(());
        }
        self.again_us = now_us;
        let open = outbox::open_all(&self.shared.db, &self.receiver.name)?;
        for some in open.chunks(BATCH_MAX) {
            let tellings: Vec<Telling<'_>> = some
                .iter()
                .map(|notice| self.receiver.telling(notice, &self.shared.hub_id, now_us, None))
                .collect();
            let answer = self.sender.again(&tellings, now_us);
            if !matches!(answer, Answer::Taken { .. }) {
                self.note_failure(&answer, now_us);
                break;
            }
        }
        Ok(())
    }

    fn send(&mut self, number: u64, merged: &[u64]) -> Result<(), OutboxError> {
        let (db, name) = (&self.shared.db, &self.receiver.name);
        let Some(Waiting { notice, .. }) = outbox::waiting(db, name, number)? else {
            self.queue.buried(number);
            return Ok(());
        };
        let again = self.receiver.target.again_us().is_some() && notice.kind == Kind::Incident;
        let before = if again { outbox::open_one(db, name, notice.incident)? } else { None };
        let begun_us = self.now_us();
        let telling = self.receiver.telling(&notice, &self.shared.hub_id, begun_us, before.as_ref());
        self.queue.begun(number, begun_us);
        let answer = self.sender.send(&telling);
        let now_us = self.now_us();
        let failure = match &answer {
            Answer::Taken { said } => {
                let mut outcomes = Vec::new();
                for number in merged {
                    if let Some(earlier) = outbox::waiting(db, name, *number)? {
                        outcomes.push(self.outcome(&earlier.notice, *number, "merged", said, now_us));
                    }
                }
                outcomes.push(self.outcome(&notice, number, "delivered", said, now_us));
                self.account.sent += 1;
                self.account.merged += merged.len() as u64;
                self.account.last_success_us = now_us;
                let over = matches!(notice.reason, Reason::Resolve);
                let open = match (again, over) {
                    (false, _) => OpenChange::None,
                    (true, false) => OpenChange::Told(&notice),
                    (true, true) => OpenChange::Over(notice.incident),
                };
                let resolved = (over && notice.kind == Kind::Incident).then_some(notice.incident);
                let numbers: Vec<u64> = merged.iter().copied().chain([number]).collect();
                let delivery = Delivery {
                    numbers: &numbers,
                    outcomes: &outcomes,
                    account: &self.account,
                    open,
                    resolved,
                    replays: self.replays,
                    now_us,
                };
                outbox::delivered(db, name, &delivery)?;
                self.queue.sent(number, merged);
                return Ok(());
            }
            Answer::Later { whole, retry_after, .. } => {
                let after_us = retry_after.map(|after| i64::try_from(after.as_micros()).unwrap_or(i64::MAX));
                Failure::Later { whole: *whole, after_us }
            }
            Answer::Denied { .. } => Failure::Denied,
            Answer::Refused { .. } => Failure::Refused,
            Answer::Gone { .. } => {
                outbox::keep_gone(&self.shared.db, &self.receiver.name, self.receiver.hash())?;
                Failure::Gone
            }
        };
        self.note_failure(&answer, now_us);
        let mut random = [0; 4];
        self.shared.env.rng.fill(&mut random);
        self.queue.failed(number, failure, now_us, u32::from_le_bytes(random));
        Ok(())
    }

    fn note_failure(&mut self, answer: &Answer, now_us: i64) {
        self.account.failed += 1;
        self.account.last_failure_us = now_us;
        self.account.last_failure = cut(answer.said(), SAID_CHARS_MAX);
        tracing::warn!(receiver = self.receiver.name, said = answer.said(), "a notice was not taken");
    }

    fn bury(&mut self, number: u64, attempts: u32, why: &Why) -> Result<(), OutboxError> {
        let (db, name) = (&self.shared.db, &self.receiver.name);
        let Some(Waiting { notice, .. }) = outbox::waiting(db, name, number)? else {
            self.queue.buried(number);
            return Ok(());
        };
        let days = self.receiver.dead_after.as_secs_f64() / 86_400.0;
        let last = &self.account.last_failure;
        let why = match why {
            Why::TooOld => format!("tried for {days:.1} days; at last: {last}"),
            Why::Gone => "the target is gone (410): change the receiver, then replay".to_owned(),
            Why::Refused => format!("refused for good: {last}"),
            Why::Denied => format!("denied too often: {last}"),
        };
        let now_us = self.now_us();
        let outcome = Outcome { attempts, ..self.outcome(&notice, number, "dead", &why, now_us) };
        let incident = notice.incident;
        self.account.dead += 1;
        let dead = Dead { notice, dead_us: now_us, why, attempts, superseded: false };
        if outbox::buried(db, name, number, &dead, &outcome, &self.account, self.replays)? {
            tracing::error!(receiver = name, incident, why = dead.why, "a notice is dead");
            self.queue.buried(number);
        } else {
            // Somebody has replayed meanwhile: it is looked at anew.
            self.account.dead -= 1;
        }
        Ok(())
    }

    fn outcome(&self, notice: &Notice, number: u64, outcome: &str, said: &str, now_us: i64) -> Outcome {
        let telling = self.receiver.telling(notice, &self.shared.hub_id, now_us, None);
        Outcome {
            attempts: self.queue.attempts(number),
            ..Outcome::of(&telling, &self.receiver.name, self.receiver.target.kind(), outcome, said)
        }
    }

    fn publish(&self) {
        let mut board = self.shared.board();
        let state = board.entry(self.receiver.name.clone()).or_default();
        state.account = self.account.clone();
        state.gone = self.queue.is_gone();
        state.waiting = self.queue.len() as u64;
        state.paused_until_us = self.queue.paused_until_us();
    }
}

impl Outcome {
    /// How a notice ended.
    pub(super) fn of(told: &Telling<'_>, receiver: &str, target: &str, outcome: &str, said: &str) -> Outcome {
        Outcome {
            receiver: receiver.to_owned(),
            target: target.to_owned(),
            outcome: outcome.to_owned(),
            kind: told.notice.kind.name().to_owned(),
            incident: told.notice.incident,
            reason: told.notice.reason.name().to_owned(),
            number: told.notice.number,
            key: told.message_key(),
            attempts: 1,
            at_us: told.now_us,
            took_us: told.now_us.saturating_sub(told.notice.at_us).max(0),
            said: cut(said, SAID_CHARS_MAX),
        }
    }
}

fn humane(every: Duration) -> String {
    match every.as_secs() {
        seconds if seconds % 3600 == 0 && seconds > 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 && seconds > 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
