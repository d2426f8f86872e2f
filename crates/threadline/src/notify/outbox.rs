//! The outbox: notices that wait, notices that are dead, and what is known of each receiver.
//!
//! It lies in the database of the incidents (`incidents/book.redb`), so that a notice is written in the transaction of the
//! transition that causes it. Tables, all with JSON as values:
//! - `notify_meta`: `hub_id` (16 bytes), `next` (the next number, u64);
//! - `notify_waiting`, `notify_dead`: (receiver, number) to [`Waiting`] and [`Dead`];
//! - `notify_receivers`: receiver to [`Account`];
//! - `notify_standing`: receiver to [`Standing`], written by a 410 and by a replay only;
//! - `notify_open`: (receiver, incident) to the last notice, for targets that are told again while it is open;
//! - `notify_records`: number to [`Outcome`], which is still to become a record of the hub.

use std::collections::BTreeMap;

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use threadline_detect::incident::Reason;
use threadline_model::id::hex;

use super::Notice;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notify_meta");
const WAITING: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notify_waiting");
const DEAD: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notify_dead");
const RECEIVERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notify_receivers");
const STANDING: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notify_standing");
const OPEN: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("notify_open");
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("notify_records");

/// Notices of a receiver that is no more which are given up at once.
const GIVEN_UP_MAX: usize = 1000;

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
    /// The target has been told since that the incident is over: telling this one now would open it again.
    #[serde(default)]
    pub(crate) superseded: bool,
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
    /// When the last watchdog was put, µs, and how many there were.
    #[serde(default)]
    pub(crate) watchdog_us: i64,
    #[serde(default)]
    pub(crate) watchdogs: u32,
}

/// What the thread of a receiver and people who replay tell each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The target has said that it is gone (410): nothing is sent until the receiver's definition, whose hash this is,
    /// changes, or somebody replays.
    pub(crate) gone: Option<u64>,
    /// How often somebody replayed: notices that were dead wait again under their old numbers since the last time.
    pub(crate) replays: u64,
}

/// How a notice ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) receiver: String,
    /// Kind of the target.
    pub(crate) target: String,
    /// delivered, merged (told by a later one) or dead; of a test: delivered or failed.
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
        txn.open_table(STANDING)?;
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
    Ok(hex(id.value()))
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
    let number = next(txn)?;
    put_waiting(txn, number, &Waiting { notice, put_us })
}

fn put_waiting(txn: &WriteTransaction, number: u64, waiting: &Waiting) -> Result<()> {
    let bytes = encode(waiting)?;
    txn.open_table(WAITING)?.insert((waiting.notice.receiver.as_str(), number), bytes.as_slice())?;
    Ok(())
}

/// Numbers of a receiver after one.
fn after(receiver: &str, number: u64) -> std::ops::RangeInclusive<(&str, u64)> {
    (receiver, number.saturating_add(1))..=(receiver, u64::MAX)
}

/// Notices of a receiver that wait, after a number, in order.
pub(crate) fn waiting_after(
    db: &Database,
    receiver: &str,
    number: u64,
    max: usize,
) -> Result<Vec<(u64, Waiting)>> {
    let table = db.begin_read()?.open_table(WAITING)?;
    let mut found = Vec::new();
    for entry in table.range(after(receiver, number))?.take(max) {
        let (key, bytes) = entry?;
        found.push((key.value().1, decode(bytes.value())?));
    }
    Ok(found)
}

/// A notice that waits.
pub(crate) fn waiting(db: &Database, receiver: &str, number: u64) -> Result<Option<Waiting>> {
    let table = db.begin_read()?.open_table(WAITING)?;
    let found = table.get((receiver, number))?;
    found.map(|bytes| decode(bytes.value())).transpose()
}

/// What is known of a receiver.
pub(crate) fn account(db: &Database, receiver: &str) -> Result<Account> {
    let table = db.begin_read()?.open_table(RECEIVERS)?;
    let found = table.get(receiver)?;
    found.map_or_else(|| Ok(Account::default()), |bytes| decode(bytes.value()))
}

fn put_account(txn: &WriteTransaction, receiver: &str, account: &Account) -> Result<()> {
    txn.open_table(RECEIVERS)?.insert(receiver, encode(account)?.as_slice())?;
    Ok(())
}

fn put_outcome(txn: &WriteTransaction, outcome: &Outcome) -> Result<()> {
    let number = next(txn)?;
    txn.open_table(RECORDS)?.insert(number, encode(outcome)?.as_slice())?;
    Ok(())
}

