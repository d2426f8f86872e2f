//! Which attribute keys without a column are seen most, and which of them get one (docs/formats.md, "Layout evolution").

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use threadline_model::columns::Batch;
use threadline_model::schema::{KeyType, Layout, Origin, PromotedKey};
use threadline_model::value::{Raw, members};

use crate::table_log::PARTITION;

/// Rows looked at in one seal, about.
const SAMPLE_ROWS: usize = 4096;
/// Keys kept of one file.
const FILE_KEYS_MAX: usize = 64;
/// Keys kept of a table.
const TABLE_KEYS_MAX: usize = 4096;
/// Rows a key must have been seen in.
const ROWS_MIN: u64 = 1000;
/// And one row in this many.
const SHARE_MIN: u64 = 100;
/// Bytes of a key that can become a column.
const KEY_BYTES_MAX: usize = 128;

const TYPES: [KeyType; 4] = [KeyType::Str, KeyType::Int, KeyType::Double, KeyType::Bool];

/// Rows by key and type of the value, in the order of `TYPES`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyCounts(BTreeMap<String, [u64; 4]>);

impl KeyCounts {
    /// Counts the keys in `attrs`; of large batches, of a regular sample of rows, scaled up.
    pub(crate) fn count(batches: &[RecordBatch]) -> KeyCounts {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let step = rows.div_ceil(SAMPLE_ROWS).max(1);
        let mut counts = KeyCounts::default();
        let mut at = 0;
        for batch in batches {
            let attrs = Batch::new(batch).str("attrs");
            while at < batch.num_rows() {
                for (key, value) in members(attrs.get(at).unwrap_or_default()) {
                    if let Some(slot) = type_of(value)
                        && key.len() <= KEY_BYTES_MAX
                    {
                        counts.entry(&key)[slot] += step as u64;
                    }
                }
                at += step;
            }
            at -= batch.num_rows();
        }
        counts.trim(FILE_KEYS_MAX);
        counts
    }

    fn entry(&mut self, key: &str) -> &mut [u64; 4] {
        if !self.0.contains_key(key) {
            self.trim(TABLE_KEYS_MAX);
        }
        self.0.entry(key.to_owned()).or_default()
    }

    /// Adds the counts of another part of the table.
    pub(crate) fn add(&mut self, other: &KeyCounts) {
        for (key, counts) in &other.0 {
            for (to, from) in self.entry(key).iter_mut().zip(counts) {
                *to = to.saturating_add(*from);
            }
        }
    }

    /// Keeps the keys seen most when there are more than `max`.
    fn trim(&mut self, max: usize) {
        if self.0.len() <= max {
            return;
        }
        let mut totals: Vec<u64> = self.0.values().map(|counts| counts.iter().sum()).collect();
        totals.sort_unstable_by(|a, b| b.cmp(a));
        let floor = totals.get(max / 2).copied().unwrap_or(0);
        self.0.retain(|_, counts| counts.iter().sum::<u64>() > floor);
    }

    /// The text of a tag in the table log; `None` when there is nothing to say.
    pub(crate) fn to_tag(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| serde_json::json!(self.0).to_string())
    }

    /// From the text of a tag; a bad one counts nothing: it only delays a promotion.
    pub(crate) fn from_tag(text: &str) -> KeyCounts {
        KeyCounts(serde_json::from_str(text).unwrap_or_default())
    }

    /// The layout with the most-seen keys promoted, when some have been seen often enough in `rows` rows.
    pub(crate) fn promote(&self, layout: &Layout, rows: u64) -> Option<Layout> {
        let mut names: Vec<String> =
            layout.schema().fields().iter().map(|field| field.name().to_lowercase()).collect();
        names.push(PARTITION.to_owned());
        let mut best: Vec<(u64, KeyType, &String)> = self
            .0
            .iter()
            .filter_map(|(key, counts)| {
                let (slot, count) =
                    counts.iter().enumerate().max_by_key(|(slot, count)| (**count, 4 - slot))?;
                let often = *count >= ROWS_MIN && count.saturating_mul(SHARE_MIN) >= rows;
                (often && can_be_column(key)).then_some((*count, *TYPES.get(slot)?, key))
            })
            .collect();
        best.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.2.cmp(b.2)));
        let mut promoted = layout.promoted.clone();
        for (_, key_type, key) in best {
            let free = Layout::MAX_EVOLVED - layout.evolved().min(Layout::MAX_EVOLVED);
            if promoted.len() >= layout.promoted.len() + free {
                break;
            }
            // Delta's column names ignore case.
            let name = key.to_lowercase();
            if !names.contains(&name) {
                names.push(name);
                promoted.push(PromotedKey { key: Arc::from(key.as_str()), key_type, origin: Origin::Record });
            }
        }
        (promoted.len() > layout.promoted.len()).then_some(Layout { table: layout.table, promoted })
    }
}

/// Delta without column mapping refuses these in names.
fn can_be_column(key: &str) -> bool {
    !key.is_empty()
        && !key.starts_with('$')
        && !key.contains(|c: char| c.is_control() || matches!(c, ' ' | ',' | ';' | '{' | '}' | '(' | ')' | '='))
}

fn type_of(value: Raw<'_>) -> Option<usize> {
    let text = value.json();
    match text.bytes().next()? {
        b'"' => Some(0),
        b't' | b'f' => Some(3),
        b'-' | b'0'..=b'9' if text.contains(['.', 'e', 'E']) => Some(2),
        b'-' | b'0'..=b'9' => Some(1),
        _ => None,
    }
}
