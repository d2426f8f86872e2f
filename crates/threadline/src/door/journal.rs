//! The hub's own records: what happens at its door goes into its own store, as `service:threadline`.
//!
//! Notes go through a queue with a bound to one thread, which writes them in batches. Whoever notes something never waits,
//! but for an *audit note*: who wants to make one takes a place in the queue beforehand, and does not begin what is to be
//! recorded where there is none. The place is free again when the note is in the store, so that no audit note is ever
//! dropped: where the store takes nothing, they are kept, and in the end nothing that is to be recorded begins any more.
//! Notes of a kind that strangers can cause at will (failed handshakes, rejected tokens, unknown paths) are
//! *merged*: of one event, reason, source, port and subject there is a record at once, and then one per interval with a count.
//! Other notes that do not fit the queue, the table of what is merged, or a store that takes nothing for long, are counted,
//! and the count is a record too.
//!
//! It does not know what the notes say.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::id::{SpanId, TraceId};
use threadline_model::record::{Attribute, LogView, ResourceView, ScopeView};
use threadline_model::schema::Table;
use threadline_model::value::Value;
use threadline_store::{Append, AppendError, BatchId, Env, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::names::{OF_REQUESTS, event, key, reason};
use crate::contract::Gatekeeper;
use crate::meters::Meters;

pub(crate) use threadline_detect::finding::SERVICE;
/// Notes that wait for the thread.
const QUEUE_MAX: usize = 8192;
/// Audit notes that wait for the thread or for the store, or that are still to be made.
pub(crate) const AUDITS_MAX: usize = 2048;
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
    Audit(Box<Note>, Place),
    Stop,
}

/// A place in the queue for one audit note.
#[derive(Debug)]
pub(crate) struct Place {
    /// `None`: of a journal that keeps nothing.
    _permit: Option<OwnedSemaphorePermit>,
}

/// Where things are noted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    /// `None`: nothing is kept.
    queue: Option<Sender<Message>>,
    /// Notes in the queue, without audit notes.
    waiting: Arc<AtomicUsize>,
    places: Arc<Semaphore>,
    env: Env,
    meters: Arc<Meters>,
}

/// The thread that writes.
pub(crate) struct Writer {
    queue: Sender<Message>,
    thread: JoinHandle<()>,
}

/// The end of the queue that [`Waiting::start`] reads, until there is a store.
pub(crate) struct Waiting {
    queue: Sender<Message>,
    notes: Receiver<Message>,
    waiting: Arc<AtomicUsize>,
}

impl Journal {
    /// A journal, and what becomes its thread once there is a store.
    pub(crate) fn new(env: Env, meters: Arc<Meters>) -> (Journal, Waiting) {
        let (queue, notes) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let journal = Journal {
            queue: Some(queue.clone()),
            waiting: Arc::clone(&waiting),
            ..Journal::nowhere(env, meters)
        };
        (journal, Waiting { queue, notes, waiting })
    }

    /// A journal that keeps nothing.
    pub(crate) fn nowhere(env: Env, meters: Arc<Meters>) -> Journal {
        Journal {
            queue: None,
            waiting: Arc::default(),
            places: Arc::new(Semaphore::new(AUDITS_MAX)),
            env,
            meters,
        }
    }

