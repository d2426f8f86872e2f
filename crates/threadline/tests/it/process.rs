//! The real binary as a process of its own, on free ports, and what tests ask it over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything that should happen soon may take before a test gives up, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(120);

/// A `threadline serve`. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    data: PathBuf,
    settings: Vec<(&'static str, String)>,
    /// OTLP over gRPC.
    pub(crate) grpc: SocketAddr,
    /// OTLP over HTTP.
    pub(crate) http: SocketAddr,
    /// The API.
    pub(crate) api: SocketAddr,
}

impl Process {
    /// Starts a hub on a data folder with further settings, and waits until it is healthy.
    pub(crate) fn start(data: &Path, settings: &[(&'static str, &str)]) -> Process {
        let [grpc, http, api] = free();
        // Or each look at the records would add one, and each start, and what is found.
        let quiet = [
            ("THREADLINE_AUDIT_QUERIES", "false"),
            ("THREADLINE_RECORD_LIFECYCLE", "false"),
            ("THREADLINE_DETECTION", "false"),
            ("THREADLINE_INCIDENTS", "false"),
        ];
        let mut all: Vec<(&'static str, String)> =
            quiet.iter().chain(settings).map(|(name, value)| (*name, (*value).to_owned())).collect();
        all.push(("THREADLINE_DATA_DIR", data.display().to_string()));
        all.push(("THREADLINE_OTLP_GRPC_ADDRESS", grpc.to_string()));
        all.push(("THREADLINE_OTLP_HTTP_ADDRESS", http.to_string()));
        all.push(("THREADLINE_API_ADDRESS", api.to_string()));
        let child = spawn(&all, data);
        let mut process = Process { child, data: data.to_owned(), settings: all, grpc, http, api };
        process.wait_healthy();
        process
    }

    /// Kills the hub as a power cut would, from its own point of view.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("SIGKILL is always allowed on one's child");
        self.child.wait().unwrap();
    }

    /// Starts it again after [`Process::kill`], on the same folder and ports; does not wait.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.settings, &self.data);
    }

    /// Waits until the hub says that it is healthy; fails if it ends instead.
    pub(crate) fn wait_healthy(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let secure = self.settings.iter().any(|(name, _)| *name == "THREADLINE_TLS_CERT");
        let url = format!("{}://{}/healthz", if secure { "https" } else { "http" }, self.api);
        // That it is the right hub is for others to check.
        let tls = ureq::tls::TlsConfig::builder().disable_verification(true).build();
        let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
        loop {
            if agent.get(&url).call().is_ok() {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the hub ended ({status}); it said:\n{}", said(&self.data));
            }
            assert!(Instant::now() < deadline, "the hub is not healthy; it said:\n{}", said(&self.data));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the hub a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Asks the hub to end, and waits until it has; fails if it ends in error.
    pub(crate) fn stop(mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "the hub ended ({status}); it said:\n{}", said(&self.data));
                return;
            }
            assert!(Instant::now() < deadline, "the hub does not end; it said:\n{}", said(&self.data));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All rows that a search finds, as the API gives them.
    pub(crate) fn search(&self, table: &str, query: &str) -> Vec<Value> {
        let url = format!("http://{}/api/v1/search", self.api);
        let mut reply = ureq::get(&url)
            .query("table", table)
            .query("q", query)
            .query("limit", "1000000")
            .call()
            .unwrap_or_else(|error| panic!("search {query}: {error}"));
        let text = reply.body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(rows.len() < 1_000_000, "{query}: the answer is cut at the limit");
        rows
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of the binary to its end.
pub(crate) fn threadline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_threadline")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn spawn(settings: &[(&'static str, String)], data: &Path) -> Child {
    // Beside the data folder, not in it: the folder is the hub's.
    let log = std::fs::File::options().create(true).append(true).open(log_path(data)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_threadline"));
    command.arg("serve").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.envs(settings.iter().map(|(name, value)| (*name, value.as_str())));
    command.spawn().unwrap()
}

fn log_path(data: &Path) -> PathBuf {
    data.with_extension("log")
}

fn said(data: &Path) -> String {
    std::fs::read_to_string(log_path(data)).unwrap_or_default()
}

/// Different local ports that were free a moment ago.
pub(crate) fn free<const N: usize>() -> [SocketAddr; N] {
    let held = std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// Notes that a test cannot be made here: on the terminal, and in the file that `cargo xtask test` adds up.
/// With `CI=true` that is a failure.
pub(crate) fn skip(test: &str, why: &str) {
    assert!(std::env::var("CI").ok().as_deref() != Some("true"), "{test}: {why}");
    eprintln!("skipped: {test}: {why}");
    if let Ok(path) = std::env::var("THREADLINE_TEST_SKIPS") {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{test}: {why}").unwrap();
    }
}
