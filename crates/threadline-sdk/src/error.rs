//! What can go wrong when telemetry is set up. Once it runs, nothing of it fails its service.

use std::fmt;

/// Why telemetry was not set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Settings are wrong; the text says which, and what to do.
    Settings(String),
    /// Something else is the program's global subscriber already.
    Taken,
    /// A thread or a file could not be had.
    System(String),
}

impl Error {
    pub(crate) fn settings(text: impl Into<String>) -> Error {
        Error::Settings(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Settings(text) => write!(f, "telemetry settings: {text}"),
            Error::Taken => {
                f.write_str("`tracing` has a global subscriber already: call threadline_sdk::init once, before others set theirs")
            }
            Error::System(text) => write!(f, "telemetry: {text}"),
        }
    }
}

impl std::error::Error for Error {}
