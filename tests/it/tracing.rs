//! Traces, as a collector gets them.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use uuid::Uuid;

use crate::harness::{Receiver, Reply, Stack, eventually};
use crate::kit::servers::daemon::free_port;

const PRODUCER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A collector of our own.
struct Collector(Receiver);

impl Collector {
    fn start() -> Collector {
        Collector(Receiver::start())
    }

    fn url(&self) -> String {
        self.0.url("")
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let requests = self.0.requests_to("/v1/traces").into_iter();
        let decode = |body: Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP");
        requests.map(|request| decode(request.body)).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.resource_spans);
        resources.flat_map(|spans| spans.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The spans of a trace, once there are as many of each name.
    async fn trace(&self, id: &str, names: &[(&str, usize)]) -> Vec<Span> {
        let wanted: BTreeMap<String, usize> = names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        eventually(&format!("the trace {id} has {wanted:?}"), async || {
            let spans: Vec<Span> = self.spans().into_iter().filter(|span| hex(&span.trace_id) == id).collect();
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            spans.iter().for_each(|span| *seen.entry(span.name.clone()).or_default() += 1);
            (seen == wanted).then_some(spans)
        })
        .await
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.as_str(), text(&attribute.value))).collect()
}

async fn emit(stack: &Stack, traceparent: Option<&str>) -> Uuid {
    let emit = "select posthaste.emit('acme', 'order.created', '{\"card\": \"4111\"}', traceparent => $1)";
    sqlx::query_scalar(emit).bind(traceparent).fetch_one(&stack.db).await.unwrap()
}

/// Of a request that was answered 500, or 200 at the second attempt.
#[track_caller]
fn assert_says_what_came(post: &Span) {
    let attributes = attributes(&post.attributes);
    assert_eq!(post.kind, SpanKind::Client as i32);
    assert_eq!((&attributes["http.request.method"][..], &attributes["server.address"][..]), ("POST", "127.0.0.1"));
    let failed = attributes["http.response.status_code"] == "500";
    assert_eq!(attributes.get("error.type").map(String::as_str), failed.then_some("500"));
    assert_eq!(attributes.get("http.request.resend_count").map(String::as_str), (!failed).then_some("1"));
    assert_eq!(post.status.as_ref().is_some_and(|status| status.code == 2 && status.message == "status 500"), failed);
}

#[tokio::test]
async fn a_trace_goes_from_the_producer_through_relay_and_worker_to_the_receiver() {
    let (collector, receiver) = (Collector::start(), Receiver::start());
    receiver.at("/hunter2", |n| if n == 1 { Reply::status(500).body("why-not") } else { Reply::ok() });
    let stack = Stack::with(&[("telemetry.otlp_endpoint", &collector.url())]).await;
    stack.endpoint("acme", &receiver.url("/hunter2"), &[]).await;
    stack.relay().await;
    let worker = stack.worker().await;

    let id = emit(&stack, Some(PRODUCER)).await;

    stack.wait_status(id, "delivered").await;
    let prefix = &stack.prefix;
    let (send, first) = (format!("send {prefix}:deliver"), format!("{prefix}:deliver:{prefix}.deliver"));
    let again = format!("{prefix}:retry:{prefix}.retry");
    let names =
        [format!("process {first}"), format!("process {again}"), format!("settle {first}"), format!("settle {again}")];
    let once = names.iter().map(|name| (name.as_str(), 1));
    let all: Vec<(&str, usize)> =
        once.chain([("claim outbox", 1), (send.as_str(), 1), ("wait", 2), ("POST", 2)]).collect();
    let spans = collector.trace(TRACE, &all).await;

    let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    for name in ["claim outbox", &send, &names[0], &names[1]] {
        assert_eq!(hex(&of(name)[0].parent_span_id), "b7ad6b7169203331", "{name}");
    }
    let processes: BTreeSet<&Vec<u8>> = [of(&names[0])[0], of(&names[1])[0]].iter().map(|span| &span.span_id).collect();
    for span in
        spans.iter().filter(|span| ["wait", "POST"].contains(&span.name.as_str()) || span.name.starts_with("settle"))
    {
        assert!(processes.contains(&span.parent_span_id), "{span:?}");
    }
    assert!(
        spans.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano && span.start_time_unix_nano > 0)
    );

    let posts = of("POST");
    let headers: BTreeSet<String> =
        receiver.requests().iter().map(|request| request.header("traceparent").to_owned()).collect();
    let expected: BTreeSet<String> = posts.iter().map(|post| format!("00-{TRACE}-{}-01", hex(&post.span_id))).collect();
    assert_eq!(headers, expected, "each request names its own span");
    posts.into_iter().for_each(assert_says_what_came);
    let process = attributes(&of(&names[0])[0].attributes);
    assert_eq!((&process["messaging.system"][..], &process["messaging.message.id"]), ("rabbitmq", &id.to_string()));
    assert_eq!((&process["posthaste.outcome"][..], &process["messaging.destination.name"]), ("retry", &first));
    let resource = collector.requests()[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(attributes(&resource.attributes)["service.name"], "posthaste");
    for secret in ["hunter2", "4111", "why-not"] {
        let bodies =
            collector.0.requests().into_iter().map(|request| String::from_utf8_lossy(&request.body).into_owned());
        assert!(bodies.into_iter().all(|body| !body.contains(secret)), "{secret} was exported");
    }
    let line = worker.logged("the failed attempt", |line| (line["message"] == "attempt").then(|| line.clone())).await;
    assert_eq!(line["trace_id"], TRACE);
}

