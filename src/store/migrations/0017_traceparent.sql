-- Ids of zeros are no ids by W3C's Trace Context; whoever gets them would begin a trace of their own. The condition costs a
-- row without a traceparent nothing.
create function posthaste.outbox_traceparent() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform posthaste.refuse('traceparent', 'has only zeros for a trace id or a parent id; use those of a span, or null', new.traceparent);
  return new;
end $$;

create trigger b_traceparent before insert on posthaste.outbox
  for each row when (new.traceparent ~ '^00-(0{32}-|[0-9a-f]{32}-0{16}-)') execute function posthaste.outbox_traceparent();
