//! The exchanges, queues and bindings as a value, derived from the retry policies.
//!
//! All queues are durable quorum queues. A queue's arguments never change under its name: the only one that varies, the
//! delay, is part of the name, so a new schedule declares new queues and the old ones drain by themselves.

use crate::domain::backoff::DelayQueues;

/// Routing keys.
pub const DELIVER: &str = "deliver";
pub const RETRY: &str = "retry";
pub const DEAD: &str = "dead";

/// Far above anything a healthy message sees: crashes count for every message that was prefetched, innocents too.
pub const WORK_DELIVERY_LIMIT: i64 = 100;
/// What RabbitMQ 3 reserves of its limit of file handles for a quorum queue without replicas: 201 for 67 queues, says
/// `rabbitmqctl status` of 3.10.8. At the limit it takes no new connections.
const HANDLES_OF_A_QUEUE: usize = 3;
/// Practically unlimited on every version: unset means 20 on RabbitMQ 4, after which a message without a dead-letter
/// exchange is dropped, and -1 means unlimited there but "gone after one delivery" on 3.x.
pub const DEAD_DELIVERY_LIMIT: i64 = i32::MAX as i64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Text(String),
    Number(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: String,
    pub exchange: String,
    pub key: String,
    pub arguments: Vec<(&'static str, Argument)>,
}

/// The names, for publishing and consuming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub names: Names,
    /// Direct exchanges, in the order of declaration.
    pub exchanges: Vec<String>,
    /// In the order of declaration: targets before the queues that dead-letter into them.
    pub queues: Vec<Queue>,
}

impl Names {
    pub fn new(prefix: &str) -> Names {
        Names { prefix: prefix.to_owned() }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The exchange of work.
    pub fn work(&self) -> &str {
        &self.prefix
    }

    pub fn delay_exchange(&self) -> String {
        format!("{}.delay", self.prefix)
    }

    /// Both the exchange and the queue of dead letters.
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    pub fn deliver_queue(&self) -> String {
        format!("{}.deliver", self.prefix)
    }

    pub fn retry_queue(&self) -> String {
        format!("{}.retry", self.prefix)
    }

    pub fn delay_queue(&self, ms: u64) -> String {
        format!("{}.delay.{ms}", self.prefix)
    }
}

impl Topology {
    pub fn new(prefix: &str, delays: &DelayQueues) -> Topology {
        let names = Names::new(prefix);
        let mut queues = vec![
            dead_queue(&names),
            work_queue(&names, names.retry_queue(), RETRY),
            work_queue(&names, names.deliver_queue(), DELIVER),
        ];
        queues.extend(delays.iter().map(|ms| delay_queue(&names, ms)));
        let exchanges = vec![names.dead(), names.work().to_owned(), names.delay_exchange()];
        Topology { names, exchanges, queues }
    }

    /// File handles that RabbitMQ 3 reserves for all queues together.
    pub fn file_handles(&self) -> usize {
        self.queues.len() * HANDLES_OF_A_QUEUE
    }

    /// Names and times to live of the delay queues.
    pub fn delay_queues(&self) -> Vec<(String, u64)> {
        let ttl = |queue: &Queue| match queue.arguments.iter().find(|(name, _)| *name == "x-message-ttl") {
            Some((_, Argument::Number(ms))) => Some((queue.name.clone(), *ms as u64)),
            _ => None,
        };
        self.queues.iter().filter_map(ttl).collect()
    }
}

fn text(value: impl Into<String>) -> Argument {
    Argument::Text(value.into())
}

fn dead_queue(names: &Names) -> Queue {
    Queue {
        name: names.dead(),
        exchange: names.dead(),
        key: DEAD.to_owned(),
        arguments: vec![("x-queue-type", text("quorum")), ("x-delivery-limit", Argument::Number(DEAD_DELIVERY_LIMIT))],
    }
}

/// No max-length: a full target makes at-least-once dead-lettering into it stall for minutes.
fn work_queue(names: &Names, name: String, key: &str) -> Queue {
    let mut arguments = at_least_once(&names.dead(), DEAD);
    arguments.push(("x-delivery-limit", Argument::Number(WORK_DELIVERY_LIMIT)));
    Queue { name, exchange: names.work().to_owned(), key: key.to_owned(), arguments }
}

/// One time to live per queue: a time to live per message would wait behind the head of the queue.
fn delay_queue(names: &Names, ms: u64) -> Queue {
    let mut arguments = at_least_once(names.work(), RETRY);
    arguments.push(("x-message-ttl", Argument::Number(ms as i64)));
    Queue { name: names.delay_queue(ms), exchange: names.delay_exchange(), key: ms.to_string(), arguments }
}

/// Without `reject-publish` the broker accepts at-least-once and silently makes it at-most-once.
fn at_least_once(exchange: &str, key: &str) -> Vec<(&'static str, Argument)> {
    vec![
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-routing-key", text(key)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topology_follows_from_the_delays() {
        let topology = Topology::new("ph", &DelayQueues::new([1_000, 2_000]));
        let names: Vec<&str> = topology.queues.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["ph.dead", "ph.retry", "ph.deliver", "ph.delay.1000", "ph.delay.2000"]);
        assert_eq!(topology.exchanges, ["ph.dead", "ph", "ph.delay"]);
        assert_eq!(topology.delay_queues(), [("ph.delay.1000".to_owned(), 1_000), ("ph.delay.2000".to_owned(), 2_000)]);
        assert_eq!((topology.names.prefix(), topology.names.delay_queue(7).as_str()), ("ph", "ph.delay.7"));
    }

    #[test]
    fn what_dead_letters_does_so_at_least_once_and_the_dead_letter_queue_does_not_dead_letter() {
        let topology = Topology::new("ph", &DelayQueues::new([1_000]));
        for queue in &topology.queues {
            let has = |name: &str| queue.arguments.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
            assert_eq!(has("x-queue-type"), Some(text("quorum")), "{}", queue.name);
            assert_eq!(has("x-max-length"), None);
            assert_eq!(has("x-expires"), None);
            if queue.name == "ph.dead" {
                assert_eq!(has("x-dead-letter-exchange"), None);
                assert_eq!(has("x-delivery-limit"), Some(Argument::Number(2_147_483_647)));
            } else {
                assert_eq!(has("x-dead-letter-strategy"), Some(text("at-least-once")), "{}", queue.name);
                assert_eq!(has("x-overflow"), Some(text("reject-publish")), "{}", queue.name);
            }
        }
    }
}
