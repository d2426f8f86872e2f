//! What goes wrong while a request is read, on its way up to the record or the request it concerns.

use super::Malformed;

/// About how long a path may get. Keys and depth come from outside.
const PATH_BYTES_MAX: usize = 200;

/// A fault. Small to return; the fields are boxed because faults are rare.
#[derive(Debug)]
pub(super) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    whole: bool,
    path: String,
    at: usize,
    reason: String,
}

impl Fault {
    /// The request cannot be read.
    #[cold]
    pub(super) fn malformed(at: usize, reason: impl Into<String>) -> Self {
        Self(Box::new(Inner { whole: true, path: String::new(), at, reason: reason.into() }))
    }

    /// This record is not taken.
    #[cold]
    pub(super) fn refused(at: usize, reason: impl Into<String>) -> Self {
        Self(Box::new(Inner { whole: false, path: String::new(), at, reason: reason.into() }))
    }

    /// Whether it concerns the whole request.
    pub(super) fn is_whole(&self) -> bool {
        self.0.whole
    }

    /// The fault as seen from the message that holds `field`.
    #[cold]
    pub(super) fn within(mut self, field: &str) -> Self {
        let path = &mut self.0.path;
        let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        path.insert_str(0, dot);
        path.insert_str(0, field);
        // The outer end says the most.
        if let Some(end) = (PATH_BYTES_MAX..path.len()).find(|&at| path.is_char_boundary(at)) {
            path.truncate(end);
            path.push('…');
        }
        self
    }

    /// The fault as seen from the array whose element `index` it is in.
    #[cold]
    pub(super) fn at_index(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }

    /// The fault as seen from the message that holds the repeated `field`.
    #[cold]
    pub(super) fn within_item(self, field: &str, index: usize) -> Self {
        self.within(&format!("{field}[{index}]"))
    }

    /// Path and reason, for a refusal.
    pub(super) fn refusal(self) -> (String, String) {
        (self.0.path, self.0.reason)
    }

    /// The fault as the caller sees it. `base` is what offsets count from.
    pub(super) fn into_malformed(self, base: usize) -> Malformed {
        let Inner { path, at, reason, .. } = *self.0;
        Malformed { field: path, at: at.saturating_sub(base), reason }
    }
}

/// Keeps the first fault that concerns only the records below; passes on one that concerns the whole request.
pub(super) fn defer(first: &mut Option<Fault>, result: Result<(), Fault>) -> Result<(), Fault> {
    match result {
        Err(fault) if !fault.is_whole() => {
            first.get_or_insert(fault);
            Ok(())
        }
        other => other,
    }
}
