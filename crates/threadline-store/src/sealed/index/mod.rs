//! The indexes of a sealed file: built while it is written, read back block by block (docs/formats.md, "Indexes").
//!
//! Vocabulary:
//! - *dictionary*: terms of one kind with the granules that have them ([`dictionary`]): one for each list of terms of
//!   bodies, one for values of columns (`column=value`), one for hashes of trace ids;
//! - *counts*: roll-up and facets ([`rollup`]), durations of spans ([`durations`]);
//! - *head*: what every look-up needs (trace filter, sparse indexes, directory), in one piece before the footer.
//!
//! An index never decides that a row matches: it says which granules may hold one. Counts are exact.

pub(crate) mod dictionary;
pub(crate) mod durations;
pub(crate) mod granules;
pub(crate) mod plan;
pub(crate) mod rollup;
pub(crate) mod terms;
pub(crate) mod varint;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, FixedSizeBinaryArray, Int32Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use rustc_hash::FxHashMap;
use threadline_model::columns::Batch;
use threadline_model::schema::{Table, fixed};
use threadline_model::trace::{Outcomes, duration_bucket};

use crate::sealed::elide::Ids;
use crate::sealed::rows::is_dictionary;
use crate::{StoreError, TERM_BYTES_MAX, TermList};
use dictionary::{DictionaryBuilder, GRANULE_ROWS, SEPARATOR, Texts};
use durations::DurationsBuilder;
use rollup::{FacetsBuilder, RollupBuilder};
use terms::{Found, OwnIds, Tokenizer};

/// Distinct values of a column that are indexed, at most.
const VALUES_MAX: usize = 16 << 10;
/// Bytes of a value that is indexed, at most.
const VALUE_BYTES_MAX: usize = 4096;

/// A dictionary of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    /// Terms of bodies.
    Terms(TermList),
    /// Values of columns: `column=value`.
    Values,
    /// Trace ids: eight hex digits of their hash.
    Traces,
}

impl Which {
    /// All dictionaries.
    pub(crate) const ALL: [Which; 7] = [
        Which::Terms(TermList::Plain),
        Which::Terms(TermList::Addresses),
        Which::Terms(TermList::Uuids),
        Which::Terms(TermList::Dotted),
        Which::Terms(TermList::Numbers),
        Which::Values,
        Which::Traces,
    ];

    /// Name of the block of the sparse index.
    pub(crate) fn block(self) -> &'static str {
        match self {
            Which::Terms(TermList::Plain) => "terms",
            Which::Terms(TermList::Addresses) => "addresses",
            Which::Terms(TermList::Uuids) => "uuids",
            Which::Terms(TermList::Dotted) => "dotted",
            Which::Terms(TermList::Numbers) => "numbers",
            Which::Values => "values",
            Which::Traces => "traces",
        }
    }
}

/// Directory entry: the roll-up.
pub(crate) const BLOCK_ROLLUP: &str = "rollup";
/// Directory entry: the facets.
pub(crate) const BLOCK_FACETS: &str = "facets";
/// Directory entry: durations of spans.
pub(crate) const BLOCK_DURATIONS: &str = "durations";
/// Directory entry: columns whose values are indexed.
pub(crate) const VALUE_COLUMNS: &str = "value_columns";
/// Directory entry: those of them that have a value in every row.
pub(crate) const FULL_COLUMNS: &str = "full_columns";

/// How a trace id stands in its dictionary.
pub(crate) fn trace_term(hash: u64) -> [u8; 8] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut term = [0; 8];
    for (index, byte) in term.iter_mut().enumerate() {
        let nibble = (hash >> (60 - 4 * index)) & 0xF;
        *byte = DIGITS.get(nibble as usize).copied().unwrap_or(b'0');
    }
    term
}

/// How a value stands in its dictionary.
pub(crate) fn value_term(column: &str, value: &str) -> Vec<u8> {
    let mut term = Vec::with_capacity(column.len() + value.len() + 1);
    term.extend_from_slice(column.as_bytes());
    term.push(b'=');
    term.extend_from_slice(value.as_bytes());
    term
}

