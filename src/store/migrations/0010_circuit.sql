-- The circuit of an endpoint: how often it opened in a row, and since when it has not been closed.
alter table posthaste.endpoints add column circuit_trips int not null default 0;
alter table posthaste.endpoints add column circuit_opened_at timestamptz;

comment on column posthaste.endpoints.circuit_trips is 'openings since the endpoint was last healthy for a while; the cool-down doubles with each';
comment on column posthaste.endpoints.circuit_opened_at is 'since when the circuit has not been closed; null while it is closed';

-- All workers must hear of a circuit as fast as of a configuration.
drop trigger z_changed on posthaste.endpoints;
create trigger z_changed
  after insert or delete or update of id, tenant, url, description, event_types, event_like, status, disabled_reason,
    max_in_flight, rate_limit_per_second, timeout_ms, retry_policy, headers, circuit_state, circuit_trips
  on posthaste.endpoints for each row execute function posthaste.endpoint_changed();

-- What each worker has in flight and has seen of the endpoints that it is busy with. Figures for operators, nothing else:
-- they may be lost with a crash of the database.
create unlogged table posthaste.endpoint_activity (
  endpoint_id uuid not null,
  worker text not null,
  in_flight int not null,
  attempts int not null,
  failures int not null,
  last_error text,
  reported_at timestamptz not null default now(),
  primary key (endpoint_id, worker)
);

comment on table posthaste.endpoint_activity is 'reported by workers every two seconds; attempts and failures of about the last minute';
