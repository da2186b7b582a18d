//! What is too old to be needed, outside the days of history. A batch at a time; each function returns how many rows it removed.

use super::{Db, Result};

/// Rows removed with one statement.
pub const BATCH: u64 = 500;

/// Events that were set aside this long ago, with their payloads. Returns their ids.
pub async fn remove_set_aside(db: &Db, days: u32) -> Result<Vec<uuid::Uuid>> {
    const REMOVE: &str = "delete from posthaste.set_aside s using (
        select id, set_aside_at from posthaste.set_aside
         where set_aside_at < now() - $1 * interval '1 day' limit $2) old
      where (s.id, s.set_aside_at) = (old.id, old.set_aside_at) returning s.id";
    db.run(async |c| sqlx::query_scalar(REMOVE).bind(f64::from(days)).bind(BATCH as i64).fetch_all(c).await).await
}

/// Accounts of requeues and replays that began this long ago.
pub async fn remove_requeues(db: &Db, days: u32) -> Result<u64> {
    const REMOVE: &str = "delete from posthaste.requeues where id = any (array(
        select id from posthaste.requeues where started_at < now() - $1 * interval '1 day' limit $2))";
    let remove = sqlx::query(REMOVE).bind(f64::from(days)).bind(BATCH as i64);
    Ok(db.run(async |c| remove.execute(c).await).await?.rows_affected())
}

/// Signing keys that have not signed for a day: their grace after a rotation is over.
pub async fn remove_secrets(db: &Db) -> Result<u64> {
    const REMOVE: &str = "delete from posthaste.endpoint_secrets where id = any (array(
        select id from posthaste.endpoint_secrets where expires_at < now() - interval '1 day' limit $1))";
    let remove = sqlx::query(REMOVE).bind(BATCH as i64);
    Ok(db.run(async |c| remove.execute(c).await).await?.rows_affected())
}
