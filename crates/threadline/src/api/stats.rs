//! `/api/v1/stats`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use threadline_store::{Options, TableStats};

use super::Api;
use crate::rows::time_text;

/// What the store holds and has done.
pub(crate) fn stats(api: &Arc<Api>) -> Response<Body> {
    let stats = api.store.stats();
    let answer = json!({
        "tables": {"logs": table(&stats.logs), "spans": table(&stats.spans)},
        "last_seq": stats.last_seq,
        "appends": stats.appends,
        "rows": stats.rows,
        "duplicates": stats.duplicates,
        "syncs": stats.syncs,
        "wal_bytes": stats.wal_bytes,
        "wal_disk_bytes": stats.wal_disk_bytes,
        "seals": stats.seals,
        "compactions": stats.compactions,
        "deleted_rows": stats.deleted_rows,
        "merkle_leaves": stats.merkle_leaves,
        "uptime_s": api.meters.uptime().as_secs_f64(),
        "addresses": {
            "otlp_grpc": api.addresses.otlp_grpc.to_string(),
            "otlp_http": api.addresses.otlp_http.to_string(),
            "api": api.addresses.api.to_string(),
        },
        "version": env!("CARGO_PKG_VERSION"),
        "limits": limits(api.store.options()),
    });
    super::json(StatusCode::OK, &answer)
}

/// What is deleted, and when nothing more is taken.
fn limits(options: &Options) -> Value {
    let rules = options.retention.iter().map(|rule| {
        json!({
            "table": rule.table.map(|table| table.name()),
            "service": rule.service,
            "event": rule.event,
            "age_max_s": rule.age_max.as_secs(),
        })
    });
    json!({
        "retention": rules.collect::<Vec<_>>(),
        "sealed_bytes_max": options.sealed_bytes_max,
        "disk_free_bytes_min": options.disk_free_bytes_min,
    })
}

fn table(table: &TableStats) -> Value {
    json!({
        "rows": table.memory_rows + table.sealed_rows,
        "memory_rows": table.memory_rows,
        "sealed_rows": table.sealed_rows,
        "files": table.files,
        "draft_files": table.draft_files,
        "sealed_bytes": table.sealed_bytes,
        "from": table.ts.map(|(from, _)| time_text(from)),
        "to": table.ts.map(|(_, to)| time_text(to)),
        "evolved_columns": table.evolved_columns,
    })
}
