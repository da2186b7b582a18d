//! The transitions exist twice: as pure functions, which the model checks, and as SQL. Here both get every small state.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::decision::{Decision, Parked};
use posthaste::domain::delivery::{self as domain, Row, Status};
use posthaste::domain::ids::{DeliveryKey, new_v7};
use posthaste::store::days::Day;
use posthaste::store::deliveries::{self, Snapshot};
use posthaste::store::due::Batch;
use posthaste::store::settle::{self, Settlement};
use posthaste::store::{Db, Options, release, requeue};
use uuid::Uuid;

use crate::harness::Stack;

/// Delays that no two decisions share, and that a slow test does not reach.
const RETRY_MS: u64 = 3_600_000;
const PARK_MS: u64 = 7_200_000;
const HOLD_MS: u64 = 5_400_000;
const RELAY: i64 = 17;

pub fn store(stack: &Stack) -> Db {
    Db::new(&Options {
        found: Default::default(),
        url: stack.binary.database_url.clone().into(),
        tls: posthaste::tls::Files::default(),
        max_connections: 4,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(60),
        lock_timeout: Duration::from_secs(60),
        application_name: "posthaste tests".into(),
        service: true,
        asynchronous_commit: false,
        by_reference: false,
    })
    .unwrap()
}

/// Every row of up to three attempts that the table can hold.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for status in Status::ALL {
        for attempts in 0..=3 {
            for base_attempts in 0..=attempts {
                for max_attempts in 1..=3 {
                    let due_in_ms = matches!(status, Status::Pending | Status::Retrying | Status::Held).then_some(0);
                    let reasons: &[_] = match status {
                        Status::Dead => &[Some(DeadReason::Poison), Some(DeadReason::Erased)],
                        _ => &[None],
                    };
                    rows.extend(reasons.iter().map(|dead_reason| {
                        let dead_reason = *dead_reason;
                        Row { status, attempts, base_attempts, max_attempts, due_in_ms, dead_reason }
                    }));
                }
            }
        }
    }
    rows
}

/// Stores each row under a key of its own; the events exist too, because a message is made from them.
pub async fn insert(stack: &Stack, endpoint: Uuid, rows: &[Row]) -> Vec<DeliveryKey> {
    let now = Utc::now().timestamp_millis() as u64;
    let keys: Vec<DeliveryKey> = (0..rows.len() as u64)
        .map(|number| {
            let mut random = [0; 10];
            random[2..].copy_from_slice(&number.to_be_bytes());
            DeliveryKey { event_id: new_v7(now, random), endpoint_id: endpoint }
        })
        .collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.event_id).collect();
    let events = "insert into posthaste.events (id, tenant, event_type, payload, created_at)
        select id, 'acme', 'a.b', '{}', now() from unnest($1::uuid[]) id";
    sqlx::query(events).bind(&ids).execute(&stack.db).await.unwrap();
    let statement =
        "insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, base_attempts, max_attempts,
            next_attempt_at, dead_reason, updated_at)
        select event_id, $2, status, attempts, base_attempts, max_attempts,
               now() + due_ms * interval '1 millisecond', dead_reason, now() - interval '1 hour'
          from unnest($1::uuid[], $3::text[], $4::int[], $5::int[], $6::int[], $7::bigint[], $8::text[])
            as t(event_id, status, attempts, base_attempts, max_attempts, due_ms, dead_reason)";
    sqlx::query(statement)
        .bind(&ids)
        .bind(endpoint)
        .bind(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.attempts).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.base_attempts).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.max_attempts).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.due_in_ms).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.dead_reason.map(DeadReason::as_str)).collect::<Vec<_>>())
        .execute(&stack.db)
        .await
        .unwrap();
    keys
}

/// The rows as they are stored now.
async fn stored(db: &Db, keys: &[DeliveryKey]) -> BTreeMap<DeliveryKey, Row> {
    let mut found = BTreeMap::new();
    for keys in keys.chunks(5_000) {
        found
            .extend(deliveries::read(db, keys).await.unwrap().into_iter().map(|snapshot| (snapshot.key, snapshot.row)));
    }
    found
}

