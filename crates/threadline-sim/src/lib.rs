//! Seeded simulation of the whole path: clients, store and tail on a disk that fails, tears and forgets.
//!
//! Vocabulary:
//! - *seed*: the one number a run follows from; the same seed gives the same run;
//! - *life*: the time between two crashes;
//! - *model*: what the clients know: which batches were acknowledged, which were sent and may or may not be there.
//!
//! Invariants, checked after every recovery and at the end:
//! - every acknowledged record is there exactly once, with its content; every other record at most once;
//! - the tail neither skips nor repeats, over crashes and while files are sealed and merged;
//! - the table log and the Merkle log verify.
//!
//! It does not know HTTP, queries or threads: the store runs in step mode on the caller's thread.

mod disk;
mod random;
mod world;

pub use disk::{Faults, SimDisk};
pub use random::Random;
pub use world::{Outcome, run};
