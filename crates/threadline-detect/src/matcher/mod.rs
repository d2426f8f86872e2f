//! Which rules match which records of a batch.
//!
//! Rules share *atoms*: one test of one field, however many rules make it. For each value of a record the
//! [index](index) of its field tells all atoms that hold; values seen before, and values of a dictionary, are asked
//! once. A rule has *witnesses*: atoms of which at least one holds wherever the rule matches. Only rules with a
//! witness are evaluated, and evaluating is looking up atoms. What no index knows (references to fields, parts of
//! times, regular expressions without a text in them) is found out when a rule asks for it.

mod explain;
pub mod expr;
mod index;
mod need;
pub(crate) mod record;

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use arrow_array::{Array, RecordBatch};
use rustc_hash::{FxHashMap, FxHasher};
use threadline_model::columns::{Batch, StrColumn};
use threadline_model::schema::Table;

pub use explain::{Explanation, Verdict};
pub use need::{COMMON_COLUMNS, Checks, Demand, Need, OfResource, columns_of, in_column_alone};

use crate::sigma::rule::Tables;
use expr::{Check, Expr, Test};
use index::{Atom, AtomId, FieldIndex, IndexBuilder, Memo, cost};
use record::{Column, FieldId, KEYWORD, Names, Source, Val};

/// The number of a rule in a matcher, in the order of [`Builder::add`].
pub type RuleIndex = u32;

