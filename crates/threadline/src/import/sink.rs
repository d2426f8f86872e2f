//! Where imported records go: a hub over OTLP/HTTP, or a data folder. Both are sent the same bytes again until they
//! are taken: a batch that was kept already is kept once.

use std::io;
use std::time::{Duration, Instant};

use prost::Message as _;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::otlp::{self, Format};
use threadline_model::schema::Table;
use threadline_store::{Append, AppendError, BatchId, Env, Store};

use crate::contract::Gatekeeper;

/// How long a batch is sent again before the import gives up.
const PATIENCE: Duration = Duration::from_secs(300);
/// First pause between two attempts, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Bytes of a reply that are read.
const REPLY_BYTES_MAX: u64 = 1 << 20;

/// A request.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Table its records belong to.
    pub table: Table,
    /// Encoding of the body.
    pub format: Format,
    /// An `ExportLogsServiceRequest` or `ExportTraceServiceRequest`.
    pub body: Vec<u8>,
    /// Records in it.
    pub records: u64,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records that are kept now.
    pub accepted: u64,
    /// Of these, kept before; only a data folder tells.
    pub duplicates: u64,
    /// Records that were refused.
    pub refused: u64,
    /// Why.
    pub message: String,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// The request makes no sense as a whole; another one may.
    Refused(String),
    /// There is nobody to send to.
    Unreachable(String),
    /// Going on is useless.
    Failed(String),
}

/// Where records go.
pub trait Sink: Sync {
    /// Sends a request until it is taken.
    ///
    /// # Errors
    /// [`SinkError`].
    fn send(&self, payload: &Payload) -> Result<Taken, SinkError>;
}

/// A hub.
pub struct HubSink {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
    patience: Duration,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// Outcome of one attempt.
enum Attempt {
    Done(Taken),
    Again { reason: String, after: Option<Duration> },
}

impl HubSink {
    /// A hub by its OTLP/HTTP address such as `http://127.0.0.1:4318`, the client that speaks to it, and the value of
    /// the header `Authorization`.
    pub fn new(base: &str, agent: ureq::Agent, authorization: Option<String>) -> Self {
        Self { agent, base: base.trim_end_matches('/').to_owned(), authorization, patience: PATIENCE }
    }

    /// The same, giving up after this time where the caller tries again himself.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn attempt(&self, payload: &Payload) -> Result<Attempt, SinkError> {
        let (path, content_type) = match (payload.table, payload.format) {
            (Table::Logs, Format::Protobuf) => ("/v1/logs", "application/x-protobuf"),
            (Table::Logs, Format::Json) => ("/v1/logs", "application/json"),
            (Table::Spans, Format::Protobuf) => ("/v1/traces", "application/x-protobuf"),
            (Table::Spans, Format::Json) => ("/v1/traces", "application/json"),
        };
        let url = format!("{}{path}", self.base);
        let mut request = self.agent.post(&url).header("Content-Type", content_type);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut reply = match request.send(payload.body.as_slice()) {
            Ok(reply) => reply,
            Err(ureq::Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(SinkError::Unreachable(format!("{url}: {error}")));
            }
            Err(error) => return Ok(Attempt::Again { reason: format!("{url}: {error}"), after: None }),
        };
        let status = reply.status().as_u16();
        let seconds = reply.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = reply.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_vec();
        let Ok(body) = body else {
            return Ok(Attempt::Again { reason: format!("{url}: the reply broke off"), after: None });
        };
        let said = || format!("{url} said {status}: {}", printable(&body));
        match status {
            200 => Ok(Attempt::Done(taken(payload, &body))),
            429 | 502..=504 => Ok(Attempt::Again { reason: said(), after: seconds.map(Duration::from_secs) }),
            400 | 413 | 422 => Err(SinkError::Refused(said())),
            _ => Err(SinkError::Failed(said())),
        }
    }
}

