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
/// As many digits as a card has.
pub(super) const DIGITS: u16 = 1 << 6;

/// Fewest digits of a card number.
const CARD_DIGITS_MIN: u32 = 13;
/// Positions that are looked at together.
const BLOCK: usize = 32;
/// Bytes that each position looks ahead.
const AHEAD: usize = 3;

/// What a text might hold: 0 for nearly all.
#[inline]
pub(crate) fn flags(text: &str) -> u16 {
    let bytes = text.as_bytes();
    let (mut found, mut digits) = (0u8, 0u32);
    let mut rest = bytes;
    while let Some(block) = rest.first_chunk::<{ BLOCK + AHEAD }>() {
        let (flags, count) = look(block);
        found |= flags;
        digits += u32::from(count);
        rest = rest.get(BLOCK..).unwrap_or_default();
    }
    if !rest.is_empty() {
        // What is left may have up to BLOCK + AHEAD - 1 bytes, so two looks may be needed.
        let mut last = [b' '; BLOCK * 2 + AHEAD];
        if let Some(front) = last.get_mut(..rest.len()) {
            front.copy_from_slice(rest);
        }
        if let Some(block) = last.first_chunk() {
            let (flags, count) = look(block);
            found |= flags;
            digits += u32::from(count);
        }
        if rest.len() > BLOCK
            && let Some(block) = last.get(BLOCK..).and_then(|last| last.first_chunk())
        {
            let (flags, count) = look(block);
            found |= flags;
            digits += u32::from(count);
        }
    }
    u16::from(found) | if digits >= CARD_DIGITS_MIN { DIGITS } else { 0 }
}

/// What begins in a block, and how many digits there are.
#[inline(always)]
fn look(block: &[u8; BLOCK + AHEAD]) -> (u8, u8) {
    const fn flag(is: bool, flag: u16) -> u8 {
        if is { flag as u8 } else { 0 }
    }
    let (mut found, mut digits) = (0u8, 0u8);
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
        digits += u8::from(a.wrapping_sub(b'0') < 10);
    }
    (found, digits)
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
