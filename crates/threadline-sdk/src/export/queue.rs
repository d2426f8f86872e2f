//! What waits to be encoded, and the two processors that put it there. A record that finds no room is dropped and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::logs::LogRecord as _;
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use super::encode::SEQUENCE;
use super::{Encoder, Loss, Losses, Outbox};

/// What waits, taken all at once.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) logs: Vec<(SdkLogRecord, InstrumentationScope)>,
    pub(crate) spans: Vec<SpanData>,
    /// Somebody waits for what was put in before: no delay.
    hurry: bool,
    closed: bool,
    /// What was taken last is not handed on yet.
    busy: bool,
}

impl Waiting {
    fn len(&self) -> usize {
        self.logs.len() + self.spans.len()
    }
}

/// The queue: any thread puts in, one takes out.
#[derive(Debug)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    /// Wakes whoever takes out.
    full_enough: Condvar,
    records_max: usize,
    wake_at: usize,
    losses: Losses,
    /// Last sequence number given to a log record, and to a span.
    logs: AtomicU64,
    spans: AtomicU64,
}

impl Queue {
    pub(crate) fn new(records_max: usize, batch: usize, losses: Losses) -> Queue {
        let wake_at = batch.min(records_max / 2).max(1);
        Queue {
            waiting: Mutex::default(),
            full_enough: Condvar::new(),
            records_max,
            wake_at,
            losses,
            logs: AtomicU64::new(0),
            spans: AtomicU64::new(0),
        }
    }

    /// The next number of a log record.
    pub(crate) fn next_log(&self) -> u64 {
        self.logs.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn put(&self, put: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return self.losses.add(Loss::Shutdown, 1);
        }
        if waiting.len() >= self.records_max {
            return self.losses.add(Loss::QueueFull, 1);
        }
        put(&mut waiting);
        // Once: the one that takes out needs no further calls.
        if waiting.len() == self.wake_at {
            self.full_enough.notify_one();
        }
    }

    /// Takes what waits, after `delay` or once there is enough; the truth value says that nothing more will come.
    pub(crate) fn take(&self, delay: Duration) -> (Waiting, bool) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |waiting: &mut Waiting| !waiting.hurry && !waiting.closed && waiting.len() < self.wake_at;
        let waited = self.full_enough.wait_timeout_while(waiting, delay, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let closed = waiting.closed;
        let taken = std::mem::take(&mut *waiting);
        (waiting.closed, waiting.busy) = (closed, true);
        (taken, closed)
    }

    /// What was taken is in the outbox.
    pub(crate) fn handed_on(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).busy = false;
    }

    /// Whether nothing waits, and nothing is on its way to the outbox.
    pub(crate) fn is_idle(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.len() == 0 && !waiting.busy
    }

    /// Makes the next take come at once.
    pub(crate) fn hurry(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).hurry = true;
        self.full_enough.notify_one();
    }

    /// Takes no more in.
    pub(crate) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.full_enough.notify_one();
    }
}

/// Takes log records from OpenTelemetry.
#[derive(Debug)]
pub(crate) struct Logs {
    pub(crate) queue: Arc<Queue>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) encoder: Encoder,
}

impl LogProcessor for Logs {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        // `tracing` names what has no name by its place in the source: that is no event of a contract.
        if record.event_name().is_some_and(|name| name.starts_with("event ") || name == "log event") {
            record.set_event_name("");
        }
        if record.timestamp().is_none()
            && let Some(time) = record.observed_timestamp()
        {
            record.set_timestamp(time);
        }
        let sequence = i64::try_from(self.queue.next_log()).unwrap_or(i64::MAX);
        record.add_attribute(SEQUENCE, sequence);
        if record.event_name() == Some(crate::events::Audit::NAME) {
            let mut batches = Vec::new();
            self.encoder.logs(&[(record.clone(), scope.clone())], &mut batches);
            batches.into_iter().for_each(|batch| self.outbox.put_audit(batch));
        } else {
            self.queue.put(|waiting| waiting.logs.push((record.clone(), scope.clone())));
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.hurry();
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Takes spans from OpenTelemetry.
#[derive(Debug)]
pub(crate) struct Spans {
    pub(crate) queue: Arc<Queue>,
}

impl SpanProcessor for Spans {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        let sequence = self.queue.spans.fetch_add(1, Ordering::Relaxed) + 1;
        span.attributes.push(KeyValue::new(SEQUENCE, i64::try_from(sequence).unwrap_or(i64::MAX)));
        self.queue.put(|waiting| waiting.spans.push(span));
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.hurry();
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
