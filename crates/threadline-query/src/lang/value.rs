//! Values: numbers, severities, durations, times, networks, span kinds and states.

use std::fmt;
use std::net::IpAddr;

use super::ast::{Field, Test};

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Op {
    /// Whether the comparison holds for an ordering of value against operand.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Op::Eq => ordering.is_eq(),
            Op::Ne => ordering.is_ne(),
            Op::Lt => ordering.is_lt(),
            Op::Le => ordering.is_le(),
            Op::Gt => ordering.is_gt(),
            Op::Ge => ordering.is_ge(),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Eq => "=",
            Op::Ne => "!=",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
            Op::Ge => ">=",
        })
    }
}

/// A number as typed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Without fraction, within 64 bits.
    Int(i64),
    /// Any other; finite.
    Double(f64),
}

impl Number {
    /// From decimal digits with optional sign, fraction and exponent; `None` for anything else.
    pub fn parse(text: &str) -> Option<Number> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || !digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        {
            return None;
        }
        if let Ok(int) = text.parse() {
            return Some(Number::Int(int));
        }
        text.parse().ok().filter(|double: &f64| double.is_finite()).map(Number::Double)
    }

    /// Orders two numbers; ints exactly.
    pub fn compare(self, other: Number) -> std::cmp::Ordering {
        let double = |number| match number {
            Number::Int(int) => int as f64,
            Number::Double(double) => double,
        };
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (a, b) => double(a).partial_cmp(&double(b)).unwrap_or(std::cmp::Ordering::Equal),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Int(int) => int.fmt(f),
            Number::Double(double) => write!(f, "{double:?}"),
        }
    }
}

/// The severities by name (OpenTelemetry logs data model, `SeverityNumber`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// 0: the sender named none.
    Unset,
    /// 1–4
    Trace,
    /// 5–8
    Debug,
    /// 9–12
    Info,
    /// 13–16
    Warn,
    /// 17–20
    Error,
    /// 21–24
    Fatal,
}

const SEVERITIES: [(&str, Severity); 7] = [
    ("unset", Severity::Unset),
    ("trace", Severity::Trace),
    ("debug", Severity::Debug),
    ("info", Severity::Info),
    ("warn", Severity::Warn),
    ("error", Severity::Error),
    ("fatal", Severity::Fatal),
];

impl Severity {
    /// The name of a number; `None` beyond 24 and below 0.
    pub fn of(number: i32) -> Option<Severity> {
        SEVERITIES.iter().map(|(_, severity)| *severity).find(|severity| {
            let (low, high) = severity.range();
            (low..=high).contains(&number)
        })
    }

    /// Lowest and highest number of the name.
    pub fn range(self) -> (i32, i32) {
        match self {
            Severity::Unset => (0, 0),
            Severity::Trace => (1, 4),
            Severity::Debug => (5, 8),
            Severity::Info => (9, 12),
            Severity::Warn => (13, 16),
            Severity::Error => (17, 20),
            Severity::Fatal => (21, 24),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SEVERITIES.iter().find(|(_, severity)| severity == self).map_or("", |(name, _)| name))
    }
}

/// A severity as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// By name: four numbers.
    Name(Severity),
    /// By number.
    Number(i32),
}

impl Level {
    /// From a name (`warn`, `warning`, `warn2`) in any case, or a number.
    pub(super) fn parse(text: &str) -> Option<Level> {
        let lower = text.to_ascii_lowercase();
        if let Ok(number) = lower.parse() {
            return Some(Level::Number(number));
        }
        let name = match lower.as_str() {
            "warning" => "warn",
            "err" => "error",
            "information" => "info",
            other => other,
        };
        let find = |name: &str| SEVERITIES.iter().find(|(known, _)| *known == name).map(|(_, s)| *s);
        if let Some(severity) = find(name) {
            return Some(Level::Name(severity));
        }
        let step = name.bytes().last().filter(|b| (b'1'..=b'4').contains(b))?;
        let severity = find(name.get(..name.len() - 1)?).filter(|s| *s != Severity::Unset)?;
        Some(Level::Number(severity.range().0 + i32::from(step - b'1')))
    }

    /// Lowest and highest severity number it stands for.
    pub fn range(self) -> (i32, i32) {
        match self {
            Level::Name(severity) => severity.range(),
            Level::Number(number) => (number, number),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Number(number) => number.fmt(f),
            Level::Name(severity) => severity.fmt(f),
        }
    }
}

/// What the host notes about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// The sent time was absurd; the arrival time stands in.
    TimeAbsurd,
    /// No time was sent.
    TimeMissing,
    /// The sender may not write as the record's service.
    SenderMismatch,
    /// It was put into quarantine: only searches that ask for such records find it.
    Quarantined,
}

