//! Who speaks: the other end of a connection, and what it has shown of itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::certificate::{Certificate, TOKEN};
use super::forwarded::Forwarded;
use super::names::{actor, method};
use super::roles::Roles;
use super::sessions::Key;
use super::tokens::Token;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Its number among the connections of its port.
    pub(crate) connection: u64,
    /// The hub's port that it came to.
    pub(crate) server_port: u16,
    /// Version of TLS; `None` without.
    pub(crate) tls_version: Option<&'static str>,
    /// The certificate that TLS has verified.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// What the proxy in between says, if it is trusted.
    pub(crate) forwarded: Forwarded,
}

impl Peer {
    /// The other end of a connection without TLS.
    pub(crate) fn plain(address: SocketAddr, server_port: u16, connection: u64) -> Peer {
        let forwarded = Forwarded::default();
        Peer { address, connection, server_port, tls_version: None, certificate: None, forwarded }
    }

    /// This process itself, which reads a data folder.
    pub(crate) fn own() -> Peer {
        Peer::plain(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), 0, 0)
    }

    /// Tells connections to one running hub apart.
    pub(crate) fn connection_id(&self) -> String {
        format!("{}-{}", self.server_port, self.connection)
    }

    /// The address of the client: the other end's, or the one that a trusted proxy there says.
    pub(crate) fn client(&self) -> IpAddr {
        self.forwarded.client.unwrap_or_else(|| self.address.ip()).to_canonical()
    }

    /// Whether the client speaks TLS, to the hub or to a trusted proxy.
    pub(crate) fn is_secure(&self) -> bool {
        self.tls_version.is_some() || self.forwarded.https
    }
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Arc<Peer>,
    /// The token that was shown, and is good.
    pub(crate) token: Option<Arc<Token>>,
    pub(crate) roles: Roles,
    /// The session that stands for the token.
    pub(crate) session: Option<Key>,
}

impl Caller {
    /// Who is known by no token.
    pub(crate) fn without_token(peer: Arc<Peer>, roles: Roles) -> Caller {
        Caller { peer, token: None, roles, session: None }
    }

    /// What sort of caller this is.
    pub(crate) fn actor(&self) -> &'static str {
        match (&self.token, &self.peer.certificate) {
            (Some(_), _) => actor::USER,
            (None, Some(_)) => actor::SERVICE,
            (None, None) => actor::ANONYMOUS,
        }
    }

    /// The one word that records know it by.
    pub(crate) fn id(&self) -> String {
        match (&self.token, &self.peer.certificate) {
            (Some(token), _) => format!("token:{}", token.id),
            (None, Some(certificate)) => certificate.identity.clone(),
            (None, None) => "anonymous".to_owned(),
        }
    }

    /// How it said who it is; `None` when it did not.
    pub(crate) fn method(&self) -> Option<&'static str> {
        match (self.session, &self.token, &self.peer.certificate) {
            (Some(_), ..) => Some(method::SESSION),
            (None, Some(_), _) => Some(method::BEARER),
            (None, None, Some(_)) => Some(method::MTLS),
            (None, None, None) => None,
        }
    }

    /// Who it is, for people.
    pub(crate) fn who(&self) -> String {
        match &self.token {
            Some(token) => format!("token {} ({})", token.name, token.id),
            None => self.id(),
        }
    }

    /// Who sends records: the certificate's identity before the token's name, for it is of the sender itself, where
    /// several may have a token.
    pub(crate) fn sender(&self) -> Option<String> {
        let certificate = self.peer.certificate.as_ref().map(|certificate| certificate.identity.clone());
        certificate.or_else(|| self.token.as_ref().map(|token| format!("{TOKEN}{}", token.name)))
    }
}
