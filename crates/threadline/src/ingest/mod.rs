//! Takes requests of OTLP and of JSON lines to the store: body, decompression, decoding, append, reply. HTTP and gRPC
//! differ only in how a request is framed and how its outcome is said; everything between is here, once.
//!
//! Vocabulary:
//! - *delivery*: a request as received, still compressed, with what its headers say;
//! - *receipt*: what a sender is told of a delivery that was taken, in whole or in part;
//! - *refusal*: why a delivery was not taken at all, and whether to send it again.
//!
//! A receipt is given only after the store has synced. It does not know how the store does that.

mod body;
mod budget;
mod compression;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod reply;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::clock::Clock;
use threadline_model::jsonl::{self, LineParser, Mapping};
use threadline_model::otlp::{self, Decoded, Format, Malformed, Signal};
use threadline_model::schema::Table;
use threadline_model::sender::Sender;
use threadline_store::{Ack, Append, AppendError, BatchId, Store};
use tokio::sync::{Semaphore, oneshot};

use self::budget::{Budget, Lease};
use self::compression::{DecompressError, Encoding, decompress};
use crate::contract::Gatekeeper;
use crate::meters::{Meters, RequestEnd, Transport, signal_name};
use crate::settings::Settings;

/// Requests in progress hold at most this many times the largest request (docs/ingest.md).
const IN_FLIGHT_REQUESTS: usize = 4;
/// Plain bodies up to this size are decoded where they are received; others on a thread for such work.
const INLINE_PLAIN_BYTES: usize = 64 << 10;
/// The same for compressed bodies, which may be a thousand times as large.
const INLINE_COMPRESSED_BYTES: usize = 4 << 10;
/// Pause asked of clients when all requests in progress hold too much.
const IN_FLIGHT_RETRY: Duration = Duration::from_secs(1);
/// How long a request waits for room in the store before it is decoded, and how often is looked.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(2);
const ROOM_LOOK_EVERY: Duration = Duration::from_millis(10);
/// Pause asked of clients when the store is not available.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(5);
/// Length of a client's own batch id: long enough not to be a counter.
const BATCH_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// The header (gRPC: metadata key) with a client's own batch id.
pub(crate) const BATCH_ID_HEADER: &str = "threadline-batch-id";

/// What a request's body is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// An OTLP request.
    Otlp(Signal, Format),
    /// JSON lines: log records and spans.
    Lines,
}

impl Content {
    /// What it counts as.
    fn signal(self) -> Signal {
        match self {
            Content::Otlp(signal, _) => signal,
            Content::Lines => Signal::Logs,
        }
    }
}

/// A request as received.
pub(crate) struct Delivery {
    pub(crate) content: Content,
    pub(crate) transport: Transport,
    pub(crate) encoding: Encoding,
    pub(crate) body: Bytes,
    /// What `body` holds of the budget.
    pub(crate) lease: Lease,
    /// The client's own batch id.
    pub(crate) batch_id: Option<String>,
    /// Who sends it.
    pub(crate) sender: Sender,
}

/// What a sender is told of a delivery that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Records that are kept.
    pub(crate) accepted: u64,
    /// Records, spans or data points that were not taken.
    pub(crate) rejected: u64,
    /// Why they were not taken; empty when all were, and for lines.
    pub(crate) message: String,
    /// Of lines: why the first were not taken.
    pub(crate) faults: Vec<jsonl::Fault>,
    /// The first services of which there were records that their sender may not write.
    pub(crate) misnamed: Vec<String>,
}

/// Why a delivery was not taken at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It makes no sense.
    Malformed {
        /// Which field; empty for the request as a whole.
        field: String,
        /// For people: where and why.
        reason: String,
    },
    /// It is larger than the hub takes.
    TooLarge(String),
    /// Its body came too slowly.
    Slow(String),
    /// A bound is reached: send again after the pause.
    Busy { reason: String, retry_after: Duration },
    /// The store does not work: send again after the pause, to this or another hub.
    Unavailable { reason: String, retry_after: Duration },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed { reason, .. }
            | Refusal::TooLarge(reason)
            | Refusal::Slow(reason)
            | Refusal::Busy { reason, .. }
            | Refusal::Unavailable { reason, .. } => f.write_str(reason),
        }
    }
}

