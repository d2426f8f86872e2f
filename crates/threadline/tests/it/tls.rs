//! TLS at the ports: handshakes that fail and why, certificates that are replaced, and who writes as whom.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::logs::{LogRecord as _, LoggerProvider as _};
use opentelemetry_otlp::{LogExporter, WithTonicConfig as _};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use rustls::ClientConfig;
use threadline::door::roles::Role;
use threadline::settings::Settings;
use threadline::settings::kind::{ClientAuth, Mismatch, SenderRule};
use threadline::{Components, Hub};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity as TonicIdentity};

use crate::client::{ask, connect, request, run, secure, source};
use crate::door::token;
use crate::hub::{logs, settings};
use crate::pki::{Authority, Identity, Wanted, put, write};

/// Settings of a hub with TLS whose senders may or must show certificates of `senders`.
fn tls_settings(folder: &Path, hub: &Identity, senders: &Authority, demand: ClientAuth) -> Settings {
    let (cert, key) = write(folder, "hub", hub);
    Settings {
        tls_cert: Some(cert),
        tls_key: Some(key),
        tls_client_ca: Some(put(folder, "senders.pem", &senders.pem)),
        tls_client_auth: demand,
        ..settings(&folder.join("data"))
    }
}

/// What `/healthz` of a hub with TLS says.
async fn healthy(hub: &Hub, client: Arc<ClientConfig>, from: u8) -> Result<u16, String> {
    let stream = secure(client, source(from), hub.addresses().api).await.map_err(|error| error.to_string())?;
    let reply = ask(stream, false, request("GET", "/healthz", None, &[], "")).await;
    reply.map(|reply| reply.status).map_err(|error| error.to_string())
}

/// Rows of the hub's own log, over TLS.
async fn own(hub: &Hub, client: &Arc<ClientConfig>, token: &str, query: &str) -> Vec<serde_json::Value> {
    let path = format!("/api/v1/search?limit=10000&q=service:threadline+{}", query.replace(' ', "+"));
    let stream = secure(Arc::clone(client), source(1), hub.addresses().api).await.unwrap();
    let reply = ask(stream, false, request("GET", &path, Some(token), &[], "")).await.unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.lines()
}

