//! Tenants are claimed in turn: a burst of one waits in the outbox, and the others go past it.

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste::domain::turns::{Ask, From, TENANTS, Turns};
use posthaste::store::claim::{self, Batch, Ceilings, Claim};
use posthaste::store::{Db, outbox, relay_batches};
use uuid::Uuid;

use crate::harness::{Receiver, Stack, eventually};
use crate::settle_agrees::store;

const RELAY: i64 = 17;
const CHEAP: Duration = Duration::ZERO;
/// What a scan takes when it walks over what was deleted under somebody's snapshot.
const DEAR: Duration = Duration::from_millis(100);

async fn endpoints(stack: &Stack, tenant: &str, count: i32) {
    let insert =
        "insert into posthaste.endpoints (tenant, url) select $1, 'https://1.1.1.1/' from generate_series(1, $2)";
    sqlx::query(insert).bind(tenant).bind(count).execute(&stack.db).await.unwrap();
}

async fn claim(db: &Db, ask: &Ask, behind: &[Uuid]) -> Batch {
    let ceilings = Ceilings { default: 5, names: Vec::new(), values: Vec::new() };
    let claim = Claim { relay: RELAY, ask, without: &[], ceilings: &ceilings, confirmed: &[], behind };
    claim::claim(db, claim).await.unwrap()
}

async fn step(db: &Db, turns: &mut Turns, took: Duration, now_ms: u64) -> (bool, Batch) {
    let ask = turns.ask(now_ms, &[]);
    let batch = claim(db, &ask, &[]).await;
    turns.claimed(&ask, &batch.found, took, now_ms);
    (matches!(ask.from, From::Everyone { .. }), batch)
}

#[tokio::test]
async fn single_events_of_others_go_past_a_burst_of_one_tenant() {
    const BURST: i32 = 4_000;
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("burst", &receiver.url("/burst"), &["--max-in-flight", "100"]).await;
    let others: Vec<String> = (0..10).map(|n| format!("other{n}")).collect();
    for other in &others {
        stack.endpoint(other, &receiver.url("/other"), &[]).await;
    }
    stack.emit_many("burst", "order.created", BURST).await;
    stack.run().await;
    receiver.wait_for(200).await;

    for other in &others {
        stack.emit(other, "order.created", "{}").await;
    }
    let before = receiver.count();
    let count = |all: &[crate::harness::Request]| all.iter().filter(|request| request.path == "/other").count();
    receiver.wait_until("the others have arrived", |all| count(all) == others.len()).await;

    let requests = receiver.requests();
    let last = requests.iter().rposition(|request| request.path == "/other").unwrap();
    println!("{} of the burst arrived between", last + 1 - before);
    assert!(last - before < 1_000, "{last} {before}");
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), i64::from(BURST) + 10)].into());
}

#[tokio::test]
async fn a_burst_waits_in_the_outbox_and_the_queue_stays_nearly_empty() {
    const BURST: i64 = 3_000;
    let stack = Stack::new().await;
    stack.endpoint("acme", "https://1.1.1.1/", &[]).await;
    stack.emit_many("acme", "order.created", BURST as i32).await;
    let relay = stack.relay().await;
    eventually("some are published", async || (stack.depth("deliver").await > 25).then_some(())).await;
    // Nothing says that the relay does nothing more.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let (ready, left) =
        (i64::from(stack.depth("deliver").await), stack.number("select count(*) from posthaste.outbox").await);

    assert!(ready <= 75, "{ready} are ready");
    assert!(left >= BURST - 75 - 250, "{left} are left");
    // At its end the relay publishes what it has claimed, and all of that is in the queue.
    relay.terminate();
    assert_eq!(relay.exit_code().await, Some(0));
    assert_eq!(stack.number("select count(*) from posthaste.relay_batches").await, 0);
    let markers = i64::from(stack.depth("deliver").await) - (BURST - left);
    assert!((0..=2).contains(&markers), "{markers} more are ready");
}

