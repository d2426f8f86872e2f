//! The close look: where exactly a secret begins and ends.

use std::ops::Range;

use threadline_model::value;

use super::{Hit, is_masked};
use crate::rules::Rule;

/// How far a password may be from the scheme.
const USERINFO_BYTES_MAX: usize = 512;

/// A text, plain or typed JSON.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) json: bool,
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=')
}

fn is_credential(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'=' | b'.' | b'~' | b'+' | b'/')
}

impl<'a> Cursor<'a> {
    fn at(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn before(&self, at: usize) -> Option<u8> {
        self.at(at.checked_sub(1)?)
    }

    fn slice(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// The first position from `at` on whose byte is none of these.
    fn run(&self, at: usize, is: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(at..).unwrap_or_default();
        at + rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len())
    }

    fn occurrences(&self, needle: &'static [u8]) -> impl Iterator<Item = usize> + 'a {
        memchr::memmem::find_iter(self.bytes, needle)
    }

    /// Adds a hit, unless a mask stands there.
    fn hit(&self, hits: &mut Vec<Hit>, range: Range<usize>, rule: Rule) {
        let masked = std::str::from_utf8(self.slice(range.clone())).is_ok_and(is_masked);
        if !masked {
            hits.push(Hit { range, rule, quoted: false });
        }
    }

    /// The end of the JSON string that `at` is in, or of the text.
    fn string_end(&self, mut at: usize) -> usize {
        if !self.json {
            return self.bytes.len();
        }
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            match memchr::memchr2(b'"', b'\\', rest) {
                Some(found) if rest.get(found) == Some(&b'"') => return at + found,
                Some(found) => at += found + 2,
                None => return self.bytes.len(),
            }
        }
    }

    /// `eyJ….….…`: at least two parts of base64url.
    pub(super) fn tokens(&self, hits: &mut Vec<Hit>) {
        let mut done = 0;
        for start in self.occurrences(b"eyJ") {
            if start < done {
                continue;
            }
            let mut end = self.run(start, is_token);
            // Another beginning in the same run would end where this one does.
            done = end;
            let mut parts = 1;
            while self.at(end) == Some(b'.') && parts < 5 {
                let next = self.run(end + 1, is_token);
                if parts == 1 && next - end < 5 {
                    break;
                }
                parts += 1;
                end = next;
            }
            let payload = memchr::memmem::find(self.slice(start..end), b".eyJ").is_some();
            if end - start >= 16 && (parts >= 3 || parts == 2 && payload) {
                self.hit(hits, start..end, Rule::SecretJwt);
                done = end;
            }
        }
    }

    /// `Bearer …` and `Basic …`.
    pub(super) fn headers(&self, hits: &mut Vec<Hit>) {
        for space in memchr::memchr2_iter(b' ', b':', self.bytes) {
            let word = |len: usize| self.slice(space.saturating_sub(len)..space);
            let bearer = word(6).eq_ignore_ascii_case(b"bearer");
            if !bearer && !word(5).eq_ignore_ascii_case(b"basic") {
                continue;
            }
            let start = self.run(space, |byte| matches!(byte, b' ' | b':' | b'='));
            let end = self.run(start, is_credential);
            let token = self.slice(start..end);
            let any = |is: fn(&u8) -> bool| token.iter().any(is);
            let mixed = any(u8::is_ascii_digit) || any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase);
            let looks_so = if bearer {
                token.len() >= 20 || token.len() >= 8 && any(u8::is_ascii_digit)
            } else {
                token.len() >= 8 && token.len().is_multiple_of(4) && mixed && !is_word(token)
            };
            if looks_so {
                self.hit(hits, start..end, Rule::SecretBearer);
            }
        }
    }

    /// PEM: from the first line to the last, or to the end of the text where that is missing.
    pub(super) fn private_keys(&self, hits: &mut Vec<Hit>) {
        let mut done = 0;
        for start in self.occurrences(b"-----BEGIN ") {
            let label = self.slice(start..self.bytes.len().min(start + 64));
            if start < done || memchr::memmem::find(label, b"PRIVATE KEY").is_none() {
                continue;
            }
            let limit = self.string_end(start);
            let inside = self.slice(start..limit);
            let last = memchr::memmem::find(inside, b"-----END ").and_then(|at| {
                let dashes = memchr::memmem::find(inside.get(at + 9..)?, b"-----")?;
                Some(start + at + 9 + dashes + 5)
            });
            done = last.unwrap_or(limit);
            self.hit(hits, start..done, Rule::SecretPrivateKey);
        }
    }

