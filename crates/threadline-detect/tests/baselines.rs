//! Baselines at their public boundary: simulated services over weeks, what must be found, what must not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::sync::OnceLock;

use proptest::prelude::*;
use threadline_detect::baseline::{
    Anomaly, Baselines, Basis, Phase, Sample, SeriesKey, Settings, Severity, Signal, Taken,
};
use threadline_detect::checkpoint::RestoreError;

const MINUTE_US: i64 = 60_000_000;
const DAY_MIN: i64 = 24 * 60;
const WEEK_MIN: i64 = 7 * DAY_MIN;
/// A Monday, 00:00 UTC.
const MONDAY_US: i64 = 1_767_571_200_000_000;

/// A generator that is the same everywhere (SplitMix64).
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().max(1e-12).ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// A count of this mean whose variance is `dispersion` times as great.
    fn count(&mut self, mean: f64, dispersion: f64) -> u64 {
        (mean + self.normal() * (mean * dispersion).sqrt()).round().max(0.0) as u64
    }
}

/// Requests per minute of a shop: busy by day, less so on weekends.
fn traffic(minute: i64) -> f64 {
    let hour = (minute % DAY_MIN) as f64 / 60.0;
    let day = 40.0 + 360.0 * (std::f64::consts::PI * (hour - 6.0) / 16.0).sin().max(0.0);
    if (minute / DAY_MIN) % 7 >= 5 { 0.4 * day } else { day }
}

fn requests() -> SeriesKey {
    SeriesKey::of(Signal::Requests, "checkout")
}

fn errors() -> SeriesKey {
    SeriesKey::of(Signal::Errors, "checkout").operation("POST /orders")
}

fn latency() -> SeriesKey {
    SeriesKey::of(Signal::Latency, "checkout").operation("POST /orders")
}

/// What happens to a shop.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    None,
    Surge,
    Drop,
    ErrorBurst,
    Slower,
}

/// One minute of the shop.
fn minute(baselines: &mut Baselines, dice: &mut Dice, minute: i64, trouble: Trouble) {
    let ts_us = MONDAY_US + minute * MINUTE_US + 30_000_000;
    let load = match trouble {
        Trouble::Surge => 4.0,
        Trouble::Drop => 0.05,
        _ => 1.0,
    };
    let count = dice.count(load * traffic(minute), 3.0);
    baselines.observe(&requests(), ts_us, Sample::Count(count));
    let rate = if trouble == Trouble::ErrorBurst { 0.08 } else { 0.004 };
    let part = dice.count(rate * count as f64, 1.0).min(count);
    baselines.observe(&errors(), ts_us, Sample::Share { part, whole: count });
    let slow = if trouble == Trouble::Slower { 2.0 } else { 1.0 };
    for _ in 0..count.min(60) {
        let seconds = slow * 0.04 * (0.5 * dice.normal()).exp();
        baselines.observe(&latency(), ts_us, Sample::Seconds(seconds));
    }
}

fn close(baselines: &mut Baselines, minute: i64) -> Vec<Anomaly> {
    baselines.advance(MONDAY_US + (minute + 1) * MINUTE_US + 60_000_000)
}

/// Two weeks of history; made once.
fn warm() -> (Baselines, Dice) {
    static WARM: OnceLock<(Baselines, Dice)> = OnceLock::new();
    let (baselines, dice) = WARM.get_or_init(|| {
        let mut baselines = Baselines::new(Settings::default()).unwrap();
        let mut dice = Dice(7);
        for at in 0..2 * WEEK_MIN {
            minute(&mut baselines, &mut dice, at, Trouble::None);
            baselines.learn(MONDAY_US + (at + 2) * MINUTE_US);
        }
        (baselines, dice)
    });
    (baselines.clone(), Dice(dice.0))
}

