//! The body of a request, handed over in parts, so that an exchange that is over can take back the rest.
//!
//! The HTTP client library writes what it was given before it closes a connection, even if nobody waits for the response any
//! more. A receiver that answers at once and then reads slowly, or not at all, would keep a connection and the payload
//! for as long as it likes, for each attempt. So a large body is handed over part by part, each when the one before it is
//! written, and a body that is taken back ends its connection.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;

/// What is handed over at once. The kernel has room for as much, so a smaller body is written as a whole.
const PART_BYTES: usize = 16 * 1024;

/// A body to send, which is taken back when this is dropped: to be kept until the exchange is over.
pub(super) struct Sending {
    bytes: Bytes,
    /// Of a body that is handed over in parts.
    shared: Option<Arc<Shared>>,
}

impl Sending {
    pub fn new(bytes: Bytes) -> Sending {
        let shared = (bytes.len() > PART_BYTES).then(Arc::default);
        Sending { bytes, shared }
    }

    /// For one try; a request that the server has not looked at may be sent again from the beginning.
    pub fn body(&self) -> Parts {
        if let Some(shared) = &self.shared {
            let mut state = shared.lock();
            (state.writing, state.all) = (false, false);
        }
        Parts { rest: self.bytes.clone(), shared: self.shared.clone() }
    }

    /// Nothing more is handed over. True: there was more, so the connection ends.
    pub fn take_back(&self) -> bool {
        let Some(shared) = &self.shared else { return false };
        let mut state = shared.lock();
        state.over = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        !state.all
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.take_back();
    }
}

#[derive(Debug, Error)]
#[error("the exchange is over")]
pub(super) struct TakenBack;

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    /// A part is on its way.
    writing: bool,
    /// Every part was handed over.
    all: bool,
    over: bool,
    waker: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Parts {
    rest: Bytes,
    shared: Option<Arc<Shared>>,
}

/// Dropped when it is written, or when nobody will write it.
struct Part {
    bytes: Bytes,
    shared: Arc<Shared>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.writing = false;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = TakenBack;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TakenBack>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let Some(shared) = self.shared.clone() else {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        };
        let mut state = shared.lock();
        if state.over {
            return Poll::Ready(Some(Err(TakenBack)));
        }
        if state.writing {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // The last byte goes alone: until all others are written, the body can be taken back.
        let length = PART_BYTES.min(self.rest.len() - 1).max(1);
        let bytes = self.rest.split_to(length);
        (state.writing, state.all) = (true, self.rest.is_empty());
        drop(state);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Part { bytes, shared })))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
