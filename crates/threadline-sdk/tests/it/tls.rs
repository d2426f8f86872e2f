//! Real handshakes that fail, each with its reason; and a service over TLS that knows its callers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::ServerName;
use threadline_sdk::Telemetry;
use threadline_sdk::http::ServerLayer;
use threadline_sdk::tls::{Acceptor, Connector, Files, Listener, Peer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::instrument::WithSubscriber as _;

use crate::sink::Sink;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn issue(&self, folder: &Path, name: &str, serial: u64, expired: bool) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (put(folder, &format!("{name}.pem"), &pem), put(folder, &format!("{name}.key"), &key.serialize_pem()))
    }

    fn revoke(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2125, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// How somebody comes to the server.
enum Caller {
    Shows(&'static str),
    ShowsNothing,
    Speaks(&'static [u8]),
    Hangs,
    Leaves,
}

#[test]
fn failed_handshakes_are_reported_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let at = folder.path();
    let ca = put(at, "ca.pem", &ours.pem);
    let crl = put(at, "crl.pem", &ours.revoke(77));
    let (cert, key) = ours.issue(at, "server", 1, false);
    ours.issue(at, "good", 2, false);
    ours.issue(at, "old", 3, true);
    ours.issue(at, "revoked", 77, false);
    theirs.issue(at, "stranger", 4, false);
    let server = Files { cert, key, ca: ca.clone(), crl }.server().unwrap();
    let acceptor = Acceptor::new(Arc::new(server)).timeout(Duration::from_millis(500));
    let cases = [
        (Caller::Shows("good"), ""),
        (Caller::Shows("old"), "expired"),
        (Caller::Shows("stranger"), "untrusted"),
        (Caller::Shows("revoked"), "revoked"),
        (Caller::ShowsNothing, "client_cert_missing"),
        (Caller::Speaks(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "plaintext"),
        // A hello of SSL 3 without extensions.
        (
            Caller::Speaks(&[
                22, 3, 0, 0, 45, 1, 0, 0, 41, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 47, 1, 0,
            ]),
            "protocol_version",
        ),
        (Caller::Hangs, "timeout"),
        (Caller::Leaves, "alert"),
    ];
    let sink = Sink::start();
    let (dispatch, telemetry) = Telemetry::scoped(&sink.settings(&at.join("spool"))).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (caller, reason) in &cases {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accept = async {
                let (stream, peer) = listener.accept().await.unwrap();
                acceptor.accept(stream, peer, address.port()).await
            };
            let come = come(caller, address, at, &ca);
            let (accepted, _held) = tokio::join!(accept, come);
            assert_eq!(accepted.is_ok(), reason.is_empty(), "{reason}");
            if let Ok((_, peer)) = accepted {
                assert!(peer.certificate().unwrap().subject.contains("CN=good"));
            }
        }
    });
    assert!(telemetry.flush(Duration::from_secs(20)));
    let records = sink.events("security.tls.handshake_failed");
    let reasons: Vec<&str> = records.iter().map(|record| record.get("threadline.reason")).collect();
    let expected: Vec<&str> =
        cases.iter().map(|(_, reason)| *reason).filter(|reason| !reason.is_empty()).collect();
    assert_eq!(reasons, expected);
    for record in &records {
        assert_eq!(record.get("threadline.tls.side"), "server");
        assert_eq!(record.get("tls.established"), "false");
        assert_eq!(record.get("network.peer.address"), "127.0.0.1");
        assert!(record.get("server.port").parse::<u16>().unwrap() > 0);
        assert!(!record.get("threadline.connection.id").is_empty());
        assert_eq!(record.severity, 13);
        assert_eq!(record.trace, "");
        let shown = ["expired", "untrusted", "revoked"].contains(&record.get("threadline.reason"));
        assert_eq!(record.get("tls.client.hash.sha256").len(), if shown { 64 } else { 0 }, "{record:?}");
    }
    assert!(records[0].get("tls.client.subject").contains("CN=old"));
    assert_eq!(records[0].get("tls.client.not_after"), "2021-01-01T00:00:00Z");
    assert!(records[1].get("tls.client.issuer").contains("CN=theirs"));
}

async fn come(caller: &Caller, address: SocketAddr, folder: &Path, ca: &Path) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let files = |name: &str| Files {
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
        ca: ca.to_owned(),
        ..Files::default()
    };
    let files = match caller {
        Caller::Shows(name) => files(name),
        Caller::ShowsNothing => Files { ca: ca.to_owned(), ..Files::default() },
        Caller::Speaks(bytes) => {
            stream.write_all(bytes).await.unwrap();
            return Some(stream);
        }
        Caller::Hangs => return Some(stream),
        Caller::Leaves => return None,
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(files.client().unwrap()));
    let name = ServerName::try_from("localhost").unwrap();
    if let Ok(mut stream) = connector.connect(name, stream).await {
        // What the server says of a certificate comes with the first read.
        let _ = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
    }
    None
}

