//! Durations and failures of a sealed file's spans by service and minute (docs/formats.md, "Durations").

use threadline_model::trace::DURATION_BUCKETS;

use super::rollup::{MINUTE_US, Services, Steps, bad, length, number, open, seal};
use super::varint::write;
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
        let services = Services::read(&mut rest)?;
        let mut durations = Durations { services, ..Durations::default() };
        let mut steps = Steps::default();
        for _ in 0..length(&mut rest)? {
            let (service, minute_us) = steps.read(&mut rest, durations.services.len())?;
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
                service,
                minute_us,
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
    services: Services,
    runs: Vec<Packed>,
    key: (u32, i64),
    failed: u64,
    buckets: Vec<u16>,
}

impl DurationsBuilder {
    /// The number of a service, from 1; 0 = none.
    pub(crate) fn service(&mut self, name: &str) -> u32 {
        self.services.number(name)
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
        let mut content = Vec::new();
        let ranks = self.services.write(&mut content);
        let rank = |service: u32| ranks.get(service as usize).copied().unwrap_or(0);
        self.runs.sort_by_key(|(service, minute, ..)| (rank(*service), *minute));
        write(&mut content, self.runs.len() as u64);
        let mut steps = Steps::default();
        for (service, minute, failed, count, packed) in &self.runs {
            steps.write(&mut content, rank(*service), *minute);
            write(&mut content, *failed);
            write(&mut content, *count as u64);
            content.extend_from_slice(packed);
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
