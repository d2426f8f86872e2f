//! The window of batch ids that are remembered, and the side file `wal/ids` (docs/formats.md, "Batch ids").

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashSet;
use threadline_model::schema::Table;

use crate::BatchId;
use crate::wal::{slot, table_at};

const MAGIC: &[u8; 8] = b"TLIDS\0\0\x01";
const ENTRY_BYTES: usize = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    table: Table,
    id: BatchId,
    time_us: i64,
}

/// The batch ids of the last while, oldest first.
#[derive(Debug)]
pub(crate) struct Window {
    age_max_us: i64,
    ids_max: usize,
    known: FxHashSet<(Table, BatchId)>,
    order: VecDeque<Entry>,
}

impl Window {
    /// An empty window.
    pub(crate) fn new(age_max: Duration, ids_max: usize) -> Self {
        let age_max_us = i64::try_from(age_max.as_micros()).unwrap_or(i64::MAX);
        Self { age_max_us, ids_max, known: FxHashSet::default(), order: VecDeque::new() }
    }

    /// Whether the batch is known at `now_us`.
    pub(crate) fn contains(&mut self, table: Table, id: BatchId, now_us: i64) -> bool {
        self.forget(now_us);
        self.known.contains(&(table, id))
    }

    /// Remembers a batch that was committed at `time_us`.
    pub(crate) fn insert(&mut self, table: Table, id: BatchId, time_us: i64) {
        if self.known.insert((table, id)) {
            self.order.push_back(Entry { table, id, time_us });
        }
        self.forget(time_us);
    }

    fn forget(&mut self, now_us: i64) {
        let oldest_us = now_us.saturating_sub(self.age_max_us);
        while let Some(front) = self.order.front()
            && (front.time_us < oldest_us || self.order.len() > self.ids_max)
        {
            self.known.remove(&(front.table, front.id));
            self.order.pop_front();
        }
    }

    /// Remembers what an earlier life knew before what is known now.
    pub(crate) fn prepend(&mut self, bytes: &[u8], now_us: i64) -> Result<(), String> {
        let mut order: VecDeque<Entry> = parse(bytes)?.into();
        order.retain(|entry| self.known.insert((entry.table, entry.id)));
        order.append(&mut self.order);
        self.order = order;
        self.forget(now_us);
        Ok(())
    }

    /// The content of the side file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20 + self.order.len() * ENTRY_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&(self.order.len() as u64).to_le_bytes());
        for entry in &self.order {
            out.extend_from_slice(&entry.id.0.to_le_bytes());
            out.extend_from_slice(&entry.time_us.to_le_bytes());
            out.push(slot(entry.table) as u8);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let (content, crc) = bytes.split_last_chunk::<4>().ok_or("the file is too short")?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return Err("the checksum is wrong".into());
    }
    let (magic, rest) = content.split_first_chunk::<8>().ok_or("the file is too short")?;
    let (count, rest) = rest.split_first_chunk::<8>().ok_or("the file is too short")?;
    if magic != MAGIC || u64::from_le_bytes(*count) != (rest.len() / ENTRY_BYTES) as u64 {
        return Err("the head is not that of a file of batch ids".into());
    }
    let entry = |chunk: &[u8]| {
        let (id, rest) = chunk.split_first_chunk::<16>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let table = table_at(*rest.first()?)?;
        Some(Entry { table, id: BatchId(u128::from_le_bytes(*id)), time_us: i64::from_le_bytes(*time) })
    };
    rest.chunks(ENTRY_BYTES).map(|chunk| entry(chunk).ok_or("an id has no table".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(Duration::from_micros(100), 3)
    }

    #[test]
    fn ids_are_forgotten_by_age_and_number() {
        let mut w = window();
        w.insert(Table::Logs, BatchId(1), 0);
        assert!(w.contains(Table::Logs, BatchId(1), 100));
        assert!(!w.contains(Table::Spans, BatchId(1), 100), "each table has its own ids");
        assert!(!w.contains(Table::Logs, BatchId(1), 101));
        for id in 10..14 {
            w.insert(Table::Logs, BatchId(id), 200);
        }
        assert!(!w.contains(Table::Logs, BatchId(10), 200));
        assert!(w.contains(Table::Logs, BatchId(11), 200));
    }

    #[test]
    fn the_side_file_comes_before_what_is_known() {
        let mut old = window();
        old.insert(Table::Logs, BatchId(1), 10);
        old.insert(Table::Spans, BatchId(2), 20);
        let mut new = window();
        new.insert(Table::Spans, BatchId(2), 20);
        new.insert(Table::Spans, BatchId(3), 30);
        new.prepend(&old.bytes(), 30).unwrap();
        assert_eq!(new.order.iter().map(|e| e.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_broken_side_file_is_an_error() {
        let mut w = window();
        w.insert(Table::Logs, BatchId(1), 10);
        let good = w.bytes();
        assert!(window().prepend(&good, 10).is_ok());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(window().prepend(&bad, 10).is_err(), "byte {at}");
            assert!(window().prepend(&good[..at], 10).is_err(), "cut at {at}");
        }
    }
}
