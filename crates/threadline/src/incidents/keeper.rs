//! The thread of incidents: reads findings, steps the desk, does what people want, and commits. Whoever reads sees what is
//! committed, for the lock is held from the step to the end of its commit.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use threadline_detect::incident::{Alert, Command, Desk, Event, Refusal, Transition, What};
use threadline_model::schema::Table;
use threadline_store::{Append, Env, Store};

use super::book::{Book, Entry, Fault, Merged, Page};
use super::finding::{self, Finding};
use super::policy::Alerts;
use super::transition::{self, Kept};
use super::{SEVERITIES, Status, Telling, notice};
use crate::contract::Gatekeeper;
use crate::door::watch::Watched;
use crate::own::Writer;

/// How often findings are read and the desk is stepped.
const STEP_EVERY: Duration = Duration::from_secs(1);
/// Findings of one commit at most.
const FINDINGS_PER_COMMIT: usize = 1_000;
/// What people want that is done in one commit at most.
const ASKS_PER_COMMIT: usize = 64;
/// Sequence numbers that may pass without findings until that is committed: they are read again after a crash.
const SEQS_PER_COMMIT: i64 = 100_000;
/// Audit records that are on their way at once.
const RECORDS_AT_ONCE: usize = 256;

/// What somebody wants done, and where the answer goes.
pub(super) struct Ask {
    pub(super) actor: String,
    pub(super) command: Command,
    pub(super) answer: SyncSender<Answer>,
}

/// What became of it.
pub(super) type Answer = Result<Vec<Transition>, Denied>;

/// Why it was not done.
#[derive(Clone, Debug)]
pub(crate) enum Denied {
    /// The state machine refuses it.
    Refused(Refusal),
    /// It could not be kept.
    NotKept(String),
}

/// What the thread and those who read share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) desk: Desk,
    pub(super) alerts: Alerts,
    /// Why nothing is kept any more: the desk is not what is committed.
    pub(super) off: Option<String>,
}

/// The thread.
pub(super) struct Keeper {
    store: Store,
    env: Env,
    book: Book,
    gatekeeper: Gatekeeper,
    shared: Arc<Mutex<Shared>>,
    /// Apart from the desk, so that whoever looks how it goes waits for no step.
    status: Arc<Mutex<Status>>,
    asks: Receiver<Ask>,
    stopping: Arc<AtomicBool>,
    telling: Telling,
    file: Option<(std::path::PathBuf, Watched)>,
    /// The desk's time, µs, which never goes back, whatever the clock does.
    now_us: i64,
    /// When this run began, µs.
    began_us: i64,
    /// Where findings are read from; what is committed of it.
    next_seq: i64,
    committed_seq: i64,
    /// Transitions whose records are not in the store, and those whose are, and the book does not know it.
    pending: Vec<Kept>,
    done: Vec<u64>,
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Takes up where the last run ended.
    ///
    /// # Errors
    /// The book cannot be read.
    #[allow(clippy::too_many_arguments, reason = "each is a part of its own, given once")]
    pub(super) fn open(
        store: Store,
        env: Env,
        gatekeeper: Gatekeeper,
        book: Book,
        alerts: Alerts,
        telling: Telling,
        asks: Receiver<Ask>,
        stopping: Arc<AtomicBool>,
    ) -> Result<Keeper, Fault> {
        let (mut desk, next_seq) = book.load(alerts.policy.clone())?;
        let began_us = env.clock.now_us();
        desk.resume(began_us);
        let mut pending = book.pending()?;
        let mut done = Vec::new();
        if !pending.is_empty() {
            // The window in which the store knows a batch again is shorter than a hub may be away.
            let kept = transition::kept_since(&store, next_seq)?;
            done.extend(pending.keys().copied().filter(|number| kept.contains(number)));
            pending.retain(|number, _| !kept.contains(number));
        }
        let (live, silences) = counted(&desk);
        let status = Status { running: true, next_seq, live, silences, ..Status::default() };
        let file = telling.file.clone().map(|path| (path.clone(), Watched::look([path])));
        Ok(Keeper {
            store,
            env,
            gatekeeper,
            book,
            shared: Arc::new(Mutex::new(Shared { desk, alerts, off: None })),
            status: Arc::new(Mutex::new(status)),
            asks,
            stopping,
            telling,
            file,
            now_us: 0,
            began_us,
            next_seq,
            committed_seq: next_seq,
            pending: pending.into_values().collect(),
            done,
        })
    }

