//! The leader is killed in the middle of each phase of retention, while events come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Process, Receiver, Stack, eventually, within};
use crate::retention::{assert_no_trouble, disabled, old_day, only};

const LEADING: &str = "leading";
/// Of finished deliveries in each day that is dropped, and of unfinished ones in the day that is ended first.
const FINISHED: i32 = 5_000;
const UNFINISHED: i32 = 2_000;

/// Dropping a table takes its time, as it does where files are large.
const FUNCTION: &str = "create function public.takes_long() returns event_trigger language plpgsql as $$
    begin perform pg_sleep(0.7); end $$";
const TRIGGER: &str = "create event trigger takes_long on sql_drop execute function public.takes_long()";

/// The phases, each as the question whether somebody is in the middle of it: some of what is unfinished is ended; a day is detached
/// and whole; one of its tables is gone.
const PHASES: [&str; 3] = [
    "select count(*) from posthaste.history_days where expired between 1 and 1999",
    "select count(*) from posthaste.history_days h where h.detached_at is not null and 3 = (
       select count(*) from pg_class where relkind = 'r' and relname like '%' || to_char(h.day, '_YYYYMMDD'))",
    "select count(*) from posthaste.history_days h where h.detached_at is not null and (
       select count(*) from pg_class where relkind = 'r' and relname like '%' || to_char(h.day, '_YYYYMMDD')) in (1, 2)",
];

/// Of a statement of relays that claim, or of workers, for how long it has waited for a lock by now: in milliseconds.
const WAITING: &str = "select coalesce(max(1000 * extract(epoch from clock_timestamp() - query_start)), 0)::int8
    from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
     and application_name in ('posthaste relay claim', 'posthaste worker')";

/// What was seen while the leaders were killed.
struct Traffic {
    committed: i64,
    longest_wait_ms: i64,
}

async fn traffic(stack: &Stack, over: &AtomicBool) -> Traffic {
    let mut traffic = Traffic { committed: 0, longest_wait_ms: 0 };
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while !over.load(Ordering::Relaxed) {
        tick.tick().await;
        stack.emit("acme", "order.created", "{}").await;
        traffic.committed += 1;
        traffic.longest_wait_ms = traffic.longest_wait_ms.max(stack.number(WAITING).await);
    }
    traffic
}

/// Kills one leader after the other, each in another phase, with another relay beside it. Returns the leader that is left.
async fn killed_in_every_phase(stack: &Stack) -> Process {
    let mut leader = stack.spawn("relay", &[]);
    leader.logged_message(LEADING).await;
    let mut other = stack.spawn("relay", &[]);
    for phase in PHASES {
        within(Duration::from_secs(120), phase, async || (stack.number(phase).await > 0).then_some(())).await;
        leader.kill();
        other.logged_message(LEADING).await;
        leader = std::mem::replace(&mut other, stack.spawn("relay", &[]));
    }
    leader
}

#[tokio::test]
async fn what_a_killed_leader_was_in_the_middle_of_the_next_one_finishes_and_nobody_waits_for_it() {
    let settings = [("retention.grace", "0s"), ("delivery.held_ttl", "0s")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    let other = disabled(&stack).await;
    stack.execute("update posthaste.endpoints set tenant = 'old' where status = 'disabled'").await;
    old_day(&stack, 40, other, "held", UNFINISHED).await;
    for ago in [39, 38, 37] {
        old_day(&stack, ago, other, "delivered", FINISHED).await;
    }
    old_day(&stack, 10, other, "held", 7).await;
    stack.execute(FUNCTION).await;
    stack.execute(TRIGGER).await;
    let worker = stack.worker().await;

    let over = AtomicBool::new(false);
    let killing = async {
        let last = killed_in_every_phase(&stack).await;
        within(Duration::from_secs(120), "the old days are gone", async || {
            let left = "select count(*) from posthaste.history_days where dropped_at is null";
            let gone = "select count(*) from posthaste.history_days where dropped_at is not null";
            (stack.number(gone).await == 4 && stack.number(left).await == 0).then_some(())
        })
        .await;
        over.store(true, Ordering::Relaxed);
        last
    };
    let (last, seen) = tokio::join!(killing, traffic(&stack, &over));

    only(&stack, &[10]).await;
    // Each was ended once, and the account says so, whoever did it.
    let expired = "select sum(expired)::int8 from posthaste.history_days";
    assert_eq!(stack.number(expired).await, i64::from(UNFINISHED));
    eventually("all are delivered", async || {
        let statuses = stack.statuses().await;
        (statuses.get("delivered") == Some(&seen.committed) && statuses.get("held") == Some(&7)).then_some(())
    })
    .await;
    assert_eq!(receiver.counts().len() as i64, seen.committed);
    let slowest = "select (1000 * extract(epoch from max(d.updated_at - e.created_at)))::int8
        from posthaste.deliveries d join posthaste.events e on e.id = d.event_id where d.status = 'delivered'";
    let slowest_ms = stack.number(slowest).await;
    println!(
        "{} events beside it, the slowest took {slowest_ms} ms; a statement waited for a lock {} ms at most",
        seen.committed, seen.longest_wait_ms
    );
    assert!(seen.longest_wait_ms < 1_000, "{} ms", seen.longest_wait_ms);
    // Those that a killed relay had claimed wait until the next one adopts them.
    assert!(slowest_ms < 30_000, "{slowest_ms} ms");
    assert_no_trouble(&worker);
    assert_no_trouble(&last);
}
