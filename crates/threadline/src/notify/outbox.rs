//! The outbox: notices that wait, notices that are dead, and what is known of each receiver.
//!
//! It lies in the database of the incidents (`incidents/book.redb`), so that a notice is written in the transaction of the
//! transition that causes it. Tables, all with JSON as values:
//! - `notify_meta`: `hub_id` (16 bytes), `next` (the next number, u64);
//! - `notify_waiting`, `notify_dead`: (receiver, number) to [`Waiting`] and [`Dead`];
//! - `notify_receivers`: receiver to [`Account`];
//! - `notify_open`: (receiver, incident) to the last notice, for targets that are told again while it is open;
//! - `notify_records`: number to [`Outcome`], which is still to become a record of the hub.

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Notice;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notify_meta");
const WAITING: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notify_waiting");
const DEAD: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notify_dead");
const RECEIVERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notify_receivers");
const OPEN: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notify_open");
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notify_records");

const HUB_ID: &str = "hub_id";
const NEXT: &str = "next";

/// Why the outbox could not be read or written.
#[derive(Debug)]
pub(crate) struct OutboxError(String);

impl std::fmt::Display for OutboxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the outbox: {}", self.0)
    }
}

impl std::error::Error for OutboxError {}

impl<E: Into<redb::Error>> From<E> for OutboxError {
    fn from(error: E) -> Self {
        OutboxError(error.into().to_string())
    }
}

type Result<T> = std::result::Result<T, OutboxError>;

/// A notice that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) notice: Notice,
    /// When it was put here, µs; again when it is taken back from the dead.
    pub(crate) put_us: i64,
}

/// A notice that is not tried any more, until somebody says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dead {
    pub(crate) notice: Notice,
    /// When it died, µs.
    pub(crate) dead_us: i64,
    /// Of what.
    pub(crate) why: String,
    /// How often it was tried since the hub's start.
    pub(crate) attempts: u32,
}

/// What is known of a receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Notices that its target took.
    pub(crate) sent: u64,
    /// Attempts that failed.
    pub(crate) failed: u64,
    /// Notices that died.
    pub(crate) dead: u64,
    /// Notices that were told by a later one.
    pub(crate) merged: u64,
    /// When its target took one last, µs; 0 = never.
    pub(crate) last_success_us: i64,
    /// When an attempt failed last, µs, and of what.
    pub(crate) last_failure_us: i64,
    pub(crate) last_failure: String,
    /// Its target has said that it is gone (410): nothing is sent until its definition changes or somebody replays.
    #[serde(default)]
    pub(crate) gone: Option<String>,
    /// When the last watchdog was put, µs, and how many there were.
    #[serde(default)]
    pub(crate) watchdog_us: i64,
    #[serde(default)]
    pub(crate) watchdogs: u32,
}

/// How a notice ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) receiver: String,
    /// Kind of the target.
    pub(crate) target: String,
    /// delivered, merged or dead.
    pub(crate) outcome: String,
    pub(crate) kind: String,
    pub(crate) incident: u64,
    pub(crate) reason: String,
    pub(crate) number: u32,
    pub(crate) key: String,
    pub(crate) attempts: u32,
    /// When, µs, and how long after the notice was decided, µs.
    pub(crate) at_us: i64,
    pub(crate) took_us: i64,
    /// What the target said.
    pub(crate) said: String,
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| OutboxError(format!("an entry is no JSON: {error}")))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| OutboxError(format!("an entry is damaged: {error}")))
}

/// Makes the tables, and gives the hub its id where it has none. Call it when the database is opened.
pub(crate) fn prepare(db: &Database, fresh_id: [u8; 16]) -> Result<()> {
    let txn = db.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        if meta.get(HUB_ID)?.is_none() {
            meta.insert(HUB_ID, fresh_id.as_slice())?;
        }
        txn.open_table(WAITING)?;
        txn.open_table(DEAD)?;
        txn.open_table(RECEIVERS)?;
        txn.open_table(OPEN)?;
        txn.open_table(RECORDS)?;
    }
    txn.commit()?;
    Ok(())
}

/// The hub's id, as hex: the first part of every key.
pub(crate) fn hub_id(db: &Database) -> Result<String> {
    let meta = db.begin_read()?.open_table(META)?;
    let id = meta.get(HUB_ID)?.ok_or_else(|| OutboxError("the hub has no id".to_owned()))?;
    Ok(id.value().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn next(txn: &WriteTransaction) -> Result<u64> {
    let mut meta = txn.open_table(META)?;
    let before = meta.get(NEXT)?.and_then(|bytes| bytes.value().try_into().ok()).map_or(0, u64::from_le_bytes);
    meta.insert(NEXT, (before + 1).to_le_bytes().as_slice())?;
    Ok(before + 1)
}

/// Puts a notice into the outbox; it is there when the transaction is committed. Wake the notifier then.
///
/// # Errors
/// When the database fails: do not commit.
pub(crate) fn put(txn: &WriteTransaction, notice: &Notice) -> Result<()> {
    let notice = notice.clone().capped();
    let put_us = notice.at_us;
    put_waiting(txn, &Waiting { notice, put_us })
}

fn put_waiting(txn: &WriteTransaction, waiting: &Waiting) -> Result<()> {
    let number = next(txn)?;
    let bytes = encode(waiting)?;
    txn.open_table(WAITING)?.insert((waiting.notice.receiver.as_str(), number), bytes.as_slice())?;
    Ok(())
}
