//! Looking for a few events among very many: a bounded part of a day with each statement.

use posthaste::domain::ids;
use posthaste::store::replay::{self, Terms, Window};
use posthaste::store::slices::{Order, Slice, Slices};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{Receiver, Stack};
use crate::settle_agrees::store;

/// Five days with 25 000 events each of one tenant, and between them three each of another.
const HISTORY: &str = "
    do $$
    declare today date := (now() at time zone 'utc')::date;
    begin
      perform posthaste.create_partitions(today - 4, today - 2);
      insert into posthaste.events (id, tenant, event_type, payload, created_at)
      select posthaste.uuid_v7_floor((today - d)::timestamp at time zone 'UTC' + n * interval '1 ms'),
             case when n % 10000 = 0 or n = 25000 then 'small' else 'big' end, 'order.created', '{}',
             (today - d)::timestamp at time zone 'UTC'
        from generate_series(0, 4) d, generate_series(0, 25000) n where n > 0;
    end $$";

async fn slices(stack: &Stack, from: Uuid, order: Order) -> Vec<Slice> {
    let db = store(stack);
    let mut slices = Slices::new(&db, from, Uuid::max(), order).await.unwrap();
    let mut all = Vec::new();
    while let Some(slice) = slices.next(&db).await.unwrap() {
        all.push(slice);
    }
    all
}

#[tokio::test]
async fn slices_are_bounded_and_every_event_is_in_one() {
    let stack = Stack::new().await;
    stack.execute(HISTORY).await;
    let all: Vec<Uuid> =
        sqlx::query_scalar("select id from posthaste.events order by id").fetch_all(&stack.db).await.unwrap();
    for order in [Order::OldestFirst, Order::NewestFirst] {
        for from in [0, 1, 30_000, all.len() - 1] {
            let mut found = slices(&stack, all[from], order).await;
            if order == Order::NewestFirst {
                found.reverse();
            }
            assert!(found.windows(2).all(|pair| pair[0].to <= pair[1].from), "{order:?}: in order, without overlap");
            let events =
                found.iter().map(|slice| all.iter().filter(|id| slice.from <= **id && **id < slice.to).count());
            let events: Vec<usize> = events.collect();
            assert!(events.iter().all(|events| *events <= 20_000), "{order:?}: {events:?}");
            assert_eq!(events.iter().sum::<usize>(), all.len() - from, "{order:?} from {from}");
        }
    }
}

#[tokio::test]
async fn the_few_events_of_a_small_tenant_are_listed_the_newest_first() {
    let stack = Stack::new().await;
    stack.execute(HISTORY).await;
    let newest_first = "select id from posthaste.events where tenant = 'small' order by id desc";
    let ids: Vec<Uuid> = sqlx::query_scalar(newest_first).fetch_all(&stack.db).await.unwrap();
    assert_eq!(ids.len(), 15);
    for (limit, expected) in [("100", 15), ("4", 4)] {
        let listed = stack.cli(&["event", "list", "--tenant", "small", "--limit", limit, "--json"]).await.json();
        let listed: Vec<&str> = listed.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(listed, ids[..expected].iter().map(Uuid::to_string).collect::<Vec<_>>());
    }
    assert_eq!(stack.cli(&["event", "list", "--json"]).await.json().as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_replay_makes_what_a_small_tenant_has_missed_in_a_long_history() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.execute(HISTORY).await;
    stack.run().await;
    let endpoint = stack.endpoint("small", &receiver.url("/"), &[]).await.id.to_string();

    let replay =
        ["requeue", "--missing", "--endpoint", &endpoint, "--since", "240h", "--until", "0s", "--yes", "--json"];
    // Events of the rest of today are from the future.
    let past = "select count(*) from posthaste.events where tenant = 'small' and id < posthaste.uuid_v7_floor(now())";
    let past = stack.number(past).await;
    let done = stack.cli(&replay).await.json();

    assert_eq!((&done["matched"], &done["created"]), (&json!(past), &json!(past)));
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), past)].into());
    assert_eq!(stack.cli(&replay).await.json()["created"], json!(0));
}

/// A recorded event that no endpoint has got, and a dead delivery.
async fn missed_and_dead(stack: &Stack, endpoint: Uuid) {
    stack
        .execute(
            "insert into posthaste.events (id, tenant, event_type, payload, created_at)
         values (posthaste.uuid_v7(), 'acme', 'order.created', '{}', now())",
        )
        .await;
    stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
}

#[tokio::test]
async fn what_is_requeued_or_made_while_the_circuit_is_open_waits_in_postgresql() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let open = "update posthaste.endpoints set circuit_state = 'open', circuit_until = now() + interval '1 hour' where id = $1";
    stack.change(endpoint, open).await;
    missed_and_dead(&stack, endpoint).await;

    let id = endpoint.to_string();
    let done = stack.cli(&["requeue", "--missing", "--endpoint", &id, "--since", "1h", "--yes", "--json"]).await.json();

    assert_eq!((&done["requeued"], &done["created"]), (&json!(1), &json!(1)));
    assert_eq!(stack.statuses().await, [("held".to_owned(), 2)].into());
    assert_eq!(
        (stack.depth("retry").await, stack.number("select count(*) from posthaste.relay_batches").await),
        (0, 0)
    );
    stack
        .change(endpoint, "update posthaste.endpoints set circuit_state = 'closed', circuit_until = null where id = $1")
        .await;
    stack.run().await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 2)].into());
}

#[tokio::test]
async fn what_is_made_for_an_endpoint_that_is_behind_queues_up() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    missed_and_dead(&stack, endpoint).await;
    let now = chrono::Utc::now();
    let window = Window { since: now - chrono::TimeDelta::hours(1), until: now + chrono::TimeDelta::minutes(1) };
    // In the first hour of a day, the window begins in the day before.
    let mut slices = replay::slices(&db, endpoint, window).await.unwrap();
    let mut begins = Vec::new();
    let mut made = 0;
    while let Some(slice) = slices.next(&db).await.unwrap() {
        let terms = Terms { endpoint, ceiling: 3, behind: true };
        let of_slice = replay::create(&db, 17, terms, &slice, 100).await.unwrap();
        assert_eq!((of_slice.batch.id, of_slice.batch.messages.len()), (None, 0));
        made += of_slice.deliveries;
        begins.push(slice.from);
    }

    assert_eq!((made, begins[0]), (1, ids::floor(window.since.timestamp_millis())));
    assert_eq!(stack.statuses().await, [("dead".to_owned(), 1), ("held".to_owned(), 1)].into());
}
