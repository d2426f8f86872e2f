//! The hub's own records: what happens at its door goes into its own store, as `service:threadline`.
//!
//! Whoever notes something never waits: notes go through a queue with a bound to one thread, which writes them in
//! batches. Notes of a kind that strangers can cause at will (failed handshakes, rejected tokens, unknown paths) are
//! *merged*: of one event, reason, source, port and subject there is a record at once, and then one per interval with a count.
//! Notes that do not fit the queue, the table of what is merged, or a store that takes nothing for long, are counted,
//! and the count is a record too.
//!
//! It does not know what the notes say.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, AppendError, BatchId, Env, Store};

use super::names::{OF_REQUESTS, event, key, reason};
use crate::contract::Gatekeeper;
use crate::meters::Meters;

/// Name of the service that the hub's own records are of.
pub(crate) const SERVICE: &str = "threadline";
/// Notes that wait for the thread.
const QUEUE_MAX: usize = 8192;
/// Notes of one batch.
const BATCH_MAX: usize = 4096;
/// The thread writes at least this often when there is something to write.
const EVERY: Duration = Duration::from_millis(250);
/// After a record of something that is merged, the next of the same comes this much later.
const MERGE_EVERY: Duration = Duration::from_secs(10);
/// Kinds of things that are merged at once.
const MERGED_MAX: usize = 4096;
/// How often a batch is tried while the store takes nothing, and the longest pause in between.
const ATTEMPTS_MAX: u32 = 10;
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A value of a note.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Text(String),
    Int(i64),
    Double(f64),
    Bool(bool),
}

/// Notes with the same one are merged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MergeKey {
    pub(crate) event: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) source: IpAddr,
    pub(crate) port: u16,
    /// Who it is and what is concerned, of those who are known; strangers are all one.
    pub(crate) subject: String,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) event: &'static str,
    /// OTLP's number.
    pub(crate) severity: i32,
    /// For people.
    pub(crate) body: String,
    pub(crate) fields: Vec<(&'static str, Field)>,
    /// `None`: every one is a record of its own.
    pub(crate) merge: Option<MergeKey>,
    /// The trace of the request that it is about.
    pub(crate) trace: Option<(TraceId, SpanId)>,
    /// When, µs; set when it is noted.
    pub(crate) at_us: i64,
}

enum Message {
    Note(Box<Note>),
    Stop,
}

/// Where things are noted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    /// `None`: nothing is kept.
    queue: Option<SyncSender<Message>>,
    env: Env,
    meters: Arc<Meters>,
}

/// The thread that writes.
pub(crate) struct Writer {
    queue: SyncSender<Message>,
    thread: JoinHandle<()>,
}

/// The end of the queue that [`Waiting::start`] reads, until there is a store.
pub(crate) struct Waiting {
    queue: SyncSender<Message>,
    notes: Receiver<Message>,
}

impl Journal {
    /// A journal, and what becomes its thread once there is a store.
    pub(crate) fn new(env: Env, meters: Arc<Meters>) -> (Journal, Waiting) {
        let (queue, notes) = sync_channel(QUEUE_MAX);
        (Journal { queue: Some(queue.clone()), env, meters }, Waiting { queue, notes })
    }

    /// A journal that keeps nothing.
    pub(crate) fn nowhere(env: Env, meters: Arc<Meters>) -> Journal {
        Journal { queue: None, env, meters }
    }

    /// Notes something. Never waits.
    pub(crate) fn note(&self, mut note: Note) {
        let Some(queue) = &self.queue else { return };
        note.at_us = self.env.clock.now_us();
        if note.trace.is_none() && OF_REQUESTS.contains(&note.event) {
            // A request that belongs to no trace begins one here.
            let (mut trace, mut span) = ([0; 16], [0; 8]);
            self.env.rng.fill(&mut trace);
            self.env.rng.fill(&mut span);
            note.trace = Some((TraceId(trace), SpanId(span)));
        }
        match queue.try_send(Message::Note(Box::new(note))) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.meters.door.notes_unqueued.add(1),
            // The hub is stopping.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Waiting {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub(crate) fn start(
        self,
        store: Store,
        environment: &str,
        env: Env,
        meters: Arc<Meters>,
        gatekeeper: Gatekeeper,
    ) -> std::io::Result<Writer> {
        let Waiting { queue, notes } = self;
        let mut scribe = Scribe::new(store, environment, env, meters, gatekeeper);
        let thread = std::thread::Builder::new()
            .name("threadline-journal".to_owned())
            .spawn(move || scribe.run(&notes))?;
        Ok(Writer { queue, thread })
    }
}

