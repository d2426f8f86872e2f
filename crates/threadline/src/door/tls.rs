//! TLS of the hub's ports: certificates, their reload, handshakes, and why one failed.
//!
//! Vocabulary:
//! - *material*: what the files hold at one moment: the hub's certificate and key, the authorities of senders and what
//!   these have revoked. New material is for new connections; those there are go on as they began;
//! - *presented*: a client certificate as it was shown, whether it was accepted or not.
//!
//! Sessions are not resumed where senders show certificates: a resumed session would outlive the certificate.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible,
    ProtocolVersion, RootCertStore, ServerConfig, SignatureScheme,
};
use threadline_model::clock::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::Certificate;
use super::names::reason::tls as reason;
use super::roles::Port;
use crate::settings::Settings;
use crate::settings::kind::ClientAuth;

/// Bytes of a file of certificates, keys or revocations.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// TLS of the hub's ports.
pub(crate) struct Tls {
    files: Files,
    clock: Arc<dyn Clock>,
    material: RwLock<Arc<Material>>,
}

/// Where the material lies.
#[derive(Clone, Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
    client_auth: ClientAuth,
}

struct Material {
    /// For ports that ask for no certificate.
    plain: Arc<ServerConfig>,
    /// For ports that do: one must be shown, or may be.
    required: Option<Arc<dyn ClientCertVerifier>>,
    optional: Option<Arc<dyn ClientCertVerifier>>,
    /// When the hub's own certificate ends, seconds since the Unix epoch.
    not_after_s: Option<u64>,
}

/// A connection after its handshake.
pub(crate) struct Shaken<S> {
    pub(crate) stream: TlsStream<S>,
    pub(crate) version: &'static str,
    pub(crate) http2: bool,
    pub(crate) certificate: Option<Certificate>,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Of the closed list.
    pub(crate) reason: &'static str,
    /// In TLS's words.
    pub(crate) detail: String,
    /// The client certificate that was shown.
    pub(crate) presented: Option<Certificate>,
}

impl Tls {
    /// TLS as the settings want it; `None` when they want none.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub(crate) fn load(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Option<Tls>, String> {
        let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else { return Ok(None) };
        let files = Files {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: settings.tls_client_ca.clone(),
            client_crl: settings.tls_client_crl.clone(),
            client_auth: settings.tls_client_auth,
        };
        let material = Material::read(&files, &clock)?;
        Ok(Some(Tls { files, clock, material: RwLock::new(Arc::new(material)) }))
    }

    /// The files to watch.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let Files { cert, key, client_ca, client_crl, .. } = &self.files;
        [Some(cert), Some(key), client_ca.as_ref(), client_crl.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// Reads the files again, for new connections.
    ///
    /// # Errors
    /// Which file is wrong, and how; what was read before stays.
    pub(crate) fn reload(&self) -> Result<(), String> {
        let material = Material::read(&self.files, &self.clock)?;
        *self.material.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(material);
        Ok(())
    }

    fn material(&self) -> Arc<Material> {
        Arc::clone(&self.material.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the hub's own certificate ends, seconds since the Unix epoch.
    pub(crate) fn not_after_s(&self) -> Option<u64> {
        self.material().not_after_s
    }

    /// Shakes hands. The caller bounds the time.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        port: Port,
        stream: S,
    ) -> Result<Shaken<S>, Failed> {
        let material = self.material();
        let verifier = match (port.takes_records(), self.files.client_auth) {
            (true, ClientAuth::Required) => &material.required,
            _ => &material.optional,
        };
        let presented = Presented::default();
        let config =
            match verifier {
                None => Arc::clone(&material.plain),
                Some(verifier) => material.asking(verifier, &presented, &self.clock).map_err(|error| {
                    Failed { reason: reason::ALERT, detail: error.to_string(), presented: None }
                })?,
            };
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => {
                let (_, connection) = stream.get_ref();
                let version = version_name(connection.protocol_version());
                let http2 = connection.alpn_protocol() == Some(b"h2");
                let shown = connection.peer_certificates().and_then(<[_]>::first);
                let certificate = shown.map(|der| Certificate::read(der));
                Ok(Shaken { version, http2, certificate, stream })
            }
            Err(error) => {
                let (reason, detail) = why(&error);
                Err(Failed { reason, detail, presented: presented.take() })
            }
        }
    }
}

fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        _ => "unknown",
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let meta = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("at most {FILE_BYTES_MAX} bytes are read")));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| format!("{}: {error}", path.display()))?;
    if all.is_empty() {
        return Err(format!("{}: there is no certificate in it (PEM)", path.display()));
    }
    Ok(all)
}

