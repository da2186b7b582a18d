//! What the scan over held deliveries has found, for the other parts of this relay.

use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use crate::store::days::Day;

#[derive(Default)]
pub(super) struct Held {
    behind: RwLock<Arc<[Uuid]>>,
    days: RwLock<Arc<[Day]>>,
}

impl Held {
    /// Endpoints with a held delivery that should have been released a while ago. What is new for one of them is held too,
    /// behind what it waits for. As of the last tick; bounded.
    pub(super) fn behind(&self) -> Arc<[Uuid]> {
        self.behind.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Days that have held deliveries, in order.
    pub(super) fn days(&self) -> Arc<[Day]> {
        self.days.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_behind(&self, endpoints: Vec<Uuid>) {
        *self.behind.write().unwrap_or_else(PoisonError::into_inner) = endpoints.into();
    }

    pub(super) fn set_days(&self, days: &[Day]) {
        *self.days.write().unwrap_or_else(PoisonError::into_inner) = days.into();
    }
}
