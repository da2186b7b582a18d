-- What security teams require of outgoing requests: TLS of an endpoint's own, and https required of a tenant.

alter table posthaste.endpoints
  add column client_identity bytea,
  add column client_certificate_sha256 text,
  add column client_certificate_expires_at timestamptz,
  add column ca bytea,
  add column ca_sha256 text[];

comment on column posthaste.endpoints.client_identity is 'client certificate and key, encrypted by the service; not to be written by hand';
comment on column posthaste.endpoints.client_certificate_sha256 is 'fingerprint of the client certificate; no secret';
comment on column posthaste.endpoints.client_certificate_expires_at is 'when the client certificate ends';
comment on column posthaste.endpoints.ca is 'certificate authorities of its own, encrypted by the service; not to be written by hand';
comment on column posthaste.endpoints.ca_sha256 is 'fingerprints of these authorities; no secret';

-- A tenant without a row has the defaults.
create table posthaste.tenant_settings (
  tenant text collate "C" primary key check (length(tenant) between 1 and 128),
  require_https boolean not null default false,
  updated_at timestamptz not null default now()
);

comment on table posthaste.tenant_settings is 'rules for all endpoints of a tenant; may be changed by plain SQL';
comment on column posthaste.tenant_settings.require_https is 'refuse endpoints with http://, and disable those that there are when they are next sent to';

create function posthaste.tenant_settings_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  -- Not the id of an endpoint: whoever hears it compares all endpoints that it knows.
  perform pg_notify('posthaste_endpoint', 'tenant');
  return null;
end $$;

create trigger z_changed after insert or update or delete on posthaste.tenant_settings
  for each statement execute function posthaste.tenant_settings_changed();

-- Rows that are not touched stay as they are: an existing endpoint must stay changeable, above all to https.
create function posthaste.endpoint_https() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' and new.url = old.url and new.tenant = old.tenant then
    return new;
  end if;
  if exists (select from posthaste.tenant_settings where tenant = new.tenant and require_https) then
    perform posthaste.refuse('url',
      'begins with http://, and its tenant requires https (posthaste.tenant_settings); begin it with https://');
  end if;
  return new;
end $$;

create trigger b_https before insert or update of url, tenant on posthaste.endpoints
  for each row when (new.url like 'http://%') execute function posthaste.endpoint_https();

drop trigger a_check on posthaste.endpoints;
create trigger a_check
  before insert or update of tenant, url, description, event_types, event_like, status, disabled_reason, max_in_flight,
    rate_limit_per_second, timeout_ms, retry_policy, headers, client_identity, ca
  on posthaste.endpoints for each row execute function posthaste.endpoint_check();

drop trigger z_changed on posthaste.endpoints;
create trigger z_changed
  after insert or delete or update of id, tenant, url, description, event_types, event_like, status, disabled_reason,
    max_in_flight, rate_limit_per_second, timeout_ms, retry_policy, headers, client_identity, ca, circuit_state,
    circuit_trips, paused_until, resumed_at
  on posthaste.endpoints for each row execute function posthaste.endpoint_changed();
