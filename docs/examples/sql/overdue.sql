-- Unfinished deliveries whose message should have been in a work queue five minutes ago or earlier. They wait in a long
-- queue, or the broker has lost them: compare the count with the depth of the work queues.
--
--   psql "$DATABASE_URL" -f docs/examples/sql/overdue.sql

select status, count(*), min(next_attempt_at) as oldest
from posthaste.deliveries
where status in ('pending', 'retrying') and next_attempt_at < now() - interval '5 minutes'
group by status;
