//! Notices: who is told of an incident, and that it arrives.
//!
//! Vocabulary:
//! - *notice*: what one receiver is told at one time ([`Notice`]); it lies in the *outbox* ([`outbox`]) from the commit of the
//!   transition that causes it until the target has taken it, or it is *dead*;
//! - *receiver*: a name with one *target*, which is a kind of service (PagerDuty, Slack, e-mail, …) and where it is;
//! - *key*: what tells a target that two requests are about the same. It is made of the hub's id, the incident and the
//!   receiver, and never changes between attempts.
//!
//! It does not know how findings become incidents, or who decides that somebody is to be told.

mod config;
mod guard;
mod http;
mod mail;
mod notice;
pub(crate) mod outbox;
mod posted;
mod queue;
mod receiver;
mod record;
mod secret;
mod target;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod text;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use redb::Database;
use threadline_detect::incident::Reason;
use threadline_model::schema::Table;
use threadline_model::yaml::Node;
use threadline_store::{Append, AppendError, Env, Store};

use crate::contract::Gatekeeper;
use crate::own::Writer;
use config::Broken;
pub(crate) use notice::{Kind, Notice};
use outbox::OutboxError;
pub(crate) use posted::{PostError, Posted, PostedAlerts};
pub(crate) use receiver::Receiver;
use target::Telling;
use worker::Worker;

/// Wakes who waits for notices. Clones are the same bell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell(Arc<(Mutex<u64>, Condvar)>);

impl Bell {
    /// Rings: call it when notices have been committed. Without it they are seen a second later.
    pub(crate) fn ring(&self) {
        let mut rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *rung = rung.wrapping_add(1);
        self.0.1.notify_all();
    }

