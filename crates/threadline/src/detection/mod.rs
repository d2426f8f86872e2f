//! Detection in a running hub: reads the durable tail of the store, and keeps what is found as records of it.
//!
//! One thread reads, so detection may lag and never slows ingestion. Nothing is looked at before it is durable; a
//! finding is kept under an id that is a hash of what was found, so that records which are read again after a crash give
//! no second one. What detection remembers is written to a file every few seconds, never before the findings are kept.
//!
//! It does not know what a rule means ([`threadline_detect`]) or who is told.

mod backtest;
mod checkpoint;
mod observe;
mod pushdown;
mod record;
mod rules;
mod runner;
mod tune;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use threadline_detect::baseline::Counters;
use threadline_detect::engine::Stats;
use threadline_store::{Env, Store};

use crate::contract::Gatekeeper;
use crate::settings::Settings;
pub(crate) use backtest::{Backtest, backtest, json_of};
pub(crate) use rules::{Loaded, compile, compile_with, pack, read_files};
pub(crate) use tune::{Question, compiler, tune};

/// A rule and what came of it since the hub's start.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleState {
    /// Its id; its title where it has none.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) level: &'static str,
    pub(crate) tags: Vec<String>,
    pub(crate) references: Vec<String>,
    pub(crate) false_positives: Vec<String>,
    /// Where it stands.
    pub(crate) file: String,
    pub(crate) line: usize,
    /// Tests that stand in it.
    pub(crate) tests: usize,
    /// Findings since the start, and the event time of the last, µs.
    pub(crate) findings: u64,
    pub(crate) last_us: Option<i64>,
}

/// How detection goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// Whether it runs.
    pub(crate) running: bool,
    pub(crate) rules: Vec<RuleState>,
    /// What is wrong with rules, a line each.
    pub(crate) problems: Vec<String>,
    pub(crate) stats: Stats,
    pub(crate) baselines: Counters,
    pub(crate) series: usize,
    /// Groups that are remembered, and their bytes.
    pub(crate) groups: usize,
    pub(crate) group_bytes: usize,
    /// The next sequence number that is looked at.
    pub(crate) next_seq: i64,
    /// Findings that were kept, and that the store can never take.
    pub(crate) kept: u64,
    pub(crate) lost: u64,
    /// Entity and risk, the riskiest first.
    pub(crate) risks: Vec<(String, String, u32)>,
}

/// Where detection says how it goes. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<Status>>);

impl Board {
    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that detects.
#[derive(Debug)]
pub(crate) struct Detection {
    board: Board,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Detection {
    /// Starts it, unless the settings say no.
    ///
    /// # Errors
    /// When the system gives no thread. Rules that are broken are on the board, and keep no other from being used.
    pub(crate) fn start(
        settings: &Settings,
        store: &Store,
        env: &Env,
        gatekeeper: &Gatekeeper,
    ) -> std::io::Result<Detection> {
        let board = Board::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut detection = Detection { board: board.clone(), stopping: Arc::clone(&stopping), thread: None };
        if settings.detection {
            let (settings, store, env) = (settings.clone(), store.clone(), env.clone());
            let gatekeeper = gatekeeper.clone();
            let run = move || runner::Runner::open(&settings, store, env, gatekeeper, board, stopping).run();
            let thread = std::thread::Builder::new().name("threadline-detect".to_owned()).spawn(run)?;
            detection.thread = Some(thread);
        }
        Ok(detection)
    }

    /// Where it says how it goes.
    pub(crate) fn board(&self) -> Board {
        self.board.clone()
    }

    /// Keeps what it remembers, and ends.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of detection ended abnormally");
        }
    }
}
