//! Settings: each declared once, with name, type, default, unit and documentation.
//!
//! Vocabulary:
//! - *setting*: one row of the table [`TABLE`]; the file's key, the variable, the flag, `docs/settings.md` and the
//!   field of [`Settings`] all come from it;
//! - *kind*: how a value is written ([`kind`]): a size, a duration, an address, …;
//! - *origin*: where the value in effect comes from. A flag wins over the environment, the environment over the
//!   file, the file over the default.
//!
//! This module does not know clap, and reads no file and no environment: it is given their contents.

pub mod kind;
mod reference;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use threadline_contract::Policy;
use threadline_query::lang::Network;
use threadline_store::RetentionRule;

use self::kind::{
    Actions, Address, Bytes, ClientAuth, Count, Demand, Folder, Kind, Mismatch, Networks, Period, Retention,
    SenderRule, Senders, Share, Switch, Url, Verdict, Word, Words,
};

pub use self::reference::reference;

/// The settings file that is read when it exists and no other is named.
pub const FILE_NAME: &str = "threadline.toml";

/// Largest settings file that is read, bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// One setting.
pub struct Setting {
    /// Key in the file; with `-` for `_` the flag; in capitals after `THREADLINE_` the variable.
    pub name: &'static str,
    /// What it sets. The unit is part of the kind.
    pub doc: &'static str,
    /// Name of the kind: how the value is written.
    pub kind: &'static str,
    set: fn(&mut Settings, &str) -> Result<(), String>,
    get: fn(&Settings) -> String,
}

impl Setting {
    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("THREADLINE_{}", self.name.to_uppercase())
    }

    /// The flag, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The value in effect, as one writes it.
    pub fn value(&self, settings: &Settings) -> String {
        (self.get)(settings)
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident($type:ty) = $default:expr;)+) => {
        /// All settings of a hub, as they are in effect.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// All settings, in the order of the reference.
        pub static TABLE: &[Setting] = &[$(Setting {
            name: stringify!($name),
            doc: concat!($($doc),+),
            kind: $kind::NAME,
            set: |settings, text| {
                settings.$name = <$kind as Kind<$type>>::parse(text)?;
                Ok(())
            },
            get: |settings| <$kind as Kind<$type>>::write(&settings.$name),
        },)+];
    };
}

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

