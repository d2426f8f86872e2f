//! Reads JSON values (RFC 8259) off one line. Strings without escapes are told by where they stand; what must be
//! unescaped or rewritten goes to a scratch text. It knows nothing of records.

use crate::otlp::{code_point, number_len};
use crate::value::{ObjectWriter, Value, plain_len, write_str};

/// How deep arrays and objects may lie in one another in a value.
pub(super) const DEPTH_MAX: usize = 64;

/// Why reading stopped. Small to return; boxed because it is rare.
#[derive(Debug)]
pub(super) struct Stop(Box<Why>);

#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// No JSON: what is wrong at which byte.
    Syntax(usize, &'static str),
    /// Too many fields, or nested too deeply.
    TooComplex,
}

impl Stop {
    #[cold]
    fn syntax(at: usize, what: &'static str) -> Self {
        Self(Box::new(Why::Syntax(at, what)))
    }

    #[cold]
    pub(super) fn too_complex() -> Self {
        Self(Box::new(Why::TooComplex))
    }

    pub(super) fn why(&self) -> Why {
        *self.0
    }
}

/// Where a text stands: in the line or, with the highest bit, in the scratch text; start and end, 31 and 32 bits.
///
/// One number, because it is handed on in a register then. A value in parts goes through memory, and reading it back in
/// another width than it was written waits for the write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece(u64);

impl Piece {
    /// No text.
    pub(super) const NONE: Piece = Piece(0);
    const SCRATCH: u64 = 1 << 63;

    #[inline(always)]
    pub(super) fn of_line(start: usize, end: usize) -> Self {
        Self((start as u64) << 32 | end as u64)
    }

    fn of_scratch(start: usize, end: usize) -> Self {
        Self(Self::of_line(start, end).0 | Self::SCRATCH)
    }

    pub(super) fn is_in_line(self) -> bool {
        self.0 & Self::SCRATCH == 0
    }

    /// The text.
    #[inline(always)]
    pub(super) fn text<'s>(self, line: &'s str, scratch: &'s str) -> &'s str {
        let text = if self.is_in_line() { line } else { scratch };
        let (start, end) = ((self.0 & !Self::SCRATCH) >> 32, self.0 & u64::from(u32::MAX));
        text.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// A value as read. What it carries is 8 bytes in all variants, so that it is copied as two words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    Null,
    True,
    False,
    Int(i64),
    Double(f64),
    Str(Piece),
    /// An array or an object, as typed JSON.
    Json(Piece),
}

/// A position in a line.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Nothing below U+0020 is in the line, so strings need no look at each byte.
    plain: bool,
}

/// Whether no byte is a control character. Without an early end, so that many bytes are looked at together.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(u8::MAX, |least, byte| least.min(*byte)) >= 0x20
}

