//! Emitting events the way producers do, and looking at what became of them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx_macros::FromRow;
use uuid::Uuid;

use super::eventually;
use super::stack::Stack;
use crate::kit::database::{unfinished, unmoved};

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Delivery {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
    pub status: String,
    pub attempts: i32,
    pub base_attempts: i32,
    pub max_attempts: i32,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub last_status_code: Option<i32>,
    pub last_error: Option<String>,
    pub dead_reason: Option<String>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Attempt {
    pub attempt: i32,
    pub outcome: String,
    pub status_code: Option<i32>,
    pub error: Option<String>,
    pub duration_ms: i32,
    pub started_at: DateTime<Utc>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub request_headers: Value,
    pub response_headers: Value,
    pub response_body: Option<String>,
    pub worker: String,
}

impl Stack {
    /// One event in a transaction of its own.
    pub async fn emit(&self, tenant: &str, event_type: &str, payload: &str) -> Uuid {
        let emit = "select posthaste.emit($1, $2, $3::text::json)";
        let emit = sqlx::query_scalar(emit).bind(tenant).bind(event_type).bind(payload);
        emit.fetch_one(&self.db).await.expect("the event is accepted")
    }

    /// Many events in one transaction; the payload of each is its number.
    pub async fn emit_many(&self, tenant: &str, event_type: &str, count: i32) -> Vec<Uuid> {
        let emit = "select posthaste.emit($1, $2, json_build_object('n', n)) from generate_series(1, $3) n";
        let emit = sqlx::query_scalar(emit).bind(tenant).bind(event_type).bind(count);
        emit.fetch_all(&self.db).await.expect("the events are accepted")
    }

    /// A delivery that died some minutes ago, without the way there: one attempt, and no dead letter yet.
    pub async fn dead(&self, endpoint: Uuid, event: (&str, &str), reason: &str, minutes: i32) -> Uuid {
        let insert = "with e as (
               insert into posthaste.events (id, tenant, event_type, payload, created_at)
               values (posthaste.uuid_v7(), $2, $3, '{}', now()) returning id)
             insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, base_attempts, max_attempts,
                    next_attempt_at, dead_reason, last_error, updated_at)
             select id, $1, 'dead', 1, 0, 1, null, $4, 'status 500', now() - $5 * interval '1 minute' from e
             returning event_id";
        let insert = sqlx::query_scalar(insert).bind(endpoint).bind(event.0).bind(event.1).bind(reason).bind(minutes);
        insert.fetch_one(&self.db).await.expect("a dead delivery")
    }

    /// As if everything dead had died a while ago: what has just died is still left to its worker.
    pub async fn age_the_dead(&self) {
        self.execute(
            "update posthaste.deliveries set updated_at = updated_at - interval '1 minute' where status = 'dead'",
        )
        .await;
    }

    /// A statement that changes something.
    pub async fn execute(&self, statement: &'static str) -> u64 {
        sqlx::query(statement).execute(&self.db).await.expect(statement).rows_affected()
    }

    /// A statement about one endpoint, which is `$1`.
    pub async fn change(&self, endpoint: Uuid, statement: &'static str) {
        let changed = sqlx::query(statement).bind(endpoint).execute(&self.db).await.expect(statement);
        assert_eq!(changed.rows_affected(), 1, "{statement}");
    }

    pub async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.db).await.expect(query)
    }

    pub async fn deliveries(&self) -> Vec<Delivery> {
        let all = "select * from posthaste.deliveries order by event_id, endpoint_id";
        sqlx::query_as(all).fetch_all(&self.db).await.expect(all)
    }

    /// The one delivery of an event.
    pub async fn delivery(&self, event: Uuid) -> Delivery {
        let one = "select * from posthaste.deliveries where event_id = $1";
        sqlx::query_as(one).bind(event).fetch_one(&self.db).await.expect(one)
    }

    /// All attempts of an event, in order.
    pub async fn attempts(&self, event: Uuid) -> Vec<Attempt> {
        let all = "select * from posthaste.attempts where event_id = $1 order by attempt, endpoint_id";
        sqlx::query_as(all).bind(event).fetch_all(&self.db).await.expect(all)
    }

    /// Deliveries by status.
    pub async fn statuses(&self) -> BTreeMap<String, i64> {
        let count = "select status, count(*) from posthaste.deliveries group by 1";
        let counts: Vec<(String, i64)> = sqlx::query_as(count).fetch_all(&self.db).await.expect(count);
        counts.into_iter().collect()
    }

    /// Waits until an event's one delivery has this status.
    pub async fn wait_status(&self, event: Uuid, status: &str) -> Delivery {
        let one = "select * from posthaste.deliveries where event_id = $1 and status = $2";
        eventually(&format!("{event} is {status}"), async || {
            sqlx::query_as(one).bind(event).bind(status).fetch_optional(&self.db).await.expect(one)
        })
        .await
    }

    /// Waits until so many deliveries have this status.
    pub async fn wait_statuses(&self, status: &str, count: i64) {
        let some = "select count(*) from posthaste.deliveries where status = $1";
        eventually(&format!("{count} deliveries are {status}"), async || {
            let now: i64 = sqlx::query_scalar(some).bind(status).fetch_one(&self.db).await.expect(some);
            (now == count).then_some(())
        })
        .await;
    }

    /// Waits until every event has left the outbox, every delivery is delivered or dead, and no batch is listed.
    pub async fn wait_settled(&self) -> BTreeMap<String, i64> {
        let settled = async || (unfinished(&self.db).await.expect("a count") == 0).then_some(());
        eventually("everything is settled", settled).await;
        self.statuses().await
    }

    /// Waits until the relay has taken everything.
    pub async fn wait_relayed(&self) {
        let relayed = async || (unmoved(&self.db).await.expect("a count") == 0).then_some(());
        eventually("everything is relayed", relayed).await;
    }

    /// Waits until a relay sleeps and producers notify.
    pub async fn wait_asleep(&self) {
        let asleep =
            "select count(*) from posthaste.wake where last_value > date_part('epoch', clock_timestamp()) * 1000";
        eventually("a relay sleeps", async || (self.number(asleep).await == 1).then_some(())).await;
    }
}
