//! The thread of detection.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use threadline_detect::baseline::{Baselines, Settings as BaselineSettings};
use threadline_detect::engine::{Engine, Limits};
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_store::{Append, AppendError, Env, Store, Tail, TailBatch};

use super::checkpoint::{self, Kept};
use super::record::Record;
use super::rules::{load, states};
use super::{Board, observe};
use crate::door::watch::Watched;
use crate::files::yaml_paths;
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
/// How often a finding is tried while the store takes nothing, and the longest pause in between.
const ATTEMPTS_MAX: u32 = 60;
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Records before the end that a hub without memory of them learns from, without telling what it finds.
const LEARN_SEQS: i64 = 1_000_000;
/// Riskiest entities on the board.
const RISKS_MAX: usize = 50;

/// What the thread has.
pub(super) struct Runner {
    store: Store,
    env: Env,
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
    kept_at: Duration,
    keep_every: Duration,
    looked_at: Duration,
}

impl Runner {
    /// Takes up where the last run ended.
    pub(super) fn open(settings: &Settings, store: Store, env: Env, board: Board) -> Runner {
        let (builtin, folder) = (settings.rules_builtin, settings.rules_dir.clone());
        let loaded = load(builtin, folder.as_deref());
        let data = settings.data_dir.clone();
        let kept = checkpoint::read(&data).unwrap_or_else(|reason| {
            tracing::error!("detection begins anew: {reason}");
            None
        });
        let limits = Limits::default();
        let fresh = BaselineSettings::default;
        let mut engine = Engine::new(Arc::clone(&loaded.rules), limits);
        let mut baselines = settings.baselines.then(|| Baselines::new(fresh())).and_then(Result::ok);
        let last = store.stats().last_seq;
        let (mut next_seq, mut quiet_until) = ((last - LEARN_SEQS).max(1), last);
        if let Some(kept) = kept {
            (next_seq, quiet_until) = (kept.next_seq, 0);
            match Engine::restore(Arc::clone(&loaded.rules), limits, &kept.engine) {
                Ok((restored, _)) => engine = restored,
                Err(error) => tracing::error!(%error, "rules begin anew"),
            }
            if baselines.is_some() {
                match Baselines::restore(fresh(), &kept.baselines) {
                    Ok(restored) => baselines = Some(restored),
                    Err(error) => tracing::error!(%error, "baselines begin anew"),
                }
            }
        }
        let now = env.clock.monotonic();
        {
            let mut status = board.lock();
            status.running = true;
            status.rules = states(&loaded.rules);
            status.problems = loaded.problems;
        }
        let tail = store.tail(next_seq);
        let watched = Watched::look(folder.iter().flat_map(|folder| yaml_paths(folder)));
        Runner {
            store,
            env,
            board,
            data,
            builtin,
            folder,
            watched,
            engine,
            baselines,
            tail,
            quiet_until,
            kept_at: now,
            keep_every: KEEP_EVERY,
            looked_at: now,
        }
    }

    /// Reads until it is told to stop.
    pub(super) fn run(mut self, stopping: &AtomicBool) {
        while !stopping.load(Ordering::Relaxed) {
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
        let columns = Batch::new(batch);
        let last = batch.num_rows().saturating_sub(1);
        let now_us = columns.int("arrival_ts").get(last).unwrap_or_else(|| self.env.clock.now_us());
        let seq = columns.int("seq").get(last).unwrap_or(i64::MAX);
        let mut records: Vec<Record> = Vec::new();
        let findings = self.engine.step(batch, *table, now_us);
        for finding in &findings {
            records.push(Record::of_finding(finding));
        }
        if seq > self.quiet_until {
            let mut status = self.board.lock();
            for finding in &findings {
                let rule = status.rules.iter_mut().find(|rule| *rule.id == *finding.rule_id);
                if let Some(rule) = rule {
                    rule.findings += 1;
                    rule.last_us = Some(rule.last_us.unwrap_or(i64::MIN).max(finding.time_us));
                }
            }
        }
        if let Some(baselines) = &mut self.baselines {
            observe::batch(baselines, batch, *table);
            self.engine.observations().iter().for_each(|seen| observe::rule(baselines, seen));
            if seq > self.quiet_until {
                records.extend(baselines.advance(now_us).iter().map(Record::of_anomaly));
            } else {
                baselines.learn(now_us);
            }
        }
        if seq > self.quiet_until {
            records.iter().for_each(|record| self.append(record));
        }
    }

    /// Nothing has come: time has passed all the same.
    fn idle(&mut self) {
        let now_us = self.env.clock.now_us();
        let mut records: Vec<Record> = self.engine.advance(now_us).iter().map(Record::of_finding).collect();
        if let Some(baselines) = &mut self.baselines {
            records.extend(baselines.advance(now_us).iter().map(Record::of_anomaly));
        }
        records.iter().for_each(|record| self.append(record));
    }

    /// Keeps a record; while the store takes nothing, detection waits.
    fn append(&self, record: &Record) {
        for _ in 0..ATTEMPTS_MAX {
            let batch = match record.batch(&self.store, self.env.clock.now_us()) {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "a finding could not be built");
                    break;
                }
            };
            match self.store.append_wait(Append { table: Table::Logs, id: record.id, batch }) {
                Ok(_) => {
                    self.board.lock().kept += 1;
                    return;
                }
                Err(AppendError::Busy { retry_after, .. }) => std::thread::sleep(retry_after.min(PAUSE_MAX)),
                Err(error) => {
                    tracing::error!(%error, "a finding is not kept");
                    break;
                }
            }
        }
        self.board.lock().lost += 1;
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

    /// Takes the folder's rules anew when a file has changed.
    fn reload(&mut self) {
        let Some(folder) = &self.folder else { return };
        let watched = Watched::look(yaml_paths(folder));
        if watched == self.watched {
            return;
        }
        self.watched = watched;
        let loaded = load(self.builtin, self.folder.as_deref());
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
        let begun = self.env.clock.monotonic();
        let kept = Kept {
            next_seq: self.tail.position(),
            engine: self.engine.checkpoint(),
            baselines: self.baselines.as_ref().map(Baselines::checkpoint).unwrap_or_default(),
        };
        if let Err(error) = checkpoint::write(&self.data, &kept) {
            tracing::error!(%error, "what detection remembers could not be kept");
        }
        self.kept_at = self.env.clock.monotonic();
        self.keep_every = KEEP_EVERY.max(self.kept_at.saturating_sub(begun) * KEEP_SHARE);
    }
}