async fn wait_for(
    hub: &Hub,
    client: &Arc<ClientConfig>,
    token: &str,
    query: &str,
    count: usize,
) -> Vec<serde_json::Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let rows = own(hub, client, token, query).await;
        if rows.len() >= count || Instant::now() > deadline {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A ClientHello of a version with one cipher suite, and the signature algorithms and groups that everybody has.
fn hello(version: [u8; 2], suite: [u8; 2]) -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported groups: P-256
        0, 11, 0, 2, 1, 0, // point formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature algorithms: ECDSA with P-256 and SHA-256
        0, 23, 0, 0, // extended master secret
    ];
    // Before TLS 1.2 there were no signature algorithms.
    let extensions = if version < [3, 3] { &extensions[..14] } else { extensions };
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.extend([0, 0, 2, suite[0], suite[1], 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut out = vec![0x16, 3, 1];
    out.extend((body.len() as u16 + 4).to_be_bytes());
    out.extend([1, 0]);
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
    out
}

#[test]
fn a_handshake_that_fails_is_recorded_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let mut settings = tls_settings(folder.path(), &ca.hub(), &ca, ClientAuth::Required);
    settings.tls_client_crl = Some(put(folder.path(), "revoked.pem", &ca.revoke(4711)));
    let reader = token(&folder.path().join("data"), "reader", &[Role::Read], None);
    let hub = threadline::start(settings, Components::system()).unwrap();
    let expired = ca.issue(&Wanted { common: "old", expired: true, ..Wanted::default() });
    let revoked = ca.issue(&Wanted { common: "lost", serial: 4711, ..Wanted::default() });
    let to = hub.addresses().otlp_http;
    run(async {
        // Who is slow: begun first, for it takes its time.
        let mut slow = connect(source(20), to).await;
        slow.write_all(&[0x16, 3, 1]).await.unwrap();
        for (from, name, identity, subject) in [
            (21, "client_cert_missing", None, None),
            (22, "expired", Some(expired), Some("CN=old")),
            (23, "untrusted", Some(foreign.service("shop")), Some("CN=shop")),
            (24, "revoked", Some(revoked), Some("CN=lost")),
        ] {
            let client = ca.client(identity.as_ref());
            let refused = match secure(client, source(from), to).await {
                // TLS 1.3: the client is done before the hub has judged.
                Ok(stream) => ask(stream, false, request("GET", "/", None, &[], "")).await.is_err(),
                Err(_) => true,
            };
            assert!(refused, "{name}");
            assert_record(&hub, &ca, &reader, from, name, subject).await;
        }
        // Who does not trust the hub says so.
        secure(foreign.client(None), source(25), to).await.unwrap_err();
        assert_record(&hub, &ca, &reader, 25, "alert", None).await;
        // TLS 1.1; and RC4.
        for (from, name, bytes) in
            [(26, "protocol_version", hello([3, 2], [0xc0, 0x2b])), (27, "cipher", hello([3, 3], [0, 5]))]
        {
            let mut stream = connect(source(from), to).await;
            stream.write_all(&bytes).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert_eq!(answer.first(), Some(&0x15), "{name}: an alert is answered");
            assert_record(&hub, &ca, &reader, from, name, None).await;
        }
        // Plain HTTP is told what is wrong.
        let stream = connect(source(28), to).await;
        let reply = ask(stream, false, request("POST", "/v1/logs", None, &[], "{}")).await.unwrap();
        assert_eq!(reply.status, 400);
        assert!(reply.text().contains("https://"), "{}", reply.text());
        assert_record(&hub, &ca, &reader, 28, "plaintext", None).await;
        assert_record(&hub, &ca, &reader, 20, "timeout", None).await;
        // Who only looks whether the port is open leaves nothing; a good certificate gets in.
        drop(connect(source(29), to).await);
        let stream = secure(ca.client(Some(&ca.service("shop"))), source(29), to).await.unwrap();
        let json = [("content-type", "application/json")];
        let reply = ask(stream, false, request("POST", "/v1/logs", None, &json, "{}")).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let client = ca.client(None);
        assert_eq!(own(&hub, &client, &reader, "network.peer.address:127.0.1.29").await.len(), 0);
        // The API asks for no certificate.
        assert_eq!(healthy(&hub, client, 1).await, Ok(200));
    });
    hub.shutdown().unwrap();
}

async fn assert_record(hub: &Hub, ca: &Authority, token: &str, from: u8, reason: &str, subject: Option<&str>) {
    let query = format!("event:security.tls.handshake_failed network.peer.address:127.0.1.{from}");
    let rows = wait_for(hub, &ca.client(None), token, &query, 1).await;
    assert_eq!(rows.len(), 1, "{reason}: {rows:?}");
    let attributes = &rows[0]["attributes"];
    assert_eq!(attributes["threadline.reason"], reason, "{rows:?}");
    assert_eq!(attributes["tls.client.subject"].as_str(), subject, "{rows:?}");
    assert_eq!(attributes["tls.established"], false);
    assert_eq!(attributes["server.port"], hub.addresses().otlp_http.port());
}

