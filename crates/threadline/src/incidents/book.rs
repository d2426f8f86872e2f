//! The book: what incidents are kept in, one database, one commit for all that belongs together.
//!
//! Layout (`incidents/book.redb` in the data folder): `head` holds the desk's head, the next sequence number that findings
//! are read from, and the layout's version; `incidents` one entry per incident (bytes of the desk, checked); `timeline`
//! what happened in each, by incident and position (JSON); `timeline_counts` how many are kept and how many were one too
//! many; `findings` and `findings_of` which incidents have which finding, by its sequence number and by theirs; `pending`
//! transitions whose audit records are not known to be in the store (JSON). Delivery has tables of its own
//! ([`crate::notify`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableDatabase as _, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use threadline_detect::incident::{Changes, Desk, Policy, State};

use super::finding::Finding;
use super::transition::Kept;

const HEAD: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
const INCIDENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("incidents");
const TIMELINE: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("timeline");
const COUNTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("timeline_counts");
const FINDINGS: TableDefinition<'_, (i64, u64), ()> = TableDefinition::new("findings");
const FINDINGS_OF: TableDefinition<'_, (u64, i64), ()> = TableDefinition::new("findings_of");
const PENDING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pending");

const KEY_DESK: &str = "desk";
const KEY_NEXT_SEQ: &str = "next_seq";
const KEY_VERSION: &str = "version";
const VERSION: i64 = 1;

/// Findings, and transitions, that the timeline of an incident has at most; further ones are counted.
pub(crate) const FINDINGS_MAX: u64 = 1_000;
pub(crate) const TRANSITIONS_MAX: u64 = 1_000;
/// Findings of an incident that are known to be its own at most.
const KNOWN_MAX: u64 = 100_000;
/// Memory for pages of the database.
const CACHE_BYTES: usize = 16 << 20;

/// Why the book cannot be read or written.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Something of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Finding(Finding),
    Transition(Kept),
}

/// How much a timeline has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Findings in all, and those that are kept.
    pub(crate) findings: u64,
    pub(crate) findings_kept: u64,
    pub(crate) transitions: u64,
    pub(crate) transitions_kept: u64,
    /// Event time of the first and the last finding, µs.
    pub(crate) first_us: Option<i64>,
    pub(crate) last_us: Option<i64>,
}

/// What one commit writes.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) next_seq: i64,
    pub(super) changes: Changes,
    /// By incident, in order.
    pub(super) entries: Vec<(u64, Entry)>,
    /// Transitions whose records are to be made.
    pub(super) pending: Vec<Kept>,
    /// Those whose records are in the store.
    pub(super) done: Vec<u64>,
}

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Book(Arc<Database>);

impl Book {
    /// Opens it, or makes one whose findings begin at a sequence number.
    ///
    /// # Errors
    /// The disk, or a file that is none of ours.
    pub(crate) fn open(data: &Path, first_seq: i64) -> Result<Book, Fault> {
        let folder = data.join("incidents");
        std::fs::create_dir_all(&folder)?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        Book::begin(builder.create(folder.join("book.redb"))?, first_seq)
    }

    /// One on a disk that fails when it is told to.
    #[cfg(test)]
    pub(super) fn on(disk: impl redb::StorageBackend, first_seq: i64) -> Result<Book, Fault> {
        Book::begin(Database::builder().create_with_backend(disk)?, first_seq)
    }

    fn begin(database: Database, first_seq: i64) -> Result<Book, Fault> {
        let book = Book(Arc::new(database));
        let write = book.0.begin_write()?;
        {
            let mut head = write.open_table(HEAD)?;
            let version = number(head.get(KEY_VERSION)?.map(|bytes| bytes.value().to_vec()));
            match version {
                None => {
                    head.insert(KEY_VERSION, VERSION.to_le_bytes().as_slice())?;
                    head.insert(KEY_NEXT_SEQ, first_seq.to_le_bytes().as_slice())?;
                }
                Some(VERSION) => {}
                Some(other) => {
                    return Err(format!("its layout is version {other}; this hub reads {VERSION}").into());
                }
            }
            write.open_table(INCIDENTS)?;
            write.open_table(TIMELINE)?;
            write.open_table(COUNTS)?;
            write.open_table(FINDINGS)?;
            write.open_table(FINDINGS_OF)?;
            write.open_table(PENDING)?;
        }
        write.commit()?;
        Ok(book)
    }

