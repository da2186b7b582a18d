//! The end of history: days that are old enough go, visibly, in bounded steps, and in nobody's way.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::harness::{Process, Receiver, Stack, eventually, within};

/// So many deliveries with this status, of events of noon so many days ago. They have not changed since, and nothing is lost.
const OLD: &str = "
with made as (
  select posthaste.create_partitions((now() at time zone 'utc')::date - $1, (now() at time zone 'utc')::date - $1)
), e as (
  select set_byte(set_byte(uuid_send(posthaste.uuid_v7_floor(
           (((now() at time zone 'utc')::date - $1) + time '12:00') at time zone 'utc')), 6, 112), 14, n / 256) as id, n
    from generate_series(1, $2) n, made
)
select encode(set_byte(id, 15, n % 256), 'hex')::uuid from e";
const FILL: &str = "
with e as (
  insert into posthaste.events (id, tenant, event_type, payload, created_at, matched)
  select id, 'acme', 'order.created', '{\"old\": true}', now() - $1 * interval '1 day', 1 from unnest($2::uuid[]) id
), d as (
  insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, max_attempts, next_attempt_at, updated_at)
  select id, $3, $4, 1, 3, case when $4 in ('pending', 'retrying', 'held') then now() + interval '1 day' end,
         now() - $1 * interval '1 day' from unnest($2::uuid[]) id
)
insert into posthaste.attempts (event_id, endpoint_id, attempt, outcome, duration_ms, started_at)
select id, $3, 1, 'retry', 3, now() - $1 * interval '1 day' from unnest($2::uuid[]) id";

pub async fn old_day(stack: &Stack, days_ago: i32, endpoint: Uuid, status: &str, count: i32) -> Vec<Uuid> {
    // Where a day has both, the ids of each kind are others.
    let skip = stack.number("select count(*) from posthaste.events").await as i32;
    let made = sqlx::query_scalar(OLD).bind(days_ago).bind(count + skip);
    let ids: Vec<Uuid> = made.fetch_all(&stack.db).await.expect(OLD);
    let ids = ids[skip as usize..].to_vec();
    let fill = sqlx::query(FILL).bind(days_ago).bind(&ids).bind(endpoint).bind(status);
    fill.execute(&stack.db).await.expect(FILL);
    ids
}

/// Days that have tables, the oldest first, as they are so many days ago.
async fn days(stack: &Stack) -> Vec<i32> {
    let ago = "select distinct (now() at time zone 'utc')::date - to_date(right(relname, 8), 'YYYYMMDD') as ago
        from pg_class where relnamespace = 'posthaste'::regnamespace and relkind = 'r'
         and relname ~ '^(events|deliveries|attempts)_[0-9]{8}$' order by ago desc";
    sqlx::query_scalar(ago).fetch_all(&stack.db).await.expect(ago)
}

async fn old_days(stack: &Stack) -> Vec<i32> {
    days(stack).await.into_iter().filter(|ago| *ago > 1).collect()
}

pub async fn only(stack: &Stack, left: &[i32]) {
    eventually("the other days are gone", async || (old_days(stack).await == left).then_some(())).await;
}

pub fn date(days_ago: i64) -> String {
    (chrono::Utc::now() - chrono::TimeDelta::days(days_ago)).date_naive().to_string()
}

/// Nothing is sent to it, and what is held for it stays held.
pub async fn disabled(stack: &Stack) -> Uuid {
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    stack.cli(&["endpoint", "disable", &endpoint.to_string()]).await.ok();
    endpoint
}

async fn shown(stack: &Stack, days_ago: i64) -> Value {
    let days = stack.cli(&["history", "show", "--json"]).await.json();
    days.as_array().unwrap().iter().find(|day| day["day"] == date(days_ago)).cloned().unwrap_or_default()
}

/// What a service says when it waited longer for a connection than it is allowed to.
const BUSY: [&str; 2] = ["no connection could be made in time", "no answer within"];

