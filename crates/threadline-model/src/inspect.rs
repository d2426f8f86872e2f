//! What stands between decoded records and columns: an [`Inspector`] sees every view, says what its `verdict` is, may
//! hand on another view in its place, and may refuse it.

use crate::builder::BatchBuilder;
use crate::record::{LogView, ResourceView, ScopeView, SpanView};

/// Why a record is refused: which field, and what is wrong.
pub type Refused = (&'static str, String);

/// Takes views to the builder. For every record the resource and the scope come first; they hold until others come.
pub trait Inspector {
    /// The resource of the records that follow.
    fn resource(&mut self, resource: &ResourceView<'_>, builder: &mut BatchBuilder);

    /// The scope of the records that follow.
    fn scope(&mut self, scope: &ScopeView<'_>, builder: &mut BatchBuilder);

    /// A log record.
    ///
    /// # Errors
    /// Why it is refused; the builder is then unchanged.
    fn log(&mut self, log: &LogView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused>;

    /// A span.
    ///
    /// # Errors
    /// Why it is refused; the builder is then unchanged.
    fn span(&mut self, span: &SpanView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused>;
}

/// Hands everything on as it is, without a verdict.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unchecked;

impl Inspector for Unchecked {
    #[inline]
    fn resource(&mut self, resource: &ResourceView<'_>, builder: &mut BatchBuilder) {
        builder.set_resource(resource);
    }

    #[inline]
    fn scope(&mut self, scope: &ScopeView<'_>, builder: &mut BatchBuilder) {
        builder.set_scope(scope);
    }

    #[inline]
    fn log(&mut self, log: &LogView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        builder.push_log(log, 0)
    }

    #[inline]
    fn span(&mut self, span: &SpanView<'_>, builder: &mut BatchBuilder) -> Result<(), Refused> {
        builder.push_span(span, 0)
    }
}
