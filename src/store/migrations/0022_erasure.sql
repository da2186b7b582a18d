-- Erasing what events say, and keeping that there were any.

alter table posthaste.events add column erased_at timestamptz;

comment on column posthaste.events.erased_at is 'when its payload was erased: it is null (the JSON) since, and nothing of it is sent';

-- The account of every erasure: what was meant and what was done, never what it said. A row without finished_at is a run that goes
-- on, or one that was killed; running the same again does the rest. These rows are kept.
create table posthaste.erasures (
  id bigint generated always as identity primary key,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  -- The user of PostgreSQL.
  erased_by text not null default session_user,
  target text not null check (target in ('event', 'tenant', 'endpoint')),
  value text not null,
  -- Events whose payload was erased, and those that no relay had moved yet.
  events bigint not null default 0,
  from_outbox bigint not null default 0,
  set_aside bigint not null default 0,
  -- Deliveries that were unfinished and ended, those that were dead already, and attempts that lost their headers and answers.
  ended bigint not null default 0,
  dead bigint not null default 0,
  attempts bigint not null default 0,
  dead_letters bigint not null default 0,
  error text
);
