//! `[relay]`, `[worker]` and `[delivery]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::Value;
use ipnet::IpNet;

use super::error::ConfigError;
use super::retention::Retention;
use super::secrets::{self, ServerUrl};
use super::values::{DAY, MINUTE, MS, SECOND, Values};
use crate::domain::places::Capacity;
use crate::domain::retention::Unfinished;

#[derive(Debug, Clone)]
pub struct Relay {
    pub batch_size: u32,
    pub poll_interval: Duration,
    pub wake: Wake,
    /// Held deliveries released for one endpoint, per second.
    pub release_rate: u32,
}

/// How a relay that sleeps learns of new events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    Listen,
    Poll,
}

#[derive(Debug, Clone)]
pub struct Worker {
    pub capacity: Capacity,
}

#[derive(Debug, Clone)]
pub struct Delivery {
    pub connect_timeout: Duration,
    pub timeout: Duration,
    pub allow_cidrs: Vec<IpNet>,
    /// Empty: every port but those of other protocols.
    pub allow_ports: Vec<RangeInclusive<u16>>,
    pub require_https: bool,
    pub proxy: Option<ServerUrl>,
    pub max_response_bytes: usize,
    pub max_payload_bytes: usize,
    /// The default share of one endpoint.
    pub max_in_flight: usize,
    /// A delivery that is still held when its event is this old becomes dead; zero: never.
    pub held_ttl: Duration,
}

impl Relay {
    pub(super) fn read(values: &Values) -> Result<Relay, ConfigError> {
        Ok(Relay {
            batch_size: values.integer("relay.batch_size", 1..=1000)?,
            poll_interval: values.duration("relay.poll_interval", MS..=10 * SECOND)?,
            wake: values.choice("relay.wake", &[("listen", Wake::Listen), ("poll", Wake::Poll)])?,
            release_rate: values.integer("relay.release_rate", 5..=2500)?,
        })
    }
}

impl Worker {
    pub(super) fn read(values: &Values, warnings: &mut Vec<String>) -> Result<Worker, ConfigError> {
        let requests: usize = values.integer("worker.concurrency", 1..=32_768)?;
        let messages = match values.integer("worker.prefetch", 0..=65_535)? {
            // A sixteenth on top: what waits a moment for its endpoint must not keep others out.
            0 => (requests + requests / 15).max(requests + 1),
            messages => messages,
        };
        if messages < requests {
            warnings.push(format!(
                "worker.prefetch: {messages} is below worker.concurrency, so no more than {messages} requests are ever in flight"
            ));
        }
        Ok(Worker { capacity: Capacity { requests, messages } })
    }
}

impl Delivery {
    pub(super) fn read(values: &Values, retention: &Retention) -> Result<Delivery, ConfigError> {
        Ok(Delivery {
            connect_timeout: values.duration("delivery.connect_timeout", MS..=5 * MINUTE)?,
            timeout: values.duration("delivery.timeout", MS..=10 * MINUTE)?,
            allow_cidrs: values.list("delivery.allow_cidrs", cidr)?,
            allow_ports: values.list("delivery.allow_ports", ports)?,
            require_https: values.flag("delivery.require_https")?,
            proxy: secrets::proxy_url(values)?,
            max_response_bytes: values.integer("delivery.max_response_bytes", 0..=1_048_576)?,
            max_payload_bytes: values.integer("delivery.max_payload_bytes", 1..=16_777_216)?,
            max_in_flight: values.integer("delivery.max_in_flight", 1..=4096)?,
            held_ttl: held_ttl(values, retention)?,
        })
    }
}

/// Without one of its own, what is held ends as soon as its event is older than the history is kept; where history is kept for
/// what is unfinished, never.
fn held_ttl(values: &Values, retention: &Retention) -> Result<Duration, ConfigError> {
    let key = "delivery.held_ttl";
    match (values.text(key)?, retention.unfinished) {
        ("", Unfinished::Expire) => Ok(retention.days * DAY),
        ("", Unfinished::Keep) => Ok(Duration::ZERO),
        _ => values.duration(key, Duration::ZERO..=3650 * DAY),
    }
}

fn cidr(item: &Value) -> Result<IpNet, String> {
    let text = item.as_str().unwrap_or_default();
    text.parse().map_err(|_| format!("('{text}') is not a network; write it like \"10.0.0.0/8\" or \"127.0.0.1/32\""))
}

/// A port, or the first and the last of several.
fn ports(item: &Value) -> Result<RangeInclusive<u16>, String> {
    let text = item.as_str().map(str::to_owned).or_else(|| item.to_i128().map(|port| port.to_string()));
    let text = text.unwrap_or_default();
    let (first, last) = text.split_once('-').unwrap_or((text.as_str(), text.as_str()));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("('{text}') is not a port; write it like 443, or \"8000-8999\" for several (1 to 65535)")),
    }
}
