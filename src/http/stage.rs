//! How far a request has come: asking the resolver, connecting, or talking.
//!
//! When the deadline strikes, that decides who is to blame, and the HTTP client library does not tell. So the parts of
//! a request note where they are each time they are polled. A note cannot be stale: a request that found a pooled
//! connection while it was connecting no longer polls the connector, and so is talking.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower::{Layer, Service};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Resolving,
    Connecting,
    Talking,
}

tokio::task_local! {
    static STAGE: Cell<Stage>;
}

/// Runs the future with a note of its own, which `current` reads.
pub(super) async fn scope<F: Future>(future: F) -> F::Output {
    STAGE.scope(Cell::new(Stage::Talking), future).await
}

pub(super) fn current() -> Stage {
    STAGE.try_with(Cell::get).unwrap_or(Stage::Talking)
}

fn note(stage: Stage) {
    // A connection that lost its request to a pooled one finishes in a task of its own: nobody to tell.
    let _ = STAGE.try_with(|cell| cell.set(stage));
}

/// Notes `stage` whenever the future is polled, and `then` when it is done.
pub(super) fn during<F: Future>(stage: Stage, then: Stage, future: F) -> During<F> {
    During { stage, then: Some(then), future: Box::pin(future) }
}

/// For the request as a whole: talking, unless the connector or the resolver says otherwise later in the same poll.
pub(super) fn talking<F: Future>(future: F) -> During<F> {
    let future = Box::pin(future);
    During { stage: Stage::Talking, then: None, future }
}

pub(super) struct During<F> {
    stage: Stage,
    then: Option<Stage>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for During<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        note(self.stage);
        let poll = self.future.as_mut().poll(cx);
        if let (Poll::Ready(_), Some(then)) = (&poll, self.then) {
            note(then);
        }
        poll
    }
}

/// The layer around the HTTP client's connector.
#[derive(Clone, Copy)]
pub(super) struct NoteConnecting;

#[derive(Clone)]
pub(super) struct Connecting<S>(S);

impl<S> Layer<S> for NoteConnecting {
    type Service = Connecting<S>;

    fn layer(&self, inner: S) -> Connecting<S> {
        Connecting(inner)
    }
}

impl<S: Service<R>, R> Service<R> for Connecting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = During<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        during(Stage::Connecting, Stage::Talking, self.0.call(request))
    }
}
