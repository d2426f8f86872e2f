//! A bound on handshakes in progress, in all and per source address: who begins many and ends none keeps out themselves
//! and not others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::limiter::source;

/// Handshakes at once; further ones wait.
const HANDSHAKES_MAX: usize = 256;
/// Handshakes at once of one source, with those that wait; further ones are turned away.
const SOURCE_HANDSHAKES_MAX: usize = 64;

/// Handshakes of one listener.
pub(crate) struct Handshakes {
    all: Semaphore,
    /// As many as there are connections, at most.
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

/// One handshake; over when dropped.
pub(crate) struct Turn<'a> {
    handshakes: &'a Handshakes,
    source: IpAddr,
    /// Of all handshakes.
    permit: Option<SemaphorePermit<'a>>,
}

impl Handshakes {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { all: Semaphore::new(HANDSHAKES_MAX), by_source: Mutex::default() }
    }

    /// Waits for a turn; `None` when this source has too many.
    pub(crate) async fn turn(&self, address: IpAddr) -> Option<Turn<'_>> {
        let source = source(address);
        {
            let mut counts = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(source).or_insert(0);
            if *count >= SOURCE_HANDSHAKES_MAX {
                return None;
            }
            *count += 1;
        }
        // Made before the wait, so that it is given back when the wait is given up.
        let mut turn = Turn { handshakes: self, source, permit: None };
        // The semaphore is never closed.
        turn.permit = self.all.acquire().await.ok();
        Some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.permit = None;
        let mut counts = self.handshakes.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_that_ends_none_keeps_out_no_other() {
        let handshakes = Handshakes::new();
        let greedy: IpAddr = "10.0.0.1".parse().unwrap();
        let mut turns = Vec::new();
        for _ in 0..SOURCE_HANDSHAKES_MAX {
            turns.push(handshakes.turn(greedy).await.unwrap());
        }
        assert!(handshakes.turn(greedy).await.is_none());
        assert!(handshakes.turn("10.0.0.2".parse().unwrap()).await.is_some());
        drop(turns.pop());
        turns.push(handshakes.turn(greedy).await.unwrap());
        drop(turns);
        assert!(handshakes.by_source.lock().unwrap().is_empty());
        assert_eq!(handshakes.all.available_permits(), HANDSHAKES_MAX);
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_nothing() {
        let handshakes = Handshakes::new();
        let mut turns = Vec::new();
        for n in 0..HANDSHAKES_MAX {
            let address = IpAddr::V4((0x0a00_0000 + n as u32).into());
            turns.push(handshakes.turn(address).await.unwrap());
        }
        let late: IpAddr = "10.9.0.1".parse().unwrap();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), handshakes.turn(late)).await;
        assert!(waited.is_err());
        drop(turns);
        assert!(handshakes.by_source.lock().unwrap().is_empty());
    }
}
