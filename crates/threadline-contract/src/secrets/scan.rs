//! The first pass over a text: what it might hold. Written so that the compiler uses vector instructions; all
//! comparisons are on single bytes and three that follow, over blocks of a fixed length.

/// Characters that can forge lines.
pub(super) const CONTROL: u16 = 1;
/// `eyJ`, as JSON web tokens begin.
pub(super) const JWT: u16 = 1 << 1;
/// The end of `Bearer` or `Basic `.
pub(super) const HEADER: u16 = 1 << 2;
/// `----`.
pub(super) const KEY: u16 = 1 << 3;
/// `://`.
pub(super) const URL: u16 = 1 << 4;
/// `rd=`, `wd=`, `ey=`.
pub(super) const PASSWORD: u16 = 1 << 5;
/// As many digits as a card has, and as many of them in fours.
pub(super) const DIGITS: u16 = 1 << 6;

/// Fewest digits of a card number.
const CARD_DIGITS_MIN: u32 = 13;
/// Fewest places in a card number at which four digits follow each other: as it is printed, in groups.
const CARD_FOURS_MIN: u32 = 4;
/// Positions that are looked at together.
const BLOCK: usize = 32;
/// Bytes that each position looks ahead.
const AHEAD: usize = 3;

/// What a text might hold: 0 for nearly all.
#[inline]
pub(crate) fn flags(text: &str) -> u16 {
    if is_suspicious(text.as_bytes()) { exact(text.as_bytes()) } else { 0 }
}

/// Positions of a look at a glance …
const GLANCE: usize = 16;
/// … and bytes that follow the last of them.
const GLANCE_AHEAD: usize = 2;
/// A text with a card number has at least so many pairs of digits, one less for a pair that a glance may miss.
const DIGIT_PAIRS_MIN: u32 = 11;

/// A glance at a text: few comparisons, and rather once too often than not at all. Blocks may overlap, so that nothing is
/// copied.
#[inline]
fn is_suspicious(bytes: &[u8]) -> bool {
    let len = bytes.len();
    let (mut found, mut pairs) = (false, 0u32);
    let mut glance = |block: &[u8; GLANCE + GLANCE_AHEAD]| {
        let (odd, count) = glance_at(block);
        found |= odd;
        pairs += u32::from(count);
    };
    if len >= GLANCE + GLANCE_AHEAD {
        let mut rest = bytes;
        while let Some(block) = rest.first_chunk() {
            glance(block);
            rest = rest.get(GLANCE..).unwrap_or_default();
        }
        if let Some(block) = bytes.last_chunk() {
            glance(block);
        }
    } else {
        let mut block = [b' '; GLANCE + GLANCE_AHEAD];
        let mut copied = 0;
        if let Some(whole) = bytes.first_chunk::<GLANCE>() {
            block[..GLANCE].copy_from_slice(whole);
            copied = GLANCE;
        } else if let (Some(front), Some(back)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            // What is longer than eight bytes stands there in two halves that overlap.
            block[..8].copy_from_slice(front);
            block[8..GLANCE].copy_from_slice(back);
            copied = len;
        }
        block.iter_mut().zip(bytes).skip(copied).for_each(|(to, from)| *to = *from);
        glance(&block);
    }
    // The last bytes of a long text are looked at only as ones that follow.
    let end = bytes.last_chunk::<GLANCE_AHEAD>().is_some_and(|end| end.iter().any(|byte| is_odd(*byte)));
    found | end | (pairs >= DIGIT_PAIRS_MIN)
}

/// All that is not printable ASCII; escapes; key=value.
#[inline(always)]
fn is_odd(byte: u8) -> bool {
    (byte.wrapping_sub(b' ') > 0x5e) | (byte == b'\\') | (byte == b'=')
}

/// Whether something may begin in a block, and how many pairs of digits there are.
#[inline(always)]
fn glance_at(block: &[u8; GLANCE + GLANCE_AHEAD]) -> (bool, u8) {
    let (mut found, mut pairs) = (0u8, 0u8);
    for at in 0..GLANCE {
        let (a, b, c) = (block[at], block[at + 1], block[at + 2]);
        let (la, lb, lc) = (a | 0x20, b | 0x20, c | 0x20);
        let header = ((la == b'r') & (lb == b'e') & (lc == b'r')) | ((la == b'i') & (lb == b'c') & (c == b' '));
        let pair = ((a == b'y') & (b == b'J')) | ((a == b'-') & (b == b'-')) | ((a == b':') & (b == b'/'));
        found |= u8::from(is_odd(a) | header | pair);
        pairs += u8::from((a.wrapping_sub(b'0') < 10) & (b.wrapping_sub(b'0') < 10));
    }
    (found != 0, pairs)
}

