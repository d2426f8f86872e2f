//! What a log record and a span are, and how they are decoded, held and put back together.
//!
//! Vocabulary:
//! - *view*: a decoded record that still borrows the request's bytes ([`record::LogView`], [`record::SpanView`]);
//! - *batch*: an Arrow record batch with the columns of a table ([`schema`]), the one in-memory form;
//! - *layout*: which attribute keys own a column ([`schema::Layout`]);
//! - *refusal*: why one record of a good request was not taken ([`record::Refusal`]).
//!
//! This crate is pure. It does not know files, sockets, the wall clock or randomness: those come in as
//! parameters ([`disk::Disk`], [`clock::Clock`], [`clock::Rng`]). It does not know HTTP, gRPC or DataFusion.

pub mod builder;
pub mod clock;
pub mod columns;
pub mod disk;
pub mod id;
pub mod inspect;
pub mod jsonl;
pub mod otlp;
pub mod record;
pub mod schema;
pub mod sender;
pub mod trace;
pub mod value;
pub mod yaml;
