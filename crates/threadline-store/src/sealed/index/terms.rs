//! The terms of a body (docs/formats.md, "Terms").
//!
//! A *term* is a longest run of letters, digits, `_` and bytes beyond ASCII, whatever its case. Three shapes are *compounds*,
//! kept whole in lists of their own (case as for terms):
//! - a UUID: 8-4-4-4-12 hex digits that neither side continues by a term character, by `-`, or by `.` and a term;
//! - an IPv4 address: a dotted run of exactly four numbers from 0 to 255 without leading zeros;
//! - any other dotted run with four or more numbers in a row, such as a name with an address in it.
//!
//! The groups of a UUID are no terms of their own: who looks for one looks into the UUIDs, too. The numbers of addresses
//! and dotted runs are in the list of numbers. A row's own trace and span id are no terms: their columns hold them.

use std::ops::Range;

use memchr::memchr2;

use super::dictionary::{PAD, Texts};
use crate::TermList;
use crate::sealed::elide::{AS_IS, SPAN, TRACE};

/// Groups of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
/// Bytes of a UUID.
const UUID_BYTES: usize = 36;
/// Numbers in a row that make a dotted run a compound.
const NUMBERS_MIN: usize = 4;

/// The ids of a row, in lower-case hex.
#[derive(Clone, Copy, Default)]
pub(crate) struct OwnIds {
    pub(crate) trace: Option<[u8; 32]>,
    pub(crate) span: Option<[u8; 16]>,
}

/// Whether a byte belongs to a term.
#[inline]
pub(crate) fn is_term_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | (byte == b'_') | (byte >= 0x80)
}

/// Terms handed out at once, at most.
const TERMS_MAX: usize = 256;

/// Finds terms. Keeps its buffers from body to body.
#[derive(Default)]
pub(crate) struct Tokenizer {
    text: Vec<u8>,
    /// The same in lower case.
    lower: Vec<u8>,
    /// One bit per byte of the body: whether it belongs to a term.
    mask: Vec<u64>,
    joined: Vec<u8>,
    joined_lower: Vec<u8>,
    found: Vec<Found>,
}

/// A term's list, and where it lies in the texts.
pub(crate) type Found = (TermList, Range<usize>);

