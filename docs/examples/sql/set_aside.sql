-- Emits the rows that were set aside again, each with a new id, and removes them. Without their idempotency keys, which
-- are taken by the first try. Look at posthaste.set_aside first: what is wrong with a row itself will be refused again.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f docs/examples/sql/set_aside.sql

with removed as (
  delete from posthaste.set_aside returning tenant, event_type, payload, max_attempts, traceparent
)
insert into posthaste.outbox (tenant, event_type, payload, max_attempts, traceparent)
select tenant, event_type, payload, max_attempts, traceparent from removed;
