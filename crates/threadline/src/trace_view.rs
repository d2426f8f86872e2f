//! How traces, trace lists and the service graph are shown: as JSON, and as text for a terminal.
//!
//! Views of the model and answers of the queries are converted by hand into wire types ([`TraceWire`],
//! [`TracesWire`], [`ServicesWire`]). The API sends them as JSON; the terminal renderer reads only them, so a trace
//! that came over HTTP and one read from a data folder look the same. It does not know HTTP or the command line.
//!
//! In JSON: times are RFC 3339 text with nanoseconds beside Unix nanoseconds as text; durations are ns as numbers;
//! ids are lower-case hex; attributes are typed JSON as in the `attrs` column.

mod terminal;
mod wire;

#[cfg(test)]
mod tests;

pub use terminal::{RenderOptions, render_services, render_trace, render_traces};
pub use wire::{
    AttributesWire, CauseWire, EdgeWire, EventWire, GapsWire, LatencyWire, LinkWire, LogWire, RequestsWire,
    SegmentWire, ServiceNodeWire, ServicePartWire, ServicesWire, SkewWire, SpanWire, SummaryWire, TimeWire,
    TraceWire, TracesWire, services_wire, trace_json, trace_wire, traces_wire,
};
