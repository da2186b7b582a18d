-- Prints the statements that make a tenant in another installation: its endpoints with their secrets, its rules, and the
-- idempotency keys that it has used. Secrets and headers stay sealed, so both installations need the same encryption key. What is
-- there already stays as it is, so it may be run again. docs/capacity.md says when.
--
--   psql "$FROM" -At -v tenant="$TENANT" -f docs/examples/sql/tenant.sql | psql "$TO" -q -1 -v ON_ERROR_STOP=1

select statement from (
  select 1 as turn, format(
           'insert into posthaste.tenant_settings select * from jsonb_populate_record(null::posthaste.tenant_settings, %L)'
           ' on conflict do nothing;', to_jsonb(t)) as statement
    from posthaste.tenant_settings t where t.tenant = :'tenant'
  union all
  select 2, format(
           'insert into posthaste.endpoints select * from jsonb_populate_record(null::posthaste.endpoints, %L)'
           ' on conflict do nothing;', to_jsonb(e))
    from posthaste.endpoints e where e.tenant = :'tenant'
  union all
  -- Their numbers are each installation's own.
  select 3, format(
           'insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext, created_at, expires_at, public_key)'
           ' select r.endpoint_id, r.kind, r.key_id, r.key_ciphertext, r.created_at, r.expires_at, r.public_key'
           ' from jsonb_populate_record(null::posthaste.endpoint_secrets, %L) r where not exists (select from'
           ' posthaste.endpoint_secrets s where s.endpoint_id = r.endpoint_id and s.key_ciphertext = r.key_ciphertext);', to_jsonb(s))
    from posthaste.endpoint_secrets s join posthaste.endpoints e on e.id = s.endpoint_id where e.tenant = :'tenant'
  union all
  select 4, format(
           'insert into posthaste.idempotency_keys select * from jsonb_populate_record(null::posthaste.idempotency_keys, %L)'
           ' on conflict do nothing;', to_jsonb(k))
    from posthaste.idempotency_keys k where k.tenant = :'tenant') as all_of_it
 order by turn, statement;