/// Nothing that a service could not do.
pub fn assert_no_trouble(process: &Process) {
    let log = process.log();
    // A busy machine may keep a duty from getting a connection in time.
    let busy = |line: &str| BUSY.iter().any(|said| line.contains(said));
    let is_trouble = |line: &&str| (line.contains("\"ERROR\"") || line.contains("failed")) && !busy(line);
    let trouble = log.lines().find(is_trouble);
    assert_eq!(trouble, None);
}

#[tokio::test]
async fn a_finished_day_goes_and_one_that_is_not_is_expired_visibly_and_then_goes() {
    let stack = Stack::with(&[("retention.grace", "0s"), ("delivery.held_ttl", "0s")]).await;
    let endpoint = disabled(&stack).await;
    old_day(&stack, 40, endpoint, "delivered", 3).await;
    old_day(&stack, 35, endpoint, "pending", 2).await;
    old_day(&stack, 35, endpoint, "held", 1).await;
    old_day(&stack, 10, endpoint, "held", 1).await;

    let relay = stack.relay().await;

    only(&stack, &[10]).await;
    assert_eq!(stack.statuses().await, [("held".to_owned(), 1)].into());
    let expired = relay.metrics().await["posthaste_dead_letters_total{reason=\"expired\"}"];
    assert_eq!((expired, relay.metric("posthaste_history_dropped_total").await), (3.0, 2.0));
    stack.wait_depth("dead", 3).await;
    let account = "select expired from posthaste.history_days where dropped_at is not null order by day";
    let expired: Vec<i64> = sqlx::query_scalar(account).fetch_all(&stack.db).await.unwrap();
    assert_eq!(expired, [0, 3]);
    assert_no_trouble(&relay);
}

#[tokio::test]
async fn what_was_expired_can_be_sent_again_until_its_day_goes() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let event = old_day(&stack, 35, endpoint, "retrying", 1).await[0];
    stack.run().await;
    let dead = stack.wait_status(event, "dead").await;
    assert_eq!(dead.dead_reason.as_deref(), Some("expired"));
    let day = shown(&stack, 35).await;
    assert!(day["expired"] == 1 && day["state"].as_str().unwrap().starts_with("kept until "), "{day}");

    stack.cli(&["requeue", "--event", &event.to_string(), "--yes"]).await.ok();

    stack.wait_status(event, "delivered").await;
    assert_eq!(receiver.wait_for(1).await[0].body, b"{\"old\": true}");
}

#[tokio::test]
async fn a_day_can_be_kept_for_what_is_unfinished_and_a_metric_says_so() {
    let stack = Stack::with(&[("retention.unfinished", "keep")]).await;
    let endpoint = disabled(&stack).await;
    old_day(&stack, 40, endpoint, "held", 1).await;
    old_day(&stack, 39, endpoint, "dead", 1).await;

    let relay = stack.relay().await;

    only(&stack, &[40]).await;
    eventually("it is seen", async || {
        let metrics = relay.metrics().await;
        let overdue = metrics.get("posthaste_retention_overdue_seconds").copied().unwrap_or_default();
        let pinned = metrics.get("posthaste_retention_pinned{reason=\"unfinished\"}") == Some(&1.0);
        // Nine days and what has gone of the tenth.
        (pinned && (9.0..10.1).contains(&(overdue / 86_400.0))).then_some(())
    })
    .await;
    assert_eq!(shown(&stack, 40).await["state"], "pinned: unfinished");
    assert_eq!(stack.statuses().await["held"], 1);
}

