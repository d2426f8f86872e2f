//! Every request leaves a record, whatever becomes of it, and the trace goes on.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use http_body_util::BodyExt as _;
use threadline_sdk::Telemetry;
use threadline_sdk::http::{ClientLayer, Route, ServerLayer, User};
use tower::{Layer as _, ServiceBuilder, ServiceExt as _};
use tracing::instrument::WithSubscriber as _;

use crate::sink::{Log, Sink, attributes, hex, int};

fn app() -> Router {
    async fn status(code: StatusCode) -> impl IntoResponse {
        code
    }
    async fn limited() -> &'static str {
        tracing::info!(order = 7, "within");
        "done"
    }
    let slow_body = || async {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<axum::body::Bytes, std::io::Error>>(1);
        sender.send(Ok("first".into())).await.unwrap();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            drop(sender);
        });
        let stream = futures::stream::unfold(receiver, |mut receiver| async {
            let item = receiver.recv().await?;
            Some((item, receiver))
        });
        Body::from_stream(stream)
    };
    let broken_body = || async {
        Body::from_stream(futures::stream::iter([Ok("a"), Err(std::io::Error::other("the disk is gone"))]))
    };
    Router::new()
        .route("/orders/{id}", get(limited).head(limited))
        .route("/login", post(|| status(StatusCode::UNAUTHORIZED)))
        .route("/admin", get(|| async { (StatusCode::FORBIDDEN, axum::Extension(User("u-1".to_owned()))) }))
        .route("/busy", get(|| status(StatusCode::TOO_MANY_REQUESTS)))
        .route("/missing/{id}", get(|| status(StatusCode::NOT_FOUND)))
        .route("/empty", get(|| status(StatusCode::NO_CONTENT)))
        .route("/broken", get(|| status(StatusCode::BAD_GATEWAY)))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("the shelf is empty")
                }
            }),
        )
        .route("/sleep", get(|| tokio::time::sleep(Duration::from_secs(3600))))
        .route("/stream", get(slow_body))
        .route("/half", get(broken_body))
}

