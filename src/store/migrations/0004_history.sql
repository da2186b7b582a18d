-- The history: what was relayed, what is owed to whom, and what was tried. Three tables partitioned by day on the event
-- id. There is no default partition: it would be locked and scanned whenever a day is made, and it forbids detaching
-- one concurrently. The outbox refuses ids outside the days that exist.

create table posthaste.events (
  id uuid not null,
  tenant text not null,
  event_type text not null,
  payload json not null,
  idempotency_key text,
  max_attempts int,
  traceparent text,
  created_at timestamptz not null,
  published_at timestamptz not null default now(),
  matched int not null default 0,
  primary key (id)
) partition by range (id);

comment on column posthaste.events.published_at is 'when the relay took the event on; relay_batches says what the broker has yet to confirm';
comment on column posthaste.events.matched is 'how many endpoints matched; an event that none matched is recorded with 0, not lost';

do $$
begin
  alter table posthaste.events alter column payload set compression lz4;
exception when feature_not_supported then
  null;
end $$;

-- No foreign keys: they would cost a probe per row, and a day is dropped as a whole.
create table posthaste.deliveries (
  event_id uuid not null,
  endpoint_id uuid not null,
  status text not null default 'pending' check (status in ('pending', 'retrying', 'held', 'delivered', 'dead')),
  attempts int not null default 0,
  base_attempts int not null default 0,
  max_attempts int not null,
  next_attempt_at timestamptz default now(),
  last_status_code int,
  last_error text,
  dead_reason text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (event_id, endpoint_id)
) partition by range (event_id);

comment on column posthaste.deliveries.attempts is 'attempts made, ever; only grows';
comment on column posthaste.deliveries.base_attempts is 'attempts made before the last requeue; the schedule and max_attempts count from there';
comment on column posthaste.deliveries.max_attempts is 'fixed when the event was fanned out';
comment on column posthaste.deliveries.next_attempt_at is 'when its message should be in a work queue, or when a held one may be released; null when delivered or dead';

-- Partial, so that the bulk of the table, which is delivered, is in neither. A statement must name the statuses as
-- literals to use them.
create index deliveries_due on posthaste.deliveries (next_attempt_at) where status in ('pending', 'retrying');
create index deliveries_parked on posthaste.deliveries (status, endpoint_id, event_id) where status in ('held', 'dead');

create table posthaste.attempts (
  event_id uuid not null,
  endpoint_id uuid not null,
  attempt int not null,
  outcome text not null check (outcome in ('delivered', 'retry', 'dead')),
  status_code int,
  error text,
  duration_ms int not null,
  started_at timestamptz not null,
  next_attempt_at timestamptz,
  request_headers jsonb,
  response_headers jsonb,
  response_body text,
  worker text,
  primary key (event_id, endpoint_id, attempt)
) partition by range (event_id);

-- Makes the missing partitions of the days from_day to to_day (both included, in UTC) and returns how many it made.
--
-- A table is made on its own and then attached, which takes SHARE UPDATE EXCLUSIVE on the parent and so waits for no
-- reader or writer; create table .. partition of would need ACCESS EXCLUSIVE. Any number of sessions may call it at once.
create function posthaste.create_partitions(from_day date, to_day date) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  day date;
  parent text;
  partition text;
  made int := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('posthaste.create_partitions', 0));
  for offset_days in 0 .. to_day - from_day loop
    day := from_day + offset_days;
    foreach parent in array array['events', 'deliveries', 'attempts'] loop
      partition := parent || to_char(day, '_YYYYMMDD');
      -- Not a query on pg_class: in REPEATABLE READ that would miss what another session made meanwhile.
      continue when to_regclass('posthaste.' || partition) is not null;
      -- Including the compression of the payload, the indexes and the checks.
      execute format('create table posthaste.%I (like posthaste.%I including all)', partition, parent);
      execute format('alter table posthaste.%I attach partition posthaste.%I for values from (%L) to (%L)', parent, partition,
        posthaste.uuid_v7_floor(day::timestamp at time zone 'UTC'),
        posthaste.uuid_v7_floor((day + 1)::timestamp at time zone 'UTC'));
      made := made + 1;
    end loop;
  end loop;
  return made;
end $$;

select posthaste.create_partitions(today - 1, today + 7) from (select (now() at time zone 'UTC')::date) as utc (today);

-- What is committed and not yet confirmed by the broker. A relay that is gone leaves its batches for the others.
create table posthaste.relay_batches (
  id bigint generated always as identity primary key,
  relay bigint not null,
  event_ids uuid[] not null,
  claimed_at timestamptz not null default now()
) with (
  -- A row lives for milliseconds: the outbox's settings, for the same reasons.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off,
  toast.autovacuum_vacuum_scale_factor = 0,
  toast.autovacuum_vacuum_threshold = 1000,
  toast.autovacuum_vacuum_cost_delay = 0,
  toast.vacuum_truncate = off
);

-- Markers that came through a work queue: what was due before one was published has left the queue when it was recorded.
create table posthaste.markers (
  queue text collate "C" not null,
  published_at timestamptz not null,
  recorded_at timestamptz not null default now(),
  primary key (queue, published_at)
);
