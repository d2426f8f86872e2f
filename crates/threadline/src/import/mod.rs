//! Brings files of JSON lines and of OTLP/JSON lines to a hub or into a data folder.
//!
//! Vocabulary:
//! - *chunk*: some consecutive lines of a file ([`input`]), the unit of work;
//! - *mapping*: which field of a line becomes what ([`threadline_model::jsonl`]);
//! - *sink*: where records go ([`sink`]).
//!
//! One thread reads and decompresses; workers parse chunks, encode them as OTLP requests and send them, each one
//! request at a time. A line that cannot be taken is counted with its reason, and the import goes on. Records of
//! different chunks may arrive in another order than they stand in the file.

mod encode;
pub mod follow;
pub mod input;
pub(crate) mod otlp_lines;
pub mod progress;
pub mod sink;
pub mod summary;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use threadline_model::jsonl::{self, LineError, LineParser, Mapping, Record};
use threadline_model::otlp;
use threadline_model::schema::Table;

use self::encode::RequestBuilder;
use self::input::{Chunk, Lines};
use self::otlp_lines::{Part, Parts};
use self::progress::{Counters, Progress};
use self::sink::{Payload, Sink, SinkError, Taken};
use self::summary::Summary;

/// What lines are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// Told line by line.
    #[default]
    Auto,
    /// One record per line.
    Ndjson,
    /// One OTLP/JSON request per line.
    OtlpJson,
}

/// What to import, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Files; `-` for standard input.
    pub files: Vec<PathBuf>,
    /// Which field becomes what.
    pub mapping: Arc<Mapping>,
    /// What lines are.
    pub format: LineFormat,
    /// Lines per request at most.
    pub batch_lines: usize,
    /// Bytes of a line at most.
    pub line_bytes_max: usize,
    /// Requests in flight.
    pub workers: usize,
}

/// A chunk and the file it comes from.
type Work = (Arc<str>, Chunk);

/// Imports. The summary of what was done so far comes with an error, too.
///
/// # Errors
/// When a file cannot be read or nobody takes the records.
pub fn run(options: &Options, sink: &dyn Sink) -> (Summary, Duration, Result<(), SinkError>) {
    let counters = Counters::default();
    let progress = Progress::new(&options.files);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Summary::default(), Ok(())));
    let workers = options.workers.max(1);
    let (send, receive) = sync_channel::<Work>(workers);
    let receive = Mutex::new(receive);
    let (alive, ended) = channel::<()>();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let alive = alive.clone();
            let (receive, counters, stop, total) = (&receive, &counters, &stop, &total);
            scope.spawn(move || {
                let mut worker = Worker::new(options, sink, counters);
                let outcome = worker.work(receive, stop);
                stop.fetch_or(outcome.is_err(), Ordering::Relaxed);
                conclude(total, worker.summary, outcome);
                drop(alive);
            });
        }
        let (counters, stop, total) = (&counters, &stop, &total);
        scope.spawn(move || {
            let outcome = read_files(options, counters, stop, send);
            conclude(total, Summary::default(), outcome);
            drop(alive);
        });
        // Every thread holds a sender; when the last is gone, all is done.
        while ended.recv_timeout(Progress::PERIOD) == Err(RecvTimeoutError::Timeout) {
            progress.show(counters);
        }
    });
    let (summary, outcome) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    (summary, progress.end(), outcome)
}

fn conclude(total: &Mutex<(Summary, Result<(), SinkError>)>, summary: Summary, outcome: Result<(), SinkError>) {
    let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
    total.0.merge(summary);
    if total.1.is_ok() {
        total.1 = outcome;
    }
}

