-- The account of every requeue and replay: what was asked for and what was done. A row without finished_at is a run that
-- goes on, or one that was killed; running the same again does the rest.
create table posthaste.requeues (
  id bigint generated always as identity primary key,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  -- The selection as it was given on the command line.
  selection jsonb not null,
  matched bigint not null,
  -- Dead deliveries that got a fresh set of attempts.
  requeued bigint not null default 0,
  -- Deliveries made for events that the endpoint had missed.
  created bigint not null default 0,
  error text
);