    /// Waits until it has rung since `seen`, or so long; how often it has rung.
    pub(crate) fn wait(&self, seen: u64, most: Duration) -> u64 {
        let rung = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(rung, most, |rung| *rung == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Address of an incident's page below the hub's own.
pub(crate) fn page_of(public_url: &str, incident: u64) -> String {
    match public_url.trim_end_matches('/') {
        "" => String::new(),
        base => format!("{base}/incidents/{incident}"),
    }
}

/// How long a stopping hub waits for attempts in progress.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The dead are kept for so long, and orphans (notices of receivers that are no more) wait so long, µs.
const DEAD_KEPT_US: i64 = 30 * 86_400_000_000;
/// How often receivers that cannot be used are looked at again.
const RETRY_EVERY: Duration = Duration::from_secs(10);
/// How often the dead are looked through.
const PURGE_EVERY: Duration = Duration::from_secs(3600);
/// Outcomes that become records at once.
const OUTCOMES_MAX: usize = 200;

/// How a receiver is.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) account: outbox::Account,
    pub(crate) waiting: u64,
    /// The target has said that it is gone.
    pub(crate) gone: bool,
    pub(crate) paused_until_us: i64,
}

/// What all threads of delivery use.
pub(crate) struct Shared {
    db: Arc<Database>,
    store: Store,
    env: Env,
    bell: Bell,
    gatekeeper: Gatekeeper,
    /// The hub's id and its name.
    hub_id: String,
    hub: String,
    environment: String,
    receivers: Mutex<BTreeMap<String, Receiver>>,
    threads: Mutex<Threads>,
    /// What is wrong with receivers, a line each.
    problems: Mutex<Vec<String>>,
    board: Mutex<BTreeMap<String, State>>,
    posted: PostedAlerts,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receivers(&self) -> MutexGuard<'_, BTreeMap<String, Receiver>> {
        self.receivers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes these receivers from now on. Those that are the same go on; notices of those that are gone wait in case they
    /// come back.
    ///
    /// # Errors
    /// The database, or the system gives no thread.
    fn configure(
        self: &Arc<Self>,
        receivers: Vec<Receiver>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Threads { running, ending } = &mut *threads;
        ending.retain(|_, thread| !thread.is_finished());
        let receivers: BTreeMap<String, Receiver> =
            receivers.into_iter().map(|receiver| (receiver.name.clone(), receiver)).collect();
        self.receivers().clone_from(&receivers);
        let names: Vec<String> = running.keys().cloned().collect();
        for name in names {
            if running.get(&name).is_some_and(|of| receivers.get(&name) != Some(&of.receiver))
                && let Some(of) = running.remove(&name)
            {
                of.stopping.store(true, Ordering::Relaxed);
                self.board().remove(&name);
                ending.insert(name, of.thread);
            }
        }
        self.bell.ring();
        for (name, receiver) in receivers {
            if running.contains_key(&name) {
                continue;
            }
            let stopping = Arc::new(AtomicBool::new(false));
            let before = ending.remove(&name);
            let thread = {
                let (shared, receiver) = (Arc::clone(self), receiver.clone());
                let stopping = Arc::clone(&stopping);
                std::thread::Builder::new()
                    .name("threadline-tell".to_owned())
                    .spawn(move || tell(&shared, receiver, stopping, before))?
            };
            running.insert(name, Running { receiver, stopping, thread });
        }
        Ok(())
    }

    /// Takes the receivers of the alerts file. One that cannot be used stays as it was.
    fn take(self: &Arc<Self>, section: Option<&Node>, folder: &Path) -> bool {
        let (mut receivers, broken) =
            section.map(|section| config::receivers(section, folder)).unwrap_or_default();
        let known = self.receivers().clone();
        for Broken { name, fault } in &broken {
            match name {
                // Nothing of the section can be used.
                None => receivers.extend(known.values().cloned()),
                Some(name) if receivers.iter().any(|receiver| receiver.name == *name) => {}
                Some(name) => receivers.extend(known.get(name).cloned()),
            }
            tracing::error!("a receiver is not used as it stands in the alerts file: {fault}");
        }
        let problems = broken.iter().map(|broken| broken.fault.to_string()).collect();
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
        if let Err(error) = self.configure(receivers) {
            tracing::error!(%error, "not all receivers are told");
            return false;
        }
        broken.is_empty()
    }

    /// Removes the dead that nobody wanted, and gives up what has waited for as long for receivers that are no more.
    fn purge(&self, now_us: i64) -> Result<(), OutboxError> {
        let before_us = now_us - DEAD_KEPT_US;
        outbox::purge(&self.db, before_us)?;
        let known = self.receivers().clone();
        let is_known = |name: &str| known.contains_key(name);
        let outcome_of = |notice: &Notice, why: &str| self.lost(notice, why, now_us);
        let given_up = outbox::give_up(&self.db, before_us, now_us, is_known, outcome_of)?;
        if given_up > 0 {
            tracing::error!(given_up, "notices of receivers that the alerts file does not have are dead");
        }
        Ok(())
    }

    /// How a notice ends that nobody is there for.
    fn lost(&self, notice: &Notice, why: &str, now_us: i64) -> outbox::Outcome {
        let told = Telling {
            notice,
            title: String::new(),
            text: String::new(),
            hub_id: &self.hub_id,
            now_us,
            before: None,
        };
        outbox::Outcome { attempts: 0, ..outbox::Outcome::of(&told, &notice.receiver, "none", "dead", why) }
    }

    /// A notice of no incident.
    fn blank(&self, receiver: &str, now_us: i64) -> Notice {
        Notice {
            kind: Kind::Test,
            hub: self.hub.clone(),
            incident: 0,
            receiver: receiver.to_owned(),
            reason: Reason::Trigger,
            number: 1,
            at_us: now_us,
            title: String::new(),
            severity: "informational".to_owned(),
            state: "open".to_owned(),
            route: String::new(),
            group: BTreeMap::new(),
            rules: Vec::new(),
            services: Vec::new(),
            entities: Vec::new(),
            first_us: now_us,
            last_us: now_us,
            alerts: 0,
            active: 0,
            findings: 0,
            assignee: String::new(),
            url: String::new(),
            summary: String::new(),
        }
    }
}

/// A receiver as it is told to people.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Kind of its target; `None` when the settings do not have it any more.
    pub(crate) target: Option<&'static str>,
    pub(crate) figures: outbox::Figures,
    pub(crate) account: outbox::Account,
    /// The target has said that it is gone.
    pub(crate) gone: bool,
    pub(crate) paused_until_us: i64,
}

/// What the API and the metrics ask of delivery. Clones are the same.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    /// All receivers: those of the settings, and those that something waits for.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, OutboxError> {
        let mut figures = outbox::figures(&self.0.db)?;
        let receivers = self.0.receivers().clone();
        for name in receivers.keys() {
            figures.entry(name.clone()).or_default();
        }
        let mut listed = Vec::new();
        for (name, figures) in figures {
            let state = self.0.board().get(&name).cloned();
            let account = match &state {
                Some(state) => state.account.clone(),
                None => outbox::account(&self.0.db, &name)?,
            };
            listed.push(Listed {
                target: receivers.get(&name).map(|receiver| receiver.target.kind()),
                figures,
                account,
                gone: state.as_ref().is_some_and(|state| state.gone),
                paused_until_us: state.map_or(0, |state| state.paused_until_us),
                name,
            });
        }
        Ok(listed)
    }

    /// What is wrong with receivers of the alerts file, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.0.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Receivers of the settings with their states, without asking the disk.
    pub(crate) fn states(&self) -> BTreeMap<String, State> {
        self.0.board().clone()
    }

    /// Whether there is a receiver of this name, in the settings or in the outbox.
    pub(crate) fn knows(&self, name: &str) -> Result<bool, OutboxError> {
        Ok(self.0.receivers().contains_key(name) || outbox::knows(&self.0.db, name)?)
    }

    /// The dead of a receiver.
    pub(crate) fn dead(&self, name: &str, max: usize) -> Result<Vec<(u64, outbox::Dead)>, OutboxError> {
        outbox::dead(&self.0.db, name, max)
    }

    /// Has the dead of a receiver wait again; how many.
    pub(crate) fn replay(&self, name: &str, numbers: Option<&[u64]>) -> Result<u64, OutboxError> {
        let count = outbox::replay(&self.0.db, name, numbers, self.0.env.clock.now_us())?;
        self.0.bell.ring();
        Ok(count)
    }

    /// Sends a test to a receiver, past its queue; what the target said, and whether it took it. Blocks for as long as an
    /// attempt may take. `None` where the settings have no such receiver.
    pub(crate) fn test(&self, name: &str) -> Result<Option<(bool, String)>, OutboxError> {
        let Some(receiver) = self.0.receivers().get(name).cloned() else { return Ok(None) };
        let now_us = self.0.env.clock.now_us();
        let notice = Notice {
            // Seconds are number enough: two tests of one second are the same.
            number: u32::try_from(now_us / 1_000_000 % i64::from(u32::MAX)).unwrap_or(0),
            title: "Test: this is what a notice of this hub looks like".to_owned(),
            summary: "Somebody tried this receiver out. Nothing has happened.".to_owned(),
            services: vec![self.0.hub.clone()],
            rules: vec!["Test".to_owned()],
            ..self.0.blank(name, now_us)
        };
        let telling = receiver.telling(&notice, &self.0.hub_id, now_us, None);
        let answer = receiver::Sender::new(receiver.clone()).send(&telling);
        let taken = matches!(answer, http::Answer::Taken { .. });
        let outcome = if taken { "delivered" } else { "failed" };
        outbox::keep_outcome(
            &self.0.db,
            &outbox::Outcome::of(&telling, name, receiver.target.kind(), outcome, answer.said()),
        )?;
        self.0.bell.ring();
        Ok(Some((taken, answer.said().to_owned())))
    }

    /// Alerts that others post.
    pub(crate) fn posted(&self) -> &PostedAlerts {
        &self.0.posted
    }
}

