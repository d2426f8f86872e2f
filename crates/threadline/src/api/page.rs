//! The page at `/`: what runs here and where things are. No resources from elsewhere.

use std::sync::Arc;

use axum::body::Body;
use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response};

use super::operations::{OPERATIONS, Operation};
use super::{Api, text};

/// The page.
pub(crate) fn page(api: &Arc<Api>) -> Response<Body> {
    let mut response = text("text/html; charset=utf-8", html(api));
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn html(api: &Api) -> String {
    let rows: String = OPERATIONS.iter().map(row).collect();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Threadline</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         td{{padding:.2rem 1rem .2rem 0;vertical-align:top}}code{{white-space:nowrap}}</style>\
         <h1>Threadline {version}</h1>\
         <p>One host for logs and traces.</p>\
         <p>Senders: OTLP/gRPC at <code>{grpc}</code>, OTLP/HTTP at <code>http://{http}</code>. \
         API: <code>http://{api}</code>; in a terminal: <code>threadline search</code>, <code>threadline trace</code>, \
         <code>threadline --help</code>.</p><table>{rows}</table></html>\n",
        version = env!("CARGO_PKG_VERSION"),
        grpc = api.addresses.otlp_grpc,
        http = api.addresses.otlp_http,
        api = api.addresses.api,
    )
}

fn row(operation: &Operation) -> String {
    let plain = operation.method == Method::GET && !operation.parameters.iter().any(|p| p.required);
    let path = escaped(operation.path);
    let link = if plain {
        format!("<a href=\"{path}\"><code>{path}</code></a>")
    } else {
        format!("<code>{path}</code>")
    };
    format!("<tr><td>{}<td>{link}<td>{}", operation.method, escaped(operation.doc))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
