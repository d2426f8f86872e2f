//! Deletion by a search (GDPR, article 17), recorded.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use threadline_model::schema::Table;
use threadline_query::QueryError;
use threadline_query::lang::Expr;
use threadline_query::search::Matcher;
use threadline_store::StoreError;

use super::params::parse_search;
use super::problem::Problem;
use super::{Api, Document, counted, json as reply};
use crate::door::caller::Caller;
use crate::meters::QueryKind;

/// Characters of `reason` and of `who`.
const WORDS_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EraseRequest {
    table: String,
    query: String,
    reason: String,
    who: String,
}

/// `POST /api/v1/erase`.
pub(crate) async fn erase(api: &Arc<Api>, body: Document, caller: &Caller) -> Result<Response<Body>, Problem> {
    let Document { content_type, bytes: body } = body;
    if content_type != "application/json" {
        return Err(Problem::content_type("send {\"table\",\"query\",\"reason\",\"who\"} as application/json"));
    }
    let asked: EraseRequest =
        serde_json::from_slice(&body).map_err(|error| Problem::body(error.to_string()))?;
    let table =
        Table::parse(&asked.table).ok_or_else(|| Problem::parameter("table", "must be logs or spans"))?;
    for (name, words) in [("reason", &asked.reason), ("who", &asked.who)] {
        if words.trim().is_empty() || words.chars().count() > WORDS_MAX {
            return Err(Problem::parameter(
                name,
                format!("must have 1 to {WORDS_MAX} characters: it is recorded"),
            ));
        }
    }
    let expr = parse_search("query", &asked.query)?;
    if expr == Expr::All {
        return Err(Problem::parameter("query", "is empty, which would delete every row of the table"));
    }
    let record = json!({"who": asked.who, "reason": asked.reason, "query": asked.query, "caller": caller.id()})
        .to_string();
    tracing::info!(table = table.name(), record, "erasing");
    let store = api.store.clone();
    let run = api.gate.run(QueryKind::Erase, move |_| {
        let matcher = Matcher::new(&expr, table)?;
        let erasure = store.erase(
            table,
            &|batch| {
                matcher.matches(batch).map_err(|error| match error {
                    QueryError::Store(error) => error,
                    other => StoreError::Invalid { detail: other.to_string() },
                })
            },
            &record,
        )?;
        Ok(erasure)
    });
    let erasure = run.await?;
    let answer = reply(StatusCode::OK, &json!({"rows": erasure.rows, "files": erasure.files}));
    Ok(counted(answer, usize::try_from(erasure.rows).unwrap_or(usize::MAX)))
}
