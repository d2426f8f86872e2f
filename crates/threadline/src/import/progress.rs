//! The progress bar of an import: bytes of the files as they are read, records, rate. Silent without a terminal.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::summary::grouped;

/// Counts that the bar shows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of the files read, compressed where they are.
    pub read: Arc<AtomicU64>,
    /// Records kept.
    pub records: AtomicU64,
}

/// The bar.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// A bar for these files on standard error. Without their sizes (standard input) it only counts.
    pub fn new(files: &[PathBuf]) -> Self {
        let sizes: Option<Vec<u64>> = files
            .iter()
            .map(|file| std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len()))
            .collect();
        let (bar, template) = match sizes {
            Some(sizes) => (
                ProgressBar::new(sizes.iter().sum()),
                "{bar:30} {percent:>3} %  {bytes} of {total_bytes}  {msg}  {eta} left",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now() }
    }

    /// Shows the counts.
    pub fn show(&self, counters: &Counters) {
        let records = counters.records.load(Ordering::Relaxed);
        let rate = records as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_position(counters.read.load(Ordering::Relaxed));
        self.bar.set_message(format!("{} records  {}/s", grouped(records), grouped(rate as u64)));
    }

    /// How often to show.
    pub const PERIOD: Duration = Duration::from_millis(200);

    /// Takes the bar away. How long it all took.
    pub fn end(&self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}