/// Runs requests against a service and gives back what the host holds then.
fn run<F: Future>(work: impl FnOnce() -> F) -> (F::Output, Sink) {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let (dispatch, telemetry) = Telemetry::scoped(&sink.settings(folder.path())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _current = tracing::dispatcher::set_default(&dispatch);
    let output = runtime.block_on(work().with_subscriber(dispatch.clone()));
    drop(runtime);
    assert!(telemetry.flush(Duration::from_secs(20)));
    (output, sink)
}

fn request(method: &str, path: &str) -> Request<Body> {
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let request = Request::builder().method(method).uri(path).header("user-agent", "probe/1");
    request.extension(ConnectInfo(peer)).body(Body::empty()).unwrap()
}

async fn read(response: Response<impl http_body_util::BodyExt>) -> StatusCode {
    let status = response.status();
    let _ = response.into_body().collect().await;
    status
}

/// What is expected of a request: its answer, and members of its record.
struct Case {
    request: (&'static str, &'static str),
    status: u16,
    severity: i32,
    outcome: &'static str,
    error: &'static str,
    route: &'static str,
    unknown: &'static str,
}

#[test]
fn every_answer_leaves_its_record() {
    let case = |request, status, severity, outcome, error, route, unknown| Case {
        request,
        status,
        severity,
        outcome,
        error,
        route,
        unknown,
    };
    let cases = [
        case(("GET", "/orders/7?token=s3cret"), 200, 9, "success", "", "/orders/{id}", ""),
        case(("HEAD", "/orders/7"), 200, 9, "success", "", "/orders/{id}", ""),
        case(("GET", "/empty"), 204, 9, "success", "", "/empty", ""),
        case(("POST", "/login"), 401, 13, "denied", "401", "/login", ""),
        case(("GET", "/admin"), 403, 13, "denied", "403", "/admin", ""),
        case(("GET", "/busy"), 429, 13, "denied", "429", "/busy", ""),
        case(("GET", "/missing/4"), 404, 13, "failure", "404", "/missing/{id}", ""),
        case(("GET", "/.env"), 404, 13, "failure", "404", "", "no_route"),
        case(("DELETE", "/admin"), 405, 9, "failure", "405", "/admin", "method_not_allowed"),
        case(("BREW", "/pot"), 404, 13, "failure", "404", "", "no_route"),
        case(("GET", "/broken"), 502, 17, "failure", "502", "/broken", ""),
        case(("GET", "/panic"), 500, 17, "failure", "panic", "/panic", ""),
        case(("GET", "/sleep"), 504, 17, "failure", "timeout", "/sleep", ""),
    ];
    let ((), sink) = run(|| async {
        let app = app().layer(ServerLayer::new().timeout(Duration::from_millis(300)));
        for case in &cases {
            let response = app.clone().oneshot(request(case.request.0, case.request.1)).await.unwrap();
            assert_eq!(read(response).await.as_u16(), case.status, "{:?}", case.request);
        }
    });
    let records = sink.events("request.finished");
    assert_eq!(records.len(), cases.len());
    let unknown = sink.events("security.endpoint.unknown");
    for (case, record) in cases.iter().zip(&records) {
        let at = format!("{:?}: {record:#?}", case.request);
        assert_eq!(record.get("http.response.status_code"), case.status.to_string(), "{at}");
        assert_eq!(record.severity, case.severity, "{at}");
        assert_eq!(record.get("threadline.outcome"), case.outcome, "{at}");
        assert_eq!(record.get("error.type"), case.error, "{at}");
        assert_eq!(record.get("http.route"), case.route, "{at}");
        assert_eq!(record.get("client.address"), "192.0.2.7", "{at}");
        assert_eq!(record.get("user_agent.original"), "probe/1", "{at}");
        assert!(record.get("threadline.duration_s").parse::<f64>().unwrap() >= 0.0, "{at}");
        assert_eq!(record.trace.len(), 32, "{at}");
        assert!(!format!("{record:?}").contains("s3cret"), "a query is recorded: {at}");
        let found = unknown.iter().find(|unknown| unknown.trace == record.trace);
        assert_eq!(found.map_or("", |found| found.get("threadline.reason")), case.unknown, "{at}");
        let span = sink.spans().into_iter().find(|span| hex(&span.trace_id) == record.trace);
        let span = span.unwrap_or_else(|| panic!("no span: {at}"));
        let error = span.status.clone().unwrap_or_default().code == 2;
        assert_eq!(error, case.status >= 500, "{at}: {span:?}");
        let status = span.attributes.iter().find(|pair| pair.key == "http.response.status_code").unwrap();
        assert_eq!(int(status), Some(i64::from(case.status)), "a number, not a text");
    }
    assert_eq!(records[4].get("user.id"), "u-1");
    assert_eq!(records[9].get("http.request.method"), "_OTHER");
    // What a handler logs has the trace; the place in the source is no event.
    let within: Vec<Log> = sink.logs().into_iter().filter(|log| log.body == "within").collect();
    assert_eq!((within[0].event.as_str(), within[0].get("order")), ("", "7"));
    assert_eq!(within[0].trace, records[0].trace);
    let resource = &records[0].resource;
    assert_eq!(resource["service.name"], "checkout");
    assert_eq!(resource["service.version"], "1.2.3");
    assert_eq!(resource["deployment.environment.name"], "test");
    assert_eq!(resource["service.instance.id"].len(), 32);
    // Without gaps, and each once.
    let mut places: Vec<u64> = sink.logs().iter().map(Log::sequence).collect();
    places.sort_unstable();
    assert_eq!(places, (1..=places.len() as u64).collect::<Vec<_>>());
}

#[test]
fn callers_that_go_away_leave_a_record() {
    let ((), sink) = run(|| async {
        let app = app().layer(ServerLayer::new());
        // Before the head of the answer.
        let waiting = app.clone().oneshot(request("GET", "/sleep"));
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err());
        // In the middle of it.
        let mut response = app.clone().oneshot(request("GET", "/stream")).await.unwrap();
        assert!(response.body_mut().frame().await.is_some());
        drop(response);
        // The server itself breaks off.
        let response = app.clone().oneshot(request("GET", "/half")).await.unwrap();
        assert_eq!(read(response).await, StatusCode::OK);
    });
    let records: Vec<(String, String, String)> = sink
        .events("request.finished")
        .iter()
        .map(|log| {
            ["http.response.status_code", "threadline.outcome", "error.type"].map(|key| log.get(key).to_owned())
        })
        .map(|[status, outcome, error]| (status, outcome, error))
        .collect();
    let expected = [
        ("499", "unknown", "client_disconnected"),
        ("200", "unknown", "client_disconnected"),
        ("200", "failure", "body"),
    ];
    let expected: Vec<_> =
        expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).into_iter().collect();
    assert_eq!(records, expected);
}

