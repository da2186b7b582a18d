-- What every later file relies on. Only old syntax in here, so that an old server gets the message and not a syntax error.

do $$
begin
  if current_setting('server_version_num')::int < 140000 then
    raise exception 'posthaste: server: PostgreSQL % is too old; use version 14 or later', current_setting('server_version');
  end if;
  -- A payload is signed and sent byte for byte. In another encoding the server would convert it on its way out.
  if current_setting('server_encoding') <> 'UTF8' then
    raise exception 'posthaste: server: the database % has the encoding %; create it with encoding UTF8',
      current_database(), current_setting('server_encoding');
  end if;
end $$;

create schema if not exists posthaste;

-- Every refusal reads the same way: the field, its value, what is wrong with it and what to do. Payloads, URLs and
-- secrets are never passed as the value. Long values are cut, and control characters cannot break a log line.
create function posthaste.refuse(field text, problem text, value text default null, error text default 'check_violation')
  returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using
    errcode = error,
    column = field,
    message = format('posthaste: %s: %s%s', field,
      case when value is not null then '''' || regexp_replace(left(value, 64), '[[:cntrl:]]', '?', 'g')
        || case when length(value) > 64 then '...' else '' end || ''' ' end,
      problem);
end $$;
