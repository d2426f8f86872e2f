//! The body of an answer: the exchange ends with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::exchange::{End, Exchange};

pin_project! {
    /// An answer's body that leaves the request's record when its last byte is sent, or when the caller goes away before.
    #[derive(Debug)]
    pub struct ServerBody<B> {
        #[pin]
        inner: B,
        exchange: Option<Exchange>,
        // Bytes that the head has promised, less those that were sent.
        left: Option<u64>,
    }

    impl<B> PinnedDrop for ServerBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // Servers stop asking when they have what the head has promised.
            if *this.left == Some(0) && let Some(exchange) = this.exchange {
                exchange.finish(End::Answered);
            }
        }
    }
}

impl<B: Body> ServerBody<B> {
    /// Of an answer whose head is known.
    pub(super) fn new(
        inner: B,
        mut exchange: Exchange,
        method: &Method,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Self {
        // No body is asked for, or it is not HTTP's any more.
        let bodiless = method == Method::HEAD
            || method == Method::CONNECT && status.is_success()
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let ends = inner.is_end_stream() && !exchange.grpc;
        if bodiless || ends || inner.is_end_stream() && exchange.grpc_status.is_some() {
            exchange.finish(End::Answered);
            return ServerBody { inner, exchange: None, left: None };
        }
        let promised =
            headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        ServerBody { left: promised.or_else(|| inner.size_hint().exact()), inner, exchange: Some(exchange) }
    }

    /// Of an answer that nothing is recorded of any more.
    pub(super) fn silent(inner: B) -> Self {
        ServerBody { inner, exchange: None, left: None }
    }
}

impl<B: Body> Body for ServerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        use http_body::Frame as F;
        let mut this = self.project();
        let Some(exchange) = this.exchange else { return this.inner.poll_frame(cx) };
        let span = exchange.span.clone();
        let frame = ready!(span.in_scope(|| this.inner.as_mut().poll_frame(cx)));
        let end = match &frame {
            None => Some(End::Answered),
            Some(Err(_)) => Some(End::Failed { status: 500, error_type: "body" }),
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (this.left.as_mut(), F::data_ref(frame)) {
                    *left = left.saturating_sub(bytes(data));
                }
                if let Some(trailers) = frame.trailers_ref() {
                    exchange.answered(trailers);
                }
                (frame.is_trailers() || this.inner.is_end_stream()).then_some(End::Answered)
            }
        };
        if let Some(end) = end
            && let Some(mut exchange) = this.exchange.take()
        {
            exchange.finish(end);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn bytes(data: &impl bytes::Buf) -> u64 {
    data.remaining() as u64
}

impl<B: Default> Default for ServerBody<B> {
    fn default() -> Self {
        ServerBody { inner: B::default(), exchange: None, left: None }
    }
}
