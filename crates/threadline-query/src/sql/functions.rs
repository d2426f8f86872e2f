//! Functions that SQL has beyond DataFusion's: `matches('search')`, `attr('key')`, `hex(id)`, `trace('hex')`,
//! `span('hex')`.
//!
//! `matches` and `attr` look at columns that are not written in the call. When a plan is analysed, the call is bound:
//! the columns of the table in scope are added as arguments, and the function is replaced by one that knows them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, Field, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use threadline_model::id::{SpanId, TraceId, push_hex};
use threadline_model::schema::Table;

use crate::field::FieldReader;
use crate::lang;
use crate::matcher::{Mask, Matcher};

type Result<T> = std::result::Result<T, DataFusionError>;

/// All functions, as they are called.
pub(super) fn all() -> Vec<ScalarUDF> {
    vec![
        ScalarUDF::from(Matches::unbound()),
        ScalarUDF::from(Attr::unbound()),
        ScalarUDF::from(Hex { signature: Signature::any(1, Volatility::Immutable) }),
        ScalarUDF::from(Id::new("trace", 16)),
        ScalarUDF::from(Id::new("span", 8)),
    ]
}

fn plan_error(message: impl Into<String>) -> DataFusionError {
    DataFusionError::Plan(message.into())
}

/// Adds the columns to calls of `matches` and `attr`.
#[derive(Debug)]
pub(super) struct BindColumns;

impl FunctionRewrite for BindColumns {
    fn name(&self) -> &'static str {
        "bind_columns"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
        let name = call.func.name();
        if call.args.len() != 1 || !matches!(name, "matches" | "attr") {
            return Ok(Transformed::no(expr));
        }
        let Some(text) = literal(&call.args) else {
            return Err(plan_error(format!("{name} takes one text in single quotes, as in {name}('…')")));
        };
        let scope = Scope::new(name, schema)?;
        let (function, columns) = if name == "matches" {
            let bound = Matches::bind(text, scope.table)?;
            let columns = bound.columns.clone();
            (ScalarUDF::from(bound), columns)
        } else {
            let bound = Attr::bind(text, scope.table);
            let columns = bound.columns.clone();
            (ScalarUDF::from(bound), columns)
        };
        let mut args = call.args.clone();
        args.extend(columns.iter().map(|column| scope.column(column)).collect::<Result<Vec<_>>>()?);
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), args))))
    }
}

fn literal(args: &[Expr]) -> Option<&str> {
    match args.first()? {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}

/// The one table whose rows a call sees.
struct Scope<'a> {
    schema: &'a DFSchema,
    qualifier: Option<datafusion::common::TableReference>,
    table: Table,
}

impl<'a> Scope<'a> {
    fn new(function: &str, schema: &'a DFSchema) -> Result<Scope<'a>> {
        let mut tables =
            schema.iter().filter(|(_, field)| field.name() == "attrs").map(|(qualifier, _)| qualifier);
        let (Some(qualifier), None) = (tables.next(), tables.next()) else {
            return Err(plan_error(format!(
                "{function} needs the columns of exactly one of logs and spans: use it in the SELECT that reads the \
                 table, for a join in a subquery with *"
            )));
        };
        let has = |name: &str| schema.iter().any(|(of, field)| of == qualifier && field.name() == name);
        let table = if has("duration_ns") { Table::Spans } else { Table::Logs };
        Ok(Scope { schema, qualifier: qualifier.cloned(), table })
    }

    /// The column, or null where the table has none of this name.
    fn column(&self, name: &str) -> Result<Expr> {
        let found = self.schema.iter().any(|(of, field)| of == self.qualifier.as_ref() && field.name() == name);
        let fixed = threadline_model::schema::fixed(self.table).iter().any(|field| field.name() == name);
        match (found, fixed) {
            (true, _) => Ok(Expr::Column(Column::new(self.qualifier.clone(), name))),
            // An attribute without a column of its own.
            (false, false) => Ok(Expr::Literal(ScalarValue::Null, None)),
            (false, true) => Err(plan_error(format!(
                "the column {name} is needed here: use the function in the SELECT that reads the table"
            ))),
        }
    }
}

/// The columns of a call as a batch. The first argument is the text.
fn batch(columns: &[String], args: &ScalarFunctionArgs) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(columns.len());
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    for (name, value) in columns.iter().zip(args.args.iter().skip(1)) {
        let array = match value {
            ColumnarValue::Array(array) => Arc::clone(array),
            ColumnarValue::Scalar(ScalarValue::Null) => continue,
            ColumnarValue::Scalar(scalar) => scalar.to_array_of_size(args.number_rows)?,
        };
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(args.number_rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// `matches('search')`: whether the row fulfils a search.
#[derive(Debug)]
pub(super) struct Matches {
    signature: Signature,
    text: String,
    expr: lang::Expr,
    bound: Option<(Table, Matcher)>,
    columns: Vec<String>,
}

impl Matches {
    fn unbound() -> Matches {
        Matches {
            signature: Signature::any(1, Volatility::Immutable),
            text: String::new(),
            expr: lang::Expr::All,
            bound: None,
            columns: Vec::new(),
        }
    }

    fn bind(text: &str, table: Table) -> Result<Matches> {
        let expr = lang::parse(text).map_err(|error| plan_error(format!("matches: {error}")))?;
        let matcher = Matcher::new(&expr, table).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let columns = matcher.columns().to_vec();
        Ok(Matches {
            signature: Signature::any(1 + columns.len(), Volatility::Immutable),
            text: text.to_owned(),
            expr,
            bound: Some((table, matcher)),
            columns,
        })
    }

    pub(super) fn expr(&self) -> &lang::Expr {
        &self.expr
    }

    pub(super) fn table(&self) -> Option<Table> {
        self.bound.as_ref().map(|(table, _)| *table)
    }
}

impl PartialEq for Matches {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.table() == other.table()
    }
}

impl Eq for Matches {}

impl Hash for Matches {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
        self.table().hash(state);
    }
}

impl ScalarUDFImpl for Matches {
    fn name(&self) -> &'static str {
        "matches"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((_, matcher)) = &self.bound else {
            return Err(plan_error("matches needs a table in FROM"));
        };
        let batch = batch(&self.columns, &args)?;
        let found = matcher.select(&batch, &Mask::all(batch.num_rows()));
        Ok(ColumnarValue::Array(Arc::new(found.to_array())))
    }
}

