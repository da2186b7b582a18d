//! Two installations beside each other, and a tenant that moves from one to the other as `docs/capacity.md` says.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::bytes::verifies;
use crate::documented::blocks;
use crate::harness::{PATIENCE, Receiver, Reply, Stack, eventually};

const TENANT: &str = "acme";
/// Between two events: what comes during a step of the page is what the test is about.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
const COPY: &str = include_str!("../../docs/examples/sql/tenant.sql");
/// What waits for a retry is still with the first installation when the tenant has moved.
const SETTINGS: [(&str, &str); 1] = [("retry.schedule", r#"["1s", "2s"]"#)];

/// Both installations, each with a configuration file as the page has it.
struct Both {
    from: Stack,
    to: Stack,
    files: tempfile::TempDir,
}

impl Both {
    async fn new() -> Both {
        let (from, to) = (Stack::with(&SETTINGS).await, Stack::with(&SETTINGS).await);
        assert!(from.prefix != to.prefix && from.binary.database_url != to.binary.database_url);
        let files = tempfile::tempdir().unwrap();
        for (name, stack) in [("from", &from), ("to", &to)] {
            let servers = format!(
                "[database]\nurl = \"{}\"\n[broker]\nurl = \"{}\"\nprefix = \"{}\"\n",
                stack.binary.database_url, stack.binary.amqp_url, stack.prefix
            );
            std::fs::write(files.path().join(format!("{name}.toml")), servers).unwrap();
        }
        Both { from, to, files }
    }

    /// Commands of the page as they stand.
    async fn run(&self, commands: &str) -> String {
        let binary = self.from.command(&[], &[]);
        let mut shell = Command::new("bash");
        let script = format!("set -euo pipefail\nposthaste() {{ \"$BINARY\" \"$@\"; }}\n{commands}");
        shell.arg("-c").arg(script).current_dir(self.files.path());
        for (name, _) in binary.get_envs() {
            shell.env_remove(name);
        }
        shell.env("BINARY", binary.get_program()).env("TENANT", TENANT);
        let done = crate::kit::binary::finish(shell, PATIENCE).await.expect("it ends in time");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{commands}\n{}\n{said}", String::from_utf8_lossy(&done.stdout));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// The step that needs psql.
    async fn copy(&self) {
        let print = COPY.replace(":'tenant'", &format!("'{TENANT}'"));
        let statements: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(print)).fetch_all(&self.from.db).await.expect("the statements");
        let mut transaction = self.to.db.begin().await.unwrap();
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(&mut *transaction)
                .await
                .expect("a row of the other installation");
        }
        transaction.commit().await.unwrap();
    }

    /// Events of the tenant in the history or the outbox.
    async fn ids(stack: &Stack) -> BTreeSet<Uuid> {
        let all = "select id from posthaste.events where tenant = $1 union all select id from posthaste.outbox where tenant = $1";
        sqlx::query_scalar(all).bind(TENANT).fetch_all(&stack.db).await.unwrap().into_iter().collect()
    }
}

/// Commits one event after the other, in the installation that is the tenant's at that moment.
async fn produce(both: &Both, moved: &AtomicBool, stop: &AtomicBool) -> (Vec<Uuid>, Vec<Uuid>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match moved.load(Ordering::Relaxed) {
            false => before.push(both.from.emit(TENANT, "order.created", "{}").await),
            true => after.push(both.to.emit(TENANT, "order.created", "{}").await),
        }
        // At an even pace, which is nobody's signal.
        tokio::time::sleep(PAUSE).await;
    }
    (before, after)
}

#[tokio::test]
async fn a_tenant_moves_and_nothing_is_lost_or_sent_by_both() {
    let (both, receiver) = (Both::new().await, Receiver::start());
    // Every fourth event fails once, so there are always some that wait.
    let events = AtomicUsize::new(0);
    let fails = move |nth| nth == 1 && events.fetch_add(1, Ordering::Relaxed).is_multiple_of(4);
    receiver.at("/acme", move |nth| if fails(nth) { Reply::status(503) } else { Reply::ok() });
    let more = ["--header", "X-Key: 17", "--event-types", "order.*", "--max-in-flight", "7"];
    let endpoint = both.from.endpoint(TENANT, &receiver.url("/acme"), &more).await;
    let neighbour = both.from.endpoint("neighbour", &receiver.url("/neighbour"), &[]).await;
    both.from.run().await;
    both.to.run().await;
    let key = "select posthaste.emit('acme', 'order.created', '{}', 'once')";
    let once: Uuid = sqlx::query_scalar(key).fetch_one(&both.from.db).await.unwrap();
    let [look, ends, removes] =
        blocks("docs/capacity.md", "### Moving a tenant").try_into().expect("three blocks of commands");
    let (moved, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));

    let steps = async {
        eventually("some wait", async || (both.from.statuses().await.contains_key("retrying")).then_some(())).await;
        assert!(both.run(&look).await.contains(&endpoint.id.to_string()));
        both.copy().await;
        moved.store(true, Ordering::Relaxed);
        both.copy().await;
        eventually("the other one delivers", async || both.to.statuses().await.contains_key("delivered").then_some(()))
            .await;
        both.from.wait_relayed().await;
        both.run(&ends).await;
        both.run(&removes).await;
        stop.store(true, Ordering::Relaxed);
    };
    let ((mut before, after), ()) = tokio::join!(produce(&both, &moved, &stop), steps);
    before.push(once);

    let again: Uuid = sqlx::query_scalar(key).fetch_one(&both.to.db).await.unwrap();
    assert_eq!(again, once, "the key was used before it moved");
    assert!(before.len() > 10 && after.len() > 10, "{} and {}", before.len(), after.len());
    both.to.wait_settled().await;
    let (of_from, of_to) = (Both::ids(&both.from).await, Both::ids(&both.to).await);
    assert_eq!(of_from, before.iter().copied().collect(), "what was committed there is there");
    assert_eq!(of_to, after.iter().copied().collect(), "and nowhere else");
    for stack in [&both.from, &both.to] {
        let lost = "select count(*) from posthaste.events e where tenant = 'acme' and not exists (select from
                    posthaste.deliveries d where d.event_id = e.id and d.status = 'delivered')";
        assert_eq!(stack.number(lost).await, 0);
        let doubled = "select count(*) from (select event_id from posthaste.attempts where outcome = 'delivered'
                       group by event_id having count(*) > 1) d";
        assert_eq!(stack.number(doubled).await, 0);
    }
    let requests = receiver.requests_to("/acme");
    let arrived: BTreeSet<Uuid> =
        requests.iter().map(|request| request.header("webhook-id").parse().unwrap()).collect();
    assert_eq!(arrived, of_from.union(&of_to).copied().collect(), "every event came, whoever sent it");
    assert!(requests.iter().all(|request| request.header("x-key") == "17"), "its headers moved with it");
    assert!(requests.iter().all(|request| verifies(&endpoint.secret, request)), "its secret too");
    assert_eq!(both.from.number("select count(*) from posthaste.endpoints").await, 1, "{}", neighbour.id);
    assert_eq!(both.to.number("select max_in_flight::int8 from posthaste.endpoints").await, 7);
}
