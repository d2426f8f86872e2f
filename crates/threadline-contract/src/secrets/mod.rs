//! Finds secrets and forged lines in texts, and puts masks in the place of secrets.
//!
//! Two passes. [`scan::flags`] looks at every byte once, many at a time, and says what a text might hold; nearly all
//! texts hold nothing. [`find`] then looks closely. A text is plain, or typed JSON, in which a mask must not break the
//! JSON: texts end at their quotes, escapes stay whole, and a number becomes a text.

mod patterns;
mod scan;

use std::borrow::Cow;
use std::ops::Range;

use crate::rules::Rule;
use patterns::Cursor;
pub(crate) use scan::flags;

/// A secret in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) range: Range<usize>,
    pub(crate) rule: Rule,
    /// In JSON: the whole value is replaced, so that the mask needs quotes of its own.
    quoted: bool,
}

/// What stands in the place of a secret.
pub fn mask(rule: Rule) -> &'static str {
    match rule {
        Rule::SecretJwt => "[REDACTED:jwt]",
        Rule::SecretBearer => "[REDACTED:bearer]",
        Rule::SecretCard => "[REDACTED:card]",
        Rule::SecretPrivateKey => "[REDACTED:private_key]",
        Rule::SecretConnectionString => "[REDACTED:connection_string]",
        _ => "[REDACTED]",
    }
}

/// Whether a text is a mask, ours or its sender's, so that there is nothing left to hide.
pub(crate) fn is_masked(text: &str) -> bool {
    let inner = text.trim_matches(['[', ']', '<', '>', '(', ')', '*']);
    let kind = inner.strip_prefix("REDACTED:");
    inner.is_empty()
        || inner.eq_ignore_ascii_case("redacted")
        || kind.is_some_and(|kind| kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

/// Looks closely: the bits of the rules that a text breaks, secrets and control characters.
#[cold]
#[inline(never)]
pub(crate) fn verify(text: &str, json: bool, flags: u16) -> u64 {
    let mut bits = if scan::has_control(text, json, flags) { Rule::TextControl.bit() } else { 0 };
    if flags & !scan::CONTROL != 0 {
        bits |= find(text, json, flags).iter().fold(0, |bits, hit| bits | hit.rule.bit());
    }
    bits
}

/// The secrets of a text, in order, apart from each other.
pub(crate) fn find(text: &str, json: bool, flags: u16) -> Vec<Hit> {
    let mut hits = Vec::new();
    let cursor = Cursor { bytes: text.as_bytes(), json };
    if flags & scan::KEY != 0 {
        cursor.private_keys(&mut hits);
    }
    if flags & scan::JWT != 0 {
        cursor.tokens(&mut hits);
    }
    if flags & scan::HEADER != 0 {
        cursor.headers(&mut hits);
    }
    if flags & scan::URL != 0 {
        cursor.urls(&mut hits);
    }
    if flags & scan::PASSWORD != 0 {
        cursor.passwords(&mut hits);
    }
    if flags & scan::DIGITS != 0 {
        cursor.cards(&mut hits);
    }
    hits.sort_by_key(|hit| (hit.range.start, std::cmp::Reverse(hit.range.end)));
    let mut apart: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match apart.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                last.range.end = last.range.end.max(hit.range.end);
                last.quoted |= hit.quoted;
            }
            _ => apart.push(hit),
        }
    }
    apart
}

/// The text with masks; `None` when there is nothing to hide. `secret_key` says which members of JSON objects are
/// secrets by their key.
pub(crate) fn redact(text: &str, json: bool, secret_key: &dyn Fn(&str) -> bool) -> Option<(String, u64)> {
    let found = flags(text);
    let mut hits = if found & !scan::CONTROL == 0 { Vec::new() } else { find(text, json, found) };
    if json {
        let cursor = Cursor { bytes: text.as_bytes(), json };
        cursor.members(text, secret_key, &mut hits);
        hits.sort_by_key(|hit| (hit.range.start, std::cmp::Reverse(hit.range.end)));
    }
    if hits.is_empty() {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let (mut at, mut bits) = (0, 0);
    for hit in hits {
        bits |= hit.rule.bit();
        // A hit within one that was masked already adds nothing.
        if hit.range.start < at {
            continue;
        }
        out.push_str(text.get(at..hit.range.start).unwrap_or_default());
        let quote = if hit.quoted { "\"" } else { "" };
        out.push_str(quote);
        out.push_str(mask(hit.rule));
        out.push_str(quote);
        at = hit.range.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Some((out, bits))
}

/// A plain text with masks in the place of secrets.
pub fn masked(text: &str) -> Cow<'_, str> {
    redact(text, false, &|_| false).map_or(Cow::Borrowed(text), |(text, _)| Cow::Owned(text))
}

/// Whether a JSON text has a member that is a secret by its key.
pub(crate) fn has_secret_member(json: &str, secret_key: &dyn Fn(&str) -> bool) -> bool {
    let mut hits = Vec::new();
    Cursor { bytes: json.as_bytes(), json: true }.members(json, secret_key, &mut hits);
    !hits.is_empty()
}

/// Whether a number reads like a payment card's.
#[inline]
pub(crate) fn is_card_number(int: i64) -> bool {
    const FEWEST: i64 = 300_000_000_000_000;
    const MOST: i64 = 9_999_999_999_999_999;
    (FEWEST..=MOST).contains(&int) && patterns::is_card(int.to_string().as_bytes())
}

#[cfg(test)]
mod tests;
