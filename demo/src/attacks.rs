//! The attacks of the schedule. Each says what it sent, and by which event and reason the hub must hold it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use rustls::pki_types::ServerName;
use serde_json::json;
use threadline_sdk::tls::Files;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::mesh::{Mesh, connect, identity};
use crate::{Result, jwt, services};

/// What somebody tries who looks for rights that nobody gave them.
const ADMIN_PATHS: &[&str] = &[
    "/admin/users",
    "/admin/roles",
    "/admin/keys",
    "/admin/tokens",
    "/admin/billing",
    "/admin/refunds",
    "/admin/exports",
    "/admin/backups",
    "/admin/settings",
    "/admin/features",
    "/admin/audit",
    "/admin/secrets",
];

/// An attack, or a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    ExpiredCertificate,
    WrongAuthority,
    NoCertificate,
    Plaintext,
    ExpiredTokens,
    ForgedTokens,
    PrivilegeProbe,
    PathScan,
    SlowDependency,
}

/// What must be held of an attack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trail {
    pub(crate) service: &'static str,
    pub(crate) event: &'static str,
    /// `threadline.reason`, or `error.type` of requests.
    pub(crate) reason: &'static str,
}

impl Attack {
    /// In the order of the schedule.
    pub(crate) const ALL: [Attack; 9] = [
        Attack::ExpiredCertificate,
        Attack::WrongAuthority,
        Attack::NoCertificate,
        Attack::Plaintext,
        Attack::ExpiredTokens,
        Attack::ForgedTokens,
        Attack::PrivilegeProbe,
        Attack::PathScan,
        Attack::SlowDependency,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Attack::ExpiredCertificate => "expired client certificate",
            Attack::WrongAuthority => "certificate of another CA",
            Attack::NoCertificate => "no client certificate",
            Attack::Plaintext => "plaintext to a TLS port",
            Attack::ExpiredTokens => "expired tokens",
            Attack::ForgedTokens => "forged tokens",
            Attack::PrivilegeProbe => "privilege probe",
            Attack::PathScan => "path scan",
            Attack::SlowDependency => "slow dependency",
        }
    }

    pub(crate) fn trail(self) -> Trail {
        let trail = |service, event, reason| Trail { service, event, reason };
        let handshake = "security.tls.handshake_failed";
        match self {
            Attack::ExpiredCertificate => trail("orders", handshake, "expired"),
            Attack::WrongAuthority => trail("orders", handshake, "untrusted"),
            Attack::NoCertificate => trail("orders", handshake, "client_cert_missing"),
            Attack::Plaintext => trail("orders", handshake, "plaintext"),
            Attack::ExpiredTokens => trail("orders", "security.authn.rejected", "expired"),
            Attack::ForgedTokens => trail("orders", "security.authn.rejected", "bad_signature"),
            Attack::PrivilegeProbe => trail("orders", "security.authz.denied", "missing_scope"),
            Attack::PathScan => trail("edge", "security.endpoint.unknown", "no_route"),
            Attack::SlowDependency => trail("edge", "request.finished", "timeout"),
        }
    }
}

impl Attack {
    /// Title of the rule that must find it.
    pub(crate) fn rule(self) -> &'static str {
        match self {
            Attack::ExpiredCertificate => "TLS handshake with an expired client certificate",
            Attack::WrongAuthority => "TLS handshake with a certificate of an unknown authority",
            Attack::NoCertificate => "Caller without a client certificate",
            Attack::Plaintext => "Plain text sent to a TLS port",
            Attack::ExpiredTokens => "Many expired tokens from one address",
            Attack::ForgedTokens => "Token with a bad signature",
            Attack::PrivilegeProbe => "Privilege probing across resources",
            Attack::PathScan => "Scan of unknown endpoints",
            Attack::SlowDependency => "Requests of a service run out of time",
        }
    }
}

impl Attack {
    /// Severity of what the rule finds.
    pub(crate) fn severity(self) -> &'static str {
        match self {
            Attack::ExpiredCertificate | Attack::NoCertificate | Attack::Plaintext | Attack::ExpiredTokens => {
                "low"
            }
            Attack::WrongAuthority | Attack::PathScan | Attack::SlowDependency => "medium",
            Attack::ForgedTokens | Attack::PrivilegeProbe => "high",
        }
    }

    /// Services that traces of it go through. Who fails at the handshake has none.
    pub(crate) fn touches(self) -> &'static [&'static str] {
        match self {
            Attack::ExpiredCertificate | Attack::WrongAuthority | Attack::NoCertificate | Attack::Plaintext => {
                &[]
            }
            Attack::ExpiredTokens | Attack::ForgedTokens | Attack::PrivilegeProbe => &["edge", "orders"],
            Attack::PathScan => &["edge"],
            Attack::SlowDependency => &["edge", "payment"],
        }
    }
}

impl Attack {
    /// Where it comes from: each attacker has an address of his own.
    pub(crate) fn address(self) -> Ipv4Addr {
        let at = Attack::ALL.iter().position(|attack| *attack == self);
        Ipv4Addr::new(127, 0, 1, at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(u8::MAX))
    }
}