#[test]
fn errors_of_inner_services_leave_a_record() {
    let ((), sink) = run(|| async {
        let slow = tower::service_fn(|_: Request<Body>| async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        });
        let service =
            ServiceBuilder::new().layer(ServerLayer::new()).timeout(Duration::from_millis(20)).service(slow);
        assert!(service.oneshot(request("GET", "/x")).await.is_err());
        // Routers that the layer does not know name the route themselves.
        let own = tower::service_fn(|_: Request<Body>| async {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response.extensions_mut().insert(Route("/things/:id".to_owned()));
            Ok::<_, std::convert::Infallible>(response)
        });
        ServerLayer::new().layer(own).oneshot(request("GET", "/things/9")).await.unwrap();
    });
    let records = sink.events("request.finished");
    assert_eq!(records[0].get("error.type"), "timeout");
    assert_eq!(records[0].get("http.response.status_code"), "504");
    assert_eq!(records[1].get("http.route"), "/things/:id");
    assert_eq!(sink.events("security.endpoint.unknown").len(), 0);
}

#[test]
fn hosts_and_proxies_are_believed_as_told() {
    let ((), sink) = run(|| async {
        let layer = ServerLayer::new().hosts(["shop.example"]).trusted_proxies(["192.0.2.7".parse().unwrap()]);
        let app = app().layer(layer);
        for (host, forwarded) in [
            ("SHOP.example:443", "6.6.6.6, 203.0.113.9"),
            ("evil.example", ""),
            ("shop.example", "203.0.113.1, 192.0.2.7"),
            ("shop.example", "nonsense"),
        ] {
            let mut request = request("GET", "/orders/1");
            request.headers_mut().insert("host", host.parse().unwrap());
            if !forwarded.is_empty() {
                request.headers_mut().insert("x-forwarded-for", forwarded.parse().unwrap());
            }
            read(app.clone().oneshot(request).await.unwrap()).await;
        }
    });
    let records: Vec<(String, String)> = sink
        .events("request.finished")
        .iter()
        .map(|log| (log.get("http.response.status_code").to_owned(), log.get("client.address").to_owned()))
        .collect();
    let expected = [("200", "203.0.113.9"), ("421", "192.0.2.7"), ("200", "203.0.113.1"), ("200", "192.0.2.7")];
    assert_eq!(records, expected.map(|(status, client)| (status.to_owned(), client.to_owned())));
    assert_eq!(sink.events("security.endpoint.unknown")[0].get("threadline.reason"), "unknown_host");
}

