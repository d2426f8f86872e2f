//! Sealed files and everything that belongs to them: Parquet files, the table log that names them, the Merkle log.
//!
//! Vocabulary:
//! - *seal*: rows become one file per hour (one more for those in quarantine), and one commit of the table log names them;
//! - *catalogue*: what the table logs say, in memory, as one immutable value;
//! - *orphan*: a file that no table log names; removed when the store is opened;
//! - *doomed*: a file that the table log has dropped but that a snapshot still reads.
//!
//! Order of durability: files with their names, then the commit that names them, then the Merkle log's leaves, then
//! the published catalogue. A crash in between leaves orphans, or a commit without leaves; opening mends both.
//!
//! It does not know the write-ahead log or the memory table.

pub(crate) mod cache;
pub(crate) mod catalogue;
pub(crate) mod elide;
pub(crate) mod fuse;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod leaves;
pub(crate) mod objects;
#[cfg(test)]
mod pack_tests;
pub(crate) mod packs;
pub(crate) mod pages;
pub(crate) mod reader;
pub(crate) mod row_root;
pub(crate) mod rows;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use threadline_model::id::hex;
use threadline_model::schema::{Layout, Table};

use crate::compact::is_draft;
use crate::merkle::MerkleLog;
use crate::table_log::{Action, Commit, Operation, TableLog, Txn, table_folder};
use crate::{Env, Options, StoreError, quarantine};
use cache::Cache;
use catalogue::{Catalogue, TAG_KEYS, TableCatalogue, add_of, hour_text, meta_of};
use keys::KeyCounts;
use leaves::leaves_of;
use objects::Objects;
use packs::Packs;
use reader::SealedFile;
use rows::{Pool, Run, by_hour, union_schema};
use writer::{Effort, FileWriter};

/// A rest of background work is never longer.
const REST_MAX: Duration = Duration::from_secs(2);
/// Least share of a core that maintenance gets.
const CPU_SHARE_MIN: f64 = 0.01;
/// As many drafts may wait before maintenance takes more than its share: two full groups.
const DRAFTS_WAITING: usize = 32;
/// Rows gathered at once.
pub(crate) const CHUNK_ROWS: usize = 2048;

/// Sealed files, table logs and Merkle log of a data folder.
pub(crate) struct Sealed {
    pub(crate) objects: Objects,
    pub(crate) options: Options,
    pub(crate) env: Env,
    /// `appId` in the table logs: the node id, hex.
    node: String,
    read_only: bool,
    cache: Arc<Cache>,
    logs: Mutex<Side>,
    spans: Mutex<Side>,
    /// `None` only when open for reading and there is none, or it is damaged.
    pub(crate) merkle: Mutex<Option<MerkleLog>>,
    /// Why there is no Merkle log.
    pub(crate) merkle_trouble: Option<String>,
    catalogue: RwLock<Arc<Catalogue>>,
    names: AtomicU64,
    /// Held by whoever rewrites files: compaction, retention, erasure.
    pub(crate) maintenance: Mutex<Maintenance>,
    pub(crate) compactions: AtomicU64,
    pub(crate) deleted_rows: AtomicU64,
}

/// What a round of maintenance knows from the one before.
#[derive(Default)]
pub(crate) struct Maintenance {
    /// How many retention rules had passed the end of a file when it was last looked at.
    pub(crate) examined: BTreeMap<(Table, String), usize>,
    /// Filter packs.
    pub(crate) packs: BTreeMap<Table, Packs>,
}

/// Counters since the store was opened, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Commits of compaction.
    pub(crate) compactions: u64,
    /// Rows deleted by retention and erasure.
    pub(crate) deleted_rows: u64,
    /// Leaves of the Merkle log, ever.
    pub(crate) merkle_leaves: u64,
    /// Bytes of parts of sealed files kept in memory, now.
    pub(crate) cache_bytes: usize,
}

/// What changes of one table. Held while a commit is under way.
pub(crate) struct Side {
    table: Table,
    pub(crate) log: TableLog,
    /// Sealed without a commit, because there were no rows.
    passed_seq: i64,
    /// Keys without a column, over the files of the table.
    keys: KeyCounts,
}

