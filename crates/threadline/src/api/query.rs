//! Searches, histograms, fields, traces and services.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use threadline_model::id::TraceId;
use threadline_model::trace;
use threadline_query::aggregate::{self, HistogramRequest};
use threadline_query::counts;
use threadline_query::search::{self, Cursor, Order, SearchRequest};
use threadline_query::source::scope_of;
use threadline_query::traces::{self, RedRequest, TraceSearch, TraceStatus};
use threadline_store::Scope;

use super::params::Params;
use super::problem::Problem;
use super::{Api, counted, decoded, json as reply, text};
use crate::meters::QueryKind;
use crate::rows::{RowWriter, push_time};
use crate::trace_view;

/// `GET /api/v1/search`.
pub(crate) async fn search(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let table = params.table()?;
    let after = params
        .text("cursor")
        .map(|text| Cursor::decode(text).ok_or_else(|| Problem::parameter("cursor", "is none that a row had")));
    let request = SearchRequest {
        table,
        expr: params.search()?,
        range: params.range()?,
        limit: params.integer("limit")?,
        after: after.transpose()?,
        order: match params.choice("order")? {
            Some("oldest") => Order::Oldest,
            _ => Order::Newest,
        },
        columns: None,
    };
    let cursors = params.flag("cursors")?;
    let store = api.store.clone();
    let streamed = api.gate.stream(QueryKind::Search, move |guard, lines| {
        for batch in search::search(&store.snapshot_of(scope_of(&request.expr)), &request, guard)? {
            let batch = batch?;
            let writer = RowWriter::new(table, &batch).with_cursor(cursors);
            for row in 0..batch.num_rows() {
                writer.row(row, lines.text());
                lines.text().push('\n');
                lines.flush_if(false)?;
            }
            lines.flush_if(true)?;
        }
        Ok(())
    });
    streamed.await
}

/// A time as JSON; `null` beyond what RFC 3339 can say is not needed: the store's times lie within.
fn time(us: i64) -> serde_json::Value {
    let mut quoted = String::new();
    push_time(&mut quoted, us, None);
    quoted.trim_matches('"').into()
}

/// `GET /api/v1/histogram`.
pub(crate) async fn histogram(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let interval_us = params.duration_ns("interval")?.map(|ns| ns / 1000);
    if interval_us == Some(0) {
        return Err(Problem::parameter("interval", "must be a microsecond or more"));
    }
    let request = HistogramRequest {
        table: params.table()?,
        expr: params.search()?,
        range: params.range()?,
        interval_us,
        by: params.text("by").map(str::to_owned),
        series_max: params.integer("series")?,
    };
    let store = api.store.clone();
    let run = api.gate.run(QueryKind::Histogram, move |guard| {
        aggregate::histogram(&store.snapshot_of(scope_of(&request.expr)), &request, guard)
    });
    let histogram = run.await?;
    Ok(counted(text("application/json", histogram_json(&histogram)), histogram.series.len()))
}

