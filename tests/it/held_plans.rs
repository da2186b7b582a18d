//! The look for held deliveries keeps the index that has its order, whatever the planner knows of the day.

use posthaste::store::held;
use uuid::Uuid;

use crate::harness::Stack;
use crate::held_at_scale::{ENABLED, assert_few, day_of, prepare, touched};

/// Much was held here once, and little when PostgreSQL last looked; since then it is much again, of one endpoint.
const GREW_AGAIN: &str = "
    do $$
    declare today date := (now() at time zone 'utc')::date; t text := format('posthaste.deliveries_%s', to_char(today, 'YYYYMMDD'));
    begin
      execute 'alter table ' || t || ' set (autovacuum_enabled = off)';
      insert into posthaste.endpoints (id, tenant, url, timeout_ms)
      select case when n = 0 then '80000000-0000-0000-0000-000000000000' else md5(n::text)::uuid end, 'acme', 'https://1.1.1.1/', null
        from generate_series(0, 20) n;
      insert into posthaste.events (id, tenant, event_type, payload, created_at)
      select posthaste.uuid_v7_floor(today::timestamp at time zone 'UTC' + n * interval '1 ms'), 'acme', 'order.created', '{}', now()
        from generate_series(1, 20000) n;
      insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
      select e.id, md5((n % 20 + 1)::text)::uuid, 'held', 5, now() - interval '1 hour'
        from (select id, row_number() over (order by id) as n from posthaste.events) e;
      update posthaste.deliveries set status = 'dead', dead_reason = 'endpoint_removed', next_attempt_at = null
       where event_id > (select id from posthaste.events order by id limit 1 offset 1);
    end $$";
const HELD_AGAIN: &str = "
    insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
    select id, '80000000-0000-0000-0000-000000000000', 'held', 5, now() - interval '1 hour'
      from posthaste.events order by id limit 5000";

#[tokio::test]
async fn what_the_release_asks_keeps_its_index_when_that_was_large_once_and_statistics_are_old() {
    let (stack, today) = (Stack::new().await, day_of(0));
    prepare(&stack, &[GREW_AGAIN, "vacuum analyze posthaste.deliveries", HELD_AGAIN]).await;

    let (page, reads) = touched(&stack, async |db| held::page(&db, today, Uuid::nil(), 100).await.unwrap()).await;
    assert_eq!(page.len(), 3);
    assert_few("a page of three holders", &reads, 3 * 20, 2);
    let (found, reads) = touched(&stack, async |db| held::of(&db, today, &[ENABLED]).await.unwrap()).await;
    assert_eq!(found.len(), 1);
    assert_few("one endpoint with 5 000 held", &reads, 40, 2);
}

/// As after a crowd of held deliveries: of the index that has the order of the holders a few pages are left, of the other one a
/// single page. What is planned then, while 40 deliveries are held, is used for the next crowd.
const SHRANK: &str = "
    do $$
    declare today date := (now() at time zone 'utc')::date; t text := format('posthaste.deliveries_%s', to_char(today, 'YYYYMMDD'));
    begin
      execute 'alter table ' || t || ' set (autovacuum_enabled = off)';
      insert into posthaste.endpoints (id, tenant, url, timeout_ms)
      select md5(n::text)::uuid, 'acme', 'https://1.1.1.1/', null from generate_series(1, 100) n;
      insert into posthaste.events (id, tenant, event_type, payload, created_at)
      select posthaste.uuid_v7_floor(today::timestamp at time zone 'UTC' + n * interval '1 ms'), 'acme', 'order.created', '{}', now()
        from generate_series(1, 25000) n;
      insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
      select e.id, md5((n % 100 + 1)::text)::uuid, 'held', 5, now() - interval '1 hour'
        from (select id, row_number() over (order by id) as n from posthaste.events) e;
      delete from posthaste.deliveries where event_id > (select id from posthaste.events order by id limit 1 offset 39);
    end $$";
const REINDEX: &str = "
    do $$ begin
      execute format('reindex index posthaste.deliveries_%s_status_endpoint_id_event_id_idx',
                     to_char((now() at time zone 'utc')::date, 'YYYYMMDD'));
    end $$";
const NEXT_CROWD: &str = "
    insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
    select e.id, md5((n % 100 + 1)::text)::uuid, 'held', 5, now() - interval '1 hour'
      from (select id, row_number() over (order by id) as n from posthaste.events) e on conflict do nothing";

#[tokio::test]
async fn what_the_release_asks_keeps_its_index_when_another_one_has_shrunk() {
    let (stack, today) = (Stack::new().await, day_of(0));
    prepare(&stack, &[SHRANK, "vacuum posthaste.deliveries", REINDEX, "analyze posthaste.deliveries"]).await;

    let (holders, _) = touched(&stack, async |db| {
        let page = async || held::page(&db, today, Uuid::nil(), 200).await.unwrap().len();
        let first = page().await;
        stack.execute(NEXT_CROWD).await;
        (first, page().await)
    })
    .await;

    assert_eq!(holders, (40, 100));
    let read = "select coalesce(sum(idx_tup_read), 0)::int8 from pg_stat_user_indexes
        where indexrelname like 'deliveries_%_status_endpoint_id_event_id_idx'";
    let read = stack.number(read).await;
    assert!(read < 1_000, "{read} entries of the index without the order");
}
