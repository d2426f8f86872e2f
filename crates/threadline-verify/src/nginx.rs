//! nginx with the rendered configuration, before a service of this process: requests with a good client certificate, and handshakes
//! that fail in every way that nginx tells apart. What it wrote is read as `threadline import` reads it.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use threadline_contract::registry::Registry;

use crate::http;
use crate::run::{OUTPUT, Process, free_port, write};
use crate::show::{event, resource, row, verdict};
use crate::sink::{Kept, Sink};
use crate::{Report, Row};

/// A handshake that fails: the client's certificate, and the reason that must be told. No certificate: an empty name.
const FAILING: [(&str, &str); 3] =
    [("expired", "expired"), ("strange", "untrusted"), ("", "client_cert_missing")];
/// Requests through a good connection, and the service's answers to them.
const ASKED: [(&str, u16); 3] = [("/orders/7", 200), ("/nope", 404), ("/broken", 500)];
/// What nginx knows no service for.
const UNKNOWN: &str = "/phpmyadmin";
/// Where nginx writes its lines.
const LINES: &str = "threadline.json";

/// Starts it, asks, stops it, and looks at what it wrote.
pub(crate) fn verify(
    folder: &Path,
    installed: Option<&Path>,
    registry: &Registry,
    sink: &Sink,
    say: &mut dyn FnMut(&str),
) -> Result<Report, String> {
    certificates(folder)?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let upstream = serve(Arc::clone(&seen))?;
    let port = free_port()?;
    write(&folder.join("nginx.conf"), &configuration(folder, port, upstream))?;
    let process = start(folder, installed, port)?;
    say(&format!("nginx listens on 127.0.0.1:{port}, with TLS and client certificates asked for"));
    let mut answers = Vec::new();
    for (path, _) in ASKED {
        answers.push(ask(folder, port, "good", path));
    }
    answers.push(ask(folder, port, "good", UNKNOWN));
    for (certificate, _) in FAILING {
        answers.push(ask(folder, port, certificate, "/orders/7"));
    }
    let plain = http::connect(port).and_then(|stream| http::get(stream, "/orders/7", &[]));
    answers.push(plain.map_err(|error| error.to_string()));
    process.stop()?;
    let path = folder.join(LINES);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.lines().for_each(|line| sink.line(line));
    let handed = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(report(registry, &answers, &handed, &sink.kept(), folder))
}

fn report(
    registry: &Registry,
    answers: &[Result<u16, String>],
    handed: &[String],
    kept: &Kept,
    folder: &Path,
) -> Report {
    let mut rows: Vec<Row> = Vec::new();
    for (at, (path, wanted)) in ASKED.iter().enumerate() {
        rows.push(passed(path, *wanted, answers.get(at), handed.get(at), kept));
    }
    rows.push(unknown(answers.get(ASKED.len()), kept));
    let reasons = FAILING.iter().map(|(_, reason)| *reason).chain(["plaintext"]);
    for (at, reason) in reasons.enumerate() {
        let is_its = |log: &&crate::sink::Log| {
            let named = log.attributes.get("threadline.reason").is_some_and(|found| found == reason);
            log.event == "security.tls.handshake_failed" && named
        };
        let found = match (kept.logs.iter().filter(is_its).count(), answers.get(ASKED.len() + 1 + at)) {
            (1, Some(Ok(400))) => Ok("400, one record".to_owned()),
            (count, answer) => Err(format!("{count} records, answered {answer:?}")),
        };
        rows.push(row(format!("a failed handshake is told as {reason}"), found));
    }
    rows.push(event(registry, "request.finished", kept));
    rows.push(event(registry, "security.endpoint.unknown", kept));
    rows.push(event(registry, "security.tls.handshake_failed", kept));
    rows.push(resource(registry, kept));
    rows.push(verdict(kept));
    Report { rows, folder: Some(folder.to_owned()) }
}

/// A request was handed on with the trace that its record has, not with the one that the stranger sent.
fn passed(
    path: &str,
    wanted: u16,
    answer: Option<&Result<u16, String>>,
    handed: Option<&String>,
    kept: &Kept,
) -> Row {
    let is_its = |log: &&crate::sink::Log| {
        log.event == "request.finished" && log.attributes.get("url.path").is_some_and(|found| found == path)
    };
    let records: Vec<_> = kept.logs.iter().filter(is_its).collect();
    let id = records
        .first()
        .and_then(|log| log.trace)
        .map(|trace| String::from_utf8_lossy(&trace.hex()).into_owned());
    let trace = records.first().and_then(|log| log.trace);
    let spans = kept.spans.iter().filter(|span| Some(span.trace) == trace && span.parent.is_none()).count();
    let found = match (records.as_slice(), answer, id, handed) {
        ([_], Some(Ok(status)), Some(id), Some(handed))
            if *status == wanted && handed.contains(&id) && spans == 1 =>
        {
            Ok(format!("{wanted}, one record and its span, in the trace that nginx began"))
        }
        (records, answer, id, handed) => Err(format!(
            "{} records, {spans} spans, answered {answer:?}, trace {id:?}, handed on {handed:?}",
            records.len()
        )),
    };
    row(format!("GET {path} leaves request.finished in the trace that the service got"), found)
}

/// What no service was asked for is told as unknown, and is the only one.
fn unknown(answer: Option<&Result<u16, String>>, kept: &Kept) -> Row {
    let records: Vec<_> = kept.logs.iter().filter(|log| log.event == "security.endpoint.unknown").collect();
    let found = match (records.as_slice(), answer) {
        ([log], Some(Ok(404))) if log.attributes.get("url.path").is_some_and(|path| path == UNKNOWN) => {
            Ok("404, one record".to_owned())
        }
        (records, answer) => Err(format!("{} records, answered {answer:?}", records.len())),
    };
    row(format!("GET {UNKNOWN}, which nginx has no service for, is told as an unknown endpoint"), found)
}

