//! Exporting spans by OTLP over HTTP, as protobuf, in batches. A collector that is away costs spans, which are counted, and
//! nothing else.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, SpanId, TraceId, Value};
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::metrics;
use super::spans::{self, Kind, Span};

/// Spans in one request.
const BATCH: usize = 512;
/// From the first span of a batch on.
const GATHER: Duration = Duration::from_secs(1);
/// For one batch, with what is tried again.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// For everything that is left at the end.
const LAST: Duration = Duration::from_secs(2);
/// A collector that stays away is worth one line in this time.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// What sends spans to a collector.
pub struct Export {
    exporter: SpanExporter,
    scope: InstrumentationScope,
    said: Option<Instant>,
}

impl Export {
    /// `endpoint`: the base URL of the collector. Headers, and what the resource is called, come from the variables that
    /// OpenTelemetry has for them.
    pub fn new(endpoint: &str, client: impl HttpClient + 'static) -> Result<Export, ExporterBuildError> {
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        exporter.set_resource(&resource());
        let scope = InstrumentationScope::builder("posthaste").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Export { exporter, scope, said: None })
    }

    /// Exports until `over`, and what there is at that moment.
    pub async fn run(mut self, mut spans: Receiver<Span>, over: CancellationToken) {
        while let Some(batch) = over.run_until_cancelled(gather(&mut spans)).await {
            self.export(batch).await;
        }
        let last = async {
            let mut batch = Vec::new();
            while let Ok(span) = spans.try_recv() {
                batch.push(span);
                if batch.len() == BATCH {
                    self.export(std::mem::take(&mut batch)).await;
                }
            }
            self.export(batch).await;
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("the last spans were not exported: the collector does not take them in time");
        }
    }

    async fn export(&mut self, batch: Vec<Span>) {
        let count = batch.len();
        if count == 0 {
            return;
        }
        let batch = batch.into_iter().map(|span| data(span, &self.scope)).collect();
        let Err(error) = self.exporter.export(batch).await else { return };
        metrics::spans_dropped(count as u64);
        if self.said.is_none_or(|said| said.elapsed() >= SAID_AGAIN) {
            self.said = Some(Instant::now());
            tracing::warn!(%error, spans = count, "spans were dropped: the collector does not take them (telemetry.otlp_endpoint)");
        }
    }
}

/// The environment's names win over ours.
fn resource() -> Resource {
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty())
        || std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|attributes| attributes.contains("service.name="));
    let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { resource.build() } else { resource.with_service_name("posthaste").build() }
}

/// The next batch: full, or what came within a moment.
async fn gather(spans: &mut Receiver<Span>) -> Vec<Span> {
    let mut batch = Vec::with_capacity(BATCH);
    if spans.recv_many(&mut batch, BATCH).await == 0 {
        // The sink lives as long as the process.
        std::future::pending::<()>().await;
    }
    let until = tokio::time::Instant::now() + GATHER;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        if timeout_at(until, spans.recv_many(&mut batch, room)).await.is_err() {
            break;
        }
    }
    batch
}

fn data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let Span { name, kind, trace_id, id, parent, parent_is_remote, start, end, attributes, error } = span;
    let flags = TraceFlags::SAMPLED;
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(trace_id),
            SpanId::from_bytes(id),
            flags,
            false,
            TraceState::default(),
        ),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: parent_is_remote,
        span_kind: match kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        },
        name,
        // Clocks of several machines are in it.
        start_time: start.min(end),
        end_time: end,
        attributes: attributes.into_iter().map(|(key, value)| KeyValue::new(key, self::value(value))).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: error.map_or(Status::Unset, |error| Status::Error { description: Cow::Owned(error) }),
        instrumentation_scope: scope.clone(),
    }
}

fn value(value: spans::Value) -> Value {
    match value {
        spans::Value::Text(text) => text.into(),
        spans::Value::Number(number) => number.into(),
    }
}
