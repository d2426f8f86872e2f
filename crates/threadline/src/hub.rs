//! A running hub: sees to its door, opens the store, binds the listeners, starts the servers, stops everything in reverse.
//!
//! It does not know settings files, signals or the command line, what a request says, or where bytes lie.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use threadline_model::clock::Clock;
use threadline_store::{Env, Options, Store, StoreError};
use tokio::runtime::Runtime;

use crate::contract::Gatekeeper;
use crate::detection::Detection;
use crate::door::journal::{Journal, Writer};
use crate::door::roles::Port;
use crate::door::tls::Tls;
use crate::door::tokens::TokenFile;
use crate::door::{Door, notes, watch};
use crate::incidents::Incidents;
use crate::meters::Meters;
use crate::notify::{self, Notifier};
use crate::serve::{Front, Server};
use crate::settings::Settings;
use crate::{api, ingest, serve};

/// How long a stopping server lets requests in progress finish.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What a hub takes from outside, so that tests and the simulation can inject it.
#[derive(Clone)]
pub struct Components {
    /// Disk, clock and randomness.
    pub env: Env,
}

impl Components {
    /// The machine's disk, clock and randomness.
    pub fn system() -> Self {
        Self { env: Env::local() }
    }
}

/// Where a hub listens. Ports that were given as 0 are the ones the system chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// OTLP/gRPC.
    pub otlp_grpc: SocketAddr,
    /// OTLP/HTTP.
    pub otlp_http: SocketAddr,
    /// API and pages.
    pub api: SocketAddr,
}