impl Flag {
    pub(super) fn parse(text: &str) -> Option<Flag> {
        match text {
            "time_absurd" => Some(Flag::TimeAbsurd),
            "time_missing" => Some(Flag::TimeMissing),
            "sender_mismatch" => Some(Flag::SenderMismatch),
            "quarantined" => Some(Flag::Quarantined),
            _ => None,
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flag::TimeAbsurd => "time_absurd",
            Flag::TimeMissing => "time_missing",
            Flag::SenderMismatch => "sender_mismatch",
            Flag::Quarantined => "quarantined",
        })
    }
}

/// An IP network, or one address. IPv4 addresses inside IPv6 (`::ffff:10.0.0.1`) count as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The network of an address and a prefix length; `None` when that is too long.
    pub fn new(address: IpAddr, bits: u8) -> Option<Network> {
        let mask = |value: u128, width: u8| {
            let host = u32::from(width.checked_sub(bits)?);
            Some(if host >= 128 { 0 } else { value >> host << host })
        };
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4((mask(u128::from(u32::from(v4)), 32)? as u32).into()),
            IpAddr::V6(v6) => IpAddr::V6(mask(u128::from(v6), 128)?.into()),
        };
        Some(Network { address, bits })
    }

    /// The network of the one IPv4 address that a text is.
    pub(crate) fn of_ipv4(text: &str) -> Option<Network> {
        Some(Network { address: IpAddr::V4(text.parse().ok()?), bits: 32 })
    }

    /// Whether the address lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Network::new(address, self.bits) == Some(*self)
    }

    /// Whether a text is an address in the network.
    pub fn contains_text(&self, text: &str) -> bool {
        text.parse().is_ok_and(|address| self.contains(address))
    }

    /// The address, when it is the only one.
    pub(crate) fn single(&self) -> Option<IpAddr> {
        (self.bits == self.width()).then_some(self.address)
    }

    /// Whether the addresses are IPv4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The beginnings of the IPv4 addresses in the network, in their usual form; some may go on with an address beyond
    /// it. At most 128.
    pub(crate) fn ipv4_prefixes(&self) -> Vec<String> {
        let IpAddr::V4(address) = self.address else { return Vec::new() };
        let octets = address.octets();
        let whole = usize::from(self.bits / 8);
        let known: String = octets.iter().take(whole).map(|octet| format!("{octet}.")).collect();
        match (octets.get(whole), self.bits % 8) {
            (None, _) => vec![address.to_string()],
            (Some(_), 0) => vec![known],
            (Some(first), bits) => {
                let last = first | (u8::MAX >> bits);
                let dot = if whole < 3 { "." } else { "" };
                (*first..=last).map(|octet| format!("{known}{octet}{dot}")).collect()
            }
        }
    }

    /// Whether some address in a text lies in the network.
    pub(crate) fn is_mentioned_in(&self, text: &str) -> bool {
        let in_address = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
        if self.address.is_ipv4() {
            return self.is_ipv4_in(text.as_bytes());
        }
        text.split(|c| !in_address(c)).any(|run| {
            run.contains(':')
                && (self.contains_text(run) || self.contains_text(run.trim_end_matches([':', '.'])))
        })
    }

    /// Whether four numbers in a row, which no term goes on from, are an address in the network; so also of a name in
    /// `in-addr.arpa`.
    pub(crate) fn is_ipv4_in(&self, text: &[u8]) -> bool {
        let IpAddr::V4(network) = self.address else { return false };
        let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
        let is_term = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
        let mut at = 0;
        // The first dot of an address has one to three digits before it.
        while let Some(dot) = text.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'.')) {
            let dot = at + dot;
            at = dot + 1;
            let digits = text.get(..dot).unwrap_or_default().iter().rev().take_while(|b| b.is_ascii_digit());
            let start = dot - digits.take(4).count();
            if start == dot || start.checked_sub(1).and_then(|before| text.get(before)).is_some_and(is_term) {
                continue;
            }
            if let Some((address, end)) = ipv4_at(text, start)
                && !text.get(end).is_some_and(is_term)
                && address & mask == u32::from(network)
            {
                return true;
            }
        }
        false
    }

    fn width(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }
}

/// The IPv4 address that begins here, and where it ends.
fn ipv4_at(text: &[u8], start: usize) -> Option<(u32, usize)> {
    let (mut address, mut at) = (0, start);
    for index in 0..4 {
        if index > 0 {
            at = text.get(at).filter(|byte| **byte == b'.').map(|_| at + 1)?;
        }
        let digits = text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).take(4).count();
        let group = text.get(at..at + digits)?;
        if !(1..=3).contains(&digits) || (digits > 1 && group.first() == Some(&b'0')) {
            return None;
        }
        let number = group.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        address = address << 8 | Some(number).filter(|number| *number <= 255)?;
        at += digits;
    }
    Some((address, at))
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if self.bits == self.width() { Ok(()) } else { write!(f, "/{}", self.bits) }
    }
}

