//! The hub under the fleet: TLS on its ports, senders known by certificate; and questions to it.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use crate::Result;
use crate::mesh::{Mesh, identity};
use crate::process::Process;

/// A running hub.
pub(crate) struct Hub {
    pub(crate) child: Process,
    /// Where senders go.
    pub(crate) otlp: String,
    /// Where people and questions go.
    pub(crate) api: String,
    mesh: Mesh,
}

impl Hub {
    /// Starts the binary on a data folder within the fleet's, and waits until it is well.
    pub(crate) async fn start(binary: &Path, folder: &Path, ports: [u16; 3]) -> Result<Hub> {
        let [grpc, http, api] = ports;
        let log = folder.join("hub.log");
        let log_file = std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let second = log_file.try_clone().map_err(|error| error.to_string())?;
        let files = identity(folder, "hub");
        let child = Command::new(binary)
            .arg("serve")
            .current_dir(folder)
            .env("THREADLINE_DATA_DIR", folder.join("data"))
            .env("THREADLINE_OTLP_GRPC_ADDRESS", format!("127.0.0.1:{grpc}"))
            .env("THREADLINE_OTLP_HTTP_ADDRESS", format!("127.0.0.1:{http}"))
            .env("THREADLINE_API_ADDRESS", format!("127.0.0.1:{api}"))
            .env("THREADLINE_TLS_CERT", &files.cert)
            .env("THREADLINE_TLS_KEY", &files.key)
            .env("THREADLINE_TLS_CLIENT_CA", &files.ca)
            .env("THREADLINE_ALERTS_FILE", folder.join("alerts.yaml"))
            .env("THREADLINE_PUBLIC_URL", format!("https://localhost:{api}"))
            // What is counted at the end is what the fleet sent.
            .env("THREADLINE_AUDIT_QUERIES", "false")
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(second)
            // A Ctrl-C is for the fleet, which stops it last.
            .process_group(0)
            .spawn();
        let child = child.map_err(|error| format!("{}: {error}", binary.display()))?;
        let child = Process::new("the hub", child);
        let mut hub = Hub {
            child,
            otlp: format!("https://localhost:{http}"),
            api: format!("https://localhost:{api}"),
            mesh: Mesh::new(&files)?,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while hub.get("/healthz").await.is_err() {
            let ended = hub.child.has_ended();
            if ended || Instant::now() > deadline {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("the hub did not become healthy; it said:\n{said}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(hub)
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let request = Request::get(format!("{}{path}", self.api)).body(Body::empty());
        self.answer(request.map_err(|error| error.to_string())?).await
    }

    async fn answer(&self, request: Request<Body>) -> Result<Vec<u8>> {
        let path = request.uri().path().to_owned();
        let answer = self.mesh.send(request).await?;
        if answer.status().is_success() {
            Ok(answer.into_body())
        } else {
            let said = String::from_utf8_lossy(answer.body()).into_owned();
            Err(format!("the hub answered {} to {path}: {said}", answer.status()))
        }
    }

    /// Rows of a SELECT.
    pub(crate) async fn sql(&self, statement: &str) -> Result<Vec<Value>> {
        let request = Request::post(format!("{}/api/v1/sql", self.api))
            .header("content-type", "text/plain")
            .body(Body::from(statement.to_owned()));
        let answer = self.answer(request.map_err(|error| error.to_string())?).await?;
        let text = String::from_utf8_lossy(&answer);
        let row = |line: &str| serde_json::from_str(line).map_err(|error| format!("{line}: {error}"));
        let rows: Vec<Value> = text.lines().map(row).collect::<Result<_>>()?;
        match rows.last().and_then(|row| row.get("error")) {
            Some(error) => Err(format!("{statement}: {error}")),
            None => Ok(rows),
        }
    }

    /// Incidents, each with its evidence.
    pub(crate) async fn incidents(&self) -> Result<Vec<Value>> {
        let json = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string());
        let all = json(self.get("/api/v1/incidents?limit=1000").await?)?;
        let mut incidents = Vec::new();
        for incident in all.get("incidents").and_then(Value::as_array).into_iter().flatten() {
            let id = incident.get("id").and_then(Value::as_u64).unwrap_or(0);
            incidents.push(json(self.get(&format!("/api/v1/incidents/{id}")).await?)?);
        }
        Ok(incidents)
    }

    /// What the contract's score says of each service.
    pub(crate) async fn score(&self) -> Result<Value> {
        let answer = self.get("/api/v1/contract/score").await?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }
}
