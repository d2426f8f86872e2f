//! What is encoded and not yet with the host: in memory while the host answers, on disk while it is away.
//!
//! Order within a lane: memory is older than disk. While anything is on disk nothing new is put into memory; when the host goes
//! away, what is in memory moves to the front of the disk.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::spool::{PAYLOAD_BYTES_MAX, Refused, Spool};
use super::{Batch, Loss, Losses};
use crate::Error;

/// Bytes in memory while the host answers.
const MEMORY_BYTES: usize = 8 << 20;
/// Bytes in memory where there is no disk.
const MEMORY_BYTES_NO_DISK: usize = 16 << 20;
/// Processes that may share one folder.
const SLOTS_MAX: usize = 64;

/// A sequence of batches.
#[derive(Debug, Default)]
struct Lane {
    memory: VecDeque<Batch>,
    memory_bytes: usize,
    spool: Option<Spool>,
    /// Of audit: what the host will never take. It stays there for people to look at.
    refused: Option<Spool>,
}

impl Lane {
    fn on_disk(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !spool.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.memory.is_empty() && !self.on_disk()
    }

    fn push(&mut self, batch: Batch) {
        self.memory_bytes += batch.payload.len();
        self.memory.push_back(batch);
    }

    fn front(&mut self) -> Option<Batch> {
        self.memory.front().cloned().or_else(|| self.spool.as_mut()?.front())
    }

    fn pop(&mut self, batch: &Batch) {
        if let Some(gone) = self.memory.pop_front() {
            self.memory_bytes -= gone.payload.len();
        } else if let Some(spool) = &mut self.spool {
            spool.pop(batch);
        }
    }

    /// Moves what is in memory to disk.
    fn settle(&mut self) {
        let Some(spool) = self.spool.as_mut().filter(|_| !self.memory.is_empty()) else { return };
        if spool.prepend(&self.memory).is_ok() {
            self.memory.clear();
            self.memory_bytes = 0;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    audit: Lane,
    usual: Lane,
    /// What other processes have left behind: it is sent when nothing else waits. A lock goes with each.
    left: Vec<(File, Lane)>,
    /// Locks of the folders in use.
    lock: Option<File>,
    away: bool,
    /// Requests that were tried, so that whoever flushes can tell that one was.
    tries: u64,
    closed: bool,
}

/// Which lane a batch came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Audit,
    Usual,
    Left,
}

/// Whether a batch that the host will never take is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aside {
    Kept,
    /// It should be, and the disk has no room: where it lies now is the only place.
    Failed,
    /// Only audit is.
    No,
}

/// The outbox.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
    losses: Losses,
}