/// What a text might hold, exactly.
#[cold]
#[inline(never)]
fn exact(bytes: &[u8]) -> u16 {
    let (mut found, mut digits, mut fours) = (0u8, 0u32, 0u32);
    let mut rest = bytes;
    while let Some(block) = rest.first_chunk::<{ BLOCK + AHEAD }>() {
        let (flags, count, four) = look(block);
        found |= flags;
        digits += u32::from(count);
        fours += u32::from(four);
        rest = rest.get(BLOCK..).unwrap_or_default();
    }
    if !rest.is_empty() {
        // What is left may have up to BLOCK + AHEAD - 1 bytes, so two looks may be needed.
        let mut last = [b' '; BLOCK * 2 + AHEAD];
        if let Some(front) = last.get_mut(..rest.len()) {
            front.copy_from_slice(rest);
        }
        for at in [0, BLOCK] {
            if let Some(block) = last.get(at..).and_then(|last| last.first_chunk())
                && at < rest.len()
            {
                let (flags, count, four) = look(block);
                found |= flags;
                digits += u32::from(count);
                fours += u32::from(four);
            }
        }
    }
    u16::from(found) | if digits >= CARD_DIGITS_MIN && fours >= CARD_FOURS_MIN { DIGITS } else { 0 }
}

/// What begins in a block, how many digits there are, and how many times four in a row.
#[inline(always)]
fn look(block: &[u8; BLOCK + AHEAD]) -> (u8, u8, u8) {
    const fn flag(is: bool, flag: u16) -> u8 {
        if is { flag as u8 } else { 0 }
    }
    let (mut found, mut digits, mut fours) = (0u8, 0u8, 0u8);
    for at in 0..BLOCK {
        let (a, b, c, d) = (block[at], block[at + 1], block[at + 2], block[at + 3]);
        let (la, lb, lc, ld) = (a | 0x20, b | 0x20, c | 0x20, d | 0x20);
        let control = (a < 0x20) & (a != b'\t') & (a != b'\n') | (a == 0x7f);
        let c1 = (a == 0xc2) & (b < 0xa0);
        let bidi =
            (a == 0xe2) & ((b == 0x80) & (c.wrapping_sub(0xaa) < 5) | (b == 0x81) & (c.wrapping_sub(0xa6) < 4));
        let escape = (a == b'\\') & ((b == b'u') | (b == b'r'));
        found |= flag(control | c1 | bidi | escape, CONTROL);
        found |= flag((a == b'e') & (b == b'y') & (c == b'J'), JWT);
        let bearer = (la == b'a') & (lb == b'r') & (lc == b'e') & (ld == b'r');
        let basic = (la == b's') & (lb == b'i') & (lc == b'c') & (d == b' ');
        found |= flag(bearer | basic, HEADER);
        found |= flag((a == b'-') & (b == b'-') & (c == b'-') & (d == b'-'), KEY);
        found |= flag((a == b':') & (b == b'/') & (c == b'/'), URL);
        let word = (lb == b'd') & ((la == b'w') | (la == b'r')) | (la == b'e') & (lb == b'y');
        found |= flag(word & ((c == b'=') | (c == b' ') & (d == b'=')), PASSWORD);
        let digit = |byte: u8| byte.wrapping_sub(b'0') < 10;
        digits += u8::from(digit(a));
        fours += u8::from(digit(a) & digit(b) & digit(c) & digit(d));
    }
    (found, digits, fours)
}

/// Whether a text has characters that can forge lines: C0 and C1 controls but tab and line end, DEL, and those that change
/// the direction of text. A carriage return before a line feed is part of a line end.
pub(super) fn has_control(text: &str, json: bool, flags: u16) -> bool {
    if flags & CONTROL == 0 {
        return false;
    }
    let bytes = text.as_bytes();
    let plain = text.char_indices().any(|(at, c)| match c {
        '\t' | '\n' => false,
        '\r' => bytes.get(at + 1) != Some(&b'\n'),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        c => c.is_control(),
    });
    // Typed JSON escapes controls as \u00xx, and what is escaped is no backslash.
    plain || json && escaped_control(bytes)
}

fn escaped_control(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes.get(at + 1) == Some(&b'u') {
            return true;
        }
        if bytes.get(at + 1) == Some(&b'r') && bytes.get(at + 2..at + 4) != Some(b"\\n") {
            return true;
        }
        at += 2;
    }
    false
}