/// How a receiver stands.
pub(crate) fn standing(db: &Database, receiver: &str) -> Result<Standing> {
    let table = db.begin_read()?.open_table(STANDING)?;
    let found = table.get(receiver)?;
    found.map_or_else(|| Ok(Standing::default()), |bytes| decode(bytes.value()))
}

fn standing_in(txn: &WriteTransaction, receiver: &str) -> Result<Standing> {
    let table = txn.open_table(STANDING)?;
    let found = table.get(receiver)?;
    found.map_or_else(|| Ok(Standing::default()), |bytes| decode(bytes.value()))
}

fn put_standing(txn: &WriteTransaction, receiver: &str, standing: &Standing) -> Result<()> {
    txn.open_table(STANDING)?.insert(receiver, encode(standing)?.as_slice())?;
    Ok(())
}

/// The target has said that it is gone (410).
pub(crate) fn keep_gone(db: &Database, receiver: &str, hash: u64) -> Result<()> {
    let txn = db.begin_write()?;
    let standing = Standing { gone: Some(hash), ..standing_in(&txn, receiver)? };
    put_standing(&txn, receiver, &standing)?;
    Ok(txn.commit()?)
}

/// Keeps an outcome that is of no notice here (of a test).
pub(crate) fn keep_outcome(db: &Database, outcome: &Outcome) -> Result<()> {
    let txn = db.begin_write()?;
    put_outcome(&txn, outcome)?;
    Ok(txn.commit()?)
}

/// What is open for a target that is told again, after a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OpenChange<'a> {
    /// The target is not told again.
    None,
    /// This is what it was told last.
    Told(&'a Notice),
    /// It is over.
    Over(u64),
}

/// A notice was taken.
pub(crate) struct Delivery<'a> {
    /// Its number, and those of the notices that were told by it.
    pub(crate) numbers: &'a [u64],
    pub(crate) outcomes: &'a [Outcome],
    pub(crate) account: &'a Account,
    pub(crate) open: OpenChange<'a>,
    /// The incident whose end it told.
    pub(crate) resolved: Option<u64>,
    /// Replays that the receiver's thread knows of.
    pub(crate) replays: u64,
    pub(crate) now_us: i64,
}

/// A notice is delivered, and those that were told by it; one commit.
pub(crate) fn delivered(db: &Database, receiver: &str, delivery: &Delivery<'_>) -> Result<()> {
    let Delivery { numbers, outcomes, account, open, resolved, replays, now_us } = *delivery;
    let txn = db.begin_write()?;
    {
        let mut table = txn.open_table(WAITING)?;
        for number in numbers {
            table.remove((receiver, *number))?;
        }
    }
    outcomes.iter().try_for_each(|outcome| put_outcome(&txn, outcome))?;
    put_account(&txn, receiver, account)?;
    match open {
        OpenChange::None => {}
        OpenChange::Told(notice) => {
            txn.open_table(OPEN)?.insert((receiver, notice.incident), encode(notice)?.as_slice())?;
        }
        OpenChange::Over(incident) => {
            txn.open_table(OPEN)?.remove((receiver, incident))?;
        }
    }
    if let Some(incident) = resolved {
        if standing_in(&txn, receiver)?.replays != replays {
            withdraw(&txn, receiver, incident, numbers, now_us)?;
        }
        supersede(&txn, receiver, incident)?;
    }
    Ok(txn.commit()?)
}

/// What somebody had wait again while the end of its incident was on its way is dead again: it would open it again.
fn withdraw(txn: &WriteTransaction, receiver: &str, incident: u64, numbers: &[u64], now_us: i64) -> Result<()> {
    let before = numbers.iter().copied().max().unwrap_or(0);
    let mut table = txn.open_table(WAITING)?;
    let mut found: Vec<(u64, Waiting)> = Vec::new();
    for entry in table.range((receiver, 0)..(receiver, before))? {
        let (key, bytes) = entry?;
        let waiting: Waiting = decode(bytes.value())?;
        if waiting.notice.incident == incident && waiting.notice.kind == super::Kind::Incident {
            found.push((key.value().1, waiting));
        }
    }
    let mut dead = txn.open_table(DEAD)?;
    for (number, Waiting { notice, .. }) in found {
        table.remove((receiver, number))?;
        let why = "replayed while the end of its incident was told".to_owned();
        let bytes = encode(&Dead { notice, dead_us: now_us, why, attempts: 0, superseded: true })?;
        dead.insert((receiver, number), bytes.as_slice())?;
    }
    Ok(())
}