impl Material {
    fn read(files: &Files, clock: &Arc<dyn Clock>) -> Result<Material, String> {
        let chain = certificates(&files.cert)?;
        let not_after_s = chain.first().and_then(|der| not_after_s(der));
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
            .map_err(|error| format!("{}: no private key in it (PEM): {error}", files.key.display()))?;
        let wrong = |error: rustls::Error| {
            format!("{} and {} make no TLS server: {error}", files.cert.display(), files.key.display())
        };
        let mut plain =
            builder(clock).map_err(wrong)?.with_no_client_auth().with_single_cert(chain, key).map_err(wrong)?;
        plain.alpn_protocols = protocols();
        let verifier = |demand| files.client_ca.as_ref().map(|ca| verifier(ca, files, demand)).transpose();
        Ok(Material {
            plain: Arc::new(plain),
            required: verifier(ClientAuth::Required)?,
            optional: verifier(ClientAuth::Optional)?,
            not_after_s,
        })
    }

    /// A configuration for one connection, which remembers the certificate that is shown.
    fn asking(
        &self,
        verifier: &Arc<dyn ClientCertVerifier>,
        presented: &Presented,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let remembering = Remembering { inner: Arc::clone(verifier), presented: presented.clone() };
        let resolver = Arc::clone(&self.plain.cert_resolver);
        let mut config =
            builder(clock)?.with_client_cert_verifier(Arc::new(remembering)).with_cert_resolver(resolver);
        config.alpn_protocols = protocols();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn builder(
    clock: &Arc<dyn Clock>,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, rustls::Error> {
    let time = Arc::new(Time(Arc::clone(clock)));
    ServerConfig::builder_with_details(provider(), time).with_safe_default_protocol_versions()
}

fn protocols() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

fn not_after_s(der: &[u8]) -> Option<u64> {
    use x509_cert::der::Decode as _;
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs())
}

fn verifier(ca: &Path, files: &Files, demand: ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", ca.display()))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    if let Some(path) = &files.client_crl {
        let pem = read(path)?;
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
        let lists = lists.map_err(|error| format!("{}: {error}", path.display()))?;
        // An authority that revokes nothing need not say so.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if demand == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| format!("{}: {error}", ca.display()))
}

/// The hub's clock, for TLS.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let us = u64::try_from(self.0.now_us()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_micros(us)))
    }
}

/// The certificate that one client has shown.
#[derive(Clone, Debug, Default)]
struct Presented(Arc<Mutex<Option<Vec<u8>>>>);

impl Presented {
    fn take(&self) -> Option<Certificate> {
        let der = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Certificate::read(&der))
    }
}

/// A verifier that remembers what it was shown.
#[derive(Debug)]
struct Remembering {
    inner: Arc<dyn ClientCertVerifier>,
    presented: Presented,
}

impl ClientCertVerifier for Remembering {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        *self.presented.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The reason of the closed list, and TLS's own words.
fn why(error: &std::io::Error) -> (&'static str, String) {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => (reason_of(error), error.to_string()),
        None => (reason::ALERT, format!("the connection ended during the handshake: {error}")),
    }
}

fn reason_of(error: &rustls::Error) -> &'static str {
    use rustls::Error;
    match error {
        Error::NoCertificatesPresented => reason::CLIENT_CERT_MISSING,
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => reason::EXPIRED,
            CertificateError::Revoked => reason::REVOKED,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                reason::NAME_MISMATCH
            }
            _ => reason::UNTRUSTED,
        },
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            // What came before TLS 1.2 has none.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => reason::PROTOCOL_VERSION,
        Error::PeerIncompatible(_) => reason::CIPHER,
        Error::AlertReceived(alert) => match alert {
            AlertDescription::ProtocolVersion => reason::PROTOCOL_VERSION,
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => reason::CIPHER,
            AlertDescription::UnrecognisedName => reason::NAME_MISMATCH,
            _ => reason::ALERT,
        },
        _ => reason::ALERT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_reason_of_the_closed_list() {
        use rustls::Error;
        for (error, want) in [
            (Error::NoCertificatesPresented, "client_cert_missing"),
            (Error::InvalidCertificate(CertificateError::Expired), "expired"),
            (Error::InvalidCertificate(CertificateError::NotValidYet), "expired"),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "untrusted"),
            (Error::InvalidCertificate(CertificateError::BadSignature), "untrusted"),
            (Error::InvalidCertificate(CertificateError::Revoked), "revoked"),
            (Error::InvalidCertificate(CertificateError::NotValidForName), "name_mismatch"),
            (Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered), "protocol_version"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "cipher"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), "protocol_version"),
            (Error::AlertReceived(AlertDescription::UnrecognisedName), "name_mismatch"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "alert"),
            (Error::DecryptError, "alert"),
        ] {
            assert_eq!(reason_of(&error), want, "{error}");
        }
        let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert_eq!(why(&cut).0, "alert");
        let wrapped =
            std::io::Error::new(std::io::ErrorKind::InvalidData, rustls::Error::NoCertificatesPresented);
        assert_eq!(why(&wrapped).0, "client_cert_missing");
    }
}
