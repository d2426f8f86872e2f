//! Counters of what the hub does, for `/metrics` and `/api/v1/stats`. Lock-free; nothing here fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use threadline_model::otlp::Signal;

use crate::door::meters::DoorMeters;

/// All signals of OTLP.
pub(crate) const SIGNALS: [Signal; 3] = [Signal::Logs, Signal::Traces, Signal::Metrics];

/// Name of a signal, as in OTLP's paths.
pub(crate) fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::Logs => "logs",
        Signal::Traces => "traces",
        Signal::Metrics => "metrics",
    }
}

/// How a request with records came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
    /// JSON lines over HTTP. Such a request may hold records of both tables; all but its records count as logs.
    Jsonl,
}

impl Transport {
    /// All transports.
    pub(crate) const ALL: [Transport; 3] = [Transport::Grpc, Transport::Http, Transport::Jsonl];

    /// Name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Grpc => "grpc",
            Transport::Http => "http",
            Transport::Jsonl => "jsonl",
        }
    }
}

/// How a request with records ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestEnd {
    /// Success, partial or full.
    Kept,
    /// The client must change it: malformed, wrong type, too large, not allowed.
    Rejected,
    /// The client may send it again: pressure.
    Busy,
    /// The client may send it again: the store failed or the hub is stopping.
    Unavailable,
}

impl RequestEnd {
    /// All ends.
    pub(crate) const ALL: [RequestEnd; 4] =
        [RequestEnd::Kept, RequestEnd::Rejected, RequestEnd::Busy, RequestEnd::Unavailable];

    /// Name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RequestEnd::Kept => "kept",
            RequestEnd::Rejected => "rejected",
            RequestEnd::Busy => "busy",
            RequestEnd::Unavailable => "unavailable",
        }
    }
}

/// Kinds of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryKind {
    Search,
    Count,
    Histogram,
    Fields,
    Values,
    Sql,
    Traces,
    Trace,
    Services,
    Erase,
    Backtest,
    Incidents,
}

impl QueryKind {
    /// All kinds.
    pub(crate) const ALL: [QueryKind; 12] = [
        QueryKind::Search,
        QueryKind::Count,
        QueryKind::Histogram,
        QueryKind::Fields,
        QueryKind::Values,
        QueryKind::Sql,
        QueryKind::Traces,
        QueryKind::Trace,
        QueryKind::Services,
        QueryKind::Erase,
        QueryKind::Backtest,
        QueryKind::Incidents,
    ];

    /// Name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            QueryKind::Search => "search",
            QueryKind::Count => "count",
            QueryKind::Histogram => "histogram",
            QueryKind::Fields => "fields",
            QueryKind::Values => "values",
            QueryKind::Sql => "sql",
            QueryKind::Traces => "traces",
            QueryKind::Trace => "trace",
            QueryKind::Services => "services",
            QueryKind::Erase => "erase",
            QueryKind::Backtest => "backtest",
            QueryKind::Incidents => "incidents",
        }
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, µs.
pub(crate) const LATENCY_BOUNDS_US: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// Latencies in fixed buckets.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    buckets: [Counter; LATENCY_BOUNDS_US.len()],
    count: Counter,
    sum_us: Counter,
}

impl Latencies {
    /// Adds one latency.
    pub(crate) fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some((_, bucket)) = LATENCY_BOUNDS_US.iter().zip(&self.buckets).find(|(bound, _)| us <= **bound)
        {
            bucket.add(1);
        }
        self.count.add(1);
        self.sum_us.add(us);
    }

    /// (Bound in µs, latencies up to it), ascending.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sum = 0;
        LATENCY_BOUNDS_US.iter().zip(&self.buckets).map(move |(bound, bucket)| {
            sum += bucket.get();
            (*bound, sum)
        })
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Their sum, µs.
    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }
}

/// Counters of one signal over one transport.
#[derive(Debug, Default)]
pub(crate) struct IntakeMeters {
    /// Requests by how they ended.
    pub(crate) requests: [Counter; RequestEnd::ALL.len()],
    /// Records kept. Records of a batch that was kept before are not counted again.
    pub(crate) records: Counter,
    /// Records refused by partial success.
    pub(crate) refused: Counter,
    /// Bytes received, compressed as they came.
    pub(crate) bytes_received: Counter,
    /// Bytes after decompression.
    pub(crate) bytes_decoded: Counter,
}

/// Counters of one kind of query.
#[derive(Debug, Default)]
pub(crate) struct QueryMeters {
    /// Time until the answer was complete.
    pub(crate) latency: Latencies,
    /// Queries that ended with an error.
    pub(crate) errors: Counter,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Meters {
    started: Instant,
    intake: [[IntakeMeters; Transport::ALL.len()]; SIGNALS.len()],
    queries: [QueryMeters; QueryKind::ALL.len()],
    /// From a request's last byte until its records are synced.
    pub(crate) append_latency: Latencies,
    /// Queries refused because too many were waiting.
    pub(crate) queries_refused: Counter,
    /// Tails opened.
    pub(crate) tails: Counter,
    /// Who came to the door.
    pub(crate) door: DoorMeters,
}

impl Meters {
    /// All zero.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            intake: Default::default(),
            queries: Default::default(),
            append_latency: Latencies::default(),
            queries_refused: Counter::default(),
            tails: Counter::default(),
            door: DoorMeters::default(),
        }
    }

    /// Time since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counters of a signal over a transport.
    pub(crate) fn intake(&self, signal: Signal, transport: Transport) -> &IntakeMeters {
        // Both are fieldless enums whose discriminants count from 0 to below the array's length.
        &self.intake[signal as usize][transport as usize]
    }

    /// Counters of a kind of query.
    pub(crate) fn query(&self, kind: QueryKind) -> &QueryMeters {
        &self.queries[kind as usize]
    }

    /// Counts a finished request.
    pub(crate) fn request(&self, signal: Signal, transport: Transport, end: RequestEnd) {
        self.intake(signal, transport).requests[end as usize].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_cumulative_buckets() {
        let latencies = Latencies::default();
        for ms in [0, 1, 2, 3, 40, 100_000] {
            latencies.record(Duration::from_millis(ms));
        }
        let buckets: Vec<u64> = latencies.cumulative().map(|(_, n)| n).collect();
        assert_eq!(buckets, [2, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5]);
        assert_eq!(latencies.count(), 6);
        assert_eq!(latencies.sum_us(), 100_046_000);
    }
}