/// Collects rules.
#[derive(Default)]
pub struct Builder {
    names: Names,
    atoms: Vec<Atom>,
    by_test: FxHashMap<(FieldId, Check), AtomId>,
    programs: Vec<Program>,
    kept: Vec<String>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("rules", &self.programs.len()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Program {
    node: Node,
    tables: Tables,
    expr: Expr,
}

#[derive(Debug)]
enum Node {
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Not(Box<Node>),
    Atom(AtomId),
    /// One of several atoms of the index.
    AnyOf(Box<[AtomId]>),
}

/// All rules, ready to match. Shared by threads; what changes is in a [`Scratch`].
#[derive(Debug)]
pub struct Matcher {
    names: Names,
    atoms: Vec<Atom>,
    indexes: Vec<FieldIndex>,
    programs: Vec<Program>,
    /// Rules for which an atom is a witness.
    by_atom: Vec<Box<[RuleIndex]>>,
    /// Rules without one, by table.
    always: [Vec<RuleIndex>; 2],
    keywords: [bool; 2],
    url: Option<[FieldId; 3]>,
    /// Fields that [`Builder::field`] was asked for.
    kept: Vec<String>,
    /// Hash of fields and tests: what a scratch keeps is about these.
    fingerprint: u64,
}

impl Builder {
    /// Adds a rule.
    ///
    /// # Errors
    /// A regular expression that does not compile.
    pub fn add(&mut self, expr: &Expr, tables: Tables) -> Result<RuleIndex, String> {
        let node = self.node(expr)?;
        self.programs.push(Program { node, tables, expr: expr.clone() });
        Ok(self.programs.len() as RuleIndex - 1)
    }

    /// A field whose values are to be had by [`Row::get`].
    pub fn field(&mut self, name: &str) -> u32 {
        if !self.kept.iter().any(|known| known == name) {
            self.kept.push(name.to_owned());
        }
        self.names.intern(name)
    }

    fn node(&mut self, expr: &Expr) -> Result<Node, String> {
        let mut each = |parts: &[Expr]| parts.iter().map(|part| self.node(part)).collect::<Result<Vec<_>, _>>();
        Ok(match expr {
            Expr::And(parts) => Node::And(each(parts)?.into()),
            Expr::Or(parts) => {
                let parts = each(parts)?;
                let atom = |node: &Node| match node {
                    Node::Atom(id) => self.atoms.get(*id as usize).filter(|atom| atom.indexed).map(|_| *id),
                    _ => None,
                };
                match parts.iter().map(atom).collect::<Option<Box<[AtomId]>>>() {
                    Some(ids) => Node::AnyOf(ids),
                    None => Node::Or(parts.into()),
                }
            }
            Expr::Not(part) => Node::Not(Box::new(self.node(part)?)),
            Expr::Test(test) => Node::Atom(self.atom(test)?),
        })
    }

    fn atom(&mut self, test: &Test) -> Result<AtomId, String> {
        let field = test.field.as_deref().map_or(KEYWORD, |name| self.names.intern(name));
        let key = (field, test.check.clone());
        if let Some(id) = self.by_test.get(&key) {
            return Ok(*id);
        }
        let regex = match &test.check {
            Check::Regex(source) => Some(expr::compile_regex(source)?),
            _ => None,
        };
        let other = match &test.check {
            Check::FieldRef { field, .. } => Some(self.names.intern(field)),
            _ => None,
        };
        let id = self.atoms.len() as AtomId;
        let indexed = IndexBuilder::default().add(id, &test.check);
        self.atoms.push(Atom { field, check: test.check.clone(), regex, indexed, other });
        self.by_test.insert(key, id);
        Ok(id)
    }

    /// Makes the indexes.
    ///
    /// # Errors
    /// Too many texts for one automaton.
    pub fn build(self) -> Result<Matcher, String> {
        let Builder { mut names, atoms, programs, kept, .. } = self;
        let url = names
            .find("url.original")
            .map(|whole| [whole, names.intern("url.path"), names.intern("url.query")]);
        let mut builders: Vec<IndexBuilder> = (0..names.len()).map(|_| IndexBuilder::default()).collect();
        for (id, atom) in atoms.iter().enumerate() {
            if let Some(builder) = builders.get_mut(atom.field as usize) {
                builder.add(id as AtomId, &atom.check);
            }
        }
        let indexes = builders.into_iter().map(IndexBuilder::build).collect::<Result<Vec<_>, _>>()?;
        let mut hasher = FxHasher::default();
        names.hash(&mut hasher);
        atoms.iter().for_each(|atom| (atom.field, &atom.check).hash(&mut hasher));
        let fingerprint = hasher.finish();
        // An atom that many rules share is one that many records have.
        let mut shared = vec![0u32; atoms.len()];
        programs.iter().for_each(|program| program.node.count(&mut shared));
        let mut by_atom: Vec<Vec<RuleIndex>> = vec![Vec::new(); atoms.len()];
        let mut always = [Vec::new(), Vec::new()];
        let mut keywords = [false; 2];
        for (rule, program) in programs.iter().enumerate() {
            let rule = rule as RuleIndex;
            let tables = [program.tables.logs, program.tables.spans];
            match program.node.witnesses(&atoms, &shared) {
                Some((_, mut ids)) => {
                    ids.sort_unstable();
                    ids.dedup();
                    for id in ids {
                        if let Some(rules) = by_atom.get_mut(id as usize) {
                            rules.push(rule);
                        }
                    }
                }
                None => {
                    for (always, _) in always.iter_mut().zip(tables).filter(|(_, on)| *on) {
                        always.push(rule);
                    }
                }
            }
            if program.node.has_keyword(&atoms) {
                keywords = [keywords[0] || tables[0], keywords[1] || tables[1]];
            }
        }
        let by_atom = by_atom.into_iter().map(Vec::into_boxed_slice).collect();
        Ok(Matcher { names, atoms, indexes, programs, by_atom, always, keywords, url, kept, fingerprint })
    }
}

impl Node {
    fn count(&self, shared: &mut [u32]) {
        let mut add = |id: &AtomId| {
            if let Some(count) = shared.get_mut(*id as usize) {
                *count += 1;
            }
        };
        match self {
            Node::And(parts) | Node::Or(parts) => parts.iter().for_each(|part| part.count(shared)),
            Node::Not(part) => part.count(shared),
            Node::Atom(id) => add(id),
            Node::AnyOf(ids) => ids.iter().for_each(add),
        }
    }

    /// Atoms of the index of which one holds wherever this does, and what they cost; the cheapest known.
    fn witnesses(&self, atoms: &[Atom], shared: &[u32]) -> Option<(u32, Vec<AtomId>)> {
        // What many rules ask for, many records have: a log source above all.
        let one = |id: &AtomId| {
            let atom = atoms.get(*id as usize).filter(|atom| atom.indexed)?;
            let uses = shared.get(*id as usize).copied().unwrap_or(1);
            Some(cost(&atom.check).saturating_add(uses.saturating_mul(uses) / 4))
        };
        match self {
            Node::Atom(id) => Some((one(id)?, vec![*id])),
            Node::AnyOf(ids) => {
                let mut total = 0;
                for id in ids {
                    total = u32::saturating_add(total, one(id)?);
                }
                Some((total, ids.to_vec()))
            }
            Node::And(parts) => {
                parts.iter().filter_map(|part| part.witnesses(atoms, shared)).min_by_key(|(cost, _)| *cost)
            }
            Node::Or(parts) => {
                let (mut total, mut all) = (0, Vec::new());
                for part in parts {
                    let (cost, ids) = part.witnesses(atoms, shared)?;
                    total = u32::saturating_add(total, cost);
                    all.extend(ids);
                }
                Some((total, all))
            }
            Node::Not(part) => match part.as_ref() {
                Node::Not(inner) => inner.witnesses(atoms, shared),
                _ => None,
            },
        }
    }

    fn has_keyword(&self, atoms: &[Atom]) -> bool {
        let keyword = |id: &AtomId| atoms.get(*id as usize).is_some_and(|atom| atom.field == KEYWORD);
        match self {
            Node::And(parts) | Node::Or(parts) => parts.iter().any(|part| part.has_keyword(atoms)),
            Node::Not(part) => part.has_keyword(atoms),
            Node::Atom(id) => keyword(id),
            Node::AnyOf(ids) => ids.iter().any(keyword),
        }
    }
}

/// What matching needs and keeps: marks of the record at hand, answers for values seen before.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Of the matcher that it was used with.
    fingerprint: Option<u64>,
    epoch: u32,
    /// Epoch in which an atom was marked.
    marks: Vec<u32>,
    /// Epoch in which an atom was found out, and what.
    lazy: Vec<(u32, bool)>,
    /// Epoch in which a rule became a candidate.
    candidates: Vec<u32>,
    memos: Vec<Memo>,
    buffer: String,
    found: Vec<AtomId>,
    queue: Vec<RuleIndex>,
    hits: Vec<RuleIndex>,
}

impl Scratch {
    fn fit(&mut self, matcher: &Matcher) {
        let fits =
            self.fingerprint == Some(matcher.fingerprint) && self.candidates.len() == matcher.programs.len();
        if !fits {
            *self = Scratch {
                fingerprint: Some(matcher.fingerprint),
                marks: vec![0; matcher.atoms.len()],
                lazy: vec![(0, false); matcher.atoms.len()],
                candidates: vec![0; matcher.programs.len()],
                memos: (0..matcher.names.len()).map(|_| Memo::default()).collect(),
                ..Scratch::default()
            };
        }
    }