/// The dead of an incident that is over would open it again.
fn supersede(txn: &WriteTransaction, receiver: &str, incident: u64) -> Result<()> {
    let mut table = txn.open_table(DEAD)?;
    let mut changed: Vec<(u64, Dead)> = Vec::new();
    for entry in table.range(after(receiver, 0))? {
        let (key, bytes) = entry?;
        let dead: Dead = decode(bytes.value())?;
        if dead.notice.incident == incident && dead.notice.kind == super::Kind::Incident && !dead.superseded {
            changed.push((key.value().1, Dead { superseded: true, ..dead }));
        }
    }
    for (number, dead) in changed {
        table.insert((receiver, number), encode(&dead)?.as_slice())?;
    }
    Ok(())
}

/// A notice is dead; one commit. Of what is told again while it is open nothing is, when this was its end. A dead watchdog
/// is not kept. False, and nothing is done, when somebody has replayed since: what is gone may be there again.
pub(crate) fn buried(
    db: &Database,
    receiver: &str,
    number: u64,
    dead: &Dead,
    outcome: &Outcome,
    account: &Account,
    replays: u64,
) -> Result<bool> {
    let txn = db.begin_write()?;
    if standing_in(&txn, receiver)?.replays != replays {
        return Ok(false);
    }
    bury(&txn, receiver, number, dead, outcome)?;
    put_account(&txn, receiver, account)?;
    txn.commit()?;
    Ok(true)
}

fn bury(txn: &WriteTransaction, receiver: &str, number: u64, dead: &Dead, outcome: &Outcome) -> Result<()> {
    txn.open_table(WAITING)?.remove((receiver, number))?;
    let Notice { kind, reason, incident, .. } = dead.notice;
    if kind != super::Kind::Watchdog {
        txn.open_table(DEAD)?.insert((receiver, number), encode(dead)?.as_slice())?;
    }
    if kind == super::Kind::Incident && reason == Reason::Resolve {
        txn.open_table(OPEN)?.remove((receiver, incident))?;
    }
    put_outcome(txn, outcome)
}

/// A watchdog is put, and that it was; one commit.
pub(crate) fn put_watchdog(db: &Database, notice: &Notice, account: &Account) -> Result<()> {
    let txn = db.begin_write()?;
    put(&txn, notice)?;
    put_account(&txn, &notice.receiver, account)?;
    Ok(txn.commit()?)
}

/// What was told last of an incident.
pub(crate) fn open_one(db: &Database, receiver: &str, incident: u64) -> Result<Option<Notice>> {
    let table = db.begin_read()?.open_table(OPEN)?;
    let found = table.get((receiver, incident))?;
    found.map(|bytes| decode(bytes.value())).transpose()
}

/// What is open for a receiver.
pub(crate) fn open_all(db: &Database, receiver: &str) -> Result<Vec<Notice>> {
    let table = db.begin_read()?.open_table(OPEN)?;
    let mut found = Vec::new();
    for entry in table.range((receiver, 0)..=(receiver, u64::MAX))? {
        found.push(decode(entry?.1.value())?);
    }
    Ok(found)
}

/// Outcomes that are still to become records, the oldest first.
pub(crate) fn outcomes(db: &Database, max: usize) -> Result<Vec<(u64, Outcome)>> {
    let table = db.begin_read()?.open_table(RECORDS)?;
    let mut found = Vec::new();
    for entry in table.iter()?.take(max) {
        let (key, bytes) = entry?;
        found.push((key.value(), decode(bytes.value())?));
    }
    Ok(found)
}

/// These outcomes are records now.
pub(crate) fn forget_outcomes(db: &Database, numbers: &[u64]) -> Result<()> {
    let txn = db.begin_write()?;
    {
        let mut table = txn.open_table(RECORDS)?;
        for number in numbers {
            table.remove(*number)?;
        }
    }
    Ok(txn.commit()?)
}

/// A receiver in figures: waiting, dead, and when the oldest that waits was put, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) waiting: u64,
    pub(crate) dead: u64,
    pub(crate) oldest_us: Option<i64>,
}

