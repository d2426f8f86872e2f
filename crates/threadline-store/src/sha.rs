//! SHA-256 of many short messages at once. One message's rounds wait for each other; those of several do not: sixteen
//! messages side by side in the lanes of AVX-512 registers take about half the time of one after the other by the
//! processor's SHA instructions, two by these instructions about 0.6 of it. Elsewhere they are hashed one after the other.
//!
//! It does not know what the messages say.

#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod pairs;

use sha2::{Digest, Sha256};

use crate::merkle::Hash;

/// Bytes of a block.
const BLOCK: usize = 64;
/// Fewer messages than this are hashed one after the other.
#[cfg(target_arch = "x86_64")]
const MANY: usize = 8;

/// FIPS 180-4, section 4.2.2.
#[cfg(target_arch = "x86_64")]
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
];
/// FIPS 180-4, section 5.3.3.
#[cfg(target_arch = "x86_64")]
const START: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// Messages one after the other, each padded to whole blocks as SHA-256 has it.
#[derive(Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// Where each message lies: start and length.
    places: Vec<(usize, usize)>,
}

impl Messages {
    /// Forgets all messages.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// Bytes of all messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a message: what `write` appends.
    #[inline]
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let len = self.bytes.len() - start;
        self.places.push((start, len));
        self.bytes.push(0x80);
        let padded = (self.bytes.len() + 8).next_multiple_of(BLOCK);
        self.bytes.resize(padded - 8, 0);
        self.bytes.extend_from_slice(&(len as u64 * 8).to_be_bytes());
    }

    /// Appends the hash of each message.
    pub(crate) fn hash(&self, out: &mut Vec<Hash>) {
        #[cfg(target_arch = "x86_64")]
        {
            let blocks = self.bytes.as_chunks::<BLOCK>().0;
            if self.places.len() >= MANY
                && let Some(simd) = fearless_simd::Level::new().as_avx512()
            {
                return lanes::hash(simd, blocks, &self.places, out);
            }
            if self.places.len() > 1 && pairs::hash(blocks, &self.places, out) {
                return;
            }
        }
        out.extend(self.places.iter().map(|&(start, len)| -> Hash {
            Sha256::digest(self.bytes.get(start..start + len).unwrap_or_default()).into()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hashes_are_those_of_one_at_a_time() {
        for count in [0, 1, 7, 8, 15, 16, 17, 100, 300] {
            let mut messages = Messages::default();
            // Every length around the ends of blocks, in no order.
            let texts: Vec<Vec<u8>> = (0..count)
                .map(|n: usize| (0..n * 89 % 261).map(|at| (at * 7 + n * 31) as u8).collect())
                .collect();
            for text in &texts {
                messages.push(|out| out.extend_from_slice(text));
            }
            let mut hashes = vec![[7; 32]];
            messages.hash(&mut hashes);
            let want: Vec<Hash> = texts.iter().map(|text| Sha256::digest(text).into()).collect();
            assert_eq!(hashes[0], [7; 32]);
            assert_eq!(hashes[1..], want, "{count} messages");
            // Also where a wider way is taken.
            #[cfg(target_arch = "x86_64")]
            {
                let (blocks, mut hashes) = (messages.bytes.as_chunks::<BLOCK>().0, Vec::new());
                if pairs::hash(blocks, &messages.places, &mut hashes) {
                    assert_eq!(hashes, want, "{count} messages, two at a time");
                }
            }
        }
    }
}
