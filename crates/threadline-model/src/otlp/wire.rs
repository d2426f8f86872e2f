//! The protobuf wire format: fields one after the other, borrowed from the request. It knows no message.

use super::fault::Fault;

/// Field numbers of a message with their names, for errors.
pub(super) type Names = &'static [(u32, &'static str)];

/// How deep unknown groups may lie in one another.
const GROUP_DEPTH_MAX: usize = 32;

/// A message's fields still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire<'a> {
    rest: &'a [u8],
    names: Names,
}

/// One field as it stands in the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    payload: Payload<'a>,
    at: &'a [u8],
    names: Names,
}

#[derive(Clone, Copy, Debug)]
enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Address of a slice's first byte; offsets in the request are differences of addresses.
pub(super) fn address(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr()
}

fn name(names: Names, number: u32) -> String {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("field {number}"),
    }
}

#[cold]
fn broken(at: &[u8], names: Names, number: u32, reason: &str) -> Fault {
    Fault::malformed(address(at), reason).within(&name(names, number))
}

/// A varint and what follows it; `None` when it is cut off or longer than 64 bits.
#[inline(always)]
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        [a, rest @ ..] if *a < 0x80 => Some((u64::from(*a), rest)),
        [a, b, rest @ ..] if *b < 0x80 => Some((u64::from(*a & 0x7f) | u64::from(*b) << 7, rest)),
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        if at == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

/// A tag of more than one byte.
fn long_tag(at: &[u8]) -> Result<(u32, &[u8]), Fault> {
    varint(at)
        .and_then(|(tag, rest)| Some((u32::try_from(tag).ok()?, rest)))
        .ok_or_else(|| Fault::malformed(address(at), "the field's tag is not valid or cut off"))
}

#[cold]
fn field_zero(at: &[u8]) -> Fault {
    Fault::malformed(address(at), "field number 0 is not valid")
}

/// Why there is no payload at `at`.
#[cold]
fn unreadable(at: &[u8], names: Names, number: u32, wire_type: u32) -> Fault {
    let reason = match (wire_type, varint(at)) {
        (2, Some((len, rest))) => format!("{len} bytes are announced, {} are left", rest.len()),
        (2, None) => "the length is cut off or too long".to_owned(),
        (0, _) => "the varint is cut off or too long".to_owned(),
        (1 | 5, _) => "the request is cut off in this field".to_owned(),
        (4, _) => "a group ends that never began".to_owned(),
        (other, _) => format!("there is no wire type {other}"),
    };
    broken(at, names, number, &reason)
}

impl<'a> Wire<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], names: Names) -> Self {
        Self { rest: bytes, names }
    }

    /// The next field; `None` at the end of the message. Unknown groups are skipped.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Fault> {
        loop {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let (number, wire_type) = self.tag()?;
            if wire_type == 3 {
                // Inlined everywhere for the sake of records; groups are rare.
                self.skip_group(number, 1)?;
                continue;
            }
            let at = self.rest;
            let payload = self.payload(number, wire_type)?;
            return Ok(Some(Field { number, payload, at, names: self.names }));
        }
    }

    #[inline(always)]
    fn tag(&mut self) -> Result<(u32, u32), Fault> {
        let (tag, rest) = match self.rest {
            [tag, rest @ ..] if *tag < 0x80 => (u32::from(*tag), rest),
            at => long_tag(at)?,
        };
        if tag < 8 {
            return Err(field_zero(self.rest));
        }
        self.rest = rest;
        Ok((tag >> 3, tag & 7))
    }

    #[inline(always)]
    fn payload(&mut self, number: u32, wire_type: u32) -> Result<Payload<'a>, Fault> {
        let at = self.rest;
        let read = match wire_type {
            2 => varint(at).and_then(|(len, rest)| {
                let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                Some((Payload::Bytes(bytes), rest))
            }),
            0 => varint(at).map(|(value, rest)| (Payload::Varint(value), rest)),
            1 => at.split_first_chunk::<8>().map(|(b, rest)| (Payload::Fixed64(u64::from_le_bytes(*b)), rest)),
            5 => at.split_first_chunk::<4>().map(|(b, rest)| (Payload::Fixed32(u32::from_le_bytes(*b)), rest)),
            _ => None,
        };
        match read {
            Some((payload, rest)) => {
                self.rest = rest;
                Ok(payload)
            }
            None => Err(unreadable(at, self.names, number, wire_type)),
        }
    }

    /// Skips an unknown group (a relic of protobuf 2) up to its end tag.
    #[cold]
    fn skip_group(&mut self, group: u32, depth: usize) -> Result<(), Fault> {
        let start = self.rest;
        if depth > GROUP_DEPTH_MAX {
            return Err(broken(start, self.names, group, "groups lie too deep in one another"));
        }
        while !self.rest.is_empty() {
            match self.tag()? {
                (number, 4) if number == group => return Ok(()),
                (number, 3) => self.skip_group(number, depth + 1)?,
                (number, wire_type) => {
                    self.payload(number, wire_type)?;
                }
            }
        }
        Err(broken(start, self.names, group, "the group has no end"))
    }
}

impl<'a> Field<'a> {
    pub(super) fn name(&self) -> String {
        name(self.names, self.number)
    }

    #[cold]
    fn mismatch(&self, wanted: &str) -> Fault {
        let found = match self.payload {
            Payload::Varint(_) => "a varint",
            Payload::Fixed64(_) => "8 fixed bytes",
            Payload::Bytes(_) => "length-delimited bytes",
            Payload::Fixed32(_) => "4 fixed bytes",
        };
        broken(self.at, self.names, self.number, &format!("{wanted} expected, found {found}"))
    }

    /// A message, or bytes.
    #[inline(always)]
    pub(super) fn bytes(&self) -> Result<&'a [u8], Fault> {
        match self.payload {
            Payload::Bytes(bytes) => Ok(bytes),
            _ => Err(self.mismatch("length-delimited bytes")),
        }
    }

    /// Text; a refusal when it is not UTF-8.
    #[inline(always)]
    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.not_utf8(bytes))
    }

    #[cold]
    fn not_utf8(&self, bytes: &[u8]) -> Fault {
        let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        let reason = "not valid UTF-8: send text as UTF-8, or use a bytes value";
        Fault::refused(address(bytes) + valid, reason).within(&self.name())
    }

    #[inline(always)]
    pub(super) fn varint(&self) -> Result<u64, Fault> {
        match self.payload {
            Payload::Varint(value) => Ok(value),
            _ => Err(self.mismatch("a varint")),
        }
    }

    /// `uint32`: the low 32 bits, as protobuf has it.
    #[inline(always)]
    pub(super) fn uint32(&self) -> Result<u32, Fault> {
        Ok(self.varint()? as u32)
    }

    /// `int32` and enums: the low 32 bits, as protobuf has it.
    #[inline(always)]
    pub(super) fn int32(&self) -> Result<i32, Fault> {
        Ok(self.varint()? as i32)
    }

    #[inline(always)]
    pub(super) fn fixed64(&self) -> Result<u64, Fault> {
        match self.payload {
            Payload::Fixed64(value) => Ok(value),
            _ => Err(self.mismatch("8 fixed bytes")),
        }
    }

    #[inline(always)]
    pub(super) fn fixed32(&self) -> Result<u32, Fault> {
        match self.payload {
            Payload::Fixed32(value) => Ok(value),
            _ => Err(self.mismatch("4 fixed bytes")),
        }
    }
}