#[tokio::test]
async fn what_a_leader_has_left_half_done_the_next_one_finishes() {
    let stack = Stack::new().await;
    let endpoint = disabled(&stack).await;
    for ago in [42, 41, 40, 39] {
        old_day(&stack, ago, endpoint, "delivered", 1).await;
    }
    let detach = "select posthaste.detach_day((now() at time zone 'utc')::date - $1)";
    // One left a day detached. Another one's was needed meanwhile: something in it is unfinished. Of a third, one table is
    // detached by somebody's hand, and of the last one that was begun.
    for ago in [42, 41] {
        let detached: String = sqlx::query_scalar(detach).bind(ago).fetch_one(&stack.db).await.unwrap();
        assert_eq!(detached, "detached");
    }
    let table = |ago: i64| format!("posthaste.deliveries_{}", date(ago).replace('-', ""));
    run(&stack, format!("update {} set status = 'held', next_attempt_at = now()", table(41))).await;
    run(&stack, format!("alter table posthaste.deliveries detach partition {}", table(40))).await;
    let mut reader = stack.db.begin().await.unwrap();
    sqlx::query("select from posthaste.deliveries").execute(&mut *reader).await.unwrap();
    let begun = format!("alter table posthaste.deliveries detach partition {} concurrently", table(39));
    let mut session = stack.db.acquire().await.unwrap();
    sqlx::query("set lock_timeout = '300ms'").execute(&mut *session).await.unwrap();
    sqlx::query(AssertSqlSafe(begun)).execute(&mut *session).await.unwrap_err();
    sqlx::query("reset lock_timeout").execute(&mut *session).await.unwrap();
    reader.rollback().await.unwrap();

    stack.relay().await;

    eventually("the first and the last are gone", async || {
        let left = old_days(&stack).await;
        (!left.contains(&42) && !left.contains(&39)).then_some(())
    })
    .await;
    eventually("the second is back, and what was unfinished has ended", async || {
        let dead = "select count(*) from posthaste.deliveries where status = 'dead' and dead_reason = 'expired'";
        (stack.number(dead).await == 1).then_some(())
    })
    .await;
    assert!(old_days(&stack).await.contains(&40), "a table that somebody has detached is theirs");
}

async fn run(stack: &Stack, statement: String) {
    sqlx::query(AssertSqlSafe(statement)).execute(&stack.db).await.unwrap();
}

#[tokio::test]
async fn a_day_that_somebody_uses_stays_and_keeps_nobody_waiting() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    old_day(&stack, 40, endpoint, "delivered", 1).await;
    // As a backup does.
    let mut backup = stack.db.begin().await.unwrap();
    sqlx::query("select from posthaste.events where id = gen_random_uuid()").execute(&mut *backup).await.unwrap();

    let service = stack.run().await;
    let locked = "posthaste_retention_pinned{reason=\"locked\"}";
    // Half of these are sent while the locks are tried for.
    let mut sent = Vec::new();
    eventually("it gave up", async || {
        let began = Instant::now();
        let event = stack.emit("acme", "order.created", "{}").await;
        stack.wait_status(event, "delivered").await;
        sent.push(began.elapsed());
        (service.metrics().await.get(locked) == Some(&1.0)).then_some(())
    })
    .await;

    assert!(sent.iter().all(|took| *took < Duration::from_secs(5)), "{sent:?}");
    let kept = stack.cli(&["history", "drop", "--before", &date(2), "--yes", "--json"]).await;
    assert_eq!(kept.code, 1, "{kept:?}");
    assert!(kept.stdout.contains("somebody uses its tables"), "{kept:?}");
    backup.rollback().await.unwrap();
    stack.cli(&["history", "drop", "--before", &date(2), "--yes"]).await.ok();
    only(&stack, &[]).await;
    assert_no_trouble(&service);
}