impl Side {
    fn txn(&self, node: &str) -> i64 {
        self.log.state().txns.get(node).map_or(0, |txn| txn.version)
    }
}

/// A file that is written and synced but not named yet.
pub(crate) struct Written {
    pub(crate) path: String,
    pub(crate) hour: i64,
    pub(crate) facts: writer::Facts,
}

impl Sealed {
    /// Opens tables and Merkle log of a data folder. Unless `read_only`: creates what is missing, removes orphans,
    /// appends leaves that a crash left out.
    pub(crate) fn open(
        root: &Path,
        options: &Options,
        env: Env,
        node: [u8; 16],
        read_only: bool,
    ) -> Result<Sealed, StoreError> {
        let objects = Objects::new(Arc::clone(&env.disk), root);
        let node = hex(&node);
        let used = Table::ALL
            .into_iter()
            .try_fold(false, |used, table| TableLog::exists(&objects, table).map(|exists| used || exists))?;
        let (merkle, merkle_trouble) = open_merkle(&objects, &node, &env, used, read_only)?;
        let side = |table| open_side(&objects, table, options, &env, read_only);
        let (logs, spans) = (side(Table::Logs)?, side(Table::Spans)?);
        let empty =
            |table| TableCatalogue { files: Vec::new(), sealed_seq: 0, layout: Arc::new(Layout::base(table)) };
        let catalogue = Catalogue { logs: empty(Table::Logs), spans: empty(Table::Spans) };
        let sealed = Sealed {
            objects,
            options: options.clone(),
            node,
            read_only,
            cache: Arc::new(Cache::new(options.cache_bytes_max)),
            logs: Mutex::new(logs),
            spans: Mutex::new(spans),
            merkle: Mutex::new(merkle),
            merkle_trouble,
            catalogue: RwLock::new(Arc::new(catalogue)),
            names: AtomicU64::new(0),
            maintenance: Mutex::default(),
            compactions: AtomicU64::new(0),
            deleted_rows: AtomicU64::new(0),
            env,
        };
        for table in Table::ALL {
            let side = sealed.side(table);
            if !read_only {
                sealed.remove_orphans(&side)?;
                sealed.log_leaves(&side)?;
            }
            sealed.publish(&side)?;
            drop(side);
            let packs = Packs::open(&sealed.objects, table, sealed.catalogue().files(table), &sealed.cache);
            let mut maintenance = sealed.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
            maintenance.packs.insert(table, packs);
        }
        Ok(sealed)
    }

    /// The files of both tables.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn side(&self, table: Table) -> MutexGuard<'_, Side> {
        let side = match table {
            Table::Logs => &self.logs,
            Table::Spans => &self.spans,
        };
        side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn writable(&self) -> Result<(), StoreError> {
        if self.read_only {
            return Err(StoreError::Invalid { detail: "the store is open for reading only".to_owned() });
        }
        Ok(())
    }

    /// Makes rows of a table into files and commits them: afterwards the catalogue's `sealed_seq` is at least
    /// `through_seq`. All rows have `seq`; none is above `through_seq`; missing columns are null. Rows that are sealed
    /// already are passed over, so a seal that failed is simply done again.
    ///
    /// Without rows no commit is made: the catalogue moves on in memory only. After a restart `sealed_seq` may be
    /// lower, by sequence numbers that have no rows in this table.
    pub(crate) fn seal(
        &self,
        table: Table,
        batches: &[RecordBatch],
        through_seq: i64,
    ) -> Result<(), StoreError> {
        self.writable()?;
        let mut side = self.side(table);
        let batches = unsealed(batches, side.txn(&self.node), through_seq)?;
        if batches.is_empty() || side.txn(&self.node) >= through_seq {
            side.passed_seq = side.passed_seq.max(through_seq);
            self.log_leaves(&side)?;
            return self.publish(&side);
        }
        let written = self.write_files(&side, &batches)?;
        let keys = KeyCounts::count(&batches);
        let actions = self.seal_actions(&side, &written, &keys, through_seq)?;
        self.commit_seal(&mut side, &written, &actions, through_seq)?;
        side.keys.add(&keys);
        // Published before the leaves: the commit stands, and a failure below is mended by the next call.
        self.publish(&side)?;
        self.log_leaves(&side)
    }

