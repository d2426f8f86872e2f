//! `/api/v1/session`: a browser shows a token once, and is known by a cookie from then on.

use std::sync::Arc;

use axum::body::Body;
use http::header::SET_COOKIE;
use http::{HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::problem::Problem;
use super::{Api, Document, json as reply};
use crate::door::caller::Caller;
use crate::door::notes::Asked;
use crate::door::roles::{Port, Role};
use crate::door::sessions;
use crate::door::tokens::write_time;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionRequest {
    token: String,
}

/// `POST /api/v1/session`.
pub(crate) fn open(
    api: &Arc<Api>,
    body: &Document,
    caller: &Caller,
    asked: &Asked,
) -> Result<Response<Body>, Problem> {
    if body.content_type != "application/json" {
        // Also: a form of another site cannot send it.
        return Err(Problem::content_type("send {\"token\"} as application/json"));
    }
    // What is wrong is not said with the text that it is wrong in: that may be a token.
    let SessionRequest { token } = serde_json::from_slice(&body.bytes)
        .map_err(|_| Problem::body("send {\"token\":\"tl_…\"} and nothing else"))?;
    let opened = api.door.open_session(token.trim(), Arc::clone(&caller.peer), asked);
    let (cookie, caller) = opened.map_err(|refused| Problem::refused(&refused))?;
    let mut response = show(api, &caller);
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// `GET /api/v1/session`: who asks, and what they may do.
pub(crate) fn show(api: &Arc<Api>, caller: &Caller) -> Response<Body> {
    let roles: Vec<&str> = caller.roles.iter().map(Role::name).collect();
    let token = caller.token.as_ref();
    let answer = json!({
        "enforced": api.door.enforced(Port::Api),
        "id": caller.id(),
        "name": token.map(|token| &token.name),
        "roles": roles,
        "session": caller.session.is_some(),
        "expires": token.and_then(|token| token.expires_us).map(write_time),
    });
    reply(StatusCode::OK, &answer)
}

/// `DELETE /api/v1/session`.
pub(crate) fn close(api: &Arc<Api>, caller: &Caller, asked: &Asked) -> Response<Body> {
    let closed = api.door.close_session(caller, asked);
    let mut response = reply(StatusCode::OK, &json!({"closed": closed}));
    forget_cookie(&mut response);
    response
}

/// Has the browser forget the cookie.
pub(crate) fn forget_cookie(response: &mut Response<Body>) {
    if let Ok(cookie) = HeaderValue::from_str(&sessions::clear_cookie()) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
}
