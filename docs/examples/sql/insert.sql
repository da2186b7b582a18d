-- A plain insert, for tools that know tables and not functions. The id is left out: the database makes it.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f docs/examples/sql/insert.sql

insert into posthaste.outbox (tenant, event_type, payload)
select 'acme', 'order.archived', json_build_object('order_id', id)
from generate_series(1, 3) as old_orders (id);
