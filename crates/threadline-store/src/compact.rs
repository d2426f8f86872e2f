//! Compaction: small files of one hour become one, with exactly the same rows.
//!
//! Files are small below half of [`Options::compact_rows`](crate::Options::compact_rows). While an hour may still grow,
//! only files of about the same size are merged, so that a row is rewritten a logarithmic number of times; when the
//! hour is over, all small ones are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use threadline_model::schema::Table;

use crate::StoreError;
use crate::sealed::Sealed;
use crate::sealed::catalogue::{TAG_KEYS, add_of, remove_of};
use crate::sealed::keys::KeyCounts;
use crate::sealed::reader::SealedFile;
use crate::sealed::rows::HOUR_US;
use crate::table_log::{Action, Operation};

/// Files merged at once while the hour may still grow, at least.
const FILES_MIN: usize = 4;
/// Files merged at once at most: bounds memory.
const FILES_MAX: usize = 16;
/// An hour counts as over this long after its end, µs.
const LATE_US: i64 = 600_000_000;

impl Sealed {
    /// Merges one group of small files, if there is one. The caller holds `maintenance`.
    pub(crate) fn compact(&self, table: Table) -> Result<bool, StoreError> {
        let files = self.catalogue().table(table).files.clone();
        let now = self.env.clock.now_us();
        let Some(group) = choose(&files, self.options.compact_rows as u64, now) else { return Ok(false) };
        let rows: u64 = group.iter().map(|file| file.meta().rows).sum();
        let Some(written) = self.rewrite(table, &group, None)? else { return Ok(false) };
        if written.facts.rows != rows {
            self.discard_unnamed(&self.side(table), &[written]);
            return Err(StoreError::corrupt(format!(
                "merging files of table {} changed the number of rows: run verify",
                table.name()
            )));
        }
        let mut actions = vec![Action::commit_info(
            Operation::Compact,
            now,
            &[("inputs", group.len().to_string()), ("rows", rows.to_string())],
        )];
        let mut keys = KeyCounts::default();
        {
            let side = self.side(table);
            for add in group.iter().filter_map(|file| side.log.state().files.get(&file.meta().path)) {
                actions.push(Action::remove(remove_of(add, false, now)));
                if let Some(tag) = add.tags.as_ref().and_then(|tags| tags.get(TAG_KEYS)) {
                    keys.add(&KeyCounts::from_tag(tag));
                }
            }
        }
        let mut add = add_of(&written.path, written.hour, &written.facts, keys.to_tag(), now);
        add.data_change = false;
        actions.push(Action::add(add));
        let done = self.commit_change(table, &group, &[written], &actions)?;
        if done {
            self.compactions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(done)
    }
}

/// The oldest group of files worth merging.
fn choose(files: &[Arc<SealedFile>], rows_max: u64, now: i64) -> Option<Vec<Arc<SealedFile>>> {
    let mut groups: BTreeMap<(i64, u32), Vec<&Arc<SealedFile>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.meta().rows <= rows_max / 2) {
        let over = now >= file.meta().hour.saturating_add(HOUR_US + LATE_US);
        let class = if over { u32::MAX } else { file.meta().rows.max(1).ilog(4) };
        groups.entry((file.meta().hour, class)).or_default().push(file);
    }
    for ((_, class), mut group) in groups {
        group.sort_by_key(|file| (file.meta().rows, *file.meta().seq.start()));
        let mut rows = 0;
        let chosen: Vec<Arc<SealedFile>> = group
            .into_iter()
            .take(FILES_MAX)
            .take_while(|file| {
                rows += file.meta().rows;
                rows <= rows_max
            })
            .cloned()
            .collect();
        if chosen.len() >= if class == u32::MAX { 2 } else { FILES_MIN } {
            return Some(chosen);
        }
    }
    None
}
