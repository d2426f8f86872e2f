//! Sixteen messages side by side, in the lanes of AVX-512 registers.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_ror_epi32, _mm512_set1_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4,
    _mm512_srli_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use fearless_simd::{Avx512, SimdFrom as _, kernel, u8x64, u32x16};

use super::{BLOCK, K, START};
use crate::merkle::Hash;

/// Messages hashed side by side.
const LANES: usize = 16;

/// One word of every lane.
type Word = [u32; LANES];

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
