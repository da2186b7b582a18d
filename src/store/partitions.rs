//! Daily partitions of events, deliveries and attempts, made ahead of their day.

use chrono::{DateTime, NaiveDate, Utc};

use super::{Db, Result};

/// Makes yesterday to a week ahead. Returns how many partitions were made; safe from several relays at once.
pub async fn make_ahead(db: &Db) -> Result<i32> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select posthaste.create_partitions((now() at time zone 'utc')::date - 1, (now() at time zone 'utc')::date + 7)",
        )
        .fetch_one(c)
        .await
    })
    .await
}

/// Makes the day of the oldest row in the outbox, for a relay that slept longer than the partitions made ahead last.
pub async fn make_for_outbox(db: &Db) -> Result<i32> {
    let oldest: Option<uuid::Uuid> = db
        .run(async |c| {
            sqlx::query_scalar("select id from posthaste.outbox order by id limit 1").fetch_optional(c).await
        })
        .await?;
    let Some(day) = oldest.and_then(|id| day_of(crate::domain::ids::unix_ms(id))) else { return Ok(0) };
    db.run(async |c| {
        sqlx::query_scalar("select posthaste.create_partitions($1, greatest($1, (now() at time zone 'utc')::date + 7))")
            .bind(day)
            .fetch_one(c)
            .await
    })
    .await
}

fn day_of(unix_ms: i64) -> Option<NaiveDate> {
    DateTime::<Utc>::from_timestamp_millis(unix_ms).map(|time| time.date_naive())
}
