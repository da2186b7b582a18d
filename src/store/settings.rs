//! Whether a session of the service has the settings that it was begun with (`options`).

use super::{Db, Result, StoreError};

/// One that every service session has, and the one that payloads depend on. The role may have them instead.
const ARRIVED: &str = "
select current_setting('enable_seqscan') = 'off'
   and (not $1 or coalesce(current_setting('posthaste.payload', true), '') = 'reference')";

/// Fails with `SettingsDropped` where a pooler in between has dropped them, which it does without a word.
pub async fn must_arrive(db: &Db, by_reference: bool) -> Result<()> {
    let arrived: bool = db.run(async |c| sqlx::query_scalar(ARRIVED).bind(by_reference).fetch_one(c).await).await?;
    if arrived { Ok(()) } else { Err(StoreError::SettingsDropped) }
}
