//! What is asked for, and what the configuration says.

use serde::Serialize;

/// What an installation is to carry for as long as one likes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    pub events_per_second: f64,
    /// What comes in a whole day, which is what fills the disk.
    pub events_per_day: f64,
    /// Events that a producer commits together.
    pub events_per_transaction: f64,
    /// Endpoints that an event goes to, on average.
    pub deliveries_per_event: f64,
    pub endpoints: f64,
    pub payload_bytes: f64,
    /// Of all attempts.
    pub failing_share: f64,
    /// How long receivers take to answer, on average.
    pub answer_ms: f64,
    pub retention_days: f64,
    /// Of all deliveries, those to the endpoint that gets most. No number of installations divides them.
    pub largest_share: f64,
}

/// What follows from the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The base delays of the default policy.
    pub delays_s: Vec<f64>,
    pub queues: usize,
    /// That RabbitMQ 3 reserves for them.
    pub queue_handles: usize,
    /// Of one pool.
    pub max_connections: f64,
    /// Files of a worker beside those of its requests.
    pub other_files: f64,
    /// Deliveries that the release lets go in one tick at most.
    pub released_in_a_tick: u32,
}

/// The largest that somebody wants to run a server on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machine {
    pub cores: f64,
    pub disk_bytes: f64,
    /// How fast a core is, where those of the measurements are 1.
    pub core_speed: f64,
}

/// Of everything, in a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    pub events: f64,
    pub commits: f64,
    pub deliveries: f64,
    pub retries: f64,
    pub attempts: f64,
    /// That wait in delay queues at any moment.
    pub waiting: f64,
}

impl Load {
    /// The part of it that one of several installations has.
    pub fn part(&self, share: f64) -> Load {
        Load {
            events_per_second: self.events_per_second * share,
            events_per_day: self.events_per_day * share,
            endpoints: (self.endpoints * share).ceil(),
            largest_share: (self.largest_share / share).min(1.0),
            ..self.clone()
        }
    }

    /// As if each attempt failed by itself. Endpoints that fail for long cost less: their circuit opens.
    pub fn rates(&self, delays_s: &[f64]) -> Rates {
        let deliveries = self.events_per_second * self.deliveries_per_event;
        let (mut failed, mut retries, mut waiting) = (deliveries, 0.0, 0.0);
        for delay_s in delays_s {
            failed *= self.failing_share;
            retries += failed;
            waiting += failed * delay_s;
        }
        Rates {
            events: self.events_per_second,
            commits: self.events_per_second / self.events_per_transaction,
            deliveries,
            retries,
            attempts: deliveries + retries,
            waiting,
        }
    }

    /// Attempts for each delivery.
    pub fn attempts(&self, delays_s: &[f64]) -> f64 {
        let Rates { deliveries, attempts, .. } = Load { deliveries_per_event: 1.0, ..self.clone() }.rates(delays_s);
        if deliveries > 0.0 { attempts / deliveries } else { 1.0 }
    }
}
