//! What all OTLP targets check: every request gets an answer, and the answer's figures agree.

use std::sync::Arc;

use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::otlp::{Decoded, Malformed, REFUSALS_KEPT_MAX};
use threadline_model::schema::{Layout, Table};

pub(crate) fn check(
    table: Table,
    request: &[u8],
    decode: impl FnOnce(&[u8], &mut BatchBuilder) -> Result<Decoded, Malformed>,
) {
    let layout = Arc::new(Layout::base(table));
    let mut builder = BatchBuilder::new(layout, 1_700_000_000_000_000, RecordLimits::default());
    match decode(request, &mut builder) {
        Ok(decoded) => {
            assert_eq!(decoded.accepted, builder.rows());
            assert_eq!(decoded.refusals.len(), decoded.refused.min(REFUSALS_KEPT_MAX));
            let batch = builder.finish().expect("columns that fit together");
            assert_eq!(batch.map_or(0, |batch| batch.num_rows()), decoded.accepted);
        }
        Err(malformed) => {
            assert!(malformed.at <= request.len(), "{malformed}");
            assert!(!malformed.reason.is_empty());
        }
    }
}
