//! Settings of a service in its language, from the one contract. Pure: gives paths and texts, and writes nothing.
//!
//! The templates are files in `templates/`, with `@NAME@` where something of the service stands. They are code and configuration that
//! runs: what goes into them is checked first ([`Service::check`]), so that a name cannot become a line of code.

use std::fmt;

use crate::registry::{Registry, base_layers, load};
use crate::rust_events;

/// Bytes of a value at most.
const VALUE_BYTES_MAX: usize = 512;
/// OpenTelemetry SDKs that the files are for.
const PYTHON_SDK: &str = "1.45.2";
const NODE_SDK: &str = "sdk-trace 2.12.0 and sdk-logs 0.223.0";

/// A language, or a program beside the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Lang {
    Rust,
    Python,
    Node,
    Java,
    Go,
    Dotnet,
    Nginx,
    Envoy,
    Collector,
    Fluentbit,
    Vector,
}

impl Lang {
    /// All of them.
    pub const ALL: [Lang; 11] = [
        Lang::Rust,
        Lang::Python,
        Lang::Node,
        Lang::Java,
        Lang::Go,
        Lang::Dotnet,
        Lang::Nginx,
        Lang::Envoy,
        Lang::Collector,
        Lang::Fluentbit,
        Lang::Vector,
    ];

    /// Its name, as it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Lang::Rust => "rust",
            Lang::Python => "python",
            Lang::Node => "node",
            Lang::Java => "java",
            Lang::Go => "go",
            Lang::Dotnet => "dotnet",
            Lang::Nginx => "nginx",
            Lang::Envoy => "envoy",
            Lang::Collector => "collector",
            Lang::Fluentbit => "fluentbit",
            Lang::Vector => "vector",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Lang> {
        Lang::ALL.into_iter().find(|lang| lang.name() == name)
    }

    /// Files and their templates.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        const ENV: (&str, &str) = ("otel.env", include_str!("../templates/common/otel.env"));
        const YAML: (&str, &str) = ("otel.yaml", include_str!("../templates/common/otel.yaml"));
        const JAVA_YAML: &str = concat!(
            include_str!("../templates/common/otel.yaml"),
            include_str!("../templates/java/instrumentation.yaml")
        );
        match self {
            Lang::Rust => &[("threadline.toml", include_str!("../templates/rust/threadline.toml"))],
            Lang::Python => &[
                ENV,
                YAML,
                ("logging.json", include_str!("../templates/python/logging.json")),
                ("threadline_telemetry.py", include_str!("../templates/python/threadline_telemetry.py")),
            ],
            Lang::Node => &[ENV, YAML, ("telemetry.mjs", include_str!("../templates/node/telemetry.mjs"))],
            Lang::Java => &[
                ("otel.yaml", JAVA_YAML),
                ("jvm.options", include_str!("../templates/java/jvm.options")),
                ("logback.xml", include_str!("../templates/java/logback.xml")),
            ],
            Lang::Go => &[YAML, ("telemetry/telemetry.go", include_str!("../templates/go/telemetry.go"))],
            Lang::Dotnet => &[ENV, ("appsettings.json", include_str!("../templates/dotnet/appsettings.json"))],
            Lang::Nginx => &[("threadline.conf", include_str!("../templates/nginx/threadline.conf"))],
            Lang::Envoy => &[("envoy.yaml", include_str!("../templates/envoy/envoy.yaml"))],
            Lang::Collector => &[("collector.yaml", include_str!("../templates/collector/collector.yaml"))],
            Lang::Fluentbit => &[("fluent-bit.yaml", include_str!("../templates/fluentbit/fluent-bit.yaml"))],
            Lang::Vector => &[("vector.yaml", include_str!("../templates/vector/vector.yaml"))],
        }
    }

    /// What this SDK takes as `file_format` of the declarative configuration.
    fn file_format(self) -> &'static str {
        match self {
            Lang::Go => "1.0-rc.3",
            Lang::Java => "1.1",
            _ => "1.0",
        }
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A service, as its files name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `service.name`.
    pub name: String,
    /// `service.version`.
    pub version: String,
    /// `service.namespace`.
    pub namespace: String,
    /// `deployment.environment.name`.
    pub environment: String,
    /// Base URL of the host's OTLP/HTTP port.
    pub endpoint: String,
    /// PEM file of the host's authority; empty for none.
    pub ca: String,
    /// PEM file of the service's certificate; empty for none.
    pub cert: String,
    /// PEM file of its key; empty for none.
    pub key: String,
}