impl Writer {
    /// Writes what was noted until now, and ends.
    pub(crate) fn stop(self) {
        // Waits for room; fails only if the thread has ended already.
        let _ = self.queue.send(Message::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the journal's thread ended abnormally");
        }
    }
}

/// Something that is merged.
struct Merged {
    /// The first note that is not written yet.
    note: Option<Note>,
    count: u64,
    /// When the last record of it was written, monotonic.
    written: Option<Duration>,
}

/// The thread's state.
struct Scribe {
    store: Store,
    env: Env,
    meters: Arc<Meters>,
    merged: HashMap<MergeKey, Merged>,
    ready: Vec<(Note, u64)>,
    /// Notes that were dropped and are in no record yet: for lack of room, and by the store.
    unqueued: u64,
    unkept: u64,
    unqueued_seen: u64,
    /// When the last record of what was dropped was written, monotonic.
    dropped_written: Option<Duration>,
    environment: String,
    instance: String,
    gatekeeper: Gatekeeper,
}

impl Scribe {
    fn new(store: Store, environment: &str, env: Env, meters: Arc<Meters>, gatekeeper: Gatekeeper) -> Self {
        let mut instance = [0; 8];
        env.rng.fill(&mut instance);
        Self {
            store,
            env,
            meters,
            merged: HashMap::new(),
            ready: Vec::new(),
            unqueued: 0,
            unkept: 0,
            unqueued_seen: 0,
            dropped_written: None,
            environment: environment.to_owned(),
            instance: format!("{:016x}", u64::from_be_bytes(instance)),
            gatekeeper,
        }
    }

