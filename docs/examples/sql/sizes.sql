-- What a row of the history takes on disk, with its indexes and with what is stored beside it: of yesterday, or of the day that
-- -v days_ago=N names (0 is today). Reads the whole day once.
\if :{?days_ago}
\else
  \set days_ago 1
\endif
with day as (
  select d as day, to_char(d, '_YYYYMMDD') as name, posthaste.uuid_v7_floor(d at time zone 'utc') as low,
         posthaste.uuid_v7_floor((d + 1) at time zone 'utc') as high
    from (select (now() at time zone 'utc')::date - :days_ago as d) as t
), counted as (
  select 'events' as part, count(*) as rows, avg(octet_length(payload::text)) as payload
    from posthaste.events, day where id >= low and id < high
  union all
  select 'deliveries', count(*), null from posthaste.deliveries, day where event_id >= low and event_id < high
  union all
  select 'attempts', count(*), null from posthaste.attempts, day where event_id >= low and event_id < high
)
select part, rows, round(payload) as payload_bytes,
       round(pg_total_relation_size(('posthaste.' || part || name)::regclass)::numeric / nullif(rows, 0)) as bytes_of_a_row
  from counted, day;
