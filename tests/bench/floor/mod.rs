//! The least that each part could cost on this machine: the statements alone, the broker alone, the requests alone.

mod broker;
pub mod consumer;
mod http;
mod sql;

use std::path::Path;

use serde::Serialize;

use crate::bench::options::Options;
use crate::frame::Table;
use crate::isolation::report::number;
use crate::isolation::stack::Stack;

#[derive(Debug, Serialize)]
pub struct Floor {
    /// Everything that is written for an event with one delivery and one attempt, in batches.
    pub sql: Part,
    /// A message of 1 KiB published with a confirm, consumed and acknowledged, by a quorum queue.
    pub broker: Part,
    /// A POST of 1 KiB by our client over connections that are kept.
    pub http: Part,
}

/// Microseconds an event, and events a second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Part {
    /// Of the server; of HTTP, the receiver.
    pub server_us: f64,
    /// Of this program.
    pub client_us: f64,
    pub per_second: f64,
}

impl Floor {
    /// Of a relay and a worker: two clients of the broker, and one of HTTP. Claiming and settling come in batches, and cost the
    /// client little.
    pub fn own_us(&self) -> f64 {
        self.sql.client_us + self.broker.client_us + self.http.client_us
    }

    pub fn text(&self) -> String {
        let mut table = Table::new(&["floor, us an event", "server", "client", "a second"]);
        for (name, part) in [("SQL in batches", self.sql), ("broker", self.broker), ("HTTP", self.http)] {
            table.row(name, [part.server_us, part.client_us, part.per_second].map(number));
        }
        table.to_string()
    }
}

pub async fn measure(options: &Options, dir: &Path) -> Result<Floor, String> {
    let stack = Stack::servers(dir, "floor", &[]).await?;
    let events = options.deliveries();
    let floor = Floor {
        sql: sql::measure(&stack, events).await?,
        broker: broker::measure(&stack, events).await?,
        http: http::measure(&stack, events).await?,
    };
    stack.stop().await?;
    Ok(floor)
}
