//! How a command comes to a hub: its URL, the token and certificate it shows, and the authorities it trusts.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use super::failure::Failure;

/// Bytes of a file with a token, certificates or a key.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The hub to ask.
#[derive(Clone, Debug, Args)]
pub(super) struct HubArgs {
    /// The hub to ask.
    #[arg(long, value_name = "URL", env = "THREADLINE_HUB", default_value = "http://127.0.0.1:7311")]
    pub(super) hub: String,
    /// Token to show to the hub. Other users of this machine may see it in the list of processes: rather use the variable or a file.
    #[arg(long, value_name = "TOKEN", env = "THREADLINE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File with the token; one that is given as such wins.
    #[arg(long, value_name = "FILE", env = "THREADLINE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Authorities that the hub's certificate may be of, PEM; without it the usual ones of the web.
    #[arg(long, value_name = "FILE", env = "THREADLINE_CA")]
    ca: Option<PathBuf>,
    /// Certificate to show to the hub, PEM.
    #[arg(long, value_name = "FILE", env = "THREADLINE_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[arg(long, value_name = "FILE", env = "THREADLINE_KEY", requires = "cert")]
    key: Option<PathBuf>,
}

/// What requests to a hub are made with.
#[derive(Clone)]
pub(super) struct Access {
    /// The client.
    pub(super) agent: ureq::Agent,
    /// Value of the header `Authorization`.
    pub(super) authorization: Option<String>,
}

impl HubArgs {
    /// The hub's URL, with a scheme and without a slash at its end.
    pub(super) fn base(&self) -> String {
        let base = if self.hub.contains("://") { self.hub.clone() } else { format!("http://{}", self.hub) };
        base.trim_end_matches('/').to_owned()
    }

    /// What requests are made with. Answers must begin within `reply_timeout`, if there is one.
    pub(super) fn access(&self, reply_timeout: Option<Duration>) -> Result<Access, Failure> {
        let mut tls = TlsConfig::builder();
        if let Some(ca) = &self.ca {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates(ca)?)));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&certificates(cert)?, private_key(key)?)));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A token is for the hub that was named, and for no other.
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(reply_timeout)
            .tls_config(tls.build())
            .build();
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, file) => file.as_deref().map(text).transpose()?,
        };
        let authorization = token.map(|token| format!("Bearer {}", token.trim()));
        if authorization.as_ref().is_some_and(|value| http::HeaderValue::from_str(value).is_err()) {
            return Err(Failure::Usage("the token has characters that no token has".to_owned()));
        }
        Ok(Access { agent: config.into(), authorization })
    }
}

fn text(path: &Path) -> Result<String, Failure> {
    let wrong = |error: std::io::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(wrong)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let wrong = |reason: String| Failure::Usage(format!("{}: {reason}", path.display()));
    let mut all = Vec::new();
    for item in parse_pem(text(path)?.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            all.push(certificate);
        }
    }
    if all.is_empty() {
        return Err(wrong("there is no certificate in it (PEM)".to_owned()));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, Failure> {
    PrivateKey::from_pem(text(path)?.as_bytes())
        .map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}