    fn seal_actions(
        &self,
        side: &Side,
        written: &[Written],
        keys: &KeyCounts,
        through_seq: i64,
    ) -> Result<Vec<Action>, StoreError> {
        let now = self.env.clock.now_us();
        let rows: u64 = written.iter().map(|file| file.facts.rows).sum();
        let mut actions = vec![Action::commit_info(Operation::Seal, now, &[("rows", rows.to_string())])];
        let mut all_keys = side.keys.clone();
        all_keys.add(keys);
        let table_rows: u64 =
            self.catalogue().table(side.table).files.iter().map(|file| file.meta().rows).sum::<u64>() + rows;
        if let (Some(layout), Some(meta_data)) =
            (all_keys.promote(&side.log.layout()?, table_rows), &side.log.state().meta_data)
        {
            actions.push(Action::meta_data(meta_data.with_layout(&layout)?));
        }
        actions.push(Action::txn(Txn {
            app_id: self.node.clone(),
            version: through_seq,
            last_updated: Some(now / 1000),
        }));
        // The counts are of the whole seal: they go with one of its files.
        let mut tag = keys.to_tag();
        actions.extend(
            written.iter().map(|file| Action::add(add_of(&file.path, file.hour, &file.facts, tag.take(), now))),
        );
        Ok(actions)
    }

    /// Commits until the table is at `through_seq`, by this commit or by an earlier attempt that had taken place after
    /// all. Files that the log does not name in the end are removed.
    fn commit_seal(
        &self,
        side: &mut Side,
        written: &[Written],
        actions: &[Action],
        through_seq: i64,
    ) -> Result<(), StoreError> {
        let mut result = Ok(Commit::Conflict);
        while matches!(result, Ok(Commit::Conflict)) && side.txn(&self.node) < through_seq {
            result = side.log.commit(actions);
        }
        if let Err(error) = result {
            // The log itself says whether the commit took place. When it cannot be read either, nothing is removed:
            // the next commit meets its conflict and learns.
            if side.log.refresh(false).is_err() {
                return Err(error);
            }
            if side.txn(&self.node) < through_seq {
                self.discard_unnamed(side, written);
                return Err(error);
            }
        }
        self.discard_unnamed(side, written);
        Ok(())
    }

    /// Removes written files that no commit names. Best effort: what stays is an orphan.
    pub(crate) fn discard_unnamed(&self, side: &Side, written: &[Written]) {
        for file in written.iter().filter(|file| !side.log.state().files.contains_key(&file.path)) {
            let _ = self.objects.delete(&format!("{}/{}", table_folder(side.table), file.path));
        }
    }

    /// Appends the leaves of all commits that the Merkle log does not cover yet.
    pub(crate) fn log_leaves(&self, side: &Side) -> Result<(), StoreError> {
        let mut merkle = self.merkle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(merkle) = merkle.as_mut() else { return Ok(()) };
        merkle.recover()?;
        for version in merkle.covers().get(side.table) + 1..=side.log.state().version {
            let (actions, sha256) = side.log.read(version)?.ok_or_else(|| {
                StoreError::corrupt(format!("commit {version} of table {} is missing", side.table.name()))
            })?;
            merkle.append(side.table, version, &leaves_of(side.table, version, &actions, &sha256))?;
        }
        Ok(())
    }

    /// Commits a change of files that were read before: only if all of them are still in the table. On success the
    /// catalogue is published. `written` is discarded when nothing comes of it.
    pub(crate) fn commit_change(
        &self,
        table: Table,
        inputs: &[Arc<SealedFile>],
        written: &[Written],
        actions: &[Action],
    ) -> Result<bool, StoreError> {
        let mut side = self.side(table);
        let mut result = Ok(Commit::Conflict);
        while matches!(result, Ok(Commit::Conflict)) {
            if !inputs.iter().all(|file| side.log.state().files.contains_key(&file.meta().path)) {
                self.discard_unnamed(&side, written);
                self.publish(&side)?;
                return Ok(false);
            }
            result = side.log.commit(actions);
        }
        if let Err(error) = result {
            // As after a failed seal: the log says what happened.
            if side.log.refresh(false).is_err() {
                return Err(error);
            }
            let gone = inputs.iter().all(|file| !side.log.state().files.contains_key(&file.meta().path));
            if !gone {
                self.discard_unnamed(&side, written);
                return Err(error);
            }
        }
        self.publish(&side)?;
        self.log_leaves(&side)?;
        Ok(true)
    }