    /// `scheme://user:password@host`.
    pub(super) fn urls(&self, hits: &mut Vec<Hit>) {
        for at in self.occurrences(b"://") {
            let start = at + 3;
            let region = self.slice(start..self.bytes.len().min(start + USERINFO_BYTES_MAX));
            let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'<' | b'>');
            let limit = region.iter().position(ends).unwrap_or(region.len());
            let region = region.get(..limit).unwrap_or_default();
            // A password may have `/` and `@` in it: the user info ends at the last `@` before what follows the host.
            let found = memchr::memchr(b'@', region).and_then(|first| {
                let host = region.get(first..)?;
                let slash = memchr::memchr(b'/', host).unwrap_or(host.len());
                Some(first + memchr::memrchr(b'@', host.get(..slash)?)?)
            });
            let Some(userinfo) = found.and_then(|end| region.get(..end)) else { continue };
            // The colon of a mask is none of the address.
            let of_mask = |at: &usize| userinfo.get(..*at).is_some_and(|before| before.ends_with(b"[REDACTED"));
            let Some(colon) = memchr::memchr_iter(b':', userinfo).find(|at| !of_mask(at)) else { continue };
            let (user, password) = userinfo.split_at_checked(colon).unwrap_or((userinfo, &[]));
            let password = password.get(1..).unwrap_or_default();
            let port = password.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let is_port = matches!(password.get(port), Some(b'/' | b'?' | b'#'));
            let text = std::str::from_utf8(password).unwrap_or("x");
            if user.contains(&b'/') || user.contains(&b'?') || password.is_empty() || is_port || is_masked(text)
            {
                continue;
            }
            self.hit(hits, start..start + userinfo.len(), Rule::SecretConnectionString);
        }
    }

    /// `Password=…;` and its like.
    pub(super) fn passwords(&self, hits: &mut Vec<Hit>) {
        let pairs = memchr::memchr(b';', self.bytes).is_some();
        let mut done = 0;
        for equals in memchr::memchr_iter(b'=', self.bytes).filter(|at| *at > 0) {
            if equals < done {
                continue;
            }
            let end = if self.before(equals) == Some(b' ') { equals - 1 } else { equals };
            let word = |name: &[u8]| {
                let start = end.checked_sub(name.len());
                start.is_some_and(|start| {
                    self.slice(start..end).eq_ignore_ascii_case(name)
                        && !self.before(start).is_some_and(|byte| byte.is_ascii_alphanumeric())
                })
            };
            let short = pairs && word(b"pwd");
            let known: [&[u8]; 6] =
                [b"password", b"passwd", b"accountkey", b"sharedaccesskey", b"accesskey", b"apikey"];
            if !short && !known.into_iter().any(word) {
                continue;
            }
            let start = self.run(equals + 1, |byte| byte == b' ');
            let end = self.value_end(start);
            done = end;
            let text = std::str::from_utf8(self.slice(start..end)).unwrap_or("x");
            if !is_masked(text) {
                self.hit(hits, start..end, Rule::SecretConnectionString);
            }
        }
    }

    /// The end of a value in `key=value;`.
    fn value_end(&self, start: usize) -> usize {
        let quote = self.at(start).filter(|byte| *byte == b'\'');
        let mut at = start + usize::from(quote.is_some());
        while let Some(byte) = self.at(at) {
            match byte {
                b'\'' if quote.is_some() => return at + 1,
                _ if quote.is_some() && byte != b'"' && byte != b'\\' => {}
                b';' | b'&' | b'"' | b'\'' => break,
                _ if byte.is_ascii_whitespace() => break,
                b'\\' if self.json => {
                    if !matches!(self.at(at + 1), Some(b'\\' | b'/')) {
                        break;
                    }
                    at += 1;
                }
                _ => {}
            }
            at += 1;
        }
        at.min(self.bytes.len())
    }

    /// Card numbers: 13 to 19 digits in one run, or in the groups that are printed on cards.
    pub(super) fn cards(&self, hits: &mut Vec<Hit>) {
        // Groups of other lengths are part of no card, and no group beside them is its neighbour.
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut add = |range: Range<usize>| {
            if matches!(range.len(), 3..=6 | 13..=19) {
                groups.push(range);
            }
        };
        let mut start = None;
        for (at, byte) in self.bytes.iter().enumerate() {
            if byte.is_ascii_digit() {
                start.get_or_insert(at);
            } else if let Some(start) = start.take() {
                add(start..at);
            }
        }
        if let Some(start) = start {
            add(start..self.bytes.len());
        }
        let mut strings = Strings { cursor: *self, next: 0, inside: 0..0 };
        let mut first = 0;
        while let Some(group) = groups.get(first) {
            let Some(count) = self.card_groups(groups.get(first..).unwrap_or_default()) else {
                first += 1;
                continue;
            };
            let end = groups.get(first + count - 1).map_or(group.end, |last| last.end);
            self.card_hit(hits, group.start..end, &mut strings);
            first += count;
        }
    }

    /// How many of the groups at the front are one card number.
    fn card_groups(&self, groups: &[Range<usize>]) -> Option<usize> {
        let first = groups.first()?;
        let bounded = |range: Range<usize>| {
            let letter =
                |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            // In JSON an escape such as \n ends in a letter.
            let escape = self.json && range.start >= 2 && self.at(range.start - 2) == Some(b'\\');
            (escape || !letter(self.before(range.start))) && !letter(self.at(range.end))
        };
        if (13..=19).contains(&first.len()) {
            return (bounded(first.clone()) && is_card(self.slice(first.clone()))).then_some(1);
        }
        [&[4, 4, 4, 4][..], &[4, 4, 4, 4, 3], &[4, 6, 5]].into_iter().find_map(|lens| {
            let groups = groups.get(..lens.len())?;
            let separator = self.at(first.end).filter(|byte| matches!(byte, b' ' | b'-'))?;
            let fits = groups.iter().zip(lens).all(|(group, len)| group.len() == *len)
                && groups
                    .windows(2)
                    .all(|pair| pair[0].end + 1 == pair[1].start && self.at(pair[0].end) == Some(separator));
            let whole = first.start..groups.last()?.end;
            if !fits || !bounded(whole.clone()) {
                return None;
            }
            let digits: Vec<u8> = self.slice(whole).iter().copied().filter(u8::is_ascii_digit).collect();
            is_card(&digits).then_some(lens.len())
        })
    }

    /// In JSON a number, which is no text, is replaced as a whole.
    fn card_hit(&self, hits: &mut Vec<Hit>, mut range: Range<usize>, strings: &mut Strings<'_>) {
        if !self.json || strings.contain(range.start) {
            return self.hit(hits, range, Rule::SecretCard);
        }
        let number = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E');
        while self.before(range.start).is_some_and(number) {
            range.start -= 1;
        }
        range.end = self.run(range.end, number);
        hits.push(Hit { range, rule: Rule::SecretCard, quoted: true });
    }

    /// The values of members of JSON objects whose keys say that they are secrets.
    pub(super) fn members(&self, text: &str, secret_key: &dyn Fn(&str) -> bool, hits: &mut Vec<Hit>) {
        for colon in memchr::memchr_iter(b':', self.bytes) {
            let Some(quote) = colon.checked_sub(1).filter(|at| self.at(*at) == Some(b'"')) else { continue };
            let Some(open) = memchr::memrchr(b'"', self.slice(0..quote)) else { continue };
            let Some(key) = text.get(open + 1..quote) else { continue };
            // `\"key\":` stands inside a string.
            if key.ends_with('\\') || self.before(open) == Some(b'\\') || !secret_key(key) {
                continue;
            }
            let Some(rest) = text.get(colon + 1..) else { continue };
            let Some(raw) = value::first_value(rest) else { continue };
            if raw.is_empty() || raw == "null" || is_masked(raw.trim_matches('"')) {
                continue;
            }
            let range = colon + 1..colon + 1 + raw.len();
            hits.push(Hit { range, rule: Rule::SecretAttribute, quoted: true });
        }
    }
}