impl Tokenizer {
    /// Calls `each` for some terms at a time of a body as a sealed file holds it: ids elided. `ids` is asked only where
    /// needed.
    #[inline]
    pub(crate) fn terms(
        &mut self,
        body: &[u8],
        elided: bool,
        ids: impl Fn() -> OwnIds,
        mut each: impl FnMut(Texts<'_>, &[Found]),
    ) {
        let (body, elided) = match body.split_first() {
            Some((&AS_IS, rest)) if elided => (rest, false),
            _ => (body, elided),
        };
        let elided = elided && memchr2(TRACE, SPAN, body).is_some();
        self.prepare(body);
        let Self { lower, text: original, mask, joined, joined_lower, found } = self;
        let texts = Texts { lower, text: original };
        let text = Text { bytes: lower.get(..body.len()).unwrap_or_default(), mask };
        let mut at = 0;
        // Up to where a dotted run was looked at and found to be no compound.
        let mut looked = 0;
        while let Some(start) = text.next_term(at) {
            if found.len() >= TERMS_MAX {
                each(texts, found);
                found.clear();
            }
            let end = text.end_of_term(start);
            let next = text.byte(end);
            if elided && (is_marker(next) || start > 0 && is_marker(text.byte(start - 1))) {
                each(texts, found);
                found.clear();
                at = join(&text, original, start, end, &ids, joined);
                joined_lower.clear();
                joined_lower.extend(joined.iter().map(u8::to_ascii_lowercase));
                let whole = 0..joined.len() - PAD;
                each(Texts { lower: joined_lower, text: joined }, &[(TermList::Plain, whole)]);
                continue;
            }
            if next == b'-' && end - start == UUID[0] && text.is_uuid(start) {
                at = start + UUID_BYTES;
                found.push((TermList::Uuids, start..at));
                continue;
            }
            if next == b'.' && start >= looked && text.is_term(end + 1) {
                let (mut run_end, numbers) = text.end_of_dotted(start);
                if elided && is_marker(text.byte(run_end)) {
                    // What an elided id goes on from is no number.
                    let last = text.slice(start, run_end).iter().rposition(|byte| *byte == b'.');
                    run_end = start + last.unwrap_or(0);
                }
                if numbers >= NUMBERS_MIN && text.has_numbers(start, run_end) {
                    let is_address = is_address(text.slice(start, run_end));
                    let list = if is_address { TermList::Addresses } else { TermList::Dotted };
                    found.push((list, start..run_end));
                    let mut from = start;
                    text.each_group(start, run_end, |group| {
                        let list = if is_number(group) { TermList::Numbers } else { TermList::Plain };
                        found.push((list, from..from + group.len()));
                        from += group.len() + 1;
                        if found.len() >= TERMS_MAX {
                            each(texts, found);
                            found.clear();
                        }
                    });
                    at = run_end;
                    continue;
                }
                looked = run_end;
            }
            if !matches!(end - start, 16 | 32) || !is_own(text.slice(start, end), &ids()) {
                found.push((TermList::Plain, start..end));
            }
            at = end;
        }
        each(texts, found);
    }

    fn prepare(&mut self, body: &[u8]) {
        self.found.clear();
        self.text.clear();
        self.text.extend_from_slice(body);
        self.text.extend_from_slice(&[0; PAD]);
        self.lower.clear();
        self.lower.extend(body.iter().map(u8::to_ascii_lowercase));
        self.mask.clear();
        let (chunks, rest) = self.lower.as_chunks::<64>();
        self.mask.extend(chunks.iter().map(mask_of));
        if !rest.is_empty() {
            let mut last = [0; 64];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.mask.push(mask_of(&last));
        }
        self.lower.extend_from_slice(&[0; PAD]);
    }
}

fn is_marker(byte: u8) -> bool {
    byte == TRACE || byte == SPAN
}

/// Bits of the bytes that belong to terms; the bytes are in lower case.
#[inline]
fn mask_of(bytes: &[u8; 64]) -> u64 {
    let mut flags = [0_u8; 64];
    for (flag, &byte) in flags.iter_mut().zip(bytes) {
        let letter = byte.wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        *flag = u8::from(letter | digit | (byte == b'_') | (byte >= 0x80));
    }
    let mut mask = 0;
    for (index, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // Gathers the lowest bit of each of eight bytes.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= bits << (index * 8);
    }
    mask
}

fn is_number(group: &[u8]) -> bool {
    group.iter().all(u8::is_ascii_digit)
}

/// Whether a text is an IPv4 address in its usual form.
fn is_address(run: &[u8]) -> bool {
    let is_part = |group: &[u8]| match group {
        [digit] => digit.is_ascii_digit(),
        [b'1'..=b'9', digit] => digit.is_ascii_digit(),
        [b'1', tens, digit] | [b'2', tens @ b'0'..=b'4', digit] => {
            tens.is_ascii_digit() && digit.is_ascii_digit()
        }
        [b'2', b'5', digit] => matches!(digit, b'0'..=b'5'),
        _ => false,
    };
    let mut groups = 0;
    run.split(|byte| *byte == b'.').all(|group| {
        groups += 1;
        is_part(group)
    }) && groups == 4
}

fn is_own(term: &[u8], ids: &OwnIds) -> bool {
    ids.trace.as_ref().is_some_and(|id| id == term) || ids.span.as_ref().is_some_and(|id| id == term)
}

/// A term that an elided id is part of: the pieces around it, put together again. Where the term ends.
#[cold]
fn join(
    text: &Text<'_>,
    original: &[u8],
    start: usize,
    end: usize,
    ids: &impl Fn() -> OwnIds,
    joined: &mut Vec<u8>,
) -> usize {
    let ids = ids();
    joined.clear();
    let mut from = start;
    while from > 0 && (is_marker(text.byte(from - 1)) || text.is_term(from - 1)) {
        from -= 1;
    }
    let mut at = from;
    loop {
        match text.byte(at) {
            TRACE => joined.extend_from_slice(ids.trace.as_ref().map_or(&[][..], |id| id)),
            SPAN => joined.extend_from_slice(ids.span.as_ref().map_or(&[][..], |id| id)),
            byte if at < text.bytes.len() && is_term_byte(byte) => {
                joined.push(original.get(at).copied().unwrap_or(byte));
            }
            _ => break,
        }
        at += 1;
    }
    joined.extend_from_slice(&[0; PAD]);
    at.max(end)
}

/// A text in lower case with its mask.
struct Text<'a> {
    bytes: &'a [u8],
    mask: &'a [u64],
}

