//! Who sends the records of a request, and as which services they may write. Decoders know nothing of it: the
//! [builder](crate::builder) asks once per resource.

use std::fmt;
use std::sync::Arc;

/// Key of the resource attribute that names the sender. What a sender itself says under this key is dropped.
pub const SENDER_KEY: &str = "threadline.sender";

/// Services that a builder remembers for [`BatchBuilder::misnamed`](crate::builder::BatchBuilder::misnamed).
pub const MISNAMED_MAX: usize = 8;

/// Whether a sender may write as a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Allowed,
    /// It may not; its records are kept and marked ([`verdict::SENDER_MISMATCH`](crate::schema::verdict)).
    Flagged,
    /// It may not, and its records are refused: why, and what to do.
    Refused(String),
}

/// Who sends.
#[derive(Clone)]
pub struct Sender {
    /// Its name, kept with its records; `None` when it is not known.
    pub name: Option<Arc<str>>,
    /// Whether it may write as the service of this name.
    pub judge: Arc<dyn Fn(&str) -> Standing + Send + Sync>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("name", &self.name).finish_non_exhaustive()
    }
}
