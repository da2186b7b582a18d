//! Whether the broker takes what a worker publishes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::broker::publisher::Publisher;
use crate::telemetry::readiness::Readiness;

const LOOK: Duration = Duration::from_secs(1);

/// Says so while an alarm blocks the connection that publishes. Deliveries that succeed go on meanwhile; retries and
/// dead letters wait. That the broker is away, the part that consumes says.
pub(super) async fn watch(publisher: Publisher, readiness: Readiness, stop: CancellationToken) {
    let watching = async {
        loop {
            match publisher.is_ready().await {
                Ok(true) => readiness.ready("alarm"),
                Ok(false) => readiness.not_ready("alarm", "the broker has a memory or disk alarm; retries wait for it"),
                Err(_) => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = stop.cancelled() => {}
    }
}
