//! The thread of detection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustc_hash::FxHashSet;
use threadline_detect::baseline::{Anomaly, Baselines, Settings as BaselineSettings};
use threadline_detect::engine::{Engine, Limits};
use threadline_detect::finding::Finding;
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_store::{Append, AppendError, Env, Scope, Store, Tail, TailBatch};

use super::checkpoint::{self, Kept};
use super::record::{self, Record};
use super::rules::{compile, load, pack, states};
use super::{Board, observe};
use crate::contract::Gatekeeper;
use crate::door::watch::Watched;
use crate::files::yaml_paths;
use crate::own::Writer;
use crate::settings::Settings;

/// Records looked at before anything else is done.
const ROWS: usize = 8192;
/// How long new records are waited for at once.
const WAIT: Duration = Duration::from_millis(200);
/// How often what is remembered is kept; seldomer when it is so much that keeping it takes more than a twentieth of the
/// time.
const KEEP_EVERY: Duration = Duration::from_secs(10);
const KEEP_SHARE: u32 = 20;
/// How often files of rules are looked at, and the board is renewed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A thread that did not come round for so long was not there to hear: the machine slept, or the store took nothing.
const AWAY: Duration = Duration::from_secs(60);
/// The longest pause while the store takes nothing.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Records before the end that a hub without memory of them learns from, without telling what it finds.
const LEARN_SEQS: i64 = 1_000_000;
/// How often it is told that detection lags, while it does.
const LAG_TOLD_EVERY: Duration = Duration::from_secs(600);
/// Riskiest entities on the board.
const RISKS_MAX: usize = 50;

/// What the thread has.
pub(super) struct Runner {
    store: Store,
    env: Env,
    gatekeeper: Gatekeeper,
    /// What environment findings are of.
    environment: String,
    board: Board,
    data: PathBuf,
    builtin: bool,
    folder: Option<PathBuf>,
    watched: Watched,
    engine: Engine,
    /// `None` where they are not kept.
    baselines: Option<Baselines>,
    tail: Tail,
    /// Up to this sequence number nothing is told.
    quiet_until: i64,
    /// Ids of findings that were kept after what is remembered was: the records that gave them are read again.
    known: FxHashSet<u128>,
    /// Up to this sequence number that may be so.
    known_until: i64,
    /// A finding was not kept when the hub stopped: what is remembered is not kept either, so that it is found again.
    behind: bool,
    stopping: Arc<AtomicBool>,
    lag_max: Duration,
    /// When it was told that detection lags, µs; `None` while it does not.
    lag_told_us: Option<i64>,
    kept_at: Duration,
    keep_every: Duration,
    looked_at: Duration,
    /// When it last came round, µs of the wall clock.
    round_us: i64,
}

/// Has rules learn from the records before one, and tell nothing: what was remembered by another version is lost, and all
/// that is usual would be new to them.
fn learn(engine: &mut Engine, store: &Store, before: i64) {
    let mut tail = store.tail_of((before - LEARN_SEQS).max(1), Scope::All);
    while tail.position() < before {
        let batches = match tail.next(ROWS) {
            Ok(batches) if batches.is_empty() => return,
            Ok(batches) => batches,
            Err(error) => {
                tracing::error!(%error, "rules learn no more from what is stored");
                return;
            }
        };
        for TailBatch { table, batch } in &batches {
            let seqs = Batch::new(batch).int("seq");
            let rows =
                (0..batch.num_rows()).take_while(|row| seqs.get(*row).is_some_and(|seq| seq < before)).count();
            engine.step(&batch.slice(0, rows), *table);
        }
    }
}