    fn next_record(&mut self) {
        self.queue.clear();
        self.hits.clear();
        if self.epoch == u32::MAX {
            self.marks.fill(0);
            self.lazy.fill((0, false));
            self.candidates.fill(0);
            self.epoch = 0;
        }
        self.epoch += 1;
    }
}

/// A record under the eyes of the matcher.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its row in the batch.
    pub row: usize,
    values: Vec<Entry<'a>>,
}

/// A value of a record.
#[derive(Clone, Debug)]
struct Entry<'a> {
    field: FieldId,
    /// Whether keywords look at it.
    searched: bool,
    value: Val<'a>,
}

impl Entry<'_> {
    fn is_of(&self, field: FieldId) -> bool {
        if field == KEYWORD { self.searched } else { self.field == field }
    }
}

impl<'a> Row<'a> {
    /// The first value of a field that [`Builder::field`] gave.
    pub(crate) fn get(&self, field: u32) -> Option<&Val<'a>> {
        self.values.iter().find(|entry| entry.field == field).map(|entry| &entry.value)
    }

    /// All of them.
    pub(crate) fn all(&self, field: u32) -> impl Iterator<Item = &Val<'a>> {
        self.values.iter().filter(move |entry| entry.is_of(field)).map(|entry| &entry.value)
    }
}

/// Atoms of the values of a dictionary column, found when first met.
#[derive(Default)]
struct DictionaryAtoms {
    /// For each key: place in `atoms`, `u32::MAX` when not met yet.
    ranges: Vec<(u32, u32)>,
    atoms: Vec<AtomId>,
}

