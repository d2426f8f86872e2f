//! What bounds a query, and the few kinds of errors a query ends with.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use threadline_store::StoreError;

/// Bounds of one query. Checked between batches.
#[derive(Clone, Debug)]
pub struct Guard {
    /// When the query must have ended; `None` = no bound.
    pub deadline: Option<Instant>,
    /// Set from outside to end the query.
    pub cancelled: Arc<AtomicBool>,
    /// Bytes the query may hold (sort buffers, groups, SQL).
    pub memory_bytes_max: usize,
}

impl Default for Guard {
    fn default() -> Self {
        Self { deadline: None, cancelled: Arc::default(), memory_bytes_max: 256 << 20 }
    }
}

impl Guard {
    /// An error when the query must end now.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(QueryError::Cancelled);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }
}

/// Why a query gave no (full) answer.
#[derive(Debug)]
pub enum QueryError {
    /// The request makes no sense; for people: what and how to put it right.
    Invalid(String),
    /// The deadline passed: narrow the time range or the query.
    Timeout,
    /// Cancelled from outside.
    Cancelled,
    /// The memory bound was hit; for people: which.
    TooExpensive(String),
    /// The store failed.
    Store(StoreError),
    /// A bug here, with its detail.
    Internal(String),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueryError::Invalid(detail) | QueryError::TooExpensive(detail) => f.write_str(detail),
            QueryError::Timeout => {
                f.write_str("the query took too long: narrow its time range or its conditions")
            }
            QueryError::Cancelled => f.write_str("the query was cancelled"),
            QueryError::Store(error) => error.fmt(f),
            QueryError::Internal(detail) => write!(f, "internal error: {detail}"),
        }
    }
}

impl std::error::Error for QueryError {}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        QueryError::Store(error)
    }
}

impl From<arrow_schema::ArrowError> for QueryError {
    fn from(error: arrow_schema::ArrowError) -> Self {
        QueryError::Internal(format!("columns: {error}"))
    }
}
