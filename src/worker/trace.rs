//! The spans of one message on its way through a worker: `process` from its receipt to its acknowledgement, and within it `wait` (for
//! its endpoint's gate and a seat), the request, and `settle` (until the attempt is recorded and what follows is published).
//! Names and attributes are those of OpenTelemetry's semantic conventions for messaging and HTTP clients; what those have no name
//! for begins with `posthaste.`. A URL may hold a token, so there is only its host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use url::Url;

use super::attempt::Attempted;
use super::queue_share::QueueShare;
use super::ready::Ready;
use crate::domain::message::Message;
use crate::domain::trace::{Context, SpanId, hex};
use crate::telemetry::spans::{self, Attributes, Kind, Span};

/// Of a message whose trace is sampled. Over when the last part of the worker lets go of it: then nothing is left to do.
pub struct Trace {
    context: Context,
    process: SpanId,
    received: SystemTime,
    destination: String,
    attributes: Attributes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    request: Option<SpanId>,
    /// When the request was over.
    requested: Option<SystemTime>,
    outcome: Option<&'static str>,
    reason: Option<&'static str>,
}

/// A request that has begun.
pub struct Begun {
    id: SpanId,
    at: SystemTime,
    /// The header for whoever receives it.
    pub traceparent: String,
}

impl Trace {
    pub fn begin(message: &Message, share: &QueueShare) -> Option<Arc<Trace>> {
        let context = spans::of(message.traceparent.as_deref(), message.event_id)?;
        let key = share.queue.key();
        // Queues are called after their exchange and their key.
        let exchange = share.name.strip_suffix(key).unwrap_or_default().trim_end_matches('.');
        Some(Arc::new(Trace {
            context,
            process: spans::new_id(),
            received: SystemTime::now(),
            destination: format!("{exchange}:{key}:{}", share.name),
            attributes: vec![
                ("messaging.message.id", message.event_id.to_string().into()),
                ("posthaste.endpoint.id", message.endpoint_id.to_string().into()),
                ("posthaste.tenant", (*message.tenant).into()),
                ("posthaste.event.type", (*message.event_type).into()),
                ("posthaste.attempt", message.attempt.into()),
                ("messaging.message.body.size", message.body.len().into()),
            ],
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn id(&self) -> String {
        hex(&self.context.trace_id)
    }

    /// Of the request, where one was made.
    pub fn request_id(&self) -> Option<String> {
        self.state().request.map(|id| hex(&id))
    }

    /// The wait is over.
    pub fn request(&self) -> Begun {
        let (id, at) = (spans::new_id(), SystemTime::now());
        let wait = Span::within(&self.context, self.process, "wait", Kind::Internal);
        spans::record(Span { start: self.received, end: at, ..wait });
        Begun { id, at, traceparent: self.context.traceparent(id) }
    }

    pub fn requested(&self, begun: Begun, endpoint: &Ready, attempted: &Attempted, attempt: i32) {
        let request = Span::within(&self.context, self.process, "POST", Kind::Client);
        let (attributes, error) = of_request(endpoint, attempted, attempt);
        spans::record(Span { id: begun.id, start: begun.at, attributes, error, ..request });
        let mut state = self.state();
        (state.request, state.requested) = (Some(begun.id), Some(SystemTime::now()));
    }

    /// What has become of the message, and why, where that is not an attempt's outcome.
    pub fn came_to(&self, outcome: &'static str, reason: Option<&'static str>) {
        let mut state = self.state();
        (state.outcome, state.reason) = (Some(outcome), reason);
    }

    fn messaging(&self, name: &'static str, kind: &'static str) -> Attributes {
        vec![
            ("messaging.system", "rabbitmq".into()),
            ("messaging.operation.name", name.into()),
            ("messaging.operation.type", kind.into()),
            ("messaging.destination.name", self.destination.as_str().into()),
        ]
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let state = std::mem::take(&mut *self.state());
        if let Some(requested) = state.requested {
            let name = format!("settle {}", self.destination);
            let settle = Span::within(&self.context, self.process, name, Kind::Client);
            spans::record(Span { start: requested, attributes: self.messaging("settle", "settle"), ..settle });
        }
        let mut attributes = self.messaging("process", "process");
        attributes.append(&mut self.attributes);
        attributes.extend(state.outcome.map(|outcome| ("posthaste.outcome", outcome.into())));
        attributes.extend(state.reason.map(|reason| ("posthaste.reason", reason.into())));
        let process = Span::of(&self.context, false, format!("process {}", self.destination), Kind::Consumer);
        spans::record(Span { id: self.process, start: self.received, attributes, ..process });
    }
}

fn of_request(endpoint: &Ready, attempted: &Attempted, attempt: i32) -> (Attributes, Option<String>) {
    let mut attributes: Attributes =
        vec![("http.request.method", "POST".into()), ("posthaste.attempt", attempt.into())];
    if let Ok(url) = Url::parse(&endpoint.url) {
        attributes.extend(url.host_str().map(|host| ("server.address", host.into())));
        attributes.extend(url.port_or_known_default().map(|port| ("server.port", port.into())));
        attributes.push(("url.scheme", url.scheme().into()));
    }
    if attempt > 1 {
        attributes.push(("http.request.resend_count", (attempt - 1).into()));
    }
    let outcome = match &attempted.exchange.outcome {
        Ok(outcome) => outcome,
        Err(fault) => {
            attributes.push(("error.type", "our_fault".into()));
            return (attributes, Some(fault.text().to_owned()));
        }
    };
    attributes.extend(outcome.status().map(|status| ("http.response.status_code", status.into())));
    let error = outcome.error();
    if error.is_some() {
        let kind = outcome.status().map_or_else(|| outcome.status_class().to_owned(), |status| status.to_string());
        attributes.push(("error.type", kind.into()));
    }
    (attributes, error)
}
