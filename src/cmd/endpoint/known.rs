//! Whether an endpoint or a tenant is known.

use uuid::Uuid;

use super::super::failure::{Failure, Outcome};
use crate::store::{Db, endpoints};

/// Tenants are no rows: one is known by its endpoints.
pub async fn warn_of_unknown(db: &Db, tenant: &str) -> Outcome {
    if endpoints::list(db, Some(tenant), 1).await?.is_empty() {
        tracing::warn!(
            "tenant: '{tenant}' has no endpoint; check its spelling, or add one with `posthaste endpoint add`"
        );
    }
    Ok(())
}

pub async fn existing(db: &Db, id: Uuid) -> Result<endpoints::Endpoint, Failure> {
    endpoints::get(db, id).await?.ok_or_else(|| unknown(id))
}

pub(super) fn unknown(id: Uuid) -> Failure {
    Failure::Failed(format!("endpoint {id}: not found; `posthaste endpoint list` shows the ones there are"))
}