#[test]
fn a_week_of_normal_traffic_is_quiet() {
    let (mut baselines, mut dice) = warm();
    let mut low = 0;
    for at in 2 * WEEK_MIN..3 * WEEK_MIN {
        minute(&mut baselines, &mut dice, at, Trouble::None);
        for found in close(&mut baselines, at) {
            assert_eq!(found.severity, Severity::Low, "{}", found.explanation);
            low += usize::from(found.phase == Phase::Began);
        }
    }
    assert!(low <= 6, "{low} alerts of three series in a week");
}

#[test]
fn trouble_is_found_within_minutes_and_said_in_words() {
    // Tuesday, 14:03.
    let start = 2 * WEEK_MIN + DAY_MIN + 14 * 60 + 3;
    for (trouble, series, words) in [
        (Trouble::Surge, requests(), "a minute;"),
        (Trouble::Drop, requests(), "a minute;"),
        (Trouble::ErrorBurst, errors(), "requests failed ("),
        (Trouble::Slower, latency(), "95 % of requests took up to"),
    ] {
        let (mut baselines, mut dice) = warm();
        for at in 2 * WEEK_MIN..start {
            minute(&mut baselines, &mut dice, at, Trouble::None);
            close(&mut baselines, at);
        }
        let mut found = Vec::new();
        for at in start..start + 5 {
            minute(&mut baselines, &mut dice, at, trouble);
            found.extend(close(&mut baselines, at).into_iter().filter(|anomaly| anomaly.series == series));
        }
        let first = found.first().unwrap_or_else(|| panic!("{words} is not found"));
        assert_eq!((first.phase, first.basis), (Phase::Began, Basis::HourOfWeek), "{}", first.explanation);
        assert_eq!(first.since_us, MONDAY_US + start * MINUTE_US, "{}", first.explanation);
        assert!(first.window_us <= first.since_us + 2 * MINUTE_US, "{}", first.explanation);
        assert!(first.severity >= Severity::Medium, "{} {}", first.surprise, first.explanation);
        for part in [words, "is usual for Tuesday 14:00", "since 14:03", "checkout"] {
            assert!(first.explanation.contains(part), "{}", first.explanation);
        }
        // It ends when the trouble does.
        let mut over = Vec::new();
        for at in start + 5..start + 30 {
            minute(&mut baselines, &mut dice, at, Trouble::None);
            over.extend(close(&mut baselines, at).into_iter().filter(|anomaly| anomaly.series == series));
        }
        let over = over.iter().find(|anomaly| anomaly.phase == Phase::Over);
        assert!(over.is_some_and(|over| over.since_us == first.since_us && over.id != first.id), "{words}");
    }
}

#[test]
fn what_is_small_is_not_spoken_of() {
    let (mut baselines, _) = warm();
    // A night service: two requests an hour, one of which fails.
    let key = SeriesKey::of(Signal::Errors, "night");
    for at in 2 * WEEK_MIN..2 * WEEK_MIN + 2 * DAY_MIN {
        let ts_us = MONDAY_US + at * MINUTE_US;
        baselines.observe(&requests(), ts_us, Sample::Count(traffic(at) as u64));
        if at % 30 == 0 {
            let part = u64::from(at == 2 * WEEK_MIN + DAY_MIN);
            baselines.observe(&key, ts_us, Sample::Share { part, whole: 1 });
        }
        let found = close(&mut baselines, at);
        assert!(found.iter().all(|anomaly| anomaly.series != key), "{found:?}");
    }
}

#[test]
fn silence_of_everything_is_not_an_anomaly_of_each() {
    let (mut baselines, mut dice) = warm();
    let start = 2 * WEEK_MIN + 12 * 60;
    // The hub was down for two hours.
    let mut found = Vec::new();
    for at in start + 120..start + 150 {
        minute(&mut baselines, &mut dice, at, Trouble::None);
        found.extend(close(&mut baselines, at));
    }
    assert!(found.is_empty(), "{found:?}");
}

