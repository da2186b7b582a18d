//! Endpoints that are disabled by a worker: one that answered 410, and says that it is gone for good, and one whose URL
//! is not allowed (any more).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::database::{Stopping, until_answered};
use super::endpoints::EndpointCache;
use super::job::Job;
use super::ready::Ready;
use crate::domain::dead_reason::DeadReason;
use crate::domain::decision::Decision;
use crate::store::{Db, StoreError, endpoints};
use crate::supervise::Helpers;

/// Between two looks at a row that somebody has locked. A statement that waited for it would keep a connection meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Disabling {
    pub db: Db,
    pub endpoints: EndpointCache,
    pub helpers: Helpers,
    pub abandon: CancellationToken,
    /// Endpoints that are being disabled: one task is enough for each.
    pub under_way: UnderWay,
}

#[derive(Clone, Default)]
pub struct UnderWay(Arc<Mutex<HashSet<Uuid>>>);

/// Why endpoints are disabled.
#[derive(Clone)]
enum Why {
    Gone,
    Refused { url: String, reason: String },
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disabling {
    /// The settlement has disabled those that it could. The others are disabled as soon as nobody has them locked; should
    /// this worker end before, the next delivery to such an endpoint is answered in the same way.
    pub fn disable(&self, jobs: &[Job]) {
        let gone = jobs.iter().filter(|job| job.settlement.decision == Decision::Dead(DeadReason::Gone));
        let mut ids: HashSet<Uuid> = gone.map(|job| job.message.endpoint_id).collect();
        for id in &ids {
            tracing::warn!(endpoint_id = %id, "the endpoint answered 410 Gone; it is disabled");
            self.endpoints.forget(*id);
        }
        ids.retain(|id| self.under_way.lock().insert(*id));
        if !ids.is_empty() {
            self.begin(ids.into_iter().collect(), Why::Gone);
        }
    }

    /// Nothing was sent to it. Until it is disabled, whoever asks next is answered in the same way.
    pub fn refuse(&self, endpoint: &Ready, reason: &str) {
        if self.under_way.lock().insert(endpoint.id) {
            tracing::warn!(endpoint_id = %endpoint.id, reason, "the endpoint's URL is not allowed; it is disabled");
            self.begin(vec![endpoint.id], Why::Refused { url: endpoint.url.clone(), reason: reason.to_owned() });
        }
    }

    fn begin(&self, ids: Vec<Uuid>, why: Why) {
        let disabling = self.clone().until_disabled(ids, why);
        tokio::spawn(self.helpers.watched("disabling an endpoint", disabling));
    }

    async fn until_disabled(self, ids: Vec<Uuid>, why: Why) {
        // Err: the worker is stopping.
        let _ = self.try_again_and_again(&ids, &why).await;
        let mut under_way = self.under_way.lock();
        ids.iter().for_each(|id| {
            under_way.remove(id);
        });
    }

    async fn try_again_and_again(&self, ids: &[Uuid], why: &Why) -> Result<(), Stopping> {
        let mut left = ids.to_vec();
        loop {
            left = until_answered(&self.abandon, "disable endpoints", || self.disable_free(&left, why)).await?;
            if left.is_empty() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = self.abandon.cancelled() => return Err(Stopping),
            }
        }
        // Whoever read one before it was disabled has to read it again.
        ids.iter().for_each(|id| self.endpoints.forget(*id));
        Ok(())
    }

    /// Those that are still as they were: somebody has their rows locked.
    async fn disable_free(&self, ids: &[Uuid], why: &Why) -> Result<Vec<Uuid>, StoreError> {
        let Why::Refused { url, reason } = why else { return endpoints::disable_gone(&self.db, ids).await };
        let mut left = Vec::new();
        for id in ids {
            if endpoints::disable_url(&self.db, *id, url, reason).await? {
                left.push(*id);
            }
        }
        Ok(left)
    }
}