    /// Copies the rows of some files, in file order and filtered by `keep`, into one file of the same hour. `None`
    /// when no row is left.
    pub(crate) fn rewrite(
        &self,
        table: Table,
        inputs: &[Arc<SealedFile>],
        keep: Option<&dyn Fn(&RecordBatch) -> Result<BooleanArray, StoreError>>,
    ) -> Result<Option<Written>, StoreError> {
        let Some(hour) = inputs.first().map(|file| file.meta().hour) else { return Ok(None) };
        let (layout, path) = {
            let side = self.side(table);
            (side.log.layout()?, self.name(&side, hour))
        };
        let schemas = inputs.iter().map(|file| file.schema()).collect::<Result<Vec<_>, _>>()?;
        let schema = union_schema(&layout, schemas.iter().map(AsRef::as_ref))?;
        let scans = inputs
            .iter()
            .map(|file| file.scan(None, &crate::Prune::default()))
            .collect::<Result<Vec<_>, _>>()?;
        let key = format!("{}/{path}", table_folder(table));
        let elide = self.options.elide_ids;
        let mut writer = FileWriter::create(&self.objects, &key, table, &schema, elide, Effort::Lasting)?;
        let mut pace = Pace::new(self);
        rows::merge(scans, &schema, CHUNK_ROWS, |batch| {
            let batch = match keep {
                Some(keep) => filter_record_batch(&batch, &keep(&batch)?)?,
                None => batch,
            };
            if batch.num_rows() > 0 {
                writer.write(&batch)?;
            }
            pace.rest();
            Ok(())
        })?;
        if writer.rows() == 0 {
            return Ok(None);
        }
        Ok(Some(Written { path, hour, facts: writer.finish()? }))
    }

    /// One round of maintenance: checkpoints of the table logs, retention, then one compaction or filter pack per
    /// table. Whether there was anything to do.
    pub(crate) fn maintain(&self) -> Result<bool, StoreError> {
        self.writable()?;
        let mut maintenance = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = false;
        for table in Table::ALL {
            self.side(table).log.checkpoint_when_due()?;
            done |= self.retain_by_age(table, &mut maintenance)?;
        }
        done |= self.retain_by_size()?;
        let mut settled = Vec::new();
        for table in Table::ALL {
            let compacted = self.compact(table)?;
            settled.extend((!compacted).then_some(table));
            done |= compacted;
        }
        // Last, and only for files that stay: a pack that cannot be written keeps nothing else from being done.
        for table in settled {
            done |= self.pack(table, maintenance.packs.entry(table).or_default())?;
        }
        Ok(done)
    }

    /// The share of one core that maintenance may use now.
    pub(crate) fn cpu_share(&self) -> f64 {
        let catalogue = self.catalogue();
        let drafts = Table::ALL.iter().map(|&table| catalogue.drafts(table)).sum();
        cpu_share(self.options.maintenance_cpu_share, drafts)
    }

    /// Counters since the store was opened, and the size of the Merkle log.
    pub(crate) fn counters(&self) -> Counters {
        let merkle = self.merkle.lock().unwrap_or_else(PoisonError::into_inner);
        Counters {
            compactions: self.compactions.load(Ordering::Relaxed),
            deleted_rows: self.deleted_rows.load(Ordering::Relaxed),
            merkle_leaves: merkle.as_ref().map_or(0, MerkleLog::size),
            cache_bytes: self.cache.bytes(),
        }
    }

    /// One file per hour, in file order; for what is in quarantine, another.
    fn write_files(&self, side: &Side, batches: &[RecordBatch]) -> Result<Vec<Written>, StoreError> {
        let mut written = Vec::new();
        // What is in quarantine lies in files of its own.
        for part in quarantine::split(batches)? {
            if let Err(error) = self.write_hours(side, &part, &mut written) {
                self.discard_unnamed(side, &written);
                return Err(error);
            }
        }
        Ok(written)
    }

