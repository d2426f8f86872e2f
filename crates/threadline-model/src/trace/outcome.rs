//! How a span went, and durations rounded to buckets: read alike by what sums spans up and by what stores sums.

use super::STATUS_ERROR;
use crate::columns::{Batch, IntColumn};
use crate::schema::verdict;

/// Columns that tell how a span went, beside those that identify it.
pub const OUTCOME_COLUMNS: [&str; 4] = ["duration_ns", "status_code", "http.response.status_code", "verdict"];
/// Bits of a verdict by which the time of a span is not believed.
const SUSPECT: i64 = verdict::TIME_ABSURD | verdict::TIME_MISSING;
/// A duration beyond this is not believed when the start is not either: a day, ns.
pub(super) const DURATION_SANE_MAX_NS: i64 = 86_400_000_000_000;
/// OTLP `StatusCode` error.
const ERROR: i64 = STATUS_ERROR as i64;

/// How spans of a batch went.
#[derive(Clone, Copy, Debug)]
pub struct Outcomes<'a> {
    duration: IntColumn<'a>,
    status: IntColumn<'a>,
    http: IntColumn<'a>,
    verdict: IntColumn<'a>,
}

impl<'a> Outcomes<'a> {
    /// Of a batch of spans with [`OUTCOME_COLUMNS`], or those of them that it has.
    pub fn new(batch: Batch<'a>) -> Self {
        let [duration, status, http, verdict] = OUTCOME_COLUMNS.map(|column| batch.int(column));
        Self { duration, status, http, verdict }
    }

    /// Duration, ns; 0 when it cannot be believed.
    pub fn duration_ns(&self, row: usize) -> i64 {
        let duration = self.duration.get(row).unwrap_or(0).max(0);
        let suspect = self.verdict.get(row).unwrap_or(0) & SUSPECT != 0;
        if suspect && duration > DURATION_SANE_MAX_NS { 0 } else { duration }
    }

    /// Whether it failed: status error, or HTTP status 500 and above.
    pub fn failed(&self, row: usize) -> bool {
        self.status.get(row) == Some(ERROR) || self.http.get(row).is_some_and(|status| status >= 500)
    }
}

/// Sub-buckets per power of two, as a power of two.
const SUB_BITS: u32 = 6;
/// Number of duration buckets.
pub const DURATION_BUCKETS: u16 = 58 << SUB_BITS;

/// The bucket of a duration: log-linear, 64 per power of two, so that its middle is at most 0.8 % off. Negative ones
/// count as 0. The greater the duration, the greater or the same the bucket; always below [`DURATION_BUCKETS`].
#[inline]
pub fn duration_bucket(duration_ns: i64) -> u16 {
    let value = u64::try_from(duration_ns).unwrap_or(0);
    let exponent = 63 - (value | 1).leading_zeros();
    if exponent < SUB_BITS {
        return value as u16;
    }
    let sub = (value >> (exponent - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    (((exponent - SUB_BITS + 1) << SUB_BITS) as u64 + sub) as u16
}

/// The middle of a bucket, ns.
pub fn duration_middle(bucket: u16) -> i64 {
    let (step, sub) = (u32::from(bucket) >> SUB_BITS, u64::from(bucket) & ((1 << SUB_BITS) - 1));
    let middle = match step {
        0 => sub,
        _ => (((1 << SUB_BITS) + sub) << (step - 1).min(57)) + (1 << (step - 1).min(57)) / 2,
    };
    i64::try_from(middle).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_is_near_its_values(value in prop_oneof![0..1000i64, 0..=i64::MAX]) {
            let bucket = duration_bucket(value);
            prop_assert!(bucket < DURATION_BUCKETS);
            let middle = duration_middle(bucket) as f64;
            prop_assert!((middle - value as f64).abs() <= value as f64 / 128.0 + 0.5, "{value} {middle}");
        }

        #[test]
        fn buckets_are_in_order(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            prop_assert!(a > b || duration_bucket(a) <= duration_bucket(b));
        }
    }

    #[test]
    fn extremes() {
        assert_eq!(duration_bucket(i64::MIN), 0);
        assert_eq!(duration_bucket(0), 0);
        assert_eq!(duration_bucket(i64::MAX), DURATION_BUCKETS - 1);
        assert!(duration_middle(u16::MAX) > 0);
    }
}