/// Where attacks are made.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) folder: Arc<Path>,
    pub(crate) mesh: Mesh,
    /// Whose address it is where attacks come from.
    pub(crate) address: Ipv4Addr,
    pub(crate) edge: String,
    pub(crate) payment: String,
    pub(crate) orders: u16,
    pub(crate) secret: Vec<u8>,
}

impl Field {
    /// Makes an attack, and says how often; `None` where the load generator is who sees the damage.
    pub(crate) async fn make(&self, attack: Attack) -> Result<Option<u64>> {
        let files = identity(&self.folder, "load");
        let attacker = Field {
            mesh: Mesh::from_address(&files, attack.address())?,
            address: attack.address(),
            ..self.clone()
        };
        attacker.attack(attack).await
    }

    async fn attack(&self, attack: Attack) -> Result<Option<u64>> {
        let now_s = i64::try_from(services::now().as_secs()).unwrap_or(0);
        match attack {
            Attack::ExpiredCertificate => self.handshakes(&identity(&self.folder, "expired"), 4).await,
            Attack::WrongAuthority => self.handshakes(&identity(&self.folder, "stranger"), 4).await,
            Attack::NoCertificate => {
                let files = Files { ca: identity(&self.folder, "load").ca, ..Files::default() };
                self.handshakes(&files, 4).await
            }
            Attack::Plaintext => self.plaintext(4).await,
            Attack::ExpiredTokens => {
                let token = jwt::issue(&self.secret, "u-7", "orders", now_s - 7200, 3600);
                self.ask(&["/orders/7"; 40], &token, 401).await
            }
            Attack::ForgedTokens => {
                let token = jwt::issue(b"guessed", "u-7", "orders admin", now_s, 3600);
                self.ask(&["/orders/7"; 5], &token, 401).await
            }
            Attack::PrivilegeProbe => {
                let token = jwt::issue(&self.secret, "u-66", "orders", now_s, 3600);
                self.ask(ADMIN_PATHS, &token, 403).await
            }
            Attack::PathScan => self.scan().await,
            Attack::SlowDependency => self.slow().await,
        }
    }

    async fn connect(&self) -> Result<TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.orders));
        connect(self.address, address).await.map_err(|error| format!("{address}: {error}"))
    }

    async fn handshakes(&self, files: &Files, times: u64) -> Result<Option<u64>> {
        let config = files.client().map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..times {
            let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
            if let Ok(mut stream) = connector.connect(name, self.connect().await?).await {
                // The refusal comes with the first read.
                let read = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
                if matches!(read, Ok(Ok(_))) {
                    return Err("a certificate was taken that must be refused".to_owned());
                }
            }
        }
        Ok(Some(times))
    }

    async fn plaintext(&self, times: u64) -> Result<Option<u64>> {
        for _ in 0..times {
            let mut stream = self.connect().await?;
            let sent = stream.write_all(b"GET /orders/1 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            sent.map_err(|error| error.to_string())?;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        }
        Ok(Some(times))
    }

    async fn get(&self, path: &str, token: &str) -> Result<u16> {
        let request = Request::get(format!("{}{path}", self.edge))
            .header("authorization", format!("Bearer {token}"))
            .header("user-agent", "probe/9")
            .body(Body::empty());
        Ok(self.mesh.send(request.map_err(|error| error.to_string())?).await?.status().as_u16())
    }

    async fn ask(&self, paths: &[&str], token: &str, status: u16) -> Result<Option<u64>> {
        for path in paths {
            let answered = self.get(path, token).await?;
            if answered != status {
                return Err(format!("{path} was answered with {answered}, not {status}"));
            }
        }
        Ok(Some(paths.len() as u64))
    }

    async fn scan(&self) -> Result<Option<u64>> {
        const PATHS: &[&str] = &[
            "/.env",
            "/.git/config",
            "/admin.php",
            "/api/v1/secrets",
            "/backup.sql",
            "/cgi-bin/luci",
            "/console",
            "/debug/pprof",
            "/etc/passwd",
            "/graphql",
            "/login.action",
            "/manager/html",
            "/old",
            "/phpinfo.php",
            "/phpmyadmin",
            "/server-status",
            "/shell",
            "/swagger.json",
            "/vendor/phpunit",
            "/wp-login.php",
            "/xmlrpc.php",
            "/actuator/env",
            "/.aws/credentials",
            "/id_rsa",
        ];
        for path in PATHS {
            self.get(path, "").await?;
        }
        Ok(Some(PATHS.len() as u64))
    }

    /// The payment provider takes longer than the edge waits, for six seconds.
    async fn slow(&self) -> Result<Option<u64>> {
        let now_s = i64::try_from(services::now().as_secs()).unwrap_or(0);
        let token = jwt::issue(&self.secret, "operator", "", now_s, 60);
        for slow_ms in [5000, 0] {
            let fault = json!({"slow_ms": slow_ms});
            let set = self.mesh.ask(Method::POST, &format!("{}/fault", self.payment), &token, &fault).await;
            let _ = set.map_err(|(status, text)| format!("payment did not take the fault: {status} {text}"))?;
            if slow_ms > 0 {
                tokio::time::sleep(Duration::from_secs(6)).await;
            }
        }
        Ok(None)
    }
}
