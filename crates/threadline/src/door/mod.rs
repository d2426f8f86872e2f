//! The hub's own door: who may come in, and the record of who was not let in and of who asked for what.
//!
//! Vocabulary:
//! - *peer*: the other end of a connection; *caller*: who sends a request, by token or certificate or not at all;
//! - *role*: what a caller may do; *endpoint*: a method of a path of a port, with the roles that it asks for;
//! - *enforced*: a port asks who comes. It does as soon as there is a token (or, where records come in, a client CA);
//!   before that it takes everybody, which is why such a hub does not listen beyond its own machine ([`exposure`]);
//! - *note*: something that becomes one of the hub's own records ([`journal`]).
//!
//! It does not know what requests say, or where records lie.

pub(crate) mod caller;
pub(crate) mod certificate;
mod exposure;
pub(crate) mod handshakes;
pub(crate) mod journal;
mod limiter;
pub(crate) mod meters;
pub(crate) mod names;
pub(crate) mod notes;
pub mod pattern;
pub mod roles;
mod senders;
pub(crate) mod tls;
pub mod tokens;
pub(crate) mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use threadline_model::sender::Sender;
use threadline_store::Env;

use self::caller::{Caller, Peer};
use self::journal::Journal;
use self::limiter::Limiter;
use self::names::{outcome, reason};
use self::notes::Asked;
use self::roles::{Endpoint, Port, Role, Roles};
use self::senders::Senders;
use self::tokens::{Token, TokenFault, TokenFile, Tokens};
use crate::meters::Meters;
use crate::settings::Settings;

/// Bytes of a header with a token.
const AUTHORIZATION_BYTES_MAX: usize = 512;

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody knows who it is.
    Unauthenticated(String),
    /// It is known who it is, and that is not enough.
    Forbidden(String),
    /// The source has failed too often.
    Locked { detail: String, retry_after: Duration },
}

impl Refused {
    /// The HTTP status.
    pub(crate) fn http_status(&self) -> http::StatusCode {
        match self {
            Refused::Unauthenticated(_) => http::StatusCode::UNAUTHORIZED,
            Refused::Forbidden(_) => http::StatusCode::FORBIDDEN,
            Refused::Locked { .. } => http::StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// What to say.
    pub(crate) fn detail(&self) -> &str {
        match self {
            Refused::Unauthenticated(detail) | Refused::Forbidden(detail) | Refused::Locked { detail, .. } => {
                detail
            }
        }
    }

    /// When to come again; `None` when that is of no use.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Refused::Locked { retry_after, .. } => Some(*retry_after),
            Refused::Unauthenticated(_) | Refused::Forbidden(_) => None,
        }
    }
}

/// The door.
pub(crate) struct Door {
    env: Env,
    tokens: RwLock<Arc<Tokens>>,
    /// There is a token, or was: a hub whose token file is gone does not open itself.
    had_tokens: AtomicBool,
    /// Senders are known by certificate.
    client_ca: bool,
    limiter: Limiter,
    hash_key: [u8; 32],
    senders: Senders,
    meters: Arc<Meters>,
    pub(crate) journal: Journal,
}

impl Door {
    /// The door of a hub with these settings.
    ///
    /// # Errors
    /// What is wrong with the token file, or that the hub would be open to others.
    pub(crate) fn new(
        settings: &Settings,
        env: Env,
        meters: Arc<Meters>,
        journal: Journal,
    ) -> Result<Door, String> {
        let tokens = TokenFile::of(&settings.data_dir).read()?;
        exposure::check(settings, !tokens.is_empty())?;
        Ok(Door {
            had_tokens: AtomicBool::new(!tokens.is_empty()),
            tokens: RwLock::new(Arc::new(tokens)),
            client_ca: settings.tls_client_ca.is_some(),
            limiter: Limiter::new(Arc::clone(&env.clock)),
            hash_key: hash_key(&env),
            senders: Senders::new(settings),
            env,
            meters,
            journal,
        })
    }

