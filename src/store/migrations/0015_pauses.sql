-- Whatever keeps an endpoint from being sent to can be read in one place, the view endpoint_pauses: why, since when, and
-- until when. What is not on the endpoint's own row is what workers report.

alter table posthaste.endpoints
  add column disabled_at timestamptz,
  add column paused_at timestamptz,
  add column paused_until timestamptz,
  add column resumed_at timestamptz;

comment on column posthaste.endpoints.disabled_at is 'since when it is disabled; null while it is enabled';
comment on column posthaste.endpoints.paused_at is 'when it asked for the time until paused_until';
comment on column posthaste.endpoints.paused_until is 'nothing is sent until then: it asked so with Retry-After; null for no such wish';
comment on column posthaste.endpoints.resumed_at is 'when an operator last lifted its pauses; workers forget what they learned before';

create function posthaste.endpoint_disabled() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if new.status = 'enabled' then
    new.disabled_at := null;
  elsif tg_op = 'INSERT' or old.status = 'enabled' then
    new.disabled_at := now();
  end if;
  return new;
end $$;

create trigger b_disabled before insert or update of status on posthaste.endpoints
  for each row execute function posthaste.endpoint_disabled();

-- All workers must hear of a pause, and of its end, as fast as of a circuit.
drop trigger z_changed on posthaste.endpoints;
create trigger z_changed
  after insert or delete or update of id, tenant, url, description, event_types, event_like, status, disabled_reason,
    max_in_flight, rate_limit_per_second, timeout_ms, retry_policy, headers, circuit_state, circuit_trips, paused_until,
    resumed_at
  on posthaste.endpoints for each row execute function posthaste.endpoint_changed();

-- Few endpoints are paused, and they are counted every few seconds.
create index endpoints_disabled on posthaste.endpoints (disabled_at) where status = 'disabled';
create index endpoints_paused on posthaste.endpoints (paused_until) where paused_until is not null;

-- What a worker itself makes an endpoint wait for: its rate limit, or a short wish to slow down and the time after one.
alter table posthaste.endpoint_activity
  add column limited_by text,
  add column limited_since timestamptz,
  add column limited_until timestamptz;
create index endpoint_activity_limited on posthaste.endpoint_activity (limited_until) where limited_until is not null;

-- A view of its own, which is counted every few seconds: it must not even look for the partitions of deliveries.
create view posthaste.endpoint_restraints as
select id as endpoint_id, 'disabled' as reason, disabled_at as since, null::timestamptz as until
  from posthaste.endpoints where status = 'disabled'
union all
select id, 'circuit_open', circuit_opened_at, circuit_until from posthaste.endpoints where circuit_state = 'open'
union all
select id, 'circuit_half_open', circuit_opened_at, null from posthaste.endpoints where circuit_state = 'half_open'
union all
select id, 'slowed', paused_at, paused_until from posthaste.endpoints where paused_until > now()
union all
-- A worker that has said nothing for some seconds is gone, and what it knew with it.
select a.endpoint_id, a.limited_by, min(a.limited_since), max(a.limited_until)
  from posthaste.endpoint_activity a join posthaste.endpoints e on e.id = a.endpoint_id
 where a.limited_until > now() and a.reported_at > now() - interval '10 seconds'
   and a.limited_since > coalesce(e.resumed_at, '-infinity')
   and not (a.limited_by = 'slowed' and coalesce(e.paused_until > now(), false))
 group by a.endpoint_id, a.limited_by;

create view posthaste.endpoint_pauses as
select * from posthaste.endpoint_restraints
union all
-- Nothing else keeps these held deliveries: the endpoint does not keep up.
select e.id, 'behind', h.since, null
  from posthaste.endpoints e cross join lateral (
    select min(d.next_attempt_at) as since from posthaste.deliveries d
     where d.endpoint_id = e.id and d.status = 'held' and d.next_attempt_at < now() - interval '1 second') h
 where h.since is not null and e.status = 'enabled' and e.circuit_state = 'closed'
   and coalesce(e.paused_until <= now(), true);

comment on view posthaste.endpoint_pauses is 'why an endpoint is not sent to, or not as fast as there is work for it';
comment on view posthaste.endpoint_restraints is 'the same without those that are merely behind';
