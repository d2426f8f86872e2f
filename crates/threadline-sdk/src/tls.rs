//! TLS that tells why a handshake failed. No HTTP layer sees those: there is no request yet.
//!
//! [`Acceptor`] and [`Connector`] wrap rustls's and report `security.tls.handshake_failed` with the contract's reasons. A server that
//! asks for client certificates has them remembered by [`Remembering`], so that the record says who was refused; [`Files`] builds
//! both configurations from PEM files. With axum, [`Listener`] serves an app over it.
//!
//! In TLS 1.3 a client has finished its handshake before the server looks at its certificate: that the server refused it the
//! client learns with its first read, and only the server reports it.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, InvalidMessage,
    PeerIncompatible, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{client, server};

use crate::Error;
use crate::events::{
    Outcome, TlsHandshakeFailed, TlsHandshakeFailedOptional, TlsHandshakeFailedReason as Reason, TlsSide,
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes of a PEM file at most.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Subject, RFC 4514.
    pub subject: String,
    /// Issuer, RFC 4514.
    pub issuer: String,
    /// SHA-256 of the certificate, upper-case hexadecimal.
    pub sha256: String,
    /// When it ends, ISO 8601.
    pub not_after: String,
    /// Names that it is for: DNS names and URIs.
    pub names: Vec<String>,
}

impl Certificate {
    /// Reads a DER certificate; of one that cannot be read the hash alone is known.
    pub fn read(der: &[u8]) -> Certificate {
        use sha2::Digest as _;
        use x509_cert::der::Decode as _;
        use x509_cert::ext::pkix::SubjectAltName;
        use x509_cert::ext::pkix::name::GeneralName;
        let mut sha256 = String::new();
        for byte in sha2::Sha256::digest(der) {
            let _ = write!(sha256, "{byte:02X}");
        }
        let unread = || "unreadable".to_owned();
        let Ok(certificate) = x509_cert::Certificate::from_der(der) else {
            return Certificate {
                subject: unread(),
                issuer: unread(),
                sha256,
                not_after: unread(),
                names: Vec::new(),
            };
        };
        let tbs = certificate.tbs_certificate();
        let mut names = Vec::new();
        if let Ok(Some((_, SubjectAltName(all)))) = tbs.get_extension::<SubjectAltName>() {
            for name in all.into_iter().take(32) {
                match name {
                    GeneralName::DnsName(name) => names.push(name.to_string()),
                    GeneralName::UniformResourceIdentifier(name) => names.push(name.to_string()),
                    _ => {}
                }
            }
        }
        Certificate {
            subject: tbs.subject().to_string(),
            issuer: tbs.issuer().to_string(),
            sha256,
            not_after: tbs.validity().not_after.to_string(),
            names,
        }
    }
}

/// The other end of a TLS connection.
#[derive(Clone, Debug)]
pub struct Peer {
    address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
}

impl Peer {
    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that it showed and that was accepted.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }
}

/// PEM files of a service's TLS. A path that is empty is not used.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Its certificate, with those of intermediate authorities after it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of the other end. A server that has them demands a client certificate.
    pub ca: PathBuf,
    /// What these have revoked.
    pub crl: PathBuf,
}

