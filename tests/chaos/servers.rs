//! What becomes of the servers: they are killed with all that they have started, emptied, and restricted.

use std::time::Duration;

use lapin::Channel;
use tokio::process::Command;

use crate::kit::broker::{connect, delete, depth};
use crate::kit::servers::postgres::Postgres;
use crate::kit::servers::rabbitmq::RabbitMq;
use crate::kit::signal;

/// Of the relays and workers, and of this program.
const USER: &str = "guest";
const ANSWER: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(1);
/// AMQP's code for what does not exist.
const NOT_FOUND: u16 = 404;

impl Postgres {
    /// SIGKILL of the postmaster and of every process that it has started.
    pub async fn kill(&mut self) {
        if let Some(postmaster) = self.daemon.id() {
            // Stopped, it makes no new child that would outlive it and keep the next server from starting.
            signal(postmaster, libc::SIGSTOP);
            let children = children_of(postmaster).await;
            signal(postmaster, libc::SIGKILL);
            children.iter().for_each(|process| _ = signal(*process, libc::SIGKILL));
        }
        self.daemon.kill();
    }

    /// The fast shutdown: open transactions are rolled back, sessions closed.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.daemon.stop(libc::SIGINT).await
    }
}

async fn children_of(parent: u32) -> Vec<u32> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output().await;
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    pairs.filter(|(_, of)| *of == parent).map(|(process, _)| process).collect()
}

impl RabbitMq {
    /// Everything that it knew; only while it is down.
    pub fn forget_everything(&self) -> Result<(), String> {
        match std::fs::remove_dir_all(self.daemon.directory.join("data")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("the broker's data: {error}")),
            _ => Ok(()),
        }
    }

    /// Whether the user of relays and workers may declare and delete; what is published and consumed stays allowed.
    pub async fn may_declare(&self, may: bool) -> Result<(), String> {
        let what = if may { ".*" } else { "^$" };
        self.control(&["set_permissions", USER, what, ".*", ".*"]).await.map(drop)
    }

    /// With the broker's own tools, which need no permission.
    pub async fn delete_queue_by_force(&self, queue: &str) -> Result<(), String> {
        self.control(&["delete_queue", queue]).await.map(drop)
    }

    /// Whether an alarm is on.
    pub async fn is_alarmed(&self) -> Result<bool, String> {
        let calm = self.tool("rabbitmq-diagnostics", &["check_local_alarms"]).await?;
        Ok(!calm.status.success())
    }

    /// The number of connections that it has, and of channels on them.
    pub async fn connections(&self) -> Result<(usize, usize), String> {
        let listed = self.control(&["list_connections", "channels"]).await?;
        let channels: Vec<usize> = listed.lines().filter_map(|line| line.trim().parse().ok()).collect();
        Ok((channels.len(), channels.iter().sum()))
    }

    /// The number of messages that were ready in it. To delete a queue that is not there is an error.
    pub async fn delete_queue(&self, queue: &str) -> Result<u32, String> {
        self.depth(queue).await?.ok_or_else(|| format!("{queue} is not there"))?;
        answered(self.with_channel(async |channel| delete(channel, queue).await)).await
    }

    /// The number of messages that are ready in it; none if it is not there.
    pub async fn depth(&self, queue: &str) -> Result<Option<u32>, String> {
        let asking = self.with_channel(async |channel| match depth(channel, queue).await {
            Err(error) if is_not_found(&error) => Ok(None),
            depth => depth.map(Some),
        });
        answered(asking).await
    }

    async fn with_channel<T>(&self, ask: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> lapin::Result<T> {
        let connection = connect(&self.url()).await?;
        let answer = ask(&connection.create_channel().await?).await;
        // The answer stands, whatever becomes of the connection.
        let _ = tokio::time::timeout(GOODBYE, connection.close(200, "done".into())).await;
        answer
    }
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND)
}

/// A call to a broker that is in trouble may never return.
async fn answered<T>(asking: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
    let answer =
        tokio::time::timeout(ANSWER, asking).await.map_err(|_| format!("the broker: nothing within {ANSWER:?}"))?;
    answer.map_err(|error| error.to_string())
}