#[test]
fn certificates_are_replaced_while_connections_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let settings = tls_settings(folder.path(), &old.hub(), &old, ClientAuth::Required);
    let hub = threadline::start(settings, Components::system()).unwrap();
    let json = [("content-type", "application/json")];
    run(async {
        let client = old.client(Some(&old.service("shop")));
        let stream = secure(client, source(1), hub.addresses().otlp_http).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut kept, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        assert!(healthy(&hub, old.client(None), 1).await.is_ok());
        assert!(healthy(&hub, new.client(None), 1).await.is_err());
        // The authorities of senders and the hub's own certificate; a half of it does no harm.
        let Identity { cert, key } = new.hub();
        put(folder.path(), "hub.pem", &cert);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(healthy(&hub, old.client(None), 1).await.is_ok());
        put(folder.path(), "hub.key", &key);
        put(folder.path(), "senders.pem", &new.pem);
        let deadline = Instant::now() + Duration::from_secs(30);
        while healthy(&hub, new.client(None), 1).await.is_err() {
            assert!(Instant::now() < deadline, "the new certificate is not in use");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(healthy(&hub, old.client(None), 1).await.is_err());
        let post = || request("POST", "/v1/logs", None, &json, "{}");
        let reply = crate::client::read(kept.send_request(post()).await.unwrap()).await.unwrap();
        assert_eq!(reply.status, 200, "the connection from before goes on");
        let outdated = new.client(Some(&old.service("shop")));
        let refused = match secure(outdated, source(1), hub.addresses().otlp_http).await {
            Ok(stream) => ask(stream, false, post()).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "a certificate of the old authority gets in");
        let client = new.client(Some(&new.service("shop")));
        let stream = secure(client, source(1), hub.addresses().otlp_http).await.unwrap();
        assert_eq!(ask(stream, false, post()).await.unwrap().status, 200);
    });
    hub.shutdown().unwrap();
}

/// A gRPC channel with TLS.
async fn channel(hub: &Hub, ca: &Authority, identity: Option<&Identity>) -> Channel {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem)).domain_name("localhost");
    if let Some(Identity { cert, key }) = identity {
        tls = tls.identity(TonicIdentity::from_pem(cert, key));
    }
    let endpoint = Channel::from_shared(format!("https://{}", hub.addresses().otlp_grpc)).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