    fn run(&mut self, notes: &Receiver<Message>) {
        let mut wait_from = self.env.clock.monotonic();
        loop {
            let left = EVERY.saturating_sub(self.env.clock.monotonic().saturating_sub(wait_from));
            let stop = match notes.recv_timeout(left) {
                Ok(Message::Note(note)) => {
                    self.take(*note);
                    if self.ready.len() < BATCH_MAX && !left.is_zero() {
                        continue;
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => true,
            };
            self.write(stop);
            if stop {
                return;
            }
            wait_from = self.env.clock.monotonic();
        }
    }

    fn take(&mut self, note: Note) {
        let Some(key) = note.merge.clone() else {
            self.ready.push((note, 1));
            return;
        };
        if self.merged.len() >= MERGED_MAX && !self.merged.contains_key(&key) {
            self.meters.door.notes_dropped.add(1);
            self.unqueued += 1;
            return;
        }
        let merged = self.merged.entry(key).or_insert(Merged { note: None, count: 0, written: None });
        merged.count += 1;
        merged.note.get_or_insert(note);
    }

    /// Writes what is due; at the end, all.
    fn write(&mut self, all: bool) {
        let now = self.env.clock.monotonic();
        let due = |written: Option<Duration>| {
            all || written.is_none_or(|written| now.saturating_sub(written) >= MERGE_EVERY)
        };
        self.merged.retain(|_, merged| {
            if !due(merged.written) {
                return true;
            }
            // Nothing for an interval: forgotten.
            let Some(note) = merged.note.take() else { return false };
            self.ready.push((note, std::mem::take(&mut merged.count)));
            merged.written = Some(now);
            true
        });
        self.note_dropped(all);
        while !self.ready.is_empty() {
            let batch: Vec<_> = self.ready.drain(..self.ready.len().min(BATCH_MAX)).collect();
            self.append(&batch, all);
        }
    }

    /// What was dropped is a record too: one at once, and then one per interval.
    fn note_dropped(&mut self, all: bool) {
        let unqueued = self.meters.door.notes_unqueued.get();
        self.unqueued += unqueued.saturating_sub(self.unqueued_seen);
        self.unqueued_seen = unqueued;
        let now = self.env.clock.monotonic();
        let due = self.dropped_written.is_none_or(|written| now.saturating_sub(written) >= MERGE_EVERY);
        if self.unqueued + self.unkept == 0 || !(due || all) {
            return;
        }
        self.dropped_written = Some(now);
        let (full, unkept) = (std::mem::take(&mut self.unqueued), std::mem::take(&mut self.unkept));
        let now = self.env.clock.now_us();
        for (reason, count) in [(reason::dropped::QUEUE_FULL, full), (reason::dropped::UNREACHABLE, unkept)] {
            if count > 0 {
                self.ready.push((dropped(reason, count, now), 1));
            }
        }
    }

    /// Gives a batch to the store, which may be busy for a while.
    fn append(&mut self, notes: &[(Note, u64)], stopping: bool) {
        let attempts = if stopping { 3 } else { ATTEMPTS_MAX };
        let mut id = [0; 16];
        self.env.rng.fill(&mut id);
        for _ in 0..attempts {
            let batch = match self.batch(notes) {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the hub's own records could not be built");
                    break;
                }
            };
            let append = Append { table: Table::Logs, id: BatchId(u128::from_be_bytes(id)), batch };
            match self.store.append_wait(append) {
                Ok(_) => {
                    self.meters.door.notes_written.add(notes.len() as u64);
                    return;
                }
                Err(AppendError::Busy { retry_after, .. }) => std::thread::sleep(retry_after.min(PAUSE_MAX)),
                Err(error) => {
                    tracing::warn!(%error, "the hub's own records are not kept");
                    break;
                }
            }
        }
        let count = notes.iter().map(|(_, count)| count).sum();
        self.meters.door.notes_dropped.add(count);
        self.unkept += count;
    }

    fn batch(
        &self,
        notes: &[(Note, u64)],
    ) -> Result<Option<arrow_array::RecordBatch>, arrow_schema::ArrowError> {
        let now = self.env.clock.now_us();
        let mut builder = BatchBuilder::new(self.store.layout(Table::Logs), now, RecordLimits::default());
        let mut resource = vec![
            ("service.name", Value::Str(SERVICE)),
            ("service.version", Value::Str(env!("CARGO_PKG_VERSION"))),
            ("service.instance.id", Value::Str(&self.instance)),
        ];
        if !self.environment.is_empty() {
            resource.push(("deployment.environment.name", Value::Str(&self.environment)));
        }
        // The hub's own records are checked, and secrets in what people typed masked, like all others.
        let mut inspector = self.gatekeeper.inspector();
        let resource = ResourceView { attributes: &resource, ..ResourceView::default() };
        inspector.resource(&resource, &mut builder);
        inspector.scope(&ScopeView { name: "threadline.door", ..ScopeView::default() }, &mut builder);
        for (note, count) in notes {
            let mut attributes: Vec<Attribute<'_>> =
                note.fields.iter().map(|(key, field)| (*key, field.value())).collect();
            if note.merge.is_some() {
                attributes.push((key::COUNT, Value::Int(i64::try_from(*count).unwrap_or(i64::MAX))));
            }
            let time = u64::try_from(note.at_us).unwrap_or(0).saturating_mul(1000);
            let log = LogView {
                time_unix_nano: time,
                observed_time_unix_nano: time,
                severity_number: note.severity,
                severity_text: crate::rows::severity_name(i64::from(note.severity)).unwrap_or_default(),
                event_name: note.event,
                body: Value::Str(&note.body),
                attributes: &attributes,
                trace_id: note.trace.map(|(trace, _)| trace),
                span_id: note.trace.map(|(_, span)| span),
                ..LogView::default()
            };
            if let Err((field, reason)) = inspector.log(&log, &mut builder) {
                tracing::error!(field, reason, "one of the hub's own records is not kept");
            }
        }
        builder.finish()
    }
}

impl Field {
    fn value(&self) -> Value<'_> {
        match self {
            Field::Text(text) => Value::Str(text),
            Field::Int(int) => Value::Int(*int),
            Field::Double(double) => Value::Double(*double),
            Field::Bool(bool) => Value::Bool(*bool),
        }
    }
}

