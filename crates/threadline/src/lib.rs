//! The hub: servers, command line, settings and wiring around the store, the queries and the model.
//!
//! The only crate with HTTP, gRPC, clap and wire JSON. It does not know DataFusion or how records are persisted.

mod api;
pub mod cli;
pub mod contract;
mod detection;
pub mod door;
mod files;
pub mod hub;
pub mod import;
mod incidents;
mod ingest;
mod meters;
mod notify;
mod own;
pub mod rows;
mod serve;
pub mod settings;
pub mod trace_view;
pub mod when;

pub use hub::{Addresses, Components, Hub, StartError, start};
