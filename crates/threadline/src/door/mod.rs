//! The hub's own door: who may come in, and the record of who was not let in and of who asked for what.
//!
//! Vocabulary:
//! - *peer*: the other end of a connection; *caller*: who sends a request, by token or certificate or not at all;
//! - *role*: what a caller may do; *endpoint*: a method of a path of a port, with the roles that it asks for;
//! - *enforced*: a port asks who comes. It does as soon as there is a token (or, where records come in, a client CA);
//!   before that it takes everybody, which is why such a hub does not listen beyond its own machine ([`exposure`]);
//! - *session*: what stands for a token in a browser ([`sessions`]);
//! - *note*: something that becomes one of the hub's own records ([`journal`]).
//!
//! It does not know what requests say, or where records lie.

pub(crate) mod caller;
pub(crate) mod certificate;
mod exposure;
pub(crate) mod forwarded;
pub(crate) mod handshakes;
pub(crate) mod journal;
mod limiter;
pub(crate) mod meters;
pub(crate) mod names;
pub(crate) mod notes;
pub mod pattern;
pub mod roles;
mod senders;
pub(crate) mod sessions;
pub(crate) mod tls;
pub mod tokens;
mod uses;
pub(crate) mod watch;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use threadline_model::id::hex;
use threadline_model::sender::Sender;
use threadline_query::lang::Network;
use threadline_store::Env;

