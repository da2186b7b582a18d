-- Drops one day of history (UTC) with all its events, deliveries and attempts, unless something of it is unfinished.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -v day=20260501 -f docs/examples/sql/drop_day.sql

set lock_timeout = '2s';

select to_date(:'day', 'YYYYMMDD') < (now() at time zone 'utc')::date - 1 as is_old,
       not exists (select from posthaste.deliveries_:day where status in ('pending', 'retrying', 'held')) as is_finished,
       not exists (
         select from posthaste.outbox
         where id < posthaste.uuid_v7_floor((to_date(:'day', 'YYYYMMDD') + 1)::timestamp at time zone 'utc')
       ) as is_relayed
\gset

\if :is_old
\if :is_finished
\if :is_relayed
-- Concurrently, so that it waits for nobody while holding up others. It cannot be done inside a transaction.
alter table posthaste.attempts detach partition posthaste.attempts_:day concurrently;
drop table posthaste.attempts_:day;
alter table posthaste.deliveries detach partition posthaste.deliveries_:day concurrently;
drop table posthaste.deliveries_:day;
alter table posthaste.events detach partition posthaste.events_:day concurrently;
drop table posthaste.events_:day;
\else
\echo 'not dropped: an event of this day is still in the outbox'
\endif
\else
\echo 'not dropped: a delivery of this day is unfinished'
\endif
\else
\echo 'not dropped: today and yesterday are still in use'
\endif
