//! Runs queries on threads of their own: so many at once, within a deadline, cancelled when nobody waits any more.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use threadline_query::{Guard, QueryError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::problem::Problem;
use crate::meters::{Meters, QueryKind};

/// Queries that may wait, per query that may run.
const WAITING_PER_SLOT: usize = 4;
/// How long a query waits for its turn at most.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// A piece of a streamed reply is sent at this size, or when its batch of rows ends.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces between a query and a client that reads slowly.
const PIECES_MAX: usize = 4;
/// A query whose client takes no piece for this long is ended, so that it does not hold its slot.
const SLOW_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs queries.
pub(crate) struct Gate {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    timeout: Duration,
    memory_bytes_max: usize,
    /// The runtime whose threads queries run on.
    runtime: Handle,
    meters: Arc<Meters>,
    stopping: Arc<AtomicBool>,
}

/// Cancels a query when dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts one as waiting until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a query is given to write its rows to.
pub(crate) struct Lines {
    text: String,
    pieces: mpsc::Sender<Bytes>,
    runtime: Handle,
}

/// Why a streamed reply ended early; set before its last sender is dropped.
type Failure = Arc<Mutex<Option<Problem>>>;

impl Lines {
    /// The text to append whole lines to.
    pub(crate) fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Call it after each batch, and within large ones: sends what is due, and waits for slow clients.
    pub(crate) fn flush_if(&mut self, due: bool) -> Result<(), QueryError> {
        if self.text.is_empty() || !(due || self.text.len() >= PIECE_BYTES) {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.text));
        match self.runtime.block_on(tokio::time::timeout(SLOW_TIMEOUT, self.pieces.send(piece))) {
            Ok(Ok(())) => Ok(()),
            // The client has gone.
            Ok(Err(_)) => Err(QueryError::Cancelled),
            Err(_) => Err(QueryError::Timeout),
        }
    }
}

impl Gate {
    /// A gate for `queries_max` queries at once.
    pub(crate) fn new(
        settings: &crate::settings::Settings,
        runtime: Handle,
        meters: Arc<Meters>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let queries_max = settings.queries_max.max(1);
        Self {
            slots: Arc::new(Semaphore::new(queries_max)),
            waiting: AtomicUsize::new(0),
            waiting_max: queries_max.saturating_mul(WAITING_PER_SLOT),
            timeout: settings.query_timeout,
            memory_bytes_max: settings.query_memory_bytes_max,
            runtime,
            meters,
            stopping,
        }
    }

    /// The runtime whose threads queries run on.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Problem::stopping());
        }
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let refused = |detail: String| {
            self.meters.queries_refused.add(1);
            Problem::busy(detail)
        };
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::Relaxed) >= self.waiting_max {
            return Err(refused(format!("{} queries wait already: ask again later", self.waiting_max)));
        }
        let slot = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(&self.slots).acquire_owned()).await;
        match slot {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(refused(format!("no query ended within {TURN_TIMEOUT:?}: ask again later"))),
        }
    }

    fn guard(&self) -> (Guard, CancelOnDrop) {
        let cancelled = Arc::new(AtomicBool::new(false));
        let guard = Guard {
            deadline: Instant::now().checked_add(self.timeout),
            cancelled: Arc::clone(&cancelled),
            memory_bytes_max: self.memory_bytes_max,
        };
        (guard, CancelOnDrop(cancelled))
    }

    fn done<T>(meters: &Meters, kind: QueryKind, started: Instant, outcome: &Result<T, QueryError>) {
        let meters = meters.query(kind);
        meters.latency.record(started.elapsed());
        if outcome.is_err() {
            meters.errors.add(1);
        }
    }

    /// Runs a query that has one answer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        kind: QueryKind,
        query: impl FnOnce(&Guard) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, Problem> {
        let slot = self.turn().await?;
        let (guard, _cancel) = self.guard();
        let meters = Arc::clone(&self.meters);
        let answer = self.runtime.spawn_blocking(move || {
            let started = Instant::now();
            let answer = query(&guard);
            Self::done(&meters, kind, started, &answer);
            drop(slot);
            answer
        });
        Ok(answer.await.map_err(|error| abnormal(&error))??)
    }

    /// Runs a query that writes lines. The reply begins with the first of them, so that a query that fails before is
    /// a proper problem; one that fails later ends with a line that says so.
    pub(crate) async fn stream(
        &self,
        kind: QueryKind,
        query: impl FnOnce(&Guard, &mut Lines) -> Result<(), QueryError> + Send + 'static,
    ) -> Result<Response<Body>, Problem> {
        let slot = self.turn().await?;
        let (guard, cancel) = self.guard();
        let meters = Arc::clone(&self.meters);
        let (pieces, mut received) = mpsc::channel(PIECES_MAX);
        let mut lines = Lines { text: String::new(), pieces, runtime: self.runtime.clone() };
        let failure = Failure::default();
        let failed = Arc::clone(&failure);
        self.runtime.spawn_blocking(move || {
            let started = Instant::now();
            // A stream that just ends would look complete.
            let caught = std::panic::catch_unwind(AssertUnwindSafe(|| query(&guard, &mut lines)));
            let outcome = caught
                .unwrap_or_else(|_| Err(QueryError::Internal("the query ended abnormally".to_owned())))
                .and_then(|()| lines.flush_if(true));
            Self::done(&meters, kind, started, &outcome);
            drop(slot);
            if let Err(error) = outcome {
                // Whole rows that are there go first, unless their client does not take them.
                if !matches!(error, QueryError::Cancelled) {
                    let _ = lines.flush_if(true);
                }
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.into());
            }
        });
        let first = received.recv().await;
        if first.is_none()
            && let Some(problem) = failure.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Err(problem);
        }
        let body = Body::from_stream(Pieces { first, received, failure, _cancel: cancel });
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        Ok(response)
    }
}

