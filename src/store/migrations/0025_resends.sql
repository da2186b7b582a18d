-- Besides requeues there are resends and early retries. A resend that was interrupted goes on by its account.
alter table posthaste.requeues add column kind text not null default 'requeue';

comment on column posthaste.requeues.kind is 'requeue, resend or retry_now';
