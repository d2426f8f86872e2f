//! The page for people: files that were built from `web` and put into the binary, and a plain page where there are none.
//! Nothing is loaded from elsewhere, and nothing in a record can become markup: the policy has the browser see to it.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::operations::{Id, OPERATIONS};
use super::problem::Problem;
use super::{Api, text};

/// A file of the built page.
struct File {
    /// `index.html`, or `assets/…` with a hash of the content in the name.
    name: &'static str,
    content_type: &'static str,
    plain: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

/// All files; none when the page was not built.
static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// Scripts and styles only from files of ours, no markup from texts (trusted types), nothing from or to elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types svelte-trusted-html";

/// The page, at any of its addresses.
pub(crate) fn page(api: &Arc<Api>, headers: &HeaderMap) -> Response<Body> {
    let mut response = match FILES.iter().find(|file| file.name == "index.html") {
        Some(file) => serve(file, headers),
        None => text("text/html; charset=utf-8", plain(api)),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    guard(headers);
    response
}

/// A file that the page needs.
pub(crate) fn asset(name: &str, headers: &HeaderMap) -> Result<Response<Body>, Problem> {
    let found = FILES.iter().find(|file| file.name.strip_prefix("assets/") == Some(name));
    let file = found.ok_or_else(|| Problem::not_found(format!("the page has no file {name}")))?;
    let mut response = serve(file, headers);
    let headers = response.headers_mut();
    // The name changes with the content.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    guard(headers);
    Ok(response)
}

/// What browsers ask for at any address that is no page, too.
pub(crate) fn icon(headers: &HeaderMap) -> Response<Body> {
    let is_icon = |file: &&File| file.name.starts_with("assets/icon") && file.name.ends_with(".svg");
    let mut response = FILES.iter().find(is_icon).map_or_else(
        || {
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            nothing
        },
        |file| serve(file, headers),
    );
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    guard(headers);
    response
}

fn guard(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

/// A file as it is or compressed, as the client takes it.
fn serve(file: &File, headers: &HeaderMap) -> Response<Body> {
    let compressed = [("br", file.brotli), ("gzip", file.gzip)];
    let chosen = compressed
        .into_iter()
        .find_map(|(encoding, bytes)| Some((encoding, bytes.filter(|_| takes(headers, encoding))?)));
    let bytes = chosen.map_or(file.plain, |(_, bytes)| bytes);
    let mut response = Response::new(Body::from(Bytes::from_static(bytes)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some((encoding, _)) = chosen {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// Whether a client names an encoding among those it takes, and not with weight 0.
fn takes(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        });
        named && !refused
    })
}

/// What stands there when the page was not built: how to build it, and where things are.
fn plain(api: &Api) -> String {
    let rows = OPERATIONS
        .iter()
        .filter(|operation| !matches!(operation.id, Id::Page | Id::Asset | Id::Icon))
        .map(|operation| {
            let (path, doc) = (escaped(operation.path), escaped(operation.doc));
            format!("<tr><td>{}<td><code>{path}</code><td>{doc}", operation.method)
        });
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Threadline</title><h1>Threadline {version}</h1>\
         <p>This binary was built without the page. To build both: <code>cargo xtask web</code>, then build the hub \
         again. It needs Node 20 or newer.</p><p>Senders: OTLP/gRPC at <code>{grpc}</code>, OTLP/HTTP at \
         <code>{http}</code>. API at <code>{api}</code>; in a terminal: <code>threadline search</code>, \
         <code>threadline trace</code>, <code>threadline --help</code>.</p><table>{rows}</table></html>\n",
        version = env!("CARGO_PKG_VERSION"),
        rows = rows.collect::<String>(),
        grpc = api.addresses.otlp_grpc,
        http = api.addresses.otlp_http,
        api = api.addresses.api,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_taken_as_offered() {
        for (offered, want) in [
            ("gzip, deflate, br, zstd", (true, true)),
            ("BR;q=0.5", (true, false)),
            ("br;q=0, gzip", (false, true)),
            ("br; q=0.0,gzip;q=1", (false, true)),
            ("identity", (false, false)),
            ("brotli", (false, false)),
            ("", (false, false)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(offered));
            assert_eq!((takes(&headers, "br"), takes(&headers, "gzip")), want, "{offered}");
        }
    }

    #[test]
    fn files_have_the_names_that_assets_are_asked_by() {
        for file in FILES {
            let name = file.name.strip_prefix("assets/");
            assert!(file.name == "index.html" || name.is_some_and(|name| !name.contains('/')), "{}", file.name);
            assert!(!file.plain.is_empty(), "{}", file.name);
        }
    }
}
