//! A server dies, is restarted, comes back empty, or takes nothing more.

use std::time::Duration;

use super::{Verdict, really};
use crate::chaos::kind::Server;
use crate::chaos::stack::Stack;

/// With an alarm that stays on, no fault after it would show anything.
const TRIES_TO_CALM: u32 = 5;

pub async fn restart(stack: &Stack, server: Server, gracefully: bool, hold: Duration) -> Result<Verdict, String> {
    let started = match server {
        Server::Postgres => {
            let mut postgres = stack.postgres.lock().await;
            let stopped = if gracefully {
                postgres.stop().await
            } else {
                postgres.kill().await;
                Ok(())
            };
            // It is down for that long.
            tokio::time::sleep(hold).await;
            postgres.start().await.and(stopped)
        }
        Server::Broker => {
            let mut rabbitmq = stack.rabbitmq.lock().await;
            let stopped = if gracefully {
                rabbitmq.stop().await
            } else {
                rabbitmq.daemon.kill();
                Ok(())
            };
            // It is down for that long.
            tokio::time::sleep(hold).await;
            rabbitmq.start().await.and(stopped)
        }
    };
    started.map(|()| Verdict::default())
}

pub async fn wipe(stack: &Stack) -> Result<Verdict, String> {
    let mut rabbitmq = stack.rabbitmq.lock().await;
    rabbitmq.daemon.kill();
    rabbitmq.forget_everything()?;
    rabbitmq.start().await.map(|()| Verdict::default())
}

pub async fn alarm(stack: &Stack, hold: Duration) -> Result<Verdict, String> {
    let rabbitmq = stack.rabbitmq.lock().await;
    rabbitmq.memory_alarm(true).await?;
    // The alarm lasts for that long, or until it was seen.
    let (alarmed, ()) = tokio::join!(rabbitmq.is_alarmed(), tokio::time::sleep(hold));
    for _ in 0..TRIES_TO_CALM {
        if rabbitmq.memory_alarm(false).await.is_ok() {
            return really(alarmed?, "the broker had no alarm");
        }
    }
    Err("the alarm could not be ended".to_owned())
}
