use super::side::{SMALL, Side};

/// Events of the small tenant, and of these the dead ones.
const SMALL_EVENTS: i32 = 100;
const SMALL_DEAD: i32 = 20;
/// Of the other tenants one delivery in so many is dead.
const DEAD_IN: i32 = 200;

const DAY: &str = "(now() at time zone 'utc')::date - $1";

/// Events of one day, spread over it evenly, each of them a delivery and an attempt with what services record. `$2`: how many.
const EVENTS: &str = "
insert into posthaste.events (id, tenant, event_type, payload, created_at, published_at, matched)
select posthaste.uuid_v7_floor(at), ($3::text[])[1 + n % $4], 'order.created',
       '{\"order_id\": 17, \"item\": \"a box of tea\", \"price\": \"4.20\", \"currency\": \"EUR\"}', at, at, 1
  from generate_series(1, $2) n,
       lateral (select (DAY)::timestamp at time zone 'utc' + (n - 0.5) * interval '1 day' / $2) as t (at)";
const DELIVERIES: &str = "
insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, max_attempts, next_attempt_at, last_status_code,
                                  last_error, dead_reason, created_at, updated_at)
select posthaste.uuid_v7_floor(at), ($3::uuid[])[1 + n % $4], case when dead then 'dead' else 'delivered' end, 1, 5, null,
       case when dead then 500 else 200 end, case when dead then 'status 500' end, case when dead then 'exhausted' end, at, at
  from generate_series(1, $2) n,
       lateral (select (DAY)::timestamp at time zone 'utc' + (n - 0.5) * interval '1 day' / $2, n % $5 = 0) as t (at, dead)";
const ATTEMPTS: &str = "
insert into posthaste.attempts (event_id, endpoint_id, attempt, outcome, status_code, error, duration_ms, started_at,
                                request_headers, response_headers, response_body, worker)
select posthaste.uuid_v7_floor(at), ($3::uuid[])[1 + n % $4], 1, case when dead then 'dead' else 'delivered' end,
       case when dead then 500 else 200 end, case when dead then 'status 500' end, 12, at,
       '{\"webhook-id\": \"01a203e0-23fc-705e-8d5e-f952401a4268\", \"webhook-timestamp\": \"1790000000\",
         \"webhook-signature\": \"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=\", \"content-type\": \"application/json\"}',
       '{\"content-length\": \"2\", \"date\": \"Sat, 28 Nov 2026 12:00:00 GMT\"}', 'ok', 'worker-1'
  from generate_series(1, $2) n,
       lateral (select (DAY)::timestamp at time zone 'utc' + (n - 0.5) * interval '1 day' / $2, n % $5 = 0) as t (at, dead)";

/// What the small tenant has: its events are spread over so many days before today, or are all of today. Those that are dead are
/// dead at the first endpoint; the second one has none of them.
const OF_SMALL: &str = "
with e as (
  insert into posthaste.events (id, tenant, event_type, payload, created_at, published_at, matched)
  select posthaste.uuid_v7_floor(at), $2, 'order.created', '{\"order_id\": 18}', at, at, 1
    from generate_series(1, $3) n, lateral (
      select case when $1 = 0 then now() - interval '1 hour' + n * interval '7 ms'
                  else ((now() at time zone 'utc')::date - 1 - n % $1)::timestamp at time zone 'utc'
                       + interval '3 hours' + n * interval '7 ms' end) as t (at)
  returning id, created_at
), d as (
  insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, max_attempts, next_attempt_at, last_status_code,
                                    last_error, dead_reason, created_at, updated_at)
  select id, $4, case when dead then 'dead' else 'delivered' end, 1, 5, null, case when dead then 500 else 200 end,
         case when dead then 'status 500' end, case when dead then 'exhausted' end, created_at, created_at
    from (select e.*, row_number() over (order by id) <= $5 as dead from e) e
)
insert into posthaste.attempts (event_id, endpoint_id, attempt, outcome, status_code, duration_ms, started_at, request_headers,
                                response_headers, response_body, worker)
select id, $4, 1, case when dead then 'dead' else 'delivered' end, case when dead then 500 else 200 end, 12, created_at, '{}', '{}',
       'ok', 'worker-1'
  from (select e.*, row_number() over (order by id) <= $5 as dead from e) e";

/// So many days with so many events each, which may be none, and what the small tenant has.
pub async fn fill(side: &Side, days: i32, events: i32) -> Result<(), String> {
    filled(side, days, events).await.map_err(|error| format!("the history: {error}"))
}

async fn filled(side: &Side, days: i32, events: i32) -> sqlx::Result<()> {
    // Half an hour after midnight, what the small tenant has of today would be of yesterday.
    let make = "select posthaste.create_partitions((now() at time zone 'utc')::date - 1 - $1, (now() at time zone 'utc')::date)";
    sqlx::query(make).bind(days).execute(&side.db).await?;
    for ago in (1..=days).rev() {
        for (statement, is_of_events) in [(EVENTS, true), (DELIVERIES, false), (ATTEMPTS, false)] {
            let text = statement.replace("DAY", DAY);
            let insert = sqlx::query(sqlx::AssertSqlSafe(text)).bind(ago).bind(events);
            let insert = if is_of_events { insert.bind(&side.tenants) } else { insert.bind(&side.endpoints) };
            let insert = insert.bind(side.tenants.len() as i32);
            let insert = if is_of_events { insert } else { insert.bind(DEAD_IN) };
            insert.execute(&side.db).await?;
        }
        if events > 0 && ago % 5 == 0 {
            eprintln!("  {ago} days are left to be filled");
        }
    }
    let small = sqlx::query(OF_SMALL).bind(days).bind(SMALL).bind(SMALL_EVENTS).bind(side.small[0]).bind(SMALL_DEAD);
    small.execute(&side.db).await?;
    for statement in ["vacuum analyze posthaste.events", "vacuum analyze posthaste.deliveries", "vacuum analyze"] {
        sqlx::query(statement).execute(&side.db).await?;
    }
    // What was written is on disk before anything is measured.
    sqlx::query("checkpoint").execute(&side.db).await?;
    Ok(())
}
