//! Incidents in a running hub: findings become something that people work with, and are told of.
//!
//! One thread ([`keeper`]) reads findings out of the store, gives them to the state machine
//! ([`threadline_detect::incident`]), and commits what came of it to one database ([`book`]): incidents, their timelines,
//! where reading goes on, what receivers are to be told ([`crate::notify`]), and the transitions whose audit records are
//! still to be made. All of a step is in one commit, so whatever kills the hub, nothing is lost and nothing is done twice.
//!
//! It does not know how something is found, or how a receiver is reached.

mod blast;
mod book;
mod entity;
mod evidence;
mod finding;
mod keeper;
mod markdown;
mod notice;
mod ocsf;
mod policy;
mod records;
mod transition;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use threadline_detect::incident::{Command, Desk, Transition};
use threadline_model::yaml::Node;
use threadline_store::{Env, Store};

use crate::contract::Gatekeeper;
use crate::notify;
use crate::settings::Settings;
pub(crate) use book::{Book, Merged};
pub(crate) use evidence::{Report, Summary, Taken};
pub(crate) use keeper::Denied;
pub(crate) use markdown::markdown;
pub(crate) use ocsf::ocsf;
pub(crate) use policy::Alerts;

/// Commands that wait at most.
const ASKS_MAX: usize = 256;
/// How long somebody waits for theirs.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Severities, the worst first.
pub(crate) const SEVERITIES: [&str; 5] = ["critical", "high", "medium", "low", "informational"];

/// What whoever is told must know of the hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telling {
    /// The hub's name, for people.
    hub: String,
    /// What environment its records are of; may be empty.
    environment: String,
    /// Where people reach its pages; empty: not known.
    public_url: String,
    /// Wakes delivery.
    bell: notify::Bell,
    /// The alerts file.
    file: Option<PathBuf>,
}

impl Telling {
    /// Address of an incident's page; empty where the hub does not know its own.
    fn page(&self, incident: u64) -> String {
        notify::page_of(&self.public_url, incident)
    }
}

/// How it goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) running: bool,
    /// Why the last commit failed, or why nothing runs.
    pub(crate) problem: Option<String>,
    /// What is wrong with the alerts file, which is as it was before.
    pub(crate) alerts_problem: Option<String>,
    /// Where findings are read from.
    pub(crate) next_seq: i64,
    /// Since the hub's start.
    pub(crate) opened: u64,
    pub(crate) transitions: u64,
    /// Transitions whose audit records the store has not taken yet.
    pub(crate) unrecorded: usize,
    /// Live incidents by severity, the worst first.
    pub(crate) live: [usize; 5],
    pub(crate) silences: usize,
}

/// Why something was not answered.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Incidents are switched off, or cannot be kept.
    NotRunning(String),
    /// Too many commands wait, or the hub is too slow.
    Busy(&'static str),
    /// The command was not done.
    Denied(Denied),
}

/// Where incidents are read, and commands are given. Clones are the same board.
#[derive(Clone, Debug)]
pub(crate) struct Board(Arc<State>);

#[derive(Debug)]
enum State {
    Off(String),
    On {
        book: Book,
        shared: Arc<Mutex<keeper::Shared>>,
        status: Arc<Mutex<Status>>,
        asks: SyncSender<keeper::Ask>,
    },
}

impl Default for Board {
    /// Of a folder that no hub runs on.
    fn default() -> Board {
        Board::off("incidents are kept by a running hub: ask it (--hub)")
    }
}

impl Board {
    fn off(why: &str) -> Board {
        Board(Arc::new(State::Off(why.to_owned())))
    }

    /// How it goes.
    pub(crate) fn status(&self) -> Status {
        match &*self.0 {
            State::Off(why) => Status { problem: Some(why.clone()), ..Status::default() },
            State::On { status, .. } => keeper::lock(status).clone(),
        }
    }

