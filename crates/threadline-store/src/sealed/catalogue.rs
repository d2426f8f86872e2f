//! What the table logs say, in memory: files of both tables, how far rows are sealed, which keys own columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use threadline_model::id::hex;
use threadline_model::schema::{Layout, Table};

use crate::StoreError;
use crate::sealed::reader::SealedFile;
use crate::sealed::rows::HOUR_US;
use crate::sealed::writer::{Facts, HeadPlace};
use crate::snapshot::FileMeta;
use crate::table_log::{Add, PARTITION, Remove};

/// Files of both tables at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    /// `logs`.
    pub(crate) logs: TableCatalogue,
    /// `spans`.
    pub(crate) spans: TableCatalogue,
}

/// Files of one table at one moment.
#[derive(Clone, Debug)]
pub(crate) struct TableCatalogue {
    /// Sealed files, by path.
    pub(crate) files: Vec<Arc<SealedFile>>,
    /// Rows with a sequence number up to this are in files (or deleted).
    pub(crate) sealed_seq: i64,
    /// Which keys own columns.
    pub(crate) layout: Arc<Layout>,
}

impl Catalogue {
    /// The files of a table.
    pub(crate) fn table(&self, table: Table) -> &TableCatalogue {
        match table {
            Table::Logs => &self.logs,
            Table::Spans => &self.spans,
        }
    }

    /// Sealed files of a table.
    pub(crate) fn files(&self, table: Table) -> &[Arc<SealedFile>] {
        &self.table(table).files
    }

    /// Files of a table that are to be written again.
    pub(crate) fn drafts(&self, table: Table) -> usize {
        self.files(table).iter().filter(|file| file.meta().draft).count()
    }

    /// Rows of a table with a sequence number up to this are in files (or deleted).
    pub(crate) fn sealed_seq(&self, table: Table) -> i64 {
        self.table(table).sealed_seq
    }

    /// Which keys own columns in a table.
    pub(crate) fn layout(&self, table: Table) -> &Arc<Layout> {
        &self.table(table).layout
    }

    /// The files of a table.
    pub(crate) fn table_mut(&mut self, table: Table) -> &mut TableCatalogue {
        match table {
            Table::Logs => &mut self.logs,
            Table::Spans => &mut self.spans,
        }
    }
}

/// SHA-256 of the file, hex.
pub(crate) const TAG_SHA256: &str = "threadline.sha256";
/// Rows.
pub(crate) const TAG_ROWS: &str = "threadline.rows";
/// Merkle root of the rows, hex.
pub(crate) const TAG_ROOT: &str = "threadline.rows_root";
/// Lowest and highest sequence number.
pub(crate) const TAG_SEQ: &str = "threadline.seq";
const TAG_TS: &str = "threadline.ts";
const TAG_SERVICES: &str = "threadline.services";
const TAG_HEAD: &str = "threadline.head";
const TAG_ELIDED: &str = "threadline.elide_ids";
/// `true`: the file is to be written again, smaller.
const TAG_DRAFT: &str = "threadline.draft";
/// When the newest of a merged file's rows were sealed, ms. Not there: when the file was made.
const TAG_SEALED_MS: &str = "threadline.sealed_ms";
/// `true`: the file's rows are in quarantine. Not there: none is.
const TAG_QUARANTINED: &str = "threadline.quarantined";
/// Keys without a column that the file's rows have, with type and count.
pub(crate) const TAG_KEYS: &str = "threadline.keys";

/// The `add` of a file.
pub(crate) fn add_of(path: &str, hour: i64, facts: &Facts, keys: Option<String>, now_us: i64) -> Add {
    let range = |range: &std::ops::RangeInclusive<i64>| format!("{} {}", range.start(), range.end());
    let mut tags = BTreeMap::from([
        (TAG_SHA256.to_owned(), hex(&facts.sha256)),
        (TAG_ROWS.to_owned(), facts.rows.to_string()),
        (TAG_ROOT.to_owned(), hex(&facts.rows_root)),
        (TAG_SEQ.to_owned(), range(&facts.seq)),
        (TAG_TS.to_owned(), range(&facts.ts)),
        (TAG_ELIDED.to_owned(), facts.elided.to_string()),
        (TAG_HEAD.to_owned(), facts.head.to_text()),
    ]);
    if facts.quarantined {
        tags.insert(TAG_QUARANTINED.to_owned(), true.to_string());
    }
    if let Some(services) = &facts.services {
        tags.insert(TAG_SERVICES.to_owned(), serde_json::json!(services).to_string());
    }
    if facts.draft {
        tags.insert(TAG_DRAFT.to_owned(), true.to_string());
    }
    if let Some(keys) = keys {
        tags.insert(TAG_KEYS.to_owned(), keys);
    }
    let stats = serde_json::json!({
        "numRecords": facts.rows,
        "minValues": { "ts": time_text(*facts.ts.start()), "seq": facts.seq.start() },
        "maxValues": { "ts": time_text(*facts.ts.end()), "seq": facts.seq.end() },
        "nullCount": { "ts": 0, "seq": 0 },
    });
    Add {
        path: path.to_owned(),
        partition_values: BTreeMap::from([(PARTITION.to_owned(), Some(hour_text(hour)))]),
        size: facts.bytes as i64,
        modification_time: now_us / 1000,
        data_change: true,
        stats: Some(stats.to_string()),
        tags: Some(tags),
    }
}

