//! Statements that name the partition of their day: what they cost, and what they do where the day is not there.

use chrono::{TimeDelta, Utc};
use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::decision::Decision;
use posthaste::domain::delivery::Status;
use posthaste::domain::ids::{DeliveryKey, new_v7};
use posthaste::store::days::{self, Day};
use posthaste::store::deliveries::{self, Hold};
use posthaste::store::settle::{self, Settlement};
use uuid::Uuid;

use crate::harness::Stack;
use crate::settle_agrees::store;

/// A month of history, with and without rows.
const MONTH: &str =
    "select posthaste.create_partitions((now() at time zone 'utc')::date - 30, (now() at time zone 'utc')::date + 7)";

/// So many pending deliveries of events that are so old.
async fn pending(stack: &Stack, days_ago: i64, count: u64) -> Vec<DeliveryKey> {
    let made = (Utc::now() - TimeDelta::days(days_ago)).timestamp_millis() as u64;
    let key = |number: u64| {
        let mut random = [7; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        DeliveryKey { event_id: new_v7(made, random), endpoint_id: Uuid::from_u128(number.into()) }
    };
    let keys: Vec<DeliveryKey> = (1..=count).map(key).collect();
    let (events, endpoints): (Vec<Uuid>, Vec<Uuid>) = keys.iter().map(|key| (key.event_id, key.endpoint_id)).unzip();
    sqlx::query(
        "insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
         select event_id, endpoint_id, 'pending', 3 from unnest($1::uuid[], $2::uuid[]) as t(event_id, endpoint_id)",
    )
    .bind(events)
    .bind(endpoints)
    .execute(&stack.db)
    .await
    .unwrap();
    keys
}

fn delivered(key: DeliveryKey) -> Settlement {
    Settlement {
        key,
        attempt: 1,
        decision: Decision::Delivered,
        budget: None,
        status_code: Some(200),
        error: None,
        duration_ms: 3,
        started_at: Utc::now(),
        request_headers: vec![("a".into(), "b".into())],
        response_headers: Vec::new(),
        response_body: Some("ok".into()),
    }
}

/// How a service's session executes the statement, whatever the values are.
async fn plan(stack: &Stack, template: &str, parameters: usize, day: Option<Day>) -> String {
    let statement = days::text(template, day);
    let mut session = stack.db.acquire().await.unwrap();
    let prepare = format!(
        "set enable_seqscan = off; set jit = off; set plan_cache_mode = force_generic_plan;
         deallocate all; prepare looked_at as {statement}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *session).await.unwrap();
    let explain = format!("explain (costs off) execute looked_at ({})", vec!["null"; parameters].join(", "));
    let lines: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).persistent(false).fetch_all(&mut *session).await.unwrap();
    sqlx::raw_sql("deallocate all; reset all").execute(&mut *session).await.unwrap();
    lines.join("\n")
}

#[tokio::test]
async fn a_statement_for_one_day_knows_one_partition_and_finds_each_row_by_its_key() {
    let stack = Stack::new().await;
    stack.execute(MONTH).await;
    let full = Day::of(pending(&stack, 0, 3_000).await[0].event_id);
    let empty = Day::of(new_v7((Utc::now() + TimeDelta::days(1)).timestamp_millis() as u64, [0; 10]));
    // Tomorrow is empty, and the statistics say so: the plan made then must be right when the day has filled.
    stack.execute("analyze posthaste.deliveries").await;
    let statements = [
        (settle::SETTLE, 15),
        (deliveries::READ, 2),
        (deliveries::HOLD, 4),
        (deliveries::HOLD_UNLOCKED, 4),
        (deliveries::MARK_DEAD, 5),
    ];
    for day in [full, empty] {
        for (template, parameters) in statements {
            let plan = plan(&stack, template, parameters, Some(day)).await;
            let ours = day.table("deliveries").replace("posthaste.", "");
            for line in plan.lines().filter(|line| line.contains(" on deliveries")) {
                assert!(line.contains(&ours), "{line} in\n{plan}");
            }
            let condition = plan.lines().find(|line| line.contains("Index Cond")).unwrap_or(&plan);
            assert!(condition.contains("event_id = ") && condition.contains("endpoint_id = "), "{plan}");
            assert!(
                !plan.contains("Seq Scan") && !plan.contains("Hash Join") && !plan.contains("Merge Join"),
                "{plan}"
            );
        }
    }
}

