//! Opens a data folder: the lock, the node's id, recovery from the write-ahead log.

use std::any::Any;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use threadline_model::schema::Table;

use crate::codec::Encoders;
use crate::committer::Queue;
use crate::core::{Core, Counters, Progress, Status};
use crate::dedup::Window;
use crate::memory::Memory;
use crate::sealed::Sealed;
use crate::wal::{self, Log, PerTable, Replay, Replayed, Spares, Writer, WriterOptions, slot};
use crate::{Env, Options, StoreError};

const LOCK: &str = "LOCK";
const NODE: &str = "node";
const NODE_MAGIC: &[u8; 8] = b"TLNODE\0\x01";
const WAL: &str = "wal";
/// Attempts to read a folder while its owner changes it.
const READ_ATTEMPTS_MAX: usize = 20;
/// Attempts where what was read contradicts itself, which can come from reading while it changes.
const CORRUPT_ATTEMPTS_MAX: usize = 3;

/// Opens for writing and recovers.
pub(crate) fn open(root: &Path, options: Options, env: Env) -> Result<Core, StoreError> {
    let disk = Arc::clone(&env.disk);
    let dir = root.join(WAL);
    let io = |what: &'static str| {
        let root = root.display().to_string();
        move |source| StoreError::io(format!("{what} in {root}"), source)
    };
    disk.create_dir_all(&dir).map_err(io("making folders"))?;
    let guard = disk.lock(&root.join(LOCK)).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => StoreError::Locked { path: root.display().to_string() },
        _ => io("locking")(error),
    })?;
    let node = match read_node(root, &env)? {
        Some(node) => node,
        None => make_node(root, &env)?,
    };
    let wal = WriterOptions { disk: Arc::clone(&disk), dir, node, segment_bytes: options.wal_segment_bytes };
    let spares = Arc::new(Spares::default());
    spares.adopt(&wal).map_err(io("preparing the write-ahead log"))?;
    let sealed = Sealed::open(root, &options, env.clone(), node, false)?;
    let sealed_seq = sealed_seq(&sealed);
    let mut window = Window::new(options.dedup_window, options.dedup_ids_max);
    let memory = Memory::default();
    let replay = Replay { disk: &*disk, dir: &wal.dir, node, sealed: sealed_seq, live: false, until: None };
    let mut log = wal::replay(&replay, &mut |batch| {
        window.insert(batch.table, batch.id, batch.time_us);
        insert(&memory, &env, batch);
        Ok(())
    })?;
    log.check_gone(&wal.dir, sealed_seq)?;
    if let Some((number, end)) = log.last {
        wal::heal(&*disk, &wal.dir, number, end)?;
    }
    let ids = wal::ids_path(&wal.dir);
    if let Some(bytes) = wal::read_file(&*disk, &ids)? {
        window.prepend(&bytes, env.clock.now_us()).map_err(|what| {
            StoreError::corrupt(format!(
                "{}: {what}; without it, batches sent again may be kept twice",
                ids.display()
            ))
        })?;
    }
    raise(&mut log, &memory, sealed_seq);
    let writer = Writer::new(wal.clone(), &log, Arc::clone(&spares));
    let parts = Parts { sealed, memory, window, spares, writer: Some(writer), guard: Some(guard) };
    Ok(core(options, env, wal, parts))
}

/// Opens for reading, while another process may be writing.
pub(crate) fn open_read_only(root: &Path, env: Env) -> Result<Core, StoreError> {
    let missing = || StoreError::Invalid { detail: format!("there is no data in {}", root.display()) };
    let node = read_node(root, &env)?.ok_or_else(missing)?;
    let mut attempt = 1;
    loop {
        match read_once(root, node, &env) {
            // A segment or a file was reused or merged away between looking and reading: look again.
            Err(StoreError::Io { source, .. })
                if source.kind() == ErrorKind::NotFound && attempt < READ_ATTEMPTS_MAX => {}
            Err(StoreError::Corrupt { .. }) if attempt < CORRUPT_ATTEMPTS_MAX => {}
            other => return other,
        }
        attempt += 1;
    }
}