#[test]
fn the_trace_goes_on_and_the_caller_is_told_it() {
    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let ((inside, edge), sink) = run(|| async {
        let called = |layer: ServerLayer| async move {
            // Service b, called by service a.
            let b = app().layer(ServerLayer::new());
            let client = ClientLayer.layer(b);
            let a =
                Router::new()
                    .route(
                        "/a",
                        get(|| async move {
                            client.oneshot(request("GET", "/orders/1")).await.unwrap().map(Body::new)
                        }),
                    )
                    .layer(layer);
            let mut request = request("GET", "/a");
            request.headers_mut().insert("traceparent", CALLER.parse().unwrap());
            request.headers_mut().insert("tracestate", "v=1".parse().unwrap());
            let response = a.oneshot(request).await.unwrap();
            let headers = response.headers().clone();
            read(response).await;
            headers
        };
        (called(ServerLayer::new()).await, called(ServerLayer::edge()).await)
    });
    let text = |headers: &axum::http::HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
    let (trace, caller_span) = (&CALLER[3..35], &CALLER[36..52]);
    let told = text(&inside, "traceresponse");
    assert_eq!(&told[3..35], trace);
    let timings: Vec<_> = inside.get_all("server-timing").iter().collect();
    assert!(timings.iter().any(|value| value.to_str().unwrap() == format!("trace;desc={told}")), "{timings:?}");
    let spans = sink.spans();
    let tree: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
    assert_eq!(tree.len(), 3, "server a, client a, server b");
    let kinds: Vec<i32> = tree.iter().map(|span| span.kind).collect();
    let root = tree.iter().find(|span| hex(&span.parent_span_id) == caller_span).expect("a's span");
    let call = tree.iter().find(|span| span.parent_span_id == root.span_id).expect("its call");
    let answer = tree.iter().find(|span| span.parent_span_id == call.span_id).expect("b's span");
    assert_eq!([root.kind, call.kind, answer.kind], [2, 3, 2], "{kinds:?}");
    assert!(tree.iter().all(|span| span.trace_state == "v=1"));
    assert_eq!(hex(&root.span_id), told[36..52]);
    // Strangers' traces are not continued, but can be found.
    let told = text(&edge, "traceresponse");
    assert_ne!(&told[3..35], trace);
    let root = spans.iter().find(|span| hex(&span.span_id) == told[36..52]).expect("the edge's span");
    assert!(root.parent_span_id.is_empty());
    assert_eq!(hex(&root.links[0].trace_id), trace);
    assert_eq!(attributes(&root.attributes)["threadline.outside.traceparent"], CALLER);
    let own: Vec<_> = spans.iter().filter(|span| span.trace_id == root.trace_id).collect();
    assert_eq!(own.len(), 3);
    assert!(own.iter().all(|span| span.trace_state.is_empty()));
    for record in sink.events("request.finished") {
        assert!([trace, &told[3..35]].contains(&&*record.trace));
    }
}

#[test]
fn grpc_answers_are_judged_by_their_own_status() {
    let ((), sink) = run(|| async {
        for (code, trailers_only) in [("0", false), ("16", true), ("12", true), ("13", false)] {
            let service = tower::service_fn(move |_: Request<Body>| async move {
                let mut trailers = axum::http::HeaderMap::new();
                trailers.insert("grpc-status", code.parse().unwrap());
                let response = if trailers_only {
                    Response::builder().header("grpc-status", code).body(Body::empty())
                } else {
                    let body = http_body_util::Full::new(axum::body::Bytes::from("x"));
                    Response::builder().body(Body::new(body.with_trailers(async { Some(Ok(trailers)) })))
                };
                Ok::<_, std::convert::Infallible>(response.unwrap())
            });
            let mut request = request("POST", "/shop.Cart/Add");
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            read(ServerLayer::new().layer(service).oneshot(request).await.unwrap()).await;
        }
    });
    let records: Vec<(String, String)> = sink
        .events("request.finished")
        .iter()
        .map(|log| (log.get("threadline.outcome").to_owned(), log.get("error.type").to_owned()))
        .collect();
    let expected =
        [("success", ""), ("denied", "UNAUTHENTICATED"), ("failure", "UNIMPLEMENTED"), ("failure", "INTERNAL")];
    assert_eq!(records, expected.map(|(outcome, error)| (outcome.to_owned(), error.to_owned())));
    assert_eq!(sink.events("security.endpoint.unknown").len(), 1);
}

#[test]
fn layers_inside_do_not_hide_refusals() {
    let ((), sink) = run(|| async {
        let refuse = middleware::from_fn(|_: axum::extract::Request, _: middleware::Next| async {
            StatusCode::UNAUTHORIZED
        });
        let app = app().layer(refuse).layer(ServerLayer::new());
        read(app.oneshot(request("GET", "/orders/1")).await.unwrap()).await;
    });
    assert_eq!(sink.events("request.finished")[0].get("threadline.outcome"), "denied");
}
