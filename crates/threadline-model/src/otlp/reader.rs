//! A JSON pull reader (RFC 8259) over the request's bytes. Strings without escapes are borrowed. Broken syntax is
//! malformed; a value of another type than asked for, or a string that is not UTF-8, is a refusal, so that one
//! record can be left out. It knows nothing of OTLP.

use std::borrow::Cow;

use super::fault::Fault;
use super::scratch::Text;
use crate::value::plain_len;

/// How deep a document may be nested. A value of 64 levels needs 4 levels of JSON for each; a value that goes deeper is
/// refused alone, so it must be skipped, however deep it goes within reason.
const DEPTH_MAX: usize = 1 << 16;
/// Levels that are remembered without memory of their own.
const SHALLOW: usize = 512;

/// A position in a document. Copy it to come back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The inside of a string, as it stands in the request.
#[derive(Clone, Copy, Debug)]
struct RawString<'a> {
    inner: &'a [u8],
    at: usize,
    escaped: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Byte offset of what is read next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    #[cold]
    fn syntax(&self, reason: &str) -> Fault {
        let reason = match self.bytes.get(self.at) {
            None => format!("the JSON ends early: {reason}"),
            Some(_) => format!("not valid JSON: {reason}"),
        };
        Fault::malformed(self.at, reason)
    }

    /// What to say when the next value is not of the `wanted` type.
    #[cold]
    fn mismatch(&mut self, wanted: &str) -> Fault {
        let found = match self.peek() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b't' | b'f') => "true or false",
            Some(b'n') => "null",
            Some(b'-' | b'0'..=b'9') => "a number",
            _ => return self.syntax(&format!("{wanted} expected")),
        };
        Fault::refused(self.at, format!("{wanted} expected, found {found}"))
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.syntax("something follows the end of the request")),
        }
    }

    /// Enters an object.
    #[inline]
    pub(super) fn object(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'{') {
            return Err(self.mismatch("an object"));
        }
        self.at += 1;
        Ok(())
    }

    /// Enters an array.
    #[inline]
    pub(super) fn array(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'[') {
            return Err(self.mismatch("an array"));
        }
        self.at += 1;
        Ok(())
    }

    /// The key of the object's next member; `None` behind the closing brace. `first` starts as true.
    #[inline]
    pub(super) fn member(&mut self, first: &mut bool) -> Result<Option<Cow<'a, [u8]>>, Fault> {
        if !self.more(first, b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(self.syntax("a key in quotes expected"));
        }
        let raw = self.raw_string()?;
        if self.peek() != Some(b':') {
            return Err(self.syntax("a colon expected"));
        }
        self.at += 1;
        if raw.escaped {
            let mut text = String::new();
            // A key that is no text is a key that nobody knows.
            let _ = unescape(raw, &mut text);
            return Ok(Some(Cow::Owned(text.into_bytes())));
        }
        Ok(Some(Cow::Borrowed(raw.inner)))
    }

    /// Whether the array has one more element; otherwise it is left behind. `first` starts as true.
    #[inline]
    pub(super) fn element(&mut self, first: &mut bool) -> Result<bool, Fault> {
        self.more(first, b']')
    }

    #[inline]
    fn more(&mut self, first: &mut bool, close: u8) -> Result<bool, Fault> {
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !*first => {
                self.at += 1;
                if self.peek() == Some(close) {
                    return Err(self.syntax("a comma before the end"));
                }
            }
            Some(_) if *first => {}
            _ => {
                return Err(self.syntax(if close == b'}' {
                    "a comma or } expected"
                } else {
                    "a comma or ] expected"
                }));
            }
        }
        *first = false;
        Ok(true)
    }

    /// Takes a `null`, if that is next.
    #[inline]
    pub(super) fn null(&mut self) -> Result<bool, Fault> {
        if self.peek() != Some(b'n') {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.syntax("an unknown word"));
        }
        self.at += word.len();
        Ok(())
    }

    pub(super) fn bool(&mut self) -> Result<bool, Fault> {
        match self.peek() {
            Some(b't') => self.word(b"true").map(|()| true),
            Some(b'f') => self.word(b"false").map(|()| false),
            _ => Err(self.mismatch("true or false")),
        }
    }

    /// A string; an unescaped one goes to the end of `arena`.
    #[inline]
    pub(super) fn string(&mut self, arena: &mut String) -> Result<Text<'a>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.mismatch("a string"));
        }
        let raw = self.raw_string()?;
        if !raw.escaped {
            return match std::str::from_utf8(raw.inner) {
                Ok(text) => Ok(Text::Request(text)),
                Err(error) => Err(not_utf8(raw.at + error.valid_up_to())),
            };
        }
        let start = arena.len();
        unescape(raw, arena)?;
        Ok(Text::Arena(start..arena.len()))
    }

    /// The bytes of a string without escapes.
    pub(super) fn ascii(&mut self) -> Result<&'a [u8], Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.mismatch("a string"));
        }
        let raw = self.raw_string()?;
        if raw.escaped {
            return Err(Fault::refused(raw.at, "no escapes are allowed here"));
        }
        Ok(raw.inner)
    }

    /// The digits of a number, or of a string that holds one.
    #[inline]
    pub(super) fn number(&mut self) -> Result<&'a [u8], Fault> {
        match self.peek() {
            Some(b'"') => self.ascii(),
            Some(b'-' | b'0'..=b'9') => self.number_token(),
            _ => Err(self.mismatch("a number")),
        }
    }

    /// The digits of a number.
    pub(super) fn bare_number(&mut self, wanted: &str) -> Result<&'a [u8], Fault> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number_token(),
            _ => Err(self.mismatch(wanted)),
        }
    }

    fn number_token(&mut self) -> Result<&'a [u8], Fault> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let len = number_len(rest).ok_or_else(|| self.syntax("a number is not well-formed"))?;
        self.at += len;
        Ok(rest.get(..len).unwrap_or_default())
    }

    /// The string at the opening quote.
    #[inline]
    fn raw_string(&mut self) -> Result<RawString<'a>, Fault> {
        let start = self.at + 1;
        let mut escaped = false;
        let mut at = start;
        loop {
            at += plain_len(self.bytes.get(at..).unwrap_or_default());
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at = at;
                    at += self.escape_len(at)?;
                }
                other => {
                    let missing = other.is_none();
                    self.at = at;
                    return Err(self.syntax(if missing {
                        "a string has no end"
                    } else {
                        "a control character in a string must be escaped"
                    }));
                }
            }
        }
        self.at = at + 1;
        let inner = self.bytes.get(start..at).unwrap_or_default();
        Ok(RawString { inner, at: start, escaped })
    }

    fn escape_len(&self, at: usize) -> Result<usize, Fault> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u')
                if self
                    .bytes
                    .get(at + 2..at + 6)
                    .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) =>
            {
                Ok(6)
            }
            _ => Err(self.syntax("an unknown escape in a string")),
        }
    }

    /// Skips one value, checking its syntax. Text in it may be in any encoding.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let mut levels = Levels::default();
        let mut first = false;
        loop {
            // A value is next, unless a container was just entered and is empty.
            let opened = self.skip_start()?;
            if let Some(object) = opened {
                if !levels.enter(object) {
                    return Err(Fault::malformed(self.at, format!("nested more than {DEPTH_MAX} deep")));
                }
                first = true;
            }
            loop {
                let Some(object) = levels.is_object() else { return Ok(()) };
                let more = if object { self.member(&mut first)?.is_some() } else { self.element(&mut first)? };
                first = false;
                if more {
                    break;
                }
                levels.depth -= 1;
            }
        }
    }

    /// Skips a scalar, or enters a container and says whether it is an object.
    fn skip_start(&mut self) -> Result<Option<bool>, Fault> {
        match self.peek() {
            Some(b'"') => self.raw_string().map(drop)?,
            Some(b'{') => {
                self.at += 1;
                return Ok(Some(true));
            }
            Some(b'[') => {
                self.at += 1;
                return Ok(Some(false));
            }
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            Some(b'-' | b'0'..=b'9') => self.number_token().map(drop)?,
            _ => return Err(self.syntax("a value expected")),
        }
        Ok(None)
    }

    /// Skips one object or array by its brackets alone, for one that will be read later; other values as
    /// [`Reader::skip`] does.
    pub(super) fn skip_brackets(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'{' | b'[')) {
            return self.skip();
        }
        let mut depth = 0usize;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.raw_string()?;
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                Some(_) => {}
                None => return Err(self.syntax("a bracket is not closed")),
            }
            self.at += 1;
        }
    }
}

