-- The outbox: the hot table that producers insert into, in their own transactions. A row leaves it when the relay has
-- moved it on, so it stays small however long the history is.

-- Settings that the database itself needs. `posthaste migrate` replaces them with the configured values, and sessions with
-- cached plans notice. Functions, because that is the cheapest to read: they are inlined.
create function posthaste.max_payload_bytes() returns int
language sql stable parallel safe
return 1048576;

create function posthaste.idempotency_ttl() returns interval
language sql stable parallel safe
return interval '7 days';

-- json, not jsonb: it is validated and still keeps the producer's exact bytes, which are what is signed and sent.
create table posthaste.outbox (
  id uuid primary key default posthaste.uuid_v7(),
  tenant text not null,
  event_type text not null,
  payload json not null,
  idempotency_key text,
  max_attempts int,
  traceparent text,
  created_at timestamptz not null default now()
) with (
  -- Every row is deleted soon after it was inserted: vacuum by count, not by share, and at full speed. Truncating the
  -- file would take an ACCESS EXCLUSIVE lock that stops every producer.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_threshold = -1,
  autovacuum_vacuum_cost_delay = 0,
  vacuum_truncate = off,
  toast.autovacuum_vacuum_scale_factor = 0,
  toast.autovacuum_vacuum_threshold = 5000,
  toast.autovacuum_vacuum_cost_delay = 0,
  toast.vacuum_truncate = off
);

-- lz4 halves the cost of a large payload. A server built without it keeps its default.
do $$
begin
  alter table posthaste.outbox alter column payload set compression lz4;
exception when feature_not_supported then
  null;
end $$;

-- Idempotency keys. They outlive the outbox row, and an expired one can be used again.
create table posthaste.idempotency_keys (
  -- Compared byte by byte: faster, and an upgrade of the system's collations cannot break the index.
  tenant text collate "C" not null,
  key text collate "C" not null,
  event_id uuid not null,
  expires_at timestamptz not null,
  primary key (tenant, key)
);

-- For the removal of expired keys.
create index idempotency_keys_expired on posthaste.idempotency_keys (expires_at);

-- Registers a key for an event and returns null, or, for a key that was seen, the event that has it.
create function posthaste.register_key(for_tenant text, new_key text, new_id uuid) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  until constant timestamptz := now() + posthaste.idempotency_ttl();
  first_id uuid;
begin
  loop
    -- Waits for another transaction that is registering the same key. DO UPDATE would lock and rewrite a seen key.
    insert into posthaste.idempotency_keys (tenant, key, event_id, expires_at) values (for_tenant, new_key, new_id, until)
      on conflict do nothing;
    if found then
      return null;
    end if;
    update posthaste.idempotency_keys set event_id = new_id, expires_at = until
      where tenant = for_tenant and key = new_key and expires_at <= now();
    if found then
      return null;
    end if;
    select event_id into first_id from posthaste.idempotency_keys where tenant = for_tenant and key = new_key;
    if found then
      return first_id;
    end if;
    -- It expired and was removed in between: try again.
  end loop;
end $$;

-- One row trigger instead of CHECK constraints: those are planned again for every statement, and cannot say what to do.
-- A second trigger with a WHEN clause would cost every row something too, so the key is registered here as well. It runs
-- with a pinned search_path, since the caller's could replace an operator and let a bad row through.
create function posthaste.outbox_check() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  age_ms float8;
  max_bytes int;
  first_id uuid;
