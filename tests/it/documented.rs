//! Commands as the pages have them, by a shell.

use crate::harness::{Receiver, Reply, Stack};

/// The first block of commands below a heading.
fn block(heading: &str) -> String {
    blocks("docs/operations.md", heading).swap_remove(0)
}

/// All blocks of commands below a heading of a page, up to the next one.
pub fn blocks(page: &str, heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(page).expect("the page");
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}"));
    let below = below.split("\n#").next().unwrap_or_default();
    let blocks = below.split("```sh\n").skip(1).filter_map(|code| code.split("```").next());
    blocks.map(str::to_owned).collect()
}

/// Runs them as they stand, in a directory of their own, with these variables.
async fn run(stack: &Stack, commands: &str, variables: &[(&str, &str)]) {
    stack.shell(&stack.binary.dir, commands, variables).await.ok();
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
