//! Texts compared without case; times and durations as people write them.

use std::borrow::Cow;
use threadline_model::yaml::{Fault, Result};

/// Microseconds of a second.
pub(crate) const SECOND_US: i64 = 1_000_000;

/// A text in lower case (Unicode's simple and special lower-casing), as both sides of a comparison without case.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        }
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

/// [`fold`] into a buffer that is used again.
pub(crate) fn fold_into<'a>(text: &'a str, buffer: &'a mut String) -> &'a str {
    buffer.clear();
    if text.is_ascii() {
        buffer.push_str(text);
        buffer.make_ascii_lowercase();
    } else {
        buffer.push_str(&text.to_lowercase());
    }
    buffer
}

/// A number as both a rule's and a record's are written: whole ones without a fraction.
pub(crate) fn number_text(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        format!("{}", number as i64)
    } else {
        format!("{number}")
    }
}

/// A duration such as `5m`: a count and one of s, m, h, d, w, M (30.44 days), y (365.2425 days). In µs.
pub(crate) fn duration(text: &str, line: usize, what: &str) -> Result<i64> {
    let fault = || {
        Fault::new(
            line,
            format!("`{what}` is `{text}`: write a count and one of s, m, h, d, w, M, y, such as 5m"),
        )
    };
    let unit = text.chars().next_back().ok_or_else(fault)?;
    let count: i64 = text.strip_suffix(unit).and_then(|count| count.parse().ok()).ok_or_else(fault)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        'M' => 2_629_746,
        'y' => 31_556_952,
        _ => return Err(fault()),
    };
    let us = count.checked_mul(seconds).and_then(|s| s.checked_mul(SECOND_US)).filter(|us| *us > 0);
    us.filter(|us| *us <= 100 * 31_556_952 * SECOND_US).ok_or_else(fault)
}

/// A duration for people.
pub(crate) fn show_duration(us: i64) -> String {
    let seconds = us / SECOND_US;
    for (unit, name) in [(86_400, "d"), (3600, "h"), (60, "min")] {
        if seconds >= unit && seconds % unit == 0 {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{} s", us as f64 / SECOND_US as f64)
}

/// Days since 1970-01-01 of a civil date (proleptic Gregorian).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The civil date of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// The parts of a time, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) year: i64,
    pub(crate) month: i64,
    /// ISO 8601 week of the year.
    pub(crate) week: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    second: i64,
}

/// The parts of a time in µs since the Unix epoch.
pub(crate) fn parts(us: i64) -> Parts {
    let seconds = us.div_euclid(SECOND_US);
    let day_number = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(day_number);
    // The week belongs to the year of its Thursday.
    let thursday = day_number - (day_number + 3).rem_euclid(7) + 3;
    let (week_year, ..) = civil(thursday);
    let week = (thursday - days(week_year, 1, 1)) / 7 + 1;
    Parts { year, month, week, day, hour: of_day / 3600, minute: of_day / 60 % 60, second: of_day % 60 }
}

/// A time in µs as RFC 3339 to the second.
pub(crate) fn show_time(us: i64) -> String {
    let Parts { year, month, day, hour, minute, second, .. } = parts(us);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A time: RFC 3339 or ISO 8601 text, with `T` or a blank, without an offset UTC; or a number since the Unix epoch in
/// seconds, milli-, micro- or nanoseconds, by its size. In µs.
pub(crate) fn time(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<f64>() {
        let scale = match number.abs() {
            n if n < 1e11 => 1e6,
            n if n < 1e14 => 1e3,
            n if n < 1e17 => 1.0,
            _ => 1e-3,
        };
        return number.is_finite().then_some((number * scale) as i64);
    }
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    if text.get(4..5)? != "-"
        || text.get(7..8)? != "-"
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    let date = days(year, month, day) * 86_400;
    let Some(rest) = text.get(11..).filter(|rest| !rest.is_empty()) else {
        return (text.len() == 10).then_some(date * SECOND_US);
    };
    let (hour, minute) = (digits(11..13)?, digits(14..16)?);
    let mut seconds = date + hour * 3600 + minute * 60;
    let mut us = 0;
    let mut tail = rest.get(5..)?;
    if let Some(after) = tail.strip_prefix(':') {
        seconds += after.get(..2)?.parse::<i64>().ok()?;
        tail = after.get(2..)?;
        if let Some(fraction) = tail.strip_prefix(['.', ',']) {
            let end = fraction.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len());
            us = format!("{:0<6.6}", fraction.get(..end)?).parse().ok()?;
            tail = fraction.get(end..)?;
        }
    }
    let offset = match tail.trim() {
        "" | "Z" | "z" | "UTC" => 0,
        offset => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let offset = offset.strip_prefix(['+', '-'])?.replace(':', "");
            sign * (offset.get(..2)?.parse::<i64>().ok()? * 3600 + offset.get(2..4)?.parse::<i64>().ok()? * 60)
        }
    };
    Some((seconds - offset) * SECOND_US + us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_read() {
        for (text, want) in [
            ("5s", Some(5)),
            ("2m", Some(120)),
            ("1d", Some(86_400)),
            ("0s", None),
            ("m", None),
            ("1x", None),
            ("", None),
            ("99999y", None),
        ] {
            assert_eq!(duration(text, 1, "timespan").ok(), want.map(|s: i64| s * SECOND_US), "{text}");
        }
        for (text, want) in [
            ("1970-01-01T00:00:01Z", Some(1_000_000)),
            ("2024-02-29 12:00:00.5+01:00", Some(1_709_204_400_500_000)),
            ("2024-02-29", Some(1_709_164_800_000_000)),
            ("1709164800", Some(1_709_164_800_000_000)),
            ("1709164800000", Some(1_709_164_800_000_000)),
            ("1709164800000000000", Some(1_709_164_800_000_000)),
            ("yesterday", None),
            ("2024-13-01", None),
        ] {
            assert_eq!(time(text), want, "{text}");
        }
        assert_eq!(show_time(1_709_204_400_500_000), "2024-02-29T11:00:00Z");
        let parts = parts(1_735_603_200_000_000); // 2024-12-31
        assert_eq!((parts.year, parts.month, parts.day, parts.week), (2024, 12, 31, 1));
    }

    proptest::proptest! {
        #[test]
        fn times_round_trip(seconds in -62_135_596_800i64..253_402_300_799) {
            let shown = show_time(seconds * SECOND_US);
            proptest::prop_assert_eq!(time(&shown), Some(seconds * SECOND_US));
        }

        #[test]
        fn any_text_is_a_time_or_not(text in "\\PC{0,30}") {
            let _ = time(&text);
            let _ = duration(&text, 0, "x");
        }
    }
}
