//! A consumer that only acknowledges.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, Consumer as Deliveries};

use crate::kit::broker::connect;

const PREFETCH: u16 = 2_000;
/// Acknowledged together.
const TOGETHER: usize = 100;
const MARKER: &str = "posthaste-marker";

pub struct Consumer {
    _connection: Connection,
    seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

struct Seen {
    count: AtomicUsize,
    last: Mutex<Instant>,
}

impl Consumer {
    pub async fn start(url: &str, queue: &str) -> Result<Consumer, String> {
        let consume = async {
            let connection = connect(url).await?;
            let channel = connection.create_channel().await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            let deliveries = channel.basic_consume(queue.into(), "bench".into(), options, none).await?;
            Ok::<_, lapin::Error>((connection, deliveries))
        };
        let (connection, deliveries) = consume.await.map_err(|error| error.to_string())?;
        let seen = Arc::new(Seen { count: AtomicUsize::new(0), last: Mutex::new(Instant::now()) });
        let task = tokio::spawn(take(deliveries, seen.clone()));
        Ok(Consumer { _connection: connection, seen, task })
    }

    /// Messages that came, markers left out.
    pub fn count(&self) -> usize {
        self.seen.count.load(Ordering::Relaxed)
    }

    /// When the last one came.
    pub fn last(&self) -> Instant {
        *self.seen.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(mut deliveries: Deliveries, seen: Arc<Seen>) {
    let mut taken = 0;
    while let Some(Ok(delivery)) = deliveries.next().await {
        taken += 1;
        if taken % TOGETHER == 0 && delivery.ack(BasicAckOptions { multiple: true }).await.is_err() {
            return;
        }
        if delivery.properties.kind().as_ref().is_none_or(|kind| kind.as_str() != MARKER) {
            *seen.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            seen.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
