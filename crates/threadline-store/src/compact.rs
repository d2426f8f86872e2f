//! Compaction: small files of one hour become one, with exactly the same rows.
//!
//! Files are *small* below half of [`Options::compact_rows`](crate::Options::compact_rows), *tiny* below a
//! [`TINY_PART`]th of it. While an hour may still grow, a few tiny files of about the same size are merged; other small
//! ones wait until together they are no longer small. So a row is rewritten once by every fourfold growth of tiny files
//! and then once more, and at full speed, when no sealed file is tiny, once at all. When the hour is over and no file was
//! added for a while, the small ones that are left are merged, but a file is not rewritten for the sake of far fewer rows
//! than it has: those that come late gather first.
//!
//! A file that is small but not tiny, of an hour that is not over, is a *draft* at first: compressed in haste, as it will
//! be written again. One that stays alone is written again all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use threadline_model::schema::Table;

use crate::sealed::Sealed;
use crate::sealed::catalogue::{TAG_KEYS, add_of, remove_of, sealed_at};
use crate::sealed::keys::KeyCounts;
use crate::sealed::reader::SealedFile;
use crate::sealed::rows::HOUR_US;
use crate::table_log::{Action, Operation};
use crate::{Options, StoreError};

/// A file with fewer rows than this part of a full one is tiny.
const TINY_PART: u64 = 64;
/// Tiny files merged at once while the hour may still grow, at least.
const TINY_MIN: usize = 4;
/// A file with more than so many times the rows of all the others together is left alone.
const LATE_SHARE: u64 = 16;
/// Files merged at once at most: bounds memory.
const FILES_MAX: usize = 16;
/// An hour counts as over this long after its end, µs.
const LATE_US: i64 = 600_000_000;

/// Whether a new file of so many rows of an hour is sure to be written again: rows of an hour that is over may be all
/// that ever come of it.
pub(crate) fn is_draft(hour: i64, rows: u64, rows_max: u64, now: i64) -> bool {
    !is_over(hour, now) && (rows_max / TINY_PART..rows_max / 2).contains(&rows)
}

fn is_over(hour: i64, now: i64) -> bool {
    now >= hour.saturating_add(HOUR_US + LATE_US)
}

impl Sealed {
    /// Merges one group of small files, if there is one. The caller holds `maintenance`.
    pub(crate) fn compact(&self, table: Table) -> Result<bool, StoreError> {
        let files = self.catalogue().table(table).files.clone();
        let now = self.env.clock.now_us();
        let Some(group) = choose(&files, &self.options, now) else { return Ok(false) };
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
        let sealed_ms = group.iter().map(|file| file.meta().sealed_ms).max();
        sealed_at(&mut add, sealed_ms.unwrap_or(now / 1000));
        actions.push(Action::add(add));
        let done = self.commit_change(table, &group, &[written], &actions)?;
        if done {
            self.compactions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(done)
    }
}

/// Which files of an hour may be merged with each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// With those of about the same size.
    Tiny(u32),
    /// With any that are not tiny.
    Small,
    /// The hour is over: with any.
    Over,
}

/// The oldest group of files worth merging.
fn choose(files: &[Arc<SealedFile>], options: &Options, now: i64) -> Option<Vec<Arc<SealedFile>>> {
    let rows_max = options.compact_rows as u64;
    let quiet_us = i64::try_from(options.compact_quiet.as_micros()).unwrap_or(i64::MAX);
    let mut quiet_since: BTreeMap<i64, i64> = BTreeMap::new();
    for file in files {
        let sealed_us = file.meta().sealed_ms.saturating_mul(1000);
        // A clock that went back says nothing of when an hour has grown.
        if sealed_us <= now {
            let since = quiet_since.entry(file.meta().hour).or_insert(i64::MIN);
            *since = (*since).max(sealed_us);
        }
    }
    let over = |hour: i64| {
        let quiet_since = quiet_since.get(&hour).copied().unwrap_or(i64::MIN);
        is_over(hour, now) && now >= quiet_since.saturating_add(quiet_us)
    };
    // What is in quarantine stays among itself.
    let mut groups: BTreeMap<(i64, bool, Class), Vec<&Arc<SealedFile>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.meta().rows < rows_max / 2) {
        let rows = file.meta().rows;
        let class = if over(file.meta().hour) {
            Class::Over
        } else if rows < rows_max / TINY_PART {
            Class::Tiny(rows.max(1).ilog(4))
        } else {
            Class::Small
        };
        groups.entry((file.meta().hour, file.meta().quarantined, class)).or_default().push(file);
    }
    groups.into_iter().find_map(|((.., class), mut group)| {
        group.sort_by_key(|file| (file.meta().rows, *file.meta().seq.start()));
        let sizes: Vec<u64> = group.iter().map(|file| file.meta().rows).collect();
        let chosen = worth_merging(class, &sizes, rows_max);
        if chosen > 0 {
            return Some(group.into_iter().take(chosen).cloned().collect());
        }
        let draft = group.into_iter().find(|file| class == Class::Over && file.meta().draft);
        draft.map(|file| vec![Arc::clone(file)])
    })
}

/// How many of the smallest files of a class are merged now. `sizes` go up.
fn worth_merging(class: Class, sizes: &[u64], rows_max: u64) -> usize {
    let mut rows = 0;
    let mut count = 0;
    for &own in sizes.iter().take(FILES_MAX) {
        let enough = match class {
            Class::Over => rows + own > rows_max || (rows > 0 && own / LATE_SHARE > rows),
            // As soon as the result is not small any more, it need not grow.
            Class::Tiny(_) | Class::Small => rows >= rows_max / 2,
        };
        if enough {
            break;
        }
        rows += own;
        count += 1;
    }
    let worth = match class {
        Class::Over => count >= 2,
        Class::Tiny(_) => count >= TINY_MIN,
        Class::Small => count >= 2 && (rows >= rows_max / 2 || count == FILES_MAX),
    };
    if worth { count } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_wait_until_merging_them_pays() {
        const MAX: u64 = 2_000_000;
        for (class, sizes, want) in [
            (Class::Tiny(3), vec![200, 210, 220], 0),
            (Class::Tiny(3), vec![200, 210, 220, 230], 4),
            (Class::Tiny(3), vec![200; 20], FILES_MAX),
            // At full speed: no row is rewritten before its file gets its last size.
            (Class::Small, vec![250_000; 3], 0),
            (Class::Small, vec![250_000; 4], 4),
            (Class::Small, vec![239_000; 4], 0),
            (Class::Small, vec![239_000; 9], 5),
            (Class::Small, vec![62_500; 15], 0),
            (Class::Small, vec![62_500; 16], 16),
            (Class::Small, vec![62_500, 999_999], 2),
            (Class::Small, vec![999_999], 0),
            (Class::Over, vec![5], 0),
            (Class::Over, vec![5, 70], 2),
            (Class::Over, vec![400_000, 900_000], 2),
            (Class::Over, vec![900_000, 900_000, 900_000], 2),
            // A few late rows are not worth a large file; many are.
            (Class::Over, vec![100, 900_000], 0),
            (Class::Over, vec![100, 100, 900_000], 2),
            (Class::Over, vec![60_000, 900_000], 2),
        ] {
            assert_eq!(worth_merging(class, &sizes, MAX), want, "{sizes:?}");
        }
    }
}