impl Refusal {
    fn end(&self) -> RequestEnd {
        match self {
            Refusal::Malformed { .. } | Refusal::TooLarge(_) | Refusal::Slow(_) => RequestEnd::Rejected,
            Refusal::Busy { .. } => RequestEnd::Busy,
            Refusal::Unavailable { .. } => RequestEnd::Unavailable,
        }
    }

    /// A request that makes no sense as a whole.
    fn malformed(reason: String) -> Refusal {
        Refusal::Malformed { field: String::new(), reason }
    }

    fn in_flight(bytes_max: usize) -> Refusal {
        Refusal::Busy {
            reason: format!(
                "requests in progress hold {bytes_max} bytes, all the hub has for them: send again later"
            ),
            retry_after: IN_FLIGHT_RETRY,
        }
    }

    fn too_large(bytes_max: usize) -> Refusal {
        Refusal::TooLarge(format!(
            "the request has more than {bytes_max} bytes after decompression: send smaller batches, or raise \
             request_bytes_max"
        ))
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Refusal::Malformed { reason: malformed.to_string(), field: malformed.field }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy { reason, retry_after } => Refusal::Busy { reason, retry_after },
            AppendError::TooLarge { reason } => Refusal::TooLarge(reason),
            AppendError::Unavailable { reason } => {
                Refusal::Unavailable { reason, retry_after: UNAVAILABLE_RETRY }
            }
        }
    }
}

/// Takes requests to the store.
pub(crate) struct Intake {
    core: Arc<Core>,
    budget: Arc<Budget>,
    /// Decoding at once on threads of its own: no more than there are cores.
    decoders: Arc<Semaphore>,
    meters: Arc<Meters>,
}

/// What decoding needs, on whatever thread it happens.
struct Core {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: RecordLimits,
    request_bytes_max: usize,
    /// Which field of a line becomes what.
    mapping: Arc<Mapping>,
    /// Checks and masks records on their way in.
    gatekeeper: Gatekeeper,
}

/// A delivery on its way into the store.
struct Pending {
    receipt: Receipt,
    bytes: usize,
    waiting: Vec<Waiting>,
    /// Held until the reply.
    lease: Lease,
}

/// Records of one table on their way into it.
struct Waiting {
    table: Table,
    records: u64,
    ack: oneshot::Receiver<Result<Ack, AppendError>>,
}

/// What a body holds: what to say of it, and the builders with its records.
type Contents = (Receipt, Vec<BatchBuilder>);

impl Intake {
    /// An intake into a store.
    pub(crate) fn new(
        settings: &Settings,
        store: Store,
        clock: Arc<dyn Clock>,
        meters: Arc<Meters>,
        gatekeeper: Gatekeeper,
    ) -> Self {
        let limits = RecordLimits { record_bytes_max: settings.record_bytes_max, ..RecordLimits::default() };
        let request_bytes_max = settings.request_bytes_max;
        let mapping = Arc::new(Mapping::default());
        let core = Core { store, clock, limits, request_bytes_max, mapping, gatekeeper };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            core: Arc::new(core),
            budget: Budget::new(settings.request_bytes_max.saturating_mul(IN_FLIGHT_REQUESTS)),
            decoders: Arc::new(Semaphore::new(cores)),
            meters,
        }
    }

    /// Bytes that requests in progress hold, and their bound.
    pub(crate) fn in_flight_bytes(&self) -> (usize, usize) {
        (self.budget.used(), self.budget.bytes_max())
    }

    /// Largest request after decompression, bytes.
    fn request_bytes_max(&self) -> usize {
        self.core.request_bytes_max
    }

    /// Takes a delivery. Returns when all of it is synced, or why it was not taken. After a refusal a part of it may be
    /// kept; sent again, that part is not kept twice.
    pub(crate) async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal> {
        let transport = delivery.transport;
        let meters = self.meters.intake(delivery.content.signal(), transport);
        meters.bytes_received.add(delivery.body.len() as u64);
        let started = Instant::now();
        self.wait_for_room(delivery.body.len()).await;
        let pending = self.prepare(delivery).await?;
        meters.bytes_decoded.add(pending.bytes as u64);
        let any = !pending.waiting.is_empty();
        for Waiting { table, records, ack } in pending.waiting {
            let gone = AppendError::Unavailable { reason: "the hub is stopping: send again".to_owned() };
            let ack = ack.await.unwrap_or(Err(gone))?;
            let records = if ack.duplicate { 0 } else { records };
            self.meters.intake(signal_of(table), transport).records.add(records);
        }
        if any {
            self.meters.append_latency.record(started.elapsed());
        }
        drop(pending.lease);
        meters.refused.add(pending.receipt.rejected);
        Ok(pending.receipt)
    }

    /// Waits a little while the store has no room: a sender that is slowed down costs less than one that is refused
    /// after its request was decoded, and sends again.
    async fn wait_for_room(&self, bytes: usize) {
        let until = Instant::now() + ROOM_WAIT_MAX;
        while !self.core.store.has_room(bytes) && Instant::now() < until {
            tokio::time::sleep(ROOM_LOOK_EVERY).await;
        }
    }

    /// Counts how a request ended.
    pub(crate) fn count<T>(&self, signal: Signal, transport: Transport, outcome: &Result<T, Refusal>) {
        let end = outcome.as_ref().map_or_else(Refusal::end, |_| RequestEnd::Kept);
        self.meters.request(signal, transport, end);
        if let Err(refusal @ (Refusal::Busy { .. } | Refusal::Unavailable { .. })) = outcome {
            tracing::warn!(signal = signal_name(signal), transport = transport.name(), "not taken: {refusal}");
        }
    }

    /// Decodes where that does not hold up other connections.
    async fn prepare(&self, delivery: Delivery) -> Result<Pending, Refusal> {
        let inline_bytes_max = match delivery.encoding {
            Encoding::Identity => INLINE_PLAIN_BYTES,
            Encoding::Gzip | Encoding::Zstd => INLINE_COMPRESSED_BYTES,
        };
        if delivery.body.len() <= inline_bytes_max {
            return self.core.prepare(delivery);
        }
        // The semaphore is never closed.
        let turn = Arc::clone(&self.decoders).acquire_owned().await;
        let core = Arc::clone(&self.core);
        let prepared = tokio::task::spawn_blocking(move || {
            let prepared = core.prepare(delivery);
            drop(turn);
            prepared
        });
        prepared.await.unwrap_or_else(|error| {
            tracing::error!(%error, "decoding ended abnormally");
            let reason = "the hub failed on this request; its log says why".to_owned();
            Err(Refusal::Unavailable { reason, retry_after: UNAVAILABLE_RETRY })
        })
    }
}