settings! {
    /// Data folder: everything the hub keeps lies below it.
    data_dir: Folder(PathBuf) = PathBuf::from("./threadline-data");
    /// Address of OTLP over gRPC.
    otlp_grpc_address: Address(SocketAddr) = local(4317);
    /// Address of OTLP over HTTP.
    otlp_http_address: Address(SocketAddr) = local(4318);
    /// Address of the API and the pages.
    api_address: Address(SocketAddr) = local(7311);
    /// Environment that the hub's own records say they are of (`deployment.environment.name`), such as `production`.
    environment: Word(String) = "default".to_owned();
    /// Certificate of this hub and those up to its authority, PEM. With it all three ports speak TLS.
    tls_cert: Folder(Option<PathBuf>) = None;
    /// Private key of `tls_cert`, PEM. Both are read again when they change.
    tls_key: Folder(Option<PathBuf>) = None;
    /// Authorities whose certificates senders show, PEM.
    tls_client_ca: Folder(Option<PathBuf>) = None;
    /// Revoked certificates of these authorities (CRL), PEM.
    tls_client_crl: Folder(Option<PathBuf>) = None;
    /// Whether senders must show a certificate. Without one a token is needed.
    tls_client_auth: Demand(ClientAuth) = ClientAuth::Required;
    /// Who may write records of other services than their own: collectors, gateways. Without a rule a certificate writes as the services it names.
    senders: Senders(Vec<SenderRule>) = Vec::new();
    /// What becomes of records of a service that their sender may not write as.
    sender_mismatch: Verdict(Mismatch) = Mismatch::Refuse;
    /// Record every query: who, what, from where, how many rows.
    audit_queries: Switch(bool) = true;
    /// Record when the hub has started and when it stops (`service.started`, `service.stopping`).
    record_lifecycle: Switch(bool) = true;
    /// How long a query waits for a place for its record where those of others are not kept yet, before it is refused (503). `0s` refuses at once.
    audit_wait: Period(Duration) = Duration::from_secs(5);
    /// How long a session of a browser may be idle.
    session_idle: Period(Duration) = Duration::from_secs(2 * 3600);
    /// How long a session of a browser lasts at most.
    session_max: Period(Duration) = Duration::from_secs(24 * 3600);
    /// Proxies that are believed when they say whom a request comes from (`X-Forwarded-For`, `Forwarded`); empty for none.
    trusted_proxies: Networks(Vec<Network>) = Vec::new();
    /// Listen beyond this machine without TLS and authentication.
    insecure: Switch(bool) = false;
    /// Largest OTLP request, after decompression.
    request_bytes_max: Bytes(usize) = 64 << 20;
    /// Largest record. A larger one is refused alone.
    record_bytes_max: Bytes(usize) = 4 << 20;
    /// Origins that browsers may send OTLP from: empty for none, `*` for any.
    cors_origins: Words(Vec<String>) = Vec::new();
    /// Memory for rows that are not sealed yet. Beyond it senders are asked to come back.
    memory_bytes_max: Bytes(usize) = 96 << 20;
    /// Memory for footers and index blocks of sealed files that were read and may be wanted again.
    cache_bytes_max: Bytes(usize) = 256 << 20;
    /// Free disk below which senders are asked to come back. Queries go on.
    disk_free_bytes_min: Bytes(u64) = 1 << 30;
    /// How long a query may run.
    query_timeout: Period(Duration) = Duration::from_secs(30);
    /// Memory of one query.
    query_memory_bytes_max: Bytes(usize) = 256 << 20;
    /// Queries that run at once. Further ones wait.
    queries_max: Count(usize) = 16;
    /// Share of one core for compaction and retention, 0–1; up to a whole core while more than 32 files wait to be merged.
    maintenance_cpu_share: Share(f64) = 0.5;
    /// How long records are kept, by stream: the first rule that fits a record decides, a record that no rule fits is kept.
    retention: Retention(Vec<RetentionRule>) = Vec::new();
    /// Bytes of sealed files beyond which the oldest hours are deleted; `none` for no bound.
    sealed_bytes_max: Bytes(Option<u64>) = None;
    /// Size of a segment of the write-ahead log.
    wal_segment_bytes: Bytes(u64) = 64 << 20;
    /// Age at which rows in memory are sealed into files.
    seal_after: Period(Duration) = Duration::from_secs(30);
    /// Check every record against the contract.
    contract: Switch(bool) = true;
    /// Mask secrets before anything is written, whether records are checked or not. `false` keeps them as they come.
    redact: Switch(bool) = true;
    /// Folder of the company's contract, a layer over the base contract; empty for the base contract alone.
    contract_dir: Folder(Option<PathBuf>) = None;
    /// What is done with records that break a rule of the contract. Rules that are not named are tagged.
    contract_actions: Actions(Policy) = Policy::default();
    /// Mask attributes that say something about a person, too.
    contract_mask_pii: Switch(bool) = false;
    /// Watch records and spans by rules and baselines; what is found is kept as records (docs/detection.md).
    detection: Switch(bool) = true;
    /// Use the rules that come with the hub.
    rules_builtin: Switch(bool) = true;
    /// Folder of the company's rules, in Sigma's format; read again when a file changes.
    rules_dir: Folder(Option<PathBuf>) = None;
    /// Learn what traffic is usual, and find what is not.
    baselines: Switch(bool) = true;
    /// Detection that is further behind than this is a finding of its own.
    detection_lag_max: Period(Duration) = Duration::from_secs(60);
    /// Make incidents of what is found (docs/incidents.md).
    incidents: Switch(bool) = true;
    /// Who is told of which incidents, when and how (docs/alerts.md), YAML; read again when it changes. Without it incidents are kept, and nobody is told.
    alerts_file: Folder(Option<PathBuf>) = None;
    /// Where people reach this hub's pages, such as `https://logs.example.com`; messages link there. Empty: no links.
    public_url: Url(String) = String::new();
    /// Reply before the sync. For like-for-like benchmarks only: acknowledged records may be lost.
    relaxed: Switch(bool) = false;
}