/// Threads of receivers, by the receiver's name.
#[derive(Default)]
struct Threads {
    running: BTreeMap<String, Running>,
    /// Those that were told to stop, and may be in an attempt still. One that comes for the same name waits for it.
    ending: BTreeMap<String, JoinHandle<()>>,
}

struct Running {
    receiver: Receiver,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Delivery: a thread per receiver, and one that keeps what came of notices as records.
pub(crate) struct Notifier {
    shared: Arc<Shared>,
    stopping: Arc<AtomicBool>,
    clerk: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Starts delivery over the database of the incidents.
    ///
    /// # Errors
    /// The database cannot be used, or the system gives no thread.
    pub(crate) fn start(
        db: Arc<Database>,
        store: Store,
        env: Env,
        bell: Bell,
        environment: &str,
        gatekeeper: Gatekeeper,
        source: Option<Source>,
    ) -> Result<Notifier, Box<dyn std::error::Error + Send + Sync>> {
        let mut fresh_id = [0; 16];
        env.rng.fill(&mut fresh_id);
        outbox::prepare(&db, fresh_id)?;
        let shared = Arc::new(Shared {
            hub_id: outbox::hub_id(&db)?,
            hub: if environment.is_empty() { "threadline" } else { environment }.to_owned(),
            environment: environment.to_owned(),
            posted: PostedAlerts::open(Arc::clone(&db), gatekeeper.clone(), environment)?,
            gatekeeper,
            db,
            store,
            env,
            bell,
            receivers: Mutex::default(),
            threads: Mutex::default(),
            problems: Mutex::default(),
            board: Mutex::default(),
        });
        let stopping = Arc::new(AtomicBool::new(false));
        let clerk = {
            let (shared, stopping) = (Arc::clone(&shared), Arc::clone(&stopping));
            std::thread::Builder::new()
                .name("threadline-notify".to_owned())
                .spawn(move || clerk(&shared, source, &stopping))?
        };
        Ok(Notifier { shared, stopping, clerk: Some(clerk) })
    }

