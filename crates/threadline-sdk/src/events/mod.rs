//! The contract's events: a type and a macro for each, generated from `contract/`.
//!
//! What the contract requires must be there, or the program does not compile:
//!
//! ```
//! use threadline_sdk::authz_denied;
//!
//! authz_denied!(
//!     reason: MissingScope,
//!     authz_action: "orders.refund",
//!     resource_type: "order",
//!     resource_id: 4711,
//!     client_address: "203.0.113.9",
//!     user_id: "u-17",
//! );
//! ```
//!
//! ```compile_fail
//! use threadline_sdk::authz_denied;
//!
//! authz_denied!(
//!     reason: MissingScope,
//!     resource_type: "order", // `authz_action` is missing
//!     resource_id: 4711,
//!     client_address: "203.0.113.9",
//!     user_id: "u-17",
//! );
//! ```
//!
//! ```compile_fail
//! use threadline_sdk::authz_denied;
//!
//! authz_denied!(
//!     reason: MissingScope,
//!     authz_action: "orders.refund",
//!     resource_type: "order",
//!     resource_id: 4711,
//!     client_address: "203.0.113.9", // neither `user_id` nor `user_hash`
//! );
//! ```
//!
//! ```compile_fail
//! use threadline_sdk::authz_denied;
//!
//! authz_denied!(
//!     reason: TooTired, // is not in the closed list
//!     authz_action: "orders.refund",
//!     resource_type: "order",
//!     resource_id: 4711,
//!     client_address: "203.0.113.9",
//!     user_id: "u-17",
//! );
//! ```
//!
//! ```compile_fail
//! use threadline_sdk::authz_denied;
//!
//! authz_denied!(
//!     reason: MissingScope,
//!     authz_action: "orders.refund",
//!     resource_type: "order",
//!     resource_id: 4711,
//!     client_address: "203.0.113.9",
//!     user_id: "u-17",
//!     shoe_size: 43, // is no attribute of the event
//! );
//! ```
//!
//! Rejected callers and audit alike:
//!
//! ```
//! use threadline_sdk::{audit, authn_rejected};
//!
//! authn_rejected!(
//!     reason: Expired,
//!     authn_method: Bearer,
//!     client_address: "203.0.113.9",
//!     message: "the token ended an hour ago",
//! );
//! audit!(outcome: Success, audit_action: "user.role.changed", actor_type: User, user_id: "u-17", resource_type: "user");
//! ```
//!
//! ```compile_fail
//! threadline_sdk::authn_rejected!(reason: Expired, client_address: "203.0.113.9");
//! ```
//!
//! ```compile_fail
//! threadline_sdk::audit!(outcome: Success, actor_type: System, resource_type: "user");
//! ```
//!
//! Events are recorded through `tracing` under the target `threadline`, so that they reach every subscriber, within the span that
//! is current: they have its trace id. Never give a token or a password; there are attributes for an issuer and a keyed hash.

#[rustfmt::skip]
mod generated;

pub use generated::*;