begin
  if new.id is null then
    perform posthaste.refuse('id', 'is null; leave the column out to get a new id');
  elsif substr(new.id::text, 15, 1) <> '7' or substr(new.id::text, 20, 1) not in ('8', '9', 'a', 'b') then
    perform posthaste.refuse('id', 'is not a version 7 UUID; leave the column out to get one', new.id::text);
  end if;
  -- Partitions exist for this window only, and a clock that is further off than this needs somebody's attention.
  age_ms := date_part('epoch', clock_timestamp()) * 1000 - posthaste.uuid_v7_ms(new.id);
  if age_ms > 24 * 3600000 or age_ms < -3600000 then
    perform posthaste.refuse('id', format(
      'has the time %s UTC, and the database clock says %s UTC; an id may be at most 24 hours older and 1 hour newer:'
      ' set the clock right, or leave the column out to get a new id',
      to_char(to_timestamp(posthaste.uuid_v7_ms(new.id) / 1000.0) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
      to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')), new.id::text);
  end if;

  if new.tenant is null then
    perform posthaste.refuse('tenant', 'is null; pass the tenant that the event belongs to');
  elsif length(new.tenant) not between 1 and 128 then
    perform posthaste.refuse('tenant', format('has %s characters; use 1 to 128', length(new.tenant)), new.tenant);
  end if;

  if new.event_type is null then
    perform posthaste.refuse('event_type', 'is null; pass a type such as order.created');
  elsif length(new.event_type) > 128 then
    perform posthaste.refuse('event_type', format('has %s characters; use at most 128', length(new.event_type)), new.event_type);
  elsif new.event_type !~ '^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$' then
    perform posthaste.refuse('event_type',
      'is not valid; use dot-separated words of letters, digits and _, such as order.created', new.event_type);
  end if;

  if new.payload is null then
    perform posthaste.refuse('payload', 'is null; pass JSON, at least {}');
  end if;
  -- The size as stored costs nothing to know, and is the size in bytes plus a header of at most 4. It says little about
  -- a compressed value, which an insert .. select brings along; only that one, and one at the limit, is measured.
  max_bytes := posthaste.max_payload_bytes();
  if pg_column_size(new.payload) > max_bytes or pg_column_compression(new.payload) is not null then
    if octet_length(new.payload::text) > max_bytes then
      perform posthaste.refuse('payload', format(
        'has %s bytes and the limit is %s; store the content elsewhere and send a reference to it, or have the limit raised',
        octet_length(new.payload::text), max_bytes));
    end if;
  end if;

  if new.idempotency_key is not null and length(new.idempotency_key) not between 1 and 255 then
    perform posthaste.refuse('idempotency_key', format('has %s characters; use 1 to 255, or null for none',
      length(new.idempotency_key)), new.idempotency_key);
  end if;
  if new.max_attempts not between 1 and 1000 then
    perform posthaste.refuse('max_attempts', 'is out of range; use 1 to 1000, or null for the number of the retry policy',
      new.max_attempts::text);
  end if;
  if new.traceparent !~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$' then
    perform posthaste.refuse('traceparent',
      'is not a W3C traceparent; use 00-<32 hex digits>-<16 hex digits>-<2 hex digits> in lower case, or null', new.traceparent);
  end if;

  -- Last, when nothing else is wrong with the row. A null created_at marks a row from emit, which does not want an error
  -- for a seen key: the row is skipped, and emit returns the first id. Producers have no right to set created_at.
  if new.idempotency_key is not null then
    first_id := posthaste.register_key(new.tenant, new.idempotency_key, new.id);
    if first_id is null then
      new.created_at := coalesce(new.created_at, now());
    elsif new.created_at is null then
      return null;
    else
      perform posthaste.refuse('idempotency_key', format('was used before, by event %s;'
        ' call posthaste.emit to get that id instead of an error, or use another key', first_id),
        new.idempotency_key, 'unique_violation');
    end if;
  end if;
  return new;
end $$;

create trigger a_check before insert on posthaste.outbox
  for each row execute function posthaste.outbox_check();

-- Waking the relay. NOTIFY takes a lock that serialises all commits, so producers notify only while a relay sleeps: 1.
-- The flag is a sequence, since a row's value would be hidden from a transaction with an older snapshot.
create sequence posthaste.wake minvalue 0 maxvalue 1 start 0;

create function posthaste.outbox_wake() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if (select last_value = 1 from posthaste.wake) then
    perform pg_notify('posthaste_wake', '');
  end if;
  return null;
end $$;

-- After the insert: the transaction then has an id that a relay which is about to sleep can wait for.
create trigger z_wake after insert on posthaste.outbox
  for each statement execute function posthaste.outbox_wake();

-- What producers call. plpgsql, because a security definer function in SQL plans its statements again on every call.
create function posthaste.emit(
  tenant text,
  event_type text,
  payload json,
  idempotency_key text default null,
  max_attempts int default null,
  traceparent text default null
) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  new_id constant uuid := posthaste.uuid_v7();
  first_id uuid;
begin
  loop
    insert into posthaste.outbox (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at)
      values (new_id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent,
        case when idempotency_key is null then now() end);
    if found then
      return new_id;
    end if;
    -- The key was seen. New keys are the rule, so it was not looked up first.
    select k.event_id into first_id from posthaste.idempotency_keys k where k.tenant = tenant and k.key = idempotency_key;
    if found then
      return first_id;
    end if;
    -- It expired and was removed in between: try again.
  end loop;
end $$;

-- Outbox rows that cannot be moved, for instance because an earlier event has the same id. They wait here for somebody
-- to look at them, and never block the rows behind them.
create table posthaste.set_aside (
  id uuid not null,
  tenant text not null,
  event_type text not null,
  payload json not null,
  idempotency_key text,
  max_attempts int,
  traceparent text,
  created_at timestamptz not null,
  error text not null,
  set_aside_at timestamptz not null default now(),
  primary key (id, set_aside_at)
);