/// A stored due time has moved on by the time since it was set, so it may be a little less, never more.
fn same(actual: &Row, expected: &Row) -> bool {
    let due = match (actual.due_in_ms, expected.due_in_ms) {
        (None, None) => true,
        (Some(actual), Some(expected)) => (expected - 120_000..=expected).contains(&actual),
        _ => false,
    };
    due && Row { due_in_ms: None, ..*actual } == Row { due_in_ms: None, ..*expected }
}

struct Case {
    row: Row,
    attempt: i32,
    decision: Decision,
    budget: Option<i32>,
}

fn cases() -> Vec<Case> {
    let decisions = [
        Decision::Delivered,
        Decision::Dead(DeadReason::Gone),
        Decision::Retry { delay_ms: RETRY_MS },
        Decision::Park { delay_ms: PARK_MS, why: Parked::RetryAfter },
    ];
    let mut cases = Vec::new();
    for row in rows() {
        for attempt in 1..=5 {
            for decision in &decisions {
                for budget in [None, Some(1), Some(2)] {
                    cases.push(Case { row, attempt, decision: *decision, budget });
                }
            }
        }
    }
    cases
}

fn settlement(key: DeliveryKey, case: &Case) -> Settlement {
    Settlement {
        key,
        attempt: case.attempt,
        decision: case.decision,
        budget: case.budget,
        status_code: Some(500),
        error: Some("status 500".into()),
        duration_ms: 7,
        started_at: Utc::now(),
        request_headers: vec![("webhook-id".into(), key.event_id.to_string())],
        response_headers: Vec::new(),
        response_body: None,
    }
}

#[tokio::test]
async fn settling_in_sql_agrees_with_the_domain_on_every_small_state() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let cases = cases();
    let keys = insert(&stack, Uuid::from_u128(1), &cases.iter().map(|case| case.row).collect::<Vec<_>>()).await;
    let settlements: Vec<Settlement> = keys.iter().zip(&cases).map(|(key, case)| settlement(*key, case)).collect();

    let mut answers: Vec<Option<Snapshot>> = Vec::new();
    for batch in settlements.chunks(1_000) {
        answers.extend(settle::settle(&db, "tester", batch).await.unwrap());
    }

    let now = stored(&db, &keys).await;
    let mut attempts = attempts(&stack).await;
    let mut won = 0;
    for ((key, case), answer) in keys.iter().zip(&cases).zip(&answers) {
        let Case { row, attempt, decision, budget } = case;
        let told = format!("{row:?}, attempt {attempt}, {decision:?}, budget {budget:?}");
        let expected = domain::settle(row, *attempt, decision, budget.map(|budget| budget as u32));
        let kept = attempts.remove(&key.event_id);
        match (&expected, answer) {
            (None, None) => {
                assert!(same(&now[key], row), "{told}: the row changed to {:?}", now[key]);
                assert_eq!(kept, None, "{told}: no attempt is recorded");
            }
            (Some(expected), Some(snapshot)) => {
                assert!(same(&snapshot.row, expected), "{told}: SQL says {:?}, the domain {expected:?}", snapshot.row);
                assert!(same(&now[key], expected), "{told}: stored is {:?}", now[key]);
                let outcome = match expected.status {
                    Status::Delivered => "delivered",
                    Status::Dead => "dead",
                    _ => "retry",
                };
                let (number, recorded, due) = kept.expect("an attempt is recorded");
                assert_eq!(
                    (number, recorded.as_str(), due.is_some()),
                    (*attempt, outcome, outcome == "retry"),
                    "{told}"
                );
                won += 1;
            }
            _ => panic!("{told}: the domain says {expected:?}, SQL {answer:?}"),
        }
    }
    assert_eq!(attempts, BTreeMap::new());
    assert!(won > 500 && won < cases.len() / 2, "{won} of {} cases changed something", cases.len());
    let again = settle::settle(&db, "tester", &settlements[..1_000]).await.unwrap();
    assert!(again.iter().all(Option::is_none), "a second copy changes nothing");
}

