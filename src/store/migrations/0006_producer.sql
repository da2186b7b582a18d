-- Who may do what. A producer may emit and insert into the outbox, and nothing else: it cannot read events, not even its own.

-- Every function is executable by everybody until this is said. A later migration that adds a function must say it again.
revoke all on all functions in schema posthaste from public;

-- Grants a producer's rights to a role: `select posthaste.grant_producer('my_app')`. The columns leave out created_at.
-- uuid_v7 is in it because a column's default runs as the one who inserts.
create function posthaste.grant_producer(role_name name) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  execute format('grant usage on schema posthaste to %I', role_name);
  execute format('grant execute on function posthaste.emit(text, text, json, text, int, text), posthaste.uuid_v7() to %I', role_name);
  execute format('grant insert (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent) on posthaste.outbox to %I', role_name);
end $$;

revoke all on function posthaste.grant_producer(name) from public;

-- Roles belong to the whole cluster: a migration of another database may be making the same one right now.
do $$
begin
  if not exists (select from pg_roles where rolname = 'posthaste_producer') then
    create role posthaste_producer nologin;
  end if;
exception
  when duplicate_object or unique_violation then
    null;
  when insufficient_privilege then
    raise notice 'posthaste: role: % may not create the role posthaste_producer; make a role for producers and call posthaste.grant_producer with its name', current_user;
end $$;

do $$
begin
  if exists (select from pg_roles where rolname = 'posthaste_producer') then
    perform posthaste.grant_producer('posthaste_producer');
  end if;
end $$;