#[tokio::test]
async fn one_claim_is_bounded_in_deliveries_bytes_and_rows_but_always_takes_one_row() {
    let stack = Stack::new().await;
    let db = store(&stack);
    endpoints(&stack, "wide", 300).await;
    endpoints(&stack, "wider", 2_500).await;
    endpoints(&stack, "large", 1).await;
    stack.emit_many("wide", "order.created", 20).await;
    let mut turns = Turns::new(200);
    let (_, batch) = step(&db, &mut turns, CHEAP, 0).await;
    assert_eq!((batch.events, batch.messages.len()), (6, 1_800));
    for left in [8, 2] {
        assert_eq!(step(&db, &mut turns, CHEAP, 0).await.1.events, 6, "{left}");
    }
    assert_eq!(step(&db, &mut turns, CHEAP, 0).await.1.events, 2);

    stack.emit_many("wider", "order.created", 2).await;
    for _ in 0..2 {
        let (_, batch) = step(&db, &mut turns, CHEAP, 0).await;
        assert_eq!((batch.events, batch.messages.len()), (1, 2_500));
    }

    let emit =
        "select posthaste.emit('large', 'order.created', to_json(repeat('x', 1000000))) from generate_series(1, 40)";
    sqlx::query(emit).execute(&stack.db).await.unwrap();
    assert_eq!(step(&db, &mut turns, CHEAP, 0).await.1.events, 33, "32 MiB");
    assert_eq!(step(&db, &mut turns, CHEAP, 0).await.1.events, 7);
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 0);
}

#[tokio::test]
async fn new_deliveries_of_an_endpoint_that_is_behind_are_held_and_due() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let behind = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let other = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    stack.emit("acme", "order.created", "{}").await;

    let batch = claim(&db, &Turns::new(200).ask(0, &[]), &[behind]).await;

    assert_eq!(batch.messages.iter().map(|message| message.endpoint_id).collect::<Vec<_>>(), [other]);
    let held = "select count(*) from posthaste.deliveries where status = 'held' and next_attempt_at <= now()";
    assert_eq!(stack.number(held).await, 1);
}