/// Builds the indexes of one file from its rows, in file order.
pub(crate) struct IndexBuilder {
    table: Table,
    row: u32,
    tokenizer: Tokenizer,
    terms: Lists,
    values: DictionaryBuilder,
    traces: DictionaryBuilder,
    value_columns: FxHashMap<String, ValueState>,
    rollup: RollupBuilder,
    facets: FacetsBuilder,
    /// Only for spans.
    durations: Option<DurationsBuilder>,
}

/// What is known of a column whose values are indexed.
#[derive(Clone, Copy)]
struct ValueState {
    /// `false` once it has too many values.
    good: bool,
    distinct: usize,
    /// Rows with a value.
    rows: u32,
}

/// The finished blocks that a reader needs first.
pub(crate) struct Head {
    /// Name and bytes of sparse indexes.
    pub(crate) sparse: Vec<(&'static str, Vec<u8>)>,
    /// Place of roll-up, facets and durations.
    pub(crate) counts: Vec<(&'static str, (u64, usize))>,
    /// Columns whose values are indexed.
    pub(crate) value_columns: Vec<String>,
    /// Those of them that have a value in every row.
    pub(crate) full_columns: Vec<String>,
}

impl IndexBuilder {
    /// For a file of a table.
    pub(crate) fn new(table: Table) -> IndexBuilder {
        IndexBuilder {
            table,
            row: 0,
            tokenizer: Tokenizer::default(),
            terms: Lists::new(),
            values: DictionaryBuilder::new(false),
            traces: DictionaryBuilder::new(false),
            value_columns: FxHashMap::default(),
            rollup: RollupBuilder::default(),
            facets: FacetsBuilder::default(),
            durations: (table == Table::Spans).then(DurationsBuilder::default),
        }
    }

    /// Adds rows. `bodies` are elided; `trace_hashes` has one per row.
    pub(crate) fn add(
        &mut self,
        batch: &RecordBatch,
        bodies: Option<&StringArray>,
        trace_hashes: &[Option<u64>],
    ) -> Result<(), StoreError> {
        self.count(batch)?;
        self.add_durations(batch);
        let columns: Vec<ValueColumn<'_>> = self.value_columns_of(batch);
        let mut columns = columns;
        let ids = Ids::new(batch);
        let mut at = 0;
        while at < batch.num_rows() {
            let in_granule = self.row as usize % GRANULE_ROWS;
            let end = (at + GRANULE_ROWS - in_granule).min(batch.num_rows());
            if let Some(bodies) = bodies {
                self.add_bodies(bodies, &ids, at, end);
            }
            self.add_traces(trace_hashes, at, end);
            for column in &mut columns {
                column.add(at, end, self.row, &mut self.values);
            }
            self.row += (end - at) as u32;
            at = end;
            if (self.row as usize).is_multiple_of(GRANULE_ROWS) {
                self.end_granule();
            }
        }
        for column in columns {
            if let Some(state) = self.value_columns.get_mut(column.name) {
                *state = column.state;
            }
        }
        Ok(())
    }

    fn end_granule(&mut self) {
        self.terms.end_granule();
        self.values.end_granule();
        self.traces.end_granule();
    }

    fn add_bodies(&mut self, bodies: &StringArray, ids: &Ids<'_>, from: usize, to: usize) {
        let terms = &mut self.terms;
        for at in (from..to).filter(|&at| bodies.is_valid(at)) {
            let row = self.row + (at - from) as u32;
            let own = || OwnIds { trace: ids.trace(at), span: ids.span(at) };
            let body = bodies.value(at).as_bytes();
            self.tokenizer.terms(body, !ids.is_json(at), own, |texts, found| terms.add(row, texts, found));
        }
    }

    fn add_traces(&mut self, hashes: &[Option<u64>], from: usize, to: usize) {
        let mut last = None;
        for hash in hashes.get(from..to).unwrap_or_default().iter().flatten() {
            if last != Some(hash) {
                last = Some(hash);
                self.traces.add_uncounted(&trace_term(*hash));
            }
        }
    }

    /// The columns of a batch whose values are indexed.
    fn value_columns_of<'a>(&mut self, batch: &'a RecordBatch) -> Vec<ValueColumn<'a>> {
        let schema = batch.schema_ref();
        let mut columns = Vec::new();
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            let name = field.name().as_str();
            let values = match field.data_type() {
                data_type if is_dictionary(data_type) => {
                    let dict = array.as_dictionary_opt::<Int32Type>();
                    let parts = dict.and_then(|d| Some((d.keys(), d.values().as_string_opt::<i32>()?)));
                    parts.map(|(keys, texts)| Values::Text(keys, texts))
                }
                DataType::Int64
                    if name == "verdict" || fixed(self.table).iter().all(|fixed| fixed.name() != name) =>
                {
                    array.as_primitive_opt::<Int64Type>().map(|array| Values::Int(array.values(), array))
                }
                _ => None,
            };
            let Some(values) = values else { continue };
            let state = match self.value_columns.get(name) {
                Some(state) => *state,
                None => {
                    let state = ValueState { good: true, distinct: 0, rows: 0 };
                    self.value_columns.insert(name.to_owned(), state);
                    state
                }
            };
            if state.good {
                columns.push(ValueColumn::new(name, values, state));
            }
        }
        columns
    }

    /// Adds rows to roll-up and facets.
    fn count(&mut self, batch: &RecordBatch) -> Result<(), StoreError> {
        let class_column = match self.table {
            Table::Logs => "severity_number",
            Table::Spans => "status_code",
        };
        let classes = batch.column_by_name(class_column).and_then(|a| a.as_primitive_opt::<Int32Type>());
        let class = |row: usize| classes.filter(|c| c.is_valid(row)).map_or(0, |c| c.value(row));
        let missing = || StoreError::Invalid { detail: "rows without ts cannot be sealed".to_owned() };
        let ts = batch.column_by_name("ts").and_then(|a| a.as_primitive_opt::<TimestampMicrosecondType>());
        let ts = ts.ok_or_else(missing)?;
        let bodies = batch.column_by_name("body").and_then(|a| a.as_string_opt::<i32>());
        let service = batch.column_by_name("service").and_then(|a| a.as_dictionary_opt::<Int32Type>());
        let names = service.and_then(|dict| dict.values().as_string_opt::<i32>());
        let mut known: Vec<Option<u32>> = vec![None; names.map_or(0, StringArray::len)];
        for row in 0..batch.num_rows() {
            let key = service.and_then(|dict| dict.key(row));
            let number = match (key.and_then(|key| known.get_mut(key)), names, key) {
                (Some(slot), Some(names), Some(key)) if names.is_valid(key) => match *slot {
                    Some(number) => number,
                    None => *slot.insert(self.rollup.service(names.value(key))),
                },
                _ => 0,
            };
            let bytes = bodies.filter(|b| b.is_valid(row)).map_or(0, |b| b.value_length(row).max(0) as u64);
            self.rollup.add(number, ts.value(row), class(row), bytes);
        }
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let dict = array.as_dictionary_opt::<Int32Type>();
            let Some((keys, texts)) = dict.and_then(|d| Some((d.keys(), d.values().as_string_opt::<i32>()?)))
            else {
                continue;
            };
            self.count_facet(field.name(), keys, texts, &class);
        }
        Ok(())
    }

    fn add_durations(&mut self, batch: &RecordBatch) {
        let Some(durations) = &mut self.durations else { return };
        let columns = Batch::new(batch);
        let (ts, services, outcomes) = (columns.int("ts"), columns.str("service"), Outcomes::new(columns));
        let mut last = None;
        for row in 0..batch.num_rows() {
            let name = services.get(row);
            let number = match last {
                Some((before, number)) if before == name => number,
                _ => name.map_or(0, |name| durations.service(name)),
            };
            last = Some((name, number));
            let bucket = duration_bucket(outcomes.duration_ns(row));
            durations.add(number, ts.get(row).unwrap_or(0), bucket, outcomes.failed(row));
        }
    }

    fn count_facet(
        &mut self,
        name: &str,
        keys: &Int32Array,
        texts: &StringArray,
        class: &impl Fn(usize) -> i32,
    ) {
        let mut counts: FxHashMap<(Option<usize>, i32), u64> = FxHashMap::default();
        let mut last: Option<((Option<usize>, i32), u64)> = None;
        for row in 0..keys.len() {
            let key = keys.is_valid(row).then(|| keys.value(row) as usize);
            let key = (key.filter(|&key| key < texts.len() && texts.is_valid(key)), class(row));
            match &mut last {
                Some((before, rows)) if *before == key => *rows += 1,
                last => {
                    if let Some((before, rows)) = last.replace((key, 1)) {
                        *counts.entry(before).or_default() += rows;
                    }
                }
            }
        }
        if let Some((before, rows)) = last {
            *counts.entry(before).or_default() += rows;
        }
        for ((key, class), rows) in counts {
            self.facets.add(name, key.map(|key| texts.value(key)), class, rows);
        }
    }

    /// Writes sub-blocks and counts by `write`, which says where they went.
    pub(crate) fn finish(
        mut self,
        mut write: impl FnMut(&[u8]) -> Result<u64, StoreError>,
    ) -> Result<Head, StoreError> {
        if !(self.row as usize).is_multiple_of(GRANULE_ROWS) {
            self.end_granule();
        }
        let mut sparse = Vec::new();
        let Lists { plain, addresses, uuids, dotted, numbers, .. } = self.terms;
        let dictionaries = [plain, addresses, uuids, dotted, numbers, self.values, self.traces];
        for (which, dictionary) in Which::ALL.into_iter().zip(dictionaries) {
            if !dictionary.is_empty() {
                sparse.push((which.block(), dictionary.finish(&mut write)?));
            }
        }
        let mut counts = Vec::new();
        let durations = self.durations.map(DurationsBuilder::finish).transpose()?;
        let blocks = [(BLOCK_ROLLUP, self.rollup.finish()?), (BLOCK_FACETS, self.facets.finish()?)];
        for (name, block) in blocks.into_iter().chain(durations.map(|block| (BLOCK_DURATIONS, block))) {
            counts.push((name, (write(&block)?, block.len())));
        }
        let names = |keep: &dyn Fn(&ValueState) -> bool| {
            let kept = self.value_columns.iter().filter(|(_, state)| keep(state));
            let mut names: Vec<String> = kept.map(|(name, _)| name.clone()).collect();
            names.sort_unstable();
            names
        };
        let value_columns = names(&|state| state.good);
        let full_columns = names(&|state| state.good && state.rows == self.row);
        Ok(Head { sparse, counts, value_columns, full_columns })
    }
}

