//! A bound on failed attempts to authenticate, per source address, in a table of bounded size.
//!
//! It bounds failures, not requests: who has a valid token passes from whatever address, so that nobody who shares an
//! address with others can silence them by failing on purpose. Guessing a token of 256 random bits is hopeless at any
//! rate; the bound is for what guessing costs and for what it leaves in the records.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use threadline_model::clock::Clock;

/// Failures of a source within [`WINDOW`] that are answered as such; further ones are asked to wait.
pub(crate) const FAILURES_MAX: u32 = 10;
/// Failures are counted for this long from the first on.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Sources that are told apart. Beyond it the others share one count.
const SOURCES_MAX: usize = 4096;

/// What counts as one source: an IPv4 address, or a network of 64 bits, which one customer has whole.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// Stands for all sources that the table has no room for.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

struct Count {
    failures: u32,
    since: Duration,
}

impl Count {
    fn left(&self, now: Duration) -> Duration {
        WINDOW.saturating_sub(now.saturating_sub(self.since)).max(Duration::from_secs(1))
    }
}

/// The table.
pub(crate) struct Limiter {
    clock: Arc<dyn Clock>,
    counts: Mutex<HashMap<IpAddr, Count>>,
}

impl Limiter {
    /// An empty table.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, counts: Mutex::default() }
    }

    /// Counts a failure. When the source has had too many: how long it is to wait.
    pub(crate) fn failed(&self, address: IpAddr) -> Option<Duration> {
        let now = self.clock.monotonic();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = source(address);
        if counts.len() >= SOURCES_MAX && !counts.contains_key(&key) {
            counts.retain(|_, count| now.saturating_sub(count.since) < WINDOW);
            if counts.len() >= SOURCES_MAX {
                key = OTHERS;
            }
        }
        let count = counts.entry(key).or_insert(Count { failures: 0, since: now });
        let age = now.saturating_sub(count.since);
        if age >= WINDOW {
            *count = Count { failures: 0, since: now };
        }
        count.failures = count.failures.saturating_add(1);
        (count.failures > FAILURES_MAX).then(|| count.left(now))
    }

    /// How long a source that has had too many failures is still to wait; nothing is counted.
    pub(crate) fn locked(&self, address: IpAddr) -> Option<Duration> {
        let now = self.clock.monotonic();
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&source(address))?;
        let is_now = now.saturating_sub(count.since) < WINDOW;
        (is_now && count.failures >= FAILURES_MAX).then(|| count.left(now))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_us(&self) -> i64 {
            0
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn a_source_may_fail_so_often_and_then_waits() {
        let hand = Arc::new(Hand::default());
        let limiter = Limiter::new(hand.clone());
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..FAILURES_MAX {
            assert_eq!(limiter.locked(a), None);
            assert_eq!(limiter.failed(a), None);
        }
        assert_eq!(limiter.locked(a), Some(WINDOW));
        hand.0.store(20, Ordering::Relaxed);
        assert_eq!(limiter.failed(a), Some(Duration::from_secs(40)));
        assert_eq!(limiter.failed("10.0.0.2".parse().unwrap()), None);
        hand.0.store(60, Ordering::Relaxed);
        assert_eq!(limiter.locked(a), None);
        assert_eq!(limiter.failed(a), None);
    }

    #[test]
    fn a_network_of_64_bits_is_one_source() {
        for (address, want) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(source(address.parse().unwrap()), want.parse::<IpAddr>().unwrap(), "{address}");
        }
    }

    #[test]
    fn a_flood_of_sources_shares_what_is_left() {
        let limiter = Limiter::new(Arc::new(Hand::default()));
        for n in 0..SOURCES_MAX as u32 {
            assert_eq!(limiter.failed(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n))), None);
        }
        let others = |n: u32| limiter.failed(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n)));
        assert_eq!((0..100).filter(|n| others(*n).is_none()).count(), FAILURES_MAX as usize);
        assert!(limiter.counts.lock().unwrap().len() <= SOURCES_MAX + 1);
    }
}
