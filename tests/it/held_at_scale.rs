//! Many held deliveries, many endpoints that hold them, and a long history: nothing waits for ever, and what runs in a loop
//! reads what it is about and not the history.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use posthaste::domain::flows::Let;
use posthaste::domain::ids::DeliveryKey;
use posthaste::store::days::Day;
use posthaste::store::reconcile::{self, Proofs};
use posthaste::store::{Db, circuits, ended, endpoints, held, markers, pauses, release, requeue};
use uuid::Uuid;

use crate::harness::{Stack, eventually, within};
use crate::settle_agrees::store;

const RELAY: i64 = 17;
/// Those of the other endpoints sort before and after.
pub const ENABLED: Uuid = Uuid::from_u128(0x8000_0000_0000_0000_0000_0000_0000_0000);

/// Thirty days with 2 000 deliveries each, of which an enabled endpoint holds 20, and 300 disabled ones one each of today.
const HISTORY: &str = "
    do $$
    declare today date := (now() at time zone 'utc')::date; t text;
    begin
      perform posthaste.create_partitions(today - 30, today - 2);
      for t in select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'posthaste' and c.relkind = 'r' loop
        execute 'alter table ' || t || ' set (autovacuum_enabled = off)';
      end loop;
      insert into posthaste.endpoints (id, tenant, url, status, timeout_ms, circuit_state, circuit_until)
      select case when n = 0 then '80000000-0000-0000-0000-000000000000' else md5(n::text)::uuid end, 'acme',
             'https://1.1.1.1/', case when n = 0 then 'enabled' else 'disabled' end, case when n = 7 then 20000 end,
             case when n = 9 then 'open' else 'closed' end, case when n = 9 then now() end
        from generate_series(0, 3000) n;
      insert into posthaste.events (id, tenant, event_type, payload, created_at)
      select posthaste.uuid_v7_floor((today - d)::timestamp at time zone 'UTC' + n * interval '20 ms'), 'acme',
             'order.created', json_build_object('n', n), now()
        from generate_series(0, 30) d, generate_series(1, 2000) n;
      insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
      select e.id, '80000000-0000-0000-0000-000000000000', case when (e.payload->>'n')::int % 100 = 0 then 'held' else 'delivered' end,
             5, case when (e.payload->>'n')::int % 100 = 0 then now() - interval '1 hour' end
        from posthaste.events e;
      insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
      select posthaste.uuid_v7_floor(today::timestamp at time zone 'UTC' + n * interval '20 ms'), md5(n::text)::uuid, 'held', 5,
             now() - interval '1 hour'
        from generate_series(1, 300) n;
    end $$";

/// Blocks of each table and its indexes that the sessions of this test have touched so far.
async fn blocks(stack: &Stack) -> BTreeMap<String, i64> {
    let all =
        "select relname::text, coalesce(heap_blks_read + heap_blks_hit, 0) + coalesce(idx_blks_read + idx_blks_hit, 0)
                 from pg_statio_user_tables where schemaname = 'posthaste'";
    let all: Vec<(String, i64)> = sqlx::query_as(all).fetch_all(&stack.db).await.unwrap();
    all.into_iter().collect()
}

async fn make_history(stack: &Stack) {
    prepare(stack, &[HISTORY, "analyze"]).await;
}