/// Numbers of up to three digits.
const SMALL_NUMBERS: usize = 1000;

/// The terms of bodies.
struct Lists {
    plain: DictionaryBuilder,
    addresses: DictionaryBuilder,
    uuids: DictionaryBuilder,
    dotted: DictionaryBuilder,
    numbers: DictionaryBuilder,
    /// Small numbers of the granule, without leading zeros: nearly all of them.
    small: Box<[bool; SMALL_NUMBERS]>,
}

impl Lists {
    fn new() -> Lists {
        Lists {
            plain: DictionaryBuilder::new(true),
            addresses: DictionaryBuilder::new(false),
            uuids: DictionaryBuilder::new(true),
            dotted: DictionaryBuilder::new(true),
            numbers: DictionaryBuilder::new(false),
            small: Box::new([false; SMALL_NUMBERS]),
        }
    }

    /// Adds terms of a row.
    fn add(&mut self, row: u32, texts: Texts<'_>, found: &[Found]) {
        for (list, term) in found {
            match list {
                TermList::Plain => self.plain.want(term.clone()),
                TermList::Addresses => self.addresses.want(term.clone()),
                TermList::Uuids => self.uuids.want(term.clone()),
                TermList::Dotted => self.dotted.want(term.clone()),
                TermList::Numbers => self.add_number(texts.text.get(term.clone()).unwrap_or_default()),
            }
        }
        for list in [&mut self.plain, &mut self.addresses, &mut self.uuids, &mut self.dotted] {
            list.note(row, texts);
        }
    }

