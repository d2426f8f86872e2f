//! A host that takes OTLP over HTTP and keeps it in memory; it can be made to refuse, or to go away.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use threadline_sdk::settings::{Settings, Stdout};

/// Attributes as texts.
pub(crate) type Attributes = BTreeMap<String, String>;

/// A log record.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) event: String,
    pub(crate) severity: i32,
    pub(crate) body: String,
    pub(crate) trace: String,
    pub(crate) attributes: Attributes,
    pub(crate) resource: Attributes,
}

impl Log {
    pub(crate) fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.get("threadline.sequence").parse().unwrap_or(0)
    }
}

#[derive(Default)]
struct Kept {
    logs: Mutex<Vec<Log>>,
    spans: Mutex<Vec<Span>>,
    headers: Mutex<Vec<HeaderMap>>,
    requests: Mutex<usize>,
    /// What is answered.
    status: AtomicU16,
}

/// The host.
pub(crate) struct Sink {
    kept: Arc<Kept>,
    pub(crate) address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Sink {
    pub(crate) fn start() -> Sink {
        let mut sink = Sink { kept: Arc::default(), address: ([127, 0, 0, 1], 0).into(), runtime: None };
        sink.answer(200);
        sink.listen();
        sink
    }

    /// Listens, again on the port it had.
    pub(crate) fn listen(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let app = Router::new().fallback(take).with_state(Arc::clone(&self.kept));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        self.runtime = Some(runtime);
    }

    /// Goes away: connections are refused.
    pub(crate) fn leave(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    pub(crate) fn answer(&self, status: u16) {
        self.kept.status.store(status, Ordering::Relaxed);
    }

    pub(crate) fn settings(&self, spool: &Path) -> Settings {
        let mut settings = Settings::new("checkout", "1.2.3");
        settings.service.environment = "test".to_owned();
        settings.exporter.endpoint = format!("http://{}", self.address);
        settings.logs.stdout = Stdout::None;
        settings.spool.dir = spool.to_owned();
        settings
    }

    pub(crate) fn logs(&self) -> Vec<Log> {
        self.kept.logs.lock().unwrap().clone()
    }

    pub(crate) fn events(&self, name: &str) -> Vec<Log> {
        self.logs().into_iter().filter(|log| log.event == name).collect()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().unwrap().clone()
    }

    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.kept.headers.lock().unwrap().clone()
    }

    pub(crate) fn requests(&self) -> usize {
        *self.kept.requests.lock().unwrap()
    }

    /// Waits until something holds.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Sink) -> bool) {
        for _ in 0..1500 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what}: {:#?}", self.logs());
    }
}

async fn take(
    State(kept): State<Arc<Kept>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Vec<u8>) {
    *kept.requests.lock().unwrap() += 1;
    let status = StatusCode::from_u16(kept.status.load(Ordering::Relaxed)).unwrap();
    if status != StatusCode::OK {
        return (status, Vec::new());
    }
    let mut payload = body.to_vec();
    if headers.get("content-encoding").is_some_and(|value| value == "gzip") {
        payload.clear();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut payload).unwrap();
    }
    kept.headers.lock().unwrap().push(headers);
    match uri.path() {
        "/v1/logs" => {
            let request = ExportLogsServiceRequest::decode(&*payload).unwrap();
            let mut logs = kept.logs.lock().unwrap();
            for resource in request.resource_logs {
                let whole = attributes(&resource.resource.unwrap_or_default().attributes);
                for record in resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                    logs.push(Log {
                        event: record.event_name,
                        severity: record.severity_number,
                        body: record.body.map(|body| text(&body)).unwrap_or_default(),
                        trace: hex(&record.trace_id),
                        attributes: attributes(&record.attributes),
                        resource: whole.clone(),
                    });
                }
            }
        }
        "/v1/traces" => {
            let request = ExportTraceServiceRequest::decode(&*payload).unwrap();
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            kept.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        }
        other => panic!("{other}"),
    }
    (StatusCode::OK, Vec::new())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn attributes(list: &[KeyValue]) -> Attributes {
    let pair = |pair: &KeyValue| (pair.key.clone(), pair.value.as_ref().map(text).unwrap_or_default());
    list.iter().map(pair).collect()
}

/// The value of an attribute that is an integer.
pub(crate) fn int(pair: &KeyValue) -> Option<i64> {
    match pair.value.as_ref()?.value.as_ref()? {
        Value::IntValue(int) => Some(*int),
        _ => None,
    }
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(int)) => int.to_string(),
        Some(Value::DoubleValue(double)) => double.to_string(),
        Some(Value::BoolValue(bool)) => bool.to_string(),
        other => format!("{other:?}"),
    }
}
