//! Batches that are committed and not yet confirmed by the broker, and what a dead relay left of them.

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

/// The oldest batches of a relay.
pub async fn of_relay(db: &Db, relay: i64, limit: i64) -> Result<Vec<i64>> {
    db.run(async |c| {
        sqlx::query_scalar("select id from posthaste.relay_batches where relay = $1 order by id limit $2")
            .bind(relay)
            .bind(limit)
            .fetch_all(c)
            .await
    })
    .await
}

/// The first attempts of a batch that are still owed: what was settled or held since needs no message.
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
                  where d.status = 'pending' and d.attempts = 0
                  order by 1, 2",
            )
            .bind(batch)
            .fetch_all(c)
            .await
        })
        .await?;
    Ok(rows.into_iter().map(Message::from).collect())
}
