//! SQL over `logs` and `spans`: read-only, time-bounded, memory-capped, cancellable. docs/sql.md is its manual.
//!
//! The tables are read from memory and sealed files as the query goes, on two partitions; conditions on time, service,
//! severity, trace id and sequence number, and those inside `matches('…')`, leave out files and pages. DataFusion then
//! evaluates every condition itself, so leaving out is only a matter of speed.

mod functions;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream};
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use futures::stream::BoxStream;
use threadline_model::schema::Table;
use threadline_store::Snapshot;

use crate::search::TimeRange;
use crate::{Guard, QueryError};

/// Bytes of a statement at most.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Partitions of a query: how many cores it may use.
const PARTITIONS: usize = 2;

/// An answer as it is made.
pub struct SqlAnswer {
    /// Columns.
    pub schema: SchemaRef,
    /// Batches. Dropping it ends the query.
    pub batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

/// Runs one SELECT (or EXPLAIN) over a snapshot. `range` bounds the event times of both tables.
///
/// # Errors
/// A statement that does not parse, does more than read, or names what does not exist. What goes wrong while reading
/// comes out of the stream, as its last item.
pub async fn sql(
    snapshot: Snapshot,
    text: &str,
    range: TimeRange,
    guard: Guard,
) -> Result<SqlAnswer, QueryError> {
    guard.check()?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(QueryError::Invalid(format!("a statement has {TEXT_BYTES_MAX} bytes at most")));
    }
    let context = context(&snapshot, range, &guard).map_err(of_datafusion)?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let plan = async { context.sql_with_options(text, options).await?.execute_stream().await };
    let stream = bounded(&guard, plan).await?.map_err(of_datafusion)?;
    Ok(SqlAnswer { schema: stream.schema(), batches: guarded(stream, guard) })
}

fn context(snapshot: &Snapshot, range: TimeRange, guard: &Guard) -> Result<SessionContext, DataFusionError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(guard.memory_bytes_max, 1.0)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let config = SessionConfig::new().with_target_partitions(PARTITIONS).with_information_schema(true);
    let mut context = SessionContext::new_with_config_rt(config, runtime);
    for table in Table::ALL {
        let provider = table::Provider::new(snapshot.table(table), table, range, guard.clone());
        context.register_table(table.name(), Arc::new(provider))?;
    }
    for function in functions::all() {
        context.register_udf(function);
    }
    context.register_function_rewrite(Arc::new(functions::BindColumns))?;
    Ok(context)
}

/// Waits for a future until the guard's deadline.
async fn bounded<T>(guard: &Guard, future: impl Future<Output = T>) -> Result<T, QueryError> {
    match guard.deadline {
        None => Ok(future.await),
        Some(deadline) => {
            tokio::time::timeout_at(deadline.into(), future).await.map_err(|_| QueryError::Timeout)
        }
    }
}

/// The stream up to its first error, with the guard looked at before each batch.
fn guarded(
    stream: SendableRecordBatchStream,
    guard: Guard,
) -> BoxStream<'static, Result<RecordBatch, QueryError>> {
    futures::stream::unfold(Some((stream, guard)), |state| async {
        let (mut stream, guard) = state?;
        let next = match guard.check() {
            Err(error) => Err(error),
            Ok(()) => match bounded(&guard, stream.next()).await {
                Ok(None) => return None,
                Ok(Some(batch)) => batch.map_err(of_datafusion),
                Err(error) => Err(error),
            },
        };
        match next {
            Ok(batch) => Some((Ok(batch), Some((stream, guard)))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// What a failure means for the caller.
fn of_datafusion(error: DataFusionError) -> QueryError {
    let error = match error {
        DataFusionError::External(cause) => match cause.downcast::<QueryError>() {
            Ok(cause) => return *cause,
            Err(cause) => DataFusionError::External(cause),
        },
        DataFusionError::Context(_, cause) | DataFusionError::Diagnostic(_, cause) => {
            return of_datafusion(*cause);
        }
        DataFusionError::Collection(causes) if !causes.is_empty() => {
            return causes
                .into_iter()
                .next()
                .map_or_else(|| QueryError::Internal(String::new()), of_datafusion);
        }
        other => other,
    };
    if let DataFusionError::External(cause) = error.find_root()
        && let Some(cause) = cause.downcast_ref::<QueryError>()
    {
        return match cause {
            QueryError::Timeout => QueryError::Timeout,
            QueryError::Cancelled => QueryError::Cancelled,
            QueryError::Invalid(detail) => QueryError::Invalid(detail.clone()),
            QueryError::TooExpensive(detail) => QueryError::TooExpensive(detail.clone()),
            other => QueryError::Internal(other.to_string()),
        };
    }
    let detail = error.strip_backtrace();
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => QueryError::TooExpensive(format!(
            "the query needs more memory than it may have: narrow its time range, or select and group less ({detail})"
        )),
        DataFusionError::Internal(_) | DataFusionError::External(_) | DataFusionError::IoError(_) => {
            QueryError::Internal(detail)
        }
        _ => QueryError::Invalid(detail),
    }
}
