//! Durations and failures of a sealed file's spans by service and minute (docs/formats.md, "Durations").

use rustc_hash::FxHashMap;
use threadline_model::trace::DURATION_BUCKETS;

use super::rollup::{MINUTE_US, bad, length, number, open, seal, text, write_text};
use super::varint::{unzigzag, write, zigzag};
use crate::StoreError;

/// Spans of one service and minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationRun {
    /// Index into [`Durations::services`]; `None` = no service.
    pub service: Option<u32>,
    /// Start of the minute, µs.
    pub minute_us: i64,
    /// Spans that failed.
    pub failed: u64,
    from: u32,
    to: u32,
}

/// Durations of a file's spans by service and minute, as buckets of [`threadline_model::trace::duration_bucket`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Names of services.
    pub services: Vec<String>,
    /// By service, minute; seldom more than one of each.
    pub runs: Vec<DurationRun>,
    buckets: Vec<u16>,
}

impl Durations {
    /// The buckets of the durations of a run, ascending.
    pub fn of(&self, run: &DurationRun) -> &[u16] {
        self.buckets.get(run.from as usize..run.to as usize).unwrap_or_default()
    }

    pub(crate) fn read(block: &[u8]) -> Result<Durations, StoreError> {
        let content = open(block)?;
        let mut rest = content.as_slice();
        let mut durations = Durations::default();
        for _ in 0..length(&mut rest)? {
            durations.services.push(text(&mut rest)?);
        }
        let runs = length(&mut rest)?;
        let (mut service, mut minute) = (0_u64, 0_i64);
        for _ in 0..runs {
            let step = number(&mut rest)?;
            if step > 0 {
                minute = 0;
            }
            service = service.checked_add(step).ok_or_else(bad)?;
            minute = minute.checked_add(unzigzag(number(&mut rest)?)).ok_or_else(bad)?;
            let index = u32::try_from(service).map_err(|_| bad())?;
            if index as usize > durations.services.len() {
                return Err(bad());
            }
            let failed = number(&mut rest)?;
            let count = length(&mut rest)?;
            // Each takes a byte at least: a damaged count cannot take memory.
            if count > rest.len() {
                return Err(bad());
            }
            let from = u32::try_from(durations.buckets.len()).map_err(|_| bad())?;
            let mut last = 0_u64;
            for _ in 0..count {
                last = last.checked_add(number(&mut rest)?).ok_or_else(bad)?;
                let bucket = u16::try_from(last).ok().filter(|bucket| *bucket < DURATION_BUCKETS);
                durations.buckets.push(bucket.ok_or_else(bad)?);
            }
            durations.runs.push(DurationRun {
                service: index.checked_sub(1),
                minute_us: minute.checked_mul(MINUTE_US).ok_or_else(bad)?,
                failed,
                from,
                to: u32::try_from(durations.buckets.len()).map_err(|_| bad())?,
            });
        }
        durations.runs.shrink_to_fit();
        durations.buckets.shrink_to_fit();
        Ok(durations)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.services.iter().map(|name| name.len() + 24).sum::<usize>()
            + self.runs.len() * size_of::<DurationRun>()
            + self.buckets.len() * size_of::<u16>()
    }
}

/// A run while it is built: service number, minute, failed spans, number of spans, their buckets packed.
type Packed = (u32, i64, u64, usize, Vec<u8>);

/// Gathers durations by service and minute. Rows of one service and minute that come in a row make one run.
#[derive(Default)]
pub(crate) struct DurationsBuilder {
    services: FxHashMap<String, u32>,
    runs: Vec<Packed>,
    key: (u32, i64),
    failed: u64,
    buckets: Vec<u16>,
}

impl DurationsBuilder {
    /// The number of a service, from 1; 0 = none.
    pub(crate) fn service(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.services.get(name) {
            return known;
        }
        let next = self.services.len() as u32 + 1;
        self.services.insert(name.to_owned(), next);
        next
    }

