//! What the broker holds and what it has done: the depth of its queues, and its own counters.

use std::time::Duration;

use lapin::options::QueuePurgeOptions;
use lapin::{Channel, Connection};
use sqlx::PgPool;

use crate::kit::binary::{get, sum};
use crate::kit::broker::{connect, depth};

const WORK_QUEUES: [&str; 2] = ["posthaste.deliver", "posthaste.retry"];
/// Connections that this observer has itself.
pub const OWN_CONNECTIONS: f64 = 1.0;
/// Its counters are this much behind at most.
pub const COUNTERS_LAG: Duration = Duration::from_secs(6);

pub struct Broker {
    _connection: Connection,
    channel: Channel,
    metrics_port: u16,
    work: Vec<String>,
    delay: Vec<String>,
}

/// Messages that are ready, so without those that workers have in hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    pub work: u64,
    pub delay: u64,
}

/// Messages that clients published, were handed, and acknowledged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Operations {
    pub published: f64,
    pub delivered: f64,
    pub acknowledged: f64,
}

impl Broker {
    /// The queues must have been declared.
    pub async fn observe(url: &str, metrics_port: u16, db: &PgPool) -> Result<Broker, String> {
        let connection = connect(url).await.map_err(|error| error.to_string())?;
        let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
        let names = "select name from posthaste.delay_queues order by 1";
        let delay: Vec<String> = sqlx::query_scalar(names).fetch_all(db).await.map_err(|error| error.to_string())?;
        if delay.is_empty() {
            return Err("no delay queues are known".to_owned());
        }
        let work = WORK_QUEUES.map(str::to_owned).to_vec();
        Ok(Broker { _connection: connection, channel, metrics_port, work, delay })
    }

    pub async fn depth(&self) -> Result<Depth, String> {
        Ok(Depth { work: self.waiting().await?, delay: self.ready(&self.delay).await? })
    }

    /// Messages that are ready in the work queues.
    pub async fn waiting(&self) -> Result<u64, String> {
        self.ready(&self.work).await
    }

    async fn ready(&self, queues: &[String]) -> Result<u64, String> {
        let mut messages = 0;
        for queue in queues {
            messages += u64::from(depth(&self.channel, queue).await.map_err(|error| error.to_string())?);
        }
        Ok(messages)
    }

    /// Throws away what waits in the delay queues.
    pub async fn purge_delayed(&self) -> Result<(), String> {
        for queue in &self.delay {
            let purged = self.channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await;
            purged.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// All that are open, its own included.
    pub async fn connections(&self) -> Result<f64, String> {
        let (_, text) = get(("127.0.0.1", self.metrics_port), "/metrics").await.map_err(|error| error.to_string())?;
        Ok(sum(&text, "rabbitmq_connections"))
    }

    pub async fn operations(&self) -> Result<Operations, String> {
        let answer = get(("127.0.0.1", self.metrics_port), "/metrics").await;
        let (_, text) = answer.map_err(|error| error.to_string())?;
        let total = |what: &str| sum(&text, &format!("rabbitmq_global_messages_{what}_total"));
        Ok(Operations {
            published: total("received"),
            delivered: total("delivered"),
            acknowledged: total("acknowledged"),
        })
    }
}

impl Operations {
    pub fn total(&self) -> f64 {
        self.published + self.delivered + self.acknowledged
    }

    fn combined(self, other: Operations, with: impl Fn(f64, f64) -> f64) -> Operations {
        Operations {
            published: with(self.published, other.published),
            delivered: with(self.delivered, other.delivered),
            acknowledged: with(self.acknowledged, other.acknowledged),
        }
    }
}

impl std::ops::Sub for Operations {
    type Output = Operations;

    fn sub(self, before: Operations) -> Operations {
        self.combined(before, |after, before| after - before)
    }
}

/// What happens in so many times the period.
impl std::ops::Mul<f64> for Operations {
    type Output = Operations;

    fn mul(self, times: f64) -> Operations {
        self.combined(self, |each, _| each * times)
    }
}
