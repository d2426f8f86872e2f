//! The host that a sample exports to: OTLP over HTTP on loopback. Records are decoded and judged as the hub does it, and kept.

use std::collections::BTreeMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use threadline_contract::score::Board;
use threadline_contract::{Contract, Finding, Guard};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::inspect::{Inspector, Refused};
use threadline_model::jsonl::{self, LineParser, Mapping};
use threadline_model::otlp::{self, Format};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView, SpanView};
use threadline_model::schema::{Layout, Table};
use threadline_model::value::Value;

use crate::http::{self, BODY_BYTES_MAX};

/// Attributes as texts.
pub(crate) type Attributes = BTreeMap<String, String>;
/// Records that are kept at most.
const RECORDS_MAX: usize = 100_000;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A log record.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) event: String,
    pub(crate) body: String,
    pub(crate) trace: Option<TraceId>,
    pub(crate) attributes: Attributes,
    pub(crate) resource: Arc<Attributes>,
}

/// A span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: TraceId,
    pub(crate) parent: Option<SpanId>,
}

/// All that has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) logs: Vec<Log>,
    pub(crate) spans: Vec<Span>,
    /// What the contract has to say about them.
    pub(crate) findings: Vec<Finding>,
    /// Requests that could not be read, and records that were refused.
    pub(crate) refused: Vec<String>,
}

/// The sink.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) port: u16,
    contract: Arc<Contract>,
    kept: Arc<Mutex<Kept>>,
}

impl Sink {
    /// Listens; its threads end with the process.
    pub(crate) fn start(contract: Arc<Contract>) -> Result<Sink, String> {
        let failed = |error: std::io::Error| format!("the sink cannot listen: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let kept = Arc::new(Mutex::new(Kept::default()));
        let sink = Sink { port, contract: Arc::clone(&contract), kept: Arc::clone(&kept) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (contract, kept) = (Arc::clone(&contract), Arc::clone(&kept));
                std::thread::spawn(move || {
                    if let Err(error) = serve(stream, &contract, &kept) {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.refused.push(format!("a connection: {error}"));
                    }
                });
            }
        });
        Ok(sink)
    }

    /// What has come until now.
    pub(crate) fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a line of JSON, as `threadline import` does.
    pub(crate) fn line(&self, line: &str) {
        let mut judge = Judge::new(&self.contract);
        let (mut logs, mut spans) = (builder(Table::Logs), builder(Table::Spans));
        let mut parser = LineParser::new(Arc::new(Mapping::default()));
        let bytes = BODY_BYTES_MAX as usize;
        let decoded = jsonl::decode(line.as_bytes(), &mut parser, bytes, &mut logs, &mut spans, &mut judge);
        judge.kept.refused.extend(decoded.faults.into_iter().map(|fault| fault.reason));
        add(&self.kept, judge.kept);
    }
}

fn serve(stream: TcpStream, contract: &Arc<Contract>, kept: &Mutex<Kept>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut out = stream.try_clone()?;
    let mut stream = BufReader::new(stream);
    loop {
        let message = match http::read(&mut stream, false) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            // A kept connection that is not used any more, or whose process has ended.
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut judge = Judge::new(contract);
        if let Err(reason) = judge.take(&message) {
            judge.kept.refused.push(reason);
        }
        add(kept, judge.kept);
        let kind = message.header("content-type").unwrap_or("application/x-protobuf");
        let body = if kind.contains("json") { "{}" } else { "" };
        let length = body.len();
        write!(out, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")?;
    }
}

fn add(kept: &Mutex<Kept>, new: Kept) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.logs.len() + kept.spans.len() < RECORDS_MAX {
        kept.logs.extend(new.logs);
        kept.spans.extend(new.spans);
        kept.findings.extend(new.findings);
        kept.refused.extend(new.refused);
    }
}

fn builder(table: Table) -> BatchBuilder {
    // No time of arrival is needed: nothing is stored.
    BatchBuilder::new(Arc::new(Layout::base(table)), i64::MAX / 2, RecordLimits::default())
}

/// Reads a request's records and keeps them, with what the contract says.
struct Judge {
    guard: Guard,
    resource: Arc<Attributes>,
    kept: Kept,
}

impl Judge {
    fn new(contract: &Arc<Contract>) -> Judge {
        let guard = Guard::watching(Arc::clone(contract), Arc::new(Board::new()));
        Judge { guard, resource: Arc::default(), kept: Kept::default() }
    }

    fn take(&mut self, message: &http::Message) -> Result<(), String> {
        let path = message.start.split(' ').nth(1).unwrap_or_default();
        let mut body = Vec::new();
        let body = match message.header("content-encoding") {
            None | Some("identity") => message.body.as_slice(),
            Some("gzip") => {
                let unpacked = flate2::read::GzDecoder::new(message.body.as_slice());
                let read = unpacked.take(BODY_BYTES_MAX + 1).read_to_end(&mut body);
                match read.map_err(|error| format!("{path}: gzip: {error}"))? as u64 {
                    0..=BODY_BYTES_MAX => body.as_slice(),
                    _ => return Err(format!("{path}: more than {BODY_BYTES_MAX} bytes decompressed")),
                }
            }
            Some(other) => return Err(format!("{path}: the encoding {other} is not taken")),
        };
        let json = message.header("content-type").is_some_and(|kind| kind.contains("json"));
        let format = if json { Format::Json } else { Format::Protobuf };
        let decoded = match path {
            "/v1/logs" => otlp::decode_logs(format, body, &mut builder(Table::Logs), self),
            "/v1/traces" => otlp::decode_traces(format, body, &mut builder(Table::Spans), self),
            // Metrics are not the contract's.
            _ => return Ok(()),
        };
        let decoded = decoded.map_err(|error| format!("{path}: {error}"))?;
        self.kept.refused.extend(decoded.refusals.iter().map(ToString::to_string));
        Ok(())
    }
}

impl Inspector for Judge {
    fn resource(&mut self, resource: &ResourceView<'_>, builder: &mut BatchBuilder) {
        self.resource = Arc::new(texts(resource.attributes));
        self.guard.resource(resource, builder);
    }

    fn scope(&mut self, scope: &ScopeView<'_>, builder: &mut BatchBuilder) {
        self.guard.scope(scope, builder);
    }

    fn log(&mut self, log: &LogView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        let log = log.named_by_attribute();
        self.kept.logs.push(Log {
            event: log.event_name.to_owned(),
            body: text(&log.body),
            trace: log.trace_id,
            attributes: texts(log.attributes),
            resource: Arc::clone(&self.resource),
        });
        // That the contract refuses a record is told by its findings.
        let _ = self.guard.log(&log, builder);
        self.kept.findings.extend(self.guard.findings());
        Ok(())
    }

    fn span(&mut self, span: &SpanView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        self.kept.spans.push(Span { trace: span.trace_id, parent: span.parent_span_id });
        let _ = self.guard.span(span, builder);
        self.kept.findings.extend(self.guard.findings());
        Ok(())
    }
}

fn text(value: &Value<'_>) -> String {
    match value {
        Value::Empty => String::new(),
        Value::Str(text) => (*text).to_owned(),
        other => {
            let mut text = String::new();
            other.write_json(&mut text);
            text
        }
    }
}

fn texts(attributes: &[Attribute<'_>]) -> Attributes {
    attributes.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect()
}
