//! Spans, for whoever wants them: recorded when they are over, and handed to the exporter through a queue that never makes anybody
//! wait. While nobody wants them, each question here is one look at a place in memory.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::SystemTime;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use uuid::Uuid;

use super::metrics;
use crate::domain::share::Share;
use crate::domain::trace::{Context, SpanId, TraceId};

/// Spans that wait to be exported. Further ones are dropped and counted.
const WAITING: usize = 8192;

static SINK: OnceLock<Sink> = OnceLock::new();

struct Sink {
    waiting: Sender<Span>,
    share: Share,
}

/// As in OpenTelemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Client,
    Producer,
    Consumer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(number.try_into().unwrap_or(i64::MAX))
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Value {
        Value::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Number(number.into())
    }
}

pub type Attributes = Vec<(&'static str, Value)>;

#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "without an exporter nobody reads them"))]
pub struct Span {
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub trace_id: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    /// The parent is a span of the producer.
    pub parent_is_remote: bool,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Attributes,
    pub error: Option<String>,
}

impl Span {
    /// A span about the event. The first one of a trace that begins here is `first`, and has no parent.
    pub fn of(context: &Context, first: bool, name: impl Into<Cow<'static, str>>, kind: Kind) -> Span {
        let (id, parent) = match context.begins_here && first {
            true => (context.parent, None),
            false => (new_id(), Some(context.parent)),
        };
        let now = SystemTime::now();
        Span {
            name: name.into(),
            kind,
            trace_id: context.trace_id,
            id,
            parent,
            parent_is_remote: !context.begins_here,
            start: now,
            end: now,
            attributes: Attributes::new(),
            error: None,
        }
    }

    /// A span within another one.
    pub fn within(context: &Context, parent: SpanId, name: impl Into<Cow<'static, str>>, kind: Kind) -> Span {
        Span { parent: Some(parent), parent_is_remote: false, ..Span::of(context, false, name, kind) }
    }
}

pub fn new_id() -> SpanId {
    rand::random::<u64>().max(1).to_be_bytes()
}

/// From now on spans are recorded, for the exporter to take. To be called once.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "there is no exporter"))]
pub fn start(share: Share) -> Receiver<Span> {
    let (waiting, spans) = channel(WAITING);
    SINK.get_or_init(|| Sink { waiting, share });
    spans
}

/// Where spans about the event belong; `None` where nobody wants them.
pub fn of(traceparent: Option<&str>, event_id: Uuid) -> Option<Context> {
    let context = Context::of(traceparent, event_id, SINK.get()?.share);
    context.is_sampled().then_some(context)
}

pub fn record(span: Span) {
    if SINK.get().is_some_and(|sink| sink.waiting.try_send(span).is_err()) {
        metrics::spans_dropped(1);
    }
}
