//! Looking from outside at what the processes hold. Reads `/proc`, so it needs Linux.

use crate::chaos::growth::{Holding, Measured};
use crate::chaos::kind::Server;
use crate::chaos::run::Running;
use crate::chaos::service::Service;

/// While nothing is to be done, and no other process of ours is connected.
pub async fn measure(running: &Running, relay: &Service, worker: &Service) -> Result<Measured, String> {
    let stack = &running.stack;
    let sessions = "select count(*) from pg_stat_activity where application_name like 'posthaste%'";
    let sessions: i64 =
        sqlx::query_scalar(sessions).fetch_one(&stack.db).await.map_err(|error| format!("the sessions: {error}"))?;
    let (broker_connections, broker_channels) = stack.rabbitmq.lock().await.connections().await?;
    Ok(Measured {
        events: running.ledger.committed(),
        seconds: stack.clock.now(),
        relay: holding(relay).await?,
        worker: holding(worker).await?,
        sessions: sessions as usize,
        broker_connections,
        broker_channels,
    })
}

async fn holding(service: &Service) -> Result<Holding, String> {
    let unknown = |what: &str| format!("{}: {what}", service.name);
    let process = service.process().await.ok_or_else(|| unknown("it does not run"))?;
    let status =
        std::fs::read_to_string(format!("/proc/{process}/status")).map_err(|error| unknown(&error.to_string()))?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).ok_or_else(|| unknown(name))
    };
    let handles =
        std::fs::read_dir(format!("/proc/{process}/fd")).map_err(|error| unknown(&error.to_string()))?.count();
    let sessions = service.proxy(Server::Postgres).sessions().filter(|sessions| sessions.texts() > 0);
    let sessions = sessions.ok_or_else(|| unknown("no prepared statement was seen"))?;
    Ok(Holding {
        process,
        memory_kib: number("VmRSS")?,
        handles,
        threads: number("Threads")? as usize,
        tasks: service.tasks().await.ok_or_else(|| unknown("no posthaste_tasks"))?,
        statements: sessions.most_statements(),
        texts: sessions.texts(),
    })
}
