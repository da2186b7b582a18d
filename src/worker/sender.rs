//! Making the request of an attempt, in its seat and with its permit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempted};
use super::consumed::Consumed;
use super::database::Stopping;
use super::gates::Permit;
use super::quarantine::Quarantine;
use super::ready::Ready;
use super::rooms::Taken;
use crate::domain::message::Message;
use crate::domain::rooms::SLOW_MS;
use crate::http::client::Client;

pub struct Sender {
    pub client: Client,
    /// Of an endpoint that sets none.
    pub timeout: Duration,
    pub quarantine: Arc<Quarantine>,
    pub abandon: CancellationToken,
}

impl Sender {
    /// `Err`: abandoned at the end of the grace period. Beginning with a suspect is noted, as it may kill this worker.
    pub async fn send(
        &self,
        endpoint: &Ready,
        (consumed, payload): (&Consumed, &Bytes),
        permit: &Permit,
        seat: &Taken,
        is_suspect: bool,
    ) -> Result<Attempted, Stopping> {
        let (key, attempt) = (consumed.message.key(), consumed.message.attempt);
        if is_suspect {
            Box::pin(self.quarantine.begin(key, attempt)).await?;
        }
        permit.begun();
        let sent = self.abandon.run_until_cancelled(self.request(endpoint, consumed, payload, seat)).await;
        if sent.is_none() && is_suspect {
            Box::pin(self.quarantine.take_back(key, attempt)).await;
        }
        sent.ok_or(Stopping)
    }

    async fn request(&self, endpoint: &Ready, consumed: &Consumed, payload: &Bytes, seat: &Taken) -> Attempted {
        let message = &consumed.message;
        let traced = consumed.trace.as_ref().map(|trace| (trace, trace.request()));
        let traceparent = traced.as_ref().map(|(_, begun)| begun.traceparent.as_str());
        let attempted = self.make(endpoint, (message, payload), traceparent, seat).await;
        if let Some((trace, begun)) = traced {
            trace.requested(begun, endpoint, &attempted, message.attempt);
        }
        attempted
    }

    /// The request. One that grows old makes way for prompt ones.
    async fn make(
        &self,
        endpoint: &Ready,
        (message, payload): (&Message, &Bytes),
        traceparent: Option<&str>,
        seat: &Taken,
    ) -> Attempted {
        let mut request =
            Box::pin(attempt::make(&self.client, endpoint, (message, payload), traceparent, self.timeout));
        match tokio::time::timeout(Duration::from_millis(SLOW_MS), &mut request).await {
            Ok(attempted) => attempted,
            Err(_) => {
                seat.grew_old();
                request.await
            }
        }
    }
}
