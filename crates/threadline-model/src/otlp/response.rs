//! The replies: `Export{Logs,Trace,Metrics}ServiceResponse` and `google.rpc.Status`, in protobuf and JSON.

use std::fmt::Write as _;
use std::time::Duration;

use super::Format;
use crate::value::write_str;

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Spans.
    Traces,
    /// Metric data points.
    Metrics,
}

/// A `google.rpc.Status` with the details OTLP uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status<'a> {
    /// gRPC code, such as 3 `INVALID_ARGUMENT`, 8 `RESOURCE_EXHAUSTED`, 14 `UNAVAILABLE`.
    pub code: i32,
    /// What is wrong and what to do.
    pub message: &'a str,
    /// `RetryInfo`: when the client may try again.
    pub retry_delay: Option<Duration>,
    /// `BadRequest`: the field that is wrong, and why.
    pub violation: Option<(&'a str, &'a str)>,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// The reply to an export. It has a `partial_success` when `rejected` is not 0 or `message` not empty (a warning).
pub fn encode_response(format: Format, signal: Signal, rejected: u64, message: &str) -> Vec<u8> {
    let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
    let none = rejected == 0 && message.is_empty();
    match format {
        Format::Protobuf => {
            let mut out = Vec::new();
            if !none {
                let mut partial = Vec::new();
                int_field(&mut partial, 1, rejected);
                bytes_field(&mut partial, 2, message.as_bytes());
                message_field(&mut out, 1, &partial);
            }
            out
        }
        Format::Json if none => b"{}".to_vec(),
        Format::Json => {
            let name = match signal {
                Signal::Logs => "rejectedLogRecords",
                Signal::Traces => "rejectedSpans",
                Signal::Metrics => "rejectedDataPoints",
            };
            let mut out = format!("{{\"partialSuccess\":{{\"{name}\":\"{rejected}\",\"errorMessage\":");
            write_str(&mut out, message);
            out.push_str("}}");
            out.into_bytes()
        }
    }
}

/// The body of a failed HTTP reply, and the `grpc-status-details-bin` of a failed call.
pub fn encode_status(format: Format, status: &Status<'_>) -> Vec<u8> {
    match format {
        Format::Protobuf => status_protobuf(status),
        Format::Json => status_json(status).into_bytes(),
    }
}

fn status_protobuf(status: &Status<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    int_field(&mut out, 1, i64::from(status.code));
    bytes_field(&mut out, 2, status.message.as_bytes());
    let mut detail = |type_url: &str, value: &[u8]| {
        let mut any = Vec::new();
        bytes_field(&mut any, 1, type_url.as_bytes());
        bytes_field(&mut any, 2, value);
        message_field(&mut out, 3, &any);
    };
    if let Some(delay) = status.retry_delay {
        let (mut duration, mut info) = (Vec::new(), Vec::new());
        int_field(&mut duration, 1, i64::try_from(delay.as_secs()).unwrap_or(i64::MAX));
        int_field(&mut duration, 2, i64::from(delay.subsec_nanos()));
        message_field(&mut info, 1, &duration);
        detail(RETRY_INFO, &info);
    }
    if let Some((field, description)) = status.violation {
        let (mut violation, mut bad) = (Vec::new(), Vec::new());
        bytes_field(&mut violation, 1, field.as_bytes());
        bytes_field(&mut violation, 2, description.as_bytes());
        message_field(&mut bad, 1, &violation);
        detail(BAD_REQUEST, &bad);
    }
    out
}

fn status_json(status: &Status<'_>) -> String {
    let mut out = format!("{{\"code\":{},\"message\":", status.code);
    write_str(&mut out, status.message);
    let mut details = String::new();
    if let Some(delay) = status.retry_delay {
        let (seconds, nanos) = (delay.as_secs(), delay.subsec_nanos());
        let _ = write!(details, "{{\"@type\":\"{RETRY_INFO}\",\"retryDelay\":\"{seconds}");
        if nanos > 0 {
            let _ = write!(details, ".{nanos:09}");
        }
        details.push_str("s\"}");
    }
    if let Some((field, description)) = status.violation {
        if !details.is_empty() {
            details.push(',');
        }
        let _ = write!(details, "{{\"@type\":\"{BAD_REQUEST}\",\"fieldViolations\":[{{\"field\":");
        write_str(&mut details, field);
        details.push_str(",\"description\":");
        write_str(&mut details, description);
        details.push_str("}]}");
    }
    if !details.is_empty() {
        let _ = write!(out, ",\"details\":[{details}]");
    }
    out.push('}');
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of type int32 or int64; left out when 0.
fn int_field(out: &mut Vec<u8>, number: u8, value: i64) {
    if value != 0 {
        out.push(number << 3);
        varint(out, value as u64);
    }
}

/// A field of type string or bytes; left out when empty.
fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        message_field(out, number, bytes);
    }
}

fn message_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
    use prost::Message as _;

    #[test]
    fn a_response_reads_back() {
        for (rejected, message) in [(0, ""), (0, "careful"), (3, "é \"bad\""), (u64::MAX, "x")] {
            let bytes = encode_response(Format::Protobuf, Signal::Logs, rejected, message);
            let json = encode_response(Format::Json, Signal::Logs, rejected, message);
            let read = ExportLogsServiceResponse::decode(bytes.as_slice()).unwrap();
            let read = read.partial_success.map(|p| (p.rejected_log_records, p.error_message));
            let want = (rejected > 0 || !message.is_empty())
                .then(|| (i64::try_from(rejected).unwrap_or(i64::MAX), message.to_owned()));
            assert_eq!(read, want);
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let read = json.get("partialSuccess").map(|p| {
                let count = p["rejectedLogRecords"].as_str().unwrap().parse().unwrap();
                (count, p["errorMessage"].as_str().unwrap().to_owned())
            });
            assert_eq!(read, want);
        }
    }

    #[test]
    fn a_status_has_its_details() {
        let status = Status {
            code: 14,
            message: "disk is \"slow\"",
            retry_delay: Some(Duration::from_millis(1500)),
            violation: Some(("resource_logs[0]", "cut off")),
        };
        let json = String::from_utf8(encode_status(Format::Json, &status)).unwrap();
        assert_eq!(
            json,
            "{\"code\":14,\"message\":\"disk is \\\"slow\\\"\",\"details\":[\
             {\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"1.500000000s\"},\
             {\"@type\":\"type.googleapis.com/google.rpc.BadRequest\",\"fieldViolations\":[\
             {\"field\":\"resource_logs[0]\",\"description\":\"cut off\"}]}]}"
        );
        let bytes = encode_status(Format::Protobuf, &status);
        let mut want = vec![0x08, 14, 0x12, 14];
        want.extend(b"disk is \"slow\"");
        want.extend([0x1a, 54, 0x0a, 40]);
        want.extend(RETRY_INFO.as_bytes());
        want.extend([0x12, 10, 0x0a, 8, 0x08, 1, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]);
        assert_eq!(bytes.get(..want.len()).unwrap(), want);
        assert_eq!(
            encode_status(Format::Json, &Status { code: 3, message: "m", ..Status::default() }),
            b"{\"code\":3,\"message\":\"m\"}"
        );
    }
}
