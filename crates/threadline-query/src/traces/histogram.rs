//! Counts of durations in the buckets of [`duration_bucket`], so that a quantile is at most 0.8 % off.

use threadline_model::trace::{DURATION_BUCKETS, duration_bucket, duration_middle};

use super::Latency;

/// Durations kept one by one; more are counted by bucket.
const LISTED_MAX: usize = 4096;

/// Durations, counted. Takes 30 KiB at most.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// Buckets of durations, one each; empty once `counts` is there.
    listed: Vec<u16>,
    /// Whether `listed` ascends.
    unsorted: bool,
    counts: Option<Box<[u64]>>,
    count: u64,
    max: i64,
}

impl Histogram {
    /// Counts a duration; a negative one as 0.
    #[inline]
    pub(super) fn record(&mut self, duration_ns: i64) {
        self.max = self.max.max(duration_ns);
        self.add(&[duration_bucket(duration_ns)]);
    }

    /// Counts durations by their buckets, which ascend.
    #[inline]
    pub(super) fn add(&mut self, buckets: &[u16]) {
        self.count += buckets.len() as u64;
        match &mut self.counts {
            Some(counts) => count(counts, buckets),
            None => {
                self.unsorted |= !self.listed.is_empty();
                self.listed.extend_from_slice(buckets);
                if self.listed.len() > LISTED_MAX {
                    let mut counts = vec![0; usize::from(DURATION_BUCKETS)].into_boxed_slice();
                    count(&mut counts, &std::mem::take(&mut self.listed));
                    self.counts = Some(counts);
                }
            }
        }
    }

    /// Durations counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.listed.capacity() * size_of::<u16>()
            + self.counts.as_ref().map_or(0, |counts| size_of_val(&**counts))
    }

    /// The values that these shares of durations, ascending, do not exceed.
    pub(super) fn quantiles<const N: usize>(&mut self, shares: [f64; N]) -> [i64; N] {
        let total = self.count;
        let rank = |share: f64| ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let Some(counts) = &self.counts else {
            if std::mem::take(&mut self.unsorted) {
                self.listed.sort_unstable();
            }
            return shares.map(|share| {
                self.listed.get(rank(share) as usize - 1).map_or(0, |bucket| duration_middle(*bucket))
            });
        };
        let (mut below, mut buckets) = (0, (0_u16..).zip(counts.iter()).filter(|(_, count)| **count > 0));
        let mut last = 0;
        shares.map(|share| {
            while below < rank(share) {
                let Some((bucket, count)) = buckets.next() else { break };
                (below, last) = (below + count, bucket);
            }
            duration_middle(last)
        })
    }

    /// What is told of the durations that were [recorded](Self::record).
    pub(super) fn latency(&mut self) -> Option<Latency> {
        let [p50_ns, p95_ns, p99_ns] = self.quantiles([0.5, 0.95, 0.99]).map(|ns| ns.min(self.max));
        (self.count > 0).then_some(Latency { p50_ns, p95_ns, p99_ns, max_ns: self.max })
    }
}

fn count(counts: &mut [u64], buckets: &[u16]) {
    for bucket in buckets {
        if let Some(count) = counts.get_mut(usize::from(*bucket)) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn quantiles_are_near_the_exact_ones(
            mut values in prop::collection::vec(0..10_000_000_000i64, 1..300),
            copies in prop_oneof![Just(1_usize), Just(20)],
        ) {
            let mut histogram = Histogram::default();
            for _ in 0..copies {
                values.iter().for_each(|&value| histogram.record(value));
            }
            values.sort_unstable();
            prop_assert_eq!(histogram.count(), (values.len() * copies) as u64);
            let shares = [0.5, 0.95, 0.99, 1.0];
            for (share, got) in shares.into_iter().zip(histogram.quantiles(shares)) {
                let rank = (share * (values.len() * copies) as f64).ceil() as usize;
                let exact = values[(rank - 1) / copies] as f64;
                prop_assert!((got as f64 - exact).abs() <= exact / 100.0 + 1.0, "{share}: {got} for {exact}");
            }
        }
    }

    #[test]
    fn extremes() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.latency(), None);
        for value in [i64::MIN, -1, 0, i64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.quantiles([0.5]), [0]);
        assert_eq!(histogram.latency().unwrap().max_ns, i64::MAX);
    }
}
