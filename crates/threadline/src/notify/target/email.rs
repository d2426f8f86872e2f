//! E-mail: a message of plain text. Messages of an incident are a thread, and the key of each is its `Message-ID`.

use std::path::PathBuf;

use super::Telling;
use crate::notify::secret::Secret;
use crate::notify::text::{cut, cut_bytes, one_line};

/// Characters of a subject; a line of a header has 998 at most.
const SUBJECT_CHARS_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 32 << 10;

/// How the connection to the mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// It begins plain and goes over to TLS, or ends.
    StartTls,
    /// TLS from the beginning.
    Implicit,
    /// Not at all.
    None,
}

/// Where mail goes, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mailing {
    /// Mail server.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Protection,
    /// Authorities of its certificate, PEM; those of the system where there is none.
    pub(crate) ca: Option<PathBuf>,
    /// Name and password.
    pub(crate) login: Option<(String, Secret)>,
    /// Addresses, with a name or without: `Hub <hub@example.com>`.
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
}

impl Mailing {
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some((_, password)) = &self.login {
            password.read()?;
        }
        if let Some(ca) = &self.ca {
            std::fs::metadata(ca).map_err(|error| format!("cannot read {}: {error}", ca.display()))?;
        }
        Ok(())
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mail {
    pub(crate) mailing: Mailing,
    pub(crate) subject: String,
    pub(crate) text: String,
    /// `Message-ID`, with its angle brackets.
    pub(crate) id: String,
    /// The first message of the incident, when this is a later one.
    pub(crate) thread: Option<String>,
    /// Key of the incident.
    pub(crate) key: String,
    /// Date, seconds since the Unix epoch.
    pub(crate) date_s: u64,
}

pub(super) fn mail(mailing: &Mailing, told: &Telling<'_>) -> Mail {
    let key = told.key();
    let domain = mailing.from.trim_end_matches('>').rsplit('@').next().unwrap_or("localhost");
    let id = |number: u32| format!("<{key}-{number}@{domain}>");
    let title = one_line(&told.title);
    let text = cut_bytes(&told.text, TEXT_BYTES_MAX);
    Mail {
        mailing: mailing.clone(),
        subject: cut(if title.trim().is_empty() { "Incident" } else { &title }, SUBJECT_CHARS_MAX),
        text: format!(
            "{text}\n\n-- \nThreadline {}, message {} of {key}\n",
            told.notice.hub, told.notice.number
        ),
        id: id(told.notice.number),
        thread: (told.notice.number > 1).then(|| id(1)),
        key,
        date_s: u64::try_from(told.notice.at_us.div_euclid(1_000_000)).unwrap_or(0),
    }
}
