-- Endpoints: where a tenant's events go. Rows may be changed by plain SQL; every process hears of it.

create table posthaste.endpoints (
  id uuid primary key default posthaste.uuid_v7(),
  tenant text collate "C" not null,
  url text not null,
  description text,
  event_types text[],
  event_like text[] not null,
  status text not null default 'enabled',
  disabled_reason text,
  max_in_flight int,
  rate_limit_per_second float8,
  timeout_ms int,
  retry_policy text,
  headers bytea,
  circuit_state text not null default 'closed' check (circuit_state in ('closed', 'open', 'half_open')),
  circuit_until timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create index endpoints_tenant on posthaste.endpoints (tenant);

comment on column posthaste.endpoints.event_types is 'filters: an exact type, prefix.* or *; null or empty for every type';
comment on column posthaste.endpoints.event_like is 'event_types as LIKE patterns, kept by a trigger; what the relay matches against';
comment on column posthaste.endpoints.headers is 'custom headers, encrypted by the service; not to be written by hand';

create table posthaste.endpoint_secrets (
  id bigint generated always as identity primary key,
  endpoint_id uuid not null references posthaste.endpoints on delete cascade,
  kind text not null check (kind in ('whsec', 'whsk')),
  key_id text not null,
  key_ciphertext bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz
);

create index endpoint_secrets_endpoint on posthaste.endpoint_secrets (endpoint_id);

comment on column posthaste.endpoint_secrets.key_id is 'which encryption key made key_ciphertext';
comment on column posthaste.endpoint_secrets.expires_at is 'when it stops signing; null for never';

-- In a LIKE pattern `_` stands for any character, and it is common in event types.
create function posthaste.event_like(event_types text[]) returns text[]
language sql immutable parallel safe
return (
  select case when count(*) = 0 or bool_or(f = '*') then array['%']
    else array_agg(replace(replace(replace(regexp_replace(f, '\.\*$', '.'), '\', '\\'), '_', '\_'), '%', '\%')
      || case when f like '%.*' then '%' else '' end order by f) end
  from unnest(event_types) as f
);

create function posthaste.endpoint_check() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  filter text;
begin
  if new.tenant is null then
    perform posthaste.refuse('tenant', 'is null; pass the tenant whose events the endpoint gets');
  elsif length(new.tenant) not between 1 and 128 then
    perform posthaste.refuse('tenant', format('has %s characters; use 1 to 128', length(new.tenant)), new.tenant);
  end if;

  -- The URL itself stays out of the messages: it can hold a password or a token.
  if new.url is null then
    perform posthaste.refuse('url', 'is null; pass the address that takes the webhooks');
  elsif length(new.url) > 2048 then
    perform posthaste.refuse('url', format('has %s characters; use at most 2048', length(new.url)));
  elsif new.url !~ '^https?://' then
    perform posthaste.refuse('url', 'does not begin with http:// or https://; use an absolute URL such as https://example.com/hooks');
  elsif new.url !~ '^https?://[^/?#[:space:][:cntrl:]][^[:space:][:cntrl:]]*$' then
    perform posthaste.refuse('url', 'has no host, or a space or control character in it; use an absolute URL such as https://example.com/hooks');
  end if;

  if cardinality(new.event_types) > 256 then
    perform posthaste.refuse('event_types', format('has %s filters; use at most 256, or prefixes', cardinality(new.event_types)));
  end if;
  foreach filter in array coalesce(new.event_types, '{}') loop
    if filter is null then
      perform posthaste.refuse('event_types', 'holds a null; use an exact type (order.created), a prefix (order.*) or * for every type');
    elsif length(filter) > 130 or filter !~ '^(\*|[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*(\.\*)?)$' then
      perform posthaste.refuse('event_types',
        'is not a filter; use an exact type (order.created), a prefix (order.*) or * for every type', filter);
    end if;
  end loop;
  new.event_like := posthaste.event_like(new.event_types);

  if new.status is null or new.status not in ('enabled', 'disabled') then
    perform posthaste.refuse('status', 'is not a status; use enabled or disabled', coalesce(new.status, 'null'));
  elsif new.status = 'enabled' then
    new.disabled_reason := null;
  end if;
  if new.max_in_flight not between 1 and 10000 then
    perform posthaste.refuse('max_in_flight', 'is out of range; use 1 to 10000, or null for the default', new.max_in_flight::text);
  end if;
  -- Also refuses NaN and infinity, which are above every number.
  if new.rate_limit_per_second <= 0 or new.rate_limit_per_second > 1000000 then
    perform posthaste.refuse('rate_limit_per_second', 'is out of range; use a number above 0, at most 1000000, or null for no limit',
      new.rate_limit_per_second::text);
  end if;
  if new.timeout_ms not between 1 and 600000 then
    perform posthaste.refuse('timeout_ms', 'is out of range; use 1 to 600000, or null for the default', new.timeout_ms::text);
  end if;
  if length(new.retry_policy) not between 1 and 64 then
    perform posthaste.refuse('retry_policy', 'is not the name of a policy; use 1 to 64 characters, or null for the default', new.retry_policy);
  end if;

  if tg_op = 'UPDATE' then
    new.updated_at := now();
  end if;
  return new;
end $$;

-- Configuration columns only: the circuit is written often, by the service, and is nobody's configuration.
create trigger a_check
  before insert or update of tenant, url, description, event_types, event_like, status, disabled_reason, max_in_flight,
    rate_limit_per_second, timeout_ms, retry_policy, headers
  on posthaste.endpoints for each row execute function posthaste.endpoint_check();

-- Workers cache what they need to send, and read an endpoint again when it is named here. These commits are rare, so
-- the lock that NOTIFY takes does not matter.
create function posthaste.endpoint_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('posthaste_endpoint', (case when tg_op = 'DELETE' then old.id else new.id end)::text);
  return null;
end $$;

create trigger z_changed
  after insert or delete or update of id, tenant, url, description, event_types, event_like, status, disabled_reason,
    max_in_flight, rate_limit_per_second, timeout_ms, retry_policy, headers
  on posthaste.endpoints for each row execute function posthaste.endpoint_changed();

create function posthaste.endpoint_secret_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform pg_notify('posthaste_endpoint', (case when tg_op = 'DELETE' then old.endpoint_id else new.endpoint_id end)::text);
  return null;
end $$;

create trigger z_changed after insert or update or delete on posthaste.endpoint_secrets
  for each row execute function posthaste.endpoint_secret_changed();