impl Files {
    /// For a server: HTTP/2 and 1.1, TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn server(&self) -> Result<ServerConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Settings(error.to_string()))?;
        let builder = match is_set(&self.ca) {
            false => builder.with_no_client_auth(),
            true => {
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()?), provider);
                if is_set(&self.crl) {
                    let pem = read(&self.crl)?;
                    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
                    let lists = lists.map_err(|error| wrong(&self.crl, &error))?;
                    verifier = verifier.with_crls(lists).allow_unknown_revocation_status();
                }
                let verifier = verifier.build().map_err(|error| wrong(&self.ca, &error))?;
                builder.with_client_cert_verifier(Arc::new(Remembering::new(verifier)))
            }
        };
        let (chain, key) = self.identity()?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| wrong(&self.cert, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A resumed session would outlive the client's certificate.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// For a client, which shows its certificate if it has one.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn client(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Settings(error.to_string()))?
            .with_root_certificates(self.roots()?);
        if !is_set(&self.cert) {
            return Ok(builder.with_no_client_auth());
        }
        let (chain, key) = self.identity()?;
        builder.with_client_auth_cert(chain, key).map_err(|error| wrong(&self.cert, &error))
    }

    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| wrong(&self.key, &format!("no private key in it (PEM): {error}")))?;
        Ok((certificates(&self.cert)?, key))
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|error| wrong(&self.ca, &error))?;
        }
        Ok(roots)
    }
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Settings(format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    if std::fs::metadata(path).map_err(|error| wrong(path, &error))?.len() > FILE_BYTES_MAX {
        return Err(wrong(path, &format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(|error| wrong(path, &error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| wrong(path, &error))?;
    if all.is_empty() { Err(wrong(path, &"there is no certificate in it (PEM)")) } else { Ok(all) }
}

thread_local! {
    /// The client certificate that was shown in the poll that runs on this thread.
    static SHOWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// A verifier of client certificates that lets [`Acceptor`] know what was shown, accepted or not.
#[derive(Debug)]
pub struct Remembering {
    inner: Arc<dyn ClientCertVerifier>,
}

impl Remembering {
    /// Around the verifier that decides.
    pub fn new(inner: Arc<dyn ClientCertVerifier>) -> Remembering {
        Remembering { inner }
    }
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
        SHOWN.with_borrow_mut(|shown| *shown = Some(end_entity.to_vec()));
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

/// Accepts TLS connections, and reports those that failed.
#[derive(Clone)]
pub struct Acceptor {
    inner: tokio_rustls::TlsAcceptor,
    timeout: Duration,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// With a server's configuration. Its client certificates are known in records if its verifier is a [`Remembering`].
    pub fn new(config: Arc<ServerConfig>) -> Acceptor {
        Acceptor { inner: config.into(), timeout: HANDSHAKE }
    }

    /// Bounds a handshake; ten seconds unless told otherwise.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Acceptor {
        Acceptor { timeout, ..self }
    }

    /// Shakes hands with whoever has connected from `peer` to `port`.
    ///
    /// # Errors
    /// Why it failed, which was reported.
    pub async fn accept<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        port: u16,
    ) -> io::Result<(server::TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut shaking = self.inner.accept(stream);
        let mut shown = None;
        let shaken = poll_fn(|cx| {
            SHOWN.with_borrow_mut(|slot| *slot = None);
            let polled = std::pin::Pin::new(&mut shaking).poll(cx);
            if let Some(der) = SHOWN.take() {
                shown = Some(der);
            }
            polled
        });
        let error = match tokio::time::timeout(self.timeout, shaken).await {
            Ok(Ok(stream)) => {
                let chain = stream.get_ref().1.peer_certificates();
                let certificate = chain.and_then(<[_]>::first).map(|der| Arc::new(Certificate::read(der)));
                return Ok((stream, Peer { address: peer, certificate }));
            }
            Ok(Err(error)) => error,
            Err(_) => timed_out(),
        };
        let shown = shown.map(|der| Certificate::read(&der));
        report(TlsSide::Server, &error, peer, port, shown.as_ref(), None);
        Err(error)
    }
}

/// Makes TLS connections, and reports those that failed.
#[derive(Clone)]
pub struct Connector {
    inner: tokio_rustls::TlsConnector,
    timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Connector {
    /// With a client's configuration.
    pub fn new(config: Arc<ClientConfig>) -> Connector {
        Connector { inner: config.into(), timeout: HANDSHAKE }
    }

    /// Bounds a handshake; ten seconds unless told otherwise.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Connector {
        Connector { timeout, ..self }
    }

    /// Shakes hands with the server of that name at `peer`.
    ///
    /// # Errors
    /// Why it failed, which was reported.
    pub async fn connect<S>(
        &self,
        name: ServerName<'static>,
        stream: S,
        peer: SocketAddr,
    ) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server = name.to_str().into_owned();
        let error = match tokio::time::timeout(self.timeout, self.inner.connect(name, stream)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => timed_out(),
        };
        report(TlsSide::Client, &error, peer, peer.port(), None, Some(server));
        Err(error)
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")
}

/// Numbers connections of this process.
fn connection_id() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed) + 1)
}

fn report(
    side: TlsSide,
    error: &io::Error,
    peer: SocketAddr,
    port: u16,
    shown: Option<&Certificate>,
    server: Option<String>,
) {
    let reason = reason(error);
    let peer = peer.ip().to_canonical().to_string();
    let who = shown.map_or(String::new(), |shown| format!(", {}", shown.subject));
    let message = format!("TLS handshake with {peer}{who} failed: {}: {error}", reason.as_str());
    TlsHandshakeFailed {
        outcome: Outcome::Failure,
        reason,
        tls_side: side,
        connection_id: connection_id().into(),
        network_peer_address: (&*peer).into(),
        server_port: i64::from(port),
        tls_established: false,
        optional: TlsHandshakeFailedOptional {
            tls_client_subject: shown.map(|shown| (&*shown.subject).into()),
            tls_client_issuer: shown.map(|shown| (&*shown.issuer).into()),
            tls_client_hash_sha256: shown.map(|shown| (&*shown.sha256).into()),
            tls_client_not_after: shown.map(|shown| (&*shown.not_after).into()),
            server_address: server.map(Into::into),
            tls_protocol_version: None,
        },
    }
    .emit(&message);
}

fn reason(error: &io::Error) -> Reason {
    if error.kind() == io::ErrorKind::TimedOut {
        return Reason::Timeout;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => reason_of(error),
        // The connection ended; what for was not said.
        None => Reason::Alert,
    }
}

fn reason_of(error: &rustls::Error) -> Reason {
    use rustls::Error;
    match error {
        Error::NoCertificatesPresented => Reason::ClientCertMissing,
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::Expired,
            CertificateError::Revoked => Reason::Revoked,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Reason::NameMismatch
            }
            _ => Reason::Untrusted,
        },
        // What came is no TLS record.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Reason::Plaintext,
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic,
        ) => Reason::ProtocolVersion,
        Error::PeerIncompatible(_) => Reason::Cipher,
        Error::AlertReceived(alert) => match alert {
            AlertDescription::ProtocolVersion => Reason::ProtocolVersion,
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Reason::Cipher,
            AlertDescription::UnrecognisedName => Reason::NameMismatch,
            AlertDescription::CertificateExpired => Reason::Expired,
            AlertDescription::CertificateRevoked => Reason::Revoked,
            AlertDescription::CertificateRequired => Reason::ClientCertMissing,
            AlertDescription::UnknownCA => Reason::Untrusted,
            _ => Reason::Alert,
        },
        _ => Reason::Alert,
    }
}

