-- Roles of Posthaste with no more rights than they need. Printed by `posthaste roles sql`; see docs/roles.md.
--
-- Run it in the database of Posthaste, as a superuser: before the first `posthaste migrate`, which the migrator then runs, and
-- again after each. The migrator may run it too, once the roles exist. Running it again changes nothing. Nobody can log in with
-- these roles until you say how.

begin;
set local lock_timeout = '10s';

-- Roles belong to the whole server: another database may be getting the same ones right now.
do $roles$
declare
  role_name name;
begin
  foreach role_name in array array[{all}]::name[] loop
    if not exists (select from pg_roles where rolname = role_name) then
      begin
        execute format('create role %I nologin', role_name);
      exception when duplicate_object or unique_violation then
        null;
      end;
    end if;
  end loop;
  if not has_database_privilege('{migrator}', current_database(), 'create') then
    execute format('grant create on database %I to {migrator}', current_database());
  end if;
end $roles$;

do $grants$
declare
  statement text;
begin
  if to_regnamespace('posthaste') is null then
    raise notice 'posthaste: there is no schema yet; run posthaste migrate as {migrator}, and then this once more';
    return;
  end if;
  if to_regprocedure('posthaste.copy_privileges(regclass, regclass)') is null then
    raise exception 'posthaste: the schema is of an older version; run posthaste migrate first';
  end if;

  -- What somebody else has made becomes the migrator's.
  for statement in
    select 'alter schema posthaste owner to {migrator}'
      from pg_namespace where nspname = 'posthaste' and nspowner <> '{migrator}'::regrole
    union all
    select format('alter %s posthaste.%I owner to {migrator}',
             case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end, c.relname)
      from pg_class c
     where c.relnamespace = 'posthaste'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
       and c.relowner <> '{migrator}'::regrole
       -- The sequence of an identity column follows its table.
       and not exists (select from pg_depend d
                        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
                          and c.relkind = 'S')
    union all
    select format('alter function %s owner to {migrator}', p.oid::regprocedure)
      from pg_proc p where p.pronamespace = 'posthaste'::regnamespace and p.proowner <> '{migrator}'::regrole
  loop
    execute statement;
  end loop;

  -- No day may be made meanwhile, with privileges of before.
  perform pg_advisory_xact_lock(hashtextextended('posthaste.create_partitions', 0));

  -- What is not in the list is taken away.
  revoke all on schema posthaste from public, {others};
  revoke all on all tables in schema posthaste from public, {others};
  revoke all on all sequences in schema posthaste from public, {others};
  revoke all on all functions in schema posthaste from public, {others};

  grant usage on schema posthaste to {others};
{grants}

  -- And on each day what is granted on its parent.
  perform posthaste.copy_privileges(i.inhparent::regclass, i.inhrelid::regclass)
     from pg_inherits i
    where i.inhparent in ('posthaste.events'::regclass, 'posthaste.deliveries'::regclass, 'posthaste.attempts'::regclass);
end $grants$;

commit;
