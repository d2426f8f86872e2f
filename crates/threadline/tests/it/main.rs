//! Integration tests: a hub in the test's process, and the real binary from outside. One binary, one module per topic.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod api;
mod cli;
mod client;
mod contract;
mod detection;
mod door;
mod door_cli;
mod hub;
mod incidents;
mod jsonl;
mod kill;
mod otlp_grpc;
mod otlp_http;
mod pki;
mod process;
mod senders;
mod sessions;
mod tls;
