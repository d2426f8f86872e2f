//! Reads a request's body within bounds: bytes, share of the budget, time between pieces, time in all.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout_at};

use super::budget::Lease;
use super::{Intake, Refusal};

/// A body must go on within this time …
const PIECE_TIMEOUT: Duration = Duration::from_secs(15);
/// … and be complete within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// What is still read of a body that is too large, so that the sender gets to see the reply …
const DRAIN_BYTES_MAX: usize = 8 << 20;
/// … at most for this long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// All bytes of a body that has at most `bytes_max`, and what they hold of the budget.
pub(crate) async fn read(
    intake: &Intake,
    mut body: Incoming,
    bytes_max: usize,
) -> Result<(Bytes, Lease), Refusal> {
    let mut lease = intake.budget.lease();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let outcome = if announced > bytes_max {
        Err(Refusal::too_large(intake.request_bytes_max()))
    } else {
        read_bounded(intake, &mut body, bytes_max, &mut lease).await
    };
    if let Err(Refusal::TooLarge(_) | Refusal::Busy { .. }) = outcome {
        drain(body).await;
    }
    outcome.map(|bytes| (bytes, lease))
}

async fn read_bounded(
    intake: &Intake,
    body: &mut Incoming,
    bytes_max: usize,
    lease: &mut Lease,
) -> Result<Bytes, Refusal> {
    let end = Instant::now() + BODY_TIMEOUT;
    // Most bodies come in one piece, which is then taken as it is.
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let by = end.min(Instant::now() + PIECE_TIMEOUT);
        let frame = timeout_at(by, body.frame()).await.map_err(|_| {
            Refusal::Slow(format!(
                "the body did not go on within {PIECE_TIMEOUT:?}, or was not complete within {BODY_TIMEOUT:?}"
            ))
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Refusal::malformed(format!("the body was cut short: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        if first.len() + all.len() + piece.len() > bytes_max {
            return Err(Refusal::too_large(intake.request_bytes_max()));
        }
        if !lease.grow(piece.len()) {
            return Err(Refusal::in_flight(intake.budget.bytes_max()));
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&piece);
        }
    }
    Ok(if first.is_empty() { all.freeze() } else { first })
}

async fn drain(mut body: Incoming) {
    let end = Instant::now() + DRAIN_TIMEOUT;
    let mut left = DRAIN_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = timeout_at(end, body.frame()).await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}
