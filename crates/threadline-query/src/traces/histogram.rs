//! Counts of durations in log-linear buckets: 64 per power of two, so that a quantile is at most 0.8 % off.

use std::collections::BTreeMap;

use super::Latency;

/// Sub-buckets per power of two, as a power of two.
const SUB_BITS: u32 = 6;

/// Durations, counted. At most 3,776 buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// Counts a duration; a negative one as 0.
    pub(super) fn record(&mut self, duration_ns: i64) {
        let value = u64::try_from(duration_ns).unwrap_or(0);
        *self.buckets.entry(bucket(value)).or_default() += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Adds what another one has counted.
    pub(super) fn merge(&mut self, other: &Histogram) {
        for (&bucket, &count) in &other.buckets {
            *self.buckets.entry(bucket).or_default() += count;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Durations counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The value that this share of durations does not exceed.
    pub(super) fn quantile(&self, share: f64) -> i64 {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        for (&bucket, &count) in &self.buckets {
            below += count;
            if below >= rank {
                return middle(bucket).min(self.max) as i64;
            }
        }
        self.max as i64
    }

    pub(super) fn latency(&self) -> Option<Latency> {
        (self.count > 0).then(|| Latency {
            p50_ns: self.quantile(0.5),
            p95_ns: self.quantile(0.95),
            p99_ns: self.quantile(0.99),
            max_ns: self.max as i64,
        })
    }
}

fn bucket(value: u64) -> u16 {
    let exponent = 63 - (value | 1).leading_zeros();
    if exponent < SUB_BITS {
        return value as u16;
    }
    let sub = (value >> (exponent - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    (((exponent - SUB_BITS + 1) << SUB_BITS) as u64 + sub) as u16
}

/// The middle of a bucket.
fn middle(bucket: u16) -> u64 {
    let (step, sub) = (u32::from(bucket) >> SUB_BITS, u64::from(bucket) & ((1 << SUB_BITS) - 1));
    match step {
        0 => sub,
        _ => (((1 << SUB_BITS) + sub) << (step - 1)) + (1 << (step - 1)) / 2,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_near_its_values(value in prop_oneof![0..1000u64, 0..i64::MAX as u64]) {
            let middle = middle(bucket(value)) as f64;
            prop_assert!((middle - value as f64).abs() <= value as f64 / 128.0 + 0.5, "{value} {middle}");
        }

        #[test]
        fn quantiles_are_near_the_exact_ones(mut values in prop::collection::vec(0..10_000_000_000i64, 1..300)) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            for share in [0.5, 0.95, 0.99, 1.0] {
                let exact = values[(share * values.len() as f64).ceil() as usize - 1] as f64;
                let got = histogram.quantile(share) as f64;
                prop_assert!((got - exact).abs() <= exact / 100.0 + 1.0, "{share}: {got} for {exact}");
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
        assert_eq!(histogram.quantile(0.5), 0);
        assert_eq!(histogram.latency().unwrap().max_ns, i64::MAX);
    }
}
