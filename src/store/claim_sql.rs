//! The texts of the claim. The values that they take are the same for each, in the order in which `claim` binds them.

use super::due::{carried, is_sent_to};
use super::outbox::payload_bytes;

/// All tenants with rows from the one after `$1` on, and round. Each step is one descent of the index, so this costs what
/// the tenants that it returns cost, however many rows they have.
macro_rules! everyone {
    () => {
        "ahead as (
  (select o.tenant collate \"C\" as tenant from posthaste.outbox o where o.tenant collate \"C\" > $1
    order by o.tenant collate \"C\" limit 1)
  union all
  select (select o.tenant collate \"C\" from posthaste.outbox o where o.tenant collate \"C\" > a.tenant
           order by o.tenant collate \"C\" limit 1)
    from ahead a where a.tenant is not null
), again as (
  (select o.tenant collate \"C\" as tenant from posthaste.outbox o where o.tenant collate \"C\" <= $1
    order by o.tenant collate \"C\" limit 1)
  union all
  select (select o.tenant collate \"C\" from posthaste.outbox o
           where o.tenant collate \"C\" > a.tenant and o.tenant collate \"C\" <= $1
           order by o.tenant collate \"C\" limit 1)
    from again a where a.tenant is not null
), w as (
  select y.tenant, '00000000-0000-0000-0000-000000000000'::uuid as bound
    from (select tenant from ahead union all select tenant from again) y
   where y.tenant is not null and y.tenant <> all ($2) limit $3
)"
    };
}

/// The given tenants that have rows from their bounds on, and before them those that the latest events belong to: they
/// may never have been seen.
macro_rules! known {
    () => {
        "w as (
  select y.tenant, y.bound from (
    (select distinct on (l.tenant) l.tenant, l.id as bound from (
      select o.tenant collate \"C\" as tenant, o.id from posthaste.outbox o
       where o.id >= posthaste.uuid_v7_floor(now() - interval '500 ms')
         and o.id < posthaste.uuid_v7_floor(now() + interval '500 ms')
       order by o.id limit 50) l
     where l.tenant <> all ($15) and l.tenant <> all ($2) order by l.tenant, l.id)
    union all
    select k.tenant, k.bound from unnest($15::text[], $16::uuid[]) with ordinality as k(tenant, bound, place)
     where (select true from posthaste.outbox o
             where (o.tenant collate \"C\", o.id) >= (k.tenant, k.bound) and o.tenant collate \"C\" <= k.tenant limit 1)
  ) y limit $3
)"
    };
}

/// The tenant of the one row that is asked for, by the tenant and the id given.
macro_rules! one {
    () => {
        "w as (select k.tenant, k.bound from unnest($15::text[], $16::uuid[]) as k(tenant, bound) limit 1)"
    };
}

/// The rows of a tenant `t` from its bound on.
macro_rules! from_the_bound {
    () => {
        "(o.tenant collate \"C\", o.id) >= (t.tenant, t.bound) and o.tenant collate \"C\" <= t.tenant"
    };
}

/// That row and no other, also while somebody else has it: the next one would be moved, or refused, in its place.
macro_rules! at_the_bound {
    () => {
        "o.tenant collate \"C\" = t.tenant and o.id = t.bound"
    };
}

/// Where a delivery to an endpoint `ep` begins: with its ceiling of attempts, and the status that it is written with.
macro_rules! beginning {
    () => {
        concat!(
            "coalesce(p.ceiling, $10) as ceiling, case when ",
            is_sent_to!(),
            " and ep.id <> all ($17) then 'pending' else 'held' end as status"
        )
    };
}

/// The endpoints that match events of a row `y`, with the ceilings of their policies.
macro_rules! matching {
    () => {
        "join posthaste.endpoints ep on ep.tenant = y.tenant and y.event_type like any (ep.event_like)
    left join unnest($11::text[], $18::int[]) as p(name, ceiling) on p.name = ep.retry_policy"
    };
}

/// Tenants are visited one after the other in the index, skipping rows that others hold; the bound as a comparison of rows
/// keeps the planner from reading the whole outbox by id instead. What is too much for one batch is cut in the order of
/// turns. The delete goes by row address, a plan that can never turn into a scan of the table. Matching, recording, fanning
/// out and listing the batch are in the same statement, so a row is either still in the outbox or completely moved.
macro_rules! in_turn {
    ($tenants:expr, $rows:expr) => {
        concat!(
            "with recursive unlisted as (
  delete from posthaste.relay_batches where id = any ($12)
), ",
            $tenants,
            ", t as materialized (
  select w.*, row_number() over () as place,
         (select greatest(count(*), 1)::int from (
            select from posthaste.endpoints ep where ep.tenant = w.tenant limit 5000) n) as endpoints
    from w
), q as (
  select (case when count(*) = 1 then $4 else $5 end)::int as each, (case when count(*) = 1 then $4 else $6 end)::int as rows
    from t
), s as materialized (
  select k.*, row_number() over turn as n, sum(k.size) over turn as bytes,
         sum(case when k.nth_of_kind = 1 then k.endpoints else 0 end) over turn as pairs
    from (select t.place, t.endpoints, r.*, dense_rank() over (order by t.place, r.event_type) as kind,
                 row_number() over (partition by t.place, r.event_type order by r.nth) as nth_of_kind
            from t cross join lateral (
              select l.*, row_number() over () as nth from (
                select o.ctid as at, o.id, o.tenant, o.event_type, o.max_attempts, ",
            payload_bytes!(),
            " as size
                  from posthaste.outbox o
                 where ",
            $rows,
            "
                 order by o.tenant collate \"C\", o.id limit (select each from q) for update skip locked) l) r) k
  window turn as (order by (k.nth - 1) / $7, k.place, k.nth rows unbounded preceding)
), f as materialized (
  select s.* from s where s.n = 1 or (s.n <= (select rows from q) and s.bytes <= $8 and s.pairs <= $9)
), g as materialized (
  select k.kind, count(*)::int as matched, array_agg(k.endpoint_id) as endpoint_ids, array_agg(k.ceiling) as ceilings,
         array_agg(k.status) as statuses
    from (select y.kind, ep.id as endpoint_id, ",
            beginning!(),
            "
            from (select distinct f.kind, f.tenant, f.event_type from f) y
            ",
            matching!(),
            ") k
   group by k.kind
), x as materialized (
  select f.id, f.at, f.n, f.place, f.kind, f.max_attempts, coalesce(g.matched, 0) as matched,
         sum(coalesce(g.matched, 0)) over (order by f.n rows unbounded preceding) as deliveries
    from f left join g on g.kind = f.kind
), c as (
  delete from posthaste.outbox
   where ctid = any (array(select x.at from x where x.n = 1 or x.deliveries <= $13))
  returning id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at
), e as (
  insert into posthaste.events
    (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, matched)
  select c.id, c.tenant, c.event_type, c.payload, c.idempotency_key, c.max_attempts, c.traceparent, c.created_at,
         x.matched
    from c join x on x.id = c.id
  on conflict do nothing
  returning id, matched
), d as (
  insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
  select e.id, m.endpoint_id, m.status, least(x.max_attempts, m.ceiling)
    from e join x on x.id = e.id join g on g.kind = x.kind
    cross join lateral unnest(g.endpoint_ids, g.statuses, g.ceilings) as m(endpoint_id, status, ceiling)
  returning event_id, endpoint_id, status, max_attempts
), aside as (
  insert into posthaste.set_aside
    (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, error)
  select c.*, 'id: an earlier event has used this id already; give every event an id of its own'
    from c where not exists (select from e where e.id = c.id)
), b as (
  insert into posthaste.relay_batches (relay, event_ids)
  select $14, array_agg(distinct d.event_id) from d where d.status = 'pending' having count(*) > 0
  returning id
)
select (select t.tenant from t order by t.place desc limit 1) as last,
       (extract(epoch from clock_timestamp()) * 1000)::int8 as clock_ms, (select id from b) as batch_id,
       c.id, c.tenant, x.place, c.event_type, ",
            carried!("c"),
            ", c.traceparent,
       e.id is not null as recorded, e.matched, p.endpoint_ids, p.ceilings
  from (select) as always
  left join c on true
  left join x on x.id = c.id
  left join e on e.id = c.id
  left join (select event_id, array_agg(endpoint_id) as endpoint_ids, array_agg(max_attempts) as ceilings
               from d where status = 'pending' group by 1) p on p.event_id = c.id"
        )
    };
}

/// The rows with the ids `$16`, which were seen to be few and small: nothing is chosen or cut. An id that an earlier event
/// has used refuses the whole claim, and the next one is one of the others.
macro_rules! few {
    () => {
        concat!(
            "with unlisted as (
  delete from posthaste.relay_batches where id = any ($12)
), f as materialized (
  select o.ctid as at, o.id, o.tenant, o.event_type, o.max_attempts
    from posthaste.outbox o where o.id = any ($16) for update skip locked
), m as materialized (
  select k.event_id, k.endpoint_id, least(k.max_attempts, k.ceiling) as ceiling, k.status
    from (select y.id as event_id, ep.id as endpoint_id, y.max_attempts, ",
            beginning!(),
            "
            from f y
            ",
            matching!(),
            ") k
), g as materialized (
  select event_id, count(*)::int as matched, array_agg(endpoint_id) filter (where status = 'pending') as endpoint_ids,
         array_agg(ceiling) filter (where status = 'pending') as ceilings
    from m group by event_id
), c as (
  delete from posthaste.outbox where ctid = any (array(select at from f))
  returning id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at
), e as (
  insert into posthaste.events
    (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, matched)
  select c.*, coalesce((select g.matched from g where g.event_id = c.id), 0) from c
), d as (
  insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
  select m.event_id, m.endpoint_id, m.status, m.ceiling from m
), b as (
  insert into posthaste.relay_batches (relay, event_ids)
  select $14, array_agg(event_id) from g where endpoint_ids is not null having count(*) > 0
  returning id
)
select null::text as last, (extract(epoch from clock_timestamp()) * 1000)::int8 as clock_ms, (select id from b) as batch_id,
       c.id, c.tenant, null::int8 as place, c.event_type, ",
            carried!("c"),
            ", c.traceparent,
       true as recorded, g.matched, g.endpoint_ids, g.ceilings
  from (select) as always left join c on true left join g on g.event_id = c.id"
        )
    };
}

pub const OF_EVERYONE: &str = in_turn!(everyone!(), from_the_bound!());
pub const OF_KNOWN: &str = in_turn!(known!(), from_the_bound!());
pub const OF_ONE: &str = in_turn!(one!(), at_the_bound!());
pub const OF_FEW: &str = few!();
