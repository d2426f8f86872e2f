//! How many distinct things there were, from 1 KiB: HyperLogLog (Flajolet, Fusy, Gandouet and Meunier 2007) with
//! Ertl's estimator (2017), which needs no table of corrections. Up to 64 things are held as they are: exact, and small.

use crate::checkpoint::{Reader, RestoreError, Writer};

/// Bits of a hash that choose the register.
const PRECISION: u32 = 10;
const REGISTERS: usize = 1 << PRECISION;
/// Bits that are left for the rank.
const RANK_BITS: usize = 64 - PRECISION as usize;
/// Things that are held one by one.
const EXACT_MAX: usize = 64;

/// Standard error of an estimate beyond what is held one by one: 1.04 / √1024.
pub const STANDARD_ERROR: f64 = 0.0325;

/// A set of which only the size can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HyperLogLog {
    /// Sorted hashes.
    Exact(Vec<u64>),
    /// One rank per register.
    Dense(Box<[u8; REGISTERS]>),
}

impl Default for HyperLogLog {
    fn default() -> HyperLogLog {
        HyperLogLog::Exact(Vec::new())
    }
}

impl HyperLogLog {
    /// The empty set.
    pub fn new() -> HyperLogLog {
        HyperLogLog::default()
    }

    /// Adds a thing.
    pub fn insert(&mut self, thing: &[u8]) {
        self.insert_hash(xxhash_rust::xxh3::xxh3_64(thing));
    }

    /// Adds a thing by its hash, whose bits must be as good as random.
    pub fn insert_hash(&mut self, hash: u64) {
        match self {
            HyperLogLog::Exact(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                    if hashes.len() > EXACT_MAX {
                        self.densify();
                    }
                }
            }
            HyperLogLog::Dense(registers) => raise(registers, hash),
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        matches!(self, HyperLogLog::Exact(hashes) if hashes.is_empty())
    }

    /// Adds what another set has.
    pub fn merge(&mut self, other: &HyperLogLog) {
        match other {
            HyperLogLog::Exact(hashes) => hashes.iter().for_each(|hash| self.insert_hash(*hash)),
            HyperLogLog::Dense(theirs) => {
                self.densify();
                if let HyperLogLog::Dense(ours) = self {
                    ours.iter_mut().zip(theirs.iter()).for_each(|(own, their)| *own = (*own).max(*their));
                }
            }
        }
    }

    /// How many there are, about; exact up to 64.
    pub fn estimate(&self) -> f64 {
        match self {
            HyperLogLog::Exact(hashes) => hashes.len() as f64,
            HyperLogLog::Dense(registers) => estimate(registers),
        }
    }

    fn densify(&mut self) {
        if let HyperLogLog::Exact(hashes) = self {
            let mut registers = Box::new([0; REGISTERS]);
            hashes.iter().for_each(|hash| raise(&mut registers, *hash));
            *self = HyperLogLog::Dense(registers);
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        match self {
            HyperLogLog::Exact(hashes) => {
                out.u8(0);
                out.list(hashes.iter(), |out, hash| out.u64(*hash));
            }
            HyperLogLog::Dense(registers) => {
                out.u8(1);
                out.raw(registers.as_slice());
            }
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<HyperLogLog, RestoreError> {
        if from.u8()? == 0 {
            let mut hashes = from.list(Reader::u64)?;
            hashes.sort_unstable();
            hashes.dedup();
            if hashes.len() > EXACT_MAX {
                return Err(RestoreError::Damaged("a small set is too large"));
            }
            return Ok(HyperLogLog::Exact(hashes));
        }
        let registers: [u8; REGISTERS] =
            from.take(REGISTERS)?.try_into().map_err(|_| RestoreError::Damaged("registers are missing"))?;
        if registers.iter().any(|rank| usize::from(*rank) > RANK_BITS + 1) {
            return Err(RestoreError::Damaged("a register is beyond reason"));
        }
        Ok(HyperLogLog::Dense(Box::new(registers)))
    }
}

fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let register = (hash >> RANK_BITS) as usize;
    // A one behind the last bit bounds the rank.
    let rank = ((hash << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() as u8 + 1;
    if let Some(held) = registers.get_mut(register) {
        *held = (*held).max(rank);
    }
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let mut counts = [0u32; RANK_BITS + 2];
    for rank in registers {
        if let Some(count) = counts.get_mut(usize::from(*rank)) {
            *count += 1;
        }
    }
    let m = REGISTERS as f64;
    let count = |rank: usize| f64::from(counts.get(rank).copied().unwrap_or(0));
    let mut z = m * tau(1.0 - count(RANK_BITS + 1) / m);
    for rank in (1..=RANK_BITS).rev() {
        z = 0.5 * (z + count(rank));
    }
    z += m * sigma(count(0) / m);
    m * m / (2.0 * std::f64::consts::LN_2) / z
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(things: impl IntoIterator<Item = u64>) -> HyperLogLog {
        let mut set = HyperLogLog::new();
        things.into_iter().for_each(|thing| set.insert(&thing.to_le_bytes()));
        set
    }

    #[test]
    fn estimates_are_within_four_standard_errors() {
        for (from, count) in [(0u64, 65u64), (1 << 40, 300), (7, 1_000), (99, 3_000), (5, 30_000), (1, 400_000)]
        {
            let found = set(from..from + count).estimate();
            assert!((found / count as f64 - 1.0).abs() < 4.0 * STANDARD_ERROR, "{found} for {count}");
        }
        let errors = (0..200u64).map(|run| set(run << 32..(run << 32) + 5_000).estimate() / 5_000.0 - 1.0);
        let errors: Vec<f64> = errors.collect();
        let bias = errors.iter().sum::<f64>() / errors.len() as f64;
        let rms = (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
        assert!(bias.abs() < 0.01 && rms < 1.3 * STANDARD_ERROR, "bias {bias}, error {rms}");
    }

    proptest! {
        #[test]
        fn few_things_are_counted_exactly(things in prop::collection::btree_set(any::<u64>(), 0..=EXACT_MAX)) {
            let twice = things.iter().chain(things.iter()).copied();
            prop_assert_eq!(set(twice).estimate(), things.len() as f64);
        }

        #[test]
        fn merging_is_adding(a in prop::collection::vec(any::<u16>(), 0..300), b in prop::collection::vec(any::<u16>(), 0..300)) {
            let wide = |things: &[u16]| set(things.iter().map(|thing| u64::from(*thing)));
            let mut left = wide(&a);
            left.merge(&wide(&b));
            let mut right = wide(&b);
            right.merge(&wide(&a));
            prop_assert_eq!(&left, &right);
            let mut again = left.clone();
            again.merge(&left);
            prop_assert_eq!(&again, &left);
            let whole = wide(&[a, b].concat());
            // Where one side was dense already, the union of few may be dense, too: the registers are the same.
            let (mut dense, mut all) = (left.clone(), whole.clone());
            dense.densify();
            all.densify();
            prop_assert_eq!(dense, all);
        }

        #[test]
        fn bytes_bring_it_back(things in prop::collection::vec(any::<u64>(), 0..200)) {
            let before = set(things);
            let mut out = Writer::new(*b"TEST", 1);
            before.write(&mut out);
            let bytes = out.finish();
            let mut reader = Reader::new(*b"TEST", 1, &bytes).unwrap();
            prop_assert_eq!(HyperLogLog::read(&mut reader).unwrap(), before);
        }
    }
}
