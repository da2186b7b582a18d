//! What the leading relay removes, and what a process says of itself.

use std::process::{Child, Stdio};

use crate::harness::{Receiver, Stack, eventually, terminate};

/// Ends with the test, whatever happens.
struct Unread(Child);

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_process_whose_log_nobody_reads_goes_on_and_stops_in_order() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    let mut command = stack.command(&["run"], &[("telemetry.log_level", "trace")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Unread(command.spawn().unwrap());

    // Much more is logged than a pipe holds.
    stack.emit_many("acme", "order.created", 500).await;
    receiver.wait_for(500).await;
    stack.wait_settled().await;

    terminate(process.0.id());
    let status = eventually("it ends", async || process.0.try_wait().ok().flatten()).await;
    assert_eq!(status.code(), Some(0));
}
