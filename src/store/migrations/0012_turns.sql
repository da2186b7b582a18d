-- The outbox is claimed by tenant in turn, so it needs an index that leads from tenant to tenant. Byte by byte, as for
-- idempotency keys.
create index outbox_tenant on posthaste.outbox (tenant collate "C", id);

-- A claimed batch lists events: its deliveries are those that are still pending and were never attempted. A release, a
-- requeue or a rebuild lists its deliveries one by one, pairwise with event_ids.
alter table posthaste.relay_batches add column if not exists endpoint_ids uuid[];

comment on column posthaste.relay_batches.endpoint_ids is
  'pairwise with event_ids: the deliveries listed; null for all first attempts of the events';