    fn write_hours(
        &self,
        side: &Side,
        batches: &[RecordBatch],
        written: &mut Vec<Written>,
    ) -> Result<(), StoreError> {
        if batches.is_empty() {
            return Ok(());
        }
        let layout = side.log.layout()?;
        let schema = union_schema(&layout, batches.iter().map(|batch| batch.schema_ref().as_ref()))?;
        let pool = Pool::new(batches, &schema)?;
        for (hour, rows) in by_hour(batches)? {
            written.push(self.write_hour(side, &pool, &schema, hour, &rows)?);
        }
        Ok(())
    }

    fn write_hour(
        &self,
        side: &Side,
        pool: &Pool,
        schema: &SchemaRef,
        hour: i64,
        rows: &[Run],
    ) -> Result<Written, StoreError> {
        let path = self.name(side, hour);
        let key = format!("{}/{path}", table_folder(side.table));
        let count = rows.iter().map(|run| run.rows()).sum();
        let draft = is_draft(hour, count, self.options.compact_rows as u64, self.env.clock.now_us());
        let effort = if draft { Effort::Draft } else { Effort::Lasting };
        let elide = self.options.elide_ids;
        let mut writer = FileWriter::create(&self.objects, &key, side.table, schema, elide, effort)?;
        pool.gather(rows, CHUNK_ROWS, &mut |batch| writer.write(&batch))?;
        Ok(Written { path, hour, facts: writer.finish()? })
    }

    /// A path that no committed file has: the version keeps runs apart, the counter files of one run.
    fn name(&self, side: &Side, hour: i64) -> String {
        let counter = self.names.fetch_add(1, Ordering::Relaxed);
        let node = self.node.get(..8).unwrap_or_default();
        format!("hour={}/{:010}-{counter:06}-{node}.parquet", hour_text(hour), side.log.state().version + 1)
    }

    /// Publishes a table's state as the new catalogue. Files that are no longer named are doomed.
    fn publish(&self, side: &Side) -> Result<(), StoreError> {
        let layout = Arc::new(side.log.layout()?);
        let mut guard = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        let mut known: BTreeMap<&str, &Arc<SealedFile>> =
            guard.table(side.table).files.iter().map(|file| (file.meta().path.as_str(), file)).collect();
        let mut files = Vec::with_capacity(side.log.state().files.len());
        for add in side.log.state().files.values() {
            match known.remove(add.path.as_str()) {
                Some(file) => files.push(Arc::clone(file)),
                None => {
                    let (meta, services, head) = meta_of(side.table, add)?;
                    let key = format!("{}/{}", table_folder(side.table), add.path);
                    let cache = Arc::clone(&self.cache);
                    files.push(Arc::new(SealedFile::new(
                        meta,
                        services,
                        self.objects.clone(),
                        key,
                        head,
                        cache,
                    )));
                }
            }
        }
        known.values().for_each(|file| file.doom());
        let old = guard.table(side.table);
        let layout = if *old.layout == *layout { Arc::clone(&old.layout) } else { layout };
        let sealed_seq = side.txn(&self.node).max(side.passed_seq);
        let mut catalogue = Catalogue::clone(&guard);
        *catalogue.table_mut(side.table) = TableCatalogue { files, sealed_seq, layout };
        let old = std::mem::replace(&mut *guard, Arc::new(catalogue));
        drop(guard);
        // Doomed files may be removed here: not under the lock.
        drop(old);
        Ok(())
    }

    /// Removes files that the table log does not name: what a crash left, or what was doomed when the process ended.
    fn remove_orphans(&self, side: &Side) -> Result<(), StoreError> {
        let context = |error| StoreError::io(format!("tidying table {}", side.table.name()), error);
        side.log.tidy()?;
        let folder = table_folder(side.table);
        for hour in self.objects.list(&folder).map_err(context)? {
            if !hour.is_dir || !hour.name.starts_with("hour=") {
                continue;
            }
            for file in self.objects.list(&format!("{folder}/{}", hour.name)).map_err(context)? {
                let path = format!("{}/{}", hour.name, file.name);
                if !file.is_dir && !side.log.state().files.contains_key(&path) {
                    self.objects.delete(&format!("{folder}/{path}")).map_err(context)?;
                }
            }
        }
        Ok(())
    }
}

