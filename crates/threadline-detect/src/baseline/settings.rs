//! What can be set. The defaults are the settings of all figures in docs/baselines.md.

use std::fmt;

/// Settings of the baselines; the same for every series.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Length of a window, seconds; 1 to 86,400.
    pub window_s: u32,
    /// How long a window is waited for after its end, seconds; at most 3,600.
    pub lateness_s: u32,
    /// Surprise (−log₁₀ of the probability) that is unusual if it persists.
    pub watch_surprise: f64,
    /// Surprise that is unusual at once.
    pub sure_surprise: f64,
    /// Of the last `persistence_windows` windows so many must be unusual.
    pub persistence_of: u32,
    /// Windows that are looked at for persistence; at most 60.
    pub persistence_windows: u32,
    /// Windows after an alert in which the series is not heard.
    pub rest_windows: u32,
    /// Alerts of a series within seven days at most.
    pub budget_per_week: u32,
    /// By how much an alert raises what the next must reach.
    pub habituation: f64,
    /// Days in which that wears off to a third.
    pub habituation_days: f64,
    /// Offset from UTC of what "hour of the week" means, minutes; within ±1,440.
    pub offset_min: i32,
    /// Series at most; those not heard of for longest give way.
    pub series_max: usize,
    /// Entities (sources, users) whose fan-out is told apart at most; likewise.
    pub entities_max: usize,
    /// A series that was not heard of for so many days is forgotten.
    pub expire_days: u32,
    /// Windows that fan-out looks back over, at least.
    pub fanout_windows: u32,
    /// Failed or rejected requests of a window below which a ratio is not spoken of.
    pub part_min: u64,
    /// Requests of a window below which a ratio or a surge is not spoken of.
    pub whole_min: u64,
    /// Durations that a 95th percentile is taken of, at least: windows with fewer are put together.
    pub durations_min: u64,
    /// Distinct things below which a fan-out is not spoken of.
    pub fanout_min: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            window_s: 60,
            lateness_s: 60,
            watch_surprise: 2.2,
            sure_surprise: 4.0,
            persistence_of: 2,
            persistence_windows: 3,
            rest_windows: 30,
            budget_per_week: 14,
            habituation: 0.4,
            habituation_days: 2.0,
            offset_min: 0,
            series_max: 20_000,
            entities_max: 50_000,
            expire_days: 14,
            fanout_windows: 10,
            part_min: 3,
            whole_min: 10,
            durations_min: 5,
            fanout_min: 20,
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Which.
    pub name: &'static str,
    /// What it must be.
    pub must: &'static str,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.name, self.must)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Checks that all make sense.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), SettingsError> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let persistence = 1..=self.persistence_windows;
        let rules = [
            ("window_s", (1..=86_400).contains(&self.window_s), "from 1 to 86400"),
            ("lateness_s", self.lateness_s <= 3_600, "at most 3600"),
            ("watch_surprise", positive(self.watch_surprise), "above 0"),
            ("sure_surprise", self.sure_surprise >= self.watch_surprise, "at least watch_surprise"),
            ("persistence_windows", (1..=60).contains(&self.persistence_windows), "from 1 to 60"),
            ("persistence_of", persistence.contains(&self.persistence_of), "from 1 to persistence_windows"),
            ("rest_windows", self.rest_windows <= 10_080, "at most 10080"),
            ("budget_per_week", (1..=1_000).contains(&self.budget_per_week), "from 1 to 1000"),
            ("habituation", (0.0..=100.0).contains(&self.habituation), "from 0 to 100"),
            ("habituation_days", positive(self.habituation_days), "above 0"),
            ("offset_min", (-1_440..=1_440).contains(&self.offset_min), "within ±1440"),
            ("series_max", (1..=10_000_000).contains(&self.series_max), "from 1 to 10 million"),
            ("entities_max", (1..=10_000_000).contains(&self.entities_max), "from 1 to 10 million"),
            ("expire_days", (1..=3_650).contains(&self.expire_days), "from 1 to 3650"),
            ("fanout_windows", (1..=1_440).contains(&self.fanout_windows), "from 1 to 1440"),
            ("part_min", self.part_min >= 1, "at least 1"),
            ("whole_min", self.whole_min >= 1, "at least 1"),
            ("durations_min", self.durations_min >= 2, "at least 2"),
            ("fanout_min", self.fanout_min >= 2, "at least 2"),
        ];
        let broken = rules.iter().find(|(_, holds, _)| !holds);
        broken.map_or(Ok(()), |(name, _, must)| Err(SettingsError { name, must }))
    }

    pub(super) fn window_us(&self) -> i64 {
        i64::from(self.window_s) * 1_000_000
    }
}
