//! Who speaks: the other end of a connection, and what it has shown of itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::certificate::{Certificate, TOKEN};
use super::names::actor;
use super::roles::Roles;
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
}

impl Peer {
    /// The other end of a connection without TLS.
    pub(crate) fn plain(address: SocketAddr, server_port: u16, connection: u64) -> Peer {
        Peer { address, connection, server_port, tls_version: None, certificate: None }
    }

    /// This process itself, which reads a data folder.
    pub(crate) fn own() -> Peer {
        Peer::plain(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), 0, 0)
    }

    /// Tells connections to one running hub apart.
    pub(crate) fn connection_id(&self) -> String {
        format!("{}-{}", self.server_port, self.connection)
    }

    /// Its address, for people.
    pub(crate) fn shown(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Arc<Peer>,
    /// The token that was shown, and is good.
    pub(crate) token: Option<Arc<Token>>,
    pub(crate) roles: Roles,
}

impl Caller {
    /// Who is known by no token.
    pub(crate) fn without_token(peer: Arc<Peer>, roles: Roles) -> Caller {
        Caller { peer, token: None, roles }
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
