-- The inbox of one receiver of webhooks: which events were handled, and how they were answered.
-- One table for each sender: ids of different senders may be the same. May be run again.

create table if not exists processed_webhooks (
  event_id text primary key,
  event_type text,
  received_at timestamptz not null,
  -- 'processing' is seen by nobody else: it lives in the transaction that does the work.
  status text not null check (status in ('processing', 'done', 'failed')),
  response_code int,
  response_body text,
  idempotency_expires_at timestamptz not null,
  -- Of failed ones, where the inbox keeps them; personal data, perhaps.
  raw_body bytea,
  signature_headers jsonb
);

create index if not exists processed_webhooks_expiry on processed_webhooks (idempotency_expires_at);
create index if not exists processed_webhooks_failed on processed_webhooks (received_at) where status = 'failed';
