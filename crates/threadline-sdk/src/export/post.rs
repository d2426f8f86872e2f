//! One request to the host: OTLP over HTTP, and what its answer means.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::{Batch, Signal};
use crate::Error;
use crate::settings::{Compression, Settings};

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a file of certificates, keys or tokens at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest that a host can have us wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Taken, but for some records.
    Taken {
        /// Records that the host refused, and why.
        rejected: u64,
        reason: String,
    },
    /// It may go better later; the host may have said when.
    Later { after: Option<Duration>, reason: String },
    /// It will never be taken: too large, or not understood.
    Never { too_large: bool, reason: String },
}

/// Sends batches. Files of certificates and tokens are read anew after each failure, so that what was renewed is used.
pub(crate) struct Client {
    settings: Settings,
    logs: Option<String>,
    traces: Option<String>,
    /// With the value of `authorization`.
    agent: Option<(Agent, Option<String>)>,
}

impl Client {
    /// # Errors
    /// Which file or setting is wrong.
    pub(crate) fn new(settings: &Settings) -> Result<Client, Error> {
        let mut client = Client {
            logs: settings.logs_url(),
            traces: settings.traces_url(),
            settings: settings.clone(),
            agent: None,
        };
        client.agent = Some(client.connect().map_err(Error::Settings)?);
        Ok(client)
    }

    /// Sends a batch. Takes as long as `timeout_ms` at most.
    pub(crate) fn send(&mut self, batch: &Batch) -> Answer {
        let url = match batch.signal {
            Signal::Logs => self.logs.clone(),
            Signal::Traces => self.traces.clone(),
        };
        // Left over from a start with other settings.
        let Some(url) = url else {
            let reason = "this signal is not sent".to_owned();
            return Answer::Never { too_large: false, reason };
        };
        let answer = self.post(&url, batch);
        if matches!(answer, Answer::Later { .. }) {
            self.agent = None;
        }
        answer
    }

    fn post(&mut self, url: &str, batch: &Batch) -> Answer {
        let later = |reason: String| Answer::Later { after: None, reason };
        let (agent, authorization) = match &self.agent {
            Some(agent) => agent,
            None => match self.connect() {
                Ok(agent) => self.agent.insert(agent),
                Err(reason) => return later(reason),
            },
        };
        let mut request = agent.post(url).header("content-type", "application/x-protobuf");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        for (name, value) in &self.settings.exporter.headers {
            request = request.header(name, value);
        }
        let sent = match self.settings.exporter.compression {
            Compression::None => request.send(&*batch.payload),
            Compression::Gzip => match gzip(&batch.payload) {
                Ok(body) => request.header("content-encoding", "gzip").send(&*body),
                Err(error) => return later(error.to_string()),
            },
        };
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return later(format!("{url}: {error}")),
        };
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        match status {
            200..=299 => taken(batch.signal, &body.unwrap_or_default()),
            413 => Answer::Never { too_large: true, reason: format!("{url}: status 413") },
            // These are about what was sent.
            400 | 422 => {
                let body = body.unwrap_or_default();
                let said = body.get(..200).unwrap_or(&body);
                let reason =
                    format!("{url}: status {status}: {}", String::from_utf8_lossy(said).escape_debug());
                Answer::Never { too_large: false, reason }
            }
            // Credentials, addresses and what stands in between can be mended, and records wait for it; the others say
            // themselves that it may pass.
            _ => Answer::Later {
                after: after.map(Duration::from_secs).map(|after| after.min(RETRY_AFTER_MAX)),
                reason: format!("{url}: status {status}"),
            },
        }
    }

    fn connect(&self) -> Result<(Agent, Option<String>), String> {
        let exporter = &self.settings.exporter;
        let mut tls = TlsConfig::builder();
        if !exporter.ca.as_os_str().is_empty() {
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates(&exporter.ca)?));
        }
        if !exporter.cert.as_os_str().is_empty() {
            let key = PrivateKey::from_pem(&read(&exporter.key)?)
                .map_err(|error| format!("{}: no private key in it (PEM): {error}", exporter.key.display()))?;
            let chain = certificates(&exporter.cert)?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        let timeout = Duration::from_millis(exporter.timeout_ms.clamp(100, 600_000));
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            .proxy(None)
            .user_agent(concat!("threadline-sdk/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let token = match exporter.token_file.as_os_str().is_empty() {
            true => exporter.token.clone(),
            false => String::from_utf8_lossy(&read(&exporter.token_file)?).into_owned(),
        };
        let token = token.trim();
        Ok((agent, (!token.is_empty()).then(|| format!("Bearer {token}"))))
    }
}

fn taken(signal: Signal, body: &[u8]) -> Answer {
    let partial = match signal {
        Signal::Logs => ExportLogsServiceResponse::decode(body)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_log_records, partial.error_message)),
        Signal::Traces => ExportTraceServiceResponse::decode(body)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_spans, partial.error_message)),
    };
    let (rejected, reason) = partial.unwrap_or_default();
    Answer::Taken { rejected: u64::try_from(rejected).unwrap_or(0), reason }
}

fn gzip(payload: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(payload.len() / 4), flate2::Compression::fast());
    encoder.write_all(payload)?;
    encoder.finish()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    if std::fs::metadata(path).map_err(|error| wrong(&error))?.len() > FILE_BYTES_MAX {
        return Err(wrong(&format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(|error| wrong(&error))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let mut out = Vec::new();
    for item in parse_pem(&read(path)?) {
        match item {
            Ok(PemItem::Certificate(certificate)) => out.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    if out.is_empty() {
        return Err(format!("{}: there is no certificate in it (PEM)", path.display()));
    }
    Ok(out)
}