impl Service {
    /// A service of this name, with what others have unless told otherwise.
    pub fn new(name: &str) -> Service {
        let text = str::to_owned;
        Service {
            name: text(name),
            version: text("0.0.0"),
            namespace: text("default"),
            environment: text("development"),
            endpoint: text("http://127.0.0.1:4318"),
            ca: String::new(),
            cert: String::new(),
            key: String::new(),
        }
    }

    /// Whether it may stand in files of every language.
    ///
    /// # Errors
    /// Which value may not, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        for (what, value) in [
            ("the name", &self.name),
            ("the version", &self.version),
            ("the namespace", &self.namespace),
            ("the environment", &self.environment),
        ] {
            if value.is_empty() || value.len() > VALUE_BYTES_MAX || !value.bytes().all(plain) {
                return Err(format!(
                    "{what} is {value:?}: it may have letters, digits, dots, dashes and underscores"
                ));
            }
        }
        for (what, value) in [
            ("the endpoint", &self.endpoint),
            ("the file of the authority", &self.ca),
            ("the file of the certificate", &self.cert),
            ("the file of the key", &self.key),
        ] {
            let fits = |byte: u8| plain(byte) || b"/:+%~,[]@".contains(&byte);
            if value.len() > VALUE_BYTES_MAX || !value.bytes().all(fits) {
                return Err(format!(
                    "{what} is {value:?}: it may have no spaces, quotes and control characters"
                ));
            }
        }
        if !self.endpoint.starts_with("http://") && !self.endpoint.starts_with("https://") {
            return Err(format!("the endpoint is {:?}: it begins with http:// or https://", self.endpoint));
        }
        if self.cert.is_empty() != self.key.is_empty() {
            return Err("certificate and key go together: give both, or none".to_owned());
        }
        Ok(())
    }

    /// Host of the endpoint.
    fn host(&self) -> &str {
        let rest = self.endpoint.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        // The colons of an IPv6 address are within brackets.
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        port.map_or(authority, |(host, _)| host)
    }
}

/// The files of a service: relative paths and texts.
///
/// # Errors
/// What is wrong with the service's values.
pub fn render(registry: &Registry, service: &Service, lang: Lang) -> Result<Vec<(String, String)>, String> {
    service.check()?;
    let mut files: Vec<(String, String)> = lang
        .files()
        .iter()
        .map(|(path, template)| ((*path).to_owned(), fill(template, registry, service, lang)))
        .collect();
    if lang == Lang::Rust
        && let Some(text) = own_events(registry)
    {
        files.push(("src/contract_events.rs".to_owned(), text));
    }
    Ok(files)
}

fn fill(template: &str, registry: &Registry, service: &Service, lang: Lang) -> String {
    let tls = tls_yaml(service);
    let https = if service.endpoint.starts_with("https://") { "on" } else { "off" };
    let values = [
        ("@SERVICE@", service.name.as_str()),
        ("@VERSION@", service.version.as_str()),
        ("@NAMESPACE@", service.namespace.as_str()),
        ("@ENVIRONMENT@", service.environment.as_str()),
        ("@ENDPOINT@", service.endpoint.trim_end_matches('/')),
        ("@HOST@", service.host()),
        ("@CA@", service.ca.as_str()),
        ("@CERT@", service.cert.as_str()),
        ("@KEY@", service.key.as_str()),
        ("@TLS_ON@", https),
        ("@TLS_YAML@\n", tls.as_str()),
        ("@CONTRACT@", registry.version()),
        ("@FILE_FORMAT@", lang.file_format()),
        ("@PYTHON_SDK@", PYTHON_SDK),
        ("@NODE_SDK@", NODE_SDK),
    ];
    let filled = values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    // A variable or a file that is not there is left out, not set to nothing.
    let empty = |line: &&str| line.starts_with("OTEL_") && line.ends_with('=');
    let lines: Vec<&str> = filled.lines().filter(|line| !empty(line)).collect();
    lines.join("\n") + "\n"
}

