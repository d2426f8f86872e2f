//! Counts of a sealed file that answer questions without its rows (docs/formats.md, "Roll-up", "Facets").
//!
//! Vocabulary:
//! - *class*: the severity number of a log; the status code of a span (null = 0);
//! - *roll-up*: rows and bytes by service, minute and class;
//! - *facet*: rows by value and class, of one column with few values.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::dictionary::checked;
use super::varint::{read, unzigzag, write, zigzag};
use crate::StoreError;

/// Microseconds of a minute.
pub(crate) const MINUTE_US: i64 = 60_000_000;
/// Values of a facet at most.
pub(crate) const FACET_VALUES_MAX: usize = 512;
const BYTES_MAX: usize = 64 << 20;
const VERSION: u64 = 1;

pub(super) fn bad() -> StoreError {
    StoreError::corrupt("the counts of a sealed file are damaged")
}

/// Version, length before compression, zstd of the content, checksum.
pub(super) fn seal(content: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut block = Vec::new();
    write(&mut block, VERSION);
    write(&mut block, content.len() as u64);
    let packed = zstd::bulk::compress(content, 3)
        .map_err(|error| StoreError::io("compressing counts of a sealed file", error))?;
    block.extend_from_slice(&packed);
    block.extend_from_slice(&crc32c::crc32c(&block).to_le_bytes());
    Ok(block)
}

pub(super) fn open(block: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut rest = checked(block)?;
    let version = read(&mut rest).ok_or_else(bad)?;
    let len = read(&mut rest).and_then(|len| usize::try_from(len).ok()).filter(|len| *len <= BYTES_MAX);
    match len {
        Some(len) if version == VERSION => zstd::bulk::decompress(rest, len).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

pub(super) fn number(rest: &mut &[u8]) -> Result<u64, StoreError> {
    read(rest).ok_or_else(bad)
}

pub(super) fn length(rest: &mut &[u8]) -> Result<usize, StoreError> {
    usize::try_from(number(rest)?).map_err(|_| bad())
}

fn text(rest: &mut &[u8]) -> Result<String, StoreError> {
    let len = length(rest)?;
    let (text, tail) = rest.split_at_checked(len).ok_or_else(bad)?;
    *rest = tail;
    String::from_utf8(text.to_vec()).map_err(|_| bad())
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Services of a file, numbered as they come from 1; 0 = none.
#[derive(Default)]
pub(super) struct Services(FxHashMap<String, u32>);

impl Services {
    /// The number of a service.
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.0.get(name) {
            return known;
        }
        let next = self.0.len() as u32 + 1;
        self.0.insert(name.to_owned(), next);
        next
    }

    /// Writes the names, sorted by bytes. The rank of each number, from 1; 0 = none.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Vec<u32> {
        let mut names: Vec<(&str, u32)> =
            self.0.iter().map(|(name, number)| (name.as_str(), *number)).collect();
        names.sort_unstable();
        write(out, names.len() as u64);
        let mut ranks = vec![0; names.len() + 1];
        for (rank, (name, number)) in (1..).zip(names) {
            write_text(out, name);
            if let Some(slot) = ranks.get_mut(number as usize) {
                *slot = rank;
            }
        }
        ranks
    }

    /// Names as [`Services::write`] left them.
    pub(super) fn read(rest: &mut &[u8]) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for _ in 0..length(rest)? {
            names.push(text(rest)?);
        }
        Ok(names)
    }
}

/// Service and minute of entries that are sorted by both: each by its distance from the one before.
#[derive(Default)]
pub(super) struct Steps {
    service: u32,
    minute: i64,
}

impl Steps {
    /// Writes a service's rank and a minute.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, service: u32, minute: i64) {
        if service != self.service {
            self.minute = 0;
        }
        write(out, u64::from(service - self.service));
        write(out, zigzag(minute - self.minute));
        *self = Steps { service, minute };
    }

    /// Index of the service among `services`, and start of the minute, µs.
    pub(super) fn read(&mut self, rest: &mut &[u8], services: usize) -> Result<(Option<u32>, i64), StoreError> {
        let step = u32::try_from(number(rest)?).map_err(|_| bad())?;
        if step > 0 {
            self.minute = 0;
        }
        self.service = self.service.checked_add(step).ok_or_else(bad)?;
        self.minute = self.minute.checked_add(unzigzag(number(rest)?)).ok_or_else(bad)?;
        if self.service as usize > services {
            return Err(bad());
        }
        Ok((self.service.checked_sub(1), self.minute.checked_mul(MINUTE_US).ok_or_else(bad)?))
    }
}

/// Rows of one service, minute and class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollupEntry {
    /// Index into [`Rollup::services`]; `None` = no service.
    pub service: Option<u32>,
    /// Start of the minute, µs.
    pub minute_us: i64,
    /// Severity number of logs, status code of spans; null = 0.
    pub class: i32,
    /// Rows.
    pub rows: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Rows of a file by service, minute and class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    /// Names of services.
    pub services: Vec<String>,
    /// By service, minute, class.
    pub entries: Vec<RollupEntry>,
}

impl Rollup {
    pub(crate) fn read(block: &[u8]) -> Result<Rollup, StoreError> {
        let content = open(block)?;
        let mut rest = content.as_slice();
        let services = Services::read(&mut rest)?;
        let mut entries = Vec::new();
        let mut steps = Steps::default();
        for _ in 0..length(&mut rest)? {
            let (service, minute_us) = steps.read(&mut rest, services.len())?;
            let class = i32::try_from(unzigzag(number(&mut rest)?)).map_err(|_| bad())?;
            let (rows, bytes) = (number(&mut rest)?, number(&mut rest)?);
            entries.push(RollupEntry { service, minute_us, class, rows, bytes });
        }
        Ok(Rollup { services, entries })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.services.iter().map(|name| name.len() + 24).sum::<usize>()
            + self.entries.len() * size_of::<RollupEntry>()
    }
}

