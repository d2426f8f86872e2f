//! Requests to targets, and what they answer.
//!
//! Redirects are not followed and proxies of the environment are not used: both would lead elsewhere than what was
//! checked. What is said of a failure has no address and no header, which may hold secrets; a target that says again what it
//! was told is not told further with them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;

use super::guard::{Allow, GuardedResolver, Refused};
use super::secret::Hidden;
use super::text::{cut, one_line};

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 8 << 10;
/// Characters of it that are told.
const SAID_CHARS_MAX: usize = 400;
/// The longest time that a target may ask for; it is asked again then.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// A request: always a POST of text, JSON as a rule.
#[derive(Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) url: String,
    pub(crate) content_type: &'static str,
    /// Further headers; they may hold secrets.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a request of {} bytes", self.body.len())
    }
}

impl Call {
    /// A POST of JSON.
    pub(crate) fn json(url: impl Into<String>, body: &serde_json::Value) -> Call {
        Call {
            url: url.into(),
            content_type: "application/json; charset=utf-8",
            headers: Vec::new(),
            body: body.to_string(),
        }
    }

    /// The same with a header.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// The target has it.
    Taken { said: String },
    /// It may take it later, after so long at least. `whole`: it takes nothing now, not only not this one.
    Later { whole: bool, retry_after: Option<Duration>, said: String },
    /// It does not know us, or not yet: credentials or address are wrong.
    Denied { said: String },
    /// It will never take this one.
    Refused { said: String },
    /// It is gone for good.
    Gone { said: String },
}

impl Answer {
    /// What the target said, for people.
    pub(crate) fn said(&self) -> &str {
        match self {
            Answer::Taken { said }
            | Answer::Later { said, .. }
            | Answer::Denied { said }
            | Answer::Refused { said }
            | Answer::Gone { said } => said,
        }
    }
}

/// Sends requests of one receiver.
#[derive(Debug)]
pub(crate) struct Client(Agent);

impl Client {
    /// A client that trusts these authorities (PEM); those of the system where there are none.
    ///
    /// # Errors
    /// There are no authorities.
    pub(crate) fn new(allow: Allow, ca: Option<&[u8]>, timeout: Duration) -> Result<Client, String> {
        let tls = TlsConfig::builder().root_certs(roots(ca)?).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("threadline/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(timeout))
            .tls_config(tls)
            .build();
        Ok(Client(Agent::with_parts(config, DefaultConnector::default(), GuardedResolver::new(allow))))
    }

    /// Sends a request.
    pub(crate) fn send(&self, call: &Call, hidden: &Hidden, now_us: i64) -> Answer {
        let mut request = self.0.post(&call.url).header("content-type", call.content_type);
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let mut response = match request.send(call.body.as_str()) {
            Ok(response) => response,
            Err(error) => return failure(error),
        };
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| retry_after_of(text, now_us));
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string();
        answer(status, retry_after, &hidden.hide(&body.unwrap_or_default()))
    }
}

fn roots(ca: Option<&[u8]>) -> Result<RootCerts, String> {
    static SYSTEM: OnceLock<Arc<Vec<Certificate<'static>>>> = OnceLock::new();
    let Some(pem) = ca else {
        let system = SYSTEM.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            Arc::new(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
        });
        return Ok(RootCerts::Specific(Arc::clone(system)));
    };
    let certificates: Vec<Certificate<'static>> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err("it has no certificate: it must be PEM".to_owned());
    }
    Ok(RootCerts::from(certificates))
}

/// What a failure without an answer means. Only what is known to hold no secret is told.
fn failure(error: ureq::Error) -> Answer {
    let later = |said: String| Answer::Later { whole: true, retry_after: None, said };
    match error {
        ureq::Error::Other(other) if other.is::<Refused>() => Answer::Denied { said: other.to_string() },
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            Answer::Denied { said: "its address is no URL, or a header is none".to_owned() }
        }
        ureq::Error::Timeout(what) => later(format!("no answer in time ({what})")),
        ureq::Error::HostNotFound => later("its name cannot be resolved".to_owned()),
        ureq::Error::ConnectionFailed => later("it cannot be connected to".to_owned()),
        ureq::Error::Io(error) => later(format!("the connection failed: {error}")),
        ureq::Error::Rustls(error) => later(format!("TLS failed: {error}")),
        ureq::Error::Tls(what) => later(format!("TLS failed: {what}")),
        _ => later("the request failed".to_owned()),
    }
}

/// What a status means, for all targets alike.
pub(crate) fn answer(status: u16, retry_after: Option<Duration>, body: &str) -> Answer {
    let body = one_line(body.trim());
    let said = match cut(&body, SAID_CHARS_MAX) {
        body if body.is_empty() => format!("HTTP {status}"),
        body => format!("HTTP {status}: {body}"),
    };
    match status {
        200..=299 => Answer::Taken { said },
        300..=399 => {
            Answer::Denied { said: format!("{said} (redirects are not followed: set where it leads)") }
        }
        401 | 403 | 404 | 407 => Answer::Denied { said },
        410 => Answer::Gone { said },
        408 | 421 | 425 | 429 | 502..=504 => Answer::Later { whole: true, retry_after, said },
        400..=499 => Answer::Refused { said },
        // It may be this one that the target cannot digest.
        _ => Answer::Later { whole: retry_after.is_some(), retry_after, said },
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after_of(text: &str, now_us: i64) -> Option<Duration> {
    let text = text.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(&text.replace("GMT", "+0000")).ok()?;
            let us = date.timestamp().as_microsecond().saturating_sub(now_us);
            Duration::from_micros(u64::try_from(us).unwrap_or(0))
        }
    };
    Some(after.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_retry_after() {
        let now_us = 1_790_000_000_000_000;
        for (text, want) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("999999999", Some(24 * 3600)),
            ("Mon, 21 Sep 2026 14:13:35 GMT", Some(15)),
            ("Mon, 21 Sep 2020 14:13:35 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
        ] {
            assert_eq!(retry_after_of(text, now_us).map(|after| after.as_secs()), want, "{text}");
        }
        let after = Some(Duration::from_secs(3));
        assert!(matches!(answer(202, None, "ok"), Answer::Taken { .. }));
        assert!(matches!(answer(302, None, ""), Answer::Denied { .. }));
        assert!(matches!(answer(401, None, ""), Answer::Denied { .. }));
        assert!(matches!(answer(410, None, ""), Answer::Gone { .. }));
        assert!(matches!(answer(400, None, ""), Answer::Refused { .. }));
        assert!(matches!(answer(413, None, ""), Answer::Refused { .. }));
        assert_eq!(
            answer(429, after, "slow\ndown"),
            Answer::Later { whole: true, retry_after: after, said: "HTTP 429: slow down".to_owned() }
        );
        assert!(matches!(answer(503, after, ""), Answer::Later { whole: true, retry_after: Some(_), .. }));
        assert!(matches!(answer(500, None, ""), Answer::Later { whole: false, .. }));
        assert!(answer(500, None, &"x".repeat(9000)).said().len() < 500);
    }
}