fn read_files(
    options: &Options,
    counters: &Counters,
    stop: &AtomicBool,
    send: SyncSender<Work>,
) -> Result<(), SinkError> {
    for path in &options.files {
        let name: Arc<str> = Arc::from(path.display().to_string());
        let failed = |error: std::io::Error| SinkError::Failed(format!("{name}: {error}"));
        let input = input::open(path, &counters.read).map_err(failed)?;
        let mut lines = Lines::new(input, options.line_bytes_max, options.batch_lines);
        while let Some(chunk) = lines.next_chunk().map_err(failed)? {
            if stop.load(Ordering::Relaxed) || send.send((Arc::clone(&name), chunk)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Parses, encodes and sends chunks.
struct Worker<'a> {
    options: &'a Options,
    sink: &'a dyn Sink,
    counters: &'a Counters,
    parser: LineParser,
    logs: RequestBuilder,
    spans: RequestBuilder,
    parts: Parts,
    summary: Summary,
}

impl<'a> Worker<'a> {
    fn new(options: &'a Options, sink: &'a dyn Sink, counters: &'a Counters) -> Self {
        Self {
            options,
            sink,
            counters,
            parser: LineParser::new(Arc::clone(&options.mapping)),
            logs: RequestBuilder::default(),
            spans: RequestBuilder::default(),
            parts: Parts::default(),
            summary: Summary::default(),
        }
    }

    fn work(&mut self, receive: &Mutex<Receiver<Work>>, stop: &AtomicBool) -> Result<(), SinkError> {
        loop {
            let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((file, chunk)) = next else { return Ok(()) };
            // After a failure elsewhere the rest is only taken off the queue, so that the reader can end.
            if !stop.load(Ordering::Relaxed) {
                self.chunk(&file, &chunk).inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            }
        }
    }

    fn chunk(&mut self, file: &str, chunk: &Chunk) -> Result<(), SinkError> {
        self.summary.bytes += chunk.text.len() as u64;
        for line in &chunk.too_long {
            let example = format!("more than {} bytes", self.options.line_bytes_max);
            self.summary.lines += 1;
            self.summary.reject("the line is too long", 1, file, *line, example);
        }
        for (number, line) in (chunk.first_line..).zip(chunk.text.split(|byte| *byte == b'\n')) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !jsonl::is_blank(line) {
                self.summary.lines += 1;
                if let Err(error) = self.line(line, number) {
                    self.summary.reject(error.kind(), 1, file, number, error.to_string());
                }
            }
        }
        self.send_records(file, chunk.first_line)?;
        self.send_parts(file)
    }

    fn line(&mut self, line: &[u8], number: u64) -> Result<(), LineError> {
        let otlp = match self.options.format {
            LineFormat::Auto => jsonl::is_otlp(line),
            LineFormat::Ndjson => false,
            LineFormat::OtlpJson => true,
        };
        if otlp {
            return self.parts.add(line, number);
        }
        let (logs, spans) = (&mut self.logs, &mut self.spans);
        let unread = self.parser.parse(line, |parsed| {
            match &parsed.record {
                Record::Log(log) => logs.log(&parsed.resource, &parsed.scope, log),
                Record::Span(span) => spans.span(&parsed.resource, &parsed.scope, span),
            }
            parsed.time_unread
        })?;
        self.summary.times_unread += u64::from(unread);
        Ok(())
    }

    fn send_records(&mut self, file: &str, line: u64) -> Result<(), SinkError> {
        for (table, builder) in [(Table::Logs, &mut self.logs), (Table::Spans, &mut self.spans)] {
            let records = builder.records() as u64;
            if records > 0 {
                let body = builder.finish();
                let payload = Payload { table, format: otlp::Format::Protobuf, body, records };
                let taken = self.sink.send(&payload);
                note(&mut self.summary, self.counters, &payload, taken, file, line)?;
            }
        }
        Ok(())
    }

    fn send_parts(&mut self, file: &str) -> Result<(), SinkError> {
        let Parts { logs, spans } = std::mem::take(&mut self.parts);
        self.send_json(file, Table::Logs, &logs)?;
        self.send_json(file, Table::Spans, &spans)
    }

    /// Sends parts in one request; when it is refused as a whole, its halves, down to the part that is wrong.
    fn send_json(&mut self, file: &str, table: Table, parts: &[Part]) -> Result<(), SinkError> {
        let Some(first) = parts.first() else { return Ok(()) };
        let payload = Payload {
            table,
            format: otlp::Format::Json,
            body: otlp_lines::request(table, parts),
            records: parts.iter().map(|part| part.records).sum(),
        };
        match self.sink.send(&payload) {
            Err(SinkError::Refused(_)) if parts.len() > 1 => {
                let (front, back) = parts.split_at(parts.len() / 2);
                self.send_json(file, table, front)?;
                self.send_json(file, table, back)
            }
            taken => note(&mut self.summary, self.counters, &payload, taken, file, first.line),
        }
    }
}

/// Counts what became of a request.
fn note(
    summary: &mut Summary,
    counters: &Counters,
    payload: &Payload,
    taken: Result<Taken, SinkError>,
    file: &str,
    line: u64,
) -> Result<(), SinkError> {
    let taken = match taken {
        Err(SinkError::Refused(message)) => Taken { refused: payload.records, message, ..Taken::default() },
        other => other?,
    };
    counters.records.fetch_add(taken.accepted, Ordering::Relaxed);
    match payload.table {
        Table::Logs => summary.logs += taken.accepted,
        Table::Spans => summary.spans += taken.accepted,
    }
    summary.duplicates += taken.duplicates;
    if taken.refused > 0 {
        summary.reject("refused by the store", taken.refused, file, line, taken.message);
    }
    Ok(())
}
