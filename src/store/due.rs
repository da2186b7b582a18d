//! A delivery joined with its event: what the relay needs to publish its next attempt again.

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::message::Message;

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    event_id: Uuid,
    endpoint_id: Uuid,
    attempts: i32,
    base_attempts: i32,
    max_attempts: i32,
    tenant: String,
    event_type: String,
    payload: String,
    traceparent: Option<String>,
}

impl From<Row> for Message {
    fn from(row: Row) -> Message {
        Message {
            event_id: row.event_id,
            endpoint_id: row.endpoint_id,
            tenant: row.tenant,
            event_type: row.event_type,
            body: Bytes::from(row.payload),
            attempt: row.attempts + 1,
            max_attempts: row.max_attempts,
            base_attempts: row.base_attempts,
            traceparent: row.traceparent,
        }
    }
}