    /// Notes something. Never waits.
    pub(crate) fn note(&self, note: Note) {
        let Some(queue) = &self.queue else { return };
        let message = Message::Note(Box::new(self.dated(note)));
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.meters.door.notes_unqueued.add(1);
            return;
        }
        // Fails only when the hub is stopping.
        let _ = queue.send(message);
    }

    /// A place for an audit note; waits for one that long at most.
    pub(crate) async fn place(&self, wait: Duration) -> Option<Place> {
        if self.queue.is_none() {
            return Some(Place { _permit: None });
        }
        let places = Arc::clone(&self.places);
        if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            return Some(Place { _permit: Some(permit) });
        }
        let permit = tokio::time::timeout(wait, places.acquire_owned()).await;
        Some(Place { _permit: Some(permit.ok()?.ok()?) })
    }

    /// Notes something that must not get lost.
    pub(crate) fn audit(&self, note: Note, place: Place) {
        let Some(queue) = &self.queue else { return };
        if queue.send(Message::Audit(Box::new(self.dated(note)), place)).is_err() {
            self.meters.door.notes_dropped.add(1);
            tracing::error!("an audit record came after the hub had stopped");
        }
    }

    fn dated(&self, mut note: Note) -> Note {
        note.at_us = self.env.clock.now_us();
        if note.trace.is_none() && OF_REQUESTS.contains(&note.event) {
            // A request that belongs to no trace begins one here.
            let (mut trace, mut span) = ([0; 16], [0; 8]);
            self.env.rng.fill(&mut trace);
            self.env.rng.fill(&mut span);
            note.trace = Some((TraceId(trace), SpanId(span)));
        }
        note
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
        let Waiting { queue, notes, waiting } = self;
        let mut scribe = Scribe::new(store, environment, env, meters, gatekeeper);
        scribe.waiting = waiting;
        let thread = std::thread::Builder::new()
            .name("threadline-journal".to_owned())
            .spawn(move || scribe.run(&notes))?;
        Ok(Writer { queue, thread })
    }
}

