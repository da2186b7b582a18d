-- Retry budgets that an operator has set while the service runs: in an incident, a change of the configuration and a restart
-- of every process take too long. A policy without a row has the budget of the configuration.
create table posthaste.retry_budgets (
  policy text primary key check (length(policy) between 1 and 64),
  budget int not null check (budget between 0 and 1000),
  updated_at timestamptz not null default now()
);

comment on table posthaste.retry_budgets is 'retry budgets that win over the configuration; may be changed by plain SQL';
comment on column posthaste.retry_budgets.policy is 'name of the policy as in retry.policies; default is [retry] itself';
comment on column posthaste.retry_budgets.budget is 'retries of a delivery at most, the first attempt not counted; 0: no such limit';

create function posthaste.retry_budgets_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  -- Not the id of an endpoint: whoever hears it compares all endpoints that it knows.
  perform pg_notify('posthaste_endpoint', 'retry_budgets');
  return null;
end $$;

create trigger z_changed after insert or update or delete on posthaste.retry_budgets
  for each statement execute function posthaste.retry_budgets_changed();

revoke all on function posthaste.retry_budgets_changed() from public;