/// The containers that a position lies in: one bit per level, whether it is an object.
#[derive(Default)]
struct Levels {
    shallow: [u64; SHALLOW / 64],
    deeper: Vec<u64>,
    depth: usize,
}

impl Levels {
    /// Goes one level down; `false` when that is too deep.
    #[inline]
    fn enter(&mut self, object: bool) -> bool {
        if self.depth >= DEPTH_MAX {
            return false;
        }
        let (index, bit) = (self.depth / 64, self.depth % 64);
        if index >= self.shallow.len() + self.deeper.len() {
            self.deeper.push(0);
        }
        let deeper = index.wrapping_sub(self.shallow.len());
        if let Some(word) = self.shallow.get_mut(index).or_else(|| self.deeper.get_mut(deeper)) {
            *word = *word & !(1 << bit) | u64::from(object) << bit;
        }
        self.depth += 1;
        true
    }

    /// Whether the innermost container is an object; `None` outside of all.
    #[inline]
    fn is_object(&self) -> Option<bool> {
        let level = self.depth.checked_sub(1)?;
        let (index, bit) = (level / 64, level % 64);
        let word = self.shallow.get(index).or_else(|| self.deeper.get(index.wrapping_sub(self.shallow.len())));
        Some(word.is_some_and(|word| word >> bit & 1 == 1))
    }
}

#[cold]
fn not_utf8(at: usize) -> Fault {
    Fault::refused(at, "not valid UTF-8: send text as UTF-8, or use bytesValue")
}

