//! Binary fuse filters (8 bit) as bytes: descriptor, then fingerprints (docs/formats.md, `trace_filter`).
//!
//! It does not know what the hashes are of.

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

/// A filter in its bytes.
pub(crate) struct Fuse<'a> {
    descriptor: &'a [u8],
    fingerprints: &'a [u8],
}

impl<'a> Fuse<'a> {
    /// The filter that these bytes are; `None` when they are none. The filter indexes its fingerprints by what the
    /// descriptor says: both must fit.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Fuse<'a>> {
        let (descriptor, fingerprints) = bytes.split_at_checked(BinaryFuse8::DESCRIPTOR_LEN)?;
        let number = |at: usize| {
            let bytes = descriptor.get(at..at + 4)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(bytes)))
        };
        let (segment, mask, count) = (number(8)?, number(12)?, number(16)?);
        let fits = segment.is_power_of_two()
            && mask == segment - 1
            && count % segment == 0
            && count + 2 * segment <= fingerprints.len() as u64;
        fits.then_some(Fuse { descriptor, fingerprints })
    }

    /// Whether the set may have this hash. What it has is never denied.
    pub(crate) fn contains(&self, hash: u64) -> bool {
        BinaryFuse8Ref::from_dma(self.descriptor, self.fingerprints).contains(&hash)
    }
}

/// The filter of these hashes, ascending and all different. `None` without any, or when none can be built.
pub(crate) fn build(hashes: &[u64]) -> Option<Vec<u8>> {
    if hashes.is_empty() {
        return None;
    }
    let filter = BinaryFuse8::try_from(hashes).ok()?;
    let mut bytes = vec![0; BinaryFuse8::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend_from_slice(filter.dma_fingerprints());
    Some(bytes)
}
