-- Batches of exact deliveries (releases) name the endpoint of each event; null: the first attempts of a claimed batch.
alter table posthaste.relay_batches add column if not exists endpoint_ids uuid[];

-- Few circuits are not closed, and few endpoints have a time-out of their own. What is asked about them again and again must
-- not read every endpoint.
create index endpoints_circuit on posthaste.endpoints (circuit_until) where circuit_state <> 'closed';
create index endpoints_timeout on posthaste.endpoints (timeout_ms) where timeout_ms is not null;
