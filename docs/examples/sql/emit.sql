-- An order and its event in one transaction: both are there after the commit, or neither is.
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f docs/examples/sql/emit.sql

begin;

create table if not exists orders (
  id bigint generated always as identity primary key,
  item text not null
);

-- In the order of dependence: first the fact, then the event that tells of it.
with placed as (
  insert into orders (item) values ('a box of tea') returning id
)
select posthaste.emit('acme', 'order.created', json_build_object('order_id', id)) as event_id
from placed;

commit;