/// What a resource says, read once for all its records.
struct Resource<'a> {
    values: Vec<Entry<'a>>,
    atoms: Vec<AtomId>,
}

/// A batch being read.
struct Reader<'m, 'a> {
    matcher: &'m Matcher,
    keywords: bool,
    /// Whether it is asked which rules match; they are known otherwise.
    marks: bool,
    columns: Vec<(Column<'a>, DictionaryAtoms)>,
    attrs: StrColumn<'a>,
    body_json: Option<StrColumn<'a>>,
    resource: StrColumn<'a>,
    resources: Vec<Option<Resource<'a>>>,
    /// Fields of a URL that is put together: whole, path, query.
    url: Option<[FieldId; 3]>,
    /// Fields of the table that no attribute is.
    reserved: [Option<FieldId>; record::RESERVED.len()],
}

impl Matcher {
    /// A matcher of no rules.
    pub(crate) fn empty() -> Matcher {
        Matcher {
            names: Names::default(),
            atoms: Vec::new(),
            indexes: vec![FieldIndex::default()],
            programs: Vec::new(),
            by_atom: Vec::new(),
            always: [Vec::new(), Vec::new()],
            keywords: [false; 2],
            url: None,
            kept: Vec::new(),
            fingerprint: 0,
        }
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.programs.len()
    }

    /// Whether a rule is evaluated for every record of a table.
    pub fn is_asked_always(&self, rule: RuleIndex) -> bool {
        self.always.iter().any(|rules| rules.contains(&rule))
    }

    /// How many different tests.
    pub fn atoms(&self) -> usize {
        self.atoms.len()
    }

    /// Goes through the records of a batch and hands each with the rules that match it, in order, to `found`.
    pub fn scan<'a>(
        &self,
        batch: &'a RecordBatch,
        table: Table,
        scratch: &mut Scratch,
        mut found: impl FnMut(&Row<'a>, &[RuleIndex]),
    ) {
        scratch.fit(self);
        let mut reader = self.reader(batch, table, true);
        let mut row = Row { row: 0, values: Vec::new() };
        let table_bit = usize::from(table == Table::Spans);
        for number in 0..batch.num_rows() {
            row.row = number;
            row.values.clear();
            scratch.next_record();
            reader.read(&mut row, scratch);
            let always = self.always.get(table_bit).map_or(&[][..], Vec::as_slice);
            let queue = std::mem::take(&mut scratch.queue);
            for rule in always.iter().chain(&queue) {
                let Some(program) = self.programs.get(*rule as usize) else { continue };
                let about = program.tables.has(table);
                if about && self.holds(&program.node, &row, scratch) {
                    scratch.hits.push(*rule);
                }
            }
            scratch.queue = queue;
            scratch.hits.sort_unstable();
            found(&row, &scratch.hits);
        }
    }

    /// Reads the records of a batch whose rules are known, in the same way. Of fields that the rules look at to decide,
    /// the batch may lack the columns.
    pub(crate) fn read<'a, 'h>(
        &self,
        batch: &'a RecordBatch,
        table: Table,
        scratch: &mut Scratch,
        hits: impl Iterator<Item = &'h [RuleIndex]>,
        mut each: impl FnMut(&Row<'a>, &[RuleIndex]),
    ) {
        scratch.fit(self);
        let mut reader = self.reader(batch, table, false);
        let mut row = Row { row: 0, values: Vec::new() };
        for (number, hits) in (0..batch.num_rows()).zip(hits) {
            row.row = number;
            row.values.clear();
            reader.read(&mut row, scratch);
            each(&row, hits);
        }
    }

    fn reader<'a>(&self, batch: &'a RecordBatch, table: Table, marks: bool) -> Reader<'_, 'a> {
        let view = Batch::new(batch);
        let keywords = self.keywords.get(usize::from(table == Table::Spans)).copied().unwrap_or(false);
        let columns = record::columns(&self.names, batch, table, keywords);
        Reader {
            matcher: self,
            keywords,
            marks,
            columns: columns.into_iter().map(|column| (column, DictionaryAtoms::default())).collect(),
            attrs: view.str("attrs"),
            body_json: (table == Table::Logs && batch.column_by_name("body_json").is_some())
                .then(|| view.str("body")),
            resource: view.str("resource"),
            resources: Vec::new(),
            url: self.url,
            reserved: record::RESERVED.map(|(of, name)| self.names.find(name).filter(|_| of == table)),
        }
    }

