//! Settings: one file that all services share the form of, `threadline.toml`, and the `OTEL_*` variables over it.
//!
//! ```toml
//! [service]
//! name = "checkout"
//! version = "2.3.1"
//! environment = "production"
//!
//! [exporter]
//! endpoint = "https://hub.internal:4318"
//! ca = "/etc/threadline/ca.pem"
//! cert = "/etc/threadline/checkout.pem"
//! key = "/etc/threadline/checkout.key"
//! ```
//!
//! A variable wins over the file, the file over the defaults. What is misspelt is an error, never ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::Error;

/// Bytes of the file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Resource attributes at most.
const RESOURCE_MAX: usize = 64;

/// All that `init` needs to know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Who this is.
    pub service: Service,
    /// Further resource attributes, by key.
    pub resource: BTreeMap<String, String>,
    /// Where records go.
    pub exporter: Exporter,
    /// What waits in memory.
    pub queue: Queue,
    /// What waits on disk.
    pub spool: Spool,
    /// Which log records there are, and what else is done with them.
    pub logs: Logs,
    /// Which spans there are.
    pub traces: Traces,
    /// What a signal does.
    pub signals: Signals,
}

/// Who this is: the resource of every record.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// `service.name`; required.
    pub name: String,
    /// `service.version`.
    pub version: String,
    /// `service.namespace`.
    pub namespace: String,
    /// `deployment.environment.name`.
    pub environment: String,
    /// `service.instance.id`; random when it is empty.
    pub instance_id: String,
}

/// Where records go: OTLP over HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exporter {
    /// Base URL; `/v1/logs` and `/v1/traces` are appended. Empty: nothing is sent.
    pub endpoint: String,
    /// Full URL for logs instead.
    pub logs_endpoint: String,
    /// Full URL for traces instead.
    pub traces_endpoint: String,
    /// PEM file of the authorities that the host's certificate may be of. Empty: those of Mozilla's list.
    pub ca: PathBuf,
    /// PEM file of the client's certificate, for mTLS.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// API token.
    pub token: String,
    /// File with the API token; it wins over `token`.
    pub token_file: PathBuf,
    /// Further headers, by name.
    pub headers: BTreeMap<String, String>,
    /// `gzip` or `none`.
    pub compression: Compression,
    /// How long one request may take, ms.
    pub timeout_ms: u64,
}

impl Default for Exporter {
    fn default() -> Self {
        let none = String::new;
        let path = PathBuf::new;
        Exporter {
            endpoint: "http://127.0.0.1:4318".to_owned(),
            logs_endpoint: none(),
            traces_endpoint: none(),
            ca: path(),
            cert: path(),
            key: path(),
            token: none(),
            token_file: path(),
            headers: BTreeMap::new(),
            compression: Compression::Gzip,
            timeout_ms: 10_000,
        }
    }
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip, fast.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// What waits in memory, before it is encoded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Records at most; more are dropped and counted.
    pub records_max: usize,
    /// Records of a request at most.
    pub batch_records_max: usize,
    /// How long a record waits for others at most, ms.
    pub delay_ms: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { records_max: 16_384, batch_records_max: 512, delay_ms: 200 }
    }
}

/// What waits on disk while the host is away.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Folder. Empty: none, and 16 MiB wait in memory instead.
    pub dir: PathBuf,
    /// Bytes at most; what comes when it is full is dropped and counted. Audit records have no bound but the disk.
    pub bytes_max: u64,
}

impl Default for Spool {
    fn default() -> Self {
        Spool { dir: PathBuf::from("threadline-spool"), bytes_max: 256 << 20 }
    }
}

/// Log records.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Which are recorded: directives as in `RUST_LOG`, which wins. Records of the contract's events always are.
    pub filter: String,
    /// What is written to standard output.
    pub stdout: Stdout,
    /// Whether they are sent.
    pub export: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Logs { filter: "info".to_owned(), stdout: Stdout::Text, export: true }
    }
}

