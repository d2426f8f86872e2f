//! The store's own threads: committer, sealer, maintenance. They call what step mode calls, when it is due.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::core::{Core, lock};
use crate::sealed::{owed, thread_cpu};
use crate::{Options, StoreError};

/// How long the committer sleeps at most: it may have to try again after a failure.
const IDLE_MAX: Duration = Duration::from_millis(250);
/// How often it is looked whether a seal or a round of maintenance is due.
const SEAL_TICK: Duration = Duration::from_millis(100);
const MAINTENANCE_TICK: Duration = Duration::from_millis(500);

/// What a thread does until the store stops.
type Job = fn(&Core);

/// Threads of an open store.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Starts all threads.
    pub(crate) fn start(core: &Arc<Core>) -> Result<Self, StoreError> {
        let threads = Threads::default();
        let jobs: [(&str, Job); 3] =
            [("store-committer", commit), ("store-sealer", seal), ("store-maintenance", maintain)];
        for (name, job) in jobs {
            let own = Arc::clone(core);
            let started = thread::Builder::new().name(name.to_owned()).spawn(move || job(&own));
            match started {
                Ok(handle) => lock(&threads.running).push(handle),
                Err(error) => {
                    core.queue.close();
                    threads.stop(core);
                    return Err(StoreError::io(format!("starting the thread {name}"), error));
                }
            }
        }
        Ok(threads)
    }

    /// Waits for the end of all threads. The queue is closed before.
    pub(crate) fn stop(&self, core: &Core) {
        core.stop.store(true, Ordering::Release);
        let running = std::mem::take(&mut *lock(&self.running));
        for handle in &running {
            handle.thread().unpark();
        }
        for handle in running {
            // The last clone may go on one of these threads, inside an answer: it must not wait for itself.
            if handle.thread().id() != thread::current().id() {
                let _ = handle.join();
            }
        }
    }
}

fn commit(core: &Core) {
    let mut last_group = 0;
    while core.queue.wait(IDLE_MAX) {
        let Some(committed) = core.commit() else {
            last_group = 0;
            continue;
        };
        // Those who were answered just now may send again at once: with company before, a short wait for company pays,
        // never longer than a commit takes.
        let Options { commit_delay, commit_bytes, .. } = core.options;
        if last_group.max(committed.appends) > 1 {
            core.queue.gather(
                last_group.max(committed.appends),
                commit_bytes,
                committed.took.min(commit_delay),
            );
        }
        last_group = committed.appends;
    }
}

fn seal(core: &Core) {
    while !core.stopping() {
        if let Some(extent) = core.seal_due() {
            // Shows in the health; `seal_due` holds the next attempt back.
            let _ = core.seal(extent);
        }
        // Without a spare the committer makes one itself, only slower.
        let _ = core.spares.prepare(&core.wal);
        thread::park_timeout(SEAL_TICK);
    }
}

fn maintain(core: &Core) {
    while !core.stopping() {
        let mut pause = MAINTENANCE_TICK;
        if core.maintain_due() {
            let (start, cpu) = (core.env.clock.monotonic(), thread_cpu());
            let _ = core.maintain();
            let took = core.env.clock.monotonic().saturating_sub(start);
            // Long work has rested on its way, which counts.
            pause = pause.max(owed(thread_cpu().saturating_sub(cpu), took, core.sealed.cpu_share()));
        }
        thread::park_timeout(pause);
    }
}