impl Outbox {
    /// Opens the folder of the spool; `None` keeps everything in memory.
    ///
    /// # Errors
    /// What is wrong with the folder.
    pub(crate) fn open(folder: Option<&Path>, bytes_max: u64, losses: Losses) -> Result<Outbox, Error> {
        let mut state = State::default();
        if let Some(folder) = folder {
            let wrong = |error: std::io::Error| {
                let text = format!("the spool folder {}: {error}; set `dir` under [spool]", folder.display());
                Error::System(text)
            };
            for slot in 0..SLOTS_MAX {
                let place = folder.join(format!("slot-{slot}"));
                let first = state.lock.is_none();
                if !first && !place.exists() {
                    break;
                }
                std::fs::create_dir_all(&place).map_err(wrong)?;
                let lock = File::create(place.join("lock")).map_err(wrong)?;
                if lock.try_lock().is_err() {
                    continue;
                }
                let spool = |name: &str, bytes_max| Spool::open(&place.join(name), bytes_max).map_err(wrong);
                let audit = Lane {
                    spool: Some(spool("audit", u64::MAX)?),
                    refused: Some(spool("audit-refused", u64::MAX)?),
                    ..Lane::default()
                };
                let usual = Lane { spool: Some(spool("records", bytes_max)?), ..Lane::default() };
                if first {
                    (state.audit, state.usual, state.lock) = (audit, usual, Some(lock));
                } else if !audit.is_empty() || !usual.is_empty() {
                    let second = lock.try_clone().map_err(wrong)?;
                    state.left.push((lock, audit));
                    state.left.push((second, usual));
                }
            }
            if state.lock.is_none() {
                let text = format!(
                    "the spool folder {} is in use by {SLOTS_MAX} processes: set another `dir` under [spool]",
                    folder.display()
                );
                return Err(Error::System(text));
            }
        }
        Ok(Outbox { state: Mutex::new(state), changed: Condvar::new(), losses })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch into the usual lane; what there is no room for is lost, and counted.
    pub(crate) fn put(&self, batch: Batch) {
        let records = u64::from(batch.records);
        if let Err(loss) = self.try_put(batch) {
            self.losses.add(loss, records);
        }
    }

    /// Puts a batch into the usual lane.
    ///
    /// # Errors
    /// Why there is no room for it.
    pub(crate) fn try_put(&self, batch: Batch) -> Result<(), Loss> {
        let mut state = self.state();
        let away = state.away;
        let lane = &mut state.usual;
        let room = if lane.spool.is_some() { MEMORY_BYTES } else { MEMORY_BYTES_NO_DISK };
        let fits = lane.memory_bytes + batch.payload.len() <= room;
        if batch.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Loss::TooLarge);
        }
        if fits && !lane.on_disk() && !(away && lane.spool.is_some()) {
            lane.push(batch);
        } else {
            match lane.spool.as_mut().map(|spool| spool.append(&batch)) {
                Some(Ok(())) => {}
                // The disk failed, not the bound: memory is better than nothing, as long as it comes after what is on disk.
                Some(Err(Refused::Disk)) if fits && !lane.on_disk() => lane.push(batch),
                _ => return Err(Loss::Unreachable),
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Puts a batch into the audit lane: onto disk before this returns, where there is one.
    pub(crate) fn put_audit(&self, batch: Batch) {
        let mut state = self.state();
        let lane = &mut state.audit;
        let records = u64::from(batch.records);
        let kept = match &mut lane.spool {
            // What is in memory, because the disk failed, is older.
            Some(spool) if lane.memory.is_empty() => spool.append(&batch).is_ok(),
            _ => false,
        };
        if !kept {
            if lane.memory_bytes + batch.payload.len() <= MEMORY_BYTES_NO_DISK && !lane.on_disk() {
                lane.push(batch);
            } else {
                self.losses.add(Loss::Unreachable, records);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The batch that is next, which stays; waits until there is one, `until` at most. `None`, too, once closed and empty.
    pub(crate) fn next(&self, until: Duration) -> Option<(From, Batch)> {
        let nothing = |state: &mut State| {
            state.audit.is_empty()
                && state.usual.is_empty()
                && state.left.iter().all(|(_, lane)| lane.is_empty())
                && !state.closed
        };
        let waited = self.changed.wait_timeout_while(self.state(), until, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(spool) = &mut state.audit.spool {
            spool.sync();
        }
        if let Some(batch) = state.audit.front() {
            return Some((From::Audit, batch));
        }
        if let Some(batch) = state.usual.front() {
            return Some((From::Usual, batch));
        }
        state.left.retain(|(_, lane)| !lane.is_empty());
        let (_, lane) = state.left.first_mut()?;
        lane.front().map(|batch| (From::Left, batch))
    }

    /// The host has answered for a batch: it is done.
    pub(crate) fn done(&self, from: From, batch: &Batch) {
        let mut state = self.state();
        match from {
            From::Audit => state.audit.pop(batch),
            From::Usual => state.usual.pop(batch),
            From::Left => {
                if let Some((_, lane)) = state.left.first_mut() {
                    lane.pop(batch);
                }
            }
        }
        state.away = false;
        state.tries += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Puts a batch that the host will never take aside, if it is one of audit. It is not done by that.
    pub(crate) fn put_aside(&self, from: From, batch: &Batch) -> Aside {
        let mut state = self.state();
        let lane = match from {
            From::Audit => Some(&mut state.audit),
            From::Usual => None,
            From::Left => state.left.first_mut().map(|(_, lane)| lane),
        };
        let Some(refused) = lane.and_then(|lane| lane.refused.as_mut()) else { return Aside::No };
        if refused.append(batch).is_err() {
            return Aside::Failed;
        }
        refused.sync();
        Aside::Kept
    }

    /// The host does not answer.
    pub(crate) fn away(&self) {
        let mut state = self.state();
        state.away = true;
        state.tries += 1;
        state.usual.settle();
        state.audit.settle();
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all is sent; false when the host is away or the time is over.
    pub(crate) fn wait_empty(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        let (before, was_away) = (state.tries, state.away);
        loop {
            if state.audit.is_empty() && state.usual.is_empty() {
                return true;
            }
            if state.away && (state.tries > before || was_away) {
                return false;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return false;
            };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits while the host is away, for a time; less when the outbox is closed.
    pub(crate) fn pause(&self, time: Duration) {
        let waited = self.changed.wait_timeout_while(self.state(), time, |state| !state.closed);
        drop(waited);
    }

    /// Whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Whoever waits is to stop.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Puts onto disk what is in memory; what cannot be is lost, and counted. The folder is free for others then.
    pub(crate) fn settle(&self) {
        let mut state = self.state();
        let State { audit, usual, .. } = &mut *state;
        for lane in [audit, usual] {
            lane.settle();
            for batch in std::mem::take(&mut lane.memory) {
                // The front is in use: the end is better than nowhere.
                let kept = lane.spool.as_mut().is_some_and(|spool| spool.append(&batch).is_ok());
                if !kept {
                    self.losses.add(Loss::Shutdown, u64::from(batch.records));
                }
            }
            lane.memory_bytes = 0;
            // What a late answer says of a batch is not for us any more: it lies in the spool, and is sent again.
            lane.refused = None;
            if let Some(mut spool) = lane.spool.take() {
                spool.sync();
            }
        }
        // A request may still be on its way. Whatever comes of it, the folder is no longer ours to change.
        state.left.clear();
        state.lock = None;
    }
}