async fn write_as(
    channel: &Channel,
    service: &str,
    token: Option<&str>,
) -> Result<ExportLogsServiceResponse, tonic::Status> {
    let mut message = tonic::Request::new(logs(service, &["one", "two"]));
    if let Some(token) = token {
        message.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    LogsServiceClient::new(channel.clone()).export(message).await.map(tonic::Response::into_inner)
}

#[test]
fn a_service_writes_under_its_own_name_only() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new("ours");
    let mut settings = tls_settings(folder.path(), &ca.hub(), &ca, ClientAuth::Optional);
    settings.senders =
        vec![SenderRule { identity: "spiffe://acme/collector".to_owned(), services: vec!["*".to_owned()] }];
    let data = folder.path().join("data");
    let reader = token(&data, "reader", &[Role::Read], None);
    let ingest = token(&data, "legacy", &[Role::Ingest], None);
    let hub = threadline::start(settings.clone(), Components::system()).unwrap();
    let pay = ca.issue(&Wanted { common: "x", uri: Some("spiffe://acme/ns/prod/sa/pay"), ..Wanted::default() });
    let collector =
        ca.issue(&Wanted { common: "c", uri: Some("spiffe://acme/collector"), ..Wanted::default() });
    run(async {
        for (name, identity, shown, service, refused) in [
            ("shop as shop", Some(ca.service("shop")), None, "shop", Some(0)),
            ("shop as cart", Some(ca.service("shop")), None, "cart", Some(2)),
            ("pay by SPIFFE", Some(pay.clone()), None, "pay", Some(0)),
            ("pay as shop", Some(pay), None, "shop", Some(2)),
            ("a collector", Some(collector), None, "anything", Some(0)),
            ("by token", None, Some(ingest.as_str()), "legacy-shop", Some(0)),
            ("nobody", None, None, "shop", None),
            ("a reader's token", None, Some(reader.as_str()), "shop", None),
        ] {
            let channel = channel(&hub, &ca, identity.as_ref()).await;
            match (write_as(&channel, service, shown).await, refused) {
                (Ok(reply), Some(refused)) => {
                    let partial = reply.partial_success.unwrap_or_default();
                    assert_eq!(partial.rejected_log_records, refused, "{name}: {}", partial.error_message);
                    assert_eq!(partial.error_message.contains("may not write as"), refused > 0, "{name}");
                }
                (Err(status), None) => {
                    let codes = [tonic::Code::Unauthenticated, tonic::Code::PermissionDenied];
                    assert!(codes.contains(&status.code()), "{name}: {status}");
                }
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
        let client = ca.client(None);
        let denied = "event:security.authz.denied threadline.reason:no_permission";
        let rows = wait_for(&hub, &client, &reader, denied, 2).await;
        let text = |row: &serde_json::Value, key: &str| row["attributes"][key].as_str().unwrap().to_owned();
        let mut tried: Vec<String> = rows
            .iter()
            .map(|row| {
                ["user.id", "threadline.resource.id", "threadline.outcome"].map(|key| text(row, key)).join(" ")
            })
            .collect();
        tried.sort();
        assert_eq!(tried, ["shop cart denied", "spiffe://acme/ns/prod/sa/pay shop denied"]);
        let senders = senders(&hub, &client, &reader).await;
        assert_eq!(
            senders,
            [
                "anything by spiffe://acme/collector",
                "legacy-shop by token:legacy",
                "pay by spiffe://acme/ns/prod/sa/pay",
                "shop by shop"
            ]
        );
    });
    hub.shutdown().unwrap();

    // Or it is kept and marked.
    let flag = Settings { sender_mismatch: Mismatch::Flag, ..settings };
    let hub = threadline::start(flag, Components::system()).unwrap();
    run(async {
        let channel = channel(&hub, &ca, Some(&ca.service("shop"))).await;
        assert_eq!(write_as(&channel, "cart", None).await.unwrap().partial_success, None);
        let stream = secure(ca.client(None), source(1), hub.addresses().api).await.unwrap();
        let search = request("GET", "/api/v1/search?q=is:sender_mismatch", Some(&reader), &[], "");
        let rows = ask(stream, false, search).await.unwrap().lines();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["verdict"], serde_json::json!(["sender_mismatch", "resource.missing"]), "{rows:?}");
        assert_eq!(rows[0]["resource"]["threadline.sender"], "shop");
        let marked = "threadline.reason:no_permission threadline.outcome:success threadline.resource.id:cart";
        assert_eq!(wait_for(&hub, &ca.client(None), &reader, marked, 1).await.len(), 1);
    });
    hub.shutdown().unwrap();
}

/// Which services were written by whom.
async fn senders(hub: &Hub, client: &Arc<ClientConfig>, token: &str) -> Vec<String> {
    let stream = secure(Arc::clone(client), source(1), hub.addresses().api).await.unwrap();
    let search = request("GET", "/api/v1/search?q=-service:threadline", Some(token), &[], "");
    let rows = ask(stream, false, search).await.unwrap().lines();
    let text = |row: &serde_json::Value| {
        let sender = row["resource"]["threadline.sender"].as_str().unwrap_or("nobody");
        format!("{} by {sender}", row["service"].as_str().unwrap())
    };
    let mut all: Vec<String> = rows.iter().map(text).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn the_rust_sdk_sends_over_tls_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new("ours");
    let settings = tls_settings(folder.path(), &ca.hub(), &ca, ClientAuth::Optional);
    let both = token(&folder.path().join("data"), "sdk", &[Role::Ingest, Role::Read], None);
    let hub = threadline::start(settings, Components::system()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let channel = runtime.block_on(channel(&hub, &ca, None));
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("authorization", format!("Bearer {both}").parse().unwrap());
    let _inside = runtime.enter();
    let exporter =
        LogExporter::builder().with_tonic().with_channel(channel).with_metadata(metadata).build().unwrap();
    let provider = SdkLoggerProvider::builder().with_batch_exporter(exporter).build();
    let logger = provider.logger("test");
    for n in 0..100 {
        use opentelemetry::logs::Logger as _;
        let mut record = logger.create_log_record();
        record.set_body(format!("over TLS {n}").into());
        logger.emit(record);
    }
    provider.force_flush().unwrap();
    drop(provider);
    let rows = runtime.block_on(async {
        let stream = secure(ca.client(None), source(1), hub.addresses().api).await.unwrap();
        let search = request("GET", "/api/v1/search?q=%22over+TLS%22&limit=1000", Some(&both), &[], "");
        ask(stream, false, search).await.unwrap().lines()
    });
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|row| row["resource"]["threadline.sender"] == "token:sdk"));
    hub.shutdown().unwrap();
}