/// Where a look shows a few rows, they are moved as any others are.
#[tokio::test]
async fn a_few_rows_are_taken_as_they_are() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let url = "https://1.1.1.1/";
    let pending = stack.endpoint("acme", url, &[]).await.id;
    let behind = stack.endpoint("acme", url, &[]).await.id;
    let disabled = stack.endpoint("acme", url, &[]).await.id;
    stack.cli(&["endpoint", "disable", &disabled.to_string()]).await;
    let orders = stack.endpoint("zoo", url, &["--event-types", "order.*"]).await.id;
    stack.emit("acme", "order.created", r#"{"n": 1}"#).await;
    stack.emit("zoo", "invoice.paid", "{}").await;
    stack.emit("zoo", "order.created", "{}").await;
    let mut turns = Turns::new(200);
    let ask = turns.ask(0, &[]);
    assert!(turns.looks_before(&ask, &[]));

    let seen = outbox::look(&db).await.unwrap();
    let ask = turns.looked(ask, &seen, CHEAP, 0);
    assert!(matches!(&ask.from, From::Few(ids) if ids.len() == 3), "{ask:?}");
    let batch = claim(&db, &ask, &[behind]).await;
    turns.claimed(&ask, &batch.found, CHEAP, 0);

    assert_eq!(
        seen.iter().map(|row| (&*row.tenant, row.endpoints)).collect::<Vec<_>>(),
        [("acme", 3), ("zoo", 1), ("zoo", 1)]
    );
    assert_eq!((batch.events, batch.unmatched, batch.set_aside, batch.found.deliveries), (3, 1, 0, 4));
    let taken: Vec<_> = batch.found.taken.iter().map(|taken| (&*taken.tenant, taken.rows)).collect();
    assert_eq!(taken, [("acme", 1), ("zoo", 2)]);
    let messages: Vec<_> =
        batch.messages.iter().map(|message| (message.endpoint_id, &**message.body.here().unwrap())).collect();
    assert_eq!(messages, [(pending, &br#"{"n": 1}"#[..]), (orders, b"{}")]);
    assert!(batch.messages.iter().all(|message| message.attempt == 1 && message.max_attempts == 5));
    let held = sqlx::query_scalar("select endpoint_id from posthaste.deliveries where status = 'held'");
    let held: Vec<Uuid> = held.fetch_all(&stack.db).await.unwrap();
    assert_eq!(BTreeSet::from_iter(held), [behind, disabled].into());
    assert_eq!(stack.number("select sum(matched)::int8 from posthaste.events").await, 4);
    assert_eq!(stack.number("select cardinality(event_ids)::int8 from posthaste.relay_batches").await, 2);
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 0);
}

/// While a tenant has had its share, the others are looked for past all that it has.
#[tokio::test]
async fn a_look_goes_past_those_who_have_had_their_share() {
    let stack = Stack::new().await;
    let db = store(&stack);
    let seen = async |crowded: &[&str]| {
        let crowded: Vec<String> = crowded.iter().map(|tenant| (*tenant).to_owned()).collect();
        let seen = outbox::look_beside(&db, &crowded).await.unwrap();
        seen.into_iter().map(|row| row.tenant).collect::<Vec<_>>()
    };
    assert_eq!(seen(&["burst"]).await, [""; 0]);
    stack.emit_many("burst", "order.created", 500).await;
    assert_eq!(seen(&["burst"]).await, [""; 0]);
    stack.emit("zoo", "order.created", "{}").await;
    stack.emit("acme", "order.created", "{}").await;
    assert_eq!(seen(&["burst"]).await, ["acme", "zoo"]);
    assert_eq!(seen(&["burst", "zoo"]).await, ["acme"]);
    stack.emit_many("mall", "order.created", 100).await;
    assert_eq!(seen(&["burst"]).await, [&["acme"][..], &["mall"; 8]].concat());

    let mut turns = Turns::new(200);
    let ask = turns.ask(0, &[]);
    turns.claimed(&ask, &claim(&db, &ask, &[]).await.found, CHEAP, 0);
    let ask = turns.ask(0, &[]);
    assert!(!turns.looks_before(&ask, &[]), "many came");
    assert!(turns.looks_before(&ask, &["burst".to_owned()]));
}

/// Another relay may have seen the same rows; an id may have been used before.
#[tokio::test]
async fn of_a_few_rows_seen_those_that_cannot_be_taken_are_left() {
    let stack = Stack::new().await;
    let db = store(&stack);
    endpoints(&stack, "acme", 1).await;
    let used = stack.emit("acme", "order.created", "{}").await;
    let few = |id| Ask { from: From::Few(vec![id]), ..Turns::new(200).ask(0, &[]) };
    assert_eq!(claim(&db, &few(used), &[]).await.events, 1);
    let id = stack.emit("acme", "order.created", "{}").await;
    let mut other = stack.db.begin().await.unwrap();
    sqlx::query("select from posthaste.outbox for update").execute(&mut *other).await.unwrap();

    assert_eq!(claim(&db, &few(id), &[]).await.events, 0);
    other.rollback().await.unwrap();
    assert_eq!(claim(&db, &few(id), &[]).await.events, 1);

    let again = "insert into posthaste.outbox (id, tenant, event_type, payload) values ($1, 'acme', 'a.b', '{}')";
    sqlx::query(again).bind(used).execute(&stack.db).await.unwrap();
    let ceilings = Ceilings { default: 5, names: Vec::new(), values: Vec::new() };
    let ask = few(used);
    let refused = Claim { relay: RELAY, ask: &ask, without: &[], ceilings: &ceilings, confirmed: &[], behind: &[] };
    assert!(claim::claim(&db, refused).await.unwrap_err().blames_data());
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 1);
    // What chooses sets it aside.
    let mut turns = Turns::new(200);
    turns.failed();
    let ask = turns.ask(0, &[]);
    assert!(!turns.looks_before(&ask, &[]));
    assert_eq!(claim(&db, &ask, &[]).await.set_aside, 1);
}

#[tokio::test]
async fn every_tenant_has_its_turn() {
    let stack = Stack::new().await;
    let db = store(&stack);
    for tenant in 0..30 {
        let tenant = format!("t{tenant:02}");
        endpoints(&stack, &tenant, 1).await;
        stack.emit_many(&tenant, "order.created", if tenant == "t05" { 500 } else { 4 }).await;
    }
    let mut turns = Turns::new(200);
    let mut seen = BTreeSet::new();
    for _ in 0..30_usize.div_ceil(TENANTS as usize) {
        let (_, batch) = step(&db, &mut turns, CHEAP, 0).await;
        seen.extend(batch.found.taken.into_iter().map(|taken| taken.tenant));
    }
    assert_eq!(seen.len(), 30);
}

/// Scans are said to be dear, so they are rare: a bulk transaction that commits late drains all the same, beside live
/// traffic, and an event from the future hides nothing.
#[tokio::test]
async fn what_commits_late_drains_with_every_claim_while_scans_are_dear() {
    const BULK: usize = 2_000;
    let stack = Stack::new().await;
    let db = store(&stack);
    for tenant in ["bulk", "live"] {
        endpoints(&stack, tenant, 1).await;
    }
    let mut bulk = stack.db.begin().await.unwrap();
    let emit = "select posthaste.emit('bulk', 'order.created', '{}') from generate_series(1, $1)";
    sqlx::query(emit).bind(BULK as i32).execute(&mut *bulk).await.unwrap();
    // Their ids are below every bound by now.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let ahead = "insert into posthaste.outbox (id, tenant, event_type, payload)
        select overlay(posthaste.uuid_v7_floor(now() + interval '50 minutes')::text placing '7000-8000' from 15 for 9)::uuid, t, 'a.b', '{}'
          from unnest(array['bulk']) t";
    sqlx::query(ahead).execute(&stack.db).await.unwrap();
    stack.emit("live", "order.created", "{}").await;
    let mut turns = Turns::new(200);
    assert_eq!(step(&db, &mut turns, DEAR, 0).await.1.events, 2);
    bulk.commit().await.unwrap();

    let (mut now_ms, mut claims, mut scans, mut moved) = (0, 0, 0, 0);
    while moved < BULK {
        now_ms += 10;
        stack.emit("live", "order.created", "{}").await;
        let (scanned, batch) = step(&db, &mut turns, DEAR, now_ms).await;
        let live = batch.found.taken.iter().filter(|taken| taken.tenant == "live").map(|taken| taken.rows).sum::<u32>();
        assert!(live >= 1, "live traffic goes on");
        moved += batch.events - live as usize;
        scans += usize::from(scanned);
        claims += usize::from(batch.events > live as usize);
        assert!(now_ms < 60_000, "{moved} moved");
    }
    println!("{BULK} late events in {claims} claims, {scans} of them scans");
    assert!(claims <= BULK / 30 && scans <= 2, "{claims} {scans}");
}

/// The statement reads the index from tenant to tenant and the rows that it takes; nothing grows with what waits.
#[tokio::test]
async fn a_claim_reads_what_it_takes_and_nothing_else() {
    let stack = Stack::new().await;
    let db = store(&stack);
    for tenants in [1, 100, 10_000] {
        sqlx::query("truncate posthaste.outbox").execute(&stack.db).await.unwrap();
        let fill = "insert into posthaste.outbox (tenant, event_type, payload)
            select 't' || (n % $1), 'a.b', '{}' from generate_series(1, 20000) n";
        sqlx::query(fill).bind(tenants).execute(&stack.db).await.unwrap();
        sqlx::query("analyze posthaste.outbox").execute(&stack.db).await.unwrap();
        let known = (0..100.min(tenants)).map(|n| (format!("t{n}"), Uuid::nil())).collect();
        for from in [From::Everyone { after: "t5".into() }, From::Known(known)] {
            let ask = Ask { from, tenants: 12, alone: 200, each: 50, together: 50 };
            let plan = explained(&db, &ask).await;
            assert!(!plan.contains("Seq Scan on outbox"), "{plan}");
            assert!(!plan.contains("using outbox_pkey") || matches!(ask.from, From::Known(_)), "{plan}");
            let read = rows_read(&plan);
            assert!(read <= 1_500, "{tenants} tenants: {read} rows\n{plan}");
        }
        let seen = outbox::look(&db).await.unwrap();
        let from = From::Few(seen.iter().map(|row| row.id).take(8).collect());
        let plan = explained(&db, &Ask { from, tenants: 12, alone: 200, each: 50, together: 50 }).await;
        assert!(!plan.contains("Seq Scan on outbox"), "{plan}");
        assert!(rows_read(&plan) <= 50, "{plan}");
    }
}

async fn explained(db: &Db, ask: &Ask) -> String {
    let ceilings = Ceilings { default: 5, names: Vec::new(), values: Vec::new() };
    let claim = Claim { relay: RELAY, ask, without: &[], ceilings: &ceilings, confirmed: &[], behind: &[] };
    claim::explain(db, claim).await.unwrap().join("\n")
}

/// Rows that all scans of the outbox returned.
fn rows_read(plan: &str) -> u64 {
    let number = |text: &str, name: &str| -> u64 {
        let after = text.split(name).nth(1).unwrap_or("0");
        after.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let scans = plan.lines().filter(|line| line.contains(" on outbox ") && line.contains("Scan"));
    scans
        .filter_map(|line| line.split("actual ").nth(1))
        .map(|actual| number(actual, "rows=") * number(actual, "loops="))
        .sum()
}

/// A relay that is gone has listed these: a batch that it claimed, or deliveries one by one.
async fn list(stack: &Stack, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).bind(RELAY).fetch_one(&stack.db).await.unwrap()
}

#[tokio::test]
async fn what_is_adopted_is_what_was_listed_and_comes_in_pages() {
    const WIDE: i32 = 1_200;
    let stack = Stack::new().await;
    let db = store(&stack);
    endpoints(&stack, "acme", WIDE).await;
    stack.emit("acme", "order.created", "{}").await;
    let claimed = claim(&db, &Turns::new(200).ask(0, &[]), &[]).await;
    // One of them has been tried, and was released later.
    stack.execute(
        "update posthaste.deliveries set attempts = 1 where endpoint_id = (select max(endpoint_id::text)::uuid from posthaste.deliveries)",
    )
    .await;
    let released = list(
        &stack,
        "insert into posthaste.relay_batches (relay, event_ids, endpoint_ids)
         select $1, array_agg(event_id), array_agg(endpoint_id) from posthaste.deliveries where attempts = 1 returning id",
    )
    .await;

    let one = relay_batches::unfinished(&db, released, None).await.unwrap();
    assert_eq!(one.iter().map(|message| message.attempt).collect::<Vec<_>>(), [2], "the one listed, and no other");
    assert_eq!(relay_batches::unfinished(&db, released, Some(one[0].key())).await.unwrap(), []);

    let (mut pages, mut keys) = (Vec::new(), Vec::new());
    loop {
        let after = keys.last().copied();
        let page = relay_batches::unfinished(&db, claimed.id.unwrap(), after).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.iter().all(|message| message.attempt == 1));
        pages.push(page.len());
        keys.extend(page.iter().map(posthaste::domain::message::Message::key));
    }
    assert_eq!(pages, [500, 500, 199], "first attempts only");
    assert!(keys.is_sorted_by(|a, b| a < b));
}
