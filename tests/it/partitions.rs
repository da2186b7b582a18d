//! Days that nobody made ahead: a relay that slept over midnight, or for longer than the partitions reach.

use crate::harness::{Receiver, Stack, eventually};

const DAYS_MADE: &str = "select count(*) from pg_inherits where inhparent = 'posthaste.events'::regclass";

#[tokio::test]
async fn an_event_of_a_day_without_partitions_gets_them_and_is_delivered() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    // As after a week without a relay: every day is missing, yesterday's and today's too.
    stack
        .execute(
            "do $$ declare partition regclass; begin
               for partition in select inhrelid::regclass from pg_inherits
                 where inhparent in ('posthaste.events'::regclass, 'posthaste.deliveries'::regclass, 'posthaste.attempts'::regclass)
               loop execute format('drop table %s', partition); end loop;
             end $$",
        )
        .await;
    // The floor has no variant bits; the check wants a whole version 7 id.
    let old = "with id as (select overlay(overlay(posthaste.uuid_v7_floor(now() - interval '23 hours')::text
                 placing '7' from 15) placing '8' from 20)::uuid as id)
               insert into posthaste.outbox (id, tenant, event_type, payload)
               select id, 'acme', 'order.created', '{\"old\":1}' from id";
    stack.execute(old).await;
    let new = stack.emit("acme", "order.created", "{\"new\":1}").await;
    assert_eq!(stack.number(DAYS_MADE).await, 0);

    let _run = stack.run().await;

    receiver.wait_for(2).await;
    stack.wait_status(new, "delivered").await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 2)].into());
    // In the last hour of a day both events are of today, and the leader makes yesterday by itself.
    let made = async || (stack.number(DAYS_MADE).await >= 9).then_some(());
    eventually("yesterday to a week ahead", made).await;
}

#[tokio::test]
async fn a_row_that_can_never_be_moved_is_set_aside_and_blocks_nothing() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    // Somebody's own constraint: the database refuses to move this one row, whatever the relay does.
    stack.execute("alter table posthaste.events add constraint no_poison check (event_type <> 'never.moved')").await;
    let before = stack.emit_many("acme", "order.created", 20).await;
    stack.emit("acme", "never.moved", "{}").await;
    let behind = stack.emit_many("acme", "order.created", 20).await;
    let beside = stack.emit_many("another", "order.created", 20).await;

    let _run = stack.run().await;

    for event in before.into_iter().chain(behind) {
        stack.wait_status(event, "delivered").await;
    }
    let recorded = "select count(*) from posthaste.events where tenant = 'another'";
    assert_eq!(stack.number(recorded).await, beside.len() as i64);
    let aside =
        "select count(*) from posthaste.set_aside where event_type = 'never.moved' and error like '%no_poison%'";
    eventually("the row is set aside", async || (stack.number(aside).await == 1).then_some(())).await;
    assert_eq!(stack.number("select count(*) from posthaste.set_aside").await, 1, "no other row");
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 0);
}
