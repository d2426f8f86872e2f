//! Points in time and spans of time as people type them: in URLs, on the command line.

use std::time::Duration;

/// Numbers below this are seconds since the Unix epoch; a thousand times as much are ms, then µs, then ns.
/// (The year 5138 in seconds, March 1973 in ms.)
const SECONDS_MAX: i128 = 100_000_000_000;

/// A point in time in µs since the Unix epoch: RFC 3339 (`2026-01-02T03:04:05Z`; without a zone it is UTC; a date
/// alone is its midnight), digits (seconds, ms, µs or ns since the Unix epoch, told apart by their size), `now`, or
/// `-1h`, `now-1h`, `now+5m`.
///
/// # Errors
/// What is wrong and which forms there are.
pub fn parse_time(text: &str, now_us: i64) -> Result<i64, String> {
    let wrong = || {
        format!(
            "`{text}` is no time: write RFC 3339 such as 2026-01-02T03:04:05Z, Unix seconds (or ms, µs, ns), or \
             -1h, now-30m, now"
        )
    };
    let trimmed = text.trim();
    if let Some(offset) = trimmed.strip_prefix("now").or(trimmed.starts_with('-').then_some(trimmed)) {
        let (sign, offset) = match offset.split_at_checked(1) {
            None => return Ok(now_us),
            Some(("-", rest)) => (-1, rest),
            Some(("+", rest)) => (1, rest),
            Some(_) => return Err(wrong()),
        };
        let offset = parse_duration(offset)?.as_micros();
        let offset = i64::try_from(offset).map_err(|_| wrong())?;
        return now_us.checked_add(sign * offset).ok_or_else(wrong);
    }
    if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        let number: i128 = trimmed.parse().map_err(|_| wrong())?;
        let us = match number {
            n if n < SECONDS_MAX => n * 1_000_000,
            n if n < SECONDS_MAX * 1_000 => n * 1_000,
            n if n < SECONDS_MAX * 1_000_000 => n,
            n => n / 1_000,
        };
        return i64::try_from(us).map_err(|_| wrong());
    }
    if let Ok(time) = trimmed.parse::<jiff::Timestamp>() {
        return Ok(time.as_microsecond());
    }
    let civil: jiff::civil::DateTime = trimmed.parse().map_err(|_| wrong())?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
    Ok(zoned.timestamp().as_microsecond())
}

/// A span of time: numbers with units, `90s`, `250ms`, `1h30m`, `1.5h`, `7d`; units ns, us, µs, ms, s, m, h, d, w.
///
/// # Errors
/// What is wrong and which forms there are.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is no duration: write a number with a unit, such as 90s, 250ms, 1h30m or 7d");
    let mut rest = text.trim();
    let mut sum_ns = 0f64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters).ok_or_else(wrong)?;
        let unit_ns = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" | "min" => 60e9,
            "h" => 3_600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            _ => return Err(wrong()),
        };
        sum_ns += number.parse::<f64>().map_err(|_| wrong())? * unit_ns;
        rest = after;
    }
    // A century and more is a mistake.
    if sum_ns > 4e18 {
        return Err(format!("`{text}` is too long a duration"));
    }
    Ok(Duration::from_nanos(sum_ns.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_in_many_forms() {
        const NOW: i64 = 1_700_000_000_000_000;
        for (text, want) in [
            ("now", Some(NOW)),
            ("-1h", Some(NOW - 3_600_000_000)),
            ("now-90s", Some(NOW - 90_000_000)),
            ("now+1m30s", Some(NOW + 90_000_000)),
            ("1700000000", Some(NOW)),
            ("1700000000000", Some(NOW)),
            ("1700000000000000", Some(NOW)),
            ("1700000000000000123", Some(NOW)),
            ("2023-11-14T22:13:20Z", Some(NOW)),
            ("2023-11-14T23:13:20.000001+01:00", Some(NOW + 1)),
            ("2023-11-14T22:13:20", Some(NOW)),
            ("2023-11-14", Some(NOW - 80_000_000_000)),
            ("0", Some(0)),
            ("", None),
            ("-", None),
            ("now1h", None),
            ("now-", None),
            ("-1", None),
            ("yesterday", None),
            ("2023-13-01", None),
            ("99999999999999999999999999999999", None),
            ("é", None),
        ] {
            assert_eq!(parse_time(text, NOW).ok(), want, "{text}");
        }
    }

    #[test]
    fn durations_add_up() {
        for (text, want_ms) in [
            ("250ms", Some(250)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("2000us", Some(2)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("h", None),
            ("1..2s", None),
            ("5 parsecs", None),
            ("1µ", None),
            ("99999999w", None),
        ] {
            let got = parse_duration(text).ok().map(|duration| duration.as_millis());
            assert_eq!(got, want_ms, "{text}");
        }
    }
}
