//! Whether an endpoint is behind, for a command that makes work for it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::flows::BEHIND_MS;
use crate::store::{Db, StoreError, held};

const LOOK: Duration = Duration::from_secs(1);

/// Looked at again after a second.
pub(super) struct Behind {
    endpoint: Uuid,
    looked: Option<Instant>,
    is: bool,
}

impl Behind {
    pub(super) fn new(endpoint: Uuid) -> Behind {
        Behind { endpoint, looked: None, is: false }
    }

    /// It has a held delivery that should have been released a while ago: what is new for it is held too, behind that.
    pub(super) async fn look(&mut self, db: &Db) -> Result<bool, StoreError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(self.is);
        }
        self.is = !among(db, &[self.endpoint]).await?.is_empty();
        self.looked = Some(Instant::now());
        Ok(self.is)
    }
}

/// Those of the endpoints that are behind.
pub(super) async fn among(db: &Db, endpoints: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
    let mut behind = HashSet::new();
    for day in held::days_with_any(db, &held::days(db).await?).await? {
        let held = held::of(db, day, endpoints).await?;
        behind.extend(held.iter().filter(|held| held.due_in_ms < -BEHIND_MS).map(|held| held.endpoint_id));
    }
    Ok(behind)
}