    /// A door that is open, and keeps no records: of a process that reads a data folder.
    pub(crate) fn open(env: Env, meters: Arc<Meters>) -> Door {
        Door {
            tokens: RwLock::default(),
            had_tokens: AtomicBool::new(false),
            client_ca: false,
            limiter: Limiter::new(Arc::clone(&env.clock)),
            hash_key: hash_key(&env),
            senders: Senders::new(&Settings::default()),
            journal: Journal::nowhere(env.clone(), Arc::clone(&meters)),
            env,
            meters,
        }
    }

    fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other tokens in the place of those there are, and notes what is different.
    pub(crate) fn replace_tokens(&self, new: Tokens) {
        let old = self.tokens();
        for token in new.list() {
            let what = format!("{} ({}), {}", token.name, token.id, token.roles);
            let before = old.get(&token.id);
            if before.is_none() {
                self.journal.note(notes::changed("token.created", ("token", &token.id), &what));
            }
            if token.revoked_us.is_some() && before.is_none_or(|before| before.revoked_us.is_none()) {
                self.journal.note(notes::changed("token.revoked", ("token", &token.id), &what));
            }
        }
        if !new.is_empty() {
            self.had_tokens.store(true, Ordering::Relaxed);
        }
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    /// Whether a port asks who comes.
    pub(crate) fn enforced(&self, port: Port) -> bool {
        self.had_tokens.load(Ordering::Relaxed) || port.takes_records() && self.client_ca
    }

    /// Who sends a request, if they may.
    pub(crate) fn admit(
        &self,
        endpoint: &Endpoint,
        port: Port,
        peer: Arc<Peer>,
        headers: &HeaderMap,
        asked: &Asked,
    ) -> Result<Caller, Refused> {
        let caller = match self.caller(port, &peer, headers) {
            Ok(caller) => caller,
            // What everybody may see nobody is turned away from.
            Err(_) if endpoint.needs.is_empty() => Caller::without_token(peer, Roles::NONE),
            Err(Unknown { reason, token }) => {
                return Err(self.reject(reason, token.as_deref(), &peer, headers, asked));
            }
        };
        if endpoint.allows(caller.roles) {
            self.meters.door.admitted.add(1);
            return Ok(caller);
        }
        let needs: Vec<&str> = endpoint.needs.iter().map(|role| role.name()).collect();
        let needs = needs.join(" or ");
        self.meters.door.denied.add(1);
        let resource = ("endpoint", endpoint.path);
        let reason = reason::authz::MISSING_SCOPE;
        self.journal.note(notes::denied(reason, &caller, asked, 403, &needs, resource, outcome::DENIED));
        Err(Refused::Forbidden(format!("this needs the role {needs}; {} has {}", caller.who(), caller.roles)))
    }

    fn caller(&self, port: Port, peer: &Arc<Peer>, headers: &HeaderMap) -> Result<Caller, Unknown> {
        if !self.enforced(port) {
            return Ok(Caller::without_token(Arc::clone(peer), Roles::ALL));
        }
        let by_certificate = match &peer.certificate {
            Some(_) if port.takes_records() => Roles::NONE.with(Role::Ingest),
            _ => Roles::NONE,
        };
        let unknown = |reason| Unknown { reason, token: None };
        let Some(text) = bearer(headers).map_err(unknown)? else {
            if by_certificate.is_empty() {
                return Err(unknown(reason::authn::MISSING));
            }
            return Ok(Caller::without_token(Arc::clone(peer), by_certificate));
        };
        match self.tokens().check(text, self.env.clock.now_us()) {
            Ok(token) => {
                let roles = token.roles.and(by_certificate);
                Ok(Caller { peer: Arc::clone(peer), token: Some(token), roles })
            }
            Err(TokenFault::Malformed) => Err(unknown(reason::authn::MALFORMED)),
            Err(TokenFault::Unknown) => Err(unknown(reason::authn::UNKNOWN_KEY)),
            Err(TokenFault::WrongSecret) => Err(unknown(reason::authn::BAD_CREDENTIALS)),
            Err(TokenFault::Expired(token)) => {
                Err(Unknown { reason: reason::authn::EXPIRED, token: Some(token) })
            }
            Err(TokenFault::Revoked(token)) => {
                Err(Unknown { reason: reason::authn::REVOKED, token: Some(token) })
            }
        }
    }

    /// A keyed hash of what was shown as a token, to tell tokens apart that are not known.
    fn hash_of(&self, headers: &HeaderMap) -> Option<String> {
        let shown = headers.get(AUTHORIZATION)?.as_bytes();
        let hash = Sha256::new().chain_update(self.hash_key).chain_update(shown).finalize();
        Some(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    fn reject(
        &self,
        reason: &'static str,
        token: Option<&Token>,
        peer: &Peer,
        headers: &HeaderMap,
        asked: &Asked,
    ) -> Refused {
        let locked = self.limiter.failed(peer.address.ip());
        let refused = match locked {
            Some(retry_after) => Refused::Locked {
                detail: "too many requests without a good token from this address: come again later".to_owned(),
                retry_after,
            },
            None => Refused::Unauthenticated(match reason {
                reason::authn::MISSING => {
                    "this needs a token: send `Authorization: Bearer tl_…`; `threadline token create` makes one"
                        .to_owned()
                }
                reason::authn::EXPIRED => "the token has expired".to_owned(),
                reason::authn::REVOKED => "the token was revoked".to_owned(),
                // Not which of them: that would help to guess.
                _ => "the token is none that this hub knows".to_owned(),
            }),
        };
        let reason = if locked.is_some() { reason::authn::LOCKED } else { reason };
        if let Some(counter) = self.meters.door.rejected(reason) {
            counter.add(1);
        }
        let status = refused.http_status().as_u16();
        let (id, hash) = (token.map(|token| token.id.as_str()), self.hash_of(headers));
        self.journal.note(notes::rejected(reason, peer, asked, status, id, hash));
        refused
    }

    /// What is known of a caller who sends records.
    pub(crate) fn sender(&self, caller: &Caller) -> Sender {
        self.senders.sender(caller)
    }

    /// Notes that a caller has sent records of services that it may not write as.
    pub(crate) fn misnamed(&self, caller: &Caller, asked: &Asked, services: &[String]) {
        self.meters.door.misnamed.add(services.len() as u64);
        for service in services {
            let resource = ("service", service.as_str());
            let outcome = if self.senders.refuses(service) { outcome::DENIED } else { outcome::SUCCESS };
            let reason = reason::authz::NO_PERMISSION;
            self.journal.note(notes::denied(reason, caller, asked, 200, "write_as", resource, outcome));
        }
    }

    /// Notes a request for what there is not.
    pub(crate) fn unknown(&self, reason: &'static str, peer: &Peer, asked: &Asked, status: u16) {
        self.journal.note(notes::endpoint_unknown(reason, peer, asked, status));
    }
}

/// Why it is not known who sends a request; the token is one whose secret is right.
struct Unknown {
    reason: &'static str,
    token: Option<Arc<Token>>,
}

fn hash_key(env: &Env) -> [u8; 32] {
    let mut key = [0; 32];
    env.rng.fill(&mut key);
    key
}

/// The token that a request shows.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text =
        value.to_str().ok().filter(|text| text.len() <= AUTHORIZATION_BYTES_MAX && values.next().is_none());
    let (scheme, token) = text.and_then(|text| text.trim().split_once(' ')).ok_or(reason::authn::MALFORMED)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(reason::authn::MALFORMED);
    }
    Ok(Some(token.trim_start()))
}

/// The other end of the connection that a request came over; this process where there is none.
pub(crate) fn peer_of(extensions: &http::Extensions) -> Arc<Peer> {
    extensions.get::<Arc<Peer>>().cloned().unwrap_or_else(|| Arc::new(Peer::own()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_stands_after_bearer() {
        for (values, want) in [
            (&[][..], Ok(None)),
            (&["Bearer tl_x"][..], Ok(Some("tl_x"))),
            (&["bearer  tl_x"], Ok(Some("tl_x"))),
            (&["Basic dXNlcg=="], Err("malformed")),
            (&["tl_x"], Err("malformed")),
            (&[""], Err("malformed")),
            (&["Bearer a", "Bearer b"], Err("malformed")),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert_eq!(bearer(&headers), want, "{values:?}");
        }
        let long =
            HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {}", "x".repeat(600)).parse().unwrap())]);
        assert_eq!(bearer(&long), Err("malformed"));
    }
}
