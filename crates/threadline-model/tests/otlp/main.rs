//! OTLP decoding from outside: golden corpus, and random requests against the generated protobuf types.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod corpus;
mod oracle;

use std::sync::Arc;

use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::schema::{Layout, Table};

/// Time of receipt, µs: 2023-11-14T22:13:20Z.
const ARRIVAL_US: i64 = 1_700_000_000_000_000;

fn builder(table: Table) -> BatchBuilder {
    BatchBuilder::new(Arc::new(Layout::base(table)), ARRIVAL_US, RecordLimits::default())
}
