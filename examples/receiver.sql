-- What the example receivers do their work with, beside the inbox (src/receiver/inbox/schema.sql). May be run again.

-- The work that webhooks ask for. A row is written in the transaction that notes the event as handled.
create table if not exists jobs (
  id bigint generated always as identity primary key,
  event_id text not null,
  payload jsonb not null
);

-- The state that events are about. Events may come out of order: only a higher version changes it.
create table if not exists orders (
  id text primary key,
  version bigint not null,
  state text not null
);

-- Every time that an event had an effect. There is no key on purpose: it shows what was done twice.
create table if not exists effects (
  event_id text not null
);