    /// For the API and the metrics.
    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Stops. Attempts in progress have some seconds; what they were of stays in the outbox.
    pub(crate) fn stop(mut self) {
        let until = self.shared.env.clock.monotonic() + STOP_GRACE;
        let end = |thread: JoinHandle<()>| {
            while !thread.is_finished() && self.shared.env.clock.monotonic() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!("a thread of delivery ended abnormally");
            }
        };
        // The clerk first: it starts threads.
        self.stopping.store(true, Ordering::Relaxed);
        self.shared.bell.ring();
        self.clerk.take().map(end);
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let Threads { running, ending } = threads;
        running.values().for_each(|of| of.stopping.store(true, Ordering::Relaxed));
        self.shared.bell.ring();
        ending.into_values().chain(running.into_values().map(|of| of.thread)).for_each(end);
        if let Err(error) = keep_outcomes(&self.shared) {
            tracing::error!(%error, "what came of notices is recorded at the next start");
        }
    }
}

/// The thread of a receiver: begins when the one before it has ended, so that the order is kept.
fn tell(shared: &Arc<Shared>, receiver: Receiver, stopping: Arc<AtomicBool>, before: Option<JoinHandle<()>>) {
    if before.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!(receiver = receiver.name, "the thread of a receiver ended abnormally");
    }
    while !stopping.load(Ordering::Relaxed) {
        match Worker::open(Arc::clone(shared), receiver.clone(), Arc::clone(&stopping)) {
            Ok(worker) => return worker.run(),
            Err(error) => {
                tracing::error!(receiver = receiver.name, %error, "notices wait");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

/// Where the section `receivers` comes from.
pub(crate) struct Source {
    /// The section as it is now.
    pub(crate) read: Box<dyn Fn() -> Option<Node> + Send>,
    /// Folder of the alerts file.
    pub(crate) folder: PathBuf,
}

/// Takes receivers as they change, keeps what came of notices as records, ends posted alerts, and removes the dead that
/// nobody wanted.
fn clerk(shared: &Arc<Shared>, source: Option<Source>, stopping: &AtomicBool) {
    let mut rung = 0;
    let mut purged: Option<Duration> = None;
    let mut section: Option<Option<Node>> = None;
    let mut again: Option<Duration> = None;
    while !stopping.load(Ordering::Relaxed) {
        if let Some(source) = &source {
            let now = shared.env.clock.monotonic();
            let fresh = (source.read)();
            if section.as_ref() != Some(&fresh) || again.is_some_and(|at| now >= at) {
                let all = shared.take(fresh.as_ref(), &source.folder);
                // What is missing may come: a secret that is mounted later.
                again = (!all).then_some(now + RETRY_EVERY);
                section = Some(fresh);
            }
        }
        if let Err(error) = keep_outcomes(shared) {
            tracing::error!(%error, "what came of notices is not recorded yet");
        }
        let now_us = shared.env.clock.now_us();
        if let Err(error) = shared.posted.sweep(&shared.store, now_us) {
            tracing::warn!(?error, "alerts that were posted are not ended yet");
        }
        let now = shared.env.clock.monotonic();
        if purged.is_none_or(|at| now.saturating_sub(at) >= PURGE_EVERY) {
            purged = Some(now);
            if let Err(error) = shared.purge(now_us) {
                tracing::error!(%error, "dead notices are not removed");
            }
        }
        rung = shared.bell.wait(rung, Duration::from_secs(1));
    }
}

fn keep_outcomes(shared: &Shared) -> Result<(), OutboxError> {
    let Shared { store, gatekeeper, environment, .. } = shared;
    let writer = Writer { store, gatekeeper, environment };
    loop {
        let outcomes = outbox::outcomes(&shared.db, OUTCOMES_MAX)?;
        let mut kept = Vec::new();
        for (number, outcome) in &outcomes {
            let id = record::id(&shared.hub_id, *number);
            match record::batch(writer, outcome, shared.env.clock.now_us()) {
                Ok(Some(batch)) => {
                    match shared.store.append_wait(Append { table: Table::Logs, id, batch }) {
                        Ok(_) => {}
                        Err(AppendError::TooLarge { reason }) => {
                            tracing::error!(reason, "what came of a notice can never be recorded");
                        }
                        // The store takes nothing: later.
                        Err(_) => break,
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "what came of a notice cannot be recorded"),
            }
            kept.push(*number);
        }
        if !kept.is_empty() {
            outbox::forget_outcomes(&shared.db, &kept)?;
        }
        if kept.len() < OUTCOMES_MAX {
            return Ok(());
        }
    }
}