/// Opens one table.
fn open_side(
    objects: &Objects,
    table: Table,
    options: &Options,
    env: &Env,
    read_only: bool,
) -> Result<Side, StoreError> {
    let id = || {
        let mut id = [0; 16];
        env.rng.fill(&mut id);
        id
    };
    let log = TableLog::open(objects, table, read_only, id, options.elide_ids, env.clock.now_us())?;
    let mut keys = KeyCounts::default();
    for add in log.state().files.values() {
        if let Some(tag) = add.tags.as_ref().and_then(|tags| tags.get(TAG_KEYS)) {
            keys.add(&KeyCounts::from_tag(tag));
        }
    }
    Ok(Side { table, log, passed_seq: 0, keys })
}

/// Opens the Merkle log. A damaged one does not keep readers from the tables: why it is missing comes with `None`.
fn open_merkle(
    objects: &Objects,
    node: &str,
    env: &Env,
    used: bool,
    read_only: bool,
) -> Result<(Option<MerkleLog>, Option<String>), StoreError> {
    if read_only && !used {
        return Ok((None, None));
    }
    let rng = (!read_only).then_some(env.rng.as_ref());
    match MerkleLog::open(objects, node, rng, used) {
        Ok(log) => Ok((Some(log), None)),
        Err(error) if read_only => Ok((None, Some(error.to_string()))),
        Err(error) => Err(error),
    }
}

/// Keeps background work within its share of one core.
pub(crate) struct Pace {
    share: f64,
    /// CPU time of this thread when it last rested.
    since: Duration,
    threads: bool,
}

impl Pace {
    /// Starts to work.
    pub(crate) fn new(sealed: &Sealed) -> Pace {
        Pace { share: sealed.cpu_share(), since: thread_cpu(), threads: sealed.options.threads }
    }

    /// After some work: sleeps as long as the share asks for. Never without threads.
    pub(crate) fn rest(&mut self) {
        if self.threads {
            let worked = thread_cpu().saturating_sub(self.since);
            std::thread::sleep(owed(worked, worked, self.share).min(REST_MAX));
            self.since = thread_cpu();
        }
    }
}

/// CPU time that this thread has used.
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// The share of one core that maintenance may use while so many drafts wait: what is set as long as it keeps up. Beyond
/// that it grows with the drafts, up to a whole core, so that their number finds a level.
fn cpu_share(set: f64, drafts: usize) -> f64 {
    let behind = drafts as f64 / DRAFTS_WAITING as f64;
    (set.max(CPU_SHARE_MIN) * behind.max(1.0)).min(1.0)
}

/// How long work that used so much CPU within this time must still rest for its share.
pub(crate) fn owed(cpu: Duration, took: Duration, share: f64) -> Duration {
    cpu.div_f64(share).saturating_sub(took)
}

/// The rows above `sealed`. They must be at most `through`.
fn unsealed(batches: &[RecordBatch], sealed: i64, through: i64) -> Result<Vec<RecordBatch>, StoreError> {
    let mut kept = Vec::with_capacity(batches.len());
    for batch in batches {
        if batch.num_rows() == 0 {
            continue;
        }
        let seq = batch.column_by_name("seq").and_then(|array| array.as_primitive_opt::<Int64Type>());
        let seq =
            seq.ok_or_else(|| StoreError::Invalid { detail: "rows without seq cannot be sealed".to_owned() })?;
        let (low, high) =
            seq.values().iter().fold((i64::MAX, i64::MIN), |(low, high), &seq| (low.min(seq), high.max(seq)));
        if high > through {
            let detail = format!("a row with sequence number {high} is not part of a seal through {through}");
            return Err(StoreError::Invalid { detail });
        }
        if low > sealed {
            kept.push(batch.clone());
        } else if high > sealed {
            let above = seq.values().iter().map(|&seq| Some(seq > sealed)).collect();
            kept.push(filter_record_batch(batch, &above)?);
        }
    }
    Ok(kept)
}
