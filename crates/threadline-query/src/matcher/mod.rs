//! Conditions over columns: an expression compiled for a table, evaluated batch by batch.
//!
//! A leaf is evaluated only on rows that are still alive, cheap leaves first; what a dictionary holds is judged once
//! per distinct value; substrings and phrases are searched over the whole column at once. Nothing is null: a missing
//! field makes a condition false, and its negation true.

mod leaf;
mod mask;
mod prune;
mod segments;
mod text;

use arrow_array::{BooleanArray, RecordBatch};
use threadline_model::schema::Table;

use crate::QueryError;
use crate::lang::Expr;
use leaf::Leaf;
pub use leaf::attribute_column;
pub use mask::Mask;
pub use prune::{prune, prune_nothing_but};
pub use segments::of_network;

/// A compiled condition over batches, for searches, the live tail and erasure.
#[derive(Debug)]
pub struct Matcher {
    root: Node,
    columns: Vec<String>,
}

#[derive(Debug)]
enum Node {
    All,
    Nothing,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Leaf(Leaf),
}

impl Matcher {
    /// Compiles an expression for a table.
    ///
    /// # Errors
    /// A regular expression that is not valid, or too large.
    pub fn new(expr: &Expr, table: Table) -> Result<Matcher, QueryError> {
        let root = Node::new(expr, table)?;
        let mut columns = Vec::new();
        root.add_columns(&mut columns);
        columns.sort_unstable();
        columns.dedup();
        Ok(Matcher { root, columns })
    }

    /// Columns the condition looks at, sorted. A batch may lack any of them: then they count as all null.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether every row fulfils the condition.
    pub fn is_all(&self) -> bool {
        matches!(self.root, Node::All)
    }

    /// One bit per row; never null.
    ///
    /// # Errors
    /// None today; a batch with columns of other types than its table's counts as lacking them.
    pub fn matches(&self, batch: &RecordBatch) -> Result<BooleanArray, QueryError> {
        Ok(self.select(batch, &Mask::all(batch.num_rows())).to_array())
    }

    /// The rows of `alive` that fulfil the condition.
    pub fn select(&self, batch: &RecordBatch, alive: &Mask) -> Mask {
        self.root.select(batch, alive)
    }
}

impl Node {
    fn new(expr: &Expr, table: Table) -> Result<Node, QueryError> {
        let all = |parts: &[Expr]| -> Result<Vec<Node>, QueryError> {
            let mut nodes = parts.iter().map(|part| Node::new(part, table)).collect::<Result<Vec<_>, _>>()?;
            nodes.sort_by_key(Node::cost);
            Ok(nodes)
        };
        Ok(match expr {
            Expr::All => Node::All,
            Expr::And(parts) => Node::And(all(parts)?),
            Expr::Or(parts) => Node::Or(all(parts)?),
            Expr::Not(inner) => Node::Not(Box::new(Node::new(inner, table)?)),
            Expr::Is(field, test) => leaf::compile(field, test, table)?.map_or(Node::Nothing, Node::Leaf),
        })
    }

    /// Relative cost per row.
    fn cost(&self) -> u32 {
        match self {
            Node::All | Node::Nothing => 0,
            Node::And(parts) | Node::Or(parts) => parts.iter().map(Node::cost).sum(),
            Node::Not(inner) => inner.cost(),
            Node::Leaf(leaf) => leaf.cost(),
        }
    }

    fn add_columns(&self, out: &mut Vec<String>) {
        match self {
            Node::All | Node::Nothing => {}
            Node::And(parts) | Node::Or(parts) => parts.iter().for_each(|part| part.add_columns(out)),
            Node::Not(inner) => inner.add_columns(out),
            Node::Leaf(leaf) => leaf.add_columns(out),
        }
    }

    fn select(&self, batch: &RecordBatch, alive: &Mask) -> Mask {
        match self {
            Node::All => alive.clone(),
            Node::Nothing => Mask::none(alive.rows()),
            Node::And(parts) => {
                let mut found = alive.clone();
                for part in parts {
                    if found.is_empty() {
                        break;
                    }
                    found = part.select(batch, &found);
                }
                found
            }
            Node::Or(parts) => {
                let (mut found, mut rest) = (Mask::none(alive.rows()), alive.clone());
                for part in parts {
                    if rest.is_empty() {
                        break;
                    }
                    let more = part.select(batch, &rest);
                    rest.subtract(&more);
                    found.union(&more);
                }
                found
            }
            Node::Not(inner) => {
                let mut rest = alive.clone();
                rest.subtract(&inner.select(batch, alive));
                rest
            }
            Node::Leaf(leaf) => leaf.select(batch, alive),
        }
    }
}
