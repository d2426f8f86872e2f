//! `baggage`: an application's own values (W3C Baggage). A member with a fault is dropped alone.

use std::fmt::Write as _;

use opentelemetry::baggage::Baggage;

/// List members at most: what the specification has everybody hand on.
pub const MEMBERS_MAX: usize = 64;
/// Bytes of the header at most, likewise.
pub const BYTES_MAX: usize = 8192;

/// The members of all fields, values decoded. What is beyond the limits is left out, the last first.
pub(super) fn parse(fields: &[&str]) -> Baggage {
    let mut baggage = Baggage::new();
    let mut bytes = 0;
    for member in fields.iter().flat_map(|field| field.split(',')) {
        bytes += member.len() + 1;
        if bytes > BYTES_MAX + 1 || baggage.len() == MEMBERS_MAX {
            break;
        }
        let (pair, properties) = member.split_once(';').unwrap_or((member, ""));
        let Some((key, value)) = pair.split_once('=') else { continue };
        let (key, value) = (trim(key), trim(value));
        if is_token(key) && value.bytes().all(is_octet) && properties.split(';').all(is_property) {
            baggage.insert_with_metadata(key.to_owned(), decode(value), trim(properties));
        }
    }
    baggage
}

/// A header's value; `None` for no members. Values are encoded; members beyond the limits are left out.
pub(super) fn format(baggage: &Baggage) -> Option<String> {
    let mut out = String::new();
    // A map has no order; the same baggage is to be the same header.
    let mut members: Vec<_> = baggage.iter().collect();
    members.sort_by_key(|(key, _)| key.as_str());
    for (key, (value, properties)) in members.into_iter().take(MEMBERS_MAX) {
        if !is_token(key.as_str()) {
            continue;
        }
        let mut member = format!("{key}={}", encode(value.as_str()));
        if !properties.as_str().is_empty() && properties.as_str().split(';').all(is_property) {
            let _ = write!(member, ";{properties}");
        }
        if out.len() + member.len() + 1 > BYTES_MAX {
            continue;
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&member);
    }
    (!out.is_empty()).then_some(out)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// `token` of RFC 9110.
fn is_token(text: &str) -> bool {
    let special = |byte| {
        matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
    };
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || special(byte))
}

/// `baggage-octet`: printable ASCII without space, quote, comma, semicolon and backslash.
fn is_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// `property = key OWS "=" OWS value` or a key alone; none is fine too.
fn is_property(text: &str) -> bool {
    let text = trim(text);
    match text.split_once('=') {
        Some((key, value)) => is_token(trim(key)) && trim(value).bytes().all(is_octet),
        None => text.is_empty() || is_token(text),
    }
}

/// Undoes percent-encoding; a sequence that is no UTF-8 becomes U+FFFD, a percent sign without digits stays.
pub(crate) fn decode(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    while let Some((first, tail)) = rest.split_first() {
        let pair = tail.first_chunk::<2>().filter(|_| *first == b'%');
        match pair.and_then(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if is_octet(byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