/// On one connection, which then says at once what it has read, so that nobody else is charged with it.
pub async fn prepare(stack: &Stack, statements: &[&'static str]) {
    let mut connection = stack.db.acquire().await.unwrap();
    let say_it = "do $$ begin perform pg_stat_force_next_flush(); exception when undefined_function then null; end $$";
    for statement in statements.iter().chain([&say_it]) {
        sqlx::query(*statement).execute(&mut *connection).await.unwrap();
    }
}

/// What one call touches, by table. A session says so at its end.
pub async fn touched<T>(stack: &Stack, call: impl AsyncFnOnce(Db) -> T) -> (T, BTreeMap<String, i64>) {
    let db = store(stack);
    // What a session reads once to plan is not counted.
    db.ping().await.unwrap();
    let before = blocks(stack).await;
    let answer = call(db.clone()).await;
    db.close().await;
    let sessions = "select count(*) from pg_stat_activity
                     where datname = current_database() and application_name = 'posthaste tests'";
    eventually("the session has ended", async || (stack.number(sessions).await == 0).then_some(())).await;
    let mut after = blocks(stack).await;
    after.iter_mut().for_each(|(table, blocks)| *blocks -= before.get(table).unwrap_or(&0));
    after.retain(|_, blocks| *blocks > 0);
    (answer, after)
}

#[track_caller]
pub fn assert_few(what: &str, touched: &BTreeMap<String, i64>, most: i64, tables: usize) {
    let sum: i64 = touched.values().sum();
    println!("{what}: {sum} blocks in {} tables", touched.len());
    assert!(sum <= most && touched.len() <= tables, "{what}: {sum} blocks (at most {most}): {touched:?}");
}

pub fn day_of(days_ago: i64) -> Day {
    Day::from((Utc::now() - TimeDelta::days(days_ago)).date_naive())
}

#[tokio::test]
async fn what_the_release_asks_reads_the_day_and_the_endpoints_that_it_is_about() {
    let stack = Stack::with(&[("delivery.held_ttl", "0s")]).await;
    make_history(&stack).await;

    let (days, reads) = touched(&stack, async |db| {
        let days = held::days(&db).await.unwrap();
        held::days_with_any(&db, &days).await.unwrap()
    })
    .await;
    assert_eq!(days.len(), 31);
    // Of each of the 38 partitions the first page of each index, to plan, and one leaf and one row.
    assert_few("which days have held deliveries", &reads, 38 * 8, 38);
    let (page, reads) = touched(&stack, async |db| held::page(&db, day_of(0), Uuid::nil(), 100).await.unwrap()).await;
    assert_eq!(page.len(), 100);
    assert_few("a page of 100 holders", &reads, 100 * 8, 2);
    let (page, reads) = touched(&stack, async |db| held::page(&db, day_of(20), Uuid::nil(), 500).await.unwrap()).await;
    assert_eq!(page.iter().map(|holder| holder.endpoint_id).collect::<Vec<_>>(), [ENABLED]);
    assert_few("a page with one holder of 20", &reads, 24, 2);
    let (found, reads) = touched(&stack, async |db| held::of(&db, day_of(3), &[ENABLED]).await.unwrap()).await;
    assert!(found[0].enabled && found[0].due_in_ms < -3_500_000);
    assert_few("one active endpoint", &reads, 24, 2);
    let (held, reads) = touched(&stack, async |db| held::count(&db, &days, 50).await.unwrap()).await;
    assert_eq!(held, 50);
    assert_few("counting 50 of 920 held", &reads, 90, 3);

    let (batch, reads) =
        touched(&stack, async |db| release::release(&db, RELAY, day_of(5), &[(ENABLED, 10)]).await.unwrap()).await;
    assert_eq!(batch.messages.len(), 10);
    // Ten rows are found, locked and written with their indexes, and ten events read.
    assert_few("a release of ten", &reads, 10 * 50 + 40, 4);
    let open: Vec<Let> = batch.messages.iter().map(|message| Let { key: message.key(), attempts: 0 }).collect();
    let (became, reads) = touched(&stack, async |db| release::became(&db, &open).await.unwrap()).await;
    assert!(became.is_empty(), "all are on their way");
    assert_few("what became of ten", &reads, 10 * 8, 1);
}

/// It would keep everything after it from being committed.
#[tokio::test]
async fn a_look_that_is_dropped_in_the_middle_leaves_no_transaction_open() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let mut locked = stack.db.begin().await.unwrap();
    let lock = "lock table posthaste.deliveries in access exclusive mode";
    sqlx::query(lock).execute(&mut *locked).await.unwrap();
    let look = held::page(&db, day_of(0), Uuid::nil(), 10);
    let waits =
        "select count(*) from pg_stat_activity where application_name = 'posthaste tests' and wait_event_type = 'Lock'
                    and datname = current_database()";
    tokio::select! {
        looked = look => panic!("{looked:?}"),
        () = eventually("it waits for the lock", async || (stack.number(waits).await == 1).then_some(())) => {}
    }
    locked.rollback().await.unwrap();

    db.ping().await.unwrap();
    let open = "select count(*) from pg_stat_activity where application_name = 'posthaste tests' and datname = current_database()
                   and state like 'idle in transaction%'";
    eventually("the look has ended", async || (stack.number(waits).await == 0).then_some(())).await;
    assert_eq!(stack.number(open).await, 0, "what comes next is part of a transaction");
}

/// Deliveries of today, all of one endpoint, with their events: held, or delivered.
async fn of_today(stack: &Stack, endpoint: Uuid, status: &str, count: i32) {
    let insert = "with e as (
           insert into posthaste.events (id, tenant, event_type, payload, created_at)
           select posthaste.uuid_v7(), 'acme', 'order.created', '{}', now() from generate_series(1, $3) returning id)
         insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
         select id, $1, $2, 5, case when $2 = 'held' then now() - interval '1 hour' end from e";
    let insert = sqlx::query(insert).bind(endpoint).bind(status).bind(count);
    insert.execute(&stack.db).await.unwrap();
}

