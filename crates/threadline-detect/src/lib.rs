//! Detection: `(records, now) -> findings`.
//!
//! Vocabulary:
//! - *rule*: a Sigma rule, correlation or filter ([`sigma`]), with what our `threadline:` block adds;
//! - *pipeline*: maps the names of a rule's log source to ours ([`pipeline`]), in pySigma's format;
//! - *test*: one field compared with one value; *atom*: a test that rules share ([`matcher`]);
//! - *hit*: a record that a rule matches; *anchor*: the record at which a correlation's window fulfils its condition;
//! - *finding*: what comes out ([`finding`]), with an id that is the same whenever the same records are read again.
//!
//! This crate is pure and synchronous. It does not know files, the clock, HTTP, the store or queries: records come
//! as Arrow batches with the columns of [`threadline_model::schema`], and state goes out and in as bytes.

pub mod baseline;
pub mod checkpoint;
pub mod engine;
pub mod finding;
pub mod incident;
pub mod matcher;
pub mod pipeline;
pub mod problem;
pub mod rules;
pub mod sigma;
pub mod testing;
mod text;