/// Sources with a few paths each, and a probe that asks for 200 every ten minutes.
fn sources(baselines: &mut Baselines, dice: &mut Dice, at: i64) {
    let ts_us = MONDAY_US + at * MINUTE_US;
    let paths = SeriesKey::of(Signal::PathsPerSource, "shop");
    for _ in 0..30 {
        let entity = format!("10.0.0.{}", (dice.uniform() * 200.0) as u32);
        let thing = format!("/p/{}", (dice.uniform() * 6.0) as u32);
        baselines.observe(&paths, ts_us, Sample::Touched { entity: &entity, thing: &thing });
    }
    for page in 0..20 {
        let thing = format!("/health/{}", at % 10 * 20 + page);
        baselines.observe(&paths, ts_us, Sample::Touched { entity: "10.9.9.9", thing: &thing });
    }
}

#[test]
fn scans_are_found_and_known_probes_are_not() {
    let mut baselines = Baselines::new(Settings::default()).unwrap();
    let mut dice = Dice(1);
    for at in 0..DAY_MIN {
        sources(&mut baselines, &mut dice, at);
        let found = close(&mut baselines, at);
        // The probe alone may be spoken of, until it is known.
        assert!(found.iter().all(|anomaly| anomaly.entity.as_deref() == Some("10.9.9.9")), "{found:?}");
    }
    let paths = SeriesKey::of(Signal::PathsPerSource, "shop");
    let mut found = Vec::new();
    for at in DAY_MIN..DAY_MIN + 3 {
        sources(&mut baselines, &mut dice, at);
        for page in 0..40 {
            let thing = format!("/wp-admin/{at}/{page}");
            let ts_us = MONDAY_US + at * MINUTE_US + 1;
            baselines.observe(&paths, ts_us, Sample::Touched { entity: "203.0.113.7", thing: &thing });
        }
        found.extend(close(&mut baselines, at));
    }
    let [scan] = &found[..] else { panic!("{found:?}") };
    assert_eq!(scan.entity.as_deref(), Some("203.0.113.7"));
    assert!(
        scan.explanation.contains("203.0.113.7 asked for 40 distinct paths within 10 minutes"),
        "{}",
        scan.explanation
    );
    assert!(scan.severity >= Severity::Medium);
}

#[test]
fn samples_are_taken_by_event_time() {
    let settings = Settings { series_max: 2, ..Settings::default() };
    let mut baselines = Baselines::new(settings).unwrap();
    let at = |minute: i64| MONDAY_US + minute * MINUTE_US;
    let mut take =
        |key: &SeriesKey, minute: i64, sample: Sample<'_>| baselines.observe(key, at(minute), sample);
    assert_eq!(take(&requests(), 5, Sample::Count(1)), Taken::Kept);
    assert_eq!(take(&requests(), 4, Sample::Count(1)), Taken::Kept);
    for (key, sample) in [
        (requests(), Sample::Seconds(1.0)),
        (errors(), Sample::Share { part: 2, whole: 1 }),
        (latency(), Sample::Seconds(-1.0)),
        (SeriesKey::of(Signal::Value, "v"), Sample::Value(f64::NAN)),
        (SeriesKey::of(Signal::PathsPerSource, "v"), Sample::Count(1)),
        (SeriesKey::of(Signal::Requests, &"x".repeat(1_000)), Sample::Count(1)),
    ] {
        assert_eq!(take(&key, 6, sample), Taken::Refused, "{key}");
    }
    assert!(baselines.advance(at(6)).is_empty());
    assert_eq!(baselines.observe(&requests(), at(4), Sample::Count(1)), Taken::Late);
    assert_eq!(baselines.observe(&requests(), at(5), Sample::Count(1)), Taken::Kept, "within the lateness");
    for service in ["a", "b", "c"] {
        baselines.observe(&SeriesKey::of(Signal::Requests, service), at(7), Sample::Count(1));
    }
    let counters = baselines.counters();
    assert_eq!((counters.kept, counters.late, counters.refused), (6, 1, 6));
    assert_eq!((baselines.series(), counters.series_evicted), (2, 2));
    assert_eq!(baselines.windows_learnt(&requests()), 0, "the oldest gave way");
}