fn abnormal(error: &tokio::task::JoinError) -> Problem {
    tracing::error!(%error, "a query ended abnormally");
    Problem::internal("the query ended abnormally; the hub's log says why")
}

/// The body of a streamed reply. Dropping it cancels the query.
struct Pieces {
    first: Option<Bytes>,
    received: mpsc::Receiver<Bytes>,
    failure: Failure,
    _cancel: CancelOnDrop,
}

impl Stream for Pieces {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return std::task::Poll::Ready(Some(Ok(first)));
        }
        let failure = Arc::clone(&self.failure);
        self.received.poll_recv(context).map(|piece| {
            let last_line = || {
                let problem = failure.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                Some(Bytes::from(format!("{{\"error\":{}}}\n", problem.json())))
            };
            piece.or_else(last_line).map(Ok)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use http_body_util::BodyExt as _;

    use super::*;
    use crate::settings::Settings;

    fn gate(queries_max: usize) -> Arc<Gate> {
        let settings = Settings { queries_max, ..Settings::default() };
        let runtime = Handle::current();
        Arc::new(Gate::new(&settings, runtime, Arc::new(Meters::new()), Arc::new(AtomicBool::new(false))))
    }

    fn problem(problem: &Problem) -> (u64, String) {
        let json = problem.json();
        let kind = json["type"].as_str().unwrap_or_default();
        (json["status"].as_u64().unwrap_or(0), kind.rsplit(':').next().unwrap_or_default().to_owned())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn so_many_run_so_many_wait_and_the_next_is_refused() {
        let gate = gate(1);
        let (release, released) = std_mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let spawn = || {
            let (gate, released) = (Arc::clone(&gate), Arc::clone(&released));
            tokio::spawn(async move {
                let query = move |_: &Guard| {
                    let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Ok(())
                };
                gate.run(QueryKind::Search, query).await
            })
        };
        let queries: Vec<_> = (0..=WAITING_PER_SLOT).map(|_| spawn()).collect();
        while gate.waiting.load(Ordering::Relaxed) < WAITING_PER_SLOT {
            tokio::task::yield_now().await;
        }
        let refused = gate.run(QueryKind::Search, |_| Ok(())).await.unwrap_err();
        assert_eq!(problem(&refused), (503, "busy".to_owned()));
        drop(release);
        for query in queries {
            query.await.unwrap().unwrap();
        }
        gate.run(QueryKind::Search, |_| Ok(())).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_query_ends_when_nobody_reads_its_answer() {
        let gate = gate(1);
        let (ended, end) = tokio::sync::oneshot::channel();
        let endless = move |guard: &Guard, lines: &mut Lines| {
            let outcome = loop {
                lines.text().push_str("{}\n");
                if let Err(error) = guard.check().and_then(|()| lines.flush_if(true)) {
                    break Err(error);
                }
            };
            let _ = ended.send(());
            outcome
        };
        let response = gate.stream(QueryKind::Search, endless).await.unwrap();
        drop(response);
        end.await.unwrap();
        gate.run(QueryKind::Search, |_| Ok(())).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_failure_is_a_problem_before_the_first_line_and_the_last_line_after_it() {
        let gate = gate(1);
        type Query = fn(&Guard, &mut Lines) -> Result<(), QueryError>;
        let cases: [(&str, Query, Result<&str, (u64, &str)>); 5] = [
            ("nothing", |_, _| Ok(()), Ok("")),
            ("at once", |_, _| Err(QueryError::Timeout), Err((504, "query-timeout"))),
            ("abnormally", |_, _| panic!("as the test wants"), Err((500, "internal"))),
            (
                "midway",
                |_, lines| {
                    lines.text().push_str("{}\n");
                    lines.flush_if(true)?;
                    Err(QueryError::TooExpensive("no".to_owned()))
                },
                Ok("query-too-expensive"),
            ),
            (
                "abnormally midway",
                |_, lines| {
                    lines.text().push_str("{}\n");
                    lines.flush_if(true)?;
                    panic!("as the test wants")
                },
                Ok("urn:threadline:problem:internal"),
            ),
        ];
        for (name, query, want) in cases {
            match (gate.stream(QueryKind::Search, query).await, want) {
                (Ok(response), Ok(words)) => {
                    let body = response.into_body().collect().await.unwrap().to_bytes();
                    let text = String::from_utf8(body.to_vec()).unwrap();
                    assert!(text.contains(words), "{name}: {text}");
                    if let Some(last) = text.lines().nth(1) {
                        assert!(last.starts_with("{\"error\":{"), "{name}: {text}");
                    }
                }
                (Err(got), Err((status, kind))) => {
                    assert_eq!(problem(&got), (status, kind.to_owned()), "{name}");
                }
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }
}
