-- The wake flag ends by itself. It was 1 while a relay sleeps, and a relay that was killed asleep left it so: every producer
-- went on notifying, which makes their commits wait for each other. Now it is the time, in milliseconds, until which
-- producers notify; a sleeping relay moves it on every second, and 0 still says that it is awake.
alter sequence posthaste.wake maxvalue 9223372036854775807;

create or replace function posthaste.outbox_wake() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if (select last_value > date_part('epoch', clock_timestamp()) * 1000 from posthaste.wake) then
    perform pg_notify('posthaste_wake', '');
  end if;
  return null;
end $$;
