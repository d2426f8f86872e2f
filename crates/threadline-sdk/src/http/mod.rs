//! Tower layers for servers and clients: traces go on, and every request leaves a record, however it ends.
//!
//! Vocabulary:
//! - *exchange*: one request that a server answers, from its head to the last byte of the answer;
//! - *end*: how an exchange ended: with an answer, by a panic, by a timeout, or because the caller went away;
//! - *edge*: a server that strangers reach. It trusts no `traceparent`: it begins the trace anew, links the one that was sent, and
//!   keeps it as an attribute.
//!
//! The layers know `http`, `http_body` and `tower`, so that they fit axum, tonic, hyper and reqwest. What they know of a route they
//! take from axum's `MatchedPath` or from [`Route`]; for gRPC the path is the route. Query strings are never recorded.

mod body;
mod client;
mod exchange;
mod server;

use std::net::SocketAddr;

pub use body::ServerBody;
pub use client::{ClientFuture, ClientLayer, ClientService, IncomingResponse, OutgoingRequest};
pub use server::{ServerFuture, ServerLayer, ServerService};

/// The route of a request, for routers that the layer does not know: put it into the extensions of the response (or of the request,
/// before the layer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route(pub String);

/// Who the caller is, as `user.id`: put it into the extensions of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(pub String);

/// The other end of a connection: put it into the extensions of the request where no axum `ConnectInfo` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);