#[test]
fn clients_report_servers_that_they_do_not_trust() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ca = put(at, "ca.pem", &ours.pem);
    let good = ours.issue(at, "good", 1, false);
    let old = ours.issue(at, "old", 2, true);
    let other = theirs.issue(at, "other", 3, false);
    let sink = Sink::start();
    let (dispatch, telemetry) = Telemetry::scoped(&sink.settings(&at.join("spool"))).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for ((cert, key), name) in
            [(&good, "localhost"), (&old, "localhost"), (&other, "localhost"), (&good, "elsewhere.example")]
        {
            let server = Files { cert: cert.clone(), key: key.clone(), ..Files::default() }.server().unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
            let client = Files { ca: ca.clone(), ..Files::default() }.client().unwrap();
            let connector = Connector::new(Arc::new(client)).timeout(Duration::from_secs(5));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let accept = async { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() };
            let connect = async {
                let stream = TcpStream::connect(address).await.unwrap();
                connector.connect(ServerName::try_from(name).unwrap(), stream, address).await.is_ok()
            };
            let (_, connected) = tokio::join!(accept, connect);
            assert_eq!(connected, (cert, name) == (&good.0, "localhost"));
        }
    });
    assert!(telemetry.flush(Duration::from_secs(20)));
    let records = sink.events("security.tls.handshake_failed");
    let reasons: Vec<&str> = records.iter().map(|record| record.get("threadline.reason")).collect();
    assert_eq!(reasons, ["expired", "untrusted", "name_mismatch"]);
    assert_eq!(records[2].get("server.address"), "elsewhere.example");
    assert!(records.iter().all(|record| record.get("threadline.tls.side") == "client"));
}

#[test]
fn a_service_over_tls_knows_its_callers() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let ours = Authority::new("ours");
    let ca = put(at, "ca.pem", &ours.pem);
    let (cert, key) = ours.issue(at, "server", 1, false);
    let (client_cert, client_key) = ours.issue(at, "shop", 2, false);
    let sink = Sink::start();
    let (dispatch, telemetry) = Telemetry::scoped(&sink.settings(&at.join("spool"))).unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(
        async {
            let who = |ConnectInfo(peer): ConnectInfo<Peer>| async move {
                peer.certificate().unwrap().subject.clone()
            };
            let app = Router::new().route("/who", get(who)).layer(ServerLayer::new());
            let server = Files { cert, key, ca: ca.clone(), ..Files::default() }.server().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let listener = Listener::new(listener, Acceptor::new(Arc::new(server))).unwrap();
            let service = app.into_make_service_with_connect_info::<Peer>();
            // `axum::serve` makes a task of each connection; those of this thread have the subscriber.
            tokio::spawn(async move { axum::serve(listener, service).await }.with_current_subscriber());
            // One that hangs holds up nobody.
            let _hangs = TcpStream::connect(address).await.unwrap();
            let files = Files { cert: client_cert, key: client_key, ca, ..Files::default() };
            let connector = Connector::new(Arc::new(files.client().unwrap()));
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream, address).await.unwrap();
            stream
                .write_all(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            answer
        }
        .with_subscriber(dispatch.clone()),
    );
    assert!(answer.contains("CN=shop"), "{answer}");
    assert!(telemetry.flush(Duration::from_secs(20)));
    let record = sink.events("request.finished").remove(0);
    assert_eq!(record.get("client.address"), "127.0.0.1");
    let span = sink.spans().remove(0);
    assert_eq!(crate::sink::attributes(&span.attributes)["url.scheme"], "https");
}