    pub(super) fn shared(&self) -> Arc<Mutex<Shared>> {
        Arc::clone(&self.shared)
    }

    pub(super) fn status(&self) -> Arc<Mutex<Status>> {
        Arc::clone(&self.status)
    }

    #[cfg(test)]
    pub(super) fn book(&self) -> Book {
        self.book.clone()
    }

    /// Works until it is told to stop, or can keep nothing any more.
    pub(super) fn run(mut self) {
        let mut due = self.env.clock.monotonic();
        while !self.stopping.load(Ordering::Relaxed) {
            match self.turn(due) {
                Some(next) => due = next,
                None => break,
            }
        }
        if self.is_off() {
            return;
        }
        // What was found to the last, and the records of it.
        self.step();
        self.record();
        if !self.done.is_empty() {
            self.step();
        }
    }

    fn is_off(&self) -> bool {
        lock(&self.shared).off.is_some()
    }

    /// Does what people want, and what is due, however much people want; when the next is due, or `None` at the end.
    pub(super) fn turn(&mut self, due: Duration) -> Option<Duration> {
        let wait = due.saturating_sub(self.env.clock.monotonic());
        match self.asks.recv_timeout(wait) {
            Ok(ask) => {
                self.asked(ask);
                if self.env.clock.monotonic() < due && !self.is_off() {
                    return Some(due);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        if self.is_off() {
            return None;
        }
        self.reload();
        self.step();
        self.record();
        (!self.is_off()).then(|| self.env.clock.monotonic() + STEP_EVERY)
    }

    /// Takes the alerts file anew when it has changed. One that cannot be read changes nothing but the status.
    fn reload(&mut self) {
        let Some((path, watched)) = &mut self.file else { return };
        let now = Watched::look([path.clone()]);
        if now == *watched {
            return;
        }
        *watched = now;
        let read = Alerts::read(path);
        let mut shared = lock(&self.shared);
        let taken = read.and_then(|alerts| {
            shared.desk.set_policy(alerts.policy.clone()).map_err(|error| error.to_string())?;
            shared.alerts = alerts;
            Ok(())
        });
        match &taken {
            Ok(()) => tracing::info!("the alerts file is read"),
            Err(reason) => tracing::error!("the alerts file stays as it was: {reason}"),
        }
        lock(&self.status).alerts_problem = taken.err();
    }

    fn now(&mut self) -> i64 {
        self.now_us = self.now_us.max(self.env.clock.now_us());
        self.now_us
    }

    /// Reads findings, and lets time pass.
    pub(super) fn step(&mut self) {
        let (findings, next_seq) = match finding::read(&self.store, self.next_seq) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "findings cannot be read: incidents wait for them");
                (Vec::new(), self.next_seq)
            }
        };
        let chunks = findings.len().div_ceil(FINDINGS_PER_COMMIT).max(1);
        for index in 0..chunks {
            let chunk: Vec<&Finding> =
                findings.iter().skip(index * FINDINGS_PER_COMMIT).take(FINDINGS_PER_COMMIT).collect();
            let upto = match chunk.last() {
                Some(last) if index + 1 < chunks => last.seq + 1,
                _ => next_seq,
            };
            if !self.take(&chunk, upto) {
                return;
            }
        }
    }

    /// Gives the desk some findings, and commits; whether it was kept.
    fn take(&mut self, findings: &[&Finding], next_seq: i64) -> bool {
        let now_us = self.now();
        let shared = Arc::clone(&self.shared);
        let mut shared = lock(&shared);
        let (mut alerts, mut of) = (Vec::new(), Vec::new());
        for finding in findings {
            let made = alerts_of(&shared, &alerts, finding);
            of.extend(std::iter::repeat_n(*finding, made.len()));
            alerts.extend(made);
        }
        let events = shared.desk.step(&alerts, now_us);
        let kept = self.commit(&mut shared, &events, &of, next_seq);
        kept.is_ok()
    }

