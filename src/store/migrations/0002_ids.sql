-- Event ids are version 7 UUIDs: they begin with their time, so they sort by it and one bound on the id serves every
-- partitioned table.

-- 48 bits of milliseconds, the version, 12 bits of the fraction of a millisecond, the rest random. The fraction keeps
-- ids that one session makes in a row ascending. An SQL-standard body is inlined, and no search_path can change it.
create function posthaste.uuid_v7() returns uuid
language sql volatile parallel safe
return (
  '0' || overlay(to_hex((date_part('epoch', clock_timestamp()) * 1000000)::bigint * 512 / 125) placing '7' from 12 for 0)
  || right(gen_random_uuid()::text, 17)
)::uuid;

-- The lowest id of a millisecond: the bound of a partition, and of a search by time.
create function posthaste.uuid_v7_floor(t timestamptz) returns uuid
language sql immutable parallel safe
return (lpad(to_hex(floor(date_part('epoch', t) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- The millisecond that an id begins with. Meaningless for other versions.
create function posthaste.uuid_v7_ms(id uuid) returns bigint
language sql immutable parallel safe
return ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint;
