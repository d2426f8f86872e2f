//! OTLP 1.11 decoding: export requests of logs and traces, protobuf or JSON, straight into a
//! [`BatchBuilder`](crate::builder::BatchBuilder); data points of metrics are only counted. And the few bytes of
//! the replies. It does not know HTTP, gRPC or compression: bytes come in whole and decompressed.
//!
//! Vocabulary:
//! - *malformed*: the request cannot be read as a whole (broken framing or syntax); nothing of it may be kept;
//! - *refused*: one record is not taken, the rest is (invalid UTF-8 in it, an id of a wrong length, a cap);
//! - *fault*: either of the two on its way up;
//! - *piece*: one occurrence of an embedded message; several occurrences of one field read as one message.
//!
//! What is accepted, refused and capped: docs/formats.md, "OTLP".

mod fault;
mod json;
mod parts;
mod proto;
mod reader;
mod response;
mod scratch;
mod wire;

use std::fmt;

use crate::builder::BatchBuilder;
use crate::inspect::Inspector;
use crate::record::Refusal;

pub(crate) use reader::{code_point, number_len};
pub use response::{Signal, Status, encode_response, encode_status};

/// How deep arrays and maps may lie in one another in a value.
pub const VALUE_DEPTH_MAX: usize = 64;
/// How many refusals of a request are kept with their reasons; the rest are counted.
pub const REFUSALS_KEPT_MAX: usize = 32;

/// Encoding of a request and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Binary protobuf (`application/x-protobuf`, gRPC).
    Protobuf,
    /// OTLP/JSON (`application/json`).
    Json,
}

/// Why a request cannot be read. For HTTP 400 and gRPC `INVALID_ARGUMENT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field, as a path in the names of the request's format; empty for the request itself.
    pub field: String,
    /// Byte offset in the request.
    pub at: usize,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "request" } else { &self.field };
        write!(f, "{field} (byte {}): {}", self.at, self.reason)
    }
}

impl std::error::Error for Malformed {}

/// What became of a request's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Records now in the builder.
    pub accepted: usize,
    /// Records not taken.
    pub refused: usize,
    /// The first [`REFUSALS_KEPT_MAX`] refusals.
    pub refusals: Vec<Refusal>,
}

impl Decoded {
    /// One line for a partial-success reply; empty when every record was taken.
    pub fn message(&self) -> String {
        let shown = 3;
        let mut out = String::new();
        for refusal in self.refusals.iter().take(shown) {
            if !out.is_empty() {
                out.push_str("; ");
            }
            out.push_str(&refusal.to_string());
        }
        if self.refused > shown {
            out.push_str(&format!("; and {} more", self.refused - shown));
        }
        out
    }

    /// Counts a refusal; `describe` gives its field and reason if they are kept.
    fn refuse(&mut self, describe: impl FnOnce() -> (String, String)) {
        if self.refusals.len() < REFUSALS_KEPT_MAX {
            let (field, reason) = describe();
            self.refusals.push(Refusal { record: self.accepted + self.refused, field, reason });
        }
        self.refused += 1;
    }
}

/// Where in a request a decoder is: names and indices of resource, scope and record.
#[derive(Clone, Copy)]
struct Place {
    names: [&'static str; 3],
    index: [usize; 3],
}

impl Place {
    /// The path of a field `below` the first `levels` of the three.
    fn path(&self, levels: usize, below: &str) -> String {
        let mut path = String::new();
        for (name, index) in self.names.iter().zip(self.index).take(levels) {
            path.push_str(&format!("{name}[{index}]."));
        }
        path.push_str(below);
        path.truncate(path.trim_end_matches('.').len());
        path
    }
}

/// Decodes an `ExportLogsServiceRequest` into `builder`, which must be one for logs. Every record goes
/// through `inspector`.
///
/// # Errors
/// [`Malformed`]; the builder may then hold some of the records and must be dropped.
pub fn decode_logs(
    format: Format,
    request: &[u8],
    builder: &mut BatchBuilder,
    inspector: &mut dyn Inspector,
) -> Result<Decoded, Malformed> {
    match format {
        Format::Protobuf => proto::logs(request, builder, inspector),
        Format::Json => json::logs(request, builder, inspector),
    }
}

/// Decodes an `ExportTraceServiceRequest` into `builder`, which must be one for spans. Every span goes
/// through `inspector`.
///
/// # Errors
/// [`Malformed`]; the builder may then hold some of the spans and must be dropped.
pub fn decode_traces(
    format: Format,
    request: &[u8],
    builder: &mut BatchBuilder,
    inspector: &mut dyn Inspector,
) -> Result<Decoded, Malformed> {
    match format {
        Format::Protobuf => proto::traces(request, builder, inspector),
        Format::Json => json::traces(request, builder, inspector),
    }
}

/// Counts the data points of an `ExportMetricsServiceRequest`, for a reply that rejects them all.
///
/// # Errors
/// [`Malformed`].
pub fn count_data_points(format: Format, request: &[u8]) -> Result<u64, Malformed> {
    match format {
        Format::Protobuf => proto::data_points(request),
        Format::Json => json::data_points(request),
    }
}

const MISSING_ID: &str = "a span needs this id, and not all zeros: send it";
