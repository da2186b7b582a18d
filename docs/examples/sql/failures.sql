-- Where attempts of the last hour failed, and how. The bound on event_id keeps older days out of the query; events that
-- are older than a day and retried now are not counted.
--
--   psql "$DATABASE_URL" -f docs/examples/sql/failures.sql

select a.endpoint_id, a.status_code, a.error, count(*), round(avg(a.duration_ms)) as mean_ms, max(a.started_at) as last
from posthaste.attempts a
where a.event_id >= posthaste.uuid_v7_floor(now() - interval '1 day')
  and a.started_at > now() - interval '1 hour'
  and a.outcome <> 'delivered'
group by 1, 2, 3
order by count(*) desc
limit 20;
