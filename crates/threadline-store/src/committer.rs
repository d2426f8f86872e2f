//! The way in: appends wait in a queue, and one committer at a time makes groups of them durable.
//!
//! A *group* is what is written and synced together. Order within a commit: sync, memory table, batch ids, answer; so
//! what is answered is durable and visible, and what is remembered as a batch id is visible too.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use rustc_hash::FxHashMap;
use threadline_model::schema::{Table, fixed};

use crate::codec::{self, Effort, Encoded, Encoder};
use crate::core::{Core, add, lock};
use crate::store::OnAck;
use crate::wal::{Part, Writer};
use crate::{Ack, Append, AppendError, BatchId};

/// Appends that wait, at most.
const QUEUE_MAX: usize = 64 << 10;
/// Bytes of a part of a batch, about.
const PART_BYTES: usize = 4 << 20;
/// The disk is behind when so many groups wait.
const BEHIND_GROUPS: usize = 4;
/// Pauses that are suggested to senders.
const RETRY_SOON: Duration = Duration::from_secs(1);
const RETRY_LATER: Duration = Duration::from_secs(10);
/// Pause between attempts to open a segment after a failure.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// With `relaxed`, a sync happens about so often.
const RELAXED_SYNC_EVERY: Duration = Duration::from_secs(1);

/// An append that waits.
struct Waiting {
    append: Append,
    parts: Vec<Encoded>,
    bytes: usize,
    on_ack: OnAck,
}

#[derive(Default)]
struct QueueState {
    items: VecDeque<Waiting>,
    /// Bytes of what waits, and of what is on its way between queue and memory table.
    bytes: usize,
    payload_bytes: usize,
    closed: bool,
}

/// Appends that wait for the committer.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    pushed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of what waits.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Takes nothing any more. What waits stays.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.pushed.notify_all();
    }

    /// Answers everything that waits with `error`.
    pub(crate) fn refuse_all(&self, error: &AppendError) {
        let items = {
            let mut state = self.lock();
            state.bytes = 0;
            state.payload_bytes = 0;
            std::mem::take(&mut state.items)
        };
        for waiting in items {
            (waiting.on_ack)(Err(error.clone()));
        }
    }

    fn push(&self, waiting: Waiting) -> Result<(), (OnAck, AppendError)> {
        let mut state = self.lock();
        if state.closed {
            return Err((waiting.on_ack, closed()));
        }
        if state.items.len() >= QUEUE_MAX {
            let reason = format!("{QUEUE_MAX} batches wait for the disk");
            return Err((waiting.on_ack, AppendError::Busy { reason, retry_after: RETRY_SOON }));
        }
        state.bytes += waiting.bytes;
        state.payload_bytes += payload_bytes(&waiting.parts);
        state.items.push_back(waiting);
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// The next group: up to `bytes_max`, at least one append when any waits.
    fn take(&self, bytes_max: usize) -> Vec<Waiting> {
        let mut state = self.lock();
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(next) = state.items.front() {
            let own = payload_bytes(&next.parts);
            if !group.is_empty() && bytes + own > bytes_max {
                break;
            }
            bytes += own;
            group.extend(state.items.pop_front());
        }
        state.payload_bytes = state.payload_bytes.saturating_sub(bytes);
        group
    }

    fn release(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(bytes);
    }

    /// Waits for work, at most `timeout`. False when the queue is closed and empty.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let idle = |state: &mut QueueState| state.items.is_empty() && !state.closed;
        let (state, _) =
            self.pushed.wait_timeout_while(state, timeout, idle).unwrap_or_else(PoisonError::into_inner);
        !(state.closed && state.items.is_empty())
    }

    /// Waits until so many appends or bytes have gathered, at most `timeout`.
    pub(crate) fn gather(&self, appends: usize, bytes: usize, timeout: Duration) {
        let state = self.lock();
        let few = |state: &mut QueueState| {
            state.items.len() < appends && state.payload_bytes < bytes && !state.closed
        };
        let _ = self.pushed.wait_timeout_while(state, timeout, few);
    }
}

fn payload_bytes(parts: &[Encoded]) -> usize {
    parts.iter().map(|part| part.payload.len()).sum()
}

pub(crate) fn closed() -> AppendError {
    AppendError::Unavailable { reason: "the store is closed".into() }
}

/// What a commit did, for the committer's thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Committed {
    /// Appends of the group.
    pub(crate) appends: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

type Answer = (OnAck, Result<Ack, AppendError>);