/// Why a hub did not start.
#[derive(Debug)]
pub enum StartError {
    /// The store did not open.
    Store(StoreError),
    /// A listener could not be bound: choose another address or stop what uses it.
    Bind {
        /// The setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// Tokens or certificates cannot be read, or the hub would be open to others.
    Door(String),
    /// The contract's folder could not be read, or says what cannot be.
    Contract(String),
    /// The system gave no threads.
    Threads(std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(error) => write!(f, "the store did not open: {error}"),
            StartError::Bind { setting, address, source } => {
                write!(f, "cannot listen on {address} ({setting}): {source}; set another address")
            }
            StartError::Door(reason) => f.write_str(reason),
            StartError::Contract(problems) => write!(f, "the contract cannot be used:\n{problems}"),
            StartError::Threads(error) => write!(f, "cannot start threads: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Store(error) => Some(error),
            StartError::Bind { source, .. } | StartError::Threads(source) => Some(source),
            StartError::Door(_) => None,
            StartError::Contract(_) => None,
        }
    }
}

/// A running hub. Dropping it stops it as [`Hub::shutdown`] does.
pub struct Hub {
    addresses: Addresses,
    store: Store,
    door: Arc<Door>,
    tls: Option<Arc<Tls>>,
    gatekeeper: Gatekeeper,
    clock: Arc<dyn Clock>,
    /// When it was ready, monotonic.
    ready: Duration,
    record_lifecycle: bool,
    /// Writes the hub's own records.
    journal: Option<Writer>,
    detection: Option<Detection>,
    incidents: Option<Incidents>,
    notifier: Option<Notifier>,
    stopping: Arc<AtomicBool>,
    /// In the order they were started.
    servers: Vec<Server>,
    runtimes: Option<Runtimes>,
}

/// Threads for connections, and threads for queries: a query cannot hold up what takes records.
struct Runtimes {
    io: Runtime,
    queries: Runtime,
}

impl Runtimes {
    fn new() -> std::io::Result<Runtimes> {
        let runtime =
            |name: &str| tokio::runtime::Builder::new_multi_thread().thread_name(name).enable_all().build();
        Ok(Runtimes { io: runtime("threadline-io")?, queries: runtime("threadline-query")? })
    }
}

/// Starts a hub: door, store, the journal of the door, incidents, delivery, detection, OTLP/gRPC, OTLP/HTTP, API, in this order. Returns when all
/// three listen.
///
/// # Errors
/// When the hub would be open to others, the store does not open or an address is taken; nothing is left running then.
pub fn start(settings: Settings, components: Components) -> Result<Hub, StartError> {
    let env = components.env;
    let begun = env.clock.monotonic();
    let meters = Arc::new(Meters::new());
    let (journal, waiting) = Journal::new(env.clone(), Arc::clone(&meters));
    let tls = Tls::load(&settings, Arc::clone(&env.clock)).map_err(StartError::Door)?.map(Arc::new);
    let door =
        Door::new(&settings, env.clone(), Arc::clone(&meters), journal.clone()).map_err(StartError::Door)?;
    let door = Arc::new(door);

    if settings.insecure {
        tracing::warn!(
            "insecure: the hub listens wherever it is told to, with TLS and authentication or without"
        );
    }
    let bind = |setting, address| bind(address).map_err(|source| StartError::Bind { setting, address, source });
    let (grpc_listener, grpc_address) = bind("otlp_grpc_address", settings.otlp_grpc_address)?;
    let (http_listener, http_address) = bind("otlp_http_address", settings.otlp_http_address)?;
    let (api_listener, api_address) = bind("api_address", settings.api_address)?;
    let addresses = Addresses { otlp_grpc: grpc_address, otlp_http: http_address, api: api_address };

    let gatekeeper = Gatekeeper::new(&settings).map_err(StartError::Contract)?;
    let store =
        Store::open(&settings.data_dir, store_options(&settings), env.clone()).map_err(StartError::Store)?;
    tracing::info!(data_dir = %settings.data_dir.display(), "store open");
    let runtimes = Runtimes::new().map_err(StartError::Threads)?;
    let writer = waiting.start(
        store.clone(),
        &settings.environment,
        env.clone(),
        Arc::clone(&meters),
        gatekeeper.clone(),
    );
    let writer = writer.map_err(StartError::Threads)?;
    // Before detection: what it finds from now on is seen.
    let incidents = Incidents::start(&settings, &store, &env, &gatekeeper).map_err(StartError::Threads)?;
    let notifier = tell(&settings, &incidents, &store, &env, &gatekeeper);
    let detection = Detection::start(&settings, &store, &env, &gatekeeper).map_err(StartError::Threads)?;

    let stopping = Arc::new(AtomicBool::new(false));
    let clock = Arc::clone(&env.clock);
    let intake = Arc::new(ingest::Intake::new(
        &settings,
        store.clone(),
        clock.clone(),
        Arc::clone(&meters),
        gatekeeper.clone(),
    ));
    let grpc = ingest::grpc::handler(Arc::clone(&intake), Arc::clone(&door));
    let http = ingest::http::handler(Arc::clone(&intake), Arc::clone(&door), settings.cors_origins.clone());
    let parts = api::Parts {
        addresses,
        store: store.clone(),
        clock: Arc::clone(&clock),
        meters: Arc::clone(&meters),
        stopping: Arc::clone(&stopping),
        intake,
        door: Arc::clone(&door),
        tls: tls.clone(),
        gatekeeper: gatekeeper.clone(),
        detection: detection.board(),
        incidents: incidents.board(),
        notify: notifier.as_ref().map(Notifier::handle),
        runtime: runtimes.queries.handle().clone(),
    };
    let pages = api::handler(&settings, parts);

    let handle = runtimes.io.handle().clone();
    let mut hub = Hub {
        addresses,
        store,
        door: Arc::clone(&door),
        tls: tls.clone(),
        gatekeeper,
        clock,
        ready: Duration::ZERO,
        record_lifecycle: settings.record_lifecycle,
        journal: Some(writer),
        detection: Some(detection),
        incidents: Some(incidents),
        notifier,
        stopping,
        servers: Vec::new(),
        runtimes: Some(runtimes),
    };
    let front = |port| Front::new(port, tls.clone(), journal.clone(), Arc::clone(&meters));
    let mut spawn = |server: std::io::Result<Server>, setting, address| {
        let server = server.map_err(|source| StartError::Bind { setting, address, source })?;
        tracing::info!(%address, "{} listens", server.name());
        hub.servers.push(server);
        Ok(())
    };
    spawn(serve::spawn(&handle, front(Port::Grpc), grpc_listener, grpc), "otlp_grpc_address", grpc_address)?;
    spawn(serve::spawn(&handle, front(Port::Http), http_listener, http), "otlp_http_address", http_address)?;
    spawn(serve::spawn(&handle, front(Port::Api), api_listener, pages), "api_address", api_address)?;
    handle.spawn(watch::keep_fresh(door, TokenFile::of(&settings.data_dir), tls));
    hub.ready = hub.clock.monotonic();
    if hub.record_lifecycle {
        let version = hub.gatekeeper.contract().map(|contract| contract.registry().version().to_owned());
        journal.note(notes::started(hub.ready.saturating_sub(begun), &version.unwrap_or_default()));
    }
    Ok(hub)
}

impl Hub {
    /// Where the hub listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether the ports speak TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads tokens, certificates and the contract's folder again, without interruption. What cannot be read stays as it was.
    ///
    /// # Errors
    /// What could not be read and why, a line each.
    pub fn reload(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        problems.extend(self.door.reload_tokens().err().map(|reason| format!("tokens: {reason}")));
        if let Some(tls) = &self.tls {
            problems.extend(tls.reload().err().map(|reason| format!("certificates: {reason}")));
        }
        match self.gatekeeper.reload() {
            Ok(()) => {
                let contract = self.gatekeeper.contract();
                let version = contract.as_ref().map_or("", |contract| contract.registry().version());
                let note = notes::changed("contract.reloaded", ("contract", version), "read again");
                self.door.journal.note(note);
            }
            Err(reason) => problems.push(format!("contract: {reason}")),
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    /// The hub's store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Stops: API, OTLP/HTTP, OTLP/gRPC, detection, incidents, delivery, journal, store, in this order. Requests in progress may finish within 10 seconds;
    /// tails and queries are ended. Blocks until all is stopped.
    ///
    /// # Errors
    /// When the store could not commit and seal what it held; what was acknowledged is on disk nevertheless.
    pub fn shutdown(mut self) -> Result<(), StoreError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        let Some(runtimes) = self.runtimes.take() else { return Ok(()) };
        self.stopping.store(true, Ordering::Relaxed);
        if self.record_lifecycle {
            let ran = self.clock.monotonic().saturating_sub(self.ready);
            self.door.journal.note(notes::stopping(ran));
        }
        while let Some(server) = self.servers.pop() {
            let name = server.name();
            if server.stop(STOP_GRACE) {
                tracing::info!("{name} stopped");
            } else {
                tracing::warn!("{name} stopped; requests in progress were cut after {STOP_GRACE:?}");
            }
        }
        runtimes.queries.shutdown_background();
        runtimes.io.shutdown_background();
        // Before the journal: what it finds to the last is kept like all else.
        if let Some(detection) = self.detection.take() {
            detection.stop();
        }
        // After detection: they are made of what it finds.
        if let Some(incidents) = self.incidents.take() {
            incidents.stop();
        }
        // After incidents: what is to be told of them is in the outbox.
        if let Some(notifier) = self.notifier.take() {
            notifier.stop();
        }
        self.door.keep_uses();
        if let Some(journal) = self.journal.take() {
            journal.stop();
        }
        let closed = self.store.close();
        match &closed {
            Ok(()) => tracing::info!("store closed"),
            Err(error) => tracing::error!(%error, "store closed with an error"),
        }
        closed
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The outcome is logged; a caller who wants it calls `shutdown`.
        let _ = self.stop();
    }
}

/// Starts delivery over the incidents' database; `None` where there is none, or it cannot be used (which is logged).
fn tell(
    settings: &Settings,
    incidents: &Incidents,
    store: &Store,
    env: &Env,
    gatekeeper: &Gatekeeper,
) -> Option<Notifier> {
    let board = incidents.board();
    let db = board.database()?;
    let file = settings.alerts_file.as_deref();
    let folder = file.and_then(std::path::Path::parent).map(std::path::Path::to_owned).unwrap_or_default();
    let source = notify::Source { read: Box::new(move || board.receivers()), folder };
    let (store, env, gatekeeper) = (store.clone(), env.clone(), gatekeeper.clone());
    let started =
        Notifier::start(db, store, env, incidents.bell(), &settings.environment, gatekeeper, Some(source));
    started.inspect_err(|error| tracing::error!(%error, "nobody is told of incidents")).ok()
}

fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

pub(crate) fn store_options(settings: &Settings) -> Options {
    Options {
        wal_segment_bytes: settings.wal_segment_bytes,
        relaxed: settings.relaxed,
        memory_bytes_max: settings.memory_bytes_max,
        cache_bytes_max: settings.cache_bytes_max,
        seal_after: settings.seal_after,
        disk_free_bytes_min: settings.disk_free_bytes_min,
        maintenance_cpu_share: settings.maintenance_cpu_share,
        retention: settings.retention.clone(),
        sealed_bytes_max: settings.sealed_bytes_max,
        ..Options::default()
    }
}