    fn add_number(&mut self, digits: &[u8]) {
        let small = match digits {
            [] | [b'0', _, ..] | [_, _, _, _, ..] => None,
            digits => Some(digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))),
        };
        match small.and_then(|number| self.small.get_mut(number)) {
            Some(seen) => *seen = true,
            None => self.numbers.add_uncounted(digits.get(..TERM_BYTES_MAX).unwrap_or(digits)),
        }
    }

    fn end_granule(&mut self) {
        for (number, seen) in self.small.iter_mut().enumerate().filter(|(_, seen)| **seen) {
            *seen = false;
            self.numbers.add_uncounted(number.to_string().as_bytes());
        }
        let lists =
            [&mut self.plain, &mut self.addresses, &mut self.uuids, &mut self.dotted, &mut self.numbers];
        lists.into_iter().for_each(DictionaryBuilder::end_granule);
    }
}

enum Values<'a> {
    Text(&'a Int32Array, &'a StringArray),
    Int(&'a [i64], &'a arrow_array::Int64Array),
}

/// A column of one batch whose values are indexed.
struct ValueColumn<'a> {
    name: &'a str,
    values: Values<'a>,
    /// Terms of the batch's dictionary; made when first met.
    terms: Vec<Option<u32>>,
    state: ValueState,
}

