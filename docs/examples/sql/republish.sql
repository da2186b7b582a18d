-- Brings back deliveries whose messages the broker has lost: a held delivery is released by the leading relay, which
-- publishes its next attempt anew. No attempt is spent. Where a message was not lost after all, the copy that comes
-- second is dropped by its worker; at worst a receiver gets a duplicate.
--
--   psql "$DATABASE_URL" -f docs/examples/sql/republish.sql

update posthaste.deliveries
set status = 'held', next_attempt_at = now(), updated_at = now()
where status in ('pending', 'retrying') and next_attempt_at < now() - interval '5 minutes';