#[tokio::test]
async fn the_flag_of_the_producer_decides_and_without_one_the_ratio_and_the_trace_has_the_id_of_the_event() {
    let (collector, receiver) = (Collector::start(), Receiver::start());
    let unsampled = PRODUCER.replace("-01", "-00");
    let settings = [("telemetry.otlp_endpoint", &collector.url()[..]), ("telemetry.trace_ratio", "0.5")];
    let stack = Stack::with(&settings).await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let process = stack.run().await;

    emit(&stack, Some(&unsampled)).await;
    let ids = stack.emit_many("acme", "order.created", 100).await;
    stack.wait_settled().await;
    eventually("every trace that was begun is complete", async || {
        let mut spans = std::collections::BTreeMap::<String, usize>::new();
        collector.spans().iter().for_each(|span| *spans.entry(hex(&span.trace_id)).or_default() += 1);
        (spans.len() >= 20 && spans.values().all(|spans| *spans == 6)).then_some(())
    })
    .await;
    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));

    let traces: BTreeSet<String> = collector.spans().iter().map(|span| hex(&span.trace_id)).collect();
    let events: BTreeSet<String> = ids.iter().map(|id| id.simple().to_string()).collect();
    assert!((20..=80).contains(&traces.len()), "{} of 100", traces.len());
    assert!(traces.is_subset(&events), "of the one that is not sampled there is nothing");
    let spans = collector.spans();
    for trace in &traces {
        let spans: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == *trace).collect();
        let root: Vec<&&Span> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
        assert_eq!((spans.len(), root.len(), &root[0].name[..]), (6, 1, "claim outbox"), "{spans:?}");
        assert_eq!(hex(&root[0].span_id), trace[16..]);
    }
    let requests = receiver.requests();
    let headers = |trace: &str| requests.iter().filter(|request| request.header("traceparent").contains(trace)).count();
    assert_eq!(requests.iter().filter(|request| request.header("traceparent") == unsampled).count(), 1);
    assert!(traces.iter().all(|trace| headers(trace) == 1));
    let none = requests.iter().filter(|request| request.header("traceparent").is_empty()).count();
    assert_eq!(none, 100 - traces.len(), "what is not sampled has no header of ours");
}

#[tokio::test]
async fn what_is_held_has_a_span_that_says_why() {
    let (collector, receiver) = (Collector::start(), Receiver::start());
    receiver.at("/", |_| Reply::status(429).header("retry-after", 600));
    let stack = Stack::with(&[("telemetry.otlp_endpoint", &collector.url())]).await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let first = emit(&stack, None).await;
    stack.wait_status(first, "held").await;
    let prefix = &stack.prefix;
    stack.execute("update posthaste.endpoints set paused_until = null").await;
    stack.execute("update posthaste.deliveries set next_attempt_at = now()").await;
    let process = format!("process {prefix}:retry:{prefix}.retry");

    let outcome = eventually("a message was held without an attempt", async || {
        let spans = collector.spans();
        let held = spans.iter().filter(|span| span.name == process).map(|span| attributes(&span.attributes)).find_map(
            |attributes| {
                Some((attributes.get("posthaste.outcome")?.clone(), attributes.get("posthaste.reason")?.clone()))
            },
        );
        stack.execute("update posthaste.deliveries set next_attempt_at = now() where status = 'held'").await;
        held
    })
    .await;

    assert_eq!(outcome, ("held".to_owned(), "slowed".to_owned()));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let receiver = Receiver::start();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let stack = Stack::with(&[("telemetry.otlp_endpoint", &nowhere)]).await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let process = stack.run().await;

    stack.emit_many("acme", "order.created", 20).await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 20)].into());
    eventually("lost spans are counted", async || {
        (process.metric("posthaste_spans_dropped_total").await > 0.0).then_some(())
    })
    .await;
    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));
}