impl<'a> ValueColumn<'a> {
    fn new(name: &'a str, values: Values<'a>, state: ValueState) -> Self {
        let len = match &values {
            Values::Text(_, texts) => texts.len(),
            Values::Int(..) => 0,
        };
        Self { name, values, terms: vec![None; len], state }
    }

    fn add(&mut self, from: usize, to: usize, first_row: u32, values: &mut DictionaryBuilder) {
        let mut at = from;
        while at < to && self.state.good {
            let end = self.run(at, to);
            let row = first_row + (at - from) as u32;
            if let Some(term) = self.term(at, values) {
                values.add_run(term, row, (end - at) as u32);
                self.state.rows += (end - at) as u32;
            }
            at = end;
        }
    }

    /// Where the run of equal values that begins at `at` ends.
    fn run(&self, at: usize, to: usize) -> usize {
        let mut end = at + 1;
        match &self.values {
            Values::Text(keys, _) => {
                let same = |row| keys.is_valid(row) == keys.is_valid(at) && keys.value(row) == keys.value(at);
                while end < to && same(end) {
                    end += 1;
                }
            }
            Values::Int(numbers, array) => {
                let same = |row: usize| {
                    array.is_valid(row) == array.is_valid(at) && numbers.get(row) == numbers.get(at)
                };
                while end < to && same(end) {
                    end += 1;
                }
            }
        }
        end
    }

    fn term(&mut self, row: usize, values: &mut DictionaryBuilder) -> Option<u32> {
        match &self.values {
            Values::Text(keys, texts) => {
                let key = keys.is_valid(row).then(|| keys.value(row) as usize)?;
                let key = Some(key).filter(|&key| key < texts.len() && texts.is_valid(key))?;
                if let Some(known) = self.terms.get(key).copied().flatten() {
                    return Some(known);
                }
                let term = self.new_term(texts.value(key), values);
                if let Some(slot) = self.terms.get_mut(key) {
                    *slot = term;
                }
                term
            }
            Values::Int(numbers, array) => {
                let number = array.is_valid(row).then(|| numbers.get(row).copied()).flatten()?;
                let text = number.to_string();
                self.new_term(&text, values)
            }
        }
    }

    fn new_term(&mut self, value: &str, values: &mut DictionaryBuilder) -> Option<u32> {
        let fits = value.len() <= VALUE_BYTES_MAX && !value.as_bytes().contains(&SEPARATOR);
        let term = fits.then(|| values.intern(&value_term(self.name, value))).flatten();
        match term {
            Some((_, true)) => self.state.distinct += 1,
            Some((_, false)) => {}
            None => self.state.good = false,
        }
        self.state.good &= self.state.distinct <= VALUES_MAX;
        term.map(|(term, _)| term)
    }
}

/// Hash of every row's trace id.
pub(crate) fn trace_hashes(batch: &RecordBatch, hash: impl Fn(&[u8]) -> u64) -> Vec<Option<u64>> {
    let ids: Option<&FixedSizeBinaryArray> =
        batch.column_by_name("trace_id").and_then(|array| array.as_fixed_size_binary_opt());
    let Some(ids) = ids else { return vec![None; batch.num_rows()] };
    let mut last: Option<(&[u8], u64)> = None;
    (0..ids.len())
        .map(|row| {
            let id = ids.is_valid(row).then(|| ids.value(row))?;
            if let Some((before, hash)) = last
                && before == id
            {
                return Some(hash);
            }
            let hash = hash(id);
            last = Some((id, hash));
            Some(hash)
        })
        .collect()
}
