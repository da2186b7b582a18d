//! The statements on `processed_webhooks`, one function each. Times are arguments: they are the service's, not the server's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::types::Json;

use super::super::event::Event;
use super::answer::Answer;
use crate::domain::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP};

/// From here to the end of the transaction, no lock is waited for longer than this. Returns what it was before.
pub async fn limit_waiting(c: &mut PgConnection, wait: Duration) -> sqlx::Result<String> {
    // In the order in which they are written, as PostgreSQL evaluates a list without sorting.
    let set = "select current_setting('lock_timeout') as before, set_config('lock_timeout', $1, true)";
    let (before, _): (String, String) =
        sqlx::query_as(set).bind(format!("{}ms", wait.as_millis().max(1))).fetch_one(c).await?;
    Ok(before)
}

pub async fn wait_as_before(c: &mut PgConnection, before: &str) -> sqlx::Result<()> {
    sqlx::query("select set_config('lock_timeout', $1, true)").bind(before).execute(c).await.map(drop)
}

/// Whether the event is to be handled in this transaction: it is new, has failed before, or its time was over. While
/// another transaction handles it, this waits for that one's end.
pub async fn claim(c: &mut PgConnection, event: &Event, now: DateTime<Utc>, ttl: Duration) -> sqlx::Result<bool> {
    let claimed = sqlx::query(
        "insert into processed_webhooks as known (event_id, event_type, received_at, status, idempotency_expires_at)
         values ($1, $2, $3, 'processing', $3 + $4 * interval '1 second')
         on conflict (event_id) do update
            set event_type = excluded.event_type, received_at = excluded.received_at, status = 'processing',
                response_code = null, response_body = null, idempotency_expires_at = excluded.idempotency_expires_at
          where known.status <> 'done' or known.idempotency_expires_at <= excluded.received_at",
    )
    .bind(&event.id)
    .bind(&event.event_type)
    .bind(now)
    .bind(ttl.as_secs_f64())
    .execute(c)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

pub async fn answered(c: &mut PgConnection, id: &str) -> sqlx::Result<Answer> {
    let read = "select response_code, response_body from processed_webhooks where event_id = $1";
    let (status, body): (Option<i32>, Option<String>) = sqlx::query_as(read).bind(id).fetch_one(c).await?;
    Ok(Answer::stored(status, body.as_deref()))
}

/// What was kept of a failure is not needed any more.
pub async fn done(c: &mut PgConnection, id: &str, answer: &Answer) -> sqlx::Result<()> {
    let update = "update processed_webhooks
           set status = 'done', response_code = $2, response_body = $3, raw_body = null, signature_headers = null
         where event_id = $1";
    let body = answer.body.as_ref().map(ToString::to_string);
    sqlx::query(update).bind(id).bind(i32::from(answer.status)).bind(body).execute(c).await.map(drop)
}

/// With `keep`, the body and the signature's headers stay with the row.
pub async fn failed(c: &mut PgConnection, event: &Event, status: u16, keep: bool) -> sqlx::Result<()> {
    let update = "update processed_webhooks
           set status = 'failed', response_code = $2, raw_body = $3, signature_headers = $4
         where event_id = $1";
    let headers = serde_json::json!({
        HEADER_ID: event.id, HEADER_TIMESTAMP: event.timestamp.to_string(), HEADER_SIGNATURE: event.signature,
    });
    sqlx::query(update)
        .bind(&event.id)
        .bind(i32::from(status))
        .bind(keep.then_some(&event.body[..]))
        .bind(keep.then_some(Json(headers)))
        .execute(c)
        .await
        .map(drop)
}

/// The failed events whose bodies were kept, oldest first.
pub async fn kept(c: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<String>> {
    let list = "select event_id from processed_webhooks
         where status = 'failed' and raw_body is not null order by received_at limit $1";
    sqlx::query_scalar(list).bind(limit).fetch_all(c).await
}

/// A failed event as it came, for this transaction alone. `None`: it was handled meanwhile, was not kept, or somebody has it.
pub async fn take_failed(c: &mut PgConnection, id: &str) -> sqlx::Result<Option<Event>> {
    let take = "select event_type, raw_body, signature_headers from processed_webhooks
         where event_id = $1 and status = 'failed' and raw_body is not null for update skip locked";
    let row: Option<(Option<String>, Vec<u8>, Json<serde_json::Value>)> =
        sqlx::query_as(take).bind(id).fetch_optional(c).await?;
    Ok(row.map(|(event_type, body, headers)| {
        let header = |name: &str| headers[name].as_str().unwrap_or_default();
        let (timestamp, signature) = (header(HEADER_TIMESTAMP).parse::<i64>(), header(HEADER_SIGNATURE).to_owned());
        Event { id: id.to_owned(), event_type, timestamp: timestamp.unwrap_or_default(), signature, body: body.into() }
    }))
}

/// At most so many; those that somebody has locked are left for the next time.
pub async fn forget(c: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let delete = "delete from processed_webhooks where event_id in (
           select event_id from processed_webhooks where idempotency_expires_at <= $1
            order by idempotency_expires_at limit $2 for update skip locked)";
    Ok(sqlx::query(delete).bind(now).bind(limit).execute(c).await?.rows_affected())
}
