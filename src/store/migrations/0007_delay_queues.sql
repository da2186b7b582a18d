-- Which delay queues were ever declared. AMQP cannot list queues, so pruning the ones that no policy names any more needs
-- a memory of its own.
create table posthaste.delay_queues (
  name text collate "C" primary key,
  ttl_ms bigint not null,
  declared_at timestamptz not null default now(),
  retired_at timestamptz
);

comment on column posthaste.delay_queues.retired_at is 'when the queue was unbound; it is deleted once its last message must have expired';
