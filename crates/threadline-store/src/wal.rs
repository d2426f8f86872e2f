//! The write-ahead log: what was acknowledged and is not in sealed files yet.
//!
//! Layout, limits and recovery are in docs/formats.md, "Write-ahead log"; so is the vocabulary. `format` knows bytes,
//! `replay` reads, `writer` writes and reuses segments. None of them knows memory table, threads or sealed files.

mod format;
mod replay;
mod writer;

use std::path::{Path, PathBuf};

use threadline_model::schema::Table;

pub(crate) use format::RECORD_HEAD_BYTES;
pub(crate) use replay::{Closed, Log, Replay, Replayed, heal, replay};
pub(crate) use writer::{Part, Spares, Writer, WriterOptions, ids_path, read_file, replace_file};

/// A number per table, in the order of [`Table::ALL`].
pub(crate) type PerTable<T> = [T; 2];

/// The table's place in a [`PerTable`], and its number in files.
pub(crate) fn slot(table: Table) -> usize {
    match table {
        Table::Logs => 0,
        Table::Spans => 1,
    }
}

/// The table with this number.
pub(crate) fn table_at(number: u8) -> Option<Table> {
    Table::ALL.get(usize::from(number)).copied()
}

const SPARE: &str = "spare-";
const SUFFIX: &str = ".wal";
const IDS: &str = "ids";

/// Path of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}{SUFFIX}"))
}

/// The number of a segment's file name.
fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}
