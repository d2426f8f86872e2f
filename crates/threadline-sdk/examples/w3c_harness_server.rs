//! The service that W3C's public test suite for Trace Context drives: on POST of a JSON list of `{url, arguments}` it posts each
//! `arguments` to its `url` in turn, with the context handed on.
//!
//! ```text
//! cargo run --example w3c_harness_server                 # listens on 127.0.0.1:5000
//! SPEC_LEVEL=2 STRICT_LEVEL=2 python test.py http://127.0.0.1:5000/test
//! ```

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::routing::post;
use axum::{Json, Router};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use threadline_sdk::http::{ClientLayer, ClientService, ServerLayer};
use tower::{Layer as _, ServiceExt as _};

type Caller = ClientService<Client<HttpConnector, Body>>;

/// The service.
pub fn app() -> Router {
    let client = ClientLayer.layer(Client::builder(TokioExecutor::new()).build_http());
    Router::new()
        .route("/test", post(move |Json(calls): Json<Value>| run(client, calls)))
        .layer(ServerLayer::new())
}

async fn run(client: Caller, calls: Value) -> Result<StatusCode, (StatusCode, String)> {
    let bad = |what: String| (StatusCode::BAD_REQUEST, what);
    let calls = calls.as_array().ok_or_else(|| bad("a list of {url, arguments} is expected".to_owned()))?;
    for call in calls {
        let url = call.get("url").and_then(Value::as_str).ok_or_else(|| bad("a call has no url".to_owned()))?;
        let arguments = call.get("arguments").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(arguments.to_string()))
            .map_err(|error| bad(error.to_string()))?;
        let answer = client.clone().oneshot(request).await;
        answer.map_err(|error| (StatusCode::BAD_GATEWAY, format!("{url}: {error}")))?;
    }
    Ok(StatusCode::OK)
}

/// Serves on the address that is given, else on 127.0.0.1:5000.
#[allow(dead_code)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = threadline_sdk::init!()?;
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:5000").parse()?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/test", listener.local_addr()?);
    let service = app().into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(telemetry.stopped()).await?;
    Ok(())
}
