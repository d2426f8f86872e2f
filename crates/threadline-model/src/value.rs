//! Attribute values: the borrowed form, and their one text form in the `attrs`, `resource`, `scope`,
//! `events` and `links` columns (docs/formats.md, "Typed JSON").
//!
//! Typed JSON is JSON that keeps OpenTelemetry's types apart: an int has no fraction, a double always has a
//! fraction or an exponent; `{"$double":"NaN"}`, `{"$bytes":"<base64>"}` stand for what JSON lacks; `null` is
//! the empty value; a map with a key that starts with `$` is `{"$map":{…}}`.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;

/// A decoded attribute value or body (OTLP 1.11 `AnyValue`) that borrows the request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Empty,
    /// UTF-8 text.
    Str(&'a str),
    /// Boolean.
    Bool(bool),
    /// 64-bit integer.
    Int(i64),
    /// 64-bit float.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An array or a map, already as typed JSON.
    Json(&'a str),
}

impl Value<'_> {
    /// Appends the value as typed JSON.
    pub fn write_json(&self, out: &mut String) {
        match *self {
            Value::Empty => out.push_str("null"),
            Value::Str(text) => write_str(out, text),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Int(int) => out.push_str(itoa::Buffer::new().format(int)),
            Value::Double(double) => write_double(out, double),
            Value::Bytes(bytes) => {
                out.push_str("{\"$bytes\":\"");
                base64::engine::general_purpose::STANDARD.encode_string(bytes, out);
                out.push_str("\"}");
            }
            Value::Json(json) => out.push_str(json),
        }
    }
}

fn write_double(out: &mut String, double: f64) {
    if double.is_finite() {
        out.push_str(ryu::Buffer::new().format_finite(double));
    } else {
        let name = if double.is_nan() {
            "NaN"
        } else if double > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        let _ = write!(out, "{{\"$double\":\"{name}\"}}");
    }
}

/// Appends `text` as a JSON string. Non-ASCII characters stay as they are.
pub fn write_str(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at_checked(plain_len(rest.as_bytes())).unwrap_or((rest, ""));
        out.push_str(plain);
        let Some(byte) = special.bytes().next() else { break };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        rest = special.get(1..).unwrap_or_default();
    }
    out.push('"');
}

/// How many bytes at the front stand for themselves in a JSON string.
#[inline]
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let special = zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\'))) | control;
        if special != 0 {
            // The lowest mark is exact; borrows make wrong marks only above it.
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let tail = bytes.get(at..).unwrap_or_default();
    at + tail.iter().position(|b| *b < 0x20 || matches!(b, b'"' | b'\\')).unwrap_or(tail.len())
}

/// Whether two byte strings are the same. Short ones, which records are full of, take two comparisons and no call.
#[inline(always)]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        4..=7 => a.first_chunk::<4>() == b.first_chunk::<4>() && a.last_chunk::<4>() == b.last_chunk::<4>(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk::<8>() && a.last_chunk::<8>() == b.last_chunk::<8>(),
        17..=32 => {
            a.first_chunk::<16>() == b.first_chunk::<16>() && a.last_chunk::<16>() == b.last_chunk::<16>()
        }
        _ => a == b,
    }
}

/// A value inside typed JSON, not yet unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The JSON text.
    pub fn json(self) -> &'a str {
        self.0
    }

    /// The text of a string; `None` for every other type.
    pub fn str(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            serde_json::from_str(self.0).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inner))
        }
    }

    /// What a person types to find the value: strings without quotes, everything else as its JSON.
    pub fn display(self) -> Cow<'a, str> {
        self.str().unwrap_or(Cow::Borrowed(self.0))
    }

    /// The number, for ints and finite doubles.
    pub fn number(self) -> Option<f64> {
        self.0.bytes().next().filter(|b| b.is_ascii_digit() || *b == b'-')?;
        self.0.parse().ok()
    }
}

/// A typed-JSON text as people write it: strings without quotes, everything else as its JSON.
pub fn display(json: &str) -> Cow<'_, str> {
    Raw(json).display()
}

/// The members of a typed-JSON object, in order. Ends early, without a panic, where the text is no JSON object.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a str,
}

/// Iterates over the members of a typed-JSON object.
pub fn members(object: &str) -> Members<'_> {
    Members { rest: object.trim_start().strip_prefix('{').unwrap_or_default() }
}

/// The first member with this key.
pub fn member<'a>(object: &'a str, key: &str) -> Option<Raw<'a>> {
    members(object).find(|(name, _)| name == key).map(|(_, raw)| raw)
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = take_value(self.rest.trim_start_matches([' ', ',', '\n']))?;
        let key = Raw(key).str()?;
        let (value, rest) = take_value(rest.trim_start().strip_prefix(':')?.trim_start())?;
        self.rest = rest;
        Some((key, Raw(value)))
    }
}