fn dropped(reason: &'static str, count: u64, now_us: i64) -> Note {
    Note {
        event: event::DROPPED,
        severity: 13,
        body: format!("{count} of the hub's own records were dropped: {reason}"),
        fields: vec![
            (key::REASON, Field::Text(reason.to_owned())),
            (key::DROPPED_COUNT, Field::Int(i64::try_from(count).unwrap_or(i64::MAX))),
        ],
        merge: None,
        trace: None,
        at_us: now_us,
    }
}

#[cfg(test)]
mod tests {
    use threadline_query::lang;
    use threadline_query::search::{self, Order, SearchRequest, TimeRange};
    use threadline_store::Options;

    use super::*;

    fn note(reason: &'static str, source: u32) -> Note {
        let source = IpAddr::V4(source.into());
        Note {
            event: event::AUTHN_REJECTED,
            severity: 13,
            body: "no".to_owned(),
            fields: vec![(key::REASON, Field::Text(reason.to_owned()))],
            merge: Some(MergeKey {
                event: event::AUTHN_REJECTED,
                reason,
                source,
                port: 1,
                subject: String::new(),
            }),
            trace: None,
            at_us: 0,
        }
    }

    fn counts(store: &Store, query: &str) -> Vec<i64> {
        let request = SearchRequest {
            table: Table::Logs,
            expr: lang::parse(query).unwrap(),
            range: TimeRange::default(),
            limit: 10_000,
            after: None,
            order: Order::Oldest,
            columns: None,
        };
        let mut out = String::new();
        for batch in search::search(&store.snapshot(), &request, &threadline_query::Guard::default()).unwrap() {
            crate::rows::write_rows(Table::Logs, &batch.unwrap(), &mut out);
        }
        let count = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let attributes = &row["attributes"];
            attributes.get(key::COUNT).or(attributes.get(key::DROPPED_COUNT)).unwrap().as_i64().unwrap()
        };
        out.lines().map(count).collect()
    }

    fn store(folder: &std::path::Path) -> (Store, Env) {
        let env = Env::local();
        let options =
            Options { wal_segment_bytes: 4 << 20, disk_free_bytes_min: 1 << 20, ..Options::default() };
        (Store::open(folder, options, env.clone()).unwrap(), env)
    }

    #[test]
    fn a_flood_is_one_record_at_once_and_one_with_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let (store, env) = store(folder.path());
        let mut scribe = Scribe::new(store.clone(), "", env, Arc::new(Meters::new()), Gatekeeper::default());
        let now = scribe.env.clock.now_us();
        for round in 0..3 {
            for _ in 0..1000 {
                scribe.take(Note { at_us: now, ..note(reason::authn::MISSING, 1) });
            }
            scribe.write(round == 2);
        }
        scribe.take(Note { at_us: now, ..note(reason::authn::LOCKED, 1) });
        scribe.write(false);
        assert_eq!(counts(&store, "service:threadline threadline.reason:missing"), [1000, 2000]);
        assert_eq!(counts(&store, "service:threadline threadline.reason:locked"), [1]);
        store.close().unwrap();
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (store, env) = store(folder.path());
        let meters = Arc::new(Meters::new());
        let (journal, waiting) = Journal::new(env.clone(), Arc::clone(&meters));
        let sources = 2 * QUEUE_MAX as u32;
        for n in 0..sources {
            journal.note(note(reason::authn::MISSING, n));
        }
        assert_eq!(meters.door.notes_unqueued.get(), u64::from(sources) - QUEUE_MAX as u64);
        waiting.start(store.clone(), "", env, Arc::clone(&meters), Gatekeeper::default()).unwrap().stop();
        let kept: i64 = counts(&store, "service:threadline event:security.authn.rejected").iter().sum();
        let dropped: i64 = counts(&store, "service:threadline event:telemetry.dropped").iter().sum();
        assert_eq!((kept, kept + dropped), (MERGED_MAX as i64, i64::from(sources)));
        // A hub that has stopped takes no more, and does not mind.
        journal.note(note(reason::authn::MISSING, 1));
        store.close().unwrap();
    }
}
