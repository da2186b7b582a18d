-- Events about events: what happens to endpoints and deliveries is emitted like any other event, for the tenant of whoever operates
-- this. In the transaction of the change, whoever makes it; an operator's webhook hears of it as a customer's does.

-- Null: nobody wants to hear of it. `posthaste migrate` replaces it with `operations.tenant`. It is inlined, so a statement that asks
-- is planned as if it did not, while nobody does.
create function posthaste.operations_tenant() returns text
language sql stable parallel safe
return null::text;

-- What was told lately. It may be lost with a crash: then a thing is told once more.
create unlogged table posthaste.operations_told (
  event_type text not null,
  endpoint_id uuid not null,
  told_at timestamptz not null,
  primary key (endpoint_id, event_type)
);
create index operations_told_at on posthaste.operations_told (told_at);
comment on table posthaste.operations_told is 'events for operations.tenant of the last hour: at most one a minute of a type for an endpoint, and ten a second in all';

-- How many were left out. A sequence, because counting must not make one transaction wait for another.
create sequence posthaste.operations_left_out minvalue 0 start 1;

-- Emits the event, unless it was told too lately. Nothing that goes wrong here may undo the change that it is about, and nobody may
-- wait for it.
create function posthaste.tell_now(kind text, endpoint uuid, facts json) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
begin
  -- Whoever has it tells the same just now.
  if not pg_try_advisory_xact_lock(hashtextextended('posthaste.tell ' || kind || endpoint, 0)) then
    return false;
  end if;
  insert into posthaste.operations_told as t (event_type, endpoint_id, told_at) values (kind, endpoint, clock_timestamp())
    on conflict (endpoint_id, event_type) do update set told_at = excluded.told_at
    where t.told_at <= excluded.told_at - interval '1 minute';
  if not found then
    return false;
  end if;
  insert into posthaste.outbox (tenant, event_type, payload)
    values (posthaste.operations_tenant(), kind, json_build_object('type', kind, 'timestamp', clock_timestamp(), 'data', facts));
  return true;
exception when others then
  raise warning 'posthaste: % of the endpoint % is not told: %', kind, endpoint, sqlerrm;
  return false;
end $$;

-- Never of what belongs to the operators themselves: that would go round in circles.
create function posthaste.tell(kind text, endpoint uuid, owner text, facts json) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  now constant timestamptz := clock_timestamp();
begin
  if owner is null or owner = posthaste.operations_tenant() then
    return false;
  end if;
  if not exists (select from posthaste.operations_told t
                  where t.endpoint_id = endpoint and t.event_type = kind and t.told_at > now - interval '1 minute')
    and (select count(*) < 10 from (
           select from posthaste.operations_told t where t.told_at > now - interval '1 second' limit 10) lately)
    and posthaste.tell_now(kind, endpoint, facts) then
    return true;
  end if;
  perform nextval('posthaste.operations_left_out');
  return false;
end $$;

-- Tells of deliveries that have become dead, one event for each endpoint. Returns how many events. Called by the statements that end
-- deliveries and not by a trigger: a trigger would cost each attempt something.
create function posthaste.tell_dead(event_ids uuid[], endpoint_ids uuid[], reasons text[], attempts int[], status_codes int[])
returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  dead record;
  event record;
  told int := 0;
begin
  if posthaste.operations_tenant() is null then
    return 0;
  end if;
  for dead in
    select distinct on (k.endpoint_id) k.*, count(*) over (partition by k.endpoint_id) as deliveries
      from unnest(event_ids, endpoint_ids, reasons, attempts, status_codes)
        as k(event_id, endpoint_id, reason, attempts, status_code)
     order by k.endpoint_id, k.event_id
  loop
    select e.tenant, e.event_type into event from posthaste.events e where e.id = dead.event_id;
    if posthaste.tell('delivery.dead', dead.endpoint_id, event.tenant, json_build_object(
      'endpoint_id', dead.endpoint_id, 'tenant', event.tenant, 'event_id', dead.event_id, 'event_type', event.event_type,
      'reason', dead.reason, 'attempts', dead.attempts, 'status_code', dead.status_code, 'deliveries', dead.deliveries)) then
      told := told + 1;
    end if;
  end loop;
  return told;
end $$;

create function posthaste.endpoint_tells() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if posthaste.operations_tenant() is null then
    return null;
  end if;
  -- A probe that fails opens it again, which is no news.
  if old.circuit_state = 'closed' and new.circuit_state = 'open' then
    perform posthaste.tell('endpoint.circuit_opened', new.id, new.tenant, json_build_object(
      'endpoint_id', new.id, 'tenant', new.tenant, 'reason', 'the endpoint keeps failing',
      'since', new.circuit_opened_at, 'until', new.circuit_until));
  elsif old.circuit_state <> 'closed' and new.circuit_state = 'closed' then
    perform posthaste.tell('endpoint.circuit_closed', new.id, new.tenant, json_build_object(
      'endpoint_id', new.id, 'tenant', new.tenant, 'since', old.circuit_opened_at));
  end if;
  if old.status <> 'disabled' and new.status = 'disabled' then
    perform posthaste.tell('endpoint.disabled', new.id, new.tenant, json_build_object(
      'endpoint_id', new.id, 'tenant', new.tenant, 'reason', left(new.disabled_reason, 500)));
  end if;
  if new.paused_until > now() and coalesce(old.paused_until <= now(), true) then
    perform posthaste.tell('endpoint.paused', new.id, new.tenant, json_build_object(
      'endpoint_id', new.id, 'tenant', new.tenant, 'reason', 'the endpoint asked for time with Retry-After',
      'until', new.paused_until));
  end if;
  return null;
end $$;

create trigger y_tells after update of status, circuit_state, paused_until on posthaste.endpoints for each row
  when (old.status is distinct from new.status or old.circuit_state is distinct from new.circuit_state
        or old.paused_until is distinct from new.paused_until)
  execute function posthaste.endpoint_tells();

revoke all on function posthaste.operations_tenant(), posthaste.tell_now(text, uuid, json), posthaste.tell(text, uuid, text, json),
  posthaste.tell_dead(uuid[], uuid[], text[], int[], int[]), posthaste.endpoint_tells() from public;
