//! Where a command reads: a hub over HTTP, or a data folder. A folder is opened read-only and answers through the
//! hub's own API code over a connection in memory, so that both give the same rows and no port is opened.

use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::Request;
use http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use threadline_store::{Env, Store};
use tokio::runtime::Runtime;

use super::access::{Access, HubArgs};
use super::args::SourceArgs;
use super::failure::Failure;
use crate::contract::Gatekeeper;
use crate::door::Door;
use crate::hub::Addresses;
use crate::meters::Meters;
use crate::serve::Handler as _;
use crate::settings::Settings;
use crate::{api, ingest};

/// Bytes of a problem that are read.
const PROBLEM_BYTES_MAX: u64 = 1 << 20;
/// Bytes of an answer that is one document.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;
/// Bytes in flight between the folder's API and the command.
const PIPE_BYTES: usize = 256 << 10;

/// Where a command reads.
pub(super) enum Source {
    /// A hub by its URL.
    Hub { access: Access, base: String },
    /// A data folder.
    Data(Box<Folder>),
}

/// A data folder and the API over it.
pub(super) struct Folder {
    runtime: Runtime,
    endpoint: api::Endpoint,
    host: String,
}

/// Parameters of a request.
pub(super) type Pairs<'a> = &'a [(&'static str, String)];

/// The bytes of an answer as they come.
pub(super) type Answer<'a> = Box<dyn BufRead + 'a>;

impl Source {
    /// Opens the folder, when one is named.
    pub(super) fn open(args: &SourceArgs) -> Result<Source, Failure> {
        match &args.data {
            Some(data) => Ok(Source::Data(Box::new(Folder::open(data)?))),
            None => Source::hub(&args.hub),
        }
    }

    /// A hub.
    pub(super) fn hub(args: &HubArgs) -> Result<Source, Failure> {
        Ok(Source::Hub { access: args.access(None)?, base: args.base() })
    }

    /// Whether it changes while it is read.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Source::Hub { .. })
    }

    /// The answer to a GET.
    pub(super) fn get(&self, path: &str, pairs: Pairs<'_>) -> Result<Answer<'_>, Failure> {
        let path = with_query(path, pairs);
        match self {
            Source::Hub { access, base } => {
                let mut request = access.agent.get(format!("{base}{path}"));
                if let Some(authorization) = &access.authorization {
                    request = request.header("Authorization", authorization);
                }
                hub_answer(base, pairs, request.call())
            }
            Source::Data(folder) => folder.answer(Request::get(path), Bytes::new(), pairs),
        }
    }

    /// The answer to a POST of JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer<'_>, Failure> {
        let body = body.to_string();
        let json = "application/json";
        match self {
            Source::Hub { access, base } => {
                let mut request = access.agent.post(format!("{base}{path}")).header("Content-Type", json);
                if let Some(authorization) = &access.authorization {
                    request = request.header("Authorization", authorization);
                }
                hub_answer(base, &[], request.send(body.as_str()))
            }
            Source::Data(folder) => {
                folder.answer(Request::post(path).header(CONTENT_TYPE, json), Bytes::from(body), &[])
            }
        }
    }

    /// The answer to a DELETE; folders have nothing that is deleted so.
    pub(super) fn delete(&self, path: &str) -> Result<Answer<'_>, Failure> {
        match self {
            Source::Hub { access, base } => {
                let mut request = access.agent.delete(format!("{base}{path}"));
                if let Some(authorization) = &access.authorization {
                    request = request.header("Authorization", authorization);
                }
                hub_answer(base, &[], request.call())
            }
            Source::Data(folder) => folder.answer(Request::delete(path), Bytes::new(), &[]),
        }
    }

    /// An answer that is one document.
    pub(super) fn document(&self, path: &str, pairs: Pairs<'_>) -> Result<String, Failure> {
        let mut text = String::new();
        self.get(path, pairs)?.take(DOCUMENT_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// The document as a type of the wire.
pub(super) fn decode<T: serde::de::DeserializeOwned>(document: &str) -> Result<T, Failure> {
    serde_json::from_str(document)
        .map_err(|error| Failure::Failed(format!("the answer is not what this version expects: {error}")))
}

fn hub_answer<'a>(
    base: &str,
    pairs: Pairs<'_>,
    outcome: Result<http::Response<ureq::Body>, ureq::Error>,
) -> Result<Answer<'a>, Failure> {
    let reply = outcome.map_err(|error| {
        Failure::Unreachable(format!(
            "no hub answers at {base}: {error}; start one with `threadline serve`, name it with --hub, or read a \
             folder with --data"
        ))
    })?;
    let status = reply.status().as_u16();
    let body: Box<dyn Read> = Box::new(reply.into_body().into_reader());
    finish(status, Box::new(BufReader::new(body)), pairs)
}

/// The body of a success, or what the problem says.
fn finish<'a>(status: u16, body: Answer<'a>, pairs: Pairs<'_>) -> Result<Answer<'a>, Failure> {
    if status == 200 {
        return Ok(body);
    }
    let mut text = String::new();
    // What cannot be read is only the explanation.
    let _ = body.take(PROBLEM_BYTES_MAX).read_to_string(&mut text);
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    Err(problem_failure(status, &problem, &text, pairs))
}

/// What a problem (RFC 9457) says.
fn problem_failure(status: u16, problem: &Value, text: &str, pairs: Pairs<'_>) -> Failure {
    let member = |name: &str| problem.get(name).and_then(Value::as_str);
    let said = member("detail").or(member("title")).unwrap_or(text.trim());
    let detail = if said.is_empty() { format!("the hub said {status}") } else { said.to_owned() };
    if matches!(status, 401 | 403) {
        return Failure::Denied(detail);
    }
    if !matches!(status, 400 | 422) {
        return Failure::Failed(detail);
    }
    let number = |name: &str| problem.get(name).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let search = pairs.iter().find(|(name, _)| member("field") == Some(name)).map(|(_, value)| value.clone());
    let place = search.zip(number("at")).map(|(search, at)| (search, at, number("len").unwrap_or(1)));
    Failure::Query { detail, place }
}

/// Whether a line of rows is the problem that ended the answer.
pub(super) fn trailing_problem(line: &str) -> Option<Failure> {
    let rest = line.strip_prefix("{\"error\":{")?;
    let problem: Value = serde_json::from_str(line).ok()?;
    let problem = problem.get("error").filter(|problem| problem.get("type").is_some())?;
    let status = problem.get("status").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
    Some(problem_failure(status.unwrap_or(500), problem, rest, &[]))
}

fn with_query(path: &str, pairs: Pairs<'_>) -> String {
    let mut out = path.to_owned();
    for (at, (name, value)) in pairs.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        encode(&mut out, value);
    }
    out
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(super) fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

impl Folder {
    fn open(data: &Path) -> Result<Folder, Failure> {
        let env = Env::local();
        let store = Store::open_read_only(data, env.clone())?;
        // Nobody else waits for this process: a query may take as long as the person does.
        let settings = Settings { query_timeout: Duration::from_secs(24 * 3600), ..Settings::default() };
        let addresses = Addresses {
            otlp_grpc: settings.otlp_grpc_address,
            otlp_http: settings.otlp_http_address,
            api: settings.api_address,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let meters = Arc::new(Meters::new());
        let door = Door::open(env.clone(), Arc::clone(&meters));
        let intake = ingest::Intake::new(
            &settings,
            store.clone(),
            Arc::clone(&env.clock),
            Arc::clone(&meters),
            Gatekeeper::default(),
        );
        let parts = api::Parts {
            addresses,
            store,
            clock: env.clock,
            meters,
            stopping: Arc::default(),
            gatekeeper: Gatekeeper::default(),
            detection: crate::detection::Board::default(),
            incidents: crate::incidents::Board::default(),
            intake: Arc::new(intake),
            door: Arc::new(door),
            tls: None,
            runtime: runtime.handle().clone(),
        };
        let endpoint = api::handler(&settings, parts);
        Ok(Folder { runtime, endpoint, host: settings.api_address.to_string() })
    }

    fn answer(
        &self,
        request: http::request::Builder,
        body: Bytes,
        pairs: Pairs<'_>,
    ) -> Result<Answer<'_>, Failure> {
        let request = request
            .header(HOST, &self.host)
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let reply = self
            .runtime
            .block_on(self.exchange(request))
            .map_err(|error| Failure::Failed(format!("the folder's API broke off: {error}")))?;
        let status = reply.status().as_u16();
        let body = FolderBody { runtime: &self.runtime, body: reply.into_body(), part: Bytes::new() };
        finish(status, Box::new(BufReader::new(body)), pairs)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> hyper::Result<http::Response<Incoming>> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let endpoint = self.endpoint.clone();
        let service = service_fn(move |request| {
            let endpoint = endpoint.clone();
            async move { Ok::<_, Infallible>(endpoint.answer(request).await) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    }
}

/// The body of a folder's answer as a reader.
struct FolderBody<'a> {
    runtime: &'a Runtime,
    body: Incoming,
    part: Bytes,
}

impl Read for FolderBody<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.runtime.block_on(self.body.frame()) {
                None => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(frame)) => self.part = frame.into_data().unwrap_or_default(),
            }
        }
        let count = self.part.len().min(out.len());
        if let Some(out) = out.get_mut(..count) {
            self.part.copy_to_slice(out);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded() {
        let pairs = [("q", "a b&\"é/".to_owned()), ("limit", "5".to_owned())];
        assert_eq!(with_query("/x", &pairs), "/x?q=a%20b%26%22%C3%A9%2F&limit=5");
        assert_eq!(with_query("/x", &[]), "/x");
    }

    #[test]
    fn problems_become_failures() {
        let pairs = [("q", "a )".to_owned())];
        for (status, text, want) in [
            (
                400,
                r#"{"type":"x","detail":"q: no","field":"q","at":2,"len":1}"#,
                "error: q: no\n  a )\n    ^\n",
            ),
            (400, r#"{"detail":"limit: no","field":"limit"}"#, "error: limit: no\n"),
            (503, r#"{"title":"busy"}"#, "error: busy\n"),
            (500, "oops\n", "error: oops\n"),
            (500, "", "error: the hub said 500\n"),
        ] {
            let failure = finish(status, Box::new(text.as_bytes()), &pairs).err().unwrap();
            assert_eq!(failure.text(), want, "{text}");
        }
        let line = r#"{"error":{"type":"urn:x","status":504,"detail":"too slow"}}"#;
        assert_eq!(trailing_problem(line).unwrap().text(), "error: too slow\n");
        assert!(trailing_problem(r#"{"error":{"a":1}}"#).is_none());
        assert!(trailing_problem(r#"{"body":"x"}"#).is_none());
    }
}