#[tokio::test]
async fn traffic_goes_on_while_days_are_dropped() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await.id;
    let other = disabled(&stack).await;
    for ago in 2..22 {
        old_day(&stack, ago, other, "delivered", 100).await;
    }
    old_day(&stack, 22, other, "held", 5).await;
    let service = stack.run().await;
    let dry = stack.cli(&["history", "drop", "--before", &date(2), "--dry-run"]).await.ok();
    assert!(dry.stdout.contains(&date(3)) && dry.stdout.contains("would be dropped"), "{}", dry.stdout);
    assert_eq!(old_days(&stack).await.len(), 21);
    let refused = stack.cli(&["history", "drop", "--before", &date(0), "--yes"]).await;
    assert_eq!(refused.code, 64, "{refused:?}");

    let before = date(2);
    let drop = ["history", "drop", "--before", &before, "--yes", "--json"];
    let dropping = stack.cli(&drop);
    let emitting = async {
        for _ in 0..20 {
            stack.emit_many("acme", "order.created", 50).await;
            stack.wait_relayed().await;
        }
    };
    let (dropped, ()) = tokio::join!(dropping, emitting);

    assert!(dropped.code == 1 && dropped.stderr.contains("1 days were kept"), "{dropped:?}");
    let done: Value = serde_json::from_str(&dropped.stdout).unwrap();
    let count = |result: &str| done["days"].as_array().unwrap().iter().filter(|day| day["result"] == result).count();
    assert_eq!((count("dropped"), count("kept: deliveries are unfinished; --expire ends them")), (19, 1));
    only(&stack, &[22, 2]).await;
    let ended = stack.cli(&["history", "drop", "--before", &before, "--expire", "--yes"]).await.ok();
    assert!(ended.stdout.contains("dropped"), "{}", ended.stdout);
    only(&stack, &[2]).await;
    let delivered = "select count(*) from posthaste.deliveries where status = 'delivered'
        and endpoint_id = $1";
    eventually("all are delivered", async || {
        let count: i64 = sqlx::query_scalar(delivered).bind(endpoint).fetch_one(&stack.db).await.unwrap();
        (count == 1000).then_some(())
    })
    .await;
    assert_no_trouble(&service);
}

#[tokio::test]
async fn dead_letters_of_days_that_are_gone_are_removed_and_younger_ones_stay() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = disabled(&stack).await;
    old_day(&stack, 40, endpoint, "dead", 3).await;
    stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
    stack.cli(&["reconcile"]).await.ok();
    assert_eq!(stack.depth("dead").await, 4);
    stack.cli(&["history", "drop", "--before", &date(30), "--yes"]).await.ok();

    stack.relay().await;

    stack.wait_depth("dead", 1).await;
    assert_eq!(stack.statuses().await, [("dead".to_owned(), 1)].into());
}

#[tokio::test]
async fn a_year_pressed_together_is_made_used_and_dropped_with_the_usual_lock_table() {
    const YEAR: i32 = 365;
    const ROWS: &str = "
        insert into posthaste.events (id, tenant, event_type, payload, created_at)
        select posthaste.uuid_v7_floor((today - d)::timestamp at time zone 'utc' + n * interval '1 s'), 'acme', 'a.b', '{}', now()
          from generate_series(2, 366) d, generate_series(1, 3) n, (select (now() at time zone 'utc')::date) as t (today)";
    const DELIVERIES: &str = "
        insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
        select id, gen_random_uuid(), 'delivered', 3 from posthaste.events";
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let began = Instant::now();
    for month in (0..YEAR).step_by(30) {
        let make = "select posthaste.create_partitions((now() at time zone 'utc')::date - $2, (now() at time zone 'utc')::date - $1)";
        let (from, to) = (2 + month, (31 + month).min(YEAR + 1));
        let made: i32 = sqlx::query_scalar(make).bind(from).bind(to).fetch_one(&stack.db).await.unwrap();
        assert_eq!(made, 3 * (to - from + 1));
    }
    stack.execute(ROWS).await;
    stack.execute(DELIVERIES).await;
    println!("a year was made in {:?}", began.elapsed());
    assert_eq!(old_days(&stack).await.len(), YEAR as usize);
    let began = Instant::now();

    let service = stack.run().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(event, "delivered").await;
    let month = within(Duration::from_secs(300), "a month is left", async || {
        let left = old_days(&stack).await;
        // A day counts from its end.
        (left.len() == 29).then_some(left)
    })
    .await;

    println!("all but a month was dropped in {:?}", began.elapsed());
    assert_eq!(month, (2..=30).rev().collect::<Vec<_>>());
    let dropped = stack.cli(&["history", "drop", "--before", &date(1), "--yes", "--json"]).await.json();
    assert_eq!(dropped["days"].as_array().unwrap().len(), 29);
    only(&stack, &[]).await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(event, "delivered").await;
    assert_no_trouble(&service);
}
