//! One attempt: the signed request as it goes out, and what is kept of it.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::ready::Ready;
use crate::domain::message::Message;
use crate::domain::outcome::OurFault;
use crate::domain::signature;
use crate::domain::signing_key::SigningKey;
use crate::http::client::{Client, Exchange, Request};
use crate::store::settle::Headers;
use crate::telemetry::metrics;

pub struct Attempted {
    pub started_at: DateTime<Utc>,
    /// As sent, with the values of custom headers redacted.
    pub request_headers: Headers,
    pub exchange: Exchange,
}

/// `payload`: of the message, wherever it was. `traceparent`: of this attempt; otherwise the producer's goes along.
pub(super) async fn make(
    client: &Client,
    endpoint: &Ready,
    (message, payload): (&Message, &Bytes),
    traceparent: Option<&str>,
    timeout: Duration,
) -> Attempted {
    let in_flight = metrics::in_flight();
    let traceparent = traceparent.or(message.traceparent.as_deref());
    let attempted = send(client, endpoint, (message, payload), traceparent, timeout).await;
    drop(in_flight);
    attempted
}

/// One signed request outside any delivery: nothing is recorded.
pub async fn test_request(
    client: &Client,
    endpoint: &Ready,
    message: &Message,
    payload: &Bytes,
    timeout: Duration,
) -> Exchange {
    send(client, endpoint, (message, payload), None, timeout).await.exchange
}

async fn send(
    client: &Client,
    endpoint: &Ready,
    (message, payload): (&Message, &Bytes),
    traceparent: Option<&str>,
    timeout: Duration,
) -> Attempted {
    let started_at = Utc::now();
    let secrets = endpoint.live_secrets(started_at.timestamp_millis());
    if endpoint.unreadable || secrets.is_empty() {
        return not_sent(started_at, OurFault::SecretsUnreadable);
    }
    let mut request_headers = headers(message, payload, &secrets, started_at);
    request_headers.extend(traceparent.map(|parent| ("traceparent".to_owned(), parent.to_owned())));
    let custom = endpoint.headers.iter();
    let sent =
        request_headers.iter().chain(custom.clone()).map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let timeout = endpoint.timeout.unwrap_or(timeout);
    let own_tls = endpoint.own_tls.as_ref().map(|own| (endpoint.id, own));
    let request = Request { url: &endpoint.url, headers: sent, body: payload.clone(), timeout, own_tls };
    let exchange = client.deliver(request).await;
    request_headers.extend(custom.map(|(name, _)| (name.clone(), "[redacted]".to_owned())));
    Attempted { started_at, request_headers, exchange }
}

/// Standard Webhooks headers and ours. The id never changes; timestamp and signature are new for each attempt.
fn headers(message: &Message, payload: &[u8], keys: &[SigningKey], now: DateTime<Utc>) -> Headers {
    let id = message.event_id.to_string();
    let timestamp = now.timestamp();
    let signed = signature::header(keys, &id, timestamp, payload);
    vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        (signature::HEADER_ID.to_owned(), id),
        (signature::HEADER_TIMESTAMP.to_owned(), timestamp.to_string()),
        (signature::HEADER_SIGNATURE.to_owned(), signed),
        ("posthaste-event-type".to_owned(), message.event_type.to_string()),
        ("posthaste-attempt".to_owned(), message.attempt.to_string()),
    ]
}

fn not_sent(started_at: DateTime<Utc>, fault: OurFault) -> Attempted {
    let exchange =
        Exchange { outcome: Err(fault), response_headers: Vec::new(), response_body: None, duration: Duration::ZERO };
    Attempted { started_at, request_headers: Vec::new(), exchange }
}
