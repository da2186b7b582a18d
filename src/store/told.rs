//! Events about events, for the tenant `operations.tenant`. The database emits them in the transaction of the change (the
//! migration 0029); a statement that ends deliveries asks it to.

use super::{Db, Result};

/// A column for the answer of a statement: it tells of those of its `rows` that are dead. Nothing is done, and nothing planned,
/// while nobody wants to hear of it.
macro_rules! tell_dead {
    ($rows:literal) => {
        concat!(
            "(select posthaste.tell_dead(array_agg(x.event_id), array_agg(x.endpoint_id), array_agg(x.dead_reason),
                array_agg(x.attempts), array_agg(x.last_status_code)) from ",
            $rows,
            " x where x.status = 'dead' and posthaste.operations_tenant() is not null having count(*) > 0) as told"
        )
    };
}
pub(super) use tell_dead;

/// How long it is remembered what was told. Only the last minute counts.
const REMEMBERED: &str = "1 hour";

/// Forgets what was told long ago.
pub async fn prune(db: &Db) -> Result<u64> {
    let statement = "delete from posthaste.operations_told where told_at < now() - $1::text::interval";
    let pruned = db.run(async |c| sqlx::query(statement).bind(REMEMBERED).execute(c).await).await?;
    Ok(pruned.rows_affected())
}
