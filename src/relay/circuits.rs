//! Circuits whose time has come: half open after the cool-down, disabled after days, closed where circuits are off. And
//! pauses whose time is over.

use std::time::{Duration, Instant};

use super::context::Context;
use crate::store::{StoreError, circuits, pauses};

const EVERY: Duration = Duration::from_secs(1);
/// What is measured in days is looked at less often.
const RARELY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Circuits {
    last: Option<Instant>,
    last_rare: Option<Instant>,
}

impl Circuits {
    pub(super) async fn step(&mut self, context: &Context) -> Result<(), StoreError> {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        for endpoint_id in pauses::end(&context.db).await? {
            tracing::info!(%endpoint_id, "the endpoint is sent to again: the time that it asked for is over, or an operator has lifted it");
        }
        if context.limits.circuits {
            for endpoint_id in circuits::half_open_due(&context.db).await? {
                tracing::info!(%endpoint_id, "the circuit is half open: a few deliveries find out");
            }
        }
        if self.last_rare.is_none_or(|last| last.elapsed() >= RARELY) {
            self.last_rare = Some(Instant::now());
            rarely(context).await?;
        }
        Ok(())
    }
}

async fn rarely(context: &Context) -> Result<(), StoreError> {
    if !context.limits.circuits {
        circuits::close_all(&context.db).await?;
    } else if !context.limits.disable_after.is_zero() {
        for endpoint_id in circuits::disable_stale(&context.db, context.limits.disable_after).await? {
            tracing::error!(%endpoint_id, "disabled: its circuit has been open for too long");
        }
    }
    Ok(())
}
