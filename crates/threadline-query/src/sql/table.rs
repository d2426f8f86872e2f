//! A table of a snapshot as DataFusion sees it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use threadline_model::columns::Batch;
use threadline_model::id::TraceId;
use threadline_model::schema::Table;
use threadline_store::{Prune, TableSnapshot};

use super::PARTITIONS;
use super::functions::Matches;
use crate::lang;
use crate::matcher::{Mask, prune};
use crate::search::TimeRange;
use crate::source::{Source, sources};
use crate::{Guard, QueryError};

/// Batches read ahead by a partition.
const READ_AHEAD: usize = 2;

/// A table of a snapshot.
pub(super) struct Provider {
    table: Table,
    schema: SchemaRef,
    sources: Vec<Source>,
    range: TimeRange,
    guard: Guard,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table.name())
    }
}

impl Provider {
    pub(super) fn new(snapshot: &TableSnapshot, table: Table, range: TimeRange, guard: Guard) -> Provider {
        Provider { table, schema: snapshot.layout.schema(), sources: sources(snapshot), range, guard }
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let supported = |filter: &&Expr| match condition(filter, self.table) {
            lang::Expr::All => TableProviderFilterPushDown::Unsupported,
            _ => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(supported).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        let conditions = filters.iter().map(|filter| condition(filter, self.table)).collect();
        let prune = prune(&lang::Expr::and(conditions), self.table, self.range);
        let mut parts: Vec<Vec<Source>> = vec![Vec::new(); PARTITIONS];
        let mut left: Vec<&Source> = self.sources.iter().filter(|source| !source.excluded_by(&prune)).collect();
        left.sort_by_key(|source| std::cmp::Reverse(source.rows()));
        for (index, source) in left.into_iter().enumerate() {
            if let Some(part) = parts.get_mut(index % PARTITIONS) {
                part.push(source.clone());
            }
        }
        let partitions = parts.into_iter().map(|sources| {
            Arc::new(Partition {
                sources,
                schema: Arc::clone(&schema),
                prune: prune.clone(),
                range: self.range,
                guard: self.guard.clone(),
            }) as Arc<dyn PartitionStream>
        });
        let plan = StreamingTableExec::try_new(
            Arc::clone(&schema),
            partitions.collect(),
            None,
            std::iter::empty::<datafusion::physical_expr::LexOrdering>(),
            false,
            limit,
        )?;
        Ok(Arc::new(plan))
    }
}

/// Some sources of a table, read one after the other.
#[derive(Clone)]
struct Partition {
    sources: Vec<Source>,
    schema: SchemaRef,
    prune: Prune,
    range: TimeRange,
    guard: Guard,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sources", self.sources.len())
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD);
        let partition = self.clone();
        tokio::task::spawn_blocking(move || {
            let send = |batch| sender.blocking_send(batch).is_ok();
            if let Err(error) = partition.read(|batch| send(Ok(batch))) {
                send(Err(DataFusionError::External(Box::new(error))));
            }
        });
        let batches = futures::stream::unfold(receiver, |mut receiver| async {
            let batch: Result<RecordBatch, DataFusionError> = receiver.recv().await?;
            Some((batch, receiver))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

impl Partition {
    /// Reads until the end, or until `send` says that nobody listens any more.
    fn read(&self, send: impl Fn(RecordBatch) -> bool) -> Result<(), QueryError> {
        for source in &self.sources {
            let within = source.is_within(self.range);
            let mut columns: Vec<&str> =
                self.schema.fields().iter().map(|field| field.name().as_str()).collect();
            // For the bounds, and for the number of rows when no column is wanted.
            if (!within || columns.is_empty()) && !columns.contains(&"ts") {
                columns.push("ts");
            }
            for batch in source.scan(Some(&columns), &self.prune)? {
                self.guard.check()?;
                let batch = if within { batch? } else { in_range(&batch?, self.range)? };
                if batch.num_rows() > 0 && !send(fitted(&batch, &self.schema)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn in_range(batch: &RecordBatch, range: TimeRange) -> Result<RecordBatch, QueryError> {
    let ts = Batch::new(batch).int("ts");
    let mut rows = Mask::all(batch.num_rows());
    rows.retain(|row| ts.get(row).is_some_and(|ts| range.contains(ts)));
    if rows.count() == batch.num_rows() {
        return Ok(batch.clone());
    }
    Ok(arrow_select::filter::filter_record_batch(batch, &rows.to_array())?)
}

/// The batch with exactly the columns of the schema; those it lacks are null.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, QueryError> {
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(array) => Arc::clone(array),
            None => new_null_array(field.data_type(), batch.num_rows()),
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// What every row fulfils that fulfils the filter, as far as the search language can say it; else everything.
fn condition(filter: &Expr, table: Table) -> lang::Expr {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            lang::Expr::and(vec![condition(left, table), condition(right, table)])
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            lang::Expr::or(vec![condition(left, table), condition(right, table)])
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, literal) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(literal, _)) => (column, *op, literal),
                (Expr::Literal(literal, _), Expr::Column(column)) => {
                    let Some(op) = op.swap() else { return lang::Expr::All };
                    (column, op, literal)
                }
                _ => return lang::Expr::All,
            };
            comparison(&column.name, op, literal).unwrap_or_default()
        }
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = list.expr.as_ref() else { return lang::Expr::All };
            let one_of = list.list.iter().map(|item| match item {
                Expr::Literal(literal, _) => {
                    comparison(&column.name, Operator::Eq, literal).unwrap_or_default()
                }
                _ => lang::Expr::All,
            });
            lang::Expr::or(one_of.collect())
        }
        Expr::Between(between) if !between.negated => {
            match (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref()) {
                (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => lang::Expr::and(vec![
                    comparison(&column.name, Operator::GtEq, low).unwrap_or_default(),
                    comparison(&column.name, Operator::LtEq, high).unwrap_or_default(),
                ]),
                _ => lang::Expr::All,
            }
        }
        Expr::ScalarFunction(call) => {
            let function: &dyn Any = call.func.inner().as_ref();
            match function.downcast_ref::<Matches>() {
                Some(matches) if matches.table() == Some(table) => matches.expr().clone(),
                _ => lang::Expr::All,
            }
        }
        _ => lang::Expr::All,
    }
}

fn comparison(column: &str, op: Operator, literal: &ScalarValue) -> Option<lang::Expr> {
    use lang::{Field, Level, Number, Op, Test};
    let op = match op {
        Operator::Eq => Op::Eq,
        Operator::Lt => Op::Lt,
        Operator::LtEq => Op::Le,
        Operator::Gt => Op::Gt,
        Operator::GtEq => Op::Ge,
        _ => return None,
    };
    let literal = match literal {
        ScalarValue::Dictionary(_, value) => value,
        other => other,
    };
    let (field, test) = match (column, literal) {
        ("ts", ScalarValue::TimestampMicrosecond(Some(us), _)) => {
            // `ts` has no nanoseconds: the last one of the microsecond counts for an upper bound.
            let below = if matches!(op, Op::Le | Op::Eq) { 999 } else { 0 };
            let ns = us.checked_mul(1000)?;
            return Some(match op {
                Op::Eq => lang::Expr::and(vec![
                    lang::Expr::Is(Field::Time, Test::Time(Op::Ge, ns)),
                    lang::Expr::Is(Field::Time, Test::Time(Op::Le, ns.checked_add(below)?)),
                ]),
                Op::Gt => lang::Expr::Is(Field::Time, Test::Time(Op::Ge, ns)),
                op => lang::Expr::Is(Field::Time, Test::Time(op, ns.checked_add(below)?)),
            });
        }
        ("seq", ScalarValue::Int64(Some(seq))) => (Field::Seq, Test::Number(op, Number::Int(*seq))),
        ("severity_number", ScalarValue::Int32(Some(number))) => {
            (Field::Severity, Test::Severity(op, Level::Number(*number)))
        }
        ("service", ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text))) if op == Op::Eq => {
            (Field::Service, Test::Equals(text.clone()))
        }
        ("trace_id", ScalarValue::FixedSizeBinary(16, Some(id)) | ScalarValue::Binary(Some(id)))
            if op == Op::Eq =>
        {
            return Some(lang::Expr::trace(&TraceId::from_bytes(id)?.to_string()));
        }
        _ => return None,
    };
    Some(lang::Expr::Is(field, test))
}
