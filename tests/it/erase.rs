//! Erasing: what an event said is nowhere afterwards, and what was not meant is as it was.

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::harness::{PATIENCE, Receiver, Reply, Stack, eventually, within};

const CANARY: &str = "canary-4929-of-the-erased";
const REPLY: &str = "canary-answer-of-the-receiver";

async fn emit(stack: &Stack, tenant: &str) -> Uuid {
    stack.emit(tenant, "order.created", &format!("{{\"card\": \"{CANARY}\"}}")).await
}

/// The tables of the schema in which the text is found, in any row.
async fn tables_with(stack: &Stack, text: &str) -> Vec<String> {
    let tables = "select relname::text from pg_class where relnamespace = 'posthaste'::regnamespace and relkind = 'r'
        order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&stack.db).await.unwrap();
    let mut found = Vec::new();
    for table in tables {
        let ask = format!("select exists (select from posthaste.{table} t where t::text like '%' || $1 || '%')");
        let has = sqlx::query_scalar::<_, bool>(AssertSqlSafe(ask)).bind(text).fetch_one(&stack.db).await.unwrap();
        if has {
            found.push(table);
        }
    }
    found
}

async fn assert_nowhere(stack: &Stack) {
    for text in [CANARY, REPLY] {
        assert_eq!(tables_with(stack, text).await, [""; 0], "{text}");
    }
    for dead_letter in stack.dead_letters(stack.depth("dead").await).await {
        let body = String::from_utf8_lossy(&dead_letter.body).into_owned();
        assert!(!body.contains(CANARY), "{body}");
    }
}

/// What a tenant and another one have, in all places where a payload can be.
struct Everywhere {
    receiver: Receiver,
    /// Of the endpoint that fails.
    failing: String,
    /// Of the tenant: waiting for a retry, dead, held.
    events: [Uuid; 3],
    /// Of the other one.
    kept: Uuid,
}

async fn everywhere(stack: &Stack) -> Everywhere {
    let receiver = Receiver::start();
    receiver.at("/ok", |_| Reply::status(200).header("x-answer", REPLY).body(REPLY));
    receiver.at("/failing", |_| Reply::status(500).header("x-answer", REPLY).body(REPLY));
    receiver.at("/other", |_| Reply::ok());
    stack.endpoint("acme", &receiver.url("/ok"), &[]).await;
    stack.endpoint("other", &receiver.url("/other"), &[]).await;
    let failing = stack.endpoint("acme", &receiver.url("/failing"), &[]).await.id.to_string();
    let waiting = emit(stack, "acme").await;
    let emit_once = "select posthaste.emit('acme', 'order.created', $1::text::json, null, 1)";
    let payload = format!("{{\"card\": \"{CANARY}\"}}");
    let dead = sqlx::query_scalar(emit_once).bind(payload).fetch_one(&stack.db).await.unwrap();
    let kept = stack.emit("other", "order.created", "{\"kept\": true}").await;
    stack.wait_status(kept, "delivered").await;
    eventually("one waits, and one is dead", async || {
        (stack.depth("delay.20000").await == 1 && stack.depth("dead").await == 1).then_some(())
    })
    .await;
    stack.cli(&["endpoint", "disable", &failing]).await.ok();
    let held = emit(stack, "acme").await;
    stack.wait_statuses("held", 1).await;
    stack
        .execute(
            "insert into posthaste.set_aside (id, tenant, event_type, payload, created_at, error)
             select id, tenant, event_type, payload, created_at, 'for a test' from posthaste.events where tenant = 'acme' limit 1",
        )
        .await;
    Everywhere { receiver, failing, events: [waiting, dead, held], kept }
}

const ERASE: [&str; 5] = ["erase", "--tenant", "acme", "--yes", "--json"];

