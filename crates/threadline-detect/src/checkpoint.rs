//! State as bytes: framed, versioned, checked before a byte of it is believed.
//!
//! Layout, little-endian: magic (4 bytes, what kind of state), version (u16), length of the body (u64), body, CRC-32C
//! of everything before it (u32). Numbers in the body have fixed width; a text or list has its length (u32) first.

use std::fmt;

/// Elements of a list, or bytes of a text, that a checkpoint may claim: more is damage.
const LENGTH_MAX: u32 = 1 << 28;
const HEAD: usize = 4 + 2 + 8;
const CRC: usize = 4;

/// Why a checkpoint was not restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// Not what was written: start without it, or take an older one.
    Damaged(&'static str),
    /// Written by another version: start without it, and learn from history.
    Version {
        /// What was found.
        found: u16,
        /// What is read.
        known: u16,
    },
    /// Written under other settings, under which the state means something else: learn from history.
    Settings(&'static str),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Damaged(what) => write!(f, "the checkpoint is damaged: {what}"),
            RestoreError::Version { found, known } => {
                write!(f, "the checkpoint has version {found}, version {known} is read here")
            }
            RestoreError::Settings(what) => write!(f, "the checkpoint was written with another {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}

type Result<T> = std::result::Result<T, RestoreError>;

/// Writes a body.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(magic: [u8; 4], version: u16) -> Writer {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&0u64.to_le_bytes());
        Writer { bytes }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() - HEAD) as u64;
        if let Some(place) = self.bytes.get_mut(6..HEAD) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, value: f32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn f64(&mut self, value: f64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn length(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.length(value.len());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn list<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        mut each: impl FnMut(&mut Writer, T),
    ) {
        self.length(values.len());
        for value in values {
            each(self, value);
        }
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, each: impl FnOnce(&mut Writer, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            each(self, value);
        }
    }
}

/// Reads a body.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the frame, then opens the body.
    pub(crate) fn new(magic: [u8; 4], version: u16, bytes: &'a [u8]) -> Result<Reader<'a>> {
        let (framed, crc) = bytes
            .len()
            .checked_sub(CRC)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or(RestoreError::Damaged("it is too short"))?;
        if crc != crc32c::crc32c(framed).to_le_bytes() {
            return Err(RestoreError::Damaged("its checksum differs"));
        }
        let mut reader = Reader { rest: framed };
        if reader.take(4)? != magic {
            return Err(RestoreError::Damaged("it is of another kind"));
        }
        let found = u16::from_le_bytes(reader.array()?);
        if found != version {
            return Err(RestoreError::Version { found, known: version });
        }
        if reader.u64()? != reader.rest.len() as u64 {
            return Err(RestoreError::Damaged("its length differs"));
        }
        Ok(reader)
    }

    /// That all was read.
    pub(crate) fn end(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(RestoreError::Damaged("something is left over")) }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RestoreError::Damaged("it ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| RestoreError::Damaged("it ends early"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn f32(&mut self) -> Result<f32> {
        self.array().map(f32::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Result<f64> {
        self.array().map(f64::from_le_bytes)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RestoreError::Damaged("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn length(&mut self) -> Result<usize> {
        let length = self.u32()?;
        if length > LENGTH_MAX {
            return Err(RestoreError::Damaged("a length is beyond reason"));
        }
        Ok(length as usize)
    }

    pub(crate) fn text(&mut self) -> Result<Box<str>> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Box::from).map_err(|_| RestoreError::Damaged("a text is no UTF-8"))
    }

    pub(crate) fn list<T>(&mut self, mut each: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
        let length = self.length()?;
        // Not reserved by what the bytes claim: growing costs little, a wrong length would cost memory.
        let mut values = Vec::new();
        for _ in 0..length {
            values.push(each(self)?);
        }
        Ok(values)
    }

    pub(crate) fn option<T>(&mut self, each: impl FnOnce(&mut Reader<'a>) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { each(self).map(Some) } else { Ok(None) }
    }
}