/// Figures of all receivers that have something here, known or not.
pub(crate) fn figures(db: &Database) -> Result<BTreeMap<String, Figures>> {
    let txn = db.begin_read()?;
    let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
    for entry in txn.open_table(WAITING)?.iter()? {
        let (key, bytes) = entry?;
        let of = figures.entry(key.value().0.to_owned()).or_default();
        of.waiting += 1;
        if of.oldest_us.is_none() {
            of.oldest_us = Some(decode::<Waiting>(bytes.value())?.put_us);
        }
    }
    for entry in txn.open_table(DEAD)?.iter()? {
        figures.entry(entry?.0.value().0.to_owned()).or_default().dead += 1;
    }
    for entry in txn.open_table(RECEIVERS)?.iter()? {
        figures.entry(entry?.0.value().to_owned()).or_default();
    }
    Ok(figures)
}

/// The dead of a receiver, the oldest first.
pub(crate) fn dead(db: &Database, receiver: &str, max: usize) -> Result<Vec<(u64, Dead)>> {
    let table = db.begin_read()?.open_table(DEAD)?;
    let mut found = Vec::new();
    for entry in table.range(after(receiver, 0))?.take(max) {
        let (key, bytes) = entry?;
        found.push((key.value().1, decode(bytes.value())?));
    }
    Ok(found)
}

/// Whether there is anything of a receiver.
pub(crate) fn knows(db: &Database, receiver: &str) -> Result<bool> {
    let txn = db.begin_read()?;
    Ok(txn.open_table(RECEIVERS)?.get(receiver)?.is_some()
        || txn.open_table(WAITING)?.range(after(receiver, 0))?.next().is_some()
        || txn.open_table(DEAD)?.range(after(receiver, 0))?.next().is_some())
}

/// Has the dead of a receiver wait again under their old numbers, so that they come before what was put later: all, or those
/// with these numbers; without those that would open again what is over. How many.
pub(crate) fn replay(db: &Database, receiver: &str, numbers: Option<&[u64]>, now_us: i64) -> Result<u64> {
    let wanted = |number: u64| numbers.is_none_or(|numbers| numbers.contains(&number));
    let mut count = 0;
    let txn = db.begin_write()?;
    {
        let mut table = txn.open_table(DEAD)?;
        let mut back: Vec<(u64, Dead)> = Vec::new();
        for entry in table.range(after(receiver, 0))? {
            let (key, bytes) = entry?;
            let dead: Dead = decode(bytes.value())?;
            if wanted(key.value().1) && !dead.superseded {
                back.push((key.value().1, dead));
            }
        }
        for (number, dead) in back {
            table.remove((receiver, number))?;
            put_waiting(&txn, number, &Waiting { notice: dead.notice, put_us: now_us })?;
            count += 1;
        }
    }
    let replays = standing_in(&txn, receiver)?.replays + 1;
    put_standing(&txn, receiver, &Standing { gone: None, replays })?;
    txn.commit()?;
    Ok(count)
}

/// Gives up what has waited since before a time for receivers that are no more. How many. `outcome_of` says how a notice
/// ended.
pub(crate) fn give_up(
    db: &Database,
    before_us: i64,
    now_us: i64,
    is_known: impl Fn(&str) -> bool,
    outcome_of: impl Fn(&Notice, &str) -> Outcome,
) -> Result<u64> {
    let mut old: Vec<(u64, Waiting)> = Vec::new();
    {
        let table = db.begin_read()?.open_table(WAITING)?;
        let mut from = String::new();
        // From receiver to receiver: what waits for those that are known is passed over.
        while let Some(entry) = table.range((from.as_str(), 0)..)?.next() {
            let receiver = entry?.0.value().0.to_owned();
            if !is_known(&receiver) {
                for entry in table.range(after(&receiver, 0))?.take(GIVEN_UP_MAX) {
                    let (key, bytes) = entry?;
                    let waiting: Waiting = decode(bytes.value())?;
                    if waiting.put_us < before_us {
                        old.push((key.value().1, waiting));
                    }
                }
            }
            from = format!("{receiver}\0");
        }
    }
    if old.is_empty() {
        return Ok(0);
    }
    let why = "the alerts file has not had its receiver for long";
    let count = old.len() as u64;
    let txn = db.begin_write()?;
    for (number, Waiting { notice, .. }) in old {
        let outcome = outcome_of(&notice, why);
        let receiver = notice.receiver.clone();
        let dead = Dead { notice, dead_us: now_us, why: why.to_owned(), attempts: 0, superseded: false };
        bury(&txn, &receiver, number, &dead, &outcome)?;
    }
    txn.commit()?;
    Ok(count)
}

