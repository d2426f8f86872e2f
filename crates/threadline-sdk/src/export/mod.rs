//! From a record to the host: queues, batches, disk, requests. It knows OTLP, and nothing of HTTP servers or of TLS handshakes.
//!
//! ```text
//! log, span -> Queue (bounded, memory) -> thread `threadline-batch`: encode -> Outbox -> thread `threadline-send`: POST
//! audit     -> encode at once ---------------------------------------------> Outbox (own lane, on disk first)
//! ```
//!
//! Vocabulary:
//! - *batch*: an encoded export request. Sent again it is the same bytes, which the host keeps once;
//! - *lane*: a sequence of batches that are sent in order. Audit has one of its own, which goes first;
//! - *away*: the last request failed in a way that may pass. While the host is away everything goes to disk.
//!
//! Whoever records never waits for network. Both threads suppress their own telemetry: what the exporter logs reaches standard
//! output, never the host, so nothing loops. What is lost is counted by reason and told as `telemetry.dropped`.

mod encode;
mod outbox;
mod post;
mod queue;
mod spool;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use encode::Encoder;
pub(crate) use outbox::Outbox;
pub(crate) use post::Client;
pub(crate) use queue::{Logs, Spans};
pub(crate) use worker::Pipeline;

/// What a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Log records.
    Logs = 0,
    /// Spans.
    Traces = 1,
}

/// An encoded export request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) signal: Signal,
    pub(crate) records: u32,
    /// Protobuf, not compressed.
    pub(crate) payload: Vec<u8>,
}

/// Why records were lost: the contract's reasons of `telemetry.dropped`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    QueueFull,
    Rejected,
    TooLarge,
    Unreachable,
    Shutdown,
}

impl Loss {
    const ALL: [Loss; 5] = [Loss::QueueFull, Loss::Rejected, Loss::TooLarge, Loss::Unreachable, Loss::Shutdown];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Loss::QueueFull => "queue_full",
            Loss::Rejected => "rejected",
            Loss::TooLarge => "too_large",
            Loss::Unreachable => "unreachable",
            Loss::Shutdown => "shutdown",
        }
    }
}

/// How many records were lost, by reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses(Arc<[AtomicU64; 5]>);

impl Losses {
    pub(crate) fn add(&self, loss: Loss, records: u64) {
        if let Some(counter) = self.0.get(loss as usize) {
            counter.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// Those that were not taken yet, by reason.
    pub(crate) fn take(&self) -> Vec<(Loss, u64)> {
        let taken = Loss::ALL.into_iter().zip(self.0.iter());
        taken
            .map(|(loss, counter)| (loss, counter.swap(0, Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Target of what the exporter says of itself: printed, never exported.
pub(crate) const TARGET: &str = "threadline_sdk::export";

/// How long a shutdown waits for the host.
pub(crate) const SHUTDOWN: Duration = Duration::from_secs(5);