/// Where a value in effect comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The settings file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What settings are made from.
pub struct Sources<'a> {
    /// The settings file: where it lies and its text.
    pub file: Option<(PathBuf, String)>,
    /// The value of an environment variable. Unknown `THREADLINE_…` variables are no error: Kubernetes sets such
    /// ones (`THREADLINE_PORT`) for a service of that name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Flags: names of settings, and their values.
    pub flags: Vec<(&'static str, String)>,
}

/// Settings, and where each comes from.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The settings.
    pub settings: Settings,
    /// One origin per setting, in the order of [`TABLE`].
    pub origins: Vec<Origin>,
}

/// A setting that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(pub String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl Effective {
    /// Merges the sources over the defaults.
    ///
    /// # Errors
    /// Which setting of which source is wrong, and how it is written.
    pub fn load(sources: Sources<'_>) -> Result<Effective, SettingsError> {
        let settings = Settings::default();
        let mut effective = Effective { settings, origins: vec![Origin::Default; TABLE.len()] };
        if let Some((path, text)) = sources.file {
            effective.merge_file(&path, &text)?;
        }
        for setting in TABLE {
            if let Some(value) = (sources.variable)(&setting.variable()) {
                effective.set(setting.name, &value, Origin::Variable(setting.variable()))?;
            }
        }
        for (name, value) in sources.flags {
            effective.set(name, &value, Origin::Flag(name.replace('_', "-")))?;
        }
        effective.settings.check()?;
        Ok(effective)
    }

    fn merge_file(&mut self, path: &std::path::Path, text: &str) -> Result<(), SettingsError> {
        let table: toml::Table =
            text.parse().map_err(|error| SettingsError(format!("{}: {error}", path.display())))?;
        for (key, value) in &table {
            let text = kind::from_toml(key, value)
                .map_err(|reason| SettingsError(format!("{}: {key}: {reason}", path.display())))?;
            self.set(key, &text, Origin::File(path.to_path_buf()))?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), SettingsError> {
        let known = TABLE.iter().zip(&mut self.origins).find(|(setting, _)| setting.name == name);
        let Some((setting, slot)) = known else {
            let hint = nearest(name, TABLE.iter().map(|setting| setting.name))
                .map(|known| format!(", did you mean `{known}`?"))
                .unwrap_or_else(|| "; `threadline config reference` lists the settings".to_owned());
            return Err(SettingsError(format!("{origin}: there is no setting `{name}`{hint}")));
        };
        (setting.set)(&mut self.settings, value.trim())
            .map_err(|reason| SettingsError(format!("{origin}: {name} = `{value}`: {reason}")))?;
        *slot = origin;
        Ok(())
    }
}

impl Settings {
    /// Rules between settings.
    fn check(&self) -> Result<(), SettingsError> {
        let addresses = [self.otlp_grpc_address, self.otlp_http_address, self.api_address];
        for (at, address) in addresses.iter().enumerate() {
            if address.port() != 0 && addresses.iter().skip(at + 1).any(|other| other == address) {
                return Err(SettingsError(format!(
                    "two addresses are {address}: each needs a port of its own"
                )));
            }
        }
        if self.record_bytes_max > self.request_bytes_max {
            return Err(SettingsError(
                "record_bytes_max is above request_bytes_max: no record of that size could come in".to_owned(),
            ));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(SettingsError("tls_cert and tls_key belong together: set both or none".to_owned()));
        }
        if self.session_idle.is_zero() || self.session_max.is_zero() {
            return Err(SettingsError("session_idle and session_max must be longer than 0s".to_owned()));
        }
        if self.tls_client_ca.is_some() && self.tls_cert.is_none() {
            return Err(SettingsError("tls_client_ca needs TLS: set tls_cert and tls_key".to_owned()));
        }
        if self.tls_client_crl.is_some() && self.tls_client_ca.is_none() {
            return Err(SettingsError(
                "tls_client_crl is of the authorities of tls_client_ca: set that too".to_owned(),
            ));
        }
        Ok(())
    }
}

/// The known name that is most alike, when one is alike enough to be a slip of the pen.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests;
