//! `/api/v1/tail`: rows as they are acknowledged, as server-sent events (WHATWG HTML, section 9.2).

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures::Stream;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Response};
use threadline_model::columns::Batch;
use threadline_model::schema::Table;
use threadline_query::QueryError;
use threadline_query::search::Matcher;
use threadline_query::source::scope_of;
use threadline_store::{Tail, TailBatch};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::params::Params;
use super::problem::Problem;
use super::{Api, TAILS_MAX, text};
use crate::door::caller::Caller;
use crate::door::roles::Port;
use crate::rows::RowWriter;

/// Rows taken from the store at once.
const ROWS_MAX: usize = 1000;
/// How often a tail looks whether it is still wanted.
const WAIT: Duration = Duration::from_millis(250);
/// A comment is sent when nothing else was for this long.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Pieces between a tail and its client …
const PIECES_MAX: usize = 16;
/// … of this size, about.
const PIECE_BYTES: usize = 64 << 10;
/// A client that takes no piece for this long is disconnected.
const SLOW_TIMEOUT: Duration = Duration::from_secs(10);

/// What is said after all pieces.
type LastWord = Arc<Mutex<Option<String>>>;

/// `GET /api/v1/tail`.
pub(crate) fn tail(
    api: &Arc<Api>,
    params: &Params,
    headers: &HeaderMap,
    caller: &Caller,
) -> Result<Response<Body>, Problem> {
    let (table, expr) = (params.table()?, params.search()?);
    let from_seq = match headers.get("last-event-id") {
        Some(id) => {
            let seen = id.to_str().ok().and_then(|id| id.trim().parse::<i64>().ok());
            seen.and_then(|seen| seen.checked_add(1))
                .ok_or_else(|| Problem::parameter("Last-Event-ID", "must be the id of an event of this tail"))?
        }
        None => match params.sequence("from_seq")? {
            Some(seq) => seq,
            None => api.store.snapshot().last_seq + 1,
        },
    };
    if api.stopping.load(Ordering::Relaxed) {
        return Err(Problem::stopping());
    }
    let matcher = Matcher::new(&expr, table)?;
    let slot = Arc::clone(&api.tails)
        .try_acquire_owned()
        .map_err(|_| Problem::busy(format!("{TAILS_MAX} tails are open, no more are taken: close one")))?;
    api.meters.tails.add(1);

    let (pieces, received) = mpsc::channel(PIECES_MAX);
    // The body ends with the last sender; its last word must be there by then.
    let open = pieces.clone();
    let last_word = LastWord::default();
    let follower = Follower {
        api: Arc::clone(api),
        tail: api.store.tail_of(from_seq, scope_of(&expr)),
        table,
        matcher,
        pieces,
        runtime: api.gate.runtime().clone(),
        sent: Instant::now(),
        caller: caller.clone(),
    };
    let word = Arc::clone(&last_word);
    api.gate.runtime().spawn_blocking(move || {
        let ended = follower.follow();
        *word.lock().unwrap_or_else(PoisonError::into_inner) = ended;
        drop((open, slot));
    });
    let mut response = text("text/event-stream", String::new());
    *response.body_mut() = Body::from_stream(Events { received, last_word });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// One tail on its thread.
struct Follower {
    api: Arc<Api>,
    tail: Tail,
    table: Table,
    matcher: Matcher,
    pieces: mpsc::Sender<Bytes>,
    runtime: Handle,
    /// When something was sent last.
    sent: Instant,
    caller: Caller,
}

impl Follower {
    /// Follows until the client goes, the hub stops, or something fails; then the last event, if there is one.
    fn follow(mut self) -> Option<String> {
        let mut out = String::from(": tail\n\n");
        loop {
            if self.api.stopping.load(Ordering::Relaxed) {
                return Some(event("stopping", &Problem::stopping()));
            }
            if !self.api.door.is_still_in(&self.caller, Port::Api) {
                return Some(event("ended", &Problem::ended()));
            }
            let batches = match self.tail.next(ROWS_MAX) {
                Ok(batches) => batches,
                Err(error) => return Some(event("error", &QueryError::from(error).into())),
            };
            let idle = batches.is_empty();
            for batch in &batches {
                match self.rows(batch, &mut out) {
                    Ok(true) => {}
                    Ok(false) => return Some(self.slow()),
                    Err(error) => return Some(event("error", &error.into())),
                }
            }
            if out.is_empty() && self.sent.elapsed() >= HEARTBEAT {
                let _ = write!(out, ": heartbeat\nid: {}\n\n", self.tail.position() - 1);
            }
            if !self.send(&mut out) {
                return Some(self.slow());
            }
            if self.pieces.is_closed() {
                return None;
            }
            if idle {
                self.tail.wait(WAIT);
            }
        }
    }

    /// Writes the rows that match. `false` when the client is too slow.
    fn rows(&mut self, tailed: &TailBatch, out: &mut String) -> Result<bool, QueryError> {
        if tailed.table != self.table {
            return Ok(true);
        }
        let matches = self.matcher.matches(&tailed.batch)?;
        let writer = RowWriter::new(self.table, &tailed.batch);
        let seq = Batch::new(&tailed.batch).int("seq");
        for row in (0..tailed.batch.num_rows()).filter(|row| matches.value(*row)) {
            let _ = write!(out, "id: {}\nevent: row\ndata: ", seq.get(row).unwrap_or(0));
            writer.row(row, out);
            out.push_str("\n\n");
            if out.len() >= PIECE_BYTES && !self.send(out) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends what there is. `false` when the client took nothing for too long.
    fn send(&mut self, out: &mut String) -> bool {
        if out.is_empty() {
            return true;
        }
        self.sent = Instant::now();
        let piece = Bytes::from(std::mem::take(out));
        let sent = self.runtime.block_on(tokio::time::timeout(SLOW_TIMEOUT, self.pieces.send(piece)));
        // A client that has gone is not slow.
        sent.is_ok()
    }

    fn slow(&self) -> String {
        let detail =
            format!("nothing was read for {SLOW_TIMEOUT:?}: read faster, and resume after the last id");
        event("slow", &Problem::busy(detail))
    }
}

fn event(name: &str, problem: &Problem) -> String {
    format!("event: {name}\ndata: {}\n\n", problem.json())
}

/// The body of a tail.
struct Events {
    received: mpsc::Receiver<Bytes>,
    last_word: LastWord,
}

impl Stream for Events {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let last_word = Arc::clone(&self.last_word);
        self.received.poll_recv(context).map(|piece| {
            let last = || last_word.lock().unwrap_or_else(PoisonError::into_inner).take().map(Bytes::from);
            piece.or_else(last).map(Ok)
        })
    }
}