fn configuration(folder: &Path, port: u16, upstream: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ }}\n\
         http {{\n  include {folder}/threadline.conf;\n  access_log off;\n\
         client_body_temp_path {folder}/tmp-body;\n  proxy_temp_path {folder}/tmp-proxy;\n\
         fastcgi_temp_path {folder}/tmp-fastcgi;\n  uwsgi_temp_path {folder}/tmp-uwsgi;\n  scgi_temp_path {folder}/tmp-scgi;\n\
         server {{\n    listen 127.0.0.1:{port} ssl;\n\
         ssl_certificate {folder}/server.pem;\n    ssl_certificate_key {folder}/server.key;\n\
         ssl_client_certificate {folder}/ca.pem;\n    ssl_verify_client on;\n\
         access_log {folder}/{LINES} threadline if=$threadline_request;\n\
         access_log {folder}/{LINES} threadline_span if=$threadline_request;\n\
         access_log {folder}/{LINES} threadline_unknown if=$threadline_unknown;\n\
         access_log {folder}/{LINES} threadline_tls if=$threadline_tls;\n\
         location = {UNKNOWN} {{ return 404; }}\n\
         location / {{\n      set $threadline_route \"/{{what}}\";\n      proxy_pass http://127.0.0.1:{upstream};\n\
         proxy_set_header traceparent $threadline_traceparent;\n      proxy_set_header tracestate \"\";\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n"
    )
}

fn start(folder: &Path, installed: Option<&Path>, port: u16) -> Result<Process, String> {
    let output = folder.join(OUTPUT);
    let wrong = |error: std::io::Error| format!("{}: {error}", output.display());
    let (first, second) =
        File::create(&output).and_then(|file| Ok((file.try_clone()?, file))).map_err(wrong)?;
    // Debian has it where only root's PATH looks.
    let debian = Path::new("/usr/sbin/nginx");
    let program = installed.unwrap_or(if debian.is_file() { debian } else { Path::new("nginx") });
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg("stderr");
    let spawned = command.stdin(Stdio::null()).stdout(first).stderr(second).process_group(0).spawn();
    let child =
        spawned.map_err(|error| format!("nginx could not be started: {error}; apt-get install nginx-light"))?;
    Process::ready(child, output, port)
}

/// The service behind: answers by the path, and keeps the `traceparent` that it got.
fn serve(seen: Arc<Mutex<Vec<String>>>) -> Result<u16, String> {
    let wrong = |error: std::io::Error| format!("the service cannot listen: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(wrong)?;
    let port = listener.local_addr().map_err(wrong)?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(Some(message)) = http::read(&mut BufReader::new(&stream), false) else { continue };
            let path = message.start.split(' ').nth(1).unwrap_or_default();
            let status = ASKED.iter().find(|(known, _)| *known == path).map_or(404, |(_, status)| *status);
            let parent = message.header("traceparent").unwrap_or_default().to_owned();
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(parent);
            let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    Ok(port)
}

/// Asks over TLS with this client certificate, or with none. A stranger's `traceparent` is sent along.
fn ask(folder: &Path, port: u16, certificate: &str, path: &str) -> Result<u16, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("TLS: {error}");
    let mut roots = RootCertStore::empty();
    let pem = |name: &str| CertificateDer::from_pem_file(folder.join(name)).map_err(|error| wrong(&error));
    roots.add(pem("ca.pem")?).map_err(|error| wrong(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| wrong(&error))?;
    let config = config.with_root_certificates(roots);
    let config = if certificate.is_empty() {
        config.with_no_client_auth()
    } else {
        let key = PrivateKeyDer::from_pem_file(folder.join(format!("{certificate}.key")));
        let key = key.map_err(|error| wrong(&error))?;
        let chain = vec![pem(&format!("{certificate}.pem"))?];
        config.with_client_auth_cert(chain, key).map_err(|error| wrong(&error))?
    };
    let name = ServerName::try_from("localhost").map_err(|error| wrong(&error))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| wrong(&error))?;
    let stream = http::connect(port).map_err(|error| wrong(&error))?;
    let outside = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")];
    http::get(StreamOwned::new(connection, stream), path, &outside).map_err(|error| wrong(&error))
}

/// An authority, the server's certificate, and those of clients: a good one, an expired one, one of a strange authority.
fn certificates(folder: &Path) -> Result<(), String> {
    let ours = authority("verify")?;
    let strange = authority("strange")?;
    write(&folder.join("ca.pem"), &ours.1)?;
    issue(folder, &ours.0, "server", false)?;
    issue(folder, &ours.0, "good", false)?;
    issue(folder, &ours.0, "expired", true)?;
    issue(folder, &strange.0, "strange", false)
}

fn wrong(error: rcgen::Error) -> String {
    format!("a certificate could not be made: {error}")
}

fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String), String> {
    let mut params = CertificateParams::new(Vec::new()).map_err(wrong)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().map_err(wrong)?;
    let pem = params.self_signed(&key).map_err(wrong)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn issue(folder: &Path, issuer: &Issuer<'_, KeyPair>, name: &str, expired: bool) -> Result<(), String> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(wrong)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    // OpenSSL wants the issuer's key named.
    params.use_authority_key_identifier_extension = true;
    if expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().map_err(wrong)?;
    let pem = params.signed_by(&key, issuer).map_err(wrong)?.pem();
    write(&folder.join(format!("{name}.pem")), &pem)?;
    write(&folder.join(format!("{name}.key")), &key.serialize_pem())
}
