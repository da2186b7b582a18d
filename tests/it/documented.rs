//! Commands as `docs/operations.md` has them, by a shell.

use std::process::Command;

use crate::harness::{Receiver, Reply, Stack};

/// The first block of commands below a heading.
fn block(heading: &str) -> String {
    let page = std::fs::read_to_string("docs/operations.md").expect("the page");
    let (_, below) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let (_, code) = below.split_once("```sh\n").expect("a block");
    code.split_once("```").expect("its end").0.to_owned()
}

/// Runs them as they stand, with the settings of the stack and these variables.
async fn run(stack: &Stack, commands: &str, variables: &[(&str, &str)]) {
    let binary = stack.command(&[], &[]);
    let mut shell = Command::new("bash");
    let script = format!("set -euo pipefail\nposthaste() {{ \"$BINARY\" \"$@\"; }}\n{commands}");
    shell.arg("-c").arg(script).env("BINARY", binary.get_program());
    shell.current_dir(binary.get_current_dir().expect("a directory of its own"));
    for (name, value) in binary.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.envs(variables.iter().copied());
    let done = crate::kit::binary::finish(shell, crate::harness::PATIENCE).await.expect("it ends in time");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{commands}\n{}\n{said}", String::from_utf8_lossy(&done.stdout));
}

#[tokio::test]
async fn the_key_is_changed_as_the_page_says() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--header", "X-Key: 1"]).await;
    let keys = "select count(distinct key_id) from (select key_id from posthaste.endpoint_secrets union
                select encode(substr(headers, 1, 8), 'escape') from posthaste.endpoints) k";
    let old: String =
        sqlx::query_scalar("select key_id from posthaste.endpoint_secrets").fetch_one(&stack.db).await.unwrap();

    run(&stack, &block("## The encryption key"), &[]).await;
    run(&stack, &block("### Changing the key"), &[]).await;

    assert_eq!(stack.number(keys).await, 1, "all is sealed with one key");
    let new: String =
        sqlx::query_scalar("select key_id from posthaste.endpoint_secrets").fetch_one(&stack.db).await.unwrap();
    assert_ne!(new, old);
}

#[tokio::test]
async fn deliveries_are_sent_again_as_the_page_says() {
    let stack = Stack::with(&[("retry.schedule", r#"["1h"]"#)]).await;
    let receiver = Receiver::start();
    receiver.at("/later", |n| if n == 1 { Reply::status(503) } else { Reply::ok() });
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let later = stack.endpoint("later", &receiver.url("/later"), &[]).await.id;
    stack.run().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(event, "delivered").await;
    let waiting = stack.emit("later", "order.created", "{}").await;
    stack.wait_status(waiting, "retrying").await;
    let commands = block("### Send again, retry now, release now");

    for endpoint in [endpoint, later] {
        let (endpoint, event) = (endpoint.to_string(), event.to_string());
        run(&stack, &commands, &[("ENDPOINT", &endpoint), ("EVENT", &event)]).await;
    }

    stack.wait_status(waiting, "delivered").await;
    let runs = "select count(*) from posthaste.requeues where finished_at is not null and error is null";
    assert_eq!(stack.number(runs).await, 6, "a resend, an early retry and a requeue, twice");
}
