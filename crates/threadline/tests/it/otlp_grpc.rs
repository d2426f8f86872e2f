//! OTLP/gRPC against a hub, by a generated client.

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};
use threadline::{Components, Hub};
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use crate::hub::{get_ok, logs, send, settings, spans, start};

async fn channel(hub: &Hub) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{}", hub.addresses().otlp_grpc)).unwrap();
    endpoint.connect().await.unwrap()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn logs_and_traces_are_kept_whatever_their_compression() {
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    run(async {
        let channel = channel(&hub).await;
        for (n, compression) in
            [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)].into_iter().enumerate()
        {
            let mut logs_client = LogsServiceClient::new(channel.clone());
            let mut trace_client = TraceServiceClient::new(channel.clone());
            if let Some(encoding) = compression {
                logs_client = logs_client.send_compressed(encoding).accept_compressed(encoding);
                trace_client = trace_client.send_compressed(encoding).accept_compressed(encoding);
            }
            let body = format!("{compression:?} {}", "word ".repeat(10_000));
            let reply = logs_client.export(logs("shop", &[&body])).await.unwrap().into_inner();
            assert_eq!(reply.partial_success, None);
            let reply = trace_client.export(spans("shop", n as u8 + 1, &["GET /"])).await.unwrap();
            assert_eq!(reply.into_inner().partial_success, None);
        }
    });
    assert_eq!(get_ok(&hub, "/api/v1/search").lines().len(), 3);
    assert_eq!(get_ok(&hub, "/api/v1/search?table=spans").lines().len(), 3);
}

#[test]
fn what_cannot_be_taken_is_said_by_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let small = threadline::settings::Settings {
        request_bytes_max: 64 << 10,
        record_bytes_max: 1000,
        ..settings(folder.path())
    };
    let hub = threadline::start(small, Components::system()).unwrap();
    let long = "x".repeat(2000);
    run(async {
        let channel = channel(&hub).await;
        let mut client = LogsServiceClient::new(channel.clone());
        let reply = client.export(logs("shop", &[&long, "fits"])).await.unwrap().into_inner();
        let partial = reply.partial_success.unwrap();
        assert_eq!(partial.rejected_log_records, 1);
        assert!(partial.error_message.contains("1 of 2 records refused"), "{}", partial.error_message);

        let bodies = vec!["many"; 10_000];
        let plain = client.export(logs("shop", &bodies)).await.unwrap_err();
        let mut gzip = LogsServiceClient::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
        let compressed = gzip.export(logs("shop", &bodies)).await.unwrap_err();
        for status in [plain, compressed] {
            assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
            let details = String::from_utf8_lossy(status.details()).into_owned();
            assert!(!details.contains("RetryInfo"), "{details}");
        }

        let mut metrics = MetricsServiceClient::new(channel.clone());
        let points = vec![NumberDataPoint::default(); 3];
        let data = Some(metric::Data::Gauge(Gauge { data_points: points }));
        let scope = ScopeMetrics { metrics: vec![Metric { data, ..Metric::default() }], ..Default::default() };
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics { scope_metrics: vec![scope], ..Default::default() }],
        };
        let partial = metrics.export(request).await.unwrap().into_inner().partial_success.unwrap();
        assert_eq!(partial.rejected_data_points, 3);
        assert!(partial.error_message.contains("not metrics"), "{}", partial.error_message);
    });
    let reply = send("GET", hub.addresses().otlp_grpc, "/", &[], b"");
    assert_eq!(reply.status, 415, "{}", reply.text());
    assert!(reply.text().contains("4318"));
}

#[test]
fn under_pressure_the_code_says_when_to_send_again() {
    let folder = tempfile::tempdir().unwrap();
    let full = threadline::settings::Settings { disk_free_bytes_min: u64::MAX, ..settings(folder.path()) };
    let hub = threadline::start(full, Components::system()).unwrap();
    run(async {
        let mut client = LogsServiceClient::new(channel(&hub).await);
        let status = client.export(logs("shop", &["one"])).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(details.contains("google.rpc.RetryInfo"), "{details}");
    });
}

/// Calls that no generated client makes, by hand.
#[test]
fn calls_that_make_no_sense_get_a_status() {
    use bytes::Bytes;
    use http_body_util::Full;
    let folder = tempfile::tempdir().unwrap();
    let hub = start(folder.path());
    const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    run(async {
        let stream = tokio::net::TcpStream::connect(hub.addresses().otlp_grpc).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut client, connection) =
            hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(executor, io).await.unwrap();
        tokio::spawn(connection);
        for (name, path, encoding, body, code) in [
            ("nothing", EXPORT, "identity", &b""[..], "3"),
            ("cut prefix", EXPORT, "identity", b"\0\0\0", "3"),
            ("cut message", EXPORT, "identity", b"\0\0\0\0\x09abc", "3"),
            ("no protobuf", EXPORT, "identity", b"\0\0\0\0\x03\x0a\x7fa", "3"),
            ("compressed without a name", EXPORT, "identity", b"\x01\0\0\0\x01a", "3"),
            ("no gzip", EXPORT, "gzip", b"\x01\0\0\0\x01a", "3"),
            ("unknown compression", EXPORT, "snappy", b"\x01\0\0\0\x01a", "12"),
            (
                "unknown method",
                "/opentelemetry.proto.collector.logs.v1.LogsService/Import",
                "identity",
                b"",
                "12",
            ),
            ("unknown service", "/x.Y/Export", "identity", b"", "12"),
        ] {
            let request = http::Request::post(format!("http://hub{path}"))
                .header("content-type", "application/grpc")
                .header("grpc-encoding", encoding)
                .header("te", "trailers")
                .body(Full::new(Bytes::from_static(body)))
                .unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200, "{name}");
            let status = response.headers().get("grpc-status").unwrap().to_str().unwrap().to_owned();
            assert_eq!(status, code, "{name}: {:?}", response.headers());
            assert!(response.headers().contains_key("grpc-message"), "{name}");
        }
    });
}