impl Core {
    /// Decompresses, decodes and hands the batch to the store.
    fn prepare(&self, mut delivery: Delivery) -> Result<Pending, Refusal> {
        let body = std::mem::take(&mut delivery.body);
        let body = decompress(delivery.encoding, body, self.request_bytes_max, &mut delivery.lease).map_err(
            |error| match error {
                DecompressError::TooLarge => Refusal::too_large(self.request_bytes_max),
                DecompressError::Busy => Refusal::in_flight(self.request_bytes_max * IN_FLIGHT_REQUESTS),
                DecompressError::Broken(error) => Refusal::malformed(format!(
                    "the body is not {:?} as its headers say: {error}",
                    delivery.encoding
                )),
            },
        )?;
        let (receipt, builders) = match delivery.content {
            Content::Otlp(signal, format) => self.otlp(signal, format, &body, &delivery.sender)?,
            Content::Lines => self.lines(&body, &delivery.sender),
        };
        let mut receipt = receipt;
        receipt.misnamed = builders.iter().flat_map(BatchBuilder::misnamed).cloned().collect();
        let sender = delivery.sender.name.as_deref();
        let mut pending = Pending { receipt, bytes: body.len(), waiting: Vec::new(), lease: delivery.lease };
        let mut batches = Vec::new();
        for builder in builders {
            let table = builder.table();
            if let Some(batch) = builder.finish().map_err(unbuilt)? {
                batches.push(Append {
                    table,
                    id: batch_id(table, sender, delivery.batch_id.as_deref(), &body),
                    batch,
                });
            }
        }
        drop(body);
        pending.waiting.extend(batches.into_iter().map(|batch| self.append(batch)));
        Ok(pending)
    }

    fn builder(&self, table: Table, sender: &Sender) -> BatchBuilder {
        let mut builder = BatchBuilder::new(self.store.layout(table), self.clock.now_us(), self.limits);
        builder.set_sender(sender.clone());
        builder
    }

