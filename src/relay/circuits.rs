//! Circuits whose time has come: half open after the cool-down, disabled after days, closed where circuits are off. And
//! pauses whose time is over.

use std::time::{Duration, Instant};

use crate::store::{Db, StoreError, circuits, pauses};

const EVERY: Duration = Duration::from_secs(1);
/// What is measured in days is looked at less often.
const RARELY: Duration = Duration::from_secs(10);

pub(super) struct Circuits {
    db: Db,
    /// Circuits are in use; otherwise any that is open is closed.
    in_use: bool,
    /// Endpoints whose circuit has not been closed for this long are disabled; zero: never.
    disable_after: Duration,
    last: Option<Instant>,
    last_rare: Option<Instant>,
}

impl Circuits {
    pub fn new(db: Db, in_use: bool, disable_after: Duration) -> Circuits {
        Circuits { db, in_use, disable_after, last: None, last_rare: None }
    }

    pub async fn step(&mut self) -> Result<(), StoreError> {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        for endpoint_id in pauses::end(&self.db).await? {
            tracing::info!(%endpoint_id, "the endpoint is sent to again: the time that it asked for is over, or an operator has lifted it");
        }
        if self.in_use {
            for endpoint_id in circuits::half_open_due(&self.db).await? {
                tracing::info!(%endpoint_id, "the circuit is half open: a few deliveries find out");
            }
        }
        if self.last_rare.is_none_or(|last| last.elapsed() >= RARELY) {
            self.last_rare = Some(Instant::now());
            self.rarely().await?;
        }
        Ok(())
    }

    async fn rarely(&self) -> Result<(), StoreError> {
        if !self.in_use {
            circuits::close_all(&self.db).await?;
        } else if !self.disable_after.is_zero() {
            for endpoint_id in circuits::disable_stale(&self.db, self.disable_after).await? {
                tracing::error!(%endpoint_id, "disabled: its circuit has been open for too long");
            }
        }
        Ok(())
    }
}
