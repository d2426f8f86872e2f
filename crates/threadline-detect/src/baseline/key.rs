//! What a series is of.

use std::fmt;

use crate::checkpoint::{Reader, RestoreError, Writer};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Requests of a window.
    Requests,
    /// Failed of all requests.
    Errors,
    /// Rejected (authentication, authorisation, rate limit) of all requests.
    Rejections,
    /// 95th percentile of durations.
    Latency,
    /// Distinct paths that a source asked for: a scan.
    PathsPerSource,
    /// Distinct users that a source tried: password spraying.
    UsersPerSource,
    /// Distinct sources that a user came from: a shared or stolen account.
    SourcesPerUser,
    /// A value of the caller's own.
    Value,
}

impl Signal {
    /// All, in order.
    pub const ALL: [Signal; 8] = [
        Signal::Requests,
        Signal::Errors,
        Signal::Rejections,
        Signal::Latency,
        Signal::PathsPerSource,
        Signal::UsersPerSource,
        Signal::SourcesPerUser,
        Signal::Value,
    ];

    /// Name in records.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Requests => "requests",
            Signal::Errors => "errors",
            Signal::Rejections => "rejections",
            Signal::Latency => "latency",
            Signal::PathsPerSource => "paths_per_source",
            Signal::UsersPerSource => "users_per_source",
            Signal::SourcesPerUser => "sources_per_user",
            Signal::Value => "value",
        }
    }

    /// The signal of a name.
    pub fn of_name(name: &str) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.name() == name)
    }
}

/// A series: what is measured, of what. Empty texts mean: of all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// What is measured.
    pub signal: Signal,
    /// `service.name`.
    pub service: Box<str>,
    /// Route, or name of the operation.
    pub operation: Box<str>,
    /// Service that calls.
    pub caller: Box<str>,
    /// Source address, or another entity that rates are kept of.
    pub source: Box<str>,
}

impl SeriesKey {
    /// Longest text of a key, bytes.
    pub const TEXT_MAX: usize = 512;

    /// A whole service.
    pub fn of(signal: Signal, service: &str) -> SeriesKey {
        let none = || Box::from("");
        SeriesKey { signal, service: service.into(), operation: none(), caller: none(), source: none() }
    }

    /// One operation of it.
    #[must_use]
    pub fn operation(mut self, operation: &str) -> SeriesKey {
        self.operation = operation.into();
        self
    }

    /// As called by one service.
    #[must_use]
    pub fn caller(mut self, caller: &str) -> SeriesKey {
        self.caller = caller.into();
        self
    }

    /// From one source.
    #[must_use]
    pub fn source(mut self, source: &str) -> SeriesKey {
        self.source = source.into();
        self
    }

    fn texts(&self) -> [&str; 4] {
        [&self.service, &self.operation, &self.caller, &self.source]
    }

    pub(super) fn fits(&self) -> bool {
        self.texts().iter().all(|text| text.len() <= SeriesKey::TEXT_MAX)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(Signal::ALL.iter().position(|signal| *signal == self.signal).unwrap_or(0) as u8);
        self.texts().iter().for_each(|text| out.text(text));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<SeriesKey, RestoreError> {
        let signal = usize::from(from.u8()?);
        let signal = *Signal::ALL.get(signal).ok_or(RestoreError::Damaged("a signal is not known"))?;
        Ok(SeriesKey {
            signal,
            service: from.text()?,
            operation: from.text()?,
            caller: from.text()?,
            source: from.text()?,
        })
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", if self.service.is_empty() { "all services" } else { &self.service })?;
        if !self.operation.is_empty() {
            write!(f, " {}", self.operation)?;
        }
        if !self.caller.is_empty() {
            write!(f, ", called by {}", self.caller)?;
        }
        if !self.source.is_empty() {
            write!(f, ", from {}", self.source)?;
        }
        Ok(())
    }
}
