//! Bytes of segment headers and record heads. Checksums are compared before anything else is believed.

use threadline_model::schema::Table;

use super::{PerTable, slot, table_at};
use crate::BatchId;

/// Records start here.
pub(crate) const HEADER_BYTES: u64 = 4096;
/// The part of the header that has content.
const HEADER_USED_BYTES: usize = 128;
/// Bytes before a record's payload.
pub(crate) const RECORD_HEAD_BYTES: usize = 88;

const SEGMENT_MAGIC: &[u8; 8] = b"TLWALSEG";
const RECORD_MAGIC: &[u8; 4] = b"TLWR";
const VERSION: u32 = 1;

/// Header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) node: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    pub(crate) first_seq: i64,
    pub(crate) previous: u64,
    pub(crate) previous_end: u64,
    /// Last sequence numbers in all earlier segments.
    pub(crate) last_seq: PerTable<i64>,
}

impl Header {
    /// The first [`HEADER_BYTES`] of the segment.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HEADER_USED_BYTES);
        body.extend_from_slice(&self.node);
        for number in [self.epoch, self.number] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&self.first_seq.to_le_bytes());
        for number in [self.previous, self.previous_end] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for seq in self.last_seq {
            body.extend_from_slice(&seq.to_le_bytes());
        }
        body.resize(HEADER_USED_BYTES - 16, 0);
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        out.extend_from_slice(&body);
        out.resize(HEADER_BYTES as usize, 0);
        out
    }

    /// Reads a header.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, String> {
        let short = || "the header is cut off".to_owned();
        let mut bytes = Bytes(bytes.get(..HEADER_USED_BYTES).ok_or_else(short)?);
        if &bytes.take::<8>().ok_or_else(short)? != SEGMENT_MAGIC {
            return Err("it does not start as a segment".into());
        }
        let version = bytes.u32().ok_or_else(short)?;
        let crc = bytes.u32().ok_or_else(short)?;
        if crc32c::crc32c(bytes.0) != crc {
            return Err("the header's checksum is wrong".into());
        }
        if version != VERSION {
            return Err(format!("its format version is {version}, this program knows {VERSION}"));
        }
        let mut header = || {
            Some(Header {
                node: bytes.take()?,
                epoch: bytes.u64()?,
                number: bytes.u64()?,
                first_seq: bytes.i64()?,
                previous: bytes.u64()?,
                previous_end: bytes.u64()?,
                last_seq: [bytes.i64()?, bytes.i64()?],
            })
        };
        header().ok_or_else(short)
    }
}

/// Head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) payload_bytes: u32,
    pub(crate) payload_crc: u32,
    pub(crate) uncompressed_bytes: u32,
    pub(crate) rows: u32,
    pub(crate) segment: u64,
    pub(crate) epoch: u64,
    pub(crate) first_seq: i64,
    pub(crate) id: BatchId,
    pub(crate) time_us: i64,
    pub(crate) synced_to: u64,
    pub(crate) part: u16,
    pub(crate) parts: u16,
    pub(crate) table: Table,
}

impl RecordHead {
    /// Appends the head.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(RECORD_MAGIC);
        out.extend_from_slice(&[0; 4]);
        for number in [self.payload_bytes, self.payload_crc, self.uncompressed_bytes, self.rows] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.segment, self.epoch] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.time_us.to_le_bytes());
        out.extend_from_slice(&self.synced_to.to_le_bytes());
        out.extend_from_slice(&self.part.to_le_bytes());
        out.extend_from_slice(&self.parts.to_le_bytes());
        out.extend_from_slice(&[slot(self.table) as u8, 0, 0, 0]);
        let crc = crc32c::crc32c(out.get(start + 8..).unwrap_or_default());
        if let Some(place) = out.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        debug_assert_eq!(out.len(), start + RECORD_HEAD_BYTES);
    }

    /// Reads a head; `None` when there is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<RecordHead> {
        let mut bytes = Bytes(bytes.get(..RECORD_HEAD_BYTES)?);
        if &bytes.take::<4>()? != RECORD_MAGIC || bytes.u32()? != crc32c::crc32c(bytes.0) {
            return None;
        }
        Some(RecordHead {
            payload_bytes: bytes.u32()?,
            payload_crc: bytes.u32()?,
            uncompressed_bytes: bytes.u32()?,
            rows: bytes.u32()?,
            segment: bytes.u64()?,
            epoch: bytes.u64()?,
            first_seq: bytes.i64()?,
            id: BatchId(u128::from_le_bytes(bytes.take()?)),
            time_us: bytes.i64()?,
            synced_to: bytes.u64()?,
            part: u16::from_le_bytes(bytes.take()?),
            parts: u16::from_le_bytes(bytes.take()?),
            table: table_at(*bytes.take::<1>()?.first()?)?,
        })
    }

    /// Sequence number after the last row.
    pub(crate) fn next_seq(&self) -> i64 {
        self.first_seq.saturating_add(i64::from(self.rows))
    }

    /// Bytes of head, payload and padding.
    pub(crate) fn record_bytes(&self) -> u64 {
        padded(self.payload_bytes as usize) as u64
    }
}

/// Bytes that a record with such a payload takes.
pub(crate) fn padded(payload_bytes: usize) -> usize {
    (RECORD_HEAD_BYTES + payload_bytes).next_multiple_of(8)
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back_or_are_refused(
            node: [u8; 16], numbers: [u64; 4], first_seq: i64, last_seq: [i64; 2], at in 0..128usize, bit in 0..8u8,
        ) {
            let [epoch, number, previous, previous_end] = numbers;
            let header = Header { node, epoch, number, first_seq, previous, previous_end, last_seq };
            let mut bytes = header.bytes();
            prop_assert_eq!(bytes.len() as u64, HEADER_BYTES);
            prop_assert_eq!(Header::parse(&bytes), Ok(header));
            bytes[at] ^= 1 << bit;
            prop_assert!(Header::parse(&bytes).is_err());
        }

        #[test]
        fn heads_come_back_or_are_refused(
            a: [u32; 4], b: [u64; 3], c: [i64; 2], id: u128, d: [u16; 2], spans: bool, at in 0..88usize, bit in 0..8u8,
        ) {
            let head = RecordHead {
                payload_bytes: a[0], payload_crc: a[1], uncompressed_bytes: a[2], rows: a[3],
                segment: b[0], epoch: b[1], first_seq: c[0], id: BatchId(id), time_us: c[1], synced_to: b[2],
                part: d[0], parts: d[1], table: if spans { Table::Spans } else { Table::Logs },
            };
            let mut bytes = vec![7; 3];
            head.write(&mut bytes);
            prop_assert_eq!(RecordHead::parse(&bytes[3..]), Some(head));
            bytes[3 + at] ^= 1 << bit;
            prop_assert_eq!(RecordHead::parse(&bytes[3..]), None);
        }
    }
}