/// The JSON text of the value at the front of `text`; `None` where none is.
pub fn first_value(text: &str) -> Option<&str> {
    take_value(text).map(|(value, _)| value)
}

/// The elements of a typed-JSON array, in order. Ends early where the text is no JSON array.
pub fn elements(array: &str) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = array.trim_start().strip_prefix('[').unwrap_or_default();
    std::iter::from_fn(move || {
        let (value, next) = take_value(rest.trim_start_matches([' ', ',', '\n']))?;
        rest = next;
        Some(Raw(value))
    })
}

/// Splits one JSON value off the front.
fn take_value(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = match bytes.first()? {
        b'"' => string_end(bytes, 0)?,
        b'{' | b'[' => {
            let mut depth = 0usize;
            let mut at = 0;
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = string_end(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            break at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        b'}' | b']' => return None,
        _ => bytes
            .iter()
            .position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b':'))
            .unwrap_or(bytes.len()),
    };
    text.split_at_checked(end)
}

/// Position after the closing quote of the string that opens at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        let hit = at + memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(hit) == Some(&b'"') {
            return Some(hit + 1);
        }
        at = hit + 2;
    }
}

/// Writes a typed-JSON object member by member.
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    out: &'a mut String,
    start: usize,
    dollar: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Starts an object at the end of `out`.
    pub fn new(out: &'a mut String) -> Self {
        let start = out.len();
        out.push('{');
        Self { out, start, dollar: false }
    }

    /// Writes a key and leaves the value to the caller, who appends exactly one typed-JSON value.
    pub fn key(&mut self, key: &str) -> &mut String {
        if self.out.len() > self.start + 1 {
            self.out.push(',');
        }
        self.dollar |= key.starts_with('$');
        write_str(self.out, key);
        self.out.push(':');
        self.out
    }

    /// Writes one member.
    pub fn member(&mut self, key: &str, value: &Value<'_>) {
        value.write_json(self.key(key));
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push('}');
        if self.dollar {
            self.out.insert_str(self.start, "{\"$map\":");
            self.out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: Value<'_>) -> String {
        let mut out = String::new();
        value.write_json(&mut out);
        out
    }

    #[test]
    fn every_type_has_its_own_text() {
        for (value, want) in [
            (Value::Empty, "null"),
            (Value::Str("a\"b\\c\n\u{1}é"), "\"a\\\"b\\\\c\\n\\u0001é\""),
            (Value::Bool(true), "true"),
            (Value::Int(i64::MIN), "-9223372036854775808"),
            (Value::Double(1.0), "1.0"),
            (Value::Double(f64::NAN), "{\"$double\":\"NaN\"}"),
            (Value::Double(f64::NEG_INFINITY), "{\"$double\":\"-Infinity\"}"),
            (Value::Bytes(&[0, 255]), "{\"$bytes\":\"AP8=\"}"),
            (Value::Json("[1]"), "[1]"),
        ] {
            assert_eq!(json(value), want);
        }
    }

    #[test]
    fn members_are_found_and_bad_text_ends_quietly() {
        let text = "{\"a\":1,\"b\":{\"a\":[2,\"}\"]},\"c\\n\":\"x\\\"y\",\"d\":1.5}";
        assert_eq!(member(text, "a").map(Raw::json), Some("1"));
        assert_eq!(member(text, "b").map(Raw::json), Some("{\"a\":[2,\"}\"]}"));
        assert_eq!(member(text, "c\n").and_then(Raw::str).as_deref(), Some("x\"y"));
        assert_eq!(member(text, "d").and_then(Raw::number), Some(1.5));
        assert_eq!(member(text, "e"), None);
        assert_eq!(members(text).count(), 4);
        for bad in ["", "{", "{\"a", "{\"a\":", "{\"a\":\"", "{\"a\":[", "x", "{a:1}", "{\"a\\"] {
            assert!(members(bad).count() <= 1, "{bad}");
        }
        assert_eq!(elements("[1,\"a,]\",[2]]").map(Raw::json).collect::<Vec<_>>(), ["1", "\"a,]\"", "[2]"]);
    }

    #[test]
    fn bytes_are_the_same_when_all_of_them_are() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..40 {
            let a = text.get(..len).unwrap();
            assert!(same(a, Vec::from(a).as_slice()));
            assert!(!same(a, text.get(..len + 1).unwrap()));
            for at in 0..len {
                let mut b = a.to_vec();
                b[at] ^= 1;
                assert!(!same(a, &b), "{len} {at}");
            }
        }
    }

    #[test]
    fn dollar_keys_are_wrapped() {
        let mut out = String::from("x");
        let mut object = ObjectWriter::new(&mut out);
        object.member("$bytes", &Value::Str("no"));
        object.member("b", &Value::Int(1));
        object.end();
        assert_eq!(out, "x{\"$map\":{\"$bytes\":\"no\",\"b\":1}}");
    }
}
