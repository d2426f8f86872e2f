//! Finding: the search language, SQL, traces, and the plans behind them.
//!
//! Vocabulary:
//! - *expression*: the parsed search ([`lang::Expr`]), the one tree that everything compiles from;
//! - *prune*: the conjunction of an expression that files, row groups and pages can be left out by
//!   ([`threadline_store::Prune`]);
//! - *guard*: what bounds a query: deadline, cancellation, memory.
//!
//! Every function takes a snapshot and a request and is pure otherwise. This crate is the only one that names
//! DataFusion. It does not know HTTP, the command line, how records are persisted, or wire JSON.

pub mod aggregate;
pub mod counts;
pub mod field;
pub mod guard;
pub mod lang;
pub mod matcher;
pub mod search;
pub mod source;
pub mod sql;
pub mod traces;

mod cores;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use guard::{Guard, QueryError};