    /// The database, which delivery shares.
    pub(crate) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.0)
    }

    /// The desk as it was committed last, and where findings are read from.
    ///
    /// # Errors
    /// The disk, or damage.
    pub(super) fn load(&self, policy: Policy) -> Result<(Desk, i64), Fault> {
        let read = self.0.begin_read()?;
        let head = read.open_table(HEAD)?;
        let next_seq = number(head.get(KEY_NEXT_SEQ)?.map(|bytes| bytes.value().to_vec())).unwrap_or(1);
        let Some(bytes) = head.get(KEY_DESK)? else { return Ok((Desk::new(policy)?, next_seq)) };
        let mut incidents = Vec::new();
        for entry in read.open_table(INCIDENTS)?.iter()? {
            incidents.push(entry?.1.value().to_vec());
        }
        Ok((Desk::restore_parts(policy, bytes.value(), incidents)?, next_seq))
    }

    /// Whether it can still be written: after an error of the disk it cannot, until it is opened again.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn probe(&self) -> Result<(), Fault> {
        Ok(self.0.begin_write()?.abort()?)
    }

    /// Transitions whose records are not known to be in the store, by number.
    ///
    /// # Errors
    /// The disk, or damage.
    pub(super) fn pending(&self) -> Result<BTreeMap<u64, Kept>, Fault> {
        let read = self.0.begin_read()?;
        let mut pending = BTreeMap::new();
        for entry in read.open_table(PENDING)?.iter()? {
            let (number, bytes) = entry?;
            pending.insert(number.value(), serde_json::from_slice(bytes.value())?);
        }
        Ok(pending)
    }

    /// Commits a page, the desk's part of it, and what `more` writes: all of it, or nothing.
    ///
    /// # Errors
    /// The disk; nothing is changed then.
    pub(super) fn commit(
        &self,
        desk: &Desk,
        page: &Page,
        more: impl FnOnce(&WriteTransaction) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let write = self.0.begin_write()?;
        {
            let mut head = write.open_table(HEAD)?;
            head.insert(KEY_NEXT_SEQ, page.next_seq.to_le_bytes().as_slice())?;
            if page.changes.head {
                head.insert(KEY_DESK, desk.head().as_slice())?;
            }
            let mut incidents = write.open_table(INCIDENTS)?;
            for id in &page.changes.incidents {
                if let Some(bytes) = desk.incident_bytes(*id) {
                    incidents.insert(id, bytes.as_slice())?;
                }
            }
            let mut timeline = write.open_table(TIMELINE)?;
            let mut counts = write.open_table(COUNTS)?;
            let mut holders = write.open_table(FINDINGS)?;
            let mut holdings = write.open_table(FINDINGS_OF)?;
            for id in &page.changes.removed {
                incidents.remove(id)?;
                counts.remove(id)?;
                timeline.retain_in((*id, 0)..=(*id, u64::MAX), |_, _| false)?;
                let mut seqs = Vec::new();
                holdings.retain_in((*id, i64::MIN)..=(*id, i64::MAX), |(_, seq), ()| {
                    seqs.push(seq);
                    false
                })?;
                for seq in seqs {
                    holders.remove((seq, *id))?;
                }
            }
            for (id, entry) in &page.entries {
                let known = counts.get(id)?.map(|bytes| serde_json::from_slice::<Counts>(bytes.value()));
                let mut count = known.transpose()?.unwrap_or_default();
                if count.take(entry) {
                    let position = count.findings_kept + count.transitions_kept;
                    timeline.insert((*id, position), serde_json::to_vec(entry)?.as_slice())?;
                }
                counts.insert(id, serde_json::to_vec(&count)?.as_slice())?;
                if let Entry::Finding(finding) = entry
                    && count.findings <= KNOWN_MAX
                {
                    holders.insert((finding.seq, *id), ())?;
                    holdings.insert((*id, finding.seq), ())?;
                }
            }
            let mut pending = write.open_table(PENDING)?;
            for kept in &page.pending {
                pending.insert(kept.number, serde_json::to_vec(kept)?.as_slice())?;
            }
            for number in &page.done {
                pending.remove(number)?;
            }
        }
        more(&write)?;
        write.commit()?;
        Ok(())
    }

    /// What happened in an incident, and in those that were merged into it, each in the order in which it was kept.
    ///
    /// # Errors
    /// The disk, or damage.
    pub(crate) fn timeline(&self, id: u64, merged: &[u64]) -> Result<(Vec<Entry>, Counts), Fault> {
        let read = self.0.begin_read()?;
        let counts = total(&read.open_table(COUNTS)?, id, merged)?;
        let timeline = read.open_table(TIMELINE)?;
        let mut entries = Vec::new();
        for id in [id].iter().chain(merged) {
            for entry in timeline.range((*id, 0)..=(*id, u64::MAX))? {
                entries.push(serde_json::from_slice(entry?.1.value())?);
            }
        }
        Ok((entries, counts))
    }

    /// Incidents that a finding is part of, by its sequence number.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn holders(&self, seq: i64) -> Result<Vec<u64>, Fault> {
        let read = self.0.begin_read()?;
        let table = read.open_table(FINDINGS)?;
        table.range((seq, 0)..=(seq, u64::MAX))?.map(|entry| Ok(entry?.0.value().1)).collect()
    }

    /// How much happened in some incidents.
    ///
    /// # Errors
    /// The disk, or damage.
    pub(crate) fn counts(
        &self,
        merged: &Merged,
        ids: impl IntoIterator<Item = u64>,
    ) -> Result<BTreeMap<u64, Counts>, Fault> {
        let read = self.0.begin_read()?;
        let table = read.open_table(COUNTS)?;
        ids.into_iter().map(|id| Ok((id, total(&table, id, &merged.parts(id))?))).collect()
    }
}