    /// Decodes an OTLP request.
    fn otlp(&self, signal: Signal, format: Format, body: &[u8], sender: &Sender) -> Result<Contents, Refusal> {
        let mut inspector = self.gatekeeper.inspector();
        let (builder, decoded) = match signal {
            Signal::Logs => {
                let mut builder = self.builder(Table::Logs, sender);
                let decoded = otlp::decode_logs(format, body, &mut builder, &mut *inspector)?;
                (builder, decoded)
            }
            Signal::Traces => {
                let mut builder = self.builder(Table::Spans, sender);
                let decoded = otlp::decode_traces(format, body, &mut builder, &mut *inspector)?;
                (builder, decoded)
            }
            Signal::Metrics => {
                return Ok((metrics_receipt(otlp::count_data_points(format, body)?), Vec::new()));
            }
        };
        Ok((receipt(&decoded), vec![builder]))
    }

    /// Decodes JSON lines.
    fn lines(&self, body: &[u8], sender: &Sender) -> Contents {
        let (mut logs, mut spans) = (self.builder(Table::Logs, sender), self.builder(Table::Spans, sender));
        let mut parser = LineParser::new(Arc::clone(&self.mapping));
        let line_bytes_max = self.limits.record_bytes_max;
        let decoded = jsonl::decode(
            body,
            &mut parser,
            line_bytes_max,
            &mut logs,
            &mut spans,
            &mut *self.gatekeeper.inspector(),
        );
        let receipt = Receipt {
            accepted: (decoded.logs + decoded.spans) as u64,
            rejected: decoded.refused as u64,
            message: String::new(),
            faults: decoded.faults,
            misnamed: Vec::new(),
        };
        (receipt, vec![logs, spans])
    }

    /// Hands a batch to the store.
    fn append(&self, batch: Append) -> Waiting {
        let (table, records) = (batch.table, batch.batch.num_rows() as u64);
        let (acknowledge, ack) = oneshot::channel();
        let on_ack = Box::new(move |outcome| {
            // A sender that has gone does not hear it.
            let _ = acknowledge.send(outcome);
        });
        self.store.append(batch, on_ack);
        Waiting { table, records, ack }
    }
}

/// Columns that do not fit together: a bug here; the sender can do no more about it than about a failing disk.
fn unbuilt(error: impl fmt::Display) -> Refusal {
    tracing::error!(%error, "columns do not fit together");
    let reason = format!("the hub could not build columns: {error}");
    Refusal::Unavailable { reason, retry_after: UNAVAILABLE_RETRY }
}

fn signal_of(table: Table) -> Signal {
    match table {
        Table::Logs => Signal::Logs,
        Table::Spans => Signal::Traces,
    }
}

fn receipt(decoded: &Decoded) -> Receipt {
    let message = if decoded.refused == 0 {
        String::new()
    } else {
        format!(
            "{} of {} records refused: {}",
            decoded.refused,
            decoded.refused + decoded.accepted,
            decoded.message()
        )
    };
    let (accepted, rejected) = (decoded.accepted as u64, decoded.refused as u64);
    Receipt { accepted, rejected, message, ..Receipt::default() }
}

fn metrics_receipt(data_points: u64) -> Receipt {
    if data_points == 0 {
        return Receipt::default();
    }
    let message = "this hub keeps logs and traces, not metrics: send metrics to another host, or turn them off \
                   at the sender (OTEL_METRICS_EXPORTER=none)";
    Receipt { rejected: data_points, message: message.to_owned(), ..Receipt::default() }
}

/// Identity of a batch: what the client says, or the content; apart for each table and each known sender, so that none
/// can have another's batch taken for one that was sent before.
fn batch_id(table: Table, sender: Option<&str>, client: Option<&str>, body: &[u8]) -> BatchId {
    let signal = signal_of(table) as u64;
    let sender = sender.map_or(0, |sender| xxhash_rust::xxh3::xxh3_64(sender.as_bytes()) << 16);
    let hash = |kind: u64, bytes| xxhash_rust::xxh3::xxh3_128_with_seed(bytes, sender | kind << 8 | signal);
    BatchId(client.map_or_else(|| hash(0, body), |id| hash(1, id.as_bytes())))
}

/// A client's batch id, checked.
fn client_batch_id(headers: &::http::HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(BATCH_ID_HEADER) else { return Ok(None) };
    value
        .to_str()
        .ok()
        .filter(|id| BATCH_ID_BYTES.contains(&id.len()))
        .map(|id| Some(id.to_owned()))
        .ok_or_else(|| {
            Refusal::malformed(format!(
                "{BATCH_ID_HEADER}: must be {} to {} visible ASCII characters, different for every batch of \
                 every sender (such as a UUID)",
                BATCH_ID_BYTES.start(),
                BATCH_ID_BYTES.end()
            ))
        })
}
