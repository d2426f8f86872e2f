//! `tracestate`: a list of vendors' values (Trace Context Level 2, section 3.3). A list with a fault is dropped as a whole; of members
//! with one key the first stays, since who changes a member moves it to the front.

/// List members at most.
pub const MEMBERS_MAX: usize = 32;
/// Bytes of a key, and of a value, at most.
const TEXT_MAX: usize = 256;

/// The members of all fields in their order; `None` when the list must be dropped.
pub(super) fn parse<'a>(fields: &[&'a str]) -> Option<Vec<(&'a str, &'a str)>> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    let mut count = 0;
    for member in fields.iter().flat_map(|field| field.split(',')) {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        count += 1;
        if count > MEMBERS_MAX || !is_key(key) || !is_value(value) {
            return None;
        }
        if !members.iter().any(|(known, _)| *known == key) {
            members.push((key, value));
        }
    }
    Some(members)
}

/// A header's value.
pub(super) fn join(members: &[(&str, &str)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
    members.join(",")
}

/// `key = ( lcalpha / DIGIT ) 0*255( lcalpha / DIGIT / "_" / "-" / "*" / "/" / "@" )`
fn is_key(key: &str) -> bool {
    let start = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= TEXT_MAX
        && key.as_bytes().first().is_some_and(start)
        && key.bytes().all(|byte| start(&byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@'))
}

/// `value = 0*255( chr ) nblk-chr`, where `chr` is printable ASCII but comma and equals sign, and `nblk-chr` no space either.
fn is_value(value: &str) -> bool {
    let printable = |byte: u8| matches!(byte, 0x20..=0x2b | 0x2d..=0x3c | 0x3e..=0x7e);
    value.len() <= TEXT_MAX
        && value.bytes().all(printable)
        && value.as_bytes().last().is_some_and(|byte| *byte != b' ')
}
