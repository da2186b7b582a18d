-- Held deliveries in the order in which they may be released, so that a release reads what is due and nothing else. Only
-- held rows are in it.
create index deliveries_held on posthaste.deliveries (endpoint_id, next_attempt_at) where status = 'held';