/// Counts rows by service, minute and class.
#[derive(Default)]
pub(crate) struct RollupBuilder {
    services: Services,
    counts: FxHashMap<(u32, i64, i32), (u64, u64)>,
    last: Option<((u32, i64, i32), (u64, u64))>,
}

impl RollupBuilder {
    /// The number of a service, from 1; 0 = none.
    pub(crate) fn service(&mut self, name: &str) -> u32 {
        self.services.number(name)
    }

    /// Counts a row.
    #[inline]
    pub(crate) fn add(&mut self, service: u32, ts: i64, class: i32, bytes: u64) {
        let key = (service, ts.div_euclid(MINUTE_US), class);
        match &mut self.last {
            Some((last, (rows, sum))) if *last == key => {
                *rows += 1;
                *sum += bytes;
            }
            last => {
                if let Some((key, (rows, sum))) = last.replace((key, (1, bytes))) {
                    let counts = self.counts.entry(key).or_default();
                    counts.0 += rows;
                    counts.1 += sum;
                }
            }
        }
    }

    /// The block.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, StoreError> {
        if let Some((key, (rows, sum))) = self.last.take() {
            let counts = self.counts.entry(key).or_default();
            counts.0 += rows;
            counts.1 += sum;
        }
        let mut content = Vec::new();
        let ranks = self.services.write(&mut content);
        let mut entries: Vec<((u32, i64, i32), (u64, u64))> = self
            .counts
            .iter()
            .map(|(&(service, minute, class), &counts)| {
                ((ranks.get(service as usize).copied().unwrap_or(0), minute, class), counts)
            })
            .collect();
        entries.sort_unstable();
        write(&mut content, entries.len() as u64);
        let mut steps = Steps::default();
        for ((service, minute, class), (rows, bytes)) in entries {
            steps.write(&mut content, service, minute);
            write(&mut content, zigzag(i64::from(class)));
            write(&mut content, rows);
            write(&mut content, bytes);
        }
        seal(&content)
    }
}

/// Rows by value and class, of columns with few values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    columns: BTreeMap<String, Facet>,
}

/// Rows of one column: by value (`None` = null), by class.
pub type Facet = Vec<(Option<String>, Vec<(i32, u64)>)>;

impl Facets {
    /// Rows by value and class; `None` when the column's values were not counted.
    pub fn column(&self, name: &str) -> Option<&Facet> {
        self.columns.get(name)
    }

    pub(crate) fn read(block: &[u8]) -> Result<Facets, StoreError> {
        let content = open(block)?;
        let mut rest = content.as_slice();
        let mut columns = BTreeMap::new();
        for _ in 0..length(&mut rest)? {
            let name = text(&mut rest)?;
            let mut facet = Facet::new();
            for _ in 0..length(&mut rest)? {
                let value = match number(&mut rest)? {
                    0 => None,
                    _ => Some(text(&mut rest)?),
                };
                let mut classes = Vec::new();
                for _ in 0..length(&mut rest)? {
                    let class = i32::try_from(unzigzag(number(&mut rest)?)).map_err(|_| bad())?;
                    classes.push((class, number(&mut rest)?));
                }
                facet.push((value, classes));
            }
            columns.insert(name, facet);
        }
        Ok(Facets { columns })
    }

    pub(crate) fn bytes(&self) -> usize {
        let facet = |facet: &Facet| {
            facet
                .iter()
                .map(|(value, classes)| value.as_ref().map_or(0, String::len) + 48 + classes.len() * 16)
                .sum::<usize>()
        };
        self.columns.iter().map(|(name, values)| name.len() + 48 + facet(values)).sum()
    }
}

/// Counts of one column while a file is written; `None` once it has too many values.
type Counting = Option<FxHashMap<Option<String>, BTreeMap<i32, u64>>>;

/// Counts rows by value and class.
#[derive(Default)]
pub(crate) struct FacetsBuilder {
    columns: BTreeMap<String, Counting>,
}

impl FacetsBuilder {
    /// Adds rows of one value and class of a column.
    pub(crate) fn add(&mut self, column: &str, value: Option<&str>, class: i32, rows: u64) {
        if !self.columns.contains_key(column) {
            self.columns.insert(column.to_owned(), Some(FxHashMap::default()));
        }
        let Some(slot) = self.columns.get_mut(column) else { return };
        let Some(counting) = slot else { return };
        let value = value.map(str::to_owned);
        *counting.entry(value).or_default().entry(class).or_default() += rows;
        if counting.len() > FACET_VALUES_MAX {
            *slot = None;
        }
    }

    /// The block.
    pub(crate) fn finish(self) -> Result<Vec<u8>, StoreError> {
        let mut content = Vec::new();
        let columns: Vec<_> =
            self.columns.into_iter().filter_map(|(name, counting)| Some((name, counting?))).collect();
        write(&mut content, columns.len() as u64);
        for (name, counting) in columns {
            write_text(&mut content, &name);
            let mut values: Vec<_> = counting.into_iter().collect();
            values.sort();
            write(&mut content, values.len() as u64);
            for (value, classes) in values {
                write(&mut content, u64::from(value.is_some()));
                if let Some(value) = value {
                    write_text(&mut content, &value);
                }
                write(&mut content, classes.len() as u64);
                for (class, rows) in classes {
                    write(&mut content, zigzag(i64::from(class)));
                    write(&mut content, rows);
                }
            }
        }
        seal(&content)
    }
}