    /// Reads what is committed. Blocks, and the lock is held: be short.
    ///
    /// # Errors
    /// Nothing runs.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Desk, &Book) -> T) -> Result<T, Failure> {
        match &*self.0 {
            State::Off(why) => Err(Failure::NotRunning(why.clone())),
            State::On { book, shared, .. } => {
                let shared = keeper::lock(shared);
                match &shared.off {
                    Some(why) => Err(Failure::NotRunning(why.clone())),
                    None => Ok(read(&shared.desk, book)),
                }
            }
        }
    }

    /// The database, where delivery finds its outbox; `None` where nothing runs.
    pub(crate) fn database(&self) -> Option<Arc<redb::Database>> {
        match &*self.0 {
            State::Off(_) => None,
            State::On { book, .. } => Some(book.database()),
        }
    }

    /// The section `receivers` of the alerts file as it is used now; `None` where there is none.
    pub(crate) fn receivers(&self) -> Option<Node> {
        match &*self.0 {
            State::Off(_) => None,
            State::On { shared, .. } => keeper::lock(shared).alerts.receivers.clone(),
        }
    }

    /// Does what somebody wants, and returns when it is committed. Blocks.
    ///
    /// # Errors
    /// Why it was not done.
    pub(crate) fn command(&self, actor: &str, command: Command) -> Result<Vec<Transition>, Failure> {
        let asks = match &*self.0 {
            State::Off(why) => return Err(Failure::NotRunning(why.clone())),
            State::On { asks, .. } => asks,
        };
        self.read(|_, _| ())?;
        let (answer, answered) = sync_channel(1);
        let ask = keeper::Ask { actor: actor.to_owned(), command, answer };
        asks.try_send(ask).map_err(|error| match error {
            TrySendError::Full(_) => Failure::Busy("too many commands wait: try again in a moment"),
            TrySendError::Disconnected(_) => Failure::NotRunning("the hub is stopping".to_owned()),
        })?;
        match answered.recv_timeout(ANSWER_WITHIN) {
            Ok(done) => done.map_err(Failure::Denied),
            Err(RecvTimeoutError::Timeout) => {
                Err(Failure::Busy("the hub did not come to it in time: look whether it was done"))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Failure::NotRunning("the hub is stopping".to_owned())),
        }
    }
}

/// The thread that keeps incidents.
pub(crate) struct Incidents {
    board: Board,
    bell: notify::Bell,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Incidents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incidents").field("board", &self.board).finish_non_exhaustive()
    }
}

impl Incidents {
    /// Starts it, unless the settings say no. A book or an alerts file that cannot be read is on the board, and keeps
    /// records from nobody.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        settings: &Settings,
        store: &Store,
        env: &Env,
        gatekeeper: &Gatekeeper,
    ) -> std::io::Result<Incidents> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut incidents = Incidents {
            board: Board::off("incidents are switched off (setting `incidents`)"),
            bell: notify::Bell::default(),
            stopping: Arc::clone(&stopping),
            thread: None,
        };
        if !settings.incidents {
            return Ok(incidents);
        }
        let mut alerts_problem = None;
        let alerts = settings.alerts_file.as_deref().map(Alerts::read);
        let alerts = alerts.unwrap_or_else(|| Ok(Alerts::default())).unwrap_or_else(|reason| {
            tracing::error!("the alerts file is not used: {reason}");
            alerts_problem = Some(reason);
            Alerts::default()
        });
        let hub = if settings.environment.is_empty() { "threadline" } else { &settings.environment };
        let telling = Telling {
            environment: settings.environment.clone(),
            hub: hub.to_owned(),
            public_url: settings.public_url.clone(),
            bell: incidents.bell.clone(),
            file: settings.alerts_file.clone(),
        };
        let (asks, asked) = sync_channel(ASKS_MAX);
        // What was found before incidents were kept opens none.
        let opened = Book::open(&settings.data_dir, store.stats().last_seq + 1).and_then(|book| {
            let (store, env, gatekeeper) = (store.clone(), env.clone(), gatekeeper.clone());
            let opened = book.clone();
            let keeper =
                keeper::Keeper::open(store, env, gatekeeper, opened, alerts, telling, asked, stopping)?;
            Ok((book, keeper))
        });
        let prepared = opened.and_then(|(book, keeper)| {
            let mut hub_id = [0; 16];
            env.rng.fill(&mut hub_id);
            notify::outbox::prepare(&book.database(), hub_id)?;
            Ok((book, keeper))
        });
        let (book, keeper) = match prepared {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%error, "incidents are not kept: incidents/book.redb cannot be used");
                let why = format!(
                    "incidents/book.redb in the data folder cannot be used: {error}; restore it, or move it away to begin anew"
                );
                incidents.board = Board::off(&why);
                return Ok(incidents);
            }
        };
        let (shared, status) = (keeper.shared(), keeper.status());
        keeper::lock(&status).alerts_problem = alerts_problem;
        let thread = std::thread::Builder::new().name("threadline-incidents".to_owned());
        incidents.thread = Some(thread.spawn(move || keeper.run())?);
        incidents.board = Board(Arc::new(State::On { book, shared, status, asks }));
        Ok(incidents)
    }

    /// Where incidents are read, and commands are given.
    pub(crate) fn board(&self) -> Board {
        self.board.clone()
    }

    /// Rings when notices have been committed.
    pub(crate) fn bell(&self) -> notify::Bell {
        self.bell.clone()
    }

    /// Keeps what was found to the last, and ends.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of incidents ended abnormally");
        }
    }
}

/// Names with how often each came, the most frequent first.
fn ranked(counts: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut ranked: Vec<(String, u64)> = counts.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranked
}