/// A batch that is written and not synced yet.
struct Written {
    table: Table,
    id: BatchId,
    batch: RecordBatch,
    ack: Ack,
    bytes: usize,
    on_ack: OnAck,
    /// The same batch, sent again.
    again: Vec<(OnAck, usize)>,
}

/// One round of the committer.
struct Round<'a> {
    core: &'a Core,
    writer: &'a mut Writer,
    time_us: i64,
    written: Vec<Written>,
    /// Place in `written` by id.
    by_id: FxHashMap<(Table, BatchId), usize>,
    /// Answers, given when the round is over.
    answers: Vec<Answer>,
    /// No segment could be opened: why.
    failed: Option<String>,
    released: usize,
}

impl Core {
    /// Takes an append, or says why not.
    pub(crate) fn append(&self, append: Append, on_ack: OnAck) {
        match self.admit(&append) {
            Ok(Some(ack)) => on_ack(Ok(ack)),
            Err(error) => on_ack(Err(error)),
            Ok(None) => match self.encode(&append) {
                Err(error) => on_ack(Err(error)),
                Ok((parts, bytes)) => {
                    if let Err((on_ack, error)) = self.queue.push(Waiting { append, parts, bytes, on_ack }) {
                        on_ack(Err(error));
                    }
                }
            },
        }
    }

    /// Whether the append can be taken now; an answer when nothing is to be done.
    fn admit(&self, append: &Append) -> Result<Option<Ack>, AppendError> {
        if self.read_only {
            return Err(AppendError::Unavailable { reason: "the data folder is open for reading only".into() });
        }
        if let Some(reason) = self.status().failed.clone() {
            return Err(AppendError::Unavailable { reason });
        }
        let rows = append.batch.num_rows() as u64;
        if rows == 0 {
            return Ok(Some(Ack { first_seq: 0, rows, duplicate: false }));
        }
        check_columns(append)?;
        if lock(&self.window).contains(append.table, append.id, self.env.clock.now_us()) {
            add(&self.counters.duplicates, 1);
            return Ok(Some(Ack { first_seq: 0, rows, duplicate: true }));
        }
        let bytes = codec::batch_bytes(&append.batch);
        let bytes_max = self.options.memory_bytes_max;
        if bytes > bytes_max / 2 {
            let reason =
                format!("the batch takes {bytes} bytes, at most {} are taken: split it", bytes_max / 2);
            return Err(AppendError::TooLarge { reason });
        }
        match self.refusal(bytes) {
            Some((reason, retry_after)) => Err(AppendError::Busy { reason, retry_after }),
            None => Ok(None),
        }
    }

    /// Why `bytes` more cannot be taken at present, and for how long about.
    pub(crate) fn refusal(&self, bytes: usize) -> Option<(String, Duration)> {
        let bytes_max = self.options.memory_bytes_max;
        let used = self.memory_bytes();
        if used + bytes > bytes_max {
            let reason = format!("{used} of {bytes_max} bytes of memory wait to be written to sealed files");
            return Some((reason, RETRY_SOON));
        }
        let (free, free_min) = (self.disk_free(), self.options.disk_free_bytes_min);
        if free < free_min {
            let reason =
                format!("the disk has {free} bytes free, fewer than the {free_min} that are kept free");
            return Some((reason, RETRY_LATER));
        }
        None
    }

    /// The parts of a batch, and the bytes it takes until it is in the memory table.
    fn encode(&self, append: &Append) -> Result<(Vec<Encoded>, usize), AppendError> {
        let payload_max = Writer::payload_bytes_max(self.options.wal_segment_bytes);
        let too_large = |what: String| AppendError::TooLarge { reason: what };
        let mut parts = Vec::new();
        // Compression costs more than a disk that keeps up with the senders; one that does not leaves time for it.
        let behind = self.queue.lock().payload_bytes > self.options.commit_bytes.saturating_mul(BEHIND_GROUPS);
        let effort = if behind { Effort::Compress } else { Effort::Store };
        self.encoders
            .with(|encoder| encode_parts(encoder, &append.batch, effort, payload_max, &mut parts))
            .map_err(too_large)?;
        if parts.len() > usize::from(u16::MAX) {
            return Err(too_large(format!(
                "the batch has {} parts, at most {} are taken",
                parts.len(),
                u16::MAX
            )));
        }
        let bytes = codec::batch_bytes(&append.batch) + payload_bytes(&parts);
        Ok((parts, bytes))
    }

