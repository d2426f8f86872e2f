//! Sessions of browsers: who has shown a token once is known by a cookie from then on, so that no script of a page ever
//! holds the token.
//!
//! Vocabulary:
//! - *cookie*: 256 random bits in base64url, which the browser keeps out of scripts' reach (`HttpOnly`) and sends to no
//!   other site's pages (`SameSite=Strict`);
//! - *key*: the SHA-256 of the cookie, by which the hub finds the session: who reads the hub's memory has no cookie.
//!
//! A session lives in memory and ends with the hub. It is bound to a token, and is worth what the token is worth at the
//! moment that it is used; the door looks at both. This module does not know tokens but by their id, nor requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::COOKIE;
use sha2::{Digest as _, Sha256};
use threadline_model::clock::{Clock, Rng};

/// Name of the cookie.
pub(crate) const COOKIE_NAME: &str = "threadline_session";
/// A header that only scripts of the hub's own page can set: requests that change something need it.
pub(crate) const CSRF_HEADER: &str = "x-threadline-csrf";
/// Sessions at once; when there are more, the one that was idle for the longest ends.
const SESSIONS_MAX: usize = 4096;
/// Sessions of one token, so that one who has one cannot end all others'.
const SESSIONS_PER_TOKEN_MAX: usize = 64;
const COOKIE_BYTES: usize = 32;
const COOKIE_CHARS: usize = 43;

/// By what a session is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// An open session.
struct Session {
    token_id: String,
    opened: Duration,
    used: Duration,
}

/// All sessions.
pub(crate) struct Sessions {
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    idle_max: Duration,
    age_max: Duration,
    open: Mutex<HashMap<Key, Session>>,
}

impl Sessions {
    /// No session yet. One ends when it was not used for `idle_max`, and in any case after `age_max`.
    pub(crate) fn new(clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, idle_max: Duration, age_max: Duration) -> Self {
        Self { clock, rng, idle_max, age_max, open: Mutex::default() }
    }

    /// How long one lasts at most.
    pub(crate) fn age_max(&self) -> Duration {
        self.age_max
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, session: &Session, now: Duration) -> bool {
        now.saturating_sub(session.used) >= self.idle_max || now.saturating_sub(session.opened) >= self.age_max
    }

    /// Opens a session of a token; its cookie and its key.
    pub(crate) fn open(&self, token_id: &str) -> (String, Key) {
        let mut bytes = [0; COOKIE_BYTES];
        self.rng.fill(&mut bytes);
        let cookie = URL_SAFE_NO_PAD.encode(bytes);
        let (key, now) = (key_of(&cookie), self.clock.monotonic());
        let mut open = self.locked();
        open.retain(|_, session| !self.is_over(session, now));
        let own = open.values().filter(|session| session.token_id == token_id).count();
        if own >= SESSIONS_PER_TOKEN_MAX || open.len() >= SESSIONS_MAX {
            let may_go = |session: &Session| own < SESSIONS_PER_TOKEN_MAX || session.token_id == token_id;
            let longest = open.iter().filter(|(_, session)| may_go(session)).min_by_key(|(_, s)| s.used);
            if let Some(longest) = longest.map(|(key, _)| *key) {
                open.remove(&longest);
            }
        }
        open.insert(key, Session { token_id: token_id.to_owned(), opened: now, used: now });
        (cookie, key)
    }

    /// The session of a cookie and the id of its token, if it goes on; it counts as used now.
    pub(crate) fn find(&self, cookie: &str) -> Option<(Key, String)> {
        let key = key_of(cookie);
        self.keep(key).map(|token_id| (key, token_id))
    }

    /// Whether a session goes on, for somebody who is still at it.
    pub(crate) fn keep(&self, key: Key) -> Option<String> {
        let now = self.clock.monotonic();
        let mut open = self.locked();
        let session = open.get_mut(&key)?;
        if self.is_over(session, now) {
            open.remove(&key);
            return None;
        }
        session.used = now;
        Some(session.token_id.clone())
    }

    /// Ends a session. Whether there was one.
    pub(crate) fn close(&self, key: Key) -> bool {
        self.locked().remove(&key).is_some()
    }
}

fn key_of(cookie: &str) -> Key {
    Key(Sha256::digest(cookie.as_bytes()).into())
}

/// The session's cookie of a request, if there is one; `Err` when it does not look like one.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<Result<&str, ()>> {
    let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let value = pairs.flat_map(|pairs| pairs.split(';')).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == COOKIE_NAME).then(|| value.trim())
    })?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    Some(if value.len() == COOKIE_CHARS && value.bytes().all(fits) { Ok(value) } else { Err(()) })
}

/// `Set-Cookie` for a session that begins; `secure` where the browser speaks TLS.
pub(crate) fn set_cookie(cookie: &str, age_max: Duration, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!(
        "{COOKIE_NAME}={cookie}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}",
        age_max.as_secs().max(1)
    )
}

/// `Set-Cookie` for one that has ended.
pub(crate) fn clear_cookie() -> String {
    format!("{COOKIE_NAME}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use http::HeaderValue;
    use threadline_store::Env;

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_us(&self) -> i64 {
            0
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    fn sessions(hand: &Arc<Hand>) -> Sessions {
        let (clock, rng) = (Arc::clone(hand) as Arc<dyn Clock>, Env::local().rng);
        Sessions::new(clock, rng, Duration::from_secs(10), Duration::from_secs(25))
    }

    #[test]
    fn a_session_ends_when_idle_and_when_old() {
        let hand = Arc::new(Hand::default());
        let sessions = sessions(&hand);
        let (cookie, key) = sessions.open("a");
        let (other, _) = sessions.open("b");
        assert_eq!(cookie.len(), COOKIE_CHARS);
        for now in [9, 18] {
            hand.0.store(now, Ordering::Relaxed);
            assert_eq!(sessions.find(&cookie), Some((key, "a".to_owned())));
        }
        assert_eq!(sessions.find(&other), None, "it was idle");
        hand.0.store(25, Ordering::Relaxed);
        assert_eq!(sessions.find(&cookie), None, "it was used, and is old");
        let (cookie, key) = sessions.open("a");
        assert!(sessions.close(key) && !sessions.close(key));
        assert_eq!(sessions.find(&cookie), None);
    }

    #[test]
    fn sessions_are_bounded_and_none_pushes_out_another_tokens() {
        let hand = Arc::new(Hand::default());
        let sessions = sessions(&hand);
        let (first, _) = sessions.open("other");
        let cookies: Vec<String> = (0..SESSIONS_PER_TOKEN_MAX + 3).map(|_| sessions.open("a").0).collect();
        let left = cookies.iter().filter(|cookie| sessions.find(cookie).is_some()).count();
        assert_eq!(left, SESSIONS_PER_TOKEN_MAX);
        assert!(sessions.find(&first).is_some());
        for n in 0..SESSIONS_MAX {
            sessions.open(&format!("t{n}"));
        }
        assert_eq!(sessions.locked().len(), SESSIONS_MAX);
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let good = "A".repeat(COOKIE_CHARS);
        for (values, want) in [
            (vec![], None),
            (vec!["a=b; c=d".to_owned()], None),
            (vec![format!("a=b; {COOKIE_NAME}={good}")], Some(Ok(good.as_str()))),
            (vec!["a=b".to_owned(), format!("{COOKIE_NAME}={good};x=y")], Some(Ok(good.as_str()))),
            (vec![format!("{COOKIE_NAME}=short")], Some(Err(()))),
            (vec![format!("x{COOKIE_NAME}={good}")], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(COOKIE, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(cookie(&headers), want, "{values:?}");
        }
    }
}