/// A service plans a statement once, and keeps the plan until the next `analyze`.
#[tokio::test]
async fn a_release_that_was_planned_while_the_day_had_few_rows_reads_no_more_when_it_has_filled() {
    const BY_HAND: &str = "do $$ begin
        execute format('alter table posthaste.deliveries_%1$s set (autovacuum_enabled = off)', to_char(now() at time zone 'utc', 'YYYYMMDD'));
        execute format('alter table posthaste.events_%1$s set (autovacuum_enabled = off)', to_char(now() at time zone 'utc', 'YYYYMMDD'));
      end $$";
    let stack = Stack::with(&[("delivery.held_ttl", "0s")]).await;
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    stack.execute(BY_HAND).await;
    of_today(&stack, endpoint, "held", 200).await;
    stack.execute("analyze posthaste.deliveries").await;
    stack.execute("analyze posthaste.events").await;

    let (released, _) = touched(&stack, async |db| {
        let release = async || release::release(&db, RELAY, day_of(0), &[(endpoint, 10)]).await.unwrap().messages.len();
        let first = release().await;
        of_today(&stack, endpoint, "delivered", 10_000).await;
        (first, release().await)
    })
    .await;

    assert_eq!(released, (10, 10));
    let read = "select sum(idx_tup_read)::int8 from pg_stat_user_indexes
        where relname ~ '^(events|deliveries)_' and indexrelname like '%_pkey'";
    let read = stack.number(read).await;
    assert!(read < 1_000, "{read} entries of the keys' indexes");
}

#[tokio::test]
async fn what_else_the_relay_asks_again_and_again_reads_no_history() {
    let stack = Stack::with(&[("delivery.held_ttl", "0s")]).await;
    make_history(&stack).await;

    let (open, reads) = touched(&stack, async |db| circuits::count_open(&db).await.unwrap()).await;
    assert_eq!(open, 1);
    assert_few("open circuits", &reads, 8, 1);
    let (half_open, reads) = touched(&stack, async |db| circuits::half_open_due(&db).await.unwrap()).await;
    assert!(half_open.is_empty(), "it is disabled");
    assert_few("circuits whose time has come", &reads, 12, 1);
    let (stale, reads) =
        touched(&stack, async |db| circuits::disable_stale(&db, Duration::from_secs(1)).await.unwrap()).await;
    assert!(stale.is_empty());
    assert_few("circuits open for too long", &reads, 12, 1);
    let (over, reads) = touched(&stack, async |db| pauses::end(&db).await.unwrap()).await;
    assert!(over.is_empty());
    assert_few("pauses that are over", &reads, 8, 1);
    let (paused, reads) = touched(&stack, async |db| pauses::count(&db).await.unwrap()).await;
    assert!(paused.contains(&("disabled".to_owned(), 3_000)), "{paused:?}");
    let other: Vec<&String> = reads.keys().filter(|table| !table.starts_with("endpoint")).collect();
    assert!(other.is_empty(), "counting pauses reads {other:?}");
    let (longest, reads) = touched(&stack, async |db| endpoints::longest_timeout(&db).await.unwrap()).await;
    assert_eq!(longest, Some(Duration::from_secs(20)));
    // To plan, one page of each index of the endpoints.
    assert_few("the longest time-out", &reads, 10, 1);
    let (_, reads) = touched(&stack, async |db| {
        markers::proof(&db, "retry", Duration::ZERO).await.unwrap();
        markers::prune(&db, Duration::from_secs(3600)).await.unwrap();
    })
    .await;
    assert_few("markers", &reads, 8, 1);
    let now = Some(Utc::now());
    let proofs = Proofs { retry: now, deliver: now };
    let (lost, reads) = touched(&stack, async |db| reconcile::republish(&db, RELAY, proofs, 500).await.unwrap()).await;
    assert!(lost.messages.is_empty());
    assert_few("looking for what is lost", &reads, 38 * 12, 80);
}

