//! The SDK from outside: real servers and handshakes, a host that takes OTLP, goes away and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod away;
mod harness;
mod http;
mod process;
mod sink;
mod tls;