    /// Adds a span.
    #[inline]
    pub(crate) fn add(&mut self, service: u32, ts: i64, bucket: u16, failed: bool) {
        let key = (service, ts.div_euclid(MINUTE_US));
        if key != self.key {
            self.end_run();
            self.key = key;
        }
        self.failed += u64::from(failed);
        self.buckets.push(bucket);
    }

    fn end_run(&mut self) {
        if self.buckets.is_empty() {
            return;
        }
        self.buckets.sort_unstable();
        let mut packed = Vec::with_capacity(self.buckets.len() + 4);
        let mut last = 0;
        for bucket in &self.buckets {
            write(&mut packed, u64::from(bucket - last));
            last = *bucket;
        }
        let failed = std::mem::take(&mut self.failed);
        self.runs.push((self.key.0, self.key.1, failed, self.buckets.len(), packed));
        self.buckets.clear();
    }

    /// The block.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, StoreError> {
        self.end_run();
        let mut names: Vec<(&str, u32)> = self.services.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        names.sort_unstable();
        let mut ranks = vec![0_u32; names.len() + 1];
        for (rank, (_, number)) in (1..).zip(&names) {
            if let Some(slot) = ranks.get_mut(*number as usize) {
                *slot = rank;
            }
        }
        let rank = |service: u32| ranks.get(service as usize).copied().unwrap_or(0);
        self.runs.sort_by_key(|(service, minute, ..)| (rank(*service), *minute));
        let mut content = Vec::new();
        write(&mut content, names.len() as u64);
        names.iter().for_each(|(name, _)| write_text(&mut content, name));
        write(&mut content, self.runs.len() as u64);
        let (mut last_service, mut last_minute) = (0, 0);
        for (service, minute, failed, count, packed) in &self.runs {
            let service = rank(*service);
            if service != last_service {
                last_minute = 0;
            }
            write(&mut content, u64::from(service - last_service));
            write(&mut content, zigzag(minute - last_minute));
            write(&mut content, *failed);
            write(&mut content, *count as u64);
            content.extend_from_slice(packed);
            (last_service, last_minute) = (service, *minute);
        }
        seal(&content)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_added_comes_back(
            spans in prop::collection::vec(
                (0..4_usize, -200_000_000..200_000_000_i64, 0..DURATION_BUCKETS, any::<bool>()), 0..200),
            sorted in any::<bool>(),
        ) {
            let names = [None, Some("b"), Some("a"), Some("c")];
            let mut spans = spans;
            if sorted {
                spans.sort_unstable();
            }
            let mut builder = DurationsBuilder::default();
            let mut want: BTreeMap<(Option<String>, i64), (u64, Vec<u16>)> = BTreeMap::new();
            for &(name, ts, bucket, failed) in &spans {
                let number = names[name].map_or(0, |name| builder.service(name));
                builder.add(number, ts, bucket, failed);
                let minute = ts.div_euclid(MINUTE_US) * MINUTE_US;
                let (failures, buckets) = want.entry((names[name].map(str::to_owned), minute)).or_default();
                *failures += u64::from(failed);
                buckets.push(bucket);
                buckets.sort_unstable();
            }
            let block = builder.finish().unwrap();
            let read = Durations::read(&block).unwrap();
            let mut got: BTreeMap<(Option<String>, i64), (u64, Vec<u16>)> = BTreeMap::new();
            for run in &read.runs {
                prop_assert!(read.of(run).is_sorted());
                let service = run.service.map(|at| read.services[at as usize].clone());
                let (failures, buckets) = got.entry((service, run.minute_us)).or_default();
                *failures += run.failed;
                buckets.extend_from_slice(read.of(run));
                buckets.sort_unstable();
            }
            prop_assert_eq!(got, want);
            for at in 0..block.len() {
                prop_assert!(Durations::read(&block[..at]).is_err());
            }
        }
    }
}
