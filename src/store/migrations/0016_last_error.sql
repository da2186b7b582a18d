-- An error without its time says nothing: it may be from this minute or from yesterday.
alter table posthaste.endpoint_activity add column last_error_at timestamptz;
