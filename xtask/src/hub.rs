//! The hub's binary, and a hub as a process of its own, on ports of ours, for the comparison.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, run, tools};

/// How the binary is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build, slower to run.
    Dev,
    /// Optimised, and built in bearable time.
    Release,
    /// As people use it: optimised across all crates.
    Dist,
}

/// Builds the hub's binary and returns where it lies.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let mut cargo = tools::cargo();
    let folder = match profile {
        // As the integration tests build it: any other choice of packages has other features, and DataFusion would
        // be built once more.
        Profile::Dev => {
            cargo.args(["test", "--quiet", "--workspace", "--test", "it", "--no-run"]);
            "debug"
        }
        Profile::Release => {
            cargo.args(["build", "--release", "--package", "threadline", "--bin", "threadline"]);
            "release"
        }
        Profile::Dist => {
            cargo.args(["build", "--profile", "dist", "--package", "threadline", "--bin", "threadline"]);
            "dist"
        }
    };
    run::show(&mut cargo)?;
    Ok(tools::target().join(folder).join("threadline"))
}

/// The addresses of a hub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// OTLP/gRPC.
    pub(crate) grpc: SocketAddr,
    /// OTLP/HTTP.
    pub(crate) http: SocketAddr,
    /// API and pages.
    pub(crate) api: SocketAddr,
}

impl Addresses {
    /// Free ports.
    pub(crate) fn free() -> Result<Addresses> {
        Ok(Addresses { grpc: any()?, http: any()?, api: any()? })
    }

    /// URL of the API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.api)
    }
}

/// A local port that is free.
fn any() -> Result<SocketAddr> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}

/// A running hub; dropping it ends it.
pub(crate) struct Hub {
    child: Child,
    /// Where it listens.
    pub(crate) addresses: Addresses,
}

impl Hub {
    /// Starts a hub on a data folder and waits until it says that it is healthy. It keeps no record of itself: what is
    /// compared is what was loaded.
    pub(crate) fn start(binary: &Path, data: &Path, addresses: Addresses, log: &Path) -> Result<Hub> {
        let log_file = std::fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .env("THREADLINE_DATA_DIR", data)
            .env("THREADLINE_AUDIT_QUERIES", "false")
            .env("THREADLINE_DETECTION", "false")
            .env("THREADLINE_RECORD_LIFECYCLE", "false")
            .env("THREADLINE_OTLP_GRPC_ADDRESS", addresses.grpc.to_string())
            .env("THREADLINE_OTLP_HTTP_ADDRESS", addresses.http.to_string())
            .env("THREADLINE_API_ADDRESS", addresses.api.to_string())
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().map_err(|error| error.to_string())?)
            .stderr(log_file);
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut hub = Hub { child, addresses };
        hub.wait_healthy().map_err(|error| {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            format!("{error}; it said:\n{said}")
        })?;
        Ok(hub)
    }

    fn wait_healthy(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the hub ended ({status})"));
            }
            if healthy(self.addresses.api).is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the hub was not healthy within 60 s".to_owned())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            run::stop(&mut self.child);
        }
    }
}

/// `Some` when `/healthz` answers 200.
fn healthy(api: SocketAddr) -> Option<()> {
    let second = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&api, second).ok()?;
    stream.set_read_timeout(Some(second)).ok()?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n").ok()?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).ok()?;
    (&start == b"HTTP/1.1 200").then_some(())
}
