//! The record of a query: who asked what, from where, and how many rows they got. It is made when the answer has ended,
//! whether it ended well, badly, or because nobody read on. A query whose record has no place does not begin.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};

use super::operations::Id;
use super::problem::Problem;
use super::{Api, NDJSON_ERROR};
use crate::door::caller::Caller;
use crate::door::journal::Place;
use crate::door::names::outcome;
use crate::door::notes::{self, Asked, Ended, QUERY_CHARS_MAX};

/// How many rows an answer that is one document has; among the extensions of a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows(pub(crate) u64);

/// What records say of a query whose client went away before there was an answer.
const CLIENT_GONE: u16 = 499;

/// A query that is to be recorded.
pub(crate) struct Audit {
    api: Arc<Api>,
    caller: Caller,
    asked: Asked,
    action: &'static str,
    query: String,
    started: Duration,
    /// Of the record that is made in the end.
    place: Option<Place>,
}

/// What an operation is called in records; `None` for those that show no records.
fn action(id: Id) -> Option<&'static str> {
    Some(match id {
        Id::Search => "search",
        Id::Tail => "tail",
        Id::Count => "count",
        Id::Histogram => "histogram",
        Id::Red => "red",
        Id::Fields => "fields",
        Id::FieldValues => "field_values",
        Id::Distinct => "distinct",
        Id::SqlGet | Id::SqlPost => "sql",
        Id::Traces => "traces",
        Id::Trace => "trace",
        Id::Services => "services",
        Id::ContractScore => "contract_score",
        Id::Rules => "rules",
        Id::Backtest => "backtest",
        Id::Incidents => "incidents",
        Id::Incident | Id::IncidentReport => "incident",
        Id::NotifyDead => "notify_dead",
        Id::NotifyReplay => "notify_replay",
        Id::Alerts => "alerts",
        Id::Erase => "erase",
        // What is done to incidents is recorded by its transitions.
        Id::IncidentAcknowledge
        | Id::IncidentAssign
        | Id::IncidentNote
        | Id::IncidentSnooze
        | Id::IncidentResolve
        | Id::IncidentReopen
        | Id::IncidentMerge
        | Id::Silences
        | Id::SilenceMake
        | Id::SilencePreview
        | Id::SilenceEnd => return None,
        // A test and what is posted are records of their own.
        Id::NotifyReceivers | Id::NotifyTest | Id::AlertsPost | Id::AlertsStatus => return None,
        // These make their own: the token is not to be in it.
        Id::SessionOpen | Id::SessionShow | Id::SessionClose => return None,
        Id::Page
        | Id::Asset
        | Id::Icon
        | Id::Check
        | Id::Contract
        | Id::Detection
        | Id::Stats
        | Id::Health
        | Id::Metrics
        | Id::OpenApi => return None,
    })
}

fn unrecorded(api: &Api) -> Problem {
    api.meters.queries_refused.add(1);
    Problem::unrecorded()
}

impl Audit {
    /// Begins the record, if the operation has one. `query` is what was asked, in full; it is cut.
    ///
    /// # Errors
    /// When so many records wait to be kept that there is no place for one more.
    pub(crate) async fn begin(
        api: &Arc<Api>,
        id: Id,
        caller: &Caller,
        asked: &Asked,
        query: &str,
    ) -> Result<Option<Audit>, Problem> {
        let Some(action) = action(id) else { return Ok(None) };
        // What deletes is recorded whatever the setting says.
        if !api.audit_queries && id != Id::Erase {
            return Ok(None);
        }
        let journal = &api.door.journal;
        let place = journal.place(api.audit_wait).await.ok_or_else(|| unrecorded(api))?;
        // A tail may go on for days: it has two records.
        let second = match id {
            Id::Tail => Some(journal.place(api.audit_wait).await.ok_or_else(|| unrecorded(api))?),
            _ => None,
        };
        let mut audit = Audit {
            api: Arc::clone(api),
            caller: caller.clone(),
            asked: asked.clone(),
            action,
            query: query.chars().take(QUERY_CHARS_MAX).collect(),
            started: api.clock.monotonic(),
            place: Some(place),
        };
        if second.is_some() {
            audit.note("tail.opened", StatusCode::OK.as_u16(), outcome::SUCCESS, 0);
            audit.place = second;
        }
        Ok(Some(audit))
    }

    fn note(&mut self, action: &str, status: u16, outcome: &'static str, rows: u64) {
        let took = self.api.clock.monotonic().saturating_sub(self.started);
        let ended = Ended { status, outcome, rows, took };
        let note = notes::query(&self.caller, &self.asked, action, &self.query, ended);
        if let Some(place) = self.place.take() {
            self.api.door.journal.audit(note, place);
        }
    }

    fn done(&mut self, status: u16, outcome: &'static str, rows: u64) {
        self.note(self.action, status, outcome, rows);
    }

    /// Makes the record of an answer: now, or when its stream has ended.
    pub(crate) fn answered(
        mut self,
        answer: Result<Response<Body>, Problem>,
    ) -> Result<Response<Body>, Problem> {
        let response = match answer {
            Ok(response) => response,
            Err(problem) => {
                self.done(problem.status().as_u16(), outcome::FAILURE, 0);
                return Err(problem);
            }
        };
        let (parts, body) = response.into_parts();
        let content_type = parts.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        let mark: Mark = match content_type {
            Some(b"application/x-ndjson") => |piece| memchr::memchr_iter(b'\n', piece).count() as u64,
            Some(b"text/event-stream") => {
                |piece| memchr::memmem::find_iter(piece, b"\nevent: row\n").count() as u64
            }
            _ => {
                let Rows(rows) = parts.extensions.get().copied().unwrap_or(Rows(1));
                self.done(parts.status.as_u16(), outcome::SUCCESS, rows);
                return Ok(Response::from_parts(parts, body));
            }
        };
        let stream = body.into_data_stream();
        let counted = Counted { stream, mark, rows: 0, failed: false, status: parts.status, audit: Some(self) };
        Ok(Response::from_parts(parts, Body::from_stream(counted)))
    }
}

impl Drop for Audit {
    /// Nobody waited for the answer.
    fn drop(&mut self) {
        if self.place.is_some() {
            self.done(CLIENT_GONE, outcome::UNKNOWN, 0);
        }
    }
}

/// How many rows a piece of a stream has; pieces have whole rows.
type Mark = fn(&[u8]) -> u64;

/// A stream whose rows are counted.
struct Counted {
    stream: BodyDataStream,
    mark: Mark,
    rows: u64,
    failed: bool,
    status: StatusCode,
    audit: Option<Audit>,
}

impl Stream for Counted {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let polled = self.stream.poll_next_unpin(context);
        match &polled {
            std::task::Poll::Ready(Some(Ok(piece))) if piece.starts_with(NDJSON_ERROR.as_bytes()) => {
                self.failed = true;
            }
            std::task::Poll::Ready(Some(Ok(piece))) => self.rows += (self.mark)(piece),
            std::task::Poll::Ready(Some(Err(_))) => self.failed = true,
            std::task::Poll::Ready(None) => {
                if let Some(mut audit) = self.audit.take() {
                    let outcome = if self.failed { outcome::FAILURE } else { outcome::SUCCESS };
                    audit.done(self.status.as_u16(), outcome, self.rows);
                }
            }
            std::task::Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Counted {
    /// Nobody reads on.
    fn drop(&mut self) {
        if let Some(mut audit) = self.audit.take() {
            audit.done(self.status.as_u16(), outcome::UNKNOWN, self.rows);
        }
    }
}
