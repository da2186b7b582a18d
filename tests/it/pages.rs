//! The commands of the pages about daily operation, run as they are written: every one of them does its work and ends well.

use std::io::{Write, stderr};
use std::path::Path;

use uuid::Uuid;

use crate::harness::{Receiver, Stack, psql};

const PAGES: [(&str, &str); 3] = [
    ("operations.md", include_str!("../../docs/operations.md")),
    ("privacy.md", include_str!("../../docs/privacy.md")),
    ("retention.md", include_str!("../../docs/retention.md")),
];
/// Whoever reads ends this one.
const WITHOUT_AN_END: &str = "posthaste stats --watch\n";
/// After it, shells that have the old key alone are refused.
const KEEPS_OTHERS_OUT: &str = "posthaste keys rotate";
/// Needs the cookie and the user of RabbitMQ's node.
const ON_THE_NODE: &str = "rabbitmqctl ";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Each block is one shell: a line may need what the one before it has set.
fn blocks(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.replace(WITHOUT_AN_END, "").trim().to_owned()).collect()
}

/// A system that runs, with an endpoint and two events.
struct Scene {
    stack: Stack,
    _receiver: Receiver,
    endpoint: Uuid,
    delivered: Uuid,
    dead: Uuid,
}

impl Scene {
    async fn start() -> Scene {
        let (stack, receiver) = (Stack::new().await, Receiver::start());
        let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
        stack.run().await;
        let delivered = stack.emit("acme", "order.created", "{}").await;
        stack.wait_status(delivered, "delivered").await;
        let dead = stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
        Scene { stack, _receiver: receiver, endpoint, delivered, dead }
    }

    /// What went wrong, if anything did. An error does not end psql everywhere.
    async fn run(&self, block: &str) -> Option<String> {
        let event = if block.contains("dead show") { self.dead } else { self.delivered };
        let (endpoint, event) = (self.endpoint.to_string(), event.to_string());
        let values = [("ENDPOINT", endpoint.as_str()), ("EVENT", &event), ("SECRET", SECRET)];
        let done = self.stack.shell(Path::new(env!("CARGO_MANIFEST_DIR")), block, &values).await;
        let failed = done.code != 0 || done.stderr.contains("ERROR:");
        failed.then(|| format!("{block}\n{}: {}{}", done.code, done.stdout, done.stderr))
    }
}

#[tokio::test]
async fn every_command_of_the_pages_about_operation_ends_well() {
    if psql().is_none() {
        // Not by the macro: what a passing test prints is not shown.
        let _ = writeln!(stderr(), "SKIPPED the commands of the pages about operation: there is no psql");
        return;
    }
    let (mut failed, mut count) = (Vec::new(), 0);
    for (name, page) in PAGES {
        let scene = Scene::start().await;
        let blocks = blocks(page);
        let (last, others): (Vec<_>, Vec<_>) = blocks.iter().partition(|block| block.contains(KEEPS_OTHERS_OUT));
        for block in others.into_iter().chain(last).filter(|block| !block.starts_with(ON_THE_NODE)) {
            count += 1;
            failed.extend(scene.run(block).await.map(|problem| format!("{name}:\n{problem}")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(count >= 17, "{count} blocks");
}

#[test]
fn what_is_left_out_is_on_a_page() {
    assert!([WITHOUT_AN_END, ON_THE_NODE].iter().all(|text| PAGES.iter().any(|(_, page)| page.contains(text))));
}
