//! The two threads of the exporter, and how they are started, flushed and stopped.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use opentelemetry::Context;
use opentelemetry_sdk::Resource;

use super::outbox::{Aside, From};
use super::post::Answer;
use super::queue::Queue;
use super::{Batch, Client, Encoder, Logs, Loss, Losses, Outbox, Spans, TARGET};
use crate::Error;
use crate::settings::Settings;

/// How long a shutdown waits for a request that is on its way.
const SENDER: Duration = Duration::from_millis(500);
/// How often losses are told.
const TELL: Duration = Duration::from_secs(10);
/// Pauses while the host is away: doubled from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LAST: Duration = Duration::from_secs(30);
/// How often one batch may fail with the host's own fault (status 500) before it is given up.
const FAULTS_MAX: u32 = 50;

/// The exporter of one process.
#[derive(Debug)]
pub(crate) struct Pipeline {
    queue: Arc<Queue>,
    outbox: Arc<Outbox>,
    encoder: Encoder,
    losses: Losses,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pipeline {
    /// Starts the threads.
    ///
    /// # Errors
    /// What is wrong with the settings, the spool's folder, or the system.
    pub(crate) fn start(settings: &Settings, resource: &Resource) -> Result<Arc<Pipeline>, Error> {
        let losses = Losses::default();
        let client = Client::new(settings)?;
        let dir = Some(settings.spool.dir.as_path()).filter(|dir: &&Path| !dir.as_os_str().is_empty());
        let outbox = Arc::new(Outbox::open(dir, settings.spool.bytes_max, losses.clone())?);
        let batch = settings.queue.batch_records_max;
        let queue = Arc::new(Queue::new(settings.queue.records_max, batch, losses.clone()));
        let encoder = Encoder::new(resource, batch, losses.clone());
        let pipeline = Arc::new(Pipeline { queue, outbox, encoder, losses, threads: Mutex::default() });
        let delay = settings.delay();
        let (batcher, sender) = (Arc::clone(&pipeline), Arc::clone(&pipeline));
        let threads = [
            spawn("threadline-batch", move || batcher.batch(delay))?,
            spawn("threadline-send", move || {
                sender.send(client);
            })?,
        ];
        pipeline.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(threads);
        Ok(pipeline)
    }

    /// For OpenTelemetry's logger.
    pub(crate) fn logs(&self) -> Logs {
        Logs { queue: Arc::clone(&self.queue), outbox: Arc::clone(&self.outbox), encoder: self.encoder.clone() }
    }

    /// For OpenTelemetry's tracer.
    pub(crate) fn spans(&self) -> Spans {
        Spans { queue: Arc::clone(&self.queue) }
    }

    /// Sends what waits; false when the host is away or the time is over.
    pub(crate) fn flush(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        self.queue.hurry();
        while !self.queue.is_idle() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.outbox.wait_empty(deadline.saturating_duration_since(Instant::now()))
    }

    /// Sends what waits, keeps the rest on disk, and ends the threads. A second call does nothing.
    pub(crate) fn stop(&self, time: Duration) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return;
        }
        self.queue.close();
        let mut threads = threads.into_iter();
        // The first ends when it has encoded what was there.
        if let Some(batcher) = threads.next() {
            let _ = batcher.join();
        }
        let _quiet = Context::enter_telemetry_suppressed_scope();
        if self.outbox.wait_empty(time) && self.tell() {
            self.outbox.wait_empty(SENDER);
        }
        self.outbox.close();
        // The second may be within a request to a host that does not answer; what it sends is kept as well then.
        let deadline = Instant::now() + SENDER;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.tell();
        self.outbox.settle();
        // Of these no record can be made any more.
        for (loss, count) in self.losses.take() {
            warn_lost(loss, count);
        }
    }

    /// Encodes what waits, again and again.
    fn batch(&self, delay: Duration) {
        let _quiet = Context::enter_telemetry_suppressed_scope();
        let mut told = Instant::now();
        loop {
            let (waiting, closed) = self.queue.take(delay);
            let mut batches = Vec::new();
            self.encoder.logs(&waiting.logs, &mut batches);
            self.encoder.spans(waiting.spans, &mut batches);
            batches.into_iter().for_each(|batch| self.outbox.put(batch));
            if closed || told.elapsed() >= TELL {
                told = Instant::now();
                self.tell();
            }
            self.queue.handed_on();
            if closed {
                return;
            }
        }
    }

    /// Says what was lost since it was last said, and is said now. What cannot be said now is said later.
    fn tell(&self) -> bool {
        let now = opentelemetry::time::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut told = false;
        for (loss, count) in self.losses.take() {
            if self.outbox.try_put(self.encoder.dropped(loss, count, self.queue.next_log(), now)).is_ok() {
                warn_lost(loss, count);
                told = true;
            } else {
                self.losses.add(loss, count);
            }
        }
        told
    }

    /// Sends what is encoded, again and again.
    fn send(&self, mut client: Client) {
        let _quiet = Context::enter_telemetry_suppressed_scope();
        let (mut pause, mut faults, mut silent) = (PAUSE_FIRST, 0, false);
        while !self.outbox.is_closed() {
            let Some((from, batch)) = self.outbox.next(Duration::from_secs(60)) else { continue };
            match client.send(&batch) {
                Answer::Taken { rejected, reason } => {
                    if rejected > 0 {
                        tracing::warn!(target: TARGET, rejected, "the host refused records: {reason}");
                        self.losses.add(Loss::Rejected, rejected);
                    }
                    if std::mem::take(&mut silent) {
                        tracing::info!(target: TARGET, "the host answers again");
                    }
                    (pause, faults) = (PAUSE_FIRST, 0);
                    self.outbox.done(from, &batch);
                }
                Answer::Later { after, reason } => {
                    if !std::mem::replace(&mut silent, true) {
                        tracing::warn!(target: TARGET, "the host does not take records, they wait: {reason}");
                    }
                    faults += u32::from(reason.ends_with("status 500"));
                    if faults > FAULTS_MAX {
                        faults = 0;
                        if self.refuse(from, &batch, Loss::Rejected, &reason) {
                            continue;
                        }
                    }
                    self.outbox.away();
                    self.outbox.pause(after.unwrap_or(pause));
                    pause = (pause * 2).min(PAUSE_LAST);
                }
                Answer::Never { too_large, reason } => {
                    let loss = if too_large { Loss::TooLarge } else { Loss::Rejected };
                    if !self.refuse(from, &batch, loss, &reason) {
                        self.outbox.away();
                        self.outbox.pause(pause);
                        pause = (pause * 2).min(PAUSE_LAST);
                    }
                }
            }
        }
    }
}

impl Pipeline {
    /// Gives a batch up. Whether it was: audit that cannot be put aside stays.
    fn refuse(&self, from: From, batch: &Batch, loss: Loss, reason: &str) -> bool {
        let done = match self.outbox.put_aside(from, batch) {
            Aside::Kept => "audit records stay in the spool's `audit-refused`",
            Aside::No => "it is dropped",
            Aside::Failed => return false,
        };
        tracing::warn!(target: TARGET, records = batch.records, "the host will never take a batch, {done}: {reason}");
        // Before it is done: whoever waits for that may be about to tell the losses for the last time.
        self.losses.add(loss, u64::from(batch.records));
        self.outbox.done(from, batch);
        true
    }
}

fn warn_lost(loss: Loss, count: u64) {
    tracing::warn!(target: TARGET, count, reason = loss.name(), "records were lost before they reached the host");
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| Error::System(format!("the thread {name} could not be started: {error}")))
}