    /// Makes one group durable and answers it. `None` when nothing waits.
    pub(crate) fn commit(&self) -> Option<Committed> {
        // Answers are given without any lock: they may call the store.
        let (answers, committed) = self.commit_group()?;
        for (on_ack, answer) in answers {
            on_ack(answer);
        }
        Some(committed)
    }

    fn commit_group(&self) -> Option<(Vec<Answer>, Committed)> {
        let start = self.env.clock.monotonic();
        let mut writer = lock(&self.writer);
        let writer = writer.as_mut()?;
        let group = self.queue.take(self.options.commit_bytes);
        if group.is_empty() {
            self.commit_nothing(writer, start);
            return None;
        }
        let appends = group.len();
        let mut round = Round {
            core: self,
            writer,
            time_us: self.env.clock.now_us(),
            written: Vec::new(),
            by_id: FxHashMap::default(),
            answers: Vec::with_capacity(appends),
            failed: None,
            released: 0,
        };
        for waiting in group {
            round.take(waiting);
        }
        round.flush_or_leave();
        let Round { answers, failed, released, .. } = round;
        self.status().failed = failed;
        self.status().reopen_at = start + REOPEN_EVERY;
        self.counters.sync_with(writer);
        self.queue.release(released);
        Some((answers, Committed { appends, took: self.env.clock.monotonic().saturating_sub(start) }))
    }

    /// Without work: tries again after a failure, and syncs what `relaxed` left behind.
    fn commit_nothing(&self, writer: &mut Writer, now: Duration) {
        let (failed, reopen_at) = {
            let status = self.status();
            (status.failed.is_some(), status.reopen_at)
        };
        if failed && now >= reopen_at {
            let opened = writer.open_segment();
            let mut status = self.status();
            status.failed = opened.err().map(|error| failure(&error));
            status.reopen_at = now + REOPEN_EVERY;
        }
        if self.options.relaxed {
            self.sync_relaxed(writer, now);
        }
    }

    fn sync_relaxed(&self, writer: &mut Writer, now: Duration) {
        if now >= self.status().relaxed_sync_at {
            self.status().relaxed_sync_at = now + RELAXED_SYNC_EVERY;
            if writer.sync().is_err() {
                writer.leave();
            }
        }
    }
}

fn failure(error: &io::Error) -> String {
    format!("the write-ahead log cannot be written: {error}")
}