/// Length of the number at the front, by JSON's grammar; `None` when it is none.
pub(crate) fn number_len(bytes: &[u8]) -> Option<usize> {
    let digits = |at: usize| bytes.iter().skip(at).take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && bytes.get(at) == Some(&b'0')) {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return None;
        }
        at += exponent;
    }
    Some(at)
}

/// Appends the text of a string whose escapes are known to be well-formed.
fn unescape(raw: RawString<'_>, out: &mut String) -> Result<(), Fault> {
    let mut rest = raw.inner;
    loop {
        let at = raw.at + (raw.inner.len() - rest.len());
        let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        let (text, escaped) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
        let text = std::str::from_utf8(text).map_err(|error| not_utf8(at + error.valid_up_to()))?;
        out.push_str(text);
        let (char, len) = match escaped {
            [] => return Ok(()),
            [_, b'u', ..] => code_point(escaped).ok_or_else(|| {
                Fault::refused(
                    at + plain,
                    "half of a surrogate pair: escape characters beyond U+FFFF as a pair",
                )
            })?,
            [_, b'b', ..] => ('\u{8}', 2),
            [_, b'f', ..] => ('\u{c}', 2),
            [_, b'n', ..] => ('\n', 2),
            [_, b'r', ..] => ('\r', 2),
            [_, b't', ..] => ('\t', 2),
            [_, other, ..] => (char::from(*other), 2),
            [_] => return Ok(()),
        };
        out.push(char);
        rest = escaped.get(len..).unwrap_or_default();
    }
}

/// The character of the `\uXXXX` at the front, with its low surrogate where it needs one, and its length.
pub(crate) fn code_point(escaped: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = escaped.get(at..at + 4)?;
        digits.iter().try_fold(0u32, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
    };
    let high = unit(2)?;
    if let Some(char) = char::from_u32(high) {
        return Some((char, 6));
    }
    if high >= 0xdc00 || escaped.get(6..8)? != b"\\u" {
        return None;
    }
    let low = unit(8)?;
    if !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        reader.skip().and_then(|()| reader.end()).is_ok()
    }

    /// Text that is JSON or nearly so.
    fn almost_json() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            4 => prop::sample::select(vec!["{", "}", "[", "]", ",", ":", " ", "\n"]).prop_map(String::from),
            2 => prop::sample::select(vec![
                "\"a\"", "\"\"", "\"\\u00e9\"", "\"\\n\"", "\"\\x\"", "\"\\ud83d\\ude00\"", "\"a", "\"é\"", "\"\t\"",
                "null", "true", "false", "nul", "0", "-0", "01", "1.", "1.5", "1e5", "1e", "-", "-1.5E-7", ".5", "+1",
            ])
            .prop_map(String::from),
        ];
        let leaf = prop::sample::select(vec!["null", "1", "\"x\"", "[]", "{}"]).prop_map(String::from);
        let tree = leaf.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
                prop::collection::vec(inner, 0..4).prop_map(|v| {
                    let members: Vec<String> = v.iter().map(|v| format!("\"k\" :{v}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        });
        prop_oneof![
            prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat()),
            tree.clone(),
            (tree, any::<prop::sample::Index>(), any::<char>()).prop_map(|(text, at, c)| {
                let mut chars: Vec<char> = text.chars().collect();
                let at = at.index(chars.len());
                chars[at] = c;
                chars.into_iter().collect()
            }),
        ]
    }

    proptest! {
        #[test]
        fn accepts_what_is_json(text in almost_json()) {
            let want = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(accepts(text.as_bytes()), want, "{}", text);
        }

        #[test]
        fn reads_strings_as_written(text in any::<String>(), pad in 0usize..9) {
            let json = format!("{}{}", " ".repeat(pad), serde_json::to_string(&text).unwrap());
            let mut arena = String::new();
            let read = Reader::new(json.as_bytes()).string(&mut arena).unwrap();
            let read = match &read {
                Text::Request(text) => text,
                Text::Arena(range) => &arena[range.clone()],
            };
            prop_assert_eq!(read, text.as_str());
        }

        #[test]
        fn plain_len_stops_at_the_first_special_byte(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let want = bytes.iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').unwrap_or(bytes.len());
            prop_assert_eq!(plain_len(&bytes), want);
        }

        #[test]
        fn brackets_end_where_the_value_ends(text in almost_json()) {
            if accepts(text.as_bytes()) {
                let (mut one, mut other) = (Reader::new(text.as_bytes()), Reader::new(text.as_bytes()));
                prop_assert!(one.skip().is_ok() && other.skip_brackets().is_ok());
                prop_assert_eq!(one.at(), other.at());
            }
        }
    }

    #[test]
    fn nesting_is_capped() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let mixed = |depth: usize| format!("{}1{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
        assert!(accepts(nested(DEPTH_MAX).as_bytes()));
        // Every level is closed by its own bracket, also beyond what is remembered without memory.
        assert!(accepts(mixed(SHALLOW).as_bytes()));
        assert!(!accepts(mixed(SHALLOW).replacen("}]", "]}", 1).as_bytes()));
        assert!(!accepts(nested(DEPTH_MAX + 1).as_bytes()));
        assert!(!accepts("[".repeat(1_000_000).as_bytes()));
    }
}
