//! Few public kinds of errors, each saying what the caller does about it.

use std::fmt;
use std::time::Duration;

/// Why an append was not acknowledged. Nothing of the batch is promised; sending it again is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// Memory, queue or disk is at its bound: send again after the pause.
    Busy {
        /// What is at its bound, for people.
        reason: String,
        /// Suggested pause.
        retry_after: Duration,
    },
    /// The batch can never be taken as it is.
    TooLarge {
        /// What is too large, for people.
        reason: String,
    },
    /// The disk failed or the store is closing: send again later, to this or another hub.
    Unavailable {
        /// What failed, for people.
        reason: String,
    },
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::Busy { reason, .. }
            | AppendError::TooLarge { reason }
            | AppendError::Unavailable { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for AppendError {}

/// Why the store could not do what was asked.
#[derive(Debug)]
pub enum StoreError {
    /// The disk failed: `path` and the cause.
    Io {
        /// What was being done, with the path.
        context: String,
        /// The cause.
        source: std::io::Error,
    },
    /// Bytes on disk are not what was written: restore the file, or remove it knowingly.
    Corrupt {
        /// What is wrong where.
        detail: String,
    },
    /// Another process has the data folder open.
    Locked {
        /// The folder.
        path: String,
    },
    /// The caller asked for something that does not exist or contradicts itself.
    Invalid {
        /// What is wrong and what to do.
        detail: String,
    },
}

impl StoreError {
    /// Wraps an I/O error with what was being done.
    pub fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        StoreError::Io { context: context.into(), source }
    }

    /// Bytes that are not what was written.
    pub fn corrupt(detail: impl Into<String>) -> Self {
        StoreError::Corrupt { detail: detail.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Io { context, source } => write!(f, "{context}: {source}"),
            StoreError::Corrupt { detail } | StoreError::Invalid { detail } => f.write_str(detail),
            StoreError::Locked { path } => write!(f, "{path} is in use by another process"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<arrow_schema::ArrowError> for StoreError {
    fn from(error: arrow_schema::ArrowError) -> Self {
        StoreError::corrupt(format!("columns: {error}"))
    }
}

impl From<parquet::errors::ParquetError> for StoreError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        StoreError::corrupt(format!("sealed file: {error}"))
    }
}