    /// Does what people want, in one commit.
    pub(super) fn asked(&mut self, first: Ask) {
        let mut asks = vec![first];
        asks.extend(self.asks.try_iter().take(ASKS_PER_COMMIT - 1));
        let now_us = self.now();
        let shared = Arc::clone(&self.shared);
        let mut shared = lock(&shared);
        let mut events = Vec::new();
        let mut answers = Vec::new();
        for Ask { actor, command, answer } in asks {
            let done = shared.desk.command(&actor, command, now_us).map_err(Denied::Refused);
            let transitions = done.map(|done| {
                let transitions = done.iter().filter_map(|event| match event {
                    Event::Transition(transition) => Some(transition.clone()),
                    Event::Message(_) => None,
                });
                let transitions = transitions.collect();
                events.extend(done);
                transitions
            });
            answers.push((answer, transitions));
        }
        let kept = self.commit(&mut shared, &events, &[], self.next_seq);
        drop(shared);
        let not_kept = kept.err().map(|error| Denied::NotKept(error.to_string()));
        for (answer, done) in answers {
            let done = done.and_then(|done| not_kept.clone().map_or(Ok(done), Err));
            // Whoever asked may have gone.
            let _ = answer.try_send(done);
        }
        self.record();
    }

    /// Commits what the desk has done; takes it back where that fails.
    fn commit(
        &mut self,
        shared: &mut Shared,
        events: &[Event],
        findings: &[&Finding],
        next_seq: i64,
    ) -> Result<(), Fault> {
        let changes = shared.desk.take_changes();
        self.next_seq = next_seq;
        if changes.is_empty()
            && events.is_empty()
            && self.done.is_empty()
            && next_seq - self.committed_seq < SEQS_PER_COMMIT
        {
            lock(&self.status).next_seq = next_seq;
            return Ok(());
        }
        let transitions: Vec<Kept> = events
            .iter()
            .filter_map(|event| match event {
                Event::Transition(transition) => Some(Kept::of(transition)),
                Event::Message(_) => None,
            })
            .collect();
        // A finding that says something of several alerts of an incident is one of its timeline.
        let mut known = BTreeSet::new();
        let placed = changes.placed.iter().filter_map(|(at, id)| Some((*id, *findings.get(*at)?)));
        let placed = placed.filter(|(id, finding)| known.insert((finding.seq, *id)));
        let mut entries: Vec<(u64, Entry)> =
            placed.map(|(id, finding)| (id, Entry::Finding(finding.clone()))).collect();
        let told = transitions.iter().filter(|kept| kept.is_told());
        entries.extend(told.map(|kept| (kept.incident, Entry::Transition(kept.clone()))));
        // An incident that has gone keeps nothing, whatever was said of it at the end.
        entries.retain(|(id, _)| shared.desk.incident(*id).is_some());
        let page =
            Page { next_seq, changes, entries, pending: transitions, done: std::mem::take(&mut self.done) };
        let notices = |write: &redb::WriteTransaction| {
            let messages = events.iter().filter_map(|event| match event {
                Event::Message(message) => Some(message),
                Event::Transition(_) => None,
            });
            let mut merged = None;
            for message in messages {
                let merged = merged.get_or_insert_with(|| Merged::of(&shared.desk));
                notice::put(write, &self.telling, &shared.desk, merged, message)?;
            }
            Ok(())
        };
        if let Err(error) = self.book.commit(&shared.desk, &page, notices) {
            self.done = page.done;
            self.not_kept(shared, &error);
            return Err(error);
        }
        self.committed_seq = next_seq;
        let mut status = lock(&self.status);
        status.problem = None;
        status.next_seq = next_seq;
        status.transitions += page.pending.len() as u64;
        (status.live, status.silences) = counted(&shared.desk);
        let opened = events
            .iter()
            .filter(|event| matches!(event, Event::Transition(Transition { what: What::Opened, .. })));
        status.opened += opened.count() as u64;
        drop(status);
        self.pending.extend(page.pending);
        if events.iter().any(|event| matches!(event, Event::Message(_))) {
            self.telling.bell.ring();
        }
        Ok(())
    }