use self::caller::{Caller, Peer};
use self::forwarded::Forwarded;
use self::journal::Journal;
use self::limiter::Limiter;
use self::names::{method, outcome, reason};
use self::notes::{Asked, Shown};
use self::roles::{Endpoint, Port, Role, Roles};
use self::senders::Senders;
use self::sessions::Sessions;
use self::tokens::{Token, TokenFault, TokenFile, Tokens};
use self::uses::Uses;
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
    sessions: Sessions,
    uses: Uses,
    file: TokenFile,
    /// Held while files of the door are read or written.
    files: Mutex<()>,
    /// Who is believed when they say whom a request comes from.
    proxies: Vec<Network>,
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
        let file = TokenFile::of(&settings.data_dir);
        let tokens = file.read()?;
        exposure::check(settings, !tokens.is_empty())?;
        // Only lists show it.
        let used = file.read_uses().unwrap_or_else(|reason| {
            tracing::warn!("it is not known when tokens were used last: {reason}");
            Default::default()
        });
        Ok(Door {
            had_tokens: AtomicBool::new(!tokens.is_empty()),
            tokens: RwLock::new(Arc::new(tokens)),
            client_ca: settings.tls_client_ca.is_some(),
            limiter: Limiter::new(Arc::clone(&env.clock)),
            hash_key: hash_key(&env),
            senders: Senders::new(settings),
            sessions: sessions(settings, &env),
            uses: Uses::new(Arc::clone(&env.clock), used),
            file,
            files: Mutex::default(),
            proxies: settings.trusted_proxies.clone(),
            env,
            meters,
            journal,
        })
    }

    /// A door that is open, and keeps no records: of a process that reads a data folder.
    pub(crate) fn open(env: Env, meters: Arc<Meters>) -> Door {
        let settings = Settings::default();
        Door {
            tokens: RwLock::default(),
            had_tokens: AtomicBool::new(false),
            client_ca: false,
            limiter: Limiter::new(Arc::clone(&env.clock)),
            hash_key: hash_key(&env),
            senders: Senders::new(&settings),
            sessions: sessions(&settings, &env),
            uses: Uses::new(Arc::clone(&env.clock), Default::default()),
            file: TokenFile::of(&settings.data_dir),
            files: Mutex::default(),
            proxies: Vec::new(),
            journal: Journal::nowhere(env.clone(), Arc::clone(&meters)),
            env,
            meters,
        }
    }

    fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the token file again.
    ///
    /// # Errors
    /// When it cannot be read; the tokens stay as they are.
    pub(crate) fn reload_tokens(&self) -> Result<(), String> {
        // Whoever reads later replaces later: an older state never comes in the place of a newer one.
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace_tokens(self.file.read()?);
        Ok(())
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
            Err(unknown) => return Err(self.reject(&unknown, &peer, asked)),
        };
        self.note_use(&caller, asked);
        if endpoint.allows(caller.roles) {
            self.check_page(endpoint, &caller, headers, asked)?;
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
        let shown = headers.get(AUTHORIZATION).map(|value| self.hash_of(value.as_bytes()));
        let unknown = |reason, token| Unknown { reason, token, method: method::BEARER, hash: shown.clone() };
        let Some(text) = bearer(headers).map_err(|reason| unknown(reason, None))? else {
            // A browser sends its cookie of itself: it stands for a token where people look at records, nowhere else.
            if let (Port::Api, Some(cookie)) = (port, sessions::cookie(headers)) {
                return self.by_session(peer, cookie);
            }
            if by_certificate.is_empty() {
                return Err(unknown(reason::authn::MISSING, None));
            }
            return Ok(Caller::without_token(Arc::clone(peer), by_certificate));
        };
        let token = self.tokens().check(text, self.env.clock.now_us()).map_err(|fault| {
            let (reason, token) = reason_of(fault);
            unknown(reason, token)
        })?;
        let roles = token.roles.and(by_certificate);
        Ok(Caller { peer: Arc::clone(peer), token: Some(token), roles, session: None })
    }

    /// Who is known by the cookie of a session.
    fn by_session(&self, peer: &Arc<Peer>, cookie: Result<&str, ()>) -> Result<Caller, Unknown> {
        let hash = cookie.ok().map(|cookie| self.hash_of(cookie.as_bytes()));
        let unknown = |reason, token| Unknown { reason, token, method: method::SESSION, hash };
        let Ok(cookie) = cookie else { return Err(unknown(reason::authn::MALFORMED, None)) };
        let Some((session, token_id)) = self.sessions.find(cookie) else {
            // Idle, old, closed, of an earlier run of the hub, or never there: the cookie does not tell.
            return Err(unknown(reason::authn::EXPIRED, None));
        };
        match self.tokens().good(&token_id, self.env.clock.now_us()) {
            Ok(token) => {
                let roles = token.roles;
                Ok(Caller { peer: Arc::clone(peer), token: Some(token), roles, session: Some(session) })
            }
            Err(fault) => {
                self.sessions.close(session);
                let (reason, token) = reason_of(fault);
                Err(unknown(reason, token))
            }
        }
    }

    /// What changes something by a session's cookie comes from the hub's own page: no other can set this header.
    fn check_page(
        &self,
        endpoint: &Endpoint,
        caller: &Caller,
        headers: &HeaderMap,
        asked: &Asked,
    ) -> Result<(), Refused> {
        let changes = endpoint.method != "GET" && !endpoint.needs.is_empty();
        let named = headers.get(sessions::CSRF_HEADER).is_some_and(|value| value == "1");
        if caller.session.is_none() || !changes || named {
            return Ok(());
        }
        self.meters.door.denied.add(1);
        let (reason, resource) = (reason::authz::NO_PERMISSION, ("endpoint", endpoint.path));
        let action = "change_without_csrf_header";
        self.journal.note(notes::denied(reason, caller, asked, 403, action, resource, outcome::DENIED));
        Err(Refused::Forbidden(
            "this changes something, and came by a session's cookie: send the header `X-Threadline-CSRF: 1`"
                .to_owned(),
        ))
    }

    /// Opens a session for who shows a token: the cookie, and who it is.
    pub(crate) fn open_session(
        &self,
        text: &str,
        peer: Arc<Peer>,
        asked: &Asked,
    ) -> Result<(String, Caller), Refused> {
        let token = self.tokens().check(text, self.env.clock.now_us()).map_err(|fault| {
            let (reason, token) = reason_of(fault);
            let hash = Some(self.hash_of(text.as_bytes()));
            self.reject(&Unknown { reason, token, method: method::BEARER, hash }, &peer, asked)
        })?;
        let (cookie, session) = self.sessions.open(&token.id);
        let (roles, secure) = (token.roles, peer.is_secure());
        let caller = Caller { peer, token: Some(token), roles, session: Some(session) };
        self.note_use(&caller, asked);
        self.journal.note(notes::session("session.opened", &caller, asked));
        Ok((sessions::set_cookie(&cookie, self.sessions.age_max(), secure), caller))
    }

    /// Ends the session that a caller came by. Whether it came by one.
    pub(crate) fn close_session(&self, caller: &Caller, asked: &Asked) -> bool {
        let closed = caller.session.is_some_and(|session| self.sessions.close(session));
        if closed {
            self.journal.note(notes::session("session.closed", caller, asked));
        }
        closed
    }

    /// Whether who was let in would be let in still: the token is good, the session goes on, the port is still open.
    pub(crate) fn is_still_in(&self, caller: &Caller, port: Port) -> bool {
        let Some(token) = &caller.token else {
            return !self.enforced(port) || port.takes_records() && caller.peer.certificate.is_some();
        };
        self.tokens().good(&token.id, self.env.clock.now_us()).is_ok()
            && caller.session.is_none_or(|session| self.sessions.keep(session).is_some())
    }

    /// Notes that somebody who says who they are has come in, as often as that is wanted.
    fn note_use(&self, caller: &Caller, asked: &Asked) {
        let (Some(method), Peer { server_port, .. }) = (caller.method(), &*caller.peer) else { return };
        let token_id = caller.token.as_ref().map(|token| token.id.as_str());
        let certificate = || caller.peer.certificate.as_ref().map(|certificate| certificate.identity.as_str());
        let Some(who) = token_id.or_else(certificate) else { return };
        // By cookie and by header are two things; a token and a certificate are never of one name.
        let port = if method == method::SESSION { 0 } else { *server_port };
        if let Some(count) = self.uses.seen(who, token_id, caller.peer.client(), port) {
            self.journal.note(notes::authenticated(caller, asked, count));
        }
    }

    /// Writes down when tokens were used last, if that has changed.
    pub(crate) fn keep_uses(&self) {
        let _files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = self.tokens();
        if let Some(uses) = self.uses.changed(|id| tokens.get(id).is_some())
            && let Err(reason) = self.file.write_uses(uses)
        {
            tracing::warn!("it is not kept when tokens were used last: {reason}");
        }
    }

    /// The other end of the connection that a request came over, with what a trusted proxy says of it; this process where
    /// there is no connection.
    pub(crate) fn peer_of(&self, extensions: &http::Extensions, headers: &HeaderMap) -> Arc<Peer> {
        let Some(peer) = extensions.get::<Arc<Peer>>() else { return Arc::new(Peer::own()) };
        let forwarded = forwarded::forwarded(headers, &self.proxies, peer.address.ip());
        if forwarded == Forwarded::default() {
            return Arc::clone(peer);
        }
        Arc::new(Peer { forwarded, ..Peer::clone(peer) })
    }

    /// A keyed hash of what was shown as a token, to tell tokens apart that are not known.
    fn hash_of(&self, shown: &[u8]) -> String {
        let hash = Sha256::new().chain_update(self.hash_key).chain_update(shown).finalize();
        hex(hash.get(..8).unwrap_or(&hash))
    }

    fn reject(&self, unknown: &Unknown, peer: &Peer, asked: &Asked) -> Refused {
        let Unknown { reason, token, method, hash } = unknown;
        let (reason, method) = (*reason, *method);
        // Who shows no token, or a session that is over, has guessed nothing; those who wait out a bound still do.
        let guessed = reason != reason::authn::MISSING && method != method::SESSION;
        let locked =
            if guessed { self.limiter.failed(peer.client()) } else { self.limiter.locked(peer.client()) };
        let refused = match locked {
            Some(retry_after) => Refused::Locked {
                detail: "too many requests without a good token from this address: come again later".to_owned(),
                retry_after,
            },
            None => Refused::Unauthenticated(match reason {
                _ if method == method::SESSION => "the session is over: show the token again".to_owned(),
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
        let token_id = token.as_ref().map(|token| token.id.as_str());
        let shown = Shown { method, token_id, hash: hash.clone() };
        self.journal.note(notes::rejected(reason, peer, asked, status, shown));
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
    /// How they wanted to say it, and a keyed hash of what they showed.
    method: &'static str,
    hash: Option<String>,
}

/// What records call it, and the token where its secret is right.
fn reason_of(fault: TokenFault) -> (&'static str, Option<Arc<Token>>) {
    match fault {
        TokenFault::Malformed => (reason::authn::MALFORMED, None),
        TokenFault::Unknown => (reason::authn::UNKNOWN_KEY, None),
        TokenFault::WrongSecret => (reason::authn::BAD_CREDENTIALS, None),
        TokenFault::Expired(token) => (reason::authn::EXPIRED, Some(token)),
        TokenFault::Revoked(token) => (reason::authn::REVOKED, Some(token)),
    }
}

fn sessions(settings: &Settings, env: &Env) -> Sessions {
    let (clock, rng) = (Arc::clone(&env.clock), Arc::clone(&env.rng));
    Sessions::new(clock, rng, settings.session_idle, settings.session_max)
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