impl Writer {
    /// Writes what was noted until now, and ends.
    pub(crate) fn stop(self) {
        // Fails only if the thread has ended already.
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

/// A note that is to be written, with how many it stands for; an audit note keeps its place until it is.
struct Ready {
    note: Note,
    count: u64,
    place: Option<Place>,
}

/// The thread's state.
struct Scribe {
    store: Store,
    env: Env,
    meters: Arc<Meters>,
    merged: HashMap<MergeKey, Merged>,
    ready: Vec<Ready>,
    /// Notes in the queue.
    waiting: Arc<AtomicUsize>,
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
            waiting: Arc::default(),
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
                Ok(message @ (Message::Note(_) | Message::Audit(..))) => {
                    match message {
                        Message::Audit(note, place) => {
                            self.ready.push(Ready { note: *note, count: 1, place: Some(place) });
                        }
                        Message::Note(note) => {
                            self.waiting.fetch_sub(1, Ordering::Relaxed);
                            self.take(*note);
                        }
                        Message::Stop => {}
                    }
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
            self.ready.push(Ready { note, count: 1, place: None });
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
            self.ready.push(Ready { note, count: std::mem::take(&mut merged.count), place: None });
            merged.written = Some(now);
            true
        });
        self.note_dropped(all);
        let mut kept = Vec::new();
        while !self.ready.is_empty() && kept.is_empty() {
            let batch: Vec<_> = self.ready.drain(..self.ready.len().min(BATCH_MAX)).collect();
            kept = self.append(batch, all);
        }
        if !kept.is_empty() && all {
            self.meters.door.notes_dropped.add(kept.len() as u64);
            tracing::error!("{} audit records are not kept: the store took nothing until the end", kept.len());
        }
        // They go first the next time.
        kept.append(&mut self.ready);
        self.ready = kept;
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
                self.ready.push(Ready { note: dropped(reason, count, now), count: 1, place: None });
            }
        }
    }

    /// Gives a batch to the store, which may be busy for a while. The audit notes that it did not take, to be given again.
    fn append(&mut self, mut notes: Vec<Ready>, stopping: bool) -> Vec<Ready> {
        let attempts = if stopping { 3 } else { ATTEMPTS_MAX };
        let mut id = [0; 16];
        self.env.rng.fill(&mut id);
        for _ in 0..attempts {
            let batch = match self.batch(&notes) {
                Ok(Some(batch)) => batch,
                // Given again they would be no better.
                Ok(None) => return self.lose(notes),
                Err(error) => {
                    tracing::error!(%error, "the hub's own records could not be built");
                    return self.lose(notes);
                }
            };
            let append = Append { table: Table::Logs, id: BatchId(u128::from_be_bytes(id)), batch };
            match self.store.append_wait(append) {
                Ok(_) => {
                    self.meters.door.notes_written.add(notes.len() as u64);
                    return Vec::new();
                }
                Err(AppendError::Busy { retry_after, .. }) => std::thread::sleep(retry_after.min(PAUSE_MAX)),
                Err(AppendError::TooLarge { .. }) if notes.len() > 1 => {
                    let rest = notes.split_off(notes.len() / 2);
                    let mut kept = self.append(notes, stopping);
                    kept.extend(self.append(rest, stopping));
                    return kept;
                }
                Err(error @ AppendError::TooLarge { .. }) => {
                    tracing::error!(%error, "one of the hub's own records is not kept");
                    return self.lose(notes);
                }
                Err(error) => {
                    tracing::warn!(%error, "the hub's own records are not kept");
                    break;
                }
            }
        }
        let (audits, others) = notes.into_iter().partition(|ready| ready.place.is_some());
        self.lose(others);
        audits
    }

    /// Counts notes that nobody will see.
    fn lose(&mut self, notes: Vec<Ready>) -> Vec<Ready> {
        let count = notes.iter().map(|ready| ready.count).sum();
        self.meters.door.notes_dropped.add(count);
        self.unkept += count;
        Vec::new()
    }

    fn batch(&self, notes: &[Ready]) -> Result<Option<arrow_array::RecordBatch>, arrow_schema::ArrowError> {
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
        for Ready { note, count, .. } in notes {
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

    #[test]
    fn an_audit_note_waits_for_a_store_that_takes_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let place = |journal: &Journal| runtime.block_on(journal.place(Duration::from_millis(5)));
        let folder = tempfile::tempdir().unwrap();
        let env = Env::local();
        let meters = Arc::new(Meters::new());
        let (journal, waiting) = Journal::new(env.clone(), Arc::clone(&meters));
        for n in 0..AUDITS_MAX {
            let audit = Note { merge: None, ..note(reason::authn::MISSING, n as u32) };
            journal.audit(audit, place(&journal).unwrap());
        }
        assert!(place(&journal).is_none(), "there is no place, and nobody is let in who needs one");
        // Nothing is kept on a disk that is full …
        let full = Options { wal_segment_bytes: 4 << 20, disk_free_bytes_min: u64::MAX, ..Options::default() };
        let busy = Store::open(&folder.path().join("a"), full, env.clone()).unwrap();
        let mut scribe = Scribe::new(busy.clone(), "", env.clone(), Arc::clone(&meters), Gatekeeper::default());
        let Waiting { queue, notes, .. } = waiting;
        while let Ok(message) = notes.try_recv() {
            let Message::Audit(note, place) = message else { panic!("audit notes only") };
            scribe.ready.push(Ready { note: *note, count: 1, place: Some(place) });
        }
        scribe.ready.push(Ready { note: note(reason::authn::LOCKED, 1), count: 1, place: None });
        scribe.write(true);
        assert_eq!((scribe.ready.len(), meters.door.notes_dropped.get()), (AUDITS_MAX, 1 + AUDITS_MAX as u64));
        assert!(place(&journal).is_none());
        busy.close().unwrap();
        // … and all of it on one that has room again.
        let (store, _) = store(&folder.path().join("b"));
        scribe.store = store.clone();
        scribe.write(false);
        assert!(scribe.ready.is_empty() && place(&journal).is_some());
        let request = lang::parse("service:threadline event:security.authn.rejected").unwrap();
        let guard = threadline_query::Guard::default();
        let kept = threadline_query::counts::count(
            &store.snapshot(),
            Table::Logs,
            &request,
            TimeRange::default(),
            &guard,
        );
        assert_eq!(kept.unwrap(), AUDITS_MAX as u64);
        store.close().unwrap();
        drop(queue);
    }
}