impl<'a> Scanner<'a> {
    /// At the start of a line of at most `LINE_BYTES_MAX` bytes.
    pub(super) fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        Self { text, bytes, at: 0, plain: is_plain(bytes) }
    }

    /// The next byte that is not white space.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }

    /// Takes the byte that [`Scanner::peek`] saw.
    #[inline(always)]
    pub(super) fn take(&mut self) {
        self.at += 1;
    }

    /// What is left.
    #[inline(always)]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Takes `len` bytes of the rest, and says where they stand.
    #[inline(always)]
    pub(super) fn advance(&mut self, len: usize) -> usize {
        let at = self.at;
        self.at += len;
        at
    }

    /// `wanted` is not what is next.
    #[cold]
    pub(super) fn stop(&self, wanted: &'static str) -> Stop {
        Stop::syntax(self.at, wanted)
    }

    /// Whether an object or array goes on behind a value. The comma or `close` is taken.
    #[inline(always)]
    pub(super) fn goes_on(&mut self, close: u8) -> Result<bool, Stop> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ if close == b'}' => Err(self.stop("a comma or } expected")),
            _ => Err(self.stop("a comma or ] expected")),
        }
    }

    /// The string that is next, quotes and all, and the colon behind it. Whether it stands in the line as it is.
    #[inline]
    pub(super) fn key(&mut self, scratch: &mut String) -> Result<Piece, Stop> {
        if self.peek() != Some(b'"') {
            return Err(self.stop("a key in quotes expected"));
        }
        let key = self.string(scratch)?;
        if self.peek() != Some(b':') {
            return Err(self.stop("a colon expected"));
        }
        self.at += 1;
        Ok(key)
    }

    /// From `from` on, where the first quote, backslash or control character is.
    #[inline(always)]
    fn special(&self, from: usize) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let len =
            if self.plain { memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len()) } else { plain_len(rest) };
        from + len
    }

    /// The string at the opening quote.
    #[inline(always)]
    fn string(&mut self, scratch: &mut String) -> Result<Piece, Stop> {
        let start = self.at + 1;
        let end = self.special(start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Piece::of_line(start, end));
        }
        let from = scratch.len();
        self.unescape(start, end, scratch)?;
        Ok(Piece::of_scratch(from, scratch.len()))
    }

    /// Appends the string that starts at `run` and has its first special byte at `at`.
    #[inline(never)]
    fn unescape(&mut self, mut run: usize, mut at: usize, out: &mut String) -> Result<(), Stop> {
        loop {
            match self.bytes.get(at) {
                Some(b'"') => {
                    out.push_str(self.text.get(run..at).unwrap_or_default());
                    self.at = at + 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    out.push_str(self.text.get(run..at).unwrap_or_default());
                    self.at = at;
                    let (char, len) = self.escape()?;
                    out.push(char);
                    run = at + len;
                    at = self.special(run);
                }
                Some(_) => {
                    return Err(Stop::syntax(at, "a control character in a string must be escaped"));
                }
                None => return Err(Stop::syntax(at, "the line ends in a string")),
            }
        }
    }

    /// The character of the escape at hand, and the escape's length.
    fn escape(&self) -> Result<(char, usize), Stop> {
        let rest = self.rest();
        Ok(match rest.get(1) {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(byte @ (b'"' | b'\\' | b'/')) => (char::from(*byte), 2),
            Some(b'r') => ('\r', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(b'u') => code_point(rest).ok_or_else(|| {
                self.stop("\\u needs four hex digits, and half of a surrogate pair its other half")
            })?,
            _ => return Err(self.stop("an unknown escape in a string")),
        })
    }

    /// The value that is next. Arrays and objects are written to the scratch text.
    #[inline(always)]
    pub(super) fn value(&mut self, scratch: &mut String, passing: &mut String) -> Result<Read, Stop> {
        match self.peek() {
            Some(b'"') => Ok(Read::Str(self.string(scratch)?)),
            _ => self.other_value(scratch, passing),
        }
    }

    #[inline(never)]
    fn other_value(&mut self, scratch: &mut String, passing: &mut String) -> Result<Read, Stop> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Read::True),
            Some(b'f') => self.word(b"false", Read::False),
            Some(b'n') => self.word(b"null", Read::Null),
            Some(b'{' | b'[') => {
                let from = scratch.len();
                self.typed(scratch, passing, 1)?;
                Ok(Read::Json(Piece::of_scratch(from, scratch.len())))
            }
            _ => Err(self.stop("a value expected")),
        }
    }

    fn word(&mut self, word: &'static [u8], read: Read) -> Result<Read, Stop> {
        if !self.rest().starts_with(word) {
            return Err(self.stop("an unknown word"));
        }
        self.at += word.len();
        Ok(read)
    }

    fn number(&mut self) -> Result<Read, Stop> {
        /// No 64-bit integer overflows below this many digits.
        const DIGITS_MAX: usize = 18;
        let rest = self.rest();
        let negative = rest.first() == Some(&b'-');
        let digits = rest.get(usize::from(negative)..).unwrap_or_default();
        let (mut len, mut int) = (0, 0i64);
        for byte in digits.iter().take(DIGITS_MAX) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            int = int * 10 + i64::from(digit);
            len += 1;
        }
        let ends = !matches!(digits.get(len), Some(b'.' | b'e' | b'E' | b'0'..=b'9'));
        // A first digit of 0 may be `-0`, which is no integer, or wrong.
        let whole = len > 0 && digits.first() != Some(&b'0') || len == 1 && !negative;
        if ends && whole {
            self.at += len + usize::from(negative);
            return Ok(Read::Int(if negative { -int } else { int }));
        }
        self.long_number(rest)
    }

    /// Any other number, or none.
    #[inline(never)]
    fn long_number(&mut self, rest: &[u8]) -> Result<Read, Stop> {
        let len = number_len(rest).ok_or_else(|| self.stop("a number is not well-formed"))?;
        let token = rest.get(..len).and_then(|token| std::str::from_utf8(token).ok()).unwrap_or_default();
        let whole = !token.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
        let read = match token.parse::<i64>() {
            // `-0` keeps its sign as a double only.
            Ok(int) if whole && token != "-0" => Read::Int(int),
            // Beyond 63 bits OpenTelemetry has no int; a double keeps the magnitude, as JSON itself would.
            _ => match token.parse::<f64>() {
                Ok(double) if double.is_finite() => Read::Double(double),
                _ => return Err(self.stop("a number is out of range")),
            },
        };
        self.at += len;
        Ok(read)
    }

    /// Appends the value that is next as typed JSON. `depth` counts the arrays and objects it would be in.
    fn typed(&mut self, out: &mut String, passing: &mut String, depth: usize) -> Result<(), Stop> {
        match self.peek() {
            Some(b'{' | b'[') if depth > DEPTH_MAX => Err(Stop::too_complex()),
            Some(b'{') => {
                self.at += 1;
                self.typed_object(out, passing, depth)
            }
            Some(b'[') => {
                self.at += 1;
                self.typed_array(out, passing, depth)
            }
            _ => {
                let read = self.value_of_no_parts(passing)?;
                match read {
                    Read::Str(piece) => write_str(out, self.piece(piece, passing)),
                    Read::True => out.push_str("true"),
                    Read::False => out.push_str("false"),
                    Read::Int(int) => Value::Int(int).write_json(out),
                    Read::Double(double) => Value::Double(double).write_json(out),
                    Read::Null | Read::Json(_) => out.push_str("null"),
                }
                Ok(())
            }
        }
    }

    /// A value that is neither an array nor an object; `passing` has its text if that is unescaped.
    fn value_of_no_parts(&mut self, passing: &mut String) -> Result<Read, Stop> {
        passing.clear();
        // Nothing is nested here, so nothing uses the second text.
        self.value(passing, &mut String::new())
    }

    fn typed_array(&mut self, out: &mut String, passing: &mut String, depth: usize) -> Result<(), Stop> {
        out.push('[');
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                self.typed(out, passing, depth + 1)?;
                if !self.goes_on(b']')? {
                    break;
                }
                out.push(',');
            }
        }
        out.push(']');
        Ok(())
    }

    fn typed_object(&mut self, out: &mut String, passing: &mut String, depth: usize) -> Result<(), Stop> {
        let mut object = ObjectWriter::new(out);
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                passing.clear();
                let key = self.key(passing)?;
                let out = object.key(self.piece(key, passing));
                self.typed(out, passing, depth + 1)?;
                if !self.goes_on(b'}')? {
                    break;
                }
            }
        }
        object.end();
        Ok(())
    }

    /// The text of a piece.
    #[inline(always)]
    pub(super) fn piece<'s>(&self, piece: Piece, scratch: &'s str) -> &'s str
    where
        'a: 's,
    {
        piece.text(self.text, scratch)
    }
}