/// What is written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdout {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
    /// Nothing.
    None,
}

/// Spans.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Share of the traces begun here that is recorded, 0 to 1. `OTEL_TRACES_SAMPLER` wins. Logs are never sampled.
    pub ratio: f64,
    /// Whether they are sent.
    pub export: bool,
}

impl Default for Traces {
    fn default() -> Self {
        Traces { ratio: 1.0, export: true }
    }
}

/// What SIGTERM and SIGINT do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Signals {
    /// Whether they are waited for: records are sent, then the program ends as the signal would have ended it. A server that
    /// waits for signals itself, to finish what it is doing, awaits [`crate::Telemetry::stopped`] instead, or sets this
    /// to false; or it is ended in the middle of that.
    pub flush: bool,
}

impl Default for Signals {
    fn default() -> Self {
        Signals { flush: true }
    }
}

impl Settings {
    /// Settings of a service, without file and variables: for tests.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Settings {
        let service = Service { name: name.into(), version: version.into(), ..Service::default() };
        Settings { service, ..Settings::default() }
    }

    /// From the file that `THREADLINE_CONFIG` names, else from `threadline.toml` in the working folder if there is one, and the
    /// variables over it.
    ///
    /// # Errors
    /// What is wrong where.
    pub fn read() -> Result<Settings, Error> {
        let named = std::env::var_os("THREADLINE_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual = Path::new("threadline.toml");
        let path = named.or_else(|| usual.is_file().then(|| usual.to_owned()));
        let text = path.as_deref().map(text).transpose()?;
        let file = path.as_deref().zip(text.as_deref());
        Settings::from_parts(file, &|name| std::env::var(name).ok())
    }

    /// From a file's path and text, and variables.
    ///
    /// # Errors
    /// What is wrong where.
    pub fn from_parts(
        file: Option<(&Path, &str)>,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Settings, Error> {
        let mut settings = match file {
            None => Settings::default(),
            Some((path, text)) => toml::from_str(text).map_err(|error| {
                let hint = "is it the hub's file? THREADLINE_CONFIG names the service's";
                Error::settings(format!("{}: {error}({hint})", path.display()))
            })?,
        };
        settings.overlay(&|name| variables(name).filter(|value| !value.trim().is_empty()))?;
        Ok(settings)
    }

    /// Fills in what is still empty: name and version of the crate that asks.
    #[must_use]
    pub fn or_service(mut self, name: &str, version: &str) -> Settings {
        if self.service.name.is_empty() {
            self.service.name = name.to_owned();
        }
        if self.service.version.is_empty() {
            self.service.version = version.to_owned();
        }
        self
    }

    fn overlay(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Error> {
        if let Some(list) = variable("OTEL_RESOURCE_ATTRIBUTES") {
            self.resource_list(&list)?;
        }
        let exporter = &mut self.exporter;
        for (name, place) in [
            ("OTEL_SERVICE_NAME", &mut self.service.name),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &mut exporter.endpoint),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &mut exporter.logs_endpoint),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &mut exporter.traces_endpoint),
            ("THREADLINE_TOKEN", &mut exporter.token),
            ("RUST_LOG", &mut self.logs.filter),
        ] {
            if let Some(value) = variable(name) {
                *place = value;
            }
        }
        for (name, place) in [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", &mut exporter.ca),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &mut exporter.cert),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &mut exporter.key),
            ("THREADLINE_TOKEN_FILE", &mut exporter.token_file),
            ("THREADLINE_SPOOL_DIR", &mut self.spool.dir),
        ] {
            if let Some(value) = variable(name) {
                *place = PathBuf::from(value);
            }
        }
        for (name, place) in [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", &mut exporter.timeout_ms),
            ("OTEL_BLRP_SCHEDULE_DELAY", &mut self.queue.delay_ms),
        ] {
            if let Some(value) = variable(name) {
                *place = number(name, &value)?;
            }
        }
        for (name, place) in [
            ("OTEL_BLRP_MAX_QUEUE_SIZE", &mut self.queue.records_max),
            ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", &mut self.queue.batch_records_max),
        ] {
            if let Some(value) = variable(name) {
                *place = number(name, &value)?;
            }
        }
        self.overlay_words(variable)
    }

    fn overlay_words(&mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Error> {
        let wrong = |name: &str, value: &str, want: &str| {
            Err(Error::settings(format!("{name} is {value:?}; it may be {want}")))
        };
        if let Some(value) = variable("OTEL_EXPORTER_OTLP_COMPRESSION") {
            self.exporter.compression = match value.as_str() {
                "gzip" => Compression::Gzip,
                "none" => Compression::None,
                _ => return wrong("OTEL_EXPORTER_OTLP_COMPRESSION", &value, "gzip or none"),
            };
        }
        for name in [
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        ] {
            if let Some(value) = variable(name).filter(|value| value != "http/protobuf") {
                return wrong(name, &value, "http/protobuf only: the hub has it on port 4318");
            }
        }
        for (name, place) in
            [("OTEL_LOGS_EXPORTER", &mut self.logs.export), ("OTEL_TRACES_EXPORTER", &mut self.traces.export)]
        {
            match variable(name).as_deref() {
                None => {}
                Some("otlp") => *place = true,
                Some("none") => *place = false,
                Some(other) => return wrong(name, other, "otlp or none"),
            }
        }
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            self.logs.export = false;
            self.traces.export = false;
        }
        if let Some(list) = variable("OTEL_EXPORTER_OTLP_HEADERS") {
            for (key, value) in pairs("OTEL_EXPORTER_OTLP_HEADERS", &list)? {
                self.exporter.headers.insert(key, value);
            }
        }
        Ok(())
    }

    fn resource_list(&mut self, list: &str) -> Result<(), Error> {
        for (key, value) in pairs("OTEL_RESOURCE_ATTRIBUTES", list)? {
            match key.as_str() {
                "service.name" => self.service.name = value,
                "service.version" => self.service.version = value,
                "service.namespace" => self.service.namespace = value,
                "service.instance.id" => self.service.instance_id = value,
                "deployment.environment.name" | "deployment.environment" => self.service.environment = value,
                _ => drop(self.resource.insert(key, value)),
            }
        }
        Ok(())
    }

    /// What cannot be, before anything is started.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |text: &str| Err(Error::settings(text.to_owned()));
        if self.service.name.is_empty() {
            return wrong(
                "the service has no name: set `name` under [service] in threadline.toml, or OTEL_SERVICE_NAME",
            );
        }
        if self.resource.len() > RESOURCE_MAX {
            return wrong("more than 64 resource attributes: remove some under [resource]");
        }
        if !(0.0..=1.0).contains(&self.traces.ratio) {
            return wrong("`ratio` under [traces] must be from 0 to 1");
        }
        if self.queue.records_max == 0 || self.queue.batch_records_max == 0 {
            return wrong("`records_max` and `batch_records_max` under [queue] must be at least 1");
        }
        if self.exporter.cert.as_os_str().is_empty() != self.exporter.key.as_os_str().is_empty() {
            return wrong("`cert` and `key` under [exporter] go together: set both, or none");
        }
        for endpoint in [&self.exporter.endpoint, &self.exporter.logs_endpoint, &self.exporter.traces_endpoint]
        {
            let scheme = endpoint.starts_with("http://") || endpoint.starts_with("https://");
            if !endpoint.is_empty() && !scheme {
                return Err(Error::settings(format!(
                    "the endpoint {endpoint:?} is no URL: it begins with http:// or https://, as in https://hub.internal:4318"
                )));
            }
        }
        Ok(())
    }

    /// How long a record waits for others.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.queue.delay_ms.clamp(1, 60_000))
    }

    /// URL for logs; `None` when they are not sent.
    pub(crate) fn logs_url(&self) -> Option<String> {
        self.logs.export.then(|| url(&self.exporter.logs_endpoint, &self.exporter.endpoint, "/v1/logs"))?
    }

    /// URL for traces; `None` when they are not sent.
    pub(crate) fn traces_url(&self) -> Option<String> {
        self.traces
            .export
            .then(|| url(&self.exporter.traces_endpoint, &self.exporter.endpoint, "/v1/traces"))?
    }
}