#[cfg(feature = "axum")]
pub use listener::Listener;

#[cfg(feature = "axum")]
mod listener {
    //! A listener for `axum::serve`. Handshakes go on beside one another: a slow one holds up nobody.

    use super::{Acceptor, Peer};
    use axum::extract::connect_info::Connected;
    use axum::serve::IncomingStream;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{Semaphore, mpsc};
    use tokio_rustls::server::TlsStream;
    use tracing::instrument::WithSubscriber as _;

    /// Handshakes at once at most; who comes beyond waits.
    const HANDSHAKES_MAX: usize = 1024;

    /// Accepts TCP connections and shakes hands. Handlers learn the other end by `ConnectInfo<Peer>`:
    /// `axum::serve(listener, app.into_make_service_with_connect_info::<Peer>())`.
    #[derive(Debug)]
    pub struct Listener {
        shaken: mpsc::Receiver<(TlsStream<TcpStream>, Peer)>,
        address: SocketAddr,
    }

    impl Listener {
        /// Takes over a TCP listener. Runs within tokio.
        ///
        /// # Errors
        /// What the system says of the listener's address.
        pub fn new(listener: TcpListener, acceptor: Acceptor) -> io::Result<Listener> {
            let address = listener.local_addr()?;
            let (sender, shaken) = mpsc::channel(64);
            let accept = accept(listener, acceptor, address.port(), sender);
            tokio::spawn(accept.with_current_subscriber());
            Ok(Listener { shaken, address })
        }
    }

    async fn accept(
        listener: TcpListener,
        acceptor: Acceptor,
        port: u16,
        sender: mpsc::Sender<(TlsStream<TcpStream>, Peer)>,
    ) {
        let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, peer) = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    // As when files run out: others may be closed meanwhile.
                    Err(error) => {
                        tracing::warn!(target: "threadline_sdk", "a connection could not be accepted: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            let shake = async move {
                let _ = stream.set_nodelay(true);
                if let Ok(shaken) = acceptor.accept(stream, peer, port).await {
                    let _ = sender.send(shaken).await;
                }
                drop(place);
            };
            tokio::spawn(shake.with_current_subscriber());
        }
    }

    impl axum::serve::Listener for Listener {
        type Io = TlsStream<TcpStream>;
        type Addr = Peer;

        async fn accept(&mut self) -> (Self::Io, Peer) {
            match self.shaken.recv().await {
                Some(shaken) => shaken,
                // The task that accepts is gone with its runtime: nothing comes any more.
                None => std::future::pending().await,
            }
        }

        fn local_addr(&self) -> io::Result<Peer> {
            Ok(Peer { address: self.address, certificate: None })
        }
    }

    impl Connected<IncomingStream<'_, Listener>> for Peer {
        fn connect_info(stream: IncomingStream<'_, Listener>) -> Peer {
            stream.remote_addr().clone()
        }
    }
}
