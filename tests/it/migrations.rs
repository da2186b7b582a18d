//! Bringing the schema up to date: several at once, and beside a system at work.

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::harness::{Receiver, Stack, eventually};

/// As if a migration were still to come.
async fn to_come(stack: &Stack, version: i64, undo: &'static str) {
    let forget = "delete from posthaste.schema_migrations where version = $1";
    sqlx::query(forget).bind(version).execute(&stack.db).await.unwrap();
    sqlx::raw_sql(undo).execute(&stack.db).await.unwrap();
}

/// A migration waits for a lock, or for a transaction to end.
async fn is_waiting(stack: &Stack) {
    let waiting = "select count(*) from pg_stat_activity
                    where datname = current_database() and application_name = 'posthaste migrate' and wait_event_type = 'Lock'";
    eventually("the migration waits", async || (stack.number(waiting).await > 0).then_some(())).await;
}

/// A session that does not wait for long, as the relay and the workers have it.
async fn impatient(stack: &Stack) -> PgConnection {
    let mut session = PgConnection::connect(&stack.binary.database_url).await.unwrap();
    sqlx::raw_sql("set lock_timeout = '5s'").execute(&mut session).await.unwrap();
    session
}

#[tokio::test]
async fn any_number_of_migrations_may_run_at_the_same_time() {
    let stack = Stack::new().await;
    for _ in 0..2 {
        stack.execute("drop schema posthaste cascade").await;
        // The second time there is nothing left to do, and the limits are written all the same.
        for _ in 0..2 {
            let all = (0..12).map(|_| stack.cli(&["migrate"]));
            for done in futures_util::future::join_all(all).await {
                done.ok();
            }
        }
    }
    stack.emit("acme", "order.created", "{}").await;
}

#[tokio::test]
async fn an_index_of_a_large_table_is_made_while_deliveries_are_written() {
    let stack = Stack::new().await;
    to_come(&stack, 8, "drop index posthaste.deliveries_held").await;
    let endpoint = Uuid::now_v7();
    stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
    let mut writing = stack.db.begin().await.unwrap();
    sqlx::query("update posthaste.deliveries set updated_at = now()").execute(&mut *writing).await.unwrap();
    let migrate = stack.spawn_command(&["migrate"], &[]);
    is_waiting(&stack).await;

    let other =
        "insert into posthaste.deliveries (event_id, endpoint_id, max_attempts) values (posthaste.uuid_v7(), $1, 1)";
    sqlx::query(other).bind(endpoint).execute(&mut impatient(&stack).await).await.expect("it is written meanwhile");
    writing.commit().await.unwrap();

    assert_eq!(migrate.exit_code().await, Some(0));
    let missing = "select count(*) from pg_inherits d
                    where d.inhparent = 'posthaste.deliveries'::regclass and not exists (
                      select from pg_index i join pg_inherits a on a.inhrelid = i.indexrelid
                       where i.indrelid = d.inhrelid and i.indisvalid and a.inhparent = 'posthaste.deliveries_held'::regclass)";
    assert_eq!(stack.number(missing).await, 0, "every day has it");
    let twice = "select count(*) from pg_index i join pg_class c on c.oid = i.indexrelid
                  where c.relnamespace = 'posthaste'::regnamespace and c.relkind = 'i'
                    and pg_get_expr(i.indpred, i.indrelid) = '(status = ''held''::text)'";
    let days =
        stack.number("select count(*) from pg_inherits where inhparent = 'posthaste.deliveries'::regclass").await;
    assert_eq!(stack.number(twice).await, days, "and none has it twice");
}

#[tokio::test]
async fn an_index_that_was_begun_and_not_finished_is_made_again() {
    let stack = Stack::new().await;
    to_come(&stack, 8, "drop index posthaste.deliveries_held").await;
    let mut writing = stack.db.begin().await.unwrap();
    stack.dead(Uuid::now_v7(), ("acme", "order.created"), "exhausted", 5).await;
    sqlx::query("update posthaste.deliveries set updated_at = now()").execute(&mut *writing).await.unwrap();
    let migrate = stack.spawn_command(&["migrate"], &[]);
    let begun = "select count(*) from pg_index i join pg_class c on c.oid = i.indexrelid
                  where c.relname like 'deliveries_%_v8' and not i.indisvalid";
    eventually("it has begun", async || (stack.number(begun).await == 1).then_some(())).await;
    migrate.kill();
    writing.rollback().await.unwrap();
    let running = "select count(*) from pg_stat_activity
                    where datname = current_database() and application_name = 'posthaste migrate'";
    eventually("the server has noticed", async || (stack.number(running).await == 0).then_some(())).await;

    stack.cli(&["migrate"]).await.ok();

    let invalid = "select count(*) from pg_index i join pg_class c on c.oid = i.indexrelid
                    where c.relnamespace = 'posthaste'::regnamespace and not i.indisvalid";
    assert_eq!(stack.number(invalid).await, 0);
}

#[tokio::test]
async fn a_migration_that_cannot_have_its_lock_keeps_nobody_waiting() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    to_come(&stack, 13, "drop index posthaste.endpoints_circuit, posthaste.endpoints_timeout").await;
    let mut reading = stack.db.begin().await.unwrap();
    sqlx::query("select from posthaste.relay_batches").execute(&mut *reading).await.unwrap();
    let migrate = stack.spawn_command(&["migrate"], &[]);
    is_waiting(&stack).await;

    let claim = "insert into posthaste.relay_batches (relay, event_ids) values (1, '{}')";
    sqlx::query(claim).execute(&mut impatient(&stack).await).await.expect("a claim goes on");
    migrate.logged_message("somebody uses what is to be changed; trying again").await;
    assert!(migrate.is_running());
    reading.rollback().await.unwrap();

    assert_eq!(migrate.exit_code().await, Some(0));
    stack.execute("delete from posthaste.relay_batches").await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(event, "delivered").await;
}

#[tokio::test]
async fn a_status_of_a_newer_version_keeps_no_other_delivery_from_a_worker() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let newer = stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
    let known = stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
    stack.cli(&["requeue", "--all", "--yes"]).await.ok();
    stack.execute("alter table posthaste.deliveries drop constraint deliveries_status_check").await;
    let change = "update posthaste.deliveries set status = 'resting' where event_id = $1";
    sqlx::query(change).bind(newer).execute(&stack.db).await.unwrap();

    let worker = stack.worker().await;

    stack.wait_status(known, "delivered").await;
    stack.wait_depth("retry", 0).await;
    let message = "a delivery has a status that this version does not know; it is left to newer ones";
    worker.logged_message(message).await;
    assert_eq!(stack.delivery(newer).await.status, "resting");
    assert_eq!(receiver.count(), 1);
}
