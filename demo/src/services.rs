//! The Rust services: edge, orders, catalogue, payment.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{ConnectInfo, MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use threadline_sdk::http::{ServerLayer, User};
use threadline_sdk::tls::Peer;
use threadline_sdk::{audit, authn_rejected, authz_denied};

use crate::Result;
use crate::jwt::{self, Claims};
use crate::mesh::{Answer, Mesh, Place};

/// What the handlers of a service share.
#[derive(Clone)]
struct Shared {
    mesh: Mesh,
    secret: Arc<[u8]>,
    /// How slow the dependency is that is made slow, ms.
    slow_ms: Arc<AtomicU64>,
}

/// Serves one of the services until it is told to stop.
pub(crate) fn serve(name: &str) -> Result<()> {
    let telemetry = threadline_sdk::init!().map_err(|error| error.to_string())?;
    let place = Place::new(name)?;
    let shared =
        Shared { mesh: Mesh::new(&place.files())?, secret: place.secret()?.into(), slow_ms: Arc::default() };
    let app = match name {
        "edge" => edge(),
        "orders" => guarded(orders(), &shared),
        "catalogue" => guarded(catalogue(), &shared),
        "payment" => guarded(payment(), &shared),
        other => return Err(format!("{other}: there is no such service")),
    };
    let layer = match name {
        "edge" => ServerLayer::edge().timeout(Duration::from_secs(3)),
        _ => ServerLayer::new().trusted_proxies([IpAddr::V4(Ipv4Addr::LOCALHOST)]),
    };
    let app = app.route("/ready", get(|| async { "ready" })).layer(layer);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(place.serve(app.with_state(shared), &telemetry))
}

/// Strangers' door: knows which service has what, and nothing else.
fn edge() -> Router<Shared> {
    Router::new()
        .route("/items/{id}", get(forward))
        .route("/orders", post(forward))
        .route("/orders/{id}", get(forward))
        .route("/admin/{what}", get(forward))
}

/// Hands a request on to the service that has the path.
async fn forward(State(shared): State<Shared>, request: Request) -> Answer {
    let service = if request.uri().path().starts_with("/items/") { "catalogue" } else { "orders" };
    let url = Place::url(service).map_err(|error| (StatusCode::BAD_GATEWAY, error))?;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut onward = Request::builder().method(method).uri(format!("{url}{path}"));
    for name in ["authorization", "content-type", "user-agent"] {
        if let Some(value) = request.headers().get(name) {
            onward = onward.header(name, value);
        }
    }
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<Peer>>() {
        onward = onward.header("x-forwarded-for", peer.address().ip().to_string());
    }
    let body = axum::body::to_bytes(request.into_body(), 64 << 10).await;
    let body = body.map_err(|error| (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
    let onward = onward.body(body.into()).map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))?;
    let answer = shared.mesh.send(onward).await.map_err(|error| {
        tracing::error!("{service} did not answer: {error}");
        (StatusCode::BAD_GATEWAY, "the service does not answer".to_owned())
    })?;
    if !answer.status().is_success() {
        return Err((answer.status(), String::from_utf8_lossy(answer.body()).into_owned()));
    }
    Ok(Json(serde_json::from_slice(answer.body()).unwrap_or(Value::Null)))
}

fn orders() -> Router<Shared> {
    Router::new()
        .route("/orders", post(place_order))
        .route("/orders/{id}", get(read_order))
        .route("/admin/{what}", get(administer))
}

async fn place_order(
    State(shared): State<Shared>,
    claims: axum::Extension<Caller>,
    Json(order): Json<Value>,
) -> Answer {
    let Caller { claims, token, .. } = &*claims;
    let item = order.get("item").and_then(Value::as_u64).unwrap_or(1);
    let url = |service: &str, path: String| {
        Place::url(service).map(|url| url + &path).map_err(|error| (StatusCode::BAD_GATEWAY, error))
    };
    let found =
        shared.mesh.ask(Method::GET, &url("catalogue", format!("/items/{item}"))?, token, &Value::Null).await?;
    let charge = json!({"cents": found.get("cents").cloned().unwrap_or(json!(100)), "item": item});
    let _ = shared.mesh.ask(Method::POST, &url("payment", "/charges".to_owned())?, token, &charge).await?;
    let id = format!("{}-{item}", claims.user);
    if std::env::var_os("FLEET_NOTIFY_PORT").is_some() {
        let mail = json!({"order": id});
        let _ = shared.mesh.ask(Method::POST, &url("notify", "/mails".to_owned())?, token, &mail).await?;
    }
    audit!(
        outcome: Success,
        audit_action: "order.placed",
        actor_type: User,
        user_id: claims.user,
        resource_type: "order",
        resource_id: id,
        message: format!("order {id} placed"),
    );
    Ok(Json(json!({"order": id})))
}

