//! Two messages at a time by the processor's SHA instructions: each waits for the one before it in its message, and the
//! other message's goes on meanwhile.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};

use super::{BLOCK, K, START};
use crate::merkle::Hash;

/// Messages hashed side by side.
const SIDES: usize = 2;

/// The state as the instructions have it: words `feba` and `hgdc`, from low to high.
type State = [__m128i; 2];

/// What a side works at.
#[derive(Clone, Copy, Default)]
struct Side {
    /// The next block.
    at: usize,
    /// Blocks left.
    left: usize,
    /// Number of the message.
    message: usize,
}

/// Appends the hash of each message; `false`, and nothing done, where the processor has no SHA instructions. `places`
/// are start and length in bytes of the padded messages in `blocks`.
#[must_use]
pub(super) fn hash(blocks: &[[u8; BLOCK]], places: &[(usize, usize)], out: &mut Vec<Hash>) -> bool {
    let able = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("sse4.1")
        && is_x86_feature_detected!("ssse3");
    if able {
        // SAFETY: the processor has all features that `hash_all` is compiled for, as was just asked.
        #[expect(unsafe_code, reason = "the way into code for a processor's features; all in it is safe")]
        unsafe {
            hash_all(blocks, places, out);
        }
    }
    able
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn hash_all(blocks: &[[u8; BLOCK]], places: &[(usize, usize)], out: &mut Vec<Hash>) {
    let first = out.len();
    out.resize(first + places.len(), Hash::default());
    let mut waiting = places.iter().enumerate();
    let mut sides = [Side::default(); SIDES];
    let mut states = [start(); SIDES];
    loop {
        // A side without a message hashes what lies in its way; nobody asks for the result.
        let mut steps = usize::MAX;
        for (side, state) in sides.iter_mut().zip(&mut states) {
            if side.left == 0
                && let Some((message, &(from, len))) = waiting.next()
            {
                *side = Side { at: from / BLOCK, left: (len + 9).div_ceil(BLOCK), message };
                *state = start();
            }
            if side.left > 0 {
                steps = steps.min(side.left);
            }
        }
        if steps == usize::MAX {
            return;
        }
        let [mut one, mut two] = states;
        for _ in 0..steps {
            let [first, second] = sides.map(|side| blocks.get(side.at).unwrap_or(&[0; BLOCK]));
            (one, two) = compress(one, words(first), two, words(second));
            sides.iter_mut().for_each(|side| side.at += 1);
        }
        states = [one, two];
        for (side, state) in sides.iter_mut().zip(states).filter(|(side, _)| side.left > 0) {
            side.left -= steps;
            if side.left == 0
                && let Some(hash) = out.get_mut(first + side.message)
            {
                *hash = digest(state);
            }
        }
    }
}

/// The state of an empty message.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn start() -> State {
    let [a, b, c, d, e, f, g, h] = START.map(u32::cast_signed);
    [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]
}

/// A state as bytes of a hash.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn digest([abef, cdgh]: State) -> Hash {
    let words = [
        _mm_extract_epi32::<3>(abef),
        _mm_extract_epi32::<2>(abef),
        _mm_extract_epi32::<3>(cdgh),
        _mm_extract_epi32::<2>(cdgh),
        _mm_extract_epi32::<1>(abef),
        _mm_extract_epi32::<0>(abef),
        _mm_extract_epi32::<1>(cdgh),
        _mm_extract_epi32::<0>(cdgh),
    ];
    let mut hash = Hash::default();
    for (to, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
    hash
}

/// The sixteen words of a block.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn words(block: &[u8; BLOCK]) -> [__m128i; 4] {
    // Turns the bytes of each word round.
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut words = [swap; 4];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
        let bytes = u128::from_le_bytes(*bytes);
        *word = _mm_shuffle_epi8(_mm_set_epi64x((bytes >> 64) as i64, bytes as i64), swap);
    }
    words
}

/// FIPS 180-4, section 6.2.2, of one block of each of two messages.
#[target_feature(enable = "sha,sse4.1,ssse3")]
#[inline]
fn compress(one: State, mut v: [__m128i; 4], two: State, mut w: [__m128i; 4]) -> (State, State) {
    let ([mut a, mut c], [mut e, mut g]) = (one, two);
    macro_rules! rounds {
        ($($t:expr),*) => {$(
            let k = [K[4 * $t], K[4 * $t + 1], K[4 * $t + 2], K[4 * $t + 3]].map(u32::cast_signed);
            let k = _mm_set_epi32(k[3], k[2], k[1], k[0]);
            let (x, y) = (_mm_add_epi32(v[$t % 4], k), _mm_add_epi32(w[$t % 4], k));
            c = _mm_sha256rnds2_epu32(c, a, x);
            g = _mm_sha256rnds2_epu32(g, e, y);
            a = _mm_sha256rnds2_epu32(a, c, _mm_shuffle_epi32::<0x0e>(x));
            e = _mm_sha256rnds2_epu32(e, g, _mm_shuffle_epi32::<0x0e>(y));
        )*};
    }
    // The words of sixteen rounds later.
    macro_rules! next {
        ($words:ident, $t:expr) => {
            let sum = _mm_alignr_epi8::<4>($words[($t + 3) % 4], $words[($t + 2) % 4]);
            let sum = _mm_add_epi32(_mm_sha256msg1_epu32($words[$t % 4], $words[($t + 1) % 4]), sum);
            $words[$t % 4] = _mm_sha256msg2_epu32(sum, $words[($t + 3) % 4]);
        };
    }
    macro_rules! rounds_and_next {
        ($($t:expr),*) => {$(
            rounds!($t);
            next!(v, $t);
            next!(w, $t);
        )*};
    }
    rounds_and_next!(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    rounds!(12, 13, 14, 15);
    let sum = |after: __m128i, before: __m128i| _mm_add_epi32(after, before);
    ([sum(a, one[0]), sum(c, one[1])], [sum(e, two[0]), sum(g, two[1])])
}
