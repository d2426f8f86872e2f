//! Sigma 2.1.0: rules, correlations and filters as they stand in files (sigma-specification 2.1.0, "Sigma Rules",
//! "Sigma Correlation Rules", "Sigma Filters", "Sigma Modifiers").
//!
//! Reading does not resolve anything: pipelines change names and values first, then [`crate::rules`] compiles.

pub mod condition;
pub mod correlation;
pub mod extension;
mod modifiers;
pub mod pattern;
mod read;
pub mod rule;

pub(crate) use modifiers::apply as apply_modifiers;
pub(crate) use read::{document, selection};