#[tokio::test]
async fn ending_held_deliveries_reads_those_that_end() {
    let stack = Stack::with(&[("delivery.held_ttl", "0s")]).await;
    make_history(&stack).await;

    let day = Duration::from_secs(86_400);
    let (expired, reads) =
        touched(&stack, async |db| ended::expired(&db, day_of(10), &[ENABLED], day, 10).await.unwrap()).await;
    assert_eq!(expired.len(), 10);
    assert_few("ten that are too old", &reads, 10 * 50 + 40, 4);
    let (none, reads) =
        touched(&stack, async |db| ended::expired(&db, day_of(10), &[ENABLED], day * 300, 10).await.unwrap()).await;
    assert!(none.is_empty());
    assert_few("none that is too old", &reads, 24, 2);
    let (none, _) = touched(&stack, async |db| ended::removed(&db, day_of(10), &[ENABLED], 10).await.unwrap()).await;
    assert!(none.is_empty(), "it exists");

    stack.change(ENABLED, "delete from posthaste.endpoints where id = $1").await;
    let (removed, reads) =
        touched(&stack, async |db| ended::removed(&db, day_of(10), &[ENABLED], 5).await.unwrap()).await;
    assert_eq!(removed.len(), 5);
    assert_few("five of a removed endpoint", &reads, 5 * 40 + 20, 4);
    let (removed, reads) =
        touched(&stack, async |db| requeue::mark_dead_of_removed(&db, ENABLED, 1_000).await.unwrap()).await;
    assert_eq!(removed.len(), 31 * 20 - 15);
    assert_few("all of a removed endpoint, by the command", &reads, 605 * 60, 200);
}

#[tokio::test]
async fn a_day_without_partitions_has_no_held_deliveries() {
    let stack = Stack::with(&[("delivery.held_ttl", "0s")]).await;
    let db = store(&stack);
    let gone = day_of(400);
    let key = DeliveryKey { event_id: Uuid::nil(), endpoint_id: ENABLED };

    assert!(held::page(&db, gone, Uuid::nil(), 10).await.unwrap().is_empty());
    assert!(held::of(&db, gone, &[ENABLED]).await.unwrap().is_empty());
    assert_eq!(held::count(&db, &[gone], 10).await.unwrap(), 0);
    assert!(release::release(&db, RELAY, gone, &[(ENABLED, 10)]).await.unwrap().messages.is_empty());
    assert!(ended::removed(&db, gone, &[ENABLED], 10).await.unwrap().is_empty());
    assert_eq!(release::became(&db, &[Let { key, attempts: 0 }]).await.unwrap().len(), 1, "it is gone, not on its way");
}

/// The check of endpoints and the notifications are left out: so many would take long.
const MANY_ENDPOINTS: &str = "
    do $$ begin
      alter table posthaste.endpoints disable trigger user;
      insert into posthaste.endpoints (id, tenant, url, event_like, status)
      select md5(n::text)::uuid, 'tenant-' || n, 'https://1.1.1.1/', '{%}',
             case when n <= 20000 then 'disabled' else 'enabled' end
        from generate_series(1, 100000) n;
      insert into posthaste.endpoints (id, tenant, url, event_like)
      values ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'last', 'https://1.1.1.1/', '{%}');
      alter table posthaste.endpoints enable trigger user;
      with e as (
        insert into posthaste.events (id, tenant, event_type, payload, created_at)
        select posthaste.uuid_v7(), 'many', 'order.created', '{}', now() from generate_series(1, 20000) returning id)
      insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
      select id, md5((row_number() over ())::text)::uuid, 'held', 5 from e;
    end $$";

#[tokio::test]
async fn a_held_delivery_is_released_in_time_among_a_hundred_thousand_endpoints_with_many_disabled() {
    let stack = Stack::with(&[("delivery.held_ttl", "0s")]).await;
    stack.execute(MANY_ENDPOINTS).await;
    stack.execute("analyze").await;
    let db = store(&stack);
    let (began, mut after, mut holders) = (Instant::now(), Uuid::nil(), 0);
    loop {
        let page = held::page(&db, day_of(0), after, 500).await.unwrap();
        let Some(last) = page.last() else { break };
        (after, holders) = (last.endpoint_id, holders + page.len());
    }
    println!("{holders} holders read in {:?}", began.elapsed());
    assert_eq!(holders, 20_000);
    stack.relay().await;

    for _ in 0..3 {
        let insert = "with e as (
               insert into posthaste.events (id, tenant, event_type, payload, created_at)
               values (posthaste.uuid_v7(), 'last', 'order.created', '{}', now()) returning id)
             insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
             select id, 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'held', 5 from e returning event_id";
        let event: Uuid = sqlx::query_scalar(insert).fetch_one(&stack.db).await.unwrap();
        let began = Instant::now();
        within(Duration::from_secs(20), "it is released", async || {
            (stack.delivery(event).await.status == "pending").then_some(())
        })
        .await;
        println!("released after {:?}", began.elapsed());
    }
    let held = "select count(*) from posthaste.deliveries where status = 'held'";
    assert_eq!(stack.number(held).await, 20_000, "the disabled ones keep theirs");
}
