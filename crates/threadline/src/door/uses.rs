//! Who has come in, and from where: a note when somebody comes for the first time, and then one an interval with how often;
//! and when each token was used last.
//!
//! It does not know requests, and keeps no secrets.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use threadline_model::clock::Clock;
use xxhash_rust::xxh3::Xxh3;

use super::limiter::source;

/// After a note of somebody at an address and port, the next comes this much later.
pub(crate) const EVERY: Duration = Duration::from_secs(3600);
/// Callers and addresses that are told apart; further ones share one count.
const CALLERS_MAX: usize = 8192;
/// A full table is swept at most this often.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Stands for them.
const OTHERS: u64 = 0;

/// Somebody at an address and port.
#[derive(Clone, Copy, Debug)]
struct Seen {
    noted: Duration,
    since: u64,
}

#[derive(Default)]
struct Table {
    seen: HashMap<u64, Seen>,
    /// When it was last swept for want of room, monotonic.
    swept: Option<Duration>,
    /// By the token's id: when it was used last, µs.
    used_us: HashMap<String, i64>,
    changed: bool,
}

/// The table.
pub(crate) struct Uses {
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
}

impl Uses {
    /// Nobody has come yet; what is known of tokens from earlier.
    pub(crate) fn new(clock: Arc<dyn Clock>, used_us: BTreeMap<String, i64>) -> Self {
        let table = Table { used_us: used_us.into_iter().collect(), ..Table::default() };
        Self { clock, table: Mutex::new(table) }
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has come in. When that is to be noted: how often they came since the last note, with this time.
    pub(crate) fn seen(&self, who: &str, token_id: Option<&str>, address: IpAddr, port: u16) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut hash = Xxh3::new();
        hash.update(who.as_bytes());
        hash.update(&[0]);
        match source(address) {
            IpAddr::V4(v4) => hash.update(&v4.octets()),
            IpAddr::V6(v6) => hash.update(&v6.octets()),
        }
        hash.update(&port.to_le_bytes());
        let mut key = hash.digest();
        let mut table = self.locked();
        if let Some(id) = token_id {
            let now_us = self.clock.now_us();
            match table.used_us.get_mut(id) {
                Some(used) => *used = now_us,
                None => drop(table.used_us.insert(id.to_owned(), now_us)),
            }
            table.changed = true;
        }
        if table.seen.len() >= CALLERS_MAX && !table.seen.contains_key(&key) {
            // Everybody waits for a sweep: seldom, not with each request of a large fleet.
            if table.swept.is_none_or(|swept| now.saturating_sub(swept) >= SWEEP_EVERY) {
                table.swept = Some(now);
                table.seen.retain(|_, seen| now.saturating_sub(seen.noted) < EVERY);
            }
            if table.seen.len() >= CALLERS_MAX {
                key = OTHERS;
            }
        }
        match table.seen.get_mut(&key) {
            Some(seen) if now.saturating_sub(seen.noted) < EVERY => {
                seen.since += 1;
                None
            }
            Some(seen) => {
                let count = seen.since + 1;
                *seen = Seen { noted: now, since: 0 };
                Some(count)
            }
            None => {
                table.seen.insert(key, Seen { noted: now, since: 0 });
                Some(1)
            }
        }
    }

    /// When tokens were used last, if that is other than at the last call; of tokens that are still known.
    pub(crate) fn changed(&self, is_known: impl Fn(&str) -> bool) -> Option<BTreeMap<String, i64>> {
        let mut table = self.locked();
        if !std::mem::take(&mut table.changed) {
            return None;
        }
        table.used_us.retain(|id, _| is_known(id));
        Some(table.used_us.iter().map(|(id, used)| (id.clone(), *used)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_us(&self) -> i64 {
            self.monotonic().as_micros() as i64
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_first_time_is_noted_and_then_one_an_interval() {
        let hand = Arc::new(Hand::default());
        let uses = Uses::new(hand.clone(), BTreeMap::from([("old".to_owned(), 5), ("gone".to_owned(), 6)]));
        let at = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        assert_eq!(uses.changed(|_| true), None);
        assert_eq!(uses.seen("token:a", Some("a"), at(1), 1), Some(1));
        for (who, address, port) in [("token:a", at(2), 1), ("token:a", at(1), 2), ("token:b", at(1), 1)] {
            assert_eq!(uses.seen(who, None, address, port), Some(1), "{who} {address} {port}");
        }
        for _ in 0..4 {
            assert_eq!(uses.seen("token:a", Some("a"), at(1), 1), None);
        }
        hand.0.store(EVERY.as_secs(), Ordering::Relaxed);
        assert_eq!(uses.seen("token:a", Some("a"), at(1), 1), Some(5));
        let want = BTreeMap::from([("a".to_owned(), 3_600_000_000), ("old".to_owned(), 5)]);
        assert_eq!(uses.changed(|id| id != "gone"), Some(want));
        assert_eq!(uses.changed(|_| true), None);
    }

    #[test]
    fn callers_are_bounded() {
        let uses = Uses::new(Arc::new(Hand::default()), BTreeMap::new());
        let noted = (0..2 * CALLERS_MAX)
            .filter(|n| uses.seen(&format!("{n}"), None, IpAddr::V4(Ipv4Addr::LOCALHOST), 1).is_some())
            .count();
        assert_eq!(noted, CALLERS_MAX + 1);
        assert_eq!(uses.locked().seen.len(), CALLERS_MAX + 1);
    }
}
