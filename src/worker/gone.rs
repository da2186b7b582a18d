//! 410: the endpoint says that it is gone for good, and is disabled.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::Context;
use super::coalesce::{Stopping, persist};
use super::job::Job;
use crate::domain::decision::disables_endpoint;
use crate::store::endpoints;

/// Between two looks at a row that somebody has locked. A statement that waited for it would keep a connection meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Endpoints that are being disabled: one task is enough for each.
#[derive(Default)]
pub struct Disabling(Mutex<HashSet<Uuid>>);

impl Disabling {
    fn lock(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settlement has disabled those that it could. The others are disabled as soon as nobody has them locked; should this
/// worker end before, the next delivery to such an endpoint is answered in the same way.
pub(super) fn disable(context: &Arc<Context>, jobs: &[Job]) {
    let gone = jobs.iter().filter(|job| disables_endpoint(&job.outcome));
    let mut ids: HashSet<Uuid> = gone.map(|job| job.message.endpoint_id).collect();
    for id in &ids {
        tracing::warn!(endpoint_id = %id, "the endpoint answered 410 Gone; it is disabled");
        context.endpoints.forget(*id);
    }
    ids.retain(|id| context.disabling.lock().insert(*id));
    if !ids.is_empty() {
        let disabling = until_disabled(context.clone(), ids.into_iter().collect());
        tokio::spawn(context.helpers.watched("disabling an endpoint", disabling));
    }
}

async fn until_disabled(context: Arc<Context>, ids: Vec<Uuid>) {
    // Err: the worker is stopping.
    let _ = try_again_and_again(&context, &ids).await;
    let mut disabling = context.disabling.lock();
    ids.iter().for_each(|id| {
        disabling.remove(id);
    });
}

async fn try_again_and_again(context: &Context, ids: &[Uuid]) -> Result<(), Stopping> {
    let mut left = ids.to_vec();
    loop {
        left = persist(&context.abandon, "disable endpoints", || endpoints::disable_gone(&context.db, &left)).await?;
        if left.is_empty() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.abandon.cancelled() => return Err(Stopping),
        }
    }
    // Whoever read one before it was disabled has to read it again.
    ids.iter().for_each(|id| context.endpoints.forget(*id));
    Ok(())
}
