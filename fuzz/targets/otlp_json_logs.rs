//! `ExportLogsServiceRequest` in OTLP/JSON.
#![no_main]

mod otlp;

use threadline_model::inspect::Unchecked;
use threadline_model::otlp::{Format, decode_logs};
use threadline_model::schema::Table;

libfuzzer_sys::fuzz_target!(|request: &[u8]| {
    otlp::check(Table::Logs, request, |request, builder| {
        decode_logs(Format::Json, request, builder, &mut Unchecked)
    });
});
