//! The SDK from outside: real servers and handshakes, a host that takes OTLP, goes away and comes back.

mod away;
mod harness;
mod http;
mod process;
mod sink;
mod tls;