/// How much happened in an incident, as a commit will have it.
pub(super) fn counts_in(write: &WriteTransaction, merged: &Merged, id: u64) -> Result<Counts, Fault> {
    total(&write.open_table(COUNTS)?, id, &merged.parts(id))
}

/// How much happened in an incident: of its own, and in those that were merged into it.
fn total(table: &impl ReadableTable<u64, &'static [u8]>, id: u64, merged: &[u64]) -> Result<Counts, Fault> {
    let mut sum = Counts::default();
    for id in [id].iter().chain(merged) {
        if let Some(bytes) = table.get(*id)? {
            sum.add(&serde_json::from_slice(bytes.value())?);
        }
    }
    Ok(sum)
}

/// Which incidents were merged into which.
#[derive(Debug, Default)]
pub(crate) struct Merged(BTreeMap<u64, Vec<u64>>);

impl Merged {
    pub(crate) fn of(desk: &Desk) -> Merged {
        let mut merged: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for incident in desk.incidents().filter(|incident| incident.state == State::Merged) {
            merged.entry(incident.merged_into).or_default().push(incident.id);
        }
        Merged(merged)
    }

    /// Those that were merged into an incident, over however many steps.
    pub(crate) fn parts(&self, id: u64) -> Vec<u64> {
        let mut all: BTreeSet<u64> = BTreeSet::new();
        let mut next = vec![id];
        while let Some(of) = next.pop() {
            let merged = self.0.get(&of).into_iter().flatten();
            next.extend(merged.copied().filter(|merged| *merged != id && all.insert(*merged)));
        }
        all.into_iter().collect()
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.findings += other.findings;
        self.findings_kept += other.findings_kept;
        self.transitions += other.transitions;
        self.transitions_kept += other.transitions_kept;
        self.first_us = self.first_us.into_iter().chain(other.first_us).min();
        self.last_us = self.last_us.max(other.last_us);
    }

    /// Counts an entry; whether there is room to keep it.
    fn take(&mut self, entry: &Entry) -> bool {
        let (all, kept, max) = match entry {
            Entry::Finding(finding) => {
                let time_us = finding.time_us;
                self.first_us = Some(self.first_us.map_or(time_us, |first| first.min(time_us)));
                self.last_us = Some(self.last_us.map_or(time_us, |last| last.max(time_us)));
                (&mut self.findings, &mut self.findings_kept, FINDINGS_MAX)
            }
            Entry::Transition(_) => (&mut self.transitions, &mut self.transitions_kept, TRANSITIONS_MAX),
        };
        *all += 1;
        let room = *kept < max;
        *kept += u64::from(room);
        room
    }
}

fn number(bytes: Option<Vec<u8>>) -> Option<i64> {
    bytes?.try_into().ok().map(i64::from_le_bytes)
}
