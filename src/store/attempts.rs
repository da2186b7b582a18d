//! Attempts: one immutable row for each HTTP request. Written by `settle`, read here.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, Result};

#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Attempt {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
    pub attempt: i32,
    pub outcome: String,
    pub status_code: Option<i32>,
    pub error: Option<String>,
    pub duration_ms: i32,
    pub started_at: DateTime<Utc>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub request_headers: Option<serde_json::Value>,
    pub response_headers: Option<serde_json::Value>,
    pub response_body: Option<String>,
    pub worker: Option<String>,
}

/// The attempts of one event, for one endpoint or for all, oldest first.
pub async fn of_event(db: &Db, event_id: Uuid, endpoint_id: Option<Uuid>) -> Result<Vec<Attempt>> {
    db.run(async |c| {
        sqlx::query_as(
            "select event_id, endpoint_id, attempt, outcome, status_code, error, duration_ms, started_at,
                    next_attempt_at, request_headers, response_headers, response_body, worker
               from posthaste.attempts
              where event_id = $1 and ($2::uuid is null or endpoint_id = $2)
              order by endpoint_id, attempt limit 1000",
        )
        .bind(event_id)
        .bind(endpoint_id)
        .fetch_all(c)
        .await
    })
    .await
}
