//! Time and randomness as parameters, so that tests and the simulation can replay a run from a seed.

use std::time::Duration;

/// The wall clock and a monotonic clock.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the Unix epoch (UTC).
    fn now_us(&self) -> i64;
    /// Time since an arbitrary fixed point; never goes back. For intervals only.
    fn monotonic(&self) -> Duration;
}

/// A source of random bytes: node ids, signing keys.
pub trait Rng: Send + Sync + 'static {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);
}