impl Round<'_> {
    fn take(&mut self, waiting: Waiting) {
        let Waiting { append, parts, bytes, on_ack } = waiting;
        let Append { table, id, batch } = append;
        let rows = batch.num_rows() as u64;
        if lock(&self.core.window).contains(table, id, self.time_us) {
            add(&self.core.counters.duplicates, 1);
            self.released += bytes;
            self.answers.push((on_ack, Ok(Ack { first_seq: 0, rows, duplicate: true })));
            return;
        }
        if let Some(first) = self.by_id.get(&(table, id)).and_then(|&place| self.written.get_mut(place)) {
            first.again.push((on_ack, bytes));
            return;
        }
        let refuse = |round: &mut Self, on_ack: OnAck, error: AppendError| {
            round.released += bytes;
            round.answers.push((on_ack, Err(error)));
        };
        if let Some(reason) = self.failed.clone() {
            return refuse(self, on_ack, AppendError::Unavailable { reason });
        }
        let first_seq = self.writer.next_seq();
        let batch = codec::fitted(batch).and_then(|batch| codec::with_seq(table, &batch, first_seq));
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return refuse(self, on_ack, AppendError::TooLarge { reason: error.to_string() }),
        };
        let written = self.write(table, id, &parts);
        self.core.encoders.give_back(parts.into_iter().map(|part| part.payload));
        if let Err(error) = written {
            self.leave(&error);
            let reason = failure(&error);
            return refuse(self, on_ack, AppendError::Unavailable { reason });
        }
        self.by_id.insert((table, id), self.written.len());
        let ack = Ack { first_seq, rows, duplicate: false };
        self.written.push(Written { table, id, batch, ack, bytes, on_ack, again: Vec::new() });
    }

    /// Writes all parts, into a new segment where they do not fit.
    fn write(&mut self, table: Table, id: BatchId, parts: &[Encoded]) -> io::Result<()> {
        let time_us = self.time_us;
        for (index, encoded) in parts.iter().enumerate() {
            if !self.writer.fits(encoded.payload.len()) {
                self.next_segment()?;
            }
            let (part, parts) = (index as u16, parts.len() as u16);
            self.writer.push(&Part { table, id, time_us, part, parts, encoded })?;
        }
        Ok(())
    }

    fn next_segment(&mut self) -> io::Result<()> {
        if self.writer.is_open() {
            self.flush(true)?;
            self.writer.leave();
        }
        self.writer.open_segment().inspect_err(|error| self.failed = Some(failure(error)))
    }

    fn flush_or_leave(&mut self) {
        if let Err(error) = self.flush(false) {
            self.leave(&error);
        }
    }

    /// Gives up what was written since the last sync.
    fn leave(&mut self, error: &io::Error) {
        self.writer.leave();
        self.by_id.clear();
        let reason = failure(error);
        for written in std::mem::take(&mut self.written) {
            let all = std::iter::once((written.on_ack, written.bytes)).chain(written.again);
            for (on_ack, bytes) in all {
                self.released += bytes;
                self.answers.push((on_ack, Err(AppendError::Unavailable { reason: reason.clone() })));
            }
        }
        self.core.forget_disk_free();
    }

    /// Makes what was written durable, then visible. `relaxed` leaves the sync for later unless `sync` is set.
    fn flush(&mut self, sync: bool) -> io::Result<()> {
        if sync || !self.core.options.relaxed {
            self.writer.sync()?;
        } else {
            self.writer.write()?;
        }
        self.publish();
        if self.core.options.relaxed {
            self.core.sync_relaxed(self.writer, self.core.env.clock.monotonic());
        }
        Ok(())
    }

    fn publish(&mut self) {
        if self.written.is_empty() {
            return;
        }
        let core = self.core;
        let written = std::mem::take(&mut self.written);
        self.by_id.clear();
        let batches = written.iter().map(|w| (w.table, w.batch.clone()));
        core.memory.insert(batches, core.env.clock.monotonic());
        {
            let mut window = lock(&core.window);
            for w in &written {
                window.insert(w.table, w.id, self.time_us);
            }
        }
        for w in written {
            add(&core.counters.appends, 1);
            add(&core.counters.rows, w.ack.rows);
            self.released += w.bytes;
            self.answers.push((w.on_ack, Ok(w.ack)));
            for (on_ack, bytes) in w.again {
                add(&core.counters.duplicates, 1);
                self.released += bytes;
                self.answers.push((on_ack, Ok(Ack { first_seq: 0, duplicate: true, ..w.ack })));
            }
        }
        core.progress.notify(core.memory.state().last_seq);
    }
}

/// Columns that the table has are as the table says, and those that every row needs are there.
fn check_columns(append: &Append) -> Result<(), AppendError> {
    let refuse =
        |what: String| Err(AppendError::TooLarge { reason: format!("the batch cannot be kept: {what}") });
    let schema = append.batch.schema();
    if schema.column_with_name(codec::SEQ).is_some() {
        return refuse("it brings sequence numbers".into());
    }
    for field in fixed(append.table) {
        match schema.column_with_name(field.name()) {
            Some((_, own)) if own.data_type() != field.data_type() => {
                return refuse(format!(
                    "column {} is {}, not {}",
                    field.name(),
                    own.data_type(),
                    field.data_type()
                ));
            }
            None if !field.is_nullable() => return refuse(format!("it has no column {}", field.name())),
            _ => {}
        }
    }
    Ok(())
}

/// Splits a batch into parts of about [`PART_BYTES`] that fit into a segment.
fn encode_parts(
    encoder: &mut Encoder,
    batch: &RecordBatch,
    effort: Effort,
    payload_max: usize,
    out: &mut Vec<Encoded>,
) -> Result<(), String> {
    let rows = batch.num_rows();
    let bytes = codec::batch_bytes(batch);
    if rows < 2 || bytes <= PART_BYTES.min(payload_max.saturating_mul(4)) {
        // What may not fit as it is may fit compressed.
        let effort = if bytes > payload_max / 2 { Effort::Compress } else { effort };
        let encoded = encoder.encode(batch, effort).map_err(|e| e.to_string())?;
        if encoded.payload.len() <= payload_max {
            out.push(encoded);
            return Ok(());
        }
        if rows < 2 {
            return Err(format!(
                "a record takes {} bytes of the write-ahead log, a segment holds {payload_max}: shorten it",
                encoded.payload.len()
            ));
        }
    }
    let half = rows / 2;
    for (offset, rows) in [(0, half), (half, rows - half)] {
        let part = codec::cut(batch, offset, rows).map_err(|e| e.to_string())?;
        encode_parts(encoder, &part, effort, payload_max, out)?;
    }
    Ok(())
}
