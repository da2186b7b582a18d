-- The public half of a key of kind whsk, for operators and for those who verify, who have no encryption key to ask the private
-- half with.
alter table posthaste.endpoint_secrets add column public_key text;

comment on column posthaste.endpoint_secrets.public_key is 'of kind whsk: whpk_ and base64; no secret';