/// Says when the last of a merged file's rows were sealed, ms.
pub(crate) fn sealed_at(add: &mut Add, sealed_ms: i64) {
    add.tags.get_or_insert_default().insert(TAG_SEALED_MS.to_owned(), sealed_ms.to_string());
}

/// The `remove` of a file.
pub(crate) fn remove_of(add: &Add, data_change: bool, now_us: i64) -> Remove {
    Remove {
        path: add.path.clone(),
        deletion_timestamp: Some(now_us / 1000),
        data_change,
        extended_file_metadata: Some(true),
        partition_values: Some(add.partition_values.clone()),
        size: Some(add.size),
        tags: add.tags.clone(),
    }
}

/// What an `add` says of a file: its services and the place of its head come apart.
pub(crate) fn meta_of(
    table: Table,
    add: &Add,
) -> Result<(FileMeta, Option<Vec<String>>, HeadPlace), StoreError> {
    let tag = |name: &str| {
        add.tags.as_ref().and_then(|tags| tags.get(name)).ok_or_else(|| {
            StoreError::corrupt(format!("the table log of {} lacks {name} of file {}", table.name(), add.path))
        })
    };
    let bad = |name: &str| {
        StoreError::corrupt(format!("the table log of {} has a bad {name} of file {}", table.name(), add.path))
    };
    let range = |name: &str| {
        let (low, high) = tag(name)?.split_once(' ').ok_or_else(|| bad(name))?;
        let number = |text: &str| text.parse::<i64>().map_err(|_| bad(name));
        Ok::<_, StoreError>(number(low)?..=number(high)?)
    };
    let hash = |name: &str| unhex(tag(name)?).ok_or_else(|| bad(name));
    let ts = range(TAG_TS)?;
    let services = match tag(TAG_SERVICES) {
        Ok(text) => Some(serde_json::from_str(text).map_err(|_| bad(TAG_SERVICES))?),
        Err(_) => None,
    };
    let meta = FileMeta {
        table,
        path: add.path.clone(),
        bytes: u64::try_from(add.size).map_err(|_| bad("size"))?,
        rows: tag(TAG_ROWS)?.parse().map_err(|_| bad(TAG_ROWS))?,
        hour: super::rows::hour_of(*ts.start()),
        ts,
        seq: range(TAG_SEQ)?,
        sha256: hash(TAG_SHA256)?,
        rows_root: hash(TAG_ROOT)?,
        sealed_ms: match tag(TAG_SEALED_MS) {
            Ok(text) => text.parse().map_err(|_| bad(TAG_SEALED_MS))?,
            Err(_) => add.modification_time,
        },
        draft: tag(TAG_DRAFT).is_ok_and(|draft| draft == "true"),
        quarantined: tag(TAG_QUARANTINED).is_ok_and(|text| text == "true"),
    };
    let head = HeadPlace::parse(tag(TAG_HEAD)?).ok_or_else(|| bad(TAG_HEAD))?;
    Ok((meta, services, head))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Year, month, day of a number of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The partition value of an hour, such as `2023-01-29T08`.
pub(crate) fn hour_text(hour: i64) -> String {
    let hours = hour.div_euclid(HOUR_US);
    let (year, month, day) = civil(hours.div_euclid(24));
    format!("{year:04}-{month:02}-{day:02}T{:02}", hours.rem_euclid(24))
}

/// A time as Delta's statistics have it, such as `2023-01-29T08:00:00.000001Z`.
fn time_text(ts: i64) -> String {
    let seconds = ts.div_euclid(1_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        ts.rem_euclid(1_000_000)
    )
}