async fn attempts(stack: &Stack) -> BTreeMap<Uuid, (i32, String, Option<DateTime<Utc>>)> {
    let all = "select a.event_id, a.attempt, a.outcome, a.next_attempt_at from posthaste.attempts a
        join posthaste.deliveries d using (event_id, endpoint_id)
        where a.next_attempt_at is not distinct from d.next_attempt_at";
    let rows: Vec<(Uuid, i32, String, Option<DateTime<Utc>>)> = sqlx::query_as(all).fetch_all(&stack.db).await.unwrap();
    rows.into_iter().map(|(id, number, outcome, due)| (id, (number, outcome, due))).collect()
}

#[tokio::test]
async fn doubles_in_one_batch_are_settled_once() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let row = Row {
        status: Status::Pending,
        attempts: 0,
        base_attempts: 0,
        max_attempts: 3,
        due_in_ms: Some(0),
        dead_reason: None,
    };
    let key = insert(&stack, Uuid::from_u128(1), &[row]).await[0];
    let case = Case { row, attempt: 1, decision: Decision::Retry { delay_ms: RETRY_MS }, budget: None };
    let batch = [settlement(key, &case), settlement(key, &case), settlement(key, &case)];

    let answers = settle::settle(&db, "tester", &batch).await.unwrap();

    assert_eq!(answers.iter().filter(|answer| answer.is_some()).count(), 1);
    assert_eq!(stack.number("select count(*) from posthaste.attempts").await, 1);
}

#[tokio::test]
async fn holding_and_ending_in_sql_agree_with_the_domain_on_every_small_state() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let cases: Vec<(Row, i32)> = rows().into_iter().flat_map(|row| (1..=5).map(move |n| (row, n))).collect();
    let rows: Vec<Row> = cases.iter().map(|case| case.0).collect();
    let to_hold = insert(&stack, Uuid::from_u128(1), &rows).await;
    let to_end = insert(&stack, Uuid::from_u128(2), &rows).await;
    // All of them in one statement, in another order than that of the keys.
    let mut holds: Vec<deliveries::Hold> = Vec::new();
    for ((_, n), key) in cases.iter().zip(&to_hold).rev() {
        holds.push(deliveries::Hold { key: *key, attempt: *n, delay_ms: HOLD_MS as i64 });
    }
    let answers = deliveries::hold(&db, &holds).await.unwrap();
    for ((row, n), held) in cases.iter().rev().zip(&answers) {
        assert_eq!(*held, domain::hold(row, *n, HOLD_MS).is_some(), "hold {row:?} for {n}");
    }
    let again = insert(&stack, Uuid::from_u128(3), &rows).await;
    for (hold, key) in holds.iter_mut().zip(again.iter().rev()) {
        hold.key = *key;
    }
    assert_eq!(deliveries::hold_unlocked(&db, &holds).await.unwrap(), answers);
    for ((row, n), end) in cases.iter().zip(&to_end) {
        let ended = deliveries::mark_dead(&db, *end, *n, DeadReason::Poison, Some("why")).await.unwrap();
        let expected = domain::mark_dead(row, *n, DeadReason::Poison);
        assert_eq!(ended.is_some(), expected.is_some(), "end {row:?} for {n}");
        if let (Some(snapshot), Some(expected)) = (ended, expected) {
            assert!(same(&snapshot.row, &expected), "end {row:?} for {n}: {:?}", snapshot.row);
            assert_eq!(snapshot.last_error.as_deref(), Some("why"));
        }
    }
    let (held, ended) = (stored(&db, &to_hold).await, stored(&db, &to_end).await);
    for ((row, n), (hold, end)) in cases.iter().zip(to_hold.iter().zip(&to_end)) {
        let expected = domain::hold(row, *n, HOLD_MS).unwrap_or(*row);
        assert!(same(&held[hold], &expected), "hold {row:?} for {n}: {:?}", held[hold]);
        let expected = domain::mark_dead(row, *n, DeadReason::Poison).unwrap_or(*row);
        assert!(same(&ended[end], &expected), "end {row:?} for {n}: {:?}", ended[end]);
    }
}