async fn read_order(claims: axum::Extension<Caller>, Path(id): Path<String>) -> Answer {
    if id == "none" {
        return Err((StatusCode::NOT_FOUND, "there is no such order".to_owned()));
    }
    tracing::info!(order = id, "order read");
    Ok(Json(json!({"order": id, "user": claims.claims.user})))
}

async fn administer(claims: axum::Extension<Caller>, route: MatchedPath, Path(what): Path<String>) -> Answer {
    let Caller { claims, client, .. } = &*claims;
    if claims.scopes.iter().any(|scope| scope == "admin") {
        return Ok(Json(json!({"administered": what})));
    }
    authz_denied!(
        reason: MissingScope,
        authz_action: "admin.read",
        resource_type: "admin",
        resource_id: what,
        client_address: client,
        user_id: claims.user,
        http_route: route.as_str(),
        message: format!("{} may not administer {what}", claims.user),
    );
    Err((StatusCode::FORBIDDEN, "the scope `admin` is needed".to_owned()))
}

fn catalogue() -> Router<Shared> {
    Router::new().route("/items/{id}", get(read_item))
}

async fn read_item(
    State(shared): State<Shared>,
    claims: axum::Extension<Caller>,
    Path(id): Path<u64>,
) -> Answer {
    let mut item = json!({"item": id, "cents": 100 + id % 900});
    if std::env::var_os("FLEET_RECOMMEND_PORT").is_some() {
        let url = Place::url("recommend").map_err(|error| (StatusCode::BAD_GATEWAY, error))?;
        let similar =
            shared.mesh.ask(Method::GET, &format!("{url}/similar/{id}"), &claims.token, &Value::Null).await?;
        if let Some(item) = item.as_object_mut() {
            item.insert("similar".to_owned(), similar.0);
        }
    }
    tracing::info!(item = id, "item read");
    Ok(Json(item))
}

fn payment() -> Router<Shared> {
    Router::new().route("/charges", post(charge)).route("/fault", post(slow_down))
}

async fn charge(State(shared): State<Shared>, Json(order): Json<Value>) -> Answer {
    let slow_ms = shared.slow_ms.load(Ordering::Relaxed);
    if slow_ms > 0 {
        tracing::warn!(slow_ms, "the payment provider is slow");
        tokio::time::sleep(Duration::from_millis(slow_ms)).await;
    }
    let cents = order.get("cents").and_then(Value::as_u64);
    tracing::info!(cents, "card charged");
    Ok(Json(json!({"charged": true})))
}

/// Makes the provider slow, or quick again: the fault that the demo schedules.
async fn slow_down(State(shared): State<Shared>, Json(fault): Json<Value>) -> Answer {
    let slow_ms = fault.get("slow_ms").and_then(Value::as_u64).unwrap_or(0).min(10_000);
    shared.slow_ms.store(slow_ms, Ordering::Relaxed);
    Ok(Json(json!({"slow_ms": slow_ms})))
}

/// Who calls.
#[derive(Clone, Debug)]
struct Caller {
    claims: Claims,
    token: String,
    client: String,
}

/// Lets only good tokens through.
fn guarded(router: Router<Shared>, shared: &Shared) -> Router<Shared> {
    router.layer(middleware::from_fn_with_state(shared.clone(), check_token))
}

async fn check_token(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let client = client(&request);
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    // Paths that do not exist need no token to be refused.
    let Some(route) = route else { return next.run(request).await };
    let token = bearer(request.headers());
    let now_s = i64::try_from(now().as_secs()).unwrap_or(i64::MAX);
    let verified = match &token {
        None => {
            Err(jwt::Refused { reason: threadline_sdk::events::AuthnRejectedReason::Missing, issuer: None })
        }
        Some(token) => jwt::verify(&shared.secret, token, now_s),
    };
    match verified {
        Ok(claims) => {
            let user = User(claims.user.clone());
            request.extensions_mut().insert(Caller { claims, token: token.unwrap_or_default(), client });
            let mut response = next.run(request).await;
            response.extensions_mut().insert(user);
            response
        }
        Err(refused) => {
            let reason = refused.reason;
            let message = format!("a token was refused: {}", reason.as_str());
            match token {
                None => {
                    authn_rejected!(reason: reason, authn_method: Bearer, client_address: client, http_route: route, message: message)
                }
                Some(token) => authn_rejected!(
                    reason: reason,
                    authn_method: Bearer,
                    client_address: client,
                    http_route: route,
                    authn_token_issuer: refused.issuer.unwrap_or_else(|| "unknown".to_owned()),
                    authn_token_hash: jwt::hash(&shared.secret, &token),
                    message: message,
                ),
            }
            (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")], "a good token is needed\n")
                .into_response()
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("authorization")?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(|token| token.trim().to_owned())
}

/// The caller's address, as the edge names it.
fn client(request: &Request) -> String {
    let named = request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    let peer = || peer.map(|ConnectInfo(peer)| peer.address().ip().to_string());
    named.map(str::to_owned).or_else(peer).unwrap_or_else(|| "unknown".to_owned())
}

/// Time since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "tokens end by the wall clock")]
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