impl Runner {
    /// Takes up where the last run ended.
    pub(super) fn open(
        settings: &Settings,
        store: Store,
        env: Env,
        gatekeeper: Gatekeeper,
        board: Board,
        stopping: Arc<AtomicBool>,
    ) -> Runner {
        let (builtin, folder) = (settings.rules_builtin, settings.rules_dir.clone());
        let loaded = load(builtin, folder.as_deref()).unwrap_or_else(|reason| {
            tracing::error!("the company's rules are not used: {reason}");
            let mut loaded = compile(&if builtin { pack() } else { Vec::new() });
            loaded.problems.push(reason);
            loaded
        });
        let data = settings.data_dir.clone();
        let kept = checkpoint::read(&data).unwrap_or_else(|reason| {
            tracing::error!("detection begins anew: {reason}");
            checkpoint::put_aside(&data);
            None
        });
        let last = store.stats().last_seq;
        let kept = kept.unwrap_or_else(|| {
            let fresh = Kept { next_seq: (last - LEARN_SEQS).max(1), quiet_until: last, ..Kept::default() };
            // Or a crash before the next time would make what comes until then count as learnt.
            keep(&data, &fresh);
            fresh
        });
        let limits = Limits::default();
        let mut engine = Engine::new(Arc::clone(&loaded.rules), limits);
        if !kept.engine.is_empty() {
            match Engine::restore(Arc::clone(&loaded.rules), limits, &kept.engine) {
                Ok((restored, _)) => engine = restored,
                Err(error) => {
                    tracing::error!(%error, "rules begin anew");
                    learn(&mut engine, &store, kept.next_seq);
                }
            }
        }
        let mut baselines =
            settings.baselines.then(|| Baselines::new(BaselineSettings::default())).and_then(Result::ok);
        if baselines.is_some() && !kept.baselines.is_empty() {
            match Baselines::restore(BaselineSettings::default(), &kept.baselines) {
                Ok(restored) => baselines = Some(restored),
                Err(error) => tracing::error!(%error, "baselines begin anew"),
            }
        }
        let known = record::kept_since(&store, kept.next_seq.max(kept.quiet_until)).unwrap_or_else(|error| {
            tracing::error!(%error, "findings of the last run cannot be read: some may be kept again");
            FxHashSet::default()
        });
        let (now, now_us) = (env.clock.monotonic(), env.clock.now_us());
        // Until now the hub was away.
        engine.resume(now_us);
        {
            let mut status = board.lock();
            status.running = true;
            status.rules = states(&loaded.rules);
            status.problems = loaded.problems;
        }
        // What is in quarantine, too: what a sender malforms must not go out of sight.
        let tail = store.tail_of(kept.next_seq, Scope::All);
        let paths = folder.as_deref().and_then(|folder| yaml_paths(folder).ok());
        Runner {
            store,
            env,
            gatekeeper,
            environment: settings.environment.clone(),
            board,
            data,
            builtin,
            folder,
            watched: Watched::look(paths.unwrap_or_default()),
            engine,
            baselines,
            tail,
            quiet_until: kept.quiet_until,
            known,
            known_until: last,
            behind: false,
            stopping,
            lag_max: settings.detection_lag_max,
            lag_told_us: None,
            kept_at: now,
            keep_every: KEEP_EVERY,
            looked_at: now,
            round_us: now_us,
        }
    }

    /// Reads until it is told to stop.
    pub(super) fn run(mut self) {
        while !self.stopping.load(Ordering::Relaxed) {
            let now_us = self.env.clock.now_us();
            if now_us.saturating_sub(self.round_us) > AWAY.as_micros() as i64 {
                self.engine.resume(now_us);
            }
            self.round_us = now_us;
            match self.tail.next(ROWS) {
                Ok(batches) if batches.is_empty() => {
                    self.idle();
                    self.tail.wait(WAIT);
                }
                Ok(batches) => batches.iter().for_each(|batch| self.look(batch)),
                Err(error) => {
                    tracing::error!(%error, "detection cannot read records: it tries again");
                    std::thread::sleep(PAUSE_MAX);
                }
            }
            self.housekeeping();
        }
        self.keep();
    }

    fn look(&mut self, TailBatch { table, batch }: &TailBatch) {
        let last = batch.num_rows().saturating_sub(1);
        let seq = Batch::new(batch).int("seq").get(last).unwrap_or(i64::MAX);
        let quiet = seq <= self.quiet_until;
        let findings = self.engine.step(batch, *table);
        let mut anomalies = Vec::new();
        if let Some(baselines) = &mut self.baselines {
            observe::batch(baselines, batch, *table, |baselines, now_us| {
                if quiet {
                    baselines.learn(now_us);
                } else {
                    anomalies.extend(baselines.advance(now_us));
                }
            });
        }
        if !quiet {
            self.tell(&findings, &anomalies);
            self.tell_lag(Batch::new(batch).int("arrival_ts").get(0), seq);
        }
        if seq > self.known_until {
            self.known = FxHashSet::default();
        }
    }

    /// Nothing has come: time has passed all the same.
    fn idle(&mut self) {
        let now_us = self.env.clock.now_us();
        let findings = self.engine.advance(now_us);
        let anomalies = self.baselines.as_mut().map(|baselines| baselines.advance(now_us)).unwrap_or_default();
        self.tell(&findings, &anomalies);
        if self.lag_told_us.take().is_some() {
            self.append(&Record::of_lag(None, now_us, self.tail.position()));
        }
    }

    /// Tells that records are looked at long after they arrived: what watches is to be watched, too.
    fn tell_lag(&mut self, arrival_us: Option<i64>, seq: i64) {
        let now_us = self.env.clock.now_us();
        let lag_us = now_us.saturating_sub(arrival_us.unwrap_or(now_us));
        let is_told = |told: i64| now_us.saturating_sub(told) < LAG_TOLD_EVERY.as_micros() as i64;
        if lag_us > self.lag_max.as_micros() as i64 && !self.lag_told_us.is_some_and(is_told) {
            self.lag_told_us = Some(now_us);
            self.append(&Record::of_lag(Some(lag_us), now_us, seq));
        }
    }