    /// What was not kept has not happened: the desk is what was committed last. After an error of its disk the database does
    /// nothing any more until it is opened again, which delivery shares: then nothing is kept until the hub starts anew,
    /// and that is said.
    fn not_kept(&mut self, shared: &mut Shared, error: &Fault) {
        self.next_seq = self.committed_seq;
        lock(&self.status).problem = Some(format!("not kept, and tried again: {error}"));
        match self.book.probe().and_then(|()| self.book.load(shared.alerts.policy.clone())) {
            Ok((mut desk, next_seq)) => {
                tracing::error!(%error, "incidents could not be kept: they are tried again");
                desk.resume(self.began_us);
                shared.desk = desk;
                self.next_seq = next_seq;
            }
            Err(_) => {
                let why = format!(
                    "off: incidents/book.redb could not be written ({error}); nothing that was kept is lost: see to the disk, then restart the hub"
                );
                tracing::error!("incidents are {why}");
                let mut status = lock(&self.status);
                (status.running, status.problem) = (false, Some(why.clone()));
                shared.off = Some(why);
            }
        }
    }

    /// Makes the audit records of transitions. Those that the store does not take now are tried again.
    pub(super) fn record(&mut self) {
        while !self.pending.is_empty() {
            let now_us = self.env.clock.now_us();
            let (said, outcomes) = mpsc::channel();
            let count = self.pending.len().min(RECORDS_AT_ONCE);
            let (store, gatekeeper, environment) = (&self.store, &self.gatekeeper, &self.telling.environment);
            let writer = Writer { store, gatekeeper, environment };
            for kept in self.pending.iter().take(count) {
                let (number, said) = (kept.number, said.clone());
                match kept.batch(writer, now_us) {
                    Ok(Some(batch)) => {
                        let append = Append { table: Table::Logs, id: kept.id(), batch };
                        self.store.append(
                            append,
                            Box::new(move |outcome| {
                                // The receiver waits for all of them.
                                let _ = said.send((number, outcome.map_err(|error| error.to_string())));
                            }),
                        );
                    }
                    Ok(None) => {
                        let _ = said.send((number, Err("nothing is left of it".to_owned())));
                    }
                    Err(error) => {
                        let _ = said.send((number, Err(error.to_string())));
                    }
                }
            }
            drop(said);
            let mut failed = None;
            let mut kept = BTreeSet::new();
            for (number, outcome) in outcomes {
                match outcome {
                    Ok(_) => drop(kept.insert(number)),
                    Err(reason) => failed = Some(reason),
                }
            }
            self.pending.retain(|one| !kept.contains(&one.number));
            self.done.extend(kept);
            lock(&self.status).unrecorded = self.pending.len();
            if let Some(reason) = failed {
                tracing::error!(reason, "audit records of incidents are not kept yet: they are tried again");
                return;
            }
        }
    }
}

/// Live incidents by severity, and silences.
fn counted(desk: &Desk) -> ([usize; 5], usize) {
    let mut live = [0; 5];
    for incident in desk.incidents().filter(|incident| incident.state.is_live()) {
        let at = SEVERITIES.iter().position(|known| *known == incident.severity());
        if let Some(count) = live.get_mut(at.unwrap_or(SEVERITIES.len() - 1)) {
            *count += 1;
        }
    }
    (live, desk.silences().count())
}

/// The alerts that a finding makes. Of what is over, those of the same labels but for the severity, which is another by
/// then: of the desk, and of what the same step gives it before.
fn alerts_of(shared: &Shared, before: &[Alert], finding: &Finding) -> Vec<Alert> {
    let alert = finding.alert(&shared.alerts.teams);
    if !finding.over || !finding.labels.is_empty() {
        return vec![alert];
    }
    let same = |labels: &threadline_detect::incident::Labels| {
        let own = labels.iter().filter(|(name, _)| &***name != "severity");
        own.eq(alert.labels.iter().filter(|(name, _)| &***name != "severity"))
    };
    let live = shared.desk.incidents().filter(|incident| incident.state.is_live());
    let open = live.flat_map(|incident| incident.active()).filter(|member| same(&member.labels));
    let before = before.iter().filter(|before| !before.over && same(&before.labels));
    let labels = open.map(|member| &member.labels).chain(before.map(|before| &before.labels));
    let mut labels: Vec<_> = labels.cloned().collect();
    labels.sort_unstable();
    labels.dedup();
    labels.into_iter().map(|labels| Alert { labels, ..alert.clone() }).collect()
}
