//! Making the request of an attempt, in its seat and with its permit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Attempted};
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
        (message, payload): (&Message, &Bytes),
        permit: &Permit,
        seat: &Taken,
        is_suspect: bool,
    ) -> Result<Attempted, Stopping> {
        let (key, attempt) = (message.key(), message.attempt);
        if is_suspect {
            self.quarantine.begin(key, attempt).await?;
        }
        permit.begun();
        let sent = self.abandon.run_until_cancelled(self.request(endpoint, message, payload, seat)).await;
        if sent.is_none() && is_suspect {
            self.quarantine.take_back(key, attempt).await;
        }
        sent.ok_or(Stopping)
    }

    /// The request. One that grows old makes way for prompt ones.
    async fn request(&self, endpoint: &Ready, message: &Message, payload: &Bytes, seat: &Taken) -> Attempted {
        let mut request = std::pin::pin!(attempt::make(&self.client, endpoint, message, payload, self.timeout));
        match tokio::time::timeout(Duration::from_millis(SLOW_MS), &mut request).await {
            Ok(attempted) => attempted,
            Err(_) => {
                seat.grew_old();
                request.await
            }
        }
    }
}