    fn tell(&mut self, findings: &[Finding], anomalies: &[Anomaly]) {
        for finding in findings {
            let record = Record::of_finding(finding);
            if self.known.contains(&record.id.0) {
                continue;
            }
            if let Some(rule) = self.board.lock().rules.iter_mut().find(|rule| *rule.id == *finding.rule_id) {
                rule.findings += 1;
                rule.last_us = rule.last_us.max(Some(finding.time_us));
            }
            self.append(&record);
        }
        for record in anomalies.iter().map(Record::of_anomaly) {
            if !self.known.contains(&record.id.0) {
                self.append(&record);
            }
        }
    }

    /// Keeps a record; while the store takes nothing, detection waits.
    fn append(&mut self, record: &Record) {
        loop {
            let now_us = self.env.clock.now_us();
            let (store, gatekeeper, environment) = (&self.store, &self.gatekeeper, &self.environment);
            let refused = match record.batch(Writer { store, gatekeeper, environment }, now_us) {
                Ok(Some(batch)) => {
                    self.store.append_wait(Append { table: Table::Logs, id: record.id, batch }).err()
                }
                Ok(None) => Some(AppendError::TooLarge { reason: "nothing is left of it".to_owned() }),
                Err(error) => Some(AppendError::TooLarge { reason: error.to_string() }),
            };
            let pause = match refused {
                None => {
                    self.board.lock().kept += 1;
                    return;
                }
                Some(AppendError::TooLarge { reason }) => {
                    tracing::error!(reason, "a finding can never be kept");
                    self.board.lock().lost += 1;
                    return;
                }
                Some(AppendError::Busy { retry_after, .. }) => retry_after.min(PAUSE_MAX),
                Some(AppendError::Unavailable { .. }) => PAUSE_MAX,
            };
            if self.stopping.load(Ordering::Relaxed) {
                self.behind = true;
                return;
            }
            std::thread::sleep(pause);
        }
    }

    fn housekeeping(&mut self) {
        let now = self.env.clock.monotonic();
        if now.saturating_sub(self.looked_at) >= LOOK_EVERY {
            self.looked_at = now;
            self.reload();
            let (groups, group_bytes) = self.engine.state_size();
            let mut status = self.board.lock();
            status.stats = self.engine.stats();
            (status.groups, status.group_bytes) = (groups, group_bytes);
            status.next_seq = self.tail.position();
            status.risks = self
                .engine
                .risks(RISKS_MAX)
                .into_iter()
                .map(|(entity, risk)| (entity.field.to_string(), entity.value, risk))
                .collect();
            if let Some(baselines) = &self.baselines {
                (status.baselines, status.series) = (baselines.counters(), baselines.series());
            }
        }
        if now.saturating_sub(self.kept_at) >= self.keep_every {
            self.keep();
        }
    }

    /// Takes the folder's rules anew when a file has changed. While the folder cannot be listed they stay as they are.
    fn reload(&mut self) {
        let Some(folder) = &self.folder else { return };
        let Ok(paths) = yaml_paths(folder) else { return };
        let watched = Watched::look(paths);
        if watched == self.watched {
            return;
        }
        let Ok(loaded) = load(self.builtin, Some(folder)) else { return };
        self.watched = watched;
        let restored = self.engine.replace_rules(Arc::clone(&loaded.rules));
        tracing::info!(
            rules = loaded.rules.len(),
            problems = loaded.problems.len(),
            forgotten = restored.forgotten,
            "rules read"
        );
        let mut fresh = states(&loaded.rules);
        let mut status = self.board.lock();
        for rule in &mut fresh {
            if let Some(before) = status.rules.iter().find(|before| before.id == rule.id) {
                (rule.findings, rule.last_us) = (before.findings, before.last_us);
            }
        }
        status.rules = fresh;
        status.problems = loaded.problems;
    }

    /// Keeps what is remembered. All findings up to here are in the store.
    fn keep(&mut self) {
        if self.behind {
            return;
        }
        let begun = self.env.clock.monotonic();
        let kept = Kept {
            next_seq: self.tail.position(),
            quiet_until: self.quiet_until,
            engine: self.engine.checkpoint(),
            baselines: self.baselines.as_ref().map(Baselines::checkpoint).unwrap_or_default(),
        };
        keep(&self.data, &kept);
        self.kept_at = self.env.clock.monotonic();
        self.keep_every = KEEP_EVERY.max(self.kept_at.saturating_sub(begun) * KEEP_SHARE);
    }
}

fn keep(data: &Path, kept: &Kept) {
    if let Err(error) = checkpoint::write(data, kept) {
        tracing::error!(%error, "what detection remembers could not be kept");
    }
}