/// What a reply says of the records.
fn taken(payload: &Payload, reply: &[u8]) -> Taken {
    let (refused, message) = match payload.format {
        Format::Protobuf => ExportResponse::decode(reply)
            .ok()
            .and_then(|response| response.partial_success)
            .map_or((0, String::new()), |partial| (partial.rejected.max(0) as u64, partial.message)),
        Format::Json => json_partial(reply),
    };
    Taken { accepted: payload.records.saturating_sub(refused), duplicates: 0, refused, message }
}

fn json_partial(reply: &[u8]) -> (u64, String) {
    let reply: serde_json::Value = serde_json::from_slice(reply).unwrap_or_default();
    let partial = reply.get("partialSuccess");
    let refused = ["rejectedLogRecords", "rejectedSpans"].into_iter().find_map(|name| {
        let value = partial?.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    });
    let message = partial.and_then(|partial| partial.get("errorMessage")?.as_str()).unwrap_or_default();
    (refused.unwrap_or(0), message.to_owned())
}

/// The readable part of a reply, in one line.
fn printable(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    text.trim().to_owned()
}

impl Sink for HubSink {
    fn send(&self, payload: &Payload) -> Result<Taken, SinkError> {
        patiently(self.patience, || self.attempt(payload))
    }
}

fn patiently(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<Attempt, SinkError>,
) -> Result<Taken, SinkError> {
    let started = Instant::now();
    let mut pause = PAUSE_FIRST;
    loop {
        match attempt()? {
            Attempt::Done(taken) => return Ok(taken),
            Attempt::Again { reason, .. } if started.elapsed() > patience => {
                return Err(SinkError::Failed(format!("gave up after {} s: {reason}", patience.as_secs())));
            }
            Attempt::Again { after, .. } => {
                std::thread::sleep(after.unwrap_or(pause).min(PAUSE_MAX));
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// A data folder that no hub has open.
pub struct DataSink {
    store: Store,
    env: Env,
    limits: RecordLimits,
    gatekeeper: Gatekeeper,
}

impl DataSink {
    /// Records go into this store.
    pub fn new(store: Store, env: Env, limits: RecordLimits, gatekeeper: Gatekeeper) -> Self {
        Self { store, env, limits, gatekeeper }
    }

    fn append(&self, payload: &Payload) -> Result<(Append, Taken), SinkError> {
        let table = payload.table;
        let mut builder = BatchBuilder::new(self.store.layout(table), self.env.clock.now_us(), self.limits);
        let mut inspector = self.gatekeeper.inspector();
        let decoded = match table {
            Table::Logs => otlp::decode_logs(payload.format, &payload.body, &mut builder, &mut *inspector),
            Table::Spans => otlp::decode_traces(payload.format, &payload.body, &mut builder, &mut *inspector),
        };
        drop(inspector);
        let decoded = decoded.map_err(|malformed| SinkError::Refused(malformed.to_string()))?;
        let taken = Taken {
            accepted: decoded.accepted as u64,
            duplicates: 0,
            refused: decoded.refused as u64,
            message: decoded.message(),
        };
        let batch = builder
            .finish()
            .map_err(|error| SinkError::Failed(error.to_string()))?
            .ok_or_else(|| SinkError::Refused(taken.message.clone()))?;
        let seed = match table {
            Table::Logs => 0,
            Table::Spans => 1,
        };
        let id = BatchId(xxhash_rust::xxh3::xxh3_128_with_seed(&payload.body, seed));
        Ok((Append { table, id, batch }, taken))
    }
}

impl Sink for DataSink {
    fn send(&self, payload: &Payload) -> Result<Taken, SinkError> {
        let (append, taken) = self.append(payload)?;
        patiently(PATIENCE, || match self.store.append_wait(append.clone()) {
            Ok(ack) => {
                let duplicates = if ack.duplicate { taken.accepted } else { 0 };
                Ok(Attempt::Done(Taken { duplicates, ..taken.clone() }))
            }
            Err(AppendError::Busy { reason, retry_after }) => {
                Ok(Attempt::Again { reason, after: Some(retry_after) })
            }
            Err(AppendError::TooLarge { reason }) => Err(SinkError::Refused(reason)),
            Err(AppendError::Unavailable { reason }) => Err(SinkError::Failed(reason)),
        })
    }
}