    fn holds(&self, node: &Node, row: &Row<'_>, scratch: &mut Scratch) -> bool {
        match node {
            Node::And(parts) => parts.iter().all(|part| self.holds(part, row, scratch)),
            Node::Or(parts) => parts.iter().any(|part| self.holds(part, row, scratch)),
            Node::Not(part) => !self.holds(part, row, scratch),
            Node::AnyOf(ids) => {
                ids.iter().any(|id| scratch.marks.get(*id as usize).is_some_and(|mark| *mark == scratch.epoch))
            }
            Node::Atom(id) => {
                let Some(atom) = self.atoms.get(*id as usize) else { return false };
                if atom.indexed {
                    return scratch.marks.get(*id as usize).is_some_and(|mark| *mark == scratch.epoch);
                }
                let Some(known) = scratch.lazy.get_mut(*id as usize) else { return false };
                if known.0 != scratch.epoch {
                    *known = (scratch.epoch, passes(atom, row));
                }
                known.1
            }
        }
    }

    /// Marks an atom and makes the rules that it witnesses candidates.
    fn mark(&self, id: AtomId, scratch: &mut Scratch) {
        let Some(mark) = scratch.marks.get_mut(id as usize) else { return };
        if *mark == scratch.epoch {
            return;
        }
        *mark = scratch.epoch;
        for rule in self.by_atom.get(id as usize).map_or(&[][..], |rules| rules) {
            if let Some(candidate) = scratch.candidates.get_mut(*rule as usize)
                && *candidate != scratch.epoch
            {
                *candidate = scratch.epoch;
                scratch.queue.push(*rule);
            }
        }
    }