/// A histogram as JSON. Its counts are many, and most of them zero: they are written by hand.
fn histogram_json(histogram: &aggregate::Histogram) -> String {
    let numbers: usize = histogram.series.iter().map(|series| series.counts.len()).sum();
    let mut out = String::with_capacity(256 + numbers * 3);
    let head = json!({
        "start": time(histogram.start_us),
        "start_us": histogram.start_us,
        "interval_us": histogram.interval_us,
        "buckets": histogram.buckets,
        "total": histogram.total,
    });
    out.push_str(head.to_string().trim_end_matches('}'));
    out.push_str(r#","series":["#);
    let mut digits = itoa::Buffer::new();
    for (index, series) in histogram.series.iter().enumerate() {
        out.push_str(if index == 0 { r#"{"value":"# } else { r#",{"value":"# });
        out.push_str(&json!(series.value).to_string());
        out.push_str(r#","counts":["#);
        for (index, count) in series.counts.iter().enumerate() {
            match (index, count) {
                (0, count) => out.push_str(digits.format(*count)),
                (_, 0) => out.push_str(",0"),
                (_, count) => {
                    out.push(',');
                    out.push_str(digits.format(*count));
                }
            }
        }
        out.push_str(if series.other { r#"],"other":true}"# } else { "]}" });
    }
    out.push_str("]}");
    out
}

/// `GET /api/v1/count`.
pub(crate) async fn count(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let (table, expr, range) = (params.table()?, params.search()?, params.range()?);
    let store = api.store.clone();
    let run = api.gate.run(QueryKind::Count, move |guard| {
        counts::count(&store.snapshot_of(scope_of(&expr)), table, &expr, range, guard)
    });
    Ok(reply(StatusCode::OK, &json!({"count": run.await?})))
}

/// `GET /api/v1/fields/{name}/distinct`.
pub(crate) async fn distinct(api: &Arc<Api>, params: &Params, name: &str) -> Result<Response<Body>, Problem> {
    let name = decoded("name", name)?;
    let (table, expr, range) = (params.table()?, params.search()?, params.range()?);
    let store = api.store.clone();
    let run = api.gate.run(QueryKind::Count, move |guard| {
        counts::distinct(&store.snapshot_of(scope_of(&expr)), table, &name, &expr, range, guard)
    });
    Ok(reply(StatusCode::OK, &json!({"count": run.await?})))
}

/// `GET /api/v1/red`.
pub(crate) async fn red(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let request = RedRequest {
        expr: params.search()?,
        range: params.range()?,
        interval_us: params.duration_ns("interval")?.map(|ns| ns / 1000),
    };
    let store = api.store.clone();
    let run = api.gate.run(QueryKind::Histogram, move |guard| {
        traces::red(&store.snapshot_of(scope_of(&request.expr)), &request, guard)
    });
    let red = run.await?;
    let services = red.services.iter().map(|service| RedServiceWire {
        service: service.service.as_deref(),
        bucket: service.points.iter().map(|point| point.bucket).collect(),
        count: service.points.iter().map(|point| point.count).collect(),
        errors: service.points.iter().map(|point| point.errors).collect(),
        p50_ns: service.points.iter().map(|point| point.p50_ns).collect(),
        p95_ns: service.points.iter().map(|point| point.p95_ns).collect(),
        p99_ns: service.points.iter().map(|point| point.p99_ns).collect(),
    });
    let answer = RedWire {
        start: time(red.start_us),
        start_us: red.start_us,
        interval_us: red.interval_us,
        buckets: red.buckets,
        services: services.collect(),
    };
    let rows = answer.services.len();
    Ok(counted(reply(StatusCode::OK, &answer), rows))
}

#[derive(Serialize)]
struct RedWire<'a> {
    start: serde_json::Value,
    start_us: i64,
    interval_us: i64,
    buckets: usize,
    services: Vec<RedServiceWire<'a>>,
}

/// Figures of a service, bucket by bucket; buckets without spans are left out.
#[derive(Serialize)]
struct RedServiceWire<'a> {
    service: Option<&'a str>,
    bucket: Vec<usize>,
    count: Vec<u64>,
    errors: Vec<u64>,
    p50_ns: Vec<i64>,
    p95_ns: Vec<i64>,
    p99_ns: Vec<i64>,
}

/// `GET /api/v1/fields`.
pub(crate) async fn fields(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let (table, expr, range) = (params.table()?, params.search()?, params.range()?);
    let store = api.store.clone();
    let run = api.gate.run(QueryKind::Fields, move |guard| {
        aggregate::fields(&store.snapshot_of(scope_of(&expr)), table, &expr, range, guard)
    });
    let fields: Vec<_> = run
        .await?
        .into_iter()
        .map(|field| json!({"name": field.name, "type": field.field_type, "rows": field.rows}))
        .collect();
    Ok(counted(reply(StatusCode::OK, &json!({"fields": fields})), fields.len()))
}

/// `GET /api/v1/fields/{name}/values`.
pub(crate) async fn field_values(
    api: &Arc<Api>,
    params: &Params,
    name: &str,
) -> Result<Response<Body>, Problem> {
    let name = decoded("name", name)?;
    let (table, expr, range) = (params.table()?, params.search()?, params.range()?);
    let limit = params.integer("limit")?;
    let store = api.store.clone();
    let field = name.clone();
    let run = api.gate.run(QueryKind::Values, move |guard| {
        aggregate::field_values(&store.snapshot_of(scope_of(&expr)), table, &field, &expr, range, limit, guard)
    });
    let values: Vec<_> =
        run.await?.into_iter().map(|(value, rows)| json!({"value": value, "rows": rows})).collect();
    Ok(counted(reply(StatusCode::OK, &json!({"name": name, "values": values})), values.len()))
}

/// `GET /api/v1/traces`.
pub(crate) async fn traces(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let search = TraceSearch {
        service: params.text("service").map(str::to_owned),
        operation: params.text("operation").map(str::to_owned),
        duration_min_ns: params.duration_ns("duration_min")?,
        duration_max_ns: params.duration_ns("duration_max")?,
        status: params.choice("status")?.map(|status| match status {
            "error" => TraceStatus::Error,
            _ => TraceStatus::Ok,
        }),
        expr: params.search()?,
        range: params.range()?,
        limit: params.integer("limit")?,
    };
    let scope = match params.scope()? {
        Scope::All => Scope::All,
        Scope::Regular => scope_of(&search.expr),
    };
    let store = api.store.clone();
    let run = api
        .gate
        .run(QueryKind::Traces, move |guard| traces::search_traces(&store.snapshot_of(scope), &search, guard));
    let traces = run.await?;
    Ok(counted(reply(StatusCode::OK, &trace_view::traces_wire(&traces)), traces.len()))
}

/// `GET /api/v1/traces/{trace_id}`.
pub(crate) async fn trace(api: &Arc<Api>, params: &Params, id: &str) -> Result<Response<Body>, Problem> {
    let id = TraceId::from_hex(id)
        .ok_or_else(|| Problem::parameter("trace_id", "must be 32 hex digits that are not all zero"))?;
    let (store, scope) = (api.store.clone(), params.scope()?);
    let run = api.gate.run(QueryKind::Trace, move |guard| {
        let records = traces::trace(&store.snapshot_of(scope), id, guard)?;
        let view = records.view(id, trace::Limits::default());
        let rows = view.nodes.len() + view.logs.len();
        Ok((!view.is_empty()).then(|| (trace_view::trace_wire(&view), rows)))
    });
    match run.await? {
        Some((trace, rows)) => Ok(counted(reply(StatusCode::OK, &trace), rows)),
        None => Err(Problem::not_found(format!("no span and no log has the trace id {id}"))),
    }
}

/// `GET /api/v1/services`.
pub(crate) async fn services(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    let (range, scope) = (params.range()?, params.scope()?);
    let store = api.store.clone();
    let run = api
        .gate
        .run(QueryKind::Services, move |guard| traces::services(&store.snapshot_of(scope), range, guard));
    let graph = run.await?;
    Ok(counted(reply(StatusCode::OK, &trace_view::services_wire(&graph)), graph.services.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_written_as_it_is() {
        let series = |value: Option<&str>, other, counts: &[u64]| aggregate::Series {
            value: value.map(str::to_owned),
            other,
            counts: counts.to_vec(),
        };
        let all = vec![
            series(Some("a \"b\"\n"), false, &[0, 0, 12, 0]),
            series(None, false, &[7, 0, 0, u64::MAX]),
            series(None, true, &[]),
        ];
        for series in [all, Vec::new()] {
            let histogram = aggregate::Histogram {
                interval_us: 60,
                start_us: 1_700_000_000_000_000,
                buckets: 4,
                series,
                total: 9,
            };
            let wire = |series: &aggregate::Series| {
                let mut wire = json!({"value": series.value, "counts": series.counts});
                if series.other {
                    wire["other"] = true.into();
                }
                wire
            };
            let want = json!({
                "start": time(histogram.start_us),
                "start_us": histogram.start_us,
                "interval_us": 60,
                "buckets": 4,
                "total": 9,
                "series": histogram.series.iter().map(wire).collect::<Vec<_>>(),
            });
            let text = histogram_json(&histogram);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), want, "{text}");
        }
    }
}
