//! Logs and traces of a Rust service as the Threadline contract wants them, on `tracing` and OpenTelemetry.
//!
//! ```no_run
//! # #[cfg(feature = "axum")]
//! # mod with_axum {
//! use axum::{Router, routing::get};
//! use threadline_sdk::http::ServerLayer;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let telemetry = threadline_sdk::init!()?;
//!     let app = Router::new()
//!         .route("/orders/{id}", get(|| async { "an order" }))
//!         .layer(ServerLayer::new());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     let service = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
//!     axum::serve(listener, service).with_graceful_shutdown(telemetry.stopped()).await?;
//!     Ok(())
//! }
//! # }
//! ```
//!
//! - [`init!`](crate::init!) reads `threadline.toml` and the `OTEL_*` variables ([`settings`]) and sets up logs, spans, resource and
//!   exporter; the guard it returns sends what waits on drop, panic and signal;
//! - [`http::ServerLayer`] and [`http::ClientLayer`] continue traces and leave a record of every request, however it ends;
//! - [`tls`] has an acceptor and a connector that report handshakes that failed;
//! - [`events`] has a macro for each security event: [`authn_rejected!`], [`authz_denied!`], [`audit!`];
//! - [`propagation`] is W3C Trace Context Level 2 and Baggage, strictly.
//!
//! While the host is away records wait on disk, within bounds, and are sent in order when it returns. Audit records wait first, and
//! are never dropped while there is disk. What is lost is counted and told.
//!
//! This crate knows no other crate of Threadline: OTLP and the contract are all they share.

mod error;
pub mod events;
mod export;
pub mod http;
pub mod propagation;
pub mod settings;
mod telemetry;
#[cfg(feature = "tls")]
pub mod tls;

pub use error::Error;
pub use settings::Settings;
pub use telemetry::{Telemetry, init};
