//! Times and severities as logs write them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::mapping::Unit;

const NANO_PER_SECOND: i64 = 1_000_000_000;

impl Unit {
    /// Nanoseconds per unit of a number.
    fn nano(self, magnitude: f64) -> i64 {
        match self {
            Unit::Nano => 1,
            Unit::Micro => 1_000,
            Unit::Milli => 1_000_000,
            Unit::Second => NANO_PER_SECOND,
            // Up to the year 5138 in seconds, from 1973 on in the others.
            Unit::ByMagnitude => match magnitude.abs() {
                m if m < 1e11 => NANO_PER_SECOND,
                m if m < 1e14 => 1_000_000,
                m if m < 1e17 => 1_000,
                _ => 1,
            },
        }
    }
}

/// A whole number as nanoseconds; `None` beyond 64 bits.
pub fn from_int(int: i64, unit: Unit) -> Option<i64> {
    int.checked_mul(unit.nano(int as f64))
}

/// A number with a fraction as nanoseconds; `None` beyond 64 bits.
pub fn from_double(double: f64, unit: Unit) -> Option<i64> {
    // Its shortest decimal form is what was written; the binary one would add digits that nobody sent.
    double.is_finite().then(|| decimal(&double.to_string(), unit))?
}

/// Digits with a point among them.
fn decimal(text: &str, unit: Unit) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let int = whole.parse::<i64>().ok()?;
    let factor = unit.nano(int as f64);
    let digits = fraction.get(..fraction.len().min(18))?;
    if fraction.is_empty() {
        return int.checked_mul(factor);
    }
    let parts = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i128>().ok())??;
    let nano = parts * i128::from(factor) / 10i128.pow(digits.len() as u32);
    let nano = i64::try_from(if text.starts_with('-') { -nano } else { nano }).ok()?;
    int.checked_mul(factor)?.checked_add(nano)
}

/// A text as nanoseconds: digits, RFC 3339, `2023-01-29 08:43:04,123`, `29/Jan/2023:08:43:04 +0000`, RFC 2822.
/// A time without zone is UTC.
pub fn from_text(text: &str, unit: Unit) -> Option<i64> {
    let text = text.trim();
    if let Ok(int) = text.parse::<i64>() {
        return from_int(int, unit);
    }
    if let Some(nano) = iso(text.as_bytes()) {
        return Some(nano);
    }
    if let Some(nano) = decimal(text, unit) {
        return Some(nano);
    }
    let other = jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", text)
        .and_then(|parsed| parsed.to_timestamp())
        .or_else(|_| jiff::fmt::rfc2822::parse(text).map(|zoned| zoned.timestamp()))
        .or_else(|_| text.parse::<Timestamp>());
    nano(other.ok()?)
}

/// `YYYY-MM-DD`, then `T`, `t`, `_` or a space, `HH:MM[:SS[.,]fraction]`, and a zone, `Z`, or nothing for UTC.
fn iso(text: &[u8]) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| {
        text.get(range)?
            .iter()
            .try_fold(0i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| text.get(at).is_some_and(|byte| wanted.contains(byte));
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !is(4, b"-/") || !is(7, b"-/") {
        return None;
    }
    let (mut hour, mut minute, mut second, mut fraction, mut at) = (0, 0, 0, 0, 10);
    if is(10, b"Tt _") {
        (hour, minute) = (number(11..13)?, number(14..16)?);
        at = 16;
        if !is(13, b":") {
            return None;
        }
        if is(16, b":") {
            second = number(17..19)?;
            at = 19;
        }
        if is(at, b".,") {
            let digits = text.iter().skip(at + 1).take_while(|byte| byte.is_ascii_digit()).count();
            fraction = number(at + 1..at + 1 + digits.min(9))? * 10i64.pow(9 - digits.clamp(1, 9) as u32);
            at += 1 + digits;
        }
    }
    let zone = std::str::from_utf8(text.get(at..)?).ok()?.trim();
    let offset = offset_seconds(zone)?;
    let [month, day, hour, minute] = [month, day, hour, minute].map(|part| part as i8);
    // A leap second is the one before.
    let civil =
        DateTime::new(year as i16, month, day, hour, minute, second.min(59) as i8, fraction as i32).ok()?;
    let offset = Offset::from_seconds(offset).ok()?;
    nano(TimeZone::fixed(offset).to_timestamp(civil).ok()?)
}

/// `Z`, `UTC`, nothing, `+01:00`, `+0100`, `+01`.
fn offset_seconds(zone: &str) -> Option<i32> {
    if matches!(zone, "" | "Z" | "z" | "UTC" | "GMT") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = zone.chars().skip(1).filter(|c| *c != ':').collect();
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let hours = digits.get(..2)?.parse::<i32>().ok()?;
    let minutes = digits.get(2..).filter(|m| !m.is_empty()).map_or(Ok(0), str::parse::<i32>).ok()?;
    Some(sign * (hours * 3600 + minutes * 60))
}

fn nano(time: Timestamp) -> Option<i64> {
    i64::try_from(time.as_nanosecond()).ok()
}

/// OpenTelemetry severity number of a name in any case; 0 when it is none.
pub fn severity_number(name: &str) -> i32 {
    const NAMES: &[(&str, i32)] = &[
        ("INFO", 9),
        ("WARN", 13),
        ("ERROR", 17),
        ("DEBUG", 5),
        ("TRACE", 1),
        ("FATAL", 21),
        ("INFORMATION", 9),
        ("INFORMATIONAL", 9),
        ("WARNING", 13),
        ("NOTICE", 10),
        ("ERR", 17),
        ("SEVERE", 17),
        ("CRITICAL", 21),
        ("CRIT", 21),
        ("PANIC", 21),
        ("DPANIC", 21),
        ("ALERT", 22),
        ("EMERG", 24),
        ("EMERGENCY", 24),
        ("FINE", 5),
        ("FINER", 3),
        ("FINEST", 1),
        ("VERBOSE", 1),
        ("CONFIG", 7),
        ("I", 9),
        ("W", 13),
        ("E", 17),
        ("D", 5),
        ("T", 1),
        ("F", 21),
    ];
    let name = name.trim();
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(0, |(_, number)| *number)
}

/// OpenTelemetry severity number of a numeric level: 10, 20, … 60 are those of pino and bunyan, 1–24 are
/// OpenTelemetry's own; 0 for others.
pub fn severity_of_level(level: i64) -> i32 {
    match level {
        10 => 1,
        20 => 5,
        30 => 9,
        40 => 13,
        50 => 17,
        60 => 21,
        1..=24 => level as i32,
        _ => 0,
    }
}