#[tokio::test]
async fn releasing_in_sql_agrees_with_the_domain_once_the_time_has_come() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let due = rows();
    let later: Vec<Row> = due
        .iter()
        .filter(|row| row.status == Status::Held)
        .map(|row| Row { due_in_ms: Some(PARK_MS as i64), ..*row })
        .collect();
    let (due_keys, later_keys) = (insert(&stack, endpoint, &due).await, insert_later(&stack, endpoint, &later).await);
    stack.change(endpoint, "update posthaste.endpoints set status = 'disabled' where id = $1").await;
    let (day, all) = (Day::of(due_keys[0].event_id), [(endpoint, 10_000)]);
    let none = release::release(&db, RELAY, day, &all).await.unwrap();
    assert!(none.messages.is_empty() && none.id.is_none(), "disabled");
    stack.change(endpoint, "update posthaste.endpoints set status = 'enabled' where id = $1").await;

    let batch = release::release(&db, RELAY, day, &all).await.unwrap();

    assert!(is_listed(&stack, &batch).await);
    let exact = "select count(*) from posthaste.relay_batches where cardinality(endpoint_ids) = cardinality(event_ids)";
    assert_eq!(stack.number(exact).await, 1, "it lists deliveries, not events");
    let now = stored(&db, &due_keys).await;
    let mut published: BTreeMap<Uuid, (i32, i32, i32)> = batch
        .messages
        .iter()
        .map(|message| (message.event_id, (message.attempt, message.base_attempts, message.max_attempts)))
        .collect();
    for (key, row) in due_keys.iter().zip(&due) {
        let expected = domain::release(row);
        assert!(same(&now[key], &expected.unwrap_or(*row)), "{row:?}: {:?}", now[key]);
        let message = expected.map(|row| (row.attempts + 1, row.base_attempts, row.max_attempts));
        assert_eq!(published.remove(&key.event_id), message, "{row:?}");
    }
    assert_eq!(published, BTreeMap::new(), "what is due later is not released");
    let now = stored(&db, &later_keys).await;
    assert!(now.values().all(|row| row.status == Status::Held));
}

/// Until the broker has confirmed them, the messages are listed for whoever adopts them.
async fn is_listed(stack: &Stack, batch: &Batch) -> bool {
    let listed = "select event_ids from posthaste.relay_batches where id = $1 and relay = $2";
    let listed = sqlx::query_scalar(listed).bind(batch.id).bind(RELAY).fetch_one(&stack.db);
    let (mut listed, mut ids): (Vec<Uuid>, Vec<Uuid>) =
        (listed.await.unwrap(), batch.messages.iter().map(|message| message.event_id).collect());
    listed.sort();
    ids.sort();
    listed == ids
}

/// Like `insert`, under other ids.
async fn insert_later(stack: &Stack, endpoint: Uuid, rows: &[Row]) -> Vec<DeliveryKey> {
    // Ids carry the time in milliseconds, and the clock sends no signal.
    tokio::time::sleep(Duration::from_millis(2)).await;
    insert(stack, endpoint, rows).await
}

#[tokio::test]
async fn granting_fresh_attempts_in_sql_agrees_with_the_domain() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let rows = rows();
    let keys = insert(&stack, endpoint, &rows).await;
    let before = requeue::Filter { until: Some(Utc::now() - TimeDelta::hours(2)), ..requeue::Filter::default() };
    let next = requeue::Next { endpoint, after: Uuid::nil(), limit: 10_000, behind: false };
    let none = requeue::grant(&db, RELAY, &before, next).await.unwrap();
    assert!(none.last.is_none() && none.batch.id.is_none(), "they died one hour ago");
    let until_now = requeue::Filter { until: Some(Utc::now()), ..requeue::Filter::default() };

    let batch = requeue::grant(&db, RELAY, &until_now, next).await.unwrap().batch;

    assert!(is_listed(&stack, &batch).await);
    let now = stored(&db, &keys).await;
    let mut published: BTreeMap<Uuid, (i32, i32)> =
        batch.messages.iter().map(|message| (message.event_id, (message.attempt, message.base_attempts))).collect();
    for (key, row) in keys.iter().zip(&rows) {
        let expected = domain::requeue(row);
        assert!(same(&now[key], &expected.unwrap_or(*row)), "{row:?}: {:?}", now[key]);
        let message = expected.map(|row| (row.attempts + 1, row.base_attempts));
        assert_eq!(published.remove(&key.event_id), message, "{row:?}");
    }
    assert_eq!(published, BTreeMap::new());
}