fn url(own: &str, base: &str, path: &str) -> Option<String> {
    match (own, base) {
        ("", "") => None,
        ("", base) => Some(format!("{}{path}", base.trim_end_matches('/'))),
        (own, _) => Some(own.to_owned()),
    }
}

fn text(path: &Path) -> Result<String, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::settings(format!("{}: {error}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| wrong(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(&format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(&error))
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, Error> {
    value.trim().parse().map_err(|_| Error::settings(format!("{name} is {value:?}; it must be a whole number")))
}

/// `key=value` pairs between commas, values percent-encoded.
fn pairs(name: &str, list: &str) -> Result<Vec<(String, String)>, Error> {
    let mut out = Vec::new();
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Error::settings(format!("{name} has {pair:?}; it must be `key=value` pairs between commas"))
        })?;
        out.push((key.trim().to_owned(), crate::propagation::percent_decode(value.trim())));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::from_parts(Some((Path::new("t.toml"), text)), &find);
        settings.and_then(|settings| settings.check().map(|()| settings)).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_win_over_the_file() {
        let file = "[service]\nname = 'a'\nversion = '1'\n[exporter]\nendpoint = 'http://h:1/'\n[resource]\n'team' = 'x'\n";
        let settings = read(
            file,
            &[
                ("OTEL_SERVICE_NAME", "b"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.version=2,team=y%2Cz, deployment.environment.name=prod"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b=2"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
                ("OTEL_TRACES_EXPORTER", "none"),
                ("OTEL_BLRP_SCHEDULE_DELAY", "70"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", ""),
            ],
        )
        .unwrap();
        let service = &settings.service;
        assert_eq!((service.name.as_str(), service.version.as_str()), ("b", "2"));
        assert_eq!(service.environment, "prod");
        assert_eq!(settings.resource.get("team").map(String::as_str), Some("y,z"));
        assert_eq!(settings.exporter.headers.len(), 2);
        assert_eq!(settings.exporter.compression, Compression::None);
        assert_eq!(settings.logs_url().as_deref(), Some("http://h:1/v1/logs"));
        assert_eq!(settings.traces_url(), None);
        assert_eq!(settings.delay(), Duration::from_millis(70));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let named = "[service]\nname = 'a'\n";
        for (file, variables, want) in [
            ("", &[][..], "has no name"),
            ("[service]\nnaem = 'a'\n", &[], "unknown field `naem`"),
            ("data_dir = 'x'\n", &[], "is it the hub's file?"),
            (named, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "http/protobuf only"),
            (named, &[("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json")], "LOGS_PROTOCOL is \"http/json\""),
            (named, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")], "must be a whole number"),
            (named, &[("OTEL_RESOURCE_ATTRIBUTES", "a")], "`key=value` pairs"),
            (named, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "hub:4318")], "begins with http://"),
            (named, &[("OTEL_LOGS_EXPORTER", "console")], "otlp or none"),
            ("[service]\nname = 'a'\n[exporter]\ncert = 'x'\n", &[], "go together"),
            ("[service]\nname = 'a'\n[traces]\nratio = 2.0\n", &[], "from 0 to 1"),
        ] {
            let error = read(file, variables).unwrap_err();
            assert!(error.contains(want), "{file:?}: {error}");
        }
    }
}
