-- The second call has the key of the first one. It returns the same id and adds no event.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f docs/examples/sql/idempotency.sql

select posthaste.emit('acme', 'order.shipped', '{"order_id": 7}', idempotency_key => 'order-7-shipped') as event_id;
select posthaste.emit('acme', 'order.shipped', '{"order_id": 7}', idempotency_key => 'order-7-shipped') as event_id;
