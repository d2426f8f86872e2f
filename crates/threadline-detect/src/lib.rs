//! Detection: `(records, now) -> findings`.
//!
//! This crate is pure and synchronous. It does not know files, the clock, HTTP, the store or queries: what happened
//! comes in with its time, state goes out and in as bytes.

pub mod baseline;
pub mod checkpoint;
pub mod incident;