#[tokio::test]
async fn a_batch_of_several_days_is_one_statement_too() {
    let stack = Stack::new().await;
    stack.execute(MONTH).await;
    let db = store(&stack);
    let mut keys = Vec::new();
    for days_ago in [0, 20, 1] {
        keys.extend(pending(&stack, days_ago, 4).await);
    }
    let settlements: Vec<Settlement> = keys.iter().map(|key| delivered(*key)).collect();
    let answers = settle::settle(&db, "tester", &settlements).await.unwrap();
    for (key, answer) in keys.iter().zip(answers) {
        let snapshot = answer.unwrap();
        assert_eq!((snapshot.key, snapshot.row.status), (*key, Status::Delivered));
    }
    assert_eq!(deliveries::read(&db, &keys).await.unwrap().len(), keys.len());
    assert_eq!(stack.number("select count(*) from posthaste.attempts where request_headers->>'a' = 'b'").await, 12);
}

#[tokio::test]
async fn a_hold_may_be_due_in_the_past() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let key = pending(&stack, 0, 1).await[0];
    assert_eq!(deliveries::hold(&db, &[Hold { key, attempt: 1, delay_ms: -60_000 }]).await.unwrap(), [true]);
    let due = deliveries::read(&db, &[key, key]).await.unwrap()[0].row.due_in_ms.unwrap();
    assert!((-90_000..=-60_000).contains(&due), "{due}");
}

#[tokio::test]
async fn a_day_that_was_dropped_has_no_rows_and_a_schema_that_is_gone_is_an_error() {
    let stack = Stack::new().await;
    stack.execute(MONTH).await;
    let db = store(&stack);
    let (old, new) = (pending(&stack, 30, 2).await, pending(&stack, 0, 1).await);
    // Prepared while the day was there.
    assert_eq!(deliveries::read(&db, &old).await.unwrap().len(), 2);
    let day = Day::of(old[0].event_id);
    for parent in ["attempts", "deliveries", "events"] {
        let drop = sqlx::AssertSqlSafe(format!("drop table {}", day.table(parent)));
        sqlx::query(drop).execute(&stack.db).await.unwrap();
    }

    assert!(deliveries::read(&db, &old).await.unwrap().is_empty());
    let hold = |key: &DeliveryKey| Hold { key: *key, attempt: 1, delay_ms: 0 };
    assert_eq!(deliveries::hold(&db, &[hold(&old[0]), hold(&old[1])]).await.unwrap(), [false, false]);
    assert!(deliveries::mark_dead(&db, old[0], 1, DeadReason::Poison, None).await.unwrap().is_none());
    assert!(settle::settle(&db, "tester", &[delivered(old[0])]).await.unwrap()[0].is_none());
    let both = settle::settle(&db, "tester", &[delivered(old[1]), delivered(new[0])]).await.unwrap();
    assert_eq!(both.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);

    // Not the same: nobody may take this for deliveries that are done with.
    stack.execute("alter schema posthaste rename to elsewhere").await;
    assert!(deliveries::read(&db, &new).await.is_err());
    assert!(settle::settle(&db, "tester", &[delivered(new[0])]).await.is_err());
    stack.execute("alter schema elsewhere rename to posthaste").await;
}

#[tokio::test]
async fn after_one_broken_connection_no_other_one_is_trusted() {
    let stack = Stack::new().await;
    let db = store(&stack);
    // Long enough that each takes a connection of its own.
    let occupied = async || db.run(async |c| sqlx::query("select pg_sleep(0.2)").execute(c).await.map(drop)).await;
    let (a, b, c, d) = tokio::join!(occupied(), occupied(), occupied(), occupied());
    assert!([a, b, c, d].into_iter().all(|answer| answer.is_ok()));
    let kill = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity
        where application_name = 'posthaste tests' and datname = current_database()";
    assert_eq!(stack.number(kill).await, 4);
    // One may be taken as it is.
    let _ = db.ping().await;
    for _ in 0..4 {
        db.ping().await.unwrap();
    }
}