/// What an unquoted value means for a field of text. The error says what is wrong.
pub(super) fn classify(text: &str) -> Result<Test, String> {
    if text.contains('*') {
        if text.starts_with(':') || text.starts_with("//") {
            return Err("a pattern with * cannot begin so: use a regular expression".to_owned());
        }
        let any = text.bytes().all(|b| b == b'*');
        return Ok(if any { Test::Exists } else { Test::Wildcard(text.to_owned()) });
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Ok(Network::new(address, bits).map_or_else(|| Test::Equals(text.to_owned()), Test::Network));
    }
    if let Some((address, bits)) = text.rsplit_once('/')
        && let Ok(address) = address.parse::<IpAddr>()
        && !bits.is_empty()
        && bits.bytes().all(|b| b.is_ascii_digit())
    {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let network = bits.parse().ok().and_then(|bits| Network::new(address, bits));
        return network
            .map(Test::Network)
            .ok_or_else(|| format!("the prefix length of this network is at most {width}"));
    }
    Ok(Test::Equals(text.to_owned()))
}

const DURATIONS: [(&str, i64); 7] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("µs", 1000),
    ("ns", 1),
];

/// Nanoseconds of `250ms`, `1.5s`, `-3us`; several parts may follow one another (`1m30s`).
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    let unit_error = "write a number and one of the units ns, us, ms, s, m, h, as in 250ms";
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if rest.is_empty() {
        return Err(format!("a duration is missing: {unit_error}"));
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
            let what = if unit.is_empty() {
                "a duration needs a unit".to_owned()
            } else {
                format!("{unit} is no unit of time")
            };
            return Err(format!("{what}: {unit_error}"));
        };
        total += scaled(number, *factor).ok_or_else(|| format!("{number} is no number: {unit_error}"))?;
        rest = after;
    }
    i64::try_from(total * sign).map_err(|_| "this duration is too long: at most 292 years".to_owned())
}

/// A decimal number times a factor, exactly, digits below one cut.
fn scaled(number: &str, factor: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() > 19 || fraction.len() > 18 || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let scale = 10_i128.checked_pow(fraction.len() as u32)?;
    Some(parse(whole)? * i128::from(factor) + parse(fraction)? * i128::from(factor) / scale)
}

/// Text of a duration in nanoseconds, in the largest unit that divides it.
pub fn format_duration(ns: i64) -> String {
    let (unit, factor) = DURATIONS.iter().find(|(_, factor)| ns % factor == 0).copied().unwrap_or(("ns", 1));
    if ns == 0 { "0s".to_owned() } else { format!("{}{unit}", ns / factor) }
}

/// Nanoseconds since the Unix epoch of an RFC 3339 time (`2023-01-29T10:00:00.5Z`, `…+01:00`) or a date (midnight
/// UTC). `None` when it is neither, or beyond the years 1678–2261.
pub fn parse_time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let is = |at: usize, set: &[u8]| text.as_bytes().get(at).is_some_and(|b| set.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !is(4, b"-") || !is(7, b"-") || !(1..=12).contains(&month) || day < 1 || day > month_days(year, month) {
        return None;
    }
    let mut ns = i128::from(days_from_civil(year, month, day)) * 86_400_000_000_000;
    if text.len() > 10 {
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        if !is(10, b"Tt") || !is(13, b":") || !is(16, b":") || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        ns += i128::from(hour * 3600 + minute * 60 + second) * 1_000_000_000;
        let rest = text.get(19..)?;
        let zone = match rest.strip_prefix('.') {
            Some(fraction) => {
                let end = fraction.find(|c: char| !c.is_ascii_digit())?;
                if end == 0 || end > 9 {
                    return None;
                }
                ns += fraction.get(..end)?.parse::<i128>().ok()? * 10_i128.pow(9 - end as u32);
                fraction.get(end..)?
            }
            None => rest,
        };
        ns -= i128::from(zone_seconds(zone)?) * 1_000_000_000;
    }
    i64::try_from(ns).ok()
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let two = |text: &str| -> Option<i64> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// RFC 3339 text in UTC of nanoseconds since the Unix epoch, with as many digits of the fraction as needed.
pub fn format_time(ns: i64) -> String {
    let (seconds, fraction) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        text.push_str(format!(".{fraction:09}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

const KINDS: [(&str, i32); 6] =
    [("unspecified", 0), ("internal", 1), ("server", 2), ("client", 3), ("producer", 4), ("consumer", 5)];
const STATES: [(&str, i32); 3] = [("unset", 0), ("ok", 1), ("error", 2)];

fn codes(field: &Field) -> &'static [(&'static str, i32)] {
    match field {
        Field::Kind => &KINDS,
        Field::Status => &STATES,
        _ => &[],
    }
}

/// Name of a span kind or status.
pub fn code_name(field: &Field, code: i32) -> Option<&'static str> {
    codes(field).iter().find(|(_, number)| *number == code).map(|(name, _)| *name)
}

/// Number of a span kind or status, by name in any case or by a number below 100.
pub(super) fn parse_code(field: &Field, text: &str) -> Option<i32> {
    let lower = text.to_ascii_lowercase();
    codes(field)
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, code)| *code)
        .or_else(|| lower.parse().ok().filter(|code| (0..100).contains(code)))
}