/// The strings of a JSON text, one after the other.
struct Strings<'a> {
    cursor: Cursor<'a>,
    next: usize,
    inside: Range<usize>,
}

impl Strings<'_> {
    /// Whether a position is inside a string. Positions must grow from call to call.
    fn contain(&mut self, position: usize) -> bool {
        while self.inside.end <= position {
            let rest = self.cursor.bytes.get(self.next..).unwrap_or_default();
            let Some(open) = memchr::memchr(b'"', rest) else { return false };
            let start = self.next + open + 1;
            let end = self.cursor.string_end(start);
            self.inside = start..end;
            self.next = end + 1;
        }
        self.inside.contains(&position)
    }
}

/// Whether a text reads like a word: one capital at most, in front.
fn is_word(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_alphabetic) && text.iter().skip(1).all(u8::is_ascii_lowercase)
}

/// Whether digits are a card number: a known issuer's range, the length that it uses, and Luhn's check digit.
pub(super) fn is_card(digits: &[u8]) -> bool {
    let prefix = |len: usize| {
        digits.iter().take(len).fold(0u32, |number, digit| number * 10 + u32::from(digit.wrapping_sub(b'0')))
    };
    let issuer = match digits.len() {
        13 | 19 => prefix(1) == 4,
        14 => matches!(prefix(2), 36 | 38 | 39) || matches!(prefix(3), 300..=305),
        15 => matches!(prefix(2), 34 | 37),
        16 => {
            prefix(1) == 4
                || matches!(prefix(2), 51..=55 | 65)
                || matches!(prefix(4), 2221..=2720 | 6011 | 3528..=3589)
                || matches!(prefix(3), 644..=649)
        }
        _ => false,
    };
    if !issuer {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit.wrapping_sub(b'0'));
            match at % 2 {
                0 => digit,
                _ if digit >= 5 => digit * 2 - 9,
                _ => digit * 2,
            }
        })
        .sum();
    // A run of one digit passes, and is a placeholder.
    sum.is_multiple_of(10) && digits.iter().any(|digit| Some(digit) != digits.first())
}
