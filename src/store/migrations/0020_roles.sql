-- Less trust inside: roles that may do no more than they need. `posthaste roles sql` makes the roles and grants; here is what that
-- stands on.

-- Whoever may write a row need not be allowed to call what checks it.
alter function posthaste.endpoint_check() security definer;
alter function posthaste.outbox_traceparent() security definer;

-- Gives a table the privileges of another one, to everybody but its owner, and no others. Statements name the tables of days, so
-- the privileges of their parents alone would not do.
create function posthaste.copy_privileges(source regclass, target regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  statement text;
begin
  for statement in
    with acls as (
      select c.oid, c.relowner, c.relacl as acl, null::name as attname from pg_class c where c.oid in (source, target)
      union all
      select c.oid, c.relowner, t.attacl, t.attname
        from pg_class c join pg_attribute t on t.attrelid = c.oid and not t.attisdropped
       where c.oid in (source, target)
    ), grants as (
      select p.oid, p.attname, a.privilege_type,
             case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
        from acls p cross join lateral aclexplode(p.acl) a where a.grantee <> p.relowner
    )
    select text from (
      -- All that a role has, on columns too.
      select distinct 1 as step, format('revoke all on %s from %s', target, grantee) as text from grants where oid = target
      union all
      select 2, format('grant %s%s on %s to %s', privilege_type, ' (' || quote_ident(attname) || ')', target, grantee)
        from grants where oid = source and attname is not null
      union all
      select 2, format('grant %s on %s to %s', privilege_type, target, grantee) from grants where oid = source and attname is null
    ) s order by step, text
  loop
    execute statement;
  end loop;
end $$;

-- As before, and each new day gets the privileges of its parents. It belongs to the owner of the schema and runs as that one, so a
-- relay makes days without owning anything. Its search_path is fixed, and it takes dates only.
create or replace function posthaste.create_partitions(from_day date, to_day date) returns int
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
      perform posthaste.copy_privileges(format('posthaste.%I', parent)::regclass, format('posthaste.%I', partition)::regclass);
      execute format('alter table posthaste.%I attach partition posthaste.%I for values from (%L) to (%L)', parent, partition,
        posthaste.uuid_v7_floor(day::timestamp at time zone 'UTC'),
        posthaste.uuid_v7_floor((day + 1)::timestamp at time zone 'UTC'));
      made := made + 1;
    end loop;
  end loop;
  return made;
end $$;

-- Makes the function posthaste.emit_<role>, with the arguments of emit, which refuses all other tenants. It is all that the role may
-- do here: what it may have had before is taken away. Called again, it replaces the list.
--
-- A function and not row-level security: emit runs as the owner of the schema, so a policy could not tell who calls it, and it would be
-- a condition in every claim of the relay.
create function posthaste.confine_producer(role_name name, tenants text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  arguments constant text := '(text, text, json, text, int, text)';
  emit constant regprocedure := ('posthaste.emit' || arguments)::regprocedure;
  own_name constant text := quote_ident('emit_' || role_name);
  body text;
begin
  if octet_length(role_name) > 58 then
    perform posthaste.refuse('role_name', 'is too long; use a role whose name has at most 58 bytes', role_name);
  end if;
  if not coalesce(cardinality(tenants) between 1 and 100, false) then
    perform posthaste.refuse('tenants', format('has %s names; use 1 to 100', coalesce(cardinality(tenants), 0)));
  end if;
  if exists (select from unnest(tenants) as t(name) where not coalesce(length(t.name) between 1 and 128, false)) then
    perform posthaste.refuse('tenants', 'holds a name that is null, empty or longer than 128 characters; use names of tenants');
  end if;

  execute format('revoke all on posthaste.outbox from %I', role_name);
  execute format('revoke all on function %s, posthaste.uuid_v7() from %I', emit, role_name);
  if has_function_privilege(role_name, emit, 'execute')
    or has_any_column_privilege(role_name, 'posthaste.outbox'::regclass, 'insert') then
    perform posthaste.refuse('role_name',
      'may emit for every tenant still, as a superuser, the owner or a member of another role; revoke that first', role_name,
      'insufficient_privilege');
  end if;

  body := format($body$
begin
  -- null is refused by emit.
  if tenant <> all (%L::text[]) then
    perform posthaste.refuse('tenant', 'is not one that this producer may emit for; an operator can change that with'
      ' posthaste.confine_producer', tenant, 'insufficient_privilege');
  end if;
  return posthaste.emit(tenant, event_type, payload, idempotency_key, max_attempts, traceparent);
end $body$, tenants);
  execute format('create or replace function posthaste.%s('
    'tenant text, event_type text, payload json, idempotency_key text default null, max_attempts int default null,'
    ' traceparent text default null) returns uuid'
    ' language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as %L', own_name, body);
  execute format('alter function posthaste.%s%s owner to %I', own_name, arguments,
    (select pg_get_userbyid(proowner) from pg_proc where oid = emit));
  execute format('revoke all on function posthaste.%s%s from public', own_name, arguments);
  execute format('grant usage on schema posthaste to %I', role_name);
  execute format('grant execute on function posthaste.%s%s to %I', own_name, arguments, role_name);
end $$;

revoke all on function posthaste.copy_privileges(regclass, regclass), posthaste.confine_producer(name, text[]) from public;
-- What came after 0006. They are triggers, which nobody can call; but nothing here is for everybody.
revoke all on all functions in schema posthaste from public;