/// `attr('key')`: an attribute of the record, its resource or its scope, as text.
#[derive(Debug)]
struct Attr {
    signature: Signature,
    key: String,
    reader: FieldReader,
    columns: Vec<String>,
}

impl Attr {
    fn unbound() -> Attr {
        Attr {
            signature: Signature::any(1, Volatility::Immutable),
            key: String::new(),
            reader: FieldReader::nothing(),
            columns: Vec::new(),
        }
    }

    fn bind(key: &str, table: Table) -> Attr {
        let reader = FieldReader::new(&lang::Field::Attribute(key.to_owned()), table);
        let columns = reader.columns();
        Attr {
            signature: Signature::any(1 + columns.len(), Volatility::Immutable),
            key: key.to_owned(),
            reader,
            columns,
        }
    }
}

impl PartialEq for Attr {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.columns == other.columns
    }
}

impl Eq for Attr {}

impl Hash for Attr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
        self.columns.hash(state);
    }
}

impl ScalarUDFImpl for Attr {
    fn name(&self) -> &'static str {
        "attr"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.columns.is_empty() {
            return Err(plan_error("attr needs a table in FROM"));
        }
        let batch = batch(&self.columns, &args)?;
        let mut out = StringBuilder::new();
        let each = self.reader.each(&batch, &Mask::all(batch.num_rows()), |_, value| {
            out.append_option(value);
            Ok(())
        });
        each.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// `hex(id)`: the hex digits of an id.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Hex {
    signature: Signature,
}

impl ScalarUDFImpl for Hex {
    fn name(&self) -> &'static str {
        "hex"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(DataType::FixedSizeBinary(_) | DataType::Null) => Ok(DataType::Utf8),
            _ => Err(plan_error("hex takes trace_id, span_id or parent_span_id")),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(ids) = arrays.first().and_then(|array| array.as_fixed_size_binary_opt()) else {
            return Ok(ColumnarValue::Array(new_null_array(&DataType::Utf8, args.number_rows)));
        };
        let mut out = StringBuilder::with_capacity(ids.len(), ids.len() * 32);
        let mut text = String::new();
        for row in 0..ids.len() {
            if ids.is_null(row) {
                out.append_null();
                continue;
            }
            text.clear();
            push_hex(ids.value(row), &mut text);
            out.append_value(&text);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// `trace('hex')` and `span('hex')`: an id from its hex digits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Id {
    signature: Signature,
    name: &'static str,
    bytes: i32,
}

impl Id {
    fn new(name: &'static str, bytes: i32) -> Id {
        Id { signature: Signature::exact(vec![DataType::Utf8], Volatility::Immutable), name, bytes }
    }

    fn parse(&self, text: &str) -> Result<Vec<u8>> {
        let id = match self.bytes {
            16 => TraceId::from_hex(text).map(|id| id.0.to_vec()),
            _ => SpanId::from_hex(text).map(|id| id.0.to_vec()),
        };
        id.ok_or_else(|| plan_error(format!("a {} id has {} hex digits", self.name, 2 * self.bytes)))
    }
}

impl ScalarUDFImpl for Id {
    fn name(&self) -> &'static str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(self.bytes))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(text))) => {
                let id = text.as_deref().map(|text| self.parse(text)).transpose()?;
                Ok(ColumnarValue::Scalar(ScalarValue::FixedSizeBinary(self.bytes, id)))
            }
            Some(ColumnarValue::Array(array)) => {
                let texts = array.as_string_opt::<i32>().ok_or_else(|| plan_error("an id is text"))?;
                let ids: Vec<Option<Vec<u8>>> = texts
                    .iter()
                    .map(|text| text.map(|text| self.parse(text)).transpose())
                    .collect::<Result<_>>()?;
                let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.into_iter(), self.bytes)?;
                Ok(ColumnarValue::Array(Arc::new(array)))
            }
            _ => Err(plan_error("an id is text")),
        }
    }
}
