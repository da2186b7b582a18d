//! One event that cannot be moved or published is put aside, and none beside it.

use posthaste::domain::turns::Turns;
use posthaste::store::claim::{self, Ceilings, Claim};

use crate::harness::{MAX_MESSAGE_BYTES, OwnServers, Receiver, Stack};
use crate::settle_agrees::store;

#[tokio::test]
async fn a_claim_of_one_row_that_another_relay_has_takes_no_other_in_its_place() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let first = stack.emit("acme", "order.created", "{}").await;
    stack.emit("acme", "order.created", "{}").await;
    let ceilings = Ceilings { default: 5, names: Vec::new(), values: Vec::new() };
    let ask = Turns::ask_for("acme".into(), first);
    let one = async || {
        let claim = Claim { relay: 17, ask: &ask, without: &[], ceilings: &ceilings, confirmed: &[], behind: &[] };
        claim::claim(&db, claim).await.unwrap().events
    };
    let mut other = stack.db.begin().await.unwrap();
    sqlx::query("select from posthaste.outbox where id = $1 for update")
        .bind(first)
        .execute(&mut *other)
        .await
        .unwrap();

    assert_eq!(one().await, 0);

    other.rollback().await.unwrap();
    assert_eq!(one().await, 1);
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 1);
}

#[tokio::test]
async fn many_messages_that_the_broker_refuses_take_no_other_along() {
    const LARGE: i64 = 12;
    const BESIDE: i64 = 600;
    let test = "many_messages_that_the_broker_refuses_take_no_other_along";
    let Some(own) = OwnServers::lock(test).await else { return };
    let own = own.as_ref().unwrap();
    let (stack, receiver) = (Stack::on(&own.servers, &[]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    stack.endpoint("zoo", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    let large = format!("\"{}\"", "x".repeat(MAX_MESSAGE_BYTES + 1));
    let emit = "select posthaste.emit(case n % 2 when 0 then 'acme' else 'zoo' end, 'order.created',
            case when n % 51 = 0 then $1 else '{}' end::json) from generate_series(1, $2) n";
    sqlx::query(emit).bind(&large).bind(LARGE + BESIDE).execute(&stack.db).await.unwrap();
    stack.run().await;

    let statuses = stack.wait_settled().await;

    assert_eq!(statuses, [("dead".to_owned(), LARGE), ("delivered".to_owned(), BESIDE)].into());
    let small = "select count(*) from posthaste.deliveries d join posthaste.events e on e.id = d.event_id
                  where d.status = 'dead' and octet_length(e.payload::text) < 10";
    assert_eq!(stack.number(small).await, 0);
}
