-- The encryption keys that the database knows, by the ids that are computed from them: the one that seals, and those that it had
-- before. What another key seals, no worker could open, so it is refused here, whoever writes it: an operator with a key of another
-- installation, or one who has not heard of a rotation.
create table posthaste.encryption_keys (
  key_id text primary key,
  added_at timestamptz not null default now(),
  retired_at timestamptz
);

comment on table posthaste.encryption_keys is 'ids of encryption keys; no key is in the database';
comment on column posthaste.encryption_keys.retired_at is 'since when it seals nothing any more; null for the one that does';

create unique index encryption_keys_current on posthaste.encryption_keys ((true)) where retired_at is null;

-- Whoever seals holds the row of the key until the end of the transaction, and a rotation waits for that: after it has begun,
-- nothing sealed with an older key can appear.
create function posthaste.sealed_with(used_key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  sealing_key text;
begin
  -- The first of all.
  if not exists (select from posthaste.encryption_keys) then
    insert into posthaste.encryption_keys (key_id) values (used_key) on conflict do nothing;
  end if;
  perform from posthaste.encryption_keys where key_id = used_key and retired_at is null for share;
  if not found then
    select key_id into sealing_key from posthaste.encryption_keys where retired_at is null;
    perform posthaste.refuse('security.encryption_key', format('is not what this database is sealed with; its key has the id %s:'
      ' use that one, or make this one its key with posthaste keys rotate', sealing_key), used_key);
  end if;
end $$;

-- From now on the database is sealed with this key. Values that others have sealed stay as they are.
create function posthaste.seal_with(new_key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('posthaste.seal_with', 0));
  update posthaste.encryption_keys set retired_at = now() where retired_at is null and key_id <> new_key;
  insert into posthaste.encryption_keys (key_id) values (new_key)
    on conflict (key_id) do update set retired_at = null where encryption_keys.retired_at is not null;
end $$;

create function posthaste.endpoint_secret_sealed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform posthaste.sealed_with(new.key_id);
  return new;
end $$;

create trigger c_sealed before insert or update of key_id, key_ciphertext on posthaste.endpoint_secrets
  for each row execute function posthaste.endpoint_secret_sealed();

-- A sealed column begins with the id of the key.
create function posthaste.endpoint_sealed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  sealed bytea;
begin
  foreach sealed in array array[
    case when tg_op = 'INSERT' or new.headers is distinct from old.headers then new.headers end,
    case when tg_op = 'INSERT' or new.client_identity is distinct from old.client_identity then new.client_identity end,
    case when tg_op = 'INSERT' or new.ca is distinct from old.ca then new.ca end]
  loop
    if sealed is not null then
      perform posthaste.sealed_with(encode(substr(sealed, 1, 8), 'escape'));
    end if;
  end loop;
  return new;
end $$;

create trigger c_sealed before insert or update of headers, client_identity, ca on posthaste.endpoints
  for each row execute function posthaste.endpoint_sealed();

-- What is there already. The key that was used last seals.
insert into posthaste.encryption_keys (key_id, retired_at)
select k.key_id, case when row_number() over (order by max(k.used) desc, k.key_id) > 1 then now() end
  from (select key_id, id as used from posthaste.endpoint_secrets
        union all
        select encode(substr(b.sealed, 1, 8), 'escape'), 0
          from posthaste.endpoints e cross join unnest(array[e.headers, e.client_identity, e.ca]) as b(sealed)
         where b.sealed is not null) k
 group by k.key_id;

revoke all on function posthaste.sealed_with(text), posthaste.seal_with(text), posthaste.endpoint_secret_sealed(),
  posthaste.endpoint_sealed() from public;
