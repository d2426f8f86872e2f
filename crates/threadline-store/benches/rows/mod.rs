//! Rows like those of a microservice benchmark: 27 services with two pods each, 40 logs a trace, in order of time,
//! bodies of about 300 bytes with the row's own ids.

#![allow(dead_code, reason = "not every bench needs all of it")]

use std::sync::Arc;

use arrow_array::RecordBatch;
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{LogView, ResourceView};
use threadline_model::schema::Layout;
use threadline_model::value::Value;

/// Time of the first row, ns: a minute into an hour.
pub(crate) const TIME: u64 = 1_674_979_260_000_000_000;

/// Spreads a number over 64 bits.
pub(crate) fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The trace of row `n`: 64 traces are under way at a time.
pub(crate) fn trace(n: u64) -> TraceId {
    let trace = n / (64 * 40) * 64 + mix(n) % 64 + 1;
    TraceId(((u128::from(mix(trace)) << 64) | u128::from(mix(trace ^ 0x55aa))).to_be_bytes())
}

/// Rows `from..from + rows` as one batch.
pub(crate) fn batch(layout: &Arc<Layout>, from: u64, rows: u64) -> RecordBatch {
    let arrival = (TIME / 1000) as i64 + 1_800_000_000;
    let mut builder = BatchBuilder::new(Arc::clone(layout), arrival, RecordLimits::default());
    // As a collector sends them: grouped by resource, a few rows each.
    let mut body = String::new();
    for n in from..from + rows {
        if (n - from).is_multiple_of(8) {
            resource(&mut builder, mix(n / 8) % 54);
        }
        push(&mut builder, n, mix(n / 8) % 54, &mut body);
    }
    builder.finish().expect("columns").expect("rows")
}

fn resource(builder: &mut BatchBuilder, pod: u64) {
    let (service, node) = (format!("ts-{}-service", pod / 2), format!("cn-beijing.10.0.0.{}", pod % 9));
    let pod = format!("ts-{}-service-5c95b49cff-tds{:02}", pod / 2, pod);
    builder.set_resource(&ResourceView {
        attributes: &[
            ("service.name", Value::Str(&service)),
            ("k8s.pod.name", Value::Str(&pod)),
            ("k8s.node.name", Value::Str(&node)),
        ],
        ..ResourceView::default()
    });
}

fn push(builder: &mut BatchBuilder, n: u64, pod: u64, body: &mut String) {
    use std::fmt::Write as _;
    let (trace, span) = (trace(n), SpanId(mix(n + 1).to_be_bytes()));
    let (x, y) = (mix(n + 7), mix(n + 8));
    body.clear();
    let time = format!("2023-01-29 {:02}:{:02}:{:02}.{:03}", x % 24, n / 60_000 % 60, n / 1000 % 60, n % 1000);
    // Half of the bodies are short and a third is long, as in the real set.
    let _ = match x % 6 {
        0..=2 => write!(
            body,
            "{time}  INFO [ts-{}-service,{trace},{span},true] 1 --- [http-nio-{}-exec-{}] t.s.S{}ServiceImpl : \
             [getLeftTicketOfInterval][Get left tickets][result is {y:x}]",
            pod / 2,
            10_000 + pod,
            y % 40,
            x % 97
        ),
        3 => write!(
            body,
            "{{\"level\":\"debug\",\"time\":\"{time}\",\"traceId\":\"{trace}\",\"spanId\":\"{span}\",\"msg\":\"cache miss\",\
             \"key\":\"order:{}:{}\",\"ttl\":{},\"shard\":{},\"elapsed\":\"{}.{:03}ms\"}}",
            y % 100_000,
            x % 1000,
            y % 3600,
            x % 16,
            y % 90,
            x % 1000
        ),
        _ => write!(
            body,
            "{time} INFO TraceID: {trace} SpanID: {span} [queryForStation][Response(status=1, msg=Success, \
             data=[Order(id={:08x}-{:04x}-{:04x}, boughtDate={}, travelDate={}, accountId={:016x}, contactsName=Contacts_{}, \
             documentType={}, trainNumber=G{}, coachNumber={}, seatClass={}, seatNumber={}, from=Shang Hai, to=Su Zhou, \
             status={}, price={}.{:02})])] headers=[x-content-type-options:\"nosniff\", x-xss-protection:\"1; mode=block\", \
             cache-control:\"no-cache, no-store, max-age=0, must-revalidate\"]",
            x >> 32,
            x & 0xffff,
            y & 0xffff,
            1_674_000_000 + x % 900_000,
            1_675_000_000 + y % 900_000,
            mix(y),
            x % 700,
            y % 3,
            y % 9000,
            x % 12,
            y % 4,
            y % 200,
            x % 7,
            y % 900,
            x % 100
        ),
    };
    let log = LogView {
        // In order, now and then a little late.
        time_unix_nano: TIME + n * 50_001 - if n.is_multiple_of(17) { 3_000_000 } else { 0 },
        observed_time_unix_nano: TIME + n * 50_001 + 1_000_003,
        severity_number: 9,
        severity_text: "INFO",
        trace_id: Some(trace),
        span_id: Some(span),
        flags: 1,
        body: Value::Str(body),
        ..LogView::default()
    };
    builder.push_log(&log, 0).expect("within limits");
}