    /// Finds the atoms of a value.
    fn find(
        &self,
        field: FieldId,
        keywords: bool,
        value: &Val<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<AtomId>,
    ) {
        let mut text = None;
        let Scratch { memos, buffer, .. } = scratch;
        let mut ask = |field: FieldId| {
            if let (Some(index), Some(memo)) = (self.indexes.get(field as usize), memos.get_mut(field as usize))
                && !index.is_empty()
            {
                let text = text.get_or_insert_with(|| value.text());
                memo.find(index, &self.atoms, text, buffer, out);
            }
        };
        if field != KEYWORD {
            ask(field);
        }
        if keywords {
            ask(KEYWORD);
        }
    }
}

/// An atom that no index knows, of a record.
fn passes(atom: &Atom, row: &Row<'_>) -> bool {
    let mut own = row.all(atom.field).map(Val::text);
    match atom.other {
        Some(other) => own.any(|text| row.all(other).any(|value| atom.check.refers(&text, &value.text()))),
        None => own.any(|text| atom.check.passes(&text, "", atom.regex.as_ref())),
    }
}

impl<'a> Reader<'_, 'a> {
    fn read(&mut self, row: &mut Row<'a>, scratch: &mut Scratch) {
        let matcher = self.matcher;
        for (column, known) in &mut self.columns {
            let Some(value) = column.source.get(row.row) else { continue };
            match dictionary_key(&column.source, row.row) {
                _ if !self.marks => {}
                Some(key) => {
                    let (start, end) = known.get(matcher, column, key, &value, scratch);
                    for id in known.atoms.get(start as usize..end as usize).unwrap_or_default() {
                        matcher.mark(*id, scratch);
                    }
                }
                None => mark_all(matcher, column.field, column.keywords, &value, scratch),
            }
            if column.field != KEYWORD || column.keywords {
                row.values.push(Entry { field: column.field, searched: column.keywords, value });
            }
        }
        let (keywords, reserved, marks) = (self.keywords, self.reserved, self.marks);
        let mut mark = |field: FieldId, keywords: bool, value: &Val<'_>| {
            if marks {
                mark_all(matcher, field, keywords, value, scratch);
            }
        };
        // Keywords look at an attribute of whatever name.
        let known = |field: FieldId| if reserved.contains(&Some(field)) { KEYWORD } else { field };
        if let Some(attrs) = self.attrs.get(row.row) {
            record::attributes(&matcher.names, attrs, keywords, &mut |field, value| {
                let field = known(field);
                mark(field, keywords, &value);
                row.values.push(Entry { field, searched: keywords, value });
            });
        }
        if let Some(body) = self.body_json.as_ref().and_then(|body| body.get(row.row)) {
            record::attributes(&matcher.names, body, false, &mut |field, value| {
                let field = known(field);
                mark(field, false, &value);
                row.values.push(Entry { field, searched: false, value });
            });
        }
        self.read_resource(row, scratch);
        if let Some([original, path, query]) = self.url
            && row.get(original).is_none()
            && let Some(value) = url(row.get(path), row.get(query))
        {
            if self.marks {
                mark_all(matcher, original, false, &value, scratch);
            }
            row.values.push(Entry { field: original, searched: false, value });
        }
    }

    fn read_resource(&mut self, row: &mut Row<'a>, scratch: &mut Scratch) {
        let StrColumn::Dictionary(keys, _) = self.resource else { return };
        let Some(json) = self.resource.get(row.row) else { return };
        let Ok(key) = usize::try_from(keys.value(row.row)) else { return };
        if self.resources.len() <= key {
            self.resources.resize_with(key + 1, || None);
        }
        let (matcher, reserved, marks) = (self.matcher, self.reserved, self.marks);
        let Some(slot) = self.resources.get_mut(key) else { return };
        let resource = slot.get_or_insert_with(|| {
            let mut resource = Resource { values: Vec::new(), atoms: Vec::new() };
            let attributes = record::resource_attributes(json).unwrap_or_default();
            record::attributes(&matcher.names, attributes, false, &mut |field, value| {
                if reserved.contains(&Some(field)) {
                    return;
                }
                if marks {
                    matcher.find(field, false, &value, scratch, &mut resource.atoms);
                }
                resource.values.push(Entry { field, searched: false, value });
            });
            resource
        });
        resource.atoms.iter().for_each(|id| matcher.mark(*id, scratch));
        // What the record says itself comes first.
        row.values.extend(resource.values.iter().cloned());
    }
}

/// A URL as it was asked for.
fn url<'a>(path: Option<&Val<'a>>, query: Option<&Val<'a>>) -> Option<Val<'a>> {
    let Some(Val::Text(path)) = path else { return None };
    match query {
        Some(Val::Text(query)) if !query.is_empty() => {
            let mark = if query.starts_with('?') { "" } else { "?" };
            Some(Val::Text(Cow::Owned(format!("{path}{mark}{query}"))))
        }
        _ => Some(Val::Text(path.clone())),
    }
}

fn mark_all(matcher: &Matcher, field: FieldId, keywords: bool, value: &Val<'_>, scratch: &mut Scratch) {
    let mut found = std::mem::take(&mut scratch.found);
    found.clear();
    matcher.find(field, keywords, value, scratch, &mut found);
    found.iter().for_each(|id| matcher.mark(*id, scratch));
    scratch.found = found;
}

fn dictionary_key(source: &Source<'_>, row: usize) -> Option<usize> {
    match source {
        Source::Str(StrColumn::Dictionary(keys, _)) => {
            (row < keys.len() && keys.is_valid(row)).then(|| usize::try_from(keys.value(row)).ok()).flatten()
        }
        _ => None,
    }
}

impl DictionaryAtoms {
    fn get(
        &mut self,
        matcher: &Matcher,
        column: &Column<'_>,
        key: usize,
        value: &Val<'_>,
        scratch: &mut Scratch,
    ) -> (u32, u32) {
        if self.ranges.len() <= key {
            self.ranges.resize(key + 1, (u32::MAX, 0));
        }
        let Some(range) = self.ranges.get_mut(key) else { return (0, 0) };
        if range.0 == u32::MAX {
            let start = self.atoms.len() as u32;
            matcher.find(column.field, column.keywords, value, scratch, &mut self.atoms);
            *range = (start, self.atoms.len() as u32);
        }
        *range
    }
}

#[cfg(test)]
mod tests;
