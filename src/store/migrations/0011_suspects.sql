-- Attempts of suspects that were begun and not ended: their worker may have died of them. Only messages that the broker has
-- handed out several times get a row, so the table is nearly always empty.
create table posthaste.suspects (
  event_id uuid not null,
  endpoint_id uuid not null,
  -- The attempt that was begun; an earlier one has ended.
  attempt int not null,
  unfinished int not null default 1,
  updated_at timestamptz not null default now(),
  primary key (event_id, endpoint_id)
);
