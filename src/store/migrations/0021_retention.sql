-- The end of history: a day is taken away as a whole. One transaction detaches its three tables from their
-- parents, which takes moments, and gives up at once where somebody is in the way. Then they are dropped one by one, which takes as
-- long as they are large, while nobody needs them. Functions, since only the owner of a table may do that: they belong to the owner of the
-- schema and run as that one, so that a relay owns nothing.
--
-- Not `detach partition .. concurrently`: only an owner can run that, it cannot be part of a function or a transaction, and it
-- leaves three tables in up to three states each when it is interrupted.

-- One row for each day that retention has touched, kept for good: what was ended there, and when the day went.
create table posthaste.history_days (
  day date primary key,
  expired bigint not null default 0,
  expired_at timestamptz,
  detached_at timestamptz,
  dropped_at timestamptz
);

comment on column posthaste.history_days.expired is 'unfinished deliveries of the day that retention has ended';
comment on column posthaste.history_days.detached_at is
  'its tables are detached, and are to be dropped. A table that somebody else has detached is not ours to drop';

-- The literals are what lets the two partial indexes be used.
create function posthaste.day_is_unfinished(day date) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare
  partition constant text := 'deliveries' || to_char(day, '_YYYYMMDD');
  found_one boolean := false;
begin
  if to_regclass('posthaste.' || partition) is not null then
    execute format('select exists (select from posthaste.%1$I where status = ''held'')
                        or exists (select from posthaste.%1$I where status in (''pending'', ''retrying''))', partition)
      into found_one;
  end if;
  return found_one;
end $$;

create function posthaste.day_is_in_outbox(day date) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
  return exists (select from posthaste.outbox
                  where id >= posthaste.uuid_v7_floor(day::timestamp at time zone 'UTC')
                    and id < posthaste.uuid_v7_floor((day + 1)::timestamp at time zone 'UTC'));
end $$;

-- Detaches the day. Returns 'detached', or why it is kept: 'unfinished', 'outbox'. Fails with lock_not_available where somebody
-- uses the tables: statements that go by the parents wait behind this one for no longer than its lock_timeout at a time.
create function posthaste.detach_day(day date) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms' as $$
declare
  -- The order in which a claim locks them, and settling: in another one, each would wait for the other.
  parents constant text[] := array['events', 'deliveries', 'attempts'];
  given_back constant text := 'PH001';
  found_unfinished constant text := 'PH002';
  parent text;
  partition text;
begin
  -- Ids may be 24 hours old when they are inserted.
  if day >= (clock_timestamp() at time zone 'UTC')::date - 1 then
    perform posthaste.refuse('day', 'is not over for a day yet; only older ones can be dropped', day::text);
  end if;
  perform pg_advisory_xact_lock(hashtextextended('posthaste.create_partitions', 0));
  if posthaste.day_is_in_outbox(day) then
    return 'outbox';
  end if;
  if posthaste.day_is_unfinished(day) then
    return 'unfinished';
  end if;

  -- Whoever has the day itself (a backup, a report) is found out here, before anybody could have to wait for it.
  begin
    foreach parent in array parents loop
      partition := parent || to_char(day, '_YYYYMMDD');
      if to_regclass('posthaste.' || partition) is not null then
        execute format('lock table only posthaste.%I in access exclusive mode nowait', partition);
      end if;
    end loop;
    raise exception using errcode = given_back;
  exception when sqlstate 'PH001' then
    null;
  end;

  begin
    foreach parent in array parents loop
      partition := parent || to_char(day, '_YYYYMMDD');
      -- By the system's caches, which know what others have done meanwhile.
      if pg_partition_root(to_regclass('posthaste.' || partition)) is not null then
        execute format('alter table posthaste.%I detach partition posthaste.%I%s', parent, partition,
          (select case when i.inhdetachpending then ' finalize' end
             from pg_inherits i where i.inhrelid = to_regclass('posthaste.' || partition)));
      end if;
    end loop;
    -- Nobody can change it any more.
    if posthaste.day_is_unfinished(day) then
      raise exception using errcode = found_unfinished;
    end if;
  exception when sqlstate 'PH002' then
    return 'unfinished';
  end;
  insert into posthaste.history_days as h (day, detached_at) values (detach_day.day, clock_timestamp())
    on conflict on constraint history_days_pkey do update set detached_at = excluded.detached_at, dropped_at = null;
  return 'detached';
end $$;

-- Drops a table of a day that was detached: to be called again while it returns 'dropping', then it returns 'dropped'. One at a time,
-- since a file system that gives back large files keeps commits waiting meanwhile. Or it returns 'attached': the day is part of the
-- history, or somebody needed it meanwhile and it is again.
create function posthaste.drop_day(day date) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  parent text;
  partition text;
begin
  perform pg_advisory_xact_lock(hashtextextended('posthaste.create_partitions', 0));
  if not exists (select from posthaste.history_days h where h.day = drop_day.day and h.detached_at is not null) then
    return 'attached';
  end if;
  foreach parent in array array['events', 'deliveries', 'attempts'] loop
    partition := parent || to_char(day, '_YYYYMMDD');
    if to_regclass('posthaste.' || partition) is not null then
      execute format('lock table only posthaste.%I in access exclusive mode', partition);
    end if;
  end loop;
  -- Statements name the tables of days, so something may have come in while nobody saw it.
  if posthaste.day_is_unfinished(day) or posthaste.day_is_in_outbox(day) then
    perform posthaste.create_partitions(day, day);
    return 'attached';
  end if;
  foreach parent in array array['attempts', 'deliveries', 'events'] loop
    partition := parent || to_char(day, '_YYYYMMDD');
    if to_regclass('posthaste.' || partition) is not null then
      execute format('drop table posthaste.%I', partition);
      if parent <> 'events' then
        return 'dropping';
      end if;
    end if;
  end loop;
  update posthaste.history_days h set detached_at = null, dropped_at = clock_timestamp() where h.day = drop_day.day;
  return 'dropped';
end $$;

-- As before, and a day that is there and detached is attached again: a claim that needs it must not fail for that.
create or replace function posthaste.create_partitions(from_day date, to_day date) returns int
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  each_day date;
  parent text;
  partition text;
  made int := 0;
begin
  perform pg_advisory_xact_lock(hashtextextended('posthaste.create_partitions', 0));
  for offset_days in 0 .. to_day - from_day loop
    each_day := from_day + offset_days;
    foreach parent in array array['events', 'deliveries', 'attempts'] loop
      partition := parent || to_char(each_day, '_YYYYMMDD');
      -- Not a query on pg_class or pg_inherits: in REPEATABLE READ that would miss what another session made meanwhile.
      continue when pg_partition_root(to_regclass('posthaste.' || partition)) is not null;
      if to_regclass('posthaste.' || partition) is null then
        -- Including the compression of the payload, the indexes and the checks.
        execute format('create table posthaste.%I (like posthaste.%I including all)', partition, parent);
        perform posthaste.copy_privileges(format('posthaste.%I', parent)::regclass, format('posthaste.%I', partition)::regclass);
        made := made + 1;
      else
        update posthaste.history_days h set detached_at = null where h.day = each_day;
      end if;
      execute format('alter table posthaste.%I attach partition posthaste.%I for values from (%L) to (%L)', parent, partition,
        posthaste.uuid_v7_floor(each_day::timestamp at time zone 'UTC'),
        posthaste.uuid_v7_floor((each_day + 1)::timestamp at time zone 'UTC'));
    end loop;
  end loop;
  return made;
end $$;

revoke all on function posthaste.day_is_unfinished(date), posthaste.day_is_in_outbox(date), posthaste.detach_day(date),
  posthaste.drop_day(date) from public;