impl Text<'_> {
    /// 0 beyond the end.
    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    #[inline]
    fn is_term(&self, at: usize) -> bool {
        self.bytes.get(at).is_some_and(|byte| is_term_byte(*byte))
    }

    fn slice(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Where the next term begins, at or after `at`.
    #[inline]
    fn next_term(&self, at: usize) -> Option<usize> {
        let mut index = at / 64;
        let mut word = self.mask.get(index)? & (u64::MAX << (at % 64));
        while word == 0 {
            index += 1;
            word = *self.mask.get(index)?;
        }
        Some(index * 64 + word.trailing_zeros() as usize)
    }

    /// Where the term that `start` lies in ends.
    #[inline]
    fn end_of_term(&self, start: usize) -> usize {
        let mut index = start / 64;
        let mut word = !self.mask.get(index).copied().unwrap_or(0) & (u64::MAX << (start % 64));
        while word == 0 {
            index += 1;
            word = !self.mask.get(index).copied().unwrap_or(0);
        }
        (index * 64 + word.trailing_zeros() as usize).min(self.bytes.len())
    }

    /// Whether a UUID begins here, and nothing continues it.
    fn is_uuid(&self, start: usize) -> bool {
        let mut at = start;
        for (index, len) in UUID.into_iter().enumerate() {
            if index > 0 {
                if self.byte(at) != b'-' {
                    return false;
                }
                at += 1;
            }
            let group = self.slice(at, at + len);
            if group.len() != len || !group.iter().all(u8::is_ascii_hexdigit) {
                return false;
            }
            at += len;
        }
        let before = start.checked_sub(1).map_or(0, |before| self.byte(before));
        let continued = before == b'-'
            || (before == b'.' && start >= 2 && self.is_term(start - 2))
            || self.is_term(at)
            || is_marker(self.byte(at))
            || self.byte(at) == b'-'
            || (self.byte(at) == b'.' && self.is_term(at + 1));
        !continued
    }

    /// Where the dotted run that begins here ends, and how many of its groups begin with a digit.
    fn end_of_dotted(&self, start: usize) -> (usize, usize) {
        let (mut end, mut digits) = (self.end_of_term(start), usize::from(self.byte(start).is_ascii_digit()));
        while self.byte(end) == b'.' && self.is_term(end + 1) {
            digits += usize::from(self.byte(end + 1).is_ascii_digit());
            end = self.end_of_term(end + 1);
        }
        (end, digits)
    }

    fn each_group(&self, start: usize, end: usize, mut each: impl FnMut(&[u8])) {
        self.slice(start, end).split(|byte| *byte == b'.').for_each(&mut each);
    }

    fn has_numbers(&self, start: usize, end: usize) -> bool {
        let (mut run, mut longest) = (0, 0);
        self.each_group(start, end, |group| {
            run = if is_number(group) { run + 1 } else { 0 };
            longest = longest.max(run);
        });
        longest >= NUMBERS_MIN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn terms(body: &str) -> Vec<String> {
        let mut shown = Vec::new();
        Tokenizer::default().terms(body.as_bytes(), true, OwnIds::default, |texts, found| {
            for (list, term) in found {
                let mark = match list {
                    TermList::Plain => "",
                    TermList::Addresses => "@",
                    TermList::Uuids | TermList::Dotted => "*",
                    TermList::Numbers => "#",
                };
                shown.push(format!("{mark}{}", String::from_utf8_lossy(&texts.lower[term.clone()])));
            }
        });
        shown
    }

    #[test]
    fn cases() {
        for (body, want) in [
            ("", ""),
            ("Token expired_now", "token expired_now"),
            ("größe=7", "größe 7"),
            ("from 10.1.2.3:8080 ok", "from @10.1.2.3 #10 #1 #2 #3 8080 ok"),
            ("10.1.2.3.4 v1.2.3.4.5 1.2.3", "*10.1.2.3.4 #10 #1 #2 #3 #4 *v1.2.3.4.5 v1 #2 #3 #4 #5 1 2 3"),
            ("a.10.1.2.3.arpa", "*a.10.1.2.3.arpa a #10 #1 #2 #3 arpa"),
            ("255.249.0.99 256.1.1.1", "@255.249.0.99 #255 #249 #0 #99 *256.1.1.1 #256 #1 #1 #1"),
            ("010.1.1.1 1.1.1.300", "*010.1.1.1 #010 #1 #1 #1 *1.1.1.300 #1 #1 #1 #300"),
            ("com.example.Foo", "com example foo"),
            ("id=C1234567-9abc-4def-8123-0123456789ab,", "id *c1234567-9abc-4def-8123-0123456789ab"),
            ("x-c1234567-9abc-4def-8123-0123456789ab", "x c1234567 9abc 4def 8123 0123456789ab"),
            ("c1234567-9abc-4def-8123-0123456789ab.json", "c1234567 9abc 4def 8123 0123456789ab json"),
            ("c1234567-9abc-4def-8123-0123456789ab.", "*c1234567-9abc-4def-8123-0123456789ab"),
            ("\u{3}raw \u{1} text", "raw text"),
        ] {
            assert_eq!(terms(body).join(" "), want, "{body}");
        }
    }

    #[test]
    fn own_ids_are_no_terms_but_parts_of_longer_ones() {
        let ids = || OwnIds { trace: Some([b'a'; 32]), span: Some([b'b'; 16]) };
        let run = |body: &str| {
            let mut shown = Vec::new();
            Tokenizer::default().terms(body.as_bytes(), true, ids, |texts, found| {
                let lower = |term: &Found| String::from_utf8_lossy(&texts.lower[term.1.clone()]).into_owned();
                shown.extend(found.iter().map(lower));
            });
            shown.join(" ")
        };
        let (trace, span) = ("a".repeat(32), "b".repeat(16));
        assert_eq!(run("t=\u{1} s=\u{2} end"), "t s end");
        assert_eq!(run(&format!("\u{1}, again {trace} {span}")), "again");
        assert_eq!(run("x\u{1}y"), format!("x{trace}y"));
        assert_eq!(run("x\u{1}\u{2}y z"), format!("x{trace}{span}y z"));
        assert_eq!(run("1.2.3.4.5\u{1}"), format!("1.2.3.4 1 2 3 4 5{trace}"));
        assert_eq!(run("1.2.3.4\u{1}"), format!("1 2 3 4{trace}"));
    }

    proptest! {
        /// Every run of term characters is a term, or part of a compound.
        #[test]
        fn nothing_is_lost(body in "[a-c0-9A-F_. \\-é]{0,120}|([0-9]{1,2}\\.){1,6}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[ .-]?") {
            let found = terms(&body);
            let lower = body.to_lowercase();
            for run in lower.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii())) {
                let known = run.is_empty() || found.iter().any(|term| {
                    term == run
                        || term.strip_prefix('#') == Some(run)
                        || term.strip_prefix('*').is_some_and(|c| c.split('-').any(|part| part == run))
                });
                prop_assert!(known, "{run} of {body:?} is missing in {found:?}");
            }
        }
    }
}
