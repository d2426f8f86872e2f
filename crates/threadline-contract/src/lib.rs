//! The contract: what every record is to look like, as data, and the check of records against it.
//!
//! Vocabulary:
//! - *registry*: attributes and events as they are written ([`registry`]);
//! - *contract*: a registry compiled for checking ([`Contract`]);
//! - *rule*: one way to break the contract, with an id and a bit of the `verdict` column ([`rules::Rule`]);
//! - *verdict*: the bits of all rules that a record breaks;
//! - *finding*: one broken rule in words, for people ([`Finding`]);
//! - *mask*: what stands where a secret was ([`secrets`]).
//!
//! This crate is pure. It knows no files (the base contract is built in), no clock, no HTTP and no store. Records come as
//! the model's views and go on as such, with what must not be kept replaced.

mod check;
mod contract;
pub mod diff;
mod finding;
mod guard;
pub mod page;
pub mod registry;
pub mod render;
pub mod rules;
pub mod rust_events;
pub mod score;
pub mod secrets;

pub use contract::{Contract, Policy};
pub use finding::{Finding, safe};
pub use guard::Guard;