#[test]
fn entities_are_bounded() {
    let settings = Settings { entities_max: 100, ..Settings::default() };
    let mut baselines = Baselines::new(settings).unwrap();
    let users = SeriesKey::of(Signal::SourcesPerUser, "auth");
    for at in 0..30 {
        for user in 0..50 {
            let entity = format!("u{at}-{user}");
            let ts_us = MONDAY_US + at * MINUTE_US;
            baselines.observe(&users, ts_us, Sample::Touched { entity: &entity, thing: "10.0.0.1" });
        }
        close(&mut baselines, at);
    }
    let evicted = baselines.counters().entities_evicted;
    assert!((1_300..=1_450).contains(&evicted), "{evicted}");
}

#[test]
fn a_flood_of_entities_does_not_wait_for_the_end_of_its_window() {
    let settings = Settings { entities_max: 100, ..Settings::default() };
    let mut baselines = Baselines::new(settings).unwrap();
    let paths = SeriesKey::of(Signal::PathsPerSource, "");
    let mut take =
        |entity: &str, thing: &str| baselines.observe(&paths, MONDAY_US, Sample::Touched { entity, thing });
    for n in 0..1_000 {
        assert_eq!(take(&format!("10.0.0.{n}"), "/"), Taken::Kept);
    }
    // Also where the series is known: no entity is longer than a text of a key, of a thing only a hash is kept.
    assert_eq!(take(&"x".repeat(513), "/"), Taken::Refused);
    assert_eq!(take("10.1.1.1", &"/x".repeat(1_000)), Taken::Kept);
    let evicted = baselines.counters().entities_evicted;
    assert!((901..=910).contains(&evicted), "{evicted}");
    let bytes = baselines.checkpoint().len();
    assert!(bytes < 100_000, "{bytes}");
}

#[test]
fn samples_far_ahead_fill_nothing() {
    let at = |minute: i64| MONDAY_US + minute * MINUTE_US;
    let mut baselines = Baselines::new(Settings::default()).unwrap();
    baselines.advance(at(0));
    for ahead in 400..700 {
        assert_eq!(baselines.observe(&requests(), at(ahead), Sample::Count(1)), Taken::Refused, "{ahead}");
    }
    assert_eq!(baselines.observe(&requests(), at(0), Sample::Count(1)), Taken::Kept);
    // Before the first window was closed, among those that are open.
    let mut baselines = Baselines::new(Settings::default()).unwrap();
    assert_eq!(baselines.observe(&requests(), at(0), Sample::Count(1)), Taken::Kept);
    assert_eq!(baselines.observe(&requests(), at(300), Sample::Count(1)), Taken::Refused);
    assert_eq!(baselines.observe(&requests(), at(-300), Sample::Count(1)), Taken::Refused);
    assert_eq!(baselines.observe(&requests(), at(-200), Sample::Count(1)), Taken::Kept);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let error = Baselines::new(Settings { persistence_of: 4, ..Settings::default() }).unwrap_err();
    assert_eq!(error.to_string(), "persistence_of must be from 1 to persistence_windows");
}

#[test]
fn what_is_damaged_is_not_restored() {
    let mut baselines = Baselines::new(Settings::default()).unwrap();
    let mut dice = Dice(2);
    (0..60).for_each(|at| minute(&mut baselines, &mut dice, at, Trouble::None));
    close(&mut baselines, 40);
    let bytes = baselines.checkpoint();
    let restore = |bytes: &[u8]| Baselines::restore(Settings::default(), bytes).map(drop);
    assert_eq!(restore(&bytes), Ok(()));
    for at in (0..bytes.len()).step_by(97).chain(0..32) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(restore(&damaged).is_err(), "byte {at}");
        assert!(restore(&bytes[..at]).is_err(), "cut at {at}");
    }
    let other = Settings { window_s: 30, ..Settings::default() };
    assert_eq!(Baselines::restore(other, &bytes).map(drop), Err(RestoreError::Settings("window_s")));
}

