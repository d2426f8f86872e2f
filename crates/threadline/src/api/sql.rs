//! SQL over HTTP: rows as lines of JSON, whatever columns the statement has.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use axum::body::Body;
use futures::StreamExt as _;
use http::Response;
use serde::Deserialize;
use threadline_query::search::TimeRange;
use threadline_query::{QueryError, sql};
use threadline_store::Scope;

use super::params::{Params, range};
use super::problem::Problem;
use super::{Api, Document};
use crate::meters::QueryKind;

/// Rows that are made into text at once.
const PIECE_ROWS: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    query: String,
    from: Option<String>,
    to: Option<String>,
    since: Option<String>,
    #[serde(default)]
    quarantined: bool,
}

/// `GET /api/v1/sql`.
pub(crate) async fn get(api: &Arc<Api>, params: &Params) -> Result<Response<Body>, Problem> {
    run(api, params.required("q")?.to_owned(), params.range()?, params.scope()?).await
}

/// `POST /api/v1/sql`.
pub(crate) async fn post(api: &Arc<Api>, body: Document) -> Result<Response<Body>, Problem> {
    let Document { content_type, bytes: body } = body;
    match content_type.as_str() {
        "text/plain" | "application/sql" | "" => {
            let text = String::from_utf8(body).map_err(|_| Problem::body("the statement is no UTF-8"))?;
            run(api, text, TimeRange::default(), Scope::Regular).await
        }
        "application/json" => {
            let asked: SqlRequest =
                serde_json::from_slice(&body).map_err(|error| Problem::body(error.to_string()))?;
            let (from, to, since) = (asked.from.as_deref(), asked.to.as_deref(), asked.since.as_deref());
            let range = range(from, to, since, api.clock.now_us())?;
            let scope = if asked.quarantined { Scope::All } else { Scope::Regular };
            run(api, asked.query, range, scope).await
        }
        other => Err(Problem::content_type(format!(
            "`{other}` is not taken: send the statement as text/plain, or {{\"query\":…}} as application/json"
        ))),
    }
}

async fn run(api: &Arc<Api>, text: String, range: TimeRange, scope: Scope) -> Result<Response<Body>, Problem> {
    let store = api.store.clone();
    let runtime = api.gate.runtime().clone();
    let streamed = api.gate.stream(QueryKind::Sql, move |guard, lines| {
        let mut answer = runtime.block_on(sql::sql(store.snapshot_of(scope), &text, range, guard.clone()))?;
        while let Some(batch) = runtime.block_on(answer.batches.next()) {
            let batch = batch?;
            // In pieces, so that a large batch is not held as text all at once.
            for at in (0..batch.num_rows()).step_by(PIECE_ROWS) {
                write(&batch.slice(at, (batch.num_rows() - at).min(PIECE_ROWS)), lines.text())?;
                lines.flush_if(true)?;
            }
        }
        Ok(())
    });
    streamed.await
}

fn write(batch: &RecordBatch, out: &mut String) -> Result<(), QueryError> {
    let mut writer = WriterBuilder::new().build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner())
        .map_err(|error| QueryError::Internal(format!("an answer's row is no UTF-8: {error}")))?;
    out.push_str(&text);
    Ok(())
}
