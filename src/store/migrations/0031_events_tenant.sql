-- The events of one tenant, in order: for lists and replays of a tenant that has few events among very many. By bytes, as the outbox
-- has it. Each day gets its index concurrently before this (`src/store/ahead.rs`).
create index events_tenant on posthaste.events (tenant collate "C", id);