#[tokio::test]
async fn an_erased_tenant_is_nowhere_and_its_copies_in_delay_queues_are_dropped_unsent() {
    let settings = [("retry.schedule", r#"["20s", "1h"]"#), ("retry.slots", "1")];
    let stack = Stack::with(&settings).await;
    let service = stack.run().await;
    let Everywhere { receiver, failing, kept, .. } = everywhere(&stack).await;
    let deliveries = stack.number("select count(*) from posthaste.deliveries").await;
    let dry = stack.cli(&["erase", "--tenant", "acme", "--dry-run", "--json"]).await.json();
    assert_eq!((&dry["erased"]["events"], &dry["erased"]["set_aside"]), (&json!(3), &json!(1)), "{dry}");
    assert!(!tables_with(&stack, CANARY).await.is_empty(), "nothing is changed yet");

    let erased = stack.cli(&ERASE).await.json();

    assert_nowhere(&stack).await;
    assert_eq!((&erased["erased"]["events"], &erased["erased"]["dead_letters"]), (&json!(3), &json!(1)), "{erased}");
    assert_eq!(erased["longest_delay_seconds"], json!(3600.0));
    let sent = receiver.requests_to("/failing").len();
    assert_eq!(stack.depth("delay.20000").await, 1, "its copy still waits");
    stack.cli(&["endpoint", "enable", &failing]).await.ok();
    within(2 * PATIENCE, "the copy came due", async || (stack.depth("delay.20000").await == 0).then_some(())).await;
    eventually("and was dropped", async || {
        let dropped = service.metric("posthaste_duplicates_discarded_total").await;
        (dropped >= 1.0 && stack.depth("retry").await == 0).then_some(())
    })
    .await;
    assert_eq!(receiver.requests_to("/failing").len(), sent, "it was not sent");
    assert_nowhere(&stack).await;
    assert_eq!(stack.number("select count(*) from posthaste.deliveries").await, deliveries);
    assert_eq!(stack.delivery(kept).await.status, "delivered");
    assert_eq!(tables_with(&stack, "kept").await.len(), 1);
}

#[tokio::test]
async fn what_is_erased_cannot_be_sent_again_and_the_account_says_what_it_was() {
    let settings = [("retry.schedule", r#"["20s", "1h"]"#), ("retry.slots", "1")];
    let stack = Stack::with(&settings).await;
    stack.run().await;
    let Everywhere { failing, events, .. } = everywhere(&stack).await;
    stack.cli(&ERASE).await.ok();

    for event in events {
        let done = stack.cli(&["requeue", "--event", &event.to_string(), "--yes", "--json"]).await.json();
        assert_eq!((&done["matched"], &done["requeued"]), (&json!(0), &json!(0)));
        for command in ["resend", "retry-now"] {
            let done = stack.cli(&[command, "--event", &event.to_string(), "--yes", "--json"]).await.json();
            assert_eq!(done["matched"], json!(0), "{command}: {done}");
        }
    }
    let missing = ["requeue", "--missing", "--endpoint", &failing, "--since", "1h", "--yes", "--json"];
    stack.execute("delete from posthaste.deliveries where dead_reason = 'erased'").await;
    assert_eq!(stack.cli(&missing).await.json()["created"], 0);
    let account = "select count(*) from posthaste.erasures where target = 'tenant' and value = 'acme' and events = 3
        and dead_letters = 1 and finished_at is not null and error is null";
    assert_eq!(stack.number(account).await, 1);
    assert_eq!(stack.cli(&ERASE).await.json()["erased"]["events"], 0, "again");
}

#[tokio::test]
async fn an_event_is_erased_wherever_it_is_and_the_others_stay() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let (first, second) = (emit(&stack, "acme").await, emit(&stack, "acme").await);

    let erased = stack.cli(&["erase", "--event", &first.to_string(), "--yes", "--json"]).await.json();

    assert_eq!(erased["erased"]["from_outbox"], 1);
    assert_eq!(tables_with(&stack, CANARY).await, ["outbox"], "the other one");
    let receiver = Receiver::start();
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    stack.wait_status(second, "delivered").await;
    assert_eq!(receiver.wait_for(1).await.len(), 1);
    let shown = stack.cli(&["event", "show", &first.to_string(), "--json"]).await.json();
    assert_eq!(shown["event"]["tenant"], "acme", "{shown}");
    assert!(shown["event"]["erased_at"].is_string(), "{shown}");
    let told = stack.cli(&["event", "show", &first.to_string()]).await.ok().stdout;
    assert!(told.lines().any(|line| line.starts_with("payload ") && line.contains(" erased 20")), "{told}");
    let kept = stack.cli(&["event", "list", "--json"]).await.json();
    let erased_at =
        |id: Uuid| kept.as_array().unwrap().iter().find(|e| e["id"] == json!(id)).unwrap()["erased_at"].clone();
    assert!(erased_at(first).is_string() && erased_at(second).is_null(), "{kept}");
    stack.cli(&["erase", "--event", &second.to_string(), "--yes"]).await.ok();
    assert_nowhere(&stack).await;
    assert_eq!(stack.delivery(second).await.status, "delivered");
    let resent = stack.cli(&["resend", "--event", &second.to_string(), "--yes", "--json"]).await.json();
    assert_eq!(resent["matched"], json!(0), "{resent}");
    assert_eq!(stack.delivery(second).await.status, "delivered");
}

#[tokio::test]
async fn an_endpoint_loses_its_answers_and_only_the_payloads_that_no_other_got() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/first", |_| Reply::status(200).header("x-answer", REPLY).body(REPLY));
    receiver.at("/second", |_| Reply::ok());
    let first =
        stack.endpoint("acme", &receiver.url("/first"), &["--event-types", "order.created,invoice.paid"]).await.id;
    stack.endpoint("acme", &receiver.url("/second"), &["--event-types", "order.created"]).await;
    stack.run().await;
    emit(&stack, "acme").await;
    let own = stack.emit("acme", "invoice.paid", "{\"own\": \"of-the-first-alone\"}").await;
    assert_eq!(stack.wait_settled().await["delivered"], 3);

    let erased = stack.cli(&["erase", "--endpoint", &first.to_string(), "--yes", "--json"]).await.json();

    assert_eq!((&erased["erased"]["events"], &erased["erased"]["attempts"]), (&json!(1), &json!(2)), "{erased}");
    assert_eq!((tables_with(&stack, REPLY).await.len(), tables_with(&stack, "of-the-first-alone").await.len()), (0, 0));
    assert_eq!(tables_with(&stack, CANARY).await.len(), 1, "the second one got it too");
    assert_eq!(stack.attempts_left().await, 1, "{own}");
}

impl Stack {
    /// Attempts that still have their headers.
    async fn attempts_left(&self) -> i64 {
        self.number("select count(*) from posthaste.attempts where request_headers is not null").await
    }
}
