//! Times and severities as logs write them.

use std::ops::Range;

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

/// A text as nanoseconds: digits, RFC 3339, `2023-01-29 08:43:04,123`, `20230129T084304Z`,
/// `29/Jan/2023:08:43:04 +0000`, RFC 2822. A time without zone is UTC.
pub fn from_text(text: &str, unit: Unit) -> Option<i64> {
    let text = text.trim_ascii();
    if let Some(nano) = iso(text.as_bytes()) {
        return Some(nano);
    }
    if let Ok(int) = text.parse::<i64>() {
        return from_int(int, unit);
    }
    decimal(text, unit)
        .or_else(|| basic(text.as_bytes()))
        .or_else(|| apache(text.as_bytes()))
        .or_else(|| mail(text))
}

/// The number that these digits are; `None` where one is none.
#[inline]
fn number(text: &[u8], range: Range<usize>) -> Option<i64> {
    let mut sum = 0i64;
    for byte in text.get(range)? {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    Some(sum)
}

#[inline]
fn is(text: &[u8], at: usize, wanted: &[u8]) -> bool {
    text.get(at).is_some_and(|byte| wanted.contains(byte))
}

/// A date and a time of day, not yet known to exist.
#[derive(Clone, Copy, Debug, Default)]
struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nano: i64,
}

impl Civil {
    /// Nanoseconds since 1970 at an offset from UTC; `None` when there is no such time or beyond 64 bits.
    fn at_offset(self, offset_seconds: i64) -> Option<i64> {
        let Civil { year, month, day, hour, minute, second, nano } = self;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days_in_month = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let exists = (1..=12).contains(&month)
            && (1..=days_in_month).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..=60).contains(&second);
        if !exists {
            return None;
        }
        // Years begin in March here, so that the leap day is the last one.
        let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let era = years.div_euclid(400);
        let of_era = years - era * 400;
        let of_year = (153 * months + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        // A leap second is the one before.
        let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second.min(59) - offset_seconds;
        seconds.checked_mul(NANO_PER_SECOND)?.checked_add(nano)
    }
}

/// A point or a comma and digits at `at`, as nanoseconds, and where they end. Digits beyond the ninth are left out.
#[inline]
fn fraction(text: &[u8], at: usize) -> Option<(i64, usize)> {
    if !is(text, at, b".,") {
        return Some((0, at));
    }
    let (mut nano, mut digits) = (0i64, 0);
    for byte in text.get(at + 1..)? {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        if digits < 9 {
            nano = nano * 10 + i64::from(digit);
        }
        digits += 1;
    }
    if digits < 9 {
        nano *= 10i64.pow(9 - digits as u32);
    }
    Some((nano, at + 1 + digits))
}

/// `YYYY-MM-DD`, then `T`, `t`, `_` or a space, `HH:MM[:SS[.,]fraction]`, and a zone, `Z`, or nothing for UTC.
fn iso(text: &[u8]) -> Option<i64> {
    if !is(text, 4, b"-/") || !is(text, 7, b"-/") {
        return None;
    }
    let mut civil = Civil {
        year: number(text, 0..4)?,
        month: number(text, 5..7)?,
        day: number(text, 8..10)?,
        ..Civil::default()
    };
    let mut at = 10;
    if is(text, 10, b"Tt _") {
        if !is(text, 13, b":") {
            return None;
        }
        (civil.hour, civil.minute) = (number(text, 11..13)?, number(text, 14..16)?);
        at = 16;
        if is(text, 16, b":") {
            civil.second = number(text, 17..19)?;
            at = 19;
        }
        (civil.nano, at) = fraction(text, at)?;
    }
    civil.at_offset(offset_seconds(text.get(at..)?)?)
}

/// `YYYYMMDDTHHMM[SS[.fraction]]` and a zone: ISO 8601's basic form.
fn basic(text: &[u8]) -> Option<i64> {
    if !is(text, 8, b"Tt") {
        return None;
    }
    let mut civil = Civil {
        year: number(text, 0..4)?,
        month: number(text, 4..6)?,
        day: number(text, 6..8)?,
        hour: number(text, 9..11)?,
        minute: number(text, 11..13)?,
        ..Civil::default()
    };
    let mut at = 13;
    if let Some(second) = number(text, 13..15) {
        civil.second = second;
        (civil.nano, at) = fraction(text, 15)?;
    }
    civil.at_offset(offset_seconds(text.get(at..)?)?)
}

/// `29/Jan/2023:08:43:04 +0000`, as Apache and nginx write it.
fn apache(text: &[u8]) -> Option<i64> {
    let day_digits = text.iter().position(|byte| *byte == b'/').filter(|at| matches!(at, 1 | 2))?;
    let rest = text.get(day_digits + 1..)?;
    let separated = is(rest, 3, b"/") && [8, 11, 14].into_iter().all(|at| is(rest, at, b":"));
    if !separated || !is(rest, 17, b" ") {
        return None;
    }
    let civil = Civil {
        year: number(rest, 4..8)?,
        month: month(rest.get(..3)?)?,
        day: number(text, 0..day_digits)?,
        hour: number(rest, 9..11)?,
        minute: number(rest, 12..14)?,
        second: number(rest, 15..17)?,
        nano: 0,
    };
    civil.at_offset(offset_seconds(rest.get(18..).filter(|zone| !zone.is_empty())?)?)
}

/// `[Sun,] 29 Jan 2023 08:42[:09] +0000`: RFC 2822.
fn mail(text: &str) -> Option<i64> {
    let text = match text.split_once(',') {
        Some((weekday, rest)) if weekday.len() == 3 => rest,
        Some(_) => return None,
        None => text,
    };
    let mut words = text.split_ascii_whitespace();
    let (day, name, year, clock, zone) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || day.len() > 2 || year.len() != 4 || !matches!(clock.len(), 5 | 8) {
        return None;
    }
    let clock = clock.as_bytes();
    let with_second = clock.len() == 8;
    if !is(clock, 2, b":") || (with_second && !is(clock, 5, b":")) {
        return None;
    }
    let civil = Civil {
        year: number(year.as_bytes(), 0..4)?,
        month: month(name.as_bytes())?,
        day: number(day.as_bytes(), 0..day.len())?,
        hour: number(clock, 0..2)?,
        minute: number(clock, 3..5)?,
        second: if with_second { number(clock, 6..8)? } else { 0 },
        nano: 0,
    };
    civil.at_offset(offset_seconds(zone.as_bytes())?)
}

/// Number of a month by the first three letters of its English name.
fn month(name: &[u8]) -> Option<i64> {
    const NAMES: [&[u8; 3]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let at = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    i64::try_from(at + 1).ok()
}

/// `Z`, `UTC`, nothing, `+01:00`, `+0100`, `+01`; a name in brackets behind an offset (RFC 9557) does not count.
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    let zone = match zone {
        [b'Z'] | [] => return Some(0),
        other => other.trim_ascii(),
    };
    let zone = match zone.iter().position(|byte| *byte == b'[') {
        Some(at) if at > 0 && zone.last() == Some(&b']') => zone.get(..at)?,
        _ => zone,
    };
    if matches!(zone, b"" | b"Z" | b"z" | b"UTC" | b"GMT" | b"UT") {
        return Some(0);
    }
    let (sign, digits) = match zone {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let minutes = match digits.len() {
        2 => 0,
        4 => number(digits, 2..4)?,
        5 if is(digits, 2, b":") => number(digits, 3..5)?,
        _ => return None,
    };
    let hours = number(digits, 0..2)?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
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
