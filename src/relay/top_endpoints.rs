//! Which endpoints have the most held deliveries. The relay that leads looks, where it is wanted at all: these metrics have an
//! endpoint as their label.

use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use crate::store::held::{self, Backlog};
use crate::store::{Db, StoreError};
use crate::telemetry::metrics;

pub(super) const TICK: Duration = Duration::from_secs(10);

pub(super) struct TopEndpoints {
    pub db: Db,
    /// Where the days that have held deliveries are known.
    pub held: Arc<Held>,
    /// So many; 0: nobody looks.
    pub most: u32,
}

impl TopEndpoints {
    pub fn are_wanted(&self) -> bool {
        self.most > 0
    }

    pub async fn step(&self) -> Result<(), StoreError> {
        let backlogs = held::backlogs(&self.db, &self.held.days(), self.most as usize).await;
        // What cannot be read any more is not said any more.
        let backlogs = backlogs.inspect_err(|_| metrics::top_endpoints(&[]))?;
        let shown = |backlog: &Backlog| (backlog.endpoint_id, backlog.held as f64, backlog.due_s.max(0.0));
        metrics::top_endpoints(&backlogs.iter().map(shown).collect::<Vec<_>>());
        Ok(())
    }
}

/// Another relay leads from now on, and says which they are.
impl Drop for TopEndpoints {
    fn drop(&mut self) {
        metrics::top_endpoints(&[]);
    }
}
