//! Batches that are committed and not yet confirmed by the broker, and what a dead relay left of them.

use std::time::Duration;

use super::{Db, Result, due};
use crate::domain::message::Message;

/// Forgets batches whose every copy the broker has confirmed.
pub async fn unlist(db: &Db, ids: &[i64]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    db.run(async |c| {
        sqlx::query("delete from posthaste.relay_batches where id = any ($1)").bind(ids).execute(c).await.map(drop)
    })
    .await
}

/// Relays, other than this one, that have listed batches; those whose session is gone are to be adopted.
pub async fn other_relays(db: &Db, relay: i64) -> Result<Vec<i64>> {
    db.run(async |c| {
        sqlx::query_scalar("select distinct relay from posthaste.relay_batches where relay <> $1 limit 100")
            .bind(relay)
            .fetch_all(c)
            .await
    })
    .await
}

/// The oldest batches of a relay. Younger ones than this may still have copies in the queue of first attempts that are so
/// fresh that their worker does not read the row; by then it does, and drops them if the adopted copy was faster.
pub const ADOPTABLE: Duration = Duration::from_secs(2);

pub async fn of_relay(db: &Db, relay: i64, limit: i64) -> Result<Vec<i64>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select id from posthaste.relay_batches where relay = $1 and claimed_at < now() - $3 * interval '1 second'
              order by id limit $2",
        )
        .bind(relay)
        .bind(limit)
        .bind(ADOPTABLE.as_secs_f64())
        .fetch_all(c)
        .await
    })
    .await
}

/// The messages of a batch that are still owed: what was settled or held since needs none.
pub async fn unfinished(db: &Db, batch: i64) -> Result<Vec<Message>> {
    let rows: Vec<due::Row> = db
        .run(async |c| {
            sqlx::query_as(
                "with b as (select distinct unnest(event_ids) as event_id from posthaste.relay_batches where id = $1)
                 select d.event_id, d.endpoint_id, d.attempts, d.base_attempts, d.max_attempts,
                        e.tenant, e.event_type, e.payload::text as payload, e.traceparent
                   from b
                   join posthaste.deliveries d on d.event_id = b.event_id
                   join posthaste.events e on e.id = b.event_id
                  where d.status = 'pending'
                  order by 1, 2",
            )
            .bind(batch)
            .fetch_all(c)
            .await
        })
        .await?;
    Ok(rows.into_iter().map(Message::from).collect())
}
