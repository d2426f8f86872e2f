//! Processes that the fleet has started: asked to stop, insisted on, and never left behind.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to start, and to stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A process; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: &'static str,
    child: Child,
    stopped: bool,
}

impl Process {
    pub(crate) fn new(name: &'static str, child: Child) -> Process {
        Process { name, child, stopped: false }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop, and insists later; says what was wrong with it.
    pub(crate) fn stop(&mut self) -> Option<String> {
        let name = self.name;
        if std::mem::replace(&mut self.stopped, true) {
            return None;
        }
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(format!("{name} had ended by itself ({status})"));
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return (!status.success()).then(|| format!("{name} ended with {status}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        Some(format!("{name} did not stop within {} s", PATIENCE.as_secs()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