#[derive(Clone, Debug)]
enum Step {
    Take { series: usize, after_s: i64, size: u16 },
    Advance { seconds: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..6, -200i64..200, any::<u16>()).prop_map(|(series, after_s, size)| Step::Take { series, after_s, size }),
        1 => (0i64..400).prop_map(|seconds| Step::Advance { seconds }),
    ];
    prop::collection::vec(step, 1..400)
}

fn walk(baselines: &mut Baselines, now_us: &mut i64, step: &Step) -> Vec<Anomaly> {
    match step {
        Step::Take { series, after_s, size } => {
            let ts_us = *now_us + after_s * 1_000_000;
            let number = f64::from(*size);
            let (entity, thing) = (format!("e{}", size % 3), format!("t{size}"));
            let (key, sample) = match series {
                0 => (requests(), Sample::Count(u64::from(*size))),
                1 => (errors(), Sample::Share { part: u64::from(size % 8), whole: 20 }),
                2 => (latency(), Sample::Seconds(number / 1e3)),
                3 => (SeriesKey::of(Signal::Value, "v").source("s"), Sample::Value(number)),
                4 => (
                    SeriesKey::of(Signal::UsersPerSource, "v"),
                    Sample::Touched { entity: &entity, thing: &thing },
                ),
                _ => (requests().caller(&entity), Sample::Count(1)),
            };
            baselines.observe(&key, ts_us, sample);
            Vec::new()
        }
        Step::Advance { seconds } => {
            *now_us += seconds * 1_000_000;
            baselines.advance(*now_us)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_one_goes_on_as_if_nothing_had_happened(steps in steps(), at in any::<prop::sample::Index>()) {
        // Few windows suffice to alert, so that alerts are compared, too.
        let settings = Settings { series_max: 5, entities_max: 4, whole_min: 1, part_min: 1, durations_min: 2,
            watch_surprise: 0.5, sure_surprise: 0.6, rest_windows: 0, habituation: 0.0, ..Settings::default() };
        let cut = at.index(steps.len());
        let mut baselines = Baselines::new(settings.clone()).unwrap();
        let mut now_us = MONDAY_US;
        // So that surprises are spoken of at all, it has a past.
        for minute in -200i64..0 {
            for series in 0..6 {
                walk(&mut baselines, &mut now_us, &Step::Take { series, after_s: minute * 60, size: (minute * 7).rem_euclid(97) as u16 });
            }
            baselines.advance(MONDAY_US + (minute + 1) * MINUTE_US);
        }
        for step in &steps[..cut] {
            walk(&mut baselines, &mut now_us, step);
        }
        let mut restored = Baselines::restore(settings, &baselines.checkpoint()).unwrap();
        let mut restored_now_us = now_us;
        for step in &steps[cut..] {
            let expected = walk(&mut baselines, &mut now_us, step);
            prop_assert_eq!(walk(&mut restored, &mut restored_now_us, step), expected);
        }
        prop_assert_eq!(restored.checkpoint(), baselines.checkpoint());
        prop_assert_eq!(restored.counters(), baselines.counters());
    }

    #[test]
    fn the_order_of_arrival_within_the_lateness_does_not_matter(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let mut in_order = Baselines::new(Settings::default()).unwrap();
        let mut shuffled = in_order.clone();
        for at in 0..120i64 {
            let samples: Vec<(u64, i64)> =
                (0..20).map(|_| (dice.count(50.0, 9.0), MONDAY_US + at * MINUTE_US + (dice.uniform() * 6e7) as i64)).collect();
            for (count, ts_us) in &samples {
                in_order.observe(&requests(), *ts_us, Sample::Count(*count));
                in_order.observe(&latency(), *ts_us, Sample::Seconds(*count as f64));
            }
            for (count, ts_us) in samples.iter().rev() {
                shuffled.observe(&latency(), *ts_us, Sample::Seconds(*count as f64));
                shuffled.observe(&requests(), *ts_us, Sample::Count(*count));
            }
            prop_assert_eq!(close(&mut in_order, at), close(&mut shuffled, at));
        }
        prop_assert_eq!(in_order.checkpoint(), shuffled.checkpoint());
    }
}