/// Removes the dead that died before a time. How many.
pub(crate) fn purge(db: &Database, before_us: i64) -> Result<u64> {
    if db.begin_read()?.open_table(DEAD)?.is_empty()? {
        return Ok(0);
    }
    let txn = db.begin_write()?;
    let mut removed = 0;
    {
        let mut table = txn.open_table(DEAD)?;
        let mut old = Vec::new();
        for entry in table.iter()? {
            let (key, bytes) = entry?;
            if decode::<Dead>(bytes.value())?.dead_us < before_us {
                let (receiver, number) = key.value();
                old.push((receiver.to_owned(), number));
            }
        }
        for (receiver, number) in old {
            table.remove((receiver.as_str(), number))?;
            removed += 1;
        }
    }
    txn.commit()?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::testing::notice;

    fn open(folder: &std::path::Path) -> Database {
        let db = Database::create(folder.join("book.redb")).unwrap();
        prepare(&db, [7; 16]).unwrap();
        db
    }

    fn put_all(db: &Database, notices: &[Notice]) {
        let txn = db.begin_write().unwrap();
        notices.iter().for_each(|notice| put(&txn, notice).unwrap());
        txn.commit().unwrap();
    }

    fn outcome() -> Outcome {
        Outcome {
            receiver: "a".to_owned(),
            target: "slack".to_owned(),
            outcome: "dead".to_owned(),
            kind: "incident".to_owned(),
            incident: 1,
            reason: "trigger".to_owned(),
            number: 1,
            key: "key".to_owned(),
            attempts: 3,
            at_us: 5,
            took_us: 4,
            said: "no".to_owned(),
        }
    }

    #[test]
    fn notices_are_there_once_committed_in_their_order_and_the_id_stays() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let told = |receiver: &str, number| notice(receiver, 1, Reason::Trigger, number);
        put_all(&db, &[told("a", 1), told("b", 1), told("a", 2)]);
        let txn = db.begin_write().unwrap();
        put(&txn, &told("a", 99)).unwrap();
        drop(txn);
        drop(db);
        let db = open(folder.path());
        prepare(&db, [9; 16]).unwrap();
        assert_eq!(hub_id(&db).unwrap(), "07".repeat(16));
        put_all(&db, &[told("a", 3)]);
        let numbers = |receiver, after| {
            let found = waiting_after(&db, receiver, after, 10).unwrap();
            found.into_iter().map(|(at, waiting)| (at, waiting.notice.number)).collect::<Vec<_>>()
        };
        assert_eq!(numbers("a", 0), [(1, 1), (3, 2), (4, 3)]);
        assert_eq!(numbers("a", 3), [(4, 3)]);
        assert_eq!(numbers("b", 0), [(2, 1)]);
        assert_eq!(numbers("", 0), []);
    }

    fn resolve<'a>(numbers: &'a [u64], account: &'a Account, replays: u64) -> Delivery<'a> {
        let open = OpenChange::Over(1);
        Delivery { numbers, outcomes: &[], account, open, resolved: Some(1), replays, now_us: 60 }
    }

    fn dead_of(notice: Notice) -> Dead {
        Dead { notice, dead_us: 10, why: "no".to_owned(), attempts: 3, superseded: false }
    }

    #[test]
    fn a_replay_and_what_is_under_way_do_not_cross() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let all = [
            notice("a", 1, Reason::Trigger, 1),
            notice("a", 1, Reason::Resolve, 2),
            notice("a", 2, Reason::Trigger, 1),
        ];
        put_all(&db, &all);
        let account = Account::default();
        assert!(buried(&db, "a", 1, &dead_of(all[0].clone()), &outcome(), &account, 0).unwrap());
        keep_gone(&db, "a", 1).unwrap();
        assert_eq!(replay(&db, "a", None, 50).unwrap(), 1);
        // Decided before the replay: not done.
        assert!(!buried(&db, "a", 3, &dead_of(all[2].clone()), &outcome(), &account, 0).unwrap());
        assert_eq!(standing(&db, "a").unwrap().gone, None);
        assert_eq!(waiting_after(&db, "a", 0, 10).unwrap().len(), 3);
        // The end was on its way when its trigger was taken back: it does not open the incident again.
        delivered(&db, "a", &resolve(&[2], &account, 0)).unwrap();
        let left: Vec<u64> =
            waiting_after(&db, "a", 0, 10).unwrap().iter().map(|(number, _)| *number).collect();
        assert_eq!(left, [3]);
        let dead = dead(&db, "a", 10).unwrap();
        assert!(dead.len() == 1 && dead[0].0 == 1 && dead[0].1.superseded);
    }

    #[test]
    fn a_dead_end_closes_what_is_told_again_and_a_dead_watchdog_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let told = notice("a", 1, Reason::Trigger, 1);
        let dog = Notice { kind: crate::notify::Kind::Watchdog, ..notice("a", 0, Reason::Trigger, 1) };
        put_all(&db, &[told.clone(), notice("a", 1, Reason::Resolve, 2), dog.clone()]);
        let account = Account::default();
        let opened = Delivery { open: OpenChange::Told(&told), resolved: None, ..resolve(&[1], &account, 0) };
        delivered(&db, "a", &opened).unwrap();
        assert_eq!(open_all(&db, "a").unwrap().len(), 1);
        let end = dead_of(notice("a", 1, Reason::Resolve, 2));
        assert!(buried(&db, "a", 2, &end, &outcome(), &account, 0).unwrap());
        assert_eq!(open_all(&db, "a").unwrap().len(), 0);
        assert!(buried(&db, "a", 3, &dead_of(dog), &outcome(), &account, 0).unwrap());
        let dead = dead(&db, "a", 10).unwrap();
        assert_eq!(dead.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
        assert_eq!(outcomes(&db, 10).unwrap().len(), 2, "both are recorded");
    }

    #[test]
    fn what_waits_for_nobody_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let at = |receiver: &str, at_us| Notice { at_us, ..notice(receiver, 1, Reason::Trigger, 1) };
        put_all(&db, &[at("left", 10), at("here", 10), at("left", 30), at("a", 10), at("left2", 10)]);
        let run = || give_up(&db, 20, 99, |name| name == "here", |_, _| outcome()).unwrap();
        assert_eq!((run(), run()), (3, 0));
        let dead_now = |name| dead(&db, name, 10).unwrap().len();
        assert_eq!(["left", "here", "a", "left2"].map(dead_now), [1, 0, 1, 1]);
        assert_eq!(waiting_after(&db, "left", 0, 10).unwrap().len(), 1);
        assert!(knows(&db, "here").unwrap() && knows(&db, "a").unwrap() && !knows(&db, "b").unwrap());
    }

    #[test]
    fn the_dead_come_back_in_order_but_not_over_a_resolve() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(folder.path());
        let all = [
            notice("a", 1, Reason::Trigger, 1),
            notice("a", 2, Reason::Trigger, 1),
            notice("a", 1, Reason::Resolve, 2),
            notice("a", 2, Reason::Update, 2),
        ];
        put_all(&db, &all);
        let mut account = Account::default();
        for number in [1, 2, 4] {
            let told = waiting(&db, "a", number).unwrap().unwrap().notice;
            let dead = Dead { notice: told, dead_us: 10, why: "no".to_owned(), attempts: 3, superseded: false };
            account.dead += 1;
            assert!(buried(&db, "a", number, &dead, &outcome(), &account, 0).unwrap());
        }
        keep_gone(&db, "a", 1).unwrap();
        delivered(&db, "a", &resolve(&[3], &account, 0)).unwrap();
        assert_eq!(figures(&db).unwrap()["a"], Figures { waiting: 0, dead: 3, oldest_us: None });
        assert_eq!(replay(&db, "a", None, 50).unwrap(), 2);
        let back: Vec<_> = waiting_after(&db, "a", 0, 10).unwrap();
        let back: Vec<_> = back
            .into_iter()
            .map(|(number, w)| (number, w.notice.incident, w.notice.number, w.put_us))
            .collect();
        assert_eq!(back, [(2, 2, 1, 50), (4, 2, 2, 50)], "in their old places");
        assert_eq!(super::account(&db, "a").unwrap(), Account { dead: 3, ..Account::default() });
        assert_eq!(standing(&db, "a").unwrap(), Standing { gone: None, replays: 1 });
        let left = dead(&db, "a", 10).unwrap();
        assert!(left.len() == 1 && left[0].1.superseded);
        assert_eq!(purge(&db, 10).unwrap(), 0);
        assert_eq!(purge(&db, 11).unwrap(), 1);
        let outcomes_now: Vec<u64> = outcomes(&db, 10).unwrap().into_iter().map(|(number, _)| number).collect();
        assert_eq!(outcomes_now.len(), 3);
        forget_outcomes(&db, &outcomes_now[..2]).unwrap();
        assert_eq!(outcomes(&db, 10).unwrap().len(), 1);
    }
}
