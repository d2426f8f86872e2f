//! SHA-256 of many short messages at once. One message's rounds wait for each other; sixteen messages side by side, in
//! the lanes of AVX-512 registers, do not: about twice as fast as the processor's own SHA instructions one by one. On
//! other processors the messages are hashed one after the other.
//!
//! It does not know what the messages say.

use sha2::{Digest, Sha256};

use crate::merkle::Hash;

/// Bytes of a block.
const BLOCK: usize = 64;
/// Fewer messages than this are hashed one after the other.
#[cfg(target_arch = "x86_64")]
const MANY: usize = 8;

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
        if self.places.len() >= MANY
            && let Some(simd) = fearless_simd::Level::new().as_avx512()
        {
            let blocks = self.bytes.as_chunks::<BLOCK>().0;
            return lanes::hash(simd, blocks, &self.places, out);
        }
        out.extend(self.places.iter().map(|&(start, len)| -> Hash {
            Sha256::digest(self.bytes.get(start..start + len).unwrap_or_default()).into()
        }));
    }
}

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set1_epi32, _mm512_shuffle_epi8,
        _mm512_shuffle_i32x4, _mm512_srli_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
        _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
    };

    use fearless_simd::{Avx512, SimdFrom as _, kernel, u8x64, u32x16};

    use super::BLOCK;
    use crate::merkle::Hash;

    /// Messages hashed side by side.
    const LANES: usize = 16;

    /// One word of every lane.
    type Word = [u32; LANES];

    /// FIPS 180-4, section 4.2.2.
    const K: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ];
    /// FIPS 180-4, section 5.3.3.
    const START: [u32; 8] =
        [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
    /// Turns the bytes of each word round.
    const SWAP: [u8; BLOCK] = {
        let mut swap = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            swap[at] = (at as u8 & 12) + 3 - (at as u8 & 3);
            at += 1;
        }
        swap
    };

    /// What a lane works at.
    #[derive(Clone, Copy, Default)]
    struct Lane {
        /// Blocks left.
        left: usize,
        /// Number of the message.
        message: usize,
    }

    /// Appends the hash of each message. `places` are start and length in bytes of the padded messages in `blocks`.
    pub(super) fn hash(simd: Avx512, blocks: &[[u8; BLOCK]], places: &[(usize, usize)], out: &mut Vec<Hash>) {
        let first = out.len();
        out.resize(first + places.len(), Hash::default());
        let mut waiting = places.iter().enumerate();
        let mut lanes = [Lane::default(); LANES];
        let mut at = [0; LANES];
        let mut state: [Word; 8] = START.map(|word| [word; LANES]);
        loop {
            // Lanes without a message hash what lies in their way; nobody asks for the result.
            let mut steps = usize::MAX;
            for (number, lane) in lanes.iter_mut().enumerate() {
                if lane.left == 0
                    && let Some((message, &(start, len))) = waiting.next()
                {
                    *lane = Lane { left: (len + 9).div_ceil(BLOCK), message };
                    at[number] = start / BLOCK;
                    for (word, start) in state.iter_mut().zip(START) {
                        word[number] = start;
                    }
                }
                if lane.left > 0 {
                    steps = steps.min(lane.left);
                }
            }
            if steps == usize::MAX {
                return;
            }
            step(simd, blocks, &mut at, &mut state, steps);
            for (number, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.left > 0) {
                lane.left -= steps;
                if lane.left == 0
                    && let Some(hash) = out.get_mut(first + lane.message)
                {
                    for (to, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(&state) {
                        *to = word[number].to_be_bytes();
                    }
                }
            }
        }
    }

    kernel!(
        /// Hashes the next `steps` blocks of every lane.
        fn step(
            simd: Avx512,
            blocks: &[[u8; BLOCK]],
            at: &mut [usize; LANES],
            state: &mut [Word; 8],
            steps: usize,
        ) {
            let word = |word: Word| -> __m512i { u32x16::simd_from(simd, word).into() };
            let bytes = |bytes: [u8; BLOCK]| -> __m512i { u8x64::simd_from(simd, bytes).into() };
            let mut sums = state.map(word);
            for _ in 0..steps {
                let mut rows = [bytes([0; BLOCK]); LANES];
                for (row, at) in rows.iter_mut().zip(at.iter_mut()) {
                    let block = blocks.get(*at).copied().unwrap_or([0; BLOCK]);
                    *row = _mm512_shuffle_epi8(bytes(block), bytes(SWAP));
                    *at += 1;
                }
                sums = compress(simd, sums, transpose(simd, rows));
            }
            *state = sums.map(|sum| u32x16::simd_from(simd, sum).into());
        }
    );

    kernel!(
        /// From one block per register to one word of all blocks per register.
        #[inline]
        fn transpose(simd: Avx512, rows: [__m512i; 16]) -> [__m512i; 16] {
            let _ = simd;
            let [mut pairs, mut fours, mut columns] = [rows; 3];
            for at in [0, 2, 4, 6, 8, 10, 12, 14] {
                pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
                pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
            }
            for at in [0, 4, 8, 12] {
                fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
                fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
                fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
                fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
            }
            // Quarter `q` of `fours[4 * g + c]` holds word `4 * q + c` of the blocks `4 * g ..`.
            for c in 0..4 {
                let even = _mm512_shuffle_i32x4::<0x88>(fours[c], fours[4 + c]);
                let odd = _mm512_shuffle_i32x4::<0xdd>(fours[c], fours[4 + c]);
                let even_high = _mm512_shuffle_i32x4::<0x88>(fours[8 + c], fours[12 + c]);
                let odd_high = _mm512_shuffle_i32x4::<0xdd>(fours[8 + c], fours[12 + c]);
                columns[c] = _mm512_shuffle_i32x4::<0x88>(even, even_high);
                columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd, odd_high);
                columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even, even_high);
                columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_high);
            }
            columns
        }
    );

    kernel!(
        /// FIPS 180-4, section 6.2.2.
        #[inline]
        fn compress(simd: Avx512, state: [__m512i; 8], words: [__m512i; 16]) -> [__m512i; 8] {
            let _ = simd;
            let mut w = words;
            let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
            macro_rules! xor {
                ($a:expr, $b:expr, $c:expr) => {
                    _mm512_ternarylogic_epi32::<0x96>($a, $b, $c)
                };
            }
            macro_rules! round {
                ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $t:expr) => {
                    let at = $t % 16;
                    if $t >= 16 {
                        let (low, high) = (w[($t + 1) % 16], w[($t + 14) % 16]);
                        let low = xor!(
                            _mm512_ror_epi32::<7>(low),
                            _mm512_ror_epi32::<18>(low),
                            _mm512_srli_epi32::<3>(low)
                        );
                        let high = xor!(
                            _mm512_ror_epi32::<17>(high),
                            _mm512_ror_epi32::<19>(high),
                            _mm512_srli_epi32::<10>(high)
                        );
                        let sum = _mm512_add_epi32(w[at], w[($t + 9) % 16]);
                        w[at] = _mm512_add_epi32(sum, _mm512_add_epi32(low, high));
                    }
                    let word = _mm512_add_epi32(w[at], _mm512_set1_epi32(K[$t] as i32));
                    let sum =
                        xor!(_mm512_ror_epi32::<6>($e), _mm512_ror_epi32::<11>($e), _mm512_ror_epi32::<25>($e));
                    let choice = _mm512_ternarylogic_epi32::<0xca>($e, $f, $g);
                    let first = _mm512_add_epi32(_mm512_add_epi32($h, word), _mm512_add_epi32(sum, choice));
                    let sum =
                        xor!(_mm512_ror_epi32::<2>($a), _mm512_ror_epi32::<13>($a), _mm512_ror_epi32::<22>($a));
                    let majority = _mm512_ternarylogic_epi32::<0xe8>($a, $b, $c);
                    $d = _mm512_add_epi32($d, first);
                    $h = _mm512_add_epi32(first, _mm512_add_epi32(sum, majority));
                };
            }
            macro_rules! rounds {
            ($($t:expr),*) => {$(
                round!(a b c d e f g h, $t);
                round!(h a b c d e f g, $t + 1);
                round!(g h a b c d e f, $t + 2);
                round!(f g h a b c d e, $t + 3);
                round!(e f g h a b c d, $t + 4);
                round!(d e f g h a b c, $t + 5);
                round!(c d e f g h a b, $t + 6);
                round!(b c d e f g h a, $t + 7);
            )*};
        }
            rounds!(0, 8, 16, 24, 32, 40, 48, 56);
            let mut sums = [a, b, c, d, e, f, g, h];
            for (sum, before) in sums.iter_mut().zip(state) {
                *sum = _mm512_add_epi32(*sum, before);
            }
            sums
        }
    );
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
        }
    }
}
