//! A delivery joined with its event: what the relay needs to publish its next attempt again.

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::message::{Body, Message};

/// What a message gets of a payload: itself, or about its size where the session says that messages only refer to it.
macro_rules! carried {
    ($row:literal) => {
        concat!(
            "case when current_setting('posthaste.payload', true) = 'reference' then null else ",
            $row,
            ".payload::text end as payload, case when current_setting('posthaste.payload', true) = 'reference' then (
              case when pg_column_compression(",
            $row,
            ".payload) is null then pg_column_size(",
            $row,
            ".payload) else octet_length(",
            $row,
            ".payload::text) end)::int8 end as payload_bytes"
        )
    };
}
pub(super) use carried;

/// The columns of an event `e` that a message needs.
macro_rules! of_event {
    () => {
        concat!("e.tenant, e.event_type, ", $crate::store::due::carried!("e"), ", e.traceparent")
    };
}
pub(super) use of_event;

/// As `carried!` reads it.
pub(super) fn body(payload: Option<String>, bytes: Option<i64>) -> Body {
    match payload {
        Some(text) => Body::Here(Bytes::from(text)),
        None => Body::InPostgres { bytes: bytes.unwrap_or_default().clamp(0, i32::MAX.into()) as u32 },
    }
}

/// Whether an endpoint `ep` is sent to now. What is due for another one is held.
macro_rules! is_sent_to {
    () => {
        "ep.status = 'enabled' and ep.circuit_state = 'closed' and coalesce(ep.paused_until <= now(), true)"
    };
}
pub(super) use is_sent_to;

/// The end of a statement that has changed deliveries, as its part `u` returns them: lists those that are due under the relay
/// until they are confirmed, and returns all of them with their events.
macro_rules! list_and_return {
    (relay = $relay:literal, due = $due:literal, events = $events:literal) => {
        concat!(
            ", b as (
           insert into posthaste.relay_batches (relay, event_ids, endpoint_ids)
           select ",
            $relay,
            ", array_agg(u.event_id), array_agg(u.endpoint_id) from u where ",
            $due,
            " having count(*) > 0 returning id)
         select u.*, (select id from b) as batch_id, ",
            $crate::store::due::of_event!(),
            " from u join ",
            $events,
            " e on ",
            $crate::store::days::same_event!("u"),
            " order by 1"
        )
    };
}
pub(super) use list_and_return;

#[derive(sqlx_macros::FromRow)]
pub(super) struct Row {
    event_id: Uuid,
    endpoint_id: Uuid,
    attempts: i32,
    base_attempts: i32,
    max_attempts: i32,
    tenant: String,
    event_type: String,
    payload: Option<String>,
    payload_bytes: Option<i64>,
    traceparent: Option<String>,
}

/// A row of a batch that was listed in `relay_batches` in the same statement.
#[derive(sqlx_macros::FromRow)]
pub(super) struct Listed {
    batch_id: Option<i64>,
    #[sqlx(flatten)]
    row: Row,
}

/// A row that was written as due, or as held where its endpoint gets nothing just now.
#[derive(sqlx_macros::FromRow)]
pub(super) struct Written {
    status: String,
    #[sqlx(flatten)]
    listed: Listed,
}

/// What one statement of a requeue or replay made.
#[derive(Debug, Default)]
pub struct Made {
    /// Including those that are held.
    pub deliveries: u64,
    /// The highest of their events.
    pub last: Option<Uuid>,
    pub batch: Batch,
}

impl From<Vec<Written>> for Made {
    /// Of rows in the order of their events.
    fn from(rows: Vec<Written>) -> Made {
        let deliveries = rows.len() as u64;
        let last = rows.last().map(|row| row.listed.row.event_id);
        let due: Vec<Listed> = rows.into_iter().filter(|row| row.status == "pending").map(|row| row.listed).collect();
        Made { deliveries, last, batch: Batch::from(due) }
    }
}

/// Messages to publish now that their rows are committed, and the listing to remove when all are confirmed.
#[derive(Debug, Default)]
pub struct Batch {
    pub id: Option<i64>,
    pub messages: Vec<Message>,
}

impl From<Vec<Listed>> for Batch {
    fn from(rows: Vec<Listed>) -> Batch {
        let id = rows.first().and_then(|row| row.batch_id);
        Batch { id, messages: rows.into_iter().map(|listed| listed.row.into()).collect() }
    }
}

impl From<Row> for Message {
    fn from(row: Row) -> Message {
        Message {
            event_id: row.event_id,
            endpoint_id: row.endpoint_id,
            tenant: row.tenant.into(),
            event_type: row.event_type.into(),
            body: body(row.payload, row.payload_bytes),
            attempt: row.attempts + 1,
            max_attempts: row.max_attempts,
            base_attempts: row.base_attempts,
            traceparent: row.traceparent.map(Into::into),
            claimed_ms: None,
        }
    }
}
