//! How far a request has come: asking the resolver, connecting, waiting for the proxy, or talking.
//!
//! When the deadline strikes, that decides who is to blame, and the HTTP client library does not tell. So the parts of
//! a request note where they are each time they are polled. A note cannot be stale: a request that found a pooled
//! connection while it was connecting no longer polls the connector, and so is talking.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Resolving,
    Connecting,
    /// The proxy has yet to answer.
    Proxy,
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
    During { stage: Noted::Always(stage), then: Some(then), future: Box::pin(future) }
}

/// The same with a stage that depends on what has happened meanwhile.
pub(super) fn during_what<F: Future>(stage: impl Fn() -> Stage + Send + 'static, then: Stage, future: F) -> During<F> {
    During { stage: Noted::Asked(Box::new(stage)), then: Some(then), future: Box::pin(future) }
}

/// For the request as a whole: talking, unless the connector or the resolver says otherwise later in the same poll.
pub(super) fn talking<F: Future>(future: F) -> During<F> {
    During { stage: Noted::Always(Stage::Talking), then: None, future: Box::pin(future) }
}

pub(super) struct During<F> {
    stage: Noted,
    then: Option<Stage>,
    future: Pin<Box<F>>,
}

enum Noted {
    Always(Stage),
    Asked(Box<dyn Fn() -> Stage + Send>),
}

impl<F: Future> Future for During<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        note(match &self.stage {
            Noted::Always(stage) => *stage,
            Noted::Asked(stage) => stage(),
        });
        let poll = self.future.as_mut().poll(cx);
        if let (Poll::Ready(_), Some(then)) = (&poll, self.then) {
            note(then);
        }
        poll
    }
}