fn tls_yaml(service: &Service) -> String {
    let pairs = [("ca_file", &service.ca), ("cert_file", &service.cert), ("key_file", &service.key)];
    let lines: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("              {key}: \"{value}\"\n"))
        .collect();
    if lines.is_empty() { String::new() } else { format!("            tls:\n{}", lines.concat()) }
}

/// Macros of the events that a company has added; the SDK has those of the base contract.
fn own_events(registry: &Registry) -> Option<String> {
    let base = load(&base_layers()).ok()?;
    let own: Vec<&str> =
        registry.events.keys().filter(|name| !base.events.contains_key(*name)).map(String::as_str).collect();
    let options = rust_events::Options { module: "contract_events", tracing: "::tracing" };
    (!own.is_empty()).then(|| rust_events::source(registry, &own, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service {
            endpoint: "https://hub.internal:4318".to_owned(),
            ca: "/etc/ca.pem".to_owned(),
            cert: "/etc/checkout.pem".to_owned(),
            key: "/etc/checkout.key".to_owned(),
            version: "2.3.1".to_owned(),
            ..Service::new("checkout")
        }
    }

    #[test]
    fn every_language_is_filled_in() {
        let registry = load(&base_layers()).unwrap();
        for lang in Lang::ALL {
            assert_eq!(Lang::parse(lang.name()), Some(lang));
            let files = render(&registry, &service(), lang).unwrap();
            assert!(!files.is_empty());
            for (path, text) in files {
                let left = text.split('@').skip(1).step_by(2).find(|word| {
                    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                });
                assert_eq!(left, None, "{lang} {path}");
                let named = text.contains("checkout")
                    || ["jvm.options", "logging.json", "appsettings.json"].contains(&&*path);
                assert!(named, "{lang} {path}");
                if path.ends_with(".yaml") {
                    let documents = threadline_model::yaml::read(&text);
                    assert_eq!(documents.map(|documents| documents.len()), Ok(1), "{lang}");
                }
            }
        }
    }

    #[test]
    fn the_host_is_without_the_port() {
        for (endpoint, host) in [
            ("https://hub.internal:4318", "hub.internal"),
            ("https://hub.internal/otlp", "hub.internal"),
            ("http://[::1]:4318", "[::1]"),
            ("http://[::1]/otlp", "[::1]"),
        ] {
            let service = Service { endpoint: endpoint.to_owned(), ..service() };
            assert_eq!(service.host(), host, "{endpoint}");
        }
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let registry = load(&base_layers()).unwrap();
        let files = render(&registry, &Service::new("checkout"), Lang::Python).unwrap();
        for (path, text) in files {
            if path == "otel.env" || path == "otel.yaml" {
                assert!(!text.contains("CERTIFICATE") && !text.contains("tls:"), "{path}: {text}");
            }
        }
    }

    #[test]
    fn values_cannot_become_code() {
        let registry = load(&base_layers()).unwrap();
        let refused = |change: &dyn Fn(&mut Service)| {
            let mut service = service();
            change(&mut service);
            render(&registry, &service, Lang::Python).unwrap_err()
        };
        for (error, want) in [
            (refused(&|service| service.name = "a\"\nimport os".to_owned()), "the name"),
            (refused(&|service| service.version = String::new()), "the version"),
            (refused(&|service| service.environment = "${HOME}".to_owned()), "the environment"),
            (refused(&|service| service.endpoint = "hub:4318".to_owned()), "begins with http://"),
            (refused(&|service| service.ca = "a b".to_owned()), "no spaces"),
            (refused(&|service| service.key = String::new()), "go together"),
        ] {
            assert!(error.contains(want), "{error}");
        }
    }
}