fn read_once(root: &Path, node: [u8; 16], env: &Env) -> Result<Core, StoreError> {
    let options = Options { threads: false, ..Options::default() };
    let disk = Arc::clone(&env.disk);
    let wal = WriterOptions {
        disk: Arc::clone(&disk),
        dir: root.join(WAL),
        node,
        segment_bytes: options.wal_segment_bytes,
    };
    // The log first: rows that go from there to files meanwhile are then in both, and left out below.
    let mut batches = Vec::new();
    let replay = Replay { disk: &*disk, dir: &wal.dir, node, sealed: [0; 2], live: true, until: None };
    let mut log = wal::replay(&replay, &mut |batch| {
        batches.push(batch);
        Ok(())
    })?;
    let sealed = Sealed::open(root, &options, env.clone(), node, true)?;
    let sealed_seq = sealed_seq(&sealed);
    log.check_gone(&wal.dir, sealed_seq)?;
    let memory = Memory::default();
    for batch in batches {
        insert(&memory, env, batch);
    }
    for table in Table::ALL {
        memory.drop_through(table, sealed_seq.get(slot(table)).copied().unwrap_or(0));
    }
    raise(&mut log, &memory, sealed_seq);
    let window = Window::new(options.dedup_window, options.dedup_ids_max);
    let parts = Parts { sealed, memory, window, spares: Arc::default(), writer: None, guard: None };
    Ok(core(options, env.clone(), wal, parts))
}

struct Parts {
    sealed: Sealed,
    memory: Memory,
    window: Window,
    spares: Arc<Spares>,
    writer: Option<Writer>,
    guard: Option<Box<dyn Any + Send + Sync>>,
}

fn core(options: Options, env: Env, wal: WriterOptions, parts: Parts) -> Core {
    let progress = Progress::default();
    progress.notify(parts.memory.state().last_seq);
    Core {
        options,
        env,
        read_only: parts.writer.is_none(),
        wal,
        sealed: parts.sealed,
        memory: parts.memory,
        queue: Queue::default(),
        encoders: Encoders::default(),
        writer: Mutex::new(parts.writer),
        window: Mutex::new(parts.window),
        spares: parts.spares,
        sealing: Mutex::default(),
        maintaining: Mutex::default(),
        status: Mutex::new(Status::default()),
        progress,
        counters: Counters::default(),
        stop: AtomicBool::new(false),
        guard: Mutex::new(parts.guard),
    }
}

fn sealed_seq(sealed: &Sealed) -> PerTable<i64> {
    let catalogue = sealed.catalogue();
    Table::ALL.map(|table| catalogue.sealed_seq(table))
}

fn insert(memory: &Memory, env: &Env, batch: Replayed) {
    let rows = batch.batches.into_iter().map(|rows| (batch.table, rows));
    memory.insert(rows, env.clock.monotonic());
}

/// Sequence numbers go on after what is in files, too.
fn raise(log: &mut Log, memory: &Memory, sealed_seq: PerTable<i64>) {
    let last = sealed_seq.into_iter().max().unwrap_or(0);
    memory.raise(last);
    log.next_seq = log.next_seq.max(last.saturating_add(1));
}

/// The node's id; `None` when the folder has none yet.
fn read_node(root: &Path, env: &Env) -> Result<Option<[u8; 16]>, StoreError> {
    let path = root.join(NODE);
    let Some(bytes) = wal::read_file(&*env.disk, &path)? else { return Ok(None) };
    let node = || {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let (magic, node) = content.split_first_chunk::<8>()?;
        let good = crc32c::crc32c(content) == u32::from_le_bytes(*crc) && magic == NODE_MAGIC;
        good.then(|| node.try_into().ok())?
    };
    let wrong = || StoreError::corrupt(format!("{} is not as it was written", path.display()));
    node().map(Some).ok_or_else(wrong)
}

fn make_node(root: &Path, env: &Env) -> Result<[u8; 16], StoreError> {
    let mut node = [0; 16];
    env.rng.fill(&mut node);
    let mut bytes = NODE_MAGIC.to_vec();
    bytes.extend_from_slice(&node);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    wal::replace_file(&*env.disk, &root.join(NODE), &bytes)?;
    Ok(node)
}
